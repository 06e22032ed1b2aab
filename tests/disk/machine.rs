//! The machine around the medium: calls, steps, crashes, faults, space.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use swissdb::storage::memory::Memory;
use swissdb::storage::{Access, Storage};

use super::image::Image;
use super::inode::{Inode, sectors};
use super::names::Names;
use super::sparse::BLOCK;
use crate::support::Random;

/// The kinds of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Open,
    Create,
    List,
    Remove,
    Rename,
    CreateDirectory,
    SyncDirectory,
    Lock,
    Length,
    SetLength,
    Allocate,
    Punch,
    Map,
    Read,
    Write,
    WriteMapped,
    Sync,
}

impl Kind {
    /// Whether it changes what is on the disk, or makes it durable.
    pub fn is_step(self) -> bool {
        use Kind::*;
        !matches!(self, Open | List | Lock | Length | Map | Read)
    }

    fn is_sync(self) -> bool {
        matches!(self, Kind::Sync | Kind::SyncDirectory)
    }
}

/// A call of the storage.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    pub kind: Kind,
    pub name: &'a str,
    pub inode: Option<u64>,
    pub offset: u64,
    pub length: u64,
    /// What is written.
    pub bytes: &'a [u8],
}

impl<'a> Call<'a> {
    /// A call that concerns a name.
    pub fn of(kind: Kind, name: &'a str) -> Call<'a> {
        Call { kind, name, inode: None, offset: 0, length: 0, bytes: &[] }
    }
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// With this error; nothing was done. A sync may have done some of it.
    Error(io::ErrorKind),
    /// With this error, after half of the bytes were written.
    Short(io::ErrorKind),
}

/// A call that failed because it was told to.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub kind: Kind,
    pub name: String,
    pub offset: u64,
    pub fault: Fault,
}

/// How a call is to fail; `None` if it is not meant.
pub type Choose = Box<dyn Fn(&Call<'_>) -> Option<Fault> + Send>;

/// A fault to come.
pub struct Plan {
    /// Calls that are meant until then.
    left: u64,
    choose: Choose,
}

/// The middle of a call that changes something.
pub struct Moment<'a> {
    machine: &'a Machine,
    /// The call that is under way.
    pub call: Call<'a>,
    /// Its number among the steps, from 1.
    pub step: u64,
}

/// Who is called at every step.
type Watcher = Box<dyn FnMut(&Moment<'_>) + Send>;

/// A disk with the machine around it.
pub struct Machine {
    pub names: Names,
    pub inodes: BTreeMap<u64, Inode>,
    memory: Memory,
    next_inode: u64,
    pub random: Random,
    /// The process that may make calls.
    process: u32,
    exclusive: bool,
    shared: u32,
    pub calls: u64,
    pub steps: u64,
    pub crash_at: u64,
    /// Whether the power is gone.
    pub dead: bool,
    pub wreck: Option<Image>,
    pub watcher: Option<Watcher>,
    pub plan: Option<Plan>,
    pub outcome: Option<Outcome>,
    pub capacity: Option<u64>,
    pub bus_errors: u64,
}

impl Moment<'_> {
    /// What power loss in this moment leaves, for one.
    pub fn power_loss(&self, seed: u64) -> Image {
        let mut random = Random::unprinted(seed);
        self.machine.power_loss_with(&mut random, Some(&self.call))
    }

    /// What the death of the process leaves.
    pub fn kill(&self) -> Image {
        Image::of_killed(self.machine)
    }
}

impl Machine {
    /// An empty disk.
    pub fn new(seed: u64) -> Machine {
        Machine {
            names: Names::default(),
            inodes: BTreeMap::new(),
            memory: Memory::new(),
            next_inode: 1,
            random: Random::unprinted(seed),
            process: 0,
            exclusive: false,
            shared: 0,
            calls: 0,
            steps: 0,
            crash_at: 0,
            dead: false,
            wreck: None,
            watcher: None,
            plan: None,
            outcome: None,
            capacity: None,
            bus_errors: 0,
        }
    }

