//! Cleaning the log: what is alive in a file of mostly garbage is put again at
//! the end, so that the file can be recycled.
//!
//! A log file is given back when nothing in it is alive and every checkpoint
//! has passed it ([`checkpoint`](crate::checkpoint)). Overwriting in a circle
//! gets there by itself. A single long-lived value would keep its file for
//! ever; so files are cleaned, those first that have the least alive.
//!
//! # What is garbage
//!
//! ```text
//!  sealed files, some of it alive      nothing alive, waits     since the last
//!                                      for a checkpoint         checkpoint
//! ├── alive ──┼──── dead ────────┼┤   ├──── held ────────┤     ├─── active ──
//! ```
//!
//! The tables know exactly how many *spilled bytes* of each file are alive. An
//! entry's record is longer than that: header, key, a value that stands in its
//! slot too. What the entries of a file would take if they were logged again,
//! their *footprint*, is found by walking the file, once; from then on it is
//! taken to shrink with the live bytes. A file whose footprint would leave
//! little to gain is left alone: so no amount of small values makes the
//! cleaner go in circles.
//!
//! # When
//!
//! Let *slack* be the length of one ordinary log file (64 MiB by default).
//!
//! * Dead and held bytes together above half of what is alive, plus slack: the
//!   upkeep thread cleans.
//! * The same with the *fresh* ones: of the files in which nothing is alive and
//!   which no checkpoint has passed, what is more than the tables take (at least
//!   64 MiB). It asks for a checkpoint if that gives most of it back.
//! * Dead bytes above what is alive, plus slack: each commit also waits until
//!   the cleaner has gone through three bytes for each one appended, 100 ms at
//!   most.
//! * All of them above that by twice the log between two checkpoints of a
//!   store that has nothing alive in it: the same, or each commit waits for
//!   the checkpoint.
//! * Four files ended since somebody looked, or twice the log between two
//!   checkpoints and none ends: each commit waits for that, 100 ms at most.
//!
//! So garbage stays below half of the log plus a constant: the slack, those
//! files, three times the log between two checkpoints, as it were if nothing
//! were alive in it, the active file and those that are prepared and kept. That
//! checkpoints of a store with much alive in its log are further apart adds
//! nothing to it.
//!
//! # What may go wrong
//!
//! A record that is rotten ends the walk of its file. What could be moved
//! before it was; the file keeps its live bytes and stays, and is not tried
//! again while the store is open. The same for an entry whose page cannot be
//! read. On a full device a few entries at a time are moved with what is kept
//! for this, of a file whose live entries fit there as a whole; if that fails,
//! the next look tries again.
//!
//! Cleaning runs in one thread at a time, whose turn it is, beside writers,
//! readers and a checkpoint. It holds the writer lock for one commit of [`BITE`]
//! bytes.

mod due;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::record::OpKind;
use crate::format::{BLOCK, Fault};
use crate::log::LogFileInfo;
use crate::store::Store;
use crate::store::moving::Stray;
use crate::table::Table;

/// Bytes that are put again with one commit, as a rule.
const BITE: u64 = 64 << 10;
/// What the cleaning of one file has to gain at least.
const LEAST_GAIN: u64 = 4 * BLOCK as u64;
/// Entries that are put again with one commit at most.
const BITE_ENTRIES: usize = 256;
/// The same on a full device, where little is kept for them.
const FULL_ENTRIES: usize = 8;

/// What is known of a sealed file beside what the tables know.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Its footprint, and the live bytes at that time.
    footprint: u64,
    live: u64,
    /// Whether part of it could not be moved.
    stuck: bool,
}

/// What the cleaner remembers from one look to the next.
#[derive(Default)]
pub(crate) struct Cleaner {
    seen: HashMap<u32, Seen>,
}

/// A sealed log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    number: u32,
    size: u64,
    /// What its live entries take, as far as known.
    footprint: u64,
    /// Whether the footprint was found by walking the file.
    known: bool,
}

/// The log, weighed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Balance {
    /// Footprint of all entries.
    pub(crate) alive: u64,
    /// What the sealed files with live entries have beside these.
    pub(crate) dead: u64,
    /// Sealed files that only wait for a checkpoint.
    pub(crate) held: u64,
    /// Sealed files without live entries that no checkpoint has passed.
    pub(crate) fresh: u64,
    /// What there may be of these: the log between two checkpoints if nothing
    /// were alive in it.
    between: u64,
    candidates: Vec<Candidate>,
    slack: u64,
}

