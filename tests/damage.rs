//! Stores whose bytes rotted, were cut off or are missing.
//!
//! Goal: damage is told, never returned as data, and costs only what it hit.
//! The tests know nothing of the format: they flip bits in every block in
//! turn, and find values in the log by searching for their bytes.

use std::fs;
use std::path::{Path, PathBuf};

use swissdb::{Db, Error, Options};

use crate::support::{
    Model, Random, TestStore, assert_holds, copy_directory, files_below, key, show, value,
};

/// A block of the table file.
const BLOCK: u64 = 4096;

/// Options under which nothing becomes durable, and no page is written, unasked.
fn patient() -> Options {
    Options::new().sync_interval(std::time::Duration::from_secs(3600))
}

/// The entries of the stores here: inline, and every fourth one spilled.
fn entries(count: u64) -> Model {
    (0..count).map(|i| (key(i), value(i, if i % 4 == 0 { 700 } else { 20 }))).collect()
}

/// A store that was closed with these entries in it.
fn closed(model: &Model) -> TestStore {
    let mut store = TestStore::on_disk(patient());
    for (key, value) in model {
        store.insert(key, value).expect("insert");
    }
    store.close();
    store
}

/// Flips one bit of a file; doing it again brings the file back.
fn flip(path: &Path, offset: u64, bit: u32) {
    let mut bytes = fs::read(path).expect("read");
    bytes[offset as usize] ^= 1 << bit;
    fs::write(path, bytes).expect("write");
}

/// The files of the log, oldest first.
fn log_files(store: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(store.join("log"))
        .expect("read log/")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    files.sort();
    files
}

/// Where these bytes lie in the log for the last time.
fn find_in_log(store: &Path, bytes: &[u8]) -> (PathBuf, u64) {
    for file in log_files(store).into_iter().rev() {
        let content = fs::read(&file).expect("read");
        let found = content.windows(bytes.len()).rposition(|window| window == bytes);
        if let Some(offset) = found {
            return (file, offset as u64);
        }
    }
    panic!("{} is nowhere in the log", show(bytes));
}

fn reader(path: &Path) -> swissdb::Result<Db> {
    Options::new().read_only(true).open(path)
}

/// How many of the entries can be read and how many are reported as corrupt;
/// fails if anything else comes.
fn readable(db: &Db, model: &Model) -> (usize, usize) {
    let (mut good, mut bad) = (0, 0);
    for (key, value) in model {
        match db.get(key) {
            Ok(Some(found)) if found[..] == value[..] => good += 1,
            Ok(found) => panic!("{} gave {:?}", show(key), found.as_deref().map(show)),
            Err(Error::Corrupt(_)) => bad += 1,
            Err(other) => panic!("{} gave {other}", show(key)),
        }
    }
    (good, bad)
}

#[test]
fn a_flipped_bit_in_a_page_is_corrupt_and_the_others_stay_readable() {
    let model = entries(1_500);
    let store = closed(&model);
    let file = store.path().join("default.swiss");
    let blocks = fs::metadata(&file).expect("metadata").len() / BLOCK;
    let mut random = Random::new(11);
    let (mut refused, mut partly) = (0, 0);
    for block in 0..blocks {
        let (offset, bit) = (block * BLOCK + random.below(BLOCK), random.below(8) as u32);
        flip(&file, offset, bit);
        match reader(store.path()) {
            Ok(db) => {
                let (good, bad) = readable(&db, &model);
                assert_eq!(good + bad, model.len());
                if bad > 0 {
                    partly += u64::from(good > 0);
                    let report = db.verify().expect("verify goes on after damage");
                    assert!(!report.is_clean(), "block {block}: {bad} entries are unreadable");
                    assert!(db.iter().any(|entry| entry.is_err()), "iteration tells it, too");
                }
            }
            Err(Error::Corrupt(_)) => refused += 1,
            Err(other) => panic!("block {block}: {other}"),
        }
        flip(&file, offset, bit);
    }
    eprintln!("of {blocks} blocks, {refused} are needed to open and {partly} hold entries");
    assert!(partly >= 20, "only {partly} blocks held entries");
    assert!(refused <= 3, "the root and the free map, but {refused} blocks");
    let db = reader(store.path()).expect("it is whole again");
    assert_holds(&db, &model);
}

