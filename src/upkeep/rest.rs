//! Rest: a store that is left alone becomes small.
//!
//! What makes writing fast takes space: log files of 64 MiB that lie ready, and
//! in a table file the places of pages that the last checkpoint wrote elsewhere,
//! as many as there are pages if every page was changed. A store of 48 MB that
//! has just been filled takes 330. When nobody has written for long enough, each
//! of these goes back:
//!
//! 1. The log goes on in a file of 1 MiB, and the sizes of its files begin to
//!    double again ([`small`](crate::log)).
//! 2. Pages that lie behind what a table needs are written again, to lower
//!    blocks, if more than a twelfth of what is in use would be gained.
//! 3. A checkpoint: it makes both durable, and no table needs the log before
//!    that file any more. What has nothing alive in it is let go, by the same
//!    rule as always.
//! 4. The unused ends of log files and tables take no space any more, and what
//!    was large among the spare and prepared files is removed.
//!
//! What is left of the log, where no values lie in it, is an active file of
//! 1 MiB and, if there were such files, two more of them for a full device; up
//! to 9 MiB after a burst that was not worth it. A table file takes a ninth
//! more than what is in use, at most, and the 64 blocks that are kept for
//! removals. In slots of 48 bytes a million pairs of that length or more take
//! less than two bytes for each of theirs, then.
//!
//! # What it may cost
//!
//! A store that goes on and off must not do this again and again. It comes
//! after a look without a commit, and if that one led to the idle checkpoint,
//! after one more. The log is made small only where that gains 6 MiB, for which
//! more than 1 MiB has to have been logged; and a sixteenth of what is alive in
//! it, or a large store that is written to in drops would end up with a log of
//! many small files. Moving pages writes about as much as the checkpoint wrote
//! that left their places free. It is done once, and again only after a commit,
//! or when a snapshot has let much go; and it stops when somebody writes.
//!
//! Whatever fails here leaves the store larger and is no failure; after the
//! next commit it is tried again.

use crate::checkpoint::{checkpoint, give_back_tail};
use crate::compact::end_active_file;
use crate::error::Result;
use crate::format::BLOCK;
use crate::log::MIN_FILE;
use crate::pass::{Pass, pass};
use crate::store::Store;
use crate::table::shrink::Sizing;

/// How often pages are moved down at most.
const ROUNDS: usize = 2;

/// What a log at rest takes: the active file, and two for a full device.
const SMALL_LOG: u64 = 3 * MIN_FILE;

/// What it has to gain to make the log small, at least.
const WORTH_ENDING: u64 = 6 * MIN_FILE;

/// Blocks that are no reason to move pages, or to give back an end.
const FEW: u32 = 64;

/// What is remembered from one rest to the next.
#[derive(Default)]
pub(super) struct Rest {
    /// The last commit at that time, and the bytes that were too many then.
    left: Option<(u64, u64)>,
}

impl Rest {
    /// Brings a store to rest that nobody has written to for some time. Does
    /// nothing if it is at rest.
    pub(super) fn come(&mut self, store: &Store) -> Result<()> {
        let (commit, excess) = (store.log.appended(), excess(store)?);
        let same = |(then, left): (u64, u64)| then == commit && excess <= 2 * left + WORTH_ENDING;
        if self.left.is_some_and(same) {
            return Ok(());
        }
        let outcome = come_to_rest(store, commit);
        self.left = Some((commit, self::excess(store)?));
        outcome
    }
}

/// The steps above. It stops between them where `commit` is no longer the last.
/// One failure does not keep the rest from being done.
fn come_to_rest(store: &Store, commit: u64) -> Result<()> {
    let alone = || store.log.appended() == commit && !store.space.is_stopped();
    let mut outcome = Ok(());
    let mut ended = log_excess(store) >= worth_ending(store);
    if ended {
        end_active_file(store, false)?;
    }
    for _ in 0..ROUNDS {
        let mut moved = 0;
        for id in tables(store)? {
            match move_down(store, id, &alone) {
                Ok(pages) => moved += pages,
                Err(error) => outcome = Err(error),
            }
        }
        if !alone() || moved == 0 && !ended {
            break;
        }
        checkpoint(store, false)?;
        ended = false;
    }
    if !alone() {
        return outcome;
    }
    for file in store.log.files() {
        store.log.trim(file.number);
    }
    outcome = outcome.and(store.log.shrink_reserve());
    store.log.tidy_now();
    for id in tables(store)? {
        let worth = |allocated: u32| (allocated / 64).max(FEW / 4);
        let given = give_back_tail(store, id, worth, &mut || alone());
        outcome = outcome.and(given);
    }
    outcome
}

fn tables(store: &Store) -> Result<Vec<u16>> {
    Ok(store.core()?.writers().map(|writer| writer.table.id).collect())
}

/// The bytes that files take and that nothing needs.
fn excess(store: &Store) -> Result<u64> {
    let core = store.core()?;
    let unused = core.writers().map(|writer| writer.blocks.allocated() - writer.blocks.used());
    let tables = unused.map(u64::from).sum::<u64>() * BLOCK as u64;
    drop(core);
    Ok(tables + log_excess(store))
}

/// What the log takes beyond its files with live values and what one at rest
/// has beside.
fn log_excess(store: &Store) -> u64 {
    let files = store.log.files();
    let core = store.core_to_look();
    let alive = files.iter().filter(|file| core.live_in(file.number) > 0);
    let needed: u64 = alive.map(|file| file.end.min(file.size)).sum();
    store.log.usage().total().saturating_sub(needed + SMALL_LOG)
}

/// What it has to gain to make the log small.
fn worth_ending(store: &Store) -> u64 {
    let core = store.core_to_look();
    let alive: u64 = core.writers().flat_map(|writer| writer.live.values()).sum();
    WORTH_ENDING.max(alive / 16)
}

/// Moves the pages of a table down if they leave a twelfth of its file free.
fn move_down(store: &Store, id: u16, alone: &dyn Fn() -> bool) -> Result<usize> {
    let Some((used, highest)) = store.core()?.writer(id).map(|writer| {
        let blocks = &writer.blocks;
        (blocks.used(), blocks.highest_used())
    }) else {
        return Ok(0);
    };
    if highest < used + used / 12 + FEW {
        return Ok(0);
    }
    let below = Some(used + used / 32 + FEW / 2);
    let down = Pass { table: id, sizing: Sizing::Roomy, below };
    pass(store, down, &mut |_| alone())
}

#[cfg(test)]
mod tests;
