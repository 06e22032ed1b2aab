//! Making the table files equal to a log position, while writers go on.
//!
//! | step | under the writer lock | durable afterwards |
//! |---|---|---|
//! | 1 begin | note L, freeze every table, advance the generation | |
//! | 2 pages | hand out a directory page at a time | dirty pages, directory, root, free map: in free blocks, reached by no header |
//! | 3 log | | every commit up to L |
//! | 4 headers | | copy 0, then copy 1, each synced: the checkpoint |
//! | 5 finish | a bite of the frames at a time | |
//!
//! A crash before copy 0 is whole leaves the previous checkpoint; afterwards
//! the new one. A failure before the first sync gives all blocks back and
//! leaves everything to the next checkpoint if the device is full, and poisons
//! otherwise; any later failure poisons.
//!
//! All tables are covered: those that did not change get their L advanced.
//! Then log files that every L has passed, and in which nothing was live as of
//! those Ls, go back to the log.
//!
//! Space at the end of a table file goes back to the device in two ways. If
//! more than a quarter of what the file takes is free at its end after a
//! checkpoint, holes are punched there ([`tail`](crate::table::blocks)). And
//! the *last* checkpoint, before the store is closed, writes a free map that
//! ends right behind the last block in use; once both headers that say so are
//! durable and nobody reads any more, the file is truncated there
//! ([`end_files`]). A crash before that leaves a file that is longer than its
//! free map, which is as good. A table that did not change is written all the
//! same then, if its file gets shorter by an eighth.

mod runs;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::format::directory::{encode_free_map, encode_root, free_map_blocks};
use crate::format::group::{PageRecord, seal};
use crate::format::header::{Header, Run, TableState};
use crate::format::record::Position;
use crate::format::{BLOCK, crc32};
use crate::storage::File;
use crate::store::create::write_header;
use crate::store::snapshots::{Begun, Ready, StillTable};
use crate::store::space::Behind;
use crate::store::{Core, Store};
use crate::table::freeze::Captured;
use crate::table::{Totals, Writer};
use runs::RunBuffer;

/// Frames that become clean with one holding of the writer lock.
const BITE: usize = 1024;
/// Free blocks at the end of a table file that are worth giving back.
const WORTH_PUNCHING: u32 = 256;

/// What a checkpoint is to say of a table.
struct Portion {
    id: u16,
    /// Whether its pages changed, or only its L.
    dirty: bool,
    totals: Totals,
    live: std::collections::BTreeMap<u32, u64>,
    root_depth: u8,
    root: Run,
    free_map: Run,
    file_blocks: u32,
    clears: u32,
    hash_key: [u64; 2],
}

/// A checkpoint under way.
struct Checkpoint<'a> {
    store: &'a Store,
    position: Position,
    generation: u64,
    /// Whether it is the last before the store is closed.
    last: bool,
    /// Whether the header says that the store was closed.
    clean: bool,
    portions: Vec<Portion>,
}

/// Runs a checkpoint; waits if one is running. `clean` says that it is the
/// last before the store is closed.
pub(crate) fn checkpoint(store: &Store, clean: bool) -> Result<()> {
    let _one = store.checkpointing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    checkpoint_exclusively(store, clean)
}

/// Runs a checkpoint for a caller who has made sure that there is no other.
pub(crate) fn checkpoint_exclusively(store: &Store, clean: bool) -> Result<()> {
    if store.options.read_only {
        return Err(Error::ReadOnly);
    }
    store.poison.check()?;
    let began = Instant::now();
    let outcome = run(store, clean);
    if outcome.is_ok() {
        store.signals.checkpointed(began);
    }
    let dirty = store.core_to_look().ws.pool.dirty();
    store.signals.ended(&outcome, dirty);
    if let Err(error) = &outcome {
        store.snapshots.fail(error);
    }
    store.space.set_behind(Behind::Checkpoint, false);
    if outcome.is_ok() {
        // Log files may have been let go, and blocks of the tables.
        store.space.ask();
    }
    outcome
}

fn run(store: &Store, last: bool) -> Result<()> {
    let mut checkpoint = Checkpoint::begin(store, last)?;
    if let Err(error) = checkpoint.write_tables() {
        checkpoint.give_up(&error);
        return Err(error);
    }
    if let Err(error) = checkpoint.make_durable() {
        store.poison.set(&error);
        return Err(error);
    }
    checkpoint.finish()?;
    if !last {
        checkpoint.give_back_tails();
    }
    Ok(())
}

