//! A store in a directory of the file system: the storage of every day.
//!
//! [`Files`] turns the calls of the seam into system calls and adds nothing
//! but these rules of the house. It does not know what the files mean; it is
//! the only place that makes paths of names.
//!
//! - **Durability**: [`File::sync`] is `fdatasync`, which includes what was
//!   written through maps and a changed length; directories are synced by
//!   `fsync`.
//! - **Space**: [`File::allocate`] is `fallocate`. A file system that cannot
//!   do it finds out about a full disk later. [`File::punch`] writes zeros where
//!   holes cannot be punched.
//! - **Writing through a map** is a copy into memory that the page cache
//!   holds, so a killed process loses none of it. A copy-on-write file system
//!   needs new space even for what is allocated already, and where there is
//!   none, a store into a mapping ends the process: there, it is a write call.
//! - **The lock** is an advisory one (`flock`) on the file `LOCK`, which the
//!   holder of the exclusive lock fills with its process number, for messages
//!   to people only. The system releases it however the process ends. Children
//!   of a fork hold it too, until the process gives it back by closing the store.
//!   If it ends without that, they go on holding it: each until it drops its
//!   handles, ends or executes another program. To hold
//!   it for reading, nothing is created: a store without `LOCK`, say one on a
//!   read-only medium, is read without a lock.
//!
//! All methods may be called from any thread.

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::fs::{Advice, FallocateFlags, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};

use super::map::Map;
use super::{Access, File, Lock, LockOutcome, Storage};

/// The name of the file that is locked.
const LOCK: &str = "LOCK";

/// The numbers by which `statfs` knows file systems that copy on write: btrfs,
/// bcachefs, ZFS and NILFS.
const COPY_ON_WRITE: [u32; 4] = [0x9123_683E, 0xCA45_1A4E, 0x2FC1_2FC1, 0x3434];

/// How much is written at a time where a hole cannot be punched, in bytes.
const ZEROS: usize = 64 << 10;

/// How much is written at once where short writes follow. A piece of the page
/// cache is as large as the call that made it, up to 2 MiB, and for each short
/// write and each sync ext4 goes through all blocks of the piece.
const FINE: usize = 16 << 10;

/// `RWF_DONTCACHE` (Linux 6.14): what is read into the page cache for this call
/// alone does not stay there.
const DONT_CACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// A directory of the file system.
#[derive(Debug, Clone)]
pub struct Files {
    directory: PathBuf,
}

impl Files {
    /// The directory at that path. It is looked at when it is used, and
    /// created, with its parents, by `create_directory("")`.
    pub fn new(directory: impl Into<PathBuf>) -> Files {
        Files { directory: directory.into() }
    }

    /// Where a name lies, if it stays within the directory.
    fn resolve(&self, name: &str) -> io::Result<PathBuf> {
        let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if inside {
            Ok(self.path(name))
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "the name leads out of the store"))
        }
    }

    fn lock_exclusive(&self) -> io::Result<LockOutcome> {
        let path = self.resolve(LOCK)?;
        let mut options = OpenOptions::new();
        // Not truncated before it is held: somebody else's number may be in it.
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(LockOutcome::Busy(exclusive_holder(&file))),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // For people only, and the store of a full disk has to open: may fail.
        let number = format!("{}\n", std::process::id());
        let _ = file.set_len(0).and_then(|()| file.write_all_at(number.as_bytes(), 0));
        Ok(LockOutcome::Held(Box::new(HeldFile::new(file))))
    }

    fn lock_shared(&self) -> io::Result<LockOutcome> {
        let held: Lock = match fs::File::open(self.resolve(LOCK)?) {
            Ok(file) => match file.try_lock_shared() {
                Ok(()) => Box::new(HeldFile::new(file)),
                Err(TryLockError::WouldBlock) => return Ok(LockOutcome::Busy(holder(&file))),
                Err(TryLockError::Error(error)) => return Err(error),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Box::new(()),
            Err(error) => return Err(error),
        };
        Ok(LockOutcome::Held(held))
    }
}

