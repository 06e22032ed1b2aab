//! What `compact` promises: full segments, dense blocks, a log without
//! garbage, cut files; the same entries, with writers beside it or without;
//! and nothing lost if it is cancelled at any moment.
//!
//! Stores on a real disk are compacted, closed and looked at through
//! `inspect`. Cancelling is tried at each call of the callback there is, on
//! copies of a store in memory.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use swissdb::{CompactStep, Db, Error, Options};

use crate::support::{
    Model, Random, TestStore, assert_clean, assert_holds, key, table_stats, value,
};

use super::device::Device;
use super::{AT_REST, AT_WORK, FILE, Watched, eventually, footprint, mostly_hot};

/// A store with 60,000 entries of many sizes of which two thirds are removed
/// again, in two tables. Returns what its default table holds.
fn ragged(store: &Db, seed: u64) -> Model {
    let mut random = Random::new(seed);
    let mut model = Model::new();
    let other = store.table("other").expect("a table");
    for i in 0..60_000 {
        let length = [0, 8, 20, 32, 40, 100, 900][random.below(7) as usize];
        let bytes = value(i, length);
        store.insert(key(i), &bytes).expect("insert");
        model.insert(key(i), bytes);
        if i % 3 == 0 {
            other.insert(key(i), value(i, 30)).expect("insert");
        }
    }
    for i in 0..60_000 {
        if !random.one_in(3) {
            store.remove(key(i)).expect("remove");
            model.remove(&key(i));
        }
        if i % 3 == 0 && i % 30 != 0 {
            other.remove(key(i)).expect("remove");
        }
    }
    model
}

/// Fails unless every segment of a closed table has as few pages as may be.
fn assert_packed(path: &Path, table: &str) {
    let directory = swissdb::inspect::directory(path, table).expect("the directory");
    assert_eq!(directory.damage, None);
    let (mut used, mut slots, mut segments) = (0u64, 0, 0u64);
    for segment in directory.flat_map(|page| page.segments) {
        let pages = segment.pages.len() as u64;
        let of_page = segment.slots / pages;
        let fewer = (pages - 1) * of_page * 7 / 8;
        let entries = u64::from(segment.used);
        let name = format!("segment {} of {table}: {entries} entries", segment.number);
        assert!(pages == 1 || entries > fewer, "{name} in {pages} pages of {of_page}");
        assert!(pages < 12 || entries * 10 >= segment.slots * 8, "{name} in {pages} pages");
        assert_eq!(segment.tombstones, 0, "tombstones in {name}");
        (used, slots, segments) = (used + entries, slots + segment.slots, segments + 1);
    }
    let share = used as f64 / slots.max(1) as f64;
    eprintln!("{table}: {used} entries in {slots} slots of {segments} segments: {share:.3}");
}

/// Fails unless nearly all blocks of a closed table are used, and its file has
/// no more than these.
fn assert_dense(path: &Path, table: &str) {
    let db = Options::new().read_only(true).open(path).expect("open for reading");
    let stats = db.stats().tables.into_iter().find(|stats| stats.name == table).expect("a table");
    let length = fs::metadata(path.join(format!("{table}.swiss"))).expect("its file").len();
    let (used, free) = (stats.blocks_used, length / 4096 - stats.blocks_used);
    eprintln!("{table}: {used} blocks used, {free} free, {length} bytes");
    // Beside two parts in a hundred: what the smallest file has, and the root
    // and the free map of before.
    assert!(free * 50 <= used + 50 * 16, "{free} of {} blocks are free", used + free);
}

/// Fails if more than a twentieth of the log is garbage, an active file aside.
fn assert_log_is_clean(path: &Path, alive: u64) {
    let files = fs::read_dir(path.join("log")).expect("the log");
    let sizes = files.map(|file| file.expect("a file").metadata().expect("of a file").blocks());
    let log: u64 = sizes.map(|blocks| blocks * 512).sum();
    eprintln!("log: {log} bytes on disk, {alive} alive");
    assert!(log <= alive * 20 / 19 + FILE, "{log} bytes of log for {alive} that are alive");
}

#[test]
fn compacting_packs_segments_and_blocks_and_cleans_the_log() {
    for payload in [24, 56, 504] {
        let mut store = TestStore::on_disk(super::options().payload(payload));
        let model = ragged(&store, payload as u64);
        let compacted = store.compact().expect("compact");
        assert!(compacted.finished);
        assert!(compacted.bytes_after < compacted.bytes_before * 2 / 3, "{compacted:?}");
        assert_holds(&store, &model);
        assert_clean(&store);
        store.close();
        let alive = |(key, value): (&Vec<u8>, &Vec<u8>)| footprint(payload, key.len(), value.len());
        let mut alive: u64 = model.iter().map(alive).sum();
        // The other table: every thirtieth entry.
        alive += 2_000 * footprint(payload, 16, 30);
        for table in ["default", "other"] {
            assert_packed(store.path(), table);
            assert_dense(store.path(), table);
        }
        assert_log_is_clean(store.path(), alive);
        store.open();
        assert_holds(&store, &model);
        assert_eq!(store.table("other").expect("a table").len(), 2_000);
    }
}

