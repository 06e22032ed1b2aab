//! How a frozen state ends: it is durable, or it is thawed.
//!
//! When the headers are durable, the frames that were written and not let go
//! become clean, or are given back if they were replaced meanwhile, a bite of them with each
//! holding of the writer lock. What a state behind this one inherits or borrows
//! from it is noted there. A block whose page or directory page was replaced
//! meanwhile dies with the first state that does not see it any more.
//!
//! If the checkpoint failed, everything is dirty again, and so is what the
//! states behind it would have written: they need what it would have.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use crate::format::header::Run;
use crate::table::frames::State;
use crate::table::layout::{BlockRef, DESCRIPTOR_LINES, RootWord, array_lines, root_lines};
use crate::table::{Workspace, Writer};

use super::Frozen;

impl Writer {
    /// The header is durable: a bite of the frames becomes clean. Says whether
    /// there is more to do.
    pub(crate) fn finish_some(&mut self, ws: &mut Workspace, mut frames: usize) -> bool {
        let Some(mut frozen) = self.frozen.pop_front() else {
            return false;
        };
        while frames > 0
            && let Some((generation, block)) = frozen.gone.pop()
        {
            frames -= 1;
            self.blocks.die_as_of(block, generation);
        }
        while frames > 0
            && let Some(progress) = frozen.progress.get_mut(frozen.finished)
        {
            while frames > 0
                && let Some((frame, block)) = progress.frames.pop()
            {
                frames -= 1;
                self.finish_frame(ws, frame, block);
            }
            if progress.frames.is_empty() {
                let (record, block) = (progress.record, progress.block);
                self.finish_record(record, block, frozen.generation);
                frozen.finished += 1;
            }
        }
        let more = frozen.finished < frozen.progress.len() || !frozen.gone.is_empty();
        self.frozen.push_front(frozen);
        more
    }

    /// A frame has its block; the states behind, which are all there are at
    /// this moment, may have waited for that.
    fn finish_frame(&mut self, ws: &mut Workspace, frame: u32, block: BlockRef) {
        for later in &mut self.frozen {
            if let Some(borrowed) = later.borrowed.get_mut(&frame) {
                *borrowed = Some(block);
            }
        }
        let info = *ws.pool.info(frame);
        if (info.owner.table, info.block) != (self.table.id, block.block) {
            // It was let go, and may hold another page now: also one of another table,
            // that was read from the block with the same number there.
            return;
        }
        if info.state == State::Superseded {
            self.blocks.die_as_of(block.block, info.generation);
            ws.pool.retire(&ws.epoch, frame);
        } else {
            ws.pool.cleaned(frame, block.block);
            let descriptor = self.table.descriptor(info.owner.descriptor);
            descriptor.set_crc(info.owner.page.into(), block.crc);
        }
    }

    /// As `finish_frame`, of a directory page.
    fn finish_record(&mut self, line: u32, block: BlockRef, generation: u64) {
        for later in &mut self.frozen {
            if let Some(inherited) = later.inherited.get_mut(&line)
                && inherited.dirtied <= generation
            {
                inherited.block = block;
            }
        }
        let record = self.table.record(line);
        if !record.is_alive() || record.dirty_generation() > generation {
            let without = self.frozen.iter().find(|later| !later.inherits(line, generation));
            let gone = without.map_or(u64::MAX, |later| later.generation);
            self.blocks.die_as_of(block.block, gone);
        } else {
            record.set_block(block);
            record.set_dirty(false);
        }
    }

    /// The checkpoint has ended well: what died with it may be reused, and
    /// the header is where these runs say. The next state, if there is one, is
    /// the one to be written now.
    pub(crate) fn finish(&mut self, ws: &mut Workspace, root: Run, map: Run, covered: u32) {
        let gone = self.frozen.front_mut().map(|frozen| std::mem::take(&mut frozen.gone));
        for (generation, block) in gone.into_iter().flatten() {
            self.blocks.die_as_of(block, generation);
        }
        self.blocks.settle(&ws.epoch, covered);
        (self.root_run, self.map_run) = (root, map);
        let Some(frozen) = self.frozen.pop_front() else {
            return;
        };
        self.release_held(ws, frozen.held);
        for root in frozen.fallen {
            self.dismantle(ws, root);
        }
    }

    /// The checkpoint failed before any header was written: everything that it,
    /// and those of the states behind it, would have made durable belongs to
    /// the next one.
    pub(crate) fn thaw(&mut self, ws: &mut Workspace) {
        self.blocks.thaw();
        for frozen in std::mem::take(&mut self.frozen) {
            self.thaw_state(ws, frozen);
        }
    }

    fn thaw_state(&mut self, ws: &mut Workspace, frozen: Frozen) {
        self.recounted |= frozen.recounted;
        self.fallen.extend(frozen.fallen);
        let mut records = frozen.pending;
        // What it borrowed, an earlier state has captured: it was thawed there.
        for captured in frozen.captured {
            for page in &captured.dirty {
                self.thaw_frame(ws, page.frame);
            }
        }
        let gone: HashSet<u32> = frozen.gone.iter().map(|(_, block)| *block).collect();
        for progress in frozen.progress {
            for (frame, block) in progress.frames {
                self.blocks.give_back(block.block);
                if gone.contains(&block.block) {
                    continue;
                }
                self.blocks.reserve_again();
                ws.pool.written(frame, 0);
                self.thaw_frame(ws, frame);
            }
            self.blocks.give_back(progress.block.block);
            self.blocks.reserve_again();
            records.push(progress.record);
        }
        // One captured by a writer before it was handed out stands in both.
        records.sort_unstable();
        records.dedup();
        for line in records {
            let record = self.table.record(line);
            if record.is_alive() && record.dirty_generation() <= frozen.generation {
                record.set_dirty_generation(ws.generation);
                self.dirty.push(line);
            } else {
                self.blocks.release(1);
            }
        }
        self.release_held(ws, frozen.held);
    }

    /// A frame that the failed checkpoint would have written.
    fn thaw_frame(&mut self, ws: &mut Workspace, frame: u32) {
        if ws.pool.info(frame).state == State::Superseded {
            self.blocks.release(1);
            ws.pool.retire(&ws.epoch, frame);
        }
    }

    fn release_held(&mut self, ws: &Workspace, held: Vec<u32>) {
        let mut lines = self.table.structure();
        for line in held {
            lines.retire(&ws.epoch, line, 1);
        }
    }

    /// Gives back the memory of a root that was cleared.
    fn dismantle(&mut self, ws: &Workspace, root: u32) {
        let table = self.table.clone();
        let depth = table.arena.owned(root, 1)[0].load(Ordering::Relaxed) as u8;
        let mut i = 0;
        while i < 1 << depth {
            let word = table.root_words(root, depth, i).0.load(Ordering::Relaxed);
            let Some(word) = RootWord::decode(word) else {
                i += 1;
                continue;
            };
            let record = table.record_of(word.array);
            let leaves = table.leaves(record);
            let mut lines = table.structure();
            for leaf in leaves {
                lines.retire(&ws.epoch, leaf.word.descriptor, DESCRIPTOR_LINES);
            }
            lines.retire(&ws.epoch, record.line, 1);
            lines.retire(&ws.epoch, word.array, array_lines(word.bits));
            i += 1 << (depth - word.depth);
        }
        table.structure().retire(&ws.epoch, root, root_lines(depth));
    }
}
