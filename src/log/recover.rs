//! Going on after the log was found: in place, or after a crash.
//!
//! # After a clean close
//!
//! The store's header says that the log ends at a position, and everything up
//! to it is durable. Behind it nothing is valid, so appending goes on there.
//! The space for that was taken when the file was made, but a copy of the store
//! may have holes instead. A store through the mapping into a hole ends the
//! process if the device is full. So the space is taken anew; if there is not
//! enough, the first write has to make a new file, as in step 2 below.
//!
//! # After a crash
//!
//! 1. [`Log::scan`] has found the end. Everything it read is in the cache of
//!    the kernel, but perhaps not on the device: a sync may have failed before,
//!    and pages that failed count as clean. So [`Log::rewrite`] writes every
//!    page of the range onto itself and syncs, oldest file first. From then on
//!    the end is durable.
//! 2. Bytes behind the end may hold records that are valid but for a missing
//!    one before them. A record put in its place would bring them back. So the
//!    log goes on in a new file, which names the end of the old one, and what
//!    lies behind a stated end is ignored for good. The new file is made and
//!    synced while the store is opened; if the device is full, the first write
//!    has to make it, and until then the log must not be marked as clean.
//! 3. Before, files that were activated behind the end are removed, the newest
//!    first, each removal made durable: else one of them might be left that
//!    names one that is gone, and look like a gap.
//! 4. Files that were prepared and not activated are recycled under new
//!    numbers and salts, for the same reason as in 2.
//!
//! A crash in any of these steps leaves a log with the same end.

use std::sync::Arc;
use std::sync::atomic::Ordering::Release;

use super::files::{self, LogFile, Opened, Writable};
use super::prepare::Fresh;
use super::reader::Reader;
use super::writer::Appender;
use super::{Log, MIN_FILE, lock};
use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::record::{LOG_START, Position, log_file_name};
use crate::storage::{Access, pins};

/// How much is rewritten at once.
const PIECE: usize = 1 << 20;

impl Log {
    /// Writes every page of the records between two positions onto itself and
    /// syncs: to be called after a crash, before there are readers. After it
    /// everything up to `to`, which came from a [`scan`](Log::scan), is durable.
    ///
    /// # Errors
    ///
    /// `Io`, which poisons; `Corrupt` if the positions are not on one chain.
    pub(crate) fn rewrite(&self, from: Position, to: Position) -> Result<()> {
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        let mut number = from.file;
        let mut offset = u64::from(from.offset);
        loop {
            let last = number == to.file;
            let (file, next) = {
                let pin = pins::pin();
                let set = self.files.load(&pin);
                (set.get(number).cloned(), set.successor(number).cloned())
            };
            let next = next.filter(|_| !last);
            let (Some(file), true) = (file, last || next.is_some()) else {
                return Err(self.corrupt(number, 0, "log file", "in the chain", "not in it"));
            };
            let stated = next.as_ref().map_or(to.offset, |next| next.activation.previous_end);
            self.rewrite_file(&file, offset, stated.into())?;
            let Some(next) = next else { break };
            number = next.number;
            offset = LOG_START;
        }
        self.durable.fetch_max(to.commit, Release);
        self.hot.appended.fetch_max(to.commit, Release);
        Ok(())
    }

    /// Rewrites the first block of a file and its pages between two offsets.
    fn rewrite_file(&self, file: &LogFile, from: u64, to: u64) -> Result<()> {
        let name = log_file_name(file.number);
        let mut reader = Reader::open(&*self.storage, file.number, file.salt, file.size)?;
        let writer = self.storage.open(&name, Access::Write);
        let writer = writer.map_err(|error| Error::io("open", self.storage.path(&name), error))?;
        let failed = |doing| {
            let name = &name;
            move |error| self.failed(doing, name, error)
        };
        let first = reader.bytes(0, BLOCK)?;
        writer.write_at(first, 0).map_err(failed("write to"))?;
        let mut at = from - from % BLOCK as u64;
        let to = to.next_multiple_of(BLOCK as u64).min(file.size);
        while at < to {
            let bytes = reader.bytes(at, (to - at).min(PIECE as u64) as usize)?;
            writer.write_at(bytes, at).map_err(failed("write to"))?;
            at += bytes.len() as u64;
        }
        writer.sync().map_err(failed("sync"))
    }

