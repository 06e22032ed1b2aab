//! Garbage in the log stays below what is alive plus a constant, whatever is
//! written, while it is written, and comes back when everything is removed.
//!
//! Each test writes several times what it keeps, so that without cleaning the
//! log would leave its bound by far; the bound is looked at every few writes.
//! The constant is derived where it is declared (`AT_WORK`).

use std::time::Duration;

use crate::support::{Random, key, table_stats, value};

use super::device::Device;
use super::{AT_REST, AT_WORK, BETWEEN, FILE, Watched, at_most, eventually, mostly_hot};

/// The longest that a write waits for the cleaner.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// The longest that a write may take here, of the time that the machine gives,
/// on two processors that all tests share: a checkpoint and a new log file may
/// be waited for as well.
const SLOW: Duration = Duration::from_millis(1_500);

/// Checks what should hold after everything was written.
fn finish(store: Watched) {
    store.report();
    assert!(store.slowest < SLOW, "a write took {:?}", store.slowest);
    let stats = store.db.stats();
    let longest = LONGEST_WAIT * 5 / 4 * stats.cleaner_waits as u32 + store.lost();
    assert!(stats.cleaner_wait_time <= longest, "the cleaner was waited for too long");
    eventually(|| store.within(AT_REST));
    store.assert_whole();
    let store = store.reopen();
    store.assert_whole();
    store.within(AT_REST).expect("the bound after opening again");
}

#[test]
fn overwriting_for_ever_does_not_let_the_log_grow() {
    let mut random = Random::new(901);
    let mut store = Watched::new(Device::endless(), 56);
    (0..16_000).for_each(|i| store.put(i, 1_024));
    for n in 0..80_000 {
        store.put(random.below(16_000), 1_024);
        if n % 64 == 0 {
            store.check(AT_WORK);
        }
    }
    finish(store);
}

#[test]
fn hot_and_cold_keys_do_not_let_the_log_grow() {
    let mut random = Random::new(902);
    let mut store = Watched::new(Device::endless(), 56);
    (0..16_000).for_each(|i| store.put(i, 1_024));
    for n in 0..80_000 {
        store.put(mostly_hot(&mut random, 16_000), 1_024);
        if n % 64 == 0 {
            store.check(AT_WORK);
        }
    }
    finish(store);
}

#[test]
fn overwriting_from_front_to_back_does_not_let_the_log_grow() {
    let mut store = Watched::new(Device::endless(), 56);
    for n in 0..60_000 {
        store.put(n % 8_000, 1_024);
        if n % 64 == 0 {
            store.check(AT_WORK);
        }
    }
    finish(store);
}

#[test]
fn one_long_lived_value_in_each_file_does_not_keep_the_files() {
    let mut store = Watched::new(Device::endless(), 56);
    for n in 0..70_000 {
        match n % 900 {
            0 => store.put(1_000_000 + n, 1_024),
            other => store.put(other % 50, 1_024),
        }
        if n % 64 == 0 {
            store.check(AT_WORK);
        }
    }
    finish(store);
}

#[test]
fn huge_and_tiny_values_together_do_not_let_the_log_grow() {
    let mut random = Random::new(903);
    let mut store = Watched::new(Device::endless(), 56);
    // A huge value has a file of its own, of which there may be an active, a
    // prepared and a recycled one, and a few written since the checkpoint.
    let constant = AT_WORK + 6 * (2 * FILE + FILE / 2);
    for n in 0..20_000 {
        match random.below(400) {
            0 => store.put(1_000_000 + random.below(5), 2 << 20),
            1..200 => store.put(random.below(4_000), 20),
            _ => store.put(random.below(4_000), 200),
        }
        if n % 16 == 0 {
            store.check(constant);
        }
    }
    finish(store);
}

#[test]
fn batches_and_single_writes_share_the_bound() {
    let mut random = Random::new(904);
    let mut store = Watched::new(Device::endless(), 104);
    (0..4_000).for_each(|i| store.put(i, 1_024));
    for round in 0..400 {
        let mut batch = swissdb::Batch::new();
        let mut changes = Vec::new();
        for _ in 0..100 {
            let i = random.below(4_000);
            store.serial += 1;
            batch.insert(store.key(i), crate::support::value(store.serial, 1_024)).expect("add");
            changes.push((i, store.serial));
        }
        store.db.write(&batch).expect("write");
        for (i, serial) in changes {
            store.forget(i);
            store.alive += super::footprint(104, 16, 1_024);
            store.entries.insert(i, (serial, 1_024));
        }
        store.put(5_000 + round, 300);
        store.check(AT_WORK);
    }
    finish(store);
}

