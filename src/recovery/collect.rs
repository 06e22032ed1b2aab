//! Reading what is to be replayed, ahead of replaying it.
//!
//! Reading the log, checking and decoding its records and hashing their keys takes
//! a third to half as long as changing the tables does, and needs nothing of them but
//! how they hash and how large their slots are. So a long log is read by a thread
//! of its own. It hands over one [`Window`] after the other, while the one before
//! is applied; two of them go to and fro.
//!
//! ```text
//! log ─▶ Collector ── Portion, full ──▶ Replay ─▶ tables
//!                 ◀── Portion, empty ──
//! ```
//!
//! A short log is read by the thread that applies it, in the same portions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{channel, sync_channel};
use std::thread::{Builder, scope};

use crate::error::Result;
use crate::format::record::{Op, OpKind, Position, log_file_name};
use crate::hash::Hasher;
use crate::log::Replayed;
use crate::store::commit::entry_of;
use crate::store::{Store, closed};
use crate::table::Table;

use super::window::{Change, FIRST_BYTES, Window, longest};
use super::{LONG_LOG, LogEnd};

/// Where replaying begins for a table.
pub(super) struct Start {
    pub(super) id: u16,
    pub(super) commit: u64,
}

/// Operations that are applied together.
pub(super) struct Portion {
    /// Tables whose creation the log has.
    pub(super) created: Vec<u16>,
    pub(super) window: Window,
    /// A clearing that comes behind all of the window: the table, and its new
    /// hash key.
    pub(super) clear: Option<(u16, [u64; 2])>,
    /// The place behind the last record of which all operations are in the
    /// window, or in those before.
    pub(super) behind: Position,
    /// The bytes of all records before that place.
    pub(super) bytes: u64,
}

/// What the log says of tables as a whole.
#[derive(Default)]
pub(super) struct Met {
    /// Tables that operations name and that are not there.
    pub(super) missing: BTreeSet<u16>,
    pub(super) dropped: BTreeSet<u16>,
}

/// Reads the log, and has it applied portion by portion. A portion that was
/// applied comes back empty.
///
/// # Errors
///
/// Those of the log and of `apply`; some of what stands before may be applied.
pub(super) fn collect(
    store: &Store,
    starts: &[Start],
    end: &LogEnd,
    apply: &mut dyn FnMut(&mut Portion) -> Result<()>,
) -> Result<Met> {
    let new = || Portion {
        created: Vec::new(),
        window: Window::new(store.signals.limit()),
        clear: None,
        behind: end.from,
        bytes: 0,
    };
    if end.bytes < LONG_LOG {
        return Collector::new(store, starts, end, new(), apply).run();
    }
    scope(|scope| {
        let (full, to_apply) = sync_channel(0);
        let (empty, to_fill) = channel();
        let collector = move || {
            let mut second = Some(new());
            let hand_over = &mut |portion: &mut Portion| {
                let next =
                    second.take().map_or_else(|| to_fill.recv().map_err(|_| closed()), Ok)?;
                full.send(std::mem::replace(portion, next)).map_err(|_| closed())
            };
            Collector::new(store, starts, end, new(), hand_over).run()
        };
        let thread = Builder::new().name("swissdb-reading".to_owned());
        let Ok(reading) = thread.spawn_scoped(scope, collector) else {
            return Collector::new(store, starts, end, new(), apply).run();
        };
        let mut applied = Ok(());
        for mut portion in to_apply {
            applied = apply(&mut portion);
            if applied.is_err() {
                break;
            }
            // It has ended if it wants no more.
            let _ = empty.send(portion);
        }
        drop(empty);
        let read = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        applied.and(read)
    })
}

/// A table, as far as reading has to know it.
struct Known {
    table: Arc<Table>,
    /// Operations up to this commit are in the table.
    start: u64,
    hasher: Hasher,
}

struct Collector<'a> {
    store: &'a Store,
    end: &'a LogEnd,
    tables: Vec<Known>,
    /// Where among these the last operation's is.
    last: usize,
    met: Met,
    portion: Portion,
    /// The place behind the last record that was read as a whole.
    behind: Position,
    /// The bytes of all records before that place.
    bytes: u64,
    /// The bytes that the window may take, and those that the longest one may.
    most_bytes: usize,
    longest: usize,
    apply: &'a mut dyn FnMut(&mut Portion) -> Result<()>,
}

