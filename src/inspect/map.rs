//! The map of a store: what every block of a table file holds, how full every
//! segment is, and how much of every log file is still needed.
//!
//! All of it is small: a few bytes for a block, some tens for a segment. So
//! the map of a large store fits in memory, and whoever draws it sees the whole
//! at once. Nothing is judged here that [`verify`](crate::verify) judges: keys,
//! lookups and sums are left alone. What the map needs is checked, and what
//! fails is shown as damaged in its place.
//!
//! ```text
//! map.rs   what a map consists of
//! blocks   the walk through a table file: directory first, then all pages
//!          from front to back
//! logs     the files of the log
//! ```
//!
//! The map shows what lies in the files: the table as of its last checkpoint,
//! and beside it the part of the log that an opening would replay.

mod blocks;
mod logs;

use std::path::Path;

use crate::error::Result;

use super::{Damage, Header, SegmentRecord, Store};

/// The largest number of pieces of damage that a map tells of.
const MOST_DAMAGE: usize = 1000;

/// What lies where in a store.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StoreMap {
    /// The header of the table that counts; `None` if neither copy is valid.
    pub header: Option<Header>,
    /// Slots in a page of the table; 0 without a header.
    pub slots_per_page: u32,
    /// The segments that can be found, in hash order. Where the directory is
    /// damaged there are gaps between them.
    pub segments: Vec<SegmentRecord>,
    /// What each block of the table file holds, in the order of the file.
    pub blocks: Vec<BlockUse>,
    /// The files of the log, in the order of their numbers.
    pub log: Vec<LogSpace>,
    /// What is wrong: the first 1,000 pieces of damage.
    pub damage: Vec<FileDamage>,
}

/// What a block of a table file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockUse {
    /// A copy of the header.
    Header,
    /// A piece of the root.
    Root,
    /// A piece of the free map.
    FreeMap,
    /// A directory page.
    Directory,
    /// A page of a segment.
    Page {
        /// Entries in it.
        used: u8,
        /// Deleted slots in it.
        tombstones: u8,
    },
    /// Nothing that is needed.
    Free,
    /// Nothing that is needed, and no bytes on the device: it was never
    /// written, or its space was given back. Only where the file system tells.
    Hole,
    /// It is in use by the free map, or there is none, and nothing that could
    /// be read leads to it.
    Unreached,
    /// Something leads to it, but it cannot be read or is not what was meant.
    Damaged,
}

/// How the bytes of a log file are used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogSpace {
    /// Its number, as in its name.
    pub number: u32,
    /// Its length in bytes.
    pub length: u64,
    /// Where its last record ends, in bytes; what follows is not written yet,
    /// or never will be.
    pub end: u64,
    /// Bytes of keys and values that tables still point to.
    pub live: u64,
    /// Bytes of records that are in no table file yet: an opening replays them.
    pub replayed: u64,
    /// What becomes of it.
    pub state: LogState,
    /// Whether something is wrong with it.
    pub damaged: bool,
}

/// What becomes of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogState {
    /// Nothing is in it yet: it was made ahead of need.
    Prepared,
    /// The log goes on in it.
    Active,
    /// The log goes on in a later file.
    Sealed,
}

/// Something that the format does not allow, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileDamage {
    /// The file, as in `default.swiss` or `log/00000001.log`.
    pub file: String,
    /// What is wrong with it.
    pub damage: Damage,
}

impl StoreMap {
    /// Whether all pages of a segment are there and undamaged.
    pub fn is_whole(&self, segment: &SegmentRecord) -> bool {
        segment.pages.iter().all(|page| {
            let block = self.blocks.get(page.block as usize);
            matches!(block, Some(BlockUse::Page { .. }))
        })
    }

    fn add(&mut self, file: &str, damage: Damage) {
        if self.damage.len() < MOST_DAMAGE {
            self.damage.push(FileDamage { file: file.to_owned(), damage });
        }
    }
}

/// The map of a store, with one of its tables.
///
/// Reads the directory, every page of the table once (from front to back), and
/// the end of the log; of other tables only the root. No byte is changed.
/// Needs some tens of bytes of memory for a page.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("store");
/// use swissdb::inspect::{self, BlockUse};
///
/// let db = swissdb::Db::open(&path)?;
/// db.insert("apple", "red")?;
/// db.close()?;
///
/// let map = inspect::map(&path, "default")?;
/// assert_eq!(map.blocks[..2], [BlockUse::Header, BlockUse::Header]);
/// assert!(map.blocks.contains(&BlockUse::Page { used: 1, tombstones: 0 }));
/// assert_eq!(map.segments[0].used, 1);
/// assert!(map.damage.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`Error::NotFound`](crate::Error::NotFound) if there is no such store or
/// table, [`Error::Locked`](crate::Error::Locked) if it is open for writing,
/// [`Error::Version`](crate::Error::Version), [`Error::Io`](crate::Error::Io)
/// if the files cannot be listed. Damage is not an error but in the map.
pub fn map(path: impl AsRef<Path>, table: &str) -> Result<StoreMap> {
    map_with(path, table, |_| {})
}

/// As [`map`], and tells now and then which share of the work is done, from 0
/// to 1.
///
/// # Errors
///
/// As [`map`].
pub fn map_with(
    path: impl AsRef<Path>,
    table: &str,
    mut watch: impl FnMut(f64),
) -> Result<StoreMap> {
    let store = Store::open(path.as_ref())?;
    let file = store.table(table)?;
    let mut map = StoreMap {
        header: None,
        slots_per_page: 0,
        segments: Vec::new(),
        blocks: Vec::new(),
        log: Vec::new(),
        damage: Vec::new(),
    };
    blocks::read(&store, &file, &format!("{table}.swiss"), &mut map, &mut watch)?;
    logs::read(&store, table, &mut map)?;
    Ok(map)
}
