//! Snapshots that are taken while a checkpoint is being written.
//!
//! Goal: nobody who takes one waits for that checkpoint; each sees exactly its
//! moment, whatever is written, split or cleared meanwhile; and if something
//! fails or ends there, none is left waiting for ever. Method: a simulated disk
//! holds up a call of the checkpoint, at each of its steps, for as long as the
//! test wants: a snapshot that waited for its end would never be there, and a
//! watchdog would say so.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::channel;

use swissdb::{Db, Error, Options, Snapshot};

use super::{any_value, assert_default, assert_sees, assert_unchanged, change};
use crate::disk::{Call, Disk, Fault, Kind};
use crate::power::watchdog::Watchdog;
use crate::support::{Model, Random, assert_clean, assert_holds, key, value};

/// As many states as wait for a checkpoint at most.
pub const WAITING: usize = 4;

fn options() -> Options {
    Options::new().max_log_file(1 << 20).write_buffer(32 << 20)
}

/// The steps of a checkpoint that are held up.
pub fn is_page(call: &Call<'_>) -> bool {
    call.kind == Kind::Write && call.name == "default.swiss" && call.offset >= 8192
}

fn is_sync(call: &Call<'_>) -> bool {
    call.kind == Kind::Sync && call.name == "default.swiss"
}

fn is_header(call: &Call<'_>) -> bool {
    call.kind == Kind::Write && call.name == "default.swiss" && call.offset < 8192
}

