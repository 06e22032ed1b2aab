//! Lookups in a table that stands still: one that a snapshot sees, or that is
//! open for reading only.
//!
//! Nothing in it changes, but for flags and directory pages that are loaded
//! when they are first needed. So there is nothing to validate, and what is
//! found is lent where it lies: the bytes of a slot in the mapping of the
//! file. Pages are checked when they are first read, like everywhere.
//!
//! A [`Walk`] goes through all entries, segment by segment in the order of
//! hash prefixes, and may go on behind damage.
//!
//! What stands still is for the caller to know: a table of a snapshot has no
//! writer, and its blocks are held ([`holds`](crate::table::blocks)).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Result;
use crate::format::group::{self, Address, Lengths, Probe};
use crate::table::layout::DirectoryWord;
use crate::table::scan::next_segment;
use crate::table::segment::{address, key_is, lengths, spilled_key_is};
use crate::table::{Spilled, Table};

/// A slot where it lies.
#[derive(Clone, Copy)]
pub(crate) struct StillSlot<'a> {
    pub(crate) lengths: Lengths,
    words: &'a [AtomicU64],
}

impl<'a> StillSlot<'a> {
    /// The bytes of the slot.
    fn bytes(self) -> &'a [u8] {
        // SAFETY: the words are those of a page of a table that stands still:
        // its blocks are held, or nothing is ever written; so no byte of them
        // changes for as long as the table is borrowed. Any byte is a `u8`.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.words.len() * 8) }
    }

    /// The key, if it stands in the slot.
    pub(crate) fn key(self) -> Option<&'a [u8]> {
        (!self.lengths.key_spilled()).then(|| &self.bytes()[..self.lengths.key_len()])
    }

    /// The value, if it stands in the slot.
    pub(crate) fn value(self) -> Option<&'a [u8]> {
        let start = self.lengths.value_start();
        let inline = !self.lengths.value_spilled();
        inline.then(|| &self.bytes()[start..start + self.lengths.value_len()])
    }

    /// Where the spilled part lies.
    pub(crate) fn address(self) -> Address {
        address(self.words, self.lengths)
    }
}

/// How far a walk has come.
pub(crate) struct Walk {
    /// Where the next segment begins.
    next: Option<u64>,
    segment: Option<DirectoryWord>,
    /// The group in it, and the slot in that.
    group: usize,
    slot: usize,
}

impl Walk {
    /// A walk that begins at the first segment.
    pub(crate) fn new() -> Walk {
        Walk { next: Some(0), segment: None, group: 0, slot: 0 }
    }

    /// The next entry of a table that stands still; always of the same one.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`: of a page, whose segment is left with it, or of a page
    /// of the directory.
    pub(crate) fn next<'a>(&mut self, table: &'a Table) -> Result<Option<StillSlot<'a>>> {
        loop {
            let Some(segment) = self.segment else {
                let Some(from) = self.next else {
                    return Ok(None);
                };
                let word = table.route(from).inspect_err(|_| {
                    self.next = table.next_segment_after(from);
                })?;
                self.next = next_segment(from, word.depth);
                (self.segment, self.group, self.slot) = (Some(word), 0, 0);
                continue;
            };
            if self.group >= usize::from(segment.groups) {
                self.segment = None;
                continue;
            }
            let group = table.still_group(segment, self.group);
            let group = group.inspect_err(|_| self.segment = None)?;
            let control = group[group::CONTROL].load(Ordering::Relaxed);
            let full = group::match_full(control).find(|slot| *slot >= self.slot);
            let Some(slot) = full else {
                (self.group, self.slot) = (self.group + 1, 0);
                continue;
            };
            self.slot = slot + 1;
            let lengths = lengths(group, slot);
            if lengths.fit(&table.geometry) {
                return Ok(Some(StillSlot { lengths, words: table.slot(group, slot) }));
            }
        }
    }
}

impl Table {
    /// Looks a key up in a table that stands still.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`; `Closed` in a forked child.
    pub(crate) fn still_lookup<'a>(
        &'a self,
        key: &[u8],
        log: &impl Spilled,
    ) -> Result<Option<StillSlot<'a>>> {
        if self.epoch.read() == 0 {
            return Err(super::forked());
        }
        let hash = self.hasher().hash(key);
        let segment = self.route(hash)?;
        for number in Probe::new(hash, segment.groups.into()) {
            let group = self.still_group(segment, number)?;
            let control = group[group::CONTROL].load(Ordering::Relaxed);
            for slot in group::match_h2(control, group::h2(hash)) {
                let lengths = lengths(group, slot);
                if lengths.key_len() != key.len() || !lengths.fit(&self.geometry) {
                    continue;
                }
                let words = self.slot(group, slot);
                let is = if lengths.key_spilled() {
                    let address = address(words, lengths);
                    address.hash == hash && spilled_key_is(log, &address, key)?
                } else {
                    key_is(words, key)
                };
                if is {
                    return Ok(Some(StillSlot { lengths, words }));
                }
            }
            if group::match_empty(control).any() {
                break;
            }
        }
        Ok(None)
    }

    /// A group of a segment, its page checked.
    fn still_group(&self, segment: DirectoryWord, number: usize) -> Result<&[AtomicU64]> {
        let (page, group) = self.geometry.page_of(number);
        let descriptor = self.descriptor(segment.descriptor);
        let mut word = descriptor.page(page);
        if word.is_unverified() {
            self.verify_page(descriptor, page, word)?;
            word = descriptor.page(page);
        }
        let words = self.page_words(word).expect("a page of a table lies in its file");
        Ok(self.group(words, group))
    }
}
