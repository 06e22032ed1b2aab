//! Applying what the log has, and what follows from it for the tables.
//!
//! Each table takes the operations behind its own L; replaying an operation
//! twice would change nothing. An operation on a table that is not there is
//! damage, unless the log drops that table later on.
//!
//! They come in [portions](super::collect), and those of a portion are applied in
//! another order than that of the log. A clearing waits for all before it.
//! When many pages are dirty in the midst of a portion, the checkpoint that makes
//! room says that the tables are as they were where the portion began. They hold
//! more than that, and replaying all of the portion again leads to the same end.
//! Of a table whose creation was not met yet it says that it is pending still: if
//! it never comes, and opening is killed, nobody must see that table.
//!
//! What is applied is logged already. So it goes the way of a
//! [batch](crate::table::batch), with two differences: entries may be put into a
//! segment while that is made anew, and nothing may be refused that was not. In
//! another order, and with segments of other sizes, more blocks may be needed than
//! were. On a full device nothing is [expected](super::growth) any more then, and a
//! checkpoint gives back the blocks of replaced pages. If that is not enough, segments
//! take the fewest pages that hold their entries, until the end of the log.

use crate::checkpoint::checkpoint_exclusively;
use crate::error::{Error, Result};
use crate::store::create::table_file;
use crate::store::{LogBytes, Store};
use crate::table::batch::{Entries, Step};
use crate::table::room::Margin;

use super::LogEnd;
use super::collect::{Met, Portion, Start, collect};
use super::filling::Filling;
use super::growth::{Growth, may_be_too_much};
use super::ready::Ready;
use super::table_file::remove_table_file;
use super::window::Operations;

/// Frames that are left when a checkpoint makes room: 128 MiB, or half of the
/// write buffer.
const ROOM: usize = 32 << 10;

/// Operations that are applied at once, about: a sixteenth of the frames of the
/// write buffer, within these bounds. Were each of them the one that a segment has
/// no room for, twenty pages would be needed for it. The most are so many that they
/// and their places fit a processor's own cache.
const LEAST_AT_ONCE: usize = 64;
const MOST_AT_ONCE: usize = 1024;

/// Step 6: applying what the log has.
pub(super) struct Replay<'a> {
    store: &'a Store,
    /// What must be done before the first write; `None` for a reader.
    ready: Option<Ready>,
    /// Operations that are applied at once, about.
    at_once: usize,
    /// What the rest of the log brings, where it pays to know, and while there is room.
    growth: Option<Growth>,
}

