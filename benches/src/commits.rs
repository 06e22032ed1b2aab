//! Durable commits: how many per second threads make that each wait for their
//! own, beside a plain program that appends the same bytes and syncs once for
//! each of them.
//!
//! The plain program is the floor. It has one thread, and a file of the size of
//! a log file, filled with zeros and synced beforehand, so that no sync writes
//! anything but the bytes: `pwrite`, then `fdatasync`. It appends as many bytes
//! as a record of swissdb has.
//!
//! A round makes a store and takes it and the plain program through all
//! numbers of threads, each for the same time; from one round to the next the
//! order is turned. Each number of threads has a floor of its own, measured
//! right beside it, since what a sync costs changes while a device is busy.
//! Ratios are taken within a round.
//!
//! `commits per sync` comes from the store's own count. With N threads it can
//! be N at most: each thread waits for the commit before it makes the next.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;
use swissdb::{Db, Durability, Options};

use crate::data::{key, value};
use crate::summary::{Spread, print_json};
use crate::{Outcome, Place};

/// The bytes of a record that inserts one entry of `data.rs`: 24 of the record,
/// 12 of the operation, 48 of key and value, filled up to a multiple of eight. That
/// it is so is checked against the store's count.
const RECORD: usize = (24 + 12 + 16 + 32_usize).next_multiple_of(8);

/// The size of the plain program's file in bytes: that of a full log file.
const PLAIN_FILE: u64 = 64 << 20;

/// The settings of this measurement.
#[derive(Args)]
pub struct Settings {
    /// Numbers of threads
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 8, 16, 64])]
    threads: Vec<usize>,
    /// Number of rounds, in each of which everything runs once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each number of threads runs in a round, in milliseconds
    #[arg(long, default_value_t = 2_000)]
    milliseconds: u64,
    #[command(flatten)]
    place: Place,
}

/// One number of threads in one round.
#[derive(Serialize)]
struct Measured {
    bench: &'static str,
    round: usize,
    threads: usize,
    commits_per_second: f64,
    commits_per_sync: f64,
    p50_us: f64,
    p99_us: f64,
    max_us: f64,
    /// The plain program beside it.
    plain_per_second: f64,
    plain_p50_us: f64,
    plain_p99_us: f64,
}

/// One number of threads over all rounds.
#[derive(Serialize)]
struct Line {
    bench: &'static str,
    threads: usize,
    rounds: usize,
    commits_per_second: Spread,
    commits_per_sync: Spread,
    p50_us: Spread,
    plain_per_second: Spread,
    plain_p50_us: Spread,
    /// Commits per second for each of the plain program.
    times_plain: Spread,
    /// The median latency as a multiple of the plain program's.
    latency_ratio: Spread,
}

/// How long single commits took, in nanoseconds, and how long it took in all.
struct Commits {
    times: Histogram<u64>,
    time: Duration,
}

impl Commits {
    fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.time.as_secs_f64()
    }

    fn micros(&self, share: f64) -> f64 {
        self.times.value_at_quantile(share) as f64 / 1e3
    }
}

/// Makes commits one after the other until the time is over.
fn repeat(time: Duration, mut commit: impl FnMut(u64) -> Outcome) -> Outcome<Commits> {
    let mut times = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
    let start = Instant::now();
    let mut before = start;
    for i in 0.. {
        commit(i)?;
        let now = Instant::now();
        times.saturating_record((now - before).as_nanos() as u64);
        before = now;
        if now - start >= time {
            break;
        }
    }
    Ok(Commits { times, time: start.elapsed() })
}

/// The plain program: a file to append to, from the beginning again when it is
/// full.
struct Plain {
    file: File,
    path: PathBuf,
    offset: u64,
}

