//! Opening a store: from files to the state after the last commit.
//!
//! 1. The lock. Names: `log/` without `default.swiss` is damage, unless the
//!    log is empty (a creation that was interrupted).
//! 2. Of each table the newest valid header copy; then its root and free map.
//! 3. The log is checked from the oldest L to its end.
//! 4. For writing, after a crash: every log page that was read is written onto
//!    itself and synced, since a failed sync may have left the cache ahead of
//!    the disk.
//! 5. For writing: both header copies are written anew, the other one first,
//!    and no longer say that the store was closed.
//! 6. Each table's operations are replayed from its own L on. When many pages
//!    are dirty a checkpoint makes room, as always.
//! 7. Tables that were dropped are removed; so are files of tables whose
//!    creation was never logged. An operation on a table that is not there and
//!    was not dropped is damage.
//!
//! The time is bounded by the log since L, never by the size of the store. A
//! reader replays into private frames and writes nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::checkpoint_exclusively;
use crate::error::{Error, Result};
use crate::format::directory::{decode_free_map, decode_root};
use crate::format::group::Geometry;
use crate::format::header::{DEFAULT_TABLE, Header, Run, TableState};
use crate::format::record::{Op, OpKind, Position};
use crate::format::{BLOCK, crc32};
use crate::hash::Hasher;
use crate::log::{Log, LogOptions, Poison, Replayed};
use crate::options::{HashKind, MIN_WRITE_BUFFER, Options, check_payload};
use crate::storage::epoch::ReuseEpoch;
use crate::storage::{Access, File, Lock, LockOutcome, Storage};
use crate::store::create::{
    NewTable, create_table_file, remove_unborn_log, table_file, write_header,
};
use crate::store::{Core, Parts, Store};
use crate::table::blocks::Blocks;
use crate::table::frames::{Frames, Pool};
use crate::table::{Opening, Totals, Workspace, Writer};

/// A header, and which copies of it are sound.
pub(crate) struct FoundHeader {
    pub(crate) header: Header,
    /// The copy it was read from: 0 or 1.
    pub(crate) copy: u64,
    /// What is wrong with the other copy, if anything is.
    pub(crate) other: Option<Error>,
}

/// Reads the newest valid header copy of a table file.
pub(crate) fn read_header(file: &dyn File, path: &Path) -> Result<FoundHeader> {
    let read = |copy: u64| -> Result<Header> {
        let mut bytes = [0; BLOCK];
        let offset = copy * BLOCK as u64;
        file.read_at(&mut bytes, offset).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                Error::corrupt(path, offset, "a header copy", "4096 bytes", "the end of the file")
            }
            _ => Error::io("read", path, error),
        })?;
        Header::decode(&bytes).map_err(|fault| fault.at(path, offset))
    };
    match (read(0), read(1)) {
        (Ok(a), Ok(b)) if b.generation > a.generation => {
            Ok(FoundHeader { header: b, copy: 1, other: None })
        }
        (Ok(header), other) => Ok(FoundHeader { header, copy: 0, other: other.err() }),
        (Err(other), Ok(header)) => Ok(FoundHeader { header, copy: 1, other: Some(other) }),
        // A newer version in either copy says more than damage in the other.
        (Err(a), Err(b)) => Err(if matches!(b, Error::Version { .. }) { b } else { a }),
    }
}

/// Opens or creates a store.
pub(crate) fn open(storage: Arc<dyn Storage>, options: &Options) -> Result<Store> {
    let lock = take_lock(&*storage, options)?;
    let names = list(&*storage, "")?;
    if !names.contains(&table_file(DEFAULT_TABLE)) {
        return create(storage, options, lock);
    }
    let mut opening = Opened::read(storage, options, lock, &names)?;
    let end = opening.check_log()?;
    let store = opening.into_store(end)?;
    Ok(store)
}

fn take_lock(storage: &dyn Storage, options: &Options) -> Result<Option<Lock>> {
    if options.create && !options.read_only {
        storage
            .create_directory("")
            .map_err(|error| Error::io("create", storage.path(""), error))?;
    }
    match storage.lock(!options.read_only) {
        Ok(LockOutcome::Held(lock)) => Ok(Some(lock)),
        Ok(LockOutcome::Busy(pid)) => Err(Error::Locked { path: storage.path(""), pid }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(no_store(storage)),
        Err(error) => Err(Error::io("lock", storage.path(""), error)),
    }
}

fn no_store(storage: &dyn Storage) -> Error {
    Error::NotFound { what: format!("store at {}", storage.path("").display()) }
}

fn list(storage: &dyn Storage, directory: &str) -> Result<Vec<String>> {
    storage.list(directory).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => no_store(storage),
        _ => Error::io("list", storage.path(directory), error),
    })
}

