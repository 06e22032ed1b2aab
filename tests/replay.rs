//! What opening makes of a log.
//!
//! Goal: a log leads to the state that was there, although its operations are
//! collected, sorted and applied in another order than that of the log.
//! Method: stores with many operations behind the last checkpoint are killed
//! and opened with a write buffer so small that a window has 512 operations,
//! and that room must be made in the midst of it; held against maps of the
//! standard library, and verified. Records are damaged in the midst of a window.
//! The same for logs so long that a thread of its own reads them, and with devices
//! that fail or are full meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::{fs, io};

use swissdb::storage::memory::Memory;
use swissdb::storage::{Access, Storage};
use swissdb::{Batch, Db, Error, Options};

use crate::disk::{Disk, Fault, Kind};
use crate::space::device::Device;
use crate::support::{
    Gate, Model, Random, TestStore, Warden, assert_clean, assert_holds, assert_table_holds, key,
    value,
};

mod growing;

/// With so little the log is replayed in windows of 512 operations.
fn little() -> Options {
    Options::new().write_buffer(1 << 20)
}

/// With so much nothing is written before the kill unless it is asked for.
fn plenty() -> Options {
    Options::new().write_buffer(256 << 20)
}

/// What a killed process leaves of a store that `fill` has written to.
fn killed(options: &Options, fill: impl FnOnce(&Db)) -> Memory {
    let files = Memory::new();
    let db = options.open_on(Arc::new(files.clone())).expect("create a store");
    fill(&db);
    let left = files.copy().expect("copy the files");
    db.close().expect("close the copied store");
    left
}

/// Opens what was left, for reading and then for writing, with both a small
/// and a large write buffer, and lets `check` look at it.
fn check_all(left: &Memory, check: impl Fn(&Db)) {
    let ways = [plenty().read_only(true), plenty(), little()];
    for options in ways {
        let files = left.copy().expect("copy the files");
        let db = options.open_on(Arc::new(files.clone())).expect("open what was left");
        check(&db);
        assert_clean(&db);
        db.close().expect("close");
    }
}

/// Changes tables at random, with a map for each beside it.
struct Story<'a> {
    db: &'a Db,
    tables: BTreeMap<String, Model>,
    random: Random,
}

impl Story<'_> {
    /// A table that is there.
    fn table(&mut self) -> String {
        let number = self.random.below(self.tables.len() as u64) as usize;
        self.tables.keys().nth(number).expect("a table").clone()
    }

    /// A key of a few, most of them short, some longer than a slot.
    fn key(&mut self) -> Vec<u8> {
        let mut bytes = key(self.random.below(700));
        if bytes[15] == b'7' {
            bytes.resize(100, b'.');
        }
        bytes
    }

    fn value(&mut self) -> Vec<u8> {
        let length = [0, 8, 30, 40, 200, 3_000][self.random.below(6) as usize];
        value(self.random.next(), length)
    }

    fn change(&mut self) {
        let name = self.table();
        let handle = self.db.table(&name).expect("the table");
        match self.random.below(1_000) {
            0 => {
                handle.clear().expect("clear");
                self.tables.entry(name).or_default().clear();
            }
            1 | 2 => {
                let name = format!("t{}", self.random.below(6));
                self.db.table(&name).expect("create the table");
                self.tables.entry(name).or_default();
            }
            3 if name != "default" => {
                self.db.drop_table(&name).expect("drop the table");
                self.tables.remove(&name);
            }
            4..300 => {
                let key = self.key();
                handle.remove(&key).expect("remove");
                self.tables.entry(name).or_default().remove(&key);
            }
            300..320 => self.batch(),
            _ => {
                let (key, value) = (self.key(), self.value());
                handle.insert(&key, &value).expect("insert");
                self.tables.entry(name).or_default().insert(key, value);
            }
        }
    }

    /// Changes of the default table that are one record, with keys that come
    /// more than once.
    fn batch(&mut self) {
        let mut batch = Batch::new();
        for _ in 0..self.random.below(200) {
            let (key, value) = (self.key(), self.value());
            let model = self.tables.entry("default".into()).or_default();
            if value.len() == 8 {
                batch.remove(&key).expect("add to the batch");
                model.remove(&key);
            } else {
                batch.insert(&key, &value).expect("add to the batch");
                model.insert(key, value);
            }
        }
        self.db.write(&batch).expect("write");
    }
}

