//! What the files of a store look like, byte by byte.
//!
//! The modules below turn structures into bytes and bytes back into
//! structures, and do nothing else: they open no file, know no mapping and
//! keep no state. `format.md` describes the same layout in prose for other
//! languages; a test holds the two together.
//!
//! ```text
//! group      control line and slots: the pages of a segment
//! header     blocks 0 and 1 of a table file
//! directory  root and directory pages
//! free_map   which blocks are free
//! record     log files: header, activation, records, operations
//! ```
//!
//! Three rules hold for every decoder here.
//!
//! 1. Integers are little-endian whatever the host is; bytes that are
//!    reserved are written as zero and a reader refuses anything else.
//! 2. Any input is answered with a value or a [`Fault`]: never a panic, never
//!    an allocation larger than the input allows.
//! 3. A decoder checks everything that can be checked without other blocks
//!    or files, so that its callers may trust ranges and sums.
//!
//! All types are plain data, free to be sent and shared between threads.

pub(crate) mod directory;
pub(crate) mod free_map;
pub(crate) mod group;
pub(crate) mod header;
pub(crate) mod record;

use crate::error::Error;
use std::fmt;
use std::path::PathBuf;

/// The size in bytes of a block, and so of a page of any kind.
pub(crate) const BLOCK: usize = 4096;

/// The version of the format that this program writes, and the newest it reads.
pub(crate) const VERSION: u32 = 1;

/// The size in bytes of the address of a spilled key or value.
pub(crate) const ADDRESS_BYTES: usize = 24;

/// The longest name of a table in bytes.
pub(crate) const MAX_NAME_LENGTH: usize = 64;

/// Bytes that are not what the format allows, before it is known which file
/// they came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where, in bytes from the beginning of what was decoded.
    pub(crate) offset: u64,
    /// Which field, as in "block count of the root".
    pub(crate) what: &'static str,
    /// What the format allows there.
    pub(crate) expected: String,
    /// What was found there.
    pub(crate) found: String,
    /// For sound bytes of another version: the identifier found and the
    /// newest one that is known.
    pub(crate) version: Option<(u32, u32)>,
}

impl Fault {
    /// A field that holds what the format does not allow.
    #[cold]
    pub(crate) fn new(
        offset: usize,
        what: &'static str,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Fault {
        Fault {
            offset: offset as u64,
            what,
            expected: expected.to_string(),
            found: found.to_string(),
            version: None,
        }
    }

    /// Sound bytes that a newer program wrote: an unknown version, hash or
    /// kind of operation.
    #[cold]
    pub(crate) fn version(offset: usize, what: &'static str, found: u32, supported: u32) -> Fault {
        let mut fault = Fault::new(offset, what, format_args!("at most {supported}"), found);
        fault.version = Some((found, supported));
        fault
    }

    /// The error for the caller, once it is known that the decoded bytes
    /// begin at offset `base` of the file `path`.
    pub(crate) fn at(self, path: impl Into<PathBuf>, base: u64) -> Error {
        match self.version {
            Some((found, supported)) => Error::Version { path: path.into(), found, supported },
            None => Error::corrupt(
                path,
                base.saturating_add(self.offset),
                self.what,
                self.expected,
                self.found,
            ),
        }
    }
}

/// Whether `name` can name a table: 1 to 64 bytes of `A-Z a-z 0-9 _ -`.
pub(crate) fn is_table_name(name: &[u8]) -> bool {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || *b == b'-';
    (1..=MAX_NAME_LENGTH).contains(&name.len()) && name.iter().all(allowed)
}

/// CRC-32 (IEEE) of `bytes`, continued from `initial`.
pub(crate) fn crc32(bytes: &[u8], initial: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(initial);
    hasher.update(bytes);
    hasher.finalize()
}

/// The integer at offset `at`. The caller guarantees that it lies in `bytes`.
#[inline]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let mut field = [0; 2];
    field.copy_from_slice(&bytes[at..at + 2]);
    u16::from_le_bytes(field)
}

/// The integer at offset `at`. The caller guarantees that it lies in `bytes`.
#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

/// The integer at offset `at`. The caller guarantees that it lies in `bytes`.
#[inline]
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

/// Writes `field` at offset `at`. The caller guarantees that it fits.
#[inline]
pub(crate) fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

/// Checks that the reserved bytes `from..to` are zero. The caller guarantees
/// that they lie in `bytes`.
pub(crate) fn check_zero(
    bytes: &[u8],
    from: usize,
    to: usize,
    what: &'static str,
) -> Result<(), Fault> {
    match bytes[from..to].iter().position(|&b| b != 0) {
        None => Ok(()),
        Some(at) => Err(Fault::new(from + at, what, 0, bytes[from + at])),
    }
}

#[cfg(test)]
pub(crate) mod mutate {
    //! Damages sound bytes at random, from a seed, to see decoders answer.

    /// A small generator (xorshift), so that a failing case can be repeated.
    pub(crate) struct Random(pub(crate) u64);

    impl Random {
        /// The next number below `limit`, which is not zero.
        pub(crate) fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as usize % limit
        }
    }

    /// Calls `visit` with `rounds` copies of `bytes`, each changed in one to
    /// eight places, mostly in its first 128 bytes, where the fields are.
    pub(crate) fn each(bytes: &[u8], rounds: usize, mut visit: impl FnMut(&mut Vec<u8>)) {
        let mut random = Random(0x5eed_5eed_5eed_5eed);
        for _ in 0..rounds {
            let mut copy = bytes.to_vec();
            for _ in 0..=random.below(8) {
                let dense = random.below(4) != 0 && copy.len() > 128;
                let limit = if dense { 128 } else { copy.len() };
                let at = random.below(limit);
                copy[at] = match random.below(4) {
                    0 => 0,
                    1 => 0xff,
                    2 => copy[at] ^ (1 << random.below(8)),
                    _ => random.below(256) as u8,
                };
            }
            visit(&mut copy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_becomes_an_error_at_its_place_in_the_file() {
        let error = Fault::new(12, "table id", 3, 4).at("x.swiss", 4096);
        let text = error.to_string();
        assert!(text.contains("x.swiss") && text.contains("4108"), "{text}");
        assert!(text.contains("table id should be 3, but is 4"), "{text}");
        let error = Fault::version(8, "version", 2, VERSION).at("x.swiss", 0);
        assert!(matches!(error, Error::Version { found: 2, supported: 1, .. }));
    }

    #[test]
    fn names_of_tables_are_short_and_plain() {
        for good in ["a", "default", "A-b_9", &"n".repeat(64)] {
            assert!(is_table_name(good.as_bytes()), "{good}");
        }
        for bad in ["", ".", "a.b", "a/b", "ä", "a b", "a\0", &"n".repeat(65)] {
            assert!(!is_table_name(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn the_checksum_is_the_one_of_zlib() {
        assert_eq!(crc32(b"123456789", 0), 0xcbf4_3926);
        assert_eq!(crc32(b"6789", crc32(b"12345", 0)), 0xcbf4_3926);
    }
}

#[cfg(test)]
#[path = "bounds_tests.rs"]
mod bounds_tests;
#[cfg(test)]
#[path = "document_tests.rs"]
mod document_tests;
