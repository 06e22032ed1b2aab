//! Segments and directory pages that merge at bad moments.
//!
//! Goal: what a checkpoint has frozen is written as it was, whatever merges
//! before, amid and after its steps, and also if it is given up; a step that
//! cannot be done changes nothing. Method: thinned out tables whose root
//! shrinks by several bits in one pass, at each stage of a checkpoint.

use crate::error::{Error, Result};
use crate::format::mutate::Random;
use crate::table::scan::next_segment;
use crate::table::shrink::Sizing::{Dense, Roomy};

use super::harness::{Model, Setup, Store, change, fill, key};
use super::shrinking::thin_out;

/// A table with a deep root, most of whose entries are gone.
fn thinned(payload: usize, durable: bool, random: &mut Random) -> (Store, Model) {
    let mut store = Store::new(Setup::new(payload));
    let mut model = Model::new();
    fill(&mut store, &mut model, if payload == 504 { 9000 } else { 6000 });
    if durable {
        store.checkpoint();
    }
    thin_out(&mut store, &mut model, random, 93);
    (store, model)
}

/// Where in a checkpoint something happens.
const STAGES: [&str; 5] = ["frozen", "handed out", "pages written", "root written", "finishing"];

/// A checkpoint with something done at one stage, and ended well or not.
/// Says whether the file now has what was frozen.
fn checkpoint_at(
    store: &mut Store,
    stage: &str,
    give_up: bool,
    act: &mut dyn FnMut(&mut Store),
) -> bool {
    let mut at = store.begin();
    if stage == "frozen" {
        act(store);
    }
    let (mut steps, mut more) = (0, true);
    while more {
        more = store.step(&at, &mut |store| {
            if stage == "handed out" && steps == 0 {
                act(store);
            }
            steps += 1;
        });
        if give_up && stage == "handed out" {
            store.give_up(at);
            return false;
        }
    }
    if stage == "pages written" {
        act(store);
    }
    store.write_root(&mut at).unwrap();
    if stage == "root written" {
        act(store);
    }
    if give_up {
        store.give_up(at);
        return false;
    }
    let mut first = true;
    store.finish(at, &mut |store| {
        if stage == "finishing" && std::mem::take(&mut first) {
            act(store);
        }
    });
    true
}

#[test]
fn what_merges_during_a_checkpoint_is_written_as_it_was() {
    let mut random = Random(41);
    for payload in [56, 504] {
        for durable in [false, true] {
            for (number, stage) in STAGES.into_iter().enumerate() {
                let give_up = stage != "finishing" && number % 2 == usize::from(durable);
                let (mut store, mut model) = thinned(payload, durable, &mut random);
                let (frozen, depth) = (model.clone(), store.writer.table.root().1);
                let sizing = if number % 2 == 0 { Roomy } else { Dense };
                let mut acted = false;
                let done = checkpoint_at(&mut store, stage, give_up, &mut |store| {
                    acted = true;
                    assert!(store.tidy(sizing) > 0);
                    for _ in 0..200 {
                        change(store, &mut model, &mut random, 3000);
                    }
                    store.tidy(sizing);
                });
                assert!(acted, "{stage}");
                assert!(payload != 504 || store.writer.table.root().1 < depth);
                store.check(&model);
                if done {
                    store.reopen().check(&frozen);
                }
                store.checkpoint();
                store.check(&model);
                store.reopen().check(&model);
            }
        }
    }
}

#[test]
fn tables_merge_and_split_again_between_and_amid_checkpoints() {
    for (payload, keys) in [(24, 4000), (128, 3000), (504, 5000)] {
        let mut random = Random(payload as u64 + 1);
        let mut store = Store::new(Setup::new(payload));
        let mut model = Model::new();
        for round in 0..8 {
            fill(&mut store, &mut model, keys / (1 + round % 3));
            let frozen = model.clone();
            let mut next = Some(0);
            store.checkpoint_with(&mut |store| {
                for _ in 0..10 {
                    change(store, &mut model, &mut random, keys);
                }
                let from = next.unwrap_or(0);
                next = store.writer.tidy(&mut store.ws, from, Dense, Some(40)).unwrap().next;
            });
            store.check(&model);
            store.reopen().check(&frozen);
            thin_out(&mut store, &mut model, &mut random, 60 + round * 5);
            let sizing = if round % 2 == 0 { Roomy } else { Dense };
            store.tidy_with(sizing, None, &mut |_| ()).unwrap();
            store.check(&model);
        }
    }
}

#[test]
fn a_step_on_a_device_without_room_changes_nothing() {
    for sizing in [Roomy, Dense] {
        let mut random = Random(3);
        let (mut store, model) = thinned(504, true, &mut random);
        store.checkpoint();
        store.set_full(true);
        // Uses up what is free, and what is kept for urgent work.
        while store.writer.blocks.reserve(&store.ws.epoch, 1).is_ok() {}
        let taken = store.writer.blocks.reserved();
        let mut from = Some(0);
        let (mut refused, mut done) = (0, 0);
        while let Some(hash) = from {
            let (before, segments) = (store.writer.totals, store.segments());
            match store.writer.tidy(&mut store.ws, hash, sizing, None) {
                Ok(tidied) => {
                    from = tidied.next;
                    done += tidied.pages;
                }
                Err(error) => {
                    assert!(error.is_full(), "{error}");
                    assert_eq!((store.writer.totals, store.segments()), (before, segments));
                    store.check_segments();
                    refused += 1;
                    from = store.writer.table.next_segment_after(hash);
                }
            }
        }
        assert!(refused > 0 && done > 0, "what is kept for urgent work is enough for some");
        // Removals still find what was left to them.
        let key = model.keys().next().unwrap().clone();
        assert!(store.remove(&key).unwrap());
        let now = store.writer.blocks.reserved() - store.ws.pool.dirty() - store.writer.dirty.len();
        let filler = now - store.writer.standing;
        assert!(filler > 0 && taken > 0);
        store.writer.blocks.release(filler);
        store.set_full(false);
        store.tidy(sizing);
        let mut model = model;
        model.remove(&key);
        store.check(&model);
    }
}

