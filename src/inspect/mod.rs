//! Looking at the files of a store, part by part.
//!
//! What is shown is what lies in the files: headers, directory, segments with
//! their slots, records of the log. Nothing is replayed and no byte is changed;
//! a store that is open for writing is [locked](crate::Error::Locked), others
//! may read it meanwhile. Damage is no error: it stands beside what it was found
//! in, and as much as possible of the rest is decoded. Whether a store as a
//! whole is undamaged, [`verify`](crate::verify) says.
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("store");
//! let db = swissdb::Db::open(&path)?;
//! db.insert("apple", "red")?;
//! db.close()?;
//!
//! let newest = swissdb::inspect::header(&path, "default")?.into_iter().find(|copy| copy.counts);
//! assert_eq!(newest.and_then(|copy| copy.header).map(|header| header.used), Some(1));
//!
//! let segment = swissdb::inspect::segment(&path, "default", 0)?;
//! let entry = segment.entries().next().expect("an entry");
//! assert_eq!(entry.key.as_deref(), Some(&b"apple"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```text
//! header     both copies of a table file's header
//! directory  root, directory pages, and the segments they speak of
//! segment    one segment: pages, groups, slots
//! block      what a block of a table file is, and what it holds
//! key        where a key would be, and every step of the search for it
//! news       what the log says of a key that the table file does not show yet
//! log        log files
//! records    their records, and what lies between them
//! map        what lies where, all at once
//! fields     bytes, and what they are
//! ```
//!
//! Every part knows its bytes: `fields()` shows them one by one, each with its
//! name in format.md. No number that stands in a file is believed before it is
//! bounded, so that no bytes whatever can make a panic, an endless loop, or a
//! demand for more memory than the files themselves are long.

mod block;
mod directory;
mod fields;
mod header;
mod key;
mod log;
mod map;
mod news;
mod records;
mod segment;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{BLOCK, Fault, is_table_name};
use crate::storage::files::Files;
use crate::storage::{Access, File, Lock, LockOutcome, Storage};

pub use block::{Block, Content, FreeMapPart, Role, RootPart, RootRun};
pub use directory::{Directory, DirectoryPage, PageRef, SegmentRecord};
pub use fields::Field;
pub use header::{Header, HeaderCopy, Position, Run, State};
pub use key::{Candidate, Search, SearchResult, Step, Verdict};
pub use log::{Activation, Log, LogFile};
pub use map::{BlockUse, FileDamage, LogSpace, LogState, StoreMap, map, map_with};
pub use news::{Newer, News};
pub use records::{Gap, Kind, Operation, Piece, Record, Records};
pub use segment::{Address, Entry, Group, Page, Segment, Slot};

/// Something that the format does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// Where, in bytes from the beginning of the file.
    pub offset: u64,
    /// What is wrong.
    pub text: String,
}

impl Damage {
    fn new(offset: u64, text: impl Into<String>) -> Damage {
        Damage { offset, text: text.into() }
    }

    /// A fault in something that begins at `base`.
    fn of(fault: Fault, base: u64) -> Damage {
        let Fault { offset, what, expected, found, .. } = fault;
        Damage::new(base + offset, format!("{what} should be {expected}, but is {found}"))
    }

    /// A read that failed.
    fn unreadable(offset: u64, error: &std::io::Error) -> Damage {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Damage::new(offset, "the file ends here"),
            _ => Damage::new(offset, format!("it cannot be read: {error}")),
        }
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at offset {}: {}", self.offset, self.text)
    }
}

/// The names of the tables whose files lie in a store, in alphabetical order,
/// whatever these files hold.
///
/// # Errors
///
/// [`Error::NotFound`], [`Error::Locked`], [`Error::Io`].
pub fn tables(path: impl AsRef<Path>) -> Result<Vec<String>> {
    tables_of(&Store::open(path.as_ref())?)
}