#[test]
fn long_values_that_are_overwritten_and_removed_give_their_space_back() {
    let mut random = Random::new(905);
    let mut store = Watched::new(Device::endless(), 56);
    // As long as those that are written by calls; a tenth of a file, or more.
    let length = |random: &mut Random| 100_000 + random.below(50_000) as usize;
    for n in 0..1_200 {
        let i = if n < 200 { n } else { mostly_hot(&mut random, 200) };
        let length = length(&mut random);
        store.put(i, length);
        store.check(AT_WORK);
    }
    eventually(|| store.within(AT_REST));
    (0..200).filter(|i| i % 4 != 0).for_each(|i| store.remove(i));
    eventually(|| store.within(AT_REST));
    store.assert_whole();
    (0..200).filter(|i| i % 4 == 0).for_each(|i| store.remove(i));
    assert_eq!((store.alive, store.db.len()), (0, 0));
    finish(store);
}

#[test]
fn deleting_everything_gives_everything_back() {
    let mut store = Watched::new(Device::endless(), 56);
    let empty = store.device.tables();
    (0..30_000).for_each(|i| store.put(i, 1_024));
    let before = store.device.log();
    for i in 0..30_000 {
        // Removing never waits for the cleaner, so it may be far ahead of it.
        store.remove(i);
        at_most("log", store.device.log(), before + BETWEEN).expect("a log that does not grow");
    }
    assert_eq!((store.alive, store.db.len()), (0, 0));
    eventually(|| {
        let slots = table_stats(&store.db).capacity;
        if slots > 2_048 {
            return Err(format!("{slots} slots without an entry"));
        }
        at_most("log without an entry", store.device.log(), AT_REST)?;
        at_most("table without an entry", store.device.tables(), empty + BETWEEN)
    });
    store.assert_whole();
    let device = store.device.clone();
    drop(store.reopen());
    // One small file, in which the next opening goes on. Pages are moved down
    // if they lie behind twice what is used and 256 blocks.
    at_most("closed log without an entry", device.log(), FILE).expect("a small log");
    let table = 2 * (empty + (1 << 20));
    at_most("closed table without an entry", device.tables(), table).expect("a small table");
}

#[test]
fn clearing_gives_everything_back() {
    let mut store = Watched::new(Device::endless(), 56);
    (0..20_000).for_each(|i| store.put(i, 1_024));
    store.db.clear().expect("clear");
    store.entries.clear();
    store.alive = 0;
    eventually(|| {
        at_most("log without an entry", store.device.log(), AT_REST)?;
        at_most("table without an entry", store.device.tables(), BETWEEN)
    });
    finish(store);
}

#[test]
fn clearing_a_table_that_nobody_writes_to_gives_its_blocks_back() {
    let mut store = Watched::new(Device::endless(), 56);
    let empty = store.device.tables();
    (0..60_000).for_each(|i| store.put(i, 32));
    store.assert_sleeps();
    let full = store.device.tables();
    assert!(full > empty + BETWEEN, "{full} bytes: the clear alone leads to no checkpoint");
    store.db.clear().expect("clear");
    store.entries.clear();
    eventually(|| at_most("table without an entry", store.device.tables(), empty + FILE));
    store.assert_rests();
    store.assert_whole();
}

#[test]
fn dropping_a_table_that_nobody_writes_to_gives_its_values_back() {
    let store = Watched::new(Device::endless(), 56);
    let other = store.db.table("other").expect("a table");
    (0..24_000).for_each(|i| other.insert(key(i), value(i, 1_024)).expect("insert"));
    store.assert_sleeps();
    let full = store.device.log();
    assert!(full > 2 * AT_REST, "{full} bytes of log");
    assert!(store.db.drop_table("other").expect("drop"));
    eventually(|| store.within(AT_REST));
    store.assert_whole();
}
