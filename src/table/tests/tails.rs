//! The end of the file: given back, taken again, cut off.
//!
//! Goal: space that nothing uses goes back, what is reserved keeps its space,
//! and a file of any length can be opened and grows on. Method: the file of
//! the harness knows which blocks take space and refuses to be written to
//! elsewhere; each block is held against its owners as always.

use std::sync::Arc;

use crate::format::BLOCK;
use crate::format::mutate::Random;
use crate::storage::epoch::ReuseEpoch;
use crate::storage::memory::Memory;
use crate::storage::{Access, File, Storage};
use crate::table::blocks::{Blocks, FIRST_BLOCKS};
use crate::table::shrink::Sizing::{Dense, Roomy};

use super::harness::{Model, Setup, Store, change, fill};
use super::shrinking::thin_out;

/// The length of the file in blocks.
fn length(store: &Store) -> u64 {
    store.file.length().unwrap() / BLOCK as u64
}

/// Moves pages down until they stay where they are.
fn settle(store: &mut Store) {
    for _ in 0..4 {
        let below = store.writer.blocks.used() + 8;
        store.tidy_with(Dense, Some(below), &mut |_| ()).unwrap();
        store.checkpoint();
    }
}

/// Gives the free end of the file back, bite by bite; returns the blocks.
fn give_back_all(store: &mut Store) -> u32 {
    let bite = || match store.writer.blocks.give_back_tail(&store.ws.epoch, 1).unwrap() {
        0 => None,
        bite => Some(bite),
    };
    std::iter::from_fn(bite).sum()
}

#[test]
fn the_free_end_is_given_back_and_taken_again() {
    for payload in [56, 504] {
        let mut random = Random(3);
        let mut store = Store::new(Setup::new(payload));
        let mut model = Model::new();
        for round in 0..3 {
            fill(&mut store, &mut model, 7000);
            store.checkpoint();
            let full = store.file.space().len();
            thin_out(&mut store, &mut model, &mut random, 90);
            settle(&mut store);
            assert!(store.file.space().len() >= full, "nothing is given back before");
            let long = length(&store);
            let (used, reserved) = (store.writer.blocks.used(), store.writer.blocks.reserved());
            let given = give_back_all(&mut store);
            let space = store.file.space().len();
            assert!(given > 0 && space + given as usize + 2 >= full, "round {round}");
            let needed = used as usize + reserved + 64 + 16;
            assert!(space <= needed, "{space} blocks, {used} used, {reserved} reserved");
            assert_eq!(length(&store), long, "the file is as long as before");
            let usage = store.writer.blocks.usage();
            assert_eq!(usage.allocated as usize, space + 2);
            assert_eq!(usage.holes, usage.total - usage.allocated);
            store.check(&model);
            store.reopen().check(&model);
        }
    }
}

#[test]
fn less_than_is_worth_it_is_kept_and_what_is_reserved_too() {
    let mut store = Store::new(Setup::new(504));
    let mut model = Model::new();
    fill(&mut store, &mut model, 3000);
    store.checkpoint();
    thin_out(&mut store, &mut model, &mut Random(1), 100);
    settle(&mut store);
    let epoch = store.ws.epoch.clone();
    let tail = store.writer.blocks.allocated() - store.writer.blocks.highest_used() - 1;
    assert_eq!(store.writer.blocks.give_back_tail(&epoch, tail + 1).unwrap(), 0);
    // Everything but ten blocks is reserved by somebody.
    let spare = store.writer.blocks.allocated() - store.writer.blocks.used();
    let others = spare as usize - 10 - store.writer.blocks.reserved() - 64;
    store.writer.blocks.reserve(&epoch, others).unwrap();
    assert_eq!(store.writer.blocks.give_back_tail(&epoch, 11).unwrap(), 0);
    assert_eq!(store.writer.blocks.give_back_tail(&epoch, 1).unwrap(), 10);
    assert_eq!(store.writer.blocks.give_back_tail(&epoch, 1).unwrap(), 0);
    // They can all be taken, on a device that has no other.
    store.set_full(true);
    for _ in 0..others {
        let block = store.writer.blocks.take();
        assert!(store.file.space().contains(&block.into()), "block {block}");
    }
}

/// The blocks of a new file.
fn new_blocks() -> Blocks {
    let storage = Memory::new();
    let file: Arc<dyn File> = storage.open("t", Access::Create).unwrap();
    file.set_length(u64::from(FIRST_BLOCKS) * BLOCK as u64).unwrap();
    let free = vec![((1 << FIRST_BLOCKS) - 1) & !3];
    Blocks::open(file, "t".into(), free, FIRST_BLOCKS, false).unwrap()
}

