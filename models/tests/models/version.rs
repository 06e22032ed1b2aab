//! The version word: a slot that changes while a reader copies it out.
//!
//! Goal: what a lookup returns was in the slot at one moment. Method: the real
//! lookup, from the epoch to the copy, beside the real change of a slot under
//! its version. Once only the value's two words change, in all executions; once
//! a whole entry is put into an empty slot, in those with two preemptions.

use loom::sync::atomic::Ordering::Relaxed;

use crate::harness::{check, hold_within};
use crate::table::{Seen, Table, Writer};

fn overwrite(look: fn(&Table, u64) -> Seen) {
    let writer = Writer::new(1);
    writer.put(0, 7, [1, 1]);
    let reader = {
        let table = writer.table.clone();
        loom::thread::spawn(move || match look(&table, 7) {
            Seen::Value(1, 1) | Seen::Value(2, 2) | Seen::Changes => {}
            other => panic!("nobody has written {other:?}"),
        })
    };
    writer.change(|group| (9..11).for_each(|word| group[word].store(2, Relaxed)));
    reader.join().expect("the reader ends");
}

fn insert(look: fn(&Table, u64) -> Seen) {
    let writer = Writer::new(1);
    let reader = {
        let table = writer.table.clone();
        loom::thread::spawn(move || match look(&table, 7) {
            Seen::Absent | Seen::Value(2, 2) | Seen::Changes => {}
            other => panic!("nobody has written {other:?}"),
        })
    };
    writer.put(0, 7, [2, 2]);
    reader.join().expect("the reader ends");
}

#[test]
fn a_lookup_finds_a_slot_as_it_was_at_one_moment() {
    check("version", || overwrite(Table::get));
}

#[test]
fn a_lookup_finds_a_new_entry_whole_or_not_at_all() {
    hold_within("version, a whole entry", 2, || insert(Table::get));
}

#[test]
fn a_glance_finds_a_slot_as_it_was_at_one_moment() {
    check("version, a glance", || overwrite(Table::glance_at));
}

#[test]
fn a_glance_finds_a_new_entry_whole_or_not_at_all() {
    hold_within("version, a whole entry at a glance", 2, || insert(Table::glance_at));
}