impl Replay<'_> {
    pub(super) fn run(
        store: &Store,
        ready: Option<Ready>,
        starts: &[Start],
        end: &LogEnd,
        files: Vec<String>,
    ) -> Result<()> {
        let _filling = Filling::begin(store, end.bytes);
        let at_once = (store.signals.limit() / 16).clamp(LEAST_AT_ONCE, MOST_AT_ONCE);
        // A reader has no more frames than the log may need.
        let growth =
            (!store.options.read_only).then(|| Growth::new(&store.core_to_look(), end.bytes));
        let mut replay = Replay { store, ready, at_once, growth };
        let met = collect(store, starts, end, &mut |portion| replay.apply(portion))?;
        Growth::end(&mut store.core_to_look());
        replay.make_ready()?;
        // A reader's log ends here; a writer's goes on with its appender.
        store.core_to_look().replayed = store.options.read_only.then_some(end.to);
        replay.finish(met, files, end)
    }

    /// Applies a portion of the log, and empties it.
    fn apply(&mut self, portion: &mut Portion) -> Result<()> {
        for table in portion.created.drain(..) {
            let mut core = self.store.core_to_look();
            core.next_table_id = core.next_table_id.max(u32::from(table) + 1);
            if let Some((writer, _)) = core.writer_mut(table) {
                writer.pending = false;
            }
        }
        let mut spare = Vec::new();
        for share in portion.window.shares() {
            let (steps, operations) = share.sorted(&mut spare);
            for steps in steps.tables_mut() {
                self.apply_to_table(steps, operations)?;
            }
        }
        portion.window.clear();
        let mut core = self.store.core_to_look();
        core.replayed = Some(portion.behind);
        if let Some(growth) = &mut self.growth {
            growth.foresee(&mut core, portion.bytes);
        }
        drop(core);
        self.make_room()?;
        if let Some((table, key)) = portion.clear.take()
            && let Some((writer, ws)) = self.store.core_to_look().writer_mut(table)
        {
            writer.clear(ws, key)?;
        }
        Ok(())
    }

    /// Applies operations on one table, which are sorted.
    fn apply_to_table(&mut self, mut steps: &mut [Step], operations: &Operations) -> Result<()> {
        let Some(first) = steps.first() else { return Ok(()) };
        let table = first.table;
        while !steps.is_empty() {
            self.make_room()?;
            let core = self.store.core_to_look();
            let Some(writer) = core.writer(table) else { return Ok(()) };
            let count = writer.whole_segments(steps, self.at_once.min(steps.len()))?;
            drop(core);
            let (now, later) = steps.split_at_mut(count);
            self.apply_at_once(now, operations)?;
            steps = later;
        }
        Ok(())
    }

    /// Applies operations on one table together. Where there is no room for all, on a
    /// full device for one, a checkpoint gives back what it can, and segments become
    /// smaller; and where that is not enough, one half is applied after the other.
    fn apply_at_once(&mut self, steps: &mut [Step], operations: &Operations) -> Result<()> {
        let mut applied = self.try_to_apply(steps, operations);
        if applied.as_ref().is_err_and(may_be_too_much) {
            if self.growth.take().is_some() {
                Growth::end(&mut self.store.core_to_look());
            }
            if self.checkpoint_from(1)? {
                applied = self.try_to_apply(steps, operations);
            }
        }
        if applied.as_ref().is_err_and(Error::is_full) {
            self.make_tight()?;
            applied = self.try_to_apply(steps, operations);
        }
        if steps.len() == 1 || !applied.as_ref().is_err_and(may_be_too_much) {
            return applied;
        }
        let (first, second) = steps.split_at_mut(steps.len() / 2);
        self.apply_at_once(first, operations)?;
        self.make_room()?;
        self.apply_at_once(second, operations)
    }

    /// Makes do with the fewest pages from here on, on a full device.
    fn make_tight(&mut self) -> Result<()> {
        let mut core = self.store.core_to_look();
        core.writers_mut().for_each(|writer| writer.set_margin(Margin::None));
        Growth::take_back(&mut core);
        drop(core);
        self.checkpoint_from(1).map(drop)
    }

    fn try_to_apply(&mut self, steps: &mut [Step], operations: &Operations) -> Result<()> {
        let store = self.store;
        operations.foresee(steps);
        let mut core = store.core_to_look();
        let log = LogBytes::new(&store.log, &*store.storage);
        let Some((writer, ws)) = core.writer_mut(steps[0].table) else { return Ok(()) };
        let removes = matches!(steps, [step] if !operations.is_insert(step.change));
        writer.blocks.set_urgent(removes);
        let prepared = writer.prepare_batch(ws, steps, operations, &log);
        writer.blocks.set_urgent(false);
        prepared?;
        writer.apply_batch(steps, |step| operations.entry(step.change));
        Ok(())
    }

    /// Runs a checkpoint if the write buffer is full but for some room.
    fn make_room(&mut self) -> Result<()> {
        let limit = self.store.signals.limit();
        self.checkpoint_from(limit - ROOM.min(limit / 2)).map(drop)
    }

    /// Runs a checkpoint if so many frames are dirty; says whether it did. It runs
    /// alone, and nobody writes meanwhile, so there is no sense in an early one. It
    /// gives back the frames and blocks of pages that were replaced.
    fn checkpoint_from(&mut self, least: usize) -> Result<bool> {
        let dirty = self.store.core_to_look().ws.pool.dirty();
        if self.store.options.read_only || dirty < least {
            return Ok(false);
        }
        self.make_ready()?;
        checkpoint_exclusively(self.store, false).map(|()| true)
    }

    fn make_ready(&mut self) -> Result<()> {
        self.ready.as_mut().map_or(Ok(()), |ready| ready.finish(self.store))
    }

    /// Step 7.
    fn finish(self, mut met: Met, mut files: Vec<String>, end: &LogEnd) -> Result<()> {
        met.missing.retain(|id| !met.dropped.contains(id));
        if let Some(id) = met.missing.first() {
            let what = format!("the file of table {id}");
            let path = self.store.path();
            let expected = format!("there, for the log before commit {} names it", end.to.commit);
            return Err(Error::corrupt(path, 0, what, expected, "absent"));
        }
        let mut core = self.store.core_to_look();
        let pending = core.writers().filter(|writer| writer.pending).map(|writer| writer.table.id);
        for id in met.dropped.iter().copied().chain(pending).collect::<Vec<_>>() {
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
