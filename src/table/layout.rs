//! How root, directory and descriptors lie in the arena.
//!
//! ```text
//! root        line 0   depth u8, hash id u8 | clears | hasher words 0..4
//!             line 1   hasher words 0..8
//!             then     2^depth root words, then 2^depth disk words
//! root word   line of a directory array u32 | log2 of its length u8 | depth u8
//!             | its length less one, 9 bits | bits of a hash behind its index, 6 bits | loaded
//! disk word   block u32 | crc u32 of a directory page that is not loaded
//!
//! array       line 0   line of its directory record
//!             then     directory words: descriptor u32 | local depth u8 | groups u16, on top
//! directory   1 line   prefix u32, depth u8, alive, dirty | block, crc
//! record               | dirty generation | captured generation | array | bytes on disk
//!
//! descriptor  1 line   16 page words u32: frame (bit 31), unverified (bit 30), number
//!   cold      line 0   16 checksums u32 of the blocks
//!   lines     line 1   used u16, tombstones u16, pages u8, depth u8 | prefix u32, directory record u32
//!                      | generation of the mask | mask of pages writable in place
//! ```
//!
//! Readers load root words, directory words and descriptors; the rest belongs
//! to the writer, except that a reader who checks a page loads its checksum.
//! What only the writer needs of a descriptor lies apart, so that the lines
//! that readers load are neighbours and use every set of the cache.
//! This module encodes and decodes; it follows nothing.

use std::sync::atomic::{AtomicU64, Ordering};

/// Lines of a descriptor.
pub(crate) const DESCRIPTOR_LINES: usize = 1;
/// Lines before the root words.
pub(crate) const ROOT_HEAD: usize = 2;
/// Directory words of an array at most, as a logarithm.
pub(crate) const MAX_ARRAY_BITS: u8 = 9;

const LOADED: u64 = 1 << 63;

/// The number of lines of a root.
pub(crate) fn root_lines(depth: u8) -> usize {
    ROOT_HEAD + 2 * (1usize << depth).div_ceil(8)
}

/// The number of lines of a directory array.
pub(crate) fn array_lines(bits: u8) -> usize {
    1 + (1usize << bits).div_ceil(8)
}

/// The number of lines that a directory takes when all of its pages are loaded, at
/// most. Each segment has a block for itself.
pub(crate) fn directory_lines(root_depth: u8, pages: usize, blocks: u32) -> usize {
    let array = array_lines(MAX_ARRAY_BITS).next_power_of_two();
    let segments = (pages << MAX_ARRAY_BITS).min(blocks as usize);
    root_lines(root_depth).next_power_of_two() + pages * (1 + array) + segments
}

/// The first `bits` bits of a hash whose first `skip` bits are passed over.
#[inline]
pub(crate) fn prefix_index(hash: u64, skip: u8, bits: u8) -> usize {
    ((hash << (skip & 63) >> 1) >> (63 - (bits & 63))) as usize
}

/// The hash bits 63 to 32 of which the first `depth` are the prefix.
#[inline]
pub(crate) fn prefix_of(hash: u64, depth: u8) -> u32 {
    let top = (hash >> 32) as u32;
    if depth == 0 { 0 } else { top & (u32::MAX << (32 - depth.min(32))) }
}

/// A loaded root word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RootWord {
    pub(crate) array: u32,
    pub(crate) bits: u8,
    pub(crate) depth: u8,
}

impl RootWord {
    #[inline]
    pub(crate) fn decode(word: u64) -> Option<RootWord> {
        (word & LOADED != 0).then_some(RootWord {
            array: word as u32,
            bits: (word >> 32) as u8,
            depth: (word >> 40) as u8,
        })
    }

    /// The last two fields follow from the others: they spare every lookup
    /// to compute them.
    pub(crate) fn encode(self) -> u64 {
        let mask = (1u64 << self.bits) - 1;
        let behind = u64::from(64 - self.depth - self.bits) % 64;
        let fields = u64::from(self.bits) << 32 | u64::from(self.depth) << 40;
        LOADED | u64::from(self.array) | fields | mask << 48 | behind << 57
    }

