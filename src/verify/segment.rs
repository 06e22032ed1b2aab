//! One segment, slot by slot: I7 to I12.
//!
//! A function of bytes: it is given copies of the segment's pages, whether they
//! come from the file or from memory, and what the directory says of them. It
//! reads no file; what stands in the log is asked of it later, with the
//! addresses that are returned.
//!
//! A page that could not be read is absent. Nothing is said of what is in it,
//! of searches that lead through it, and of the counts of the segment.

use crate::format::group::{
    Address, DELETED, EMPTY, Geometry, Lengths, PageRecord, Probe, SLOTS, fingerprint, h2,
    match_empty,
};
use crate::format::{ADDRESS_BYTES, BLOCK, u16_at, u32_at, u64_at};
use crate::hash::Hasher;
use crate::{MAX_KEY_LENGTH, MAX_VALUE_LENGTH};

/// The bytes of a control line.
const CONTROL_LINE: usize = 64;

/// The bytes of a page, if they could be read.
pub(crate) type Page = Option<Box<[u8; BLOCK]>>;

/// A segment: its pages, and what the directory says of it.
pub(crate) struct Segment<'a> {
    pub(crate) geometry: Geometry,
    pub(crate) hasher: &'a Hasher,
    /// Hash bits 63 to 32 of its smallest hash.
    pub(crate) prefix: u32,
    pub(crate) depth: u8,
    pub(crate) used: u16,
    pub(crate) tombstones: u16,
    pub(crate) pages: &'a [Page],
    /// The table, if the pages are those on disk: page records and versions
    /// are checked then, which mean nothing or other things in memory.
    pub(crate) on_disk: Option<u16>,
}

/// A violation, and where it is: the page of the segment, the offset in it.
pub(crate) struct Breach {
    pub(crate) invariant: &'static str,
    pub(crate) page: usize,
    pub(crate) offset: usize,
    pub(crate) text: String,
}

/// An entry whose slot makes sense.
pub(crate) struct Entry {
    pub(crate) hash: u64,
    pub(crate) page: usize,
    /// Where its slot is in the page.
    pub(crate) offset: usize,
    pub(crate) lengths: Lengths,
    /// Where its spilled part is.
    pub(crate) address: Option<Address>,
    /// Whether its hash is that of its slot and of the segment.
    pub(crate) belongs: bool,
}

/// What a segment was found to hold.
#[derive(Default)]
pub(crate) struct Census {
    pub(crate) used: u64,
    pub(crate) tombstones: u64,
    empty: u64,
    pub(crate) entries: Vec<Entry>,
    pub(crate) breaches: Vec<Breach>,
}

/// A slot: where it is, and its bytes.
#[derive(Clone, Copy)]
struct Slot<'a> {
    page: usize,
    /// The group's number in the page.
    group: usize,
    /// Where it is in the page.
    offset: usize,
    control: u8,
    lengths: Lengths,
    fp: u8,
    payload: &'a [u8],
}

