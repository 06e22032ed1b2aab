//! Looking up many keys at once: each step for all of them, then the next.
//!
//! A single lookup waits for memory three or four times, each time for what the
//! last wait brought. Here a *chunk* of keys goes through the steps side by side.
//! A step loads what the one before has asked for, and asks for what the next
//! one needs, so that the waits of a chunk run at the same time:
//!
//! ```text
//! hash, root word         ask for the directory word
//! directory word          ask for the line of the descriptor
//! page word               ask for the control line          <─┐ those that
//! match                   ask for both lines of the slot      │ go on to the
//! compare, copy, check    answer                             ─┘ next group
//! ```
//!
//! A chunk has as many keys as the core can wait for lines at once, about.
//!
//! Nothing is believed that a single lookup would not believe: the epoch is
//! taken before the root is loaded, once for the chunk, and the version before
//! the match; both are looked at again when the slot was copied. A retired
//! structure is the table as it was when that was replaced, which is after the
//! chunk began. Whatever is not plain (a difference, a spilled part, something
//! not loaded or not checked yet) is *left*, and a single lookup says.
//!
//! # Pages that are not in memory
//!
//! Waiting for a device one page at a time takes hundreds of times longer than
//! all of the above. So for a *window* of keys all pages are asked for at once
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

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::format::BLOCK;
use crate::format::directory::MAX_SEGMENT_PAGES;
use crate::format::group::{self, Probe};
use crate::storage::map::prefetch;

use super::super::Table;
use super::super::layout::{BlockRef, DirectoryWord, PageWord, RootWord, page_word, prefix_index};
use super::super::segment::key_is;
use super::{Slot, Stop, Try, control_line, forked, group_of, lengths_of, line_of, slot_of};

/// Keys that go through the steps side by side.
pub(crate) const CHUNK: usize = 32;
/// Keys whose pages are asked for at once.
const WINDOW: usize = 8 * CHUNK;
/// Pages that take longer than this to come, and longer than [`SLOW_PAGE`] for
/// each of them, come from a device.
const SLOW: Duration = Duration::from_micros(20);
const SLOW_PAGE: Duration = Duration::from_micros(2);
/// Windows that ask for all pages after one that has waited.
const ASKING: u32 = 4;

/// What came of one of many lookups.
pub(crate) enum Answer<'a, const N: usize> {
    /// The slot, copied out.
    Here(&'a Slot<N>),
    Absent,
    /// A single lookup has to say.
    Left,
}

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

    /// A window has asked for all pages, and had to wait for them or not.
    fn note(&self, waited: bool) {
        let fewer = self.0.load(Ordering::Relaxed).saturating_sub(1);
        self.set(if waited { ASKING } else { fewer });
    }
}

/// Whether so many pages took longer to come than from memory.
fn is_slow(took: Duration, pages: usize) -> bool {
    took > SLOW + SLOW_PAGE * pages as u32
}

/// What the control line has said.
#[derive(Clone, Copy)]
enum Said {
    /// The key may be in this slot and in no other.
    Slot(usize),
    Absent,
    /// The search goes on in the next group.
    GoOn,
}

/// One key on its way.
#[derive(Clone, Copy)]
struct Look<'a> {
    /// Its number in the window.
    key: usize,
    hash: u64,
    /// The directory word, then the line of the descriptor.
    line: &'a [AtomicU64],
    probe: Probe,
    group: &'a [AtomicU64],
    version: u64,
    said: Said,
}

/// The keys of a chunk that are still on their way, in the first places.
struct Looks<'a> {
    looks: [Look<'a>; CHUNK],
    len: usize,
}