#[test]
fn a_log_with_all_kinds_of_changes_is_replayed_to_what_was_there() {
    for round in 0..4 {
        let mut tables = BTreeMap::from([("default".to_owned(), Model::new())]);
        let left = killed(&plenty().payload(56), |db| {
            let random = Random::new(0x7265_706C_6179 + round);
            let mut story = Story { db, tables: tables.clone(), random };
            for change in 0..6_000 {
                if round > 0 && change == 1_500 * round {
                    db.checkpoint().expect("checkpoint");
                }
                story.change();
            }
            tables = story.tables;
        });
        check_all(&left, |db| assert_tables_hold(db, &tables));
    }
}

#[test]
fn of_many_changes_of_a_key_the_last_one_counts() {
    let mut model = Model::new();
    let left = killed(&plenty(), |db| {
        for i in 0..3_000 {
            let key = key(i % 5);
            if i % 7 == 3 {
                db.remove(&key).expect("remove");
                model.remove(&key);
            } else {
                let value = value(i, (i as usize % 3) * 40);
                db.insert(&key, &value).expect("insert");
                model.insert(key, value);
            }
        }
    });
    check_all(&left, |db| assert_holds(db, &model));
}

#[test]
fn keys_that_come_and_go_leave_no_room_behind() {
    let left = killed(&plenty(), |db| {
        for i in 0..20_000 {
            db.insert(key(i), value(i, 30)).expect("insert");
            if i >= 100 {
                db.remove(key(i - 100)).expect("remove");
            }
        }
    });
    check_all(&left, |db| {
        assert_eq!(db.len(), 100);
        let capacity = db.stats().tables[0].capacity;
        assert!(capacity < 2_500, "{capacity} slots for 100 entries and a window");
    });
}

#[test]
fn room_is_made_in_the_midst_of_a_window() {
    let large_slots = || little().payload(504);
    let mut model: Model = (0..3_000).map(|i| (key(i), value(i, 400))).collect();
    let left = killed(&plenty().payload(504), |db| {
        model.iter().for_each(|(key, value)| db.insert(key, value).expect("insert"));
        db.checkpoint().expect("checkpoint");
        let mut random = Random::new(3);
        for i in 0..2_500 {
            let key = key(random.below(4_000));
            if random.one_in(5) {
                db.remove(&key).expect("remove");
                model.remove(&key);
            } else {
                let value = value(i, 300 + i as usize % 300);
                db.insert(&key, &value).expect("insert");
                model.insert(key, value);
            }
        }
    });
    let files = left.copy().expect("copy the files");
    let db = large_slots().open_on(Arc::new(files.clone())).expect("open");
    // 512 operations make more pages dirty than the 128 at which it is time.
    assert!(db.stats().checkpoints >= 8, "{} checkpoints", db.stats().checkpoints);
    assert_holds(&db, &model);
    // Killed once more, behind those checkpoints.
    let again = files.copy().expect("copy the files");
    db.close().expect("close");
    check_all(&again, |db| assert_holds(db, &model));
}

#[test]
fn a_value_longer_than_a_window_keeps_its_place_in_the_order() {
    let long = value(1, 33 << 20);
    let left = killed(&plenty(), |db| {
        db.insert("a", "before").expect("insert");
        db.insert("b", "before").expect("insert");
        db.insert("a", &long).expect("insert");
        db.insert("b", &long[..9]).expect("insert");
    });
    let db = little().open_on(Arc::new(left)).expect("open");
    assert!(db.get("a").expect("get").as_deref() == Some(&long[..]));
    assert_eq!(db.get("b").expect("get").as_deref(), Some(&long[..9]));
}

/// Fails unless a store has these tables, and these have these entries.
fn assert_tables_hold(db: &Db, tables: &BTreeMap<String, Model>) {
    assert_eq!(db.tables().expect("tables").len(), tables.len());
    for (name, model) in tables {
        assert_table_holds(&db.table(name).expect("the table"), model);
    }
}

