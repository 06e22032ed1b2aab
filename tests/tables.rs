//! Named tables: each its own keys, slots and file, and batches that span
//! them and are there whole or not at all.

use swissdb::{Batch, Error, HashKind, Options, TableOptions};

use crate::support::{
    Model, TestStore, assert_clean, assert_holds, assert_table_holds, key, table_stats, value,
};

/// The names of the tables of a store.
fn names(store: &TestStore) -> Vec<String> {
    store.tables().expect("tables")
}

#[test]
fn tables_do_not_see_each_others_entries() {
    let store = TestStore::on_disk(Options::new());
    let (one, two) = (store.table("one").expect("table"), store.table("two").expect("table"));
    store.insert("k", "of the default table").expect("insert");
    one.insert("k", "of one").expect("insert");
    two.insert("k", "of two").expect("insert");
    two.insert("only", "in two").expect("insert");
    assert_eq!((store.len(), one.len(), two.len()), (1, 1, 2));
    assert_eq!(one.get("k").expect("get").as_deref(), Some(&b"of one"[..]));
    assert!(!one.contains_key("only").expect("contains_key"));
    assert!(two.remove("k").expect("remove"));
    assert_eq!(store.get("k").expect("get").as_deref(), Some(&b"of the default table"[..]));
    one.clear().expect("clear");
    assert!(one.is_empty());
    assert_eq!((store.len(), two.len()), (1, 1));
    let mut listed = names(&store);
    assert_eq!(listed.remove(0), "default", "the default table comes first");
    listed.sort();
    assert_eq!(listed, ["one", "two"]);
}

#[test]
fn tables_have_their_own_slots_and_hashes() {
    let mut store = TestStore::on_disk(Options::new());
    let options = TableOptions::new().payload(200).hash(HashKind::Fast);
    let wide = store.create_table("wide", &options).expect("create a table");
    let model: Model = (0..500).map(|i| (key(i), value(i, 150))).collect();
    for (key, value) in &model {
        wide.insert(key, value).expect("insert");
    }
    assert_eq!(wide.stats().payload, 200);
    assert_eq!(wide.stats().live_log_bytes, 0, "150 bytes and a key fit 200");
    assert_eq!(table_stats(&store).payload, 56);
    drop(wide);
    store.reopen();
    // Opened by its name, a table keeps what it was created with.
    let wide = store.table("wide").expect("table");
    assert_eq!(wide.stats().payload, 200);
    assert_table_holds(&wide, &model);
}

#[test]
fn a_hundred_tables_survive_kill_and_close() {
    let mut store = TestStore::on_disk(Options::new());
    let model = |number: u64| -> Model {
        (0..number % 7 + 1).map(|i| (key(i), value(number, 40 * i as usize))).collect()
    };
    for number in 0..100 {
        let table = store.table(&format!("table-{number}")).expect("table");
        for (key, value) in model(number) {
            table.insert(key, value).expect("insert");
        }
    }
    for round in 0..2 {
        if round == 0 {
            store.kill();
        } else {
            store.reopen();
        }
        assert_eq!(names(&store).len(), 101);
        for number in 0..100 {
            let table = store.table(&format!("table-{number}")).expect("table");
            assert_table_holds(&table, &model(number));
        }
    }
}

#[test]
fn a_batch_spans_tables_and_is_one_commit() {
    let mut store = TestStore::on_disk(Options::new());
    let (one, two) = (store.table("one").expect("table"), store.table("two").expect("table"));
    one.insert("old", "entry").expect("insert");
    let commits = store.stats().commits;
    let mut batch = Batch::new();
    assert_eq!(batch.len(), 0);
    batch.insert("a", "default").expect("add to the batch");
    batch.insert_into(&one, "a", value(1, 5_000)).expect("add to the batch");
    batch.insert_into(&two, "a", "two").expect("add to the batch");
    batch.remove_from(&one, "old").expect("add to the batch");
    batch.remove("not there").expect("add to the batch");
    assert_eq!(batch.len(), 5);
    assert!(batch.bytes() > 5_000);
    store.write(&batch).expect("write");
    assert_eq!(store.stats().commits, commits + 1);
    drop((one, two));
    store.kill();
    let (one, two) = (store.table("one").expect("table"), store.table("two").expect("table"));
    assert_eq!(store.get("a").expect("get").as_deref(), Some(&b"default"[..]));
    assert_table_holds(&one, &Model::from([(b"a".to_vec(), value(1, 5_000))]));
    assert_table_holds(&two, &Model::from([(b"a".to_vec(), b"two".to_vec())]));
}

#[test]
fn the_last_operation_of_a_batch_on_a_key_wins() {
    let mut store = TestStore::on_disk(Options::new());
    store.insert("gone", "before").expect("insert");
    let mut batch = Batch::new();
    for i in 0..100 {
        batch.insert("k", value(i, 1_000 * (i as usize % 2))).expect("add to the batch");
    }
    batch.insert("gone", "again").expect("add to the batch");
    batch.remove("gone").expect("add to the batch");
    batch.remove("back").expect("add to the batch");
    batch.insert("back", "here").expect("add to the batch");
    batch.insert("k", "last").expect("add to the batch");
    store.write(&batch).expect("write");
    for round in 0..2 {
        assert_eq!(store.len(), 2, "round {round}");
        assert_eq!(store.get("k").expect("get").as_deref(), Some(&b"last"[..]));
        assert_eq!(store.get("back").expect("get").as_deref(), Some(&b"here"[..]));
        store.kill();
    }
}

