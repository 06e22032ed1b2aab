//! Iteration over the entries of a table.
//!
//! A segment is copied out as a unit; the entries of the copy are then
//! returned one by one. An entry is returned straight from the copy as long as
//! the table has not changed since; otherwise it is looked up again, so that
//! an entry removed before it is reached does not appear, and one that was
//! overwritten appears with its new value.

use std::sync::Arc;

use crate::error::Result;
use crate::handle::Handle;
use crate::store::LogBytes;
use crate::table::scan::{Part, Scanned, ScannedSlot, SegmentCopy};
use crate::table::{Spilled, Table};
use crate::value::Value;

/// Copies of a segment before one is taken under the writer lock.
const TRIES: usize = 16;

/// An iterator over the keys and values of a table; see [`Db::iter`](crate::Db::iter).
///
/// Each item is a key with its value, or an error, after which the iterator
/// goes on with the next segment if it can. What it guarantees, also when
/// entries are inserted, overwritten and removed meanwhile, by anyone:
///
/// * no entry appears twice;
/// * an entry that is there all the time appears exactly once;
/// * an entry removed before it was reached does not appear;
/// * an entry inserted meanwhile may appear or not;
/// * after a `clear` nothing more appears.
///
/// The order is unspecified. Memory: a copy of one segment, at most 64 KiB.
pub struct Iter {
    handle: Arc<Handle>,
    table: Arc<Table>,
    /// Where the next segment begins; `None` at the end.
    next: Option<u64>,
    /// Entries of this hash or a higher one are not its business.
    until: Option<u64>,
    /// Entries come in the order of their hashes.
    ordered: bool,
    clears: u64,
    /// The table's changes when the copy was made.
    changes: u64,
    copy: SegmentCopy,
    /// Keys of the copy that do not stand in their slots, in order. One that
    /// is damaged is an error of its own and hides no other entry.
    spilled_keys: Vec<(usize, Result<Box<[u8]>>)>,
    at: usize,
}

impl Iter {
    pub(crate) fn new(handle: Arc<Handle>, table: Arc<Table>) -> Iter {
        let clears = table.clears();
        Iter::over(handle, table, clears, Some(0), None, false)
    }

    /// An iterator over the entries whose hashes lie in a range.
    pub(crate) fn over(
        handle: Arc<Handle>,
        table: Arc<Table>,
        clears: u64,
        next: Option<u64>,
        until: Option<u64>,
        ordered: bool,
    ) -> Iter {
        Iter {
            handle,
            table,
            next,
            until,
            ordered,
            clears,
            changes: 0,
            copy: SegmentCopy::default(),
            spilled_keys: Vec::new(),
            at: 0,
        }
    }

    /// The hash of the entry that comes next, or a lower one behind that of the
    /// last; `None` at the end. For one in the order of the hashes.
    pub(crate) fn place(&self) -> Option<u64> {
        self.copy.hash(self.at).or(self.next)
    }

    /// Where it ends, if not at the end of all hashes.
    pub(crate) fn until(&self) -> Option<u64> {
        self.until
    }

    /// Copies the next segment, and those of its keys that stand in the log.
    fn fill(&mut self, from: u64) -> Result<()> {
        let store = &self.handle.store;
        self.at = 0;
        self.spilled_keys.clear();
        let mut lock = None;
        for tried in 1.. {
            // Before the copy: whatever is live in it stays readable meanwhile.
            let log = LogBytes::pinned(&store.log, &*store.storage);
            self.changes = self.table.changes();
            let part = Part { from, until: self.until, ordered: self.ordered };
            let scanned = self.table.scan_part(part, self.clears, &mut self.copy)?;
            let keys = spilled_keys(&self.copy, &log);
            // A key that was put elsewhere may be absent where it was copied.
            let is_damaged = keys.iter().any(|(_, key)| key.is_err());
            let is_stale = is_damaged && self.table.changes() != self.changes;
            if lock.is_none() && (is_stale || scanned == Scanned::Busy) {
                if scanned == Scanned::Busy || tried == TRIES {
                    lock = Some(store.core()?);
                }
                continue;
            }
            self.next = match scanned {
                Scanned::Whole(next) => next,
                Scanned::Busy | Scanned::Cleared => {
                    self.copy = SegmentCopy::default();
                    None
                }
            };
            self.spilled_keys = keys;
            break;
        }
        Ok(())
    }

