//! Hashes that agree in more bits than chance would have it.
//!
//! Goal: a flood of colliding keys ends in an error before anything is lost,
//! and deep directories are as right as shallow ones. Method: a hasher that
//! gives every key the same hash; and spilled entries, whose slots hold the
//! full hash, so that the test can choose it.

use crate::error::{Error, Result};
use crate::format::mutate::Random;

use super::batches::{Operation, write};
use super::harness::{Model, Setup, Store, scan};

/// A key that is spilled at every payload used here, and its value.
fn spilled(i: u64) -> (Vec<u8>, Vec<u8>) {
    let mut key = i.to_le_bytes().to_vec();
    key.resize(600, 0x55);
    (key, i.to_be_bytes().to_vec())
}

#[test]
fn keys_of_one_hash_fill_a_segment_and_then_get_an_error() {
    let mut store = Store::new(Setup::constant(504, 0xfedc_ba98_7654_3210));
    let mut model = Model::new();
    let insert = |store: &mut Store, model: &mut Model, i: u32| {
        let (key, value) = (i.to_le_bytes().to_vec(), vec![i as u8; 9]);
        store.insert(&key, &value).inspect(|()| drop(model.insert(key, value)))
    };
    let batch = |from: u32, n: u32| -> Vec<Operation> {
        (from..from + n).map(|i| (i.to_le_bytes().to_vec(), Some(vec![1; 7]))).collect()
    };
    let collide = |result: Result<()>| matches!(result, Err(Error::HashCollisions { .. }));
    // Sixteen pages of one group: seven of eight slots.
    for i in 0..90 {
        insert(&mut store, &mut model, i).unwrap();
    }
    assert!(collide(write(&mut store, &mut model, &batch(90, 23))));
    write(&mut store, &mut model, &batch(90, 20)).unwrap();
    for i in 110..112 {
        insert(&mut store, &mut model, i).unwrap();
    }
    let before = store.writer.totals;
    for i in 112..115 {
        assert!(collide(insert(&mut store, &mut model, i)));
    }
    assert_eq!(store.writer.totals, before);
    store.check(&model);
    // Overwriting goes on, and removing makes room again, any number of times.
    insert(&mut store, &mut model, 5).unwrap();
    for i in 0..300u32 {
        assert!(store.remove(&i.to_le_bytes()).unwrap());
        model.remove(&i.to_le_bytes()[..]);
        insert(&mut store, &mut model, i + 112).unwrap();
    }
    assert!(collide(insert(&mut store, &mut model, 5000)));
    store.check(&model);
}

/// Inserts hashes that agree in their first `bits` bits, each several times.
fn deep(store: &mut Store, model: &mut Model, bits: u32, count: u64, random: &mut Random) {
    for i in 0..count {
        let (key, value) = spilled(u64::from(bits) << 32 | i);
        let rest = (random.below(1 << 31) as u64) << 33 | random.below(1 << 31) as u64;
        let hash = !0 << (64 - bits) & 0xA5A5_A5A5_0000_0000 | rest >> bits;
        store.insert_hashed(hash, &key, &value).unwrap();
        model.insert(key.clone(), value);
        assert!(store.find_hashed(hash, &key).unwrap().is_some());
    }
}

#[test]
fn hashes_with_equal_top_bits_make_deep_directories() {
    let mut store = Store::new(Setup::new(504));
    let (mut model, mut random) = (Model::new(), Random(3));
    for bits in [1, 4, 8, 11, 13, 16] {
        deep(&mut store, &mut model, bits, 250, &mut random);
        store.check_entries(&model);
    }
    let (_, depth) = store.writer.table.root();
    assert!(depth >= 7, "the root has {depth} bits");
    // The whole of it survives the way to the file and back.
    store.checkpoint();
    store.check_entries(&model);
    let mut reopened = store.reopen();
    reopened.check_entries(&model);
    for bits in [2, 12, 17] {
        deep(&mut reopened, &mut model, bits, 250, &mut random);
    }
    reopened.checkpoint();
    reopened.check_entries(&model);
    reopened.reopen().check_entries(&model);
}

#[test]
fn directory_pages_split_when_their_records_do_not_fit() {
    // Evenly spread hashes: segments of all sizes, some thirty to a page.
    let mut store = Store::new(Setup::new(504));
    let mut model = Model::new();
    for i in 0..7000u64 {
        let key = i.to_le_bytes().to_vec();
        store.insert(&key, &[i as u8; 11]).unwrap();
        model.insert(key, vec![i as u8; 11]);
    }
    let totals = store.writer.totals;
    let (_, depth) = store.writer.table.root();
    assert!(totals.segments > 60 && depth >= 2, "{totals:?}, root of {depth} bits");
    store.check(&model);
    store.checkpoint();
    store.reopen().check(&model);
}

#[test]
fn the_root_doubles_over_directory_pages_that_are_not_loaded() {
    let mut store = Store::new(Setup::new(504));
    let mut model = Model::new();
    for i in 0..4000u64 {
        let key = i.to_le_bytes().to_vec();
        store.insert(&key, &[i as u8; 11]).unwrap();
        model.insert(key, vec![i as u8; 11]);
    }
    store.checkpoint();
    let mut reopened = store.reopen();
    let before = reopened.writer.table.root().1;
    // Only the pages of this one hash prefix are loaded and split.
    let mut random = Random(11);
    for bits in [10, 12, 14] {
        deep(&mut reopened, &mut model, bits, 200, &mut random);
    }
    assert!(reopened.writer.table.root().1 > before);
    reopened.checkpoint();
    reopened.check_entries(&model);
    let again = reopened.reopen();
    again.check_entries(&model);
    assert_eq!(scan(&again.writer.table, &again.log).unwrap().len(), model.len());
}
