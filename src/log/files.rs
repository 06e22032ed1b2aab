//! Log files: which there are, and what opening a store finds of them.
//!
//! A file is in one of these states, and only ever moves to the right until
//! it is recycled, which begins a new life under a new number and salt. One that
//! was activated before the log was opened is not:
//!
//! ```text
//! next.tmp ──► prepared ──► active ──► finished ──► retired ──► removed, or next.tmp again
//!  (no name)   (header)   (activation)  (the next one's activation states its end)
//! ```
//!
//! The set of files that have been activated is what readers of values look
//! into and what the chain is walked through. It is never edited: a changed
//! copy takes its place, and readers hold a pin while they use theirs.
//!
//! A file whose header cannot be read does not keep the store from being
//! opened: only its values, or a walk through it, are errors.
//!
//! This module does not know records, nor who appends and who syncs.
//!
//! # What lies below the end
//!
//! `end` of a file is the offset below which nobody writes any more in this
//! life of the file. Whoever appends raises it, with `Release`, after the
//! bytes are there. That is what makes lending the bytes below it sound.
//!
//! # Files whose end nobody states
//!
//! The end of a file is stated by its successor. A successor that holds nothing
//! is recycled while the file before it may still be needed, and an opening
//! after that finds no statement: the whole file counts as written, and its
//! last commit is at most the one before the next file there is.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::WINDOW;
use crate::error::{Corruption, Error, Result};
use crate::format::BLOCK;
use crate::format::record::{
    Activation, LogFileHeader, MAX_LOG_FILE, Position, log_file_name, parse_log_file_name,
};
use crate::storage::{Access, File, Map, Storage};

/// The directory of the log within the store.
pub(super) const DIRECTORY: &str = "log";

/// The name under which a file is prepared.
pub(super) const TEMPORARY: &str = "log/next.tmp";

/// So many bytes of records are worth letting go of before a sync.
const MANY: u64 = 16 * BLOCK as u64;

/// An activated file of the log, as readers know it.
pub(super) struct LogFile {
    pub(super) number: u32,
    pub(super) salt: u32,
    /// Its length in bytes.
    pub(super) size: u64,
    /// What it says of the log before it.
    pub(super) activation: Activation,
    pub(super) map: Map,
    /// How much of it was given back behind its end, in bytes, as far as known.
    trimmed: AtomicU64,
    progress: Progress,
}

/// What changes while the file is active: on a line of its own, since readers
/// of older values in the file load the fields before it.
#[repr(align(64))]
struct Progress {
    /// Below this offset nobody writes.
    end: AtomicU64,
    /// The last commit in the file. For the active file it is only set when
    /// it is finished.
    last_commit: AtomicU64,
    /// Whether the file is finished, and end and last commit are exact.
    finished: AtomicBool,
    /// Below this offset no page is in the page tables as a written one.
    let_go: AtomicU64,
    /// Whether most of what was appended last was written by calls.
    by_calls: AtomicBool,
}

impl LogFile {
    /// A file whose records end at `end`.
    pub(super) fn new(
        header: LogFileHeader,
        activation: Activation,
        map: Map,
        end: u64,
    ) -> LogFile {
        let LogFileHeader { number, salt, size } = header;
        let last_commit = AtomicU64::new(activation.last_commit);
        let (end, finished) = (AtomicU64::new(end), AtomicBool::new(false));
        let let_go = AtomicU64::new(0);
        let by_calls = AtomicBool::new(false);
        let progress = Progress { end, last_commit, finished, let_go, by_calls };
        LogFile { number, salt, size, activation, map, trimmed: AtomicU64::new(0), progress }
    }

    #[inline]
    pub(super) fn end(&self) -> u64 {
        self.progress.end.load(Acquire)
    }

    /// Publishes the bytes below `end`.
    #[inline]
    pub(super) fn set_end(&self, end: u64) {
        self.progress.end.store(end, Release);
    }

    pub(super) fn last_commit(&self) -> u64 {
        self.progress.last_commit.load(Relaxed)
    }

    pub(super) fn set_last_commit(&self, commit: u64) {
        self.progress.last_commit.store(commit, Relaxed);
    }

