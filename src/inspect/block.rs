//! What a block of a table file is, and what it holds.
//!
//! What a block *is* only its parents can say: the header, the root, the
//! directory pages, and for what nothing leads to, the free map. What it
//! *holds* its own bytes say. Of a block that nothing leads to, both are shown
//! apart: it may well hold a page of an earlier day.

use crate::error::{Error, Result};
use crate::format::group::{Geometry, page_crc, stored_page_crc};
use crate::format::header as format;
use crate::format::{BLOCK, crc32};
use crate::hash::Hasher;
use crate::options::HashKind;

use super::directory::{self, Directory, DirectoryPage, SegmentRecord};
use super::fields::{self, Field, tables};
use super::header::{self, HeaderCopy};
use super::segment::{self, Page, Reader};
use super::{Damage, Store, TableFile};

/// A block of a table file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Block {
    /// Its number.
    pub number: u32,
    /// Where it begins, in bytes from the beginning of the file.
    pub offset: u64,
    /// How many blocks the file has.
    pub file_blocks: u64,
    /// What it is. One role, unless the file is damaged.
    pub roles: Vec<Role>,
    /// What the free map says of it; `None` if that cannot be read.
    pub is_free: Option<bool>,
    /// What it holds.
    pub content: Content,
    /// What is wrong with the ways that lead to it.
    pub damage: Vec<Damage>,
    fields: Vec<Field>,
}

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// A copy of the header.
    Header {
        /// 0 or 1.
        copy: u32,
    },
    /// A block of the root.
    Root {
        /// Its number in the run.
        part: u32,
    },
    /// A block of the free map.
    FreeMap {
        /// Its number in the run.
        part: u32,
    },
    /// A directory page.
    DirectoryPage {
        /// Its number, in hash order from 0.
        number: u64,
    },
    /// A page of a segment.
    Page {
        /// The number of the segment, in hash order from 0.
        segment: u64,
        /// The number of the page in it.
        page: usize,
    },
    /// Nothing: it is free.
    Free,
    /// Nothing leads to it, but the free map says that it is in use.
    Unreachable,
    /// It cannot be said: not all of the ways can be read.
    Unknown,
}

/// What a block holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// A copy of the header.
    Header(Box<HeaderCopy>),
    /// Entries of the root.
    Root(RootPart),
    /// Bits of the free map.
    FreeMap(FreeMapPart),
    /// A directory page. If nothing leads to the block, its number and its
    /// place in the root mean nothing.
    DirectoryPage(Box<DirectoryPage>),
    /// A page of a segment. If nothing leads to the block, its groups have
    /// the numbers that its page record gives them.
    Page(Box<Page>),
    /// Zeros.
    Zeros,
    /// Bytes of no structure that is known.
    Other,
}

/// A block of the root.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RootPart {
    /// Its entries, those of one directory page together.
    pub runs: Vec<RootRun>,
    /// What is wrong with the root.
    pub damage: Option<Damage>,
}

/// Entries of the root that lead to one directory page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RootRun {
    /// The number of the first one in this block.
    pub first: usize,
    /// How many there are in this block.
    pub entries: usize,
    /// The block of the directory page.
    pub block: u32,
    /// The checksum of the directory page.
    pub crc: u32,
}

/// A block of the free map.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FreeMapPart {
    /// The first block that it speaks of.
    pub first: u32,
    /// How many it speaks of.
    pub blocks: u32,
    /// How many of them are free.
    pub free: u32,
    /// The ones in use: the first and the last of each row of them.
    pub in_use: Vec<(u32, u32)>,
    /// What is wrong with the free map.
    pub damage: Option<Damage>,
}

impl Block {
    /// Its bytes, field by field.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }
}

/// Finds out what a block is, and takes it apart.
pub(super) fn read(store: Store, file: TableFile, number: u64) -> Result<Block> {
    let length = file.file.length().map_err(|error| Error::io("measure", &file.path, error))?;
    let file_blocks = length.div_ceil(BLOCK as u64);
    let name = file.path.file_name().unwrap_or_default().display().to_string();
    let absent = || Error::NotFound {
        what: match file_blocks {
            0 => format!("block {number}: {name} is empty"),
            blocks => format!("block {number}: the last one of {name} is {}", blocks - 1),
        },
    };
    let block = u32::try_from(number).ok().filter(|_| number < file_blocks).ok_or_else(absent)?;
    let offset = number * BLOCK as u64;
    let mut bytes = vec![0; (length - offset).min(BLOCK as u64) as usize];
    let mut damage = Vec::new();
    if let Err(error) = file.file.read_at(&mut bytes, offset) {
        damage.push(Damage::unreadable(offset, &error));
        bytes.clear();
    } else if bytes.len() < BLOCK {
        damage.push(Damage::new(offset + bytes.len() as u64, "the file ends here"));
    }
    let directory = match header::newest(&file) {
        Ok(header) => Some(Directory::new(store.clone(), file.clone(), header)),
        Err(Error::Corrupt(found)) => {
            let text = format!("no header is valid: {} is {}", found.what, found.found);
            damage.push(Damage::new(found.offset, text));
            None
        }
        Err(error) => return Err(error),
    };
    let mut found = Found { store, file, block, bytes, damage, ways: Ways::default() };
    let (content, fields) = found.look(directory);
    let Found { damage, ways: Ways { roles, is_free, .. }, .. } = found;
    Ok(Block { number: block, offset, file_blocks, roles, is_free, content, damage, fields })
}

