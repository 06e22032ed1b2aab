//! Putting a record into the active file.
//!
//! A record that fits a small buffer is put together there, checksummed in one
//! pass and written by one call. A longer one is written in pieces, its checksum
//! last; long keys and values go from the caller's bytes into the file without
//! a detour. A long value that stays here has a checksum of its own, for its
//! address: it is made first, and the record's follows from it, so that the bytes
//! are gone through once. What a record needs was reserved before; where it goes, and what
//! follows from a failure, is for the [`Appender`](super::Appender) to say.
//!
//! # Two ways
//!
//! Through the **mapping** of the file: a copy in memory, ten times cheaper than
//! a call. It is the way of stores that sync now and then. But the sync has to
//! write-protect every page that was stored into, and the next store into it
//! faults: where a sync follows each record, that costs more than the call
//! (measured for one record of 88 bytes: `fdatasync` took 177 µs after a store,
//! 106 after a `pwrite`). So stores whose commits are durable one by one append
//! by a **call**. And so do all with records of 48 KiB or more for each operation:
//! a store into a page that is not in memory fills it with zeros first, with all
//! that is read ahead, and faults, which for so many pages costs more than a call
//! (values of 60,000 bytes: the same; of 100,000: a fill 39 µs each, then 30).
//! With shorter ones the mapping is ahead (10,000: 4 µs, by calls 7). Either
//! way the bytes are in the page cache, where the death of the process does not
//! reach them.
//!
//! # Why readers see what a call has written
//!
//! Values are read through the mapping, which shows the page cache itself, so
//! there is one copy of the bytes. A write call is no atomic store, and the
//! language says nothing of it; it is this:
//!
//! 1. To the compiler the call is foreign code that may touch any memory. No
//!    access of this program moves across it.
//! 2. The kernel copies on the processor that makes the call. To that processor
//!    its stores are earlier ones of the same thread, whoever's code they stand
//!    in, so the `Release` store that publishes the end of the file, and the
//!    one that publishes a slot, are ordered behind them. Where the thread
//!    moves to another processor in between, the kernel orders all that it did
//!    before.
//! 3. Whoever has loaded the end, or the slot, with `Acquire` sees them, and
//!    reads nothing behind the end. Nobody writes below it.
//!
//! (Processors on which two addresses of the same memory may show different
//! bytes have a kernel that takes care of it.)
//!
//! # A full device
//!
//! The space of a log file was taken when it was made, so there is room for
//! every record that was reserved. A file system that wants more all the same,
//! to copy on write for instance, says so to a call, and the commit can be
//! refused; there, what goes through the mapping elsewhere is a call, too. Part of
//! the record may be there then, and by chance, where zeros stand that were to be
//! written, all of it. So its header is [taken back](take_back): nothing behind the
//! end may be valid.

use std::io;

use super::files::Writable;
use crate::format::crc32;
use crate::format::record::{
    OP_HEADER, Op, RECORD_ALIGN, RECORD_HEADER, RecordHeader, padded, seed,
};

/// Records up to this size are put together before they are written.
pub(super) const BUFFER: usize = 4096;

/// From this length on a key or value is written without going through the
/// buffer.
const DIRECT: usize = BUFFER / 2;

/// So much is written at a time: what is still in the cache when it is copied.
const PIECE: usize = 128 << 10;

/// From this length on, for each of its operations, a record is written by a
/// call in all stores.
const LONG: u64 = 48 << 10;

/// Where a record was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    /// The number of the file.
    pub(crate) file: u32,
    /// Where the record begins in it, in bytes.
    pub(crate) offset: u32,
    /// Its commit number.
    pub(crate) commit: u64,
}

/// The length of a record with these operations.
#[inline]
pub(super) fn length(ops: &[Op<'_>]) -> u64 {
    ops.iter().fold(RECORD_HEADER as u64, |sum, op| sum + op.encoded_len())
}

/// How bytes get into a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By a copy into the mapping.
    Mapping,
    /// By a write call.
    Call,
}

