//! Holds a store against everything that must be true of it.
//!
//! Segments against their invariants and the table's sums; reserved blocks
//! against what is dirty; live log bytes against the addresses in slots; and
//! each block of the file against its owners: it is free, or it is reached
//! from memory or from the last header, never both and never neither.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::format::BLOCK;
use crate::format::directory::DirectoryPage;
use crate::table::Totals;
use crate::table::frames::State;
use crate::table::layout::{BlockRef, RootWord};
use crate::table::scan::{Scanned, SegmentCopy};

use super::checkpoint::Header;
use super::harness::{Model, Store, TABLE, scan};

impl Store {
    /// Everything, and that the table is equal to a model.
    pub(super) fn check(&self, model: &Model) {
        self.check_entries(model);
        for (key, value) in model {
            assert_eq!(self.get(key).unwrap().as_ref(), Some(value), "of key {key:?}");
        }
    }

    /// As [`Store::check`], where keys do not have the hash of the hasher.
    pub(super) fn check_entries(&self, model: &Model) {
        self.check_segments();
        self.check_live();
        assert_eq!(self.writer.table.len(), model.len() as u64);
        let entries = scan(&self.writer.table, &self.log).unwrap();
        let expected: BTreeMap<_, _> = model.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        assert!(entries == expected, "the scan shows other entries than there are");
        if self.ws.frozen.is_none() {
            self.check_reserved();
            self.check_blocks();
        }
    }

    /// The census of every segment, and their sums.
    pub(super) fn check_segments(&self) {
        let table = &self.writer.table;
        let (mut sums, mut from) = (Totals::default(), Some(0));
        while let Some(hash) = from {
            let word = table.route(hash).unwrap();
            let census = self.writer.census(word).unwrap();
            if let Some(breach) = census.breaches.first() {
                panic!("{} at {:?}: {}", breach.invariant, breach.place, breach.text);
            }
            sums.used += census.used as u64;
            sums.tombstones += census.tombstones as u64;
            sums.slots += u64::from(word.groups) * 8;
            sums.segments += 1;
            from = crate::table::scan::next_segment(hash, word.depth);
        }
        assert_eq!(sums, self.writer.totals);
    }

    /// The live bytes per log file.
    fn check_live(&self) {
        let table = &self.writer.table;
        let mut live: BTreeMap<u32, u64> = BTreeMap::new();
        let (mut copy, mut from) = (SegmentCopy::default(), Some(0));
        while let Some(hash) = from {
            let scanned = table.scan_segment(hash, table.clears(), &mut copy).unwrap();
            let Scanned::Whole(next) = scanned else { panic!("nobody is in the way") };
            from = next;
            for slot in (0..copy.len()).filter_map(|i| copy.get(i)) {
                if slot.lengths.spilled() {
                    let address = slot.address();
                    *live.entry(address.file).or_insert(0) += u64::from(address.len);
                }
            }
        }
        live.retain(|_, bytes| *bytes > 0);
        assert_eq!(live, self.writer.live);
    }

    /// A block is reserved for each dirty page and directory page, and the
    /// constant number for the next checkpoint.
    pub(super) fn check_reserved(&self) {
        let pool = &self.ws.pool;
        let frames = pool.of_table(TABLE);
        let count = |state| frames.iter().filter(|f| pool.info(**f).state == state).count();
        assert_eq!(count(State::Superseded), 0);
        assert_eq!(pool.dirty(), count(State::Dirty));
        assert_eq!(pool.in_use(), frames.len());
        let lines: HashSet<u32> = self.writer.dirty.iter().copied().collect();
        assert_eq!(lines.len(), self.writer.dirty.len(), "a directory page is dirty twice");
        let dirty = count(State::Dirty) + self.writer.dirty.len();
        assert_eq!(self.writer.blocks.reserved(), dirty + self.writer.standing);
    }