pub const STEPS: [fn(&Call<'_>) -> bool; 3] = [is_page, is_sync, is_header];

/// A store with some entries and a checkpoint, and its model.
fn start(disk: &Disk, random: &mut Random) -> (Db, Model) {
    let db = options().open_on(Arc::new(disk.clone())).expect("create");
    let mut model = Model::new();
    change(&db, &mut model, random, 3_000);
    db.checkpoint().expect("checkpoint");
    change(&db, &mut model, random, 1_000);
    (db, model)
}

/// Does something while a checkpoint is held up at a step.
fn while_held<T>(db: &Db, disk: &Disk, step: fn(&Call<'_>) -> bool, deed: impl FnOnce() -> T) -> T {
    disk.hold(step);
    std::thread::scope(|scope| {
        let checkpoint = scope.spawn(|| db.checkpoint());
        disk.wait_until_held();
        let done = deed();
        assert!(!checkpoint.is_finished(), "nothing was held up");
        disk.release();
        checkpoint.join().expect("no panic").expect("checkpoint");
        done
    })
}

/// As many snapshots as may wait, each after some changes.
fn take(db: &Db, model: &mut Model, random: &mut Random) -> Vec<(Snapshot, Model)> {
    let one = |_| {
        let (before, changes) = (model.clone(), random.below(600));
        // One that is taken twice shares what was frozen.
        for _ in 0..3 {
            let snapshot = db.snapshot().expect("a snapshot");
            assert_eq!(snapshot.len(), before.len() as u64);
        }
        let snapshot = db.snapshot().expect("a snapshot");
        change(db, model, random, changes + 1);
        (snapshot, before)
    };
    (0..WAITING).map(one).collect()
}

#[test]
fn nobody_waits_for_a_checkpoint_that_is_being_written() {
    let watchdog = Watchdog::new("snapshots while a checkpoint is written");
    for (number, step) in STEPS.into_iter().enumerate() {
        let mut random = Random::new(2_001 + number as u64);
        let disk = Disk::new(random.next());
        let (db, mut model) = start(&disk, &mut random);
        for round in 0..4 {
            watchdog.beat(&format!("step {number}, round {round}"));
            let taken = while_held(&db, &disk, step, || take(&db, &mut model, &mut random));
            // Pages split and merge before some of them are written, or after.
            if round == 2 {
                for i in 0..8_000 {
                    let value = any_value(&mut random);
                    db.insert(key(i), &value).expect("insert");
                    model.insert(key(i), value);
                }
            }
            let commits: BTreeSet<u64> = taken.iter().map(|taken| taken.0.commit()).collect();
            assert_eq!(commits.len(), WAITING);
            assert_unchanged(&taken);
            assert_clean(&db);
        }
        assert_holds(&db, &model);
        db.close().expect("close");
        let db = options().open_on(Arc::new(disk)).expect("open again");
        assert_holds(&db, &model);
        assert_clean(&db);
    }
}

#[test]
fn stats_say_which_snapshots_wait_and_what_memory_they_keep() {
    let _watchdog = Watchdog::new("the numbers of what waits");
    let mut random = Random::new(2_071);
    let disk = Disk::new(random.next());
    let (db, mut model) = start(&disk, &mut random);
    assert_eq!(db.stats().snapshots.frame_bytes, 0);
    let taken = while_held(&db, &disk, is_page, || {
        let taken = take(&db, &mut model, &mut random);
        let stats = db.stats().snapshots;
        assert_eq!((stats.held, stats.waiting), (WAITING as u64, WAITING as u64));
        // What the first of them sees has been overwritten.
        assert!(stats.frame_bytes > 0, "{stats:?}");
        taken
    });
    assert_unchanged(&taken);
    let stats = db.stats().snapshots;
    assert_eq!((stats.held, stats.waiting), (WAITING as u64, 0));
    db.checkpoint().expect("checkpoint");
    assert_eq!(db.stats().snapshots.frame_bytes, 0);
    drop(taken);
    assert_eq!(db.stats().snapshots.held, 0);
}

#[test]
fn a_snapshot_keeps_tables_that_its_state_did_not_change_and_the_next_did() {
    let _watchdog = Watchdog::new("snapshots of two tables");
    let mut random = Random::new(2_061);
    let disk = Disk::new(random.next());
    let (db, mut model) = start(&disk, &mut random);
    let other = db.table("other").expect("a table");
    let mut others = Model::new();
    let mut overwrite = |others: &mut Model| {
        for i in 0..2_000 {
            let value = any_value(&mut random);
            other.insert(key(i), &value).expect("insert");
            others.insert(key(i), value);
        }
    };
    overwrite(&mut others);
    db.checkpoint().expect("checkpoint");
    db.insert("one", "change").expect("insert");
    model.insert(b"one".to_vec(), b"change".to_vec());
    // The first changed the default table only, the second the other one.
    disk.hold(is_page);
    let first = (db.snapshot().expect("a snapshot"), others.clone());
    disk.wait_until_held();
    overwrite(&mut others);
    let second = (db.snapshot().expect("a snapshot"), others.clone());
    disk.release();
    for _ in 0..4 {
        overwrite(&mut others);
        db.checkpoint().expect("checkpoint");
    }
    for (snapshot, others) in [&first, &second] {
        assert_default(snapshot, &model);
        assert_sees(snapshot.table("other").expect("the other table"), others);
    }
    drop((first, second));
    db.checkpoint().expect("checkpoint");
    assert_clean(&db);
}

#[test]
fn more_than_may_wait_begin_in_their_turn() {
    let watchdog = Watchdog::new("many snapshots");
    let mut random = Random::new(2_011);
    let disk = Disk::new(random.next());
    let (db, mut model) = start(&disk, &mut random);
    let (send, receive) = channel();
    let taken = std::thread::scope(|scope| {
        let taken = while_held(&db, &disk, is_page, || {
            let taken = take(&db, &mut model, &mut random);
            for _ in 0..3 {
                let (db, send) = (&db, send.clone());
                scope.spawn(move || send.send(db.snapshot()));
            }
            taken
        });
        watchdog.beat("what had to wait");
        for _ in 0..3 {
            let snapshot = receive.recv().expect("no panic").expect("a snapshot");
            assert_default(&snapshot, &model);
        }
        taken
    });
    assert_unchanged(&taken);
    assert_clean(&db);
}

#[test]
fn clearing_creating_and_dropping_wait_until_nothing_is_frozen() {
    let watchdog = Watchdog::new("clearing while states wait");
    let mut random = Random::new(2_021);
    let disk = Disk::new(random.next());
    let (db, mut model) = start(&disk, &mut random);
    let other = db.table("other").expect("a table");
    other.insert("only", "this").expect("insert");
    let others = Model::from([(b"only".to_vec(), b"this".to_vec())]);
    let deeds: [fn(&Db); 3] = [
        |db| db.clear().expect("clear"),
        |db| assert!(db.drop_table("other").expect("drop")),
        |db| drop(db.table("third").expect("create")),
    ];
    for (number, deed) in deeds.into_iter().enumerate() {
        watchdog.beat(&format!("deed {number}"));
        let taken = std::thread::scope(|scope| {
            let taken = while_held(&db, &disk, is_page, || {
                let taken = take(&db, &mut model, &mut random);
                scope.spawn(|| deed(&db));
                taken
            });
            // While others still want some.
            drop(db.snapshot().expect("a snapshot"));
            taken
        });
        for (snapshot, model) in &taken {
            assert_default(snapshot, model);
            if number < 2 {
                assert_sees(snapshot.table("other").expect("the other table"), &others);
            }
        }
        if number == 0 {
            model.clear();
        }
        change(&db, &mut model, &mut random, 500);
        assert_holds(&db, &model);
        assert_clean(&db);
    }
}

#[test]
fn a_checkpoint_that_fails_leaves_no_snapshot_waiting() {
    let watchdog = Watchdog::new("snapshots behind a checkpoint that fails");
    let mut random = Random::new(2_031);
    for fault in [std::io::ErrorKind::StorageFull, std::io::ErrorKind::Other] {
        watchdog.beat(&format!("{fault:?}"));
        let full = fault == std::io::ErrorKind::StorageFull;
        let disk = Disk::new(random.next());
        let (db, mut model) = start(&disk, &mut random);
        disk.hold(is_page);
        std::thread::scope(|scope| {
            let checkpoint = scope.spawn(|| db.checkpoint());
            disk.wait_until_held();
            let taken = take(&db, &mut model, &mut random);
            disk.fail(1, Fault::Error(fault), is_page);
            disk.release();
            assert!(checkpoint.join().expect("no panic").is_err());
            for (snapshot, model) in &taken {
                // It has failed, and its length is known all the same.
                assert!(snapshot.get(key(1)).is_err());
                assert_eq!(snapshot.len(), model.len() as u64);
            }
        });
        assert!(disk.failed().is_some());
        // After a failure that is not for want of room nothing more is written.
        assert_eq!(db.insert("one", "more").is_ok(), full);
        assert_eq!(db.snapshot().is_ok(), full);
        if full {
            model.insert(b"one".to_vec(), b"more".to_vec());
            let snapshot = db.snapshot().expect("a snapshot");
            assert_default(&snapshot, &model);
            assert_clean(&db);
        }
        assert_holds(&db, &model);
    }
}

#[test]
fn closing_writes_what_waits() {
    let _watchdog = Watchdog::new("closing while states wait");
    let mut random = Random::new(2_041);
    let disk = Disk::new(random.next());
    let (db, mut model) = start(&disk, &mut random);
    let taken = while_held(&db, &disk, is_header, || take(&db, &mut model, &mut random));
    db.close().expect("close");
    assert_unchanged(&taken);
    drop(taken);
    let db = options().open_on(Arc::new(disk)).expect("open again");
    assert_holds(&db, &model);
    assert_clean(&db);
}

/// What was frozen when the last checkpoint was over, nobody wrote: the first get
/// slept for ever.
#[test]
fn a_store_that_is_being_closed_gives_no_snapshot() {
    let watchdog = Watchdog::new("snapshots while a store is closed");
    // A log file that is removed at the end, after the last checkpoint.
    let is_removal: fn(&Call<'_>) -> bool =
        |call| call.kind == Kind::Remove && call.name.ends_with(".log");
    let mut random = Random::new(2_081);
    for (number, step) in STEPS.into_iter().chain([is_removal]).enumerate() {
        watchdog.beat(&format!("step {number}"));
        let disk = Disk::new(random.next());
        let (db, model) = start(&disk, &mut random);
        let before = db.snapshot().expect("a snapshot");
        assert_default(&before, &model);
        db.insert("one", "change").expect("insert");
        let other = db.clone();
        disk.hold(step);
        std::thread::scope(|scope| {
            let closing = scope.spawn(|| db.close());
            disk.wait_until_held();
            // It may be another thread that is held up, and closing has not begun.
            while !matches!(other.sync(), Err(Error::Closed { .. })) {
                std::thread::yield_now();
            }
            let taken = other.snapshot();
            assert!(!closing.is_finished(), "nothing was held up");
            disk.release();
            closing.join().expect("no panic").expect("close");
            assert!(matches!(taken, Err(Error::Closed { .. })), "step {number}: {taken:?}");
        });
        // One that was taken before can be read, and the store is locked until it is gone.
        assert_default(&before, &model);
        assert!(matches!(options().open_on(Arc::new(disk.clone())), Err(Error::Locked { .. })));
        drop(before);
        let db = options().open_on(Arc::new(disk)).expect("open again");
        assert!(db.contains_key("one").expect("get"));
        assert_clean(&db);
    }
}

#[test]
fn a_store_killed_while_states_wait_is_like_any_other() {
    let watchdog = Watchdog::new("killed while states wait");
    let mut random = Random::new(2_051);
    let disk = Disk::new(random.next());
    let (db, mut model) = start(&disk, &mut random);
    for (number, step) in STEPS.into_iter().enumerate() {
        watchdog.beat(&format!("step {number}"));
        let mut images = vec![];
        let taken = while_held(&db, &disk, step, || {
            let taken = take(&db, &mut model, &mut random);
            images.push(disk.killed());
            taken
        });
        // Some of them have been written, or none, or all.
        images.push(disk.killed());
        assert!(taken[1].0.get(key(1)).is_ok());
        images.push(disk.killed());
        for image in images {
            let after = Arc::new(Disk::boot(&image, random.next()));
            let after = options().open_on(after).expect("open what was killed");
            assert_holds(&after, &model);
            assert_clean(&after);
        }
        db.insert("value", value(number as u64, 40)).expect("insert");
        model.insert(b"value".to_vec(), value(number as u64, 40));
    }
}
