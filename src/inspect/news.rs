//! What the log says of a key that the table file does not show yet.
//!
//! A table file is equal to a place in the log that is called L. Operations
//! behind it are in memory while the store is open, and are done again when it
//! is opened the next time; no page shows them. The walk here follows the log
//! from L on as recovery does, from file to file, and keeps the operations on
//! one key. Where the log is damaged it ends, and says so.

use std::collections::VecDeque;

use crate::error::{Error, Result};
use crate::format::header;
use crate::format::record::LOG_START;

use super::header::Position;
use super::log::{self, LogFile};
use super::records::{Kind, Operation, Piece, Record, Records, Wanted};
use super::{Damage, Store};

/// The most operations that are kept.
const MOST: usize = 1000;

/// What the log behind L says of a key.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("store");
/// let db = swissdb::Db::open(&path)?;
/// db.insert("apple", "red")?;
/// db.close()?;
/// let search = swissdb::inspect::key(&path, "default", b"apple")?;
/// // A store that was closed has nothing behind L.
/// assert_eq!((search.news.records, search.news.is_there()), (0, None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct News {
    /// L: where the walk began.
    pub from: Position,
    /// Where it ended: the end of the log, or damage.
    pub to: Position,
    /// How many records lie between.
    pub records: u64,
    /// The operations among them that concern the key, or the whole table: the
    /// last 1,000, the newest at the end.
    pub newer: Vec<Newer>,
    /// How many more there were before those.
    pub more: u64,
    /// What keeps the log from being followed to its end; the offset is one in
    /// the log file that the text names.
    pub damage: Option<Damage>,
}

/// An operation behind L.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Newer {
    /// The number of the log file that it is in.
    pub file: u32,
    /// The commit that it is part of.
    pub commit: u64,
    /// What it does.
    pub operation: Operation,
}

impl News {
    /// Whether the key is there when the log is replayed; `None` if the log
    /// behind L does not say, so that the table file is right.
    pub fn is_there(&self) -> Option<bool> {
        Some(self.newer.last()?.operation.kind == Kind::Insert)
    }
}

/// Follows the log behind the L of a table.
pub(super) fn read(store: &Store, header: &header::Header, key: &[u8]) -> Result<News> {
    let at = header.log;
    let from = Position { file: at.file, salt: at.salt, offset: at.offset, commit: at.commit };
    let mut walk = Walk {
        to: from,
        records: 0,
        newer: VecDeque::new(),
        more: 0,
        table: header.table_id,
        key: key.to_vec(),
    };
    let damage = match log::read(store.clone()) {
        Ok(log) => walk.run(&log.files)?.err(),
        Err(Error::NotFound { .. }) => Some(Damage::new(0, "the log is absent")),
        Err(error) => return Err(error),
    };
    let Walk { to, records, newer, more, .. } = walk;
    Ok(News { from, to, records, newer: newer.into(), more, damage })
}

/// A walk along the log.
struct Walk {
    to: Position,
    records: u64,
    newer: VecDeque<Newer>,
    more: u64,
    table: u16,
    key: Vec<u8>,
}

impl Walk {
    /// Walks from file to file. The inner error is damage.
    fn run(&mut self, files: &[LogFile]) -> Result<std::result::Result<(), Damage>> {
        let mut file = match self.first(files) {
            Ok(file) => file,
            Err(damage) => return Ok(Err(damage)),
        };
        loop {
            let wanted = Wanted::Of { table: self.table, key: self.key.clone() };
            let (at, commit) = (self.to.offset.into(), Some(self.to.commit));
            let records = file.pieces_from(at, commit, wanted)?;
            if let Err(damage) = self.walk_file(file, records) {
                return Ok(Err(damage));
            }
            // Each step leads to a higher number, so the walk ends.
            let next = files.iter().rfind(|next| {
                next.number > file.number
                    && next.activation.is_some_and(|a| a.previous == file.number)
            });
            let Some((next, activation)) = next.and_then(|next| Some((next, next.activation?)))
            else {
                return Ok(Ok(()));
            };
            if (activation.previous_end, activation.last_commit) != (self.to.offset, self.to.commit)
            {
                let text = format!(
                    "log file {} follows commit {} at offset {} of log file {}, but its records \
                     end behind commit {} at offset {}",
                    next.number,
                    activation.last_commit,
                    activation.previous_end,
                    file.number,
                    self.to.commit,
                    self.to.offset
                );
                return Ok(Err(Damage::new(self.to.offset.into(), text)));
            }
            self.to = Position {
                file: next.number,
                salt: next.salt,
                offset: LOG_START as u32,
                commit: self.to.commit,
            };
            file = next;
        }
    }

    /// The file that L lies in.
    fn first<'a>(&self, files: &'a [LogFile]) -> std::result::Result<&'a LogFile, Damage> {
        let Position { file: number, salt, offset, .. } = self.to;
        let found = files.iter().find(|file| file.number == number);
        let what = match found {
            None => "is absent".to_owned(),
            Some(file) if file.activation.is_none() => "is not activated".to_owned(),
            Some(file) if file.salt != salt => {
                format!("has salt {:08x}, but L says {salt:08x}", file.salt)
            }
            Some(file) => return Ok(file),
        };
        Err(Damage::new(offset.into(), format!("log file {number}, in which L lies, {what}")))
    }

    /// Walks over the records of a file, up to the end of the log in it.
    fn walk_file(&mut self, file: &LogFile, records: Records) -> std::result::Result<(), Damage> {
        let mut records = records;
        while let Some(piece) = records.next() {
            let record = match piece {
                Piece::Gap(_) => return self.judge_rest(file, records),
                Piece::Record(record) if !record.in_log => return Ok(()),
                Piece::Record(record) => record,
            };
            if let Some(Damage { offset, text }) = record.damage {
                return Err(Damage::new(offset, format!("log file {}: {text}", file.number)));
            }
            self.records += 1;
            self.to.commit = record.commit;
            self.to.offset = records.at() as u32;
            self.take(file.number, record);
        }
        Ok(())
    }

    fn take(&mut self, file: u32, record: Record) {
        let commit = record.commit;
        self.more += record.more_operations;
        for operation in record.operations {
            if self.newer.len() == MOST {
                self.newer.pop_front();
                self.more += 1;
            }
            self.newer.push_back(Newer { file, commit, operation });
        }
    }

    /// Where no record is, the log ends, unless one behind it shows that
    /// something there was durable once.
    fn judge_rest(&self, file: &LogFile, rest: Records) -> std::result::Result<(), Damage> {
        let due = self.to.commit.saturating_add(1);
        let records = rest.filter_map(|piece| match piece {
            Piece::Record(record) => Some(record),
            Piece::Gap(_) => None,
        });
        let proof = records.into_iter().find(|record| record.in_log && record.durable >= due);
        match proof {
            None => Ok(()),
            Some(record) => {
                let text = format!(
                    "log file {}: commit {due} should be here, because commit {} lies behind it",
                    file.number, record.commit
                );
                Err(Damage::new(self.to.offset.into(), text))
            }
        }
    }
}