fn tables_of(store: &Store) -> Result<Vec<String>> {
    let names = store.storage.list("");
    let names = names.map_err(|error| Error::io("list", store.storage.path(""), error))?;
    let mut names: Vec<String> = names
        .iter()
        .filter_map(|name| name.strip_suffix(".swiss"))
        .filter(|name| is_table_name(name.as_bytes()))
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// Both copies of the header of a table. One of them counts if any is valid.
///
/// # Errors
///
/// [`Error::NotFound`] if there is no such store or table, [`Error::Locked`],
/// [`Error::Io`].
pub fn header(path: impl AsRef<Path>, table: &str) -> Result<Vec<HeaderCopy>> {
    let store = Store::open(path.as_ref())?;
    Ok(header::read(&store.table(table)?))
}

/// The root of a table and, as an iterator, its directory pages. The store is
/// locked for others' writing as long as it lives.
///
/// # Errors
///
/// As [`header`]; [`Error::Corrupt`] if no header copy is valid.
pub fn directory(path: impl AsRef<Path>, table: &str) -> Result<Directory> {
    let store = Store::open(path.as_ref())?;
    let file = store.table(table)?;
    let header = header::newest(&file)?;
    Ok(Directory::new(store, file, header))
}

/// The segment of that number, counted in hash order from 0 over all directory
/// pages that can be read. Costs a walk through the directory before it.
///
/// # Errors
///
/// As [`directory`]; [`Error::NotFound`] if there are not so many segments.
pub fn segment(path: impl AsRef<Path>, table: &str, number: u64) -> Result<Segment> {
    segment::read(directory(path, table)?, number)
}

/// The files of the log, in the order of their numbers. The store is locked
/// for others' writing as long as any of them lives.
///
/// # Errors
///
/// [`Error::NotFound`], [`Error::Locked`], [`Error::Io`].
pub fn log(path: impl AsRef<Path>) -> Result<Log> {
    log::read(Store::open(path.as_ref())?)
}

/// What a block of a table file is, and what it holds. Costs a walk through
/// the directory.
///
/// ```
/// use swissdb::inspect::{Content, Role};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("store");
/// swissdb::Db::open(&path)?.close()?;
/// let block = swissdb::inspect::block(&path, "default", 1)?;
/// assert_eq!(block.roles, [Role::Header { copy: 1 }]);
/// assert!(matches!(block.content, Content::Header(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`header`]; [`Error::NotFound`] if the file has not so many blocks. That
/// no header is valid is no error: the block is shown for itself then.
pub fn block(path: impl AsRef<Path>, table: &str, number: u64) -> Result<Block> {
    let store = Store::open(path.as_ref())?;
    let file = store.table(table)?;
    block::read(store, file, number)
}

/// Where a key would be, step by step: its hash, the way through the
/// directory, the groups that a search visits, and what the log behind L says
/// of it. Costs a walk through the directory before it, and through the log
/// behind L.
///
/// ```
/// use swissdb::inspect::SearchResult;
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("store");
/// let db = swissdb::Db::open(&path)?;
/// db.insert("apple", "red")?;
/// db.close()?;
/// let search = swissdb::inspect::key(&path, "default", b"apple")?;
/// assert!(matches!(search.result, SearchResult::Found(_)));
/// assert_eq!(search.steps.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`directory`]; [`Error::KeyTooLong`] for a key that no table can have.
pub fn key(path: impl AsRef<Path>, table: &str, key: &[u8]) -> Result<Search> {
    if key.len() > crate::MAX_KEY_LENGTH {
        return Err(Error::KeyTooLong { length: key.len() });
    }
    key::search(directory(path, table)?, key)
}

/// A store that is looked at.
#[derive(Clone)]
struct Store {
    storage: Arc<dyn Storage>,
    _lock: Arc<Lock>,
}

impl Store {
    fn open(path: &Path) -> Result<Store> {
        let storage: Arc<dyn Storage> = Arc::new(Files::new(path));
        if !path.is_dir() {
            return Err(Error::NotFound { what: format!("store at {}", path.display()) });
        }
        match storage.lock(false) {
            Ok(LockOutcome::Held(lock)) => Ok(Store { storage, _lock: Arc::new(lock) }),
            Ok(LockOutcome::Busy(pid)) => Err(Error::Locked { path: path.to_path_buf(), pid }),
            Err(error) => Err(Error::io("lock", path, error)),
        }
    }

    fn table(&self, name: &str) -> Result<TableFile> {
        let absent = || Error::NotFound { what: format!("table {name}") };
        if !is_table_name(name.as_bytes()) {
            return Err(absent());
        }
        let name = format!("{name}.swiss");
        let path = self.storage.path(&name);
        match self.storage.open(&name, Access::Read) {
            Ok(file) => Ok(TableFile { path, file }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(absent()),
            Err(error) => Err(Error::io("open", path, error)),
        }
    }
}

/// A table file that is looked at.
#[derive(Clone)]
struct TableFile {
    path: PathBuf,
    file: Arc<dyn File>,
}

impl TableFile {
    /// A block.
    fn block(&self, block: u32) -> std::result::Result<Box<[u8; BLOCK]>, Damage> {
        let mut bytes = Box::new([0; BLOCK]);
        let offset = u64::from(block) * BLOCK as u64;
        let read = self.file.read_at(&mut bytes[..], offset);
        read.map_err(|error| Damage::unreadable(offset, &error))?;
        Ok(bytes)
    }
}

/// The bytes of a block that a part was decoded from, if they could be read.
#[derive(Clone, Default, PartialEq, Eq)]
struct Raw(Option<Arc<[u8; BLOCK]>>);

impl Raw {
    fn new(bytes: Box<[u8; BLOCK]>) -> Raw {
        Raw(Some(Arc::from(bytes)))
    }

    fn bytes(&self) -> Option<&[u8; BLOCK]> {
        self.0.as_deref()
    }
}

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "4096 bytes" } else { "nothing" })
    }
}