/// Changes whose records are longer together than those that are read by the
/// thread that applies them.
fn long_story(db: &Db, seed: u64) -> BTreeMap<String, Model> {
    let tables = BTreeMap::from([("default".to_owned(), Model::new())]);
    let mut story = Story { db, tables, random: Random::new(seed) };
    let mut bytes = 0;
    while bytes < 9 << 20 {
        story.change();
        let (key, value) = (story.key(), value(story.random.next(), 2_000));
        db.insert(&key, &value).expect("insert");
        bytes += value.len();
        story.tables.entry("default".into()).or_default().insert(key, value);
    }
    story.tables
}

#[test]
fn a_long_log_that_is_read_ahead_is_replayed_to_what_was_there() {
    let mut tables = BTreeMap::new();
    let left = killed(&plenty().payload(56), |db| tables = long_story(db, 0x6C6F_6E67));
    check_all(&left, |db| assert_tables_hold(db, &tables));
}

#[test]
fn a_read_of_a_long_log_that_fails_ends_opening_and_loses_nothing() {
    let mut tables = BTreeMap::new();
    let left = killed(&plenty().payload(56), |db| tables = long_story(db, 0x6661_696C));
    let open = |options: Options, last: u64| {
        let reads = Arc::new(AtomicU64::new(0));
        let seen = reads.clone();
        let warden: Warden = Arc::new(move |name, bytes| {
            let is_read = name.starts_with("log/") && !bytes.is_empty();
            let number = if is_read { seen.fetch_add(1, Ordering::SeqCst) } else { 0 };
            if number <= last { Ok(()) } else { Err(io::ErrorKind::Other.into()) }
        });
        let files = left.copy().expect("copy the files");
        let gate = Gate::refusing(Arc::new(files.clone()), warden);
        (options.open_on(Arc::new(gate)), reads.load(Ordering::SeqCst), files)
    };
    for options in [plenty().read_only(true), plenty(), little()] {
        let (opened, all, _) = open(options.clone(), u64::MAX);
        opened.expect("open without a failure").close().expect("close");
        let mut failed = 0;
        for part in 1..8 {
            let (opened, _, files) = open(options.clone(), all * part / 8);
            let Err(error) = opened else { continue };
            assert!(matches!(error, Error::Io { .. }), "{error}");
            failed += 1;
            let db = plenty().open_on(Arc::new(files)).expect("open again");
            assert_table_holds(&db.table("default").expect("the table"), &tables["default"]);
            db.close().expect("close");
        }
        assert!(failed >= 6, "{failed} of 7 openings failed");
    }
}

/// Entries whose records are a long log, in slots of 504 bytes.
fn long_entries() -> Model {
    (0..30_000).map(|i| (key(i), value(i, 300))).collect()
}

#[test]
fn a_full_device_does_not_keep_a_long_log_from_being_replayed() {
    let device = Device::endless();
    let db = plenty().payload(504).open_on(Arc::new(device.clone())).expect("create a store");
    let model = long_entries();
    model.iter().for_each(|(key, value)| db.insert(key, value).expect("insert"));
    let full = device.copy();
    db.close().expect("close the copied store");
    full.resize(full.used());
    let db = little().open_on(Arc::new(full)).expect("open without room");
    assert_holds(&db, &model);
    assert_clean(&db);
    db.close().expect("close");
}

#[test]
fn a_checkpoint_that_fails_in_the_midst_of_a_long_log_ends_opening_and_loses_nothing() {
    let disk = Disk::new(5);
    let db = plenty().payload(504).open_on(Arc::new(disk.clone())).expect("create a store");
    let model = long_entries();
    model.iter().for_each(|(key, value)| db.insert(key, value).expect("insert"));
    let left = disk.killed();
    drop(db);
    for nth in [9, 40, 300] {
        let disk = Disk::boot(&left, nth);
        let fault = Fault::Error(io::ErrorKind::Other);
        disk.fail(nth, fault, |call| call.kind == Kind::Write && call.name == "default.swiss");
        let error = little().open_on(Arc::new(disk.clone())).expect_err("a write failed");
        assert!(disk.failed().is_some(), "{error}");
        let db = little().open_on(Arc::new(disk.kill())).expect("open again");
        assert_holds(&db, &model);
        assert_clean(&db);
        db.close().expect("close");
    }
}