impl Balance {
    /// Whether there is so much garbage that something should be done.
    pub(crate) fn is_due(&self) -> bool {
        self.garbage() > self.alive / 2 + self.slack
    }

    fn garbage(&self) -> u64 {
        self.dead + self.waiting()
    }

    /// What a checkpoint gives back, without what there may be of it.
    fn waiting(&self) -> u64 {
        self.held + self.fresh.saturating_sub(self.between)
    }

    /// Whether a checkpoint gives more back than cleaning.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        self.waiting() >= self.dead
    }

    /// Whether cleaning is due, where no checkpoint is.
    pub(crate) fn wants_cleaning(&self) -> bool {
        self.dead + self.held > self.alive / 2 + self.slack
    }

    /// Whether writers have to wait for what gives most of it back.
    pub(crate) fn is_late(&self) -> bool {
        self.garbage() > self.alive + self.slack + 2 * self.between
    }

    /// Whether writers have to wait for the cleaner.
    pub(crate) fn is_past_bound(&self) -> bool {
        self.dead > self.alive + self.slack
    }

    /// Leaves the files from a number on alone.
    pub(crate) fn only_before(mut self, number: u32) -> Balance {
        self.candidates.retain(|file| file.number < number);
        self
    }

    /// Leaves the files alone of which more than that would have to be moved.
    pub(crate) fn only_within(mut self, room: u64) -> Balance {
        self.candidates.retain(|file| file.footprint <= room);
        self
    }

    /// The file whose cleaning gains most for what it costs, if at least one
    /// part in `parts` of it is gained, and a few blocks: moving what is in a
    /// small file makes another small one.
    fn victim(&self, parts: u64) -> Option<Candidate> {
        let worth =
            |file: &&Candidate| file.size - file.footprint >= (file.size / parts).max(LEAST_GAIN);
        let share = |file: &Candidate| (file.footprint << 20) / file.size.max(1);
        self.candidates.iter().filter(worth).min_by_key(|file| share(file)).copied()
    }
}

/// How much must be gained for a file to be cleaned: an eighth of it by
/// itself, a fiftieth if somebody asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zeal {
    Upkeep,
    Compaction,
}

impl Zeal {
    fn parts(self) -> u64 {
        match self {
            Zeal::Upkeep => 8,
            Zeal::Compaction => 50,
        }
    }
}

impl Cleaner {
    /// Weighs the log.
    pub(crate) fn balance(&mut self, store: &Store) -> Balance {
        let (live, passed, tables) = {
            let core = store.core_to_look();
            let live = live_bytes(core.writers().map(|writer| &writer.live));
            (live, core.checkpointed_commit, core.table_bytes())
        };
        let (files, held) = (store.log.files(), store.snapshots.files());
        self.seen.retain(|number, _| files.iter().any(|file| file.number == *number));
        let (least, most) = store.options.log_share();
        let (slack, between) = (store.options.max_log_file, tables.clamp(least, most));
        let mut balance = Balance { slack, between, ..Balance::default() };
        for file in &files {
            if held.contains(&file.number) {
                // Snapshots need it as it is, whatever is alive in it.
                balance.alive += file.size;
                continue;
            }
            let live = live.get(&file.number).copied().unwrap_or(0);
            self.weigh(&mut balance, file, live, passed);
        }
        balance
    }

    fn weigh(&self, balance: &mut Balance, file: &LogFileInfo, live: u64, passed: u64) {
        let seen = self.seen.get(&file.number).copied();
        // What lies behind the end of a sealed file is nobody's, and given
        // back if it is much.
        let size = if file.active {
            file.size
        } else {
            file.size.min(file.end.next_multiple_of(BLOCK as u64))
        };
        let scaled = |seen: Seen| {
            let scaled =
                u128::from(seen.footprint) * u128::from(live) / u128::from(seen.live.max(1));
            scaled as u64
        };
        let footprint = seen.map_or(live, scaled).max(live).min(size);
        balance.alive += footprint;
        if file.active {
            return;
        }
        if live == 0 {
            let passed = file.last_commit <= passed;
            *(if passed { &mut balance.held } else { &mut balance.fresh }) += size;
            return;
        }
        balance.dead += size - footprint;
        if !seen.is_some_and(|seen| seen.stuck) {
            let (number, known) = (file.number, seen.is_some());
            balance.candidates.push(Candidate { number, size, footprint, known });
        }
    }

