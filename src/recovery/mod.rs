//! Opening a store: from files to the state after the last commit.
//!
//! 1. The lock. Names: a log without `default.swiss` is damage, unless it is
//!    empty (a creation that was interrupted).
//! 2. Of each table the newest valid header copy; then its root and free map.
//!    A log file in which it says that values are alive is kept, whatever that
//!    file says itself.
//! 3. The log is checked from the oldest L to its end. After a clean close
//!    that is where it ends.
//! 4. For writing, after a crash: every log page that was read is written onto
//!    itself and synced, since a failed sync may have left the cache ahead of
//!    the disk; the same goes for the names of the table files.
//! 5. For writing: both header copies are written anew, first the one that was
//!    written last, since only of the other one it is certain that the device
//!    has it; they no longer say that the store was closed. After a crash this
//!    comes before the log goes on in a new file. Both steps may take place
//!    beside the next one, up to the first write.
//! 6. Each table's operations are replayed from its own L on. When many pages
//!    are dirty a checkpoint makes room, as always.
//! 7. Tables that were dropped are removed; so are files of tables whose
//!    creation was never logged, and table files that were not finished. An
//!    operation on a table that is not there and was not dropped is damage.
//!
//! The time is bounded by the log since L, never by the size of the store. A
//! reader replays into private frames and writes nothing.

mod collect;
mod filling;
mod growth;
mod ready;
mod replay;
mod table_file;
mod window;

use std::io::{self, ErrorKind};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::header::{DEFAULT_TABLE, TableState};
use crate::format::record::{Position, log_file_name};
use crate::log::{Log, LogOptions, Poison};
use crate::options::{Durability, Options, check_payload};
use crate::storage::epoch::ReuseEpoch;
use crate::storage::{Lock, LockOutcome, Storage};
use crate::store::create::{NewTable, create_table_file, is_unborn, remove_unborn_log, table_file};
use crate::store::{Core, Parts, Store};
use crate::table::Workspace;
use crate::table::frames::{Frames, Pool};

use collect::Start;
use ready::Ready;
use replay::Replay;
use table_file::TableFile;
pub(crate) use table_file::{open_still, open_table, remove_table_file};

/// From so many bytes of log on, threads of their own are worth it: one that
/// rewrites it, one that reads it ahead of its replay, one that touches the frames
/// that are needed for that.
const LONG_LOG: u64 = 8 << 20;

/// Opens or creates a store.
pub(crate) fn open(storage: Arc<dyn Storage>, options: &Options) -> Result<Store> {
    if !options.create && !options.read_only {
        find_store(&*storage)?;
    }
    let lock = take_lock(&*storage, options)?;
    let names = list(&*storage, "")?;
    if !names.contains(&table_file(DEFAULT_TABLE)) {
        return create(storage, options, lock);
    }
    let mut opening = Opened::read(storage, options, lock, &names)?;
    let end = opening.check_log()?;
    let store = opening.into_store(end)?;
    if !options.read_only {
        for name in names.iter().filter(|name| name.ends_with(".swiss.tmp")) {
            // Nobody looks at it; if it stays, it only takes space.
            let _ = store.storage.remove(name);
        }
    }
    Ok(store)
}

/// Refuses a directory in which no store is, before a lock file is made there.
fn find_store(storage: &dyn Storage) -> Result<()> {
    let is_there = list(storage, "")?.contains(&table_file(DEFAULT_TABLE));
    if is_there || !is_unborn(storage)? { Ok(()) } else { Err(no_store(storage)) }
}

fn take_lock(storage: &dyn Storage, options: &Options) -> Result<Option<Lock>> {
    if options.create && !options.read_only {
        storage.create_directory("").map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => no_directory(storage),
            _ => Error::io("create", storage.path(""), error),
        })?;
    }
    match storage.lock(!options.read_only) {
        Ok(LockOutcome::Held(lock)) => Ok(Some(lock)),
        Ok(LockOutcome::Busy(pid)) => Err(Error::Locked { path: storage.path(""), pid }),
        Err(error) => Err(not_there(storage, "lock", "", error)),
    }
}

/// Why something could not be done with a directory of the store.
fn not_there(storage: &dyn Storage, doing: &'static str, name: &str, error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => no_store(storage),
        ErrorKind::NotADirectory => no_directory(storage),
        _ => Error::io(doing, storage.path(name), error),
    }
}

fn no_directory(storage: &dyn Storage) -> Error {
    let path = storage.path("");
    Error::NotFound { what: format!("store at {}, which is no directory", path.display()) }
}

