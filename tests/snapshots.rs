//! Snapshots: what one sees never changes, and costs what it alone needs.
//!
//! Goal: no write, no growth, no clearing, dropping, compaction or closing shows
//! through a snapshot; what it holds is given back when it goes; and a store
//! that is killed with snapshots is like any other. Method: each snapshot is
//! kept beside a copy of the model of its moment and compared whole, on stores
//! whose log files and write buffer are so small that everything rolls over.

mod queue;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use swissdb::storage::Storage;
use swissdb::storage::files::Files;
use swissdb::storage::memory::Memory;
use swissdb::{Batch, Db, Error, Options, Snapshot, SnapshotTable};

use crate::support::{
    Model, Random, TestStore, assert_clean, assert_holds, key, table_stats, value,
};

fn options() -> Options {
    Options::new().max_log_file(1 << 20).write_buffer(4 << 20)
}

/// Fails unless a table of a snapshot holds exactly this, by every way to read.
fn assert_sees(table: SnapshotTable<'_>, model: &Model) {
    assert_eq!(table.len(), model.len() as u64);
    for (key, value) in model {
        assert_eq!(table.get(key).expect("get"), Some(&value[..]), "key {key:?}");
        assert!(table.contains_key(key).expect("contains_key"));
    }
    let mut seen = Model::new();
    for entry in table.iter() {
        let (key, value) = entry.expect("an entry");
        assert!(seen.insert(key.to_vec(), value.to_vec()).is_none(), "an entry came twice");
    }
    assert_eq!(&seen, model);
    assert_eq!(table.get("no such key").expect("get"), None);
}

fn assert_default(snapshot: &Snapshot, model: &Model) {
    assert_sees(snapshot.table("default").expect("the default table"), model);
}

/// Fails unless each of these snapshots sees what was there when it was taken.
fn assert_unchanged(taken: &[(Snapshot, Model)]) {
    for (snapshot, model) in taken {
        assert_default(snapshot, model);
    }
}

/// A value of any size around what fits a slot.
fn any_value(random: &mut Random) -> Vec<u8> {
    let length = match random.below(8) {
        0 => 0,
        1..5 => random.below(40),
        5..7 => random.below(400),
        _ => random.below(5_000),
    };
    value(random.next(), length as usize)
}

/// Some inserts, overwrites and removals.
fn change(db: &Db, model: &mut Model, random: &mut Random, n: u64) {
    for _ in 0..n {
        let key = key(random.below(4_000));
        if random.one_in(4) {
            assert_eq!(db.remove(&key).expect("remove"), model.remove(&key).is_some());
        } else {
            let value = any_value(random);
            db.insert(&key, &value).expect("insert");
            model.insert(key, value);
        }
    }
}

#[test]
fn snapshots_taken_at_random_stay_what_they_were() {
    let mut random = Random::new(1_001);
    for round in 0..3 {
        let store = match round {
            0 => TestStore::in_memory(options().payload(24)),
            1 => TestStore::on_disk(options()),
            _ => TestStore::on_disk(options().payload(104)),
        };
        let mut model = Model::new();
        let mut snapshots: Vec<(Snapshot, Model)> = Vec::new();
        for step in 0..40 {
            let changes = random.below(600);
            change(&store, &mut model, &mut random, changes);
            match random.below(10) {
                0 => store.checkpoint().expect("checkpoint"),
                1 if step > 20 => {
                    store.clear().expect("clear");
                    model.clear();
                }
                2 => assert!(store.compact().expect("compact").finished),
                3..7 => {
                    let snapshot = store.snapshot().expect("a snapshot");
                    snapshots.push((snapshot, model.clone()));
                }
                7 if !snapshots.is_empty() => {
                    let at = random.below(snapshots.len() as u64) as usize;
                    let (snapshot, model) = snapshots.swap_remove(at);
                    assert_default(&snapshot, &model);
                }
                _ => {}
            }
            if let Some((snapshot, model)) = snapshots.first().filter(|_| step % 8 == 0) {
                assert_default(snapshot, model);
            }
        }
        assert_unchanged(&snapshots);
        assert_clean(&store);
        assert_holds(&store, &model);
        snapshots.clear();
        change(&store, &mut model, &mut random, 2_000);
        assert_clean(&store);
    }
}

