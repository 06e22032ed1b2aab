//! Readers, iterators and writers at the same time (a smoke test; the memory
//! model itself is checked beside the code that depends on it).
//!
//! Every value says which entry and which version it is and is filled with
//! bytes that follow from both, so that a torn, stale or foreign one is found
//! by looking at it. Sizes alternate between inline and spilled, buffers are
//! the smallest there are, and checkpoints run beside it all.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use swissdb::{Db, Durability, Error, Options};

use crate::support::{Model, Random, TestStore, assert_clean, assert_holds, key, show, value};

fn small() -> Options {
    Options::new().payload(104).write_buffer(1 << 20).max_log_file(1 << 20)
}

#[test]
fn handles_may_be_used_by_any_thread_and_be_printed_as_may_what_they_give() {
    use std::fmt::Debug;

    fn shared<T: Send + Sync + Debug + 'static>() {}
    fn sent<T: Send + Debug + 'static>() {}
    shared::<Db>();
    shared::<swissdb::Table>();
    shared::<swissdb::Snapshot>();
    shared::<swissdb::Batch>();
    shared::<swissdb::Value>();
    shared::<swissdb::Cursor>();
    shared::<Error>();
    sent::<swissdb::Iter>();
    sent::<swissdb::Scan>();
}

/// The value of an entry in a version: both numbers, then what follows from them.
fn versioned(entry: u64, version: u64) -> Vec<u8> {
    let length = [10, 60, 300, 0][(version % 4) as usize];
    let mut bytes = entry.to_le_bytes().to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(value(entry << 32 | version, length));
    bytes
}

/// The version of a value; fails if it is not a value of this entry.
fn version_of(entry: u64, bytes: &[u8]) -> u64 {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    assert!(bytes.len() >= 16, "{} of entry {entry}", show(bytes));
    let version = number(8);
    assert_eq!(bytes, versioned(entry, version), "a value of entry {entry} as written");
    version
}

/// Reads random entries until told to stop: each is there, whole, and never
/// older than what this reader has seen of it before.
fn read_until(stop: &AtomicBool, db: &Db, entries: u64, seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let mut newest = vec![0; entries as usize];
    let mut reads = 0;
    while !stop.load(Ordering::Relaxed) || reads < 1_000 {
        let entry = random.below(entries);
        let version = match reads % 3 {
            0 => db.get_with(key(entry), |bytes| version_of(entry, bytes)).expect("get_with"),
            _ => db.get(key(entry)).expect("get").map(|bytes| version_of(entry, &bytes)),
        };
        let version = version.unwrap_or_else(|| panic!("entry {entry} is missing"));
        assert!(version >= newest[entry as usize], "entry {entry} went back in time");
        newest[entry as usize] = version;
        assert!(!db.contains_key(format!("absent {entry}")).expect("contains_key"));
        reads += 1;
    }
    reads
}

#[test]
fn readers_beside_a_writer_see_only_values_that_were_written() {
    const ENTRIES: u64 = 400;
    for store in [TestStore::on_disk(small()), TestStore::in_memory(small().payload(504))] {
        for entry in 0..ENTRIES {
            store.insert(key(entry), versioned(entry, 0)).expect("insert");
        }
        let stop = AtomicBool::new(false);
        let mut model = Model::new();
        thread::scope(|scope| {
            for reader in 0..2 {
                let (stop, db) = (&stop, (*store).clone());
                scope.spawn(move || read_until(stop, &db, ENTRIES, reader));
            }
            let mut random = Random::new(21);
            // Whatever happens here, the readers must end.
            let writing = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for step in 1..=8_000 {
                    let entry = random.below(ENTRIES);
                    store.insert(key(entry), versioned(entry, step)).expect("insert");
                    model.insert(key(entry), versioned(entry, step));
                    // New entries make segments grow and split under the readers.
                    store.insert(format!("other {step}"), value(step, 30)).expect("insert");
                    if step % 2_000 == 0 {
                        store.checkpoint().expect("checkpoint");
                    }
                }
            }));
            stop.store(true, Ordering::Relaxed);
            writing.expect("the writer");
        });
        for (key, value) in &model {
            assert_eq!(store.get(key).expect("get").as_deref(), Some(&value[..]));
        }
        assert_eq!(store.len(), ENTRIES + 8_000);
    }
}

#[test]
fn entries_that_nobody_touches_are_iterated_once_beside_a_writer() {
    let store = TestStore::on_disk(small());
    for entry in 0..500 {
        store.insert(key(entry), versioned(entry, 0)).expect("insert");
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let db = (*store).clone();
        let stop = &stop;
        scope.spawn(move || {
            let mut step = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let other = 1_000 + step * 7 % 4_000;
                if step % 3 == 2 {
                    db.remove(key(other)).expect("remove");
                } else {
                    db.insert(key(other), versioned(other, step)).expect("insert");
                }
                step += 1;
            }
        });
        let iterating = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..12 {
                let mut seen = BTreeSet::new();
                for entry in store.iter() {
                    let (key, bytes) = entry.expect("an entry");
                    let entry = String::from_utf8_lossy(&key[4..]).parse().expect("a number");
                    version_of(entry, &bytes);
                    assert!(seen.insert(entry), "entry {entry} came twice in round {round}");
                }
                assert!((0..500).all(|entry| seen.contains(&entry)), "round {round}");
            }
        }));
        stop.store(true, Ordering::Relaxed);
        iterating.expect("the iterations");
    });
}

