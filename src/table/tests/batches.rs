//! Batches: prepared as a whole, then applied as a whole without an error.
//!
//! Goal: after `prepare_batch` nothing of the batch can fail, whatever it has:
//! many entries for one segment, the same key several times, removes and
//! inserts mixed; and then the table holds what the changes, one after the
//! other, would leave. Method: no room is left on the device once it has
//! returned, and a model.

use std::sync::atomic::Ordering;

use crate::error::Error;
use crate::format::mutate::Random;
use crate::storage::File;
use crate::table::batch::{Entries, Entry, Steps};
use crate::table::write::spilled_part;

use super::harness::{Model, Setup, Store, change, key, value};

/// A key of a batch with its value; a remove has none.
pub(super) type Operation = (Vec<u8>, Option<Vec<u8>>);

/// The operations of a batch, as the writer asks for them.
pub(super) struct Operations<'a>(pub(super) &'a [Operation]);

impl Entries for Operations<'_> {
    fn key(&self, change: u32) -> &[u8] {
        &self.0[change as usize].0
    }
    fn is_insert(&self, change: u32) -> bool {
        self.0[change as usize].1.is_some()
    }
}

/// The steps of a batch, sorted.
pub(super) fn steps(store: &Store, batch: &[Operation]) -> Steps {
    let mut steps = Steps::default();
    for (i, (key, _)) in batch.iter().enumerate() {
        steps.push(store.writer.table.id, store.writer.hash(key), i as u32);
    }
    steps.sort(&Operations(batch));
    steps
}

/// Takes a batch as far as a record would be written now.
pub(super) fn prepare(store: &mut Store, batch: &[Operation]) -> crate::error::Result<Steps> {
    let (mut steps, log) = (steps(store, batch), store.log.clone());
    for steps in steps.tables_mut() {
        store.writer.prepare_batch(&mut store.ws, steps, &Operations(batch), &*log)?;
    }
    Ok(steps)
}

/// Prepares a batch and applies it, on a device that is full and does not
/// answer by then.
pub(super) fn write(
    store: &mut Store,
    model: &mut Model,
    batch: &[Operation],
) -> crate::error::Result<()> {
    let (steps, log) = (prepare(store, batch)?, store.log.clone());
    store.set_full(true);
    store.file.unreadable.store(true, Ordering::Relaxed);
    let geometry = store.writer.table.geometry;
    for steps in steps.tables() {
        store.writer.apply_batch(steps, |step| {
            let (key, value) = &batch[step.change as usize];
            let value = value.as_deref().expect("an entry is asked for where one is inserted");
            let shape = geometry.shape(key.len(), value.len());
            let lengths = geometry.lengths(key.len(), value.len());
            let spilled = spilled_part(shape, key.len(), value.len());
            let whole = [key, value].concat();
            let put = |(at, length)| log.append(step.hash, &whole[at..at + length]);
            Entry { lengths, key, value, address: spilled.map(put) }
        });
        store.writer.assert_applied(steps);
    }
    for (key, value) in batch {
        match value {
            Some(value) => drop(model.insert(key.clone(), value.clone())),
            None => drop(model.remove(key)),
        }
    }
    store.set_full(false);
    store.file.unreadable.store(false, Ordering::Relaxed);
    assert_eq!(store.writer.table.len(), model.len() as u64);
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

#[test]
fn a_remove_leaves_a_tombstone_where_the_batch_fills_the_group() {
    // All keys have the same way. The first group has one empty slot, which the
    // first new key gets; the second one goes on to the next group, past what
    // the batch removes.
    for removed in 0..7u8 {
        let mut store = Store::new(Setup::constant(56, 0x0123_4567_89ab_cdef));
        let mut model = Model::new();
        let insert = |i: u8| -> Operation { (vec![i; 4], Some(vec![i; 9])) };
        write(&mut store, &mut model, &(0..7).map(insert).collect::<Vec<_>>()).unwrap();
        for round in 0..5 {
            let new = 10 + 2 * round;
            let remove = if round == 0 { removed } else { new - 1 };
            let mut batch = vec![insert(new), (vec![remove; 4], None), insert(new + 1)];
            batch.rotate_left(usize::from(removed) % 3);
            write(&mut store, &mut model, &batch).unwrap();
            store.check(&model);
        }
    }
}

#[test]
fn of_many_changes_of_keys_with_one_hash_the_last_of_each_wins() {
    // Few and many of them: they are sorted in different ways.
    for count in [3, 10, 63, 64, 500] {
        let mut random = Random(count as u64);
        let mut store = Store::new(Setup::constant(56, u64::MAX - 5));
        let mut model = Model::new();
        for round in 0..6u8 {
            let operation = |random: &mut Random| {
                let key = vec![random.below(20) as u8; 1 + random.below(3)];
                (key, (random.below(4) > 0).then(|| vec![round; random.below(70)]))
            };
            let batch: Vec<Operation> = (0..count).map(|_| operation(&mut random)).collect();
            write(&mut store, &mut model, &batch).unwrap();
            store.check(&model);
        }
    }
}

#[test]
fn steps_are_sorted_however_the_hashes_lie() {
    let mut random = Random(5);
    let bits = |random: &mut Random| {
        let half = |random: &mut Random| random.below(1 << 32) as u64;
        half(random) << 32 | half(random)
    };
    for count in [0u32, 1, 2, 63, 64, 65, 1000, 40_000] {
        for spread in [64, 40, 12, 3] {
            let none: Vec<Operation> = vec![(Vec::new(), None); count as usize];
            let mut hashes: Vec<(u64, u32)> =
                (0..count).map(|i| (bits(&mut random) << (64 - spread), i)).collect();
            let mut steps = Steps::default();
            for (hash, i) in &hashes {
                steps.push(7, *hash, *i);
            }
            steps.sort(&Operations(&none));
            hashes.sort_unstable();
            let sorted = steps.tables().flatten().map(|step| (step.hash, step.change));
            assert!(sorted.eq(hashes), "{count} hashes of {spread} bits");
        }
    }
}

#[test]
fn a_batch_that_is_refused_on_a_full_device_leaves_the_table_as_it_was() {
    let mut random = Random(91);
    let mut store = Store::new(Setup::new(504));
    let mut model = Model::new();
    for _ in 0..800 {
        change(&mut store, &mut model, &mut random, 500);
    }
    store.checkpoint();
    for room in [4096, 1 << 20] {
        let batch: Vec<Operation> =
            (0..400).map(|i| (key(i + room as usize, 504), Some(vec![5; 99]))).collect();
        store.file.room.store(store.file.length().unwrap().min(room), Ordering::Relaxed);
        let error = write(&mut store, &mut model, &batch).unwrap_err();
        assert!(error.is_full(), "{error}");
        store.check(&model);
        store.set_full(false);
        write(&mut store, &mut model, &batch).unwrap();
        store.check(&model);
        store.checkpoint();
    }
}
