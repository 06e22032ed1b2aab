//! Writes that depend on what is there: `compare_and_swap` and `update`.
//!
//! Goal: the comparison and the write are one; no write that comes between is
//! lost, whoever makes it; what does not match writes nothing. Method: every
//! pair of expected and new values against a map, for values in the slot and
//! in the log; counters that many threads raise beside checkpoints, snapshots
//! and growth, whose sums have to come out; a sync that is held up while others
//! see what it has not made durable.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use swissdb::{Batch, Db, Durability, Error, Options};

use crate::disk::{Disk, Kind};
use crate::support::{assert_clean, key};

const THREADS: u64 = 8;

fn number(bytes: Option<&[u8]>) -> u64 {
    bytes.map_or(0, |bytes| u64::from_le_bytes(bytes[..8].try_into().unwrap()))
}

#[test]
fn a_swap_happens_if_and_only_if_the_value_is_the_expected_one() {
    let db = Db::in_memory().unwrap();
    let table = db.table("second").unwrap();
    // None, empty, in the slot, in the log, and one that differs in its end only.
    let long = vec![7; 3000];
    let other = [&long[..2999], &[8]].concat();
    let values = [None, Some(&b""[..]), Some(b"short"), Some(&long), Some(&other)];
    // With the last key neither fits the slot.
    for key in [vec![], vec![1; 20], vec![1; 200]] {
        for is in values {
            for expected in values {
                for new in values {
                    match is {
                        Some(value) => table.insert(&key, value).unwrap(),
                        None => _ = table.remove(&key).unwrap(),
                    }
                    let commits = db.stats().commits;
                    let swapped = table.compare_and_swap(&key, expected, new).unwrap();
                    assert_eq!(swapped, expected == is);
                    let now = if swapped { new } else { is };
                    assert_eq!(table.get(&key).unwrap().as_deref(), now);
                    let wrote = swapped && (is, new) != (None, None);
                    assert_eq!(db.stats().commits - commits, u64::from(wrote));
                }
            }
        }
    }
    assert!(db.is_empty(), "another table was written to");
    assert_clean(&db);
}

#[test]
fn no_count_is_lost_between_threads() {
    const ROUNDS: u64 = 400;
    const KEYS: u64 = 20;
    let db = Options::new().write_buffer(1 << 20).max_log_file(1 << 20).in_memory().unwrap();
    // Counters in slots, and some that lie in the log.
    let length = |k: u64| if k.is_multiple_of(4) { 100 } else { 8 };
    let add = |k: u64| {
        let changed = db.update(key(k), |old| {
            let mut new = (number(old) + 1).to_le_bytes().to_vec();
            new.resize(length(k), 1);
            Some(new)
        });
        changed.unwrap();
    };
    thread::scope(|scope| {
        for t in 0..THREADS {
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    (0..KEYS).for_each(add);
                    // Segments grow and split beside the counters.
                    db_grows(t, round, add);
                }
            });
        }
        scope.spawn(|| (0..20).for_each(|_| db.checkpoint().unwrap()));
        scope.spawn(|| {
            for _ in 0..20 {
                let snapshot = db.snapshot().unwrap();
                for k in 0..KEYS {
                    assert!(number(snapshot.get(key(k)).unwrap()) <= THREADS * ROUNDS);
                }
            }
        });
    });
    for k in 0..KEYS {
        assert_eq!(number(db.get(key(k)).unwrap().as_deref()), THREADS * ROUNDS);
    }
    assert_eq!(db.len(), KEYS + THREADS * ROUNDS);
    assert_clean(&db);
}

/// Adds an entry of a thread's own.
fn db_grows(thread: u64, round: u64, add: impl Fn(u64)) {
    add(1_000_000 + thread * 100_000 + round);
}

#[test]
fn of_many_who_insert_what_is_not_there_one_succeeds() {
    let db = Db::in_memory().unwrap();
    let winners = AtomicU64::new(0);
    thread::scope(|scope| {
        for t in 0..THREADS {
            let (db, winners) = (&db, &winners);
            scope.spawn(move || {
                for k in 0..500 {
                    let mine = t.to_le_bytes();
                    if db.compare_and_swap(key(k), None, Some(&mine)).unwrap() {
                        winners.fetch_add(1, Ordering::Relaxed);
                        assert_eq!(db.get(key(k)).unwrap().as_deref(), Some(&mine[..]));
                    }
                }
            });
        }
    });
    assert_eq!((winners.into_inner(), db.len()), (500, 500));
}

#[test]
fn an_update_may_remove_and_may_leave_all_as_it_is() {
    let db = Db::in_memory().unwrap();
    db.insert("a", "1").unwrap();
    let commits = db.stats().commits;
    assert_eq!(db.update("a", |old| old.map(<[u8]>::to_vec)).unwrap(), Some(b"1".to_vec()));
    assert_eq!(db.update("b", |_| None::<&[u8]>).unwrap(), None);
    assert_eq!(db.stats().commits, commits, "nothing was to be written");
    assert_eq!(db.update("a", |_| None::<&[u8]>).unwrap(), None);
    assert!(db.is_empty());
    // The function may use the store: it holds no lock.
    db.update("a", |_| db.insert("b", "2").ok().map(|()| "3")).unwrap();
    assert_eq!(db.len(), 2);
}

