//! Preparing log files before they are needed, and recycling old ones.
//!
//! A file is prepared under a temporary name: space taken, header, sync, rename,
//! directory synced. Only then may it be activated. Until then it lies ready, and
//! [zeros](super::zeros) are written behind the header, so that later syncs change
//! no metadata. Where a file lies ready that holds nothing
//! any more, it is taken instead: renamed to the temporary name first, and that
//! made durable, so that no file ever bears a number that is not its own; then
//! its first block is written anew. What its earlier life left behind the first
//! block is invalid under the new salt.
//!
//! ```text
//! new        create ─► allocate ───────────────► header ─► sync ─► rename ─► sync directory
//! recycled   rename ─► sync directory ─► allocate ► header ─► sync ─► rename ─► sync directory
//! ```
//!
//! The end of an old file may have been given back (see [`space`](super::space)).
//! A store into such a hole ends the process if the device is full, hence
//! space is taken for a recycled file as well; if there is none, it is removed.
//!
//! A crash anywhere leaves the temporary name, which the next opening removes,
//! or a prepared file, which it recycles. A prepared file is never activated
//! by a later opening under its old salt: its activation and records may have
//! been there and be lost in part, and what is left of them must not be taken
//! for records of its next life.
//!
//! # Sizes
//!
//! The first file has 1 MiB, each next one is twice as large, up to the limit
//! in the options. A record that does not fit such a file gets one of its own,
//! with some room left, so that small records that come in between do not keep
//! it out. If the device is full, the smallest size is tried, then what lies
//! ready of any size.
//!
//! # Numbers
//!
//! They grow with every preparation, so that their order is the order of the
//! chain. Hence there is one prepared file at most: one that
//! is too small for a record is given up, and prepared again later under a new
//! number.
//!
//! # Waiting
//!
//! One thread prepares: a keeper ahead of need, or the first one that waits,
//! when no piece of zeros is being written into the file that lies ready.
//! The others wait for it, and try themselves if it fails. A full device is an
//! error for those who wait, and only for them; the half-made file is removed.
//! May be used from any thread; no lock is held while files are written.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::files::{Spare, TEMPORARY};
use super::pace::{self, GoOn};
use super::reserve::Reserve;
use super::work::{AtWork, Workers, being_closed};
use super::{Log, MIN_FILE, lock, wait};
use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::record::{
    LOG_START, LogFileHeader, MAX_LOG_FILE, MAX_RECORD, log_file_name, padded,
};
use crate::storage::{Access, File, Map};

/// Room beside the record in a file of its own.
const SLACK: u64 = 256 << 10;

/// A prepared file that is not activated.
pub(super) struct Fresh {
    pub(super) number: u32,
    pub(super) salt: u32,
    pub(super) size: u64,
    pub(super) map: Map,
    pub(super) file: Arc<dyn File>,
    /// Whether it was kept for urgent records.
    pub(super) reserved: bool,
    /// Whether zeros in it are of use: nothing else was ever written behind its
    /// first block, and it is not full of them.
    pub(super) blank: bool,
}

impl Fresh {
    /// How long the records in it may be together.
    pub(super) fn room(&self) -> u64 {
        self.size - LOG_START
    }

    pub(super) fn spare(&self) -> Spare {
        Spare { number: self.number, salt: self.salt, size: self.size, trimmed: 0 }
    }
}

/// The next file of the log, and what can be made into one.
#[derive(Default)]
pub(super) struct Next {
    /// The file that is prepared.
    pub(super) ready: Option<Fresh>,
    /// Whether zeros are being written into it; see [`zeros`](super::zeros).
    pub(super) zeroing: bool,
    /// Whether somebody is about to take the file that lies ready, or will.
    pub(super) claimed: bool,
    /// The size of the prepared file that the appender has in hand, 0 if none.
    pub(super) in_hand: u64,
    /// Whether somebody prepares one.
    preparing: bool,
    /// Who is at work on files.
    pub(super) workers: Workers,
    /// The highest number given to a file so far.
    highest: u32,
    /// The size of the last file that was not made for one record.
    pub(super) grown: u64,
    /// Whether nothing was prepared since the log was made small.
    pub(super) small: bool,
    /// Files that hold nothing.
    pub(super) spares: Vec<Spare>,
    /// Files that are kept for urgent records.
    pub(super) reserve: Reserve,
    /// Files taken out of the set in that epoch: spares, once no pin is left.
    pub(super) retired: Vec<(u64, Spare)>,
}

impl Next {
    /// Nothing is prepared yet; these files hold nothing.
    pub(super) fn new(highest: u32, spares: Vec<Spare>) -> Next {
        Next { highest, spares, ..Next::default() }
    }

