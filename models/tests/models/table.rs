//! A table of the library with one page for each segment, and a writer for it.
//!
//! The readers' half is the real one, from the root to the slot: `table/read.rs`
//! as it is, and the functions that it stands on. The writer's half is put
//! together from the real steps, in the order in which the library takes them;
//! how a slot is written or erased, and how a page is checked, are the real ones.

use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering;
use loom::sync::{Arc, Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::group::{
    self, Address, Geometry, Lengths, MAX_SLOT_WORDS, PAGE_WORDS, PageRecord,
};
use crate::hash::Hasher;
use crate::storage::epoch::ReuseEpoch;
use crate::storage::map::{Map, copy_words, fill, load_bytes};

use arena::{Allocator, Arena};
use flat::Flat;
use frames::{Frames, Owner, Pool};
use layout::*;
use maps::BlockMaps;
use mirror::Mirror;
use read::glance::Glance;
use read::places::Places;
use read::{Found, Slot};

macro_rules! real {
    ($($module:ident $name:literal,)*) => {
        $(#[allow(dead_code, unused, clippy::all)]
        pub(crate) mod $module {
            include_source!($name);
        })*
    };
}

real! {
    arena "table_arena",
    flat "table_flat",
    frames "table_frames",
    layout "table_layout",
    maps "table_maps",
    mirror "table_mirror",
    scan "table_scan",
}

#[allow(dead_code, unused, clippy::all)]
pub(crate) mod read {
    //! The real one, and its child.
    include_source!("table_read");
    pub(crate) mod glance {
        include_source!("table_glance");
    }
    pub(crate) mod places {
        include_source!("table_places");
    }
}

#[allow(dead_code, unused, clippy::all)]
pub(crate) mod segment {
    //! The real functions.
    use super::*;
    use crate::sync::atomic::fence;
    include_source!("table_segment");
}

mod real_functions {
    //! The real functions.
    #![allow(dead_code, unused, clippy::all)]
    use super::segment::{clear_slot, fill_slot, under_version};
    use super::*;
    use crate::format::group::{DELETED, EMPTY};
    include_source!("table_mod");
    include_source!("table_mod_check");
    include_source!("table_mod_writer");
    include_source!("table_segment_methods");
    include_source!("table_segment_writer");
    mod directory {
        use super::*;
        include_source!("table_directory");
    }
}

/// Bytes that do not stand in a slot: none, in these models.
pub(crate) trait Spilled {
    fn bytes(&self, address: &Address) -> Option<&[u8]>;
    fn checked(&self, address: &Address) -> Result<&[u8]>;
}

/// What stands for the log.
pub(crate) struct NoLog;

impl Spilled for NoLog {
    fn bytes(&self, _: &Address) -> Option<&[u8]> {
        None
    }

    fn checked(&self, _: &Address) -> Result<&[u8]> {
        unreachable!("nothing is spilled")
    }
}

/// A segment in a directory page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) prefix: u32,
    pub(crate) depth: u8,
    pub(crate) pages: u8,
    pub(crate) word: DirectoryWord,
}

pub(crate) fn array_bits(depth: u8, leaves: &[Leaf]) -> u8 {
    leaves.iter().map(|leaf| leaf.depth).max().unwrap_or(depth) - depth
}

/// A slot of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) descriptor: u32,
    pub(crate) page: usize,
    pub(crate) group: usize,
    pub(crate) slot: usize,
}

/// A table, for readers.
pub(crate) struct Table {
    pub(crate) path: std::path::PathBuf,
    pub(crate) geometry: Geometry,
    pub(crate) root: AtomicU64,
    pub(crate) flat: Flat,
    pub(crate) arena: Arena,
    pub(crate) mirror: Mirror,
    pub(crate) places: Places,
    pub(crate) frames: Arc<Frames>,
    pub(crate) maps: BlockMaps,
    pub(crate) epoch: Arc<ReuseEpoch>,
    pub(crate) structure: Mutex<Allocator>,
}

impl Table {
    fn load_directory(&self, _: u64) -> Result<()> {
        panic!("every page of the directory is loaded");
    }

    /// Reads a block of the file, which is what the mapping shows.
    fn read_block(&self, bytes: &mut [u8; BLOCK], block: u32) -> Result<()> {
        let words = self.maps.words(block).ok_or_else(|| self.lost_block(PageWord(block)))?;
        load_bytes(words, 0, bytes);
        Ok(())
    }

