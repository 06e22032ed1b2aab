//! What stands in for the rest of the store.
//!
//! [`Log`] keeps spilled bytes, each under an address of its own; [`Faulty`]
//! is a file in memory that runs full on demand; [`Store`] is a writer with
//! all that it needs. Its helpers go the way of a commit: prepare, log, apply.
//! After each change the invariants of the segment are asserted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::marks::mark;
use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::group::{Address, Geometry, Lengths, Shape};
use crate::format::mutate::Random;
use crate::storage::epoch::ReuseEpoch;
use crate::storage::memory::Memory;
use crate::storage::{Access, File, Map, Storage};
use crate::table::blocks::{Blocks, FIRST_BLOCKS};
use crate::table::frames::{Frames, Pool};
use crate::table::read::glance::{Glance, Rest};
use crate::table::read::many::Answer;
use crate::table::read::mark::Removal;
use crate::table::read::{Found, LARGE, SMALL, Slot};
use crate::table::scan::{Scanned, SegmentCopy};
use crate::table::segment::{Place, Spot, address, lengths};
use crate::table::write::{Ready, spilled_crc, spilled_part};
use crate::table::{Opening, Spilled, Table, Totals, Workspace, Writer};

pub(super) const FILE: &str = "t.swiss";
pub(super) const TABLE: u16 = 7;
/// Spilled entries in a file of the log.
const PER_FILE: u32 = 64;

pub(super) type Model = HashMap<Vec<u8>, Vec<u8>>;

/// A log that keeps every spilled part for ever. Any thread may read it.
pub(super) struct Log {
    slots: Vec<OnceLock<Box<[u8]>>>,
    next: AtomicU32,
}

impl Log {
    fn new(slots: usize) -> Log {
        Log { slots: (0..slots).map(|_| OnceLock::new()).collect(), next: AtomicU32::new(0) }
    }

    pub(super) fn append(&self, hash: u64, bytes: &[u8]) -> Address {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.slots[number as usize].set(bytes.into()).expect("each slot is written once");
        let (file, offset) = (number / PER_FILE + 1, number % PER_FILE);
        Address { hash, len: bytes.len() as u32, crc: crc32fast::hash(bytes), file, offset }
    }
}

impl Spilled for Log {
    fn bytes(&self, address: &Address) -> Option<&[u8]> {
        let number = address.file.checked_sub(1)?.checked_mul(PER_FILE)? + address.offset;
        let bytes = self.slots.get(number as usize)?.get()?;
        (bytes.len() == address.len as usize).then_some(bytes)
    }

    fn damage(&self, address: &Address) -> Error {
        Error::corrupt("log", address.offset.into(), "spilled bytes", address.crc, "other ones")
    }
}

/// A file that has no room beyond a length, and whose reads can fail. It knows
/// which of its blocks take space, and is never written to elsewhere.
pub(super) struct Faulty {
    inner: Arc<dyn File>,
    pub(super) room: AtomicU64,
    pub(super) unreadable: AtomicBool,
    /// What was asked for and what was read, in order.
    pub(super) asked: Mutex<Vec<Asked>>,
    space: Mutex<BTreeSet<u64>>,
}

impl Faulty {
    fn check(&self, end: u64) -> io::Result<()> {
        match end > self.room.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    /// The blocks that take space on the device.
    pub(super) fn space(&self) -> BTreeSet<u64> {
        self.space.lock().unwrap().clone()
    }
}

/// Blocks that a file was told will be needed, or that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    WillNeed(Vec<u64>),
    Read(u64),
}

/// The blocks that a range of bytes lies in.
fn blocks_of(offset: u64, length: u64) -> Range<u64> {
    offset / BLOCK as u64..(offset + length).div_ceil(BLOCK as u64)
}

impl File for Faulty {
    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }
    fn set_length(&self, length: u64) -> io::Result<()> {
        // Sparse: only taking the space can fail.
        self.space.lock().unwrap().retain(|block| *block < length.div_ceil(BLOCK as u64));
        self.inner.set_length(length)
    }
    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.check(offset + length)?;
        self.space.lock().unwrap().extend(blocks_of(offset, length));
        self.inner.allocate(offset, length)
    }
    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        let punched = blocks_of(offset, length);
        self.space.lock().unwrap().retain(|block| !punched.contains(block));
        self.inner.punch(offset, length)
    }
    fn map(&self, length: u64, writable: bool) -> io::Result<Map> {
        self.inner.map(length, writable)
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self.unreadable.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the device does not answer")),
            false => {
                self.asked.lock().unwrap().push(Asked::Read(offset / BLOCK as u64));
                self.inner.read_at(buffer, offset)
            }
        }
    }
    fn will_need(&self, ranges: &[Range<u64>]) {
        let blocks = ranges.iter().flat_map(|r| blocks_of(r.start, r.end - r.start)).collect();
        self.asked.lock().unwrap().push(Asked::WillNeed(blocks));
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (space, mut blocks) =
            (self.space.lock().unwrap(), blocks_of(offset, bytes.len() as u64));
        assert!(blocks.all(|block| space.contains(&block)), "written where no space was taken");
        self.inner.write_at(bytes, offset)
    }
    fn write_mapped(&self, map: &Map, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_mapped(map, bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }
}

