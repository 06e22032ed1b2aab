//! Reads: from a key to its value, without a lock.
//!
//! Most are over after one look at the table. Only if a spilled key or value
//! is met is the log pinned, and looked again under the pin: in the same
//! segment first. If that was replaced meanwhile, what is found there may be
//! gone from the log; then, and for whatever else is not plain, the lookup is
//! made again from the root.

use std::sync::MutexGuard;

use crate::error::Result;
use crate::table::read::glance::{Glance, Rest, Trail};
use crate::table::read::{Found, LARGE, SMALL, Slot};
use crate::table::{Spilled, Table};
use crate::value::Value;

use super::{Core, LogBytes, Store};

/// Tries before a read that finds damage takes the writer lock.
const TRIES: usize = 16;

impl Store {
    /// A copy of the value of a key.
    #[inline(always)]
    pub(crate) fn get(&self, table: &Table, key: &[u8]) -> Result<Option<Value>> {
        if table.has_large_slots() {
            return self.get_large(table, key, Value::new);
        }
        let mut words = [0; SMALL];
        match table.glance(key, &mut words) {
            Glance::Here(len) if key.len() + len <= SMALL * 8 => {
                Ok(Some(Value::from_words(words, key.len(), len)))
            }
            Glance::Absent => Ok(None),
            other => self.get_rest::<SMALL, _>(table, key, other.rest(), Value::new),
        }
    }

    /// Lends the value of a key to a function.
    #[inline(always)]
    pub(crate) fn get_with<R>(
        &self,
        table: &Table,
        key: &[u8],
        lend: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        if table.has_large_slots() {
            return self.get_large(table, key, lend);
        }
        let mut words = [0; SMALL];
        match table.glance(key, &mut words) {
            Glance::Here(len) => Ok(value_in(&words, key.len(), len).map(lend)),
            Glance::Absent => Ok(None),
            other => self.get_rest::<SMALL, _>(table, key, other.rest(), lend),
        }
    }

    /// The same where slots are large.
    #[inline(never)]
    fn get_large<R>(
        &self,
        table: &Table,
        key: &[u8],
        lend: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let mut words = [0; LARGE];
        match table.glance(key, &mut words) {
            Glance::Here(len) => Ok(value_in(&words, key.len(), len).map(lend)),
            Glance::Absent => Ok(None),
            other => self.get_rest::<LARGE, _>(table, key, other.rest(), lend),
        }
    }

    /// The same where a glance was not enough. `N` suits the table.
    #[inline(always)]
    fn get_rest<const N: usize, R>(
        &self,
        table: &Table,
        key: &[u8],
        rest: Rest,
        lend: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        // In a place of its own: then what a glance returns stays in registers
        // where the caller wants a part of it only.
        let mut answer = None;
        self.get_slowly::<N, R>(table, key, rest, lend, &mut answer);
        answer.unwrap_or(Ok(None))
    }

    #[inline(never)]
    fn get_slowly<const N: usize, R>(
        &self,
        table: &Table,
        key: &[u8],
        rest: Rest,
        lend: impl FnOnce(&[u8]) -> R,
        answer: &mut Option<Result<Option<R>>>,
    ) {
        *answer = Some(match rest {
            Rest::Spilled(from) => self.get_spilled_at::<N, R>(table, key, from, lend),
            Rest::Unsure => self.get_sized::<N, R>(table, key, lend),
        });
    }

    /// The whole lookup.
    fn get_sized<const N: usize, R>(
        &self,
        table: &Table,
        key: &[u8],
        lend: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let mut slot = Slot::<N>::new();
        let found = table.lookup::<N, LogBytes<'_>>(key, None, &mut slot);
        self.lend_found(table, key, found, &slot, lend)
    }

