//! Batches: prepared as a whole, then applied one by one without an error.
//!
//! Goal: after `prepare_batch` no entry of the batch can fail, whatever the
//! entries are: many for one segment, the same key several times, removes and
//! inserts mixed. Method: no room is left on the device once it has returned.

use std::sync::atomic::Ordering;

use crate::error::Error;
use crate::format::mutate::Random;

use super::harness::{Model, Setup, Store, change, key, value};

/// A key of a batch with its value; a remove has none.
pub(super) type Operation = (Vec<u8>, Option<Vec<u8>>);

/// Prepares a batch and applies it, on a device that is full and does not
/// answer by then.
pub(super) fn write(
    store: &mut Store,
    model: &mut Model,
    batch: &[Operation],
) -> crate::error::Result<()> {
    let hashes: Vec<u64> = batch.iter().map(|(key, _)| store.writer.hash(key)).collect();
    let intents: Vec<_> = batch
        .iter()
        .zip(&hashes)
        .map(|((key, value), hash)| (*hash, &key[..], value.is_some()))
        .collect();
    store.writer.prepare_batch(&mut store.ws, &intents, &*store.log)?;
    store.set_full(true);
    store.file.unreadable.store(true, Ordering::Relaxed);
    for (key, value) in batch {
        match value {
            Some(value) => {
                store.insert(key, value).expect("it was prepared");
                model.insert(key.clone(), value.clone());
            }
            None => {
                let was = store.remove(key).expect("it was prepared");
                assert_eq!(was, model.remove(key).is_some());
            }
        }
    }
    store.set_full(false);
    store.file.unreadable.store(false, Ordering::Relaxed);
    Ok(())
}

#[test]
fn random_batches_cannot_fail_once_they_are_prepared() {
    for payload in [24, 56, 504] {
        let mut random = Random(payload as u64 + 77);
        let mut store = Store::new(Setup::new(payload));
        let mut model = Model::new();
        for round in 0..60 {
            let operation = |random: &mut Random| {
                let key = key(random.below(1500), payload);
                let insert = random.below(3) > 0;
                (key, insert.then(|| value(random, payload)))
            };
            let count = 1 + random.below(120);
            let batch: Vec<_> = (0..count).map(|_| operation(&mut random)).collect();
            write(&mut store, &mut model, &batch).unwrap();
            if round % 7 == 0 {
                store.checkpoint();
            }
            if round % 10 == 0 {
                store.check(&model);
            }
        }
        store.check(&model);
        store.checkpoint();
        store.reopen().check(&model);
    }
}

#[test]
fn a_batch_for_a_new_table_makes_all_the_room_it_needs() {
    for payload in [24, 504] {
        let mut store = Store::new(Setup::new(payload));
        let mut model = Model::new();
        let batch: Vec<_> = (0..3000).map(|i| (key(i, payload), Some(vec![i as u8; 5]))).collect();
        write(&mut store, &mut model, &batch).unwrap();
        store.check(&model);
        let batch: Vec<_> = (0..3000).map(|i| (key(i, payload), None)).collect();
        write(&mut store, &mut model, &batch).unwrap();
        store.check(&model);
    }
}

#[test]
fn a_batch_may_name_a_key_many_times() {
    let mut store = Store::new(Setup::new(56));
    let mut model = Model::new();
    let mut batch: Vec<Operation> = Vec::new();
    for round in 0..30u8 {
        for i in 0..20u8 {
            batch.push((vec![i; 5], Some(vec![round; 10])));
            if (round + i) % 3 == 0 {
                batch.push((vec![i; 5], None));
                batch.push((vec![i; 5], None));
            }
        }
    }
    write(&mut store, &mut model, &batch).unwrap();
    store.check(&model);
}

#[test]
fn a_batch_during_a_checkpoint_finds_its_frames_and_blocks() {
    let mut random = Random(83);
    let mut store = Store::new(Setup::new(128));
    let mut model = Model::new();
    for _ in 0..1500 {
        change(&mut store, &mut model, &mut random, 1500);
    }
    for _ in 0..3 {
        let frozen = model.clone();
        store.checkpoint_with(&mut |store| {
            let batch: Vec<_> = (0..100)
                .map(|_| (key(random.below(2000), 128), (random.below(2) > 0).then(|| vec![3; 9])))
                .collect();
            write(store, &mut model, &batch).unwrap();
        });
        store.check(&model);
        store.reopen().check(&frozen);
    }
}

#[test]
fn a_batch_beyond_the_pool_is_refused_and_changes_nothing() {
    let mut store = Store::new(Setup::new(504).pool(60, 60));
    let mut model = Model::new();
    let batch =
        |n: usize| -> Vec<Operation> { (0..n).map(|i| (key(i, 504), Some(vec![1; 7]))).collect() };
    write(&mut store, &mut model, &batch(50)).unwrap();
    store.check(&model);
    let error = write(&mut store, &mut model, &batch(5000)).unwrap_err();
    assert!(matches!(error, Error::BatchTooLarge { .. }), "{error}");
    store.check(&model);
    store.checkpoint();
    store.check(&model);
    write(&mut store, &mut model, &batch(60)).unwrap();
    store.check(&model);
}

#[test]
fn a_batch_in_a_pool_of_clean_frames_does_not_evict_what_it_needs() {
    let mut random = Random(89);
    let mut store = Store::new(Setup::new(504).pool(200, 90));
    let mut model = Model::new();
    for round in 0..40 {
        for _ in 0..3 {
            let batch: Vec<_> = (0..20 + round % 20)
                .map(|_| (key(random.below(900), 504), (random.below(4) > 0).then(|| vec![3; 9])))
                .collect();
            write(&mut store, &mut model, &batch).unwrap();
        }
        store.checkpoint();
    }
    store.check(&model);
}