    /// Looks a key up with a glance, which sees all of a table of one group.
    pub(crate) fn glance_at(&self, key: u64) -> Seen {
        let mut words = [0; 3];
        match self.glance(&key.to_le_bytes(), &mut words) {
            Glance::Absent => Seen::Absent,
            Glance::Here(_) => {
                assert_eq!(words[0], key, "a slot of another key");
                Seen::Value(words[1], words[2])
            }
            Glance::Unsure => Seen::Changes,
            Glance::Spilled(_) => panic!("inline values only"),
        }
    }

    /// Looks a key up, in one attempt.
    pub(crate) fn get(&self, key: u64) -> Seen {
        let mut slot = Slot::<3>::new();
        match self.lookup::<3, NoLog>(&key.to_le_bytes(), None, &mut slot) {
            Ok(Found::Absent) => Seen::Absent,
            Ok(Found::Here) => {
                assert_eq!(slot.words[0], key, "a slot of another key");
                Seen::Value(slot.words[1], slot.words[2])
            }
            Ok(Found::Spilled) => panic!("nothing is spilled"),
            Err(Error::Closed { .. }) => Seen::Changes,
            Err(error) => panic!("{error}"),
        }
    }
}

/// What an attempt to look a key up came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Absent,
    /// A value of two words.
    Value(u64, u64),
    /// Something changed: the lookup would start over.
    Changes,
}

/// What an attempt ends with that would be followed by another one.
pub(crate) fn started_over() -> Error {
    Error::Closed { why: "the lookup started over" }
}

/// The writer of a table, with the pool of its store.
pub(crate) struct Writer {
    pub(crate) table: Arc<Table>,
    pub(crate) pool: Pool,
    descriptor: u32,
}

const OWNER: Owner = Owner { table: 0, page: 0, descriptor: 0 };

/// No frame is evicted in these models.
fn keep(_: Owner, _: u32, _: u32) -> bool {
    false
}

impl Writer {
    /// A table with one segment of one page, in one of so many frames.
    pub(crate) fn new(frames: usize) -> Writer {
        let epoch = Arc::new(ReuseEpoch::new().expect("a page"));
        let frames = Arc::new(Frames::new(frames).expect("memory"));
        let (arena, allocator) = arena::new(arena::Room::to_grow(0)).expect("memory");
        // Like the first block of a file, which is no page: whoever takes it for
        // one finds nothing.
        let first = Map::anonymous(group::PAGE_WORDS * 8).expect("memory");
        first.words()[group::CONTROL].store(group::ALL_EMPTY, Ordering::Relaxed);
        let geometry = Geometry::new(24).expect("a payload");
        let table = Arc::new(Table {
            path: "a table".into(),
            // No segment of these models has more than two groups.
            mirror: Mirror::new(2, 0).expect("memory"),
            places: Places::new(&geometry),
            geometry,
            root: AtomicU64::new(0),
            flat: Flat::new(0).expect("memory"),
            arena,
            frames: frames.clone(),
            maps: BlockMaps::new(first),
            epoch,
            structure: Mutex::new(allocator),
        });
        let pool = Pool::new(frames, usize::MAX);
        let mut writer = Writer { table, pool, descriptor: 0 };
        let root = writer.plant(0);
        writer.change_root(root);
        writer
    }

    /// Puts the root that was planted last in the place of the current one.
    pub(crate) fn change_root(&self, root: u32) {
        let leaf = self.table.leaf(self.table.descriptor(self.descriptor));
        self.table.change_root(root, &[leaf]);
    }

    /// A new root with one empty segment: `Writer::plant`.
    pub(crate) fn plant(&mut self, hash_key: u64) -> u32 {
        let table = self.table.clone();
        let mut lines = table.structure();
        let root = table.new_root(&mut lines, 0, &Hasher::new(hash_key), 0).expect("lines");
        let record = table.new_record(&mut lines, 0, 0).expect("a line");
        let descriptor = table.new_descriptor(&mut lines).expect("a line");
        let info = SegmentInfo {
            used: 0,
            tombstones: 0,
            pages: 1,
            depth: 0,
            prefix: 0,
            directory: record.line,
        };
        descriptor.set_info(info);
        let word = table.make_array(&mut lines, record, &[table.leaf(descriptor)]).expect("lines");
        let frame = self.take();
        fill(self.pool.words(frame), 0);
        self.pool.words(frame)[group::CONTROL].store(group::ALL_EMPTY, Ordering::Relaxed);
        table.mirror.set(descriptor.line, 0, group::ALL_EMPTY);
        descriptor.set_page(0, PageWord::frame(frame));
        table.root_words(root, 0, 0).0.store(word.encode(), Ordering::Relaxed);
        self.descriptor = descriptor.line;
        root
    }

