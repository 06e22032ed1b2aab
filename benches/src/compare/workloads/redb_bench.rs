//! The workloads of redb's own benchmark, with keys of 24 and values of 150 bytes.
//!
//! As in `crates/redb-bench` of redb, in its order: a bulk load (one transaction
//! where the store takes it), single and batched durable writes, single writes
//! without a sync, random reads of 1 to 32 threads, the removal of half of all
//! entries, and the size of the files before and after compaction. All but the
//! writes without a sync are durable. Left out is what a hash table has no order
//! for: ranges and the first and last entries. The bulk load has as many entries as
//! the comparison; redb's has five million.

use std::sync::Mutex;
use std::thread::scope;
use std::time::Instant;

use super::space::disk_bytes;
use super::{Child, get};
use crate::Outcome;
use crate::compare::entries::{Group, Key, Shape};
use crate::compare::lines::More;
use crate::compare::measure::{Timed, each};
use crate::compare::store::Store;
use crate::data::mix;

/// Readers, as there.
const READERS: [usize; 5] = [1, 4, 8, 16, 32];

/// Entries in a batch, as there.
const BATCH: u64 = 1_000;

/// Single durable writes, as there.
const SINGLE: u64 = 1_000;

/// The benchmark with one store.
struct Bench<'a, S> {
    child: &'a Child,
    shape: Shape,
    store: Option<S>,
    /// Entries that were inserted so far, numbered from 0.
    inserted: u64,
}

/// All of it.
pub fn run<S: Store>(child: &Child) -> Outcome {
    let shape = child.shape(24, 150);
    let mut bench: Bench<S> = Bench { child, shape, store: None, inserted: 0 };
    bench.reopen(true)?;
    bench.bulk_load()?;
    bench.single_writes("redb-individual-writes", SINGLE)?;
    bench.batch_writes((shape.entries / 50_000).clamp(10, 100))?;
    bench.reopen(false)?;
    bench.single_writes("redb-nosync-writes", (shape.entries / 100).clamp(1_000, 50_000))?;
    bench.store()?.settle()?;
    bench.reopen(true)?;
    for threads in READERS {
        bench.random_reads(threads)?;
    }
    bench.removals()?;
    bench.sizes()?;
    bench.store.take().ok_or("the store is open")?.close()
}

impl<S: Store> Bench<'_, S> {
    fn store(&mut self) -> Outcome<&mut S> {
        Ok(self.store.as_mut().ok_or("the store is not open")?)
    }

    /// Goes on with the store in the other class of durability.
    fn reopen(&mut self, sync: bool) -> Outcome {
        if let Some(store) = self.store.take() {
            store.close()?;
        }
        let most = Shape { entries: self.shape.entries + 200_000, ..self.shape };
        self.store = Some(self.child.open(most, sync)?);
        Ok(())
    }

    fn print(&self, workload: &str, threads: usize, timed: Timed) -> Outcome {
        self.child.whose.time(workload, self.shape, threads, timed, More::default())
    }

    fn bulk_load(&mut self) -> Outcome {
        let entries = self.shape.entries;
        let mut group = Group::new(self.shape);
        group.fill(0..entries, 0);
        self.inserted = entries;
        let store = self.store()?;
        let start = Instant::now();
        group.parts(S::BULK).try_for_each(|part| store.insert_all(part))?;
        let timed = Timed { ops: entries, time: start.elapsed(), capped: false, sum: 0 };
        self.print("redb-bulk-load", 1, timed)
    }

    fn single_writes(&mut self, name: &str, writes: u64) -> Outcome {
        let (shape, cap, first) = (self.shape, self.child.cap, self.inserted);
        let mut values = shape.values();
        let store = self.store()?;
        let timed = each(writes, cap, |i| {
            let number = first + i;
            store.insert(&shape.key(number), values.of(number, 0))?;
            Ok(0)
        })?;
        self.inserted += timed.ops;
        self.print(name, 1, timed)
    }

    fn batch_writes(&mut self, batches: u64) -> Outcome {
        let (shape, cap, first) = (self.shape, self.child.cap, self.inserted);
        let mut group = Group::new(shape);
        let store = self.store()?;
        let timed = crate::compare::measure::timed(batches * BATCH, BATCH, cap, |range| {
            store.insert_all(group.fill(range.start + first..range.end + first, 0))?;
            Ok(0)
        })?;
        self.inserted += timed.ops;
        self.print("redb-batch-writes", 1, timed)
    }

    /// Each thread reads its share of as many random entries as there are.
    fn random_reads(&mut self, threads: usize) -> Outcome {
        let (shape, cap, inserted) = (self.shape, self.child.cap, self.inserted);
        let store = self.store()?;
        let handle = |_| store.handle().map(|handle| Mutex::new(Some(handle)));
        let handles: Option<Vec<_>> = (0..threads).map(handle).collect();
        let handles = handles.ok_or("threads cannot share this store")?;
        let read = |thread: usize| -> Result<Timed, String> {
            let mut handle = handles[thread].lock().map_err(|_| "a thread panicked")?;
            let mut store = handle.take().ok_or("a handle was taken twice")?;
            let random = |i: u64| mix(mix(thread as u64) ^ i) % inserted;
            each(inserted / threads as u64, cap, |i| get(&mut store, shape, random(i)))
                .map_err(|error| error.to_string())
        };
        let read = &read;
        let start = Instant::now();
        let (mut ops, mut capped) = (0, false);
        scope(|scope| -> Outcome {
            let started: Vec<_> =
                (0..threads).map(|thread| scope.spawn(move || read(thread))).collect();
            for thread in started {
                let timed = thread.join().map_err(|_| "a thread panicked")??;
                (ops, capped) = (ops + timed.ops, capped || timed.capped);
            }
            Ok(())
        })?;
        let timed = Timed { ops, time: start.elapsed(), capped, sum: 0 };
        self.print("redb-random-reads", threads, timed)
    }

    /// Half of all entries.
    fn removals(&mut self) -> Outcome {
        let (shape, half) = (self.shape, self.inserted / 2);
        let keys: Vec<Key> = (0..half).map(|number| shape.key(number)).collect();
        let store = self.store()?;
        let start = Instant::now();
        keys.chunks(S::BULK.min(keys.len())).try_for_each(|keys| store.remove_all(keys))?;
        let timed = Timed { ops: half, time: start.elapsed(), capped: false, sum: 0 };
        for number in (0..self.inserted).step_by(97) {
            let found = self.store()?.get(&shape.key(number), |_| ())?;
            if found != (number >= half) {
                return Err(format!("entry {number} is not as it should be").into());
            }
        }
        self.print("redb-removals", 1, timed)
    }

    fn sizes(&mut self) -> Outcome {
        let (child, shape) = (self.child, self.shape);
        let left = self.inserted - self.inserted / 2;
        let size = |phase: &str| -> Outcome {
            child.whose.size("redb-bench", phase, shape, left, disk_bytes(&child.path)?)
        };
        self.store()?.settle()?;
        size("uncompacted")?;
        let start = Instant::now();
        if !self.store()?.compact()? {
            return child.whose.skipped("redb-compact", "it has no call for that");
        }
        let timed = Timed { ops: 1, time: start.elapsed(), capped: false, sum: 0 };
        self.print("redb-compact", 1, timed)?;
        size("compacted")
    }
}
