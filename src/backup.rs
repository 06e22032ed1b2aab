//! Backup: the store as it was at one moment, as a store of its own.
//!
//! Files of a store that is open cannot simply be copied: they are of different
//! moments. A backup is made of a snapshot, so writers go on, and all of it is
//! of one moment, between two commits.
//!
//! ```text
//! 1 copy      each table of the snapshot: name, slot payload, hash, entries
//! 2 compact   the copy; the snapshot is given up before
//! 3 verify    the copy, closed, is read and checked as a whole
//! 4 name      DEST.tmp becomes DEST
//! ```
//!
//! What is copied are entries, not files: every page and every value is checked
//! on the way, and what damage the source has cannot get into the copy. Any
//! damage ends the backup, since a copy that lacks something would be taken
//! for the whole one day; what can be saved then is for salvage. The copy has
//! hash keys of its own.
//!
//! Until step 4 there is nothing of the name `DEST`: [`crate::target`].

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::compact::CompactStep;
use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::header::DEFAULT_TABLE;
use crate::handle::Handle;
use crate::options::Options;
use crate::snapshot::{Snapshot, SnapshotTable};
use crate::storage::files::Files;
use crate::storage::{Access, Storage};
use crate::target::{Scaffold, Target};
use crate::verify::verify_on;

/// Bytes that are copied between two reports, about; each entry counts
/// [`EACH`] more, so that small ones are told of too.
const STRIDE: usize = 256 << 10;
const EACH: usize = 64;

/// How far a backup is; see [`Db::backup_with`](crate::Db::backup_with).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BackupProgress {
    /// What is being done.
    pub step: BackupStep,
    /// The table it is done to, if it is one.
    pub table: Option<String>,
    /// How much of the step is done, from 0 to 1.
    pub done: f64,
}

/// The steps of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackupStep {
    /// Entries of the snapshot are copied.
    Copying,
    /// The copy is made as small as it gets.
    Compacting(CompactStep),
    /// The copy is read and checked.
    Verifying,
}

impl std::fmt::Display for BackupStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BackupStep::Copying => f.write_str("copying entries"),
            BackupStep::Compacting(step) => write!(f, "{step} of the copy"),
            BackupStep::Verifying => f.write_str("verifying the copy"),
        }
    }
}

/// What a backup came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BackedUp {
    /// Whether it was not cancelled, and the copy is there.
    pub finished: bool,
    /// The last commit that is in it, by its number in the store that was
    /// copied.
    pub commit: u64,
    /// Tables of the copy.
    pub tables: u64,
    /// Entries of the copy, in all tables.
    pub entries: u64,
    /// The space that the copy takes, in bytes.
    pub bytes: u64,
}

/// The caller's function.
type Tell<'a> = &'a mut dyn FnMut(&BackupProgress) -> ControlFlow<()>;

/// Copies a store to a new one in the directory `dest`.
pub(crate) fn backup(handle: &Arc<Handle>, dest: &Path, tell: Tell<'_>) -> Result<BackedUp> {
    let scaffold = Scaffold::new(dest, &handle.store.storage.path(""))?;
    let files = Arc::new(Files::new(scaffold.path()));
    let backed_up = backup_on(handle, files, tell)?;
    if backed_up.finished {
        scaffold.finish(dest)?;
    }
    Ok(backed_up)
}