/// What leads to a block.
#[derive(Default)]
struct Ways {
    roles: Vec<Role>,
    is_free: Option<bool>,
    page: Option<DirectoryPage>,
    segment: Option<(SegmentRecord, usize)>,
    /// Something that might lead to it cannot be read.
    partial: bool,
}

/// A block that is being looked at.
struct Found {
    store: Store,
    file: TableFile,
    block: u32,
    bytes: Vec<u8>,
    damage: Vec<Damage>,
    ways: Ways,
}

impl Found {
    fn look(&mut self, directory: Option<Directory>) -> (Content, Vec<Field>) {
        let block = self.block;
        if block < 2 {
            self.ways.roles.push(Role::Header { copy: block });
        }
        let Some(mut directory) = directory else {
            self.ways.partial = true;
            self.judge();
            return self.content_of_header().unwrap_or_else(|| self.guess());
        };
        let header = directory.header.clone();
        let part = |run: format::Run| block.checked_sub(run.block).filter(|i| *i < run.blocks);
        self.ways.roles.extend(part(header.root).map(|part| Role::Root { part }));
        let map_part = part(header.free_map);
        self.ways.roles.extend(map_part.map(|part| Role::FreeMap { part }));
        let root = RootPart { runs: Vec::new(), damage: directory.damage.clone() };
        let root_part = part(header.root).map(|part| (part, root_runs(&directory, part)));
        self.walk(&mut directory);
        let map = self.read_free_map(&header);
        self.judge();
        let offset = u64::from(block) * BLOCK as u64;
        match self.ways.roles.first() {
            Some(Role::Header { .. }) => self.content_of_header().unwrap_or_else(|| self.guess()),
            Some(Role::Root { part }) => {
                let runs = root_part.map_or_else(Vec::new, |(_, runs)| runs);
                let (depth, live) = (header.root_depth, header.live_count);
                let fields = tables::root(&self.bytes, offset, *part, depth, live);
                (Content::Root(RootPart { runs, ..root }), fields)
            }
            Some(Role::FreeMap { part }) => {
                let fields = tables::free_map(&self.bytes, offset, *part, header.file_blocks);
                let content = free_map_part(&self.bytes, *part, header.file_blocks, map);
                (Content::FreeMap(content), fields)
            }
            Some(Role::DirectoryPage { .. }) => match self.ways.page.take() {
                Some(page) => {
                    let fields = tables::directory_page(&self.bytes, offset);
                    (Content::DirectoryPage(Box::new(page)), fields)
                }
                None => self.guess(),
            },
            Some(Role::Page { .. }) => match self.page(&directory) {
                Some(page) => (Content::Page(Box::new(page.clone())), self.fields(page.fields())),
                None => self.guess(),
            },
            _ => self.guess(),
        }
    }

    /// Walks through the directory, and notes what leads to the block.
    fn walk(&mut self, directory: &mut Directory) {
        self.ways.partial |= directory.damage.is_some();
        for page in directory {
            self.ways.partial |= page.damage.is_some();
            for segment in &page.segments {
                for (number, at) in segment.pages.iter().enumerate() {
                    if at.block == self.block {
                        let segment = (segment.clone(), number);
                        let role = Role::Page { segment: segment.0.number, page: number };
                        self.ways.roles.push(role);
                        self.ways.segment.get_or_insert(segment);
                    }
                }
            }
            if page.block == self.block {
                self.ways.roles.push(Role::DirectoryPage { number: page.number });
                self.ways.page.get_or_insert(page);
            }
        }
    }

    /// Reads the free map for what it says of the block, and says what is
    /// wrong with it.
    fn read_free_map(&mut self, header: &format::Header) -> Option<Damage> {
        let run = header.free_map;
        let offset = u64::from(run.block) * BLOCK as u64;
        let mut crc = 0;
        let mut bit = None;
        for part in 0..run.blocks {
            let bytes = match self.file.block(run.block.saturating_add(part)) {
                Ok(bytes) => bytes,
                Err(damage) => return Some(damage),
            };
            crc = crc32(&bytes[..], crc);
            if self.block / (BLOCK as u32 * 8) == part {
                let i = self.block as usize % (BLOCK * 8);
                bit = Some(bytes[i / 8] >> (i % 8) & 1 == 1);
            }
        }
        // What lies behind the blocks that it covers is free.
        self.ways.is_free = if self.block < header.file_blocks { bit } else { Some(true) };
        let wrong = format!("the free map has checksum {crc:08x}, the header says {:08x}", run.crc);
        (crc != run.crc).then(|| Damage::new(offset, wrong))
    }