    /// Makes a call, unless the disk fails it.
    pub fn call<T>(
        &mut self,
        process: u32,
        call: &Call<'_>,
        run: impl FnOnce(&mut Machine) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.dead || process != self.process {
            return Err(io::Error::other("the power is off"));
        }
        self.calls += 1;
        if let Some(fault) = self.next_fault(call) {
            return Err(self.fail(call, fault));
        }
        if !call.kind.is_step() {
            return run(self);
        }
        // A sync is cut off before it is done, a write when it is in the cache.
        if call.kind.is_sync() {
            self.step(call)?;
            return run(self);
        }
        let value = run(self)?;
        self.step(call)?;
        Ok(value)
    }

    /// The moment in the middle of a call.
    fn step(&mut self, call: &Call<'_>) -> io::Result<()> {
        self.steps += 1;
        self.write_back();
        if let Some(mut watcher) = self.watcher.take() {
            let step = self.steps;
            watcher(&Moment { machine: self, call: *call, step });
            self.watcher = Some(watcher);
        }
        if self.steps == self.crash_at {
            self.wreck = Some(self.power_loss(Some(call)));
            self.dead = true;
            return Err(io::Error::other("the power goes off"));
        }
        Ok(())
    }

    /// Now and then some of what is dirty gets to the medium by itself.
    fn write_back(&mut self) {
        if !self.random.one_in(16) {
            return;
        }
        let numbers: Vec<u64> = self.inodes.keys().copied().collect();
        if numbers.is_empty() {
            return;
        }
        let number = numbers[self.random.below(numbers.len() as u64) as usize];
        let Machine { inodes, random, .. } = self;
        let inode = inodes.get_mut(&number).expect("it is one of them");
        if !inode.dirty.is_empty() {
            inode.write_back(|_| random.one_in(2));
        }
    }

    /// What power loss leaves, with the disk's own choices.
    pub fn power_loss(&mut self, call: Option<&Call<'_>>) -> Image {
        let mut random = Random::unprinted(self.random.next());
        self.power_loss_with(&mut random, call)
    }

    fn power_loss_with(&self, random: &mut Random, call: Option<&Call<'_>>) -> Image {
        let names = Names::durable(self.names.power_loss(random));
        let under_way = |number: u64| -> Range<u64> {
            match call {
                Some(call) if call.inode == Some(number) => match call.kind {
                    Kind::Sync => 0..u64::MAX,
                    Kind::Write | Kind::WriteMapped => sectors(call.offset, call.length),
                    _ => 0..0,
                },
                _ => 0..0,
            }
        };
        let mut image = Image::new(names);
        for (name, &number) in &image.names.tree().files.clone() {
            let inode = &self.inodes[&number];
            let torn = name.starts_with("log/");
            let medium = inode.power_loss(random, &under_way(number), torn);
            image.add(number, medium, inode.taken.clone());
        }
        image
    }

    /// Ends the process; returns the number of the next one.
    pub fn kill(&mut self) -> u32 {
        self.process += 1;
        (self.exclusive, self.shared) = (false, 0);
        (self.watcher, self.plan) = (None, None);
        let Machine { inodes, random, .. } = self;
        inodes.values_mut().for_each(|inode| inode.forget_lost(random));
        self.process
    }

    /// Plans a fault.
    pub fn plan(&mut self, nth: u64, choose: Choose) {
        self.plan = Some(Plan { left: nth, choose });
        self.outcome = None;
    }

    fn next_fault(&mut self, call: &Call<'_>) -> Option<Fault> {
        let plan = self.plan.as_mut()?;
        let fault = (plan.choose)(call)?;
        plan.left -= 1;
        if plan.left > 0 {
            return None;
        }
        self.plan = None;
        Some(fault)
    }

