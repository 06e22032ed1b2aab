//! Walking a whole table to see what is in it: sizes, searches, segments.
//!
//! What the store knows without looking is in `stats`; this reads every page.
//! It goes segment by segment in the order of hashes. For each one the writer
//! lock is held while its pages, at most 64 KiB, are copied; they are counted
//! after it was given back. So a writer waits for one segment at most, and the
//! time of the whole is about that of reading the table file once. Values in
//! the log are not read: their lengths stand in the slots.
//!
//! ```text
//! lock ─ segment of a hash ─ copy its pages ─ unlock ─ count ─ next segment ...
//! ```
//!
//! While a table changes, each segment is counted as it is when its turn comes.
//! The cursor is a hash, as in iteration: what lies below it is counted already
//! and is left out of a segment that was merged meanwhile. If the table is
//! cleared, everything counted so far is forgotten and the walk begins anew.
//!
//! A part that is damaged is counted as such and passed over; `verify` says
//! what is wrong with it.

mod segment;

use crate::census::Census;
use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::group::Lengths;
use crate::hash::Hasher;
use crate::histogram::Histogram;
use crate::store::Store;
use crate::store::commit::no_table;
use crate::table::scan::next_segment;
use crate::table::view::SegmentView;
use crate::table::{Table, Writer};
use segment::Segment;

/// What is in a table: see [`Db::survey`](crate::Db::survey).
///
/// All sizes are in bytes. Searches are measured in groups visited: each group
/// is one cache line to look at, and one more for an entry found.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Survey {
    /// How many entries there are, how long, and which slot payload suits them.
    /// Where a directory page is damaged, each word of the root that leads to
    /// it counts as a segment that could not be read.
    pub census: Census,
    /// Slots.
    pub slots: u64,
    /// Deleted slots that keep probes going.
    pub tombstones: u64,
    /// Entries that stand in their slots with key and value.
    pub inline: u64,
    /// Entries of which the value is in the log.
    pub value_spilled: u64,
    /// Entries of which the key is in the log.
    pub key_spilled: u64,
    /// Entries of which both are in the log.
    pub both_spilled: u64,
    /// Bytes of entries in the log.
    pub log_bytes: u64,
    /// Groups that the search for each entry visits, the one it is found in
    /// included.
    pub hit_probes: Histogram,
    /// Groups that the search for an absent key visits: one count for each
    /// group as its home group. In a table of even segments its mean is what a
    /// miss costs.
    pub miss_probes: Histogram,
    /// Segments by their pages, 1 to 16.
    pub segment_pages: Histogram,
    /// Segments by their local depth, 0 to 32.
    pub segment_depths: Histogram,
}

impl Survey {
    pub(crate) fn new(table: &str, payload: usize) -> Survey {
        Survey {
            census: Census::new(table, payload),
            slots: 0,
            tombstones: 0,
            inline: 0,
            value_spilled: 0,
            key_spilled: 0,
            both_spilled: 0,
            log_bytes: 0,
            hit_probes: Histogram::new(),
            miss_probes: Histogram::new(),
            segment_pages: Histogram::new(),
            segment_depths: Histogram::new(),
        }
    }

    /// Counts an entry: the lengths in its slot, that of its value, and how
    /// much of it is in the log.
    fn add_entry(&mut self, lengths: Lengths, value: u64, in_log: u64) {
        *match (lengths.key_spilled(), lengths.value_spilled()) {
            (false, false) => &mut self.inline,
            (false, true) => &mut self.value_spilled,
            (true, false) => &mut self.key_spilled,
            (true, true) => &mut self.both_spilled,
        } += 1;
        self.log_bytes += in_log;
        self.census.add(lengths.key_len() as u64, value);
    }
}

/// Surveys a table. `progress` is told after each segment how many entries
/// have been counted.
///
/// Costs about what reading the table file once costs; writers wait for one
/// segment at most, readers never.
///
/// # Errors
///
/// `Closed`; `NotFound` if the table was dropped; `Io`. Damage is no error.
pub(crate) fn take(store: &Store, table: &Table, progress: &mut dyn FnMut(u64)) -> Result<Survey> {
    let begin = || Survey::new(&table.name, table.geometry.payload());
    let mut survey = begin();
    let mut pages = Vec::new();
    let mut clears = None;
    let mut from = Some(0);
    while let Some(hash) = from {
        let copied = copy(store, table, hash, &mut pages)?;
        if clears.is_some_and(|clears| clears != copied.clears) {
            (survey, clears, from) = (begin(), None, Some(0));
            continue;
        }
        clears = Some(copied.clears);
        match copied.segment {
            Some(view) => {
                count(&mut survey, table, &view, &copied.hasher, &pages, hash);
                from = next_segment(hash, view.depth);
            }
            None => {
                survey.census.unreadable += 1;
                from = table.next_segment_after(hash);
            }
        }
        progress(survey.census.entries);
    }
    Ok(survey)
}

/// What was copied under the writer lock, beside the pages.
struct Copied {
    /// None if it is damaged.
    segment: Option<SegmentView>,
    hasher: Hasher,
    clears: u32,
}

/// Copies the pages of the segment of a hash, under the writer lock.
fn copy(
    store: &Store,
    table: &Table,
    hash: u64,
    pages: &mut Vec<Box<[u8; BLOCK]>>,
) -> Result<Copied> {
    let core = store.core()?;
    let writer = core.writer(table.id).ok_or_else(|| no_table(table))?;
    let segment = match copy_pages(writer, hash, pages) {
        Ok(view) => Some(view),
        Err(Error::Corrupt(_)) => None,
        Err(error) => return Err(error),
    };
    Ok(Copied { segment, hasher: writer.table.hasher(), clears: writer.clears })
}

fn copy_pages(
    writer: &Writer,
    hash: u64,
    pages: &mut Vec<Box<[u8; BLOCK]>>,
) -> Result<SegmentView> {
    let view = writer.segment_at(hash)?;
    if let Some(text) = view.contradiction() {
        return Err(Error::corrupt(&writer.table.path, 0, "a segment in memory", "whole", text));
    }
    pages.resize_with(view.pages, || Box::new([0; BLOCK]));
    for (number, page) in pages.iter_mut().enumerate() {
        writer.page_bytes(&view, number, page)?;
    }
    Ok(view)
}

/// Counts what was copied; `from` is where the walk stands.
fn count(
    survey: &mut Survey,
    table: &Table,
    view: &SegmentView,
    hasher: &Hasher,
    pages: &[Box<[u8; BLOCK]>],
    from: u64,
) {
    let segment = Segment { geometry: table.geometry, hasher, pages };
    segment.count_entries(from, survey);
    // One that was merged with what lies before it was counted there.
    if u64::from(view.prefix) << 32 == from {
        survey.slots += segment.slots();
        survey.tombstones += u64::from(view.tombstones);
        survey.segment_pages.add(view.pages as u64);
        survey.segment_depths.add(view.depth.into());
        segment.count_misses(survey);
    }
}
