//! The floors: maps in memory, `HashMap<Vec<u8>, Vec<u8>>`.
//!
//! What a program without a store would use: two allocations for each entry,
//! nothing on disk. They are no peers, since they forget everything. [`StdMap`] is
//! that of the standard library, with SipHash; [`Hashbrown`] is the same map with
//! hashbrown's default hash, foldhash: what hashing safely costs is the difference
//! between the two. `insert` is the map's own, with fresh vectors: the caller does
//! not know whether the key is there. Threads cannot share one without a lock, so
//! they sit out where there is more than one. They have no commits and no call for
//! many keys at once.

use crate::Outcome;
use crate::compare::entries::{Entries, Key};
use crate::compare::store::{Config, Store};

/// A map as a store: both have the same methods.
macro_rules! store {
    ($(#[$doc:meta])* $name:ident of $map:ty) => {
        $(#[$doc])*
        #[derive(Default)]
        pub struct $name($map);

        impl Store for $name {
            fn open(_: &Config) -> Outcome<$name> {
                Ok($name::default())
            }

            fn handle(&self) -> Option<$name> {
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
    };
}

store! {
    /// The map of the standard library.
    StdMap of std::collections::HashMap<Vec<u8>, Vec<u8>>
}

store! {
    /// That of hashbrown.
    Hashbrown of hashbrown::HashMap<Vec<u8>, Vec<u8>>
}
