//! The log, byte by byte: file header, activation, records, operations.
//!
//! A log file is a row of records behind two small structures that are
//! written at different times:
//!
//! ```text
//!     0  file header   when the file is prepared: its number, salt and size
//!   512  activation    when the file becomes the end of the log: what came before
//!  4096  record | padding to 8 | record | padding to 8 | ... | unwritten
//!
//! record     crc u32 | length u32 | commit u64 | known durable u64 | operations
//! operation  kind u8 | 0 u8 | table u16 | key length u16 | 0 u16 | value length u32 | key | value
//! ```
//!
//! Header and activation lie in different 512-byte sectors, so that writing
//! the second cannot tear the first. Both are checked for themselves; a file
//! whose activation is not valid is prepared, but not part of the log yet.
//!
//! The checksum of a record begins with its file's salt and its own offset
//! (see [`seed`]): what an earlier life of a recycled file left behind, or what
//! lies at another place, does not pass for a record.
//!
//! This module knows nothing of mappings, of syncing, or of how the end of the
//! log is told from a gap: that is the business of the log. Nothing here
//! allocates except what makes a fault readable.

use super::{BLOCK, Fault, VERSION, check_zero, crc32, is_table_name, put, u16_at, u32_at, u64_at};
use crate::{MAX_KEY_LENGTH, MAX_VALUE_LENGTH};

/// Where the first record of a log file lies, in bytes.
pub(crate) const LOG_START: u64 = 4096;
/// Where the activation of a log file lies, in bytes.
pub(crate) const ACTIVATION_OFFSET: usize = 512;
/// The size of an activation in bytes.
pub(crate) const ACTIVATION_BYTES: usize = 32;
/// The size in bytes of what precedes a record's operations.
pub(crate) const RECORD_HEADER: usize = 24;
/// The size in bytes of what precedes an operation's key and value.
pub(crate) const OP_HEADER: usize = 12;
/// Records begin at multiples of this many bytes.
pub(crate) const RECORD_ALIGN: usize = 8;
/// The longest record in bytes.
pub(crate) const MAX_RECORD: u64 = 1 << 30;
/// The longest log file in bytes: it holds one longest record.
pub(crate) const MAX_LOG_FILE: u64 = LOG_START + MAX_RECORD;

pub(crate) const FILE_MAGIC: &[u8; 8] = b"swisslog";
const ACTIVATION_MAGIC: &[u8; 8] = b"activate";
/// Where the file header's checksum lies, which covers all before it.
const HEADER_CRC: usize = 32;
/// Where the activation's checksum lies, counted from the activation.
const ACTIVATION_CRC: usize = 28;

const _: () = {
    assert!(HEADER_CRC + 4 <= ACTIVATION_OFFSET);
    assert!(ACTIVATION_CRC + 4 == ACTIVATION_BYTES);
    assert!(ACTIVATION_OFFSET + ACTIVATION_BYTES <= BLOCK);
    assert!(LOG_START == BLOCK as u64 && BLOCK.is_multiple_of(RECORD_ALIGN));
    // The longest key with the longest value is a possible record, and its
    // offsets and lengths fit their 32 bits.
    let longest = RECORD_HEADER + OP_HEADER + MAX_KEY_LENGTH + MAX_VALUE_LENGTH;
    assert!(longest as u64 <= MAX_RECORD && MAX_LOG_FILE <= u32::MAX as u64);
    assert!(MAX_KEY_LENGTH < 1 << 15);
    assert!(MAX_LOG_FILE.is_multiple_of(BLOCK as u64));
};

/// A place between two records of the log.
///
/// Two positions are the same place in the same log only if all fields are
/// equal; the salt tells lives of a recycled file apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub(crate) struct Position {
    /// The number of the log file.
    pub(crate) file: u32,
    /// The salt of that file.
    pub(crate) salt: u32,
    /// Where in the file the next record would begin, in bytes.
    pub(crate) offset: u32,
    /// The number of the last commit before this place.
    pub(crate) commit: u64,
}

/// What a log file says of itself from the moment it is prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogFileHeader {
    /// Its number; the file's name says the same.
    pub(crate) number: u32,
    /// Chosen at random for each life of a file, never 0.
    pub(crate) salt: u32,
    /// Its length in bytes, a multiple of a block.
    pub(crate) size: u64,
}

impl LogFileHeader {
    /// The first block of a file that is prepared and not activated.
    pub(crate) fn encode(&self) -> [u8; BLOCK] {
        let mut bytes = [0; BLOCK];
        put(&mut bytes, 0, FILE_MAGIC);
        put(&mut bytes, 8, &VERSION.to_le_bytes());
        put(&mut bytes, 12, &self.number.to_le_bytes());
        put(&mut bytes, 16, &self.salt.to_le_bytes());
        put(&mut bytes, 24, &self.size.to_le_bytes());
        let crc = crc32(&bytes[..HEADER_CRC], 0);
        put(&mut bytes, HEADER_CRC, &crc.to_le_bytes());
        bytes
    }

