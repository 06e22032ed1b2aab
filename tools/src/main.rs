//! `swissdb`: a store from the command line.
//!
//! This is the map of the tool. The main function parses the arguments, runs
//! one command and turns its outcome into an exit status; each command is a
//! file under `commands`. Around them are small helpers that know one thing
//! each:
//!
//! | module | knows |
//! |---|---|
//! | `outcome` | how a command ends: yes, no, an error, a closed pipe |
//! | `opening` | how stores and tables are opened for reading and for writing |
//! | `interrupt` | what Ctrl-C means to commands that clear up |
//! | `entry` | how keys and values are given as arguments |
//! | `line` | JSON Lines: one entry, one line |
//! | `escape` | how arbitrary bytes are shown to people |
//! | `size` | sizes like `64K` |
//! | `output` | standard output |
//! | `chart` | how histograms are drawn |
//! | `colour` | when messages are coloured |
//! | `progress` | the progress bar on standard error |
//!
//! The tool decodes nothing itself: whatever it says about a store it learns
//! from the public functions of the library. Data goes to standard output,
//! everything else to standard error. Commands that only read open the store
//! read-only, and so change no byte of it.

mod chart;
mod colour;
mod commands;
mod entry;
mod escape;
mod interrupt;
mod line;
mod opening;
mod outcome;
mod output;
mod progress;
mod size;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use colour::Colour;
use commands::{
    alter, backup, check, compact, dump, inspect, load, map, query, salvage, scan, stats,
};
use outcome::{Failure, Outcome, status};

/// Reads, writes and examines swissdb stores.
///
/// A store is a directory. The commands load and put make one where there is
/// none; all others want one that exists. One process at a time can write to
/// a store; any number can read it while nobody writes.
#[derive(Parser)]
#[command(name = "swissdb", version, after_help = AFTER_HELP, after_long_help = AFTER_LONG_HELP)]
#[command(arg_required_else_help = true)]
struct Cli {
    /// Colour messages: auto (on terminals, without NO_COLOR), always, never
    #[arg(long, global = true, value_enum, value_name = "WHEN")]
    #[arg(default_value = "auto", hide_default_value = true)]
    #[arg(hide_possible_values = true)]
    color: Colour,

    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "Exit status: 0 yes, 1 no (or damage was found), 2 an error.
Examples: swissdb --help";

const AFTER_LONG_HELP: &str = "\
Exit status:
  0  yes: done, found, undamaged
  1  no: the key is not there (get, del), or damage was found (verify, inspect,
     map, dump, scan), or something was lost (salvage)
  2  an error: it is told on standard error; also for wrong arguments
  130  Ctrl-C, where the command cleared up first (backup, compact, salvage)

Data goes to standard output, everything else to standard error. A pipe that
is closed early, as by `| head`, is no error: the exit status tells what was
found until then.

Examples:
  swissdb load packages.swissdb packages.jsonl   make or extend a store
  zcat dump.jsonl.gz | swissdb load my.swissdb   the same from a pipe
  swissdb get packages.swissdb bash              the value, as it is
  swissdb put my.swissdb greeting hello          one entry
  swissdb put my.swissdb picture < picture.png   its value from a file
  swissdb scan --limit 10 packages.swissdb       what is in there?
  swissdb dump packages.swissdb | gzip > b.gz    everything, as JSON Lines
  swissdb stats packages.swissdb                 sizes and counts
  swissdb map --svg map.svg packages.swissdb     a picture of all of it
  swissdb verify packages.swissdb                is it undamaged?
  swissdb compact packages.swissdb               as small as it gets
  swissdb backup packages.swissdb copy.swissdb   a copy, verified
  swissdb salvage packages.swissdb new.swissdb   what is left of a damaged one";

const BASE64: &str = "write a key or a value that is no text in base64, with --key-b64 or \
                      --value-b64";

#[derive(Subcommand)]
enum Command {
    Load(load::Arguments),
    Dump(dump::Arguments),
    Put(alter::PutArguments),
    Get(query::Arguments),
    Del(alter::DelArguments),
    Scan(scan::Arguments),
    Stats(stats::Arguments),
    Inspect(inspect::Arguments),
    Map(map::Arguments),
    Verify(check::VerifyArguments),
    Checkpoint(check::CheckpointArguments),
    Compact(compact::Arguments),
    Backup(backup::Arguments),
    Salvage(salvage::Arguments),
}

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => {
            let colour = cli.color;
            status(run(cli), colour)
        }
        Err(error) => refuse(&error),
    }
}

/// Shows the help that was asked for, or what is wrong with the arguments in
/// the form that all messages have.
fn refuse(error: &clap::Error) -> ExitCode {
    let mut text = error.render().to_string();
    if error.kind() == ErrorKind::InvalidUtf8 {
        // The only hint of clap's is the help.
        let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
        text = format!("{first}; {BASE64}\n{rest}");
    }
    match text.strip_prefix("error: ") {
        Some(text) => status(Err(Failure::Sentence(text.trim_end().to_owned())), Colour::Auto),
        None => {
            let shown = error.print().and_then(|()| io::stdout().flush());
            match shown {
                // On standard error nobody could be told.
                Err(failed) if !error.use_stderr() => {
                    status(Err(Failure::output(failed)), Colour::Auto)
                }
                _ => ExitCode::from(error.exit_code() as u8),
            }
        }
    }
}

fn run(cli: Cli) -> Outcome {
    match cli.command {
        Command::Load(arguments) => load::run(&arguments),
        Command::Dump(arguments) => dump::run(&arguments),
        Command::Put(arguments) => alter::put(&arguments),
        Command::Get(arguments) => query::run(&arguments),
        Command::Del(arguments) => alter::del(&arguments),
        Command::Scan(arguments) => scan::run(&arguments),
        Command::Stats(arguments) => stats::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments, cli.color),
        Command::Map(arguments) => map::run(&arguments, cli.color),
        Command::Verify(arguments) => check::verify(&arguments, cli.color),
        Command::Checkpoint(arguments) => check::checkpoint(&arguments),
        Command::Compact(arguments) => compact::run(&arguments),
        Command::Backup(arguments) => backup::run(&arguments),
        Command::Salvage(arguments) => salvage::run(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_definition_of_the_arguments_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
