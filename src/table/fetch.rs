//! Pages that come from the file: read by a call, checked, and made known.
//!
//! A page word that is *unverified* names a block that nobody has looked at since
//! the table was opened, or since its frame was given up. Whoever needs the page
//! reads the block into memory of their own, by a call, so that a device error is
//! an error and not a signal, and checks it there. What comes next depends on what
//! it is needed for:
//!
//! | who | the page word becomes |
//! |---|---|
//! | a reader, and a writer who only looks | the block, read through the mapping from now on |
//! | a writer who is going to change the page | a frame with a copy of the bytes: a clean one, until it is changed |
//!
//! The second way spares the writer to come to the bytes again through the mapping:
//! that takes a fault, which costs as much as reading the block did, and, where
//! memory is scarce, a mapping that has to be undone. And what was read for it is not
//! kept in the page cache: the changed page goes to another block. So a writer goes
//! this way with a page that was checked before, too: it may have left memory since.
//!
//! Two may check the same page at the same time. The word is exchanged with the
//! structure lock held, once: whoever comes second finds another word there.
//!
//! # Before the lock is taken
//!
//! Waiting for a device with the writer lock held would keep all other writers
//! waiting, and the checkpoint, which wants the lock for a moment again and again.
//! So a single insert or remove [reads](Table::fetch_ahead) the page where its
//! search begins before it asks for the lock, and hands it over: it is used if
//! the page word still names the same block, and the bytes are those that the
//! parent has the checksum of. Nothing else has to be known of them: whatever
//! happened in between, that is what the page holds.

use crate::error::Result;
use crate::format::BLOCK;
use crate::format::directory::MAX_SEGMENT_PAGES;
use crate::format::group;
use crate::storage::map::store_bytes;

use super::frames::Owner;
use super::layout::{Descriptor, DirectoryWord, PageWord};
use super::mirror::Sought;
use super::{Table, Workspace, Writer};

/// A page that was read before the writer lock was taken.
pub(crate) struct Fetched {
    descriptor: u32,
    page: usize,
    block: u32,
    crc: u32,
    bytes: [u8; BLOCK],
}

impl Writer {
    /// Hands over what was read before the writer lock was taken, for the next
    /// change.
    pub(crate) fn offer(&mut self, fetched: Option<Box<Fetched>>) {
        self.offered = fetched;
    }

    /// Brings the page where the search for a hash begins into a frame, if it is
    /// in none: it is going to be changed, as a rule.
    #[inline]
    pub(super) fn fetch_home(
        &mut self,
        ws: &mut Workspace,
        word: DirectoryWord,
        hash: u64,
    ) -> Result<()> {
        let home = group::home(hash, word.groups.into());
        let (page, _) = self.table.geometry.page_of(home);
        let seen = self.table.descriptor(word.descriptor).page(page);
        if seen.is_frame() { Ok(()) } else { self.fetch(ws, word.descriptor, page, seen) }
    }

    #[cold]
    fn fetch(&mut self, ws: &mut Workspace, line: u32, page: usize, word: PageWord) -> Result<()> {
        let offered = self.offered.take();
        let table = &*self.table;
        let descriptor = table.descriptor(line);
        let crc = descriptor.crc(page);
        let suits = |fetched: &Fetched| {
            let place = (fetched.descriptor, fetched.page, fetched.block);
            place == (line, page, word.number()) && fetched.crc == crc
        };
        let fetched = match offered.filter(|fetched| suits(fetched)) {
            Some(fetched) => fetched,
            None => table.read_whole(line, page, word)?,
        };
        table.check_page(descriptor, page, word, &fetched.bytes, fetched.crc)?;
        let owner = Owner { table: table.id, page: page as u8, descriptor: line };
        let Some(frame) = ws.take_frame(owner) else {
            // The lookup checks it anew, and leaves it where it is.
            return Ok(());
        };
        store_bytes(ws.pool.words(frame), 0, &fetched.bytes);
        ws.pool.cleaned(frame, word.number());
        let words = (word, PageWord::frame(frame));
        if !table.make_known(descriptor, page, words, &fetched.bytes) {
            ws.pool.retire(&ws.epoch, frame);
        }
        Ok(())
    }
}

impl Table {
    /// Reads the page where the search for a hash begins, if it is in no frame, for
    /// a writer who does not hold the writer lock yet. `None` also if it cannot be
    /// read: who does it with the lock held tells why.
    #[cold]
    pub(crate) fn fetch_ahead(&self, hash: u64, inserts: bool) -> Option<Box<Fetched>> {
        // The first try may have had to load the directory page.
        let found = self.try_route(hash).ok()?;
        let segment = found.or_else(|| self.try_route(hash).ok()?)?;
        let descriptor = self.any_descriptor(segment.descriptor)?;
        let (page, _) = self.geometry.page_of(group::home(hash, segment.groups.into()));
        let word = (page < MAX_SEGMENT_PAGES).then(|| descriptor.page(page))?;
        let is_absent = || matches!(self.seek(segment.encode(), hash), Sought::Absent);
        if word.is_frame() || !inserts && is_absent() {
            return None;
        }
        self.read_whole(segment.descriptor, page, word).ok()
    }

    /// Reads a page that is going to be changed.
    fn read_whole(&self, descriptor: u32, page: usize, word: PageWord) -> Result<Box<Fetched>> {
        let (block, bytes) = (word.number(), [0; BLOCK]);
        let mut fetched = Box::new(Fetched { descriptor, page, block, crc: 0, bytes });
        let offset = u64::from(block) * BLOCK as u64;
        let read = self.file.read_once(&mut fetched.bytes, offset);
        read.map_err(|error| self.unread(block, error))?;
        fetched.crc = group::page_crc(&fetched.bytes);
        Ok(fetched)
    }

    /// The writer has checked a page: its word is exchanged, and its control words
    /// are copied to the mirror before, unless a reader has done that meanwhile. Says
    /// whether none had. No epoch is asked: the descriptor stays while the writer lock
    /// is held.
    fn make_known(
        &self,
        descriptor: Descriptor<'_>,
        page: usize,
        (seen, known): (PageWord, PageWord),
        bytes: &[u8; BLOCK],
    ) -> bool {
        let _lines = self.structure();
        if descriptor.page(page) != seen {
            return false;
        }
        self.mirror_page(descriptor, page, bytes);
        descriptor.exchange_page(page, seen, known)
    }
}
