//! From a hash to its segment, and the ways the directory changes.
//!
//! A root word covers a hash prefix and names a directory array; a directory
//! word covers a longer prefix and names a segment. Pages of the directory are
//! loaded when they are first needed. When segments are replaced, the arrays
//! change like this:
//!
//! * the new segments fit the array: their words are stored in place;
//! * they need longer prefixes: a longer array takes its place;
//! * they no longer fit a directory page on disk: the page is split, and the
//!   root doubled when its prefixes are too short for the halves.
//!
//! What is replaced is retired, never edited, so a reader that still walks it
//! sees the table as it was. The structure lock is held for loading and for
//! replacing, never by a lookup that finds everything loaded.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::directory::{
    DIRECTORY_SPACE, DirectoryPage, MAX_ROOT_DEPTH, RootEntry, segment_record_len,
};
use crate::format::group::PAGE_WORDS;

use crate::storage::map::fill;

use super::arena::Allocator;
use super::layout::{
    BlockRef, DESCRIPTOR_LINES, Descriptor, DirectoryRecord, DirectoryWord, MAX_ARRAY_BITS,
    PageWord, ROOT_HEAD, RootWord, SegmentInfo, array_lines, prefix_index, prefix_of, root_lines,
};
use super::{Table, Workspace, Writer};

/// A segment in a directory page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) prefix: u32,
    pub(crate) depth: u8,
    pub(crate) pages: u8,
    pub(crate) word: DirectoryWord,
}

/// A directory page to be: its prefix, its depth, its segments.
type Part = (u32, u8, Vec<Leaf>);

impl Table {
    /// The line and the depth of the root.
    pub(super) fn root(&self) -> (u32, u8) {
        let line = self.root.load(Ordering::Acquire) as u32;
        let depth = self.arena.owned(line, 1)[0].load(Ordering::Relaxed) as u8;
        (line, depth)
    }

    /// Puts another root in the place of the current one.
    pub(super) fn set_root(&self, line: u32) {
        self.root.store(line.into(), Ordering::Release);
    }

    /// Root word `i`, and the disk word that belongs to it.
    pub(super) fn root_words(&self, line: u32, depth: u8, i: usize) -> (&AtomicU64, &AtomicU64) {
        let words = self.arena.owned(line, root_lines(depth));
        let start = ROOT_HEAD * 8;
        let half = (1usize << depth).div_ceil(8) * 8;
        (&words[start + i], &words[start + half + i])
    }

    /// The directory words of an array.
    pub(super) fn array(&self, array: u32, bits: u8) -> &[AtomicU64] {
        &self.arena.owned(array, array_lines(bits))[8..8 + (1 << bits)]
    }

