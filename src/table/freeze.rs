//! What a checkpoint sees of a table while writers go on.
//!
//! Freezing is constant work plus a look at the root: the dirty directory
//! pages of the generation that ends become *pending*, and the generation
//! advances, so that pages written from now on are copies. Each pending
//! directory page is *captured* (its segments' counts, where their pages are)
//! either by the checkpoint, one at a time, or by a writer just before it
//! changes that page. Captured frames are not changed or reused until the
//! checkpoint has ended, so they are written without any lock.
//!
//! ```text
//! freeze ──> pending ──capture──> captured ──hand out──> progress ──finish──> clean
//!               |                     |                      |
//!               '---------------------'------- thaw ---------'──> dirty again
//! ```
//!
//! Blocks for what is handed out are taken from those reserved when it became
//! dirty. After a failure they are given back, and everything belongs to the
//! next checkpoint.

use std::sync::atomic::Ordering;

use crate::format::directory::{DirectoryPage, PageRef, RootEntry, SegmentRecord};
use crate::format::header::Run;

use super::frames::State;
use super::layout::{
    BlockRef, DESCRIPTOR_LINES, DirectoryRecord, RootWord, array_lines, root_lines,
};
use super::{Table, Workspace, Writer};

/// A page of a captured segment that has to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DirtyPage {
    /// The segment's number in the directory page, and the page's in it.
    pub(crate) segment: usize,
    pub(crate) page: usize,
    pub(crate) frame: u32,
    /// The block it goes to.
    pub(crate) block: u32,
}

/// A directory page as it was when the generation ended.
pub(crate) struct Captured {
    record: u32,
    /// References to dirty pages are still to be filled in.
    pub(crate) page: DirectoryPage,
    pub(crate) dirty: Vec<DirtyPage>,
    /// The block it goes to.
    pub(crate) block: u32,
}

/// A directory page that was handed out, and what became of it.
struct Progress {
    record: u32,
    block: BlockRef,
    frames: Vec<(u32, BlockRef)>,
}

/// Where an entry of the frozen root comes from.
enum RootSource {
    /// Nothing below it changed.
    Disk(BlockRef),
    /// The directory page with this record is part of the checkpoint.
    Record(u32),
}

/// The state of a table that a checkpoint is writing.
pub(crate) struct Frozen {
    generation: u64,
    pub(crate) root_depth: u8,
    /// Directory pages in hash order, with their depths.
    root: Vec<(u8, RootSource)>,
    pending: Vec<u32>,
    captured: Vec<Captured>,
    progress: Vec<Progress>,
    /// How far finishing has come.
    finished: usize,
    /// Whether live bytes were counted anew before.
    recounted: bool,
}

