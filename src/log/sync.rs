//! Making commits durable, many at a time.
//!
//! Whoever needs commits up to a number to survive power loss calls
//! [`Log::sync_to`]. One of those who wait leads: it notes the last commit
//! appended, syncs every file with undurable bytes, oldest first, and raises
//! the durable mark; the others wait and find their commits covered, or lead
//! the next round. No lock of a writer is held meanwhile, so commits go on.
//!
//! # Why the order
//!
//! What survives must be a prefix of the commits. A file's records follow all
//! records of the files before it, and its activation lies in the file itself;
//! so when a file has been synced after its predecessors, it is in the chain
//! and nothing before it is missing.
//!
//! # What a leader syncs is enough
//!
//! A file enters the list of unsynced files before its first record is counted
//! as appended. The leader loads the count first and the list second, so the
//! list holds the file of every commit it is going to call durable. A file
//! that is not the last of that list is finished: nothing is written to it any
//! more, and it leaves the list after the sync.
//!
//! # Files without a record
//!
//! [`Appender::rotate`](super::Appender::rotate) activates a file without a
//! commit, and the place where that file begins may be written into a table's
//! header as soon as [`Log::sync_to`] has returned. So the last file that was
//! activated like this has a mark of its own, and a caller whose commits are
//! durable still waits for a sync if the file is not: once per rotation.
//!
//! # When it fails
//!
//! A leader that fails or panics poisons the store, and everybody who waits
//! wakes and learns of it. Nothing is synced after that.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Instant;

use super::files::Writable;
use super::{Log, lock, wait};
use crate::error::{Error, Result};
use crate::format::record::log_file_name;

/// Who syncs, and what there is to sync.
#[derive(Default)]
pub(super) struct SyncState {
    /// Whether somebody leads.
    leading: bool,
    /// Files with undurable bytes, oldest first; the last one is active.
    pub(super) unsynced: VecDeque<Writable>,
}

impl Log {
    /// Returns when all commits up to that number are durable, and with them
    /// every activation of a file so far. Numbers beyond the last commit stand
    /// for the last.
    ///
    /// # Errors
    ///
    /// `Io` for the one whose sync failed, `Poisoned` for everybody else.
    pub(crate) fn sync_to(&self, commit: u64) -> Result<()> {
        let commit = commit.min(self.appended());
        let file = self.rotated.load(Acquire);
        let covered = || self.durable() >= commit && self.settled.load(Acquire) >= file;
        if covered() {
            return Ok(());
        }
        let mut state = lock(&self.sync);
        loop {
            if covered() {
                return Ok(());
            }
            self.poison.check()?;
            if !state.leading {
                break;
            }
            state = wait(&self.synced, state);
        }
        state.leading = true;
        drop(state);
        Leader { log: self, done: false }.lead()
    }

    /// Syncs the unsynced files, then raises the durable mark.
    fn sync_files(&self) -> Result<()> {
        let since = Instant::now();
        let (appended, rotated) = (self.appended(), self.rotated.load(Acquire));
        let files: Vec<Writable> = lock(&self.sync).unsynced.iter().cloned().collect();
        for Writable { log, file } in &files {
            let path = || self.storage.path(&log_file_name(log.number));
            file.sync().map_err(|error| Error::io("sync", path(), error))?;
        }
        lock(&self.sync).unsynced.drain(..files.len().saturating_sub(1));
        self.settled.fetch_max(rotated, Release);
        self.durable.fetch_max(appended, Release);
        self.counters.synced(since);
        Ok(())
    }

    /// The last commit that is known to survive power loss.
    #[inline]
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Acquire)
    }

    /// The last commit appended.
    #[inline]
    pub(crate) fn appended(&self) -> u64 {
        self.hot.appended.load(Acquire)
    }
}

/// Lets the others go on, however leading ends.
struct Leader<'a> {
    log: &'a Log,
    done: bool,
}

impl Leader<'_> {
    fn lead(mut self) -> Result<()> {
        let outcome = self.log.sync_files();
        if let Err(error) = &outcome {
            self.log.poison.set(error);
        }
        self.done = true;
        outcome
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.log.poison.set(&"a sync of the log panicked");
        }
        lock(&self.log.sync).leading = false;
        self.log.synced.notify_all();
    }
}
