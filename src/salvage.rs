//! Salvage: a new store from whatever is left of a damaged one.
//!
//! Recovery refuses a store that it cannot bring back whole, and a damaged page
//! is an error for all that was in it. Salvage takes what still validates and
//! leaves the rest, and says how much that was. It reads the damaged store, to
//! which not a byte is done, and writes another one beside it.
//!
//! ```text
//! blocks   a table file, block by block       logs     records and values
//! page     pages that speak for themselves    search   records among bytes
//! table    header, or what pages tell of it   report   what it came to
//! tree     from the root to the pages
//! harvest  entries of a table file  ──►  replay  the log over them
//! ```
//!
//! Everything that is taken over has a checksum that holds: pages their own,
//! values the one in their address, records the one that begins with the salt
//! of their file. So what comes out is never anything else than what was once
//! written. Whether it is the last that was written, [`harvest`] argues for
//! pages and [`replay`] for the log: it is, wherever the blocks that hold the
//! last state are whole; where they are not, an earlier state may be found, and
//! is counted as such.
//!
//! # What it takes
//!
//! Time to read the store once and to write what is found. Memory for one log
//! file (64 MiB as a rule, as long as its record where one is longer), for the
//! write buffer of the new store, for the records of all segments (1 byte for
//! each 300 of the table file, or fewer), eight bytes for each page that is
//! looked for outside the directory, and some for each value that is lost.
//! Space for a second store.
//!
//! The new store is made under another name until it is whole and durable:
//! [`crate::target`].

mod blocks;
mod harvest;
mod logs;
mod lost;
mod page;
mod replay;
mod report;
mod search;
mod table;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::header::{DEFAULT_TABLE, TableState};
use crate::format::is_table_name;
use crate::options::{Options, TableOptions};
use crate::recovery::{list, no_store};
use crate::storage::files::Files;
use crate::storage::{Lock, LockOutcome, Storage};
use crate::target::{Scaffold, Target};

use logs::Logs;
use lost::{Lost, fingerprint};
use replay::{Replayed, is_live, options_of};
pub use report::{LostValue, SalvageReport};
use table::{TableFile, table_of};

/// How far a salvage is; see [`salvage`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SalvageProgress {
    /// The table that is being read; `None` for the log.
    pub table: Option<String>,
    /// The share of the damaged store that was read, 0 to 1, about.
    pub done: f64,
}

/// Rebuilds the store in the directory `source` in a new one, `dest`, from
/// whatever pages and records of it are undamaged.
///
/// Not a byte of `source` is changed. Others may read it meanwhile, but not
/// have it open for writing. `dest` must not exist; it does when this returns,
/// durable and closed, and holds all entries that could be recovered. Its tables
/// have the names, slots and hashes of the old ones; `options` say how they are
/// written ([`Options::write_buffer`]) and what nothing is left to say of:
/// the slot payload and the hash. A table of which only the log is left and whose
/// name is not in it is called `table-` and its number. A copy of a table file
/// that lies beside it becomes a table that is called like the copy, if it can be,
/// without the changes that only the log has: [`SalvageReport::copies`].
///
/// Takes as long as reading the store and writing it again; space for the new
/// one; memory for the write buffer, the longest log file (64 MiB, or as long as
/// the largest value), and about one byte for each 300 of the table files.
/// `progress` is told many times how far it is; if it returns
/// [`ControlFlow::Break`], no new store is left.
///
/// ```
/// use std::ops::ControlFlow;
/// # let dir = tempfile::tempdir()?;
/// # let (damaged, saved) = (dir.path().join("damaged"), dir.path().join("saved"));
/// let db = swissdb::Db::open(&damaged)?;
/// db.insert("key", "value")?;
/// db.close()?;
/// let file = std::fs::OpenOptions::new().write(true).open(damaged.join("default.swiss"))?;
/// std::os::unix::fs::FileExt::write_all_at(&file, &[0; 8192], 0)?; // both header copies
///
/// assert!(swissdb::Db::open(&damaged).is_err());
/// let options = swissdb::Options::new();
/// let report = swissdb::salvage(&damaged, &saved, &options, |_| ControlFlow::Continue(()))?;
/// assert_eq!((report.header_copies_damaged, report.lost_anything()), (2, false));
/// assert_eq!(swissdb::Db::open(&saved)?.get("key")?.as_deref(), Some(&b"value"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`Error::InvalidArgument`] if `dest`, or `dest` with `.tmp` behind it,
/// exists, or `dest` lies inside `source`; [`Error::NotFound`] if there is
/// nothing of a store in `source`; [`Error::Locked`] if it is open for writing;
/// [`Error::Version`] if a newer program wrote it; [`Error::Io`] from writing, and
/// for files that may not be read. Damage, and blocks that the device does not
/// deliver, are no error. After an error there is no `dest`.
pub fn salvage(
    source: impl AsRef<Path>,
    dest: impl AsRef<Path>,
    options: &Options,
    progress: impl FnMut(&SalvageProgress) -> ControlFlow<()>,
) -> Result<SalvageReport> {
    let dest = dest.as_ref();
    let files = Arc::new(Files::new(source.as_ref()));
    list(&*files, "")?;
    let scaffold = Scaffold::new(dest, source.as_ref())?;
    let target = Arc::new(Files::new(scaffold.path()));
    let report = options.salvage_on(files, target, progress)?;
    if report.finished {
        scaffold.finish(dest)?;
    }
    Ok(report)
}

