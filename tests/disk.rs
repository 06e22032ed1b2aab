//! A disk that forgets what was not synced, and fails when it is told to.
//!
//! [`Disk`] is a [`Storage`] that keeps two versions of everything: what the
//! operating system shows (the *cache*), and what would be there after the
//! power went (the *medium*). Only a sync makes them equal. It can be asked at
//! any moment for an [`Image`]: what power loss, or the death of the process,
//! would leave right now. An image is cheap, and [`Disk::boot`] makes a disk of
//! it, as often as one likes.
//!
//! ```text
//! calls ──► names, cache ─────────────── kill ──────► Image (cache and medium as they are)
//!                │ sync, writeback
//!                ▼
//!             medium ─────────────── power loss ────► Image (medium, and of what is
//!                                                     not synced a random part)
//! ```
//!
//! # What power loss leaves
//!
//! - Of each sector of 512 bytes that was changed since the last sync of its
//!   file: the old bytes, the new ones, or, if the call that wrote or synced
//!   it was under way, garbage. Some sectors reach the medium earlier by
//!   themselves, so versions in between are found as well.
//! - Of each creation, renaming and removal since the last sync of the
//!   directory: done or not done. A file is never found under two names.
//! - Of the lengths that a file had since its last sync: any.
//!
//! Garbage in a file of the log stays within the bytes that the write changed.
//! No store could keep its promise otherwise: a record that is acknowledged as
//! durable may end in the middle of a sector, and the next one begins there.
//! (format.md, section 11, says what is assumed.)
//!
//! A sync that fails treats what was to be written as Linux does: some of it
//! is on the medium, the rest is only in the cache and counts as clean, so
//! that the next sync succeeds without writing it.
//!
//! All random choices come from the seed given to [`Disk::boot`].

// Some of what it can do no test uses yet.
#![allow(dead_code)]

mod brake;
mod image;
mod inode;
mod laws;
mod machine;
mod names;
mod sparse;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use swissdb::storage::{Access, File, Lock, LockOutcome, Map, Storage};

use brake::Brake;
pub use image::Image;
pub use inode::SECTOR;
use machine::Machine;
pub use machine::{Call, Fault, Kind, Moment, Outcome};

/// A simulated disk, as one process sees it. A clone is the same disk.
#[derive(Clone)]
pub struct Disk {
    machine: Arc<Mutex<Machine>>,
    brake: Arc<Brake>,
    /// The process that this handle belongs to: those before were killed.
    process: u32,
}

impl Disk {
    /// An empty disk.
    pub fn new(seed: u64) -> Disk {
        Disk::boot(&Image::default(), seed)
    }

