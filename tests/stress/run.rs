//! How long a run goes on, what its threads have done, and what it reached.
//!
//! A run that met no split, no recycled log file or no evicted frame proves
//! nothing about them. So it goes on until it has seen everything on the list
//! ([`Reached::missing`]), and everybody was busy meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use swissdb::{Db, Stats};

/// Whether a run goes on: until it is told to end, or a thread of it fails.
#[derive(Default)]
pub struct Run {
    over: AtomicBool,
}

impl Run {
    /// Whether to go on.
    pub fn goes_on(&self) -> bool {
        !self.over.load(Relaxed)
    }

    /// Ends it.
    pub fn end(&self) {
        self.over.store(true, Relaxed);
    }

    /// Runs a part of it, whose panic ends it for all.
    pub fn take_part(&self, part: impl FnOnce(&Run)) {
        struct EndOnPanic<'a>(&'a Run);
        impl Drop for EndOnPanic<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.end();
                }
            }
        }
        part(EndOnPanic(self).0);
    }
}

/// What the threads of a run have done.
#[derive(Default)]
pub struct Counts {
    pub changes: AtomicU64,
    pub sweeps: AtomicU64,
    pub clears: AtomicU64,
    pub compactions: AtomicU64,
    pub splits: AtomicU64,
    pub growths: AtomicU64,
    pub rebuilds: AtomicU64,
    pub iterations: AtomicU64,
}

/// What a run reached: the largest numbers that were seen.
#[derive(Default)]
pub struct Reached {
    numbers: BTreeMap<&'static str, u64>,
    /// Segments of each table when they were looked at last.
    segments: BTreeMap<String, u64>,
}

/// What a run has to reach, and how much of it. A table begins as one segment,
/// and only splits make more.
const GOALS: [(&str, u64); 15] = [
    ("changes", 50_000),
    ("sweeps", 4),
    ("clears", 2),
    ("compactions", 1),
    ("segments of a table", 300),
    ("splits", 1),
    ("growths of segments", 10),
    ("rebuilds of segments", 3),
    ("fewer segments than before", 2),
    ("bits of a root", 1),
    ("blocks of a table file", 4_096),
    ("checkpoints", 20),
    ("pages without a frame", 1_000),
    ("log files let go", 10),
    ("log files recycled", 3),
];

impl Reached {
    /// Looks at a store and at what its threads say of themselves.
    pub fn look(&mut self, db: &Db, counts: &Counts) {
        let stats = db.stats();
        let done = [
            ("changes", &counts.changes),
            ("sweeps", &counts.sweeps),
            ("clears", &counts.clears),
            ("compactions", &counts.compactions),
            ("splits", &counts.splits),
            ("growths of segments", &counts.growths),
            ("rebuilds of segments", &counts.rebuilds),
            ("iterations", &counts.iterations),
        ];
        done.into_iter().for_each(|(name, count)| self.at_least(name, count.load(Relaxed)));
        self.look_at_tables(&stats);
        self.look_at_log(&stats);
        self.at_least("checkpoints", stats.checkpoints);
        self.at_least("log waits", stats.log_waits);
        self.at_least("writers slowed down or held up", stats.slowed + stats.waits);
        self.at_least("waits for the cleaner", stats.cleaner_waits);
        self.at_least("bytes moved by the cleaner", stats.written.moved_bytes);
    }

    fn look_at_tables(&mut self, stats: &Stats) {
        let mut pages = 0;
        for table in &stats.tables {
            let slots_of_page = 4096 / (64 + 8 * table.payload as u64) * 8;
            pages += table.capacity / slots_of_page;
            self.at_least("bits of a root", table.root_depth.into());
            self.at_least("segments of a table", table.segments);
            self.at_least("tombstones of a table", table.tombstones);
            self.at_least("blocks of a table file", table.file_bytes / 4096);
            let before = self.segments.insert(table.name.clone(), table.segments);
            if before.is_some_and(|before| before > table.segments) {
                *self.numbers.entry("fewer segments than before").or_default() += 1;
            }
        }
        // Each page was in a frame when it came into being.
        self.at_least("pages without a frame", pages.saturating_sub(stats.frames as u64));
    }

    fn look_at_log(&mut self, stats: &Stats) {
        let newest = stats.log_files.last().map_or(0, |file| u64::from(file.number));
        self.at_least("log files let go", newest.saturating_sub(stats.log_files.len() as u64));
        self.at_least("log files recycled", stats.written.recycled_log_files);
    }

    fn at_least(&mut self, name: &'static str, number: u64) {
        let most = self.numbers.entry(name).or_default();
        *most = number.max(*most);
    }

    /// What the run has not reached yet.
    pub fn missing(&self) -> Vec<&'static str> {
        let reached = |name: &str| self.numbers.get(name).copied().unwrap_or(0);
        GOALS.iter().filter(|(name, goal)| reached(name) < *goal).map(|(name, _)| *name).collect()
    }
}

impl std::fmt::Display for Reached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.numbers.iter().try_for_each(|(name, number)| write!(f, "{number} {name}, "))
    }
}