    /// The size of the next ordinary file.
    pub(super) fn wanted(&self, max_file: u64) -> u64 {
        (self.grown * 2).clamp(MIN_FILE.min(max_file), max_file)
    }

    /// Fills up what is kept with spares.
    pub(super) fn refill_reserve(&mut self, max_file: u64) {
        self.reserve.refill(&mut self.spares, max_file);
    }

    /// Whether somebody prepares a file.
    pub(super) fn is_preparing(&self) -> bool {
        self.preparing
    }

    /// Whether a prepared file may be used for a record.
    fn suits(&self, ready: &Fresh, space: u64, urgent: bool) -> bool {
        ready.room() >= space && (urgent || !ready.reserved || self.reserve.is_whole())
    }

    /// Takes the spare that suits best: the smallest that is large enough.
    fn take_spare(&mut self, least: u64, most: u64) -> Option<Spare> {
        let suits = |spare: &&Spare| (least..=most).contains(&spare.size);
        let best = *self.spares.iter().filter(suits).min_by_key(|spare| spare.size)?;
        self.spares.retain(|spare| *spare != best);
        Some(best)
    }
}

impl Log {
    /// Returns when a next file is prepared that takes a record of that many
    /// bytes. Prepares it if nobody else does; for an urgent record, of what is
    /// kept if the device is full. Not to be called with the writer lock held:
    /// it takes as long as writing the file.
    ///
    /// # Errors
    ///
    /// `Io` if the file cannot be made; if the device is full, that poisons
    /// nothing and may be tried again. `BatchTooLarge`, `ReadOnly`, `Poisoned`,
    /// `Closed`.
    pub(crate) fn wait_for_file(&self, bytes: u64, urgent: bool) -> Result<()> {
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        if bytes > MAX_RECORD {
            return Err(Error::BatchTooLarge { needed: bytes, limit: MAX_RECORD });
        }
        self.poison.check()?;
        let space = padded(bytes);
        if self.is_ready(space, urgent) {
            return Ok(());
        }
        let since = Instant::now();
        let outcome = self.wait_or_prepare(space, urgent);
        self.counters.waited(since);
        outcome
    }

    /// Whether a file with that much room is prepared, which is claimed then.
    fn is_ready(&self, space: u64, urgent: bool) -> bool {
        let mut next = lock(&self.next);
        let suits = next.ready.as_ref().is_some_and(|ready| next.suits(ready, space, urgent));
        next.claimed |= suits;
        suits && !next.is_held()
    }

    fn wait_or_prepare(&self, space: u64, urgent: bool) -> Result<()> {
        while !self.is_ready(space, urgent) {
            let Some(preparing) = self.begin_preparing()? else {
                continue;
            };
            if self.is_ready(space, urgent) {
                break;
            }
            preparing.give_up_ready();
            let fresh = self.prepare_for(space, urgent)?;
            preparing.finish(fresh);
        }
        Ok(())
    }

