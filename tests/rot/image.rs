//! The files of a store as bytes, and what they consist of.
//!
//! An [`Image`] is taken from a store in memory and put back as another one.
//! [`seal`] makes the checksums in it right again after somebody changed bytes:
//! what a bug in the store, or somebody who means ill, would leave. It follows
//! the bytes as they are now, from the headers down and from the first record
//! on, believes nothing it has not bounded, and leaves alone what leads nowhere.
//!
//! Written from format.md alone; it shares no code with the library. The fuzz
//! targets use it as well.

use std::collections::BTreeMap;
use std::io;

use swissdb::storage::memory::Memory;
use swissdb::storage::{Access, Storage};

/// A block of a table file.
pub const BLOCK: usize = 4096;

/// The files of a store by their names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// Their bytes.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Image {
    /// The files of a store that nobody writes to.
    pub fn of(memory: &Memory) -> io::Result<Image> {
        let mut files = BTreeMap::new();
        for (directory, prefix) in [("", ""), ("log", "log/")] {
            for name in memory.list(directory)? {
                let name = format!("{prefix}{name}");
                let file = memory.open(&name, Access::Read)?;
                let mut bytes = vec![0; file.length()? as usize];
                file.read_at(&mut bytes, 0)?;
                files.insert(name, bytes);
            }
        }
        Ok(Image { files })
    }

    /// A store of its own with these files. `like` is a store with files almost
    /// like them, which saves writing most of it.
    pub fn to_memory(&self, like: &Memory, before: &Image) -> io::Result<Memory> {
        let memory = like.copy()?;
        for name in before.files.keys().filter(|name| !self.files.contains_key(*name)) {
            memory.remove(name)?;
        }
        for (name, bytes) in &self.files {
            let old = before.files.get(name);
            let access = if old.is_some() { Access::Write } else { Access::Create };
            let old = old.map_or(&[][..], Vec::as_slice);
            if old == bytes {
                continue;
            }
            let file = memory.open(name, access)?;
            file.set_length(bytes.len() as u64)?;
            for (i, block) in bytes.chunks(BLOCK).enumerate() {
                let before = old.get(i * BLOCK..i * BLOCK + block.len());
                let same = before.map_or_else(|| is_zero(block), |before| before == block);
                if !same {
                    file.write_at(block, (i * BLOCK) as u64)?;
                }
            }
        }
        Ok(memory)
    }

    /// The names of the table files.
    pub fn tables(&self) -> Vec<String> {
        self.files.keys().filter(|name| name.ends_with(".swiss")).cloned().collect()
    }

    /// The names of the log files.
    pub fn logs(&self) -> Vec<String> {
        self.files.keys().filter(|name| name.ends_with(".log")).cloned().collect()
    }
}

/// What a stretch of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Header(u8),
    Root,
    FreeMap,
    DirectoryPage,
    Page,
    LogHeader,
    Activation,
    Record,
}

/// A stretch of a file that means something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub file: String,
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

/// All parts of a store that is whole.
pub fn parts(image: &Image) -> Vec<Part> {
    let mut parts = Vec::new();
    for file in image.tables() {
        let bytes = &image.files[&file];
        let mut add = |kind, start: usize, blocks: usize| {
            let end = start + blocks * BLOCK;
            parts.push(Part { file: file.clone(), kind, start, end });
        };
        add(Kind::Header(0), 0, 1);
        add(Kind::Header(1), BLOCK, 1);
        add(Kind::Root, u32_at(bytes, 112) * BLOCK, u32_at(bytes, 116));
        add(Kind::FreeMap, u32_at(bytes, 128) * BLOCK, u32_at(bytes, 132));
        for directory in directory_pages(bytes, 0) {
            add(Kind::DirectoryPage, directory.start, 1);
            for (_, page) in pages(bytes, directory.start) {
                add(Kind::Page, page, 1);
            }
        }
    }
    for file in image.logs() {
        let bytes = &image.files[&file];
        let mut add = |kind, start, end| {
            parts.push(Part { file: file.clone(), kind, start, end });
        };
        add(Kind::LogHeader, 0, 512);
        add(Kind::Activation, 512, BLOCK);
        for (start, length) in records(bytes) {
            add(Kind::Record, start, start + length.next_multiple_of(8));
        }
    }
    parts
}

