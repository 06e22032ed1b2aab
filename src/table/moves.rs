//! Moving entries: out of the pages of segments, into fresh ones.
//!
//! ```text
//! gather   pages, group by group      => entries: hash, where it lies
//! assign   entries, in their order    => for each group to be: which entries, by slot
//! lay out  groups to be, in order     => each word of the fresh pages stored once
//! ```
//!
//! An insert into a growing table pays for two to three moves, so this is
//! what a fill spends most on after its cache misses. What it leaves is, word
//! for word, what inserting the entries one by one into empty pages would
//! leave: a home group that is full sends an entry along its probe sequence.
//! But slots are given away before anything is copied, on a list that fits the
//! first cache; so a group is then written in one go, its control line put
//! together apart, and nothing is filled with zeros first that is overwritten
//! a moment later. Since the home group grows with the hash bits it is made of,
//! the entries of a group come from a few groups that lie together. And pages
//! lie anywhere and are seldom in a cache: while one is read or written, the
//! lines of the next are asked for.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Result;
use crate::format::directory::MAX_SEGMENT_PAGES;
use crate::format::group::{self, ALL_EMPTY, CONTROL_WORDS, Geometry, Lengths, Probe, SLOTS};
use crate::hash::{Hasher, LANES, Lanes, Wide};
use crate::storage::map::{copy_words, fill, prefetch};

use super::layout::Descriptor;
use super::segment::{Place, hash_of, lengths};
use super::{Table, Writer};

/// Pages that are read at most to make others: those of two segments.
pub(super) const MAX_SOURCES: usize = 2 * MAX_SEGMENT_PAGES;

/// The page of entries that are [staged](Staged), behind all pages of segments.
const STAGED: usize = MAX_SOURCES;

/// An entry of a segment to be: its hash, its lengths, and where it lies. Sixteen
/// bytes.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) hash: u64,
    lengths: Lengths,
    /// Its slot's first word in its page.
    start: u16,
    /// Counted through the pages of all segments.
    page: u16,
}

impl Entry {
    /// No entry at all.
    pub(super) const NONE: Entry =
        Entry { hash: 0, lengths: Lengths { key: 0, value: 0 }, start: 0, page: 0 };
}

/// New entries that go into a segment while it is made anew, laid out as slots.
#[derive(Default)]
pub(super) struct Staged {
    entries: Vec<Entry>,
    words: Vec<AtomicU64>,
}

impl Staged {
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.words.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is room for so many entries of that size.
    pub(super) fn has_room(&self, count: usize, slot_words: usize) -> bool {
        self.words.len() + count * slot_words <= 1 << 16
    }

    /// Adds an entry for which there is room, with the words of its slot.
    pub(super) fn push(&mut self, hash: u64, lengths: Lengths, words: &[u64]) {
        let start = self.words.len() as u16;
        self.entries.push(Entry { hash, lengths, start, page: STAGED as u16 });
        self.words.extend(words.iter().map(|word| AtomicU64::new(*word)));
    }

    /// Adds all of them to the entries of a segment to be.
    pub(super) fn join(&self, entries: &mut Vec<Entry>) {
        entries.extend_from_slice(&self.entries);
    }
}

/// Which entries the groups of a segment to be get: numbers in the list of
/// its entries, by slot.
#[derive(Default)]
pub(super) struct Assigned {
    groups: Vec<Group>,
}

#[derive(Clone, Copy)]
struct Group {
    /// As it is going to be.
    control: u64,
    /// By slot, where the control word says that it is full.
    entries: [u16; SLOTS],
}

impl Group {
    const EMPTY: Group = Group { control: ALL_EMPTY, entries: [0; SLOTS] };

    /// Gives a slot to an entry, if there is one: the nearest to its home slot.
    #[inline]
    fn take(&mut self, hash: u64, entry: u16) -> bool {
        let slot = group::match_empty(self.control).nearest(group::home_slot(hash));
        if let Some(slot) = slot {
            self.control = group::with_byte(self.control, slot, group::h2(hash));
            self.entries[slot] = entry;
        }
        slot.is_some()
    }
}

impl Assigned {
    /// Gives each entry a slot in so many groups, which have more slots.
    fn assign(&mut self, entries: &[Entry], groups: usize) {
        self.groups.clear();
        self.groups.resize(groups, Group::EMPTY);
        for (number, entry) in entries.iter().enumerate() {
            let home = group::home(entry.hash, groups);
            if !self.groups[home].take(entry.hash, number as u16) {
                self.further(entry.hash, number as u16);
            }
        }
    }