#[test]
fn a_tail_retired_in_this_epoch_waits_for_the_next_whatever_was_retired_before() {
    // Readers and a compaction beside them, for some minutes: the epoch had not
    // been advanced for the last block, because the first one did not need it.
    // So a block was given back at which readers could still look, and it became
    // free behind the end.
    let mut blocks = new_blocks();
    let epoch = ReuseEpoch::new().unwrap();
    blocks.reserve(&epoch, 100).unwrap();
    let last = (0..100).map(|_| blocks.take()).last().unwrap();
    for block in [50, last] {
        blocks.die(block);
        blocks.freeze(1);
        blocks.settle(&epoch, FIRST_BLOCKS);
        if block == 50 {
            // The store's frames advanced it.
            epoch.advance();
        }
    }
    let retired_in = epoch.read();
    let mut given = 0;
    loop {
        match blocks.give_back_tail(&epoch, 1).unwrap() {
            0 => break,
            bite => given += bite,
        }
    }
    assert!(given > 0 && epoch.read() > retired_in, "given back in epoch {}", epoch.read());
    epoch.advance();
    blocks.reclaim(&epoch, 1);
    assert_eq!((blocks.allocated(), blocks.highest_used(), blocks.used()), (last, last - 1, 100));
    blocks.reserve(&epoch, 1).unwrap();
    assert_eq!(blocks.take(), 50);
}

#[test]
fn a_large_tail_is_given_back_in_bites() {
    let mut blocks = new_blocks();
    let epoch = ReuseEpoch::new().unwrap();
    blocks.reserve(&epoch, 9000).unwrap();
    let taken: Vec<u32> = (0..100).map(|_| blocks.take()).collect();
    blocks.release(8900);
    assert_eq!(taken, (2..102).collect::<Vec<u32>>(), "the lowest blocks come first");
    let mut bites = Vec::new();
    loop {
        match blocks.give_back_tail(&epoch, 1).unwrap() {
            0 => break,
            bite => bites.push(bite),
        }
    }
    assert!(bites.len() >= 3 && bites[..bites.len() - 1].iter().all(|bite| *bite == 512));
    assert_eq!((blocks.allocated(), blocks.highest_used(), blocks.used()), (102, 101, 102));
}

/// Blocks with so many of them reserved that they are a large file, in which few
/// are left.
fn large(blocks: usize) -> (Blocks, ReuseEpoch) {
    let (mut large, epoch) = (new_blocks(), ReuseEpoch::new().unwrap());
    large.reserve(&epoch, blocks).unwrap();
    let left = large.allocated() as usize - 2 - blocks;
    large.reserve(&epoch, left).unwrap();
    (large, epoch)
}

#[test]
fn space_taken_ahead_counts_if_the_end_has_not_moved() {
    let (mut blocks, epoch) = large(9000);
    let before = blocks.allocated();
    let ahead = blocks.begin_ahead().expect("no blocks are left beside those reserved");
    assert!(blocks.begin_ahead().is_none(), "somebody is at it");
    blocks.release(9000);
    assert_eq!(blocks.give_back_tail(&epoch, 1).unwrap(), 0, "no hole is punched meanwhile");
    let taken = ahead.take();
    blocks.end_ahead(&ahead, taken);
    assert!(blocks.allocated() > before);
    assert!(blocks.give_back_tail(&epoch, 1).unwrap() > 0);
}

#[test]
fn no_more_than_an_eighth_is_taken_ahead_and_nothing_for_a_small_file() {
    let (mut small, _) = large(2000);
    assert!(small.begin_ahead().is_none(), "the file is small");
    for many in [9000, 40_000, 400_000] {
        let (mut blocks, _) = large(many);
        let before = blocks.allocated();
        while let Some(ahead) = blocks.begin_ahead() {
            assert!(ahead.take());
            blocks.end_ahead(&ahead, true);
        }
        let ahead = blocks.allocated() - before;
        // The margin grows with what is taken; the file may be at its end.
        assert!(ahead <= (blocks.allocated() / 8).min(16_384), "{ahead} of {before}");
        assert!(ahead > 0 || blocks.usage().total == before);
    }
}

