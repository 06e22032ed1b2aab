//! How a table file says where its pages are: the root and directory pages.
//!
//! ```text
//! header --> root run  2^depth x {block, crc}, then live log bytes by file
//!              |  |
//!              |  +--> directory page   the segments of one hash prefix, in order
//!              +-----> directory page     |      |
//!                                         |      +--> pages of a segment
//!                                         +---------> pages of a segment
//! header --> free map run  one bit per block
//! ```
//!
//! Every parent holds the block numbers *and* the checksums of its children,
//! so that a stale or misplaced block is found out as surely as a rotten one.
//! The checksums of root and free map stand in the header, that of a directory
//! page in the root, those of a segment's pages in its record.
//!
//! The root has one entry per prefix of `depth` hash bits. A directory page of
//! smaller depth `d` owns 2^(depth-d) of them, one behind the other, so that
//! the root doubles by copying entries. Within a page the records of its
//! segments tile its prefix range: a segment of local depth `l` covers
//! 2^(32-l) values of the upper half of the hash, beginning at a multiple of
//! that.
//!
//! ```text
//! directory page   0 magic "SDIR" | 4 table id u16 | 6 depth u8 | 7 0
//!                  8 prefix u32 | 12 segment count u16 | 14 0 | 16 generation u64 | 24 0
//!                 32 segment records, then zeros
//! segment record   local depth u8 | pages u8 | used u16 | tombstones u16 | 0 u16
//!                  pages x { block u32 | crc u32 }
//! ```
//!
//! The decoders here check shapes and ranges; that checksums hold, that blocks
//! lie within the file, and that no two parents own the same block is checked
//! by those who read the blocks.

pub(crate) use super::free_map::{decode_free_map, encode_free_map, free_map_blocks};
use super::record::checksum;
use super::{BLOCK, Fault, check_zero, put, u16_at, u32_at, u64_at};
use std::collections::BTreeMap;

/// The most pages of a segment.
pub(crate) const MAX_SEGMENT_PAGES: usize = 16;
/// The largest local depth of a segment.
pub(crate) const MAX_DEPTH: u8 = 32;
/// The largest depth of the root, and so of a directory page.
pub(crate) const MAX_ROOT_DEPTH: u8 = 23;
/// How much deeper than its directory page a segment can be: a page never
/// spans more than 512 prefixes.
pub(crate) const MAX_SPREAD: u8 = MAX_DEPTH - MAX_ROOT_DEPTH;
/// The bytes of a directory page that segment records can fill.
pub(crate) const DIRECTORY_SPACE: usize = BLOCK - DIRECTORY_HEADER;
/// The first block that is not a header copy.
pub(crate) const FIRST_BLOCK: u32 = 2;

const DIRECTORY_HEADER: usize = 32;
const DIRECTORY_MAGIC: &[u8; 4] = b"SDIR";
/// The size of a segment record without its pages.
const SEGMENT_HEADER: usize = 8;
/// The size of a block number with a checksum, in the root and in segments.
const REF: usize = 8;
/// The size of a root's entry for the live bytes of one log file.
const LIVE: usize = 16;

const _: () = {
    assert!(MAX_SPREAD == 9);
    // A directory page holds at least fifteen of the longest records.
    assert!(DIRECTORY_SPACE / segment_record_len(MAX_SEGMENT_PAGES) >= 15);
    assert!(BLOCK.is_multiple_of(LIVE) && LIVE == 2 * REF);
};

/// Where a directory page lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RootEntry {
    /// Its block.
    pub(crate) block: u32,
    /// CRC-32 of its 4096 bytes.
    pub(crate) crc: u32,
}

/// The length in blocks of a root of that depth with `live_count` log files.
pub(crate) fn root_blocks(depth: u8, live_count: u32) -> u64 {
    debug_assert!(depth <= MAX_ROOT_DEPTH);
    let bytes = (REF as u64) << depth.min(MAX_ROOT_DEPTH);
    (bytes + LIVE as u64 * u64::from(live_count)).div_ceil(BLOCK as u64)
}

