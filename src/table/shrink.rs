//! Tidying: segments shrink, siblings merge, pages move to lower blocks.
//!
//! [`Writer::tidy`] does one bounded step at one segment, under the writer
//! lock. A *pass* is a step at each segment in hash order. A step looks at
//! these questions and does what the first one asks for that has an answer:
//!
//! 1. Could this segment and its sibling range (the other half of the next
//!    shorter prefix), whatever it is divided into, be one segment? Then for
//!    the next shorter prefix the same, and so on upward; all of them become
//!    one. If they are all there is in two directory pages, these become one.
//! 2. Does the segment have too many pages? It is laid out anew in fewer.
//! 3. Do pages of it, or its directory page, lie in high blocks? They become
//!    dirty, so that the next checkpoint writes them to the lowest free ones.
//! 4. Is it the last of its directory page, and does that page together with
//!    its lower sibling fit one? They become one.
//! 5. Is it the last of the table, and does every word of the root stand there
//!    twice? The root is halved.
//!
//! After 1, 2, 4 and 5 the next step is at the same segment, so that a pass ends
//! where nothing is left to do: no two siblings may be merged, no segment be
//! smaller. A sibling range above this one that is still divided too finely
//! (its pages are too many to be read in one step) is merged by steps that come
//! later in the pass; the last of them finds this segment as its lower sibling.
//!
//! | | [`Roomy`](Sizing::Roomy) | [`Dense`](Sizing::Dense) |
//! |---|---|---|
//! | shrinks | when less than half full, to 1.45 times its entries | to the fewest pages |
//! | merges | to 8 pages at most, and not more than before | to 16 pages at most |
//! | joins directory pages | that fill half of one | that fill nine tenths of one |
//!
//! So what `Roomy` has done, some inserts do not undo. A `Dense` segment of `p`
//! pages is filled to more than `7/8 * (p - 1)/p`: to 0.82 or more from 16
//! pages on, 0.77 from 8, 0.66 from 4, and anything with one page.
//!
//! # Bounds
//!
//! A step reads at most 32 pages and lays out at most 16, besides two directory
//! pages, or the root. It takes frames like a commit does, and on a full device
//! half of the blocks that are kept for urgent work: the other half is left to
//! removals. What may fail comes before the first change.

use crate::error::Result;
use crate::format::directory::{DIRECTORY_SPACE, MAX_SEGMENT_PAGES, segment_record_len};

use super::directory::Leaf;
use super::frames::State;
use super::layout::{DirectoryWord, MAX_ARRAY_BITS, PageWord};
use super::moves::MAX_SOURCES;
use super::room::{fewest_pages, pages_for};
use super::scan::next_segment;
use super::segment::Place;
use super::{Workspace, Writer};

/// How segments are sized when they are tidied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sizing {
    /// With room to grow: only what is clearly too large shrinks, and siblings
    /// merge when together they need at most half of the largest segment.
    Roomy,
    /// As full as a segment may be: the fewest pages whose seven eighths hold
    /// the live entries; siblings merge whenever both fit one segment.
    Dense,
}

/// What a step of tidying came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tidied {
    /// Where the next segment begins; `None` at the end.
    pub(crate) next: Option<u64>,
    /// Pages that became dirty.
    pub(crate) pages: usize,
}

/// Segments side by side that could be one: their descriptors, the prefix that
/// they share, and their sums.
struct Group {
    lines: Vec<u32>,
    prefix: u32,
    depth: u8,
    used: usize,
    pages: usize,
}

impl Sizing {
    /// The pages of a new segment for so many entries.
    fn pages(self, used: usize, slots_per_page: usize) -> usize {
        match self {
            Sizing::Roomy => pages_for(used, slots_per_page),
            Sizing::Dense => fewest_pages(used, slots_per_page),
        }
    }

    /// The pages of a merged segment at most.
    fn most(self) -> usize {
        match self {
            Sizing::Roomy => MAX_SEGMENT_PAGES / 2,
            Sizing::Dense => MAX_SEGMENT_PAGES,
        }
    }

    /// Whether segments of so many pages and entries may become one.
    fn may_merge(self, group: &Group, slots_per_page: usize) -> bool {
        let pages = self.pages(group.used, slots_per_page);
        pages <= self.most() && pages <= group.pages
    }

    /// Whether a segment is to be laid out anew in fewer pages.
    fn is_too_large(self, group: &Group, slots_per_page: usize) -> bool {
        let half = self == Sizing::Dense || group.used * 2 < group.pages * slots_per_page;
        half && self.pages(group.used, slots_per_page) < group.pages
    }

    /// The bytes of segment records in two directory pages that become one.
    fn directory_space(self) -> usize {
        match self {
            Sizing::Roomy => DIRECTORY_SPACE / 2,
            Sizing::Dense => DIRECTORY_SPACE / 10 * 9,
        }
    }
}

