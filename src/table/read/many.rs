//! Looking up many keys at once: each step for all of them, then the next.
//!
//! A single lookup waits for memory up to three times, each time for what the
//! last wait brought. Here a *chunk* of keys goes through the steps side by side.
//! A step loads what the one before has asked for, and asks for what the next
//! one needs, so that the waits of a chunk run at the same time:
//!
//! ```text
//! hash                    ask for the directory word in the flat directory
//! directory word          ask for the line of the descriptor, and for the mirror
//! mirror                  the key is absent: answer
//!   page word             else ask for the control line and both lines of the slot
//! control line            (the wait for memory) the key is absent: answer
//! compare, copy, check    answer
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
//! What stands on a device is asked for a *window* of keys at once, after their
//! chunks and before what was left of them: see [`ahead`](super::ahead).

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Instant;

use crate::error::Result;
use crate::format::group::{self, Probe};
use crate::hash::{LANES, eight_keys};
use crate::storage::map::prefetch;

use super::super::Table;
use super::super::layout::{DirectoryWord, page_word};
use super::super::mirror::Sought;
use super::super::segment::key_is;
use super::ahead::{Rest, Wait};
use super::{
    Slot, Stop, Try, control_line, copy_out, forked, group_of, lengths_of, line_of, slot_of,
};

/// Keys that go through the steps side by side.
pub(crate) const CHUNK: usize = 32;
/// Keys whose pages are asked for at once.
const WINDOW: usize = 8 * CHUNK;
/// What came of one of many lookups.
pub(crate) enum Answer<'a, const N: usize> {
    /// The slot, copied out.
    Here(&'a Slot<N>),
    Absent,
    /// A single lookup has to say.
    Left,
}

/// What the third step came to.
enum Said {
    /// The lines of the slot where the key may stand are on their way.
    Asked,
    Absent,
    Left(Wait),
}

/// One key on its way.
#[derive(Clone, Copy)]
struct Look<'a> {
    /// Its number in the window.
    key: usize,
    hash: u64,
    /// The directory word, then the line of the descriptor.
    line: &'a [AtomicU64],
    segment: DirectoryWord,
    /// The group that the key may stand in.
    group: &'a [AtomicU64],
    version: u64,
    slot: usize,
}

/// The keys of a chunk that are still on their way, in the first places.
struct Looks<'a> {
    looks: [Look<'a>; CHUNK],
    len: usize,
}

