//! The map of a store: what lies where, all at once.
//!
//! Goal: every block, segment and log file is shown as what it is, damage in
//! its place and nowhere else, and nothing is changed. Method: sums over maps
//! of stores that were just made, against headers and statistics; then bytes
//! are flipped in known blocks, with checksums mended where the damage is to lie
//! deeper, and the map has to differ in these places only.

use std::fs;
use std::path::Path;

use swissdb::inspect::{self, BlockUse, LogState, StoreMap};
use swissdb::{Db, Error, Options};

use crate::support::{Random, TestStore, copy_directory, files_below, key, table_stats, value};

const BLOCK: usize = 4096;

/// A store of some thousand entries in the default table, with tombstones and
/// with values in the log, closed.
fn closed() -> TestStore {
    let mut store = TestStore::on_disk(Options::new().payload(40));
    for i in 0..3_000 {
        store.insert(key(i), value(i, if i % 10 == 0 { 100 } else { 16 })).expect("insert");
    }
    store.checkpoint().expect("checkpoint");
    for i in (0..3_000).step_by(3) {
        store.remove(key(i)).expect("remove");
    }
    store.close();
    store
}

fn map(store: &Path) -> StoreMap {
    inspect::map(store, "default").expect("a map")
}

fn number_of(map: &StoreMap, content: BlockUse) -> usize {
    map.blocks.iter().filter(|block| **block == content).count()
}

/// Changes the bytes of the default table.
fn change(store: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let path = store.join("default.swiss");
    let mut bytes = fs::read(&path).expect("read");
    change(&mut bytes);
    fs::write(&path, bytes).expect("write");
}

/// A copy of a store, changed.
fn changed(store: &Path, deed: impl FnOnce(&mut Vec<u8>)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a temporary directory");
    copy_directory(store, copy.path());
    change(copy.path(), deed);
    copy
}

/// The number of the first block of that kind.
fn first(map: &StoreMap, is: fn(&BlockUse) -> bool) -> usize {
    map.blocks.iter().position(is).expect("such a block")
}

fn is_page(block: &BlockUse) -> bool {
    matches!(block, BlockUse::Page { .. })
}

/// The blocks in which two maps differ. Holes and free blocks are the same:
/// copies of files may have other holes.
fn differences(a: &StoreMap, b: &StoreMap) -> Vec<usize> {
    let plain = |block: BlockUse| if block == BlockUse::Hole { BlockUse::Free } else { block };
    let pairs = a.blocks.iter().zip(&b.blocks).enumerate();
    pairs.filter(|(_, (a, b))| plain(**a) != plain(**b)).map(|(i, _)| i).collect()
}

#[test]
fn every_block_of_a_whole_store_is_accounted_for() {
    let store = closed();
    let map = map(store.path());
    assert_eq!(map.damage, []);
    let header = map.header.clone().expect("a header");
    let (mut used, mut tombstones, mut pages) = (0, 0, 0);
    for block in &map.blocks {
        if let BlockUse::Page { used: entries, tombstones: deleted } = block {
            used += u64::from(*entries);
            tombstones += u64::from(*deleted);
            pages += 1;
        }
    }
    assert_eq!((used, tombstones), (header.used, header.tombstones));
    assert!(used == 2_000 && tombstones > 0);
    assert_eq!(u64::from(map.slots_per_page) * pages, header.capacity);
    assert_eq!(map.segments.len() as u64, header.segments);
    assert_eq!(pages, map.segments.iter().map(|segment| segment.pages.len() as u64).sum::<u64>());
    assert!(map.segments.iter().all(|segment| map.is_whole(segment)));
    assert_eq!(map.blocks[..2], [BlockUse::Header, BlockUse::Header]);
    assert_eq!(number_of(&map, BlockUse::Root), header.root.blocks as usize);
    assert_eq!(map.blocks[header.free_map.block as usize], BlockUse::FreeMap);
    let directory = inspect::directory(store.path(), "default").expect("directory");
    assert_eq!(number_of(&map, BlockUse::Directory), directory.count());
    assert_eq!(number_of(&map, BlockUse::Unreached), 0);
    let free = number_of(&map, BlockUse::Free) + number_of(&map, BlockUse::Hole);
    let used = map.blocks.len() - free;
    let db = Options::new().read_only(true).open(store.path()).expect("open");
    assert_eq!(used as u64, table_stats(&db).blocks_used);
}

