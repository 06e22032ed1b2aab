//! Walking a table: a segment at a time, in the order of hash prefixes.
//!
//! A segment is copied out as a unit: group by group under the version words,
//! and as a whole only if these, its directory word and the reuse epoch are
//! the same afterwards. So the copy is the segment as it was at one moment,
//! between the last group copied and the first one looked at again; an entry
//! that was removed and came back elsewhere is not in it twice. What lies before
//! the place where the scan stands is left out, so growth, splits and merges
//! between two segments cannot show an entry twice or not at all.
//!
//! A scan that may be left within a segment, and gone on with later, puts the
//! entries of the copy in the order of their hashes. Its place is the hash of the
//! entry that comes next: what has a lower one was shown. (Two entries that agree
//! in all 64 bits have one place; left between them, both are still to come.)
//!
//! While the groups of one page are copied, those of the next are asked for: the
//! pages of a segment lie anywhere, so the processor cannot guess where it goes on.
//!
//! After some failures the caller takes the writer lock and tries again, which
//! then cannot fail for that reason.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::error::Result;
use crate::format::directory::MAX_DEPTH;
use crate::format::group::{self, Address, Lengths};
use crate::hash::Hasher;
use crate::storage::map::prefetch;

use super::Table;
use super::layout::{Descriptor, DirectoryWord, PageWord, prefix_index};
use super::read::forked;
use super::segment::{hash_of, lengths};

/// Tries before a scan asks for the writer lock.
const TRIES: usize = 16;

/// The words of a cache line.
const LINE: usize = 8;

/// The entries of a segment, copied out.
#[derive(Default)]
pub(crate) struct SegmentCopy {
    entries: Vec<(usize, Lengths)>,
    words: Vec<u64>,
    /// The page word and the version under which each group was copied.
    groups: Vec<(PageWord, u32)>,
    /// The hashes of the entries, sorted, and which entry each is of; empty
    /// unless this order was asked for.
    order: Vec<(u64, usize)>,
}

/// Which entries of a segment are copied out.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    /// Those of the segment of this hash, and none that are lower.
    pub(crate) from: u64,
    /// None of this hash or higher.
    pub(crate) until: Option<u64>,
    /// In the order of their hashes.
    pub(crate) ordered: bool,
}

/// What decides whether a slot is copied out, where not all of them are.
struct Sieve<'a> {
    hasher: &'a Hasher,
    part: Part,
}

/// An entry of a segment that was copied out.
#[derive(Clone, Copy)]
pub(crate) struct ScannedSlot<'a> {
    pub(crate) lengths: Lengths,
    /// The words of the slot, and all that follow it in the copy.
    words: &'a [u64],
}

impl<'a> ScannedSlot<'a> {
    /// The key, if it stands in the slot.
    pub(crate) fn key(self) -> Option<&'a [u8]> {
        let bytes: &[u8] = bytemuck::cast_slice(self.words);
        (!self.lengths.key_spilled()).then(|| &bytes[..self.lengths.key_len()])
    }

    /// Key and value, if both stand in the slot: where they begin, with all
    /// that follows, and their lengths.
    #[inline]
    pub(crate) fn inline(self) -> Option<[(&'a [u8], usize); 2]> {
        if self.lengths.spilled() {
            return None;
        }
        let bytes: &[u8] = bytemuck::cast_slice(self.words);
        let (key, value) = (self.lengths.key_len(), self.lengths.value_len());
        Some([(bytes, key), (&bytes[key..], value)])
    }

    /// The value, if it stands in the slot.
    pub(crate) fn value(self) -> Option<&'a [u8]> {
        let bytes: &[u8] = bytemuck::cast_slice(self.words);
        let start = self.lengths.value_start();
        (!self.lengths.value_spilled()).then(|| &bytes[start..start + self.lengths.value_len()])
    }

    /// Where the spilled part lies.
    pub(crate) fn address(self) -> Address {
        let start = self.lengths.address_word();
        Address::from_words(std::array::from_fn(|i| u64::from_le(self.words[start + i])))
    }
}