    /// Cleans one file, the one that gains most, or finds out that it is not
    /// worth it. Says whether there was any to look at.
    ///
    /// # Errors
    ///
    /// A full device, a poisoned or closed store. Damage is no error.
    pub(crate) fn step(&mut self, store: &Store, balance: &Balance, zeal: Zeal) -> Result<bool> {
        let Some(victim) = balance.victim(zeal.parts()) else {
            return Ok(false);
        };
        let tables = tables(store);
        if !victim.known {
            let measured = self.measure(store, &tables, victim.number)?;
            if victim.size - measured < (victim.size / zeal.parts()).max(LEAST_GAIN) {
                return Ok(true);
            }
        }
        let whole = clean(store, &tables, victim.number)?;
        let live = store.core_to_look().live_in(victim.number);
        if let Some(seen) = self.seen.get_mut(&victim.number) {
            // What is left after a whole walk cannot be moved, or was just
            // put there: but nothing is put into a sealed file.
            seen.stuck = !whole || live > 0;
        }
        Ok(true)
    }

    /// Finds the footprint of a file.
    fn measure(&mut self, store: &Store, tables: &Tables, number: u32) -> Result<u64> {
        let (mut footprint, mut live) = (0, 0);
        let outcome = walk(store, tables, number, &mut |stray| {
            if store.points_to(stray).unwrap_or(false) {
                footprint += stray.len();
                live += stray.spilled_len();
            }
            Ok(())
        });
        let whole = end_of_walk(store, number, outcome)?;
        self.seen.insert(number, Seen { footprint, live, stuck: !whole && live == 0 });
        Ok(footprint)
    }
}

/// The live bytes of all tables, by log file.
fn live_bytes<'a>(tables: impl Iterator<Item = &'a BTreeMap<u32, u64>>) -> BTreeMap<u32, u64> {
    let mut live: BTreeMap<u32, u64> = BTreeMap::new();
    for (number, bytes) in tables.flatten() {
        *live.entry(*number).or_default() += bytes;
    }
    live
}

/// The tables by their ids.
type Tables = Vec<Option<Arc<Table>>>;

fn tables(store: &Store) -> Tables {
    let core = store.core_to_look();
    core.tables.iter().map(|writer| writer.as_ref().map(|writer| writer.table.clone())).collect()
}

