//! The records of a log file, front to back, and what lies between them.
//!
//! A record is shown if its checksum holds: that cannot be by chance. Whether
//! it is part of the log is another question, and is said beside it: its commit
//! number has to follow the one before, and it has to lie before the end that
//! a later file states. Where there is no record, the next one is searched at
//! every multiple of 8, with an effort that is bounded by the file's length:
//! values are chosen by others and might look like records.

use std::sync::Arc;

use crate::format::record::{
    self, MAX_RECORD, OP_HEADER, Op, OpKind, Ops, RECORD_ALIGN, RECORD_HEADER, RecordHeader, padded,
};
use crate::storage::File;

use super::fields::{Field, records as annotated};
use super::{Damage, Store};

/// How much is read at once, at least.
const WINDOW: usize = 256 << 10;
/// How often over the bytes of a file are looked at when records are searched
/// behind damage, for those whose commit number is one that can follow, and
/// again for all others. The fields of operations often look like a header;
/// they must not use up what is meant for records.
const EFFORT: u64 = 8;
/// The most operations of a record that are kept: one of 1 GiB may have ninety
/// million.
const MOST_OPERATIONS: usize = 100_000;
/// Bytes of a value that an operation shows.
const SHOWN: usize = 64;
/// Bytes of a value, and of what is no record, that a field shows.
const FIELD_BYTES: u64 = 512;

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
    /// Why no record begins there.
    pub why: String,
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
    /// Its operations, as far as they can be decoded: the first 100,000.
    pub operations: Vec<Operation>,
    /// How many more there are.
    pub more_operations: u64,
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

impl Operation {
    fn of(op: &Op<'_>, record: u64, key_at: u32) -> Operation {
        Operation {
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
        }
    }

    /// Where its key begins in the file, in bytes.
    pub fn key_offset(&self) -> u64 {
        self.value_offset - self.key.len() as u64
    }

    /// Where it begins in the file, in bytes.
    pub fn offset(&self) -> u64 {
        self.key_offset() - OP_HEADER as u64
    }
}

/// Which operations of a record are kept.
pub(super) enum Wanted {
    /// The first ones.
    All,
    /// The first ones that concern a key of a table.
    Of {
        /// The id of the table.
        table: u16,
        /// The key.
        key: Vec<u8>,
    },
}

impl Wanted {
    fn has(&self, op: &Op<'_>) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Of { table, .. } if op.table != *table => false,
            Wanted::Of { key, .. } => match op.kind {
                OpKind::Insert | OpKind::Remove => op.key == key,
                OpKind::Clear | OpKind::CreateTable | OpKind::DropTable => true,
            },
        }
    }
}

/// Where a walk over a log file begins and ends.
pub(super) struct Place {
    /// Where it begins, in bytes.
    pub(super) at: u64,
    /// The last commit before that, if it is known.
    pub(super) commit: Option<u64>,
    /// Where the log ends in the file.
    pub(super) end: u64,
    /// The salt of the file.
    pub(super) salt: u32,
}

/// The pieces of a log file, front to back.
pub struct Records {
    window: Window,
    place: Place,
    wanted: Wanted,
    /// How many bytes may still be looked at in searches, for headers whose
    /// commit number is unlikely and likely.
    effort: [u64; 2],
    _store: Store,
}

impl Iterator for Records {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let from = self.place.at;
        let why = match self.record(from) {
            Ok(record) => {
                self.place.at += padded(record.length.into());
                self.place.commit = Some(record.commit);
                return Some(Piece::Record(record));
            }
            Err(why) => why,
        };
        let length = self.window.length;
        // What cannot be read cannot be searched either.
        let (next, used) = match self.search(from) {
            Some(found) => found,
            None if from < length => (length, true),
            None => return None,
        };
        self.place.at = next;
        let gap = Gap { offset: from, length: next - from, why };
        (used || next < length).then_some(Piece::Gap(gap))
    }
}

impl Records {
    pub(super) fn new(
        file: Arc<dyn File>,
        length: u64,
        place: Place,
        wanted: Wanted,
        store: Store,
    ) -> Records {
        let window = Window { file, length, bytes: Vec::new(), start: 0 };
        Records { window, place, wanted, effort: [EFFORT * length; 2], _store: store }
    }

