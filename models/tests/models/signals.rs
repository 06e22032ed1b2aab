//! A writer that waits for a checkpoint.
//!
//! Goal: nobody waits for ever, neither a writer for a checkpoint nor the
//! background for a request; a checkpoint that fails fails those who wait for
//! it. Method: `store/signals.rs` as it is. A wake-up that is lost is a
//! deadlock, which the checker reports.

use loom::sync::Arc;

use crate::error::{Error, Result};
use crate::harness::{check, check_within};
use crate::store::Signals;

const LIMIT: usize = 4;

fn failed() -> Result<()> {
    Err(Error::Closed { why: "the model says so" })
}

/// The background: a checkpoint for each request, with these outcomes in turn;
/// the last one stands for all that follow.
fn background(signals: &Signals, outcomes: &[(Result<()>, usize)]) {
    let mut i = 0;
    while signals.next_request().is_some() {
        assert!(i < 4, "checkpoint after checkpoint, and a writer that waits");
        let (outcome, dirty) = &outcomes[i.min(outcomes.len() - 1)];
        signals.ended(outcome, *dirty);
        i += 1;
    }
}

/// A writer at the limit; the checkpoint makes room.
fn room_is_made() {
    let signals = Arc::new(Signals::new(LIMIT));
    signals.set_dirty(LIMIT);
    let other = {
        let signals = signals.clone();
        loom::thread::spawn(move || background(&signals, &[(Ok(()), 0)]))
    };
    signals.throttle().expect("there is room now");
    signals.stop();
    other.join().expect("the background ends");
}

/// The same, but the checkpoint fails.
fn it_fails() {
    let signals = Arc::new(Signals::new(LIMIT));
    signals.set_dirty(LIMIT);
    let other = {
        let signals = signals.clone();
        loom::thread::spawn(move || background(&signals, &[(failed(), LIMIT)]))
    };
    signals.throttle().expect_err("there is no room");
    signals.stop();
    other.join().expect("the background ends");
}

/// The first checkpoint ends well, and there is still no room: somebody went
/// beyond the limit while it ran, and writes no more. The second makes room.
fn one_is_not_enough() {
    let signals = Arc::new(Signals::new(LIMIT));
    signals.set_dirty(LIMIT);
    let other = {
        let signals = signals.clone();
        loom::thread::spawn(move || background(&signals, &[(Ok(()), LIMIT), (Ok(()), 0)]))
    };
    signals.throttle().expect("there is room now");
    signals.stop();
    other.join().expect("the background ends");
}

/// The same, but somebody else runs the first checkpoint, at the same time.
fn somebody_elses_is_not_enough() {
    let signals = Arc::new(Signals::new(LIMIT));
    signals.set_dirty(LIMIT);
    let other = {
        let signals = signals.clone();
        loom::thread::spawn(move || background(&signals, &[(Ok(()), 0)]))
    };
    let somebody = {
        let signals = signals.clone();
        loom::thread::spawn(move || signals.ended(&Ok(()), LIMIT))
    };
    signals.throttle().expect("there is room now");
    somebody.join().expect("somebody ends");
    signals.stop();
    other.join().expect("the background ends");
}

#[test]
fn a_writer_that_waits_is_woken() {
    check("signals", room_is_made);
}

#[test]
fn a_checkpoint_that_fails_fails_those_who_wait() {
    check("signals, failing", it_fails);
}

#[test]
fn a_writer_asks_again_if_there_is_still_no_room() {
    check("signals, again", one_is_not_enough);
}

#[test]
fn a_writer_asks_again_after_somebody_elses_checkpoint() {
    check_within("signals, somebody else", Some(2), somebody_elses_is_not_enough);
}