impl Options {
    /// As [`salvage`], on any two [`Storage`]s, the second of them empty; see
    /// [`Options::open_on`](Options::open_on). If it fails or is stopped, what
    /// was written there is left.
    ///
    /// # Errors
    ///
    /// As [`salvage`].
    pub fn salvage_on(
        &self,
        source: Arc<dyn Storage>,
        dest: Arc<dyn Storage>,
        mut progress: impl FnMut(&SalvageProgress) -> ControlFlow<()>,
    ) -> Result<SalvageReport> {
        self.check()?;
        let _lock = lock(&*source)?;
        let names = list(&*source, "")?;
        let mut names: Vec<String> = names.into_iter().filter(|n| n.ends_with(".swiss")).collect();
        // A name comes before those that begin with it, which those of copies often do.
        names.sort_unstable_by(|a, b| table_of(a).cmp(table_of(b)));
        let mut meter = Meter { progress: &mut progress, read: 0, total: 1, stopped: false };
        let logs = Logs::read(&*source)?;
        if names.is_empty() && logs.is_empty() {
            return Err(no_store(&*source));
        }
        let (mut tables, mut passed_over) = (Vec::new(), Vec::new());
        for name in names {
            match TableFile::open(&*source, &name) {
                Ok(table) => tables.push(table),
                // No table can have the name: nothing of the store is in there.
                Err(_) if !is_table_name(table_of(&name).as_bytes()) => passed_over.push(name),
                Err(error) => return Err(error),
            }
        }
        let pages: u64 = tables.iter().map(|table| u64::from(table.blocks.count())).sum();
        meter.total = pages + logs.stretches.iter().map(|stretch| stretch.blocks()).sum::<u64>();
        let default = tables.iter().find(|table| table.name == DEFAULT_TABLE && !table.is_copy());
        let chosen = default.map_or_else(TableOptions::new, options_of);
        let options = Options {
            payload: chosen.payload.unwrap_or(self.payload),
            hash: chosen.hash.unwrap_or(self.hash),
            ..self.clone()
        };
        let mut salvage = Salvage {
            target: Target::create(dest, &options)?,
            report: SalvageReport {
                log_heads_damaged: logs.heads_damaged,
                passed_over,
                ..Default::default()
            },
            logs,
            lost: Lost::default(),
            missing_files: BTreeSet::new(),
            meter,
        };
        salvage.run(tables)?;
        salvage.end()
    }
}

/// Takes the lock that lets others read.
fn lock(source: &dyn Storage) -> Result<Lock> {
    match source.lock(false) {
        Ok(LockOutcome::Held(lock)) => Ok(lock),
        Ok(LockOutcome::Busy(pid)) => Err(Error::Locked { path: source.path(""), pid }),
        Err(error) => Err(Error::io("lock", source.path(""), error)),
    }
}

