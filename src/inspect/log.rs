//! The log, file by file.
//!
//! Only the first block of each file is read here: its header, and the
//! activation, which says where the log ended in the file before. What follows
//! is a matter of the records (`records.rs`).

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::record::{
    self, ACTIVATION_BYTES, ACTIVATION_OFFSET, LOG_START, LogFileHeader, log_file_name,
    parse_log_file_name,
};
use crate::storage::{Access, File};

use super::fields::{Field, records as annotated};
use super::records::{self, Piece, Records, Wanted};
use super::{Damage, Raw, Store};

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
    raw: Raw,
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
            raw: Raw::default(),
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
        let mut block = Box::new([0; BLOCK]);
        file.read_at(&mut block[..], 0).map_err(unreadable)?;
        self.raw = Raw::new(block.clone());
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

    /// The bytes of its first block, field by field; none if they cannot be
    /// read.
    pub fn fields(&self) -> Vec<Field> {
        self.raw.bytes().map_or_else(Vec::new, |bytes| annotated::first_block(bytes))
    }

    /// What lies in the file from its first record on, as an iterator. Behind
    /// damage it goes on at the next record that it can find. Needs memory for
    /// the longest record.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be opened any more.
    pub fn pieces(&self) -> Result<Records> {
        let commit = self.activation.map(|activation| activation.last_commit);
        self.pieces_from(LOG_START, commit, Wanted::All)
    }

    /// As [`pieces`](LogFile::pieces), from a place on, behind a commit.
    pub(super) fn pieces_from(
        &self,
        at: u64,
        commit: Option<u64>,
        wanted: Wanted,
    ) -> Result<Records> {
        let file = self.reopen()?;
        let length = file.length().unwrap_or(0).min(record::MAX_LOG_FILE);
        let end = self.stated_end.unwrap_or(length);
        let place = records::Place { at, commit, end, salt: self.salt };
        Ok(Records::new(file, length, place, wanted, self.store.clone()))
    }

    /// The bytes of a piece of this file, field by field. Of a long value, or
    /// of bytes that are no record, each field has the first 512.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be opened any more.
    pub fn piece_fields<'a>(
        &self,
        piece: &'a Piece,
    ) -> Result<impl Iterator<Item = Field> + use<'a>> {
        Ok(records::fields(self.reopen()?, piece))
    }

    fn reopen(&self) -> Result<Arc<dyn File>> {
        let name = log_file_name(self.number);
        let file = self.store.storage.open(&name, Access::Read);
        file.map_err(|error| Error::io("open", self.store.storage.path(&name), error))
    }
}