impl Segment<'_> {
    /// Slots of the segment.
    pub(crate) fn slots(&self) -> u64 {
        (self.pages.len() * self.geometry.slots_per_page()) as u64
    }

    /// Checks everything that can be checked without the log.
    pub(crate) fn census(&self) -> Census {
        let mut census = Census::default();
        for (number, page) in self.pages.iter().enumerate() {
            if let Some(page) = page {
                self.check_page(number, page, &mut census);
            }
        }
        if self.pages.iter().all(Option::is_some) {
            self.check_counts(&mut census);
        }
        census
    }

    /// The key of an entry, if it stands in its slot.
    pub(crate) fn key(&self, entry: &Entry) -> Option<&[u8]> {
        let page = self.pages.get(entry.page)?.as_ref()?;
        let inline = !entry.lengths.key_spilled();
        page.get(entry.offset..entry.offset + entry.lengths.key_len()).filter(|_| inline)
    }

    fn group_bytes(&self) -> usize {
        self.geometry.group_words * 8
    }

    fn check_page(&self, page: usize, bytes: &[u8; BLOCK], census: &mut Census) {
        let mut breach = |invariant, offset, text| {
            census.breaches.push(Breach { invariant, page, offset, text });
        };
        if let Some(table) = self.on_disk {
            let record = PageRecord::from_word(u64_at(bytes, 56));
            let (depth, number) = (self.depth, page as u8);
            let found = (record.table, record.depth, record.page);
            if found != (table, depth, number) {
                let text = format!(
                    "the page record says table {}, depth {}, page {}; \
                     the directory says table {table}, depth {depth}, page {number}",
                    found.0, found.1, found.2
                );
                breach("I7", 56, text);
            }
            for group in 0..self.geometry.groups_per_page {
                let start = group * self.group_bytes();
                if u32_at(bytes, start + 8) != 0 {
                    breach("I8", start + 8, "the version of a group is not zero".into());
                }
                if group > 0 && (u32_at(bytes, start + 12) != 0 || u64_at(bytes, start + 56) != 0) {
                    let text = "a group that is not the first has page crc or page record";
                    breach("I8", start + 12, text.into());
                }
            }
        }
        let end = self.geometry.groups_per_page * self.group_bytes();
        if let Some(at) = bytes[end..].iter().position(|byte| *byte != 0) {
            breach("I8", end + at, "a byte behind the groups is not zero".into());
        }
        for group in 0..self.geometry.groups_per_page {
            for slot in 0..SLOTS {
                self.check_slot(self.slot(bytes, page, group, slot), census);
            }
        }
    }

    fn slot<'b>(&self, bytes: &'b [u8; BLOCK], page: usize, group: usize, slot: usize) -> Slot<'b> {
        let start = group * self.group_bytes();
        let payload = self.geometry.payload();
        let offset = start + CONTROL_LINE + slot * payload;
        Slot {
            page,
            group,
            offset,
            control: bytes[start + slot],
            lengths: Lengths {
                key: u16_at(bytes, start + 16 + 2 * slot),
                value: u16_at(bytes, start + 32 + 2 * slot),
            },
            fp: bytes[start + 48 + slot],
            payload: &bytes[offset..offset + payload],
        }
    }

    fn check_slot(&self, slot: Slot<'_>, census: &mut Census) {
        let Slot { page, offset, control, lengths, fp, payload, .. } = slot;
        let mut breach = |invariant, text| {
            census.breaches.push(Breach { invariant, page, offset, text });
        };
        if control & 0x80 != 0 {
            if control != EMPTY && control != DELETED {
                breach("I8", format!("the control byte {control:02x} means nothing"));
            }
            if fp != 0 || (lengths.key, lengths.value) != (0, 0) || !is_zero(payload) {
                breach("I8", "a slot without an entry is not zero".into());
            }
            census.tombstones += u64::from(control == DELETED);
            census.empty += u64::from(control == EMPTY);
            return;
        }
        census.used += 1;
        let address = match self.check_layout(lengths, payload) {
            Ok(address) => address,
            Err((invariant, text)) => return breach(invariant, text),
        };
        let hash = match (lengths.key_spilled(), address) {
            (true, Some(address)) => address.hash,
            _ => self.hasher.hash(&payload[..lengths.key_len()]),
        };
        let (prefix, depth) = (self.prefix, self.depth);
        let inside = u64::from((hash >> 32) as u32 ^ prefix) >> (32 - depth.min(32)) == 0;
        let mut belongs = false;
        if address.is_some_and(|address| address.hash != hash) {
            breach("I10", format!("the hash of the key is {hash:016x}, not that of the address"));
        } else if control != h2(hash) || fp != fingerprint(hash) {
            let text = format!("H2 {control:02x} and fp {fp:02x} are not of hash {hash:016x}");
            breach("I10", text);
        } else if !inside {
            breach("I10", format!("hash {hash:016x} is not in the segment {prefix:08x}/{depth}"));
        } else {
            belongs = true;
            if let Err(text) = self.check_reached(slot, hash) {
                breach("I11", text);
            }
        }
        census.entries.push(Entry { hash, page, offset, lengths, address, belongs });
    }

    /// Checks that an entry is laid out as its lengths demand, and that what
    /// is left of the slot is zero. Returns the address, if there is one.
    fn check_layout(
        &self,
        lengths: Lengths,
        payload: &[u8],
    ) -> Result<Option<Address>, (&'static str, String)> {
        let key = lengths.key_len();
        if !lengths.fit(&self.geometry) || key > MAX_KEY_LENGTH {
            let (key, value) = (lengths.key, lengths.value);
            return Err(("I9", format!("lengths {key:04x} and {value:04x} do not fit the slot")));
        }
        if !lengths.spilled() {
            let end = key + lengths.value_len();
            return rest_is_zero(&payload[end..]).map(|()| None);
        }
        let start = lengths.address_word() * 8;
        let end = start + ADDRESS_BYTES;
        let word = |i: usize| u64_at(payload, start + 8 * i);
        let address = Address::from_words([word(0), word(1), word(2)]);
        let (length, key_spilled) = (address.len as usize, lengths.key_spilled());
        let value = match (key_spilled, lengths.value_spilled()) {
            (false, _) => Some(length),
            (true, true) => length.checked_sub(key),
            (true, false) => (length == key).then_some(lengths.value_len()),
        };
        let possible = value.filter(|value| *value <= MAX_VALUE_LENGTH);
        let due = possible.map(|value| Lengths::of(self.geometry.shape(key, value), key, value));
        if due != Some(lengths) {
            let text = format!("a key of {key} bytes and {length} bytes in the log: not this case");
            return Err(("I9", text));
        }
        if !key_spilled {
            rest_is_zero(&payload[key..start])?;
        }
        let end = if lengths.value_spilled() { end } else { end + lengths.value_len() };
        rest_is_zero(&payload[end..]).map(|()| Some(address))
    }

    /// Checks that a search for a hash comes to a slot's group.
    fn check_reached(&self, slot: Slot<'_>, hash: u64) -> Result<(), String> {
        let groups = self.pages.len() * self.geometry.groups_per_page;
        for number in Probe::new(hash, groups) {
            let (page, group) = self.geometry.page_of(number);
            if (page, group) == (slot.page, slot.group) {
                return Ok(());
            }
            let Some(Some(bytes)) = self.pages.get(page) else {
                continue;
            };
            if match_empty(u64_at(&bytes[..], group * self.group_bytes())).any() {
                return Err(format!("the search for hash {hash:016x} ends before its entry"));
            }
        }
        Err(format!("the search for hash {hash:016x} does not come to its entry"))
    }

    fn check_counts(&self, census: &mut Census) {
        let mut breach = |text| {
            census.breaches.push(Breach { invariant: "I12", page: 0, offset: 0, text });
        };
        let counted = (census.used, census.tombstones);
        if counted != (self.used.into(), self.tombstones.into()) {
            breach(format!(
                "the segment counts {} entries and {} tombstones, but has {} and {}",
                self.used, self.tombstones, counted.0, counted.1
            ));
        }
        let most = self.slots() / 8 * 7;
        if counted.0 + counted.1 > most {
            breach(format!("{} of {most} usable slots are in use", counted.0 + counted.1));
        }
        if census.empty == 0 {
            breach("the segment has no empty slot".into());
        }
    }
}

/// Pairs of entries of a segment that have the same key: the later one of
/// each, as an index. `key` returns the key of an entry, if it can be read; it
/// is asked only where whole hashes are equal.
pub(crate) fn duplicates(
    entries: &[Entry],
    key: &mut dyn FnMut(&Entry) -> Option<Vec<u8>>,
) -> Vec<usize> {
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|i| (entries[*i].hash, *i));
    let mut found = Vec::new();
    for same in order.chunk_by(|a, b| entries[*a].hash == entries[*b].hash) {
        if same.len() < 2 {
            continue;
        }
        let mut keys: Vec<_> = same.iter().filter_map(|i| Some((key(&entries[*i])?, *i))).collect();
        keys.sort_unstable();
        let twice = keys.windows(2).filter(|pair| pair[0].0 == pair[1].0);
        found.extend(twice.map(|pair| pair[1].1));
    }
    found
}

fn rest_is_zero(bytes: &[u8]) -> Result<(), (&'static str, String)> {
    match is_zero(bytes) {
        true => Ok(()),
        false => Err(("I8", "bytes of the slot that belong to nothing are not zero".into())),
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