#[test]
fn every_violation_is_reported_not_the_first() {
    let store = closed(&entries(1_500));
    let file = store.path().join("default.swiss");
    let blocks = fs::metadata(&file).expect("metadata").len() / BLOCK;
    let copy = tempfile::tempdir().expect("a temporary directory");
    copy_directory(store.path(), copy.path());
    // Blocks that hold entries, found one by one in the copy.
    let mut hit = 0;
    for block in 2..blocks {
        let single = copy.path().join("default.swiss");
        flip(&single, block * BLOCK + 100, 0);
        let damaged =
            reader(copy.path()).is_ok_and(|db| db.verify().is_ok_and(|report| !report.is_clean()));
        flip(&single, block * BLOCK + 100, 0);
        if damaged && hit < 5 {
            flip(&file, block * BLOCK + 100, 0);
            hit += 1;
        }
    }
    assert_eq!(hit, 5);
    let report = reader(store.path()).expect("open").verify().expect("verify");
    assert!(report.violations.len() >= 5, "{} violations", report.violations.len());
    for violation in &report.violations {
        assert!(!violation.invariant.is_empty() && !violation.text.is_empty(), "{violation:?}");
    }
}

#[test]
fn writing_goes_on_beside_a_damaged_page() {
    let mut model = entries(1_500);
    let store = closed(&model);
    let file = store.path().join("default.swiss");
    let blocks = fs::metadata(&file).expect("metadata").len() / BLOCK;
    let damaged = (2..blocks).find(|block| {
        flip(&file, block * BLOCK + 200, 3);
        let bad = reader(store.path()).map_or(0, |db| readable(&db, &model).1);
        if bad == 0 {
            flip(&file, block * BLOCK + 200, 3);
        }
        bad > 0
    });
    assert!(damaged.is_some(), "some block holds entries");
    let db = patient().open(store.path()).expect("open for writing");
    let (mut written, mut refused) = (0, 0);
    for i in 0..1_500 {
        match db.insert(key(i), "new") {
            Ok(()) => {
                model.insert(key(i), b"new".to_vec());
                written += 1;
            }
            Err(Error::Corrupt(_)) => refused += 1,
            Err(other) => panic!("entry {i}: {other}"),
        }
    }
    assert!(written > 0 && refused > 0, "{written} written, {refused} refused");
    assert_eq!(readable(&db, &model).0, written);
}

#[test]
fn a_flipped_bit_in_a_spilled_value_is_corrupt() {
    let model = entries(200);
    let store = closed(&model);
    let (file, offset) = find_in_log(store.path(), &value(40, 700));
    for at in [0, 1, 350, 699] {
        flip(&file, offset + at, 5);
        let db = reader(store.path()).expect("open");
        assert!(matches!(db.get(key(40)), Err(Error::Corrupt(_))), "byte {at}");
        assert!(matches!(db.get_with(key(40), |_| ()), Err(Error::Corrupt(_))), "byte {at}");
        assert_eq!(readable(&db, &model), (199, 1));
        assert!(!db.verify().expect("verify").is_clean());
        drop(db);
        flip(&file, offset + at, 5);
    }
    assert_holds(&reader(store.path()).expect("open"), &model);
}

#[test]
fn corruption_says_which_file_where_and_what() {
    let store = closed(&entries(200));
    let (file, offset) = find_in_log(store.path(), &value(40, 700));
    flip(&file, offset, 0);
    let db = reader(store.path()).expect("open");
    let Err(Error::Corrupt(corruption)) = db.get(key(40)) else { panic!("it is damaged") };
    assert_eq!(corruption.path, file);
    assert!(corruption.offset.abs_diff(offset) < 4096, "{} of {offset}", corruption.offset);
    assert!(!corruption.what.is_empty());
    assert_ne!(corruption.expected, corruption.found);
}

