//! Putting entries again, for the cleaner of the log.
//!
//! An entry whose spilled part lies in a log file that is to be given back is
//! committed once more, as it is, and so gets another address. Whether its
//! slot still points to the old place is looked at twice: without the lock,
//! by [`Store::points_to`], so that dead records cost writers nothing; and
//! under the lock, in the commit itself, because it may have been overwritten
//! in between.
//!
//! To the log such a commit is a batch like any other. Replaying it puts the
//! same values into the same slots.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::format::group::Address;
use crate::format::record::{OP_HEADER, Op, OpKind, RECORD_HEADER};
use crate::table::Table;
use crate::table::read::{Found, LARGE, Slot};
use crate::table::write::spilled_part;

use super::batch::Gathered;
use super::commit::Purpose;
use super::{Core, LogBytes, Store};

/// A logged insert.
#[derive(Clone)]
pub(crate) struct Stray<'a> {
    pub(crate) table: &'a Arc<Table>,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    /// The log file it lies in, and where its key begins.
    pub(crate) file: u32,
    pub(crate) key_at: u32,
}

impl<'a> Stray<'a> {
    /// The bytes it takes in a record.
    pub(crate) fn len(&self) -> u64 {
        (OP_HEADER + self.key.len() + self.value.len()) as u64
    }

    /// The bytes of it that do not stand in its slot.
    pub(crate) fn spilled_len(&self) -> u64 {
        self.spilled_part().map_or(0, |(_, len)| len as u64)
    }

    fn spilled_part(&self) -> Option<(usize, usize)> {
        let (key, value) = (self.key.len(), self.value.len());
        spilled_part(self.table.geometry.shape(key, value), key, value)
    }

    /// Where its spilled part lies, if it has one.
    fn place(&self) -> Option<(u32, u32)> {
        self.spilled_part().map(|(start, _)| (self.file, self.key_at + start as u32))
    }

    fn op(&self) -> Op<'a> {
        Op { kind: OpKind::Insert, table: self.table.id, key: self.key, value: self.value }
    }

    fn is_at(&self, address: &Address) -> bool {
        self.place() == Some((address.file, address.offset))
    }
}

impl Store {
    /// Whether the slot of an entry points to where the entry was logged. It
    /// may change as soon as this returns.
    pub(crate) fn points_to(&self, stray: &Stray<'_>) -> Result<bool> {
        if stray.place().is_none() || stray.table.is_dropped() {
            return Ok(false);
        }
        let log = LogBytes::pinned(&self.log, &*self.storage);
        let mut slot = Slot::<LARGE>::new();
        let found = stray.table.lookup(stray.key, Some(&log), &mut slot)?;
        Ok(found == Found::Here && slot.lengths.spilled() && stray.is_at(&slot.address()))
    }

    /// Commits those entries again that are still where they were found.
    /// Returns how many bytes of keys and values were moved.
    ///
    /// # Errors
    ///
    /// As for a batch. On a full device some of what is kept for emptying it
    /// is used.
    pub(crate) fn put_again(&self, strays: &[Stray<'_>]) -> Result<u64> {
        let bytes = strays.iter().fold(RECORD_HEADER as u64, |sum, stray| sum + stray.len());
        let moved = self.commit(bytes, Purpose::Move, |core| {
            let mut ops = Gathered::default();
            for stray in strays {
                if self.still_points_to(core, stray)? {
                    ops.push(stray.table, stray.op());
                }
            }
            if ops.is_empty() {
                return Ok(0);
            }
            self.set_urgent(core, true);
            let committed = self.commit_together(core, &ops);
            self.set_urgent(core, false);
            committed.map(|_| ops.bytes())
        })?;
        self.space.moved_bytes.fetch_add(moved, Ordering::Relaxed);
        Ok(moved)
    }

    fn still_points_to(&self, core: &Core, stray: &Stray<'_>) -> Result<bool> {
        let writer = core.writer(stray.table.id).filter(|w| Arc::ptr_eq(&w.table, stray.table));
        let Some(writer) = writer else {
            return Ok(false);
        };
        let log = LogBytes::new(&self.log, &*self.storage);
        let address = writer.spilled_address(writer.hash(stray.key), stray.key, &log)?;
        Ok(address.is_some_and(|address| stray.is_at(&address)))
    }
}
