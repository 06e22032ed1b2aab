//! A store in memory, gone with the last handle of it.
//!
//! [`Memory`] is a directory of files, each of which is a run of words that
//! its maps share. It serves stores that need no disk, and tests, which look
//! at or change the bytes behind a store's back. It does not know what the
//! files mean, and makes nothing durable.
//!
//! # Growth
//!
//! A file has room for several times its length, as address space that takes
//! no memory until it is written. When it outgrows that room it is copied into
//! a larger one. Maps taken before then *keep what they held*: what is written
//! later is found in the maps taken later. That suffices for the store, which
//! maps a table file anew whenever it grows and finds new blocks through the
//! new map only, and never lets a file of the log grow once it is mapped.
//! Until then all maps and the file are the same memory.
//!
//! All methods may be called from any thread; a file has a lock of its own,
//! which writing through a map takes as well.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::map::{self, Map};
use super::{Access, File, Lock, LockOutcome, Storage};

/// Room of small files, in bytes; below the size of huge pages on purpose.
const SMALL_ROOM: usize = 1 << 20;

/// Room in multiples of the length.
const ROOM: usize = if cfg!(miri) { 2 } else { 8 };

/// A directory in memory. A clone is the same directory.
#[derive(Clone, Default)]
pub struct Memory {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    names: Mutex<Names>,
    holders: Mutex<Holders>,
}

#[derive(Default)]
struct Names {
    files: BTreeMap<String, Arc<MemoryFile>>,
    /// All directories but the store itself.
    directories: BTreeSet<String>,
}

/// Who holds the lock of the store.
#[derive(Default)]
struct Holders {
    exclusive: bool,
    shared: usize,
}

impl Memory {
    /// An empty directory.
    pub fn new() -> Memory {
        Memory::default()
    }

