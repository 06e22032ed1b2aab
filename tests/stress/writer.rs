//! Who changes the store: writers of entries, a thread that takes checkpoints,
//! and one that compacts.
//!
//! A writer owns some entries of a table. It takes them on one by one, in
//! batches, one again and again, or all of them in a sweep, after which hardly
//! any is there, or nearly all. The one that clears its table owns all of it.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use swissdb::{Batch, Db, Table, TableStats};

use super::ledger::Ledger;
use super::run::{Counts, Run};
use crate::support::Random;

/// Changes in a batch of a sweep.
const SWEEP: usize = 200;

/// A writer and its entries: every `of`-th from `first` on.
pub struct Writer<'a> {
    pub db: &'a Db,
    pub table: &'a Table,
    pub ledger: &'a Ledger,
    pub first: usize,
    pub of: usize,
    /// One step in so many is a sweep; one sweep in three clears the table, if
    /// the writer owns all of it.
    pub sweeps: u64,
    pub random: Random,
    pub counts: &'a Counts,
}

impl Writer<'_> {
    /// Writes until told to stop.
    pub fn write(&mut self, run: &Run) {
        let mut buffer = Vec::new();
        while run.goes_on() {
            match self.random.below(self.sweeps + 20) {
                0 if self.of == 1 && self.random.one_in(3) => self.clear(),
                0 => self.sweep(true, &mut buffer),
                1 => self.sweep(false, &mut buffer),
                2..8 => self.batch(&mut buffer),
                8..10 => {
                    let entry = self.any();
                    (0..20).for_each(|_| self.step(entry, &mut buffer));
                }
                _ => {
                    let entry = self.any();
                    self.step(entry, &mut buffer);
                }
            }
            if self.random.one_in(16) {
                thread::yield_now();
            }
        }
    }

    /// The number of entries that it owns.
    fn owned(&self) -> usize {
        (self.ledger.len() - self.first).div_ceil(self.of)
    }

    /// One of its entries; every other time one of a few.
    fn any(&mut self) -> usize {
        let among = if self.random.one_in(2) { 16 } else { self.owned() as u64 };
        self.first + self.random.below(among) as usize * self.of
    }

    /// Takes an entry to its next version.
    fn step(&mut self, entry: usize, buffer: &mut Vec<u8>) {
        let (key, before) = (&self.ledger.keys[entry], self.ledger.committed(entry));
        let version = before + 1;
        let was_there = self.ledger.length(entry, before).is_some();
        let stats = (self.of == 1).then(|| self.table.stats());
        self.ledger.begin(entry, version);
        if self.ledger.value(entry, version, buffer) {
            self.table.insert(key, &buffer).expect("insert");
            if let Some(stats) = stats {
                self.counts.watch(&stats, &self.table.stats());
            }
        } else {
            let removed = self.table.remove(key).expect("remove");
            assert_eq!(removed, was_there, "whether entry {entry} was there to be removed");
        }
        self.ledger.commit(entry, version);
        self.counts.changes.fetch_add(1, Relaxed);
    }

    /// Commits the next versions of some entries together; one that comes twice
    /// passes over a version.
    fn batch(&mut self, buffer: &mut Vec<u8>) {
        let size = 2 + self.random.below(40);
        let entries: Vec<_> = (0..size).map(|_| self.any()).collect();
        self.commit(&entries, |ledger, entry| ledger.begun(entry) + 1, buffer);
    }

    /// Takes all its entries to a version in which they are there, or are not.
    fn sweep(&mut self, there: bool, buffer: &mut Vec<u8>) {
        let mut entries: Vec<_> = (self.first..self.ledger.len()).step_by(self.of).collect();
        if self.random.one_in(2) {
            entries.reverse();
        }
        for some in entries.chunks(SWEEP) {
            self.commit(some, |l, entry| l.next_that(entry, l.begun(entry), there), buffer);
        }
        self.counts.sweeps.fetch_add(1, Relaxed);
    }

    /// Commits a version of each of these entries in one batch.
    fn commit(
        &mut self,
        entries: &[usize],
        next: impl Fn(&Ledger, usize) -> u64,
        buffer: &mut Vec<u8>,
    ) {
        let mut batch = Batch::new();
        for &entry in entries {
            let (key, version) = (&self.ledger.keys[entry], next(self.ledger, entry));
            // Batches are no place for values of a mebibyte, one after another.
            self.ledger.begin(entry, version);
            match self.ledger.value(entry, version, buffer) {
                true => batch.insert_into(self.table, key, &buffer).expect("add an insert"),
                false => batch.remove_from(self.table, key).expect("add a removal"),
            }
        }
        self.db.write(&batch).expect("write a batch");
        for &entry in entries {
            self.ledger.commit(entry, self.ledger.begun(entry));
        }
        self.counts.changes.fetch_add(entries.len() as u64, Relaxed);
    }

    /// Clears the table: all its entries go to a version in which they are not
    /// there.
    fn clear(&mut self) {
        let ledger = self.ledger;
        for entry in 0..ledger.len() {
            ledger.begin(entry, ledger.next_that(entry, ledger.begun(entry), false));
        }
        self.table.clear().expect("clear");
        for entry in 0..ledger.len() {
            ledger.commit(entry, ledger.begun(entry));
        }
        self.counts.clears.fetch_add(1, Relaxed);
    }
}

impl Counts {
    /// What one insert did to its table, by its numbers before and after. What
    /// compaction did at the same time is told apart where it matters: nobody
    /// else splits, and whoever drops tombstones builds a segment anew.
    pub fn watch(&self, before: &TableStats, after: &TableStats) {
        if after.segments > before.segments {
            self.splits.fetch_add(after.segments - before.segments, Relaxed);
        } else if after.segments == before.segments {
            if after.capacity > before.capacity {
                self.growths.fetch_add(1, Relaxed);
            }
            // An insert takes the place of one tombstone at most.
            if before.tombstones > after.tombstones + 1 {
                self.rebuilds.fetch_add(1, Relaxed);
            }
        }
    }
}

/// Takes checkpoints until told to stop.
pub fn take_checkpoints(db: &Db, mut random: Random, run: &Run) {
    while run.goes_on() {
        db.checkpoint().expect("checkpoint");
        thread::sleep(Duration::from_millis(random.below(30)));
    }
}

/// Compacts until told to stop; some of it is left half done.
pub fn compact(db: &Db, mut random: Random, run: &Run, counts: &Counts) {
    while run.goes_on() {
        let mut steps = [3, 30, 3_000][random.below(3) as usize];
        let progress = db.compact_with(|_| {
            steps -= 1;
            match steps > 0 && run.goes_on() {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        progress.expect("compact");
        counts.compactions.fetch_add(1, Relaxed);
        thread::sleep(Duration::from_millis(50 + random.below(300)));
    }
}
