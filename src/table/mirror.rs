//! The control words once more, close together.
//!
//! A control word stands at the head of its group, half a kilobyte from the
//! next one, so nearly every look at one waits for memory. The *mirror* has a
//! copy of each, a word a group, in memory only: those of a segment in one run,
//! some 1.4 bytes for an entry. That is little enough to stay in the caches of
//! a processor where the groups do not. So a reader who looks here first knows
//! at once that a key is absent, or in which slot it may stand, and waits for
//! its control line and its slot at the same time; and a writer knows which slot
//! it is going to fill.
//!
//! ```text
//! word  line * stride + group     the inverse of the control word of that group of
//!                                 the segment whose descriptor is that line; or 0
//! ```
//!
//! (No control word is the inverse of 0, so 0 says that there is no copy. What
//! was never stored is 0, too.)
//!
//! # Invariants
//!
//! 1. A group whose page word is not *unverified* has its copy, if its line is
//!    one of those that there is room for. So a copy is stored before a page
//!    word is that says that a page was checked, and before a directory word that
//!    names a new segment.
//! 2. A copy is changed with its control word, under the version of the group.
//! 3. A line that becomes a descriptor has no copies.
//!
//! # Why a reader may believe it
//!
//! One word is loaded at once, so it says what was in the group at one moment. It
//! belongs to the segment that the reader was sent to if the epoch is unchanged
//! afterwards, as everything does that it followed. And copy and control word do
//! not contradict each other in time. Who has seen an entry in its group has
//! seen an even version, which was stored (`Release`) after the copy, so
//! nobody who looks later misses it there. Who has not found an entry in the
//! copy that was removed a moment ago looks at the epoch behind an acquire fence,
//! and so has seen the odd version as well: nobody who looks later finds it.
//!
//! The writer stores copies; a reader does so when it has checked a page, with
//! the structure lock held, only where there is none, and only if the epoch says
//! that the descriptor is still what it was. So what a writer has changed since is
//! never overwritten.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::format::group::{self, Probe};
use crate::storage::Map;
use crate::storage::map::prefetch;

use super::Table;
use super::layout::DirectoryWord;

/// Bytes of addresses for the mirror of a table: enough for thousands of
/// millions of entries.
const RESERVED: usize = if cfg!(miri) { 1 << 16 } else { 16 << 30 };
/// The same at least.
const RESERVED_LEAST: usize = 1 << 16;
/// From here on huge pages are asked for: small tables need none.
const HUGE_FROM: usize = 2 << 20;

/// The control word of a group that has no copy: no match, no empty slot.
pub(crate) const UNKNOWN: u64 = u64::MAX;

/// The copies of a table's control words.
pub(crate) struct Mirror {
    words: Map,
    /// Words for a line.
    stride: usize,
}

impl Mirror {
    /// A mirror for segments of so many groups at most, still without copies. Those of
    /// the first `lines` lines have room in any case, as far as there may be any.
    ///
    /// # Errors
    ///
    /// What the operating system says to the wish for addresses.
    pub(crate) fn new(groups_per_segment: usize, lines: usize) -> io::Result<Mirror> {
        let least = lines.saturating_mul(8 * groups_per_segment).min(RESERVED);
        let words = Map::reserved(RESERVED, least.next_power_of_two().max(RESERVED_LEAST))?;
        let bytes = words.words().len() * 8;
        words.want_huge_pages(HUGE_FROM, bytes.saturating_sub(HUGE_FROM));
        Ok(Mirror { words, stride: groups_per_segment })
    }

