//! Live bytes are exact, and nothing is lost, after every step of a random run
//! of everything there is: inserts of every size, removals, batches, clearing,
//! tables that come and go, checkpoints, compaction, cancelled compaction,
//! closing, and kills, while the store's own threads clean and shrink.
//!
//! After each step the whole store is verified, which counts the live bytes of
//! every log file again. `SWISSDB_TEST_SEED=n` makes other runs. A run that
//! ever failed is kept with a name.

use std::ops::ControlFlow;

use swissdb::{Batch, Options, Table, TableOptions};

use crate::support::{Model, Random, TestStore, assert_clean, assert_same, pairs, show, value};

/// The tables of a run: the default one and two others.
const TABLES: u64 = 3;
/// Keys of a table that single writes choose from.
const KEYS: u64 = 150;

/// A store beside what it should hold.
struct Run {
    store: TestStore,
    models: Vec<Model>,
    random: Random,
    serial: u64,
}

/// The key of a number: mostly short, some spill.
fn key(i: u64) -> Vec<u8> {
    let length = [8, 8, 8, 16, 16, 24, 40, 80, 130, 600, 5_000][i as usize % 11];
    let mut key = value(i, length);
    key[..8].copy_from_slice(&i.to_le_bytes());
    key
}

impl Run {
    fn new(store: TestStore, seed: u64) -> Run {
        let models = (0..TABLES).map(|_| Model::new()).collect();
        Run { store, models, random: Random::new(seed), serial: 0 }
    }

    fn table(&self, number: usize) -> Table {
        let options = TableOptions::new().payload([56, 24, 200][number]);
        match number {
            0 => self.store.table("default").expect("the default table"),
            _ => self.store.create_table(&format!("t{number}"), &options).expect("a table"),
        }
    }

    fn some_table(&mut self) -> usize {
        [0, 0, 0, 1, 1, 2][self.random.below(6) as usize]
    }

    /// A value that nobody else has written.
    fn some_value(&mut self) -> Vec<u8> {
        self.serial += 1;
        let short = self.random.below(100) as usize;
        let length = match self.random.below(40) {
            0..20 => short,
            20..34 => short * 30,
            34..39 => short * 1_000,
            _ => (1 << 20) + short * 1_000,
        };
        value(self.serial, length)
    }

    fn insert(&mut self, number: usize, i: u64, value: Vec<u8>) {
        self.table(number).insert(key(i), &value).expect("insert");
        self.models[number].insert(key(i), value);
    }

    fn remove(&mut self, number: usize, i: u64) {
        let removed = self.table(number).remove(key(i)).expect("remove");
        let expected = self.models[number].remove(&key(i)).is_some();
        assert_eq!(removed, expected, "whether {i} was in table {number}");
    }

    fn batch(&mut self) {
        let mut batch = Batch::new();
        for _ in 0..self.random.below(40) {
            let (number, i) = (self.some_table(), self.random.below(KEYS));
            let table = self.table(number);
            if self.random.one_in(3) {
                batch.remove_from(&table, key(i)).expect("add to the batch");
                self.models[number].remove(&key(i));
            } else {
                let value = self.some_value();
                batch.insert_into(&table, key(i), &value).expect("add to the batch");
                self.models[number].insert(key(i), value);
            }
        }
        self.store.write(&batch).expect("write");
    }

    /// Overwrites a few entries so often that the log has to be cleaned.
    fn churn(&mut self) {
        let number = self.some_table();
        for _ in 0..60 {
            let i = self.random.below(8);
            self.serial += 1;
            let value = value(self.serial, 60_000);
            self.insert(number, i, value);
        }
    }

    /// Fills a table, or thins it out so that it shrinks.
    fn many(&mut self, insert: bool) {
        let (number, first) = (self.some_table(), 1_000 + self.random.below(2_000));
        for i in first..first + 800 {
            if insert {
                self.insert(number, i, value(i, (i % 50) as usize));
            } else if !i.is_multiple_of(37) {
                self.remove(number, i);
            }
        }
    }

    fn clear(&mut self) {
        let number = self.some_table();
        self.table(number).clear().expect("clear");
        self.models[number].clear();
    }

    fn drop_table(&mut self) {
        let number = 1 + self.random.below(TABLES - 1) as usize;
        self.store.drop_table(&format!("t{number}")).expect("drop");
        self.models[number].clear();
    }

    /// Compacts, or begins to.
    fn compact(&mut self) {
        let calls = if self.random.one_in(2) { self.random.below(6) } else { u64::MAX };
        let mut left = calls;
        let compacted = self.store.compact_with(|_| {
            left = left.saturating_sub(1);
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        compacted.expect("compact");
    }

    fn step(&mut self) -> &'static str {
        let (number, i) = (self.some_table(), self.random.below(KEYS));
        match self.random.below(40) {
            0..12 => {
                let value = self.some_value();
                self.insert(number, i, value);
                "insert"
            }
            12..17 => (self.remove(number, i), "remove").1,
            17..21 => (self.batch(), "batch").1,
            21..24 => (self.churn(), "churn").1,
            24..26 => (self.many(true), "fill").1,
            26..28 => (self.many(false), "thin").1,
            28 => (self.clear(), "clear").1,
            29 => (self.drop_table(), "drop a table").1,
            30..32 => (self.store.checkpoint().expect("checkpoint"), "checkpoint").1,
            32..35 => (self.compact(), "compact").1,
            35..37 => (self.store.reopen(), "reopen").1,
            _ => (self.store.kill(), "kill").1,
        }
    }

    /// Fails unless every table holds what it should.
    fn compare(&self, after: &str) {
        for (number, model) in self.models.iter().enumerate() {
            let table = self.table(number);
            assert_eq!(table.len(), model.len() as u64, "table {number} after {after}");
            for (key, value) in model {
                let found = table.get(key).expect("get");
                assert!(found.as_deref() == Some(value), "{} after {after}", show(key));
            }
            assert_same(pairs(table.iter()), model);
        }
    }

    fn take(&mut self, steps: u64) {
        let mut taken = Vec::new();
        for number in 0..steps {
            let name = self.step();
            taken.push(name);
            let report = self.store.verify().expect("verify");
            for violation in &report.violations {
                eprintln!("{violation:?}");
            }
            assert!(report.is_clean(), "after step {number} of {taken:?}");
            if number % 6 == 5 {
                self.compare(name);
            }
        }
        self.store.kill();
        self.compare("the last kill");
        assert_clean(&self.store);
    }
}

fn options(payload: usize) -> Options {
    Options::new().payload(payload).write_buffer(1 << 20).max_log_file(1 << 20)
}

#[test]
fn live_bytes_are_exact_after_every_step_in_memory() {
    for seed in 0..8 {
        let payload = [56, 24, 504][seed as usize % 3];
        Run::new(TestStore::in_memory(options(payload)), 961 + seed).take(60);
    }
}

#[test]
fn live_bytes_are_exact_after_every_step_on_disk() {
    for seed in 0..3 {
        Run::new(TestStore::on_disk(options(56)), 981 + seed).take(50);
    }
}