impl Writer {
    /// Whether removals have left the table so empty that tidying is worth it:
    /// a few loads, for each removal to ask. Three eighths, for then nearly all
    /// segments are less than half full, and fewer entries are left to move: at one
    /// half, removing everything took a tenth to a fifth longer.
    #[inline]
    pub(crate) fn is_sparse(&self) -> bool {
        self.totals.used < self.totals.slots / 8 * 3 && self.totals.used < self.sparse_below
    }

    /// A pass of tidying has ended: until half of the entries are gone, or
    /// there are twice as many, another one would find little to do. `used` is
    /// how many there were when it began: its first segments were sized then.
    pub(crate) fn tidied(&mut self, used: u64) {
        self.sparse_below = used / 2;
    }

    /// One step at the segment of hash `from`, see above. What of it lies in
    /// block `below` or behind it becomes dirty.
    ///
    /// # Errors
    ///
    /// `Corrupt` or `Io` if a page cannot be read; `BatchTooLarge` without
    /// frames, or a full device. Nothing has changed then.
    pub(crate) fn tidy(
        &mut self,
        ws: &mut Workspace,
        from: u64,
        sizing: Sizing,
        below: Option<u32>,
    ) -> Result<Tidied> {
        self.blocks.set_tidying(true);
        let outcome = self.tidy_step(ws, from, sizing, below);
        self.blocks.set_tidying(false);
        outcome
    }

    fn tidy_step(
        &mut self,
        ws: &mut Workspace,
        from: u64,
        sizing: Sizing,
        below: Option<u32>,
    ) -> Result<Tidied> {
        let word = self.table.route(from)?;
        let slots_per_page = self.table.geometry.slots_per_page();
        let group = self.mergeable(word, sizing);
        let start = u64::from(group.prefix) << 32;
        if group.lines.len() > 1 || sizing.is_too_large(&group, slots_per_page) {
            let pages = sizing.pages(group.used, slots_per_page);
            self.join(ws, &group.lines, (group.prefix, group.depth), pages)?;
            return Ok(Tidied { next: Some(start), pages });
        }
        let moved = match below {
            Some(below) => self.move_down(ws, word, below)?,
            None => 0,
        };
        let next = next_segment(from, word.depth);
        if self.is_last_of_page(from, next) && self.join_with_lower(ws, from, sizing)? {
            return Ok(Tidied { next: Some(start), pages: moved + 1 });
        }
        let halved = next.is_none() && self.table.halve_root()?;
        Ok(Tidied { next: if halved { Some(start) } else { next }, pages: moved })
    }

    /// The segment itself and all that it may be merged with now.
    fn mergeable(&self, word: DirectoryWord, sizing: Sizing) -> Group {
        let info = self.table.descriptor(word.descriptor).info();
        let mut group = Group {
            lines: vec![word.descriptor],
            prefix: info.prefix,
            depth: info.depth,
            used: info.used.into(),
            pages: info.pages.into(),
        };
        // Beyond the directory page once only: then two pages become one.
        let page_depth = self.table.record(info.directory).depth();
        while group.depth > 0
            && group.depth >= page_depth
            && let Some(larger) = self.with_sibling(&group, page_depth, sizing)
        {
            group = larger;
        }
        group
    }

    /// A group with its sibling range, if all of that may become one segment
    /// in one step.
    fn with_sibling(&self, group: &Group, page_depth: u8, sizing: Sizing) -> Option<Group> {
        let bit = 1 << (32 - u32::from(group.depth));
        let first = u64::from(group.prefix ^ bit) << 32;
        // What cannot be loaded stays alone; whoever comes to it learns why.
        if group.depth == page_depth
            && self.table.loaded_root_word(first).ok()?.depth != group.depth
        {
            return None;
        }
        let (mut lines, mut used, mut pages) = (Vec::new(), group.used, group.pages);
        let end = next_segment(first, group.depth);
        let mut next = Some(first);
        while next != end {
            let word = self.table.route(next?).ok()?;
            let info = self.table.descriptor(word.descriptor).info();
            lines.push(word.descriptor);
            used += usize::from(info.used);
            pages += usize::from(info.pages);
            if pages > MAX_SOURCES {
                return None;
            }
            next = next_segment(next?, info.depth);
        }
        if group.prefix & bit == 0 {
            lines.splice(0..0, group.lines.iter().copied());
        } else {
            lines.extend(&group.lines);
        }
        let (prefix, depth) = (group.prefix & !bit, group.depth - 1);
        let larger = Group { lines, prefix, depth, used, pages };
        sizing.may_merge(&larger, self.table.geometry.slots_per_page()).then_some(larger)
    }

