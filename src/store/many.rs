//! Reads of many keys at once.
//!
//! What stands in slots comes from [`Table::lookup_many`]; what it leaves, the
//! reads of single keys answer.

use crate::error::{Error, Result};
use crate::table::Table;
use crate::table::read::many::Answer;
use crate::table::read::{LARGE, SMALL};
use crate::value::Value;

use super::Store;

impl Store {
    /// Copies of the values of many keys, in their order. Of several errors it
    /// is that of the first key.
    #[inline]
    pub(crate) fn multi_get<K: AsRef<[u8]>>(
        &self,
        table: &Table,
        keys: &[K],
    ) -> Result<Vec<Option<Value>>> {
        let mut values: Vec<Option<Value>> = keys.iter().map(|_| None).collect();
        let mut failed: Option<(usize, Error)> = None;
        let mut keep = |key: usize, value: Result<Option<Value>>| match value {
            Ok(value) => values[key] = value,
            Err(error) if failed.as_ref().is_none_or(|(first, _)| key < *first) => {
                failed = Some((key, error));
            }
            Err(_) => {}
        };
        if table.has_large_slots() {
            self.multi_get_with(table, keys, |key, value| {
                keep(key, value.map(|value| value.map(Value::new)));
            })?;
        } else {
            let looked_up = table.lookup_many::<SMALL, K>(keys, |key, answer| match answer {
                Answer::Here(slot) => {
                    let (start, len) = (slot.lengths.value_start(), slot.lengths.value_len());
                    keep(key, Ok(Some(Value::from_words(slot.words, start, len))));
                }
                Answer::Absent => {}
                Answer::Left => keep(key, self.get(table, keys[key].as_ref())),
            });
            looked_up.map_err(|error| self.explain(error))?;
        }
        match failed {
            Some((_, error)) => Err(error),
            None => Ok(values),
        }
    }

    /// Lends the values of many keys to a function, with the number of each
    /// key, in no order.
    #[inline]
    pub(crate) fn multi_get_with<K: AsRef<[u8]>>(
        &self,
        table: &Table,
        keys: &[K],
        lend: impl FnMut(usize, Result<Option<&[u8]>>),
    ) -> Result<()> {
        if table.has_large_slots() {
            self.multi_get_sized::<LARGE, K>(table, keys, lend)
        } else {
            self.multi_get_sized::<SMALL, K>(table, keys, lend)
        }
    }

    #[inline]
    fn multi_get_sized<const N: usize, K: AsRef<[u8]>>(
        &self,
        table: &Table,
        keys: &[K],
        mut lend: impl FnMut(usize, Result<Option<&[u8]>>),
    ) -> Result<()> {
        let looked_up = table.lookup_many::<N, K>(keys, |key, answer| match answer {
            Answer::Here(slot) => lend(key, Ok(slot.value())),
            Answer::Absent => lend(key, Ok(None)),
            Answer::Left => {
                let found = self.get_with(table, keys[key].as_ref(), |value| {
                    lend(key, Ok(Some(value)));
                });
                match found {
                    Ok(Some(())) => {}
                    Ok(None) => lend(key, Ok(None)),
                    Err(error) => lend(key, Err(error)),
                }
            }
        });
        looked_up.map_err(|error| self.explain(error))
    }
}
