//! The entries of one table file, as of its L as far as possible.
//!
//! 1. What the tree leads to, page by page.
//! 2. If something is missing: sound pages that the free map calls in use and
//!    that nothing leads to. They are of the same state of the table.
//! 3. If pages are missing then, or it is not known: other sound pages, those
//!    of the newest generation first, for keys that were not found before and
//!    may have been in what is missing. These are from an older generation.
//!
//! # Why the newest page is right
//!
//! Of the pages that ever held a key, the one that holds it now is the newest:
//! a page is replaced as a whole by one of a later checkpoint, and if that no
//! longer holds the key, some other page of that checkpoint does, or the key
//! was removed. So for a key whose page is undamaged, newest first finds what
//! the table had, and all that older pages can do is to bring back what was
//! removed. That is why they are asked in holes only.
//!
//! # Without a header
//!
//! Nothing says then which pages are in use, and, without the hash key, which
//! page has which prefix. If directory pages cover all prefixes and everything
//! that they lead to is sound, they are believed. Otherwise all sound pages
//! are asked, newest first. The newest of several directory pages for the same
//! prefixes may be the damaged one, though, and all pages of the one before may
//! still be whole. A page that is newer than the directory page for its entries
//! gives that away. Where its prefix is known, that is: from the hash key, or from
//! an entry that is spilled. So goes a table whose root and free map are both
//! destroyed. Only where nothing of the hash key is left and no entry of the page
//! is spilled, the older directory page is believed.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::Result;
use crate::format::group::Geometry;
use crate::table::Table;

use super::Salvage;
use super::blocks::Bytes;
use super::page::{self, Slot};
use super::table::TableFile;
use super::tree::Tree;

/// Sound pages that the tree does not lead to.
#[derive(Default)]
struct Others {
    in_use: Vec<u32>,
    /// With their generations.
    older: Vec<(u32, u32)>,
    /// Blocks in use that are no sound pages.
    lost: u64,
}

/// What the slot of an entry came to.
enum Found {
    Entry(Vec<u8>, Vec<u8>),
    /// The log does not have the rest of it. The key, if it stood in the slot.
    Lost(Option<Vec<u8>>),
}