/// That there is no store.
pub(crate) fn no_store(storage: &dyn Storage) -> Error {
    Error::NotFound { what: format!("store at {}", storage.path("").display()) }
}

/// The files in a directory of the store.
pub(crate) fn list(storage: &dyn Storage, directory: &str) -> Result<Vec<String>> {
    storage.list(directory).map_err(|error| not_there(storage, "list", directory, error))
}

/// The write buffer in bytes: as set, or a share of the memory there is.
fn write_buffer(options: &Options) -> usize {
    options.write_buffer.unwrap_or_else(|| {
        let quarter = crate::storage::files::memory_limit() / 4;
        quarter.clamp(16 << 20, 1 << 30) as usize
    })
}

/// What the memory for frames is: their number, and how many writers may fill.
fn frame_memory(options: &Options, log_bytes: u64, table_bytes: u64) -> (usize, usize) {
    let limit = write_buffer(options) / BLOCK;
    if !options.read_only {
        return (2 * limit + 1024, limit);
    }
    // A reader has no checkpoints: all that the log changes stays in frames.
    let most = (log_bytes / 16).min(table_bytes / BLOCK as u64 * 3 + log_bytes / 256);
    (most as usize + 4096, usize::MAX / 2)
}

fn workspace(
    options: &Options,
    generation: u64,
    log_bytes: u64,
    table_bytes: u64,
) -> Result<(Workspace, Arc<Frames>, usize)> {
    let (count, limit) = frame_memory(options, log_bytes, table_bytes);
    let no_memory = |error| Error::io("take memory for", "changed pages", error);
    let frames = Arc::new(Frames::new(count).map_err(no_memory)?);
    let epoch = Arc::new(ReuseEpoch::new().map_err(no_memory)?);
    let workspace = Workspace {
        pool: Pool::new(frames.clone(), limit),
        epoch,
        generation,
        frozen: None,
        tables: Default::default(),
    };
    Ok((workspace, frames, limit))
}

/// What the log has to know of the options.
fn log_options(options: &Options) -> LogOptions {
    LogOptions {
        max_file: options.max_log_file,
        read_only: options.read_only,
        append_by_call: options.durability == Durability::Sync,
    }
}

/// Makes a new store in an empty directory.
fn create(storage: Arc<dyn Storage>, options: &Options, lock: Option<Lock>) -> Result<Store> {
    if !is_unborn(&*storage)? {
        let path = storage.path(&table_file(DEFAULT_TABLE));
        return Err(Error::corrupt(
            path,
            0,
            "the table file",
            "there, for there is a log",
            "absent",
        ));
    }
    if options.read_only || !options.create {
        return Err(no_store(&*storage));
    }
    remove_unborn_log(&*storage)?;
    let poison = Arc::new(Poison::new());
    let log_options = log_options(options);
    let (log, appender) = Log::create(storage.clone(), log_options, poison.clone())?;
    create_table_file(
        &*storage,
        &poison,
        &NewTable {
            id: 0,
            name: DEFAULT_TABLE,
            geometry: check_payload(options.payload)?,
            hash: options.hash,
            state: TableState::Live,
            log: appender.position(),
            generation: 1,
        },
    )?;
    let (ws, frames, frame_limit) = workspace(options, 2, 0, 0)?;
    let epoch = ws.epoch.clone();
    let core = Core { appender: Some(appender), ..Core::new(ws) };
    let options = options.clone();
    let store =
        Store::new(Parts { storage, options, log, poison, epoch, frames, lock, core, frame_limit });
    let writer = open_table(&store, &table_file(DEFAULT_TABLE))?;
    store.core_to_look().add(writer);
    Ok(store)
}

/// The files of a store that is being opened.
struct Opened {
    storage: Arc<dyn Storage>,
    options: Options,
    lock: Option<Lock>,
    tables: Vec<TableFile>,
    /// Files of tables whose dropping was not finished.
    dropped: Vec<String>,
    log: Arc<Log>,
    poison: Arc<Poison>,
}

/// What the log was found to be.
#[derive(Clone, Copy)]
struct LogEnd {
    from: Position,
    to: Position,
    clean: bool,
    bytes: u64,
}

