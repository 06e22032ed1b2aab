//! One segment, counted: sizes of its entries, and how far lookups go in it.
//!
//! A function of bytes: it is given copies of the segment's pages and reads
//! nothing else. It judges nothing; a slot that makes no sense is left out, and
//! `verify` is there to tell of it.
//!
//! A lookup visits the groups of the probe sequence from the home group of the
//! hash on. It ends at the entry, or at the first group with an empty slot:
//!
//! ```text
//! group     0    1    2    3        home of a hash that is absent:  0  1  2  3
//!          full full full room      groups visited:                 3  3  2  1
//! ```
//!
//! The hash of an absent key may have any home group, each as likely as the
//! others. So the lengths of all of them, counted once each, are what a miss in
//! this segment has to expect.

use crate::format::group::{
    Address, CONTROL_WORDS, Geometry, Lengths, Probe, SLOTS, home, match_empty, match_full,
};
use crate::format::{ADDRESS_BYTES, BLOCK, u16_at, u64_at};
use crate::hash::Hasher;

use super::Survey;

/// Copies of the pages of a segment.
pub(super) struct Segment<'a> {
    pub(super) geometry: Geometry,
    pub(super) hasher: &'a Hasher,
    pub(super) pages: &'a [Box<[u8; BLOCK]>],
}

/// What its slot says of an entry.
struct Entry {
    hash: u64,
    lengths: Lengths,
    /// The length of its value.
    value: u64,
    /// Bytes of it in the log.
    in_log: u64,
}

impl Segment<'_> {
    /// Counts the entries whose hashes are not below `from`.
    pub(super) fn count_entries(&self, from: u64, survey: &mut Survey) {
        for number in 0..self.groups() {
            let group = self.group(number);
            for slot in match_full(u64_at(group, 0)) {
                let entry = self.entry(group, slot).filter(|entry| entry.hash >= from);
                if let Some(entry) = entry {
                    survey.add_entry(entry.lengths, entry.value, entry.in_log);
                    // The search for an entry comes to it, or the table is damaged.
                    if let Some(before) = self.probe(entry.hash).position(|n| n == number) {
                        survey.hit_probes.add(before as u64 + 1);
                    }
                }
            }
        }
    }

    /// Counts how many groups the search for an absent key visits, from each
    /// home group.
    pub(super) fn count_misses(&self, survey: &mut Survey) {
        let groups = self.groups();
        let ends: Vec<bool> =
            (0..groups).map(|n| match_empty(u64_at(self.group(n), 0)).any()).collect();
        for home in 0..groups {
            let before = self.probe(hash_at_home(home, groups)).position(|n| ends[n]);
            survey.miss_probes.add(before.map_or(groups, |n| n + 1) as u64);
        }
    }

    /// Slots of the segment.
    pub(super) fn slots(&self) -> u64 {
        (self.groups() * SLOTS) as u64
    }

    fn groups(&self) -> usize {
        self.pages.len() * self.geometry.groups_per_page
    }

    fn probe(&self, hash: u64) -> Probe {
        Probe::new(hash, self.groups())
    }

    /// The bytes of a group.
    fn group(&self, number: usize) -> &[u8] {
        let (page, group) = self.geometry.page_of(number);
        let bytes = self.geometry.group_words * 8;
        &self.pages[page][group * bytes..(group + 1) * bytes]
    }

    /// What stands in a full slot, if it makes sense.
    fn entry(&self, group: &[u8], slot: usize) -> Option<Entry> {
        let lengths =
            Lengths { key: u16_at(group, 16 + 2 * slot), value: u16_at(group, 32 + 2 * slot) };
        if !lengths.fit(&self.geometry) {
            return None;
        }
        let start = CONTROL_WORDS * 8 + slot * self.geometry.payload();
        let slot = &group[start..start + self.geometry.payload()];
        if !lengths.spilled() {
            let hash = self.hasher.hash(&slot[..lengths.key_len()]);
            return Some(Entry { hash, lengths, value: lengths.value_len() as u64, in_log: 0 });
        }
        let at = lengths.address_word() * 8;
        let address = &slot[at..at + ADDRESS_BYTES];
        let word = |i: usize| u64_at(address, 8 * i);
        let address = Address::from_words([word(0), word(1), word(2)]);
        let in_log = u64::from(address.len);
        let value = match (lengths.key_spilled(), lengths.value_spilled()) {
            (_, false) => lengths.value_len() as u64,
            (false, true) => in_log,
            // Both lie there, the value behind the key.
            (true, true) => in_log.checked_sub(lengths.key_len() as u64)?,
        };
        Some(Entry { hash: address.hash, lengths, value, in_log })
    }
}

