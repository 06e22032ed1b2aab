//! The lock-free lookup.
//!
//! ```text
//! epoch ─> root ─> root word ─> directory word ─> page word ─> version
//!    ─> control word, fp, lengths, key ─> copy the slot out
//!    ─> fence ─> version again ─> epoch again
//! ```
//!
//! Structures are replaced, never edited under readers, with two exceptions:
//! page words and directory words (one store each), and the slots of a dirty
//! group, guarded by the version word in its control line. So:
//!
//! 1. A reader that finds the version unchanged (and even) has copied a slot
//!    as it was at one moment.
//! 2. A reader that finds the epoch unchanged has followed only memory that
//!    was not reused since it began. A retired structure it may have followed
//!    is the table as it was when that structure was replaced, which is after
//!    the reader began: its answer was true during the read.
//! 3. On any difference it starts over. Nothing it reads from reused memory
//!    can hurt: numbers are bounded before use, lengths are checked against
//!    the slot, and no damage is reported before the epoch has validated the
//!    read.
//!
//! Bytes that do not stand in the slot are asked of [`Spilled`], which the
//! caller gives only under a pin taken before the attempt began: an address
//! that is validated then names a log file that is not recycled before the
//! pin is dropped.
//!
//! Through read-only mappings only relaxed loads are allowed; the fences that
//! order them are explicit.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::error::{Error, Result};
use crate::format::group::{self, Address, Lengths, MAX_SLOT_WORDS, Probe};
use crate::hash::Hasher;

use super::layout::{
    DESCRIPTOR_LINES, DirectoryWord, ROOT_HEAD, RootWord, page_word, prefix_index,
};
use super::segment::{address, key_is, lengths};
use super::{Spilled, Table};

/// How often a reader starts over before it lets the writer run.
const SPINS: u32 = 64;

/// A slot, copied out whole.
pub(crate) struct Slot<const N: usize> {
    pub(crate) lengths: Lengths,
    words: [u64; N],
}

impl<const N: usize> Slot<N> {
    /// The value, if it stands in the slot.
    #[inline]
    pub(crate) fn value(&self) -> Option<&[u8]> {
        let start = self.lengths.value_start();
        let bytes: &[u8] = bytemuck::cast_slice(&self.words);
        match self.lengths.value_spilled() {
            true => None,
            false => bytes.get(start..start + self.lengths.value_len()),
        }
    }

    /// Where the spilled part lies.
    pub(crate) fn address(&self) -> Address {
        let start = self.lengths.address_word();
        Address::from_words(std::array::from_fn(|i| self.words[start + i]))
    }
}

/// What one attempt came to.
pub(crate) enum Attempt<const N: usize> {
    Absent,
    Found(Slot<N>),
    /// A spilled key or value stands in the way: try again under a pin.
    Spilled,
}

/// Why an attempt came to nothing.
enum Stop {
    /// Something changed: start over.
    Changed,
    /// A directory page must be loaded first.
    Unloaded(u64),
    /// A page must be checked first: its descriptor, its number.
    Unverified(u32, usize),
    /// Damage, to be reported if the epoch has not changed.
    Damaged(Error),
}

type Try<T> = std::result::Result<T, Stop>;

impl Table {
    /// Looks a key up. Without `log` a spilled key or value ends the attempt.
    #[inline]
    pub(crate) fn lookup<const N: usize, L: Spilled>(
        &self,
        key: &[u8],
        log: Option<&L>,
    ) -> Result<Attempt<N>> {
        let mut tries = 0u32;
        loop {
            let seen = self.epoch.read();
            if seen == 0 {
                return Err(forked());
            }
            match self.attempt(key, log, seen) {
                Ok(attempt) => return Ok(attempt),
                Err(stop) => self.recover(stop, seen)?,
            }
            tries += 1;
            if tries.is_multiple_of(SPINS) {
                std::thread::yield_now();
            }
        }
    }

    /// Does what an attempt that stopped was missing.
    #[cold]
    fn recover(&self, stop: Stop, seen: u64) -> Result<()> {
        match stop {
            Stop::Changed => std::hint::spin_loop(),
            Stop::Unloaded(hash) => self.load_directory(hash)?,
            Stop::Unverified(line, page) => {
                let Some(descriptor) = self.any_descriptor(line) else { return Ok(()) };
                let word = descriptor.page(page);
                if word.is_unverified()
                    && let Err(error) = self.verify_page(descriptor, page, word)
                    && self.epoch.unchanged(seen)
                    && descriptor.page(page) == word
                {
                    return Err(error);
                }
            }
            Stop::Damaged(error) if self.epoch.unchanged(seen) => return Err(error),
            Stop::Damaged(_) => {}
        }
        Ok(())
    }

    /// The segment of a key, and the key's hash.
    #[inline]
    fn find_segment(&self, key: &[u8]) -> Try<(u64, DirectoryWord)> {
        let line = self.root.load(Ordering::Acquire) as u32;
        let head = self.arena.words(line, ROOT_HEAD).ok_or(Stop::Changed)?;
        let first = head[0].load(Ordering::Relaxed);
        let hasher = Hasher::from_words(first >> 8 & 0xff, |i| {
            // The first two stand in the line that is loaded anyway.
            head[if i < 2 { 2 + i } else { 8 + i }].load(Ordering::Relaxed)
        });
        let hash = hasher.hash(key);
        Ok((hash, self.descend(line, first as u8, hash)?))
    }

