//! Files written in bulk, checked as the files of stores.
//!
//! Method: the table file of a small store in memory is replaced by one that
//! was written here, under the same hash key; then the store is verified and
//! read. Hashes that are spread unevenly are had by leaving keys out.

use std::sync::Arc;

use super::*;
use crate::storage::memory::Memory;
use crate::table::segment::Content;
use crate::{Db, Options};

const FILE: &str = "default.swiss";
const TEMPORARY: &str = "default.swiss.tmp";

/// A store in memory without entries, and what its table is.
fn empty_store(hash: HashKind) -> (Memory, BulkTable, Position) {
    let memory = Memory::new();
    let options = Options::new().hash(hash);
    let db = options.open_on(Arc::new(memory.clone())).unwrap();
    // The log goes on behind this, which is part of the table.
    db.insert("k", "v").unwrap();
    db.remove("k").unwrap();
    db.close().unwrap();
    let file = memory.open(FILE, Access::Read).unwrap();
    let mut bytes = [0; BLOCK];
    file.read_at(&mut bytes, 0).unwrap();
    let header = Header::decode(&bytes).unwrap();
    let table = BulkTable {
        id: 0,
        name: "default".into(),
        geometry: Geometry::new(56).unwrap(),
        hash,
        hash_key: header.hash_key,
        clears: 0,
        next_table_id: 1,
        generation: header.generation + 1,
    };
    (memory, table, header.log)
}

/// The first `count` numbers whose hashes suit, with these, in their order.
fn keys(table: &BulkTable, count: usize, suits: impl Fn(u64) -> bool) -> Vec<(u64, [u8; 8])> {
    let hasher = Hasher::new(table.hash, table.hash_key);
    let hashed = (0u64..).map(|i| (hasher.hash(&i.to_le_bytes()), i.to_le_bytes()));
    let mut keys: Vec<_> = hashed.filter(|(hash, _)| suits(*hash)).take(count).collect();
    keys.sort_unstable();
    keys
}

/// Adds entries: each key with itself as the value.
fn push_all(bulk: &mut Bulk<'_>, geometry: Geometry, keys: &[(u64, [u8; 8])]) -> Result<()> {
    for (hash, key) in keys {
        let content = Content::<63>::new(geometry.lengths(8, 8), key, key, None);
        let words = &content.words[..geometry.slot_words];
        let slot: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bulk.push(*hash, content.lengths, &slot)?;
    }
    Ok(())
}

/// A copy of a store, its table replaced by one with these entries.
fn replace(
    (memory, table, log): &(Memory, BulkTable, Position),
    payload: usize,
    keys: &[(u64, [u8; 8])],
) -> (Memory, Written) {
    let memory = memory.copy().unwrap();
    let table = BulkTable { geometry: Geometry::new(payload).unwrap(), ..table.clone() };
    let geometry = table.geometry;
    let mut bulk = Bulk::create(&memory, TEMPORARY, table).unwrap();
    push_all(&mut bulk, geometry, keys).unwrap();
    let written = bulk.finish(*log).unwrap();
    memory.rename(TEMPORARY, FILE).unwrap();
    let file = memory.open(FILE, Access::Read).unwrap();
    assert_eq!(file.length().unwrap(), written.bytes);
    drop(file);
    (memory, written)
}

/// Opens the store, verifies it and looks every entry up.
fn check(memory: &Memory, keys: &[(u64, [u8; 8])]) -> Db {
    let db = Options::new().open_on(Arc::new(memory.clone())).unwrap();
    let report = db.verify().unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!(db.len(), keys.len() as u64);
    for (_, key) in keys {
        assert_eq!(db.get(key).unwrap().as_deref(), Some(&key[..]));
    }
    db
}

#[test]
fn tables_of_every_size_and_payload_verify_and_hold_their_entries() {
    let store = empty_store(HashKind::Sip);
    for payload in [24, 56, 104, 504] {
        for count in [0, 1, 7, 8, 111, 112, 113, 900, 5_000] {
            let keys = keys(&store.1, count, |_| true);
            let (memory, written) = replace(&store, payload, &keys);
            assert_eq!(written.entries, count as u64);
            drop(check(&memory, &keys));
        }
    }
}

