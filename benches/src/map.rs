//! swissdb beside the map of the standard library, phase by phase.
//!
//! A round builds an engine from empty and takes it through all phases; then
//! it is dropped and the other engine does the same. The map keeps its entries
//! in two allocations each and nothing on disk; swissdb logs every change in a
//! shared mapping and syncs in the background. Between phases swissdb may finish
//! its sync; how long that took is reported as a line of its own.
//!
//! `overwrite` uses the map's `insert` with fresh vectors, which is what a caller
//! writes who does not know whether the key is there; `overwrite in place` uses
//! `get_mut` and the vector that is there. `get` gives a value of its own
//! (swissdb copies it out, the map lends it); `look` lends it in both. The phases
//! with `by 64` do the same with so many keys in a call, or entries in a commit;
//! the map has no such calls and does them one by one.

use std::time::Instant;

use clap::Args;
use serde::Serialize;
use swissdb::{HashKind, Options};

use crate::data::Workload;
use crate::engine::{Engine, StdMap, Swiss};
use crate::summary::{Spread, print_json};
use crate::{Outcome, Place};

/// The settings of this measurement.
#[derive(Args)]
pub struct Settings {
    /// Number of entries
    #[arg(long, default_value_t = 2_000_000)]
    entries: u64,
    /// Number of rounds, in each of which both engines run once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Hash the keys of swissdb with rapidhash instead of SipHash
    #[arg(long)]
    fast_hash: bool,
    /// Payload of a slot of swissdb in bytes
    #[arg(long, default_value_t = 56)]
    payload: usize,
    /// Write buffer of swissdb in MiB [default: its own]
    #[arg(long)]
    write_buffer: Option<usize>,
    #[command(flatten)]
    place: Place,
}

impl Settings {
    fn options(&self) -> Options {
        let options = Options::new().payload(self.payload);
        let options = match self.write_buffer {
            Some(mib) => options.write_buffer(mib << 20),
            None => options,
        };
        match self.fast_hash {
            true => options.hash(HashKind::Fast),
            false => options,
        }
    }
}

/// What is measured, in the order in which it happens.
const PHASES: [&str; 12] = [
    "insert",
    "get",
    "get by 64",
    "look",
    "look by 64",
    "miss",
    "miss by 64",
    "overwrite",
    "overwrite in place",
    "overwrite by 64",
    "iterate",
    "remove",
];

/// Keys in a call of the phases that say so.
const BY: usize = 64;

/// One phase of one engine in one round.
#[derive(Serialize)]
struct Measured {
    bench: &'static str,
    round: usize,
    engine: &'static str,
    phase: &'static str,
    entries: u64,
    ns_per_operation: f64,
    settle_seconds: f64,
}

/// One phase over all rounds.
#[derive(Serialize)]
struct Line {
    bench: &'static str,
    phase: &'static str,
    entries: u64,
    rounds: usize,
    swissdb_ns: Spread,
    hashmap_ns: Spread,
    /// How many times as fast as the map swissdb is, per round.
    ratio: Spread,
}

/// Takes one engine through one phase; returns what makes sure that it worked.
fn phase<E: Engine>(engine: &mut E, work: &Workload, phase: &str) -> Outcome<u64> {
    let next_values = work.values.iter().cycle().skip(1);
    let mut sum = 0u64;
    match phase {
        "insert" => {
            for (key, value) in work.keys.iter().zip(&work.values) {
                engine.insert(key, value)?;
                sum += 1;
            }
        }
        "get" => {
            for key in &work.read {
                sum = sum.wrapping_add(engine.get(key)?.ok_or("an entry is missing")?);
            }
        }
        "look" => {
            for key in &work.read {
                sum = sum.wrapping_add(engine.look(key)?.ok_or("an entry is missing")?);
            }
        }
        "miss" => {
            for key in &work.absent {
                sum += u64::from(engine.get(key)?.is_some());
            }
        }
        "overwrite" => {
            for (key, value) in work.changed.iter().zip(next_values) {
                engine.insert(key, value)?;
            }
        }
        "overwrite in place" => {
            for (key, value) in work.read.iter().zip(next_values) {
                engine.overwrite(key, value)?;
            }
        }
        "iterate" => {
            let (count, bytes) = engine.iterate()?;
            if count != work.keys.len() as u64 {
                return Err(format!("{count} entries came").into());
            }
            sum = bytes;
        }
        "remove" => {
            for key in &work.changed {
                sum += u64::from(engine.remove(key)?);
            }
        }
        other => sum = phase_by(engine, work, other)?,
    }
    Ok(sum)
}

