//! How writers and the background meet, without the writer lock.
//!
//! Writers publish how many frames are dirty; when there are many they wait
//! *between* commits: a little from three quarters of the limit on, and at the
//! limit until a checkpoint has ended. A checkpoint that fails wakes and fails
//! those who wait, so that nobody sleeps for ever.
//!
//! What each commit has to wait a little is *owed*, and paid in [pauses](PAUSE)
//! of a quarter of a millisecond: a sleep takes some 60 us longer than asked for,
//! and whoever sleeps may find the processor taken by somebody else. So one
//! longer pause costs less, and hurts fewer commits, than many short ones.
//!
//! Who is slowed asks for no checkpoint: one was asked for at half of the limit
//! ([`wanted_at`](Signals::wanted_at)), and is, again, by the first commit after
//! one that runs. Asking for another behind that one made twice as many
//! checkpoints of a table as large as the write buffer as its writers needed.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// The longest that one write owes below the limit.
const SLOWEST: Duration = Duration::from_millis(1);

/// How much is owed before somebody pauses.
const PAUSE: Duration = Duration::from_micros(250);

/// Requests and outcomes of checkpoints, and counts for `stats`.
pub(crate) struct Signals {
    /// Dirty frames, as of the last commit.
    dirty: AtomicUsize,
    /// Dirty frames at which writers wait.
    limit: usize,
    /// Nanoseconds that writers owe.
    owed: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) slowed: AtomicU64,
    pub(crate) waits: AtomicU64,
    pub(crate) wait_nanos: AtomicU64,
    /// Bytes written to table files.
    pub(crate) table_bytes: AtomicU64,
    /// How long the last checkpoint that ended well took.
    pub(crate) checkpoint_nanos: AtomicU64,
    /// When it ended.
    checkpointed: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct State {
    wanted: bool,
    /// A state was frozen, and is to be written.
    waiting: bool,
    stop: bool,
    /// Checkpoints that have ended, well or not.
    ended: u64,
    /// What the last one failed with.
    failure: Option<Failure>,
}

/// What whoever runs checkpoints is asked for.
pub(crate) enum Request {
    /// One of the state as it is now. What waits is written before it.
    Checkpoint,
    /// The first of the states that were frozen and wait.
    Waiting,
}

/// What a checkpoint failed with, to be told to all who waited for it.
struct Failure {
    doing: &'static str,
    path: PathBuf,
    kind: io::ErrorKind,
    words: String,
}

impl Failure {
    fn of(error: &Error) -> Failure {
        match error {
            Error::Io { doing, path, source } => {
                let (path, words) = (path.clone(), source.to_string());
                Failure { doing, path, kind: source.kind(), words }
            }
            other => Failure {
                doing: "write to",
                path: "the store".into(),
                kind: io::ErrorKind::Other,
                words: other.to_string(),
            },
        }
    }

    /// The same error, of the same kind: a full device is a full device.
    fn error(&self) -> Error {
        let words = format!("{}, in the checkpoint that was to make room", self.words);
        Error::io(self.doing, &self.path, io::Error::new(self.kind, words))
    }
}

