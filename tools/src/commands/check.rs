//! `swissdb verify` and `swissdb checkpoint`: care for a whole store.

use clap::Args;
use serde_json::{Value, json};
use swissdb::{Report, Violation};

use crate::colour::Colour;
use crate::opening::{self, Store, Writing};
use crate::outcome::{Answer, Failure, Outcome, answer};
use crate::output::Output;

/// Checks everything in a store and shows all damage found
///
/// Every page and value is read and held against its checksum, as is every
/// record that opening may have to replay; every key is looked up, and the
/// counts are recounted: the invariants I1 to I19 of format.md. A store too
/// damaged to be opened is checked file by file. No byte is changed. The store must not be open for writing meanwhile.
#[derive(Args)]
#[command(after_help = "Exit status: 0 undamaged, 1 damage was found, 2 an error.")]
pub struct VerifyArguments {
    #[command(flatten)]
    store: Store,

    /// Show the report as JSON
    ///
    /// An object with "clean" (a boolean), "violations" (objects with
    /// "invariant", "file", "offset" and "text"; the first 10,000), "unlisted"
    /// (how many more) and "checked" (counts).
    #[arg(long)]
    json: bool,
}

/// Runs `verify`.
pub fn verify(arguments: &VerifyArguments, colour: Colour) -> Outcome {
    let report = swissdb::verify(&arguments.store.path)?;
    let mut output = Output::new();
    let shown = match arguments.json {
        true => output.json(&document(&report)),
        false => text(&mut output, arguments, &report, colour),
    };
    answer(report.is_clean(), shown.and_then(|()| output.finish()))
}

fn document(report: &Report) -> Value {
    let violation = |violation: &Violation| {
        json!({
            "invariant": violation.invariant,
            "file": violation.path.display().to_string(),
            "offset": violation.offset,
            "text": violation.text,
        })
    };
    let checked = &report.checked;
    json!({
        "clean": report.is_clean(),
        "violations": report.violations.iter().map(violation).collect::<Vec<_>>(),
        "unlisted": report.unlisted,
        "checked": {
            "tables": checked.tables,
            "entries": checked.entries,
            "segments": checked.segments,
            "directory_pages": checked.directory_pages,
            "pages": checked.pages,
            "changed_pages": checked.frames,
            "spilled": checked.spilled,
            "spilled_bytes": checked.spilled_bytes,
            "log_files": checked.log_files,
            "log_records": checked.log_records,
        },
    })
}

fn text(
    output: &mut Output,
    arguments: &VerifyArguments,
    report: &Report,
    colour: Colour,
) -> Result<(), Failure> {
    for violation in &report.violations {
        output.line(violation)?;
    }
    let on_terminal = Output::is_terminal();
    let verdict = match report.violations.len() as u64 + report.unlisted {
        0 => colour.good("undamaged", on_terminal),
        1 => colour.bad("damaged in 1 place", on_terminal),
        n => colour.bad(&format!("damaged in {n} places"), on_terminal),
    };
    let (store, checked) = (arguments.store.path.display(), &report.checked);
    output.line(format_args!("{store} is {verdict}; checked: {checked}"))
}

/// Makes the table files equal to the log
///
/// Afterwards the next opening has nothing to replay, and log files that are
/// not needed any more are reused or removed. The store does it by itself from
/// time to time and when it is closed.
#[derive(Args)]
#[command(after_help = "Exit status: 0 done, 2 an error.")]
pub struct CheckpointArguments {
    #[command(flatten)]
    store: Store,

    #[command(flatten)]
    writing: Writing,
}

/// Runs `checkpoint`.
pub fn checkpoint(arguments: &CheckpointArguments) -> Outcome {
    let db = opening::to_write(&arguments.store, &arguments.writing)?;
    db.checkpoint()?;
    db.close()?;
    Ok(Answer::Yes)
}
