//! The writer's lookup of nearly every key, and the change of its slot.
//!
//! What a [glance](super::glance) is to readers, a *mark* is to the writer:
//! the lookup for the keys that give no trouble. The entry stands whole in its
//! slot, or will, and its page is in a frame that may be changed in place. Then
//! there is nothing to check, to reserve or to forget, and nothing that can
//! fail. On whatever else it meets it gives up, and the usual way,
//! [`prepare_insert`](Writer::prepare_insert) and the like, begins anew:
//!
//! * a directory page that is not loaded, a page that is not in a frame;
//! * the page of the slot is not writable in this generation;
//! * the entry would not fit a slot, or the old one has something in the log;
//! * 15 bits of the hash agree with those of another key;
//! * no slot may be filled without making room.
//!
//! # Why it is worth its lines
//!
//! A change waits for lines that are not in the caches: the control line, and
//! those of the slot, asked for by the [aim](super::aim). Which slot that is
//! the mirror says. So most changes are [settled](Settled) before any line is
//! there: the key stands in a group that also has a slot for it if it does
//! not, and whichever it gets, nothing can be [refused](Settled::is_sure).
//! Then the record goes into the log while the lines are on their way. The
//! writer lock is given back by an instruction that waits for all stores
//! before it, so one commit does not overlap the next one, and only what the
//! processor finds to do meanwhile is free. It looks some 250 instructions
//! ahead. So the record is put together between the aim and the first look at
//! these lines, and most of what is left to do after that look fits the
//! window. The usual way takes twice as many instructions.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::format::group::{self, DELETED, EMPTY, Lengths, Probe, Shape, Slots};
use crate::storage::map::{get_tail, prefetch};

use super::super::layout::{DirectoryWord, page_word};
use super::super::mirror::UNKNOWN;
use super::super::segment::{Place, key_is, under_version, with_content};
use super::super::{Table, Writer};
use super::aim::ask_for_slot;
use super::{control_line, group_of, lengths_of, line_of, slot_of};

/// A slot that may be changed in place, now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    place: Place,
    frame: u32,
    change: Change,
}

/// What is done to the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Overwrite,
    /// A deleted slot is filled.
    Reuse,
    /// An empty one is.
    Fill,
}

impl Mark {
    /// The slot.
    pub(crate) fn place(&self) -> Place {
        self.place
    }
}

/// Where the search for a hash ends, before anybody has looked there.
pub(crate) struct Settled<'a> {
    /// The group.
    words: &'a [AtomicU64],
    /// Its first slot.
    here: Mark,
    /// The slots that may have the key.
    matching: Slots,
    /// The slot that takes the key if it is in none of them; if it may be in a
    /// group behind this one, nobody knows.
    free: Option<Mark>,
    sure: bool,
}

impl Settled<'_> {
    /// Whether an insert cannot be refused any more: the key gets one of these slots,
    /// whichever it is, and all of them may be changed now.
    #[inline(always)]
    pub(crate) fn is_sure(&self) -> bool {
        self.sure
    }
}

/// What a writer sees of a key.
enum Seen {
    Here(Mark),
    /// It is absent; this slot would take it.
    Absent(Mark),
    Unsure,
}

/// What there is to remove.
pub(crate) enum Removal {
    /// The key, here.
    Here(Mark),
    /// Nothing.
    Absent,
    /// The usual lookup will find out.
    Unsure,
}

impl Table {
    /// Whether an entry stands in its slot whole.
    #[inline(always)]
    pub(crate) fn holds_whole(&self, key: &[u8], value: &[u8]) -> bool {
        key.len() + value.len() <= self.geometry.payload()
    }