#[test]
fn one_damaged_header_copy_is_survived_and_two_are_corrupt() {
    let model = entries(100);
    let store = closed(&model);
    let file = store.path().join("default.swiss");
    for block in [0, 1] {
        flip(&file, block * BLOCK + 50, 1);
        assert_holds(&reader(store.path()).expect("the other copy is whole"), &model);
        flip(&file, block * BLOCK + 50, 1);
    }
    flip(&file, 50, 1);
    flip(&file, BLOCK + 60, 1);
    for options in [Options::new(), Options::new().read_only(true)] {
        assert!(matches!(options.open(store.path()), Err(Error::Corrupt(_))));
    }
}

#[test]
fn a_missing_table_file_beside_a_log_is_corrupt_not_new() {
    let store = closed(&entries(100));
    fs::remove_file(store.path().join("default.swiss")).expect("remove");
    for options in [Options::new(), Options::new().read_only(true), Options::new().create(false)] {
        let result = options.open(store.path());
        assert!(matches!(result, Err(Error::Corrupt(_))), "{:?}", result.err());
    }
    assert!(!store.path().join("default.swiss").exists(), "nothing was created in its place");
}

#[test]
fn a_file_of_somebody_else_is_not_taken_for_an_interrupted_creation() {
    let long = vec![0; 1 << 16];
    for bytes in [&b"Dear diary, today I began to count things.\n"[..], b"", &long] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(directory.path().join("log")).expect("create");
        let path = directory.path().join("log/00000001.log");
        fs::write(&path, bytes).expect("write");
        for options in [Options::new(), Options::new().create(false)] {
            let error = options.open(directory.path()).expect_err("it is no store").to_string();
            assert!(error.contains("00000001.log"), "{error}");
            assert!(error.contains("magic of the log file"), "{error}");
        }
        assert_eq!(fs::read(&path).expect("it is still there"), bytes);
    }
}

/// A program that never kept a store here has a directory `log` of its own, or a file.
#[test]
fn a_log_of_another_kind_makes_no_damaged_store() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path();
    let is_no_store = || {
        let before = files_below(path);
        for options in [Options::new().create(false), Options::new().read_only(true)] {
            let result = options.open(path);
            assert!(matches!(result, Err(Error::NotFound { .. })), "{:?}", result.err());
        }
        assert!(matches!(swissdb::verify(path), Err(Error::NotFound { .. })));
        assert_eq!(files_below(path), before, "nothing is left there");
    };
    fs::write(path.join("log"), "a file").expect("write");
    is_no_store();
    fs::remove_file(path.join("log")).expect("remove");
    fs::create_dir(path.join("log")).expect("create");
    for name in ["app.log", "1.log", "00000000.log", "next.log"] {
        fs::write(path.join("log").join(name), name).expect("write");
    }
    is_no_store();
    // Whoever asks for a store there gets one, and what was there stays.
    for _ in 0..2 {
        let db = Db::open(path).expect("open");
        db.insert("key", "value").expect("insert");
        db.close().expect("close");
        assert!(swissdb::verify(path).expect("verify").is_clean());
    }
    for name in ["app.log", "1.log", "00000000.log", "next.log"] {
        assert_eq!(fs::read(path.join("log").join(name)).expect("read"), name.as_bytes());
    }
}

#[test]
fn a_missing_log_is_corrupt() {
    for killed in [false, true] {
        let mut store = closed(&entries(100));
        let directory = if killed {
            store.open();
            store.insert("one", "more").expect("insert");
            store.copy_as_killed()
        } else {
            let copy = tempfile::tempdir().expect("a temporary directory");
            copy_directory(store.path(), copy.path());
            copy
        };
        for file in log_files(directory.path()) {
            fs::remove_file(file).expect("remove");
        }
        let result = Db::open(directory.path());
        assert!(matches!(result, Err(Error::Corrupt(_))), "{:?}", result.err());
    }
}