    /// The record of the directory page that an array belongs to.
    pub(super) fn record_of(&self, array: u32) -> DirectoryRecord<'_> {
        self.record(self.arena.owned(array, 1)[0].load(Ordering::Relaxed) as u32)
    }

    /// A directory record by its line.
    pub(super) fn record(&self, line: u32) -> DirectoryRecord<'_> {
        DirectoryRecord::new(line, self.arena.owned(line, 1))
    }

    /// The root word for a hash, its page loaded. For the writer, or for
    /// whoever walks the table.
    pub(super) fn loaded_root_word(&self, hash: u64) -> Result<RootWord> {
        loop {
            let (line, depth) = self.root();
            let index = prefix_index(hash, 0, depth);
            let (word, _) = self.root_words(line, depth, index);
            match RootWord::decode(word.load(Ordering::Acquire)) {
                Some(word) => return Ok(word),
                None => self.load_directory(hash)?,
            }
        }
    }

    /// The segment of a hash. For the writer.
    #[inline]
    pub(super) fn route(&self, hash: u64) -> Result<DirectoryWord> {
        let root = self.loaded_root_word(hash)?;
        let index = prefix_index(hash, root.depth, root.bits);
        let words = self.array(root.array, root.bits);
        Ok(DirectoryWord::decode(words[index].load(Ordering::Acquire)))
    }

    /// Loads the directory page of a hash, unless somebody else has.
    #[cold]
    pub(super) fn load_directory(&self, hash: u64) -> Result<()> {
        let mut lines = self.structure();
        let (line, depth) = self.root();
        let index = prefix_index(hash, 0, depth);
        let (word, disk) = self.root_words(line, depth, index);
        if RootWord::decode(word.load(Ordering::Relaxed)).is_some() {
            return Ok(());
        }
        let from = BlockRef::decode(disk.load(Ordering::Relaxed));
        let page = self.read_directory_page(from)?;
        if page.depth > depth || page.prefix != prefix_of(hash, page.depth) {
            let offset = u64::from(from.block) * BLOCK as u64;
            let expected = format!("that of hash {hash:016x}, at most {depth} bits");
            let found = format!("{:08x}, {} bits", page.prefix, page.depth);
            return Err(Error::corrupt(
                &self.path, offset, "a prefix", expected, found,
            ));
        }
        let leaves = self.make_descriptors(&mut lines, &page)?;
        let record = self.new_record(&mut lines, page.prefix, page.depth)?;
        record.set_block(from);
        let root_word = self.make_array(&mut lines, record, &leaves)?;
        self.store_root_words(root_word, page.prefix);
        Ok(())
    }

    /// Reads and checks a directory page.
    fn read_directory_page(&self, from: BlockRef) -> Result<DirectoryPage> {
        let offset = u64::from(from.block) * BLOCK as u64;
        let mut bytes = [0; BLOCK];
        self.read_block(&mut bytes, from.block)?;
        let found = crate::format::crc32(&bytes, 0);
        if found != from.crc {
            let (expected, found) = (format!("{:08x}", from.crc), format!("{found:08x}"));
            let what = "the checksum of a directory page";
            return Err(Error::corrupt(&self.path, offset, what, expected, found));
        }
        let page = DirectoryPage::decode(&bytes).map_err(|f| f.at(&self.path, offset))?;
        if page.table_id != self.id {
            let what = "the table of a directory page";
            return Err(Error::corrupt(
                &self.path,
                offset,
                what,
                self.id,
                page.table_id,
            ));
        }
        // A larger number would not fit a page word, and might name a frame.
        let limit = (self.maps.newest().words().len() / PAGE_WORDS) as u32;
        let pages = page.segments.iter().flat_map(|segment| &segment.pages);
        if let Some(wrong) = pages.map(|page| page.block).find(|block| *block >= limit) {
            let (what, expected) = ("the block of a page", format!("below {limit}"));
            return Err(Error::corrupt(&self.path, offset, what, expected, wrong));
        }
        Ok(page)
    }

    /// Descriptors for the segments of a page from disk.
    fn make_descriptors(&self, lines: &mut Allocator, page: &DirectoryPage) -> Result<Vec<Leaf>> {
        let mut leaves = Vec::with_capacity(page.segments.len());
        let mut prefix = u64::from(page.prefix);
        for segment in &page.segments {
            let descriptor = self.new_descriptor(lines)?;
            for (i, page) in segment.pages.iter().enumerate() {
                descriptor.set_crc(i, page.crc);
                descriptor.set_page(i, PageWord::unverified_block(page.block));
            }
            descriptor.set_info(SegmentInfo {
                used: segment.used,
                tombstones: segment.tombstones,
                pages: segment.pages.len() as u8,
                depth: segment.depth,
                prefix: prefix as u32,
                directory: 0,
            });
            leaves.push(self.leaf(descriptor));
            prefix += 1 << (32 - segment.depth);
        }
        Ok(leaves)
    }

    /// The leaf of a descriptor.
    pub(super) fn leaf(&self, descriptor: Descriptor<'_>) -> Leaf {
        let info = descriptor.info();
        let groups = usize::from(info.pages) * self.geometry.groups_per_page;
        let (line, depth) = (descriptor.line, info.depth);
        let word = DirectoryWord {
            descriptor: line,
            groups: groups as u16,
            depth,
        };
        Leaf {
            prefix: info.prefix,
            depth,
            pages: info.pages,
            word,
        }
    }

    pub(super) fn new_descriptor(&self, lines: &mut Allocator) -> Result<Descriptor<'_>> {
        let line = self.take_lines(lines, DESCRIPTOR_LINES)?;
        if let Some(cold) = self.arena.cold(line) {
            fill(cold, 0);
        }
        Ok(self.descriptor(line))
    }

    pub(super) fn take_lines(&self, lines: &mut Allocator, n: usize) -> Result<u32> {
        let taken = lines.take(&self.arena, &self.epoch, n);
        taken.map_err(|e| Error::io("take memory for the directory of", &self.path, e))
    }

    pub(super) fn new_record(
        &self,
        lines: &mut Allocator,
        prefix: u32,
        depth: u8,
    ) -> Result<DirectoryRecord<'_>> {
        let record = self.record(self.take_lines(lines, 1)?);
        record.init(prefix, depth);
        Ok(record)
    }

    /// A new array for the segments of a directory page.
    pub(super) fn make_array(
        &self,
        lines: &mut Allocator,
        record: DirectoryRecord<'_>,
        leaves: &[Leaf],
    ) -> Result<RootWord> {
        let bits = array_bits(record.depth(), leaves);
        let array = self.take_lines(lines, array_lines(bits))?;
        Ok(self.fill_array(array, bits, record, leaves))
    }

    /// Fills a new array; what cannot fail of making one.
    fn fill_array(
        &self,
        array: u32,
        bits: u8,
        record: DirectoryRecord<'_>,
        leaves: &[Leaf],
    ) -> RootWord {
        let depth = record.depth();
        self.arena.owned(array, 1)[0].store(record.line.into(), Ordering::Relaxed);
        for leaf in leaves {
            let descriptor = self.descriptor(leaf.word.descriptor);
            let info = SegmentInfo {
                directory: record.line,
                ..descriptor.info()
            };
            descriptor.set_info(info);
            self.store_leaf(array, bits, depth, leaf);
        }
        record.set_array(array, bits);
        RootWord { array, bits, depth }
    }

    /// Stores the directory words of a segment.
    fn store_leaf(&self, array: u32, bits: u8, depth: u8, leaf: &Leaf) {
        let first = prefix_index(u64::from(leaf.prefix) << 32, depth, bits);
        let count = 1 << (bits - (leaf.depth - depth));
        for word in &self.array(array, bits)[first..first + count] {
            word.store(leaf.word.encode(), Ordering::Release);
        }
    }

    /// Stores the root words of a directory page.
    fn store_root_words(&self, word: RootWord, prefix: u32) {
        let (line, depth) = self.root();
        let first = prefix_index(u64::from(prefix) << 32, 0, depth);
        for i in first..first + (1 << (depth - word.depth)) {
            self.root_words(line, depth, i)
                .0
                .store(word.encode(), Ordering::Release);
        }
    }

    /// The segments of a directory page, in hash order.
    pub(super) fn leaves(&self, record: DirectoryRecord<'_>) -> Vec<Leaf> {
        let (array, bits) = record.array();
        let words = self.array(array, bits);
        let mut leaves = Vec::new();
        let mut i = 0;
        while i < words.len() {
            let word = DirectoryWord::decode(words[i].load(Ordering::Relaxed));
            leaves.push(self.leaf(self.descriptor(word.descriptor)));
            i += 1 << (bits - (word.depth - record.depth()));
        }
        leaves
    }

    /// Makes a root of `depth` bits with no words in it yet.
    pub(super) fn new_root(
        &self,
        lines: &mut Allocator,
        depth: u8,
        hasher: &crate::hash::Hasher,
        clears: u32,
    ) -> Result<u32> {
        let line = self.take_lines(lines, root_lines(depth))?;
        let (id, words) = hasher.words();
        let head = self.arena.owned(line, ROOT_HEAD);
        head[0].store(u64::from(depth) | id << 8, Ordering::Relaxed);
        head[1].store(clears.into(), Ordering::Relaxed);
        head[2].store(words[0], Ordering::Relaxed);
        head[3].store(words[1], Ordering::Relaxed);
        for (i, word) in words.iter().enumerate() {
            head[8 + i].store(*word, Ordering::Relaxed);
        }
        Ok(line)
    }

    /// Doubles the root: every word twice.
    fn double_root(&self, lines: &mut Allocator, hasher: &crate::hash::Hasher) -> Result<()> {
        let (old, depth) = self.root();
        let clears = self.arena.owned(old, 1)[1].load(Ordering::Relaxed) as u32;
        let new = self.new_root(lines, depth + 1, hasher, clears)?;
        for i in 0..1 << depth {
            let (word, disk) = self.root_words(old, depth, i);
            for j in [2 * i, 2 * i + 1] {
                let (new_word, new_disk) = self.root_words(new, depth + 1, j);
                new_word.store(word.load(Ordering::Relaxed), Ordering::Relaxed);
                new_disk.store(disk.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        self.set_root(new);
        lines.retire(&self.epoch, old, root_lines(depth));
        Ok(())
    }
}

/// The logarithm of the length of an array for these segments.
fn array_bits(depth: u8, leaves: &[Leaf]) -> u8 {
    leaves.iter().map(|leaf| leaf.depth).max().unwrap_or(depth) - depth
}

/// Cuts segments into directory pages that fit the disk and the array.
fn partition(leaves: Vec<Leaf>, prefix: u32, depth: u8, parts: &mut Vec<Part>) -> Option<()> {
    let bytes: usize = leaves
        .iter()
        .map(|leaf| segment_record_len(leaf.pages.into()))
        .sum();
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
            let from = BlockRef {
                block: entry.block,
                crc: entry.crc,
            };
            table
                .root_words(line, depth, i)
                .1
                .store(from.encode(), Ordering::Relaxed);
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
            return Err(Error::BatchTooLarge {
                needed: limit + BLOCK as u64,
                limit,
            });
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
        table
            .root_words(root, 0, 0)
            .0
            .store(word.encode(), Ordering::Relaxed);
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
        partition(leaves, record.prefix(), record.depth(), &mut parts).ok_or_else(|| {
            Error::HashCollisions {
                table: table.name.clone(),
            }
        })?;
        if parts.len() > 1 {
            return self.split_directory(ws, record, parts);
        }
        let mut lines = table.structure();
        let (array, bits) = record.array();
        let deepest = new.iter().map(|leaf| leaf.depth).max().unwrap_or(0);
        if deepest - record.depth() <= bits {
            for leaf in new {
                let descriptor = table.descriptor(leaf.word.descriptor);
                descriptor.set_info(SegmentInfo {
                    directory: record_line,
                    ..descriptor.info()
                });
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
            memory.push((
                record,
                table.take_lines(&mut lines, array_lines(bits))?,
                bits,
            ));
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
