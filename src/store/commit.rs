//! A commit: one record in the log, then its changes in the tables.
//!
//! 1. Between commits: wait if there are too many dirty frames.
//! 2. Under the writer lock: room in the log, then everything in the tables
//!    that can fail (lookup, room, frames, blocks).
//! 3. The record is written. From here to the end of applying nothing can
//!    fail; if a thread unwinds all the same, the store is poisoned. (That nothing
//!    can fail is known of most inserts before their slot was looked at:
//!    [`mark`](crate::table::read::mark).)
//! 4. The changes are applied and can be seen.
//! 5. Without the lock: with `Durability::Sync`, wait until it is durable. Where
//!    nothing was to be changed, wait for the commits that made it so.
//!
//! A commit survives the death of the process when step 3 is over. One of many
//! changes goes the same way, see [`batch`](super::batch).

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::format::group::{Address, Shape};
use crate::format::record::{OP_HEADER, Op, OpKind, RECORD_HEADER};
use crate::log::{Appender, Poison, Room};
use crate::options::Durability;
use crate::table::batch::Entry;
use crate::table::fetch::Fetched;
use crate::table::read::aim::Aim;
use crate::table::read::mark::Removal;
use crate::table::write::{spilled_crc, spilled_part};
use crate::table::{Table, Writer};

use super::space::Behind;
use super::{Core, LogBytes, Store};

/// Poisons the store if it is dropped by unwinding.
pub(super) struct Unfinished<'a>(pub(super) &'a Poison);

impl Unfinished<'_> {
    /// All is done.
    #[inline(always)]
    fn end(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.set(&"a thread panicked between logging and applying a commit");
        }
    }
}

/// What a commit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To write something: it pays for cleaning, and may be refused.
    Write,
    /// To remove something: where the device is full it uses what is kept for
    /// that, and waits a while for room before it is refused.
    Remove,
    /// To move something, in the background: as the former, but nobody else
    /// would make room.
    Move,
}

impl Store {
    /// Inserts or overwrites one entry.
    pub(crate) fn insert(&self, table: &Table, key: &[u8], value: &[u8]) -> Result<()> {
        crate::batch::check_lengths(key, value)?;
        let op = Op { kind: OpKind::Insert, table: table.id, key, value };
        let bytes = RECORD_HEADER as u64 + op.encoded_len();
        let aim = table.aim(key);
        let mut fetched = if aim.is_cold() { self.fetch(table, aim, true) } else { None };
        let commit = self.commit(bytes, Purpose::Write, |core| {
            let Some((writer, ws, Some(appender))) = core.parts(op.table) else {
                return Err(no_table(table));
            };
            let hash = writer.hash_of_aim(aim, key);
            // The record is put together while the first line is on its way, and
            // logged, if nothing can be refused.
            if writer.table.holds_whole(key, value)
                && let Some(record) = appender.compose(&op)
                && let Some(settled) = writer.settle(ws.generation, hash)
            {
                let unfinished = Unfinished(&self.poison);
                if settled.is_sure() {
                    appender.put_ahead(&record)?;
                }
                if let Some(mark) = writer.mark_for_insert(&settled, ws.generation, hash, key) {
                    if !settled.is_sure() {
                        appender.put_ahead(&record)?;
                    }
                    let commit = appender.make_known(record);
                    writer.strike(mark, hash, key, value);
                    unfinished.end();
                    writer.assert_invariants(mark.place());
                    return Ok(commit);
                }
                unfinished.end();
                if settled.is_sure() {
                    return self.insert_after_all(core, hash, &op);
                }
            }
            writer.offer(fetched.take());
            self.insert_slowly(core, hash, &op)
        })?;
        self.make_durable(commit)
    }

