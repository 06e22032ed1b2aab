//! Checkpoints while writers go on.
//!
//! Goal: what is written is the state at the moment of freezing, exactly; the
//! live state is right all the time; and no block is lost or owned twice.
//! Method: changes between any two steps, then the file is opened anew.

use std::collections::HashMap;

use crate::format::mutate::Random;
use crate::table::frames::{Owner, State};

use super::entries::PAYLOADS;
use super::harness::{Model, Setup, Store, change, fill};

/// A store with some entries, and its model.
fn filled(payload: usize, changes: usize, random: &mut Random) -> (Store, Model) {
    let mut store = Store::new(Setup::new(payload));
    let mut model = Model::new();
    for _ in 0..changes {
        change(&mut store, &mut model, random, changes);
    }
    (store, model)
}

/// A checkpoint during which entries among `keys` are changed, `n` after each
/// step. Returns what was frozen.
fn changing_checkpoint(
    store: &mut Store,
    model: &mut Model,
    random: &mut Random,
    keys: usize,
    n: usize,
) -> Model {
    let frozen = model.clone();
    store.checkpoint_with(&mut |store| {
        for _ in 0..n {
            change(store, model, random, keys);
        }
    });
    frozen
}

#[test]
fn the_written_state_is_the_frozen_one_while_writers_change_and_split() {
    for payload in PAYLOADS {
        let mut random = Random(payload as u64);
        let (mut store, mut model) = filled(payload, 1200, &mut random);
        for (keys, n) in [(1200, 0), (1200, 3), (2500, 200), (1200, 60)] {
            let frozen = changing_checkpoint(&mut store, &mut model, &mut random, keys, n);
            store.check(&model);
            let reopened = store.reopen();
            reopened.check(&frozen);
        }
        let frozen = changing_checkpoint(&mut store, &mut model, &mut random, 1200, 0);
        assert_eq!(frozen, model);
        store.reopen().check(&model);
    }
}

#[test]
fn directory_pages_that_split_during_a_checkpoint_are_written_as_they_were() {
    let mut random = Random(21);
    let mut store = Store::new(Setup::new(504));
    let mut model = Model::new();
    let mut keys = 1800;
    fill(&mut store, &mut model, keys);
    // The table doubles before, amid and after the writing of pages.
    for at in [0, 3, 60] {
        let (frozen, depth) = (model.clone(), store.writer.table.root().1);
        let mut calls = 0;
        store.checkpoint_with(&mut |store| {
            change(store, &mut model, &mut random, keys);
            if calls == at {
                keys *= 2;
                fill(store, &mut model, keys);
            }
            calls += 1;
        });
        let now = store.writer.table.root().1;
        assert!(now > depth, "the root stayed at {now} bits");
        store.check(&model);
        store.reopen().check(&frozen);
    }
    store.checkpoint();
    store.check(&model);
    store.reopen().check(&model);
}

#[test]
fn a_reopened_table_goes_on_where_the_written_one_was() {
    let mut random = Random(5);
    let (mut store, mut model) = filled(56, 3000, &mut random);
    for _ in 0..5 {
        store.checkpoint();
        store = store.reopen();
        for _ in 0..300 {
            change(&mut store, &mut model, &mut random, 3000);
        }
        let frozen = changing_checkpoint(&mut store, &mut model, &mut random, 3000, 5);
        store.check(&model);
        store.reopen().check(&frozen);
    }
}

#[test]
fn an_empty_table_and_an_unchanged_one_are_written_too() {
    let mut store = Store::new(Setup::new(56));
    assert!(store.writer.is_dirty());
    store.checkpoint();
    store.check(&Model::new());
    store.reopen().check(&Model::new());
    assert!(!store.writer.is_dirty());
    store.checkpoint();
    store.checkpoint();
    let mut reopened = store.reopen();
    reopened.check(&Model::new());
    reopened.checkpoint();
    reopened.check(&Model::new());
    reopened.insert(b"k", b"v").unwrap();
    assert!(reopened.writer.is_dirty());
    reopened.check(&Model::from([(b"k".to_vec(), b"v".to_vec())]));
}

