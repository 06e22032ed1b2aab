//! What the header of a table file reaches: I3 to I14, and I16.
//!
//! The walk goes from the root over the directory pages to the segments, and
//! marks each block that it comes to. A page that is not what its parent says
//! is reported and its content is left alone; from then on sums over the whole
//! table, and blocks that seem to be reached by nothing, prove nothing, and are
//! not judged.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use crate::format::directory::{DirectoryPage, RootEntry, SegmentRecord, decode_root};
use crate::format::free_map::decode_free_map;
use crate::format::group::{Geometry, page_crc, stored_page_crc};
use crate::format::header::{Header, Run};
use crate::format::{BLOCK, Fault, crc32};
use crate::storage::run::{LONG_RUN, room_for_run, run_sum};

use super::findings::Findings;
use super::headers::TableFile;
use super::logs::Logs;
use super::reached::{Mark, Reached};
use super::segment::{Entry, Page, Segment, duplicates};
use super::sums::{Sums, differ, different_live};

/// Bytes of a run that are read at once.
const PIECE: usize = 1 << 20;

/// Checks everything that the header of a table reaches.
pub(super) fn check(table: &TableFile, logs: &mut Logs, findings: &mut Findings) {
    let header = &table.header;
    let Some(geometry) = Geometry::new(header.payload.into()) else {
        return;
    };
    let blocks = u64::from(header.file_blocks).min(table.length / BLOCK as u64);
    let mut walk = Walk {
        table,
        geometry,
        logs,
        findings,
        reached: Reached::new(blocks as u32),
        sums: Sums::default(),
        live: BTreeMap::new(),
        partial: false,
    };
    if blocks < header.file_blocks.into() {
        let text = format!(
            "the header speaks of {} blocks, but the file has {blocks}",
            header.file_blocks
        );
        walk.violation("I14", table.header_at + 140, text);
    }
    walk.run();
}

/// A walk through a table file.
struct Walk<'a> {
    table: &'a TableFile,
    geometry: Geometry,
    logs: &'a mut Logs,
    findings: &'a mut Findings,
    reached: Reached,
    sums: Sums,
    live: BTreeMap<u32, u64>,
    /// Something could not be read.
    partial: bool,
}

