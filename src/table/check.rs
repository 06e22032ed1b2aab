//! The invariants of a segment, as code.
//!
//! Debug builds ask after each change: the changed group is looked at every
//! time, the whole segment whenever it was replaced and at every 64th change.
//! `verify` states the same invariants, and more, for bytes that it has read
//! itself, from disk or from memory; the two share the ids of format.md.

use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::format::group::{self, DELETED, EMPTY, Probe, SLOTS};

use super::layout::{Descriptor, DirectoryWord};
use super::segment::{Place, hash_of, lengths};
use super::{Table, Writer};

/// Something that must not be: which invariant, where, what.
pub(crate) struct Breach {
    /// The id of the invariant in format.md.
    pub(crate) invariant: &'static str,
    pub(crate) place: Place,
    pub(crate) text: String,
}

/// What a segment was found to hold.
#[derive(Default)]
pub(crate) struct Census {
    pub(crate) used: usize,
    pub(crate) tombstones: usize,
    pub(crate) empty: usize,
    pub(crate) breaches: Vec<Breach>,
}

/// The ids of the invariants that are checked here, as in format.md.
pub(crate) const SLOT_BYTES: &str = "I8";
pub(crate) const SLOT_LENGTHS: &str = "I9";
pub(crate) const SLOT_HASH: &str = "I10";
pub(crate) const SLOT_REACHED: &str = "I11";
pub(crate) const SEGMENT_COUNTS: &str = "I12";

impl Writer {
    /// Takes the census of a segment.
    pub(crate) fn census(&self, word: DirectoryWord) -> Result<Census> {
        let table = &*self.table;
        let descriptor = table.descriptor(word.descriptor);
        let mut census = Census::default();
        for number in 0..usize::from(word.groups) {
            let (page, group) = table.geometry.page_of(number);
            self.read_page(descriptor, page)?;
            for slot in 0..SLOTS {
                let place = Place { descriptor: word.descriptor, page, group, slot };
                self.check_slot(word, place, &mut census);
            }
        }
        let info = descriptor.info();
        let counted = (census.used, census.tombstones);
        if counted != (info.used.into(), info.tombstones.into()) {
            let text = format!(
                "the segment counts {} entries and {} tombstones, but has {} and {}",
                info.used, info.tombstones, counted.0, counted.1
            );
            let place = Place { descriptor: word.descriptor, page: 0, group: 0, slot: 0 };
            census.breaches.push(Breach { invariant: SEGMENT_COUNTS, place, text });
        }
        if census.empty == 0 {
            let place = Place { descriptor: word.descriptor, page: 0, group: 0, slot: 0 };
            let text = "the segment has no empty slot".to_string();
            census.breaches.push(Breach { invariant: SEGMENT_COUNTS, place, text });
        }
        Ok(census)
    }

    /// Checks one slot and counts it.
    fn check_slot(&self, word: DirectoryWord, place: Place, census: &mut Census) {
        let table = &*self.table;
        let descriptor = table.descriptor(place.descriptor);
        let Some(page) = table.page_words(descriptor.page(place.page)) else {
            return;
        };
        let group = table.group(page, place.group);
        let control = group::byte(group[group::CONTROL].load(Ordering::Relaxed), place.slot);
        let lengths = lengths(group, place.slot);
        let words = table.slot(group, place.slot);
        let fps = group[group::FINGERPRINTS].load(Ordering::Relaxed);
        let fp = group::byte(fps, place.slot);
        let mut breach = |invariant, text: String| {
            census.breaches.push(Breach { invariant, place, text });
        };
        if control & 0x80 != 0 {
            if control != EMPTY && control != DELETED {
                breach(SLOT_BYTES, format!("the control byte is {control:02x}"));
            }
            let zero = words.iter().all(|w| w.load(Ordering::Relaxed) == 0);
            if !zero || fp != 0 || (lengths.key, lengths.value) != (0, 0) {
                breach(SLOT_BYTES, "a slot without an entry is not zero".into());
            }
            census.tombstones += usize::from(control == DELETED);
            census.empty += usize::from(control == EMPTY);
            return;
        }
        census.used += 1;
        if !lengths.fit(&table.geometry) {
            let text = format!("lengths {:04x} and {:04x}", lengths.key, lengths.value);
            return breach(SLOT_LENGTHS, text);
        }
        let hash = hash_of(&table.hasher(), words, lengths);
        if control != group::h2(hash) || fp != group::fingerprint(hash) {
            let text = format!("control {control:02x} and fp {fp:02x} for hash {hash:016x}");
            return breach(SLOT_HASH, text);
        }
        if let Err(text) = table.reached(word, descriptor, place, hash) {
            breach(SLOT_REACHED, text);
        }
    }

