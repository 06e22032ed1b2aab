//! Tables whose creation or dropping fails, in a store that goes on.
//!
//! The file of a table names a place in the log. As long as it lies there, the
//! log has to be there from that place on; but the log is let go by what the
//! open tables need. So nothing may be left behind.

use std::io::ErrorKind;
use std::sync::Arc;

use swissdb::{Db, Options};

use super::faults::Flavour;
use crate::disk::{Call, Disk, Fault};
use crate::support::{assert_clean, key, value};

fn options() -> Options {
    let never = std::time::Duration::from_secs(3600);
    Options::new().write_buffer(1 << 20).max_log_file(1 << 20).sync_interval(never)
}

/// Writes so much that log files are let go, if the store takes writes.
fn go_on(db: &Db) -> bool {
    for round in 0..3 {
        for i in 0..4 {
            if db.insert(key(i), value(round * 4 + i, 600_000)).is_err() {
                return false;
            }
        }
        if db.checkpoint().is_err() {
            return false;
        }
    }
    (0..4).all(|i| db.insert(key(i), "short").is_ok()) && db.checkpoint().is_ok()
}

/// Runs a deed in which the `nth` call fails that concerns the table `t`, then
/// goes on without it, and opens the store again. Says whether a call failed.
fn fails(nth: u64, flavour: Flavour, before: impl Fn(&Db), deed: impl Fn(&Db) -> bool) -> bool {
    let disk = Disk::new(nth);
    let db = options().open_on(Arc::new(disk.clone())).expect("create");
    db.insert("kept", "value").expect("insert");
    before(&db);
    db.sync().expect("sync");
    disk.fail_as(nth, move |call: &Call<'_>| {
        let meant = call.name.starts_with("t.swiss") || call.name.is_empty();
        let fault = flavour.fault(call.kind).unwrap_or(Fault::Error(ErrorKind::Other));
        meant.then_some(fault)
    });
    let done = deed(&db);
    let Some(failure) = disk.failed() else {
        assert!(done, "nothing has failed");
        return false;
    };
    let at = format!("call {nth}, {failure:?}, done: {done}");
    let went_on = go_on(&db);
    if went_on {
        db.sync().expect("sync");
    }
    let closed = db.close();
    assert_eq!(went_on, closed.is_ok(), "{at}: {closed:?}");
    for image in [disk.wreck(), disk.killed()] {
        let db = options().open_on(Arc::new(Disk::boot(&image, 1)));
        let db = db.unwrap_or_else(|error| panic!("{at}, went on: {went_on}: {error}"));
        assert_eq!(db.get("kept").expect("get").as_deref(), Some(&b"value"[..]), "{at}");
        if went_on {
            assert_eq!(db.get(key(0)).expect("get").as_deref(), Some(&b"short"[..]), "{at}");
        }
        assert_clean(&db);
        // Whatever became of the table, there can be one of that name.
        db.table("t").expect("table").insert("k", "v").expect("insert");
        db.close().expect("close");
    }
    true
}

fn each_call_fails(before: impl Fn(&Db), deed: impl Fn(&Db) -> bool) {
    for flavour in Flavour::ALL {
        let failed = (1..).take_while(|nth| fails(*nth, flavour, &before, &deed)).count();
        assert!(failed > 5, "{flavour:?}: {failed} calls failed");
        eprintln!("{flavour:?}: each of {failed} calls failed");
    }
}

#[test]
fn nothing_is_left_of_a_table_whose_creation_failed() {
    each_call_fails(|_| (), |db| db.table("t").is_ok());
}

#[test]
fn a_table_whose_dropping_failed_does_not_come_back_and_harms_nobody() {
    let before = |db: &Db| {
        let table = db.table("t").expect("create");
        table.insert("k", value(1, 5_000)).expect("insert");
        db.checkpoint().expect("checkpoint");
    };
    each_call_fails(before, |db| db.drop_table("t").is_ok());
}
