//! The mirror: control words once more, beside the groups that they are of.
//!
//! Goal: what is found in the mirror and what is found in the groups do not
//! contradict each other in time, and a copy is what its control word is.
//! Method: the real lookup, which looks at groups, and the real glance, which
//! looks at copies, one after the other, beside the real change of a slot; and
//! the real check of a page beside a writer who changes it, or who uses its
//! descriptor's line again.

use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::format::group::ALL_EMPTY;
use crate::harness::{check_within, hold_within};
use crate::mutant;
use crate::table::mirror::UNKNOWN;
use crate::table::{Seen, Table, Writer};

/// Nobody misses at a glance what a lookup has found.
fn look_for_what_was_found(table: &Table) {
    if let Seen::Value(..) = table.get(7) {
        assert_ne!(table.glance_at(7), Seen::Absent, "found, and missed afterwards");
    }
}

/// A key of which a copy says the same as of 7: seven bits of its hash.
const LIKE_SEVEN: u64 = 7 + 128;

/// A table of one segment, with this key in it.
fn with(key: u64) -> Writer {
    let writer = Writer::new(1);
    writer.put(7, key, [3, 3]);
    writer
}

fn put(other: u64) {
    let writer = with(other);
    let reader = {
        let table = writer.table.clone();
        loom::thread::spawn(move || look_for_what_was_found(&table))
    };
    writer.put(0, 7, [1, 1]);
    reader.join().expect("the reader ends");
}

/// One thread finds an entry and tells another one.
fn told() {
    let writer = Writer::new(1);
    let found = Arc::new(AtomicU64::new(0));
    let finder = {
        let (table, found) = (writer.table.clone(), found.clone());
        loom::thread::spawn(move || {
            let relaxed = mutant::is("another thread learns of an entry by a relaxed store");
            if let Seen::Value(..) = table.get(7) {
                found.store(1, if relaxed { Relaxed } else { Release });
            }
        })
    };
    let other = {
        let table = writer.table.clone();
        loom::thread::spawn(move || {
            if found.load(Acquire) == 1 {
                assert_ne!(table.glance_at(7), Seen::Absent, "found, and missed by another");
            }
        })
    };
    writer.put(0, 7, [1, 1]);
    finder.join().expect("the finder ends");
    other.join().expect("the other reader ends");
}

fn remove(other: u64) {
    let writer = with(other);
    writer.put(0, 7, [1, 1]);
    let reader = {
        let table = writer.table.clone();
        loom::thread::spawn(move || {
            if table.glance_at(7) == Seen::Absent {
                let found = table.get(7);
                assert!(!matches!(found, Seen::Value(..)), "removed, and found afterwards");
            }
        })
    };
    writer.erase_slot(writer.place(0));
    reader.join().expect("the reader ends");
}

/// A segment is replaced, and its line becomes the descriptor of another one,
/// which is empty.
fn line_used_again() {
    let mut writer = Writer::new(2);
    writer.put(0, 7, [1, 1]);
    let reader = {
        let table = writer.table.clone();
        loom::thread::spawn(move || match table.glance_at(7) {
            Seen::Value(1, 1) | Seen::Changes => {}
            other => panic!("a key that is there: {other:?}"),
        })
    };
    let line = writer.replace_and_use_line_again();
    writer.table.mirror.set(line, 0, ALL_EMPTY);
    reader.join().expect("the reader ends");
}

/// A table of one page that nobody has checked yet, with an entry.
fn unchecked() -> Writer {
    let writer = Writer::new(2);
    writer.put(0, 7, [1, 1]);
    writer.as_opened();
    writer
}

/// A reader checks a page that a writer copies and changes at once.
fn checked() {
    let mut writer = unchecked();
    let reader = {
        let table = writer.table.clone();
        loom::thread::spawn(move || {
            // Checks the page, if nobody has.
            let found = table.get(7);
            assert!(matches!(found, Seen::Value(1, 1) | Seen::Changes), "{found:?}");
        })
    };
    writer.check_page();
    let (control, copy) = writer.control_and_copy();
    assert_eq!(copy, control, "checked, and without a copy");
    writer.copy_page();
    writer.put(1, 8, [2, 2]);
    reader.join().expect("the reader ends");
    let (control, copy) = writer.control_and_copy();
    assert_eq!(copy, control, "the copy is another one");
}

/// A reader checks a page of a segment that is replaced, and whose line becomes
/// the descriptor of one that is loaded.
fn line_loaded_again() {
    let mut writer = unchecked();
    let reader = {
        let table = writer.table.clone();
        loom::thread::spawn(move || {
            let found = table.get(7);
            assert!(matches!(found, Seen::Value(1, 1) | Seen::Changes), "{found:?}");
        })
    };
    writer.check_page();
    let line = writer.replace_and_use_line_again();
    reader.join().expect("the reader ends");
    let copy = writer.table.mirror.control(line, 0);
    assert_eq!(copy, UNKNOWN, "a copy of a page that nobody has checked");
}

#[test]
fn what_a_lookup_has_found_is_not_missed_at_a_glance() {
    check_within("mirror", Some(2), || put(8));
    hold_within("mirror, beside an entry like it", 2, || put(LIKE_SEVEN));
}

#[test]
fn what_a_lookup_has_found_is_not_missed_by_whoever_learns_of_it() {
    check_within("mirror, another thread", Some(2), told);
}

#[test]
fn what_is_gone_at_a_glance_is_not_found_by_a_lookup() {
    check_within("mirror, a removed entry", Some(2), || remove(8));
    hold_within("mirror, an entry like it is left", 2, || remove(LIKE_SEVEN));
}

#[test]
fn a_glance_notices_that_its_line_was_used_again() {
    check_within("mirror, a line used again", Some(2), line_used_again);
}

#[test]
fn a_copy_is_what_its_control_word_is_whoever_stores_it() {
    check_within("mirror, a checked page", Some(2), checked);
}

#[test]
fn a_line_that_is_loaded_again_has_only_its_own_copies() {
    check_within("mirror, a line loaded again", Some(2), line_loaded_again);
}
