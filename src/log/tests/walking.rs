//! Walking one file of the log: all of its records and nothing else, damage
//! by its place, and files that go away meanwhile.
//!
//! Files are ended by rotating or by filling them, damaged in their bytes, and
//! the walk is held against what a replay of the whole chain visits.

use super::*;
use crate::format::crc32;
use crate::format::record::LOG_START;

/// Where a record begins, and its value.
type Visited = (u32, Vec<u8>);

/// The records of a file, up to its end or to an error.
fn walk(log: &Log, number: u32) -> (Vec<Visited>, Result<()>) {
    let mut all = Vec::new();
    let mut each = || {
        let mut walk = log.file_walk(number)?;
        while let Some(record) = walk.next()? {
            let (op, _) = record.ops.clone().next().unwrap().unwrap();
            assert_eq!(u64::from(record.length), 24 + op.encoded_len());
            all.push((record.offset, op.value.to_vec()));
        }
        assert!(walk.next()?.is_none(), "the end stays the end");
        Ok(())
    };
    let outcome = each();
    (all, outcome)
}

/// What a replay visits in that file.
fn replayed(log: &Log, number: u32, from: Position, to: Position) -> Vec<Visited> {
    let mut all = Vec::new();
    log.replay(from, to, &mut |record| {
        if record.file == number {
            let (op, _) = record.ops.clone().next().unwrap().unwrap();
            all.push((record.offset, op.value.to_vec()));
        }
        Ok(())
    })
    .unwrap();
    all
}

#[test]
fn a_walk_visits_the_records_of_one_file_and_no_others() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    let from = open.appender.position();
    open.fill(7, 1_000);
    open.rotate();
    open.fill(5, 333);
    // A record of several windows, and a file without any.
    open.put(b"large", &vec![7; 3 << 20]);
    open.end_file();
    open.end_file();
    open.fill(2, 10);
    open.end_file();
    let to = open.appender.position();
    let reopened = super::open(memory.copy().unwrap()).unwrap();
    let files = open.log.files();
    assert!(files.len() >= 5);
    let mut visited = 0;
    for file in &files[..files.len() - 1] {
        for log in [&open.log, &reopened] {
            let (records, outcome) = walk(log, file.number);
            outcome.unwrap();
            assert_eq!(records, replayed(log, file.number, from, to), "file {}", file.number);
            visited += records.len();
        }
    }
    assert_eq!(visited as u64, 2 * to.commit);
    assert!(files.iter().any(|file| walk(&open.log, file.number).0.is_empty()));
}

#[test]
fn the_active_file_and_absent_ones_cannot_be_walked() {
    let mut open = Open::create(Memory::new());
    open.fill(1, 10);
    assert!(matches!(open.log.file_walk(1), Err(Error::InvalidArgument { .. })));
    assert!(matches!(open.log.file_walk(2), Err(Error::NotFound { .. })));
    open.log.wait_for_file(100, false).unwrap();
    assert!(matches!(open.log.file_walk(2), Err(Error::NotFound { .. })), "only prepared");
    open.end_file();
    assert!(open.log.file_walk(1).is_ok());
}

#[test]
fn rot_is_named_with_file_and_offset_and_what_lies_before_it_is_visited() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    open.fill(5, 40);
    open.end_file();
    let end = open.log.files()[0].end;
    let (records, _) = walk(&open.log, 1);
    for at in LOG_START..end {
        let copy = memory.copy().unwrap();
        Raw::of(&copy, 1).flip(at);
        let log = super::open(copy).unwrap();
        let (found, outcome) = walk(&log, 1);
        let hit = records.iter().rposition(|record| u64::from(record.0) <= at).unwrap();
        if found.len() == records.len() {
            // A byte of padding belongs to no record.
            outcome.unwrap();
            let length = 24 + 12 + 1 + 40;
            assert!(at - u64::from(records[hit].0) >= length, "offset {at}");
            continue;
        }
        assert_eq!(found, records[..hit], "offset {at}");
        assert_corrupt(outcome, &format!("offset {}", records[hit].0));
    }
}

#[test]
fn a_record_behind_the_stated_end_is_not_visited() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    let salt = open.appender.position().salt;
    open.fill(2, 10);
    open.end_file();
    let end = open.log.files()[0].end;
    let mut record = [0; 24];
    record[4..8].copy_from_slice(&24u32.to_le_bytes());
    record[8..16].copy_from_slice(&3u64.to_le_bytes());
    let crc = crc32(&record[4..], salt ^ end as u32);
    record[..4].copy_from_slice(&crc.to_le_bytes());
    Raw::of(&memory, 1).write(end, &record);
    for log in [&open.log, &super::open(memory.copy().unwrap()).unwrap()] {
        let (records, outcome) = walk(log, 1);
        outcome.unwrap();
        assert_eq!(records.len(), 2);
    }
}

