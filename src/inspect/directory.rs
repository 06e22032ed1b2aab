//! The directory of a table, page by page.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::format::directory as format;
use crate::format::directory::RootEntry;
use crate::format::header;
use crate::format::{BLOCK, crc32};

use super::{Damage, Store, TableFile};

/// The root of a table, and an iterator over its directory pages in hash
/// order.
pub struct Directory {
    /// Its depth in bits: it has 2^depth entries.
    pub depth: u8,
    /// The live bytes of this table by log files.
    pub live: BTreeMap<u32, u64>,
    /// What is wrong with it.
    pub damage: Option<Damage>,
    pub(super) store: Store,
    pub(super) file: TableFile,
    pub(super) header: Arc<header::Header>,
    entries: Vec<RootEntry>,
    next_entry: usize,
    next_page: u64,
    next_segment: u64,
}

/// A directory page: the segments of one hash prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirectoryPage {
    /// Its number, in hash order from 0.
    pub number: u64,
    /// The first entry of the root that leads to it.
    pub first_entry: usize,
    /// How many entries lead to it.
    pub entries: usize,
    /// Its block.
    pub block: u32,
    /// Its checksum, as the root says.
    pub crc: u32,
    /// The length of its prefix in bits.
    pub depth: u8,
    /// Hash bits 63 to 32 of its smallest hash.
    pub prefix: u32,
    /// The generation that wrote it.
    pub generation: u64,
    /// Its segments; none if it cannot be decoded.
    pub segments: Vec<SegmentRecord>,
    /// What is wrong with it.
    pub damage: Option<Damage>,
}

/// What a directory page says of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentRecord {
    /// Its number, in hash order from 0.
    pub number: u64,
    /// Hash bits 63 to 32 of its smallest hash.
    pub prefix: u32,
    /// Its local depth in bits.
    pub depth: u8,
    /// Entries.
    pub used: u16,
    /// Deleted slots.
    pub tombstones: u16,
    /// Slots.
    pub slots: u64,
    /// Its pages, in order.
    pub pages: Vec<PageRef>,
}

/// Where a page lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageRef {
    /// Its block.
    pub block: u32,
    /// Its checksum, as the directory page says.
    pub crc: u32,
}

impl Directory {
    pub(super) fn new(store: Store, file: TableFile, header: header::Header) -> Directory {
        let mut directory = Directory {
            depth: header.root_depth,
            live: BTreeMap::new(),
            damage: None,
            store,
            file,
            header: Arc::new(header),
            entries: Vec::new(),
            next_entry: 0,
            next_page: 0,
            next_segment: 0,
        };
        directory.damage = directory.read_root().err();
        directory
    }

    /// Reads the root. A wrong checksum does not keep it from being decoded.
    fn read_root(&mut self) -> Result<(), Damage> {
        let run = self.header.root;
        let offset = u64::from(run.block) * BLOCK as u64;
        let end = offset + u64::from(run.blocks) * BLOCK as u64;
        let length = self.file.file.length().map_err(|e| Damage::unreadable(offset, &e))?;
        if end > length {
            return Err(Damage::new(offset, "the root lies behind the end of the file"));
        }
        let mut bytes = vec![0; run.blocks as usize * BLOCK];
        let read = self.file.file.read_at(&mut bytes, offset);
        read.map_err(|error| Damage::unreadable(offset, &error))?;
        let decoded = format::decode_root(&bytes, self.depth, self.header.live_count);
        let found = crc32(&bytes, 0);
        match decoded {
            Ok((entries, live)) => (self.entries, self.live) = (entries, live),
            Err(fault) if found == run.crc => return Err(Damage::of(fault, offset)),
            Err(_) => {}
        }
        match found == run.crc {
            true => Ok(()),
            false => {
                let text = format!("checksum {found:08x}, the header says {:08x}", run.crc);
                Err(Damage::new(offset, text))
            }
        }
    }

    fn read_page(&mut self, entry: RootEntry, first_entry: usize, entries: usize) -> DirectoryPage {
        let mut page = DirectoryPage {
            number: self.next_page,
            first_entry,
            entries,
            block: entry.block,
            crc: entry.crc,
            depth: 0,
            prefix: 0,
            generation: 0,
            segments: Vec::new(),
            damage: None,
        };
        if let Err(damage) = self.fill_page(&mut page) {
            page.damage = Some(damage);
        }
        page
    }

    fn fill_page(&mut self, page: &mut DirectoryPage) -> Result<(), Damage> {
        let bytes = self.file.block(page.block)?;
        let offset = u64::from(page.block) * BLOCK as u64;
        let crc = crc32(&bytes[..], 0);
        let decoded = format::DirectoryPage::decode(&bytes);
        let found = decoded.map_err(|fault| Damage::of(fault, offset))?;
        (page.depth, page.prefix) = (found.depth, found.prefix);
        page.generation = found.generation;
        let slots = match crate::format::group::Geometry::new(self.header.payload.into()) {
            Some(geometry) => geometry.slots_per_page() as u64,
            None => 0,
        };
        let mut prefix = u64::from(found.prefix);
        for segment in found.segments {
            let pages: Vec<PageRef> = segment
                .pages
                .iter()
                .map(|page| PageRef { block: page.block, crc: page.crc })
                .collect();
            page.segments.push(SegmentRecord {
                number: self.next_segment,
                prefix: prefix as u32,
                depth: segment.depth,
                used: segment.used,
                tombstones: segment.tombstones,
                slots: slots * pages.len() as u64,
                pages,
            });
            prefix += 1 << (32 - segment.depth);
            self.next_segment += 1;
        }
        match crc == page.crc {
            true => Ok(()),
            false => {
                let text = format!("checksum {crc:08x}, the root says {:08x}", page.crc);
                Err(Damage::new(offset, text))
            }
        }
    }
}

impl Iterator for Directory {
    type Item = DirectoryPage;

    fn next(&mut self) -> Option<DirectoryPage> {
        let first = self.next_entry;
        let entry = *self.entries.get(first)?;
        let same = self.entries[first..].iter().take_while(|other| other.block == entry.block);
        let entries = same.count();
        let page = self.read_page(entry, first, entries);
        self.next_entry += entries;
        self.next_page += 1;
        Some(page)
    }
}
