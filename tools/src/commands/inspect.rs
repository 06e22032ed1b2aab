//! `swissdb inspect`: the parts of a store, one by one.
//!
//! The library takes the files apart; here the parts are only shown, as tables
//! for people (`inspect/table.rs`), as bytes with their names (`inspect/hex.rs`)
//! or as JSON (`inspect/document.rs`). Each part is shown as soon as it is
//! read, so a large store needs no memory. Damage is shown beside what it was
//! found in, and makes the exit status 1.

mod document;
mod hex;
mod part;
mod table;

use clap::Args;
use serde_json::json;
use swissdb::Error;
use swissdb::inspect::{self, Field, LogFile, Piece};

use crate::colour::Colour;
use crate::opening::{self, Store, TableName};
use crate::outcome::{Failure, Outcome, answer};
use crate::output::Output;
use part::Part;
use table::Tables;

/// Shows the parts of a store as they lie in its files
///
/// Nothing is replayed and no byte is changed. The words are those of
/// format.md. Damage is shown beside what it was found in, and all that can be
/// decoded in spite of it.
#[derive(Args)]
#[command(after_help = "Parts:
  header        both copies of the header (also without PART)
  directory     the root, the directory pages, all segments
  segment N     every slot of segment N
  group N/M     group M of segment N
  block B       what block B of the table file is, and what it holds
  key KEY       where KEY is or would be: each step of the search, and what the
                log says of it that the table file does not show yet
  log           the log files
  log FILE      every record of a log file, by its number or its name

Examples:
  swissdb inspect packages.swissdb               both copies of the header
  swissdb inspect packages.swissdb segment 7     every slot of a segment
  swissdb inspect packages.swissdb group 7/3     one group of it
  swissdb inspect packages.swissdb key bash      why is bash (not) found?
  swissdb inspect --hex packages.swissdb block 2 each byte, and what it is
  swissdb inspect --json packages.swissdb log 1  every record, as JSON

Exit status: 0 undamaged, 1 damage was found, 2 an error.")]
pub struct Arguments {
    #[command(flatten)]
    store: Store,

    /// The part: header, directory, segment, group, block, key or log
    #[arg(value_enum, value_name = "PART", default_value = "header", hide_default_value = true)]
    #[arg(hide_possible_values = true)]
    part: part::Name,

    /// Which one (write `--` before a key that begins with a dash)
    #[arg(value_name = "WHICH", allow_negative_numbers = true)]
    which: Option<String>,

    /// The key is base64 of the key's bytes
    #[arg(long)]
    key_b64: bool,

    #[command(flatten)]
    table: TableName,

    /// Show the bytes: offset, bytes, and what they are
    ///
    /// A line for each field, with its name in format.md; bytes that must be
    /// zero are called reserved. With --json, an object of the type "field"
    /// for each.
    #[arg(long)]
    hex: bool,

    /// Show JSON, an object a line, each with a "type"
    ///
    /// The types are header, root, directory_page, segment, group, block, key,
    /// log_file, record, gap, field and damage. Names and meanings stay; others
    /// may be added.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments, colour: Colour) -> Outcome {
    let part = Part::parse(arguments.part, arguments.which.as_deref(), arguments.key_b64)?;
    let mut view = View {
        output: Output::new(),
        json: arguments.json,
        hex: arguments.hex,
        tables: Tables::new(colour),
        damaged: false,
    };
    match part {
        Part::Log(_) => part::check_no_table(&arguments.table.table)?,
        _ => opening::check_table_file(&arguments.store, &arguments.table)?,
    }
    let shown = match part {
        Part::Header => header(arguments, &mut view),
        Part::Directory => directory(arguments, &mut view),
        Part::Segment(number) => segment(arguments, number, &mut view),
        Part::Group(segment, number) => group(arguments, segment, number, &mut view),
        Part::Block(number) => block(arguments, number, &mut view),
        Part::Key(key) => search(arguments, &key, &mut view),
        Part::Log(number) => log(arguments, number, &mut view),
    };
    let shown = match shown {
        // What all else hangs from is damaged: that is an answer too.
        Err(Failure::Store(Error::Corrupt(damage))) => {
            let json = || {
                let file = damage.path.display().to_string();
                json!({"type": "damage", "file": file, "offset": damage.offset,
                    "text": damage.to_string()})
            };
            view.show(true, json, |tables, output| tables.corruption(output, &damage))
        }
        other => other,
    };
    answer(!view.damaged, shown.and_then(|()| view.output.finish()))
}

/// Where parts are shown, and how.
struct View {
    output: Output,
    json: bool,
    hex: bool,
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

    /// Shows the bytes of a part, if they were asked for.
    fn bytes(&mut self, fields: impl IntoIterator<Item = Field>) -> Result<(), Failure> {
        if !self.hex {
            return Ok(());
        }
        let mut hex = hex::Hex::new();
        for field in fields {
            self.damaged |= field.damage.is_some();
            match self.json {
                true => self.output.line(document::field(&field))?,
                false => hex.field(&mut self.output, &self.tables, &field)?,
            }
        }
        Ok(())
    }

    /// How much of a part is shown as a table.
    fn detail(&self) -> table::Detail {
        if self.hex { table::Detail::Heading } else { table::Detail::All }
    }
}

fn header(arguments: &Arguments, view: &mut View) -> Result<(), Failure> {
    let detail = view.detail();
    for copy in inspect::header(&arguments.store.path, &arguments.table.table)? {
        let json = || document::header(&copy);
        let is_damaged = copy.damage.is_some();
        view.show(is_damaged, json, |tables, output| tables.header(output, &copy, detail))?;
        view.bytes(copy.fields())?;
    }
    Ok(())
}