    /// Debug builds: the place that was just written is as it must be.
    pub(crate) fn assert_place(&self, ready: super::write::Ready) {
        use super::write::Ready::{Fill, Overwrite, Reuse};
        let (Overwrite(place) | Reuse(place) | Fill(place)) = ready;
        self.assert_invariants(place);
    }

    /// Debug builds: the group of a place, and at times its whole segment, is
    /// as it must be.
    pub(crate) fn assert_invariants(&self, place: Place) {
        if !cfg!(debug_assertions) {
            return;
        }
        let word = self.table.leaf(self.table.descriptor(place.descriptor)).word;
        let changed = self.table.geometry.number_of(place.page, place.group);
        self.assert_mirrored(word, changed..changed + 1);
        let census = if self.table.changes().is_multiple_of(64) {
            self.assert_mirrored(word, 0..word.groups.into());
            // A damaged page beside the changed one is no fault of the change.
            let Ok(census) = self.census(word) else {
                return;
            };
            census
        } else {
            let mut census = Census::default();
            for slot in 0..SLOTS {
                self.check_slot(word, Place { slot, ..place }, &mut census);
            }
            census
        };
        if let Some(breach) = census.breaches.first() {
            panic!("{} at {:?}: {}", breach.invariant, breach.place, breach.text);
        }
    }
}

impl Writer {
    /// Debug builds: the flat directory leads to a segment, and the mirror says of
    /// groups of it what they say, unless nobody has looked at their page yet.
    fn assert_mirrored(&self, word: DirectoryWord, groups: Range<usize>) {
        let table = &*self.table;
        let descriptor = table.descriptor(word.descriptor);
        assert!(table.flat.agrees_with(&table.leaf(descriptor)), "the flat directory of {word:?}");
        for number in groups {
            let (page, group) = table.geometry.page_of(number);
            let page = descriptor.page(page);
            let Some(words) = table.page_words(page).filter(|_| !page.is_unverified()) else {
                continue;
            };
            let control = table.group(words, group)[group::CONTROL].load(Ordering::Relaxed);
            let copy = table.mirror.control(word.descriptor, number);
            let has_room = table.mirror.has_room_for(word.descriptor, number);
            assert!(copy == control || !has_room, "the mirror of group {number} of {word:?}");
        }
    }
}

impl Table {
    /// Whether a lookup of a hash comes to a place.
    fn reached(
        &self,
        word: DirectoryWord,
        descriptor: Descriptor<'_>,
        place: Place,
        hash: u64,
    ) -> std::result::Result<(), String> {
        let info = descriptor.info();
        if super::layout::prefix_of(hash, info.depth) != info.prefix {
            let prefix = format!("{:08x}/{}", info.prefix, info.depth);
            return Err(format!("hash {hash:016x} does not belong to segment {prefix}"));
        }
        for number in Probe::new(hash, word.groups.into()) {
            let (page, group) = self.geometry.page_of(number);
            if (page, group) == (place.page, place.group) {
                return Ok(());
            }
            // A page that nobody has checked yet may be damaged: it proves nothing.
            let word = descriptor.page(page);
            let Some(words) = self.page_words(word).filter(|_| !word.is_unverified()) else {
                continue;
            };
            let control = self.group(words, group)[group::CONTROL].load(Ordering::Relaxed);
            if group::match_empty(control).any() {
                return Err(format!("the search for hash {hash:016x} ends before it"));
            }
        }
        Err(format!("the search for hash {hash:016x} does not come to it"))
    }
}
