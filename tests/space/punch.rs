//! Nobody waits while space goes back to the device, which may take its time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use swissdb::Options;
use swissdb::storage::memory::Memory;

use crate::support::{Gate, assert_clean, key};

/// How long a hole takes, unless the test has ended it before.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn writers_and_readers_go_on_while_a_hole_is_punched() {
    // A device that is told what is free took 60 to 90 ms for each 2 MiB, and
    // that long the writer lock was held.
    let (begun, has_begun) = channel();
    let (end, is_over) = channel::<()>();
    let is_over = Mutex::new(is_over);
    let in_vain = Arc::new(AtomicBool::new(false));
    let before = {
        let in_vain = in_vain.clone();
        move |operation: &str| {
            if operation == "punch" {
                let _ = begun.send(());
                // Holes after the test are not waited for.
                let end = is_over.lock().expect("the end").recv_timeout(PATIENCE);
                in_vain.fetch_or(end == Err(RecvTimeoutError::Timeout), Ordering::SeqCst);
            }
        }
    };
    let memory = Memory::new();
    let gate = Gate::awaiting(Arc::new(memory.clone()), Arc::new(before));
    let db = Options::new().payload(504).open_on(Arc::new(gate)).expect("a store");
    for i in 0..6_000 {
        db.insert(key(i), [7; 400]).expect("insert");
    }
    db.clear().expect("clear");
    let checkpoint = std::thread::spawn({
        let db = db.clone();
        move || db.checkpoint()
    });
    has_begun.recv_timeout(PATIENCE).expect("a hole is punched");
    for i in 0..100 {
        db.insert(key(i), [8; 400]).expect("insert");
        assert_eq!(db.get(key(i)).expect("get").as_deref(), Some(&[8; 400][..]));
    }
    drop(end);
    assert!(!in_vain.load(Ordering::SeqCst), "the writers waited for the hole");
    checkpoint.join().expect("no panic").expect("a checkpoint");
    db.close().expect("close");
    let db = Options::new().open_on(Arc::new(memory)).expect("open it again");
    assert_eq!(db.len(), 100);
    assert_clean(&db);
}