#[test]
fn writers_in_several_threads_lose_nothing() {
    let mut store = TestStore::on_disk(small());
    thread::scope(|scope| {
        for writer in 0..4 {
            let db = (*store).clone();
            scope.spawn(move || {
                for i in 0..1_000 {
                    db.insert(key(writer * 10_000 + i), value(i, 50)).expect("insert");
                    if i % 3 == 2 {
                        assert!(db.remove(key(writer * 10_000 + i)).expect("remove"));
                    }
                }
            });
        }
    });
    let model: Model = (0..4)
        .flat_map(|writer| (0..1_000).map(move |i| (writer, i)))
        .filter(|(_, i)| i % 3 != 2)
        .map(|(writer, i)| (key(writer * 10_000 + i), value(i, 50)))
        .collect();
    assert_holds(&store, &model);
    store.kill();
    assert_holds(&store, &model);
}

#[test]
fn durable_commits_of_several_threads_share_syncs_and_are_durable() {
    let store = TestStore::on_disk(small().durability(Durability::Sync));
    let highest = AtomicU64::new(0);
    thread::scope(|scope| {
        for writer in 0..4 {
            let (db, highest) = ((*store).clone(), &highest);
            scope.spawn(move || {
                for i in 0..25 {
                    db.insert(key(writer * 100 + i), "v").expect("insert");
                    highest.fetch_max(db.stats().durable_commit, Ordering::Relaxed);
                }
            });
        }
    });
    let stats = store.stats();
    assert_eq!(stats.durable_commit, stats.commits);
    assert!(highest.load(Ordering::Relaxed) <= stats.commits);
    assert!(stats.sync_waits > 0 && stats.sync_waits <= 100, "{} waits", stats.sync_waits);
    assert!(stats.sync_wait_time > Duration::ZERO);
    assert_eq!(store.len(), 100);
}

#[test]
fn a_closure_that_is_lent_a_value_may_use_the_store() {
    let store = TestStore::on_disk(small());
    store.insert("a", value(1, 5_000)).expect("insert");
    store.insert("b", value(2, 5_000)).expect("insert");
    let equal = store.get_with("a", |a| {
        let nested = store.get_with("b", |b| b.len()).expect("get_with").expect("b");
        let copied = store.get("b").expect("get").expect("b");
        a.len() == nested && a != &copied[..] && a == value(1, 5_000)
    });
    assert_eq!(equal.expect("get_with"), Some(true));
    assert_holds(
        &store,
        &Model::from([(b"a".to_vec(), value(1, 5_000)), (b"b".to_vec(), value(2, 5_000))]),
    );
}

#[test]
fn a_closure_that_panics_does_no_harm() {
    let store = TestStore::in_memory(small());
    for length in [5, 5_000] {
        store.insert("a", value(1, length)).expect("insert");
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            store.get_with("a", |_| panic!("of the caller's own"))
        }));
        assert!(result.is_err());
        store.insert("b", value(2, length)).expect("insert");
        assert_eq!(store.get("a").expect("get").as_deref(), Some(&value(1, length)[..]));
        store.checkpoint().expect("checkpoint");
    }
}

#[test]
fn readers_beside_clear_see_an_entry_whole_or_not_at_all() {
    let store = TestStore::in_memory(small());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for reader in 0..2 {
            let (stop, db) = (&stop, (*store).clone());
            scope.spawn(move || {
                let mut random = Random::new(reader);
                while !stop.load(Ordering::Relaxed) {
                    let entry = random.below(100);
                    if let Some(bytes) = db.get(key(entry)).expect("get") {
                        version_of(entry, &bytes);
                    }
                }
            });
        }
        let writing = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..60 {
                for entry in 0..100 {
                    store.insert(key(entry), versioned(entry, round)).expect("insert");
                }
                store.clear().expect("clear");
                assert!(store.get(key(round)).expect("get").is_none());
            }
        }));
        stop.store(true, Ordering::Relaxed);
        writing.expect("the writer");
    });
    assert!(store.is_empty());
}

#[test]
fn tables_may_be_dropped_under_their_readers() {
    let store = TestStore::on_disk(small());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (stop_reading, db) = (&stop, (*store).clone());
        scope.spawn(move || {
            while !stop_reading.load(Ordering::Relaxed) {
                // It reads while it can; the handle of a dropped table says so.
                let table = match db.table("t") {
                    Ok(table) => table,
                    Err(Error::NotFound { .. }) => continue,
                    Err(other) => panic!("{other}"),
                };
                for entry in 0..50 {
                    match table.get(key(entry)) {
                        Ok(Some(bytes)) => drop(version_of(entry, &bytes)),
                        Ok(None) | Err(Error::NotFound { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            }
        });
        let writing = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..15 {
                let table = store.table("t").expect("table");
                for entry in 0..50 {
                    table.insert(key(entry), versioned(entry, round)).expect("insert");
                }
                assert!(store.drop_table("t").expect("drop"));
            }
        }));
        stop.store(true, Ordering::Relaxed);
        writing.expect("the writer");
    });
}

#[test]
fn verifying_beside_a_writer_finds_nothing() {
    // Log files are filled, recycled and removed while the store is verified.
    let store = TestStore::on_disk(small());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (stop_writing, db) = (&stop, (*store).clone());
        scope.spawn(move || {
            let mut step = 0u64;
            while !stop_writing.load(Ordering::Relaxed) {
                db.insert(key(step % 50), value(step, 20_000)).expect("insert");
                if step % 100 == 99 {
                    db.checkpoint().expect("checkpoint");
                }
                step += 1;
            }
        });
        let verifying = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..200 {
                assert_clean(&store);
                // A moment for the writer, who waits for the same lock.
                thread::sleep(Duration::from_millis(3));
            }
        }));
        stop.store(true, Ordering::Relaxed);
        verifying.expect("the verifications");
    });
}
