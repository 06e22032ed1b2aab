//! Where a key would be, and every step of the search for it.
//!
//! The way is that of section 4 of format.md: hash, root entry, directory page,
//! segment, home group, probe sequence. What a lookup only glances at is kept
//! here, and damage on the way does not end it: a group that cannot be read is
//! passed over, and then a key that is not found may be there all the same.

use crate::error::Result;
use crate::format::BLOCK;
use crate::format::group::{DELETED, EMPTY, Probe, SLOTS, fingerprint, h2, home};

use super::directory::{Directory, DirectoryPage, SegmentRecord};
use super::fields::Field;
use super::header::Run;
use super::news::{self, News};
use super::segment::{Entry, Group, Page, Reader, Segment, Slot};
use super::{Damage, TableFile};

/// A search for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Search {
    /// The key.
    pub key: Vec<u8>,
    /// Its hash under the table's hash key.
    pub hash: u64,
    /// Which hash: 1 SipHash-1-3, 2 rapidhash v3.
    pub hash_id: u8,
    /// Where the root lies.
    pub root: Run,
    /// The depth of the root in bits.
    pub root_depth: u8,
    /// The number of the root entry: so many leading bits of the hash.
    pub root_entry: usize,
    /// The directory page; `None` if the root cannot be read.
    pub page: Option<DirectoryPage>,
    /// The segment, as the directory page says; `None` if that cannot be read.
    pub segment: Option<SegmentRecord>,
    /// How many groups the segment has.
    pub groups: usize,
    /// The group where the search begins.
    pub home: usize,
    /// The groups that are visited, in order.
    pub steps: Vec<Step>,
    /// What the table file says of the key.
    pub result: SearchResult,
    /// What the log says of it that the table file does not show yet.
    pub news: News,
    /// What is wrong with the parts on the way.
    pub damage: Vec<Damage>,
    fields: Vec<Field>,
}

/// What a table file says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SearchResult {
    /// It is there: the entry that has it, in the group of the last step.
    Found(Box<Entry>),
    /// It is not there.
    Absent,
    /// Something on the way cannot be read, so it may be there or not.
    Unknown,
}

/// A group that a search visits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The number of the group in the segment.
    pub group: usize,
    /// The number of its page in the segment.
    pub page: usize,
    /// The block of that page.
    pub block: u32,
    /// Where the group begins, in bytes from the beginning of the file; 0 if
    /// its page cannot be read.
    pub offset: u64,
    /// Its control bytes; `None` if its page cannot be read.
    pub control: Option<[u8; SLOTS]>,
    /// The slots whose control byte is the key's H2.
    pub candidates: Vec<Candidate>,
    /// Whether it has an empty slot, which ends a search.
    pub has_empty: bool,
}

/// A slot whose control byte is the key's H2.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// The number of the slot in the group.
    pub slot: usize,
    /// Its fp.
    pub fp: u8,
    /// The length of its key in bytes.
    pub key_length: usize,
    /// Its key, where it was compared.
    pub key: Option<Vec<u8>>,
    /// What the comparison said.
    pub verdict: Verdict,
    /// What is wrong with the slot.
    pub damage: Vec<Damage>,
}

/// What tells a slot from the key that is searched, in the order in which it is
/// asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its fp is another.
    OtherFp,
    /// Its key has another length.
    OtherLength,
    /// Its key is spilled, and the address has another hash.
    OtherHash,
    /// Its key is another.
    OtherKey,
    /// Nothing: it has the key.
    Same,
    /// The slot makes no sense, or its key cannot be read from the log.
    Unknown,
}

impl Search {
    /// The seven hash bits that are compared with control bytes.
    pub fn h2(&self) -> u8 {
        h2(self.hash)
    }

    /// Eight more hash bits, which are compared with the slots' fp.
    pub fn fp(&self) -> u8 {
        fingerprint(self.hash)
    }

    /// The bytes that the search looks at, field by field: root entry, segment
    /// record, control lines, and the slots that may have the key.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }
}

/// Searches a key.
pub(super) fn search(mut directory: Directory, key: &[u8]) -> Result<Search> {
    let header = directory.header.clone();
    let news = news::read(&directory.store, &header, key)?;
    let reader = Reader::new(&directory);
    let hash = reader.as_ref().map_or(0, |reader| reader.hasher.hash(key));
    let depth = directory.depth.min(32);
    // Not shifted at once: a shift by 64 is none.
    let root_entry = ((hash >> 32) >> (32 - u32::from(depth))) as usize;
    let mut search = Search {
        key: key.to_vec(),
        hash,
        hash_id: header.hash_id,
        root: directory.run,
        root_depth: directory.depth,
        root_entry,
        page: None,
        segment: None,
        groups: 0,
        home: 0,
        steps: Vec::new(),
        result: SearchResult::Unknown,
        news,
        damage: Vec::new(),
        fields: Vec::new(),
    };
    search.damage.extend(directory.damage.clone());
    let Some(mut reader) = reader else { return Ok(search) };
    if reader.hasher.self_test() != header.self_test {
        let (found, said) = (reader.hasher.self_test(), header.self_test);
        let text = format!("the hash of `swissdb` is {found:016x}, the header says {said:016x}");
        search.damage.push(Damage::new(40, text));
    }
    search.read_root_entry(&directory.file);
    let page = directory
        .find(|page| (page.first_entry..page.first_entry + page.entries).contains(&root_entry));
    let Some(page) = page else { return Ok(search) };
    let upper = (hash >> 32) as u32;
    let is_own = |segment: &&SegmentRecord| {
        u64::from(segment.prefix ^ upper) >> (32 - segment.depth.min(32)) == 0
    };
    let segment = page.segments.iter().find(is_own).cloned();
    search.damage.extend(page.damage.clone());
    if let Some(segment) = &segment {
        search.fields.extend(page.segment_fields(segment.number));
    }
    search.page = Some(page);
    search.segment = segment.clone();
    if let Some(record) = segment {
        // Of the keys in the log only those are read that may be the one.
        reader.reads_log = false;
        let segment = reader.segment(record);
        search.probe(&segment, &mut reader);
    }
    Ok(search)
}