#[test]
fn the_function_sees_what_somebody_else_wrote_in_between() {
    let db = Db::in_memory().unwrap();
    let mut seen = Vec::new();
    let last = db.update("a", |old| {
        seen.push(old.map(<[u8]>::to_vec));
        if seen.len() == 1 {
            db.insert("a", "theirs").unwrap();
        }
        Some(format!("after {}", seen.len()))
    });
    assert_eq!(last.unwrap().as_deref(), Some("after 2"));
    assert_eq!(seen, [None, Some(b"theirs".to_vec())]);
    assert_eq!(db.get("a").unwrap().as_deref(), Some(&b"after 2"[..]));
}

#[test]
fn swaps_that_are_impossible_are_refused_as_other_writes_are() {
    let db = Db::in_memory().unwrap();
    let table = db.table("gone").unwrap();
    db.drop_table("gone").unwrap();
    let swap = table.compare_and_swap("a", None, Some(b"b"));
    assert!(matches!(swap, Err(Error::NotFound { .. })), "{swap:?}");
    let long = vec![0; swissdb::MAX_KEY_LENGTH + 1];
    let swap = db.compare_and_swap(&long, None, Some(b"b"));
    assert!(matches!(swap, Err(Error::KeyTooLong { .. })), "{swap:?}");
    let other = db.clone();
    db.close().unwrap();
    let swap = other.compare_and_swap("a", None, Some(b"b"));
    assert!(matches!(swap, Err(Error::Closed { .. })), "{swap:?}");
}

#[test]
fn a_function_that_panics_or_gives_too_much_leaves_all_as_it_was() {
    let db = Db::in_memory().unwrap();
    db.insert("a", "1").unwrap();
    let panics = || db.update("a", |_| -> Option<&str> { panic!("of the caller's own") });
    assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    // Zeroed memory that nobody touches costs nothing.
    let long = vec![0; swissdb::MAX_VALUE_LENGTH + 1];
    let refused = db.update("a", |_| Some(&long)).map(drop);
    assert!(matches!(refused, Err(Error::ValueTooLong { .. })), "{refused:?}");
    assert_eq!(db.get("a").unwrap().as_deref(), Some(&b"1"[..]));
    assert!(db.compare_and_swap("a", Some(b"1"), Some(b"2")).unwrap());
}

#[test]
fn a_swap_that_has_returned_survives_the_next_opening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let db = Db::open(&path).unwrap();
    assert!(db.compare_and_swap("a", None, Some(b"1")).unwrap());
    db.update("a", |_| Some("2")).unwrap();
    db.close().unwrap();
    let db = Options::new().read_only(true).open(&path).unwrap();
    assert_eq!(db.get("a").unwrap().as_deref(), Some(&b"2"[..]));
    let swap = db.compare_and_swap("a", Some(b"2"), None);
    assert!(matches!(swap, Err(Error::ReadOnly)), "{swap:?}");
}

/// A question that changes nothing, but whose answer a caller may rely on.
type Question = (&'static str, fn(&Db));

/// They are asked when `a` has just been inserted, and `b` removed.
const QUESTIONS: [Question; 5] = [
    ("an update to the same value", |db| {
        let value = db.update("a", |old| old.map(<[u8]>::to_vec)).unwrap();
        assert_eq!(value.as_deref(), Some(&b"1"[..]));
    }),
    ("an update from nothing to nothing", |db| {
        assert_eq!(db.update("b", |old| old.map(<[u8]>::to_vec)).unwrap(), None);
    }),
    ("a swap that is refused", |db| {
        assert!(!db.compare_and_swap("a", None, Some(b"2")).unwrap());
    }),
    ("a swap of nothing for nothing", |db| {
        assert!(db.compare_and_swap("b", None, None).unwrap());
    }),
    ("the removal of what is gone", |db| assert!(!db.remove("b").unwrap())),
];

/// Asks while the sync of the commit that is seen is held up. Says whether the
/// answer waited for it.
fn waits(durability: Durability, ask: fn(&Db)) -> bool {
    let disk = Disk::new(1);
    let options = Options::new().durability(durability).sync_interval(Duration::from_secs(3600));
    let db = options.open_on(Arc::new(disk.clone())).unwrap();
    db.insert("b", "1").unwrap();
    db.sync().unwrap();
    let mut batch = Batch::new();
    batch.insert("a", "1").unwrap();
    batch.remove("b").unwrap();
    disk.hold(|call| call.kind == Kind::Sync && call.name.starts_with("log/"));
    thread::scope(|scope| {
        scope.spawn(|| db.write(&batch).and_then(|()| db.sync()).unwrap());
        disk.wait_until_held();
        let asked = scope.spawn(|| ask(&db));
        thread::sleep(Duration::from_millis(100));
        let answered = asked.is_finished();
        disk.release();
        asked.join().expect("the answer is right");
        let stats = db.stats();
        assert!(durability == Durability::Buffered || stats.durable_commit == stats.commits);
        !answered
    })
}

#[test]
fn with_sync_what_changes_nothing_waits_for_the_commits_that_it_has_seen() {
    for (what, ask) in QUESTIONS {
        assert!(waits(Durability::Sync, ask), "{what} was answered, and could be undone");
        assert!(!waits(Durability::Buffered, ask), "{what} waited for a sync");
    }
}

#[test]
fn with_sync_what_changes_nothing_costs_no_sync_if_all_is_durable() {
    let options = Options::new().durability(Durability::Sync);
    let db = options.open_on(Arc::new(Disk::new(1))).unwrap();
    db.insert("a", "1").unwrap();
    let before = db.stats();
    QUESTIONS.iter().for_each(|(_, ask)| ask(&db));
    let after = db.stats();
    assert_eq!((after.written.syncs, after.commits), (before.written.syncs, before.commits));
}
