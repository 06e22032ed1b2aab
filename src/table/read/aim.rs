//! The first look of a writer: it asks for what it is going to wait for.
//!
//! A writer waits for the control line of its key, and then for the slot. What
//! it does before it gets there (the writer lock, room in the log, the record
//! with its checksum) takes about as long. So it aims first: hashes the key,
//! asks for the control line, and does all that while the line is on its way.
//! The mirror says which slot that is going to be. But its word has to come
//! from memory itself, some 40 ns: so the home slot is asked for before, where
//! the entry stands more often than not. A batch does not guess: its words of
//! the mirror were asked for, and lines that are not needed keep others waiting.
//!
//! Nothing that is seen here is believed but the hash, and that only if the
//! hash key is still the same when the lock is held: the number of clears says
//! so, of which the epoch says that it was not read from reused memory.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::format::group;
use crate::storage::map::prefetch;

use super::super::arena::LINE_WORDS;
use super::super::layout::{DirectoryWord, PageWord, page_word};
use super::super::{Table, Writer};
use super::{line_of, slot_of};

/// A hash, and the hash key that it was made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aim {
    hash: u64,
    /// The number of clears, or `u64::MAX` if it is not known.
    clears: u64,
    /// Whether the page where the search begins is in no frame.
    is_cold: bool,
}

impl Aim {
    /// The hash, as far as it was not read from reused memory.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Whether a writer has to fetch the page where the search begins.
    #[inline(always)]
    pub(crate) fn is_cold(&self) -> bool {
        self.is_cold
    }
}

impl Table {
    /// Hashes a key and asks for the control line where its search begins.
    #[inline]
    pub(crate) fn aim(&self, key: &[u8]) -> Aim {
        let seen = self.epoch.read();
        let line = self.root.load(Ordering::Acquire) as u32;
        let hasher = self.root_head(line).1;
        let clears = line_of(&self.arena, line)[1].load(Ordering::Relaxed);
        let hash = hasher.hash(key);
        let mut is_cold = true;
        let word = self.flat_word(hash).load(Ordering::Acquire);
        if word != 0 {
            let segment = DirectoryWord::decode(word);
            if let Some(cold) = self.arena.cold(segment.descriptor) {
                prefetch(&cold[8]);
            }
            self.ask_for_place(segment, hash);
            is_cold = !self.home_word(segment, hash).is_frame();
        }
        Aim { hash, is_cold, clears: if self.epoch.unchanged(seen) { clears } else { u64::MAX } }
    }
}

impl Table {
    /// The page word where the search for a hash begins.
    #[inline(always)]
    fn home_word(&self, segment: DirectoryWord, hash: u64) -> PageWord {
        let (page, _) = self.geometry.page_of(group::home(hash, segment.groups.into()));
        page_word(line_of(&self.arena, segment.descriptor), page)
    }

    /// Asks for the control line where the search for a hash begins, and for the
    /// slot where the entry stands, or will, as far as the mirror says. That takes
    /// until its word is there: the home slot is asked for before.
    #[inline(always)]
    pub(super) fn ask_for_place(&self, segment: DirectoryWord, hash: u64) {
        let home = group::home(hash, segment.groups.into());
        if let Ok(group) = self.group_at(segment, home) {
            prefetch(&group[0]);
            let likely = slot_of(&self.geometry, group, group::home_slot(hash));
            prefetch(&likely[0]);
            prefetch(&likely[likely.len() - 1]);
            let control = self.mirror.control(segment.descriptor, home);
            let matching = group::match_h2(control, group::h2(hash)).first();
            let empty = || group::match_empty(control).nearest(group::home_slot(hash));
            if let Some(slot) = matching.or_else(empty) {
                let slot = slot_of(&self.geometry, group, slot);
                ask_for_slot(slot);
            }
        }
    }
}

/// Asks for all lines of a slot.
#[inline(always)]
pub(super) fn ask_for_slot(slot: &[AtomicU64]) {
    prefetch(&slot[0]);
    if slot.len() > LINE_WORDS + 1 {
        slot.iter().step_by(LINE_WORDS).skip(1).for_each(prefetch);
    }
    prefetch(&slot[slot.len() - 1]);
}

impl Writer {
    /// The hash of the key that was aimed at, for as long as the writer lock
    /// is held.
    #[inline(always)]
    pub(crate) fn hash_of_aim(&self, aim: Aim, key: &[u8]) -> u64 {
        match aim.clears == u64::from(self.clears) {
            true => aim.hash,
            false => self.hash(key),
        }
    }
}