impl<'a> Looks<'a> {
    #[inline(always)]
    fn new() -> Looks<'a> {
        let probe = Probe::new(0, 1);
        let said = Said::GoOn;
        let look = Look { key: 0, hash: 0, line: &[], probe, group: &[], version: 0, said };
        Looks { looks: [look; CHUNK], len: 0 }
    }

    #[inline(always)]
    fn push(&mut self, key: usize, hash: u64, word: &'a AtomicU64) {
        prefetch(word);
        let look = &mut self.looks[self.len % CHUNK];
        (look.key, look.hash, look.line) = (key, hash, std::slice::from_ref(word));
        self.len += 1;
    }

    /// Takes each look a step further; those for which `step` says no are done.
    #[inline(always)]
    fn step(&mut self, mut step: impl FnMut(&mut Look<'a>) -> bool) {
        let mut kept = 0;
        for i in 0..self.len.min(CHUNK) {
            if step(&mut self.looks[i]) {
                if kept != i {
                    self.looks[kept] = self.looks[i];
                }
                kept += 1;
            }
        }
        self.len = kept;
    }
}

/// What a key that is left waits for.
#[derive(Clone, Copy)]
enum Wait {
    Nothing,
    /// The directory page of its hash.
    Directory(u64),
    Page(PageWord),
}

/// The keys of a window that are left.
#[derive(Default)]
struct Rest {
    keys: Vec<(usize, Wait)>,
    /// Blocks are asked for whether they were read before or not.
    ask_all: bool,
}

impl Rest {
    /// Leaves a key: it is done here.
    #[cold]
    fn leave(&mut self, key: usize, wait: Wait) -> bool {
        self.keys.push((key, wait));
        false
    }

    /// What a page has to be waited for, if it has.
    #[inline(always)]
    fn must_ask(&self, word: PageWord) -> bool {
        word.is_unverified() || self.ask_all && !word.is_frame()
    }
}

impl Table {
    /// Looks all keys up, and tells `answer` what came of each, by its number,
    /// in no order.
    ///
    /// # Errors
    ///
    /// `Closed` in the child of a fork. Other errors come to those who look up
    /// what was left.
    #[inline]
    pub(crate) fn lookup_many<const N: usize, K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        mut answer: impl FnMut(usize, Answer<'_, N>),
    ) -> Result<()> {
        let (mut rest, mut looks, mut slot) = (Rest::default(), Looks::new(), Slot::new());
        let mut start = 0;
        if let [_] = keys {
            // A single lookup is what it would come to.
            answer(0, Answer::Left);
            return Ok(());
        }
        for window in keys.chunks(WINDOW) {
            rest.ask_all = self.asking.is_asking();
            let mut answer = |key, found: Answer<'_, N>| answer(start + key, found);
            for first in (0..window.len()).step_by(CHUNK) {
                let chunk = first..window.len().min(first + CHUNK);
                let timed = first == 0 && !rest.ask_all;
                let seen = self.epoch.read();
                if seen == 0 {
                    return Err(forked());
                }
                self.ask_for_directory(window, chunk, &mut looks, &mut rest);
                self.finish_chunk(
                    window,
                    &mut looks,
                    (seen, timed),
                    &mut rest,
                    &mut slot,
                    &mut answer,
                );
            }
            if rest.ask_all || !rest.keys.is_empty() {
                self.ask_for(&mut rest);
                for (key, _) in rest.keys.drain(..) {
                    answer(key, Answer::Left);
                }
            }
            start += window.len();
        }
        Ok(())
    }

    /// Takes a chunk through the steps that follow the first.
    #[inline(always)]
    fn finish_chunk<'a, const N: usize, K: AsRef<[u8]>>(
        &'a self,
        window: &[K],
        looks: &mut Looks<'a>,
        (seen, timed): (u64, bool),
        rest: &mut Rest,
        slot: &mut Slot<N>,
        answer: &mut impl FnMut(usize, Answer<'_, N>),
    ) {
        looks.step(|look| {
            self.ask_for_descriptor(look).is_ok() || rest.leave(look.key, Wait::Nothing)
        });
        let mut clock = timed.then(|| (Instant::now(), looks.len));
        while looks.len > 0 {
            looks.step(|look| self.ask_for_group(look, rest));
            looks.step(|look| {
                let matched = self.match_group(look, window[look.key].as_ref(), seen);
                matched.is_ok() || rest.leave(look.key, Wait::Nothing)
            });
            if let Some((start, pages)) = clock.take()
                && is_slow(start.elapsed(), pages)
            {
                self.asking.set(ASKING);
            }
            looks.step(|look| {
                match look.said {
                    Said::GoOn => return true,
                    Said::Absent => answer(look.key, Answer::Absent),
                    Said::Slot(number) => {
                        let key = window[look.key].as_ref();
                        match self.copy_slot(look, number, key, seen, slot) {
                            Ok(()) => answer(look.key, Answer::Here(slot)),
                            Err(_) => return rest.leave(look.key, Wait::Nothing),
                        }
                    }
                }
                false
            });
        }
    }

