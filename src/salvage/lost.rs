//! Which values are lost, until the log says otherwise.
//!
//! A value that a table has and the log has lost may be replaced or removed by
//! a later record: then nothing was lost. So keys are remembered, as 64 bits
//! each.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hasher};

use crate::table::Table;

use super::report::LostValue;

/// How many are listed.
const MAX_LISTED: usize = 1_000;

/// Values that are lost, by the tables of the new store.
#[derive(Default)]
pub(super) struct Lost {
    keys: HashSet<(u16, u64)>,
    /// Those whose key is lost as well.
    unnamed: Vec<(u16, u64)>,
    listed: Vec<(u16, LostValue)>,
}

impl Lost {
    pub(super) fn add(&mut self, table: &Table, key: Option<Vec<u8>>) {
        let new = match &key {
            Some(key) => self.keys.insert((table.id, fingerprint(key))),
            None => {
                match self.unnamed.iter_mut().find(|(id, _)| *id == table.id) {
                    Some((_, count)) => *count += 1,
                    None => self.unnamed.push((table.id, 1)),
                }
                true
            }
        };
        if new && self.listed.len() < MAX_LISTED {
            self.listed.push((table.id, LostValue { table: table.name.clone(), key }));
        }
    }

    pub(super) fn has(&self, table: u16, key: &[u8]) -> bool {
        !self.keys.is_empty() && self.keys.contains(&(table, fingerprint(key)))
    }

    /// The key has another value by now, or none.
    pub(super) fn forget(&mut self, table: &Table, key: &[u8]) {
        if !self.keys.is_empty() && self.keys.remove(&(table.id, fingerprint(key))) {
            self.listed.retain(|(id, lost)| *id != table.id || lost.key.as_deref() != Some(key));
        }
    }

    /// The table has no entries by now.
    pub(super) fn forget_table(&mut self, table: &Table) {
        self.keys.retain(|(id, _)| *id != table.id);
        self.unnamed.retain(|(id, _)| *id != table.id);
        self.listed.retain(|(id, _)| *id != table.id);
    }

    /// How many they are, and the first of them.
    pub(super) fn counted(&mut self) -> (u64, Vec<LostValue>) {
        let unnamed: u64 = self.unnamed.iter().map(|(_, count)| count).sum();
        let listed = self.listed.drain(..).map(|(_, lost)| lost).collect();
        (self.keys.len() as u64 + unnamed, listed)
    }
}

/// 64 bits that stand for a key.
pub(super) fn fingerprint(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    hasher.finish()
}
