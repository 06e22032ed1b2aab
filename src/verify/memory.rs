//! An open table as its readers find it: memory, dirty pages included.
//!
//! Each segment is looked up as a reader would and checked as one on disk is,
//! but for what stands in files only. Pages that memory has not changed are
//! those of the file; damage in them is known already and is not told again.
//! The spilled parts of changed pages are read, the others were. Sums and live
//! bytes are counted and held against those that the store keeps.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::format::BLOCK;
use crate::table::Writer;
use crate::table::view::{PagePlace, SegmentView};

use super::findings::Findings;
use super::logs::Logs;
use super::segment::{Entry, Page, Segment, duplicates};
use super::sums::{Sums, differ, different_live};
use super::tree::{key_of, spilled};

/// Checks a table under the writer lock.
pub(super) fn check(writer: &Writer, logs: &mut Logs, findings: &mut Findings) {
    let mut walk = Walk {
        writer,
        logs,
        findings,
        sums: Sums::default(),
        live: BTreeMap::new(),
        partial: false,
    };
    walk.run();
}

/// A walk through a table in memory.
struct Walk<'a> {
    writer: &'a Writer,
    logs: &'a mut Logs,
    findings: &'a mut Findings,
    sums: Sums,
    live: BTreeMap<u32, u64>,
    /// Something could not be read.
    partial: bool,
}

impl Walk<'_> {
    fn run(&mut self) {
        let mut from = Some(0);
        while let Some(hash) = from {
            match self.writer.segment_at(hash) {
                Ok(view) => {
                    self.check_segment(&view);
                    if view.depth > 32 {
                        break;
                    }
                }
                Err(error) => self.unreadable("I4", error),
            }
            from = self.writer.table.next_segment_after(hash);
        }
        if !self.partial {
            self.check_sums();
        }
    }

    fn violation(&mut self, invariant: &'static str, offset: u64, text: impl Into<String>) {
        let path = &self.writer.table.path;
        let text = match offset {
            0 => format!("in memory: {}", text.into()),
            _ => text.into(),
        };
        self.findings.add(invariant, path, offset, text);
    }

    /// Something that could not be read. As a rule the file has told so.
    fn unreadable(&mut self, invariant: &'static str, error: Error) {
        self.partial = true;
        match error {
            Error::Corrupt(damage) => self.findings.add_if_new(invariant, *damage),
            other => self.violation(invariant, 0, other.to_string()),
        }
    }

    fn check_segment(&mut self, view: &SegmentView) {
        if let Some(text) = view.contradiction() {
            self.violation("I5", 0, text);
        }
        let mut places = Vec::with_capacity(view.pages);
        let mut pages: Vec<Page> = Vec::with_capacity(view.pages);
        for page in 0..view.pages {
            let mut bytes = Box::new([0; BLOCK]);
            match self.writer.page_bytes(view, page, &mut bytes) {
                Ok(place) => {
                    places.push(place);
                    pages.push(Some(bytes));
                }
                Err(error) => {
                    places.push(PagePlace::Frame);
                    pages.push(None);
                    self.unreadable("I6", error);
                }
            }
        }
        let hasher = self.writer.table.hasher();
        let segment = Segment {
            geometry: self.writer.table.geometry,
            hasher: &hasher,
            prefix: view.prefix,
            depth: view.depth,
            used: view.used,
            tombstones: view.tombstones,
            pages: &pages,
            on_disk: None,
        };
        self.check_content(&segment, view, &places);
    }

    fn check_content(&mut self, segment: &Segment<'_>, view: &SegmentView, places: &[PagePlace]) {
        let census = segment.census();
        self.sums.add(segment.slots(), &census);
        let checked = self.findings.checked();
        checked.segments += 1;
        checked.entries += census.used;
        checked.frames += places.iter().filter(|place| **place == PagePlace::Frame).count() as u64;
        let place = |page: usize, offset: usize| match places.get(page) {
            Some(PagePlace::Block(block)) if offset != 0 => {
                u64::from(*block) * BLOCK as u64 + offset as u64
            }
            _ => 0,
        };
        for breach in census.breaches {
            self.violation(breach.invariant, place(breach.page, breach.offset), breach.text);
        }
        for entry in &census.entries {
            let offset = place(entry.page, entry.offset);
            let changed = places.get(entry.page) == Some(&PagePlace::Frame);
            self.check_entry(segment, view, entry, changed, offset);
        }
        let logs = &mut *self.logs;
        let twice = duplicates(&census.entries, &mut |entry| key_of(segment, entry, logs));
        for entry in twice.iter().map(|i| &census.entries[*i]) {
            self.violation("I11", place(entry.page, entry.offset), "the key is there twice");
        }
    }

    fn check_entry(
        &mut self,
        segment: &Segment<'_>,
        view: &SegmentView,
        entry: &Entry,
        changed: bool,
        offset: u64,
    ) {
        if entry.belongs && !self.writer.leads_to(entry.hash, view) {
            let text = format!("the directory leads hash {:016x} elsewhere", entry.hash);
            self.violation("I11", offset, text);
        }
        let Some(address) = entry.address else { return };
        *self.live.entry(address.file).or_insert(0) += u64::from(address.len);
        if !changed {
            return;
        }
        let checked = self.findings.checked();
        checked.spilled += 1;
        checked.spilled_bytes += u64::from(address.len);
        if let Err((invariant, text)) = spilled(segment, entry, self.logs) {
            self.violation(invariant, offset, text);
        }
    }

    fn check_sums(&mut self) {
        let totals = self.writer.totals;
        let said = Sums {
            slots: totals.slots,
            used: totals.used,
            tombstones: totals.tombstones,
            segments: totals.segments,
        };
        if let Some(text) = differ(&said, &self.sums, "the store counts") {
            self.violation("I13", 0, text);
        }
        let entries = self.writer.table.len();
        if entries != self.sums.used {
            let text =
                format!("readers are told of {entries} entries, there are {}", self.sums.used);
            self.violation("I13", 0, text);
        }
        for (file, said, found) in different_live(&self.writer.live, &self.live) {
            let text = format!(
                "the store counts {said} live bytes in log file {file}, the addresses {found}"
            );
            self.violation("I16", 0, text);
        }
    }
}
