//! Looking for records behind one that is missing.
//!
//! When a record cannot be read, the length that would lead to the next one
//! cannot be trusted either. Records begin at multiples of 8, so every such
//! place is tried: what looks like the header of a record that was written
//! when the missing commit was known to be durable, and has a checksum that
//! holds, is the proof that there is a gap. What an earlier life of the file
//! left behind has another salt and fails; what was written after the missing
//! record without knowing it durable proves nothing.
//!
//! # Cost
//!
//! The rest of a file is read once. Zeros are passed over at the speed of
//! memory, and hardly anything but a record passes for a header. Still, values
//! are chosen by others, and one full of forged headers must not keep a store
//! from opening: a checksum over a long range is put together from checksums of
//! the file's blocks, so that each trial costs a few microseconds at most.

use std::sync::Arc;

use super::reader::{Reader, WINDOW};
use crate::error::{Error, Result};
use crate::format::record::{
    MAX_RECORD, OP_HEADER, RECORD_ALIGN, RECORD_HEADER, RecordHeader, seed,
};
use crate::format::{BLOCK, crc32};
use crate::storage::File;

/// A block in which nothing was written.
const ZEROS: [u8; BLOCK] = [0; BLOCK];

/// A record that shows that another one is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Evidence {
    /// Where it begins, in bytes.
    pub(super) offset: u64,
    /// Its commit number.
    pub(super) commit: u64,
    /// The commit that was durable when it was written: the missing one or a
    /// later one.
    pub(super) durable: u64,
}

/// The first record at or behind `from`, a multiple of 8, that was written when
/// the missing commit was known to be durable.
///
/// # Errors
///
/// `Io`.
pub(super) fn find(reader: &mut Reader, from: u64, missing: u64) -> Result<Option<Evidence>> {
    let mut sums = None;
    let mut start = from;
    while start < reader.size {
        let salt = reader.salt;
        for (offset, header) in candidates(reader, start, missing)? {
            let sums = match &mut sums {
                Some(sums) => sums,
                none => none.insert(Sums::new(reader)?),
            };
            let range = (offset + 4, offset + u64::from(header.length));
            if sums.checksum(range, seed(salt, offset as u32))? == header.crc {
                let RecordHeader { commit, durable, .. } = header;
                return Ok(Some(Evidence { offset, commit, durable }));
            }
        }
        start += WINDOW as u64;
    }
    Ok(None)
}

/// What may be headers of such records, in the window from `start` on.
fn candidates(reader: &mut Reader, start: u64, missing: u64) -> Result<Vec<(u64, RecordHeader)>> {
    let size = reader.size;
    // Headers that begin in the window may end behind it.
    let bytes = reader.bytes(start, WINDOW + RECORD_HEADER + OP_HEADER)?;
    let starts = bytes.len().min(WINDOW);
    let mut found = Vec::new();
    for block in (0..starts).step_by(BLOCK) {
        let end = (block + BLOCK).min(starts);
        if bytes[block..end] == ZEROS[..end - block] {
            continue;
        }
        for at in (block..end).step_by(RECORD_ALIGN) {
            let left = size - start - at as u64;
            if let Some(header) = candidate(&bytes[at..], left, missing) {
                found.push((start + at as u64, header));
            }
        }
    }
    Ok(found)
}

/// The header that `bytes` begin with, `left` bytes before the end of the file,
/// if it may be that of a record which knows the missing commit to be durable.
fn candidate(bytes: &[u8], left: u64, missing: u64) -> Option<RecordHeader> {
    let header = RecordHeader::decode(bytes.first_chunk()?);
    if header.durable < missing || header.commit <= header.durable {
        return None;
    }
    let length = u64::from(header.length);
    let possible = (RECORD_HEADER as u64..=MAX_RECORD.min(left)).contains(&length);
    let empty = length == RECORD_HEADER as u64;
    let op = bytes.get(RECORD_HEADER..RECORD_HEADER + OP_HEADER);
    let known = |op: &[u8]| (1..=5).contains(&op[0]) && op[1] == 0 && op[6] == 0 && op[7] == 0;
    (possible && (empty || op.is_some_and(known))).then_some(header)
}

/// The checksums of all beginnings of a file that end with a block.
struct Sums {
    file: Arc<dyn File>,
    path: std::path::PathBuf,
    size: u64,
    /// The checksum of the first so many blocks.
    blocks: Vec<u32>,
}

impl Sums {
    fn new(reader: &Reader) -> Result<Sums> {
        let mut sums = Sums {
            file: reader.file.clone(),
            path: reader.path.clone(),
            size: reader.size,
            blocks: vec![0],
        };
        let mut window = vec![0; WINDOW];
        let mut at = 0;
        let mut crc = 0;
        while at < sums.size {
            let length = (sums.size - at).min(WINDOW as u64) as usize;
            sums.read(&mut window[..length], at)?;
            for block in window[..length].chunks(BLOCK) {
                crc = crc32(block, crc);
                sums.blocks.push(crc);
            }
            at += length as u64;
        }
        Ok(sums)
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        let read = self.file.read_at(bytes, offset);
        read.map_err(|error| Error::io("read", &self.path, error))
    }

    /// The checksum of the first `end` bytes of the file.
    fn beginning(&self, end: u64) -> Result<u32> {
        let (blocks, rest) = (end / BLOCK as u64, (end % BLOCK as u64) as usize);
        let mut block = [0; BLOCK];
        self.read(&mut block[..rest], blocks * BLOCK as u64)?;
        Ok(crc32(&block[..rest], self.blocks[blocks as usize]))
    }

    /// The checksum of a range that lies within the file, begun with `seed`.
    ///
    /// With c(x) the checksum of the beginning up to x, and s(c, n) what n
    /// zeros make of a checksum, c(to) = s(c(from), n) ^ r, where r is the
    /// range's own checksum begun with 0; begun with `seed` it is s(seed, n) ^ r.
    fn checksum(&self, (from, to): (u64, u64), seed: u32) -> Result<u32> {
        let initial = self.beginning(from)? ^ seed;
        let mut shifted = crc32fast::Hasher::new_with_initial(initial);
        shifted.combine(&crc32fast::Hasher::new_with_initial_len(0, to - from));
        Ok(shifted.finalize() ^ self.beginning(to)?)
    }
}
