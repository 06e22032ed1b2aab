//! Readers without locks, held against what they may see.
//!
//! Goal: whatever writers, checkpoints, the cleaner and compaction do at the
//! same time, a reader finds a value that the key held while it read, whole; it
//! never goes back in time; and an iteration yields what is there all the time
//! exactly once. Method: the entries of three tables have versions, and all
//! that a reader may see follows from the versions that were committed before
//! it began and begun before it ended (`stress/ledger.rs`). Four writers, one
//! of them the only one of a table that it clears now and then, change single
//! entries, batches and whole tables on real files, with log files and a write
//! buffer so small that everything rolls over (`stress/writer.rs`); six readers
//! look on (`stress/reader.rs`). A run ends when it has seen segments split,
//! grow, be built anew and merge, a root and a file grow, frames be evicted,
//! tables cleared and log files recycled (`stress/run.rs`), and ten seconds have
//! passed. Then each table is compared with its ledger, and so it is once more
//! after opening the store again.
//!
//! `SWISSDB_LONG=1` is the long form: runs of two minutes each with other seeds,
//! for `SWISSDB_STRESS_MINUTES` (30 without it). It wants `--release`, or not:
//! the one is faster, the other checks every invariant after every change.

#[path = "stress/ledger.rs"]
mod ledger;
#[path = "stress/reader.rs"]
mod reader;
#[path = "stress/run.rs"]
mod run;
#[path = "stress/writer.rs"]
mod writer;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use swissdb::{Db, HashKind, Options, Table, TableOptions};

use crate::power::{long, watchdog::Watchdog};
use crate::support::{Random, TestStore, key, seed_of_the_run, show, ticks};

use ledger::{Ledger, Lengths, Witness, keys_of_all_kinds};
use reader::{Reading, iterate, look_up};
use run::{Counts, Reached, Run};
use writer::{Writer, compact, take_checkpoints};

/// Threads that read single entries.
const READERS: usize = 4;

/// Threads that iterate.
const ITERATORS: usize = 2;

/// How long a run takes at least: the short form, and each of the long one.
const SHORT: Duration = Duration::from_secs(10);
const EACH: Duration = Duration::from_secs(120);

/// How long a run may take beyond that to reach what it has to reach.
const PATIENCE: Duration = Duration::from_secs(300);

/// Entries of the table whose slots are the largest: more segments than a page
/// of its directory holds.
const WIDE: u64 = 40_000;

/// The tables of a run: their names, settings and entries.
struct Tables {
    tables: [Table; 3],
    ledgers: [Ledger; 3],
}

impl Tables {
    fn create(db: &Db) -> Tables {
        let fast = TableOptions::new().payload(104).hash(HashKind::Fast);
        let wide = TableOptions::new().payload(504);
        Tables {
            tables: [
                db.table("default").expect("the default table"),
                db.create_table("cleared", &fast).expect("create a table"),
                db.create_table("wide", &wide).expect("create a table"),
            ],
            ledgers: [
                Ledger::new(keys_of_all_kinds(3_000), Lengths::Mixed),
                Ledger::new(keys_of_all_kinds(2_000), Lengths::Mixed),
                Ledger::new((0..WIDE).map(key).collect(), Lengths::Inline),
            ],
        }
    }

    /// The tables of the store after it was opened again.
    fn take_from(&mut self, db: &Db) {
        let names = ["default", "cleared", "wide"];
        self.tables = names.map(|name| db.table(name).expect("a table that was there"));
    }

    fn each(&self) -> impl Iterator<Item = (&Table, &Ledger)> {
        self.tables.iter().zip(&self.ledgers)
    }

    fn readings(&self) -> Vec<Reading<'_>> {
        self.each().map(|(table, l)| Reading { table, witness: Witness::new(l) }).collect()
    }

    /// Fails unless each table holds what was committed, and nothing else.
    fn assert_hold(&self) {
        let mut expected = Vec::new();
        for (table, ledger) in self.each() {
            let mut entries = 0;
            for (entry, key) in ledger.keys.iter().enumerate() {
                let value = table.get(key).expect("get");
                let version = ledger.committed(entry);
                let there = ledger.value(entry, version, &mut expected);
                let same = value.as_deref() == there.then_some(&expected[..]);
                assert!(same, "{} of {} in version {version}", show(key), table.name());
                entries += u64::from(there);
            }
            assert_eq!(table.len(), entries, "entries of {}", table.name());
            let iterated = table.iter().map(|entry| entry.expect("an entry"));
            assert_eq!(iterated.count() as u64, entries, "{} iterated", table.name());
        }
    }
}