    /// Nothing is appended to the file any more; its end has been set.
    pub(super) fn finish(&self, last_commit: u64) {
        self.set_last_commit(last_commit);
        self.progress.finished.store(true, Release);
    }

    /// Where the records of a finished file end, and its last commit, if they
    /// are known exactly.
    pub(super) fn stated_end(&self) -> Option<(u64, u64)> {
        let finished = self.progress.finished.load(Acquire);
        finished.then(|| (self.end(), self.last_commit()))
    }

    /// Takes what was written through the mapping out of the page tables, if it
    /// is much, and says what that was: before a sync ([`Map::let_go`]), by
    /// one thread at a time.
    pub(super) fn let_go(&self) -> Range<u64> {
        let (start, end) = (self.progress.let_go.load(Relaxed), self.end());
        if end.saturating_sub(start) < MANY {
            return 0..0;
        }
        // What is mapped for writing ahead counts as written, too.
        let length = end + WINDOW - start;
        self.map.let_go(start as usize, length as usize);
        let whole = end / BLOCK as u64 * BLOCK as u64;
        self.progress.let_go.store(whole, Relaxed);
        start..whole
    }

    /// Whether most of what was appended last was written by calls, so that
    /// nothing need be mapped for writing.
    pub(super) fn set_by_calls(&self, yes: bool) {
        self.progress.by_calls.store(yes, Relaxed);
    }

    /// Brings what was let go back: for readers of values, and ahead of the
    /// writer, who has gone on meanwhile, if it writes through the mapping.
    pub(super) fn take_back(&self, let_go: Range<u64>) {
        if let_go.is_empty() {
            return;
        }
        self.map.populate_read(let_go.start as usize, (let_go.end - let_go.start) as usize);
        if !self.progress.by_calls.load(Relaxed) && self.stated_end().is_none() {
            self.map.populate_write(self.end() as usize, (WINDOW / 2) as usize);
        }
    }

    /// How many bytes were given back behind its end.
    pub(super) fn trimmed(&self) -> u64 {
        self.trimmed.load(Relaxed)
    }

    pub(super) fn set_trimmed(&self, bytes: u64) {
        self.trimmed.store(bytes, Relaxed);
    }

    /// The place in this file at an offset.
    pub(super) fn position(&self, offset: u64, commit: u64) -> Position {
        debug_assert!(offset <= MAX_LOG_FILE, "files are shorter than 4 GiB");
        Position { file: self.number, salt: self.salt, offset: offset as u32, commit }
    }
}

/// An activated file that may be written, or has to be synced.
#[derive(Clone)]
pub(super) struct Writable {
    pub(super) log: Arc<LogFile>,
    pub(super) file: Arc<dyn File>,
}

/// The activated files, by number.
#[derive(Clone, Default)]
pub(super) struct FileSet {
    files: Vec<(u32, Arc<LogFile>)>,
}

impl FileSet {
    /// The file of that number.
    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<&Arc<LogFile>> {
        let at = self.files.binary_search_by_key(&number, |file| file.0).ok()?;
        Some(&self.files[at].1)
    }

    /// The file that goes on where that one ends: the newest that names it,
    /// for an older one was given up by a recovery that ended before it.
    pub(super) fn successor(&self, number: u32) -> Option<&Arc<LogFile>> {
        self.iter().rev().find(|file| file.activation.previous == number)
    }

    /// Tells each file what the files behind it say of its end.
    fn state_ends(&self) {
        self.iter().for_each(|file| self.state_end(file));
    }

    /// Tells a file what the files behind it say of its end.
    pub(super) fn state_end(&self, file: &LogFile) {
        if let Some(next) = self.successor(file.number) {
            file.set_end(u64::from(next.activation.previous_end).min(file.size));
            file.finish(next.activation.last_commit);
        } else if let Some(behind) = self.iter().find(|other| other.number > file.number) {
            file.set_last_commit(behind.activation.last_commit);
        }
    }

    /// All files, in the order of their numbers.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<LogFile>> {
        self.files.iter().map(|file| &file.1)
    }

    /// The set with that file in it, instead of one of the same number.
    pub(super) fn with(&self, file: Arc<LogFile>) -> FileSet {
        let mut set = self.without(file.number);
        let at = set.files.partition_point(|other| other.0 < file.number);
        set.files.insert(at, (file.number, file));
        set
    }

    /// The set without the file of that number.
    pub(super) fn without(&self, number: u32) -> FileSet {
        let keep = self.files.iter().filter(|file| file.0 != number);
        FileSet { files: keep.cloned().collect() }
    }
}

