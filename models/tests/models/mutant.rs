//! Which mutation is in force.
//!
//! The checker runs all threads of a model on the thread that started it, so
//! tests that run side by side do not see each other's.

use std::cell::Cell;

thread_local! {
    static CURRENT: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Whether the mutation of that name is in force.
pub(crate) fn is(name: &str) -> bool {
    CURRENT.with(|current| current.get() == Some(name))
}

/// Puts a mutation in force.
pub(crate) fn set(name: &'static str) {
    CURRENT.with(|current| current.set(Some(name)));
}
