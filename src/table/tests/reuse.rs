//! Nothing is stored into while a reader could take it for what it was.
//!
//! Goal: the contract between writer and readers, without threads. A reader
//! that finds epoch and version unchanged believes what it has read. Method:
//! all pages are copied through their page words, then the writer does
//! something; if the epoch is still the same, then each group, looked at
//! through the *old* word, has another version or the same content.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::format::group::VERSION_AND_CRC;
use crate::format::mutate::Random;
use crate::table::layout::PageWord;
use crate::table::shrink::Sizing;

use super::harness::{Model, Setup, Store, change, fill};

fn copy(words: &[AtomicU64]) -> Vec<u64> {
    words.iter().map(|word| word.load(Ordering::Relaxed)).collect()
}

/// The pages of a store, each with its words.
fn pages(store: &Store) -> Vec<(PageWord, Vec<u64>)> {
    let table = &store.writer.table;
    let (mut pages, mut from) = (Vec::new(), Some(0));
    while let Some(hash) = from {
        let word = table.route(hash).unwrap();
        let descriptor = table.descriptor(word.descriptor);
        for page in 0..usize::from(descriptor.info().pages) {
            let word = descriptor.page(page);
            pages.push((word, copy(table.page_words(word).unwrap())));
        }
        from = crate::table::scan::next_segment(hash, word.depth);
    }
    pages
}

/// How many groups are not what they were, though their version is the same.
fn mistaken(store: &Store, before: &[(PageWord, Vec<u64>)]) -> usize {
    let table = &store.writer.table;
    let size = table.geometry.group_words;
    let count = |(word, seen): &(PageWord, Vec<u64>)| {
        let now = copy(table.page_words(*word).unwrap());
        let groups = seen.chunks_exact(size).zip(now.chunks_exact(size));
        groups.filter(|(seen, now)| is_mistaken(seen, now)).count()
    };
    before.iter().map(count).sum()
}

fn is_mistaken(seen: &[u64], now: &[u64]) -> bool {
    // The checksum beside the version and the page record are nobody's concern.
    let version = |group: &[u64]| group[VERSION_AND_CRC] as u32;
    let content = |group: &[u64]| [&group[..1], &group[2..7], &group[8..]].concat();
    version(seen) == version(now) && content(seen) != content(now)
}

#[test]
fn what_a_reader_validates_is_what_it_was() {
    for payload in [56, 504] {
        let mut random = Random(payload as u64 + 5);
        let mut store = Store::new(Setup::new(payload).pool(400, 30 + payload / 4));
        let mut model = Model::new();
        fill(&mut store, &mut model, 700);
        store.checkpoint();
        let (mut same, mut other) = (0, 0);
        for round in 0..200 {
            if round % 4 == 0 {
                // From now on the pages are read where they lie in the file.
                store.checkpoint();
                store = store.reopen();
            }
            let (epoch, before) = (store.ws.epoch.read(), pages(&store));
            for _ in 0..1 + random.below(3) {
                for _ in 0..random.below(30) {
                    change(&mut store, &mut model, &mut random, 900);
                }
                store.checkpoint_with(&mut |store| {
                    if random.below(8) == 0 {
                        change(store, &mut model, &mut random, 900);
                    }
                });
            }
            if random.below(4) == 0 {
                let from = (random.below(1 << 32) as u64) << 32;
                let sizing = [Sizing::Roomy, Sizing::Dense][random.below(2)];
                store.writer.tidy(&mut store.ws, from, sizing, Some(20)).unwrap();
            }
            if random.below(8) == 0 {
                store.writer.blocks.give_back_tail(&store.ws.epoch, 1).unwrap();
            }
            if store.ws.epoch.read() == epoch {
                assert_eq!(mistaken(&store, &before), 0, "round {round}");
                same += 1;
            } else {
                other += 1;
            }
        }
        assert!(same > 20 && other > 5, "{same} rounds without reuse, {other} with it");
        store.check(&model);
    }
}
