//! Files in memory behave as files on disk do; what differs is said in the module.

use super::*;
use std::thread;

fn file(memory: &Memory, name: &str) -> Arc<dyn File> {
    memory.open(name, Access::Create).unwrap()
}

fn bytes(file: &dyn File, offset: u64, length: usize) -> Vec<u8> {
    let mut out = vec![0xEE; length];
    file.read_at(&mut out, offset).unwrap();
    out
}

#[test]
fn what_is_written_is_read_by_calls_and_maps_alike() {
    let memory = Memory::new();
    let file = file(&memory, "a");
    file.set_length(100).unwrap();
    let map = file.map(96, true).unwrap();
    file.write_at(b"by a call", 11).unwrap();
    file.write_mapped(&map, b"by the map", 50).unwrap();
    let mut out = [0; 9];
    map.copy_out(11, &mut out).unwrap();
    assert_eq!(out, *b"by a call");
    assert_eq!(bytes(&*file, 50, 10), b"by the map");
    assert_eq!(bytes(&*file, 96, 4), [0; 4]);
}

#[test]
fn nothing_is_read_or_mapped_beyond_the_end() {
    let memory = Memory::new();
    let file = file(&memory, "a");
    file.set_length(100).unwrap();
    assert_eq!(file.read_at(&mut [0; 2], 99).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert!(file.read_at(&mut [0; 2], u64::MAX).is_err());
    assert!(file.map(104, false).is_err() && file.map(99, false).is_err());
    let map = file.map(96, true).unwrap();
    assert!(file.write_mapped(&map, &[0; 2], 95).is_err());
    assert!(file.set_length(1 << 62).is_err() && file.set_length(u64::MAX).is_err());
    assert!(file.allocate(u64::MAX, 1).is_err() && file.write_at(&[1], u64::MAX).is_err());
    assert_eq!(file.length().unwrap(), 100);
}

#[test]
fn a_file_that_shrank_grows_with_zeros() {
    let memory = Memory::new();
    let file = file(&memory, "a");
    file.write_at(&[7; 100], 0).unwrap();
    file.set_length(13).unwrap();
    file.set_length(100).unwrap();
    assert_eq!(bytes(&*file, 0, 13), [7; 13]);
    assert_eq!(bytes(&*file, 13, 87), [0; 87]);
}

#[test]
fn a_punched_range_is_zero_and_its_neighbours_are_not() {
    let memory = Memory::new();
    for start in 0..=24 {
        for length in 0..=24 - start {
            let file = file(&memory, &format!("{start} {length}"));
            file.write_at(&[7; 24], 0).unwrap();
            file.punch(start, length).unwrap();
            let mut model = [7; 24];
            model[start as usize..(start + length) as usize].fill(0);
            assert_eq!(bytes(&*file, 0, 24), model, "{length} bytes at {start}");
        }
    }
    let file = file(&memory, "end");
    file.write_at(&[7; 24], 0).unwrap();
    file.punch(20, u64::MAX - 100).unwrap();
    assert_eq!(file.length().unwrap(), 24);
    assert_eq!(bytes(&*file, 16, 8), [7, 7, 7, 7, 0, 0, 0, 0]);
}

#[test]
fn older_maps_of_a_file_that_grew_keep_what_they_held() {
    let memory = Memory::new();
    let file = file(&memory, "a");
    file.write_at(&[7; 4096], 0).unwrap();
    let old = file.map(4096, true).unwrap();
    file.set_length(64 << 20).unwrap();
    let new = file.map(64 << 20, false).unwrap();
    file.write_mapped(&old, &[8; 8], 4000).unwrap();
    assert_eq!(bytes(&*file, 4000, 8), [8; 8]);
    let mut out = [0; 8];
    new.copy_out(4000, &mut out).unwrap();
    assert_eq!(out, [8; 8]);
    old.copy_out(0, &mut out).unwrap();
    assert_eq!(out, [7; 8]);
}

#[test]
fn names_are_listed_renamed_and_removed() {
    let memory = Memory::new();
    assert!(memory.open("log/1", Access::Create).is_err(), "there is no log yet");
    assert!(memory.list("log").is_err());
    memory.create_directory("log").unwrap();
    file(&memory, "log/1").write_at(b"one", 0).unwrap();
    file(&memory, "log/2").write_at(b"two", 0).unwrap();
    file(&memory, "table");
    assert_eq!(memory.list("").unwrap(), ["table"]);
    assert_eq!(memory.list("log").unwrap(), ["1", "2"]);

    let replaced = memory.open("log/2", Access::Read).unwrap();
    memory.rename("log/1", "log/2").unwrap();
    assert_eq!(memory.list("log").unwrap(), ["2"]);
    assert_eq!(bytes(&*memory.open("log/2", Access::Read).unwrap(), 0, 3), b"one");
    assert_eq!(bytes(&*replaced, 0, 3), b"two");

    let again = memory.open("log/2", Access::Create).err().unwrap();
    assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    memory.remove("log/2").unwrap();
    assert_eq!(memory.remove("log/2").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(memory.open("log/2", Access::Write).is_err());
    memory.sync_directory("log").unwrap();
}

#[test]
fn one_holds_the_lock_for_writing_or_many_for_reading() {
    let memory = Memory::new();
    let held = |exclusive| match memory.clone().lock(exclusive).unwrap() {
        LockOutcome::Held(lock) => Some(lock),
        LockOutcome::Busy(pid) => {
            assert_eq!(pid, Some(std::process::id()));
            None
        }
    };
    let writer = held(true).unwrap();
    assert!(held(true).is_none() && held(false).is_none());
    drop(writer);
    let readers = (held(false).unwrap(), held(false).unwrap());
    assert!(held(true).is_none());
    drop(readers);
    assert!(held(true).is_some());
}

#[test]
fn a_copy_is_not_changed_by_later_writes_nor_locked() {
    let memory = Memory::new();
    memory.create_directory("log").unwrap();
    let file = file(&memory, "log/1");
    file.write_at(b"before", 5000).unwrap();
    let _held = memory.lock(true).unwrap();
    let copy = memory.copy().unwrap();
    file.write_at(b"after!", 5000).unwrap();
    let copied = copy.open("log/1", Access::Write).unwrap();
    assert_eq!(copied.length().unwrap(), 5006);
    assert_eq!(bytes(&*copied, 5000, 6), b"before");
    assert!(matches!(copy.lock(true).unwrap(), LockOutcome::Held(_)));
}

#[test]
fn threads_may_write_while_the_file_grows() {
    let memory = Memory::new();
    let file = file(&memory, "a");
    let rounds: u64 = if cfg!(miri) { 20 } else { 2_000 };
    thread::scope(|scope| {
        for thread in 0..3_u64 {
            let file = &file;
            scope.spawn(move || {
                for round in 0..rounds {
                    file.write_at(&[thread as u8 + 1; 13], (round * 3 + thread) * 13).unwrap();
                }
            });
        }
    });
    for place in 0..rounds * 3 {
        assert_eq!(bytes(&*file, place * 13, 13), [(place % 3) as u8 + 1; 13]);
    }
}
