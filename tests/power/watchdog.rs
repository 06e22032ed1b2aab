//! Nothing may sleep for ever: somebody looks whether things go on. The time
//! that counts is what the machine gives to the tests (`support/ticks.rs`), so
//! that a process that was stopped for minutes is not taken for one that hangs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::support::ticks;

/// How long a test may stand still.
const PATIENCE: Duration = Duration::from_secs(240);

/// Ends the process if a test stands still.
pub struct Watchdog {
    state: Arc<Mutex<Option<(Duration, String)>>>,
}

impl Watchdog {
    /// Watches from now on, until it is dropped.
    pub fn new(what: &str) -> Watchdog {
        let state = Arc::new(Mutex::new(Some((ticks::now(), what.to_string()))));
        let seen = state.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(500));
                let Some((since, what)) = &*seen.lock().unwrap_or_else(PoisonError::into_inner)
                else {
                    return;
                };
                if ticks::since(*since) > PATIENCE {
                    eprintln!("nothing has happened for {PATIENCE:?} in: {what}");
                    std::process::abort();
                }
            }
        });
        Watchdog { state }
    }

    /// Says that things go on, and with what.
    pub fn beat(&self, what: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = Some((ticks::now(), what.to_string()));
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
