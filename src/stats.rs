//! What a store consists of and what it has done, in numbers.
//!
//! Everything here is known without looking at an entry: it is read under the
//! writer lock in microseconds, whatever the size of the store. What takes a
//! look at every entry is in a [`Survey`](crate::Survey). What the numbers mean
//! for whoever runs the store is said by [`Stats::advice`].
//!
//! ```text
//! Stats ─┬─ tables      entries, slots, segments, directory, blocks of the file
//!        ├─ log_files   and what is alive in them;  log_space: files beside these
//!        ├─ snapshots   how many are held, since when, and what they keep
//!        ├─ waits       what writers waited for, and how long
//!        ├─ written     bytes to the device, for how many bytes from the user
//!        └─ last_checkpoint
//! ```
//!
//! Counts of what was done begin when the store is opened.

mod advice;
mod snapshots;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::log::LogFileInfo;
use crate::options::HashKind;
use crate::store::{Core, Store};
use crate::table::{Table, Writer};

pub use advice::Advice;
pub use snapshots::SnapshotStats;

/// The bytes of a block.
const BLOCK: u64 = crate::format::BLOCK as u64;

/// Numbers about a store; see [`Db::stats`](crate::Db::stats).
///
/// ```
/// let db = swissdb::Db::in_memory()?;
/// db.insert("apple", "red")?;
/// db.checkpoint()?;
/// let stats = db.stats();
/// assert_eq!((stats.tables[0].entries, stats.commits), (1, 1));
/// assert_eq!(stats.written.user_bytes, 8);
/// assert!(stats.written.amplification().is_some_and(|times| times > 1.0));
/// assert!(stats.last_checkpoint.is_some());
/// # Ok::<(), swissdb::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Stats {
    /// The tables, the default one first.
    pub tables: Vec<TableStats>,
    /// The files of the log, oldest first.
    pub log_files: Vec<LogFileStats>,
    /// Files of the log that hold no commits.
    pub log_space: LogSpace,
    /// The number of the last commit, counted from the creation of the store.
    pub commits: u64,
    /// The last commit that survives power loss.
    pub durable_commit: u64,
    /// Pages in memory that differ from the table files.
    pub dirty_frames: usize,
    /// Pages in memory altogether.
    pub frames: usize,
    /// Dirty pages at which writers wait: the write buffer.
    pub frame_limit: usize,
    /// The same in bytes; none if the store is open for reading only.
    pub write_buffer: Option<u64>,
    /// Checkpoints since the store was opened.
    pub checkpoints: u64,
    /// The last one of them.
    pub last_checkpoint: Option<CheckpointStats>,
    /// Bytes of log that are not part of the table files yet: appended since the
    /// last checkpoint began. After a crash the next opening replays them. The
    /// next checkpoint is due, at the latest, when they are as many as the store
    /// has in tables and alive in the log, at least 64 MiB, at most 1 GiB; with a
    /// smaller [`Options::max_log_file`](crate::Options::max_log_file) less.
    pub log_since_checkpoint: u64,
    /// Writes that were slowed down since the store was opened, because the
    /// write buffer was filling up.
    pub slowed: u64,
    /// Writes that had to wait for a checkpoint since then, because the write
    /// buffer was full.
    pub waits: u64,
    /// The time that both took.
    pub wait_time: Duration,
    /// Writes and calls of [`Db::sync`](crate::Db::sync) that waited for a sync of
    /// the log since then: with [`Durability::Sync`](crate::Durability::Sync) all
    /// of them but those that another one's sync had covered already. Many share
    /// one sync: how many, says what `commits` grew by, divided by what
    /// `written.syncs` grew by.
    pub sync_waits: u64,
    /// The time that they waited, added up over all threads.
    pub sync_wait_time: Duration,
    /// Writes that had to wait for the next log file since then.
    pub log_waits: u64,
    /// The time that they waited.
    pub log_wait_time: Duration,
    /// Writes that were held up, 100 ms each at most, because too much of the log
    /// waited to be given back: for the cleaner, for a look at the log, or for a
    /// checkpoint.
    pub cleaner_waits: u64,
    /// The time that they waited.
    pub cleaner_wait_time: Duration,
    /// The snapshots that are held, and what they keep.
    pub snapshots: SnapshotStats,
    /// What was written since the store was opened.
    pub written: Written,
}

