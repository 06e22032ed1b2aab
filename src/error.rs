//! What can go wrong, in sentences.
//!
//! There is one error type for the whole library. Each kind says what failed,
//! on which file and where in it, what was expected and found, and what the
//! reader of the message can do next. Nothing here knows how the store works;
//! every other module depends on this one.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::limits::{MAX_KEY_LENGTH, MAX_VALUE_LENGTH};

/// The result of every operation of the store.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation of the store failed.
///
/// An operation that returns an error has changed nothing, with one
/// exception: [`Error::Poisoned`] and an [`Error::Io`] from a write or a sync
/// may leave a commit whose fate is known only after the store is reopened,
/// when it is there whole or not at all.
///
/// ```
/// let error = swissdb::Db::in_memory()?.insert(vec![0; 40_000], "v").unwrap_err();
/// assert!(matches!(error, swissdb::Error::KeyTooLong { length: 40_000 }));
/// # Ok::<(), swissdb::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation.
    Io {
        /// What was being done, as in "write to".
        doing: &'static str,
        /// The file or directory it was done to.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Bytes of the store are not what was written. The rest stays readable.
    Corrupt(Box<Corruption>),
    /// Another process, or another opening in this one, has the store open.
    Locked {
        /// The directory of the store.
        path: PathBuf,
        /// The process that opened it, where its number could be read. A child that
        /// was forked from it holds the store as well, and longer perhaps.
        pid: Option<u32>,
    },
    /// A file was written by a version of swissdb that this one does not know.
    Version {
        /// The file.
        path: PathBuf,
        /// The version or identifier found in it.
        found: u32,
        /// The newest one this program reads.
        supported: u32,
    },
    /// There is no store, or no table of that name, and none may be created.
    NotFound {
        /// What was looked for: a path, or a table's name.
        what: String,
    },
    /// A key is longer than [`MAX_KEY_LENGTH`](crate::MAX_KEY_LENGTH) bytes.
    KeyTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A value is longer than [`MAX_VALUE_LENGTH`](crate::MAX_VALUE_LENGTH) bytes.
    ValueTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A batch does not fit one record of the log or the memory for changed pages.
    BatchTooLarge {
        /// What the batch needs, in bytes; of memory for changed pages at least this.
        needed: u64,
        /// What is there at most, in bytes: 1 GiB of log, or twice the write buffer and
        /// some more.
        limit: u64,
    },
    /// A setting, a table's name or another argument is not acceptable.
    InvalidArgument {
        /// Which one, and what would be accepted.
        what: String,
    },
    /// So many keys share their hash that no segment can hold them.
    HashCollisions {
        /// The table.
        table: String,
    },
    /// An earlier write or sync failed; nothing is written until the store is reopened.
    Poisoned {
        /// The first failure, in words.
        cause: String,
    },
    /// The store was opened for reading only.
    ReadOnly,
    /// The store was closed, or this process is a fork of the one that opened it.
    Closed {
        /// Which of the two, and what to do.
        why: &'static str,
    },
}

/// Where bytes of a store are not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Corruption {
    /// The file.
    pub path: PathBuf,
    /// The offset in that file, in bytes.
    pub offset: u64,
    /// Which part of the format it is.
    pub what: String,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl Error {
    /// Wraps what the operating system said.
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Error {
        Error::Io { doing, path: path.into(), source }
    }

    /// Reports bytes that are not what was written.
    pub(crate) fn corrupt(
        path: impl Into<PathBuf>,
        offset: u64,
        what: impl Into<String>,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Error {
        Error::Corrupt(Box::new(Corruption {
            path: path.into(),
            offset,
            what: what.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        }))
    }

    /// Refuses an argument.
    pub(crate) fn invalid(what: impl Into<String>) -> Error {
        Error::InvalidArgument { what: what.into() }
    }

    /// Whether the device is full: the one failure that does not poison.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Error::Io { source, .. } if matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        ))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { doing, path, source } => {
                write!(f, "could not {doing} {}: {source}", path.display())?;
                f.write_str(match source.kind() {
                    _ if self.is_full() => {
                        "; free some space (removing entries is still possible) and try again"
                    }
                    io::ErrorKind::NotFound if *doing == "create" => {
                        "; its directory has to be there first"
                    }
                    io::ErrorKind::PermissionDenied => {
                        "; change who may read and write it, or try as somebody who may"
                    }
                    io::ErrorKind::ReadOnlyFilesystem => {
                        "; there a store can only be opened for reading"
                    }
                    _ => "",
                })
            }
            Error::Corrupt(corruption) => corruption.fmt(f),
            Error::Locked { path, pid } => {
                write!(f, "the store {} is open ", path.display())?;
                match pid {
                    Some(pid) => {
                        write!(f, "in process {pid}, or in a child forked from it")?;
                    }
                    None => f.write_str("elsewhere")?,
                }
                f.write_str("; close it there first")
            }
            Error::Version { path, found, supported } => write!(
                f,
                "{} has format version {found}, but this program reads versions up to \
                 {supported}; use a newer swissdb",
                path.display()
            ),
            Error::NotFound { what } => write!(f, "there is no {what}"),
            Error::KeyTooLong { length } => {
                write!(f, "the key has {length} bytes, but at most {MAX_KEY_LENGTH} are possible")
            }
            Error::ValueTooLong { length } => write!(
                f,
                "the value has {length} bytes, but at most {MAX_VALUE_LENGTH} are possible"
            ),
            Error::BatchTooLarge { needed, limit } => write!(
                f,
                "the batch needs {needed} bytes of log or of pages that it changes, but at most \
                 {limit} are possible; write it as several batches, or, if it has less than 1 GiB, \
                 open the store with a larger write buffer"
            ),
            Error::InvalidArgument { what } => f.write_str(what),
            Error::HashCollisions { table } => write!(
                f,
                "too many keys of table {table} have the same hash; if it uses HashKind::Fast for \
                 keys that others choose, create it with HashKind::Sip"
            ),
            Error::Poisoned { cause } => write!(
                f,
                "the store takes no more writes after a failure ({cause}); close it and open it \
                 again"
            ),
            Error::ReadOnly => f.write_str("the store is open read-only; open it for writing"),
            Error::Closed { why } => f.write_str(why),
        }
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is damaged at offset {}: {} should be {}, but is {}; run `swissdb verify` to see \
             all damage, `swissdb salvage` to save the rest in a new store",
            self.path.display(),
            self.offset,
            self.what,
            self.expected,
            self.found
        )
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
