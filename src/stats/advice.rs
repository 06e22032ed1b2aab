//! What the numbers mean for whoever runs the store.
//!
//! Advice is given only where following it is worth the trouble: the store
//! would become noticeably smaller or faster, and not come back to where it is
//! by itself. Each rule says below why its bounds are where they are. Nothing
//! is said of what takes less than a mebibyte.
//!
//! One compaction of a table cures all that may be wrong with its pages. So at
//! most one rule speaks for each table, the one that gains most first.

use std::fmt;
use std::time::Duration;

use super::{BLOCK, SnapshotStats, Stats, TableStats};
use crate::census::Census;
use crate::format::group::Geometry;

/// What is to be gained at least, and how large a table must be to be spoken
/// of, in bytes. Below a mebibyte nobody notices the difference.
const WORTH: u64 = 1 << 20;

/// One part in so many of a table that another slot payload must gain. The
/// sizes are estimates, and everything is read and written once to get there.
const GAIN_PARTS: u64 = 10;

/// Entries per slot below which a compaction is worth it. A table that is
/// filled stays between 0.64 and 0.80, and its own upkeep acts below 0.375. What
/// lies between is kept for entries to come; below 0.6 a quarter of the pages
/// could be had back if none come.
const LOW_UTILISATION: f64 = 0.6;
/// Entries per slot after a compaction, in tables of more than a few pages.
const COMPACTED: f64 = 0.8;

/// Tombstones per slot that slow searches noticeably. To a miss a tombstone is
/// as good as an entry: a tenth more of the slots takes it from 1.35 groups to
/// about 1.9.
const MANY_TOMBSTONES: f64 = 0.1;

/// Garbage in the log, in bytes, of which nothing is said whatever the store
/// is like: a few log files of the sizes with which a store begins.
const SOME_GARBAGE: u64 = 16 << 20;
/// One part in so many of the space on the device, above which garbage is
/// spoken of. The cleaner itself lets half of what is alive be garbage before
/// it acts, plus a constant: a third of the whole.
const GARBAGE_PARTS: u64 = 3;

/// How long the oldest snapshot must be held to be spoken of. A backup, or a
/// look at every entry, is over by then or is meant to take its time; what is
/// kept longer was often only forgotten.
const LONG_HELD: Duration = Duration::from_secs(600);

/// How long writers must have waited for the write buffer to be spoken of:
/// less is not felt, and may be one slow sync.
const LONG_WAIT: Duration = Duration::from_secs(1);
/// Checkpoints from which on their frequency says something.
const MANY_CHECKPOINTS: u64 = 8;
/// Bytes of log per checkpoint below which they are too frequent: by the log
/// alone there would be one each 64 MiB at most.
const SHORT_INTERVAL: u64 = 16 << 20;

/// Something to do about a store; see [`Stats::advice`].
///
/// As text it is a sentence without its full stop, which says what was found
/// and what would help.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Advice {
    /// Slots are too large for the entries, or too small; a compaction with
    /// another slot payload would make the table smaller.
    SlotPayload {
        /// The name of the table.
        table: String,
        /// Bytes of key and value that a slot holds.
        payload: usize,
        /// Bytes that it should hold.
        better: usize,
        /// What the table takes in files, in bytes, about.
        bytes: u64,
        /// What it would take, in bytes, about.
        better_bytes: u64,
    },
    /// A compaction would make the pages of a table fewer.
    LowUtilisation {
        /// The name of the table.
        table: String,
        /// Entries per slot, 0 to 1.
        utilisation: f64,
        /// Bytes to be gained, about.
        gain: u64,
    },
    /// Deleted slots slow searches down; a compaction removes them.
    Tombstones {
        /// The name of the table.
        table: String,
        /// Deleted slots that keep probes going.
        tombstones: u64,
        /// All slots.
        slots: u64,
    },
    /// Much of the log is garbage; a compaction gives it back.
    DeadBytes {
        /// Bytes of the log that no entry needs.
        dead: u64,
        /// Bytes of the log files altogether.
        log: u64,
    },
    /// Snapshots have kept for long what nobody else needs, and it is much;
    /// giving them up gives it back.
    Snapshots {
        /// Snapshots that are held.
        held: u64,
        /// For how long the oldest one has been.
        oldest_age: Duration,
        /// Bytes of the files that only they need.
        bytes: u64,
    },
    /// Writers waited, or checkpoints are frequent, because few changed pages
    /// may be in memory; see [`Options::write_buffer`](crate::Options::write_buffer).
    WriteBuffer {
        /// The write buffer in bytes.
        write_buffer: u64,
        /// How long writers waited or were slowed down.
        wait_time: Duration,
        /// Checkpoints since the store was opened.
        checkpoints: u64,
        /// Bytes appended to the log since then.
        log_bytes: u64,
    },
}