    /// Inserts or overwrites one entry whose record was put into the log before its
    /// slot was looked at, and turned out not to be simple: the same record is
    /// written once more. Nothing that it needs can be refused, but who knows what
    /// is damaged.
    #[cold]
    fn insert_after_all(&self, core: &mut Core, hash: u64, op: &Op<'_>) -> Result<u64> {
        let unfinished = Unfinished(&self.poison);
        let outcome = self.insert_slowly(core, hash, op);
        if outcome.is_err() {
            core.appender.iter_mut().for_each(Appender::take_back);
        }
        unfinished.end();
        outcome
    }

    /// Reads the page that a change is going to be made in, before the writer lock
    /// is taken.
    #[cold]
    fn fetch(&self, table: &Table, aim: Aim, inserts: bool) -> Option<Box<Fetched>> {
        // Refused anyway; and a forked child must not take any lock.
        self.check_writable().ok()?;
        table.fetch_ahead(aim.hash(), inserts)
    }

    /// Inserts or overwrites one entry where that is not simple.
    #[inline(never)]
    pub(super) fn insert_slowly(&self, core: &mut Core, hash: u64, op: &Op<'_>) -> Result<u64> {
        let log = LogBytes::new(&self.log, &*self.storage);
        let Some((writer, ws, Some(appender))) = core.parts(op.table) else {
            return Err(Error::ReadOnly);
        };
        let ready = writer.prepare_insert(ws, hash, op.key, &log)?;
        let (spilled, known) = spilled_of(&writer.table, op);
        let unfinished = Unfinished(&self.poison);
        let placed = appender.append_one(op, known)?;
        let key_at = placed.offset + (RECORD_HEADER + OP_HEADER) as u32;
        let address = spilled.map(|spilled| spilled.address(hash, placed.file, key_at));
        writer.put(ready, hash, op.key, op.value, address);
        unfinished.end();
        writer.assert_place(ready);
        Ok(placed.commit)
    }

    /// Removes one entry; says whether it was there.
    pub(crate) fn remove(&self, table: &Table, key: &[u8]) -> Result<bool> {
        crate::batch::check_lengths(key, &[])?;
        let op = Op { kind: OpKind::Remove, table: table.id, key, value: &[] };
        let bytes = RECORD_HEADER as u64 + op.encoded_len();
        let aim = table.aim(key);
        let mut fetched = if aim.is_cold() { self.fetch(table, aim, false) } else { None };
        let commit = self.commit(bytes, Purpose::Remove, |core| {
            let Some((writer, ws, Some(appender))) = core.parts(op.table) else {
                return Err(no_table(table));
            };
            let hash = writer.hash_of_aim(aim, key);
            if let Some(record) = appender.compose(&op) {
                match writer.mark_for_remove(ws.generation, hash, key) {
                    Removal::Here(mark) => {
                        let unfinished = Unfinished(&self.poison);
                        let commit = appender.append_composed(record)?;
                        writer.strike_out(mark);
                        unfinished.end();
                        writer.assert_invariants(mark.place());
                        return Ok(Some(commit));
                    }
                    Removal::Absent => return Ok(None),
                    Removal::Unsure => {}
                }
            }
            writer.offer(fetched.take());
            self.remove_slowly(core, hash, &op)
        })?;
        match commit {
            Some(commit) => self.make_durable(commit).map(|()| true),
            // Perhaps somebody else has removed it, and still waits for its sync.
            None => self.make_durable(self.log.appended()).map(|()| false),
        }
    }

    /// Removes one entry where that is not simple.
    #[inline(never)]
    pub(super) fn remove_slowly(
        &self,
        core: &mut Core,
        hash: u64,
        op: &Op<'_>,
    ) -> Result<Option<u64>> {
        let log = LogBytes::new(&self.log, &*self.storage);
        let Some((writer, ws, Some(appender))) = core.parts(op.table) else {
            return Err(Error::ReadOnly);
        };
        let Some(place) = writer.prepare_remove(ws, hash, op.key, &log)? else {
            return Ok(None);
        };
        let unfinished = Unfinished(&self.poison);
        let placed = appender.append(std::slice::from_ref(op))?;
        writer.erase(place);
        unfinished.end();
        writer.assert_invariants(place);
        Ok(Some(placed.commit))
    }

