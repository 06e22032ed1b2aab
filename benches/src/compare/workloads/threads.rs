//! Workloads of several threads, each with a handle of its own, measured by
//! time: durable commits, and readers beside a writer.
//!
//! A line counts what all threads did together; its `ns_per_op` is the time over
//! that count, so that threads that wait side by side make it smaller.

use std::collections::HashSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::scope;
use std::time::{Duration, Instant};

use super::{Child, fill_unmeasured, get, require, stride};
use crate::Outcome;
use crate::compare::entries::Shape;
use crate::compare::lines::More;
use crate::compare::measure::Timed;
use crate::compare::store::Store;
use crate::data::mix;

/// Threads of the durable commits.
const COMMITTERS: [usize; 2] = [1, 16];

/// Readers beside the writer.
const READERS: [usize; 3] = [1, 2, 4];

/// Gets until a reader looks for what was committed meanwhile: as a server that
/// uses one read transaction for a few requests.
const READS_OF_ONE_STATE: u64 = 64;

/// How many operations threads did in how much time. The error of a thread
/// becomes a text on the way.
fn together(
    threads: usize,
    span: Duration,
    one: impl Fn(usize, &dyn Fn() -> bool) -> Outcome<u64> + Sync,
) -> Outcome<Timed> {
    let (barrier, over) = (Barrier::new(threads + 1), AtomicBool::new(false));
    let goes_on = || !over.load(Ordering::Relaxed);
    let of_thread = |thread: usize| -> Result<u64, String> {
        barrier.wait();
        one(thread, &goes_on).map_err(|error| error.to_string())
    };
    let of_thread = &of_thread;
    scope(|scope| {
        let started: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || of_thread(thread))).collect();
        barrier.wait();
        let start = Instant::now();
        std::thread::sleep(span);
        over.store(true, Ordering::Relaxed);
        let mut ops = 0;
        for thread in started {
            ops += thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok(Timed { ops, time: start.elapsed(), capped: false, sum: 0 })
    })
}

/// Commits of one entry each, each of which waits for the device. They begin with an
/// empty store; the second count of threads goes on where the first one ended.
pub fn durable_commits<S: Store>(child: &Child) -> Outcome {
    let shape = child.shape(16, 32);
    let mut store: S = child.open(shape, true)?;
    // What sled calls a flush does not reach the device: see its adapter.
    let syncs = (child.whose.store == "sled").then_some(false);
    for threads in COMMITTERS {
        let handles = handles(&store, threads)?;
        // Numbers that no other thread, and no other count of threads, uses.
        let number = |thread: usize, i: u64| (threads as u64) << 48 | (thread as u64) << 40 | i;
        let committed: Vec<_> = (0..threads).map(|_| AtomicU64::new(0)).collect();
        let timed = together(threads, child.span, |thread, goes_on| {
            let mut store = take(&handles, thread)?;
            let mut values = shape.values();
            let mut done = 0;
            while goes_on() {
                let number = number(thread, done);
                store.insert(&shape.key(number), values.of(number, 0))?;
                done += 1;
            }
            committed[thread].store(done, Ordering::Relaxed);
            Ok(done)
        })?;
        let more = More { syncs, entries_before: Some(0), ..More::default() };
        child.whose.time("durable-commit", shape, threads, timed, more)?;
        store.refresh();
        for (thread, committed) in committed.into_iter().enumerate() {
            let numbers = (0..committed.into_inner()).step_by(stride(timed.ops));
            require(&mut store, shape, numbers.map(|i| number(thread, i)), 0)?;
        }
    }
    store.close()
}

/// Handles for threads, each to be taken by one of them.
type Handles<S> = Vec<std::sync::Mutex<Option<S>>>;

fn handles<S: Store>(store: &S, threads: usize) -> Outcome<Handles<S>> {
    let handle = |_| store.handle().map(|handle| std::sync::Mutex::new(Some(handle)));
    let handles: Option<Handles<S>> = (0..threads).map(handle).collect();
    Ok(handles.ok_or("threads cannot share this store")?)
}

fn take<S>(handles: &Handles<S>, thread: usize) -> Outcome<S> {
    let mut handle = handles[thread].lock().map_err(|_| "a thread panicked")?;
    Ok(handle.take().ok_or("a handle was taken twice")?)
}

/// Readers of random entries beside one writer that overwrites random entries,
/// both as fast as they can.
pub fn beside<S: Store>(child: &Child) -> Outcome {
    let shape = child.shape(16, 32);
    let mut store: S = child.open(shape, false)?;
    fill_unmeasured(&mut store, shape, 0)?;
    for readers in READERS {
        // The last thread is the writer.
        let handles = handles(&store, readers + 1)?;
        let writes = std::sync::Mutex::new(0);
        let timed = together(readers + 1, child.span, |thread, goes_on| {
            let store = take(&handles, thread)?;
            if thread < readers {
                return read(store, shape, thread as u64, goes_on);
            }
            let done = write(store, shape, goes_on)?;
            *writes.lock().map_err(|_| "a thread panicked")? = done;
            Ok(0)
        })?;
        let writes = *writes.lock().map_err(|_| "a thread panicked")?;
        let more = More::default();
        child.whose.time("read-beside-writer", shape, readers, timed, more)?;
        let timed = Timed { ops: writes, ..timed };
        child.whose.time("write-beside-readers", shape, readers, timed, more)?;
        store.refresh();
        let mut seen = HashSet::new();
        for i in (0..writes).rev().take(LAST_WRITES) {
            if seen.insert(overwritten(shape, i)) {
                require(&mut store, shape, std::iter::once(overwritten(shape, i)), version(i))?;
            }
        }
    }
    store.close()
}

/// As many of the last writes are looked at: the last one of an entry is its value.
const LAST_WRITES: usize = 50_000;

/// The entry that a write of the writer is for, and its version.
fn overwritten(shape: Shape, i: u64) -> u64 {
    mix(i ^ 99 << 40) % shape.entries
}

fn version(i: u64) -> u64 {
    1 + i % 1_000
}

fn read<S: Store>(
    mut store: S,
    shape: Shape,
    thread: u64,
    goes_on: &dyn Fn() -> bool,
) -> Outcome<u64> {
    let mut done = 0;
    while goes_on() {
        store.refresh();
        for _ in 0..READS_OF_ONE_STATE {
            get(&mut store, shape, mix(done ^ thread << 40) % shape.entries)?;
            done += 1;
        }
    }
    Ok(done)
}

fn write<S: Store>(mut store: S, shape: Shape, goes_on: &dyn Fn() -> bool) -> Outcome<u64> {
    let mut values = shape.values();
    let mut done = 0;
    while goes_on() {
        let number = overwritten(shape, done);
        store.insert(&shape.key(number), values.of(number, version(done)))?;
        done += 1;
    }
    Ok(done)
}
