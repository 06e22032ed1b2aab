//! Appending by write calls instead of through the mapping.

use super::faulty::Faulty;
use super::put::Way;
use super::*;

const BY_CALL: LogOptions = LogOptions { append_by_call: true, ..OPTIONS };

/// Keys and values of records of all lengths that are written differently.
fn entries() -> Vec<(Vec<u8>, Vec<u8>)> {
    let lengths = [0, 1, 100, 4_000, 4_060, 5_000, 200_000];
    (0..40u8).map(|i| (vec![i; 5], vec![i; lengths[usize::from(i) % lengths.len()]])).collect()
}

#[test]
fn what_is_written_by_calls_is_read_through_the_mapping_and_after_a_crash() {
    let storage = Memory::new();
    let mut open = Open::create_with(storage.clone(), BY_CALL);
    let from = open.appender.position();
    for (key, value) in entries() {
        let placed = open.put(&key, &value);
        let pin = pins::pin();
        let at = placed.offset + 24 + 12;
        let found = open.log.read(&pin, placed.file, at, (key.len() + value.len()) as u32);
        assert_eq!(found, Some(&[key, value].concat()[..]));
    }
    let (open, _) = Open::recover(storage.copy().unwrap(), from).unwrap();
    assert_eq!(contents(&open.log, from, open.appender.position()), entries());
}

#[test]
fn a_full_device_refuses_a_record_and_the_next_one_takes_its_place() {
    let storage = Faulty::new();
    let mut open = Open::create_with(storage.clone(), BY_CALL);
    let from = open.appender.position();
    open.put(b"before", b"1");
    let at = open.appender.position();
    // The write fails and taking it back works: the device is full in between.
    storage.set(|state| state.full_writes = 1);
    let refused = open.append(&[insert(b"key", b"refused")]);
    assert!(refused.is_err_and(|error| error.is_full()));
    assert_eq!(open.appender.position(), at);
    open.put(b"key", b"value");
    let all = contents(&open.log, from, open.appender.position());
    assert_eq!(all[1], (b"key".to_vec(), b"value".to_vec()));
    assert_eq!((all.len(), open.log.appended()), (2, 2));
}

/// In a log that is written through the mapping as a rule.
#[test]
fn long_records_are_written_by_calls_and_leave_the_others_alone() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    let from = open.appender.position();
    open.put(b"before", b"1");
    let long = vec![7; 100_000];
    let at = open.appender.position();
    // Only a call can say that the device is full.
    storage.set(|state| state.full_writes = 1);
    let refused = open.append(&[insert(b"key", &long)]);
    assert!(refused.is_err_and(|error| error.is_full()));
    assert_eq!(open.appender.position(), at);
    storage.set(|state| state.full_writes = 1);
    let batch = vec![insert(b"key", b"short"); 4_000];
    assert!(Way::Mapping.of(100_000, batch.len()) == Way::Mapping);
    open.append(&batch).expect("many short operations are written through the mapping");
    storage.set(|state| state.full_writes = 0);
    let known = Some(crate::format::crc32(&long, 0));
    open.appender.append_one(&insert(b"known", &long), known).expect("append");
    open.put(b"unknown", &long);
    let all = contents(&open.log, from, open.appender.position());
    let last: Vec<_> = all[all.len() - 2..].iter().map(|(key, _)| key.as_slice()).collect();
    assert_eq!((all.len(), last), (4_003, vec![&b"known"[..], b"unknown"]));
    assert!(all[4_001].1 == long && all[4_002].1 == long);
}

/// On a file system that copies on write, what goes through a map is a call.
#[test]
fn a_full_device_refuses_a_record_whose_way_through_the_mapping_is_a_call() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    let from = open.appender.position();
    open.put(b"before", b"1");
    let at = open.appender.position();
    let long = vec![7; 10_000];
    for value in [&b"short"[..], &long] {
        storage.set(|state| state.full_mapped = 1);
        let refused = open.append(&[insert(b"key", value)]);
        assert!(refused.is_err_and(|error| error.is_full()));
        assert_eq!(open.appender.position(), at);
    }
    let record = open.appender.compose(&insert(b"key", b"ahead")).unwrap();
    storage.set(|state| state.full_mapped = 1);
    assert!(open.appender.put_ahead(&record).is_err_and(|error| error.is_full()));
    open.put(b"key", b"value");
    let log = super::open(storage.memory.copy().unwrap()).unwrap();
    let to = open.appender.position();
    assert_eq!(log.scan(from).unwrap().position, to);
    let entry = |key: &[u8], value: &[u8]| (key.to_vec(), value.to_vec());
    assert_eq!(contents(&log, from, to), [entry(b"before", b"1"), entry(b"key", b"value")]);
}

#[test]
fn a_record_that_has_to_be_sure_is_not_refused_but_poisons() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    storage.set(|state| state.full_mapped = 1);
    assert!(open.appender.append_surely(&[insert(b"k", b"v")]).is_err_and(|e| e.is_full()));
    assert!(matches!(open.append(&[insert(b"k", b"v")]), Err(Error::Poisoned { .. })));
}

#[test]
fn a_file_that_was_activated_for_a_refused_record_is_made_durable() {
    let storage = Faulty::new();
    let mut open = Open::create_with(storage.clone(), BY_CALL);
    while open.appender.reserve(100_100, false).unwrap() != Room::Wait {
        open.fill(1, 100_000);
    }
    open.log.wait_for_file(300_100, false).unwrap();
    open.log.sync_to(u64::MAX).unwrap();
    storage.set(|state| (state.full_writes, state.syncs) = (1, Vec::new()));
    open.append(&[insert(b"key", &[7; 300_000])]).unwrap_err();
    assert_eq!(open.appender.position().offset, LOG_START as u32, "it was activated");
    open.log.sync_to(u64::MAX).unwrap();
    assert!(storage.get(|state| state.syncs.contains(&log_file_name(2))));
}

#[test]
fn a_record_that_cannot_be_taken_back_poisons() {
    let storage = Faulty::new();
    let mut open = Open::create_with(storage.clone(), BY_CALL);
    storage.set(|state| state.full_writes = 2);
    assert!(open.append(&[insert(b"key", b"value")]).is_err_and(|error| error.is_full()));
    assert!(matches!(open.append(&[insert(b"key", b"value")]), Err(Error::Poisoned { .. })));
}

#[test]
fn a_failed_write_of_a_record_poisons() {
    let storage = Faulty::new();
    let mut open = Open::create_with(storage.clone(), BY_CALL);
    storage.set(|state| state.fail_write = true);
    assert!(matches!(open.append(&[insert(b"key", b"value")]), Err(Error::Io { .. })));
    storage.set(|state| state.fail_write = false);
    assert!(matches!(open.append(&[insert(b"key", b"value")]), Err(Error::Poisoned { .. })));
}