#[test]
fn a_snapshot_sees_batches_whole_and_all_tables_at_one_moment() {
    let store = TestStore::on_disk(options());
    let second = store.table("second").expect("a table");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0u64.. {
                let mut batch = Batch::new();
                for i in 0..20 {
                    batch.insert(key(i), n.to_be_bytes()).expect("add");
                    batch.insert_into(&second, key(i), n.to_be_bytes()).expect("add");
                }
                store.write(&batch).expect("write");
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let mut last = 0;
        for _ in 0..20 {
            let snapshot = store.snapshot().expect("a snapshot");
            let mut numbers = std::collections::BTreeSet::new();
            for name in snapshot.tables() {
                let table = snapshot.table(&name).expect("a table");
                numbers.extend(table.iter().map(|entry| entry.expect("an entry").1.to_vec()));
                assert!(table.len() == 20 || table.is_empty(), "{} entries", table.len());
            }
            assert!(numbers.len() <= 1, "parts of several batches: {numbers:?}");
            assert!(snapshot.commit() >= last, "a snapshot of an earlier moment");
            last = snapshot.commit();
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_snapshot_outlives_clearing_dropping_compacting_and_its_handle() {
    let directory = tempfile::tempdir().expect("a directory");
    let db = options().open(directory.path()).expect("create");
    let mut random = Random::new(1_002);
    let (mut model, mut others) = (Model::new(), Model::new());
    change(&db, &mut model, &mut random, 8_000);
    let table = db.table("others").expect("a table");
    for i in 0..500 {
        others.insert(key(i), any_value(&mut random));
        table.insert(key(i), &others[&key(i)]).expect("insert");
    }
    let snapshot = db.snapshot().expect("a snapshot");
    db.clear().expect("clear");
    db.drop_table("others").expect("drop");
    let again = db.table("others").expect("a new table of that name");
    again.insert("only", "this").expect("insert");
    for i in 0..30_000u64 {
        db.insert(key(i), value(i, 60)).expect("insert");
    }
    db.compact().expect("compact");
    drop((table, again));
    drop(db);
    assert_default(&snapshot, &model);
    assert_sees(snapshot.table("others").expect("others"), &others);
    assert!(matches!(snapshot.table("never"), Err(Error::NotFound { .. })));
    // The snapshot keeps the store open.
    assert!(matches!(Db::open(directory.path()), Err(Error::Locked { .. })));
    drop(snapshot);
    let db = Db::open(directory.path()).expect("open again");
    assert_eq!(db.len(), 30_000);
    assert_clean(&db);
}

#[test]
fn a_store_that_was_closed_stays_locked_while_there_is_a_snapshot() {
    let directory = tempfile::tempdir().expect("a directory");
    let db = options().open(directory.path()).expect("create");
    let (mut model, mut random) = (Model::new(), Random::new(1_003));
    change(&db, &mut model, &mut random, 5_000);
    let snapshot = db.snapshot().expect("a snapshot");
    let clone = snapshot.clone();
    db.close().expect("close");
    assert!(matches!(Db::open(directory.path()), Err(Error::Locked { .. })));
    drop(snapshot);
    assert_default(&clone, &model);
    drop(clone);
    let db = Db::open(directory.path()).expect("open again");
    assert_holds(&db, &model);
    assert_clean(&db);
}

#[test]
fn a_snapshot_of_a_store_open_for_reading_is_the_store() {
    let memory = Memory::new();
    let db = options().open_on(Arc::new(memory.clone())).expect("create");
    let (mut model, mut random) = (Model::new(), Random::new(1_004));
    change(&db, &mut model, &mut random, 3_000);
    db.checkpoint().expect("checkpoint");
    change(&db, &mut model, &mut random, 500);
    // As after a kill: a part of it is in the log alone.
    let killed: Arc<dyn Storage> = Arc::new(memory.copy().expect("a copy"));
    let reader = Options::new().read_only(true).open_on(killed).expect("open for reading");
    let snapshot = reader.snapshot().expect("a snapshot");
    drop(reader);
    assert_default(&snapshot, &model);
}

#[test]
fn what_a_snapshot_of_a_store_open_for_reading_has_lent_stays_after_closing() {
    // The lock was given back: a writer could have come, and changed what was lent.
    let directory = tempfile::tempdir().expect("a directory");
    let db = options().open(directory.path()).expect("create");
    db.insert("key", [7; 400]).expect("insert");
    db.close().expect("close");
    let reader = Options::new().read_only(true).open(directory.path()).expect("open for reading");
    let snapshot = reader.snapshot().expect("a snapshot");
    let lent = snapshot.get("key").expect("get");
    reader.close().expect("close");
    assert!(matches!(Db::open(directory.path()), Err(Error::Locked { .. })));
    assert_eq!(lent, Some(&[7; 400][..]));
    assert!(matches!(snapshot.get("key"), Err(Error::Closed { .. })));
    drop(snapshot);
    Db::open(directory.path()).expect("open for writing");
}

#[test]
fn a_store_killed_with_snapshots_is_like_any_other() {
    let memory = Memory::new();
    let db = options().open_on(Arc::new(memory.clone())).expect("create");
    let (mut model, mut random) = (Model::new(), Random::new(1_005));
    let mut snapshots = Vec::new();
    for _ in 0..6 {
        change(&db, &mut model, &mut random, 2_000);
        snapshots.push(db.snapshot().expect("a snapshot"));
        assert_eq!(snapshots.last().expect("one").get("no").expect("get"), None);
        db.checkpoint().expect("checkpoint");
        let killed = memory.copy().expect("a copy");
        let after = options().open_on(Arc::new(killed)).expect("open what was killed");
        assert_holds(&after, &model);
        assert_clean(&after);
    }
}

/// The bytes that a store takes, as the file system says.
fn on_disk(directory: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(directory).expect("a directory").flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => on_disk(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(size).sum()
}

#[test]
fn the_files_grow_by_the_hot_set_and_not_by_what_is_written_to_it() {
    const HOT: u64 = 500;
    let store = TestStore::on_disk(options());
    for i in 0..60_000u64 {
        store.insert(key(i), value(i, if i % 10 == 0 { 600 } else { 30 })).expect("insert");
    }
    store.checkpoint().expect("checkpoint");
    let overwrite = |rounds: u64| {
        for n in 0..rounds {
            // Values that spill and such that do not.
            let length = if n % 10 == 0 { 600 } else { 30 };
            store.insert(key(n % HOT * 10), value(n, length)).expect("insert");
        }
        store.checkpoint().expect("checkpoint");
    };
    overwrite(20_000);
    let before = (on_disk(store.path()), table_stats(&store).blocks_used);
    let snapshot = store.snapshot().expect("a snapshot");
    assert_eq!(snapshot.len(), 60_000);
    let mut most = 0;
    for _ in 0..10 {
        overwrite(20_000);
        most = most.max(on_disk(store.path()));
    }
    // Every hot entry may lie in a page of its own; some directory pages too;
    // once for the snapshot, once for a checkpoint that is running.
    let used = table_stats(&store).blocks_used;
    assert!(used <= before.1 + 2 * (HOT + 200), "{used} blocks are used, before {}", before.1);
    // Those twice, and what of the log comes and goes.
    let bound = before.0 + 2 * (HOT + 200) * 4096 + (16 << 20);
    assert!(most <= bound, "{most} bytes on disk, before {}", before.0);
    assert_eq!(snapshot.get(key(7)).expect("get"), Some(&value(7, 30)[..]));
    assert_eq!(snapshot.get(key(59_990)).expect("get"), Some(&value(59_990, 600)[..]));
    drop(snapshot);
    overwrite(1_000);
    // A checkpoint that is running has blocks of its own.
    let start = Instant::now();
    loop {
        let after = table_stats(&store).blocks_used;
        if after <= before.1 + 100 {
            break;
        }
        let waited = start.elapsed() < Duration::from_secs(60);
        assert!(waited, "{after} blocks are used, before {}", before.1);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn stats_say_how_many_snapshots_are_held_and_what_they_keep() {
    let store = TestStore::on_disk(options());
    let overwrite = |stamp: u64| {
        for i in 0..3_000 {
            store
                .insert(key(i), value(stamp + i, if i % 2 == 0 { 30 } else { 2_000 }))
                .expect("insert");
        }
        store.checkpoint().expect("checkpoint");
    };
    let stats = || store.stats().snapshots;
    overwrite(0);
    let none = stats();
    assert_eq!((none.held, none.oldest_commits, none.oldest_age), (0, None, None));
    assert_eq!((none.waiting, none.block_bytes, none.log_bytes), (0, 0, 0));

    let first = store.snapshot().expect("a snapshot");
    assert_eq!(first.get("no").expect("get"), None);
    let clone = first.clone();
    store.insert("one", "more").expect("insert");
    let began = Instant::now();
    let second = store.snapshot().expect("a snapshot");
    assert_eq!(second.get("no").expect("get"), None);
    let two = stats();
    assert_eq!((two.held, two.waiting, two.oldest_commits), (2, 0, Some(1)));
    assert!(two.oldest_age.is_some_and(|age| age <= began.elapsed() + Duration::from_secs(600)));

    // Every page and every long value is another one now.
    overwrite(10_000);
    overwrite(20_000);
    let all = stats();
    assert_eq!(all.oldest_commits, Some(6_001));
    // A page has 64 slots of the default payload.
    let pages = 3_000 / 64 * 4096;
    assert!(all.block_bytes >= pages, "{all:?}");
    assert!(all.log_bytes >= 1_500 * 2_000, "{all:?}");
    assert!(all.block_bytes <= table_stats(&store).disk_bytes(), "{all:?}");
    let log: u64 = store.stats().log_files.iter().map(|file| file.bytes).sum();
    assert!(all.log_bytes < log, "{all:?}");

    drop(first);
    assert_eq!(stats().held, 2, "a clone is the same snapshot");
    drop(clone);
    let one = stats();
    assert_eq!((one.held, one.oldest_commits), (1, Some(6_000)));
    assert!(one.block_bytes >= pages && one.block_bytes <= all.block_bytes, "{one:?}");
    drop(second);
    let none = stats();
    assert_eq!((none.held, none.oldest_commits, none.oldest_age), (0, None, None));
    assert_eq!((none.block_bytes, none.log_bytes), (0, 0));
}

#[test]
fn writers_go_on_while_a_snapshot_is_taken_and_read() {
    let store = TestStore::on_disk(options().write_buffer(32 << 20));
    for i in 0..100_000u64 {
        store.insert(key(i), value(i, 30)).expect("insert");
    }
    let (done, written) = (AtomicBool::new(false), std::sync::atomic::AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random::unprinted(1_006);
            while !done.load(Ordering::Relaxed) {
                let i = random.below(100_000);
                store.insert(key(i), value(i + 1, 30)).expect("insert");
                written.fetch_add(1, Ordering::Relaxed);
            }
        });
        let start = Instant::now();
        for _ in 0..5 {
            let snapshot = store.snapshot().expect("a snapshot");
            let first = snapshot.get(key(1)).expect("get").map(<[u8]>::to_vec);
            let entries: u64 = snapshot.iter().map(|entry| u64::from(entry.is_ok())).sum();
            assert_eq!((entries, snapshot.len()), (100_000, 100_000));
            assert_eq!(snapshot.get(key(1)).expect("get").map(<[u8]>::to_vec), first);
        }
        let at_least = written.load(Ordering::Relaxed);
        done.store(true, Ordering::Relaxed);
        assert!(at_least > 100, "{at_least} writes in {:?}", start.elapsed());
    });
}

#[test]
fn a_snapshot_that_nobody_reads_is_given_up_at_any_moment() {
    let store = TestStore::on_disk(options());
    let (mut model, mut random) = (Model::new(), Random::new(1_007));
    for n in 0..60 {
        change(&store, &mut model, &mut random, 300);
        let snapshot = store.snapshot().expect("a snapshot");
        // Before, while, and after its checkpoint ends.
        std::thread::sleep(Duration::from_micros(random.below(n * 200 + 1)));
        drop(snapshot);
    }
    store.checkpoint().expect("checkpoint");
    assert_holds(&store, &model);
    assert_clean(&store);
}

#[test]
fn damage_is_an_error_of_its_entries_and_hides_no_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let db = options().open(directory.path()).expect("create");
    for i in 0..20_000u64 {
        db.insert(key(i), value(i, 30)).expect("insert");
    }
    db.close().expect("close");
    // A page in the middle of the file, all of it.
    let path = directory.path().join("default.swiss");
    let mut bytes = std::fs::read(&path).expect("read");
    let at = (bytes.len() / 2) & !4095;
    bytes[at..at + 4096].fill(0x5a);
    std::fs::write(&path, &bytes).expect("write");
    let files: Arc<dyn Storage> = Arc::new(Files::new(directory.path()));
    let db = options().open_on(files).expect("open");
    let snapshot = db.snapshot().expect("a snapshot");
    let (mut found, mut damaged) = (0, 0);
    for entry in snapshot.iter() {
        match entry {
            Ok((_, value)) => found += u64::from(value.len() == 30),
            Err(error) => {
                assert!(matches!(error, Error::Corrupt(_)), "{error}");
                damaged += 1;
            }
        }
    }
    assert!(damaged <= 2 && found >= 18_000, "{found} entries, {damaged} errors");
    // By iterating, the rest of a segment is passed over with its damaged page; by key,
    // an entry whose search leads over it is an error. None is said to be absent.
    let mut got = 0;
    for i in 0..20_000u64 {
        match snapshot.get(key(i)) {
            Ok(of) => {
                assert_eq!(of, Some(&value(i, 30)[..]), "{i}");
                got += 1;
            }
            Err(error) => assert!(matches!(error, Error::Corrupt(_)), "{i}: {error}"),
        }
    }
    assert!(got + 64 >= found, "{got} found by get, {found} by iterating");
}
