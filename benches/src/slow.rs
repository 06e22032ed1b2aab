//! What the slowest operations of a thread waited for: the machine, the
//! scheduler, or the store.
//!
//! # The machine
//!
//! The processors of a virtual machine stand still at times, one or all, and
//! nothing in it can tell: for every program it is as if time had jumped. To see
//! that, on each processor a [watch] sleeps for half a millisecond at a time and
//! looks at the clock. It notes when it was late by a millisecond or more, less
//! the time for which it was ready to run and had no processor, which Linux
//! counts for each thread (`/proc/thread-self/schedstat`). So late was the timer,
//! for which no thread is to blame; only a processor that ran for so long with its
//! interrupts off would look the same.
//!
//! # The scheduler
//!
//! The same count of the thread that is measured. It is read after a slow
//! operation, and after every thousandth so that little is counted with it that
//! belongs to those before it.
//!
//! # The store
//!
//! Its own statistics, asked after each slow operation: waits for a log file, for
//! a checkpoint, and for the cleaner. What remains is neither: waits for a lock,
//! memory that the machine hands out, pages that are read.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Serialize;
use swissdb::Db;

/// So long an operation takes at least to be looked into.
const SLOW: Duration = Duration::from_millis(1);

/// A pause is this long at least.
const PAUSE: Duration = Duration::from_millis(1);

/// How long the watch sleeps at a time.
const SLEEP: Duration = Duration::from_micros(500);

/// After so many operations the count of the scheduler is read anew.
const EVERY: u64 = 1_000;

/// How long the calling thread was ready to run and did not, so far.
struct Delays(Option<File>);

impl Delays {
    fn of_this_thread() -> Delays {
        Delays(File::open("/proc/thread-self/schedstat").ok())
    }

    /// Zero where the system does not count it.
    fn so_far(&self) -> Duration {
        let mut text = [0; 64];
        let read = self.0.as_ref().and_then(|file| file.read_at(&mut text, 0).ok());
        let text = std::str::from_utf8(&text[..read.unwrap_or(0)]).unwrap_or("");
        let nanos = text.split(' ').nth(1).and_then(|nanos| nanos.parse().ok());
        Duration::from_nanos(nanos.unwrap_or(0))
    }
}

/// A time for which a processor stood still.
#[derive(Clone, Copy)]
pub struct Pause {
    processor: usize,
    until: Instant,
    length: Duration,
}

impl Pause {
    /// How much of it lies within these times.
    fn within(&self, since: Instant, until: Instant) -> Duration {
        let since = since.max(self.until - self.length);
        until.min(self.until).saturating_duration_since(since)
    }
}

/// Looks at the clock, on each processor, until it is over; returns when
/// processors stood still.
pub fn watch(over: &AtomicBool) -> Vec<Pause> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let watches: Vec<_> = (0..processors)
            .map(|processor| scope.spawn(move || watch_one(processor, over)))
            .collect();
        watches.into_iter().flat_map(|watch| watch.join().unwrap_or_default()).collect()
    })
}

/// The same on one processor.
fn watch_one(processor: usize, over: &AtomicBool) -> Vec<Pause> {
    let mut only = CpuSet::new();
    only.set(processor);
    // If it may not, it looks at the clock from another one.
    let _ = sched_setaffinity(None, &only);
    let (delays, mut pauses) = (Delays::of_this_thread(), Vec::new());
    let (mut before, mut delayed) = (Instant::now(), delays.so_far());
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(SLEEP);
        let (now, delayed_now) = (Instant::now(), delays.so_far());
        let late = (now - before).saturating_sub(SLEEP + (delayed_now - delayed));
        if late >= PAUSE {
            pauses.push(Pause { processor, until: now, length: late });
        }
        (before, delayed) = (now, delayed_now);
    }
    pauses
}

/// A slow operation, and what it waited for, in milliseconds.
#[derive(Clone, Serialize)]
pub struct Slow {
    /// When it ended, in seconds since the beginning.
    pub at_seconds: f64,
    /// How long it took.
    pub took: f64,
    /// Of that a processor stood still, as far as the watch saw.
    pub machine: f64,
    /// The thread was ready to run and had no processor.
    pub scheduler: f64,
    /// It waited for a log file.
    pub log_file: f64,
    /// It waited for a checkpoint.
    pub checkpoint: f64,
    /// It waited for the cleaner.
    pub cleaner: f64,
    #[serde(skip)]
    times: (Instant, Instant),
}

