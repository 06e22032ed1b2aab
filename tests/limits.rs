//! What a caller may get wrong: every limit gives a clear error, changes
//! nothing, and leaves a store that goes on working.

use std::fs;
use std::time::Duration;

use swissdb::{Batch, Db, Error, MAX_KEY_LENGTH, MAX_VALUE_LENGTH, Options, TableOptions};

use crate::support::{Model, TestStore, assert_clean, assert_holds, files_below, value};

/// What the error of a failed operation says; fails if it succeeded.
fn message<T>(result: swissdb::Result<T>) -> String {
    match result {
        Ok(_) => panic!("this should fail"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_key_over_the_limit_is_refused() {
    let store = TestStore::in_memory(Options::new());
    store.insert(vec![1; MAX_KEY_LENGTH], "longest").expect("insert");
    for length in [MAX_KEY_LENGTH + 1, 40_000, 65_536, 65_537, 1 << 20] {
        let key = vec![1; length];
        match store.insert(&key, "v") {
            Err(Error::KeyTooLong { length: told }) => assert_eq!(told, length),
            other => panic!("{length} bytes: {other:?}"),
        }
        assert!(message(store.insert(&key, "v")).contains("32767"));
        // Such a key cannot be there: asking for it is no error of the store.
        assert!(!matches!(store.get(&key), Ok(Some(_))));
        assert!(!matches!(store.contains_key(&key), Ok(true)));
        assert!(!matches!(store.remove(&key), Ok(true)));
    }
    assert_holds(&store, &Model::from([(vec![1; MAX_KEY_LENGTH], b"longest".to_vec())]));
}

#[test]
fn a_value_over_the_limit_is_refused() {
    let store = TestStore::in_memory(Options::new());
    // Zeroed memory that nobody touches costs nothing.
    let value = vec![0; MAX_VALUE_LENGTH + 1];
    match store.insert("key", &value) {
        Err(Error::ValueTooLong { length }) => assert_eq!(length, MAX_VALUE_LENGTH + 1),
        other => panic!("{other:?}"),
    }
    assert!(message(store.insert("key", &value)).contains(&MAX_VALUE_LENGTH.to_string()));
    assert!(store.is_empty());
    assert_eq!(store.stats().commits, 0, "nothing was written");
}

#[test]
fn a_bad_operation_is_refused_when_it_is_added_to_a_batch() {
    let store = TestStore::in_memory(Options::new());
    store.insert("a", "1").expect("insert");
    let long = vec![0; MAX_KEY_LENGTH + 1];
    let mut batch = Batch::new();
    batch.insert("a", "2").expect("add to the batch");
    assert!(matches!(batch.insert(&long, "v"), Err(Error::KeyTooLong { .. })));
    assert!(matches!(batch.remove(&long), Err(Error::KeyTooLong { .. })));
    let result = batch.insert("b", vec![0; MAX_VALUE_LENGTH + 1]);
    assert!(matches!(result, Err(Error::ValueTooLong { .. })));
    assert_eq!(batch.len(), 1, "the others are as they were");
    store.write(&batch).expect("write");
    assert_holds(&store, &Model::from([(b"a".to_vec(), b"2".to_vec())]));
}

#[test]
fn a_batch_on_a_dropped_table_changes_nothing() {
    let store = TestStore::in_memory(Options::new());
    let table = store.table("t").expect("table");
    let mut batch = Batch::new();
    batch.insert("a", "1").expect("add to the batch");
    batch.insert_into(&table, "b", "1").expect("add to the batch");
    assert!(store.drop_table("t").expect("drop"));
    assert!(matches!(store.write(&batch), Err(Error::NotFound { .. })));
    assert!(store.is_empty());
}

#[test]
fn a_batch_larger_than_the_memory_for_changes_is_refused_whole() {
    // Every operation of this batch changes another page, far more of them
    // than the write buffer has room for.
    let mut store = TestStore::on_disk(Options::new().payload(504).write_buffer(1 << 20));
    let mut model = Model::new();
    for start in (0..4_000u64).step_by(500) {
        let mut batch = Batch::new();
        for i in start..start + 50 {
            batch.insert(i.to_le_bytes(), value(i, 300)).expect("add to the batch");
            model.insert(i.to_le_bytes().to_vec(), value(i, 300));
        }
        store.write(&batch).expect("a small batch");
    }
    let mut batch = Batch::new();
    for i in 0..40_000u64 {
        batch.insert(i.to_le_bytes(), value(i + 1, 300)).expect("add to the batch");
    }
    match store.write(&batch) {
        Err(error @ Error::BatchTooLarge { needed, limit }) => {
            assert!(needed > limit && limit >= 2 << 20, "{needed} of {limit}");
            let text = error.to_string();
            assert!(text.contains("a larger write buffer"), "what else to do: {text}");
        }
        // The store may find the room by other means; then all of it is there.
        Ok(()) => {
            model = (0..40_000u64).map(|i| (i.to_le_bytes().into(), value(i + 1, 300))).collect()
        }
        Err(other) => panic!("{other}"),
    }
    assert_holds(&store, &model);
    store.insert("it", "goes on").expect("insert");
    model.insert(b"it".to_vec(), b"goes on".to_vec());
    store.kill();
    assert_holds(&store, &model);
}

#[test]
fn settings_out_of_range_are_refused() {
    for payload in [0, 16, 23, 25, 28, 505, 512, 4096, usize::MAX] {
        let error = message(Options::new().payload(payload).in_memory());
        assert!(error.contains("payload"), "{error}");
    }
    // The largest of these overflowed, and was memory for a thousand pages then.
    for bytes in [0, 4096, (1 << 20) - 1, (1 << 40) + 1, 1 << 63, usize::MAX] {
        let error = message(Options::new().write_buffer(bytes).in_memory());
        assert!(error.contains("write buffer"), "{error}");
    }
    for bytes in [0, 4096, (1 << 20) + 1, (64 << 20) + 4096, u64::MAX] {
        let error = message(Options::new().max_log_file(bytes).in_memory());
        assert!(error.contains("log file"), "{error}");
    }
    let store = TestStore::in_memory(Options::new());
    let result = store.create_table("t", &TableOptions::new().payload(20));
    assert!(matches!(result, Err(Error::InvalidArgument { .. })));
    assert_eq!(store.tables().expect("tables"), ["default"]);
}

/// What means never, or at once: the clock does not go that far.
#[test]
fn a_sync_interval_may_have_any_length() {
    for interval in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        let mut store = TestStore::on_disk(Options::new().sync_interval(interval));
        store.insert("a", "1").expect("insert");
        store.insert("b", "2").expect("insert");
        store.sync().expect("sync");
        store.remove("b").expect("remove");
        store.reopen();
        assert_holds(&store, &Model::from([(b"a".to_vec(), b"1".to_vec())]));
    }
}

#[test]
fn table_names_are_checked() {
    let store = TestStore::in_memory(Options::new());
    let long = "x".repeat(65);
    for name in ["", "a b", "a/b", "../up", "Zähler", "nul\0", ".", "a.swiss", &long] {
        match store.table(name) {
            Err(Error::InvalidArgument { .. }) => {}
            other => panic!("{name:?}: {:?}", other.map(|table| table.len())),
        }
    }
    for name in ["a", "A-b_9", &"x".repeat(64)] {
        store.table(name).expect("a good name").insert("k", "v").expect("insert");
    }
}

#[test]
fn a_store_that_is_not_there_is_not_found() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("nothing");
    let refused = Options::new().create(false).open(&path);
    assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}", refused = refused.err());
    let refused = Options::new().read_only(true).open(&path);
    assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}", refused = refused.err());
    assert!(!path.exists(), "asking creates nothing");
    assert!(message(Options::new().create(false).open(&path)).contains("nothing"));
    Db::open(&path).expect("create").close().expect("close");
    Options::new().create(false).open(&path).expect("now it is there").close().expect("close");
}

