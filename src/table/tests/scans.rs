//! Scans that writers come between.
//!
//! Goal: an entry that is there all the time is shown exactly once, whatever
//! grows, splits, merges and is written meanwhile; no entry is shown twice. Method:
//! changes between any two segments, then in a thread during the copying.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::format::mutate::Random;
use crate::table::scan::{Scanned, SegmentCopy};
use crate::table::shrink::Sizing::{Dense, Roomy};

use super::harness::{Model, Setup, Store, change, entry, key};

/// Scans with `between` after each segment; how often each key was shown.
fn scan_with(store: &mut Store, between: &mut dyn FnMut(&mut Store)) -> HashMap<Vec<u8>, usize> {
    let clears = store.writer.table.clears();
    let (mut shown, mut from) = (HashMap::new(), Some(0));
    let mut copy = SegmentCopy::default();
    while let Some(hash) = from {
        let scanned = store.writer.table.scan_segment(hash, clears, &mut copy).unwrap();
        let Scanned::Whole(next) = scanned else { panic!("nobody is in the way") };
        from = next;
        for i in 0..copy.len() {
            let (key, _) = entry(&copy, i, &store.log).unwrap();
            *shown.entry(key).or_insert(0) += 1;
        }
        between(store);
    }
    shown
}

#[test]
fn entries_are_shown_once_while_segments_grow_and_split() {
    // With few segments a scan has few steps, and each has to insert more.
    for (payload, more) in [(24, 1000), (504, 200)] {
        let mut store = Store::new(Setup::new(payload));
        for i in 0..1500 {
            store.insert(&key(i, payload), b"from the start").unwrap();
        }
        let segments = store.writer.totals.segments;
        let mut next = 1500;
        let shown = scan_with(&mut store, &mut |store| {
            for _ in 0..more {
                store.insert(&key(next, payload), b"later").unwrap();
                next += 1;
            }
        });
        assert!(store.writer.totals.segments > segments);
        for i in 0..1500 {
            assert_eq!(shown.get(&key(i, payload)), Some(&1), "key {i}");
        }
        assert!(shown.values().all(|times| *times == 1));
    }
}

#[test]
fn entries_are_shown_once_while_segments_merge_and_split_again() {
    for payload in [24, 56, 504] {
        for sizing in [Roomy, Dense] {
            let mut random = Random(payload as u64);
            let mut store = Store::new(Setup::new(payload));
            for i in 0..4000 {
                store.insert(&key(i, payload), b"from the start").unwrap();
            }
            let lasting = |i: usize| i.is_multiple_of(10);
            (0..4000).filter(|i| !lasting(*i)).for_each(|i| {
                store.remove(&key(i, payload)).unwrap();
            });
            let (mut steps, mut least) = (0, store.writer.totals.segments);
            let shown = scan_with(&mut store, &mut |store| {
                // Around the place of the scan, and anywhere else.
                for _ in 0..40 {
                    let from = (random.below(1 << 32) as u64) << 32;
                    let tidied = store.writer.tidy(&mut store.ws, from, sizing, None).unwrap();
                    steps += usize::from(tidied.pages > 0);
                }
                least = least.min(store.writer.totals.segments);
                if random.below(4) == 0 {
                    for i in (0..4000).filter(|i| i % 10 == random.below(9) + 1) {
                        store.insert(&key(i, payload), b"back again").unwrap();
                    }
                }
            });
            assert!(steps > 0, "{payload}");
            store.check_segments();
            for i in (0..4000).filter(|i| lasting(*i)) {
                assert_eq!(shown.get(&key(i, payload)), Some(&1), "key {i}");
            }
            assert!(shown.values().all(|times| *times == 1));
        }
    }
}

#[test]
fn a_scan_goes_on_across_checkpoints_and_evictions() {
    let mut random = Random(3);
    let mut store = Store::new(Setup::new(128).pool(120, 30));
    let mut model = Model::new();
    for _ in 0..1000 {
        change(&mut store, &mut model, &mut random, 1000);
    }
    let mut lasting = model.clone();
    let shown = scan_with(&mut store, &mut |store| {
        for _ in 0..20 {
            change(store, &mut model, &mut random, 1000);
        }
        lasting.retain(|key, _| model.contains_key(key));
        store.checkpoint();
    });
    assert!(shown.values().all(|times| *times == 1));
    assert!(lasting.keys().all(|key| shown.contains_key(key)));
}

#[test]
fn an_entry_that_is_removed_and_inserted_again_is_shown_at_most_once() {
    // In a long chain of groups, an entry that comes back takes another slot
    // than the one it left, before or behind the place of the copying.
    let mut store = Store::new(Setup::constant(56, 1 << 40));
    for i in 0..600u32 {
        store.insert(&i.to_le_bytes(), b"v").unwrap();
    }
    let table = store.writer.table.clone();
    let stop = AtomicBool::new(false);
    let copies = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut copy, mut copies) = (SegmentCopy::default(), 0);
            let clears = table.clears();
            while !stop.load(Ordering::Relaxed) {
                if table.scan_segment(1 << 40, clears, &mut copy).unwrap() == Scanned::Busy {
                    continue;
                }
                copies += 1;
                let mut keys: Vec<_> =
                    (0..copy.len()).map(|i| copy.get(i).unwrap().key().unwrap()).collect();
                keys.sort_unstable();
                let twice = keys.windows(2).find(|pair| pair[0] == pair[1]);
                assert_eq!(twice, None, "an entry was shown twice");
                // Two are away at a time at most.
                assert!(keys.len() >= 598, "{} entries", keys.len());
            }
            copies
        });
        let mut random = Random(5);
        for _ in 0..2500 {
            let (a, b) = (random.below(600) as u32, random.below(600) as u32);
            store.remove(&a.to_le_bytes()).unwrap();
            store.remove(&b.to_le_bytes()).unwrap();
            store.insert(&a.to_le_bytes(), b"v").unwrap();
            store.insert(&b.to_le_bytes(), b"v").unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(copies > 0 || cfg!(miri));
}
