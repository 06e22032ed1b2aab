//! One segment: pages, groups, slots.
//!
//! Each slot is shown with what its control line says of it, and with the entry,
//! of which a part may have to be read from the log. Damage stands beside the page
//! or the slot that has it. What the slots should be, as a whole, `verify` knows.

use crate::error::{Error, Result};
use crate::format::group::{self, Geometry, Probe, SLOTS};
use crate::format::{BLOCK, u16_at, u64_at};
use crate::hash::Hasher;
use crate::options::HashKind;
use crate::verify::logs::Logs;
use crate::verify::segment as check;

use super::directory::{Directory, PageRef, SegmentRecord};
use super::fields::{Field, pages as annotated};
use super::{Damage, Raw, Store, TableFile};

/// A segment, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Segment {
    /// What the directory says of it.
    pub record: SegmentRecord,
    /// Its pages, in order.
    pub pages: Vec<Page>,
    groups: usize,
}

/// A page of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// Where it lies, and its checksum as the directory says.
    pub at: PageRef,
    /// The checksum that it says it has.
    pub stored_crc: u32,
    /// The checksum that it has.
    pub found_crc: u32,
    /// The page record: table id, local depth, page number, generation.
    pub page_record: (u16, u8, u8, u32),
    /// Its groups; none if it cannot be read.
    pub groups: Vec<Group>,
    /// What is wrong with it and not with single slots.
    pub damage: Vec<Damage>,
    raw: Raw,
    /// What its bytes are divided by, and the number of its first group.
    shape: Option<(Geometry, usize)>,
}

impl Page {
    /// Its bytes, field by field; none if they cannot be read.
    pub fn fields(&self) -> Vec<Field> {
        let base = u64::from(self.at.block) * BLOCK as u64;
        match (self.raw.bytes(), &self.shape) {
            (Some(bytes), Some((geometry, first))) => {
                annotated::page(bytes, base, geometry, *first)
            }
            _ => Vec::new(),
        }
    }

    /// The bytes of one of its groups, field by field.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("store");
    /// swissdb::Db::open(&path)?.close()?;
    /// let segment = swissdb::inspect::segment(&path, "default", 0)?;
    /// let page = &segment.pages[0];
    /// let fields = page.group_fields(&page.groups[1]);
    /// assert_eq!(fields[0].name, "control word");
    /// assert_eq!(fields[0].offset, page.groups[1].offset);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn group_fields(&self, group: &Group) -> Vec<Field> {
        let length = self.shape.map_or(0, |(geometry, _)| geometry.group_words as u64 * 8);
        let range = group.offset..group.offset + length;
        self.fields().into_iter().filter(|field| range.contains(&field.offset)).collect()
    }
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// Its number in the segment.
    pub number: usize,
    /// Where it begins, in bytes from the beginning of the file.
    pub offset: u64,
    /// Its control bytes.
    pub control: [u8; SLOTS],
    /// Its slots.
    pub slots: Vec<Slot>,
}

/// What is in a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// Nothing, ever since the segment was made or its group had room.
    Empty,
    /// Nothing, but searches go on behind it.
    Deleted,
    /// A control byte without a meaning.
    Unknown(u8),
    /// An entry.
    Full(Box<Entry>),
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The number of its slot in the group, 0 to 7.
    pub slot: usize,
    /// Where its slot begins, in bytes from the beginning of the file.
    pub offset: u64,
    /// The seven hash bits of its control byte.
    pub h2: u8,
    /// Eight more hash bits.
    pub fp: u8,
    /// The length of its key in bytes.
    pub key_length: usize,
    /// The length of its value in bytes, where it is known.
    pub value_length: Option<u64>,
    /// Its key, also if it had to be read from the log.
    pub key: Option<Vec<u8>>,
    /// Its value, if that stands in the slot.
    pub value: Option<Vec<u8>>,
    /// Where its spilled part lies.
    pub address: Option<Address>,
    /// Its hash, if the slot makes sense.
    pub hash: Option<u64>,
    /// The group where a search for it begins.
    pub home: Option<usize>,
    /// How many groups a search for it visits.
    pub probes: Option<usize>,
    /// What is wrong with it.
    pub damage: Vec<Damage>,
}

/// Where bytes lie in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Address {
    /// The hash of the key.
    pub hash: u64,
    /// How many bytes.
    pub length: u32,
    /// Their checksum.
    pub crc: u32,
    /// The number of the log file.
    pub file: u32,
    /// Where they begin in it.
    pub offset: u32,
}

impl Segment {
    /// All entries, in the order of their slots.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        let slots = self.pages.iter().flat_map(|page| &page.groups).flat_map(|group| &group.slots);
        slots.filter_map(|slot| match slot {
            Slot::Full(entry) => Some(&**entry),
            _ => None,
        })
    }

    /// How many groups it has.
    pub fn group_count(&self) -> usize {
        self.groups
    }

    /// One of its groups, with the page that it lies in; `None` if the segment
    /// has no such group or its page cannot be read.
    pub fn group(&self, number: usize) -> Option<(&Page, &Group)> {
        self.pages.iter().find_map(|page| {
            let group = page.groups.iter().find(|group| group.number == number)?;
            Some((page, group))
        })
    }

    /// The page of one of its groups, readable or not.
    pub fn page_of(&self, group: usize) -> Option<&Page> {
        self.pages.get(group.checked_div(self.groups / self.pages.len().max(1))?)
    }

    /// All that is wrong with it.
    pub fn damage(&self) -> impl Iterator<Item = &Damage> {
        let pages = self.pages.iter().flat_map(|page| &page.damage);
        pages.chain(self.entries().flat_map(|entry| &entry.damage))
    }
}