/// The root as whole blocks. The caller guarantees that `entries` has a power
/// of two of entries, at most 2^23.
pub(crate) fn encode_root(entries: &[RootEntry], live: &BTreeMap<u32, u64>) -> Vec<u8> {
    debug_assert!(entries.len().is_power_of_two());
    let length = (entries.len() * REF + live.len() * LIVE).next_multiple_of(BLOCK);
    let mut bytes = Vec::with_capacity(length);
    for entry in entries {
        bytes.extend_from_slice(&entry.block.to_le_bytes());
        bytes.extend_from_slice(&entry.crc.to_le_bytes());
    }
    for (file, live_bytes) in live {
        bytes.extend_from_slice(&file.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&live_bytes.to_le_bytes());
    }
    bytes.resize(length, 0);
    bytes
}

/// Reads a root whose depth and number of log files the header says.
///
/// # Errors
///
/// A fault if the length is not that of such a root, if an entry lies in a
/// header copy, if equal entries do not form aligned runs of a power of two,
/// or if the log files do not ascend.
pub(crate) fn decode_root(
    bytes: &[u8],
    depth: u8,
    live_count: u32,
) -> Result<(Vec<RootEntry>, BTreeMap<u32, u64>), Fault> {
    if depth > MAX_ROOT_DEPTH {
        return Err(Fault::new(0, "depth of the root", "at most 23", depth));
    }
    let length = root_blocks(depth, live_count) * BLOCK as u64;
    if bytes.len() as u64 != length {
        return Err(Fault::new(0, "length of the root in bytes", length, bytes.len()));
    }
    let (entries, rest) = bytes.split_at(REF << depth);
    let entry = |e: &[u8]| RootEntry { block: u32_at(e, 0), crc: u32_at(e, 4) };
    let entries: Vec<RootEntry> = entries.chunks_exact(REF).map(entry).collect();
    check_runs(&entries)?;
    let live_bytes = live_count as usize * LIVE;
    let mut live = BTreeMap::new();
    for (index, entry) in rest[..live_bytes].chunks_exact(LIVE).enumerate() {
        let at = (REF << depth) + index * LIVE;
        let file = u32_at(entry, 0);
        let last = live.last_key_value().map_or(0, |(&file, _)| file);
        if file <= last {
            let expected = format_args!("more than {last}").to_string();
            return Err(Fault::new(at, "log file in the root", expected, file));
        }
        if u32_at(entry, 4) != 0 {
            return Err(Fault::new(at + 4, "reserved field of the root", 0, u32_at(entry, 4)));
        }
        live.insert(file, u64_at(entry, 8));
    }
    check_zero(bytes, (REF << depth) + live_bytes, bytes.len(), "byte behind the root")?;
    Ok((entries, live))
}

/// Checks that the entries of one directory page lie as its depth demands.
fn check_runs(entries: &[RootEntry]) -> Result<(), Fault> {
    let mut from = 0;
    while from < entries.len() {
        let first = entries[from];
        let others = entries[from..].iter().position(|entry| entry.block != first.block);
        let run = others.unwrap_or(entries.len() - from);
        if first.block < FIRST_BLOCK {
            return Err(Fault::new(from * REF, "block in the root", "2 or more", first.block));
        }
        if !run.is_power_of_two() || !from.is_multiple_of(run) {
            let expected = "a power of two, at a multiple of itself";
            return Err(Fault::new(from * REF, "run of equal entries in the root", expected, run));
        }
        for (index, entry) in entries[from..from + run].iter().enumerate() {
            if entry.crc != first.crc {
                let at = (from + index) * REF + 4;
                return Err(checksum(at, "repeated checksum in the root", first.crc, entry.crc));
            }
        }
        from += run;
    }
    Ok(())
}

/// Where a page of a segment lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageRef {
    /// Its block.
    pub(crate) block: u32,
    /// Its page crc.
    pub(crate) crc: u32,
}

