//! One segment, as the writer sees it: lookup, and changes to slots.
//!
//! ```text
//! locate:  home group -> triangular probe -> match      => Match
//!                                         -> group with an empty slot: stop
//!                                              first deleted slot seen, else that empty one
//! ```
//!
//! A group that readers may look at is changed under its version word: odd
//! while it changes, one higher afterwards. Changes to pages that nobody can
//! see yet need no version.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::group::{
    self, Address, DELETED, EMPTY, Geometry, Lengths, MAX_SLOT_WORDS, Probe,
};
use crate::storage::map::{load_bytes, prefetch};

use super::layout::DirectoryWord;
use super::{Spilled, Table, Writer};

/// A slot of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) descriptor: u32,
    pub(crate) page: usize,
    /// The group's number in its page.
    pub(crate) group: usize,
    pub(crate) slot: usize,
}

/// What a lookup for writing found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    /// The key is here.
    Match(Place),
    /// The key is absent; this deleted slot would take it.
    Deleted(Place),
    /// The key is absent; this empty slot would take it.
    Empty(Place),
    /// The key is absent, and there is no slot on its way.
    Full,
}

/// A slot's content, put together apart from any shared memory.
pub(crate) struct Content<const N: usize> {
    pub(crate) lengths: Lengths,
    pub(crate) words: [u64; N],
}

impl<const N: usize> Content<N> {
    /// Lays out an entry. Value and address as [`Entry`](super::batch::Entry)
    /// has them.
    #[inline]
    pub(crate) fn new(
        lengths: Lengths,
        key: &[u8],
        value: &[u8],
        address: Option<Address>,
    ) -> Self {
        let mut content = Content { lengths, words: [0; N] };
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut content.words);
        if !lengths.key_spilled() {
            bytes[..key.len()].copy_from_slice(key);
        }
        if !lengths.value_spilled() {
            let start = lengths.value_start();
            bytes[start..start + value.len()].copy_from_slice(value);
        }
        if let Some(address) = address {
            let start = lengths.address_word();
            content.words[start..start + 3].copy_from_slice(&address.to_words());
        }
        for word in &mut content.words {
            *word = word.to_le();
        }
        content
    }
}

/// Lends what a slot of so many words holds of an entry to a function, with zeros
/// behind it.
#[inline(always)]
pub(crate) fn with_content(
    slot_words: usize,
    lengths: Lengths,
    key: &[u8],
    value: &[u8],
    address: Option<Address>,
    put: impl FnOnce(&[u64]),
) {
    // Most slots are small; the larger buffer would cost more to zero.
    if slot_words <= 8 {
        put(&Content::<8>::new(lengths, key, value, address).words);
    } else {
        put(&Content::<MAX_SLOT_WORDS>::new(lengths, key, value, address).words);
    }
}

/// The lengths of a slot.
#[inline]
pub(crate) fn lengths(group: &[AtomicU64], slot: usize) -> Lengths {
    let key = group[group::KEY_LENGTHS + slot / 4].load(Ordering::Relaxed);
    let value = group[group::VALUE_LENGTHS + slot / 4].load(Ordering::Relaxed);
    Lengths { key: group::half(key, slot % 4), value: group::half(value, slot % 4) }
}

/// The address in a slot's words.
#[inline]
pub(crate) fn address(words: &[AtomicU64], lengths: Lengths) -> Address {
    let start = lengths.address_word();
    Address::from_words(std::array::from_fn(|i| words[start + i].load(Ordering::Relaxed)))
}