impl SegmentCopy {
    /// How many entries.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Entry `i`.
    #[inline]
    pub(crate) fn get(&self, i: usize) -> Option<ScannedSlot<'_>> {
        let i = if self.order.is_empty() { i } else { self.order.get(i)?.1 };
        let (start, lengths) = *self.entries.get(i)?;
        Some(ScannedSlot { lengths, words: &self.words[start..] })
    }

    /// The hash of entry `i`, if they are in the order of their hashes.
    pub(crate) fn hash(&self, i: usize) -> Option<u64> {
        self.order.get(i).map(|(hash, _)| *hash)
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.words.clear();
        self.groups.clear();
        self.order.clear();
    }
}

/// How far a scan came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scanned {
    /// The copy is whole. The next segment begins at this hash, if there is one.
    Whole(Option<u64>),
    /// Writers were too fast: try again under the writer lock.
    Busy,
    /// The table was cleared since the scan began.
    Cleared,
}

impl Table {
    /// How often the table was cleared, as readers see it.
    pub(crate) fn clears(&self) -> u64 {
        loop {
            let seen = self.epoch.read();
            let clears = self.arena.owned(self.root().0, 1)[1].load(Ordering::Relaxed);
            if self.epoch.unchanged(seen) {
                return clears;
            }
        }
    }

    /// The first hash behind the segment of a hash, or behind its directory
    /// page if that cannot be read; `None` at the end.
    pub(crate) fn next_segment_after(&self, hash: u64) -> Option<u64> {
        loop {
            let seen = self.epoch.read();
            if seen == 0 {
                // Closed, or forked: there is nothing to go on with.
                return None;
            }
            let depth = match self.try_route(hash) {
                Ok(Some(word)) => word.depth,
                Ok(None) => continue,
                Err(_) => self.root().1,
            };
            if self.epoch.unchanged(seen) {
                return next_segment(hash, depth);
            }
        }
    }

    /// How often the table was cleared, and what its hash key makes of a
    /// constant: with another key it is something else.
    pub(crate) fn identity(&self) -> (u64, u64) {
        loop {
            let seen = self.epoch.read();
            let (clears, mark) = (self.clears(), self.hasher().self_test());
            if self.clears() == clears && self.epoch.unchanged(seen) {
                return (clears, mark);
            }
        }
    }

    /// Copies out the entries of the segment of `from` whose hashes are not
    /// below it.
    pub(crate) fn scan_segment(
        &self,
        from: u64,
        clears: u64,
        out: &mut SegmentCopy,
    ) -> Result<Scanned> {
        self.scan_part(Part { from, until: None, ordered: false }, clears, out)
    }

    /// Copies out a part of the segment that it begins in.
    pub(crate) fn scan_part(
        &self,
        part: Part,
        clears: u64,
        out: &mut SegmentCopy,
    ) -> Result<Scanned> {
        let from = part.from;
        for _ in 0..TRIES {
            let seen = self.epoch.read();
            if seen == 0 {
                return Err(forked());
            }
            let hasher = self.hasher();
            let routed = self.try_route(from)?;
            if self.clears() != clears {
                return Ok(Scanned::Cleared);
            }
            // A reader who comes late may have met anything in the place of the word.
            let Some(word) = routed.filter(|word| word.depth <= MAX_DEPTH) else { continue };
            let Some(descriptor) = self.any_descriptor(word.descriptor) else {
                continue;
            };
            out.clear();
            let start = from & !(u64::MAX >> word.depth);
            let next = next_segment(from, word.depth);
            // Of most segments everything is copied, and no hash needed.
            let ends_here = part.until.is_some_and(|until| next.is_none_or(|next| until < next));
            let sieve = Sieve { hasher: &hasher, part };
            let sieve = (start < from || ends_here || part.ordered).then_some(&sieve);
            let copied = self.copy_segment(descriptor, word, sieve, out);
            let same = self.epoch.unchanged(seen)
                && self.try_route(from)? == Some(word)
                && self.clears() == clears;
            match copied {
                Ok(true) if same => {
                    out.order.sort_unstable();
                    let next = next.filter(|next| part.until.is_none_or(|until| *next < until));
                    return Ok(Scanned::Whole(next));
                }
                Err(error) if same => return Err(error),
                _ => std::thread::yield_now(),
            }
        }
        Ok(Scanned::Busy)
    }

