//! Pins: a value that is replaced while a reader holds it.
//!
//! Goal: a value ends only when nobody holds it, and when everything that its
//! readers did happened before. Method: `storage/pins.rs` as it is; the values
//! are atomics whose end is an exclusive access, which the checker compares
//! with all others.

use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::Relaxed;

use crate::harness::check;
use crate::storage::pins::{Protected, pin};

/// What can end.
pub(crate) trait Ends: Send + Sync + 'static {
    fn end(&mut self);
}

/// A value: 1 while it lives.
struct Mortal(AtomicU64);

impl Ends for Mortal {
    fn end(&mut self) {
        self.0.with_mut(|value| *value = 0);
    }
}

fn mortal() -> Box<Mortal> {
    Box::new(Mortal(AtomicU64::new(1)))
}

fn read(place: &Protected<Mortal>) {
    let pin = pin();
    assert_eq!(place.load(&pin).0.load(Relaxed), 1, "the value has ended");
}

/// A reader beside a writer who replaces the value and frees the old one.
fn replace() {
    let place = Arc::new(Protected::new(mortal()));
    let reader = {
        let place = place.clone();
        loom::thread::spawn(move || read(&place))
    };
    let retired = place.replace(mortal());
    let _ = retired.try_free();
    reader.join().expect("the reader ends");
}

/// A reader that pins twice: the writer may find its second pin.
fn pin_again() {
    let place = Arc::new(Protected::new(mortal()));
    let reader = {
        let place = place.clone();
        loom::thread::spawn(move || {
            read(&place);
            drop(pin());
        })
    };
    let retired = place.replace(mortal());
    let _ = retired.try_free();
    reader.join().expect("the reader ends");
}

/// Two readers, of which the second may take the slot of the first.
fn slot_of_another() {
    let place = Arc::new(Protected::new(mortal()));
    let readers = {
        let place = place.clone();
        loom::thread::spawn(move || {
            let first = place.clone();
            loom::thread::spawn(move || read(&first)).join().expect("the first reader ends");
            read(&place);
        })
    };
    let retired = place.replace(mortal());
    let _ = retired.try_free();
    readers.join().expect("the readers end");
}

#[test]
fn a_value_ends_only_when_nobody_holds_it() {
    check("pins", replace);
}

#[test]
fn a_later_pin_of_the_same_thread_hides_nothing() {
    check("pins, again", pin_again);
}

#[test]
fn a_slot_that_changes_hands_hides_nothing() {
    crate::harness::hold_within("pins, slot of another", 2, slot_of_another);
}
