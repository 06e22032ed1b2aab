//! Random sequences of operations against a map of the standard library.
//!
//! proptest makes the sequences and shrinks one that fails; the choices follow
//! from a printed seed (`SWISSDB_TEST_SEED=n` tries others). Reopening, killing,
//! checkpoints, clearing, batches and further tables are operations like
//! inserting; buffers and log files are the smallest there are, so that all of
//! it rolls over. A case that ever failed is kept here as a test with a name.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use swissdb::{Batch, Options, Table, TableOptions};

use crate::support::{TestStore, assert_same, pairs, seed_of_the_run, show, value};

/// The tables of a case: the default one and two others.
const TABLES: usize = 3;

/// One operation.
#[derive(Debug, Clone)]
enum Step {
    Insert(usize, u16, usize),
    Remove(usize, u16),
    /// Inserts so many entries from a number on, of a length.
    Fill(usize, u16, u16, usize),
    /// Removes so many entries from a number on.
    Thin(usize, u16, u16),
    /// Inserts (with a length) and removes in one batch.
    Batch(Vec<(usize, u16, Option<usize>)>),
    Clear(usize),
    Drop(usize),
    Checkpoint,
    Sync,
    Reopen,
    Kill,
    Compare,
}

/// What a table should hold.
type Expected = HashMap<Vec<u8>, Vec<u8>>;

/// The key of a number: mostly short, some of every kind that spills.
fn key(number: u16) -> Vec<u8> {
    let length = match number {
        0 => 0,
        1 => 32_767,
        _ => [8, 8, 8, 16, 16, 24, 40, 80, 130, 600, 5_000][number as usize % 11],
    };
    let mut key = value(number.into(), length);
    let prefix = number.to_le_bytes();
    let prefix = &prefix[..length.min(2)];
    key[..prefix.len()].copy_from_slice(prefix);
    key
}

/// Lengths of values: mostly small, some spilled, few large.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 0..40usize,
        4 => 40..140usize,
        3 => 140..3_000usize,
        1 => 3_000..70_000usize,
        1 => Just(500_000),
    ]
}

fn table() -> impl Strategy<Value = usize> {
    prop_oneof![6 => Just(0), 2 => Just(1), 1 => Just(2)]
}

fn step() -> impl Strategy<Value = Step> {
    let short = prop_oneof![0..60usize, 0..60usize, 60..300usize];
    let operation = (table(), 0..200u16, proptest::option::weighted(0.7, length()));
    prop_oneof![
        20 => (table(), 0..200u16, length()).prop_map(|(t, k, n)| Step::Insert(t, k, n)),
        8 => (table(), 0..200u16).prop_map(|(t, k)| Step::Remove(t, k)),
        5 => (table(), 0..3_000u16, 1..400u16, short).prop_map(|(t, k, c, n)| Step::Fill(t, k, c, n)),
        4 => (table(), 0..3_000u16, 1..400u16).prop_map(|(t, k, c)| Step::Thin(t, k, c)),
        5 => proptest::collection::vec(operation, 0..30).prop_map(Step::Batch),
        1 => table().prop_map(Step::Clear),
        1 => (1..TABLES).prop_map(Step::Drop),
        3 => Just(Step::Checkpoint),
        1 => Just(Step::Sync),
        3 => Just(Step::Reopen),
        4 => Just(Step::Kill),
        2 => Just(Step::Compare),
    ]
}

/// A store beside what it should hold.
struct Pair {
    store: TestStore,
    expected: [Expected; TABLES],
    payload: usize,
    /// Distinguishes the values of different operations.
    serial: u64,
}

impl Pair {
    fn table(&self, number: usize) -> Table {
        // Another payload than the store's own, so that they are not mixed up.
        let options = TableOptions::new().payload(if self.payload == 24 { 120 } else { 24 });
        self.store.create_table(&format!("t{number}"), &options).expect("table")
    }

    /// A value nobody else has written, of this length.
    fn fresh(&mut self, length: usize) -> Vec<u8> {
        self.serial += 1;
        value(self.serial, length)
    }

    fn insert(&mut self, table: usize, number: u16, length: usize) {
        let (key, value) = (key(number), self.fresh(length));
        match table {
            0 => self.store.insert(&key, &value).expect("insert"),
            _ => self.table(table).insert(&key, &value).expect("insert"),
        }
        self.expected[table].insert(key, value);
    }

    fn remove(&mut self, table: usize, number: u16) {
        let key = key(number);
        let removed = match table {
            0 => self.store.remove(&key).expect("remove"),
            _ => self.table(table).remove(&key).expect("remove"),
        };
        let expected = self.expected[table].remove(&key).is_some();
        assert_eq!(removed, expected, "removing {} from table {table}", show(&key));
    }