#[test]
fn space_taken_ahead_by_two_counts_once_and_a_full_device_is_not_asked_again() {
    let (mut blocks, epoch) = large(9000);
    let ahead = blocks.begin_ahead().unwrap();
    // A writer is faster.
    blocks.reserve(&epoch, 1).unwrap();
    let allocated = blocks.allocated();
    blocks.end_ahead(&ahead, true);
    assert_eq!(blocks.allocated(), allocated);
    blocks.reserve(&epoch, 4000).unwrap();
    let ahead = blocks.begin_ahead().expect("few are left again");
    blocks.end_ahead(&ahead, false);
    assert!(blocks.begin_ahead().is_none());
}

#[test]
fn what_was_retired_in_two_epochs_is_given_back_as_a_whole() {
    // Those of the later epoch stayed retired behind the end of what has space,
    // and when they should become free they were lost for good.
    let storage = Memory::new();
    let file: Arc<dyn File> = storage.open("t", Access::Create).unwrap();
    file.set_length(u64::from(FIRST_BLOCKS) * BLOCK as u64).unwrap();
    let free = vec![((1 << FIRST_BLOCKS) - 1) & !3];
    let mut blocks = Blocks::open(file.clone(), "t".into(), free, FIRST_BLOCKS, false).unwrap();
    let epoch = ReuseEpoch::new().unwrap();
    blocks.reserve(&epoch, 100).unwrap();
    assert_eq!((0..100).map(|_| blocks.take()).max(), Some(101));
    for dead in [90..102, 50..90] {
        dead.for_each(|block| blocks.die(block));
        blocks.freeze(1);
        blocks.settle(&epoch, FIRST_BLOCKS);
        if blocks.used() == 90 {
            epoch.advance();
        }
    }
    while blocks.give_back_tail(&epoch, 1).unwrap() > 0 {}
    assert_eq!((blocks.allocated(), blocks.used(), blocks.highest_used()), (50, 50, 49));
    blocks.reserve(&epoch, 60).unwrap();
    let again: Vec<u32> = (0..60).map(|_| blocks.take()).collect();
    assert_eq!(again, (50..110).collect::<Vec<u32>>());
    assert_eq!(blocks.used(), 110);
}

#[test]
fn a_closed_file_ends_behind_the_last_block_in_use() {
    for payload in [56, 504] {
        let mut random = Random(payload as u64);
        let mut store = Store::new(Setup::new(payload));
        let mut model = Model::new();
        fill(&mut store, &mut model, 5000);
        store.checkpoint();
        let mut lengths = Vec::new();
        for share in [0, 50, 90, 100] {
            thin_out(&mut store, &mut model, &mut random, share);
            settle(&mut store);
            store.close();
            let header = store.header.clone().unwrap();
            assert_eq!(length(&store), u64::from(header.file_blocks), "{share}");
            let used = store.writer.blocks.used();
            let usage = store.writer.blocks.usage();
            assert_eq!((usage.total, usage.free), (header.file_blocks, usage.total - used));
            assert!(header.file_blocks <= (used + used / 8 + 8).max(FIRST_BLOCKS), "{header:?}");
            lengths.push(header.file_blocks);
            store = store.reopen();
            store.check(&model);
            assert!(!store.writer.blocks.is_worth_cutting([header.root, header.map]));
        }
        assert!(lengths.windows(2).all(|pair| pair[0] >= pair[1]), "{lengths:?}");
        assert!(lengths[0] > 3 * lengths[2], "{lengths:?}");
        assert_eq!(lengths.last(), Some(&FIRST_BLOCKS));
    }
}

#[test]
fn a_file_of_any_length_is_opened_and_grows_on() {
    let mut random = Random(2);
    let mut odd = 0;
    for entries in [0, 100, 333, 700, 1500] {
        let mut store = Store::new(Setup::new(504));
        let mut model = Model::new();
        fill(&mut store, &mut model, entries);
        store.checkpoint();
        for round in 0..3 {
            store.close();
            odd += length(&store) % 2;
            store = store.reopen();
            store.check(&model);
            for _ in 0..200 * (round + 1) {
                change(&mut store, &mut model, &mut random, entries + 400);
            }
            store.check(&model);
            store.checkpoint();
            store.check(&model);
        }
    }
    assert!(odd > 2, "{odd} files had an odd length");
}

