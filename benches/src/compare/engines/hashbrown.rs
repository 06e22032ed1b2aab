//! The second floor: `hashbrown::HashMap<Vec<u8>, Vec<u8>>`.
//!
//! The same map with hashbrown's default hash, foldhash, in place of SipHash: what
//! hashing safely costs is the difference between the two. Otherwise used as the
//! map of the standard library.

use hashbrown::HashMap;

use crate::Outcome;
use crate::compare::entries::{Entries, Key};
use crate::compare::store::{Config, Store};

/// The map.
#[derive(Default)]
pub struct Hashbrown(HashMap<Vec<u8>, Vec<u8>>);

impl Store for Hashbrown {
    fn open(_: &Config) -> Outcome<Hashbrown> {
        Ok(Hashbrown::default())
    }

    fn handle(&self) -> Option<Hashbrown> {
        None
    }

    fn insert(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        self.0.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn insert_all(&mut self, entries: Entries) -> Outcome {
        entries.iter().try_for_each(|(key, value)| self.insert(key, value))
    }

    fn remove(&mut self, key: &[u8]) -> Outcome {
        self.0.remove(key);
        Ok(())
    }

    fn remove_all(&mut self, keys: &[Key]) -> Outcome {
        keys.iter().try_for_each(|key| self.remove(key))
    }

    fn get(&mut self, key: &[u8], mut look: impl FnMut(&[u8])) -> Outcome<bool> {
        Ok(self.0.get(key).map(|value| look(value)).is_some())
    }

    fn iterate(&mut self, mut look: impl FnMut(&[u8], &[u8])) -> Outcome {
        self.0.iter().for_each(|(key, value)| look(key, value));
        Ok(())
    }

    fn settle(&mut self) -> Outcome {
        Ok(())
    }

    fn compact(&mut self) -> Outcome<bool> {
        self.0.shrink_to_fit();
        Ok(true)
    }

    fn close(self) -> Outcome {
        Ok(())
    }
}
