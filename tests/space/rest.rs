//! A store at rest writes nothing: the cleaner never goes in circles.
//!
//! Small values that spill are the danger: what their entries take in the log
//! is much more than what of it is alive, so a file full of them looks like
//! garbage. Each test makes garbage, waits for the store to come to rest, and
//! fails if it commits or checkpoints on and on; then it makes more garbage and
//! looks at what the cleaner wrote for it.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use swissdb::{Db, Options};

use crate::support::{Random, assert_clean, key, ticks, value};

use super::device::Device;
use super::{AT_REST, AT_WORK, BETWEEN, FILE, Watched, at_most, eventually};

/// Fills a store with entries of one size, overwrites it at random, and sees
/// to it that it comes to rest.
fn small_values(seed: u64, payload: usize, key_length: usize, length: usize) {
    let mut random = Random::new(seed);
    let mut store = Watched::new(Device::endless(), payload);
    store.key_length = key_length;
    let entries = 30_000;
    (0..entries).for_each(|i| store.put(i, length));
    store.assert_rests();
    for n in 0..2 * entries {
        store.put(random.below(entries), length);
        if n % 256 == 0 {
            store.check(AT_WORK);
        }
    }
    store.report();
    store.assert_rests();
    store.within(AT_REST).expect("the bound at rest");
    store.assert_whole();
    // A write wakes the cleaner, which finds nothing to do.
    let before = store.db.stats().commits;
    store.put(0, length);
    store.assert_rests();
    let commits = store.db.stats().commits - before;
    assert!(commits <= 20, "{commits} commits after a single write");
    // Nor does opening.
    let store = store.reopen();
    let before = store.db.stats().commits;
    store.assert_rests();
    assert!(store.db.stats().commits - before <= 20, "commits without a write");
    store.within(AT_REST).expect("the bound after opening again");
}

#[test]
fn small_values_that_spill_do_not_send_the_cleaner_in_circles() {
    // Values a little longer than a slot; keys that spill beside values that do
    // not (of a record of 120 bytes, 46 are alive); both together; and one byte
    // too many. Most of the time is spent waiting for the store to do nothing.
    let cases = [(911, 56, 16, 60), (912, 56, 46, 32), (913, 24, 30, 30), (914, 24, 16, 9)];
    std::thread::scope(|scope| {
        for (seed, payload, key, value) in cases {
            scope.spawn(move || small_values(seed, payload, key, value));
        }
    });
}

#[test]
fn values_that_leave_half_of_a_file_unused_do_not_send_the_cleaner_in_circles() {
    let mut store = Watched::new(Device::endless(), 56);
    for round in 0..3 {
        (0..24).for_each(|i| store.put(i, 530_000 + round));
    }
    store.assert_rests();
    store.report();
    store.within(AT_REST).expect("the bound at rest");
    store.assert_whole();
}

#[test]
fn an_idle_store_lets_go_of_the_log_since_its_last_checkpoint() {
    let mut store = Watched::new(Device::endless(), 56);
    // Less than leads to a checkpoint by itself.
    for n in 0..(BETWEEN - FILE / 2) / 1_100 {
        store.put(n % 100, 1_024);
    }
    // The active file, the prepared one, one to be recycled, and two that are
    // kept.
    eventually(|| match store.db.stats().checkpoints {
        0 => Err("no checkpoint".to_owned()),
        _ => store.within(5 * FILE),
    });
    store.assert_rests();
    // Two if this thread was held up for seconds while it wrote.
    let checkpoints = store.db.stats().checkpoints;
    assert!(checkpoints <= 2, "{checkpoints} checkpoints of a store at rest");
    store.assert_whole();
}

#[test]
fn a_store_whose_values_are_in_the_log_is_checkpointed_the_less_often_the_larger_it_is() {
    for length in [1_024, 60_000] {
        let mut store = Watched::new(Device::endless(), 56);
        while store.alive < 48 * FILE {
            store.put(store.serial, length);
        }
        // After 4 MiB, and then each 16, which is the most. It would be twelve
        // if what is in the log did not count, and six if a checkpoint did not
        // meet what commits ask for until it begins. (More than three where this
        // thread was held up for seconds.)
        let checkpoints = store.db.stats().checkpoints;
        assert!(checkpoints <= 5, "{checkpoints} checkpoints, values of {length} bytes");
    }
}

