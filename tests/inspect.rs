//! The parts of a store, one by one.
//!
//! Goal: what `inspect` shows is what lies in the files, it shows what can be
//! shown of damaged ones, and it changes nothing. Method: the golden store for
//! what is known to the byte; stores that were just made for sums over all
//! parts; and flipped bits, behind which everything else must still be there.
//! The bytes with their names are in `inspect/fields.rs`, what is asked for one
//! by one in `inspect/single.rs`, arbitrary bytes in `inspect/garbage.rs`.

#[path = "inspect/fields.rs"]
mod fields;
#[path = "inspect/garbage.rs"]
mod garbage;
#[path = "inspect/single.rs"]
mod single;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use swissdb::inspect::{self, Kind, Piece, Slot, State};
use swissdb::{Db, Error, Options};

use crate::support::{Model, TestStore, files_below, key, value};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

/// A store of some thousand entries that was closed, and what it holds.
fn closed() -> (TestStore, Model) {
    let mut store = TestStore::on_disk(Options::new().payload(40));
    let mut model = Model::new();
    for i in 0..3_000 {
        let (key, value) = (key(i), value(i, if i % 10 == 0 { 100 } else { 16 }));
        store.insert(&key, &value).expect("insert");
        model.insert(key, value);
    }
    for i in (0..3_000).step_by(7) {
        store.remove(key(i)).expect("remove");
        model.remove(&key(i));
    }
    let long = value(9_999, 60);
    store.insert(&long, "short").expect("insert");
    model.insert(long, b"short".to_vec());
    store.close();
    (store, model)
}

fn flip(path: &Path, offset: u64) {
    let mut bytes = fs::read(path).expect("read");
    bytes[offset as usize] ^= 0x10;
    fs::write(path, bytes).expect("write");
}

/// All segments of the default table.
fn segments(store: &Path) -> Vec<inspect::SegmentRecord> {
    let directory = inspect::directory(store, "default").expect("directory");
    directory.flat_map(|page| page.segments).collect()
}

#[test]
fn the_golden_store_is_shown_to_the_byte() {
    let copies = inspect::header(golden(), "default").expect("header");
    assert_eq!(copies.len(), 2);
    assert_eq!((copies[0].counts, copies[1].counts), (true, false));
    let header = copies[0].header.as_ref().expect("valid");
    assert_eq!(copies[1].header.as_ref(), Some(header));
    assert_eq!((header.name.as_str(), header.table_id, header.payload), ("default", 0, 56));
    assert_eq!((header.capacity, header.used, header.growth_left), (64, 3, 53));
    assert_eq!((header.state, header.clean, header.log.commit), (State::Live, true, 3));
    let segment = inspect::segment(golden(), "default", 0).expect("segment");
    assert_eq!(segment.damage().count(), 0);
    let entries: BTreeMap<_, _> =
        segment.entries().map(|entry| (entry.key.clone().expect("a key"), entry)).collect();
    let apple = entries[&b"apple"[..]];
    assert_eq!((apple.value.as_deref(), apple.address), (Some(&b"red"[..]), None));
    assert_eq!((apple.probes, apple.key_length, apple.value_length), (Some(1), 5, Some(3)));
    let spilled = entries[&b"a value of"[..]];
    assert_eq!((spilled.value.as_deref(), spilled.value_length), (None, Some(78)));
    assert_eq!(spilled.address.map(|address| (address.file, address.length)), Some((1, 78)));
    let long = entries[&b"a key that is too long to stand in its slot stays in the log"[..]];
    assert_eq!(long.value.as_deref(), Some(&b"though its value does not"[..]));
    assert_eq!(long.hash, long.address.map(|address| address.hash));
    let log = inspect::log(golden()).expect("log");
    assert_eq!(log.files.len(), 1);
    let pieces: Vec<_> = log.files[0].pieces().expect("pieces").collect();
    let commits: Vec<_> = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Record(record) => (record.commit, record.operations.len()),
            Piece::Gap(gap) => panic!("{gap:?}"),
        })
        .collect();
    assert_eq!(commits, [(1, 1), (2, 1), (3, 1)]);
    let Piece::Record(record) = &pieces[0] else { panic!("a record") };
    let op = &record.operations[0];
    assert_eq!((op.kind, op.table, &op.key[..]), (Kind::Insert, 0, &b"apple"[..]));
    assert_eq!((op.value_length, &op.value_start[..]), (3, &b"red"[..]));
    assert_eq!(record.end(), op.value_offset + op.value_length);
}

