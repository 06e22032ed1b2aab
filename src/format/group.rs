//! Pages, groups and slots: the bytes of a Swiss table.
//!
//! A *page* (4 KiB) holds as many whole *groups* as fit; a group is a 64-byte
//! *control line* and eight *slots*. Everything is laid out in 64-bit words,
//! because that is how it is read and written:
//!
//! ```text
//! word 0    control word: one byte per slot
//!             empty    1000_0000
//!             deleted  1111_1110
//!             full     0hhh_hhhh   (H2, seven hash bits)
//! word 1    version u32 (memory only; 0 on disk) | page crc u32 (first group only)
//! word 2-3  key_len [u16; 8]      bit 15: the key is spilled
//! word 4-5  val_len [u16; 8]      bit 15: the value is spilled
//! word 6    fp [u8; 8]            eight more hash bits
//! word 7    page record: table id u16, local depth u8, page number u8, generation u32
//!             (first group only)
//! word 8..  eight slots of `payload` bytes
//! ```
//!
//! This module knows shapes and bit patterns. It does not know where the words
//! lie, who else reads them, or what a segment is.

use super::{ADDRESS_BYTES, BLOCK};

/// Words in a page.
pub(crate) const PAGE_WORDS: usize = BLOCK / 8;
/// Slots in a group.
pub(crate) const SLOTS: usize = 8;
/// Words in a control line.
pub(crate) const CONTROL_WORDS: usize = 8;

pub(crate) const CONTROL: usize = 0;
pub(crate) const VERSION_AND_CRC: usize = 1;
pub(crate) const KEY_LENGTHS: usize = 2;
pub(crate) const VALUE_LENGTHS: usize = 4;
pub(crate) const FINGERPRINTS: usize = 6;
pub(crate) const PAGE_RECORD: usize = 7;

/// The control word of a group without entries.
pub(crate) const ALL_EMPTY: u64 = 0x8080_8080_8080_8080;
pub(crate) const EMPTY: u8 = 0b1000_0000;
pub(crate) const DELETED: u8 = 0b1111_1110;
/// The bit of a length that says: not here, but in the log.
pub(crate) const SPILLED: u16 = 1 << 15;
/// A slot is at most this many words.
pub(crate) const MAX_SLOT_WORDS: usize = 63;

const LSB: u64 = 0x0101_0101_0101_0101;
const MSB: u64 = 0x8080_8080_8080_8080;

const _: () = assert!(ADDRESS_BYTES == 24 && PAGE_WORDS == 512);
const _: () = assert!(PAGE_WORDS / (CONTROL_WORDS + MAX_SLOT_WORDS * 8) == 1);

/// The seven hash bits in a control byte.
#[inline]
pub(crate) fn h2(hash: u64) -> u8 {
    (hash & 0x7f) as u8
}

/// The eight hash bits in the control line.
#[inline]
pub(crate) fn fingerprint(hash: u64) -> u8 {
    (hash >> 7) as u8
}

/// The group where the search for a hash begins.
#[inline]
pub(crate) fn home(hash: u64, groups: usize) -> usize {
    (((hash >> 7 & ((1 << 25) - 1)) * groups as u64) >> 25) as usize
}

/// The slot of its group that an entry takes if it is free. An entry may stand in
/// any slot, but most stand in this one: so whoever looks for one asks for
/// it together with the control line, before that says where the entry is.
#[inline]
pub(crate) fn home_slot(hash: u64) -> usize {
    (hash >> 15) as usize % SLOTS
}

/// A set of slots: bit 7 of byte i stands for slot i.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slots(u64);

impl Slots {
    #[inline]
    pub(crate) fn first(self) -> Option<usize> {
        (self.0 != 0).then(|| self.0.trailing_zeros() as usize / 8)
    }

    /// The first one from that slot on, or else from the first slot on.
    #[inline]
    pub(crate) fn nearest(self, slot: usize) -> Option<usize> {
        let from = Slots(self.0.rotate_right(8 * slot as u32));
        from.first().map(|steps| (slot + steps) % SLOTS)
    }

    #[inline]
    pub(crate) fn any(self) -> bool {
        self.0 != 0
    }
}

impl Iterator for Slots {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let slot = self.first()?;
        self.0 &= self.0 - 1;
        Some(slot)
    }
}

/// The slots whose control byte may be this H2. A full slot above a true match
/// may be named falsely, an empty or deleted one never.
#[inline]
pub(crate) fn match_h2(control: u64, h2: u8) -> Slots {
    let v = control ^ (LSB * u64::from(h2));
    Slots(v.wrapping_sub(LSB) & !v & MSB)
}

/// The empty slots.
#[inline]
pub(crate) fn match_empty(control: u64) -> Slots {
    Slots(control & !(control << 6) & MSB)
}

/// The slots with an entry.
#[inline]
pub(crate) fn match_full(control: u64) -> Slots {
    Slots(!control & MSB)
}

/// The deleted slots.
#[inline]
pub(crate) fn match_deleted(control: u64) -> Slots {
    Slots(control & (control << 6) & MSB)
}