    /// The first step: hashes, root words.
    #[inline(always)]
    fn ask_for_directory<'a, K: AsRef<[u8]>>(
        &'a self,
        window: &[K],
        chunk: Range<usize>,
        looks: &mut Looks<'a>,
        rest: &mut Rest,
    ) {
        let root = self.root.load(Ordering::Acquire) as u32;
        let head = self.root_head(root).ok();
        for key in chunk {
            let Some((depth, hasher)) = head else {
                rest.leave(key, Wait::Nothing);
                continue;
            };
            let hash = hasher.hash(window[key].as_ref());
            match self.directory_word(root, depth, hash) {
                Ok(word) => looks.push(key, hash, word),
                Err(Stop::Unloaded(hash)) => drop(rest.leave(key, Wait::Directory(hash))),
                Err(_) => drop(rest.leave(key, Wait::Nothing)),
            }
        }
    }

    /// The second step: the directory word.
    #[inline(always)]
    fn ask_for_descriptor<'a>(&'a self, look: &mut Look<'a>) -> Try<DirectoryWord> {
        let word = DirectoryWord::decode(look.line[0].load(Ordering::Acquire));
        look.line = line_of(&self.arena, word.descriptor)?;
        look.probe = Probe::new(look.hash, word.groups.into());
        prefetch(&look.line[0]);
        Ok(word)
    }

    /// The third step: the page word of the group that comes next.
    #[inline(always)]
    fn ask_for_group<'a>(&'a self, look: &mut Look<'a>, rest: &mut Rest) -> bool {
        let (page, number) = self.geometry.page_of(look.probe.next().unwrap_or(usize::MAX));
        // Only a directory word from reused memory goes beyond these.
        if page >= MAX_SEGMENT_PAGES || number >= self.geometry.groups_per_page {
            return rest.leave(look.key, Wait::Nothing);
        }
        let word = page_word(look.line, page);
        if rest.must_ask(word) {
            return rest.leave(look.key, Wait::Page(word));
        }
        let Some(words) = self.page_words(word) else {
            return rest.leave(look.key, Wait::Nothing);
        };
        look.group = group_of(&self.geometry, words, number);
        prefetch(&look.group[0]);
        true
    }

    /// The fourth step: the control line.
    #[inline(always)]
    fn match_group(&self, look: &mut Look<'_>, key: &[u8], seen: u64) -> Try<()> {
        let line = control_line(look.group);
        look.version = line[group::VERSION_AND_CRC].load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        if look.version & 1 == 1 {
            return Err(Stop::Changed);
        }
        let control = line[group::CONTROL].load(Ordering::Relaxed);
        let fps = line[group::FINGERPRINTS].load(Ordering::Relaxed);
        let wanted = group::fingerprint(look.hash);
        let mut slots = group::match_h2(control, group::h2(look.hash)).filter(|slot| {
            let lengths = lengths_of(line, *slot);
            group::byte(fps, *slot) == wanted && lengths.key_len() == key.len()
        });
        if let Some(slot) = slots.next() {
            look.said = Said::Slot(slot);
            let words = slot_of(&self.geometry, look.group, slot);
            prefetch(&words[0]);
            prefetch(&words[words.len() - 1]);
            return Ok(());
        }
        let ends = group::match_empty(control).any();
        look.said = if ends { Said::Absent } else { Said::GoOn };
        match self.is_unchanged_since(line, look.version, seen) {
            true => Ok(()),
            false => Err(Stop::Changed),
        }
    }

    /// The last step: the slot that may hold the key. A single lookup goes on
    /// where it holds another, and where a part of it stands in the log.
    #[inline(always)]
    fn copy_slot<const N: usize>(
        &self,
        look: &Look<'_>,
        slot: usize,
        key: &[u8],
        seen: u64,
        out: &mut Slot<N>,
    ) -> Try<()> {
        let line = control_line(look.group);
        let lengths = lengths_of(line, slot);
        if lengths.spilled() || lengths.key_len() != key.len() || !lengths.fit(&self.geometry) {
            return Err(Stop::Changed);
        }
        let words = slot_of(&self.geometry, look.group, slot);
        if !key_is(words, key) {
            return Err(Stop::Changed);
        }
        out.lengths = lengths;
        for (to, from) in out.words.iter_mut().zip(words) {
            *to = from.load(Ordering::Relaxed).to_le();
        }
        match self.is_unchanged_since(line, look.version, seen) {
            true => Ok(()),
            false => Err(Stop::Changed),
        }
    }
}

