//! Making the table files equal to a log position, while writers go on.
//!
//! | step | under the writer lock | durable afterwards |
//! |---|---|---|
//! | 1 freeze | note L, freeze every table, advance the generation | |
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
//! Step 1 may come long before the others: a state that is frozen waits until
//! those that were frozen before it are durable ([`frozen`](crate::store::frozen)).
//! One checkpoint is run at a time, in that order. If one fails, all that wait
//! behind it fail with it, because they see pages that it was to write.
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

mod bites;
mod runs;
mod tails;

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use crate::error::{Error, Result};
use crate::format::directory::{encode_free_map, encode_root, free_map_blocks};
use crate::format::group::{PageRecord, seal};
use crate::format::header::{Header, Run, TableState};
use crate::format::{BLOCK, crc32};
use crate::storage::File;
use crate::storage::files::memory_limit;
use crate::store::create::write_header;
use crate::store::frozen::{Frozen, Portion};
use crate::store::signals::Request;
use crate::store::snapshots::{Ready, StillTable};
use crate::store::space::Behind;
use crate::store::{Core, Store, closed};
use crate::table::Writer;
use crate::table::freeze::Captured;
use bites::Bites;
use runs::RunBuffer;

pub(crate) use tails::{give_back_tail, wait_for_bites, worth_giving_back};

/// Frames that become clean with one holding of the writer lock.
const FRAMES: usize = 128;

/// A checkpoint under way.
struct Checkpoint<'a> {
    store: &'a Store,
    /// What it writes.
    state: Frozen,
}

/// Runs a checkpoint; waits if one is running. `last` says that it is the last
/// before the store is closed: whoever waits meanwhile gets `Closed`.
pub(crate) fn checkpoint(store: &Store, last: bool) -> Result<()> {
    let _one = checkpointing(store);
    // Asked when its turn has come: the last one may have been before it.
    if !last && store.is_closed() {
        return Err(closed());
    }
    checkpoint_exclusively(store, last)
}

fn checkpointing(store: &Store) -> MutexGuard<'_, ()> {
    store.checkpointing.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Runs a checkpoint for a caller who has made sure that there is no other.
/// What was frozen before is written first.
pub(crate) fn checkpoint_exclusively(store: &Store, last: bool) -> Result<()> {
    if store.options.read_only {
        return Err(Error::ReadOnly);
    }
    if last {
        // Whoever waits for one of these learns of a failure.
        while matches!(run_next(store), Some(Ok(_))) {}
    }
    check_poison(store)?;
    let generation = {
        let mut core = store.core_to_look();
        let generation = store.freeze(&mut core, last);
        // Commits have asked until now, behind the request that led to here.
        store.signals.met();
        generation
    };
    while let Some(ended) = run_next(store) {
        if ended? == generation {
            break;
        }
    }
    Ok(())
}

/// That nothing is frozen, and nothing will be, until it is dropped.
pub(crate) struct Away<'a> {
    store: &'a Store,
    _one: MutexGuard<'a, ()>,
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        self.store.away.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Keeps checkpoints away, after what was frozen already has been written.
/// If that fails, nothing is frozen either.
///
/// # Errors
///
/// `Poisoned`, `Closed`.
pub(crate) fn keep_away(store: &Store) -> Result<Away<'_>> {
    // Seen by all who take the writer lock after it was taken here.
    store.away.fetch_add(1, Ordering::Relaxed);
    let away = Away { store, _one: checkpointing(store) };
    if store.is_closed() {
        return Err(closed());
    }
    while run_next(store).is_some() {
        store.poison.check()?;
    }
    Ok(away)
}

/// A poisoned store writes nothing: that is said to whoever waits for it, too.
/// It may have been poisoned since the checkpoint was asked for, by a sync of the
/// log, and nobody would ask again.
fn check_poison(store: &Store) -> Result<()> {
    let outcome = store.poison.check();
    if let Err(error) = &outcome {
        store.snapshots.fail(error);
        store.signals.ended(&outcome, 0);
    }
    outcome
}

