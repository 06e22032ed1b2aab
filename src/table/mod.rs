//! A hash table: segments of pages under a two-level directory.
//!
//! ```text
//!  hash  63 ........ 32 31 ......... 7 6 .... 0
//!        root | array   home group     H2       (fp: 14 to 7)
//!
//!  root ──> directory array ──> descriptor ──> page words ──> frame or block
//!  2^D        up to 512           16 pages                     groups, slots
//!      flat directory ──────────┘  (what readers go by, a copy in memory)
//! ```
//!
//! [`Table`] is what readers share: everything in it is reached by atomic
//! loads of words. [`Writer`] is the other half, owned by the holder of the
//! store's writer lock. A read takes no lock; a write changes slots of dirty
//! groups in place under their version word, and replaces everything else.
//!
//! The modules, from the bottom up:
//!
//! * [`arena`], [`layout`]: the directory's memory and what its words mean
//! * [`mirror`]: the control words once more, close together
//! * [`frames`], [`blocks`], [`maps`]: places for pages, in memory and in the file
//! * [`fetch`]: pages that come from the file, checked
//! * [`directory`]: loading and routing; [`replace`]: other segments, split pages
//! * [`flat`]: the directory words once more, in one array
//! * [`read`]: the lock-free lookup, and that of many keys at once
//! * [`segment`], [`mod@write`]: the writer's lookup, its changes
//! * [`batch`]: many changes at once
//! * [`moves`], [`room`]: moving entries to fresh pages, making room
//! * [`shrink`], [`live`]: taking room back; which log bytes are needed
//! * [`freeze`]: what a checkpoint sees while writers go on
//! * [`scan`], [`check`], [`view`]: walking a segment; invariants; copies for `verify`
//!
//! This module knows neither log nor storage: spilled bytes are asked for
//! through [`Spilled`], and the file is only read here to check a page.
//!
//! # Invariants of a segment
//!
//! 1. `tombstones = slots * 7/8 - used - growth left`.
//! 2. Every key is found by lookup: no empty slot stands before it on its
//!    probe sequence.
//! 3. At least one slot is empty.

pub(crate) mod arena;
pub(crate) mod batch;
pub(crate) mod blocks;
pub(crate) mod check;
pub(crate) mod directory;
pub(crate) mod fetch;
pub(crate) mod flat;
pub(crate) mod frames;
pub(crate) mod freeze;
pub(crate) mod layout;
pub(crate) mod live;
pub(crate) mod maps;
pub(crate) mod mirror;
pub(crate) mod moves;
pub(crate) mod read;
pub(crate) mod replace;
pub(crate) mod room;
pub(crate) mod scan;
pub(crate) mod segment;
pub(crate) mod shrink;
#[cfg(test)]
mod tests;
pub(crate) mod view;
pub(crate) mod write;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::group::{Address, Geometry, PAGE_WORDS};
use crate::format::header::Run;
use crate::hash::Hasher;
use crate::storage::File;
use crate::storage::epoch::ReuseEpoch;
use arena::{Allocator, Arena, Room};
use blocks::Blocks;
use flat::Flat;
use frames::{Frames, Owner, Pool};
use layout::{Descriptor, PageWord};
use maps::BlockMaps;
use mirror::Mirror;
use read::places::Places;

/// Bytes that do not stand in a slot, and who can say what they are.
pub(crate) trait Spilled {
    /// The bytes at an address, unless the log has no such place. They are
    /// not checked yet.
    fn bytes(&self, address: &Address) -> Option<&[u8]>;

    /// What to report when they are not what was written.
    fn damage(&self, address: &Address) -> Error;

    /// The bytes at an address, checked.
    fn checked(&self, address: &Address) -> Result<&[u8]> {
        match self.bytes(address) {
            Some(bytes) if crc32fast::hash(bytes) == address.crc => Ok(bytes),
            _ => Err(self.damage(address)),
        }
    }
}

/// A counter that shares its cache line with nothing that readers load.
#[repr(align(128))]
#[derive(Default)]
struct Apart(AtomicU64, AtomicU64);

/// A table, for readers.
pub(crate) struct Table {
    pub(crate) id: u16,
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) geometry: Geometry,
    /// The line of the root.
    root: AtomicU64,
    flat: Flat,
    arena: Arena,
    mirror: Mirror,
    places: Places,
    frames: Arc<Frames>,
    maps: Arc<BlockMaps>,
    epoch: ReuseEpoch,
    file: Arc<dyn File>,
    structure: Mutex<Allocator>,
    dropped: AtomicBool,
    asking: read::ahead::Asking,
    /// Entries, and how often the table was changed.
    counts: Apart,
}

