//! What the log has done since it was opened, for statistics.
//!
//! Everything counted here is slow already: a sync, a file filled with zeros,
//! a writer that waits for a file. Appending counts nothing here; what is
//! appended is known to the [`Appender`](super::Appender). This module does not
//! know what the numbers are shown as.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::Log;

/// What the log has done since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LogCounters {
    /// Zeros written into new files, in bytes.
    pub(crate) zeroed: u64,
    /// Files that were used again instead of being made.
    pub(crate) recycled: u64,
    /// How often the log was synced: one sync covers all files with undurable
    /// bytes, for all who wait.
    pub(crate) syncs: u64,
    /// How long these took together.
    pub(crate) sync_time: Duration,
    /// How often a writer waited until its commits were durable, and those who
    /// synced for all are among them.
    pub(crate) sync_waits: u64,
    /// How long they waited together.
    pub(crate) sync_wait_time: Duration,
    /// How often somebody found no file for a record prepared.
    pub(crate) waits: u64,
    /// How long they waited for files, or made them, together.
    pub(crate) wait_time: Duration,
}

/// The numbers as they are counted.
#[derive(Default)]
pub(super) struct Counters {
    zeroed: AtomicU64,
    recycled: AtomicU64,
    syncs: AtomicU64,
    sync_nanos: AtomicU64,
    sync_waits: AtomicU64,
    sync_wait_nanos: AtomicU64,
    waits: AtomicU64,
    wait_nanos: AtomicU64,
}

impl Counters {
    /// Zeros were written.
    pub(super) fn zeroed(&self, bytes: u64) {
        self.zeroed.fetch_add(bytes, Relaxed);
    }

    /// A file is used again.
    pub(super) fn recycled(&self) {
        self.recycled.fetch_add(1, Relaxed);
    }

    /// A sync ended that began at that time.
    pub(super) fn synced(&self, since: Instant) {
        self.syncs.fetch_add(1, Relaxed);
        self.sync_nanos.fetch_add(nanos(since), Relaxed);
    }

    /// A writer's wait for a sync ended that began at that time.
    pub(super) fn waited_for_sync(&self, since: Instant) {
        self.sync_waits.fetch_add(1, Relaxed);
        self.sync_wait_nanos.fetch_add(nanos(since), Relaxed);
    }

    /// A wait for a file ended that began at that time.
    pub(super) fn waited(&self, since: Instant) {
        self.waits.fetch_add(1, Relaxed);
        self.wait_nanos.fetch_add(nanos(since), Relaxed);
    }
}

/// Nanoseconds since then: enough for 584 years.
fn nanos(since: Instant) -> u64 {
    since.elapsed().as_nanos() as u64
}

impl Log {
    /// What was done since the log was opened. The numbers are read one after
    /// the other, while others may count on.
    pub(crate) fn counters(&self) -> LogCounters {
        let of = &self.counters;
        let time = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Relaxed));
        LogCounters {
            zeroed: of.zeroed.load(Relaxed),
            recycled: of.recycled.load(Relaxed),
            syncs: of.syncs.load(Relaxed),
            sync_time: time(&of.sync_nanos),
            sync_waits: of.sync_waits.load(Relaxed),
            sync_wait_time: time(&of.sync_wait_nanos),
            waits: of.waits.load(Relaxed),
            wait_time: time(&of.wait_nanos),
        }
    }
}