    /// The appender of an opened log that ends at `at`. `clean`: the store was
    /// closed there and has not been written since; the log goes on in place.
    /// Otherwise `at` is what [`scan`](Log::scan) found, and what was read has
    /// been [rewritten](Log::rewrite); the log goes on in a new file.
    ///
    /// # Errors
    ///
    /// `Corrupt` if `at` is not a place in the log, or if a clean log goes on
    /// behind it; `ReadOnly`, `Io`. A full device is not an error yet.
    pub(crate) fn appender(self: &Arc<Log>, at: Position, clean: bool) -> Result<Appender> {
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        if let Some(damaged) = self.damaged.iter().find(|damaged| damaged.number >= at.file) {
            return Err(damaged.error());
        }
        let current = self.take_over(at)?;
        if clean {
            self.check_nothing_follows(&current.log, at)?;
            self.durable.fetch_max(at.commit, Release);
        } else {
            self.remove_later(at.file)?;
        }
        debug_assert!(self.durable() >= at.commit, "a crashed log is rewritten first");
        self.hot.appended.store(at.commit, Release);
        self.active.store(at.file, Release);
        self.set_grown(current.log.size);
        let goes_on = clean && self.take_space(&current, at.offset.into())?;
        let mut appender = Appender::new(self.clone(), current.clone(), at, goes_on);
        if clean {
            lock(&self.sync).unsynced.push_back(current);
        } else {
            self.go_on_in_new_file(&mut appender)?;
        }
        self.tidy();
        Ok(appender)
    }

    /// Opens the file of a position for writing, and says where it ends.
    fn take_over(&self, at: Position) -> Result<Writable> {
        let opened = files::open(&*self.storage, at.file, Access::Write)?;
        let Opened::Activated(writable) = opened else {
            return Err(self.corrupt(at.file, 512, "activation", "valid", "not valid"));
        };
        let (log, offset) = (&writable.log, u64::from(at.offset));
        let inside = (LOG_START..=log.size).contains(&offset) && offset.is_multiple_of(8);
        if log.salt != at.salt || !inside {
            let (expected, found) = ("a place in this life of the file", format!("{at:?}"));
            return Err(self.corrupt(at.file, offset, "end of the log", expected, found));
        }
        log.set_end(offset);
        log.set_last_commit(at.commit);
        let known = log.clone();
        self.change_files(|set| set.with(known));
        Ok(writable)
    }

    /// Takes the space of a file from its end on, where a copy may have left holes.
    /// Costs little if it is taken. `false`: the device is full.
    fn take_space(&self, file: &Writable, end: u64) -> Result<bool> {
        let taken = file.file.allocate(end, file.log.size - end);
        let name = log_file_name(file.log.number);
        match taken.map_err(|error| self.refused("take space for", &name, error)) {
            Ok(()) => Ok(true),
            Err(error) if error.is_full() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the files that were activated behind the end of the log.
    fn remove_later(&self, last: u32) -> Result<()> {
        for number in self.activated_after(last).into_iter().rev() {
            let name = log_file_name(number);
            let removed = self.storage.remove(&name);
            removed.map_err(|error| Error::io("remove", self.storage.path(&name), error))?;
            self.sync_directory()?;
            self.change_files(|set| set.without(number));
        }
        Ok(())
    }

    /// The numbers of the activated files behind a file, in order.
    fn activated_after(&self, last: u32) -> Vec<u32> {
        let pin = pins::pin();
        let all = self.files.load(&pin).iter().map(|file| file.number);
        all.filter(|number| *number > last).collect()
    }

    /// Checks that a log that was closed cleanly does not go on.
    fn check_nothing_follows(&self, file: &LogFile, at: Position) -> Result<()> {
        if let Some(&next) = self.activated_after(at.file).first() {
            let expected = "not activated, for the store was closed cleanly before it";
            return Err(self.corrupt(next, 512, "log file", expected, "activated"));
        }
        let mut reader = Reader::open(&*self.storage, file.number, file.salt, file.size)?;
        let due = at.commit.saturating_add(1);
        if reader.record(at.offset.into(), due)?.is_none() {
            return Ok(());
        }
        let found = format!("the record of commit {due}");
        let expected = "nothing, for the store was closed cleanly";
        Err(self.corrupt(at.file, at.offset.into(), "end of the log", expected, found))
    }

    /// Sizes go on growing from the file that is continued, unless it was made
    /// for one record.
    fn set_grown(&self, size: u64) {
        let ordinary = size == self.options.max_file || size.is_power_of_two();
        let grown = if ordinary && size <= self.options.max_file { size } else { MIN_FILE };
        lock(&self.next).grown = grown;
    }

    /// Activates a new file behind the end, durably, if one can be made.
    fn go_on_in_new_file(&self, appender: &mut Appender) -> Result<()> {
        match self.prepare_first() {
            Ok(fresh) => {
                // It may have been kept for urgent records before the crash.
                self.doubt_reserve();
                appender.activate(Fresh { reserved: true, ..fresh })?;
                self.sync_activation(&appender.current)
            }
            Err(error) if error.is_full() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes the activation of a file durable, and whatever else was written to it.
    pub(super) fn sync_activation(&self, file: &Writable) -> Result<()> {
        let name = log_file_name(file.log.number);
        file.file.sync().map_err(|error| {
            let error = Error::io("sync", self.storage.path(&name), error);
            self.poison.set(&error);
            error
        })
    }
}
