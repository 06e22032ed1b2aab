//! The life of a store: filled one by one, read, overwritten, emptied.
//!
//! The phases follow each other in one process and one store. After each one
//! the store is settled (made durable): how long that takes is a workload of
//! its own, `…-settle`, and what it writes and computes counts as used by the
//! phase. If the cap stops a phase that later ones build on, the rest is done
//! in batches, without a clock.
//!
//! What a phase wrote is looked at before the next one (`require`): entries that were
//! written have the version of that phase, those that were removed are gone.
//!
//! After everything was filled or overwritten the store may come to rest: background
//! threads that still sort what was written would take processors from what comes
//! next. Before the first reads all is read once, so that caches are full. What is
//! written meanwhile is told of (`…-rest`), and so is what is written, and how long it
//! takes, until the store is closed after its last phase (`close`): what a store puts
//! off is its own all the same.
//!
//! The same in short, filling, getting and overwriting, is done with values of
//! other lengths.

use super::{Child, number_sum};
use crate::Outcome;
use crate::compare::entries::{Group, Key, Shape, Zipfian};
use crate::compare::measure::{Timed, Used, each, each_of, timed, wait_for_rest};
use crate::compare::store::Store;

/// Keys in one call of `get-batch`.
const TOGETHER: u64 = 64;

/// A store in the middle of its life.
struct Life<'a, S> {
    child: &'a Child,
    shape: Shape,
    store: S,
    /// How often everything was written.
    version: u64,
    /// Bytes that were written since the last phase while it was looked at.
    unseen: u64,
}

/// All phases.
pub fn run<S: Store>(child: &Child) -> Outcome {
    let shape = child.shape(16, 32);
    let store = child.open::<S>(shape, false)?;
    let mut life = Life { child, shape, store, version: 0, unseen: 0 };
    life.fill()?;
    life.get("get", &shape.order(3))?;
    life.miss()?;
    life.get("get-zipfian", &zipfian(shape, 31))?;
    life.get_batch()?;
    life.iterate()?;
    life.overwrite()?;
    for (name, reads, seed) in
        [("ycsb-b", 95, 37), ("ycsb-c", 100, 41), ("ycsb-a", 50, 43), ("ycsb-f", 50, 47)]
    {
        life.ycsb(name, reads, seed)?;
    }
    life.remove()?;
    life.close()
}

/// Filling, getting and overwriting values of one length.
pub fn values<S: Store>(child: &Child, value_bytes: usize, entries: u64) -> Outcome {
    let shape = Shape { entries, ..child.shape(16, value_bytes) };
    let store = child.open::<S>(shape, false)?;
    let mut life = Life { child, shape, store, version: 0, unseen: 0 };
    life.fill()?;
    life.get("get", &shape.order(3))?;
    // No reads follow that it would have to come to rest for: that is part of closing.
    life.write_all("overwrite", &shape.order(5), 1)?;
    life.close()
}

/// As many numbers as there are entries, the popular ones often.
fn zipfian(shape: Shape, seed: u64) -> Vec<u32> {
    Zipfian::new(shape.entries, seed).take(shape.entries as usize).collect()
}