    /// Waits until nobody else prepares a file, and lets the caller do so.
    pub(super) fn wait_to_prepare(&self) -> Result<Preparing<'_>> {
        loop {
            if let Some(preparing) = self.begin_preparing()? {
                return Ok(preparing);
            }
        }
    }

    /// Lets the caller prepare a file. `None`: somebody else did meanwhile, or
    /// wrote zeros into the one that lies ready.
    fn begin_preparing(&self) -> Result<Option<Preparing<'_>>> {
        self.poison.check()?;
        let mut next = lock(&self.next);
        if !next.workers.are_sent_away() && (next.preparing || next.is_held()) {
            drop(wait(&self.prepared, next));
            return Ok(None);
        }
        self.prepares(&mut next).ok_or_else(being_closed).map(Some)
    }

    /// Lets the caller prepare a file, if nobody does.
    pub(super) fn try_preparing(&self) -> Option<Preparing<'_>> {
        let mut next = lock(&self.next);
        if next.preparing || next.zeroing { None } else { self.prepares(&mut next) }
    }

    fn prepares(&self, next: &mut Next) -> Option<Preparing<'_>> {
        let work = next.workers.begin(self)?;
        next.preparing = true;
        Some(Preparing { log: self, _work: work })
    }

    /// Prepares an ordinary next file if there is none: for a keeper.
    pub(super) fn prepare_ahead(&self) -> Result<()> {
        let preparing = self.wait_to_prepare()?;
        self.heard();
        let (is_there, wanted) = {
            let next = lock(&self.next);
            (next.ready.is_some(), next.wanted(self.options.max_file))
        };
        if !is_there {
            let pace = self.pace();
            let fresh = self.prepare(wanted, self.options.max_file, &|at| pace.go_on(at))?;
            lock(&self.next).grown = fresh.size;
            preparing.finish(fresh);
        }
        Ok(())
    }

    /// Fills the reserve, if nobody prepares a file: for a keeper.
    pub(super) fn fill_reserve_ahead(&self) -> Result<()> {
        self.poison.check()?;
        let Some(_preparing) = self.try_preparing() else {
            return Ok(());
        };
        let pace = self.pace();
        self.fill_reserve(&|at| Ok(pace.go_on(at)? && !self.is_asked_for_file()))
    }

    /// Prepares a file for a record of that size, or something smaller than
    /// what would be best if the device is full.
    fn prepare_for(&self, space: u64, urgent: bool) -> Result<Fresh> {
        let go_on = &pace::AWAITED;
        if !urgent && !self.reserve_allows_more() {
            self.fill_reserve(go_on)?;
        }
        match self.prepare_any(space) {
            Err(error) if urgent && error.is_full() => {
                let Some(kept) = self.take_reserve(LOG_START + space) else {
                    return Err(error);
                };
                let fresh = self.prepare_as(kept.size, Some(kept), go_on)?;
                Ok(Fresh { reserved: true, ..fresh })
            }
            outcome => outcome,
        }
    }

    /// Prepares a file for a record of that size, but for what is kept.
    fn prepare_any(&self, space: u64) -> Result<Fresh> {
        let max_file = self.options.max_file;
        let wanted = lock(&self.next).wanted(max_file);
        let least = LOG_START + space;
        let go_on = &pace::AWAITED;
        if least > wanted {
            let own = (least + SLACK).next_multiple_of(BLOCK as u64).min(MAX_LOG_FILE);
            return self.prepare(own, own, go_on);
        }
        let full = match self.prepare(wanted, max_file, go_on) {
            Err(error) if error.is_full() => error,
            Ok(fresh) => {
                lock(&self.next).grown = fresh.size;
                return Ok(fresh);
            }
            Err(error) => return Err(error),
        };
        let smallest = MIN_FILE.max(least.next_multiple_of(BLOCK as u64));
        if smallest >= wanted {
            return Err(full);
        }
        self.prepare(smallest, MAX_LOG_FILE, go_on)
    }

    /// Prepares a file for going on after a crash, or for a new log: of the
    /// smallest size, or of what lies ready. Only while the log is opened.
    pub(super) fn prepare_first(&self) -> Result<Fresh> {
        let fresh = self.prepare_filled(MIN_FILE, self.options.max_file, &pace::ALL)?;
        lock(&self.next).grown = fresh.size;
        self.populate_first(&fresh.map);
        Ok(fresh)
    }

    /// Prepares a file: recycles a spare of `size` to `most` bytes, or makes a
    /// file of `size` bytes. Leaves nothing behind if it fails.
    pub(super) fn prepare(&self, size: u64, most: u64, go_on: &GoOn<'_>) -> Result<Fresh> {
        let spare = lock(&self.next).take_spare(size, most);
        self.prepare_as(size, spare, go_on)
    }

    /// The same, with zeros.
    pub(super) fn prepare_filled(&self, size: u64, most: u64, go_on: &GoOn<'_>) -> Result<Fresh> {
        let fresh = self.prepare(size, most, go_on)?;
        let filled = self.fill(&fresh, go_on);
        if filled.is_err() && !self.poison.is_set() {
            let _ = self.storage.remove(&log_file_name(fresh.number));
        }
        filled.map(|()| Fresh { blank: false, ..fresh })
    }

    /// Prepares a file: recycles a spare, or makes a file of `size` bytes.
    fn prepare_as(&self, size: u64, spare: Option<Spare>, go_on: &GoOn<'_>) -> Result<Fresh> {
        let number = {
            let mut next = lock(&self.next);
            let Some(number) = next.highest.checked_add(1) else {
                return Err(Error::invalid("the log has used up its four billion file numbers"));
            };
            next.highest = number;
            next.small = false;
            number
        };
        let size = spare.map_or(size, |spare| spare.size);
        let salt = new_salt(spare.map_or(0, |spare| spare.salt))?;
        let header = LogFileHeader { number, salt, size };
        let prepared = match spare {
            Some(spare) => self.recycle(spare),
            None => self.make(size, go_on),
        };
        let fresh = prepared.and_then(|(file, blank)| self.complete(file, header, blank));
        if fresh.is_err() && !self.poison.is_set() {
            // Whatever cannot be removed is found, and removed, by the next opening.
            let _ = self.storage.remove(TEMPORARY);
            let _ = self.storage.remove(&log_file_name(number));
        }
        fresh
    }

    /// Takes space for a file, and fills it with zeros if it is not held for good
    /// otherwise. Says whether nothing was written.
    fn make(&self, size: u64, go_on: &GoOn<'_>) -> Result<(Arc<dyn File>, bool)> {
        let _ = self.storage.remove(TEMPORARY);
        let file = self.storage.open(TEMPORARY, Access::Create);
        let file = file.map_err(|error| self.refused("create", TEMPORARY, error))?;
        let allocated = file.allocate(0, size);
        allocated.map_err(|error| self.refused("allocate", TEMPORARY, error))?;
        let blank = file.holds_allocated();
        if !blank {
            self.fill_first(&*file, size, go_on)?;
        }
        Ok((file, blank))
    }

    /// Takes a file that holds nothing, and its name from it. It has all of its
    /// space when this returns.
    fn recycle(&self, spare: Spare) -> Result<(Arc<dyn File>, bool)> {
        let name = log_file_name(spare.number);
        let renamed = self.storage.rename(&name, TEMPORARY);
        renamed.map_err(|error| self.refused("rename", &name, error))?;
        self.sync_directory()?;
        let file = self.storage.open(TEMPORARY, Access::Write);
        let file = file.map_err(|error| self.refused("open", TEMPORARY, error))?;
        let allocated = file.allocate(0, spare.size);
        allocated.map_err(|error| self.refused("allocate", TEMPORARY, error))?;
        self.counters.recycled();
        Ok((file, false))
    }

    /// Writes the first block, and gives the file its name and its mapping.
    fn complete(&self, file: Arc<dyn File>, header: LogFileHeader, blank: bool) -> Result<Fresh> {
        let LogFileHeader { number, salt, size } = header;
        let written = file.write_at(&header.encode(), 0);
        written.map_err(|error| self.failed("write to", TEMPORARY, error))?;
        file.sync().map_err(|error| self.failed("sync", TEMPORARY, error))?;
        let map = file.map(size, true);
        let map = map.map_err(|error| self.refused("map", TEMPORARY, error))?;
        if self.takes_long_records() {
            map.want_neighbours();
        }
        let renamed = self.storage.rename(TEMPORARY, &log_file_name(number));
        renamed.map_err(|error| self.refused("rename", TEMPORARY, error))?;
        self.sync_directory()?;
        Ok(Fresh { number, salt, size, map, file, reserved: false, blank })
    }

    /// Takes the prepared file, if it has that much room.
    pub(super) fn take_prepared(&self, room: u64, urgent: bool) -> Option<Fresh> {
        self.take_ready(|next, ready| next.suits(ready, room, urgent))
    }

    /// Takes the prepared file, if it is smaller than that.
    pub(super) fn take_smaller(&self, size: u64) -> Option<Fresh> {
        self.take_ready(|_, ready| ready.size < size)
    }

    fn take_ready(&self, suits: impl FnOnce(&Next, &Fresh) -> bool) -> Option<Fresh> {
        let mut next = lock(&self.next);
        if next.is_held() || !next.ready.as_ref().is_some_and(|ready| suits(&next, ready)) {
            return None;
        }
        let taken = next.ready.take()?;
        (next.in_hand, next.claimed) = (taken.size, false);
        Some(taken)
    }

    /// Gives back a file that was taken and turned out to be too small.
    pub(super) fn give_up(&self, fresh: &Fresh) {
        lock(&self.next).spares.push(fresh.spare());
    }

    pub(super) fn sync_directory(&self) -> Result<()> {
        let synced = self.storage.sync_directory(super::files::DIRECTORY);
        synced.map_err(|error| self.failed("sync", super::files::DIRECTORY, error))
    }
}