/// What the memory for frames is: their number, and how many writers may fill.
fn frame_memory(options: &Options, log_bytes: u64, table_bytes: u64) -> (usize, usize) {
    let limit = options.write_buffer_bytes().max(MIN_WRITE_BUFFER) / BLOCK;
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

/// Makes a new store in an empty directory.
fn create(storage: Arc<dyn Storage>, options: &Options, lock: Option<Lock>) -> Result<Store> {
    if options.read_only || !options.create {
        return Err(no_store(&*storage));
    }
    if !remove_unborn_log(&*storage)? {
        let path = storage.path(&table_file(DEFAULT_TABLE));
        return Err(Error::corrupt(path, 0, "the table file", "there, for there is a log", "absent"));
    }
    let poison = Arc::new(Poison::new());
    let log_options = LogOptions { max_file: options.max_log_file, read_only: false };
    let (log, appender) = Log::create(storage.clone(), log_options, poison.clone())?;
    create_table_file(&*storage, &NewTable {
        id: 0,
        name: DEFAULT_TABLE,
        geometry: check_payload(options.payload)?,
        hash: options.hash,
        state: TableState::Live,
        log: appender.position(),
        generation: 1,
    })?;
    let (ws, frames, frame_limit) = workspace(options, 2, 0, 0)?;
    let epoch = ws.epoch.clone();
    let core = Core {
        ws,
        appender: Some(appender),
        replayed: None,
        tables: Vec::new(),
        next_table_id: 1,
        checkpointed_bytes: 0,
    };
    let options = options.clone();
    let store =
        Store::new(Parts { storage, options, log, poison, epoch, frames, lock, core, frame_limit });
    let writer = open_table(&store, &table_file(DEFAULT_TABLE))?;
    store.core_to_look().add(writer);
    Ok(store)
}

/// Opens a table file into an open store, without replaying anything.
pub(crate) fn open_table(store: &Store, file_name: &str) -> Result<Writer> {
    let table = TableFile::open(&*store.storage, file_name, store.options.read_only)?;
    table.into_writer(&store.frames, &store.epoch, store.options.read_only)
}

/// A table file and its header.
struct TableFile {
    name: String,
    path: std::path::PathBuf,
    file: Arc<dyn File>,
    found: FoundHeader,
}

impl TableFile {
    fn open(storage: &dyn Storage, name: &str, read_only: bool) -> Result<TableFile> {
        let path = storage.path(name);
        let access = if read_only { Access::Read } else { Access::Write };
        let file = storage.open(name, access).map_err(|e| Error::io("open", &path, e))?;
        let found = read_header(&*file, &path)?;
        if table_file(&found.header.name) != name {
            let found = table_file(&found.header.name);
            return Err(Error::corrupt(path, 256, "the table's name", name, found));
        }
        Ok(TableFile { name: name.to_string(), path, file, found })
    }

    /// The bytes of root or free map, checked.
    fn run(&self, run: Run, what: &str) -> Result<Vec<u8>> {
        let offset = u64::from(run.block) * BLOCK as u64;
        let length = self.file.length().map_err(|e| Error::io("read", &self.path, e))?;
        if offset + u64::from(run.blocks) * BLOCK as u64 > length {
            return Err(Error::corrupt(&self.path, offset, what, "in the file", "truncated"));
        }
        let mut bytes = vec![0; run.blocks as usize * BLOCK];
        self.file.read_at(&mut bytes, offset).map_err(|e| Error::io("read", &self.path, e))?;
        let found = crc32(&bytes, 0);
        if found != run.crc {
            let (expected, found) = (format!("{:08x}", run.crc), format!("{found:08x}"));
            let what = format!("the checksum of {what}");
            return Err(Error::corrupt(&self.path, offset, what, expected, found));
        }
        Ok(bytes)
    }

    fn into_writer(
        self,
        frames: &Arc<Frames>,
        epoch: &Arc<ReuseEpoch>,
        read_only: bool,
    ) -> Result<Writer> {
        let header = &self.found.header;
        let path = &self.path;
        let kind = HashKind::from_id(header.hash_id).unwrap_or_default();
        let self_test = Hasher::new(kind, header.hash_key).self_test();
        if self_test != header.self_test {
            let expected = format!("{:016x}, what this program computes", self_test);
            let found = format!("{:016x}", header.self_test);
            return Err(Error::corrupt(path, 40, "the hash's self-test", expected, found));
        }
        let root = self.run(header.root, "the root")?;
        let at = |block: u32| u64::from(block) * BLOCK as u64;
        let (entries, live) = decode_root(&root, header.root_depth, header.live_count)
            .map_err(|fault| fault.at(path, at(header.root.block)))?;
        let map = self.run(header.free_map, "the free map")?;
        let free = decode_free_map(&map, header.file_blocks)
            .map_err(|fault| fault.at(path, at(header.free_map.block)))?;
        let blocks =
            Blocks::open(self.file.clone(), path.clone(), free, header.file_blocks, read_only)?;
        let geometry = Geometry::new(header.payload.into())
            .ok_or_else(|| Error::corrupt(path, 14, "the slot payload", "possible", header.payload))?;
        let opening = Opening {
            id: header.table_id,
            name: header.name.clone(),
            path: path.clone(),
            geometry,
            hash_id: header.hash_id,
            hash_key: header.hash_key,
            clears: header.clears,
            totals: Totals {
                slots: header.capacity,
                used: header.used,
                tombstones: header.tombstones().unwrap_or(0),
                segments: header.segments,
            },
            live,
            root_run: header.root,
            map_run: header.free_map,
        };
        let depth = header.root_depth;
        let mut writer = Writer::new(opening, blocks, frames.clone(), epoch.clone());
        writer.attach_root(depth, &entries)?;
        Ok(writer)
    }
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
        let ids = tables.windows(2).find(|pair| {
            pair[0].found.header.table_id == pair[1].found.header.table_id
        });
        if let Some([a, b]) = ids {
            let found = format!("that of {}", a.path.display());
            return Err(Error::corrupt(&b.path, 12, "the table's id", "its own", found));
        }
        let poison = Arc::new(Poison::new());
        let log_options =
            LogOptions { max_file: options.max_log_file, read_only: options.read_only };
        let log = Log::open(storage.clone(), log_options, poison.clone())?;
        let options = options.clone();
        Ok(Opened { storage, options, lock, tables, dropped, log, poison })
    }

    /// Step 3.
    fn check_log(&mut self) -> Result<LogEnd> {
        let positions = self.tables.iter().map(|table| table.found.header.log);
        let from = positions.clone().min_by_key(|log| log.commit).unwrap_or_default();
        let end = self.log.scan(from)?;
        let to = end.position;
        for table in &self.tables {
            let log = table.found.header.log;
            if log.commit > to.commit {
                let expected = format!("to go on to commit {}, for this table has it", log.commit);
                let path = self.storage.path(&crate::format::record::log_file_name(to.file));
                return Err(Error::corrupt(path, to.offset.into(), "the log", expected, "its end"));
            }
        }
        let clean =
            self.tables.iter().all(|t| t.found.header.clean && t.found.header.log == to);
        Ok(LogEnd { from, to, clean, bytes: end.bytes })
    }

    /// Steps 4 to 7.
    fn into_store(mut self, end: LogEnd) -> Result<Store> {
        let newest = self.tables.iter().map(|table| table.found.header.generation).max();
        let generation = newest.unwrap_or(0) + 1;
        let mut appender = None;
        if !self.options.read_only {
            if !end.clean {
                self.log.rewrite(end.from, end.to)?;
            }
            self.rewrite_headers(generation)?;
            appender = Some(self.log.appender(end.to, end.clean)?);
        }
        let lengths = self.tables.iter().map(|table| table.file.length().unwrap_or(0));
        let table_bytes = lengths.sum();
        let (ws, frames, frame_limit) =
            workspace(&self.options, generation + 1, end.bytes, table_bytes)?;
        let epoch = ws.epoch.clone();
        let core = Core {
            ws,
            appender,
            replayed: Some(end.from),
            tables: Vec::new(),
            next_table_id: 1,
            checkpointed_bytes: 0,
        };
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
        for table in tables {
            let header = &table.found.header;
            let pending = header.state == TableState::Pending;
            starts.push(Start { id: header.table_id, commit: header.log.commit, pending });
            let next = header.next_table_id;
            let writer = table.into_writer(&store.frames, &store.epoch, read_only)?;
            let mut core = store.core_to_look();
            core.add(writer);
            core.next_table_id = core.next_table_id.max(next);
        }
        Replay::run(&store, starts, &end, self.dropped)?;
        Ok(store)
    }

    /// Step 5.
    fn rewrite_headers(&mut self, generation: u64) -> Result<()> {
        for table in &mut self.tables {
            table.found.header.generation = generation;
            table.found.header.clean = false;
            write_header(&table.file, &table.found.header, 1 - table.found.copy)
                .map_err(|error| Error::io("write to", &table.path, error))?;
        }
        Ok(())
    }
}