/// Makes every checksum right that can be found.
pub fn seal(image: &mut Image) {
    for name in image.logs() {
        if let Some(bytes) = image.files.get_mut(&name) {
            seal_log(bytes);
        }
    }
    for name in image.tables() {
        let Some(mut bytes) = image.files.remove(&name) else { continue };
        seal_table(&mut bytes, image);
        image.files.insert(name, bytes);
    }
}

/// Makes the checksums of a log file right: header, activation, and the records
/// from the first one on as far as their lengths lead.
pub fn seal_log(bytes: &mut [u8]) {
    if bytes.len() < BLOCK {
        return;
    }
    put_crc(bytes, 32, 0..32, 0);
    if is_activated(bytes) {
        put_crc(bytes, 540, 512..540, 0);
    }
    let salt = u32_at(bytes, 16) as u32;
    for (start, length) in records(bytes) {
        put_crc(bytes, start, start + 4..start + length, salt ^ start as u32);
    }
}

/// Ends the log files soon after their last record, and says so in their
/// headers: most of a log file is zeros, and copying it most of the time. Files
/// that are only prepared are no part of the log, and go.
pub fn shrink_logs(image: &mut Image) {
    const ROOM: usize = 64 << 10;
    for name in image.logs() {
        let Some(bytes) = image.files.get_mut(&name) else { continue };
        if !is_activated(bytes) {
            image.files.remove(&name);
            continue;
        }
        let end = records(bytes).last().map_or(BLOCK, |(start, length)| start + length);
        let length = (end + ROOM).next_multiple_of(BLOCK).min(bytes.len());
        bytes.truncate(length);
        bytes[24..32].copy_from_slice(&(length as u64).to_le_bytes());
        put_crc(bytes, 32, 0..32, 0);
    }
}

/// Whether a log file is more than prepared, going by a byte of its magic.
fn is_activated(bytes: &[u8]) -> bool {
    bytes.get(512..520).is_some_and(|magic| !is_zero(magic))
}

/// The records of a log file, by their lengths alone: offset and length.
pub fn records(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = BLOCK;
    while at + 24 <= bytes.len() {
        let length = u32_at(bytes, at + 4);
        if length < 24 || length > bytes.len() - at {
            break;
        }
        found.push((at, length));
        at = (at + length).next_multiple_of(8);
    }
    found
}

fn seal_table(bytes: &mut [u8], logs: &Image) {
    for header in [0, BLOCK] {
        if bytes.len() < header + BLOCK {
            return;
        }
        let payload = usize::from(u16_at(bytes, header + 14));
        let is_payload = (24..=504).contains(&payload) && payload % 8 == 0;
        for directory in directory_pages(bytes, header) {
            for (record, page) in pages(bytes, directory.start) {
                if is_payload {
                    seal_addresses(&mut bytes[page..page + BLOCK], payload, logs);
                }
                bytes[page + 12..page + 16].fill(0);
                put_crc(bytes, page + 12, page..page + BLOCK, 0);
                bytes.copy_within(page + 12..page + 16, record + 4);
            }
            for entry in directory.entries {
                put_crc(bytes, entry + 4, directory.start..directory.start + BLOCK, 0);
            }
        }
        for field in [112, 128] {
            let start = u32_at(bytes, header + field).saturating_mul(BLOCK);
            let length = u32_at(bytes, header + field + 4).saturating_mul(BLOCK);
            if start >= 2 * BLOCK && length <= bytes.len() && start <= bytes.len() - length {
                put_crc(bytes, header + field + 8, start..start + length, 0);
            }
        }
        put_crc(bytes, header + 4092, header..header + 4092, 0);
    }
}

/// A directory page: where it begins, and where the entries of the root are
/// that lead to it.
struct Directory {
    start: usize,
    entries: Vec<usize>,
}