impl Salvage<'_> {
    /// Puts the entries of a table file into a table of the new store. Returns
    /// the tree, which knows what is missing.
    pub(super) fn harvest(&mut self, file: &TableFile, into: &Arc<Table>) -> Result<Tree> {
        let mut tree = Tree::read(file);
        self.report.roots_damaged += u64::from(tree.root_damaged);
        self.report.directory_pages_damaged += tree.directory_pages_damaged;
        if file.header.is_some() {
            self.report.free_maps_damaged += u64::from(!file.has_free_map());
        }
        let Some(geometry) = file.geometry else {
            self.report.tables_in_doubt += u64::from(file.headers_damaged == 2);
            return Ok(tree);
        };
        let trusted = match file.header {
            Some(_) => !is_outdated(file, geometry, &tree),
            None => is_complete(file, geometry, &mut tree) && !is_outdated(file, geometry, &tree),
        };
        if !trusted {
            self.report.tables_in_doubt += 1;
            self.take_all(file, geometry, &tree, into)?;
            return Ok(tree);
        }
        let mut damaged = 0;
        for index in 0..tree.segments.len() {
            let pages = tree.pages(file, &geometry, index);
            damaged += pages.iter().filter(|page| page.is_none()).count() as u64;
            for page in pages.iter().flatten() {
                self.take_page(geometry, page, into)?;
            }
            if !self.tell(Some(&into.name), pages.len() as u64) {
                return Ok(tree);
            }
        }
        if !tree.holes.is_empty() {
            self.take_others(file, geometry, &mut tree, damaged, into)?;
        }
        Ok(tree)
    }

    /// Steps 2 and 3.
    fn take_others(
        &mut self,
        file: &TableFile,
        geometry: Geometry,
        tree: &mut Tree,
        damaged: u64,
        into: &Arc<Table>,
    ) -> Result<()> {
        let mut others = others(file, tree);
        for block in &others.in_use {
            match read_again(file, *block) {
                Some(page) => self.take_page(geometry, &page, into)?,
                None => others.lost += 1,
            }
        }
        self.report.pages_damaged += damaged + others.lost;
        if damaged + others.lost == 0 && file.has_free_map() {
            // Directory pages are gone, but nothing of what they led to.
            tree.holes.clear();
            return Ok(());
        }
        let unknown = tree.directory_pages_damaged > 0 || tree.root_damaged;
        self.report.tables_in_doubt += u64::from(unknown && !file.has_free_map());
        others.older.sort_unstable_by(|a, b| b.cmp(a));
        for (_, block) in others.older {
            let Some(page) = read_again(file, block) else { continue };
            if belongs(file, geometry, &page) {
                self.take_older(file, geometry, &page, Some(tree), into)?;
            }
            if !self.tell(Some(&into.name), 0) {
                break;
            }
        }
        Ok(())
    }

    /// All sound pages of a file without a header, newest first.
    fn take_all(
        &mut self,
        file: &TableFile,
        geometry: Geometry,
        tree: &Tree,
        into: &Arc<Table>,
    ) -> Result<()> {
        let referred: BTreeSet<u32> =
            tree.segments.iter().flat_map(|(_, s)| s.pages.iter().map(|page| page.block)).collect();
        let mut pages = Vec::new();
        file.blocks.scan(&mut |block, bytes| {
            if let Some(record) = page::sound(bytes).filter(|r| Some(r.table) == file.id) {
                pages.push((record.generation, block));
            }
            true
        });
        pages.sort_unstable_by(|a, b| b.cmp(a));
        for (_, block) in pages {
            let Some(page) = read_again(file, block) else {
                self.report.pages_damaged += 1;
                continue;
            };
            let before = self.report.from_older;
            self.take_older(file, geometry, &page, None, into)?;
            if referred.contains(&block) {
                // As far as anything tells, it is what the table had last.
                self.report.from_pages += self.report.from_older - before;
                self.report.from_older = before;
            }
            if !self.tell(Some(&into.name), 1) {
                break;
            }
        }
        Ok(())
    }

    /// Puts the entries of a page.
    fn take_page(&mut self, geometry: Geometry, page: &Bytes, into: &Arc<Table>) -> Result<()> {
        for slot in page::slots(page, geometry) {
            if let (Some(key), Some(value)) = (slot.key(), slot.value()) {
                self.target.insert(into, key, value)?;
                self.report.from_pages += 1;
                continue;
            }
            match self.read(&slot) {
                Found::Entry(key, value) => {
                    self.target.insert(into, &key, &value)?;
                    self.report.from_pages += 1;
                }
                Found::Lost(key) => self.lost.add(into, key),
            }
        }
        Ok(())
    }

    /// Puts those entries of an older page that may be what is missing.
    fn take_older(
        &mut self,
        file: &TableFile,
        geometry: Geometry,
        page: &Bytes,
        tree: Option<&Tree>,
        into: &Arc<Table>,
    ) -> Result<()> {
        for slot in page::slots(page, geometry) {
            let hash = hash_of(file, &slot);
            let wanted = hash.zip(tree).is_none_or(|(hash, tree)| tree.may_have_held(hash));
            if !wanted {
                continue;
            }
            // What is lost in the log is not looked for in older pages: its
            // key would come with a value that it is known not to have.
            let Found::Entry(key, value) = self.read(&slot) else { continue };
            let new = !self.lost.has(into.id, &key);
            if new && self.target.insert_if_absent(into, &key, &value)? {
                self.report.from_older += 1;
            }
        }
        Ok(())
    }

    /// Key and value of a slot, out of the log where need be.
    fn read(&mut self, slot: &Slot<'_>) -> Found {
        let key = slot.key().map(<[u8]>::to_vec);
        let value = slot.value().map(<[u8]>::to_vec);
        let Some(address) = slot.address() else {
            return match (key, value) {
                (Some(key), Some(value)) => Found::Entry(key, value),
                (key, _) => Found::Lost(key),
            };
        };
        let Some(mut bytes) = self.logs.value(&address) else {
            if !self.logs.has(address.file) {
                self.missing_files.insert(address.file);
            }
            return Found::Lost(key);
        };
        match (key, value) {
            (Some(key), _) => Found::Entry(key, bytes),
            (None, Some(value)) => Found::Entry(bytes, value),
            (None, None) if bytes.len() >= slot.lengths.key_len() => {
                let value = bytes.split_off(slot.lengths.key_len());
                Found::Entry(bytes, value)
            }
            (None, None) => Found::Lost(None),
        }
    }
}

