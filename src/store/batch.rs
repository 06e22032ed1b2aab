//! Many changes in one commit.
//!
//! As for a single one: everything that can fail, then the record, then the
//! changes. The changes of all tables are sorted together, by table and hash,
//! and each table prepares and applies its own
//! ([`table::batch`](crate::table::batch)). The record has them in the order of
//! the batch; of those on the same key the last one wins, here and there.
//!
//! What is needed on the way is kept from one batch to the next, so that a
//! batch that is no larger than others before it takes no memory.

use std::sync::Arc;

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::format::record::{MAX_RECORD, OP_HEADER, Op, OpKind, RECORD_HEADER};
use crate::hash::{LANES, eight_keys};
use crate::log::{Appender, Placed};
use crate::table::Table;
use crate::table::batch::{Entries, Step, Steps};

use super::commit::{Purpose, Unfinished, entry_of, no_table};
use super::{Core, LogBytes, Store};

/// Changes that become one commit.
pub(super) trait Changes {
    fn len(&self) -> usize;
    fn table(&self, change: usize) -> &Arc<Table>;
    fn op(&self, change: usize) -> Op<'_>;
    fn is_insert(&self, change: usize) -> bool;
    /// Where the key of a change stands in the record, counted from its beginning.
    fn key_at(&self, change: usize) -> u32;
    fn append(&self, appender: &mut Appender) -> Result<Placed>;
}

/// A batch, and the table that its unnamed changes are of.
struct OfBatch<'a> {
    default: &'a Arc<Table>,
    batch: &'a Batch,
}

impl Changes for OfBatch<'_> {
    fn len(&self) -> usize {
        self.batch.len()
    }

    #[inline]
    fn table(&self, change: usize) -> &Arc<Table> {
        self.batch.table(change).unwrap_or(self.default)
    }

    #[inline]
    fn op(&self, change: usize) -> Op<'_> {
        self.batch.op(change)
    }

    #[inline]
    fn is_insert(&self, change: usize) -> bool {
        self.batch.is_insert(change)
    }

    fn key_at(&self, change: usize) -> u32 {
        (RECORD_HEADER + self.batch.start(change) + OP_HEADER) as u32
    }

    fn append(&self, appender: &mut Appender) -> Result<Placed> {
        appender.append_encoded(self.batch.operations(), self.batch.len())
    }
}

/// Operations that are put together for one commit.
#[derive(Default)]
pub(super) struct Gathered<'a> {
    tables: Vec<&'a Arc<Table>>,
    ops: Vec<Op<'a>>,
    keys_at: Vec<u32>,
}

impl<'a> Gathered<'a> {
    pub(super) fn push(&mut self, table: &'a Arc<Table>, op: Op<'a>) {
        let before = self.keys_at.last().zip(self.ops.last());
        let at = before
            .map_or((RECORD_HEADER + OP_HEADER) as u32, |(at, op)| at + op.encoded_len() as u32);
        self.tables.push(table);
        self.ops.push(op);
        self.keys_at.push(at);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The bytes of keys and values.
    pub(super) fn bytes(&self) -> u64 {
        self.ops.iter().map(|op| (op.key.len() + op.value.len()) as u64).sum()
    }
}

impl Changes for Gathered<'_> {
    fn len(&self) -> usize {
        self.ops.len()
    }

    fn table(&self, change: usize) -> &Arc<Table> {
        self.tables[change]
    }

    fn op(&self, change: usize) -> Op<'_> {
        self.ops[change]
    }

    fn is_insert(&self, change: usize) -> bool {
        self.ops[change].kind == OpKind::Insert
    }

    fn key_at(&self, change: usize) -> u32 {
        self.keys_at[change]
    }

    fn append(&self, appender: &mut Appender) -> Result<Placed> {
        appender.append(&self.ops)
    }
}

/// The changes, as a table asks for them.
struct Keys<'a, C>(&'a C);

