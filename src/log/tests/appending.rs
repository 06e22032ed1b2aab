//! Appending and reading back, in one file and over several.

use super::super::scan::End;
use super::*;
use crate::format::record::{LOG_START, OP_HEADER, RECORD_HEADER};

#[test]
fn a_new_log_is_empty_and_durable() {
    let memory = Memory::new();
    let open = Open::create(memory.clone());
    let at = open.appender.position();
    assert_eq!((at.file, u64::from(at.offset), at.commit), (1, LOG_START, 0));
    let end = super::open(memory.copy().unwrap()).unwrap().scan(at).unwrap();
    assert_eq!(end, End { position: at, durable: 0, bytes: 0 });
}

#[test]
fn a_log_is_not_created_over_another() {
    let memory = Memory::new();
    Open::create(memory.clone());
    let again = Log::create(Arc::new(memory), OPTIONS, Arc::new(Poison::new()));
    assert!(matches!(again, Err(Error::InvalidArgument { .. })));
}

#[test]
fn what_was_appended_is_replayed_in_order() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    let from = open.appender.position();
    for length in [0, 1, 7, 8, 100, 2_047, 2_048, 4_000, 4_096, 5_000, 70_000] {
        let (key, value) = (format!("key{length}"), vec![length as u8; length]);
        open.put(key.as_bytes(), &value);
    }
    let to = open.appender.position();
    assert_eq!(open.appender.bytes_total(), u64::from(to.offset) - LOG_START);
    for log in [open.log, super::open(memory.copy().unwrap()).unwrap()] {
        let end = log.scan(from).unwrap();
        assert_eq!((end.position, end.bytes), (to, u64::from(to.offset) - LOG_START));
        let all = contents(&log, from, to);
        assert_eq!(all.len(), 11);
        for (key, value) in all {
            assert_eq!(key, format!("key{}", value.len()).as_bytes());
            assert!(value.iter().all(|byte| *byte == value.len() as u8));
        }
    }
}

#[test]
fn a_record_put_together_before_is_the_same_as_one_appended_at_once() {
    let (one, two) = (Memory::new(), Memory::new());
    let (mut before, mut at_once) = (Open::create(one), Open::create(two));
    let from = before.appender.position();
    let keys = [0, 1, 8, 15, 16, 17, 100];
    let values = [0, 1, 31, 32, 33, 2_048, 4_000];
    let mut longest = 0;
    for (key, value) in keys.into_iter().flat_map(|key| values.map(|value| (key, value))) {
        let (key, value) = (vec![key as u8; key], vec![value as u8; value]);
        let ops =
            [insert(&key, &value), Op { kind: OpKind::Remove, table: 3, key: &key, value: &[] }];
        for op in ops {
            // Room as a commit would have it; and what is not appended is as
            // if it had not been.
            while before.appender.reserve(24 + op.encoded_len(), false).unwrap() == Room::Wait {
                before.log.wait_for_file(24 + op.encoded_len(), false).unwrap();
            }
            let _ = before.appender.compose(&insert(b"given", b"up"));
            match before.appender.compose(&op) {
                Some(record) => {
                    let commit = before.appender.append_composed(record).unwrap();
                    assert_eq!(commit, before.log.appended());
                    longest = longest.max(op.encoded_len());
                }
                None => drop(before.append(&[op]).unwrap()),
            }
            at_once.append(&[op]).unwrap();
        }
    }
    let (to, same) = (before.appender.position(), at_once.appender.position());
    assert_eq!((to.file, to.offset, to.commit), (same.file, same.offset, same.commit));
    assert_eq!(before.appender.user_bytes(), at_once.appender.user_bytes());
    assert!(longest >= 4_012, "no long record was put together: {longest}");
    let all = contents(&before.log, from, to);
    assert_eq!(all, contents(&at_once.log, Position { salt: same.salt, ..from }, same));
    assert_eq!(all.len(), 2 * keys.len() * values.len());
}

#[test]
fn a_record_put_ahead_is_there_for_the_next_process_only_until_it_is_taken_back() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    let from = open.appender.position();
    open.put(b"before", b"");
    let killed = || super::open(memory.copy().unwrap()).unwrap().scan(from).unwrap().position;
    for round in 1..=3 {
        let at = open.appender.position();
        let key = vec![round; 40];
        let record = open.appender.compose(&insert(&key, b"value")).unwrap();
        assert_eq!(killed(), at);
        open.appender.put_ahead(&record).unwrap();
        assert_eq!((open.appender.position(), open.log.appended()), (at, at.commit));
        assert_eq!(killed().commit, at.commit + 1);
        match round {
            1 => {
                open.appender.take_back();
                assert_eq!(killed(), at);
            }
            // What is appended instead takes its place.
            2 => drop(open.put(b"other", b"")),
            _ => assert_eq!(open.appender.make_known(record), at.commit + 1),
        }
        assert_eq!(killed(), open.appender.position());
    }
    let all = contents(&open.log, from, open.appender.position());
    let keys: Vec<_> = all.iter().map(|(key, _)| &key[..]).collect();
    assert_eq!(keys, [&b"before"[..], b"other", &[3; 40]]);
}

