//! swissdb: an embedded key-value store for point access.
//!
//! A Swiss table that lives in a memory-mapped file: groups of control bytes
//! and fixed-size slots laid out directly in the file, a log that makes every
//! commit survive the death of the process, checkpoints that never stop
//! readers or writers.
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! let db = swissdb::Db::open(dir.path().join("store"))?;
//! db.insert("key", "value")?;
//! assert_eq!(db.get("key")?.as_deref(), Some(&b"value"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Reading the source
//!
//! ```text
//! words     error  options  hash  format/{header,directory,group,record}
//! machine   storage/{mod,files,map,memory,epoch,pins}
//! parts     table/...     log/...
//! deeds     store/...  checkpoint  recovery  iter  verify  inspect
//! face      batch  value  table_handle  db  stats  lib
//! ```
//!
//! Arrows point down only. `table` knows no log, `log` knows no table; the
//! deeds bring them together. `format.md` is the prose on the bytes in files.

mod batch;
mod checkpoint;
mod db;
mod error;
mod format;
mod hash;
mod iter;
mod log;
mod options;
mod recovery;
mod stats;
pub mod storage;
mod store;
mod table;
mod table_handle;
mod value;
mod verify;

pub use batch::Batch;
pub use db::Db;
pub use error::{Corruption, Error, Result};
pub use iter::Iter;
pub use options::{Durability, HashKind, Options, TableOptions};
pub use stats::{LogFileStats, Stats, TableStats};
pub use table_handle::Table;
pub use value::Value;
pub use verify::{Report, Violation};

/// The longest key, in bytes.
pub const MAX_KEY_LENGTH: usize = 32_767;
/// The longest value, in bytes: 1 GiB - 64 KiB.
pub const MAX_VALUE_LENGTH: usize = (1 << 30) - (64 << 10);
