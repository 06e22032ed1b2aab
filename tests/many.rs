//! Many keys read in one call.
//!
//! Goal: the answers are those of single gets, whatever the sizes, wherever the
//! pages and values lie, whoever writes meanwhile; damage costs only the keys
//! that it hit. Method: both ways are asked for the same keys, present, absent
//! and repeated; beside writers, values describe themselves.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use swissdb::{Db, Error, Options};

use crate::support::{Model, Random, TestStore, key, show, value};

/// Compares all ways of reading these keys.
fn compare(db: &Db, keys: &[Vec<u8>]) {
    let values = db.multi_get(keys).expect("multi_get");
    assert_eq!(values.len(), keys.len());
    let mut answered = vec![false; keys.len()];
    let lent = db.multi_get_with(keys, |i, lent| {
        assert!(!std::mem::replace(&mut answered[i], true), "key {i} was answered twice");
        let single = db.get(&keys[i]).expect("get");
        assert_eq!(lent.expect("a value"), single.as_deref(), "lent for {}", show(&keys[i]));
        assert_eq!(values[i], single, "got for {}", show(&keys[i]));
    });
    lent.expect("multi_get_with");
    assert!(answered.iter().all(|answered| *answered));
}

/// Fails unless every key of the model has its value, and others have none.
fn assert_model(db: &Db, model: &Model) {
    let keys: Vec<&[u8]> = model.keys().map(|key| &key[..]).collect();
    for (found, (key, value)) in db.multi_get(&keys).expect("multi_get").iter().zip(model) {
        assert_eq!(found.as_deref(), Some(&value[..]), "of {}", show(key));
    }
}

#[test]
fn no_keys_have_no_values() {
    let store = TestStore::in_memory(Options::new());
    assert!(store.multi_get::<&str>(&[]).expect("multi_get").is_empty());
    store.multi_get_with::<&str>(&[], |_, _| panic!("nothing was asked")).expect("multi_get_with");
    assert_eq!(store.multi_get(&["absent"; 3]).expect("multi_get"), [None, None, None]);
}

#[test]
fn many_reads_agree_with_single_ones_wherever_entries_lie() {
    for payload in [24, 56, 104, 504] {
        let mut random = Random::new(payload as u64);
        let options = Options::new().payload(payload).write_buffer(1 << 20).max_log_file(1 << 20);
        let mut store = TestStore::on_disk(options);
        let mut model = Model::new();
        for round in 0..6 {
            for _ in 0..400 {
                let number = random.below(1_500);
                let key_length = [4, 12, 40, 300][number as usize % 4];
                let mut key = value(number, key_length);
                key[..4].copy_from_slice(&(number as u32).to_le_bytes());
                if random.below(4) == 0 {
                    store.remove(&key).expect("remove");
                    model.remove(&key);
                } else {
                    let length = [0, 8, 50, 60, 700, 4_000][random.below(6) as usize];
                    let value = value(random.next(), length);
                    store.insert(&key, &value).expect("insert");
                    model.insert(key, value);
                }
            }
            match round {
                1 => store.checkpoint().expect("checkpoint"),
                2 => store.reopen(),
                3 => store.kill(),
                4 => store.clear().map(|()| model.clear()).expect("clear"),
                _ => {}
            }
            assert_model(&store, &model);
            for count in [1, 10, 64, 600] {
                let there: Vec<_> = model.keys().cloned().collect();
                let keys: Vec<Vec<u8>> = (0..count)
                    .map(|i| match (random.below(3), there.len()) {
                        (0, _) | (_, 0) => value(i, 16),
                        (_, len) => there[random.below(len as u64) as usize].clone(),
                    })
                    .collect();
                compare(&store, &keys);
            }
        }
    }
}

