//! Snapshots: the store as it was at one moment, for as long as one likes.
//!
//! A snapshot is a checkpoint that is kept. Taking one freezes the state, at the
//! cost of a look at the root, and writers go on. It waits for no checkpoint
//! that is running: its own runs behind that one. When it has ended, everything that the snapshot sees lies in
//! blocks of the table files and in log files, and these are *held*: a block
//! that is replaced later is not reused, a log file is not let go, until the
//! snapshot is gone. It has directories of its own, loaded lazily like those
//! of a store that was opened, and reads where the bytes lie, in the mapping:
//! they do not change, so they can be lent.
//!
//! ```text
//! snapshot() ──freezes─► checkpoint ──ends──► blocks and log files are held
//!     │ returns at once       │                      │
//!     ▼                       ▼                      ▼
//!   len, commit         first get waits        get, iter: no lock, no copy
//! ```
//!
//! So what a snapshot costs is what a checkpoint costs, which is due some time
//! anyway; later the blocks that are replaced, once each; and memory for the
//! directory pages that it reads.
//!
//! It knows nothing of writers: `store` tells it when it is ready
//! ([`crate::store::snapshots`]). Threads may share it.

mod entries;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result};
use crate::format::group::Address;
use crate::format::header::DEFAULT_TABLE;
use crate::format::record::log_file_name;
use crate::handle::Handle;
use crate::log::HeldFiles;
use crate::options::{HashKind, TableOptions};
use crate::recovery::open_still;
use crate::storage::Storage;
use crate::store::Store;
use crate::store::snapshots::{Begun, Moment};
use crate::table::frames::Frames;
use crate::table::{Spilled, Table};

pub use entries::Entries;

/// The store as it was when [`Db::snapshot`](crate::Db::snapshot) returned.
///
/// It sees every commit up to that moment, each whole, and nothing later,
/// whatever happens to the store: writes, `clear`, growth, compaction, dropped
/// tables, and [`Db::close`](crate::Db::close). Values are lent, not copied.
/// Clones share one snapshot; it is given up with the last of them. (If the store
/// is open for reading only, the snapshot reads from it: what it has lent stays
/// when the store is closed, but no more can be read.)
///
/// While there is a snapshot, blocks of the table files that it sees are not
/// reused when they are replaced, and log files that it needs are kept. So
/// overwriting the same entries again and again costs their space once more,
/// not each time. It also keeps the store open, or at least locked.
///
/// ```
/// let db = swissdb::Db::in_memory()?;
/// db.insert("sky", "blue")?;
/// let snapshot = db.snapshot()?;
/// db.insert("sky", "grey")?;
/// db.insert("grass", "green")?;
/// assert_eq!(snapshot.get("sky")?, Some(&b"blue"[..]));
/// assert_eq!(snapshot.len(), 1);
/// assert_eq!(db.len(), 2);
/// # Ok::<(), swissdb::Error>(())
/// ```
#[must_use = "a snapshot ends when it is dropped"]
#[derive(Clone)]
pub struct Snapshot {
    shared: Arc<Shared>,
}

struct Shared {
    handle: Arc<Handle>,
    /// `None` if the store is open for reading only.
    moment: Option<Arc<Moment>>,
    begun: Begun,
    opened: OnceLock<Opened>,
}

/// What is read from.
struct Opened {
    tables: Vec<Arc<Table>>,
    log: HeldFiles,
}

impl Drop for Shared {
    fn drop(&mut self) {
        match &self.moment {
            Some(moment) => self.handle.store.drop_snapshot(moment),
            None => self.handle.store.drop_reader(),
        }
    }
}

/// Bytes of the log, for a snapshot.
struct StillLog<'a> {
    files: &'a HeldFiles,
    storage: &'a dyn Storage,
}

impl Spilled for StillLog<'_> {
    fn bytes(&self, address: &Address) -> Option<&[u8]> {
        self.files.read(address.file, address.offset, address.len)
    }

    #[cold]
    fn damage(&self, address: &Address) -> Error {
        let path = self.storage.path(&log_file_name(address.file));
        crate::store::spilled_damage(path, address, self.bytes(address))
    }
}