    /// Gives an entry whose home group is full a slot on its way.
    #[cold]
    fn further(&mut self, hash: u64, number: u16) {
        let mut way = Probe::new(hash, self.groups.len());
        let taken = way.any(|at| self.groups[at].take(hash, number));
        assert!(taken, "a segment is planned with more slots than entries");
    }
}

impl Writer {
    /// Collects the live entries of segments with their hashes, in the order
    /// in which they lie.
    pub(super) fn gather(&self, olds: &[u32], entries: &mut Vec<Entry>) -> Result<()> {
        let table = &*self.table;
        let hasher = table.hasher();
        let hasher = (&hasher, hasher.wide());
        entries.clear();
        let mut pages = table.pages_of(olds).enumerate().peekable();
        while let Some((number, (descriptor, page))) = pages.next() {
            let words = self.read_page(descriptor, page)?;
            let next =
                pages.peek().and_then(|(_, (next, page))| table.page_words(next.page(*page)));
            let pages = Pages { geometry: &table.geometry, words, next: next.unwrap_or(&[]) };
            let gathered = match table.geometry.slot_words {
                6 => gather_page::<6>(&pages, hasher, number as u16, entries),
                7 => gather_page::<7>(&pages, hasher, number as u16, entries),
                _ => gather_page::<0>(&pages, hasher, number as u16, entries),
            };
            if let Err((group, slot, lengths)) = gathered {
                let place = Place { descriptor: descriptor.line, page, group, slot };
                return Err(table.bad_slot(place, lengths));
            }
        }
        Ok(())
    }

    /// Writes the pages of a new segment, which nobody sees yet: its entries,
    /// and nothing else. They are those of `olds`, of which every page was just
    /// read, and staged ones.
    pub(super) fn lay_out(
        &self,
        olds: &[u32],
        new: Descriptor<'_>,
        (entries, staged): (&[Entry], &Staged),
        assigned: &mut Assigned,
    ) {
        let table = &*self.table;
        let geometry = &table.geometry;
        let mut from: [&[AtomicU64]; STAGED + 1] = table.all_pages(olds);
        from[STAGED] = &staged.words;
        let to: [&[AtomicU64]; MAX_SEGMENT_PAGES] = table.all_pages(&[new.line]);
        assigned.assign(entries, usize::from(new.info().pages) * geometry.groups_per_page);
        let groups = assigned.groups.chunks(geometry.groups_per_page);
        let controls = assigned.groups.iter().enumerate();
        controls.for_each(|(number, group)| table.mirror.set(new.line, number, group.control));
        for (page, groups) in groups.enumerate() {
            let next = to.get(page + 1).copied().unwrap_or(&[]);
            let pages = Pages { geometry, words: to[page], next };
            match geometry.slot_words {
                6 => write_page::<6>(&pages, groups, entries, &from),
                7 => write_page::<7>(&pages, groups, entries, &from),
                _ => write_page::<0>(&pages, groups, entries, &from),
            }
        }
    }
}

/// A page to be read or written, and the one that comes next.
struct Pages<'a> {
    geometry: &'a Geometry,
    words: &'a [AtomicU64],
    next: &'a [AtomicU64],
}

impl Pages<'_> {
    /// Asks for the lines of a group in the next page, which are far away.
    #[inline(always)]
    fn ask_ahead(&self, group: usize) {
        let words = self.next.chunks_exact(self.geometry.group_words).nth(group);
        words.unwrap_or(&[]).iter().step_by(8).for_each(prefetch);
    }
}

/// Collects the entries of a page. `WORDS` are those of a slot, if the compiler
/// may know them, or zero. Fails with the group, the slot and the lengths of an
/// entry that cannot be.
fn gather_page<const WORDS: usize>(
    pages: &Pages<'_>,
    (hasher, wide): (&Hasher, Option<Wide>),
    number: u16,
    entries: &mut Vec<Entry>,
) -> std::result::Result<(), (usize, usize, Lengths)> {
    let geometry = pages.geometry;
    let slot_words = if WORDS == 0 { geometry.slot_words } else { WORDS };
    let group_words = CONTROL_WORDS + SLOTS * slot_words;
    // Most entries have the lengths of the one before; these fit anywhere.
    let mut fitting = Lengths { key: 0, value: 0 };
    let groups = pages.words.chunks_exact(group_words).take(geometry.groups_per_page);
    for (group, words) in groups.enumerate() {
        pages.ask_ahead(group);
        let full = group::match_full(words[group::CONTROL].load(Ordering::Relaxed));
        let likely = wide.filter(|_| fitting.key == 16 || group == 0);
        let hashes =
            likely.map(|wide| wide.hash(&first_words(&words[CONTROL_WORDS..], slot_words)));
        for slot in full {
            let lengths = lengths(words, slot);
            if fitting != lengths {
                if !lengths.fit(geometry) {
                    return Err((group, slot, lengths));
                }
                fitting = lengths;
            }
            let inside = CONTROL_WORDS + slot * slot_words;
            let hash = match hashes {
                Some(hashes) if lengths.key == 16 && !lengths.value_spilled() => hashes[slot],
                _ => hash_of(hasher, &words[inside..inside + slot_words], lengths),
            };
            let start = (group * group_words + inside) as u16;
            entries.push(Entry { hash, lengths, start, page: number });
        }
    }
    Ok(())
}

