//! Where segments and directory pages begin and end.
//!
//! Both are cut alike. What comes is in the order of prefixes, and each part
//! has to be a *prefix range*: 2^(32-d) prefixes, beginning at a multiple of
//! that. A part begins where the one before it ended; it becomes the largest
//! prefix range that begins there and is not too full:
//!
//! ```text
//! prefixes   0        1        2        3        4        5        6        7
//!            |                                   |                          |
//! entries    ..  .... ..  . .  ..............  . .   ....  .   ..  .  .  .  .
//! depth      |---2-------------|---3----|---3----|---1------------------------
//! ```
//!
//! A range that is not too full is as full as may be: twice as large, it would
//! not be one that begins there, or would be too full. Whether a range is too
//! full is known once so much was seen that it is, or once something behind it
//! was seen. That bounds what has to be kept.
//!
//! This gives the same parts as cutting everything in halves from the top until
//! each part fits, which is what splitting does while a table grows.

use std::collections::VecDeque;

use crate::format::directory::{
    DIRECTORY_SPACE, MAX_DEPTH, MAX_ROOT_DEPTH, MAX_SEGMENT_PAGES, MAX_SPREAD, SegmentRecord,
    segment_record_len,
};
use crate::format::group::{Geometry, Lengths};

/// How many prefixes there are: values of the upper half of a hash.
pub(super) const HASHES: u64 = 1 << 32;

/// A range of prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) begin: u64,
    pub(super) depth: u8,
}

impl Part {
    /// The prefix behind it.
    pub(super) fn end(self) -> u64 {
        self.begin + (HASHES >> self.depth)
    }

    /// The ranges that begin at a prefix, the largest first.
    fn beginning_at(begin: u64) -> impl Iterator<Item = Part> {
        let least = 32 - begin.trailing_zeros().min(32) as u8;
        (least..=MAX_DEPTH).map(move |depth| Part { begin, depth })
    }
}

/// An entry on its way.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) hash: u64,
    pub(super) lengths: Lengths,
}

/// Entries with the bytes of their slots.
#[derive(Clone, Copy)]
pub(super) struct Entries<'a> {
    entries: &'a [Entry],
    slots: &'a [u8],
    payload: usize,
}

impl<'a> Entries<'a> {
    pub(super) fn len(self) -> usize {
        self.entries.len()
    }

    /// The entries, each with its slot.
    pub(super) fn iter(self) -> impl Iterator<Item = (Entry, &'a [u8])> {
        self.entries.iter().copied().zip(self.slots.chunks_exact(self.payload))
    }
}

/// Entries that are not part of a segment yet: at most one more than a segment
/// holds.
pub(super) struct Segments {
    payload: usize,
    /// The most entries of a segment.
    most: usize,
    entries: Vec<Entry>,
    slots: Vec<u8>,
    /// Where the next segment begins.
    begin: u64,
}

impl Segments {
    pub(super) fn new(geometry: Geometry) -> Segments {
        let most = MAX_SEGMENT_PAGES * geometry.groups_per_page * 7;
        let (entries, slots) = (Vec::new(), Vec::new());
        Segments { payload: geometry.payload(), most, entries, slots, begin: 0 }
    }

    /// Where the next segment begins; [`HASHES`] if there is none.
    pub(super) fn begin(&self) -> u64 {
        self.begin
    }

    pub(super) fn push(&mut self, hash: u64, lengths: Lengths, slot: &[u8]) {
        debug_assert!(slot.len() == self.payload);
        debug_assert!(self.entries.last().is_none_or(|last| last.hash >> 32 <= hash >> 32));
        debug_assert!(hash >> 32 >= self.begin);
        self.entries.push(Entry { hash, lengths });
        self.slots.extend_from_slice(slot);
    }

    /// Whether enough was seen to tell what the next segment is.
    pub(super) fn is_decided(&self) -> bool {
        self.entries.len() > self.most
    }

    /// The next segment, given that it is decided or that all entries came;
    /// `None` if there are more entries of one prefix than a segment holds.
    pub(super) fn next(&self) -> Option<(Part, Entries<'_>)> {
        let below = |end| self.entries.partition_point(|entry| entry.hash >> 32 < end);
        let counted = Part::beginning_at(self.begin).map(|part| (part, below(part.end())));
        let (part, count) = counted.into_iter().find(|(_, count)| *count <= self.most)?;
        let (entries, slots) = (&self.entries[..count], &self.slots[..count * self.payload]);
        Some((part, Entries { entries, slots, payload: self.payload }))
    }

    /// A segment was written: its entries are forgotten.
    pub(super) fn go_on(&mut self, part: Part) {
        self.begin = part.end();
        let count = self.entries.partition_point(|entry| entry.hash >> 32 < self.begin);
        self.entries.drain(..count);
        self.slots.drain(..count * self.payload);
    }
}