    /// Runs a commit under the writer lock, when the log has room for it.
    #[inline(always)]
    pub(super) fn commit<T>(
        &self,
        bytes: u64,
        purpose: Purpose,
        mut run: impl FnMut(&mut Core) -> Result<T>,
    ) -> Result<T> {
        self.check_writable()?;
        self.signals.throttle()?;
        if purpose == Purpose::Write {
            self.space.pay(bytes);
        }
        match purpose {
            Purpose::Remove => self.waiting_for_room(|| self.try_commit(bytes, true, &mut run)),
            _ => self.try_commit(bytes, purpose == Purpose::Move, &mut run),
        }
    }

    /// Does something that gives space back. Where the device is too full for
    /// it, waits until room was made, for a bounded time, and tries again.
    #[inline]
    pub(crate) fn waiting_for_room<T>(&self, mut run: impl FnMut() -> Result<T>) -> Result<T> {
        let outcome = run();
        if !outcome.as_ref().is_err_and(Error::is_full) {
            return outcome;
        }
        let since = Instant::now();
        loop {
            let waited = self.space.wait_for_room(since);
            match run() {
                Err(error) if error.is_full() && waited => (),
                outcome => return outcome,
            }
        }
    }

    #[inline(always)]
    fn try_commit<T>(
        &self,
        bytes: u64,
        urgent: bool,
        run: &mut impl FnMut(&mut Core) -> Result<T>,
    ) -> Result<T> {
        let mut core = self.core_with_room(bytes, urgent)?;
        // Once more under the lock, which a closed store does not give.
        self.poison.check()?;
        let outcome = run(&mut core).inspect_err(|error| self.refused(error))?;
        self.after_change(&mut core);
        Ok(outcome)
    }