impl Walk<'_> {
    fn run(&mut self) {
        let header = &self.table.header;
        for block in 0..2 {
            self.reached.mark(block);
        }
        let root = self.read_run(header.root, "I3", "the root");
        let free_map = self.read_run(header.free_map, "I14", "the free map");
        let live = root.and_then(|bytes| self.check_root(&bytes));
        match live {
            None => self.partial = true,
            Some(live) if !self.partial => {
                self.check_sums(header);
                self.check_live(&live);
            }
            Some(_) => {}
        }
        if let Some(bytes) = free_map {
            self.check_free_map(&bytes);
        }
    }

    fn violation(&mut self, invariant: &'static str, offset: u64, text: impl Into<String>) {
        self.findings.add(invariant, &self.table.path, offset, text);
    }

    /// Adds a fault of something that was decoded.
    fn fault(&mut self, invariant: &'static str, base: u64, fault: Fault) {
        let Fault { offset, what, expected, found, .. } = fault;
        let text = format!("{what} should be {expected}, but is {found}");
        self.violation(invariant, base + offset, text);
    }

    /// Marks a block as reached: I14. Says whether it can be read.
    fn reach(&mut self, block: u32, parent: u64) -> bool {
        match self.reached.mark(block) {
            Mark::First => true,
            Mark::Again => {
                self.violation("I14", parent, format!("block {block} is reached twice"));
                true
            }
            Mark::Outside => {
                let limit = self.reached.blocks;
                let text = format!("block {block} is reached, but there are only {limit}");
                self.violation("I14", parent, text);
                self.partial = true;
                false
            }
        }
    }

    /// Reads a block that was reached.
    fn read(&mut self, block: u32, invariant: &'static str) -> Option<Box<[u8; BLOCK]>> {
        let mut bytes = Box::new([0; BLOCK]);
        let offset = at(block);
        match self.table.file.read_at(&mut bytes[..], offset) {
            Ok(()) => Some(bytes),
            Err(error) => {
                self.violation(invariant, offset, unreadable(&error));
                self.partial = true;
                None
            }
        }
    }

    /// Reads root or free map and checks its checksum. It is returned even if
    /// that does not hold: what it leads to has checksums of its own. Unless it
    /// is so long that memory is taken for what is right only.
    fn read_run(&mut self, run: Run, invariant: &'static str, what: &str) -> Option<Vec<u8>> {
        let mut inside = true;
        for i in 0..run.blocks {
            inside &= self.reach(run.block.saturating_add(i), self.table.header_at);
        }
        if !inside {
            return None;
        }
        let length = u64::from(run.blocks) * BLOCK as u64;
        let mut bytes = match self.room_for(run, length) {
            Ok(bytes) => bytes,
            Err(text) => {
                self.violation(invariant, at(run.block), format!("{what}: {text}"));
                self.partial = true;
                return None;
            }
        };
        let mut crc = 0;
        for (i, piece) in bytes.chunks_mut(PIECE).enumerate() {
            let offset = at(run.block) + (i * PIECE) as u64;
            if let Err(error) = self.table.file.read_at(piece, offset) {
                let text = format!("{what}: {}", unreadable(&error));
                self.findings.add(invariant, &self.table.path, offset, text);
                self.partial = true;
                return None;
            }
            crc = crc32(piece, crc);
        }
        if crc != run.crc {
            let text = format!("{what} has checksum {crc:08x}, the header says {:08x}", run.crc);
            self.violation(invariant, at(run.block), text);
        }
        Some(bytes)
    }

    /// Memory for a run. A long one has to be right first.
    fn room_for(&self, run: Run, length: u64) -> Result<Vec<u8>, String> {
        if length > LONG_RUN {
            let sum = run_sum(&*self.table.file, at(run.block), length);
            let crc = sum.map_err(|error| unreadable(&error))?;
            if crc != run.crc {
                return Err(format!("checksum {crc:08x}, the header says {:08x}", run.crc));
            }
        }
        room_for_run(length).map_err(|error| error.to_string())
    }

    /// Goes through the directory pages. Returns the live bytes that the root
    /// speaks of.
    fn check_root(&mut self, bytes: &[u8]) -> Option<BTreeMap<u32, u64>> {
        let header = &self.table.header;
        let decoded = decode_root(bytes, header.root_depth, header.live_count);
        let (entries, live) = match decoded {
            Ok(decoded) => decoded,
            Err(fault) => {
                self.fault("I3", at(header.root.block), fault);
                return None;
            }
        };
        let mut i = 0;
        while i < entries.len() {
            let same = entries[i..].iter().take_while(|entry| entry.block == entries[i].block);
            let run = same.count();
            self.check_directory_page(entries[i], i, run);
            i += run;
        }
        Some(live)
    }

    /// Checks the directory page of `run` entries of the root from `first` on.
    fn check_directory_page(&mut self, entry: RootEntry, first: usize, run: usize) {
        let header = &self.table.header;
        let parent = at(header.root.block) + first as u64 * 8;
        if !self.reach(entry.block, parent) {
            return;
        }
        let Some(bytes) = self.read(entry.block, "I4") else {
            return;
        };
        self.findings.checked().directory_pages += 1;
        let offset = at(entry.block);
        let crc = crc32(&bytes[..], 0);
        if crc != entry.crc {
            self.partial = true;
            let text = format!("checksum {crc:08x} where the root says {:08x}", entry.crc);
            return self.violation("I4", offset, format!("the directory page has {text}"));
        }
        let page = match DirectoryPage::decode(&bytes) {
            Ok(page) => page,
            Err(fault) => {
                self.partial = true;
                let invariant = match fault.offset {
                    12 | 32.. => "I5",
                    _ => "I4",
                };
                return self.fault(invariant, offset, fault);
            }
        };
        if page.table_id != header.table_id {
            let text = format!("the directory page is of table {}", page.table_id);
            self.violation("I4", offset + 4, text);
        }
        let depth = header.root_depth;
        let wanted = ((first as u64) << (32 - u32::from(depth))) as u32;
        let fits = page.depth <= depth && 1 << (depth - page.depth) == run;
        if !fits || page.prefix != wanted {
            self.partial = true;
            let text = format!(
                "prefix {:08x}/{} where the root has {run} entries of {wanted:08x}/{depth}",
                page.prefix, page.depth
            );
            return self.violation("I4", offset + 6, format!("the directory page has {text}"));
        }
        self.check_segments(&page, offset);
    }

    fn check_segments(&mut self, page: &DirectoryPage, offset: u64) {
        let (mut prefix, mut record_at) = (u64::from(page.prefix), offset + 32);
        for record in &page.segments {
            self.check_segment(record, prefix as u32, record_at);
            prefix += 1 << (32 - record.depth);
            record_at += 8 + 8 * record.pages.len() as u64;
        }
    }

    fn check_segment(&mut self, record: &SegmentRecord, prefix: u32, record_at: u64) {
        let pages: Vec<Page> = record
            .pages
            .iter()
            .enumerate()
            .map(|(i, page)| self.read_page(page.block, page.crc, record_at + 8 + 8 * i as u64))
            .collect();
        let segment = Segment {
            geometry: self.geometry,
            hasher: &self.table.hasher,
            prefix,
            depth: record.depth,
            used: record.used,
            tombstones: record.tombstones,
            pages: &pages,
            on_disk: Some(self.table.header.table_id),
        };
        let census = segment.census();
        self.sums.add(segment.slots(), &census);
        let checked = self.findings.checked();
        checked.segments += 1;
        checked.entries += census.used;
        let place = |page: usize, offset: usize| match offset {
            0 => record_at,
            _ => record.pages.get(page).map_or(record_at, |page| at(page.block) + offset as u64),
        };
        for breach in census.breaches {
            self.violation(breach.invariant, place(breach.page, breach.offset), breach.text);
        }
        for entry in &census.entries {
            self.check_spilled(&segment, entry, place(entry.page, entry.offset));
        }
        let logs = &mut *self.logs;
        let twice = duplicates(&census.entries, &mut |entry| key_of(&segment, entry, logs));
        for entry in twice.iter().map(|i| &census.entries[*i]) {
            self.violation("I11", place(entry.page, entry.offset), "the key is there twice");
        }
    }

    /// Reads a page and checks that it is the one that its parent means.
    fn read_page(&mut self, block: u32, crc: u32, parent: u64) -> Page {
        if !self.reach(block, parent) {
            return None;
        }
        let bytes = self.read(block, "I6")?;
        self.findings.checked().pages += 1;
        let (found, stored) = (page_crc(&bytes), stored_page_crc(&bytes));
        if found == crc && stored == crc {
            return Some(bytes);
        }
        self.partial = true;
        let text = match found == stored {
            true => format!("another page lies here: checksum {found:08x}, not {crc:08x}"),
            false => format!(
                "the page has checksum {found:08x} and says {stored:08x}, the directory {crc:08x}"
            ),
        };
        self.violation("I6", at(block), text);
        None
    }

    /// Checks the spilled part of an entry, and counts it.
    fn check_spilled(&mut self, segment: &Segment<'_>, entry: &Entry, offset: u64) {
        let Some(address) = entry.address else { return };
        *self.live.entry(address.file).or_insert(0) += u64::from(address.len);
        let checked = self.findings.checked();
        checked.spilled += 1;
        checked.spilled_bytes += u64::from(address.len);
        if let Err((invariant, text)) = spilled(segment, entry, self.logs) {
            self.violation(invariant, offset, text);
        }
    }

    /// I13.
    fn check_sums(&mut self, header: &Header) {
        let said = Sums {
            slots: header.capacity,
            used: header.used,
            tombstones: header.tombstones().unwrap_or(0),
            segments: header.segments,
        };
        if let Some(text) = differ(&said, &self.sums, "the header says") {
            self.violation("I13", self.table.header_at + 48, text);
        }
    }

    /// I16.
    fn check_live(&mut self, said: &BTreeMap<u32, u64>) {
        let header = &self.table.header;
        let offset = at(header.root.block) + (8 << header.root_depth);
        for (file, said, found) in different_live(said, &self.live) {
            let text = format!(
                "the root says {said} live bytes in log file {file}, the addresses {found}"
            );
            self.findings.add("I16", &self.table.path, offset + u64::from(file), text);
        }
    }

    /// The rest of I14.
    fn check_free_map(&mut self, bytes: &[u8]) {
        let header = &self.table.header;
        let base = at(header.free_map.block);
        let words = match decode_free_map(bytes, header.file_blocks) {
            Ok(words) => words,
            Err(fault) => return self.fault("I14", base, fault),
        };
        for block in 0..self.reached.blocks {
            let free = words[block as usize / 64] >> (block % 64) & 1 == 1;
            let reached = self.reached.has(block);
            let text = match (free, reached) {
                (true, true) => format!("block {block} is free by the map, but is reached"),
                (false, false) if !self.partial => {
                    format!("block {block} is in use by the map, but nothing reaches it")
                }
                _ => continue,
            };
            self.violation("I14", at(block), text);
        }
    }
}

