//! Damage that must not pass for the end of the log.

use super::*;
use crate::format::record::{LOG_START, RecordHeader, log_file_name};

/// A log of three files in which everything is known to be durable by a last
/// record that says so.
fn durable_log(memory: &Memory) -> (Open, Position) {
    let mut open = Open::create(memory.clone());
    let from = open.appender.position();
    open.fill(3, 100);
    open.rotate();
    open.fill(3, 100);
    open.rotate();
    open.fill(3, 100);
    open.log.sync_to(u64::MAX).unwrap();
    open.put(b"last", b"");
    (open, from)
}

#[test]
fn a_bit_flip_before_a_known_durable_commit_is_corrupt() {
    let memory = Memory::new();
    let (open, from) = durable_log(&memory);
    let mut places = Vec::new();
    let visit = &mut |record: &Replayed<'_>| {
        places.push((record.file, record.offset, record.commit));
        Ok(())
    };
    open.log.replay(from, open.appender.position(), visit).unwrap();
    let last = places.pop().unwrap();
    for (file, offset, commit) in places.into_iter().step_by(3) {
        for byte in [4, 9, 40] {
            let copy = memory.copy().unwrap();
            Raw::of(&copy, file).flip(u64::from(offset) + byte);
            let words = format!("record of commit {commit} should be");
            assert_corrupt(super::open(copy).unwrap().scan(from), &words);
        }
    }
    let copy = memory.copy().unwrap();
    Raw::of(&copy, last.0).flip(u64::from(last.1) + 30);
    let end = super::open(copy).unwrap().scan(from).unwrap();
    assert_eq!(end.position.commit, last.2 - 1, "nothing shows that the last one was durable");
}

#[test]
fn without_a_sign_of_durability_a_damaged_record_is_the_end() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    let from = open.appender.position();
    open.put(b"a", b"");
    let placed = open.put(b"b", b"");
    open.put(b"c", b"");
    Raw::of(&memory, 1).flip(u64::from(placed.offset) + 8);
    assert_eq!(super::open(memory).unwrap().scan(from).unwrap().position.commit, 1);
}

#[test]
fn a_missing_file_is_corrupt_even_if_nothing_was_synced() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    let from = open.appender.position();
    open.rotate();
    open.rotate();
    let copy = memory.copy().unwrap();
    copy.remove(&log_file_name(2)).unwrap();
    assert_corrupt(super::open(copy).unwrap().scan(from), "log file should be there");
    let copy = memory.copy().unwrap();
    copy.remove(&log_file_name(1)).unwrap();
    assert_corrupt(super::open(copy).unwrap().scan(from), "position is in");
    let at = open.appender.position();
    memory.remove(&log_file_name(1)).unwrap();
    super::open(memory).unwrap().scan(at).unwrap();
}

#[test]
fn a_missing_last_file_is_found_by_what_is_known_beyond_it() {
    let memory = Memory::new();
    let (open, from) = durable_log(&memory);
    let last = open.appender.position().file;
    memory.remove(&log_file_name(last)).unwrap();
    // Nothing in the log shows it; a table's position would.
    let end = super::open(memory.clone()).unwrap().scan(from).unwrap();
    assert!(end.position.commit < open.appender.position().commit);
    let beyond = open.appender.position();
    assert_corrupt(super::open(memory).unwrap().scan(beyond), "position is in");
}

#[test]
fn a_lost_activation_of_a_durable_file_is_corrupt() {
    let memory = Memory::new();
    let (_open, from) = durable_log(&memory);
    for number in [2, 3] {
        let copy = memory.copy().unwrap();
        Raw::of(&copy, number).write(512, &[0; 32]);
        assert_corrupt(super::open(copy).unwrap().scan(from), "was durable when commit");
    }
}

#[test]
fn an_unreadable_first_block_is_corrupt_for_those_who_need_the_file() {
    let memory = Memory::new();
    let (mut open, from) = durable_log(&memory);
    let placed = open.put(b"key", b"value");
    let to = open.appender.position();
    for (number, offset) in [(1, 0), (2, 14), (3, 33), (2, 600), (2, 4000)] {
        let copy = memory.copy().unwrap();
        Raw::of(&copy, number).flip(offset);
        assert_corrupt(super::open(copy).unwrap().scan(from), &log_file_name(number));
    }
    let copy = memory.copy().unwrap();
    Raw::of(&copy, 1).flip(0);
    let log = super::open(copy).unwrap();
    let pin = pins::pin();
    assert!(log.read(&pin, 1, LOG_START as u32, 1).is_none());
    assert!(log.read(&pin, placed.file, placed.offset, 1).is_some());
    assert_eq!(log.scan(to).unwrap().position, to);
    log.appender(to, true).unwrap();
}

