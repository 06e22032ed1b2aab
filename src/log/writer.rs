//! Appending: the one path that every write of the store takes.
//!
//! An [`Appender`] belongs to whoever holds the writer lock of the store. A
//! record is written behind the last one ([`put`](super::put)), then the new end
//! of the file is published, then the commit. There is no lock in it and no
//! allocation, and no system call but that of stores that append by one.
//!
//! # Room
//!
//! Appending cannot wait (it happens under the writer lock), so room is asked
//! for before: [`Appender::reserve`]. What does not fit the rest of the active
//! file goes into the next one, which somebody has prepared ahead; the appender
//! takes it in hand, and the record that needs it activates it. If there is
//! none yet, the caller gives the lock back and waits for one.
//!
//! ```text
//!  active file                                          in hand, or prepared
//! ├── records ────────┤ room for everybody ├ reserve ┤  ├────────────────────
//!                   offset                           limit
//! ```
//!
//! The last 64 KiB of the active file are kept for urgent records as long as no
//! next file is in hand, and all of a file that was itself kept for them
//! ([`reserve`](super::reserve)): removing entries must be possible when the
//! device is full.
//!
//! # Activation
//!
//! 32 bytes in the first block of the new file, behind its header and in one
//! sector: where the log ended before it. As a rule the record that caused it
//! follows at once. There are two exceptions: after a crash the log goes on in
//! a file that is made and synced while the store is opened; and
//! [`Appender::rotate`] ends a file before it is full, so that it can be cleaned
//! or trimmed. The place where such a file begins may be written into a table's
//! header before any record is there, so the next [`Log::sync_to`] makes the
//! activation durable even if no commit waits for it.
//!
//! Not thread-safe, by design: everything here takes `&mut self`.

mod composed;

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

use super::files::{LogFile, Writable};
use super::keeper::Populate;
use super::prepare::Fresh;
use super::put::{BUFFER, Placed, Way, length, put_encoded, put_record, take_back};
use super::{Log, WINDOW, lock};
use crate::error::{Error, Result};
use crate::format::record::{
    ACTIVATION_OFFSET, Activation, LOG_START, LogFileHeader, MAX_RECORD, OP_HEADER, Op, Position,
    RECORD_HEADER, RecordHeader, log_file_name, padded,
};

/// At this offset of the active file the next one is asked for: late enough
/// that a tiny store never has a second file.
const ASK_AT: u64 = 128 << 10;

/// At this offset of an active file of that size the next one is claimed.
fn claim_at(size: u64) -> u64 {
    size / 8 * 7
}

/// What is kept of the active file for urgent records, in bytes.
const RESERVE: u64 = 64 << 10;

/// The same if all of it is.
const ALL: u64 = u64::MAX / 2;

/// Whether a record can be appended now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Room {
    /// It can, and space will not be the reason if it fails.
    Ready,
    /// It cannot: give the writer lock back, call [`Log::wait_for_file`] and
    /// try again.
    Wait,
}

/// The end of the log, for whoever holds the writer lock.
pub(crate) struct Appender {
    log: Arc<Log>,
    /// The active file, or after a crash the one that it will follow.
    pub(super) current: Writable,
    /// Where the next record goes.
    offset: u64,
    /// Where the room in the active file ends: at its end, or at `offset` if
    /// it must not be continued.
    limit: u64,
    /// How much room at the end is kept for urgent records, in bytes.
    kept: u64,
    /// The last commit.
    commit: u64,
    /// The next file, taken in hand.
    pending: Option<Fresh>,
    /// From this offset on there is something to tell the keepers.
    poke_at: u64,
    /// How records are written.
    way: Way,
    /// How far the active file is mapped for writing, or need not be.
    populated: u64,
    /// Bytes that were written another way since it was looked at what to map
    /// ahead.
    long: u64,
    /// Whether the file after the active one has been asked for, and whether it
    /// has been claimed.
    asked: bool,
    claimed: bool,
    /// Bytes appended since the log was opened.
    total: u64,
    /// Of these, the bytes of keys and values.
    user: u64,
    buffer: Box<[u8; BUFFER]>,
}