/// Byte `i` of a word.
#[inline]
pub(crate) fn byte(word: u64, i: usize) -> u8 {
    (word >> (8 * i)) as u8
}

/// The word with byte `i` replaced.
#[inline]
pub(crate) fn with_byte(word: u64, i: usize, value: u8) -> u64 {
    word & !(0xff << (8 * i)) | u64::from(value) << (8 * i)
}

/// Sixteen-bit field `i` (0 to 3) of a word.
#[inline]
pub(crate) fn half(word: u64, i: usize) -> u16 {
    (word >> (16 * i)) as u16
}

/// The word with sixteen-bit field `i` replaced.
#[inline]
pub(crate) fn with_half(word: u64, i: usize, value: u16) -> u64 {
    word & !(0xffff << (16 * i)) | u64::from(value) << (16 * i)
}

/// The order in which a search visits the groups of a segment: triangular
/// steps over the next power of two, passing over numbers beyond the last
/// group. Visits each group exactly once.
#[derive(Clone, Copy)]
pub(crate) struct Probe {
    groups: usize,
    mask: usize,
    position: usize,
    step: usize,
}

impl Probe {
    #[inline]
    pub(crate) fn new(hash: u64, groups: usize) -> Probe {
        let mask = groups.next_power_of_two() - 1;
        Probe { groups, mask, position: home(hash, groups), step: 0 }
    }
}

impl Iterator for Probe {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.step <= self.mask {
            let here = self.position;
            self.step += 1;
            self.position = (self.position + self.step) & self.mask;
            if here < self.groups {
                return Some(here);
            }
        }
        None
    }
}

/// Where a page, its groups and their slots lie for a slot payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Words of a slot: the payload in bytes divided by eight.
    pub(crate) slot_words: usize,
    payload: usize,
    /// Words of a group.
    pub(crate) group_words: usize,
    /// Whole groups in a page.
    pub(crate) groups_per_page: usize,
    /// Groups in the pages of the largest segment.
    pub(crate) groups_per_segment: usize,
    /// `group * reciprocal >> 16 == group / groups_per_page` below 4,096.
    reciprocal: u32,
}

impl Geometry {
    /// The geometry of a slot payload in bytes, if it is one of the format's.
    pub(crate) fn new(payload: usize) -> Option<Geometry> {
        if !(24..=504).contains(&payload) || !payload.is_multiple_of(8) {
            return None;
        }
        let group_words = CONTROL_WORDS + payload;
        let groups_per_page = PAGE_WORDS / group_words;
        let reciprocal = (1 << 16) / groups_per_page as u32 + 1;
        Some(Geometry {
            slot_words: payload / 8,
            payload,
            group_words,
            groups_per_page,
            groups_per_segment: groups_per_page * super::directory::MAX_SEGMENT_PAGES,
            reciprocal,
        })
    }

    /// The slot payload in bytes.
    #[inline]
    pub(crate) fn payload(&self) -> usize {
        self.payload
    }

    /// Slots in a page.
    #[inline]
    pub(crate) fn slots_per_page(&self) -> usize {
        self.groups_per_page * SLOTS
    }

    /// The page of a segment's group, and the group's number in that page.
    #[inline]
    pub(crate) fn page_of(&self, group: usize) -> (usize, usize) {
        let page = ((group as u32 * self.reciprocal) >> 16) as usize;
        // Wraps only for numbers that no segment has, which readers may see.
        (page, group.wrapping_sub(page.wrapping_mul(self.groups_per_page)))
    }

    /// The number in its segment of a group of a page: what
    /// [`page_of`](Geometry::page_of) takes apart.
    #[inline]
    pub(crate) fn number_of(&self, page: usize, group: usize) -> usize {
        page * self.groups_per_page + group
    }

    /// The first word of a slot, counted from its group.
    #[inline]
    pub(crate) fn slot_start(&self, slot: usize) -> usize {
        CONTROL_WORDS + slot * self.slot_words
    }

    /// How an entry of these lengths is laid out.
    #[inline]
    pub(crate) fn shape(&self, key: usize, value: usize) -> Shape {
        let payload = self.payload();
        if key + value <= payload {
            Shape::Inline
        } else if key + ADDRESS_BYTES <= payload {
            Shape::ValueSpilled
        } else if ADDRESS_BYTES + value <= payload {
            Shape::KeySpilled
        } else {
            Shape::BothSpilled
        }
    }

    /// The fields of an entry whose key and value have these lengths.
    #[inline]
    pub(crate) fn lengths(&self, key: usize, value: usize) -> Lengths {
        Lengths::of(self.shape(key, value), key, value)
    }
}

/// Which parts of an entry stand in its slot and which in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Key, then value.
    Inline,
    /// Key, zeros to a multiple of eight, address of the value.
    ValueSpilled,
    /// Address of the key, then the value.
    KeySpilled,
    /// One address: in the log the value follows the key.
    BothSpilled,
}

