//! Doing what was prepared: nothing here can fail.
//!
//! Inserts come first and removes behind them, see [`batch`](super). The counts
//! of a segment are written once for all its changes, those of the table once
//! for the batch.

use std::sync::atomic::AtomicU64;

use crate::storage::map::prefetch;

use super::super::segment::{Place, address, fill_slot, lengths, under_version, with_content};
use super::super::{Table, Writer};
use super::steps::{Deed, Entry, Step};

/// While changes are applied, the places of those that come after so many
/// others are asked of memory.
const AHEAD: usize = 8;

impl Writer {
    /// Step 4: does all that was prepared. `entry` says what an insert puts into
    /// its slot.
    pub(crate) fn apply_batch<'a>(&mut self, steps: &[Step], entry: impl Fn(&Step) -> Entry<'a>) {
        let table = self.table.clone();
        let (mut removes, mut counts) = (0, Counts::default());
        let mut groups: [&[AtomicU64]; AHEAD] = [&[]; AHEAD];
        for i in 0..steps.len() + AHEAD {
            // The group that was asked for `AHEAD` steps ago.
            let group = groups[i % AHEAD];
            if let Some(later) = steps.get(i).filter(|step| step.has_place()) {
                groups[i % AHEAD] = table.writable_group(later.place());
                prefetch(&groups[i % AHEAD][0]);
                let slot = table.slot(groups[i % AHEAD], later.slot.into());
                prefetch(&slot[0]);
                prefetch(&slot[slot.len() - 1]);
            }
            let Some(step) = i.checked_sub(AHEAD).map(|i| &steps[i]) else {
                continue;
            };
            match step.deed {
                Deed::Nothing | Deed::Done => continue,
                Deed::Remove => {
                    removes += 1;
                    continue;
                }
                Deed::Overwrite => self.forget_overwritten(group, step.slot.into()),
                Deed::Fill => self.count_later(&mut counts, step.descriptor, 1, 0),
                Deed::Reuse => self.count_later(&mut counts, step.descriptor, 1, -1),
            }
            self.write_entry((group, step.place()), step.hash, &entry(step));
        }
        if removes > 0 {
            for step in steps.iter().filter(|step| step.deed == Deed::Remove) {
                self.forget_spilled(step.place());
                let tombstone = self.erase_slot(step.place());
                self.count_later(&mut counts, step.descriptor, -1, tombstone.into());
            }
        }
        self.count_later(&mut counts, u32::MAX, 0, 0);
        self.publish_counts();
    }

    /// Debug builds: what a batch has changed is as it must be. Not to be asked of
    /// what is replayed, for which the store may have been damaged before.
    pub(crate) fn assert_applied(&self, steps: &[Step]) {
        if cfg!(debug_assertions) {
            let done = steps.iter().filter(|step| step.has_place());
            done.for_each(|step| self.assert_invariants(step.place()));
        }
    }

    /// Writes an entry into a slot. Counts nothing but live bytes.
    #[inline]
    fn write_entry(&mut self, (group, place): (&[AtomicU64], Place), hash: u64, entry: &Entry<'_>) {
        let Entry { lengths, key, value, address } = *entry;
        if let Some(address) = address {
            self.add_live(address);
        }
        let (table, geometry) = (&*self.table, &self.table.geometry);
        with_content(geometry.slot_words, lengths, key, value, address, |words| {
            under_version(group, || {
                fill_slot(group, geometry, place.slot, hash, lengths, words);
                table.mirror_group(place, group);
            });
        });
    }

    /// As [`forget_spilled`](Writer::forget_spilled), of a group that was found.
    #[inline]
    fn forget_overwritten(&mut self, group: &[AtomicU64], slot: usize) {
        let lengths = lengths(group, slot);
        if lengths.spilled() {
            self.sub_live(address(self.table.slot(group, slot), lengths));
        }
    }

    /// Counts entries of a segment; those of the one before are written down
    /// when another's turn comes.
    #[inline]
    fn count_later(&mut self, counts: &mut Counts, descriptor: u32, used: i32, tombstones: i32) {
        if counts.descriptor != descriptor {
            if counts.used != 0 || counts.tombstones != 0 {
                self.count_many(counts.descriptor, counts.used, counts.tombstones);
            }
            *counts = Counts { descriptor, ..Counts::default() };
        }
        counts.used += used;
        counts.tombstones += tombstones;
    }
}

impl Table {
    /// The group of a place that was made writable.
    #[inline]
    fn writable_group(&self, place: Place) -> &[AtomicU64] {
        let page = self.descriptor(place.descriptor).page(place.page);
        debug_assert!(page.is_frame());
        let words = self.page_words(page).expect("a writable page is a frame of the pool");
        self.group(words, place.group)
    }
}

/// Entries and tombstones that a segment has got.
#[derive(Default)]
struct Counts {
    descriptor: u32,
    used: i32,
    tombstones: i32,
}