impl Stats {
    /// What would make the store noticeably smaller or faster. Empty for most
    /// stores, and for all small ones. Whether a slot payload fits is said of
    /// those tables of which a census is given.
    ///
    /// ```
    /// let db = swissdb::Db::in_memory()?;
    /// for i in 0..100_000u32 {
    ///     db.insert(i.to_le_bytes(), [1; 40])?;
    /// }
    /// let survey = db.survey(|_| ())?;
    /// for advice in db.stats().advice(&[&survey.census]) {
    ///     println!("{advice}.");
    /// }
    /// # assert!(db.stats().advice(&[]).is_empty());
    /// # Ok::<(), swissdb::Error>(())
    /// ```
    pub fn advice(&self, censuses: &[&Census]) -> Vec<Advice> {
        let tables = self.tables.iter().filter_map(|table| {
            let census = censuses.iter().find(|census| census.table == table.name);
            census.and_then(|census| slot_payload(census)).or_else(|| of_pages(table))
        });
        let of_store = [self.dead_bytes(), self.held_by_snapshots(), self.small_write_buffer()];
        tables.chain(of_store.into_iter().flatten()).collect()
    }

    fn dead_bytes(&self) -> Option<Advice> {
        let log = self.log_bytes();
        let all_dead: u64 = self.log_files.iter().map(|file| file.dead()).sum();
        // What the next checkpoint lets go is not garbage yet, and what
        // snapshots keep stays where it is.
        let dead = all_dead
            .saturating_sub(self.log_since_checkpoint)
            .saturating_sub(self.snapshots.log_bytes);
        self.is_much(dead).then_some(Advice::DeadBytes { dead, log })
    }

    fn held_by_snapshots(&self) -> Option<Advice> {
        let SnapshotStats { held, oldest_age, block_bytes, log_bytes, .. } = self.snapshots;
        let oldest_age = oldest_age.filter(|age| *age >= LONG_HELD)?;
        let bytes = block_bytes + log_bytes;
        self.is_much(bytes).then_some(Advice::Snapshots { held, oldest_age, bytes })
    }

    fn log_bytes(&self) -> u64 {
        self.log_files.iter().map(|file| file.bytes).sum()
    }

    /// Whether so many bytes of the store are worth to be spoken of.
    fn is_much(&self, bytes: u64) -> bool {
        let tables: u64 = self.tables.iter().map(TableStats::disk_bytes).sum();
        bytes >= SOME_GARBAGE && bytes >= (self.log_bytes() + tables) / GARBAGE_PARTS
    }

    fn small_write_buffer(&self) -> Option<Advice> {
        let write_buffer = self.write_buffer?;
        let waited = self.waits > 0 && self.wait_time >= LONG_WAIT;
        let each = |bytes: u64| bytes / self.checkpoints.max(1);
        // Half a buffer of changed pages is what asks for a checkpoint. Whoever
        // asks for them himself has fewer.
        let frequent = self.checkpoints >= MANY_CHECKPOINTS
            && each(self.written.log_bytes) < SHORT_INTERVAL
            && each(self.written.table_bytes) >= write_buffer / 2;
        (waited || frequent).then_some(Advice::WriteBuffer {
            write_buffer,
            wait_time: self.wait_time,
            checkpoints: self.checkpoints,
            log_bytes: self.written.log_bytes,
        })
    }
}

/// Whether another slot payload would fit the entries of a table better.
fn slot_payload(census: &Census) -> Option<Advice> {
    let (payload, better) = (census.payload, census.best_payload());
    let (bytes, better_bytes) = (census.bytes_at(payload)?, census.bytes_at(better)?);
    let gain = bytes.saturating_sub(better_bytes);
    let worth = gain >= WORTH && gain >= bytes / GAIN_PARTS;
    worth.then(|| Advice::SlotPayload {
        table: census.table.clone(),
        payload,
        better,
        bytes,
        better_bytes,
    })
}

