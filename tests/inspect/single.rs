//! What is asked for one by one: a key, a block.
//!
//! Goal: a search leads where the store's own lookup leads, each of its steps
//! is one that a lookup makes, and the log behind L has the last word; a block
//! is what its parents say. Method: every key of a store, and keys that are
//! not there; every block of a file, against the sums of the directory; copies
//! of stores that were killed.

use std::collections::BTreeMap;
use std::fs;

use swissdb::inspect::{self, Content, Kind, Role, Search, SearchResult, Verdict};
use swissdb::{Error, Options};

use super::{closed, segments};
use crate::support::{TestStore, key, value};

fn search(store: &TestStore, key: &[u8]) -> Search {
    inspect::key(store.path(), "default", key).expect("a search")
}

#[test]
fn every_key_is_found_where_it_lies_and_others_are_not_found() {
    let (store, model) = closed();
    let (mut longest, mut spilled) = (0, 0);
    for (key, value) in &model {
        let search = search(&store, key);
        let SearchResult::Found(entry) = &search.result else { panic!("{search:?}") };
        assert_eq!(entry.key.as_ref(), Some(key));
        assert_eq!(entry.value_length, Some(value.len() as u64));
        assert!(entry.value.as_ref().is_none_or(|found| found == value));
        assert_eq!((entry.hash, entry.h2, entry.fp), (Some(search.hash), search.h2(), search.fp()));
        assert_eq!((entry.home, entry.probes), (Some(search.home), Some(search.steps.len())));
        assert_eq!(search.steps[0].group, search.home);
        let (last, before) = search.steps.split_last().expect("a step");
        assert!(before.iter().all(|step| !step.has_empty), "{search:?}");
        let verdicts = search.steps.iter().flat_map(|step| &step.candidates);
        let same = verdicts.filter(|slot| slot.verdict == Verdict::Same).count();
        assert_eq!((same, last.candidates.last().map(|slot| slot.slot)), (1, Some(entry.slot)));
        let segment = search.segment.as_ref().expect("a segment");
        assert_eq!(segment.pages[last.page].block, last.block);
        assert_eq!(entry.offset / 4096, u64::from(last.block));
        assert_eq!(
            search.hash >> (64 - segment.depth) << (64 - segment.depth) >> 32,
            u64::from(segment.prefix)
        );
        assert!(search.damage.is_empty() && entry.damage.is_empty());
        longest = longest.max(search.steps.len());
        spilled += usize::from(entry.address.is_some());
    }
    assert!(longest > 1 && spilled > 0, "{longest} steps, {spilled} spilled");
    for i in (0..3_000).step_by(7).chain(5_000..5_500) {
        let search = search(&store, &key(i));
        assert_eq!(search.result, SearchResult::Absent, "{i}");
        let (last, before) = search.steps.split_last().expect("a step");
        let all = search.steps.len() == search.groups;
        assert!(last.has_empty || all, "{search:?}");
        assert!(before.iter().all(|step| !step.has_empty), "{search:?}");
    }
}

#[test]
fn the_bytes_of_a_search_are_those_that_it_looks_at() {
    let (store, model) = closed();
    let key = model.keys().next().expect("a key");
    let search = search(&store, key);
    let fields = search.fields();
    assert_eq!(fields[0].name, "block");
    assert_eq!(fields[0].offset, u64::from(search.root.block) * 4096);
    let page = search.page.as_ref().expect("a page");
    assert_eq!(fields[0].value, page.block.to_string());
    let local = fields.iter().find(|field| field.name == "local depth").expect("a record");
    assert_eq!(local.offset / 4096, u64::from(page.block));
    let control = fields.iter().filter(|field| field.name == "control word");
    let control: Vec<_> = control.map(|field| field.offset).collect();
    let steps: Vec<_> = search.steps.iter().map(|step| step.offset).collect();
    assert_eq!(control, steps);
    let shown = fields.iter().find(|field| field.name == "key").expect("the key");
    assert_eq!(&shown.bytes, key);
}

#[test]
fn what_the_log_says_behind_l_is_said() {
    let mut store = TestStore::on_disk(Options::new());
    for i in 0..100 {
        store.insert(key(i), value(i, 20)).expect("insert");
    }
    store.reopen();
    store.insert(key(1), "newer").expect("insert");
    store.remove(key(2)).expect("remove");
    store.insert(key(500), "new").expect("insert");
    for _ in 0..3 {
        store.insert(key(3), value(3, 300)).expect("insert");
    }
    let table = store.table("other").expect("table");
    table.insert(key(4), "in another table").expect("insert");
    let killed = store.copy_as_killed();
    let news = |i: u64| inspect::key(killed.path(), "default", &key(i)).expect("a search");
    for (i, operations, is_there, in_file) in [
        (0, 0, None, true),
        (1, 1, Some(true), true),
        (2, 1, Some(false), true),
        (3, 3, Some(true), true),
        (4, 0, None, true),
        (500, 1, Some(true), false),
        (501, 0, None, false),
    ] {
        let search = news(i);
        assert_eq!(matches!(search.result, SearchResult::Found(_)), in_file, "{i}");
        assert_eq!(
            (search.news.newer.len(), search.news.is_there()),
            (operations, is_there),
            "{i}"
        );
        assert_eq!((search.news.records, search.news.more), (8, 0));
        assert_eq!(search.news.to.commit, search.news.from.commit + 8);
        assert_eq!(search.news.damage, None);
    }
    let newest = &news(1).news.newer[0];
    assert_eq!(
        (newest.operation.kind, &newest.operation.value_start[..]),
        (Kind::Insert, &b"newer"[..])
    );
    store.clear().expect("clear");
    let cleared = store.copy_as_killed();
    let search = inspect::key(cleared.path(), "default", &key(0)).expect("a search");
    assert_eq!(search.news.is_there(), Some(false));
}

