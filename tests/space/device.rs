//! A device of a certain size, in memory, that knows what every file takes.
//!
//! Blocks of 4096 bytes are taken when they are allocated or written first,
//! and given back by holes, truncation and removal, of a removed file when the
//! last handle of it is gone. When all are taken, allocating and writing fail
//! as on a full disk. Writing through a mapping where no block was taken is
//! what would end a real process with SIGBUS on a full disk: here it panics.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use swissdb::storage::memory::Memory;
use swissdb::storage::{Access, File, LockOutcome, Map, Storage};

const BLOCK: u64 = 4096;

/// The device. A clone is the same device.
#[derive(Clone)]
pub struct Device {
    inner: Memory,
    meter: Arc<Meter>,
    files: Arc<Mutex<BTreeMap<String, Arc<Extent>>>>,
    /// Held for writing while the files are copied, else by each change.
    still: Arc<RwLock<()>>,
}

/// How many blocks there are, and how many are taken.
struct Meter {
    limit: AtomicU64,
    used: AtomicU64,
    /// How often somebody found the device full.
    refused: AtomicU64,
}

impl Meter {
    fn take(&self, blocks: u64) -> io::Result<()> {
        let limit = self.limit.load(Ordering::SeqCst);
        let taken = self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| {
            Some(used + blocks).filter(|now| blocks == 0 || *now <= limit)
        });
        taken.map(drop).map_err(|_| {
            self.refused.fetch_add(1, Ordering::SeqCst);
            io::ErrorKind::StorageFull.into()
        })
    }

    fn give_back(&self, blocks: u64) {
        self.used.fetch_sub(blocks, Ordering::SeqCst);
    }
}

/// The blocks of one file.
struct Extent {
    meter: Arc<Meter>,
    taken: Mutex<Vec<bool>>,
}

impl Extent {
    fn new(meter: &Arc<Meter>, taken: Vec<bool>) -> Arc<Extent> {
        Arc::new(Extent { meter: meter.clone(), taken: Mutex::new(taken) })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<bool>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) -> u64 {
        self.lock().iter().filter(|taken| **taken).count() as u64
    }

    /// Takes all blocks of a range.
    fn take(&self, offset: u64, length: u64) -> io::Result<()> {
        let (first, end) = (offset / BLOCK, (offset + length).div_ceil(BLOCK));
        let mut taken = self.lock();
        if taken.len() < end as usize {
            taken.resize(end as usize, false);
        }
        let range = &mut taken[first.min(end) as usize..end as usize];
        self.meter.take(range.iter().filter(|taken| !**taken).count() as u64)?;
        range.fill(true);
        Ok(())
    }

    /// Gives the blocks back that lie wholly in a range.
    fn give_back(&self, offset: u64, end: u64) {
        let mut taken = self.lock();
        let length = taken.len() as u64;
        let (first, end) = (offset.div_ceil(BLOCK).min(length), (end / BLOCK).min(length));
        let range = &mut taken[first.min(end) as usize..end as usize];
        self.meter.give_back(range.iter().filter(|taken| **taken).count() as u64);
        range.fill(false);
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        self.meter.give_back(self.count());
    }
}

impl Device {
    /// An empty device of that many bytes.
    pub fn new(bytes: u64) -> Device {
        Device::around(Memory::new(), bytes / BLOCK)
    }

    /// A device that is never full.
    pub fn endless() -> Device {
        Device::new(1 << 50)
    }