impl Way {
    /// How a record of that many bytes and operations is written where this is
    /// the way of most.
    #[inline]
    pub(super) fn of(self, length: u64, ops: usize) -> Way {
        if length < LONG * ops as u64 { self } else { Way::Call }
    }
}

/// Writes bytes of a record at an offset.
#[inline]
fn write(to: &Writable, way: Way, bytes: &[u8], offset: u64) -> io::Result<()> {
    match way {
        Way::Mapping => to.file.write_mapped(&to.log.map, bytes, offset),
        Way::Call => to.file.write_at(bytes, offset),
    }
}

/// Writes a record at an offset. If it has one operation, the checksum of its
/// value may be known: then that of the record is put together from it.
///
/// # Errors
///
/// What the storage says. Then any part of the record may be there.
#[inline]
pub(super) fn put_record(
    to: &Writable,
    way: Way,
    offset: u64,
    header: &RecordHeader,
    (ops, known): (&[Op<'_>], Option<u32>),
    buffer: &mut [u8; BUFFER],
) -> io::Result<()> {
    if padded(u64::from(header.length)) <= BUFFER as u64 {
        put_small(to, way, offset, header, ops, buffer)
    } else {
        put_large(to, way, offset, header, buffer, |pieces| {
            ops.iter().try_for_each(|op| {
                pieces.push(&op.encode_header())?;
                pieces.push(op.key)?;
                match known {
                    Some(crc) => pieces.push_known(op.value, crc),
                    None => pieces.push(op.value),
                }
            })
        })
    }
}

/// Puts the record of one operation together in the buffer, padding included,
/// for [`put_composed`]. `false`: it does not fit, or hardly.
#[inline]
pub(super) fn compose(
    salt: u32,
    offset: u64,
    header: &RecordHeader,
    op: &Op<'_>,
    buffer: &mut [u8; BUFFER],
) -> bool {
    const KEY: usize = RECORD_HEADER + OP_HEADER;
    let length = header.length as usize;
    debug_assert_eq!(length, KEY + op.key.len() + op.value.len());
    let Some(body) = buffer.get_mut(KEY..length + RECORD_ALIGN) else {
        return false;
    };
    let (key, behind) = body.split_at_mut(op.key.len());
    let (value, padding) = behind.split_at_mut(op.value.len());
    copy_short(op.key, key);
    copy_short(op.value, value);
    padding.fill(0);
    buffer[..RECORD_HEADER].copy_from_slice(&header.encode());
    buffer[RECORD_HEADER..KEY].copy_from_slice(&op.encode_header());
    let crc = crc32(&buffer[4..length], seed(salt, offset as u32));
    buffer[..4].copy_from_slice(&crc.to_le_bytes());
    true
}

/// Copies what is short as a rule: without a call then.
#[inline(always)]
fn copy_short(from: &[u8], to: &mut [u8]) {
    if let (Ok(from), Ok(to)) = (<&[u8; 16]>::try_from(from), <&mut [u8; 16]>::try_from(&mut *to)) {
        *to = *from;
    } else {
        to.copy_from_slice(from);
    }
}

/// Writes `space` bytes that were put together at an offset.
///
/// # Errors
///
/// As [`put_record`].
#[inline]
pub(super) fn put_composed(
    to: &Writable,
    way: Way,
    offset: u64,
    space: u64,
    buffer: &[u8; BUFFER],
) -> io::Result<()> {
    write(to, way, &buffer[..space as usize], offset)
}

/// Makes sure that there is no record at an offset, by zeros for its header.
///
/// # Errors
///
/// What the storage says. Then there may be one.
#[cold]
pub(super) fn take_back(to: &Writable, way: Way, offset: u64) -> io::Result<()> {
    write(to, way, &[0; RECORD_HEADER], offset)
}

/// Writes a record that fits the buffer, padding included.
#[inline]
fn put_small(
    to: &Writable,
    way: Way,
    offset: u64,
    header: &RecordHeader,
    ops: &[Op<'_>],
    buffer: &mut [u8; BUFFER],
) -> io::Result<()> {
    let record = &mut buffer[..padded(u64::from(header.length)) as usize];
    let mut rest = &mut record[RECORD_HEADER..];
    for op in ops {
        let (this, others) = rest.split_at_mut(op.encoded_len() as usize);
        let (head, body) = this.split_at_mut(OP_HEADER);
        let (key, value) = body.split_at_mut(op.key.len());
        head.copy_from_slice(&op.encode_header());
        key.copy_from_slice(op.key);
        value.copy_from_slice(op.value);
        rest = others;
    }
    complete(record, to.log.salt, offset, header);
    write(to, way, record, offset)
}

/// Writes a record of any length, in pieces; its checksum comes last. The
/// operations are what `push` pushes.
#[cold]
fn put_large(
    to: &Writable,
    way: Way,
    offset: u64,
    header: &RecordHeader,
    buffer: &mut [u8; BUFFER],
    push: impl FnOnce(&mut Pieces<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let salt_and_offset = seed(to.log.salt, offset as u32);
    let mut pieces = Pieces {
        to,
        way,
        at: offset + 4,
        crc: crc32fast::Hasher::new_with_initial(salt_and_offset),
        buffer,
        filled: 0,
    };
    pieces.push(&header.encode()[4..])?;
    push(&mut pieces)?;
    pieces.flush()?;
    let (at, crc) = (pieces.at, pieces.crc.finalize());
    let padding = padded(at) - at;
    write(to, way, &[0; 8][..padding as usize], at)?;
    write(to, way, &crc.to_le_bytes(), offset)
}

/// Writes a record whose operations are encoded already.
///
/// # Errors
///
/// As [`put_record`].
pub(super) fn put_encoded(
    to: &Writable,
    way: Way,
    offset: u64,
    header: &RecordHeader,
    body: &[u8],
    buffer: &mut [u8; BUFFER],
) -> io::Result<()> {
    let length = RECORD_HEADER + body.len();
    let space = padded(length as u64) as usize;
    let Some(record) = buffer.get_mut(..space) else {
        return put_large(to, way, offset, header, buffer, |pieces| pieces.push(body));
    };
    record[RECORD_HEADER..length].copy_from_slice(body);
    complete(record, to.log.salt, offset, header);
    write(to, way, record, offset)
}

/// Completes a record whose operations are in their place: the header before
/// them, with the checksum, and zeros behind.
#[inline]
fn complete(record: &mut [u8], salt: u32, offset: u64, header: &RecordHeader) {
    let length = header.length as usize;
    record[..RECORD_HEADER].copy_from_slice(&header.encode());
    record[length..].fill(0);
    let crc = crc32(&record[4..length], seed(salt, offset as u32));
    record[..4].copy_from_slice(&crc.to_le_bytes());
}

/// A long record on its way into the file.
struct Pieces<'a> {
    to: &'a Writable,
    way: Way,
    /// Where in the file the buffer goes.
    at: u64,
    crc: crc32fast::Hasher,
    buffer: &'a mut [u8; BUFFER],
    filled: usize,
}

impl Pieces<'_> {
    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > BUFFER - self.filled {
            self.flush()?;
        }
        if bytes.len() >= DIRECT {
            self.flush()?;
            return self.write(bytes);
        }
        self.buffer[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
        Ok(())
    }

    /// Writes bytes whose checksum is known.
    fn push_known(&mut self, bytes: &[u8], crc: u32) -> io::Result<()> {
        self.flush()?;
        write(self.to, self.way, bytes, self.at)?;
        self.at += bytes.len() as u64;
        let known = crc32fast::Hasher::new_with_initial_len(crc, bytes.len() as u64);
        self.crc.combine(&known);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.crc.update(&self.buffer[..self.filled]);
        write(self.to, self.way, &self.buffer[..self.filled], self.at)?;
        self.at += self.filled as u64;
        self.filled = 0;
        Ok(())
    }

    /// Writes bytes in steps that are still in the cache when they are copied.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE) {
            self.crc.update(piece);
            write(self.to, self.way, piece, self.at)?;
            self.at += piece.len() as u64;
        }
        Ok(())
    }
}
