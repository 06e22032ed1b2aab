//! The poison: after a failed write or sync nothing more is written.
//!
//! When a write into the log or a sync has failed, nobody knows what the
//! device holds: the kernel may have dropped the pages and may report success
//! the next time. Going on would build on commits that may be lost. So the
//! first such failure is remembered here, and whoever is about to write asks
//! first. Reading goes on. Only opening the store again, which looks at what
//! the device really holds, cures it.
//!
//! A full device is no such failure as long as nothing has been written: it is
//! reported and poisons nothing. This module does not know which is which; the
//! modules that write decide. May be used from any thread.

use std::fmt;
use std::sync::OnceLock;

use crate::error::{Error, Result};

#[cold]
fn poisoned(cause: &str) -> Error {
    Error::Poisoned { cause: cause.to_owned() }
}

/// Whether the store still takes writes, and why not.
#[derive(Debug, Default)]
pub(crate) struct Poison {
    cause: OnceLock<String>,
}

impl Poison {
    /// A store that takes writes.
    pub(crate) fn new() -> Poison {
        Poison::default()
    }

    /// Takes no more writes from now on. Only the first cause is kept: the
    /// later ones are mostly its consequences.
    #[cold]
    pub(crate) fn set(&self, cause: &dyn fmt::Display) {
        self.cause.get_or_init(|| cause.to_string());
    }

    /// Whether there was a failure.
    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.cause.get().is_some()
    }

    /// Asks before a write; costs one load.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`] with the first cause.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        match self.cause.get() {
            None => Ok(()),
            Some(cause) => Err(poisoned(cause)),
        }
    }
}