impl<C: Changes> Entries for Keys<'_, C> {
    #[inline]
    fn key(&self, change: u32) -> &[u8] {
        self.0.op(change as usize).key
    }

    #[inline]
    fn is_insert(&self, change: u32) -> bool {
        self.0.is_insert(change as usize)
    }
}

impl Store {
    /// Commits a batch.
    pub(crate) fn write(&self, default: &Arc<Table>, batch: &Batch) -> Result<()> {
        let bytes = batch.bytes();
        if bytes > MAX_RECORD {
            return Err(Error::BatchTooLarge { needed: bytes, limit: MAX_RECORD });
        }
        if batch.is_empty() {
            return self.check_writable();
        }
        let only_removes = batch.only_removes();
        let purpose = if only_removes { Purpose::Remove } else { Purpose::Write };
        let commit = self.commit(bytes, purpose, |core| {
            self.set_urgent(core, only_removes);
            let committed = self.commit_together(core, &OfBatch { default, batch });
            self.set_urgent(core, false);
            committed
        })?;
        self.make_durable(commit)
    }

    /// Logs and applies changes for which the log has room.
    pub(super) fn commit_together(&self, core: &mut Core, changes: &impl Changes) -> Result<u64> {
        let mut steps = std::mem::take(&mut core.steps);
        steps.clear_large();
        let outcome = self.commit_steps(core, changes, &mut steps);
        core.steps = steps;
        outcome
    }

    fn commit_steps(
        &self,
        core: &mut Core,
        changes: &impl Changes,
        steps: &mut Steps,
    ) -> Result<u64> {
        let keys = Keys(changes);
        collect(core, changes, steps)?;
        steps.sort(&keys);
        let log = LogBytes::new(&self.log, &*self.storage);
        for steps in steps.tables_mut() {
            if let Some((writer, ws)) = core.writer_mut(steps[0].table) {
                writer.prepare_batch(ws, steps, &keys, &log)?;
            }
        }
        let unfinished = Unfinished(&self.poison);
        let placed = changes.append(core.appender.as_mut().ok_or(Error::ReadOnly)?)?;
        for steps in steps.tables() {
            let Some((writer, _)) = core.writer_mut(steps[0].table) else {
                continue;
            };
            let table = writer.table.clone();
            writer.apply_batch(steps, |step: &Step| {
                let op = changes.op(step.change as usize);
                let key_at = placed.offset + changes.key_at(step.change as usize);
                entry_of(&table, step.hash, &op, placed.file, key_at)
            });
            writer.assert_applied(steps);
        }
        drop(unfinished);
        Ok(placed.commit)
    }

    /// Says of all tables whether what follows may use what is kept for
    /// emptying a full device.
    pub(super) fn set_urgent(&self, core: &mut Core, urgent: bool) {
        let writers = core.tables.iter_mut().flatten();
        writers.for_each(|writer| writer.blocks.set_urgent(urgent));
    }
}

/// A step for each change, with the hash of its key.
fn collect(core: &Core, changes: &impl Changes, steps: &mut Steps) -> Result<()> {
    steps.reserve(changes.len());
    let mut change = 0;
    while change < changes.len() {
        let table = changes.table(change);
        let writer = core.writer(table.id).filter(|writer| Arc::ptr_eq(&writer.table, table));
        let hasher = writer.ok_or_else(|| no_table(table))?.table.hasher();
        let end = (change..changes.len()).find(|at| !Arc::ptr_eq(changes.table(*at), table));
        let end = end.unwrap_or(changes.len());
        let wide = hasher.wide();
        while change < end {
            let keys = || (change..end).map(|change| changes.op(change).key);
            let eight = || Some((wide?, eight_keys(keys())?));
            if let Some((wide, keys)) = eight() {
                for (at, hash) in wide.hash(&keys).into_iter().enumerate() {
                    steps.push(table.id, hash, (change + at) as u32);
                }
                change += LANES;
            } else {
                steps.push(table.id, hasher.hash(changes.op(change).key), change as u32);
                change += 1;
            }
        }
    }
    Ok(())
}
