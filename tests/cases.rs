//! What every Swiss table has to get right: the cases that Go's runtime maps
//! and cockroachdb/swiss are tested with, put through the public interface.
//!
//! Each test runs small slots (many entries in a segment, so segments are
//! rebuilt and grown) or the largest ones (eight entries in a page, so
//! segments split and the directory doubles after a few hundred entries).

use std::collections::HashMap;

use swissdb::{HashKind, Options};

use crate::support::{Model, Random, TestStore, assert_holds, key, table_stats, value};

/// Slots of the largest size: a segment splits beyond 128 slots.
fn large_slots() -> Options {
    Options::new().payload(504)
}

/// The stores that most cases are run on.
fn stores() -> Vec<TestStore> {
    vec![
        TestStore::in_memory(Options::new()),
        TestStore::in_memory(Options::new().payload(24)),
        TestStore::in_memory(large_slots().hash(HashKind::Fast)),
        TestStore::on_disk(large_slots()),
    ]
}

/// The model of the entries that [`fill`] makes.
fn filled(count: u64) -> Model {
    (0..count).map(|i| (key(i), value(i, 8))).collect()
}

/// Inserts `count` entries.
fn fill(store: &TestStore, count: u64) {
    for i in 0..count {
        store.insert(key(i), value(i, 8)).expect("insert");
    }
}

#[test]
fn a_new_store_is_empty() {
    for store in stores() {
        assert!(store.is_empty());
        for i in 0..10 {
            assert!(store.get(key(i)).expect("get").is_none());
            assert!(!store.remove(key(i)).expect("remove"));
        }
        assert_holds(&store, &Model::new());
    }
}

#[test]
fn insert_update_and_remove_are_seen_at_once() {
    for store in stores() {
        let mut model = Model::new();
        for i in 0..10 {
            store.insert(key(i), value(i, 8)).expect("insert");
            model.insert(key(i), value(i, 8));
            assert_holds(&store, &model);
        }
        for i in 0..10 {
            store.insert(key(i), value(i + 100, 8)).expect("insert");
            model.insert(key(i), value(i + 100, 8));
            assert_holds(&store, &model);
        }
        for i in 0..10 {
            assert!(store.remove(key(i)).expect("remove"));
            assert!(!store.remove(key(i)).expect("remove"), "it is gone");
            model.remove(&key(i));
            assert_holds(&store, &model);
        }
    }
}

#[test]
fn all_entries_are_found_at_every_step_of_growth() {
    for store in stores() {
        let mut next_check = 1;
        for i in 0..3_000 {
            store.insert(key(i), value(i, 8)).expect("insert");
            assert_eq!(store.len(), i + 1);
            if i == next_check {
                next_check += next_check / 2 + 1;
                for j in 0..=i {
                    let found = store.get(key(j)).expect("get");
                    assert_eq!(found.as_deref(), Some(&value(j, 8)[..]), "after {i}");
                }
                assert!(!store.contains_key(key(i + 1)).expect("contains_key"));
            }
        }
        assert_holds(&store, &filled(3_000));
    }
}

#[test]
fn segments_split_and_the_directory_doubles() {
    let store = TestStore::in_memory(large_slots());
    fill(&store, 6_000);
    let stats = table_stats(&store);
    assert!(stats.segments > 32, "{} segments", stats.segments);
    assert!(stats.capacity >= 6_000);
    assert_holds(&store, &filled(6_000));
}

#[test]
fn removed_entries_are_gone_and_the_others_stay() {
    for store in stores() {
        fill(&store, 2_000);
        let mut model = filled(2_000);
        for i in (0..2_000).filter(|i| i % 3 != 0) {
            assert!(store.remove(key(i)).expect("remove"));
            model.remove(&key(i));
        }
        assert_holds(&store, &model);
        for i in (0..2_000).filter(|i| i % 3 == 0) {
            assert!(store.remove(key(i)).expect("remove"));
        }
        assert_holds(&store, &Model::new());
    }
}

#[test]
fn a_removed_entry_is_gone_after_a_second_filling() {
    // Removed entries may lie on as remains that keep probes going; filling
    // the slots again must not bring one of them back.
    for store in stores() {
        fill(&store, 500);
        for i in 0..500 {
            store.remove(key(i)).expect("remove");
        }
        for i in 1_000..1_500 {
            store.insert(key(i), value(i, 8)).expect("insert");
        }
        let model = (1_000..1_500).map(|i| (key(i), value(i, 8))).collect();
        assert_holds(&store, &model);
        assert!((0..500).all(|i| !store.contains_key(key(i)).expect("contains_key")));
    }
}

#[test]
fn clear_leaves_an_empty_store_that_can_be_filled_again() {
    for store in stores() {
        store.clear().expect("clear of an empty store");
        for round in 0..3 {
            fill(&store, 700);
            assert_holds(&store, &filled(700));
            store.clear().expect("clear");
            assert_holds(&store, &Model::new());
            assert!(!store.remove(key(round)).expect("remove"));
        }
        let stats = table_stats(&store);
        assert!(stats.capacity < 500, "capacity {} after clear", stats.capacity);
    }
}

#[test]
fn overwriting_takes_no_other_slot() {
    for store in stores() {
        fill(&store, 1_000);
        let before = table_stats(&store);
        for i in 0..1_000 {
            store.insert(key(i), value(i + 7, 8)).expect("insert");
        }
        let after = table_stats(&store);
        assert_eq!(after.growth_left, before.growth_left);
        assert_eq!(after.capacity, before.capacity);
        assert_eq!(after.entries, before.entries);
        let model = (0..1_000).map(|i| (key(i), value(i + 7, 8))).collect();
        assert_holds(&store, &model);
    }
}