#[test]
fn named_tables_are_read_by_the_many_until_they_are_dropped() {
    let store = TestStore::in_memory(Options::new());
    let table = store.table("t").expect("table");
    table.insert("a", "1").expect("insert");
    store.insert("b", "2").expect("insert");
    let found = table.multi_get(&["a", "b"]).expect("multi_get");
    assert_eq!((found[0].as_deref(), found[1].as_deref()), (Some(&b"1"[..]), None));
    let mut lent = 0;
    table
        .multi_get_with(&["a", "b"], |_, value| lent += value.unwrap().map_or(0, <[u8]>::len))
        .expect("multi_get_with");
    assert_eq!(lent, 1);
    store.drop_table("t").expect("drop");
    assert!(matches!(table.multi_get(&["a"]), Err(Error::NotFound { .. })));
}

#[test]
fn a_closed_store_answers_no_more() {
    let db = Db::in_memory().expect("open");
    db.insert("a", "1").expect("insert");
    let other = db.clone();
    db.close().expect("close");
    for count in [1, 2, 300] {
        let keys = vec!["a"; count];
        assert!(matches!(other.multi_get(&keys), Err(Error::Closed { .. })), "{count} keys");
    }
}

#[test]
fn damage_is_told_for_its_keys_and_the_others_come() {
    let model: Model =
        (0..1_500).map(|i| (key(i), value(i, if i % 4 == 0 { 700 } else { 20 }))).collect();
    let mut store = TestStore::on_disk(Options::new());
    for (key, value) in &model {
        store.insert(key, value).expect("insert");
    }
    store.close();
    let keys: Vec<_> = model.keys().cloned().collect();
    let file = store.path().join("default.swiss");
    let whole = fs::read(&file).expect("read");
    let mut hit = 0;
    for block in 2..whole.len() / 4096 {
        let mut damaged = whole.clone();
        damaged[block * 4096 + 300] ^= 4;
        fs::write(&file, damaged).expect("write");
        let Ok(db) = Options::new().read_only(true).open(store.path()) else { continue };
        let (mut good, mut bad) = (0, Vec::new());
        db.multi_get_with(&keys, |i, found| match found {
            Ok(found) => {
                assert_eq!(found, model.get(&keys[i]).map(|value| &value[..]));
                good += 1;
            }
            Err(Error::Corrupt(_)) => bad.push(i),
            Err(other) => panic!("{other}"),
        })
        .expect("multi_get_with");
        assert_eq!(good + bad.len(), keys.len());
        for i in &bad {
            assert!(matches!(db.get(&keys[*i]), Err(Error::Corrupt(_))), "key {i} alone");
        }
        match bad.iter().min() {
            None => assert_eq!(db.multi_get(&keys).expect("multi_get").len(), keys.len()),
            Some(first) => {
                hit += 1;
                let (Err(all), Err(alone)) = (db.multi_get(&keys), db.get(&keys[*first])) else {
                    panic!("block {block} is damaged");
                };
                assert_eq!(all.to_string(), alone.to_string(), "the error of the first key");
            }
        }
    }
    fs::write(&file, whole).expect("write");
    assert!(hit >= 10, "only {hit} blocks held entries");
}

/// Key, version, and what follows from both.
fn versioned(entry: u64, version: u64) -> Vec<u8> {
    let mut bytes = entry.to_le_bytes().to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(value(entry << 32 | version, [4, 40, 300][(version % 3) as usize]));
    bytes
}

/// The entries that stay while they are overwritten.
const ENTRIES: u64 = 500;

/// Reads lists of random keys until told to stop: each that stays is there,
/// whole, and never older than what this reader has seen of it before.
fn read_until(stop: &AtomicBool, db: &Db, seed: u64) {
    let mut random = Random::new(seed);
    let mut newest = vec![0; ENTRIES as usize];
    while !stop.load(Ordering::Relaxed) {
        let entries: Vec<u64> =
            (0..random.below(400)).map(|_| random.below(ENTRIES + 50)).collect();
        let keys: Vec<_> = entries.iter().map(|entry| key(*entry)).collect();
        let found = db.multi_get(&keys).expect("multi_get");
        // A key that stands in the list twice may have two versions.
        let before = newest.clone();
        for (entry, found) in entries.iter().zip(found) {
            if *entry >= ENTRIES {
                assert!(found.is_none(), "entry {entry} was never there");
                continue;
            }
            let found = found.expect("an entry that stays");
            let version = u64::from_le_bytes(found[8..16].try_into().expect("8 bytes"));
            assert_eq!(found, versioned(*entry, version), "of entry {entry}");
            assert!(version >= before[*entry as usize], "entry {entry} went back");
            newest[*entry as usize] = version.max(newest[*entry as usize]);
        }
    }
}