/// A locked file. Closing it would be enough, were it not for children: one
/// that is between `fork` and `exec` has the same open file, and so the lock,
/// for a moment longer. So the lock is given back by name; but not by a child
/// that goes on without `exec`, whose parent still needs it.
struct HeldFile {
    file: fs::File,
    process: u32,
}

impl HeldFile {
    fn new(file: fs::File) -> HeldFile {
        HeldFile { file, process: std::process::id() }
    }
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            // If that fails, it is given back when the file is closed.
            let _ = self.file.unlock();
        }
    }
}

/// The process number in a lock file.
fn holder(file: &fs::File) -> Option<u32> {
    let mut text = [0; 16];
    let length = file.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(&text[..length]).ok()?.trim_end().parse().ok()
}

/// As [`holder`], of somebody who keeps others from writing: those who only
/// read have left no number, and the one in there is of some earlier process.
fn exclusive_holder(file: &fs::File) -> Option<u32> {
    match file.try_lock_shared() {
        Ok(()) => {
            // Given back at once. If that fails, it is when the file is closed.
            let _ = file.unlock();
            None
        }
        Err(_) => holder(file),
    }
}

impl Storage for Files {
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true).write(access != Access::Read).create_new(access == Access::Create);
        let file = options.open(self.resolve(name)?)?;
        let copy_on_write = access != Access::Read && copies_on_write(&file);
        Ok(Arc::new(RealFile { file, copy_on_write, allocates: false.into(), keeps: false.into() }))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.resolve(directory)?)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                // No file of a store has a name that is not UTF-8.
                names.extend(entry.file_name().into_string());
            }
        }
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.resolve(name)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.resolve(from)?, self.resolve(to)?)
    }

    fn create_directory(&self, directory: &str) -> io::Result<()> {
        let directory = self.resolve(directory)?;
        create_directories(&directory, &mut |above| fs::File::open(above)?.sync_all())
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        fs::File::open(self.resolve(directory)?)?.sync_all()
    }

    fn lock(&self, exclusive: bool) -> io::Result<LockOutcome> {
        if exclusive { self.lock_exclusive() } else { self.lock_shared() }
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.directory.clone() } else { self.directory.join(name) }
    }
}