impl Signals {
    pub(crate) fn new(limit: usize) -> Signals {
        Signals {
            dirty: AtomicUsize::new(0),
            limit,
            owed: AtomicU64::new(0),
            state: Mutex::default(),
            changed: Condvar::new(),
            checkpoints: AtomicU64::new(0),
            slowed: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            wait_nanos: AtomicU64::new(0),
            table_bytes: AtomicU64::new(0),
            checkpoint_nanos: AtomicU64::new(0),
            checkpointed: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Dirty frames at which a checkpoint is asked for.
    pub(crate) fn wanted_at(&self) -> usize {
        self.limit / 2
    }

    /// Dirty frames at which writers wait.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Publishes the number of dirty frames.
    #[inline]
    pub(crate) fn set_dirty(&self, frames: usize) {
        self.dirty.store(frames, Ordering::Relaxed);
    }

    /// Waits, before a write, as long as there are too many dirty frames.
    ///
    /// # Errors
    ///
    /// That of the checkpoint that was to make room, if it failed.
    #[inline]
    pub(crate) fn throttle(&self) -> Result<()> {
        if self.dirty.load(Ordering::Relaxed) < self.limit / 4 * 3 {
            return Ok(());
        }
        self.slow_down()
    }

    #[cold]
    fn slow_down(&self) -> Result<()> {
        let dirty = self.dirty.load(Ordering::Relaxed);
        if dirty < self.limit {
            let above = dirty.saturating_sub(self.limit / 4 * 3);
            self.owe(SLOWEST * above as u32 / (self.limit / 4).max(1) as u32);
            return Ok(());
        }
        let ended = self.request();
        let start = Instant::now();
        self.waits.fetch_add(1, Ordering::Relaxed);
        self.wait_for_room(ended)?;
        self.count_wait(start);
        Ok(())
    }

    /// A write has to wait for so long: it pauses if enough is owed.
    fn owe(&self, time: Duration) {
        let time = time.as_nanos() as u64;
        if self.owed.fetch_add(time, Ordering::Relaxed) + time < PAUSE.as_nanos() as u64 {
            return;
        }
        // Another writer may have come first, and pays for both.
        let owed = self.owed.swap(0, Ordering::Relaxed);
        if owed > 0 {
            let start = Instant::now();
            self.slowed.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_nanos(owed));
            self.count_wait(start);
        }
    }

    fn count_wait(&self, since: Instant) {
        self.wait_nanos.fetch_add(since.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }

    /// Waits for a checkpoint that was asked for when `before` of them had
    /// ended, and for more if there is still no room then: the request for each
    /// is made anew, for whoever ran the last one may not be whom it wakes.
    fn wait_for_room(&self, mut before: u64) -> Result<()> {
        let mut state = self.state();
        while self.dirty.load(Ordering::Relaxed) >= self.limit && !state.stop {
            if state.ended > before {
                if let Some(failure) = &state.failure {
                    return Err(failure.error());
                }
                before = self.want(&mut state);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Asks for a checkpoint. Returns how many had ended before: whoever waits
    /// for it compares with that, as it may be over before they come to wait.
    pub(crate) fn request(&self) -> u64 {
        self.want(&mut self.state())
    }

    fn want(&self, state: &mut State) -> u64 {
        if !state.wanted {
            state.wanted = true;
            self.changed.notify_all();
        }
        state.ended
    }

    /// A state was frozen just now, and will be written: no other checkpoint is
    /// needed for what was asked so far. With the writer lock held, under which
    /// whoever asks has made the changes that it is about. Who waits looks at
    /// `ended` and asks again.
    pub(crate) fn met(&self) {
        self.state().wanted = false;
    }

    /// Asks for what was frozen to be written.
    pub(crate) fn request_waiting(&self) {
        self.state().waiting = true;
        self.changed.notify_all();
    }

    /// Whether there is something to do, or a reason to stop.
    pub(crate) fn is_wanted(&self) -> bool {
        let state = self.state();
        state.wanted || state.waiting || state.stop
    }

    /// Sleeps until there is something to do; `None` says to stop.
    pub(crate) fn next_request(&self) -> Option<Request> {
        let mut state = self.state();
        loop {
            if state.stop {
                return None;
            }
            if std::mem::take(&mut state.wanted) {
                return Some(Request::Checkpoint);
            }
            if std::mem::take(&mut state.waiting) {
                return Some(Request::Waiting);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A checkpoint has ended.
    pub(crate) fn ended(&self, outcome: &Result<()>, dirty: usize) {
        self.set_dirty(dirty);
        let mut state = self.state();
        state.ended += 1;
        state.failure = outcome.as_ref().err().map(Failure::of);
        if outcome.is_ok() {
            self.checkpoints.fetch_add(1, Ordering::Relaxed);
        }
        self.changed.notify_all();
    }

    /// A checkpoint that began at that moment has ended well.
    pub(crate) fn checkpointed(&self, began: Instant) {
        let nanos = began.elapsed().as_nanos() as u64;
        self.checkpoint_nanos.store(nanos, Ordering::Relaxed);
        let mut last = self.checkpointed.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(Instant::now());
    }

    /// When the last checkpoint that ended well did so.
    pub(crate) fn last_checkpoint(&self) -> Option<Instant> {
        *self.checkpointed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the background thread, and everybody's waiting.
    pub(crate) fn stop(&self) {
        self.state().stop = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::checkpoint::checkpoint;
    use crate::options::Options;
    use crate::storage::memory::Memory;

    #[test]
    fn what_is_owed_is_paid_in_pauses_and_nobody_asks_for_a_checkpoint() {
        let limit = 4000;
        let signals = Signals::new(limit);
        // A write owes 20 us there: a pause for each 13 of them.
        signals.set_dirty(limit / 4 * 3 + 20);
        for _ in 0..12 {
            signals.throttle().unwrap();
        }
        assert_eq!(signals.slowed.load(Ordering::Relaxed), 0);
        let start = Instant::now();
        signals.throttle().unwrap();
        assert!(start.elapsed() >= PAUSE, "what all of them owed was waited for");
        assert_eq!(signals.slowed.load(Ordering::Relaxed), 1);
        (0..12).for_each(|_| signals.throttle().unwrap());
        assert_eq!(signals.slowed.load(Ordering::Relaxed), 1);
        assert!(!signals.state().wanted, "it was asked for before");
    }

    #[test]
    fn of_writers_who_owe_at_the_same_time_each_or_one_of_them_pays() {
        let signals = Signals::new(4000);
        signals.set_dirty(3990);
        std::thread::scope(|scope| {
            (0..4).for_each(|_| drop(scope.spawn(|| signals.throttle().unwrap())));
        });
        assert!(signals.owed.load(Ordering::Relaxed) < PAUSE.as_nanos() as u64);
        assert!(signals.slowed.load(Ordering::Relaxed) >= 1);
    }

    /// A checkpoint that is over before the writer comes to wait for it used to
    /// leave the writer asleep for ever.
    #[test]
    fn a_failure_that_comes_before_the_waiting_is_heard_of() {
        let signals = Signals::new(4);
        signals.set_dirty(4);
        let before = signals.request();
        signals.ended(&Err(Error::ReadOnly), 4);
        assert!(signals.wait_for_room(before).is_err());
    }

    /// A sync of the log that failed between the request and the checkpoint used
    /// to leave the writer asleep for ever.
    #[test]
    fn a_store_that_is_poisoned_on_the_way_to_a_checkpoint_leaves_nobody_asleep() {
        let store = crate::recovery::open(Arc::new(Memory::new()), &Options::new()).unwrap();
        let signals = &store.signals;
        signals.set_dirty(signals.limit());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| signals.throttle());
            // What the background does, step by step.
            assert!(matches!(signals.next_request(), Some(Request::Checkpoint)));
            store.poison.set(&"a sync failed");
            assert!(matches!(checkpoint(&store, false), Err(Error::Poisoned { .. })));
            let start = Instant::now();
            while !waiting.is_finished() {
                if start.elapsed() > Duration::from_secs(60) {
                    signals.stop();
                    panic!("nobody has told the writer");
                }
                std::thread::yield_now();
            }
            // There is room now, for nothing is written any more.
            waiting.join().unwrap().unwrap();
            assert!(matches!(store.check_writable(), Err(Error::Poisoned { .. })));
        });
    }
}
