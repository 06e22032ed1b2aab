//! From a hash to its segment: the directory in memory.
//!
//! A root word covers a hash prefix and names a directory array; a directory
//! word covers a longer prefix and names a segment. Pages of the directory are
//! loaded when they are first needed, and then copied to the
//! [flat directory](super::flat), by which nearly all lookups go. Here are loading
//! and routing, and the root's doubling and halving; how segments and directory
//! pages take the place of others is in [`super::replace`].
//!
//! The structure lock is held for loading and for replacing, never by a lookup
//! that finds everything loaded. What a segment holds is not known here.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::directory::DirectoryPage;
use crate::format::group::PAGE_WORDS;
use crate::storage::map::fill;

use super::Table;
use super::arena::Allocator;
use super::layout::{
    BlockRef, DESCRIPTOR_LINES, Descriptor, DirectoryRecord, DirectoryWord, PageWord, ROOT_HEAD,
    RootWord, SegmentInfo, array_lines, prefix_index, prefix_of, root_lines,
};

/// A segment in a directory page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) prefix: u32,
    pub(crate) depth: u8,
    pub(crate) pages: u8,
    pub(crate) word: DirectoryWord,
}

impl Table {
    /// The line and the depth of the root.
    pub(super) fn root(&self) -> (u32, u8) {
        let line = self.root.load(Ordering::Acquire) as u32;
        let depth = self.arena.owned(line, 1)[0].load(Ordering::Relaxed) as u8;
        (line, depth)
    }

    /// Puts another root for the same hashes in the place of the current one.
    fn set_root(&self, line: u32) {
        self.root.store(line.into(), Ordering::Release);
    }