#[test]
fn a_next_file_that_states_another_end_or_commit_is_corrupt() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    open.fill(3, 100);
    open.end_file();
    let (records, _) = walk(&open.log, 1);
    let activation = Raw::of(&memory, 2).read(512, 32);
    let forge = |end: u32, last: u64| {
        let copy = memory.copy().unwrap();
        let mut forged = activation.clone();
        forged[12..16].copy_from_slice(&end.to_le_bytes());
        forged[16..24].copy_from_slice(&last.to_le_bytes());
        let crc = crc32(&forged[..28], 0);
        forged[28..].copy_from_slice(&crc.to_le_bytes());
        Raw::of(&copy, 2).write(512, &forged);
        walk(&super::open(copy).unwrap(), 1).1
    };
    let end = open.log.files()[0].end as u32;
    forge(end, 3).unwrap();
    assert_corrupt(forge(end, 2), "last commit of the log file");
    assert_corrupt(forge(end, 4), "last commit of the log file");
    assert_corrupt(forge(end + 8, 3), "record of commit 4");
    assert_corrupt(forge(end - 8, 3), "end of the record of commit 3");
    assert_corrupt(forge(records[1].0, 3), "last commit of the log file");
}

#[test]
fn a_damaged_first_block_is_corrupt() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    open.fill(3, 100);
    open.end_file();
    Raw::of(&memory, 1).flip(20);
    let log = super::open(memory).unwrap();
    assert_corrupt(log.file_walk(1).map(drop), "log file's header");
}

#[test]
fn a_file_that_is_recycled_during_a_walk_is_not_found_and_not_corrupt() {
    let mut open = Open::create(Memory::new());
    (0..3).for_each(|_| open.rotate());
    let number = open.appender.file();
    // More than a walk reads at once.
    open.fill(30, 100_000);
    open.rotate();
    let log = open.log.clone();
    let mut walk = log.file_walk(number).unwrap();
    assert!(walk.next().unwrap().is_some());
    log.retire(number);
    // Pins of other tests come and go; then the file gets a new life.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while log.usage().spares == 0 {
        assert!(std::time::Instant::now() < deadline, "it never becomes a spare");
        log.tidy_now();
        std::thread::yield_now();
    }
    assert_eq!(log.usage().spares, 4 << 20);
    log.wait_for_file(100, false).unwrap();
    assert_eq!(log.usage().spares, 0, "recycled");
    assert!(open.appender.rotate().unwrap());
    open.fill(30, 100_001);
    let outcome = loop {
        match walk.next() {
            Ok(Some(_)) => {}
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    assert!(matches!(outcome, Err(Error::NotFound { .. })), "{outcome:?}");
    assert!(matches!(log.file_walk(number), Err(Error::NotFound { .. })));
}

/// A log whose second file is gone, so that nobody states the end of the
/// first; the first has records, each of which knows of `durable` more.
fn unstated(sync_each: bool) -> (Memory, u64) {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    for _ in 0..6 {
        open.fill(1, 100);
        if sync_each {
            open.log.sync_to(u64::MAX).unwrap();
        }
    }
    open.end_file();
    open.end_file();
    open.fill(2, 100);
    open.log.retire(2);
    open.log.close().unwrap();
    let end = open.log.files()[0].end;
    drop(open);
    // If a pin of another test still held it.
    let _ = memory.remove(&log_file_name(2));
    (memory, end)
}

#[test]
fn a_file_whose_end_nobody_states_is_walked_to_its_last_record() {
    let (memory, end) = unstated(true);
    let log = super::open(memory.copy().unwrap()).unwrap();
    let first = log.files()[0];
    assert_eq!(first.end, first.size, "nobody states it");
    assert!(first.last_commit >= 6, "it must not look empty");
    let (records, outcome) = walk(&log, 1);
    outcome.unwrap();
    assert_eq!(records.len(), 6);
    // Its end is not known exactly, so nothing behind it is given back.
    Raw::of(&memory, 1).write(first.size - 8, b"trailing");
    let log = super::open(memory.clone()).unwrap();
    log.trim(1);
    assert_eq!(Raw::of(&memory, 1).read(first.size - 8, 8), b"trailing");
    assert!(end < first.size - 8);
}

#[test]
fn rot_in_a_file_whose_end_nobody_states_is_found_by_what_was_durable() {
    let (memory, _) = unstated(true);
    let (records, _) = walk(&super::open(memory.copy().unwrap()).unwrap(), 1);
    for (at, record) in records.iter().enumerate() {
        let copy = memory.copy().unwrap();
        Raw::of(&copy, 1).flip(u64::from(record.0) + 50);
        let (found, outcome) = walk(&super::open(copy).unwrap(), 1);
        assert_eq!(found.len(), at);
        if at + 1 < records.len() {
            assert_corrupt(outcome, &format!("offset {}", record.0));
        } else {
            outcome.expect("the last record has none behind it that knows of it");
        }
    }
    // Nothing was durable: it passes for the end, as documented.
    let (memory, _) = unstated(false);
    Raw::of(&memory, 1).flip(u64::from(records[2].0) + 50);
    let (found, outcome) = walk(&super::open(memory).unwrap(), 1);
    outcome.unwrap();
    assert_eq!(found.len(), 2);
}