    fn fail(&mut self, call: &Call<'_>, fault: Fault) -> io::Error {
        let (kind, name, offset) = (call.kind, call.name.to_string(), call.offset);
        self.outcome = Some(Outcome { kind, name, offset, fault });
        let Machine { inodes, random, .. } = self;
        let inode = call.inode.and_then(|number| inodes.get_mut(&number));
        match (fault, inode) {
            (Fault::Short(_), Some(inode)) if !call.bytes.is_empty() => {
                let half = &call.bytes[..call.bytes.len() / 2];
                inode.write(half, call.offset).expect("write to memory");
            }
            (_, Some(inode)) if call.kind == Kind::Sync => inode.fail_sync(random),
            _ => {}
        }
        let (Fault::Error(kind) | Fault::Short(kind)) = fault;
        io::Error::new(kind, "the disk was told to fail")
    }

    /// An open file. It is there as long as the machine is.
    pub fn inode(&mut self, number: u64) -> &mut Inode {
        self.inodes.get_mut(&number).expect("files are kept")
    }

    /// Adds a file; returns its number.
    pub fn add(&mut self, number: u64) -> io::Result<u64> {
        self.next_inode = self.next_inode.max(number + 1);
        let cache = self.memory.open(&number.to_string(), Access::Create)?;
        self.inodes.insert(number, Inode::new(cache));
        Ok(number)
    }

    /// Creates a file.
    pub fn create(&mut self, name: &str) -> io::Result<u64> {
        self.names.create(name, self.next_inode)?;
        self.add(self.next_inode)
    }

    /// Removes a file; its space is free at once.
    pub fn remove(&mut self, name: &str) -> io::Result<()> {
        let number = self.names.remove(name)?;
        self.inode(number).taken = Arc::default();
        Ok(())
    }

    /// Renames a file.
    pub fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        if let Some(replaced) = self.names.rename(from, to)? {
            self.inode(replaced).taken = Arc::default();
        }
        Ok(())
    }

    /// Makes the names in a directory durable. Files that nobody can find any
    /// more are forgotten.
    pub fn sync_directory(&mut self, directory: &str) -> io::Result<()> {
        self.names.sync(directory)?;
        let named = self.names.all_files();
        let gone = |(number, inode): &(&u64, &Inode)| {
            !named.contains(*number) && Arc::strong_count(&inode.handles) == 1
        };
        let gone: Vec<u64> = self.inodes.iter().filter(gone).map(|(number, _)| *number).collect();
        for number in gone {
            self.inodes.remove(&number);
            self.memory.remove(&number.to_string())?;
        }
        Ok(())
    }

    /// Takes the lock of the store, if it is free.
    pub fn take_lock(&mut self, exclusive: bool) -> bool {
        if self.exclusive || (exclusive && self.shared > 0) {
            return false;
        }
        self.exclusive = exclusive;
        self.shared += u32::from(!exclusive);
        true
    }

    /// Gives the lock back, if it is still that process's.
    pub fn give_lock_back(&mut self, process: u32, exclusive: bool) {
        if process == self.process {
            self.exclusive &= !exclusive;
            self.shared -= u32::from(!exclusive);
        }
    }

    /// The space that all files take, in bytes.
    pub fn used(&self) -> u64 {
        let blocks: usize = self.inodes.values().map(|inode| inode.taken.len()).sum();
        blocks as u64 * BLOCK as u64
    }

    /// Takes space for a range of a file.
    pub fn take_space(&mut self, number: u64, offset: u64, length: u64) -> io::Result<()> {
        let new = self.inode(number).untaken(offset, length);
        if new.is_empty() {
            return Ok(());
        }
        if let Some(capacity) = self.capacity
            && self.used() + new.len() as u64 * BLOCK as u64 > capacity
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Arc::make_mut(&mut self.inode(number).taken).extend(new);
        Ok(())
    }
}
