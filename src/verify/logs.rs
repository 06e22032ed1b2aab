//! The files of the log: I17, the chain of records with every L in it: I18,
//! and what lies at the addresses of spilled keys and values: I15.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::group::Address;
use crate::format::header::TableState;
use crate::format::record::{
    Activation, LOG_START, LogFileHeader, Position, log_file_name, parse_log_file_name,
};
use crate::log::{Log, LogOptions, Poison, Replayed};
use crate::storage::{Access, File, Storage};

use super::findings::Findings;
use super::headers::TableFile;

/// Log files that are kept open at once.
const OPEN: usize = 16;
/// Bytes that are read at once; more than the longest key.
const PIECE: usize = 256 << 10;
/// How often a log is listed anew because a file was recycled meanwhile.
const TRIES: usize = 8;
/// Where L lies in a header.
const L_OFFSET: u64 = 88;

/// A log file with a valid header.
struct LogFile {
    salt: u32,
    size: u64,
    activation: Option<Activation>,
    /// No address may point behind it: where the next file says that the log
    /// ends, or else the end of the file.
    end: u64,
}

/// The files of the log.
pub(crate) struct Logs {
    storage: Arc<dyn Storage>,
    files: BTreeMap<u32, LogFile>,
    open: Vec<(u32, Arc<dyn File>)>,
    buffer: Vec<u8>,
}

/// Where a table is in the log.
struct Place<'a> {
    table: &'a TableFile,
    at: Position,
    /// Whether the walk came by.
    met: bool,
}

