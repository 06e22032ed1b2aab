//! What is compared, behind one face.
//!
//! Each workload is a function over this trait, compiled once for each store,
//! so that nothing stands between the loop and the store. The verbs are what all
//! of them can do; how each does it best is said in its own file in `engines/`.
//!
//! A `get` *lends* the bytes to a function: stores that have them in their own
//! memory need not copy them; those that only hand out copies have made one.
//!
//! Writing goes through `&mut self` since the maps in memory need it. A store
//! that threads can share gives each of them a handle of its own.

use std::path::PathBuf;

use super::entries::{Entries, Key};
use crate::Outcome;

/// What a store is opened with.
#[derive(Clone, Debug)]
// Not all of it means something to swissdb and the maps.
#[cfg_attr(not(feature = "peers"), allow(dead_code))]
pub struct Config {
    /// The directory, which is there and empty, or holds the store.
    pub path: PathBuf,
    /// Whether each commit waits for the device. If not, the class is
    /// "buffered": no commit waits for a sync, and what was committed is handed
    /// to the kernel at latest within the store's own interval.
    pub sync: bool,
    /// Bytes for caches; much more than the data unless memory is limited.
    pub cache: u64,
    /// Whether memory is limited to less than the data.
    pub starved: bool,
    /// The user's bytes that it will hold at most.
    pub data: u64,
    /// The length of all keys.
    pub key_bytes: usize,
    /// The length of all values.
    pub value_bytes: usize,
}

/// A store of entries. All commits are of the class that the [`Config`] says.
pub trait Store: Sized + Send {
    /// How many entries one commit of a bulk load has at most: all, where the
    /// store wants that.
    const BULK: usize = usize::MAX;

    /// Opens the store, or makes it.
    fn open(config: &Config) -> Outcome<Self>;

    /// Another handle for another thread; none if threads cannot share it.
    fn handle(&self) -> Option<Self>;

    /// Inserts or overwrites an entry: one commit.
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Outcome;

    /// Inserts or overwrites many entries in one commit, or in the largest that
    /// the store has.
    fn insert_all(&mut self, entries: Entries) -> Outcome;

    /// Removes an entry: one commit.
    fn remove(&mut self, key: &[u8]) -> Outcome;

    /// Removes many entries, as [`insert_all`](Self::insert_all).
    fn remove_all(&mut self, keys: &[Key]) -> Outcome;

    /// Lends a value to `look`; says whether there is one. It sees all that was
    /// committed through this handle, and by others before the last
    /// [`refresh`](Self::refresh).
    fn get(&mut self, key: &[u8], look: impl FnMut(&[u8])) -> Outcome<bool>;

    /// Lends the values of many keys, each with its place in the list, in any
    /// order; says how many there are. One call, where the store has one for it.
    fn get_all(&mut self, keys: &[Key], mut look: impl FnMut(usize, &[u8])) -> Outcome<u64> {
        let mut found = 0;
        for (place, key) in keys.iter().enumerate() {
            found += u64::from(self.get(key, |value| look(place, value))?);
        }
        Ok(found)
    }

    /// Lends every entry once.
    fn iterate(&mut self, look: impl FnMut(&[u8], &[u8])) -> Outcome;

    /// Lets the following reads see what other handles have committed.
    fn refresh(&mut self) {}

    /// Makes durable what was committed.
    fn settle(&mut self) -> Outcome;

    /// Bytes of the log that opening the store just now had to apply, if the store tells.
    fn log_bytes(&self) -> Option<u64> {
        None
    }

    /// Takes as little space as it can; false if it has no call for that.
    fn compact(&mut self) -> Outcome<bool>;

    /// Closes the store cleanly. No other handle is left.
    fn close(self) -> Outcome;
}