    /// Each block is free or in use, and nothing is used twice.
    pub(super) fn check_blocks(&self) {
        let free = self.writer.blocks.free_map();
        let is_free = |b: u32| free[b as usize / 64] >> (b % 64) & 1 == 1;
        let memory = self.blocks_of_memory();
        let disk = self.header.as_ref().map(|h| self.blocks_of_header(h)).unwrap_or_default();
        let total = self.writer.blocks.total();
        assert!(!is_free(0) && !is_free(1));
        for block in 2..total {
            let (in_memory, on_disk) = (memory.contains(&block), disk.contains(&block));
            assert_ne!(
                is_free(block),
                in_memory || on_disk,
                "block {block} of {total}: free {}, in memory {in_memory}, on disk {on_disk}",
                is_free(block)
            );
        }
        assert!(memory.iter().chain(&disk).all(|block| (2..total).contains(block)));
        // What is free by the bits: that, or retired and soon to be.
        let bits = free.iter().map(|word| word.count_ones()).sum::<u32>();
        assert!(self.writer.blocks.usage().free <= bits);
        let used = (0..total).filter(|block| !is_free(*block));
        assert!(used.max() <= Some(self.writer.blocks.highest_used()));
    }

    /// The blocks that memory reaches.
    fn blocks_of_memory(&self) -> BTreeSet<u32> {
        let mut owned = Owned(BTreeSet::new());
        for run in [self.writer.root_run, self.writer.map_run] {
            (run.block..run.block + run.blocks).for_each(|block| owned.add(block));
        }
        let table = &self.writer.table;
        let (line, depth) = table.root();
        let (mut i, mut unloaded) = (0, HashSet::new());
        while i < 1 << depth {
            let (word, disk) = table.root_words(line, depth, i);
            let Some(word) = RootWord::decode(word.load(std::sync::atomic::Ordering::Relaxed))
            else {
                let from = BlockRef::decode(disk.load(std::sync::atomic::Ordering::Relaxed));
                if unloaded.insert(from.block) {
                    self.add_directory(from.block, &mut owned);
                }
                i += 1;
                continue;
            };
            let record = table.record_of(word.array);
            assert!(record.is_alive());
            assert_eq!(record.is_dirty(), record.block().block == 0);
            if !record.is_dirty() {
                owned.add(record.block().block);
            }
            for leaf in table.leaves(record) {
                let descriptor = table.descriptor(leaf.word.descriptor);
                assert_eq!(descriptor.info().directory, record.line);
                for page in 0..usize::from(leaf.pages) {
                    let word = descriptor.page(page);
                    if !word.is_frame() {
                        owned.add(word.number());
                    } else if self.ws.pool.info(word.number()).state == State::Clean {
                        owned.add(self.ws.pool.info(word.number()).block);
                    }
                }
            }
            i += 1 << (depth - word.depth);
        }
        owned.0
    }

    /// The blocks that a header reaches.
    fn blocks_of_header(&self, header: &Header) -> BTreeSet<u32> {
        let mut owned = Owned(BTreeSet::new());
        for run in [header.root, header.map] {
            (run.block..run.block + run.blocks).for_each(|block| owned.add(block));
        }
        let (entries, _) = self.read_root(header);
        let pages: BTreeSet<u32> = entries.iter().map(|entry| entry.block).collect();
        pages.into_iter().for_each(|block| self.add_directory(block, &mut owned));
        owned.0
    }

    fn add_directory(&self, block: u32, owned: &mut Owned) {
        owned.add(block);
        let bytes: Box<[u8; BLOCK]> = self.read(block, 1).try_into().unwrap();
        let page = DirectoryPage::decode(&bytes).unwrap();
        for segment in page.segments {
            segment.pages.iter().for_each(|page| owned.add(page.block));
        }
    }
}

/// Blocks, each with one owner.
struct Owned(BTreeSet<u32>);

impl Owned {
    fn add(&mut self, block: u32) {
        assert!(self.0.insert(block), "block {block} has two owners");
    }
}
