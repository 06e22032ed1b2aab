//! Moments of the log: files that are recycled, cleaned, ended and cut off.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::tale::Tale;
use super::*;
use crate::support::key;

/// Counts how often a log file gets another life from now on.
fn count_recycled(disk: &Disk) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    disk.watch(move |moment| {
        let Call { kind, name, .. } = moment.call;
        if kind == Kind::Rename && name.starts_with("log/0") {
            seen.fetch_add(1, Ordering::SeqCst);
        }
    });
    count
}

/// Whether the log has a file of that number.
fn has_log_file(db: &Db, number: u32) -> bool {
    db.stats().log_files.iter().any(|file| file.number == number)
}

#[test]
fn an_overwrite_that_is_not_durable_does_not_let_the_old_values_log_file_go() {
    // The overwrite comes after position L of a checkpoint: in memory nothing
    // of file 1 is alive, but after power loss its value may be needed again.
    let mut fates = Vec::new();
    for seed in 0..6 {
        let mut tale = Tale::new(20 + seed, options());
        let (disk, db) = (tale.disk.clone(), tale.db.clone());
        tale.put("k", value(1, 700_000));
        tale.put("filler", value(2, 700_000));
        tale.sync();
        let suits = |call: &Call<'_>| is_header(call, "default");
        during_checkpoint(&db, &disk, suits, || tale.put("k", "short")).expect("checkpoint");
        // Were file 1 let go, it would be one of the next ones.
        for i in 3..6 {
            tale.put(key(i), value(i, 700_000));
        }
        fates.extend(tale.check_fates());
        // Once the overwrite is part of a checkpoint the file goes.
        tale.checkpoint();
        assert!(!has_log_file(&tale.db, 1));
        tale.check_fates();
    }
    assert!(fates.contains(&2), "the old value is a possible fate: {fates:?}");
}

#[test]
fn cleaning_that_moves_a_value_while_a_checkpoint_runs_loses_it_neither_here_nor_there() {
    // As of the checkpoint's L the values lie in the old files: these have to
    // stay until the next one, though in memory nothing of them is alive. The
    // next one is held up, so that it does not make everything durable.
    const FILES: u64 = 6;
    let mut tale = Tale::new(30, options());
    for i in 0..FILES {
        tale.put(key(i), value(i, 30_000));
        tale.put(key(100 + i), value(100 + i, 900_000));
    }
    tale.sync();
    let (disk, db) = (tale.disk.clone(), tale.db.clone());
    let mut empty = Vec::new();
    let meanwhile = || {
        (0..FILES).for_each(|i| tale.remove(key(100 + i)));
        let began = Instant::now();
        while tale.db.stats().written.moved_bytes < 60_000 {
            assert!(began.elapsed() < Duration::from_secs(60), "the cleaner did not come");
            std::thread::sleep(Duration::from_millis(5));
        }
        let files = tale.db.stats().log_files;
        let sealed = &files[..files.len() - 1];
        empty.extend(sealed.iter().filter(|file| file.live == 0).map(|file| file.number));
        assert!(!empty.is_empty(), "all that lived in some file was moved");
        tale.check_fates();
    };
    let suits = |call: &Call<'_>| is_header(call, "default");
    during_checkpoint(&db, &disk, suits, meanwhile).expect("checkpoint");
    let release = Release(&disk);
    disk.hold(|call| is_block(call, "default"));
    // Were these files let go, they would be the next ones.
    for i in 0..3 {
        tale.put(key(200 + i), value(200 + i, 900_000));
    }
    tale.check_fates();
    drop(release);
    tale.checkpoint();
    assert!(!empty.iter().any(|file| has_log_file(&tale.db, *file)), "now they are let go");
    tale.check_fates();
}

