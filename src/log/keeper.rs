//! The keepers: what is done for the log in the background.
//!
//! [Three](KEEPERS) threads of the store run [`Log::keep`]. They sleep on a
//! condition variable until there is something to do, and one of them does it.
//! There are four things: to sync when the oldest undurable byte has waited for
//! the sync interval; to prepare the next file while the active one fills; to
//! fill that with zeros, and what is kept for a full device; and to
//! map the next stretch of the active file for writing, so that appending does
//! not fault (while most of what is appended is written by system calls, it does
//! without; that stretch is mapped between two pieces of zeros, too).
//!
//! One at a time syncs, one makes files, be it the next one or those for the
//! reserve, and one fills the next one. Three, because each of that may take its
//! time, and so none waits for another. With one thread the next file was begun
//! when the active one was full, in three journal commits behind all that a sync
//! had asked the device for: its writer waited 40 to 500 ms. With two, both were
//! at files now and then, and nobody synced.
//!
//! Nothing depends on them for correctness: whoever needs a file or a sync and
//! finds no keeper does the work itself.
//!
//! # How appending wakes them without a lock
//!
//! The appender publishes a commit, then looks at the flag `dirty`; only if it
//! is clear does it set it, take the lock and wake the keepers: once per burst of
//! commits. One of them clears the flag when an interval has passed in which
//! everything became durable. Both could miss each other: the appender may
//! still see the flag set, and the keeper still the old count of commits, as
//! neither has a fence between its store and its load. So it looks at
//! the count once more, an interval after it has cleared the flag; a store is
//! visible long before that. A fence for each commit is saved by one more
//! wake-up after each burst.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::files::LogFile;
use super::work::being_closed;
use super::{Log, WINDOW, lock, wait, wait_for};
use crate::error::Result;
use crate::storage::Map;

/// The longest interval, for the clock has to go as far: more than a century.
const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

/// How many threads run [`Log::keep`].
pub(crate) const KEEPERS: usize = 3;

/// What the keepers are asked to do.
pub(super) struct Work {
    stop: bool,
    /// Whether one of them syncs, one makes files, and one fills the next one.
    syncing: bool,
    preparing: bool,
    filling: bool,
    /// How long undurable bytes may wait.
    interval: Duration,
    /// When to look for undurable bytes; `None` while there are none.
    due: Option<Instant>,
    /// Whether to prepare the next file.
    prepare: bool,
    populate: Option<Populate>,
}

impl Work {
    pub(super) fn new() -> Work {
        let interval = Duration::from_millis(500);
        Work {
            stop: false,
            syncing: false,
            preparing: false,
            filling: false,
            interval,
            due: None,
            prepare: false,
            populate: None,
        }
    }
}

/// A stretch of a file that is about to be written.
pub(super) struct Populate {
    pub(super) file: Arc<LogFile>,
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Populate {
    fn run(self) {
        self.file.map.populate_write(self.from as usize, (self.to - self.from) as usize);
    }
}

/// One thing to do.
enum Task {
    Stop,
    Populate(Populate),
    Prepare,
    Sync,
}

impl Log {
    /// Does what is to be done in the background until [`Log::stop`] is
    /// called: the body of [some threads](KEEPERS). Undurable bytes wait for
    /// `interval` at most, until they are synced. Failures surface where commits
    /// are made or waited for.
    pub(crate) fn keep(&self, interval: Duration) {
        {
            let mut work = lock(&self.work);
            work.interval = interval.min(LONGEST);
            if self.hot.dirty.load(Relaxed) && work.due.is_none() {
                work.due = Some(Instant::now() + work.interval);
            }
        }
        loop {
            match self.next_task() {
                Task::Stop => return,
                Task::Populate(populate) => populate.run(),
                Task::Prepare => self.prepare_and_fill(),
                Task::Sync => {
                    // A failure has poisoned the store; everybody learns of it there.
                    drop(self.sync_to(u64::MAX));
                    self.finish(|work| &mut work.syncing);
                }
            }
        }
    }