#[test]
fn segments_say_what_their_pages_say() {
    let store = closed();
    let map = map(store.path());
    for segment in &map.segments {
        let (mut used, mut tombstones) = (0, 0);
        for page in &segment.pages {
            let BlockUse::Page { used: entries, tombstones: deleted } =
                map.blocks[page.block as usize]
            else {
                panic!("block {} is no page", page.block)
            };
            used += u16::from(entries);
            tombstones += u16::from(deleted);
        }
        assert_eq!((used, tombstones), (segment.used, segment.tombstones));
    }
}

#[test]
fn a_rotten_page_is_damaged_and_nothing_else() {
    let store = closed();
    let whole = map(store.path());
    let block = first(&whole, is_page);
    let copy = changed(store.path(), |bytes| bytes[block * BLOCK + 100] ^= 1);
    let map = map(copy.path());
    assert_eq!(differences(&whole, &map), [block]);
    assert_eq!(map.blocks[block], BlockUse::Damaged);
    assert_eq!(map.damage.len(), 1);
    assert_eq!(map.damage[0].file, "default.swiss");
    assert_eq!(map.damage[0].damage.offset, (block * BLOCK) as u64);
    let broken: Vec<_> = map.segments.iter().filter(|segment| !map.is_whole(segment)).collect();
    assert_eq!(broken.len(), 1);
    assert!(broken[0].pages.iter().any(|page| page.block as usize == block));
}

#[test]
fn behind_a_directory_page_that_cannot_be_decoded_pages_are_unreached() {
    let store = closed();
    let whole = map(store.path());
    let block = first(&whole, |block| *block == BlockUse::Directory);
    let copy = changed(store.path(), |bytes| bytes[block * BLOCK] ^= 1);
    let map = map(copy.path());
    assert_eq!(map.blocks[block], BlockUse::Damaged);
    assert!(map.segments.is_empty());
    let pages = whole.blocks.iter().filter(|block| is_page(block)).count();
    assert_eq!(number_of(&map, BlockUse::Unreached), pages);
    assert_eq!(map.damage.len(), 1, "{:?}", map.damage);
}

#[test]
fn a_directory_page_with_a_wrong_checksum_is_followed_as_far_as_it_leads() {
    let store = closed();
    let whole = map(store.path());
    let block = first(&whole, |block| *block == BlockUse::Directory);
    // The number of entries of the first segment.
    let copy = changed(store.path(), |bytes| bytes[block * BLOCK + 34] ^= 1);
    let map = map(copy.path());
    assert_eq!(differences(&whole, &map), [block]);
    assert_eq!(map.segments.len(), whole.segments.len());
}

#[test]
fn one_copy_of_the_header_is_enough() {
    let store = closed();
    let whole = map(store.path());
    for copy in 0..2 {
        let damaged = changed(store.path(), |bytes| bytes[copy * BLOCK + 60] ^= 1);
        let map = map(damaged.path());
        assert_eq!(differences(&whole, &map), [copy]);
        assert_eq!(map.blocks[copy], BlockUse::Damaged);
        assert_eq!(map.segments, whole.segments);
    }
}

#[test]
fn without_a_header_nobody_knows_what_the_blocks_hold() {
    let store = closed();
    let copy = changed(store.path(), |bytes| {
        bytes[60] ^= 1;
        bytes[BLOCK + 60] ^= 1;
    });
    let map = map(copy.path());
    assert!(map.header.is_none() && map.segments.is_empty());
    assert_eq!(map.blocks[..2], [BlockUse::Damaged, BlockUse::Damaged]);
    let unknown = |block: &BlockUse| matches!(block, BlockUse::Unreached | BlockUse::Hole);
    assert!(map.blocks[2..].iter().all(unknown));
    assert!(!map.damage.is_empty());
}