    fn lend_found<const N: usize, R>(
        &self,
        table: &Table,
        key: &[u8],
        found: Result<Found>,
        slot: &Slot<N>,
        lend: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        match found {
            Ok(Found::Absent) => Ok(None),
            Ok(Found::Here) => Ok(slot.value().map(lend)),
            Ok(Found::Spilled) => self.get_spilled(table, key, TRIES, lend),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// The value of a key that a glance has found to be in the log: the hash is
    /// known, and the slot on its way. Whatever is not plain is left to the
    /// whole lookup.
    fn get_spilled_at<const N: usize, R>(
        &self,
        table: &Table,
        key: &[u8],
        from: Trail,
        lend: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let log = LogBytes::pinned(&self.log, &*self.storage);
        let mut slot = Slot::<N>::new();
        if let Some(Found::Here) = table.look_again(key, from, &log, &mut slot)
            && let Ok(value) = value_of(&slot, &log)
        {
            return Ok(Some(lend(value)));
        }
        drop(log);
        self.get_spilled(table, key, TRIES, lend)
    }

    #[cold]
    fn get_spilled<R>(
        &self,
        table: &Table,
        key: &[u8],
        tries: usize,
        lend: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let mut lend = Some(lend);
        self.while_it_changes(table, tries, |lock| {
            let found = self.look(table, key, |value| {
                // The pin keeps what is lent: the function may write, or close the store.
                drop(lock);
                lend.take().map(|lend| lend(value))
            });
            found.map(Option::flatten)
        })
    }

    /// One whole lookup, wherever the value stands. If the table changes
    /// meanwhile it may find damage that is none; with the writer lock held it
    /// is right, and never waits for that lock.
    pub(super) fn look<R>(
        &self,
        table: &Table,
        key: &[u8],
        lend: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let log = LogBytes::pinned(&self.log, &*self.storage);
        let mut slot = Slot::<LARGE>::new();
        match table.lookup(key, Some(&log), &mut slot)? {
            Found::Here => value_of(&slot, &log).map(|value| Some(lend(value))),
            Found::Absent | Found::Spilled => Ok(None),
        }
    }

    /// Tries again what found damage while the table was changed: between the
    /// look at a slot and the look at the log the entry may have been put
    /// elsewhere and its log file let go. Each change is counted before a file
    /// can go, so damage without a change is damage. After some tries the
    /// writer lock, which the last one is given, keeps changes away.
    fn while_it_changes<T>(
        &self,
        table: &Table,
        tries: usize,
        mut attempt: impl FnMut(Option<MutexGuard<'_, Core>>) -> Result<T>,
    ) -> Result<T> {
        for _ in 0..tries {
            let before = table.changes();
            match attempt(None) {
                Err(crate::Error::Corrupt(_)) if table.changes() != before => {}
                outcome => return outcome.map_err(|error| self.explain(error)),
            }
        }
        let lock = self.core()?;
        attempt(Some(lock)).map_err(|error| self.explain(error))
    }

    /// Whether a key is there.
    #[inline]
    pub(crate) fn contains_key(&self, table: &Table, key: &[u8]) -> Result<bool> {
        // Nothing has to be copied out to say so.
        let mut nothing = Slot::<0>::new();
        let found = match table.glance::<0>(key, &mut []) {
            Glance::Here(_) => return Ok(true),
            Glance::Absent => return Ok(false),
            _ => table.lookup::<0, LogBytes<'_>>(key, None, &mut nothing),
        };
        match found {
            Ok(Found::Spilled) => self.while_it_changes(table, TRIES, |_lock| {
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

/// The value in a slot that was copied out, behind a key of that length.
#[inline(always)]
fn value_in(words: &[u64], key: usize, len: usize) -> Option<&[u8]> {
    bytemuck::cast_slice(words).get(key..key + len)
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

#[cfg(test)]
mod tests {
    //! What happens between the two looks at a spilled value: the first look is
    //! made, then the store is changed, then the second one.

    use std::sync::Arc;

    use super::*;
    use crate::checkpoint::checkpoint;
    use crate::format::header::DEFAULT_TABLE;
    use crate::options::Options;
    use crate::storage::memory::Memory;
    use crate::storage::pins;

    /// Looks at `key`, makes the change, and looks again.
    fn looked_at_again(change: impl FnOnce(&Store, &Arc<Table>)) -> Option<Vec<u8>> {
        let options = Options::new().max_log_file(1 << 20);
        let store = crate::recovery::open(Arc::new(Memory::new()), &options).unwrap();
        let table = store.find_table(DEFAULT_TABLE).unwrap();
        store.insert(&table, b"key", &[1; 1_000]).unwrap();
        let Rest::Spilled(from) = table.glance::<SMALL>(b"key", &mut [0; SMALL]).rest() else {
            panic!("a value of 1,000 bytes is in the log");
        };
        change(&store, &table);
        let lend = |value: &[u8]| value.to_vec();
        store.get_spilled_at::<SMALL, _>(&table, b"key", from, lend).unwrap()
    }

    /// Overwrites the value until its first log file is gone.
    fn let_the_file_go(store: &Store, table: &Table) {
        for _ in 0..3_000 {
            store.insert(table, b"key", &[2; 1_000]).unwrap();
        }
        checkpoint(store, false).unwrap();
        assert!(store.log.read(&pins::pin(), 1, 4096, 8).is_none(), "the first file is kept");
    }

    #[test]
    fn a_value_that_stays_is_found_at_the_second_look() {
        assert_eq!(looked_at_again(|_, _| ()), Some(vec![1; 1_000]));
    }

    #[test]
    fn a_value_is_found_though_its_log_file_went_between_two_looks() {
        let found = looked_at_again(|store, table| let_the_file_go(store, table));
        assert_eq!(found, Some(vec![2; 1_000]));
    }

    #[test]
    fn a_value_is_found_though_segment_and_log_file_went_between_two_looks() {
        let found = looked_at_again(|store, table| {
            for i in 0..1_000_u32 {
                store.insert(table, &i.to_le_bytes(), b"small").unwrap();
            }
            let_the_file_go(store, table);
        });
        assert_eq!(found, Some(vec![2; 1_000]));
    }

    #[test]
    fn a_key_that_was_removed_or_made_short_between_two_looks_is_that() {
        let gone = looked_at_again(|store, table| {
            store.remove(table, b"key").unwrap();
        });
        assert_eq!(gone, None);
        let short = looked_at_again(|store, table| {
            store.insert(table, b"key", b"short").unwrap();
        });
        assert_eq!(short, Some(b"short".to_vec()));
    }

    #[test]
    fn the_function_that_a_value_is_lent_to_may_write_after_all_tries_too() {
        let store = crate::recovery::open(Arc::new(Memory::new()), &Options::new()).unwrap();
        let table = store.find_table(DEFAULT_TABLE).unwrap();
        store.insert(&table, b"key", &[1; 1_000]).unwrap();
        let lent = store.get_spilled(&table, b"key", 0, |value| {
            store.insert(&table, b"other", b"small").unwrap();
            value.len()
        });
        assert_eq!(lent.unwrap(), Some(1_000));
    }
}
