//! `swissdb inspect`: the parts of a store, one by one.
//!
//! The library takes the files apart; here the parts are only shown, as tables
//! for people (`inspect/table.rs`) or as JSON (`inspect/document.rs`). Each
//! part is shown as soon as it is read, so a large store needs no memory.
//! Damage is shown beside what it was found in, and makes the exit status 1.

mod document;
mod table;

use clap::{Args, ValueEnum};
use swissdb::inspect::{self, Piece};

use crate::colour::Colour;
use crate::opening::{Store, TableName};
use crate::outcome::{Answer, Failure, Outcome};
use crate::output::Output;
use table::Tables;

/// Shows the parts of a store as they lie in its files
///
/// Nothing is replayed and no byte is changed. The words are those of
/// format.md. Damage is shown beside what it was found in, and all that can be
/// decoded in spite of it.
#[derive(Args)]
#[command(after_help = "Examples:
  swissdb inspect packages.swissdb               both copies of the header
  swissdb inspect packages.swissdb directory     all segments
  swissdb inspect packages.swissdb segment 7     every slot of one of them
  swissdb inspect packages.swissdb log           log files
  swissdb inspect packages.swissdb log 1         every record of one of them

Exit status: 0 undamaged, 1 damage was found, 2 an error.")]
pub struct Arguments {
    #[command(flatten)]
    store: Store,

    /// The part: header, directory, segment or log
    #[arg(value_enum, value_name = "PART", default_value = "header", hide_default_value = true)]
    #[arg(hide_possible_values = true)]
    part: Part,

    /// Which segment, counted from 0, or which log file
    #[arg(value_name = "NUMBER")]
    number: Option<u64>,

    #[command(flatten)]
    table: TableName,

    /// Show JSON, an object a line, each with a "type"
    #[arg(long)]
    json: bool,
}

/// A part of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Header,
    Directory,
    Segment,
    Log,
}

/// Runs the command.
pub fn run(arguments: &Arguments, colour: Colour) -> Outcome {
    let mut view = View {
        output: Output::new(),
        json: arguments.json,
        tables: Tables::new(colour),
        damaged: false,
    };
    match (arguments.part, arguments.number) {
        (Part::Header, None) => header(arguments, &mut view)?,
        (Part::Directory, None) => directory(arguments, &mut view)?,
        (Part::Segment, Some(number)) => segment(arguments, number, &mut view)?,
        (Part::Log, number) => log(arguments, number, &mut view)?,
        (Part::Segment, None) => {
            return Err(Failure::Sentence(
                "the number of the segment is missing; `inspect DB directory` shows them all"
                    .into(),
            ));
        }
        (Part::Header | Part::Directory, Some(number)) => {
            return Err(Failure::Sentence(format!(
                "a number ({number}) makes sense for a segment or for the log only"
            )));
        }
    }
    view.output.finish()?;
    Ok(if view.damaged { Answer::No } else { Answer::Yes })
}

/// Where parts are shown, and how.
struct View {
    output: Output,
    json: bool,
    tables: Tables,
    damaged: bool,
}

impl View {
    /// Shows a part in the form that was asked for.
    fn show(
        &mut self,
        is_damaged: bool,
        json: impl FnOnce() -> serde_json::Value,
        text: impl FnOnce(&Tables, &mut Output) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.damaged |= is_damaged;
        match self.json {
            true => self.output.line(json()),
            false => text(&self.tables, &mut self.output),
        }
    }
}

fn header(arguments: &Arguments, view: &mut View) -> Result<(), Failure> {
    for copy in inspect::header(&arguments.store.path, &arguments.table.table)? {
        let json = || document::header(&copy);
        view.show(copy.damage.is_some(), json, |tables, output| tables.header(output, &copy))?;
    }
    Ok(())
}

fn directory(arguments: &Arguments, view: &mut View) -> Result<(), Failure> {
    let directory = inspect::directory(&arguments.store.path, &arguments.table.table)?;
    let json = || document::root(&directory);
    let is_damaged = directory.damage.is_some();
    view.show(is_damaged, json, |tables, output| tables.root(output, &directory))?;
    for page in directory {
        let json = || document::directory_page(&page);
        let is_damaged = page.damage.is_some();
        view.show(is_damaged, json, |tables, output| tables.directory_page(output, &page))?;
    }
    Ok(())
}

fn segment(arguments: &Arguments, number: u64, view: &mut View) -> Result<(), Failure> {
    let segment = inspect::segment(&arguments.store.path, &arguments.table.table, number)?;
    let is_damaged = segment.damage().next().is_some();
    let json = || document::segment(&segment);
    view.show(is_damaged, json, |tables, output| tables.segment(output, &segment))
}

fn log(arguments: &Arguments, number: Option<u64>, view: &mut View) -> Result<(), Failure> {
    let log = inspect::log(&arguments.store.path)?;
    let mut found = false;
    for file in &log.files {
        if number.is_some_and(|number| number != u64::from(file.number)) {
            continue;
        }
        found = true;
        let json = || document::log_file(file);
        let is_damaged = file.damage.is_some();
        view.show(is_damaged, json, |tables, output| tables.log_file(output, file))?;
        if number.is_none() {
            continue;
        }
        for piece in file.pieces()? {
            // What was torn, and what an earlier life of the file left, lies
            // behind the last record as a rule; whether it is damage, only the
            // whole log can tell.
            let is_damaged = matches!(&piece, Piece::Record(record) if record.damage.is_some());
            let json = || document::piece(&piece);
            view.show(is_damaged, json, |tables, output| tables.piece(output, &piece))?;
        }
    }
    match number {
        Some(number) if !found => {
            let what = format!("log file {number} in {}", arguments.store.path.display());
            Err(swissdb::Error::NotFound { what }.into())
        }
        _ => Ok(()),
    }
}