    fn around(inner: Memory, limit: u64) -> Device {
        let (used, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        let meter = Arc::new(Meter { limit: AtomicU64::new(limit), used, refused });
        Device { inner, meter, files: Arc::default(), still: Arc::default() }
    }

    /// Another device with a copy of all files, which nobody has open, as they
    /// are between two changes: what a kill would leave.
    pub fn copy(&self) -> Device {
        let _still = self.still.write().unwrap_or_else(PoisonError::into_inner);
        let files = self.files();
        let inner = self.inner.copy().expect("copy the files");
        let copy = Device::around(inner, self.meter.limit.load(Ordering::SeqCst));
        for (name, extent) in &*files {
            let taken = extent.lock().clone();
            let count = taken.iter().filter(|taken| **taken).count() as u64;
            copy.meter.used.fetch_add(count, Ordering::SeqCst);
            copy.files().insert(name.clone(), Extent::new(&copy.meter, taken));
        }
        copy
    }

    /// Gives the blocks of a file back that have nothing in them, as a copy with holes
    /// has it.
    pub fn give_back_unwritten(&self, name: &str) {
        let file = self.inner.open(name, Access::Read).expect("open the file");
        let mut block = [0; BLOCK as usize];
        let extent = self.files()[name].clone();
        for at in (0..file.length().expect("length")).step_by(BLOCK as usize) {
            file.read_at(&mut block, at).expect("read a block");
            if block.iter().all(|byte| *byte == 0) {
                extent.give_back(at, at + BLOCK);
            }
        }
    }

    /// Makes the device as large as that many bytes.
    pub fn resize(&self, bytes: u64) {
        self.meter.limit.store(bytes / BLOCK, Ordering::SeqCst);
    }

    /// The bytes that are taken on it, removed files that are still open
    /// included.
    pub fn used(&self) -> u64 {
        self.meter.used.load(Ordering::SeqCst) * BLOCK
    }

    /// The bytes that the files with such names take.
    fn used_by(&self, is_meant: impl Fn(&str) -> bool) -> u64 {
        let files = self.files();
        let meant = files.iter().filter(|(name, _)| is_meant(name));
        meant.map(|(_, extent)| extent.count() * BLOCK).sum()
    }

    /// The bytes that the files of the log take, those included that are only
    /// prepared or wait for being recycled.
    pub fn log(&self) -> u64 {
        self.used_by(|name| name.starts_with("log/"))
    }

    /// The bytes that the table files take.
    pub fn tables(&self) -> u64 {
        self.used_by(|name| name.ends_with(".swiss"))
    }

    /// How often somebody found it full.
    pub fn refused(&self) -> u64 {
        self.meter.refused.load(Ordering::SeqCst)
    }

    /// Waits until nobody copies the files, who then waits for this change.
    fn change(&self) -> RwLockReadGuard<'_, ()> {
        self.still.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Extent>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for Device {
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let _change = self.change();
        let mut files = self.files();
        let inner = self.inner.open(name, access)?;
        let extent = files.entry(name.to_owned());
        let extent = extent.or_insert_with(|| Extent::new(&self.meter, Vec::new())).clone();
        Ok(Arc::new(DeviceFile { inner, extent, device: self.clone() }))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.inner.list(directory)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let _change = self.change();
        let mut files = self.files();
        self.inner.remove(name)?;
        files.remove(name);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let _change = self.change();
        let mut files = self.files();
        self.inner.rename(from, to)?;
        if let Some(extent) = files.remove(from) {
            files.insert(to.to_owned(), extent);
        }
        Ok(())
    }

    fn create_directory(&self, directory: &str) -> io::Result<()> {
        self.inner.create_directory(directory)
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        self.inner.sync_directory(directory)
    }

    fn lock(&self, exclusive: bool) -> io::Result<LockOutcome> {
        self.inner.lock(exclusive)
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("(device)").join(name)
    }
}

/// A file on the device.
struct DeviceFile {
    inner: Arc<dyn File>,
    extent: Arc<Extent>,
    device: Device,
}

impl File for DeviceFile {
    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let _change = self.device.change();
        self.inner.set_length(length)?;
        self.extent.give_back(length, u64::MAX);
        Ok(())
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let _change = self.device.change();
        self.extent.take(offset, length)?;
        self.inner.allocate(offset, length)
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        let _change = self.device.change();
        self.inner.punch(offset, length)?;
        self.extent.give_back(offset, offset + length);
        Ok(())
    }

    fn map(&self, length: u64, writable: bool) -> io::Result<Map> {
        self.inner.map(length, writable)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let _change = self.device.change();
        self.extent.take(offset, bytes.len() as u64)?;
        self.inner.write_at(bytes, offset)
    }

    fn write_mapped(&self, map: &Map, bytes: &[u8], offset: u64) -> io::Result<()> {
        let _change = self.device.change();
        let taken = self.extent.take(offset, bytes.len() as u64);
        assert!(taken.is_ok(), "a mapping was written where the device has no block: SIGBUS");
        self.inner.write_mapped(map, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }
}
