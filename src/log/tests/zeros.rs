//! Zeros in the file that lies ready, and those who want it meanwhile.

use std::time::Duration;

use super::faulty::Faulty;
use super::syncing::{until, with_keepers};
use super::*;
use crate::log::WINDOW;

/// A log on a storage that holds the space that was taken.
fn log() -> (Faulty, Open) {
    let storage = Faulty::new();
    storage.set(|state| state.holds = true);
    (storage.clone(), Open::create(storage))
}

#[test]
fn a_file_is_taken_while_its_zeros_are_synced() {
    let (storage, mut open) = log();
    let start = open.appender.position();
    open.log.prepare_ahead().unwrap();
    storage.set(|state| (state.hold_sync, state.syncs) = (true, Vec::new()));
    let log = open.log.clone();
    let taken = std::thread::scope(|scope| {
        scope.spawn(|| log.fill_ready().unwrap());
        until("zeros are synced", || storage.get(|state| !state.syncs.is_empty()));
        let taken = open.appender.reserve(1_000_000, false);
        storage.set(|state| state.hold_sync = false);
        taken
    });
    assert_eq!(taken.unwrap(), Room::Ready);
    let zeroed = open.log.counters().zeroed;
    assert_eq!(zeroed, (1 + 2) * MIN_FILE - 2 * LOG_START);
    open.fill(3, 400_000);
    assert_eq!(open.appender.file(), 2);
    assert_eq!(contents(&open.log, start, open.appender.position()).len(), 3);
}

#[test]
fn who_syncs_records_hears_that_they_were_lost_though_zeros_were_being_synced() {
    // Zeros and records were synced through one opening of the file, which is told
    // once: who synced zeros took it for a full device, and commits that were lost
    // were called durable.
    let (storage, mut open) = log();
    open.log.prepare_ahead().unwrap();
    storage.set(|state| (state.hold_sync, state.syncs) = (true, Vec::new()));
    let log = open.log.clone();
    std::thread::scope(|scope| {
        let fills = scope.spawn(|| log.fill_ready());
        until("zeros are synced", || storage.get(|state| !state.syncs.is_empty()));
        let ready = open.appender.reserve(MIN_FILE, false);
        // Before anything may fail: else whoever fills would wait for ever.
        storage.lose(&log_file_name(2));
        storage.set(|state| state.hold_sync = false);
        assert_eq!(ready.unwrap(), Room::Ready);
        assert!(fills.join().unwrap().unwrap_err().is_full());
    });
    assert!(log.poison.check().is_ok(), "it might be just the zeros");
    open.put(b"key", &vec![1; MIN_FILE as usize]);
    assert_eq!(open.appender.file(), 2);
    assert!(log.sync_to(u64::MAX).is_err());
    assert_eq!(log.durable(), 0);
    assert!(log.poison.check().is_err());
}

#[test]
fn a_claim_lasts_until_the_file_is_taken() {
    let (_, mut open) = log();
    open.log.claim_ready();
    open.log.prepare_ahead().unwrap();
    assert!(open.log.begin_piece(2).is_none(), "it was claimed before it was there");
    open.rotate();
    open.log.prepare_ahead().unwrap();
    drop(open.log.begin_piece(3).expect("nobody needs it yet"));
    open.log.wait_for_file(1, false).unwrap();
    assert!(open.log.begin_piece(3).is_none(), "somebody needs it");
}

#[test]
fn a_file_that_is_full_of_zeros_gets_none() {
    let (_, open) = log();
    open.log.prepare_small().unwrap();
    let before = open.log.counters().zeroed;
    assert!(before >= MIN_FILE - LOG_START);
    open.log.fill_ready().unwrap();
    assert_eq!(open.log.counters().zeroed, before);
}

#[test]
fn while_a_piece_is_written_nobody_takes_the_file_and_then_no_other_is_begun() {
    let (_, mut open) = log();
    open.log.prepare_ahead().unwrap();
    let log = open.log.clone();
    let piece = log.begin_piece(2).expect("it lies ready");
    assert!(log.begin_piece(3).is_none(), "there is no such file");
    assert!(log.try_preparing().is_none(), "it would be given up");
    assert_eq!(open.appender.reserve(MIN_FILE, false).unwrap(), Room::Wait);
    assert!(log.take_smaller(u64::MAX).is_none());
    let before = log.counters().zeroed;
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| log.wait_for_file(MIN_FILE, false));
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waits.is_finished());
        drop(piece);
        waits.join().unwrap().unwrap();
    });
    assert!(log.begin_piece(2).is_none(), "it is claimed");
    log.fill_ready().unwrap();
    assert_eq!(log.counters().zeroed, before);
    assert_eq!(open.appender.reserve(MIN_FILE, false).unwrap(), Room::Ready);
    assert!(log.begin_piece(2).is_none(), "it is taken");
}

#[test]
fn a_writer_claims_the_next_file_before_it_needs_it() {
    let (_, mut open) = log();
    open.log.prepare_ahead().unwrap();
    open.fill(8, 100_000);
    drop(open.log.begin_piece(2).expect("nobody needs it yet"));
    // The keepers are told when half of a window is left, at the latest.
    open.fill(1, WINDOW as usize / 8);
    assert_eq!(open.appender.file(), 1);
    assert!(open.log.begin_piece(2).is_none(), "it is claimed");
    open.rotate();
    open.log.prepare_ahead().unwrap();
    assert!(open.log.begin_piece(3).is_some(), "the next one is not");
}

#[test]
fn no_zero_is_written_over_a_record() {
    let (_, mut open) = log();
    let (start, log) = (open.appender.position(), open.log.clone());
    let mut expected = Vec::new();
    with_keepers(&log, Duration::from_millis(1), || {
        let mut i = 0_u32;
        until("enough is zeroed and appended", || {
            // A file lasts for 60 records; now the keepers are ahead, now they are not.
            for _ in 0..100 {
                let value = vec![1 + (i % 255) as u8; 60_000 + i as usize % 5_000];
                open.put(&i.to_le_bytes(), &value);
                expected.push((i.to_le_bytes().to_vec(), value));
                if i.is_multiple_of(16) {
                    std::thread::sleep(Duration::from_micros(u64::from(i) * 37 % 700));
                }
                i += 1;
            }
            i >= 1_500 && log.counters().zeroed > 8 * MIN_FILE
        });
    });
    assert!(contents(&log, start, open.appender.position()) == expected);
}

#[test]
fn without_space_that_is_held_all_zeros_are_there_before_a_file_has_its_name() {
    let (storage, open) = log();
    storage.set(|state| state.holds = false);
    let before = open.log.counters().zeroed;
    open.log.prepare_ahead().unwrap();
    assert_eq!(open.log.counters().zeroed - before, 2 * MIN_FILE);
    assert!(!lock(&open.log.next).ready.as_ref().unwrap().blank);
}
