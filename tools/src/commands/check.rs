//! `swissdb verify` and `swissdb checkpoint`: care for a whole store.

use clap::Args;
use serde_json::json;
use swissdb::{Error, Report};

use crate::colour::Colour;
use crate::opening::{self, Store, Writing};
use crate::outcome::{Answer, Failure, Outcome};
use crate::output::Output;

/// Checks everything in a store and shows all damage found
///
/// Every page, record and value is read and held against its checksum, every
/// key is looked up, and the counts are recounted. No byte is changed. The
/// store must not be open for writing meanwhile.
#[derive(Args)]
#[command(after_help = "Exit status: 0 undamaged, 1 damage was found, 2 an error.")]
pub struct VerifyArguments {
    #[command(flatten)]
    store: Store,

    /// Show the report as JSON
    ///
    /// An object with "clean" (a boolean) and "violations", a list of objects
    /// with "invariant", "file", "offset" and "text".
    #[arg(long)]
    json: bool,
}

/// Runs `verify`.
pub fn verify(arguments: &VerifyArguments, colour: Colour) -> Outcome {
    let findings = match examine(&arguments.store) {
        Ok(report) => report.violations.iter().map(Finding::of).collect(),
        // Damage that keeps a store from being opened is a finding as well.
        Err(Failure::Store(Error::Corrupt(damage))) => vec![Finding {
            invariant: "open".to_owned(),
            file: damage.path.display().to_string(),
            offset: damage.offset,
            text: format!(
                "{} should be {}, but is {}",
                damage.what, damage.expected, damage.found
            ),
        }],
        Err(failure) => return Err(failure),
    };
    show(arguments, &findings, colour)?;
    Ok(if findings.is_empty() {
        Answer::Yes
    } else {
        Answer::No
    })
}

fn examine(store: &Store) -> Result<Report, Failure> {
    Ok(opening::to_read(store)?.verify()?)
}

/// One piece of damage.
struct Finding {
    invariant: String,
    file: String,
    offset: u64,
    text: String,
}

impl Finding {
    fn of(violation: &swissdb::Violation) -> Finding {
        Finding {
            invariant: violation.invariant.to_string(),
            file: violation.path.display().to_string(),
            offset: violation.offset,
            text: violation.text.clone(),
        }
    }
}

fn show(arguments: &VerifyArguments, findings: &[Finding], colour: Colour) -> Result<(), Failure> {
    let mut output = Output::new();
    if arguments.json {
        let list: Vec<_> = findings
            .iter()
            .map(|f| json!({"invariant": f.invariant, "file": f.file, "offset": f.offset, "text": f.text}))
            .collect();
        output.json(&json!({"clean": findings.is_empty(), "violations": list}))?;
        return output.finish();
    }
    for f in findings {
        output.line(format_args!(
            "{} at offset {}: {} [{}]",
            f.file, f.offset, f.text, f.invariant
        ))?;
    }
    let store = arguments.store.path.display();
    let on_terminal = Output::is_terminal();
    match findings.len() {
        0 => output.line(format_args!(
            "{store} is {}",
            colour.good("undamaged", on_terminal)
        ))?,
        n => {
            let places = if n == 1 { "place" } else { "places" };
            let damaged = colour.bad("damaged", on_terminal);
            output.line(format_args!("{store} is {damaged} in {n} {places}"))?;
        }
    }
    output.finish()
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
