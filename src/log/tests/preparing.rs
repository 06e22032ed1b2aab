//! Making the next file: full devices, recycling, numbers, room.

use super::faulty::Faulty;
use super::*;

fn names(storage: &impl Storage) -> Vec<String> {
    let mut names = storage.list("log").unwrap();
    names.sort();
    names
}

#[test]
fn a_full_device_is_an_error_for_those_who_wait_and_poisons_nothing() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    storage.set(|state| state.space = Some(1_000_000));
    let mut appended = 0;
    let full = loop {
        match open.append(&[insert(b"key", &[0; 10_000])]) {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
    };
    assert!(full.is_full(), "{full}");
    assert!(appended > 90);
    assert_eq!(names(&storage), ["00000001.log"], "no half-made file is left");
    // Removing is still possible, by the reserve.
    for _ in 0..500 {
        assert_eq!(open.appender.reserve(48, true).unwrap(), Room::Ready);
        let remove = Op { kind: OpKind::Remove, table: 0, key: b"key", value: b"" };
        open.appender.append(&[remove]).unwrap();
    }
    assert_eq!(open.appender.reserve(48, false).unwrap(), Room::Wait);
    storage.set(|state| state.space = None);
    open.put(b"key", &[0; 10_000]);
    open.log.sync_to(u64::MAX).unwrap();
}

#[test]
fn the_smallest_file_is_tried_when_the_device_is_nearly_full() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    open.rotate();
    storage.set(|state| state.space = Some(1_500_000));
    open.rotate();
    let last = open.log.files().pop().unwrap();
    assert_eq!(last.size, MIN_FILE);
}

#[test]
fn a_full_device_does_not_keep_a_crashed_store_from_opening() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    let from = open.appender.position();
    open.put(b"k", b"v");
    let end = open.appender.position();
    drop(open);
    storage.set(|state| state.space = Some(0));
    let (mut open, found) = Open::recover(storage.clone(), from).unwrap();
    assert_eq!(found.position, end);
    assert!(!open.appender.can_continue(), "must not be marked as clean");
    assert_eq!(open.appender.reserve(48, true).unwrap(), Room::Wait);
    assert!(open.append(&[insert(b"k", b"v")]).unwrap_err().is_full());
    storage.set(|state| state.space = None);
    open.put(b"k", b"v");
    assert!(open.appender.can_continue());
    assert_eq!(open.appender.position().file, open.log.files()[1].number);
    let copy = storage.memory.copy().unwrap();
    assert_eq!(super::open(copy).unwrap().scan(from).unwrap().position, open.appender.position());
}

#[test]
fn a_write_that_fails_while_preparing_poisons() {
    let storage = Faulty::new();
    let open = Open::create(storage.clone());
    storage.set(|state| state.fail_write = true);
    assert!(matches!(open.log.wait_for_file(100, false), Err(Error::Io { .. })));
    storage.set(|state| state.fail_write = false);
    assert!(matches!(open.log.wait_for_file(100, false), Err(Error::Poisoned { .. })));
}

#[test]
fn numbers_are_never_used_twice() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    let from = open.appender.position();
    // A prepared file that no record needed is given up for a larger one.
    open.log.wait_for_file(100, false).unwrap();
    assert_eq!(names(&storage), ["00000001.log", "00000002.log"]);
    open.put(b"large", &vec![0; 5 << 20]);
    assert_eq!(open.appender.position().file, 3);
    open.log.wait_for_file(100, false).unwrap();
    assert_eq!(names(&storage), ["00000001.log", "00000003.log", "00000004.log"]);
    drop(open);
    // After a crash the prepared file is prepared anew under the next number.
    let (open, _) = Open::recover(storage.clone(), from).unwrap();
    assert_eq!(open.appender.position().file, 5);
    assert_eq!(names(&storage), ["00000001.log", "00000003.log", "00000005.log"]);
}

#[test]
fn a_file_in_hand_that_is_too_small_is_given_back() {
    let mut open = Open::create(Memory::new());
    open.log.wait_for_file(100, false).unwrap();
    assert_eq!(open.appender.reserve(1_000_000, false).unwrap(), Room::Ready);
    let large = vec![0; 6 << 20];
    let placed = open.put(b"large", &large);
    assert_eq!(placed.file, 3);
    open.put(b"small", &vec![0; 900_000]);
    let numbers: Vec<u32> = open.log.files().iter().map(|file| file.number).collect();
    assert_eq!(numbers, [1, 3, 4], "2 became 4");
}

#[test]
fn the_temporary_file_of_a_crash_is_removed() {
    let memory = Memory::new();
    let mut open = Open::create(memory.clone());
    let at = open.appender.position();
    open.put(b"k", b"v");
    memory.open("log/next.tmp", Access::Create).unwrap();
    let (_, end) = Open::recover(memory.clone(), at).unwrap();
    assert_eq!(end.position.commit, 1);
    assert!(!names(&memory).contains(&"next.tmp".to_owned()));
}