    /// Puts a root for other hashes, with these segments, in the place of the
    /// current one. With the structure lock held.
    pub(super) fn change_root(&self, line: u32, leaves: &[Leaf]) {
        // No hash of the one may lead by the other's words.
        self.flat.forget();
        self.set_root(line);
        self.copy_words(leaves);
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
            match self.root_word(hash) {
                Some(word) => return Ok(word),
                None => self.load_directory(hash)?,
            }
        }
    }

    /// The root word for a hash, if its page is loaded.
    fn root_word(&self, hash: u64) -> Option<RootWord> {
        let (line, depth) = self.root();
        let (word, _) = self.root_words(line, depth, prefix_index(hash, 0, depth));
        RootWord::decode(word.load(Ordering::Acquire))
    }

    /// The directory word of a hash under its root word.
    fn word_under(&self, root: RootWord, hash: u64) -> DirectoryWord {
        let words = self.array(root.array, root.bits);
        let word = &words[prefix_index(hash, root.depth, root.bits)];
        DirectoryWord::decode(word.load(Ordering::Acquire))
    }

    /// The segment of a hash. For the writer.
    #[inline]
    pub(super) fn route(&self, hash: u64) -> Result<DirectoryWord> {
        Ok(self.word_under(self.loaded_root_word(hash)?, hash))
    }

    /// Loads the directory page of a hash, unless somebody else has.
    #[cold]
    pub(super) fn load_directory(&self, hash: u64) -> Result<()> {
        if self.epoch.read() == 0 {
            // In a forked child nobody is left who would release the lock.
            return Err(super::read::forked());
        }
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
            return Err(Error::corrupt(&self.path, offset, "a prefix", expected, found));
        }
        let leaves = self.make_descriptors(&mut lines, &page)?;
        let record = self.new_record(&mut lines, page.prefix, page.depth)?;
        record.set_block(from);
        let root_word = self.make_array(&mut lines, record, &leaves)?;
        self.store_root_words(root_word, page.prefix);
        self.copy_words(&leaves);
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
            return Err(Error::corrupt(&self.path, offset, what, self.id, page.table_id));
        }
        // A larger number would not fit a page word, and might name a frame.
        let limit = (self.maps.newest().words().len() / PAGE_WORDS) as u32;
        let pages = page.segments.iter().flat_map(|segment| &segment.pages);
        if let Some(wrong) = pages.map(|page| page.block).find(|block| *block >= limit) {
            let (what, expected) = ("the block of a page", format!("below {limit}"));
            return Err(Error::corrupt(&self.path, offset, what, expected, wrong));
        }
        // Whoever makes room takes these counts for true.
        let full = |segment: &&crate::format::directory::SegmentRecord| {
            let groups = segment.pages.len() * self.geometry.groups_per_page;
            usize::from(segment.used) + usize::from(segment.tombstones) > 7 * groups
        };
        if let Some(wrong) = page.segments.iter().find(full) {
            let expected = "at most seven of eight slots";
            let found = format!("{} and {}", wrong.used, wrong.tombstones);
            let what = "used and deleted slots of a segment";
            return Err(Error::corrupt(&self.path, offset, what, expected, found));
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
        let word = DirectoryWord { descriptor: line, groups: groups as u16, depth };
        Leaf { prefix: info.prefix, depth, pages: info.pages, word }
    }

    pub(super) fn new_descriptor(&self, lines: &mut Allocator) -> Result<Descriptor<'_>> {
        let line = self.take_lines(lines, DESCRIPTOR_LINES)?;
        if let Some(cold) = self.arena.cold(line) {
            fill(cold, 0);
        }
        self.mirror.forget(line);
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
    pub(super) fn fill_array(
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
            let info = SegmentInfo { directory: record.line, ..descriptor.info() };
            descriptor.set_info(info);
            self.store_leaf(array, bits, depth, leaf);
        }
        record.set_array(array, bits);
        RootWord { array, bits, depth }
    }

    /// Stores the directory words of a segment.
    pub(super) fn store_leaf(&self, array: u32, bits: u8, depth: u8, leaf: &Leaf) {
        let first = prefix_index(u64::from(leaf.prefix) << 32, depth, bits);
        let count = 1 << (bits - (leaf.depth - depth));
        for word in &self.array(array, bits)[first..first + count] {
            word.store(leaf.word.encode(), Ordering::Release);
        }
    }

    /// Copies the directory words of segments, which are stored, into the flat
    /// directory. With the structure lock held.
    pub(super) fn copy_words(&self, leaves: &[Leaf]) {
        let loaded = |hash| Some(self.word_under(self.root_word(hash)?, hash));
        self.flat.store(leaves, loaded);
    }

    /// Stores the root words of a directory page.
    pub(super) fn store_root_words(&self, word: RootWord, prefix: u32) {
        let (line, depth) = self.root();
        let first = prefix_index(u64::from(prefix) << 32, 0, depth);
        for i in first..first + (1 << (depth - word.depth)) {
            self.root_words(line, depth, i).0.store(word.encode(), Ordering::Release);
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
        for (i, word) in words[..4].iter().enumerate() {
            head[2 + i].store(*word, Ordering::Relaxed);
        }
        for (i, word) in words.iter().enumerate() {
            head[8 + i].store(*word, Ordering::Relaxed);
        }
        Ok(line)
    }

    /// Doubles the root: every word twice.
    pub(super) fn double_root(
        &self,
        lines: &mut Allocator,
        hasher: &crate::hash::Hasher,
    ) -> Result<()> {
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

    /// Halves the root if every word in it stands there twice. Says whether it
    /// did. As with doubling, what is loaded meanwhile waits for the lock.
    pub(super) fn halve_root(&self) -> Result<bool> {
        let mut lines = self.structure();
        let (old, depth) = self.root();
        if depth == 0 || !self.has_equal_pairs(old, depth) {
            return Ok(false);
        }
        let clears = self.arena.owned(old, 1)[1].load(Ordering::Relaxed) as u32;
        let new = self.new_root(&mut lines, depth - 1, &self.hasher(), clears)?;
        for i in 0..1 << (depth - 1) {
            let (word, disk) = self.root_words(old, depth, 2 * i);
            let (new_word, new_disk) = self.root_words(new, depth - 1, i);
            new_word.store(word.load(Ordering::Relaxed), Ordering::Relaxed);
            new_disk.store(disk.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.set_root(new);
        lines.retire(&self.epoch, old, root_lines(depth));
        Ok(true)
    }

    /// Whether no directory page is as deep as the root. One that is not
    /// loaded has as many equal entries as it is shallower.
    fn has_equal_pairs(&self, line: u32, depth: u8) -> bool {
        let mut i = 0;
        while i < 1 << depth {
            let (word, disk) = self.root_words(line, depth, i);
            match RootWord::decode(word.load(Ordering::Relaxed)) {
                Some(word) if word.depth == depth => return false,
                Some(word) => i += 1 << (depth - word.depth),
                None => {
                    let (_, other) = self.root_words(line, depth, i + 1);
                    if disk.load(Ordering::Relaxed) != other.load(Ordering::Relaxed) {
                        return false;
                    }
                    i += 2;
                }
            }
        }
        true
    }
}

/// The logarithm of the length of an array for these segments.
pub(super) fn array_bits(depth: u8, leaves: &[Leaf]) -> u8 {
    leaves.iter().map(|leaf| leaf.depth).max().unwrap_or(depth) - depth
}
