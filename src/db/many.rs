//! Reading many keys at once.
//!
//! Here is what the calls promise. That the waits of many lookups run at the same
//! time is the doing of the table; what stands in the log, and whatever is not
//! plain, is looked up key by key.

use crate::error::Result;
use crate::value::Value;

use super::Db;

impl Db {
    /// The values of many keys, in the order of the keys.
    ///
    /// The waits for memory of several lookups run at the same time, and so do
    /// those for the device where pages are not in memory: less than half the
    /// time of as many calls of [`Db::get`], from some ten keys on. A key may
    /// stand in the list more than once.
    ///
    /// This is no snapshot: each value is what the key had at some moment of the
    /// call, not all at the same one.
    ///
    /// ```
    /// let db = swissdb::Db::in_memory()?;
    /// db.insert("apple", "red")?;
    /// db.insert("plum", "blue")?;
    /// let colours = db.multi_get(&["plum", "pear", "apple"])?;
    /// assert_eq!(colours[0].as_deref(), Some(&b"blue"[..]));
    /// assert_eq!(colours[1], None);
    /// assert_eq!(colours[2].as_deref(), Some(&b"red"[..]));
    /// # Ok::<(), swissdb::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Db::get`], if any of the values cannot be read: the error of the
    /// first such key. [`Db::multi_get_with`] gives the others nevertheless.
    #[inline]
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Value>>> {
        self.store().multi_get(&self.table, keys)
    }

    /// Lends the values of many keys to a function, without an allocation. It
    /// is called once for each key, with the key's place in the list, *in no
    /// order*. Otherwise as [`Db::multi_get`].
    ///
    /// ```
    /// let db = swissdb::Db::in_memory()?;
    /// db.insert("apple", "red")?;
    /// db.insert("plum", "blue")?;
    /// let mut lengths = [None; 3];
    /// db.multi_get_with(&["plum", "pear", "apple"], |i, value| match value {
    ///     Ok(value) => lengths[i] = value.map(<[u8]>::len),
    ///     Err(error) => eprintln!("key {i} cannot be read: {error}"),
    /// })?;
    /// assert_eq!(lengths, [Some(4), None, Some(3)]);
    /// # Ok::<(), swissdb::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`](crate::Error::Corrupt) and
    /// [`Error::Io`](crate::Error::Io) are given to the function, for the key
    /// that cannot be read; the others are not touched by it.
    /// [`Error::Closed`](crate::Error::Closed) is returned, and the function is
    /// not called any more.
    #[inline]
    pub fn multi_get_with<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        lend: impl FnMut(usize, Result<Option<&[u8]>>),
    ) -> Result<()> {
        self.store().multi_get_with(&self.table, keys, lend)
    }
}
