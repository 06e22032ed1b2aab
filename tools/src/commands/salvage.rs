//! `swissdb salvage`: a new store from what is left of a damaged one.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use swissdb::{Options, SalvageReport};

use crate::escape::Escaped;
use crate::interrupt::Interrupt;
use crate::opening::Buffer;
use crate::outcome::{Failure, Outcome, answer};
use crate::output::Output;
use crate::progress::Progress;

/// Rebuilds a damaged store in a new one
///
/// Every page and every record that is undamaged is taken over, also where
/// headers, directories or log files are destroyed, and what was lost is told
/// by kind and number. The damaged store is read and not changed, and must not
/// be open for writing meanwhile. The new one appears under its name when it
/// is whole; until then it is being made in a directory with .tmp behind that
/// name, and Ctrl-C leaves nothing of it.
///
/// Entries of which only an earlier state is left are recovered in that one,
/// and counted: their values may be old, and some may be entries that had been
/// removed since.
#[derive(Args)]
#[command(after_help = "Examples:
  swissdb salvage my.swissdb saved.swissdb
  swissdb salvage --json my.swissdb saved.swissdb > report.json

Exit status: 0 nothing was lost, 1 something was lost, 2 an error,
  130 interrupted.")]
pub struct Arguments {
    /// The damaged store, a directory
    #[arg(value_name = "DB")]
    source: PathBuf,

    /// The new store; it must not exist
    #[arg(value_name = "DEST")]
    dest: PathBuf,

    #[command(flatten)]
    buffer: Buffer,

    /// Show the report as JSON
    ///
    /// An object with "lost_anything" (a boolean), a number for each kind of
    /// thing recovered and lost, "lost" (objects with "table" and "key",
    /// escaped; the first 1,000 values that are lost), and the names of files
    /// that are "copies" of others, or were "passed_over".
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Outcome {
    let options = arguments.buffer.set_in(Options::new());
    let bar = Progress::of_share("salvaging");
    let interrupt = Interrupt::noted();
    let report = swissdb::salvage(&arguments.source, &arguments.dest, &options, |progress| {
        bar.stand_at(progress.done);
        interrupt.flow()
    })?;
    drop(bar);
    if !report.finished {
        return Err(Failure::Interrupted("no new store was made"));
    }
    let mut output = Output::new();
    let shown = match arguments.json {
        true => output.json(&document(&report)),
        false => text(&mut output, &report),
    };
    answer(!report.lost_anything(), shown.and_then(|()| output.finish()))
}

fn text(output: &mut Output, report: &SalvageReport) -> Result<(), Failure> {
    output.line(report)?;
    report.lost.iter().try_for_each(|lost| {
        let key = lost.key.as_deref().map_or("a key lost too".into(), escape);
        output.line(format_args!("lost in table {}: the value of {key}", lost.table))
    })
}

fn escape(key: &[u8]) -> String {
    Escaped(key).to_string()
}

fn document(report: &SalvageReport) -> Value {
    let lost = report.lost.iter();
    let lost =
        lost.map(|lost| json!({"table": lost.table, "key": lost.key.as_deref().map(escape)}));
    json!({
        "lost_anything": report.lost_anything(),
        "tables": report.tables,
        "entries": report.entries,
        "from_pages": report.from_pages,
        "from_log": report.from_log,
        "from_older": report.from_older,
        "header_copies_damaged": report.header_copies_damaged,
        "roots_damaged": report.roots_damaged,
        "free_maps_damaged": report.free_maps_damaged,
        "directory_pages_damaged": report.directory_pages_damaged,
        "pages_damaged": report.pages_damaged,
        "tables_in_doubt": report.tables_in_doubt,
        "values_lost": report.values_lost,
        "log_heads_damaged": report.log_heads_damaged,
        "commits_lost": report.commits_lost,
        "log_bytes_skipped": report.log_bytes_skipped,
        "log_files_missing": report.log_files_missing,
        "lost": lost.collect::<Vec<_>>(),
        "copies": report.copies,
        "passed_over": report.passed_over,
    })
}
