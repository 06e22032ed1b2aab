//! `swissdb scan`: a look at the entries.

use clap::Args;
use swissdb::Table;

use crate::escape::Escaped;
use crate::line;
use crate::opening::{self, Store, TableName};
use crate::outcome::{Failure, Outcome, answer, undamaged};
use crate::output::Output;
use crate::size;

/// Shows entries, one a line: key, tab, value
///
/// Control characters and bytes that are not UTF-8 are shown as \x00, line
/// ends and tabs as \n, \r and \t, a backslash as two. The order is
/// unspecified. Damage is told on standard error, and what is undamaged is
/// shown all the same.
#[derive(Args)]
#[command(after_help = "Examples:
  swissdb scan --limit 10 packages.swissdb
  swissdb scan --keys-only packages.swissdb | sort

Exit status: 0 shown (even if there are none), 1 damage was found and left out,
  2 an error.")]
pub struct Arguments {
    #[command(flatten)]
    store: Store,

    #[command(flatten)]
    table: TableName,

    /// Show at most N entries
    #[arg(long, value_name = "N", value_parser = size::parse_count)]
    #[arg(allow_negative_numbers = true)]
    limit: Option<u64>,

    /// Show keys without their values
    #[arg(long)]
    keys_only: bool,

    /// Show the bytes as they are, without escapes
    #[arg(long)]
    raw: bool,

    /// Show JSON Lines, as dump does
    #[arg(long, conflicts_with = "raw")]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Outcome {
    let (_db, table) = opening::table_to_read(&arguments.store, &arguments.table)?;
    let mut is_undamaged = true;
    let shown = show_all(arguments, &table, &mut is_undamaged);
    answer(is_undamaged, shown)
}

fn show_all(arguments: &Arguments, table: &Table, is_undamaged: &mut bool) -> Result<(), Failure> {
    let mut output = Output::new();
    let limit = arguments.limit.unwrap_or(u64::MAX);
    for (_, entry) in (0..limit).zip(table.iter()) {
        let Some((key, value)) = undamaged(entry)? else {
            *is_undamaged = false;
            continue;
        };
        let value: Option<&[u8]> = (!arguments.keys_only).then_some(&value);
        show(arguments, &mut output, &key, value)?;
    }
    output.finish()
}

fn show(
    arguments: &Arguments,
    output: &mut Output,
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<(), Failure> {
    if arguments.json {
        line::write(output, key, value)
    } else if arguments.raw {
        output.bytes(key)?;
        if let Some(value) = value {
            output.bytes(b"\t")?;
            output.bytes(value)?;
        }
        output.bytes(b"\n")
    } else if let Some(value) = value {
        output.line(format_args!("{}\t{}", Escaped(key), Escaped(value)))
    } else {
        output.line(Escaped(key))
    }
}
