//! The header of a table file: what everything else in the file hangs from.
//!
//! Blocks 0 and 1 hold a copy each. They are written one after the other, each
//! synced before the next, so that one of them is whole whatever happens; the
//! newer one that is valid counts. A header names the root and the free map,
//! the position in the log that the file is equal to (called L), and the sums
//! that make a Swiss table: capacity, used, growth left.
//!
//! ```text
//!   0 magic "swissdb\0"   8 version u32    12 table id u16   14 payload u16
//!  16 hash u8   17 state u8   18 clean u8   19 root depth u8   20 name length u16   22 0
//!  24 hash key 2 x u64    40 hash self-test u64
//!  48 capacity u64        56 used u64      64 growth left u64
//!  72 segments u64        80 generation u64
//!  88 L: file u32         92 salt u32      96 offset u32    100 0   104 commit u64
//! 112 root: block u32    116 blocks u32   120 crc u32       124 live count u32
//! 128 free map: block    132 blocks       136 crc           140 file blocks u32
//! 144 next table id u32  148 clears u32   152 zeros
//! 256 name, zero padded  320 zeros       4092 crc32 of bytes 0..4092
//! ```
//!
//! What a decoded header promises: ranges are within the format, the sums are
//! possible for that many segments, and both runs lie in the file, apart from
//! each other and from the copies. What it cannot promise: that the hash's
//! self-test holds (the hash is not known here), and that the file is as long
//! as it says.

use super::directory::{
    FIRST_BLOCK, MAX_ROOT_DEPTH, MAX_SEGMENT_PAGES, free_map_blocks, root_blocks,
};
use super::group::Geometry;
use super::record::{LOG_START, MAX_LOG_FILE, Position, RECORD_ALIGN, checksum};
use super::{
    BLOCK, Fault, MAX_NAME_LENGTH, VERSION, check_zero, crc32, is_table_name, put, u16_at, u32_at,
    u64_at,
};

/// The newest hash that is known: 1 is SipHash-1-3, 2 is rapidhash v3.
pub(crate) const LAST_HASH_ID: u8 = 2;
/// The most blocks of a table file: 4 TiB.
pub(crate) const MAX_FILE_BLOCKS: u32 = 1 << 30;
/// The name of the default table, whose id is 0.
pub(crate) const DEFAULT_TABLE: &str = "default";

const MAGIC: &[u8; 8] = b"swissdb\0";
const NAME: usize = 256;
const CRC: usize = 4092;

const _: () = assert!(CRC + 4 == BLOCK && NAME + MAX_NAME_LENGTH == 320);

/// Whether a table is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum TableState {
    /// Its file was made, but the record that creates it may not be durable.
    Pending = 1,
    /// It is there.
    Live = 2,
    /// It was dropped; the file is to be removed.
    Dropped = 3,
}

/// Blocks one behind the other that are checked as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Run {
    /// The first block.
    pub(crate) block: u32,
    /// The number of blocks.
    pub(crate) blocks: u32,
    /// CRC-32 of all their bytes.
    pub(crate) crc: u32,
}

impl Run {
    /// The block behind the run.
    fn end(&self) -> u64 {
        u64::from(self.block) + u64::from(self.blocks)
    }
}

