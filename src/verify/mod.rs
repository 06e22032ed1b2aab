//! Checking a whole store: the invariants I1 to I19 of format.md, as code.
//!
//! Two states of a store are checked, for both are real at the same time:
//!
//! * **The disk**: what the newest valid header of each table file reaches is
//!   a complete table, whatever happened in memory since, because nothing that
//!   it reaches is ever overwritten. All invariants hold for it.
//! * **Memory**, of an open store: every segment as a lookup finds it, dirty
//!   pages included, against the sums that the store keeps. Only what lies in
//!   files (copies of the header, checksums, the free map) has no twin there.
//!
//! ```text
//! headers   I1 I2 I19        both copies, the hash, names and ids
//! logs      I15 I17 I18      log files, the chain of records, addresses
//! tree      I3-I7 I13 I14 I16  root, directory, free map, and every segment
//! segment   I7-I12           one segment: pure, on copies of its pages
//! memory    I5 I8-I13 I15 I16  the same for what lies in memory
//! reached, sums              blocks and sums, counted
//! findings                   violations, gathered
//! ```
//!
//! # Rules
//!
//! 1. Every violation is found, not only the first: what cannot be read is
//!    reported and passed over, and what can no longer be judged without it
//!    (sums over everything, searches that lead through it) is left out.
//! 2. Nothing that stands in the files is believed before it is bounded: no
//!    panic, no endless loop, and memory for one segment, a few buffers and a
//!    bit per block. The list of violations is bounded as well.
//! 3. No byte is changed.
//!
//! Everything is read with calls, not through mappings, so that a device that
//! cannot deliver a block is a violation, not a signal.
//!
//! # Locks
//!
//! An open store is checked under the writer lock, with checkpoints kept away.
//! Readers go on. The log may prepare its next file meanwhile.

mod display;
mod findings;
mod headers;
pub(crate) mod logs;
mod memory;
mod reached;
pub(crate) mod segment;
mod sums;
mod tree;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::options::Options;
use crate::storage::files::Files;
use crate::storage::{LockOutcome, Storage};
use crate::store::Store;
use findings::Findings;
use logs::Logs;

/// What a check of a store found.
///
/// Printed, it is a line for each violation and one with the counts.
#[must_use = "damage is no error: it stands in the report"]
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Report {
    /// The violations of invariants, the first 10,000 of them.
    pub violations: Vec<Violation>,
    /// How many more there are.
    pub unlisted: u64,
    /// What was looked at.
    pub checked: Checked,
}

/// A violated invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// Its id in format.md, as in `I6`; `open` for damage that keeps a store
    /// from being opened and that no invariant names.
    pub invariant: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The offset in it, in bytes; 0 for what lies in memory only.
    pub offset: u64,
    /// What is wrong.
    pub text: String,
}

/// How much a check has looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// Table files.
    pub tables: u64,
    /// Entries: of the open store, or else of the table files.
    pub entries: u64,
    /// Segments, of the same.
    pub segments: u64,
    /// Directory pages in the table files.
    pub directory_pages: u64,
    /// Pages of segments in the table files.
    pub pages: u64,
    /// Changed pages in memory.
    pub frames: u64,
    /// Keys and values in the log, and their bytes.
    pub spilled: u64,
    /// The bytes of these keys and values.
    pub spilled_bytes: u64,
    /// Log files.
    pub log_files: u64,
    /// Records from the place that the table files are equal to, to the end.
    pub log_records: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

/// Checks the store in a directory, whether it can be opened or not.
///
/// A store that can be opened is opened for reading only and checked as
/// [`Db::verify`](crate::Db::verify) does. One that cannot because it is
/// damaged, or because a file of it cannot be read, is checked file by file, and
/// what kept it from being opened is in the report. Changes no byte. Takes as long as reading the
/// store, and as long as replaying its log if it was not closed.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("store");
/// swissdb::Db::open(&path)?.insert("key", "value")?;
/// assert!(swissdb::verify(&path)?.is_clean());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`Error::Locked`] if the store is open for writing, [`Error::NotFound`],
/// [`Error::Version`], [`Error::Io`] if its files cannot be listed. Damage is
/// not an error but in the report.
pub fn verify(path: impl AsRef<Path>) -> Result<Report> {
    verify_on(Arc::new(Files::new(path.as_ref())))
}

/// As [`verify`], on any storage.
pub(crate) fn verify_on(storage: Arc<dyn Storage>) -> Result<Report> {
    let options = Options::new().read_only(true).create(false);
    let error = match crate::recovery::open(storage.clone(), &options) {
        Ok(store) => {
            let report = verify_store(&store);
            store.mark_closed();
            store.unlock();
            return report;
        }
        Err(error) if is_finding(&error) => error,
        Err(error) => return Err(error),
    };
    let _lock = match storage.lock(false) {
        Ok(LockOutcome::Held(lock)) => lock,
        Ok(LockOutcome::Busy(pid)) => {
            return Err(Error::Locked { path: storage.path(""), pid });
        }
        Err(error) => return Err(Error::io("lock", storage.path(""), error)),
    };
    let mut findings = Findings::default();
    verify_disk(&storage, &mut findings)?;
    match error {
        Error::Corrupt(damage) => findings.add_if_new("open", *damage),
        Error::Io { path, source, .. } => findings.add_unread("open", &path, &source),
        error => return Err(error),
    }
    Ok(findings.into_report())
}

/// Whether what keeps a store from being opened is for the report: damage, or a
/// file that the device does not deliver. What may not be read, or finds no
/// memory, says nothing of the store.
fn is_finding(error: &Error) -> bool {
    match error {
        Error::Corrupt(_) => true,
        Error::Io { doing: "read", source, .. } => {
            !matches!(source.kind(), ErrorKind::PermissionDenied | ErrorKind::OutOfMemory)
        }
        _ => false,
    }
}

/// Checks an open store.
///
/// # Errors
///
/// `Closed`; `Io` if the files cannot be listed.
pub(crate) fn verify_store(store: &Store) -> Result<Report> {
    store.check_open()?;
    let _one = store.checkpointing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let core = store.core_to_look();
    store.check_open()?;
    let mut findings = Findings::default();
    let (mut logs, end) = verify_disk(&store.storage, &mut findings)?;
    if let (Some(end), false) = (end, store.options.read_only) {
        logs.check_end(end, store.log.appended(), &mut findings);
    }
    findings.begin_memory();
    for writer in core.writers() {
        memory::check(writer, &mut logs, &mut findings);
    }
    Ok(findings.into_report())
}

/// Checks what lies in the files. Returns the files of the log, and where it
/// ends, if that can be said.
fn verify_disk(
    storage: &Arc<dyn Storage>,
    findings: &mut Findings,
) -> Result<(Logs, Option<crate::format::record::Position>)> {
    let tables = headers::check(&**storage, findings)?;
    let mut logs = Logs::check(storage, findings)?;
    let end = logs.check_chain(&tables, findings);
    for table in &tables {
        tree::check(table, &mut logs, findings);
    }
    Ok((logs, end))
}

#[cfg(test)]
mod tests;
