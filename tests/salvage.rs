//! Salvage: a new store from what is left of a damaged one.
//!
//! Goal: everything outside the damaged blocks is recovered, in its last state,
//! nothing is ever invented, and the damaged store is not touched. Method: a
//! store of two tables is filled, with values in slots and in the log, with
//! removals, checkpoints and a log behind the last of them, and killed or
//! closed; then blocks are overwritten with noise or files removed. Where no
//! page is hit the result must be exact. Where blocks are hit at random,
//! `inspect` has said before which blocks hold the last state of each key.

// A device that delivers a block once and not again.
mod again;
// Copies of table files beside them.
mod copies;
// What may not be read.
mod refused;
// The first blocks of log files, and their lengths.
mod sealed;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use swissdb::inspect::SearchResult;
use swissdb::storage::Storage;
use swissdb::storage::memory::Memory;
use swissdb::{Db, Error, Options, SalvageProgress, SalvageReport, TableOptions, salvage};
use tempfile::TempDir;

use crate::support::{
    Model, Random, TestStore, assert_clean, assert_same, copy_directory, files_below, key, pairs,
    show, value,
};

const BLOCK: u64 = 4096;
const TABLES: [&str; 2] = ["default", "users"];

/// A store, and what was done to it.
struct Story {
    directory: TempDir,
    now: BTreeMap<&'static str, Model>,
    /// Every value that each key ever had.
    ever: BTreeMap<(&'static str, Vec<u8>), BTreeSet<Vec<u8>>>,
    /// Keys whose last change lies behind the last checkpoint.
    tail: BTreeSet<(&'static str, Vec<u8>)>,
}

/// Keys of 16 bytes and some of 100, values of all shapes.
fn entry(i: u64, round: u64) -> (Vec<u8>, Vec<u8>) {
    let key = match i % 10 {
        9 => [key(i), vec![b'k'; 84]].concat(),
        _ => key(i),
    };
    let length = [20, 700, 30, 10, 24, 300, 16, 38, 20, 25][(i % 10) as usize];
    (key, value(i * 100 + round, length))
}

impl Story {
    /// Three rounds of changes with a checkpoint behind each, and a fourth
    /// without, if the store is killed and not closed.
    fn new(entries: u64, killed: bool) -> Story {
        let options = Options::new().sync_interval(std::time::Duration::from_secs(3600));
        let mut store = TestStore::on_disk(options);
        store.create_table("users", &TableOptions::new().payload(104)).expect("create");
        let mut story = Story {
            directory: tempfile::tempdir().expect("a temporary directory"),
            now: TABLES.map(|name| (name, Model::new())).into(),
            ever: BTreeMap::new(),
            tail: BTreeSet::new(),
        };
        for round in 0..3 {
            let changed = (0..entries).filter(|i| round == 0 || (i * 7 + round) % 5 == 0);
            story.change(&store, changed, round);
            store.checkpoint().expect("checkpoint");
        }
        if killed {
            story.tail.clear();
            let changed = (0..entries).filter(|i| i % 17 == 3).chain(entries..entries + 40);
            story.change(&store, changed, 3);
            story.directory = store.copy_as_killed();
        } else {
            story.tail.clear();
            store.close();
            copy_directory(store.path(), story.directory.path());
        }
        story
    }

    fn change(&mut self, db: &Db, changed: impl Iterator<Item = u64>, round: u64) {
        for i in changed {
            let name = TABLES[(i % 3 == 0) as usize];
            let table = db.table(name).expect("the table");
            let (key, value) = entry(i, round);
            let model = self.now.get_mut(name).expect("a model");
            if round > 0 && i % 4 == 1 {
                if !table.remove(&key).expect("remove") {
                    continue; // That is not logged.
                }
                model.remove(&key);
            } else {
                table.insert(&key, &value).expect("insert");
                self.ever.entry((name, key.clone())).or_default().insert(value.clone());
                model.insert(key.clone(), value);
            }
            self.tail.insert((name, key));
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn table(&self, name: &str) -> PathBuf {
        self.path().join(format!("{name}.swiss"))
    }

    /// Overwrites a block of a file with noise.
    fn destroy(&self, file: &Path, block: u64) {
        use std::os::unix::fs::FileExt;
        let noise = value(block + 999, BLOCK as usize);
        let file = fs::OpenOptions::new().write(true).open(file).expect("open");
        file.write_all_at(&noise, block * BLOCK).expect("write");
    }

    /// Salvages it; the damaged store must stay as it was, the new one must be
    /// undamaged and must hold nothing that was never written.
    fn salvage(&self) -> (SalvageReport, Saved) {
        let before = files_below(self.path());
        let place = tempfile::tempdir().expect("a temporary directory");
        let path = place.path().join("saved");
        let report = salvage(self.path(), &path, &Options::new(), go_on).expect("salvage");
        assert!(files_below(self.path()) == before, "the damaged store was changed");
        assert!(report.finished);
        let db = Options::new().read_only(true).open(&path).expect("open what was saved");
        assert_clean(&db);
        let mut entries = 0;
        let mut found = BTreeMap::new();
        for name in db.tables().expect("tables") {
            let table = db.table(&name).expect("a table");
            let model: Model = pairs(table.iter()).collect();
            entries += model.len() as u64;
            let known = TABLES.iter().find(|known| **known == name).copied();
            for (key, value) in &model {
                let ever = known.and_then(|known| self.ever.get(&(known, key.clone())));
                let was = ever.is_some_and(|ever| ever.contains(value));
                assert!(was, "{} of {name} never had {}", show(key), show(value));
            }
            found.insert(name, model);
        }
        assert_eq!(report.entries, entries);
        assert_eq!(report.tables, found.len() as u64);
        (report, Saved { found, payloads: payloads(&db) })
    }

    /// Salvages it, and expects all entries in their last state.
    fn salvage_exactly(&self) -> SalvageReport {
        let (report, saved) = self.salvage();
        for name in TABLES {
            assert_same(saved.found[name].clone().into_iter(), &self.now[name]);
        }
        assert_eq!(saved.payloads, BTreeMap::from([("default".into(), 56), ("users".into(), 104)]));
        report
    }
}

/// What is in a salvaged store.
struct Saved {
    found: BTreeMap<String, Model>,
    payloads: BTreeMap<String, usize>,
}

fn payloads(db: &Db) -> BTreeMap<String, usize> {
    db.stats().tables.iter().map(|table| (table.name.clone(), table.payload)).collect()
}

/// What salvage says, and what it finds in the default table.
fn salvaged(source: impl Storage + 'static) -> (SalvageReport, Model) {
    let target = Memory::new();
    let saved = Options::new().salvage_on(Arc::new(source), Arc::new(target.clone()), go_on);
    let report = saved.expect("salvage");
    let db = Options::new().read_only(true).open_on(Arc::new(target)).expect("open");
    (report, pairs(db.iter()).collect())
}

fn go_on(_: &SalvageProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn both_kinds(entries: u64) -> [Story; 2] {
    [true, false].map(|killed| Story::new(entries, killed))
}

#[test]
fn an_undamaged_store_is_copied_and_nothing_was_lost() {
    for story in both_kinds(1_000) {
        let report = story.salvage_exactly();
        assert!(!report.lost_anything(), "{report}");
        assert!(report.to_string().contains("nothing was lost"), "{report}");
    }
}

#[test]
fn a_table_without_header_copies_is_recovered_whole() {
    for story in both_kinds(1_500) {
        for name in TABLES {
            story.destroy(&story.table(name), 0);
            let one = story.salvage_exactly();
            story.destroy(&story.table(name), 1);
            let both = story.salvage_exactly();
            assert_eq!(both.header_copies_damaged, one.header_copies_damaged + 1);
            assert!(!both.lost_anything(), "{both}");
        }
    }
}

#[test]
fn a_table_without_a_root_is_recovered_whole() {
    for story in both_kinds(1_500) {
        for name in TABLES {
            let root = swissdb::inspect::directory(story.path(), name).expect("inspect").run;
            story.destroy(&story.table(name), root.block.into());
        }
        let report = story.salvage_exactly();
        assert_eq!(report.roots_damaged, 2);
        assert!(!report.lost_anything(), "{report}");
    }
}

#[test]
fn every_directory_page_can_be_spared() {
    for story in both_kinds(1_500) {
        let mut destroyed = 0;
        for name in TABLES {
            let pages = swissdb::inspect::directory(story.path(), name).expect("inspect");
            let blocks: Vec<u32> = pages.map(|page| page.block).collect();
            for block in blocks {
                story.destroy(&story.table(name), block.into());
                destroyed += 1;
                let report = story.salvage_exactly();
                assert_eq!(report.directory_pages_damaged, destroyed);
                assert!(!report.lost_anything(), "{report}");
            }
        }
        assert!(destroyed >= 2);
    }
}

/// Which blocks of which files hold the last state of a key, or the record of
/// its removal; none if it was removed before the last checkpoint.
fn needed(story: &Story, name: &'static str, key: &[u8]) -> BTreeSet<(PathBuf, u64)> {
    let mut blocks = BTreeSet::new();
    let mut add = |file: PathBuf, from: u64, to: u64| {
        (from / BLOCK..=to / BLOCK).for_each(|block| _ = blocks.insert((file.clone(), block)));
    };
    if story.tail.contains(&(name, key.to_vec())) {
        let (file, at) = last_in_log(story.path(), key);
        let length = story.now[name].get(key).map_or(0, Vec::len);
        add(file, at - 36, at + (key.len() + length) as u64 - 1);
        return blocks;
    }
    let search = swissdb::inspect::key(story.path(), name, key).expect("inspect");
    if let SearchResult::Found(entry) = search.result {
        add(story.table(name), entry.offset, entry.offset);
        if let Some(address) = entry.address {
            let (from, length) = (u64::from(address.offset), u64::from(address.length));
            let file = story.path().join(format!("log/{:08}.log", address.file));
            add(file, from, from + length - 1);
        }
    }
    blocks
}

/// Where these bytes lie in the log for the last time.
fn last_in_log(store: &Path, bytes: &[u8]) -> (PathBuf, u64) {
    let mut files: Vec<_> = files_below(&store.join("log")).into_iter().collect();
    files.reverse();
    for (name, content) in files {
        if let Some(at) = content.windows(bytes.len()).rposition(|window| window == bytes) {
            return (store.join("log").join(name), at as u64);
        }
    }
    panic!("{} is nowhere in the log", show(bytes));
}

/// The blocks of a store that hold anything.
fn written_blocks(store: &Path) -> Vec<(PathBuf, u64)> {
    let files = files_below(store).into_iter();
    let files = files.filter(|(name, _)| name.to_string_lossy() != "LOCK");
    files
        .flat_map(|(name, content)| {
            let blocks: Vec<u64> = (0u64..)
                .zip(content.chunks(BLOCK as usize))
                .filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0))
                .map(|(block, _)| block)
                .collect();
            blocks.into_iter().map(move |block| (store.join(&name), block))
        })
        .collect()
}

#[test]
fn what_lies_outside_of_damaged_blocks_is_recovered_in_its_last_state() {
    let mut random = Random::new(31);
    for story in both_kinds(900) {
        let keys: Vec<_> = story.ever.keys().cloned().collect();
        let needed: Vec<_> = keys.iter().map(|(name, key)| needed(&story, name, key)).collect();
        for round in 0..12 {
            let copy = Story {
                directory: tempfile::tempdir().expect("a temporary directory"),
                now: story.now.clone(),
                ever: story.ever.clone(),
                tail: story.tail.clone(),
            };
            copy_directory(story.path(), copy.path());
            let mut hit = BTreeSet::new();
            for (file, block) in written_blocks(story.path()) {
                if random.one_in(10) {
                    let name = file.strip_prefix(story.path()).expect("below").to_path_buf();
                    copy.destroy(&copy.path().join(name), block);
                    hit.insert((file, block));
                }
            }
            let (report, saved) = copy.salvage();
            assert!(report.lost_anything() || hit.len() < 5, "round {round}: {report}");
            let mut whole = 0;
            for ((name, key), blocks) in keys.iter().zip(&needed) {
                let last = story.now[name].get(key);
                if blocks.is_empty() || !blocks.is_disjoint(&hit) {
                    continue;
                }
                let found = saved.found.get(*name).and_then(|table| table.get(key));
                assert_eq!(
                    found.map(|v| show(v)),
                    last.map(|v| show(v)),
                    "round {round}: {} of {name}\n{report}",
                    show(key)
                );
                whole += 1;
            }
            assert!(whole > keys.len() / 3, "round {round}: only {whole} keys were not hit");
        }
    }
}

#[test]
fn missing_log_files_cost_their_values_and_their_commits_only() {
    for story in both_kinds(1_500) {
        for file in fs::read_dir(story.path().join("log")).expect("read log/") {
            fs::remove_file(file.expect("a file").path()).expect("remove");
        }
        let (report, saved) = story.salvage();
        assert!(report.log_files_missing >= 1 && report.lost_anything(), "{report}");
        assert!(report.values_lost > 0 && report.lost.len() as u64 == report.values_lost);
        let lost: BTreeSet<_> =
            report.lost.iter().filter_map(|l| Some((l.table.clone(), l.key.clone()?))).collect();
        for name in TABLES {
            for (key, value) in &story.now[name] {
                if story.tail.contains(&(name, key.clone())) || key.len() > 24 {
                    continue;
                }
                match saved.found[name].get(key) {
                    Some(found) => assert_eq!(found, value),
                    None => assert!(lost.contains(&(name.to_owned(), key.clone()))),
                }
            }
        }
    }
}

#[test]
fn a_store_of_which_only_the_log_is_left_comes_back() {
    let story = Story::new(800, true);
    for name in TABLES {
        fs::remove_file(story.table(name)).expect("remove");
    }
    let (report, saved) = story.salvage();
    for name in TABLES {
        assert_same(saved.found[name].clone().into_iter(), &story.now[name]);
    }
    assert!(report.lost_anything(), "nobody knows what else there was");
}

#[test]
fn what_was_on_a_damaged_page_comes_out_of_the_log() {
    // The log of these stores has never been recycled: it has everything.
    for story in both_kinds(1_500) {
        for name in TABLES {
            let directory = swissdb::inspect::directory(story.path(), name).expect("inspect");
            let pages: Vec<_> = directory.collect();
            let segments = pages.iter().flat_map(|page| &page.segments);
            for page in segments.map(|segment| segment.pages[0]) {
                story.destroy(&story.table(name), page.block.into());
            }
        }
        let report = story.salvage_exactly();
        assert!(report.pages_damaged >= 2 && report.from_log > 0, "{report}");
    }
}

#[test]
fn a_log_file_without_its_first_block_still_gives_its_records() {
    let story = Story::new(800, true);
    let log: Vec<_> = files_below(&story.path().join("log")).into_keys().collect();
    story.destroy(&story.path().join("log").join(&log[0]), 0);
    let report = story.salvage_exactly();
    assert_eq!(report.log_heads_damaged, 1);
    assert!(!report.lost_anything(), "{report}");
}

#[test]
fn a_value_that_is_lost_is_named_and_a_later_one_is_none() {
    let story = Story::new(400, false);
    let (key, old) = entry(11, 0);
    let (file, at) = last_in_log(story.path(), &old);
    story.destroy(&file, at / BLOCK + 1);
    let (report, saved) = story.salvage();
    assert!(report.values_lost > 0, "{report}");
    if story.now["default"].get(&key) == Some(&old) && !saved.found["default"].contains_key(&key) {
        assert!(report.lost.iter().any(|lost| lost.key.as_deref() == Some(&key[..])));
    }
    assert_eq!(report.commits_lost, 0, "the tables had them: {report}");
}

#[test]
fn cleared_and_dropped_tables_stay_so() {
    let options = Options::new().sync_interval(std::time::Duration::from_secs(3600));
    let store = TestStore::on_disk(options);
    let fill = |name: &str, round: u64| {
        let table = store.table(name).expect("table");
        (0..300).for_each(|i| table.insert(key(i), value(round + i, 20)).expect("insert"));
    };
    fill("default", 0);
    fill("gone", 0);
    fill("again", 0);
    store.checkpoint().expect("checkpoint");
    store.clear().expect("clear");
    store.drop_table("gone").expect("drop");
    store.drop_table("again").expect("drop");
    fill("again", 1_000);
    store.insert("new", "entry").expect("insert");
    for checkpoint in [false, true] {
        if checkpoint {
            store.checkpoint().expect("checkpoint");
        }
        for blocks in [0..0, 0..2] {
            let damaged = store.copy_as_killed();
            for block in blocks {
                let bytes = vec![0x5A; 4096];
                let file = damaged.path().join("default.swiss");
                let file = fs::OpenOptions::new().write(true).open(file).expect("open");
                let at = block * BLOCK;
                std::os::unix::fs::FileExt::write_all_at(&file, &bytes, at).expect("write");
            }
            let place = tempfile::tempdir().expect("a temporary directory");
            let saved = place.path().join("saved");
            let report = salvage(damaged.path(), &saved, &Options::new(), go_on).expect("salvage");
            assert!(!report.lost_anything(), "{report}");
            let db = Db::open(&saved).expect("open");
            assert_eq!(db.tables().expect("tables"), ["default", "again"]);
            assert_eq!(db.len(), 1);
            let again = db.table("again").expect("table");
            assert_eq!(again.len(), 300);
            assert_eq!(again.get(key(7)).expect("get").as_deref(), Some(&value(1_007, 20)[..]));
        }
    }
}

#[test]
fn nothing_is_left_of_a_salvage_that_was_stopped_or_refused() {
    let story = Story::new(500, true);
    let place = tempfile::tempdir().expect("a temporary directory");
    let path = place.path().join("saved");
    let stop = |_: &SalvageProgress| ControlFlow::Break(());
    let report = salvage(story.path(), &path, &Options::new(), stop).expect("salvage");
    assert!(!report.finished);
    assert!(files_below(place.path()).is_empty());
    assert_eq!(fs::read_dir(place.path()).expect("read").count(), 0);

    let absent = place.path().join("absent");
    let error = salvage(&absent, &path, &Options::new(), go_on).expect_err("there is none");
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    fs::create_dir(&absent).expect("create");
    let error = salvage(&absent, &path, &Options::new(), go_on).expect_err("it is empty");
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    let error = salvage(story.path(), &absent, &Options::new(), go_on).expect_err("it exists");
    assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
    fs::create_dir(place.path().join("saved.tmp")).expect("create");
    let error = salvage(story.path(), &path, &Options::new(), go_on).expect_err("a left-over");
    assert!(error.to_string().contains("interrupted"), "{error}");
    fs::remove_dir(place.path().join("saved.tmp")).expect("it was not touched");

    let open = Db::open(story.path()).expect("open");
    let error = salvage(story.path(), &path, &Options::new(), go_on).expect_err("it is open");
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    drop(open);
    assert!(!path.exists());
}
