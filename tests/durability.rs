//! What survives closing, a kill, and many of both, and what is durable when.
//!
//! A kill is simulated by going on with a copy of the files as they are
//! between two operations on them; `kill.rs` does it with real processes.

use std::time::{Duration, Instant};

use swissdb::{Batch, Durability, Options};

use crate::support::{
    Model, Random, TestStore, assert_clean, assert_holds, copy_directory, files_below, key,
    table_stats, value,
};

/// The smallest buffers there are, so that everything rolls over.
fn small() -> Options {
    Options::new().payload(104).write_buffer(1 << 20).max_log_file(1 << 20)
}

#[test]
fn entries_survive_many_reopenings() {
    let mut store = TestStore::on_disk(Options::new());
    let mut model = Model::new();
    let mut random = Random::new(5);
    for round in 0..40 {
        for _ in 0..30 {
            let (key, bytes) = (key(random.below(300)), value(random.next(), 40));
            store.insert(&key, &bytes).expect("insert");
            model.insert(key, bytes);
        }
        let victim = key(random.below(300));
        assert_eq!(store.remove(&victim).expect("remove"), model.remove(&victim).is_some());
        if round % 3 == 0 {
            store.kill();
        } else {
            store.reopen();
        }
        assert_eq!(store.len(), model.len() as u64, "round {round}");
    }
    assert_holds(&store, &model);
}

#[test]
fn reopening_without_writing_does_not_make_the_files_grow() {
    let mut store = TestStore::on_disk(Options::new());
    for i in 0..500 {
        store.insert(key(i), value(i, 90)).expect("insert");
    }
    store.reopen();
    let size = |store: &TestStore| -> u64 {
        files_below(store.path()).values().map(|bytes| bytes.len() as u64).sum()
    };
    let before = size(&store);
    for _ in 0..20 {
        store.reopen();
    }
    assert!(size(&store) <= before + (2 << 20), "from {before} to {}", size(&store));
    assert_eq!(store.len(), 500);
}

#[test]
fn every_single_write_survives_a_kill() {
    let mut store = TestStore::on_disk(small());
    let mut model = Model::new();
    for i in 0..24 {
        let (key, bytes) = (key(i % 15), value(i, 37 * (i as usize % 9)));
        if i % 4 == 3 {
            store.remove(&key).expect("remove");
            model.remove(&key);
        } else {
            store.insert(&key, &bytes).expect("insert");
            model.insert(key, bytes);
        }
        store.kill();
        assert_holds(&store, &model);
    }
}

#[test]
fn a_kill_during_recovery_loses_nothing() {
    let mut store = TestStore::on_disk(small());
    let model: Model = (0..2_000).map(|i| (key(i), value(i, i as usize % 300))).collect();
    for (key, value) in &model {
        store.insert(key, value).expect("insert");
    }
    // Each opening recovers; each is killed before it has written anything.
    for _ in 0..5 {
        store.kill();
    }
    assert_holds(&store, &model);
    store.insert("one", "more").expect("insert");
    store.kill();
    store.kill();
    assert_eq!(store.len(), 2_001);
}

#[test]
fn a_kill_after_each_kind_of_change_loses_nothing() {
    let mut store = TestStore::on_disk(small());
    let mut model = Model::new();
    let mut batch = Batch::new();
    for i in 0..300 {
        batch.insert(key(i), value(i, 200)).expect("add to the batch");
        model.insert(key(i), value(i, 200));
    }
    store.write(&batch).expect("write");
    store.kill();
    assert_holds(&store, &model);
    store.checkpoint().expect("checkpoint");
    store.kill();
    assert_holds(&store, &model);
    store.clear().expect("clear");
    store.kill();
    assert_holds(&store, &Model::new());
    store.insert("after", "clear").expect("insert");
    store.sync().expect("sync");
    store.kill();
    assert_holds(&store, &Model::from([(b"after".to_vec(), b"clear".to_vec())]));
}

#[test]
fn checkpoints_in_a_stream_of_writes_lose_nothing() {
    // Eight times what the write buffer holds, so checkpoints happen by
    // themselves, beside those that are asked for.
    let mut store = TestStore::on_disk(small().payload(504));
    let mut model = Model::new();
    let mut random = Random::new(6);
    for i in 0..8_000u64 {
        let (key, bytes) = (key(random.below(6_000)), value(i, 100 + (i as usize % 300)));
        store.insert(&key, &bytes).expect("insert");
        model.insert(key, bytes);
        if i % 2_500 == 2_499 {
            store.checkpoint().expect("checkpoint");
        }
    }
    let checkpoints = store.stats().checkpoints;
    assert!(checkpoints > 3, "only {checkpoints} checkpoints");
    store.kill();
    assert_holds(&store, &model);
    store.reopen();
    assert_holds(&store, &model);
}

