//! Ending a file before it is full: the next one holds no record yet.
//!
//! A crash, a loss of power or a clean close may come right after it, when
//! nothing but 32 bytes in the first block of a file tell of it. Each of these
//! is tried on a copy, and the log has to go on from there.

use std::sync::atomic::{AtomicBool, Ordering};

use super::faulty::Faulty;
use super::*;
use crate::format::record::LOG_START;

/// What a loss of power leaves of a storage if nothing unsynced survives.
pub(super) fn only_synced(storage: &Faulty) -> Faulty {
    let after = Faulty::new();
    after.create_directory("log").unwrap();
    for name in storage.list("log").unwrap() {
        let name = format!("log/{name}");
        let length = storage.memory.open(&name, Access::Read).unwrap().length().unwrap();
        let mut bytes = storage.get(|state| state.synced.get(&name).cloned()).unwrap_or_default();
        bytes.resize(length as usize, 0);
        let file = after.open(&name, Access::Create).unwrap();
        file.write_at(&bytes, 0).unwrap();
        file.sync().unwrap();
    }
    after
}

/// Lets another thread end, also when an assertion fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn keys(log: &Log, from: Position, to: Position) -> Vec<Vec<u8>> {
    contents(log, from, to).into_iter().map(|(key, _)| key).collect()
}

#[test]
fn rotating_ends_a_file_without_a_record() {
    let mut open = Open::create(Memory::new());
    let from = open.appender.position();
    open.put(b"a", b"1");
    let before = open.appender.position();
    open.end_file();
    let after = open.appender.position();
    assert_eq!((after.file, u64::from(after.offset)), (2, LOG_START));
    assert_eq!((after.commit, open.appender.file()), (1, 2));
    let first = open.log.files()[0];
    assert_eq!((first.end, first.last_commit), (before.offset.into(), 1));
    assert!(!first.active && first.last_commit >= first.first_commit);
    let second = open.log.files()[1];
    assert!(second.active && second.last_commit < second.first_commit);
    open.put(b"b", b"2");
    let end = open.appender.position();
    assert_eq!(open.log.scan(from).unwrap().position, end);
    assert_eq!(open.log.scan(after).unwrap().position, end, "it is a place to begin from");
    assert_eq!(keys(&open.log, from, end), [b"a", b"b"]);
}

#[test]
fn rotating_without_a_prepared_file_changes_nothing() {
    let mut open = Open::create(Memory::new());
    open.put(b"a", b"1");
    let before = open.appender.position();
    assert!(!open.appender.rotate().unwrap());
    assert_eq!(open.appender.position(), before);
    assert_eq!(open.log.files().len(), 1);
    open.put(b"b", b"2");
    assert_eq!(open.appender.position().file, 1);
    open.log.wait_for_file(100, false).unwrap();
    assert!(open.appender.rotate().unwrap());
}

#[test]
fn a_crash_right_after_rotating_leaves_the_same_end() {
    for synced in [false, true] {
        for records in [0, 3] {
            for rotations in 1..4 {
                let memory = Memory::new();
                let mut open = Open::create(memory.clone());
                let from = open.appender.position();
                open.fill(records, 100);
                (0..rotations).for_each(|_| open.end_file());
                if synced {
                    open.log.sync_to(u64::MAX).unwrap();
                }
                drop(open);
                let (mut open, end) = Open::recover(memory.clone(), from).unwrap();
                assert_eq!(end.position.commit, records as u64);
                assert!(open.appender.can_continue());
                open.put(b"after", b"");
                open.end_file();
                let log = super::open(memory.copy().unwrap()).unwrap();
                let end = log.scan(from).unwrap().position;
                assert_eq!(end.commit, records as u64 + 1);
                assert_eq!(contents(&log, from, end).len(), records + 1);
            }
        }
    }
}

