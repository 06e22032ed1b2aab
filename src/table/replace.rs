//! The ways the directory changes, for the holder of the writer lock.
//!
//! When segments are replaced, the arrays change like this:
//!
//! * the new segments fit the array: their words are stored in place;
//! * they need longer prefixes: a longer array takes its place;
//! * they no longer fit a directory page on disk: the page is split, and the
//!   root doubled when its prefixes are too short for the halves.
//!
//! What is replaced is retired, never edited, so a reader that still walks it
//! sees the table as it was. A directory page that changes becomes dirty, with
//! a block reserved for it; if a running checkpoint has yet to see it, it is
//! captured first.

use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::directory::{DIRECTORY_SPACE, MAX_ROOT_DEPTH, RootEntry, segment_record_len};

use super::directory::{Leaf, array_bits};
use super::layout::{BlockRef, DirectoryRecord, MAX_ARRAY_BITS, SegmentInfo, array_lines};
use super::{Workspace, Writer};

/// A directory page to be: its prefix, its depth, its segments.
type Part = (u32, u8, Vec<Leaf>);

/// Cuts segments into directory pages that fit the disk and the array.
fn partition(leaves: Vec<Leaf>, prefix: u32, depth: u8, parts: &mut Vec<Part>) -> Option<()> {
    let bytes: usize = leaves.iter().map(|leaf| segment_record_len(leaf.pages.into())).sum();
    let deepest = leaves.iter().map(|leaf| leaf.depth).max()?;
    if bytes <= DIRECTORY_SPACE && deepest - depth <= MAX_ARRAY_BITS {
        parts.push((prefix, depth, leaves));
        return Some(());
    }
    if depth >= MAX_ROOT_DEPTH {
        return None;
    }
    let bit = 1 << (31 - depth);
    let (high, low): (Vec<_>, Vec<_>) = leaves.into_iter().partition(|l| l.prefix & bit != 0);
    partition(low, prefix, depth + 1, parts)?;
    partition(high, prefix | bit, depth + 1, parts)
}

impl Writer {
    /// Gives the table its root from disk; directory pages are loaded later.
    pub(crate) fn attach_root(&mut self, depth: u8, entries: &[RootEntry]) -> Result<()> {
        let table = &self.table;
        let mut lines = table.structure();
        let hasher = self.make_hasher();
        let line = table.new_root(&mut lines, depth, &hasher, self.clears)?;
        for (i, entry) in entries.iter().enumerate() {
            let from = BlockRef { block: entry.block, crc: entry.crc };
            table.root_words(line, depth, i).1.store(from.encode(), Ordering::Relaxed);
        }
        table.set_root(line);
        Ok(())
    }

    /// Gives the table an empty root: one directory page, one segment, one
    /// page. What was there before falls, see [`Writer::clear`].
    pub(crate) fn plant(&mut self, ws: &mut Workspace) -> Result<()> {
        let table = self.table.clone();
        // What may fail comes before the first change: a page, a directory page.
        if !ws.pool.can_take(1) {
            let limit = (ws.pool.capacity() * BLOCK) as u64;
            return Err(Error::BatchTooLarge { needed: limit + BLOCK as u64, limit });
        }
        self.blocks.reserve(&ws.epoch, 2)?;
        self.blocks.release(2);
        let mut lines = table.structure();
        let root = table.new_root(&mut lines, 0, &self.make_hasher(), self.clears)?;
        let record = table.new_record(&mut lines, 0, 0)?;
        let descriptor = table.new_descriptor(&mut lines)?;
        descriptor.set_info(SegmentInfo {
            used: 0,
            tombstones: 0,
            pages: 1,
            depth: 0,
            prefix: 0,
            directory: record.line,
        });
        let word = table.make_array(&mut lines, record, &[table.leaf(descriptor)])?;
        self.fresh_pages(ws, descriptor)?;
        self.blocks.reserve(&ws.epoch, 1)?;
        table.root_words(root, 0, 0).0.store(word.encode(), Ordering::Relaxed);
        self.mark_dirty(ws, record);
        self.totals = super::Totals {
            slots: table.geometry.slots_per_page() as u64,
            segments: 1,
            ..Default::default()
        };
        table.set_root(root);
        Ok(())
    }

