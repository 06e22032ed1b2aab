//! Making room: a segment is rebuilt, grown or split.
//!
//! | the live entries | what happens |
//! |---|---|
//! | fill at most 3/4 of the slots | *rebuild* at the same size, without the tombstones |
//! | fit 16 pages with room to spare | *grow* to the pages that hold 1.45 times as many |
//! | do not | *split* by the next hash bit; each half sized the same way |
//!
//! Sizing by what is there instead of doubling keeps the utilisation of the
//! whole table between two thirds and four fifths at any size. A split that
//! moves nothing goes on to the next bit. At 32 bits there is no next one, and
//! the segment takes what 16 pages hold before it is
//! [`HashCollisions`](crate::Error::HashCollisions).
//!
//! The new segments are built in fresh frames that nobody sees, and installed
//! by one store each; the old pages are retired. Nothing logical changes, so
//! all of this happens before a commit is logged, when it may still fail.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::format::directory::{MAX_DEPTH, MAX_SEGMENT_PAGES};
use crate::format::group::{self, ALL_EMPTY, Probe, SLOTS};
use crate::storage::map::{copy_words, fill};

use super::directory::Leaf;
use super::frames::{Owner, State};
use super::layout::{
    DESCRIPTOR_LINES, Descriptor, DirectoryWord, PageWord, SegmentInfo, prefix_of,
};
use super::segment::{Place, hash_of, lengths};
use super::{Table, Workspace, Writer};

/// A live entry of the segment that makes room: its hash and where it lies.
#[derive(Clone, Copy)]
struct Entry {
    hash: u64,
    page: u8,
    group: u8,
    slot: u8,
}

/// Memory that is kept from one making of room to the next.
#[derive(Default)]
pub(super) struct Scratch {
    entries: Vec<Entry>,
    spare: Vec<Entry>,
    plans: Vec<Plan>,
}

/// A segment to be: a range of the entries, and its size.
#[derive(Clone, Copy, Debug)]
struct Plan {
    prefix: u32,
    depth: u8,
    pages: usize,
    start: usize,
    end: usize,
}

/// How much larger than its live entries a grown segment is. While filling,
/// 1.33 leaves a utilisation of 0.76 to 0.81, 1.45 of 0.73 to 0.78, 1.5 of 0.70
/// to 0.79; the middle one swings least.
const FACTOR: (usize, usize) = (29, 20);

/// The pages for a number of live entries, freshly laid out.
fn pages_for(live: usize, slots_per_page: usize) -> usize {
    (live * FACTOR.0).div_ceil(FACTOR.1 * slots_per_page).max(1)
}

/// The entries that a number of pages holds at full load.
fn limit(pages: usize, slots_per_page: usize) -> usize {
    pages * slots_per_page / SLOTS * 7
}