#[test]
fn any_activation_may_be_lost_after_rotations() {
    // Each of three files without a record may have lost its activation.
    for lost in 0..8u8 {
        let memory = Memory::new();
        let mut open = Open::create(memory.clone());
        let from = open.appender.position();
        open.fill(3, 100);
        open.log.sync_to(u64::MAX).unwrap();
        (0..3).for_each(|_| open.end_file());
        open.fill(1, 100);
        drop(open);
        for file in (0..3).filter(|file| lost & (1 << file) != 0) {
            Raw::of(&memory, 2 + file).write(512, &[0; 32]);
        }
        let (mut open, end) = Open::recover(memory.clone(), from).unwrap();
        let commits = if lost == 0 { 4 } else { 3 };
        assert_eq!(end.position.commit, commits, "lost: {lost:03b}");
        open.put(b"after", b"");
        let log = super::open(memory.copy().unwrap()).unwrap();
        assert_eq!(log.scan(from).unwrap().position, open.appender.position());
    }
}

#[test]
fn closing_right_after_rotating_survives_a_loss_of_power() {
    // Without, and with, commits that are not durable when the file is ended.
    for synced in [true, false] {
        let storage = Faulty::new();
        let mut open = Open::create(storage.clone());
        let from = open.appender.position();
        open.put(b"a", b"1");
        if synced {
            open.log.sync_to(u64::MAX).unwrap();
        }
        open.end_file();
        assert!(open.appender.can_continue());
        open.log.close().unwrap();
        let at = open.appender.position();
        drop(open);
        let after = only_synced(&storage);
        let mut open = Open::reopen(after.clone(), at).unwrap();
        assert_eq!(open.appender.position(), at);
        open.put(b"b", b"2");
        open.log.close().unwrap();
        let end = open.appender.position();
        assert_eq!((end.file, keys(&open.log, from, end).len()), (2, 2));
        // And as after a crash, from a position in the empty file.
        let (open, found) = Open::recover(only_synced(&after), at).unwrap();
        assert_eq!(found.position, end);
        drop(open);
    }
}

#[test]
fn a_sync_of_durable_commits_makes_the_new_file_durable_once() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    open.put(b"a", b"1");
    open.log.sync_to(1).unwrap();
    open.end_file();
    storage.set(|state| state.syncs.clear());
    open.log.sync_to(0).unwrap();
    let block = storage.get(|state| state.synced[&log_file_name(2)][512..520].to_vec());
    assert_eq!(block, b"activate");
    let count = storage.get(|state| state.syncs.len());
    assert_eq!(count, 2, "both files, oldest first");
    open.log.sync_to(u64::MAX).unwrap();
    assert_eq!(storage.get(|state| state.syncs.len()), count, "nothing is left to sync");
}

#[test]
fn a_new_file_that_cannot_be_synced_is_an_error_and_poisons() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    open.end_file();
    storage.set(|state| state.fail_sync = true);
    assert!(matches!(open.log.sync_to(0), Err(Error::Io { .. })));
    assert!(matches!(open.appender.rotate(), Err(Error::Poisoned { .. })));
    assert!(matches!(open.log.prepare_small(), Err(Error::Poisoned { .. })));
}

#[test]
fn rotating_while_others_sync_leaves_nothing_undurable() {
    let storage = Faulty::new();
    let Open { log, appender } = Open::create(storage.clone());
    let (mut open, stop) = (Open { log: log.clone(), appender }, AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                log.sync_to(u64::MAX).unwrap();
            }
        });
        let _stops = Stop(&stop);
        for round in 0..if cfg!(miri) { 3 } else { 30 } {
            open.end_file();
            if round % 3 == 0 {
                open.put(b"key", b"value");
            }
            open.log.sync_to(0).unwrap();
            let name = log_file_name(open.appender.file());
            let block = storage.get(|state| state.synced[&name][512..520].to_vec());
            assert_eq!(block, b"activate", "round {round}");
        }
    });
}