/// Takes a segment apart.
pub(super) fn read(mut directory: Directory, number: u64) -> Result<Segment> {
    let record = directory
        .find_map(|page| page.segments.into_iter().find(|segment| segment.number == number));
    let absent = || Error::NotFound { what: format!("segment {number}") };
    let record = record.ok_or_else(absent)?;
    let mut reader = Reader::new(&directory).ok_or_else(absent)?;
    Ok(reader.segment(record))
}

/// A page that no directory speaks of, taken apart for itself.
pub(super) fn stray(
    block: u32,
    bytes: Box<[u8; BLOCK]>,
    geometry: Geometry,
    hasher: Hasher,
    store: &Store,
    file: &TableFile,
) -> Page {
    let (store, file) = (store.clone(), file.clone());
    let mut reader =
        Reader { geometry, hasher, table: 0, logs: None, reads_log: false, store, file };
    let number = usize::from(group::PageRecord::from_word(u64_at(&bytes[..], 56)).page);
    let at = PageRef { block, crc: group::page_crc(&bytes) };
    reader.page(at, number.min(15), bytes, None, Vec::new())
}

/// What segments are taken apart with.
pub(super) struct Reader {
    geometry: Geometry,
    pub(super) hasher: Hasher,
    table: u16,
    /// The log, from the first spilled key on.
    logs: Option<Logs>,
    /// Whether all that is spilled is read.
    pub(super) reads_log: bool,
    store: Store,
    file: TableFile,
}

impl Reader {
    /// For the segments of a table; `None` if its slot payload is impossible.
    pub(super) fn new(directory: &Directory) -> Option<Reader> {
        let header = &directory.header;
        let kind = HashKind::from_id(header.hash_id).unwrap_or_default();
        Some(Reader {
            geometry: Geometry::new(header.payload.into())?,
            hasher: Hasher::new(kind, header.hash_key),
            table: header.table_id,
            logs: None,
            reads_log: true,
            store: directory.store.clone(),
            file: directory.file.clone(),
        })
    }

    /// Takes a segment apart.
    pub(super) fn segment(&mut self, record: SegmentRecord) -> Segment {
        let read: Vec<_> = record.pages.iter().map(|page| self.file.block(page.block)).collect();
        let bytes: Vec<check::Page> = read.iter().map(|page| page.as_ref().ok().cloned()).collect();
        let segment = check::Segment {
            geometry: self.geometry,
            hasher: &self.hasher,
            prefix: record.prefix,
            depth: record.depth,
            used: record.used,
            tombstones: record.tombstones,
            pages: &bytes,
            on_disk: Some(self.table),
        };
        let census = segment.census();
        let mut pages = Vec::new();
        for (i, (at, read)) in record.pages.iter().zip(read).enumerate() {
            let breaches = census.breaches.iter().filter(|breach| breach.page == i);
            let breaches = breaches.map(|breach| (breach.offset, breach.text.clone())).collect();
            pages.push(match read {
                Ok(bytes) => self.page(*at, i, bytes, Some(record.pages.len()), breaches),
                Err(damage) => unreadable(*at, damage),
            });
        }
        let groups = pages.len() * self.geometry.groups_per_page;
        Segment { record, pages, groups }
    }

    /// Takes a page apart; `pages` is how many the segment has, if that is
    /// known.
    fn page(
        &mut self,
        at: PageRef,
        number: usize,
        bytes: Box<[u8; BLOCK]>,
        pages: Option<usize>,
        mut breaches: Vec<(usize, String)>,
    ) -> Page {
        let base = u64::from(at.block) * BLOCK as u64;
        let record = group::PageRecord::from_word(u64_at(&bytes[..], 56));
        let stored_crc = group::stored_page_crc(&bytes);
        let found_crc = group::page_crc(&bytes);
        let first = number * self.geometry.groups_per_page;
        let mut groups = Vec::new();
        for group in 0..self.geometry.groups_per_page {
            let start = group * self.geometry.group_words * 8;
            groups.push(self.group(&bytes, base, start, first + group, pages, &mut breaches));
        }
        let mut damage: Vec<Damage> = Vec::new();
        if (stored_crc, found_crc) != (at.crc, at.crc) {
            let text = format!(
                "the page has checksum {found_crc:08x} and says {stored_crc:08x}, \
                 the directory {:08x}",
                at.crc
            );
            damage.push(Damage::new(base, text));
        }
        let rest = breaches.into_iter();
        damage.extend(rest.map(|(offset, text)| Damage::new(base + offset as u64, text)));
        let page_record = (record.table, record.depth, record.page, record.generation);
        let (raw, shape) = (Raw::new(bytes), Some((self.geometry, first)));
        Page { at, stored_crc, found_crc, page_record, groups, damage, raw, shape }
    }