impl<S: Store> Life<'_, S> {
    /// Measures one phase, and what settling takes after it. Of a hundred
    /// operations, `writes` are writes.
    fn phase(
        &mut self,
        name: &str,
        writes: u64,
        work: impl FnOnce(&mut Self) -> Outcome<Timed>,
    ) -> Outcome<Timed> {
        let child = self.child;
        self.unseen = 0;
        let since = child.since();
        let timed = work(self)?;
        let settled = each(1, child.cap, |_| self.store.settle().map(|()| 0))?;
        let used = since.used();
        if child.wants(name) {
            let written = timed.ops * writes / 100;
            child.print(name, self.shape, 1, timed)?;
            if writes > 0 {
                child.print(&format!("{name}-settle"), self.shape, 1, settled)?;
            }
            child.whose.used(name, self.shape, used, (timed.ops, written))?;
        }
        Ok(timed)
    }

    /// Looks at the store after a phase, unmeasured.
    fn look(&mut self, look: impl FnOnce(&mut S) -> Outcome) -> Outcome {
        self.unseen += super::written_by(|| look(&mut self.store))?;
        Ok(())
    }

    /// Writes what a phase left over, and waits until the store has come to rest.
    fn rest(&mut self, name: &str, order: &[u32], from: u64) -> Outcome {
        let mut group = Group::new(self.shape);
        for numbers in order[from as usize..].chunks(super::BATCH) {
            let numbers = numbers.iter().map(|number| u64::from(*number));
            self.store.insert_all(group.fill(numbers, self.version))?;
        }
        self.store.settle()?;
        let since = self.child.since();
        wait_for_rest();
        let used = since.used();
        let used = Used { written: used.written + std::mem::take(&mut self.unseen), ..used };
        if !self.child.wants(name) {
            return Ok(());
        }
        self.child.whose.used(&format!("{name}-rest"), self.shape, used, (0, 0))
    }

    fn close(self) -> Outcome {
        super::close(self.child, "close", self.shape, self.store, self.unseen)
    }

    /// Reads everything once, so that a cache that is filled by reads is full.
    fn warm_up(&mut self) -> Outcome {
        self.see_all(|_, _| ())
    }

    /// Shows all entries, and fails unless it was all of them.
    fn see_all(&mut self, mut look: impl FnMut(&[u8], &[u8])) -> Outcome {
        let mut count = 0;
        self.store.iterate(|key, value| {
            count += 1;
            look(key, value);
        })?;
        match count == self.shape.entries {
            true => Ok(()),
            false => Err(format!("{count} entries came of {}", self.shape.entries).into()),
        }
    }

    /// Writes all entries, until the cap; says how many.
    fn write_all(&mut self, name: &str, order: &[u32], version: u64) -> Outcome<u64> {
        let (shape, cap) = (self.shape, self.child.cap);
        let mut done = 0;
        if self.child.wants(name) {
            let timed = self.phase(name, 100, |life| {
                let mut values = shape.values();
                each(shape.entries, cap, |i| {
                    let number = u64::from(order[i as usize]);
                    life.store.insert(&shape.key(number), values.of(number, version))?;
                    Ok(0)
                })
            })?;
            done = timed.ops;
        }
        self.version = version;
        let written = super::sample(done).map(|i| u64::from(order[i as usize]));
        self.look(|store| super::require(store, shape, written, version))?;
        Ok(done)
    }

    fn fill(&mut self) -> Outcome {
        // The keys are random: in the order of the numbers, they come at random.
        let order: Vec<u32> = (0..self.shape.entries as u32).collect();
        let done = self.write_all("fill", &order, 0)?;
        self.rest("fill", &order, done)?;
        self.warm_up()
    }

    fn overwrite(&mut self) -> Outcome {
        let order = self.shape.order(5);
        let done = self.write_all("overwrite", &order, self.version + 1)?;
        self.rest("overwrite", &order, done)
    }

    fn get(&mut self, name: &str, order: &[u32]) -> Outcome {
        if !self.child.wants(name) {
            return Ok(());
        }
        let (shape, cap) = (self.shape, self.child.cap);
        self.phase(name, 0, |life| {
            let number = |i: u64| u64::from(order[i as usize]);
            let ready = |i| (number(i), shape.key(number(i)));
            each_of(shape.entries, cap, ready, |_, (number, key)| {
                super::get_ready(&mut life.store, shape, *number, key)
            })
        })
        .map(drop)
    }

    fn miss(&mut self) -> Outcome {
        if !self.child.wants("miss") {
            return Ok(());
        }
        let (shape, cap) = (self.shape, self.child.cap);
        self.phase("miss", 0, |life| {
            each_of(
                shape.entries,
                cap,
                |i| shape.absent(i),
                |_, key| match life.store.get(key, |_| ())? {
                    false => Ok(0),
                    true => Err("a key that was never written is there".into()),
                },
            )
        })
        .map(drop)
    }

    fn get_batch(&mut self) -> Outcome {
        if !self.child.wants("get-batch") {
            return Ok(());
        }
        let (shape, cap) = (self.shape, self.child.cap);
        let order = shape.order(7);
        let mut keys: Vec<Key> = Vec::new();
        self.phase("get-batch", 0, |life| {
            timed(shape.entries, TOGETHER, cap, |range| {
                let numbers = &order[range.start as usize..range.end as usize];
                keys.clear();
                keys.extend(numbers.iter().map(|number| shape.key(u64::from(*number))));
                let (mut sum, mut sound) = (0u64, 0);
                let found = life.store.get_all(&keys, |place, value| {
                    if let Some(taste) = shape.taste(u64::from(numbers[place]), value) {
                        (sum, sound) = (sum.wrapping_add(taste), sound + 1);
                    }
                })?;
                match (found, sound) == (keys.len() as u64, keys.len()) {
                    true => Ok(sum),
                    false => Err(format!("{sound} sound values of {found} found").into()),
                }
            })
        })
        .map(drop)
    }

    fn iterate(&mut self) -> Outcome {
        if !self.child.wants("iterate") {
            return Ok(());
        }
        let shape = self.shape;
        self.phase("iterate", 0, |life| {
            let mut sum = 0u64;
            let mut timed = each(1, std::time::Duration::MAX, |_| {
                life.see_all(|key, value| {
                    sum = sum.wrapping_add(number_sum(key)).wrapping_add(number_sum(value));
                })?;
                Ok(0)
            })?;
            (timed.ops, timed.sum) = (shape.entries, sum);
            Ok(timed)
        })
        .map(drop)
    }

    /// Reads and updates of popular entries; `reads` of a hundred are reads, and
    /// in YCSB F an update reads first.
    fn ycsb(&mut self, name: &str, reads: u64, seed: u64) -> Outcome {
        if !self.child.wants(name) {
            return Ok(());
        }
        let (shape, cap) = (self.shape, self.child.cap);
        let order = zipfian(shape, seed);
        let (mut values, version) = (shape.values(), self.version + 1);
        self.version = version;
        let is_read = |i: u64| crate::data::mix(seed ^ i << 8) % 100 < reads;
        let done = self.phase(name, 100 - reads, |life| {
            each(shape.entries, cap, |i| {
                let number = u64::from(order[i as usize]);
                let sum = match is_read(i) || name == "ycsb-f" {
                    true => super::get(&mut life.store, shape, number)?,
                    false => 0,
                };
                if !is_read(i) {
                    life.store.insert(&shape.key(number), values.of(number, version))?;
                }
                Ok(sum)
            })
        })?;
        // A store that was stopped early holds other versions from here on.
        if done.capped {
            self.child.stop_checking();
        }
        let written = super::sample(done.ops).filter(|i| !is_read(*i));
        let written = written.map(|i| u64::from(order[i as usize]));
        self.look(|store| super::require(store, shape, written, version))
    }

    fn remove(&mut self) -> Outcome {
        if !self.child.wants("remove") {
            return Ok(());
        }
        let (shape, cap) = (self.shape, self.child.cap);
        let order = shape.order(11);
        let removed = self.phase("remove", 100, |life| {
            each(shape.entries, cap, |i| {
                life.store.remove(&shape.key(u64::from(order[i as usize])))?;
                Ok(0)
            })
        })?;
        self.look(|store| {
            for i in super::sample(removed.ops) {
                if store.get(&shape.key(u64::from(order[i as usize])), |_| ())? {
                    return Err("an entry that was removed is there".into());
                }
            }
            Ok(())
        })
    }
}
