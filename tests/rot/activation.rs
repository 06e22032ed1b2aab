//! A log file that tables still have values in, and that no longer says it was
//! ever part of the log.
//!
//! What tells a file of the log from one that was only prepared are 32 bytes of
//! its first block. One of them is damaged; then the store is opened, after
//! closing it and after a kill, and goes on until log files are taken anew.

use std::sync::Arc;

use swissdb::storage::memory::Memory;
use swissdb::storage::{Access, Storage};
use swissdb::{Db, Options};

use crate::support::{assert_clean, key, value};

/// The file that is damaged.
const ROTTEN: &str = "log/00000001.log";
/// As many values as need two log files and more.
const VALUES: u64 = 600;
/// How long they are, in bytes: none stands in its slot.
const LENGTH: usize = 3_000;

fn options() -> Options {
    Options::new().max_log_file(1 << 20)
}

fn insert(db: &Db, numbers: std::ops::Range<u64>) {
    for number in numbers {
        db.insert(key(number), value(number, LENGTH)).expect("insert");
    }
}

fn assert_holds(db: &Db, values: u64) {
    for number in 0..values {
        let found = db.get(key(number)).expect("get").expect("a value that was put");
        assert_eq!(*found, *value(number, LENGTH), "value {number}");
    }
}

/// What is left of a store whose values lie in several log files.
fn left(closed: bool) -> Memory {
    let files = Memory::new();
    let db = options().open_on(Arc::new(files.clone())).expect("create a store");
    insert(&db, 0..VALUES);
    db.checkpoint().expect("checkpoint");
    insert(&db, VALUES..VALUES + 10);
    let killed = files.copy().expect("copy the files");
    db.close().expect("close");
    if closed { files } else { killed }
}

/// Damages a byte of the activation; doing it again brings the file back.
fn flip(files: &Memory, at: u64) {
    let file = files.open(ROTTEN, Access::Write).expect("the file is still there");
    let mut byte = [0];
    file.read_at(&mut byte, at).expect("read");
    file.write_at(&[byte[0] ^ 4], at).expect("write");
}

/// Writes so much that several log files are begun.
fn go_on(files: &Memory) {
    let db = options().open_on(Arc::new(files.clone())).expect("open for writing");
    insert(&db, VALUES + 10..2 * VALUES);
    db.checkpoint().expect("checkpoint");
    db.close().expect("close");
}

#[test]
fn a_log_file_with_values_is_never_taken_for_one_that_was_not_used() {
    for closed in [true, false] {
        for at in [512, 520, 536, 543] {
            let files = left(closed);
            flip(&files, at);
            go_on(&files);
            go_on(&files);
            flip(&files, at);
            let db = options().open_on(Arc::new(files)).expect("open");
            assert_holds(&db, 2 * VALUES);
            assert_clean(&db);
        }
    }
}

#[test]
fn values_are_read_though_their_log_file_does_not_say_that_it_was_used() {
    for closed in [true, false] {
        let files = left(closed);
        flip(&files, 520);
        for read_only in [true, false, true] {
            let options = options().read_only(read_only);
            let db = options.open_on(Arc::new(files.clone())).expect("open");
            assert_holds(&db, VALUES + 10);
            let report = db.verify().expect("verify").to_string();
            assert!(report.contains("log file 1 is absent, damaged or not activated"), "{report}");
            db.close().expect("close");
        }
    }
}

#[test]
fn a_log_file_that_does_not_say_that_it_was_used_goes_when_its_values_went() {
    let files = left(true);
    flip(&files, 520);
    let db = options().open_on(Arc::new(files.clone())).expect("open for writing");
    for number in 0..VALUES {
        db.insert(key(number), b"short").expect("insert");
    }
    db.checkpoint().expect("checkpoint");
    db.close().expect("close");
    assert!(files.open(ROTTEN, Access::Read).is_err(), "the file is still there");
    let db = options().open_on(Arc::new(files)).expect("open");
    assert_clean(&db);
}
