//! The promises of the seam, on a real directory. Miri knows neither mappings
//! of files nor locks.
#![cfg(not(miri))]

use super::*;
use std::os::unix::fs::MetadataExt;

fn bytes(file: &dyn File, offset: u64, length: usize) -> Vec<u8> {
    let mut out = vec![0xEE; length];
    file.read_at(&mut out, offset).unwrap();
    out
}

/// What the lock is held by, or who else holds it.
fn lock(files: &Files, exclusive: bool) -> Result<Lock, Option<u32>> {
    match files.lock(exclusive).unwrap() {
        LockOutcome::Held(lock) => Ok(lock),
        LockOutcome::Busy(pid) => Err(pid),
    }
}

#[test]
fn what_is_written_is_read_by_calls_and_maps_alike() {
    let directory = tempfile::tempdir().unwrap();
    let files = Files::new(directory.path());
    let file = files.open("a", Access::Create).unwrap();
    assert!(!file.holds_allocated(), "nobody has asked the file system yet");
    file.allocate(0, 8192).unwrap();
    assert_eq!(file.length().unwrap(), 8192);
    let writable = file.map(8192, true).unwrap();
    let readable = files.open("a", Access::Read).unwrap().map(4096, false).unwrap();
    file.write_at(b"by a call", 11).unwrap();
    file.write_mapped(&writable, b"by the map", 51).unwrap();
    assert_eq!(bytes(&*file, 51, 10), b"by the map");
    let mut out = [0; 50];
    readable.copy_out(11, &mut out).unwrap();
    assert_eq!((&out[..9], &out[40..]), (&b"by a call"[..], &b"by the map"[..]));

    assert!(file.write_mapped(&writable, &[1; 8], 8185).is_err());
    assert!(file.write_mapped(&readable, &[1; 8], 0).is_err());
    let beyond = file.read_at(&mut [0; 2], 8191).unwrap_err();
    assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
    file.sync().unwrap();
    files.sync_directory("").unwrap();
}

#[test]
fn what_is_written_in_fine_pieces_is_all_there_and_nothing_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = Files::new(directory.path()).open("a", Access::Create).unwrap();
    let written: Vec<u8> = (0..3 * FINE + 100).map(|i| (i % 251) as u8).collect();
    file.write_at(&vec![0xEE; written.len() + 20], 0).unwrap();
    file.write_finely(&written, 10).unwrap();
    assert_eq!(bytes(&*file, 10, written.len()), written);
    assert_eq!(bytes(&*file, 0, 10), [0xEE; 10]);
    assert_eq!(bytes(&*file, written.len() as u64 + 10, 10), [0xEE; 10]);
}

#[test]
fn on_a_copy_on_write_file_system_a_map_shows_what_calls_write() {
    let file = tempfile::tempfile().unwrap();
    let file = RealFile { file, copy_on_write: true, allocates: true.into(), keeps: false.into() };
    assert!(!file.holds_allocated(), "what is written goes to another place");
    file.set_length(4096).unwrap();
    let map = file.map(4096, true).unwrap();
    file.write_mapped(&map, b"by a call", 13).unwrap();
    let mut out = [0; 9];
    map.copy_out(13, &mut out).unwrap();
    assert_eq!(out, *b"by a call");
    assert!(file.write_mapped(&map, b"beyond", 4095).is_err());
    assert_eq!(file.length().unwrap(), 4096);
}

#[test]
fn space_is_taken_ahead_and_given_back() {
    let directory = tempfile::tempdir().unwrap();
    let files = Files::new(directory.path());
    let file = files.open("a", Access::Create).unwrap();
    let space = || fs::metadata(directory.path().join("a")).unwrap().blocks() * 512;
    file.set_length(1 << 20).unwrap();
    assert_eq!(space(), 0);
    file.allocate(0, 1 << 20).unwrap();
    assert!(space() >= 1 << 20, "this file system cannot allocate");
    file.write_at(&[7; 8192], 0).unwrap();
    file.punch(4096, u64::MAX).unwrap();
    assert_eq!(file.length().unwrap(), 1 << 20);
    assert_eq!(bytes(&*file, 4095, 2), [7, 0]);
    assert!(space() < 1 << 20, "this file system cannot punch holes");
    file.allocate(5, 0).unwrap();
    file.punch(2 << 20, 5).unwrap();
    assert!(file.allocate(u64::MAX, 2).is_err());
}

#[test]
fn names_are_listed_renamed_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let files = Files::new(directory.path().join("not/yet/there"));
    assert_eq!(files.list("").unwrap_err().kind(), io::ErrorKind::NotFound);
    files.create_directory("").unwrap();
    files.create_directory("log").unwrap();
    files.create_directory("log").unwrap();
    files.open("log/1", Access::Create).unwrap().write_at(b"one", 0).unwrap();
    files.open("log/2", Access::Create).unwrap();
    let again = files.open("log/1", Access::Create).err().unwrap();
    assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    assert!(files.list("").unwrap().is_empty(), "directories are no files");
    files.rename("log/1", "log/2").unwrap();
    assert_eq!(files.list("log").unwrap(), ["2"]);
    let file = files.open("log/2", Access::Read).unwrap();
    assert_eq!(bytes(&*file, 0, 3), b"one");
    assert!(file.write_at(b"no", 0).is_err(), "open for reading only");
    files.remove("log/2").unwrap();
    assert_eq!(bytes(&*file, 0, 3), b"one");
    assert!(files.open("log/2", Access::Write).is_err());
    assert_eq!(files.path("log/2"), directory.path().join("not/yet/there/log/2"));
}