    fn batch(&mut self, operations: &[(usize, u16, Option<usize>)]) {
        let mut batch = Batch::new();
        for &(table, number, length) in operations {
            let key = key(number);
            let inserted = length.map(|length| self.fresh(length));
            match (table, &inserted) {
                (0, Some(value)) => batch.insert(&key, value),
                (0, None) => batch.remove(&key),
                (_, Some(value)) => batch.insert_into(&self.table(table), &key, value),
                (_, None) => batch.remove_from(&self.table(table), &key),
            }
            .expect("add to the batch");
            match inserted {
                Some(value) => self.expected[table].insert(key, value),
                None => self.expected[table].remove(&key),
            };
        }
        self.store.write(&batch).expect("write");
    }

    fn clear(&mut self, table: usize) {
        match table {
            0 => self.store.clear().expect("clear"),
            _ => self.table(table).clear().expect("clear"),
        }
        self.expected[table].clear();
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Insert(table, number, length) => self.insert(*table, *number, *length),
            Step::Remove(table, number) => self.remove(*table, *number),
            Step::Fill(table, first, count, length) => {
                (*first..first + count).for_each(|number| self.insert(*table, number, *length));
            }
            Step::Thin(table, first, count) => {
                (*first..first + count).for_each(|number| self.remove(*table, number));
            }
            Step::Batch(operations) => self.batch(operations),
            Step::Clear(table) => self.clear(*table),
            Step::Drop(table) => {
                self.store.drop_table(&format!("t{table}")).expect("drop");
                self.expected[*table].clear();
            }
            Step::Checkpoint => self.store.checkpoint().expect("checkpoint"),
            Step::Sync => self.store.sync().expect("sync"),
            Step::Reopen => self.store.reopen(),
            Step::Kill => self.store.kill(),
            Step::Compare => self.compare(),
        }
        assert_eq!(self.store.len(), self.expected[0].len() as u64, "entries after {step:?}");
    }

    /// Fails unless every table holds what it should, by lookup and iteration.
    fn compare(&self) {
        for (number, expected) in self.expected.iter().enumerate() {
            let table = if number == 0 {
                self.store.table("default").expect("the default table")
            } else {
                self.table(number)
            };
            assert_eq!(table.len(), expected.len() as u64, "entries of table {number}");
            for (key, value) in expected {
                let found = table.get(key).expect("get");
                assert_eq!(found.as_deref().map(show), Some(show(value)), "of {}", show(key));
                assert!(found.as_deref() == Some(value), "all of {}", show(key));
            }
            assert_same(pairs(table.iter()), &expected.clone().into_iter().collect());
        }
    }
}

/// Takes the steps in a new store and compares at the end, after a kill, and
/// after closing.
fn replay(on_disk: bool, payload: usize, steps: &[Step]) {
    let options = Options::new().payload(payload).write_buffer(1 << 20).max_log_file(1 << 20);
    let store = match on_disk {
        true => TestStore::on_disk(options),
        false => TestStore::in_memory(options),
    };
    let expected = std::array::from_fn(|_| Expected::new());
    let mut pair = Pair { store, expected, payload, serial: 1 << 40 };
    steps.iter().for_each(|step| pair.take(step));
    for step in [Step::Compare, Step::Kill, Step::Compare, Step::Reopen, Step::Compare] {
        pair.take(&step);
    }
}

/// Replays random cases; the first that fails is shrunk and printed.
fn random_cases(on_disk: bool, cases: u32, seed: u64) {
    let seed = seed ^ seed_of_the_run();
    eprintln!("seed of the random cases: {seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config =
        Config { cases, failure_persistence: None, max_shrink_time: 120_000, ..Config::default() };
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let payloads = prop_oneof![Just(24usize), Just(56), Just(504)];
    let strategy = (payloads, proptest::collection::vec(step(), 1..40));
    let result = TestRunner::new_with_rng(config, random).run(&strategy, |(payload, steps)| {
        replay(on_disk, payload, &steps);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

#[test]
fn random_operations_in_memory_agree_with_a_map() {
    random_cases(false, 24, 41);
}

#[test]
fn random_operations_on_disk_agree_with_a_map() {
    random_cases(true, 12, 42);
}

#[test]
fn every_kind_of_operation_once_agrees_with_a_map() {
    let steps = [
        Step::Fill(0, 0, 300, 30),
        Step::Fill(1, 0, 100, 200),
        Step::Batch(vec![(0, 5, Some(20)), (1, 5, Some(2_000)), (2, 5, None), (2, 6, Some(0))]),
        Step::Kill,
        Step::Thin(0, 50, 200),
        Step::Checkpoint,
        Step::Insert(2, 1, 500_000),
        Step::Sync,
        Step::Remove(1, 7),
        Step::Reopen,
        Step::Clear(1),
        Step::Drop(2),
        Step::Kill,
        Step::Compare,
        Step::Insert(2, 0, 10),
    ];
    for payload in [24, 56, 504] {
        replay(true, payload, &steps);
        replay(false, payload, &steps);
    }
}
