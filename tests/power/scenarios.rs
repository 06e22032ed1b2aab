//! Moments of which somebody was afraid once, one by one.
//!
//! Where a deed has to be caught in the middle, the disk holds up one of its
//! calls until the test has done the rest. What a store may hold afterwards is
//! kept by a [`Tale`](tale::Tale).

mod log;
mod medium;
mod tables;
pub mod tale;

use std::sync::{Arc, Mutex};

use swissdb::storage::{Access, Storage};
use swissdb::{Db, Options};

use super::check::open;
use crate::disk::{Call, Disk, Image, Kind};
use crate::support::{assert_clean, value};

/// Everything as small as it gets, and nothing durable that is not asked for.
fn options() -> Options {
    let never = std::time::Duration::from_secs(3600);
    Options::new().write_buffer(1 << 20).max_log_file(1 << 20).sync_interval(never)
}

/// The value of a key, as a vector.
fn get(db: &Db, key: &str) -> Option<Vec<u8>> {
    db.get(key).expect("get").map(|value| value.to_vec())
}

/// Whether a call writes a copy of the header of a table.
fn is_header(call: &Call<'_>, table: &str) -> bool {
    call.kind == Kind::Write && call.name == format!("{table}.swiss") && call.offset < 8192
}

/// Lets the call that is held up go on, even if the test fails, and holds up
/// no other.
pub struct Release<'a>(pub &'a Disk);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.0.hold(|_| false);
        self.0.release();
    }
}

