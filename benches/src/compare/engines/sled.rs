//! sled 0.34: a log-structured tree.
//!
//! * Buffered: the default, a flush every 500 ms by a thread of its own; what was
//!   not flushed lies in the process, so that a kill loses up to that much.
//!   Sync: `flush` after each commit, the only way it has.
//! * What `flush` does on Linux is `sync_file_range` (`pagecache/iobuf.rs`): the
//!   kernel writes the bytes out, but neither the file's metadata nor the device's
//!   own cache. So its durable commits promise less than those of the others;
//!   where they are compared, they are to be marked.
//! * `Mode::HighThroughput`, the default: faster, larger files. Cache: larger
//!   than the data. No compression, the default.
//! * `apply_batch` commits a batch; a bulk load is made of batches of 10,000, since
//!   a batch is one record of its log.
//! * `get` gives a value of its own, a reference count away from the cache.
//! * It cannot be compacted.

use sled::{Batch, Db, Mode};

use crate::Outcome;
use crate::compare::entries::{Entries, Key};
use crate::compare::store::{Config, Store};

/// The database; its handles are references to it.
pub struct Sled {
    db: Db,
    sync: bool,
}

impl Sled {
    fn committed(&self) -> Outcome {
        if self.sync {
            self.db.flush()?;
        }
        Ok(())
    }
}

impl Store for Sled {
    const BULK: usize = 10_000;

    fn open(config: &Config) -> Outcome<Sled> {
        let options = sled::Config::new()
            .path(config.path.join("sled"))
            .cache_capacity(config.cache)
            .mode(Mode::HighThroughput)
            .flush_every_ms(Some(500));
        Ok(Sled { db: options.open()?, sync: config.sync })
    }

    fn handle(&self) -> Option<Sled> {
        Some(Sled { db: self.db.clone(), sync: self.sync })
    }

    fn insert(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        self.db.insert(key, value)?;
        self.committed()
    }

    fn insert_all(&mut self, entries: Entries) -> Outcome {
        let mut batch = Batch::default();
        entries.iter().for_each(|(key, value)| batch.insert(key, value));
        self.db.apply_batch(batch)?;
        self.committed()
    }

    fn remove(&mut self, key: &[u8]) -> Outcome {
        self.db.remove(key)?;
        self.committed()
    }

    fn remove_all(&mut self, keys: &[Key]) -> Outcome {
        let mut batch = Batch::default();
        keys.iter().for_each(|key| batch.remove(&key[..]));
        self.db.apply_batch(batch)?;
        self.committed()
    }

    fn get(&mut self, key: &[u8], mut look: impl FnMut(&[u8])) -> Outcome<bool> {
        Ok(self.db.get(key)?.map(|value| look(&value)).is_some())
    }

    fn iterate(&mut self, mut look: impl FnMut(&[u8], &[u8])) -> Outcome {
        for entry in self.db.iter() {
            let (key, value) = entry?;
            look(&key, &value);
        }
        Ok(())
    }

    fn settle(&mut self) -> Outcome {
        Ok(self.db.flush().map(drop)?)
    }

    fn compact(&mut self) -> Outcome<bool> {
        Ok(false)
    }

    fn close(self) -> Outcome {
        Ok(self.db.flush().map(drop)?)
    }
}
