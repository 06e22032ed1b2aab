//! Measurements of swissdb, run by hand on a quiet machine.
//!
//! ```text
//! cargo run --release -p swissdb-bench -- map     beside HashMap<Vec<u8>, Vec<u8>>
//! cargo run --release -p swissdb-bench -- tail    every single insert, memory, files, opening
//! cargo run --release -p swissdb-bench -- commits durable commits beside a plain program
//! cargo run --release -p swissdb-bench -- load    every insert and gets beside it: percentiles, a picture
//! cargo run --release -p swissdb-bench -- fill    utilisation while filling, as CSV and SVG;
//!                                                 with --space bytes on disk at rest
//! cargo run --release -p swissdb-bench -- cold    reads of pages that are not in memory
//! cargo run --release -p swissdb-bench -- snapshots  what a snapshot costs, beside a writer
//! cargo run --release -p swissdb-bench -- space   what the files take, from filling to refilling
//! cargo run --release -p swissdb-bench --features peers -- compare  beside other stores
//! cargo run --release -p swissdb-bench -- report  tables and pictures of what `compare` printed
//! ```
//!
//! # What makes the numbers fair
//!
//! * Engines take turns within a round, and the order changes from round to
//!   round; what is compared is the ratio within a round, of which the median
//!   over the rounds is reported with the smallest and the largest.
//! * All engines get the same keys and values from a fixed seed, in the same
//!   order, and every result is used, so that no work can be left out.
//! * Each engine is dropped before the next one starts. What measures memory
//!   runs in a process of its own.
//! * Results are JSON Lines on stdout; tables for people go to stderr.
//!
//! These programs do not know how the store works: they use its public face.

mod chart;
mod child;
mod cold;
mod commits;
mod compare;
mod data;
mod engine;
mod fill;
mod load;
mod machine;
mod map;
mod report;
mod slow;
mod snapshots;
mod space;
mod summary;
mod tail;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Measures swissdb.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Get, miss, insert, overwrite, remove and iterate beside the map in memory
    Map(map::Settings),
    /// Every single insert while growing from empty, memory, file sizes, opening
    Tail(tail::Settings),
    /// Every insert from empty to ten million and gets beside it: percentiles as
    /// text and as a picture
    Load(load::Settings),
    /// Durable commits by many threads, beside a program that syncs each
    Commits(commits::Settings),
    /// Utilisation of the slots while filling
    Fill(fill::Settings),
    /// Reads of pages that are not in memory, one by one and many at once
    Cold(cold::Settings),
    /// What a snapshot costs, beside a writer
    Snapshots(snapshots::Settings),
    /// What the files take: filled, overwritten, thinned, compacted, refilled
    Space(space::Settings),
    /// swissdb beside other stores, on many workloads
    Compare(compare::Settings),
    /// One scenario of `compare` with one store
    #[command(hide = true)]
    CompareChild(compare::ChildSettings),
    /// Tables and pictures of what `compare` printed
    Report(report::Settings),
    /// What the others start as a process of its own
    #[command(hide = true)]
    Child(child::Settings),
}

/// Where a store for a measurement is made.
#[derive(Args, Clone)]
struct Place {
    /// Directory to make the store in, on the device to be measured; what is
    /// made there is removed again [default: the directory for temporary files]
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl Place {
    /// The directory that the stores are made in.
    fn directory(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// A directory of this process that does not exist yet.
    fn fresh(&self, name: &str) -> PathBuf {
        self.directory().join(format!("swissdb-bench-{}-{name}", std::process::id()))
    }
}

/// The result of a measurement; whatever failed is told and ends it.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Map(settings) => map::run(&settings),
        Command::Tail(settings) => tail::run(&settings),
        Command::Commits(settings) => commits::run(&settings),
        Command::Load(settings) => load::run(&settings),
        Command::Fill(settings) => fill::run(&settings),
        Command::Cold(settings) => cold::run(&settings),
        Command::Snapshots(settings) => snapshots::run(&settings),
        Command::Space(settings) => space::run(&settings),
        Command::Compare(settings) => compare::run(&settings),
        Command::CompareChild(settings) => compare::child(&settings),
        Command::Report(settings) => report::run(&settings),
        Command::Child(settings) => child::run(&settings),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("swissdb-bench: {error}");
            ExitCode::from(2)
        }
    }
}
