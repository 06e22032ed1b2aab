//! Tests of the table as a whole, without the rest of the store.
//!
//! Goal: break it. Method: a [`harness::Store`] stands in for store, log and
//! checkpoint, with every step of theirs in the hands of the test; what the
//! table says is held against a plain map, its segments against their
//! invariants, and each block of the file against who owns it. The tests are
//! sorted by what they are about, one module each.

mod batches;
mod checkpoint;
mod checkpoints;
mod churn;
mod clears;
mod collisions;
mod damage;
mod entries;
mod failures;
mod fetching;
mod growing;
mod harness;
mod lives;
mod logged;
mod many;
mod marks;
mod merging;
mod queues;
mod recounts;
mod reuse;
mod scans;
mod shrinking;
mod tails;
mod threads;
mod walker;