/// A phase of many keys or entries at once.
fn phase_by<E: Engine>(engine: &mut E, work: &Workload, phase: &str) -> Outcome<u64> {
    let mut sum = 0u64;
    match phase {
        "get by 64" => {
            for keys in work.read.chunks(BY) {
                let (count, bytes) = engine.multi_get(keys)?;
                sum = sum.wrapping_add(count).wrapping_add(bytes);
            }
        }
        "look by 64" => {
            for keys in work.read.chunks(BY) {
                let (count, bytes) = engine.multi_look(keys)?;
                sum = sum.wrapping_add(count).wrapping_add(bytes);
            }
        }
        "miss by 64" => {
            for keys in work.absent.chunks(BY) {
                sum += engine.multi_get(keys)?.0;
            }
        }
        "overwrite by 64" => {
            for (keys, values) in work.changed.chunks(BY).zip(work.values.chunks(BY)) {
                engine.multi_insert(keys, values)?;
            }
        }
        other => return Err(format!("there is no phase {other}").into()),
    }
    Ok(sum)
}

/// Takes an engine through all phases. The sums of the phases say whether
/// both engines found the same.
fn round<E: Engine>(
    mut engine: E,
    work: &Workload,
    number: usize,
) -> Outcome<(Vec<Measured>, Vec<u64>)> {
    let (mut measured, mut sums) = (Vec::new(), Vec::new());
    for name in PHASES {
        let start = Instant::now();
        sums.push(phase(&mut engine, work, name)?);
        let time = start.elapsed();
        let start = Instant::now();
        engine.settle()?;
        measured.push(Measured {
            bench: "map",
            round: number,
            engine: E::NAME,
            phase: name,
            entries: work.keys.len() as u64,
            ns_per_operation: time.as_nanos() as f64 / work.keys.len() as f64,
            settle_seconds: start.elapsed().as_secs_f64(),
        });
    }
    Ok((measured, sums))
}

/// Runs all rounds and prints the lines and the table.
pub fn run(settings: &Settings) -> Outcome {
    if settings.entries == 0 || settings.rounds == 0 {
        return Err("at least one entry and one round are needed".into());
    }
    let work = Workload::new(settings.entries);
    let options = settings.options();
    let mut all = Vec::new();
    for number in 0..settings.rounds {
        let swiss = || -> Outcome<_> {
            let path = settings.place.fresh(&format!("map-{number}"));
            round(Swiss::create(&path, &options)?, &work, number)
        };
        let map = || round(StdMap::default(), &work, number);
        let ((swiss, found), (map, expected)) = if number % 2 == 0 {
            let first = swiss()?;
            (first, map()?)
        } else {
            let first = map()?;
            (swiss()?, first)
        };
        if found != expected {
            return Err(format!("the engines disagree: {found:?} and {expected:?}").into());
        }
        eprintln!("round {} of {} is done", number + 1, settings.rounds);
        for measured in swiss.iter().chain(&map) {
            print_json(measured)?;
        }
        all.extend(swiss.into_iter().chain(map));
    }
    summarise(&all, settings)
}

/// Prints a line for each phase, and the table.
fn summarise(all: &[Measured], settings: &Settings) -> Outcome {
    let times = |engine: &str, phase: &str| -> Vec<f64> {
        let of_phase = all.iter().filter(|m| m.engine == engine && m.phase == phase);
        of_phase.map(|m| m.ns_per_operation).collect()
    };
    eprintln!("\n{} entries, ns per operation: median (min-max)", settings.entries);
    eprintln!("{:<20}{:>24}{:>24}{:>24}", "", "swissdb", "HashMap", "times as fast");
    for phase in PHASES {
        let (swiss, map) = (times(Swiss::NAME, phase), times(StdMap::NAME, phase));
        let ratio = Spread::of(swiss.iter().zip(&map).map(|(s, m)| m / s).collect());
        let line = Line {
            bench: "map",
            phase,
            entries: settings.entries,
            rounds: settings.rounds,
            swissdb_ns: Spread::of(swiss),
            hashmap_ns: Spread::of(map),
            ratio,
        };
        print_json(&line)?;
        let (swiss, map) = (line.swissdb_ns.text(0), line.hashmap_ns.text(0));
        eprintln!("{phase:<20}{swiss:>24}{map:>24}{:>24}", ratio.text(2));
    }
    Ok(())
}