/// The first two words of each slot: the keys, if they have 16 bytes.
#[inline(always)]
fn first_words(slots: &[AtomicU64], slot_words: usize) -> [Lanes; 2] {
    const { assert!(LANES == SLOTS, "a slot has a lane") };
    let word = |at: usize| u64::from_le(slots[at].load(Ordering::Relaxed));
    let words = |first: usize| std::array::from_fn(|slot| word(slot * slot_words + first));
    [words(0), words(1)]
}

/// Writes a page of groups. `WORDS` as above.
fn write_page<const WORDS: usize>(
    pages: &Pages<'_>,
    groups: &[Group],
    entries: &[Entry],
    from: &[&[AtomicU64]; STAGED + 1],
) {
    let geometry = pages.geometry;
    let slot_words = if WORDS == 0 { geometry.slot_words } else { WORDS };
    let group_words = CONTROL_WORDS + SLOTS * slot_words;
    let (inside, rest) = pages.words.split_at(groups.len() * group_words);
    let targets = inside.chunks_exact(group_words).enumerate();
    for (group, (number, target)) in groups.iter().zip(targets) {
        pages.ask_ahead(number);
        let (control_line, slots) = target.split_at(CONTROL_WORDS);
        let mut line = ControlLine::default();
        let slot_of = |slot: usize| &slots[slot * slot_words..][..slot_words];
        for slot in group::match_full(group.control) {
            let entry = &entries[usize::from(group.entries[slot])];
            let start = usize::from(entry.start);
            let source = &from[usize::from(entry.page)][start..start + slot_words];
            copy_words(source, slot_of(slot));
            line.fps[slot] = group::fingerprint(entry.hash);
            line.keys[slot] = entry.lengths.key;
            line.values[slot] = entry.lengths.value;
        }
        for slot in group::match_empty(group.control) {
            fill(slot_of(slot), 0);
        }
        line.store(control_line, group.control);
    }
    fill(rest, 0);
}

/// What a control line says beside its control word, put together.
#[derive(Default)]
struct ControlLine {
    fps: [u8; SLOTS],
    keys: [u16; SLOTS],
    values: [u16; SLOTS],
}

impl ControlLine {
    /// Stores the line, with its control word.
    #[inline]
    fn store(&self, words: &[AtomicU64], control: u64) {
        let halves = |from: &[u16; SLOTS], start: usize| {
            (0..4).fold(0, |word, i| word | u64::from(from[start + i]) << (16 * i))
        };
        let mut line = [0; CONTROL_WORDS];
        line[group::CONTROL] = control;
        line[group::KEY_LENGTHS] = halves(&self.keys, 0);
        line[group::KEY_LENGTHS + 1] = halves(&self.keys, 4);
        line[group::VALUE_LENGTHS] = halves(&self.values, 0);
        line[group::VALUE_LENGTHS + 1] = halves(&self.values, 4);
        line[group::FINGERPRINTS] = u64::from_le_bytes(self.fps);
        for (word, value) in words.iter().zip(line) {
            word.store(value, Ordering::Relaxed);
        }
    }
}

impl Table {
    /// The pages of these segments.
    pub(super) fn pages_of<'a>(
        &'a self,
        lines: &'a [u32],
    ) -> impl Iterator<Item = (Descriptor<'a>, usize)> {
        lines.iter().flat_map(|line| {
            let descriptor = self.descriptor(*line);
            (0..usize::from(descriptor.info().pages)).map(move |page| (descriptor, page))
        })
    }

    /// The words of all pages of segments, which are known to be sound.
    fn all_pages<const N: usize>(&self, lines: &[u32]) -> [&[AtomicU64]; N] {
        let mut pages = self.pages_of(lines);
        std::array::from_fn(|_| {
            let word = pages.next().map(|(descriptor, page)| descriptor.page(page));
            word.and_then(|word| self.page_words(word)).unwrap_or(&[])
        })
    }
}