    /// The index of a hash in the array of a root word, if it is loaded.
    #[inline(always)]
    pub(crate) fn index_in(word: u64, hash: u64) -> usize {
        (hash.wrapping_shr((word >> 57) as u32) & (word >> 48 & 0x1ff)) as usize
    }
}

/// A directory word: a segment, as readers find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DirectoryWord {
    pub(crate) descriptor: u32,
    pub(crate) groups: u16,
    pub(crate) depth: u8,
}

impl DirectoryWord {
    #[inline]
    pub(crate) fn decode(word: u64) -> DirectoryWord {
        DirectoryWord {
            descriptor: word as u32,
            groups: (word >> 48) as u16,
            depth: (word >> 32) as u8,
        }
    }

    pub(crate) fn encode(self) -> u64 {
        u64::from(self.descriptor) | u64::from(self.groups) << 48 | u64::from(self.depth) << 32
    }
}

/// Where a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageWord(pub(crate) u32);

impl PageWord {
    const FRAME: u32 = 1 << 31;
    const UNVERIFIED: u32 = 1 << 30;

    pub(crate) fn frame(number: u32) -> PageWord {
        PageWord(Self::FRAME | number)
    }

    pub(crate) fn unverified_block(number: u32) -> PageWord {
        PageWord(Self::UNVERIFIED | number)
    }

    #[inline]
    pub(crate) fn is_frame(self) -> bool {
        self.0 & Self::FRAME != 0
    }

    /// The number of a frame. Of what is none it is larger than any frame's.
    #[inline(always)]
    pub(crate) fn frame_number(self) -> u32 {
        self.0 ^ Self::FRAME
    }

    #[inline]
    pub(crate) fn is_unverified(self) -> bool {
        self.0 & Self::UNVERIFIED != 0
    }

    pub(crate) fn verified(self) -> PageWord {
        PageWord(self.0 & !Self::UNVERIFIED)
    }

    #[inline]
    pub(crate) fn number(self) -> u32 {
        self.0 & (Self::UNVERIFIED - 1)
    }
}

/// Thirty-two-bit field `i` of a run of words.
#[inline]
pub(crate) fn load_u32(words: &[AtomicU64], i: usize, order: Ordering) -> u32 {
    (words[i / 2].load(order) >> (32 * (i & 1))) as u32
}

fn with_u32(word: u64, i: usize, value: u32) -> u64 {
    let shift = 32 * (i & 1);
    word & !(0xffff_ffff << shift) | u64::from(value) << shift
}

/// Stores a field that readers may be clearing a flag beside: a loop of
/// compare-exchanges, so that neither change is lost.
pub(crate) fn store_u32(words: &[AtomicU64], i: usize, value: u32) {
    let update = |word| Some(with_u32(word, i, value));
    let _ = words[i / 2].fetch_update(Ordering::Release, Ordering::Relaxed, update);
}

/// Replaces a field if it still is what the caller saw; a neighbour that
/// changes meanwhile only makes this try again.
pub(crate) fn exchange_u32(words: &[AtomicU64], i: usize, seen: u32, value: u32) -> bool {
    let update = |word: u64| {
        let now = (word >> (32 * (i & 1))) as u32;
        (now == seen).then(|| with_u32(word, i, value))
    };
    words[i / 2].fetch_update(Ordering::Release, Ordering::Relaxed, update).is_ok()
}

/// A page word in a descriptor's line.
#[inline(always)]
pub(crate) fn page_word(line: &[AtomicU64], page: usize) -> PageWord {
    // As many as a line has; a segment has no more pages.
    let pair = two_page_words(line, page / 2 % 8);
    PageWord((pair >> (32 * (page & 1))) as u32)
}

/// The page words of one word of a descriptor's line.
#[inline(always)]
pub(crate) fn two_page_words(line: &[AtomicU64], i: usize) -> u64 {
    line[i].load(Ordering::Acquire)
}

/// The writer's line of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentInfo {
    pub(crate) used: u16,
    pub(crate) tombstones: u16,
    pub(crate) pages: u8,
    pub(crate) depth: u8,
    pub(crate) prefix: u32,
    pub(crate) directory: u32,
}

impl SegmentInfo {
    /// The last hash that belongs to the segment.
    pub(crate) fn last_hash(&self) -> u64 {
        u64::from(self.prefix) << 32 | u64::MAX >> self.depth
    }
}

