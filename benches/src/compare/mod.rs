//! swissdb beside other stores, on many workloads.
//!
//! ```text
//! cargo run --release -p swissdb-bench --features peers -- compare --quick
//! cargo run --release -p swissdb-bench --features peers,rocksdb -- compare >compare.jsonl
//! ```
//!
//! # How it is measured
//!
//! * A *scenario* is a set of workloads on the same store (`workloads/`). In each
//!   round, each scenario is run with all stores in turn, each in a process and a
//!   directory of its own; from round to round the order of the stores changes, so that
//!   each follows different ones. The device may end what the store before it left
//!   behind.
//! * Before reads are timed a store may come to rest, and everything is read once:
//!   what background threads have put off does not count for the reads, nor does
//!   filling a cache.
//! * All stores get the same entries in the same order, from fixed seeds. Every
//!   value that is read is checked against its key, and sums over what was
//!   read are compared between the stores. After each phase that writes, a sample of
//!   what it wrote, of 50,000 entries at most, is read and has to be exactly that; no
//!   clock runs then and nothing is counted. It warms caches, as much for each store.
//!   (The workloads of redb's own benchmark do without: their reads come after all
//!   writes, and see all entries in their only version.)
//! * Durability is of one class: "buffered", in which no commit waits for a sync,
//!   or "sync", in which each does. Each adapter in `engines/` says how.
//! * No store waits for another's time: a phase that takes longer than the cap is
//!   stopped, and its rate is that of what was done (`"capped":true`).
//! * A store that fails, or reads what it should not, is told of on stderr, with a
//!   `skipped` line, and by the exit status; its times of that scenario are not printed.
//!
//! Results are JSON Lines on stdout (`lines.rs`); what is done just now goes to
//! stderr.

mod engines;
mod entries;
mod lines;
mod measure;
mod process;
mod store;
mod workloads;

use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;

pub use process::{ChildSettings, child};

use crate::{Outcome, Place};
use engines::Known;
use lines::Whose;
use workloads::{SCENARIOS, Scenario};

/// The settings of this measurement.
#[derive(Args, Clone)]
pub struct Settings {
    /// Number of entries
    #[arg(long, default_value_t = 2_000_000)]
    entries: u64,
    /// Number of rounds, in each of which every store runs once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Stores that take part [default: all that were built, but for those that
    /// --list marks]
    #[arg(long, value_delimiter = ',')]
    stores: Vec<String>,
    /// Workloads, or scenarios of them, that are run [default: all; see --list, also
    /// for scenarios that run as a whole only]
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// The longest that a store may take for one phase, in seconds
    #[arg(long, default_value_t = 60.0)]
    cap: f64,
    /// How long workloads take that are measured by time, in seconds
    #[arg(long, default_value_t = 3.0)]
    span: f64,
    /// Memory of the process that works with four times as much data, in MiB
    #[arg(long, default_value_t = 256)]
    larger_memory: u64,
    /// A look at everything: 100,000 entries, one round, short times
    #[arg(long)]
    quick: bool,
    /// Print the scenarios, their workloads and the stores, and do nothing
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    place: Place,
}

impl Settings {
    /// With what `--quick` changes.
    fn in_effect(&self) -> Settings {
        match self.quick {
            true => Settings {
                entries: 100_000,
                rounds: 1,
                cap: 3.0,
                span: 0.3,
                larger_memory: 48,
                ..self.clone()
            },
            false => self.clone(),
        }
    }

    fn wants(&self, scenario: &Scenario) -> bool {
        let names = || scenario.workloads.iter().map(|(name, _)| *name).chain([scenario.name]);
        self.workloads.is_empty() || names().any(|name| self.workloads.iter().any(|w| w == name))
    }

    /// The workloads of a scenario that are asked for; none means all.
    fn wanted(&self, scenario: &Scenario) -> Vec<String> {
        let is_one = |wanted: &&String| scenario.workloads.iter().any(|(name, _)| name == wanted);
        let wanted: Vec<_> = self.workloads.iter().filter(is_one).cloned().collect();
        let is_whole = self.workloads.contains(&scenario.name.to_owned());
        match is_whole || wanted.len() == scenario.workloads.len() {
            true => Vec::new(),
            false => wanted,
        }
    }