    fn group(
        &mut self,
        bytes: &[u8; BLOCK],
        base: u64,
        start: usize,
        number: usize,
        pages: Option<usize>,
        breaches: &mut Vec<(usize, String)>,
    ) -> Group {
        let mut control = [0; SLOTS];
        control.copy_from_slice(&bytes[start..start + SLOTS]);
        let slots = (0..SLOTS).map(|slot| {
            let offset = start + (self.geometry.slot_start(slot)) * 8;
            match control[slot] {
                group::EMPTY => Slot::Empty,
                group::DELETED => Slot::Deleted,
                unknown @ 0x80.. => Slot::Unknown(unknown),
                _ => {
                    let mut entry = self.entry(bytes, base, start, slot, pages);
                    entry.probes = entry.hash.and_then(|hash| self.probes(hash, number, pages?));
                    for (_, text) in breaches.extract_if(.., |breach| breach.0 == offset) {
                        entry.damage.push(Damage::new(entry.offset, text));
                    }
                    Slot::Full(Box::new(entry))
                }
            }
        });
        let slots = slots.collect();
        Group { number, offset: base + start as u64, control, slots }
    }

    /// How many groups a search visits until it comes to this one.
    fn probes(&self, hash: u64, number: usize, pages: usize) -> Option<usize> {
        let groups = pages * self.geometry.groups_per_page;
        Probe::new(hash, groups).position(|group| group == number).map(|before| before + 1)
    }

    fn entry(
        &mut self,
        bytes: &[u8; BLOCK],
        base: u64,
        start: usize,
        slot: usize,
        pages: Option<usize>,
    ) -> Entry {
        let lengths = group::Lengths {
            key: u16_at(bytes, start + 16 + 2 * slot),
            value: u16_at(bytes, start + 32 + 2 * slot),
        };
        let at = start + self.geometry.slot_start(slot) * 8;
        let payload = &bytes[at..at + self.geometry.payload()];
        let mut entry = Entry {
            slot,
            offset: base + at as u64,
            h2: bytes[start + slot],
            fp: bytes[start + 48 + slot],
            key_length: lengths.key_len(),
            value_length: None,
            key: None,
            value: None,
            address: None,
            hash: None,
            home: None,
            probes: None,
            damage: Vec::new(),
        };
        if !lengths.fit(&self.geometry) {
            return entry;
        }
        if !lengths.key_spilled() {
            entry.key = Some(payload[..lengths.key_len()].to_vec());
        }
        if !lengths.value_spilled() {
            let from = lengths.value_start();
            entry.value = Some(payload[from..from + lengths.value_len()].to_vec());
            entry.value_length = Some(lengths.value_len() as u64);
        }
        if lengths.spilled() {
            self.spilled(&mut entry, payload, lengths);
        }
        let own = entry.key.as_deref().map(|key| self.hasher.hash(key));
        let hash = own.or(entry.address.map(|address| address.hash));
        entry.hash = hash;
        let groups = pages.map(|pages| pages * self.geometry.groups_per_page);
        entry.home = hash.zip(groups).map(|(hash, groups)| group::home(hash, groups));
        entry
    }

    /// Fills in what stands in the log.
    fn spilled(&mut self, entry: &mut Entry, payload: &[u8], lengths: group::Lengths) {
        let at = lengths.address_word() * 8;
        let word = |i: usize| u64_at(payload, at + 8 * i);
        let address = group::Address::from_words([word(0), word(1), word(2)]);
        let group::Address { hash, len: length, crc, file, offset } = address;
        entry.address = Some(Address { hash, length, crc, file, offset });
        if lengths.value_spilled() {
            let key = if lengths.key_spilled() { lengths.key_len() as u64 } else { 0 };
            entry.value_length = u64::from(length).checked_sub(key);
        }
        if self.reads_log {
            self.read_log(entry);
        }
    }

    /// Reads what an entry has in the log, its key if it is there.
    pub(super) fn read_log(&mut self, entry: &mut Entry) {
        let Some(Address { hash, length, crc, file, offset }) = entry.address else { return };
        let address = group::Address { hash, len: length, crc, file, offset };
        let keep = if entry.key.is_none() { entry.key_length } else { 0 };
        let storage = &self.store.storage;
        let logs = self.logs.get_or_insert_with(|| Logs::without_findings(storage));
        match logs.check_address(&address, keep) {
            Ok(key) if entry.key.is_none() => entry.key = Some(key),
            Ok(_) => {}
            Err(text) => entry.damage.push(Damage::new(entry.offset, text)),
        }
    }
}

fn unreadable(at: PageRef, damage: Damage) -> Page {
    Page {
        at,
        stored_crc: 0,
        found_crc: 0,
        page_record: (0, 0, 0, 0),
        groups: Vec::new(),
        damage: vec![damage],
        raw: Raw::default(),
        shape: None,
    }
}
