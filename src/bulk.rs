//! Writing a whole table file at once, front to back.
//!
//! Given entries in the order of their hashes, a [`Bulk`] lays them out as a
//! table that is as full as a table may be, and writes the file from its first
//! page to its last block. Nothing is read, nothing is written twice but the
//! headers, and memory does not depend on the number of entries: the entries of
//! one segment, the records of one directory page, sixteen bytes for each
//! directory page, and the root.
//!
//! ```text
//! entries ──► segments ──► directory pages ──► root, free map, header copies
//!
//! file   0 1 | pages of segments, each directory page behind its last one | root | free map
//! ```
//!
//! Which range of hashes becomes a segment is decided as soon as it can be: a
//! segment begins where the one before it ended, and is the largest range of a
//! prefix that begins there and whose entries fit sixteen pages. One entry more
//! than these hold has to be seen for that. Directory pages are cut from the
//! segments in the same way ([`cut`]).
//!
//! # Durability
//!
//! [`finish`](Bulk::finish) syncs the file before its headers are written, and
//! then after each of them. Until it returns the file is nobody's: it bears a
//! temporary name, and is removed if anything fails. The caller renames it and
//! syncs the directory. The position in the log that the file is said to be
//! equal to has to be durable before `finish` is called.
//!
//! This knows table files and the storage, but no open store: it serves who
//! rewrites a table, copies one, or saves what is left of one.

mod cut;
mod output;
mod pages;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::directory::{
    DirectoryPage, MAX_ROOT_DEPTH, RootEntry, SegmentRecord, encode_free_map, encode_root,
    free_map_blocks,
};
use crate::format::group::{Address, Geometry, Lengths};
use crate::format::header::{Header, Run, TableState};
use crate::format::record::Position;
use crate::format::{ADDRESS_BYTES, BLOCK, crc32, u64_at};
use crate::hash::Hasher;
use crate::options::HashKind;
use crate::storage::{Access, File, Storage};
use crate::store::create::write_header;
use cut::{Directories, HASHES, Segments};
use output::Output;
use pages::Pages;

/// What the table is to be, apart from its entries.
#[derive(Clone)]
pub(crate) struct BulkTable {
    pub(crate) id: u16,
    pub(crate) name: String,
    pub(crate) geometry: Geometry,
    pub(crate) hash: HashKind,
    pub(crate) hash_key: [u64; 2],
    /// How often the hash key was changed.
    pub(crate) clears: u32,
    /// The id for the next new table; 0 except in the default table.
    pub(crate) next_table_id: u32,
    /// Larger than that of any file this one replaces.
    pub(crate) generation: u64,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) entries: u64,
    pub(crate) segments: u64,
    /// Pages of segments.
    pub(crate) pages: u64,
    pub(crate) directory_pages: u64,
    /// The length of the file in bytes.
    pub(crate) bytes: u64,
}

/// A table file that is being written.
pub(crate) struct Bulk<'a> {
    /// Removes the file if it is not finished.
    temporary: Temporary<'a>,
    table: BulkTable,
    file: Arc<dyn File>,
    output: Output,
    segments: Segments,
    pages: Pages,
    directories: Directories,
    /// Depth and place of each directory page, in the order of their prefixes.
    root: Vec<(u8, RootEntry)>,
    live: BTreeMap<u32, u64>,
    written: Written,
}