/// The smallest hash that is at home in a group.
fn hash_at_home(group: usize, groups: usize) -> u64 {
    let hash = ((group as u64) << 25).div_ceil(groups as u64) << 7;
    debug_assert_eq!(home(hash, groups), group);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::group::{ALL_EMPTY, DELETED, fingerprint, h2, with_byte};

    /// The payload that makes a page five groups, so that searches pass over
    /// the numbers 5 to 7.
    const PAYLOAD: usize = 80;

    #[test]
    fn every_group_is_home_to_a_hash() {
        for groups in 1..=256 {
            for group in 0..groups {
                assert_eq!(home(hash_at_home(group, groups), groups), group, "of {groups}");
            }
        }
    }

    /// A page whose groups have these control words.
    fn page(geometry: &Geometry, controls: &[u64]) -> Box<[u8; BLOCK]> {
        let mut page = Box::new([0; BLOCK]);
        for (group, control) in controls.iter().enumerate() {
            let start = group * geometry.group_words * 8;
            page[start..start + 8].copy_from_slice(&control.to_le_bytes());
        }
        page
    }

    fn survey() -> Survey {
        Survey::new("test", PAYLOAD)
    }

    #[test]
    fn a_miss_goes_on_to_the_first_group_with_an_empty_slot() {
        let geometry = Geometry::new(PAYLOAD).unwrap();
        assert_eq!(geometry.groups_per_page, 5);
        let deleted = u64::from_le_bytes([DELETED; 8]);
        // Only group 3 has an empty slot: 0 is full, the others are deleted.
        let pages = [page(&geometry, &[0, deleted, deleted, ALL_EMPTY, deleted])];
        let hasher = Hasher::Constant(0);
        let segment = Segment { geometry, hasher: &hasher, pages: &pages };
        let mut counted = survey();
        segment.count_misses(&mut counted);
        // From 0: 0 1 3; from 1: 1 2 4 (7) 3; from 2: 2 3; from 3: 3; from 4:
        // 4 (5 7) 2 (6) 3, where numbers in brackets are passed over.
        let lengths: Vec<_> = counted.miss_probes.buckets().map(|b| (b.low, b.count)).collect();
        assert_eq!(lengths, [(1, 1), (2, 1), (3, 2), (4, 1)]);
    }

    #[test]
    fn a_miss_visits_every_group_of_a_segment_without_an_empty_slot() {
        let geometry = Geometry::new(PAYLOAD).unwrap();
        let pages = [page(&geometry, &[0; 5])];
        let segment = Segment { geometry, hasher: &Hasher::Constant(0), pages: &pages };
        let mut counted = survey();
        segment.count_misses(&mut counted);
        let lengths: Vec<_> = counted.miss_probes.buckets().map(|b| (b.low, b.count)).collect();
        assert_eq!(lengths, [(5, 5)]);
    }

    #[test]
    fn a_hit_counts_the_groups_up_to_the_entry_and_sizes_are_read_from_the_slot() {
        let geometry = Geometry::new(PAYLOAD).unwrap();
        let hash = hash_at_home(1, 5);
        // From group 1 a search goes to 1, 2, 4 and 3.
        let control = with_byte(ALL_EMPTY, 6, h2(hash));
        let mut pages = [page(&geometry, &[ALL_EMPTY, 0, 0, ALL_EMPTY, control])];
        for group in [1, 2] {
            // Full slots of groups 1 and 2 whose lengths make no sense.
            let start = group * geometry.group_words * 8;
            pages[0][start + 16..start + 48].fill(0x7f);
        }
        let start = 4 * geometry.group_words * 8;
        pages[0][start + 16 + 12] = 3;
        pages[0][start + 32 + 12] = 50;
        pages[0][start + 48 + 6] = fingerprint(hash);
        let segment = Segment { geometry, hasher: &Hasher::Constant(hash), pages: &pages };
        let mut counted = survey();
        segment.count_entries(0, &mut counted);
        assert_eq!((counted.census.entries, counted.inline), (1, 1));
        assert_eq!(
            (counted.census.key_bytes.max(), counted.census.value_bytes.max()),
            (Some(3), Some(50))
        );
        assert_eq!(counted.hit_probes.max(), Some(3));
        // Nothing below the hash from which is counted.
        segment.count_entries(hash + 1, &mut counted);
        assert_eq!(counted.census.entries, 1);
    }
}
