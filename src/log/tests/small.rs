//! A log that is made small: the files after the active one, and those that
//! are kept for a full device.
//!
//! Files may grow to 16 MiB here, so that there is something to make small.
//! What the log says of itself is held against what lies in its directory.

use super::faulty::Faulty;
use super::space::tidy_until;
use super::*;

const LARGE: LogOptions = LogOptions { max_file: 16 << 20, ..OPTIONS };

/// The lengths of all files in the directory, the smallest first.
fn lengths(storage: &Faulty) -> Vec<u64> {
    let length = |name: String| {
        let file = storage.memory.open(&format!("log/{name}"), Access::Read).unwrap();
        file.length().unwrap()
    };
    let mut lengths: Vec<u64> = storage.list("log").unwrap().into_iter().map(length).collect();
    lengths.sort_unstable();
    lengths
}

/// A log with a prepared file of 16 MiB behind one of 8, and two files of 4 MiB
/// that are kept.
fn large(storage: &Faulty) -> Open {
    let poison = Arc::new(Poison::new());
    let (log, appender) = Log::create(Arc::new(storage.clone()), LARGE, poison).unwrap();
    let mut open = Open { log, appender };
    for _ in 0..3 {
        open.prepare_ahead();
        open.rotate();
    }
    open.prepare_ahead();
    open.log.files().iter().for_each(|file| open.log.retire(file.number));
    tidy_until(&open.log, || open.log.usage().retired == 0);
    assert_eq!(lengths(storage), [4 << 20, 4 << 20, 8 << 20, 16 << 20]);
    open
}

#[test]
fn a_log_that_was_made_small_takes_three_mebibytes_and_doubles_again() {
    let storage = Faulty::new();
    let mut open = large(&storage);
    let number = open.appender.file();
    open.end_file();
    open.log.shrink_reserve().unwrap();
    open.log.retire(number);
    tidy_until(&open.log, || open.log.usage().total() == 3 * MIN_FILE);
    assert_eq!(lengths(&storage), [MIN_FILE; 3]);
    // A file as large as the next one will be is no spare worth keeping.
    open.log.wait_for_file(100, false).unwrap();
    assert!(open.appender.rotate().unwrap());
    let number = open.appender.file();
    assert_eq!(open.log.files()[1].size, 2 * MIN_FILE);
    open.end_file();
    open.log.shrink_reserve().unwrap();
    open.log.files().iter().for_each(|file| open.log.retire(file.number));
    assert!(open.log.files().len() == 1 && open.appender.file() > number);
    tidy_until(&open.log, || lengths(&storage) == [MIN_FILE; 3]);
    assert_eq!(open.log.reserve_room(), MIN_FILE, "two files are kept");
    // Once more changes nothing.
    let number = lock(&open.log.next).reserve.files.iter().map(|spare| spare.number).max();
    open.log.shrink_reserve().unwrap();
    let again = lock(&open.log.next).reserve.files.iter().map(|spare| spare.number).max();
    assert_eq!(number, again);
    for size in [2 << 20, 4 << 20, 8 << 20] {
        open.prepare_ahead();
        open.rotate();
        assert_eq!(open.log.files().last().unwrap().size, size);
    }
    assert_eq!(open.log.reserve_room(), 2 << 20, "what is kept grows with the files");
}

#[test]
fn what_is_kept_stays_if_there_is_no_space_for_smaller_files() {
    let storage = Faulty::new();
    let open = large(&storage);
    storage.set(|state| state.space = Some(MIN_FILE - 1));
    assert!(open.log.shrink_reserve().unwrap_err().is_full());
    assert_eq!(open.log.reserve_room(), 4 << 20);
    assert_eq!(lengths(&storage), [4 << 20, 4 << 20, 8 << 20, 16 << 20]);
    // Space for one is enough: the first large one makes room for the second.
    storage.set(|state| state.space = Some(MIN_FILE));
    open.log.shrink_reserve().unwrap();
    tidy_until(&open.log, || lengths(&storage) == [MIN_FILE, MIN_FILE, 8 << 20, 16 << 20]);
    assert_eq!(open.log.reserve_room(), MIN_FILE);
}

#[test]
fn a_log_without_files_that_are_kept_gets_none() {
    let storage = Faulty::new();
    let open = Open::create(storage.clone());
    open.log.shrink_reserve().unwrap();
    assert_eq!(lengths(&storage), [MIN_FILE]);
}
