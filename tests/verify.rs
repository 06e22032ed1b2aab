//! The full check of a store, from outside.
//!
//! Goal: no byte that means something can change without being named, an
//! undamaged store is never blamed, whatever state it is in, and nothing is
//! changed by looking. Method: in a small store that was closed one bit is
//! flipped in each field, and in every n-th byte of the rest, one after the
//! other; each time the report must name it. Which invariant breaks by what is
//! tested beside the code.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use swissdb::{Error, Options, Report, verify};

use crate::support::{Random, TestStore, copy_directory, files_below, key, value};

/// A block of the table file.
const BLOCK: usize = 4096;

fn patient() -> Options {
    Options::new().sync_interval(Duration::from_secs(3600))
}

/// A small store that was closed, with every kind of entry in it.
fn closed() -> TestStore {
    let mut store = TestStore::on_disk(patient());
    for i in 0..40 {
        store.insert(key(i), value(i, if i % 4 == 0 { 90 } else { 20 })).expect("insert");
    }
    store.insert(value(100, 70), value(101, 10)).expect("insert");
    store.insert(value(102, 70), value(103, 80)).expect("insert");
    store.remove(key(3)).expect("remove");
    store.close();
    store
}

/// Something that happens to the files of a store.
type Damage = &'static dyn Fn(&Path);

fn report(path: &Path) -> Report {
    verify(path).unwrap_or_else(|error| panic!("verify: {error}"))
}

/// Flips a bit at each of these offsets in turn, and returns those where
/// nobody noticed.
fn unnoticed(store: &Path, file: &str, offsets: impl Iterator<Item = usize>) -> Vec<usize> {
    let path = store.join(file);
    let whole = fs::read(&path).expect("read");
    let mut missed = Vec::new();
    for offset in offsets {
        let mut bytes = whole.clone();
        bytes[offset] ^= 1 << (offset % 8);
        fs::write(&path, &bytes).expect("write");
        match verify(store) {
            Ok(report) if report.is_clean() => missed.push(offset),
            Ok(report) => {
                let text = report.to_string();
                assert!(text.contains("at offset"), "{file} at {offset}: {text}");
            }
            Err(error) => panic!("{file} at {offset}: {error}"),
        }
    }
    fs::write(&path, whole).expect("write");
    assert!(report(store).is_clean(), "it is whole again");
    missed
}

/// The integer at an offset.
fn u32_at(bytes: &[u8], offset: usize) -> usize {
    let field = bytes[offset..offset + 4].try_into().expect("four bytes");
    u32::from_le_bytes(field) as usize
}

/// The bytes of the blocks in use, by the free map.
fn blocks_in_use(table: &[u8]) -> Vec<Range<usize>> {
    let map = u32_at(table, 128) * BLOCK;
    let is_free = |block: usize| table[map + block / 8] >> (block % 8) & 1 == 1;
    let used = (0..u32_at(table, 140)).filter(|block| !is_free(*block));
    used.map(|block| block * BLOCK..(block + 1) * BLOCK).collect()
}

#[test]
fn no_byte_of_a_table_file_can_change_unnoticed() {
    let store = closed();
    let table = fs::read(store.path().join("default.swiss")).expect("read");
    let blocks = blocks_in_use(&table);
    assert!(blocks.len() >= 6, "{} blocks", blocks.len());
    // Every byte where fields are, and some of those that should be zero.
    let offsets = blocks.iter().flat_map(|block| {
        let fields = block.start..block.start + 152;
        fields.chain((block.start + 152..block.end - 4).step_by(97)).chain(block.end - 4..block.end)
    });
    let missed = unnoticed(store.path(), "default.swiss", offsets);
    assert_eq!(missed, [], "in blocks {blocks:?}");
}

#[test]
fn free_blocks_mean_nothing() {
    let store = closed();
    let path = store.path().join("default.swiss");
    let mut table = fs::read(&path).expect("read");
    let used = blocks_in_use(&table);
    for block in (0..table.len()).step_by(BLOCK).filter(|at| used.iter().all(|b| b.start != *at)) {
        table[block..block + BLOCK].fill(0xab);
    }
    table.extend([0xcd; 3 * BLOCK]);
    fs::write(&path, table).expect("write");
    assert!(report(store.path()).is_clean());
}

#[test]
fn no_byte_of_a_log_file_can_change_unnoticed() {
    let store = closed();
    let table = fs::read(store.path().join("default.swiss")).expect("read");
    let end = u32_at(&table, 96);
    let log = fs::read(store.path().join("log/00000001.log")).expect("read");
    let mut record = BLOCK;
    let mut offsets: Vec<usize> = (0..36).chain((36..BLOCK).step_by(97)).chain(512..544).collect();
    while record < end {
        let length = u32_at(&log, record + 4);
        offsets.extend(record..record + 36);
        offsets.extend((record + 36..record + length).step_by(41));
        record += length.next_multiple_of(8);
    }
    assert_eq!(record, end);
    let missed = unnoticed(store.path(), "log/00000001.log", offsets.into_iter());
    assert_eq!(missed, [], "the log ends at {end}");
}

