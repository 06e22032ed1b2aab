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
//!
//! # Unchecked accesses
//!
//! A get waits for memory up to three times, and the processor works on the
//! next get meanwhile if the instructions of several fit its window. So
//! bounds that the layout proves are not checked again here: a line lies in
//! the arena, a group in its page, a slot in its group. Numbers that come from
//! shared memory are bounded first; each access says by what.
//!
//! The lookup of most keys is cut short by a [`glance`], which goes by the
//! [flat directory](super::flat) and the [mirror](super::mirror) of the control
//! words instead of root, directory word and control line. Many keys at once
//! are looked up by [`many`], step by step side by side, and pages that are not
//! in memory asked for by [`ahead`].

pub(crate) mod ahead;
pub(crate) mod aim;
pub(crate) mod glance;
pub(crate) mod many;
pub(crate) mod mark;
pub(crate) mod near;
pub(crate) mod places;
pub(crate) mod still;

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::error::{Error, Result};
use crate::format::directory::MAX_SEGMENT_PAGES;
use crate::format::group::{self, Address, Geometry, Lengths, PAGE_WORDS, Probe, SLOTS, SPILLED};
use crate::hash::Hasher;

use super::arena::{Arena, LINE_WORDS};
use super::layout::{DirectoryWord, PageWord, ROOT_HEAD, RootWord, prefix_index, two_page_words};
use super::segment::{address, key_is, spilled_key_is};
use super::{Spilled, Table};

/// How often a reader starts over before it lets the writer run.
const SPINS: u32 = 64;

/// Words of the slots of most tables: up to 56 bytes of payload.
pub(crate) const SMALL: usize = 7;
/// Words of the largest slots.
pub(crate) const LARGE: usize = group::MAX_SLOT_WORDS;

/// A slot, copied out whole.
pub(crate) struct Slot<const N: usize> {
    pub(crate) lengths: Lengths,
    /// The bytes of the slot, as they are in memory.
    pub(crate) words: [u64; N],
}

impl<const N: usize> Slot<N> {
    /// A place to copy a slot to.
    #[inline]
    pub(crate) fn new() -> Slot<N> {
        Slot { lengths: Lengths { key: 0, value: 0 }, words: [0; N] }
    }

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
        Address::from_words(std::array::from_fn(|i| u64::from_le(self.words[start + i])))
    }
}

/// What a lookup came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Absent,
    /// The slot has been copied out.
    Here,
    /// A spilled key or value stands in the way: try again under a pin.
    Spilled,
}

/// Why an attempt came to nothing.
pub(super) enum Stop {
    /// Something changed: start over.
    Changed,
    /// A directory page must be loaded first.
    Unloaded(u64),
    /// A page must be checked first: its descriptor, its number.
    Unverified(u32, u8),
    /// Damage, to be reported if the epoch has not changed.
    Damaged(Box<Error>),
}

type Try<T> = std::result::Result<T, Stop>;

/// A key that is looked for.
struct Wanted<'a> {
    key: &'a [u8],
    hash: u64,
    /// The epoch in which the attempt began.
    seen: u64,
}

