//! Space that comes back: trimmed ends, files that hold nothing, what is kept
//! of them, and the numbers that tell of it.
//!
//! The storage counts space and knows holes: a store into a hole for which
//! there is no space panics, as it would end the process.

use std::time::Instant;

use super::faulty::Faulty;
use super::*;
use crate::format::BLOCK;
use crate::log::space::LogUsage;

fn names(storage: &impl Storage) -> Vec<String> {
    let mut names = storage.list("log").unwrap();
    names.sort();
    names
}

/// The bytes that the files of the directory are long, less their holes.
fn on_disk(storage: &Faulty) -> u64 {
    let length = |name: &String| {
        let name = format!("log/{name}");
        storage.memory.open(&name, Access::Read).unwrap().length().unwrap()
    };
    let holes = storage
        .get(|state| state.holes.values().flatten().map(|(from, to)| to - from).sum::<u64>());
    names(storage).iter().map(length).sum::<u64>() - holes
}

/// Tidies until something is so: pins of other tests come and go.
pub(super) fn tidy_until(log: &Log, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "it never comes to that");
        log.tidy_now();
        std::thread::yield_now();
    }
}

#[test]
fn trimming_gives_back_what_lies_behind_the_end_and_nothing_else() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    let from = open.appender.position();
    open.fill(10, 1_000);
    let used = usize::try_from(open.appender.position().offset).unwrap();
    open.end_file();
    let before = Raw::of(&storage, 1).read(0, used);
    open.log.trim(1);
    let name = log_file_name(1);
    let hole = (used.next_multiple_of(BLOCK) as u64, MIN_FILE);
    assert_eq!(storage.get(|state| state.holes[&name].clone()), [hole]);
    assert_eq!(open.log.usage().files, MIN_FILE + hole.0);
    assert!(Raw::of(&storage, 1).read(0, used) == before);
    // Once more costs nothing: no file is opened for it.
    storage.memory.remove(&log_file_name(1)).unwrap();
    open.log.trim(1);
    let to = open.appender.position();
    drop(open);
    let copy = Faulty::new();
    copy.create_directory("log").unwrap();
    let file = copy.open(&name, Access::Create).unwrap();
    file.write_at(&before, 0).unwrap();
    file.set_length(MIN_FILE).unwrap();
    let next = Raw::of(&storage, 2).read(0, MIN_FILE as usize);
    copy.open(&log_file_name(2), Access::Create).unwrap().write_at(&next, 0).unwrap();
    let log = super::open(copy).unwrap();
    assert_eq!(contents(&log, from, to).len(), 10);
}

#[test]
fn the_active_file_and_one_that_is_full_are_not_trimmed() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    open.fill(3, 100);
    open.log.trim(1);
    open.log.trim(7);
    // The second file is filled to the last block.
    open.end_file();
    let left = MIN_FILE - u64::from(open.appender.position().offset);
    assert_eq!(open.appender.reserve(left - 100, true).unwrap(), Room::Ready);
    open.appender.append(&[insert(b"k", &vec![1; left as usize - 100 - 37])]).unwrap();
    open.end_file();
    open.log.trim(2);
    assert!(storage.get(|state| state.holes.is_empty()));
    open.log.trim(1);
    assert_eq!(storage.get(|state| state.holes.len()), 1);
}

#[test]
fn an_ended_file_without_records_is_trimmed_to_its_first_block() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    open.end_file();
    open.end_file();
    (1..=3).for_each(|number| open.log.trim(number));
    assert_eq!(open.log.usage().files, 2 * BLOCK as u64 + MIN_FILE);
    assert_eq!(open.log.usage().total(), on_disk(&storage));
}

#[test]
fn a_trimmed_file_is_not_kept_to_be_recycled() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    (0..3).for_each(|_| open.rotate());
    let number = open.appender.file();
    open.log.wait_for_file(100, false).unwrap();
    assert!(open.appender.rotate().unwrap());
    open.log.trim(number);
    open.log.retire(number);
    tidy_until(&open.log, || open.log.usage().retired == 0);
    assert_eq!(open.log.usage().spares, 0);
    assert!(!storage.list("log").unwrap().iter().any(|name| log_file_name(number).ends_with(name)));
}

