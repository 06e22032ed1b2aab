//! Records that are put together before it is known that they will be appended.
//!
//! A writer waits for lines of memory before it knows where a change goes. What its
//! record says does not depend on that, so there are three steps, with which the
//! waiting can be filled:
//!
//! 1. [`compose`](Appender::compose): header, operation and checksum, in a buffer.
//! 2. [`put_ahead`](Appender::put_ahead): the bytes are in the file, behind its end.
//!    As the end is what it was, nobody reads them. But if the process is killed
//!    now, the next one finds a whole record there, and takes it for a commit. So
//!    this step is for a change that cannot be refused any more; of one that was, the
//!    bytes are [taken back](Appender::take_back).
//! 3. [`make_known`](Appender::make_known): the end is moved. It is a commit.
//!
//! What is composed and never put there is as if nothing had been done; what is put
//! there is overwritten by whatever is appended next.

use super::super::files::Writable;
use super::super::lock;
use super::super::put::{compose, put_composed, take_back};
use super::Appender;
use crate::error::Result;
use crate::format::record::{Op, RECORD_HEADER, RecordHeader, padded};

/// A record that is put together, and not in the log yet.
#[derive(Debug)]
pub(crate) struct Composed {
    /// Its bytes, without the padding.
    length: u64,
    commit: u64,
}

impl Appender {
    /// Puts the record of one operation together. `None`: it has to be
    /// [appended](Appender::append) in the usual way.
    #[inline]
    pub(crate) fn compose(&mut self, op: &Op<'_>) -> Option<Composed> {
        let length = RECORD_HEADER as u64 + op.encoded_len();
        let space = padded(length);
        let commit = self.commit + 1;
        let header =
            RecordHeader { crc: 0, length: length as u32, commit, durable: self.log.durable() };
        let salt = self.current.log.salt;
        let whole = space <= self.limit - self.offset
            && compose(salt, self.offset, &header, op, &mut self.buffer);
        whole.then_some(Composed { length, commit })
    }

    /// Writes a record that was put together just before behind the end of the
    /// log. Nothing else was appended meanwhile.
    ///
    /// # Errors
    ///
    /// As [`append`](Appender::append).
    #[inline]
    pub(crate) fn put_ahead(&mut self, composed: &Composed) -> Result<()> {
        let Composed { length, commit } = *composed;
        debug_assert_eq!(commit, self.commit + 1, "a record is put where it was put together");
        self.log.poison.check()?;
        let space = padded(length);
        let written = put_composed(&self.current, self.way, self.offset, space, &self.buffer);
        written.map_err(|error| self.not_written(self.way, error))
    }

    /// Makes a record a commit that was put there just before, and returns its
    /// number.
    #[inline]
    pub(crate) fn make_known(&mut self, composed: Composed) -> u64 {
        let Composed { length, commit } = composed;
        debug_assert_eq!(commit, self.commit + 1, "a record is made known where it was put");
        self.advance(length, 1);
        commit
    }

    /// Both at once.
    ///
    /// # Errors
    ///
    /// As [`append`](Appender::append).
    #[inline]
    pub(crate) fn append_composed(&mut self, composed: Composed) -> Result<u64> {
        self.put_ahead(&composed)?;
        Ok(self.make_known(composed))
    }

    /// Makes sure, durably, that no record is behind the end of the log, where one
    /// was put ahead of a change that was refused after all. If that fails, the
    /// store is poisoned: the next process may find the record.
    #[cold]
    pub(crate) fn take_back(&mut self) {
        if self.log.poison.is_set() {
            return;
        }
        match take_back(&self.current, self.way, self.offset) {
            // A sync may have come in between and made the record durable. As the
            // commits are what they were, no later one would be begun for this.
            Ok(()) => drop(self.sync_unsynced()),
            Err(error) => self.log.poison.set(&self.write_error(error)),
        }
    }

    /// Syncs all files with undurable bytes, in order, though no commit waits for it.
    ///
    /// # Errors
    ///
    /// `Io`, which poisons.
    fn sync_unsynced(&self) -> Result<()> {
        let files: Vec<Writable> = lock(&self.log.sync).unsynced.iter().cloned().collect();
        files.iter().try_for_each(|file| self.log.sync_activation(file))
    }
}
