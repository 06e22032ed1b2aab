//! The tests of the store through its public face, as one binary.
//!
//! Unit tests lie beside the code they test; what is here knows no more than
//! a user of the library or of the command. Every module opens with its goal
//! and its method.

// Stores that verify themselves, reproducible random numbers, models.
mod support;

// The command `swissdb`, run as people run it.
mod cli;
// The rules of style that a machine can check.
mod tidy;

// Memory that reads ask for.
mod allocations;
// Many changes that are one commit.
mod batches;
// What every Swiss table has to get right.
mod cases;
// Closing while others are at it.
mod closing;
// Readers, iterators and writers at the same time.
mod concurrency;
// Iteration that is left, stored and resumed, and in parts.
mod cursors;
// Bytes that rotted, were cut off or are missing.
mod damage;
// A simulated disk that forgets what was not synced.
mod disk;
// What survives closing and a kill, and what is durable when.
mod durability;
// Where table files end.
mod endings;
// Calls to the operating system that fail, each in turn.
mod failing;
// How well the slots are used while a store is filled.
mod filling;
// Stores of earlier days, and the document that describes them.
mod golden;
// The parts of a store, one by one.
mod inspect;
// Iteration while entries come, go, change and move.
mod iteration;
// Killed between any two operations on files.
mod kill_points;
// Processes that are really killed.
mod kills;
// What a caller may get wrong.
mod limits;
// What lies where in a store, all at once.
mod map;
// Many keys read in one call.
mod many;
// Random operations against a map of the standard library.
mod model;
// What opening makes of a log.
mod replay;
// A table with another slot payload, written anew.
mod rewrite;
// Keys and values of every size.
mod sizes;
// A store so small that an interpreter can run it.
mod small;
// A new store from what is left of a damaged one.
mod salvage;
// Every field of a store, damaged on purpose.
mod rot;
// Readers against everything that goes on beside them.
mod stress;
// What `survey` and `stats` say of a store.
mod survey;
// Power that goes off at any moment.
mod power;
// Several processes and one store.
mod processes;
// Writes that depend on what is there.
mod swap;
// Named tables, and batches across them.
mod tables;
// The full check of a store.
mod verify;
// Copies of a store in use.
mod backup;
// Views of a moment that nothing shows through.
mod snapshots;
// Space that comes back: cleaning, shrinking, compacting.
mod space;