/// Tells the caller how far it is.
struct Meter<'a> {
    progress: &'a mut dyn FnMut(&SalvageProgress) -> ControlFlow<()>,
    /// Blocks.
    read: u64,
    total: u64,
    stopped: bool,
}

/// A salvage that is under way.
struct Salvage<'a> {
    logs: Logs,
    target: Target,
    report: SalvageReport,
    lost: Lost,
    /// Log files to which something refers and that are not there.
    missing_files: BTreeSet<u32>,
    meter: Meter<'a>,
}

impl Salvage<'_> {
    /// All tables, and then the log; copies last, so that they get no name that a
    /// table has.
    fn run(&mut self, mut files: Vec<TableFile>) -> Result<()> {
        let mut tables = BTreeMap::new();
        let mut copies = Vec::new();
        // Those whose header says what they are come before those that only seem so.
        files.sort_by_key(|file| file.header.is_none());
        for file in files {
            let dropped = file.header.as_ref().is_some_and(|h| h.state == TableState::Dropped);
            if dropped {
                continue;
            }
            let id = file.id.or((file.name == DEFAULT_TABLE).then_some(0));
            if file.is_copy() || id.is_some_and(|id| tables.contains_key(&id)) {
                copies.push(file);
                continue;
            }
            self.report.header_copies_damaged += file.headers_damaged;
            if let Some(header) = &file.header
                && !self.logs.has(header.log.file)
            {
                self.missing_files.insert(header.log.file);
            }
            let mut tree = None;
            let mut into = None;
            if is_live(&file) {
                let table = self.target.table(&file.name, &options_of(&file))?;
                tree = Some(self.harvest(&file, &table)?);
                into = Some(table);
            }
            if let Some(id) = id {
                tables.insert(id, Replayed::new(&file, into, tree));
            }
            if self.meter.stopped {
                return Ok(());
            }
        }
        // The default table, which every store has, and tables of which there is a
        // copy: if there is no other file of them, that is gone.
        let expected: BTreeSet<u16> = copies.iter().filter_map(|copy| copy.id).chain([0]).collect();
        let gone = expected.iter().filter(|id| !tables.contains_key(id));
        self.report.tables_in_doubt += gone.count() as u64;
        self.replay(tables)?;
        self.save_copies(copies)
    }

    /// Makes tables of copies, named after their files, where nothing else has the
    /// name. The log says nothing of them.
    fn save_copies(&mut self, copies: Vec<TableFile>) -> Result<()> {
        for file in copies {
            if self.meter.stopped {
                break;
            }
            let name = format!("{}.swiss", file.name);
            let taken = self.target.has_table(&file.name);
            if taken || !is_live(&file) || !is_table_name(file.name.as_bytes()) {
                // The copy lies where the file of that table was.
                let replaced = taken && file.name != DEFAULT_TABLE;
                self.report.tables_in_doubt += u64::from(replaced);
                self.report.passed_over.push(name);
                continue;
            }
            self.report.header_copies_damaged += file.headers_damaged;
            let table = self.target.table(&file.name, &options_of(&file))?;
            self.harvest(&file, &table)?;
            self.report.copies.push(name);
        }
        Ok(())
    }

    /// Says that so many blocks more have been read. Returns whether to go on.
    fn tell(&mut self, table: Option<&str>, blocks: u64) -> bool {
        let meter = &mut self.meter;
        meter.read += blocks;
        let done = (meter.read as f64 / meter.total.max(1) as f64).min(1.0);
        let progress = SalvageProgress { table: table.map(str::to_owned), done };
        meter.stopped |= (meter.progress)(&progress).is_break();
        !meter.stopped
    }

    /// Closes the new store and adds up.
    fn end(mut self) -> Result<SalvageReport> {
        self.report.finished = !self.meter.stopped;
        self.report.log_files_missing = self.missing_files.len() as u64;
        (self.report.values_lost, self.report.lost) = self.lost.counted();
        (self.report.tables, self.report.entries) = self.target.close()?;
        Ok(self.report)
    }
}
