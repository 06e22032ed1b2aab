//! What a checkpoint sees of a table while writers go on.
//!
//! Freezing is constant work plus a look at the root: the dirty directory
//! pages of the generation that ends become *pending*, and the generation
//! advances, so that pages written from now on are copies. Each pending
//! directory page is *captured* (its segments' counts, where their pages are)
//! either by the checkpoint, one at a time, or by a writer just before it
//! changes that page. Captured frames are not changed or reused until they are
//! written, which therefore needs no lock.
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
//!
//! # What is written is let go
//!
//! A page that was frozen is copied before it is changed, and where changes are
//! spread all over a table, soon every page is there twice. Writers were slowed
//! for that: in a table of half the write buffer, for most of each checkpoint.
//! But as soon as a page was written nothing needs its frame but memory itself:
//! so from then on it is changed in place, and one that was replaced before is
//! given back. That its block is no more what memory says is noted
//! ([`Frozen::gone`]): it dies when the checkpoint has ended, or is free if it has
//! failed. States that wait may have borrowed the frame; while there are any,
//! it stays.
//!
//! # Several states, one behind the other
//!
//! The table may be frozen anew before the checkpoint of the last frozen state
//! has ended, or begun. Only the *first* state is written; the others wait.
//! What became dirty between two freezings belongs to the later state alone,
//! and what became dirty before both to the earlier one alone. For the later
//! one, that is *inherited* (a directory page) or *borrowed* (a frame): it will
//! lie in a block by the time the later state is written, and where, is noted
//! when the checkpoint of the earlier one finishes ([`ends`]).
//!
//! ```text
//!      freeze 4          freeze 6        now
//! ────────|─────────────────|─────────────|
//!   A, B      A changed again   B changed    state 4 writes A and B,
//!                                            state 6 writes A, inherits B
//! ```
//!
//! A directory page is captured when it is changed, for the first state that it
//! became dirty in. That one change is between that state and all later ones,
//! which either inherit what was captured, or saw the page change before: then
//! it was captured then. So one capture is enough, whatever waits.

mod ends;

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use crate::format::directory::{DirectoryPage, PageRef, RootEntry, SegmentRecord};

use super::frames::State;
use super::layout::{BlockRef, DirectoryRecord, RootWord};
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
    /// Pages that an earlier state writes.
    borrowed: Vec<DirtyPage>,
    /// The block it goes to.
    pub(crate) block: u32,
}

/// A directory page that was handed out, and what became of it.
pub(super) struct Progress {
    record: u32,
    block: BlockRef,
    pub(super) frames: Vec<(u32, BlockRef)>,
}

/// Where an entry of the frozen root comes from.
enum RootSource {
    /// Nothing below it changed.
    Disk(BlockRef),
    /// The directory page with this record is part of the checkpoint, or of
    /// that of an earlier state.
    Record(u32),
}

/// A directory page that an earlier state writes.
struct Inherited {
    /// The generation in which it became dirty.
    dirtied: u64,
    /// Where it is, once it is there.
    block: BlockRef,
}

/// The state of a table that a checkpoint writes, or will.
pub(crate) struct Frozen {
    generation: u64,
    root_depth: u8,
    /// Directory pages in hash order, with their depths.
    root: Vec<(u8, RootSource)>,
    pending: Vec<u32>,
    captured: Vec<Captured>,
    pub(super) progress: Vec<Progress>,
    /// Blocks that were written, and of which the page was changed or replaced
    /// since, in that generation, so that its frame was let go.
    gone: Vec<(u64, u32)>,
    /// How far finishing has come.
    finished: usize,
    /// Whether live bytes were counted anew before.
    recounted: bool,
    /// Directory pages that are an earlier state's to write, by their records.
    inherited: HashMap<u32, Inherited>,
    /// Frames among those captured that are an earlier state's to write, and
    /// where they are, once they are there.
    borrowed: HashMap<u32, Option<BlockRef>>,
    /// Records to retire with this state: it, or one before it, may know them.
    held: Vec<u32>,
    /// Roots that were cleared, to be taken apart with this state.
    fallen: Vec<u32>,
}

impl Frozen {
    /// A record that was killed just now is kept for as long as this state.
    pub(super) fn hold(&mut self, record: u32) {
        self.held.push(record);
    }

    /// Whether this state sees a directory page as the checkpoint of an
    /// earlier generation writes it.
    fn inherits(&self, record: u32, generation: u64) -> bool {
        self.inherited.get(&record).is_some_and(|inherited| inherited.dirtied <= generation)
    }
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

    /// The depth of the root of the state that is written.
    #[cfg(test)]
    pub(crate) fn frozen_root_depth(&self) -> u8 {
        self.frozen[0].root_depth
    }

    /// How many states are frozen.
    #[cfg(test)]
    pub(crate) fn frozen_states(&self) -> usize {
        self.frozen.len()
    }

