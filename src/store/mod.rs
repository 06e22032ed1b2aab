//! The open store: what all handles and background threads share.
//!
//! ```text
//! Store ── log, frames, reuse epoch, poison      shared without a lock
//!   |
//!   '─ Core (the writer lock) ── appender, workspace, writers of all tables
//! ```
//!
//! One writer at a time holds [`Core`]; readers never do. The log is known
//! here and so are the tables: a commit goes to the log and then to its table
//! ([`commit`]). Background work is asked for through [`Signals`] and
//! [`SpaceSignals`] and done by six threads: the log's three keepers (syncs,
//! prepared files), the one that runs checkpoints, the one that gives space
//! back, and the one that makes ready what writers need next ([`ahead`]).
//!
//! Locks are taken in this order: `compacting`, `cleaning`, `checkpointing`, `core`, a
//! table's structure lock. Hardly anything waits for the disk with `core` held: creating, dropping
//! and clearing tables; pages that were not fetched before, of a batch or a survey;
//! a writer that runs out of blocks; and `verify`, all the time. Whatever else it
//! is, takes a bounded time.

pub(crate) mod ahead;
pub(crate) mod batch;
pub(crate) mod commit;
pub(crate) mod create;
pub(crate) mod frozen;
pub(crate) mod many;
pub(crate) mod moving;
pub(crate) mod read;
pub(crate) mod signals;
pub(crate) mod snapshots;
pub(crate) mod space;
pub(crate) mod swap;
pub(crate) mod turns;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::group::Address;
use crate::format::record::{Position, log_file_name};
use crate::log::{Appender, Log, Poison};
use crate::options::Options;
use crate::storage::epoch::ReuseEpoch;
use crate::storage::pins::{self, Pin};
use crate::storage::{Lock, Storage};
use crate::table::batch::Steps;
use crate::table::frames::Frames;
use crate::table::{Spilled, Table, Workspace, Writer};
use frozen::Frozen;
use signals::Signals;
use snapshots::{Moment, Snapshots};
use space::SpaceSignals;
use turns::Turns;

/// Everything that handles share.
pub(crate) struct Store {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) options: Options,
    pub(crate) log: Arc<Log>,
    pub(crate) poison: Arc<Poison>,
    pub(crate) epoch: Arc<ReuseEpoch>,
    pub(crate) frames: Arc<Frames>,
    pub(crate) signals: Signals,
    pub(crate) space: SpaceSignals,
    pub(crate) snapshots: Snapshots,
    /// Held by whoever compacts, and by upkeep while it looks.
    pub(crate) compacting: Turns,
    /// Held by whoever cleans the log.
    pub(crate) cleaning: Turns,
    /// Held by whoever runs a checkpoint, or must not meet one.
    pub(crate) checkpointing: Mutex<()>,
    /// How many want nothing to be frozen for a while.
    pub(crate) away: AtomicUsize,
    core: Mutex<Core>,
    closed: AtomicBool,
    /// Dropped when the store is closed.
    lock: Mutex<Option<Lock>>,
}

/// What the writer lock guards.
pub(crate) struct Core {
    pub(crate) ws: Workspace,
    /// `None` if the store is open for reading only.
    pub(crate) appender: Option<Appender>,
    /// How far the log has been applied while it is being replayed.
    pub(crate) replayed: Option<Position>,
    /// The tables by their ids.
    pub(crate) tables: Vec<Option<Box<Writer>>>,
    pub(crate) next_table_id: u32,
    /// States that are frozen and wait to be written, the oldest first.
    pub(crate) waiting: VecDeque<Frozen>,
    /// Bytes of log that were replayed when the store was opened.
    pub(crate) replayed_bytes: u64,
    /// Bytes in the log when the last checkpoint began.
    pub(crate) checkpointed_bytes: u64,
    /// The last commit that the last checkpoint made part of the tables.
    pub(crate) checkpointed_commit: u64,
    /// The log file that the last commit went to.
    pub(crate) last_file: u32,
    /// The bytes of log after which a checkpoint is due, as of when that file
    /// was begun.
    pub(crate) log_share: u64,
    /// Kept from one batch to the next.
    pub(crate) steps: Steps,
}

impl Core {
    /// One that knows no table yet, and can log nothing.
    pub(crate) fn new(ws: Workspace) -> Core {
        Core {
            ws,
            appender: None,
            replayed: None,
            tables: Vec::new(),
            next_table_id: 1,
            waiting: VecDeque::new(),
            replayed_bytes: 0,
            checkpointed_bytes: 0,
            checkpointed_commit: 0,
            last_file: 0,
            log_share: 0,
            steps: Steps::default(),
        }
    }