impl Table {
    /// The number of entries.
    pub(crate) fn len(&self) -> u64 {
        self.counts.0.load(Ordering::Relaxed)
    }

    /// A number that grows with every change.
    #[inline]
    pub(crate) fn changes(&self) -> u64 {
        self.counts.1.load(Ordering::Acquire)
    }

    /// The table was dropped.
    pub(crate) fn mark_dropped(&self) {
        self.dropped.store(true, Ordering::Release);
    }

    /// Whether the table was dropped.
    pub(crate) fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Acquire)
    }

    /// The bytes of addresses that are reserved for directory and copies.
    #[cfg(test)]
    pub(crate) fn reserved(&self) -> usize {
        self.arena.reserved() + self.mirror.reserved() + self.flat.reserved()
    }

    fn structure(&self) -> MutexGuard<'_, Allocator> {
        self.structure.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A descriptor that this process has made.
    #[inline]
    fn descriptor(&self, line: u32) -> Descriptor<'_> {
        let cold = self.arena.cold(line).expect("an allocated line has cold ones");
        Descriptor::new(line, self.arena.owned(line, layout::DESCRIPTOR_LINES), cold)
    }

    /// A descriptor that may be anything, or none.
    #[inline]
    fn any_descriptor(&self, line: u32) -> Option<Descriptor<'_>> {
        let hot = self.arena.words(line, layout::DESCRIPTOR_LINES)?;
        Some(Descriptor::new(line, hot, self.arena.cold(line)?))
    }

    /// The words of a page, wherever it is, if the word makes sense.
    #[inline]
    fn page_words(&self, word: PageWord) -> Option<&[AtomicU64]> {
        if word.is_frame() {
            self.frames.words(word.number())
        } else {
            self.maps.words(word.number())
        }
    }
}

/// Sums over a table's segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) slots: u64,
    pub(crate) used: u64,
    pub(crate) tombstones: u64,
    pub(crate) segments: u64,
}

impl Totals {
    /// Slots that may still be filled before some segment must be changed.
    pub(crate) fn growth_left(&self) -> u64 {
        (self.slots / 8 * 7).saturating_sub(self.used + self.tombstones)
    }
}

/// What all tables of a store share, for the holder of the writer lock.
pub(crate) struct Workspace {
    pub(crate) pool: Pool,
    pub(crate) epoch: Arc<ReuseEpoch>,
    /// Grows with each checkpoint; pages of older ones are copied on write.
    pub(crate) generation: u64,
    /// The last generation that was frozen for a checkpoint, if there is one
    /// that has not ended. All before it are, too.
    pub(crate) frozen: Option<u64>,
    /// Who owns the frames.
    pub(crate) tables: BTreeMap<u16, Arc<Table>>,
}

impl Workspace {
    /// Takes a frame for a page that becomes dirty.
    fn take_frame(&mut self, owner: Owner) -> Option<u32> {
        let tables = &self.tables;
        let evict = |owner: Owner, frame, block| evict(tables, owner, frame, block);
        self.pool.take(&self.epoch, &evict, owner, self.generation)
    }

    /// Sees to it that `n` frames can be taken without evicting another page.
    pub(crate) fn make_free(&mut self, n: usize) -> Result<()> {
        let tables = &self.tables;
        let evict = |owner: Owner, frame, block| evict(tables, owner, frame, block);
        if self.pool.make_free(&self.epoch, &evict, n) {
            return Ok(());
        }
        let needed = ((self.pool.dirty() + n) * BLOCK) as u64;
        let limit = (self.pool.capacity() * BLOCK) as u64;
        Err(Error::BatchTooLarge { needed, limit })
    }

    /// Whether a checkpoint, that runs or waits, holds what became dirty in a
    /// generation.
    fn is_frozen(&self, generation: u64) -> bool {
        self.frozen.is_some_and(|frozen| generation <= frozen)
    }
}

/// Turns the page word of a clean frame back into its block.
fn evict(tables: &BTreeMap<u16, Arc<Table>>, owner: Owner, frame: u32, block: u32) -> bool {
    let Some(table) = tables.get(&owner.table) else {
        return false;
    };
    let descriptor = table.descriptor(owner.descriptor);
    let (seen, block) = (PageWord::frame(frame), PageWord::unverified_block(block));
    descriptor.exchange_page(owner.page.into(), seen, block)
}