    /// A disk that holds what an image says, after the machine was started.
    pub fn boot(image: &Image, seed: u64) -> Disk {
        let machine = Arc::new(Mutex::new(image.to_machine(seed)));
        Disk { machine, brake: Arc::default(), process: 0 }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `watcher` at every step from now on. A step is a call that changes
    /// something; the moment it sees is the one in the middle of that call.
    pub fn watch(&self, watcher: impl FnMut(&Moment<'_>) + Send + 'static) {
        self.machine().watcher = Some(Box::new(watcher));
    }

    /// Loses power at the `step`-th step from now on: that call and all later
    /// ones fail. [`Disk::wreck`] then says what is left.
    pub fn crash_at(&self, step: u64) {
        let mut machine = self.machine();
        machine.crash_at = machine.steps + step;
    }

    /// What is left after power loss: at the step that was asked for, or now.
    pub fn wreck(&self) -> Image {
        let mut machine = self.machine();
        let wreck = machine.wreck.take();
        wreck.unwrap_or_else(|| machine.power_loss(None))
    }

    /// Power loss now, between two calls. All later calls fail.
    pub fn crash(&self) -> Image {
        self.machine().dead = true;
        self.wreck()
    }

    /// What the death of the process would leave now.
    pub fn killed(&self) -> Image {
        Image::of_killed(&self.machine())
    }

    /// Kills the process: its calls fail from now on. The same disk for the
    /// next process. What a failed sync left in the cache may be gone.
    pub fn kill(&self) -> Disk {
        let process = self.machine().kill();
        Disk { machine: self.machine.clone(), brake: Arc::default(), process }
    }

    /// Lets one call fail: the `nth` from now on that `suits`.
    pub fn fail(&self, nth: u64, fault: Fault, suits: impl Fn(&Call<'_>) -> bool + Send + 'static) {
        self.fail_as(nth, move |call| suits(call).then_some(fault));
    }

    /// Lets one call fail: the `nth` from now on for which `choose` has a
    /// fault, with that fault.
    pub fn fail_as(&self, nth: u64, choose: impl Fn(&Call<'_>) -> Option<Fault> + Send + 'static) {
        self.machine().plan(nth, Box::new(choose));
    }

    /// The call that failed because it was told to, if any did yet.
    pub fn failure(&self) -> Option<Outcome> {
        self.machine().outcome.clone()
    }

    /// Takes back what [`Disk::fail`] planned; tells which call failed, if any.
    pub fn failed(&self) -> Option<Outcome> {
        let mut machine = self.machine();
        machine.plan = None;
        machine.outcome.take()
    }

    /// Holds up the next call that `suits`, before it does anything.
    pub fn hold(&self, suits: impl Fn(&Call<'_>) -> bool + Send + 'static) {
        self.brake.set(Box::new(suits));
    }

    /// Waits until a call is held up.
    pub fn wait_until_held(&self) {
        self.brake.wait_until_held();
    }

    /// Lets the call that is held up go on.
    pub fn release(&self) {
        self.brake.release();
    }

    /// Limits the space for all files together, in bytes; `None`: no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.machine().capacity = bytes;
    }

    /// The space that all files take, in bytes.
    pub fn used(&self) -> u64 {
        self.machine().used()
    }

    /// How often a store into a mapping found no space: each would have ended
    /// the process.
    pub fn bus_errors(&self) -> u64 {
        self.machine().bus_errors
    }

    /// Calls so far, and of these the ones that changed something.
    pub fn counts(&self) -> (u64, u64) {
        let machine = self.machine();
        (machine.calls, machine.steps)
    }

    fn call<T>(
        &self,
        call: Call<'_>,
        run: impl FnOnce(&mut Machine) -> io::Result<T>,
    ) -> io::Result<T> {
        self.brake.pass(&call);
        self.machine().call(self.process, &call, run)
    }
}

impl Storage for Disk {
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let kind = if access == Access::Create { Kind::Create } else { Kind::Open };
        let (inode, held) = self.call(Call::of(kind, name), |machine| {
            let found =
                if kind == Kind::Create { machine.create(name) } else { machine.names.find(name) };
            found.map(|number| (number, machine.inode(number).handles.clone()))
        })?;
        Ok(Arc::new(DiskFile { disk: self.clone(), name: name.into(), inode, _held: held }))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.call(Call::of(Kind::List, directory), |machine| machine.names.list(directory))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call(Call::of(Kind::Remove, name), |machine| machine.remove(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(Call::of(Kind::Rename, from), |machine| machine.rename(from, to))
    }

    fn create_directory(&self, directory: &str) -> io::Result<()> {
        let call = Call::of(Kind::CreateDirectory, directory);
        self.call(call, |machine| machine.names.create_directory(directory))
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        let call = Call::of(Kind::SyncDirectory, directory);
        self.call(call, |machine| machine.sync_directory(directory))
    }

    fn lock(&self, exclusive: bool) -> io::Result<LockOutcome> {
        let process = self.process;
        self.call(Call::of(Kind::Lock, "LOCK"), |machine| {
            if !machine.take_lock(exclusive) {
                return Ok(LockOutcome::Busy(Some(std::process::id())));
            }
            let held: Lock = Box::new(Held { disk: self.clone(), process, exclusive });
            Ok(LockOutcome::Held(held))
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("(disk)").join(name)
    }
}

/// The lock of the store, held by a process.
struct Held {
    disk: Disk,
    process: u32,
    exclusive: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.disk.machine().give_lock_back(self.process, self.exclusive);
    }
}

/// An open file of a disk.
struct DiskFile {
    disk: Disk,
    /// The name it was opened under, for messages and faults.
    name: String,
    inode: u64,
    /// Keeps the file when its name is gone.
    _held: Arc<()>,
}

impl DiskFile {
    fn call<T>(
        &self,
        kind: Kind,
        offset: u64,
        length: u64,
        run: impl FnOnce(&mut Machine) -> io::Result<T>,
    ) -> io::Result<T> {
        let call = Call { inode: Some(self.inode), offset, length, ..Call::of(kind, &self.name) };
        self.disk.call(call, run)
    }

    /// A call that writes bytes; when it fails in the middle, the first half of
    /// them is there.
    fn write(
        &self,
        kind: Kind,
        bytes: &[u8],
        offset: u64,
        run: impl FnOnce(&mut Machine) -> io::Result<()>,
    ) -> io::Result<()> {
        let length = bytes.len() as u64;
        let call =
            Call { inode: Some(self.inode), offset, length, bytes, ..Call::of(kind, &self.name) };
        self.disk.call(call, run)
    }
}

impl File for DiskFile {
    fn length(&self) -> io::Result<u64> {
        self.call(Kind::Length, 0, 0, |machine| machine.inode(self.inode).cache.length())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.call(Kind::SetLength, length, 0, |machine| {
            machine.inode(self.inode).set_length(length)
        })
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.call(Kind::Allocate, offset, length, |machine| {
            machine.take_space(self.inode, offset, length)?;
            machine.inode(self.inode).extend(offset + length)
        })
    }

    fn holds_allocated(&self) -> bool {
        true
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.call(Kind::Punch, offset, length, |machine| {
            machine.inode(self.inode).punch(offset, length)
        })
    }

    fn map(&self, length: u64, writable: bool) -> io::Result<Map> {
        self.call(Kind::Map, 0, length, |machine| {
            machine.inode(self.inode).cache.map(length, writable)
        })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.call(Kind::Read, offset, buffer.len() as u64, |machine| {
            machine.inode(self.inode).cache.read_at(buffer, offset)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write(Kind::Write, bytes, offset, |machine| {
            machine.take_space(self.inode, offset, bytes.len() as u64)?;
            machine.inode(self.inode).write(bytes, offset)
        })
    }

    fn write_mapped(&self, map: &Map, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write(Kind::WriteMapped, bytes, offset, |machine| {
            if machine.take_space(self.inode, offset, bytes.len() as u64).is_err() {
                machine.bus_errors += 1;
            }
            let inode = machine.inode(self.inode);
            inode.cache.write_mapped(map, bytes, offset)?;
            inode.changed(offset, bytes.len() as u64);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.call(Kind::Sync, 0, 0, |machine| machine.inode(self.inode).sync())
    }
}