/// Whether a slot's inline key, which fits it, is this one. (Inlined by force:
/// a call of it, with what has to be saved for it, made gets a quarter slower.)
#[inline(always)]
pub(crate) fn key_is(slot: &[AtomicU64], key: &[u8]) -> bool {
    debug_assert!(key.len() <= slot.len() * 8);
    // What most keys are, without a loop.
    if let Ok(key) = <&[u8; 16]>::try_from(key)
        && let ([first, second], []) = key.as_chunks::<8>()
        && let Some([a, b]) = slot.first_chunk::<2>()
    {
        return u64::from_le_bytes(*first) == a.load(Ordering::Relaxed)
            && u64::from_le_bytes(*second) == b.load(Ordering::Relaxed);
    }
    let (words, tail) = key.as_chunks::<8>();
    for (word, slot) in words.iter().zip(slot) {
        if u64::from_le_bytes(*word) != slot.load(Ordering::Relaxed) {
            return false;
        }
    }
    if tail.is_empty() {
        return true;
    }
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    let mask = !(u64::MAX << (8 * tail.len()));
    let word = slot.get(words.len()).map_or(0, |word| word.load(Ordering::Relaxed));
    word & mask == u64::from_le_bytes(last)
}

/// Whether a spilled key is this one. A full hash that agrees while the bytes
/// do not is a collision only if the bytes are what was written.
pub(crate) fn spilled_key_is(log: &impl Spilled, address: &Address, key: &[u8]) -> Result<bool> {
    match log.bytes(address) {
        Some(bytes) if bytes.get(..key.len()) == Some(key) => Ok(true),
        _ => log.checked(address).map(|_| false),
    }
}

/// The hash of the entry in a slot: stored beside its address, or computed.
#[inline(always)]
pub(crate) fn hash_of(hasher: &crate::hash::Hasher, words: &[AtomicU64], lengths: Lengths) -> u64 {
    // What most keys are: hashed where it is asked for, in a loop over slots.
    if let (16, false, Some([a, b])) =
        (lengths.key, lengths.value_spilled(), words.first_chunk::<2>())
    {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&a.load(Ordering::Relaxed).to_ne_bytes());
        key[8..].copy_from_slice(&b.load(Ordering::Relaxed).to_ne_bytes());
        return hasher.hash(&key);
    }
    hash_of_any(hasher, words, lengths)
}

#[inline(never)]
fn hash_of_any(hasher: &crate::hash::Hasher, words: &[AtomicU64], lengths: Lengths) -> u64 {
    if lengths.spilled() {
        return address(words, lengths).hash;
    }
    // Most keys are short, and zeroing the larger buffer costs more than them.
    if lengths.key_len() <= 64 {
        hash_inline::<64>(hasher, words, lengths.key_len())
    } else {
        hash_inline::<{ MAX_SLOT_WORDS * 8 }>(hasher, words, lengths.key_len())
    }
}

/// The hash of a key of at most `N` bytes that stands in a slot.
#[inline]
fn hash_inline<const N: usize>(
    hasher: &crate::hash::Hasher,
    words: &[AtomicU64],
    len: usize,
) -> u64 {
    let mut bytes = [0; N];
    let key = &mut bytes[..len];
    load_bytes(words, 0, key);
    hasher.hash(key)
}

/// Writes an entry into a slot. Only under the version word, or where nobody
/// looks yet.
#[inline]
pub(crate) fn fill_slot(
    group: &[AtomicU64],
    geometry: &Geometry,
    slot: usize,
    hash: u64,
    lengths: Lengths,
    content: &[u64],
) {
    let start = geometry.slot_start(slot);
    for (to, from) in group[start..start + geometry.slot_words].iter().zip(content) {
        to.store(*from, Ordering::Relaxed);
    }
    set_control_line(group, slot, group::h2(hash), group::fingerprint(hash), lengths);
}

/// Makes a slot empty or deleted, its bytes zero.
fn clear_slot(group: &[AtomicU64], geometry: &Geometry, slot: usize, control: u8) {
    let start = geometry.slot_start(slot);
    for word in &group[start..start + geometry.slot_words] {
        word.store(0, Ordering::Relaxed);
    }
    set_control_line(group, slot, control, 0, Lengths { key: 0, value: 0 });
}