/// How a store is made.
#[derive(Clone, Copy)]
pub(super) struct Setup {
    pub(super) payload: usize,
    pub(super) hash_id: u8,
    pub(super) hash_key: [u64; 2],
    /// Frames there are, and how many are used before clean ones are evicted.
    pub(super) frames: usize,
    pub(super) limit: usize,
}

impl Setup {
    pub(super) fn new(payload: usize) -> Setup {
        let frames = 1 << 14;
        Setup { payload, hash_id: 1, hash_key: [0x5eed, 0xfeed], frames, limit: frames }
    }

    /// Every key has the same hash.
    pub(super) fn constant(payload: usize, hash: u64) -> Setup {
        Setup { hash_id: 255, hash_key: [hash, 0], ..Setup::new(payload) }
    }

    pub(super) fn pool(self, frames: usize, limit: usize) -> Setup {
        Setup { frames, limit, ..self }
    }
}

/// A table with its writer, and all that a store would bring.
pub(super) struct Store {
    pub(super) setup: Setup,
    pub(super) writer: Writer,
    pub(super) ws: Workspace,
    pub(super) log: Arc<Log>,
    pub(super) storage: Memory,
    pub(super) file: Arc<Faulty>,
    /// Changes that a mark was found for. Every other one is made by it.
    pub(super) marks: usize,
    /// What the last durable header would say.
    pub(super) header: Option<super::checkpoint::Header>,
}

fn open_file(storage: &Memory, access: Access) -> Arc<Faulty> {
    let inner = storage.open(FILE, access).unwrap();
    let space = BTreeSet::new().into();
    let asked = Mutex::default();
    Arc::new(Faulty { inner, room: u64::MAX.into(), unreadable: false.into(), asked, space })
}

impl Store {
    /// An empty table in a new file.
    pub(super) fn new(setup: Setup) -> Store {
        let storage = Memory::new();
        let file = open_file(&storage, Access::Create);
        file.set_length(u64::from(FIRST_BLOCKS) * BLOCK as u64).unwrap();
        let (log, free) = (Arc::new(Log::new(1 << 17)), vec![((1 << FIRST_BLOCKS) - 1) & !3]);
        let blocks = Blocks::open(file.clone(), FILE.into(), free, FIRST_BLOCKS, false).unwrap();
        let opening = Opening {
            id: TABLE,
            name: "t".into(),
            path: FILE.into(),
            geometry: Geometry::new(setup.payload).unwrap(),
            hash_id: setup.hash_id,
            hash_key: setup.hash_key,
            clears: 0,
            totals: Totals::default(),
            live: BTreeMap::new(),
            root_run: Default::default(),
            map_run: Default::default(),
            room: crate::table::arena::Room::to_grow(0),
        };
        let mut store = Store::assemble(setup, storage, file, opening, blocks, log);
        store.writer.plant(&mut store.ws).unwrap();
        store.writer.reserve_standing(&store.ws);
        store
    }

    pub(super) fn assemble(
        setup: Setup,
        storage: Memory,
        file: Arc<Faulty>,
        opening: Opening,
        blocks: Blocks,
        log: Arc<Log>,
    ) -> Store {
        let frames = Arc::new(Frames::new(setup.frames).unwrap());
        let epoch = Arc::new(ReuseEpoch::new().unwrap());
        let pool = Pool::new(frames.clone(), setup.limit);
        let writer = Writer::new(opening, blocks, frames, &epoch).unwrap();
        let tables = BTreeMap::from([(TABLE, writer.table.clone())]);
        let ws = Workspace { pool, epoch, generation: 1, frozen: None, tables };
        Store { setup, writer, ws, log, storage, file, marks: 0, header: None }
    }

    /// The file as a killed process would leave it, open for reading.
    pub(super) fn copy_file(&self) -> (Memory, Arc<Faulty>) {
        let copy = self.storage.copy().unwrap();
        let file = open_file(&copy, Access::Write);
        *file.space.lock().unwrap() = self.file.space();
        (copy, file)
    }

