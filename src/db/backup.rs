//! The methods of a store that copy it.
//!
//! How is in [`crate::backup`]; here is what it costs, what it waits for, and what
//! is there afterwards.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::Db;
use crate::backup::{self, BackedUp, BackupProgress};
use crate::error::Result;
use crate::storage::Storage;

impl Db {
    /// Copies the store, as it is now, to a new one in the directory `dest`,
    /// which must not exist. Readers and writers go on, and nothing that they
    /// do from now on is in the copy: it is the store between two commits.
    ///
    /// When this returns the copy is complete, durable and closed. It was
    /// compacted, and then read again and verified. Its tables have the names,
    /// slots and hashes of the old ones. Until then there is no `dest`: the copy
    /// is made in a directory with `.tmp` behind that name, which is removed if
    /// anything fails. Only a process that is killed leaves it behind.
    ///
    /// Takes as long as reading every entry and inserting it again, and then as
    /// [`Db::compact`] and [`Db::verify`]; memory for a second write buffer; up
    /// to twice the space of the compacted copy. While entries are copied a
    /// [`Snapshot`](crate::Snapshot) is held. The store may be open for reading
    /// only, or in memory.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let db = swissdb::Db::open(dir.path().join("store"))?;
    /// db.insert("sky", "blue")?;
    /// let backed_up = db.backup(dir.path().join("copy"))?;
    /// assert_eq!((backed_up.finished, backed_up.entries), (true, 1));
    /// db.insert("sky", "grey")?;
    /// let copy = swissdb::Db::open(dir.path().join("copy"))?;
    /// assert_eq!(copy.get("sky")?.as_deref(), Some(&b"blue"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if `dest`, or
    /// `dest` with `.tmp` behind it, exists, or lies inside the store;
    /// [`Error::Corrupt`](crate::Error::Corrupt) if anything of the store is
    /// damaged, for then only [`salvage`](crate::salvage) can make a new one;
    /// [`Error::Io`](crate::Error::Io), for one if there is no room for the copy,
    /// or if it is damaged when it is read again;
    /// [`Error::Poisoned`](crate::Error::Poisoned). After an error there is no
    /// `dest`, unless it came from the last step of all, making the name durable.
    pub fn backup(&self, dest: impl AsRef<Path>) -> Result<BackedUp> {
        self.backup_with(dest, |_| ControlFlow::Continue(()))
    }

    /// As [`Db::backup`], telling a function how far it is, some times a second
    /// or more often, though not while the copy is verified. If it returns
    /// [`ControlFlow::Break`] the backup ends soon, and nothing is left of it.
    ///
    /// # Errors
    ///
    /// As [`Db::backup`].
    pub fn backup_with(
        &self,
        dest: impl AsRef<Path>,
        mut progress: impl FnMut(&BackupProgress) -> ControlFlow<()>,
    ) -> Result<BackedUp> {
        backup::backup(&self.handle, dest.as_ref(), &mut progress)
    }

    /// As [`Db::backup_with`], to any [`Storage`] on which nothing is yet. The
    /// store there is made under its own name: if the backup fails or is
    /// stopped, what was written is left, and may well open.
    ///
    /// # Errors
    ///
    /// As [`Db::backup`].
    pub fn backup_on(
        &self,
        dest: Arc<dyn Storage>,
        mut progress: impl FnMut(&BackupProgress) -> ControlFlow<()>,
    ) -> Result<BackedUp> {
        backup::backup_on(&self.handle, dest, &mut progress)
    }
}