impl<'a> Collector<'a> {
    fn new(
        store: &'a Store,
        starts: &[Start],
        end: &'a LogEnd,
        portion: Portion,
        apply: &'a mut dyn FnMut(&mut Portion) -> Result<()>,
    ) -> Collector<'a> {
        let core = store.core_to_look();
        let known = |start: &Start| {
            let table = core.writer(start.id)?.table.clone();
            Some(Known { hasher: table.hasher(), table, start: start.commit })
        };
        let tables = starts.iter().filter_map(known).collect();
        let (behind, met) = (portion.behind, Met::default());
        let (most_bytes, longest) = (FIRST_BYTES, longest(store.options.read_only, end.bytes));
        Collector {
            store,
            end,
            tables,
            last: 0,
            met,
            portion,
            behind,
            bytes: 0,
            most_bytes,
            longest,
            apply,
        }
    }

    fn run(mut self) -> Result<Met> {
        let LogEnd { from, to, .. } = *self.end;
        let read = self.store.log.replay(from, to, &mut |record| self.record(record));
        read?;
        self.hand_over()?;
        Ok(self.met)
    }

    /// Has what was collected applied. What comes next may be twice as much.
    fn hand_over(&mut self) -> Result<()> {
        (self.portion.behind, self.portion.bytes) = (self.behind, self.bytes);
        self.most_bytes = (2 * self.most_bytes).min(self.longest);
        (self.apply)(&mut self.portion)
    }

    fn record(&mut self, record: &Replayed<'_>) -> Result<()> {
        for op in record.ops.clone() {
            let path = || self.store.storage.path(&log_file_name(record.file));
            let (op, key_at) = op.map_err(|fault| fault.at(path(), record.offset.into()))?;
            let at = self.find(op.table);
            if at.is_some_and(|at| self.tables[at].start >= record.commit) {
                continue;
            }
            if at.is_none() {
                self.met.missing.insert(op.table);
            }
            match (op.kind, at) {
                (OpKind::CreateTable, _) => self.portion.created.push(op.table),
                (OpKind::DropTable, _) => drop(self.met.dropped.insert(op.table)),
                (OpKind::Clear, Some(at)) => self.clear(at, &op)?,
                (OpKind::Insert | OpKind::Remove, Some(at)) => {
                    self.collect(at, &op, record.file, record.offset + key_at)?;
                }
                (_, None) => {}
            }
        }
        self.behind = record.end;
        self.bytes += u64::from(record.end.offset - record.offset);
        Ok(())
    }

    /// Takes an insert or a remove into the window, which is handed over before if
    /// it is full.
    #[inline]
    fn collect(&mut self, at: usize, op: &Op<'_>, file: u32, key_at: u32) -> Result<()> {
        if self.portion.window.is_full(self.most_bytes) {
            self.hand_over()?;
        }
        let known = &self.tables[at];
        let hash = known.hasher.hash(op.key);
        let change = match op.kind {
            OpKind::Remove => Change::Remove(op.key),
            _ => Change::Insert(entry_of(&known.table, hash, op, file, key_at)),
        };
        self.portion.window.push(op.table, hash, &change);
        Ok(())
    }

    #[inline]
    fn find(&mut self, id: u16) -> Option<usize> {
        if self.tables.get(self.last).is_none_or(|known| known.table.id != id) {
            self.last = self.tables.iter().position(|known| known.table.id == id)?;
        }
        Some(self.last)
    }

    /// A clearing waits for all before it; keys are hashed anew behind it.
    fn clear(&mut self, at: usize, op: &Op<'_>) -> Result<()> {
        let word = |at: usize| op.value.get(at..at + 8).and_then(|b| b.try_into().ok());
        let key = [word(0), word(8)].map(|bytes| bytes.map_or(0, u64::from_le_bytes));
        self.portion.clear = Some((op.table, key));
        let core = self.store.core_to_look();
        let hasher = core.writer(op.table).map(|writer| writer.hasher_of(key));
        drop(core);
        hasher.inspect(|hasher| self.tables[at].hasher = *hasher);
        self.hand_over()
    }
}
