//! `swissdb put` and `swissdb del`: one entry in, one entry out.

use clap::Args;

use crate::entry::{Key, Value};
use crate::line::check_lengths;
use crate::opening::{self, Creation, Store, TableName, Writing};
use crate::outcome::{Answer, Outcome, note};

/// Puts one entry into a store
///
/// An entry replaces an older one with the same key. The store and the table
/// are created where they do not exist. When the command has ended the entry
/// survives power loss.
#[derive(Args)]
#[command(after_help = "Examples:
  swissdb put my.swissdb greeting hello
  swissdb put my.swissdb picture < picture.png
  swissdb put --key-b64 my.swissdb AAH/ 'a key that is not text'

Exit status: 0 put, 2 an error.")]
pub struct PutArguments {
    #[command(flatten)]
    store: Store,

    #[command(flatten)]
    key: Key,

    #[command(flatten)]
    value: Value,

    #[command(flatten)]
    table: TableName,

    #[command(flatten)]
    writing: Writing,

    #[command(flatten)]
    creation: Creation,
}

/// Runs `put`.
pub fn put(arguments: &PutArguments) -> Outcome {
    let PutArguments { store, table, writing, creation, .. } = arguments;
    let key = arguments.key.bytes()?;
    let value = arguments.value.bytes()?;
    check_lengths(&key, &value)?;
    let (db, table) = opening::table_to_extend(store, table, writing.options(), creation)?;
    table.insert(key, value)?;
    drop(table);
    db.close()?;
    Ok(Answer::Yes)
}

/// Deletes one entry from a store
///
/// When the command has ended the deletion survives power loss.
#[derive(Args)]
#[command(after_help = "Exit status: 0 deleted, 1 the key was not there, 2 an error.")]
pub struct DelArguments {
    #[command(flatten)]
    store: Store,

    #[command(flatten)]
    key: Key,

    #[command(flatten)]
    table: TableName,

    #[command(flatten)]
    writing: Writing,
}

/// Runs `del`.
pub fn del(arguments: &DelArguments) -> Outcome {
    let key = arguments.key.bytes()?;
    let (db, table) =
        opening::table_to_write(&arguments.store, &arguments.table, &arguments.writing)?;
    let was_there = table.remove(key)?;
    drop(table);
    db.close()?;
    if !was_there {
        note(format_args!("there is no key {:?}", arguments.key.text()));
        return Ok(Answer::No);
    }
    Ok(Answer::Yes)
}