#[test]
fn a_truncated_file_is_corrupt() {
    let memory = Memory::new();
    let (_open, from) = durable_log(&memory);
    for length in [0, 100, 4_096, 500_000] {
        let copy = memory.copy().unwrap();
        copy.open(&log_file_name(2), Access::Write).unwrap().set_length(length).unwrap();
        assert_corrupt(super::open(copy).unwrap().scan(from), "length of the log file");
    }
}

#[test]
fn a_file_of_a_newer_version_is_an_error_of_version() {
    let memory = Memory::new();
    let (_open, _) = durable_log(&memory);
    let raw = Raw::of(&memory, 2);
    raw.write(8, &2u32.to_le_bytes());
    let crc = crate::format::crc32(&raw.read(0, 32), 0);
    raw.write(32, &crc.to_le_bytes());
    let opened = super::open(memory);
    assert!(matches!(opened, Err(Error::Version { found: 2, supported: 1, .. })));
}

#[test]
fn a_valid_record_that_cannot_be_decoded_is_never_the_end() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    let from = open.appender.position();
    let placed = open.put(b"k", b"v");
    let raw = Raw::of(&memory, 1);
    let at = u64::from(placed.offset);
    raw.write(at + 24, &[99]);
    let crc = crate::format::crc32(&raw.read(at + 4, 24 - 4 + 12 + 2), from.salt ^ placed.offset);
    raw.write(at, &crc.to_le_bytes());
    let scanned = super::open(memory).unwrap().scan(from);
    assert!(matches!(scanned, Err(Error::Version { found: 99, .. })));
}

#[test]
fn positions_that_are_not_in_the_log_are_corrupt() {
    let memory = Memory::new();
    let (open, from) = durable_log(&memory);
    let to = open.appender.position();
    for wrong in [
        Position { salt: from.salt ^ 1, ..from },
        Position { offset: from.offset + 4, ..from },
        Position { offset: 8, ..from },
        Position { offset: u32::MAX - 7, ..from },
        Position { file: 77, ..from },
        Position { commit: 0, ..to },
        Position { commit: u64::MAX, ..from },
    ] {
        let scanned = open.log.scan(wrong);
        if wrong.commit == u64::MAX {
            continue; // An end, as no commit can follow it.
        }
        assert!(matches!(scanned, Err(Error::Corrupt(_))), "{wrong:?}");
    }
    // Behind the end that the next file states.
    let first = open.log.files()[0];
    let behind = Position { offset: first.end as u32 + 8, commit: first.last_commit, ..from };
    assert_corrupt(open.log.scan(behind), "end of the previous file");
    let unreached = Position { commit: to.commit + 5, offset: to.offset + 80, ..to };
    assert_corrupt(open.log.replay(from, unreached, &mut |_| Ok(())), "record of commit");
}

#[test]
fn wrong_statements_of_a_successor_are_corrupt() {
    let memory = Memory::new();
    let (_open, from) = durable_log(&memory);
    let sound = Raw::of(&memory, 2).read(512, 32);
    let state = |at: usize, change: i64, words: &str| {
        let copy = memory.copy().unwrap();
        let mut bytes = sound.clone();
        let old = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let new = (i64::from(old) + change) as u32;
        bytes[at..at + 4].copy_from_slice(&new.to_le_bytes());
        let crc = crate::format::crc32(&bytes[..28], 0);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        Raw::of(&copy, 2).write(512, &bytes);
        assert_corrupt(super::open(copy).unwrap().scan(from), words);
    };
    state(12, -8, "end of the previous file");
    state(12, 8, "record of commit");
    state(16, 1, "last commit before the log file");
    state(8, 6, "log file");
}

#[test]
fn forged_headers_in_values_are_neither_proof_nor_a_hang() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    let from = open.appender.position();
    open.put(b"a", b"");
    let torn = open.put(b"b", b"");
    let mut value = Vec::new();
    for at in 0..20_000u64 {
        let length = 900_000 - 36 * at as u32;
        let header = RecordHeader { crc: 1, length, commit: 9 + at, durable: 8 };
        value.extend_from_slice(&header.encode());
        value.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    open.put(b"c", &value);
    Raw::of(&memory, 1).flip(u64::from(torn.offset) + 8);
    let end = super::open(memory.copy().unwrap()).unwrap().scan(from).unwrap();
    assert_eq!(end.position.commit, 1);
    // A real one behind all of them is found.
    open.log.sync_to(u64::MAX).unwrap();
    open.put(b"d", b"");
    assert_corrupt(super::open(memory).unwrap().scan(from), "record of commit 2");
}
