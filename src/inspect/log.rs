//! The log, file by file and record by record.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::record::{
    self, ACTIVATION_BYTES, ACTIVATION_OFFSET, LOG_START, LogFileHeader, OpKind, Ops, RECORD_ALIGN,
    RECORD_HEADER, RecordHeader, log_file_name, padded, parse_log_file_name,
};
use crate::storage::{Access, File};

use super::{Damage, Store};

/// How much is read at once, at least.
const WINDOW: usize = 256 << 10;
/// How often over the bytes of a file are looked at when records are searched
/// behind damage. Values are chosen by others and might look like records.
const EFFORT: u64 = 8;

/// The log of a store.
pub struct Log {
    /// Its files, in the order of their numbers.
    pub files: Vec<LogFile>,
}

/// A file of the log.
pub struct LogFile {
    /// Its number, as in its name.
    pub number: u32,
    /// Its length in bytes.
    pub length: u64,
    /// Its salt; 0 if the header cannot be decoded.
    pub salt: u32,
    /// What it says of the log before it; `None` if it was not activated.
    pub activation: Option<Activation>,
    /// Where the log ends in it, if a later file says so.
    pub stated_end: Option<u64>,
    /// What is wrong with it, its records aside.
    pub damage: Option<Damage>,
    store: Store,
}

/// What a log file says of the log before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Activation {
    /// The number of the previous file; 0 if this is the first.
    pub previous: u32,
    /// Where the log ends in that file.
    pub previous_end: u32,
    /// The last commit before this file.
    pub last_commit: u64,
}

/// Something that lies in a log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A record.
    Record(Record),
    /// Bytes between records, or behind the last one, that are not zero and
    /// not a record.
    Gap(Gap),
}

/// Bytes that are no record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// Where they begin in the file, in bytes.
    pub offset: u64,
    /// How many there are.
    pub length: u64,
}

/// A record whose checksum holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u32,
    /// Its commit number.
    pub commit: u64,
    /// The last commit known to be durable when it was written.
    pub durable: u64,
    /// Whether it is part of the log: it lies before the end that a later file
    /// states.
    pub in_log: bool,
    /// Its operations, as far as they can be decoded.
    pub operations: Vec<Operation>,
    /// Why it does not follow the record before, or not all of it can be
    /// decoded.
    pub damage: Option<Damage>,
}

impl Record {
    /// Where it ends in the file, in bytes; the next one begins at a multiple
    /// of 8.
    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.length)
    }
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Kind {
    Insert,
    Remove,
    Clear,
    CreateTable,
    DropTable,
}

/// An operation of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Operation {
    /// What is done.
    pub kind: Kind,
    /// The table it is done to.
    pub table: u16,
    /// The key; of a table that is created, its name.
    pub key: Vec<u8>,
    /// Where the value begins in the file, in bytes.
    pub value_offset: u64,
    /// The length of the value in bytes.
    pub value_length: u64,
    /// The first bytes of the value, at most 64.
    pub value_start: Vec<u8>,
}

/// Bytes of a value that are shown.
const SHOWN: usize = 64;

/// Reads the first blocks of all files.
pub(super) fn read(store: Store) -> Result<Log> {
    let path = || store.storage.path("log");
    let names = store.storage.list("log").map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::NotFound { what: format!("log {}", path().display()) }
        }
        _ => Error::io("list", path(), error),
    })?;
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| parse_log_file_name(name)).collect();
    numbers.sort_unstable();
    let mut files: Vec<LogFile> =
        numbers.into_iter().map(|number| LogFile::read(&store, number)).collect();
    let ends: Vec<(u32, u32)> = files
        .iter()
        .filter_map(|file| file.activation)
        .map(|activation| (activation.previous, activation.previous_end))
        .collect();
    for (previous, end) in ends {
        let named = files.iter_mut().filter(|file| file.number == previous);
        named.for_each(|file| file.stated_end = Some(end.into()));
    }
    Ok(Log { files })
}