#[test]
fn a_path_that_is_a_file_is_an_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("file");
    fs::write(&path, "not a store").expect("write");
    assert!(message(Db::open(&path)).contains("file"));
    assert_eq!(fs::read(&path).expect("read"), b"not a store");
}

#[test]
fn a_directory_of_other_things_is_left_alone() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("letter.txt"), "dear all").expect("write");
    let db = Db::open(directory.path()).expect("create beside other files");
    db.insert("k", "v").expect("insert");
    db.close().expect("close");
    assert_eq!(fs::read(directory.path().join("letter.txt")).expect("read"), b"dear all");
}

#[test]
fn a_second_opening_finds_the_store_locked() {
    let store = TestStore::on_disk(Options::new());
    store.insert("k", "v").expect("insert");
    for options in [Options::new(), Options::new().read_only(true)] {
        match options.open(store.path()) {
            Err(Error::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{:?}", other.err()),
        }
    }
    assert!(message(Db::open(store.path())).contains(&std::process::id().to_string()));
    store.insert("k", "the first handle still works").expect("insert");
}

#[test]
fn readers_share_a_store_and_keep_writers_out() {
    let mut store = TestStore::on_disk(Options::new());
    store.insert("k", "v").expect("insert");
    store.close();
    let open = || Options::new().read_only(true).open(store.path());
    let (one, two) = (open().expect("a reader"), open().expect("another reader"));
    assert!(matches!(Db::open(store.path()), Err(Error::Locked { .. })));
    assert_eq!(one.get("k").expect("get").as_deref(), Some(&b"v"[..]));
    assert_eq!(two.get("k").expect("get").as_deref(), Some(&b"v"[..]));
    drop((one, two));
    Db::open(store.path()).expect("no reader is left").close().expect("close");
}

#[test]
fn a_store_opened_for_reading_refuses_every_change() {
    let mut store = TestStore::on_disk(Options::new());
    store.insert("k", "v").expect("insert");
    store.table("t").expect("table").insert("k", "in t").expect("insert");
    store.close();
    let before = files_below(store.path());
    let db = Options::new().read_only(true).open(store.path()).expect("a reader");
    let mut batch = Batch::new();
    batch.insert("k", "w").expect("add to the batch");
    let table = db.table("t").expect("a table that is there");
    let refused = [
        db.insert("k", "w"),
        db.remove("k").map(drop),
        db.clear(),
        db.write(&batch),
        db.drop_table("t").map(drop),
        table.insert("k", "w"),
        table.remove("k").map(drop),
        table.clear(),
    ];
    for (number, result) in refused.into_iter().enumerate() {
        assert!(matches!(result, Err(Error::ReadOnly)), "operation {number}: {result:?}");
    }
    assert!(matches!(db.table("new"), Err(Error::NotFound { .. } | Error::ReadOnly)));
    assert_eq!(table.get("k").expect("get").as_deref(), Some(&b"in t"[..]));
    assert_clean(&db);
    drop((db, table));
    assert!(before == files_below(store.path()), "reading changes no byte");
    store.open();
}

#[test]
fn handles_of_a_closed_store_give_errors() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let db = Db::open(directory.path()).expect("create");
    let (other, table) = (db.clone(), db.table("t").expect("table"));
    db.insert("k", "v").expect("insert");
    db.close().expect("close");
    assert!(matches!(other.insert("k", "w"), Err(Error::Closed { .. })));
    assert!(matches!(other.remove("k"), Err(Error::Closed { .. })));
    assert!(matches!(table.insert("k", "w"), Err(Error::Closed { .. })));
    assert!(matches!(other.checkpoint(), Err(Error::Closed { .. })));
    let again = Db::open(directory.path()).expect("it is closed, others exist or not");
    assert_eq!(again.get("k").expect("get").as_deref(), Some(&b"v"[..]));
    again.close().expect("close");
}
