//! Moments of the tables: checkpoints that fail, that others write beside, and
//! that were made of one table and not yet of the other.

use swissdb::{Batch, Durability};

use super::tale::{Change, Tale};
use super::*;
use crate::disk::Fault;
use crate::support::{key, state_of};

#[test]
fn a_checkpoint_after_one_that_failed_half_way_covers_its_pages() {
    // The device is full at each write in turn, half of which is done.
    let mut failures = 0;
    for nth in 1.. {
        let mut tale = Tale::new(100 + nth, options().payload(504));
        for i in 0..80 {
            tale.put(key(i), value(i, 400));
        }
        tale.checkpoint();
        for i in (0..80).step_by(3) {
            tale.put(key(i), value(200 + i, [300, 2_000][i as usize % 2]));
        }
        let fault = Fault::Short(std::io::ErrorKind::StorageFull);
        tale.disk.fail(nth, fault, |call| is_block(call, "default"));
        let outcome = tale.db.checkpoint();
        if tale.disk.failed().is_none() {
            outcome.expect("nothing failed");
            break;
        }
        assert!(outcome.is_err(), "write {nth} failed");
        failures += 1;
        // Some pages were changed before and after the failure, some only before.
        for i in (0..80).step_by(9) {
            tale.put(key(i), value(300 + i, 400));
        }
        tale.check_fates();
        tale.checkpoint();
        tale.check_fates();
    }
    assert!(failures >= 3, "{failures} writes were made to fail");
}

#[test]
fn a_table_that_was_created_with_every_commit_durable_is_there_after_power_loss() {
    let disk = Disk::new(160);
    let db = open(&disk, &options().durability(Durability::Sync));
    db.table("second").expect("create");
    for seed in 0..20 {
        let db = open(&Disk::boot(&disk.wreck(), seed), &options());
        assert_eq!(db.tables().expect("the tables"), ["default", "second"]);
    }
}

#[test]
fn clearing_during_a_checkpoint_is_before_or_after_it() {
    let places: [fn(&Call<'_>) -> bool; 3] = [
        |call| is_block(call, "default"),
        |call| is_header(call, "default") && call.offset == 0,
        |call| is_header(call, "default") && call.offset == 4096,
    ];
    let suits = |call: &Call<'_>| call.name == "default.swiss" || call.kind == Kind::Sync;
    for (at, place) in places.into_iter().enumerate() {
        let mut tale = Tale::new(130 + at as u64, options());
        for i in 0..300 {
            tale.put(key(i), value(i, [30, 300][i as usize % 2]));
        }
        tale.sync();
        for i in 0..50 {
            tale.put(key(i), value(400 + i, [300, 30][i as usize % 2]));
        }
        let (disk, db) = (tale.disk.clone(), tale.db.clone());
        let covered = tale.changes.len();
        let images = fates_while(&disk, 2, suits, || {
            // Clearing may have to wait for the checkpoint.
            std::thread::scope(|scope| {
                let meanwhile = || {
                    tale.put("before", value(1, 2_000));
                    tale.changes.push(Change::Clear);
                    scope.spawn(|| db.clear().expect("clear"));
                    tale.check_fates();
                };
                during_checkpoint(&db, &disk, place, meanwhile).expect("checkpoint");
            });
        });
        for image in &images {
            tale.check_image(image, 1);
        }
        tale.durable = covered;
        tale.put("after", value(2, 2_000));
        tale.put(key(7), value(3, 20));
        tale.check_fates();
        tale.sync();
        tale.check_fates();
        let images = fates_while(&disk, 3, suits, || db.checkpoint().expect("checkpoint"));
        assert!(images.len() > 12, "the next checkpoint was watched");
        for image in &images {
            assert_eq!(tale.check_image(image, 1), tale.changes.len());
        }
        tale.check_fates();
    }
}

/// The last commit that a header copy of a table says is in its pages.
fn commit_of_header(disk: &Disk, table: &str) -> u64 {
    // The two copies are the same in these images; format.md, 3.1.
    let bytes = read(disk, &format!("{table}.swiss"), 104, 8);
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

#[test]
fn two_tables_at_different_positions_get_what_each_of_them_lacks() {
    // A checkpoint is cut off between the headers of two tables. Replay begins
    // at the older position; the table that is further must not do again what
    // it has done, and the log in between has to be kept for the other one.
    let disk = Disk::new(140);
    let db = open(&disk, &options());
    let second = db.table("second").expect("create");
    let change = |round: u64| {
        for i in 0..60 {
            let mut batch = Batch::new();
            batch.insert(key(i), value(round + i, [30, 500, 30_000][i as usize % 3])).expect("add");
            batch
                .insert_into(&second, key(i), value(round + i, [500, 30][i as usize % 2]))
                .expect("add");
            db.write(&batch).expect("write");
        }
        (0..20).for_each(|i| assert!(second.remove(key(i)).expect("remove")));
        (10..30).for_each(|i| assert!(db.remove(key(i)).expect("remove")));
    };
    change(0);
    db.checkpoint().expect("checkpoint");
    change(1_000);
    let mut images = Vec::new();
    let suits = |call: &Call<'_>| is_header(call, "second") && call.offset == 0;
    during_checkpoint(&db, &disk, suits, || {
        change(2_000);
        db.sync().expect("sync");
        images.extend((0..6).map(|_| disk.wreck()));
    })
    .expect("checkpoint");
    let expected = state_of(&db);
    for (seed, image) in images.iter().enumerate() {
        let disk = Disk::boot(image, seed as u64);
        let commits = ["default", "second"].map(|table| commit_of_header(&disk, table));
        assert!(commits[0] > commits[1], "the tables are at different positions: {commits:?}");
        let again = fates_while(
            &disk,
            1,
            |call| call.kind == Kind::Sync,
            || {
                let db = open(&disk, &options());
                assert!(state_of(&db) == expected, "both have everything");
                assert_clean(&db);
            },
        );
        for image in again {
            let db = open(&Disk::boot(&image, 1), &options());
            assert!(state_of(&db) == expected, "after a second crash too");
            assert_clean(&db);
        }
    }
}