/// The header of a table file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// The id of the table in records of the log; 0 is the default table.
    pub(crate) table_id: u16,
    /// The slot payload in bytes: 24 to 504, a multiple of 8.
    pub(crate) payload: u16,
    /// 1 SipHash-1-3, 2 rapidhash v3.
    pub(crate) hash_id: u8,
    /// Whether the table is there.
    pub(crate) state: TableState,
    /// Whether the store was closed after this header: L is the log's end.
    pub(crate) clean: bool,
    /// The depth of the root in bits.
    pub(crate) root_depth: u8,
    /// The name of the table; its file is called the same.
    pub(crate) name: String,
    /// The key of the hash.
    pub(crate) hash_key: [u64; 2],
    /// The hash of `swissdb` under that key.
    pub(crate) self_test: u64,
    /// The number of slots.
    pub(crate) capacity: u64,
    /// The number of entries.
    pub(crate) used: u64,
    /// How many slots may be filled before segments are made anew.
    pub(crate) growth_left: u64,
    /// The number of segments.
    pub(crate) segments: u64,
    /// Grows with each header written.
    pub(crate) generation: u64,
    /// L: the position in the log that the file is equal to.
    pub(crate) log: Position,
    /// Where the root is.
    pub(crate) root: Run,
    /// For how many log files the root says what is live.
    pub(crate) live_count: u32,
    /// Where the free map is.
    pub(crate) free_map: Run,
    /// How many blocks the free map covers.
    pub(crate) file_blocks: u32,
    /// The id for the next new table; 0 except in the default table.
    pub(crate) next_table_id: u32,
    /// How often the hash key was changed by a clear.
    pub(crate) clears: u32,
}

/// Commits and generations are below this.
const MAX_COUNT: u64 = 1 << 63;

impl Header {
    /// The deleted slots of the table. `None` if the sums are not possible.
    pub(crate) fn tombstones(&self) -> Option<u64> {
        (self.capacity / 8 * 7).checked_sub(self.used)?.checked_sub(self.growth_left)
    }

    /// The header as a block. The caller guarantees that the name is one.
    pub(crate) fn encode(&self) -> [u8; BLOCK] {
        debug_assert!(is_table_name(self.name.as_bytes()));
        let mut bytes = [0; BLOCK];
        put(&mut bytes, 0, MAGIC);
        put(&mut bytes, 8, &VERSION.to_le_bytes());
        put(&mut bytes, 12, &self.table_id.to_le_bytes());
        put(&mut bytes, 14, &self.payload.to_le_bytes());
        let flags = [self.hash_id, self.state as u8, self.clean.into(), self.root_depth];
        put(&mut bytes, 16, &flags);
        put(&mut bytes, 20, &(self.name.len() as u16).to_le_bytes());
        let words = [
            self.hash_key[0],
            self.hash_key[1],
            self.self_test,
            self.capacity,
            self.used,
            self.growth_left,
            self.segments,
            self.generation,
        ];
        for (index, word) in words.iter().enumerate() {
            put(&mut bytes, 24 + 8 * index, &word.to_le_bytes());
        }
        put(&mut bytes, 88, &self.log.file.to_le_bytes());
        put(&mut bytes, 92, &self.log.salt.to_le_bytes());
        put(&mut bytes, 96, &self.log.offset.to_le_bytes());
        put(&mut bytes, 104, &self.log.commit.to_le_bytes());
        let fields = [
            self.root.block,
            self.root.blocks,
            self.root.crc,
            self.live_count,
            self.free_map.block,
            self.free_map.blocks,
            self.free_map.crc,
            self.file_blocks,
            self.next_table_id,
            self.clears,
        ];
        for (index, field) in fields.iter().enumerate() {
            put(&mut bytes, 112 + 4 * index, &field.to_le_bytes());
        }
        put(&mut bytes, NAME, self.name.as_bytes());
        let crc = crc32(&bytes[..CRC], 0);
        put(&mut bytes, CRC, &crc.to_le_bytes());
        bytes
    }

    /// Reads a header copy.
    ///
    /// # Errors
    ///
    /// A fault for anything the format does not allow; one of version where
    /// magic and checksum are sound, but the version or the hash is not known.
    pub(crate) fn decode(bytes: &[u8; BLOCK]) -> Result<Header, Fault> {
        if &bytes[..8] != MAGIC {
            let found = bytes[..8].escape_ascii();
            return Err(Fault::new(0, "magic of the table file", "swissdb\\x00", found));
        }
        let (stored, actual) = (u32_at(bytes, CRC), crc32(&bytes[..CRC], 0));
        if stored != actual {
            return Err(checksum(CRC, "checksum of the header", actual, stored));
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(Fault::version(8, "version of the table file", version, VERSION));
        }
        let header = decode_fields(bytes)?;
        header.check_kind()?;
        header.check_sums()?;
        header.check_position()?;
        header.check_runs()?;
        Ok(header)
    }

