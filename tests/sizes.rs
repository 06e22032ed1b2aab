//! Keys and values of every size: inline, spilled each on its own, and both.
//!
//! A slot of payload P holds key and value inline up to P bytes together; a
//! value spills when only the key and an address of 24 bytes fit; else the key
//! spills. The tests walk along these boundaries for all payloads there are,
//! and let overwriting cross them in every direction.

use swissdb::Options;

use crate::support::{Model, TestStore, assert_holds, table_stats, value};

/// Every payload that a table may have.
fn payloads() -> impl Iterator<Item = usize> {
    (24..=504).step_by(8)
}

/// Lengths at and beside the boundaries of a payload.
fn lengths(payload: usize) -> Vec<usize> {
    let mut lengths = vec![0, 1, 8, 23, 24, 25];
    for boundary in [payload - 24, payload - 8, payload] {
        lengths.extend([boundary.saturating_sub(1), boundary, boundary + 1]);
    }
    lengths.sort_unstable();
    lengths.dedup();
    lengths
}

/// A key of this length that differs from those of other lengths and numbers
/// where it has room for that.
fn sized_key(number: usize, length: usize) -> Vec<u8> {
    value((number * 1_000 + length) as u64, length)
}

#[test]
fn entries_of_every_size_around_every_payload_are_kept() {
    for payload in payloads() {
        let mut store = TestStore::in_memory(Options::new().payload(payload));
        let mut model = Model::new();
        for (number, key_length) in lengths(payload).into_iter().enumerate() {
            let mut value_lengths = lengths(payload);
            // Key and value together at the boundary.
            let rest = payload.saturating_sub(key_length);
            value_lengths.extend([rest.saturating_sub(1), rest, rest + 1]);
            for (other, value_length) in value_lengths.into_iter().enumerate() {
                let key = sized_key(100 * number + other, key_length);
                let bytes = value(key_length as u64, value_length);
                store.insert(&key, &bytes).expect("insert");
                model.insert(key, bytes);
            }
        }
        assert_holds(&store, &model);
        store.kill();
        assert_holds(&store, &model);
        store.reopen();
        assert_holds(&store, &model);
    }
}

#[test]
fn overwriting_changes_the_size_in_every_direction() {
    for payload in [24, 56, 104, 504] {
        let mut store = TestStore::in_memory(Options::new().payload(payload));
        let mut model = Model::new();
        let mut sizes = lengths(payload);
        sizes.extend([129, 4_000]);
        let keys = [0, 8, payload - 24, payload - 8, payload + 1, 600];
        for key_length in keys {
            let key = sized_key(0, key_length);
            for &from in &sizes {
                for &to in &sizes {
                    for length in [from, to] {
                        let bytes = value((from * 7 + to) as u64, length);
                        store.insert(&key, &bytes).expect("insert");
                        let found = store.get(&key).expect("get");
                        assert_eq!(found.as_deref(), Some(&bytes[..]), "{from} to {to}");
                        model.insert(key.clone(), bytes);
                    }
                }
            }
        }
        assert_holds(&store, &model);
        store.kill();
        assert_holds(&store, &model);
    }
}

#[test]
fn values_around_every_step_of_the_log_are_read_in_every_way() {
    // The buffer of a record, where bytes go past it, the pieces of a long one, a file of its own.
    let steps = [2_048, 4_096, 128 << 10, 1 << 20];
    let beside = |step: usize| [step - 60, step - 52, step - 1, step, step + 1, step + 8];
    let lengths: Vec<usize> =
        [0, 1].into_iter().chain(steps.into_iter().flat_map(beside)).collect();
    for payload in [24, 56, 120, 128, 136, 504] {
        let mut store = TestStore::on_disk(Options::new().payload(payload));
        let entry = |length: &usize| (sized_key(1, 16), value(*length as u64, *length));
        let key_of = |length: usize| [&entry(&length).0[..8], &length.to_le_bytes()].concat();
        let model: Model = lengths.iter().map(|n| (key_of(*n), entry(n).1)).collect();
        for (key, bytes) in &model {
            store.insert(key, bytes).expect("insert");
        }
        for _ in 0..2 {
            let keys: Vec<&Vec<u8>> = model.keys().collect();
            let many = store.multi_get(&keys).expect("multi_get");
            for ((key, bytes), of_many) in model.iter().zip(many) {
                let lent = store.get_with(key, |lent| lent == bytes).expect("get_with");
                assert_eq!(lent, Some(true), "{} bytes lent", bytes.len());
                let own = store.get(key).expect("get").expect("it is there");
                assert!(own == *bytes, "{} bytes copied", bytes.len());
                assert!(of_many.expect("it is there") == *bytes, "{} of many", bytes.len());
            }
            store.reopen();
        }
    }
}

#[test]
fn empty_keys_and_values_are_entries_like_others() {
    for payload in [24, 56, 504] {
        let mut store = TestStore::on_disk(Options::new().payload(payload));
        store.insert("", "").expect("insert");
        store.insert("k", "").expect("insert");
        assert_eq!(store.get("").expect("get").as_deref(), Some(&b""[..]));
        assert_eq!(store.get("k").expect("get").as_deref(), Some(&b""[..]));
        assert_eq!(store.len(), 2);
        store.reopen();
        assert!(store.contains_key("").expect("contains_key"));
        assert!(store.remove("").expect("remove"));
        assert!(!store.contains_key("").expect("contains_key"));
        store.insert("", vec![7; 10_000]).expect("insert");
        store.kill();
        let model = Model::from([(vec![], vec![7; 10_000]), (b"k".to_vec(), vec![])]);
        assert_holds(&store, &model);
    }
}

