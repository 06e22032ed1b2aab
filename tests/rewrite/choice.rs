//! The slot payload that is chosen, against files of all payloads.
//!
//! Method: a table is written with every slot payload there is, one after the
//! other. What the store takes with each is the length of that file and, for
//! each entry that does not fit, by how much logging one of its size made the
//! log longer. The choice must be as good as the best of all, but for 3 %.

use std::collections::BTreeMap;
use std::sync::Arc;

use swissdb::storage::Storage;
use swissdb::storage::memory::Memory;
use swissdb::{Db, Options, Payload};

use crate::support::{Model, Random, assert_clean, key, value};

use super::{change, go_on, open, stats_of, stored};

/// Entries with keys of 16 bytes and values of lengths that this chooses.
fn entries(count: u64, mut length: impl FnMut(&mut Random) -> u64) -> Model {
    let mut random = Random::new(77);
    (0..count).map(|i| (key(i), value(i, length(&mut random) as usize))).collect()
}

/// By how much logging an entry of each of these lengths makes the log longer.
fn log_growth(model: &Model) -> BTreeMap<usize, u64> {
    let db = Db::in_memory().expect("a store");
    let mut growth = BTreeMap::new();
    let end = || db.stats().written.log_bytes;
    for (key, value) in model {
        growth.entry(key.len() + value.len()).or_insert_with(|| {
            let before = end();
            db.insert(key, value).expect("insert");
            end() - before
        });
    }
    growth
}

/// Fails unless the payload that is chosen is as good as the best.
fn check_choice(what: &str, model: &Model) {
    let growth = log_growth(model);
    let memory = stored(model, &Options::new());
    let storage = Arc::new(memory.clone());
    let chosen = Options::new().change_payload_on(storage, "default", Payload::Auto, go_on);
    let chosen = chosen.expect("rewrite");
    assert_eq!(stats_of(&open(&memory), "default").payload, chosen.payload);
    let census = chosen.census.expect("it was counted");
    assert_eq!((census.entries, census.payload), (model.len() as u64, 56));
    let mut sizes = BTreeMap::new();
    for payload in (24..=504).step_by(8) {
        let table = file_length(&memory, payload);
        let log = model.iter().map(|(key, value)| key.len() + value.len());
        let spilled: Vec<_> = log.filter(|both| *both > payload).collect();
        assert_eq!(census.spilled_at(payload), spilled.len() as u64);
        let size = table + spilled.iter().map(|both| growth[both]).sum::<u64>();
        let estimate = census.bytes_at(payload).expect("a possible payload");
        let off = estimate as f64 / size as f64;
        assert!((0.9..1.1).contains(&off), "{what}, {payload}: {estimate} instead of {size}");
        sizes.insert(payload, size);
    }
    let (best, least) = sizes.iter().min_by_key(|(_, size)| **size).expect("sizes");
    let found = sizes[&chosen.payload];
    eprintln!("{what}: {} bytes chosen, {found}; {best} is best, {least}", chosen.payload);
    let near = chosen.payload.abs_diff(*best) <= 8;
    assert!(near || found as f64 <= *least as f64 * 1.03, "{what}: {sizes:?}");
}

/// The length of the table file with that payload.
fn file_length(memory: &Memory, payload: usize) -> u64 {
    change(memory, payload);
    let file = memory.open("default.swiss", swissdb::storage::Access::Read).expect("open");
    file.length().expect("length")
}

#[test]
fn the_payload_that_is_chosen_makes_the_store_smallest() {
    check_choice("all alike", &entries(8_000, |_| 40));
    check_choice("evenly spread", &entries(8_000, |random| random.below(200)));
    check_choice("two sizes", &entries(8_000, |random| if random.one_in(10) { 400 } else { 30 }));
    let doubling = |random: &mut Random| 20 << random.next().leading_zeros();
    check_choice("a long tail", &entries(8_000, doubling));
    check_choice("long ones", &entries(4_000, |random| 600 + random.below(900)));
}

#[test]
fn nothing_is_written_if_the_slots_are_right() {
    let memory = stored(&entries(3_000, |_| 40), &Options::new());
    let storage = Arc::new(memory.clone());
    let kept = Options::new().change_payload_on(storage, "default", Payload::Auto, go_on);
    let kept = kept.expect("nothing to do");
    assert_eq!((kept.finished, kept.payload, kept.entries), (true, 56, 0));
    let text = kept.census.expect("it was counted").to_string();
    assert!(text.contains("3000 entries") && text.contains("No other"), "{text}");
    assert_clean(&open(&memory));
}