fn directory(arguments: &Arguments, view: &mut View) -> Result<(), Failure> {
    let detail = view.detail();
    let directory = inspect::directory(&arguments.store.path, &arguments.table.table)?;
    let json = || document::root(&directory);
    let is_damaged = directory.damage.is_some();
    view.show(is_damaged, json, |tables, output| tables.root(output, &directory))?;
    view.bytes(directory.fields())?;
    for page in directory {
        let json = || document::directory_page(&page);
        let is_damaged = page.damage.is_some();
        view.show(is_damaged, json, |tables, output| tables.directory_page(output, &page, detail))?;
        view.bytes(page.fields())?;
    }
    Ok(())
}

/// A segment, or a sentence that says which there are.
fn find_segment(arguments: &Arguments, number: u64) -> Result<inspect::Segment, Failure> {
    inspect::segment(&arguments.store.path, &arguments.table.table, number).map_err(|error| {
        let Error::NotFound { .. } = error else { return error.into() };
        let store = arguments.store.path.display();
        Failure::Sentence(format!(
            "there is no segment {number}; `swissdb inspect {store} directory` shows them all"
        ))
    })
}

fn segment(arguments: &Arguments, number: u64, view: &mut View) -> Result<(), Failure> {
    let segment = find_segment(arguments, number)?;
    let is_damaged = segment.damage().next().is_some();
    let (detail, hex) = (view.detail(), view.hex);
    if view.json || !hex {
        let json = || document::segment(&segment);
        return view
            .show(is_damaged, json, |tables, output| tables.segment(output, &segment))
            .and_then(|()| view.bytes(segment.pages.iter().flat_map(|page| page.fields())));
    }
    view.damaged |= is_damaged;
    view.tables.segment_heading(&mut view.output, &segment)?;
    for (number, page) in segment.pages.iter().enumerate() {
        view.tables.page(&mut view.output, number, page, detail)?;
        view.bytes(page.fields())?;
    }
    Ok(())
}

fn group(
    arguments: &Arguments,
    segment: u64,
    number: usize,
    view: &mut View,
) -> Result<(), Failure> {
    let found = find_segment(arguments, segment)?;
    let count = found.group_count();
    let Some(page) = found.page_of(number) else {
        return Err(Failure::Sentence(format!(
            "there is no group {number} in segment {segment}; its groups are 0 to {}",
            count.saturating_sub(1)
        )));
    };
    let Some((page, group)) = found.group(number) else {
        let json = || document::absent_group(segment, number, page);
        return view
            .show(true, json, |tables, output| tables.absent_group(output, segment, number, page));
    };
    let is_damaged = !page.damage.is_empty() || document::group_damage(group).next().is_some();
    let json = || document::lone_group(segment, page, group);
    let detail = view.detail();
    view.show(is_damaged, json, |tables, output| {
        tables.lone_group(output, segment, page, group, detail)
    })?;
    view.bytes(page.group_fields(group))
}

fn block(arguments: &Arguments, number: u64, view: &mut View) -> Result<(), Failure> {
    let block = inspect::block(&arguments.store.path, &arguments.table.table, number);
    let block = block?;
    let is_damaged = document::block_is_damaged(&block);
    let detail = view.detail();
    let json = || document::block(&block);
    view.show(is_damaged, json, |tables, output| tables.block(output, &block, detail))?;
    view.bytes(block.fields().iter().cloned())
}

fn search(arguments: &Arguments, key: &[u8], view: &mut View) -> Result<(), Failure> {
    let table = &arguments.table.table;
    let search = inspect::key(&arguments.store.path, table, key)?;
    let is_damaged = document::search_is_damaged(&search);
    let json = || document::search(&search);
    view.show(is_damaged, json, |tables, output| tables.search(output, table, &search))?;
    view.bytes(search.fields().iter().cloned())
}

fn log(arguments: &Arguments, number: Option<u32>, view: &mut View) -> Result<(), Failure> {
    let log = inspect::log(&arguments.store.path)?;
    let mut found = false;
    for file in &log.files {
        if number.is_none_or(|number| number == file.number) {
            found = true;
            let json = || document::log_file(file);
            let is_damaged = file.damage.is_some();
            view.show(is_damaged, json, |tables, output| tables.log_file(output, file))?;
            view.bytes(file.fields())?;
            if number.is_some() {
                records(file, view)?;
            }
        }
    }
    match number {
        Some(number) if !found => {
            let store = arguments.store.path.display();
            let known = format!("`swissdb inspect {store} log` shows them all");
            Err(Failure::Sentence(format!("there is no log file {number}; {known}")))
        }
        _ => Ok(()),
    }
}

/// Shows what lies in a log file, one piece after the other.
fn records(file: &LogFile, view: &mut View) -> Result<(), Failure> {
    let detail = view.detail();
    for piece in file.pieces()? {
        // What was torn, and what an earlier life of the file left, lies
        // behind the last record as a rule; whether it is damage, only the
        // whole log can tell.
        let is_damaged = matches!(&piece, Piece::Record(record) if record.damage.is_some());
        let json = || document::piece(&piece);
        view.show(is_damaged, json, |tables, output| tables.piece(output, &piece, detail))?;
        if view.hex {
            view.bytes(file.piece_fields(&piece)?)?;
        }
    }
    Ok(())
}