#[test]
fn a_store_that_is_never_written_to_never_writes() {
    let store = Watched::new(Device::endless(), 56);
    let before = store.db.stats();
    std::thread::sleep(Duration::from_millis(1_500));
    let after = store.db.stats();
    assert_eq!((before.commits, before.checkpoints), (after.commits, after.checkpoints));
}

#[test]
fn a_reader_keeps_its_file_and_no_longer_than_it_reads() {
    let mut random = Random::new(915);
    let mut store = Watched::new(Device::endless(), 56);
    (0..4_000).for_each(|i| store.put(i, 1_024));
    let lent = value(store.entries[&7].0, 1_024);
    let (go, wait) = mpsc::channel::<()>();
    let (began, begun) = mpsc::channel();
    let (reader, key) = (store.db.clone(), store.key(7));
    let thread = std::thread::spawn(move || {
        let same = reader.get_with(key, |bytes| {
            began.send(()).expect("tell");
            wait.recv().expect("wait");
            bytes == lent
        });
        assert_eq!(same.expect("get_with"), Some(true), "what was lent changed");
    });
    begun.recv().expect("the reader has begun");
    for _ in 0..30_000 {
        store.put(random.below(4_000), 1_024);
    }
    eprintln!("while it is held: {} MiB of log", store.device.log() >> 20);
    go.send(()).expect("let the reader go on");
    thread.join().expect("the reader");
    eventually(|| store.within(AT_REST));
    store.assert_whole();
}

/// Log files as large as 8 MiB: there is something to make small.
const LARGE: u64 = 8 << 20;

/// What a store of pairs of 16 and 32 bytes takes when it has been left alone,
/// at most: of the table what is in use and a ninth more, some blocks that
/// are kept; of the log one active file, and two for a full device, of 1 MiB, and
/// what is not worth making smaller: less than 6 MiB.
fn small_at_rest(db: &Db, device: &Device) -> Result<(), String> {
    let stats = db.stats();
    let table = &stats.tables[0];
    let used = table.blocks_used * 4096;
    at_most("log", device.log(), 9 << 20)?;
    at_most("table", device.tables(), used + used / 9 + 192 * 4096)?;
    // What is in use is all there is, and utilisation does not fall with it.
    let user = table.entries * 48;
    at_most("blocks in use", used, user * 9 / 5 + 32 * 4096)
}

/// The lives of stores of several sizes: filled, left alone, overwritten, left
/// alone.
#[test]
fn a_store_of_any_size_that_is_left_alone_comes_to_rest_small() {
    let life = |entries: u64| {
        let device = Device::endless();
        let options = Options::new().payload(48).max_log_file(LARGE);
        let db = options.open_on(Arc::new(device.clone())).expect("create a store");
        let put = |i: u64, round: u64| db.insert(key(i), value(i + round, 32)).expect("insert");
        for round in 0..2 {
            (0..entries).for_each(|i| put(i, round));
            eventually(|| small_at_rest(&db, &device));
        }
        // It stays as it is: it would come to rest again after five seconds.
        let state = || (db.stats().checkpoints, device.used());
        let mut last = (state(), ticks::now());
        eventually(|| {
            if state() != last.0 {
                last = (state(), ticks::now());
            }
            let quiet = ticks::since(last.1) > Duration::from_millis(6_500);
            quiet.then_some(()).ok_or(format!("checkpoints and bytes: {:?}", last.0))
        });
        assert_clean(&db);
        assert_eq!(db.len(), entries);
    };
    std::thread::scope(|scope| {
        for entries in [60_000, 73_000, 89_000, 108_000] {
            scope.spawn(move || life(entries));
        }
    });
}