/// Writes the state that waits for it first, if there is one: runs its
/// checkpoint. Returns its generation.
fn run_next(store: &Store) -> Option<Result<u64>> {
    if let Err(error) = check_poison(store) {
        return Some(Err(error));
    }
    let began = Instant::now();
    let state = store.next_frozen()?;
    let generation = state.generation;
    let mut checkpoint = Checkpoint { store, state };
    let outcome = run(&mut checkpoint);
    if outcome.is_ok() {
        store.signals.checkpointed(began);
    }
    let dirty = store.core_to_look().ws.pool.dirty();
    store.signals.ended(&outcome, dirty);
    store.space.set_behind(Behind::Checkpoint, false);
    if outcome.is_ok() {
        // Log files may have been let go, and blocks of the tables.
        store.space.ask();
        if !checkpoint.state.last {
            checkpoint.give_back_tails();
        }
    }
    Some(outcome.map(|()| generation))
}

fn run(checkpoint: &mut Checkpoint<'_>) -> Result<()> {
    if let Err(error) = checkpoint.write_tables() {
        checkpoint.give_up(&error);
        return Err(error);
    }
    if let Err(error) = checkpoint.make_durable() {
        checkpoint.store.poison.set(&error);
        checkpoint.store.snapshots.fail(&error);
        return Err(error);
    }
    let finished = checkpoint.finish();
    finished.inspect_err(|error| checkpoint.store.snapshots.fail(error))
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

impl Checkpoint<'_> {
    /// Step 2: everything but the headers.
    fn write_tables(&mut self) -> Result<()> {
        for i in 0..self.state.portions.len() {
            if self.state.portions[i].dirty {
                self.write_pages(i)?;
                self.write_root_and_free_map(i)?;
            }
        }
        Ok(())
    }

    fn write_pages(&self, i: usize) -> Result<()> {
        let id = self.state.portions[i].id;
        let (file, maps, path, geometry) = self.with_writer(id, |writer, _| {
            let (blocks, table) = (&writer.blocks, &writer.table);
            (blocks.file().clone(), blocks.maps().clone(), table.path.clone(), table.geometry)
        })?;
        let written = &self.store.signals.table_bytes;
        let fits = self.store.core_to_look().table_bytes() <= memory_limit();
        let mut buffer = RunBuffer::new(&*file, fits.then_some(&*maps), &path, written);
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
                    generation: self.state.generation as u32,
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
        self.with_writer(id, |writer, ws| writer.wrote(ws, captured, crc))
    }

    fn write_root_and_free_map(&mut self, i: usize) -> Result<()> {
        let (id, last) = (self.state.portions[i].id, self.state.last);
        let live = &self.state.portions[i].live;
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
        let portion = &mut self.state.portions[i];
        (portion.root, portion.free_map, portion.file_blocks) = (root, map, total);
        Ok(())
    }

    /// Steps 3 and 4: from the first sync on every failure poisons.
    fn make_durable(&self) -> Result<()> {
        for portion in self.state.portions.iter().filter(|portion| portion.dirty) {
            let (file, path) = self.file_of(portion.id)?;
            file.sync().map_err(|e| Error::io("sync", path, e))?;
        }
        self.store.log.sync_to(self.state.position.commit)?;
        for StillTable { file, path, header } in self.headers()? {
            write_header(&file, &header, 0).map_err(|e| Error::io("write to", path, e))?;
            self.store.signals.table_bytes.fetch_add(2 * BLOCK as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What the headers of all tables say from now on, and where.
    fn headers(&self) -> Result<Vec<StillTable>> {
        let still = |portion: &Portion| {
            let core = self.store.core_to_look();
            let writer = core.writer(portion.id).ok_or_else(closed)?;
            let header = self.header(portion, writer, core.next_table_id);
            let (path, file) = (writer.table.path.clone(), writer.blocks.file().clone());
            Ok(StillTable { header, path, file })
        };
        self.state.portions.iter().map(still).collect()
    }

    fn header(&self, portion: &Portion, writer: &Writer, next_table_id: u32) -> Header {
        let table = &writer.table;
        let kind = crate::options::HashKind::from_id(writer.hash_id).unwrap_or_default();
        Header {
            table_id: table.id,
            payload: table.geometry.payload() as u16,
            hash_id: writer.hash_id,
            state: if writer.pending { TableState::Pending } else { TableState::Live },
            clean: self.state.clean,
            root_depth: portion.root_depth,
            name: table.name.clone(),
            hash_key: portion.hash_key,
            self_test: crate::hash::Hasher::new(kind, portion.hash_key).self_test(),
            capacity: portion.totals.slots,
            used: portion.totals.used,
            growth_left: portion.totals.growth_left(),
            segments: portion.totals.segments,
            generation: self.state.generation,
            log: self.state.position,
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
        let snapshots = self.store.snapshots.beginning(self.state.generation);
        for portion in &self.state.portions {
            for snapshot in &snapshots {
                self.with_writer(portion.id, |writer, _| {
                    writer.blocks.hold(*snapshot, portion.dirty)
                })?;
            }
            if !portion.dirty {
                continue;
            }
            let mut bites = Bites::begin();
            while self.with_writer(portion.id, |writer, ws| writer.finish_some(ws, FRAMES))? {
                bites.end_bite();
            }
            self.with_writer(portion.id, |writer, ws| {
                writer.finish(ws, portion.root, portion.free_map, portion.file_blocks);
                if !self.state.last {
                    writer.reserve_standing(ws);
                }
            })?;
        }
        {
            let mut core = self.store.core_to_look();
            // Others may wait, and some may have been frozen just now.
            core.ws.frozen = core.waiting.back().map(|waiting| waiting.generation);
            core.checkpointed_commit = self.state.position.commit;
        }
        if !snapshots.is_empty() {
            self.keep_for_snapshots(&snapshots)?;
        }
        self.recycle();
        Ok(())
    }

    /// What the headers say now is what these snapshots see.
    fn keep_for_snapshots(&self, held: &[u64]) -> Result<()> {
        let tables = self.headers()?;
        let files =
            self.state.portions.iter().flat_map(|portion| portion.live.keys().copied()).collect();
        let store = self.store;
        let make = || Ready { tables: tables.clone(), log: store.log.hold(&files) };
        for gone in store.snapshots.ready(self.state.generation, held, &files, &make) {
            store.let_snapshot_go(gone);
        }
        Ok(())
    }

    /// Gives the free ends of table files back, where that is worth it. A
    /// failure is no reason to fail: it costs nothing but space. What is left
    /// where somebody wants the next checkpoint, or none, that one gives back, or
    /// the upkeep thread.
    fn give_back_tails(&self) {
        let is_away = || self.store.away.load(Ordering::Relaxed) > 0;
        let mut go_on = || !self.store.signals.is_wanted() && !is_away();
        for portion in &self.state.portions {
            let _ = tails::give_back_unknown(self.store, portion.id, &mut go_on);
            if portion.dirty {
                let worth = worth_giving_back;
                let _ = tails::give_back_tail(self.store, portion.id, worth, &mut go_on);
            }
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
            let before = file.number < self.state.position.file;
            let passed = before && !file.active && file.last_commit <= self.state.position.commit;
            let live = |portion: &Portion| portion.live.contains_key(&file.number);
            if passed && !held.contains(&file.number) && !self.state.portions.iter().any(live) {
                self.store.log.retire(file.number);
            }
        }
    }

    /// The pages could not be written: they belong to the next checkpoint, and
    /// so do those of all that wait behind this one.
    fn give_up(&self, error: &Error) {
        if !error.is_full() {
            self.store.poison.set(error);
        }
        let mut core = self.store.core_to_look();
        let Core { ws, tables, waiting, .. } = &mut *core;
        // Nothing is held any more before the frames are looked at.
        ws.frozen = None;
        waiting.clear();
        for writer in tables.iter_mut().flatten() {
            writer.thaw(ws);
            writer.reserve_standing(ws);
        }
        // Before anything is frozen anew.
        self.store.snapshots.fail(error);
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
        let (writer, ws) = core.writer_mut(id).ok_or_else(closed)?;
        Ok(run(writer, ws))
    }
}

/// The body of the thread that runs checkpoints when they are asked for.
pub(crate) fn keep(store: &Store) {
    while let Some(request) = store.signals.next_request() {
        if store.poison.is_set() || store.is_closed() {
            if check_poison(store).is_ok() {
                store.signals.ended(&Ok(()), 0);
            }
            continue;
        }
        // Whoever waits for it learns of a failure; nobody else has to.
        match request {
            Request::Checkpoint => drop(checkpoint(store, false)),
            Request::Waiting => write_waiting(store),
        }
    }
}

/// Writes the first of the states that wait. If there are more, they are asked
/// for again: others may want to come in between.
fn write_waiting(store: &Store) {
    let _one = checkpointing(store);
    drop(run_next(store));
    if !store.core_to_look().waiting.is_empty() {
        store.signals.request_waiting();
    }
}

/// Checkpoints since the store was opened.
pub(crate) fn count(store: &Store) -> u64 {
    store.signals.checkpoints.load(Ordering::Relaxed)
}