impl LogFile {
    fn read(store: &Store, number: u32) -> LogFile {
        let mut file = LogFile {
            number,
            length: 0,
            salt: 0,
            activation: None,
            stated_end: None,
            damage: None,
            store: store.clone(),
        };
        if let Err(damage) = file.read_first_block() {
            file.damage = Some(damage);
        }
        file
    }

    fn open(&self) -> std::result::Result<Arc<dyn File>, Damage> {
        let file = self.store.storage.open(&log_file_name(self.number), Access::Read);
        file.map_err(|error| Damage::unreadable(0, &error))
    }

    fn read_first_block(&mut self) -> std::result::Result<(), Damage> {
        let file = self.open()?;
        let unreadable = |error| Damage::unreadable(0, &error);
        self.length = file.length().map_err(unreadable)?;
        let mut block = [0; BLOCK];
        file.read_at(&mut block, 0).map_err(unreadable)?;
        let header = LogFileHeader::decode(&block).map_err(|fault| Damage::of(fault, 0))?;
        self.salt = header.salt;
        let activation = record::Activation::decode(&block, header.salt);
        self.activation = activation.map(|a| Activation {
            previous: a.previous,
            previous_end: a.previous_end,
            last_commit: a.last_commit,
        });
        if header.number != self.number {
            let text =
                format!("the file's name says {}, the header {}", self.number, header.number);
            return Err(Damage::new(12, text));
        }
        if header.size != self.length {
            let text =
                format!("the file has {} bytes, the header says {}", self.length, header.size);
            return Err(Damage::new(24, text));
        }
        let place = &block[ACTIVATION_OFFSET..ACTIVATION_OFFSET + ACTIVATION_BYTES];
        if activation.is_none() && place.iter().any(|byte| *byte != 0) {
            let text = "the activation is not valid: the file is not part of the log";
            return Err(Damage::new(ACTIVATION_OFFSET as u64, text));
        }
        Ok(())
    }

    /// What lies in the file from its first record on, as an iterator. Behind
    /// damage it goes on at the next record that it can find.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be opened any more.
    pub fn pieces(&self) -> Result<Records> {
        let name = log_file_name(self.number);
        let file = self.store.storage.open(&name, Access::Read);
        let file = file.map_err(|e| Error::io("open", self.store.storage.path(&name), e))?;
        let length = file.length().unwrap_or(0).min(record::MAX_LOG_FILE);
        Ok(Records {
            window: Window { file, length, bytes: Vec::new(), start: 0 },
            salt: self.salt,
            at: LOG_START,
            commit: self.activation.map(|activation| activation.last_commit),
            end: self.stated_end.unwrap_or(length),
            effort: EFFORT * length,
            _store: self.store.clone(),
        })
    }
}

/// The pieces of a log file, front to back.
pub struct Records {
    window: Window,
    salt: u32,
    at: u64,
    /// The last commit before this place.
    commit: Option<u64>,
    /// Where the log ends in this file.
    end: u64,
    /// How many bytes may still be looked at in searches.
    effort: u64,
    _store: Store,
}

impl Iterator for Records {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if let Some(record) = self.record(self.at) {
            self.at += padded(record.length.into());
            self.commit = Some(record.commit);
            return Some(Piece::Record(record));
        }
        let (from, length) = (self.at, self.window.length);
        // What cannot be read cannot be searched either.
        let (next, used) = match self.search(from) {
            Some(found) => found,
            None if from < length => (length, true),
            None => return None,
        };
        self.at = next;
        (used || next < length).then_some(Piece::Gap(Gap { offset: from, length: next - from }))
    }
}

