//! Bytes on disk for each byte of the user, by phase.
//!
//! The lines about sizes of one store in one round are its *life*, from being
//! filled to being compacted. A life ends where a phase comes again. Its shape
//! is what its first line says: the phases after it may have fewer entries, and
//! belong to it all the same.

use std::collections::BTreeMap;

use super::input::{Input, Size};
use super::stores::in_order;
use crate::summary::Spread;

/// The lives of all stores that began alike.
pub struct Lives {
    pub workload: String,
    /// Entries in the first phase, at most: where the time was up they are [fewer](NEAR).
    pub entries: u64,
    /// Bytes of the user in one of them.
    pub entry_bytes: u64,
    /// Phases in the order in which the input names them first.
    pub phases: Vec<String>,
    per_byte: BTreeMap<(String, String), Vec<f64>>,
}

impl Lives {
    /// Bytes on disk for each of the user, of a store after a phase, and in how many
    /// lives they were measured.
    pub fn per_byte(&self, phase: &str, store: &str) -> Option<(Spread, usize)> {
        let values = self.per_byte.get(&(phase.to_owned(), store.to_owned()))?;
        Some((Spread::of(values.clone()), values.len()))
    }

    /// The stores that were measured.
    pub fn stores(&self) -> Vec<String> {
        in_order(self.per_byte.keys().map(|(_, store)| store.as_str()))
    }
}

/// Whose life it is: the run, the workload, the store and the round.
type Whose<'a> = (usize, &'a str, &'a str, u64);

/// A life that is still going on.
struct Life<'a> {
    first: &'a Size,
    phases: Vec<&'a str>,
}

/// Lives began alike if one has this part more entries than the next, at most.
const NEAR: u64 = 50;

/// All lives, few and small entries first.
pub fn lives(input: &Input) -> Vec<Lives> {
    let mut now: BTreeMap<Whose, Life> = BTreeMap::new();
    let mut found: BTreeMap<(String, u64, u64), Lives> = BTreeMap::new();
    for size in &input.sizes {
        let whose = (size.run, &*size.workload, &*size.store, size.round);
        let life = now.entry(whose).or_insert_with(|| Life { first: size, phases: Vec::new() });
        if life.phases.contains(&&*size.phase) {
            *life = Life { first: size, phases: Vec::new() };
        }
        life.phases.push(&size.phase);
        let entries = life.first.entries;
        let entry_bytes = life.first.user_bytes.checked_div(entries).unwrap_or(0);
        let key = (size.workload.clone(), entry_bytes, entries);
        let lives = found.entry(key).or_insert_with(|| Lives {
            workload: size.workload.clone(),
            entries,
            entry_bytes,
            phases: Vec::new(),
            per_byte: BTreeMap::new(),
        });
        if !lives.phases.contains(&size.phase) {
            lives.phases.push(size.phase.clone());
        }
        if size.user_bytes > 0 {
            let key = (size.phase.clone(), size.store.clone());
            let per_byte = size.disk_bytes as f64 / size.user_bytes as f64;
            lives.per_byte.entry(key).or_default().push(per_byte);
        }
    }
    together(found.into_values())
}

/// Puts those together that began nearly alike, of which the one with fewer comes first.
fn together(found: impl Iterator<Item = Lives>) -> Vec<Lives> {
    let mut all: Vec<Lives> = Vec::new();
    for lives in found {
        let is_near = |before: &&mut Lives| {
            (&before.workload, before.entry_bytes) == (&lives.workload, lives.entry_bytes)
                && lives.entries - before.entries <= before.entries / NEAR
        };
        let Some(before) = all.last_mut().filter(is_near) else {
            all.push(lives);
            continue;
        };
        before.entries = lives.entries;
        for phase in lives.phases {
            if !before.phases.contains(&phase) {
                before.phases.push(phase);
            }
        }
        for (key, values) in lives.per_byte {
            before.per_byte.entry(key).or_default().extend(values);
        }
    }
    all
}
