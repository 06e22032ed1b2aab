//! Walking the records of one file, for those who clean it.
//!
//! The chain leads from file to file; cleaning wants one file from its middle.
//! Nothing but the file is needed: its activation says which commit comes
//! first, and the next file, if there still is one, where it ends. Records are
//! read with system calls, so that a device that fails is an error.
//!
//! # Where a walk ends
//!
//! * The end is stated: every record before it has to be valid, else it is
//!   `Corrupt`. What lies behind it is not looked at.
//! * Nobody states it (see [`files`](super::files)): the walk ends where the
//!   next record is not valid. It is `Corrupt` only if a later record in the
//!   file shows that the missing one was durable; rot in one of the last
//!   records of such a file may pass for its end. So a walk that came to its
//!   end is no proof that nothing in the file is alive: the counts of live
//!   bytes say that.
//!
//! # Files that go away
//!
//! Nothing is held: the file may be retired and recycled during the walk. What
//! is read then is not valid under the old salt, and the walk finds that the
//! file is not part of the log any more. That is `NotFound`, not damage.

use std::sync::atomic::Ordering::Acquire;

use super::Log;
use super::evidence;
use super::reader::Reader;
use crate::error::{Error, Result};
use crate::format::record::{LOG_START, Ops, RECORD_HEADER, RecordHeader, log_file_name, padded};
use crate::storage::pins;

/// A walk over the records of a file: see [`Log::file_walk`].
pub(crate) struct FileWalk<'a> {
    log: &'a Log,
    reader: Reader,
    number: u32,
    /// Where the next record begins.
    at: u64,
    /// The last commit before it.
    commit: u64,
    /// Where the records end, and the last commit, if that is known.
    end: Option<(u64, u64)>,
    /// Whether an end was found that nobody states.
    done: bool,
}

/// A record of a file.
pub(crate) struct Walked<'a> {
    /// Where it begins in the file, in bytes.
    pub(crate) offset: u32,
    /// Its length in bytes, without the padding.
    pub(crate) length: u32,
    /// Its operations; they have been decoded once without a fault.
    pub(crate) ops: Ops<'a>,
}

impl Log {
    /// Begins a walk over the records of a finished file, front to back.
    ///
    /// # Errors
    ///
    /// `NotFound` if the file is not part of the log (any more),
    /// `InvalidArgument` if it is the active one, `Corrupt` if its first block
    /// is damaged, `Io`.
    pub(crate) fn file_walk(&self, number: u32) -> Result<FileWalk<'_>> {
        if let Some(damaged) = self.damaged.iter().find(|damaged| damaged.number == number) {
            return Err(damaged.error());
        }
        if self.active.load(Acquire) == number {
            let what = format!("log file {number}: a file that is appended to cannot be walked");
            return Err(Error::invalid(what));
        }
        let file = self.files.load(&pins::pin()).get(number).cloned();
        let file = file.ok_or_else(|| self.gone(number))?;
        let reader = Reader::open(&*self.storage, number, file.salt, file.size);
        let reader = reader.map_err(|error| self.gone_or(number, file.salt, error))?;
        Ok(FileWalk {
            log: self,
            reader,
            number,
            at: LOG_START,
            commit: file.activation.last_commit,
            end: file.stated_end(),
            done: false,
        })
    }

    /// Whether a file, in that life of it, is part of the log.
    fn has(&self, number: u32, salt: u32) -> bool {
        self.files.load(&pins::pin()).get(number).is_some_and(|file| file.salt == salt)
    }

    fn gone(&self, number: u32) -> Error {
        let path = self.storage.path(&log_file_name(number));
        Error::NotFound { what: format!("log file {}", path.display()) }
    }

    /// What a failure of a walk is called: damage and such, or that the file
    /// is not part of the log any more.
    fn gone_or(&self, number: u32, salt: u32, error: Error) -> Error {
        if self.has(number, salt) { error } else { self.gone(number) }
    }
}

impl FileWalk<'_> {
    /// The next record; `None` at the end of the file's records, for good.
    /// Takes memory for the longest record of the file.
    ///
    /// # Errors
    ///
    /// `Corrupt` with file and offset for what is not a valid record, though it
    /// should be; `Version` for a record that only a newer program understands;
    /// `NotFound` if the file was retired meanwhile; `Io`. The next call tries
    /// the same record again.
    pub(crate) fn next(&mut self) -> Result<Option<Walked<'_>>> {
        let offset = self.at;
        let found = match self.advance() {
            Ok(found) => found,
            Err(error) => return Err(self.log.gone_or(self.number, self.reader.salt, error)),
        };
        let Some(RecordHeader { length, .. }) = found else {
            return Ok(None);
        };
        // It is in the reader's window: nothing is read again.
        let bytes = self.reader.bytes(offset, length as usize)?;
        let ops = Ops::new(&bytes[RECORD_HEADER..]);
        Ok(Some(Walked { offset: offset as u32, length, ops }))
    }

    /// Checks the record that comes next and steps over it.
    fn advance(&mut self) -> Result<Option<RecordHeader>> {
        if self.done || self.is_at_end()? {
            return Ok(None);
        }
        let Some(due) = self.commit.checked_add(1) else {
            return Ok(None);
        };
        let path = self.reader.path.clone();
        let Some((header, bytes)) = self.reader.record(self.at, due)? else {
            return self.missing(due);
        };
        for op in Ops::new(&bytes[RECORD_HEADER..]) {
            op.map_err(|fault| fault.at(&path, self.at))?;
        }
        let behind = self.at + padded(header.length.into());
        if let Some((end, _)) = self.end.filter(|(end, _)| behind > *end) {
            let what = format!("end of the record of commit {due}");
            let expected = format!("at most {end}, where the next file says that this one ends");
            return Err(self.log.corrupt(self.number, self.at, what, expected, behind));
        }
        (self.at, self.commit) = (behind, due);
        Ok(Some(header))
    }

    /// Whether the stated end is reached, with the commit that it should have.
    fn is_at_end(&self) -> Result<bool> {
        let Some((_, last)) = self.end.filter(|(end, _)| *end == self.at) else {
            return Ok(false);
        };
        if last != self.commit {
            let what = "last commit of the log file";
            return Err(self.log.corrupt(self.number, self.at, what, last, self.commit));
        }
        Ok(true)
    }

    /// There is no valid record: damage, or the end that nobody states.
    fn missing(&mut self, due: u64) -> Result<Option<RecordHeader>> {
        let expected = if let Some((end, _)) = self.end {
            format!("a valid record, for the file goes on to offset {end}")
        } else if let Some(later) = evidence::find(&mut self.reader, self.at, due)? {
            format!(
                "a valid record, for commit {} was durable when commit {} was written at offset {}",
                later.durable, later.commit, later.offset
            )
        } else if self.log.has(self.number, self.reader.salt) {
            self.done = true;
            return Ok(None);
        } else {
            return Err(self.log.gone(self.number));
        };
        let what = format!("record of commit {due}");
        Err(self.log.corrupt(self.number, self.at, what, expected, "no valid record"))
    }
}