/// Lets others prepare, however preparing ends.
pub(super) struct Preparing<'a> {
    log: &'a Log,
    /// Dropped last, behind what is removed then.
    _work: AtWork<'a>,
}

impl Preparing<'_> {
    /// Hands a file over.
    pub(super) fn finish(self, fresh: Fresh) {
        self.give_up_ready();
        self.log.populate_first(&fresh.map);
        lock(&self.log.next).ready = Some(fresh);
    }

    /// What is prepared does not suit: it may be recycled.
    pub(super) fn give_up_ready(&self) {
        let mut next = lock(&self.log.next);
        debug_assert!(!next.zeroing, "who prepares keeps zeros from being written");
        if let Some(ready) = next.ready.take() {
            next.spares.push(ready.spare());
        }
    }
}

impl Drop for Preparing<'_> {
    fn drop(&mut self) {
        lock(&self.log.next).preparing = false;
        self.log.prepared.notify_all();
        self.log.tidy();
    }
}

/// A number at random, neither 0 nor `not`.
fn new_salt(not: u32) -> Result<u32> {
    loop {
        let salt = getrandom::u32().map_err(|error| {
            Error::io("read random numbers from", "the operating system", io::Error::other(error))
        })?;
        if salt != 0 && salt != not {
            return Ok(salt);
        }
    }
}