impl<'a> StillLog<'a> {
    /// The bytes at an address, checked, for as long as the snapshot is there.
    fn lend(&self, address: &Address) -> Result<&'a [u8]> {
        let bytes = self.files.read(address.file, address.offset, address.len);
        match bytes {
            Some(bytes) if crc32fast::hash(bytes) == address.crc => Ok(bytes),
            _ => Err(self.damage(address)),
        }
    }
}

impl Snapshot {
    /// Takes a snapshot of an open store.
    pub(crate) fn take(handle: &Arc<Handle>) -> Result<Snapshot> {
        let store = &handle.store;
        store.check_open()?;
        let (moment, begun) = if store.options.read_only {
            let core = store.core()?;
            let tables =
                core.writers().map(|writer| (writer.table.name.clone(), writer.table.len()));
            // With the lock held: closing takes it before it looks for snapshots.
            store.snapshots.add_reader();
            (None, Begun { commit: core.position().commit, tables: tables.collect() })
        } else {
            let moment = store.snapshots.want();
            let begun = store.begin_snapshots();
            let begun = begun.and_then(|()| moment.wait_begun(&|| store.check_writable()));
            let begun = begun.inspect_err(|_| store.drop_snapshot(&moment))?;
            (Some(moment), begun)
        };
        let shared = Shared { handle: handle.clone(), moment, begun, opened: OnceLock::new() };
        Ok(Snapshot { shared: Arc::new(shared) })
    }

    /// The number of the last commit that it sees.
    pub fn commit(&self) -> u64 {
        self.shared.begun.commit
    }

    /// The names of its tables, the default one first.
    pub fn tables(&self) -> Vec<String> {
        self.shared.begun.tables.iter().map(|table| table.0.clone()).collect()
    }

    /// One of its tables.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there was no table of that name.
    ///
    /// ```
    /// let db = swissdb::Db::in_memory()?;
    /// let colours = db.table("colours")?;
    /// colours.insert("sky", "blue")?;
    /// let snapshot = db.snapshot()?;
    /// db.drop_table("colours")?;
    /// assert_eq!(snapshot.table("colours")?.get("sky")?, Some(&b"blue"[..]));
    /// # Ok::<(), swissdb::Error>(())
    /// ```
    pub fn table(&self, name: &str) -> Result<SnapshotTable<'_>> {
        let tables = &self.shared.begun.tables;
        match tables.iter().position(|table| table.0 == name) {
            Some(at) => Ok(SnapshotTable { snapshot: self, at }),
            None => Err(Error::NotFound { what: format!("table {name} in this snapshot") }),
        }
    }

    fn default_table(&self) -> SnapshotTable<'_> {
        let tables = &self.shared.begun.tables;
        let at = tables.iter().position(|table| table.0 == DEFAULT_TABLE).unwrap_or(0);
        SnapshotTable { snapshot: self, at }
    }

    /// The value of a key of the default table, lent where it lies. Takes no
    /// lock and copies nothing.
    ///
    /// The first call waits until the checkpoint of the snapshot has ended: as
    /// long as writing what was changed before it.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`], [`Error::Io`]: of what was read now, or of the
    /// checkpoint. If that one failed because the device was full, there is no
    /// snapshot: make room and take another.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<&[u8]>> {
        self.default_table().get(key)
    }

    /// Whether a key of the default table is there; see [`Snapshot::get`].
    ///
    /// # Errors
    ///
    /// As for [`Snapshot::get`].
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.default_table().contains_key(key)
    }

    /// The number of entries in the default table. Costs nothing.
    pub fn len(&self) -> u64 {
        self.default_table().len()
    }

    /// Whether the default table has no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries of the default table, in no particular order, lent where
    /// they lie. Each entry appears exactly once.
    ///
    /// ```
    /// let db = swissdb::Db::in_memory()?;
    /// db.insert("sky", "blue")?;
    /// let snapshot = db.snapshot()?;
    /// db.clear()?;
    /// for entry in snapshot.iter() {
    ///     let (key, value) = entry?;
    ///     assert_eq!((key, value), (&b"sky"[..], &b"blue"[..]));
    /// }
    /// # Ok::<(), swissdb::Error>(())
    /// ```
    pub fn iter(&self) -> Entries<'_> {
        self.default_table().iter()
    }

    /// What is read from, as soon as the checkpoint has ended.
    fn opened(&self) -> Result<&Opened> {
        if let Some(opened) = self.shared.opened.get() {
            return Ok(opened);
        }
        self.open()
    }

    #[cold]
    fn open(&self) -> Result<&Opened> {
        let store = &*self.shared.handle.store;
        // Of two threads that come here at once only one is handed something.
        let _one = store.snapshots.opening();
        if let Some(opened) = self.shared.opened.get() {
            return Ok(opened);
        }
        let opened = match &self.shared.moment {
            Some(moment) => open_moment(moment)?,
            None => open_live(store)?,
        };
        Ok(self.shared.opened.get_or_init(|| opened))
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let begun = &self.shared.begun;
        f.debug_struct("Snapshot")
            .field("commit", &begun.commit)
            .field("tables", &begun.tables)
            .finish()
    }
}