#[test]
fn a_large_table_has_many_directory_pages_and_is_nearly_full() {
    let store = empty_store(HashKind::Fast);
    let keys = keys(&store.1, 120_000, |_| true);
    let (memory, written) = replace(&store, 504, &keys);
    assert!(written.directory_pages > 20, "{written:?}");
    let slots = written.pages * 8;
    assert!(written.entries as f64 / slots as f64 > 0.8, "{written:?}");
    let db = check(&memory, &keys);
    // It goes on as any table.
    for (_, key) in keys.iter().step_by(3) {
        assert!(db.remove(key).unwrap());
    }
    for i in 0..20_000u32 {
        db.insert(i.to_le_bytes(), b"more").unwrap();
    }
    let report = db.verify().unwrap();
    assert!(report.is_clean(), "{report}");
}

#[test]
fn hashes_that_are_spread_unevenly_make_deep_and_empty_segments() {
    let store = empty_store(HashKind::Fast);
    type Suits = fn(u64) -> bool;
    let uneven: [Suits; 4] = [
        |hash| hash >> 56 == 0,
        |hash| hash >> 54 == 0x3ff,
        |hash| hash >> 57 == 0b10_1010 || hash >> 63 == 1 && hash & 0x3ff == 0,
        |hash| hash >> 62 == 1 && hash >> 50 & 0xff == 7,
    ];
    for suits in uneven {
        for payload in [24, 504] {
            let keys = keys(&store.1, 1_500, suits);
            let (memory, _) = replace(&store, payload, &keys);
            drop(check(&memory, &keys));
        }
    }
}

#[test]
fn more_keys_of_one_hash_than_a_segment_holds_are_refused_and_the_file_removed() {
    let (memory, table, log) = empty_store(HashKind::Sip);
    let table = BulkTable { geometry: Geometry::new(504).unwrap(), ..table };
    for (count, refused) in [(112, false), (113, true)] {
        let same: Vec<_> = (0..count).map(|i: u64| (7 << 32, i.to_le_bytes())).collect();
        let mut bulk = Bulk::create(&memory, TEMPORARY, table.clone()).unwrap();
        let pushed = push_all(&mut bulk, table.geometry, &same);
        let ended = pushed.and_then(|()| bulk.finish(log));
        assert_eq!(matches!(ended, Err(Error::HashCollisions { .. })), refused, "{count}");
        let left = memory.list("").unwrap().contains(&TEMPORARY.to_owned());
        assert_eq!(left, !refused, "what failed is removed");
    }
}

#[test]
fn segments_of_one_prefix_that_fit_no_directory_page_are_refused() {
    // 112 entries for each of 512 prefixes that differ in their last bits only
    // take sixteen pages each; a directory page has room for thirty of those.
    let (memory, table, log) = empty_store(HashKind::Sip);
    let table = BulkTable { geometry: Geometry::new(504).unwrap(), ..table };
    let crowded = |prefix: u64| (0..112u64).map(move |i| (prefix << 32, i.to_le_bytes()));
    let keys: Vec<_> = (0..512).flat_map(crowded).collect();
    let mut bulk = Bulk::create(&memory, TEMPORARY, table.clone()).unwrap();
    let pushed = push_all(&mut bulk, table.geometry, &keys);
    let ended = pushed.and_then(|()| bulk.finish(log));
    assert!(matches!(ended, Err(Error::HashCollisions { .. })));
}

#[test]
fn a_file_under_the_temporary_name_is_replaced() {
    let store = empty_store(HashKind::Sip);
    let file = store.0.open(TEMPORARY, Access::Create).unwrap();
    file.write_at(&[7; 3 * BLOCK], 0).unwrap();
    drop(file);
    let keys = keys(&store.1, 100, |_| true);
    let (memory, _) = replace(&store, 56, &keys);
    drop(check(&memory, &keys));
}
