//! Live bytes of log files, when a count turned out wrong.
//!
//! Goal: a count never says less than there is; one that cannot be right says
//! "unknown" and stays so until everything was counted anew; counting anew
//! comes to the right numbers whatever changes meanwhile. Method: counts are
//! falsified, then counted anew with changes, merges and splits in between,
//! and held against the addresses in the slots.

use std::collections::BTreeMap;

use crate::format::group::Address;
use crate::format::mutate::Random;
use crate::table::live::LIVE_UNKNOWN;
use crate::table::shrink::Sizing;

use super::harness::{Model, Setup, Store, change};

fn address(file: u32, len: u32) -> Address {
    Address { hash: 1 << 63, len, crc: 0, file, offset: 4096 }
}

fn filled(payload: usize, random: &mut Random) -> (Store, Model) {
    let mut store = Store::new(Setup::new(payload));
    let mut model = Model::new();
    for _ in 0..6000 {
        change(&mut store, &mut model, random, 4000);
    }
    (store, model)
}

#[test]
fn a_count_that_would_go_below_zero_is_unknown_and_stays_so() {
    let (mut store, _) = filled(56, &mut Random(1));
    let (file, live) = store.writer.live.iter().next().map(|(f, l)| (*f, *l)).unwrap();
    assert!(!store.writer.needs_recount());
    store.writer.sub_live(address(file, live as u32 + 1));
    assert_eq!(store.writer.live[&file], LIVE_UNKNOWN);
    assert!(store.writer.needs_recount());
    store.writer.sub_live(address(file, 8));
    store.writer.add_live(address(file, 99));
    assert_eq!(store.writer.live[&file], LIVE_UNKNOWN);
    // Nor is a file that is not there at zero.
    store.writer.sub_live(address(9999, 8));
    assert_eq!(store.writer.live[&9999], LIVE_UNKNOWN);
    // And what goes down to zero is gone.
    store.writer.add_live(address(5555, 8));
    store.writer.sub_live(address(5555, 8));
    assert_eq!(store.writer.live.get(&5555), None);
}

#[test]
fn counting_anew_is_right_whatever_changes_meanwhile() {
    for payload in [56, 128, 504] {
        let mut random = Random(payload as u64);
        let (mut store, mut model) = filled(payload, &mut random);
        let mut steps = 0;
        for at_a_time in [1, 3, 1000] {
            for live in store.writer.live.values_mut() {
                *live = LIVE_UNKNOWN;
            }
            store.writer.live.insert(777, LIVE_UNKNOWN);
            store.writer.begin_recount();
            while store.writer.recount_some(at_a_time).unwrap() {
                assert!(store.writer.needs_recount());
                for _ in 0..20 {
                    change(&mut store, &mut model, &mut random, 4000);
                    let from = (random.below(1 << 32) as u64) << 32;
                    let sizing = [Sizing::Roomy, Sizing::Dense][random.below(2)];
                    store.writer.tidy(&mut store.ws, from, sizing, None).unwrap();
                }
                steps += 1;
            }
            assert!(!store.writer.needs_recount());
            assert!(!store.writer.recount_some(1).unwrap());
            store.check(&model);
        }
        assert!(steps > 1, "nothing changed meanwhile");
    }
}

#[test]
fn a_table_that_is_cleared_has_nothing_left_to_count() {
    let mut random = Random(9);
    let (mut store, mut model) = filled(56, &mut random);
    store.checkpoint();
    store.writer.begin_recount();
    assert!(store.writer.recount_some(3).unwrap());
    store.writer.clear(&mut store.ws, [4, 5]).unwrap();
    model.clear();
    for _ in 0..500 {
        change(&mut store, &mut model, &mut random, 400);
    }
    while store.writer.recount_some(1).unwrap() {}
    store.check(&model);
}

#[test]
fn what_was_counted_anew_is_written_with_the_next_checkpoint() {
    let mut random = Random(4);
    let (mut store, model) = filled(56, &mut random);
    let right: BTreeMap<u32, u64> = store.writer.live.clone();
    store.writer.live.insert(333, LIVE_UNKNOWN);
    store.checkpoint();
    let mut store = store.reopen();
    assert!(store.writer.needs_recount() && !store.writer.is_dirty());
    store.writer.begin_recount();
    while store.writer.recount_some(10).unwrap() {}
    assert_eq!(store.writer.live, right);
    assert!(store.writer.is_dirty(), "the root has to be written");
    // A checkpoint that is given up leaves it to the next one.
    let at = store.begin();
    assert!(!store.writer.is_dirty());
    store.give_up(at);
    assert!(store.writer.is_dirty());
    store.checkpoint();
    assert!(!store.writer.is_dirty());
    let store = store.reopen();
    assert_eq!(store.writer.live, right);
    store.check(&model);
}

#[test]
fn a_page_that_cannot_be_read_stops_the_counting_and_changes_no_count() {
    let (mut store, _) = filled(128, &mut Random(6));
    store.writer.live.insert(1, LIVE_UNKNOWN);
    store.checkpoint();
    let mut store = store.reopen();
    store.file.unreadable.store(true, std::sync::atomic::Ordering::Relaxed);
    let before = store.writer.live.clone();
    store.writer.begin_recount();
    assert!(store.writer.recount_some(100).is_err());
    assert_eq!(store.writer.live, before);
    store.file.unreadable.store(false, std::sync::atomic::Ordering::Relaxed);
    while store.writer.recount_some(100).unwrap() {}
    assert!(!store.writer.needs_recount());
}
