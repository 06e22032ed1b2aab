//! The handle of an open store.
//!
//! What users call, and what each call promises: costs, errors, what is durable
//! afterwards. Nothing is done here: reads and commits are the business of
//! `store`, everything else that of the deed with its name. A [`Db`] may be used
//! from any thread; the last handle that goes closes the store
//! ([`handle`](crate::handle)).

mod backup;
mod look;
mod many;
mod scan;
mod swap;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::Batch;
use crate::checkpoint;
use crate::compact::{CompactProgress, Compacted};
use crate::error::{Error, Result};
use crate::format::header::DEFAULT_TABLE;
use crate::handle::Handle;
use crate::iter::Iter;
use crate::options::{Options, TableOptions};
use crate::snapshot::Snapshot;
use crate::storage::Storage;
use crate::storage::files::Files;
use crate::storage::memory::Memory;
use crate::store::Store;
use crate::table::Table as TableCore;
use crate::table_handle::Table;
use crate::value::Value;

/// An open store.
///
/// A `Db` is a handle: it may be cloned and used from any thread. Its methods
/// for entries work on the default table; [`Db::table`] gives others.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let db = swissdb::Db::open(dir.path().join("fruit"))?;
/// db.insert("apple", "red")?;
/// assert_eq!(db.get("apple")?.as_deref(), Some(&b"red"[..]));
/// assert!(db.remove("apple")?);
/// db.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What is durable when
///
/// * When a write returns, the death of the process cannot undo it.
/// * It survives power loss at the latest one sync interval (default 500 ms,
///   counted from the first write that is not durable yet) plus one sync
///   later, or when [`Db::sync`] returns, or at once with
///   [`Durability::Sync`](crate::Durability::Sync).
/// * After power loss the store is as it was after some prefix of the commits,
///   each of them whole, a batch included.
///
/// # Closing
///
/// The last handle that is dropped closes the store, ignoring errors;
/// [`Db::close`] reports them. Each [`Table`], [`Snapshot`], [`Iter`] and
/// [`Scan`](crate::Scan) is one. A store that is not closed loses nothing, but
/// the next opening replays the log since the last checkpoint.
#[derive(Clone)]
pub struct Db {
    handle: Arc<Handle>,
    table: Arc<TableCore>,
}

impl Options {
    /// Opens the store in a directory, or creates it there.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if it is open elsewhere, [`Error::NotFound`] if it is
    /// absent and may not be created, [`Error::Corrupt`], [`Error::Version`],
    /// [`Error::InvalidArgument`] for a setting out of its range, [`Error::Io`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<crate::Db> {
        self.open_on(Arc::new(Files::new(path.as_ref())))
    }

    /// Opens a new store in memory. Nothing of it outlives the last handle.
    /// Errors as [`Options::open`], as far as a store in memory has them.
    pub fn in_memory(&self) -> Result<crate::Db> {
        self.open_on(Arc::new(Memory::new()))
    }

    /// Opens the store on any [`Storage`]. Errors as [`Options::open`].
    pub fn open_on(&self, storage: Arc<dyn Storage>) -> Result<crate::Db> {
        self.check()?;
        Db::start(storage, self)
    }
}

