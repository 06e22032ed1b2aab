//! From the header to the pages, past everything that is damaged.
//!
//! ```text
//! root ──► directory pages ──► segments ──► pages
//!   x           x                              x
//!   │           │                              └─ a hole: what was in that page
//!   │           └─ the pages under it are those in use that nobody reaches
//!   └─ directory pages speak for themselves: of those for the same prefixes
//!      the one of the newest generation counts
//! ```
//!
//! The checksums above a page are believed where they hold, and not needed
//! where they do not: a sound page that the free map calls in use, and that no
//! sound directory page names, belongs under a damaged one.
//!
//! # Holes
//!
//! A hole is a range of hashes of which not everything could be read. What was
//! in it is looked for elsewhere, in older pages and in the log. For a segment
//! that lacks some of its pages, a hash is in the hole only if the search for
//! it comes to a missing page: if it meets a group with an empty slot before,
//! the entry was either there or it did not exist.

use std::collections::BTreeMap;

use crate::format::directory::{DirectoryPage, MAX_DEPTH, SegmentRecord, decode_root};
use crate::format::group::{Geometry, PageRecord, Probe, page_crc, stored_page_crc};
use crate::format::{crc32, u64_at};

use super::blocks::Bytes;
use super::page;
use super::table::TableFile;

/// A set of blocks.
pub(super) struct BlockSet(Vec<u64>);

impl BlockSet {
    fn new(blocks: u32) -> BlockSet {
        BlockSet(vec![0; blocks as usize / 64 + 1])
    }

    fn add(&mut self, block: u32) {
        if let Some(word) = self.0.get_mut(block as usize / 64) {
            *word |= 1 << (block % 64);
        }
    }

    pub(super) fn has(&self, block: u32) -> bool {
        self.0.get(block as usize / 64).is_some_and(|word| word >> (block % 64) & 1 == 1)
    }
}

/// A range of hash prefixes of which something is missing.
pub(super) struct Hole {
    end: u64,
    /// For each group of the segment, whether a search ends in it; `None` for
    /// those that are missing. Empty if no segment is known there.
    groups: Vec<Option<bool>>,
}

impl Hole {
    fn may_have_held(&self, hash: u64) -> bool {
        if hash >> 32 >= self.end {
            return false;
        }
        for group in Probe::new(hash, self.groups.len()) {
            match self.groups[group] {
                None => return true,
                Some(true) => return false,
                Some(false) => {}
            }
        }
        self.groups.is_empty()
    }
}

/// What a table file was found to be above its pages.
pub(super) struct Tree {
    /// Segments, each with the first prefix of its range.
    pub(super) segments: Vec<(u64, SegmentRecord)>,
    /// By the first prefix of each.
    pub(super) holes: BTreeMap<u64, Hole>,
    /// Where no root says which directory pages count: the first prefix of each
    /// segment, and the low half of the generation of the page that names it.
    gathered: BTreeMap<u64, u32>,
    /// Blocks of which it is known what they are or were.
    pub(super) known: BlockSet,
    pub(super) directory_pages_damaged: u64,
    pub(super) root_damaged: bool,
}

impl Tree {
    /// Reads the tree of a table file.
    pub(super) fn read(table: &TableFile) -> Tree {
        let mut tree = Tree {
            segments: Vec::new(),
            holes: BTreeMap::new(),
            gathered: BTreeMap::new(),
            known: BlockSet::new(table.blocks.count()),
            directory_pages_damaged: 0,
            root_damaged: false,
        };
        tree.known.add(0);
        tree.known.add(1);
        if let Some(header) = &table.header {
            for run in [header.root, header.free_map] {
                let blocks = run.block..run.block.saturating_add(run.blocks);
                blocks.take_while(|b| *b < table.blocks.count()).for_each(|b| tree.known.add(b));
            }
        }
        if !tree.follow_root(table) {
            tree.root_damaged = table.header.is_some();
            tree.gather(table);
        }
        tree
    }

    /// Reads the directory pages that the root names. `false` if there is no
    /// root.
    fn follow_root(&mut self, table: &TableFile) -> bool {
        let Some(header) = &table.header else { return false };
        let Some(bytes) = table.blocks.run(header.root) else { return false };
        let Ok((entries, _)) = decode_root(&bytes, header.root_depth, header.live_count) else {
            return false;
        };
        let span = 1u64 << (MAX_DEPTH - header.root_depth);
        let mut at = 0;
        for same in entries.chunk_by(|a, b| a.block == b.block) {
            let (begin, end) = (at * span, (at + same.len() as u64) * span);
            at += same.len() as u64;
            self.known.add(same[0].block);
            let sound =
                table.blocks.read(same[0].block).filter(|b| crc32(&b[..], 0) == same[0].crc);
            let page = sound.and_then(|bytes| DirectoryPage::decode(&bytes).ok());
            match page.filter(|page| u64::from(page.prefix) == begin) {
                Some(page) => self.add(page, &mut |_, _| true),
                None => {
                    self.directory_pages_damaged += 1;
                    self.holes.insert(begin, Hole { end, groups: Vec::new() });
                }
            }
        }
        true
    }