    fn copy_segment(
        &self,
        descriptor: Descriptor<'_>,
        word: DirectoryWord,
        sieve: Option<&Sieve<'_>>,
        out: &mut SegmentCopy,
    ) -> Result<bool> {
        let (groups, each) = (usize::from(word.groups), self.geometry.groups_per_page);
        if groups > self.geometry.groups_per_segment {
            return Ok(false);
        }
        let mut word = descriptor.page(0);
        for (page, first) in (0..groups).step_by(each).enumerate() {
            if word.is_unverified() {
                self.verify_page(descriptor, page, word)?;
                word = descriptor.page(page);
            }
            let Some(words) = self.page_words(word) else {
                return Ok(false);
            };
            let next = if first + each < groups { descriptor.page(page + 1) } else { word };
            let ahead = if next.is_unverified() { None } else { self.page_words(next) };
            for group in 0..each.min(groups - first) {
                if let Some(ahead) = ahead {
                    self.group(ahead, group).iter().step_by(LINE).for_each(prefetch);
                }
                let Some(version) = self.copy_group(self.group(words, group), sieve, out) else {
                    return Ok(false);
                };
                out.groups.push((word.verified(), version));
            }
            word = next;
        }
        Ok(self.is_unchanged(descriptor, &out.groups))
    }

    /// Whether all groups of a segment are still what was copied.
    fn is_unchanged(&self, descriptor: Descriptor<'_>, groups: &[(PageWord, u32)]) -> bool {
        groups.iter().enumerate().all(|(number, (seen, version))| {
            let (page, group) = self.geometry.page_of(number);
            let word = descriptor.page(page);
            word.verified() == *seen
                && self.page_words(word).is_some_and(|words| {
                    let group = self.group(words, group);
                    group[group::VERSION_AND_CRC].load(Ordering::Relaxed) as u32 == *version
                })
        })
    }

    /// Copies the entries of a group, as they were at one moment; the version
    /// that the group had then.
    fn copy_group(
        &self,
        group: &[AtomicU64],
        sieve: Option<&Sieve<'_>>,
        out: &mut SegmentCopy,
    ) -> Option<u32> {
        let (entries, words) = (out.entries.len(), out.words.len());
        for _ in 0..64 {
            let version = group[group::VERSION_AND_CRC].load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            let control = group[group::CONTROL].load(Ordering::Relaxed);
            for slot in group::match_full(control) {
                let lengths = lengths(group, slot);
                if !lengths.fit(&self.geometry) {
                    continue;
                }
                let slot = self.slot(group, slot);
                if let Some(Sieve { hasher, part }) = sieve {
                    let hash = hash_of(hasher, slot, lengths);
                    if hash < part.from || part.until.is_some_and(|until| hash >= until) {
                        continue;
                    }
                    if part.ordered {
                        out.order.push((hash, out.entries.len()));
                    }
                }
                out.entries.push((out.words.len(), lengths));
                out.words.extend(slot.iter().map(|w| w.load(Ordering::Relaxed).to_le()));
            }
            fence(Ordering::Acquire);
            let after = group[group::VERSION_AND_CRC].load(Ordering::Relaxed);
            if version & 1 == 0 && version == after {
                return Some(version as u32);
            }
            out.entries.truncate(entries);
            out.order.truncate(entries);
            out.words.truncate(words);
            std::hint::spin_loop();
        }
        None
    }
}

/// The first hash behind the segment of this depth that a hash belongs to.
pub(crate) fn next_segment(hash: u64, depth: u8) -> Option<u64> {
    if depth == 0 {
        return None;
    }
    let index = prefix_index(hash, 0, depth) as u64 + 1;
    (index < 1 << depth).then(|| index << (64 - depth))
}

#[cfg(test)]
mod tests {
    use super::next_segment;

    #[test]
    fn segments_follow_each_other_to_the_end_of_the_hashes() {
        assert_eq!(next_segment(0, 0), None);
        assert_eq!(next_segment(0, 1), Some(1 << 63));
        assert_eq!(next_segment(u64::MAX, 1), None);
        assert_eq!(next_segment(0x1234_5678_0000_0000, 8), Some(0x13 << 56));
        assert_eq!(next_segment(u64::MAX, 32), None);
    }
}