    pub(super) fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.insert_hashed(self.writer.hash(key), key, value)
    }

    pub(super) fn insert_hashed(&mut self, hash: u64, key: &[u8], value: &[u8]) -> Result<()> {
        let whole = self.writer.table.holds_whole(key, value);
        let (mark, sure) = if whole { mark(self, hash, key) } else { (None, false) };
        let needs = |store: &Store| (store.writer.table.route(hash), store.ws.pool.dirty());
        let before = sure.then(|| needs(self));
        let ready = self.writer.prepare_insert(&mut self.ws, hash, key, &*self.log)?;
        if let Some((segment, dirty)) = before {
            assert_eq!((segment?, dirty), (needs(self).0?, needs(self).1), "it was sure");
        }
        let (Ready::Overwrite(place) | Ready::Reuse(place) | Ready::Fill(place)) = ready;
        if let Some(mark) = mark {
            assert_eq!(mark.place(), place, "both ways to a slot lead to the same one");
            self.marks += 1;
            if self.marks % 2 == 1 {
                self.writer.strike(mark, hash, key, value);
                self.writer.assert_invariants(place);
                return Ok(());
            }
        }
        let shape = self.writer.table.geometry.shape(key.len(), value.len());
        let address = spilled_part(shape, key.len(), value.len()).map(|(start, length)| {
            let whole = [key, value].concat();
            let bytes = &whole[start..start + length];
            assert_eq!(spilled_crc(shape, key, value), crc32fast::hash(bytes));
            self.log.append(hash, bytes)
        });
        self.writer.put(ready, hash, key, value, address);
        self.writer.assert_invariants(place);
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Result<bool> {
        self.remove_hashed(self.writer.hash(key), key)
    }

    pub(super) fn remove_hashed(&mut self, hash: u64, key: &[u8]) -> Result<bool> {
        let seen = self.writer.mark_for_remove(self.ws.generation, hash, key);
        let place = self.writer.prepare_remove(&mut self.ws, hash, key, &*self.log)?;
        match seen {
            Removal::Here(mark) => {
                assert_eq!(Some(mark.place()), place, "both ways lead to the same slot");
                self.marks += 1;
                if self.marks % 2 == 1 {
                    self.writer.strike_out(mark);
                    self.writer.assert_invariants(mark.place());
                    return Ok(true);
                }
            }
            Removal::Absent => assert_eq!(place, None, "what is absent is so both ways"),
            Removal::Unsure => {}
        }
        if let Some(place) = place {
            self.writer.erase(place);
            self.writer.assert_invariants(place);
        }
        Ok(place.is_some())
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        get(&self.writer.table, &self.log, key)
    }

    /// Where an entry of a hash that the hasher knows nothing of lies.
    pub(super) fn find_hashed(&self, hash: u64, key: &[u8]) -> Result<Option<Place>> {
        let word = self.writer.table.route(hash)?;
        match self.writer.locate(word, hash, key, &*self.log)? {
            Spot::Match(place) => Ok(Some(place)),
            _ => Ok(None),
        }
    }

    /// The value of a spilled entry that lies in a place.
    pub(super) fn value_at(&self, place: Place) -> Vec<u8> {
        let table = &self.writer.table;
        let page = table.descriptor(place.descriptor).page(place.page);
        let group = table.group(table.page_words(page).unwrap(), place.group);
        let lengths = lengths(group, place.slot);
        let address = address(table.slot(group, place.slot), lengths);
        let bytes = self.log.checked(&address).unwrap();
        bytes[if lengths.key_spilled() { lengths.key_len() } else { 0 }..].to_vec()
    }
}

/// A value, read as a reader of the store would.
pub(super) fn get(table: &Table, log: &Log, key: &[u8]) -> Result<Option<Vec<u8>>> {
    match table.has_large_slots() {
        true => get_sized::<LARGE>(table, log, key),
        false => get_sized::<SMALL>(table, log, key),
    }
}

fn get_sized<const N: usize>(table: &Table, log: &Log, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut slot = Slot::<N>::new();
    let mut found = match table.glance(key, &mut slot.words) {
        Glance::Here(len) => {
            slot.lengths = Lengths { key: key.len() as u16, value: len as u16 };
            Found::Here
        }
        Glance::Absent => Found::Absent,
        other => match other.rest() {
            Rest::Spilled(_) => Found::Spilled,
            Rest::Unsure => table.lookup::<N, Log>(key, None, &mut slot)?,
        },
    };
    if found == Found::Spilled {
        found = table.lookup(key, Some(log), &mut slot)?;
    }
    match found {
        Found::Absent => return Ok(None),
        Found::Spilled => panic!("a lookup with a log needs no other one"),
        Found::Here => {}
    }
    if let Some(value) = slot.value() {
        return Ok(Some(value.to_vec()));
    }
    let skip = if slot.lengths.key_spilled() { key.len() } else { 0 };
    Ok(Some(log.checked(&slot.address())?[skip..].to_vec()))
}