    /// The fields of a copy that [`decode`](Header::decode) refuses, as far as
    /// they can be read as fields: for people who look at damage.
    ///
    /// # Errors
    ///
    /// A fault if there is no such name, state or mark, or reserved bytes are
    /// not zero.
    pub(crate) fn glimpse(bytes: &[u8; BLOCK]) -> Result<Header, Fault> {
        decode_fields(bytes)
    }

    /// Checks id, hash, and depth.
    fn check_kind(&self) -> Result<(), Fault> {
        if (self.table_id == 0) != (self.name == DEFAULT_TABLE) {
            let what = "table id (0 is that of the default table)";
            return Err(Fault::new(12, what, format_args!("that of {}", self.name), self.table_id));
        }
        if !(1..=LAST_HASH_ID).contains(&self.hash_id) {
            return Err(Fault::version(16, "hash", self.hash_id.into(), LAST_HASH_ID.into()));
        }
        if self.root_depth > MAX_ROOT_DEPTH {
            return Err(Fault::new(19, "depth of the root", "at most 23", self.root_depth));
        }
        let ids = if self.table_id == 0 { 1..=1 << 16 } else { 0..=0 };
        if !ids.contains(&self.next_table_id) {
            let expected = format_args!("{} to {}", ids.start(), ids.end()).to_string();
            return Err(Fault::new(144, "next table id", expected, self.next_table_id));
        }
        Ok(())
    }

    /// Checks the payload, and that the sums are possible with it.
    fn check_sums(&self) -> Result<(), Fault> {
        let Some(geometry) = Geometry::new(self.payload.into()) else {
            let expected = "a multiple of 8 from 24 to 504";
            return Err(Fault::new(14, "slot payload", expected, self.payload));
        };
        if self.segments == 0 || self.segments > 1 << 32 {
            return Err(Fault::new(72, "segment count", "1 to 2^32", self.segments));
        }
        let page = geometry.slots_per_page() as u64;
        let most = self.segments * MAX_SEGMENT_PAGES as u64 * page;
        let slots = self.segments * page..=most;
        if !slots.contains(&self.capacity) || !self.capacity.is_multiple_of(page) {
            let expected =
                format_args!("a multiple of {page} from {} to {most}", slots.start()).to_string();
            return Err(Fault::new(48, "capacity", expected, self.capacity));
        }
        if self.tombstones().is_none() {
            let expected = format_args!("at most {}", self.capacity / 8 * 7).to_string();
            let found = format_args!("{} and {}", self.used, self.growth_left).to_string();
            return Err(Fault::new(56, "used and growth left", expected, found));
        }
        Ok(())
    }

    /// Checks L, and what is counted.
    fn check_position(&self) -> Result<(), Fault> {
        if self.log.file == 0 {
            return Err(Fault::new(88, "log file of the position", "1 or more", 0));
        }
        if self.log.salt == 0 {
            return Err(Fault::new(92, "salt of the position", "not 0", 0));
        }
        let offset = u64::from(self.log.offset);
        let offsets = LOG_START..=MAX_LOG_FILE;
        if !offsets.contains(&offset) || !offset.is_multiple_of(RECORD_ALIGN as u64) {
            let expected = format_args!("a multiple of 8 from {LOG_START} to {MAX_LOG_FILE}");
            return Err(Fault::new(96, "offset of the position", expected.to_string(), offset));
        }
        // Counting on from these never comes to an end.
        if self.log.commit >= MAX_COUNT {
            return Err(Fault::new(104, "commit of the position", "below 2^63", self.log.commit));
        }
        if self.generation >= MAX_COUNT {
            return Err(Fault::new(80, "generation", "below 2^63", self.generation));
        }
        Ok(())
    }

