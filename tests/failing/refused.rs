//! A record that a full device refuses, although its space was taken before.
//!
//! Goal: a store that appends by write calls refuses the commit, is not
//! poisoned, and nothing of the record comes to light: not after a kill, not
//! after a clean close, for which any valid record behind the end is damage.
//! Method: each of the writes of a commit fails in turn, at its beginning or
//! halfway. The values are zeros, as the rest of a new file is: so half of
//! a record is all of it.

use std::io::ErrorKind;
use std::sync::Arc;

use swissdb::{Batch, Db, Durability, Error, Options};

use super::is_full;
use crate::disk::{Disk, Fault, Kind};
use crate::support::assert_clean;

fn options() -> Options {
    Options::new().durability(Durability::Sync)
}

fn open(disk: &Disk) -> Db {
    options().open_on(Arc::new(disk.clone())).expect("open")
}

/// Commits values of that length, alone or two in a batch.
fn commit(db: &Db, length: usize, batch: bool) -> Result<(), Error> {
    let value = vec![0; length];
    if !batch {
        return db.insert("a", value);
    }
    let mut batch = Batch::new();
    batch.insert("a", &value)?;
    batch.insert("b", &value)?;
    db.write(&batch)
}

/// Refuses a write of a commit. `false`: it makes fewer of them.
fn refuse(nth: u64, fault: Fault, length: usize, batch: bool) -> bool {
    let at = format!("write {nth} fails by {fault:?}, {length} bytes, batch: {batch}");
    let disk = Disk::new(nth);
    let db = open(&disk);
    db.insert("before", "1").expect("insert");
    disk.fail(nth, fault, |call| call.kind == Kind::Write && call.name.starts_with("log/"));
    let outcome = commit(&db, length, batch);
    if disk.failed().is_none() {
        outcome.unwrap_or_else(|error| panic!("{at}: {error}"));
        return false;
    }
    let error = outcome.expect_err(&at);
    assert!(is_full(&error), "{at}: {error}");
    let holds = |db: &Db, what: &str| {
        assert_eq!(db.get("a").expect("get"), None, "{at}: {what}");
        assert_eq!(db.get("b").expect("get"), None, "{at}: {what}");
        assert_eq!(db.get("before").expect("get").as_deref(), Some(&b"1"[..]), "{at}: {what}");
    };
    holds(&db, "refused");
    holds(&open(&Disk::boot(&disk.killed(), nth)), "killed");
    db.close().unwrap_or_else(|error| panic!("{at}: {error}"));
    let db = open(&disk);
    holds(&db, "closed and opened");

    disk.fail(nth, fault, |call| call.kind == Kind::Write && call.name.starts_with("log/"));
    commit(&db, length, batch).expect_err(&at);
    commit(&db, length, batch).unwrap_or_else(|error| panic!("{at}, again: {error}"));
    assert_eq!(db.get("a").expect("get").map(|value| value.len()), Some(length), "{at}");
    assert_clean(&db);
    true
}

#[test]
fn of_a_record_that_a_full_device_refuses_nothing_comes_to_light() {
    for (length, batch) in [(8, false), (3_000, false), (30_000, false), (10, true), (9_000, true)]
    {
        for fault in [Fault::Error, Fault::Short] {
            let refused =
                (1..).take_while(|nth| refuse(*nth, fault(ErrorKind::StorageFull), length, batch));
            let writes = refused.count();
            assert!(writes >= 1, "{length} bytes are not written by a call");
            assert_eq!(writes == 1, length <= 3_000, "one call for a short record");
        }
    }
}
