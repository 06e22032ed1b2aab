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
use crate::harness::{check, silently};
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
