//! Sums over all segments, and how they differ from what was said of them.
//!
//! The same for the disk, where the header says them, and for memory, where the
//! store keeps them. Whether sums prove anything, after damage, the caller knows.

use std::collections::{BTreeMap, BTreeSet};

use super::segment::Census;

/// Sums over segments.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) slots: u64,
    pub(super) used: u64,
    pub(super) tombstones: u64,
    pub(super) segments: u64,
}

impl Sums {
    /// Adds a segment of so many slots.
    pub(super) fn add(&mut self, slots: u64, census: &Census) {
        self.segments += 1;
        self.slots += slots;
        self.used += census.used;
        self.tombstones += census.tombstones;
    }
}

/// What sums differ in, if they do.
pub(super) fn differ(said: &Sums, found: &Sums, who: &str) -> Option<String> {
    let parts = [
        ("slots", said.slots, found.slots),
        ("entries", said.used, found.used),
        ("tombstones", said.tombstones, found.tombstones),
        ("segments", said.segments, found.segments),
    ];
    let wrong: Vec<_> = parts
        .iter()
        .filter(|(_, said, found)| said != found)
        .map(|(what, said, found)| format!("{said} {what} where there are {found}"))
        .collect();
    (!wrong.is_empty()).then(|| format!("{who} {}", wrong.join(", ")))
}

/// The log files whose live bytes differ: file, as said, as found.
pub(super) fn different_live(
    said: &BTreeMap<u32, u64>,
    found: &BTreeMap<u32, u64>,
) -> Vec<(u32, u64, u64)> {
    let files: BTreeSet<u32> = said.keys().chain(found.keys()).copied().collect();
    let of = |live: &BTreeMap<u32, u64>, file| live.get(&file).copied().unwrap_or(0);
    let all = files.into_iter().map(|file| (file, of(said, file), of(found, file)));
    all.filter(|(_, said, found)| said != found).collect()
}