impl Writer {
    /// Whether anything differs from what the last header reaches.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.fallen.is_empty() || self.recounted
    }

    /// The depth of the root.
    pub(crate) fn root_depth(&self) -> u8 {
        self.table.root().1
    }

    /// What the running checkpoint sees.
    pub(crate) fn frozen(&self) -> Option<&Frozen> {
        self.frozen.as_ref()
    }

    /// Ends a generation for this table: a checkpoint of it begins.
    pub(crate) fn freeze(&mut self, generation: u64) {
        debug_assert!(self.frozen.is_none());
        self.blocks.freeze();
        let (root_depth, root) = self.table.root_sources();
        self.frozen = Some(Frozen {
            generation,
            root_depth,
            root,
            pending: std::mem::take(&mut self.dirty),
            captured: Vec::new(),
            progress: Vec::new(),
            finished: 0,
            recounted: std::mem::take(&mut self.recounted),
        });
    }

    /// A writer is about to change a directory page that the checkpoint has
    /// not captured yet.
    pub(super) fn capture_before_change(&mut self, ws: &Workspace, record: DirectoryRecord<'_>) {
        let Some(frozen) = &mut self.frozen else {
            return;
        };
        if ws.is_frozen(record.dirty_generation()) && record.captured() != frozen.generation {
            let captured = self.table.capture(ws, record, frozen.generation);
            frozen.captured.push(captured);
        }
    }

    /// The next directory page to write, with its dirty pages, each with the
    /// block it goes to; `None` when there are no more.
    pub(crate) fn hand_out(&mut self, ws: &Workspace) -> Option<Captured> {
        let frozen = self.frozen.as_mut()?;
        self.blocks.reclaim_worthwhile(&ws.epoch);
        let mut captured = match frozen.captured.pop() {
            Some(captured) => captured,
            None => loop {
                let record = self.table.record(frozen.pending.pop()?);
                if record.captured() != frozen.generation {
                    break self.table.capture(ws, record, frozen.generation);
                }
            },
        };
        for page in &mut captured.dirty {
            page.block = self.blocks.take();
        }
        captured.block = self.blocks.take();
        let frames = captured.dirty.iter();
        frozen.progress.push(Progress {
            record: captured.record,
            block: BlockRef { block: captured.block, crc: 0 },
            frames: frames.map(|p| (p.frame, BlockRef { block: p.block, crc: 0 })).collect(),
        });
        Some(captured)
    }

    /// What was handed out last has been written, with these checksums.
    pub(crate) fn wrote(&mut self, captured: &Captured, crc: u32) {
        let Some(frozen) = &mut self.frozen else {
            return;
        };
        let Some(progress) = frozen.progress.last_mut() else {
            return;
        };
        progress.block.crc = crc;
        for ((_, block), page) in progress.frames.iter_mut().zip(&captured.dirty) {
            block.crc = captured.page.segments[page.segment].pages[page.page].crc;
        }
    }

    /// The entries of the root, when all directory pages have been written.
    pub(crate) fn frozen_root(&self) -> Vec<RootEntry> {
        let Some(frozen) = &self.frozen else {
            return Vec::new();
        };
        let written: std::collections::HashMap<u32, BlockRef> =
            frozen.progress.iter().map(|p| (p.record, p.block)).collect();
        let mut entries = Vec::with_capacity(1 << frozen.root_depth);
        for (depth, source) in &frozen.root {
            let from = match source {
                RootSource::Disk(from) => *from,
                RootSource::Record(record) => written.get(record).copied().unwrap_or_default(),
            };
            let entry = RootEntry { block: from.block, crc: from.crc };
            entries.extend(std::iter::repeat_n(entry, 1 << (frozen.root_depth - depth)));
        }
        entries
    }

    /// The header is durable: a bite of the frames becomes clean. Says whether
    /// there is more to do.
    pub(crate) fn finish_some(&mut self, ws: &mut Workspace, mut frames: usize) -> bool {
        let Some(mut frozen) = self.frozen.take() else {
            return false;
        };
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
        let more = frozen.finished < frozen.progress.len();
        self.frozen = Some(frozen);
        more
    }

    fn finish_frame(&mut self, ws: &mut Workspace, frame: u32, block: BlockRef) {
        let info = *ws.pool.info(frame);
        if info.state == State::Superseded {
            self.blocks.die(block.block);
            ws.pool.retire(&ws.epoch, frame);
        } else {
            ws.pool.cleaned(frame, block.block);
            let descriptor = self.table.descriptor(info.owner.descriptor);
            descriptor.set_crc(info.owner.page.into(), block.crc);
        }
    }

    fn finish_record(&mut self, record: u32, block: BlockRef, generation: u64) {
        let record = self.table.record(record);
        if !record.is_alive() || record.dirty_generation() > generation {
            self.blocks.die(block.block);
        } else {
            record.set_block(block);
            record.set_dirty(false);
        }
    }

    /// The checkpoint has ended well: what died with it may be reused, and
    /// the header is where these runs say.
    pub(crate) fn finish(&mut self, ws: &mut Workspace, root: Run, map: Run, covered: u32) {
        self.frozen = None;
        self.blocks.settle(&ws.epoch, covered);
        (self.root_run, self.map_run) = (root, map);
        self.release_held(ws);
        for root in std::mem::take(&mut self.fallen) {
            self.dismantle(ws, root);
        }
    }

    /// The checkpoint failed before any header was written: everything it
    /// would have made durable belongs to the next one.
    pub(crate) fn thaw(&mut self, ws: &mut Workspace) {
        let Some(frozen) = self.frozen.take() else {
            return;
        };
        self.blocks.thaw();
        self.recounted |= frozen.recounted;
        let mut records = frozen.pending;
        for captured in frozen.captured {
            for page in &captured.dirty {
                self.thaw_frame(ws, page.frame);
            }
        }
        for progress in frozen.progress {
            for (frame, block) in progress.frames {
                self.blocks.give_back(block.block);
                self.blocks.reserve_again();
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
        self.release_held(ws);
    }

    /// A frame that the failed checkpoint would have written.
    fn thaw_frame(&mut self, ws: &mut Workspace, frame: u32) {
        if ws.pool.info(frame).state == State::Superseded {
            self.blocks.release(1);
            ws.pool.retire(&ws.epoch, frame);
        }
    }

    fn release_held(&mut self, ws: &Workspace) {
        let mut lines = self.table.structure();
        for line in self.held.drain(..) {
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

    /// Keeps blocks for root and free map of the next checkpoint, as far as
    /// the device has them.
    pub(crate) fn reserve_standing(&mut self, ws: &Workspace) {
        let runs = self.root_run.blocks + self.map_run.blocks;
        let wanted = 2 * runs as usize + 8;
        if wanted > self.standing && self.blocks.reserve(&ws.epoch, wanted - self.standing).is_ok()
        {
            self.standing = wanted;
        }
        self.blocks.keep(&ws.epoch);
    }

    /// Lets the blocks kept for root and free map be taken.
    pub(crate) fn release_standing(&mut self) {
        self.blocks.release(std::mem::take(&mut self.standing));
    }
}

impl Table {
    /// The directory pages in hash order, as they are now.
    fn root_sources(&self) -> (u8, Vec<(u8, RootSource)>) {
        let _lines = self.structure();
        let (line, depth) = self.root();
        let mut sources = Vec::new();
        let mut i = 0;
        while i < 1 << depth {
            let (word, disk) = self.root_words(line, depth, i);
            let (page_depth, source) = match RootWord::decode(word.load(Ordering::Relaxed)) {
                None => {
                    let from = BlockRef::decode(disk.load(Ordering::Relaxed));
                    // Its depth is unknown until it is loaded; entry by entry
                    // the root comes out the same.
                    (depth, RootSource::Disk(from))
                }
                Some(word) => {
                    let record = self.record_of(word.array);
                    let source = match record.is_dirty() {
                        true => RootSource::Record(record.line),
                        false => RootSource::Disk(record.block()),
                    };
                    (word.depth, source)
                }
            };
            sources.push((page_depth, source));
            i += 1 << (depth - page_depth);
        }
        (depth, sources)
    }

    /// A directory page as it is now.
    fn capture(&self, ws: &Workspace, record: DirectoryRecord<'_>, generation: u64) -> Captured {
        record.set_captured(generation);
        let mut dirty = Vec::new();
        let mut segments = Vec::new();
        for (number, leaf) in self.leaves(record).into_iter().enumerate() {
            let descriptor = self.descriptor(leaf.word.descriptor);
            let info = descriptor.info();
            let mut pages = Vec::with_capacity(leaf.pages.into());
            for page in 0..usize::from(leaf.pages) {
                let word = descriptor.page(page);
                let mut block = word.number();
                if word.is_frame() {
                    let frame = ws.pool.info(word.number());
                    block = frame.block;
                    if frame.state == State::Dirty {
                        let frame = word.number();
                        dirty.push(DirtyPage { segment: number, page, frame, block: 0 });
                    }
                }
                pages.push(PageRef { block, crc: descriptor.crc(page) });
            }
            let (used, tombstones) = (info.used, info.tombstones);
            segments.push(SegmentRecord { depth: leaf.depth, used, tombstones, pages });
        }
        let page = DirectoryPage {
            table_id: self.id,
            depth: record.depth(),
            prefix: record.prefix(),
            generation,
            segments,
        };
        Captured { record: record.line, page, dirty, block: 0 }
    }
}