#[test]
fn what_lies_behind_the_end_of_the_log_means_nothing() {
    let store = closed();
    let path = store.path().join("log/00000001.log");
    let table = fs::read(store.path().join("default.swiss")).expect("read");
    let mut log = fs::read(&path).expect("read");
    let mut random = Random::new(7);
    for byte in &mut log[u32_at(&table, 96)..] {
        *byte = random.next() as u8;
    }
    fs::write(&path, log).expect("write");
    assert!(report(store.path()).is_clean());
}

#[test]
fn damage_that_keeps_a_store_closed_is_in_the_report() {
    let store = closed();
    let cases: [(&str, Damage, &str); 6] = [
        ("both headers", &|s| overwrite(&s.join("default.swiss"), &[40, 4136]), "I1"),
        ("no table", &|s| fs::remove_file(s.join("default.swiss")).expect("remove"), "I1"),
        ("no log", &|s| fs::remove_dir_all(s.join("log")).expect("remove"), "I17"),
        ("no log file", &|s| fs::remove_file(s.join("log/00000001.log")).expect("remove"), "I18"),
        ("the log's header", &|s| overwrite(&s.join("log/00000001.log"), &[16]), "I17"),
        ("a table's name", &|s| drop(fs::copy(s.join("default.swiss"), s.join("x.swiss"))), "I19"),
    ];
    for (what, damage, invariant) in cases {
        let copy = tempfile::tempdir().expect("a temporary directory");
        copy_directory(store.path(), copy.path());
        damage(copy.path());
        let report = report(copy.path());
        let named = |v: &swissdb::Violation| v.invariant == invariant;
        assert!(report.violations.iter().any(named), "{what}: {report}");
    }
}

fn overwrite(path: &Path, offsets: &[usize]) {
    let mut bytes = fs::read(path).expect("read");
    for offset in offsets {
        bytes[*offset] ^= 0x10;
    }
    fs::write(path, bytes).expect("write");
}

#[test]
fn a_table_that_the_log_knows_and_that_has_no_file_is_in_the_report() {
    let store = TestStore::on_disk(patient());
    store.table("second").expect("table").insert("a", "b").expect("insert");
    let copy = store.copy_as_killed();
    fs::remove_file(copy.path().join("second.swiss")).expect("remove");
    let report = report(copy.path());
    assert_eq!(report.violations.len(), 1, "{report}");
    assert_eq!(report.violations[0].invariant, "open");
}

#[test]
fn every_piece_of_damage_is_in_one_report() {
    let mut store = TestStore::on_disk(patient());
    for i in 0..3_000 {
        store.insert(key(i), value(i, if i % 50 == 0 { 90 } else { 20 })).expect("insert");
    }
    store.close();
    let path = store.path().join("default.swiss");
    let table = fs::read(&path).expect("read");
    let root = u32_at(&table, 112);
    let map = u32_at(&table, 128);
    let pages: Vec<usize> = blocks_in_use(&table)
        .iter()
        .map(|block| block.start)
        // Pages of segments have no magic in front.
        .filter(|at| &table[*at..*at + 4] != b"SDIR" && *at >= 2 * BLOCK)
        .filter(|at| ![root * BLOCK, map * BLOCK].contains(at))
        .collect();
    assert!(pages.len() > 30, "{} pages", pages.len());
    let hit: Vec<usize> = pages.iter().step_by(3).map(|at| at + 100).collect();
    overwrite(&path, &hit);
    let report = report(store.path());
    let told: Vec<u64> = report.violations.iter().map(|v| v.offset).collect();
    let expected: Vec<u64> = hit.iter().map(|at| *at as u64 - 100).collect();
    assert!(expected.iter().all(|at| told.contains(at)), "{report}");
    assert_eq!(told.len(), expected.len(), "{report}");
    assert!(report.violations.iter().all(|v| v.invariant == "I6" && v.path == path));
    assert!(report.to_string().lines().count() == hit.len() + 1);
}