/// A process that had the store open before may have lent what lies in it.
#[test]
fn a_file_of_an_earlier_opening_is_removed_and_never_written_again() {
    let storage = Faulty::new();
    // Files of one size: each would do for the next one.
    let options = LogOptions { max_file: MIN_FILE, ..OPTIONS };
    let mut open = Open::create_with(storage.clone(), options);
    open.rotate();
    let at = open.appender.position();
    open.log.close().unwrap();
    drop(open);
    let old = [1, 2].map(|number| (number, Raw::of(&storage, number)));
    let before = old.each_ref().map(|(_, file)| file.read(0, MIN_FILE as usize));
    let log = Log::open(Arc::new(storage.clone()), options, Arc::new(Poison::new())).unwrap();
    let appender = log.appender(at, true).unwrap();
    let mut open = Open { log, appender };
    open.rotate();
    for (number, _) in &old {
        open.log.retire(*number);
        assert!(!names(&storage).iter().any(|name| log_file_name(*number).ends_with(name)));
    }
    let usage = open.log.usage();
    assert_eq!((usage.spares, usage.retired), (0, 0));
    (0..4).for_each(|_| open.rotate());
    let end = at.offset as usize;
    assert!(old[0].1.read(0, MIN_FILE as usize) == before[0]);
    assert!(old[1].1.read(0, end) == before[1][..end], "it goes on behind its end");
}

/// A log with a retired file of 4 MiB that has a hole of which nothing is known,
/// as if it had been retired while it was being trimmed.
fn with_unknown_hole(storage: &Faulty) -> Open {
    let mut open = Open::create(storage.clone());
    (0..2).for_each(|_| open.rotate());
    let number = open.appender.file();
    open.log.wait_for_file(100, false).unwrap();
    assert!(open.appender.rotate().unwrap());
    let finished = open.log.files()[2];
    assert_eq!((finished.number, finished.size), (number, 4 << 20));
    let from = finished.end.next_multiple_of(BLOCK as u64);
    let file = storage.open(&log_file_name(number), Access::Write).unwrap();
    file.punch(from, finished.size - from).unwrap();
    drop(file);
    open.log.retire(number);
    tidy_until(&open.log, || open.log.usage().retired == 0);
    assert_eq!(open.log.usage().spares, 4 << 20, "nothing is known of its hole");
    open
}

#[test]
fn a_trimmed_file_takes_its_space_again_before_it_is_recycled() {
    let storage = Faulty::new();
    let mut open = with_unknown_hole(&storage);
    open.log.wait_for_file(100, false).unwrap();
    assert_eq!(open.log.usage().spares, 0, "recycled");
    // From here on there is no space, and the file is filled all the same.
    storage.set(|state| state.space = Some(0));
    assert!(open.appender.rotate().unwrap());
    assert_eq!(open.log.files().last().unwrap().size, 4 << 20);
    let from = open.appender.position();
    open.fill(39, 100_000);
    assert_eq!(open.appender.file(), from.file);
    assert_eq!(contents(&open.log, from, open.appender.position()).len(), 39);
}

#[test]
fn a_trimmed_file_is_removed_if_there_is_no_space_to_recycle_it() {
    let storage = Faulty::new();
    let mut open = with_unknown_hole(&storage);
    let spares = names(&storage).len();
    storage.set(|state| state.space = Some(100_000));
    let error = open.log.wait_for_file(100, false).unwrap_err();
    assert!(error.is_full(), "{error}");
    assert_eq!((names(&storage).len(), open.log.usage().spares), (spares - 1, 0));
    assert_eq!(open.log.usage().total(), on_disk(&storage));
    // It poisons nothing, and what the file had is enough for a small one.
    storage.set(|state| state.space = Some(MIN_FILE));
    open.log.wait_for_file(100, false).unwrap();
    assert!(open.appender.rotate().unwrap());
    assert_eq!(open.log.files().last().unwrap().size, MIN_FILE);
    open.fill(5, 100_000);
}

#[test]
fn a_loss_of_power_after_trimming_leaves_the_same_log() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    let from = open.appender.position();
    open.fill(3, 1_000);
    open.end_file();
    open.log.trim(1);
    drop(open);
    // The activation of the second file is lost, the hole in the first is not.
    Raw::of(&storage, 2).write(512, &[0; 32]);
    storage.set(|state| state.space = Some(0));
    let (mut open, end) = Open::recover(storage.clone(), from).unwrap();
    assert_eq!(end.position.commit, 3);
    // There was a file to recycle, for urgent records alone; nothing goes into
    // the hole.
    for key in 0..8u8 {
        let key = [key];
        let op = insert(&key, &[7; 100_000]);
        let bytes = 24 + op.encoded_len();
        assert_eq!(open.appender.reserve(bytes, true).unwrap(), Room::Ready);
        open.appender.append(&[op]).unwrap();
    }
    assert_eq!(storage.get(|state| state.holes.len()), 1);
    let log = super::open(storage.memory.copy().unwrap()).unwrap();
    assert_eq!(log.scan(from).unwrap().position.commit, 11);
}

