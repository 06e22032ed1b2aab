//! Opening and using a store that may be damaged in any way.
//!
//! What must hold whatever lies in the files: no panic, no endless loop, errors
//! of the expected kinds only. And if a full check finds nothing wrong, then
//! the store is a store: iteration, lookup and counts agree, and it goes on to
//! work like a map, over closing and opening.

use std::collections::BTreeMap;
use std::sync::Arc;

use swissdb::storage::memory::Memory;
use swissdb::{Db, Error, Result, Table};

use super::recipe::options;

/// More entries than any input can make of a base.
const MOST: usize = 1 << 20;

/// Opens a store for reading, or a copy of it for writing, and uses it. False
/// if it could not be opened.
pub fn check(memory: &Memory, write: bool) -> bool {
    if !write {
        let options = options().read_only(true);
        let opened = expected(options.open_on(Arc::new(memory.clone())));
        return opened.map(|db| drop(look(&db))).is_some();
    }
    let copy = memory.copy().expect("memory for a copy");
    let Some(db) = expected(options().open_on(Arc::new(copy.clone()))) else { return false };
    let Some(mut entries) = look(&db) else {
        // Damaged: whatever comes, it must come as an error. (Debug builds hold
        // every change against the invariants, which this store breaks already.)
        if !cfg!(debug_assertions) {
            let table = db.table("default");
            drop(table.and_then(|table| change(&table, &mut Map::new(), false)));
        }
        drop(db.checkpoint());
        drop(db.close());
        return true;
    };
    let table = db.table("default").expect("the default table");
    let default = entries.entry("default".into()).or_default();
    change(&table, default, true).expect("a store without damage takes changes");
    db.checkpoint().expect("a store without damage has checkpoints");
    change(&table, default, true).expect("a store without damage takes changes");
    drop(table);
    db.close().expect("a store without damage closes");
    let db = options().open_on(Arc::new(copy)).expect("what was closed opens");
    let again = look(&db).expect("what was clean stays clean");
    assert!(again == entries, "other entries than before closing");
    db.close().expect("a store without damage closes");
    true
}

/// What a store may answer that is damaged.
fn expected<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Error::Corrupt(damage)) => {
            assert!(!damage.what.is_empty() && damage.expected != damage.found, "{damage}");
            None
        }
        Err(Error::Version { .. } | Error::NotFound { .. }) => None,
        Err(other) => panic!("{other}"),
    }
}

/// The entries of a table.
type Map = BTreeMap<Vec<u8>, Vec<u8>>;
/// Those of all tables, by their names.
type Entries = BTreeMap<String, Map>;

/// Looks at everything. Returns the entries if there is no damage.
pub fn look(db: &Db) -> Option<Entries> {
    let report = db.verify().expect("verify goes on after damage");
    let clean = report.is_clean();
    drop(db.stats());
    drop(report.to_string());
    let mut all = Entries::new();
    for name in db.tables().expect("the store is open") {
        let table = db.table(&name).expect("a table that is there");
        drop(expected(table.survey(|_| ())));
        let (mut seen, mut errors) = (BTreeMap::new(), 0);
        for (count, entry) in table.iter().enumerate() {
            assert!(count < MOST, "an endless iteration");
            match expected(entry) {
                Some((key, value)) => {
                    let before = seen.insert(key.into_vec(), value.into_vec());
                    assert!(!clean || before.is_none(), "a key came twice");
                }
                None => errors += 1,
            }
        }
        assert!(!clean || errors == 0, "iteration finds damage, verify none: {report}");
        assert!(!clean || seen.len() as u64 == table.len(), "{} entries", table.len());
        for (key, value) in &seen {
            let found = expected(table.get(key));
            let lent = expected(table.get_with(key, |value| value.to_vec()));
            let there = expected(table.contains_key(key));
            if clean {
                assert!(found.flatten().as_deref() == Some(&value[..]), "another value");
                assert!(lent.flatten().as_ref() == Some(value), "another value is lent");
                assert!(there == Some(true), "a key that is there is not");
            }
        }
        let absent = expected(table.get(b"a key that nobody inserts"));
        assert!(!clean || absent.is_some(), "verify finds nothing, a search does");
        all.insert(name, seen);
    }
    clean.then_some(all)
}

/// Changes a table, which may not be whole, and a map alike.
fn change(table: &Table, entries: &mut Map, whole: bool) -> Result<()> {
    for i in 0..12_u8 {
        let key = vec![i; usize::from(i)];
        let value = vec![i ^ 0x55; usize::from(i) * usize::from(i)];
        table.insert(&key, &value)?;
        entries.insert(key, value);
    }
    let old: Vec<_> = entries.keys().step_by(3).cloned().collect();
    for key in old {
        let removed = table.remove(&key)?;
        assert!(removed || !whole, "an entry is gone");
        entries.remove(&key);
    }
    Ok(())
}
