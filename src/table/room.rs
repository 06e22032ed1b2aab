//! Making room: a segment is rebuilt, grown or split.
//!
//! | the segment | what happens |
//! |---|---|
//! | has tombstones: entries come and go | *rebuild* without them, in the pages of which the live entries fill at most 3/4: more, as many or fewer |
//! | has none: entries only come | *grow* to the pages that hold 1.6 times as many |
//! | would need more than 16 pages then | *split* by the next hash bit; each half sized as if it grew |
//!
//! Sizing by what is there instead of doubling keeps the utilisation of the
//! whole table at about 0.7 at any size: where a segment is made anew twice
//! while it doubles, some are just full whenever others are just made. Where keys come
//! and go, the entries of a segment become more and fewer by chance, and it is
//! rebuilt when they are many. If it then took room to grow, and never gave
//! any back, every turnover would leave a larger table: with slots of 504 bytes
//! the utilisation fell from 0.75 to 0.57 in nine of them, and stays above 0.63
//! now, for 0.3 more moves of an entry with each insert (with 56 bytes: from
//! 0.66 to 0.71). What this cannot reach is a segment with few entries, which
//! makes no tombstones: [`shrink`](super::shrink) does.
//!
//! While a log is replayed, what a segment is going to have is known better than
//! that: it [gets room](Margin::Foreseen) for it, to be filled to four fifths. On a full
//! device it gets the fewest pages then ([`Margin::None`]).
//!
//! A split that moves nothing goes on to the next bit. At 32 bits there is no
//! next one, and the segment takes what 16 pages hold before it is
//! [`HashCollisions`](crate::Error::HashCollisions).
//!
//! The new segments are built in fresh frames that nobody sees, and installed
//! by one store each; the old pages are retired. Nothing logical changes, so
//! all of this happens before a commit is logged, when it may still fail.

use crate::error::{Error, Result};
use crate::format::directory::{MAX_DEPTH, MAX_SEGMENT_PAGES};
use crate::format::group::SLOTS;

use super::directory::Leaf;
use super::frames::{Owner, State};
use super::layout::{DESCRIPTOR_LINES, Descriptor, DirectoryWord, PageWord, SegmentInfo};
use super::moves::{Assigned, Entry, Staged};
use super::{Workspace, Writer};

/// Memory that is kept from one making of room to the next.
#[derive(Default)]
pub(super) struct Scratch {
    entries: Vec<Entry>,
    spare: Vec<Entry>,
    plans: Vec<Plan>,
    assigned: Assigned,
    staged: Staged,
}

/// How much room a segment gets that is made anew.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Margin {
    /// For some more entries than it has.
    #[default]
    Usual,
    /// For its share of as many entries as the table is going to have soon, if that is
    /// more.
    Foreseen(u64),
    /// The fewest pages that hold its entries: it is made anew again soon, but a full
    /// device has room for it.
    None,
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

/// How much larger than its live entries a grown segment is. It is full at 7/8,
/// so with 1.45 it is made anew about three times while its entries double, and
/// with 1.6 twice; factors between these let the utilisation swing. While filling,
/// with slots of 48 bytes, 1.33 leaves a utilisation of 0.77 to 0.81 for 5.3 moves
/// of an entry with each insert, 1.45 of 0.74 to 0.78 for 3.6, 1.55 of 0.66 to 0.80
/// for 3.2, 1.6 of 0.69 to 0.74 for 2.5, 1.8 of 0.63 to 0.72 for 1.9.
const FACTOR: (usize, usize) = (8, 5);

/// How much larger a segment is in which entries come and go.
const STEADY: (usize, usize) = (4, 3);

/// How much larger a segment is that is [tidied](super::shrink): it is at rest, and
/// need not make room fast.
const TIDY: (usize, usize) = (29, 20);

/// How much larger a segment is than what it is [going to have](Margin::Foreseen). Shares of a
/// table differ by a thirtieth of theirs; so one in hundreds is made anew once more.
const FORESEEN: (usize, usize) = (5, 4);

/// The pages for a number of live entries that are tidied.
pub(super) fn pages_for(live: usize, slots_per_page: usize) -> usize {
    pages_by(TIDY, live, slots_per_page)
}

fn pages_by(factor: (usize, usize), live: usize, slots_per_page: usize) -> usize {
    (live * factor.0).div_ceil(factor.1 * slots_per_page).max(1)
}

/// The fewest pages that hold a number of live entries.
pub(super) fn fewest_pages(live: usize, slots_per_page: usize) -> usize {
    live.div_ceil(slots_per_page / SLOTS * 7).max(1)
}

/// The entries that a number of pages holds at full load.
pub(super) fn limit(pages: usize, slots_per_page: usize) -> usize {
    pages * slots_per_page / SLOTS * 7
}

