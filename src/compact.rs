//! Compaction: everything as small as it gets, while the store is in use.
//!
//! ```text
//! 1 clean    the active log file is ended; files with garbage are cleaned; a
//!            checkpoint lets them go
//! 2 pack     of each table: siblings merge, segments get the fewest pages
//!            that hold their entries; a checkpoint
//! 3 move     pages that lie behind the blocks that are needed go to lower
//!            ones; a checkpoint; once more, until nothing lies there
//! 4 trim     the rest of the last log file and the free end of each table file
//!            take no space any more; closing the store truncates the latter
//! ```
//!
//! The log comes first, because cleaning changes the pages of what it moves.
//!
//! Every step is a bite under the writer lock, and nothing that can be lost: an
//! interruption, even by a kill, leaves a store that is partly compacted.
//! Readers go on, and so do writers between the bites. What they write
//! meanwhile is not compacted, but garbage in the log keeps its bound:
//! [`upkeep`](crate::upkeep) cleans beside steps 2 to 4, and step 1 does it itself.
//!
//! How full a packed segment is depends on its pages: of p pages at least
//! `7/8 (p - 1) / p` of the slots are used, which is 0.8 from twelve pages on
//! and 0.77 from eight, and the segments of a large table have eight to
//! sixteen.

use std::ops::ControlFlow;

use crate::checkpoint::{checkpoint, give_back_tail};
use crate::clean::{Cleaner, Zeal};
use crate::error::{Error, Result};
use crate::pass::{Pass, pass, recount};
use crate::store::Store;
use crate::table::shrink::Sizing;

/// How often pages are moved down at most.
const ROUNDS: usize = 3;

/// How far a compaction is; see [`Db::compact_with`](crate::Db::compact_with).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CompactProgress {
    /// What is being done.
    pub step: CompactStep,
    /// The table it is done to, if it is one.
    pub table: Option<String>,
    /// How much of the step is done, from 0 to 1.
    pub done: f64,
}

/// The steps of a compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompactStep {
    /// Segments of a table are made as full as may be.
    Packing,
    /// Pages of a table go to lower blocks of its file.
    Moving,
    /// Log files with garbage are cleaned.
    Cleaning,
}

impl std::fmt::Display for CompactStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            CompactStep::Packing => "packing segments",
            CompactStep::Moving => "moving pages",
            CompactStep::Cleaning => "cleaning the log",
        })
    }
}

/// What a compaction came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compacted {
    /// Whether it was not cancelled.
    pub finished: bool,
    /// The space that the store took before, in bytes.
    pub bytes_before: u64,
    /// The space that it takes now, while it is open.
    pub bytes_after: u64,
}

/// The caller's function, and whether it said to stop.
struct Report<'a> {
    tell: &'a mut dyn FnMut(&CompactProgress) -> ControlFlow<()>,
    cancelled: bool,
}

impl Report<'_> {
    /// Tells how far it is. Says whether to go on.
    fn tell(&mut self, step: CompactStep, table: Option<&str>, done: f64) -> bool {
        let progress = CompactProgress { step, table: table.map(str::to_owned), done };
        self.cancelled |= (self.tell)(&progress).is_break();
        !self.cancelled
    }
}

/// Compacts the store; waits if somebody else does. Refused to the function
/// that this one tells how far it is: it would wait for itself.
pub(crate) fn compact(
    store: &Store,
    tell: &mut dyn FnMut(&CompactProgress) -> ControlFlow<()>,
) -> Result<Compacted> {
    store.check_writable()?;
    let _one = store.compacting.wait().ok_or_else(|| {
        Error::invalid("a function that a compaction calls cannot compact the same store")
    })?;
    let bytes_before = space(store);
    let mut report = Report { tell, cancelled: false };
    recount(store)?;
    let tables: Vec<(u16, String)> =
        store.core()?.writers().map(|w| (w.table.id, w.table.name.clone())).collect();
    clean_log(store, &mut report)?;
    for (id, name) in &tables {
        compact_table(store, *id, name, &mut report)?;
    }
    if !report.cancelled {
        trim_log(store)?;
    }
    for (id, _) in &tables {
        give_back_tail(store, *id, |_| 1, &mut || true)?;
    }
    let bytes_after = space(store);
    Ok(Compacted { finished: !report.cancelled, bytes_before, bytes_after })
}

/// Steps 2 and 3 for one table.
fn compact_table(store: &Store, id: u16, name: &str, report: &mut Report<'_>) -> Result<()> {
    let dense = Pass { table: id, sizing: Sizing::Dense, below: None };
    for round in 0..=ROUNDS {
        if report.cancelled {
            return Ok(());
        }
        let step = if round == 0 { CompactStep::Packing } else { CompactStep::Moving };
        let below = match round {
            0 => None,
            _ => match needed(store, id)? {
                None => return Ok(()),
                needed => needed,
            },
        };
        pass(store, Pass { below, ..dense }, &mut |done| report.tell(step, Some(name), done))?;
        checkpoint(store, false)?;
    }
    Ok(())
}

