//! `swissdb compact`: a store as small as it gets.

use std::sync::Arc;

use clap::Args;
use swissdb::storage::files::Files;
use swissdb::{CompactProgress, Options, Payload};

use crate::interrupt::Interrupt;
use crate::opening::{self, DEFAULT_TABLE, Store, Writing};
use crate::outcome::{Answer, Failure, Outcome, note};
use crate::progress::{Progress, Steps};
use crate::size;

/// Makes a store as small as it gets
///
/// Segments become as full as may be, table files have no gaps and end behind
/// their last page, and the log keeps only what entries need. A store gives
/// space back by itself too; this is for one that will not change for a while.
/// Ctrl-C, and killing the command at any moment, lose nothing: the store is
/// partly compacted then.
#[derive(Args)]
#[command(after_help = "Examples:
  swissdb compact my.swissdb
  swissdb compact my.swissdb --slot-payload auto   find the best slot size first

Exit status: 0 done, 2 an error, 130 interrupted.")]
pub struct Arguments {
    #[command(flatten)]
    store: Store,

    #[command(flatten)]
    writing: Writing,

    /// Give a table other slots first: a size, or auto
    ///
    /// Slots hold 24 to 504 bytes of key and value, in steps of 8. With auto
    /// all entries are measured and the size is taken that makes the store
    /// smallest; what was found is told. The table is built anew beside the old
    /// one, which is replaced when the new one is whole.
    #[arg(long, value_name = "SIZE", value_parser = payload, allow_negative_numbers = true)]
    slot_payload: Option<Payload>,

    /// The table that gets other slots, instead of the default one
    ///
    /// What makes the store small is done for all tables.
    #[arg(long, value_name = "NAME", requires = "slot_payload")]
    table: Option<String>,
}

/// Reads the argument of --slot-payload.
fn payload(text: &str) -> Result<Payload, String> {
    match text {
        "auto" => Ok(Payload::Auto),
        _ => size::parse(text).map(Payload::Bytes),
    }
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Outcome {
    let store = &arguments.store;
    let before = on_disk(store);
    let interrupt = Interrupt::noted();
    if let Some(payload) = arguments.slot_payload {
        let table = arguments.table.as_deref().unwrap_or(DEFAULT_TABLE);
        let options = arguments.writing.options();
        change_payload(store, &options, table, payload, &interrupt)?;
    }
    let db = opening::to_write(store, &arguments.writing)?;
    let mut steps = Steps::default();
    let compacted = db.compact_with(|progress| {
        show(&mut steps, progress);
        interrupt.flow()
    })?;
    drop(steps);
    db.close()?;
    if !compacted.finished {
        return Err(Failure::Interrupted("the store is partly compacted"));
    }
    let after = on_disk(store);
    note(format_args!(
        "compacted {}: {} on disk, before {}",
        store.path.display(),
        size::show(after),
        size::show(before)
    ));
    Ok(Answer::Yes)
}

/// Gives a table other slots, and says what was found and done.
fn change_payload(
    store: &Store,
    options: &Options,
    table: &str,
    payload: Payload,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let bar = Progress::of_share("rewriting the table");
    let files = Arc::new(Files::new(&store.path));
    let rewritten = options.change_payload_on(files, table, payload, |progress| {
        bar.stand_at(progress.entries as f64 / progress.total.max(1) as f64);
        interrupt.flow()
    })?;
    drop(bar);
    if !rewritten.finished {
        return Err(Failure::Interrupted("the store is as it was"));
    }
    if let Some(census) = &rewritten.census {
        note(census);
    }
    match rewritten.payload == rewritten.payload_before {
        true => note(format_args!("table {table} keeps slots of {} bytes", rewritten.payload)),
        false => note(format_args!(
            "table {table} has slots of {} bytes now, before {}",
            rewritten.payload, rewritten.payload_before
        )),
    }
    if !rewritten.damage.is_empty() {
        note(format_args!(
            "{} damaged values were kept as they are; swissdb verify names them",
            rewritten.damage.len() as u64 + rewritten.unlisted
        ));
    }
    Ok(())
}

/// Shows how far it is, with a bar for each step of each table.
fn show(steps: &mut Steps, progress: &CompactProgress) {
    let what = match &progress.table {
        Some(table) => format!("{} of table {table}", progress.step),
        None => progress.step.to_string(),
    };
    steps.stand_at(&what, progress.done);
}

/// What the files of a store take on the disk, in bytes, as the file system
/// says; what cannot be asked counts nothing.
pub fn on_disk(store: &Store) -> u64 {
    let files = |directory: &std::path::Path| -> u64 {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).filter(|m| m.is_file()).map(taken).sum()
    };
    files(&store.path) + files(&store.path.join("log"))
}

#[cfg(unix)]
fn taken(file: std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(&file) * 512
}

#[cfg(not(unix))]
fn taken(file: std::fs::Metadata) -> u64 {
    file.len()
}
