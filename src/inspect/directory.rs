//! The directory of a table, page by page.
//!
//! The root is read whole, the directory pages one by one; what is damaged is
//! passed over and named, and so is what does not lie where its parent wants it.
//! Pages of segments are not read here: see `segment.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::format::directory as format;
use crate::format::directory::RootEntry;
use crate::format::header;
use crate::format::{BLOCK, crc32};

use super::fields::{Field, tables};
use super::header::Run;
use super::{Damage, Raw, Store, TableFile};

/// The longest root that is read, in blocks: 2^23 entries, and a million log
/// files. A longer one cannot be; it would only take memory.
const MAX_ROOT_BLOCKS: u32 = (64 << 20) / BLOCK as u32 + (16 << 20) / BLOCK as u32;

/// The root of a table, and an iterator over its directory pages in hash
/// order.
pub struct Directory {
    /// Its depth in bits: it has 2^depth entries.
    pub depth: u8,
    /// Where it lies, as the header says.
    pub run: Run,
    /// The live bytes of this table by log files.
    pub live: BTreeMap<u32, u64>,
    /// What is wrong with it.
    pub damage: Option<Damage>,
    pub(super) store: Store,
    pub(super) file: TableFile,
    pub(super) header: Arc<header::Header>,
    bytes: Vec<u8>,
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
    raw: Raw,
}

impl DirectoryPage {
    /// Its bytes, field by field; none if they cannot be read.
    pub fn fields(&self) -> Vec<Field> {
        let base = u64::from(self.block) * BLOCK as u64;
        self.raw.bytes().map_or_else(Vec::new, |bytes| tables::directory_page(bytes, base))
    }

    /// The bytes of the record of a segment, field by field.
    pub(super) fn segment_fields(&self, segment: u64) -> Vec<Field> {
        let first = self.segments.first().map_or(0, |first| first.number);
        let at = self.raw.bytes().and_then(|bytes| {
            tables::segment_record(bytes, usize::try_from(segment.checked_sub(first)?).ok()?)
        });
        let Some((at, length)) = at else { return Vec::new() };
        let from = u64::from(self.block) * BLOCK as u64 + at as u64;
        let range = from..from + length as u64;
        self.fields().into_iter().filter(|field| range.contains(&field.offset)).collect()
    }
}

/// A block that looks like a directory page, decoded for itself: nothing is
/// known of where it stood in the directory. `None` if it does not.
pub(super) fn stray(block: u32, bytes: Box<[u8; BLOCK]>, payload: u16) -> Option<DirectoryPage> {
    let found = format::DirectoryPage::decode(&bytes).ok()?;
    let mut page = DirectoryPage {
        number: 0,
        first_entry: 0,
        entries: 0,
        block,
        crc: crc32(&bytes[..], 0),
        depth: found.depth,
        prefix: found.prefix,
        generation: found.generation,
        segments: Vec::new(),
        damage: None,
        raw: Raw::new(bytes),
    };
    page.fill_segments(found.segments, payload, 0);
    Some(page)
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
            run: Run::of(header.root),
            live: BTreeMap::new(),
            damage: None,
            store,
            file,
            header: Arc::new(header),
            bytes: Vec::new(),
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
        if run.blocks > MAX_ROOT_BLOCKS {
            let text = format!("a root of {} blocks is longer than one can be", run.blocks);
            return Err(Damage::new(offset, text));
        }
        let mut bytes = vec![0; run.blocks as usize * BLOCK];
        let read = self.file.file.read_at(&mut bytes, offset);
        read.map_err(|error| Damage::unreadable(offset, &error))?;
        let decoded = format::decode_root(&bytes, self.depth, self.header.live_count);
        let found = crc32(&bytes, 0);
        self.bytes = bytes;
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

    /// The bytes of the root, field by field; none if they cannot be read.
    pub fn fields(&self) -> impl Iterator<Item = Field> {
        let (depth, live) = (self.depth, self.header.live_count);
        let base = u64::from(self.run.block) * BLOCK as u64;
        self.bytes.chunks(BLOCK).enumerate().flat_map(move |(part, bytes)| {
            tables::root(bytes, base + (part * BLOCK) as u64, part as u32, depth, live)
        })
    }

    /// The entries of the root that stand in its `part`th block, with the
    /// number of the first.
    pub(super) fn entries_in(&self, part: u32) -> (usize, &[RootEntry]) {
        let first = part as usize * (BLOCK / 8);
        let end = (first + BLOCK / 8).min(self.entries.len());
        (first, self.entries.get(first..end).unwrap_or_default())
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
            raw: Raw::default(),
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
        page.raw = Raw::new(bytes);
        let found = decoded.map_err(|fault| Damage::of(fault, offset))?;
        (page.depth, page.prefix) = (found.depth, found.prefix);
        page.generation = found.generation;
        self.next_segment =
            page.fill_segments(found.segments, self.header.payload, self.next_segment);
        if crc != page.crc {
            let text = format!("checksum {crc:08x}, the root says {:08x}", page.crc);
            return Err(Damage::new(offset, text));
        }
        if found.table_id != self.header.table_id {
            let (found, own) = (found.table_id, self.header.table_id);
            let text = format!("a directory page of table {found}, but this is table {own}");
            return Err(Damage::new(offset + 4, text));
        }
        let wanted = ((page.first_entry as u64) << (32 - u32::from(self.depth))) as u32;
        let fits = page.depth <= self.depth && 1 << (self.depth - page.depth) == page.entries;
        if !fits || page.prefix != wanted {
            let text = format!(
                "prefix {:08x}/{}, but it stands in {} entries of the root from {wanted:08x}/{} on",
                page.prefix, page.depth, page.entries, self.depth
            );
            return Err(Damage::new(offset + 6, text));
        }
        Ok(())
    }
}

impl DirectoryPage {
    /// Takes over segment records, numbered from `next` on; returns the number
    /// behind the last.
    fn fill_segments(
        &mut self,
        segments: Vec<format::SegmentRecord>,
        payload: u16,
        mut next: u64,
    ) -> u64 {
        let geometry = crate::format::group::Geometry::new(payload.into());
        let slots = geometry.map_or(0, |geometry| geometry.slots_per_page() as u64);
        let mut prefix = u64::from(self.prefix);
        for segment in segments {
            let pages = segment.pages.iter();
            let pages: Vec<_> =
                pages.map(|page| PageRef { block: page.block, crc: page.crc }).collect();
            self.segments.push(SegmentRecord {
                number: next,
                prefix: prefix as u32,
                depth: segment.depth,
                used: segment.used,
                tombstones: segment.tombstones,
                slots: slots * pages.len() as u64,
                pages,
            });
            prefix += 1 << (32 - segment.depth);
            next += 1;
        }
        next
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
