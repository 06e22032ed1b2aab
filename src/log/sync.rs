//! Making commits durable, many at a time.
//!
//! Whoever needs commits up to a number to survive power loss calls
//! [`Log::sync_to`], or [`Log::make_durable`] if it is a writer and they are its
//! own. One of those who wait leads: it notes the last commit appended, syncs
//! every file with undurable bytes, oldest first, and raises the durable mark;
//! the others wait and find their commits covered, or lead the next round. No
//! lock of a writer is held meanwhile, so commits go on.
//!
//! # Who leads
//!
//! While a sync is under way, nobody begins another. When none is, a writer who
//! comes looks whether others are about to come as well ([`crowd`](super::crowd)),
//! so that one sync covers all of them. If so it *gathers*: it sleeps, for a
//! bounded time. Whoever completes the crowd leads, at once: nobody has to be
//! woken before the sync begins, and so the device waits for no thread that
//! sleeps. If nobody does, the one who gathers leads when its time is over.
//! Whoever is in the background gathers nobody, and begins.
//!
//! # Who is woken
//!
//! Waking a thread that has to sleep again is what many threads spend their
//! time with. So there are two beds: syncs are counted, and whoever the odd ones
//! cover sleeps in one, whoever the even ones in the other. When a sync ends,
//! all are woken whom it covers, and one of those who came too late, to see to
//! the next sync: it leads, or gathers. A call to the system is made only for a
//! bed in which somebody is.
//!
//! While nobody leads or gathers and somebody sleeps, one who has been woken is
//! on its way. It may find that another has led meanwhile: then its commit is
//! covered, and that leader has woken one in its turn. Or it finds the store
//! poisoned and goes: so then it wakes everybody.
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
//! wakes and learns of it. Nothing is called durable after that.

use std::collections::VecDeque;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};

use super::crowd::Crowd;
use super::files::Writable;
use super::{Log, lock, wait, wait_for};
use crate::error::{Error, Result};
use crate::format::record::log_file_name;

/// Who syncs, and what there is to sync.
#[derive(Default)]
pub(super) struct SyncState {
    phase: Phase,
    /// Syncs begun.
    round: u64,
    /// The last commit and the last activation that the latest of them covers.
    target: (u64, u32),
    /// How many sleep in each bed.
    asleep: [usize; 2],
    /// The writers who come for syncs.
    pub(super) crowd: Crowd,
    /// Files with undurable bytes, oldest first; the last one is active.
    pub(super) unsynced: VecDeque<Writable>,
}

/// What is going on.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing.
    #[default]
    Idle,
    /// Somebody waits for writers; so many were missing.
    Gathering { missing: usize },
    /// Somebody syncs.
    Syncing,
}