    /// Takes the writer lock when the log has room for a record.
    #[inline(always)]
    pub(crate) fn core_with_room(&self, bytes: u64, urgent: bool) -> Result<MutexGuard<'_, Core>> {
        loop {
            let mut core = self.core()?;
            let Some(appender) = &mut core.appender else {
                return Err(Error::ReadOnly);
            };
            if appender.reserve(bytes, urgent)? == Room::Ready {
                return Ok(core);
            }
            drop(core);
            let prepared = self.log.wait_for_file(bytes, urgent);
            prepared.inspect_err(|error| self.refused(error))?;
        }
    }

    /// A commit was refused: if the device is full, there may be space to give
    /// back.
    #[cold]
    pub(crate) fn refused(&self, error: &Error) {
        if error.is_full() {
            self.space.refused();
        }
    }

    /// Whether writing is possible at all. To be asked before a lock is taken:
    /// in a forked child nobody is left who would release it.
    #[inline]
    pub(crate) fn check_writable(&self) -> Result<()> {
        let open = self.epoch.read() != 0 && !self.is_closed();
        if open && !self.options.read_only && !self.poison.is_set() {
            return Ok(());
        }
        self.find_unwritable()
    }

    #[cold]
    fn find_unwritable(&self) -> Result<()> {
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        if self.is_closed() {
            return Err(super::closed());
        }
        self.check_open()?;
        self.poison.check()
    }

    /// Publishes the number of dirty frames, and asks for a checkpoint when it
    /// is time, and for a look at the space when a log file was ended.
    #[inline(always)]
    pub(crate) fn after_change(&self, core: &mut Core) {
        let dirty = core.ws.pool.dirty();
        self.signals.set_dirty(dirty);
        self.space.stir();
        let (file, logged) = core.appender.as_ref().map_or((0, 0), |a| (a.file(), a.bytes_total()));
        let logged = logged - core.checkpointed_bytes;
        if file != core.last_file {
            core.last_file = file;
            core.log_share = self.log_share(core);
            let shares = if core.ws.frozen.is_some() { 1 } else { 2 };
            let late = logged >= shares * core.log_share;
            self.space.set_behind(Behind::Checkpoint, late);
            self.space.ended_file();
        }
        if core.ws.frozen.is_some() {
            return;
        }
        if dirty >= self.signals.wanted_at() || logged >= core.log_share {
            self.signals.request();
        }
    }

    /// The bytes of log since the last checkpoint, of an earlier process
    /// perhaps.
    pub(crate) fn log_since_checkpoint(&self, core: &Core) -> u64 {
        let first = self.signals.checkpoints.load(Ordering::Relaxed) == 0;
        let replayed = if first { core.replayed_bytes } else { 0 };
        let total = core.appender.as_ref().map_or(0, |appender| appender.bytes_total());
        replayed + total.saturating_sub(core.checkpointed_bytes)
    }

    /// The bytes of log after which a checkpoint is due: as many as the store
    /// has, in tables and alive in the log, within bounds. A checkpoint writes
    /// up to all of its pages, whatever was logged, and syncs; so the larger
    /// a store is, the more has to be logged for it. Costs a step for each log
    /// file with live entries, so it is found once for each file.
    fn log_share(&self, core: &Core) -> u64 {
        let (least, most) = self.options.log_share();
        let spilled = core.writers().map(Writer::live_total).sum::<u64>();
        (core.table_bytes() + spilled).clamp(least, most)
    }

    /// Waits until a commit is durable, if each commit has to be.
    #[inline]
    pub(crate) fn make_durable(&self, commit: u64) -> Result<()> {
        match self.options.durability {
            Durability::Buffered => Ok(()),
            Durability::Sync => self.log.make_durable(commit),
        }
    }

    /// Waits until all is durable that was seen without the writer lock, if each
    /// commit has to be.
    pub(crate) fn make_seen_durable(&self) -> Result<()> {
        if self.options.durability == Durability::Buffered || self.options.read_only {
            return Ok(());
        }
        // Behind whoever has the lock: a table is seen to be cleared a moment before
        // that is logged.
        let core = self.core()?;
        self.poison.check()?;
        let seen = self.log.appended();
        drop(core);
        self.make_durable(seen)
    }
}

/// The spilled part of an operation.
struct Spilled {
    /// Where it begins, counted from the key, and its length.
    start: usize,
    len: usize,
    crc: u32,
}

impl Spilled {
    /// Its address, where the key is there in a log file.
    fn address(&self, hash: u64, file: u32, key_at: u32) -> Address {
        let (start, len) = (self.start as u32, self.len as u32);
        Address { hash, len, crc: self.crc, file, offset: key_at + start }
    }
}

/// The spilled part of an operation, and the checksum of its value if that part
/// is the value: the record needs it, too.
fn spilled_of(table: &Table, op: &Op<'_>) -> (Option<Spilled>, Option<u32>) {
    let shape = table.geometry.shape(op.key.len(), op.value.len());
    let Some((start, len)) = spilled_part(shape, op.key.len(), op.value.len()) else {
        return (None, None);
    };
    let crc = spilled_crc(shape, op.key, op.value);
    let of_value = (shape == Shape::ValueSpilled).then_some(crc);
    (Some(Spilled { start, len, crc }), of_value)
}

/// What an insert that is in the log puts into its slot.
#[inline]
pub(crate) fn entry_of<'a>(
    table: &Table,
    hash: u64,
    op: &Op<'a>,
    file: u32,
    key_at: u32,
) -> Entry<'a> {
    let lengths = table.geometry.lengths(op.key.len(), op.value.len());
    let address = match lengths.spilled() {
        true => spilled_of(table, op).0.map(|spilled| spilled.address(hash, file, key_at)),
        false => None,
    };
    Entry { lengths, key: op.key, value: op.value, address }
}

#[cold]
pub(crate) fn no_table(table: &Table) -> Error {
    Error::NotFound { what: format!("table {} in this store", table.name) }
}
