//! What the threads of a child do to its store, and what is there afterwards.
//!
//! Each thread has entries of its own, in tables that all of them write, and a
//! table of its own that it clears and drops; what its change number `i` does
//! follows from the seed, the thread and `i` alone. So the parent knows what a
//! store holds after so many changes of each thread. Beside that all threads
//! overwrite a few common entries, whose values say who wrote them, and when.

use std::collections::BTreeMap;

use swissdb::{Batch, Db, Options, TableOptions};

use crate::support::{Model, Random, value};

/// Threads that write.
pub const THREADS: u64 = 4;
/// The tables in which every thread has entries: one with small slots, one
/// with large ones.
pub const SHARED: [&str; 3] = ["default", "second", "third"];
/// The table of the common entries.
pub const COMMON: &str = "common";
/// Entries of a thread in each table, at most.
const KEYS: u64 = 60;
/// Common entries.
const COMMON_KEYS: u64 = 12;
/// Changes beyond this length of value are rare.
const LENGTHS: [usize; 8] = [0, 10, 30, 80, 300, 1_500, 6_000, 40_000];
/// A value that gets a log file of its own.
const HUGE: usize = (1 << 20) + 5_000;

/// Small log files, and little memory: all that runs beside the writers does
/// so often.
pub fn options() -> Options {
    Options::new().write_buffer(1 << 20).max_log_file(1 << 20)
}

/// The table that only one thread writes.
pub fn own_table(thread: u64) -> String {
    format!("own-{thread}")
}

/// All tables.
pub fn tables() -> Vec<String> {
    let shared = SHARED.iter().copied().chain([COMMON]).map(str::to_owned);
    shared.chain((0..THREADS).map(own_table)).collect()
}

/// One entry of a change: its table, its key, and its value if it is inserted.
type Step = (String, Vec<u8>, Option<Vec<u8>>);

/// What a change does.
pub enum Change {
    /// One insert or remove.
    One(Step),
    /// A batch of them, over several tables.
    Many(Vec<Step>),
    /// Inserts a common entry.
    Common(Vec<u8>, Vec<u8>),
    /// Clears the thread's own table.
    Clear(String),
    /// Drops the thread's own table.
    Drop(String),
}

/// Change number `i` of a thread.
pub fn change(seed: u64, thread: u64, i: u64) -> Change {
    let mut random = Random::unprinted(seed ^ (thread << 56) ^ i.wrapping_mul(0x9E37_79B9));
    match random.below(64) {
        0 => Change::Clear(own_table(thread)),
        1 => Change::Drop(own_table(thread)),
        2..10 => {
            let (key, number) = (random.below(COMMON_KEYS), i * THREADS + thread);
            let mut bytes = number.to_le_bytes().to_vec();
            bytes.extend(value(number, [4, 900][(key % 2) as usize]));
            Change::Common(format!("common-{key}").into_bytes(), bytes)
        }
        10..20 => {
            let steps = 2 + random.below(30);
            Change::Many((0..steps).map(|_| step(&mut random, thread)).collect())
        }
        20 if random.one_in(8) => {
            let (table, key, _) = step(&mut random, thread);
            Change::One((table, key, Some(value(random.next(), HUGE))))
        }
        _ => Change::One(step(&mut random, thread)),
    }
}

/// One insert or remove.
fn step(random: &mut Random, thread: u64) -> Step {
    let table = match random.below(4) {
        3 => own_table(thread),
        shared => SHARED[shared as usize].to_owned(),
    };
    let number = random.below(KEYS);
    let mut key = format!("thread {thread} key {number} ").into_bytes();
    if number.is_multiple_of(7) {
        // Too long for any slot.
        key.resize(700, b'.');
    }
    let length = LENGTHS[random.below(8).min(random.below(8)) as usize];
    let insert = !random.one_in(4);
    (table, key, insert.then(|| value(random.next(), length)))
}

/// Opens the tables that are never dropped.
pub fn open_tables(db: &Db) -> swissdb::Result<()> {
    db.create_table("second", &TableOptions::new().payload(24))?;
    db.create_table("third", &TableOptions::new().payload(504))?;
    db.table(COMMON).map(drop)
}

/// Makes a change.
pub fn make(db: &Db, change: &Change) -> swissdb::Result<()> {
    match change {
        Change::One((table, key, Some(value))) => db.table(table)?.insert(key, value),
        Change::One((table, key, None)) => db.table(table)?.remove(key).map(drop),
        Change::Many(steps) => {
            let mut batch = Batch::new();
            for (table, key, value) in steps {
                let table = db.table(table)?;
                match value {
                    Some(value) => batch.insert_into(&table, key, value)?,
                    None => batch.remove_from(&table, key)?,
                }
            }
            db.write(&batch)
        }
        Change::Common(key, value) => db.table(COMMON)?.insert(key, value),
        Change::Clear(table) => db.table(table)?.clear(),
        Change::Drop(table) => db.drop_table(table).map(drop),
    }
}

/// What one thread has in all tables. A table that was dropped is one without
/// entries.
#[derive(Clone, Default, PartialEq)]
pub struct Holdings {
    /// The entries of the thread alone, by table.
    pub tables: BTreeMap<String, Model>,
    /// For each common entry the last number under which it was written.
    pub common: BTreeMap<Vec<u8>, u64>,
}

impl Holdings {
    /// Applies a change.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::One(step) => self.step(step),
            Change::Many(steps) => steps.into_iter().for_each(|step| self.step(step)),
            Change::Common(key, value) => _ = self.common.insert(key, number_of(&value)),
            Change::Clear(table) | Change::Drop(table) => _ = self.tables.remove(&table),
        }
    }

    fn step(&mut self, (table, key, value): Step) {
        let entries = self.tables.entry(table.clone()).or_default();
        match value {
            Some(value) => _ = entries.insert(key, value),
            None => _ = entries.remove(&key),
        }
        if entries.is_empty() {
            self.tables.remove(&table);
        }
    }
}

/// Under which number a common entry was written.
pub fn number_of(value: &[u8]) -> u64 {
    u64::from_le_bytes(*value.first_chunk().expect("a number"))
}

/// What a store holds, by thread, and the common entries.
pub fn found(db: &Db) -> (Vec<Holdings>, Model) {
    let mut threads = vec![Holdings::default(); THREADS as usize];
    let mut common = Model::new();
    for name in db.tables().expect("the names of the tables") {
        let table = db.table(&name).expect("a table");
        let mut entries = 0;
        for entry in table.iter() {
            let (key, value) = entry.expect("an entry");
            assert_eq!(table.get(&key).expect("get").as_ref(), Some(&value), "found by lookup too");
            entries += 1;
            let (key, value) = (key.into_vec(), value.into_vec());
            if name == COMMON {
                assert!(common.insert(key, value).is_none(), "an entry came twice");
                continue;
            }
            let thread = usize::from(key[7] - b'0');
            let held = threads[thread].tables.entry(name.clone()).or_default();
            assert!(held.insert(key, value).is_none(), "an entry came twice");
        }
        assert_eq!(entries, table.len(), "entries of {name}");
    }
    (threads, common)
}