    /// Makes the pages of a segment, and its directory page, dirty that lie in
    /// a block or behind it. Returns how many.
    fn move_down(&mut self, ws: &mut Workspace, word: DirectoryWord, below: u32) -> Result<usize> {
        let table = self.table.clone();
        let descriptor = table.descriptor(word.descriptor);
        let info = descriptor.info();
        let lies_high = |word: PageWord| match word.is_frame() {
            false => word.number() >= below,
            true => {
                let frame = ws.pool.info(word.number());
                frame.state == State::Clean && frame.block >= below
            }
        };
        let pages = 0..usize::from(info.pages);
        let high: Vec<usize> = pages.filter(|page| lies_high(descriptor.page(*page))).collect();
        let record = table.record(info.directory);
        let record_high = !record.is_dirty() && record.block().block >= below;
        if high.is_empty() && !record_high {
            return Ok(0);
        }
        // All that is free lower down, for the next checkpoint to choose from.
        self.blocks.reclaim(&ws.epoch, 1);
        // Frames before checks: what was evicted for them is checked again now.
        ws.make_free(high.len())?;
        for page in &high {
            self.read_page(descriptor, *page)?;
        }
        self.touch(ws, info.directory)?;
        self.blocks.reserve(&ws.epoch, high.len())?;
        self.blocks.release(high.len());
        for page in &high {
            let place = Place { descriptor: word.descriptor, page: *page, group: 0, slot: 0 };
            self.make_writable(ws, place)?;
        }
        Ok(high.len() + usize::from(record_high))
    }

    /// Sees to it that the next checkpoint writes root and free map again, if
    /// one of them lies in a block or behind it: a directory page becomes
    /// dirty. Says whether it does.
    ///
    /// # Errors
    ///
    /// As for [`tidy`](Writer::tidy).
    pub(crate) fn move_runs(&mut self, ws: &mut Workspace, below: u32) -> Result<bool> {
        if self.root_run.block < below && self.map_run.block < below {
            return Ok(false);
        }
        let word = self.table.route(0)?;
        let directory = self.table.descriptor(word.descriptor).info().directory;
        self.blocks.reclaim(&ws.epoch, 1);
        self.touch(ws, directory)?;
        Ok(true)
    }

    /// Whether the segment of a hash, behind which `next` comes, is the last of
    /// its directory page.
    fn is_last_of_page(&self, from: u64, next: Option<u64>) -> bool {
        let word = self.table.loaded_root_word(from);
        word.is_ok_and(|word| next == next_segment(from, word.depth))
    }

    /// Joins the directory page of a hash and its lower sibling, if both fit
    /// one. (The lower one does not ask: a pass comes to the upper one yet.)
    fn join_with_lower(&mut self, ws: &mut Workspace, from: u64, sizing: Sizing) -> Result<bool> {
        let table = self.table.clone();
        let word = table.loaded_root_word(from)?;
        let record = table.record_of(word.array);
        let bit = if word.depth == 0 { 0 } else { 1 << (32 - u32::from(word.depth)) };
        if record.prefix() & bit == 0 {
            return Ok(false);
        }
        let lower = u64::from(record.prefix() ^ bit) << 32;
        let Ok(lower) = table.loaded_root_word(lower) else {
            return Ok(false);
        };
        if lower.depth != word.depth {
            return Ok(false);
        }
        let lower = table.record_of(lower.array);
        let leaves = [table.leaves(lower), table.leaves(record)].concat();
        let len = |leaf: &Leaf| segment_record_len(leaf.pages.into());
        let bytes: usize = leaves.iter().map(len).sum();
        let spread = super::directory::array_bits(word.depth - 1, &leaves);
        if bytes > sizing.directory_space() || spread > MAX_ARRAY_BITS {
            return Ok(false);
        }
        self.join_pages(ws, [lower.line, record.line]).map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use super::{Group, Sizing};

    #[test]
    fn full_siblings_do_not_merge_into_more_pages_than_they_have() {
        let group = |used, pages| Group { lines: Vec::new(), prefix: 0, depth: 0, used, pages };
        // Two of three pages, seven eighths full: eight pages would have room.
        assert_eq!(Sizing::Roomy.pages(336, 64), 8);
        assert!(!Sizing::Roomy.may_merge(&group(336, 6), 64));
        assert!(Sizing::Roomy.may_merge(&group(336, 8), 64));
        assert!(!Sizing::Roomy.may_merge(&group(400, 16), 64));
        assert!(Sizing::Dense.may_merge(&group(336, 6), 64));
        assert!(Sizing::Dense.may_merge(&group(896, 16), 64));
        assert!(!Sizing::Dense.may_merge(&group(897, 32), 64));
    }
}
