//! The pages of a segment, laid out from nothing.
//!
//! A segment gets the fewest pages that hold its entries at seven eighths of
//! their slots. Each entry goes to the first empty slot on its probe sequence,
//! so there is no tombstone, and a search for it meets no empty slot before it.

use crate::format::group::{
    ALL_EMPTY, CONTROL_WORDS, FINGERPRINTS, Geometry, KEY_LENGTHS, PageRecord, Probe,
    VALUE_LENGTHS, fingerprint, h2, home_slot, match_empty, seal,
};
use crate::format::{BLOCK, put, u64_at};

use super::cut::{Entries, Entry};

/// The pages of one segment after the other, in the same memory.
pub(super) struct Pages {
    geometry: Geometry,
    table: u16,
    generation: u32,
    pages: Vec<[u8; BLOCK]>,
}

impl Pages {
    pub(super) fn new(geometry: Geometry, table: u16, generation: u32) -> Pages {
        Pages { geometry, table, generation, pages: Vec::new() }
    }

    /// Lays out a segment: its pages, fit for the disk, and their checksums.
    /// The caller has made sure that it needs no more than sixteen.
    pub(super) fn lay_out(
        &mut self,
        depth: u8,
        entries: Entries<'_>,
    ) -> impl Iterator<Item = (&[u8; BLOCK], u32)> {
        let groups_per_page = self.geometry.groups_per_page;
        let count = entries.len().div_ceil(groups_per_page * 7).max(1);
        self.pages.clear();
        self.pages.resize(count, self.blank());
        for (entry, slot) in entries.iter() {
            self.place(entry, slot);
        }
        let Pages { geometry, table, generation, pages } = self;
        let (table, generation) = (*table, *generation);
        pages.iter_mut().enumerate().map(move |(number, page)| {
            let record = PageRecord { table, depth, page: number as u8, generation };
            let crc = seal(page, geometry, record);
            (&*page, crc)
        })
    }

    /// A page of empty slots.
    fn blank(&self) -> [u8; BLOCK] {
        let mut page = [0; BLOCK];
        for group in 0..self.geometry.groups_per_page {
            put(&mut page, group * self.group_bytes(), &ALL_EMPTY.to_le_bytes());
        }
        page
    }

    fn group_bytes(&self) -> usize {
        self.geometry.group_words * 8
    }

    /// Puts an entry into the first empty slot on its way.
    fn place(&mut self, entry: Entry, slot: &[u8]) {
        let groups = self.pages.len() * self.geometry.groups_per_page;
        let group_bytes = self.group_bytes();
        for number in Probe::new(entry.hash, groups) {
            let (page, group) = self.geometry.page_of(number);
            let group = &mut self.pages[page][group * group_bytes..][..group_bytes];
            if let Some(free) = match_empty(u64_at(group, 0)).nearest(home_slot(entry.hash)) {
                group[free] = h2(entry.hash);
                group[8 * FINGERPRINTS + free] = fingerprint(entry.hash);
                put(group, 8 * KEY_LENGTHS + 2 * free, &entry.lengths.key.to_le_bytes());
                put(group, 8 * VALUE_LENGTHS + 2 * free, &entry.lengths.value.to_le_bytes());
                put(group, 8 * CONTROL_WORDS + free * slot.len(), slot);
                return;
            }
        }
        debug_assert!(false, "one in eight slots is empty, and the sequence meets every group");
    }
}