    /// Takes a frame.
    pub(crate) fn take(&mut self) -> u32 {
        self.pool.take(&self.table.epoch, &keep, OWNER, 1).expect("a frame")
    }

    /// Writes an entry into a slot of the first page.
    pub(crate) fn put(&self, slot: usize, key: u64, value: [u64; 2]) {
        let hash = self.table.hasher().hash(&key.to_le_bytes());
        self.put_hashed(slot, hash, key, value);
    }

    /// Changes the group of the current page under its version.
    pub(crate) fn change(&self, change: impl FnOnce(&[AtomicU64])) {
        self.change_page(0, change);
    }

    /// Puts an entry of this hash.
    pub(crate) fn put_hashed(&self, slot: usize, hash: u64, key: u64, value: [u64; 2]) {
        let lengths = Lengths { key: 8, value: 16 };
        self.write_slot(self.place(slot), hash, lengths, &[key, value[0], value[1]]);
    }

    /// A slot of the first page.
    pub(crate) fn place(&self, slot: usize) -> Place {
        Place { descriptor: self.descriptor, page: 0, group: 0, slot }
    }

    /// Fills a slot that nobody looks at.
    pub(crate) fn fill(&self, group: &[AtomicU64], slot: usize, key: u64, value: [u64; 2]) {
        let hash = self.table.hasher().hash(&key.to_le_bytes());
        let lengths = Lengths { key: 8, value: 16 };
        let content = [key, value[0], value[1]];
        segment::fill_slot(group, &self.table.geometry, slot, hash, lengths, &content);
    }

    /// Copies the page into another frame: `Writer::copy_page`. Returns the old
    /// one.
    pub(crate) fn copy_page(&mut self) -> u32 {
        let frame = self.take();
        let table = &*self.table;
        let descriptor = table.descriptor(self.descriptor);
        let old = descriptor.page(0);
        copy_words(table.page_words(old).expect("a frame"), self.pool.words(frame));
        descriptor.set_page(0, PageWord::frame(frame));
        old.number()
    }

    /// Puts a new segment in the place of the old one, in the same array:
    /// `Writer::replace_in_page`.
    pub(crate) fn replace_segment(&mut self) {
        let frame = self.take();
        let table = self.table.clone();
        let mut lines = table.structure();
        let old = table.descriptor(self.descriptor);
        let new = table.new_descriptor(&mut lines).expect("a line");
        new.set_info(old.info());
        copy_words(table.page_words(old.page(0)).expect("a frame"), self.pool.words(frame));
        let control = self.pool.words(frame)[group::CONTROL].load(Ordering::Relaxed);
        table.mirror.set(new.line, 0, control);
        new.set_page(0, PageWord::frame(frame));
        let (array, bits) = table.record(old.info().directory).array();
        table.store_leaf(array, bits, 0, &table.leaf(new));
        table.copy_words(&[table.leaf(new)]);
        self.descriptor = new.line;
    }

    /// Puts a new segment in the place of the old one, whose line becomes the
    /// descriptor of a segment that is loaded: `Writer::retire_segment`,
    /// `Table::make_descriptors`. Returns the line.
    pub(crate) fn replace_and_use_line_again(&mut self) -> u32 {
        let line = self.descriptor;
        self.replace_segment();
        let table = &*self.table;
        table.structure().retire(&table.epoch, line, DESCRIPTOR_LINES);
        table.epoch.advance();
        let mut lines = table.structure();
        let again = table.new_descriptor(&mut lines).expect("a line");
        assert_eq!(again.line, line, "another line");
        again.set_page(0, PageWord::unverified_block(1));
        line
    }

