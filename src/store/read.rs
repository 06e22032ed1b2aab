//! Reads: from a key to its value, without a lock.
//!
//! Most are over after one look at the table. Only if a spilled key or value
//! is met is the log pinned, and the lookup made again under the pin.

use crate::error::Result;
use crate::table::read::{Found, LARGE, SMALL, Slot};
use crate::table::{Spilled, Table};
use crate::value::Value;

use super::{LogBytes, Store};

/// Tries before a read that finds damage takes the writer lock.
const TRIES: usize = 16;

impl Store {
    /// A copy of the value of a key.
    #[inline]
    pub(crate) fn get(&self, table: &Table, key: &[u8]) -> Result<Option<Value>> {
        if table.has_large_slots() {
            return self.get_with(table, key, Value::new);
        }
        let mut slot = Slot::<SMALL>::new();
        match table.lookup::<SMALL, LogBytes<'_>>(key, None, &mut slot) {
            Ok(Found::Absent) => Ok(None),
            Ok(Found::Here) => {
                let (start, len) = (slot.lengths.value_start(), slot.lengths.value_len());
                Ok(Some(Value::from_words(slot.words, start, len)))
            }
            Ok(Found::Spilled) => self.get_spilled(table, key, Value::new),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Lends the value of a key to a function.
    #[inline]
    pub(crate) fn get_with<R>(
        &self,
        table: &Table,
        key: &[u8],
        lend: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        if table.has_large_slots() {
            self.get_sized(table, key, lend, &mut Slot::<LARGE>::new())
        } else {
            self.get_sized(table, key, lend, &mut Slot::<SMALL>::new())
        }
    }

    #[inline]
    fn get_sized<const N: usize, R>(
        &self,
        table: &Table,
        key: &[u8],
        lend: impl FnOnce(&[u8]) -> R,
        slot: &mut Slot<N>,
    ) -> Result<Option<R>> {
        match table.lookup::<N, LogBytes<'_>>(key, None, slot) {
            Ok(Found::Absent) => Ok(None),
            Ok(Found::Here) => Ok(slot.value().map(lend)),
            Ok(Found::Spilled) => self.get_spilled(table, key, lend),
            Err(error) => Err(self.explain(error)),
        }
    }

    #[cold]
    fn get_spilled<R>(
        &self,
        table: &Table,
        key: &[u8],
        lend: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let mut lend = Some(lend);
        self.while_it_changes(table, || {
            let log = LogBytes::pinned(&self.log, &*self.storage);
            let mut slot = Slot::<LARGE>::new();
            match table.lookup(key, Some(&log), &mut slot)? {
                Found::Here => {
                    let value = value_of(&slot, &log)?;
                    Ok(lend.take().map(|lend| lend(value)))
                }
                Found::Absent | Found::Spilled => Ok(None),
            }
        })
    }

    /// Tries again what found damage while the table was changed: between the
    /// look at a slot and the look at the log the entry may have been put
    /// elsewhere and its log file let go. Each change is counted before a file
    /// can go, so damage without a change is damage. After some tries the
    /// writer lock keeps changes away.
    fn while_it_changes<T>(
        &self,
        table: &Table,
        mut attempt: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        for _ in 0..TRIES {
            let before = table.changes();
            match attempt() {
                Err(crate::Error::Corrupt(_)) if table.changes() != before => {}
                outcome => return outcome.map_err(|error| self.explain(error)),
            }
        }
        let _lock = self.core()?;
        attempt().map_err(|error| self.explain(error))
    }

    /// Whether a key is there.
    #[inline]
    pub(crate) fn contains_key(&self, table: &Table, key: &[u8]) -> Result<bool> {
        // Nothing has to be copied out to say so.
        let mut nothing = Slot::<0>::new();
        match table.lookup::<0, LogBytes<'_>>(key, None, &mut nothing) {
            Ok(Found::Spilled) => self.while_it_changes(table, || {
                let log = LogBytes::pinned(&self.log, &*self.storage);
                let found = table.lookup(key, Some(&log), &mut Slot::<0>::new());
                found.map(|found| found == Found::Here)
            }),
            Ok(found) => Ok(found == Found::Here),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// A store that was closed looks to its readers like one that was forked.
    #[cold]
    pub(super) fn explain(&self, error: crate::Error) -> crate::Error {
        match error {
            crate::Error::Closed { .. } if self.is_closed() => super::closed(),
            other => other,
        }
    }
}

/// The value of a slot, wherever it stands.
fn value_of<'a, const N: usize>(slot: &'a Slot<N>, log: &'a LogBytes<'_>) -> Result<&'a [u8]> {
    if let Some(value) = slot.value() {
        return Ok(value);
    }
    let bytes = log.checked(&slot.address())?;
    let start = if slot.lengths.key_spilled() { slot.lengths.key_len() } else { 0 };
    Ok(bytes.get(start..).unwrap_or_default())
}