    /// A mirror that has no room for any copy: of a table that stands still, where
    /// nobody looks for one.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub(crate) fn without_room() -> io::Result<Mirror> {
        Ok(Mirror { words: Map::anonymous(0)?, stride: 0 })
    }

    /// The bytes of addresses that are reserved.
    #[cfg(test)]
    pub(super) fn reserved(&self) -> usize {
        self.words.len()
    }

    /// The place of a copy, if there is room for it. To late readers some other
    /// one, which the epoch tells them.
    #[inline(always)]
    fn word(&self, line: u32, group: usize) -> Option<&AtomicU64> {
        self.words.words().get(line as usize * self.stride + group)
    }

    /// Whether there is room for the copy of a group.
    pub(crate) fn has_room_for(&self, line: u32, group: usize) -> bool {
        self.word(line, group).is_some()
    }

    /// The control word of a group, or [`UNKNOWN`].
    #[inline(always)]
    pub(crate) fn control(&self, line: u32, group: usize) -> u64 {
        self.word(line, group).map_or(UNKNOWN, |word| !word.load(Ordering::Relaxed))
    }

    /// Asks memory for a copy.
    #[inline(always)]
    pub(crate) fn ask(&self, line: u32, group: usize) {
        if let Some(word) = self.word(line, group) {
            prefetch(word);
        }
    }

    /// Stores the copy of a control word. Under the version of the group, or
    /// where nobody looks yet.
    #[inline(always)]
    pub(crate) fn set(&self, line: u32, group: usize, control: u64) {
        if let Some(word) = self.word(line, group) {
            word.store(!control, Ordering::Relaxed);
        }
    }

    /// Stores a copy where there is none. With the structure lock held.
    pub(crate) fn set_unknown(&self, line: u32, group: usize, control: u64) {
        if let Some(word) = self.word(line, group) {
            let _ = word.compare_exchange(0, !control, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Forgets the copies of a line that becomes a descriptor. With the structure
    /// lock held. Memory that was never used stays so.
    pub(crate) fn forget(&self, line: u32) {
        for word in (0..self.stride).filter_map(|group| self.word(line, group)) {
            if word.load(Ordering::Relaxed) != 0 {
                word.store(0, Ordering::Relaxed);
            }
        }
    }
}

/// Where a search leads that goes by the mirror. Small enough for a register.
pub(crate) enum Sought {
    /// To this group and this slot of it, if to any: seven bits of the hash agree.
    At(u16, u8),
    /// The key is absent.
    Absent,
    /// To a group that has no copy.
    Unknown(u16),
}

impl Table {
    /// Searches the segment of a directory word by the mirror. To be believed only
    /// if the epoch is unchanged afterwards.
    #[inline(always)]
    pub(in crate::table) fn seek(&self, word: u64, hash: u64) -> Sought {
        let segment = DirectoryWord::decode(word);
        let home = group::home(hash, segment.groups.into());
        let control = self.mirror.control(segment.descriptor, home);
        match group::match_h2(control, group::h2(hash)).first() {
            Some(slot) => Sought::At(home as u16, slot as u8),
            None if group::match_empty(control).any() => Sought::Absent,
            None => self.seek_further(word, hash),
        }
    }

    /// The same with a first group that is full, or has no copy.
    #[inline(never)]
    fn seek_further(&self, word: u64, hash: u64) -> Sought {
        let segment = DirectoryWord::decode(word);
        for number in Probe::new(hash, segment.groups.into()) {
            let control = self.mirror.control(segment.descriptor, number);
            if control == UNKNOWN {
                return Sought::Unknown(number as u16);
            }
            if let Some(slot) = group::match_h2(control, group::h2(hash)).first() {
                return Sought::At(number as u16, slot as u8);
            }
            if group::match_empty(control).any() {
                return Sought::Absent;
            }
        }
        // A segment has an empty slot, but a late reader may see none.
        Sought::Unknown(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::group::ALL_EMPTY;

    #[test]
    fn what_has_no_copy_neither_matches_nor_ends_a_search() {
        let mirror = Mirror::new(9, 0).unwrap();
        assert_eq!(mirror.control(3, 8), UNKNOWN);
        assert!(!group::match_empty(UNKNOWN).any());
        assert!((0..128).all(|h2| !group::match_h2(UNKNOWN, h2).any()));
        assert_eq!(mirror.control(u32::MAX, 8), UNKNOWN);
        mirror.set(u32::MAX, 8, ALL_EMPTY);
    }

    #[test]
    fn copies_are_kept_by_line_and_group_until_the_line_is_used_again() {
        let mirror = Mirror::new(9, 0).unwrap();
        mirror.set(3, 8, ALL_EMPTY);
        mirror.set(4, 0, 0);
        assert_eq!((mirror.control(3, 8), mirror.control(4, 0)), (ALL_EMPTY, 0));
        mirror.forget(3);
        assert_eq!((mirror.control(3, 8), mirror.control(4, 0)), (UNKNOWN, 0));
    }

    #[test]
    fn a_copy_that_is_there_is_not_replaced_by_a_reader() {
        let mirror = Mirror::new(9, 0).unwrap();
        mirror.set_unknown(1, 1, ALL_EMPTY);
        mirror.set(1, 1, 7);
        mirror.set_unknown(1, 1, ALL_EMPTY);
        assert_eq!(mirror.control(1, 1), 7);
    }
}
