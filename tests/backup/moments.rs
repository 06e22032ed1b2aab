//! Copies that are made while writers go on.
//!
//! A step of a writer is a batch over two tables that overwrites, inserts and
//! removes, and says in both tables which step it is. So the number of steps
//! says what every entry of that writer must be. With each step a writer also
//! notes how far it sees the others; a copy that has the note and not what it
//! tells of is of no one moment. The first writer fills and clears a third
//! table besides.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use swissdb::{Batch, Db};

use super::{options, state_of_copy};
use crate::support::{Model, State, TestStore, value};

const WRITERS: u64 = 3;
/// Entries of a writer in each table.
const KEYS: u64 = 150;
/// The third table is cleared after so many insertions.
const ROUND: u64 = 40;

fn key_of(writer: u64, i: u64) -> Vec<u8> {
    format!("{writer}-entry-{i:06}").into_bytes()
}

fn counter(writer: u64) -> Vec<u8> {
    format!("counter-{writer}").into_bytes()
}

fn note(writer: u64) -> Vec<u8> {
    format!("note-{writer}").into_bytes()
}

fn number(bytes: Option<&[u8]>) -> u64 {
    bytes.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
}

/// What a step does to both tables: an entry that is set, one that is removed.
fn change(writer: u64, step: u64) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let length = if step.is_multiple_of(9) { 700 } else { 25 };
    let set = key_of(writer, step * 7 % KEYS);
    (set, value(writer << 40 | step, length), key_of(writer, (step * 7 + KEYS / 2) % KEYS))
}

/// The entries of a writer after some steps, in each table. As many steps as
/// there are keys set each of them once, so none before these matters.
fn state(writer: u64, steps: u64) -> Model {
    let mut model = Model::new();
    for step in steps.saturating_sub(KEYS) + 1..=steps {
        let (set, bytes, removed) = change(writer, step);
        model.insert(set, bytes);
        model.remove(&removed);
    }
    model
}

/// The third table after so many steps of its writer.
fn cleared(steps: u64) -> Model {
    let round = steps / ROUND * ROUND;
    (round + 1..=steps).map(|n| (key_of(0, n % ROUND), n.to_le_bytes().to_vec())).collect()
}

fn write(db: &Db, writer: u64, done: &AtomicBool, steps: &AtomicU64) {
    let second = db.table("second").expect("a table");
    let third = db.table("third").expect("a table");
    for step in 1u64.. {
        if writer == 0 && step.is_multiple_of(ROUND) {
            third.clear().expect("clear");
        } else if writer == 0 {
            third.insert(key_of(0, step % ROUND), step.to_le_bytes()).expect("insert");
        }
        let (set, bytes, removed) = change(writer, step);
        let mut batch = Batch::new();
        for other in 0..WRITERS {
            let seen = number(db.get(counter(other)).expect("get").as_deref());
            let key = [note(writer), other.to_le_bytes().to_vec()].concat();
            batch.insert(key, seen.to_le_bytes()).expect("add");
        }
        batch.insert(counter(writer), step.to_le_bytes()).expect("add");
        batch.insert(&set, &bytes).expect("add");
        batch.remove(&removed).expect("add");
        batch.insert_into(&second, &set, &bytes).expect("add");
        batch.remove_from(&second, &removed).expect("add");
        batch.insert_into(&second, counter(writer), step.to_le_bytes()).expect("add");
        db.write(&batch).expect("write");
        steps.fetch_add(1, Ordering::Relaxed);
        if done.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Fails unless a copy is the store between two commits. Says how far each
/// writer was.
fn assert_one_moment(copy: &State) -> Vec<u64> {
    let get = |table: &str, key: &[u8]| number(copy[table].get(key).map(Vec::as_slice));
    let steps: Vec<u64> = (0..WRITERS).map(|writer| get("default", &counter(writer))).collect();
    let mut expected = BTreeMap::from([("default", Model::new()), ("second", Model::new())]);
    for (writer, &steps) in (0..).zip(&steps) {
        assert_eq!(get("second", &counter(writer)), steps, "a part of a batch");
        for table in expected.values_mut() {
            table.extend(state(writer, steps));
            table.extend((steps > 0).then(|| (counter(writer), steps.to_le_bytes().to_vec())));
        }
    }
    for (table, expected) in expected {
        let found: Model = copy[table]
            .iter()
            .filter(|(key, _)| !key.starts_with(b"note-"))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        assert!(found == expected, "table {table} is not what steps {steps:?} leave");
    }
    for writer in 0..WRITERS {
        for (other, &there) in (0..WRITERS).zip(&steps) {
            let seen = get("default", &[note(writer), other.to_le_bytes().to_vec()].concat());
            assert!(seen <= there, "writer {writer} saw step {seen} of {other}, {there} is there");
        }
    }
    let third = &copy["third"];
    let is_that = |steps| *third == cleared(steps);
    assert!(is_that(steps[0]) || is_that(steps[0] + 1), "the third table at step {}", steps[0]);
    steps
}

#[test]
fn a_copy_made_while_others_write_is_the_store_between_two_commits() {
    let place = tempfile::tempdir().expect("a directory");
    let store = TestStore::on_disk(options());
    for table in ["second", "third"] {
        store.table(table).expect("a table");
    }
    let (done, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (store, done, written) = (&store, &done, &written);
            scope.spawn(move || write(store, writer, done, written));
        }
        let _end = End(&done);
        let (mut last, mut meanwhile) = (vec![0; WRITERS as usize], 0);
        for n in 0..6 {
            let dest = place.path().join(format!("copy-{n}"));
            let before = written.load(Ordering::Relaxed);
            let backed_up = store.backup(&dest).expect("a backup");
            meanwhile += written.load(Ordering::Relaxed) - before;
            let copy = state_of_copy(&dest);
            let entries: usize = copy.values().map(Model::len).sum();
            assert_eq!((backed_up.finished, backed_up.entries), (true, entries as u64));
            let steps = assert_one_moment(&copy);
            assert!(steps.iter().zip(&last).all(|(now, before)| now >= before));
            // What was acknowledged before the backup began is in it; a writer
            // counts a step only after it has returned.
            assert!(steps.iter().sum::<u64>() >= before, "{steps:?}, {before} before");
            last = steps;
        }
        eprintln!("{last:?} steps in the last copy, {meanwhile} made during backups");
        assert!(meanwhile > 0, "the writers stood still");
    });
}

/// Tells the writers to end, also after a failure.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
