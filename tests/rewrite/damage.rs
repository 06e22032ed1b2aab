//! Damaged stores that are to get another slot payload.
//!
//! Method: bytes of values, keys and pages are changed behind the store's back.
//! A rotten value must be the same error before and after, in slots of any
//! size; what can be saved must be; a rotten page must keep the old table.

use std::sync::Arc;

use swissdb::storage::memory::Memory;
use swissdb::storage::{Access, Storage};
use swissdb::{Error, Options, Payload};

use crate::support::{Model, assert_clean, value};

use super::{change, contents, go_on, mixed, open, stats_of, stored};

/// Changes a byte in the middle of these bytes, wherever the log has them.
/// Says how many places there are.
fn rot(memory: &Memory, bytes: &[u8]) -> usize {
    let mut found = 0;
    for name in memory.list("log").expect("list") {
        let name = format!("log/{name}");
        let log = contents(memory, &name);
        let file = memory.open(&name, Access::Write).expect("open");
        for at in 0..log.len().saturating_sub(bytes.len()) {
            if log[at..].starts_with(bytes) {
                let middle = at + bytes.len() / 2;
                file.write_at(&[!log[middle]], middle as u64).expect("write");
                found += 1;
            }
        }
    }
    found
}

#[test]
fn a_rotten_value_stays_the_same_error_in_slots_of_any_size() {
    // Key and value lengths: what is in the log differs with the payload.
    for (key_len, value_len) in [(16, 300), (100, 40), (80, 5_000), (300, 130)] {
        let (key, good) = (value(1_000_007, key_len), value(1_000_008, value_len));
        let mut model = mixed(300);
        model.insert(key.clone(), good.clone());
        let memory = stored(&model, &Options::new());
        assert!(rot(&memory, &good) > 0);
        let mut damaged = 0;
        for payload in [504, 24, 128, 336, 24, 56] {
            damaged += change(&memory, payload).damage.len();
            let db = open(&memory);
            assert_eq!(stats_of(&db, "default").payload, payload);
            assert!(!db.verify().expect("verify").is_clean());
            let sound = model.iter().filter(|(k, _)| **k != key);
            for (key, value) in sound {
                assert_eq!(db.get(key).expect("get").as_deref(), Some(&value[..]));
            }
            // A small value may stand in its slot, and is sound there.
            match db.get(&key) {
                Ok(found) => assert_eq!(found.as_deref(), Some(&good[..])),
                Err(error) => assert!(matches!(error, Error::Corrupt(_)), "{error}"),
            }
            db.close().expect("close");
        }
        assert!(damaged > 0 || value_len < 300, "it was told of {key_len} and {value_len}");
        // The record becomes what it was, and so does the entry.
        let mut wrong = good.clone();
        wrong[value_len / 2] = !wrong[value_len / 2];
        assert!(rot(&memory, &wrong) > 0);
        let db = open(&memory);
        assert_eq!(db.get(&key).expect("get").as_deref(), Some(&good[..]));
        // Writing it again mends how it is laid out.
        db.insert(&key, &good).expect("insert");
        db.checkpoint().expect("checkpoint");
        assert_clean(&db);
        db.close().expect("close");
    }
}

#[test]
fn a_key_that_rotted_in_the_log_unseen_is_taken_from_its_slot() {
    let (key, good) = (value(1_000_007, 100), value(1_000_008, 3_000));
    let mut model = Model::from([(key.clone(), good)]);
    model.extend(mixed(100));
    let memory = stored(&model, &Options::new().payload(200));
    assert!(rot(&memory, &key) > 0, "the log has a copy of the key");
    // In smaller slots the key is found in the log only.
    let rewritten = change(&memory, 56);
    assert!(rewritten.damage.is_empty());
    assert!(rewritten.logged_bytes > 3_100, "the entry was logged anew");
    super::check(&memory, &model, 56);
}

#[test]
fn a_value_that_rotted_in_the_log_unseen_is_taken_from_its_slot() {
    // The key is spilled and the value is not; in the smallest slots both are.
    let (key, good) = (value(1_000_007, 500), value(1_000_008, 60));
    let model = Model::from([(key, good.clone())]);
    let memory = stored(&model, &Options::new().payload(104));
    assert!(rot(&memory, &good) > 0, "the log has a copy of the value");
    let rewritten = change(&memory, 24);
    assert!(rewritten.damage.is_empty());
    assert!(rewritten.logged_bytes > 560, "the entry was logged anew");
    super::check(&memory, &model, 24);
}

#[test]
fn a_table_with_a_rotten_page_stays_as_it_is() {
    let model = mixed(2_000);
    let memory = stored(&model, &Options::new());
    let file = memory.open("default.swiss", Access::Write).expect("open");
    let table = contents(&memory, "default.swiss");
    // Some entry's key, in its slot.
    let key = model.keys().find(|key| key.len() == 30).expect("a key");
    let at = (0..table.len()).find(|at| table[*at..].starts_with(key)).expect("a slot");
    file.write_at(&[!table[at]], at as u64).expect("write");
    let storage = Arc::new(memory.clone());
    let refused = Options::new().change_payload_on(storage, "default", Payload::Bytes(200), go_on);
    assert!(matches!(refused, Err(Error::Corrupt(_))));
    assert_eq!(super::left_over(&memory), 0);
    let db = open(&memory);
    assert_eq!(stats_of(&db, "default").payload, 56);
    let readable = model
        .iter()
        .filter(|(key, value)| db.get(key).ok().flatten().as_deref() == Some(&value[..]));
    let readable = readable.count();
    assert!((1_500..2_000).contains(&readable), "{readable} entries can be read");
}
