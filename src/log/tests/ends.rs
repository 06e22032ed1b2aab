//! Where the log ends: torn records, stale bytes, crashes around activation.

use super::*;
use crate::format::record::LOG_START;

/// A log with records in two files, the last of them in the second.
fn two_files(memory: &Memory) -> (Open, Position) {
    let mut open = Open::create(memory.clone());
    let from = open.appender.position();
    open.fill(3, 1_000);
    open.rotate();
    open.fill(2, 1_000);
    (open, from)
}

#[test]
fn a_torn_last_record_is_the_end() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    let from = open.appender.position();
    open.put(b"whole", b"value");
    let whole = open.appender.position();
    let placed = open.put(b"torn", &[1; 100]);
    let length = open.appender.position().offset - whole.offset;
    let record = Raw::of(&memory, 1).read(placed.offset.into(), length as usize);
    // The last bytes are padding.
    for written in (0..24 + 12 + 4 + 100).step_by(7) {
        let copy = memory.copy().unwrap();
        let mut torn = record.clone();
        torn[written..].fill(0);
        Raw::of(&copy, 1).write(placed.offset.into(), &torn);
        let end = super::open(copy).unwrap().scan(from).unwrap();
        assert_eq!(end.position, whole, "torn at {written}");
    }
    assert_eq!(open.log.scan(from).unwrap().position, open.appender.position());
}

#[test]
fn a_flipped_bit_in_the_last_record_is_the_end() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    let from = open.appender.position();
    open.put(b"a", b"1");
    let whole = open.appender.position();
    let placed = open.put(b"b", b"2");
    for byte in (0..24 + 12 + 2).step_by(3) {
        let copy = memory.copy().unwrap();
        Raw::of(&copy, 1).flip(u64::from(placed.offset) + byte);
        assert_eq!(super::open(copy).unwrap().scan(from).unwrap().position, whole);
    }
}

#[test]
fn a_record_may_end_exactly_with_its_file() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    let from = open.appender.position();
    // Urgent records may use the reserve, to the last byte.
    let room = (1 << 20) - u64::from(from.offset);
    assert_eq!(open.appender.reserve(room, true).unwrap(), Room::Ready);
    open.appender.append(&[insert(b"k", &vec![5; room as usize - 24 - 12 - 1])]).unwrap();
    assert_eq!(open.appender.position().offset, 1 << 20);
    let full = open.appender.position();
    assert_eq!(super::open(memory.copy().unwrap()).unwrap().scan(from).unwrap().position, full);
    open.put(b"next", b"file");
    let log = super::open(memory.copy().unwrap()).unwrap();
    assert_eq!(log.scan(from).unwrap().position, open.appender.position());
    assert_eq!(log.scan(full).unwrap().position, open.appender.position());
}

#[test]
fn bytes_behind_a_stated_end_are_ignored() {
    let memory = Memory::new();
    let (open, from) = two_files(&memory);
    let first = open.log.files()[0];
    // Even a valid record there, with the number that is due, is not looked at.
    let copy = memory.copy().unwrap();
    let mut record = [0; 24];
    record[4..8].copy_from_slice(&24u32.to_le_bytes());
    record[8..16].copy_from_slice(&(first.last_commit + 1).to_le_bytes());
    let crc = crate::format::crc32(&record[4..], from.salt ^ first.end as u32);
    record[..4].copy_from_slice(&crc.to_le_bytes());
    Raw::of(&copy, 1).write(first.end, &record);
    let end = super::open(copy).unwrap().scan(from).unwrap();
    assert_eq!(end.position, open.appender.position());
}

