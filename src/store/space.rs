//! How writers and the upkeep thread meet, without the writer lock.
//!
//! Writers say that something was committed ([`SpaceSignals::stir`]): once,
//! until the thread has looked. So a store that is not written to does
//! nothing, and one that is written to pays one relaxed load per commit.
//!
//! Where garbage in the log has passed its bound, each commit waits until the
//! cleaner has gone through some bytes for each byte it appends
//! ([`SpaceSignals::pay`]), but never longer than [`LONGEST_WAIT`]. The same
//! where nobody has looked yet since several log files were ended, and where
//! a checkpoint that should let log files go does not come to its end: so the
//! bound holds on a machine that is too busy for the background, too.
//!
//! On a full device a removal waits for the thread to make room, before it
//! fails ([`SpaceSignals::wait_for_room`]).

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The longest that one write waits for the cleaner.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// Bytes of the log that the cleaner has to go through for each one appended,
/// past the bound. There more than half of the log is garbage, so two would
/// do if all files were alike.
const PRICE: u64 = 3;

/// Log files that are ended before somebody has to look.
const LOOK_AFTER: u32 = 4;

/// How long a removal on a full device waits for room.
pub(crate) const WAIT_FOR_ROOM: Duration = Duration::from_secs(2);

/// What a commit may have to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Behind {
    /// The cleaner: there is too much garbage.
    Cleaner = 1,
    /// A look at the garbage: several files were ended since the last one.
    Look = 2,
    /// A checkpoint: too much was logged since the last one.
    Checkpoint = 4,
}

/// Why the upkeep thread is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    Look,
    /// Nothing has come up for some time.
    Idle,
    Stop,
}

/// Requests to the upkeep thread, and what it makes writers pay.
#[derive(Default)]
pub(crate) struct SpaceSignals {
    /// Whether the thread knows that something was committed.
    stirred: AtomicBool,
    /// Whether a commit was refused because the device is full.
    refused: AtomicBool,
    /// A bit for each reason to wait.
    behind: AtomicU8,
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
    /// Log files that were ended since the garbage was looked at.
    ended: u32,
    /// How often something was done about a full device.
    rounds: u64,
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

    /// There may be something to do: a checkpoint has ended, for example.
    pub(crate) fn ask(&self) {
        self.wake(true);
    }

    /// A log file was ended.
    #[cold]
    pub(crate) fn ended_file(&self) {
        let late = {
            let mut state = self.state();
            state.ended += 1;
            state.ended >= LOOK_AFTER
        };
        if late {
            self.set_behind(Behind::Look, true);
        }
        self.ask();
    }

    /// Whether log files were ended since the garbage was looked at.
    pub(crate) fn wants_look(&self) -> bool {
        self.state().ended > 0
    }

    /// Somebody looks at the garbage now.
    pub(crate) fn looked(&self) {
        self.state().ended = 0;
        self.set_behind(Behind::Look, false);
    }

    /// Something was done about a full device.
    pub(crate) fn made_room(&self) {
        self.state().rounds += 1;
        self.changed.notify_all();
    }

