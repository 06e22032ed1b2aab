//! What a crash leaves, to start a machine with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::inode::{Inode, SECTOR};
use super::machine::Machine;
use super::names::Names;
use super::sparse::Sparse;

/// A disk as some crash has left it.
#[derive(Clone, Default)]
pub struct Image {
    pub(super) names: Names,
    files: BTreeMap<u64, Content>,
}

/// A file of an image.
#[derive(Clone)]
struct Content {
    medium: Sparse,
    lengths: Vec<u64>,
    /// Sectors that are in the cache only; the second number says whether the
    /// next sync writes them.
    cached: Vec<(u64, bool, [u8; SECTOR])>,
    taken: Arc<BTreeSet<u64>>,
}

impl Image {
    /// A disk with these names; their files are to be added.
    pub(super) fn new(names: Names) -> Image {
        Image { names, files: BTreeMap::new() }
    }

    /// Adds a file, all of which is on the medium.
    pub(super) fn add(&mut self, number: u64, medium: Sparse, taken: Arc<BTreeSet<u64>>) {
        let lengths = vec![medium.length()];
        self.files.insert(number, Content { medium, lengths, cached: Vec::new(), taken });
    }

    /// What a process leaves when it is killed: everything it did, some of
    /// which is not on the medium.
    pub(super) fn of_killed(machine: &Machine) -> Image {
        let mut image = Image::new(machine.names.clone());
        for number in machine.names.all_files() {
            image.files.insert(number, Content::of(&machine.inodes[&number]));
        }
        image
    }

    /// A machine with this disk.
    pub(super) fn to_machine(&self, seed: u64) -> Machine {
        let mut machine = Machine::new(seed);
        machine.names = self.names.clone();
        for (number, content) in &self.files {
            machine.add(*number).expect("take memory for a file");
            content.put_into(machine.inode(*number));
        }
        machine
    }

    /// Writes the files into a directory, as they are read after a crash.
    pub fn save(&self, directory: &Path) {
        let mut machine = self.to_machine(0);
        fs::create_dir_all(directory.join("log")).expect("create a directory");
        for (name, number) in &self.names.tree().files {
            let inode = machine.inode(*number);
            let mut bytes = vec![0; inode.length() as usize];
            inode.cache.read_at(&mut bytes, 0).expect("read from memory");
            fs::write(directory.join(name), bytes).expect("write a file");
        }
    }
}

impl Content {
    fn of(inode: &Inode) -> Content {
        let cached = |dirty: bool| move |at: &u64| (*at, dirty, inode.sector(*at));
        let dirty = inode.dirty.iter().map(cached(true));
        Content {
            medium: inode.medium.clone(),
            lengths: inode.lengths.clone(),
            cached: dirty.chain(inode.lost.iter().map(cached(false))).collect(),
            taken: inode.taken.clone(),
        }
    }

    fn put_into(&self, inode: &mut Inode) {
        inode.medium = self.medium.clone();
        inode.lengths.clone_from(&self.lengths);
        inode.taken.clone_from(&self.taken);
        let length = inode.length();
        inode.cache.set_length(length).expect("take memory for a file");
        let put = |at: u64, bytes: &[u8]| {
            let inside = bytes.len().min(length.saturating_sub(at) as usize);
            inode.cache.write_at(&bytes[..inside], at).expect("write to memory");
        };
        for (at, block) in self.medium.blocks().filter(|(at, _)| *at < length) {
            put(at, block);
        }
        for (sector, _, bytes) in &self.cached {
            let at = sector * SECTOR as u64;
            if at < length {
                put(at, bytes);
            }
        }
        for (sector, dirty, _) in &self.cached {
            let set = if *dirty { &mut inode.dirty } else { &mut inode.lost };
            set.insert(*sector);
        }
    }
}
