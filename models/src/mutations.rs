//! The table of mutations: what must not be left out, and which model notices.

/// A mutation of a protocol.
pub struct Mutation {
    /// What is wrong with the protocol then.
    pub name: &'static str,
    /// The model that must fail.
    pub model: &'static str,
    /// What is mutated.
    pub place: Place,
}

/// What a mutation changes.
pub enum Place {
    /// A piece of a function of the library.
    Source {
        /// The path below `src`.
        file: &'static str,
        /// The function; before `: ` what it stands behind.
        function: &'static str,
        /// What stands there, once; behind `<<` what follows it.
        original: &'static str,
        /// What stands there instead.
        mutant: &'static str,
    },
    /// A step of the model itself, which stands for one of the library.
    Model,
}

const fn step(model: &'static str, name: &'static str) -> Mutation {
    Mutation { name, model, place: Place::Model }
}

const fn source(
    model: &'static str,
    name: &'static str,
    file: &'static str,
    function: &'static str,
    (original, mutant): (&'static str, &'static str),
) -> Mutation {
    Mutation { name, model, place: Place::Source { file, function, original, mutant } }
}

const SEGMENT: &str = "table/segment.rs";
const READ: &str = "table/read.rs";
const GLANCE: &str = "table/read/glance.rs";
const SYNC: &str = "log/sync.rs";
const SIGNALS: &str = "store/signals.rs";
const PINS: &str = "storage/pins.rs";
const LAYOUT: &str = "table/layout.rs";
const DIRECTORY: &str = "table/directory.rs";
const MAPS: &str = "table/maps.rs";
const SCAN: &str = "table/scan.rs";
const EPOCH: &str = "storage/epoch.rs";