/// A descriptor's line, and its two cold ones.
#[derive(Clone, Copy)]
pub(crate) struct Descriptor<'a> {
    pub(crate) line: u32,
    hot: &'a [AtomicU64],
    cold: &'a [AtomicU64],
}

impl<'a> Descriptor<'a> {
    #[inline]
    pub(crate) fn new(line: u32, hot: &'a [AtomicU64], cold: &'a [AtomicU64]) -> Descriptor<'a> {
        debug_assert!(hot.len() == 8 && cold.len() == 16);
        Descriptor { line, hot, cold }
    }

    #[inline]
    pub(crate) fn page(&self, page: usize) -> PageWord {
        page_word(self.hot, page)
    }

    pub(crate) fn set_page(&self, page: usize, word: PageWord) {
        store_u32(self.hot, page, word.0);
    }

    /// Replaces a page word if it still is what the caller saw.
    pub(crate) fn exchange_page(&self, page: usize, seen: PageWord, word: PageWord) -> bool {
        exchange_u32(self.hot, page, seen.0, word.0)
    }

    pub(crate) fn crc(&self, page: usize) -> u32 {
        load_u32(self.cold, page, Ordering::Relaxed)
    }

    pub(crate) fn set_crc(&self, page: usize, crc: u32) {
        store_u32(self.cold, page, crc);
    }

    #[inline]
    pub(crate) fn info(&self) -> SegmentInfo {
        let (a, b) = (self.get(8), self.get(9));
        SegmentInfo {
            used: a as u16,
            tombstones: (a >> 16) as u16,
            pages: (a >> 32) as u8,
            depth: (a >> 40) as u8,
            prefix: b as u32,
            directory: (b >> 32) as u32,
        }
    }

    pub(crate) fn set_info(&self, info: SegmentInfo) {
        let counts = u64::from(info.used) | u64::from(info.tombstones) << 16;
        self.set(8, counts | u64::from(info.pages) << 32 | u64::from(info.depth) << 40);
        self.set(9, u64::from(info.prefix) | u64::from(info.directory) << 32);
    }

    /// Sets what [`info`](Descriptor::info) says of used slots and tombstones.
    #[inline]
    pub(crate) fn set_counts(&self, used: u16, tombstones: u16) {
        let rest = self.get(8) & !0xffff_ffff;
        self.set(8, rest | u64::from(used) | u64::from(tombstones) << 16);
    }

    /// Whether a page may be changed in place in this generation.
    #[inline]
    pub(crate) fn is_writable(&self, page: usize, generation: u64) -> bool {
        self.get(10) == generation && self.get(11) >> page & 1 == 1
    }

    /// The pages that may, a bit per page.
    #[inline]
    pub(crate) fn writable(&self, generation: u64) -> u64 {
        if self.get(10) == generation { self.get(11) } else { 0 }
    }

    pub(crate) fn set_writable(&self, page: usize, generation: u64) {
        let mask = if self.get(10) == generation { self.get(11) } else { 0 };
        self.set(10, generation);
        self.set(11, mask | 1 << page);
    }

    #[inline]
    fn get(&self, word: usize) -> u64 {
        self.cold[word].load(Ordering::Relaxed)
    }

    #[inline]
    fn set(&self, word: usize, value: u64) {
        self.cold[word].store(value, Ordering::Relaxed);
    }
}

/// The writer's record of a directory page: one line.
#[derive(Clone, Copy)]
pub(crate) struct DirectoryRecord<'a> {
    pub(crate) line: u32,
    words: &'a [AtomicU64],
}

/// The block and checksum of something on disk; block 0 is "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct BlockRef {
    pub(crate) block: u32,
    pub(crate) crc: u32,
}

impl BlockRef {
    pub(crate) fn encode(self) -> u64 {
        u64::from(self.block) | u64::from(self.crc) << 32
    }

    pub(crate) fn decode(word: u64) -> BlockRef {
        BlockRef { block: word as u32, crc: (word >> 32) as u32 }
    }
}

impl<'a> DirectoryRecord<'a> {
    const ALIVE: u64 = 1 << 40;
    const DIRTY: u64 = 1 << 41;