    /// Prepares the next file, fills it, and then the reserve, but for what
    /// another keeper is at. Whoever needs a file meets the error, if it persists.
    fn prepare_and_fill(&self) {
        let prepared = self.prepare_ahead();
        self.finish(|work| &mut work.preparing);
        if prepared.is_err() {
            return;
        }
        if self.take_on(|work| &mut work.filling) {
            drop(self.fill_ready());
            self.finish(|work| &mut work.filling);
        }
        // If somebody asks for a file meanwhile, this ends soon.
        if self.take_on(|work| &mut work.preparing) {
            drop(self.fill_reserve_ahead());
            self.finish(|work| &mut work.preparing);
        }
    }

    /// Takes on what one keeper at a time does, if no other has.
    fn take_on(&self, what: fn(&mut Work) -> &mut bool) -> bool {
        !std::mem::replace(what(&mut lock(&self.work)), true)
    }

    /// Says that it is done. One of the others may have left something for then, and one has to
    /// look when the next sync is due, whatever this one does now.
    fn finish(&self, what: fn(&mut Work) -> &mut bool) {
        *what(&mut lock(&self.work)) = false;
        self.wake.notify_all();
    }

    /// Ends [`Log::keep`], soon. It stays ended.
    pub(crate) fn stop(&self) {
        lock(&self.work).stop = true;
        self.wake.notify_all();
    }

    /// Sleeps until there is something to do.
    fn next_task(&self) -> Task {
        let mut work = lock(&self.work);
        loop {
            if work.stop {
                return Task::Stop;
            }
            if let Some(populate) = work.populate.take() {
                return Task::Populate(populate);
            }
            if !work.preparing && std::mem::take(&mut work.prepare) {
                work.preparing = true;
                return Task::Prepare;
            }
            // When that is over, all look again.
            let left = if work.syncing { None } else { self.time_left(&mut work) };
            work = match left {
                Some(Duration::ZERO) => {
                    work.syncing = true;
                    return Task::Sync;
                }
                Some(left) => wait_for(&self.wake, work, left),
                None => wait(&self.wake, work),
            };
        }
    }

    /// How long nobody has to look for undurable bytes. Zero: there are some, and
    /// it is time for a sync; what is appended from here on waits from here on, at
    /// most. `None`: there is nothing to look for.
    fn time_left(&self, work: &mut Work) -> Option<Duration> {
        let (due, now) = (work.due?, Instant::now());
        if due > now {
            return Some(due - now);
        }
        if self.poison.is_set() {
            work.due = None;
            return None;
        }
        if self.durable() < self.appended() {
            work.due = Some(now + work.interval);
            return Some(Duration::ZERO);
        }
        // Quiet: look once more, then sleep until somebody appends.
        let was_dirty = self.hot.dirty.swap(false, Relaxed);
        work.due = was_dirty.then_some(now + work.interval);
        was_dirty.then_some(work.interval)
    }

    /// For somebody in the background who is at something long: does what
    /// cannot wait for a keeper that syncs, and says if the log is being closed.
    pub(super) fn breathe(&self) -> Result<()> {
        let mut work = lock(&self.work);
        if work.stop {
            return Err(being_closed());
        }
        let populate = work.populate.take();
        drop(work);
        populate.into_iter().for_each(Populate::run);
        Ok(())
    }

    /// Called by the append that finds nothing undurable before it.
    #[cold]
    pub(super) fn mark_dirty(&self) {
        let mut work = lock(&self.work);
        self.hot.dirty.store(true, Relaxed);
        if work.due.is_none() {
            work.due = Some(Instant::now() + work.interval);
            drop(work);
            self.wake.notify_all();
        }
    }

    /// Whoever asked for a file was heard.
    pub(super) fn heard(&self) {
        lock(&self.work).prepare = false;
    }

    /// Whether a file was asked for and is not being prepared yet.
    pub(super) fn is_asked_for_file(&self) -> bool {
        lock(&self.work).prepare
    }

    /// Asks for the next file to be prepared.
    #[cold]
    pub(super) fn ask_for_file(&self) {
        lock(&self.work).prepare = true;
        self.wake.notify_all();
    }

    /// Maps the first stretch of a new file for writing, where records are
    /// written through the mapping.
    pub(super) fn populate_first(&self, map: &Map) {
        if !self.by_calls.load(Relaxed) {
            map.populate_write(0, WINDOW as usize);
        }
    }

    /// Asks for a stretch of the active file to be mapped for writing.
    #[cold]
    pub(super) fn ask_to_populate(&self, populate: Populate) {
        lock(&self.work).populate = Some(populate);
        self.wake.notify_all();
    }
}
