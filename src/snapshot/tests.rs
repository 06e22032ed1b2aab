//! What the tables of a snapshot reserve.
//!
//! Goal: a table that stands still reserves addresses for what it has, and can load
//! all of it. Method: tables of one segment, and one whose directory has many pages,
//! beside what the live tables reserve.

use crate::{Batch, Db};

const MIB: usize = 1 << 20;

#[test]
fn a_small_table_of_a_snapshot_reserves_next_to_nothing() {
    let db = Db::in_memory().unwrap();
    for i in 0..20 {
        db.table(&format!("t{i}")).unwrap().insert("key", i.to_string()).unwrap();
    }
    let snapshot = db.snapshot().unwrap();
    for i in 0..20 {
        let value = snapshot.table(&format!("t{i}")).unwrap().get("key").unwrap();
        assert_eq!(value, Some(i.to_string().as_bytes()));
    }
    let reserved: Vec<_> =
        snapshot.opened().unwrap().tables.iter().map(|table| table.reserved()).collect();
    assert_eq!(reserved.len(), 21);
    assert!(reserved.iter().all(|bytes| *bytes < MIB), "{reserved:?}");
}

#[test]
fn a_large_table_of_a_snapshot_has_room_for_its_whole_directory() {
    let count = if cfg!(miri) { 2_000u64 } else { 300_000 };
    let db = Db::in_memory().unwrap();
    for start in (0..count).step_by(1_000) {
        let mut batch = Batch::new();
        for i in start..start + 1_000 {
            batch.insert(i.to_le_bytes(), i.to_be_bytes()).unwrap();
        }
        db.write(&batch).unwrap();
    }
    let snapshot = db.snapshot().unwrap();
    for i in 0..count {
        let value = snapshot.get(i.to_le_bytes()).unwrap();
        assert_eq!(value, Some(&i.to_be_bytes()[..]));
    }
    assert_eq!(snapshot.iter().filter(|entry| entry.is_ok()).count() as u64, count);
    let reserved = snapshot.opened().unwrap().tables[0].reserved();
    assert!(reserved < 16 * MIB, "{reserved}");
}