#[test]
fn log_files_are_recycled_when_nothing_in_them_is_needed() {
    let store = TestStore::on_disk(small());
    for round in 0..60 {
        for i in 0..100 {
            store.insert(key(i), value(round, 3_000)).expect("insert");
        }
        if round % 5 == 4 {
            store.checkpoint().expect("checkpoint");
        }
    }
    // 18 MB went through the log; 0.3 MB of it are live. Overwritten whole and
    // inline, nothing is live any more.
    for i in 0..100 {
        store.insert(key(i), "short").expect("insert");
    }
    store.checkpoint().expect("checkpoint");
    store.checkpoint().expect("checkpoint");
    let bytes: u64 = store.stats().log_files.iter().map(|file| file.bytes).sum();
    assert!(bytes <= 5 << 20, "{bytes} bytes of log are left");
    let names = std::fs::read_dir(store.path().join("log")).expect("read log/").count();
    assert!(names <= 6, "{names} files are left in log/");
    assert_eq!(table_stats(&store).live_log_bytes, 0);
}

#[test]
fn a_sync_commit_is_durable_when_it_returns() {
    let options = Options::new().durability(Durability::Sync);
    let store = TestStore::on_disk(options.sync_interval(Duration::from_secs(3600)));
    for i in 0..10 {
        store.insert(key(i), "v").expect("insert");
        let stats = store.stats();
        assert_eq!(stats.durable_commit, stats.commits);
        assert!(stats.commits > i);
    }
}

#[test]
fn a_buffered_commit_is_durable_after_sync_and_not_by_chance() {
    let store = TestStore::on_disk(Options::new().sync_interval(Duration::from_secs(3600)));
    store.sync().expect("sync of an empty store");
    store.insert("k", "v").expect("insert");
    let stats = store.stats();
    assert!(stats.durable_commit < stats.commits, "nobody has asked for a sync yet");
    store.sync().expect("sync");
    let stats = store.stats();
    assert_eq!(stats.durable_commit, stats.commits);
}

#[test]
fn a_buffered_commit_becomes_durable_by_itself() {
    let store = TestStore::on_disk(Options::new().sync_interval(Duration::from_millis(20)));
    store.insert("k", "v").expect("insert");
    let start = Instant::now();
    while store.stats().durable_commit < store.stats().commits {
        assert!(start.elapsed() < Duration::from_secs(30), "the background sync did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn reading_a_closed_or_killed_store_changes_no_byte() {
    let mut store = TestStore::on_disk(small());
    let model: Model = (0..1_500).map(|i| (key(i), value(i, i as usize % 400))).collect();
    for (key, value) in &model {
        store.insert(key, value).expect("insert");
    }
    let killed = store.copy_as_killed();
    store.close();
    let closed = tempfile::tempdir().expect("a temporary directory");
    copy_directory(store.path(), closed.path());
    store.open();
    for directory in [killed, closed] {
        let before = files_below(directory.path());
        let db = Options::new().read_only(true).open(directory.path()).expect("a reader");
        assert_holds(&db, &model);
        assert_clean(&db);
        drop(db);
        let after = files_below(directory.path());
        assert!(before == after, "reading changes no byte");
    }
}

#[test]
fn a_store_is_readable_without_its_lock_file() {
    // As on a medium that was copied without it and cannot be written.
    let mut store = TestStore::on_disk(Options::new());
    store.insert("k", "v").expect("insert");
    store.close();
    std::fs::remove_file(store.path().join("LOCK")).expect("remove LOCK");
    let db = Options::new().read_only(true).open(store.path()).expect("a reader");
    assert_eq!(db.get("k").expect("get").as_deref(), Some(&b"v"[..]));
    drop(db);
    assert!(!store.path().join("LOCK").exists(), "reading creates nothing");
    store.open();
}

#[test]
fn a_store_dropped_without_close_keeps_everything() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let model: Model = (0..500).map(|i| (key(i), value(i, 80))).collect();
    for round in 0..3 {
        let db = small().open(directory.path()).expect("open");
        for (key, value) in &model {
            db.insert(key, value).expect("insert");
        }
        assert_holds(&db, &model);
        assert_clean(&db);
        drop(db);
        assert!(directory.path().join("default.swiss").exists(), "round {round}");
    }
    let db = small().open(directory.path()).expect("open");
    assert_holds(&db, &model);
    db.close().expect("close");
}

#[test]
fn a_stores_settings_may_change_between_openings() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut model = Model::new();
    let openings = [
        Options::new().payload(24),
        Options::new().payload(504).max_log_file(1 << 20),
        Options::new().write_buffer(1 << 20).durability(Durability::Sync),
    ];
    for (round, options) in openings.into_iter().enumerate() {
        let db = options.open(directory.path()).expect("open");
        for i in 0..50 {
            let key = format!("{round}-{i}").into_bytes();
            db.insert(&key, value(i, 100)).expect("insert");
            model.insert(key, value(i, 100));
        }
        assert_eq!(table_stats(&db).payload, 24, "fixed when it was created");
        assert_holds(&db, &model);
        db.close().expect("close");
    }
}
