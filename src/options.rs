//! The settings of a store and of a table.
//!
//! Fewer than ten, each with its price. Everything has a default that suits a
//! store of small entries; nothing here needs to be set to be safe.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::format::group::Geometry;

/// When a commit survives power loss. A killed process never loses one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// A write returns at once and survives power loss after at most the sync
    /// interval plus one sync, or after the next [`Db::sync`](crate::Db::sync).
    #[default]
    Buffered,
    /// A write returns when it survives power loss, and so does the creation of
    /// a table: one `fdatasync`, which writers that wait at the same time share.
    /// One that finds nothing to change returns when what it has found survives.
    /// A read waits for nothing: it may see a commit whose sync has not ended.
    Sync,
}

/// How keys are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum HashKind {
    /// SipHash-1-3 under a random key: nobody who chooses keys can make them
    /// collide. Some 10 ns for a short key.
    #[default]
    Sip,
    /// rapidhash v3 with random secrets: some 3 ns for a short key. For keys
    /// that no adversary chooses.
    Fast,
}

/// How a store is opened, and what new tables in it are like.
///
/// ```
/// use std::time::Duration;
/// # let dir = tempfile::tempdir()?;
/// let db = swissdb::Options::new()
///     .payload(48)
///     .sync_interval(Duration::from_millis(100))
///     .open(dir.path().join("store"))?;
/// db.insert("sixteen byte key", "a value of up to 32 bytes")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "options do nothing until something is opened with them"]
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) payload: usize,
    pub(crate) write_buffer: Option<usize>,
    pub(crate) sync_interval: Duration,
    pub(crate) durability: Durability,
    pub(crate) hash: HashKind,
    pub(crate) read_only: bool,
    pub(crate) create: bool,
    pub(crate) max_log_file: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            payload: 56,
            write_buffer: None,
            sync_interval: Duration::from_millis(500),
            durability: Durability::Buffered,
            hash: HashKind::Sip,
            read_only: false,
            create: true,
            max_log_file: 64 << 20,
        }
    }
}

/// The smallest write buffer: room for the largest single step, several times.
pub(crate) const MIN_WRITE_BUFFER: usize = 1 << 20;
/// The largest one: page words can tell some more frames apart than it has.
const MAX_WRITE_BUFFER: u64 = 1 << 40;

impl Options {
    /// The defaults.
    pub fn new() -> Options {
        Options::default()
    }

    /// Bytes of key and value together that a slot holds: 24 to 504 in steps
    /// of 8, default 56. Fixed when a table is created.
    ///
    /// Entries that fit cost one page of the table file to read; what does not
    /// fit is kept in the log and costs one read more. Every slot takes this
    /// space whether it is filled or not: choose what nine of ten entries fit.
    pub fn payload(mut self, bytes: usize) -> Options {
        self.payload = bytes;
        self
    }

    /// Memory for changed pages, in bytes; default a quarter of the memory (or
    /// of the cgroup's limit), at least 16 MiB, at most 1 GiB. It is taken as pages
    /// change, up to 64 MiB of it ahead of use. A large batch may take up to twice
    /// as much. What was taken is given back when the last handle is gone.
    ///
    /// Larger: fewer checkpoints, each page written less often. Smaller: less
    /// memory, and writers wait sooner for the disk. 1 MiB to 1 TiB. It is large
    /// enough as long as [`Stats::waits`](crate::Stats::waits) stays 0 under the
    /// usual load; else double it.
    pub fn write_buffer(mut self, bytes: usize) -> Options {
        self.write_buffer = Some(bytes);
        self
    }

    /// How long a buffered commit may stay without being made durable, counted
    /// from the first one; default 500 ms.
    ///
    /// Shorter: less to lose with the power. Longer: fewer syncs.
    pub fn sync_interval(mut self, interval: Duration) -> Options {
        self.sync_interval = interval;
        self
    }

    /// Whether each commit waits until it survives power loss; default
    /// [`Durability::Buffered`].
    pub fn durability(mut self, durability: Durability) -> Options {
        self.durability = durability;
        self
    }

    /// How the keys of new tables are hashed; default [`HashKind::Sip`].
    pub fn hash(mut self, kind: HashKind) -> Options {
        self.hash = kind;
        self
    }

    /// Opens for reading only; default no. Nothing is written, not one byte;
    /// any number of processes may do so while no one has it open for writing.
    /// A store that was not closed is replayed at each such opening, into memory
    /// of its own.
    pub fn read_only(mut self, yes: bool) -> Options {
        self.read_only = yes;
        self
    }

    /// Whether a store that is not there is created; default yes.
    pub fn create(mut self, yes: bool) -> Options {
        self.create = yes;
        self
    }

    /// The largest ordinary log file in bytes, 1 MiB to 64 MiB in steps of 4096;
    /// default 64 MiB.
    ///
    /// Smaller files are recycled sooner and hold less garbage; larger ones
    /// cost fewer syncs of names. A value that does not fit the next ordinary
    /// file gets one of its own.
    ///
    /// It also bounds the log between two checkpoints (four times as much, at most
    /// 64 MiB, if the tables are small; sixteen times at most) and the garbage in
    /// the log: smaller means more checkpoints, less to replay, less space.
    pub fn max_log_file(mut self, bytes: u64) -> Options {
        self.max_log_file = bytes;
        self
    }

    /// Bytes of log between two checkpoints: at least, and at most; in between,
    /// as many as the store has. 64 MiB and 1 GiB with log files of 64 MiB;
    /// smaller files are to be recycled sooner.
    pub(crate) fn log_share(&self) -> (u64, u64) {
        let file = self.max_log_file;
        ((4 * file).clamp(4 << 20, 64 << 20), 16 * file)
    }

    /// Refuses settings out of their range.
    pub(crate) fn check(&self) -> Result<()> {
        check_payload(self.payload)?;
        let sizes = MIN_WRITE_BUFFER as u64..=MAX_WRITE_BUFFER;
        if self.write_buffer.is_some_and(|bytes| !sizes.contains(&(bytes as u64))) {
            return Err(Error::invalid("the write buffer must be 1 MiB to 1 TiB"));
        }
        if !(1 << 20..=64 << 20).contains(&self.max_log_file)
            || !self.max_log_file.is_multiple_of(4096)
        {
            return Err(Error::invalid(
                "the largest log file must be 1 MiB to 64 MiB, in steps of 4096 bytes",
            ));
        }
        Ok(())
    }
}

/// What a table is created with; see [`Db::create_table`](crate::Db::create_table).
#[must_use = "options do nothing until a table is created with them"]
#[derive(Debug, Clone, Default)]
pub struct TableOptions {
    pub(crate) payload: Option<usize>,
    pub(crate) hash: Option<HashKind>,
}

impl TableOptions {
    /// The settings of the [`Options`] that the store was opened with.
    pub fn new() -> TableOptions {
        TableOptions::default()
    }

    /// The slot payload of this table; see [`Options::payload`].
    pub fn payload(mut self, bytes: usize) -> TableOptions {
        self.payload = Some(bytes);
        self
    }

    /// How the keys of this table are hashed; see [`Options::hash`].
    pub fn hash(mut self, kind: HashKind) -> TableOptions {
        self.hash = Some(kind);
        self
    }
}

/// Refuses a slot payload that the format does not know.
pub(crate) fn check_payload(bytes: usize) -> Result<Geometry> {
    Geometry::new(bytes).ok_or_else(|| {
        Error::invalid(format!(
            "the slot payload must be 24 to 504 bytes in steps of 8, not {bytes}"
        ))
    })
}
