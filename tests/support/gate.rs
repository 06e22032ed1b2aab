//! A storage that can be stopped, or watched, between two of its operations.
//!
//! What a killed process leaves is what its files were between two operations
//! on them (an operation of the storage is a system call or a copy into a
//! mapping). So every operation that changes something passes a gate. A test
//! may close the gate of all stores of the process while it copies files
//! ([`closed`]), or be called after each operation ([`Gate::watched`]), or before
//! ([`Gate::awaiting`]), and let it wait. And it may refuse what is read
//! ([`Gate::refusing`]).

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use swissdb::storage::{Access, File, LockOutcome, Map, Storage};

/// Closed while somebody copies files. One for all stores of the process, as
/// copying is rare.
static GATE: RwLock<()> = RwLock::new(());

/// Runs `copy` while no operation changes a file of any store.
pub fn closed<T>(copy: impl FnOnce() -> T) -> T {
    let _still = GATE.write().unwrap_or_else(PoisonError::into_inner);
    copy()
}

/// Who is called for each operation that changes something, with its name.
pub type Watcher = Arc<dyn Fn(&str) + Send + Sync>;

/// Who is asked before something is read, with its name and the bytes of it: none
/// where it is opened or listed.
pub type Warden = Arc<dyn Fn(&str, Range<u64>) -> io::Result<()> + Send + Sync>;

/// A storage whose operations pass the gate.
pub struct Gate {
    inner: Arc<dyn Storage>,
    passage: Passage,
}

/// A file of such a storage.
struct GatedFile {
    name: String,
    inner: Arc<dyn File>,
    passage: Passage,
}

/// How operations pass.
#[derive(Clone, Default)]
struct Passage {
    /// Called before, and waited for.
    before: Option<Watcher>,
    /// Called after.
    watcher: Option<Watcher>,
    /// Asked before something is read.
    warden: Option<Warden>,
    /// Lets watched operations through one by one.
    turn: Arc<Mutex<()>>,
}

impl Passage {
    /// Runs an operation that changes something.
    fn pass<T>(&self, name: &str, operation: impl FnOnce() -> T) -> T {
        if let Some(before) = &self.before {
            before(name);
        }
        let _open = GATE.read().unwrap_or_else(PoisonError::into_inner);
        let Some(watcher) = &self.watcher else {
            return operation();
        };
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let result = operation();
        watcher(name);
        result
    }

    /// Whether something may be read.
    fn allow(&self, name: &str, bytes: Range<u64>) -> io::Result<()> {
        self.warden.as_ref().map_or(Ok(()), |warden| warden(name, bytes))
    }
}

impl Gate {
    /// A gate that can be closed.
    pub fn around(inner: Arc<dyn Storage>) -> Gate {
        Gate { inner, passage: Passage::default() }
    }

    /// A gate that calls somebody before each operation, which waits for the call
    /// to return. Several operations may wait at a time.
    pub fn awaiting(inner: Arc<dyn Storage>, before: Watcher) -> Gate {
        Gate { inner, passage: Passage { before: Some(before), ..Passage::default() } }
    }

    /// A gate that calls somebody after each operation. Operations pass it one
    /// by one.
    pub fn watched(inner: Arc<dyn Storage>, watcher: Watcher) -> Gate {
        Gate { inner, passage: Passage { watcher: Some(watcher), ..Passage::default() } }
    }

    /// A gate that asks somebody what may be read.
    pub fn refusing(inner: Arc<dyn Storage>, warden: Warden) -> Gate {
        Gate { inner, passage: Passage { warden: Some(warden), ..Passage::default() } }
    }
}

impl Storage for Gate {
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        self.passage.allow(name, 0..0)?;
        let inner = match access {
            Access::Create => self.passage.pass("create", || self.inner.open(name, access))?,
            _ => self.inner.open(name, access)?,
        };
        Ok(Arc::new(GatedFile { name: name.to_owned(), inner, passage: self.passage.clone() }))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.passage.allow(directory, 0..0)?;
        self.inner.list(directory)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.passage.pass("remove", || self.inner.remove(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.passage.pass("rename", || self.inner.rename(from, to))
    }

    fn create_directory(&self, directory: &str) -> io::Result<()> {
        self.passage.pass("create directory", || self.inner.create_directory(directory))
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        self.inner.sync_directory(directory)
    }

    fn lock(&self, exclusive: bool) -> io::Result<LockOutcome> {
        self.inner.lock(exclusive)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.inner.path(name)
    }
}

impl File for GatedFile {
    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.passage.pass("set length", || self.inner.set_length(length))
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.passage.pass("allocate", || self.inner.allocate(offset, length))
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.passage.pass("punch", || self.inner.punch(offset, length))
    }

    fn map(&self, length: u64, writable: bool) -> io::Result<Map> {
        self.inner.map(length, writable)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.passage.allow(&self.name, offset..offset + buffer.len() as u64)?;
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.passage.pass("write", || self.inner.write_at(bytes, offset))
    }

    fn write_mapped(&self, map: &Map, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.passage.pass("write mapped", || self.inner.write_mapped(map, bytes, offset))
    }

    fn will_need(&self, ranges: &[Range<u64>]) {
        self.inner.will_need(ranges);
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }
}