#[test]
fn a_block_in_use_that_nothing_leads_to_is_unreached() {
    let store = closed();
    let whole = map(store.path());
    let header = whole.header.clone().expect("a header");
    let free = first(&whole, |block| matches!(block, BlockUse::Free | BlockUse::Hole));
    let page = first(&whole, is_page);
    let copy = changed(store.path(), |bytes| {
        let from = header.free_map.block as usize * BLOCK;
        let to = from + header.free_map.blocks as usize * BLOCK;
        bytes[from + free / 8] ^= 1 << (free % 8);
        bytes[from + page / 8] ^= 1 << (page % 8);
        let crc = crc32fast::hash(&bytes[from..to]);
        for copy in [0, BLOCK] {
            bytes[copy + 136..copy + 140].copy_from_slice(&crc.to_le_bytes());
            let crc = crc32fast::hash(&bytes[copy..copy + 4092]);
            bytes[copy + 4092..copy + 4096].copy_from_slice(&crc.to_le_bytes());
        }
    });
    let map = map(copy.path());
    assert_eq!(differences(&whole, &map), [free]);
    assert_eq!(map.blocks[free], BlockUse::Unreached);
    let mut offsets: Vec<_> = map.damage.iter().map(|piece| piece.damage.offset).collect();
    offsets.sort_unstable();
    let mut expected = [(free * BLOCK) as u64, (page * BLOCK) as u64];
    expected.sort_unstable();
    assert_eq!(offsets, expected);
}

#[test]
fn without_a_free_map_what_the_directory_does_not_reach_is_free() {
    let store = closed();
    let whole = map(store.path());
    let block = first(&whole, |block| *block == BlockUse::FreeMap);
    let copy = changed(store.path(), |bytes| bytes[block * BLOCK] ^= 0x80);
    let map = map(copy.path());
    assert_eq!(differences(&whole, &map), [block]);
    assert_eq!(map.blocks[block], BlockUse::Damaged);
}

#[test]
fn a_file_that_was_cut_off_is_shown_as_far_as_it_goes() {
    let store = closed();
    let whole = map(store.path());
    let half = whole.blocks.iter().rposition(is_page).expect("a page");
    let copy = changed(store.path(), |bytes| bytes.truncate(half * BLOCK));
    let map = map(copy.path());
    assert_eq!(map.blocks.len(), half);
    assert!(!map.damage.is_empty());
    for length in [0, 1, BLOCK, 2 * BLOCK] {
        let copy = changed(store.path(), |bytes| bytes.truncate(length));
        let map = inspect::map(copy.path(), "default").expect("a map");
        assert_eq!(map.blocks.len(), length / BLOCK);
        assert!(!map.damage.is_empty());
    }
}

#[test]
fn no_flipped_bytes_keep_the_map_from_being_drawn() {
    let store = closed();
    let whole = fs::read(store.path().join("default.swiss")).expect("read");
    let mut random = Random::new(71);
    for _ in 0..100 {
        change(store.path(), |bytes| {
            bytes.copy_from_slice(&whole);
            for _ in 0..1 + random.below(8) {
                // Mostly where structure is.
                let at = match random.below(3) {
                    0 => random.below(2 * BLOCK as u64),
                    _ => random.below(bytes.len() as u64),
                };
                bytes[at as usize] = random.next() as u8;
            }
            // A header with nonsense in it and a checksum that holds.
            let at = random.below(4092) as usize;
            bytes[at] = random.next() as u8;
            let crc = crc32fast::hash(&bytes[..4092]);
            bytes[4092..4096].copy_from_slice(&crc.to_le_bytes());
        });
        match inspect::map(store.path(), "default") {
            Ok(map) => assert_eq!(map.blocks.len(), whole.len() / BLOCK),
            Err(error) => assert!(matches!(error, Error::Version { .. }), "{error}"),
        }
    }
}

