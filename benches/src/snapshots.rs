//! What a snapshot costs: to take, to wait for, to read, and for writers.
//!
//! A store is filled. Beside a writer that overwrites random entries, snapshots
//! are taken one after the other, each read a little and given up. Said are the
//! time of the call, the time until the first read has returned (its checkpoint
//! has ended then, and one that was running before), and the longest write during
//! a call.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use swissdb::{Db, Options};

use crate::data::{key, mix, value};
use crate::engine::Swiss;
use crate::summary::{Spread, print_json};
use crate::{Outcome, Place};

/// The settings of this measurement.
#[derive(Args)]
pub struct Settings {
    /// Number of entries
    #[arg(long, default_value_t = 2_000_000)]
    entries: u64,
    /// Number of snapshots
    #[arg(long, default_value_t = 20)]
    snapshots: usize,
    /// Milliseconds between two of them
    #[arg(long, default_value_t = 500)]
    pause: u64,
    #[command(flatten)]
    place: Place,
}

/// One snapshot.
#[derive(Serialize)]
struct Line {
    bench: &'static str,
    entries: u64,
    take_us: f64,
    first_read_ms: f64,
    get_ns: f64,
    longest_write_us: f64,
}

/// Overwrites random entries until it is done.
fn write(db: &Db, entries: u64, done: &AtomicBool, longest: &AtomicU64) -> Outcome {
    for n in 0.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let i = mix(n) % entries;
        let start = Instant::now();
        db.insert(key(1, i), value(3, n))?;
        longest.fetch_max(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// Takes one snapshot, reads from it, and gives it up.
fn measure(db: &Db, entries: u64, longest: &AtomicU64) -> Outcome<Line> {
    const READS: u64 = 100_000;
    longest.store(0, Ordering::Relaxed);
    let start = Instant::now();
    let snapshot = db.snapshot()?;
    let take = start.elapsed();
    let write = longest.load(Ordering::Relaxed);
    let start = Instant::now();
    snapshot.get(key(1, 0))?;
    let first = start.elapsed();
    let start = Instant::now();
    let mut found = 0;
    for n in 0..READS {
        found += u64::from(snapshot.get(key(1, mix(n) % entries))?.is_some());
    }
    let get = start.elapsed();
    if found != READS {
        return Err(format!("{found} of {READS} keys were found").into());
    }
    Ok(Line {
        bench: "snapshots",
        entries,
        take_us: take.as_secs_f64() * 1e6,
        first_read_ms: first.as_secs_f64() * 1e3,
        get_ns: get.as_secs_f64() * 1e9 / READS as f64,
        longest_write_us: write as f64 / 1e3,
    })
}

/// Fills a store, and measures.
pub fn run(settings: &Settings) -> Outcome {
    let path = settings.place.fresh("snapshots");
    Swiss::create(&path, &Options::new())?.close_and_keep()?;
    let db = Db::open(&path)?;
    for i in 0..settings.entries {
        db.insert(key(1, i), value(2, i))?;
    }
    db.checkpoint()?;
    let (done, longest) = (AtomicBool::new(false), AtomicU64::new(0));
    let lines = std::thread::scope(|scope| -> Outcome<Vec<Line>> {
        let writer = scope.spawn(|| write(&db, settings.entries, &done, &longest).is_ok());
        let mut lines = Vec::new();
        for _ in 0..settings.snapshots {
            std::thread::sleep(Duration::from_millis(settings.pause));
            let line = measure(&db, settings.entries, &longest);
            done.store(line.is_err(), Ordering::Relaxed);
            let line = line?;
            print_json(&line)?;
            lines.push(line);
        }
        done.store(true, Ordering::Relaxed);
        match writer.join() {
            Ok(true) => Ok(lines),
            _ => Err("the writer failed".into()),
        }
    })?;
    let spread = |of: fn(&Line) -> f64| Spread::of(lines.iter().map(of).collect()).text(1);
    eprintln!("taking a snapshot   {} us", spread(|line| line.take_us));
    eprintln!("until the first get {} ms", spread(|line| line.first_read_ms));
    eprintln!("a get of it         {} ns", spread(|line| line.get_ns));
    eprintln!("longest write       {} us, during the call", spread(|line| line.longest_write_us));
    db.close()?;
    std::fs::remove_dir_all(&path)?;
    Ok(())
}