#[test]
fn a_step_without_frames_changes_nothing_and_succeeds_after_a_checkpoint() {
    let mut store = Store::new(Setup::new(504).pool(300, 300));
    let mut model = Model::new();
    for i in 0..4000 {
        let key = key(i, 504);
        if store.insert(&key, b"v").is_err() {
            store.checkpoint();
            store.insert(&key, b"v").unwrap();
        }
        model.insert(key, b"v".to_vec());
    }
    let (mut from, mut refused) = (Some(0), 0);
    while let Some(hash) = from {
        let before = store.segments();
        match store.writer.tidy(&mut store.ws, hash, Dense, Some(2)) {
            Ok(tidied) => from = tidied.next,
            Err(Error::BatchTooLarge { .. }) => {
                assert_eq!(store.segments(), before);
                store.check(&model);
                store.checkpoint();
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 0);
    store.check(&model);
}

#[test]
fn directory_pages_that_are_as_they_are_on_disk_can_be_joined() {
    let mut random = Random(29);
    let mut store = Store::new(Setup::new(504));
    let mut model = Model::new();
    fill(&mut store, &mut model, 9000);
    thin_out(&mut store, &mut model, &mut random, 55);
    store.tidy(Roomy);
    store.checkpoint();
    let mut store = store.reopen();
    let mut joined = 0;
    let mut from = Some(0);
    while let Some(hash) = from {
        let table = store.writer.table.clone();
        let word = table.loaded_root_word(hash).unwrap();
        from = next_segment(hash, word.depth);
        let lower = table.loaded_root_word(hash ^ 1 << (64 - word.depth)).unwrap();
        let records = [table.record_of(lower.array), table.record_of(word.array)];
        let fits = records.iter().flat_map(|record| table.leaves(*record));
        let bytes: usize = fits.map(|leaf| 8 + 8 * usize::from(leaf.pages)).sum();
        let is_upper = records[0].prefix() < records[1].prefix();
        if lower.depth == word.depth && is_upper && bytes <= 4064 {
            store.writer.join_pages(&store.ws, records.map(|record| record.line)).unwrap();
            store.check(&model);
            joined += 1;
        }
    }
    assert!(joined > 0);
    store.checkpoint();
    store.check(&model);
    store.reopen().check(&model);
}

#[test]
fn a_change_to_the_directory_for_which_there_is_no_memory_changes_nothing() {
    let mut random = Random(31);
    let (mut store, mut model) = thinned(504, false, &mut random);
    let mut refused = 0;
    let mut try_all = |store: &mut Store, act: &mut dyn FnMut(&mut Store) -> Result<()>| {
        for left in 0.. {
            store.writer.table.structure().left = left;
            let (totals, segments) = (store.writer.totals, store.segments());
            let outcome = act(store);
            store.writer.table.structure().left = usize::MAX;
            match outcome {
                Ok(()) => return,
                Err(Error::Io { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
            assert_eq!((store.writer.totals, store.segments()), (totals, segments));
            store.check_segments();
            store.check_reserved();
        }
    };
    let mut from = Some(0);
    while let Some(hash) = from {
        try_all(&mut store, &mut |store| {
            from = store.writer.tidy(&mut store.ws, hash, Dense, None)?.next;
            Ok(())
        });
    }
    store.check(&model);
    // And all the way back: segments and directory pages split, the root doubles.
    let depth = store.writer.table.root().1;
    for i in 0..4000 {
        let key = key(i, 504);
        try_all(&mut store, &mut |store| store.insert(&key, b"back"));
        model.insert(key, b"back".to_vec());
    }
    assert!(store.writer.table.root().1 > depth && refused > 100);
    store.check(&model);
}

#[test]
fn a_damaged_page_is_reported_by_the_steps_that_need_it_and_by_no_others() {
    let mut random = Random(17);
    let (mut store, _) = thinned(504, true, &mut random);
    store.checkpoint();
    let segments = store.segments();
    let (prefix, ..) = segments[segments.len() / 2];
    let word = store.writer.table.route(u64::from(prefix) << 32).unwrap();
    let page = store.writer.table.descriptor(word.descriptor).page(0).number();
    let block = if store.writer.table.descriptor(word.descriptor).page(0).is_frame() {
        store.ws.pool.info(page).block
    } else {
        page
    };
    store.flip(block, 100);
    let mut store = store.reopen();
    let (mut from, mut damaged) = (Some(0), 0);
    while let Some(hash) = from {
        match store.writer.tidy(&mut store.ws, hash, Roomy, None) {
            Ok(tidied) => from = tidied.next,
            Err(Error::Corrupt(damage)) => {
                assert!(damage.to_string().contains(&format!("{}", u64::from(block) * 4096)));
                damaged += 1;
                from = store.writer.table.next_segment_after(hash);
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(damaged > 0);
    assert!(store.writer.totals.segments * 2 < segments.len() as u64, "the others merged");
}