/// Copies a store to a storage on which nothing is yet.
pub(crate) fn backup_on(
    handle: &Arc<Handle>,
    dest: Arc<dyn Storage>,
    tell: Tell<'_>,
) -> Result<BackedUp> {
    let snapshot = Snapshot::take(handle)?;
    let mut backed_up = BackedUp { commit: snapshot.commit(), ..Default::default() };
    let chosen = snapshot.table(DEFAULT_TABLE)?.options()?;
    let options = &handle.store.options;
    let options = Options {
        payload: chosen.payload.unwrap_or(options.payload),
        hash: chosen.hash.unwrap_or(options.hash),
        ..options.clone()
    };
    let mut target = Target::create(dest.clone(), &options)?;
    for name in snapshot.tables() {
        if !copy(snapshot.table(&name)?, &mut target, tell)? {
            return Ok(backed_up);
        }
    }
    let of_snapshot = counts(&snapshot)?;
    drop(snapshot);
    let compacted = target.compact(&mut |progress| {
        tell(&BackupProgress {
            step: BackupStep::Compacting(progress.step),
            table: progress.table.clone(),
            done: progress.done,
        })
    });
    if !compacted? {
        return Ok(backed_up);
    }
    (backed_up.tables, backed_up.entries) = target.close()?;
    if told(tell, BackupStep::Verifying, None, 0.0) {
        check(&dest, (backed_up.tables, backed_up.entries), of_snapshot)?;
        backed_up.bytes = space(&*dest)?;
        backed_up.finished = told(tell, BackupStep::Verifying, None, 1.0);
    }
    Ok(backed_up)
}

/// Step 1 for one table. Says whether to go on.
fn copy(from: SnapshotTable<'_>, target: &mut Target, tell: Tell<'_>) -> Result<bool> {
    let total = from.len().max(1) as f64;
    let into = target.table(from.name(), &from.options()?)?;
    if !told(tell, BackupStep::Copying, Some(from.name()), 0.0) {
        return Ok(false);
    }
    let (mut copied, mut since) = (0u64, 0);
    for entry in from.iter() {
        let (key, value) = entry?;
        target.insert(&into, key, value)?;
        copied += 1;
        since += key.len() + value.len() + EACH;
        if since >= STRIDE {
            since = 0;
            let done = (copied as f64 / total).min(1.0);
            if !told(tell, BackupStep::Copying, Some(from.name()), done) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Tells how far it is. Says whether to go on.
fn told(tell: Tell<'_>, step: BackupStep, table: Option<&str>, done: f64) -> bool {
    tell(&BackupProgress { step, table: table.map(str::to_owned), done }).is_continue()
}

/// Tables and entries of a snapshot.
fn counts(snapshot: &Snapshot) -> Result<(u64, u64)> {
    let (mut tables, mut entries) = (0, 0);
    for name in snapshot.tables() {
        tables += 1;
        entries += snapshot.table(&name)?.len();
    }
    Ok((tables, entries))
}

/// Step 3: fails unless the files are undamaged and hold as many tables and
/// entries as were written, and as the snapshot had.
fn check(dest: &Arc<dyn Storage>, written: (u64, u64), of_snapshot: (u64, u64)) -> Result<()> {
    let report = verify_on(dest.clone())?;
    let wrong = |why: String| {
        let why = format!("{why}; nothing is left of the copy: look after the device, try again");
        Err(Error::io("make an undamaged copy in", dest.path(""), std::io::Error::other(why)))
    };
    if let Some(violation) = report.violations.first() {
        let what = &violation.text;
        return wrong(format!("read again, it violates {}: {what}", violation.invariant));
    }
    let found = (report.checked.tables, report.checked.entries);
    if found != written || found != of_snapshot {
        return wrong(format!(
            "tables and entries were {of_snapshot:?}, {written:?} were written, {found:?} are there"
        ));
    }
    Ok(())
}

/// The space that the files of a closed store take, in bytes.
fn space(storage: &dyn Storage) -> Result<u64> {
    let listed = |directory: &str| -> Result<Vec<String>> {
        let names = storage.list(directory);
        names.map_err(|error| Error::io("list", storage.path(directory), error))
    };
    let tables = listed("")?.into_iter().filter(|name| name.ends_with(".swiss"));
    let logs = listed("log")?.into_iter().map(|name| format!("log/{name}"));
    let mut bytes = 0;
    for name in tables.chain(logs) {
        let taken = || {
            let file = storage.open(&name, Access::Read)?;
            let holes: u64 = file.holes()?.iter().map(|hole| hole.end - hole.start).sum();
            std::io::Result::Ok(file.length()?.saturating_sub(holes))
        };
        let taken = taken().map_err(|error| Error::io("measure", storage.path(&name), error))?;
        bytes += taken.next_multiple_of(BLOCK as u64);
    }
    Ok(bytes)
}