/// The key of an entry, wherever it stands, if it can be read.
pub(super) fn key_of(segment: &Segment<'_>, entry: &Entry, logs: &mut Logs) -> Option<Vec<u8>> {
    match (segment.key(entry), entry.address) {
        (Some(key), _) => Some(key.to_vec()),
        (None, Some(address)) => logs.check_address(&address, entry.lengths.key_len()).ok(),
        (None, None) => None,
    }
}

/// Checks the spilled part of an entry: I15, and I10 for a spilled key.
pub(super) fn spilled(
    segment: &Segment<'_>,
    entry: &Entry,
    logs: &mut Logs,
) -> Result<(), (&'static str, String)> {
    let Some(address) = entry.address else {
        return Ok(());
    };
    let keep = if entry.lengths.key_spilled() { entry.lengths.key_len() } else { 0 };
    let key = logs.check_address(&address, keep).map_err(|text| ("I15", text))?;
    if entry.lengths.key_spilled() && segment.hasher.hash(&key) != entry.hash {
        let text = format!("the key in the log has another hash than {:016x}", entry.hash);
        return Err(("I10", text));
    }
    Ok(())
}

/// Where a block begins in its file.
fn at(block: u32) -> u64 {
    u64::from(block) * BLOCK as u64
}

fn unreadable(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => "the file ends before its end".into(),
        _ => format!("it cannot be read: {error}"),
    }
}
