//! Walking the chain of records, and telling its end from a gap.
//!
//! # The chain
//!
//! From a position on, record follows record as long as each is valid: its
//! checksum holds, begun with the file's salt and its own offset, and its
//! commit number is the one before plus one. A file ends where its successor
//! says, which is the newest activated file that names it; records behind that
//! place are not looked at. The successor must also agree on the commit number.
//!
//! # End or gap
//!
//! Where the walk stops, a record is missing. Almost always that is the end of
//! the log: the last record was torn by a crash, or nothing was ever written
//! there. But it may be that a record was damaged after it had been durable,
//! and then the log must not be cut off there. It is a gap, and `Corrupt`, if
//! one of these shows that the missing record was once durable or there:
//!
//! 1. A valid record further on, in the rest of the file or in a file with a
//!    higher number, activated or not, that was written when the missing
//!    commit was known to be durable (see [`evidence`](super::evidence)).
//! 2. A later file that names a previous one which does not exist, not even
//!    unactivated, while both have higher numbers than the file where the walk
//!    stopped: files are durable before they are activated, so it was lost.
//! 3. A later file whose first block cannot be read.
//! 4. A file that ends, according to its successor, within a record, before
//!    the position the walk began from, or at another commit number.
//!
//! A table's log position beyond the end shows the same; that is for those who
//! know tables. Without any of these it is the end: a later file that was
//! activated while its predecessor had undurable bytes may survive power loss
//! without them.
//!
//! A valid record whose operations cannot be decoded is never the end: it is an
//! error of version or `Corrupt`.
//!
//! # After a crash
//!
//! The end is always right behind a record (or where the walk began): a file
//! that was activated and holds no valid record does not count, and the file
//! that takes its place names the same predecessor.

use super::evidence;
use super::files::LogFile;
use super::reader::Reader;
use super::{Log, lock};
use crate::error::{Error, Result};
use crate::format::record::{LOG_START, Ops, Position, RECORD_HEADER, log_file_name, padded};
use crate::storage::pins;
use std::sync::Arc;

/// The end of the log, as found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// Where it is.
    pub(crate) position: Position,
    /// The last commit that some record read says was durable.
    pub(crate) durable: u64,
    /// How long the records read are together, in bytes.
    pub(crate) bytes: u64,
}

/// A record that is being replayed.
pub(crate) struct Replayed<'a> {
    /// Its commit number.
    pub(crate) commit: u64,
    /// The file it lies in.
    pub(crate) file: u32,
    /// Where it begins, in bytes.
    pub(crate) offset: u32,
    /// Its operations, which may have faults if no [`scan`](Log::scan) came here.
    pub(crate) ops: Ops<'a>,
    /// The place behind it.
    pub(crate) end: Position,
}

/// Where a walk ended.
struct Stop {
    end: End,
    /// Where the next record was looked for: `end.position`, or the beginning
    /// of a file that follows it.
    stopped: Position,
}

impl Log {
    /// Reads and checks all records from a position to the end of the log.
    ///
    /// # Errors
    ///
    /// `Corrupt` if `from` is not a place in the log, or if there is a gap;
    /// `Version` for a record that only a newer program understands; `Io`.
    pub(crate) fn scan(&self, from: Position) -> Result<End> {
        let stop = self.walk(from, None, &mut |record| self.check_operations(record))?;
        self.judge(stop.stopped)?;
        Ok(stop.end)
    }