/// Where the log has the value of that length and seed, which is there once.
fn place_of(store: &TestStore, seed: u64, length: usize) -> (std::path::PathBuf, usize) {
    let wanted = value(seed, length);
    for entry in fs::read_dir(store.path().join("log")).expect("the log") {
        let path = entry.expect("a log file").path();
        let bytes = fs::read(&path).expect("read the log");
        if let Some(at) = bytes.windows(length).position(|bytes| bytes == wanted) {
            return (path, at);
        }
    }
    panic!("the log has the value");
}

/// A store of which record `damaged` of 300 is broken, after a kill; before
/// record `sync`, all is made durable.
fn broken_at(damaged: u64, sync: u64) -> (tempfile::TempDir, Model) {
    let store = TestStore::on_disk(little());
    let mut model = Model::new();
    for i in 0..300 {
        if i == sync {
            store.sync().expect("sync");
        }
        store.insert(key(i % 40), value(i, 24)).expect("insert");
        if i < damaged {
            model.insert(key(i % 40), value(i, 24));
        }
    }
    let left = store.copy_as_killed();
    let (path, at) = place_of(&store, damaged, 24);
    let path = left.path().join(path.strip_prefix(store.path()).expect("a file below it"));
    let mut bytes = fs::read(&path).expect("read the log");
    bytes[at] ^= 1;
    fs::write(&path, bytes).expect("damage the log");
    (left, model)
}

#[test]
fn nothing_behind_a_torn_record_is_applied() {
    for damaged in [0, 1, 31, 150, 299] {
        let (left, model) = broken_at(damaged, 1_000);
        let reader = little().read_only(true).open(left.path()).expect("open for reading");
        assert_holds(&reader, &model);
        reader.close().expect("close");
        let db = little().open(left.path()).expect("open");
        assert_holds(&db, &model);
        assert_clean(&db);
        db.close().expect("close");
    }
}

#[test]
fn a_record_that_was_durable_is_not_taken_for_the_end() {
    let (left, _) = broken_at(150, 200);
    for options in [little(), little().read_only(true)] {
        let error = options.open(left.path()).map(drop).expect_err("a gap");
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains("record of commit 151"), "{error}");
    }
}

/// Copies a file as it is.
fn copy_file(from: &Memory, to: &Memory, name: &str) {
    let file = from.open(name, Access::Read).expect("open the file");
    let mut bytes = vec![0; file.length().expect("its length") as usize];
    file.read_at(&mut bytes, 0).expect("read the file");
    let copy = to.open(name, Access::Create).expect("make the copy");
    copy.write_at(&bytes, 0).expect("write the copy");
}

/// The file of a new table is there before the record of its creation is.
#[test]
fn a_table_whose_creation_was_lost_stays_away_though_replay_is_killed() {
    let files = Memory::new();
    let db = plenty().open_on(Arc::new(files.clone())).expect("create a store");
    for number in 0..20_000 {
        db.insert(key(number), value(number, 8)).expect("insert");
    }
    let left = files.copy().expect("copy the files");
    db.table("lost").expect("create a table");
    copy_file(&files, &left, "lost.swiss");
    db.close().expect("close the copied store");

    // What a kill leaves each time the header of that file has changed.
    let moments = Arc::new(Mutex::new(Vec::new()));
    let (opened, seen) = (left.clone(), moments.clone());
    let watcher = move |_: &str| {
        let Ok(file) = opened.open("lost.swiss", Access::Read) else { return };
        let mut header = vec![0; 8192];
        file.read_at(&mut header, 0).expect("read the header");
        let mut seen = seen.lock().expect("nobody panicked");
        if seen.last().is_none_or(|(last, _)| *last != header) {
            seen.push((header, opened.copy().expect("copy the files")));
        }
    };
    let gate = Gate::watched(Arc::new(left), Arc::new(watcher));
    let db = little().open_on(Arc::new(gate)).expect("open what was left");
    db.close().expect("close");
    let moments = moments.lock().expect("nobody panicked");
    assert!(moments.len() > 5, "no checkpoint made room: {} moments", moments.len());
    for (moment, (_, files)) in moments.iter().enumerate() {
        let db = plenty().read_only(true).open_on(Arc::new(files.clone()));
        let tables = db.expect("open what a kill left").tables().expect("tables");
        assert!(!tables.contains(&"lost".to_owned()), "it is there at moment {moment}");
    }
}
