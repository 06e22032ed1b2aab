//! The header of a table file, as it can be shown.
//!
//! Both copies, each for itself: whether it is valid, whether it is the one that
//! counts, and its fields, which can often be read in spite of a wrong checksum.
//! Whether what it leads to is there is not asked.

use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::header as format;
use crate::format::record;

use super::fields::{Field, tables};
use super::{Damage, Raw, TableFile};

/// A copy of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeaderCopy {
    /// 0 or 1: the block in which it lies.
    pub copy: u32,
    /// Whether it is the one that counts: valid, and the newest.
    pub counts: bool,
    /// What is wrong with it.
    pub damage: Option<Damage>,
    /// What it says; of a damaged copy, what could still be read.
    pub header: Option<Header>,
    raw: Raw,
}

impl HeaderCopy {
    /// Its bytes, field by field; none if they cannot be read.
    pub fn fields(&self) -> Vec<Field> {
        let base = u64::from(self.copy) * BLOCK as u64;
        self.raw.bytes().map_or_else(Vec::new, |bytes| tables::header(bytes, base))
    }
}

/// What a header says. The meaning of each field is in format.md, section 3.1.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub struct Header {
    pub table_id: u16,
    pub name: String,
    pub payload: u16,
    /// 1 SipHash-1-3, 2 rapidhash v3.
    pub hash_id: u8,
    pub state: State,
    /// Whether the store was closed after this header was written.
    pub clean: bool,
    pub root_depth: u8,
    pub hash_key: [u64; 2],
    pub self_test: u64,
    pub capacity: u64,
    pub used: u64,
    pub growth_left: u64,
    /// `capacity / 8 * 7 - used - growth_left`.
    pub tombstones: u64,
    pub segments: u64,
    pub generation: u64,
    /// The position in the log that the table file is equal to.
    pub log: Position,
    pub root: Run,
    /// How many log files the root speaks of.
    pub live_count: u32,
    pub free_map: Run,
    pub file_blocks: u32,
    pub next_table_id: u32,
    pub clears: u32,
}

/// Whether a table is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its file was made; whether it exists, the log says.
    Pending,
    /// It exists.
    Live,
    /// It was dropped.
    Dropped,
}

/// A place between two records of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Position {
    /// The number of the log file.
    pub file: u32,
    /// The salt of that file.
    pub salt: u32,
    /// Where in it, in bytes.
    pub offset: u32,
    /// The last commit before it.
    pub commit: u64,
}

/// Blocks in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run {
    /// The first one.
    pub block: u32,
    /// How many.
    pub blocks: u32,
    /// The checksum of all of them.
    pub crc: u32,
}

impl Run {
    pub(super) fn of(run: format::Run) -> Run {
        Run { block: run.block, blocks: run.blocks, crc: run.crc }
    }
}

impl Header {
    fn of(header: &format::Header) -> Header {
        let record::Position { file, salt, offset, commit } = header.log;
        Header {
            table_id: header.table_id,
            name: header.name.clone(),
            payload: header.payload,
            hash_id: header.hash_id,
            state: match header.state {
                format::TableState::Pending => State::Pending,
                format::TableState::Live => State::Live,
                format::TableState::Dropped => State::Dropped,
            },
            clean: header.clean,
            root_depth: header.root_depth,
            hash_key: header.hash_key,
            self_test: header.self_test,
            capacity: header.capacity,
            used: header.used,
            growth_left: header.growth_left,
            tombstones: header.tombstones().unwrap_or(0),
            segments: header.segments,
            generation: header.generation,
            log: Position { file, salt, offset, commit },
            root: Run::of(header.root),
            live_count: header.live_count,
            free_map: Run::of(header.free_map),
            file_blocks: header.file_blocks,
            next_table_id: header.next_table_id,
            clears: header.clears,
        }
    }
}

/// Both copies of the header of a file.
pub(super) fn read(file: &TableFile) -> Vec<HeaderCopy> {
    let mut copies: Vec<HeaderCopy> = (0..2).map(|copy| read_copy(file, copy)).collect();
    let newest = copies
        .iter()
        .filter(|copy| copy.damage.is_none())
        .filter_map(|copy| Some((copy.header.as_ref()?.generation, 1 - copy.copy)))
        .max();
    if let Some((_, other)) = newest {
        copies[1 - other as usize].counts = true;
    }
    copies
}

fn read_copy(file: &TableFile, copy: u32) -> HeaderCopy {
    let base = u64::from(copy) * BLOCK as u64;
    let bytes = match file.block(copy) {
        Ok(bytes) => bytes,
        Err(damage) => {
            let (damage, raw) = (Some(damage), Raw::default());
            return HeaderCopy { copy, counts: false, damage, header: None, raw };
        }
    };
    let (header, damage) = match format::Header::decode(&bytes) {
        Ok(header) => (Some(header), None),
        Err(fault) => (format::Header::glimpse(&bytes).ok(), Some(Damage::of(fault, base))),
    };
    let header = header.as_ref().map(Header::of);
    HeaderCopy { copy, counts: false, damage, header, raw: Raw::new(bytes) }
}

/// The header that counts.
///
/// # Errors
///
/// `Corrupt` if neither copy is valid, `Version` if one is of a version that
/// is not known.
pub(super) fn newest(file: &TableFile) -> Result<format::Header> {
    let read = |copy: u32| -> Result<format::Header> {
        let base = u64::from(copy) * BLOCK as u64;
        let bytes = file.block(copy).map_err(|damage| {
            Error::corrupt(&file.path, damage.offset, "the header", "there", damage.text)
        })?;
        format::Header::decode(&bytes).map_err(|fault| fault.at(&file.path, base))
    };
    match (read(0), read(1)) {
        (Ok(a), Ok(b)) => Ok(if b.generation > a.generation { b } else { a }),
        (Ok(header), Err(_)) | (Err(_), Ok(header)) => Ok(header),
        (Err(a), Err(b)) => Err(if matches!(b, Error::Version { .. }) { b } else { a }),
    }
}