/// Looks into the slow operations of the calling thread.
pub struct Watched<'a> {
    db: &'a Db,
    start: Instant,
    delays: Delays,
    delayed: Duration,
    waited: [Duration; 3],
    operations: u64,
    slow: Vec<Slow>,
}

impl Watched<'_> {
    /// For a thread that begins now.
    pub fn begin(db: &Db) -> Watched<'_> {
        let delays = Delays::of_this_thread();
        let (delayed, waited) = (delays.so_far(), waits(db));
        let start = Instant::now();
        Watched { db, start, delays, delayed, waited, operations: 0, slow: Vec::new() }
    }

    /// An operation that began at `since` is over.
    pub fn note(&mut self, since: Instant, took: Duration) {
        self.operations += 1;
        if took < SLOW {
            if self.operations.is_multiple_of(EVERY) {
                self.delayed = self.delays.so_far();
            }
            return;
        }
        let (delayed, waited) = (self.delays.so_far(), waits(self.db));
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let [log_file, checkpoint, cleaner] =
            [0, 1, 2].map(|kind| ms(waited[kind] - self.waited[kind]));
        self.slow.push(Slow {
            at_seconds: (since + took - self.start).as_secs_f64(),
            took: ms(took),
            machine: 0.0,
            scheduler: ms(delayed - self.delayed),
            log_file,
            checkpoint,
            cleaner,
            times: (since, since + took),
        });
        (self.delayed, self.waited) = (delayed, waited);
    }

    /// The slow ones.
    pub fn end(self) -> Vec<Slow> {
        self.slow
    }
}

/// How long writers waited for log files, checkpoints and the cleaner.
fn waits(db: &Db) -> [Duration; 3] {
    let stats = db.stats();
    [stats.log_wait_time, stats.wait_time, stats.cleaner_wait_time]
}

/// How processors stood still in a run.
#[derive(Serialize)]
struct Pauses {
    bench: &'static str,
    what: &'static str,
    number: usize,
    longest_ms: f64,
    all_ms: f64,
}

/// The slowest operations of a run.
#[derive(Serialize)]
struct Slowest<'a> {
    bench: &'static str,
    what: &'static str,
    slowest_ms: &'a [Slow],
}

/// Prints how long processors stood still, and the ten slowest operations.
pub fn report(bench: &'static str, mut slow: Vec<Slow>, pauses: &[Pause]) -> crate::Outcome {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let longest_ms = pauses.iter().map(|pause| ms(pause.length)).fold(0.0, f64::max);
    let all_ms = pauses.iter().map(|pause| ms(pause.length)).sum();
    let number = pauses.len();
    crate::summary::print_json(&Pauses { bench, what: "machine", number, longest_ms, all_ms })?;
    eprintln!(
        "a processor stood still {number} times, for {longest_ms:.1} ms at most, {all_ms:.0} ms in all"
    );
    slow.sort_by(|one, other| other.took.total_cmp(&one.took));
    slow.truncate(10);
    for one in &mut slow {
        let (since, until) = one.times;
        let mut still = [0.0; CpuSet::MAX_CPU];
        let within = |pause: &Pause| ms(pause.within(since, until));
        pauses.iter().for_each(|pause| still[pause.processor] += within(pause));
        one.machine = still.into_iter().fold(0.0, f64::max);
    }
    eprintln!(
        "{:<22}{:>9}{:>9}{:>11}{:>10}{:>12}{:>9}",
        "the slowest inserts, ms",
        "took",
        "machine",
        "scheduler",
        "log file",
        "checkpoint",
        "cleaner"
    );
    for one in &slow {
        eprintln!(
            "{:>21.2} s{:>9.1}{:>9.1}{:>11.1}{:>10.1}{:>12.1}{:>9.1}",
            one.at_seconds,
            one.took,
            one.machine,
            one.scheduler,
            one.log_file,
            one.checkpoint,
            one.cleaner
        );
    }
    crate::summary::print_json(&Slowest { bench, what: "slowest inserts", slowest_ms: &slow })
}
