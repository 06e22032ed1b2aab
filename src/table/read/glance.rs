//! The lookup of nearly every key: straight on, or not at all.
//!
//! Most keys stand in the first group of their search, in their slot whole, on
//! a page that has been checked, and nothing changes meanwhile. A *glance* is
//! the lookup for them alone: it has no loop to start over in and nothing to
//! remember for it, and gives up on whatever else it meets; the
//! [lookup](Table::lookup) then begins anew and deals with it.
//!
//! It makes the loads of the lookup, in its order and with its fences: what is
//! said there of versions and the epoch holds here.
//!
//! It goes by the [flat directory](crate::table::flat) to its segment, and then by
//! the [mirror](crate::table::mirror), which nearly always are in the caches. That
//! says at once that a key is absent, or where its slot is. So a miss
//! waits for no memory, and a hit for its control line and its slot at the same
//! time. Seven bits of the hash agree by chance in one of twenty searches for an
//! absent key; then the control line's eight others settle it.
//!
//! # Why it is worth its lines
//!
//! The time of a get is that of a load that misses the caches. A processor
//! makes that of the next get meanwhile, if it comes into its window: some 200
//! to 300 instructions, as measured, before the registers for their results run
//! out. In between each instruction less is worth a nanosecond; and what is copied
//! out goes where the caller wants it, in words that the compiler can see apart.

use std::sync::atomic::{Ordering, fence};

use crate::format::group::{self, Probe, SPILLED};
use crate::storage::map::prefetch;

use super::super::layout::DirectoryWord;
use super::super::mirror::{Sought, UNKNOWN};
use super::super::segment::key_is;
use super::super::{Spilled, Table};
use super::{Found, Slot, Wanted, control_line, copy_out, lengths_of, slot_of};

/// What a glance came to.
#[derive(Clone, Copy)]
pub(crate) enum Glance {
    /// The slot has been copied out. The length of the value, which stands behind
    /// the key.
    Here(usize),
    Absent,
    /// The value, at least, is in the log: a pin is needed.
    Spilled(Trail),
    /// Something unusual: the lookup will find out.
    Unsure,
}

/// What is left to do after a glance.
#[derive(Clone, Copy)]
pub(crate) enum Rest {
    Spilled(Trail),
    Unsure,
}

impl Glance {
    /// What is left to do, if it was not enough.
    #[inline(always)]
    pub(crate) fn rest(self) -> Rest {
        match self {
            Glance::Spilled(from) => Rest::Spilled(from),
            _ => Rest::Unsure,
        }
    }
}

/// Where something spilled was met.
#[derive(Clone, Copy)]
pub(crate) struct Trail {
    hash: u64,
    /// The directory word.
    word: u64,
    seen: u64,
}

impl Table {
    /// Looks a key up if that is simple. `N` is 0 if the bytes are not wanted,
    /// or at least the words of a slot of this table.
    #[inline(always)]
    pub(crate) fn glance<const N: usize>(&self, key: &[u8], out: &mut [u64; N]) -> Glance {
        let seen = self.epoch.read();
        let hash = self.hash_now(key);
        let word = self.flat_word(hash).load(Ordering::Acquire);
        if word == 0 {
            return Glance::Unsure;
        }
        let segment = DirectoryWord::decode(word);
        let (number, slot) = match self.seek(word, hash) {
            Sought::At(number, slot) => (usize::from(number), usize::from(slot)),
            Sought::Absent => return self.absent(seen),
            Sought::Unknown(_) => return Glance::Unsure,
        };
        let Ok(group) = self.group_at(segment, number) else {
            return Glance::Unsure;
        };
        let line = control_line(group);
        // An odd one, while a slot is changed, is none that is found again below.
        let version = line[group::VERSION_AND_CRC].load(Ordering::Relaxed) & !1;
        fence(Ordering::Acquire);
        if seen == 0 {
            return Glance::Unsure;
        }
        // A mark of something spilled makes a length longer than any slot. Those of
        // a slot without an entry are zero: only an empty key might stand there.
        let lengths = lengths_of(line, slot);
        let is_full = || {
            let control = line[group::CONTROL].load(Ordering::Relaxed);
            group::byte(control, slot) == group::h2(hash)
        };
        if key.is_empty() && !is_full() {
            return Glance::Unsure;
        }
        let words = slot_of(&self.geometry, group, slot);
        // Keys as long as a slot has room for, at most, are compared with one.
        if usize::from(lengths.key) != key.len() || key.len() > self.geometry.payload() {
            return Glance::Unsure;
        }
        if !key_is(words, key) {
            return match self.is_absent(word, hash, seen) {
                true => Glance::Absent,
                false => Glance::Unsure,
            };
        }
        if lengths.value & SPILLED != 0 {
            // The address is on its way while the log is pinned.
            words.last().into_iter().for_each(prefetch);
            return Glance::Spilled(Trail { hash, word, seen });
        }
        copy_out(words, out);
        let same = self.is_unchanged_since(line, version, seen);
        if same { Glance::Here(lengths.value.into()) } else { Glance::Unsure }
    }

    /// What it comes to that the mirror does not have the key.
    #[inline(always)]
    fn absent(&self, seen: u64) -> Glance {
        match self.epoch.unchanged(seen) && seen != 0 {
            true => Glance::Absent,
            false => Glance::Unsure,
        }
    }

    /// Whether no entry on the way of a hash has the fifteen bits that control
    /// lines have of it: then seven were those of another key.
    #[inline(never)]
    fn is_absent(&self, word: u64, hash: u64, seen: u64) -> bool {
        let segment = DirectoryWord::decode(word);
        for number in Probe::new(hash, segment.groups.into()) {
            let control = self.mirror.control(segment.descriptor, number);
            if control == UNKNOWN {
                return false;
            }
            if group::match_h2(control, group::h2(hash)).any() {
                let Ok(group) = self.group_at(segment, number) else {
                    return false;
                };
                let line = control_line(group);
                let version = line[group::VERSION_AND_CRC].load(Ordering::Relaxed);
                fence(Ordering::Acquire);
                let control = line[group::CONTROL].load(Ordering::Relaxed);
                let fps = line[group::FINGERPRINTS].load(Ordering::Relaxed);
                let is = |slot| group::byte(fps, slot) == group::fingerprint(hash);
                if version & 1 == 1
                    || group::match_h2(control, group::h2(hash)).find(|slot| is(*slot)).is_some()
                    || !self.is_unchanged_since(line, version, seen)
                {
                    return false;
                }
            }
            if group::match_empty(control).any() {
                return self.epoch.unchanged(seen) && seen != 0;
            }
        }
        false
    }

    /// Looks once more where a glance met something spilled, under a pin that
    /// was taken since; `None` if that is not the end of it. The segment may
    /// have been replaced before the pin was taken, and the log file gone:
    /// damage that is found at an address from here is to be looked for again.
    #[inline]
    pub(crate) fn look_again<const N: usize, L: Spilled>(
        &self,
        key: &[u8],
        from: Trail,
        log: &L,
        out: &mut Slot<N>,
    ) -> Option<Found> {
        let Trail { hash, word, seen } = from;
        let segment = DirectoryWord::decode(word);
        self.search(segment, 0, &Wanted { key, hash, seen }, Some(log), out).ok()
    }
}