/// After the last checkpoint: table files end where they are no longer used.
/// `alone` says that nobody can read any more; otherwise that part only takes
/// no space. What the operating system does not do is left undone: the files
/// are whole either way.
pub(crate) fn end_files(store: &Store, alone: bool) {
    let mut core = store.core_to_look();
    let Core { ws, tables, .. } = &mut *core;
    for writer in tables.iter_mut().flatten() {
        if alone {
            let _ = writer.blocks.cut(&ws.epoch);
        } else {
            while matches!(writer.blocks.give_back_tail(&ws.epoch, 1), Ok(blocks) if blocks > 0) {}
        }
    }
}

impl<'a> Checkpoint<'a> {
    /// Step 1: the state to write is frozen.
    fn begin(store: &'a Store, last: bool) -> Result<Checkpoint<'a>> {
        let mut core = store.core_to_look();
        let core = &mut *core;
        store.poison.check()?;
        let generation = core.ws.generation;
        core.ws.generation += 1;
        core.ws.frozen = Some(generation);
        core.checkpointed_bytes = core.appender.as_ref().map_or(0, |a| a.bytes_total());
        let mut portions = Vec::new();
        for writer in core.tables.iter_mut().flatten() {
            let runs = [writer.root_run, writer.map_run];
            let dirty = writer.is_dirty() || last && writer.blocks.is_worth_cutting(runs);
            if dirty {
                if last {
                    // All that is free lower down is to be chosen from.
                    writer.blocks.reclaim(&core.ws.epoch, 1);
                }
                writer.freeze(generation);
            }
            portions.push(Portion {
                id: writer.table.id,
                dirty,
                totals: writer.totals,
                live: writer.live.clone(),
                root_depth: writer.frozen().map_or(writer.root_depth(), |f| f.root_depth),
                root: writer.root_run,
                free_map: writer.map_run,
                file_blocks: writer.blocks.covered(),
                clears: writer.clears,
                hash_key: writer.hash_key,
            });
        }
        // After a crash on a full device there may be no file yet in which the
        // log can go on; then the next opening must not believe that it can.
        let clean = last && core.appender.as_ref().is_some_and(|a| a.can_continue());
        store.snapshots.begin(|| begun(core));
        Ok(Checkpoint { store, position: core.position(), generation, last, clean, portions })
    }

    /// Step 2: everything but the headers.
    fn write_tables(&mut self) -> Result<()> {
        for i in 0..self.portions.len() {
            if self.portions[i].dirty {
                self.write_pages(i)?;
                self.write_root_and_free_map(i)?;
            }
        }
        Ok(())
    }

    fn write_pages(&self, i: usize) -> Result<()> {
        let id = self.portions[i].id;
        let (file, maps, path, geometry) = self.with_writer(id, |writer, _| {
            let (blocks, table) = (&writer.blocks, &writer.table);
            (blocks.file().clone(), blocks.maps().clone(), table.path.clone(), table.geometry)
        })?;
        let written = &self.store.signals.table_bytes;
        let mut buffer = RunBuffer::new(&*file, &maps, &path, written);
        loop {
            let handed = self.with_writer(id, |writer, core_ws| writer.hand_out(core_ws))?;
            let Some(mut captured) = handed else { break };
            for at in 0..captured.dirty.len() {
                let dirty = captured.dirty[at];
                let segment = &mut captured.page.segments[dirty.segment];
                let page = buffer.next(dirty.block)?;
                let words = self.store.frames.owned(dirty.frame);
                crate::storage::map::load_bytes(words, 0, page);
                let record = PageRecord {
                    table: id,
                    depth: segment.depth,
                    page: dirty.page as u8,
                    generation: self.generation as u32,
                };
                segment.pages[dirty.page].block = dirty.block;
                segment.pages[dirty.page].crc = seal(page, &geometry, record);
            }
            let directory = captured.page.encode();
            *buffer.next(captured.block)? = *directory;
            self.wrote(id, &captured, crc32(&directory[..], 0))?;
        }
        buffer.flush()
    }

    fn wrote(&self, id: u16, captured: &Captured, crc: u32) -> Result<()> {
        self.with_writer(id, |writer, _| writer.wrote(captured, crc))
    }

    fn write_root_and_free_map(&mut self, i: usize) -> Result<()> {
        let (id, last) = (self.portions[i].id, self.last);
        let live = &self.portions[i].live;
        let (file, path, root, root_bytes, map, map_bytes, total) =
            self.with_writer(id, |writer, ws| -> Result<_> {
                let root_bytes = encode_root(&writer.frozen_root(), live);
                writer.release_standing();
                let root_blocks = (root_bytes.len() / BLOCK) as u32;
                let root = writer.blocks.take_run(&ws.epoch, root_blocks)?;
                for run in [writer.root_run, writer.map_run] {
                    (run.block..run.block + run.blocks)
                        .for_each(|block| writer.blocks.die_with_checkpoint(block));
                }
                let (map, total) = writer.blocks.take_map_run(&ws.epoch, last)?;
                let map_blocks = free_map_blocks(total);
                let map_bytes = encode_free_map(&writer.blocks.free_map(), total);
                let root = Run { block: root, blocks: root_blocks, crc: crc32(&root_bytes, 0) };
                let map = Run { block: map, blocks: map_blocks, crc: crc32(&map_bytes, 0) };
                let path = writer.table.path.clone();
                Ok((writer.blocks.file().clone(), path, root, root_bytes, map, map_bytes, total))
            })??;
        for (run, bytes) in [(root, root_bytes), (map, map_bytes)] {
            let offset = u64::from(run.block) * BLOCK as u64;
            file.write_at(&bytes, offset).map_err(|e| Error::io("write to", &path, e))?;
            self.store.signals.table_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        let portion = &mut self.portions[i];
        (portion.root, portion.free_map, portion.file_blocks) = (root, map, total);
        Ok(())
    }

    /// Steps 3 and 4: from the first sync on every failure poisons.
    fn make_durable(&self) -> Result<()> {
        for portion in self.portions.iter().filter(|portion| portion.dirty) {
            let (file, path) = self.file_of(portion.id)?;
            file.sync().map_err(|e| Error::io("sync", path, e))?;
        }
        self.store.log.sync_to(self.position.commit)?;
        for portion in &self.portions {
            let (file, path) = self.file_of(portion.id)?;
            let header = self.with_writer_and_core(portion.id, |writer, next_table_id| {
                self.header(portion, writer, next_table_id)
            })?;
            write_header(&file, &header, 0).map_err(|e| Error::io("write to", path, e))?;
            self.store.signals.table_bytes.fetch_add(2 * BLOCK as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    fn header(&self, portion: &Portion, writer: &Writer, next_table_id: u32) -> Header {
        let table = &writer.table;
        let kind = crate::options::HashKind::from_id(writer.hash_id).unwrap_or_default();
        Header {
            table_id: table.id,
            payload: table.geometry.payload() as u16,
            hash_id: writer.hash_id,
            state: TableState::Live,
            clean: self.clean,
            root_depth: portion.root_depth,
            name: table.name.clone(),
            hash_key: portion.hash_key,
            self_test: crate::hash::Hasher::new(kind, portion.hash_key).self_test(),
            capacity: portion.totals.slots,
            used: portion.totals.used,
            growth_left: portion.totals.growth_left(),
            segments: portion.totals.segments,
            generation: self.generation,
            log: self.position,
            root: portion.root,
            live_count: portion.live.len() as u32,
            free_map: portion.free_map,
            file_blocks: portion.file_blocks,
            next_table_id: if table.id == 0 { next_table_id } else { 0 },
            clears: portion.clears,
        }
    }

    /// Step 5.
    fn finish(&self) -> Result<()> {
        let snapshots = self.store.snapshots.beginning();
        for portion in &self.portions {
            for snapshot in &snapshots {
                self.with_writer(portion.id, |writer, _| writer.blocks.hold(*snapshot))?;
            }
            if !portion.dirty {
                continue;
            }
            while self.with_writer(portion.id, |writer, ws| writer.finish_some(ws, BITE))? {}
            self.with_writer(portion.id, |writer, ws| {
                writer.finish(ws, portion.root, portion.free_map, portion.file_blocks);
                if !self.last {
                    writer.reserve_standing(ws);
                }
            })?;
        }
        {
            let mut core = self.store.core_to_look();
            core.ws.frozen = None;
            core.checkpointed_commit = self.position.commit;
        }
        if !snapshots.is_empty() {
            self.keep_for_snapshots(&snapshots)?;
        }
        self.recycle();
        Ok(())
    }

    /// What the headers say now is what these snapshots see.
    fn keep_for_snapshots(&self, held: &[u64]) -> Result<()> {
        let mut tables = Vec::with_capacity(self.portions.len());
        for portion in &self.portions {
            let (file, path) = self.file_of(portion.id)?;
            let header = self.with_writer_and_core(portion.id, |writer, next_table_id| {
                self.header(portion, writer, next_table_id)
            })?;
            tables.push(StillTable { header, path, file });
        }
        let files = self.portions.iter().flat_map(|portion| portion.live.keys().copied()).collect();
        let store = self.store;
        let make = || Ready { tables: tables.clone(), log: store.log.hold(&files) };
        for gone in store.snapshots.ready(held, &files, &make) {
            store.let_snapshot_go(gone);
        }
        Ok(())
    }

    /// Gives the free ends of table files back, where that is worth it. A
    /// failure is no reason to fail: it costs nothing but space.
    fn give_back_tails(&self) {
        for portion in &self.portions {
            let unknown = |writer: &mut Writer, _: &mut crate::table::Workspace| {
                writer.blocks.give_back_unknown()
            };
            while matches!(self.with_writer(portion.id, unknown), Ok(Ok(blocks)) if blocks > 0) {}
            if !portion.dirty {
                continue;
            }
            let bite = |writer: &mut Writer, ws: &mut crate::table::Workspace| {
                let enough = worth_giving_back(writer.blocks.allocated());
                writer.blocks.give_back_tail(&ws.epoch, enough)
            };
            while matches!(self.with_writer(portion.id, bite), Ok(Ok(blocks)) if blocks > 0) {}
        }
    }

    /// Gives log files back that nothing needs any more.
    fn recycle(&self) {
        if self.store.core_to_look().replayed.is_some() {
            return;
        }
        let held = self.store.snapshots.files();
        for file in self.store.log.files() {
            // The log may have gone on in another file since L was taken: then
            // L is the end of one that holds nothing any more, but is named.
            let before = file.number < self.position.file;
            let passed = before && !file.active && file.last_commit <= self.position.commit;
            let live = |portion: &Portion| portion.live.contains_key(&file.number);
            if passed && !held.contains(&file.number) && !self.portions.iter().any(live) {
                self.store.log.retire(file.number);
            }
        }
    }

    /// The pages could not be written: they belong to the next checkpoint.
    fn give_up(&self, error: &Error) {
        if !error.is_full() {
            self.store.poison.set(error);
        }
        let mut core = self.store.core_to_look();
        let Core { ws, tables, .. } = &mut *core;
        // Nothing is held any more before the frames are looked at.
        ws.frozen = None;
        for writer in tables.iter_mut().flatten() {
            writer.thaw(ws);
            writer.reserve_standing(ws);
        }
    }

    fn file_of(&self, id: u16) -> Result<(Arc<dyn File>, PathBuf)> {
        self.with_writer(id, |writer, _| (writer.blocks.file().clone(), writer.table.path.clone()))
    }

    fn with_writer<T>(
        &self,
        id: u16,
        run: impl FnOnce(&mut Writer, &mut crate::table::Workspace) -> T,
    ) -> Result<T> {
        let mut core = self.store.core_to_look();
        let (writer, ws) = core.writer_mut(id).ok_or_else(crate::store::closed)?;
        Ok(run(writer, ws))
    }

    fn with_writer_and_core<T>(&self, id: u16, run: impl FnOnce(&Writer, u32) -> T) -> Result<T> {
        let core = self.store.core_to_look();
        let writer = core.writer(id).ok_or_else(crate::store::closed)?;
        Ok(run(writer, core.next_table_id))
    }
}

/// The body of the thread that runs checkpoints when they are asked for.
pub(crate) fn keep(store: &Store) {
    while store.signals.next_request() {
        if store.poison.is_set() || store.is_closed() {
            store.signals.ended(&store.poison.check(), 0);
            continue;
        }
        // Whoever waits for it learns of a failure; nobody else has to.
        let _ = checkpoint(store, false);
    }
}

/// How many free blocks at the end of a table file are worth giving back, of
/// so many that have their space.
pub(crate) fn worth_giving_back(allocated: u32) -> u32 {
    (allocated / 4).max(WORTH_PUNCHING)
}

/// What a snapshot knows at once.
fn begun(core: &Core) -> Begun {
    let table = |writer: &Writer| (writer.table.name.clone(), writer.totals.used);
    Begun { commit: core.position().commit, tables: core.writers().map(table).collect() }
}

/// Checkpoints since the store was opened.
pub(crate) fn count(store: &Store) -> u64 {
    store.signals.checkpoints.load(Ordering::Relaxed)
}
