//! Reads: from a key to its value, without a lock.
//!
//! Most are over after one look at the table. Only if a spilled key or value
//! is met is the log pinned, and the lookup made again under the pin.

use crate::error::Result;
use crate::table::read::{Found, LARGE, SMALL, Slot};
use crate::table::{Spilled, Table};
use crate::value::Value;

use super::{LogBytes, Store};

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
        let log = LogBytes::pinned(&self.log, &*self.storage);
        let mut slot = Slot::<LARGE>::new();
        let found =
            table.lookup(key, Some(&log), &mut slot).map_err(|error| self.explain(error))?;
        match found {
            Found::Here => Ok(Some(lend(value_of(&slot, &log)?))),
            Found::Absent | Found::Spilled => Ok(None),
        }
    }

    /// Whether a key is there.
    #[inline]
    pub(crate) fn contains_key(&self, table: &Table, key: &[u8]) -> Result<bool> {
        // Nothing has to be copied out to say so.
        let mut nothing = Slot::<0>::new();
        let mut found = table.lookup::<0, LogBytes<'_>>(key, None, &mut nothing);
        if let Ok(Found::Spilled) = found {
            let log = LogBytes::pinned(&self.log, &*self.storage);
            found = table.lookup(key, Some(&log), &mut nothing);
        }
        found.map(|found| found == Found::Here).map_err(|error| self.explain(error))
    }

    /// A store that was closed looks to its readers like one that was forked.
    #[cold]
    fn explain(&self, error: crate::Error) -> crate::Error {
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
