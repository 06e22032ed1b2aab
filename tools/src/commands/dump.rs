//! `swissdb dump`: all entries of a table as JSON Lines.

use clap::Args;
use swissdb::Table;

use crate::line;
use crate::opening::{self, Store, TableName};
use crate::outcome::{Failure, Outcome, answer, undamaged};
use crate::output::Output;
use crate::progress::Progress;

/// How many entries pass between two looks at the progress bar.
const STEP: u64 = 1000;

/// Writes all entries to standard output as JSON Lines
///
/// The lines are what load reads. Their order is unspecified; pipe them
/// through sort to compare two stores. Damage is told on standard error, and
/// what is undamaged is written all the same.
#[derive(Args)]
#[command(after_help = "Example:
  swissdb dump packages.swissdb | gzip > packages.jsonl.gz

Exit status: 0 written, 1 damage was found and left out, 2 an error.")]
pub struct Arguments {
    #[command(flatten)]
    store: Store,

    #[command(flatten)]
    table: TableName,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Outcome {
    let (_db, table) = opening::table_to_read(&arguments.store, &arguments.table)?;
    let mut is_undamaged = true;
    let shown = show(&table, &mut is_undamaged);
    answer(is_undamaged, shown)
}

fn show(table: &Table, is_undamaged: &mut bool) -> Result<(), Failure> {
    let mut output = Output::new();
    let mut progress = Progress::of_entries(table.len(), !Output::is_terminal());
    for (number, entry) in (1..).zip(table.iter()) {
        match undamaged(entry)? {
            Some((key, value)) => line::write(&mut output, &key, Some(&value))?,
            None => *is_undamaged = false,
        }
        if number % STEP == 0 {
            progress.advance(STEP, number);
        }
    }
    output.finish()
}