#[test]
fn a_record_that_does_not_fit_is_not_put_together() {
    let mut open = Open::create(Memory::new());
    let room = |open: &Open| (1 << 20) - u64::from(open.appender.position().offset);
    assert!(open.appender.compose(&insert(b"key", &[1; 4_096])).is_none());
    while room(&open) > 70_000 {
        open.fill(1, 1_000);
    }
    // The rest of the file, with steps that an urgent record may take.
    while room(&open) >= 4_000 {
        let op = Op { kind: OpKind::Remove, table: 0, key: &[5; 3_000], value: &[] };
        assert_eq!(open.appender.reserve(24 + op.encoded_len(), true).unwrap(), Room::Ready);
        let record = open.appender.compose(&op).expect("there is room for it");
        open.appender.append_composed(record).unwrap();
    }
    assert!(open.appender.compose(&insert(b"key", &[1; 4_000])).is_none());
}

#[test]
fn a_batch_is_one_record_and_knows_where_its_values_lie() {
    let memory = Memory::new();
    let mut open = Open::create(memory);
    let from = open.appender.position();
    let big = vec![3; 9_000];
    let ops = [
        insert(b"a", b"first"),
        Op { kind: OpKind::Remove, table: 7, key: b"gone", value: b"" },
        insert(b"long", &big),
        Op { kind: OpKind::Clear, table: 0, key: b"", value: &[9; 16] },
    ];
    let placed = open.append(&ops).unwrap();
    let pin = pins::pin();
    let mut at = placed.offset + RECORD_HEADER as u32;
    for op in &ops {
        let key = at + OP_HEADER as u32;
        let bytes = open.log.read(&pin, placed.file, key, op.key.len() as u32).unwrap();
        assert_eq!(bytes, op.key);
        let value = key + op.key.len() as u32;
        let bytes = open.log.read(&pin, placed.file, value, op.value.len() as u32).unwrap();
        assert_eq!(bytes, op.value);
        at += op.encoded_len() as u32;
    }
    let mut visited = 0;
    let to = open.appender.position();
    let visit = &mut |record: &Replayed<'_>| {
        let found: Vec<_> = record.ops.clone().map(|op| op.unwrap().0).collect();
        assert_eq!(found, ops);
        assert_eq!((record.commit, record.offset, record.end), (1, placed.offset, to));
        visited += 1;
        Ok(())
    };
    open.log.replay(from, to, visit).unwrap();
    assert_eq!(visited, 1);
}

#[test]
fn values_are_read_only_where_records_have_been_written() {
    let mut open = Open::create(Memory::new());
    let placed = open.put(b"key", b"value");
    let end = open.appender.position().offset;
    let pin = pins::pin();
    let read = |file, offset, length| open.log.read(&pin, file, offset, length);
    assert!(read(1, placed.offset, end - placed.offset).is_some());
    assert!(read(1, placed.offset, end - placed.offset + 1).is_none());
    assert!(read(1, end, 0).is_some());
    assert!(read(1, 0, 8).is_none(), "the first block holds no values");
    assert!(read(2, placed.offset, 1).is_none(), "no such file");
    assert!(read(0, u32::MAX, u32::MAX).is_none());
    assert!(read(1, u32::MAX, u32::MAX).is_none());
}

#[test]
fn a_full_file_is_followed_by_one_twice_as_large() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    let from = open.appender.position();
    open.fill(100, 100_000);
    let files = open.log.files();
    let sizes: Vec<u64> = files.iter().map(|file| file.size >> 20).collect();
    assert_eq!(sizes, [1, 2, 4, 4]);
    for pair in files.windows(2) {
        assert_eq!(pair[0].last_commit + 1, pair[1].first_commit);
        assert!(pair[0].number < pair[1].number && pair[0].end <= pair[0].size);
    }
    assert_eq!(files.iter().filter(|file| file.active).count(), 1);
    let last = files.last().unwrap();
    assert!(last.active && last.last_commit == 100);
    let to = open.appender.position();
    assert_eq!(u64::from(to.offset), last.end);

    let log = super::open(memory.copy().unwrap()).unwrap();
    assert_eq!(log.scan(from).unwrap().position, to);
    assert_eq!(contents(&log, from, to).len(), 100);
    // Finished files know their end without being read.
    let found = log.files();
    assert_eq!(found[..3], files[..3]);
}

