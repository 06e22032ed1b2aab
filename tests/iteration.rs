//! Iteration while nothing else happens, and while entries come, go, change
//! and move.
//!
//! The guarantees are those of Go's maps: an entry neither inserted nor removed
//! during the iteration comes exactly once; none comes twice; one that is removed
//! before it is reached does not come; one that is inserted may come or not. Each
//! test iterates in every [`Way`]: entries copied, lent, and both in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use swissdb::Options;

use crate::support::{Model, TestStore, assert_same, key, pairs, show, value};

/// How entries are taken from an iterator.
#[derive(Debug, Clone, Copy)]
enum Way {
    Copied,
    Lent,
    InTurn,
}

/// A store, and how it is iterated.
struct Subject {
    store: TestStore,
    way: Way,
}

impl Deref for Subject {
    type Target = TestStore;

    fn deref(&self) -> &TestStore {
        &self.store
    }
}

impl Subject {
    /// Shows each entry with its number.
    fn each(&self, mut look: impl FnMut(u64, &[u8], &[u8])) {
        let mut entries = self.store.iter();
        for number in 0.. {
            let lent = match self.way {
                Way::Copied => false,
                Way::Lent => true,
                Way::InTurn => number % 2 == 0,
            };
            if lent {
                let Some(entry) = entries.next_ref() else { return };
                let (key, value) = entry.expect("an entry");
                look(number, key, value);
            } else {
                let Some(entry) = entries.next() else { return };
                let (key, value) = entry.expect("an entry");
                look(number, &key, &value);
            }
        }
    }
}

/// Stores of one segment and of many, with `count` entries each.
fn stores(count: u64) -> Vec<Subject> {
    let small = || TestStore::in_memory(Options::new());
    let large = || TestStore::in_memory(Options::new().payload(504));
    let on_disk = || TestStore::on_disk(Options::new().payload(504).write_buffer(1 << 20));
    let subjects = vec![
        Subject { store: small(), way: Way::Copied },
        Subject { store: large(), way: Way::Copied },
        Subject { store: on_disk(), way: Way::Copied },
        Subject { store: small(), way: Way::InTurn },
        Subject { store: large(), way: Way::Lent },
        Subject { store: on_disk(), way: Way::Lent },
    ];
    for store in &subjects {
        for i in 0..count {
            store.insert(key(i), value(i, 8)).expect("insert");
        }
    }
    subjects
}

/// The entries that [`stores`] hold.
fn model(count: u64) -> Model {
    (0..count).map(|i| (key(i), value(i, 8))).collect()
}

/// Iterates, calls `meanwhile` after entry number `at` came (with its key), and
/// returns what came; fails if a key came twice.
fn iterate(store: &Subject, at: u64, mut meanwhile: impl FnMut(&[u8])) -> Model {
    let mut seen = Model::new();
    store.each(|number, key, value| {
        if number == at {
            meanwhile(key);
        }
        let twice = seen.insert(key.to_vec(), value.to_vec());
        assert!(twice.is_none(), "{} came twice", show(key));
    });
    seen
}

#[test]
fn an_empty_store_yields_nothing() {
    for store in stores(0) {
        assert!(store.iter().next().is_none());
        assert!(store.iter().next_ref().is_none());
    }
}

#[test]
fn every_entry_comes_exactly_once() {
    for count in [1, 31, 64, 1_000] {
        for store in stores(count) {
            assert_eq!(iterate(&store, 0, |_| {}), model(count));
        }
    }
}

#[test]
fn an_iterator_that_ended_stays_ended() {
    for store in stores(10) {
        let mut entries = store.iter();
        assert_eq!(entries.by_ref().count(), 10);
        store.insert("late", "entry").expect("insert");
        assert!(entries.next().is_none());
        assert!(entries.next_ref().is_none());
        assert!(entries.next().is_none());
    }
}

#[test]
fn iterators_are_independent_and_may_be_left() {
    for store in stores(200) {
        let mut first = pairs(store.iter());
        let started: Vec<_> = first.by_ref().take(50).collect();
        assert_eq!(store.iter().take(3).count(), 3);
        assert_same(pairs(store.iter()), &model(200));
        assert_same(started.into_iter().chain(first), &model(200));
    }
}

#[test]
fn an_entry_removed_before_it_is_reached_does_not_come() {
    for count in [31, 1_000] {
        for store in stores(count) {
            let mut removed = Vec::new();
            let seen = iterate(&store, 0, |current| {
                removed = if current == key(1) { key(2) } else { key(1) };
                assert!(store.remove(&removed).expect("remove"));
            });
            let mut expected = model(count);
            expected.remove(&removed);
            assert_eq!(seen, expected);
        }
    }
}

#[test]
fn a_removed_entry_does_not_come_after_growth_either() {
    for count in [31, 500] {
        for store in stores(count) {
            let mut removed = Vec::new();
            let mut seen = iterate(&store, 0, |current| {
                removed = if current == key(1) { key(2) } else { key(1) };
                for i in count..3 * count {
                    store.insert(key(i), value(i, 8)).expect("insert");
                }
                assert!(store.remove(&removed).expect("remove"));
            });
            let mut expected = model(count);
            expected.remove(&removed);
            seen.retain(|key, _| model(count).contains_key(key));
            assert_eq!(seen, expected);
        }
    }
}