    /// Ends a generation for this table: its state is frozen for a checkpoint,
    /// which begins when those of earlier states have ended.
    pub(crate) fn freeze(&mut self, generation: u64) {
        self.blocks.freeze(generation);
        let (root_depth, root) = self.table.root_sources();
        let earlier = self.frozen.back().map_or(0, |frozen| frozen.generation);
        let mut inherited = HashMap::new();
        for (_, source) in &root {
            if let RootSource::Record(line) = source
                && let dirtied = self.table.record(*line).dirty_generation()
                && dirtied <= earlier
            {
                inherited.insert(*line, Inherited { dirtied, block: BlockRef::default() });
            }
        }
        self.frozen.push_back(Frozen {
            generation,
            root_depth,
            root,
            pending: std::mem::take(&mut self.dirty),
            captured: Vec::new(),
            progress: Vec::new(),
            gone: Vec::new(),
            finished: 0,
            recounted: std::mem::take(&mut self.recounted),
            inherited,
            borrowed: HashMap::new(),
            held: Vec::new(),
            fallen: std::mem::take(&mut self.fallen),
        });
    }

    /// A writer is about to change a directory page: if it is part of a frozen
    /// state that has not captured it yet, that is done now.
    pub(super) fn capture_before_change(&mut self, ws: &Workspace, record: DirectoryRecord<'_>) {
        let dirtied = record.dirty_generation();
        let Some(at) = self.frozen.iter().position(|frozen| dirtied <= frozen.generation) else {
            return;
        };
        if record.captured() < self.frozen[at].generation {
            let captured = self.capture(ws, at, record.line);
            self.frozen[at].captured.push(captured);
        }
    }

    /// Captures a directory page for a frozen state.
    fn capture(&mut self, ws: &Workspace, at: usize, record: u32) -> Captured {
        let earlier = match at {
            0 => 0,
            _ => self.frozen[at - 1].generation,
        };
        let frozen = &mut self.frozen[at];
        let record = self.table.record(record);
        let captured = self.table.capture(ws, record, frozen.generation, earlier);
        frozen.borrowed.extend(captured.borrowed.iter().map(|page| (page.frame, None)));
        captured
    }

    /// The next directory page to write, with its dirty pages, each with the
    /// block it goes to; `None` when there are no more.
    pub(crate) fn hand_out(&mut self, ws: &Workspace) -> Option<Captured> {
        self.blocks.reclaim_worthwhile(&ws.epoch);
        let frozen = self.frozen.front_mut()?;
        let mut captured = match frozen.captured.pop() {
            Some(captured) => captured,
            None => loop {
                let line = frozen.pending.pop()?;
                if self.table.record(line).captured() < frozen.generation {
                    break self.capture(ws, 0, line);
                }
            },
        };
        let frozen = self.frozen.front_mut()?;
        for page in std::mem::take(&mut captured.borrowed) {
            let found = frozen.borrowed.remove(&page.frame).flatten();
            let found = found.expect("what an earlier state writes has its block by now");
            let reference = PageRef { block: found.block, crc: found.crc };
            captured.page.segments[page.segment].pages[page.page] = reference;
        }
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

    /// What was handed out last has been copied to be written, with these
    /// checksums: its frames are not needed for that any more.
    pub(crate) fn wrote(&mut self, ws: &mut Workspace, captured: &Captured, crc: u32) {
        let alone = self.frozen.len() == 1;
        let Some(frozen) = self.frozen.front_mut() else {
            return;
        };
        let Some(progress) = frozen.progress.last_mut() else {
            return;
        };
        progress.block.crc = crc;
        for ((frame, block), page) in progress.frames.iter_mut().zip(&captured.dirty) {
            block.crc = captured.page.segments[page.segment].pages[page.page].crc;
            ws.pool.written(*frame, block.block);
            let info = ws.pool.info(*frame);
            if info.state == State::Superseded && alone {
                frozen.gone.push((info.generation, block.block));
                ws.pool.retire(&ws.epoch, *frame);
            }
        }
    }

    /// A frozen page is about to be changed or replaced, of which the frame says
    /// that it was written to this block, or to none. Says whether the frame may
    /// be had at once: then that is the end of the block.
    pub(super) fn let_go(&mut self, ws: &Workspace, block: u32) -> bool {
        let [frozen] = self.frozen.make_contiguous() else {
            return false;
        };
        if block != 0 {
            frozen.gone.push((ws.generation, block));
        }
        block != 0
    }

    /// The entries of the root, when all directory pages have been written.
    pub(crate) fn frozen_root(&self) -> Vec<RootEntry> {
        let Some(frozen) = self.frozen.front() else {
            return Vec::new();
        };
        let inherited = frozen.inherited.iter().map(|(line, i)| (*line, i.block));
        let mut written: HashMap<u32, BlockRef> = inherited.collect();
        written.extend(frozen.progress.iter().map(|p| (p.record, p.block)));
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

    /// A directory page as it is now. Frames that became dirty in the `earlier`
    /// generation, or before, are borrowed.
    fn capture(
        &self,
        ws: &Workspace,
        record: DirectoryRecord<'_>,
        generation: u64,
        earlier: u64,
    ) -> Captured {
        record.set_captured(generation);
        let (mut dirty, mut borrowed) = (Vec::new(), Vec::new());
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
                        let own = frame.generation > earlier;
                        let whose = if own { &mut dirty } else { &mut borrowed };
                        let frame = word.number();
                        whose.push(DirtyPage { segment: number, page, frame, block: 0 });
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
        Captured { record: record.line, page, dirty, borrowed, block: 0 }
    }
}