/// A page that was sound when it was found. It need not come a second time, nor
/// as it was.
fn read_again(file: &TableFile, block: u32) -> Option<Box<Bytes>> {
    let its_own = |page: &Bytes| page::sound(page).is_some_and(|r| Some(r.table) == file.id);
    file.blocks.read(block).filter(|page| its_own(page))
}

/// Whether directory pages cover all prefixes and lead to sound pages only.
fn is_complete(file: &TableFile, geometry: Geometry, tree: &mut Tree) -> bool {
    (0..tree.segments.len()).for_each(|index| _ = tree.pages(file, &geometry, index));
    tree.holes.is_empty()
}

/// Whether some page shows that a directory page that was gathered is not the
/// last one for its prefixes.
fn is_outdated(file: &TableFile, geometry: Geometry, tree: &Tree) -> bool {
    let mut outdated = false;
    if tree.is_gathered(file) {
        file.blocks.scan(&mut |block, bytes| {
            let record = page::sound(bytes).filter(|record| Some(record.table) == file.id);
            if let Some(record) = record
                && !tree.known.has(block)
                && file.is_past(record.generation)
            {
                let hash = page::slots(bytes, geometry).find_map(|slot| hash_of(file, &slot));
                outdated = hash.is_some_and(|hash| tree.is_outdated_by(hash, record.generation));
            }
            !outdated
        });
    }
    outdated
}

/// Looks for sound pages that the tree does not lead to.
fn others(file: &TableFile, tree: &Tree) -> Others {
    let mut others = Others::default();
    let mut next = 0;
    file.blocks.scan(&mut |block, bytes| {
        // Blocks that the device did not deliver are passed over.
        others.lost += (next..block).filter(|b| is_lost(file, tree, *b)).count() as u64;
        next = block + 1;
        if tree.known.has(block) {
            return true;
        }
        let record = page::sound(bytes).filter(|record| Some(record.table) == file.id);
        match (record, file.in_use(block)) {
            (Some(_), Some(true)) => others.in_use.push(block),
            (Some(record), _) if file.is_past(record.generation) => {
                others.older.push((record.generation, block));
            }
            (_, Some(true)) => others.lost += 1,
            _ => {}
        }
        true
    });
    // What the file is too short for is lost as well.
    let end = file.header.as_ref().map_or(next, |header| header.file_blocks);
    others.lost += (next..end).filter(|b| is_lost(file, tree, *b)).count() as u64;
    others
}

fn is_lost(file: &TableFile, tree: &Tree, block: u32) -> bool {
    file.in_use(block) == Some(true) && !tree.known.has(block)
}

/// The hash of an entry, if it is known without reading the log.
fn hash_of(file: &TableFile, slot: &Slot<'_>) -> Option<u64> {
    match (slot.key(), file.hasher) {
        (Some(key), Some(hasher)) => Some(hasher.hash(key)),
        _ => slot.address().map(|address| address.hash),
    }
}

/// Whether a page is of the table as it has been since it was last cleared:
/// then its keys have the hash bits that stand beside them.
fn belongs(file: &TableFile, geometry: Geometry, page: &Bytes) -> bool {
    page::slots(page, geometry)
        .all(|slot| hash_of(file, &slot).is_none_or(|hash| slot.has_bits_of(hash)))
}
