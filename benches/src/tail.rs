//! The slow side: the worst single inserts while growing from empty, peak
//! memory, the size of the files, and how long opening takes after a clean close
//! and after SIGKILL.
//!
//! Everything runs in processes of its own (`child.rs`). The files stay in the
//! page cache between closing and opening, so opening is measured warm; the
//! memory of swissdb includes the pages of its files that it has mapped, which
//! are listed apart since the system can take them back.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::child::{Inserts, Opening, Task};
use crate::machine::Sizes;
use crate::summary::print_json;
use crate::{Outcome, Place};

/// The settings of this measurement.
#[derive(Args)]
pub struct Settings {
    /// Number of entries
    #[arg(long, default_value_t = 2_000_000)]
    entries: u64,
    #[command(flatten)]
    place: Place,
}

/// What one child found.
#[derive(Serialize)]
struct Line<'a, T: Serialize> {
    bench: &'static str,
    what: &'static str,
    entries: u64,
    #[serde(flatten)]
    found: &'a T,
}

/// Runs all children and prints what they found.
pub fn run(settings: &Settings) -> Outcome {
    let store = settings.place.fresh("tail");
    let outcome = measure(settings.entries, &store);
    if store.exists() {
        std::fs::remove_dir_all(&store)?;
    }
    outcome
}

fn measure(entries: u64, store: &Path) -> Outcome {
    let map: Inserts = ask(Task::Map, entries, store)?;
    tell("inserts into HashMap", entries, &map)?;
    let swiss: Inserts = ask(Task::Swissdb, entries, store)?;
    tell("inserts into swissdb", entries, &swiss)?;
    let clean: Opening = ask(Task::Open, entries, store)?;
    tell("opening after a clean close", entries, &clean)?;
    std::fs::remove_dir_all(store)?;

    let (mut child, sizes): (Child, Sizes) = start(Task::Wait, entries, store)?;
    child.kill()?;
    child.wait()?;
    tell("files after SIGKILL", entries, &sizes)?;
    let killed: Opening = ask(Task::Open, entries, store)?;
    tell("opening after SIGKILL", entries, &killed)?;
    if (clean.held, killed.held) != (entries, entries) {
        return Err("entries are missing after opening".into());
    }
    table(&map, &swiss, &clean, &killed);
    Ok(())
}

/// Starts a child and reads its line.
fn start<T: DeserializeOwned>(task: Task, entries: u64, store: &Path) -> Outcome<(Child, T)> {
    let name = task.to_possible_value().ok_or("a task without a name")?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["child", name.get_name(), "--entries", &entries.to_string(), "--store"])
        .arg(store)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let out = child.stdout.take().ok_or("a child without output")?;
    BufReader::new(out).read_line(&mut line)?;
    match serde_json::from_str(&line) {
        Ok(found) => Ok((child, found)),
        Err(error) => {
            child.wait()?;
            Err(format!("{task:?} said {line:?}: {error}").into())
        }
    }
}

/// Runs a child to its end and returns what it found.
fn ask<T: DeserializeOwned>(task: Task, entries: u64, store: &Path) -> Outcome<T> {
    let (mut child, found) = start(task, entries, store)?;
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("{task:?} ended with {status}").into());
    }
    Ok(found)
}

fn tell(what: &'static str, entries: u64, found: &impl Serialize) -> Outcome {
    print_json(&Line { bench: "tail", what, entries, found })
}

fn table(map: &Inserts, swiss: &Inserts, clean: &Opening, killed: &Opening) {
    eprintln!("\nns per insert, growing from empty");
    eprintln!(
        "{:<10}{:>8}{:>8}{:>8}{:>10}{:>10}{:>14}",
        "", "mean", "p50", "p99", "p99.9", "p99.99", "max"
    );
    for (name, times) in [("swissdb", swiss), ("HashMap", map)] {
        eprintln!(
            "{name:<10}{:>8.0}{:>8}{:>8}{:>10}{:>10}{:>14}",
            times.mean, times.p50, times.p99, times.p99_9, times.p99_99, times.max
        );
    }
    let mib = |kib: u64| kib as f64 / 1024.0;
    for (name, found) in [("swissdb", swiss), ("HashMap", map)] {
        eprintln!(
            "{name}: peak memory {:.0} MiB; at the end {:.0} MiB private, {:.0} MiB of files",
            mib(found.memory.peak_kib),
            mib(found.memory.private_kib),
            mib(found.memory.file_kib)
        );
    }
    let mb = |bytes: u64| bytes as f64 / 1e6;
    eprintln!(
        "files after closing: table {:.0} MB ({:.0} on disk), log {:.0} MB ({:.0} on disk); \
         closing took {:.2} s",
        mb(swiss.sizes.tables),
        mb(swiss.sizes.tables_on_disk),
        mb(swiss.sizes.log),
        mb(swiss.sizes.log_on_disk),
        swiss.close_seconds
    );
    for (name, opening) in [("a clean close", clean), ("SIGKILL", killed)] {
        eprintln!(
            "opening after {name}: {:.2} ms, the first get {:.0} us",
            opening.open_ms, opening.first_get_us
        );
    }
}
