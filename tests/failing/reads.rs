//! Reads that fail once: an error for whoever met it, and for nobody else.
//!
//! After opening no page has been checked and most are not in memory, so that
//! every way to an entry reads. One of these reads fails, in turn each of them.

use std::sync::Arc;

use swissdb::{Db, Options};

use super::assert_sentence;
use crate::disk::{Disk, Fault, Image, Kind};
use crate::power::long;
use crate::power::watchdog::Watchdog;
use crate::support::{Model, Random, assert_clean, assert_holds, key, value};

fn options() -> Options {
    Options::new().payload(504).write_buffer(1 << 20).max_log_file(1 << 20)
}

/// A closed store, and what it holds: entries that spill and that do not.
fn store() -> (Image, Model) {
    let disk = Disk::new(5);
    let db = options().open_on(Arc::new(disk.clone())).expect("create");
    let mut model = Model::new();
    for i in 0..700 {
        let bytes = value(i, if i % 9 == 0 { 2_000 } else { 100 });
        db.insert(key(i), &bytes).expect("insert");
        model.insert(key(i), bytes);
    }
    db.close().expect("close");
    (disk.killed(), model)
}

/// Opens the store anew for each read of a deed, which then fails. Says how
/// often that was.
fn each_read_fails(what: &str, deed: impl Fn(&Db, &Model, &str) -> usize) -> u64 {
    let watchdog = Watchdog::new(what);
    let (image, model) = store();
    let mut random = Random::new(45);
    let (mut nth, mut failed) = (1, 0);
    loop {
        let disk = Disk::boot(&image, nth);
        let db = options().open_on(Arc::new(disk.clone())).expect("open");
        disk.fail(nth, Fault::Error(std::io::ErrorKind::Other), |call| call.kind == Kind::Read);
        let at = format!("{what}, read {nth}");
        watchdog.beat(&at);
        let errors = deed(&db, &model, &at);
        let Some(failure) = disk.failed() else { break };
        assert!(errors <= 1, "{at}, {failure:?}: {errors} errors from one failure");
        failed += 1;
        assert_holds(&db, &model);
        assert_clean(&db);
        db.insert("one", "more").unwrap_or_else(|error| panic!("{at}: {error}"));
        db.close().unwrap_or_else(|error| panic!("{at}: {error}"));
        nth += if long() { 1 } else { 1 + random.below(12) };
    }
    eprintln!("{what}: {failed} reads failed, one at a time");
    assert!(failed > 3, "{what} reads");
    failed
}

#[test]
fn a_get_whose_read_fails_says_so_and_the_next_one_works() {
    each_read_fails("get", |db, model, at| {
        let mut errors = 0;
        for (key, value) in model {
            let found = db.get(key).or_else(|error| {
                assert_sentence(&error, at);
                errors += 1;
                db.get(key)
            });
            assert_eq!(found.expect("get again").as_deref(), Some(&value[..]), "{at}");
        }
        errors
    });
}

#[test]
fn an_iteration_whose_read_fails_says_so_and_the_next_one_is_whole() {
    each_read_fails("iterate", |db, model, at| {
        let mut errors = 0;
        for entry in db.iter() {
            match entry {
                Ok((key, value)) => assert_eq!(model.get(&*key).map(|v| &v[..]), Some(&*value)),
                Err(error) => {
                    assert_sentence(&error, at);
                    errors += 1;
                }
            }
        }
        errors
    });
}

#[test]
fn a_write_whose_read_fails_changes_nothing_and_works_the_next_time() {
    each_read_fails("overwrite", |db, model, at| {
        let mut errors = 0;
        for (key, value) in model {
            if let Err(error) = db.insert(key, value) {
                assert_sentence(&error, at);
                assert_eq!(db.get(key).expect("get").as_deref(), Some(&value[..]), "{at}");
                errors += 1;
                db.insert(key, value).unwrap_or_else(|error| panic!("{at}, again: {error}"));
            }
        }
        errors
    });
}

#[test]
fn a_removal_whose_read_fails_changes_nothing_and_works_the_next_time() {
    each_read_fails("remove", |db, model, at| {
        let mut errors = 0;
        for (key, value) in model {
            let removed = db.remove(key).or_else(|error| {
                assert_sentence(&error, at);
                assert_eq!(db.get(key).expect("get").as_deref(), Some(&value[..]), "{at}");
                errors += 1;
                db.remove(key)
            });
            assert!(removed.unwrap_or_else(|error| panic!("{at}, again: {error}")), "{at}");
            let inserted = db.insert(key, value).or_else(|_| {
                errors += 1;
                db.insert(key, value)
            });
            inserted.unwrap_or_else(|error| panic!("{at}, again: {error}"));
        }
        errors
    });
}

#[test]
fn compacting_with_a_read_that_fails_loses_nothing() {
    each_read_fails("compact", |db, _, at| {
        let outcome = db.compact();
        outcome.err().map_or(0, |error| {
            assert_sentence(&error, at);
            1
        })
    });
}