#[test]
fn files_cut_off_or_overwritten_give_errors() {
    let model = entries(300);
    let store = closed(&model);
    let whole = fs::read(store.path().join("default.swiss")).expect("read");
    for length in [0, 1, 100, 4_095, 4_096, 8_191, 8_192, whole.len() / 2] {
        let copy = tempfile::tempdir().expect("a temporary directory");
        copy_directory(store.path(), copy.path());
        fs::write(copy.path().join("default.swiss"), &whole[..length]).expect("write");
        match Db::open(copy.path()) {
            Err(Error::Corrupt(_) | Error::Io { .. }) => {}
            Err(other) => panic!("{length} bytes: {other}"),
            // A free tail may be missing; what is there must be right.
            Ok(db) => drop(readable(&db, &model)),
        }
    }
    for filler in [0, 0xFF, b'x'] {
        let copy = tempfile::tempdir().expect("a temporary directory");
        copy_directory(store.path(), copy.path());
        fs::write(copy.path().join("default.swiss"), vec![filler; whole.len()]).expect("write");
        assert!(matches!(Db::open(copy.path()), Err(Error::Corrupt(_))), "filled with {filler}");
    }
}

/// A store killed after `count` inserts of entries `0..count`, of which the
/// first `synced` were made durable.
fn killed_after(count: u64, synced: u64) -> tempfile::TempDir {
    let store = TestStore::on_disk(patient());
    for i in 0..count {
        store.insert(key(i), value(i, 30)).expect("insert");
        if i + 1 == synced {
            store.sync().expect("sync");
        }
    }
    store.copy_as_killed()
}

#[test]
fn a_torn_last_record_is_the_end_of_the_log() {
    let directory = killed_after(50, 0);
    let (file, offset) = find_in_log(directory.path(), &value(49, 30));
    flip(&file, offset, 2);
    let db = Db::open(directory.path()).expect("what was never durable may be lost");
    let model = (0..49).map(|i| (key(i), value(i, 30))).collect();
    assert_holds(&db, &model);
    db.insert("it", "goes on").expect("insert");
    db.close().expect("close");
}

#[test]
fn damage_in_undurable_records_loses_the_rest_and_leaves_no_hole() {
    let directory = killed_after(50, 0);
    let (file, offset) = find_in_log(directory.path(), &value(20, 30));
    flip(&file, offset, 2);
    let db = Db::open(directory.path()).expect("nothing of this was durable");
    let model = (0..20).map(|i| (key(i), value(i, 30))).collect();
    assert_holds(&db, &model);
    // What was lost does not come back later.
    db.insert(key(100), "new").expect("insert");
    db.close().expect("close");
    let db = Db::open(directory.path()).expect("open again");
    assert_eq!(db.len(), 21);
    db.close().expect("close");
}

#[test]
fn damage_in_a_durable_record_is_corrupt_not_the_end() {
    // Records after the sync say that those before it were durable.
    let directory = killed_after(50, 30);
    let (file, offset) = find_in_log(directory.path(), &value(20, 30));
    flip(&file, offset, 2);
    let result = Db::open(directory.path());
    assert!(matches!(result, Err(Error::Corrupt(_))), "{:?}", result.err());
}

#[test]
fn random_damage_anywhere_never_panics_and_never_invents_data() {
    let model = entries(400);
    let store = closed(&model);
    let mut random = Random::new(13);
    for round in 0..60 {
        let copy = tempfile::tempdir().expect("a temporary directory");
        copy_directory(store.path(), copy.path());
        let mut files = log_files(copy.path());
        files.push(copy.path().join("default.swiss"));
        let file = &files[random.below(files.len() as u64) as usize];
        let mut bytes = fs::read(file).expect("read");
        for _ in 0..1 + random.below(20) {
            let at = random.below(bytes.len().min(300_000) as u64) as usize;
            let length = (1 + random.below(64) as usize).min(bytes.len() - at);
            let filler = random.next().to_le_bytes();
            bytes[at..at + length].iter_mut().zip(filler.iter().cycle()).for_each(|(b, f)| *b = *f);
        }
        fs::write(file, bytes).expect("write");
        let options = Options::new().read_only(round % 2 == 0);
        let Ok(db) = options.open(copy.path()) else {
            continue;
        };
        readable(&db, &model);
        for entry in db.iter().take(1_000) {
            let Ok((key, value)) = entry else { continue };
            assert_eq!(model.get(&key[..]).map(|v| &v[..]), Some(&value[..]), "round {round}");
        }
        let _ = db.verify().expect("verify goes on after damage");
    }
}