#[test]
fn retired_files_are_recycled_or_removed_once_no_reader_holds_them() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    let placed = open.put(b"key", b"value");
    for _ in 0..5 {
        open.rotate();
    }
    let files = open.log.files();
    // A pin of another thread; pins are shared by all tests of the process.
    let (log, barrier) = (open.log.clone(), std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let pin = pins::pin();
            let value = log.read(&pin, 1, placed.offset + 24 + 12 + 3, 5).unwrap();
            barrier.wait();
            barrier.wait();
            assert_eq!(value, b"value");
        });
        barrier.wait();
        for file in &files {
            open.log.retire(file.number);
        }
        assert_eq!(open.log.files().len(), 1, "the active one stays");
        assert_eq!(names(&storage).len(), files.len(), "a reader holds them");
        barrier.wait();
    });
    // Pins of other tests come and go.
    while open.log.close().is_ok() && names(&storage).len() > 1 {
        std::thread::yield_now();
    }
    assert_eq!(names(&storage).len(), 1);
    assert!(open.log.read(&pins::pin(), 1, placed.offset, 1).is_none());
}

#[test]
fn a_prepared_file_is_recycled_without_space() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    let from = open.appender.position();
    open.put(b"k", b"v");
    open.log.wait_for_file(100, false).unwrap();
    drop(open);
    storage.set(|state| state.space = Some(0));
    let (mut open, _) = Open::recover(storage.clone(), from).unwrap();
    assert!(open.appender.can_continue());
    // It may have been kept for urgent records: no others go there before
    // there is space for keeping some again.
    assert_eq!(open.appender.reserve(48, false).unwrap(), Room::Wait);
    assert!(open.log.wait_for_file(48, false).unwrap_err().is_full());
    assert_eq!(open.appender.reserve(48, true).unwrap(), Room::Ready);
    open.appender.append(&[insert(b"k", b"v")]).unwrap();
    storage.set(|state| state.space = None);
    open.put(b"k", b"v");
    assert_eq!(open.appender.reserve(48, false).unwrap(), Room::Ready);
}

#[test]
fn on_a_full_device_urgent_records_go_on_in_what_is_kept_and_others_do_not() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    open.prepare_ahead();
    let kept = open.log.usage().spares;
    assert_eq!((kept, open.log.reserve_room()), (2 * MIN_FILE, MIN_FILE));
    storage.set(|state| state.space = Some(0));
    let op = insert(b"key", &[7; 1_000]);
    let bytes = 24 + op.encoded_len();
    let mut append = |urgent: bool| {
        let mut records = 0;
        loop {
            if open.appender.reserve(bytes, urgent).unwrap() == Room::Ready {
                open.appender.append(&[op]).unwrap();
                records += 1;
            } else if let Err(error) = open.log.wait_for_file(bytes, urgent) {
                assert!(error.is_full(), "{error}");
                return records;
            }
        }
    };
    // The active file and the one ahead, of twice its size.
    let ordinary = append(false);
    assert!((2_800..3_100).contains(&ordinary), "{ordinary} records");
    // 64 KiB, and two files.
    let urgent = append(true);
    assert!((2_000..2_200).contains(&urgent), "{urgent} records");
    assert_eq!(append(false), 0);
    // What becomes a spare is kept first; then others go on.
    open.log.retire(1);
    open.log.retire(2);
    super::space::tidy_until(&open.log, || {
        open.log.reserve_room() > 0 && open.log.usage().retired == 0
    });
    storage.set(|state| state.space = None);
    open.put(b"k", b"v");
}

#[test]
fn a_file_that_somebody_waits_for_gets_no_zeros_where_space_is_held() {
    let storage = Faulty::new();
    storage.set(|state| state.holds = true);
    let mut open = Open::create(storage.clone());
    let start = open.appender.position();
    let before = open.log.counters().zeroed;
    assert_eq!(before, MIN_FILE - LOG_START, "nobody waits for the first file");
    open.rotate();
    open.rotate();
    open.put(b"large", &vec![7; 9 << 20]);
    assert_eq!(open.log.counters().zeroed, before);
    let end = open.appender.position();
    open.log.sync_to(u64::MAX).unwrap();
    let expected = contents(&open.log, start, end);
    drop(open);
    let (open, found) = Open::recover(storage, start).unwrap();
    assert_eq!(found.position, end);
    assert_eq!(contents(&open.log, start, end), expected);
}

#[test]
fn zeros_end_when_half_as_much_was_appended_meanwhile() {
    let mut open = Open::create(Memory::new());
    open.rotate();
    open.rotate();
    let log = open.log.clone();
    let pace = log.pace();
    assert!(pace.go_on(0).unwrap());
    open.fill(9, 100_000);
    assert!(pace.go_on(0).unwrap(), "less than a mebibyte is not looked at");
    open.fill(9, 100_000);
    assert!(!pace.go_on(0).unwrap());
    assert!(!pace.go_on(1 << 20).unwrap());
    assert!(pace.go_on(2 << 20).unwrap());
    open.rotate();
    assert!(!pace.go_on(2 << 20).unwrap(), "the log is in the next file already");
    assert!(log.pace().go_on(0).unwrap());
}

#[test]
fn a_keeper_writes_all_zeros_while_nothing_is_appended() {
    let storage = Faulty::new();
    storage.set(|state| state.holds = true);
    let open = Open::create(storage);
    open.prepare_ahead();
    // The next file, and two that are kept.
    assert_eq!(open.log.counters().zeroed, (1 + 2 + 1 + 1) * MIN_FILE - 4 * LOG_START);
}
