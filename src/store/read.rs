//! Reads: from a key to its value, without a lock.
//!
//! Most are over after one look at the table. Only if a spilled key or value
//! is met is the log pinned, and the lookup made again under the pin.

use crate::error::Result;
use crate::table::read::{Attempt, Slot};
use crate::table::{Spilled, Table};
use crate::value::Value;

use super::{LogBytes, Store};

impl Store {
    /// A copy of the value of a key.
    #[inline]
    pub(crate) fn get(&self, table: &Table, key: &[u8]) -> Result<Option<Value>> {
        self.get_with(table, key, Value::new)
    }

    /// Lends the value of a key to a function.
    #[inline]
    pub(crate) fn get_with<R>(
        &self,
        table: &Table,
        key: &[u8],
        lend: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let outcome = if table.has_large_slots() {
            self.get_sized::<63, R>(table, key, lend)
        } else {
            self.get_sized::<8, R>(table, key, lend)
        };
        outcome.map_err(|error| self.explain(error))
    }

    #[inline]
    fn get_sized<const N: usize, R>(
        &self,
        table: &Table,
        key: &[u8],
        lend: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        match table.lookup::<N, LogBytes<'_>>(key, None)? {
            Attempt::Absent => Ok(None),
            Attempt::Found(slot) => Ok(slot.value().map(lend)),
            Attempt::Spilled => self.get_spilled::<N, R>(table, key, lend),
        }
    }

    #[cold]
    fn get_spilled<const N: usize, R>(
        &self,
        table: &Table,
        key: &[u8],
        lend: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let log = LogBytes::pinned(&self.log, &*self.storage);
        match table.lookup::<N, _>(key, Some(&log))? {
            Attempt::Found(slot) => Ok(Some(lend(value_of(&slot, &log)?))),
            Attempt::Absent | Attempt::Spilled => Ok(None),
        }
    }

    /// Whether a key is there.
    #[inline]
    pub(crate) fn contains_key(&self, table: &Table, key: &[u8]) -> Result<bool> {
        let found = match table.lookup::<8, LogBytes<'_>>(key, None) {
            Ok(Attempt::Spilled) => {
                let log = LogBytes::pinned(&self.log, &*self.storage);
                table.lookup::<8, _>(key, Some(&log))
            }
            first => first,
        };
        found
            .map(|attempt| matches!(attempt, Attempt::Found(_)))
            .map_err(|error| self.explain(error))
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
fn value_of<'a, const N: usize>(
    slot: &'a Slot<N>,
    log: &'a LogBytes<'_>,
) -> Result<&'a [u8]> {
    if let Some(value) = slot.value() {
        return Ok(value);
    }
    let bytes = log.checked(&slot.address())?;
    let start = if slot.lengths.key_spilled() { slot.lengths.key_len() } else { 0 };
    Ok(bytes.get(start..).unwrap_or_default())
}
