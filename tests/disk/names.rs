//! The names of the files, and which of them are durable.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::support::Random;

/// The directories and files of a disk, by name.
#[derive(Clone, Default)]
pub struct Names {
    /// What everybody sees.
    now: Tree,
    /// What was made durable.
    durable: Tree,
    /// What was done since then, in order.
    pending: Vec<Change>,
}

/// The names at some moment. Files are known by their numbers.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Tree {
    /// The files.
    pub files: BTreeMap<String, u64>,
    /// All directories but the store itself.
    directories: BTreeSet<String>,
}

/// A change of a name.
#[derive(Clone)]
enum Change {
    Directory(String),
    Create(String, u64),
    Remove(String, u64),
    Rename(String, String, u64),
}

/// The directory that a name lies in.
fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

impl Change {
    fn directory(&self) -> &str {
        match self {
            Change::Directory(name) | Change::Create(name, _) => parent(name),
            Change::Remove(name, _) | Change::Rename(name, _, _) => parent(name),
        }
    }
}

impl Tree {
    fn check(&self, directory: &str) -> io::Result<()> {
        let known = directory.is_empty() || self.directories.contains(directory);
        if known { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Makes a change, as far as what it needs is there: a change before it may
    /// not have survived.
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Directory(name) => {
                self.directories.insert(name.clone());
            }
            Change::Create(name, file) => {
                self.files.insert(name.clone(), *file);
            }
            Change::Remove(name, file) => {
                if self.files.get(name) == Some(file) {
                    self.files.remove(name);
                }
            }
            Change::Rename(from, to, file) => {
                if self.files.get(from) == Some(file) {
                    self.files.remove(from);
                }
                self.files.insert(to.clone(), *file);
            }
        }
    }
}

impl Names {
    /// Names that are all durable.
    pub fn durable(tree: Tree) -> Names {
        Names { now: tree.clone(), durable: tree, pending: Vec::new() }
    }

    /// The names that everybody sees.
    pub fn tree(&self) -> &Tree {
        &self.now
    }

    /// Every file that some crash may bring back.
    pub fn all_files(&self) -> BTreeSet<u64> {
        let pending = self.pending.iter().filter_map(|change| match change {
            Change::Directory(_) => None,
            Change::Create(_, file) | Change::Remove(_, file) | Change::Rename(_, _, file) => {
                Some(*file)
            }
        });
        let named = self.now.files.values().chain(self.durable.files.values()).copied();
        named.chain(pending).collect()
    }

    fn change(&mut self, change: Change) {
        self.now.apply(&change);
        self.pending.push(change);
    }

    /// The file of a name.
    pub fn find(&self, name: &str) -> io::Result<u64> {
        self.now.check(parent(name))?;
        self.now.files.get(name).copied().ok_or(io::ErrorKind::NotFound.into())
    }

    /// The names in a directory, without it.
    pub fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.now.check(directory)?;
        let inside = self.now.files.keys().filter(|name| parent(name) == directory);
        Ok(inside.map(|name| name.rsplit('/').next().unwrap_or(name).to_string()).collect())
    }

    /// Creates a directory and its parents.
    pub fn create_directory(&mut self, directory: &str) -> io::Result<()> {
        if directory.is_empty() || self.now.directories.contains(directory) {
            return Ok(());
        }
        self.create_directory(parent(directory))?;
        self.change(Change::Directory(directory.to_string()));
        Ok(())
    }

    /// Gives a new file its name.
    pub fn create(&mut self, name: &str, file: u64) -> io::Result<()> {
        self.now.check(parent(name))?;
        if self.now.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.change(Change::Create(name.to_string(), file));
        Ok(())
    }

    /// Removes a name; returns its file.
    pub fn remove(&mut self, name: &str) -> io::Result<u64> {
        let file = self.find(name)?;
        self.change(Change::Remove(name.to_string(), file));
        Ok(file)
    }

    /// Gives a file another name; returns the file that had it.
    pub fn rename(&mut self, from: &str, to: &str) -> io::Result<Option<u64>> {
        assert_eq!(parent(from), parent(to), "this disk renames within a directory");
        let file = self.find(from)?;
        let replaced = self.now.files.get(to).copied();
        self.change(Change::Rename(from.to_string(), to.to_string(), file));
        Ok(replaced)
    }

    /// Makes the names in a directory durable.
    pub fn sync(&mut self, directory: &str) -> io::Result<()> {
        self.now.check(directory)?;
        let done = self.pending.extract_if(.., |change| change.directory() == directory);
        for change in done {
            self.durable.apply(&change);
        }
        Ok(())
    }

    /// The names that power loss leaves.
    pub fn power_loss(&self, random: &mut Random) -> Tree {
        let mut left = self.durable.clone();
        let odds = [0, 8, random.below(9)][random.below(3) as usize];
        for change in &self.pending {
            if random.below(8) < odds {
                left.apply(change);
            }
        }
        // What was in a directory is gone with it.
        let Tree { files, directories } = &mut left;
        files.retain(|name, _| parent(name).is_empty() || directories.contains(parent(name)));
        left
    }
}