#[test]
fn reserved_blocks_return_to_the_standing_ones_when_nothing_is_dirty() {
    let mut random = Random(8);
    let (mut store, mut model) = filled(56, 2000, &mut random);
    let mut seen = Vec::new();
    for _ in 0..6 {
        for _ in 0..200 {
            change(&mut store, &mut model, &mut random, 2000);
        }
        store.checkpoint();
        store.check(&model);
        assert_eq!(store.ws.pool.dirty(), 0);
        assert_eq!(store.writer.blocks.reserved(), store.writer.standing);
        seen.push(store.writer.blocks.reserved());
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
}

#[test]
fn the_file_does_not_grow_under_overwrites_of_the_same_entries() {
    let mut random = Random(13);
    let (mut store, mut model) = filled(56, 3000, &mut random);
    let mut totals = Vec::new();
    for _ in 0..40 {
        for key in model.keys().cloned().collect::<Vec<_>>() {
            if random.below(3) == 0 {
                store.insert(&key, b"new").unwrap();
                model.insert(key, b"new".to_vec());
            }
        }
        store.checkpoint();
        totals.push(store.writer.blocks.total());
    }
    store.check(&model);
    assert_eq!(totals[4], totals[39], "{totals:?}");
}

#[test]
fn small_changes_between_many_checkpoints_keep_file_and_table_in_order() {
    let mut random = Random(17);
    let (mut store, mut model) = filled(128, 1500, &mut random);
    store.checkpoint();
    let before = store.writer.blocks.total();
    for round in 0..60 {
        let frozen = changing_checkpoint(&mut store, &mut model, &mut random, 1500, round % 4);
        if round % 10 == 9 {
            store.check(&model);
            store.reopen().check(&frozen);
        }
    }
    let after = store.writer.blocks.total();
    assert!(after <= before * 2, "{before} blocks became {after}");
}

#[test]
fn a_table_in_a_tiny_pool_evicts_clean_frames_and_reads_them_back() {
    let mut random = Random(19);
    // Some 100 pages of data in 40 frames.
    let setup = Setup::new(128).pool(64, 40);
    let mut store = Store::new(setup);
    let mut model = Model::new();
    for round in 0..300 {
        for _ in 0..10 {
            change(&mut store, &mut model, &mut random, 4000);
        }
        if store.ws.pool.dirty() > 25 || round % 20 == 0 {
            let frozen = changing_checkpoint(&mut store, &mut model, &mut random, 4000, 1);
            if round % 25 == 0 {
                store.reopen().check(&frozen);
            }
        }
    }
    store.check(&model);
    assert!(store.ws.pool.in_use() <= 64);
    assert!(store.writer.totals.slots / 24 > 64, "the data fit the pool");
    store.checkpoint();
    store.reopen().check(&model);
}

/// Pages were copied for changes until the checkpoint had ended, twice the
/// table in the end, and writers were slowed for it.
#[test]
fn a_page_that_was_written_is_changed_where_it_is() {
    for fails in [false, true] {
        let (mut store, mut model) = (Store::new(Setup::new(56)), Model::new());
        fill(&mut store, &mut model, 2000);
        let (frozen, dirty) = (model.clone(), store.ws.pool.dirty());
        let mut at = store.begin();
        while store.step(&at, &mut |_| ()) {}
        for key in model.keys().cloned().collect::<Vec<_>>() {
            store.insert(&key, b"changed").unwrap();
            model.insert(key, b"changed".to_vec());
        }
        assert_eq!((store.ws.pool.dirty(), store.ws.pool.superseded()), (dirty, 0));
        store.write_root(&mut at).unwrap();
        if fails {
            store.give_up(at);
        } else {
            store.finish(at, &mut |_| ());
            store.reopen().check(&frozen);
        }
        store.check(&model);
        store.checkpoint();
        store.check(&model);
        store.reopen().check(&model);
    }
}

#[test]
fn a_frame_that_was_replaced_is_given_back_when_it_is_written() {
    let (mut store, mut model) = (Store::new(Setup::new(56)), Model::new());
    fill(&mut store, &mut model, 2000);
    let (frozen, dirty) = (model.clone(), store.ws.pool.dirty());
    let mut at = store.begin();
    for key in model.keys().cloned().collect::<Vec<_>>() {
        store.insert(&key, b"changed").unwrap();
        model.insert(key, b"changed".to_vec());
    }
    assert_eq!((store.ws.pool.dirty(), store.ws.pool.superseded()), (2 * dirty, dirty));
    while store.step(&at, &mut |_| ()) {}
    assert_eq!((store.ws.pool.dirty(), store.ws.pool.superseded()), (dirty, 0));
    store.write_root(&mut at).unwrap();
    store.finish(at, &mut |_| ());
    store.reopen().check(&frozen);
    store.check(&model);
}

/// Blocks have the same numbers in every table, and frames are of all of them.
#[test]
fn a_frame_let_go_during_a_checkpoint_may_hold_a_page_of_another_tables_block_of_that_number() {
    let mut random = Random(35);
    let (mut store, mut model) = filled(504, 1200, &mut random);
    let mut others = Vec::new();
    let frozen = model.clone();
    store.checkpoint_with(&mut |store| {
        for _ in 0..60 {
            change(store, &mut model, &mut random, 1200);
        }
        let progress = store.writer.frozen.iter().flat_map(|frozen| &frozen.progress);
        let written = progress.flat_map(|p| &p.frames).map(|(frame, block)| (*frame, block.block));
        let is_free = |(frame, _): &(u32, u32)| store.ws.pool.info(*frame).state == State::Free;
        let mut let_go: HashMap<u32, u32> = written.filter(is_free).collect();
        let owner = Owner { table: store.writer.table.id + 1, page: 0, descriptor: 0 };
        let mut taken = Vec::new();
        while !let_go.is_empty() && taken.len() < 200 {
            taken.extend(store.ws.take_frame(owner));
            let last = taken.last().copied().unwrap_or_default();
            if let Some(block) = let_go.remove(&last) {
                store.ws.pool.cleaned(last, block);
                others.push((taken.pop().unwrap(), block));
            }
        }
        taken.into_iter().for_each(|frame| store.ws.pool.retire(&store.ws.epoch, frame));
    });
    assert!(!others.is_empty(), "no frame was let go");
    for (frame, block) in others {
        let info = store.ws.pool.info(frame);
        assert_eq!((info.state, info.block), (State::Clean, block));
        store.ws.pool.retire(&store.ws.epoch, frame);
    }
    store.check(&model);
    store.reopen().check(&frozen);
}
