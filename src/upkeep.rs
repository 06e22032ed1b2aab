//! Upkeep: space comes back unasked.
//!
//! One thread of an open store looks what there is to do: when a log file was
//! ended, when a checkpoint was, and a second after a commit. When nothing was
//! committed for five seconds it asks for a checkpoint, if more than a little
//! was logged since the last: it lets log go, and the next opening has less to
//! replay. When that one has ended, or was not worth it, the store comes to
//! [`rest`] after five seconds without a commit: five after the checkpoint, or
//! these same five. It becomes small, and the thread sleeps. Each look goes
//! through these questions:
//!
//! 1. Are there log files that nobody reads any more? They are removed or
//!    kept to be recycled.
//! 2. Did a count of live bytes turn out wrong? They are counted anew.
//! 3. Is too much of the log garbage? [`clean`](crate::clean) says what to do.
//! 4. Is a table sparse, fewer than three eighths of its slots used? Its
//!    segments shrink and merge.
//! 5. Is most of a table file free? The pages at its end are written again,
//!    to lower blocks; after the next checkpoint the end is given back.
//! 6. Was a table cleared that took more than a mebibyte? Its blocks are used
//!    until the next checkpoint, and a clear logs too little to lead to one.
//!
//! While somebody compacts, the first and the third of them are all it asks.
//!
//! Whatever it does is done in bites under the writer lock, with a pause after
//! each. What fails is tried again with the next look; what poisons the store
//! is heard of where commits are made.
//!
//! Where a commit was refused because the device is full, room is made: in
//! turns, a checkpoint, which lets blocks and log files go, if there is
//! anything for it to write; and the cleaning of a log file, even if garbage is
//! within its bound, one whose live entries fit what is kept for that. Free
//! ends of tables are given back however short. Removals wait for each turn.

mod rest;

use std::collections::HashMap;
use std::time::Duration;

use crate::checkpoint::{checkpoint, give_back_tail, worth_giving_back};
use crate::clean::{Cleaner, Zeal};
use crate::error::{Error, Result};
use crate::pass::{Pass, pass, recount};
use crate::store::Store;
use crate::store::space::Wake;
use crate::table::shrink::Sizing;
use rest::Rest;

/// How long after a commit things are looked at.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long nothing is committed until a store counts as idle.
const IDLE: Duration = Duration::from_secs(5);

/// Free blocks for which moving pages is worth it: a mebibyte.
const WORTH_MOVING: u32 = 256;

/// Blocks left by a clear that are worth a checkpoint: as many.
const WORTH_FREEING: u32 = WORTH_MOVING;

/// How long nothing is looked at after a look on a full device that gained
/// nothing.
const AFTER_REFUSAL: Duration = Duration::from_millis(20);

/// Log files that are cleaned with one look on a full device, at most.
const TURNS: usize = 8;

/// What is remembered from look to look.
#[derive(Default)]
struct Upkeep {
    cleaner: Cleaner,
    /// Used blocks and the highest of them, when no page of a table could be
    /// moved: as long as both are the same, it is not tried again.
    moved: HashMap<u16, (u32, u32)>,
    /// The last log file of which the unused end was given back.
    trimmed: u32,
    rest: Rest,
}

/// The body of the thread.
pub(crate) fn keep(store: &Store) {
    let mut upkeep = Upkeep::default();
    let mut idle = None;
    loop {
        match store.space.next(PATIENCE, idle) {
            Wake::Stop => return,
            Wake::Look => idle = Some(IDLE),
            Wake::Idle => {
                idle = None;
                // Its end leads to another look, and that to here.
                if !ask_for_checkpoint(store) {
                    upkeep.rest(store);
                    // What a reader holds is let go later.
                    let held = store.log.usage().retired > 0 && !over(store);
                    idle = held.then_some(IDLE);
                }
                continue;
            }
        }
        if over(store) {
            store.space.looked();
            continue;
        }
        let Some(_one) = store.compacting.take() else {
            upkeep.beside_compaction(store);
            continue;
        };
        // Nobody waits for the outcomes; see the essay.
        let refused = store.space.take_refused();
        let full = upkeep.look(store, refused).iter().flatten().any(Error::is_full);
        let gained = (refused || full) && upkeep.make_room(store);
        if refused {
            store.space.made_room();
            if !gained {
                // Whoever writes again at once is refused again: no hurry.
                std::thread::sleep(AFTER_REFUSAL);
            }
        }
    }
}

/// Whether nothing is to be done any more.
fn over(store: &Store) -> bool {
    store.poison.is_set() || store.is_closed()
}

/// Asks for a checkpoint if an eighth of a log file was logged since the last;
/// says whether.
fn ask_for_checkpoint(store: &Store) -> bool {
    let logged = store.log_since_checkpoint(&store.core_to_look());
    let worth = logged >= store.options.max_log_file / 8;
    if worth {
        store.signals.request();
    }
    worth
}

/// Asks for the checkpoint that frees the blocks of a table that was cleared.
fn free_cleared(store: &Store, id: u16) {
    let left = store.core_to_look().writer(id).map_or(0, |writer| writer.blocks.left_by_clear());
    if left > WORTH_FREEING {
        store.signals.request();
    }
}

/// Runs a checkpoint if there is anything for it to write; says whether.
fn checkpoint_if_behind(store: &Store) -> Result<bool> {
    let behind = store.core()?.checkpointed_commit < store.log.appended();
    if behind {
        checkpoint(store, false)?;
        store.log.tidy_now();
    }
    Ok(behind)
}