/// Runs a checkpoint, and `meanwhile` before a call of it that suits.
fn during_checkpoint(
    db: &Db,
    disk: &Disk,
    suits: impl Fn(&Call<'_>) -> bool + Send + 'static,
    meanwhile: impl FnOnce(),
) -> swissdb::Result<()> {
    disk.hold(suits);
    std::thread::scope(|scope| {
        let checkpoint = scope.spawn(|| db.checkpoint());
        disk.wait_until_held();
        let release = Release(disk);
        meanwhile();
        drop(release);
        checkpoint.join().expect("the thread of the checkpoint")
    })
}

/// Whether a call writes a page, a directory page, the root or the free map of
/// a table.
fn is_block(call: &Call<'_>, table: &str) -> bool {
    call.kind == Kind::Write && call.name == format!("{table}.swiss") && call.offset >= 8192
}

/// What power loss may leave at each call of `deed` that suits: so many images
/// each.
fn fates_while(
    disk: &Disk,
    each: u64,
    suits: impl Fn(&Call<'_>) -> bool + Send + 'static,
    deed: impl FnOnce(),
) -> Vec<Image> {
    let images = Arc::new(Mutex::new(Vec::new()));
    let seen = images.clone();
    disk.watch(move |moment| {
        if suits(&moment.call) {
            let mut images = seen.lock().expect("the images");
            images.extend((0..each).map(|seed| moment.power_loss(seed)));
        }
    });
    deed();
    disk.watch(|_| {});
    std::mem::take(&mut *images.lock().expect("the images"))
}

/// Bytes of a file of a disk.
fn read(disk: &Disk, name: &str, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let file = disk.open(name, Access::Read).expect("open a file");
    file.read_at(&mut bytes, offset).expect("read");
    bytes
}

/// Flips a bit of a file of a disk: the medium rots.
fn flip(disk: &Disk, name: &str, offset: u64) {
    let file = disk.open(name, Access::Write).expect("open a file");
    file.write_at(&[read(disk, name, offset, 1)[0] ^ 4], offset).expect("write");
    file.sync().expect("sync");
}

/// The log file that holds these bytes, and where.
fn find_in_log(disk: &Disk, bytes: &[u8]) -> (String, u64) {
    for name in disk.list("log").expect("list") {
        let name = format!("log/{name}");
        let length = disk.open(&name, Access::Read).and_then(|file| file.length());
        let all = read(disk, &name, 0, length.expect("a length") as usize);
        let found = all.windows(64).position(|window| window == &bytes[..64]);
        if let Some(at) = found {
            return (name, at as u64);
        }
    }
    panic!("the log does not hold it");
}

/// Opens what power loss leaves of a disk, many times over.
fn in_every_fate(disk: &Disk, check: impl Fn(&Db)) {
    for seed in 0..20 {
        let db = open(&Disk::boot(&disk.wreck(), seed), &options());
        check(&db);
        assert_clean(&db);
    }
}

#[test]
fn the_log_file_in_which_the_tables_position_lies_is_kept_when_the_log_goes_on_in_another() {
    // Position L of a checkpoint may be the very end of a file that holds
    // nothing any more. As long as the headers name it, it has to be there.
    let disk = Disk::new(1);
    let db = open(&disk, &options());
    db.insert("k", value(1, 400_000)).expect("insert");
    db.insert("k", value(2, 400_000)).expect("insert");
    db.insert("k", "short").expect("insert");
    let next = || db.insert("next", value(3, 400_000)).expect("insert into the next file");
    during_checkpoint(&db, &disk, |call| is_header(call, "default"), next).expect("checkpoint");
    // Files that are not needed are taken for the next ones.
    (4..9).for_each(|i| db.insert("next", value(i, 400_000)).expect("insert"));
    db.sync().expect("sync");
    in_every_fate(&disk, |db| {
        assert_eq!(get(db, "k").as_deref(), Some(&b"short"[..]));
        assert_eq!(get(db, "next"), Some(value(8, 400_000)));
    });
}

#[test]
fn a_log_file_without_records_is_kept_when_a_tables_position_is_its_beginning() {
    // Recovery goes on in a new file. A checkpoint says so in the header of the
    // first table and is cut off before that of the second one.
    let disk = Disk::new(2);
    let db = open(&disk, &options());
    db.table("second").expect("create").insert("k", "v").expect("insert");
    db.sync().expect("sync");
    let disk = disk.kill();
    drop(db);
    let db = open(&disk, &options());
    let left = Mutex::new(Image::default());
    let suits = |call: &Call<'_>| is_header(call, "second");
    during_checkpoint(&db, &disk, suits, || {
        *left.lock().expect("the image") = disk.wreck();
    })
    .expect("checkpoint");
    drop(db);
    let image = left.into_inner().expect("the image");
    let disk = Disk::boot(&image, 3);
    let db = open(&disk, &options());
    assert_clean(&db);
    assert!(db.drop_table("second").expect("drop"));
    // Now every position that is left names that file.
    in_every_fate(&disk, |db| assert_eq!(db.tables().expect("tables"), ["default"]));
    drop(db);
}

#[test]
fn removing_what_is_left_of_a_dropped_table_may_be_cut_off_as_well() {
    // The first crash tears the second copy of the header that says "dropped";
    // the next one the copy that was whole, if that is written first.
    let disk = Disk::new(4);
    let db = open(&disk, &options());
    db.table("other").expect("create").insert("k", "v").expect("insert");
    db.checkpoint().expect("checkpoint");
    let suits = |call: &Call<'_>| is_header(call, "other");
    let fates = fates_while(&disk, 12, suits, || {
        assert!(db.drop_table("other").expect("drop"));
    });
    for first in fates {
        let disk = Disk::boot(&first, 5);
        for second in fates_while(&disk, 12, suits, || drop(open(&disk, &options()))) {
            let db = open(&Disk::boot(&second, 6), &options());
            assert_eq!(db.tables().expect("tables"), ["default"]);
            assert_clean(&db);
        }
    }
}

#[test]
fn a_header_copy_that_a_killed_process_had_not_synced_is_not_trusted() {
    // Killed between writing a copy and its sync, the next process finds both
    // copies valid; but only the other one is on the medium for sure.
    let options = options();
    let disk = Disk::new(7);
    let db = open(&disk, &options);
    db.insert("k", "v").expect("insert");
    let killed = Arc::new(Mutex::new(Vec::new()));
    let seen = killed.clone();
    disk.watch(move |moment| {
        if is_header(&moment.call, "default") {
            seen.lock().expect("the images").push(moment.kill());
        }
    });
    db.checkpoint().expect("checkpoint");
    drop(db);
    let killed = std::mem::take(&mut *killed.lock().expect("the images"));
    assert!(killed.len() >= 2, "both copies were written");
    for image in killed {
        let disk = Disk::boot(&image, 8);
        let left = Arc::new(Mutex::new(Vec::new()));
        let seen = left.clone();
        disk.watch(move |moment| {
            let Call { kind, name, .. } = moment.call;
            if name == "default.swiss" && matches!(kind, Kind::Write | Kind::Sync) {
                let mut left = seen.lock().expect("the images");
                left.extend((0..40).map(|seed| moment.power_loss(seed)));
            }
        });
        drop(open(&disk, &options));
        for image in std::mem::take(&mut *left.lock().expect("the images")) {
            let db = open(&Disk::boot(&image, 9), &options);
            assert_clean(&db);
        }
    }
}
