//! The walk through a table file: what each of its blocks holds.
//!
//! First the directory is walked. It claims blocks: for root, free map,
//! directory pages, and for the pages of segments together with the checksums
//! that these must have. Then the pages are read from front to back, in large
//! pieces, whatever order the directory names them in. Last, what nobody has
//! claimed is told apart with the free map and what the file system says of
//! holes.
//!
//! A directory page with a wrong checksum is damaged. Its segments are followed
//! all the same if they lie where the root wants them: a page that is not meant
//! has not the checksum that is expected of it.

use crate::error::{Error, Result};
use crate::format::free_map::decode_free_map;
use crate::format::group::{self, Geometry};
use crate::format::header::{Header as FormatHeader, Run};
use crate::format::{BLOCK, crc32, u64_at};

use super::super::directory::{Directory, DirectoryPage, SegmentRecord};
use super::super::{Damage, Store, TableFile, header};
use super::{BlockUse, StoreMap};

/// Pages that are read at once.
const PIECE: usize = 256;
/// A file has at most so many blocks.
const MOST_BLOCKS: u64 = 1 << 30;

/// A page that a segment claims.
struct Claim {
    block: u32,
    crc: u32,
}

/// Fills in what a table file holds.
///
/// # Errors
///
/// `Version`; `Io` if the length of the file cannot be found out.
pub(super) fn read(
    store: &Store,
    file: &TableFile,
    name: &str,
    map: &mut StoreMap,
    watch: &mut dyn FnMut(f64),
) -> Result<()> {
    let length = file.file.length().map_err(|e| Error::io("measure", &file.path, e))?;
    let blocks = (length / BLOCK as u64).min(MOST_BLOCKS);
    map.blocks = vec![BlockUse::Free; blocks as usize];
    let mut walk = Walk { file, name, map, geometry: None, claims: Vec::new(), partial: false };
    walk.headers();
    let header = match header::newest(file) {
        Ok(header) => Some(header),
        Err(Error::Corrupt(_)) => None,
        Err(error) => return Err(error),
    };
    let free = header.and_then(|header| walk.directory(store, header));
    walk.pages(watch);
    walk.holes();
    walk.unclaimed(free.as_deref());
    Ok(())
}

/// A walk through a table file.
struct Walk<'a> {
    file: &'a TableFile,
    name: &'a str,
    map: &'a mut StoreMap,
    geometry: Option<Geometry>,
    claims: Vec<Claim>,
    /// Something that leads to blocks could not be read.
    partial: bool,
}