/// A table, for the holder of the writer lock.
pub(crate) struct Writer {
    pub(crate) table: Arc<Table>,
    pub(crate) blocks: Blocks,
    pub(crate) totals: Totals,
    /// Whether the record of its creation was not met yet: while replaying.
    pub(crate) pending: bool,
    /// Live bytes per log file.
    pub(crate) live: BTreeMap<u32, u64>,
    /// How often the hash key changed.
    pub(crate) clears: u32,
    pub(crate) hash_key: [u64; 2],
    pub(crate) hash_id: u8,
    /// Where the last header finds root and free map.
    pub(crate) root_run: Run,
    pub(crate) map_run: Run,
    /// Records of directory pages that became dirty in this generation.
    dirty: Vec<u32>,
    /// The states that are frozen, the oldest first: the one that a checkpoint
    /// is writing, and those that wait for theirs.
    frozen: VecDeque<freeze::Frozen>,
    /// Blocks reserved for root and free map of the next checkpoint.
    standing: usize,
    /// Roots that were cleared, to be taken apart at the next checkpoint.
    fallen: Vec<u32>,
    /// Live bytes being counted anew.
    recount: Option<live::Recount>,
    /// Whether that has changed counts since the last checkpoint began.
    recounted: bool,
    /// With fewer entries than this the table may be worth tidying again.
    sparse_below: u64,
    margin: room::Margin,
    scratch: room::Scratch,
    /// The page where the next change begins, if it was read before.
    offered: Option<Box<fetch::Fetched>>,
}

/// What a table is opened with.
pub(crate) struct Opening {
    pub(crate) id: u16,
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) geometry: Geometry,
    pub(crate) hash_id: u8,
    pub(crate) hash_key: [u64; 2],
    pub(crate) clears: u32,
    pub(crate) totals: Totals,
    pub(crate) live: BTreeMap<u32, u64>,
    pub(crate) root_run: Run,
    pub(crate) map_run: Run,
    /// For its directory; if that stands still, only [`read::still`] reads it.
    pub(crate) room: Room,
}

impl Writer {
    /// Makes both halves of a table, still without a root: either
    /// [`directory::attach_root`](Writer::attach_root) or
    /// [`plant`](Writer::plant) comes next.
    pub(crate) fn new(
        opening: Opening,
        blocks: Blocks,
        frames: Arc<Frames>,
        epoch: &ReuseEpoch,
    ) -> std::io::Result<Writer> {
        let (room, groups) = (opening.room, opening.geometry.groups_per_segment);
        let (arena, allocator) = arena::new(room)?;
        // Whoever reads what stands still goes by the root.
        let (mirror, flat) = if room.still {
            (Mirror::without_room()?, Flat::without_room()?)
        } else {
            (Mirror::new(groups, room.lines)?, Flat::new(room.lines)?)
        };
        let table = Table {
            id: opening.id,
            name: opening.name,
            path: opening.path,
            geometry: opening.geometry,
            root: AtomicU64::new(0),
            flat,
            arena,
            mirror,
            places: Places::new(&opening.geometry),
            frames,
            maps: blocks.maps().clone(),
            epoch: epoch.clone(),
            file: blocks.file().clone(),
            structure: Mutex::new(allocator),
            dropped: AtomicBool::new(false),
            asking: read::ahead::Asking::default(),
            counts: Apart::default(),
        };
        table.counts.0.store(opening.totals.used, Ordering::Relaxed);
        Ok(Writer {
            table: Arc::new(table),
            blocks,
            totals: opening.totals,
            pending: false,
            live: opening.live,
            clears: opening.clears,
            hash_key: opening.hash_key,
            hash_id: opening.hash_id,
            root_run: opening.root_run,
            map_run: opening.map_run,
            dirty: Vec::new(),
            frozen: VecDeque::new(),
            standing: 0,
            fallen: Vec::new(),
            recount: None,
            recounted: false,
            sparse_below: u64::MAX,
            margin: room::Margin::default(),
            scratch: room::Scratch::default(),
            offered: None,
        })
    }

