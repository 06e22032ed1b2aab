//! Readers of values whose log files go away under them.
//!
//! Goal: whoever looks up an entry finds it, however fast its value moves from
//! one log file to the next and the old file is retired. Method: a few entries
//! with spilled keys and values are overwritten all the time, with checkpoints
//! that let the old files go at once, or compacted again and again, while
//! others read and iterate. Nothing is damaged here, so nobody may say so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use swissdb::Db;

use crate::support::{TestStore, value};

/// Entries of a test.
const ENTRIES: u64 = 40;

/// How long readers and writers meet.
const TIME: Duration = Duration::from_secs(2);

/// A key that spills.
fn key(i: u64) -> Vec<u8> {
    value(i, 4_000)
}

/// A value that says whose it is.
fn value_of(i: u64, round: u64) -> Vec<u8> {
    let mut bytes = value(i * 1_000_003 + round, 20_000);
    bytes[..8].copy_from_slice(&i.to_le_bytes());
    bytes
}

fn assert_value(i: u64, bytes: &[u8]) {
    assert_eq!((bytes.len(), &bytes[..8]), (20_000, &i.to_le_bytes()[..]), "the value of {i}");
}

/// Reads and iterates until it is over, while `write` writes.
fn beside_readers(write: impl Fn(&Db, u64)) {
    let store = TestStore::in_memory(super::options());
    (0..ENTRIES).for_each(|i| store.insert(key(i), value_of(i, 0)).expect("insert"));
    let keys: Vec<_> = (0..ENTRIES).map(key).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (db, keys, done) = (&*store, &keys, &done);
        let read = move || {
            let mut reads = 0u64;
            while !done.load(Ordering::Relaxed) {
                for (i, key) in keys.iter().enumerate() {
                    let found = db.get_with(key, |bytes| assert_value(i as u64, bytes));
                    assert!(found.expect("get_with").is_some(), "entry {i} is missing");
                    reads += 1;
                }
            }
            reads
        };
        let iterate = move || {
            let mut rounds = 0u64;
            while !done.load(Ordering::Relaxed) {
                let entries = db.iter().map(|entry| entry.expect("an entry"));
                assert_eq!(entries.count() as u64, ENTRIES, "entries of an iteration");
                rounds += 1;
            }
            rounds
        };
        let readers = [scope.spawn(read), scope.spawn(iterate)];
        let start = Instant::now();
        for round in 1.. {
            // Readers that have failed are told of below.
            if start.elapsed() > TIME || readers.iter().any(|reader| reader.is_finished()) {
                break;
            }
            write(db, round);
        }
        done.store(true, Ordering::Relaxed);
        let counts = readers.map(|reader| reader.join().expect("a reader"));
        eprintln!("{} reads, {} iterations", counts[0], counts[1]);
    });
}

#[test]
fn readers_find_every_entry_while_values_are_overwritten_and_files_retired() {
    beside_readers(|db, round| {
        for i in 0..ENTRIES {
            db.insert(key(i), value_of(i, round)).expect("insert");
        }
        db.checkpoint().expect("checkpoint");
    });
}

#[test]
fn readers_find_every_entry_while_the_cleaner_moves_it() {
    beside_readers(|db, round| {
        // Half of what lies in the log is garbage, the other half has to move.
        for i in (0..ENTRIES).filter(|i| (i + round) % 2 == 0) {
            db.insert(key(i), value_of(i, round)).expect("insert");
        }
        db.compact().expect("compact");
    });
}
