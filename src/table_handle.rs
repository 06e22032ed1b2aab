//! The handle of a named table.
//!
//! The same calls as those of [`Db`](crate::Db), for another table: each asks first
//! whether the table was dropped, and goes to the store. So what they cost, promise
//! and answer stands there once. A handle keeps the store open, is cheap to clone,
//! and may be used from any thread.

use std::sync::Arc;

use crate::batch::Batch;
use crate::cursor::{Cursor, Scan};
use crate::error::Result;
use crate::handle::Handle;
use crate::iter::Iter;
use crate::store::commit::no_table;
use crate::table::Table as TableCore;
use crate::value::Value;

/// A named table of a store; see [`Db::table`](crate::Db::table).
///
/// The methods are those of [`Db`](crate::Db), with the same costs and errors,
/// and [`Error::NotFound`](crate::Error::NotFound) once the table was dropped.
///
/// ```
/// let db = swissdb::Db::in_memory()?;
/// let colours = db.table("colours")?;
/// colours.insert("sky", "blue")?;
/// assert_eq!(colours.len(), 1);
/// assert!(db.is_empty());
/// # Ok::<(), swissdb::Error>(())
/// ```
#[derive(Clone)]
pub struct Table {
    handle: Arc<Handle>,
    core: Arc<TableCore>,
}

impl Table {
    pub(crate) fn new(handle: Arc<Handle>, core: Arc<TableCore>) -> Table {
        Table { handle, core }
    }

    fn check(&self) -> Result<()> {
        if self.core.is_dropped() { Err(no_table(&self.core)) } else { Ok(()) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// See [`Db::insert`](crate::Db::insert).
    pub fn insert(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.check()?;
        self.handle.store.insert(&self.core, key.as_ref(), value.as_ref())
    }

    /// See [`Db::get`](crate::Db::get).
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.check()?;
        self.handle.store.get(&self.core, key.as_ref())
    }

    /// See [`Db::get_with`](crate::Db::get_with).
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        lend: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        self.check()?;
        self.handle.store.get_with(&self.core, key.as_ref(), lend)
    }

    /// See [`Db::multi_get`](crate::Db::multi_get).
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Value>>> {
        self.check()?;
        self.handle.store.multi_get(&self.core, keys)
    }

    /// See [`Db::multi_get_with`](crate::Db::multi_get_with).
    pub fn multi_get_with<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        lend: impl FnMut(usize, Result<Option<&[u8]>>),
    ) -> Result<()> {
        self.check()?;
        self.handle.store.multi_get_with(&self.core, keys, lend)
    }

    /// See [`Db::contains_key`](crate::Db::contains_key).
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.check()?;
        self.handle.store.contains_key(&self.core, key.as_ref())
    }

    /// See [`Db::remove`](crate::Db::remove).
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.check()?;
        self.handle.store.remove(&self.core, key.as_ref())
    }

    /// See [`Db::compare_and_swap`](crate::Db::compare_and_swap).
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool> {
        self.check()?;
        self.handle.store.compare_and_swap(&self.core, key.as_ref(), expected, new)
    }

    /// See [`Db::update`](crate::Db::update).
    pub fn update<V: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        change: impl FnMut(Option<&[u8]>) -> Option<V>,
    ) -> Result<Option<V>> {
        self.check()?;
        self.handle.store.update(&self.core, key.as_ref(), change)
    }

    /// See [`Db::iter`](crate::Db::iter). Nothing appears of a dropped table.
    pub fn iter(&self) -> Iter {
        Iter::new(self.handle.clone(), self.core.clone())
    }

    /// See [`Db::iter_from`](crate::Db::iter_from).
    pub fn iter_from(&self, cursor: Cursor) -> Result<Scan> {
        self.check()?;
        Scan::resume(self.handle.clone(), self.core.clone(), cursor)
    }

    /// See [`Db::scan_partitions`](crate::Db::scan_partitions). Nothing appears
    /// of a dropped table.
    pub fn scan_partitions(&self, n: usize) -> Vec<Scan> {
        Scan::parts(&self.handle, &self.core, n)
    }

    /// See [`Db::len`](crate::Db::len).
    pub fn len(&self) -> u64 {
        self.core.len()
    }

    /// See [`Db::is_empty`](crate::Db::is_empty).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// See [`Db::clear`](crate::Db::clear).
    pub fn clear(&self) -> Result<()> {
        self.check()?;
        self.handle.store.clear(&self.core)
    }

    /// What the table consists of; see [`Db::stats`](crate::Db::stats). All
    /// counts of a dropped table are zero.
    pub fn stats(&self) -> crate::stats::TableStats {
        crate::stats::of_table(&self.handle.store, &self.core)
    }

    /// Looks at every entry; see [`Db::survey`](crate::Db::survey).
    pub fn survey(&self, mut progress: impl FnMut(u64)) -> Result<crate::Survey> {
        self.check()?;
        crate::survey::take(&self.handle.store, &self.core, &mut progress)
    }
}

/// Changes of named tables.
impl Batch {
    /// Adds an insert into a table, which must be one of the store that the
    /// batch is written to; else [`Db::write`](crate::Db::write) returns
    /// [`Error::NotFound`](crate::Error::NotFound).
    ///
    /// # Errors
    ///
    /// As [`Batch::insert`].
    pub fn insert_into(
        &mut self,
        table: &Table,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.push(Some(table.core.clone()), true, key.as_ref(), value.as_ref())
    }

    /// Adds a removal from a table; see [`Batch::insert_into`].
    ///
    /// # Errors
    ///
    /// As [`Batch::remove`].
    pub fn remove_from(&mut self, table: &Table, key: impl AsRef<[u8]>) -> Result<()> {
        self.push(Some(table.core.clone()), false, key.as_ref(), &[])
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({})", self.name())
    }
}