/// Overwrites, inserts and removes, with checkpoints and a compaction.
fn write_beside(store: &TestStore) {
    let mut random = Random::new(5);
    for step in 1..=6_000 {
        let entry = random.below(ENTRIES);
        store.insert(key(entry), versioned(entry, step)).expect("insert");
        store.insert(format!("other {step}"), value(step, 30)).expect("insert");
        if step % 3 == 0 {
            store.remove(format!("other {}", step / 2)).expect("remove");
        }
        if step % 2_000 == 0 {
            store.checkpoint().expect("checkpoint");
        }
    }
    store.compact().expect("compact");
}

#[test]
fn many_reads_beside_a_writer_see_only_values_that_were_written() {
    let small = || Options::new().payload(72).write_buffer(1 << 20).max_log_file(1 << 20);
    for store in [TestStore::on_disk(small()), TestStore::in_memory(small().payload(504))] {
        for entry in 0..ENTRIES {
            store.insert(key(entry), versioned(entry, 0)).expect("insert");
        }
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for reader in 0..2 {
                let (stop, db) = (&stop, (*store).clone());
                scope.spawn(move || read_until(stop, &db, reader));
            }
            let writing = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                write_beside(&store);
            }));
            stop.store(true, Ordering::Relaxed);
            writing.expect("the writer");
        });
    }
}

#[test]
fn many_reads_beside_clear_see_an_entry_whole_or_not_at_all() {
    let store = TestStore::in_memory(Options::new());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (stop_reading, db) = (&stop, (*store).clone());
        scope.spawn(move || {
            let keys: Vec<_> = (0..300).map(|entry| key(entry % 100)).collect();
            while !stop_reading.load(Ordering::Relaxed) {
                for (i, found) in db.multi_get(&keys).expect("multi_get").into_iter().enumerate() {
                    if let Some(found) = found {
                        let version = u64::from_le_bytes(found[8..16].try_into().expect("8"));
                        assert_eq!(found, versioned(i as u64 % 100, version));
                    }
                }
            }
        });
        let writing = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..60 {
                for entry in 0..100 {
                    store.insert(key(entry), versioned(entry, round)).expect("insert");
                }
                store.clear().expect("clear");
                let keys: Vec<_> = (0..100).map(key).collect();
                let found = store.multi_get(&keys).expect("multi_get");
                assert!(found.iter().all(Option::is_none), "after the clear of round {round}");
            }
        }));
        stop.store(true, Ordering::Relaxed);
        writing.expect("the writer");
    });
}

#[test]
fn a_function_that_is_lent_many_values_may_use_the_store_and_panic() {
    let store = TestStore::in_memory(Options::new());
    let keys: Vec<_> = (0..100).map(key).collect();
    for (i, key) in keys.iter().enumerate() {
        store.insert(key, value(i as u64, i * 5)).expect("insert");
    }
    store
        .multi_get_with(&keys, |i, lent| {
            let lent = lent.expect("a value").expect("it is there").to_vec();
            store.insert(&keys[i], [&lent[..], b"!"].concat()).expect("insert");
        })
        .expect("multi_get_with");
    for (i, found) in store.multi_get(&keys).expect("multi_get").into_iter().enumerate() {
        assert_eq!(found.expect("it is there"), [&value(i as u64, i * 5)[..], b"!"].concat());
    }
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.multi_get_with(&keys, |_, _| panic!("of the caller's own"))
    }));
    assert!(outcome.is_err());
    store.insert("after", "all").expect("insert");
}
