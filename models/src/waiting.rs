//! The mutations of protocols in which threads wait for each other.

use super::{Mutation, source};

const SYNC: &str = "log/sync.rs";
const SIGNALS: &str = "store/signals.rs";

/// All of these.
pub(super) const WAITING: &[Mutation] = &[
    source(
        "group commit",
        "what is appended meanwhile is called durable",
        SYNC,
        "sync_files",
        (
            "this.durable.fetch_max(appended, Release);",
            "this.durable.fetch_max(this.appended(), Release);",
        ),
    ),
    source(
        "group commit",
        "a finished file is not synced",
        SYNC,
        "sync_files",
        ("file.sync()", "if log.number == 1 { Ok(()) } else { file.sync() }"),
    ),
    source(
        "group commit",
        "the last file leaves the list",
        SYNC,
        "sync_files",
        ("files.len().saturating_sub(1)", "files.len()"),
    ),
    source("group commit", "a leader wakes nobody", SYNC, "drop", ("self.log.wake(state);", "")),
    source(
        "group commit",
        "what is durable is said before it is",
        SYNC,
        "begin",
        (
            "(self.appended(), self.rotated.load(Acquire))",
            "{ self.durable.fetch_max(self.appended(), Release); (self.appended(), self.rotated.load(Acquire)) }",
        ),
    ),
    source(
        "group commit",
        "who waits looks without the lock",
        SYNC,
        "wait_for_sync",
        (
            "state = self.sleep(state, bed(round), None);",
            "drop(state); state = self.sleep(lock(&self.sync), bed(round), None);",
        ),
    ),
    source(
        "group commit",
        "nobody sees to the next sync",
        SYNC,
        "wake",
        ("self.synced[next].notify_one();", ""),
    ),
    source(
        "three who sync",
        "of those whom a sync covers one is woken",
        SYNC,
        "wake",
        ("self.synced[ended].notify_all();", "self.synced[ended].notify_one();"),
    ),
    source(
        "three who sync",
        "whom a sync covers sleeps where one is woken",
        SYNC,
        "wait_for_sync",
        ("bed(round)", "bed(round + 1)"),
    ),
    source(
        "a crowd",
        "nobody leads when the crowd is complete",
        SYNC,
        "wait_for_sync",
        ("state.crowd.is_complete()", "false"),
    ),
    source(
        "a crowd, and its time is over",
        "who gathers does not look whether somebody has begun",
        SYNC,
        "gather",
        ("state.round != round", "false"),
    ),
    source(
        "three who fail",
        "who finds the store poisoned goes in silence",
        SYNC,
        "wait_for_sync",
        ("self.wake(state);", ""),
    ),
    source(
        "a leader that fails",
        "a failure does not poison",
        SYNC,
        "lead",
        ("self.log.poison.set(error);", ""),
    ),
    source(
        "a leader that fails",
        "a leader that failed wakes nobody",
        SYNC,
        "drop",
        ("self.log.wake(state);", "if !self.log.poison.is_set() { self.log.wake(state); }"),
    ),
    source(
        "a leader that panics",
        "a panic does not poison",
        SYNC,
        "drop",
        ("self.log.poison.set(&\"a sync of the log panicked\");", ""),
    ),
    source(
        "signals",
        "the end of a checkpoint wakes nobody",
        SIGNALS,
        "ended",
        ("self.changed.notify_all();", ""),
    ),
    source(
        "signals",
        "a request wakes nobody",
        SIGNALS,
        "want",
        ("self.changed.notify_all();", ""),
    ),
    source(
        "signals",
        "the dirty frames are not published",
        SIGNALS,
        "ended",
        ("self.set_dirty(dirty);", ""),
    ),
    source(
        "signals, failing",
        "a failure is not told",
        SIGNALS,
        "wait_for_room",
        ("&state.failure", "&None"),
    ),
    source(
        "signals, failing",
        "a writer looks how many have ended after it has asked",
        SIGNALS,
        "slow_down",
        (
            "self.wait_for_room(ended)?;",
            "let ended = self.state().ended + 0 * ended; self.wait_for_room(ended)?;",
        ),
    ),
    source(
        "signals, again",
        "a writer does not ask again",
        SIGNALS,
        "wait_for_room",
        ("before = self.want(&mut state);", "before = state.ended;"),
    ),
    source(
        "signals, somebody else",
        "a writer asks again and wakes nobody",
        SIGNALS,
        "wait_for_room",
        ("before = self.want(&mut state);", "state.wanted = true;"),
    ),
];