    /// The segment of a hash below the root at `line`.
    #[inline]
    fn descend(&self, line: u32, depth: u8, hash: u64) -> Try<DirectoryWord> {
        let index = prefix_index(hash, 0, depth);
        let word = self.load_word(line.wrapping_add(ROOT_HEAD as u32), index)?;
        let root = RootWord::decode(word).ok_or(Stop::Unloaded(hash))?;
        let index = prefix_index(hash, root.depth, root.bits);
        let word = self.load_word(root.array.wrapping_add(1), index)?;
        Ok(DirectoryWord::decode(word))
    }

    /// The segment of a hash, for readers who walk the table: to be believed
    /// only if the epoch is unchanged afterwards. `None` says to try again.
    pub(super) fn try_route(&self, hash: u64) -> Result<Option<DirectoryWord>> {
        let line = self.root.load(Ordering::Acquire) as u32;
        let Some(head) = self.arena.words(line, 1) else { return Ok(None) };
        match self.descend(line, head[0].load(Ordering::Relaxed) as u8, hash) {
            Ok(word) => Ok(Some(word)),
            Err(Stop::Unloaded(hash)) => self.load_directory(hash).map(|()| None),
            Err(_) => Ok(None),
        }
    }

    /// Word `index` of a run of lines.
    #[inline]
    fn load_word(&self, line: u32, index: usize) -> Try<u64> {
        let line = line.wrapping_add((index / 8) as u32);
        let words = self.arena.words(line, 1).ok_or(Stop::Changed)?;
        Ok(words[index % 8].load(Ordering::Acquire))
    }

    #[inline]
    fn attempt<const N: usize, L: Spilled>(
        &self,
        key: &[u8],
        log: Option<&L>,
        seen: u64,
    ) -> Try<Attempt<N>> {
        let (hash, segment) = self.find_segment(key)?;
        let descriptor =
            self.arena.words(segment.descriptor, DESCRIPTOR_LINES).ok_or(Stop::Changed)?;
        for number in Probe::new(hash, segment.groups.into()) {
            let (page, group) = self.geometry.page_of(number);
            if page >= 16 {
                return Err(Stop::Changed);
            }
            let word = page_word(descriptor, page);
            if word.is_unverified() {
                return Err(Stop::Unverified(segment.descriptor, page));
            }
            let words = self.page_words(word).ok_or(Stop::Changed)?;
            let group = self.group(words, group);
            if let Some(attempt) = self.search_group(group, hash, key, log, seen)? {
                return Ok(attempt);
            }
        }
        // A directory word from reused memory may name no group at all.
        if self.epoch.unchanged(seen) { Ok(Attempt::Absent) } else { Err(Stop::Changed) }
    }

    /// Looks for a key in one group; `None` says to go on to the next.
    #[inline]
    fn search_group<const N: usize, L: Spilled>(
        &self,
        group: &[AtomicU64],
        hash: u64,
        key: &[u8],
        log: Option<&L>,
        seen: u64,
    ) -> Try<Option<Attempt<N>>> {
        let version = group[group::VERSION_AND_CRC].load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        if version & 1 == 1 {
            return Err(Stop::Changed);
        }
        let unchanged = || {
            fence(Ordering::Acquire);
            group[group::VERSION_AND_CRC].load(Ordering::Relaxed) == version
                && self.epoch.unchanged(seen)
        };
        let control = group[group::CONTROL].load(Ordering::Relaxed);
        for slot in group::match_h2(control, group::h2(hash)) {
            let fps = group[group::FINGERPRINTS].load(Ordering::Relaxed);
            let lengths = lengths(group, slot);
            if group::byte(fps, slot) != group::fingerprint(hash)
                || lengths.key_len() != key.len()
                || !lengths.fit(&self.geometry)
            {
                continue;
            }
            let words = self.slot(group, slot);
            if lengths.key_spilled() {
                let address = address(words, lengths);
                if address.hash != hash {
                    continue;
                }
                let Some(log) = log else { return Ok(Some(Attempt::Spilled)) };
                if !unchanged() {
                    return Err(Stop::Changed);
                }
                let is = super::segment::spilled_key_is(log, &address, key);
                if !is.map_err(Stop::Damaged)? {
                    continue;
                }
            } else if !key_is(words, key) {
                continue;
            }
            if lengths.value_spilled() && log.is_none() {
                return Ok(Some(Attempt::Spilled));
            }
            let slot = copy_out(words, lengths);
            return if unchanged() { Ok(Some(Attempt::Found(slot))) } else { Err(Stop::Changed) };
        }
        let ends = group::match_empty(control).any();
        if !unchanged() {
            return Err(Stop::Changed);
        }
        Ok(ends.then_some(Attempt::Absent))
    }

    /// Whether slots of this table need the larger buffer.
    #[inline]
    pub(crate) fn has_large_slots(&self) -> bool {
        self.geometry.slot_words > 8
    }
}

/// Copies the words of a slot that its entry uses.
#[inline]
fn copy_out<const N: usize>(words: &[AtomicU64], lengths: Lengths) -> Slot<N> {
    let mut slot = Slot { lengths, words: [0; N] };
    let end = (lengths.value_start() + lengths.value_len()).div_ceil(8);
    let end = if lengths.spilled() { end.max(lengths.address_word() + 3) } else { end };
    for (to, from) in slot.words.iter_mut().zip(&words[..end.min(words.len())]) {
        *to = from.load(Ordering::Relaxed).to_le();
    }
    slot
}

const _: () = assert!(MAX_SLOT_WORDS == 63);

#[cold]
pub(crate) fn forked() -> Error {
    Error::Closed {
        why: "this process is a fork of the one that opened the store; open the store here anew, \
              after it is closed there",
    }
}