/// The tables of a snapshot that is ready.
fn open_moment(moment: &Moment) -> Result<Opened> {
    let ready = moment.wait_ready()?;
    let no_memory = |error| Error::io("take memory for", "a snapshot", error);
    // Nothing of it is ever changed, so there is no use for frames.
    let frames = Arc::new(Frames::new(1).map_err(no_memory)?);
    let open = || -> Result<Vec<Arc<Table>>> {
        ready.tables.iter().map(|still| open_still(still, &frames)).collect()
    };
    let tables = open();
    match tables {
        Ok(tables) => Ok(Opened { tables, log: ready.log }),
        Err(error) => {
            // It may be tried again.
            moment.put_back(ready);
            Err(error)
        }
    }
}

/// The tables of a store that is open for reading only: they stand still.
fn open_live(store: &Store) -> Result<Opened> {
    let tables = store.core()?.writers().map(|writer| writer.table.clone()).collect();
    let files: BTreeSet<u32> = store.log.files().iter().map(|file| file.number).collect();
    Ok(Opened { tables, log: store.log.hold(&files) })
}

/// A table of a snapshot; see [`Snapshot::table`].
#[derive(Clone, Copy, Debug)]
pub struct SnapshotTable<'a> {
    snapshot: &'a Snapshot,
    at: usize,
}

impl<'a> SnapshotTable<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.snapshot.shared.begun.tables[self.at].0
    }

    /// See [`Snapshot::len`].
    pub fn len(&self) -> u64 {
        self.snapshot.shared.begun.tables[self.at].1
    }

    /// Whether it has no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// See [`Snapshot::get`].
    ///
    /// # Errors
    ///
    /// As for [`Snapshot::get`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<&'a [u8]>> {
        let (table, log) = self.read_from()?;
        let Some(slot) = table.still_lookup(key.as_ref(), &log)? else {
            return Ok(None);
        };
        entries::value(slot, &log).map(Some)
    }

    /// See [`Snapshot::contains_key`].
    ///
    /// # Errors
    ///
    /// As for [`Snapshot::get`].
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let (table, log) = self.read_from()?;
        Ok(table.still_lookup(key.as_ref(), &log)?.is_some())
    }

    /// See [`Snapshot::iter`].
    pub fn iter(&self) -> Entries<'a> {
        Entries::new(*self)
    }

    /// What a table like it is created with.
    pub(crate) fn options(&self) -> Result<TableOptions> {
        let (table, _) = self.read_from()?;
        let options = TableOptions::new().payload(table.geometry.payload());
        Ok(match HashKind::from_id(table.hasher().words().0 as u8) {
            Some(hash) => options.hash(hash),
            None => options,
        })
    }

    fn read_from(&self) -> Result<(&'a Table, StillLog<'a>)> {
        let opened = self.snapshot.opened()?;
        let storage = &*self.snapshot.shared.handle.store.storage;
        Ok((&opened.tables[self.at], StillLog { files: &opened.log, storage }))
    }
}