/// Segments that are not part of a directory page yet: about as many as one
/// holds.
#[derive(Default)]
pub(super) struct Directories {
    segments: VecDeque<(u64, SegmentRecord)>,
    /// Where the next directory page begins.
    begin: u64,
    /// Where the next segment begins.
    seen: u64,
}

impl Directories {
    pub(super) fn push(&mut self, part: Part, record: SegmentRecord) {
        debug_assert!(part.begin == self.seen);
        self.segments.push_back((part.begin, record));
        self.seen = part.end();
    }

    /// The next directory page, if it can be told what it is; `Some(None)` if
    /// there are so many segments of one prefix that no page holds them.
    pub(super) fn next(&mut self) -> Option<Option<(Part, Vec<SegmentRecord>)>> {
        if self.segments.is_empty() {
            return None;
        }
        for part in Part::beginning_at(self.begin) {
            if part.depth > MAX_ROOT_DEPTH {
                break;
            }
            let count = self.segments.partition_point(|(begin, _)| *begin < part.end());
            if !self.fits(part, count) {
                continue;
            }
            if self.seen < part.end() {
                return None;
            }
            self.begin = part.end();
            let segments = self.segments.drain(..count).map(|(_, segment)| segment).collect();
            return Some(Some((part, segments)));
        }
        Some(None)
    }

    /// Whether the first `count` segments fit a directory page.
    fn fits(&self, part: Part, count: usize) -> bool {
        let segments = self.segments.iter().take(count).map(|(_, segment)| segment);
        let mut bytes = 0;
        for segment in segments {
            bytes += segment_record_len(segment.pages.len());
            if bytes > DIRECTORY_SPACE || segment.depth > part.depth + MAX_SPREAD {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::mutate::Random;

    /// Cuts by halving from the top, as splitting does.
    fn halve(prefixes: &[u64], part: Part, most: usize, parts: &mut Vec<(Part, usize)>) {
        let inside = prefixes.iter().filter(|p| (part.begin..part.end()).contains(p)).count();
        if inside <= most {
            return parts.push((part, inside));
        }
        let (begin, depth) = (part.begin, part.depth + 1);
        let low = Part { begin, depth };
        halve(prefixes, low, most, parts);
        halve(prefixes, Part { begin: low.end(), depth }, most, parts);
    }

    /// Prefixes that are spread evenly, or crowded here and there.
    fn prefixes(random: &mut Random) -> Vec<u64> {
        let shift = random.below(12);
        let mut prefixes: Vec<u64> = (0..random.below(1_500))
            .map(|_| {
                let prefix = random.below(1 << 32) as u64;
                if random.below(3) == 0 { prefix } else { prefix >> shift }
            })
            .collect();
        prefixes.sort_unstable();
        prefixes
    }

    #[test]
    fn segments_are_those_that_halving_from_the_top_gives() {
        let geometry = Geometry::new(504).unwrap();
        let mut random = Random(0x5eed);
        for _ in 0..200 {
            let prefixes = prefixes(&mut random);
            let mut segments = Segments::new(geometry);
            let mut found = Vec::new();
            let mut cut = |segments: &mut Segments| {
                let (part, entries) = segments.next().unwrap();
                found.push((part, entries.len()));
                segments.go_on(part);
            };
            for prefix in &prefixes {
                segments.push(prefix << 32, Lengths { key: 8, value: 8 }, &[0; 504]);
                assert!(segments.entries.len() <= segments.most + 1, "memory is bounded");
                while segments.is_decided() {
                    cut(&mut segments);
                }
            }
            while segments.begin() < HASHES {
                cut(&mut segments);
            }
            let mut expected = Vec::new();
            halve(&prefixes, Part { begin: 0, depth: 0 }, 112, &mut expected);
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn directory_pages_hold_what_fits_and_follow_each_other() {
        let mut random = Random(0x5eed);
        for _ in 0..50 {
            let mut prefixes = prefixes(&mut random);
            prefixes.dedup();
            let mut segments = Vec::new();
            halve(&prefixes, Part { begin: 0, depth: 0 }, 1, &mut segments);
            let mut directories = Directories::default();
            let (mut end, mut count) = (0, 0);
            for (part, inside) in segments.iter().copied() {
                let page = crate::format::directory::PageRef { block: 2, crc: 0 };
                let pages = vec![page; 1 + random.below(16)];
                let used = inside as u16;
                let record = SegmentRecord { depth: part.depth, used, tombstones: 0, pages };
                directories.push(part, record);
                while let Some(next) = directories.next() {
                    let (part, segments) = next.unwrap();
                    assert_eq!(part.begin, end);
                    assert!(directories.segments.len() < 200, "memory is bounded");
                    let bytes: usize =
                        segments.iter().map(|s| segment_record_len(s.pages.len())).sum();
                    assert!(bytes <= DIRECTORY_SPACE);
                    assert!(segments.iter().all(|s| s.depth <= part.depth + MAX_SPREAD));
                    (end, count) = (part.end(), count + segments.len());
                }
            }
            assert_eq!((end, count), (HASHES, segments.len()));
        }
    }
}