    /// Reads the first block of a log file, activated or not.
    ///
    /// # Errors
    ///
    /// A fault for anything the format does not allow, the bytes around the
    /// activation included; one of version where magic and checksum are sound.
    pub(crate) fn decode(bytes: &[u8; BLOCK]) -> Result<LogFileHeader, Fault> {
        if &bytes[..8] != FILE_MAGIC {
            let found = bytes[..8].escape_ascii();
            return Err(Fault::new(0, "magic of the log file", "swisslog", found));
        }
        let (stored, actual) = (u32_at(bytes, HEADER_CRC), crc32(&bytes[..HEADER_CRC], 0));
        if stored != actual {
            return Err(checksum(HEADER_CRC, "checksum of the log file's header", actual, stored));
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(Fault::version(8, "version of the log file", version, VERSION));
        }
        let header = LogFileHeader {
            number: u32_at(bytes, 12),
            salt: u32_at(bytes, 16),
            size: u64_at(bytes, 24),
        };
        if header.number == 0 {
            return Err(Fault::new(12, "number of the log file", "1 or more", 0));
        }
        if header.salt == 0 {
            return Err(Fault::new(16, "salt of the log file", "not 0", 0));
        }
        check_zero(bytes, 20, 24, "reserved byte of the log file's header")?;
        let least = LOG_START + BLOCK as u64;
        if !header.size.is_multiple_of(BLOCK as u64)
            || !(least..=MAX_LOG_FILE).contains(&header.size)
        {
            let expected =
                format_args!("a multiple of {BLOCK} from {least} to {MAX_LOG_FILE}").to_string();
            return Err(Fault::new(24, "size of the log file", expected, header.size));
        }
        check_zero(bytes, HEADER_CRC + 4, ACTIVATION_OFFSET, "byte before the activation")?;
        let end = ACTIVATION_OFFSET + ACTIVATION_BYTES;
        check_zero(bytes, end, BLOCK, "byte behind the activation")?;
        Ok(header)
    }
}

/// What a log file says of the log before it, written when it becomes the
/// log's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Activation {
    /// The number of the previous log file, 0 if this is the first.
    pub(crate) previous: u32,
    /// Where the log ends in the previous file; what lies behind is ignored.
    pub(crate) previous_end: u32,
    /// The number of the last commit before this file.
    pub(crate) last_commit: u64,
    /// The salt of this file.
    pub(crate) salt: u32,
}

impl Activation {
    /// The bytes to write at [`ACTIVATION_OFFSET`].
    pub(crate) fn encode(&self) -> [u8; ACTIVATION_BYTES] {
        let mut bytes = [0; ACTIVATION_BYTES];
        put(&mut bytes, 0, ACTIVATION_MAGIC);
        put(&mut bytes, 8, &self.previous.to_le_bytes());
        put(&mut bytes, 12, &self.previous_end.to_le_bytes());
        put(&mut bytes, 16, &self.last_commit.to_le_bytes());
        put(&mut bytes, 24, &self.salt.to_le_bytes());
        let crc = crc32(&bytes[..ACTIVATION_CRC], 0);
        put(&mut bytes, ACTIVATION_CRC, &crc.to_le_bytes());
        bytes
    }

    /// Reads the activation out of the first block of a log file whose header
    /// has the given salt. `None`: the file is prepared, but not activated.
    pub(crate) fn decode(bytes: &[u8; BLOCK], salt: u32) -> Option<Activation> {
        let bytes = &bytes[ACTIVATION_OFFSET..ACTIVATION_OFFSET + ACTIVATION_BYTES];
        let activation = Activation {
            previous: u32_at(bytes, 8),
            previous_end: u32_at(bytes, 12),
            last_commit: u64_at(bytes, 16),
            salt: u32_at(bytes, 24),
        };
        let sound = &bytes[..8] == ACTIVATION_MAGIC
            && u32_at(bytes, ACTIVATION_CRC) == crc32(&bytes[..ACTIVATION_CRC], 0)
            && activation.salt == salt;
        sound.then_some(activation)
    }
}

/// What precedes the operations of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    /// Checksum of the bytes 4 to `length`, begun with [`seed`].
    pub(crate) crc: u32,
    /// Bytes of header and operations, without the padding to 8.
    pub(crate) length: u32,
    /// The commit number: that of the record before plus one.
    pub(crate) commit: u64,
    /// The last commit known to be durable when this one was written.
    pub(crate) durable: u64,
}

