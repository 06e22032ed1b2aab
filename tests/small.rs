//! A store in memory so small that an interpreter can run all of it.
//!
//! Goal: Miri, which checks every access of the program against the rules of
//! the language, sees a whole store at work: commits, growth, spilled values,
//! readers and iterators beside a writer, checkpoints, cleaning, clear, close.
//! Method: a few entries, no files, no more threads than are needed. Run as
//! any other test, it takes a moment; under Miri (`.ci/sanitizers store`) a
//! long time, for it makes all memory of a store word by word.

use std::sync::atomic::{AtomicBool, Ordering};

use swissdb::{Batch, Db, Options};

use crate::support::{Model, assert_clean, assert_holds, key, value};

/// Entries: some hundred, or as many as Miri has the patience for.
const ENTRIES: u64 = if cfg!(miri) { 40 } else { 400 };

fn open() -> Db {
    let options = Options::new().write_buffer(1 << 20).max_log_file(1 << 20);
    options.in_memory().expect("a store in memory")
}

/// In the slot, and in the log: the value, or the key with it.
fn entry(i: u64, round: u64) -> (Vec<u8>, Vec<u8>) {
    let mut key = key(i);
    if i.is_multiple_of(5) {
        key.resize(120, b'.');
    }
    (key, value(i * 1_000 + round, [12, 30, 90, 300][(i % 4) as usize]))
}

#[test]
fn a_small_store_in_memory_does_all_that_a_store_does() {
    let db = open();
    let table = db.table("second").expect("a table");
    let mut model = Model::new();
    for round in 0..2 {
        for i in 0..ENTRIES {
            let (key, value) = entry(i, round);
            db.insert(&key, &value).expect("insert");
            model.insert(key, value);
        }
        let mut batch = Batch::new();
        for i in (round..ENTRIES).step_by(3) {
            let (key, value) = entry(i, round);
            batch.remove(&key).expect("add to the batch");
            batch.insert_into(&table, &key, &value).expect("add to the batch");
            model.remove(&key);
        }
        db.write(&batch).expect("write");
        db.checkpoint().expect("checkpoint");
        assert_holds(&db, &model);
    }
    assert!(db.compact().expect("compact").finished);
    assert_holds(&db, &model);
    assert_clean(&db);
    table.clear().expect("clear");
    assert!(table.is_empty() && table.iter().next().is_none());
    assert!(db.drop_table("second").expect("drop"));
    db.close().expect("close");
}

#[test]
fn readers_of_a_small_store_see_what_was_written_while_it_changes() {
    let db = open();
    (0..ENTRIES).for_each(|i| {
        let (key, value) = entry(i, 0);
        db.insert(key, value).expect("insert");
    });
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (db, over) = (&db, &over);
        scope.spawn(move || {
            for i in (0..ENTRIES).cycle() {
                let (key, _) = entry(i, 0);
                let valid = |bytes: &[u8]| (0..3).any(|round| entry(i, round).1 == bytes);
                assert_eq!(db.get_with(&key, valid).expect("get_with"), Some(true), "entry {i}");
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let entries = db.iter().map(|entry| entry.expect("an entry"));
                assert_eq!(entries.count() as u64, ENTRIES);
            }
        });
        for round in 1..3 {
            for i in 0..ENTRIES {
                let (key, value) = entry(i, round);
                db.insert(key, value).expect("insert");
            }
            db.checkpoint().expect("checkpoint");
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(db.len(), ENTRIES);
    db.close().expect("close");
}
