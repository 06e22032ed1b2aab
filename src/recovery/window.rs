//! Operations of the log that are replayed together.
//!
//! Operations on different keys may be replayed in any order, as long as those
//! on the same key keep theirs. So as many as fit a *window* are collected. Then
//! those of a segment stand together: it is brought from memory once for all of
//! them, room for all that it gets of them is made at once, and of several
//! operations on a key only the last is done.
//!
//! ```text
//! window   256 shares, by the first bits of the hashes
//! share    steps: hash, table, where the operation begins     sorted when their turn comes
//!          bytes: ├ header 8 ┤ [address 24] ┤ key ┤ value ├ header ...
//! ```
//!
//! A share fits a processor's own cache, so that its operations may be met in any
//! order. An operation is kept as what a slot will hold of it: of
//! a value that stays in the log its address, not its bytes. So the longest
//! operation takes no more than the longest key does.

use crate::format::group::{Address, Lengths, Shape};
use crate::format::u64_at;
use crate::storage::map::prefetch;
use crate::table::batch::{Entries, Entry, Step, Steps};

/// The bytes that operations and steps take in the first window, for which nobody else
/// has anything to do, and in the longest.
pub(super) const FIRST_BYTES: usize = 5 << 20;
const MOST_BYTES: usize = 40 << 20;
/// Shares of a window, as a logarithm.
const SHARES: u32 = 8;
/// In front of each operation: whether it is an insert, and its lengths.
const HEADER: usize = 8;
const ADDRESS: usize = 24;

/// An operation on an entry.
pub(super) enum Change<'a> {
    Insert(Entry<'a>),
    Remove(&'a [u8]),
}

/// The bytes that the longest window takes for a log of so many. A short one is still in a
/// cache when it is applied, a long one has more for each segment. Where nobody knows how
/// large segments are [going to be](super::growth), as for a reader, they are made anew
/// with most windows, so there are to be few.
pub(super) fn longest(read_only: bool, log_bytes: u64) -> usize {
    let share = if read_only { u64::MAX } else { log_bytes / 24 };
    usize::try_from(share).unwrap_or(usize::MAX).clamp(FIRST_BYTES, MOST_BYTES)
}

/// Collected operations: inserts and removes.
pub(super) struct Window {
    shares: Vec<Share>,
    bytes: usize,
    count: usize,
    most_count: usize,
}

/// Those of a range of hashes.
#[derive(Default)]
pub(super) struct Share {
    steps: Steps,
    operations: Operations,
}

impl Window {
    /// An empty window for a pool that prefers to stay below so many frames.
    /// Were all operations of it inserts into one segment, the pages for them
    /// would be less than half as many.
    pub(super) fn new(frame_limit: usize) -> Window {
        let shares = (0..1 << SHARES).map(|_| Share::default()).collect();
        let most_count = frame_limit.saturating_mul(2);
        Window { shares, bytes: 0, count: 0, most_count }
    }

    /// Whether there is no room for more, where it may take so many bytes.
    pub(super) fn is_full(&self, most_bytes: usize) -> bool {
        self.bytes >= most_bytes || self.count >= self.most_count
    }

    /// Collects an operation.
    #[inline]
    pub(super) fn push(&mut self, table: u16, hash: u64, change: &Change<'_>) {
        let share = &mut self.shares[(hash >> (64 - SHARES)) as usize];
        let before = share.operations.bytes.len();
        let at = share.operations.push(change);
        share.steps.push(table, hash, at);
        self.bytes += share.operations.bytes.len() - before + size_of::<Step>();
        self.count += 1;
    }

    /// The shares, in the order of their hashes.
    pub(super) fn shares(&mut self) -> impl Iterator<Item = &mut Share> {
        self.shares.iter_mut()
    }

    /// Forgets all operations, and keeps the memory for others.
    pub(super) fn clear(&mut self) {
        for share in &mut self.shares {
            share.steps.clear();
            share.operations.bytes.clear();
        }
        (self.bytes, self.count) = (0, 0);
    }
}

impl Share {
    /// The steps, sorted by table, then by hash, then by the order of the log, and
    /// the operations that they are of. `spare` is memory for sorting.
    pub(super) fn sorted(&mut self, spare: &mut Vec<Step>) -> (&mut Steps, &Operations) {
        let Share { steps, operations } = self;
        steps.swap_spare(spare);
        steps.sort(operations);
        steps.swap_spare(spare);
        (steps, operations)
    }
}

/// Operations, in the order of the log.
#[derive(Default)]
pub(super) struct Operations {
    bytes: Vec<u8>,
}

impl Operations {
    /// Adds one; returns what it is known by: where it begins, and whether it is an
    /// insert.
    #[inline]
    fn push(&mut self, change: &Change<'_>) -> u32 {
        let start = self.bytes.len() as u32;
        let (is_insert, lengths, key, value, address) = match change {
            Change::Insert(entry) => (1, entry.lengths, entry.key, entry.value, entry.address),
            Change::Remove(key) => {
                (0, Lengths::of(Shape::Inline, key.len(), 0), *key, &[][..], None)
            }
        };
        let header = is_insert | u64::from(lengths.key) << 16 | u64::from(lengths.value) << 32;
        self.bytes.extend_from_slice(&header.to_le_bytes());
        for word in address.iter().flat_map(|address| address.to_words()) {
            self.bytes.extend_from_slice(&word.to_le_bytes());
        }
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(&value[..lengths.value_len()]);
        start << 1 | is_insert as u32
    }

    /// Asks for the bytes of operations.
    pub(super) fn foresee(&self, steps: &[Step]) {
        for step in steps {
            let bytes = &self.bytes[(step.change >> 1) as usize..];
            prefetch(&bytes[0]);
            bytes.get(63).inspect(|byte| prefetch(*byte));
        }
    }

    /// The lengths of an operation, and all behind its header.
    #[inline(always)]
    fn split(&self, number: u32) -> (Lengths, &[u8]) {
        let (header, rest) = self.bytes[(number >> 1) as usize..].split_at(HEADER);
        let header = u64_at(header, 0);
        (Lengths { key: (header >> 16) as u16, value: (header >> 32) as u16 }, rest)
    }

    /// What an insert puts into a slot; of a remove there is only a key.
    #[inline]
    pub(super) fn entry(&self, number: u32) -> Entry<'_> {
        let (lengths, mut rest) = self.split(number);
        let mut address = None;
        if lengths.spilled() {
            address = Some(Address::from_words([0, 8, 16].map(|at| u64_at(rest, at))));
            rest = &rest[ADDRESS..];
        }
        let (key, rest) = rest.split_at(lengths.key_len());
        Entry { lengths, key, value: &rest[..lengths.value_len()], address }
    }
}

impl Entries for Operations {
    const LOGGED: bool = true;

    #[inline]
    fn key(&self, change: u32) -> &[u8] {
        let (lengths, rest) = self.split(change);
        let start = if lengths.spilled() { ADDRESS } else { 0 };
        &rest[start..start + lengths.key_len()]
    }

    #[inline]
    fn is_insert(&self, change: u32) -> bool {
        change & 1 == 1
    }

    #[inline]
    fn logged(&self, change: u32) -> Option<Entry<'_>> {
        Some(self.entry(change))
    }
}
