//! `swissdb stats`: what a store consists of, and what would make it better.
//!
//! The numbers that the store knows are shown at once; what takes a look at
//! every entry is collected table by table behind a progress bar, unless
//! `--quick` says not to. Both are shown by [`text`] for people or by
//! [`document`] for programs.

mod document;
mod text;

use clap::Args;
use swissdb::{Advice, Db, Stats, Survey, TableStats};

use crate::opening::{self, Store};
use crate::outcome::{Answer, Failure, Outcome, note};
use crate::output::Output;
use crate::progress::Progress;

/// Entries after which the progress bar is drawn again.
const EACH: u64 = 10_000;

/// Shows sizes, counts and how searches go, and what could be better
///
/// Every entry is looked at, which takes as long as reading the table files;
/// values in the log are not read. With --quick only what the store knows by
/// itself is shown.
///
/// The JSON document is described, field by field, in tools/stats.schema.json
/// of the sources (JSON Schema 2020-12). Names and meanings of its fields stay
/// the same from version to version; others may be added. Sizes are in bytes,
/// times in seconds.
#[derive(Args)]
#[command(after_help = "Exit status: 0 shown, 2 an error.")]
pub struct Arguments {
    #[command(flatten)]
    store: Store,

    /// Show one table only
    #[arg(long, value_name = "NAME")]
    table: Option<String>,

    /// Show a JSON document, described in tools/stats.schema.json
    #[arg(long)]
    json: bool,

    /// Do not look at the entries: show what is known at once
    #[arg(long)]
    quick: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Outcome {
    let db = opening::to_read(&arguments.store)?;
    let path = arguments.store.path.display().to_string();
    let look = Look::at(&db, path, arguments.table.as_deref(), arguments.quick)?;
    for survey in look.surveys.iter().filter(|survey| survey.census.unreadable > 0) {
        let what = match survey.census.unreadable {
            1 => format!("1 segment of table {} is damaged and was", survey.census.table),
            n => format!("{n} segments of table {} are damaged and were", survey.census.table),
        };
        note(format_args!("{what} left out; `swissdb verify` tells more"));
    }
    let mut output = Output::new();
    match arguments.json {
        true => output.json(&document::document(&look))?,
        false => text::text(&mut output, &look)?,
    }
    output.finish()?;
    Ok(Answer::Yes)
}

/// Everything that is shown.
struct Look {
    /// What the store is called here.
    path: String,
    stats: Stats,
    /// One for each table, or none at all.
    surveys: Vec<Survey>,
    advice: Vec<Advice>,
}

impl Look {
    fn at(db: &Db, path: String, table: Option<&str>, quick: bool) -> Result<Look, Failure> {
        let mut stats = db.stats();
        if let Some(name) = table {
            opening::check_table(name, &db.tables()?)?;
            stats.tables.retain(|table| table.name == name);
        }
        let mut surveys = Vec::new();
        if !quick {
            let mut progress =
                Progress::of_entries(stats.tables.iter().map(|t| t.entries).sum(), true);
            for table in &stats.tables {
                surveys.push(survey(db, &table.name, &mut progress)?);
            }
        }
        let censuses: Vec<_> = surveys.iter().map(|survey| &survey.census).collect();
        let advice = stats.advice(&censuses);
        Ok(Look { path, stats, surveys, advice })
    }

    fn survey_of(&self, table: &str) -> Option<&Survey> {
        self.surveys.iter().find(|survey| survey.census.table == table)
    }
}

/// Surveys a table; its entries advance the bar.
fn survey(db: &Db, name: &str, progress: &mut Progress) -> Result<Survey, Failure> {
    let mut shown = 0;
    let survey = db.table(name)?.survey(|entries| {
        // There are a hundred thousand segments in a large store.
        if entries >= shown + EACH {
            progress.advance(entries - shown, progress.entries() + entries - shown);
            shown = entries;
        }
    })?;
    Ok(survey)
}

/// What a table's hash is called on the command line.
fn hash_name(table: &TableStats) -> String {
    format!("{:?}", table.hash).to_lowercase()
}

/// The command that follows an advice, if there is one.
fn command(look: &Look, advice: &Advice) -> Option<String> {
    let compact = format!("swissdb compact {}", quoted(&look.path));
    match advice {
        Advice::Snapshots { .. } | Advice::WriteBuffer { .. } => None,
        Advice::SlotPayload { table, better, .. } if table == "default" => {
            Some(format!("{compact} --slot-payload {better}"))
        }
        Advice::SlotPayload { table, better, .. } => {
            Some(format!("{compact} --table {table} --slot-payload {better}"))
        }
        _ => Some(compact),
    }
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    match path.chars().all(plain) {
        true => path.to_owned(),
        false => format!("'{}'", path.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests;
