//! Moments of the medium: headers torn and rotten, syncs that fail, power that
//! goes off twice.

use std::time::{Duration, Instant};

use super::tale::{Change, Tale};
use super::*;
use crate::disk::Fault;
use crate::support::key;

/// A store with some entries in its table file, and some in its log only.
fn some_entries(seed: u64) -> Tale {
    let mut tale = Tale::new(seed, options());
    for i in 0..40 {
        tale.put(key(i), value(i, [20, 400][i as usize % 2]));
    }
    tale.checkpoint();
    for i in 20..60 {
        tale.put(key(i), value(100 + i, [400, 20][i as usize % 2]));
    }
    tale.sync();
    tale
}

/// Whether a copy of a header has its checksum.
fn is_header_whole(block: &[u8]) -> bool {
    let (bytes, checksum) = block.split_at(4092);
    crc32fast::hash(bytes).to_le_bytes() == checksum
}

#[test]
fn a_torn_header_copy_leaves_the_other_one_and_the_log_behind_it() {
    let tale = some_entries(30);
    let suits = |call: &Call<'_>| {
        call.name == "default.swiss" && matches!(call.kind, Kind::Write | Kind::Sync)
    };
    let images = fates_while(&tale.disk, 16, suits, || tale.db.checkpoint().expect("checkpoint"));
    let torn = |image: &Image| {
        let block = |at| read(&Disk::boot(image, 0), "default.swiss", at, 4096);
        [0, 4096].map(|at| !is_header_whole(&block(at)))
    };
    let found: Vec<[bool; 2]> = images.iter().map(torn).collect();
    assert!(found.contains(&[true, false]) && found.contains(&[false, true]));
    assert!(!found.contains(&[true, true]));
    for image in &images {
        assert_eq!(tale.check_image(image, 2), tale.changes.len());
        // Rewriting the torn copy may be cut off as well.
        let disk = Disk::boot(image, 3);
        let again = fates_while(
            &disk,
            2,
            |call| is_header(call, "default"),
            || {
                drop(open(&disk, &options()));
            },
        );
        for image in again {
            assert_eq!(tale.check_image(&image, 4), tale.changes.len());
        }
    }
}

#[test]
fn a_rotten_header_copy_leaves_the_other_one_and_the_log_behind_it() {
    let tale = some_entries(31);
    let all = tale.changes.len();
    // Between the two copies one is old; later both are the same.
    let mut images = vec![tale.disk.wreck()];
    let second = |call: &Call<'_>| is_header(call, "default") && call.offset == 4096;
    during_checkpoint(&tale.db, &tale.disk, second, || images.push(tale.disk.wreck()))
        .expect("checkpoint");
    images.push(tale.disk.wreck());
    tale.db.clone().close().expect("close");
    images.push(tale.disk.wreck());
    for image in &images {
        for copy in [0, 4096] {
            let disk = Disk::boot(image, 5);
            flip(&disk, "default.swiss", copy + 100);
            let again = fates_while(
                &disk,
                4,
                |call| is_header(call, "default"),
                || {
                    let db = open(&disk, &options());
                    assert_eq!(tale.check(&db), all, "what was rotten is whole again");
                },
            );
            for image in again {
                assert_eq!(tale.check_image(&image, 6), all);
            }
        }
        let disk = Disk::boot(image, 7);
        [0, 4096].iter().for_each(|copy| flip(&disk, "default.swiss", copy + 100));
        let opened = options().open_on(Arc::new(disk));
        assert!(matches!(opened, Err(swissdb::Error::Corrupt(_))), "both are rotten");
    }
}

#[test]
fn a_second_crash_right_after_recovery_loses_nothing_that_was_seen() {
    // Killed with much that is not durable; what the next process has read must
    // survive although it wrote nothing, and so on.
    for seed in 0..12 {
        let mut tale = some_entries(32 + seed);
        for i in 0..30 {
            tale.put(key(i), value(200 + i, [20, 3_000, 50_000][i as usize % 3]));
        }
        let mut disk = tale.disk.kill();
        for round in 0..6 {
            let db = open(&disk, &options());
            let seen = tale.check(&db);
            assert!(round > 0 || seen == tale.changes.len(), "a kill loses nothing");
            let image = disk.crash();
            drop(db);
            tale.changes.truncate(seen);
            tale.durable = seen;
            disk = Disk::boot(&image, seed + round);
            tale.db = open(&disk, &options());
            assert_eq!(tale.check(&tale.db), seen, "what was read is durable");
            if round % 2 == 1 {
                tale.put(format!("{round}"), value(round, 2_000));
            }
            let image = disk.crash();
            disk = Disk::boot(&image, 100 + seed + round);
        }
    }
}

/// Writes until the store does not let it: it is poisoned.
fn until_refused(tale: &mut Tale) {
    let began = Instant::now();
    while tale.db.insert("until", "it is refused").is_ok() {
        tale.changes.push(Change::Put("until".into(), "it is refused".into()));
        assert!(began.elapsed() < Duration::from_secs(60), "a failed sync poisons");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn power_loss_after_a_failed_sync_and_a_reopen_loses_nothing_that_was_seen() {
    // The system drops what a failed sync was to write, but the next process
    // reads it from the cache: it has to write it once more. Each sync of each
    // kind of file fails in turn, and then each of all: those that another
    // thread makes at its own time, of files that it prepares, come between the
    // others at any place, so they must not be counted with them.
    for (with_checkpoint, file) in
        [(false, "log/"), (true, "log/"), (true, "default.swiss"), (true, "")]
    {
        let failures = (1..40).take_while(|nth| fails_and_reopens(*nth, with_checkpoint, file));
        assert!(failures.count() >= 1, "no sync of {file:?} failed");
    }
}

/// Lets the nth sync of some files fail, opens the store again, and takes away
/// the power. Says whether there were so many syncs.
fn fails_and_reopens(nth: u64, with_checkpoint: bool, file: &'static str) -> bool {
    let mut tale = some_entries(50 + nth);
    for i in 0..30 {
        tale.put(key(i), value(300 + i, [20, 3_000, 50_000][i as usize % 3]));
    }
    let disk = tale.disk.clone();
    let fault = Fault::Error(std::io::ErrorKind::Other);
    disk.fail(nth, fault, move |call| {
        matches!(call.kind, Kind::Sync | Kind::SyncDirectory) && call.name.starts_with(file)
    });
    let _ = if with_checkpoint { tale.db.checkpoint() } else { tale.db.sync() };
    let failed = disk.failed().is_some();
    if failed {
        // It may have been the sync of another thread, which poisons the store
        // as well.
        until_refused(&mut tale);
    }
    // A sync that follows would succeed and write nothing.
    let disk = disk.kill();
    let db = open(&disk, &options());
    let seen = tale.check(&db);
    (tale.durable, tale.disk) = (seen, disk);
    tale.changes.truncate(seen);
    for count in tale.check_fates() {
        assert_eq!(count, seen, "sync {nth} of {file:?} failed; what was read is durable");
    }
    drop(db);
    failed
}
