//! Readers in threads beside a writer that does everything it can.
//!
//! Goal: no reader ever gets a value that was not written for its key, misses
//! one that is there all the time, or sees one go back. Method: values
//! describe themselves (key, version, a sum over both); some keys are never
//! removed, and their versions only grow. Segments split, merge and move. The pool is tiny, so frames, blocks
//! and lines of the directory are reused as fast as they can be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::Error;
use crate::format::mutate::Random;
use crate::table::Table;
use crate::table::scan::{Scanned, SegmentCopy};
use crate::table::shrink::Sizing;

use super::harness::{Log, Setup, Store, entry, get, get_many};

const KEYS: u64 = 1500;

fn key(i: u64) -> Vec<u8> {
    let mut key = i.to_le_bytes().to_vec();
    key.resize(if i.is_multiple_of(7) { 140 } else { 8 + (i % 20) as usize }, i as u8);
    key
}

/// A key of every four is never removed.
fn lasts(i: u64) -> bool {
    i.is_multiple_of(4)
}

fn value(i: u64, version: u64) -> Vec<u8> {
    let words = [i, version, i.wrapping_mul(31) ^ version.wrapping_mul(0x9E37_79B9_7F4A_7C15)];
    let mut value: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let length = if version.is_multiple_of(11) { 300 } else { 24 + (version % 60) as usize };
    value.resize(length, version as u8);
    value
}

/// The version in a value, which must be one of this key.
fn version(i: u64, found: &[u8]) -> u64 {
    let version = u64::from_le_bytes(found[8..16].try_into().unwrap());
    assert!(found == value(i, version), "key {i} has a value that was never written for it");
    version
}

struct Shared {
    table: Arc<Table>,
    log: Arc<Log>,
    /// The version of each lasting key that was written last.
    written: Vec<AtomicU64>,
    stop: AtomicBool,
    /// Odd while the table is being cleared and filled again.
    clearing: AtomicU64,
}

fn read(shared: &Shared, seed: u64) -> u64 {
    let mut random = Random(seed);
    let mut reads = 0;
    // Once at least, however late this thread gets its turn.
    while reads == 0 || !shared.stop.load(Ordering::Relaxed) {
        // Single lookups, few keys at once, and more than a window of them.
        let count = [1, 1, 1, 20, 300][random.below(5)];
        let keys: Vec<u64> = (0..count).map(|_| random.below(KEYS as usize) as u64).collect();
        let clearing = shared.clearing.load(Ordering::Acquire);
        let written = |i: u64| shared.written[i as usize].load(Ordering::Acquire);
        let least: Vec<u64> = keys.iter().map(|i| written(*i)).collect();
        let found = match keys[..] {
            [one] => vec![get(&shared.table, &shared.log, &key(one))],
            _ => {
                let keys: Vec<_> = keys.iter().map(|i| key(*i)).collect();
                get_many(&shared.table, &shared.log, &keys).0
            }
        };
        let calm =
            clearing.is_multiple_of(2) && shared.clearing.load(Ordering::Acquire) == clearing;
        for ((i, least), found) in keys.into_iter().zip(least).zip(found) {
            let version = found.unwrap().map(|found| version(i, &found));
            if lasts(i) && least > 0 && calm {
                assert!(version >= Some(least), "key {i}: {version:?} after {least}");
            }
            reads += 1;
        }
    }
    reads
}

fn scan(shared: &Shared) -> u64 {
    let mut copy = SegmentCopy::default();
    let mut scans = 0;
    while scans == 0 || !shared.stop.load(Ordering::Relaxed) {
        let (clears, mut from, mut seen) = (shared.table.clears(), Some(0), Vec::new());
        while let Some(hash) = from {
            match shared.table.scan_segment(hash, clears, &mut copy).unwrap() {
                Scanned::Whole(next) => from = next,
                Scanned::Busy => continue,
                Scanned::Cleared => break,
            }
            for at in 0..copy.len() {
                let (found, value) = entry(&copy, at, &shared.log).unwrap();
                let i = u64::from_le_bytes(found[..8].try_into().unwrap());
                assert_eq!(found, key(i));
                version(i, &value);
                seen.push(i);
            }
        }
        seen.sort_unstable();
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "an entry was shown twice");
        scans += from.is_none() as u64;
    }
    scans
}

