//! Holding up one call, so that a test can do something in the middle of a deed.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::machine::Call;

/// Which call is to be held up.
type Suits = Box<dyn Fn(&Call<'_>) -> bool + Send>;

/// Holds up one call at a time.
#[derive(Default)]
pub struct Brake {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    suits: Option<Suits>,
    held: bool,
}

impl Brake {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds up the next call that suits.
    pub fn set(&self, suits: Suits) {
        self.state().suits = Some(suits);
    }

    /// Called by every call before it does anything.
    pub fn pass(&self, call: &Call<'_>) {
        let mut state = self.state();
        if !state.suits.as_ref().is_some_and(|suits| suits(call)) {
            return;
        }
        *state = State { suits: None, held: true };
        self.changed.notify_all();
        while state.held {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until a call is held up.
    pub fn wait_until_held(&self) {
        let mut state = self.state();
        while !state.held {
            let patience = Duration::from_secs(60);
            let waited = self.changed.wait_timeout(state, patience);
            let (next, time) = waited.unwrap_or_else(PoisonError::into_inner);
            assert!(!time.timed_out(), "no such call came");
            state = next;
        }
    }

    /// Lets it go on.
    pub fn release(&self) {
        self.state().held = false;
        self.changed.notify_all();
    }
}