#[test]
fn a_walk_may_begin_anywhere_between_records() {
    let mut open = Open::create(Memory::new());
    let mut places = vec![open.appender.position()];
    for _ in 0..30 {
        open.fill(1, 100_000);
        places.push(open.appender.position());
    }
    let to = open.appender.position();
    for (at, from) in places.iter().enumerate() {
        assert_eq!(open.log.scan(*from).unwrap().position, to);
        assert_eq!(contents(&open.log, *from, to).len(), 30 - at);
    }
    assert_eq!(contents(&open.log, places[3], places[20]).len(), 17);
}

#[test]
fn a_record_that_fits_no_ordinary_file_gets_its_own() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    let from = open.appender.position();
    open.put(b"before", b"");
    let value: Vec<u8> = (0..5 << 20).map(|at| (at / 7) as u8).collect();
    let placed = open.put(b"large", &value);
    open.put(b"after", b"");
    let files = open.log.files();
    assert_eq!(files.len(), 2);
    let own = files[1];
    assert_eq!((placed.file, u64::from(placed.offset)), (own.number, LOG_START));
    assert!(own.size > 5 << 20 && own.size < 6 << 20);
    open.rotate();
    let last = open.log.files().pop().unwrap();
    assert!(last.size <= OPTIONS.max_file, "sizes do not grow from a file of its own");

    let log = super::open(memory.copy().unwrap()).unwrap();
    let all = contents(&log, from, open.appender.position());
    assert_eq!(all[1].1, value);
    let pin = pins::pin();
    let at = placed.offset + (RECORD_HEADER + OP_HEADER + 5) as u32;
    assert_eq!(open.log.read(&pin, placed.file, at, 5 << 20).unwrap(), value);
}

#[test]
fn a_record_longer_than_a_gibibyte_is_refused() {
    let mut open = Open::create(Memory::new());
    let needed = (1 << 30) + 1;
    let refused = |error| matches!(error, Error::BatchTooLarge { needed: n, .. } if n == needed);
    assert!(refused(open.appender.reserve(needed, false).unwrap_err()));
    assert!(refused(open.log.wait_for_file(needed, false).unwrap_err()));
    open.put(b"still", b"fine");
}

#[test]
fn real_files_hold_a_log_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let files = || crate::storage::files::Files::new(directory.path());
    let mut open = Open::create(files());
    let from = open.appender.position();
    open.fill(40, 100_000);
    open.log.close().unwrap();
    let to = open.appender.position();
    drop(open);
    let mut open = Open::reopen(files(), to).unwrap();
    assert_eq!(contents(&open.log, from, to).len(), 40);
    open.fill(40, 100_000);
    let to = open.appender.position();
    drop(open);
    let (mut open, end) = Open::recover(files(), from).unwrap();
    assert_eq!(end.position, to);
    open.fill(10, 1_000);
    assert_eq!(contents(&open.log, from, open.appender.position()).len(), 90);
}

#[test]
fn a_read_only_log_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let files = || Arc::new(crate::storage::files::Files::new(directory.path()));
    let mut open = Open::create(crate::storage::files::Files::new(directory.path()));
    let from = open.appender.position();
    open.fill(20, 100_000);
    open.log.wait_for_file(3 << 20, false).unwrap();
    drop(open);
    files().open("log/next.tmp", Access::Create).unwrap();
    let look = || {
        let mut names = files().list("log").unwrap();
        names.sort();
        let read = |name: &String| std::fs::read(directory.path().join("log").join(name)).unwrap();
        names.iter().map(|name| (name.clone(), crate::format::crc32(&read(name), 0))).collect()
    };
    let before: Vec<(String, u32)> = look();
    let options = LogOptions { read_only: true, ..OPTIONS };
    let log = Log::open(files(), options, Arc::new(Poison::new())).unwrap();
    let end = log.scan(from).unwrap();
    assert_eq!(contents(&log, from, end.position).len(), 20);
    assert!(matches!(log.appender(end.position, false), Err(Error::ReadOnly)));
    assert!(matches!(log.rewrite(from, end.position), Err(Error::ReadOnly)));
    assert!(matches!(log.wait_for_file(10, false), Err(Error::ReadOnly)));
    log.retire(1);
    log.close().unwrap();
    assert_eq!(look(), before);
}

#[test]
fn records_are_long_where_most_bytes_of_the_active_file_are_in_long_ones() {
    let mut open = Open::create(Memory::new());
    assert!(!open.log.takes_long_records(), "nothing is there");
    for _ in 0..100 {
        open.put(b"a key", &[1; 100]);
    }
    assert!(!open.log.takes_long_records());
    for _ in 0..100 {
        open.put(b"a key", &[1; 2_000]);
    }
    assert!(open.log.takes_long_records());
}