impl Writer {
    /// Replaces the segment of a hash by one or more with room for new
    /// entries of these hashes, all of which belong to it.
    pub(super) fn make_room(
        &mut self,
        ws: &mut Workspace,
        word: DirectoryWord,
        new: &[u64],
    ) -> Result<()> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.plans.clear();
        let done = self
            .gather(word, &mut scratch.entries)
            .and_then(|()| self.plan(word, new, &mut scratch))
            .and_then(|()| self.rebuild(ws, word, &scratch));
        self.scratch = scratch;
        done
    }

    /// Collects the live entries of a segment with their hashes.
    fn gather(&self, word: DirectoryWord, entries: &mut Vec<Entry>) -> Result<()> {
        let table = &*self.table;
        let hasher = table.hasher();
        let descriptor = table.descriptor(word.descriptor);
        entries.clear();
        for page in 0..usize::from(descriptor.info().pages) {
            let words = self.read_page(descriptor, page)?;
            for group in 0..table.geometry.groups_per_page {
                let in_group = table.group(words, group);
                let control = in_group[group::CONTROL].load(Ordering::Relaxed);
                for slot in group::match_full(control) {
                    let lengths = lengths(in_group, slot);
                    if !lengths.fit(&table.geometry) {
                        let place = Place { descriptor: word.descriptor, page, group, slot };
                        return Err(table.bad_slot(place, lengths));
                    }
                    let hash = hash_of(&hasher, table.slot(in_group, slot), lengths);
                    let (page, group, slot) = (page as u8, group as u8, slot as u8);
                    entries.push(Entry { hash, page, group, slot });
                }
            }
        }
        Ok(())
    }

    /// Decides what the segment becomes; orders the entries accordingly.
    fn plan(&self, word: DirectoryWord, new: &[u64], scratch: &mut Scratch) -> Result<()> {
        let info = self.table.descriptor(word.descriptor).info();
        let slots_per_page = self.table.geometry.slots_per_page();
        let (live, pages) = (scratch.entries.len(), usize::from(info.pages));
        let whole = Plan { prefix: info.prefix, depth: info.depth, pages, start: 0, end: live };
        if (live + new.len()) * 4 <= pages * slots_per_page * 3 {
            scratch.plans.push(whole);
            return Ok(());
        }
        self.divide(whole, new, scratch)
    }

    /// Sizes a part of the entries, or splits it.
    fn divide(&self, part: Plan, new: &[u64], scratch: &mut Scratch) -> Result<()> {
        let slots_per_page = self.table.geometry.slots_per_page();
        let coming = new.iter().filter(|h| prefix_of(**h, part.depth) == part.prefix).count();
        let live = part.end - part.start + coming;
        let pages = pages_for(live, slots_per_page);
        if pages <= MAX_SEGMENT_PAGES {
            scratch.plans.push(Plan { pages, ..part });
            return Ok(());
        }
        if part.depth >= MAX_DEPTH {
            if live > limit(MAX_SEGMENT_PAGES, slots_per_page) {
                return Err(Error::HashCollisions { table: self.table.name.clone() });
            }
            scratch.plans.push(Plan { pages: MAX_SEGMENT_PAGES, ..part });
            return Ok(());
        }
        let bit = 1 << (31 - part.depth);
        let is_high = |hash: u64| (hash >> 32) as u32 & bit != 0;
        let entries = &mut scratch.entries[part.start..part.end];
        scratch.spare.clear();
        scratch.spare.extend(entries.iter().filter(|e| is_high(e.hash)));
        let mut middle = 0;
        for i in 0..entries.len() {
            if !is_high(entries[i].hash) {
                entries[middle] = entries[i];
                middle += 1;
            }
        }
        entries[middle..].copy_from_slice(&scratch.spare);
        let (depth, middle) = (part.depth + 1, part.start + middle);
        self.divide(Plan { depth, end: middle, ..part }, new, scratch)?;
        self.divide(Plan { depth, start: middle, prefix: part.prefix | bit, ..part }, new, scratch)
    }

    /// Builds the planned segments and puts them in the old one's place.
    fn rebuild(
        &mut self,
        ws: &mut Workspace,
        word: DirectoryWord,
        scratch: &Scratch,
    ) -> Result<()> {
        let table = self.table.clone();
        let old = table.descriptor(word.descriptor);
        let pages: usize = scratch.plans.iter().map(|plan| plan.pages).sum();
        if !ws.pool.can_take(pages) {
            let needed = ((ws.pool.dirty() + pages) * 4096) as u64;
            let limit = (ws.pool.capacity() * 4096) as u64;
            return Err(Error::BatchTooLarge { needed, limit });
        }
        // Everything below that may fail comes before the first change.
        self.touch(ws, old.info().directory)?;
        self.blocks.reserve(&ws.epoch, pages)?;
        self.blocks.release(pages);
        let built = self.build_all(ws, old, scratch)?;
        let leaves: Vec<Leaf> =
            built.iter().map(|line| table.leaf(table.descriptor(*line))).collect();
        match self.replace_segment(ws, table.leaf(old), old.info().directory, &leaves) {
            Ok(()) => {
                self.count_replaced(old, &built);
                self.retire_segment(ws, old);
                Ok(())
            }
            Err(error) => {
                built.iter().for_each(|line| self.retire_segment(ws, table.descriptor(*line)));
                Err(error)
            }
        }
    }

    fn build_all(
        &mut self,
        ws: &mut Workspace,
        old: Descriptor<'_>,
        scratch: &Scratch,
    ) -> Result<Vec<u32>> {
        let table = self.table.clone();
        let mut built = Vec::with_capacity(scratch.plans.len());
        for plan in &scratch.plans {
            let made = table.new_descriptor(&mut table.structure());
            let made = made.and_then(|new| {
                let entries = &scratch.entries[plan.start..plan.end];
                let outcome = self.build(ws, old, new, plan, entries);
                outcome.inspect_err(|_| self.retire_segment(ws, new)).map(|()| new.line)
            });
            match made {
                Ok(line) => built.push(line),
                Err(error) => {
                    for line in built {
                        self.retire_segment(ws, table.descriptor(line));
                    }
                    return Err(error);
                }
            }
        }
        Ok(built)
    }

    /// Lays the entries out in fresh pages.
    fn build(
        &mut self,
        ws: &mut Workspace,
        old: Descriptor<'_>,
        new: Descriptor<'_>,
        plan: &Plan,
        entries: &[Entry],
    ) -> Result<()> {
        new.set_info(SegmentInfo {
            used: entries.len() as u16,
            tombstones: 0,
            pages: plan.pages as u8,
            depth: plan.depth,
            prefix: plan.prefix,
            directory: old.info().directory,
        });
        self.fresh_pages(ws, new)?;
        // That may have evicted clean frames of the old segment: what is read
        // from their blocks instead is checked like any other page.
        for page in 0..usize::from(old.info().pages) {
            self.read_page(old, page)?;
        }
        let table = &*self.table;
        let from: [&[AtomicU64]; MAX_SEGMENT_PAGES] = table.all_pages(old);
        let to: [&[AtomicU64]; MAX_SEGMENT_PAGES] = table.all_pages(new);
        let groups = plan.pages * table.geometry.groups_per_page;
        for entry in entries {
            let source = table.group(from[usize::from(entry.page)], entry.group.into());
            for number in Probe::new(entry.hash, groups) {
                let (page, group) = table.geometry.page_of(number);
                let target = table.group(to[page], group);
                let control = target[group::CONTROL].load(Ordering::Relaxed);
                if let Some(slot) = group::match_empty(control).first() {
                    table.move_slot(source, entry.slot.into(), target, slot, entry.hash);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Gives a new descriptor as many empty frames as it has pages; their
    /// blocks become reserved.
    pub(super) fn fresh_pages(
        &mut self,
        ws: &mut Workspace,
        descriptor: Descriptor<'_>,
    ) -> Result<()> {
        let table = self.table.clone();
        let info = descriptor.info();
        for page in 0..usize::from(info.pages) {
            self.blocks.reserve(&ws.epoch, 1)?;
            let owner = Owner { table: table.id, page: page as u8, descriptor: descriptor.line };
            let Some(frame) = ws.take_frame(owner) else {
                self.blocks.release(1);
                let limit = (ws.pool.capacity() * 4096) as u64;
                return Err(Error::BatchTooLarge { needed: limit + 4096, limit });
            };
            let words = ws.pool.words(frame);
            fill(words, 0);
            for group in 0..table.geometry.groups_per_page {
                table.group(words, group)[group::CONTROL].store(ALL_EMPTY, Ordering::Relaxed);
            }
            descriptor.set_page(page, PageWord::frame(frame));
            descriptor.set_writable(page, ws.generation);
        }
        Ok(())
    }

    /// The sums after one segment was replaced by others.
    fn count_replaced(&mut self, old: Descriptor<'_>, new: &[u32]) {
        let table = &self.table;
        let slots = |pages: u8| u64::from(pages) * table.geometry.slots_per_page() as u64;
        let before = old.info();
        let totals = &mut self.totals;
        totals.slots = totals.slots.saturating_sub(slots(before.pages));
        totals.tombstones = totals.tombstones.saturating_sub(before.tombstones.into());
        totals.segments = (totals.segments + new.len() as u64).saturating_sub(1);
        for line in new {
            totals.slots += slots(table.descriptor(*line).info().pages);
        }
    }

    /// A segment is no more: its pages and its descriptor are given back.
    pub(super) fn retire_segment(&mut self, ws: &mut Workspace, descriptor: Descriptor<'_>) {
        for page in 0..usize::from(descriptor.info().pages) {
            let word = descriptor.page(page);
            if word == PageWord(0) {
                continue;
            }
            if word.is_frame() {
                self.retire_frame(ws, word.number());
            } else {
                self.blocks.die(word.number());
            }
        }
        let mut lines = self.table.structure();
        lines.retire(&ws.epoch, descriptor.line, DESCRIPTOR_LINES);
    }

    /// The frame of a page that is no more.
    pub(super) fn retire_frame(&mut self, ws: &mut Workspace, frame: u32) {
        let info = *ws.pool.info(frame);
        match info.state {
            State::Dirty if ws.is_frozen(info.generation) => ws.pool.supersede(frame),
            State::Dirty => {
                self.blocks.release(1);
                ws.pool.retire(&ws.epoch, frame);
            }
            State::Clean => {
                self.blocks.die(info.block);
                ws.pool.retire(&ws.epoch, frame);
            }
            State::Free | State::Superseded => debug_assert!(false, "{info:?}"),
        }
    }
}

impl Table {
    /// The words of all pages of a segment that are known to be sound.
    fn all_pages(&self, descriptor: Descriptor<'_>) -> [&[AtomicU64]; MAX_SEGMENT_PAGES] {
        let pages = usize::from(descriptor.info().pages);
        std::array::from_fn(|page| {
            let word = (page < pages).then(|| self.page_words(descriptor.page(page)));
            word.flatten().unwrap_or(&[])
        })
    }

    /// Copies a slot into an empty one of a page that nobody sees.
    #[inline]
    fn move_slot(
        &self,
        source: &[AtomicU64],
        from: usize,
        target: &[AtomicU64],
        to: usize,
        hash: u64,
    ) {
        let lengths = lengths(source, from);
        copy_words(self.slot(source, from), self.slot(target, to));
        super::segment::set_control_line(
            target,
            to,
            group::h2(hash),
            group::fingerprint(hash),
            lengths,
        );
    }
}