/// Makes a directory and those above it, and lets `sync` make the name of each
/// new one durable in the directory it was made in.
fn create_directories(
    directory: &Path,
    sync: &mut dyn FnMut(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let mut made: Vec<&Path> = directory.ancestors().take_while(|path| !is_there(path)).collect();
    fs::create_dir_all(directory)?;
    // The outermost first: what is below it is lost with it.
    while let Some(path) = made.pop() {
        let above = path.parent().filter(|above| !above.as_os_str().is_empty());
        match sync(above.unwrap_or(Path::new("."))) {
            // Where one may write and not read, it cannot be opened to be synced.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// Whether a path leads to something. The empty one is the current directory.
fn is_there(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.exists()
}

/// Whether overwriting allocated bytes of a file may find the device full.
fn copies_on_write(file: &fs::File) -> bool {
    match rustix::fs::fstatfs(file) {
        // The type of the field differs between machines; the number has 32 bits.
        Ok(statfs) => COPY_ON_WRITE.contains(&(statfs.f_type as u32)),
        Err(_) => false,
    }
}

/// An open file.
struct RealFile {
    file: fs::File,
    copy_on_write: bool,
    /// Whether the file system has taken space when it was asked to.
    allocates: AtomicBool,
    /// Whether it keeps in memory what it was asked to read only once.
    keeps: AtomicBool,
}

impl RealFile {
    /// `fallocate`, again if a signal came in between.
    fn fallocate(&self, mode: FallocateFlags, offset: u64, length: u64) -> Result<(), Errno> {
        loop {
            match rustix::fs::fallocate(&self.file, mode, offset, length) {
                Err(Errno::INTR) => {}
                outcome => return outcome,
            }
        }
    }
}

/// Whether the file system, or the kernel, does not know the operation.
fn unsupported(errno: Errno) -> bool {
    errno == Errno::OPNOTSUPP || errno == Errno::NOSYS
}

impl File for RealFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset.checked_add(length).ok_or(io::ErrorKind::FileTooLarge)?;
        if length == 0 {
            return Ok(());
        }
        match self.fallocate(FallocateFlags::empty(), offset, length) {
            Err(errno) if unsupported(errno) => {
                if self.length()? < end {
                    self.set_length(end)
                } else {
                    Ok(())
                }
            }
            outcome => {
                outcome?;
                self.allocates.store(true, Relaxed);
                Ok(())
            }
        }
    }

    fn holds_allocated(&self) -> bool {
        self.allocates.load(Relaxed) && !self.copy_on_write
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset.saturating_add(length).min(self.length()?);
        if offset >= end {
            return Ok(());
        }
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match self.fallocate(mode, offset, end - offset) {
            Err(errno) if unsupported(errno) => {
                let zeros = vec![0; ZEROS];
                let mut offset = offset;
                while offset < end {
                    let length = (end - offset).min(ZEROS as u64);
                    self.file.write_all_at(&zeros[..length as usize], offset)?;
                    offset += length;
                }
                Ok(())
            }
            outcome => Ok(outcome?),
        }
    }

    fn map(&self, length: u64, writable: bool) -> io::Result<Map> {
        Map::file(&self.file, length, writable)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn read_once(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.keeps.load(Relaxed) {
            return self.read_at(buffer, offset);
        }
        let length = buffer.len();
        match rustix::io::preadv2(&self.file, &mut [IoSliceMut::new(buffer)], offset, DONT_CACHE) {
            Ok(read) if read == length => return Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.keeps.store(true, Relaxed),
            // Read anew, all of it: that says what it is, if it is anything.
            _ => {}
        }
        self.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn write_finely(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        // The page cache takes as much at once as a call brings.
        let mut pieces = bytes.chunks(FINE).zip((offset..).step_by(FINE));
        pieces.try_for_each(|(piece, at)| self.write_at(piece, at))
    }

    fn write_mapped(&self, map: &Map, bytes: &[u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if self.copy_on_write {
            map.check(start, bytes.len())?;
            return self.file.write_all_at(bytes, offset);
        }
        map.copy_in(start, bytes)
    }

    fn holes(&self) -> io::Result<Vec<Range<u64>>> {
        let length = self.length()?;
        // All else is read and written at offsets of its own, so the place
        // that these calls move is nobody's.
        let next = |from| match rustix::fs::seek(&self.file, from) {
            Ok(offset) => Ok(offset.min(length)),
            Err(Errno::NXIO) => Ok(length),
            Err(error) => Err(error),
        };
        let mut holes = Vec::new();
        let mut data = 0;
        while data < length {
            let hole = next(SeekFrom::Hole(data))?;
            data = next(SeekFrom::Data(hole))?;
            if hole < data {
                holes.push(hole..data);
            }
        }
        Ok(holes)
    }

    fn will_need(&self, ranges: &[Range<u64>]) {
        for range in ranges {
            let length = NonZeroU64::new(range.end.saturating_sub(range.start));
            if length.is_some() {
                // Advice: where it is not taken, the read waits a little longer.
                let _ = rustix::fs::fadvise(&self.file, range.start, length, Advice::WillNeed);
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests;

/// The memory this process may use, in bytes: the machine's, or the limit of
/// its cgroup, or of one above it, if that is smaller. A guess of 4 GiB where
/// nothing says.
pub(crate) fn memory_limit() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
    });
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = |file: PathBuf| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    let limits = limit_files(&groups).into_iter().filter_map(limit);
    limits.fold(machine.unwrap_or(4 << 30), u64::min)
}

/// The files that may say how much memory a process of these cgroups has, as
/// `/proc/self/cgroup` lists them: those of its own groups and of all above.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for group in groups.lines() {
        let mut fields = group.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let within = Path::new(path.trim_start_matches('/'));
        files.extend(within.ancestors().map(|group| Path::new(root).join(group).join(name)));
    }
    files
}