#[test]
fn a_table_that_did_not_change_is_worth_writing_if_its_file_gets_much_shorter() {
    let mut store = Store::new(Setup::new(504));
    let mut model = Model::new();
    fill(&mut store, &mut model, 3000);
    store.checkpoint();
    let runs = |store: &Store| [store.writer.root_run, store.writer.map_run];
    thin_out(&mut store, &mut model, &mut Random(8), 95);
    settle(&mut store);
    // The last checkpoint covers a long file, and leaves nothing to write.
    assert!(!store.writer.is_dirty());
    assert!(store.writer.blocks.is_worth_cutting(runs(&store)));
    let mut store = store.reopen();
    assert!(store.writer.blocks.is_worth_cutting(runs(&store)));
    let long = length(&store);
    store.close();
    assert!(length(&store) * 2 < long);
    let store = store.reopen();
    assert!(!store.writer.blocks.is_worth_cutting(runs(&store)));
    store.check(&model);
}

#[test]
fn a_directory_page_moves_down_alone_if_only_it_lies_high() {
    let mut store = Store::new(Setup::new(504));
    let mut model = Model::new();
    fill(&mut store, &mut model, 2000);
    settle(&mut store);
    let table = store.writer.table.clone();
    let record = table.record_of(table.loaded_root_word(0).unwrap().array);
    let block = record.block().block;
    // No segment of it has a page behind its directory page, which comes last.
    assert_eq!(store.writer.tidy(&mut store.ws, 0, Dense, Some(block + 1)).unwrap().pages, 0);
    assert!(!record.is_dirty());
    assert_eq!(store.writer.tidy(&mut store.ws, 0, Dense, Some(block)).unwrap().pages, 1);
    assert!(record.is_dirty());
    store.check(&model);
    store.checkpoint();
    assert_ne!(record.block().block, block);
    store.check(&model);
}

#[test]
fn what_is_written_again_and_again_stays_in_the_lowest_blocks() {
    let mut random = Random(6);
    let mut store = Store::new(Setup::new(504));
    let mut model = Model::new();
    fill(&mut store, &mut model, 6000);
    store.checkpoint();
    thin_out(&mut store, &mut model, &mut random, 95);
    settle(&mut store);
    for _ in 0..20 {
        for key in model.keys().cloned().collect::<Vec<_>>() {
            store.insert(&key, b"again").unwrap();
            model.insert(key, b"again".to_vec());
        }
        store.checkpoint();
        let (used, high) = (store.writer.blocks.used(), store.writer.blocks.highest_used());
        // A mebibyte at most waits for the epoch to advance.
        assert!(high < 2 * used + 256, "{used} blocks used, up to {high}");
    }
    let blocks = &store.writer.blocks;
    assert!(blocks.allocated() > 2 * (2 * blocks.used() + 256), "there was room higher up");
    store.check(&model);
}

#[test]
fn moving_pages_down_makes_room_at_the_end() {
    for sizing in [Roomy, Dense] {
        let mut random = Random(12);
        let mut store = Store::new(Setup::new(128));
        let mut model = Model::new();
        fill(&mut store, &mut model, 6000);
        store.checkpoint();
        thin_out(&mut store, &mut model, &mut random, 50);
        store.tidy(sizing);
        store.checkpoint();
        let (used, high) = (store.writer.blocks.used(), store.writer.blocks.highest_used());
        let below = used + used / 8;
        assert!(high > below, "{used} blocks used up to {high}");
        let mut moved = 0;
        for _ in 0..3 {
            moved += store.tidy_with(sizing, Some(below), &mut |_| ()).unwrap();
            store.checkpoint();
            store.check(&model);
        }
        assert!(moved > 0);
        let high = store.writer.blocks.highest_used();
        assert!(high < below + 16, "{used} blocks were used, now up to {high}");
        assert_eq!(store.tidy_with(sizing, Some(below + 16), &mut |_| ()).unwrap(), 0);
        store.reopen().check(&model);
    }
}

#[test]
fn who_takes_space_waits_while_a_hole_is_punched() {
    let (mut blocks, epoch) = large(9000);
    blocks.release(9000);
    let before = blocks.allocated();
    let bite = blocks.begin_giving_back(&epoch, 1).expect("all is free");
    assert_eq!(blocks.allocated(), before - 512);
    assert!(blocks.begin_giving_back(&epoch, 1).is_none(), "one bite at a time");
    assert!(blocks.begin_ahead().is_none(), "no space is taken ahead");
    // What is free does not have to be waited for.
    blocks.reserve(&epoch, 1000).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| blocks.reserve(&epoch, before as usize).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!waits.is_finished());
        assert_eq!(bite.blocks(), 512);
        bite.punch().unwrap();
        waits.join().unwrap();
    });
    assert!(blocks.allocated() > before);
}
