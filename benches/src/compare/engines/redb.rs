//! redb 4: a copy-on-write B+ tree in one file.
//!
//! * Buffered: `Durability::None` for each commit and one `Durability::Immediate`
//!   when the store is settled, which redb's documentation asks for. Such commits
//!   stay in the process: a kill loses them, which is less than the others of the
//!   class promise. Sync: `Durability::Immediate`, the default, one phase.
//! * Cache: `set_cache_size`, larger than the data.
//! * Single operations are one write transaction each, batches one for all; a
//!   bulk load is one transaction, as in redb's own benchmark.
//! * Reads share one read transaction and its open table until this handle
//!   writes or is refreshed: documented as cheap to keep, and opening both costs
//!   as much as a read.
//! * `compact` wants the database for itself.

use std::sync::Arc;

use redb::{
    Builder, Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};

use crate::Outcome;
use crate::compare::entries::{Entries, Key};
use crate::compare::store::{Config, Store};

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("entries");

/// The database, and the table as this handle reads it.
pub struct Redb {
    db: Arc<Database>,
    sync: bool,
    reads: Option<ReadOnlyTable<&'static [u8], &'static [u8]>>,
}

impl Redb {
    fn begin(&mut self) -> Outcome<WriteTransaction> {
        self.reads = None;
        let mut transaction = self.db.begin_write()?;
        if !self.sync {
            transaction.set_durability(Durability::None)?;
        }
        Ok(transaction)
    }

    fn reads(&mut self) -> Outcome<&ReadOnlyTable<&'static [u8], &'static [u8]>> {
        if self.reads.is_none() {
            self.reads = Some(self.db.begin_read()?.open_table(TABLE)?);
        }
        Ok(self.reads.as_ref().ok_or("the table was opened just now")?)
    }
}

impl Store for Redb {
    fn open(config: &Config) -> Outcome<Redb> {
        let path = config.path.join("redb");
        let new = !path.exists();
        let db = Builder::new().set_cache_size(config.cache as usize).create(path)?;
        if new {
            // The table has to be there before the first read.
            let transaction = db.begin_write()?;
            transaction.open_table(TABLE)?;
            transaction.commit()?;
        }
        Ok(Redb { db: Arc::new(db), sync: config.sync, reads: None })
    }

    fn handle(&self) -> Option<Redb> {
        Some(Redb { db: Arc::clone(&self.db), sync: self.sync, reads: None })
    }

    fn insert(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        let transaction = self.begin()?;
        transaction.open_table(TABLE)?.insert(key, value)?;
        Ok(transaction.commit()?)
    }

    fn insert_all(&mut self, entries: Entries) -> Outcome {
        let transaction = self.begin()?;
        let mut table = transaction.open_table(TABLE)?;
        for (key, value) in entries.iter() {
            table.insert(key, value)?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    fn remove(&mut self, key: &[u8]) -> Outcome {
        let transaction = self.begin()?;
        transaction.open_table(TABLE)?.remove(key)?;
        Ok(transaction.commit()?)
    }

    fn remove_all(&mut self, keys: &[Key]) -> Outcome {
        let transaction = self.begin()?;
        let mut table = transaction.open_table(TABLE)?;
        for key in keys {
            table.remove(&key[..])?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    fn get(&mut self, key: &[u8], mut look: impl FnMut(&[u8])) -> Outcome<bool> {
        let value = self.reads()?.get(key)?;
        Ok(value.map(|value| look(value.value())).is_some())
    }

    fn iterate(&mut self, mut look: impl FnMut(&[u8], &[u8])) -> Outcome {
        for entry in self.reads()?.iter()? {
            let (key, value) = entry?;
            look(key.value(), value.value());
        }
        Ok(())
    }

    fn refresh(&mut self) {
        self.reads = None;
    }

    fn settle(&mut self) -> Outcome {
        self.reads = None;
        // Empty, but durable, and with it everything before it.
        Ok(self.db.begin_write()?.commit()?)
    }

    fn compact(&mut self) -> Outcome<bool> {
        self.reads = None;
        let db = Arc::get_mut(&mut self.db).ok_or("another handle of the store is open")?;
        db.compact()?;
        Ok(true)
    }

    fn close(mut self) -> Outcome {
        self.settle()?;
        drop(Arc::into_inner(self.db).ok_or("another handle of the store is open")?);
        Ok(())
    }
}
