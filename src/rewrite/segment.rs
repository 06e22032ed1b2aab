//! One segment of the old table: copied out, its entries in the order of their
//! hashes.
//!
//! Segments come in the order of their prefixes, so that entries sorted within
//! each of them are sorted as a whole. Nothing is passed over: a slot that
//! makes no sense, or an entry that does not belong to the segment, is damage,
//! and ends the walk.

use crate::error::{Error, Result};
use crate::format::group::{Address, CONTROL_WORDS, Geometry, Lengths, match_full};
use crate::format::{ADDRESS_BYTES, BLOCK, u16_at, u64_at};
use crate::table::Writer;
use crate::table::scan::next_segment;
use crate::table::view::{PagePlace, SegmentView};
use crate::{MAX_KEY_LENGTH, MAX_VALUE_LENGTH};

/// A segment, copied out.
pub(super) struct Segment {
    geometry: Geometry,
    pages: Vec<[u8; BLOCK]>,
    entries: Vec<Found>,
    next: Option<u64>,
}

/// Where an entry was found.
struct Found {
    hash: u64,
    lengths: Lengths,
    value_len: usize,
    page: usize,
    /// Where its slot begins in the page.
    offset: usize,
}

/// An entry of the old table.
#[derive(Clone, Copy)]
pub(super) struct Old<'a> {
    pub(super) hash: u64,
    pub(super) lengths: Lengths,
    /// The length of its value, wherever it is.
    pub(super) value_len: usize,
    pub(super) slot: &'a [u8],
}

impl Segment {
    /// Copies out the segment of a hash.
    ///
    /// # Errors
    ///
    /// `Corrupt` or `Io` if a page cannot be read; `Corrupt` if an entry makes
    /// no sense.
    pub(super) fn read(writer: &Writer, hash: u64) -> Result<Segment> {
        let view = writer.segment_at(hash)?;
        if let Some(text) = view.contradiction() {
            return Err(Error::corrupt(&writer.table.path, 0, "a segment", "whole", text));
        }
        let mut segment = Segment {
            geometry: writer.table.geometry,
            pages: vec![[0; BLOCK]; view.pages],
            entries: Vec::with_capacity(view.used.into()),
            next: next_segment(hash, view.depth),
        };
        for number in 0..view.pages {
            let place = writer.page_bytes(&view, number, &mut segment.pages[number])?;
            segment.gather(writer, &view, number).map_err(|(offset, text)| {
                let block = if let PagePlace::Block(block) = place { block } else { 0 };
                let at = u64::from(block) * BLOCK as u64 + offset as u64;
                Error::corrupt(&writer.table.path, at, "an entry", "possible", text)
            })?;
        }
        segment.entries.sort_unstable_by_key(|entry| entry.hash);
        Ok(segment)
    }

    /// Collects the entries of a page.
    fn gather(
        &mut self,
        writer: &Writer,
        view: &SegmentView,
        page: usize,
    ) -> std::result::Result<(), (usize, String)> {
        let hasher = writer.table.hasher();
        let (payload, group_bytes) = (self.geometry.payload(), self.geometry.group_words * 8);
        for group in 0..self.geometry.groups_per_page {
            let start = group * group_bytes;
            let bytes = &self.pages[page][start..start + group_bytes];
            for slot in match_full(u64_at(bytes, 0)) {
                let lengths = Lengths {
                    key: u16_at(bytes, 16 + 2 * slot),
                    value: u16_at(bytes, 32 + 2 * slot),
                };
                let at = CONTROL_WORDS * 8 + slot * payload;
                let found = look(&self.geometry, lengths, &bytes[at..at + payload]);
                let (hash, value_len) = found.map_err(|text| (start + at, text))?;
                let hash = match hash {
                    Some(hash) => hash,
                    None => hasher.hash(&bytes[at..at + lengths.key_len()]),
                };
                if u64::from((hash >> 32) as u32 ^ view.prefix) >> (32 - view.depth.min(32)) != 0 {
                    return Err((start + at, format!("of another segment, with hash {hash:016x}")));
                }
                self.entries.push(Found { hash, lengths, value_len, page, offset: start + at });
            }
        }
        Ok(())
    }

    /// How many entries.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries, in the order of their hashes.
    pub(super) fn entries(&self) -> impl Iterator<Item = Old<'_>> {
        let payload = self.geometry.payload();
        self.entries.iter().map(move |entry| Old {
            hash: entry.hash,
            lengths: entry.lengths,
            value_len: entry.value_len,
            slot: &self.pages[entry.page][entry.offset..entry.offset + payload],
        })
    }

    /// Where the next segment begins, if there is one.
    pub(super) fn next(&self) -> Option<u64> {
        self.next
    }
}

/// Checks the lengths of an entry. Returns its hash, if that stands in the
/// slot, and the length of its value.
fn look(
    geometry: &Geometry,
    lengths: Lengths,
    slot: &[u8],
) -> std::result::Result<(Option<u64>, usize), String> {
    let key = lengths.key_len();
    if !lengths.fit(geometry) || key > MAX_KEY_LENGTH {
        return Err(format!("with lengths {:04x} and {:04x}", lengths.key, lengths.value));
    }
    if !lengths.spilled() {
        return Ok((None, lengths.value_len()));
    }
    let address = address(lengths, slot);
    let length = address.len as usize;
    let value = match (lengths.key_spilled(), lengths.value_spilled()) {
        (_, false) => Some(lengths.value_len()),
        (false, true) => Some(length),
        (true, true) => length.checked_sub(key),
    };
    match value.filter(|value| *value <= MAX_VALUE_LENGTH) {
        Some(value) => Ok((Some(address.hash), value)),
        None => Err(format!("with a key of {key} bytes and {length} bytes in the log")),
    }
}

/// The address in the slot of a spilled entry.
pub(super) fn address(lengths: Lengths, slot: &[u8]) -> Address {
    let at = lengths.address_word() * 8;
    let bytes = &slot[at..at + ADDRESS_BYTES];
    Address::from_words([u64_at(bytes, 0), u64_at(bytes, 8), u64_at(bytes, 16)])
}
