//! A store, and what it may hold after power loss: what some first part of its
//! changes makes, and no less than was durable.

use swissdb::{Db, Options};

use crate::disk::{Disk, Image};
use crate::power::check::open;
use crate::support::{Model, assert_clean, pairs};

/// A change of the default table.
#[derive(Clone)]
pub enum Change {
    Put(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
    Clear,
}

/// A store with its changes so far.
pub struct Tale {
    pub disk: Disk,
    pub db: Db,
    pub options: Options,
    pub changes: Vec<Change>,
    /// How many of them were acknowledged as durable.
    pub durable: usize,
}

impl Tale {
    /// A new store.
    pub fn new(seed: u64, options: Options) -> Tale {
        let disk = Disk::new(seed);
        let db = open(&disk, &options);
        Tale { disk, db, options, changes: Vec::new(), durable: 0 }
    }

    /// Inserts or overwrites an entry.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        let (key, value) = (key.into(), value.into());
        self.db.insert(&key, &value).expect("insert");
        self.changes.push(Change::Put(key, value));
    }

    /// Notes that an entry was inserted or overwritten.
    pub fn changed(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push(Change::Put(key, value));
    }

    /// Removes an entry that is there.
    pub fn remove(&mut self, key: impl Into<Vec<u8>>) {
        let key = key.into();
        assert!(self.db.remove(&key).expect("remove"));
        self.changes.push(Change::Remove(key));
    }

    /// Makes all changes durable.
    pub fn sync(&mut self) {
        self.db.sync().expect("sync");
        self.durable = self.changes.len();
    }

    /// Makes all changes durable in the table file.
    pub fn checkpoint(&mut self) {
        self.db.checkpoint().expect("checkpoint");
        self.durable = self.changes.len();
    }

    /// What its changes make.
    pub fn model(&self) -> Model {
        let mut model = Model::new();
        self.changes.iter().for_each(|change| apply(&mut model, change));
        model
    }

    /// Fails unless a store holds what some first part of the changes makes,
    /// those that are durable included. Returns how many.
    pub fn check(&self, db: &Db) -> usize {
        let found: Model = pairs(db.iter()).collect();
        assert_clean(db);
        let mut model = Model::new();
        for count in 0..=self.changes.len() {
            if count >= self.durable && model == found {
                return count;
            }
            self.changes.get(count).into_iter().for_each(|change| apply(&mut model, change));
        }
        let (durable, all) = (self.durable, self.changes.len());
        panic!("{} entries: no state after {durable} to {all} changes", found.len());
    }

    /// Opens an image and checks it. Returns after how many changes it is.
    pub fn check_image(&self, image: &Image, seed: u64) -> usize {
        self.check(&open(&Disk::boot(image, seed), &self.options))
    }

    /// Checks what power loss now may leave, many times over. Returns after how
    /// many changes each is.
    pub fn check_fates(&self) -> Vec<usize> {
        (0..12).map(|seed| self.check_image(&self.disk.wreck(), seed)).collect()
    }
}

fn apply(model: &mut Model, change: &Change) {
    match change {
        Change::Put(key, value) => drop(model.insert(key.clone(), value.clone())),
        Change::Remove(key) => drop(model.remove(key)),
        Change::Clear => model.clear(),
    }
}
