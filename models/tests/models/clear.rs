//! Clear: a new root with a new hash key.
//!
//! Goal: a reader beside a clear finds an entry as it was, or none, or the one
//! that was put after it; and a writer never puts an entry where its key does
//! not lead. Method: the real lookup and the real root; the old page's frame is
//! used again for the new root at once.

use loom::sync::{Arc, Mutex};

use crate::harness::check;
use crate::mutant;
use crate::table::{Seen, Writer};

/// Clears the table and puts the key again, in the frame of the old page.
fn beside_a_reader() {
    let mut writer = Writer::new(1);
    writer.put(0, 7, [1, 1]);
    let reader = {
        let table = writer.table.clone();
        loom::thread::spawn(move || match table.get(7) {
            Seen::Absent | Seen::Value(1, 1) | Seen::Changes => {}
            other => panic!("nobody has written {other:?}"),
        })
    };
    writer.clear(1);
    reader.join().expect("the reader ends");
}

/// A writer puts a key while another one clears the table.
fn beside_a_writer() {
    let writer = Writer::new(2);
    writer.put(0, 8, [1, 1]);
    let table = writer.table.clone();
    let core = Arc::new(Mutex::new((writer, false)));
    let other = {
        let core = core.clone();
        loom::thread::spawn(move || {
            let mut core = core.lock().expect("no panic");
            let root = core.0.plant(1);
            core.0.change_root(root);
            core.1 = true;
        })
    };
    // `Store::insert`.
    let early = table.hasher().hash(&7u64.to_le_bytes());
    let cleared = {
        let core = core.lock().expect("no panic");
        let hash = core.0.table.hasher().hash(&7u64.to_le_bytes());
        let hash = if mutant::is("a writer hashes before it has the lock") { early } else { hash };
        core.0.put_hashed(1, hash, 7, [2, 2]);
        core.1
    };
    other.join().expect("the other writer ends");
    if cleared {
        assert_eq!(table.get(7), Seen::Value(2, 2), "put after the clear, and not found");
    }
}

/// A reader who knows of a clear, beside it.
fn beside_one_who_knows() {
    let mut writer = Writer::new(2);
    writer.put(0, 7, [1, 1]);
    let reader = {
        let table = writer.table.clone();
        loom::thread::spawn(move || {
            if table.get(7) == Seen::Absent {
                let seen = table.glance_at(7);
                assert!(matches!(seen, Seen::Absent | Seen::Changes), "before the clear: {seen:?}");
            }
        })
    };
    // The hashes differ in their prefixes only.
    let root = writer.plant(1 << 63);
    writer.change_root(root);
    reader.join().expect("the reader ends");
}

#[test]
fn what_was_before_a_clear_is_not_found_by_who_knows_of_it() {
    check("clear, the flat directory", beside_one_who_knows);
}

#[test]
fn a_reader_beside_a_clear_finds_what_was_there_or_nothing() {
    check("clear", beside_a_reader);
}

#[test]
fn what_is_put_after_a_clear_is_found() {
    check("clear, writers", beside_a_writer);
}
