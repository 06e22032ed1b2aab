//! The directory words once more, in one flat array.
//!
//! From a root word to an array to a directory word are two loads, one of which
//! waits for the other. The *flat directory* has the directory words side by side,
//! one for each hash prefix of some depth, as extendible hashing is drawn in books.
//! So a reader needs a shift and a load. It is in memory only; root and arrays
//! are what is true, and what becomes of the directory pages of the file.
//!
//! ```text
//! word      1      2   3      4   5   6   7      8 ...
//! depth     0      1          2                  3
//! prefix           0   1      00  01  10  11     000 ...
//! ```
//!
//! The word of a hash is found at its first bits with a 1 before them. So the
//! array of each depth has a place of its own, and one number says all that a
//! reader has to know. A word of 0 says that there is no copy: nobody has loaded
//! that page of the directory, or there are segments of longer prefixes than the
//! array has. The lookup then goes by the root. Depth 0 has no copies at all.
//!
//! # Invariants
//!
//! 1. A word that is not 0 is the directory word of all hashes with its prefix,
//!    once the structure lock is free.
//! 2. The array is not much longer than there are segments, whatever the hashes.
//!
//! # Why a reader may believe it
//!
//! Copies are stored with the structure lock held, behind the words that they are
//! copies of, and before the writer changes one of the new segments. Until then a
//! reader comes to the new segment or to the one that it replaces, and finds the
//! same entries in both. An array of another depth is complete before its depth is
//! stored. A reader who still goes by the one before finds each segment as it was
//! then, which is after the reader began. Where a new root takes the place of
//! one, for other hashes, nothing is found here from before that until after.
//! What was followed into memory that is used again the epoch tells.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::storage::Map;

use super::directory::Leaf;
use super::layout::{DirectoryWord, prefix_index};

/// Bits of a hash that an array goes by, at most: those of some hundred millions
/// of entries with a copy for each segment.
const MAX_DEPTH: u8 = if cfg!(miri) { 10 } else { 24 };
/// The same at least.
const MAX_DEPTH_LEAST: u8 = 10;
/// Bytes for each bit pattern of the longest prefixes: their own word, and one of all
/// those that are shorter.
const WIDTH: usize = 16;
/// Up to this depth an array may be as sparse as it likes.
const SMALL_DEPTH: u8 = 6;
/// A longer one has a segment for each so many words, at least.
const SPARSEST: usize = 16;

/// Copies of a table's directory words.
pub(crate) struct Flat {
    words: Map,
    /// How far a hash with a 1 before it is shifted: 63 less the depth.
    shift: AtomicU64,
    max_depth: u8,
    /// How many segments are still missing to a longer array, since one that some
    /// need was refused; 0 if none was.
    missing: AtomicUsize,
}

impl Flat {
    /// One without copies, for a directory of so many lines now: long enough for
    /// four words for each, as far as it may be.
    ///
    /// # Errors
    ///
    /// What the operating system says to the wish for addresses.
    pub(crate) fn new(lines: usize) -> io::Result<Flat> {
        let least = lines.saturating_mul(4).clamp(1 << MAX_DEPTH_LEAST, 1 << MAX_DEPTH);
        let words = Map::reserved(WIDTH << MAX_DEPTH, WIDTH * least.next_power_of_two())?;
        Ok(Flat::of(words))
    }

