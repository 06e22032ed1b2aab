//! Giving a table another slot payload.
//!
//! Goal: after it the table holds what it held, in slots of the new size, and
//! is whole; what interrupts it leaves one of the two tables. Method: stores
//! with entries of all sizes and both kinds of hash go through changes to
//! larger and smaller slots, are verified, compared with a model, and written
//! to afterwards. Crashes are in `rewrite/crash.rs`, damaged values in
//! `rewrite/damage.rs`, the choice of a payload in `rewrite/choice.rs`.

mod choice;
mod crash;
mod damage;

use std::ops::ControlFlow;
use std::sync::Arc;

use swissdb::storage::memory::Memory;
use swissdb::storage::{Access, Storage};
use swissdb::{
    Db, Error, HashKind, Options, Payload, RewriteProgress, Rewritten, TableOptions, TableStats,
};

use crate::support::{
    Model, TestStore, assert_clean, assert_holds, assert_same, key, pairs, value,
};

/// Goes on, whatever happens.
pub fn go_on(_: &RewriteProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Changes the payload of the default table of a store in memory.
fn change(memory: &Memory, payload: usize) -> Rewritten {
    let storage = Arc::new(memory.clone());
    let rewritten =
        Options::new().change_payload_on(storage, "default", Payload::Bytes(payload), go_on);
    rewritten.unwrap_or_else(|error| panic!("to {payload} bytes: {error}"))
}

fn open(memory: &Memory) -> Db {
    let db = Options::new().open_on(Arc::new(memory.clone()));
    db.unwrap_or_else(|error| panic!("the store does not open: {error}"))
}

/// The statistics of a table.
pub fn stats_of(db: &Db, name: &str) -> TableStats {
    let tables = db.stats().tables;
    tables.into_iter().find(|table| table.name == name).expect("the table")
}

/// Entries of all sizes: keys and values inline, spilled, and both.
pub fn mixed(entries: u64) -> Model {
    let sizes = [(3, 0), (8, 12), (16, 40), (30, 26), (32, 200), (90, 7), (100, 500), (480, 30)];
    let more = [(600, 3), (2_000, 2_000), (16, 479), (16, 480), (16, 481), (400, 110), (1, 9_000)];
    let sizes: Vec<_> = sizes.into_iter().chain(more).collect();
    (0..entries)
        .map(|i| {
            let (key_len, value_len) = sizes[i as usize % sizes.len()];
            let mut key = (i as u32).to_le_bytes().to_vec();
            key.truncate(key_len.max(3));
            key.extend(value(i, key_len.saturating_sub(key.len())));
            (key, value(i, value_len))
        })
        .collect()
}

/// A closed store in memory with these entries.
fn stored(model: &Model, options: &Options) -> Memory {
    let memory = Memory::new();
    let db = options.open_on(Arc::new(memory.clone())).expect("create");
    for (key, value) in model {
        db.insert(key, value).expect("insert");
    }
    db.close().expect("close");
    memory
}

/// Fails unless the store holds the model in slots of that size, verifies, and
/// takes changes.
fn check(memory: &Memory, model: &Model, payload: usize) {
    let db = open(memory);
    assert_eq!(stats_of(&db, "default").payload, payload);
    assert_clean(&db);
    assert_holds(&db, model);
    db.close().expect("close");
}

#[test]
fn entries_of_all_sizes_survive_every_change_of_the_slots() {
    for hash in [HashKind::Sip, HashKind::Fast] {
        let model = mixed(1_500);
        let memory = stored(&model, &Options::new().hash(hash));
        let mut before = 56;
        for payload in [24, 56, 504, 24, 104, 96, 200, 504, 56] {
            let rewritten = change(&memory, payload);
            assert!(rewritten.finished && rewritten.damage.is_empty());
            assert_eq!((rewritten.payload_before, rewritten.payload), (before, payload));
            assert_eq!(rewritten.entries, 1_500);
            check(&memory, &model, payload);
            before = payload;
        }
    }
}

#[test]
fn a_rewritten_table_takes_every_kind_of_change() {
    let mut model = mixed(800);
    let memory = stored(&model, &Options::new());
    for payload in [504, 24, 128] {
        change(&memory, payload);
        let db = open(&memory);
        let keys: Vec<_> = model.keys().cloned().collect();
        for (i, key) in keys.iter().enumerate() {
            if i % 3 == 0 {
                assert!(db.remove(key).expect("remove"));
                model.remove(key);
            } else if i % 3 == 1 {
                db.insert(key, value(i as u64, i % 700)).expect("overwrite");
                model.insert(key.clone(), value(i as u64, i % 700));
            }
        }
        for i in 0..500 {
            let (key, value) = (key(i + payload as u64 * 1_000), value(i, i as usize));
            db.insert(&key, &value).expect("insert");
            model.insert(key, value);
        }
        assert_clean(&db);
        db.close().expect("close");
        check(&memory, &model, payload);
    }
}

#[test]
fn what_was_never_closed_is_rewritten_as_well() {
    let mut store = TestStore::on_disk(Options::new());
    let model = mixed(600);
    for (key, value) in &model {
        store.insert(key, value).expect("insert");
    }
    let killed = store.copy_as_killed();
    let rewritten = swissdb::change_payload(killed.path(), "default", Payload::Bytes(200), go_on);
    assert_eq!(rewritten.expect("rewrite").entries, 600);
    assert!(swissdb::verify(killed.path()).expect("verify").is_clean());
    assert_holds(&Db::open(killed.path()).expect("open"), &model);
    store.close();
    store.open();
}

#[test]
fn an_empty_table_gets_other_slots() {
    let memory = stored(&Model::new(), &Options::new());
    for payload in [504, 24, 56] {
        assert_eq!(change(&memory, payload).entries, 0);
        check(&memory, &Model::new(), payload);
    }
}

#[test]
fn values_over_a_mebibyte_stay_where_they_are() {
    let mut model = Model::from([
        (vec![1; 100], value(1, 3 << 20)),
        (vec![2; 8], value(2, 1_200_000)),
        (vec![3; 30_000], value(3, 2 << 20)),
        (vec![4; 100], value(4, 20)),
    ]);
    model.extend((0..50).map(|i| (key(i), value(i, 5_000))));
    let memory = stored(&model, &Options::new());
    for payload in [24, 200, 56, 504, 24] {
        let rewritten = change(&memory, payload);
        assert!(rewritten.logged_bytes < 10_000, "{} bytes", rewritten.logged_bytes);
        check(&memory, &model, payload);
    }
}

#[test]
fn a_hundred_thousand_entries_are_packed_tightly() {
    let memory = Memory::new();
    let db = open(&memory);
    let mut batch = swissdb::Batch::new();
    for i in 0..100_000 {
        batch.insert(key(i), value(i, 20 + i as usize % 20)).expect("add to the batch");
    }
    db.write(&batch).expect("write");
    db.close().expect("close");
    // 24: all spill. 40: one in four entries fits. 504: one group in a page.
    for payload in [24, 40, 504, 56] {
        let rewritten = change(&memory, payload);
        assert_eq!(rewritten.entries, 100_000);
        let db = open(&memory);
        let stats = stats_of(&db, "default");
        let load = stats.entries as f64 / stats.capacity as f64;
        assert!(load > 0.79, "payload {payload}: {load:.3} of the slots are used");
        assert_clean(&db);
        for i in (0..100_000).step_by(7) {
            let found = db.get(key(i)).expect("get");
            assert_eq!(found.as_deref(), Some(&value(i, 20 + i as usize % 20)[..]));
        }
        assert_eq!(db.iter().filter(|entry| entry.is_ok()).count(), 100_000);
        db.close().expect("close");
    }
}

#[test]
fn named_tables_change_and_the_others_stay() {
    let mut store = TestStore::on_disk(Options::new());
    let model = mixed(700);
    let options = TableOptions::new().payload(104).hash(HashKind::Fast);
    let wide = store.create_table("wide", &options).expect("create a table");
    let other = store.table("other").expect("table");
    for (key, value) in &model {
        wide.insert(key, value).expect("insert");
        other.insert(key, value).expect("insert");
        store.insert(key, value).expect("insert");
    }
    drop((wide, other));
    for payload in [24, 336] {
        store.close();
        let rewritten =
            swissdb::change_payload(store.path(), "wide", Payload::Bytes(payload), go_on);
        assert_eq!(rewritten.expect("rewrite").entries, 700);
        store.open();
        assert_eq!(stats_of(&store, "wide").payload, payload);
        assert_eq!(stats_of(&store, "other").payload, 56);
        assert_holds(&store, &model);
        for name in ["wide", "other"] {
            let table = store.table(name).expect("table");
            assert_same(pairs(table.iter()), &model);
        }
    }
    // The next id is still known.
    let ids = ["wide", "other", "third"].map(|name| {
        store.table(name).expect("table");
        stats_of(&store, name).id
    });
    assert_eq!(ids, [1, 2, 3]);
}

#[test]
fn log_files_that_only_the_old_table_needed_are_given_back() {
    let model: Model = (0..6_000).map(|i| (key(i), value(i, 470))).collect();
    let memory = stored(&model, &Options::new().max_log_file(1 << 20));
    let log = |memory: &Memory| memory.list("log").expect("list").len();
    let before = log(&memory);
    assert!(before >= 3);
    change(&memory, 488);
    assert!(log(&memory) < before, "{} log files of {before} are left", log(&memory));
    check(&memory, &model, 488);
}

#[test]
fn it_can_be_stopped_and_nothing_has_changed() {
    let model = mixed(9_000);
    let memory = stored(&model, &Options::new());
    let mut calls = 0;
    for stop_at in [1, 2, 5, 9] {
        let mut seen = 0;
        let storage = Arc::new(memory.clone());
        let stop = |progress: &RewriteProgress| {
            assert!(progress.entries <= progress.total && progress.total == 9_000);
            (seen, calls) = (seen + 1, calls + 1);
            if seen == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let options = Options::new();
        let rewritten = options.change_payload_on(storage, "default", Payload::Bytes(24), stop);
        assert!(!rewritten.expect("no error").finished);
        assert_eq!(left_over(&memory), 0);
        check(&memory, &model, 56);
    }
    assert_eq!(calls, 17, "it was stopped where it was told to");
}

/// Files of tables that are not finished.
fn left_over(memory: &Memory) -> usize {
    let names = memory.list("").expect("list");
    names.iter().filter(|name| name.ends_with(".tmp")).count()
}

#[test]
fn unfinished_files_confuse_nobody_and_go_with_the_next_opening() {
    let mut store = TestStore::on_disk(Options::new());
    store.insert("k", "v").expect("insert");
    store.close();
    let names = ["default.swiss.tmp", "other.swiss.tmp"];
    for name in names {
        std::fs::write(store.path().join(name), b"half of a table").expect("write");
    }
    assert!(swissdb::verify(store.path()).expect("verify").is_clean());
    let reader = Options::new().read_only(true).open(store.path()).expect("open to read");
    assert_eq!(reader.tables().expect("tables"), ["default"]);
    reader.close().expect("close");
    for name in names {
        assert!(store.path().join(name).exists(), "a reader removes nothing");
    }
    store.open();
    for name in names {
        assert!(!store.path().join(name).exists(), "{name} is left");
    }
}

#[test]
fn what_cannot_be_done_is_refused() {
    let mut store = TestStore::on_disk(Options::new());
    store.insert("k", "v").expect("insert");
    let attempt = |store: &TestStore, table: &str, payload| {
        swissdb::change_payload(store.path(), table, payload, go_on)
    };
    let locked = attempt(&store, "default", Payload::Bytes(24));
    assert!(matches!(locked, Err(Error::Locked { .. })));
    store.close();
    for bytes in [0, 20, 25, 512] {
        let refused = attempt(&store, "default", Payload::Bytes(bytes));
        assert!(matches!(refused, Err(Error::InvalidArgument { .. })), "{bytes}");
    }
    let missing = attempt(&store, "missing", Payload::Auto);
    assert!(matches!(missing, Err(Error::NotFound { .. })));
    let nowhere =
        swissdb::change_payload(store.path().join("nowhere"), "default", Payload::Bytes(24), go_on);
    assert!(matches!(nowhere, Err(Error::NotFound { .. })));
    assert!(!store.path().join("nowhere").exists());
    let same = attempt(&store, "default", Payload::Bytes(56)).expect("nothing to do");
    assert!(same.finished);
    assert_eq!((same.entries, same.bytes_before), (0, same.bytes_after));
    store.open();
    assert_eq!(store.tables().expect("tables"), ["default"]);
}

/// The bytes of a file in memory.
fn contents(memory: &Memory, name: &str) -> Vec<u8> {
    let file = memory.open(name, Access::Read).expect("open");
    let mut bytes = vec![0; file.length().expect("length") as usize];
    file.read_at(&mut bytes, 0).expect("read");
    bytes
}
