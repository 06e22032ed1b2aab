//! A storage over memory that fails, blocks or takes notes on demand, and
//! remembers what was synced.
//!
//! Space is counted: what is allocated is taken from it, what is punched or
//! removed is added to it. A store through a map into a hole for which there
//! is no space panics, as it would end a process with a signal.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use super::*;
use crate::storage::{LockOutcome, Map};

/// What the storage is to do, and what it has seen.
#[derive(Default)]
pub(super) struct State {
    /// Bytes that may still be allocated; `None`: as many as one likes.
    pub(super) space: Option<u64>,
    /// The ranges of each file that were punched.
    pub(super) holes: HashMap<String, Vec<(u64, u64)>>,
    /// Whether it says that allocated space is held.
    pub(super) holds: bool,
    /// Fails every sync of a file.
    pub(super) fail_sync: bool,
    /// Panics at the next sync of a file.
    pub(super) panic_at_sync: bool,
    /// Fails every write that is not mapped.
    pub(super) fail_write: bool,
    /// How many of these find no space.
    pub(super) full_writes: usize,
    /// How many writes through a map find no space, as where they are calls.
    pub(super) full_mapped: usize,
    /// Lets syncs wait until it is cleared, but those of a file that is being
    /// prepared.
    pub(super) hold_sync: bool,
    /// Lets syncs of these files wait until they are not there any more.
    pub(super) held: Vec<String>,
    /// The openings of files that have not heard yet that something could not
    /// be written for lack of space: their next sync says so, once.
    unheard: HashSet<u64>,
    /// How long syncs take.
    pub(super) slow_sync: Duration,
    /// Lets whoever punches a hole wait until it is cleared.
    pub(super) hold_punch: bool,
    /// Whether somebody waits there.
    pub(super) punching: bool,
    /// The names of the files synced, in order.
    pub(super) syncs: Vec<String>,
    /// The names under which files are, by the names they were opened with.
    names: HashMap<u64, String>,
    opened: u64,
    /// What each file held at its last sync.
    pub(super) synced: HashMap<String, Vec<u8>>,
}

/// The storage; a clone is the same.
#[derive(Clone)]
pub(super) struct Faulty {
    pub(super) memory: Memory,
    pub(super) state: Arc<Mutex<State>>,
    pub(super) changed: Arc<Condvar>,
}

impl Faulty {
    pub(super) fn new() -> Faulty {
        Faulty { memory: Memory::new(), state: Arc::default(), changed: Arc::default() }
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.state));
        self.changed.notify_all();
    }

    /// Takes space for what is new of a range, and for the holes that it
    /// meets; `None` if there is not enough.
    fn fill(&self, name: &str, (from, to): (u64, u64), new: u64) -> Option<()> {
        let mut state = lock(&self.state);
        let meets = |hole: &(u64, u64)| hole.0 < to && from < hole.1;
        let holes = state.holes.get(name).into_iter().flatten().filter(|hole| meets(hole));
        let needed = new + holes.map(|hole| hole.1 - hole.0).sum::<u64>();
        if needed > 0
            && let Some(space) = &mut state.space
        {
            *space = space.checked_sub(needed)?;
        }
        if let Some(holes) = state.holes.get_mut(name) {
            holes.retain(|hole| !meets(hole));
        }
        Some(())
    }

    /// What was written to a file is lost, and each of its openings told so once.
    pub(super) fn lose(&self, name: &str) {
        self.set(|state| {
            let openings = state.names.iter().filter(|(_, known)| *known == name);
            state.unheard.extend(openings.map(|(id, _)| *id));
        });
    }

    pub(super) fn get<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&lock(&self.state))
    }
}

struct FaultyFile {
    file: Arc<dyn File>,
    id: u64,
    storage: Faulty,
}

impl FaultyFile {
    fn name(&self) -> String {
        self.storage.get(|state| state.names.get(&self.id).cloned().unwrap_or_default())
    }
}

