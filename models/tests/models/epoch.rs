//! The reuse epoch: a pointer to a place, and the place used again.
//!
//! Goal: a reader that finds the epoch unchanged has read a place as it was
//! while the pointer led to it. Method: `storage/epoch.rs` as it is, with one
//! pointer and two places; the writer lets go of one and uses it again.

use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::{Relaxed, Release};

use crate::harness::check;
use crate::storage::epoch::ReuseEpoch;

struct World {
    epoch: ReuseEpoch,
    /// The number of the place that is in use.
    pointer: AtomicU64,
    /// What belongs to the pointer is below 10.
    places: [AtomicU64; 2],
}

fn reuse() {
    let world = Arc::new(World {
        epoch: ReuseEpoch::new().expect("a page of memory"),
        pointer: AtomicU64::new(0),
        places: [AtomicU64::new(1), AtomicU64::new(2)],
    });
    let reader = {
        let world = world.clone();
        loom::thread::spawn(move || {
            let seen = world.epoch.read();
            let place = world.pointer.load(Relaxed);
            let found = world.places[place as usize].load(Relaxed);
            if world.epoch.unchanged(seen) {
                assert!(found < 10, "the place was used again, and the reader does not notice");
            }
        })
    };
    world.pointer.store(1, Release);
    world.epoch.advance();
    world.places[0].store(10, Relaxed);
    reader.join().expect("the reader ends");
}

#[test]
fn a_reader_notices_that_a_place_was_used_again() {
    check("epoch", reuse);
}