/// The values of many keys, looked up together; how many of them were left to
/// single lookups.
pub(super) fn get_many<K: AsRef<[u8]>>(
    table: &Table,
    log: &Log,
    keys: &[K],
) -> (Vec<Result<Option<Vec<u8>>>>, usize) {
    match table.has_large_slots() {
        true => get_many_sized::<LARGE, K>(table, log, keys),
        false => get_many_sized::<SMALL, K>(table, log, keys),
    }
}

fn get_many_sized<const N: usize, K: AsRef<[u8]>>(
    table: &Table,
    log: &Log,
    keys: &[K],
) -> (Vec<Result<Option<Vec<u8>>>>, usize) {
    let mut found: Vec<Option<Result<Option<Vec<u8>>>>> = keys.iter().map(|_| None).collect();
    let mut left = 0;
    let looked_up = table.lookup_many::<N, K>(keys, |i, answer| {
        let answer = match answer {
            Answer::Here(slot) => Ok(slot.value().map(<[u8]>::to_vec)),
            Answer::Absent => Ok(None),
            Answer::Left => {
                left += 1;
                get(table, log, keys[i].as_ref())
            }
        };
        assert!(found[i].replace(answer).is_none(), "key {i} was answered twice");
    });
    looked_up.unwrap();
    (found.into_iter().map(|found| found.expect("every key is answered")).collect(), left)
}

/// All entries of a table by a scan, which shows none of them twice.
pub(super) fn scan(table: &Table, log: &Log) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let clears = table.clears();
    let mut entries = BTreeMap::new();
    let mut copy = SegmentCopy::default();
    let mut from = Some(0);
    while let Some(hash) = from {
        match table.scan_segment(hash, clears, &mut copy)? {
            Scanned::Whole(next) => from = next,
            Scanned::Busy => continue,
            Scanned::Cleared => panic!("nobody cleared the table"),
        }
        for i in 0..copy.len() {
            let (key, value) = entry(&copy, i, log)?;
            assert!(entries.insert(key, value).is_none(), "an entry was shown twice");
        }
    }
    Ok(entries)
}

/// Entry `i` of a segment that was copied out.
pub(super) fn entry(copy: &SegmentCopy, i: usize, log: &Log) -> Result<(Vec<u8>, Vec<u8>)> {
    let slot = copy.get(i).unwrap();
    let spilled = match slot.lengths.spilled() {
        true => log.checked(&slot.address())?,
        false => &[],
    };
    let key_len = slot.lengths.key_len();
    let key = slot.key().unwrap_or_else(|| &spilled[..key_len]);
    let skip = if slot.key().is_some() { 0 } else { key_len };
    let value = slot.value().unwrap_or_else(|| &spilled[skip..]);
    Ok((key.to_vec(), value.to_vec()))
}

/// Key number `i`, different from all others; short, middling or long
/// compared to the payload, as the number has it.
pub(super) fn key(i: usize, payload: usize) -> Vec<u8> {
    let length = match i % 5 {
        0 | 1 => 4 + i % (payload / 3),
        2 => payload.saturating_sub(24 + i % 8).max(4),
        3 => payload - i % 16,
        _ => payload + 1 + i % 40,
    };
    let mut key = (i as u32).to_le_bytes().to_vec();
    key.resize(length.max(4), i as u8);
    key
}

/// A random value: short, middling or long compared to the payload.
pub(super) fn value(random: &mut Random, payload: usize) -> Vec<u8> {
    let length = match random.below(4) {
        0 => random.below(4),
        1 => random.below(payload / 2),
        2 => random.below(payload.saturating_sub(23).max(1)),
        _ => payload - 24 + random.below(64),
    };
    (0..length).map(|_| random.below(256) as u8).collect()
}

/// One random change to a store and its model: mostly an insert among `keys`
/// keys, else a remove.
pub(super) fn change(store: &mut Store, model: &mut Model, random: &mut Random, keys: usize) {
    let key = key(random.below(keys), store.setup.payload);
    if random.below(3) > 0 {
        let value = value(random, store.setup.payload);
        store.insert(&key, &value).unwrap();
        model.insert(key, value);
    } else {
        assert_eq!(store.remove(&key).unwrap(), model.remove(&key).is_some());
    }
}

/// Inserts keys number 0 to `n`, so that all of them are there.
pub(super) fn fill(store: &mut Store, model: &mut Model, n: usize) {
    for i in 0..n {
        let key = key(i, store.setup.payload);
        store.insert(&key, &i.to_le_bytes()).unwrap();
        model.insert(key, i.to_le_bytes().to_vec());
    }
}

/// The shape of an entry in a store, for tests that must meet all of them.
pub(super) fn shape(store: &Store, key: &[u8], value: &[u8]) -> Shape {
    store.writer.table.geometry.shape(key.len(), value.len())
}
