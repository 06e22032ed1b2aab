//! A table as it is in memory, for those who check it.
//!
//! The holder of the writer lock walks over segments by their hashes, as a
//! lookup comes to them, and takes copies of their pages, wherever these are.
//! Nothing here judges what it finds.

use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::format::BLOCK;
use crate::storage::map::load_bytes;

use super::Writer;
use super::layout::{DirectoryWord, RootWord, prefix_of};

/// A segment as memory has it.
pub(crate) struct SegmentView {
    word: DirectoryWord,
    /// The smallest hash bits 63 to 32 by which the directory leads here.
    asked: u32,
    groups_per_page: usize,
    /// What its descriptor says.
    pub(crate) prefix: u32,
    pub(crate) depth: u8,
    pub(crate) used: u16,
    pub(crate) tombstones: u16,
    pub(crate) pages: usize,
}

/// Where a page lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PagePlace {
    /// In a frame: changed since the last checkpoint, or before it.
    Frame,
    /// In this block of the file.
    Block(u32),
}

impl SegmentView {
    /// How the directory and the descriptor contradict each other, if they do.
    pub(crate) fn contradiction(&self) -> Option<String> {
        let by_word = (self.word.depth, usize::from(self.word.groups), self.asked);
        let here = (self.depth, self.pages * self.groups_per_page, self.prefix);
        (by_word != here || !(1..=16).contains(&self.pages)).then(|| {
            format!(
                "the directory leads to a segment {:08x}/{} of {} groups, \
                 which says it is {:08x}/{} of {}",
                by_word.2, by_word.0, by_word.1, here.2, here.0, here.1
            )
        })
    }
}

impl Writer {
    /// The segment of a hash.
    ///
    /// # Errors
    ///
    /// `Corrupt` or `Io` if its directory page cannot be loaded.
    pub(crate) fn segment_at(&self, hash: u64) -> Result<SegmentView> {
        let word = self.table.route(hash)?;
        let info = self.table.descriptor(word.descriptor).info();
        Ok(SegmentView {
            word,
            asked: prefix_of(hash, word.depth),
            groups_per_page: self.table.geometry.groups_per_page,
            prefix: info.prefix,
            depth: info.depth,
            used: info.used,
            tombstones: info.tombstones,
            pages: usize::from(info.pages).min(16),
        })
    }

    /// How many directory pages the root leads to, loaded or not. Costs a look
    /// at each word of the root.
    pub(crate) fn directory_pages(&self) -> u64 {
        // Nothing is loaded meanwhile, so all words of a page are of one kind.
        let _lines = self.table.structure();
        let (line, depth) = self.table.root();
        let look = |i: usize| {
            let (word, disk) = self.table.root_words(line, depth, i);
            (RootWord::decode(word.load(Ordering::Relaxed)), disk.load(Ordering::Relaxed))
        };
        let (mut pages, mut i) = (0, 0);
        while i < 1 << depth {
            i += match look(i) {
                (Some(word), _) => 1 << (depth - word.depth),
                unloaded => (i..1 << depth).take_while(|j| look(*j) == unloaded).count(),
            };
            pages += 1;
        }
        pages
    }

    /// Whether the directory leads a hash to a segment.
    pub(crate) fn leads_to(&self, hash: u64, segment: &SegmentView) -> bool {
        self.table.route(hash).is_ok_and(|word| word == segment.word)
    }

    /// Copies a page of a segment, and says where it lies.
    ///
    /// # Errors
    ///
    /// `Corrupt` or `Io` if it is read from the file for the first time and is
    /// not what its parent says.
    pub(crate) fn page_bytes(
        &self,
        segment: &SegmentView,
        page: usize,
        bytes: &mut [u8; BLOCK],
    ) -> Result<PagePlace> {
        let descriptor = self.table.descriptor(segment.word.descriptor);
        load_bytes(self.read_page(descriptor, page)?, 0, bytes);
        let word = descriptor.page(page);
        Ok(match word.is_frame() {
            true => PagePlace::Frame,
            false => PagePlace::Block(word.number()),
        })
    }
}