#[test]
fn spilled_keys_and_values_survive_growth_and_removal() {
    // 129 bytes and more: what Go's maps keep behind a pointer.
    let mut store = TestStore::on_disk(Options::new().max_log_file(1 << 20));
    let mut model = Model::new();
    for i in 0..600 {
        let key = sized_key(i, 129 + i % 5);
        let bytes = value(i as u64, 129 + i % 700);
        store.insert(&key, &bytes).expect("insert");
        model.insert(key, bytes);
    }
    assert_holds(&store, &model);
    let gone: Vec<_> = model.keys().step_by(2).cloned().collect();
    for key in gone {
        assert!(store.remove(&key).expect("remove"));
        assert!(!store.contains_key(&key).expect("contains_key"));
        model.remove(&key);
    }
    assert_holds(&store, &model);
    store.kill();
    assert_holds(&store, &model);
    store.checkpoint().expect("checkpoint");
    store.kill();
    assert_holds(&store, &model);
}

#[test]
fn the_longest_key_is_kept_inline_values_and_spilled_ones_beside_it() {
    let mut store = TestStore::on_disk(Options::new());
    let mut model = Model::new();
    for (number, length) in [0, 1, 32, 33, 5_000].into_iter().enumerate() {
        let key = sized_key(number, swissdb::MAX_KEY_LENGTH);
        let bytes = value(number as u64, length);
        store.insert(&key, &bytes).expect("insert");
        model.insert(key, bytes);
    }
    let mut almost = sized_key(0, swissdb::MAX_KEY_LENGTH);
    *almost.last_mut().expect("a long key") ^= 1;
    assert!(!store.contains_key(&almost).expect("contains_key"));
    assert_holds(&store, &model);
    store.reopen();
    assert_holds(&store, &model);
}

#[test]
fn a_value_larger_than_a_log_file_is_kept() {
    let mut store = TestStore::on_disk(Options::new().max_log_file(1 << 20));
    let mut model = Model::new();
    for (i, length) in [3 << 20, (1 << 20) - 5_000, 1 << 20, 3 << 20].into_iter().enumerate() {
        let key = format!("large {i}").into_bytes();
        let bytes = value(i as u64, length);
        store.insert(&key, &bytes).expect("insert");
        store.insert(format!("small {i}"), "beside").expect("insert");
        model.insert(format!("small {i}").into_bytes(), b"beside".to_vec());
        model.insert(key, bytes);
    }
    assert_holds(&store, &model);
    store.kill();
    assert_holds(&store, &model);
    store.insert("large 0", "small now").expect("insert");
    model.insert(b"large 0".to_vec(), b"small now".to_vec());
    store.reopen();
    assert_holds(&store, &model);
}

#[test]
fn live_bytes_of_the_log_are_those_of_the_spilled_entries() {
    let store = TestStore::in_memory(Options::new());
    for i in 0..100 {
        store.insert(format!("k{i}"), value(i, 20)).expect("insert");
    }
    assert_eq!(table_stats(&store).live_log_bytes, 0, "all entries are inline");
    for i in 0..100 {
        store.insert(format!("k{i}"), value(i, 1_000)).expect("insert");
    }
    let spilled = table_stats(&store).live_log_bytes;
    assert!((100_000..150_000).contains(&spilled), "{spilled} bytes for 100 of 1,000");
    for i in 0..50 {
        assert!(store.remove(format!("k{i}")).expect("remove"));
    }
    assert_eq!(table_stats(&store).live_log_bytes, spilled / 2);
    for i in 50..100 {
        store.insert(format!("k{i}"), "short").expect("insert");
    }
    assert_eq!(table_stats(&store).live_log_bytes, 0, "nothing is spilled any more");
    store.insert("k", value(1, 1_000)).expect("insert");
    store.clear().expect("clear");
    assert_eq!(table_stats(&store).live_log_bytes, 0, "nothing is left");
}

#[test]
fn a_value_can_be_lent_copied_and_taken() {
    let store = TestStore::in_memory(Options::new());
    for length in [0, 5, 100, 10_000] {
        let bytes = value(length as u64, length);
        store.insert("key", &bytes).expect("insert");
        let lent = store.get_with("key", |lent| lent == bytes).expect("get_with");
        assert_eq!(lent, Some(true));
        let found = store.get("key").expect("get").expect("the entry");
        assert_eq!(found.len(), length);
        let copy = found.clone();
        assert_eq!(copy.as_ref(), &bytes[..]);
        // What was read stays what it was when the entry changes.
        store.insert("key", "something else").expect("insert");
        assert_eq!(&found[..], &bytes[..]);
        assert_eq!(copy.into_vec(), bytes);
    }
    let absent = store.get_with("absent", |_| panic!("there is nothing to lend"));
    assert!(absent.expect("get_with").is_none());
}
