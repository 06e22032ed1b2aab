//! What the file system says: blocks × 512 of all files of a store, from
//! filling it to compacting and refilling it.
//!
//! Goal: the space per byte of the user's stays within stated factors in each
//! phase of a store's life. Method: real files; after each phase the store is
//! left alone until its size no longer changes, and then it is measured, open
//! as it is. `swissdb-bench space` prints the same for a million entries.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use swissdb::Options;

use crate::support::{TestStore, key, table_stats, value};

use super::{AT_REST, BETWEEN, FILE, footprint};

/// What a table takes beside: 64 blocks that are kept for removals, the headers,
/// root and free map twice; and pages are moved down only if they lie behind
/// twice what is used and 256 blocks.
const SMALL_TABLE: u64 = (80 + 2 * 256) * 4096;

/// What the files in a directory take on the disk.
fn on_disk(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).expect("a directory").flatten();
    // A log file may be removed just now.
    let metadata = files.filter_map(|file| file.metadata().ok());
    metadata.filter(|of| of.is_file()).map(|of| of.blocks() * 512).sum()
}

/// The bytes that table and log take on the disk.
fn sizes(directory: &Path) -> (u64, u64) {
    let table = fs::metadata(directory.join("default.swiss")).expect("the table file");
    (table.blocks() * 512, on_disk(&directory.join("log")))
}

/// The sizes of a store that has come to rest.
fn settled(directory: &Path) -> (u64, u64) {
    let start = Instant::now();
    let mut last = (sizes(directory), Instant::now());
    while last.1.elapsed() < Duration::from_millis(1_500) {
        assert!(start.elapsed() < Duration::from_secs(90), "the size does not come to rest");
        std::thread::sleep(Duration::from_millis(50));
        let now = sizes(directory);
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
    last.0
}

/// A store of entries of one size, and what it may take in each phase.
struct Case {
    name: &'static str,
    payload: usize,
    entries: u64,
    length: usize,
    /// Bytes of the table on disk for a byte of key or value.
    factors: Factors,
}

struct Factors {
    filled: f64,
    overwritten: f64,
    thinned: f64,
    compacted: f64,
    refilled: f64,
}

/// A life of a store that is measured, and what was too large in it.
struct Life<'a> {
    case: &'a Case,
    store: TestStore,
    complaints: Vec<String>,
}

impl Life<'_> {
    fn insert(&self, numbers: impl Iterator<Item = u64>, round: u64) {
        for i in numbers {
            self.store.insert(key(i), value(i + round, self.case.length)).expect("insert");
        }
    }

    /// Measures, prints, and compares with the bounds: of the table by its
    /// factor, of the log what is given for each byte that is alive, and a
    /// constant.
    ///
    /// What is too large is looked at again for a minute. A checkpoint is due
    /// after as many bytes of log as the table files take on the device, free
    /// blocks that are given back afterwards included: up to twice what is counted
    /// as `between` below. What was logged up to that is let go only with the
    /// checkpoint that a store gets when nothing was committed for five seconds,
    /// while its size does not change; and a checkpoint that runs on a busy machine
    /// may take longer than that.
    fn measure(&mut self, phase: &str, factor: f64, of_log: (f64, u64)) {
        let start = Instant::now();
        loop {
            let complaints = self.compare(phase, factor, of_log);
            if complaints.is_empty() || start.elapsed() > Duration::from_secs(60) {
                return self.complaints.extend(complaints);
            }
        }
    }

    fn compare(&self, phase: &str, factor: f64, of_log: (f64, u64)) -> Vec<String> {
        let (case, store) = (self.case, &self.store);
        let entries = store.len();
        let user = entries * (16 + case.length as u64);
        let ((table, log), stats) = (settled(store.path()), table_stats(store));
        eprintln!(
            "{:<10}{phase:<12}{entries:>7} entries, {user:>9} bytes: table {table:>9}, \
             log {log:>9}, {:.3} per byte; utilisation {:.3}",
            case.name,
            (table + log) as f64 / user as f64,
            stats.utilisation(),
        );
        let alive = entries * footprint(case.payload, 16, case.length);
        // The log between two checkpoints is as large as the table.
        let slots = stats.capacity * (case.payload as u64 + 8);
        let between = slots.saturating_sub(BETWEEN);
        let (share, constant) = of_log;
        let bounds = [
            ("table", table, (user as f64 * factor) as u64 + SMALL_TABLE),
            ("log", log, (alive as f64 * share) as u64 + constant + between),
        ];
        let too_large = bounds.iter().filter(|(_, found, bound)| found > bound);
        let name = format!("{} {phase}", case.name);
        too_large
            .map(|(what, found, bound)| {
                format!("{name}: {what} of {found} bytes on disk, more than {bound}")
            })
            .collect()
    }
}

impl Case {
    /// Takes a store through all phases; returns what was too large.
    fn run(&self) -> Vec<String> {
        let options = Options::new().payload(self.payload).max_log_file(FILE);
        let store = TestStore::on_disk(options);
        let mut life = Life { case: self, store, complaints: Vec::new() };
        life.insert(0..self.entries, 0);
        let garbage = (2.0, AT_REST);
        life.measure("filled", self.factors.filled, garbage);
        for round in 1..=3 {
            life.insert(0..self.entries, round);
        }
        life.measure("overwritten", self.factors.overwritten, garbage);
        for i in (0..self.entries).filter(|i| i % 4 != 0) {
            assert!(life.store.remove(key(i)).expect("remove"));
        }
        life.measure("thinned", self.factors.thinned, garbage);
        assert!(life.store.compact().expect("compact").finished);
        // An active file, and one that may be prepared.
        life.measure("compacted", self.factors.compacted, (1.06, 2 * FILE));
        life.store.reopen();
        life.measure("reopened", self.factors.compacted, (1.06, FILE));
        life.insert((0..self.entries).filter(|i| i % 4 != 0), 9);
        life.measure("refilled", self.factors.refilled, garbage);
        life.complaints
    }
}

/// Pairs of 16 and 32 bytes in slots of 64. At two thirds to four fifths full
/// that is 2.0 to 1.67 bytes for each of the user's, and a checkpoint may find
/// every page changed and write it to another block. What became free stays
/// while it is less than what is used, and some hundred blocks.
const WIDE: Case = Case {
    name: "48 in 56",
    payload: 56,
    entries: 60_000,
    length: 32,
    factors: Factors {
        filled: 4.4,
        overwritten: 4.4,
        thinned: 9.0,
        compacted: 1.75,
        refilled: 4.4,
    },
};

/// The same in slots of 57 bytes.
const NARROW: Case = Case {
    name: "48 in 48",
    payload: 48,
    factors: Factors {
        filled: 4.0,
        overwritten: 4.0,
        thinned: 9.0,
        compacted: 1.55,
        refilled: 4.0,
    },
    ..WIDE
};

/// Values in the log: the table holds keys and addresses, 64 bytes for 1,040.
const SPILLED: Case = Case {
    name: "1 KiB",
    payload: 56,
    entries: 16_000,
    length: 1_024,
    factors: Factors {
        filled: 0.25,
        overwritten: 0.25,
        thinned: 0.5,
        compacted: 0.12,
        refilled: 0.25,
    },
};

#[test]
fn the_space_for_each_byte_is_bounded_in_every_phase() {
    // Most of the time is spent waiting until nothing changes any more.
    let complaints: Vec<String> = std::thread::scope(|scope| {
        let lives = [WIDE, NARROW, SPILLED].map(|case| scope.spawn(move || case.run()));
        lives.into_iter().flat_map(|life| life.join().expect("a life")).collect()
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
