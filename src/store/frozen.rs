//! States of the store that are frozen, each for a checkpoint to write.
//!
//! To freeze is to note what a checkpoint is to say of each table, and to end
//! the generation: all of it under the writer lock, at the cost of a look at
//! the roots. The states are written in the order in which they were frozen;
//! those whose turn has not come wait in [`Core`].
//!
//! ```text
//! freeze ──► waiting ... waiting ──its turn──► a checkpoint runs ──► durable
//!               '──────── it, or one before it, fails ──► thawed: dirty again
//! ```
//!
//! Whoever asks for a checkpoint has a state frozen and waits until it is
//! durable. Whoever takes a snapshot waits for nothing: if nothing was committed
//! since the last state was frozen it shares that one, otherwise it has one
//! frozen itself. That is why one may be frozen while another is written. There
//! are at most [`WAITING`] that wait: each holds the frames that were changed
//! before it until it is written, and a root and a free map are written for
//! each. Where there are so many, a snapshot waits until the next has its turn.
//!
//! What replaces a whole table (clearing, creating, dropping) must find nothing
//! frozen. Whoever is about to says so (`checkpoint::keep_away`): then snapshots
//! freeze nothing until that is over. While the store is being closed no snapshot
//! is taken: nobody is left to write what is frozen behind the last checkpoint.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::format::header::Run;
use crate::format::record::Position;
use crate::table::{Totals, Writer};

use super::snapshots::Begun;
use super::{Core, Store};

/// Frozen states that wait at most, for snapshots.
pub(crate) const WAITING: usize = 4;

/// What a checkpoint is to say of a table.
pub(crate) struct Portion {
    pub(crate) id: u16,
    /// Whether its pages changed, or only its L.
    pub(crate) dirty: bool,
    pub(crate) totals: Totals,
    pub(crate) live: BTreeMap<u32, u64>,
    pub(crate) root_depth: u8,
    pub(crate) root: Run,
    pub(crate) free_map: Run,
    pub(crate) file_blocks: u32,
    pub(crate) clears: u32,
    pub(crate) hash_key: [u64; 2],
}

impl Portion {
    fn of(writer: &Writer, dirty: bool) -> Portion {
        let mut portion = Portion {
            id: writer.table.id,
            dirty,
            totals: writer.totals,
            live: writer.live.clone(),
            root_depth: writer.root_depth(),
            root: Run::default(),
            free_map: Run::default(),
            file_blocks: 0,
            clears: writer.clears,
            hash_key: writer.hash_key,
        };
        portion.as_on_disk(writer);
        portion
    }

    /// Root and free map are those that the last header reaches. A checkpoint
    /// that has ended since the state was frozen has moved them.
    fn as_on_disk(&mut self, writer: &Writer) {
        (self.root, self.free_map) = (writer.root_run, writer.map_run);
        self.file_blocks = writer.blocks.covered();
    }
}

/// The store as it was at one moment.
pub(crate) struct Frozen {
    pub(crate) position: Position,
    pub(crate) generation: u64,
    /// Whether it is the last before the store is closed.
    pub(crate) last: bool,
    /// Whether the header says that the store was closed.
    pub(crate) clean: bool,
    pub(crate) portions: Vec<Portion>,
}

impl Store {
    /// Freezes the store as it is, to be written when all that were frozen
    /// before have been. Returns the generation that ends. `last` says that the
    /// store is closed then: nothing else may be frozen.
    pub(crate) fn freeze(&self, core: &mut Core, last: bool) -> u64 {
        let generation = core.ws.generation;
        core.ws.generation += 1;
        core.ws.frozen = Some(generation);
        core.checkpointed_bytes = core.appender.as_ref().map_or(0, |a| a.bytes_total());
        let mut portions = Vec::new();
        for writer in core.tables.iter_mut().flatten() {
            let runs = [writer.root_run, writer.map_run];
            let dirty = writer.is_dirty() || last && writer.blocks.is_worth_cutting(runs);
            if dirty {
                if last {
                    // All that is free lower down is to be chosen from.
                    writer.blocks.reclaim(&core.ws.epoch, 1);
                }
                writer.freeze(generation);
            }
            portions.push(Portion::of(writer, dirty));
        }
        // After a crash on a full device there may be no file yet in which the
        // log can go on; then the next opening must not believe that it can.
        let clean = last && core.appender.as_ref().is_some_and(|a| a.can_continue());
        let position = core.position();
        self.snapshots.begin(generation, || begun(core));
        core.waiting.push_back(Frozen { position, generation, last, clean, portions });
        generation
    }

    /// The state that is to be written now, if there is one. Snapshots for which
    /// there was no room to wait begin now.
    pub(crate) fn next_frozen(&self) -> Option<Frozen> {
        let mut core = self.core_to_look();
        let mut frozen = core.waiting.pop_front()?;
        for portion in &mut frozen.portions {
            if let Some(writer) = core.writer(portion.id) {
                portion.as_on_disk(writer);
            }
        }
        self.begin_if_room(&mut core);
        Some(frozen)
    }

    /// Begins the snapshots that are wanted, or asks for a checkpoint with
    /// which they can.
    ///
    /// # Errors
    ///
    /// `Closed`, `Poisoned`.
    pub(crate) fn begin_snapshots(&self) -> Result<()> {
        // Refused when the store is being closed: the last checkpoint may have ended, and
        // nobody would write what is frozen now.
        let mut core = self.core()?;
        self.poison.check()?;
        let begun = self.begin_if_room(&mut core);
        drop(core);
        match begun {
            true => self.signals.request_waiting(),
            false => drop(self.signals.request()),
        }
        Ok(())
    }

    /// Begins the snapshots that are wanted with a state that is frozen
    /// already, or freezes one. Says whether there was room for that.
    fn begin_if_room(&self, core: &mut Core) -> bool {
        if !self.snapshots.are_wanted() {
            return true;
        }
        let commit = core.position().commit;
        if self.snapshots.join(commit, || begun(core)) {
            return true;
        }
        let room = core.waiting.len() < WAITING && self.away.load(Ordering::Relaxed) == 0;
        if room {
            self.freeze(core, false);
        }
        room
    }
}

/// What a snapshot knows at once.
fn begun(core: &Core) -> Begun {
    let table = |writer: &Writer| (writer.table.name.clone(), writer.totals.used);
    Begun { commit: core.position().commit, tables: core.writers().map(table).collect() }
}
