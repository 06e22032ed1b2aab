//! swissdb: an embedded key-value store for point access.
//!
//! A Swiss table that lives in a memory-mapped file: groups of control bytes
//! and fixed-size slots laid out directly in the file, a log that makes every
//! commit survive the death of the process, checkpoints beside which readers
//! and writers go on.
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! let db = swissdb::Db::open(dir.path().join("store"))?;
//! db.insert("key", "value")?;
//! assert_eq!(db.get("key")?.as_deref(), Some(&b"value"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to look
//!
//! | for | see |
//! |---|---|
//! | opening, entries, what is durable when | [`Db`] |
//! | settings | [`Options`], [`TableOptions`] |
//! | other tables of the store | [`Db::table`], [`Table`] |
//! | changes that are made together | [`Batch`] |
//! | changes that depend on what is there, as counters | [`Db::update`], [`Db::compare_and_swap`] |
//! | many keys at once | [`Db::multi_get`] |
//! | the store at one moment | [`Snapshot`] |
//! | iteration, also resumed or by several threads | [`Iter`], [`Cursor`], [`Db::scan_partitions`] |
//! | how it is doing, and what would help | [`Db::stats`], [`Stats::advice`] |
//! | copies, checks, repair | [`Db::backup`], [`verify()`], [`salvage()`] |
//! | what can go wrong | [`Error`] |
//!
//! [`Db`], [`Table`] and [`Snapshot`] are handles: cheap to clone, for any
//! thread. The store is open until the last of them is gone, or until
//! [`Db::close`]; an [`Iter`] and a [`Scan`] keep it open as well. Reads take no
//! lock. One write is made at a time, and each is a
//! commit of its own unless a [`Batch`] makes them one; there are no
//! transactions that read and write several keys.
//!
//! # Reading the source
//!
//! ```text
//! words     limits  error  options  hash  histogram  format/{header,directory,group,record}
//! machine   storage/{mod,files,map,memory,epoch,pins,run}
//! parts     table/...     log/...
//! deeds     value  batch  store/...  checkpoint  recovery  catalog  handle  iter  cursor  verify
//!           inspect  clean  pass  compact  upkeep  bulk  rewrite  census  survey  snapshot
//!           target  salvage  backup
//! face      stats  table_handle  db  lib
//! ```
//!
//! Arrows point down only. `table` knows no log, `log` knows no table; the
//! deeds bring them together. `format.md` is the prose on the bytes in files.

mod backup;
mod batch;
mod bulk;
mod catalog;
mod census;
mod checkpoint;
mod clean;
mod compact;
mod cursor;
mod db;
mod error;
mod format;
mod handle;
mod hash;
mod histogram;
pub mod inspect;
mod iter;
mod limits;
mod log;
mod options;
mod pass;
mod recovery;
mod rewrite;
mod salvage;
mod snapshot;
mod stats;
pub mod storage;
mod store;
mod survey;
mod table;
mod table_handle;
mod target;
mod upkeep;
mod value;
mod verify;

pub use backup::{BackedUp, BackupProgress, BackupStep};
pub use batch::Batch;
pub use census::Census;
pub use compact::{CompactProgress, CompactStep, Compacted};
pub use cursor::{Cursor, Scan};
pub use db::Db;
pub use error::{Corruption, Error, Result};
pub use histogram::{Bucket, Histogram};
pub use iter::Iter;
pub use limits::{MAX_KEY_LENGTH, MAX_VALUE_LENGTH};
pub use options::{Durability, HashKind, Options, TableOptions};
pub use rewrite::{Payload, RewriteProgress, Rewritten, change_payload};
pub use salvage::{LostValue, SalvageProgress, SalvageReport, salvage};
pub use snapshot::{Entries, Snapshot, SnapshotTable};
pub use stats::{
    Advice, CheckpointStats, LogFileStats, LogSpace, SnapshotStats, Stats, TableStats, Written,
};
pub use survey::Survey;
pub use table_handle::Table;
pub use value::Value;
pub use verify::{Checked, Report, Violation, verify};

/// The examples of the README compile and run like those in here.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
