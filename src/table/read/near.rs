//! What a writer is going to look at, brought near for some keys at once.
//!
//! The steps are those of [`many`](super::many): directory word, descriptor,
//! control line, slot, each for all keys of a chunk before the next. The writer
//! holds its lock, so nothing has to be validated, and what was followed is
//! handed out: the segment of each key, and the group where its search begins.
//!
//! Whatever stands on a device is asked for before anybody waits for it: the
//! directory pages of a chunk at once, then the pages that were never checked.
//! For their keys nothing is handed out, and the writer goes the ordinary way.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::format::group::{self, Probe};
use crate::storage::map::prefetch;

use super::super::Table;
use super::super::layout::{DirectoryWord, page_word};
use super::many::CHUNK;
use super::{group_of, line_of, slot_of};

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
        let mut unread = Vec::new();
        for (i, hash) in hashes.iter().enumerate() {
            near.homes[i] = &[];
            let Some(word) = near.words[i] else {
                continue;
            };
            let (page, number) = self.geometry.page_of(group::home(*hash, word.groups.into()));
            let page = page_word(line_of(&self.arena, word.descriptor), page);
            if page.is_unverified() {
                unread.push(page.number());
            } else if let Some(words) = self.page_words(page) {
                near.homes[i] = group_of(&self.geometry, words, number);
                prefetch(&near.homes[i][0]);
            }
        }
        self.ask_for_blocks(unread);
        for (i, hash) in hashes.iter().enumerate() {
            let Some(control) = near.homes[i].first() else {
                continue;
            };
            let control = control.load(Ordering::Relaxed);
            let matching = group::match_h2(control, group::h2(*hash)).first();
            if let Some(slot) = matching.or_else(|| group::match_empty(control).first()) {
                let words = slot_of(&self.geometry, near.homes[i], slot);
                prefetch(&words[0]);
                prefetch(&words[words.len() - 1]);
            } else if let Some(word) = near.words[i] {
                self.ask_for_second(*hash, word);
            }
        }
    }

    /// Asks for the control line behind that of a group that is full.
    fn ask_for_second(&self, hash: u64, word: DirectoryWord) {
        if let Some(number) = Probe::new(hash, word.groups.into()).nth(1) {
            let (page, number) = self.geometry.page_of(number);
            let page = page_word(line_of(&self.arena, word.descriptor), page);
            if let Some(words) = self.page_words(page).filter(|_| !page.is_unverified()) {
                prefetch(&group_of(&self.geometry, words, number)[0]);
            }
        }
    }

    /// Follows hashes as far as their segments, and asks for what the writer
    /// needs of these. Returns the hashes whose directory page is not loaded.
    #[inline(always)]
    fn bring_directory<'a>(&'a self, hashes: &[u64], near: &mut Near<'a>) -> Vec<u64> {
        let root = self.root.load(Ordering::Acquire) as u32;
        let depth = self.root().1;
        let mut unloaded = Vec::new();
        let mut places: [Option<&AtomicU64>; CHUNK] = [None; CHUNK];
        for (place, hash) in places.iter_mut().zip(hashes) {
            match self.directory_word(root, depth, *hash) {
                Ok(word) => {
                    prefetch(word);
                    *place = Some(word);
                }
                Err(_) => unloaded.push(*hash),
            }
        }
        for (word, place) in near.words.iter_mut().zip(places).take(hashes.len()) {
            *word = place.map(|word| DirectoryWord::decode(word.load(Ordering::Acquire)));
            if let Some(word) = word {
                prefetch(&line_of(&self.arena, word.descriptor)[0]);
                self.arena.cold(word.descriptor).inspect(|cold| prefetch(&cold[8]));
            }
        }
        unloaded
    }
}
