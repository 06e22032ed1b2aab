//! Giving a table another slot payload: the whole table is written anew.
//!
//! The slot payload of a table is fixed in its file. To change it, a second
//! file is written beside the first, and takes its name in one step:
//!
//! 1. The store is opened as always, with its lock, and after a crash with its
//!    recovery; a checkpoint makes the table files equal to the log.
//! 2. The old segments are read in the order of their hashes, and each entry is
//!    laid out as the new payload demands ([`entry`]). What stood in its slot
//!    and has to go to the log is logged first, as an ordinary insert; what lay
//!    in the log and fits now is copied out; what stays there keeps its place.
//! 3. The log is synced, and the new file is finished and durable: `NAME.swiss.tmp`.
//!    Its L is the end of the log.
//! 4. It is renamed to `NAME.swiss`, and the directory synced.
//! 5. The store is dropped as it is; nothing in memory is of this table any
//!    more. It is opened and closed once, which leaves it closed cleanly and
//!    gives log files back that only the old table needed.
//!
//! # A crash
//!
//! Before step 4 the old table is what there is. The inserts in the log are
//! replayed into it: each puts a value into its slot that is there already. The
//! temporary file is removed by the next opening for writing, and nobody else
//! looks at it. After step 4 the new table is what there is. Its L lies behind
//! those inserts; the other tables' L lie before them, which does not matter to
//! these. No header says that the store was closed, from the opening to step 5.
//! No log file that the old table needs is recycled before step 5, since that
//! takes a checkpoint.
//!
//! # Damage
//!
//! A page that cannot be read, or an entry that makes no sense, ends it: the
//! old table stays, and `verify` and salvage are there for it. A *value* that
//! is rotten in the log ends nothing. It is not read if it only stays where it
//! is. Otherwise the entry goes on as an address of the rotten bytes, with the
//! checksum that they should have, so that reading it is the same error as
//! before; see [`entry`].

mod entry;
mod segment;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::bulk::{Bulk, BulkTable};
use crate::census::{self, Census};
use crate::checkpoint::checkpoint;
use crate::error::{Corruption, Error, Result};
use crate::format::BLOCK;
use crate::format::group::Geometry;
use crate::format::record::{OP_HEADER, Op, OpKind, Position, RECORD_HEADER};
use crate::handle::Handle;
use crate::log::Placed;
use crate::options::{HashKind, Options, check_payload};
use crate::storage::Storage;
use crate::storage::files::Files;
use crate::store::create::table_file;
use crate::store::{LogBytes, Store};
use crate::table::Table;
use entry::{Converter, Outcome};
use segment::Segment;

/// Bytes of entries that are logged with one record, about.
const BATCH: u64 = 64 << 10;
/// Damaged values that are listed.
const MAX_LISTED: usize = 1_000;

/// Which slot payload a table is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Payload {
    /// The one with which the store is smallest; see [`Census::best_payload`].
    /// Finding it costs reading the table once more. Space is all that counts
    /// here: larger slots may be faster, since fewer values are in the log.
    Auto,
    /// So many bytes: 24 to 504 in steps of 8.
    Bytes(usize),
}

/// How far a change of the slot payload is; see [`change_payload`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RewriteProgress {
    /// Entries of the table that have been written.
    pub entries: u64,
    /// Entries of the table.
    pub total: u64,
}

/// What a change of the slot payload came to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Rewritten {
    /// Whether the table has the new slot payload. It has not if `progress`
    /// said to stop.
    pub finished: bool,
    /// The slot payload before, in bytes.
    pub payload_before: usize,
    /// The slot payload that was asked for or chosen. If it is that of before,
    /// nothing was written.
    pub payload: usize,
    /// Entries that were written.
    pub entries: u64,
    /// The length of the table file before, in bytes.
    pub bytes_before: u64,
    /// The length of the table file now, in bytes.
    pub bytes_after: u64,
    /// Bytes that were logged because they no longer fit their slots.
    pub logged_bytes: u64,
    /// Values in the log that are damaged, of those that had to be read: the
    /// first 1,000. Reading them is an error as it was before.
    pub damage: Vec<Corruption>,
    /// How many more there are.
    pub unlisted: u64,
    /// What was counted to choose the slot payload, if it was chosen.
    pub census: Option<Census>,
}