#[test]
fn growth_and_splits_bring_no_entry_twice() {
    for growth in [32, 300, 3_000] {
        for store in stores(31) {
            let mut seen = iterate(&store, 16, |_| {
                for i in 31..31 + growth {
                    store.insert(key(i), value(i, 8)).expect("insert");
                }
            });
            let all = model(31 + growth);
            assert!(seen.iter().all(|(key, value)| all.get(key) == Some(value)));
            seen.retain(|seen, _| *seen < key(31));
            assert_eq!(seen, model(31), "the entries from before");
        }
    }
}

#[test]
fn growing_at_every_step_still_brings_the_old_entries_once() {
    for store in stores(300) {
        let mut next = 300;
        let mut seen = BTreeMap::new();
        store.each(|_, key_seen, value_seen| {
            assert!(seen.insert(key_seen.to_vec(), value_seen.to_vec()).is_none());
            if next < 2_000 {
                for i in next..next + 5 {
                    store.insert(key(i), value(i, 8)).expect("insert");
                }
                next += 5;
            }
        });
        seen.retain(|seen, _| *seen < key(300));
        assert_eq!(seen, model(300));
    }
}

#[test]
fn removing_each_entry_as_it_comes_empties_the_store() {
    for store in stores(800) {
        let mut seen = BTreeSet::new();
        store.each(|_, key, _| {
            assert!(store.remove(key).expect("remove"), "{} was there", show(key));
            assert!(seen.insert(key.to_vec()));
        });
        assert_eq!(seen.len(), 800);
        assert!(store.is_empty());
    }
}

#[test]
fn growing_and_removing_while_iterating_loses_and_repeats_nothing() {
    // The even entries are removed, new ones come, the odd ones are left alone.
    for store in stores(600) {
        let mut seen = BTreeSet::new();
        let mut removed = BTreeSet::new();
        store.each(|step, came, _| {
            assert!(!removed.contains(came), "{} was removed before", show(came));
            assert!(seen.insert(came.to_vec()), "{} came twice", show(came));
            let victim = key(step * 2 % 600);
            if store.remove(&victim).expect("remove") {
                removed.insert(victim);
            }
            if step < 1_000 {
                store.insert(key(10_000 + step), value(step, 8)).expect("insert");
            }
        });
        for i in (1..600).step_by(2) {
            assert!(seen.contains(&key(i)), "entry {i} was left alone and is missing");
        }
    }
}

#[test]
fn an_overwritten_entry_comes_once_with_one_of_its_values() {
    for store in stores(500) {
        let mut seen = BTreeSet::new();
        store.each(|_, came, bytes| {
            let i: u64 = String::from_utf8_lossy(&came[4..]).parse().expect("a number");
            let spilled = value(i, 2_000);
            assert!(bytes == value(i, 8) || bytes == spilled);
            assert!(seen.insert(i), "entry {i} came twice");
            // From inline to spilled, for this entry and one somewhere else.
            store.insert(came, &spilled).expect("insert");
            let other = (i * 7 + 1) % 500;
            store.insert(key(other), value(other, 2_000)).expect("insert");
        });
        assert_eq!(seen.len(), 500);
    }
}

#[test]
fn clear_ends_what_was_there() {
    for store in stores(500) {
        let seen = iterate(&store, 100, |_| {
            store.clear().expect("clear");
            for i in 1_000..1_100 {
                store.insert(key(i), value(i, 8)).expect("insert");
            }
        });
        let old = seen.keys().filter(|seen| **seen < key(500)).count();
        assert_eq!(old, 101, "the entries that came before the clear");
    }
}

#[test]
fn nothing_comes_after_a_clear_though_the_same_keys_are_inserted_again() {
    for count in [20, 500] {
        for store in stores(count) {
            let seen = iterate(&store, 5, |_| {
                store.clear().expect("clear");
                for i in 0..count {
                    store.insert(key(i), value(i, 9)).expect("insert");
                }
            });
            assert_eq!(seen.len(), 6, "entries came after the clear");
        }
    }
}

#[test]
fn checkpoints_do_not_disturb_an_iteration() {
    for store in stores(1_000) {
        let mut steps = 0;
        let mut seen = Model::new();
        store.each(|_, key, value| {
            assert!(seen.insert(key.to_vec(), value.to_vec()).is_none());
            steps += 1;
            if steps % 200 == 0 {
                store.insert("other", steps.to_string()).expect("insert");
                store.checkpoint().expect("checkpoint");
            }
        });
        seen.remove(&b"other"[..]);
        assert_eq!(seen, model(1_000));
    }
}

#[test]
fn spilled_keys_and_values_are_iterated_whole() {
    for way in [Way::Copied, Way::Lent, Way::InTurn] {
        let store = TestStore::on_disk(Options::new().max_log_file(1 << 20));
        let subject = Subject { store, way };
        let mut model = Model::new();
        for i in 0..200 {
            let key = value(i, 1 + 13 * i as usize);
            let bytes = value(i + 1_000, (i as usize * 37) % 5_000);
            subject.insert(&key, &bytes).expect("insert");
            model.insert(key, bytes);
        }
        assert_eq!(iterate(&subject, u64::MAX, |_| {}), model, "{way:?}");
    }
}