#[test]
fn the_log_behind_l_is_followed_from_file_to_file() {
    let mut store = TestStore::on_disk(Options::new());
    store.insert("first", "1").expect("insert");
    store.reopen();
    let mut commits = 0;
    while fs::read_dir(store.path().join("log")).expect("log").count() < 4 {
        store.insert("often", value(commits, 50_000)).expect("insert");
        commits += 1;
        assert!(commits < 10_000, "the log does not go on to another file");
    }
    store.insert("last", "2").expect("insert");
    let killed = store.copy_as_killed();
    let often = inspect::key(killed.path(), "default", b"often").expect("a search").news;
    let last = inspect::key(killed.path(), "default", b"last").expect("a search").news;
    // A checkpoint of its own may have moved L meanwhile; the log is whole.
    assert_eq!((often.damage, last.damage.clone()), (None, None));
    assert_eq!(last.to.commit, 1 + commits + 1);
    assert_eq!(last.records, last.to.commit - last.from.commit);
    assert_eq!(last.is_there(), Some(true));
    assert_eq!(often.newer.len() as u64 + often.more, often.records - 1);
    // Without the file that L lies in nothing can be said.
    let first = killed.path().join(format!("log/{:08}.log", last.from.file));
    fs::remove_file(first).expect("remove");
    let news = inspect::key(killed.path(), "default", b"last").expect("a search").news;
    assert!(news.damage.expect("damage").text.contains("is absent"));
    assert_eq!(news.newer, []);
}

#[test]
fn a_search_over_damage_does_not_say_that_the_key_is_absent() {
    let (store, model) = closed();
    let key = model.keys().nth(17).expect("a key");
    let whole = search(&store, key);
    let table = store.path().join("default.swiss");
    let before = fs::read(&table).expect("read");
    let step = whole.steps.last().expect("a step");
    let SearchResult::Found(entry) = &whole.result else { panic!("{whole:?}") };
    // A control byte that means nothing where the key was.
    let mut bytes = before.clone();
    bytes[step.offset as usize + entry.slot] = 0x81;
    fs::write(&table, &bytes).expect("write");
    let damaged = search(&store, key);
    assert_eq!(damaged.result, SearchResult::Unknown);
    assert!(!damaged.damage.is_empty());
    // Another checksum, and the key is still there.
    let mut bytes = before.clone();
    bytes[step.offset as usize + 12] ^= 1;
    fs::write(&table, &bytes).expect("write");
    let damaged = search(&store, key);
    assert!(matches!(damaged.result, SearchResult::Found(_)), "{damaged:?}");
    // The file ends before the page.
    fs::write(&table, &before[..step.offset as usize / 4096 * 4096]).expect("write");
    let cut = search(&store, key);
    assert_eq!(cut.result, SearchResult::Unknown);
    // The directory page is not one.
    let mut bytes = before;
    bytes[whole.page.as_ref().expect("a page").block as usize * 4096] ^= 1;
    fs::write(&table, bytes).expect("write");
    let blind = search(&store, key);
    assert_eq!((blind.result, blind.segment, blind.steps.len()), (SearchResult::Unknown, None, 0));
    assert!(blind.damage[0].text.contains("magic"), "{}", blind.damage[0]);
}

#[test]
fn another_hash_than_the_headers_is_told() {
    let (store, _) = closed();
    let table = store.path().join("default.swiss");
    let mut bytes = fs::read(&table).expect("read");
    for copy in [0, 4096] {
        bytes[copy + 40] ^= 1;
        let crc = crc32fast::hash(&bytes[copy..copy + 4092]);
        bytes[copy + 4092..copy + 4096].copy_from_slice(&crc.to_le_bytes());
    }
    fs::write(&table, bytes).expect("write");
    let search = search(&store, &key(1));
    assert!(search.damage[0].text.contains("the header says"), "{}", search.damage[0]);
}

