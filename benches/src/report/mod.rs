//! The report of the comparison: tables and pictures of what `compare` printed.
//!
//! ```text
//! swissdb-bench report results.jsonl --out benches/runs/2026-11-21/
//! ```
//!
//! What is written: `results.jsonl`, the lines as they were read; `report.md`;
//! and pictures as SVG. Nothing is measured here, and nothing is left out
//! without being named: lines that are not known are counted, skipped workloads
//! are listed with their reasons, losses and missed aims are marked.
//!
//! The parts, from the lines to the paper: [`input`] reads; [`tables`] and
//! [`space`] sort into rows and columns and form the ratios; [`aims`] holds them
//! against what was wanted; [`reasons`] says why a peer is faster where one is; [`markdown`] and
//! [`plots`] write. [`stores`] and [`text`] say what stores and numbers look like.

mod aims;
mod input;
mod markdown;
mod plots;
mod reasons;
mod space;
mod stores;
mod tables;
#[cfg(test)]
mod tests;
pub mod text;

use std::fs;
use std::path::PathBuf;

use clap::Args;

use crate::Outcome;
use input::Input;

/// The settings of the report.
#[derive(Args)]
pub struct Settings {
    /// What `compare` printed, one file or several; what stands in one file, or
    /// below one line about a machine, is compared as one run
    #[arg(required = true)]
    results: Vec<PathBuf>,
    /// Directory to write the report into; it is made if need be
    #[arg(long, required_unless_present = "readme")]
    out: Option<PathBuf>,
    /// Print the one table for the README, between comments that mark it
    #[arg(long)]
    readme: bool,
}

/// Reads, sorts and writes.
pub fn run(settings: &Settings) -> Outcome {
    let input = Input::read(&settings.results)?;
    let tables = tables::tables(&input);
    if settings.readme {
        print!("{}", markdown::readme(&tables).ok_or("there are no times in the input")?);
    }
    let Some(out) = &settings.out else { return Ok(()) };
    fs::create_dir_all(out)
        .map_err(|error| format!("{} cannot be made: {error}", out.display()))?;
    let pictures = plots::draw(&input, &tables, out)?;
    fs::write(out.join("results.jsonl"), &input.text)?;
    fs::write(out.join("report.md"), markdown::report(&input, &tables, &pictures))?;
    eprintln!("the report with {} pictures is in {}", pictures.len(), out.display());
    Ok(())
}