#[test]
fn a_sync_behind_a_rotation_makes_the_tail_of_the_file_before_durable_first() {
    let mut tale = Tale::new(22, options());
    tale.put("first", value(0, 300));
    tale.sync();
    // The tail of file 1, then a value that only fits into file 2.
    for i in 0..40 {
        tale.put(key(i), value(i, 20_000));
    }
    tale.put("rotates", value(50, 600_000));
    tale.put("last", "of all");
    assert!(has_log_file(&tale.db, 2));
    // The images first. Opening stores to check them takes seconds on a busy
    // machine, and a store that is left alone for five makes all durable.
    let (disk, db) = (tale.disk.clone(), tale.db.clone());
    let suits = |call: &Call<'_>| call.kind == Kind::Sync && call.name.starts_with("log/");
    let images = fates_while(&disk, 12, suits, || db.sync().expect("sync"));
    assert!(images.len() >= 24, "both files were synced");
    let fates: Vec<_> = images.iter().map(|image| tale.check_image(image, 1)).collect();
    assert!(fates[..12].iter().any(|count| *count < 41), "the tail was not durable: {fates:?}");
    tale.sync();
    tale.check_fates();
}

#[test]
fn records_of_a_log_files_earlier_life_do_not_come_back() {
    // All records are equally long: what a file holds of its earlier life
    // begins exactly where records of the new one are expected.
    let mut tale = Tale::new(23, options());
    let disk = tale.disk.clone();
    let recycled = count_recycled(&disk);
    // On a busy machine the next file is made before the last ones are let go.
    for round in 0..60 {
        for i in 0..30 {
            tale.put(key(i), value(100 * round + i, 60_000));
        }
        tale.checkpoint();
        if round >= 5 && recycled.load(Ordering::SeqCst) >= 3 {
            break;
        }
    }
    assert!(recycled.load(Ordering::SeqCst) >= 3, "files were recycled");
    for i in 0..30 {
        tale.put(key(i), value(10_000 + i, 60_000));
        if i == 8 {
            tale.sync();
        }
        if i % 7 == 6 {
            tale.check_fates();
        }
    }
    tale.sync();
    let fates = tale.check_fates();
    assert!(fates.iter().all(|count| *count == tale.changes.len()));
}

#[test]
fn a_flipped_bit_before_synced_commits_is_corrupt_and_not_the_end() {
    let mut tale = Tale::new(24, options());
    for i in 0..30 {
        tale.put(key(i), value(i, 40_000));
        tale.sync();
    }
    let image = tale.disk.wreck();
    for i in [0, 7, 20, 25, 28, 29] {
        let disk = Disk::boot(&image, i);
        let (name, at) = find_in_log(&disk, &value(i, 40_000));
        flip(&disk, &name, at + 20_000);
        let opened = options().open_on(Arc::new(disk.clone()));
        if i == 29 {
            // Nothing behind the last one tells that it was durable.
            assert_eq!(opened.expect("a store that ends earlier").len(), 29);
            continue;
        }
        let Err(swissdb::Error::Corrupt(corruption)) = opened else {
            panic!("record {i} is damaged")
        };
        assert!(corruption.path.ends_with(&name), "{corruption}");
        assert!(at.abs_diff(corruption.offset) < 4096, "at {at}: {corruption}");
        // Refusing changes nothing: without the damage all is there.
        flip(&disk, &name, at + 20_000);
        assert_eq!(tale.check(&open(&disk, &options())), 30);
    }
}

#[test]
fn the_power_may_go_off_at_any_step_of_a_store_that_comes_to_rest() {
    // Left alone, a store goes on in a small log file and lets go of all large
    // ones: the active one, the next, and those that are kept.
    let options = options().max_log_file(8 << 20).write_buffer(16 << 20);
    let mut tale = Tale::new(41, options);
    for i in 0..500 {
        tale.put(key(i % 50), value(i, 10_000));
    }
    // Now nothing that lies in the log is alive.
    (0..50).for_each(|i| tale.put(key(i), value(i, 20)));
    tale.sync();
    let (disk, db) = (tale.disk.clone(), tale.db.clone());
    let log = || {
        let stats = db.stats();
        let files: u64 = stats.log_files.iter().map(|file| file.bytes).sum();
        files + stats.log_space.prepared + stats.log_space.spare + stats.log_space.retired
    };
    let rests = || {
        let began = Instant::now();
        while log() > 3 << 20 {
            assert!(began.elapsed() < Duration::from_secs(90), "{} bytes of log", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    assert!(log() > 4 << 20, "there is something to let go");
    let images = fates_while(&disk, 2, |call| call.kind.is_step(), rests);
    assert!(images.len() >= 40, "the steps were watched");
    for image in &images {
        assert_eq!(tale.check_image(image, 42), tale.changes.len());
    }
}