impl RecordHeader {
    /// The header as bytes. What follows the first four is what the checksum
    /// begins with.
    #[inline]
    pub(crate) fn encode(&self) -> [u8; RECORD_HEADER] {
        let mut bytes = [0; RECORD_HEADER];
        bytes[..4].copy_from_slice(&self.crc.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.commit.to_le_bytes());
        bytes[16..].copy_from_slice(&self.durable.to_le_bytes());
        bytes
    }

    /// The fields as they are, unchecked.
    #[inline]
    pub(crate) fn decode(bytes: &[u8; RECORD_HEADER]) -> RecordHeader {
        RecordHeader {
            crc: u32_at(bytes, 0),
            length: u32_at(bytes, 4),
            commit: u64_at(bytes, 8),
            durable: u64_at(bytes, 16),
        }
    }

    /// The header of the record that begins with `bytes` and at `offset` of a
    /// file with that salt, if its length is possible and its checksum holds.
    /// `bytes` may go on behind the record, up to the end of the file. Whether
    /// the commit number is the one that is due is the caller's question.
    pub(crate) fn checked(bytes: &[u8], salt: u32, offset: u32) -> Option<RecordHeader> {
        let header = RecordHeader::decode(bytes.first_chunk()?);
        if (header.length as usize) < RECORD_HEADER || u64::from(header.length) > MAX_RECORD {
            return None;
        }
        let covered = bytes.get(4..header.length as usize)?;
        (crc32(covered, seed(salt, offset)) == header.crc).then_some(header)
    }
}

/// What the checksum of the record at `offset` of a file begins with.
#[inline]
pub(crate) fn seed(salt: u32, offset: u32) -> u32 {
    salt ^ offset
}

/// The bytes a record occupies that is `length` bytes long: the next one
/// begins behind them.
#[inline]
pub(crate) fn padded(length: u64) -> u64 {
    length.next_multiple_of(RECORD_ALIGN as u64)
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum OpKind {
    /// Sets the value of a key.
    Insert = 1,
    /// Removes a key. There is no value.
    Remove = 2,
    /// Removes all keys. There is no key; the value is the new hash key.
    Clear = 3,
    /// Makes the table whose file was prepared. The key is its name; no value.
    CreateTable = 4,
    /// Drops the table. The key is its name or nothing; there is no value.
    DropTable = 5,
}

impl OpKind {
    /// The newest kind.
    const LAST: u8 = OpKind::DropTable as u8;

    fn decode(byte: u8) -> Option<OpKind> {
        Some(match byte {
            1 => OpKind::Insert,
            2 => OpKind::Remove,
            3 => OpKind::Clear,
            4 => OpKind::CreateTable,
            5 => OpKind::DropTable,
            _ => return None,
        })
    }
}

/// One change to one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Op<'a> {
    /// What is done.
    pub(crate) kind: OpKind,
    /// The id of the table it is done to.
    pub(crate) table: u16,
    /// At most [`MAX_KEY_LENGTH`] bytes.
    pub(crate) key: &'a [u8],
    /// At most [`MAX_VALUE_LENGTH`] bytes.
    pub(crate) value: &'a [u8],
}

impl Op<'_> {
    /// The bytes the operation takes in a record: header, key and value.
    #[inline]
    pub(crate) fn encoded_len(&self) -> u64 {
        (OP_HEADER + self.key.len() + self.value.len()) as u64
    }

    /// What precedes key and value in a record. The caller guarantees that
    /// the lengths are within their limits.
    #[inline]
    pub(crate) fn encode_header(&self) -> [u8; OP_HEADER] {
        debug_assert!(self.key.len() <= MAX_KEY_LENGTH && self.value.len() <= MAX_VALUE_LENGTH);
        let mut bytes = [0; OP_HEADER];
        bytes[0] = self.kind as u8;
        bytes[2..4].copy_from_slice(&self.table.to_le_bytes());
        bytes[4..6].copy_from_slice(&(self.key.len() as u16).to_le_bytes());
        bytes[8..].copy_from_slice(&(self.value.len() as u32).to_le_bytes());
        bytes
    }
}

