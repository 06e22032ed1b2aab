//! The seam between the store and the machine.
//!
//! Everything the store asks of the operating system goes through the two
//! traits of this module, [`Storage`] (a directory) and [`File`]. So the same
//! code runs on real files ([`files`]), in memory ([`memory`]), and in tests
//! on a simulated disk that loses power, fails or rots.
//!
//! This module does not know what the files mean. Names are relative to the
//! store's directory and use `/`: `default.swiss`, `log/00000001.log`.
//!
//! # What an implementation promises
//!
//! 1. What was written is read back, by [`File::read_at`] and through every
//!    [`Map`] of the file alike, by this and by every later opening in the
//!    same run of the machine, even if the process is killed.
//! 2. What was written before a [`File::sync`] began survives power loss once
//!    the sync has returned. A file's existence and name survive once
//!    [`Storage::sync_directory`] on its directory has returned.
//! 3. [`Storage::rename`] replaces the target atomically.
//!
//! All methods may be called from any thread.

pub(crate) mod epoch;
pub mod files;
pub(crate) mod map;
pub mod memory;
pub(crate) mod pins;
pub(crate) mod run;

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

pub use map::Map;

/// How [`Storage::open`] opens a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file, for reading and writing; it is an error if it exists.
    Create,
}

/// A directory that holds a store.
pub trait Storage: Send + Sync + 'static {
    /// Opens or creates a file.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>>;

    /// The names of the files in a directory (`""` is the store itself),
    /// without the directory, in no order. An absent directory is `NotFound`.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;

    /// Removes a file. Open handles and maps of it stay usable.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Renames a file, replacing the target if there is one.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Creates a directory and its parents; an existing one is no error.
    fn create_directory(&self, directory: &str) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_directory(&self, directory: &str) -> io::Result<()>;

    /// Takes the lock of the store, without waiting. It is held until the
    /// returned [`Lock`] is dropped, or the process ends in any way.
    fn lock(&self, exclusive: bool) -> io::Result<LockOutcome>;

    /// Where a file lies, for messages to people. `""` is the store itself.
    fn path(&self, name: &str) -> PathBuf;
}

/// What [`Storage::lock`] found.
pub enum LockOutcome {
    /// The lock is held until the value in here is dropped.
    Held(Lock),
    /// Somebody else holds it: the process with this number, if it is known.
    Busy(Option<u32>),
}

/// A held lock: whatever the storage needs to keep it.
pub type Lock = Box<dyn Send + Sync>;

/// An open file.
pub trait File: Send + Sync {
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;

    /// Truncates it, or extends it with zeros that take no space yet.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Takes space for a range, so that writing there cannot find the device
    /// full. Extends the file if the range ends beyond it; changes no byte.
    fn allocate(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Whether what [`File::allocate`] took is there for stores through a map
    /// into bytes that were never written. Where that is not known, the log
    /// writes zeros first.
    fn holds_allocated(&self) -> bool {
        false
    }

    /// Gives the space of a range back; its bytes become zero.
    fn punch(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Maps the first `length` bytes (a multiple of 8, not beyond the end of
    /// the file). A map taken with `writable` may be given to
    /// [`File::write_mapped`].
    fn map(&self, length: u64, writable: bool) -> io::Result<Map>;

    /// Fills the buffer from an offset; `UnexpectedEof` beyond the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// As [`File::read_at`], for bytes that nobody is going to read from here
    /// again: a storage that can does not keep them in memory for that.
    fn read_once(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_at(buffer, offset)
    }

    /// Writes all of the bytes at an offset, extending the file if need be.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// As [`File::write_at`], for bytes that short writes replace one by one, each of
    /// them synced: a storage that can keeps them in small pieces of memory, since
    /// a write and a sync look at the whole of the piece that they change.
    fn write_finely(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_at(bytes, offset)
    }

    /// Writes bytes at an offset through a writable map of this file. When it
    /// returns, the bytes survive the death of the process. No other thread
    /// may read or write that range meanwhile.
    fn write_mapped(&self, map: &Map, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// The ranges of it, in order, that hold no bytes on the device and are read
    /// as zeros; none where that is not known.
    fn holes(&self) -> io::Result<Vec<Range<u64>>> {
        Ok(Vec::new())
    }

    /// Says that these ranges are read soon. A storage that can brings them into
    /// memory meanwhile, as many at once as its device takes, without waiting
    /// for any. Advice: it may do nothing, and what fails is found by the read.
    fn will_need(&self, _ranges: &[Range<u64>]) {}

    /// Makes everything written so far durable.
    fn sync(&self) -> io::Result<()>;
}