/// Shows the logged inserts of a sealed file to `visit`, in order.
fn walk(
    store: &Store,
    tables: &Tables,
    number: u32,
    visit: &mut dyn FnMut(&Stray<'_>) -> Result<()>,
) -> Result<()> {
    let mut records = store.log.file_walk(number)?;
    while let Some(record) = records.next()? {
        for op in record.ops.clone() {
            let at = |fault: Fault| fault.at(store.storage.path(""), record.offset.into());
            let (op, key_at) = op.map_err(at)?;
            let table = tables.get(usize::from(op.table)).and_then(Option::as_ref);
            if let (OpKind::Insert, Some(table)) = (op.kind, table) {
                let key_at = record.offset + key_at;
                visit(&Stray { table, key: op.key, value: op.value, file: number, key_at })?;
            }
        }
        store.space.advance(record.length.into());
    }
    Ok(())
}

/// Whether a walk came to its end. Damage ends it and is no error; neither is
/// a file that was recycled meanwhile.
fn end_of_walk(store: &Store, number: u32, outcome: Result<()>) -> Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(Error::Corrupt(_)) => Ok(false),
        Err(_) if store.log.files().iter().all(|file| file.number != number) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Entries that wait to be put again.
#[derive(Default)]
struct Bite {
    bytes: Vec<u8>,
    /// Table, lengths of key and value, where the key was logged.
    entries: Vec<(u16, usize, usize, u32)>,
}

impl Bite {
    fn push(&mut self, stray: &Stray<'_>) {
        self.bytes.extend_from_slice(stray.key);
        self.bytes.extend_from_slice(stray.value);
        let (key, value) = (stray.key.len(), stray.value.len());
        self.entries.push((stray.table.id, key, value, stray.key_at));
    }

    fn is_full(&self) -> bool {
        self.bytes.len() as u64 >= BITE || self.entries.len() >= BITE_ENTRIES
    }

    /// Puts the entries again: all at once, or a few at a time if the device
    /// is full.
    fn put_again(&mut self, store: &Store, tables: &Tables, file: u32) -> Result<()> {
        let mut strays = Vec::with_capacity(self.entries.len());
        let mut at = 0;
        for &(id, key, value, key_at) in &self.entries {
            let (key, value) = (&self.bytes[at..at + key], &self.bytes[at + key..at + key + value]);
            at += key.len() + value.len();
            if let Some(table) = tables.get(usize::from(id)).and_then(Option::as_ref) {
                strays.push(Stray { table, key, value, file, key_at });
            }
        }
        match store.put_again(&strays) {
            Err(error) if error.is_full() => {
                for few in strays.chunks(FULL_ENTRIES) {
                    store.put_again(few)?;
                }
            }
            outcome => drop(outcome?),
        }
        self.bytes.clear();
        self.entries.clear();
        Ok(())
    }
}

/// Puts again what is alive in a sealed file. Says whether the whole file was
/// gone through.
fn clean(store: &Store, tables: &Tables, number: u32) -> Result<bool> {
    let mut bite = Bite::default();
    let outcome = walk(store, tables, number, &mut |stray| {
        // An entry whose page is damaged keeps its file.
        if store.points_to(stray).unwrap_or(false) {
            bite.push(stray);
        }
        if bite.is_full() {
            bite.put_again(store, tables, number)?;
            if store.space.is_stopped() {
                return Err(crate::store::closed());
            }
        }
        Ok(())
    });
    let whole = end_of_walk(store, number, outcome)?;
    if !bite.entries.is_empty() {
        bite.put_again(store, tables, number)?;
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(number: u32, size: u64, last_commit: u64, active: bool) -> LogFileInfo {
        LogFileInfo { number, size, first_commit: 1, last_commit, end: size, active }
    }

    #[test]
    fn garbage_is_what_no_entry_needs() {
        let cleaner = Cleaner::default();
        let mut balance = Balance { slack: 100, ..Balance::default() };
        cleaner.weigh(&mut balance, &file(1, 1000, 10, false), 300, 50);
        cleaner.weigh(&mut balance, &file(2, 1000, 20, false), 0, 50);
        cleaner.weigh(&mut balance, &file(3, 1000, 60, false), 0, 50);
        cleaner.weigh(&mut balance, &file(4, 1000, 90, true), 200, 50);
        assert_eq!((balance.alive, balance.dead), (500, 700));
        assert_eq!((balance.held, balance.fresh), (1000, 1000));
        assert!(balance.is_due() && balance.wants_checkpoint() && balance.is_past_bound());
        // 2700 of garbage; beside what is alive and the slack, 2100.
        assert!(Balance { between: 699, ..balance.clone() }.is_late());
        assert!(!Balance { between: 700, ..balance.clone() }.is_late());
    }

    #[test]
    fn files_that_a_checkpoint_would_let_go_ask_for_one_and_for_no_cleaning() {
        let balance = Balance { alive: 1000, dead: 150, slack: 100, ..Balance::default() };
        assert!(!balance.is_due());
        let balance = Balance { fresh: 500, ..balance };
        assert!(balance.is_due() && balance.wants_checkpoint() && !balance.wants_cleaning());
        let usual = Balance { between: 500, ..balance.clone() };
        assert!(!usual.is_due(), "a table of that size has as much log");
        let balance = Balance { dead: 550, ..balance };
        assert!(!balance.wants_checkpoint() && !balance.wants_cleaning());
        let balance = Balance { dead: 601, ..balance };
        assert!(!balance.wants_checkpoint() && balance.wants_cleaning());
    }

    #[test]
    fn the_file_with_the_smallest_live_share_is_cleaned_first() {
        let mut cleaner = Cleaner::default();
        let seen = Seen { footprint: 900_000, live: 400_000, stuck: false };
        cleaner.seen.insert(3, seen);
        cleaner.seen.insert(4, Seen { stuck: true, ..seen });
        let mut balance = Balance::default();
        for (number, live) in [(1, 300), (2, 200), (3, 100), (4, 1), (5, 990)] {
            let file = file(number, 1_000_000, 10, false);
            cleaner.weigh(&mut balance, &file, live * 1_000, 50);
        }
        // Of file 3 it is known that its entries take more than their values.
        assert_eq!(balance.victim(8).map(|file| (file.number, file.footprint)), Some((2, 200_000)));
        assert!(balance.candidates.iter().all(|file| file.number != 4));
        let within = balance.clone().only_within(150_000);
        assert_eq!(within.victim(8), None, "none fits where little can be moved to");
        let only = Balance { candidates: vec![balance.candidates[3]], ..Balance::default() };
        assert_eq!(only.victim(8), None, "a hundredth of a file is not worth it");
        let mut small = Balance::default();
        cleaner.weigh(&mut small, &file(7, 8_192, 10, false), 100, 50);
        assert_eq!(small.victim(50), None, "another small file would come of it");
    }
}