impl Table {
    /// Looks a key up and copies its slot out, which must have room for a slot
    /// of this table. Without `log` a spilled key or value ends the attempt.
    /// For most keys a [`glance`](Table::glance) is enough.
    pub(crate) fn lookup<const N: usize, L: Spilled>(
        &self,
        key: &[u8],
        log: Option<&L>,
        out: &mut Slot<N>,
    ) -> Result<Found> {
        let mut tries = 0u32;
        loop {
            let seen = self.epoch.read();
            if seen == 0 {
                return Err(forked());
            }
            match self.attempt(key, log, seen, out) {
                Ok(found) => return Ok(found),
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
    pub(super) fn recover(&self, stop: Stop, seen: u64) -> Result<()> {
        match stop {
            Stop::Changed => std::hint::spin_loop(),
            Stop::Unloaded(hash) => self.load_directory(hash)?,
            Stop::Unverified(line, page) => {
                let Some(descriptor) = self.any_descriptor(line) else {
                    return Ok(());
                };
                let page = usize::from(page);
                if page >= MAX_SEGMENT_PAGES {
                    // Too late: what named it was no directory word any more.
                    return Ok(());
                }
                let word = descriptor.page(page);
                if word.is_unverified()
                    && let Err(error) = self.verify_page(descriptor, page, word)
                    && self.epoch.unchanged(seen)
                    && descriptor.page(page) == word
                {
                    return Err(error);
                }
            }
            Stop::Damaged(error) if self.epoch.unchanged(seen) => return Err(*error),
            Stop::Damaged(_) => {}
        }
        Ok(())
    }

    /// The hash of a key, by the root of now.
    #[inline(always)]
    fn hash_now(&self, key: &[u8]) -> u64 {
        let line = self.root.load(Ordering::Acquire) as u32;
        self.root_head(line).1.hash(key)
    }

    /// Where the directory word of a hash stands in the flat directory. It is 0 if
    /// there is no copy.
    #[inline(always)]
    fn flat_word(&self, hash: u64) -> &AtomicU64 {
        let (words, at) = self.flat.find(hash);
        debug_assert!(at < words.len());
        // SAFETY: the place is that of one of these words (`Flat::find`).
        unsafe { words.get_unchecked(at) }
    }

    /// The depth of the root at `line`, and its hash function.
    #[inline(always)]
    fn root_head(&self, line: u32) -> (u8, Hasher) {
        let head = line_of(&self.arena, line);
        let first = head[0].load(Ordering::Relaxed);
        // Four words of a hasher stand in the line that is loaded anyway; the
        // others are needed by one kind only.
        let more = if first >> 8 & 0xff == 1 { head } else { line_of(&self.arena, line + 1) };
        let hasher = Hasher::from_words(first >> 8 & 0xff, |i| {
            let word = if i < 4 { &head[2 + i] } else { &more[i] };
            word.load(Ordering::Relaxed)
        });
        (first as u8, hasher)
    }

    /// The segment of a hash below the root at `line`.
    #[inline(always)]
    fn descend(&self, line: u32, depth: u8, hash: u64) -> Try<DirectoryWord> {
        let index = prefix_index(hash, 0, depth);
        let word = word_of(&self.arena, line, ROOT_HEAD * LINE_WORDS + index);
        let word = word.load(Ordering::Acquire);
        let Some(root) = RootWord::decode(word) else {
            return Err(Stop::Unloaded(hash));
        };
        let index = RootWord::index_in(word, hash);
        let word = word_of(&self.arena, root.array, LINE_WORDS + index);
        Ok(DirectoryWord::decode(word.load(Ordering::Acquire)))
    }

    /// The segment of a hash, for readers who walk the table: to be believed
    /// only if the epoch is unchanged afterwards. `None` says to try again.
    pub(super) fn try_route(&self, hash: u64) -> Result<Option<DirectoryWord>> {
        let line = self.root.load(Ordering::Acquire) as u32;
        let Some(head) = self.arena.words(line, 1) else {
            return Ok(None);
        };
        match self.descend(line, head[0].load(Ordering::Relaxed) as u8, hash) {
            Ok(word) => Ok(Some(word)),
            Err(Stop::Unloaded(hash)) => self.load_directory(hash).map(|()| None),
            Err(_) => Ok(None),
        }
    }

    fn attempt<const N: usize, L: Spilled>(
        &self,
        key: &[u8],
        log: Option<&L>,
        seen: u64,
        out: &mut Slot<N>,
    ) -> Try<Found> {
        let line = self.root.load(Ordering::Acquire) as u32;
        let (depth, hasher) = self.root_head(line);
        let hash = hasher.hash(key);
        let segment = self.descend(line, depth, hash)?;
        self.search(segment, 0, &Wanted { key, hash, seen }, log, out)
    }

    /// Searches a segment, from one of the groups of the search on.
    #[inline]
    fn search<const N: usize, L: Spilled>(
        &self,
        segment: DirectoryWord,
        first: usize,
        wanted: &Wanted<'_>,
        log: Option<&L>,
        out: &mut Slot<N>,
    ) -> Try<Found> {
        for number in Probe::new(wanted.hash, segment.groups.into()).skip(first) {
            let group = self.group_at(segment, number)?;
            if let Some(found) = self.search_group(group, wanted, log, out)? {
                return Ok(found);
            }
        }
        // A directory word from reused memory may name no group at all.
        if self.epoch.unchanged(wanted.seen) { Ok(Found::Absent) } else { Err(Stop::Changed) }
    }

    /// A group of a segment.
    #[inline(always)]
    fn group_at(&self, segment: DirectoryWord, number: usize) -> Try<&[AtomicU64]> {
        let place = self.places.of(number);
        let line = line_of(&self.arena, segment.descriptor);
        let word = PageWord(place.page_word(two_page_words(line, place.word())));
        let (frames, count) = self.frames.all();
        let words = if word.frame_number() < count {
            let start = word.frame_number() as usize * PAGE_WORDS;
            debug_assert!(start + PAGE_WORDS <= frames.len());
            // SAFETY: there are `count` frames of that many words (`Frames::all`).
            unsafe { frames.get_unchecked(start..start + PAGE_WORDS) }
        } else if word.is_unverified() {
            let (page, _) = self.geometry.page_of(number);
            return Err(Stop::Unverified(segment.descriptor, page as u8));
        } else if let Some(words) = self.maps.words(word.number()) {
            words
        } else {
            return Err(Stop::Changed);
        };
        let (start, len) = (place.start(), self.geometry.group_words);
        debug_assert!(start + len <= words.len());
        // SAFETY: a page has all of a group whose place it is (`Places`).
        Ok(unsafe { words.get_unchecked(start..start + len) })
    }

    /// Whether neither a group nor the epoch has changed: what was loaded from
    /// the group since belongs together.
    #[inline(always)]
    fn is_unchanged_since(
        &self,
        line: &[AtomicU64; group::CONTROL_WORDS],
        version: u64,
        seen: u64,
    ) -> bool {
        fence(Ordering::Acquire);
        line[group::VERSION_AND_CRC].load(Ordering::Relaxed) == version
            && self.epoch.unchanged(seen)
    }

    /// Looks for a key in one group; `None` says to go on to the next.
    fn search_group<const N: usize, L: Spilled>(
        &self,
        group: &[AtomicU64],
        wanted: &Wanted<'_>,
        log: Option<&L>,
        out: &mut Slot<N>,
    ) -> Try<Option<Found>> {
        let control_line = control_line(group);
        let version = control_line[group::VERSION_AND_CRC].load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        if version & 1 == 1 {
            return Err(Stop::Changed);
        }
        let control = control_line[group::CONTROL].load(Ordering::Relaxed);
        for slot in group::match_h2(control, group::h2(wanted.hash)) {
            let fps = control_line[group::FINGERPRINTS].load(Ordering::Relaxed);
            let lengths = lengths_of(control_line, slot);
            if group::byte(fps, slot) != group::fingerprint(wanted.hash)
                || lengths.key_len() != wanted.key.len()
                || !lengths.fit(&self.geometry)
            {
                continue;
            }
            let words = slot_of(&self.geometry, group, slot);
            if lengths.key & SPILLED != 0 {
                let address = address(words, lengths);
                if address.hash != wanted.hash {
                    continue;
                }
                let Some(log) = log else {
                    return Ok(Some(Found::Spilled));
                };
                if !self.is_unchanged_since(control_line, version, wanted.seen) {
                    return Err(Stop::Changed);
                }
                let is = spilled_key_is(log, &address, wanted.key);
                if !is.map_err(|error| Stop::Damaged(Box::new(error)))? {
                    continue;
                }
            } else if !key_is(words, wanted.key) {
                continue;
            }
            if lengths.value_spilled() && log.is_none() {
                return Ok(Some(Found::Spilled));
            }
            out.lengths = lengths;
            copy_out(words, &mut out.words);
            return if self.is_unchanged_since(control_line, version, wanted.seen) {
                Ok(Some(Found::Here))
            } else {
                Err(Stop::Changed)
            };
        }
        let ends = group::match_empty(control).any();
        if !self.is_unchanged_since(control_line, version, wanted.seen) {
            return Err(Stop::Changed);
        }
        Ok(ends.then_some(Found::Absent))
    }

    /// Whether slots of this table need the larger buffer.
    #[inline]
    pub(crate) fn has_large_slots(&self) -> bool {
        self.geometry.slot_words > SMALL
    }
}

/// A line of the arena: of that number, or some other one if there is none of
/// it, which only a late reader asks for.
#[inline(always)]
fn line_of(arena: &Arena, line: u32) -> &[AtomicU64; LINE_WORDS] {
    let (words, last) = arena.all();
    let start = (line & last) as usize * LINE_WORDS;
    debug_assert!(start + LINE_WORDS <= words.len());
    // SAFETY: the arena has `last + 1` lines (`Arena::all`), and what `last` masks
    // is not larger.
    unsafe { &*words.as_ptr().add(start).cast() }
}

/// A word of a run of lines; as [`line_of`], some other one if there is none.
#[inline(always)]
fn word_of(arena: &Arena, line: u32, index: usize) -> &AtomicU64 {
    let (words, last) = arena.all();
    let last = (last as usize + 1) * LINE_WORDS - 1;
    let at = (line as usize * LINE_WORDS).wrapping_add(index) & last;
    debug_assert!(at < words.len());
    // SAFETY: the arena has `last + 1` words, and what that masks is not larger.
    unsafe { words.get_unchecked(at) }
}

/// A group of a page.
#[inline]
fn group_of<'a>(geometry: &Geometry, page: &'a [AtomicU64], group: usize) -> &'a [AtomicU64] {
    debug_assert!(page.len() == PAGE_WORDS && group < geometry.groups_per_page);
    let start = group * geometry.group_words;
    // SAFETY: pages have `PAGE_WORDS` words, of which `groups_per_page` groups
    // take `group_words` each at most (`Geometry::new`); the number of the
    // group is a remainder of the division by theirs (`Geometry::page_of`).
    unsafe { page.get_unchecked(start..start + geometry.group_words) }
}

/// The control line of a group.
#[inline]
fn control_line(group: &[AtomicU64]) -> &[AtomicU64; group::CONTROL_WORDS] {
    debug_assert!(group.len() > group::CONTROL_WORDS);
    // SAFETY: a group has more words than its control line.
    let line = unsafe { group.get_unchecked(..group::CONTROL_WORDS) };
    line.first_chunk().expect("eight words were taken")
}

/// The words of a slot.
#[inline]
fn slot_of<'a>(geometry: &Geometry, group: &'a [AtomicU64], slot: usize) -> &'a [AtomicU64] {
    let start = geometry.slot_start(slot);
    debug_assert!(slot < SLOTS && start + geometry.slot_words <= group.len());
    // SAFETY: the eighth slot ends where its group does, and the number of a
    // slot is that of a byte of the control word.
    unsafe { group.get_unchecked(start..start + geometry.slot_words) }
}