/// Where replaying begins for a table.
struct Start {
    id: u16,
    commit: u64,
    /// Whether the record of its creation must be found.
    pending: bool,
}

/// Step 6: applying what the log has.
struct Replay<'a> {
    store: &'a Store,
    starts: Vec<Start>,
    /// Tables that operations name and that are not there.
    missing: BTreeSet<u16>,
    dropped: BTreeSet<u16>,
}

impl Replay<'_> {
    fn run(store: &Store, starts: Vec<Start>, end: &LogEnd, files: Vec<String>) -> Result<()> {
        let mut replay =
            Replay { store, starts, missing: BTreeSet::new(), dropped: BTreeSet::new() };
        store.log.replay(end.from, end.to, &mut |record| replay.record(record))?;
        store.core_to_look().replayed = None;
        replay.finish(files, end)
    }

    fn record(&mut self, record: &Replayed<'_>) -> Result<()> {
        let mut core = self.store.core_to_look();
        for op in record.ops.clone() {
            let path = || {
                let name = crate::format::record::log_file_name(record.file);
                self.store.storage.path(&name)
            };
            let (op, key_at) = op.map_err(|fault| fault.at(path(), record.offset.into()))?;
            let start = self.starts.iter_mut().find(|start| start.id == op.table);
            if start.as_ref().is_some_and(|start| start.commit >= record.commit) {
                continue;
            }
            if start.is_none() {
                self.missing.insert(op.table);
            }
            match op.kind {
                OpKind::CreateTable => {
                    core.next_table_id = core.next_table_id.max(u32::from(op.table) + 1);
                    start.into_iter().for_each(|start| start.pending = false);
                }
                OpKind::DropTable => {
                    self.dropped.insert(op.table);
                }
                OpKind::Clear if start.is_some() => replay_clear(&mut core, &op)?,
                OpKind::Insert | OpKind::Remove if start.is_some() => {
                    let Some(hash) = core.writer(op.table).map(|w| w.hash(op.key)) else {
                        continue;
                    };
                    self.store.apply(&mut core, &op, hash, record.file, record.offset + key_at)?;
                }
                _ => {}
            }
        }
        core.replayed = Some(record.end);
        let dirty = core.ws.pool.dirty();
        drop(core);
        if !self.store.options.read_only && dirty >= self.store.signals.wanted_at() {
            checkpoint_exclusively(self.store, false)?;
        }
        Ok(())
    }

    /// Step 7.
    fn finish(mut self, mut files: Vec<String>, end: &LogEnd) -> Result<()> {
        self.missing.retain(|id| !self.dropped.contains(id));
        if let Some(id) = self.missing.first() {
            let what = format!("the file of table {id}");
            let path = self.store.path();
            let expected = format!("there, for the log before commit {} names it", end.to.commit);
            return Err(Error::corrupt(path, 0, what, expected, "absent"));
        }
        let mut core = self.store.core_to_look();
        let pending = self.starts.iter().filter(|start| start.pending).map(|start| start.id);
        for id in self.dropped.iter().copied().chain(pending).collect::<Vec<_>>() {
            if let Some(writer) = core.writer(id) {
                files.push(table_file(&writer.table.name));
                core.remove(id);
            }
        }
        drop(core);
        if !self.store.options.read_only {
            for file in files {
                self.store.remove_table_file(file.trim_end_matches(".swiss"))?;
            }
            let mut core = self.store.core_to_look();
            let Core { ws, tables, .. } = &mut *core;
            tables.iter_mut().flatten().for_each(|writer| writer.reserve_standing(ws));
        }
        Ok(())
    }
}

fn replay_clear(core: &mut Core, op: &Op<'_>) -> Result<()> {
    let word = |at: usize| op.value.get(at..at + 8).and_then(|b| b.try_into().ok());
    let key = [word(0), word(8)].map(|bytes| bytes.map_or(0, u64::from_le_bytes));
    match core.writer_mut(op.table) {
        Some((writer, ws)) => writer.clear(ws, key),
        None => Ok(()),
    }
}