#[test]
fn a_compacted_store_is_used_like_any_other() {
    let mut store = TestStore::on_disk(super::options());
    let mut model = ragged(&store, 941);
    store.compact().expect("compact");
    for i in 0..20_000 {
        store.insert(key(100_000 + i), value(i, 40)).expect("insert");
        model.insert(key(100_000 + i), value(i, 40));
    }
    for i in 0..60_000 {
        assert_eq!(store.remove(key(i)).expect("remove"), model.remove(&key(i)).is_some());
    }
    assert_holds(&store, &model);
    store.kill();
    assert_holds(&store, &model);
}

#[test]
fn compacting_again_and_again_changes_nothing_more() {
    let store = Watched::new(Device::endless(), 56);
    ragged(&store.db, 942);
    store.db.compact().expect("compact");
    // What the background has still to do is no change that compacting makes:
    // files that hold nothing any more are let go in its own time.
    store.assert_rests();
    store.db.compact().expect("compact");
    let state = || (store.db.stats().commits, store.db.stats().log_files.len());
    let (before, used) = (state(), store.device.used());
    for _ in 0..8 {
        let compacted = store.db.compact().expect("compact");
        assert!(compacted.finished);
        assert_eq!(state(), before, "commits and log files");
        // The two files for a full device and the next one are made when the
        // background has its turn: they may not have been there before.
        let now = store.device.used();
        assert!(now <= used + 3 * FILE, "{used} bytes became {now}");
    }
    assert_clean(&store.db);
}

/// What a writer did: the values it left, and none where it removed an entry.
type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Changes entries whose numbers are even, or odd, until it is done.
fn write_until(store: &Db, parity: u64, done: &AtomicBool) -> Changes {
    let mut random = Random::unprinted(parity);
    let mut changes = Changes::new();
    while !done.load(Ordering::Relaxed) {
        let key = key(2 * random.below(40_000) + parity);
        if random.one_in(4) {
            store.remove(&key).expect("remove");
            changes.insert(key, None);
        } else {
            let bytes = value(random.next(), random.below(300) as usize);
            store.insert(&key, &bytes).expect("insert");
            assert_eq!(store.get(&key).expect("get").as_deref(), Some(&bytes[..]));
            changes.insert(key, Some(bytes));
        }
    }
    changes
}

#[test]
fn writers_and_readers_go_on_while_the_store_is_compacted() {
    let mut store = TestStore::in_memory(super::options());
    let mut model = ragged(&store, 943);
    let done = AtomicBool::new(false);
    let changes = std::thread::scope(|scope| {
        let (db, done) = (&*store, &done);
        let writers = [0, 1].map(|parity| scope.spawn(move || write_until(db, parity, done)));
        for _ in 0..3 {
            assert!(db.compact().expect("compact").finished);
        }
        done.store(true, Ordering::Relaxed);
        writers.map(|writer| writer.join().expect("a writer"))
    });
    for (key, value) in changes.into_iter().flatten() {
        match value {
            Some(value) => model.insert(key, value),
            None => model.remove(&key),
        };
    }
    assert_holds(&store, &model);
    assert_clean(&store);
    store.kill();
    assert_holds(&store, &model);
}

