//! Making commits durable, many at a time.
//!
//! Whoever needs commits up to a number to survive power loss calls
//! [`Log::sync_to`], or [`Log::make_durable`] if it is a writer and they are its
//! own. One of those who wait leads: it notes the last commit appended, syncs
//! every file with undurable bytes, oldest first, and raises the durable mark;
//! the others wait and find their commits covered, or lead the next round. No
//! lock of a writer is held meanwhile, so commits go on. A writer who leads
//! waits a little for the others ([`crowd`](super::crowd)), so that one sync
//! covers all of them; whoever is in the background does not.
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
use std::sync::MutexGuard;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Instant;

use super::crowd::Crowd;
use super::files::Writable;
use super::{Log, lock, wait, wait_for};
use crate::error::{Error, Result};
use crate::format::record::log_file_name;

/// Who syncs, and what there is to sync.
#[derive(Default)]
pub(super) struct SyncState {
    /// Whether somebody leads.
    leading: bool,
    /// The writers who come for syncs.
    pub(super) crowd: Crowd,
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
        if self.covers(commit, self.rotated.load(Acquire)) {
            return Ok(());
        }
        self.wait_for_sync(commit, false)
    }

    /// The same for a writer who waits for commits of its own: the sync is
    /// shared with other writers who are about to commit. What it takes is
    /// counted.
    ///
    /// # Errors
    ///
    /// As [`sync_to`](Log::sync_to).
    pub(crate) fn make_durable(&self, commit: u64) -> Result<()> {
        if self.covers(commit, self.rotated.load(Acquire)) {
            return Ok(());
        }
        let since = Instant::now();
        let outcome = self.wait_for_sync(commit, true);
        self.counters.waited_for_sync(since);
        outcome
    }

    /// Whether commits up to that number are durable, and activations up to
    /// that of that file.
    fn covers(&self, commit: u64, file: u32) -> bool {
        self.durable() >= commit && self.settled.load(Acquire) >= file
    }

    /// Waits for a sync that covers a commit, or leads one.
    fn wait_for_sync(&self, commit: u64, writer: bool) -> Result<()> {
        let file = self.rotated.load(Acquire);
        let mut state = lock(&self.sync);
        if writer && !self.covers(commit, file) {
            state.crowd.came(commit);
            if state.leading && state.crowd.is_complete() {
                self.gathered.notify_one();
            }
        }
        loop {
            if self.covers(commit, file) {
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
        Leader { log: self, done: false }.lead(writer)
    }

    /// Waits for other writers who are about to come, if that is worth it.
    fn gather<'a>(&self, mut state: MutexGuard<'a, SyncState>) -> MutexGuard<'a, SyncState> {
        let Some((missing, patience)) = state.crowd.missing() else {
            return state;
        };
        let since = Instant::now();
        while !state.crowd.is_complete() {
            let left = patience.saturating_sub(since.elapsed());
            if left.is_zero() {
                break;
            }
            state = wait_for(&self.gathered, state, left);
        }
        state.crowd.waited_for(missing);
        state
    }

    /// Syncs the unsynced files, then raises the durable mark.
    fn sync_files(&self, writer: bool) -> Result<()> {
        let mut state = lock(&self.sync);
        if writer {
            state = self.gather(state);
            // Somebody else may have failed meanwhile.
            self.poison.check()?;
        }
        let since = Instant::now();
        let (appended, rotated) = (self.appended(), self.rotated.load(Acquire));
        let files: Vec<Writable> = state.unsynced.iter().cloned().collect();
        state.crowd.sync_begins(appended);
        drop(state);
        for Writable { log, file } in &files {
            let path = || self.storage.path(&log_file_name(log.number));
            file.sync().map_err(|error| Error::io("sync", path(), error))?;
        }
        let mut state = lock(&self.sync);
        state.unsynced.drain(..files.len().saturating_sub(1));
        state.crowd.sync_ended(since.elapsed());
        drop(state);
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
    fn lead(mut self, writer: bool) -> Result<()> {
        let outcome = self.log.sync_files(writer);
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