/// What is to be said of the pages of a table.
fn of_pages(table: &TableStats) -> Option<Advice> {
    let slots_per_page = Geometry::new(table.payload)?.slots_per_page() as u64;
    let bytes = table.capacity / slots_per_page * BLOCK;
    let utilisation = table.utilisation();
    let gain = (bytes as f64 * (1.0 - utilisation / COMPACTED).max(0.0)) as u64;
    if utilisation < LOW_UTILISATION && gain >= WORTH {
        return Some(Advice::LowUtilisation { table: table.name.clone(), utilisation, gain });
    }
    let (tombstones, slots) = (table.tombstones, table.capacity);
    let many = tombstones as f64 >= slots as f64 * MANY_TOMBSTONES;
    (many && bytes >= WORTH).then(|| Advice::Tombstones {
        table: table.name.clone(),
        tombstones,
        slots,
    })
}

impl Advice {
    /// A short name of what it is about, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Advice::SlotPayload { .. } => "slot_payload",
            Advice::LowUtilisation { .. } => "low_utilisation",
            Advice::Tombstones { .. } => "tombstones",
            Advice::DeadBytes { .. } => "dead_bytes",
            Advice::Snapshots { .. } => "snapshots",
            Advice::WriteBuffer { .. } => "write_buffer",
        }
    }

    /// The name of the table that it is about, if it is one.
    pub fn table(&self) -> Option<&str> {
        match self {
            Advice::SlotPayload { table, .. }
            | Advice::LowUtilisation { table, .. }
            | Advice::Tombstones { table, .. } => Some(table),
            Advice::DeadBytes { .. } | Advice::Snapshots { .. } | Advice::WriteBuffer { .. } => {
                None
            }
        }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Advice::SlotPayload { table, payload, better, bytes, better_bytes } => write!(
                f,
                "table {table}: a slot payload of {better} bytes, not {payload}, would make it \
                 about {} smaller, {} instead of {}; a compaction can change it",
                Size(bytes.saturating_sub(*better_bytes)),
                Size(*better_bytes),
                Size(*bytes)
            ),
            Advice::LowUtilisation { table, utilisation, gain } => write!(
                f,
                "table {table}: only {:.0} % of the slots are in use; \
                 a compaction would make it about {} smaller",
                utilisation * 100.0,
                Size(*gain)
            ),
            Advice::Tombstones { table, tombstones, slots } => write!(
                f,
                "table {table}: {:.0} % of the slots are tombstones, \
                 which make searches for absent keys longer; a compaction removes them",
                *tombstones as f64 / *slots as f64 * 100.0
            ),
            Advice::DeadBytes { dead, log } => write!(
                f,
                "of the {} of the log no entry needs {}; a compaction gives them back",
                Size(*log),
                Size(*dead)
            ),
            Advice::Snapshots { held, oldest_age, bytes } => {
                match held {
                    1 => write!(f, "1 snapshot has been held")?,
                    n => write!(f, "{n} snapshots are held, the oldest one")?,
                }
                write!(
                    f,
                    " for {} minutes, and only for that {} of the files are \
                     kept; they are given back when it is given up",
                    oldest_age.as_secs() / 60,
                    Size(*bytes)
                )
            }
            Advice::WriteBuffer { write_buffer, wait_time, checkpoints, log_bytes } => {
                let times =
                    if *checkpoints == 1 { "once" } else { &format!("{checkpoints} times") };
                write!(
                    f,
                    "changed pages were written {times} for {} of log, and writers waited {:.1} s: \
                     a write buffer larger than {} would save time",
                    Size(*log_bytes),
                    wait_time.as_secs_f64(),
                    Size(*write_buffer)
                )
            }
        }
    }
}

/// A number of bytes, as people read it.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 as f64 / (1 << 20) as f64 {
            mebibytes if mebibytes < 1024.0 => write!(f, "{mebibytes:.1} MiB"),
            mebibytes => write!(f, "{:.1} GiB", mebibytes / 1024.0),
        }
    }
}

#[cfg(test)]
#[path = "advice_tests.rs"]
mod tests;