#[test]
fn a_store_verifies_in_every_state_it_goes_through() {
    let mut store = TestStore::on_disk(patient().max_log_file(1 << 20));
    let mut random = Random::new(17);
    for round in 0..40 {
        for _ in 0..random.below(400) {
            let i = random.below(2_000);
            match random.below(5) {
                0 => drop(store.remove(key(i)).expect("remove")),
                1 => store.insert(key(i), value(i, 300)).expect("insert"),
                _ => store.insert(key(i), value(i, 24)).expect("insert"),
            }
        }
        match random.below(8) {
            0 => store.checkpoint().expect("checkpoint"),
            1 => store.sync().expect("sync"),
            2 => store.reopen(),
            3 => store.kill(),
            4 => store.clear().expect("clear"),
            5 => drop(store.drop_table("side").expect("drop")),
            _ => store.table("side").expect("table").insert(key(round), "x").expect("insert"),
        }
        let report = store.verify().expect("verify");
        assert!(report.is_clean(), "round {round}: {report}");
        let killed = store.copy_as_killed();
        let report = verify(killed.path()).expect("verify");
        assert!(report.is_clean(), "round {round}, killed: {report}");
        assert_eq!(report.checked.entries, entries(&store), "round {round}: {report}");
    }
}

/// The entries of all tables.
fn entries(db: &swissdb::Db) -> u64 {
    db.stats().tables.iter().map(|table| table.entries).sum()
}

#[test]
fn damage_under_an_open_store_is_found() {
    let mut store = closed();
    store.open();
    store.insert("dirty", "page").expect("insert");
    let path = store.path().join("default.swiss");
    let table = fs::read(&path).expect("read");
    let page = blocks_in_use(&table)
        .into_iter()
        .skip(2)
        .find(|block| table[block.start] != b'S' && table[block.start + 4095] == 0)
        .expect("a page");
    overwrite(&path, &[page.start + 300]);
    let report = store.verify().expect("verify");
    assert!(!report.is_clean());
    fs::write(&path, table).expect("write");
    assert!(store.verify().expect("verify").is_clean());
}

#[test]
fn verifying_changes_no_byte_and_finds_what_was_counted() {
    let mut store = closed();
    let before = files_below(store.path());
    let clean = report(store.path());
    assert_eq!(clean.checked.entries, 41);
    assert_eq!((clean.checked.spilled, clean.checked.log_records), (12, 43));
    assert_eq!(clean.to_string().lines().count(), 1, "{clean}");
    assert_eq!(files_below(store.path()), before);
    overwrite(&store.path().join("default.swiss"), &[40, 4136]);
    let before = files_below(store.path());
    assert!(!report(store.path()).is_clean());
    assert_eq!(files_below(store.path()), before);
    overwrite(&store.path().join("default.swiss"), &[40, 4136]);
    store.open();
    assert!(matches!(verify(store.path()), Err(Error::Locked { .. })));
}

#[test]
fn what_is_no_store_is_not_found() {
    let empty = tempfile::tempdir().expect("a temporary directory");
    assert!(matches!(verify(empty.path()), Err(Error::NotFound { .. })));
    let absent = empty.path().join("absent");
    assert!(matches!(verify(absent), Err(Error::NotFound { .. })));
}

#[test]
fn a_new_table_whose_creation_was_lost_with_the_power_is_left_over() {
    let store = TestStore::on_disk(patient());
    store.insert("a", "b").expect("insert");
    store.table("new").expect("table").insert("c", "d").expect("insert");
    let copy = store.copy_as_killed();
    // Nothing of the log was durable, but the table's file is.
    let path = copy.path().join("log/00000001.log");
    let mut log = fs::read(&path).expect("read");
    log[BLOCK..].fill(0);
    fs::write(&path, log).expect("write");
    assert!(copy.path().join("new.swiss").exists());
    assert!(report(copy.path()).is_clean());
    let db = swissdb::Db::open(copy.path()).expect("nothing durable was lost");
    assert_eq!((db.len(), db.tables().expect("tables")), (0, vec!["default".to_owned()]));
    assert!(!copy.path().join("new.swiss").exists());
    db.close().expect("close");
    assert!(report(copy.path()).is_clean());
}

#[test]
fn a_store_verifies_while_others_write_and_checkpoint() {
    let store = TestStore::on_disk(Options::new().max_log_file(1 << 20));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random::new(29);
            while !stop.load(Ordering::Relaxed) {
                let i = random.below(3_000);
                match random.below(4) {
                    0 => drop(store.remove(key(i)).expect("remove")),
                    1 => store.insert(key(i), value(i, 2_000)).expect("insert"),
                    _ => store.insert(key(i), value(i, 20)).expect("insert"),
                }
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                store.checkpoint().expect("checkpoint");
            }
        });
        for round in 0..60 {
            std::thread::sleep(Duration::from_millis(10));
            let report = store.verify();
            let report = report.unwrap_or_else(|error| panic!("round {round}: {error}"));
            if !report.is_clean() {
                stop.store(true, Ordering::Relaxed);
                panic!("round {round}: {report}");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}