/// A run: who takes part, and what they have done.
struct Stress<'a> {
    db: &'a Db,
    tables: &'a Tables,
    seed: u64,
    run: Run,
    counts: Counts,
    /// Of each thread that reads single entries.
    reads: [AtomicU64; READERS],
    reached: Mutex<Reached>,
}

impl Stress<'_> {
    fn random(&self, of: usize) -> Random {
        Random::unprinted(self.seed.wrapping_mul(1_000_003).wrapping_add(of as u64))
    }

    /// The writers: of which table, from which entry on, one of how many, and
    /// how seldom they sweep.
    fn writers(&self) -> impl Iterator<Item = Writer<'_>> {
        let plan = [(0, 0, 2, 4_000), (0, 1, 2, 4_000), (1, 0, 1, 2_000), (2, 0, 1, 200)];
        plan.into_iter().enumerate().map(|(i, (at, first, of, sweeps))| Writer {
            db: self.db,
            table: &self.tables.tables[at],
            ledger: &self.tables.ledgers[at],
            first,
            of,
            sweeps,
            random: self.random(100 + i),
            counts: &self.counts,
        })
    }

    /// Lets everybody take part, for `least` and until all is reached.
    fn go(&self, least: Duration, watchdog: &Watchdog) {
        let (run, counts) = (&self.run, &self.counts);
        thread::scope(|scope| {
            for mut writer in self.writers() {
                scope.spawn(move || run.take_part(|run| writer.write(run)));
            }
            scope.spawn(|| run.take_part(|run| take_checkpoints(self.db, self.random(200), run)));
            scope.spawn(|| run.take_part(|run| compact(self.db, self.random(201), run, counts)));
            for (i, reads) in self.reads.iter().enumerate() {
                let (mut readings, random) = (self.tables.readings(), self.random(300 + i));
                scope.spawn(move || {
                    run.take_part(|run| look_up(&mut readings, random, run, reads));
                });
            }
            for i in 0..ITERATORS {
                let (mut readings, random) = (self.tables.readings(), self.random(400 + i));
                scope.spawn(move || {
                    run.take_part(|run| iterate(&mut readings, random, run, &counts.iterations));
                });
            }
            run.take_part(|_| self.look_on(least, watchdog));
            run.end();
        });
    }

    /// Returns when it is enough, or when somebody failed.
    fn look_on(&self, least: Duration, watchdog: &Watchdog) {
        let start = ticks::now();
        let mut before = [0; READERS + 2];
        while self.run.goes_on() {
            thread::sleep(Duration::from_millis(10));
            let mut reached = self.reached.lock().expect("the numbers");
            reached.look(self.db, &self.counts);
            let missing = reached.missing();
            let reads = || self.reads.iter().map(|reads| reads.load(Relaxed));
            if ticks::since(start) > least && missing.is_empty() && reads().min() > Some(1_000) {
                return;
            }
            let waited = ticks::since(start) > least + PATIENCE;
            assert!(!waited, "not reached: {missing:?}; seed {}; {reached}", self.seed);
            // All have to go on, not only some.
            let others = [self.counts.changes.load(Relaxed), self.db.stats().checkpoints];
            let now: Vec<u64> = reads().chain(others).collect();
            if now.iter().zip(&before).all(|(now, before)| now > before) {
                before.copy_from_slice(&now);
                watchdog.beat(&format!("seed {}", self.seed));
            }
        }
    }
}

/// One run, and what the store holds after it.
fn stress(seed: u64, least: Duration, watchdog: &Watchdog) {
    let options = Options::new().write_buffer(4 << 20).max_log_file(1 << 20);
    let mut store = TestStore::on_disk(options);
    let mut tables = Tables::create(&store);
    let stress = Stress {
        db: &store,
        tables: &tables,
        seed,
        run: Run::default(),
        counts: Counts::default(),
        reads: Default::default(),
        reached: Mutex::default(),
    };
    eprintln!("the seed of this run: {seed}");
    stress.go(least, watchdog);
    let reads: u64 = stress.reads.iter().map(|reads| reads.load(Relaxed)).sum();
    eprintln!("{reads} reads; {}", stress.reached.lock().expect("the numbers"));
    tables.assert_hold();
    store.reopen();
    tables.take_from(&store);
    tables.assert_hold();
}

#[test]
fn every_value_read_is_one_that_the_key_held_meanwhile() {
    let watchdog = Watchdog::new("stress");
    if !long() {
        return stress(seed_of_the_run(), SHORT, &watchdog);
    }
    let minutes = std::env::var("SWISSDB_STRESS_MINUTES");
    let minutes = minutes.map_or(30, |text| text.parse().expect("minutes are a number"));
    let start = Instant::now();
    for seed in seed_of_the_run().. {
        if start.elapsed() >= Duration::from_secs(60 * minutes) {
            break;
        }
        stress(seed, EACH, &watchdog);
    }
}
