//! Writes that depend on what is there.
//!
//! The comparison and the write are one commit; how is in `store::swap`. These
//! two are all that there is in place of transactions on several keys.

use crate::error::Result;

use super::Db;

impl Db {
    /// Gives a key the value `new` if its value is `expected`; says whether it
    /// was. `None` is no entry: as `expected` it inserts what is not there, as
    /// `new` it removes. It is one commit, and no other write comes between the
    /// comparison and it. If the value is another one nothing is written; with
    /// [`Durability::Sync`](crate::Durability::Sync) it returns when what it has
    /// found is durable.
    ///
    /// Costs an [`Db::insert`] and a [`Db::get`] with the writer lock held; a
    /// value in the log is read for it.
    ///
    /// ```
    /// let db = swissdb::Db::in_memory()?;
    /// assert!(db.compare_and_swap("door", None, Some(b"open"))?); // it was not there
    /// assert!(!db.compare_and_swap("door", None, Some(b"shut"))?); // now it is
    /// assert!(db.compare_and_swap("door", Some(b"open"), Some(b"shut"))?);
    /// assert!(db.compare_and_swap("door", Some(b"shut"), None)?);
    /// assert!(db.is_empty());
    /// # Ok::<(), swissdb::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Db::get`] and [`Db::insert`]. Nothing has changed then, except what is
    /// said there of a failed write or sync of the log.
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool> {
        self.store().compare_and_swap(&self.table, key.as_ref(), expected, new)
    }

    /// Gives a key the value that a function makes of its value, `None` being no
    /// entry; returns what the function gave. No other write of the key is lost:
    /// if there was one meanwhile the function is called again, with the new
    /// value. It runs without a lock, and may use the store.
    ///
    /// A [`Db::get`], the function, and a [`Db::compare_and_swap`], each once as
    /// a rule. If nothing would change nothing is written, and the value is waited
    /// for as with [`Db::compare_and_swap`].
    ///
    /// ```
    /// let db = swissdb::Db::in_memory()?;
    /// let count = |old: Option<&[u8]>| {
    ///     let old = old.and_then(|old| old.try_into().ok()).map_or(0, u64::from_le_bytes);
    ///     Some((old + 1).to_le_bytes())
    /// };
    /// std::thread::scope(|scope| {
    ///     for _ in 0..8 {
    ///         scope.spawn(|| (0..100).try_for_each(|_| db.update("hits", count).map(|_| ())));
    ///     }
    /// });
    /// assert_eq!(db.get("hits")?.as_deref(), Some(&800u64.to_le_bytes()[..]));
    /// # Ok::<(), swissdb::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Db::get`] and [`Db::insert`]. Nothing has changed then, except what is
    /// said there of a failed write or sync of the log.
    pub fn update<V: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        change: impl FnMut(Option<&[u8]>) -> Option<V>,
    ) -> Result<Option<V>> {
        self.store().update(&self.table, key.as_ref(), change)
    }
}
