//! How stores and tables are opened, for reading and for writing.
//!
//! A command that only reads opens the store read-only: it shares the lock
//! with other readers and changes no byte, even where the last writer was
//! killed. A command that writes closes the store at its end, which makes all
//! of it durable; a command that fails leaves it to the next opening.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use swissdb::{Db, HashKind, Options, Table, TableOptions};

use crate::outcome::Failure;
use crate::size;

/// The name of the table that every store has.
pub const DEFAULT_TABLE: &str = "default";

/// Which store.
#[derive(Args)]
pub struct Store {
    /// The store, a directory
    #[arg(value_name = "DB")]
    pub path: PathBuf,
}

/// Which table of a store.
#[derive(Args)]
pub struct TableName {
    /// The table, instead of the default one
    #[arg(long, value_name = "NAME", default_value = DEFAULT_TABLE, hide_default_value = true)]
    pub table: String,
}

/// How to open a store for writing.
#[derive(Args)]
pub struct Writing {
    /// Memory for changed pages, as in 64M
    ///
    /// More of it makes large loads write less; less of it makes them
    /// checkpoint more often.
    #[arg(long, value_name = "SIZE", value_parser = size::parse, allow_negative_numbers = true)]
    write_buffer: Option<usize>,
}

impl Writing {
    /// Options with that.
    pub fn options(&self) -> Options {
        with_buffer(Options::new(), self.write_buffer)
    }
}

/// How much memory a new store may use while it is written.
#[derive(Args)]
pub struct Buffer {
    /// Memory for changed pages of the new store, as in 64M
    #[arg(long, value_name = "SIZE", value_parser = size::parse, allow_negative_numbers = true)]
    write_buffer: Option<usize>,
}

impl Buffer {
    /// Options with that.
    pub fn set_in(&self, options: Options) -> Options {
        with_buffer(options, self.write_buffer)
    }
}

fn with_buffer(options: Options, bytes: Option<usize>) -> Options {
    match bytes {
        Some(bytes) => options.write_buffer(bytes),
        None => options,
    }
}

/// What is fixed when a table is created.
#[derive(Args)]
pub struct Creation {
    /// Bytes of a slot for key and value, 24 to 504 in steps of 8
    ///
    /// Fixed when the table is created; 56 by default. Entries that do not
    /// fit keep their value, or both, in the log.
    #[arg(long, value_name = "SIZE", value_parser = size::parse, allow_negative_numbers = true)]
    pub slot_payload: Option<usize>,

    /// The hash of the table, fixed when it is created; sip by default
    #[arg(long, value_enum, value_name = "KIND")]
    pub hash: Option<Hash>,
}

/// The hash of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Hash {
    /// Safe with keys that strangers choose
    Sip,
    /// Faster, for keys that nobody chooses to collide
    Fast,
}

impl Hash {
    fn kind(self) -> HashKind {
        match self {
            Hash::Sip => HashKind::Sip,
            Hash::Fast => HashKind::Fast,
        }
    }
}

/// Opens an existing store so that no byte of it changes.
pub fn to_read(store: &Store) -> Result<Db, Failure> {
    Ok(Options::new().read_only(true).create(false).open(&store.path)?)
}

/// Opens an existing store and a table of it so that no byte changes.
pub fn table_to_read(store: &Store, name: &TableName) -> Result<(Db, Table), Failure> {
    let db = to_read(store)?;
    let table = existing_table(&db, name)?;
    Ok((db, table))
}

/// Opens an existing store for writing.
pub fn to_write(store: &Store, writing: &Writing) -> Result<Db, Failure> {
    Ok(writing.options().create(false).open(&store.path)?)
}

/// Opens an existing table of an existing store for writing.
pub fn table_to_write(
    store: &Store,
    name: &TableName,
    writing: &Writing,
) -> Result<(Db, Table), Failure> {
    let db = to_write(store, writing)?;
    let table = existing_table(&db, name)?;
    Ok((db, table))
}

fn existing_table(db: &Db, name: &TableName) -> Result<Table, Failure> {
    check_table(&name.table, &db.tables()?)?;
    Ok(db.table(&name.table)?)
}

/// Refuses a table that is not among these, and says which are there.
pub fn check_table(name: &str, tables: &[String]) -> Result<(), Failure> {
    if tables.iter().any(|table| table == name) {
        return Ok(());
    }
    let tables = tables.join(", ");
    Err(Failure::Sentence(format!("there is no table {name}; choose one with --table: {tables}")))
}

/// The same in the files of a store, which may be damaged.
pub fn check_table_file(store: &Store, name: &TableName) -> Result<(), Failure> {
    let tables = swissdb::inspect::tables(&store.path)?;
    if tables.is_empty() {
        let (name, path) = (&name.table, store.path.display());
        let text = format!("there is no table {name}; {path} has no table file at all");
        return Err(Failure::Sentence(text));
    }
    check_table(&name.table, &tables)
}

/// Opens a store and a table for writing with these options, and creates what
/// is not there.
pub fn table_to_extend(
    store: &Store,
    name: &TableName,
    options: Options,
    creation: &Creation,
) -> Result<(Db, Table), Failure> {
    let is_default = name.table == DEFAULT_TABLE;
    let mut options = options.create(true);
    let mut table_options = TableOptions::new();
    if let Some(bytes) = creation.slot_payload {
        table_options = table_options.payload(bytes);
        options = if is_default { options.payload(bytes) } else { options };
    }
    if let Some(hash) = creation.hash {
        table_options = table_options.hash(hash.kind());
        options = if is_default { options.hash(hash.kind()) } else { options };
    }
    if !store.path.exists() {
        // A name or a size that is refused must not leave an empty store behind.
        options.in_memory()?.create_table(&name.table, &table_options)?;
    }
    let db = options.open(&store.path)?;
    let table = match is_default {
        true => db.table(DEFAULT_TABLE)?,
        false => db.create_table(&name.table, &table_options)?,
    };
    agree(&db, name, creation)?;
    Ok((db, table))
}

/// Refuses to go on with a table that was created otherwise than is asked for
/// now: ignoring the wish would leave people in the belief that it was met.
fn agree(db: &Db, name: &TableName, creation: &Creation) -> Result<(), Failure> {
    let stats = db.stats();
    let Some(table) = stats.tables.iter().find(|table| table.name == name.table) else {
        return Ok(());
    };
    if let Some(wanted) = creation.slot_payload
        && wanted as u64 != table.payload as u64
    {
        let text = format!(
            "the table {} has slots of {} bytes; leave --slot-payload out, or change them first \
             with `swissdb compact --slot-payload`",
            name.table, table.payload
        );
        return Err(Failure::Sentence(text));
    }
    if let Some(wanted) = creation.hash
        && wanted.kind() != table.hash
    {
        let text = format!(
            "the table {} was created with the hash {}, and that cannot be changed; leave --hash out",
            name.table,
            format!("{:?}", table.hash).to_lowercase()
        );
        return Err(Failure::Sentence(text));
    }
    Ok(())
}
