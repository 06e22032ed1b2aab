//! Group commit: one leads, the others wait.
//!
//! Goal: what is acknowledged is on the device, in order; nobody waits for
//! ever; a leader that fails or panics takes nobody's commit for durable.
//! Method: `log/sync.rs` as it is, over files that remember what was written
//! and what was synced. A waiter that is never woken is a deadlock, which the
//! checker reports.

use loom::sync::Arc;
use loom::sync::atomic::Ordering::Relaxed;

use crate::error::Error;
use crate::harness::{check, check_within, silently};
use crate::log::Log;
use crate::log::files::Sync;

/// Two threads commit and sync at once. The second commit goes into a new file.
fn two_files() {
    let log = Arc::new(Log::new(Sync::Works));
    let first = log.active();
    log.append(&first, 1);
    let other = {
        let (log, first) = (log.clone(), first.clone());
        loom::thread::spawn(move || {
            log.sync_to(1).expect("the device works");
            assert_eq!(first.file.on_device.load(Relaxed), 1, "acknowledged, not synced");
        })
    };
    let second = log.start(2, Sync::Works);
    log.append(&second, 2);
    log.sync_to(2).expect("the device works");
    assert_eq!(second.file.on_device.load(Relaxed), 2, "acknowledged, not synced");
    assert_eq!(first.file.on_device.load(Relaxed), 1, "a commit is missing before another");
    other.join().expect("the other ends");
}

/// Syncs, catching a panic. Whether it worked.
fn sync(log: &Log, commit: u64) -> bool {
    match silently(|| log.sync_to(commit)) {
        Ok(Ok(())) => true,
        Ok(Err(Error::Io { .. } | Error::Poisoned { .. })) | Err(_) => false,
        Ok(Err(error)) => panic!("{error}"),
    }
}

/// Two threads sync, and whoever leads fails in this way.
fn failing(behaviour: Sync) {
    let log = Arc::new(Log::new(behaviour));
    let file = log.active();
    log.append(&file, 1);
    let other = {
        let log = log.clone();
        loom::thread::spawn(move || assert!(!sync(&log, 1), "acknowledged, not synced"))
    };
    assert!(!sync(&log, 1), "acknowledged, not synced");
    assert!(log.poison.is_set());
    other.join().expect("the other ends");
}

/// Three threads sync the same commit: one leads, the others sleep.
fn three() {
    let log = Arc::new(Log::new(Sync::Works));
    let file = log.active();
    log.append(&file, 1);
    let sync = |log: &Log| log.sync_to(1).expect("the device works");
    let others = [(); 2].map(|()| {
        let log = log.clone();
        loom::thread::spawn(move || sync(&log))
    });
    sync(&log);
    assert_eq!(file.file.on_device.load(Relaxed), 1, "acknowledged, not synced");
    others.into_iter().for_each(|other| other.join().expect("the other ends"));
}

/// One syncs, then something else poisons the store. Two are too late for that
/// sync; whoever of them is woken finds the poison.
fn poisoned_meanwhile() {
    let log = Arc::new(Log::new(Sync::Works));
    let file = log.active();
    log.append(&file, 1);
    let first = {
        let log = log.clone();
        loom::thread::spawn(move || {
            log.sync_to(1).expect("the device works");
            log.poison.set(&"a write has failed");
        })
    };
    let other = {
        let log = log.clone();
        loom::thread::spawn(move || drop(log.sync_to(2)))
    };
    log.append(&file, 2);
    drop(log.sync_to(2));
    first.join().expect("the first ends");
    other.join().expect("the other ends");
}

/// Two writers, both of whom are expected; the one who comes first gathers.
/// Its time may be over at any moment, or never.
fn crowd(time_passes: bool) {
    let log = Arc::new(Log::new(Sync::Works));
    log.expect_writers(2);
    let file = log.active();
    log.append(&file, 1);
    let other = {
        let (log, file) = (log.clone(), file.clone());
        loom::thread::spawn(move || {
            log.make_durable(1).expect("the device works");
            assert!(file.file.on_device.load(Relaxed) >= 1, "acknowledged, not synced");
        })
    };
    let clock = time_passes.then(|| {
        let log = log.clone();
        loom::thread::spawn(move || log.time_passes())
    });
    log.append(&file, 2);
    log.make_durable(2).expect("the device works");
    assert_eq!(file.file.on_device.load(Relaxed), 2, "acknowledged, not synced");
    other.join().expect("the other ends");
    clock.into_iter().for_each(|clock| clock.join().expect("the clock ends"));
}

#[test]
fn all_whom_a_sync_covers_wake() {
    check_within("three who sync", Some(3), three);
}

#[test]
fn nobody_sleeps_on_when_the_store_was_poisoned_meanwhile() {
    check_within("three who fail", Some(2), poisoned_meanwhile);
}

#[test]
fn whoever_completes_a_crowd_leads() {
    check("a crowd", || crowd(false));
}

#[test]
fn whoever_gathers_leads_when_its_time_is_over_and_nobody_has_begun() {
    check_within("a crowd, and its time is over", Some(2), || crowd(true));
}

#[test]
fn what_is_acknowledged_is_on_the_device() {
    check("group commit", two_files);
}

#[test]
fn a_leader_that_fails_wakes_and_fails_all() {
    check("a leader that fails", || failing(Sync::Fails));
}

#[test]
fn a_leader_that_panics_wakes_and_fails_all() {
    check("a leader that panics", || failing(Sync::Panics));
}
