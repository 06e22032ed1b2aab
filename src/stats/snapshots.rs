//! What snapshots keep.
//!
//! A snapshot costs nothing as long as the store needs what it sees as well.
//! What is replaced or removed later is kept for its sake alone: pages in
//! memory until a checkpoint has written the state that it sees, then blocks of
//! table files and files of the log. How much that is now is counted here, so
//! that whoever wonders why files grow can see who keeps them.
//!
//! A snapshot of a store that is open for reading only keeps nothing: nothing
//! is replaced there.

use std::time::Duration;

use super::BLOCK;
use crate::store::{Core, Store};

/// The snapshots of a store that are held, and what they keep; see
/// [`Db::snapshot`](crate::Db::snapshot).
///
/// ```
/// let db = swissdb::Db::in_memory()?;
/// db.insert("sky", "blue")?;
/// let snapshot = db.snapshot()?;
/// db.insert("sky", "grey")?;
/// let stats = db.stats().snapshots;
/// assert_eq!((stats.held, stats.oldest_commits), (1, Some(1)));
/// drop(snapshot);
/// assert_eq!(db.stats().snapshots.held, 0);
/// # Ok::<(), swissdb::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SnapshotStats {
    /// Snapshots that are held; clones of one are one. None of a store that is
    /// open for reading only: they keep nothing there.
    pub held: u64,
    /// Those of them whose state is still being written: their first read waits
    /// for that.
    pub waiting: u64,
    /// Commits since the oldest of them.
    pub oldest_commits: Option<u64>,
    /// How long ago the oldest of them was taken.
    pub oldest_age: Option<Duration>,
    /// Bytes of pages in memory that have been replaced already, and are kept
    /// until the checkpoint of a snapshot, or any other, has written them.
    pub frame_bytes: u64,
    /// Bytes of table files that nothing but snapshots needs.
    pub block_bytes: u64,
    /// Bytes of log files that nothing but snapshots needs.
    pub log_bytes: u64,
}

/// Collects the numbers. The last commit is `commits`.
pub(super) fn collect(store: &Store, core: &Core, commits: u64) -> SnapshotStats {
    let taken = store.snapshots.taken();
    let blocks: usize = core.writers().map(|writer| writer.blocks.held_count()).sum();
    SnapshotStats {
        held: taken.snapshots,
        waiting: taken.waiting,
        oldest_commits: taken.oldest.map(|(commit, _)| commits.saturating_sub(commit)),
        oldest_age: taken.oldest.map(|(_, began)| began.elapsed()),
        frame_bytes: core.ws.pool.superseded() as u64 * BLOCK,
        block_bytes: blocks as u64 * BLOCK,
        log_bytes: log_bytes(store, core),
    }
}

/// Bytes of the log files that would have been let go but for snapshots: the
/// tables hold all their commits, and nothing is alive in them.
fn log_bytes(store: &Store, core: &Core) -> u64 {
    let held = store.snapshots.files();
    if held.is_empty() {
        return 0;
    }
    let passed = core.checkpointed_commit;
    let files = store.log.files().into_iter();
    let kept = files.filter(|file| {
        let over = !file.active && file.last_commit <= passed && core.live_in(file.number) == 0;
        over && held.contains(&file.number)
    });
    kept.map(|file| file.size).sum()
}
