//! Killed while space is gained: between any two operations on files during a
//! compaction, and while the cleaner works beside a writer.
//!
//! A first pass runs on a watched storage and takes a copy of the device after
//! many of the operations that change a file (`SWISSDB_TEST_SEED` chooses
//! which). Then each copy is opened: it must hold what was written, verify,
//! and come to the same size as without the kill when it is compacted. Nothing
//! of a killed compaction may stay behind.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use swissdb::{Db, Options};

use crate::support::{
    Gate, Model, Random, assert_clean, assert_holds, key, pairs, seed_of_the_run, value,
};

use super::device::Device;
use super::mostly_hot;

fn options() -> Options {
    super::options().payload(104)
}

fn open(device: &Device) -> Db {
    let db = options().open_on(Arc::new(device.clone()));
    db.unwrap_or_else(|error| panic!("the store does not open: {error}"))
}

/// The device after one operation.
struct Point {
    device: Device,
    /// Changes that had returned.
    done: usize,
    name: String,
}

/// Runs `body` on a device and returns what it was after every `stride`-th
/// operation.
fn points(
    device: &Device,
    stride: usize,
    done: &Arc<AtomicUsize>,
    body: impl FnOnce(Db),
) -> Vec<Point> {
    let first = seed_of_the_run() as usize % stride;
    let points = Arc::new(Mutex::new(Vec::new()));
    let (watched, seen, changes) = (device.clone(), points.clone(), done.clone());
    let operations = AtomicUsize::new(0);
    let watcher = Arc::new(move |operation: &str| {
        let number = operations.fetch_add(1, Ordering::SeqCst);
        if number % stride == first {
            let (device, done) = (watched.copy(), changes.load(Ordering::SeqCst));
            let name = format!("operation {number} ({operation})");
            seen.lock().expect("the points so far").push(Point { device, done, name });
        }
    });
    let gate = Gate::watched(Arc::new(device.clone()), watcher);
    body(options().open_on(Arc::new(gate)).expect("open"));
    std::mem::take(&mut *points.lock().expect("all points"))
}

/// Sizes of a store when it is closed: its tables, and its log.
fn closed_sizes(device: &Device) -> (u64, u64) {
    (device.tables(), device.log())
}

/// A closed store with much to compact, and what it holds.
fn ragged() -> (Device, Model) {
    let device = Device::endless();
    let db = open(&device);
    let mut model = Model::new();
    let mut random = Random::new(951);
    for i in 0..6_000 {
        let bytes = value(i, [20, 60, 700][random.below(3) as usize]);
        db.insert(key(i), &bytes).expect("insert");
        model.insert(key(i), bytes);
    }
    for i in 0..6_000 {
        if !random.one_in(4) {
            db.remove(key(i)).expect("remove");
            model.remove(&key(i));
        }
    }
    db.close().expect("close");
    (device, model)
}

#[test]
fn a_compaction_may_be_killed_anywhere_and_leaves_nothing_behind() {
    let (device, model) = ragged();
    let undisturbed = device.copy();
    let db = open(&undisturbed);
    db.compact().expect("compact");
    db.close().expect("close");
    let (table, log) = closed_sizes(&undisturbed);
    eprintln!("from {:?} to {table} and {log} bytes", closed_sizes(&device));

    let done = Arc::default();
    let points = points(&device, 5, &done, |db| {
        db.compact().expect("compact");
        db.close().expect("close");
    });
    eprintln!("{} points", points.len());
    assert!(points.len() > 10, "the operations were watched");
    for point in &points {
        let db = open(&point.device);
        assert_holds(&db, &model);
        assert_clean(&db);
        db.compact().unwrap_or_else(|error| panic!("killed after {}: {error}", point.name));
        assert_holds(&db, &model);
        assert_clean(&db);
        db.close().expect("close");
        let (found_table, found_log) = closed_sizes(&point.device);
        let name = format!("killed after {}", point.name);
        assert!(found_table <= table + table / 50 + 16 * 4096, "{name}: {found_table} not {table}");
        assert!(found_log <= log + log / 50 + 16 * 4096, "{name}: {found_log} not {log}");
        let rest = point.device.used() - found_table - found_log;
        assert!(rest <= 4096, "{name}: {rest} bytes are in neither tables nor log");
    }
}

/// A compaction that is killed again and again never grows the store.
#[test]
fn a_compaction_that_is_killed_again_and_again_does_not_grow_the_store() {
    let (mut device, model) = ragged();
    let before = device.used();
    let mut random = Random::new(952);
    for _ in 0..12 {
        let at = random.below(60) as usize;
        let points = points(&device, 1 + at, &Arc::default(), |db| {
            db.compact().expect("compact");
            std::mem::forget(db);
        });
        let Some(point) = points.into_iter().next() else { continue };
        device = point.device;
    }
    let db = open(&device);
    assert_holds(&db, &model);
    assert_clean(&db);
    db.compact().expect("compact");
    db.close().expect("close");
    assert!(device.used() < before, "{} bytes, {before} before", device.used());
}

/// Change number `n` of the writer beside the cleaner.
fn change(n: usize) -> (u64, Option<Vec<u8>>) {
    let mut random = Random::unprinted(n as u64);
    let i = mostly_hot(&mut random, 3_000);
    (i, (!random.one_in(8)).then(|| value(n as u64, 1_000 + n % 100)))
}

#[test]
fn cleaning_beside_a_writer_may_be_killed_anywhere() {
    const CHANGES: usize = 14_000;
    let device = Device::endless();
    let done = Arc::new(AtomicUsize::new(0));
    let changes = done.clone();
    let points = points(&device, 601, &done, |db| {
        for n in 0..CHANGES {
            match change(n) {
                (i, Some(value)) => db.insert(key(i), value).expect("insert"),
                (i, None) => drop(db.remove(key(i)).expect("remove")),
            }
            changes.fetch_add(1, Ordering::SeqCst);
        }
        db.close().expect("close");
    });
    eprintln!("{} points", points.len());
    assert!(points.len() > 20, "the operations were watched");
    let (mut model, mut made) = (Model::new(), 0);
    let make = |model: &mut Model, n| match change(n) {
        (i, Some(value)) => model.insert(key(i), value),
        (i, None) => model.remove(&key(i)),
    };
    for point in &points {
        (made..point.done).for_each(|n| drop(make(&mut model, n)));
        made = point.done;
        let db = open(&point.device);
        assert_clean(&db);
        let mut next = model.clone();
        drop(make(&mut next, made));
        let found: Model = pairs(db.iter()).collect();
        let name = &point.name;
        assert!(found == model || found == next, "killed after {name}: not change {made}");
        db.insert("after", "the kill").expect("insert");
        db.close().unwrap_or_else(|error| panic!("killed after {name}: {error}"));
    }
}
