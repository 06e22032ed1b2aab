//! The log: write-ahead log and store of long values in one.
//!
//! Every commit is one record, appended once. What is short is copied into the
//! table from there; what is long stays, and the table keeps its address. The
//! log is a chain of files, each of which says where the one before it ended:
//!
//! ```text
//!  00000007.log             00000008.log             00000009.log
//! ┌──────┬──┬────┬───┬ ─ ┐ ┌──────┬───┬─┬─────┬─ ─┐ ┌──────┬ ─ ─ ─ ─ ─ ─ ┐
//! │header│  │    │   │old│ │header│   │ │     │ 0  │ │header│ 0            │
//! └──────┴──┴────┴───┴ ─ ┘ └──┬───┴───┴─┴─────┴─ ─┘ └──────┴ ─ ─ ─ ─ ─ ─ ┘
//!                    ▲        │ activation     ▲      prepared, not activated
//!                    └────────┘                └ end of the log
//!      7 ends here; what lies behind is ignored
//! ```
//!
//! This module knows files and records. It does not know tables, nor which
//! values are alive: others tell it from where to read ([`Log::scan`]) and
//! which files hold nothing any more ([`Log::retire`]).
//!
//! ```text
//! files     which files there are, the set that readers look into
//! prepare   making the next file, recycling old ones
//! writer    the appender: reserve, append, activate, rotate
//! put       one record: together, checksummed, into the file
//! sync      group commit                      keeper    the background
//! crowd     how many writers a sync waits for
//! scan      walking the chain, end or gap     evidence  what shows a gap
//! single    walking one file                  space     giving space back
//! recover   after a crash: going on           small     making the log small
//! values    reading in place                  poison    no writes after a failure
//! counters  what was done, for statistics     reserve   for a full device
//! zeros     for new files                     pace      how long they are worth it
//! kept      files with values that no longer say they are part of the log
//! work      who is at a file
//! ```
//!
//! # Invariants
//!
//! 1. The numbers of files grow along the chain, and none that was activated is
//!    used twice.
//! 2. An activated file was durable, with its header and its name, before.
//! 3. A file's bytes below its published end do not change in this life of it, and
//!    it begins another one only under the opening that activated it.
//! 4. `durable <= appended`, and both only grow. What is durable is a prefix.
//! 5. A record's "known durable" was true before the record was written.
//! 6. Behind the end of the log, in the active file, nothing is valid under the
//!    file's salt: it is new or recycled, or it was closed cleanly, or it was
//!    activated after the crash.
//!
//! # Threads
//!
//! A [`Log`] is shared by all threads; an [`Appender`] belongs to the holder of
//! the writer lock. The locks in here are held for a few instructions only,
//! never during I/O, and are taken one at a time.

mod counters;
mod crowd;
mod evidence;
mod files;
mod keeper;
mod kept;
mod pace;
mod poison;
mod prepare;
mod put;
mod reader;
mod recover;
mod reserve;
mod scan;
mod single;
mod small;
mod space;
mod sync;
mod values;
mod work;
mod writer;
mod zeros;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::counters::Counters;
use self::files::{DIRECTORY, Damaged, FileSet, Found, TEMPORARY};
use self::keeper::Work;
use self::prepare::Next;
use self::sync::SyncState;
use crate::error::{Error, Result};
use crate::format::record::{Activation, LOG_START};
use crate::storage::Storage;
use crate::storage::pins::{self, Protected};

pub(crate) use self::keeper::KEEPERS;
pub(crate) use self::poison::Poison;
pub(crate) use self::put::Placed;
pub(crate) use self::scan::Replayed;
pub(crate) use self::values::HeldFiles;
pub(crate) use self::writer::{Appender, Room};

/// The size of the first log file in bytes, and the least of all.
pub(crate) const MIN_FILE: u64 = 1 << 20;

/// How much of the active file is mapped for writing ahead of use, in bytes.
const WINDOW: u64 = 1 << 20;