impl<'a> Looks<'a> {
    #[inline(always)]
    fn new() -> Looks<'a> {
        let segment = DirectoryWord { descriptor: 0, groups: 0, depth: 0 };
        let look = Look { key: 0, hash: 0, line: &[], segment, group: &[], version: 0, slot: 0 };
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
                self.ask_for_directory(window, chunk, &mut looks);
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
            self.ask_for_descriptor(look) || rest.leave(look.key, Wait::Directory(look.hash))
        });
        let mut goes_on = |key, said, rest: &mut Rest| match said {
            Said::Asked => true,
            Said::Absent => {
                answer(key, Answer::Absent);
                false
            }
            Said::Left(wait) => rest.leave(key, wait),
        };
        looks.step(|look| goes_on(look.key, self.ask_for_slot(look, rest, seen), rest));
        let clock = timed.then(|| (Instant::now(), looks.len));
        looks.step(|look| goes_on(look.key, self.match_group(look, seen), rest));
        if let Some((start, pages)) = clock {
            self.asking.note_wait(start.elapsed(), pages);
        }
        looks.step(|look| {
            match self.copy_slot(look, window[look.key].as_ref(), seen, slot) {
                Ok(()) => answer(look.key, Answer::Here(slot)),
                Err(_) => return rest.leave(look.key, Wait::Nothing),
            }
            false
        });
    }

    /// The first step: hashes.
    #[inline(always)]
    fn ask_for_directory<'a, K: AsRef<[u8]>>(
        &'a self,
        window: &[K],
        chunk: Range<usize>,
        looks: &mut Looks<'a>,
    ) {
        let root = self.root.load(Ordering::Acquire) as u32;
        let (_, hasher) = self.root_head(root);
        let (wide, end) = (hasher.wide(), chunk.end);
        let mut key = chunk.start;
        while key < end {
            let keys = || window[key..end].iter().map(AsRef::as_ref);
            if let Some((wide, words)) = wide.and_then(|wide| Some((wide, eight_keys(keys())?))) {
                for (at, hash) in wide.hash(&words).into_iter().enumerate() {
                    looks.push(key + at, hash, self.flat_word(hash));
                }
                key += LANES;
            } else {
                let hash = hasher.hash(window[key].as_ref());
                looks.push(key, hash, self.flat_word(hash));
                key += 1;
            }
        }
    }

    /// The second step: the directory word. Says whether it is loaded.
    #[inline(always)]
    fn ask_for_descriptor<'a>(&'a self, look: &mut Look<'a>) -> bool {
        let word = look.line[0].load(Ordering::Acquire);
        look.segment = DirectoryWord::decode(word);
        look.line = line_of(&self.arena, look.segment.descriptor);
        prefetch(&look.line[0]);
        let home = group::home(look.hash, look.segment.groups.into());
        self.mirror.ask(look.segment.descriptor, home);
        word != 0
    }

    /// The third step: the mirror, and the page word of the group that it names.
    #[inline(always)]
    fn ask_for_slot<'a>(&'a self, look: &mut Look<'a>, rest: &Rest, seen: u64) -> Said {
        let (number, slot) = match self.seek(look.segment.encode(), look.hash) {
            Sought::At(number, slot) => (number.into(), slot.into()),
            // Nothing that was followed to this has been used again since.
            Sought::Absent if self.epoch.unchanged(seen) => return Said::Absent,
            Sought::Absent => return Said::Left(Wait::Nothing),
            Sought::Unknown(number) => (number.into(), 0),
        };
        // Only a directory word from reused memory goes beyond these.
        if number >= self.geometry.groups_per_segment {
            return Said::Left(Wait::Nothing);
        }
        let (page, number) = self.geometry.page_of(number);
        let word = page_word(look.line, page);
        if rest.must_ask(word) {
            return Said::Left(Wait::Page(word));
        }
        let Some(words) = self.page_words(word) else {
            return Said::Left(Wait::Nothing);
        };
        look.group = group_of(&self.geometry, words, number);
        prefetch(&look.group[0]);
        self.choose(look, slot);
        Said::Asked
    }

    /// Asks for the slot where the key may stand.
    #[inline(always)]
    fn choose(&self, look: &mut Look<'_>, slot: usize) {
        look.slot = slot;
        let words = slot_of(&self.geometry, look.group, slot);
        prefetch(&words[0]);
        prefetch(&words[words.len() - 1]);
    }

    /// The fourth step: the control line. It nearly always says of the slot what
    /// the mirror said, but with eight more bits of the hash.
    #[inline(always)]
    fn match_group<'a>(&'a self, look: &mut Look<'a>, seen: u64) -> Said {
        let line = control_line(look.group);
        look.version = line[group::VERSION_AND_CRC].load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let control = line[group::CONTROL].load(Ordering::Relaxed);
        let fps = line[group::FINGERPRINTS].load(Ordering::Relaxed);
        let (h2, fp) = (group::h2(look.hash), group::fingerprint(look.hash));
        if group::byte(control, look.slot) == h2 && group::byte(fps, look.slot) == fp {
            return Said::Asked;
        }
        self.match_groups(look, seen)
    }

    /// The same where the seven bits were those of another key: group by group,
    /// by the control lines alone.
    #[cold]
    fn match_groups<'a>(&'a self, look: &mut Look<'a>, seen: u64) -> Said {
        for number in Probe::new(look.hash, look.segment.groups.into()) {
            let Ok(group) = self.group_at(look.segment, number) else {
                break;
            };
            let line = control_line(group);
            let version = line[group::VERSION_AND_CRC].load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            let control = line[group::CONTROL].load(Ordering::Relaxed);
            let fps = line[group::FINGERPRINTS].load(Ordering::Relaxed);
            let mut matching = group::match_h2(control, group::h2(look.hash));
            let fp = group::fingerprint(look.hash);
            if let Some(slot) = matching.find(|slot| group::byte(fps, *slot) == fp) {
                (look.group, look.version) = (group, version);
                self.choose(look, slot);
                return Said::Asked;
            }
            if version & 1 == 1 || !self.is_unchanged_since(line, version, seen) {
                break;
            }
            if group::match_empty(control).any() {
                return Said::Absent;
            }
        }
        Said::Left(Wait::Nothing)
    }

    /// The last step: the slot that may hold the key. A single lookup goes on
    /// where it holds another, and where a part of it stands in the log.
    #[inline(always)]
    fn copy_slot<const N: usize>(
        &self,
        look: &Look<'_>,
        key: &[u8],
        seen: u64,
        out: &mut Slot<N>,
    ) -> Try<()> {
        let line = control_line(look.group);
        let lengths = lengths_of(line, look.slot);
        if look.version & 1 == 1
            || lengths.spilled()
            || lengths.key_len() != key.len()
            || !lengths.fit(&self.geometry)
        {
            return Err(Stop::Changed);
        }
        let words = slot_of(&self.geometry, look.group, look.slot);
        if !key_is(words, key) {
            return Err(Stop::Changed);
        }
        out.lengths = lengths;
        copy_out(words, &mut out.words);
        match self.is_unchanged_since(line, look.version, seen) {
            true => Ok(()),
            false => Err(Stop::Changed),
        }
    }
}
