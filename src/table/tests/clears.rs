//! Clearing, at every moment that the store allows.
//!
//! A clear replaces everything by an empty root under a new hash key. Its
//! blocks, frames and the memory of its directory come back with the next
//! checkpoint, whether the directory was loaded or not, and not before it.

use crate::format::mutate::Random;
use crate::table::scan::{Scanned, SegmentCopy};

use super::harness::{Model, Setup, Store, change};

fn filled(payload: usize, random: &mut Random) -> (Store, Model) {
    let mut store = Store::new(Setup::new(payload));
    let mut model = Model::new();
    for _ in 0..2500 {
        change(&mut store, &mut model, random, 2500);
    }
    (store, model)
}

fn clear(store: &mut Store, model: &mut Model, key: u64) {
    store.writer.clear(&mut store.ws, [key, !key]).unwrap();
    model.clear();
}

#[test]
fn a_cleared_table_is_empty_and_can_be_filled_again() {
    for payload in [56, 504] {
        let mut random = Random(payload as u64 + 9);
        let (mut store, mut model) = filled(payload, &mut random);
        for round in 0..4u64 {
            let old = store.writer.hash(b"a key");
            clear(&mut store, &mut model, round);
            assert_ne!(store.writer.hash(b"a key"), old);
            store.check(&model);
            if round % 2 == 0 {
                store.checkpoint();
                store.check(&model);
                store.reopen().check(&model);
            }
            for _ in 0..800 {
                change(&mut store, &mut model, &mut random, 900);
            }
            store.check(&model);
        }
        store.checkpoint();
        store.check(&model);
        store.reopen().check(&model);
        assert_eq!(store.writer.table.clears(), 4);
    }
}

#[test]
fn the_file_is_what_it_was_until_the_checkpoint_after_a_clear() {
    let mut random = Random(2);
    let (mut store, mut model) = filled(504, &mut random);
    store.checkpoint();
    let before = model.clone();
    clear(&mut store, &mut model, 5);
    for _ in 0..500 {
        change(&mut store, &mut model, &mut random, 500);
    }
    store.check(&model);
    store.reopen().check(&before);
    // A checkpoint that fails changes nothing of that.
    for steps in [0, 3, 50] {
        let mut at = store.begin();
        for _ in 0..steps {
            store.step(&at, &mut |store| change(store, &mut model, &mut random, 500));
        }
        if steps == 50 {
            store.write_root(&mut at).unwrap();
        }
        store.give_up(at);
        store.check(&model);
        store.reopen().check(&before);
    }
    let frozen = model.clone();
    store.checkpoint_with(&mut |store| change(store, &mut model, &mut random, 500));
    store.check(&model);
    store.reopen().check(&frozen);
    let free = store.writer.blocks.usage().free;
    store.checkpoint();
    store.check(&model);
    assert!(free > 0);
}

#[test]
fn a_directory_that_was_not_loaded_is_cleared_as_well() {
    let mut random = Random(6);
    let (mut store, model) = filled(504, &mut random);
    store.checkpoint();
    for load in [0, 20] {
        let mut reopened = store.reopen();
        for key in model.keys().take(load) {
            assert!(reopened.get(key).unwrap().is_some());
        }
        let mut model = model.clone();
        clear(&mut reopened, &mut model, 7);
        reopened.check(&model);
        reopened.checkpoint();
        reopened.check(&model);
        let again = reopened.reopen();
        again.check(&model);
        // Nothing but the new root and its two pages is in use.
        let usage = reopened.writer.blocks.usage();
        assert!(usage.total - usage.free > 5, "what was reached before is still retired");
    }
}

#[test]
fn many_clears_use_neither_file_nor_pool_up() {
    let mut random = Random(12);
    let (mut store, mut model) = filled(56, &mut random);
    store.checkpoint();
    let before = store.writer.blocks.total();
    for round in 0..60 {
        clear(&mut store, &mut model, round);
        for _ in 0..100 {
            change(&mut store, &mut model, &mut random, 300);
        }
        if round % 3 == 0 {
            store.checkpoint();
        }
    }
    store.check(&model);
    assert!(store.writer.blocks.total() <= before * 2);
    assert!(store.ws.pool.in_use() < 200);
}

#[test]
fn a_scan_across_a_clear_says_so() {
    let mut random = Random(14);
    let (mut store, mut model) = filled(504, &mut random);
    let table = store.writer.table.clone();
    let clears = table.clears();
    let mut copy = SegmentCopy::default();
    let Scanned::Whole(Some(next)) = table.scan_segment(0, clears, &mut copy).unwrap() else {
        panic!("the table has many segments")
    };
    clear(&mut store, &mut model, 1);
    assert_eq!(table.scan_segment(next, clears, &mut copy).unwrap(), Scanned::Cleared);
    let again = table.scan_segment(0, table.clears(), &mut copy).unwrap();
    assert_eq!((again, copy.len()), (Scanned::Whole(None), 0));
}