/// What was written since a store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Written {
    /// Bytes of keys and values that were asked to be written.
    pub user_bytes: u64,
    /// Bytes appended to the log, those that the cleaner put again included.
    pub log_bytes: u64,
    /// Bytes of `log_bytes` that the cleaner put again.
    pub moved_bytes: u64,
    /// Bytes of zeros written to new log files before their first use.
    pub zeroed_bytes: u64,
    /// Log files that were used again instead of being made.
    pub recycled_log_files: u64,
    /// Bytes written to table files by checkpoints.
    pub table_bytes: u64,
    /// Syncs of the log; one covers all its files with undurable bytes.
    pub syncs: u64,
    /// The time that they took.
    pub sync_time: Duration,
}

impl Written {
    /// Bytes written per byte that was asked to be written; none as long as
    /// there was none.
    pub fn amplification(&self) -> Option<f64> {
        let all = self.log_bytes + self.zeroed_bytes + self.table_bytes;
        (self.user_bytes > 0).then(|| all as f64 / self.user_bytes as f64)
    }
}

/// A checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointStats {
    /// How long ago it ended.
    pub age: Duration,
    /// How long it took.
    pub duration: Duration,
}

/// Files of the log that hold no commits, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LogSpace {
    /// Prepared to be the next file.
    pub prepared: u64,
    /// Kept to be recycled.
    pub spare: u64,
    /// Not needed any more, but still looked at by readers.
    pub retired: u64,
}

/// Numbers about a table.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TableStats {
    /// Its name.
    pub name: String,
    /// Its id in the log.
    pub id: u16,
    /// Bytes of key and value that a slot holds.
    pub payload: usize,
    /// How its keys are hashed.
    pub hash: HashKind,
    /// Entries.
    pub entries: u64,
    /// Slots.
    pub capacity: u64,
    /// Slots that may be filled before some segment is rebuilt, grown or split.
    pub growth_left: u64,
    /// Deleted slots that keep probes going.
    pub tombstones: u64,
    /// Segments.
    pub segments: u64,
    /// Bits of the root.
    pub root_depth: u8,
    /// Pages of the directory.
    pub directory_pages: u64,
    /// Bytes of the directory in the file: its pages and the root.
    pub directory_bytes: u64,
    /// The length of the table file in bytes.
    pub file_bytes: u64,
    /// Blocks of the file that are in use.
    pub blocks_used: u64,
    /// Blocks of the file that are not.
    pub blocks_free: u64,
    /// Free blocks at the end of the file that take no space on the device.
    pub blocks_holes: u64,
    /// How often the table was cleared.
    pub clears: u32,
    /// Bytes of the log that entries of this table need.
    pub live_log_bytes: u64,
}

impl TableStats {
    /// Entries per slot, 0 to 1.
    pub fn utilisation(&self) -> f64 {
        if self.capacity == 0 { 0.0 } else { self.entries as f64 / self.capacity as f64 }
    }

    /// The space that the table file takes on the device, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.file_bytes - self.blocks_holes * BLOCK
    }

    /// What a table of this name that is not there any more has: nothing.
    fn nothing(of: &Table) -> TableStats {
        TableStats {
            name: of.name.clone(),
            id: of.id,
            payload: of.geometry.payload(),
            hash: HashKind::default(),
            entries: 0,
            capacity: 0,
            growth_left: 0,
            tombstones: 0,
            segments: 0,
            root_depth: 0,
            directory_pages: 0,
            directory_bytes: 0,
            file_bytes: 0,
            blocks_used: 0,
            blocks_free: 0,
            blocks_holes: 0,
            clears: 0,
            live_log_bytes: 0,
        }
    }
}

/// Numbers about a file of the log.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LogFileStats {
    /// Its number.
    pub number: u32,
    /// Its length in bytes.
    pub bytes: u64,
    /// Bytes in it that entries need: their spilled keys and values.
    pub live: u64,
    /// Where its records end.
    pub end: u64,
    /// Its first commit; it holds none if its last commit is smaller.
    pub first_commit: u64,
    /// Its last commit.
    pub last_commit: u64,
    /// Whether commits are appended to it.
    pub active: bool,
}

impl LogFileStats {
    /// Bytes of records in it that no entry needs. Headers of records and keys
    /// and values that stand in slots are among them.
    pub fn dead(&self) -> u64 {
        self.end.saturating_sub(crate::format::record::LOG_START).saturating_sub(self.live)
    }
}

