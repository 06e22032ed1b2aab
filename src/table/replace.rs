//! The ways the directory changes, for the holder of the writer lock.
//!
//! When segments are replaced, the arrays change like this:
//!
//! * the new segments fit the array: their words are stored in place;
//! * they need longer prefixes, or no segment needs as long ones any more: a
//!   longer or shorter array takes its place;
//! * they no longer fit a directory page on disk: the page is split, and the
//!   root doubled when its prefixes are too short for the halves;
//! * they cover more than a directory page, or two pages fit one: the two are
//!   joined. (The root is halved apart from that, see
//!   [`directory`](super::directory).)
//!
//! What is replaced is retired, never edited, so a reader that still walks it
//! sees the table as it was. A segment that takes the place of several has as
//! many words in the array as they had; while these are stored one by one, a
//! reader comes to the new segment or to an old one, and finds the same entries
//! in both, because the writer changes neither before it is done. The same
//! holds for root words, when a page takes the place of two.
//!
//! A directory page that changes becomes dirty, with a block reserved for it;
//! if a checkpoint has yet to see it, it is captured first. One that is no more is
//! kept on record until the checkpoints of all states that were frozen before have
//! ended, of which one gives its block back. Segments move from page to page as they are: a checkpoint that
//! has captured them under their old page knows frames, not pages.

use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::directory::{DIRECTORY_SPACE, MAX_ROOT_DEPTH, RootEntry, segment_record_len};