/// How a log is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogOptions {
    /// The size at which files stop growing, in bytes: from 1 MiB to 64 MiB,
    /// a multiple of 4096.
    pub(crate) max_file: u64,
    /// Whether nothing may be written, not even what cleans up.
    pub(crate) read_only: bool,
    /// Whether records are written by system calls, not through mappings: for
    /// logs that are synced after each.
    pub(crate) append_by_call: bool,
}

/// A log, shared by all who read and write it.
pub(crate) struct Log {
    /// What changes with every commit, away from what readers load.
    hot: Hot,
    /// The activated files.
    files: Protected<FileSet>,
    storage: Arc<dyn Storage>,
    options: LogOptions,
    poison: Arc<Poison>,
    /// Held while the set of files is replaced.
    change: Mutex<()>,
    /// Files whose first block cannot be read.
    damaged: Vec<Damaged>,
    /// The highest number of a file that was there when the log was opened.
    inherited: u32,
    /// The number of the file that is appended to, 0 while there is none.
    active: AtomicU32,
    durable: AtomicU64,
    /// The last file that was activated without a record, and the last such
    /// file whose activation is durable.
    rotated: AtomicU32,
    settled: AtomicU32,
    /// Whether most of what was appended last was written by calls.
    by_calls: AtomicBool,
    sync: Mutex<SyncState>,
    synced: [Condvar; 2],
    work: Mutex<Work>,
    wake: Condvar,
    next: Mutex<Next>,
    prepared: Condvar,
    counters: Counters,
}

/// What every append touches.
#[repr(align(128))]
#[derive(Default)]
struct Hot {
    /// The last commit in the log.
    appended: AtomicU64,
    /// Whether the keepers know that there are undurable bytes.
    dirty: AtomicBool,
}

/// What is known of a file of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogFileInfo {
    pub(crate) number: u32,
    /// Its length in bytes.
    pub(crate) size: u64,
    /// The number of its first commit, which is there if `last_commit` is not
    /// smaller.
    pub(crate) first_commit: u64,
    /// Its last commit, or a later one if nobody states the file's end.
    pub(crate) last_commit: u64,
    /// Where its records end, in bytes; its length if nobody states it.
    pub(crate) end: u64,
    /// Whether it is the file that is appended to.
    pub(crate) active: bool,
}

impl Log {
    /// Makes a log where there is none: its directory and its first file,
    /// both durable when this returns.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if there are log files already; `ReadOnly`, `Io`.
    pub(crate) fn create(
        storage: Arc<dyn Storage>,
        options: LogOptions,
        poison: Arc<Poison>,
    ) -> Result<(Arc<Log>, Appender)> {
        if options.read_only {
            return Err(Error::ReadOnly);
        }
        let made = storage.create_directory(DIRECTORY);
        made.map_err(|error| Error::io("create", storage.path(DIRECTORY), error))?;
        let found = files::find(&*storage)?;
        if found.highest != 0 {
            let path = storage.path(DIRECTORY);
            return Err(Error::invalid(format!("{} holds a log already", path.display())));
        }
        let log = Arc::new(Log::new(storage, options, poison, found));
        let fresh = log.prepare_first()?;
        let activation =
            Activation { previous: 0, previous_end: 0, last_commit: 0, salt: fresh.salt };
        let current = writer::start(&log, fresh, activation)?;
        let number = current.log.number;
        log.sync_activation(&current)?;
        let above = log.storage.sync_directory("");
        above.map_err(|error| Error::io("sync", log.storage.path(""), error))?;
        debug_assert_eq!(number, 1, "the first file of a log");
        let at = current.log.position(LOG_START, 0);
        let appender = Appender::new(log.clone(), current, at, true);
        Ok((log, appender))
    }

