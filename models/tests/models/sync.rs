//! What the sources find where they look for `std::sync`.
//!
//! The checker's atomics, fences and locks, and for what it does not have:
//! cells that are set once, made of one of its atomics.

pub(crate) use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
pub(crate) use std::sync::PoisonError;

pub(crate) mod atomic {
    //! Atomics and fences.
    pub(crate) use loom::sync::atomic::*;
}

/// A cell that is set once.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    set: atomic::AtomicBool,
}

impl<T> Default for OnceLock<T> {
    fn default() -> OnceLock<T> {
        OnceLock::new()
    }
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> OnceLock<T> {
        OnceLock { value: std::sync::OnceLock::new(), set: atomic::AtomicBool::new(false) }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        if self.set.load(atomic::Ordering::Acquire) { self.value.get() } else { None }
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        self.set.store(true, atomic::Ordering::Release);
        Ok(())
    }

    pub(crate) fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        let value = self.value.get_or_init(init);
        self.set.store(true, atomic::Ordering::Release);
        value
    }
}