    /// The hash of a key, for as long as the writer lock is held.
    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        self.table.hasher().hash(key)
    }

    /// Publishes the counts that readers may ask for.
    #[inline]
    fn publish_counts(&self) {
        let changes = self.table.counts.1.load(Ordering::Relaxed);
        self.table.counts.0.store(self.totals.used, Ordering::Relaxed);
        self.table.counts.1.store(changes + 1, Ordering::Release);
    }

    /// Verified words of a page, for the writer.
    fn read_page(&self, descriptor: Descriptor<'_>, page: usize) -> Result<&[AtomicU64]> {
        let mut word = descriptor.page(page);
        if word.is_unverified() {
            self.table.verify_page(descriptor, page, word)?;
            word = descriptor.page(page);
        }
        self.table.page_words(word).ok_or_else(|| self.table.lost_block(word))
    }
}

impl Table {
    /// The hash function of the current root; the writer's way to it.
    pub(crate) fn hasher(&self) -> Hasher {
        let root = self.arena.owned(self.root.load(Ordering::Acquire) as u32, layout::ROOT_HEAD);
        let id = root[0].load(Ordering::Relaxed) >> 8 & 0xff;
        Hasher::from_words(id, |i| root[8 + i].load(Ordering::Relaxed))
    }

    /// Checks a page against the checksum its parent holds, and clears the
    /// flag that says it was never checked. The first check reads from the
    /// file, so that a device error is an error and not a signal.
    #[cold]
    fn verify_page(&self, descriptor: Descriptor<'_>, page: usize, word: PageWord) -> Result<()> {
        let seen = self.epoch.read();
        let mut bytes = [0; BLOCK];
        self.read_block(&mut bytes, word.number())?;
        let found = crate::format::group::page_crc(&bytes);
        self.check_page(descriptor, page, word, &bytes, found)?;
        if seen == 0 {
            // In a forked child nobody is left who would release the lock.
            return Err(read::forked());
        }
        let lines = self.structure();
        // What has been used again since is looked for anew.
        if descriptor.page(page) == word && self.epoch.unchanged(seen) {
            self.mirror_page(descriptor, page, &bytes);
            descriptor.exchange_page(page, word, word.verified());
        }
        drop(lines);
        Ok(())
    }

    /// Copies the control words of a page that was checked to the mirror, where
    /// there are no copies yet. With the structure lock held.
    fn mirror_page(&self, descriptor: Descriptor<'_>, page: usize, bytes: &[u8; BLOCK]) {
        for group in 0..self.geometry.groups_per_page {
            let control = crate::format::u64_at(bytes, group * self.geometry.group_words * 8);
            let number = self.geometry.number_of(page, group);
            self.mirror.set_unknown(descriptor.line, number, control);
        }
    }

    /// Whether these bytes, of which `found` is the checksum, are those of a page.
    fn check_page(
        &self,
        descriptor: Descriptor<'_>,
        page: usize,
        word: PageWord,
        bytes: &[u8; BLOCK],
        found: u32,
    ) -> Result<()> {
        let expected = descriptor.crc(page);
        let offset = u64::from(word.number()) * bytes.len() as u64;
        let stored = crate::format::group::stored_page_crc(bytes);
        if found != expected || stored != expected {
            // Either of the two may be the one that is wrong.
            let found = format!("{found:08x}, the page says {stored:08x}");
            let what = format!("the checksum of page {page} of a segment");
            return Err(Error::corrupt(&self.path, offset, what, format!("{expected:08x}"), found));
        }
        // Readers would wait for ever for a writer that an odd version tells of.
        let group_bytes = self.geometry.group_words * 8;
        let versions = (0..self.geometry.groups_per_page).map(|group| group * group_bytes + 8);
        for at in versions {
            let version = crate::format::u32_at(bytes, at);
            if version != 0 {
                let what = "the version of a group";
                return Err(Error::corrupt(&self.path, offset + at as u64, what, 0, version));
            }
        }
        Ok(())
    }

    /// Reads a block by a call, not through the mapping.
    fn read_block(&self, bytes: &mut [u8; BLOCK], block: u32) -> Result<()> {
        let offset = u64::from(block) * BLOCK as u64;
        self.file.read_at(bytes, offset).map_err(|error| self.unread(block, error))
    }

    /// A block could not be read.
    #[cold]
    fn unread(&self, block: u32, error: std::io::Error) -> Error {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => self.lost_block(PageWord(block)),
            _ => Error::io("read", &self.path, error),
        }
    }

    /// A page word that names a block beyond the file.
    #[cold]
    fn lost_block(&self, word: PageWord) -> Error {
        let limit = self.maps.newest().words().len() / PAGE_WORDS;
        let offset = u64::from(word.number()) * BLOCK as u64;
        let expected = format!("below {limit}");
        Error::corrupt(&self.path, offset, "the number of a block", expected, word.number())
    }
}
