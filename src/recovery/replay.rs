//! Applying what the log has, and what follows from it for the tables.
//!
//! Each table takes the operations behind its own L; replaying an operation
//! twice would change nothing. An operation on a table that is not there is
//! damage, unless the log drops that table later on.
//!
//! Inserts and removes are collected and replayed by the [`window`](super::window),
//! in another order than that of the log. A clearing waits for all before it.
//! When many pages are dirty in the midst of a window, the checkpoint that makes
//! room says that the tables are as they were where the window began. They hold
//! more than that, and replaying all of the window again leads to the same end.
//! Of a table whose creation was not met yet it says that it is pending still: if
//! it never comes, and opening is killed, nobody must see that table.

use std::collections::BTreeSet;

use crate::checkpoint::checkpoint_exclusively;
use crate::error::{Error, Result};
use crate::format::record::{Op, OpKind, Position, log_file_name};
use crate::hash::Hasher;
use crate::log::Replayed;
use crate::store::create::table_file;
use crate::store::{Core, Store};
use crate::table::read::many::CHUNK;

use super::LogEnd;
use super::filling::Filling;
use super::ready::Ready;
use super::table_file::remove_table_file;
use super::window::{Change, OfTable, Window};

/// Frames that are left when a checkpoint makes room: 128 MiB, or half of the
/// write buffer.
const ROOM: usize = 32 << 10;

/// Where replaying begins for a table.
pub(super) struct Start {
    pub(super) id: u16,
    pub(super) commit: u64,
}

/// Step 6: applying what the log has.
pub(super) struct Replay<'a> {
    store: &'a Store,
    /// What must be done before the first write; `None` for a reader.
    ready: Option<Ready>,
    starts: Vec<Start>,
    /// Tables that operations name and that are not there.
    missing: BTreeSet<u16>,
    dropped: BTreeSet<u16>,
    window: Window,
    /// That of the table which the last operation was on.
    hasher: Option<(u16, Hasher)>,
    /// The place behind the last record of which all operations are in the
    /// window, or applied.
    behind: Position,
}

