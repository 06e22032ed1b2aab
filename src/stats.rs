//! What a store consists of, in numbers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::options::HashKind;
use crate::store::Store;
use crate::table::{Table, Writer};

/// Numbers about a store; see [`Db::stats`](crate::Db::stats).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stats {
    /// The tables, the default one first.
    pub tables: Vec<TableStats>,
    /// The files of the log, oldest first.
    pub log_files: Vec<LogFileStats>,
    /// The last commit.
    pub commits: u64,
    /// The last commit that survives power loss.
    pub durable_commit: u64,
    /// Pages in memory that differ from the table files.
    pub dirty_frames: usize,
    /// Pages in memory altogether.
    pub frames: usize,
    /// Dirty pages at which writers wait: the write buffer.
    pub frame_limit: usize,
    /// Checkpoints since the store was opened.
    pub checkpoints: u64,
    /// Writes that were slowed down since then.
    pub slowed: u64,
    /// Writes that had to wait for a checkpoint since then.
    pub waits: u64,
    /// The time that both took.
    pub wait_time: Duration,
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
    /// The length of the table file in bytes.
    pub file_bytes: u64,
    /// Blocks of the file that are in use.
    pub blocks_used: u64,
    /// Blocks of the file that are not.
    pub blocks_free: u64,
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
}

/// Numbers about a file of the log.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LogFileStats {
    /// Its number.
    pub number: u32,
    /// Its length in bytes.
    pub bytes: u64,
    /// Bytes in it that entries need.
    pub live: u64,
    /// Where its records end.
    pub end: u64,
    /// Its first commit.
    pub first_commit: u64,
    /// Its last commit.
    pub last_commit: u64,
    /// Whether commits are appended to it.
    pub active: bool,
}

/// Collects the numbers.
pub(crate) fn collect(store: &Store) -> Stats {
    let core = store.core_to_look();
    let log_files = store.log.files().into_iter().map(|file| LogFileStats {
        number: file.number,
        bytes: file.size,
        live: core.writers().filter_map(|writer| writer.live.get(&file.number)).sum(),
        end: file.end,
        first_commit: file.first_commit,
        last_commit: file.last_commit,
        active: file.active,
    });
    let log_files = log_files.collect();
    let signals = &store.signals;
    let commits = store.log.appended().max(core.position().commit);
    // What a reader finds in the files, it found after a crash or a close.
    let durable = if store.options.read_only { commits } else { store.log.durable() };
    Stats {
        tables: core.writers().map(table).collect(),
        log_files,
        commits,
        durable_commit: durable,
        dirty_frames: core.ws.pool.dirty(),
        frames: core.ws.pool.in_use(),
        frame_limit: signals.limit(),
        checkpoints: crate::checkpoint::count(store),
        slowed: signals.slowed.load(Ordering::Relaxed),
        waits: signals.waits.load(Ordering::Relaxed),
        wait_time: Duration::from_nanos(signals.wait_nanos.load(Ordering::Relaxed)),
    }
}

/// The numbers of one table.
pub(crate) fn of_table(store: &Store, of: &Table) -> TableStats {
    let core = store.core_to_look();
    let writer = core.writer(of.id);
    writer.map(table).unwrap_or_else(|| TableStats {
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
        file_bytes: 0,
        blocks_used: 0,
        blocks_free: 0,
        clears: 0,
        live_log_bytes: 0,
    })
}

fn table(writer: &Writer) -> TableStats {
    let usage = writer.blocks.usage();
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
        file_bytes: u64::from(usage.total) * 4096,
        blocks_used: u64::from(usage.total - usage.free),
        blocks_free: usage.free.into(),
        clears: writer.clears,
        live_log_bytes: writer.live.values().sum(),
    }
}