/// A file on disk that holds nothing and may be prepared again, unless a table
/// says otherwise: see [`kept`](super::kept).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spare {
    pub(super) number: u32,
    pub(super) salt: u32,
    pub(super) size: u64,
    /// How many of these bytes take no space, as far as known.
    pub(super) trimmed: u64,
}

/// A file whose first block or length is not what was written.
pub(super) struct Damaged {
    pub(super) number: u32,
    corruption: Corruption,
}

impl Damaged {
    pub(super) fn error(&self) -> Error {
        Error::Corrupt(Box::new(self.corruption.clone()))
    }
}

/// What lies in the directory of the log.
#[derive(Default)]
pub(super) struct Found {
    pub(super) set: FileSet,
    /// Files with a header and no activation.
    pub(super) prepared: Vec<Spare>,
    pub(super) damaged: Vec<Damaged>,
    /// The highest number of any file, readable or not.
    pub(super) highest: u32,
}

/// Reads the first blocks of all log files and maps the activated ones.
///
/// # Errors
///
/// `Corrupt` if there is no directory, `Version` if a newer program wrote a
/// file, `Io`. Damage of single files is found, not an error.
pub(super) fn find(storage: &dyn Storage) -> Result<Found> {
    let names = match storage.list(DIRECTORY) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let path = storage.path(DIRECTORY);
            return Err(Error::corrupt(path, 0, "the log", "a directory of files", "absent"));
        }
        Err(error) => return Err(Error::io("list", storage.path(DIRECTORY), error)),
    };
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| parse_log_file_name(name)).collect();
    numbers.sort_unstable();
    let mut found = Found::default();
    for number in numbers {
        found.highest = number;
        match open(storage, number, Access::Read) {
            Ok(Opened::Activated(file)) => found.set.files.push((number, file.log)),
            Ok(Opened::Prepared(spare)) => found.prepared.push(spare),
            Err(Error::Corrupt(corruption)) => {
                found.damaged.push(Damaged { number, corruption: *corruption });
            }
            Err(error) => return Err(error),
        }
    }
    found.set.state_ends();
    Ok(found)
}

/// A file as it is found.
pub(super) enum Opened {
    Activated(Writable),
    Prepared(Spare),
}

/// Opens a log file and checks all it says of itself. It can be appended to
/// if `access` is for writing.
///
/// # Errors
///
/// `Corrupt`, `Version` or `Io`.
pub(super) fn open(storage: &dyn Storage, number: u32, access: Access) -> Result<Opened> {
    let name = log_file_name(number);
    let path = || storage.path(&name);
    let io = |doing| move |error| Error::io(doing, storage.path(&log_file_name(number)), error);
    let file = storage.open(&name, access).map_err(io("open"))?;
    let length = file.length().map_err(io("measure"))?;
    let mut block = [0; BLOCK];
    if length < block.len() as u64 {
        let least = format!("{BLOCK} or more bytes");
        return Err(Error::corrupt(path(), 0, "length of the log file", least, length));
    }
    file.read_at(&mut block, 0).map_err(io("read"))?;
    let header = LogFileHeader::decode(&block).map_err(|fault| fault.at(path(), 0))?;
    if header.number != number {
        let what = "number of the log file, as in its name,";
        return Err(Error::corrupt(path(), 12, what, number, header.number));
    }
    if length != header.size {
        let (expected, what) = (header.size, "length of the log file");
        return Err(Error::corrupt(path(), 0, what, expected, length));
    }
    let LogFileHeader { salt, size, .. } = header;
    let Some(activation) = Activation::decode(&block, salt) else {
        return Ok(Opened::Prepared(Spare { number, salt, size, trimmed: 0 }));
    };
    let map = file.map(size, access != Access::Read).map_err(io("map"))?;
    let log = Arc::new(LogFile::new(header, activation, map, size));
    Ok(Opened::Activated(Writable { log, file }))
}