/// Copies the words of a slot out: as many as there are on both sides.
#[inline(always)]
fn copy_out<const N: usize>(words: &[AtomicU64], out: &mut [u64; N]) {
    const LESS: usize = SMALL - 1;
    // Without a loop where slots have the usual lengths.
    if let Some(words) = words.first_chunk::<N>() {
        *out = std::array::from_fn(|i| words[i].load(Ordering::Relaxed).to_le());
    } else if let (SMALL, Some(words), Some(out)) =
        (N, words.first_chunk::<LESS>(), out.first_chunk_mut::<LESS>())
    {
        *out = std::array::from_fn(|i| words[i].load(Ordering::Relaxed).to_le());
    } else {
        *out = copy_of_any(words);
    }
}

/// The same for slots of other lengths: apart, so that what is copied usually can
/// stay in registers.
#[inline(never)]
fn copy_of_any<const N: usize>(words: &[AtomicU64]) -> [u64; N] {
    let word = |i: usize| words.get(i).map_or(0, |word| word.load(Ordering::Relaxed).to_le());
    std::array::from_fn(word)
}

/// The lengths of a slot.
#[inline]
fn lengths_of(line: &[AtomicU64; group::CONTROL_WORDS], slot: usize) -> Lengths {
    let key = line[group::KEY_LENGTHS + ((slot / 4) & 1)].load(Ordering::Relaxed);
    let value = line[group::VALUE_LENGTHS + ((slot / 4) & 1)].load(Ordering::Relaxed);
    Lengths { key: group::half(key, slot % 4), value: group::half(value, slot % 4) }
}

#[cold]
pub(crate) fn forked() -> Error {
    Error::Closed {
        why: "this process is a fork of the one that opened the store; drop the handles here, and \
              open the store anew when the other one has closed it or has ended",
    }
}