#[test]
fn the_parts_of_a_table_sum_up_to_its_header() {
    let (store, model) = closed();
    let copies = inspect::header(store.path(), "default").expect("header");
    let header = copies[0].header.as_ref().expect("valid");
    let directory = inspect::directory(store.path(), "default").expect("directory");
    let live: u64 = directory.live.values().sum();
    assert!(directory.damage.is_none() && live > 0);
    let segments = segments(store.path());
    assert_eq!(segments.len() as u64, header.segments);
    let sum = |of: fn(&inspect::SegmentRecord) -> u64| segments.iter().map(of).sum::<u64>();
    assert_eq!(sum(|segment| segment.slots), header.capacity);
    assert_eq!(sum(|segment| segment.used.into()), model.len() as u64);
    assert_eq!(sum(|segment| segment.tombstones.into()), header.tombstones);
    let (mut found, mut spilled) = (BTreeMap::new(), 0);
    for number in 0..header.segments {
        let segment = inspect::segment(store.path(), "default", number).expect("segment");
        assert_eq!(segment.damage().count(), 0);
        for entry in segment.entries() {
            let key = entry.key.clone().expect("a key");
            assert!(entry.probes.is_some_and(|probes| probes > 0));
            spilled += entry.address.map_or(0, |address| u64::from(address.length));
            found.insert(key, (entry.value_length, entry.value.clone()));
        }
    }
    assert_eq!(spilled, live);
    assert_eq!(found.len(), model.len());
    for (key, (length, value)) in found {
        let expected = &model[&key];
        assert_eq!(length, Some(expected.len() as u64));
        assert!(value.is_none_or(|value| value == *expected));
    }
    assert!(matches!(
        inspect::segment(store.path(), "default", header.segments),
        Err(Error::NotFound { .. })
    ));
}

#[test]
fn all_records_of_a_store_are_shown_as_they_were_written() {
    let mut store = TestStore::on_disk(Options::new());
    store.insert("a", "1").expect("insert");
    store.remove("a").expect("remove");
    store.clear().expect("clear");
    let table = store.table("second").expect("table");
    let mut batch = swissdb::Batch::new();
    batch.insert("b", value(1, 500)).expect("add");
    batch.insert_into(&table, "c", "3").expect("add");
    store.write(&batch).expect("write");
    store.drop_table("second").expect("drop");
    let killed = store.copy_as_killed();
    store.close();
    for path in [killed.path(), store.path()] {
        let log = inspect::log(path).expect("log");
        let mut kinds = Vec::new();
        for file in log.files.iter().filter(|file| file.activation.is_some()) {
            for piece in file.pieces().expect("pieces") {
                let Piece::Record(record) = piece else { panic!("{piece:?}") };
                assert!(record.in_log && record.damage.is_none());
                kinds.push(record.operations.iter().map(|op| op.kind).collect::<Vec<_>>());
            }
        }
        let expected = [
            vec![Kind::Insert],
            vec![Kind::Remove],
            vec![Kind::Clear],
            vec![Kind::CreateTable],
            vec![Kind::Insert, Kind::Insert],
            vec![Kind::DropTable],
        ];
        assert_eq!(kinds, expected);
    }
    assert_eq!(inspect::tables(killed.path()).expect("tables"), ["default"]);
}

#[test]
fn damage_stands_beside_what_it_was_found_in() {
    let (store, _) = closed();
    let table = store.path().join("default.swiss");
    flip(&table, 60);
    let copies = inspect::header(store.path(), "default").expect("header");
    let damaged = copies[0].damage.as_ref().expect("damage");
    assert!(damaged.text.contains("checksum"), "{damaged}");
    assert!(copies[0].header.is_some() && !copies[0].counts && copies[1].counts);
    flip(&table, 60);

    let all = segments(store.path());
    let page = all[1].pages[0].block;
    flip(&table, u64::from(page) * 4096 + 64);
    let segment = inspect::segment(store.path(), "default", 1).expect("segment");
    assert!(segment.pages[0].damage[0].text.contains("checksum"));
    assert!(segment.pages[1].damage.is_empty());
    assert!(segment.entries().count() >= usize::from(all[1].used));
    flip(&table, u64::from(page) * 4096 + 64);

    let directory = inspect::directory(store.path(), "default").expect("directory");
    let pages: Vec<_> = directory.collect();
    flip(&table, u64::from(pages[0].block) * 4096 + 16);
    let directory = inspect::directory(store.path(), "default").expect("directory");
    let damaged: Vec<_> = directory.collect();
    assert!(damaged[0].damage.is_some());
    assert_eq!(damaged.len(), pages.len());
    assert_eq!(damaged[0].segments, pages[0].segments, "what can be decoded is shown");
}

