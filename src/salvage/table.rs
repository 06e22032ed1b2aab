//! What a table file is still known to be: its header, or what its pages say.
//!
//! | from a header copy | without one |
//! |---|---|
//! | table id | what most of the sound pages say |
//! | slot payload | the one with which all sound pages make sense |
//! | hash and its key | from a damaged copy, if its self-test proves them right |
//! | root, free map | not known: the directory pages speak for themselves |
//! | L | not known |
//!
//! # Copies
//!
//! Somebody may have put a copy of a table file beside it, or over another one.
//! Nothing in the log is about a copy: the changes behind L are of the table, whose
//! file has its name.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::format::directory::decode_free_map;
use crate::format::group::Geometry;
use crate::format::header::{DEFAULT_TABLE, Header};
use crate::format::{BLOCK, is_table_name, u64_at};
use crate::hash::Hasher;
use crate::options::HashKind;
use crate::storage::{Access, Storage};

use super::blocks::{Blocks, Bytes};
use super::page;

/// So many pages are enough to tell table and slot payload.
const SAMPLE: usize = 256;

/// A table file.
pub(super) struct TableFile {
    /// As its name says.
    pub(super) name: String,
    pub(super) blocks: Blocks,
    pub(super) header: Option<Header>,
    pub(super) headers_damaged: u64,
    /// Not known if nothing of a header is left and no page is sound.
    pub(super) id: Option<u16>,
    pub(super) geometry: Option<Geometry>,
    pub(super) hash: Option<HashKind>,
    pub(super) hasher: Option<Hasher>,
    /// Which blocks are free, bit by bit.
    free: Option<Vec<u64>>,
}

impl TableFile {
    /// Opens a table file and finds out what it is.
    ///
    /// # Errors
    ///
    /// `Version` if a newer program wrote it; `Io` if it cannot be opened.
    pub(super) fn open(storage: &dyn Storage, name: &str) -> Result<TableFile> {
        let path = storage.path(name);
        let opened = storage.open(name, Access::Read).and_then(|file| Ok((file.length()?, file)));
        let (length, file) = opened.map_err(|error| Error::io("open", &path, error))?;
        let blocks = Blocks::new(file, length);
        let copies = [0, 1].map(|copy| blocks.read(copy));
        let mut headers = Vec::new();
        for (copy, bytes) in (0u64..).zip(&copies) {
            match bytes.as_ref().map(|bytes| Header::decode(bytes)) {
                Some(Ok(header)) => headers.push(header),
                Some(Err(fault)) if fault.version.is_some() => {
                    return Err(fault.at(path, copy * BLOCK as u64));
                }
                _ => {}
            }
        }
        let headers_damaged = 2 - headers.len() as u64;
        // Of two with the same generation the first one counts.
        let header = headers.into_iter().reduce(|a, b| match b.generation > a.generation {
            true => b,
            false => a,
        });
        let proven = header.as_ref().map(|header| (header.hash_id, header.hash_key));
        let proven = proven.or_else(|| copies.iter().flatten().find_map(|copy| hash_of(copy)));
        let hash = proven.and_then(|(id, _)| HashKind::from_id(id));
        let hasher = proven.zip(hash).map(|((_, key), kind)| Hasher::new(kind, key));
        let mut table = TableFile {
            name: table_of(name).to_owned(),
            free: header.as_ref().and_then(|header| {
                let bytes = blocks.run(header.free_map)?;
                decode_free_map(&bytes, header.file_blocks).ok()
            }),
            id: header.as_ref().map(|header| header.table_id),
            geometry: header.as_ref().and_then(|header| Geometry::new(header.payload.into())),
            blocks,
            header,
            headers_damaged,
            hash,
            hasher,
        };
        if table.header.is_none() {
            table.guess();
        }
        Ok(table)
    }

    /// Whether it is not the file of the table in it, but a copy, or no table at all.
    pub(super) fn is_copy(&self) -> bool {
        let is_default = self.name == DEFAULT_TABLE;
        let another = match (&self.header, self.id) {
            (Some(header), _) => header.name != self.name,
            // One table has the id 0, and its name is always the same.
            (None, Some(id)) => (id == 0) != is_default,
            (None, None) => false,
        };
        another || !is_table_name(self.name.as_bytes())
    }

    /// Whether the free map can be read.
    pub(super) fn has_free_map(&self) -> bool {
        self.free.is_some()
    }

    /// Whether a block belongs to the table as the header describes it. Not
    /// known without the free map.
    pub(super) fn in_use(&self, block: u32) -> Option<bool> {
        let words = self.free.as_ref()?;
        // What the map does not cover is free.
        let word = words.get(block as usize / 64).copied().unwrap_or(u64::MAX);
        let covered = self.header.as_ref().is_some_and(|header| block < header.file_blocks);
        Some(covered && word >> (block % 64) & 1 == 0)
    }

    /// Whether a checkpoint with these low bits of its generation may have
    /// come before the header, or was it.
    pub(super) fn is_past(&self, generation: u32) -> bool {
        let newest = self.header.as_ref().map(|header| header.generation);
        newest.is_none_or(|newest| u64::from(generation) <= newest)
    }

    /// Asks the pages for table and slot payload.
    fn guess(&mut self) {
        let mut ids: BTreeMap<u16, usize> = BTreeMap::new();
        let mut possible: Vec<Geometry> = (24..=504).step_by(8).filter_map(Geometry::new).collect();
        let mut sample = 0;
        self.blocks.scan(&mut |_, bytes| {
            if let Some(record) = page::sound(bytes) {
                *ids.entry(record.table).or_default() += 1;
                if possible.len() > 1 {
                    let some: Vec<_> =
                        possible.iter().copied().filter(|g| page::fits(bytes, g)).collect();
                    possible = if some.is_empty() { std::mem::take(&mut possible) } else { some };
                }
                sample += 1;
            }
            sample < SAMPLE || possible.len() > 1
        });
        self.id = ids.into_iter().max_by_key(|(_, pages)| *pages).map(|(id, _)| id);
        // If several are possible, the entries read the same with each of them.
        self.geometry = possible.into_iter().next().filter(|_| sample > 0);
    }
}

/// The table whose file has that name, if a table can be called so.
pub(super) fn table_of(file: &str) -> &str {
    file.strip_suffix(".swiss").unwrap_or(file)
}

/// The hash and its key out of a damaged header copy, if its self-test proves
/// that they are right.
fn hash_of(copy: &Bytes) -> Option<(u8, [u64; 2])> {
    let (id, key) = (copy[16], [u64_at(copy, 24), u64_at(copy, 32)]);
    let hasher = Hasher::new(HashKind::from_id(id)?, key);
    (hasher.self_test() == u64_at(copy, 40)).then_some((id, key))
}