    /// Says what the block is if nothing leads to it, and whether the ways
    /// contradict each other.
    fn judge(&mut self) {
        let offset = u64::from(self.block) * BLOCK as u64;
        let Ways { roles, is_free, partial, .. } = &mut self.ways;
        if roles.is_empty() {
            roles.push(match (*is_free, *partial) {
                (Some(true), _) => Role::Free,
                (Some(false), false) => Role::Unreachable,
                _ => Role::Unknown,
            });
            if *roles == [Role::Unreachable] {
                let text = "the free map says that it is in use, but nothing leads to it";
                self.damage.push(Damage::new(offset, text));
            }
            return;
        }
        if roles.len() > 1 {
            let text = format!("{} ways lead to it, but it can be one thing only", roles.len());
            self.damage.push(Damage::new(offset, text));
        }
        if *is_free == Some(true) {
            let text = "the free map says that it is free, but it is in use";
            self.damage.push(Damage::new(offset, text));
        }
    }

    fn content_of_header(&self) -> Option<(Content, Vec<Field>)> {
        let copy = header::read(&self.file).into_iter().find(|copy| copy.copy == self.block)?;
        let fields = self.fields(copy.fields());
        Some((Content::Header(Box::new(copy)), fields))
    }

    /// The page of a segment, judged by what the directory says of it.
    fn page(&self, directory: &Directory) -> Option<Page> {
        let (record, number) = self.ways.segment.clone()?;
        let mut segment = Reader::new(directory)?.segment(record);
        (number < segment.pages.len()).then(|| segment.pages.swap_remove(number))
    }

    /// What the block seems to hold, though nothing says so.
    fn guess(&self) -> (Content, Vec<Field>) {
        let offset = u64::from(self.block) * BLOCK as u64;
        let other = |content| (content, fields::unknown(&self.bytes, offset));
        if !self.bytes.is_empty() && self.bytes.iter().all(|byte| *byte == 0) {
            return other(Content::Zeros);
        }
        let bytes: Option<[u8; BLOCK]> = self.bytes.as_slice().try_into().ok();
        let Some(bytes) = bytes.map(Box::new) else {
            return other(Content::Other);
        };
        let copies = header::read(&self.file);
        let headers = || copies.iter().filter_map(|copy| copy.header.as_ref());
        let Some(header) = headers().find(|header| Geometry::new(header.payload.into()).is_some())
        else {
            return other(Content::Other);
        };
        if let Some(page) = directory::stray(self.block, bytes.clone(), header.payload) {
            let fields = page.fields();
            return (Content::DirectoryPage(Box::new(page)), fields);
        }
        let Some(geometry) = Geometry::new(header.payload.into()) else {
            return other(Content::Other);
        };
        if stored_page_crc(&bytes) != page_crc(&bytes) {
            return other(Content::Other);
        }
        let kind = HashKind::from_id(header.hash_id).unwrap_or_default();
        let hasher = Hasher::new(kind, header.hash_key);
        let page = segment::stray(self.block, bytes, geometry, hasher, &self.store, &self.file);
        let fields = page.fields();
        (Content::Page(Box::new(page)), fields)
    }

    /// Fields, or what can be said without a structure.
    fn fields(&self, fields: Vec<Field>) -> Vec<Field> {
        match fields.is_empty() {
            true => fields::unknown(&self.bytes, u64::from(self.block) * BLOCK as u64),
            false => fields,
        }
    }
}

fn root_runs(directory: &Directory, part: u32) -> Vec<RootRun> {
    let (first, entries) = directory.entries_in(part);
    let mut runs: Vec<RootRun> = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        match runs.last_mut().filter(|run| run.block == entry.block) {
            Some(run) => run.entries += 1,
            None => {
                let (block, crc) = (entry.block, entry.crc);
                runs.push(RootRun { first: first + i, entries: 1, block, crc });
            }
        }
    }
    runs
}

fn free_map_part(bytes: &[u8], part: u32, file_blocks: u32, damage: Option<Damage>) -> FreeMapPart {
    let first = part.saturating_mul(BLOCK as u32 * 8);
    let blocks = file_blocks.saturating_sub(first).min(bytes.len() as u32 * 8);
    let mut in_use: Vec<(u32, u32)> = Vec::new();
    let mut free = 0;
    for i in 0..blocks {
        if bytes[i as usize / 8] >> (i % 8) & 1 == 1 {
            free += 1;
            continue;
        }
        match in_use.last_mut().filter(|(_, last)| last + 1 == first + i) {
            Some((_, last)) => *last = first + i,
            None => in_use.push((first + i, first + i)),
        }
    }
    FreeMapPart { first, blocks, free, in_use, damage }
}