    /// The place that the walk has come to.
    pub(super) fn at(&self) -> u64 {
        self.place.at
    }

    /// The record at an offset, if its checksum holds, or else why there is
    /// none.
    fn record(&mut self, offset: u64) -> Result<Record, String> {
        let Place { salt, end, commit: before, .. } = self.place;
        let too_short = "too few bytes are left for a record";
        let head = self.window.bytes(offset, RECORD_HEADER).and_then(|head| head.first_chunk());
        let RecordHeader { crc, length, .. } = RecordHeader::decode(head.ok_or(too_short)?);
        if (length as usize) < RECORD_HEADER || u64::from(length) > MAX_RECORD {
            return Err(format!("length {length} is not one of a record"));
        }
        let bytes = self.window.bytes(offset, length as usize);
        let bytes = bytes.ok_or_else(|| format!("length {length} leads out of the file"))?;
        let Some(header) = RecordHeader::checked(bytes, salt, offset as u32) else {
            let found = crate::format::crc32(&bytes[4..], record::seed(salt, offset as u32));
            return Err(format!("its {length} bytes have checksum {found:08x}, not {crc:08x}"));
        };
        let RecordHeader { commit, durable, .. } = header;
        let Decoded { operations, more: more_operations, mut damage } =
            decode(&bytes[RECORD_HEADER..], offset, &self.wanted);
        if before.is_some_and(|before| before.checked_add(1) != Some(commit)) {
            let text = format!("commit {commit} follows commit {}", before.unwrap_or(0));
            damage.get_or_insert(Damage::new(offset, text));
        }
        let in_log = offset < end;
        Ok(Record { offset, length, commit, durable, in_log, operations, more_operations, damage })
    }

    /// The next record behind an offset where there is none, or else the end
    /// of the file; and whether a byte before it is not zero.
    fn search(&mut self, from: u64) -> Option<(u64, bool)> {
        let mut at = from;
        let mut used = false;
        while at < self.window.length {
            let piece = self.window.some(at)?;
            // Zeros hold no record.
            let zeros = piece.chunks(RECORD_ALIGN).take_while(|word| is_zero(word)).count();
            let skip = (zeros * RECORD_ALIGN).min(piece.len()) as u64;
            if skip > 0 {
                at += skip;
                continue;
            }
            used = true;
            if at != from && self.plausible(at) && self.record(at).is_ok() {
                return Some((at, used));
            }
            at += RECORD_ALIGN as u64;
        }
        (at > from).then_some((at.min(self.window.length), used))
    }

    /// Whether a record may begin here, and whether it is worth the effort of
    /// its checksum.
    fn plausible(&mut self, offset: u64) -> bool {
        let left = self.window.length - offset;
        // As many records as fit may lie between.
        let (gap, before) = (offset - self.place.at, self.place.commit);
        let Some(head) = self.window.bytes(offset, RECORD_HEADER) else {
            return false;
        };
        let Some(head) = head.first_chunk() else {
            return false;
        };
        let RecordHeader { length, commit, durable, .. } = RecordHeader::decode(head);
        let length = u64::from(length);
        let is_likely = before.is_some_and(|before| {
            let due = before.saturating_add(1);
            (due..=due.saturating_add(gap / RECORD_HEADER as u64)).contains(&commit)
        });
        let effort = &mut self.effort[usize::from(is_likely)];
        let possible = (RECORD_HEADER as u64..=left).contains(&length)
            && durable < commit
            && length <= *effort;
        if possible {
            *effort -= length;
        }
        possible
    }
}

/// The operations of a record.
struct Decoded {
    operations: Vec<Operation>,
    /// How many more there are that were wanted.
    more: u64,
    /// Why the rest cannot be decoded.
    damage: Option<Damage>,
}

