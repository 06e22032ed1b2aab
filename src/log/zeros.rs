//! Writing zeros into new files of the log.
//!
//! How long they are worth it is for [`pace`](super::pace) to say. They are
//! written behind the first block, while the file lies ready: it has its header
//! and its name, and whoever needs it takes it, however far the zeros are.
//!
//! ```text
//!            ┌────────┬──────────────┬─────────┬─────────────────────┐
//!  ready     │ header │ zeros ──────►│  piece  │  taken, not written  │
//!            └────────┴──────────────┴─────────┴─────────────────────┘
//!                                     while one is written, nobody takes the file
//! ```
//!
//! For zeros go to the device as well, and each eight mebibytes are synced. That
//! takes some 20 ms, but 300 behind a checkpoint that writes 300 MiB: before a
//! file lay ready it had to be waited for, and a writer that had filled the file
//! before did.
//!
//! # Invariants
//!
//! 1. A piece is written only while the file lies ready, by its number; and while
//!    one is written nobody takes it from there, or prepares another, so that no
//!    zero is ever written over a record. `zeroing` says so, under the lock of
//!    the next file.
//! 2. Whoever wants the file meanwhile *claims* it: no other piece is begun then,
//!    so it waits for one at most. A writer claims it when seven eighths of the
//!    active file are full, so that it seldom does. The claim lasts until the
//!    file is taken; it may come before the file lies ready.
//! 3. Where space that was taken is not held for good, all zeros are written
//!    before the file has a name.
//! 4. Zeros are synced through an opening of the file of their own, for somebody
//!    may have taken the file by then. A system tells each opening once that
//!    something could not be written: told to who syncs zeros, it would not be
//!    told to who syncs the records, and they would be called durable.

use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::files::TEMPORARY;
use super::pace::GoOn;
use super::prepare::{Fresh, Next};
use super::{Log, lock};
use crate::error::Result;
use crate::format::record::{LOG_START, log_file_name};
use crate::storage::{Access, File};

/// How much is written at once.
const PIECE: u64 = 1 << 20;

/// How much is written between two syncs.
const SYNC_EVERY: u64 = 8 << 20;

/// A sync that took so long says that the device has better things to do.
const BUSY: Duration = Duration::from_millis(200);

impl Next {
    /// Number and size of the file that lies ready, if it could do with zeros.
    fn blank(&self) -> Option<(u32, u64)> {
        let ready = self.ready.as_ref().filter(|ready| ready.blank && !self.claimed)?;
        Some((ready.number, ready.size))
    }

    /// Whether the file that lies ready is being written to, in which case it is
    /// claimed.
    pub(super) fn is_held(&mut self) -> bool {
        self.claimed |= self.zeroing;
        self.zeroing
    }
}

impl Log {
    /// Writes zeros into the file that lies ready, as long as they are worth it
    /// and nobody claims it. For a keeper.
    ///
    /// # Errors
    ///
    /// `Closed`, or what now poisons the store.
    pub(super) fn fill_ready(&self) -> Result<()> {
        let Some((number, size)) = lock(&self.next).blank() else {
            return Ok(());
        };
        let name = log_file_name(number);
        let file = match self.storage.open(&name, Access::Write) {
            // Somebody has taken it, and it was used up.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(|error| self.refused("open", &name, error))?,
        };
        let mut zeros = Zeros::new(self, &*file, &name, LOG_START..size);
        let pace = self.pace();
        while !zeros.are_all() && pace.go_on(zeros.range.start)? {
            let Some(piece) = self.begin_piece(number) else {
                return Ok(());
            };
            zeros.write_piece()?;
            drop(piece);
            let since = Instant::now();
            zeros.sync_if_due()?;
            if since.elapsed() > BUSY {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Fills a file with zeros that nobody else knows yet, as long as they are
    /// worth it.
    ///
    /// # Errors
    ///
    /// That of `go_on`, or what now poisons the store.
    pub(super) fn fill(&self, fresh: &Fresh, go_on: &GoOn<'_>) -> Result<()> {
        if !fresh.blank {
            return Ok(());
        }
        let name = log_file_name(fresh.number);
        Zeros::new(self, &*fresh.file, &name, LOG_START..fresh.size).write_while(go_on)
    }

    /// Fills a file of that size with zeros that has no name yet, to its end.
    ///
    /// # Errors
    ///
    /// That of `go_on`; a full device; what now poisons the store.
    pub(super) fn fill_first(&self, file: &dyn File, size: u64, go_on: &GoOn<'_>) -> Result<()> {
        Zeros::new(self, file, TEMPORARY, 0..size).write_while(&|at| go_on(at).map(|_| true))
    }

    /// Claims the file that lies ready, or that will: its zeros end.
    #[cold]
    pub(super) fn claim_ready(&self) {
        lock(&self.next).claimed = true;
    }

    /// Keeps everybody else from a file that lies ready. `None`: it does not any
    /// more, or somebody wants it.
    pub(super) fn begin_piece(&self, number: u32) -> Option<Piece<'_>> {
        let mut next = lock(&self.next);
        let lies_ready = next.ready.as_ref().is_some_and(|ready| ready.number == number);
        if !lies_ready || next.claimed || next.is_preparing() {
            return None;
        }
        next.zeroing = true;
        Some(Piece { log: self })
    }
}

/// Lets others have the file that lies ready, however writing to it ends.
pub(super) struct Piece<'a> {
    log: &'a Log,
}

impl Drop for Piece<'_> {
    fn drop(&mut self) {
        lock(&self.log.next).zeroing = false;
        self.log.prepared.notify_all();
    }
}

/// Zeros on their way into a file.
struct Zeros<'a> {
    log: &'a Log,
    file: &'a dyn File,
    /// What the file is called.
    name: &'a str,
    /// Where they are still to be written, in bytes.
    range: Range<u64>,
    bytes: Vec<u8>,
}

impl Zeros<'_> {
    fn new<'a>(log: &'a Log, file: &'a dyn File, name: &'a str, range: Range<u64>) -> Zeros<'a> {
        Zeros { log, file, name, range, bytes: vec![0; PIECE as usize] }
    }

    fn are_all(&self) -> bool {
        self.range.is_empty()
    }

    /// Writes all that is left, as long as `go_on` allows it.
    fn write_while(&mut self, go_on: &GoOn<'_>) -> Result<()> {
        while !self.are_all() && go_on(self.range.start)? {
            self.write_piece()?;
            self.sync_if_due()?;
        }
        Ok(())
    }

    /// Writes the next piece.
    fn write_piece(&mut self) -> Result<()> {
        let Range { start, end } = self.range;
        let next = ((start / PIECE + 1) * PIECE).min(end);
        let zeros = &self.bytes[..(next - start) as usize];
        // Where a sync follows each record, its time is that of all commits.
        let written = match self.log.options.append_by_call {
            true => self.file.write_finely(zeros, start),
            false => self.file.write_at(zeros, start),
        };
        written.map_err(|error| self.log.failed("write to", self.name, error))?;
        self.log.counters.zeroed(next - start);
        self.range.start = next;
        Ok(())
    }

    /// Syncs what was written, if it is time, or if it is all.
    fn sync_if_due(&self) -> Result<()> {
        if !self.range.start.is_multiple_of(SYNC_EVERY) && !self.are_all() {
            return Ok(());
        }
        self.file.sync().map_err(|error| self.log.failed("sync", self.name, error))
    }
}
