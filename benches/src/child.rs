//! The parts of a measurement that need a process of their own: because its
//! memory is measured, or because it is killed.
//!
//! A child prints one line of JSON and ends, except the one that is to be
//! killed: it prints its line and waits for that.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use swissdb::{Db, Options};

use crate::Outcome;
use crate::data::{key, value};
use crate::engine::{Engine, StdMap, Swiss};
use crate::machine::{Memory, Sizes};
use crate::summary::print_json;

/// What a child is asked to do.
#[derive(Args)]
pub struct Settings {
    /// What to do
    #[arg(value_enum)]
    pub task: Task,
    /// Number of entries
    #[arg(long)]
    pub entries: u64,
    /// The store
    #[arg(long)]
    pub store: PathBuf,
}

/// The tasks of children.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Insert one by one into swissdb, close
    Swissdb,
    /// Insert one by one into the map of the standard library
    Map,
    /// Insert into swissdb and wait to be killed
    Wait,
    /// Open a store and read from it
    Open,
}

/// How long the single inserts took, in nanoseconds, and what they left.
#[derive(Serialize, Deserialize, Debug)]
pub struct Inserts {
    /// How long in all, in seconds.
    pub seconds: f64,
    /// The mean.
    pub mean: f64,
    /// Half of them were not slower.
    pub p50: u64,
    /// 99 of 100.
    pub p99: u64,
    /// 999 of 1,000.
    pub p99_9: u64,
    /// 9,999 of 10,000.
    pub p99_99: u64,
    /// The slowest of all.
    pub max: u64,
    /// After the last insert.
    pub memory: Memory,
    /// Closing the store; zero for the map.
    pub close_seconds: f64,
    /// After closing.
    pub sizes: Sizes,
}

/// How long opening took, and reading afterwards.
#[derive(Serialize, Deserialize, Debug)]
pub struct Opening {
    /// Until the store was open.
    pub open_ms: f64,
    /// The first value read.
    pub first_get_us: f64,
    /// The entries it held.
    pub held: u64,
    /// After both.
    pub memory: Memory,
}

/// Does what the child was started for.
pub fn run(settings: &Settings) -> Outcome {
    match settings.task {
        Task::Swissdb => swissdb(settings.entries, &settings.store),
        Task::Map => {
            let (mut map, mut inserts) = (StdMap::default(), None);
            time_inserts(&mut map, settings.entries, &mut inserts)?;
            print_json(&inserts)
        }
        Task::Wait => wait(settings.entries, &settings.store),
        Task::Open => open(settings.entries, &settings.store),
    }
}

/// Times every single insert. The result is put where the caller wants it
/// before the engine is dropped.
fn time_inserts<E: Engine>(engine: &mut E, entries: u64, result: &mut Option<Inserts>) -> Outcome {
    let mut times = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)?;
    let start = Instant::now();
    for i in 0..entries {
        let (key, value) = (key(1, i), value(2, i));
        let before = Instant::now();
        engine.insert(&key, &value)?;
        times.saturating_record(before.elapsed().as_nanos() as u64);
    }
    *result = Some(Inserts {
        seconds: start.elapsed().as_secs_f64(),
        mean: times.mean(),
        p50: times.value_at_quantile(0.5),
        p99: times.value_at_quantile(0.99),
        p99_9: times.value_at_quantile(0.999),
        p99_99: times.value_at_quantile(0.9999),
        max: times.max(),
        memory: Memory::now(),
        close_seconds: 0.0,
        sizes: Sizes::default(),
    });
    Ok(())
}

/// Fills a store, insert by insert, and closes it.
fn swissdb(entries: u64, store: &Path) -> Outcome {
    let mut inserts = None;
    let mut engine = Swiss::create(store, &Options::new())?;
    time_inserts(&mut engine, entries, &mut inserts)?;
    let start = Instant::now();
    engine.close_and_keep()?;
    if let Some(inserts) = &mut inserts {
        inserts.close_seconds = start.elapsed().as_secs_f64();
        inserts.sizes = Sizes::of(store)?;
    }
    print_json(&inserts)
}

/// Fills a store and waits to be killed.
fn wait(entries: u64, store: &Path) -> Outcome {
    let db = Db::open(store)?;
    for i in 0..entries {
        db.insert(key(1, i), value(2, i))?;
    }
    print_json(&Sizes::of(store)?)?;
    loop {
        std::thread::park();
    }
}

/// Opens a store and reads one value.
fn open(entries: u64, store: &Path) -> Outcome {
    let start = Instant::now();
    let db = Options::new().create(false).open(store)?;
    let open_ms = start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    let found = db.get(key(1, entries / 2))?;
    let first_get_us = start.elapsed().as_secs_f64() * 1e6;
    if found.as_deref() != Some(&value(2, entries / 2)[..]) {
        return Err("the value read after opening is not the one inserted".into());
    }
    print_json(&Opening { open_ms, first_get_us, held: db.len(), memory: Memory::now() })
}
