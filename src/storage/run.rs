//! Ranges of a file that have one checksum: roots and free maps.
//!
//! How long one is stands in a header, and a sparse file is as long as anybody
//! likes and takes no space. Memory does. So what is longer than nearly all of
//! them is summed up in pieces before memory is taken for the whole, and where
//! there is none, that is an error and not the end of the process.

use std::io;

use crate::format::crc32;

use super::File;

/// Bytes that are read at once where the checksum comes first.
const PIECE: usize = 1 << 20;

/// No free map is longer, and a root only with millions of log files.
pub(crate) const LONG_RUN: u64 = 128 << 20;

/// Reads a range, if it has a checksum; or else says which it has.
pub(crate) fn read_run(
    file: &dyn File,
    offset: u64,
    length: u64,
    crc: u32,
) -> io::Result<Result<Vec<u8>, u32>> {
    if length > LONG_RUN {
        let found = run_sum(file, offset, length)?;
        if found != crc {
            return Ok(Err(found));
        }
    }
    let mut bytes = room_for_run(length)?;
    file.read_at(&mut bytes, offset)?;
    let found = crc32(&bytes, 0);
    Ok(if found == crc { Ok(bytes) } else { Err(found) })
}

/// The checksum of a range, read piece by piece.
pub(crate) fn run_sum(file: &dyn File, offset: u64, length: u64) -> io::Result<u32> {
    let mut piece = vec![0; PIECE];
    let (mut at, end, mut sum) = (offset, offset + length, 0);
    while at < end {
        let bytes = (end - at).min(PIECE as u64);
        let piece = &mut piece[..bytes as usize];
        file.read_at(piece, at)?;
        sum = crc32(piece, sum);
        at += bytes;
    }
    Ok(sum)
}

/// So many zeros; `OutOfMemory` if there is no memory for them.
pub(crate) fn room_for_run(length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if bytes.try_reserve_exact(length as usize).is_err() {
        let text = format!("there is no memory for {length} bytes of a root or free map");
        return Err(io::Error::new(io::ErrorKind::OutOfMemory, text));
    }
    bytes.resize(length as usize, 0);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::Memory;
    use crate::storage::{Access, Storage};

    #[test]
    fn a_run_is_read_whole_or_its_checksum_is_told() {
        let file = Memory::new().open("file", Access::Create).expect("create");
        let bytes: Vec<u8> = (0..3 * PIECE + 77).map(|i| (i * 31 % 251) as u8).collect();
        file.write_at(&bytes, 5).expect("write");
        let (length, crc) = (bytes.len() as u64, crc32(&bytes, 0));
        assert_eq!(run_sum(&*file, 5, length).expect("read"), crc);
        assert_eq!(read_run(&*file, 5, length, crc).expect("read"), Ok(bytes));
        assert_eq!(read_run(&*file, 5, length, !crc).expect("read"), Err(crc));
        assert!(read_run(&*file, 6, length, crc).is_err(), "it ends before");
    }

    #[test]
    fn memory_that_is_not_there_is_an_error() {
        let error = room_for_run(u64::MAX >> 1).expect_err("no machine has it");
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        assert!(error.to_string().contains("no memory for"), "{error}");
    }
}
