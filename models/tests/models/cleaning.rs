//! The cleaner: a value is put into another log file, and its old file goes.
//!
//! Goal: a reader under a pin reads the value out of the file that the slot
//! names, or finds that there is no such file; and then it can see that the
//! table was changed, so that it tries again and reports no damage. Method:
//! `storage/pins.rs` as it is, around it the steps of `Writer::put`,
//! `Log::retire`, `Next::superfluous` and `Store::while_it_changes`, by name.

use loom::sync::Arc;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::sync::atomic::{AtomicU64, fence};

use crate::harness::check;
use crate::mutant;
use crate::pins::Ends;
use crate::storage::pins::{self, Protected};

/// Which files there are.
struct FileSet([bool; 2]);

impl Ends for FileSet {
    fn end(&mut self) {}
}

struct World {
    /// The file that the slot names.
    slot: AtomicU64,
    /// How often the table was changed.
    changes: AtomicU64,
    set: Protected<FileSet>,
    /// What is in each file: 1 is the value, 2 is of the file's next life.
    files: [AtomicU64; 2],
}

/// A read: `Store::while_it_changes` around a lookup under a pin.
fn read(world: &World) {
    let before = world.changes.load(Acquire);
    let pin = pins::pin();
    // The slot, and the fence that ends the look at it.
    let file = world.slot.load(Relaxed) as usize;
    fence(Acquire);
    if world.set.load(&pin).0[file] {
        assert_eq!(world.files[file].load(Relaxed), 1, "a value of the file's next life");
    } else {
        assert!(world.changes.load(Acquire) != before, "damage where there is none");
    }
}

/// The cleaner and the checkpoint after it.
fn clean(world: &World) {
    let count = || world.changes.store(1, Release);
    world.files[1].store(1, Relaxed);
    // `Writer::put`: the slot under its version, then the count.
    if mutant::is("a change is counted before it is made") {
        count();
    }
    fence(Release);
    world.slot.store(1, Relaxed);
    if !mutant::is("a change is counted after the file is gone") {
        count();
    }
    // `Log::retire`.
    let _old = world.set.replace(Box::new(FileSet([false, true])));
    let epoch = pins::advance();
    // `Next::superfluous`, and the file's next life.
    if pins::quiescent(epoch) || mutant::is("a file is recycled under its readers") {
        world.files[0].store(2, Relaxed);
    }
}

fn cleaning() {
    let world = Arc::new(World {
        slot: AtomicU64::new(0),
        changes: AtomicU64::new(0),
        set: Protected::new(Box::new(FileSet([true, false]))),
        files: [AtomicU64::new(1), AtomicU64::new(0)],
    });
    // The file that the value is put into is active already.
    let _old = world.set.replace(Box::new(FileSet([true, true])));
    let reader = {
        let world = world.clone();
        loom::thread::spawn(move || read(&world))
    };
    clean(&world);
    reader.join().expect("the reader ends");
}

#[test]
fn a_reader_gets_the_value_or_sees_that_it_was_moved() {
    check("cleaner", cleaning);
}