    pub(crate) fn new(line: u32, words: &'a [AtomicU64]) -> DirectoryRecord<'a> {
        DirectoryRecord { line, words }
    }

    pub(crate) fn init(&self, prefix: u32, depth: u8) {
        self.set(0, u64::from(prefix) | u64::from(depth) << 32 | Self::ALIVE);
    }

    pub(crate) fn prefix(&self) -> u32 {
        self.get(0) as u32
    }

    pub(crate) fn depth(&self) -> u8 {
        (self.get(0) >> 32) as u8
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.get(0) & Self::ALIVE != 0
    }

    pub(crate) fn kill(&self) {
        self.set(0, self.get(0) & !Self::ALIVE);
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.get(0) & Self::DIRTY != 0
    }

    pub(crate) fn set_dirty(&self, dirty: bool) {
        let rest = self.get(0) & !Self::DIRTY;
        self.set(0, rest | if dirty { Self::DIRTY } else { 0 });
    }

    pub(crate) fn block(&self) -> BlockRef {
        BlockRef::decode(self.get(1))
    }

    pub(crate) fn set_block(&self, block: BlockRef) {
        self.set(1, block.encode());
    }

    pub(crate) fn dirty_generation(&self) -> u64 {
        self.get(2)
    }

    pub(crate) fn set_dirty_generation(&self, generation: u64) {
        self.set(2, generation);
    }

    pub(crate) fn captured(&self) -> u64 {
        self.get(3)
    }

    pub(crate) fn set_captured(&self, generation: u64) {
        self.set(3, generation);
    }

    /// The array and the logarithm of its length.
    pub(crate) fn array(&self) -> (u32, u8) {
        let word = self.get(4);
        (word as u32, (word >> 32) as u8)
    }

    pub(crate) fn set_array(&self, array: u32, bits: u8) {
        self.set(4, u64::from(array) | u64::from(bits) << 32);
    }

    fn get(&self, word: usize) -> u64 {
        self.words[word].load(Ordering::Relaxed)
    }

    fn set(&self, word: usize, value: u64) {
        self.words[word].store(value, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_encoding() {
        let root = RootWord { array: u32::MAX, bits: 9, depth: 23 };
        for (bits, depth) in [(0, 0), (0, 7), (9, 0), (3, 5), (9, 23), (9, 32)] {
            let word = RootWord { array: 1, bits, depth }.encode();
            let hash = 0x9e37_79b9_7f4a_7c15;
            assert_eq!(RootWord::index_in(word, hash), prefix_index(hash, depth, bits));
        }
        assert_eq!(RootWord::decode(root.encode()), Some(root));
        assert_eq!(RootWord::decode(0), None);
        let word = DirectoryWord { descriptor: u32::MAX, groups: 256, depth: 32 };
        assert_eq!(DirectoryWord::decode(word.encode()), word);
    }

    #[test]
    fn a_prefix_index_takes_the_bits_from_the_top() {
        let hash = 0xABCD_0000_0000_0000;
        assert_eq!(prefix_index(hash, 0, 0), 0);
        assert_eq!(prefix_index(hash, 0, 4), 0xA);
        assert_eq!(prefix_index(hash, 4, 4), 0xB);
        assert_eq!(prefix_index(hash, 8, 8), 0xCD);
        assert_eq!(prefix_of(hash, 0), 0);
        assert_eq!(prefix_of(hash, 8), 0xAB00_0000);
        assert_eq!(prefix_of(u64::MAX, 32), u32::MAX);
    }

    #[test]
    fn a_flag_is_cleared_only_from_the_word_that_was_checked() {
        let words = [const { AtomicU64::new(0) }; 24];
        let descriptor = Descriptor::new(0, &words[..8], &words[8..]);
        let seen = PageWord::unverified_block(7);
        descriptor.set_page(3, seen);
        descriptor.set_page(2, PageWord::frame(9));
        assert!(descriptor.exchange_page(3, seen, seen.verified()));
        assert!(!descriptor.exchange_page(3, seen, seen.verified()));
        assert_eq!(descriptor.page(3), PageWord(7));
        assert_eq!(descriptor.page(2), PageWord::frame(9));
    }
}
