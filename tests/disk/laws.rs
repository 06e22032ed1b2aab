//! The disk keeps what it promises, and nothing more.

use swissdb::storage::{Access, File, Storage};

use super::{Disk, Fault, Kind, SECTOR};

fn bytes_of(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0; file.length().expect("length") as usize];
    file.read_at(&mut bytes, 0).expect("read");
    bytes
}

/// What becomes of the file called `f` in many losses of power.
fn fates(disk: &Disk) -> Vec<Option<Vec<u8>>> {
    let fate = |seed| {
        let after = Disk::boot(&disk.wreck(), seed);
        after.open("f", Access::Read).ok().map(|file| bytes_of(&*file))
    };
    (0..100).map(fate).collect()
}

#[test]
fn what_was_synced_survives_and_the_rest_may_or_may_not() {
    let disk = Disk::new(1);
    let file = disk.open("f", Access::Create).expect("create");
    file.write_at(&[1; 4 * SECTOR], 0).expect("write");
    file.sync().expect("sync");
    let names = fates(&disk);
    assert!(names.iter().any(Option::is_none), "a name that is not durable is lost at times");
    assert!(names.contains(&Some(vec![1; 4 * SECTOR])));
    disk.sync_directory("").expect("sync the directory");
    assert!(fates(&disk).iter().all(|fate| *fate == Some(vec![1; 4 * SECTOR])));

    let map = file.map(4 * SECTOR as u64, true).expect("map");
    file.write_mapped(&map, &[2; 2 * SECTOR], SECTOR as u64).expect("write");
    let after = fates(&disk);
    let sectors = |a: u8, b: u8| [[1; SECTOR], [a; SECTOR], [b; SECTOR], [1; SECTOR]].concat();
    for (a, b) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        assert!(after.contains(&Some(sectors(a, b))), "sectors {a} and {b} are a possible fate");
    }
    file.sync().expect("sync");
    assert!(fates(&disk).iter().all(|fate| *fate == Some(sectors(2, 2))));
}

#[test]
fn a_kill_keeps_everything_and_makes_nothing_durable() {
    let disk = Disk::new(2);
    let file = disk.open("f", Access::Create).expect("create");
    disk.sync_directory("").expect("sync the directory");
    file.write_at(&[7; SECTOR], 0).expect("write");
    let next = disk.kill();
    assert!(file.length().is_err() && disk.open("f", Access::Read).is_err());
    let file = next.open("f", Access::Read).expect("open");
    assert_eq!(bytes_of(&*file), [7; SECTOR]);
    assert!(fates(&next).iter().any(|fate| *fate != Some(vec![7; SECTOR])));
}

#[test]
fn a_failed_sync_is_not_made_good_by_the_next_one() {
    let disk = Disk::new(3);
    let file = disk.open("f", Access::Create).expect("create");
    file.write_at(&[1; 64 * SECTOR], 0).expect("write");
    file.sync().expect("sync");
    disk.sync_directory("").expect("sync the directory");
    file.write_at(&[2; 64 * SECTOR], 0).expect("write");
    disk.fail(1, Fault::Error(std::io::ErrorKind::Other), |call| call.kind == Kind::Sync);
    assert!(file.sync().is_err());
    file.sync().expect("the next sync");
    assert_eq!(bytes_of(&*file), [2; 64 * SECTOR], "the cache has it");
    assert!(fates(&disk).iter().all(|fate| *fate != Some(vec![2; 64 * SECTOR])));
    file.write_at(&[2; 64 * SECTOR], 0).expect("write it onto itself");
    file.sync().expect("sync");
    assert!(fates(&disk).iter().all(|fate| *fate == Some(vec![2; 64 * SECTOR])));
}

#[test]
fn renaming_is_done_or_not_done() {
    let disk = Disk::new(4);
    drop(disk.open("a", Access::Create).expect("create"));
    disk.sync_directory("").expect("sync the directory");
    disk.rename("a", "b").expect("rename");
    let names = |seed| Disk::boot(&disk.wreck(), seed).list("").expect("list");
    let seen: Vec<_> = (0..50).map(names).collect();
    assert!(seen.iter().all(|names| names == &["a"] || names == &["b"]));
    assert!(seen.contains(&vec!["a".into()]) && seen.contains(&vec!["b".into()]));
}

#[test]
fn space_is_taken_once_and_given_back() {
    let disk = Disk::new(5);
    disk.set_capacity(Some(8 * 4096));
    let file = disk.open("f", Access::Create).expect("create");
    file.allocate(0, 6 * 4096).expect("allocate");
    file.write_at(&[1; 6 * 4096], 0).expect("write where space is taken");
    let full = file.allocate(4096, 8 * 4096).expect_err("too much");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    file.punch(0, 3 * 4096).expect("punch");
    assert_eq!(disk.used(), 3 * 4096);
    file.allocate(6 * 4096, 5 * 4096).expect("allocate");
    disk.remove("f").expect("remove");
    assert_eq!(disk.used(), 0);
}
