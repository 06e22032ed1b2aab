//! The new store, while it is filled.
//!
//! It is an ordinary store that is opened, written in batches and closed. That
//! costs more than writing its files front to back, which would need all
//! entries in the order of their new hashes; but entries come as the damage
//! left them, some of them twice, and then the log changes them once more. So
//! what comes later replaces what came before, and memory does not depend on
//! how much there is.

use std::sync::Arc;

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::format::header::DEFAULT_TABLE;
use crate::handle::Handle;
use crate::options::{Durability, Options, TableOptions};
use crate::storage::Storage;
use crate::table::Table;

/// Bytes that are written with one record, about.
const BATCH: u64 = 64 << 10;

/// A store that is being filled.
pub(super) struct Target {
    handle: Handle,
    default: Arc<Table>,
    batch: Batch,
}

impl Target {
    /// Creates a store. Slots and hash of the default table are those of the
    /// options.
    pub(super) fn create(storage: Arc<dyn Storage>, options: &Options) -> Result<Target> {
        let options = options.clone().read_only(false).create(true);
        // All of it is made durable at the end, and is nobody's before.
        let store = crate::recovery::open(storage, &options.durability(Durability::Buffered))?;
        let default = store.find_table(DEFAULT_TABLE);
        let default = default.ok_or_else(|| Error::NotFound { what: "default table".into() })?;
        Ok(Target { handle: Handle::start(store)?, default, batch: Batch::new() })
    }

    /// The table of a name; creates it if need be.
    pub(super) fn table(&mut self, name: &str, options: &TableOptions) -> Result<Arc<Table>> {
        self.flush()?;
        self.handle.store.create_table(name, options)
    }

    /// Whether there is a table of a name.
    pub(super) fn has_table(&self, name: &str) -> bool {
        self.handle.store.find_table(name).is_some()
    }

    /// Sets the value of a key.
    pub(super) fn insert(&mut self, table: &Arc<Table>, key: &[u8], value: &[u8]) -> Result<()> {
        self.make_room(key.len() + value.len())?;
        self.batch.push(Some(table.clone()), true, key, value)
    }

    /// Sets the value of a key that is not there; says whether it was not.
    pub(super) fn insert_if_absent(
        &mut self,
        table: &Arc<Table>,
        key: &[u8],
        value: &[u8],
    ) -> Result<bool> {
        self.flush()?;
        let absent = !self.handle.store.contains_key(table, key)?;
        if absent {
            self.handle.store.insert(table, key, value)?;
        }
        Ok(absent)
    }

    /// Removes a key, if it is there.
    pub(super) fn remove(&mut self, table: &Arc<Table>, key: &[u8]) -> Result<()> {
        self.make_room(key.len())?;
        self.batch.push(Some(table.clone()), false, key, &[])
    }

    /// Removes all entries of a table.
    pub(super) fn clear(&mut self, table: &Table) -> Result<()> {
        self.flush()?;
        self.handle.store.clear(table)
    }

    /// Drops a table.
    pub(super) fn drop_table(&mut self, table: &Table) -> Result<()> {
        self.flush()?;
        self.handle.store.drop_table(&table.name).map(|_| ())
    }

    fn make_room(&mut self, bytes: usize) -> Result<()> {
        match self.batch.bytes() + bytes as u64 > BATCH {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Writes what was collected.
    fn flush(&mut self) -> Result<()> {
        if !self.batch.is_empty() {
            self.handle.store.write(&self.default, &self.batch)?;
            self.batch.clear();
        }
        Ok(())
    }

    /// Closes the store; returns how many tables and entries it has. All of it
    /// is durable then.
    pub(super) fn close(mut self) -> Result<(u64, u64)> {
        self.flush()?;
        let (mut tables, mut entries) = (0, 0);
        for name in self.handle.store.table_names()? {
            tables += 1;
            entries += self.handle.store.find_table(&name).map_or(0, |table| table.len());
        }
        self.handle.close(true)?;
        Ok((tables, entries))
    }
}