/// The bed of those whom that sync covers.
fn bed(round: u64) -> usize {
    (round % 2) as usize
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
        }
        loop {
            if self.covers(commit, file) {
                return Ok(());
            }
            if let Err(error) = self.poison.check() {
                self.wake(state);
                return Err(error);
            }
            match state.phase {
                Phase::Idle => {
                    let missing = if writer { state.crowd.missing() } else { None };
                    let Some((missing, patience)) = missing else { break };
                    let time_is_over;
                    (state, time_is_over) = self.gather(state, missing, patience);
                    if time_is_over {
                        break;
                    }
                }
                Phase::Gathering { .. } if !writer => break,
                Phase::Gathering { missing } if state.crowd.is_complete() => {
                    state.crowd.waited_for(missing);
                    break;
                }
                Phase::Gathering { .. } | Phase::Syncing => {
                    let next = state.phase != Phase::Syncing || !state.covers(commit, file);
                    let round = state.round + u64::from(next);
                    state = self.sleep(state, bed(round), None);
                }
            }
        }
        self.begin(state).lead()
    }

    /// Sleeps in a bed until woken, or for some time.
    fn sleep<'a>(
        &self,
        mut state: MutexGuard<'a, SyncState>,
        bed: usize,
        time: Option<Duration>,
    ) -> MutexGuard<'a, SyncState> {
        state.asleep[bed] += 1;
        state = match time {
            None => wait(&self.synced[bed], state),
            Some(time) => wait_for(&self.synced[bed], state, time),
        };
        state.asleep[bed] -= 1;
        state
    }

    /// Waits for other writers who are about to come. Says whether the time for
    /// that is over; else somebody has begun.
    fn gather<'a>(
        &self,
        mut state: MutexGuard<'a, SyncState>,
        missing: usize,
        patience: Duration,
    ) -> (MutexGuard<'a, SyncState>, bool) {
        let (since, round) = (Instant::now(), state.round);
        state.phase = Phase::Gathering { missing };
        loop {
            let left = patience.saturating_sub(since.elapsed());
            if left.is_zero() {
                state.crowd.waited_for(missing);
                return (state, true);
            }
            state = self.sleep(state, bed(round + 1), Some(left));
            if state.round != round {
                return (state, false);
            }
        }
    }

    /// Begins a sync of all that was appended.
    fn begin(&self, mut state: MutexGuard<'_, SyncState>) -> Leader<'_> {
        debug_assert!(state.phase != Phase::Syncing, "one sync at a time");
        let target = (self.appended(), self.rotated.load(Acquire));
        let files = state.unsynced.iter().cloned().collect();
        state.crowd.sync_begins(target.0);
        state.phase = Phase::Syncing;
        state.round += 1;
        state.target = target;
        Leader { log: self, target, files, since: Instant::now(), done: false }
    }

    /// Wakes those whom the latest sync covers, and one who sees to the next; if
    /// the store is poisoned, everybody.
    fn wake(&self, state: MutexGuard<'_, SyncState>) {
        let (ended, next) = (bed(state.round), bed(state.round + 1));
        let [covered, left] = [ended, next].map(|bed| state.asleep[bed] > 0);
        let all = self.poison.is_set();
        drop(state);
        if left && all {
            self.synced[next].notify_all();
        } else if left {
            self.synced[next].notify_one();
        }
        if covered {
            self.synced[ended].notify_all();
        }
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

impl SyncState {
    /// Whether the latest sync covers a commit and an activation.
    fn covers(&self, commit: u64, file: u32) -> bool {
        self.target.0 >= commit && self.target.1 >= file
    }
}

/// Whoever leads. Lets the others go on, however leading ends.
struct Leader<'a> {
    log: &'a Log,
    /// What is durable afterwards.
    target: (u64, u32),
    files: Vec<Writable>,
    since: Instant,
    done: bool,
}

impl Leader<'_> {
    fn lead(mut self) -> Result<()> {
        let outcome = self.sync_files();
        if let Err(error) = &outcome {
            self.log.poison.set(error);
        }
        self.done = true;
        outcome
    }

    /// Syncs the unsynced files, then raises the durable mark.
    fn sync_files(&self) -> Result<()> {
        let Leader { log: this, target: (appended, rotated), ref files, since, .. } = *self;
        // Somebody else may have failed while this one gathered.
        this.poison.check()?;
        for Writable { log, file } in files {
            let path = || this.storage.path(&log_file_name(log.number));
            let let_go = if this.options.append_by_call { 0..0 } else { log.let_go() };
            file.sync().map_err(|error| Error::io("sync", path(), error))?;
            log.take_back(let_go);
        }
        let mut state = lock(&this.sync);
        state.unsynced.drain(..files.len().saturating_sub(1));
        state.crowd.sync_ended(since.elapsed());
        drop(state);
        this.settled.fetch_max(rotated, Release);
        this.durable.fetch_max(appended, Release);
        this.counters.synced(since);
        Ok(())
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.log.poison.set(&"a sync of the log panicked");
        }
        let mut state = lock(&self.log.sync);
        state.phase = Phase::Idle;
        self.log.wake(state);
    }
}
