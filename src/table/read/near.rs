//! What a writer is going to look at, brought near for some keys at once.
//!
//! The steps are those of [`many`](super::many): directory word, descriptor,
//! control line, slot, each for all keys of a chunk before the next. The writer
//! holds its lock, so nothing has to be validated, and what was followed is
//! handed out: the segment of each key, and the group where its search begins.
//!
//! Whatever stands on a device is asked for before anybody waits for it: the
//! directory pages of a chunk at once, then the pages where its searches begin,
//! then those where they go on. Where one cannot be read nothing is handed out,
//! and the writer goes the ordinary way.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::format::group::{self, Probe};
use crate::storage::map::prefetch;

use super::super::Table;
use super::super::layout::{DirectoryWord, PageWord, page_word};
use super::super::mirror::UNKNOWN;
use super::many::CHUNK;
use super::{line_of, slot_of};

/// What keys of a chunk lead to.
pub(in crate::table) struct Near<'a> {
    words: [Option<DirectoryWord>; CHUNK],
    homes: [&'a [AtomicU64]; CHUNK],
}

impl<'a> Near<'a> {
    pub(in crate::table) fn new() -> Near<'a> {
        Near { words: [None; CHUNK], homes: [&[]; CHUNK] }
    }

    /// The segment of a key, and the words of the group where its search begins;
    /// none if that was not in memory, or not checked.
    #[inline]
    pub(in crate::table) fn of(&self, key: usize) -> (Option<DirectoryWord>, &'a [AtomicU64]) {
        (self.words[key], self.homes[key])
    }
}

/// A search, and the group that it has come to.
struct Search {
    hash: u64,
    word: DirectoryWord,
    probe: Probe,
    number: usize,
}

impl Search {
    fn new(hash: u64, word: DirectoryWord) -> Option<Search> {
        let mut probe = Probe::new(hash, word.groups.into());
        probe.next().map(|number| Search { hash, word, probe, number })
    }
}

impl Table {
    /// Follows the hashes of a chunk, [`CHUNK`] at most. Under the writer lock.
    pub(in crate::table) fn bring_near<'a>(&'a self, hashes: &[u64], near: &mut Near<'a>) {
        let hashes = &hashes[..hashes.len().min(CHUNK)];
        let unloaded = self.bring_directory(hashes, near);
        if !unloaded.is_empty() {
            self.ask_for_directory_pages(&unloaded);
            // What cannot be loaded is found, and told, when it is needed.
            unloaded.iter().for_each(|hash| drop(self.load_directory(*hash)));
            self.bring_directory(hashes, near);
        }
        let unread = self.bring_homes(hashes, near);
        if self.bring_slots(hashes, near) || unread {
            self.read_pages(hashes, near);
            self.bring_homes(hashes, near);
            self.bring_slots(hashes, near);
        }
    }

    /// Asks for the control lines where the searches begin. Says whether there
    /// is one whose page was never checked.
    #[inline(always)]
    fn bring_homes<'a>(&'a self, hashes: &[u64], near: &mut Near<'a>) -> bool {
        let mut unread = false;
        for (i, hash) in hashes.iter().enumerate() {
            near.homes[i] = &[];
            let Some(word) = near.words[i] else {
                continue;
            };
            match self.group_at(word, group::home(*hash, word.groups.into())) {
                Ok(group) => {
                    near.homes[i] = group;
                    prefetch(&group[0]);
                }
                Err(_) => unread = true,
            }
        }
        unread
    }

    /// Asks for the slots that the control lines name, or for the line behind
    /// that of a group that is full. Says as before.
    #[inline(always)]
    fn bring_slots(&self, hashes: &[u64], near: &Near<'_>) -> bool {
        let mut unread = false;
        for (i, hash) in hashes.iter().enumerate() {
            let (Some(first), Some(word)) = (near.homes[i].first(), near.words[i]) else {
                continue;
            };
            let home = group::home(*hash, word.groups.into());
            let control = match self.mirror.control(word.descriptor, home) {
                UNKNOWN => first.load(Ordering::Relaxed),
                control => control,
            };
            let matching = group::match_h2(control, group::h2(*hash)).first();
            let empty = || group::match_empty(control).nearest(group::home_slot(*hash));
            if let Some(slot) = matching.or_else(empty) {
                let words = slot_of(&self.geometry, near.homes[i], slot);
                prefetch(&words[0]);
                prefetch(&words[words.len() - 1]);
            } else if let Some(number) = Probe::new(*hash, word.groups.into()).nth(1) {
                match self.group_at(word, number) {
                    Ok(group) => prefetch(&group[0]),
                    Err(_) => unread = true,
                }
            }
        }
        unread
    }

    /// Reads and checks the pages that the searches come to, group after group;
    /// those of all searches are asked for before the first is waited for. What
    /// cannot be read is found, and told, when it is needed.
    #[cold]
    fn read_pages(&self, hashes: &[u64], near: &Near<'_>) {
        let words = hashes.iter().zip(&near.words);
        let mut searches: Vec<Search> =
            words.filter_map(|(hash, word)| Search::new(*hash, (*word)?)).collect();
        while !searches.is_empty() {
            let pages = searches.iter().map(|search| {
                let (page, _) = self.geometry.page_of(search.number);
                page_word(line_of(&self.arena, search.word.descriptor), page)
            });
            let unread = pages.filter(|page| page.is_unverified()).map(PageWord::number);
            self.ask_for_blocks(unread.collect());
            searches.retain_mut(|search| self.goes_on(search));
        }
    }

    /// Whether a search goes on behind the group that it came to, whose page is
    /// checked first.
    fn goes_on(&self, search: &mut Search) -> bool {
        let (page, _) = self.geometry.page_of(search.number);
        let descriptor = self.descriptor(search.word.descriptor);
        let seen = descriptor.page(page);
        if seen.is_unverified() && self.verify_page(descriptor, page, seen).is_err() {
            return false;
        }
        let Ok(group) = self.group_at(search.word, search.number) else {
            return false;
        };
        let control = group[group::CONTROL].load(Ordering::Relaxed);
        let fps = group[group::FINGERPRINTS].load(Ordering::Relaxed);
        let wanted = group::fingerprint(search.hash);
        let mut matching = group::match_h2(control, group::h2(search.hash));
        if group::match_empty(control).any()
            || matching.find(|slot| group::byte(fps, *slot) == wanted).is_some()
        {
            return false;
        }
        search.probe.next().is_some_and(|number| {
            search.number = number;
            true
        })
    }

    /// Follows hashes as far as their segments, and asks for what the writer
    /// needs of these. Returns the hashes whose directory page is not loaded.
    #[inline(always)]
    fn bring_directory<'a>(&'a self, hashes: &[u64], near: &mut Near<'a>) -> Vec<u64> {
        hashes.iter().for_each(|hash| prefetch(self.flat_word(*hash)));
        let mut unloaded = Vec::new();
        for (word, hash) in near.words.iter_mut().zip(hashes) {
            let found = self.flat_word(*hash).load(Ordering::Acquire);
            *word = (found != 0).then(|| DirectoryWord::decode(found));
            if word.is_none() {
                unloaded.push(*hash);
            }
            if let Some(word) = word {
                prefetch(&line_of(&self.arena, word.descriptor)[0]);
                self.mirror.ask(word.descriptor, group::home(*hash, word.groups.into()));
                self.arena.cold(word.descriptor).inspect(|cold| prefetch(&cold[8]));
            }
        }
        unloaded
    }
}