impl Plain {
    fn create(path: PathBuf) -> Outcome<Plain> {
        let mut file = OpenOptions::new().create_new(true).write(true).open(&path)?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..PLAIN_FILE / zeros.len() as u64 {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        Ok(Plain { file, path, offset: 0 })
    }

    fn run(&mut self, time: Duration) -> Outcome<Commits> {
        let mut record = [0; RECORD];
        repeat(time, |i| {
            record[..16].copy_from_slice(&key(9, i));
            record[16..48].copy_from_slice(&value(9, i));
            self.file.write_all_at(&record, self.offset)?;
            self.file.sync_data()?;
            self.offset = (self.offset + RECORD as u64) % (PLAIN_FILE - RECORD as u64);
            Ok(())
        })
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // The measurement is over; a file left behind is only untidy.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Lets so many threads commit, each waiting for its own.
fn threads(db: &Db, number: usize, family: u64, time: Duration) -> Outcome<Commits> {
    let barrier = Barrier::new(number);
    let of_thread = |thread: usize| -> Result<Commits, String> {
        barrier.wait();
        let family = family << 16 | thread as u64;
        let commits = repeat(time, |i| Ok(db.insert(key(family, i), value(family, i))?));
        commits.map_err(|error| error.to_string())
    };
    let of_thread = &of_thread;
    let all: Vec<Result<Commits, String>> = std::thread::scope(|scope| {
        let started: Vec<_> =
            (0..number).map(|thread| scope.spawn(move || of_thread(thread))).collect();
        let panicked = || Err("a thread panicked".to_owned());
        started.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())).collect()
    });
    let mut all = all.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter();
    let mut sum = all.next().ok_or("at least one thread is needed")?;
    for one in all {
        sum.times.add(one.times)?;
        sum.time = sum.time.max(one.time);
    }
    Ok(sum)
}

/// One number of threads, and the plain program before or after it.
fn measure(
    db: &Db,
    plain: &mut Plain,
    settings: &Settings,
    round: usize,
    number: usize,
) -> Outcome<Measured> {
    let time = Duration::from_millis(settings.milliseconds);
    let mut floor = if round.is_multiple_of(2) { Some(plain.run(time)?) } else { None };
    let before = db.stats();
    let commits = threads(db, number, number as u64 + 1, time)?;
    let after = db.stats();
    let floor = match floor.take() {
        Some(floor) => floor,
        None => plain.run(time)?,
    };
    let made = after.commits - before.commits;
    let bytes = (after.written.log_bytes - before.written.log_bytes) as f64 / made as f64;
    if (bytes - RECORD as f64).abs() > 1.0 {
        return Err(format!("a record has {bytes:.1} bytes, the plain program's {RECORD}").into());
    }
    Ok(Measured {
        bench: "commits",
        round,
        threads: number,
        commits_per_second: commits.per_second(),
        commits_per_sync: made as f64 / (after.written.syncs - before.written.syncs).max(1) as f64,
        p50_us: commits.micros(0.5),
        p99_us: commits.micros(0.99),
        max_us: commits.micros(1.0),
        plain_per_second: floor.per_second(),
        plain_p50_us: floor.micros(0.5),
        plain_p99_us: floor.micros(0.99),
    })
}

/// A round: a store of its own, all numbers of threads.
fn round(settings: &Settings, round: usize, store: &Path) -> Outcome<Vec<Measured>> {
    let mut plain = Plain::create(settings.place.fresh("commits-plain"))?;
    let db = Options::new().durability(Durability::Sync).open(store)?;
    let mut numbers = settings.threads.clone();
    if !round.is_multiple_of(2) {
        numbers.reverse();
    }
    let one = |number: &usize| measure(&db, &mut plain, settings, round, *number);
    numbers.iter().map(one).collect()
}

/// Runs all rounds and prints the lines and the table.
pub fn run(settings: &Settings) -> Outcome {
    if settings.rounds == 0 || settings.threads.is_empty() || settings.threads.contains(&0) {
        return Err("at least one round and one thread are needed".into());
    }
    let mut all = Vec::new();
    for number in 0..settings.rounds {
        let store = settings.place.fresh(&format!("commits-{number}"));
        let measured = round(settings, number, &store);
        if store.exists() {
            std::fs::remove_dir_all(&store)?;
        }
        let measured = measured?;
        measured.iter().try_for_each(print_json)?;
        all.extend(measured);
        eprintln!("round {} of {} is done", number + 1, settings.rounds);
    }
    summarise(&all, settings)
}

/// Prints a line for each number of threads, and the table.
fn summarise(all: &[Measured], settings: &Settings) -> Outcome {
    eprintln!("\nevery commit durable, records of {RECORD} bytes: median (min-max)");
    eprintln!(
        "{:>7}{:>24}{:>24}{:>22}{:>22}{:>22}",
        "threads",
        "commits per second",
        "of the plain program",
        "times as many",
        "median latency, times",
        "commits per sync"
    );
    for &threads in &settings.threads {
        let spread = |what: fn(&Measured) -> f64| {
            Spread::of(all.iter().filter(|m| m.threads == threads).map(what).collect())
        };
        let line = Line {
            bench: "commits",
            threads,
            rounds: settings.rounds,
            commits_per_second: spread(|m| m.commits_per_second),
            commits_per_sync: spread(|m| m.commits_per_sync),
            p50_us: spread(|m| m.p50_us),
            plain_per_second: spread(|m| m.plain_per_second),
            plain_p50_us: spread(|m| m.plain_p50_us),
            times_plain: spread(|m| m.commits_per_second / m.plain_per_second),
            latency_ratio: spread(|m| m.p50_us / m.plain_p50_us),
        };
        print_json(&line)?;
        eprintln!(
            "{threads:>7}{:>24}{:>24}{:>22}{:>22}{:>22}",
            line.commits_per_second.text(0),
            line.plain_per_second.text(0),
            line.times_plain.text(2),
            line.latency_ratio.text(2),
            line.commits_per_sync.text(2)
        );
    }
    Ok(())
}