impl Appender {
    /// An appender behind `at`, in `current`, which it continues or not.
    pub(super) fn new(log: Arc<Log>, current: Writable, at: Position, goes_on: bool) -> Appender {
        let offset = u64::from(at.offset);
        let limit = if goes_on { current.log.size } else { offset };
        let way = if log.options.append_by_call { Way::Call } else { Way::Mapping };
        Appender {
            log,
            current,
            offset,
            limit,
            kept: if goes_on { RESERVE } else { ALL },
            commit: at.commit,
            pending: None,
            poke_at: offset,
            way,
            populated: if way == Way::Mapping { offset } else { u64::MAX },
            long: 0,
            asked: false,
            claimed: false,
            total: 0,
            user: 0,
            buffer: Box::new([0; BUFFER]),
        }
    }

    /// The end of the log.
    pub(crate) fn position(&self) -> Position {
        self.current.log.position(self.offset, self.commit)
    }

    /// Whether a later opening may continue the log at [`position`] in place.
    /// It may not if the log was opened after a crash and no file could be
    /// made for it to go on in: then stale bytes lie behind its end, and the
    /// store must not be marked as cleanly closed.
    ///
    /// [`position`]: Appender::position
    pub(crate) fn can_continue(&self) -> bool {
        self.limit == self.current.log.size
    }

    /// The number of the file that the last commit went to, or the next one
    /// will go to if it fits.
    #[inline]
    pub(crate) fn file(&self) -> u32 {
        self.current.log.number
    }

    /// Bytes appended since the log was opened.
    pub(crate) fn bytes_total(&self) -> u64 {
        self.total
    }

    /// Bytes of keys and values appended since the log was opened.
    pub(crate) fn user_bytes(&self) -> u64 {
        self.user
    }

    /// Makes sure that a record of that many bytes, header included, can be
    /// appended, without waiting. Only an urgent one, which frees space, may
    /// use the reserve.
    ///
    /// # Errors
    ///
    /// `Poisoned`; `BatchTooLarge` if no record may be that long.
    #[inline]
    pub(crate) fn reserve(&mut self, bytes: u64, urgent: bool) -> Result<Room> {
        self.log.poison.check()?;
        if bytes <= MAX_RECORD && padded(bytes) + self.kept <= self.limit - self.offset {
            return Ok(Room::Ready);
        }
        self.reserve_slowly(bytes, urgent)
    }

    #[cold]
    fn reserve_slowly(&mut self, bytes: u64, urgent: bool) -> Result<Room> {
        if bytes > MAX_RECORD {
            return Err(Error::BatchTooLarge { needed: bytes, limit: MAX_RECORD });
        }
        let (space, room) = (padded(bytes), self.limit - self.offset);
        if self.kept > RESERVE && self.log.reserve_is_whole() {
            self.kept = RESERVE;
            if space + RESERVE <= room {
                return Ok(Room::Ready);
            }
        }
        // A record that does not fit the active file has to fit the next one.
        let least = if space <= room { 0 } else { space };
        if self.pending.as_ref().is_none_or(|next| next.room() < least)
            && let Some(next) = self.log.take_prepared(least, urgent)
            && let Some(too_small) = self.pending.replace(next)
        {
            self.log.give_up(&too_small);
        }
        let has_next = self.pending.as_ref().is_some_and(|next| {
            let for_all = urgent || !next.reserved || self.log.reserve_is_whole();
            for_all && next.room() >= least
        });
        let ready = has_next || (urgent && space <= room);
        Ok(if ready { Room::Ready } else { Room::Wait })
    }