impl Logs {
    /// Reads the first blocks of all log files.
    ///
    /// # Errors
    ///
    /// `Io` if the directory of the log cannot be listed.
    pub(super) fn check(storage: &Arc<dyn Storage>, findings: &mut Findings) -> Result<Logs> {
        let names = match storage.list("log") {
            Ok(names) => names,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                findings.add("I17", &storage.path("log"), 0, "the log is absent");
                Vec::new()
            }
            Err(error) => return Err(Error::io("list", storage.path("log"), error)),
        };
        let mut files = BTreeMap::new();
        for number in names.iter().filter_map(|name| parse_log_file_name(name)) {
            let path = storage.path(&log_file_name(number));
            match read_file(&**storage, number) {
                Ok(Some(file)) => drop(files.insert(number, file)),
                Ok(None) => continue,
                Err((offset, text)) => findings.add("I17", &path, offset, text),
            }
            findings.checked().log_files += 1;
        }
        // Of several that name the same file the last one counts.
        let ends: Vec<_> = files
            .values()
            .filter_map(|file| file.activation)
            .map(|activation| (activation.previous, u64::from(activation.previous_end)))
            .collect();
        for (previous, end) in ends {
            if let Some(file) = files.get_mut(&previous) {
                file.end = end.min(file.size);
            }
        }
        let buffer = vec![0; PIECE];
        Ok(Logs { storage: storage.clone(), files, open: Vec::new(), buffer })
    }

    /// The files of the log, for those who only want what lies at addresses.
    pub(crate) fn without_findings(storage: &Arc<dyn Storage>) -> Logs {
        let none = || Logs {
            storage: storage.clone(),
            files: BTreeMap::new(),
            open: Vec::new(),
            buffer: Vec::new(),
        };
        Logs::check(storage, &mut Findings::default()).unwrap_or_else(|_| none())
    }

    /// Checks that each L is a place in the log, and that the log is whole
    /// from the oldest of them on. Returns its end.
    pub(super) fn check_chain(
        &mut self,
        tables: &[TableFile],
        findings: &mut Findings,
    ) -> Option<Position> {
        let mut places = Vec::new();
        for table in tables {
            let at = table.header.log;
            match self.check_place(at) {
                Ok(()) => places.push(Place { table, at, met: false }),
                // Its creation was lost with the log, so it is a left-over.
                Err(_) if table.header.state == TableState::Pending => {}
                Err(text) => {
                    findings.add("I18", &table.path, table.header_at + L_OFFSET, text);
                }
            }
        }
        let oldest = places.iter().map(|place| place.at).min_by_key(|at| (at.commit, at.file))?;
        let walked = self.walk_while_files_move(oldest, &mut places, findings);
        let end = walked.map_err(|error| self.add_error(error, findings)).ok()?;
        self.judge_places(&places, end, findings);
        Some(end)
    }

    /// Walks the log, again if need be: the log that is open may recycle a
    /// file that holds nothing, and so it may be gone when its turn comes.
    fn walk_while_files_move(
        &self,
        oldest: Position,
        places: &mut [Place<'_>],
        findings: &mut Findings,
    ) -> Result<Position> {
        let mut tries = 0;
        loop {
            places.iter_mut().for_each(|place| place.met = false);
            let walked = self.open_log().and_then(|log| self.walk(&log, oldest, places));
            match walked {
                Err(Error::Io { source, .. })
                    if source.kind() == ErrorKind::NotFound && tries < TRIES =>
                {
                    tries += 1;
                }
                Ok((end, records)) => {
                    findings.checked().log_records += records;
                    return Ok(end);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Walks from the beginning of a file by the oldest L to the end. Returns
    /// that, and the number of records.
    fn walk(
        &self,
        log: &Log,
        oldest: Position,
        places: &mut [Place<'_>],
    ) -> Result<(Position, u64)> {
        let end = furthest(log.scan(oldest)?.position, places);
        let mut records = 0;
        let mut visit = |record: &Replayed<'_>| {
            log.check_operations(record)?;
            records += 1;
            for place in places.iter_mut().filter(|place| place.at == record.end) {
                place.met = true;
            }
            Ok(())
        };
        // If it does not lead there, the oldest L is never met. The records
        // behind it are checked all the same.
        if let Some(start) = self.start_of(oldest) {
            let _ = log.replay(start, oldest, &mut visit);
        }
        log.replay(oldest, end, &mut visit)?;
        Ok((end, records))
    }

    fn judge_places(&self, places: &[Place<'_>], end: Position, findings: &mut Findings) {
        for Place { table, at, met } in places {
            let (path, offset) = (&table.path, table.header_at + L_OFFSET);
            let starts_file = self.start_of(*at) == Some(*at);
            let pending = table.header.state == TableState::Pending;
            if at.commit > end.commit && !pending {
                let file = self.storage.path(&log_file_name(end.file));
                let text = format!(
                    "the log ends behind commit {}, but table {} has commit {}",
                    end.commit, table.header.name, at.commit
                );
                findings.add("I17", &file, end.offset.into(), text);
            } else if !met && !starts_file && !pending {
                let text = format!(
                    "L is offset {} of log file {} behind commit {}, but no record ends there",
                    at.offset, at.file, at.commit
                );
                findings.add("I18", path, offset, text);
            }
            let last = self.files.iter().rfind(|(_, file)| file.activation.is_some());
            let at_end = *at == end && last.is_some_and(|(number, _)| *number == at.file);
            if table.header.clean && !at_end {
                let text = format!(
                    "the store was closed at commit {}, but the log goes on to commit {}",
                    at.commit, end.commit
                );
                findings.add("I18", path, offset, text);
            }
        }
    }

    /// Checks that the log in the files has the commits of the open store.
    pub(super) fn check_end(&self, end: Position, appended: u64, findings: &mut Findings) {
        if end.commit != appended {
            let file = self.storage.path(&log_file_name(end.file));
            let text = format!(
                "the log ends behind commit {}, but the store has made commit {appended}",
                end.commit
            );
            findings.add("I17", &file, end.offset.into(), text);
        }
    }

    /// Checks that a position lies in an activated file.
    fn check_place(&self, at: Position) -> std::result::Result<(), String> {
        let Some(file) = self.files.get(&at.file) else {
            return Err(format!("L is in log file {}, which is absent or damaged", at.file));
        };
        if file.activation.is_none() {
            return Err(format!("L is in log file {}, which was never activated", at.file));
        }
        if file.salt != at.salt {
            let (number, salt) = (at.file, file.salt);
            return Err(format!(
                "L has salt {:08x}, but log file {number} has {salt:08x}",
                at.salt
            ));
        }
        if u64::from(at.offset) > file.end {
            let (number, end) = (at.file, file.end);
            return Err(format!(
                "L is offset {} of log file {number}, which ends at {end}",
                at.offset
            ));
        }
        Ok(())
    }

    /// The position at the beginning of the file that a position is in.
    fn start_of(&self, at: Position) -> Option<Position> {
        let file = self.files.get(&at.file)?;
        let commit = file.activation?.last_commit;
        Some(Position { offset: LOG_START as u32, commit, ..at })
    }

    /// Opens the log for walking.
    fn open_log(&self) -> Result<Arc<Log>> {
        // Nothing is written, so the largest size does not matter.
        let options =
            LogOptions { max_file: crate::log::MIN_FILE, read_only: true, append_by_call: false };
        Log::open(self.storage.clone(), options, Arc::new(Poison::new()))
    }

    fn add_error(&self, error: Error, findings: &mut Findings) {
        match error {
            Error::Corrupt(damage) => findings.add_corruption("I17", *damage),
            other => findings.add("I17", &self.storage.path("log"), 0, other.to_string()),
        }
    }

    /// Checks what lies at an address: I15. Returns the first `keep` bytes (at
    /// most the longest key) of it.
    pub(crate) fn check_address(
        &mut self,
        address: &Address,
        keep: usize,
    ) -> std::result::Result<Vec<u8>, String> {
        let Address { len, crc, file: number, offset, .. } = *address;
        let Some(file) = self.files.get(&number).filter(|file| file.activation.is_some()) else {
            return Err(format!("log file {number} is absent, damaged or not activated"));
        };
        let (from, to) = (u64::from(offset), u64::from(offset) + u64::from(len));
        if from < LOG_START || to > file.end {
            let end = file.end;
            return Err(format!("bytes {from} to {to} of log file {number}, which ends at {end}"));
        }
        let file = self.file(number).map_err(|error| format!("log file {number}: {error}"))?;
        let mut found = crc32fast::Hasher::new();
        let mut kept = Vec::new();
        let mut at = from;
        while at < to {
            let piece = (to - at).min(PIECE as u64) as usize;
            let bytes = &mut self.buffer[..piece];
            let read = file.read_at(bytes, at);
            read.map_err(|error| format!("log file {number} at offset {at}: {error}"))?;
            found.update(bytes);
            if at == from {
                kept.extend_from_slice(&bytes[..keep.min(piece)]);
            }
            at += piece as u64;
        }
        match found.finalize() {
            found if found == crc => Ok(kept),
            found => Err(format!(
                "{len} bytes at offset {offset} of log file {number} have checksum {found:08x}, \
                 not {crc:08x}"
            )),
        }
    }

    /// A log file, opened.
    fn file(&mut self, number: u32) -> std::io::Result<Arc<dyn File>> {
        if let Some(at) = self.open.iter().position(|(open, _)| *open == number) {
            self.open[..=at].rotate_right(1);
            return Ok(self.open[0].1.clone());
        }
        let file = self.storage.open(&log_file_name(number), Access::Read)?;
        self.open.truncate(OPEN - 1);
        self.open.insert(0, (number, file.clone()));
        Ok(file)
    }
}

/// The end of a log whose last record ends at a position: a file that was
/// activated without a record belongs to it if a table's L lies there.
fn furthest(last: Position, places: &[Place<'_>]) -> Position {
    let live = places.iter().filter(|place| place.table.header.state != TableState::Pending);
    live.map(|place| place.at)
        .filter(|at| at.commit == last.commit && at.file > last.file)
        .max_by_key(|at| at.file)
        .unwrap_or(last)
}

/// Reads and checks the first block of a log file; `None` if the file is gone.
fn read_file(
    storage: &dyn Storage,
    number: u32,
) -> std::result::Result<Option<LogFile>, (u64, String)> {
    let mut block = [0; BLOCK];
    let opened = storage.open(&log_file_name(number), Access::Read);
    let read = opened.and_then(|file| {
        let length = file.length()?;
        file.read_at(&mut block, 0)?;
        Ok(length)
    });
    let length = match read {
        Ok(length) => length,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            return Err((0, "the log file is shorter than its first block".into()));
        }
        Err(error) => return Err((0, format!("the log file cannot be read: {error}"))),
    };
    let header = LogFileHeader::decode(&block).map_err(|fault| {
        (
            fault.offset,
            format!("{} should be {}, but is {}", fault.what, fault.expected, fault.found),
        )
    })?;
    if header.number != number {
        return Err((12, format!("the log file is called {number}, but says {}", header.number)));
    }
    if header.size != length {
        let text = format!("the log file has {length} bytes, but says {}", header.size);
        return Err((24, text));
    }
    let activation = Activation::decode(&block, header.salt);
    let (salt, size) = (header.salt, header.size);
    Ok(Some(LogFile { salt, size, activation, end: size }))
}
