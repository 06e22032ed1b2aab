//! What is measured, behind one face.
//!
//! The trait is used by static dispatch only: each engine gets its own copy of
//! the loops, with nothing between the loop and the engine.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use swissdb::{Batch, Db, Options};

use crate::Outcome;
use crate::data::{Key, Value};

/// A map from bytes to bytes.
pub trait Engine: Sized {
    /// What it is called in the results.
    const NAME: &'static str;

    /// Inserts or overwrites an entry.
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Outcome;

    /// Overwrites an entry that is there, in whatever way is best.
    fn overwrite(&mut self, key: &[u8], value: &[u8]) -> Outcome;

    /// Reads a value the ordinary way; says something of its bytes.
    fn get(&self, key: &[u8]) -> Outcome<Option<u64>>;

    /// Looks at a value without taking it; says something of its bytes.
    fn look(&self, key: &[u8]) -> Outcome<Option<u64>>;

    /// Reads the values of many keys the ordinary way, in one call if there is
    /// one for it; says how many there are, and something of their bytes.
    fn multi_get(&self, keys: &[Key]) -> Outcome<(u64, u64)>;

    /// Looks at the values of many keys without taking them.
    fn multi_look(&self, keys: &[Key]) -> Outcome<(u64, u64)>;

    /// Overwrites or inserts many entries, in one commit if there is one.
    fn multi_insert(&mut self, keys: &[Key], values: &[Value]) -> Outcome;

    /// Removes an entry; says whether it was there.
    fn remove(&mut self, key: &[u8]) -> Outcome<bool>;

    /// Walks over all entries; says how many, and something of their bytes.
    fn iterate(&self) -> Outcome<(u64, u64)>;

    /// Finishes what goes on in the background, so that it does not burden
    /// the next phase.
    fn settle(&mut self) -> Outcome;
}

/// Something that needs the bytes at both ends of a value.
fn taste(bytes: &[u8]) -> u64 {
    let word = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
    word(bytes.first_chunk()) ^ word(bytes.last_chunk())
}

/// swissdb in a directory, with `Durability::Buffered`.
pub struct Swiss {
    db: Option<Db>,
    path: PathBuf,
    batch: Batch,
}

impl Swiss {
    /// A new store; the directory is removed when it is dropped.
    pub fn create(path: &Path, options: &Options) -> Outcome<Swiss> {
        let db = Some(options.open(path)?);
        Ok(Swiss { db, path: path.to_path_buf(), batch: Batch::new() })
    }

    /// Closes the store and leaves its files where they are.
    pub fn close_and_keep(mut self) -> Outcome {
        match self.db.take() {
            Some(db) => Ok(db.close()?),
            None => Ok(()),
        }
    }

    /// The store itself.
    fn db(&self) -> &Db {
        self.db.as_ref().expect("it is there until the drop")
    }
}

impl Drop for Swiss {
    fn drop(&mut self) {
        if self.db.take().is_some() {
            // The measurement is over; a directory left behind is only untidy.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

impl Engine for Swiss {
    const NAME: &'static str = "swissdb";

    fn insert(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        Ok(self.db().insert(key, value)?)
    }

    fn overwrite(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        Ok(self.db().insert(key, value)?)
    }

    fn get(&self, key: &[u8]) -> Outcome<Option<u64>> {
        Ok(self.db().get(key)?.map(|value| taste(&value)))
    }

    fn look(&self, key: &[u8]) -> Outcome<Option<u64>> {
        Ok(self.db().get_with(key, taste)?)
    }

    fn multi_get(&self, keys: &[Key]) -> Outcome<(u64, u64)> {
        let (mut count, mut sum) = (0, 0u64);
        for value in self.db().multi_get(keys)?.into_iter().flatten() {
            (count, sum) = (count + 1, sum.wrapping_add(taste(&value)));
        }
        Ok((count, sum))
    }

    fn multi_look(&self, keys: &[Key]) -> Outcome<(u64, u64)> {
        let (mut count, mut sum) = (0, 0u64);
        let mut failed = Ok(());
        self.db().multi_get_with(keys, |_, value| match value {
            Ok(Some(value)) => (count, sum) = (count + 1, sum.wrapping_add(taste(value))),
            Ok(None) => {}
            Err(error) => failed = Err(error),
        })?;
        failed?;
        Ok((count, sum))
    }

    fn multi_insert(&mut self, keys: &[Key], values: &[Value]) -> Outcome {
        self.batch.clear();
        for (key, value) in keys.iter().zip(values) {
            self.batch.insert(key, value)?;
        }
        Ok(self.db().write(&self.batch)?)
    }

    fn remove(&mut self, key: &[u8]) -> Outcome<bool> {
        Ok(self.db().remove(key)?)
    }

    fn iterate(&self) -> Outcome<(u64, u64)> {
        let (mut count, mut sum) = (0, 0);
        for entry in self.db().iter() {
            let (key, value) = entry?;
            count += 1;
            sum ^= taste(&key) ^ taste(&value);
        }
        Ok((count, sum))
    }

    fn settle(&mut self) -> Outcome {
        Ok(self.db().sync()?)
    }
}

/// The map of the standard library, with its own hash.
#[derive(Default)]
pub struct StdMap(HashMap<Vec<u8>, Vec<u8>>);

impl Engine for StdMap {
    const NAME: &'static str = "HashMap";

    fn insert(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        self.0.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    /// Into the vector that is there: no allocation, unlike inserting anew.
    fn overwrite(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        let slot = self.0.get_mut(key).ok_or("an entry is missing")?;
        slot.clear();
        slot.extend_from_slice(value);
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Outcome<Option<u64>> {
        Ok(self.0.get(key).map(|value| taste(value)))
    }

    fn look(&self, key: &[u8]) -> Outcome<Option<u64>> {
        self.get(key)
    }

    fn multi_get(&self, keys: &[Key]) -> Outcome<(u64, u64)> {
        let (mut count, mut sum) = (0, 0u64);
        for value in keys.iter().filter_map(|key| self.0.get(&key[..])) {
            (count, sum) = (count + 1, sum.wrapping_add(taste(value)));
        }
        Ok((count, sum))
    }

    fn multi_look(&self, keys: &[Key]) -> Outcome<(u64, u64)> {
        self.multi_get(keys)
    }

    fn multi_insert(&mut self, keys: &[Key], values: &[Value]) -> Outcome {
        for (key, value) in keys.iter().zip(values) {
            self.insert(key, value)?;
        }
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Outcome<bool> {
        Ok(self.0.remove(key).is_some())
    }

    fn iterate(&self) -> Outcome<(u64, u64)> {
        let (mut count, mut sum) = (0, 0);
        for (key, value) in &self.0 {
            count += 1;
            sum ^= taste(key) ^ taste(value);
        }
        Ok((count, sum))
    }

    fn settle(&mut self) -> Outcome {
        Ok(())
    }
}