impl<'a> Bulk<'a> {
    /// Begins a file under a temporary name. What lies there is replaced.
    ///
    /// # Errors
    ///
    /// `Io` if the file cannot be made.
    pub(crate) fn create(
        storage: &'a dyn Storage,
        temporary: &str,
        table: BulkTable,
    ) -> Result<Bulk<'a>> {
        let path = storage.path(temporary);
        // Left over from an attempt that was interrupted; absent as a rule.
        let _ = storage.remove(temporary);
        let opened = storage.open(temporary, Access::Create);
        let file = opened.map_err(|error| Error::io("create", &path, error))?;
        Ok(Bulk {
            temporary: Temporary { storage, name: temporary.to_owned(), done: false },
            output: Output::new(file.clone(), path),
            segments: Segments::new(table.geometry),
            pages: Pages::new(table.geometry, table.id, table.generation as u32),
            directories: Directories::default(),
            root: Vec::new(),
            live: BTreeMap::new(),
            written: Written::default(),
            table,
            file,
        })
    }

    /// Adds an entry. Its hash is not below any that was added before (only
    /// the first 32 bits count), and no key is added twice. `slot` is what
    /// stands in its slot: as many bytes as the slot payload, laid out as the
    /// lengths say, zeros behind.
    ///
    /// # Errors
    ///
    /// `HashCollisions`, `Io`. Nothing can be added then; the file is removed
    /// when this is dropped.
    pub(crate) fn push(&mut self, hash: u64, lengths: Lengths, slot: &[u8]) -> Result<()> {
        if lengths.spilled() {
            let at = lengths.address_word() * 8;
            let word = |i: usize| u64_at(&slot[at..at + ADDRESS_BYTES], 8 * i);
            let address = Address::from_words([word(0), word(1), word(2)]);
            *self.live.entry(address.file).or_insert(0) += u64::from(address.len);
        }
        self.segments.push(hash, lengths, slot);
        while self.segments.is_decided() {
            self.write_segment()?;
        }
        Ok(())
    }

    /// Writes what is left of the table and its headers, all of it durable
    /// when this returns. The file is the caller's from then on, still under
    /// its temporary name. `log` is the position that the entries are equal to,
    /// durable already.
    ///
    /// # Errors
    ///
    /// `HashCollisions`, `Io`. The file is removed then.
    pub(crate) fn finish(mut self, log: Position) -> Result<Written> {
        while self.segments.begin() < HASHES {
            self.write_segment()?;
        }
        let header = self.write_root(log)?;
        self.output.flush()?;
        self.file.sync().map_err(|error| Error::io("sync", self.output.path(), error))?;
        write_header(&self.file, &header, 0)
            .map_err(|error| Error::io("write to", self.output.path(), error))?;
        self.temporary.done = true;
        self.written.bytes = u64::from(header.file_blocks) * BLOCK as u64;
        Ok(self.written)
    }

    /// Writes the next segment, and the directory pages that are decided by it.
    fn write_segment(&mut self) -> Result<()> {
        let Some((part, entries)) = self.segments.next() else {
            return Err(self.collisions());
        };
        let mut references = Vec::new();
        for page in self.pages.lay_out(part.depth, entries) {
            let (bytes, crc) = page;
            references.push(self.output.put(bytes, crc)?);
        }
        self.written.entries += entries.len() as u64;
        self.written.segments += 1;
        self.written.pages += references.len() as u64;
        let used = entries.len() as u16;
        self.segments.go_on(part);
        self.directories.push(
            part,
            SegmentRecord { depth: part.depth, used, tombstones: 0, pages: references },
        );
        while let Some(next) = self.directories.next() {
            let Some((part, segments)) = next.filter(|(part, _)| part.depth <= MAX_ROOT_DEPTH)
            else {
                return Err(self.collisions());
            };
            let page = DirectoryPage {
                table_id: self.table.id,
                depth: part.depth,
                prefix: part.begin as u32,
                generation: self.table.generation,
                segments,
            };
            let bytes = page.encode();
            let crc = crc32(&bytes[..], 0);
            let block = self.output.put(&bytes, crc)?.block;
            self.root.push((part.depth, RootEntry { block, crc }));
            self.written.directory_pages += 1;
        }
        Ok(())
    }

    /// Writes root and free map, behind everything else. Returns the header
    /// that names them.
    fn write_root(&mut self, log: Position) -> Result<Header> {
        let root_depth = self.root.iter().map(|(depth, _)| *depth).max().unwrap_or(0);
        let mut entries = Vec::with_capacity(1 << root_depth);
        for (depth, entry) in &self.root {
            entries.extend(std::iter::repeat_n(*entry, 1 << (root_depth - depth)));
        }
        let bytes = encode_root(&entries, &self.live);
        let root = self.output.put_run(&bytes)?;
        // The map covers its own blocks as well.
        let before = self.output.blocks();
        let mut total = before;
        while before + free_map_blocks(total) > total {
            total = before + free_map_blocks(total);
        }
        let free_map = self.output.put_run(&encode_free_map(&[], total))?;
        Ok(self.header(log, root_depth, root, free_map))
    }

    fn header(&self, log: Position, root_depth: u8, root: Run, free_map: Run) -> Header {
        let (table, written) = (&self.table, &self.written);
        let slots = written.pages * table.geometry.slots_per_page() as u64;
        Header {
            table_id: table.id,
            payload: table.geometry.payload() as u16,
            hash_id: table.hash.id(),
            state: TableState::Live,
            clean: false,
            root_depth,
            name: table.name.clone(),
            hash_key: table.hash_key,
            self_test: Hasher::new(table.hash, table.hash_key).self_test(),
            capacity: slots,
            used: written.entries,
            growth_left: slots / 8 * 7 - written.entries,
            segments: written.segments,
            generation: table.generation,
            log,
            root,
            live_count: self.live.len() as u32,
            free_map,
            file_blocks: self.output.blocks(),
            next_table_id: table.next_table_id,
            clears: table.clears,
        }
    }

    #[cold]
    fn collisions(&self) -> Error {
        Error::HashCollisions { table: self.table.name.clone() }
    }
}

/// The name under which a file is written, until it is done.
struct Temporary<'a> {
    storage: &'a dyn Storage,
    name: String,
    done: bool,
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.done {
            // If it stays, the next opening for writing removes it.
            let _ = self.storage.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests;