/// Asking the device.
impl Table {
    /// Asks for all that the keys of a window wait for: directory pages first,
    /// because these say which pages. What cannot be read is found, and told,
    /// by the lookups that follow.
    #[cold]
    fn ask_for(&self, rest: &mut Rest) {
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
            self.asking.note(self.wait_for(&words));
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
    fn ask_for_directory_pages(&self, hashes: &[u64]) {
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
    fn ask_for_blocks(&self, mut blocks: Vec<u32>) {
        if blocks.is_empty() {
            return;
        }
        blocks.sort_unstable();
        blocks.dedup();
        let bytes = |block: u32| u64::from(block) * BLOCK as u64;
        let runs = blocks.chunk_by(|a, b| a + 1 == *b);
        let ranges = runs.map(|run| bytes(run[0])..bytes(run[run.len() - 1] + 1));
        self.file.will_need(&ranges.collect::<Vec<_>>());
    }
}

/// For the writer, who knows what a batch is going to touch.
impl Table {
    /// Asks for all that looking up and changing the entries of these hashes
    /// needs: lines from memory, and pages that were never read from the device.
    /// At most [`CHUNK`] hashes; under the writer lock.
    pub(crate) fn foresee(&self, hashes: &[u64]) {
        let mut looks = Looks::new();
        let unloaded = self.foresee_directory(hashes, &mut looks);
        if !unloaded.is_empty() {
            self.ask_for_directory_pages(&unloaded);
            // What cannot be loaded is found, and told, when it is needed.
            unloaded.iter().for_each(|hash| drop(self.load_directory(*hash)));
            looks.len = 0;
            self.foresee_directory(hashes, &mut looks);
        }
        looks.step(|look| {
            let word = self.ask_for_descriptor(look);
            // The half of the descriptor that says how many entries there are.
            let cold = word.ok().and_then(|word| self.arena.cold(word.descriptor));
            cold.inspect(|cold| prefetch(&cold[8])).is_some()
        });
        let mut unread = Vec::new();
        let mut rest = Rest::default();
        looks.step(|look| {
            let pages = (0..MAX_SEGMENT_PAGES).map(|page| page_word(look.line, page));
            unread.extend(pages.filter(|word| word.is_unverified()).map(PageWord::number));
            self.ask_for_group(look, &mut rest)
        });
        self.ask_for_blocks(unread);
        looks.step(|look| {
            let control = look.group[group::CONTROL].load(Ordering::Relaxed);
            let matching = group::match_h2(control, group::h2(look.hash)).first();
            if let Some(slot) = matching.or_else(|| group::match_empty(control).first()) {
                let words = slot_of(&self.geometry, look.group, slot);
                prefetch(&words[0]);
                prefetch(&words[words.len() - 1]);
            }
            false
        });
    }

    /// Asks for the directory words; returns hashes whose page is not loaded.
    fn foresee_directory<'a>(&'a self, hashes: &[u64], looks: &mut Looks<'a>) -> Vec<u64> {
        let root = self.root.load(Ordering::Acquire) as u32;
        let depth = self.root().1;
        let mut unloaded = Vec::new();
        for (key, hash) in hashes.iter().take(CHUNK).enumerate() {
            match self.directory_word(root, depth, *hash) {
                Ok(word) => looks.push(key, *hash, word),
                Err(_) => unloaded.push(*hash),
            }
        }
        unloaded
    }
}