    /// The end of what the tables hold.
    pub(crate) fn position(&self) -> Position {
        match (&self.appender, self.replayed) {
            (_, Some(position)) => position,
            (Some(appender), None) => appender.position(),
            (None, None) => Position::default(),
        }
    }

    /// The tables that are there.
    pub(crate) fn writers(&self) -> impl Iterator<Item = &Writer> {
        self.tables.iter().flatten().map(|writer| &**writer)
    }

    /// The tables that are there, to be changed.
    pub(crate) fn writers_mut(&mut self) -> impl Iterator<Item = &mut Writer> {
        self.tables.iter_mut().flatten().map(|writer| &mut **writer)
    }

    /// What the table files take on the device, in bytes.
    pub(crate) fn table_bytes(&self) -> u64 {
        let blocks = self.writers().map(|writer| u64::from(writer.blocks.allocated()));
        blocks.sum::<u64>() * BLOCK as u64
    }

    /// The bytes of a log file that are alive, in all tables.
    pub(crate) fn live_in(&self, file: u32) -> u64 {
        self.writers().filter_map(|writer| writer.live.get(&file)).sum()
    }

    /// A table by its id.
    pub(crate) fn writer(&self, id: u16) -> Option<&Writer> {
        self.tables.get(usize::from(id))?.as_deref()
    }

    /// A table, with what all tables share.
    #[inline]
    pub(crate) fn writer_mut(&mut self, id: u16) -> Option<(&mut Writer, &mut Workspace)> {
        self.parts(id).map(|(writer, ws, _)| (writer, ws))
    }

    /// A table, with what all tables share and the end of the log.
    #[inline]
    pub(crate) fn parts(
        &mut self,
        id: u16,
    ) -> Option<(&mut Writer, &mut Workspace, &mut Option<Appender>)> {
        let writer = self.tables.get_mut(usize::from(id))?.as_deref_mut()?;
        Some((writer, &mut self.ws, &mut self.appender))
    }

    /// Adds a table.
    pub(crate) fn add(&mut self, mut writer: Writer) {
        writer.reserve_standing(&self.ws);
        let id = writer.table.id;
        self.ws.tables.insert(id, writer.table.clone());
        if self.tables.len() <= usize::from(id) {
            self.tables.resize_with(usize::from(id) + 1, || None);
        }
        self.tables[usize::from(id)] = Some(Box::new(writer));
        self.next_table_id = self.next_table_id.max(u32::from(id) + 1);
    }

    /// Forgets a table that was dropped. Its frames are given back.
    pub(crate) fn remove(&mut self, id: u16) -> Result<()> {
        if let Some((writer, _)) = self.writer_mut(id) {
            writer.uproot()?;
        }
        if let Some(writer) = self.tables.get_mut(usize::from(id)).and_then(Option::take) {
            writer.table.mark_dropped();
            for frame in self.ws.pool.of_table(id) {
                self.ws.pool.retire(&self.ws.epoch, frame);
            }
            self.ws.tables.remove(&id);
        }
        Ok(())
    }
}

/// What a store is put together from when it has been opened.
pub(crate) struct Parts {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) options: Options,
    pub(crate) log: Arc<Log>,
    pub(crate) poison: Arc<Poison>,
    pub(crate) epoch: Arc<ReuseEpoch>,
    pub(crate) frames: Arc<Frames>,
    pub(crate) lock: Option<Lock>,
    pub(crate) core: Core,
    pub(crate) frame_limit: usize,
}

impl Store {
    pub(crate) fn new(parts: Parts) -> Store {
        Store {
            storage: parts.storage,
            options: parts.options,
            log: parts.log,
            poison: parts.poison,
            epoch: parts.epoch,
            frames: parts.frames,
            signals: Signals::new(parts.frame_limit),
            space: SpaceSignals::default(),
            snapshots: Snapshots::default(),
            compacting: Turns::default(),
            cleaning: Turns::default(),
            checkpointing: Mutex::new(()),
            away: AtomicUsize::new(0),
            core: Mutex::new(parts.core),
            closed: AtomicBool::new(false),
            lock: Mutex::new(parts.lock),
        }
    }

