//! Iteration that can be resumed, and in parts.
//!
//! A cursor is a place in the order of hashes, so it stays right while the table
//! changes, and the table can be cut into parts of about the same size. How is in
//! [`crate::cursor`].

use crate::cursor::{Cursor, Scan};
use crate::error::Result;

use super::Db;

impl Db {
    /// Goes on with an iteration from where a cursor was taken; from the
    /// beginning with [`Cursor::start`]. See [`Cursor`] for how long one stays
    /// good, and [`Scan`] for what is guaranteed while entries change.
    ///
    /// ```
    /// use swissdb::Cursor;
    ///
    /// let db = swissdb::Db::in_memory()?;
    /// db.insert("a", "1")?;
    /// db.insert("b", "2")?;
    /// let mut scan = db.iter_from(Cursor::start())?;
    /// let first = scan.next().unwrap()?;
    /// let second = db.iter_from(scan.cursor())?.next().unwrap()?;
    /// assert_ne!(first.0, second.0);
    /// # Ok::<(), swissdb::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if the cursor
    /// is of another table, or was taken before the table was cleared.
    pub fn iter_from(&self, cursor: Cursor) -> Result<Scan> {
        Scan::resume(self.handle.clone(), self.table.clone(), cursor)
    }

    /// The default table in `n` parts of about the same size, for as many
    /// threads: each entry is in one of them. Parts can be resumed on their own.
    /// 0 counts as 1, and there are 65,536 parts at most.
    ///
    /// Each part keeps the promises of [`Scan`] for its entries. Where a page
    /// cannot be read, each part that has a share in it says so.
    ///
    /// ```
    /// let db = swissdb::Db::in_memory()?;
    /// for i in 0..1000u32 {
    ///     db.insert(i.to_be_bytes(), "x")?;
    /// }
    /// let counts = std::thread::scope(|scope| {
    ///     let parts = db.scan_partitions(4).into_iter();
    ///     let threads: Vec<_> = parts.map(|part| scope.spawn(|| part.count())).collect();
    ///     threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    /// });
    /// assert_eq!(counts, 1000);
    /// # Ok::<(), swissdb::Error>(())
    /// ```
    pub fn scan_partitions(&self, n: usize) -> Vec<Scan> {
        Scan::parts(&self.handle, &self.table, n)
    }
}