/// One segment, as its directory page says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentRecord {
    /// Its local depth, in bits.
    pub(crate) depth: u8,
    /// How many entries it holds.
    pub(crate) used: u16,
    /// How many of its slots are deleted.
    pub(crate) tombstones: u16,
    /// Its 1 to 16 pages, in order.
    pub(crate) pages: Vec<PageRef>,
}

/// The segments of one hash prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DirectoryPage {
    /// The table it belongs to.
    pub(crate) table_id: u16,
    /// The length of its prefix in bits, at most 23.
    pub(crate) depth: u8,
    /// The upper half of the smallest hash in it; bits below the depth are 0.
    pub(crate) prefix: u32,
    /// The generation that wrote it.
    pub(crate) generation: u64,
    /// Its segments, in hash order.
    pub(crate) segments: Vec<SegmentRecord>,
}

/// The bytes that the record of a segment of `pages` pages takes.
pub(crate) const fn segment_record_len(pages: usize) -> usize {
    SEGMENT_HEADER + REF * pages
}

/// The bytes that the records of `segments` take, to be compared with
/// [`DIRECTORY_SPACE`].
pub(crate) fn encoded_len(segments: &[SegmentRecord]) -> usize {
    segments.iter().map(|segment| segment_record_len(segment.pages.len())).sum()
}

/// The number of values of the upper half of the hash that share `depth` bits.
fn span(depth: u8) -> u64 {
    1 << (MAX_DEPTH - depth)
}

impl DirectoryPage {
    /// The page as a block. The caller guarantees that it fits.
    pub(crate) fn encode(&self) -> Box<[u8; BLOCK]> {
        debug_assert!(encoded_len(&self.segments) <= DIRECTORY_SPACE);
        let mut bytes = Box::new([0; BLOCK]);
        let page = &mut bytes[..];
        put(page, 0, DIRECTORY_MAGIC);
        put(page, 4, &self.table_id.to_le_bytes());
        put(page, 6, &[self.depth]);
        put(page, 8, &self.prefix.to_le_bytes());
        put(page, 12, &(self.segments.len() as u16).to_le_bytes());
        put(page, 16, &self.generation.to_le_bytes());
        let mut at = DIRECTORY_HEADER;
        for segment in &self.segments {
            put(page, at, &[segment.depth, segment.pages.len() as u8]);
            put(page, at + 2, &segment.used.to_le_bytes());
            put(page, at + 4, &segment.tombstones.to_le_bytes());
            at += SEGMENT_HEADER;
            for reference in &segment.pages {
                put(page, at, &reference.block.to_le_bytes());
                put(page, at + 4, &reference.crc.to_le_bytes());
                at += REF;
            }
        }
        bytes
    }

    /// Reads a directory page whose checksum holds.
    ///
    /// # Errors
    ///
    /// A fault for anything the format does not allow; among others if the
    /// segments do not tile the range of the prefix exactly, or are deeper than
    /// the page by more than [`MAX_SPREAD`].
    pub(crate) fn decode(bytes: &[u8; BLOCK]) -> Result<DirectoryPage, Fault> {
        if &bytes[..4] != DIRECTORY_MAGIC {
            let found = bytes[..4].escape_ascii();
            return Err(Fault::new(0, "magic of the directory page", "SDIR", found));
        }
        let (depth, prefix) = (bytes[6], u32_at(bytes, 8));
        if depth > MAX_ROOT_DEPTH {
            return Err(Fault::new(6, "depth of the directory page", "at most 23", depth));
        }
        check_zero(bytes, 7, 8, "reserved byte of the directory page")?;
        if !u64::from(prefix).is_multiple_of(span(depth)) {
            let expected = format_args!("a prefix of {depth} bits").to_string();
            let found = format_args!("{prefix:08x}").to_string();
            return Err(Fault::new(8, "prefix of the directory page", expected, found));
        }
        check_zero(bytes, 14, 16, "reserved byte of the directory page")?;
        check_zero(bytes, 24, DIRECTORY_HEADER, "reserved byte of the directory page")?;
        let segments = decode_segments(bytes, depth, prefix)?;
        Ok(DirectoryPage {
            table_id: u16_at(bytes, 4),
            depth,
            prefix,
            generation: u64_at(bytes, 16),
            segments,
        })
    }
}

