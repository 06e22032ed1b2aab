//! Several processes and one store.
//!
//! Goal: one process writes, or any number read, and whoever comes too late is
//! told so, and by whom the store is held; a process that is gone, however it
//! went, holds nothing; a forked child gets errors. Method: this test binary is
//! started again as other processes ([`Peer`]) that open a store, say what came
//! of it, and wait until they are told to go on. Nothing rests on how long
//! anything takes.

#[path = "processes/fork.rs"]
mod fork;

use std::path::Path;

use swissdb::{Db, Error, Options, inspect};

use crate::cli::tool::Place;
use crate::support::peer::{Peer, hear, role, say};
use crate::support::{Model, TestStore, assert_clean, assert_same, files_below, key, pairs, value};

/// Tells a child which store is meant.
const STORE: &str = "SWISSDB_TEST_STORE";

const ENTRIES: u64 = 300;

/// Lengths of values: in the slot and in the log.
fn entry(i: u64) -> (Vec<u8>, Vec<u8>) {
    (key(i), value(i, [10, 40, 700, 6_000][(i % 4) as usize]))
}

fn model() -> Model {
    (0..ENTRIES).map(entry).collect()
}

fn fill(db: &Db) {
    for i in 0..ENTRIES {
        let (key, value) = entry(i);
        db.insert(key, value).expect("insert");
    }
}

/// What came of opening a store, in a word that another process can read.
fn outcome(opened: &swissdb::Result<Db>) -> String {
    match opened {
        Ok(_) => "open".into(),
        Err(Error::Locked { pid: Some(pid), .. }) => format!("locked by {pid}"),
        Err(Error::Locked { pid: None, .. }) => "locked".into(),
        Err(error) => format!("error: {error}"),
    }
}

/// Not a test by itself: what the other processes do.
#[test]
fn child() {
    let (Some(role), Ok(store)) = (role(), std::env::var(STORE)) else {
        return;
    };
    let options = match role.as_str() {
        "read" => Options::new().read_only(true),
        // Files of one size: each will do for the next one.
        "overwrite" => Options::new().max_log_file(1 << 20),
        _ => Options::new(),
    };
    if role == "race" {
        say("ready");
        hear();
    }
    let opened = options.open(&store);
    say(&outcome(&opened));
    if let Ok(db) = &opened {
        match role.as_str() {
            "fill" => fill(db),
            "read" => check(db),
            "race" => db.insert("winner", std::process::id().to_string()).expect("insert"),
            "overwrite" => overwrite(db),
            _ => {}
        }
        say("done");
    }
    hear();
    if let Ok(db) = opened {
        db.close().expect("close");
    }
}

/// Reads everything, in a child that has the store open for reading.
fn check(db: &Db) {
    for i in 0..ENTRIES {
        let (key, value) = entry(i);
        assert_eq!(db.get(&key).expect("get").as_deref(), Some(&value[..]), "entry {i}");
    }
    assert_same(pairs(db.iter()), &model());
    assert!(matches!(db.insert("k", "v"), Err(Error::ReadOnly)));
    assert_clean(db);
}

/// Overwrites one value until no log file is left that was there, and so much more
/// that each that was used again would be full.
fn overwrite(db: &Db) {
    for i in 0..6_000 {
        db.insert("lent", value(i, 1_000)).expect("insert");
        if i % 1_000 == 0 {
            db.checkpoint().expect("checkpoint");
        }
    }
}

fn start(role: &str, store: &Path) -> Peer {
    Peer::start("processes::child", role, &[(STORE, store)])
}

#[test]
fn a_second_process_is_told_that_the_store_is_locked_and_by_whom() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut holder = start("fill", directory.path());
    holder.expect("open");
    holder.expect("done");
    let number = holder.id();
    for options in [Options::new(), Options::new().create(false), Options::new().read_only(true)] {
        match options.open(directory.path()) {
            Err(error @ Error::Locked { pid: Some(pid), .. }) => {
                assert_eq!(pid, number);
                let text = error.to_string();
                let path = directory.path().display().to_string();
                assert!(text.contains(&path) && text.contains(&pid.to_string()), "{text}");
                assert!(text.contains("close it there first"), "what to do: {text}");
            }
            other => panic!("{:?}", other.err()),
        }
    }
    let verified = swissdb::verify(directory.path()).map(drop);
    let inspected = inspect::log(directory.path()).map(drop);
    for refused in [verified, inspected] {
        assert!(matches!(refused, Err(Error::Locked { pid, .. }) if pid == Some(number)));
    }
    let mut reader = start("read", directory.path());
    reader.expect(&format!("locked by {number}"));
    reader.end();
    holder.end();
    let db = Options::new().read_only(true).open(directory.path()).expect("nobody holds it");
    check(&db);
}

