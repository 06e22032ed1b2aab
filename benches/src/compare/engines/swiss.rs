//! swissdb.
//!
//! * Slot payload: as large as the pair, as the documentation of
//!   `Options::payload` advises where the sizes are known; the default of 56
//!   where pairs do not fit any slot, in which case the key stays in its slot.
//! * Buffered: `Durability::Buffered`, synced every 500 ms in the background (the
//!   default). Sync: `Durability::Sync`.
//! * Write buffer: as much as the others have for their caches, which is the
//!   default where memory is limited, and more than the default of 1 GiB else. It
//!   is taken as pages change: no more than the tables have.
//! * `swissdb-default` is the same store with every default, a column of its own that
//!   is measured when it is asked for. What lies in the write buffer is dirty pages:
//!   that of the others is a memtable as much as a cache, and theirs are of 64 MiB. So
//!   4 GiB may put off more writing than anybody else does, and the slots fit the pairs;
//!   this shows what a program gets that sets nothing. It is ours, and never a peer.
//! * Hash: the default, SipHash-1-3.
//! * `get_with` and `multi_get_with` lend the value; `write` commits a batch.
//! * A bulk load is made of batches of 10,000: one batch is one record of the
//!   log, and a batch of all entries would have to lie in memory whole.

use std::sync::Arc;

use swissdb::{Batch, Db, Durability, Options};

use crate::Outcome;
use crate::compare::entries::{Entries, Key};
use crate::compare::store::{Config, Store};

/// The store, and a batch that is used again and again. `DEFAULT`: with nothing set
/// but the class of durability.
pub struct Swiss<const DEFAULT: bool> {
    db: Arc<Db>,
    batch: Batch,
}

/// Slots are multiples of eight in this range.
const PAYLOADS: std::ops::RangeInclusive<usize> = 24..=504;

fn options<const DEFAULT: bool>(config: &Config) -> Options {
    let durability = if config.sync { Durability::Sync } else { Durability::Buffered };
    let options = Options::new().durability(durability);
    if DEFAULT {
        return options;
    }
    let pair = (config.key_bytes + config.value_bytes).next_multiple_of(8);
    let options = options.write_buffer(config.cache as usize);
    match PAYLOADS.contains(&pair) {
        true => options.payload(pair),
        false => options,
    }
}

impl<const DEFAULT: bool> Store for Swiss<DEFAULT> {
    const BULK: usize = 10_000;

    fn open(config: &Config) -> Outcome<Swiss<DEFAULT>> {
        let db = Arc::new(options::<DEFAULT>(config).open(config.path.join("store"))?);
        Ok(Swiss { db, batch: Batch::new() })
    }

    fn handle(&self) -> Option<Swiss<DEFAULT>> {
        Some(Swiss { db: Arc::clone(&self.db), batch: Batch::new() })
    }

    fn insert(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        Ok(self.db.insert(key, value)?)
    }

    fn insert_all(&mut self, entries: Entries) -> Outcome {
        self.batch.clear();
        for (key, value) in entries.iter() {
            self.batch.insert(key, value)?;
        }
        Ok(self.db.write(&self.batch)?)
    }

    fn remove(&mut self, key: &[u8]) -> Outcome {
        Ok(self.db.remove(key).map(drop)?)
    }

    fn remove_all(&mut self, keys: &[Key]) -> Outcome {
        self.batch.clear();
        keys.iter().try_for_each(|key| self.batch.remove(key))?;
        Ok(self.db.write(&self.batch)?)
    }

    fn get(&mut self, key: &[u8], look: impl FnMut(&[u8])) -> Outcome<bool> {
        Ok(self.db.get_with(key, look)?.is_some())
    }

    fn get_all(&mut self, keys: &[Key], mut look: impl FnMut(usize, &[u8])) -> Outcome<u64> {
        let mut found = 0;
        let mut failed = Ok(());
        self.db.multi_get_with(keys, |place, value| match value {
            Ok(Some(value)) => {
                found += 1;
                look(place, value);
            }
            Ok(None) => {}
            Err(error) => failed = Err(error),
        })?;
        failed?;
        Ok(found)
    }

    fn iterate(&mut self, mut look: impl FnMut(&[u8], &[u8])) -> Outcome {
        let mut entries = self.db.iter();
        while let Some(entry) = entries.next_ref() {
            let (key, value) = entry?;
            look(key, value);
        }
        Ok(())
    }

    fn settle(&mut self) -> Outcome {
        Ok(self.db.sync()?)
    }

    fn log_bytes(&self) -> Option<u64> {
        Some(self.db.stats().log_since_checkpoint)
    }

    fn compact(&mut self) -> Outcome<bool> {
        self.db.compact()?;
        Ok(true)
    }

    fn close(self) -> Outcome {
        let db = Arc::into_inner(self.db).ok_or("another handle of the store is open")?;
        Ok(db.close()?)
    }
}
