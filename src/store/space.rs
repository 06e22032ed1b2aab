//! How writers and the upkeep thread meet, without the writer lock.
//!
//! Writers say that something was committed ([`SpaceSignals::stir`]): once,
//! until the thread has looked. So a store that is not written to does
//! nothing, and one that is written to pays one relaxed load per commit.
//!
//! Where garbage in the log has passed its bound, each commit waits until the
//! cleaner has gone through some bytes for each byte it appends
//! ([`SpaceSignals::pay`]), but never longer than [`LONGEST_WAIT`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The longest that one write waits for the cleaner.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// Bytes of the log that the cleaner has to go through for each one appended,
/// past the bound. There more than half of the log is garbage, so two would
/// do if all files were alike.
const PRICE: u64 = 3;

/// Requests to the upkeep thread, and what it makes writers pay.
#[derive(Default)]
pub(crate) struct SpaceSignals {
    /// Whether the thread knows that something was committed.
    stirred: AtomicBool,
    /// Whether a commit was refused because the device is full.
    refused: AtomicBool,
    /// Whether there is too much garbage.
    behind: AtomicBool,
    /// Bytes of the log that the cleaner has gone through.
    cleaned: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
    /// Live bytes of the log that were put again since the store was opened.
    pub(crate) moved_bytes: AtomicU64,
    pub(crate) waits: AtomicU64,
    pub(crate) wait_nanos: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Something to look at soon.
    stirred: bool,
    /// Something to look at now.
    urgent: bool,
    stop: bool,
}

impl SpaceSignals {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was committed.
    #[inline]
    pub(crate) fn stir(&self) {
        if !self.stirred.load(Ordering::Relaxed) {
            self.wake(false);
        }
    }

    /// A log file was ended, or a checkpoint: there may be something to do.
    pub(crate) fn ask(&self) {
        self.wake(true);
    }

    /// A commit was refused because the device is full.
    #[cold]
    pub(crate) fn refused(&self) {
        self.refused.store(true, Ordering::Relaxed);
        self.wake(true);
    }

    /// Whether a commit was refused since this was asked last.
    pub(crate) fn take_refused(&self) -> bool {
        self.refused.swap(false, Ordering::Relaxed)
    }

    #[cold]
    fn wake(&self, urgent: bool) {
        self.stirred.store(true, Ordering::Relaxed);
        let mut state = self.state();
        state.stirred = true;
        state.urgent |= urgent;
        drop(state);
        self.changed.notify_all();
    }

    /// Sleeps until there is something to look at: at once if it is urgent,
    /// else some time after it came up. `false` says to stop.
    pub(crate) fn next(&self, patience: Duration) -> bool {
        let mut state = self.state();
        while !state.stop && !state.stirred && !state.urgent {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let until = Instant::now() + patience;
        while !state.stop && !state.urgent {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        (state.stirred, state.urgent) = (false, false);
        self.stirred.store(false, Ordering::Relaxed);
        !state.stop
    }

    /// Whether the thread is to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.state().stop
    }

    /// Ends the thread, and everybody's waiting. They stay ended.
    pub(crate) fn stop(&self) {
        self.state().stop = true;
        self.behind.store(false, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Says whether garbage is past its bound.
    pub(crate) fn set_behind(&self, behind: bool) {
        if self.behind.swap(behind, Ordering::Relaxed) && !behind {
            drop(self.state());
            self.changed.notify_all();
        }
    }

    /// The cleaner went through some more bytes.
    pub(crate) fn advance(&self, bytes: u64) {
        self.cleaned.fetch_add(bytes, Ordering::Relaxed);
        if self.behind.load(Ordering::Relaxed) {
            drop(self.state());
            self.changed.notify_all();
        }
    }

    /// Before a commit of so many bytes: waits for the cleaner, if there is
    /// too much garbage.
    #[inline]
    pub(crate) fn pay(&self, bytes: u64) {
        if self.behind.load(Ordering::Relaxed) {
            self.wait_for_cleaner(bytes);
        }
    }

    #[cold]
    fn wait_for_cleaner(&self, bytes: u64) {
        let start = Instant::now();
        let wanted = self.cleaned.load(Ordering::Relaxed) + PRICE * bytes;
        let mut state = self.state();
        while !state.stop
            && self.behind.load(Ordering::Relaxed)
            && self.cleaned.load(Ordering::Relaxed) < wanted
        {
            let left = LONGEST_WAIT.saturating_sub(start.elapsed());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        self.waits.fetch_add(1, Ordering::Relaxed);
        self.wait_nanos.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_waits_for_the_cleaner_no_longer_than_stated() {
        let space = SpaceSignals::default();
        space.set_behind(true);
        let start = Instant::now();
        space.pay(1 << 20);
        assert!(start.elapsed() >= LONGEST_WAIT);
        assert_eq!(space.waits.load(Ordering::Relaxed), 1);
        space.set_behind(false);
        space.pay(1 << 20);
        assert_eq!(space.waits.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_write_that_has_paid_goes_on_at_once() {
        let space = SpaceSignals::default();
        space.set_behind(true);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| space.pay(1000));
            while !writer.is_finished() {
                space.advance(PRICE * 1000);
                std::thread::yield_now();
            }
        });
        assert!(space.wait_nanos.load(Ordering::Relaxed) < LONGEST_WAIT.as_nanos() as u64);
    }

    #[test]
    fn nothing_is_looked_at_twice_and_a_stop_is_heard() {
        let space = SpaceSignals::default();
        space.stir();
        space.stir();
        assert!(space.next(Duration::ZERO));
        space.ask();
        assert!(space.next(Duration::from_secs(3600)), "what is urgent does not wait");
        space.stop();
        assert!(!space.next(Duration::from_secs(3600)));
    }
}
