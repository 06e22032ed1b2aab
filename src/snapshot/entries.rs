//! The entries of a snapshot, one after the other, where they lie.
//!
//! Nothing changes under it, so the guarantees are simple: every entry, once.
//! Damage is an item of its own, and the iteration goes on behind it.

use crate::error::Result;
use crate::table::Spilled;
use crate::table::read::still::{StillSlot, Walk};

use super::{SnapshotTable, StillLog};

/// An iterator over the entries of a snapshot, which it lends; see
/// [`Snapshot::iter`](crate::Snapshot::iter).
#[must_use = "iterators read nothing until they are asked"]
pub struct Entries<'a> {
    table: SnapshotTable<'a>,
    walk: Walk,
    /// Whether there was nothing to read from.
    over: bool,
}

impl std::fmt::Debug for Entries<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entries({})", self.table.name())
    }
}

impl<'a> Entries<'a> {
    pub(super) fn new(table: SnapshotTable<'a>) -> Entries<'a> {
        Entries { table, walk: Walk::new(), over: false }
    }

    fn step(&mut self) -> Result<Option<(&'a [u8], &'a [u8])>> {
        let (table, log) = self.table.read_from().inspect_err(|_| self.over = true)?;
        match self.walk.next(table)? {
            None => Ok(None),
            Some(slot) => Ok(Some((key(slot, &log)?, value(slot, &log)?))),
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(&'a [u8], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over { None } else { self.step().transpose() }
    }
}

/// The key of an entry.
fn key<'a>(slot: StillSlot<'a>, log: &StillLog<'a>) -> Result<&'a [u8]> {
    match slot.key() {
        Some(key) => Ok(key),
        None => {
            let address = slot.address();
            let bytes = log.lend(&address)?;
            bytes.get(..slot.lengths.key_len()).ok_or_else(|| log.damage(&address))
        }
    }
}

/// The value of an entry.
pub(super) fn value<'a>(slot: StillSlot<'a>, log: &StillLog<'a>) -> Result<&'a [u8]> {
    match slot.value() {
        Some(value) => Ok(value),
        None => {
            let address = slot.address();
            let bytes = log.lend(&address)?;
            // Where both are spilled they lie together.
            let start = if slot.lengths.key_spilled() { slot.lengths.key_len() } else { 0 };
            bytes.get(start..).ok_or_else(|| log.damage(&address))
        }
    }
}