impl Db {
    /// Opens the store in a directory, or creates it there, with the default
    /// [`Options`].
    ///
    /// Costs some system calls; to write, two syncs of the disk for each table,
    /// and six threads that sleep unless there is work; after a crash also the
    /// time to replay the log since the last checkpoint.
    ///
    /// # Errors
    ///
    /// See [`Options::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Db> {
        Options::new().open(path)
    }

    /// A new store in memory. It runs the same code as one on disk, and is
    /// gone with its last handle.
    pub fn in_memory() -> Result<Db> {
        Options::new().in_memory()
    }

    /// Opens the store on a storage and starts its threads.
    fn start(storage: Arc<dyn Storage>, options: &Options) -> Result<Db> {
        let store = crate::recovery::open(storage, options)?;
        let table = store
            .find_table(DEFAULT_TABLE)
            .ok_or_else(|| Error::NotFound { what: "default table".into() })?;
        Ok(Db { handle: Arc::new(Handle::start(store)?), table })
    }

    fn store(&self) -> &Store {
        &self.handle.store
    }

    /// Inserts an entry, or overwrites its value.
    ///
    /// Keys have up to [`MAX_KEY_LENGTH`](crate::MAX_KEY_LENGTH) bytes, values up
    /// to [`MAX_VALUE_LENGTH`](crate::MAX_VALUE_LENGTH). Costs some two cache
    /// misses and a copy into the log; no system call, unless its page is not in
    /// memory, a segment has to grow, the value has some 48 KiB or more, it has
    /// to wait for the store, or each commit is made durable. Durable as is said
    /// [above](Db).
    ///
    /// # Errors
    ///
    /// [`Error::KeyTooLong`], [`Error::ValueTooLong`], [`Error::Io`] if the
    /// device is full, [`Error::Poisoned`], [`Error::ReadOnly`], [`Error::Closed`],
    /// [`Error::HashCollisions`], [`Error::Corrupt`] if the entry's page is
    /// damaged. Nothing has changed then, except after a failed write or sync of
    /// the log ([`Error::Io`], then [`Error::Poisoned`]): the change may be seen,
    /// and whether it is kept is known when the store is opened again.
    #[inline]
    pub fn insert(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.store().insert(&self.table, key.as_ref(), value.as_ref())
    }

    /// The value of a key.
    ///
    /// Takes no lock and makes no system call, where its page was read before and
    /// is in memory: some two cache misses. The first read of a page after opening
    /// checks it. A value of up to 56 bytes is returned without an allocation.
    ///
    /// What is read is the newest commit, of whatever thread. It may not be durable
    /// yet, not even with [`Durability::Sync`](crate::Durability::Sync), where the
    /// writer still waits for its sync.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] or [`Error::Io`] if the entry's page, one that the search
    /// for it leads over, or its value cannot be read; [`Error::Closed`].
    #[inline(always)]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.store().get(&self.table, key.as_ref())
    }

    /// Lends the value of a key to a function, without an allocation whatever
    /// its length. Values in the log are lent where they lie; while the
    /// function runs their file is kept, even if another handle closes the store
    /// meanwhile, so it should not take long.
    ///
    /// ```
    /// let db = swissdb::Db::in_memory()?;
    /// db.insert("poem", "roses are red")?;
    /// let words = db.get_with("poem", |value| value.split(|b| *b == b' ').count())?;
    /// assert_eq!(words, Some(3));
    /// # Ok::<(), swissdb::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Db::get`].
    #[inline(always)]
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        lend: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        self.store().get_with(&self.table, key.as_ref(), lend)
    }

    /// Whether a key is there. Costs at most what [`Db::get`] costs.
    ///
    /// # Errors
    ///
    /// As [`Db::get`].
    #[inline]
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.store().contains_key(&self.table, key.as_ref())
    }

    /// Removes an entry; says whether it was there. An absent key costs no
    /// write, but with [`Durability::Sync`](crate::Durability::Sync) perhaps a wait
    /// for the sync of whoever has removed it. On a full device it works with what is
    /// kept for this, and waits up to two seconds for the store to make room.
    ///
    /// # Errors
    ///
    /// As [`Db::insert`].
    #[inline]
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.store().remove(&self.table, key.as_ref())
    }

    /// Commits a batch: one record, whole or not at all. Readers may see its
    /// changes one by one, those of different keys in any order.
    ///
    /// # Errors
    ///
    /// [`Error::BatchTooLarge`] if it needs more than 1 GiB of log, or if the pages
    /// that it changes do not fit twice the write buffer; [`Error::NotFound`] if a table of the
    /// batch was dropped or is of another store; then nothing has changed. Else
    /// as [`Db::insert`].
    pub fn write(&self, batch: &Batch) -> Result<()> {
        self.store().write(&self.table, batch)
    }

    /// All entries of the default table, in no order; see [`Iter`] for what is
    /// guaranteed while they change.
    ///
    /// ```
    /// let db = swissdb::Db::in_memory()?;
    /// db.insert("a", "1")?;
    /// for entry in db.iter() {
    ///     let (key, value) = entry?;
    ///     println!("{key:?} = {value:?}");
    /// }
    /// # Ok::<(), swissdb::Error>(())
    /// ```
    pub fn iter(&self) -> Iter {
        Iter::new(self.handle.clone(), self.table.clone())
    }

    /// The number of entries. Costs nothing.
    pub fn len(&self) -> u64 {
        self.table.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all entries and takes a new hash key. The time does not depend
    /// on their number; it waits for a running checkpoint, and on a full device
    /// for room as [`Db::remove`] does.
    ///
    /// # Errors
    ///
    /// As [`Db::insert`].
    pub fn clear(&self) -> Result<()> {
        self.store().clear(&self.table)
    }

    /// A table by its name; it is created if there is none, with the slot payload
    /// and hash kind of the [`Options`] that the store was opened with this time.
    /// These need not be those of its other tables.
    ///
    /// Creating one is a commit. It waits for a running checkpoint and makes a
    /// file, for which writers wait some syncs of the disk; one that is there
    /// costs a look at the tables, under the writer lock.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a name that is not 1 to 64 of
    /// `A-Z a-z 0-9 _ -`, or if the store has had 65,536 tables already;
    /// [`Error::NotFound`] if the store is read-only and there is none;
    /// [`Error::Io`], [`Error::Poisoned`], [`Error::Closed`].
    pub fn table(&self, name: &str) -> Result<Table> {
        self.create_table(name, &TableOptions::new())
    }

    /// A table by its name; it is created as the options say if there is none.
    /// They do not change one that is there.
    ///
    /// # Errors
    ///
    /// As [`Db::table`]; [`Error::InvalidArgument`] for a slot payload that is
    /// not possible.
    pub fn create_table(&self, name: &str, options: &TableOptions) -> Result<Table> {
        let core = self.store().create_table(name, options)?;
        Ok(Table::new(self.handle.clone(), core))
    }

    /// The names of all tables; `default` first.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`].
    pub fn tables(&self) -> Result<Vec<String>> {
        self.store().table_names()
    }

    /// Drops a table, durably; says whether there was one of that name. Its
    /// handles return [`Error::NotFound`] from then on. Waits for a running
    /// checkpoint, and for the syncs of log, file and directory.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for the default table; else as
    /// [`Db::insert`].
    pub fn drop_table(&self, name: &str) -> Result<bool> {
        self.store().drop_table(name)
    }

    /// Returns when every commit before the call survives power loss. Costs
    /// one `fdatasync` for each log file with undurable bytes, as a rule one,
    /// which callers at the same time share; none if everything is durable.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and from then on [`Error::Poisoned`] if the disk fails;
    /// [`Error::ReadOnly`], [`Error::Closed`].
    pub fn sync(&self) -> Result<()> {
        self.store().check_writable()?;
        self.store().log.make_durable(self.store().log.appended())
    }

    /// Writes all changed pages to the table files, so that the next opening
    /// has nothing to replay and log files can be recycled. The store does
    /// this by itself; other threads go on meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Poisoned`], [`Error::ReadOnly`], [`Error::Closed`].
    pub fn checkpoint(&self) -> Result<()> {
        self.store().check_writable()?;
        checkpoint::checkpoint(self.store(), false)
    }

    /// Makes the store as small as it gets, and waits until it is: segments as
    /// full as may be, table files without gaps, a log of which less than a
    /// twentieth is garbage. Readers and writers go on. The space at the end of
    /// the table files is given back when this returns; the files get shorter
    /// when the store is closed.
    ///
    /// Costs reading everything and writing most of it again; memory as always.
    /// A store gives space back by itself, so this is for one that will not
    /// change for a while, or is about to be copied. The next inserts are slower,
    /// because full segments have to grow.
    ///
    /// ```
    /// let db = swissdb::Db::in_memory()?;
    /// for i in 0..10_000u32 {
    ///     db.insert(i.to_be_bytes(), [7; 40])?;
    /// }
    /// let compacted = db.compact()?;
    /// assert!(compacted.finished);
    /// # Ok::<(), swissdb::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Io`], for one if the device is too full to write anything
    /// again; [`Error::Corrupt`] if a page cannot be read; [`Error::Poisoned`],
    /// [`Error::ReadOnly`], [`Error::Closed`]. Nothing is lost then, and some of
    /// it is done.
    pub fn compact(&self) -> Result<Compacted> {
        self.compact_with(|_| ControlFlow::Continue(()))
    }

    /// As [`Db::compact`], telling a function how far it is, some times a
    /// second or more often. If it returns [`ControlFlow::Break`] the compaction
    /// ends soon; what was done is kept. The function may use the store, but not
    /// compact it.
    ///
    /// # Errors
    ///
    /// As [`Db::compact`]; [`Error::InvalidArgument`] if it is called by such a
    /// function of the same store.
    pub fn compact_with(
        &self,
        mut progress: impl FnMut(&CompactProgress) -> ControlFlow<()>,
    ) -> Result<Compacted> {
        crate::compact::compact(self.store(), &mut progress)
    }

    /// The store as it is now, for as long as one likes: see [`Snapshot`].
    ///
    /// Costs a look at the root of each table, under the writer lock: some
    /// hundred microseconds with millions of entries, and whether or not a
    /// checkpoint is running. If nothing was committed since the one before, it
    /// costs nothing. Snapshots that are not written yet keep what was changed
    /// since them in the write buffer; so when four of them wait already for
    /// their checkpoints, each after other commits, the next one waits until
    /// the first of these has its turn. Reading from it waits until its
    /// checkpoint has ended, and those before it.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`], [`Error::Closed`].
    ///
    /// ```
    /// let db = swissdb::Db::in_memory()?;
    /// db.insert("sky", "blue")?;
    /// let before = db.snapshot()?;
    /// db.clear()?;
    /// assert_eq!(before.get("sky")?, Some(&b"blue"[..]));
    /// # Ok::<(), swissdb::Error>(())
    /// ```
    pub fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::take(&self.handle)
    }

    /// The directory of the store.
    pub fn path(&self) -> PathBuf {
        self.store().path()
    }

    /// Closes the store for all its handles: a last checkpoint, everything
    /// durable, the lock given back. All other handles return [`Error::Closed`]
    /// afterwards. Only a [`Snapshot`] of a store that was open for writing can
    /// still be read. While any is held the lock stays, until the last is gone.
    ///
    /// Waits for a checkpoint that is running, and for others while they write to
    /// a file. A compaction through another handle ends soon, with
    /// [`Error::Closed`].
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Poisoned`] if it could not be closed cleanly;
    /// every commit is in the log even then, and the lock goes the same way.
    /// [`Error::Closed`] if it was closed before.
    pub fn close(mut self) -> Result<()> {
        let alone = Arc::get_mut(&mut self.handle).is_some();
        self.handle.close(alone)
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Db({})", self.path().display())
    }
}