impl Storage for Faulty {
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let file = self.memory.open(name, access)?;
        let mut state = lock(&self.state);
        state.opened += 1;
        let id = state.opened;
        state.names.insert(id, name.to_owned());
        Ok(Arc::new(FaultyFile { file, id, storage: self.clone() }))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.memory.list(directory)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let length = self.memory.open(name, Access::Read)?.length()?;
        self.memory.remove(name)?;
        self.set(|state| {
            let holes = state.holes.remove(name).unwrap_or_default();
            let punched: u64 = holes.iter().map(|(from, to)| to - from).sum();
            state.space = state.space.map(|space| space + length - punched);
            state.synced.remove(name);
            state.names.retain(|_, known| known != name);
        });
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.memory.rename(from, to)?;
        self.set(|state| {
            if let Some(holes) = state.holes.remove(from) {
                state.holes.insert(to.to_owned(), holes);
            }
            if let Some(bytes) = state.synced.remove(from) {
                state.synced.insert(to.to_owned(), bytes);
            }
            for name in state.names.values_mut().filter(|name| *name == from) {
                *name = to.to_owned();
            }
        });
        Ok(())
    }

    fn create_directory(&self, directory: &str) -> io::Result<()> {
        self.memory.create_directory(directory)
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        self.memory.sync_directory(directory)
    }

    fn lock(&self, exclusive: bool) -> io::Result<LockOutcome> {
        self.memory.lock(exclusive)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.memory.path(name)
    }
}

impl File for FaultyFile {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.file.set_length(length)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let (name, end) = (self.name(), offset + length);
        let new = end.saturating_sub(self.file.length()?.max(offset));
        self.storage.fill(&name, (offset, end), new).ok_or(io::ErrorKind::StorageFull)?;
        self.file.allocate(offset, length)
    }

    fn holds_allocated(&self) -> bool {
        self.storage.get(|state| state.holds)
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        let (name, end) = (self.name(), offset + length);
        assert!(end <= self.file.length()?, "punched behind the end of {name}");
        let mut state = lock(&self.storage.state);
        while state.hold_punch {
            state.punching = true;
            state = self.storage.changed.wait(state).unwrap();
        }
        drop(state);
        self.storage.set(|state| {
            let holes = state.holes.entry(name).or_default();
            let inside = holes.extract_if(.., |hole| offset <= hole.0 && hole.1 <= end);
            let known: u64 = inside.map(|hole| hole.1 - hole.0).sum();
            holes.push((offset, end));
            state.space = state.space.map(|space| space + length - known);
        });
        self.file.punch(offset, length)
    }

    fn map(&self, length: u64, writable: bool) -> io::Result<Map> {
        self.file.map(length, writable)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.storage.get(|state| state.fail_write) {
            return Err(io::Error::other("the device does not write"));
        }
        let mut full = false;
        self.storage.set(|state| {
            full = state.full_writes > 0;
            state.full_writes -= usize::from(full);
        });
        if full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_at(bytes, offset)
    }

    fn write_mapped(&self, map: &Map, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut full = false;
        self.storage.set(|state| {
            full = state.full_mapped > 0;
            state.full_mapped -= usize::from(full);
        });
        if full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let (name, end) = (self.name(), offset + bytes.len() as u64);
        let filled = self.storage.fill(&name, (offset, end), 0);
        assert!(filled.is_some(), "a signal: {name} has a hole at {offset}, the device is full");
        self.file.write_mapped(map, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let name = self.name();
        std::thread::sleep(self.storage.get(|state| state.slow_sync));
        let mut state = lock(&self.storage.state);
        state.syncs.push(name.clone());
        while state.hold_sync && name != TEMPORARY || state.held.contains(&name) {
            state = self.storage.changed.wait(state).unwrap();
        }
        if std::mem::take(&mut state.panic_at_sync) {
            drop(state);
            panic!("a storage that panics");
        }
        if state.unheard.remove(&self.id) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if state.fail_sync {
            return Err(io::Error::other("the device is gone"));
        }
        let mut bytes = vec![0; self.file.length()? as usize];
        self.file.read_at(&mut bytes, 0)?;
        state.synced.insert(name, bytes);
        self.file.sync()
    }
}