    /// A copy with files of its own, which nobody has open or locked: what a
    /// killed process would leave. Each file is copied as it is at one moment;
    /// for all of them together nothing may be written meanwhile.
    ///
    /// # Errors
    ///
    /// What the operating system says to the wish for that much memory.
    pub fn copy(&self) -> io::Result<Memory> {
        let copy = Memory::new();
        let names = self.names();
        let mut files = BTreeMap::new();
        for (name, file) in &names.files {
            files.insert(name.clone(), Arc::new(file.copy()?));
        }
        *copy.names() = Names { files, directories: names.directories.clone() };
        drop(names);
        Ok(copy)
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.shared.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The directory that a name lies in.
fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

impl Names {
    fn directory(&self, directory: &str) -> io::Result<()> {
        let known = directory.is_empty() || self.directories.contains(directory);
        if known { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

impl Storage for Memory {
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let mut names = self.names();
        names.directory(parent(name))?;
        match (names.files.get(name), access) {
            (Some(_), Access::Create) => Err(io::ErrorKind::AlreadyExists.into()),
            (Some(file), _) => Ok(Arc::clone(file) as Arc<dyn File>),
            (None, Access::Create) => {
                let file = Arc::new(MemoryFile::new()?);
                names.files.insert(name.to_string(), Arc::clone(&file));
                Ok(file)
            }
            (None, _) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let names = self.names();
        names.directory(directory)?;
        let inside = names.files.keys().filter(|name| parent(name) == directory);
        Ok(inside.map(|name| name.rsplit('/').next().unwrap_or(name).to_string()).collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match self.names().files.remove(name) {
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut names = self.names();
        names.directory(parent(to))?;
        let file = names.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        names.files.insert(to.to_string(), file);
        Ok(())
    }

    fn create_directory(&self, directory: &str) -> io::Result<()> {
        let mut names = self.names();
        let mut directory = directory;
        while !directory.is_empty() {
            names.directories.insert(directory.to_string());
            directory = parent(directory);
        }
        Ok(())
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        self.names().directory(directory)
    }

    fn lock(&self, exclusive: bool) -> io::Result<LockOutcome> {
        let mut holders = self.shared.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if holders.exclusive || (exclusive && holders.shared > 0) {
            return Ok(LockOutcome::Busy(Some(std::process::id())));
        }
        if exclusive {
            holders.exclusive = true;
        } else {
            holders.shared += 1;
        }
        let held: Lock = Box::new(Held { shared: Arc::clone(&self.shared), exclusive });
        Ok(LockOutcome::Held(held))
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("(memory)").join(name)
    }
}

/// The lock of the store, held.
struct Held {
    shared: Arc<Shared>,
    exclusive: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut holders = self.shared.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if self.exclusive {
            holders.exclusive = false;
        } else {
            holders.shared -= 1;
        }
    }
}

/// A file in memory.
struct MemoryFile {
    contents: RwLock<Contents>,
}

struct Contents {
    /// Room for the bytes of the file; those beyond its length are zero.
    room: Map,
    /// The length of the file in bytes.
    length: usize,
}

impl MemoryFile {
    fn new() -> io::Result<MemoryFile> {
        Ok(MemoryFile { contents: RwLock::new(Contents { room: Map::anonymous(0)?, length: 0 }) })
    }

    fn copy(&self) -> io::Result<MemoryFile> {
        let contents = self.read();
        let copy = Contents { room: contents.copy(contents.room.len())?, length: contents.length };
        Ok(MemoryFile { contents: RwLock::new(copy) })
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Contents> {
        self.contents.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    /// The bytes of the file in a new room of at least that size.
    fn copy(&self, size: usize) -> io::Result<Map> {
        let room = Map::anonymous(size)?;
        let used = self.length.div_ceil(8);
        for (from, to) in self.room.words()[..used].iter().zip(room.words()) {
            // Zeros are there already and take no memory as long as nobody writes them.
            match from.load(Relaxed) {
                0 => {}
                word => to.store(word, Relaxed),
            }
        }
        Ok(room)
    }

    /// Makes the file at least that long.
    fn extend(&mut self, length: usize) -> io::Result<()> {
        if length <= self.length {
            return Ok(());
        }
        if length > self.room.len() {
            let least = length.checked_next_multiple_of(4096).ok_or(io::ErrorKind::FileTooLarge)?;
            let ample = if least < SMALL_ROOM / ROOM {
                if cfg!(miri) { 2 * least } else { SMALL_ROOM }
            } else {
                least.saturating_mul(ROOM)
            };
            // Where address space is limited, as much as is needed has to do.
            self.room = self.copy(ample).or_else(|_| self.copy(least))?;
        }
        self.length = length;
        Ok(())
    }

    /// Whether these bytes are there already. A log that is written onto itself leaves
    /// them alone then: others may be reading it as plain bytes, which do not change.
    fn have(&self, bytes: &[u8], start: usize) -> io::Result<bool> {
        let mut there = [0; 4096];
        for (index, piece) in bytes.chunks(there.len()).enumerate() {
            let there = &mut there[..piece.len()];
            self.room.copy_out(start + index * 4096, there)?;
            if there != piece {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sets a range of bytes to zero.
    fn zero(&self, start: usize, end: usize) {
        let (first, last) = (start.next_multiple_of(8), end / 8 * 8);
        if first < last {
            // As when copying: what is zero anyway is not written, so that a
            // stretch that never took memory does not take it now.
            for word in &self.room.words()[first / 8..last / 8] {
                if word.load(Relaxed) != 0 {
                    word.store(0, Relaxed);
                }
            }
            map::store_bytes(self.room.words(), start, &[0; 8][..first - start]);
            map::store_bytes(self.room.words(), last, &[0; 8][..end - last]);
        } else {
            map::store_bytes(self.room.words(), start, &[0; 16][..end - start]);
        }
    }
}

/// An offset or length as a number of bytes in memory.
fn size(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

/// The end of a range that starts at an offset.
fn end(offset: u64, length: usize) -> io::Result<usize> {
    size(offset)?.checked_add(length).ok_or(io::ErrorKind::FileTooLarge.into())
}

impl File for MemoryFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.read().length as u64)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let length = size(length)?;
        let mut contents = self.write();
        if length < contents.length {
            contents.zero(length, contents.length);
            contents.length = length;
        }
        contents.extend(length)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.write().extend(end(offset, size(length)?)?)
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        let contents = self.write();
        let end = end(offset, size(length)?)?.min(contents.length);
        let start = size(offset)?.min(end);
        contents.zero(start, end);
        Ok(())
    }

    fn map(&self, length: u64, _writable: bool) -> io::Result<Map> {
        let contents = self.read();
        let length = size(length)?;
        let map = if length <= contents.length { contents.room.prefix(length) } else { None };
        map.ok_or(io::ErrorKind::InvalidInput.into())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let contents = self.read();
        if end(offset, buffer.len())? > contents.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        contents.room.copy_out(size(offset)?, buffer)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut contents = self.write();
        contents.extend(end(offset, bytes.len())?)?;
        match contents.have(bytes, size(offset)?)? {
            true => Ok(()),
            false => contents.room.copy_in(size(offset)?, bytes),
        }
    }

    fn write_mapped(&self, map: &Map, bytes: &[u8], offset: u64) -> io::Result<()> {
        let contents = self.write();
        if end(offset, bytes.len())? > map.len().min(contents.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        contents.room.copy_in(size(offset)?, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
