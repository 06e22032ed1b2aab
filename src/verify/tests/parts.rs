//! A table file, taken apart and put together again.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::format::directory::{DirectoryPage, RootEntry, decode_root, encode_root};
use crate::format::header::Header;
use crate::format::{BLOCK, crc32};
use crate::options::Options;
use crate::storage::memory::Memory;
use crate::storage::{Access, File, Storage};
use crate::store::create::write_header;

pub(super) const TABLE: &str = "default.swiss";
pub(super) const LOG: &str = "log/00000001.log";

/// A closed store: inline entries in several segments, and every kind of
/// spilled one.
pub(super) fn store() -> Memory {
    let memory = Memory::new();
    let db = Options::new().open_on(Arc::new(memory.clone())).unwrap();
    for i in 0..1200 {
        db.insert(format!("key {i:05}"), format!("the value of {i}")).unwrap();
    }
    db.remove("key 00007").unwrap();
    db.insert("value spilled", "v".repeat(200)).unwrap();
    db.insert("k".repeat(100), "key spilled").unwrap();
    db.insert("b".repeat(100), "both spilled ".repeat(20)).unwrap();
    db.table("other").unwrap().insert("a", "b").unwrap();
    db.close().unwrap();
    memory
}

pub(super) fn open(memory: &Memory, name: &str) -> Arc<dyn File> {
    memory.open(name, Access::Write).unwrap()
}

pub(super) fn read(file: &Arc<dyn File>, block: u32) -> Box<[u8; BLOCK]> {
    let mut bytes = Box::new([0; BLOCK]);
    file.read_at(&mut bytes[..], u64::from(block) * BLOCK as u64).unwrap();
    bytes
}

pub(super) fn write(file: &Arc<dyn File>, block: u32, bytes: &[u8]) {
    file.write_at(bytes, u64::from(block) * BLOCK as u64).unwrap();
}

/// A table file, taken apart.
pub(super) struct Parts {
    pub(super) header: Header,
    pub(super) live: BTreeMap<u32, u64>,
    pub(super) directory: Vec<(u32, DirectoryPage)>,
    /// The pages of segments by their blocks.
    pub(super) pages: BTreeMap<u32, Box<[u8; BLOCK]>>,
}

impl Parts {
    pub(super) fn take(file: &Arc<dyn File>) -> Parts {
        let header = Header::decode(&read(file, 0)).unwrap();
        assert_eq!((header.root.blocks, header.root_depth), (1, 0));
        let root = read(file, header.root.block);
        let (entries, live) = decode_root(&root[..], 0, header.live_count).unwrap();
        let directory: Vec<_> = entries
            .iter()
            .map(|entry| (entry.block, DirectoryPage::decode(&read(file, entry.block)).unwrap()))
            .collect();
        let segments = directory.iter().flat_map(|(_, page)| &page.segments);
        let blocks = segments.flat_map(|segment| &segment.pages).map(|page| page.block);
        let pages = blocks.map(|block| (block, read(file, block))).collect();
        Parts { header, live, directory, pages }
    }

    /// Puts the table together again, with checksums that hold.
    pub(super) fn put(mut self, file: &Arc<dyn File>) {
        for (block, bytes) in &mut self.pages {
            let crc = crate::format::group::page_crc(bytes);
            bytes[12..16].copy_from_slice(&crc.to_le_bytes());
            write(file, *block, &bytes[..]);
            let segments = self.directory.iter_mut().flat_map(|(_, page)| &mut page.segments);
            for page in segments.flat_map(|s| &mut s.pages).filter(|page| page.block == *block) {
                page.crc = crc;
            }
        }
        let mut entries = Vec::new();
        for (block, page) in &self.directory {
            let bytes = page.encode();
            write(file, *block, &bytes[..]);
            entries.push(RootEntry { block: *block, crc: crc32(&bytes[..], 0) });
        }
        let root = encode_root(&entries, &self.live);
        write(file, self.header.root.block, &root);
        self.header.root.crc = crc32(&root, 0);
        self.header.live_count = self.live.len() as u32;
        write_header(file, &self.header, 0).unwrap();
    }

    /// A page with an entry, with the group and the slot of that entry.
    pub(super) fn full(&self, wanted: impl Fn(&[u8], usize) -> bool) -> (u32, usize, usize) {
        self.slot(|control, group, slot| control & 0x80 == 0 && wanted(group, slot))
    }

    /// A page with a slot, with the group (its place) and the slot's number.
    pub(super) fn slot(&self, wanted: impl Fn(u8, &[u8], usize) -> bool) -> (u32, usize, usize) {
        for (block, bytes) in &self.pages {
            for group in (0..BLOCK).step_by(512) {
                let group_bytes = &bytes[group..group + 512];
                if let Some(slot) = (0..8).find(|i| wanted(group_bytes[*i], group_bytes, *i)) {
                    return (*block, group, slot);
                }
            }
        }
        panic!("there is no such slot");
    }

    pub(super) fn page(&mut self, block: u32) -> &mut [u8; BLOCK] {
        self.pages.get_mut(&block).unwrap()
    }
}

/// The value length of a slot of a group.
pub(super) fn value_len(group: &[u8], slot: usize) -> u16 {
    u16::from_le_bytes([group[32 + 2 * slot], group[33 + 2 * slot]])
}

/// Whether an entry stands in its slot, and is one of the many.
pub(super) fn is_inline(group: &[u8], slot: usize) -> bool {
    key_len(group, slot) == 9
}

/// Whether the value of a slot of a group is spilled and the key is not.
pub(super) fn has_spilled_value(group: &[u8], slot: usize) -> bool {
    (key_len(group, slot), value_len(group, slot)) == (13, 0x8000)
}

/// The key length of a slot of a group.
pub(super) fn key_len(group: &[u8], slot: usize) -> u16 {
    u16::from_le_bytes([group[16 + 2 * slot], group[17 + 2 * slot]])
}
