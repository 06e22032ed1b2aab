//! Pages that speak for themselves.
//!
//! A page carries its own checksum and, in its first group, the page record:
//! table, local depth, page number and generation. So it can be known for a
//! sound page without any directory, and even without the slot payload, since
//! both stand in its first 64 bytes. The slot payload, where no header says it,
//! is the one with which everything in the page has its place: control bytes,
//! lengths and zeros lie elsewhere with every other one.

use crate::format::group::{
    Address, DELETED, EMPTY, Geometry, Lengths, PageRecord, SLOTS, fingerprint, h2, match_full,
    page_crc, stored_page_crc,
};
use crate::format::{ADDRESS_BYTES, u16_at, u32_at, u64_at};

use super::blocks::Bytes;

/// The bytes of a control line.
const CONTROL_LINE: usize = 64;

/// The page record of a block that is a sound page.
pub(super) fn sound(page: &Bytes) -> Option<PageRecord> {
    // Most blocks of a sparse file are zero; their checksum would not hold.
    let record = PageRecord::from_word(u64_at(page, 56));
    let possible = record.depth <= 32 && record.page < 16;
    (possible && stored_page_crc(page) == page_crc(page)).then_some(record)
}

/// An entry as it stands in its slot.
#[derive(Clone, Copy)]
pub(super) struct Slot<'a> {
    pub(super) lengths: Lengths,
    control: u8,
    fp: u8,
    pub(super) bytes: &'a [u8],
}

impl<'a> Slot<'a> {
    /// Where its spilled part is, if it has one.
    pub(super) fn address(&self) -> Option<Address> {
        let at = self.lengths.address_word() * 8;
        let bytes = self.bytes.get(at..at + ADDRESS_BYTES).filter(|_| self.lengths.spilled())?;
        let word = |i: usize| u64_at(bytes, 8 * i);
        Some(Address::from_words([word(0), word(1), word(2)]))
    }

    /// Whether the hash bits in the control line are those of a hash.
    pub(super) fn has_bits_of(&self, hash: u64) -> bool {
        self.control == h2(hash) && self.fp == fingerprint(hash)
    }

    /// Its key, if that stands in the slot.
    pub(super) fn key(&self) -> Option<&'a [u8]> {
        (!self.lengths.key_spilled()).then(|| &self.bytes[..self.lengths.key_len()])
    }

    /// Its value, if that stands in the slot.
    pub(super) fn value(&self) -> Option<&'a [u8]> {
        let start = self.lengths.value_start();
        let inside = !self.lengths.value_spilled();
        inside.then(|| &self.bytes[start..start + self.lengths.value_len()])
    }
}

/// The entries of a page; those whose lengths make no sense are left out.
pub(super) fn slots(page: &Bytes, geometry: Geometry) -> impl Iterator<Item = Slot<'_>> {
    (0..geometry.groups_per_page).flat_map(move |group| {
        let group = group_bytes(page, &geometry, group);
        match_full(u64_at(group, 0)).filter_map(move |number| {
            let slot = slot(group, &geometry, number);
            slot.lengths.fit(&geometry).then_some(slot)
        })
    })
}

fn group_bytes<'a>(page: &'a Bytes, geometry: &Geometry, group: usize) -> &'a [u8] {
    let bytes = geometry.group_words * 8;
    &page[group * bytes..(group + 1) * bytes]
}

fn slot<'a>(group: &'a [u8], geometry: &Geometry, number: usize) -> Slot<'a> {
    let lengths =
        Lengths { key: u16_at(group, 16 + 2 * number), value: u16_at(group, 32 + 2 * number) };
    let start = CONTROL_LINE + number * geometry.payload();
    let bytes = &group[start..start + geometry.payload()];
    Slot { lengths, control: group[number], fp: group[48 + number], bytes }
}

/// For each group of a page whether a search for an absent key ends in it.
pub(super) fn ends(page: &Bytes, geometry: &Geometry) -> Vec<bool> {
    let group = |number| group_bytes(page, geometry, number);
    (0..geometry.groups_per_page).map(|n| group(n)[..SLOTS].contains(&EMPTY)).collect()
}

/// Whether everything in a page has its place with a slot payload.
pub(super) fn fits(page: &Bytes, geometry: &Geometry) -> bool {
    let end = geometry.groups_per_page * geometry.group_words * 8;
    let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    zero(&page[end..])
        && (0..geometry.groups_per_page).all(|number| {
            let group = group_bytes(page, geometry, number);
            let first = number == 0;
            let plain = first || (u32_at(group, 12) == 0 && u64_at(group, 56) == 0);
            plain && u32_at(group, 8) == 0 && (0..SLOTS).all(|n| slot_fits(group, geometry, n))
        })
}

fn slot_fits(group: &[u8], geometry: &Geometry, number: usize) -> bool {
    let Slot { lengths, bytes, .. } = slot(group, geometry, number);
    let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    match group[number] {
        EMPTY | DELETED => (lengths.key, lengths.value) == (0, 0) && zero(bytes),
        control if control & 0x80 != 0 || !lengths.fit(geometry) => false,
        _ => zero(&bytes[used(lengths)..]),
    }
}

/// How many bytes of its slot an entry takes.
fn used(lengths: Lengths) -> usize {
    match (lengths.key_spilled(), lengths.value_spilled()) {
        (false, false) => lengths.key_len() + lengths.value_len(),
        (_, true) => lengths.address_word() * 8 + ADDRESS_BYTES,
        (true, false) => ADDRESS_BYTES + lengths.value_len(),
    }
}