#[test]
fn a_torn_activation_is_the_end_of_the_file_before() {
    let memory = Memory::new();
    let (open, from) = two_files(&memory);
    let first = open.log.files()[0];
    for byte in (0..32).step_by(5) {
        let copy = memory.copy().unwrap();
        Raw::of(&copy, 2).flip(512 + byte);
        let (mut after, end) = Open::recover(copy.clone(), from).unwrap();
        assert_eq!((end.position.file, u64::from(end.position.offset)), (1, first.end));
        assert_eq!(end.position.commit, first.last_commit);
        // What the second file held must not come back under its next number.
        after.put(b"new", b"history");
        let at = after.appender.position();
        assert_eq!(at.commit, first.last_commit + 1);
        let log = super::open(copy).unwrap();
        assert_eq!(log.scan(from).unwrap().position, at);
    }
}

#[test]
fn an_activated_file_without_a_record_does_not_count() {
    let memory = Memory::new();
    let (open, from) = two_files(&memory);
    let first = open.log.files()[0];
    Raw::of(&memory, 2).write(LOG_START, &vec![0; (1 << 20) - LOG_START as usize]);
    let (mut after, end) = Open::recover(memory.clone(), from).unwrap();
    assert_eq!((end.position.file, u64::from(end.position.offset)), (1, first.end));
    assert_eq!(after.appender.position().file, 3);
    assert_eq!(after.log.files().iter().map(|file| file.number).collect::<Vec<_>>(), [1, 3]);
    after.put(b"goes", b"on");
    let at = after.appender.position();
    assert_eq!(super::open(memory.copy().unwrap()).unwrap().scan(from).unwrap().position, at);
    drop(open);
}

#[test]
fn after_a_crash_stale_records_behind_the_end_are_never_revived() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    let from = open.appender.position();
    open.put(b"a", b"1");
    let end = open.appender.position();
    let lost = open.put(b"b", b"2");
    open.put(b"c", b"lost with its predecessor");
    // Power loss took the sector of `b` and left that of `c`.
    Raw::of(&memory, 1).flip(u64::from(lost.offset) + 30);
    drop(open);
    let (open, found) = Open::recover(memory.clone(), from).unwrap();
    assert_eq!(found.position, end);
    assert!(open.appender.can_continue());
    // Closed cleanly without a write, opened again, and written to.
    open.log.close().unwrap();
    let at = open.appender.position();
    drop(open);
    let mut open = Open::reopen(memory.clone(), at).unwrap();
    open.put(b"x", b"2");
    let log = super::open(memory.copy().unwrap()).unwrap();
    assert_eq!(log.scan(from).unwrap().position, open.appender.position());
    let all = contents(&log, from, open.appender.position());
    assert_eq!(all.iter().map(|(key, _)| &key[..]).collect::<Vec<_>>(), [b"a", b"x"]);
}

#[test]
fn a_crash_during_recovery_leaves_the_same_end() {
    let memory = Memory::new();
    let (open, from) = two_files(&memory);
    let at = open.appender.position();
    drop(open);
    for round in 0..5 {
        let (open, end) = Open::recover(memory.clone(), from).unwrap();
        assert_eq!(end.position.commit, at.commit, "round {round}");
        drop(open);
    }
    let (mut open, _) = Open::recover(memory.clone(), from).unwrap();
    open.put(b"k", b"v");
    let end = super::open(memory.copy().unwrap()).unwrap().scan(from).unwrap();
    assert_eq!(end.position, open.appender.position());
    assert_eq!(end.position.commit, at.commit + 1);
}

#[test]
fn a_clean_log_goes_on_in_place() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    let from = open.appender.position();
    for round in 0..5 {
        open.put(b"k", &[round; 10]);
        open.log.close().unwrap();
        let at = open.appender.position();
        drop(open);
        open = Open::reopen(memory.clone(), at).unwrap();
        assert_eq!(open.appender.position(), at);
        assert_eq!((open.log.appended(), open.log.durable()), (at.commit, at.commit));
    }
    assert_eq!(open.log.files().len(), 1);
    assert_eq!(contents(&open.log, from, open.appender.position()).len(), 5);
}