/// Compacts a copy of a store and cancels at the call of that number. Says
/// whether there was such a call.
fn cancelled_at(device: &Device, model: &Model, number: usize) -> bool {
    let device = device.copy();
    let db = options().open_on(Arc::new(device.clone())).expect("open a copy");
    let mut calls = 0;
    let compacted = db.compact_with(|progress| {
        assert!((0.0..=1.0).contains(&progress.done), "{progress:?}");
        assert_eq!(progress.table.is_none(), progress.step == CompactStep::Cleaning);
        calls += 1;
        if calls > number { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let cancelled = !compacted.expect("compact").finished;
    assert_eq!(cancelled, calls > number, "cancelled at call {number} of {calls}");
    assert_holds(&db, model);
    assert_clean(&db);
    db.insert("after", "cancelling").expect("insert");
    db.close().expect("close");
    let db = options().open_on(Arc::new(device)).expect("open again");
    assert_eq!(db.len(), model.len() as u64 + 1);
    cancelled
}

fn options() -> Options {
    super::options().payload(104)
}

#[test]
fn a_compaction_can_be_cancelled_at_every_call() {
    let device = Device::endless();
    let db = options().open_on(Arc::new(device.clone())).expect("create a store");
    let mut model = Model::new();
    for i in 0..9_000 {
        db.insert(key(i), value(i, 20 + i as usize % 400)).expect("insert");
        if i % 3 == 0 {
            model.insert(key(i), value(i, 20 + i as usize % 400));
        }
    }
    for i in (0..9_000).filter(|i| i % 3 != 0) {
        db.remove(key(i)).expect("remove");
    }
    db.close().expect("close");
    let mut number = 0;
    while cancelled_at(&device, &model, number) {
        number += 1;
    }
    eprintln!("{number} calls");
    assert!(number > 5, "the callback was called");
}

#[test]
fn the_callback_may_use_the_store_and_may_panic() {
    let store = TestStore::in_memory(super::options());
    let mut model = ragged(&store, 944);
    let mut calls = 0;
    store
        .compact_with(|_| {
            calls += 1;
            store.insert(format!("call {calls}"), "made").expect("insert");
            assert!(store.stats().commits > 0);
            ControlFlow::Continue(())
        })
        .expect("compact");
    model.extend((1..=calls).map(|n| (format!("call {n}").into_bytes(), b"made".to_vec())));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.compact_with(|_| panic!("a callback that panics, on purpose"))
    }));
    assert!(panicked.is_err());
    assert!(store.compact().expect("compact").finished);
    assert_holds(&store, &model);
}

#[test]
fn after_a_callback_that_panicked_space_still_comes_back_unasked() {
    let mut store = Watched::new(Device::endless(), 56);
    (0..4_000).for_each(|i| store.put(i, 1_024));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.db.compact_with(|_| panic!("a callback that panics, on purpose"))
    }));
    assert!(panicked.is_err());
    let mut random = Random::new(946);
    for n in 0..40_000 {
        store.put(random.below(4_000), 1_024);
        if n % 64 == 0 {
            store.check(AT_WORK);
        }
    }
    eventually(|| store.within(AT_REST));
    store.assert_whole();
}

#[test]
fn what_is_written_while_the_store_is_compacted_does_not_let_the_log_grow() {
    let mut random = Random::new(947);
    let mut store = Watched::new(Device::endless(), 56);
    (0..16_000).for_each(|i| store.put(i, 1_024));
    // The function takes its time in every step, and may do so in any thread.
    let (db, mut calls) = (store.db.clone(), [0, 0]);
    let compacted = db.compact_with(|progress| {
        let step = usize::from(progress.step != CompactStep::Cleaning);
        calls[step] += 1;
        if calls[step] <= [2, 8][step] {
            for n in 0..10_000 {
                store.put(mostly_hot(&mut random, 16_000), 1_024);
                if n % 64 == 0 {
                    store.check(AT_WORK);
                }
            }
        }
        ControlFlow::Continue(())
    });
    assert!(compacted.expect("compact").finished);
    store.report();
    assert!(calls[1] >= 8, "{calls:?} calls");
    eventually(|| store.within(AT_REST));
    store.assert_whole();
}

#[test]
fn a_callback_that_compacts_is_refused() {
    let store = TestStore::in_memory(super::options());
    let other = TestStore::in_memory(super::options());
    let mut calls = 0;
    let compacted = store.compact_with(|_| {
        calls += 1;
        assert!(matches!(store.compact(), Err(Error::InvalidArgument { .. })));
        assert!(other.compact().expect("compact another store").finished);
        ControlFlow::Continue(())
    });
    assert!(compacted.expect("compact").finished);
    assert!(calls > 0);
    assert!(store.compact().expect("compact").finished);
}

#[test]
fn two_compactions_at_once_take_turns() {
    let store = TestStore::in_memory(super::options());
    let model = ragged(&store, 945);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert!(store.compact().expect("compact").finished));
        }
    });
    assert_holds(&store, &model);
}

#[test]
fn an_empty_store_can_be_compacted_and_a_read_only_one_cannot() {
    let mut store = TestStore::on_disk(super::options());
    assert!(store.compact().expect("compact").finished);
    store.insert("a", "b").expect("insert");
    assert!(store.compact().expect("compact").finished);
    assert_eq!(table_stats(&store).entries, 1);
    store.close();
    let db = super::options().read_only(true).open(store.path()).expect("open for reading");
    assert!(matches!(db.compact(), Err(Error::ReadOnly)));
    drop(db);
    store.open();
    let handle = (*store).clone();
    store.close();
    assert!(matches!(handle.compact(), Err(Error::Closed { .. })));
    store.open();
}