#[test]
fn a_deleted_slot_is_used_again_before_an_empty_one() {
    for store in stores() {
        fill(&store, 1_000);
        for i in 0..1_000 {
            let before = table_stats(&store);
            assert!(store.remove(key(i)).expect("remove"));
            store.insert(key(i), value(i, 8)).expect("insert");
            let after = table_stats(&store);
            assert_eq!(after.growth_left, before.growth_left, "entry {i}");
            assert_eq!(after.capacity, before.capacity, "entry {i}");
        }
        assert_holds(&store, &filled(1_000));
    }
}

/// Removes a random entry and inserts a new one, `rounds` times, and fails if
/// that takes more slots.
fn churn(store: &TestStore, rounds: u64, seed: u64) {
    let mut random = Random::new(seed);
    let mut present: Vec<u64> = (0..store.len()).collect();
    let before = table_stats(store);
    for round in 0..rounds {
        let at = random.below(present.len() as u64) as usize;
        assert!(store.remove(key(present[at])).expect("remove"));
        present[at] = before.entries + round;
        store.insert(key(present[at]), value(present[at], 8)).expect("insert");
    }
    let after = table_stats(store);
    assert_eq!(after.capacity, before.capacity, "capacity after {rounds} rounds");
    assert_eq!(after.segments, before.segments);
    assert_eq!(after.entries, before.entries);
    let model = present.iter().map(|&i| (key(i), value(i, 8))).collect();
    assert_holds(store, &model);
}

/// Fills a store up to 74 % of the slots it has once there are `slots` of them.
fn fill_to_74_percent(store: &TestStore, slots: u64) {
    for i in 0.. {
        let stats = table_stats(store);
        if stats.capacity >= slots && (stats.entries + 1) * 100 > stats.capacity * 74 {
            assert_eq!(stats.segments, 1, "one segment has these slots");
            return;
        }
        store.insert(key(i), value(i, 8)).expect("insert");
    }
}

#[test]
fn a_million_operations_at_74_percent_load_do_not_grow_the_store() {
    // At 74 % the live entries are below three quarters of the slots, so a
    // segment full of tombstones is rebuilt at its size, never grown.
    let store = TestStore::in_memory(large_slots().write_buffer(4 << 20));
    fill_to_74_percent(&store, 8);
    churn(&store, 500_000, 1);
}

#[test]
fn churn_at_74_percent_load_does_not_grow_larger_segments() {
    for (payload, slots) in [(24, 128), (56, 128), (56, 600)] {
        let store = TestStore::in_memory(Options::new().payload(payload));
        fill_to_74_percent(&store, slots);
        churn(&store, 10_000, slots);
    }
}

#[test]
fn churn_at_low_load_does_not_grow_the_store() {
    for share in [8, 2] {
        let store = TestStore::in_memory(Options::new());
        fill(&store, 300);
        let capacity = table_stats(&store).capacity;
        let mut random = Random::new(share);
        // Live entries between none and a share of the slots.
        for round in 0..10_000 {
            if store.len() > capacity / share || random.one_in(3) {
                store.remove(key(random.below(1_000))).expect("remove");
            } else {
                store.insert(key(random.below(1_000)), value(round, 8)).expect("insert");
            }
        }
        let after = table_stats(&store).capacity;
        assert!(after <= capacity, "from {capacity} to {after} slots");
    }
}

#[test]
fn ten_thousand_random_operations_agree_with_a_map() {
    for (number, store) in stores().into_iter().enumerate() {
        let mut random = Random::new(1_000 + number as u64);
        let mut model = HashMap::new();
        for _ in 0..10_000 {
            let i = random.below(1_500);
            match random.below(100) {
                0..60 => {
                    let bytes = value(random.next(), 8);
                    store.insert(key(i), &bytes).expect("insert");
                    model.insert(key(i), bytes);
                }
                60..80 => {
                    let removed = store.remove(key(i)).expect("remove");
                    assert_eq!(removed, model.remove(&key(i)).is_some());
                }
                80 if i < 100 => {
                    assert_holds(&store, &model.clone().into_iter().collect());
                }
                _ => {
                    let found = store.get(key(i)).expect("get").map(|found| found.into_vec());
                    assert_eq!(found.as_ref(), model.get(&key(i)));
                }
            }
            assert_eq!(store.len(), model.len() as u64);
        }
        assert_holds(&store, &model.into_iter().collect());
    }
}

#[test]
fn keys_that_differ_in_one_bit_are_different() {
    let store = TestStore::in_memory(Options::new());
    let mut model = Model::new();
    for base in [vec![0; 8], vec![255; 9], vec![b'a'; 17]] {
        for bit in 0..base.len() * 8 {
            let mut key = base.clone();
            key[bit / 8] ^= 1 << (bit % 8);
            store.insert(&key, bit.to_le_bytes()).expect("insert");
            model.insert(key, bit.to_le_bytes().to_vec());
        }
    }
    // A key and the same key with zeros behind it are different, too.
    for length in 0..40 {
        store.insert(vec![0; length], "zeros").expect("insert");
        model.insert(vec![0; length], b"zeros".to_vec());
    }
    assert_holds(&store, &model);
}

#[test]
fn both_hash_kinds_and_handles_share_one_store() {
    for hash in [HashKind::Sip, HashKind::Fast] {
        let store = TestStore::in_memory(Options::new().hash(hash));
        let other = (*store).clone();
        store.insert("from one", "1").expect("insert");
        other.insert("from the other", "2").expect("insert");
        assert_eq!(other.get("from one").expect("get").as_deref(), Some(&b"1"[..]));
        assert_eq!(store.get("from the other").expect("get").as_deref(), Some(&b"2"[..]));
        assert_eq!(other.len(), 2);
        drop(other);
        assert_eq!(store.len(), 2);
    }
}