/// Gives a table of the store in a directory another slot payload. The store
/// must not be open.
///
/// Every entry is written again, so it takes as long as copying the table, and
/// the space of a second table file meanwhile. The new table is as full as may
/// be, like after [`Db::compact`](crate::Db::compact). `progress` is told some
/// times a second or more often how far it is; if it returns
/// [`ControlFlow::Break`], everything stays as it was. So it does after a crash
/// at any moment, unless the crash comes after the last step: then the new
/// table is there.
///
/// ```
/// use std::ops::ControlFlow;
/// use swissdb::{Db, Payload};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("store");
/// let db = Db::open(&path)?; // 56 bytes for key and value
/// for i in 0..1_000u32 {
///     db.insert(i.to_be_bytes(), [7; 100])?;
/// }
/// db.close()?;
///
/// let go_on = |_: &swissdb::RewriteProgress| ControlFlow::Continue(());
/// let rewritten = swissdb::change_payload(&path, "default", Payload::Auto, go_on)?;
/// assert_eq!(rewritten.entries, 1_000);
/// assert_eq!(rewritten.payload, 120); // for 4 and 100, as much as a page has room for
/// assert_eq!(Db::open(&path)?.get(7u32.to_be_bytes())?.as_deref(), Some(&[7; 100][..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`Error::Locked`] if the store is open, [`Error::NotFound`] if there is no
/// such store or table, [`Error::InvalidArgument`] for a slot payload that is
/// not possible; [`Error::Io`], for one if the device has no room for the
/// second file; [`Error::Corrupt`] if the table is damaged. The table is as it
/// was then. Only if the last step, a sync of the directory, fails, either of
/// the two is there.
pub fn change_payload(
    path: impl AsRef<Path>,
    table: &str,
    payload: Payload,
    progress: impl FnMut(&RewriteProgress) -> ControlFlow<()>,
) -> Result<Rewritten> {
    let storage = Arc::new(Files::new(path.as_ref()));
    Options::new().change_payload_on(storage, table, payload, progress)
}

impl Options {
    /// As [`change_payload`], on any [`Storage`]; see
    /// [`Options::open_on`](Options::open_on).
    ///
    /// # Errors
    ///
    /// As [`change_payload`].
    pub fn change_payload_on(
        &self,
        storage: Arc<dyn Storage>,
        table: &str,
        payload: Payload,
        mut progress: impl FnMut(&RewriteProgress) -> ControlFlow<()>,
    ) -> Result<Rewritten> {
        let options = self.clone().read_only(false).create(false);
        options.check()?;
        if let Payload::Bytes(bytes) = payload {
            check_payload(bytes)?;
        }
        let store = Offline(crate::recovery::open(storage.clone(), &options)?);
        let rewritten = rewrite(&store.0, table, payload, &mut progress)?;
        drop(store);
        // The table is what it is to be, and the next opening would do the
        // same: neither a failure nor somebody else who was faster matters.
        if let Ok(store) = crate::recovery::open(storage, &options) {
            let _ = Handle::start(store).and_then(|handle| handle.close(true));
        }
        Ok(rewritten)
    }
}

/// A store that nobody else has, dropped without a word into its files.
struct Offline(Store);

impl Drop for Offline {
    fn drop(&mut self) {
        self.0.mark_closed();
        self.0.unlock();
    }
}

/// Gives a table of an open store another file. The store is not to be used
/// any more afterwards.
fn rewrite(
    store: &Store,
    name: &str,
    payload: Payload,
    progress: &mut dyn FnMut(&RewriteProgress) -> ControlFlow<()>,
) -> Result<Rewritten> {
    let missing = || Error::NotFound { what: format!("table {name}") };
    let table = store.find_table(name).ok_or_else(missing)?;
    checkpoint(store, false)?;
    let (payload, census) = match payload {
        Payload::Bytes(bytes) => (bytes, None),
        Payload::Auto => {
            let census = census::take(store, &table, &mut |_| ())?;
            (census.best_payload(), Some(census))
        }
    };
    let geometry = check_payload(payload)?;
    let bytes_before = {
        let core = store.core()?;
        let blocks = core.writer(table.id).map_or(0, |writer| writer.blocks.total());
        u64::from(blocks) * BLOCK as u64
    };
    let rewritten = Rewritten {
        finished: true,
        payload_before: table.geometry.payload(),
        payload,
        entries: 0,
        bytes_before,
        bytes_after: bytes_before,
        logged_bytes: 0,
        damage: Vec::new(),
        unlisted: 0,
        census,
    };
    if geometry == table.geometry {
        return Ok(rewritten);
    }
    Rewrite { store, table, geometry, rewritten }.run(progress)
}

/// A table on its way to another file.
struct Rewrite<'a> {
    store: &'a Store,
    table: Arc<Table>,
    /// That of the new file.
    geometry: Geometry,
    rewritten: Rewritten,
}

/// An entry laid out for the new file, or to be logged first.
struct Laid<'s> {
    hash: u64,
    outcome: Outcome<'s>,
}