    /// One that has room for a single copy: of a table that stands still, where
    /// nobody looks for one.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub(crate) fn without_room() -> io::Result<Flat> {
        Ok(Flat::of(Map::anonymous(WIDTH)?))
    }

    fn of(words: Map) -> Flat {
        let max_depth = (words.words().len() * 8 / WIDTH).ilog2() as u8;
        Flat { words, shift: AtomicU64::new(63), max_depth, missing: AtomicUsize::new(0) }
    }

    /// The bytes of addresses that are reserved.
    #[cfg(test)]
    pub(super) fn reserved(&self) -> usize {
        self.words.len()
    }

    /// All words, and the place of that of a hash, which is one of them.
    #[inline(always)]
    pub(crate) fn find(&self, hash: u64) -> (&[AtomicU64], usize) {
        let shift = self.shift.load(Ordering::Acquire);
        let index = (hash >> 1 | 1 << 63) >> (shift & 63);
        debug_assert!(index < 2 << self.max_depth);
        (self.words.words(), index as usize)
    }

    fn depth(&self) -> u8 {
        63 - self.shift.load(Ordering::Relaxed) as u8
    }

    /// The words of an array.
    fn array(&self, depth: u8) -> &[AtomicU64] {
        &self.words.words()[1 << depth..2 << depth]
    }

    /// Nothing is found here any more. Before another root is stored.
    pub(crate) fn forget(&self) {
        self.shift.store(63, Ordering::Release);
        self.missing.store(0, Ordering::Relaxed);
    }

    /// Copies the directory words of segments, which are stored already. With
    /// the structure lock held. `word` is asked for the directory word of a hash,
    /// if it is loaded.
    pub(crate) fn store(&self, leaves: &[Leaf], word: impl Fn(u64) -> Option<DirectoryWord>) {
        let deepest = leaves.iter().map(|leaf| leaf.depth).max().unwrap_or(0).max(1);
        let mut missing = self.missing.load(Ordering::Relaxed);
        let refused = missing > 0;
        missing = missing.saturating_sub(leaves.len());
        while self.depth() < deepest && missing == 0 {
            missing = self.missing();
            if missing == 0 {
                self.deepen();
                if refused {
                    self.copy_missing(&word);
                }
            }
        }
        // From the first refusal on there are segments without a copy.
        self.missing.store(missing.max(usize::from(refused)), Ordering::Relaxed);
        let depth = self.depth();
        for leaf in leaves {
            let first = prefix_index(u64::from(leaf.prefix) << 32, 0, depth);
            // Segments of longer prefixes share a word.
            let (count, word) = match depth.checked_sub(leaf.depth) {
                Some(less) => (1 << less, leaf.word.encode()),
                None => (1, 0),
            };
            for copy in &self.array(depth)[first..first + count] {
                copy.store(word, Ordering::Release);
            }
        }
    }

    /// Whether the copies of a directory word are all there, if there are any.
    pub(crate) fn agrees_with(&self, leaf: &Leaf) -> bool {
        let depth = self.depth();
        let first = prefix_index(u64::from(leaf.prefix) << 32, 0, depth);
        let count = 1 << depth.saturating_sub(leaf.depth);
        let word = if depth < leaf.depth { 0 } else { leaf.word.encode() };
        let mut copies = self.array(depth)[first..first + count].iter();
        depth == 0 || copies.all(|copy| copy.load(Ordering::Relaxed) == word)
    }

    /// How many segments are missing to an array that is twice as long.
    fn missing(&self) -> usize {
        let depth = self.depth();
        if depth >= self.max_depth {
            return usize::MAX;
        }
        if depth < SMALL_DEPTH {
            return 0;
        }
        // What has no copy yet may be any number of segments.
        let mut last = 0;
        let mut is_another = |word: u64| word == 0 || word != std::mem::replace(&mut last, word);
        let words = self.array(depth).iter().map(|word| word.load(Ordering::Relaxed));
        let segments = words.filter(|word| is_another(*word)).count();
        ((1 << depth) / SPARSEST).saturating_sub(segments)
    }

    /// Copies the words of segments for which the array was not long enough so far.
    fn copy_missing(&self, word: impl Fn(u64) -> Option<DirectoryWord>) {
        let depth = self.depth();
        for (prefix, copy) in self.array(depth).iter().enumerate() {
            if copy.load(Ordering::Relaxed) == 0
                && let Some(word) = word((prefix as u64) << (64 - depth))
                && word.depth <= depth
            {
                copy.store(word.encode(), Ordering::Release);
            }
        }
    }

    /// Makes the array twice as long: each word twice.
    fn deepen(&self) {
        let depth = self.depth();
        let pairs = self.array(depth + 1).chunks_exact(2);
        for (word, pair) in self.array(depth).iter().zip(pairs) {
            let word = word.load(Ordering::Relaxed);
            // Memory that was never used stays so where there is nothing to store.
            for copy in pair.iter().filter(|copy| copy.load(Ordering::Relaxed) != word) {
                copy.store(word, Ordering::Relaxed);
            }
        }
        self.shift.store(63 - u64::from(depth + 1), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::table::layout::DirectoryWord;

    fn leaf(prefix: u32, depth: u8, descriptor: u32) -> Leaf {
        Leaf { prefix, depth, pages: 1, word: DirectoryWord { descriptor, groups: 9, depth } }
    }

    fn found(flat: &Flat, hash: u64) -> Option<u32> {
        let (words, at) = flat.find(hash);
        let word = words[at].load(Ordering::Relaxed);
        (word != 0).then(|| DirectoryWord::decode(word).descriptor)
    }

    #[test]
    fn a_hash_leads_to_the_segment_of_its_prefix() {
        let flat = Flat::new(0).unwrap();
        assert_eq!(found(&flat, 0), None);
        flat.store(&[leaf(0, 0, 7)], |_| None);
        assert_eq!((found(&flat, 0), found(&flat, u64::MAX)), (Some(7), Some(7)));
        flat.store(&[leaf(0, 1, 8), leaf(0x8000_0000, 2, 9), leaf(0xC000_0000, 2, 10)], |_| None);
        let top = |bits: u64| found(&flat, bits << 60);
        assert_eq!(
            [top(0), top(7), top(8), top(11), top(12), top(15)].map(Option::unwrap),
            [8, 8, 9, 9, 10, 10]
        );
        // Two become one again.
        flat.store(&[leaf(0x8000_0000, 1, 11)], |_| None);
        assert_eq!([top(7), top(8), top(15)].map(Option::unwrap), [8, 11, 11]);
    }

    #[test]
    fn what_is_not_loaded_has_no_copy_and_nothing_has_after_forgetting() {
        let flat = Flat::new(0).unwrap();
        flat.store(&[leaf(0x4000_0000, 9, 3)], |_| None);
        assert_eq!((found(&flat, 0x4000 << 48), found(&flat, 0)), (Some(3), None));
        assert_eq!(found(&flat, 0x4080 << 48), None);
        flat.forget();
        assert_eq!(found(&flat, 0x4000 << 48), None);
        flat.store(&[leaf(0, 0, 4)], |_| None);
        assert_eq!(found(&flat, 0x4000 << 48), Some(4));
    }

    #[test]
    fn a_few_long_prefixes_do_not_make_a_long_array() {
        let flat = Flat::new(0).unwrap();
        flat.store(&[leaf(0, 0, 1)], |_| None);
        for depth in 1..=32 {
            // The segment of hash 0 is split, again and again.
            let other = if depth < 32 { 1u32 << (32 - depth) } else { 1 };
            flat.store(&[leaf(0, depth, 2), leaf(other, depth, 2 + u32::from(depth))], |_| None);
        }
        assert!(flat.depth() <= 9, "{}", flat.depth());
        assert_eq!(found(&flat, 0), None);
        assert_eq!(found(&flat, 1 << 63), Some(3));
        assert_eq!(found(&flat, 1 << 62), Some(4));
    }

    #[test]
    fn what_an_array_was_too_short_for_is_copied_when_it_is_longer() {
        let flat = Flat::new(0).unwrap();
        flat.store(&[leaf(0, 0, 1)], |_| None);
        // Segments of seven bits from the left, the rest still one of none.
        let segments = 1u32 << 7;
        let mut depths = Vec::new();
        for i in 0..segments {
            let word = |hash: u64| {
                (hash >> 57 <= i.into()).then(|| leaf(0, 7, 100 + (hash >> 57) as u32).word)
            };
            flat.store(&[leaf(i << 25, 7, 100 + i)], word);
            depths.push(flat.depth());
        }
        assert!(depths[0] == 6 && flat.depth() == 7, "{depths:?}");
        for i in 0..segments {
            assert_eq!(found(&flat, u64::from(i) << 57), Some(100 + i));
        }
    }

    /// Segments by their prefixes, those of some directory pages not loaded.
    struct Directory {
        flat: Flat,
        leaves: BTreeMap<u32, Leaf>,
        /// By the first three bits.
        loaded: [bool; 8],
        made: u32,
    }

    impl Directory {
        /// One without an entry, as after clearing.
        fn clear(&mut self) {
            self.flat.forget();
            (self.leaves, self.loaded) = (BTreeMap::new(), [true; 8]);
            self.put(&[(0, 0)]);
        }

        /// One as it is when the table is opened: a segment a page.
        fn open(&mut self) {
            self.flat.forget();
            self.leaves = (0..8).map(|page| (page << 29, leaf(page << 29, 3, page + 1))).collect();
            self.loaded = [false; 8];
            self.flat.store(&[], |_| None);
        }

        fn of(&self, hash: u64) -> Leaf {
            *self.leaves.range(..=(hash >> 32) as u32).next_back().unwrap().1
        }

        /// Loads the page of a hash, if it is not.
        fn load(&mut self, hash: u64) {
            let page = (hash >> 61) as u32;
            if !std::mem::replace(&mut self.loaded[page as usize], true) {
                self.store(&[self.of(hash)]);
            }
        }

        /// Puts new segments in the place of those that they cover.
        fn put(&mut self, new: &[(u32, u8)]) {
            let mut leaves = Vec::new();
            for (prefix, depth) in new {
                let last = prefix | (u64::from(u32::MAX) >> depth) as u32;
                self.leaves.retain(|other, _| !(prefix..=&last).contains(&other));
                self.made += 1;
                leaves.push(leaf(*prefix, *depth, self.made));
            }
            self.leaves.extend(leaves.iter().map(|leaf| (leaf.prefix, *leaf)));
            self.store(&leaves);
        }

        fn store(&self, leaves: &[Leaf]) {
            let loaded = |hash: u64| self.loaded[(hash >> 61) as usize].then(|| self.of(hash).word);
            self.flat.store(leaves, loaded);
        }

        fn check(&self, hash: u64) {
            let leaf = self.of(hash);
            let there = self.loaded[(hash >> 61) as usize] && leaf.depth <= self.flat.depth();
            let expected = there.then_some(leaf.word.descriptor);
            assert_eq!(found(&self.flat, hash), expected, "{hash:016x}, {leaf:?}");
        }
    }

    #[test]
    fn whatever_becomes_of_segments_each_hash_leads_to_its_own_or_nowhere() {
        let mut random = 1u64;
        let mut next = move || {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            random ^ random >> 33
        };
        let (flat, leaves) = (Flat::new(0).unwrap(), BTreeMap::new());
        let mut directory = Directory { flat, leaves, loaded: [true; 8], made: 100 };
        directory.clear();
        let rounds = if cfg!(miri) { 300 } else { 20_000 };
        for round in 0..rounds {
            // Often low in the table, so that there are long prefixes, and few.
            let low = next() % 3 == 0;
            let hash = if low { next() >> (next() % 40) } else { next() };
            directory.load(hash);
            let Leaf { prefix, depth, .. } = directory.of(hash);
            let half = 1u32.checked_shl(31 - u32::from(depth.min(31))).unwrap_or(0);
            match next() % 1_000 {
                0 if round % 2 == 0 => directory.clear(),
                0 => directory.open(),
                // Two halves, or one whole of whatever the other half is made of.
                1..600 if depth < 14 => {
                    directory.put(&[(prefix, depth + 1), (prefix | half, depth + 1)]);
                }
                600..800 if depth > 3 => {
                    let bit = 1u32 << (32 - u32::from(depth));
                    directory.put(&[(prefix & !bit, depth - 1)]);
                }
                _ => directory.put(&[(prefix, depth)]),
            }
            directory.check(hash);
            directory.check(hash ^ next() >> (next() % 40));
        }
        assert!(directory.flat.depth() > 6, "{}", directory.flat.depth());
    }
}