    /// Makes the page one of the file that nobody has checked, before anybody
    /// looks: as in a table that was just opened.
    pub(crate) fn as_opened(&self) {
        let table = &*self.table;
        let descriptor = table.descriptor(self.descriptor);
        let mut bytes = [0; BLOCK];
        load_bytes(table.page_words(descriptor.page(0)).expect("a frame"), 0, &mut bytes);
        let record = PageRecord { table: 0, depth: 0, page: 0, generation: 1 };
        descriptor.set_crc(0, group::seal(&mut bytes, &table.geometry, record));
        let block = table.maps.words(0).expect("the first block");
        for (word, bytes) in block.iter().zip(bytes.as_chunks::<8>().0) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        table.mirror.forget(descriptor.line);
        descriptor.set_page(0, PageWord::unverified_block(0));
    }

    /// Sees to it that the page is checked, as whoever changes it does first.
    pub(crate) fn check_page(&self) {
        self.read_page(self.table.descriptor(self.descriptor), 0).expect("a sound page");
    }

    /// The control word of the page's group, and its copy.
    pub(crate) fn control_and_copy(&self) -> (u64, u64) {
        let table = &*self.table;
        let copy = table.mirror.control(self.descriptor, 0);
        let words = table.page_words(table.descriptor(self.descriptor).page(0)).expect("a page");
        (words[group::CONTROL].load(Ordering::Relaxed), copy)
    }

    /// Puts a new array in the place of the old one.
    pub(crate) fn replace_array(&mut self) {
        let table = self.table.clone();
        let mut lines = table.structure();
        let descriptor = table.descriptor(self.descriptor);
        let record = table.record(descriptor.info().directory);
        let leaves = [table.leaf(descriptor)];
        let word = table.make_array(&mut lines, record, &leaves).expect("lines");
        table.store_root_words(word, 0);
        table.copy_words(&leaves);
    }

    /// Makes the flat directory longer, for the sake of one more segment.
    pub(crate) fn deepen(&mut self) {
        let mut leaf = self.table.leaf(self.table.descriptor(self.descriptor));
        (leaf.depth, leaf.prefix) = (2, 0xC000_0000);
        self.table.copy_words(&[leaf]);
    }

    /// Doubles the root.
    pub(crate) fn double_root(&mut self) {
        let table = self.table.clone();
        let hasher = table.hasher();
        table.double_root(&mut table.structure(), &hasher).expect("lines");
    }

    /// Gives the segment a second page, before anybody looks.
    pub(crate) fn add_page(&mut self) {
        let frame = self.take();
        self.pool.words(frame)[group::CONTROL].store(group::ALL_EMPTY, Ordering::Relaxed);
        let table = self.table.clone();
        let descriptor = table.descriptor(self.descriptor);
        table.mirror.set(descriptor.line, 1, group::ALL_EMPTY);
        descriptor.set_page(1, PageWord::frame(frame));
        descriptor.set_info(SegmentInfo { pages: 2, ..descriptor.info() });
        let (array, bits) = table.record(descriptor.info().directory).array();
        table.store_leaf(array, bits, 0, &table.leaf(descriptor));
        table.copy_words(&[table.leaf(descriptor)]);
    }

    /// Changes the group of a page under its version.
    pub(crate) fn change_page(&self, page: usize, change: impl FnOnce(&[AtomicU64])) {
        let table = &*self.table;
        let descriptor = table.descriptor(self.descriptor);
        let group = table.page_words(descriptor.page(page)).expect("a frame");
        segment::under_version(group, || {
            change(group);
            let control = group[group::CONTROL].load(Ordering::Relaxed);
            table.mirror.set(self.descriptor, page, control);
        });
    }

    /// Clears the table, and makes another table's page of its frame at once.
    pub(crate) fn clear(&mut self, hash_key: u64) {
        let table = self.table.clone();
        let old = table.descriptor(self.descriptor).page(0).number();
        let root = {
            // `Writer::uproot`: nothing to find, and no page.
            let mut lines = table.structure();
            let hasher = Hasher::new(hash_key);
            let root = table.new_root(&mut lines, 0, &hasher, 1).expect("lines");
            let record = table.new_record(&mut lines, 0, 0).expect("a line");
            let descriptor = table.new_descriptor(&mut lines).expect("a line");
            let leaves = [table.leaf(descriptor)];
            let word = table.make_array(&mut lines, record, &leaves).expect("lines");
            table.root_words(root, 0, 0).0.store(word.encode(), Ordering::Relaxed);
            root
        };
        table.change_root(root, &[]);
        self.pool.retire(&table.epoch, old);
        let frame = self.take();
        fill(&self.pool.words(frame)[8..11], 9);
    }
}
