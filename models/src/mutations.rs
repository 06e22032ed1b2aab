//! The table of mutations: what must not be left out, and which model notices.

#[path = "waiting.rs"]
mod waiting;

use waiting::WAITING;

/// A mutation of a protocol.
#[derive(Clone, Copy)]
pub struct Mutation {
    /// What is wrong with the protocol then.
    pub name: &'static str,
    /// The model that must fail.
    pub model: &'static str,
    /// What is mutated.
    pub place: Place,
}

/// What a mutation changes.
#[derive(Clone, Copy)]
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
const PINS: &str = "storage/pins.rs";
const LAYOUT: &str = "table/layout.rs";
const DIRECTORY: &str = "table/directory.rs";
const MAPS: &str = "table/maps.rs";
const SCAN: &str = "table/scan.rs";
const EPOCH: &str = "storage/epoch.rs";
const FLAT: &str = "table/flat.rs";
const MIRROR: &str = "table/mirror.rs";
const TABLE: &str = "table/mod.rs";

/// All of them.
pub const MUTATIONS: &[Mutation] = &{
    let mut all = [MEMORY[0]; MEMORY.len() + WAITING.len()];
    let mut i = 0;
    while i < all.len() {
        all[i] = if i < MEMORY.len() { MEMORY[i] } else { WAITING[i - MEMORY.len()] };
        i += 1;
    }
    all
};

/// Those of protocols that need no lock.
const MEMORY: &[Mutation] = &[
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
        (
            "line[group::VERSION_AND_CRC].load(Ordering::Relaxed) & !1",
            "line[group::VERSION_AND_CRC].load(Ordering::Relaxed)",
        ),
    ),
    source(
        "lookup, a glance",
        "a glance does not look again",
        GLANCE,
        "glance",
        ("self.is_unchanged_since(line, version, seen)<<;", "true"),
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
        "two_page_words",
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
        "descend",
        (
            "DirectoryWord::decode(word.load(Ordering::Acquire))",
            "DirectoryWord::decode(word.load(Ordering::Relaxed))",
        ),
    ),
    source(
        "root word",
        "a root word is loaded relaxed",
        READ,
        "descend",
        ("word.load(Ordering::Acquire)<<;\n        let Some(root)", "word.load(Ordering::Relaxed)"),
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
        "attempt",
        ("self.root.load(Ordering::Acquire)", "self.root.load(Ordering::Relaxed)"),
    ),
    source(
        "flat, a longer one",
        "the depth of the flat directory is stored relaxed",
        FLAT,
        "deepen",
        ("Ordering::Release", "Ordering::Relaxed"),
    ),
    source(
        "flat, a longer one",
        "the depth of the flat directory is loaded relaxed",
        FLAT,
        "find",
        ("Ordering::Acquire", "Ordering::Relaxed"),
    ),
    source(
        "clear, the flat directory",
        "a new root takes the place of one with the flat directory of that",
        DIRECTORY,
        "change_root",
        ("self.flat.forget();", ""),
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
    source(
        "mirror",
        "the copy of a control word is stored behind the even version",
        SEGMENT,
        "write_slot",
        (
            "under_version(group, || {
            fill_slot(group, &table.geometry, place.slot, hash, lengths, content);
            table.mirror_group(place, group);
        });",
            "under_version(group, || {
            fill_slot(group, &table.geometry, place.slot, hash, lengths, content);
        });
            table.mirror_group(place, group);",
        ),
    ),
    step("mirror, another thread", "another thread learns of an entry by a relaxed store"),
    source(
        "mirror, a removed entry",
        "the copy of a control word is stored before the odd version",
        SEGMENT,
        "erase_slot",
        (
            "under_version(group, || {
            clear_slot(group, &table.geometry, place.slot, byte);
            table.mirror_group(place, group);
        });",
            "table.mirror.set(place.descriptor, 0, group::with_byte(control, place.slot, byte));
            under_version(group, || clear_slot(group, &table.geometry, place.slot, byte));",
        ),
    ),
    source(
        "mirror, a line used again",
        "a glance that finds nothing does not look at the epoch again",
        GLANCE,
        "absent",
        ("self.epoch.unchanged(seen)", "true"),
    ),
    source(
        "mirror, a checked page",
        "who has checked a page does not look at its word again, and replaces copies",
        TABLE,
        "verify_page",
        ("descriptor.page(page) == word", "true"),
    ),
    source(
        "mirror, a checked page",
        "who has checked a page does not look at its word again, and replaces copies",
        MIRROR,
        "set_unknown",
        (
            "let _ = word.compare_exchange(0, !control, Ordering::Relaxed, Ordering::Relaxed);",
            "word.store(!control, Ordering::Relaxed);",
        ),
    ),
    source(
        "mirror, a line loaded again",
        "a line that is used again keeps its copies",
        DIRECTORY,
        "new_descriptor",
        ("self.mirror.forget(line);", ""),
    ),
    source(
        "mirror, a line loaded again",
        "who has checked a page looks neither at its word nor at the epoch again",
        TABLE,
        "verify_page",
        ("descriptor.page(page) == word && self.epoch.unchanged(seen)", "true"),
    ),
];