/// The directory pages that a header leads to and that lie in the file.
fn directory_pages(bytes: &[u8], header: usize) -> Vec<Directory> {
    let root = u32_at(bytes, header + 112).saturating_mul(BLOCK);
    let depth = u32::from(bytes[header + 19]).min(12);
    let mut found: Vec<Directory> = Vec::new();
    for entry in (0..1 << depth).map(|i| root + 8 * i) {
        if entry < 2 * BLOCK || entry + 8 > bytes.len() {
            break;
        }
        let Some(start) = block_at(bytes, entry) else { continue };
        match found.last_mut() {
            Some(last) if last.start == start => last.entries.push(entry),
            _ => found.push(Directory { start, entries: vec![entry] }),
        }
    }
    found
}

/// The pages that a directory page leads to and that lie in the file: where
/// their block's number stands in it, and where they begin.
pub fn pages(bytes: &[u8], directory: usize) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut record = directory + 32;
    for _ in 0..u16_at(bytes, directory + 12) {
        if record + 8 > directory + BLOCK {
            break;
        }
        let count = usize::from(bytes[record + 1]);
        for place in (0..count).map(|i| record + 8 + 8 * i) {
            if place + 8 <= directory + BLOCK
                && let Some(page) = block_at(bytes, place)
            {
                found.push((place, page));
            }
        }
        record += 8 + 8 * count;
    }
    found
}

/// Where the block begins whose number stands at an offset, if it is in the
/// file and no header.
fn block_at(bytes: &[u8], offset: usize) -> Option<usize> {
    let start = u32_at(bytes, offset).checked_mul(BLOCK)?;
    (start >= 2 * BLOCK && start <= bytes.len().checked_sub(BLOCK)?).then_some(start)
}

/// Makes the checksums right of the addresses in a page.
fn seal_addresses(page: &mut [u8], payload: usize, logs: &Image) {
    for (at, address) in addresses(page, payload) {
        let Some(log) = logs.files.get(&log_name(address.file)) else { continue };
        if let Some(bytes) = log.get(address.offset..address.offset.saturating_add(address.length))
        {
            let crc = crc32fast::hash(bytes);
            page[at + 12..at + 16].copy_from_slice(&crc.to_le_bytes());
        }
    }
}

/// Where spilled bytes lie.
#[derive(Debug, Clone, Copy)]
pub struct Address {
    pub length: usize,
    pub file: u32,
    pub offset: usize,
}

/// The addresses in the slots of a page, and where they stand in it.
pub fn addresses(page: &[u8], payload: usize) -> Vec<(usize, Address)> {
    let group_bytes = 64 + 8 * payload;
    let mut found = Vec::new();
    for group in (0..BLOCK / group_bytes).map(|i| i * group_bytes) {
        for slot in (0..8).filter(|slot| page[group + slot] & 0x80 == 0) {
            let key = u16_at(page, group + 16 + 2 * slot);
            let value = u16_at(page, group + 32 + 2 * slot);
            let start = group + 64 + slot * payload;
            let at = match (key & 0x8000, value & 0x8000) {
                (0, 0) => continue,
                (0, _) => start + usize::from(key).next_multiple_of(8),
                _ => start,
            };
            if at + 24 <= start + payload {
                let (length, offset) = (u32_at(page, at + 8), u32_at(page, at + 20));
                let file = u32_at(page, at + 16) as u32;
                found.push((at, Address { length, file, offset }));
            }
        }
    }
    found
}

/// The name of a log file.
pub fn log_name(number: u32) -> String {
    format!("log/{number:08}.log")
}

fn put_crc(bytes: &mut [u8], at: usize, range: std::ops::Range<usize>, initial: u32) {
    let mut hasher = crc32fast::Hasher::new_with_initial(initial);
    hasher.update(&bytes[range]);
    bytes[at..at + 4].copy_from_slice(&hasher.finalize().to_le_bytes());
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Two bytes as a number.
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Four bytes as a number.
pub fn u32_at(bytes: &[u8], at: usize) -> usize {
    let four = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    u32::from_le_bytes(four) as usize
}