    /// Opens a log: reads the first blocks of its files and maps them. Costs
    /// some system calls per file; no record is read.
    ///
    /// # Errors
    ///
    /// `Corrupt` if there is no directory for it, `Version` if a newer program
    /// wrote a file, `Io`. A damaged file is an error only for those who need it.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        options: LogOptions,
        poison: Arc<Poison>,
    ) -> Result<Arc<Log>> {
        let found = files::find(&*storage)?;
        if !options.read_only {
            // Absent as a rule; if it stays, making a new file meets it again.
            let _ = storage.remove(TEMPORARY);
        }
        Ok(Arc::new(Log::new(storage, options, poison, found)))
    }

    fn new(
        storage: Arc<dyn Storage>,
        options: LogOptions,
        poison: Arc<Poison>,
        found: Found,
    ) -> Log {
        let Found { set, prepared, damaged, highest } = found;
        Log {
            hot: Hot::default(),
            files: Protected::new(Box::new(set)),
            storage,
            options,
            poison,
            change: Mutex::new(()),
            damaged,
            inherited: highest,
            active: AtomicU32::new(0),
            durable: AtomicU64::new(0),
            rotated: AtomicU32::new(0),
            settled: AtomicU32::new(0),
            by_calls: AtomicBool::new(options.append_by_call),
            sync: Mutex::default(),
            synced: Default::default(),
            work: Mutex::new(Work::new()),
            wake: Condvar::new(),
            next: Mutex::new(Next::new(highest, prepared)),
            prepared: Condvar::new(),
            counters: Counters::default(),
        }
    }

    /// All files of the log, in order.
    pub(crate) fn files(&self) -> Vec<LogFileInfo> {
        let active = self.active.load(Relaxed);
        let appended = self.appended();
        let info = |file: &Arc<files::LogFile>| {
            let active = file.number == active;
            LogFileInfo {
                number: file.number,
                size: file.size,
                first_commit: file.activation.last_commit.saturating_add(1),
                last_commit: if active { appended } else { file.last_commit() },
                end: file.end(),
                active,
            }
        };
        self.files.load(&pins::pin()).iter().map(info).collect()
    }

    /// Ends the background work, waits for whoever else is at a file, makes
    /// everything durable and removes files that hold nothing, the one prepared
    /// included. After a failure it writes nothing.
    ///
    /// # Errors
    ///
    /// `Io` if the last sync fails, `Poisoned`.
    pub(crate) fn close(&self) -> Result<()> {
        self.stop();
        if self.options.read_only {
            return Ok(());
        }
        self.end_work();
        self.poison.check()?;
        self.sync_to(u64::MAX)?;
        self.remove_spares();
        Ok(())
    }

    /// Puts a changed set of files in place of the current one.
    fn change_files(&self, change: impl FnOnce(&FileSet) -> FileSet) {
        let guard = lock(&self.change);
        let set = change(self.files.load(&pins::pin()));
        let old = self.files.replace(Box::new(set));
        drop(guard);
        // Readers may still use it; it is freed some time after they are done.
        drop(old);
    }

    /// A step that was not taken: nothing has been written.
    fn refused(&self, doing: &'static str, name: &str, error: io::Error) -> Error {
        Error::io(doing, self.storage.path(name), error)
    }

    /// A write or sync that failed: unless the device is just full, it cannot
    /// be trusted with anything else.
    fn failed(&self, doing: &'static str, name: &str, error: io::Error) -> Error {
        let error = self.refused(doing, name, error);
        if !error.is_full() {
            self.poison.set(&error);
        }
        error
    }
}

/// Locks. Whoever panicked with the lock held left nothing half done: what the
/// locks in here guard is changed by single assignments.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits to be woken.
fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// Waits to be woken, or for some time.
fn wait_for<'a, T>(
    condition: &Condvar,
    guard: MutexGuard<'a, T>,
    time: Duration,
) -> MutexGuard<'a, T> {
    condition.wait_timeout(guard, time).unwrap_or_else(PoisonError::into_inner).0
}

#[cfg(test)]
mod tests;