impl Walk<'_> {
    fn damage(&mut self, offset: u64, text: impl Into<String>) {
        self.map.add(self.name, Damage::new(offset, text));
    }

    fn headers(&mut self) {
        for copy in header::read(self.file) {
            let content = match copy.damage {
                None => BlockUse::Header,
                Some(damage) => {
                    self.map.add(self.name, damage);
                    BlockUse::Damaged
                }
            };
            if copy.counts {
                self.map.header = copy.header;
            }
            if let Some(block) = self.map.blocks.get_mut(copy.copy as usize) {
                *block = content;
            }
        }
    }

    /// Claims a block. Says whether it is there.
    fn claim(&mut self, block: u32, content: BlockUse, parent: u64) -> bool {
        let limit = self.map.blocks.len();
        match self.map.blocks.get_mut(block as usize) {
            None => {
                let text = format!("this leads to block {block}, but there are only {limit}");
                self.damage(parent, text);
                false
            }
            Some(free @ BlockUse::Free) => {
                *free = content;
                true
            }
            Some(taken) => {
                *taken = BlockUse::Damaged;
                self.damage(parent, format!("block {block} is reached twice"));
                false
            }
        }
    }

    /// Claims the blocks of a run, as far as they are there: whoever read it
    /// knows about the others.
    fn claim_run(&mut self, run: Run, content: BlockUse) {
        let end = run.block.saturating_add(run.blocks).min(self.map.blocks.len() as u32);
        for block in run.block..end {
            self.claim(block, content, 0);
        }
    }

    /// Walks through the directory. Returns the free map, if it can be read.
    fn directory(&mut self, store: &Store, header: FormatHeader) -> Option<Vec<u64>> {
        if u64::from(header.file_blocks) > self.map.blocks.len() as u64 {
            let (said, found) = (header.file_blocks, self.map.blocks.len());
            let text = format!("the header speaks of {said} blocks, but the file has {found}");
            self.damage(0, text);
        }
        self.geometry = Geometry::new(header.payload.into());
        let slots = self.geometry.map_or(0, |geometry| geometry.slots_per_page());
        self.map.slots_per_page = slots as u32;
        let free = self.free_map(&header);
        let root = header.root;
        let mut directory = Directory::new(store.clone(), self.file.clone(), header);
        let content = if directory.damage.is_some() { BlockUse::Damaged } else { BlockUse::Root };
        self.claim_run(root, content);
        if let Some(damage) = directory.damage.take() {
            self.map.add(self.name, damage);
            self.partial = true;
        }
        let depth = directory.depth;
        let mut parent = u64::from(root.block) * BLOCK as u64;
        for mut page in directory {
            if let Some(segments) = self.directory_page(&mut page, depth, parent) {
                segments.into_iter().for_each(|segment| self.segment(segment, page.block));
            }
            parent += 8 * page.entries as u64;
        }
        free
    }

    /// Judges a directory page. Returns its segments, if they can be followed.
    fn directory_page(
        &mut self,
        page: &mut DirectoryPage,
        depth: u8,
        parent: u64,
    ) -> Option<Vec<SegmentRecord>> {
        let content = if page.damage.is_some() { BlockUse::Damaged } else { BlockUse::Directory };
        let is_first = self.claim(page.block, content, parent);
        let wanted = ((page.first_entry as u64) << (32 - u32::from(depth))) as u32;
        let width = depth.checked_sub(page.depth).map(|bits| 1 << bits);
        let fits = width == Some(page.entries) && page.prefix == wanted;
        if let Some(damage) = page.damage.take() {
            self.map.add(self.name, damage);
            self.partial = true;
        } else if !fits {
            let text = "the directory page is not the one that the root means";
            self.damage(u64::from(page.block) * BLOCK as u64, text);
            self.map.blocks[page.block as usize] = BlockUse::Damaged;
            self.partial = true;
        }
        (is_first && fits).then(|| std::mem::take(&mut page.segments))
    }

    /// Claims the pages of a segment. Their content is looked at later.
    fn segment(&mut self, segment: SegmentRecord, directory_page: u32) {
        let parent = u64::from(directory_page) * BLOCK as u64;
        for page in &segment.pages {
            let content = BlockUse::Page { used: 0, tombstones: 0 };
            if self.claim(page.block, content, parent) {
                self.claims.push(Claim { block: page.block, crc: page.crc });
            }
        }
        self.map.segments.push(segment);
    }

    /// Reads all pages of segments, from front to back.
    fn pages(&mut self, watch: &mut dyn FnMut(f64)) {
        let mut claims = std::mem::take(&mut self.claims);
        claims.sort_unstable_by_key(|claim| claim.block);
        let mut bytes = vec![0; PIECE.min(claims.len()) * BLOCK];
        let mut done = 0;
        while done < claims.len() {
            watch(done as f64 / claims.len() as f64);
            let rest = &claims[done..];
            let first = rest[0].block;
            let in_a_row = rest.iter().zip(first..).take(PIECE);
            let run = in_a_row.take_while(|(claim, block)| claim.block == *block).count();
            let run = self.read_run(&mut bytes, first, run);
            for (i, claim) in rest[..run].iter().enumerate() {
                self.page(claim, bytes[i * BLOCK..].first_chunk());
            }
            done += run.max(1);
        }
        watch(1.0);
    }

    /// Reads blocks; only one if not all can be read, none if that cannot.
    /// Returns how many.
    fn read_run(&mut self, bytes: &mut [u8], first: u32, run: usize) -> usize {
        let offset = u64::from(first) * BLOCK as u64;
        for run in [run, 1] {
            match self.file.file.read_at(&mut bytes[..run * BLOCK], offset) {
                Ok(()) => return run,
                Err(error) if run == 1 => {
                    self.map.add(self.name, Damage::unreadable(offset, &error));
                    self.map.blocks[first as usize] = BlockUse::Damaged;
                }
                Err(_) => {}
            }
        }
        0
    }

    fn page(&mut self, claim: &Claim, bytes: Option<&[u8; BLOCK]>) {
        let content = &mut self.map.blocks[claim.block as usize];
        // Whoever claimed it twice has said so.
        let (Some(bytes), BlockUse::Page { .. }) = (bytes, *content) else { return };
        let (found, stored) = (group::page_crc(bytes), group::stored_page_crc(bytes));
        if (found, stored) == (claim.crc, claim.crc) {
            if let Some(geometry) = self.geometry {
                *content = count(bytes, &geometry);
            }
            return;
        }
        *content = BlockUse::Damaged;
        let text = format!(
            "the page has checksum {found:08x} and says {stored:08x}, the directory {:08x}",
            claim.crc
        );
        self.damage(u64::from(claim.block) * BLOCK as u64, text);
    }

    /// Reads the free map.
    fn free_map(&mut self, header: &FormatHeader) -> Option<Vec<u64>> {
        let read = self.read_free_map(header);
        let content = if read.is_ok() { BlockUse::FreeMap } else { BlockUse::Damaged };
        self.claim_run(header.free_map, content);
        read.map_err(|damage| self.map.add(self.name, damage)).ok()
    }

    fn read_free_map(&self, header: &FormatHeader) -> std::result::Result<Vec<u64>, Damage> {
        let run = header.free_map;
        let offset = u64::from(run.block) * BLOCK as u64;
        if u64::from(run.block) + u64::from(run.blocks) > self.map.blocks.len() as u64 {
            return Err(Damage::new(offset, "the free map lies behind the end of the file"));
        }
        let mut bytes = vec![0; run.blocks as usize * BLOCK];
        let read = self.file.file.read_at(&mut bytes, offset);
        read.map_err(|error| Damage::unreadable(offset, &error))?;
        let found = crc32(&bytes, 0);
        if found != run.crc {
            let text =
                format!("the free map has checksum {found:08x}, the header says {:08x}", run.crc);
            return Err(Damage::new(offset, text));
        }
        decode_free_map(&bytes, header.file_blocks).map_err(|fault| Damage::of(fault, offset))
    }

    /// Finds out which blocks that nobody has claimed lie in holes.
    fn holes(&mut self) {
        for hole in self.file.file.holes().unwrap_or_default() {
            let first = hole.start.div_ceil(BLOCK as u64) as usize;
            let end = ((hole.end / BLOCK as u64) as usize).min(self.map.blocks.len());
            let inside = self.map.blocks.get_mut(first..end).unwrap_or_default();
            for block in inside.iter_mut().filter(|block| **block == BlockUse::Free) {
                *block = BlockUse::Hole;
            }
        }
    }

    /// Tells free blocks from those that something should lead to.
    fn unclaimed(&mut self, free: Option<&[u64]>) {
        let covered = self.map.header.as_ref().map_or(0, |header| header.file_blocks as usize);
        // Without a directory nobody knows what the blocks hold.
        let all_known = self.map.header.is_some() && !self.partial;
        for block in 0..self.map.blocks.len() {
            let content = self.map.blocks[block];
            let offset = block as u64 * BLOCK as u64;
            let is_free = match free {
                Some(words) => block >= covered || words[block / 64] >> (block % 64) & 1 == 1,
                None => all_known || content == BlockUse::Hole,
            };
            match content {
                BlockUse::Free | BlockUse::Hole if !is_free => {
                    self.map.blocks[block] = BlockUse::Unreached;
                    if all_known {
                        let text = "the block is in use by the free map, but nothing leads to it";
                        self.damage(offset, text);
                    }
                }
                BlockUse::Free | BlockUse::Hole => {}
                _ if is_free && free.is_some() && block < covered => {
                    self.damage(offset, "the block is free by the free map, but is in use");
                }
                _ => {}
            }
        }
    }
}

/// Counts what is in an undamaged page.
fn count(bytes: &[u8; BLOCK], geometry: &Geometry) -> BlockUse {
    let (mut used, mut tombstones) = (0, 0);
    for group in 0..geometry.groups_per_page {
        let control = u64_at(bytes, group * geometry.group_words * 8);
        used += group::match_full(control).count() as u8;
        tombstones += group::match_deleted(control).count() as u8;
    }
    BlockUse::Page { used, tombstones }
}
