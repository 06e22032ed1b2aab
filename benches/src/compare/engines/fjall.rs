//! fjall 3: a log-structured merge tree with a journal.
//!
//! * Buffered: the default, `PersistMode::Buffer` with each commit: the journal is
//!   handed to the kernel, so that a kill loses nothing. Sync:
//!   `PersistMode::SyncData` after each commit.
//! * Cache: larger than the data, as the documentation advises where the data fits
//!   into memory; a quarter of the memory where it is limited. The memtable stays at
//!   its default of 64 MiB, or an eighth of the cache if that is less; the documentation
//!   advises 8 to 64. (With 512 MiB, measured with 2 million entries, fill took 4.6 us
//!   instead of 3.9, overwrite 7.0 instead of 5.6.)
//! * Built without compression: all values are random bytes.
//! * Values of 4 KiB and more are kept apart from the keys
//!   (`KvSeparationOptions`), which is meant for large ones.
//! * Batches commit as `OwnedWriteBatch`; a bulk load is made of batches of 10,000,
//!   each a record of the journal.
//! * Reads go to the keyspace itself: a snapshot would only add to them.
//! * `compact` empties the memtable and merges all tables, with the two calls that
//!   the crate has for it, though it does not document them.
//!   Its files take more behind that than before, also some time later: what it replaced
//!   seems to be let go with later changes only.

use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};

use crate::Outcome;
use crate::compare::entries::{Entries, Key};
use crate::compare::store::{Config, Store};

/// The database and its one keyspace.
pub struct Fjall {
    db: Database,
    keyspace: Keyspace,
    sync: bool,
}

/// Values from this length on are kept apart.
const APART: usize = 4_096;

impl Fjall {
    fn committed(&self) -> Outcome {
        if self.sync {
            self.db.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }
}

impl Store for Fjall {
    const BULK: usize = 10_000;

    fn open(config: &Config) -> Outcome<Fjall> {
        let db = Database::builder(config.path.join("fjall")).cache_size(config.cache).open()?;
        let options = || {
            let memtable = (64 << 20).min(config.cache / 8);
            let apart = (config.value_bytes >= APART).then(KvSeparationOptions::default);
            KeyspaceCreateOptions::default().max_memtable_size(memtable).with_kv_separation(apart)
        };
        let keyspace = db.keyspace("entries", options)?;
        Ok(Fjall { db, keyspace, sync: config.sync })
    }

    fn handle(&self) -> Option<Fjall> {
        let (db, keyspace) = (self.db.clone(), self.keyspace.clone());
        Some(Fjall { db, keyspace, sync: self.sync })
    }

    fn insert(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        self.keyspace.insert(key, value)?;
        self.committed()
    }

    fn insert_all(&mut self, entries: Entries) -> Outcome {
        let mut batch = self.db.batch();
        entries.iter().for_each(|(key, value)| batch.insert(&self.keyspace, key, value));
        batch.commit()?;
        self.committed()
    }

    fn remove(&mut self, key: &[u8]) -> Outcome {
        self.keyspace.remove(key)?;
        self.committed()
    }

    fn remove_all(&mut self, keys: &[Key]) -> Outcome {
        let mut batch = self.db.batch();
        keys.iter().for_each(|key| batch.remove(&self.keyspace, &key[..]));
        batch.commit()?;
        self.committed()
    }

    fn get(&mut self, key: &[u8], mut look: impl FnMut(&[u8])) -> Outcome<bool> {
        Ok(self.keyspace.get(key)?.map(|value| look(&value)).is_some())
    }

    fn iterate(&mut self, mut look: impl FnMut(&[u8], &[u8])) -> Outcome {
        for entry in self.keyspace.iter() {
            let (key, value) = entry.into_inner()?;
            look(&key, &value);
        }
        Ok(())
    }

    fn settle(&mut self) -> Outcome {
        Ok(self.db.persist(PersistMode::SyncAll)?)
    }

    fn compact(&mut self) -> Outcome<bool> {
        self.keyspace.rotate_memtable_and_wait()?;
        self.keyspace.major_compact()?;
        Ok(true)
    }

    fn close(self) -> Outcome {
        Ok(self.db.persist(PersistMode::SyncAll)?)
    }
}