impl Replay<'_> {
    pub(super) fn run(
        store: &Store,
        ready: Option<Ready>,
        starts: Vec<Start>,
        end: &LogEnd,
        files: Vec<String>,
    ) -> Result<()> {
        let _filling = Filling::begin(store, end.bytes);
        let mut replay = Replay {
            store,
            ready,
            starts,
            missing: BTreeSet::new(),
            dropped: BTreeSet::new(),
            window: Window::new(store.signals.limit()),
            hasher: None,
            behind: end.from,
        };
        store.log.replay(end.from, end.to, &mut |record| replay.record(record))?;
        replay.apply()?;
        replay.make_ready()?;
        // A reader's log ends here; a writer's goes on with its appender.
        store.core_to_look().replayed = store.options.read_only.then_some(end.to);
        replay.finish(files, end)
    }

    fn record(&mut self, record: &Replayed<'_>) -> Result<()> {
        for op in record.ops.clone() {
            let path = || self.store.storage.path(&log_file_name(record.file));
            let (op, key_at) = op.map_err(|fault| fault.at(path(), record.offset.into()))?;
            let start = self.starts.iter().find(|start| start.id == op.table);
            if start.as_ref().is_some_and(|start| start.commit >= record.commit) {
                continue;
            }
            if start.is_none() {
                self.missing.insert(op.table);
            }
            match op.kind {
                OpKind::CreateTable => {
                    let mut core = self.store.core_to_look();
                    core.next_table_id = core.next_table_id.max(u32::from(op.table) + 1);
                    if let Some((writer, _)) = core.writer_mut(op.table) {
                        writer.pending = false;
                    }
                }
                OpKind::DropTable => {
                    self.dropped.insert(op.table);
                }
                OpKind::Clear if start.is_some() => {
                    self.apply()?;
                    self.hasher = None;
                    replay_clear(&mut self.store.core_to_look(), &op)?;
                }
                OpKind::Insert | OpKind::Remove if start.is_some() => {
                    let key_at = record.offset + key_at;
                    self.collect(&Change { op, file: record.file, key_at })?;
                }
                _ => {}
            }
        }
        self.behind = record.end;
        Ok(())
    }

    /// Takes an insert or a remove into the window, which is applied before if
    /// it is full.
    fn collect(&mut self, change: &Change<'_>) -> Result<()> {
        let (op, store) = (&change.op, self.store);
        let Some(hash) = self.hash(op) else {
            return Ok(());
        };
        if Window::is_too_long(op) {
            self.apply()?;
            return store.apply(&mut store.core_to_look(), op, hash, change.file, change.key_at);
        }
        if !self.window.has_room(op) {
            self.apply()?;
        }
        self.window.push(hash, change);
        Ok(())
    }

    /// The hash of an operation's key, if its table is there.
    fn hash(&mut self, op: &Op<'_>) -> Option<u64> {
        if self.hasher.is_none_or(|(table, _)| table != op.table) {
            let core = self.store.core_to_look();
            self.hasher = core.writer(op.table).map(|writer| (op.table, writer.table.hasher()));
        }
        self.hasher.map(|(_, hasher)| hasher.hash(op.key))
    }

    /// Applies the operations in the window.
    fn apply(&mut self) -> Result<()> {
        let mut window = std::mem::take(&mut self.window);
        window.sort();
        let applied = window.tables().try_for_each(|changes| self.apply_to_table(&changes));
        window.clear();
        self.window = window;
        applied?;
        self.store.core_to_look().replayed = Some(self.behind);
        self.make_room()
    }

    /// Applies operations on one table, which are sorted.
    fn apply_to_table(&mut self, changes: &OfTable<'_>) -> Result<()> {
        let store = self.store;
        let (mut first, mut segment) = (0, 0);
        for items in changes.items.chunks(CHUNK) {
            self.make_room()?;
            let mut core = store.core_to_look();
            changes.items.iter().skip(first + CHUNK).take(CHUNK).for_each(|i| changes.foresee(i));
            let hashes: [u64; CHUNK] =
                std::array::from_fn(|i| items.get(i).map_or(0, |item| item.hash));
            if let Some(writer) = core.writer(items[0].table()) {
                writer.table.foresee(&hashes[..items.len()]);
            }
            for (i, item) in (first..).zip(items) {
                if i >= segment
                    && let Some((writer, ws)) = core.writer_mut(item.table())
                {
                    // Where that fails, room is made for one after the other,
                    // or it is found, and told, why not.
                    segment = writer.make_room_ahead(ws, changes, i).unwrap_or(usize::MAX);
                }
                if !changes.is_undone(i) {
                    let Change { op, file, key_at } = changes.change(item);
                    store.apply(&mut core, &op, item.hash, file, key_at)?;
                }
            }
            first += items.len();
        }
        Ok(())
    }

    /// Runs a checkpoint if the write buffer is full but for some room. It
    /// runs alone, and nobody writes meanwhile, so there is no sense in an early one.
    fn make_room(&mut self) -> Result<()> {
        let dirty = self.store.core_to_look().ws.pool.dirty();
        let limit = self.store.signals.limit();
        if !self.store.options.read_only && dirty >= limit - ROOM.min(limit / 2) {
            self.make_ready()?;
            checkpoint_exclusively(self.store, false)?;
        }
        Ok(())
    }

    fn make_ready(&mut self) -> Result<()> {
        self.ready.as_mut().map_or(Ok(()), |ready| ready.finish(self.store))
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
        let pending = core.writers().filter(|writer| writer.pending).map(|writer| writer.table.id);
        for id in self.dropped.iter().copied().chain(pending).collect::<Vec<_>>() {
            if let Some(writer) = core.writer(id) {
                files.push(table_file(&writer.table.name));
                core.remove(id)?;
            }
        }
        drop(core);
        if !self.store.options.read_only {
            for file in files {
                remove_table_file(self.store, file.trim_end_matches(".swiss"))?;
            }
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