impl Opened {
    fn read(
        storage: Arc<dyn Storage>,
        options: &Options,
        lock: Option<Lock>,
        names: &[String],
    ) -> Result<Opened> {
        let (mut tables, mut dropped) = (Vec::new(), Vec::new());
        for name in names.iter().filter(|name| name.ends_with(".swiss")) {
            let table = TableFile::open(&*storage, name, options.read_only)?;
            match table.found.header.state {
                TableState::Dropped => dropped.push(name.clone()),
                _ => tables.push(table),
            }
        }
        tables.sort_by_key(|table| table.found.header.table_id);
        let ids = tables
            .windows(2)
            .find(|pair| pair[0].found.header.table_id == pair[1].found.header.table_id);
        if let Some([a, b]) = ids {
            let found = format!("that of {}", a.path.display());
            return Err(Error::corrupt(&b.path, 12, "the table's id", "its own", found));
        }
        let poison = Arc::new(Poison::new());
        let log = Log::open(storage.clone(), log_options(options), poison.clone())?;
        let options = options.clone();
        Ok(Opened { storage, options, lock, tables, dropped, log, poison })
    }

    /// Step 3.
    fn check_log(&mut self) -> Result<LogEnd> {
        let headers = || self.tables.iter().map(|table| &table.found.header);
        let from = headers().map(|header| header.log).min_by_key(|log| (log.commit, log.file));
        let from = from.unwrap_or_default();
        if headers().all(|header| header.clean && header.log == from) {
            // What follows would be refused when the log is taken over.
            self.log.check_place(from)?;
            return Ok(LogEnd { from, to: from, clean: true, bytes: 0 });
        }
        let end = self.log.scan(from)?;
        let to = self.end_of_log(end.position);
        for table in &self.tables {
            let log = table.found.header.log;
            // The file of a new table is durable before the log in front of its
            // record is: where that was lost, the file is left over.
            let created = table.found.header.state != TableState::Pending;
            if log.commit > to.commit && created {
                let expected = format!("to go on to commit {}, for this table has it", log.commit);
                let path = self.storage.path(&log_file_name(to.file));
                return Err(Error::corrupt(path, to.offset.into(), "the log", expected, "its end"));
            }
        }
        Ok(LogEnd { from, to, clean: false, bytes: end.bytes })
    }

    /// The end of the log, whose last record ends at a position: there, or where
    /// the furthest table is that lies at the beginning of a later file without
    /// a record. Such a file belongs to the log for as long as its place is an L.
    fn end_of_log(&self, last: Position) -> Position {
        let live = self.tables.iter().map(|table| &table.found.header);
        live.filter(|header| header.state != TableState::Pending)
            .map(|header| header.log)
            .filter(|log| log.commit == last.commit && log.file > last.file)
            .max_by_key(|log| log.file)
            .unwrap_or(last)
    }

    /// Steps 4 to 7.
    fn into_store(mut self, end: LogEnd) -> Result<Store> {
        let newest = self.tables.iter().map(|table| table.found.header.generation).max();
        let generation = newest.unwrap_or(0) + 1;
        let ready = match self.options.read_only {
            true => None,
            false => Some(Ready::begin(&self, &end, generation)?),
        };
        let lengths = self.tables.iter().map(|table| table.file.length().unwrap_or(0));
        let table_bytes = lengths.sum();
        let (ws, frames, frame_limit) =
            workspace(&self.options, generation + 2, end.bytes, table_bytes)?;
        let epoch = ws.epoch.clone();
        let (replayed, replayed_bytes) = (Some(end.from), end.bytes);
        let core = Core { replayed, replayed_bytes, ..Core::new(ws) };
        let mut starts = Vec::new();
        let tables = std::mem::take(&mut self.tables);
        let read_only = self.options.read_only;
        let parts = Parts {
            storage: self.storage,
            options: self.options,
            log: self.log,
            poison: self.poison,
            epoch,
            frames,
            lock: self.lock,
            core,
            frame_limit,
        };
        let store = Store::new(parts);
        // Behind the store, so that it ends first, while the lock is held.
        let ready = ready;
        for table in tables {
            let header = &table.found.header;
            let pending = header.state == TableState::Pending;
            starts.push(Start { id: header.table_id, commit: header.log.commit });
            let next = header.next_table_id;
            let mut writer = table.into_writer(&store.frames, &store.epoch, read_only)?;
            writer.pending = pending;
            let mut core = store.core_to_look();
            core.add(writer);
            core.next_table_id = core.next_table_id.max(next);
        }
        let live = store.core_to_look().writers().flat_map(|w| w.live.keys().copied()).collect();
        store.log.keep_alive(&live, end.to.file)?;
        Replay::run(&store, ready, &starts, &end, self.dropped)?;
        Ok(store)
    }
}
