//! Where a change is made at first sight, and where it is not.
//!
//! The harness finds, for each change of every test, both the mark and the
//! place of the usual way, asserts that they are the same slot, and makes the
//! change by turns in both ways. Here: that there is a mark where it should be
//! simple, and none where any one thing is not, however simple the rest; and
//! that lengths of all kinds are written alike.

use crate::table::read::mark::{Mark, Removal};

use super::harness::{Model, Setup, Store};

/// The mark of a key that is to be inserted, and whether that was sure before the
/// key was looked up.
pub(super) fn mark(store: &Store, hash: u64, key: &[u8]) -> (Option<Mark>, bool) {
    let generation = store.ws.generation;
    match store.writer.settle(generation, hash) {
        Some(settled) => {
            let mark = store.writer.mark_for_insert(&settled, generation, hash, key);
            (mark, settled.is_sure())
        }
        None => (None, false),
    }
}

fn has_mark(store: &Store, key: &[u8]) -> bool {
    mark(store, store.writer.hash(key), key).0.is_some()
}

fn removal(store: &Store, key: &[u8]) -> &'static str {
    let hash = store.writer.hash(key);
    match store.writer.mark_for_remove(store.ws.generation, hash, key) {
        Removal::Here(_) => "here",
        Removal::Absent => "absent",
        Removal::Unsure => "unsure",
    }
}

#[test]
fn what_is_simple_has_a_mark() {
    let mut store = Store::new(Setup::new(56));
    store.insert(b"first", b"makes a page").unwrap();
    assert!(has_mark(&store, b"first") && has_mark(&store, b"second"));
    assert_eq!((removal(&store, b"first"), removal(&store, b"second")), ("here", "absent"));
}

#[test]
fn a_place_is_sure_before_the_key_is_looked_up_if_its_page_may_be_changed_now() {
    let mut store = Store::new(Setup::new(56));
    store.insert(b"first", b"makes a page").unwrap();
    store.insert(b"spilled", &[1; 100]).unwrap();
    let is_sure = |store: &Store, key: &[u8]| mark(store, store.writer.hash(key), key).1;
    // The second is not simple after all, and can be written all the same.
    for key in [&b"first"[..], b"spilled", b"new"] {
        assert!(is_sure(&store, key));
    }
    assert!(!has_mark(&store, b"spilled"));
    store.ws.generation += 1;
    for key in [&b"first"[..], b"spilled", b"new"] {
        assert!(!is_sure(&store, key));
    }
}

#[test]
fn a_value_that_does_not_fit_beside_its_key_is_not_whole() {
    let store = Store::new(Setup::new(56));
    let table = &store.writer.table;
    assert!(table.holds_whole(&[1; 16], &[2; 40]) && table.holds_whole(&[1; 56], &[]));
    assert!(!table.holds_whole(&[1; 16], &[2; 41]) && !table.holds_whole(&[1; 57], &[]));
}

#[test]
fn an_entry_with_something_in_the_log_has_no_mark() {
    let mut store = Store::new(Setup::new(56));
    for (key, value) in [(&b"value"[..], &[1; 100][..]), (&[2; 80], b""), (&[3; 80], &[3; 80])] {
        store.insert(key, value).unwrap();
        assert!(!has_mark(&store, key));
        assert_eq!(removal(&store, key), "unsure");
    }
}

#[test]
fn a_page_that_a_checkpoint_has_written_has_no_mark_until_it_is_dirty_again() {
    let mut store = Store::new(Setup::new(56));
    store.insert(b"key", b"value").unwrap();
    assert!(has_mark(&store, b"key"));
    store.ws.generation += 1;
    assert!(!has_mark(&store, b"key") && !has_mark(&store, b"other"));
    assert_eq!((removal(&store, b"key"), removal(&store, b"other")), ("unsure", "absent"));
    store.ws.generation -= 1;
    assert!(has_mark(&store, b"key"));
}

#[test]
fn a_table_that_was_just_opened_has_no_marks() {
    let mut store = Store::new(Setup::new(56));
    store.insert(b"key", b"value").unwrap();
    store.checkpoint();
    let mut store = store.reopen();
    // First the directory page is not loaded, then the page lies in no frame.
    assert!(!has_mark(&store, b"key"));
    assert_eq!(removal(&store, b"key"), "unsure");
    assert!(store.get(b"key").unwrap().is_some());
    assert!(!has_mark(&store, b"key"));
    assert_eq!(removal(&store, b"key"), "unsure");
    store.insert(b"key", b"other").unwrap();
    assert!(has_mark(&store, b"key"));
}

#[test]
fn keys_that_only_look_alike_have_no_mark() {
    let mut store = Store::new(Setup::constant(56, 0x1234_5678_9abc_def0));
    store.insert(b"one", b"1").unwrap();
    assert!(has_mark(&store, b"one"));
    for other in
        [&b"two"[..], b"longer", b"a key that would go into the log, as it is too long for it"]
    {
        assert!(!has_mark(&store, other));
        assert_eq!(removal(&store, other), "unsure");
    }
}

#[test]
fn no_mark_is_found_where_room_must_be_made() {
    let mut store = Store::new(Setup::new(56));
    let mut model = Model::new();
    let (mut found, mut refused, mut sure) = (0, 0, 0);
    for i in 0..3000u64 {
        let key = i.to_le_bytes();
        let (marks, segments) = (store.marks, store.writer.totals);
        let was_sure = mark(&store, store.writer.hash(&key), &key).1;
        store.insert(&key, &[7; 40]).unwrap();
        model.insert(key.to_vec(), vec![7; 40]);
        if segments.slots != store.writer.totals.slots {
            assert_eq!(store.marks, marks, "room was made for a key with a mark");
            assert!(!was_sure, "room was made for a key that was sure to have some");
            refused += 1;
        } else {
            found += store.marks - marks;
            sure += usize::from(was_sure);
        }
    }
    assert!(sure > 2500, "{sure}");
    assert!(refused > 10 && found > 2900 - refused, "{refused} and {found}");
    store.check(&model);
}

#[test]
fn deleted_slots_are_filled_and_left_by_marks() {
    let mut store = Store::new(Setup::new(56));
    let mut model = Model::new();
    for round in 0..6u8 {
        for i in 0..700u64 {
            let key = i.to_le_bytes();
            if (i + u64::from(round)) % 3 == 0 {
                assert_eq!(store.remove(&key).unwrap(), model.remove(&key[..]).is_some());
            } else {
                store.insert(&key, &[round; 33]).unwrap();
                model.insert(key.to_vec(), vec![round; 33]);
            }
        }
        store.check(&model);
    }
    assert!(store.marks > 3000, "{}", store.marks);
}

#[test]
fn entries_of_all_lengths_are_written_at_first_sight() {
    for payload in [24, 56, 64, 72, 504] {
        let mut store = Store::new(Setup::new(payload));
        let mut model = Model::new();
        let lengths = [0, 1, 7, 8, 9, 16, 17, 23, 24];
        for value_length in lengths.into_iter().chain(lengths.into_iter().rev()) {
            for key_length in 1..=payload.min(48) {
                // Twice, and so once in each way.
                for byte in [value_length as u8, !(value_length as u8)] {
                    let (key, value) =
                        (vec![key_length as u8; key_length], vec![byte; value_length]);
                    store.insert(&key, &value).unwrap();
                    model.insert(key, value);
                }
            }
        }
        assert!(store.marks > 0, "{payload}");
        store.check(&model);
    }
}
