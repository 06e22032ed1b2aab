//! Forks of a process that has a store open.
//!
//! Goal: a forked child gets an error from every operation, whatever the other
//! threads of its parent were doing at the moment of the fork, hangs in none,
//! and changes nothing; the parent goes on as if nothing had been. Method: the
//! standard library cannot fork without unsafe code, so another process runs
//! with a small library of C in front of the system's (`fork.c`, compiled by
//! the compiler that links Rust programs), in which a call that std makes is a
//! fork. It forks again and again while its threads write, read, check and
//! compact; each child tries every operation, and says what came of it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use swissdb::{Batch, Db, Error, Options, Table};

use super::STORE;
use crate::support::peer::{Peer, hear, role, say};
use crate::support::{Model, assert_clean, assert_holds, key, value};

/// Says how often the process forks.
const FORKS: &str = "SWISSDB_TEST_FORKS";

const THREADS: u64 = 3;
const KEYS: u64 = 200;

fn options() -> Options {
    Options::new().write_buffer(1 << 20).max_log_file(1 << 20)
}

fn entry(thread: u64, i: u64) -> (Vec<u8>, Vec<u8>) {
    (key(thread * KEYS + i % KEYS), value(i, [20, 3_000][(i % 2) as usize]))
}

/// The library that turns a call into a fork, compiled.
fn library(directory: &Path) -> PathBuf {
    let library = directory.join("fork.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/processes/fork.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status()
        .expect("Rust programs are linked by a C compiler, so there is one");
    assert!(built.success(), "cc: {built}");
    library
}

/// What an operation in a forked child came to.
fn judge(name: &str, outcome: swissdb::Result<()>) {
    match outcome {
        Err(Error::Closed { why }) if why.contains("fork") => {}
        other => say(&format!("{name}: {other:?}")),
    }
}

/// Tries everything in a forked child.
fn try_everything(db: Db, table: Table) -> ! {
    let (key, value) = entry(0, 1);
    let mut batch = Batch::new();
    batch.insert(&key, "of the child").expect("add to the batch");
    batch.insert_into(&table, &key, "of the child").expect("add to the batch");
    judge("get", db.get(&key).map(drop));
    judge("get of an absent key", db.get("no such key").map(drop));
    judge("get_with", db.get_with(&key, |_| ()).map(drop));
    judge("contains_key", db.contains_key(&key).map(drop));
    judge("insert", db.insert(&key, &value));
    judge("insert of a long value", db.insert(&key, vec![1; 100_000]));
    judge("remove", db.remove(&key).map(drop));
    judge("write", db.write(&batch));
    judge("write of nothing", db.write(&Batch::new()));
    judge("clear", db.clear());
    judge("get of a table", table.get(&key).map(drop));
    judge("insert into a table", table.insert(&key, &value));
    judge("clear of a table", table.clear());
    judge("table", db.table("second").map(drop));
    judge("table, new", db.table("third").map(drop));
    judge("tables", db.tables().map(drop));
    judge("drop_table", db.drop_table("second").map(drop));
    judge("sync", db.sync());
    judge("checkpoint", db.checkpoint());
    judge("compact", db.compact().map(drop));
    judge("iter", db.iter().next().expect("an error, not the end").map(drop));
    judge("survey", db.survey(|_| ()).map(drop));
    judge("census", db.census().map(drop));
    judge("verify", db.verify().map(drop));
    // These cannot fail. They must return.
    let _ = (db.len(), table.len(), db.path(), db.stats(), table.stats());
    judge("close", db.close());
    drop(table);
    say("child done");
    std::process::exit(0)
}

/// Not a test by itself: the process that forks.
#[test]
fn parent() {
    let (Some(_role), Ok(store), Ok(forks)) = (role(), std::env::var(STORE), std::env::var(FORKS))
    else {
        return;
    };
    let forks: u64 = forks.parse().expect("a number");
    let db = options().open(store).expect("open");
    let table = db.table("second").expect("a table");
    let over = AtomicBool::new(false);
    let written: Vec<AtomicU64> = (0..THREADS).map(|_| AtomicU64::new(0)).collect();
    let (over, written) = (&over, &written);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let db = db.clone();
            scope.spawn(move || {
                for i in (0..).take_while(|i| *i < KEYS || !over.load(Relaxed)) {
                    let (key, value) = entry(thread, i);
                    db.insert(key, value).expect("insert");
                    written[thread as usize].store(i, Relaxed);
                }
            });
        }
        for work in [|db: &Db| db.checkpoint(), |db: &Db| db.compact().map(drop)] {
            let db = db.clone();
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    work(&db).expect("what goes on beside");
                    let _ = (db.stats(), db.iter().take(5).count());
                }
            });
        }
        for _ in 0..forks {
            if std::os::unix::process::parent_id() == 0 {
                try_everything(db.clone(), table.clone());
            }
            // The child is done, or the test is over.
            hear();
        }
        over.store(true, Relaxed);
    });
    let mut model = Model::new();
    for (thread, last) in (0..).zip(written) {
        (0..=last.load(Relaxed)).for_each(|i| {
            let (key, value) = entry(thread, i);
            model.insert(key, value);
        });
    }
    assert_holds(&db, &model);
    assert_clean(&db);
    db.close().expect("close");
    say(&format!("parent done with {} entries", model.len()));
}

#[test]
fn a_forked_child_gets_errors_and_neither_hangs_nor_changes_anything() {
    const MANY: u64 = 25;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let library = library(directory.path());
    let store = directory.path().join("store");
    let forks = MANY.to_string();
    let variables =
        [(STORE, store.as_os_str()), (FORKS, forks.as_ref()), ("LD_PRELOAD", library.as_os_str())];
    let mut parent = Peer::start("processes::fork::parent", "fork", &variables);
    for fork in 0..MANY {
        let mut complaints = Vec::new();
        loop {
            match parent.next().expect("neither parent nor child ends in between").as_str() {
                "child done" => break,
                complaint => complaints.push(complaint.to_owned()),
            }
        }
        assert!(complaints.is_empty(), "child {fork}:\n{}", complaints.join("\n"));
        parent.tell("go on");
    }
    parent.expect(&format!("parent done with {} entries", THREADS * KEYS));
    parent.end();
    let db = Options::new().create(false).open(&store).expect("open after the forks");
    assert_clean(&db);
    assert_eq!(db.len(), THREADS * KEYS);
    assert!(db.tables().expect("tables") == ["default", "second"]);
    db.close().expect("close");
}
