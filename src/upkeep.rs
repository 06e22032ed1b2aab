//! Upkeep: space comes back unasked.
//!
//! One thread of an open store looks what there is to do: when a log file was
//! ended, when a checkpoint was, and a second after a commit. Without commits
//! it sleeps. Each look goes through these questions:
//!
//! 1. Are there log files that nobody reads any more? They are removed or
//!    kept to be recycled.
//! 2. Did a count of live bytes turn out wrong? They are counted anew.
//! 3. Is too much of the log garbage? [`clean`](crate::clean) says what to do.
//! 4. Is a table sparse, fewer than half of its slots used? Its segments
//!    shrink and merge.
//! 5. Is most of a table file free? The pages at its end are written again,
//!    to lower blocks; after the next checkpoint the end is given back.
//!
//! Whatever it does is done in bites under the writer lock, with a pause after
//! each. A failure ends the look: a full device is tried again with the next
//! one, and what poisons the store is heard of where commits are made.

use std::collections::HashMap;
use std::time::Duration;

use crate::clean::{Cleaner, Zeal};
use crate::error::Result;
use crate::pass::{Pass, pass, recount};
use crate::store::Store;
use crate::table::shrink::Sizing;

/// How long after a commit things are looked at.
const PATIENCE: Duration = Duration::from_secs(1);

/// Changed pages for which a checkpoint is worth it: a mebibyte.
const WORTH_WRITING: usize = 256;

/// What is remembered from look to look.
#[derive(Default)]
struct Upkeep {
    cleaner: Cleaner,
    /// Used blocks and the highest of them, when pages of a table were last
    /// moved: if both are the same again, moving did not help.
    moved: HashMap<u16, (u32, u32)>,
}

/// The body of the thread.
pub(crate) fn keep(store: &Store) {
    let mut upkeep = Upkeep::default();
    while store.space.next(PATIENCE) {
        if store.poison.is_set() || store.is_closed() {
            store.space.set_behind(false);
            continue;
        }
        // Whoever compacts does all of this, and more.
        let Ok(_one) = store.compacting.try_lock() else {
            continue;
        };
        // Nobody waits for the outcome; see the essay.
        let _ = upkeep.look(store);
        store.space.set_behind(false);
    }
}

impl Upkeep {
    fn look(&mut self, store: &Store) -> Result<()> {
        store.log.tidy_now();
        recount(store)?;
        self.clean(store)?;
        let ids: Vec<u16> = store.core()?.writers().map(|writer| writer.table.id).collect();
        for id in ids {
            self.shrink(store, id)?;
            self.move_down(store, id)?;
        }
        Ok(())
    }

    fn clean(&mut self, store: &Store) -> Result<()> {
        while !store.space.is_stopped() {
            let balance = self.cleaner.balance(store);
            if !balance.is_due() {
                break;
            }
            if balance.wants_checkpoint() {
                // Its end leads to another look.
                store.signals.request();
                break;
            }
            store.space.set_behind(balance.is_past_bound());
            if !self.cleaner.step(store, &balance, Zeal::Upkeep)? {
                break;
            }
        }
        store.space.set_behind(false);
        Ok(())
    }

    /// Shrinks and merges the segments of a sparse table.
    fn shrink(&mut self, store: &Store, id: u16) -> Result<()> {
        if !store.core()?.writer(id).is_some_and(|writer| writer.is_sparse()) {
            return Ok(());
        }
        let roomy = Pass { table: id, sizing: Sizing::Roomy, below: None };
        let pages = pass(store, roomy, &mut |_| !store.space.is_stopped())?;
        if let Some((writer, _)) = store.core()?.writer_mut(id) {
            writer.tidied();
        }
        if pages >= WORTH_WRITING {
            store.signals.request();
        }
        Ok(())
    }

    /// Moves pages down if most of the file is free.
    fn move_down(&mut self, store: &Store, id: u16) -> Result<()> {
        let Some((used, highest)) = store.core()?.writer(id).map(|writer| {
            let blocks = &writer.blocks;
            (blocks.used(), blocks.highest_used())
        }) else {
            return Ok(());
        };
        if highest / 2 < used + WORTH_WRITING as u32
            || self.moved.get(&id) == Some(&(used, highest))
        {
            return Ok(());
        }
        self.moved.insert(id, (used, highest));
        let below = Some(used + used / 4 + WORTH_WRITING as u32 / 4);
        let down = Pass { table: id, sizing: Sizing::Roomy, below };
        if pass(store, down, &mut |_| !store.space.is_stopped())? > 0 {
            store.signals.request();
        }
        Ok(())
    }
}
