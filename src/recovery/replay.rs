//! Applying what the log has, and what follows from it for the tables.
//!
//! Each table takes the operations behind its own L; replaying an operation
//! twice would change nothing. An operation on a table that is not there is
//! damage, unless the log drops that table later on.

use std::collections::BTreeSet;

use crate::checkpoint::checkpoint_exclusively;
use crate::error::{Error, Result};
use crate::format::record::{Op, OpKind, log_file_name};
use crate::log::Replayed;
use crate::store::create::table_file;
use crate::store::{Core, Store};

use super::LogEnd;
use super::table_file::remove_table_file;

/// Where replaying begins for a table.
pub(super) struct Start {
    pub(super) id: u16,
    pub(super) commit: u64,
    /// Whether the record of its creation must be found.
    pub(super) pending: bool,
}

/// Step 6: applying what the log has.
pub(super) struct Replay<'a> {
    store: &'a Store,
    starts: Vec<Start>,
    /// Tables that operations name and that are not there.
    missing: BTreeSet<u16>,
    dropped: BTreeSet<u16>,
}

impl Replay<'_> {
    pub(super) fn run(
        store: &Store,
        starts: Vec<Start>,
        end: &LogEnd,
        files: Vec<String>,
    ) -> Result<()> {
        let mut replay =
            Replay { store, starts, missing: BTreeSet::new(), dropped: BTreeSet::new() };
        store.log.replay(end.from, end.to, &mut |record| replay.record(record))?;
        // A reader's log ends here; a writer's goes on with its appender.
        store.core_to_look().replayed = store.options.read_only.then_some(end.to);
        replay.finish(files, end)
    }

    fn record(&mut self, record: &Replayed<'_>) -> Result<()> {
        let mut core = self.store.core_to_look();
        for op in record.ops.clone() {
            let path = || self.store.storage.path(&log_file_name(record.file));
            let (op, key_at) = op.map_err(|fault| fault.at(path(), record.offset.into()))?;
            let start = self.starts.iter_mut().find(|start| start.id == op.table);
            if start.as_ref().is_some_and(|start| start.commit >= record.commit) {
                continue;
            }
            if start.is_none() {
                self.missing.insert(op.table);
            }
            match op.kind {
                OpKind::CreateTable => {
                    core.next_table_id = core.next_table_id.max(u32::from(op.table) + 1);
                    start.into_iter().for_each(|start| start.pending = false);
                }
                OpKind::DropTable => {
                    self.dropped.insert(op.table);
                }
                OpKind::Clear if start.is_some() => replay_clear(&mut core, &op)?,
                OpKind::Insert | OpKind::Remove if start.is_some() => {
                    let Some(hash) = core.writer(op.table).map(|w| w.hash(op.key)) else {
                        continue;
                    };
                    self.store.apply(&mut core, &op, hash, record.file, record.offset + key_at)?;
                }
                _ => {}
            }
        }
        core.replayed = Some(record.end);
        let dirty = core.ws.pool.dirty();
        drop(core);
        if !self.store.options.read_only && dirty >= self.store.signals.wanted_at() {
            checkpoint_exclusively(self.store, false)?;
        }
        Ok(())
    }

    /// Step 7.
    fn finish(mut self, mut files: Vec<String>, end: &LogEnd) -> Result<()> {
        self.missing.retain(|id| !self.dropped.contains(id));
        if let Some(id) = self.missing.first() {
            let what = format!("the file of table {id}");
            let path = self.store.path();
            let expected = format!("there, for the log before commit {} names it", end.to.commit);
            return Err(Error::corrupt(path, 0, what, expected, "absent"));
        }
        let mut core = self.store.core_to_look();
        let pending = self.starts.iter().filter(|start| start.pending).map(|start| start.id);
        for id in self.dropped.iter().copied().chain(pending).collect::<Vec<_>>() {
            if let Some(writer) = core.writer(id) {
                files.push(table_file(&writer.table.name));
                core.remove(id)?;
            }
        }
        drop(core);
        if !self.store.options.read_only {
            for file in files {
                remove_table_file(self.store, file.trim_end_matches(".swiss"))?;
            }
        }
        Ok(())
    }
}

fn replay_clear(core: &mut Core, op: &Op<'_>) -> Result<()> {
    let word = |at: usize| op.value.get(at..at + 8).and_then(|b| b.try_into().ok());
    let key = [word(0), word(8)].map(|bytes| bytes.map_or(0, u64::from_le_bytes));
    match core.writer_mut(op.table) {
        Some((writer, ws)) => writer.clear(ws, key),
        None => Ok(()),
    }
}