    /// Finds the group where the search for a hash ends, as far as the mirror says, for
    /// the holder of the writer lock. Asks for the lines of the slot that a new key
    /// would take.
    #[inline(always)]
    fn settle(&self, hash: u64) -> Option<Settled<'_>> {
        let word = self.flat_word(hash).load(Ordering::Acquire);
        if word == 0 {
            return None;
        }
        let segment = DirectoryWord::decode(word);
        let (mut deleted, home) = (None, group::home_slot(hash));
        for number in Probe::new(hash, segment.groups.into()) {
            let (page, group) = self.geometry.page_of(number);
            let word = page_word(line_of(&self.arena, segment.descriptor), page);
            if !word.is_frame() || number >= self.geometry.groups_per_segment {
                return None;
            }
            let frame = word.number();
            let words = group_of(&self.geometry, self.frames.words(frame)?, group);
            let control = self.mirror.control(segment.descriptor, number);
            if control == UNKNOWN {
                return None;
            }
            let mark = |slot, change| {
                let place = Place { descriptor: segment.descriptor, page, group, slot };
                Mark { place, frame, change }
            };
            let matching = group::match_h2(control, group::h2(hash));
            if deleted.is_none() {
                let slot = group::match_deleted(control).nearest(home);
                deleted = slot.map(|slot| (words, mark(slot, Change::Reuse)));
            }
            let empty = group::match_empty(control).nearest(home);
            if empty.is_none() && !matching.any() {
                continue;
            }
            let free = empty.map(|slot| {
                let (words, mark) = deleted.unwrap_or((words, mark(slot, Change::Fill)));
                if !matching.any() {
                    ask_for_slot(slot_of(&self.geometry, words, mark.place.slot));
                }
                mark
            });
            let here = mark(0, Change::Overwrite);
            return Some(Settled { words, here, matching, free, sure: false });
        }
        None
    }

    /// Looks a key up where the search for its hash ends, if that is simple.
    #[inline(always)]
    fn see(&self, settled: &Settled<'_>, hash: u64, key: &[u8]) -> Seen {
        let line = control_line(settled.words);
        for slot in settled.matching {
            let fps = line[group::FINGERPRINTS].load(Ordering::Relaxed);
            if group::byte(fps, slot) != group::fingerprint(hash) {
                continue;
            }
            // A mark of something spilled makes a length longer than any slot.
            let lengths = lengths_of(line, slot);
            let (key_len, value_len) = (usize::from(lengths.key), usize::from(lengths.value));
            let slot_words = slot_of(&self.geometry, settled.words, slot);
            prefetch(&slot_words[slot_words.len() - 1]);
            if key_len != key.len()
                || key_len + value_len > self.geometry.payload()
                || !key_is(slot_words, key)
            {
                return Seen::Unsure;
            }
            let place = Place { slot, ..settled.here.place };
            return Seen::Here(Mark { place, ..settled.here });
        }
        settled.free.map_or(Seen::Unsure, Seen::Absent)
    }

    /// The group of a mark.
    #[inline(always)]
    fn marked(&self, mark: Mark) -> &[AtomicU64] {
        let page = self.frames.owned(mark.frame);
        group_of(&self.geometry, page, mark.place.group)
    }
}

impl Writer {
    /// Where the search for the hash of a key ends that is going to be inserted, if
    /// that is simple to say.
    #[inline(always)]
    pub(crate) fn settle(&self, generation: u64, hash: u64) -> Option<Settled<'_>> {
        let settled = self.table.settle(hash)?;
        let sure = settled.free.is_some_and(|free| {
            self.has_room(free)
                && self.is_writable(free, generation)
                && (free.place.page == settled.here.place.page
                    || self.is_writable(settled.here, generation))
        });
        Some(Settled { sure, ..settled })
    }

    /// Where an entry that its slot [holds whole](Table::holds_whole) can be
    /// written at once, in the group where the search for its hash ends.
    #[inline(always)]
    pub(crate) fn mark_for_insert(
        &self,
        settled: &Settled<'_>,
        generation: u64,
        hash: u64,
        key: &[u8],
    ) -> Option<Mark> {
        let (Seen::Here(mark) | Seen::Absent(mark)) = self.table.see(settled, hash, key) else {
            return None;
        };
        let sure = settled.sure || self.has_room(mark) && self.is_writable(mark, generation);
        sure.then_some(mark)
    }

    /// Whether the segment has room for what is done to a slot.
    #[inline(always)]
    fn has_room(&self, mark: Mark) -> bool {
        mark.change != Change::Fill || {
            let info = self.table.descriptor(mark.place.descriptor).info();
            let groups = usize::from(info.pages) * self.table.geometry.groups_per_page;
            usize::from(info.used) + usize::from(info.tombstones) < groups * 7
        }
    }

    /// Whether the page of a slot may be changed in place.
    #[inline(always)]
    fn is_writable(&self, mark: Mark, generation: u64) -> bool {
        self.table.descriptor(mark.place.descriptor).is_writable(mark.place.page, generation)
    }

    /// Where an entry can be erased at once.
    #[inline(always)]
    pub(crate) fn mark_for_remove(&self, generation: u64, hash: u64, key: &[u8]) -> Removal {
        let Some(settled) = self.table.settle(hash) else {
            return Removal::Unsure;
        };
        match self.table.see(&settled, hash, key) {
            Seen::Here(mark) if self.is_writable(mark, generation) => Removal::Here(mark),
            Seen::Absent(_) => Removal::Absent,
            Seen::Here(_) | Seen::Unsure => Removal::Unsure,
        }
    }

    /// Writes an entry where a mark is: it has been logged, and nothing has
    /// changed since the mark was made.
    #[inline(always)]
    pub(crate) fn strike(&mut self, mark: Mark, hash: u64, key: &[u8], value: &[u8]) {
        let table = &*self.table;
        let group = table.marked(mark);
        let (geometry, slot) = (&table.geometry, mark.place.slot);
        let line = control_line(group);
        let lengths = Lengths::of(Shape::Inline, key.len(), value.len());
        under_version(group, || {
            fill_whole(slot_of(geometry, group, slot), key, value);
            if mark.change != Change::Overwrite {
                set_control_line(line, slot, group::h2(hash), group::fingerprint(hash), lengths);
                table.mirror_group(mark.place, line);
            } else if lengths_of(line, slot) != lengths {
                set_length(line, group::VALUE_LENGTHS, slot, lengths.value);
            }
        });
        match mark.change {
            Change::Overwrite => {}
            Change::Reuse => self.count(mark.place, 1, -1),
            Change::Fill => self.count(mark.place, 1, 0),
        }
        self.publish_counts();
    }

    /// Erases the entry where a mark is, as [`strike`](Writer::strike) writes one.
    #[inline(always)]
    pub(crate) fn strike_out(&mut self, mark: Mark) {
        let table = &*self.table;
        let group = table.marked(mark);
        let (geometry, slot) = (&table.geometry, mark.place.slot);
        let line = control_line(group);
        let tombstone = !group::match_empty(line[group::CONTROL].load(Ordering::Relaxed)).any();
        let control = if tombstone { DELETED } else { EMPTY };
        under_version(group, || {
            fill_whole(slot_of(geometry, group, slot), &[], &[]);
            set_control_line(line, slot, control, 0, Lengths { key: 0, value: 0 });
            table.mirror_group(mark.place, line);
        });
        self.count(mark.place, -1, tombstone.into());
        self.publish_counts();
    }
}