#[test]
fn the_command_says_that_a_store_is_locked_and_by_whom() {
    let place = Place::new();
    let store = place.path("db");
    let mut holder = start("fill", &store);
    holder.expect("open");
    holder.expect("done");
    let who = format!("is open in process {}, or in a child forked from it", holder.id());
    for command in [
        &["get", "db", "k"][..],
        &["put", "db", "k", "v"],
        &["stats", "db"],
        &["scan", "db"],
        &["verify", "db"],
        &["compact", "db"],
        &["inspect", "db"],
    ] {
        place.run(command).error(&who);
    }
    holder.end();
    let mut reader = start("read", &store);
    reader.expect("open");
    reader.expect("done");
    place.run(&["put", "db", "k", "v"]).error("is open elsewhere; close it there first");
    place.run(&["get", "db", "no such key"]).no();
    reader.end();
    place.run(&["put", "db", "k", "v"]).yes();
}

#[test]
fn many_processes_read_a_closed_store_at_once_and_keep_writers_out() {
    let mut store = TestStore::on_disk(Options::new());
    fill(&store);
    store.close();
    let before = files_below(store.path());
    let mut readers: Vec<Peer> = (0..6).map(|_| start("read", store.path())).collect();
    for reader in &mut readers {
        reader.expect("open");
    }
    for reader in &mut readers {
        reader.expect("done");
        // The number that an earlier writer left in LOCK is not the holder's.
        match Db::open(store.path()) {
            Err(error @ Error::Locked { pid: None, .. }) => {
                let text = error.to_string();
                assert!(text.contains("is open elsewhere; close it there first"), "{text}");
            }
            other => panic!("{:?}", other.err()),
        }
    }
    // The last one that is left keeps writers out as well, however it goes.
    let mut last = readers.pop().expect("a reader");
    readers.into_iter().for_each(Peer::end);
    assert!(matches!(Db::open(store.path()), Err(Error::Locked { pid: None, .. })));
    last.kill();
    assert!(before == files_below(store.path()), "reading changes no byte");
    store.open();
}

#[test]
fn a_killed_holder_leaves_no_lock_behind() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for round in 0..3 {
        let mut holder = start("fill", directory.path());
        holder.expect("open");
        holder.expect("done");
        holder.kill();
        // What the killed process left, nobody has recovered: readers do so
        // for themselves, several at a time.
        let before = files_below(directory.path());
        let mut readers: Vec<Peer> = (0..3).map(|_| start("read", directory.path())).collect();
        for reader in &mut readers {
            reader.expect("open");
            reader.expect("done");
        }
        readers.into_iter().for_each(Peer::end);
        assert!(before == files_below(directory.path()), "reading changes no byte");
        // In the odd rounds the next process recovers what the last one left.
        if round % 2 == 0 {
            let db = Db::open(directory.path()).expect("the holder is gone");
            assert_clean(&db);
            assert_eq!(db.len(), ENTRIES);
            db.close().expect("close");
        }
    }
}

#[test]
fn of_processes_that_create_a_store_at_once_one_wins_and_the_others_are_told() {
    for _round in 0..8 {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = directory.path().join("some").join("where");
        let mut racers: Vec<Peer> = (0..4).map(|_| start("race", &store)).collect();
        racers.iter_mut().for_each(|racer| racer.expect("ready"));
        racers.iter_mut().for_each(|racer| racer.tell("go"));
        let said: Vec<String> =
            racers.iter_mut().map(|racer| racer.next().expect("an outcome")).collect();
        let winners: Vec<usize> = (0..racers.len()).filter(|i| said[*i] == "open").collect();
        let [winner] = winners[..] else { panic!("one process wins: {said:?}") };
        let number = racers[winner].id();
        for (i, said) in said.iter().enumerate().filter(|(i, _)| *i != winner) {
            // It may have been too early to find the winner's number.
            let told = [format!("locked by {number}"), "locked".into()];
            assert!(told.contains(said), "process {i}: {said}");
        }
        racers[winner].expect("done");
        racers.into_iter().for_each(Peer::end);
        let db = Options::new().create(false).open(&store).expect("the store is there");
        let winner = db.get("winner").expect("get").expect("the winner's entry");
        assert_eq!(&winner[..], number.to_string().as_bytes());
        assert_eq!(db.len(), 1);
        assert_clean(&db);
    }
}

/// Closing gives the lock back while the function runs. The next process used the
/// log file again, with the lent bytes in it.
#[test]
fn what_get_with_has_lent_stays_though_the_store_is_closed_and_another_process_writes_to_it() {
    for read_only in [false, true] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let long = value(7, 1_000);
        let mut db = Db::open(directory.path()).expect("create");
        db.insert("lent", &long).expect("insert");
        if read_only {
            db.close().expect("close");
            db = Options::new().read_only(true).open(directory.path()).expect("open for reading");
        }
        let other = db.clone();
        let same = db.get_with("lent", |lent| {
            other.close().expect("close");
            let mut writer = start("overwrite", directory.path());
            writer.expect("open");
            writer.expect("done");
            writer.end();
            lent == long
        });
        assert_eq!(same.expect("get_with"), Some(true), "open for reading only: {read_only}");
        let db = Db::open(directory.path()).expect("open again");
        assert_eq!(db.get("lent").expect("get").as_deref(), Some(&value(5_999, 1_000)[..]));
        assert_clean(&db);
    }
}