#[test]
fn names_do_not_lead_out_of_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let files = Files::new(directory.path().join("store"));
    files.create_directory("").unwrap();
    fs::write(directory.path().join("outside"), "").unwrap();
    for name in ["../outside", "/etc/hostname", "log/../../outside", "."] {
        let refused = files.open(name, Access::Read).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{name}");
    }
}

#[test]
fn one_holds_the_lock_for_writing_and_says_who_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let files = Files::new(directory.path());
    fs::write(directory.path().join(LOCK), "4294967295 and more from somebody else").unwrap();
    let held = lock(&files, true).ok().unwrap();
    let text = fs::read_to_string(directory.path().join(LOCK)).unwrap();
    assert_eq!(text, format!("{}\n", std::process::id()));
    let me = Some(std::process::id());
    assert_eq!(lock(&files, true).err(), Some(me));
    assert_eq!(lock(&files, false).err(), Some(me));
    drop(held);
    assert!(lock(&files, true).is_ok());
}

#[test]
fn many_hold_the_lock_for_reading_and_nobody_knows_who() {
    let directory = tempfile::tempdir().unwrap();
    let files = Files::new(directory.path());
    drop(lock(&files, true));
    let readers = (lock(&files, false).ok().unwrap(), lock(&files, false).ok().unwrap());
    assert_eq!(lock(&files, true).err(), Some(None), "the number in the file is an old one");
    drop(readers);
    assert!(lock(&files, true).is_ok());
}

#[test]
fn locking_for_reading_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let files = Files::new(directory.path());
    assert!(lock(&files, false).is_ok());
    assert!(files.list("").unwrap().is_empty());
}

#[test]
fn holes_are_where_nothing_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let files = Files::new(directory.path());
    let file = files.open("sparse", Access::Create).unwrap();
    file.set_length(4 << 20).unwrap();
    file.write_at(&[7; 4096], 1 << 20).unwrap();
    let holes = file.holes().unwrap();
    let written = (1 << 20)..(1 << 20) + 4096;
    // A file system without holes has none; others may round outward.
    assert!(holes.iter().all(|hole| hole.end <= written.start || hole.start >= written.end));
    assert!(holes.is_empty() || holes.last().unwrap().end == 4 << 20, "{holes:?}");
    assert!(holes.iter().all(|hole| hole.start < hole.end));
    assert!(holes.is_sorted_by(|a, b| a.end < b.start));
    let mut byte = [0];
    file.read_at(&mut byte, 1 << 20).unwrap();
    assert_eq!(byte, [7]);
    assert_eq!(files.open("empty", Access::Create).unwrap().holes().unwrap(), []);
}

#[test]
fn a_limit_of_memory_is_looked_for_in_the_own_cgroup_and_in_all_above_it() {
    let files = |groups: &str| -> Vec<String> {
        limit_files(groups).iter().map(|file| file.display().to_string()).collect()
    };
    let two = ["/sys/fs/cgroup/a.slice/b/memory.max", "/sys/fs/cgroup/a.slice/memory.max"];
    let all = [two[0], two[1], "/sys/fs/cgroup/memory.max"];
    assert_eq!(files("0::/a.slice/b\n"), all);
    assert_eq!(files("0::/\n"), all[2..]);
    let first = "12:pids:/x\n5:cpu,memory:/x\n1:name=systemd:/y\n";
    let limits = ["x/memory.limit_in_bytes", "memory.limit_in_bytes"];
    assert_eq!(files(first), limits.map(|file| format!("/sys/fs/cgroup/memory/{file}")));
    assert!(files("").is_empty() && files("nonsense\n:\n").is_empty());
}

#[test]
fn each_new_directory_is_made_durable_in_the_one_above_it() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let synced = |path: &Path| {
        let mut synced = Vec::new();
        create_directories(path, &mut |above| {
            synced.push(above.to_owned());
            Ok(())
        })
        .unwrap();
        assert!(path.is_dir());
        synced
    };
    let deep = root.join("a/b/store");
    assert_eq!(synced(&deep), [root.to_owned(), root.join("a"), root.join("a/b")]);
    assert!(synced(&deep).is_empty(), "it was there");
    assert_eq!(synced(&deep.join("log")), [deep]);
}

#[test]
fn a_directory_whose_name_cannot_be_made_durable_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let refused = create_directories(&store, &mut |_| Err(io::ErrorKind::Other.into()));
    assert!(refused.is_err());
    let unread = directory.path().join("another");
    let denied = &mut |_: &Path| Err(io::ErrorKind::PermissionDenied.into());
    create_directories(&unread, denied).unwrap();
}
