//! Turns: what one thread does at a time, and no other waits for in vain.
//!
//! Whoever panics in its turn, in a function of the caller's for one, gives it
//! up like everybody else: it guards no data that could be half changed.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::ThreadId;

/// What one thread does at a time.
#[derive(Default)]
pub(crate) struct Turns {
    one: Mutex<()>,
    /// The thread whose turn it is.
    whose: Mutex<Option<ThreadId>>,
}

/// That it is this thread's turn, until it is dropped.
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    _one: MutexGuard<'a, ()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Before the next one's begins: the guard is dropped after this.
        self.turns.note(None);
    }
}

impl Turns {
    /// Waits until it is this thread's turn. `None` if it is already: it would
    /// wait for itself.
    pub(crate) fn wait(&self) -> Option<Turn<'_>> {
        let whose = *self.whose.lock().unwrap_or_else(PoisonError::into_inner);
        if whose == Some(std::thread::current().id()) {
            return None;
        }
        Some(self.begin(self.one.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Begins this thread's turn, unless it is somebody's.
    pub(crate) fn take(&self) -> Option<Turn<'_>> {
        match self.one.try_lock() {
            Ok(one) => Some(self.begin(one)),
            Err(TryLockError::Poisoned(poisoned)) => Some(self.begin(poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn begin<'a>(&'a self, one: MutexGuard<'a, ()>) -> Turn<'a> {
        self.note(Some(std::thread::current().id()));
        Turn { turns: self, _one: one }
    }

    fn note(&self, whose: Option<ThreadId>) {
        *self.whose.lock().unwrap_or_else(PoisonError::into_inner) = whose;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_ended_in_a_panic_is_over() {
        let turns = Turns::default();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _turn = turns.wait().unwrap();
            assert!(turns.take().is_none());
            panic!("in a turn, on purpose");
        }));
        assert!(panicked.is_err());
        assert!(turns.take().is_some());
        assert!(turns.wait().is_some());
    }

    #[test]
    fn nobody_waits_for_itself() {
        let turns = Turns::default();
        let turn = turns.take();
        assert!(turns.wait().is_none());
        drop(turn);
        assert!(turns.wait().is_some());
    }
}