#[inline]
pub(super) fn set_control_line(
    group: &[AtomicU64],
    slot: usize,
    control: u8,
    fp: u8,
    lengths: Lengths,
) {
    let set = |word: usize, change: &dyn Fn(u64) -> u64| {
        group[word].store(change(group[word].load(Ordering::Relaxed)), Ordering::Relaxed);
    };
    set(group::CONTROL, &|w| group::with_byte(w, slot, control));
    set(group::FINGERPRINTS, &|w| group::with_byte(w, slot, fp));
    set(group::KEY_LENGTHS + slot / 4, &|w| group::with_half(w, slot % 4, lengths.key));
    set(group::VALUE_LENGTHS + slot / 4, &|w| group::with_half(w, slot % 4, lengths.value));
}

/// Runs a change to a group that readers may be looking at.
#[inline(always)]
pub(crate) fn under_version(group: &[AtomicU64], change: impl FnOnce()) {
    let word = &group[group::VERSION_AND_CRC];
    let before = word.load(Ordering::Relaxed);
    let version = |by: u32| before & !0xffff_ffff | u64::from((before as u32).wrapping_add(by));
    word.store(version(1), Ordering::Relaxed);
    fence(Ordering::Release);
    change();
    word.store(version(2), Ordering::Release);
}

impl Table {
    /// The words of a group in a page.
    #[inline]
    pub(crate) fn group<'a>(&self, page: &'a [AtomicU64], group: usize) -> &'a [AtomicU64] {
        let words = self.geometry.group_words;
        &page[group * words..(group + 1) * words]
    }

    /// The words of a slot in a group.
    #[inline]
    pub(crate) fn slot<'a>(&self, group: &'a [AtomicU64], slot: usize) -> &'a [AtomicU64] {
        let start = self.geometry.slot_start(slot);
        &group[start..start + self.geometry.slot_words]
    }

    /// Copies the control word of the group of a place, which has changed, to the
    /// mirror. Under the version word.
    #[inline(always)]
    pub(super) fn mirror_group(&self, place: Place, group: &[AtomicU64]) {
        let number = self.geometry.number_of(place.page, place.group);
        let control = group[group::CONTROL].load(Ordering::Relaxed);
        self.mirror.set(place.descriptor, number, control);
    }

    /// A slot whose lengths cannot be.
    #[cold]
    pub(crate) fn bad_slot(&self, place: Place, lengths: Lengths) -> Error {
        let word = self.descriptor(place.descriptor).page(place.page);
        let block = if word.is_frame() { 0 } else { u64::from(word.number()) };
        let start = self.geometry.slot_start(place.slot) + place.group * self.geometry.group_words;
        Error::corrupt(
            &self.path,
            block * BLOCK as u64 + start as u64 * 8,
            "the lengths of an entry",
            format!("those of an entry in {} bytes", self.geometry.payload()),
            format!("{:04x} and {:04x}", lengths.key, lengths.value),
        )
    }
}

impl Writer {
    /// Looks a key up for writing. Checks every page on the way.
    pub(crate) fn locate(
        &self,
        word: DirectoryWord,
        hash: u64,
        key: &[u8],
        log: &impl Spilled,
    ) -> Result<Spot> {
        let table = &*self.table;
        let descriptor = table.descriptor(word.descriptor);
        let home = group::home_slot(hash);
        let mut deleted = None;
        for number in Probe::new(hash, word.groups.into()) {
            let (page, group) = table.geometry.page_of(number);
            let words = table.group(self.read_page(descriptor, page)?, group);
            let place = |slot| Place { descriptor: word.descriptor, page, group, slot };
            let control = words[group::CONTROL].load(Ordering::Relaxed);
            for slot in group::match_h2(control, group::h2(hash)) {
                if self.holds(words, place(slot), hash, key, log)? {
                    return Ok(Spot::Match(place(slot)));
                }
            }
            if deleted.is_none() {
                deleted = group::match_deleted(control).nearest(home).map(place);
            }
            if let Some(slot) = group::match_empty(control).nearest(home) {
                return Ok(deleted.map_or(Spot::Empty(place(slot)), Spot::Deleted));
            }
        }
        Ok(deleted.map_or(Spot::Full, Spot::Deleted))
    }