use super::directory::{Leaf, array_bits};
use super::layout::{BlockRef, DirectoryRecord, MAX_ARRAY_BITS, SegmentInfo, array_lines};
use super::{Table, Workspace, Writer};

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
        table.change_root(line, &[]);
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
        let leaf = table.leaf(descriptor);
        let word = table.make_array(&mut lines, record, &[leaf])?;
        self.fresh_pages(ws, descriptor)?;
        self.blocks.reserve(&ws.epoch, 1)?;
        table.root_words(root, 0, 0).0.store(word.encode(), Ordering::Relaxed);
        self.mark_dirty(ws, record);
        self.totals = super::Totals {
            slots: table.geometry.slots_per_page() as u64,
            segments: 1,
            ..Default::default()
        };
        table.change_root(root, &[leaf]);
        Ok(())
    }

    /// A record that has its reserved block becomes dirty in this generation.
    fn mark_dirty(&mut self, ws: &Workspace, record: DirectoryRecord<'_>) {
        record.set_dirty(true);
        record.set_dirty_generation(ws.generation);
        self.dirty.push(record.line);
    }

    /// A directory page is about to change, in its segments' counts or more.
    /// If a checkpoint has yet to see it, it is captured first.
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

    /// Puts new segments in the place of old ones, which the caller retires.
    /// Both cover the same hashes. The old ones lie side by side, in one
    /// directory page, or they are all there is in two pages that are siblings.
    /// Fails before anything has changed.
    pub(super) fn replace_segments(
        &mut self,
        ws: &Workspace,
        old: &[Leaf],
        new: &[Leaf],
    ) -> Result<()> {
        let table = self.table.clone();
        let directory = |leaf: &Leaf| table.descriptor(leaf.word.descriptor).info().directory;
        let mut records: Vec<u32> = old.iter().map(directory).collect();
        records.dedup();
        let whole = self.touch_all(ws, &records)?;
        let first = old.iter().map(|leaf| leaf.prefix).min().unwrap_or(0);
        let mut leaves: Vec<Leaf> =
            records.iter().flat_map(|line| table.leaves(table.record(*line))).collect();
        let at = leaves.partition_point(|leaf| leaf.prefix < first);
        leaves.splice(at..at + old.len(), new.iter().copied());
        let mut parts = Vec::new();
        partition(leaves, whole.0, whole.1, &mut parts)
            .ok_or_else(|| Error::HashCollisions { table: table.name.clone() })?;
        let [record] = records[..] else {
            return self.replace_directory(ws, &records, parts);
        };
        match &parts[..] {
            [part] => self.replace_in_page(table.record(record), new, &part.2),
            _ => self.replace_directory(ws, &records, parts),
        }
    }

    /// Touches one directory page, or two that are siblings. The prefix and the
    /// depth of what they cover.
    fn touch_all(&mut self, ws: &Workspace, records: &[u32]) -> Result<(u32, u8)> {
        for line in records {
            self.touch(ws, *line)?;
        }
        let record = self.table.record(records[0]);
        Ok((record.prefix(), record.depth() - u8::from(records.len() == 2)))
    }

    /// Puts two directory pages that are siblings together. Fails before
    /// anything has changed.
    pub(super) fn join_pages(&mut self, ws: &Workspace, records: [u32; 2]) -> Result<()> {
        let table = self.table.clone();
        let (prefix, depth) = self.touch_all(ws, &records)?;
        let leaves = records.iter().flat_map(|line| table.leaves(table.record(*line))).collect();
        self.replace_directory(ws, &records, vec![(prefix, depth, leaves)])
    }

    /// Puts new segments into a directory page, of which all segments then are
    /// these. Its array is made anew if it has to be longer, or may be shorter.
    fn replace_in_page(
        &mut self,
        record: DirectoryRecord<'_>,
        new: &[Leaf],
        leaves: &[Leaf],
    ) -> Result<()> {
        let table = &*self.table;
        let mut lines = table.structure();
        let (array, bits) = record.array();
        if array_bits(record.depth(), leaves) == bits {
            for leaf in new {
                let descriptor = table.descriptor(leaf.word.descriptor);
                descriptor.set_info(SegmentInfo { directory: record.line, ..descriptor.info() });
                table.store_leaf(array, bits, record.depth(), leaf);
            }
        } else {
            let word = table.make_array(&mut lines, record, leaves)?;
            table.store_root_words(word, record.prefix());
            lines.retire(&table.epoch, array, array_lines(bits));
        }
        table.copy_words(new);
        Ok(())
    }

    /// Replaces directory pages by others that cover the same hashes.
    fn replace_directory(&mut self, ws: &Workspace, old: &[u32], parts: Vec<Part>) -> Result<()> {
        let table = self.table.clone();
        self.blocks.reserve(&ws.epoch, parts.len())?;
        let made = match table.make_pages(&parts) {
            Ok(made) => made,
            Err(error) => {
                self.blocks.release(parts.len());
                return Err(error);
            }
        };
        let mut lines = table.structure();
        for ((prefix, _, leaves), (record, array, bits)) in parts.iter().zip(made) {
            let word = table.fill_array(array, bits, record, leaves);
            table.store_root_words(word, *prefix);
            table.copy_words(leaves);
            self.mark_dirty(ws, record);
        }
        for line in old {
            let (array, bits) = table.record(*line).array();
            lines.retire(&table.epoch, array, array_lines(bits));
        }
        drop(lines);
        old.iter().for_each(|line| self.kill_record(ws, table.record(*line)));
        Ok(())
    }

    /// A directory page is no more; a checkpoint may still need to know
    /// so.
    fn kill_record(&mut self, ws: &Workspace, record: DirectoryRecord<'_>) {
        record.kill();
        self.blocks.release(1);
        // It became dirty at last just now, so it stands near the end.
        if let Some(at) = self.dirty.iter().rposition(|line| *line == record.line) {
            self.dirty.swap_remove(at);
        }
        match self.frozen.back_mut() {
            Some(frozen) => frozen.hold(record.line),
            None => self.table.structure().retire(&ws.epoch, record.line, 1),
        }
    }
}

impl Table {
    /// Takes the memory for directory pages that are to be, and doubles the
    /// root until it is as deep as they are. If that fails, all is given back.
    fn make_pages(&self, parts: &[Part]) -> Result<Vec<(DirectoryRecord<'_>, u32, u8)>> {
        let mut lines = self.structure();
        let hasher = self.hasher();
        let deepest = parts.iter().map(|part| part.1).max().unwrap_or(0);
        while self.root().1 < deepest {
            self.double_root(&mut lines, &hasher)?;
        }
        let mut made = Vec::with_capacity(parts.len());
        for (prefix, depth, leaves) in parts {
            let bits = array_bits(*depth, leaves);
            let page = self.new_record(&mut lines, *prefix, *depth).and_then(|record| {
                let array = self.take_lines(&mut lines, array_lines(bits));
                let array = array.inspect_err(|_| lines.retire(&self.epoch, record.line, 1))?;
                Ok((record, array, bits))
            });
            match page {
                Ok(page) => made.push(page),
                Err(error) => {
                    for (record, array, bits) in made {
                        lines.retire(&self.epoch, record.line, 1);
                        lines.retire(&self.epoch, array, array_lines(bits));
                    }
                    return Err(error);
                }
            }
        }
        Ok(made)
    }
}
