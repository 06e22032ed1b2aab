//! Tables shrink unasked: memory, slots and blocks follow the live entries,
//! while the store is open, and the file is cut when it is closed.
//!
//! Stores on a real disk are filled and emptied but for a few entries. What is
//! left is looked at all the time while segments shrink and merge: it must be
//! there exactly once, and keep its values.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use swissdb::{Batch, Db, Options};

use crate::support::{
    Model, Random, TestStore, assert_clean, assert_holds, assert_same, key, pairs, table_stats,
    value,
};

use super::device::Device;
use super::{AT_REST, FILE, at_most, eventually};

/// What a table file may take that holds next to nothing. Pages are moved down
/// if they lie behind twice what is used and 256 blocks, which are 64 that are
/// kept for removals and some that wait to be free; then the free end is given
/// back if it is a fourth of the rest.
const SMALL: u64 = 5 << 20;

/// The bytes that a file takes on the disk.
fn on_disk(path: &Path) -> u64 {
    fs::metadata(path).expect("a file").blocks() * 512
}

/// The bytes that the files of the log take on the disk.
fn log_on_disk(directory: &Path) -> u64 {
    let files = fs::read_dir(directory.join("log")).expect("the log");
    // One that is just being removed takes nothing.
    let metadata = files.filter_map(|file| file.ok()?.metadata().ok());
    metadata.map(|metadata| metadata.blocks() * 512).sum()
}

/// Inserts entries in batches.
fn fill(db: &Db, numbers: impl Iterator<Item = u64>) {
    let mut batch = Batch::new();
    for (n, i) in numbers.enumerate() {
        batch.insert(key(i), value(i, 32)).expect("add to the batch");
        if n % 500 == 499 {
            db.write(&batch).expect("write");
            batch.clear();
        }
    }
    db.write(&batch).expect("write");
}

/// Removes entries in batches.
fn empty(db: &Db, numbers: impl Iterator<Item = u64>) {
    let mut batch = Batch::new();
    for (n, i) in numbers.enumerate() {
        batch.remove(key(i)).expect("add to the batch");
        if n % 500 == 499 {
            db.write(&batch).expect("write");
            batch.clear();
        }
    }
    db.write(&batch).expect("write");
}

fn options() -> Options {
    super::options().write_buffer(64 << 20)
}

#[test]
fn a_table_that_was_emptied_shrinks_and_its_file_is_cut() {
    let mut store = TestStore::on_disk(options());
    let file = store.path().join("default.swiss");
    fill(&store, 0..200_000);
    store.checkpoint().expect("checkpoint");
    let full = table_stats(&store);
    assert!(full.capacity > 200_000 && on_disk(&file) > 12 << 20, "it was large");
    let stays = |i: u64| i.is_multiple_of(2_000);
    let model: Model = (0..200_000).filter(|i| stays(*i)).map(|i| (key(i), value(i, 32))).collect();
    empty(&store, (0..200_000).filter(|i| !stays(*i)));
    let directory = store.path().to_path_buf();
    let mut looked = 0;
    eventually(|| {
        assert_same(pairs(store.iter()), &model);
        looked += 1;
        let stats = table_stats(&store);
        let (slots, segments) = (stats.capacity, stats.segments);
        if slots > 2_048 || segments > 4 {
            return Err(format!("{slots} slots in {segments} segments"));
        }
        at_most("table on disk", on_disk(&file), SMALL)?;
        at_most("log on disk", log_on_disk(&directory), AT_REST)
    });
    eprintln!("{looked} iterations meanwhile; {} segments before", full.segments);
    assert_holds(&store, &model);
    assert_clean(&store);
    store.close();
    let length = fs::metadata(&file).expect("the table file").len();
    // Pages are moved down if they lie behind twice what is used and 256 blocks.
    at_most("length of the table file", length, 5 * FILE / 2).expect("a file that was cut");
    store.open();
    assert_holds(&store, &model);
}

#[test]
fn an_emptied_table_shrinks_even_if_it_is_killed_meanwhile() {
    let mut device = Device::endless();
    let open = |device: &Device| options().open_on(Arc::new(device.clone())).expect("open");
    let mut db = open(&device);
    fill(&db, 0..100_000);
    db.checkpoint().expect("checkpoint");
    assert!(device.tables() > 8 << 20, "it was large");
    empty(&db, 100..100_000);
    let model: Model = (0..100).map(|i| (key(i), value(i, 32))).collect();
    for pause in [0, 1, 20, 300] {
        std::thread::sleep(std::time::Duration::from_millis(pause));
        let killed = device.copy();
        db.close().expect("close what was killed");
        (device, db) = (killed.clone(), open(&killed));
        assert_holds(&db, &model);
        assert_clean(&db);
    }
    // Opening is no write, but what is written next finds the table sparse.
    db.insert(key(0), value(0, 32)).expect("insert");
    eventually(|| {
        let slots = table_stats(&db).capacity;
        if slots > 2_048 {
            return Err(format!("{slots} slots"));
        }
        let stats = table_stats(&db);
        // What was taken ahead of use before a kill goes with a checkpoint.
        at_most(&format!("{stats:?}"), device.tables(), SMALL)
    });
    assert_holds(&db, &model);
}

#[test]
fn iterations_during_shrinking_neither_repeat_nor_miss_an_entry() {
    let store = TestStore::in_memory(options().payload(24));
    let mut random = Random::new(931);
    fill(&store, 0..120_000);
    let stays: Vec<u64> = (0..300).map(|_| random.below(120_000)).collect();
    let model: Model = stays.iter().map(|&i| (key(i), value(i, 32))).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let iterations = scope.spawn(|| {
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) || rounds == 0 {
                let mut seen = Model::new();
                for entry in store.iter() {
                    let (key, value) = entry.expect("an entry");
                    let key = key.into_vec();
                    assert!(seen.insert(key, value.into_vec()).is_none(), "an entry came twice");
                }
                for (key, value) in &model {
                    assert_eq!(seen.get(key), Some(value), "an entry that stays");
                }
                rounds += 1;
            }
            rounds
        });
        empty(&store, (0..120_000).filter(|i| !model.contains_key(&key(*i))));
        eventually(|| match table_stats(&store).capacity {
            0..6_000 => Ok(()),
            slots => Err(format!("{slots} slots")),
        });
        done.store(true, Ordering::Relaxed);
        eprintln!("{} iterations", iterations.join().expect("the iterations"));
    });
    assert_holds(&store, &model);
}

#[test]
fn a_table_that_is_refilled_while_it_shrinks_holds_everything() {
    let store = TestStore::in_memory(options());
    let mut model = Model::new();
    for round in 0..3u64 {
        fill(&store, 0..40_000);
        empty(&store, 500..40_000);
        // In the midst of shrinking, as likely as not.
        std::thread::sleep(std::time::Duration::from_millis(400 * round));
        for i in 30_000..34_000 {
            store.insert(key(i), value(round, 20)).expect("insert");
        }
        model.extend((0..500).map(|i| (key(i), value(i, 32))));
        model.extend((30_000..34_000).map(|i| (key(i), value(round, 20))));
        assert_holds(&store, &model);
        assert_clean(&store);
    }
}
