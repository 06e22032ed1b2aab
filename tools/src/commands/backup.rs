//! `swissdb backup`: a copy of a store, complete and verified.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use swissdb::{BackedUp, BackupProgress, Error, Options};

use crate::interrupt::Interrupt;
use crate::opening::{Buffer, Store};
use crate::outcome::{Answer, Failure, Outcome, note};
use crate::output::Output;
use crate::progress::Steps;
use crate::size;

/// Copies a store to a new one, complete and verified
///
/// All tables are copied entry by entry, every page and value is checked on
/// the way, and the copy is compacted and then verified as a whole. The store
/// is read and not changed, and must not be open for writing meanwhile: a
/// program that has it open makes the backup itself, with Db::backup, while its
/// writers go on. The copy appears under its name when it is whole; until then
/// it is being made in a directory with .tmp behind that name.
///
/// Any damage ends the backup, and no copy is left; use salvage then. Ctrl-C
/// ends it as well, and leaves nothing behind.
#[derive(Args)]
#[command(after_help = "Examples:
  swissdb backup my.swissdb /mnt/backup/my.swissdb
  swissdb backup --json my.swissdb copy.swissdb > report.json

Exit status: 0 done, 2 an error, 130 interrupted.")]
pub struct Arguments {
    #[command(flatten)]
    store: Store,

    /// The copy; it must not exist
    #[arg(value_name = "DEST")]
    dest: PathBuf,

    #[command(flatten)]
    buffer: Buffer,

    /// Show what was done as JSON
    ///
    /// An object with "tables", "entries", "commit" (the number of the last
    /// commit in the copy) and "bytes" (the space that the copy takes).
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Outcome {
    let options = arguments.buffer.set_in(Options::new().read_only(true).create(false));
    let db = options.open(&arguments.store.path).map_err(|error| match error {
        Error::Locked { .. } => Failure::Sentence(format!(
            "{error}, or let the program that has it open make the backup, with Db::backup"
        )),
        error => error.into(),
    })?;
    let mut steps = Steps::default();
    let interrupt = Interrupt::noted();
    let backed_up = db.backup_with(&arguments.dest, |progress| {
        show(&mut steps, progress);
        interrupt.flow()
    })?;
    drop(steps);
    if !backed_up.finished {
        return Err(Failure::Interrupted("no copy was made"));
    }
    match arguments.json {
        true => {
            let mut output = Output::new();
            output.json(&document(&backed_up))?;
            output.finish()?;
        }
        false => note(format_args!(
            "backed up {} to {}: {} entries in {}, {} on disk",
            arguments.store.path.display(),
            arguments.dest.display(),
            size::count(backed_up.entries),
            match backed_up.tables {
                1 => "1 table".to_owned(),
                tables => format!("{tables} tables"),
            },
            size::show(backed_up.bytes)
        )),
    }
    Ok(Answer::Yes)
}

fn document(backed_up: &BackedUp) -> Value {
    json!({
        "tables": backed_up.tables,
        "entries": backed_up.entries,
        "commit": backed_up.commit,
        "bytes": backed_up.bytes,
    })
}

/// Shows how far it is, with a bar for each step of each table.
fn show(steps: &mut Steps, progress: &BackupProgress) {
    let what = match &progress.table {
        Some(table) => format!("{}, table {table}", progress.step),
        None => progress.step.to_string(),
    };
    steps.stand_at(&what, progress.done);
}