    /// Entry `i` of the copy, as it is now.
    fn entry(&mut self, i: usize) -> Result<Option<(Value, Value)>> {
        self.take_damage(i)?;
        let Some(slot) = self.copy.get(i) else {
            return Ok(None);
        };
        if let Some([(key, key_len), (value, value_len)]) = slot.inline()
            && self.table.changes() == self.changes
        {
            let key = Value::from_start(key, key_len);
            return Ok(Some((key, Value::from_start(value, value_len))));
        }
        let key = self.key(i, slot);
        let store = &self.handle.store;
        if slot.lengths.value_spilled() {
            let log = LogBytes::pinned(&store.log, &*store.storage);
            let bytes = log.checked(&slot.address());
            // If it was put elsewhere meanwhile, its log file may be gone.
            if self.table.changes() == self.changes {
                let start = if slot.lengths.key_spilled() { key.len() } else { 0 };
                let value = Value::new(bytes?.get(start..).unwrap_or_default());
                return Ok(Some((Value::new(key), value)));
            }
        } else if self.table.changes() == self.changes {
            let value = slot.value().unwrap_or_default();
            return Ok(Some((Value::new(key), Value::new(value))));
        }
        let value = store.get(&self.table, key)?;
        Ok(value.map(|value| (Value::new(key), value)))
    }

    /// What is wrong with the key of entry `i`, if it is damaged.
    fn take_damage(&mut self, i: usize) -> Result<()> {
        let at = self.spilled_keys.partition_point(|(entry, _)| *entry < i);
        match self.spilled_keys.get(at) {
            Some((entry, Err(_))) if *entry == i => self.spilled_keys.remove(at).1.map(drop),
            _ => Ok(()),
        }
    }

    fn key<'a>(&'a self, i: usize, slot: ScannedSlot<'a>) -> &'a [u8] {
        slot.key().unwrap_or_else(|| {
            let at = self.spilled_keys.partition_point(|(entry, _)| *entry < i);
            self.spilled_keys.get(at).and_then(|(_, key)| key.as_deref().ok()).unwrap_or_default()
        })
    }
}

/// The keys of a copied segment that stand in the log.
fn spilled_keys(copy: &SegmentCopy, log: &LogBytes<'_>) -> Vec<(usize, Result<Box<[u8]>>)> {
    let slots = (0..copy.len()).filter_map(|i| Some((i, copy.get(i)?)));
    let spilled = slots.filter(|(_, slot)| slot.lengths.key_spilled());
    spilled
        .map(|(i, slot)| {
            let address = slot.address();
            let key = log.checked(&address).and_then(|bytes| {
                let key = bytes.get(..slot.lengths.key_len());
                key.map(Into::into).ok_or_else(|| log.damage(&address))
            });
            (i, key)
        })
        .collect()
}

impl Iterator for Iter {
    type Item = Result<(Value, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while self.at < self.copy.len() {
                self.at += 1;
                if let Some(item) = self.entry(self.at - 1).transpose() {
                    return Some(item);
                }
            }
            let from = self.next?;
            if let Err(error) = self.fill(from) {
                // The rest of this segment cannot be read; the next one may.
                self.copy = SegmentCopy::default();
                let next = self.table.next_segment_after(from);
                self.next = next.filter(|next| self.until.is_none_or(|until| *next < until));
                return Some(Err(error));
            }
        }
    }
}
