//! Who reads: by key, in all ways, and by iteration.
//!
//! A reader lets others run at random points: between the look at the ledger
//! and the read, while a value is lent to it, within an iteration.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use swissdb::Table;

use super::ledger::{Found, Witness};
use super::run::Run;
use crate::support::Random;

/// Steps of an iteration after which the ledger is looked at again.
const LOOK_AGAIN: usize = 50;

/// Keys that are looked up at once, at most.
const MANY: u64 = 40;

/// A table and what a reader knows of it.
pub struct Reading<'a> {
    pub table: &'a Table,
    pub witness: Witness<'a>,
}

/// Lets others run, now and then.
fn pause(random: &mut Random, one_in: u64) {
    if random.one_in(one_in) {
        thread::yield_now();
    }
}

/// Reads single entries until told to stop.
pub fn look_up(tables: &mut [Reading<'_>], mut random: Random, run: &Run, reads: &AtomicU64) {
    while run.goes_on() {
        let at = random.below(tables.len() as u64) as usize;
        let Reading { table, witness } = &mut tables[at];
        let ledger = witness.ledger;
        let among = if random.one_in(2) { 32 } else { ledger.len() as u64 };
        if random.one_in(20) {
            let some = (0..random.below(MANY)).map(|_| random.below(among) as usize);
            let some = some.collect::<Vec<_>>();
            look_up_many(table, witness, &some);
        }
        let entry = random.below(among) as usize;
        let key = &ledger.keys[entry];
        let committed = ledger.committed(entry);
        pause(&mut random, 8);
        match random.below(10) {
            0..4 => {
                let value = table.get(key).expect("get");
                let found = value.as_deref().map_or(Found::Nothing, Found::Value);
                witness.judge(entry, committed, &found, "get");
            }
            4..8 => {
                let found = table.get_with(key, |bytes| {
                    witness.judge(entry, committed, &Found::Value(bytes), "get_with");
                    // What is lent stays what it is, whatever happens to the entry.
                    if random.one_in(20) {
                        let version = ledger.version_of(entry, bytes);
                        thread::sleep(Duration::from_micros(random.below(3_000)));
                        assert_eq!(ledger.version_of(entry, bytes), version, "what was lent");
                    }
                });
                if found.expect("get_with").is_none() {
                    witness.judge(entry, committed, &Found::Nothing, "get_with");
                }
            }
            8 => {
                let found = match table.contains_key(key).expect("contains_key") {
                    true => Found::Something,
                    false => Found::Nothing,
                };
                witness.judge(entry, committed, &found, "contains_key");
            }
            _ => {
                // No key of the table begins like this.
                let absent = [b"absent ", &key[..]].concat();
                if absent.len() <= swissdb::MAX_KEY_LENGTH {
                    assert!(table.get(absent).expect("get").is_none(), "a key never inserted");
                }
            }
        }
        reads.fetch_add(1, Relaxed);
    }
}

/// Reads some entries at once, in both ways; one may be among them twice.
fn look_up_many(table: &Table, witness: &mut Witness<'_>, entries: &[usize]) {
    let ledger = witness.ledger;
    let keys: Vec<_> = entries.iter().map(|entry| &ledger.keys[*entry]).collect();
    let committed = || entries.iter().map(|entry| ledger.committed(*entry)).collect::<Vec<_>>();
    let before = committed();
    let values = table.multi_get(&keys).expect("multi_get");
    assert_eq!(values.len(), entries.len(), "an answer for each key");
    // Two answers for one key are in no order: all are held against what was
    // known before, and the witness learns nothing from them.
    for ((entry, committed), value) in entries.iter().zip(before).zip(&values) {
        let found = value.as_deref().map_or(Found::Nothing, Found::Value);
        witness.weigh(*entry, committed, &found, "multi_get");
    }
    let (before, mut answers) = (committed(), 0);
    let lend = |i: usize, value: swissdb::Result<Option<&[u8]>>| {
        let found = value.expect("a value of multi_get_with").map_or(Found::Nothing, Found::Value);
        witness.weigh(entries[i], before[i], &found, "multi_get_with");
        answers += 1;
    };
    table.multi_get_with(&keys, lend).expect("multi_get_with");
    assert_eq!(answers, entries.len(), "an answer for each key");
}

/// Iterates over the tables until told to stop; one iteration at least.
pub fn iterate(tables: &mut [Reading<'_>], mut random: Random, run: &Run, rounds: &AtomicU64) {
    while run.goes_on() {
        let at = random.below(tables.len() as u64) as usize;
        iterate_once(&mut tables[at], &mut random, run);
        rounds.fetch_add(1, Relaxed);
    }
}

/// Iterates over a table: what comes was there when it came, nothing comes
/// twice, and what is there all the time comes.
fn iterate_once(reading: &mut Reading<'_>, random: &mut Random, run: &Run) {
    let Reading { table, witness } = reading;
    let ledger = witness.ledger;
    let committed = || -> Vec<u64> { (0..ledger.len()).map(|i| ledger.committed(i)).collect() };
    let first = committed();
    let mut last = first.clone();
    let mut seen = vec![false; ledger.len()];
    let mut entries = table.iter();
    for step in 1.. {
        if step % LOOK_AGAIN == 0 {
            last = committed();
        }
        pause(random, 100);
        if random.one_in(2_000) {
            thread::sleep(Duration::from_millis(random.below(10)));
        }
        // Copied or lent, as it comes.
        let entry = if step % 2 == 0 {
            let Some(item) = entries.next() else { break };
            let (key, value) = item.expect("an entry");
            let entry = ledger.entry_of(&key);
            witness.judge(entry, last[entry], &Found::Value(&value), "iteration");
            entry
        } else {
            let Some(item) = entries.next_ref() else { break };
            let (key, value) = item.expect("an entry that is lent");
            let entry = ledger.entry_of(key);
            witness.judge(entry, last[entry], &Found::Value(value), "iteration that lends");
            entry
        };
        assert!(!seen[entry], "entry {entry} came twice in an iteration");
        seen[entry] = true;
        if !run.goes_on() {
            return;
        }
    }
    for (entry, from) in first.into_iter().enumerate().filter(|(entry, _)| !seen[*entry]) {
        let to = ledger.begun(entry);
        let mut versions = from..=to;
        let was_away = versions.any(|version| ledger.length(entry, version).is_none());
        assert!(was_away, "entry {entry} did not come, in versions {from} to {to}");
    }
}
