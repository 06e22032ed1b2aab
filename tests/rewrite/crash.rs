//! Crashes and full devices while a table gets another slot payload.
//!
//! Method: the change runs on a simulated disk, and at each of its steps an
//! image is taken of what the death of the process and what power loss would
//! leave. Each image is opened, cut off once more while that happens, opened
//! again, verified, compared, and written to.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use swissdb::storage::Storage;
use swissdb::{Db, Options, Payload};

use crate::disk::{Disk, Fault, Image, Kind};
use crate::support::{
    Model, assert_clean, assert_holds, assert_same, pairs, seed_of_the_run, value,
};

use super::{go_on, mixed, stats_of};

/// What is left after a step of the disk.
struct Fate {
    image: Image,
    /// Which step, and what happened then.
    name: String,
}

fn options() -> Options {
    Options::new().write_buffer(1 << 20).max_log_file(1 << 20)
}

/// What the death of the process and power loss leave at every step of a deed.
fn fates(disk: &Disk, deed: impl FnOnce()) -> Vec<Fate> {
    let fates = Arc::new(Mutex::new(Vec::new()));
    let seen = fates.clone();
    disk.watch(move |moment| {
        let mut fates = seen.lock().expect("the fates so far");
        let step = format!("step {} ({:?} {})", fates.len(), moment.call.kind, moment.call.name);
        let seed = seed_of_the_run() ^ fates.len() as u64;
        for (image, what) in [
            (moment.kill(), "killed"),
            (moment.power_loss(seed), "power lost"),
            (moment.power_loss(!seed), "power lost otherwise"),
        ] {
            fates.push(Fate { image, name: format!("{what} at {step}") });
        }
    });
    deed();
    disk.watch(|_| {});
    std::mem::take(&mut *fates.lock().expect("all fates"))
}

/// A disk with a store of two tables, the second of which was never changed
/// since the first checkpoint.
fn disk_with(model: &Model) -> Disk {
    let disk = Disk::new(seed_of_the_run());
    let db = options().open_on(Arc::new(disk.clone())).expect("create");
    let other = db.table("other").expect("table");
    for (key, value) in model.iter().take(50) {
        other.insert(key, value).expect("insert");
    }
    for (key, value) in model {
        db.insert(key, value).expect("insert");
    }
    drop(other);
    db.close().expect("close");
    disk
}

fn change(disk: &Disk, payload: usize) -> swissdb::Result<swissdb::Rewritten> {
    let storage = Arc::new(disk.clone());
    options().change_payload_on(storage, "default", Payload::Bytes(payload), go_on)
}

/// Fails unless a store is what it has to be before or after the change.
/// Returns its payload.
fn check(db: &Db, model: &Model, name: &str) -> usize {
    let payload = stats_of(db, "default").payload;
    eprintln!("{name}: {payload}");
    assert_clean(db);
    assert_holds(db, model);
    let other = db.table("other").expect("table");
    assert_same(pairs(other.iter()), &model.clone().into_iter().take(50).collect());
    payload
}

/// Every crash leaves one of the two tables, also if opening crashes again.
fn crash_everywhere(from: usize, to: usize) {
    let model = mixed(250);
    let disk = disk_with(&model);
    if from != 56 {
        change(&disk, from).expect("a first change");
    }
    let crashes = fates(&disk, || assert!(change(&disk, to).expect("change").finished));
    assert!(crashes.len() > 60, "the disk was watched");
    let mut found = std::collections::BTreeMap::<usize, usize>::new();
    for (i, Fate { image, name }) in crashes.iter().enumerate() {
        let disk = Disk::boot(image, i as u64);
        let mut opened = None;
        let twice = fates(&disk, || {
            let db = options().open_on(Arc::new(disk.clone()));
            opened = Some(db.unwrap_or_else(|error| panic!("{name}: {error}")));
        });
        let db = opened.expect("it was opened");
        let payload = check(&db, &model, name);
        assert!([from, to].contains(&payload));
        *found.entry(payload).or_default() += 1;
        for round in 0..3 {
            db.insert("after", value(round, 3_000)).expect("insert");
            db.checkpoint().expect("checkpoint");
        }
        db.remove("after").expect("remove");
        db.close().unwrap_or_else(|error| panic!("{name}: {error}"));
        let db = options().open_on(Arc::new(disk.clone())).expect("open again");
        check(&db, &model, name);
        // Later on, power loss may not bring the other table back.
        let image = disk.crash();
        drop(db);
        let db = options().open_on(Arc::new(Disk::boot(&image, i as u64)));
        assert_eq!(check(&db.expect("open"), &model, name), payload, "{name}");
        if i % 7 == 0 {
            for Fate { image, name: again } in twice.iter().skip(i % 3).step_by(5) {
                let disk = Disk::boot(image, i as u64);
                let db = options().open_on(Arc::new(disk));
                let name = format!("{name}, then {again}");
                check(&db.unwrap_or_else(|error| panic!("{name}: {error}")), &model, &name);
            }
        }
    }
    eprintln!("{from} to {to}: {found:?}");
    assert!(found.len() == 2, "both tables were found");
    let left = Disk::boot(&disk.crash(), 1);
    let db = options().open_on(Arc::new(left)).expect("open");
    assert_eq!(check(&db, &model, "power lost behind it"), to, "it is durable");
}

#[test]
fn larger_slots_may_crash_anywhere() {
    crash_everywhere(56, 200);
}

#[test]
fn smaller_slots_may_crash_anywhere() {
    crash_everywhere(200, 24);
}

#[test]
fn any_call_may_fail_and_one_of_the_two_tables_is_there() {
    let model = mixed(250);
    let image = disk_with(&model).crash();
    let (mut failed, mut changed) = (0, 0);
    for nth in 1.. {
        let disk = Disk::boot(&image, 3);
        disk.fail(nth, Fault::Error(ErrorKind::Other), |call| call.kind != Kind::Lock);
        let outcome = change(&disk, 24);
        let Some(call) = disk.failed() else { break };
        let name = format!("call {nth} ({:?} {})", call.kind, call.name);
        failed += usize::from(outcome.is_err());
        // What a failed write or sync left in the cache may be gone.
        let next = disk.kill();
        let db = options().open_on(Arc::new(next)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let payload = check(&db, &model, &name);
        assert!(payload == 24 || outcome.is_err(), "{name} is said to be done");
        changed += usize::from(payload == 24);
        db.close().unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    eprintln!("{failed} calls failed, {changed} times the table was changed");
    assert!(failed > 30 && changed > 10);
}

#[test]
fn a_full_device_changes_nothing() {
    let model: Model = mixed(3_000);
    let disk = disk_with(&model);
    let used = disk.used();
    for room in [0, 4_096, 100_000, 300_000, 1_000_000] {
        disk.set_capacity(Some(used + room));
        for payload in [24, 504] {
            let refused = change(&disk, payload).expect_err("there is no room");
            let text = refused.to_string();
            assert!(text.contains("free some space"), "{room}, {payload}: {text}");
            let names = disk.list("").expect("list");
            assert!(!names.iter().any(|name| name.ends_with(".tmp")), "{names:?}");
        }
    }
    disk.set_capacity(None);
    let db = options().open_on(Arc::new(disk.clone())).expect("open");
    assert_eq!(check(&db, &model, "full"), 56);
    db.close().expect("close");
    assert!(change(&disk, 24).expect("there is room").finished);
}