    /// Checks that root and free map lie where they can.
    fn check_runs(&self) -> Result<(), Fault> {
        if self.file_blocks > MAX_FILE_BLOCKS {
            let expected = format_args!("at most {MAX_FILE_BLOCKS}").to_string();
            return Err(Fault::new(140, "blocks of the file", expected, self.file_blocks));
        }
        let root = root_blocks(self.root_depth, self.live_count);
        let map = free_map_blocks(self.file_blocks).into();
        let runs = [
            (112, &self.root, root, "length of the root in blocks", "last block of the root"),
            (
                128,
                &self.free_map,
                map,
                "length of the free map in blocks",
                "last block of the free map",
            ),
        ];
        for (at, run, length, what, last) in runs {
            if u64::from(run.blocks) != length {
                return Err(Fault::new(at + 4, what, length, run.blocks));
            }
            if run.block < FIRST_BLOCK {
                return Err(Fault::new(at, "first block of a run", "2 or more", run.block));
            }
            if run.end() > self.file_blocks.into() {
                let expected = format_args!("below {}", self.file_blocks).to_string();
                return Err(Fault::new(at, last, expected, run.end() - 1));
            }
        }
        let apart = self.root.end() <= self.free_map.block.into()
            || self.free_map.end() <= self.root.block.into();
        if !apart {
            let what = "first block of the free map";
            return Err(Fault::new(128, what, "outside the root", self.free_map.block));
        }
        Ok(())
    }
}

/// Reads the fields and checks those that have no place in the structure:
/// enumerations, the name, reserved bytes.
fn decode_fields(bytes: &[u8; BLOCK]) -> Result<Header, Fault> {
    let state = match bytes[17] {
        1 => TableState::Pending,
        2 => TableState::Live,
        3 => TableState::Dropped,
        other => return Err(Fault::new(17, "state of the table", "1 to 3", other)),
    };
    if bytes[18] > 1 {
        return Err(Fault::new(18, "mark of a clean close", "0 or 1", bytes[18]));
    }
    for (from, to) in [(22, 24), (100, 104), (152, NAME), (NAME + MAX_NAME_LENGTH, CRC)] {
        check_zero(bytes, from, to, "reserved byte of the header")?;
    }
    let run = |at| Run {
        block: u32_at(bytes, at),
        blocks: u32_at(bytes, at + 4),
        crc: u32_at(bytes, at + 8),
    };
    Ok(Header {
        table_id: u16_at(bytes, 12),
        payload: u16_at(bytes, 14),
        hash_id: bytes[16],
        state,
        clean: bytes[18] == 1,
        root_depth: bytes[19],
        name: decode_name(bytes)?,
        hash_key: [u64_at(bytes, 24), u64_at(bytes, 32)],
        self_test: u64_at(bytes, 40),
        capacity: u64_at(bytes, 48),
        used: u64_at(bytes, 56),
        growth_left: u64_at(bytes, 64),
        segments: u64_at(bytes, 72),
        generation: u64_at(bytes, 80),
        log: Position {
            file: u32_at(bytes, 88),
            salt: u32_at(bytes, 92),
            offset: u32_at(bytes, 96),
            commit: u64_at(bytes, 104),
        },
        root: run(112),
        live_count: u32_at(bytes, 124),
        free_map: run(128),
        file_blocks: u32_at(bytes, 140),
        next_table_id: u32_at(bytes, 144),
        clears: u32_at(bytes, 148),
    })
}

/// Reads the table's name.
fn decode_name(bytes: &[u8; BLOCK]) -> Result<String, Fault> {
    let length = usize::from(u16_at(bytes, 20));
    if !(1..=MAX_NAME_LENGTH).contains(&length) {
        return Err(Fault::new(20, "length of the table's name", "1 to 64", length));
    }
    let name = &bytes[NAME..NAME + length];
    if !is_table_name(name) {
        let expected = "of A-Z, a-z, 0-9, _ and -";
        return Err(Fault::new(NAME, "name of the table", expected, name.escape_ascii()));
    }
    check_zero(bytes, NAME + length, NAME + MAX_NAME_LENGTH, "byte behind the table's name")?;
    Ok(name.iter().map(|&byte| char::from(byte)).collect())
}

#[cfg(test)]
#[path = "header_tests.rs"]
pub(super) mod tests;
