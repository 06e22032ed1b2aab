//! Batches: many changes that are one commit.
//!
//! Goal: a batch leaves what its changes would leave one after the other,
//! whatever it has: a key several times, inserted and removed, values in slots
//! and in the log, several tables, more entries than the table had segments
//! for; and the log, replayed, leaves the same. Method: random batches, small
//! and large, against a model of each table, which is compared after some of
//! them and after the store was opened anew, after a kill. And the allocator says that a
//! batch takes no memory that the one before it took.

use swissdb::{Batch, Options};

use crate::rot::allocations::requests;
use crate::support::{Model, Random, TestStore, assert_holds, assert_table_holds, key, value};

const TABLES: [&str; 2] = ["one", "two"];

fn assert_all_hold(store: &TestStore, models: &[Model; 3]) {
    assert_holds(store, &models[0]);
    for (name, model) in TABLES.iter().zip(&models[1..]) {
        assert_table_holds(&store.table(name).expect("table"), model);
    }
}

/// A batch of random changes of the three tables, done to their models as well.
fn random_batch(
    random: &mut Random,
    store: &TestStore,
    models: &mut [Model; 3],
    (changes, keys): (u64, u64),
) -> Batch {
    let tables = TABLES.map(|name| store.table(name).expect("table"));
    let mut batch = Batch::new();
    for _ in 0..changes {
        let (table, i) = (random.below(3) as usize, random.below(keys));
        let key = if i % 11 == 10 { value(i, 900) } else { key(i) };
        if random.below(3) == 0 {
            models[table].remove(&key);
            match table.checked_sub(1) {
                None => batch.remove(&key),
                Some(named) => batch.remove_from(&tables[named], &key),
            }
        } else {
            let length = [0, 8, 30, 200, 3_000][random.below(5) as usize];
            let value = value(random.below(1 << 30), length);
            models[table].insert(key.clone(), value.clone());
            match table.checked_sub(1) {
                None => batch.insert(&key, &value),
                Some(named) => batch.insert_into(&tables[named], &key, &value),
            }
        }
        .expect("a change");
    }
    batch
}

#[test]
fn random_batches_leave_what_their_changes_leave_one_by_one() {
    let mut random = Random::new(4);
    let mut store = TestStore::on_disk(Options::new());
    TABLES.iter().for_each(|name| drop(store.table(name).expect("table")));
    let mut models = <[Model; 3]>::default();
    for round in 0..60u64 {
        // From many changes of few keys to few changes of many.
        let size = (1 + random.below(1 << (1 + round % 11)), 1 << (2 + random.below(10)));
        let batch = random_batch(&mut random, &store, &mut models, size);
        store.write(&batch).expect("write");
        if round % 12 == 11 {
            assert_all_hold(&store, &models);
            if random.below(2) == 0 {
                store.checkpoint().expect("checkpoint");
            }
            store.kill();
            assert_all_hold(&store, &models);
        }
    }
}

#[test]
fn one_batch_fills_an_empty_table_however_often_its_segments_split() {
    const MANY: u64 = 100_000;
    let mut store = TestStore::on_disk(Options::new());
    let mut batch = Batch::new();
    let mut model = Model::new();
    for i in 0..MANY {
        batch.insert(key(i), i.to_le_bytes()).expect("insert");
        model.insert(key(i), i.to_le_bytes().to_vec());
    }
    // Of these the first changes are undone, the later ones are not.
    for i in (0..MANY).step_by(7) {
        batch.insert(key(i), "again").expect("insert");
        model.insert(key(i), b"again".to_vec());
    }
    for i in (0..MANY).step_by(10) {
        batch.remove(key(i)).expect("remove");
        model.remove(&key(i));
    }
    store.write(&batch).expect("write");
    assert_holds(&store, &model);
    store.kill();
    assert_holds(&store, &model);
}

#[test]
fn a_batch_for_a_table_of_another_store_changes_nothing() {
    let (store, other) = (TestStore::in_memory(Options::new()), Options::new());
    let other = TestStore::in_memory(other);
    let named = other.table("one").expect("table");
    drop(store.table("one").expect("table"));
    let mut batch = Batch::new();
    batch.insert("here", "1").expect("insert");
    batch.insert_into(&named, "there", "2").expect("insert");
    let error = store.write(&batch).expect_err("one of the tables is not there");
    assert!(matches!(error, swissdb::Error::NotFound { .. }), "{error}");
    assert_eq!((store.len(), store.table("one").expect("table").len()), (0, 0));
    other.write(&batch).expect("both of them are tables of this store");
    assert_eq!((other.len(), named.len()), (1, 1));
}

#[test]
fn a_batch_takes_no_memory_that_the_one_before_it_took() {
    let store = TestStore::on_disk(Options::new());
    let mut batch = Batch::new();
    for i in 0..1_000 {
        batch.insert(key(i), value(i, 32)).expect("insert");
    }
    store.write(&batch).expect("write");
    // A log file may come to its end, or a checkpoint begin, but not each time.
    let least = (0..20).map(|_| requests(|| store.write(&batch).expect("write")).0).min();
    assert_eq!(least, Some(0));
}

#[test]
fn keys_that_are_hashed_eight_at_once_are_found_one_by_one() {
    let mut random = Random::new(16);
    let store = TestStore::on_disk(Options::new());
    let other = store.table("other").expect("table");
    let mut models = [Model::new(), Model::new()];
    for changes in 0..70 {
        let mut batch = Batch::new();
        // In runs, for eight neighbours have to agree.
        let (mut length, mut of) = (16, 0);
        for _ in 0..changes {
            if random.below(20) == 0 {
                length = [16, 16, 8, 15, 17, 24][random.below(6) as usize];
                of = random.below(2) as usize;
            }
            let key = value(random.below(1 << 40), length);
            let value = value(random.below(1 << 30), 12);
            models[of].insert(key.clone(), value.clone());
            match of {
                0 => batch.insert(&key, &value),
                _ => batch.insert_into(&other, &key, &value),
            }
            .expect("a change");
        }
        store.write(&batch).expect("write");
    }
    // Each key is looked up alone.
    assert_holds(&store, &models[0]);
    assert_table_holds(&other, &models[1]);
}
