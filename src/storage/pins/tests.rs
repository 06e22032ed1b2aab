//! Pins by themselves, and threads that replace a value under others that read it.
//! The counters of the process are shared with tests that run beside these, so
//! only what holds whatever others do is asserted.

use super::*;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// A value that notices being read after it was freed, and counts the living.
struct Canary {
    words: [AtomicU64; 8],
    living: Arc<AtomicUsize>,
}

impl Canary {
    fn new(number: u64, living: &Arc<AtomicUsize>) -> Box<Canary> {
        living.fetch_add(1, SeqCst);
        let words = std::array::from_fn(|_| AtomicU64::new(number));
        Box::new(Canary { words, living: Arc::clone(living) })
    }

    fn number(&self) -> u64 {
        let number = self.words[0].load(Relaxed);
        assert!(self.words.iter().all(|word| word.load(Relaxed) == number));
        assert_ne!(number, u64::MAX, "read after it was freed");
        number
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        for word in &self.words {
            word.store(u64::MAX, Relaxed);
        }
        self.living.fetch_sub(1, SeqCst);
    }
}

/// Pins of other tests pass.
fn eventually(what: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !what() {
        if start.elapsed() > Duration::from_secs(30) {
            return false;
        }
        thread::yield_now();
    }
    true
}

#[test]
fn a_pin_keeps_the_epochs_since_it_was_made() {
    let before = advance();
    assert!(eventually(|| quiescent(before)));
    let pin = pin();
    let ended = advance();
    assert!(!quiescent(ended));
    drop(pin);
    assert!(eventually(|| quiescent(ended)));
}

#[test]
fn nested_pins_keep_the_outer_epoch_in_whatever_order_they_go() {
    let outer = pin();
    let first = advance();
    let inner = pin();
    drop(outer);
    assert!(!quiescent(first), "the inner pin holds what the outer one held");
    drop(inner);
    assert!(eventually(|| quiescent(first)));
}

#[test]
fn slots_of_ended_threads_are_taken_again() {
    let of_a_thread = || {
        let slot = |pin: Pin| ptr::from_ref(pin.slot).addr();
        thread::spawn(move || (slot(pin()), slot(pin()))).join().unwrap()
    };
    // Threads of other tests take slots too, but not always the same ones.
    let mut seen = std::collections::HashSet::new();
    let again = (0..1000).any(|_| {
        let (first, second) = of_a_thread();
        assert_eq!(first, second, "a thread keeps its slot");
        !seen.insert(first)
    });
    assert!(again);
}

#[test]
fn a_replaced_value_outlives_the_pins_that_may_use_it() {
    let living = Arc::new(AtomicUsize::new(0));
    let protected = Protected::new(Canary::new(1, &living));
    let pin = pin();
    let old = protected.load(&pin);
    let retired = protected.replace(Canary::new(2, &living));
    let Err(retired) = retired.try_free() else { panic!("freed under a pin") };
    drop(retired);
    assert_eq!((old.number(), living.load(SeqCst)), (1, 2));
    assert_eq!(protected.load(&pin).number(), 2);
    drop(pin);
    // The next thing retired takes what waits along.
    assert!(eventually(|| {
        let _ = protected.replace(Canary::new(3, &living));
        living.load(SeqCst) == 1
    }));
}

#[test]
fn a_value_outlives_the_pointer_that_protected_it() {
    let living = Arc::new(AtomicUsize::new(0));
    let protected = Protected::new(Canary::new(1, &living));
    let pin = pin();
    let value = protected.load(&pin);
    drop(protected);
    assert_eq!((value.number(), living.load(SeqCst)), (1, 1));
    drop(pin);
    assert!(eventually(|| {
        drop(Protected::new(Box::new(())));
        living.load(SeqCst) == 0
    }));
}

/// Pins when its thread ends, before or after the pins' own destructor.
struct Late(Cell<Option<Pin>>);

impl Drop for Late {
    fn drop(&mut self) {
        drop(self.0.take());
        drop(pin());
    }
}

thread_local! {
    static EARLY: Late = const { Late(Cell::new(None)) };
    static LATE: Late = const { Late(Cell::new(None)) };
}

#[test]
fn a_thread_may_pin_until_its_very_end() {
    let ended = thread::spawn(|| {
        // Destructors run in the order, or in the reverse order, of first use.
        EARLY.with(|late| late.0.set(None));
        let pin = pin();
        LATE.with(|late| late.0.set(Some(pin)));
        advance()
    });
    let ended = ended.join().unwrap();
    assert!(eventually(|| quiescent(ended)), "the slot was left pinned");
}

#[test]
fn readers_never_see_a_freed_value() {
    let rounds = if cfg!(miri) { 50 } else { 5_000 };
    let living = Arc::new(AtomicUsize::new(0));
    let protected = Protected::new(Canary::new(0, &living));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = 0;
                while !done.load(Relaxed) {
                    let pin = pin();
                    let value = protected.load(&pin);
                    let number = value.number();
                    assert!(number >= last, "values come in order");
                    last = number;
                    let nested = super::pin();
                    assert!(protected.load(&nested).number() >= value.number());
                }
            });
        }
        let mut waiting = Vec::new();
        for number in 1..=rounds {
            waiting.push(protected.replace(Canary::new(number, &living)));
            waiting = waiting.into_iter().filter_map(|retired| retired.try_free().err()).collect();
            if waiting.len() > 10 {
                waiting.clear();
            }
        }
        done.store(true, Relaxed);
    });
    drop(protected);
    assert!(eventually(|| {
        drop(Protected::new(Box::new(())));
        living.load(SeqCst) == 0
    }));
}
