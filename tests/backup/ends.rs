//! Backups that end before their end.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use swissdb::{BackupProgress, BackupStep, Db, Error, Options};

use super::{fill, options, state_of_copy};
use crate::disk::{Disk, Fault, Kind};
use crate::failing::mounted::Mount;
use crate::support::peer::{self, Peer};
use crate::support::{Random, TestStore, assert_clean, key, state_of, value};

fn go_on(_: &BackupProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Fails unless there is nothing in a directory.
fn assert_empty(directory: &Path) {
    let left: Vec<_> = fs::read_dir(directory).expect("read").flatten().collect();
    assert!(left.is_empty(), "left over: {left:?}");
}

fn is_full(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull)
}

/// How often a backup of a store reports.
fn reports(db: &Db) -> Vec<BackupProgress> {
    let place = tempfile::tempdir().expect("a directory");
    let mut reports = Vec::new();
    let backed_up = db.backup_with(place.path().join("copy"), |progress| {
        reports.push(progress.clone());
        ControlFlow::Continue(())
    });
    assert!(backed_up.expect("a backup").finished);
    reports
}

#[test]
fn nothing_is_left_of_a_backup_that_was_stopped_at_any_of_its_reports() {
    let store = TestStore::in_memory(options());
    fill(&store, 4_000);
    let reports = reports(&store);
    let compacts = |step| matches!(step, BackupStep::Compacting(_));
    assert!(reports.iter().any(|report| report.step == BackupStep::Copying));
    assert!(reports.iter().any(|report| compacts(report.step)));
    assert!(reports.iter().any(|report| report.step == BackupStep::Verifying));
    assert!(reports.iter().all(|report| (0.0..=1.0).contains(&report.done)), "{reports:?}");
    let place = tempfile::tempdir().expect("a directory");
    let dest = place.path().join("copy");
    for at in 0..reports.len() {
        let mut told = 0;
        let backed_up = store.backup_with(&dest, |_| {
            assert!(!dest.exists(), "the copy has its name before it is whole");
            told += 1;
            if told > at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        // How often it reports depends a little on hash keys.
        let finished = backed_up.expect("no error").finished;
        assert!(!finished || told <= at, "stopped at {told}, and finished");
        if finished {
            fs::remove_dir_all(&dest).expect("remove");
        }
        assert_empty(place.path());
    }
    eprintln!("stopped at each of {} reports", reports.len());
}

/// Not a test by itself: backs up, and waits for its end at a report.
#[test]
fn a_process_that_backs_up() {
    let Some(role) = peer::role() else { return };
    let (at, place) = role.split_once(' ').expect("a number and a place");
    let (at, place): (usize, &Path) = (at.parse().expect("a number"), Path::new(place));
    let db = options().open(place.join("store")).expect("open");
    let mut told = 0;
    let wait = |word: &str| {
        peer::say(word);
        // To be killed here.
        peer::hear();
    };
    let backed_up = db.backup_with(place.join("copy"), |_| {
        told += 1;
        if told == at {
            wait("under way");
        }
        ControlFlow::Continue(())
    });
    assert!(backed_up.expect("a backup").finished);
    wait("done");
}

#[test]
fn a_backup_that_was_killed_is_never_taken_for_a_store() {
    let source = options().in_memory().expect("a store");
    fill(&source, 3_000);
    let count = reports(&source).len();
    let mut random = Random::new(1_101);
    let stride = count / 6 + 1;
    let some = (0..6).map(|i| i * stride + 1 + random.below(stride as u64) as usize);
    for at in some.filter(|at| *at <= count).chain([count + 1_000]) {
        let place = tempfile::tempdir().expect("a directory");
        let (store, dest) = (place.path().join("store"), place.path().join("copy"));
        let db = options().open(&store).expect("create");
        fill(&db, 3_000);
        let before = state_of(&db);
        db.close().expect("close");
        let role = format!("{at} {}", place.path().display());
        let mut child = Peer::start::<&str>("backup::ends::a_process_that_backs_up", &role, &[]);
        let said = child.next();
        child.kill();
        let db = Db::open(&store).expect("open what was backed up");
        assert!(state_of(&db) == before, "the store was changed");
        match said.as_deref() {
            Some("under way") => {
                assert!(!dest.exists(), "killed at report {at}: there is a copy");
                let error = db.backup(&dest).expect_err("the rest is in the way").to_string();
                assert!(error.contains("copy.tmp exists"), "{error}");
                assert!(error.contains("remove it"), "{error}");
                fs::remove_dir_all(place.path().join("copy.tmp")).expect("it was left alone");
                assert!(db.backup(&dest).expect("a backup").finished);
            }
            Some("done") => assert!(!place.path().join("copy.tmp").exists()),
            other => panic!("the process said {other:?}"),
        }
        assert!(state_of_copy(&dest) == before, "the copy differs");
    }
}

#[test]
fn what_is_in_the_way_is_not_touched() {
    let place = tempfile::tempdir().expect("a directory");
    let dest = place.path().join("copy");
    let db = options().open(place.path().join("store")).expect("create");
    fs::write(&dest, "something else").expect("write");
    let error = db.backup(&dest).expect_err("it exists");
    assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
    assert!(error.to_string().contains("copy exists; give"), "{error}");
    assert_eq!(fs::read(&dest).expect("read"), b"something else");
    for inside in [db.path().join("copy"), db.path().join("log").join("copy"), db.path()] {
        let error = db.backup(&inside).expect_err("it is inside the store");
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
    }
    let error = db.backup(place.path().join("not").join("there")).expect_err("no directory");
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(!place.path().join("not").exists());
    assert_clean(&db);
}

#[test]
fn a_damaged_store_is_not_backed_up() {
    let place = tempfile::tempdir().expect("a directory");
    // Most blocks of the table file are pages; all bytes of the log are values.
    for (file, entries, length) in [("default.swiss", 20_000, 30), ("log/00000001.log", 1_500, 300)]
    {
        let directory = tempfile::tempdir().expect("a directory");
        let db = options().open(directory.path()).expect("create");
        for i in 0..entries {
            db.insert(key(i), value(i, length)).expect("insert");
        }
        db.close().expect("close");
        let path = directory.path().join(file);
        let mut bytes = fs::read(&path).expect("read");
        let at = if file.starts_with("log") { 200_000 } else { (bytes.len() / 2) & !4095 };
        bytes[at..at + 4096].fill(0x5a);
        fs::write(&path, &bytes).expect("write");
        let db = options().open(directory.path()).expect("open");
        let error = db.backup(place.path().join("copy")).expect_err("it is damaged");
        assert!(matches!(error, Error::Corrupt(_)), "{file}: {error}");
        assert!(error.to_string().contains("`swissdb salvage`"), "{error}");
        assert!(error.to_string().contains(file), "{error}");
        assert_empty(place.path());
    }
}

#[test]
fn a_backup_to_a_full_device_is_an_error_and_leaves_nothing() {
    let store = TestStore::in_memory(options());
    fill(&store, 4_000);
    let before = state_of(&store);
    let mut refused = 0;
    for capacity in [100 << 10, 1 << 20, 2 << 20, 3 << 20, 5 << 20, 64 << 20] {
        let disk = Disk::new(capacity);
        disk.set_capacity(Some(capacity));
        match store.backup_on(Arc::new(disk.clone()), go_on) {
            Err(error) => {
                assert!(is_full(&error), "{capacity} bytes: {error}");
                refused += 1;
            }
            Ok(backed_up) => {
                assert!(backed_up.finished);
                let copy = Disk::boot(&disk.crash(), 1);
                let copy = options().open_on(Arc::new(copy)).expect("open the copy");
                assert!(state_of(&copy) == before, "the copy differs");
            }
        }
        assert_eq!(disk.bus_errors(), 0);
    }
    assert!((3..6).contains(&refused), "{refused} backups were refused");
    assert!(state_of(&store) == before, "the store was changed");
    let mount = match Mount::tmpfs() {
        Ok(mount) => mount,
        Err(why) => return eprintln!("skipped: no tmpfs can be mounted here: {why}"),
    };
    for i in 0..60_000u64 {
        store.insert(key(i), value(i, 600)).expect("insert");
    }
    let error = store.backup(mount.path()).expect_err("it does not fit");
    assert!(is_full(&error), "{error}");
    assert_empty(mount.path().parent().expect("a parent"));
}

#[test]
fn a_copy_survives_power_loss_as_soon_as_it_is_made_and_failing_calls_end_it() {
    let store = TestStore::in_memory(options());
    fill(&store, 1_500);
    let before = state_of(&store);
    let (mut random, mut nth, mut failed) = (Random::new(1_102), 1, 0);
    loop {
        let disk = Disk::new(nth);
        disk.fail(nth, Fault::Error(std::io::ErrorKind::Other), |call| {
            matches!(call.kind, Kind::Write | Kind::Sync | Kind::Rename | Kind::SyncDirectory)
        });
        let made = store.backup_on(Arc::new(disk.clone()), go_on);
        let failure = disk.failed();
        failed += u64::from(made.is_err());
        if made.is_ok() {
            // Some calls are tried again, or may fail.
            let copy = Disk::boot(&disk.crash(), nth);
            let copy: Arc<dyn swissdb::storage::Storage> = Arc::new(copy);
            let copy = Options::new().open_on(copy).expect("open the copy");
            assert!(state_of(&copy) == before, "{failure:?}: the copy differs");
            assert_clean(&copy);
        }
        if failure.is_none() {
            break;
        }
        nth += 1 + random.below(10);
    }
    eprintln!("{failed} backups failed, up to call {nth}");
    assert!(failed > 3, "{failed} backups failed");
    assert!(state_of(&store) == before, "the store was changed");
}