/// One change; a checkpoint first if the pool has no room for it.
fn write(store: &mut Store, shared: &Shared, i: u64, version: u64, remove: bool) {
    loop {
        let outcome = match remove {
            true => store.remove(&key(i)).map(drop),
            false => store.insert(&key(i), &value(i, version)),
        };
        match outcome {
            Ok(()) if remove => return,
            Ok(()) => return shared.written[i as usize].store(version, Ordering::Release),
            Err(Error::BatchTooLarge { .. }) => store.checkpoint(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Most of what does not last goes, and the table is made small, with
/// checkpoints in between; then the end of the file is punched.
fn thin_out(store: &mut Store, shared: &Shared, round: u64) {
    for i in (0..KEYS).filter(|i| !lasts(*i)) {
        write(store, shared, i, round, true);
    }
    let sizing = if round.is_multiple_of(2000) { Sizing::Roomy } else { Sizing::Dense };
    let mut next = Some(0);
    while let Some(from) = next {
        match store.writer.tidy(&mut store.ws, from, sizing, Some(60)) {
            Ok(tidied) => next = tidied.next,
            Err(Error::BatchTooLarge { .. }) => store.checkpoint(),
            Err(error) => panic!("{error}"),
        }
    }
    store.checkpoint();
    store.writer.blocks.give_back_tail(&store.ws.epoch, 1).unwrap();
    for i in (0..KEYS).filter(|i| !lasts(*i)) {
        write(store, shared, i, round, false);
    }
}

fn run(setup: Setup, rounds: u64, clear: bool, tidy: bool) {
    let mut store = Store::new(setup);
    let shared = Shared {
        table: store.writer.table.clone(),
        log: store.log.clone(),
        written: (0..KEYS).map(|_| AtomicU64::new(0)).collect(),
        stop: AtomicBool::new(false),
        clearing: AtomicU64::new(0),
    };
    let shared = &shared;
    std::thread::scope(|scope| {
        let mut readers: Vec<_> =
            (1..4).map(|seed| scope.spawn(move || read(shared, seed))).collect();
        readers.push(scope.spawn(move || scan(shared)));
        let stop = Stop(shared);
        let mut random = Random(99);
        for round in 1..=rounds {
            let i = random.below(KEYS as usize) as u64;
            let remove = !lasts(i) && random.below(2) == 0;
            write(&mut store, shared, i, round, remove);
            if round.is_multiple_of(400) {
                let mut extra = round;
                store.checkpoint_with(&mut |store| {
                    extra += 1;
                    let i = (extra * 7) % KEYS / 4 * 4;
                    if store.insert(&key(i), &value(i, round)).is_ok() {
                        shared.written[i as usize].fetch_max(round, Ordering::Release);
                    }
                });
            }
            if tidy && round.is_multiple_of(1000) {
                thin_out(&mut store, shared, round);
            }
            if clear && round.is_multiple_of(3000) {
                shared.clearing.fetch_add(1, Ordering::AcqRel);
                shared.written.iter().for_each(|version| version.store(0, Ordering::Release));
                store.checkpoint();
                store.writer.clear(&mut store.ws, [round, 1]).unwrap();
                shared.clearing.fetch_add(1, Ordering::AcqRel);
            }
        }
        drop(stop);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    store.check_segments();
    store.check_blocks();
    store.checkpoint();
    store.check_blocks();
}

/// Ends the readers, also when the writer panics.
struct Stop<'a>(&'a Shared);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

#[test]
fn readers_see_only_what_was_written_in_a_tiny_pool() {
    run(Setup::new(128).pool(96, 40), 12_000, false, false);
}

#[test]
fn readers_see_only_what_was_written_in_large_slots() {
    run(Setup::new(504).pool(320, 100), 7_000, false, false);
}

#[test]
fn readers_see_only_what_was_written_across_clears() {
    run(Setup::new(56).pool(96, 30), 12_000, true, false);
}

#[test]
fn readers_see_only_what_was_written_while_segments_merge() {
    run(Setup::new(128).pool(160, 60), 8_000, false, true);
    run(Setup::new(504).pool(400, 200), 4_000, false, true);
}
