//! `swissdb get`: the value of one key.

use clap::Args;

use crate::entry::Key;
use crate::opening::{self, Store, TableName};
use crate::outcome::{Answer, Outcome, note};
use crate::output::Output;

/// Writes the value of a key to standard output, as it is
///
/// Nothing is added, not even a line end.
#[derive(Args)]
#[command(after_help = "Examples:
  swissdb get packages.swissdb bash
  swissdb get --key-b64 my.swissdb AAH/ > value

Exit status: 0 found, 1 the key is not there, 2 an error.")]
pub struct Arguments {
    #[command(flatten)]
    store: Store,

    #[command(flatten)]
    key: Key,

    #[command(flatten)]
    table: TableName,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Outcome {
    let key = arguments.key.bytes()?;
    let (_db, table) = opening::table_to_read(&arguments.store, &arguments.table)?;
    let Some(value) = table.get(key)? else {
        note(format_args!("there is no key {:?}", arguments.key.text()));
        return Ok(Answer::No);
    };
    let mut output = Output::new();
    output.bytes(&value)?;
    output.finish()?;
    Ok(Answer::Yes)
}