impl Records {
    /// The record at an offset, if its checksum holds.
    fn record(&mut self, offset: u64) -> Option<Record> {
        let (salt, end, before) = (self.salt, self.end, self.commit);
        let head = *self.window.bytes(offset, RECORD_HEADER)?.first_chunk()?;
        let RecordHeader { length, .. } = RecordHeader::decode(&head);
        if (length as usize) < RECORD_HEADER {
            return None;
        }
        let bytes = self.window.bytes(offset, length as usize)?;
        let RecordHeader { commit, durable, .. } =
            RecordHeader::checked(bytes, salt, offset as u32)?;
        let (operations, mut damage) = decode(&bytes[RECORD_HEADER..], offset);
        if before.is_some_and(|before| before.checked_add(1) != Some(commit)) {
            let text = format!("commit {commit} follows commit {}", before.unwrap_or(0));
            damage.get_or_insert(Damage::new(offset, text));
        }
        let in_log = offset < end;
        Some(Record { offset, length, commit, durable, in_log, operations, damage })
    }

    /// The next record behind an offset where there is none, or else the end
    /// of the file; and whether a byte before it is not zero.
    fn search(&mut self, from: u64) -> Option<(u64, bool)> {
        let mut at = from;
        let mut used = false;
        while at < self.window.length {
            let left = self.window.length - at;
            let piece = self.window.bytes(at, left.min(WINDOW as u64) as usize)?;
            // Zeros hold no record.
            let zeros = piece.chunks(RECORD_ALIGN).take_while(|word| is_zero(word)).count();
            let skip = (zeros * RECORD_ALIGN).min(piece.len()) as u64;
            if skip > 0 {
                at += skip;
                continue;
            }
            used = true;
            if at != from && self.plausible(at) && self.record(at).is_some() {
                return Some((at, used));
            }
            at += RECORD_ALIGN as u64;
        }
        (at > from).then_some((at, used))
    }

    /// Whether a record may begin here, and whether it is worth the effort of
    /// its checksum.
    fn plausible(&mut self, offset: u64) -> bool {
        let left = self.window.length - offset;
        let effort = self.effort;
        let Some(head) = self.window.bytes(offset, RECORD_HEADER) else {
            return false;
        };
        let Some(head) = head.first_chunk() else {
            return false;
        };
        let RecordHeader { length, commit, durable, .. } = RecordHeader::decode(head);
        let length = u64::from(length);
        let possible =
            (RECORD_HEADER as u64..=left).contains(&length) && durable < commit && length <= effort;
        if possible {
            self.effort -= length;
        }
        possible
    }
}

/// The operations of a record, and what is wrong with them.
fn decode(bytes: &[u8], record: u64) -> (Vec<Operation>, Option<Damage>) {
    let mut operations = Vec::new();
    for op in Ops::new(bytes) {
        let (op, key_at) = match op {
            Ok(op) => op,
            Err(fault) => return (operations, Some(Damage::of(fault, record))),
        };
        operations.push(Operation {
            kind: match op.kind {
                OpKind::Insert => Kind::Insert,
                OpKind::Remove => Kind::Remove,
                OpKind::Clear => Kind::Clear,
                OpKind::CreateTable => Kind::CreateTable,
                OpKind::DropTable => Kind::DropTable,
            },
            table: op.table,
            key: op.key.to_vec(),
            value_offset: record + u64::from(key_at) + op.key.len() as u64,
            value_length: op.value.len() as u64,
            value_start: op.value[..op.value.len().min(SHOWN)].to_vec(),
        });
    }
    (operations, None)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// A window that is moved over a file.
struct Window {
    file: Arc<dyn File>,
    length: u64,
    bytes: Vec<u8>,
    /// Where in the file the bytes begin.
    start: u64,
}

impl Window {
    /// Bytes of the file; `None` behind its end, or if they cannot be read.
    fn bytes(&mut self, offset: u64, length: usize) -> Option<&[u8]> {
        let end = offset.checked_add(length as u64).filter(|end| *end <= self.length)?;
        if offset < self.start || end > self.start + self.bytes.len() as u64 {
            let load = (length.max(WINDOW) as u64).min(self.length - offset) as usize;
            self.bytes.resize(load, 0);
            self.start = offset;
            if self.file.read_at(&mut self.bytes, offset).is_err() {
                self.bytes.clear();
                return None;
            }
        }
        let from = (offset - self.start) as usize;
        self.bytes.get(from..from + length)
    }
}