#[test]
fn every_block_is_what_its_parents_say() {
    let (store, _) = closed();
    let header = inspect::header(store.path(), "default").expect("header").remove(0);
    let header = header.header.expect("valid");
    let mut wanted: BTreeMap<u32, Role> = BTreeMap::new();
    wanted.insert(0, Role::Header { copy: 0 });
    wanted.insert(1, Role::Header { copy: 1 });
    for part in 0..header.root.blocks {
        wanted.insert(header.root.block + part, Role::Root { part });
    }
    for part in 0..header.free_map.blocks {
        wanted.insert(header.free_map.block + part, Role::FreeMap { part });
    }
    for page in inspect::directory(store.path(), "default").expect("directory") {
        wanted.insert(page.block, Role::DirectoryPage { number: page.number });
    }
    for segment in segments(store.path()) {
        for (page, at) in segment.pages.iter().enumerate() {
            wanted.insert(at.block, Role::Page { segment: segment.number, page });
        }
    }
    let blocks = inspect::block(store.path(), "default", 0).expect("block").file_blocks;
    let mut in_use = Vec::new();
    let mut told = Vec::new();
    for number in 0..blocks {
        let block = inspect::block(store.path(), "default", number).expect("block");
        let number = number as u32;
        assert_eq!(block.roles, [wanted.get(&number).copied().unwrap_or(Role::Free)]);
        assert_eq!(block.is_free, Some(!wanted.contains_key(&number)));
        assert_eq!(block.damage, []);
        if block.is_free == Some(false) {
            in_use.push(number);
        }
        match &block.content {
            Content::FreeMap(map) if block.is_free == Some(false) => {
                told.extend(map.in_use.iter().flat_map(|(first, last)| *first..=*last));
                assert_eq!(u64::from(map.blocks), u64::from(header.file_blocks));
            }
            Content::Page(page) if block.is_free == Some(false) => {
                assert_eq!(page.at.block, number);
                assert!(page.damage.is_empty());
            }
            Content::Root(root) => assert_eq!(root.runs[0].entries, 1 << header.root_depth),
            _ => {}
        }
    }
    assert_eq!(in_use, told, "blocks in use");
    let absent = inspect::block(store.path(), "default", blocks);
    assert!(matches!(absent, Err(Error::NotFound { .. })), "{absent:?}");
}

#[test]
fn blocks_that_contradict_the_free_map_are_told() {
    let (store, _) = closed();
    let header = inspect::header(store.path(), "default").expect("header").remove(0);
    let map = header.header.expect("valid").free_map.block;
    let table = store.path().join("default.swiss");
    let mut bytes = fs::read(&table).expect("read");
    let block = |number: u64| inspect::block(store.path(), "default", number).expect("block");
    let free = (2..).find(|i| block(*i).is_free == Some(true)).expect("a free block");
    let at = map as usize * 4096;
    bytes[at + free as usize / 8] ^= 1 << (free % 8);
    bytes[at + map as usize / 8] ^= 1 << (map % 8);
    fs::write(&table, bytes).expect("write");
    let unreachable = block(free);
    assert_eq!(unreachable.roles, [Role::Unreachable]);
    assert!(unreachable.damage[0].text.contains("nothing leads to it"));
    let in_use = block(map.into());
    assert_eq!(in_use.roles, [Role::FreeMap { part: 0 }]);
    assert!(in_use.damage[0].text.contains("but it is in use"));
    let Content::FreeMap(part) = in_use.content else { panic!("a free map") };
    assert!(part.damage.expect("damage").text.contains("checksum"));
}

#[test]
fn a_free_block_still_shows_the_page_that_was_there() {
    let (mut store, _) = closed();
    let (page, directory) = {
        let pages = segments(store.path())[0].pages[0].block;
        let mut directory = inspect::directory(store.path(), "default").expect("directory");
        (pages, directory.next().expect("a page").block)
    };
    store.open();
    for i in 0..3_000 {
        store.insert(key(i), "other").expect("insert");
    }
    store.close();
    let kinds: Vec<_> = [page, directory]
        .iter()
        .map(|block| inspect::block(store.path(), "default", u64::from(*block)).expect("block"))
        .filter(|block| block.roles == [Role::Free])
        .map(|block| matches!(block.content, Content::Page(_) | Content::DirectoryPage(_)))
        .collect();
    assert!(kinds.contains(&true), "{kinds:?}");
}

#[test]
fn a_block_is_shown_though_no_header_is_valid() {
    let (store, _) = closed();
    let page = segments(store.path())[0].pages[0].block;
    let table = store.path().join("default.swiss");
    super::flip(&table, 100);
    super::flip(&table, 4096 + 100);
    assert!(matches!(inspect::directory(store.path(), "default"), Err(Error::Corrupt(_))));
    let header = inspect::block(store.path(), "default", 0).expect("block");
    assert_eq!(header.roles, [Role::Header { copy: 0 }]);
    assert!(matches!(header.content, Content::Header(_)) && !header.damage.is_empty());
    let block = inspect::block(store.path(), "default", page.into()).expect("block");
    assert_eq!(block.roles, [Role::Unknown]);
    super::flip(&table, 100);
    assert!(inspect::directory(store.path(), "default").is_ok());
}