    /// Visits the records between two positions, the second of which came
    /// from a [`scan`](Log::scan).
    ///
    /// # Errors
    ///
    /// Those of the visitor; `Corrupt` if the records do not lead from one
    /// position to the other; as `scan` otherwise.
    pub(crate) fn replay(
        &self,
        from: Position,
        to: Position,
        visit: &mut dyn FnMut(&Replayed<'_>) -> Result<()>,
    ) -> Result<()> {
        let stop = self.walk(from, Some(to), visit)?;
        if stop.stopped == to {
            return Ok(());
        }
        let Position { file, offset, commit, .. } = stop.stopped;
        let expected = format!("a valid record, for the log goes on to commit {}", to.commit);
        let what = format!("record of commit {}", commit.saturating_add(1));
        Err(self.corrupt(file, offset.into(), what, expected, "no valid record"))
    }

    /// Decodes all operations of a record.
    ///
    /// # Errors
    ///
    /// `Version` and `Corrupt`, as [`scan`](Log::scan).
    pub(crate) fn check_operations(&self, record: &Replayed<'_>) -> Result<()> {
        let path = || self.storage.path(&log_file_name(record.file));
        let sound = record.ops.clone().try_for_each(|op| op.map(drop));
        sound.map_err(|fault| fault.at(path(), record.offset.into()))
    }

    /// Goes from record to record, until there is no valid one or `to` is
    /// reached.
    fn walk(
        &self,
        from: Position,
        to: Option<Position>,
        visit: &mut dyn FnMut(&Replayed<'_>) -> Result<()>,
    ) -> Result<Stop> {
        let mut file = self.file_of(from)?;
        let mut reader = Reader::open(&*self.storage, file.number, file.salt, file.size)?;
        let mut at = from;
        let mut end = End { position: from, durable: 0, bytes: 0 };
        let mut next = self.checked_successor(&file, at)?;
        while to != Some(at) {
            if let Some(following) = &next
                && at.offset == following.activation.previous_end
            {
                file = following.clone();
                self.check_commit(&file, at)?;
                at = file.position(LOG_START, at.commit);
                reader = Reader::open(&*self.storage, file.number, file.salt, file.size)?;
                next = self.checked_successor(&file, at)?;
                continue;
            }
            let Some(due) = at.commit.checked_add(1) else {
                break;
            };
            let Some((header, bytes)) = reader.record(at.offset.into(), due)? else {
                break;
            };
            let space = padded(header.length.into());
            let behind = file.position(u64::from(at.offset) + space, due);
            let ops = Ops::new(&bytes[RECORD_HEADER..]);
            visit(&Replayed { commit: due, file: at.file, offset: at.offset, ops, end: behind })?;
            end.durable = end.durable.max(header.durable.min(due - 1));
            end.bytes += space;
            end.position = behind;
            at = behind;
            self.check_stated(next.as_deref(), at)?;
        }
        Ok(Stop { end, stopped: at })
    }

    /// Whether a position is a place in the log, without reading records.
    ///
    /// # Errors
    ///
    /// `Corrupt` if it is not.
    pub(crate) fn check_place(&self, at: Position) -> Result<()> {
        self.file_of(at).map(drop)
    }

    /// The file that a position lies in.
    fn file_of(&self, at: Position) -> Result<Arc<LogFile>> {
        if let Some(damaged) = self.damaged.iter().find(|damaged| damaged.number == at.file) {
            return Err(damaged.error());
        }
        let pin = pins::pin();
        let file = self.files.load(&pin).get(at.file);
        let Some(file) = file else {
            let what = "log file that a table's position is in";
            return Err(self.corrupt(at.file, 0, what, "an activated file", "absent"));
        };
        let offset = u64::from(at.offset);
        if file.salt != at.salt {
            let (expected, found) = (format!("{:08x}", at.salt), format!("{:08x}", file.salt));
            return Err(self.corrupt(at.file, 16, "salt of the log file", expected, found));
        }
        let inside = (LOG_START..=file.size).contains(&offset) && offset.is_multiple_of(8);
        if !inside || at.commit < file.activation.last_commit {
            let what = "place in the log file that a table's position names";
            let found = format!("offset {offset} behind commit {}", at.commit);
            return Err(self.corrupt(at.file, offset, what, "a place between records", found));
        }
        Ok(file.clone())
    }

    /// The successor of a file, whose end must not lie before `at`.
    fn checked_successor(&self, file: &LogFile, at: Position) -> Result<Option<Arc<LogFile>>> {
        let next = self.files.load(&pins::pin()).successor(file.number).cloned();
        self.check_stated(next.as_deref(), at)?;
        Ok(next)
    }

    /// Checks that a place does not lie behind the end its file is said to have.
    fn check_stated(&self, next: Option<&LogFile>, at: Position) -> Result<()> {
        let Some(next) = next else { return Ok(()) };
        let (number, stated) = (next.number, next.activation.previous_end);
        if number <= at.file {
            let expected = format!("a number below {number}");
            return Err(self.corrupt(number, 520, "previous log file", expected, at.file));
        }
        if stated < at.offset {
            let expected = format!("{} or more", at.offset);
            return Err(self.corrupt(number, 524, "end of the previous file", expected, stated));
        }
        Ok(())
    }

    /// Checks that a file follows the commit its predecessor ends with.
    fn check_commit(&self, file: &LogFile, at: Position) -> Result<()> {
        let stated = file.activation.last_commit;
        if stated == at.commit {
            return Ok(());
        }
        let what = "last commit before the log file";
        Err(self.corrupt(file.number, 528, what, at.commit, stated))
    }

    /// Decides whether the place where a walk stopped is the end.
    fn judge(&self, stopped: Position) -> Result<()> {
        let Some(missing) = stopped.commit.checked_add(1) else {
            return Ok(());
        };
        if let Some(damaged) = self.damaged.iter().find(|damaged| damaged.number > stopped.file) {
            return Err(damaged.error());
        }
        for (number, salt, size) in self.files_from(stopped.file) {
            let rest = if number == stopped.file { stopped.offset.into() } else { LOG_START };
            let mut reader = Reader::open(&*self.storage, number, salt, size)?;
            if let Some(later) = evidence::find(&mut reader, rest, missing)? {
                let what = format!("record of commit {missing}");
                let expected = format!(
                    "a valid record, for commit {} was durable when commit {} was written to \
                     log file {number} at offset {}",
                    later.durable, later.commit, later.offset
                );
                let (file, offset) = (stopped.file, u64::from(stopped.offset));
                return Err(self.corrupt(file, offset, what, expected, "no valid record"));
            }
        }
        self.check_none_missing(stopped)
    }

    /// The files from that number on, activated or not, in order.
    fn files_from(&self, first: u32) -> Vec<(u32, u32, u64)> {
        let mut all: Vec<_> = lock(&self.next)
            .spares
            .iter()
            .map(|spare| (spare.number, spare.salt, spare.size))
            .collect();
        let pin = pins::pin();
        let activated = self.files.load(&pin).iter();
        all.extend(activated.map(|file| (file.number, file.salt, file.size)));
        all.retain(|file| file.0 >= first);
        all.sort_unstable();
        all
    }

    /// Checks that no file behind the place names one that does not exist.
    fn check_none_missing(&self, stopped: Position) -> Result<()> {
        let there: Vec<u32> = self.files_from(stopped.file).iter().map(|file| file.0).collect();
        let pin = pins::pin();
        for file in self.files.load(&pin).iter().filter(|file| file.number > stopped.file) {
            let previous = file.activation.previous;
            if previous > stopped.file && !there.contains(&previous) {
                let expected = format!("there, for log file {} follows it", file.number);
                return Err(self.corrupt(previous, 0, "log file", expected, "absent"));
            }
        }
        Ok(())
    }

    /// Damage in a file of the log.
    pub(super) fn corrupt(
        &self,
        file: u32,
        offset: u64,
        what: impl Into<String>,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> Error {
        let path = self.storage.path(&log_file_name(file));
        Error::corrupt(path, offset, what, expected, found)
    }
}