/// Writes key and value into a slot that holds them whole, and zeros behind
/// them. Only under the version word.
#[inline(always)]
fn fill_whole(slot: &[AtomicU64], key: &[u8], value: &[u8]) {
    let (key_words, tail) = key.as_chunks::<8>();
    if !tail.is_empty() {
        return fill_mixed(slot, key, value);
    }
    let (value_words, tail) = value.as_chunks::<8>();
    let mut slot = slot.iter();
    // The words come first: a slot that is taken is also written.
    for (word, to) in key_words.iter().zip(slot.by_ref()) {
        to.store(u64::from_le_bytes(*word), Ordering::Relaxed);
    }
    for (word, to) in value_words.iter().zip(slot.by_ref()) {
        to.store(u64::from_le_bytes(*word), Ordering::Relaxed);
    }
    if !tail.is_empty()
        && let Some(to) = slot.next()
    {
        to.store(get_tail(tail), Ordering::Relaxed);
    }
    for to in slot {
        to.store(0, Ordering::Relaxed);
    }
}

/// The same where the value does not begin with a word.
#[inline(never)]
fn fill_mixed(slot: &[AtomicU64], key: &[u8], value: &[u8]) {
    let lengths = Lengths::of(Shape::Inline, key.len(), value.len());
    let fill = |words: &[u64]| {
        for (to, word) in slot.iter().zip(words) {
            to.store(*word, Ordering::Relaxed);
        }
    };
    with_content(slot.len(), lengths, key, value, None, fill);
}

/// Sets what a control line says of a slot. Only under the version word.
#[inline(always)]
fn set_control_line(
    line: &[AtomicU64; group::CONTROL_WORDS],
    slot: usize,
    control: u8,
    fp: u8,
    lengths: Lengths,
) {
    let (controls, fps) = (&line[group::CONTROL], &line[group::FINGERPRINTS]);
    let word = group::with_byte(controls.load(Ordering::Relaxed), slot, control);
    controls.store(word, Ordering::Relaxed);
    let word = group::with_byte(fps.load(Ordering::Relaxed), slot, fp);
    fps.store(word, Ordering::Relaxed);
    set_length(line, group::KEY_LENGTHS, slot, lengths.key);
    set_length(line, group::VALUE_LENGTHS, slot, lengths.value);
}

/// Sets one of the two lengths of a slot.
#[inline(always)]
fn set_length(line: &[AtomicU64; group::CONTROL_WORDS], first: usize, slot: usize, length: u16) {
    let word = &line[first + ((slot / 4) & 1)];
    let changed = group::with_half(word.load(Ordering::Relaxed), slot % 4, length);
    word.store(changed, Ordering::Relaxed);
}