#[test]
fn a_rotated_log_is_read_without_writing() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    let from = open.appender.position();
    open.put(b"a", b"1");
    open.end_file();
    let options = LogOptions { read_only: true, ..OPTIONS };
    for at in [from, open.appender.position()] {
        let log = Log::open(Arc::new(memory.clone()), options, Arc::new(Poison::new())).unwrap();
        let end = log.scan(at).unwrap().position;
        assert_eq!(end.commit, 1);
        log.check_place(at).unwrap();
        assert!(log.replay(at, end, &mut |_| Ok(())).is_ok());
        log.trim(1);
        log.retire(1);
        log.drop_spares();
        assert!(matches!(log.prepare_small(), Err(Error::ReadOnly)));
        assert_eq!(log.files().len(), 2);
    }
}

#[test]
fn a_file_in_hand_that_is_larger_than_the_small_one_is_given_up() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    open.log.wait_for_file(100, false).unwrap();
    // It does not fit the rest of the active file, so the next one is taken.
    assert_eq!(open.appender.reserve(1_040_000, false).unwrap(), Room::Ready);
    assert_eq!(open.log.usage().prepared, 2 * MIN_FILE);
    open.log.prepare_small().unwrap();
    assert_eq!(open.log.usage().prepared, 3 * MIN_FILE, "one in hand, one prepared");
    assert!(open.appender.rotate().unwrap());
    let active = open.log.files()[1];
    assert_eq!((active.number, active.size), (3, MIN_FILE));
    assert_eq!(open.log.usage().prepared, 0);
    open.log.drop_spares();
    assert_eq!(storage.list("log").unwrap().len(), 2);
    assert!(!open.appender.rotate().unwrap(), "nothing is left in hand");
}

#[test]
fn sizes_double_again_after_a_small_file() {
    let mut open = Open::create(Memory::new());
    (0..3).for_each(|_| open.rotate());
    assert_eq!(open.log.files().last().unwrap().size, 4 << 20);
    open.log.wait_for_file(100, false).unwrap();
    open.end_file();
    let sizes = |open: &Open| open.log.files().iter().map(|file| file.size).collect::<Vec<_>>();
    assert_eq!(sizes(&open).last(), Some(&MIN_FILE));
    (0..3).for_each(|_| open.rotate());
    let mebibytes: Vec<u64> = sizes(&open).iter().map(|size| size >> 20).collect();
    assert_eq!(mebibytes, [1, 2, 4, 4, 1, 2, 4, 4]);
}

#[test]
fn a_large_file_makes_way_for_a_small_one_on_a_full_device() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    (0..2).for_each(|_| open.rotate());
    open.log.wait_for_file(100, false).unwrap();
    assert_eq!(open.log.usage().prepared, 4 << 20);
    storage.set(|state| state.space = Some(0));
    open.end_file();
    assert_eq!(open.log.files().last().unwrap().size, MIN_FILE);
    assert_eq!(storage.get(|state| state.space), Some(3 << 20));
    // Where nothing can make way the device is full, and nothing changes.
    storage.set(|state| state.space = Some(0));
    assert!(open.log.prepare_small().unwrap_err().is_full());
    assert!(!open.appender.rotate().unwrap());
    open.put(b"there is", b"room in the active file");
}

#[test]
fn a_log_that_crashed_on_a_full_device_can_be_continued_once_it_rotates() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    let from = open.appender.position();
    open.put(b"a", b"1");
    drop(open);
    storage.set(|state| state.space = Some(0));
    let (mut open, _) = Open::recover(storage.clone(), from).unwrap();
    assert!(!open.appender.can_continue());
    assert!(!open.appender.rotate().unwrap());
    assert!(!open.appender.can_continue());
    storage.set(|state| state.space = None);
    open.end_file();
    assert!(open.appender.can_continue());
    open.log.close().unwrap();
    let at = open.appender.position();
    drop(open);
    let mut open = Open::reopen(only_synced(&storage), at).unwrap();
    open.put(b"b", b"2");
    assert_eq!(keys(&open.log, from, open.appender.position()), [b"a", b"b"]);
}