    fn check(&self) -> Outcome {
        if self.entries < 1_000 || self.entries > u64::from(u32::MAX) || self.rounds == 0 {
            return Err("at least 1,000 entries (less than 2^32) and one round are needed".into());
        }
        for name in &self.stores {
            if !engines::ALL.iter().any(|known| known.name == name) {
                let all: Vec<_> = engines::ALL.iter().map(|known| known.name).collect();
                return Err(format!("there is no store {name}, but {}", all.join(", ")).into());
            }
        }
        self.workloads.iter().try_for_each(|name| check_workload(name))
    }
}

/// Refuses what there is not, and parts of what is a whole: they would be measured, but
/// so would the rest, unasked and for as long.
fn check_workload(name: &str) -> Outcome {
    let mut scenarios = SCENARIOS.iter();
    if scenarios.clone().any(|scenario| scenario.name == name) {
        return Ok(());
    }
    match scenarios.find(|scenario| scenario.workloads.iter().any(|w| w.0 == name)) {
        None => Err(format!("there is no workload {name}; --list shows them").into()),
        Some(Scenario { name: whole, whole: true, .. }) => {
            Err(format!("{name} is a part of {whole}, which runs as a whole: ask for {whole}")
                .into())
        }
        Some(_) => Ok(()),
    }
}

/// Prints what there is to measure.
fn list() {
    for scenario in SCENARIOS {
        println!("{}{}", scenario.name, if scenario.whole { " (as a whole only)" } else { "" });
        for (name, meaning) in scenario.workloads {
            println!("  {name:<24}{meaning}");
        }
    }
    println!("stores");
    for known in &engines::ALL {
        let marks = [(known.only_asked, "only if --stores names it"), (!known.built, "not built")];
        let marks: Vec<_> = marks.iter().filter(|(has, _)| *has).map(|(_, mark)| *mark).collect();
        println!("{}", format!("  {:<24}{}", known.name, marks.join(", ")).trim_end());
    }
}

/// The stores that take part, and those that would if they were built.
fn stores(settings: &Settings) -> (Vec<&'static Known>, Vec<&'static Known>) {
    let asked = |known: &&Known| match settings.stores.is_empty() {
        true => !known.only_asked,
        false => settings.stores.iter().any(|store| store == known.name),
    };
    engines::ALL.iter().filter(asked).partition(|known| known.built)
}

/// Says why there is nothing about a store.
fn print_absent(known: &Known) -> Outcome {
    let feature = known.feature.unwrap_or_default();
    let why = format!("not built: it needs the cargo feature {feature}");
    Whose { store: known.name.to_owned(), round: 0 }.skipped("all", &why)
}

/// The line about the machine, the stores and the command.
fn print_machine(settings: &Settings, stores: &[&Known]) -> Outcome {
    let mut versions = BTreeMap::new();
    for known in stores {
        let scratch = settings.place.fresh("version");
        versions.insert(known.name, engines::version_of(known, &scratch)?);
    }
    let command: Vec<_> = std::env::args().skip(1).collect();
    let mut line = json!({
        "bench": "compare",
        "kind": "machine",
        "versions": versions,
        "command": format!("swissdb-bench {}", command.join(" ")),
    });
    let facts = crate::machine::facts(&settings.place.directory());
    if let Some(line) = line.as_object_mut() {
        line.extend(facts.into_iter().map(|(name, fact)| (name, fact.into())));
    }
    crate::summary::print_json(&line)
}

/// Compares the stores.
pub fn run(settings: &Settings) -> Outcome {
    if settings.list {
        list();
        return Ok(());
    }
    let settings = settings.in_effect();
    settings.check()?;
    let (stores, absent) = stores(&settings);
    print_machine(&settings, &stores)?;
    absent.into_iter().try_for_each(print_absent)?;
    let mut failures = 0;
    for round in 0..settings.rounds {
        for scenario in SCENARIOS.iter().filter(|scenario| settings.wants(scenario)) {
            failures += process::turn(&settings, scenario, &stores, round)?;
        }
    }
    match failures {
        0 => Ok(()),
        failures => Err(format!("{failures} scenarios failed with a store, as told above").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::check_workload;

    #[test]
    fn a_part_of_a_whole_is_refused() {
        for name in ["life", "get", "open-killed", "fill-batch", "larger", "redb-bench", "beside"] {
            check_workload(name).expect("it can be run alone");
        }
        let refused = |name| check_workload(name).expect_err("it cannot be run alone").to_string();
        let why = "larger-get is a part of larger, which runs as a whole: ask for larger";
        assert_eq!(refused("larger-get"), why);
        assert!(refused("redb-compact").ends_with(": ask for redb-bench"));
        assert!(refused("gets").starts_with("there is no workload gets"));
    }
}