#[test]
fn log_files_say_what_is_live_and_where_they_end() {
    let mut store = TestStore::on_disk(Options::new());
    for i in 0..2_000 {
        store.insert(key(i % 1_500), value(i, 1_500)).expect("insert");
    }
    store.create_table("side", &swissdb::TableOptions::new()).expect("create");
    let side = store.table("side").expect("table");
    side.insert("key", value(0, 5_000)).expect("insert");
    store.close();
    let map = map(store.path());
    assert_eq!(map.damage, []);
    let live: u64 = map.log.iter().map(|file| file.live).sum();
    // Keys are short and stand in their slots.
    assert_eq!(live, 1_500 * 1_500 + 5_000);
    let active: Vec<_> = map.log.iter().filter(|file| file.state == LogState::Active).collect();
    assert_eq!(active.len(), 1);
    for file in &map.log {
        assert!(file.end <= file.length && file.live < file.end);
        assert_eq!((file.replayed, file.damaged), (0, false));
    }
    assert_eq!(active[0].end, u64::from(map.header.expect("a header").log.offset));
}

#[test]
fn what_a_killed_store_has_in_its_log_only_is_to_be_replayed() {
    let store = TestStore::on_disk(Options::new());
    store.insert("before", "the checkpoint").expect("insert");
    store.checkpoint().expect("checkpoint");
    for i in 0..100 {
        store.insert(key(i), value(i, 1_000)).expect("insert");
    }
    let killed = store.copy_as_killed();
    let map = map(killed.path());
    assert_eq!(map.damage, []);
    assert_eq!(map.header.as_ref().map(|header| header.used), Some(1));
    let replayed: u64 = map.log.iter().map(|file| file.replayed).sum();
    assert!((100_000..110_000).contains(&replayed), "{replayed}");
    let db = Db::open(killed.path()).expect("open");
    db.close().expect("close");
    let map = inspect::map(killed.path(), "default").expect("a map");
    assert_eq!(map.header.as_ref().map(|header| header.used), Some(101));
    assert!(map.log.iter().all(|file| file.replayed == 0));
}

#[test]
fn an_absent_log_file_and_a_rotten_one_are_damage() {
    let store = closed();
    let whole = map(store.path());
    let live = whole.log.iter().find(|file| file.live > 0).expect("live bytes").number;
    let name = format!("log/{live:08}.log");
    let copy = changed(store.path(), |_| {});
    let path = copy.path().join(&name);
    let mut bytes = fs::read(&path).expect("read");
    bytes[13] ^= 1;
    fs::write(&path, bytes).expect("write");
    let rotten = map(copy.path());
    assert!(rotten.log.iter().any(|file| file.number == live && file.damaged));
    assert!(rotten.damage.iter().all(|piece| piece.file == name), "{:?}", rotten.damage);
    assert!(!rotten.damage.is_empty());
    fs::remove_file(path).expect("remove");
    let absent = map(copy.path());
    assert!(absent.log.iter().all(|file| file.number != live));
    assert!(absent.damage.iter().any(|piece| piece.file == name), "{:?}", absent.damage);
    assert_eq!(differences(&whole, &absent), []);
}

#[test]
fn drawing_the_map_changes_no_byte_and_reports_its_progress() {
    let mut store = closed();
    let before = files_below(store.path());
    let mut shares = Vec::new();
    inspect::map_with(store.path(), "default", |share| shares.push(share)).expect("a map");
    assert_eq!(files_below(store.path()), before);
    assert!(shares.is_sorted() && shares.last() == Some(&1.0), "{shares:?}");
    let absent = |table| matches!(inspect::map(store.path(), table), Err(Error::NotFound { .. }));
    assert!(absent("other") && absent("../default"));
    store.open();
    assert!(matches!(inspect::map(store.path(), "default"), Err(Error::Locked { .. })));
}