/// The operations of a record whose checksum holds, in order.
///
/// Yields each with the offset of its key in the record; the value follows
/// its key. After a fault there is nothing more. A fault's offset counts from
/// the beginning of the record.
#[derive(Debug, Clone)]
pub(crate) struct Ops<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Ops<'a> {
    /// The operations in `bytes`, which lie behind a record's header and end
    /// where its length says.
    pub(crate) fn new(bytes: &'a [u8]) -> Ops<'a> {
        Ops { rest: bytes, offset: RECORD_HEADER }
    }

    /// The next one, if it is an insert or a remove without a fault: nearly all are.
    #[inline(always)]
    fn decode_plain(&mut self) -> Option<(Op<'a>, u32)> {
        let header: &[u8; OP_HEADER] = self.rest.first_chunk()?;
        let kind = OpKind::decode(header[0])?;
        if !matches!(kind, OpKind::Insert | OpKind::Remove) {
            return None;
        }
        let (key, value) = (usize::from(u16_at(header, 4)), u32_at(header, 8) as usize);
        let Limits { most_key, value: (least_value, most_value) } = limits(kind);
        let reserved = header[1] | header[6] | header[7];
        if reserved != 0 || key > most_key || !(least_value..=most_value).contains(&value) {
            return None;
        }
        let (this, rest) = self.rest.split_at_checked(OP_HEADER + key + value)?;
        let (key, value) = this[OP_HEADER..].split_at(key);
        let op = Op { kind, table: u16_at(header, 2), key, value };
        let key_offset = (self.offset + OP_HEADER) as u32;
        self.rest = rest;
        self.offset += this.len();
        Some((op, key_offset))
    }

    #[cold]
    fn decode_next(&mut self) -> Result<(Op<'a>, u32), Fault> {
        let (bytes, at) = (self.rest, self.offset);
        if bytes.len() < OP_HEADER {
            let what = "bytes left for an operation";
            return Err(Fault::new(at, what, format_args!("{OP_HEADER} or more"), bytes.len()));
        }
        let Some(kind) = OpKind::decode(bytes[0]) else {
            let (found, known) = (bytes[0].into(), OpKind::LAST.into());
            return Err(Fault::version(at, "kind of operation", found, known));
        };
        let reserved = bytes[1] | bytes[6] | bytes[7];
        if reserved != 0 {
            return Err(Fault::new(at + 1, "reserved byte of an operation", 0, reserved));
        }
        let (key, value) = (usize::from(u16_at(bytes, 4)), u32_at(bytes, 8) as usize);
        check_lengths(kind, key, value, at)?;
        // Both are limited by now, so that the sum cannot overflow.
        let end = OP_HEADER + key + value;
        if end > bytes.len() {
            let left = format_args!("at most {}", bytes.len()).to_string();
            return Err(Fault::new(at, "bytes of an operation", left, end));
        }
        let (this, rest) = bytes.split_at(end);
        let (key, value) = this[OP_HEADER..].split_at(key);
        if kind == OpKind::CreateTable && !is_table_name(key) {
            let name = key.escape_ascii();
            return Err(Fault::new(at, "name of a new table", "1 to 64 of A-Za-z0-9_-", name));
        }
        let op = Op { kind, table: u16_at(bytes, 2), key, value };
        let key_offset = (at + OP_HEADER) as u32;
        self.rest = rest;
        self.offset = at + end;
        Ok((op, key_offset))
    }
}

/// How long key and value of an operation may be.
struct Limits {
    most_key: usize,
    /// The least and the most.
    value: (usize, usize),
}

#[inline(always)]
fn limits(kind: OpKind) -> Limits {
    let value = match kind {
        OpKind::Insert => (0, MAX_VALUE_LENGTH),
        OpKind::Clear => (16, 16),
        OpKind::Remove | OpKind::CreateTable | OpKind::DropTable => (0, 0),
    };
    Limits { most_key: if kind == OpKind::Clear { 0 } else { MAX_KEY_LENGTH }, value }
}

/// Checks what an operation of that kind may carry.
fn check_lengths(kind: OpKind, key: usize, value: usize, at: usize) -> Result<(), Fault> {
    let Limits { most_key, value: (least_value, most_value) } = limits(kind);
    if key > most_key {
        let expected = format_args!("at most {most_key}").to_string();
        return Err(Fault::new(at + 4, "key length of an operation", expected, key));
    }
    if !(least_value..=most_value).contains(&value) {
        let expected = format_args!("{least_value} to {most_value}").to_string();
        return Err(Fault::new(at + 8, "value length of an operation", expected, value));
    }
    Ok(())
}

impl<'a> Iterator for Ops<'a> {
    type Item = Result<(Op<'a>, u32), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        if let Some(plain) = self.decode_plain() {
            return Some(Ok(plain));
        }
        let item = self.decode_next();
        if item.is_err() {
            self.rest = &[];
        }
        Some(item)
    }
}

/// The fault of a checksum that does not hold.
#[cold]
pub(super) fn checksum(offset: usize, what: &'static str, actual: u32, stored: u32) -> Fault {
    let expected = format_args!("{actual:08x}, computed from the bytes").to_string();
    Fault::new(offset, what, expected, format_args!("{stored:08x}"))
}

/// The name of a log file, relative to the store's directory.
pub(crate) fn log_file_name(number: u32) -> String {
    format!("log/{number:08}.log")
}

/// The number of the log file with that base name, if it is one that
/// [`log_file_name`] forms.
pub(crate) fn parse_log_file_name(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".log")?;
    let number = digits.parse().ok().filter(|&number| number != 0)?;
    (format!("{number:08}") == digits).then_some(number)
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
