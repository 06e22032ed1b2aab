//! Many writers who wait for the same thing, which fails.
//!
//! They wait for a sync that one of them leads, for the checkpoint that makes
//! room in the write buffer, for the next file of the log. Whatever fails, all
//! of them return, and nothing that was acknowledged is lost. A watchdog ends
//! a run that stands still.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use swissdb::{Db, Durability, Error, Options};

use super::faults::{Class, Flavour, Place, Target};
use super::{assert_sentence, is_full};
use crate::disk::{Disk, Kind};
use crate::power::long;
use crate::power::watchdog::Watchdog;
use crate::support::{Random, assert_clean, key, value};

/// Writers at the same time.
const WRITERS: u64 = 6;

/// What each of them writes, at most.
const WRITES: u64 = 120;

/// Length of a value: a slot full, so that pages and log fill up soon.
const LENGTH: usize = 400;

fn number(writer: u64, i: u64) -> u64 {
    writer * 1_000 + i
}

/// Writes until it is done or refused for good. Says how many of its writes
/// were acknowledged.
fn write_all(db: &Db, writer: u64, length: usize, at: &str) -> u64 {
    for i in 0..WRITES {
        let n = number(writer, i);
        while let Err(error) = db.insert(key(n), value(n, length)) {
            assert_sentence(&error, at);
            if matches!(error, Error::Poisoned { .. }) {
                return i;
            }
            // A full device is no reason to give up; what else it was must
            // have ended writing, or goes on.
            if !is_full(&error) && db.write(&swissdb::Batch::new()).is_err() {
                return i;
            }
        }
    }
    WRITES
}

/// Lets one call of a class fail while all write.
fn fail(options: &Options, (target, flavour): (Target, Flavour), length: usize, seed: u64) -> bool {
    let at = format!("{target} fails, {flavour:?}, {:?}", options);
    let disk = Disk::new(seed);
    let db = options.open_on(Arc::new(disk.clone())).expect("create");
    target.arm(&disk, flavour, || ());
    let done: Vec<AtomicU64> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
    std::thread::scope(|scope| {
        for (writer, done) in (0..).zip(&done) {
            let (db, at) = (&db, &at);
            scope.spawn(move || done.store(write_all(db, writer, length, at), SeqCst));
        }
    });
    let check = |db: &Db| {
        for (writer, done) in (0..).zip(&done) {
            for i in 0..done.load(SeqCst) {
                let n = number(writer, i);
                let found = db.get(key(n)).unwrap_or_else(|error| panic!("{at}: {error}"));
                assert_eq!(found.as_deref(), Some(&value(n, length)[..]), "{at}: key {n}");
            }
        }
    };
    check(&db);
    let refused = done.iter().any(|done| done.load(SeqCst) < WRITES);
    let failed = disk.failed().is_some();
    assert!(failed || !refused, "{at}: refused, and nothing had failed");
    let closed = db.close();
    assert!(closed.is_ok() || failed, "{at}: closing: {closed:?}");
    assert!(closed.is_err() || !refused, "{at}: writes were refused, but closing worked");
    let db = options.open_on(Arc::new(disk.clone())).expect("open again");
    check(&db);
    assert_clean(&db);
    failed
}

/// Lets calls of these classes fail, each of the first so many.
fn fail_each(what: &str, options: &Options, classes: &[Class], most: u64, length: usize) {
    let watchdog = Watchdog::new(what);
    let mut random = Random::new(46);
    let mut failed = 0;
    for &class in classes {
        for flavour in Flavour::ALL.into_iter().filter(|f| f.fault(class.0).is_some()) {
            for nth in 1..=most {
                if !long() && nth > 2 && !random.one_in(3) {
                    continue;
                }
                let target = Target::Of(class, nth);
                watchdog.beat(&format!("{what}: {target}, {flavour:?}"));
                failed += u64::from(fail(options, (target, flavour), length, random.next()));
            }
        }
    }
    eprintln!("{what}: {failed} failures met by many writers");
    assert!(failed > 0, "something has failed");
}

fn small() -> Options {
    let never = std::time::Duration::from_secs(3600);
    Options::new().payload(504).write_buffer(1 << 20).max_log_file(1 << 20).sync_interval(never)
}

#[test]
fn writers_who_wait_for_a_sync_that_fails_all_return() {
    let options = small().durability(Durability::Sync);
    let files = [(Kind::Sync, Place::Log), (Kind::Sync, Place::NextLog)];
    fail_each("a sync", &options, &files, 8, LENGTH);
}

#[test]
fn writers_who_wait_for_a_checkpoint_that_fails_all_return() {
    let classes = [
        (Kind::Write, Place::Table),
        (Kind::Write, Place::Header),
        (Kind::Sync, Place::Table),
        (Kind::Allocate, Place::Table),
        (Kind::SetLength, Place::Table),
        (Kind::Map, Place::Table),
    ];
    fail_each("a checkpoint", &small(), &classes, 4, LENGTH);
}

#[test]
fn writers_who_wait_for_a_log_file_that_cannot_be_made_all_return() {
    let classes = [
        (Kind::Create, Place::NextLog),
        (Kind::Allocate, Place::NextLog),
        (Kind::Write, Place::NextLog),
        (Kind::Map, Place::NextLog),
        (Kind::Rename, Place::NextLog),
        (Kind::SyncDirectory, Place::Directory),
    ];
    fail_each("a log file", &small(), &classes, 3, 20_000);
}
