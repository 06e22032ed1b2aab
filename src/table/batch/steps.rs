//! The changes of a batch as steps, and their order.
//!
//! A step has what a change is known by while it is prepared and applied, and
//! is small, because steps are sorted. They are, by the hashes of their keys, so
//! that those of a segment stand together.

use crate::format::group::{Address, Lengths};

use super::super::segment::Place;

/// Steps that are kept for the next batch at most.
const KEPT: usize = 1 << 16;
/// From so many steps on they are sorted by spreading, over so many ranges at
/// most, as a logarithm; with so few in each, these are sorted by shifting.
const WORTH_SPREADING: usize = 64;
const MOST_SPREAD: u32 = 11;
const FEW: usize = 16;

/// An entry, as it is put into a slot.
pub(crate) struct Entry<'a> {
    pub(crate) lengths: Lengths,
    pub(crate) key: &'a [u8],
    /// Looked at only where `lengths` say that it stands in the slot.
    pub(crate) value: &'a [u8],
    /// Where the log has what does not.
    pub(crate) address: Option<Address>,
}

/// The changes of a batch, by their numbers.
pub(crate) trait Entries {
    /// Whether the log has all of them already: then an entry may be put into its slot
    /// while places are found.
    const LOGGED: bool = false;

    fn key(&self, change: u32) -> &[u8];
    fn is_insert(&self, change: u32) -> bool;
    /// What an insert puts into its slot; only where they are logged.
    fn logged(&self, _change: u32) -> Option<Entry<'_>> {
        None
    }
}

/// What is done for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// Nothing: a later change of the key undoes it, or what it removes is not
    /// there.
    Nothing,
    /// Nothing any more: the entry went into its segment when that was made anew.
    Done,
    /// The key is there and gets a new value.
    Overwrite,
    /// The key is new and takes a deleted slot.
    Reuse,
    /// The key is new and takes an empty slot.
    Fill,
    Remove,
}

/// A change on its way: 24 bytes, for they are sorted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) hash: u64,
    /// Its number in the batch.
    pub(crate) change: u32,
    pub(crate) table: u16,
    pub(super) deed: Deed,
    page: u8,
    group: u8,
    pub(super) slot: u8,
    pub(super) descriptor: u32,
}

impl Step {
    pub(super) fn place(&self) -> Place {
        Place {
            descriptor: self.descriptor,
            page: self.page.into(),
            group: self.group.into(),
            slot: self.slot.into(),
        }
    }

    /// Nothing was decided yet.
    pub(super) fn forget(&mut self) {
        self.deed = Deed::Nothing;
    }

    /// Whether something is still to be done at a place.
    pub(in crate::table) fn has_place(&self) -> bool {
        !matches!(self.deed, Deed::Nothing | Deed::Done)
    }

    pub(super) fn set(&mut self, deed: Deed, place: Place) {
        self.deed = deed;
        self.descriptor = place.descriptor;
        (self.page, self.group, self.slot) =
            (place.page as u8, place.group as u8, place.slot as u8);
    }
}

/// The steps of a batch, and memory that is kept from one batch to the next.
#[derive(Default)]
pub(crate) struct Steps {
    steps: Vec<Step>,
    spare: Vec<Step>,
}

impl Steps {
    /// Forgets the last batch, and keeps the memory for the next.
    pub(crate) fn clear(&mut self) {
        self.steps.clear();
    }

    /// The same, but one that was large leaves no memory.
    pub(crate) fn clear_large(&mut self) {
        self.clear();
        if self.steps.capacity() > KEPT {
            *self = Steps::default();
        }
    }

    pub(crate) fn reserve(&mut self, more: usize) {
        self.steps.reserve(more);
    }

    /// Adds the step of a change, in the order of the batch.
    #[inline]
    pub(crate) fn push(&mut self, table: u16, hash: u64, change: u32) {
        let deed = Deed::Nothing;
        let step = Step { hash, change, table, deed, page: 0, group: 0, slot: 0, descriptor: 0 };
        self.steps.push(step);
    }

    /// Exchanges the memory that sorting takes for that of others.
    pub(crate) fn swap_spare(&mut self, spare: &mut Vec<Step>) {
        std::mem::swap(&mut self.spare, spare);
    }

    /// Sorts by table and hash, those with the same hash by key, and those of a
    /// key in the order of the batch.
    pub(crate) fn sort(&mut self, entries: &impl Entries) {
        let one_table = self.steps.windows(2).all(|pair| pair[0].table == pair[1].table);
        if one_table && self.steps.len() >= WORTH_SPREADING {
            self.spread();
        } else {
            self.steps.sort_unstable_by_key(|step| (step.table, step.hash, step.change));
        }
        for same in self.steps.chunk_by_mut(|a, b| (a.hash, a.table) == (b.hash, b.table)) {
            if same.len() > 2 {
                same.sort_by(|a, b| entries.key(a.change).cmp(entries.key(b.change)));
            }
        }
    }

    /// Sorts by hash: spreads the steps over as many ranges of hashes as there
    /// are steps, about, so that few are left to sort in each. Hashes are even,
    /// as a rule; where they are not, more are left.
    fn spread(&mut self) {
        let bits = self.steps.len().ilog2().min(MOST_SPREAD);
        let first = self.steps[0].hash;
        let differing = self.steps.iter().fold(0, |bits, step| bits | step.hash ^ first);
        let same = differing.leading_zeros().min(63);
        let range = |step: &Step| (step.hash << same >> (64 - bits)) as usize;
        let mut ends = [0u32; 1 << MOST_SPREAD];
        for step in &self.steps {
            ends[range(step)] += 1;
        }
        let most = ends.iter().copied().max().unwrap_or(0);
        let mut sum = 0;
        for end in &mut ends[..1 << bits] {
            (*end, sum) = (sum, sum + *end);
        }
        self.spare.resize(self.steps.len(), self.steps[0]);
        for step in &self.steps {
            let at = &mut ends[range(step)];
            self.spare[*at as usize] = *step;
            *at += 1;
        }
        std::mem::swap(&mut self.steps, &mut self.spare);
        if most as usize > FEW {
            let ranges = self.steps.chunk_by_mut(|a, b| range(a) == range(b));
            ranges.for_each(|of| of.sort_unstable_by_key(|step| (step.hash, step.change)));
            return;
        }
        for i in 1..self.steps.len() {
            let step = self.steps[i];
            let mut at = i;
            while at > 0 && self.steps[at - 1].hash > step.hash {
                self.steps[at] = self.steps[at - 1];
                at -= 1;
            }
            self.steps[at] = step;
        }
    }

    /// The steps, table by table once they are sorted.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &[Step]> {
        self.steps.chunk_by(|a, b| a.table == b.table)
    }

    /// The same, to be prepared.
    pub(crate) fn tables_mut(&mut self) -> impl Iterator<Item = &mut [Step]> {
        self.steps.chunk_by_mut(|a, b| a.table == b.table)
    }
}