#[test]
fn an_empty_or_cleared_batch_changes_nothing() {
    let store = TestStore::in_memory(Options::new());
    let mut batch = Batch::new();
    store.write(&batch).expect("an empty batch");
    batch.insert("k", "v").expect("add to the batch");
    batch.clear();
    assert_eq!(batch.len(), 0);
    store.write(&batch).expect("a cleared batch");
    assert!(store.is_empty());
    batch.insert("k", "v").expect("add to the batch");
    store.write(&batch).expect("write");
    batch.clear();
    batch.insert("k2", "v2").expect("add to the batch");
    store.write(&batch).expect("write again");
    assert_eq!(store.len(), 2);
}

#[test]
fn a_batch_makes_a_table_grow_and_split() {
    let mut store = TestStore::on_disk(Options::new().payload(504));
    let mut batch = Batch::new();
    for i in 0..5_000 {
        batch.insert(key(i), value(i, 8)).expect("add to the batch");
    }
    store.write(&batch).expect("write");
    let model: Model = (0..5_000).map(|i| (key(i), value(i, 8))).collect();
    crate::support::assert_holds(&store, &model);
    store.kill();
    crate::support::assert_holds(&store, &model);
}

#[test]
fn a_dropped_table_is_gone_and_its_name_is_free() {
    let mut store = TestStore::on_disk(Options::new());
    let table = store.table("t").expect("table");
    let id = table.stats().id;
    for i in 0..1_000 {
        table.insert(key(i), value(i, 100)).expect("insert");
    }
    assert!(store.drop_table("t").expect("drop"));
    assert!(!store.drop_table("t").expect("it is gone"));
    assert!(!store.drop_table("never there").unwrap_or(false));
    assert_eq!(names(&store), ["default"]);
    assert!(table.insert("k", "v").is_err(), "the table of this handle is gone");
    drop(table);
    assert!(!store.path().join("t.swiss").exists(), "its file is removed");

    let again = store.table("t").expect("a new table of that name");
    assert!(again.is_empty());
    assert_ne!(again.stats().id, id, "ids are never used again");
    again.insert("k", "new").expect("insert");
    drop(again);
    store.kill();
    let again = store.table("t").expect("table");
    assert_table_holds(&again, &Model::from([(b"k".to_vec(), b"new".to_vec())]));
}

#[test]
fn an_iteration_ends_where_its_table_is_dropped() {
    let store = TestStore::on_disk(Options::new());
    for len in [8, 300] {
        let table = store.table("t").expect("table");
        for i in 0..200 {
            table.insert(key(i), value(i, len)).expect("insert");
        }
        let mut iter = table.iter();
        iter.next().expect("an entry").expect("a sound one");
        assert!(store.drop_table("t").expect("drop"));
        assert!(iter.next().is_none(), "an entry of {len} bytes came after the drop");
        assert_eq!(table.len(), 0);
    }
}

#[test]
fn dropping_survives_kill_at_once_and_after_a_checkpoint() {
    for checkpoint in [false, true] {
        let mut store = TestStore::on_disk(Options::new());
        for name in ["a", "b", "c"] {
            store.table(name).expect("table").insert("k", name).expect("insert");
        }
        if checkpoint {
            store.checkpoint().expect("checkpoint");
        }
        assert!(store.drop_table("b").expect("drop"));
        store.kill();
        let mut listed = names(&store);
        listed.sort();
        assert_eq!(listed, ["a", "c", "default"]);
        assert_eq!(store.table("a").expect("table").len(), 1);
        assert!(store.table("b").expect("table").is_empty());
    }
}

#[test]
fn the_default_table_cannot_be_dropped() {
    let store = TestStore::in_memory(Options::new());
    store.insert("k", "v").expect("insert");
    assert!(matches!(store.drop_table("default"), Err(Error::InvalidArgument { .. })));
    assert_eq!(store.len(), 1);
}

#[test]
fn clear_empties_one_table_and_survives_kill_and_reopen() {
    let mut store = TestStore::on_disk(Options::new());
    let table = store.table("t").expect("table");
    for i in 0..800 {
        table.insert(key(i), value(i, 60)).expect("insert");
        store.insert(key(i), "stays").expect("insert");
    }
    store.checkpoint().expect("checkpoint");
    table.clear().expect("clear");
    table.insert("first", "after").expect("insert");
    drop(table);
    let model = Model::from([(b"first".to_vec(), b"after".to_vec())]);
    store.kill();
    assert_table_holds(&store.table("t").expect("table"), &model);
    store.reopen();
    assert_table_holds(&store.table("t").expect("table"), &model);
    assert_eq!(store.len(), 800);
}

#[test]
fn a_table_that_is_created_between_checkpoints_leaves_the_others_alone() {
    // The generation advanced without a checkpoint, and directory pages of the
    // other tables were taken to become dirty a second time.
    let store = TestStore::on_disk(Options::new().max_log_file(1 << 20).write_buffer(4 << 20));
    let mut model = Model::new();
    for round in 0..4u64 {
        for i in 0..3_000 {
            store.insert(key(i), value(i, (i % 300) as usize)).expect("insert");
            model.insert(key(i), value(i, (i % 300) as usize));
        }
        let table = store.table(&format!("table-{round}")).expect("a table");
        table.insert("only", "this").expect("insert");
        for i in 0..15_000 {
            store.insert(key(i), value(i + round, 60)).expect("insert");
            model.insert(key(i), value(i + round, 60));
        }
        store.checkpoint().expect("checkpoint");
        assert_clean(&store);
        assert_holds(&store, &model);
    }
}