impl Search {
    fn read_root_entry(&mut self, file: &TableFile) {
        let at = u64::from(self.root.block) * BLOCK as u64 + 8 * self.root_entry as u64;
        let block = u32::try_from(at / BLOCK as u64).unwrap_or(u32::MAX);
        let Ok(bytes) = file.block(block) else { return };
        let part = block.saturating_sub(self.root.block);
        let base = u64::from(block) * BLOCK as u64;
        let depth = self.root_depth;
        let fields = super::fields::tables::root(&bytes[..], base, part, depth, 0);
        self.fields.extend(fields.into_iter().filter(|field| (at..at + 8).contains(&field.offset)));
    }

    /// Visits the groups of a segment, in the order of the probe sequence.
    fn probe(&mut self, segment: &Segment, reader: &mut Reader) {
        self.groups = segment.group_count();
        if self.groups == 0 {
            return;
        }
        self.home = home(self.hash, self.groups);
        let mut unknown = false;
        let mut pages_seen = Vec::new();
        for number in Probe::new(self.hash, self.groups) {
            let Some(page) = segment.page_of(number) else { continue };
            let page_number = number / (self.groups / segment.pages.len());
            if !pages_seen.contains(&page_number) {
                pages_seen.push(page_number);
                self.damage.extend(page.damage.iter().cloned());
            }
            let mut step = Step {
                group: number,
                page: page_number,
                block: page.at.block,
                offset: 0,
                control: None,
                candidates: Vec::new(),
                has_empty: false,
            };
            let Some((page, group)) = segment.group(number) else {
                unknown = true;
                self.steps.push(step);
                continue;
            };
            step.offset = group.offset;
            step.control = Some(group.control);
            step.has_empty = group.control.contains(&EMPTY);
            unknown |= group.control.iter().any(|byte| *byte >= 0x80 && !known(*byte));
            let found = self.candidates(group, reader, &mut step);
            unknown |= step.candidates.iter().any(|slot| slot.verdict == Verdict::Unknown);
            self.take_fields(page, group, &step);
            let ends = step.has_empty;
            self.steps.push(step);
            if let Some(entry) = found {
                self.result = SearchResult::Found(Box::new(entry));
                return;
            }
            if ends {
                break;
            }
        }
        self.result = if unknown { SearchResult::Unknown } else { SearchResult::Absent };
    }

    /// Compares the slots of a group that have the key's H2, up to the one
    /// that has the key.
    fn candidates(&self, group: &Group, reader: &mut Reader, step: &mut Step) -> Option<Entry> {
        for slot in &group.slots {
            let Slot::Full(entry) = slot else { continue };
            if entry.h2 != self.h2() {
                continue;
            }
            let mut entry = (**entry).clone();
            let verdict = self.compare(&mut entry, reader);
            step.candidates.push(Candidate {
                slot: entry.slot,
                fp: entry.fp,
                key_length: entry.key_length,
                key: entry.key.clone(),
                verdict,
                damage: entry.damage.clone(),
            });
            if verdict == Verdict::Same {
                return Some(entry);
            }
        }
        None
    }

    fn compare(&self, entry: &mut Entry, reader: &mut Reader) -> Verdict {
        if entry.fp != self.fp() {
            return Verdict::OtherFp;
        }
        if entry.key_length != self.key.len() {
            return Verdict::OtherLength;
        }
        if entry.key.is_none() {
            match entry.address {
                None => return Verdict::Unknown,
                Some(address) if address.hash != self.hash => return Verdict::OtherHash,
                Some(_) => {}
            }
        }
        // Of a key in its slot the value is read, and so checked, if it is the
        // right one.
        if entry.key.as_ref().is_none_or(|key| *key == self.key) {
            reader.read_log(entry);
        }
        match &entry.key {
            None => Verdict::Unknown,
            Some(key) if *key == self.key => Verdict::Same,
            Some(_) => Verdict::OtherKey,
        }
    }

    fn take_fields(&mut self, page: &Page, group: &Group, step: &Step) {
        let control_line = group.offset..group.offset + 64;
        let slots: Vec<String> = step
            .candidates
            .iter()
            .filter(|slot| slot.verdict != Verdict::OtherFp)
            .map(|candidate| format!("slot {}", candidate.slot))
            .collect();
        let fields = page.group_fields(group).into_iter().filter(|field| {
            let slot = field.within.rsplit(": ").next().unwrap_or_default();
            control_line.contains(&field.offset) || slots.iter().any(|wanted| wanted == slot)
        });
        self.fields.extend(fields);
    }
}

/// Whether a control byte that is not that of an entry has a meaning.
fn known(control: u8) -> bool {
    matches!(control, EMPTY | DELETED)
}