    /// A record that has its reserved block becomes dirty in this generation.
    fn mark_dirty(&mut self, ws: &Workspace, record: DirectoryRecord<'_>) {
        record.set_dirty(true);
        record.set_dirty_generation(ws.generation);
        self.dirty.push(record.line);
    }

    /// A directory page is about to change, in its segments' counts or more.
    /// If a running checkpoint has yet to see it, it is captured first.
    pub(super) fn touch(&mut self, ws: &Workspace, record_line: u32) -> Result<()> {
        let table = self.table.clone();
        let record = table.record(record_line);
        if record.is_dirty() && record.dirty_generation() == ws.generation {
            return Ok(());
        }
        self.blocks.reserve(&ws.epoch, 1)?;
        if record.is_dirty() {
            self.capture_before_change(ws, record);
        } else if record.block().block != 0 {
            self.blocks.die(record.block().block);
            record.set_block(BlockRef::default());
        }
        self.mark_dirty(ws, record);
        Ok(())
    }

    /// Puts new segments in the place of one, which the caller retires. The
    /// new ones cover the same hashes. Fails before anything has changed.
    pub(super) fn replace_segment(
        &mut self,
        ws: &Workspace,
        old: Leaf,
        record_line: u32,
        new: &[Leaf],
    ) -> Result<()> {
        self.touch(ws, record_line)?;
        let table = self.table.clone();
        let record = table.record(record_line);
        let mut leaves = table.leaves(record);
        let at = leaves.partition_point(|leaf| leaf.prefix < old.prefix);
        leaves.splice(at..at + 1, new.iter().copied());
        let mut parts = Vec::new();
        partition(leaves, record.prefix(), record.depth(), &mut parts)
            .ok_or_else(|| Error::HashCollisions { table: table.name.clone() })?;
        if parts.len() > 1 {
            return self.split_directory(ws, record, parts);
        }
        let mut lines = table.structure();
        let (array, bits) = record.array();
        let deepest = new.iter().map(|leaf| leaf.depth).max().unwrap_or(0);
        if deepest - record.depth() <= bits {
            for leaf in new {
                let descriptor = table.descriptor(leaf.word.descriptor);
                descriptor.set_info(SegmentInfo { directory: record_line, ..descriptor.info() });
                table.store_leaf(array, bits, record.depth(), leaf);
            }
        } else {
            let word = table.make_array(&mut lines, record, &parts[0].2)?;
            table.store_root_words(word, record.prefix());
            lines.retire(&table.epoch, array, array_lines(bits));
        }
        Ok(())
    }

    /// Replaces a directory page by several of longer prefixes.
    fn split_directory(
        &mut self,
        ws: &Workspace,
        old: DirectoryRecord<'_>,
        parts: Vec<Part>,
    ) -> Result<()> {
        let table = self.table.clone();
        self.blocks.reserve(&ws.epoch, parts.len())?;
        let mut lines = table.structure();
        let hasher = table.hasher();
        let deepest = parts.iter().map(|part| part.1).max().unwrap_or(0);
        while table.root().1 < deepest {
            table.double_root(&mut lines, &hasher)?;
        }
        let (array, bits) = old.array();
        let mut memory = Vec::with_capacity(parts.len());
        for (prefix, depth, leaves) in &parts {
            let record = table.new_record(&mut lines, *prefix, *depth)?;
            let bits = array_bits(*depth, leaves);
            memory.push((record, table.take_lines(&mut lines, array_lines(bits))?, bits));
        }
        for ((prefix, _, leaves), (record, array, bits)) in parts.iter().zip(memory) {
            let word = table.fill_array(array, bits, record, leaves);
            table.store_root_words(word, *prefix);
            self.mark_dirty(ws, record);
        }
        lines.retire(&table.epoch, array, array_lines(bits));
        drop(lines);
        self.kill_record(ws, old);
        Ok(())
    }

    /// A directory page is no more; a running checkpoint may still need to
    /// know so.
    fn kill_record(&mut self, ws: &Workspace, record: DirectoryRecord<'_>) {
        record.kill();
        self.blocks.release(1);
        self.dirty.retain(|line| *line != record.line);
        if ws.frozen.is_some() {
            self.held.push(record.line);
        } else {
            self.table.structure().retire(&ws.epoch, record.line, 1);
        }
    }
}
