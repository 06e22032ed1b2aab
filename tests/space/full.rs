//! A full device: writes fail with an error and change nothing, removing
//! works, and then space comes back and writes work again, without reopening.
//!
//! The device is in memory and has a limit. A write to a mapping where the
//! device has no block panics there, as it would be a SIGBUS.

use std::sync::Arc;
use std::time::Duration;

use crate::support::Random;

use super::device::Device;
use super::{AT_REST, AT_WORK, Watched, eventually};

/// Fills the device to its last block. Returns how many entries it took.
fn fill(store: &mut Watched, length: usize) -> u64 {
    let mut i = 0;
    while store.try_put(i, length) {
        i += 1;
        assert!(i < 1 << 20, "the device is never full");
    }
    i
}

/// Why nothing can be written, for the message.
fn why(store: &Watched) -> String {
    let (stats, device) = (store.db.stats(), &store.device);
    let files: Vec<_> = stats.log_files.iter().map(|file| file.live >> 10).collect();
    format!(
        "the device is full: {} bytes of log for {} alive, {} of tables; commit {}, {} checkpoints, \
         {} bytes moved, {:?}; KiB alive in each file: {files:?}",
        device.log(),
        store.alive,
        device.tables(),
        stats.commits,
        stats.checkpoints,
        stats.written.moved_bytes,
        stats.log_space,
    )
}

/// Removes an entry, on a device that may be so full that the store has to
/// gain space first. Returns how often it had to be tried again.
fn remove(store: &mut Watched, i: u64) -> u64 {
    let mut tries = 0;
    eventually(|| {
        tries += 1;
        store.try_remove(i).then_some(()).ok_or_else(|| why(store))
    });
    tries - 1
}

/// Waits until a write works again.
fn write_again(store: &mut Watched, i: u64, length: usize) {
    eventually(|| store.try_put(i, length).then_some(()).ok_or_else(|| why(store)));
}

#[test]
fn a_full_device_can_be_emptied_and_filled_again() {
    let mut store = Watched::new(Device::new(24 << 20), 56);
    let mut first = 0;
    for round in 0..3 {
        let entries = fill(&mut store, 1_024);
        eprintln!("round {round}: {entries} entries, {} refused", store.device.refused());
        // Less and less would fit if anything were lost.
        first = if round == 0 { entries } else { first };
        assert!(entries >= first * 8 / 10, "only {entries} entries fit, first it were {first}");
        for i in 0..20 {
            store.try_put(i, 2_000);
        }
        store.assert_whole();
        let most = (0..entries).filter(|i| i % 10 != 3);
        let again: u64 = most.map(|i| remove(&mut store, i)).sum();
        eprintln!("{again} removals had to be tried again");
        write_again(&mut store, 1 << 30, 1_024);
        store.remove(1 << 30);
        store.assert_whole();
        (0..entries).filter(|i| i % 10 == 3).for_each(|i| _ = remove(&mut store, i));
        eventually(|| store.within(AT_REST));
    }
    store.assert_whole();
    store.reopen().assert_whole();
}

#[test]
fn removing_a_part_is_enough_to_write_again() {
    let mut random = Random::new(921);
    let mut store = Watched::new(Device::new(32 << 20), 56);
    let entries = fill(&mut store, 1_024);
    // A third, anywhere: no log file becomes empty by itself.
    for i in 0..entries {
        if random.one_in(3) {
            remove(&mut store, i);
        }
    }
    for n in 0..2_000 {
        write_again(&mut store, entries + n, 1_024);
    }
    store.assert_whole();
    store.reopen().assert_whole();
}

#[test]
fn clearing_a_full_store_makes_room() {
    let mut store = Watched::new(Device::new(24 << 20), 56);
    let entries = fill(&mut store, 1_024);
    store.db.clear().expect("clear");
    store.entries.clear();
    store.alive = 0;
    for i in 0..entries / 2 {
        write_again(&mut store, i, 1_024);
    }
    store.assert_whole();
}

#[test]
fn a_device_with_room_for_the_bound_is_never_full() {
    let mut random = Random::new(922);
    // Entries of 1 KiB, as much garbage, the constant, and the table twice.
    let entries = 10_000u64;
    let device = Device::new(2 * entries * 1_080 + AT_WORK + (4 << 20));
    let mut store = Watched::new(device, 56);
    (0..entries).for_each(|i| store.put(i, 1_024));
    for _ in 0..60_000 {
        store.put(random.below(entries), 1_024);
    }
    store.report();
    assert_eq!(store.device.refused(), 0, "how often the device was full");
    store.assert_whole();
}

#[test]
fn a_device_that_becomes_larger_is_used_again() {
    let mut store = Watched::new(Device::new(16 << 20), 56);
    let entries = fill(&mut store, 1_024);
    store.device.resize(32 << 20);
    for n in 0..4_000 {
        write_again(&mut store, entries + n, 1_024);
    }
    store.assert_whole();
}

#[test]
fn compacting_on_a_full_device_fails_or_works_and_loses_nothing() {
    let mut random = Random::new(923);
    let mut store = Watched::new(Device::new(24 << 20), 56);
    let entries = fill(&mut store, 1_024);
    for i in 0..entries {
        if random.one_in(4) {
            remove(&mut store, i);
        }
    }
    for round in 0..3 {
        match store.db.compact() {
            Ok(compacted) => assert!(compacted.finished),
            Err(error) => assert!(super::is_full(&error), "{error}"),
        }
        store.assert_whole();
        for n in 0..200 {
            write_again(&mut store, entries + round * 200 + n, 1_024);
        }
    }
    std::thread::sleep(Duration::from_millis(100));
    store.assert_whole();
    store.reopen().assert_whole();
}

#[test]
fn a_store_that_was_killed_on_a_full_device_opens_there() {
    for (payload, length) in [(56, 30), (504, 300), (56, 300)] {
        let mut random = Random::new(924 + length as u64);
        let mut store = Watched::new(Device::new(24 << 20), payload);
        let entries = fill(&mut store, length);
        for _ in 0..5 {
            for _ in 0..1_500 {
                let i = random.below(2 * entries);
                // Whether it was refused or not.
                let _ = match random.one_in(3) {
                    true => store.try_remove(i),
                    false => store.try_put(i, length),
                };
            }
            let left = store.device.copy();
            let opened = super::options().open_on(Arc::new(left.clone()));
            let db = opened.unwrap_or_else(|error| panic!("{error}; {}", why(&store)));
            store.assert_held_by(&db);
        }
    }
}
