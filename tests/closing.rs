//! Closing a store through one handle while others are at it through theirs.
//!
//! Goal: when a store is closed nobody is at its files any more, and what the last
//! checkpoint says of them stays true. Method: a storage that stops a thread
//! between two of its operations, until another has come far enough.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use swissdb::storage::Storage;
use swissdb::storage::memory::Memory;
use swissdb::{Db, Error, Options};

use crate::support::{Gate, assert_clean, key, value};

/// How long somebody is waited for who never comes where all is well.
const PATIENCE: Duration = Duration::from_secs(20);

/// A store whose operations `before` is called with: the thread and the operation.
fn open(memory: &Memory, before: impl Fn(&str, &str) + Send + Sync + 'static) -> Db {
    let before = move |operation: &str| {
        let thread = std::thread::current();
        before(thread.name().unwrap_or_default(), operation);
    };
    let gate = Gate::awaiting(Arc::new(memory.clone()), Arc::new(before));
    let db = Options::new().open_on(Arc::new(gate)).expect("a store");
    // So few that no thread of the store makes a file ahead, for which closing waits.
    for i in 0..300 {
        db.insert(key(i), value(i, 100)).expect("insert");
    }
    db
}

fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    Builder::new().name(name.to_owned()).spawn(body).expect("a thread")
}

/// Waits for a message, or for the end of whoever would send one.
fn wait(for_what: &Mutex<Receiver<()>>) {
    let _ = for_what.lock().expect("a receiver").recv_timeout(PATIENCE);
}

fn open_again(memory: &Memory) -> Db {
    Options::new().open_on(Arc::new(memory.clone())).expect("open it again")
}

fn assert_holds_what_was_put(memory: &Memory) {
    assert_holds(memory, 300);
}

fn assert_holds(memory: &Memory, entries: u64) {
    let db = open_again(memory);
    assert_eq!(db.len(), entries);
    for i in 0..entries {
        assert_eq!(db.get(key(i)).expect("get").as_deref(), Some(&value(i, 100)[..]));
    }
    assert_clean(&db);
}

#[test]
fn a_compaction_does_not_take_the_log_on_behind_the_last_checkpoint() {
    // The headers said that the log ends where the store was closed, and then it
    // went on in another file: it looked damaged when it was opened again.
    let memory = Memory::new();
    let (prepares, is_preparing) = channel();
    let (froze, has_frozen) = channel();
    let (went_on, has_gone_on) = channel();
    let (leave, may_leave) = channel::<()>();
    let [has_frozen, has_gone_on, may_leave] = [has_frozen, has_gone_on, may_leave].map(Mutex::new);
    let (closing, goes_on) = (AtomicBool::new(false), AtomicBool::new(false));
    let returned = went_on.clone();
    let db = open(&memory, move |thread, operation| match (thread, operation) {
        // A small file for the log to go on in gets its name.
        ("compacts", "rename") => {
            let _ = prepares.send(());
            wait(&has_frozen);
        }
        // The log goes on in it.
        ("compacts", "write mapped") => {
            goes_on.store(true, Ordering::SeqCst);
            let _ = went_on.send(());
        }
        // A checkpoint, which would say that the store is not closed.
        ("compacts", "write") if goes_on.load(Ordering::SeqCst) => wait(&may_leave),
        // The last checkpoint, whose state is frozen.
        ("closes", "write") if !closing.swap(true, Ordering::SeqCst) => {
            let _ = froze.send(());
            wait(&has_gone_on);
        }
        _ => (),
    });
    let other = db.clone();
    let compacts = spawn("compacts", move || {
        let compacted = other.compact();
        let _ = returned.send(());
        compacted
    });
    is_preparing.recv_timeout(PATIENCE).expect("a file is prepared");
    spawn("closes", || db.close()).join().expect("no panic").expect("close");
    assert_holds_what_was_put(&memory);
    drop(leave);
    let compacted = compacts.join().expect("no panic");
    assert!(matches!(compacted, Err(Error::Closed { .. })), "{compacted:?}");
}

#[test]
fn a_store_is_not_closed_while_somebody_makes_a_log_file() {
    // The lock was given back, and the file got its name in the store of whoever
    // had opened it by then.
    let memory = Memory::new();
    let (prepares, is_preparing) = channel();
    let (go_on, may_go_on) = channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let db = open(&memory, move |thread, operation| {
        if (thread, operation) == ("writes", "rename") {
            let _ = prepares.send(());
            wait(&may_go_on);
        }
    });
    let other = db.clone();
    let writes = spawn("writes", move || other.insert("long", vec![7; 2 << 20]));
    is_preparing.recv_timeout(PATIENCE).expect("a file is prepared");
    let closes = spawn("closes", || db.close());
    std::thread::sleep(Duration::from_millis(100));
    let finished = closes.is_finished();
    drop(go_on);
    let written = writes.join().expect("no panic");
    closes.join().expect("no panic").expect("close");
    assert!(!finished, "it was closed while the file was made");
    assert!(matches!(written, Err(Error::Closed { .. })), "{written:?}");
    assert_eq!(memory.list("log").expect("list").len(), 1, "the file that nobody needs is gone");
    assert_holds_what_was_put(&memory);
}

#[test]
fn a_compaction_whose_progress_closes_the_store_writes_nothing_to_the_next_opening() {
    // It went on to a checkpoint of its own, whose headers were older than those
    // that the next opening had written by then: what that had put was gone.
    let memory = Memory::new();
    let db = open(&memory, |_, _| ());
    let mut other = Some(db.clone());
    let compacted = db.compact_with(|_| {
        if let Some(other) = other.take() {
            other.close().expect("close");
            let next = open_again(&memory);
            for i in 300..600 {
                next.insert(key(i), value(i, 100)).expect("insert");
                if i % 100 == 0 {
                    next.checkpoint().expect("checkpoint");
                }
            }
            next.close().expect("close");
        }
        ControlFlow::Continue(())
    });
    assert!(matches!(compacted, Err(Error::Closed { .. })), "{compacted:?}");
    assert_holds(&memory, 600);
}
