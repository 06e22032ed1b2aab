//! Calls to the operating system that fail, each in turn.
//!
//! Goal: whatever call fails, with whatever error, the store says so in a
//! sentence; no thread panics or sleeps for ever; reads go on; a failed write
//! or sync ends writing, and a full device does not; and after opening again
//! the state is that after some prefix of the commits, with all that was
//! durable.
//!
//! Method: a script ([`script`]) does everything a store can do once or twice,
//! on a simulated [`Disk`](crate::disk) with the smallest files and buffers. A
//! first run counts the calls; every further run ([`trial`]) is the same with
//! one call that fails once. The store's own threads make calls as they like,
//! so the call to fail is chosen twice over: by its number among all calls, and
//! by its number among the calls of its [class](faults::Class), so that rare
//! ones get their turn. Opening, reading, waiting, and devices that are really
//! full have tests of their own.
//!
//! The short form tries a sample, `SWISSDB_TEST_SEED=n` another one, and
//! `SWISSDB_LONG=1` every call with every fault (`cargo test --release
//! failing`, some minutes). A failure prints which call failed and how.

#[path = "failing/calls.rs"]
mod calls;
#[path = "failing/creating.rs"]
mod creating;
#[path = "failing/faults.rs"]
mod faults;
#[path = "failing/full.rs"]
mod full;
#[path = "failing/mounted.rs"]
pub mod mounted;
#[path = "failing/opening.rs"]
mod opening;
#[path = "failing/reads.rs"]
mod reads;
#[path = "failing/refused.rs"]
mod refused;
#[path = "failing/script.rs"]
mod script;
#[path = "failing/trial.rs"]
mod trial;
#[path = "failing/waiting.rs"]
mod waiting;

use swissdb::Error;

/// Fails unless an error is one that a failing disk may cause, and a sentence.
fn assert_sentence(error: &Error, at: &str) {
    assert!(matches!(error, Error::Io { .. } | Error::Poisoned { .. }), "{at}: {error:?}");
    let words = error.to_string();
    assert!(words.split(' ').count() > 3 && !words.contains("{"), "{at}: {words}");
}

/// Whether an error says that the device is full.
fn is_full(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull)
}