/// Reads the segment records of a page and checks that they tile its range.
fn decode_segments(
    bytes: &[u8; BLOCK],
    depth: u8,
    prefix: u32,
) -> Result<Vec<SegmentRecord>, Fault> {
    let count = u16_at(bytes, 12);
    let most = DIRECTORY_SPACE / segment_record_len(1);
    if usize::from(count) > most {
        let expected = format_args!("at most {most}").to_string();
        return Err(Fault::new(12, "segment count of the directory page", expected, count));
    }
    let mut segments = Vec::with_capacity(count.into());
    let mut at = DIRECTORY_HEADER;
    let mut covered = u64::from(prefix);
    let end = covered + span(depth);
    for _ in 0..count {
        let segment = decode_segment(bytes, at)?;
        let depths = depth..=depth + MAX_SPREAD;
        if !depths.contains(&segment.depth) {
            let expected = format_args!("{depth} to {}", depths.end()).to_string();
            return Err(Fault::new(at, "local depth of a segment", expected, segment.depth));
        }
        if !covered.is_multiple_of(span(segment.depth)) || covered >= end {
            let expected = format_args!("one that fits at {covered:08x}").to_string();
            return Err(Fault::new(at, "local depth of a segment", expected, segment.depth));
        }
        covered += span(segment.depth);
        at += segment_record_len(segment.pages.len());
        segments.push(segment);
    }
    if covered != end {
        let expected = format_args!("as many as reach {end:08x}").to_string();
        return Err(Fault::new(12, "segment count of the directory page", expected, count));
    }
    check_zero(bytes, at, BLOCK, "byte behind the segments")?;
    Ok(segments)
}

/// Reads the segment record at offset `at`.
fn decode_segment(bytes: &[u8; BLOCK], at: usize) -> Result<SegmentRecord, Fault> {
    let overrun = |at| Fault::new(at, "end of the segments", "in the directory page", "behind it");
    let head = bytes.get(at..at + SEGMENT_HEADER).ok_or_else(|| overrun(at))?;
    let pages = usize::from(head[1]);
    if !(1..=MAX_SEGMENT_PAGES).contains(&pages) {
        return Err(Fault::new(at + 1, "pages of a segment", "1 to 16", pages));
    }
    let (used, tombstones) = (u16_at(head, 2), u16_at(head, 4));
    // The smallest payload makes sixteen groups a page; seven of a group's
    // slots may be filled or deleted.
    let most = pages * 16 * 7;
    if usize::from(used) + usize::from(tombstones) > most {
        let expected = format_args!("at most {most}").to_string();
        let found = format_args!("{used} and {tombstones}").to_string();
        return Err(Fault::new(at + 2, "used and deleted slots of a segment", expected, found));
    }
    check_zero(head, 6, 8, "reserved byte of a segment").map_err(|mut fault| {
        fault.offset += at as u64;
        fault
    })?;
    let from = at + SEGMENT_HEADER;
    let references = bytes.get(from..from + pages * REF).ok_or_else(|| overrun(at))?;
    let reference = |r: &[u8]| PageRef { block: u32_at(r, 0), crc: u32_at(r, 4) };
    let references: Vec<PageRef> = references.chunks_exact(REF).map(reference).collect();
    if let Some(page) = references.iter().position(|page| page.block < FIRST_BLOCK) {
        let (at, found) = (from + page * REF, references[page].block);
        return Err(Fault::new(at, "block of a segment", "2 or more", found));
    }
    Ok(SegmentRecord { depth: head[0], used, tombstones, pages: references })
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
