//! A new store, while it is made from another one: by salvage, or as a backup.
//!
//! It is an ordinary store that is opened, written in batches and closed. That
//! costs more than writing its files front to back, which would need all
//! entries in the order of their new hashes; but entries come as they lie in
//! the old store, or as its damage left them, some of them twice, and then the
//! log changes them once more. So what comes later replaces what came before,
//! and memory does not depend on how much there is.
//!
//! # An end before the end
//!
//! The store is made in a directory beside its own, `DEST.tmp`, and gets its
//! name when it is whole and durable. So whatever bears the name `DEST` is
//! whole. If anything fails the directory is removed; if the process is killed
//! it is left behind, and who comes next asks for its removal: nobody can tell
//! whether somebody is still at work there.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::Batch;
use crate::compact::{CompactProgress, compact};
use crate::error::{Error, Result};
use crate::format::header::DEFAULT_TABLE;
use crate::handle::Handle;
use crate::options::{Durability, Options, TableOptions};
use crate::storage::Storage;
use crate::table::Table;

/// Bytes that are written with one record, about.
const BATCH: u64 = 64 << 10;

/// The directory in which a new store is made.
pub(crate) struct Scaffold {
    temporary: PathBuf,
    done: bool,
}

impl Scaffold {
    /// Makes the directory for a new store `dest`, if nothing is in the way and
    /// it does not lie in the `source`.
    pub(crate) fn new(dest: &Path, source: &Path) -> Result<Scaffold> {
        refuse_inside(dest, source)?;
        let Some(name) = dest.file_name() else {
            return Err(Error::invalid(format!("{} is no name for a new store", dest.display())));
        };
        if std::fs::symlink_metadata(dest).is_ok() {
            let text = format!("{} exists; give the new store another name", dest.display());
            return Err(Error::invalid(text));
        }
        let mut temporary = name.to_owned();
        temporary.push(".tmp");
        let temporary = dest.with_file_name(temporary);
        // Its parents are not made: where a disk is not mounted, nothing should
        // be written in its place.
        match std::fs::create_dir(&temporary) {
            Ok(()) => Ok(Scaffold { temporary, done: false }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Error::invalid(format!(
                "{} exists, from a backup or a salvage that was interrupted or is still running; \
                 remove it if none is",
                temporary.display()
            ))),
            Err(error) => Err(Error::io("create", temporary, error)),
        }
    }

    /// Where the store is made.
    pub(crate) fn path(&self) -> &Path {
        &self.temporary
    }

    /// Gives the new store its name, durably.
    pub(crate) fn finish(mut self, dest: &Path) -> Result<()> {
        let renamed = std::fs::rename(&self.temporary, dest);
        renamed.map_err(|error| Error::io("rename", &self.temporary, error))?;
        self.done = true;
        let parent = parent(dest);
        let synced = std::fs::File::open(parent).and_then(|directory| directory.sync_all());
        synced.map_err(|error| Error::io("sync", parent, error))
    }
}

impl Drop for Scaffold {
    fn drop(&mut self) {
        if !self.done {
            // It was made here; if it stays, who comes next says so.
            let _ = std::fs::remove_dir_all(&self.temporary);
        }
    }
}

/// Refuses a new store among the files of the one that it is made from.
fn refuse_inside(dest: &Path, source: &Path) -> Result<()> {
    // A store in memory has no directory.
    let real = (std::fs::canonicalize(source), std::fs::canonicalize(parent(dest)));
    if let (Ok(source), Ok(place)) = real
        && place.starts_with(&source)
    {
        let (dest, source) = (dest.display(), source.display());
        let text = format!("{dest} is inside the store {source}; make the new store elsewhere");
        return Err(Error::invalid(text));
    }
    Ok(())
}

/// The directory that a path names something in.
fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// A store that is being filled.
pub(crate) struct Target {
    handle: Handle,
    default: Arc<Table>,
    batch: Batch,
}

impl Target {
    /// Creates a store. Slots and hash of the default table are those of the
    /// options.
    pub(crate) fn create(storage: Arc<dyn Storage>, options: &Options) -> Result<Target> {
        let options = options.clone().read_only(false).create(true);
        // All of it is made durable at the end, and is nobody's before.
        let store = crate::recovery::open(storage, &options.durability(Durability::Buffered))?;
        let default = store.find_table(DEFAULT_TABLE);
        let default = default.ok_or_else(|| Error::NotFound { what: "default table".into() })?;
        Ok(Target { handle: Handle::start(store)?, default, batch: Batch::new() })
    }

    /// The table of a name; creates it if need be.
    pub(crate) fn table(&mut self, name: &str, options: &TableOptions) -> Result<Arc<Table>> {
        self.flush()?;
        self.handle.store.create_table(name, options)
    }

    /// Whether there is a table of a name.
    pub(crate) fn has_table(&self, name: &str) -> bool {
        self.handle.store.find_table(name).is_some()
    }

    /// Sets the value of a key.
    pub(crate) fn insert(&mut self, table: &Arc<Table>, key: &[u8], value: &[u8]) -> Result<()> {
        self.make_room(key.len() + value.len())?;
        self.batch.push(Some(table.clone()), true, key, value)
    }

    /// Sets the value of a key that is not there; says whether it was not.
    pub(crate) fn insert_if_absent(
        &mut self,
        table: &Arc<Table>,
        key: &[u8],
        value: &[u8],
    ) -> Result<bool> {
        self.flush()?;
        let absent = !self.handle.store.contains_key(table, key)?;
        if absent {
            self.handle.store.insert(table, key, value)?;
        }
        Ok(absent)
    }

    /// Removes a key, if it is there.
    pub(crate) fn remove(&mut self, table: &Arc<Table>, key: &[u8]) -> Result<()> {
        self.make_room(key.len())?;
        self.batch.push(Some(table.clone()), false, key, &[])
    }

    /// Removes all entries of a table.
    pub(crate) fn clear(&mut self, table: &Table) -> Result<()> {
        self.flush()?;
        self.handle.store.clear(table)
    }

    /// Drops a table.
    pub(crate) fn drop_table(&mut self, table: &Table) -> Result<()> {
        self.flush()?;
        self.handle.store.drop_table(&table.name).map(|_| ())
    }

    fn make_room(&mut self, bytes: usize) -> Result<()> {
        match self.batch.bytes() + bytes as u64 > BATCH {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Writes what was collected.
    fn flush(&mut self) -> Result<()> {
        if !self.batch.is_empty() {
            self.handle.store.write(&self.default, &self.batch)?;
            self.batch.clear();
        }
        Ok(())
    }

    /// Makes the store as small as it gets; see [`compact`]. Says whether it came
    /// to its end.
    pub(crate) fn compact(
        &mut self,
        tell: &mut dyn FnMut(&CompactProgress) -> ControlFlow<()>,
    ) -> Result<bool> {
        self.flush()?;
        Ok(compact(&self.handle.store, tell)?.finished)
    }

    /// Closes the store; returns how many tables and entries it has. All of it
    /// is durable then.
    pub(crate) fn close(mut self) -> Result<(u64, u64)> {
        self.flush()?;
        let (mut tables, mut entries) = (0, 0);
        for name in self.handle.store.table_names()? {
            tables += 1;
            entries += self.handle.store.find_table(&name).map_or(0, |table| table.len());
        }
        self.handle.close(true)?;
        Ok((tables, entries))
    }
}