#[test]
fn a_clean_mark_that_lies_is_found_out() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    let from = open.appender.position();
    open.put(b"k", b"v");
    assert_corrupt(Open::reopen(memory.clone(), from), "closed cleanly");
    open.rotate();
    let first = open.log.files()[0];
    let offset = first.end as u32;
    let at = Position { offset, commit: first.last_commit, ..from };
    assert_corrupt(Open::reopen(memory, at), "closed cleanly");
}

#[test]
fn a_recycled_file_does_not_show_its_earlier_life() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    open.rotate();
    open.rotate();
    let old = open.log.files();
    let salt_of =
        |number| u32::from_le_bytes(Raw::of(&memory, number).read(16, 4).try_into().unwrap());
    let salts = [salt_of(1), salt_of(2)];
    open.rotate();
    open.rotate();
    let from = open.appender.position();
    // All files but the active one are retired; two of 4 MiB come back.
    for file in open.log.files() {
        open.log.retire(file.number);
    }
    assert_eq!(open.log.files().len(), 1);
    for _ in 0..4 {
        open.rotate();
        open.fill(3, 1_000);
        let log = super::open(memory.copy().unwrap()).unwrap();
        assert_eq!(log.scan(from).unwrap().position, open.appender.position());
    }
    let numbers: Vec<u32> = open.log.files().iter().map(|file| file.number).collect();
    assert!(numbers.iter().all(|number| old.iter().all(|file| file.number != *number)));
    assert!(numbers.iter().all(|number| !salts.contains(&salt_of(*number))));
}

#[test]
fn a_prepared_file_does_not_bring_back_the_records_of_a_lost_activation() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    let from = open.appender.position();
    open.rotate();
    // Records that follow each other at the places where others will be put.
    let value = vec![b'v'; 100_000];
    let end = Position { commit: open.log.files()[0].last_commit, ..from };
    for _ in 0..3 {
        open.put(b"lost", &value);
    }
    Raw::of(&memory, 2).write(512, &[0; 32]);
    drop(open);
    let (mut open, found) = Open::recover(memory.clone(), from).unwrap();
    assert_eq!(found.position.commit, end.commit);
    assert_eq!(open.log.files().len(), 2);
    open.put(b"1", &value[..100_003 - 4]);
    open.put(b"back", &value);
    let at = open.appender.position();
    let log = super::open(memory.copy().unwrap()).unwrap();
    assert_eq!(log.scan(from).unwrap().position, at);
}

#[test]
fn the_newest_of_two_successors_counts() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    let from = open.appender.position();
    open.put(b"a", b"");
    // A file of a lost history: named the same predecessor, further on.
    let lost = memory.copy().unwrap();
    let mut other = Open::recover(lost.clone(), from).unwrap().0;
    other.put(b"lost", b"");
    drop(other);
    drop(open);
    let (first, _) = Open::recover(memory.clone(), from).unwrap();
    drop(first);
    let (mut open, _) = Open::recover(memory.clone(), from).unwrap();
    open.put(b"b", b"");
    assert_eq!(open.appender.position().file, 3);
    let stale = Raw::of(&lost, 2).read(0, 1 << 20);
    memory.open(&log_file_name(2), Access::Create).unwrap().write_at(&stale, 0).unwrap();
    let end = super::open(memory).unwrap().scan(from).unwrap();
    assert_eq!(end.position, open.appender.position());
}

#[test]
fn the_file_in_which_a_crashed_log_goes_on_is_durable_at_once() {
    let storage = super::faulty::Faulty::new();
    let mut open = Open::create(storage.clone());
    let from = open.appender.position();
    open.put(b"a", b"");
    drop(open);
    let (open, _) = Open::recover(storage.clone(), from).unwrap();
    let name = log_file_name(open.appender.position().file);
    let block = storage.get(|state| state.synced[&name][..4096].to_vec());
    assert_eq!(&block[512..520], b"activate");
    assert_eq!(open.log.durable(), 1);
}
