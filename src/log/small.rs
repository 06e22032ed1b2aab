//! Making the log small: for a compaction, and for a store that comes to rest.
//!
//! While a store is written to, files of 64 MiB lie ready, so that no write
//! waits for one. When nobody writes they are only large. Three things are
//! made small, each before what it takes the place of is let go, so that a full
//! device leaves everything as it is:
//!
//! * the next file, which the appender goes over to at once
//!   ([`Appender::rotate`](super::Appender::rotate)): so the active one is
//!   finished, and can be trimmed or let go;
//! * the files that come after it: sizes begin to double again;
//! * the files that are kept for a full device ([`reserve`](super::reserve)).
//!
//! What was large becomes a spare then, and is removed: no spare is kept until
//! a file is prepared again ([`space`](super::space)).
//!
//! A burst of writes afterwards finds what it would find in a new store. The
//! zeros that are written to files for it are at most four times what it logs,
//! and a few MiB.

use super::{Log, MIN_FILE, lock, pace};
use crate::error::{Error, Result};

impl Log {
    /// Sees to it that the next file is one of the smallest size, and that
    /// sizes begin to double again from there: for a log that is to take little
    /// space. Takes as long as writing a mebibyte, or as long as somebody else
    /// prepares a file; not to be called with the writer lock held.
    ///
    /// Somebody may have a larger file in hand, which then lies before the
    /// small one: [`Appender::rotate`](super::Appender::rotate) gives it up.
    ///
    /// # Errors
    ///
    /// `Io` if the file cannot be made; if the device is full, that poisons
    /// nothing and may be tried again. `ReadOnly`, `Poisoned`.
    pub(crate) fn prepare_small(&self) -> Result<()> {
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        let preparing = self.wait_to_prepare()?;
        let ready = lock(&self.next).ready.as_ref().map(|ready| ready.size);
        if ready.is_some_and(|size| size <= MIN_FILE) {
            lock(&self.next).grown = MIN_FILE;
            return Ok(());
        }
        let go_on = &pace::ALL;
        let small = match self.prepare_filled(MIN_FILE, MIN_FILE, go_on) {
            // What is too large makes way.
            Err(error) if error.is_full() && ready.is_some() => {
                preparing.give_up_ready();
                self.drop_spares();
                self.prepare_filled(MIN_FILE, MIN_FILE, go_on)?
            }
            outcome => outcome?,
        };
        lock(&self.next).grown = MIN_FILE;
        preparing.finish(small);
        Ok(())
    }

    /// Makes the files that are kept for a full device as small as may be, one
    /// after the other: there are never fewer of them than before. A keeper makes
    /// larger ones when files have grown again. Spares are removed. Takes as long
    /// as writing a mebibyte for each; not to be called with the writer lock held.
    ///
    /// # Errors
    ///
    /// `Io` if a file cannot be made; if the device is full, that poisons
    /// nothing, and the large ones stay. `ReadOnly`, `Poisoned`.
    pub(crate) fn shrink_reserve(&self) -> Result<()> {
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        let _preparing = self.wait_to_prepare()?;
        while lock(&self.next).reserve.has_larger(MIN_FILE) {
            let small = self.prepare_filled(MIN_FILE, MIN_FILE, &pace::ALL)?;
            let mut next = lock(&self.next);
            // If it was taken meanwhile, what came is not needed.
            let larger = next.reserve.replace_larger(small.spare());
            next.spares.push(larger);
            drop(next);
            // It makes room for the next one.
            self.tidy();
        }
        lock(&self.next).small = true;
        Ok(())
    }
}