    /// Takes the writer lock.
    ///
    /// # Errors
    ///
    /// `Closed`, as soon as closing has begun: whoever had the lock before is
    /// part of the last checkpoint, and nobody may come after that. `Poisoned`,
    /// also if another thread panicked with the lock held: then nobody knows what
    /// it left.
    #[inline(always)]
    pub(crate) fn core(&self) -> Result<MutexGuard<'_, Core>> {
        // A forked child may find the lock held by a thread that it has not.
        self.check_open()?;
        let Ok(core) = self.core.lock() else {
            self.poison.set(&"a thread panicked while it was writing");
            self.poison.check()?;
            return Err(closed());
        };
        if self.is_closed() {
            return Err(closed());
        }
        Ok(core)
    }

    /// Takes the writer lock to look, or to close the store, whatever state it is in;
    /// not to be called in a forked child, which might wait for ever.
    pub(crate) fn core_to_look(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether this handle may still be used, here.
    #[inline]
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.epoch.read() != 0 {
            return Ok(());
        }
        Err(if self.is_closed() { closed() } else { crate::table::read::forked() })
    }

    /// Whether this process is a fork of the one that opened the store.
    pub(crate) fn is_forked(&self) -> bool {
        self.epoch.read() == 0 && !self.is_closed()
    }

    /// Whether the store was closed.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Marks the store as closed. Says whether it was open.
    pub(crate) fn mark_closed(&self) -> bool {
        !self.closed.swap(true, Ordering::AcqRel)
    }

    /// Lets others open the store.
    pub(crate) fn unlock(&self) {
        self.epoch.end();
        drop(self.lock.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take());
    }

    /// After closing: lets others open the store, at once or when the last
    /// snapshot is gone.
    pub(crate) fn unlock_when_unused(&self) {
        if self.snapshots.keep_lock() {
            self.epoch.end();
        } else {
            self.unlock();
        }
    }

    /// A snapshot is gone: what it alone held may be reused.
    pub(crate) fn drop_snapshot(&self, moment: &Moment) {
        let (was_held, unlock) = self.snapshots.remove(moment);
        if was_held {
            self.let_snapshot_go(moment.id);
        }
        if unlock {
            self.unlock();
        }
    }

    /// A snapshot of a store that is open for reading only is gone.
    pub(crate) fn drop_reader(&self) {
        if self.snapshots.remove_reader() {
            self.unlock();
        }
    }

    /// Gives back the blocks of a snapshot.
    pub(crate) fn let_snapshot_go(&self, id: u64) {
        let mut core = self.core_to_look();
        let Core { ws, tables, .. } = &mut *core;
        tables.iter_mut().flatten().for_each(|writer| writer.blocks.let_go(&ws.epoch, id));
        drop(core);
        self.space.ask();
    }

    /// A table by its name.
    pub(crate) fn find_table(&self, name: &str) -> Option<Arc<Table>> {
        let core = self.core_to_look();
        core.writers().find(|writer| writer.table.name == name).map(|w| w.table.clone())
    }

    /// The names of all tables, the default one first, then in the order of
    /// their creation.
    pub(crate) fn table_names(&self) -> Result<Vec<String>> {
        Ok(self.core()?.writers().map(|writer| writer.table.name.clone()).collect())
    }

    /// The directory of the store.
    pub(crate) fn path(&self) -> PathBuf {
        self.storage.path("")
    }
}

#[cold]
pub(crate) fn closed() -> Error {
    Error::Closed { why: "the store was closed; open it again" }
}

/// Long values, as tables ask for them.
pub(crate) struct LogBytes<'a> {
    store: &'a Log,
    storage: &'a dyn Storage,
    pin: std::cell::OnceCell<Pin>,
}

impl<'a> LogBytes<'a> {
    /// Pins the log when it is first asked for: for the holder of the writer
    /// lock, who alone could recycle a file.
    pub(crate) fn new(log: &'a Log, storage: &'a dyn Storage) -> LogBytes<'a> {
        LogBytes { store: log, storage, pin: std::cell::OnceCell::new() }
    }

    /// Pins the log at once: for readers, before they begin.
    pub(crate) fn pinned(log: &'a Log, storage: &'a dyn Storage) -> LogBytes<'a> {
        let bytes = LogBytes::new(log, storage);
        bytes.pin.get_or_init(pins::pin);
        bytes
    }
}

impl Spilled for LogBytes<'_> {
    fn bytes(&self, address: &Address) -> Option<&[u8]> {
        let pin = self.pin.get_or_init(pins::pin);
        self.store.read(pin, address.file, address.offset, address.len)
    }

    #[cold]
    fn damage(&self, address: &Address) -> Error {
        let path = self.storage.path(&log_file_name(address.file));
        spilled_damage(path, address, self.bytes(address))
    }
}

/// What to report of a spilled key or value that is not what was written.
#[cold]
pub(crate) fn spilled_damage(path: PathBuf, address: &Address, bytes: Option<&[u8]>) -> Error {
    let what = format!("{} bytes of a key or value", address.len);
    let expected = format!("there, with checksum {:08x}", address.crc);
    let found =
        bytes.map_or("absent".to_owned(), |bytes| format!("{:08x}", crc32fast::hash(bytes)));
    Error::corrupt(path, address.offset.into(), what, expected, found)
}
