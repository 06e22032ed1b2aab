//! Where table files end.
//!
//! Goal: a store that lost most of its entries takes little space, while it is
//! open and once it is closed, and nobody who reads comes to harm. Method: the
//! length of the file, and the blocks that the file system says it takes, after
//! clearing and closing, with and without other handles.

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};

use swissdb::{Db, Error, Options};

use crate::support::{TestStore, assert_clean, files_below, key, value};

/// The length of the default table's file, and the bytes it takes on the device.
fn file(directory: &std::path::Path) -> (u64, u64) {
    let metadata = std::fs::metadata(directory.join("default.swiss")).expect("the table file");
    (metadata.len(), metadata.blocks() * 512)
}

fn fill(db: &Db, entries: u64) {
    for i in 0..entries {
        db.insert(key(i), value(i, 40)).expect("insert");
    }
}

#[test]
fn a_closed_store_ends_behind_the_last_block_in_use() {
    let mut store = TestStore::on_disk(Options::new());
    fill(&store, 40_000);
    store.reopen();
    let (full, _) = file(store.path());
    assert!(!full.is_power_of_two(), "not a doubled length: {full}");
    // Opening and closing changes nothing about it.
    store.reopen();
    assert_eq!(file(store.path()).0, full);
    // Nor does it matter whether there is anything left to write.
    for checkpoint in [true, false] {
        fill(&store, 20_000);
        store.clear().expect("clear");
        fill(&store, 10);
        if checkpoint {
            store.checkpoint().expect("checkpoint");
        }
        store.close();
        let (empty, _) = file(store.path());
        assert!(empty <= 32 * 4096, "{empty} bytes for ten entries");
        store.open();
    }
    fill(&store, 20_000);
    store.reopen();
    assert!(file(store.path()).0 > full / 4);
}

#[test]
fn a_checkpoint_gives_back_what_a_clear_has_left() {
    let store = TestStore::on_disk(Options::new());
    fill(&store, 60_000);
    store.checkpoint().expect("checkpoint");
    let (length, full) = file(store.path());
    store.clear().expect("clear");
    store.checkpoint().expect("checkpoint");
    store.insert("key", "value").expect("insert");
    store.checkpoint().expect("checkpoint");
    let (longer, taken) = file(store.path());
    assert_eq!(length, longer, "an open file is not cut off");
    assert!(taken < full / 4, "{taken} bytes of {full}");
    fill(&store, 60_000);
    assert_clean(&store);
}

#[test]
fn a_store_that_others_still_read_is_punched_and_not_cut_off() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let db = Db::open(directory.path()).expect("open");
    fill(&db, 60_000);
    db.checkpoint().expect("checkpoint");
    let (length, full) = file(directory.path());
    let other = db.clone();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0u64;
            while !stop.load(Ordering::Relaxed) {
                match other.get(key(reads % 60_000)) {
                    Ok(_) => reads += 1,
                    Err(Error::Closed { .. }) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            reads
        });
        db.clear().expect("clear");
        db.close().expect("close");
        stop.store(true, Ordering::Relaxed);
        reader.join().expect("the reader came to no harm");
    });
    let (kept, taken) = file(directory.path());
    assert_eq!(kept, length, "somebody may have been reading there");
    assert!(taken < full / 4, "{taken} bytes of {full}");
    drop(other);
    let db = Db::open(directory.path()).expect("open");
    assert!(db.is_empty());
    assert_clean(&db);
    db.close().expect("close");
    assert!(file(directory.path()).0 <= 32 * 4096);
}

/// A thread that reads keeps log files from being recycled, those of other stores
/// too. They used to stay behind when the store was closed just then.
#[test]
fn a_closed_store_leaves_no_log_file_behind_that_somebody_held() {
    let other = Db::in_memory().expect("another store");
    other.insert("long", value(1, 1_000)).expect("insert");
    let mut store = TestStore::on_disk(Options::new().max_log_file(1 << 20));
    for i in 0..5_000 {
        store.insert(key(i % 8), value(i, 1_000)).expect("insert");
    }
    let read = other.get_with("long", |_| store.close()).expect("get_with");
    assert!(read.is_some(), "the value is there");
    let files = files_below(&store.path().join("log"));
    let sizes: Vec<usize> = files.values().map(Vec::len).collect();
    assert!(sizes.len() <= 2, "log files of these sizes are left: {sizes:?}");
    store.open();
    assert_clean(&store);
    assert_eq!(store.get(key(7)).expect("get").as_deref(), Some(&value(4_999, 1_000)[..]));
}