impl Rewrite<'_> {
    /// Steps 2 to 4.
    fn run(
        mut self,
        progress: &mut dyn FnMut(&RewriteProgress) -> ControlFlow<()>,
    ) -> Result<Rewritten> {
        let storage = &*self.store.storage;
        let name = table_file(&self.table.name);
        let temporary = format!("{name}.tmp");
        let mut bulk = Bulk::create(storage, &temporary, self.description()?)?;
        let mut from = Some(0);
        while let Some(hash) = from {
            let segment = {
                let core = self.store.core()?;
                let writer = core.writer(self.table.id).ok_or_else(crate::store::closed)?;
                Segment::read(writer, hash)?
            };
            self.put_segment(&segment, &mut bulk)?;
            from = segment.next();
            let (entries, total) = (self.rewritten.entries, self.table.len());
            if progress(&RewriteProgress { entries, total }).is_break() {
                self.rewritten.finished = false;
                return Ok(self.rewritten);
            }
        }
        let end = self.store.core()?.position();
        self.store.log.sync_to(end.commit)?;
        self.switch(bulk, end, &temporary, &name)?;
        Ok(self.rewritten)
    }

    /// Steps 3 and 4, once the log is durable up to its end.
    fn switch(&mut self, bulk: Bulk<'_>, end: Position, from: &str, to: &str) -> Result<()> {
        let storage = &*self.store.storage;
        let written = bulk.finish(end)?;
        if let Err(error) = storage.rename(from, to) {
            let _ = storage.remove(from);
            return Err(Error::io("rename", storage.path(from), error));
        }
        let synced = storage.sync_directory("");
        synced.map_err(|error| Error::io("sync", storage.path(""), error))?;
        self.rewritten.bytes_after = written.bytes;
        Ok(())
    }

    /// What the new file has in common with the old one, and what it has not.
    fn description(&self) -> Result<BulkTable> {
        let core = self.store.core()?;
        let writer = core.writer(self.table.id).ok_or_else(crate::store::closed)?;
        Ok(BulkTable {
            id: self.table.id,
            name: self.table.name.clone(),
            geometry: self.geometry,
            hash: HashKind::from_id(writer.hash_id).unwrap_or_default(),
            hash_key: writer.hash_key,
            clears: writer.clears,
            next_table_id: if self.table.id == 0 { core.next_table_id } else { 0 },
            generation: core.ws.generation,
        })
    }

    /// Writes the entries of an old segment.
    fn put_segment(&mut self, segment: &Segment, bulk: &mut Bulk<'_>) -> Result<()> {
        let log = LogBytes::pinned(&self.store.log, &*self.store.storage);
        let converter = Converter { geometry: self.geometry, log: &log };
        let mut laid = Vec::with_capacity(segment.len());
        for old in segment.entries() {
            let outcome = converter.convert(&old)?;
            laid.push(Laid { hash: old.hash, outcome });
        }
        self.log_entries(&converter, &mut laid)?;
        for entry in laid {
            let slot = match entry.outcome {
                Outcome::Placed(slot) => slot,
                Outcome::Damaged(slot, damage) => {
                    self.add_damage(*damage);
                    slot
                }
                Outcome::Logged { .. } => continue,
            };
            bulk.push(entry.hash, slot.lengths, &slot.bytes)?;
            self.rewritten.entries += 1;
        }
        Ok(())
    }

    fn add_damage(&mut self, damage: Corruption) {
        if self.rewritten.damage.len() < MAX_LISTED {
            self.rewritten.damage.push(damage);
        } else {
            self.rewritten.unlisted += 1;
        }
    }

    /// Logs the entries that have to be, in batches, and lays them out with
    /// the addresses that they got.
    fn log_entries<'s>(&mut self, converter: &Converter<'s>, laid: &mut [Laid<'s>]) -> Result<()> {
        let (mut begin, mut bytes) = (0, 0);
        for i in 0..laid.len() {
            let Outcome::Logged { key, value } = laid[i].outcome else { continue };
            let length = (OP_HEADER + key.len() + value.len()) as u64;
            if bytes > 0 && bytes + length > BATCH {
                self.log_batch(converter, &mut laid[begin..i])?;
                (begin, bytes) = (i, 0);
            }
            bytes += length;
        }
        self.log_batch(converter, &mut laid[begin..])
    }

    /// Logs those of some entries that have to be, with one record.
    fn log_batch<'s>(&mut self, converter: &Converter<'s>, laid: &mut [Laid<'s>]) -> Result<()> {
        let table = self.table.id;
        let ops: Vec<Op<'_>> = laid
            .iter()
            .filter_map(|entry| match entry.outcome {
                Outcome::Logged { key, value } => {
                    Some(Op { kind: OpKind::Insert, table, key, value })
                }
                _ => None,
            })
            .collect();
        if ops.is_empty() {
            return Ok(());
        }
        let placed = self.append(&ops)?;
        let mut key_at = placed.offset + (RECORD_HEADER + OP_HEADER) as u32;
        for entry in laid {
            let Outcome::Logged { key, value } = entry.outcome else { continue };
            let slot = converter.lay_out(entry.hash, key, value, placed.file, key_at);
            entry.outcome = Outcome::Placed(slot);
            key_at += (OP_HEADER + key.len() + value.len()) as u32;
        }
        Ok(())
    }

    /// Appends a record, waiting for a log file if need be.
    fn append(&mut self, ops: &[Op<'_>]) -> Result<Placed> {
        let bytes = ops.iter().fold(RECORD_HEADER as u64, |sum, op| sum + op.encoded_len());
        self.rewritten.logged_bytes += bytes;
        let mut core = self.store.core_with_room(bytes, false)?;
        core.appender.as_mut().ok_or(Error::ReadOnly)?.append(ops)
    }
}