    /// Where the spilled part of a key's entry lies, if it is there and has one.
    pub(crate) fn spilled_address(
        &self,
        hash: u64,
        key: &[u8],
        log: &impl Spilled,
    ) -> Result<Option<Address>> {
        let word = self.table.route(hash)?;
        let Spot::Match(place) = self.locate(word, hash, key, log)? else {
            return Ok(None);
        };
        let descriptor = self.table.descriptor(place.descriptor);
        let group = self.table.group(self.read_page(descriptor, place.page)?, place.group);
        let lengths = lengths(group, place.slot);
        Ok(lengths.spilled().then(|| address(self.table.slot(group, place.slot), lengths)))
    }

    /// Whether a full slot holds this key.
    #[inline]
    pub(super) fn holds(
        &self,
        group: &[AtomicU64],
        place: Place,
        hash: u64,
        key: &[u8],
        log: &impl Spilled,
    ) -> Result<bool> {
        let table = &*self.table;
        let fps = group[group::FINGERPRINTS].load(Ordering::Relaxed);
        let lengths = lengths(group, place.slot);
        if group::byte(fps, place.slot) != group::fingerprint(hash)
            || lengths.key_len() != key.len()
        {
            return Ok(false);
        }
        if !lengths.fit(&table.geometry) {
            return Err(table.bad_slot(place, lengths));
        }
        let words = table.slot(group, place.slot);
        if !lengths.key_spilled() {
            return Ok(key_is(words, key));
        }
        let address = address(words, lengths);
        Ok(address.hash == hash && spilled_key_is(log, &address, key)?)
    }

    /// The group of a place that is writable in place.
    #[inline]
    fn group_of(&self, place: Place) -> &[AtomicU64] {
        let table = &*self.table;
        let word = table.descriptor(place.descriptor).page(place.page);
        debug_assert!(word.is_frame());
        let page = table.page_words(word).expect("a writable page is a frame of the pool");
        table.group(page, place.group)
    }

    /// Asks for the lines of a slot, to be written when the record is.
    #[inline]
    pub(super) fn prefetch_slot(&self, place: Place) {
        let slot = self.table.slot(self.group_of(place), place.slot);
        prefetch(&slot[0]);
        prefetch(&slot[slot.len() - 1]);
    }

    /// What an overwritten or removed slot kept alive in the log.
    pub(super) fn forget_spilled(&mut self, place: Place) {
        let group = self.group_of(place);
        let lengths = lengths(group, place.slot);
        if lengths.spilled() {
            let address = address(self.table.slot(group, place.slot), lengths);
            self.sub_live(address);
        }
    }

    /// Writes an entry into its slot, under the group's version.
    #[inline]
    pub(super) fn write_slot(&self, place: Place, hash: u64, lengths: Lengths, content: &[u64]) {
        let group = self.group_of(place);
        let table = &*self.table;
        under_version(group, || {
            fill_slot(group, &table.geometry, place.slot, hash, lengths, content);
            table.mirror_group(place, group);
        });
    }

    /// Erases a slot, under the group's version. Says whether a tombstone was
    /// left: only where a probe may have to go on past this group.
    pub(super) fn erase_slot(&self, place: Place) -> bool {
        let group = self.group_of(place);
        let control = group[group::CONTROL].load(Ordering::Relaxed);
        let tombstone = !group::match_empty(control).any();
        let byte = if tombstone { DELETED } else { EMPTY };
        let table = &*self.table;
        under_version(group, || {
            clear_slot(group, &table.geometry, place.slot, byte);
            table.mirror_group(place, group);
        });
        tombstone
    }
}