#[test]
fn a_crashed_log_does_not_go_on_in_a_trimmed_file_even_on_a_full_device() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    let from = open.appender.position();
    open.fill(3, 1_000);
    open.end_file();
    open.log.trim(1);
    drop(open);
    storage.remove(&log_file_name(2)).unwrap();
    storage.set(|state| state.space = Some(0));
    let (mut open, end) = Open::recover(storage.clone(), from).unwrap();
    assert_eq!((end.position.commit, end.position.file), (3, 1));
    assert!(!open.appender.can_continue());
    assert_eq!(open.appender.reserve(48, true).unwrap(), Room::Wait);
    assert!(open.log.wait_for_file(48, false).unwrap_err().is_full());
}

#[test]
fn a_file_that_is_being_trimmed_gets_no_next_life() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    (0..2).for_each(|_| open.rotate());
    let number = open.appender.file();
    open.log.wait_for_file(100, false).unwrap();
    assert!(open.appender.rotate().unwrap());
    storage.set(|state| state.hold_punch = true);
    let log = open.log.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| log.trim(number));
        tidy_until(&log, || storage.get(|state| state.punching));
        // Its hole is about to be punched; retired now, it has to wait.
        log.retire(number);
        let (retired, start) = (log.usage().retired, Instant::now());
        while start.elapsed() < Duration::from_millis(100) {
            log.tidy_now();
        }
        let usage = log.usage();
        storage.set(|state| state.hold_punch = false);
        assert_eq!((retired, usage.retired, usage.spares), (4 << 20, 4 << 20, 0));
    });
    tidy_until(&log, || log.usage().retired == 0);
    open.log.wait_for_file(100, false).unwrap();
    assert!(open.appender.rotate().unwrap());
    let from = open.appender.position();
    open.fill(3, 100_000);
    assert_eq!(contents(&open.log, from, open.appender.position()).len(), 3);
}

#[test]
fn retired_files_are_let_go_though_nobody_rotates() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    (0..4).for_each(|_| open.end_file());
    let (log, barrier) = (open.log.clone(), std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _pin = pins::pin();
            barrier.wait();
            barrier.wait();
        });
        barrier.wait();
        (1..5).for_each(|number| log.retire(number));
        log.tidy_now();
        assert_eq!(log.usage().retired, 4 * MIN_FILE, "a reader may hold them");
        assert_eq!(names(&storage).len(), 5);
        log.drop_spares();
        assert_eq!(names(&storage).len(), 5, "not even this takes them away");
        barrier.wait();
    });
    tidy_until(&log, || log.usage().retired == 0);
    assert_eq!(names(&storage).len(), 1);
}

#[test]
fn one_spare_is_kept_and_only_of_the_size_that_is_made_next() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    (0..6).for_each(|_| open.rotate());
    let files = open.log.files();
    assert_eq!(files.last().unwrap().size, 4 << 20);
    files.iter().for_each(|file| open.log.retire(file.number));
    tidy_until(&open.log, || open.log.usage().retired == 0);
    assert_eq!(open.log.usage().spares, 4 << 20, "of four of this size, and two smaller ones");
    assert_eq!(open.log.usage().total(), on_disk(&storage));
    // A small log does not want it any more.
    open.end_file();
    tidy_until(&open.log, || open.log.usage().spares == 0);
    assert_eq!(open.log.usage().total(), on_disk(&storage));
}

#[test]
fn spares_are_dropped_on_request() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    (0..4).for_each(|_| open.rotate());
    let number = open.log.files()[3].number;
    open.log.retire(number);
    tidy_until(&open.log, || open.log.usage().spares == 4 << 20);
    let before = names(&storage).len();
    open.log.drop_spares();
    assert_eq!((open.log.usage().spares, names(&storage).len()), (0, before - 1));
    open.rotate();
}

#[test]
fn a_closed_log_keeps_no_file_that_holds_nothing() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    open.put(b"a", b"1");
    for round in 0..3 {
        open.log.wait_for_file(100, false).unwrap();
        open.log.close().unwrap();
        assert_eq!(names(&storage), ["00000001.log"], "round {round}");
        let at = open.appender.position();
        drop(open);
        open = Open::reopen(storage.clone(), at).unwrap();
    }
    let from = open.appender.position();
    open.end_file();
    open.put(b"b", b"2");
    assert_eq!(open.log.scan(from).unwrap().position, open.appender.position());
}