impl Upkeep {
    /// Brings the store to rest; see [`rest`].
    fn rest(&mut self, store: &Store) {
        let one = store.compacting.take();
        if !over(store) && one.is_some() {
            store.log.tidy_now();
            // What fails leaves the store as large as it is.
            let _ = self.rest.come(store);
        }
    }

    /// Somebody compacts, and does all of this and more: once, in an order of its
    /// own. What others write meanwhile is garbage soon, and a pass may take as
    /// long as the function takes that it calls.
    fn beside_compaction(&mut self, store: &Store) {
        store.log.tidy_now();
        // What fails is met by the compaction, too, or by the next look.
        let _ = self.clean(store);
    }

    /// Cleans the log as long as it is due. Whoever compacts does it if it is its
    /// turn.
    fn clean(&mut self, store: &Store) -> Result<()> {
        match store.cleaning.take() {
            Some(_turn) => self.cleaner.clean_while_due(store),
            None => Ok(()),
        }
    }

    /// Does what there is to do. One failure does not keep the rest from it.
    /// `refused` says that the device was full for a commit.
    fn look(&mut self, store: &Store, refused: bool) -> Vec<Option<Error>> {
        store.log.tidy_now();
        self.trim(store);
        let mut outcomes = vec![recount(store).err(), self.clean(store).err()];
        let ids: Vec<u16> = {
            let core = store.core_to_look();
            core.writers().map(|writer| writer.table.id).collect()
        };
        for id in ids {
            free_cleared(store, id);
            outcomes.push(self.shrink(store, id).err());
            outcomes.push(self.move_down(store, id, refused).err());
            let worth = if refused { |_| 1 } else { worth_giving_back };
            let mut go_on = || self.goes_on(store);
            outcomes.push(give_back_tail(store, id, worth, &mut go_on).err());
        }
        outcomes
    }

    /// Gives back the ends of log files that were ended early, because a long
    /// record did not fit: an eighth of a file or more.
    fn trim(&mut self, store: &Store) {
        let files = store.log.files();
        let sealed = files.iter().filter(|file| !file.active && file.number > self.trimmed);
        for file in sealed {
            if file.size - file.end.min(file.size) >= file.size / 8 {
                store.log.trim(file.number);
            }
        }
        let last = files.iter().filter(|file| !file.active).map(|file| file.number).max();
        self.trimmed = self.trimmed.max(last.unwrap_or(0));
    }

    /// On a full device: lets go of what can be let go. Says whether anything
    /// was done.
    fn make_room(&mut self, store: &Store) -> bool {
        let mut gained = false;
        for _ in 0..TURNS {
            let checkpointed = checkpoint_if_behind(store);
            gained |= matches!(checkpointed, Ok(true));
            if checkpointed.is_err() || store.space.is_stopped() {
                break;
            }
            store.space.made_room();
            let balance = self.cleaner.balance(store).only_within(store.log.reserve_room());
            match self.cleaner.step(store, &balance, Zeal::Compaction) {
                Ok(false) => break,
                // What was moved takes blocks until the next checkpoint.
                Err(error) if !error.is_full() => break,
                _ => gained = true,
            }
        }
        gained
    }

    /// Shrinks and merges the segments of a sparse table.
    fn shrink(&mut self, store: &Store, id: u16) -> Result<()> {
        let sparse = store.core()?.writer(id).filter(|w| w.is_sparse()).map(|w| w.totals.used);
        let Some(used) = sparse else {
            return Ok(());
        };
        let roomy = Pass { table: id, sizing: Sizing::Roomy, below: None };
        let pages = self.pass(store, roomy)?;
        if let Some((writer, _)) = store.core()?.writer_mut(id) {
            writer.tidied(used);
        }
        if pages > 0 {
            // Few pages were written, but many blocks wait to be free.
            store.signals.request();
        }
        Ok(())
    }

    /// Moves pages down if most of the file is free; where a commit was
    /// refused, if an eighth of it is.
    fn move_down(&mut self, store: &Store, id: u16, refused: bool) -> Result<()> {
        let Some((used, highest)) = store.core()?.writer(id).map(|writer| {
            let blocks = &writer.blocks;
            (blocks.used(), blocks.highest_used())
        }) else {
            return Ok(());
        };
        let (worth, room) = match refused {
            true => (used + used / 8 + 32, used / 16 + 16),
            false => (2 * (used + WORTH_MOVING), used / 4 + WORTH_MOVING / 4),
        };
        if highest < worth || self.moved.get(&id) == Some(&(used, highest)) {
            return Ok(());
        }
        let below = Some(used + room);
        let down = Pass { table: id, sizing: Sizing::Roomy, below };
        if self.pass(store, down)? > 0 {
            store.signals.request();
        } else {
            self.moved.insert(id, (used, highest));
        }
        Ok(())
    }

    /// A pass over a table, which may take long: garbage in the log is looked
    /// at in between.
    fn pass(&mut self, store: &Store, what: Pass) -> Result<usize> {
        pass(store, what, &mut |_| self.goes_on(store))
    }

    /// Whether something long is to go on; looks at the log, if that is due.
    fn goes_on(&mut self, store: &Store) -> bool {
        if store.space.wants_look() {
            // If it fails, the next look meets the same.
            let _ = self.clean(store);
        }
        !store.space.is_stopped()
    }
}