    /// Appends a record with these operations. The key of the first one lies
    /// at `offset + RECORD_HEADER + OP_HEADER` of the file, its value behind it,
    /// and so on. Killing the process cannot undo it any more.
    ///
    /// Room must have been reserved; lengths must be within their limits.
    ///
    /// # Errors
    ///
    /// `Poisoned`, or what now poisons the store. If the device is full all the
    /// same: `Io`, and nothing has changed.
    #[inline]
    pub(crate) fn append(&mut self, ops: &[Op<'_>]) -> Result<Placed> {
        let length = length(ops);
        let way = self.way.of(length, ops.len());
        self.append_by(way, length, (ops, None))
    }

    /// The same for one operation, with the checksum of its value if that is known.
    ///
    /// # Errors
    ///
    /// As [`append`](Appender::append).
    pub(crate) fn append_one(&mut self, op: &Op<'_>, known: Option<u32>) -> Result<Placed> {
        let length = RECORD_HEADER as u64 + op.encoded_len();
        let way = self.way.of(length, 1);
        self.append_by(way, length, (std::slice::from_ref(op), known))
    }

    /// The same for a record whose effect is there already, so that it cannot
    /// be refused: through the mapping, which needs no space as a rule.
    ///
    /// # Errors
    ///
    /// `Poisoned`, or what now poisons the store.
    pub(crate) fn append_surely(&mut self, ops: &[Op<'_>]) -> Result<Placed> {
        let placed = self.append_by(Way::Mapping, length(ops), (ops, None));
        // Not even a full device may refuse it: what it tells of has happened.
        placed.inspect_err(|error| self.log.poison.set(error))
    }

    /// The same for so many operations that are encoded already.
    ///
    /// # Errors
    ///
    /// As [`append`](Appender::append).
    pub(crate) fn append_encoded(&mut self, body: &[u8], count: usize) -> Result<Placed> {
        let length = (RECORD_HEADER + body.len()) as u64;
        let way = self.way.of(length, count);
        self.append_record(way, (length, count), |to, at, header, buffer| {
            put_encoded(to, way, at, header, body, buffer)
        })
    }

    /// A record is in the file: makes it known.
    #[inline]
    fn advance(&mut self, length: u64, ops: usize) {
        let space = padded(length);
        self.commit += 1;
        self.offset += space;
        self.total += space;
        self.user += length - (RECORD_HEADER + OP_HEADER * ops) as u64;
        self.current.log.set_end(self.offset);
        self.log.hot.appended.store(self.commit, Release);
        if !self.log.hot.dirty.load(Relaxed) {
            self.log.mark_dirty();
        }
        if self.offset >= self.poke_at {
            self.poke();
        }
    }

    #[inline]
    fn append_by(
        &mut self,
        way: Way,
        length: u64,
        (ops, known): (&[Op<'_>], Option<u32>),
    ) -> Result<Placed> {
        self.append_record(way, (length, ops.len()), |to, at, header, buffer| {
            put_record(to, way, at, header, (ops, known), buffer)
        })
    }

    /// Appends a record of that many bytes and operations, which `put` writes.
    #[inline(always)]
    fn append_record(
        &mut self,
        way: Way,
        (length, count): (u64, usize),
        put: impl FnOnce(&Writable, u64, &RecordHeader, &mut [u8; BUFFER]) -> std::io::Result<()>,
    ) -> Result<Placed> {
        self.log.poison.check()?;
        let space = padded(length);
        if space > self.limit - self.offset {
            self.go_over(space)?;
        }
        let commit = self.commit + 1;
        let durable = self.log.durable();
        let header = RecordHeader { crc: 0, length: length as u32, commit, durable };
        let written = put(&self.current, self.offset, &header, &mut self.buffer);
        written.map_err(|error| self.not_written(way, error))?;

        let placed = Placed { file: self.current.log.number, offset: self.offset as u32, commit };
        self.advance(length, count);
        if way != self.way {
            self.long += length;
        }
        Ok(placed)
    }

    /// Goes over to the next file, which has to have been reserved.
    #[cold]
    fn go_over(&mut self, space: u64) -> Result<()> {
        match self.pending.take_if(|next| next.room() >= space) {
            Some(next) => self.activate(next),
            None => {
                let error = Error::BatchTooLarge { needed: space, limit: self.limit - self.offset };
                debug_assert!(false, "append without room: {error}");
                self.log.poison.set(&error);
                Err(error)
            }
        }
    }

    /// Ends the active file, however much room it has, and goes on in the next
    /// one: the smaller of the one in hand and the one prepared. `false`: there
    /// is none, and nothing changed; give the writer lock back, call
    /// [`Log::prepare_small`] or [`Log::wait_for_file`] and try again.
    ///
    /// The file that was ended can be walked, cleaned and trimmed from now on.
    /// No record is written, and nothing is synced: the next
    /// [`Log::sync_to`], of any commit, makes the activation durable.
    ///
    /// # Errors
    ///
    /// `Poisoned`, or what now poisons the store.
    pub(crate) fn rotate(&mut self) -> Result<bool> {
        self.log.poison.check()?;
        let in_hand = self.pending.as_ref().map_or(u64::MAX, |next| next.size);
        if let Some(smaller) = self.log.take_smaller(in_hand)
            && let Some(larger) = self.pending.replace(smaller)
        {
            self.log.give_up(&larger);
        }
        let Some(next) = self.pending.take() else {
            return Ok(false);
        };
        self.activate(next)?;
        self.log.rotated.store(self.file(), Release);
        Ok(true)
    }

    /// Makes a prepared file the end of the log.
    pub(super) fn activate(&mut self, next: Fresh) -> Result<()> {
        let activation = Activation {
            previous: self.current.log.number,
            previous_end: self.offset as u32,
            last_commit: self.commit,
            salt: next.salt,
        };
        self.current.log.finish(self.commit);
        self.kept = if next.reserved { ALL } else { RESERVE };
        self.current = start(&self.log, next, activation)?;
        self.offset = LOG_START;
        self.limit = self.current.log.size;
        if self.way == Way::Mapping {
            self.populated = WINDOW.min(self.limit);
        }
        (self.asked, self.claimed) = (false, false);
        self.set_poke();
        Ok(())
    }

    /// Tells the keepers what to do ahead of use.
    #[cold]
    fn poke(&mut self) {
        let Writable { log, .. } = &self.current;
        if !self.asked && self.offset >= ASK_AT {
            self.asked = true;
            self.log.ask_for_file();
        }
        if !self.claimed && self.offset >= claim_at(log.size) {
            self.claimed = true;
            if self.pending.is_none() {
                self.log.claim_ready();
            }
        }
        if self.populated < log.size && self.offset + WINDOW / 2 >= self.populated {
            let from = self.populated.max(self.offset);
            self.populated = (from + WINDOW).min(log.size);
            // Who writes by calls needs nothing mapped, and what is mapped is
            // filled with zeros before.
            let by_calls = std::mem::take(&mut self.long) >= WINDOW / 4;
            self.log.by_calls.store(by_calls, Relaxed);
            log.set_by_calls(by_calls);
            if !by_calls {
                let to = self.populated;
                self.log.ask_to_populate(Populate { file: log.clone(), from, to });
            }
        }
        self.set_poke();
    }

    /// Finds out from where on there is something to tell.
    fn set_poke(&mut self) {
        let size = self.current.log.size;
        let ask = if self.asked { u64::MAX } else { ASK_AT };
        let claim = if self.claimed { u64::MAX } else { claim_at(size) };
        let whole = self.populated >= size;
        let populate = if whole { u64::MAX } else { self.populated.saturating_sub(WINDOW / 2) };
        self.poke_at = ask.min(claim).min(populate);
    }

    /// A record was not written, or only in part. A full device refuses it, if
    /// what may be there of it can be taken back; all else poisons.
    #[cold]
    fn not_written(&self, way: Way, error: std::io::Error) -> Error {
        let error = self.write_error(error);
        if !error.is_full() || take_back(&self.current, way, self.offset).is_err() {
            self.log.poison.set(&error);
        } else if self.offset == LOG_START {
            // The file may have been activated for it.
            self.log.rotated.store(self.file(), Release);
        }
        error
    }

    /// What the storage says of a write to the active file, as a sentence.
    fn write_error(&self, error: std::io::Error) -> Error {
        let path = self.log.storage.path(&log_file_name(self.current.log.number));
        Error::io("write to", path, error)
    }
}

/// Writes the activation of a prepared file and makes it known. It is durable
/// with the first sync of the file.
pub(super) fn start(log: &Log, next: Fresh, activation: Activation) -> Result<Writable> {
    let Fresh { number, salt, size, map, file, .. } = next;
    if let Err(error) = file.write_mapped(&map, &activation.encode(), ACTIVATION_OFFSET as u64) {
        let error = Error::io("write to", log.storage.path(&log_file_name(number)), error);
        log.poison.set(&error);
        return Err(error);
    }
    let header = LogFileHeader { number, salt, size };
    let known = Arc::new(LogFile::new(header, activation, map, LOG_START));
    let writable = Writable { log: known.clone(), file };
    lock(&log.sync).unsynced.push_back(writable.clone());
    log.active.store(number, Release);
    lock(&log.next).in_hand = 0;
    log.change_files(|set| set.with(known));
    Ok(writable)
}