#[test]
fn usage_is_what_lies_in_the_directory() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    assert_eq!(open.log.usage(), LogUsage { files: MIN_FILE, ..LogUsage::default() });
    for round in 0..20u32 {
        match round % 5 {
            0 => open.rotate(),
            1 => open.end_file(),
            2 => open.log.wait_for_file(100, false).unwrap(),
            3 => open.log.files().iter().for_each(|file| open.log.trim(file.number)),
            _ => open.log.files().iter().skip(1).for_each(|file| open.log.retire(file.number)),
        }
        assert_eq!(open.log.usage().total(), on_disk(&storage), "round {round}");
    }
}

#[test]
fn what_the_log_does_is_counted() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    let new = open.log.counters();
    assert_eq!((new.zeroed, new.syncs, new.waits), (MIN_FILE, 0, 0));
    // Keys and values only, whatever the record takes, and however long.
    let ops = [insert(b"key", b"value"), insert(b"", &[1; 7]), insert(&[2; 300], b"")];
    open.append(&ops).unwrap();
    assert_eq!(open.appender.user_bytes(), 8 + 7 + 300);
    open.append(&[]).unwrap();
    open.put(b"large", &[0; 100_000]);
    assert_eq!(open.appender.user_bytes(), 315 + 100_005);
    assert!(open.appender.bytes_total() > open.appender.user_bytes());

    open.log.sync_to(u64::MAX).unwrap();
    open.log.sync_to(u64::MAX).unwrap();
    let synced = open.log.counters();
    assert_eq!(synced.syncs, 1, "the second found nothing to do");
    assert!(synced.sync_time > Duration::ZERO);

    open.log.wait_for_file(100, false).unwrap();
    open.log.wait_for_file(100, false).unwrap();
    let waited = open.log.counters();
    assert_eq!(waited.waits, 1, "the second found it prepared");
    assert!(waited.wait_time > Duration::ZERO);
    assert_eq!(waited.zeroed, 3 * MIN_FILE);
}

/// A log that was closed cleanly and then copied by a program that leaves zeros
/// out: where it begins and ends, and how long the hole behind the end is.
fn copied_with_hole(storage: &Faulty) -> (Position, Position, u64) {
    let mut open = Open::create(storage.clone());
    let from = open.appender.position();
    open.fill(3, 1_000);
    open.log.close().unwrap();
    let at = open.appender.position();
    let hole = u64::from(at.offset).next_multiple_of(BLOCK as u64);
    let file = storage.open(&log_file_name(1), Access::Write).unwrap();
    file.punch(hole, MIN_FILE - hole).unwrap();
    (from, at, MIN_FILE - hole)
}

#[test]
fn a_clean_log_with_a_hole_on_a_full_device_is_an_error_for_who_writes_and_no_signal() {
    let storage = Faulty::new();
    let (from, at, _) = copied_with_hole(&storage);
    storage.set(|state| state.space = Some(0));
    let mut open = Open::reopen(storage.clone(), at).unwrap();
    assert!(!open.appender.can_continue(), "must not be marked as clean");
    let value = vec![7; 20_000];
    assert!(open.append(&[insert(b"k", &value)]).unwrap_err().is_full());
    // It poisons nothing: with space again the log goes on in a new file.
    storage.set(|state| state.space = Some(2 * MIN_FILE));
    open.put(b"k", &value);
    assert!(open.appender.file() > 1 && open.appender.can_continue());
    let to = open.appender.position();
    assert_eq!(contents(&open.log, from, to).len(), 4);
    let log = super::open(storage.memory.copy().unwrap()).unwrap();
    assert_eq!(log.scan(from).unwrap().position, to);
}

#[test]
fn a_clean_log_with_a_hole_takes_its_space_before_it_goes_on_in_place() {
    let storage = Faulty::new();
    let (_, at, hole) = copied_with_hole(&storage);
    storage.set(|state| state.space = Some(hole));
    let mut open = Open::reopen(storage.clone(), at).unwrap();
    assert!(open.appender.can_continue());
    assert_eq!(storage.get(|state| state.space), Some(0));
    open.fill(1, 20_000);
    assert_eq!(open.appender.file(), 1);
}