/// Collects the numbers.
pub(crate) fn collect(store: &Store) -> Stats {
    if store.is_forked() {
        return Stats::default();
    }
    let core = store.core_to_look();
    let log_files = store.log.files().into_iter().map(|file| log_file(&core, file)).collect();
    let (signals, space) = (&store.signals, &store.space);
    let commits = store.log.appended().max(core.position().commit);
    // What a reader finds in the files, it found after a crash or a close.
    let durable = if store.options.read_only { commits } else { store.log.durable() };
    let last_checkpoint = signals.last_checkpoint().map(|ended| CheckpointStats {
        age: ended.elapsed(),
        duration: nanos(&signals.checkpoint_nanos),
    });
    let written = written(store, &core);
    let usage = store.log.usage();
    let counters = store.log.counters();
    let snapshots = snapshots::collect(store, &core, commits);
    Stats {
        tables: core.writers().map(table).collect(),
        log_files,
        log_space: LogSpace {
            prepared: usage.prepared,
            spare: usage.spares,
            retired: usage.retired,
        },
        commits,
        durable_commit: durable,
        dirty_frames: core.ws.pool.dirty(),
        frames: core.ws.pool.in_use(),
        frame_limit: signals.limit(),
        write_buffer: (!store.options.read_only).then(|| signals.limit() as u64 * BLOCK),
        checkpoints: crate::checkpoint::count(store),
        last_checkpoint,
        log_since_checkpoint: store.log_since_checkpoint(&core),
        slowed: count(&signals.slowed),
        waits: count(&signals.waits),
        wait_time: nanos(&signals.wait_nanos),
        sync_waits: counters.sync_waits,
        sync_wait_time: counters.sync_wait_time,
        log_waits: counters.waits,
        log_wait_time: counters.wait_time,
        cleaner_waits: count(&space.waits),
        cleaner_wait_time: nanos(&space.wait_nanos),
        snapshots,
        written,
    }
}

/// What was written since the store was opened.
fn written(store: &Store, core: &Core) -> Written {
    let counters = store.log.counters();
    let moved_bytes = count(&store.space.moved_bytes);
    let (user, log_bytes) =
        core.appender.as_ref().map_or((0, 0), |log| (log.user_bytes(), log.bytes_total()));
    Written {
        // To the appender the cleaner is a user like others.
        user_bytes: user.saturating_sub(moved_bytes),
        log_bytes,
        moved_bytes,
        zeroed_bytes: counters.zeroed,
        recycled_log_files: counters.recycled,
        table_bytes: count(&store.signals.table_bytes),
        syncs: counters.syncs,
        sync_time: counters.sync_time,
    }
}

/// The numbers of a file of the log.
fn log_file(core: &Core, file: LogFileInfo) -> LogFileStats {
    // Nobody has told a log that is only read where its last file ends.
    let position = core.position();
    let (end, last_commit) = match position.file == file.number {
        true => (position.offset.into(), position.commit),
        false => (file.end, file.last_commit),
    };
    LogFileStats {
        number: file.number,
        bytes: file.size,
        // A count that went wrong is too large until it is counted anew.
        live: core.live_in(file.number).min(file.size),
        end,
        first_commit: file.first_commit,
        last_commit,
        active: file.active,
    }
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn nanos(counter: &AtomicU64) -> Duration {
    Duration::from_nanos(count(counter))
}

/// The numbers of one table.
pub(crate) fn of_table(store: &Store, of: &Table) -> TableStats {
    if store.is_forked() {
        return TableStats::nothing(of);
    }
    let core = store.core_to_look();
    core.writer(of.id).map(table).unwrap_or_else(|| TableStats::nothing(of))
}

fn table(writer: &Writer) -> TableStats {
    let usage = writer.blocks.usage();
    let directory_pages = writer.directory_pages();
    TableStats {
        name: writer.table.name.clone(),
        id: writer.table.id,
        payload: writer.table.geometry.payload(),
        hash: HashKind::from_id(writer.hash_id).unwrap_or_default(),
        entries: writer.totals.used,
        capacity: writer.totals.slots,
        growth_left: writer.totals.growth_left(),
        tombstones: writer.totals.tombstones,
        segments: writer.totals.segments,
        root_depth: writer.root_depth(),
        directory_pages,
        directory_bytes: (directory_pages + u64::from(writer.root_run.blocks)) * BLOCK,
        file_bytes: u64::from(usage.total) * BLOCK,
        blocks_used: u64::from(usage.total - usage.free),
        blocks_free: usage.free.into(),
        blocks_holes: usage.holes.into(),
        clears: writer.clears,
        live_log_bytes: writer.live.values().sum(),
    }
}
