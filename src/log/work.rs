//! Who is at work on files of the log, and that nobody is once it is closed.
//!
//! Files are made, trimmed and removed by their names, and not by the threads of
//! the store alone: whoever needs a file and finds none makes it. Nobody joins
//! such a thread when the store is closed. But then its lock is given back, and
//! whoever opens it next may give the same names to files of its own.
//!
//! So whoever does such a thing is *at work* meanwhile. Closing lets nobody begin
//! any more, and waits for those who have begun. What a checkpoint lets go
//! ([`Log::retire`]) needs no such leave, for closing waits for checkpoints as
//! well; neither does what only background threads do, for they have ended then.
//!
//! Guarded by the lock of the next file.

use super::{Log, lock, wait};
use crate::error::Error;

/// Those who are at work on files.
#[derive(Default)]
pub(super) struct Workers {
    count: usize,
    /// Whether nobody may begin any more.
    closed: bool,
}

impl Workers {
    /// Whether the log is being closed.
    pub(super) fn are_sent_away(&self) -> bool {
        self.closed
    }

    /// Somebody begins. `None`: the log is being closed.
    pub(super) fn begin<'a>(&mut self, log: &'a Log) -> Option<AtWork<'a>> {
        if self.closed {
            return None;
        }
        self.count += 1;
        Some(AtWork { log })
    }
}

/// Somebody is at work until it is dropped.
pub(crate) struct AtWork<'a> {
    log: &'a Log,
}

impl Log {
    /// Begins to work on files. `None`: the log is being closed.
    pub(crate) fn begin_work(&self) -> Option<AtWork<'_>> {
        lock(&self.next).workers.begin(self)
    }

    /// Returns when nobody is at work on files any more, and nobody will be: for
    /// closing, whether or not that goes well. Takes as long as making one file.
    pub(crate) fn end_work(&self) {
        let mut next = lock(&self.next);
        next.workers.closed = true;
        // Whoever waits for a file learns that none is coming.
        self.prepared.notify_all();
        while next.workers.count > 0 {
            next = wait(&self.prepared, next);
        }
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        let mut next = lock(&self.log.next);
        next.workers.count -= 1;
        if next.workers.closed {
            self.log.prepared.notify_all();
        }
    }
}

/// What somebody is told who would have begun.
#[cold]
pub(super) fn being_closed() -> Error {
    Error::Closed { why: "the store is being closed" }
}
