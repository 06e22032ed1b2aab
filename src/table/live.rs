//! How many bytes of each log file the entries of a table need.
//!
//! The counts are kept with every change, and stored with each checkpoint: a
//! log file without live bytes is recycled. So a count may be too high, which
//! costs space, but never too low. One that would go below zero, or that is
//! asked to go down and is not there, shows that something is wrong, a damaged
//! address as a rule; how wrong, nobody can say. The file then counts as full
//! ([`LIVE_UNKNOWN`]), until everything was counted anew.
//!
//! A *recount* goes from segment to segment in hash order, some with each
//! holding of the writer lock. What was counted already is kept up to date
//! meanwhile: a change to an entry whose hash lies below the cursor goes into
//! the new counts too. That a segment may be split or merged in between does
//! not matter, because entries keep their hashes. In the end the new counts
//! take the place of the old ones.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::format::group::{self, Address};

use super::Writer;
use super::scan::next_segment;
use super::segment::{Place, address, lengths};

/// What is said of a log file whose count went wrong: more than any file
/// holds, so that it is never recycled.
pub(crate) const LIVE_UNKNOWN: u64 = 1 << 32;

/// Counting anew, segment by segment in hash order.
pub(crate) struct Recount {
    /// Entries of hashes below this one have been counted.
    cursor: u64,
    live: BTreeMap<u32, u64>,
}

/// An entry needs these bytes from now on.
fn add(live: &mut BTreeMap<u32, u64>, address: Address) {
    let count = live.entry(address.file).or_insert(0);
    if *count < LIVE_UNKNOWN {
        *count += u64::from(address.len);
    }
}

/// An entry needs these bytes no longer.
fn sub(live: &mut BTreeMap<u32, u64>, address: Address) {
    let count = live.entry(address.file).or_insert(0);
    if *count < LIVE_UNKNOWN {
        *count = count.checked_sub(address.len.into()).unwrap_or(LIVE_UNKNOWN);
    }
    if *count == 0 {
        live.remove(&address.file);
    }
}

impl Writer {
    /// Bytes in the log that an entry needs from now on.
    pub(super) fn add_live(&mut self, address: Address) {
        add(&mut self.live, address);
        if let Some(recount) = self.recount.as_mut().filter(|r| address.hash < r.cursor) {
            add(&mut recount.live, address);
        }
    }

    /// Bytes in the log that no entry needs any more.
    pub(super) fn sub_live(&mut self, address: Address) {
        sub(&mut self.live, address);
        if let Some(recount) = self.recount.as_mut().filter(|r| address.hash < r.cursor) {
            sub(&mut recount.live, address);
        }
    }

    /// The live bytes of all log files. What is not known counts for nothing.
    pub(crate) fn live_total(&self) -> u64 {
        self.live.values().filter(|live| **live < LIVE_UNKNOWN).sum()
    }

    /// Whether the live bytes of some log file are not known.
    pub(crate) fn needs_recount(&self) -> bool {
        self.live.values().any(|live| *live >= LIVE_UNKNOWN)
    }

    /// Begins to count live bytes anew.
    pub(crate) fn begin_recount(&mut self) {
        self.recount = Some(Recount { cursor: 0, live: BTreeMap::new() });
    }

    /// Counts some segments; says whether there are more. Once there are none,
    /// what was counted is what counts.
    ///
    /// # Errors
    ///
    /// `Corrupt` or `Io` if a page cannot be read. The counts stay as they
    /// were, and the next call tries the same segment again.
    pub(crate) fn recount_some(&mut self, segments: usize) -> Result<bool> {
        for _ in 0..segments {
            let Some(cursor) = self.recount.as_ref().map(|recount| recount.cursor) else {
                return Ok(false);
            };
            let (addresses, next) = self.addresses_from(cursor)?;
            let Some(mut recount) = self.recount.take() else {
                return Ok(false);
            };
            addresses.into_iter().for_each(|address| add(&mut recount.live, address));
            match next {
                Some(cursor) => self.recount = Some(Recount { cursor, ..recount }),
                None => {
                    self.recounted |= self.live != recount.live;
                    self.live = recount.live;
                }
            }
        }
        Ok(self.recount.is_some())
    }

    /// The addresses of the entries that the segment of a hash holds from there
    /// on, and where the next segment begins.
    fn addresses_from(&self, from: u64) -> Result<(Vec<Address>, Option<u64>)> {
        let table = &*self.table;
        let word = table.route(from)?;
        let descriptor = table.descriptor(word.descriptor);
        let mut addresses = Vec::new();
        for number in 0..usize::from(word.groups) {
            let (page, number) = table.geometry.page_of(number);
            let group = table.group(self.read_page(descriptor, page)?, number);
            let control = group[group::CONTROL].load(Ordering::Relaxed);
            for slot in group::match_full(control) {
                let lengths = lengths(group, slot);
                if !lengths.fit(&table.geometry) {
                    let descriptor = word.descriptor;
                    let place = Place { descriptor, page, group: number, slot };
                    return Err(table.bad_slot(place, lengths));
                }
                if lengths.spilled() {
                    let address = address(table.slot(group, slot), lengths);
                    addresses.extend((address.hash >= from).then_some(address));
                }
            }
        }
        Ok((addresses, next_segment(from, word.depth)))
    }
}