/// All of them.
pub const MUTATIONS: &[Mutation] = &[
    source("epoch", "the epoch is read relaxed", EPOCH, "read", ("Acquire", "Relaxed")),
    source(
        "epoch",
        "no fence before the second look at the epoch",
        EPOCH,
        "unchanged",
        ("fence(Acquire);", ""),
    ),
    source("epoch", "the epoch advances relaxed", EPOCH, "advance", ("Release", "Relaxed")),
    source(
        "epoch",
        "no fence behind the advance of the epoch",
        EPOCH,
        "advance",
        ("fence(SeqCst);", ""),
    ),
    source(
        "version",
        "the version is not made odd",
        SEGMENT,
        "under_version",
        ("word.store(version(1), Ordering::Relaxed);", ""),
    ),
    source(
        "version",
        "no fence behind the odd version",
        SEGMENT,
        "under_version",
        ("fence(Ordering::Release);", ""),
    ),
    source(
        "version",
        "the even version is stored relaxed",
        SEGMENT,
        "under_version",
        (
            "word.store(version(2), Ordering::Release);",
            "word.store(version(2), Ordering::Relaxed);",
        ),
    ),
    source(
        "version",
        "no fence behind the first look at the version",
        READ,
        "search_group",
        ("fence(Ordering::Acquire);", ""),
    ),
    source(
        "version",
        "an odd version is not noticed",
        READ,
        "search_group",
        ("version & 1 == 1", "false"),
    ),
    source(
        "version",
        "no fence before the second look at the version",
        READ,
        "is_unchanged_since",
        ("fence(Ordering::Acquire);", ""),
    ),
    source(
        "version",
        "the version is not looked at again",
        READ,
        "is_unchanged_since",
        ("line[group::VERSION_AND_CRC].load(Ordering::Relaxed) == version", "true"),
    ),
    source(
        "version, a glance",
        "no fence behind a glance's look at the version",
        GLANCE,
        "glance",
        ("fence(Ordering::Acquire);", ""),
    ),
    source(
        "version, a glance",
        "a glance does not notice an odd version",
        GLANCE,
        "glance",
        ("version & 1 == 1", "false"),
    ),
    source(
        "lookup, a glance",
        "a glance does not look again",
        GLANCE,
        "glance",
        ("self.is_unchanged_since(line, version, seen)<<;", "true"),
    ),
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
    source("pins", "a pin has no fence", PINS, "pin", ("fence(SeqCst);", "")),
    source(
        "pins",
        "a pin does not publish the epoch",
        PINS,
        "pin",
        ("slot.epoch.store(EPOCH.load(Acquire), Release);", ""),
    ),
    source(
        "pins",
        "a pin ends relaxed",
        PINS,
        "impl Drop for Pin: drop",
        ("self.slot.epoch.store(0, Release);", "self.slot.epoch.store(0, Relaxed);"),
    ),
    source("pins", "slots are looked at relaxed", PINS, "quiescent", ("Acquire", "Relaxed")),
    source("pins", "the writer looks at no slot", PINS, "quiescent", ("pinned > epoch", "true")),
    source(
        "pins, again",
        "a pin is published relaxed",
        PINS,
        "pin",
        (
            "slot.epoch.store(EPOCH.load(Acquire), Release)",
            "slot.epoch.store(EPOCH.load(Acquire), Relaxed)",
        ),
    ),
    source(
        "page word",
        "a page word is stored relaxed",
        LAYOUT,
        "store_u32",
        ("Ordering::Release", "Ordering::Relaxed"),
    ),
    source(
        "doubled mapping",
        "a page word is loaded relaxed",
        LAYOUT,
        "page_word",
        ("Ordering::Acquire", "Ordering::Relaxed"),
    ),
    source(
        "directory word",
        "a directory word is stored relaxed",
        DIRECTORY,
        "store_leaf",
        ("Ordering::Release", "Ordering::Relaxed"),
    ),
    source(
        "directory word",
        "a word of the directory is loaded relaxed",
        READ,
        "find_segment",
        ("word.load(Ordering::Acquire)", "word.load(Ordering::Relaxed)"),
    ),
    source(
        "root word",
        "a root word is loaded relaxed",
        READ,
        "directory_word",
        ("Ordering::Acquire", "Ordering::Relaxed"),
    ),
    source(
        "root word",
        "a root word is stored relaxed",
        DIRECTORY,
        "store_root_words",
        ("Ordering::Release", "Ordering::Relaxed"),
    ),
    source(
        "root",
        "the root is stored relaxed",
        DIRECTORY,
        "set_root",
        ("Ordering::Release", "Ordering::Relaxed"),
    ),
    source(
        "root",
        "the root is loaded relaxed",
        READ,
        "find_segment",
        ("self.root.load(Ordering::Acquire)", "self.root.load(Ordering::Relaxed)"),
    ),
    step("unverified", "the flag is cleared by a store"),
    source(
        "unverified",
        "an exchange does not look what it replaces",
        LAYOUT,
        "exchange_u32",
        ("now == seen", "true"),
    ),
    step("doubled mapping", "the mapping is looked up before the page word"),
    step("doubled mapping", "the page word is published before the mapping"),
    source(
        "doubled mapping",
        "the number of the mapping is stored before it",
        MAPS,
        "publish",
        (
            "let _ = slot.set(map);",
            "self.current.store(next, Ordering::Release); let _ = slot.set(map);",
        ),
    ),
    source(
        "doubled mapping",
        "the number of the mapping is stored relaxed",
        MAPS,
        "publish",
        ("Ordering::Release", "Ordering::Relaxed"),
    ),
    source(
        "frames",
        "a frame is taken without a fence",
        "table/frames.rs",
        "take",
        ("fence(Ordering::Release);", ""),
    ),
    source(
        "lines",
        "lines are taken without a fence",
        "table/arena.rs",
        "take",
        ("std::sync::atomic::fence(Ordering::Release);", ""),
    ),
    source(
        "lookup",
        "a lookup does not look at the epoch again",
        READ,
        "is_unchanged_since",
        ("self.epoch.unchanged(seen)", "true"),
    ),
    source(
        "lookup",
        "retired frames are taken at once",
        "table/frames.rs",
        "reclaim",
        ("epoch.advance();", "self.free.push(self.retired[0].1);"),
    ),
    source("pins", "the writer has no fence", PINS, "advance", ("fence(SeqCst);", "")),
    source("pins", "the writer has no fence", PINS, "quiescent", ("fence(SeqCst);", "")),
    source(
        "scan",
        "no fence behind the first version of a scan",
        SCAN,
        "copy_group",
        ("fence(Ordering::Acquire);<<\n            let control", ""),
    ),
    source(
        "scan",
        "no fence before the second version of a scan",
        SCAN,
        "copy_group",
        ("fence(Ordering::Acquire);<<\n            let after", ""),
    ),
    source(
        "scan, two groups",
        "a scan does not look at all groups again",
        SCAN,
        "copy_segment",
        ("self.is_unchanged(descriptor, &out.groups)", "true"),
    ),
    step("cleaner", "a change is counted before it is made"),
    step("cleaner", "a change is counted after the file is gone"),
    step("cleaner", "a file is recycled under its readers"),
    step("clear, writers", "a writer hashes before it has the lock"),
    source(
        "clear",
        "frames of a cleared table are taken at once",
        "table/frames.rs",
        "reclaim",
        ("epoch.advance();", "self.free.push(self.retired[0].1);"),
    ),
];