#[test]
fn records_behind_a_damaged_one_are_found() {
    let mut store = TestStore::on_disk(Options::new());
    for i in 0..20 {
        store.insert(key(i), value(i, 40)).expect("insert");
    }
    store.close();
    let log = inspect::log(store.path()).expect("log");
    let pieces: Vec<_> = log.files[0].pieces().expect("pieces").collect();
    assert_eq!(pieces.len(), 20);
    let Piece::Record(hit) = &pieces[5] else { panic!("a record") };
    flip(&store.path().join("log/00000001.log"), hit.offset + 40);
    let log = inspect::log(store.path()).expect("log");
    let damaged: Vec<_> = log.files[0].pieces().expect("pieces").collect();
    assert_eq!(damaged.len(), 20);
    assert_eq!(damaged[..5], pieces[..5]);
    let Piece::Gap(gap) = &damaged[5] else { panic!("{:?}", damaged[5]) };
    assert_eq!((gap.offset, gap.length), (hit.offset, u64::from(hit.length).next_multiple_of(8)));
    let Piece::Record(next) = &damaged[6] else { panic!("{:?}", damaged[6]) };
    assert_eq!((next.commit, next.damage.is_some()), (7, true));
    assert_eq!(damaged[7..], pieces[7..]);
}

#[test]
fn looking_changes_no_byte_and_needs_no_open_store() {
    let (mut store, _) = closed();
    let before = files_below(store.path());
    crate::rot::looking::look_at_everything(store.path(), "default", &key(1));
    assert_eq!(files_below(store.path()), before);
    // Others may read meanwhile, but not write.
    let directory = inspect::directory(store.path(), "default").expect("directory");
    let reader = Options::new().read_only(true).open(store.path()).expect("open");
    assert!(matches!(Db::open(store.path()), Err(Error::Locked { .. })));
    drop((directory, reader));
    store.open();
    assert!(matches!(inspect::log(store.path()), Err(Error::Locked { .. })));
}

#[test]
fn empty_slots_deleted_ones_and_full_ones_are_told_apart() {
    let (store, model) = closed();
    let (mut empty, mut deleted, mut full) = (0, 0, 0);
    for number in 0..segments(store.path()).len() as u64 {
        let segment = inspect::segment(store.path(), "default", number).expect("segment");
        let groups = segment.pages.iter().flat_map(|page| &page.groups);
        for slot in groups.flat_map(|group| &group.slots) {
            match slot {
                Slot::Empty => empty += 1,
                Slot::Deleted => deleted += 1,
                Slot::Full(_) => full += 1,
                Slot::Unknown(byte) => panic!("control byte {byte:02x}"),
            }
        }
    }
    let header = inspect::header(store.path(), "default").expect("header").remove(0);
    let header = header.header.expect("valid");
    assert_eq!((full, deleted), (model.len() as u64, header.tombstones));
    assert_eq!(empty + deleted + full, header.capacity);
}

#[test]
fn what_is_not_there_is_not_found() {
    let empty = tempfile::tempdir().expect("a temporary directory");
    let absent = empty.path().join("absent");
    let is_absent = |error: Option<Error>| matches!(error, Some(Error::NotFound { .. }));
    assert!(is_absent(inspect::header(&absent, "default").err()));
    assert!(is_absent(inspect::log(&absent).err()));
    assert!(is_absent(inspect::log(empty.path()).err()));
    assert!(is_absent(inspect::header(golden(), "other").err()));
    assert!(is_absent(inspect::header(golden(), "../v1/default").err()));
    assert!(inspect::tables(empty.path()).expect("tables").is_empty());
}