    /// Finds the directory pages of a file without a root. The newest one of
    /// each range of prefixes counts.
    fn gather(&mut self, table: &TableFile) {
        let mut pages = Vec::new();
        table.blocks.scan(&mut |block, bytes| {
            if &bytes[..4] == b"SDIR"
                && table.in_use(block) != Some(false)
                && let Ok(page) = DirectoryPage::decode(bytes)
                && Some(page.table_id) == table.id
                && table.header.as_ref().is_none_or(|header| page.generation <= header.generation)
            {
                self.known.add(block);
                pages.push(page);
            }
            true
        });
        pages.sort_by_key(|page| std::cmp::Reverse(page.generation));
        let mut covered = Covered::default();
        let mut gathered = BTreeMap::new();
        for page in pages {
            let generation = page.generation as u32;
            self.add(page, &mut |begin, end| {
                let free = covered.is_free(begin, end);
                if free {
                    covered.add(begin, end);
                    gathered.insert(begin, generation);
                }
                free
            });
        }
        self.gathered = gathered;
        let gaps = covered.gaps();
        let hole = |(begin, end)| (begin, Hole { end, groups: Vec::new() });
        self.holes.extend(gaps.into_iter().map(hole));
    }

    /// Takes those segments of a directory page over that are wanted.
    fn add(&mut self, page: DirectoryPage, wanted: &mut dyn FnMut(u64, u64) -> bool) {
        let mut begin = u64::from(page.prefix);
        for segment in page.segments {
            let end = begin + (1 << (MAX_DEPTH - segment.depth));
            if wanted(begin, end) {
                segment.pages.iter().for_each(|page| self.known.add(page.block));
                self.segments.push((begin, segment));
            }
            begin = end;
        }
    }

    /// The sound pages of a segment. If one is missing, its hole is noted.
    pub(super) fn pages(
        &mut self,
        table: &TableFile,
        geometry: &Geometry,
        index: usize,
    ) -> Vec<Option<Box<Bytes>>> {
        let (begin, segment) = &self.segments[index];
        let pages = (0..).zip(&segment.pages).map(|(number, reference)| {
            let bytes = table.blocks.read(reference.block)?;
            let record = PageRecord::from_word(u64_at(&bytes[..], 56));
            let its_own = (Some(record.table), record.depth, record.page)
                == (table.id, segment.depth, number);
            let sums = (stored_page_crc(&bytes), page_crc(&bytes));
            (its_own && sums == (reference.crc, reference.crc)).then_some(bytes)
        });
        let pages: Vec<_> = pages.collect();
        if pages.iter().any(Option::is_none) {
            let groups = pages.iter().flat_map(|page| match page {
                Some(page) => page::ends(page, geometry).into_iter().map(Some).collect(),
                None => vec![None; geometry.groups_per_page],
            });
            let end = begin + (1 << (MAX_DEPTH - segment.depth));
            self.holes.insert(*begin, Hole { end, groups: groups.collect() });
        }
        pages
    }

    /// Whether directory pages were gathered without anything that says which
    /// of them count.
    pub(super) fn is_gathered(&self, table: &TableFile) -> bool {
        !self.gathered.is_empty() && !table.has_free_map()
    }

    /// Whether a page of that generation with an entry of that hash shows that
    /// the directory page for it is not the last one: a checkpoint that writes a
    /// page writes its directory page, too.
    pub(super) fn is_outdated_by(&self, hash: u64, generation: u32) -> bool {
        let segment = self.gathered.range(..=hash >> 32).next_back();
        segment.is_some_and(|(_, gathered)| *gathered < generation)
    }

    /// Whether an entry with that hash may have been in something that is
    /// missing.
    pub(super) fn may_have_held(&self, hash: u64) -> bool {
        let before = self.holes.range(..=hash >> 32).next_back();
        before.is_some_and(|(_, hole)| hole.may_have_held(hash))
    }
}

/// Ranges of prefixes, as they come.
#[derive(Default)]
struct Covered(BTreeMap<u64, u64>);

impl Covered {
    /// Whether nothing of a range is covered.
    fn is_free(&self, begin: u64, end: u64) -> bool {
        self.0.range(..end).next_back().is_none_or(|(_, covered)| *covered <= begin)
    }

    fn add(&mut self, begin: u64, end: u64) {
        let (mut begin, mut end) = (begin, end);
        while let Some((from, to)) = self.0.range(..=end).next_back().map(|(a, b)| (*a, *b)) {
            if to < begin {
                break;
            }
            self.0.remove(&from);
            (begin, end) = (begin.min(from), end.max(to));
        }
        self.0.insert(begin, end);
    }

    /// What is not covered.
    fn gaps(&self) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut at = 0;
        for (begin, end) in &self.0 {
            if *begin > at {
                gaps.push((at, *begin));
            }
            at = *end;
        }
        if at < 1 << 32 {
            gaps.push((at, 1 << 32));
        }
        gaps
    }
}
