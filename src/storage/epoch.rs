//! The reuse epoch: how a reader finds out that memory was reused under it.
//!
//! Readers of the table follow indexes into frames and blocks that a writer
//! may retire and use again at any time. They neither hold it up nor tell it
//! that they are there; they look at one number before they start and again
//! when they are done. If it is the same, nothing that they read had been
//! reused. One number serves a whole store, and it moves at most once per
//! mebibyte reused, so readers find its line in their own cache.
//!
//! This module does not know what is reused. (Readers that lend bytes in place
//! cannot start over: they use [`pins`](super::pins).)
//!
//! # The rules
//!
//! The reader: (r1) [`read`](ReuseEpoch::read), (r2) `Relaxed` loads of
//! pointers, then of what they lead to, all of them atomic, (r3)
//! [`unchanged`](ReuseEpoch::unchanged), which is `fence(Acquire)` and (r4) a
//! `Relaxed` load. The writer: (w1) makes something unreachable by storing
//! other pointers, (w2) [`advance`](ReuseEpoch::advance), which stores the
//! next number with `Release`, then (w3) `fence(SeqCst)`, and (w4) stores into
//! what was reachable before w1, with atomics, or by writing to the file.
//!
//! # Why they suffice
//!
//! Suppose that r2 loaded something that w4 stored.
//!
//! 1. If r1 loaded a number from before w2: w3 is a release fence before the
//!    store w4, r3 an acquire fence after the load that saw it. So w3
//!    synchronises with r3, w2 happened before r4, and r4 loads the number of w2
//!    or a later one: it has changed.
//! 2. If r1 (`Acquire`) loaded the number of w2 (`Release`) or a later one, w1
//!    happened before r2. The pointers that r2 loaded are those of w1 or newer
//!    ones and do not lead to what w4 stored into: a contradiction. (With a
//!    relaxed store in w2, r1 could see the new number and r2 old pointers.)
//!
//! A write to the file by w4 is seen through a mapping, as no atomic store;
//! w3 is a full fence so that the number is visible before the system call.
//!
//! # Forks
//!
//! The number lies on a page that a forked child finds wiped. So the number it
//! reads is 0, which is never an epoch, and it learns from the same load that
//! the store is not its own. A lookup that was under way starts over and then
//! finds out. Linux before 4.14 does not wipe, nor does Miri.

use std::io;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;

use super::map::{Map, Word};

/// Bytes of the page that the number has for itself.
const PAGE: usize = 4096;

/// Counts how often a store began to reuse memory that readers may look at. A
/// clone is the same one: each table has one at hand.
#[derive(Clone, Debug)]
pub(crate) struct ReuseEpoch {
    word: Word,
}

impl ReuseEpoch {
    /// A new epoch, 1.
    ///
    /// # Errors
    ///
    /// What the operating system says to the wish for a page of memory.
    pub(crate) fn new() -> io::Result<ReuseEpoch> {
        let page = Map::anonymous(PAGE)?;
        // Where it cannot be wiped, forks are not noticed; all else works.
        let _ = page.wipe_on_fork();
        let word = page.first().ok_or(io::ErrorKind::OutOfMemory)?;
        word.store(1, Relaxed);
        Ok(ReuseEpoch { word })
    }

    /// The epoch to start reading in; 0 in a forked child.
    #[inline]
    pub(crate) fn read(&self) -> u64 {
        self.word.load(Acquire)
    }

    /// Whether the epoch is still the one seen: then nothing that the thread
    /// has loaded since it saw it had been reused.
    #[inline]
    pub(crate) fn unchanged(&self, seen: u64) -> bool {
        fence(Acquire);
        self.word.load(Relaxed) == seen
    }

    /// Begins a new epoch and returns it. What was made unreachable before the
    /// call may be reused after it. Only one thread at a time may call this
    /// (the one that holds the writer lock). In a forked child, which may
    /// reuse nothing, it does nothing and returns 0.
    pub(crate) fn advance(&self) -> u64 {
        let now = self.word.load(Relaxed);
        if now == 0 {
            return 0;
        }
        self.word.store(now + 1, Release);
        fence(SeqCst);
        now + 1
    }

    /// Ends all reading: the store is closed. Readers find what a forked child
    /// finds.
    pub(crate) fn end(&self) {
        self.word.store(0, Release);
        fence(SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_starts_at_one_and_advances() {
        let epoch = ReuseEpoch::new().unwrap();
        let seen = epoch.read();
        assert_eq!(seen, 1);
        assert!(epoch.unchanged(seen));
        assert_eq!(epoch.advance(), 2);
        assert!(!epoch.unchanged(seen));
        assert!(epoch.unchanged(epoch.read()));
    }

    #[test]
    fn what_a_fork_left_behind_does_not_advance() {
        let epoch = ReuseEpoch::new().unwrap();
        epoch.word.store(0, Relaxed);
        assert_eq!((epoch.advance(), epoch.read()), (0, 0));
    }
}