    /// After a refusal that began some time ago: waits until something was
    /// done about it. `false`: it has taken too long.
    #[cold]
    pub(crate) fn wait_for_room(&self, since: Instant) -> bool {
        let mut state = self.state();
        let before = state.rounds;
        while !state.stop && state.rounds == before {
            let left = WAIT_FOR_ROOM.saturating_sub(since.elapsed());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        !state.stop
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
    /// else some time after it came up. With `idle`, also until nothing has
    /// come up for so long.
    pub(crate) fn next(&self, patience: Duration, idle: Option<Duration>) -> Wake {
        let until = idle.map(|idle| Instant::now() + idle);
        let mut state = self.state();
        while !state.stop && !state.stirred && !state.urgent {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            state = match left {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return Wake::Idle,
                Some(left) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
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
        if state.stop { Wake::Stop } else { Wake::Look }
    }

    /// Whether the thread is to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.state().stop
    }

    /// Ends the thread, and everybody's waiting. They stay ended.
    pub(crate) fn stop(&self) {
        self.state().stop = true;
        self.behind.store(0, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Says whether there is a reason to wait.
    pub(crate) fn set_behind(&self, what: Behind, behind: bool) {
        let bit = what as u8;
        if behind {
            self.behind.fetch_or(bit, Ordering::Relaxed);
        } else if self.behind.load(Ordering::Relaxed) & bit != 0 {
            self.behind.fetch_and(!bit, Ordering::Relaxed);
            drop(self.state());
            self.changed.notify_all();
        }
    }

    /// The cleaner went through some more bytes.
    pub(crate) fn advance(&self, bytes: u64) {
        self.cleaned.fetch_add(bytes, Ordering::Relaxed);
        if self.behind.load(Ordering::Relaxed) != 0 {
            drop(self.state());
            self.changed.notify_all();
        }
    }

    /// Before a commit of so many bytes: waits, if there is a reason to.
    #[inline]
    pub(crate) fn pay(&self, bytes: u64) {
        if self.behind.load(Ordering::Relaxed) != 0 {
            self.wait_for_cleaner(bytes);
        }
    }

    #[cold]
    fn wait_for_cleaner(&self, bytes: u64) {
        let start = Instant::now();
        let wanted = self.cleaned.load(Ordering::Relaxed) + PRICE * bytes;
        let waits = || match self.behind.load(Ordering::Relaxed) {
            0 => false,
            behind if behind == Behind::Cleaner as u8 => {
                self.cleaned.load(Ordering::Relaxed) < wanted
            }
            _ => true,
        };
        let mut state = self.state();
        while !state.stop && waits() {
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
        space.set_behind(Behind::Cleaner, true);
        let start = Instant::now();
        space.pay(1 << 20);
        assert!(start.elapsed() >= LONGEST_WAIT);
        assert_eq!(space.waits.load(Ordering::Relaxed), 1);
        space.set_behind(Behind::Cleaner, false);
        space.pay(1 << 20);
        assert_eq!(space.waits.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_write_that_has_paid_goes_on_at_once() {
        let space = SpaceSignals::default();
        space.set_behind(Behind::Cleaner, true);
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
    fn writes_wait_where_nobody_has_looked_since_several_files_were_ended() {
        let space = SpaceSignals::default();
        (1..LOOK_AFTER).for_each(|_| space.ended_file());
        space.pay(1000);
        assert_eq!(space.waits.load(Ordering::Relaxed), 0);
        space.ended_file();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| space.pay(1000));
            while space.waits.load(Ordering::Relaxed) == 0 {
                // What the cleaner has gone through does not count here.
                space.advance(1 << 20);
                if writer.is_finished() {
                    break;
                }
            }
        });
        assert!(space.wait_nanos.load(Ordering::Relaxed) >= LONGEST_WAIT.as_nanos() as u64);
        space.looked();
        space.pay(1000);
        assert_eq!(space.waits.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_removal_waits_for_room_until_something_was_done_or_it_takes_too_long() {
        let space = SpaceSignals::default();
        let long_ago = Instant::now().checked_sub(WAIT_FOR_ROOM).unwrap();
        assert!(!space.wait_for_room(long_ago));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| space.wait_for_room(Instant::now()));
            while !waiting.is_finished() {
                space.made_room();
                std::thread::yield_now();
            }
            assert!(waiting.join().unwrap());
        });
        space.stop();
        assert!(!space.wait_for_room(Instant::now()));
    }

    #[test]
    fn nothing_is_looked_at_twice_and_a_stop_is_heard() {
        let space = SpaceSignals::default();
        space.stir();
        space.stir();
        assert_eq!(space.next(Duration::ZERO, None), Wake::Look);
        assert_eq!(space.next(Duration::ZERO, Some(Duration::ZERO)), Wake::Idle);
        space.ask();
        // What is urgent does not wait.
        assert_eq!(space.next(Duration::from_secs(3600), None), Wake::Look);
        space.stop();
        assert_eq!(space.next(Duration::from_secs(3600), Some(Duration::ZERO)), Wake::Stop);
    }
}