/// Where spilled bytes lie in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The full hash of the key.
    pub(crate) hash: u64,
    /// How many bytes.
    pub(crate) len: u32,
    /// Their checksum.
    pub(crate) crc: u32,
    /// The number of the log file.
    pub(crate) file: u32,
    /// Where they begin in it.
    pub(crate) offset: u32,
}

impl Address {
    pub(crate) fn to_words(self) -> [u64; 3] {
        [
            self.hash,
            u64::from(self.len) | u64::from(self.crc) << 32,
            u64::from(self.file) | u64::from(self.offset) << 32,
        ]
    }

    pub(crate) fn from_words(words: [u64; 3]) -> Address {
        Address {
            hash: words[0],
            len: words[1] as u32,
            crc: (words[1] >> 32) as u32,
            file: words[2] as u32,
            offset: (words[2] >> 32) as u32,
        }
    }
}

/// The two length fields of a slot, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lengths {
    pub(crate) key: u16,
    pub(crate) value: u16,
}

impl Lengths {
    /// The fields of an entry with this shape.
    #[inline]
    pub(crate) fn of(shape: Shape, key: usize, value: usize) -> Lengths {
        let (key, value) = (key as u16, value as u16);
        match shape {
            Shape::Inline => Lengths { key, value },
            Shape::ValueSpilled => Lengths { key, value: SPILLED },
            Shape::KeySpilled => Lengths { key: key | SPILLED, value },
            Shape::BothSpilled => Lengths { key: key | SPILLED, value: SPILLED },
        }
    }

    /// The length of the key.
    #[inline]
    pub(crate) fn key_len(self) -> usize {
        usize::from(self.key & !SPILLED)
    }

    /// The length of the value, if it stands in the slot.
    #[inline]
    pub(crate) fn value_len(self) -> usize {
        usize::from(self.value & !SPILLED)
    }

    #[inline]
    pub(crate) fn key_spilled(self) -> bool {
        self.key & SPILLED != 0
    }

    #[inline]
    pub(crate) fn value_spilled(self) -> bool {
        self.value & SPILLED != 0
    }

    #[inline]
    pub(crate) fn spilled(self) -> bool {
        (self.key | self.value) & SPILLED != 0
    }

    /// The first word of the address in the slot; only for spilled entries.
    #[inline]
    pub(crate) fn address_word(self) -> usize {
        if self.key_spilled() { 0 } else { self.key_len().div_ceil(8) }
    }

    /// Where the value begins in the slot, in bytes, if it stands there.
    #[inline]
    pub(crate) fn value_start(self) -> usize {
        if self.key_spilled() { ADDRESS_BYTES } else { self.key_len() }
    }

    /// Whether these lengths are possible for a payload: what `verify` and
    /// every reader of possibly rotten or reused bytes ask first.
    #[inline]
    pub(crate) fn fit(self, geometry: &Geometry) -> bool {
        let key = if self.key_spilled() { 0 } else { self.key_len().next_multiple_of(8) };
        match (self.key_spilled(), self.value_spilled()) {
            (false, false) => self.key_len() + self.value_len() <= geometry.payload(),
            (_, true) => self.value_len() == 0 && key + ADDRESS_BYTES <= geometry.payload(),
            (true, false) => ADDRESS_BYTES + self.value_len() <= geometry.payload(),
        }
    }
}

/// What the first group of a page says about the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageRecord {
    pub(crate) table: u16,
    pub(crate) depth: u8,
    pub(crate) page: u8,
    pub(crate) generation: u32,
}

impl PageRecord {
    pub(crate) fn to_word(self) -> u64 {
        u64::from(self.table)
            | u64::from(self.depth) << 16
            | u64::from(self.page) << 24
            | u64::from(self.generation) << 32
    }

    pub(crate) fn from_word(word: u64) -> PageRecord {
        PageRecord {
            table: word as u16,
            depth: (word >> 16) as u8,
            page: (word >> 24) as u8,
            generation: (word >> 32) as u32,
        }
    }
}

/// The checksum of a page's bytes, its own field taken as zero.
pub(crate) fn page_crc(page: &[u8; BLOCK]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&page[..12]);
    hasher.update(&[0; 4]);
    hasher.update(&page[16..]);
    hasher.finalize()
}

/// The checksum that a page claims to have.
pub(crate) fn stored_page_crc(page: &[u8; BLOCK]) -> u32 {
    u32::from_le_bytes([page[12], page[13], page[14], page[15]])
}

/// Makes a page fit for the disk: versions zero, record and checksum in the
/// first group. Returns the checksum.
pub(crate) fn seal(page: &mut [u8; BLOCK], geometry: &Geometry, record: PageRecord) -> u32 {
    for group in 0..geometry.groups_per_page {
        let start = group * geometry.group_words * 8;
        page[start + 8..start + 16].fill(0);
        page[start + 8 * PAGE_RECORD..start + 64].fill(0);
    }
    page[8 * PAGE_RECORD..64].copy_from_slice(&record.to_word().to_le_bytes());
    // Computed with the field still zero: one pass, and the same value.
    let crc = crc32fast::hash(&page[..]);
    page[12..16].copy_from_slice(&crc.to_le_bytes());
    crc
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