fn decode(bytes: &[u8], record: u64, wanted: &Wanted) -> Decoded {
    let mut decoded = Decoded { operations: Vec::new(), more: 0, damage: None };
    for op in Ops::new(bytes) {
        match op {
            Ok((op, _)) if !wanted.has(&op) => {}
            Ok(_) if decoded.operations.len() == MOST_OPERATIONS => decoded.more += 1,
            Ok((op, key_at)) => decoded.operations.push(Operation::of(&op, record, key_at)),
            Err(fault) => decoded.damage = Some(Damage::of(fault, record)),
        }
    }
    decoded
}

/// The bytes of a piece, field by field, read anew.
pub(super) fn fields(file: Arc<dyn File>, piece: &Piece) -> impl Iterator<Item = Field> + use<'_> {
    let reader = Annotator { file };
    let (record, gap) = match piece {
        Piece::Record(record) => (Some(record), None),
        Piece::Gap(gap) => (None, Some(gap)),
    };
    let gap = gap.map(|gap| reader.run(gap.offset, gap.length, "", "no record"));
    let head = record.map_or_else(Vec::new, |record| reader.head(record));
    let rest = record.map_or_else(Vec::new, |record| reader.rest(record));
    let operations = record.map_or(&[][..], |record| &record.operations[..]);
    let operations = operations.iter().enumerate();
    let operations = operations.flat_map(move |(number, op)| reader.operation(number, op));
    gap.into_iter().chain(head).chain(operations).chain(rest)
}

/// What makes fields of the bytes of a log file.
struct Annotator {
    file: Arc<dyn File>,
}

impl Annotator {
    fn head(&self, record: &Record) -> Vec<Field> {
        let mut bytes = [0; RECORD_HEADER];
        match self.file.read_at(&mut bytes, record.offset) {
            Ok(()) => annotated::record(&bytes, record.offset),
            Err(_) => vec![self.run(record.offset, RECORD_HEADER as u64, "record", "record")],
        }
    }

    fn operation(&self, number: usize, op: &Operation) -> Vec<Field> {
        let within = format!("operation {number}");
        let mut bytes = [0; OP_HEADER];
        let mut fields = match self.file.read_at(&mut bytes, op.offset()) {
            Ok(()) => annotated::operation(&bytes, op.offset(), number),
            Err(_) => vec![self.run(op.offset(), OP_HEADER as u64, &within, "operation")],
        };
        let key = op.key.len() as u64;
        let parts = [("key", op.key_offset(), key), ("value", op.value_offset, op.value_length)];
        let parts = parts.into_iter().filter(|(_, _, length)| *length > 0);
        fields.extend(parts.map(|(name, at, length)| self.run(at, length, &within, name)));
        fields
    }

    /// What lies behind the operations that are known, and the padding.
    fn rest(&self, record: &Record) -> Vec<Field> {
        let start = record.offset + RECORD_HEADER as u64;
        let end = record.operations.last().map_or(start, |op| op.value_offset + op.value_length);
        let name = match record.more_operations {
            0 => "operations that cannot be decoded",
            _ => "more operations",
        };
        let next = record.offset + padded(record.length.into());
        let rest = [(name, end, record.end()), ("padding", record.end(), next)];
        let rest = rest.into_iter().filter(|(_, from, to)| from < to);
        rest.map(|(name, from, to)| self.run(from, to - from, "record", name)).collect()
    }

    fn run(&self, at: u64, length: u64, within: &str, name: &str) -> Field {
        let mut bytes = vec![0; length.min(FIELD_BYTES) as usize];
        let read = self.file.read_at(&mut bytes, at);
        let mut field = annotated::run(&bytes, at, length, within, name);
        if let Err(error) = read {
            field.bytes.clear();
            field.damage = Some(Damage::unreadable(at, &error));
        }
        field
    }
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
    /// The bytes from an offset on that are at hand, at least one; `None` at
    /// the end of the file, or if they cannot be read. A search that asked for
    /// a fixed length would read the window anew at each step.
    fn some(&mut self, offset: u64) -> Option<&[u8]> {
        let end = self.start + self.bytes.len() as u64;
        if !(self.start..end).contains(&offset) {
            self.bytes(offset, (self.length.checked_sub(offset)?).min(WINDOW as u64) as usize)?;
        }
        self.bytes.get((offset - self.start) as usize..).filter(|bytes| !bytes.is_empty())
    }

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