/// How many blocks a table needs, with a little room for the runs of root and
/// free map; `None` if hardly any lies behind them.
fn needed(store: &Store, id: u16) -> Result<Option<u32>> {
    let core = store.core()?;
    Ok(core.writer(id).and_then(|writer| {
        let runs = writer.root_run.blocks + writer.map_run.blocks;
        let needed = writer.blocks.used() + runs;
        (writer.blocks.highest_used() > needed + needed / 128).then_some(needed)
    }))
}

/// Step 1. What writers add meanwhile is left alone, or it might never end.
fn clean_log(store: &Store, report: &mut Report<'_>) -> Result<()> {
    let mut cleaner = Cleaner::default();
    let first = end_active_file(store, false)?;
    let before = cleaner.balance(store);
    let total = (before.dead + before.alive).max(1) as f64;
    loop {
        let balance = cleaner.balance(store).only_before(first);
        let left = balance.dead as f64 / total;
        if !report.tell(CompactStep::Cleaning, None, 1.0 - left.min(1.0)) {
            break;
        }
        // After the function was told how far it is, which may take its time.
        let _turn = store.cleaning.wait();
        if store.space.wants_look() {
            cleaner.clean_while_due(store)?;
        }
        if !cleaner.step(store, &balance, Zeal::Compaction)? {
            break;
        }
    }
    // Its end wakes upkeep, which may have found that it was not its turn.
    checkpoint(store, false)
}

/// Step 4 for the log.
fn trim_log(store: &Store) -> Result<()> {
    end_active_file(store, false)?;
    checkpoint(store, false)?;
    for file in store.log.files() {
        store.log.trim(file.number);
    }
    store.log.drop_spares();
    Ok(())
}

/// Lets the log go on in a small file, so that the active one can be cleaned
/// or trimmed. Returns the number of the file in which it goes on. `last` says that
/// it is done to close the store; nobody else may do it then, for the last
/// checkpoint says where the log ends.
pub(crate) fn end_active_file(store: &Store, last: bool) -> Result<u32> {
    loop {
        store.log.prepare_small()?;
        let mut core = if last { store.core_to_look() } else { store.core()? };
        let appender = core.appender.as_mut().ok_or(Error::ReadOnly)?;
        if appender.rotate()? {
            return Ok(appender.file());
        }
    }
}

/// Before the store is closed: a large log file that holds little alive is
/// left, so that the last checkpoint can let it go.
pub(crate) fn leave_log_small(store: &Store) {
    let Some(active) = store.log.files().into_iter().find(|file| file.active) else {
        return;
    };
    let live = store.core_to_look().live_in(active.number);
    if active.size >= 4 * crate::log::MIN_FILE && live < active.size / 2 {
        // On a full device it stays as it is; worse is heard of at once.
        let _ = end_active_file(store, true);
    }
}

/// The space that the files of the store take, in bytes, as far as known
/// without asking the file system.
fn space(store: &Store) -> u64 {
    let tables: u64 = {
        let core = store.core_to_look();
        core.writers().map(|writer| u64::from(writer.blocks.usage().allocated) * 4096).sum()
    };
    tables + store.log.usage().total()
}

#[cfg(test)]
mod tests {
    use crate::Db;

    fn blocks_taken(db: &Db) -> (u64, u64) {
        let table = &db.stats().tables[0];
        (table.blocks_used, table.blocks_used + table.blocks_free - table.blocks_holes)
    }

    #[test]
    fn a_table_whose_values_were_cleaned_leaves_no_gaps() {
        // Cleaning changed every page after they had been moved down.
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path()).unwrap();
        for i in 0..60_000u32 {
            db.insert(i.to_be_bytes(), [7; 100]).unwrap();
            if i % 3 == 0 {
                db.remove((i / 2).to_be_bytes()).unwrap();
            }
        }
        for _ in 0..2 {
            assert!(db.compact().unwrap().finished);
            let (used, taken) = blocks_taken(&db);
            assert!(taken <= used + used / 32 + 100, "{used} blocks are used, {taken} taken");
        }
        db.close().unwrap();
        let length = std::fs::metadata(dir.path().join("default.swiss")).unwrap().len();
        let db = Db::open(dir.path()).unwrap();
        let (used, _) = blocks_taken(&db);
        assert!(length <= (used + used / 32 + 16) * 4096, "{length} bytes for {used} blocks");
    }
}
