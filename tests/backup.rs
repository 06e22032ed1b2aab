//! Backups: whole, of one moment, and never half there.
//!
//! Goal: whatever writers do meanwhile, a copy is the store as it was between
//! two commits, undamaged and compact; and whatever ends a backup early, no
//! copy has its name. Method: writers whose every state follows from the
//! number of their steps, so that a copy can be compared with the very state
//! that it claims to be; backups that are stopped at each of their reports, by
//! their caller and by SIGKILL; devices that are full or fail; damaged stores.

#[path = "backup/ends.rs"]
mod ends;
#[path = "backup/moments.rs"]
mod moments;

use std::path::Path;

use swissdb::{Db, HashKind, Options, TableOptions};

use crate::support::{State, assert_clean, key, state_of, value};

fn options() -> Options {
    Options::new().max_log_file(1 << 20).write_buffer(4 << 20)
}

/// What a copy holds, which must be undamaged and closed.
fn state_of_copy(path: &Path) -> State {
    let report = swissdb::verify(path).expect("verify the copy");
    assert!(report.is_clean(), "the copy is damaged: {report}");
    assert_eq!(report.checked.log_records, 0, "the copy was closed");
    let db = Options::new().read_only(true).create(false).open(path).expect("open the copy");
    state_of(&db)
}

/// Some entries of every kind in three tables, one of them empty.
fn fill(db: &Db, n: u64) {
    let other = TableOptions::new().payload(104).hash(HashKind::Fast);
    let other = db.create_table("other", &other).expect("a table");
    db.table("empty").expect("a table");
    for i in 0..n {
        db.insert(key(i), value(i, if i % 7 == 0 { 900 } else { 30 })).expect("insert");
        other.insert(key(i / 2), value(i, (i % 120) as usize)).expect("insert");
    }
    db.insert("large", value(1, 1_500_000)).expect("insert");
    db.insert(value(2, 3_000), "of a long key").expect("insert");
}

#[test]
fn a_copy_has_the_tables_slots_hashes_and_entries_of_the_store() {
    let place = tempfile::tempdir().expect("a directory");
    let db = options().payload(40).in_memory().expect("a store");
    fill(&db, 4_000);
    let backed_up = db.backup(place.path().join("copy")).expect("a backup");
    assert!(backed_up.finished);
    assert_eq!(backed_up.commit, db.snapshot().expect("a snapshot").commit());
    let before = state_of(&db);
    assert_eq!(backed_up.tables, 3);
    assert_eq!(backed_up.entries, before.values().map(|table| table.len() as u64).sum::<u64>());
    assert!(state_of_copy(&place.path().join("copy")) == before, "the copy differs");
    let copy = Db::open(place.path().join("copy")).expect("open the copy");
    let kinds = |db: &Db| -> Vec<_> {
        let tables = db.stats().tables;
        tables.into_iter().map(|table| (table.name, table.payload, table.hash)).collect()
    };
    assert_eq!(kinds(&copy), kinds(&db));
    assert!(kinds(&copy).contains(&("other".into(), 104, HashKind::Fast)));
    // It is a store like any other, and the old one does not know it.
    copy.insert("one", "more").expect("insert");
    assert_clean(&copy);
    assert_eq!(db.get("one").expect("get"), None);
    assert!(!place.path().join("copy.tmp").exists());
}

/// The space that files take, as the file system says.
fn on_disk(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(directory).expect("a directory").flatten();
    let size = |entry: std::fs::DirEntry| {
        let metadata = entry.metadata().expect("metadata");
        if metadata.is_dir() { on_disk(&entry.path()) } else { metadata.blocks() * 512 }
    };
    entries.map(size).sum()
}

#[test]
fn a_copy_is_as_small_as_a_store_that_was_compacted() {
    let place = tempfile::tempdir().expect("a directory");
    let (old, dest, twin) =
        (place.path().join("old"), place.path().join("copy"), place.path().join("twin"));
    let db = options().open(&old).expect("create");
    let twin_db = options().open(&twin).expect("create");
    for i in 0..60_000u64 {
        db.insert(key(i), value(i, if i % 10 == 0 { 500 } else { 30 })).expect("insert");
    }
    for i in 0..60_000u64 {
        if i % 6 != 0 {
            db.remove(key(i)).expect("remove");
        } else {
            twin_db.insert(key(i), value(i, if i % 10 == 0 { 500 } else { 30 })).expect("insert");
        }
    }
    let backed_up = db.backup(&dest).expect("a backup");
    assert_eq!(backed_up.entries, 10_000);
    twin_db.compact().expect("compact");
    twin_db.close().expect("close");
    let (copy, twin, old) = (on_disk(&dest), on_disk(&twin), on_disk(&old));
    eprintln!("copy {copy}, compacted twin {twin}, old store {old} bytes");
    // Other hash keys fill segments a little otherwise.
    assert!(copy <= twin + twin / 10 + (64 << 10), "{copy} bytes, its compacted twin {twin}");
    assert!(copy < old / 2, "{copy} bytes, the old store {old}");
    let told = backed_up.bytes;
    assert!(told.abs_diff(copy) <= 64 << 10, "{told} bytes were told, {copy} are taken");
}

#[test]
fn a_store_open_for_reading_is_copied_and_not_changed() {
    let place = tempfile::tempdir().expect("a directory");
    let store = crate::support::TestStore::on_disk(options());
    fill(&store, 3_000);
    store.checkpoint().expect("checkpoint");
    for i in 0..500 {
        store.insert(key(i), value(i + 1, 60)).expect("insert");
    }
    // A part of it is in the log alone.
    let killed = store.copy_as_killed();
    let before = crate::support::files_below(killed.path());
    let reader = Options::new().read_only(true).open(killed.path()).expect("open for reading");
    let backed_up = reader.backup(place.path().join("copy")).expect("a backup");
    assert!(backed_up.finished);
    let copied = state_of_copy(&place.path().join("copy"));
    assert!(copied == state_of(&store), "the copy differs");
    drop(reader);
    assert!(crate::support::files_below(killed.path()) == before, "the store was changed");
}
