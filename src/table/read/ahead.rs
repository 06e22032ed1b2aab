//! Asking the device for pages before they are waited for.
//!
//! Waiting for a device one page at a time takes hundreds of times longer than
//! waiting for memory. So for a *window* of keys all pages are asked for at once
//! ([`File::will_need`]) before any is waited for. Which ones they are is known
//! at no cost while they were not read since the table was opened: their page
//! words say so. Pages that were read, and that the kernel has dropped since,
//! look like all others. That some were dropped is seen by the clock, looked at
//! twice in a window: control lines that took longer to come than memory takes
//! were waited for from a device. The windows that follow then ask for every
//! page that stands in the file, for as long as that turns out to be needed.
//! Asking for a page that is in memory costs a short system call.
//!
//! [`File::will_need`]: crate::storage::File::will_need

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::format::BLOCK;
use crate::format::directory::MAX_SEGMENT_PAGES;
use crate::format::group;

use super::super::Table;
use super::super::layout::{BlockRef, PageWord, RootWord, prefix_index};

/// Pages that take longer than this to come, and longer than [`SLOW_PAGE`] for
/// each of them, come from a device.
const SLOW: Duration = Duration::from_micros(20);
const SLOW_PAGE: Duration = Duration::from_micros(2);
/// Windows that ask for all pages after one that has waited.
const ASKING: u32 = 4;

/// For how many more windows all pages are asked for. Written only when a
/// window has waited, and in those that follow it.
#[derive(Default)]
pub(crate) struct Asking(AtomicU32);

impl Asking {
    #[inline]
    pub(crate) fn is_asking(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn set(&self, windows: u32) {
        self.0.store(windows, Ordering::Relaxed);
    }

    /// So many control lines took so long to come.
    #[inline]
    pub(super) fn note_wait(&self, took: Duration, pages: usize) {
        if is_slow(took, pages) {
            self.set(ASKING);
        }
    }

    /// A window has asked for all pages, and had to wait for them or not.
    fn note_asked(&self, waited: bool) {
        let fewer = self.0.load(Ordering::Relaxed).saturating_sub(1);
        self.set(if waited { ASKING } else { fewer });
    }
}

/// Whether so many pages took longer to come than from memory.
fn is_slow(took: Duration, pages: usize) -> bool {
    took > SLOW + SLOW_PAGE * pages as u32
}

/// What a key that is left waits for.
#[derive(Clone, Copy)]
pub(super) enum Wait {
    Nothing,
    /// The directory page of its hash.
    Directory(u64),
    Page(PageWord),
}

/// The keys of a window that are left.
#[derive(Default)]
pub(super) struct Rest {
    pub(super) keys: Vec<(usize, Wait)>,
    /// Blocks are asked for whether they were read before or not.
    pub(super) ask_all: bool,
}

impl Rest {
    /// Leaves a key: it is done here.
    #[cold]
    pub(super) fn leave(&mut self, key: usize, wait: Wait) -> bool {
        self.keys.push((key, wait));
        false
    }

    /// What a page has to be waited for, if it has.
    #[inline(always)]
    pub(super) fn must_ask(&self, word: PageWord) -> bool {
        word.is_unverified() || self.ask_all && !word.is_frame()
    }
}

impl Table {
    /// Asks for all that the keys of a window wait for: directory pages first,
    /// because these say which pages. What cannot be read is found, and told,
    /// by the lookups that follow.
    #[cold]
    pub(super) fn ask_for(&self, rest: &mut Rest) {
        let unloaded = |wait: &Wait| match wait {
            Wait::Directory(hash) => Some(*hash),
            _ => None,
        };
        let hashes: Vec<u64> = rest.keys.iter().filter_map(|(_, wait)| unloaded(wait)).collect();
        self.ask_for_directory_pages(&hashes);
        for (_, wait) in &mut rest.keys {
            if let Some(hash) = unloaded(wait) {
                *wait = self.load_directory(hash).map_or(Wait::Nothing, |()| self.home_page(hash));
            }
        }
        let words: Vec<PageWord> = rest
            .keys
            .iter()
            .filter_map(|(_, wait)| match wait {
                Wait::Page(word) if rest.must_ask(*word) => Some(*word),
                _ => None,
            })
            .collect();
        self.ask_for_blocks(words.iter().map(|word| word.number()).collect());
        if rest.ask_all {
            self.asking.note_asked(self.wait_for(&words));
        }
    }

    /// Waits until pages that were asked for are in memory. Says whether that
    /// took longer than if they had been there.
    fn wait_for(&self, words: &[PageWord]) -> bool {
        let start = Instant::now();
        for word in words.iter().filter(|word| !word.is_unverified()) {
            let page = self.maps.words(word.number());
            std::hint::black_box(page.map(|words| words[0].load(Ordering::Relaxed)));
        }
        is_slow(start.elapsed(), words.len())
    }

    /// The page where the search for a hash begins.
    fn home_page(&self, hash: u64) -> Wait {
        let Ok(Some(word)) = self.try_route(hash) else {
            return Wait::Nothing;
        };
        let (page, _) = self.geometry.page_of(group::home(hash, word.groups.into()));
        match self.any_descriptor(word.descriptor) {
            Some(descriptor) if page < MAX_SEGMENT_PAGES => Wait::Page(descriptor.page(page)),
            _ => Wait::Nothing,
        }
    }

    /// Asks for the directory pages of hashes that are not loaded.
    pub(super) fn ask_for_directory_pages(&self, hashes: &[u64]) {
        if hashes.is_empty() {
            return;
        }
        let blocks = {
            // Keeps the root where it is.
            let _lines = self.structure();
            let (line, depth) = self.root();
            let words = hashes.iter().map(|hash| {
                let index = prefix_index(*hash, 0, depth);
                self.root_words(line, depth, index)
            });
            let unloaded = words
                .filter(|(word, _)| RootWord::decode(word.load(Ordering::Relaxed)).is_none())
                .map(|(_, disk)| BlockRef::decode(disk.load(Ordering::Relaxed)).block);
            unloaded.collect()
        };
        self.ask_for_blocks(blocks);
    }

    /// Asks for blocks, neighbours in one piece.
    pub(in crate::table) fn ask_for_blocks(&self, mut blocks: Vec<u32>) {
        if blocks.is_empty() {
            return;
        }
        blocks.sort_unstable();
        blocks.dedup();
        // A crafted page may name any number.
        let bytes = |block: u64| block * BLOCK as u64;
        let runs = blocks.chunk_by(|a, b| a.checked_add(1) == Some(*b));
        let ranges = runs.map(|run| bytes(run[0].into())..bytes(u64::from(run[run.len() - 1]) + 1));
        self.file.will_need(&ranges.collect::<Vec<_>>());
    }
}