impl Writer {
    /// Replaces the segment of a hash by one or more with room for new
    /// entries of these hashes, which are sorted and all belong to it. Entries
    /// that are staged go there at once, and are counted; none are staged afterwards.
    pub(super) fn make_room(
        &mut self,
        ws: &mut Workspace,
        word: DirectoryWord,
        new: &[u64],
    ) -> Result<()> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.plans.clear();
        let olds = [word.descriptor];
        let done = self
            .gather(&olds, &mut scratch.entries)
            .map(|()| scratch.staged.join(&mut scratch.entries))
            .and_then(|()| self.plan(word, new, &mut scratch))
            .and_then(|()| self.rebuild(ws, &olds, &mut scratch))
            .map(|()| self.totals.used += scratch.staged.len() as u64);
        scratch.staged.clear();
        self.scratch = scratch;
        done
    }

    /// Entries that go into a segment when room is made in it next.
    pub(super) fn staged(&mut self) -> &mut Staged {
        &mut self.scratch.staged
    }

    /// Replaces segments that lie side by side, of [`MAX_SOURCES`](super::moves::MAX_SOURCES) pages at
    /// most, by one of this prefix and so many pages.
    pub(super) fn join(
        &mut self,
        ws: &mut Workspace,
        olds: &[u32],
        prefix: (u32, u8),
        pages: usize,
    ) -> Result<()> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.plans.clear();
        let done = self.gather(olds, &mut scratch.entries).and_then(|()| {
            let (prefix, depth) = prefix;
            let end = scratch.entries.len();
            scratch.plans.push(Plan { prefix, depth, pages, start: 0, end });
            self.rebuild(ws, olds, &mut scratch)
        });
        self.scratch = scratch;
        done
    }

    /// Decides what the segment becomes; orders the entries accordingly.
    fn plan(&self, word: DirectoryWord, new: &[u64], scratch: &mut Scratch) -> Result<()> {
        let info = self.table.descriptor(word.descriptor).info();
        let slots_per_page = self.table.geometry.slots_per_page();
        let live = scratch.entries.len();
        let whole = Plan { prefix: info.prefix, depth: info.depth, pages: 0, start: 0, end: live };
        let steady = match self.margin {
            Margin::None => fewest_pages(live + new.len(), slots_per_page),
            _ => pages_by(STEADY, live + new.len(), slots_per_page),
        };
        if info.tombstones > 0 && steady <= MAX_SEGMENT_PAGES {
            scratch.plans.push(Plan { pages: steady, ..whole });
            return Ok(());
        }
        self.divide(whole, new, scratch)
    }

    /// Sizes a part of the entries, or splits it.
    fn divide(&self, part: Plan, new: &[u64], scratch: &mut Scratch) -> Result<()> {
        let slots_per_page = self.table.geometry.slots_per_page();
        let first = u64::from(part.prefix) << 32;
        let last = first | u64::MAX >> part.depth;
        let new = &new[new.partition_point(|hash| *hash < first)..];
        let new = &new[..new.partition_point(|hash| *hash <= last)];
        let live = part.end - part.start + new.len();
        let pages = self.pages_of(&part, live);
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
        let entries = &mut scratch.entries[part.start..part.end];
        // Half of them are high, in no order: so no branch asks which.
        scratch.spare.resize(entries.len(), Entry::NONE);
        let (mut middle, mut high) = (0, 0);
        for i in 0..entries.len() {
            let entry = entries[i];
            let is_high = usize::from((entry.hash >> 32) as u32 & bit != 0);
            entries[middle] = entry;
            scratch.spare[high] = entry;
            middle += 1 - is_high;
            high += is_high;
        }
        entries[middle..].copy_from_slice(&scratch.spare[..high]);
        let (depth, middle) = (part.depth + 1, part.start + middle);
        self.divide(Plan { depth, end: middle, ..part }, new, scratch)?;
        self.divide(Plan { depth, start: middle, prefix: part.prefix | bit, ..part }, new, scratch)
    }

    /// The pages for a part with so many live entries.
    fn pages_of(&self, part: &Plan, live: usize) -> usize {
        let slots_per_page = self.table.geometry.slots_per_page();
        let usual = pages_by(FACTOR, live, slots_per_page);
        match self.margin {
            Margin::Usual => usual,
            Margin::Foreseen(entries) => {
                let share = usize::try_from(entries >> part.depth).unwrap_or(usize::MAX);
                usual.max(pages_by(FORESEEN, share, slots_per_page))
            }
            Margin::None => fewest_pages(live, slots_per_page),
        }
    }

    /// Says how much room segments get that are made anew from now on.
    pub(crate) fn set_margin(&mut self, margin: Margin) {
        self.margin = margin;
    }

    /// Builds the planned segments and puts them in the old ones' place.
    fn rebuild(&mut self, ws: &mut Workspace, olds: &[u32], scratch: &mut Scratch) -> Result<()> {
        let table = self.table.clone();
        let pages: usize = scratch.plans.iter().map(|plan| plan.pages).sum();
        if !ws.pool.can_take(pages) {
            let needed = ((ws.pool.dirty() + pages) * 4096) as u64;
            let limit = (ws.pool.capacity() * 4096) as u64;
            return Err(Error::BatchTooLarge { needed, limit });
        }
        // Everything below that may fail comes before the first change.
        for old in olds {
            self.touch(ws, table.descriptor(*old).info().directory)?;
        }
        self.blocks.reserve(&ws.epoch, pages)?;
        self.blocks.release(pages);
        let built = self.build_all(ws, olds, scratch)?;
        let leaf = |line: &u32| table.leaf(table.descriptor(*line));
        let leaves: Vec<Leaf> = built.iter().map(leaf).collect();
        let replaced: Vec<Leaf> = olds.iter().map(leaf).collect();
        match self.replace_segments(ws, &replaced, &leaves) {
            Ok(()) => {
                self.count_replaced(olds, &built);
                olds.iter().for_each(|line| self.retire_segment(ws, table.descriptor(*line)));
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
        olds: &[u32],
        scratch: &mut Scratch,
    ) -> Result<Vec<u32>> {
        let table = self.table.clone();
        let mut built = Vec::with_capacity(scratch.plans.len());
        for plan in &scratch.plans {
            let made = table.new_descriptor(&mut table.structure());
            let made = made.and_then(|new| {
                let entries = (&scratch.entries[plan.start..plan.end], &scratch.staged);
                let outcome = self.build(ws, olds, new, plan, entries, &mut scratch.assigned);
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
        olds: &[u32],
        new: Descriptor<'_>,
        plan: &Plan,
        entries: (&[Entry], &Staged),
        assigned: &mut Assigned,
    ) -> Result<()> {
        new.set_info(SegmentInfo {
            used: entries.0.len() as u16,
            tombstones: 0,
            pages: plan.pages as u8,
            depth: plan.depth,
            prefix: plan.prefix,
            directory: 0,
        });
        self.take_pages(ws, new)?;
        // That may have evicted clean frames of the old segments: what is read
        // from their blocks instead is checked like any other page.
        let table = &*self.table;
        for (old, page) in table.pages_of(olds) {
            self.read_page(old, page)?;
        }
        self.lay_out(olds, new, entries, assigned);
        Ok(())
    }

    /// Gives a new descriptor as many empty pages as it has.
    pub(super) fn fresh_pages(
        &mut self,
        ws: &mut Workspace,
        descriptor: Descriptor<'_>,
    ) -> Result<()> {
        self.take_pages(ws, descriptor)?;
        let none = (&[][..], &Staged::default());
        self.lay_out(&[], descriptor, none, &mut Assigned::default());
        Ok(())
    }

    /// Gives a new descriptor as many frames as it has pages; their blocks
    /// become reserved. Their bytes are whatever they were.
    fn take_pages(&mut self, ws: &mut Workspace, descriptor: Descriptor<'_>) -> Result<()> {
        let table = self.table.clone();
        for page in 0..usize::from(descriptor.info().pages) {
            self.blocks.reserve(&ws.epoch, 1)?;
            let owner = Owner { table: table.id, page: page as u8, descriptor: descriptor.line };
            let Some(frame) = ws.take_frame(owner) else {
                self.blocks.release(1);
                let limit = (ws.pool.capacity() * 4096) as u64;
                return Err(Error::BatchTooLarge { needed: limit + 4096, limit });
            };
            descriptor.set_page(page, PageWord::frame(frame));
            descriptor.set_writable(page, ws.generation);
        }
        Ok(())
    }

    /// The sums after segments were replaced by others.
    fn count_replaced(&mut self, old: &[u32], new: &[u32]) {
        let table = &self.table;
        let slots = |pages: u8| u64::from(pages) * table.geometry.slots_per_page() as u64;
        let totals = &mut self.totals;
        for info in old.iter().map(|line| table.descriptor(*line).info()) {
            totals.slots = totals.slots.saturating_sub(slots(info.pages));
            totals.tombstones = totals.tombstones.saturating_sub(info.tombstones.into());
            totals.segments = totals.segments.saturating_sub(1);
        }
        for info in new.iter().map(|line| table.descriptor(*line).info()) {
            totals.slots += slots(info.pages);
            totals.segments += 1;
        }
        // Seen here, where the table grows, and not with every insert.
        if self.totals.used / 4 >= self.sparse_below {
            self.sparse_below = u64::MAX;
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
            State::Dirty if ws.is_frozen(info.generation) => {
                if self.let_go(ws, info.block) {
                    return ws.pool.retire(&ws.epoch, frame);
                }
                ws.pool.supersede(frame, ws.generation);
            }
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
