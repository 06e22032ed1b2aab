//! Iteration over the entries of a table.
//!
//! A segment is copied out as a unit; the entries of the copy are then
//! returned one by one. An entry is returned straight from the copy as long as
//! the table has not changed since; otherwise it is looked up again, so that
//! an entry removed before it is reached does not appear, and one that was
//! overwritten appears with its new value. If the table was cleared meanwhile, what
//! is found under its key is another entry: then the iteration ends.
//!
//! An entry is either copied once more, for the caller to keep ([`Iterator`]), or
//! lent where it stands in the copy ([`Iter::next_ref`]). Both look in the same
//! way at what comes next ([`Found`]), so they promise the same.

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
/// It keeps the store open, as any handle does: drop it before another process is to
/// open the store, or call [`Db::close`](crate::Db::close).
///
/// The order is unspecified. Memory: a copy of one segment, at most 64 KiB, and
/// of those of its keys that are in the log. [`Iter::next_ref`] lends entries
/// instead of copying them.
#[must_use = "iterators read nothing until they are asked"]
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
    /// The entry that was lent last, if it does not stand in the copy.
    lent: Option<(Value, Value)>,
}

/// Where an entry is.
enum Found {
    /// In its slot, and this in the copy of the segment: the entry's number.
    Copied(usize),
    /// It was put together, or looked up.
    Apart((Value, Value)),
}

impl std::fmt::Debug for Iter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Iter({})", self.table.name)
    }
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
            lent: None,
        }
    }

    /// The next entry, lent: key and value until the next call. The same entries
    /// come as from [`Iterator::next`], with the same promises and errors, and both
    /// may be used in turn; nothing is copied once more, and nothing allocated
    /// unless the entry is one whose key or value did not fit its slot.
    ///
    /// ```
    /// let db = swissdb::Db::in_memory()?;
    /// db.insert("a", "1")?;
    /// db.insert("b", "22")?;
    /// let (mut entries, mut bytes) = (db.iter(), 0);
    /// while let Some(entry) = entries.next_ref() {
    ///     let (key, value) = entry?;
    ///     bytes += key.len() + value.len();
    /// }
    /// assert_eq!(bytes, 5);
    /// # Ok::<(), swissdb::Error>(())
    /// ```
    #[inline]
    pub fn next_ref(&mut self) -> Option<Result<(&[u8], &[u8])>> {
        let found = match self.advance()? {
            Ok(found) => found,
            Err(error) => return Some(Err(error)),
        };
        Some(Ok(match found {
            Found::Copied(i) => {
                let [(key, key_len), (value, value_len)] = self.in_slot(i);
                (&key[..key_len], &value[..value_len])
            }
            Found::Apart(entry) => {
                let (key, value) = self.lent.insert(entry);
                (key, value)
            }
        }))
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

    /// Finds the next entry.
    #[inline]
    fn advance(&mut self) -> Option<Result<Found>> {
        let i = self.at;
        let in_slot = self.copy.get(i).is_some_and(|slot| !slot.lengths.spilled());
        if in_slot && self.table.changes() == self.changes {
            self.at += 1;
            return Some(Ok(Found::Copied(i)));
        }
        self.advance_far()
    }

    /// The same where the next entry does not stand in the copy as it is now.
    #[inline(never)]
    fn advance_far(&mut self) -> Option<Result<Found>> {
        loop {
            while self.at < self.copy.len() {
                self.at += 1;
                let item = self.entry(self.at - 1).transpose();
                if matches!(item, Some(Ok(_))) && self.was_cleared() {
                    self.copy = SegmentCopy::default();
                    self.next = None;
                    return None;
                }
                if item.is_some() {
                    return item;
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

    /// Whether the table was cleared since the iteration began, as far as an entry
    /// of the copy shows that was looked up just now: by its key, which somebody
    /// may have inserted again.
    fn was_cleared(&self) -> bool {
        self.table.changes() != self.changes && self.table.clears() != self.clears
    }

    /// Entry `i` of the copy, as it is now.
    fn entry(&mut self, i: usize) -> Result<Option<Found>> {
        self.take_damage(i)?;
        let Some(slot) = self.copy.get(i) else {
            return Ok(None);
        };
        if !slot.lengths.spilled() && self.table.changes() == self.changes {
            return Ok(Some(Found::Copied(i)));
        }
        let apart = self.entry_apart(i, slot)?;
        Ok(apart.map(Found::Apart))
    }

    /// The same if it does not stand in its slot, or may have changed.
    fn entry_apart(&self, i: usize, slot: ScannedSlot<'_>) -> Result<Option<(Value, Value)>> {
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

    /// Key and value of entry `i` of the copy, which stand in its slot.
    #[inline]
    fn in_slot(&self, i: usize) -> [(&[u8], usize); 2] {
        self.copy.get(i).and_then(ScannedSlot::inline).unwrap_or_default()
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

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        Some(self.advance()?.map(|found| match found {
            Found::Copied(i) => {
                let [(key, key_len), (value, value_len)] = self.in_slot(i);
                (Value::from_start(key, key_len), Value::from_start(value, value_len))
            }
            Found::Apart(entry) => entry,
        }))
    }
}
