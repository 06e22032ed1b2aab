//! How long the entries of a table are, and which slot payload suits them.
//!
//! A slot holds key and value together up to the slot payload; what is longer
//! goes to the log. So only the sum of both lengths decides where an entry
//! goes, and a census counts for each sum how many entries have it. From this
//! follows what the store takes with any slot payload:
//!
//! ```text
//! table   entries / 0.8 slots, in groups of eight, in pages of 4 KiB, and 0.4 % of directory
//! log     of each entry longer than the payload: its record, which is 36 bytes
//!         longer than key and value and padded to a multiple of 8
//! ```
//!
//! 0.8 is what compaction and rewriting come to; a table that grows has some
//! tenth more slots. The records are counted as if each entry had one of its
//! own, and as if the log held nothing else.
//!
//! The values in the log are not read: their lengths stand in the slots. The
//! walk copies one segment after the other, as an iteration does, and takes the
//! writer lock only for a segment that changes too fast to be copied without.

use std::fmt;

use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::group::Geometry;
use crate::format::record::{OP_HEADER, RECORD_HEADER, padded};
use crate::histogram::Histogram;
use crate::store::Store;
use crate::store::commit::no_table;
use crate::table::Table;
use crate::table::scan::{Scanned, ScannedSlot, SegmentCopy};

/// The smallest and the largest slot payload, and the step between two.
const PAYLOADS: (usize, usize, usize) = (24, 504, 8);

/// How long the keys and values of a table are, and what the store would take
/// with another slot payload. See [`Db::census`](crate::Db::census).
///
/// All sizes are in bytes. If the table changed while it was counted, it is
/// approximately right.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Census {
    /// The name of the table.
    pub table: String,
    /// Bytes of key and value that a slot holds now.
    pub payload: usize,
    /// Entries.
    pub entries: u64,
    /// The lengths of the keys.
    pub key_bytes: Histogram,
    /// The lengths of the values.
    pub value_bytes: Histogram,
    /// The lengths of key and value together.
    pub entry_bytes: Histogram,
    /// Segments that could not be read because they are damaged; what they
    /// hold is not counted.
    pub unreadable: u64,
    /// How many entries have each length up to the largest slot payload.
    short: Vec<u64>,
    /// How many are longer, and the bytes of the log that these need.
    long: (u64, u64),
}

impl Census {
    pub(crate) fn new(table: &str, payload: usize) -> Census {
        Census {
            table: table.to_owned(),
            payload,
            entries: 0,
            key_bytes: Histogram::new(),
            value_bytes: Histogram::new(),
            entry_bytes: Histogram::new(),
            unreadable: 0,
            short: vec![0; PAYLOADS.1 + 1],
            long: (0, 0),
        }
    }

    /// Counts an entry of these lengths.
    pub(crate) fn add(&mut self, key: u64, value: u64) {
        let both = key + value;
        self.entries += 1;
        self.key_bytes.add(key);
        self.value_bytes.add(value);
        self.entry_bytes.add(both);
        match self.short.get_mut(both as usize) {
            Some(count) => *count += 1,
            None => self.long = (self.long.0 + 1, self.long.1 + log_bytes(both)),
        }
    }

    /// How many entries do not fit a slot of that payload.
    pub fn spilled_at(&self, payload: usize) -> u64 {
        let longer = self.short.iter().skip(payload.saturating_add(1));
        self.long.0 + longer.sum::<u64>()
    }

    /// About how many bytes the table and what it needs of the log take with
    /// that slot payload; `None` for one that is not possible.
    pub fn bytes_at(&self, payload: usize) -> Option<u64> {
        let geometry = Geometry::new(payload)?;
        let slots = self.entries.saturating_mul(5).div_ceil(4);
        let pages = slots.div_ceil(geometry.slots_per_page() as u64).max(1);
        // Two header copies, root, free map, and a directory page at least.
        let blocks = pages + pages.div_ceil(250) + 4;
        let short = self.short.iter().enumerate().skip(payload + 1);
        let log: u64 = short.map(|(both, count)| count * log_bytes(both as u64)).sum();
        Some(blocks * BLOCK as u64 + log + self.long.1)
    }

    /// The slot payload with which the store is smallest. Of several that come
    /// to the same it is the largest, so that fewer values are read from the
    /// log; the one there is if there are no entries.
    pub fn best_payload(&self) -> usize {
        let (least, most, step) = PAYLOADS;
        let possible = (least..=most).step_by(step);
        let best = possible.min_by_key(|payload| (self.bytes_at(*payload), most - payload));
        if self.entries == 0 { self.payload } else { best.unwrap_or(self.payload) }
    }

    /// The share of the entries that does not fit, in percent.
    fn percent_spilled(&self, payload: usize) -> f64 {
        100.0 * self.spilled_at(payload) as f64 / self.entries.max(1) as f64
    }
}

/// The bytes of a record that holds one entry of that length.
fn log_bytes(both: u64) -> u64 {
    padded((RECORD_HEADER + OP_HEADER) as u64 + both)
}

impl fmt::Display for Census {
    /// What was found, in some sentences.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.entries == 0 {
            return write!(f, "Table {} has no entries.", self.table);
        }
        let at = |share| self.entry_bytes.quantile(share).unwrap_or(0);
        write!(
            f,
            "Table {} has {} entries. Key and value together: half of them have at most {} \
             bytes, nine in ten at most {}, the longest has {}. ",
            self.table,
            self.entries,
            at(0.5),
            at(0.9),
            at(1.0)
        )?;
        self.fmt_payload(f, "Now, with", self.payload)?;
        let best = self.best_payload();
        if best == self.payload {
            return f.write_str(" No other slot payload makes it smaller.");
        }
        f.write_str(" ")?;
        self.fmt_payload(f, "With", best)
    }
}

impl Census {
    fn fmt_payload(&self, f: &mut fmt::Formatter<'_>, begin: &str, payload: usize) -> fmt::Result {
        let mib = self.bytes_at(payload).unwrap_or(0) as f64 / f64::from(1 << 20);
        let percent = self.percent_spilled(payload);
        write!(
            f,
            "{begin} a slot payload of {payload} bytes, {percent:.1} % of them do not fit their \
             slots, and all takes about {mib:.1} MiB."
        )
    }
}

/// Counts the entries of a table. `progress` is told after each segment how
/// many have been counted.
///
/// Costs about what reading the table file once costs. Readers and writers go
/// on; what changes meanwhile is counted as it is when its turn comes. If the
/// table is cleared, counting begins anew.
///
/// # Errors
///
/// `Closed`; `NotFound` if the table was dropped; `Io`. Damage is no error.
pub(crate) fn take(store: &Store, table: &Table, progress: &mut dyn FnMut(u64)) -> Result<Census> {
    let begin = || Census::new(&table.name, table.geometry.payload());
    let mut census = begin();
    let mut clears = table.clears();
    let mut copy = SegmentCopy::default();
    let mut from = Some(0);
    while let Some(hash) = from {
        store.check_open()?;
        if table.is_dropped() {
            return Err(no_table(table));
        }
        match scan(store, table, hash, clears, &mut copy) {
            Ok(Scanned::Whole(next)) => {
                count(&copy, &mut census);
                from = next;
            }
            Ok(Scanned::Busy) => continue,
            Ok(Scanned::Cleared) => {
                (census, clears, from) = (begin(), table.clears(), Some(0));
            }
            Err(Error::Corrupt(_)) => {
                census.unreadable += 1;
                from = table.next_segment_after(hash);
            }
            Err(error) => return Err(error),
        }
        progress(census.entries);
    }
    Ok(census)
}

/// Copies a segment, with the writer lock if it cannot be done without.
fn scan(
    store: &Store,
    table: &Table,
    hash: u64,
    clears: u64,
    copy: &mut SegmentCopy,
) -> Result<Scanned> {
    match table.scan_segment(hash, clears, copy)? {
        Scanned::Busy => {
            let _lock = store.core()?;
            table.scan_segment(hash, clears, copy)
        }
        scanned => Ok(scanned),
    }
}

fn count(copy: &SegmentCopy, census: &mut Census) {
    for slot in (0..copy.len()).filter_map(|i| copy.get(i)) {
        let key = slot.lengths.key_len() as u64;
        // An address shorter than its key is damage, which `verify` tells of.
        if let Some(value) = value_len(slot) {
            census.add(key, value);
        }
    }
}

/// The length of the value of an entry, wherever it is.
fn value_len(slot: ScannedSlot<'_>) -> Option<u64> {
    let lengths = slot.lengths;
    match (lengths.key_spilled(), lengths.value_spilled()) {
        (_, false) => Some(lengths.value_len() as u64),
        (false, true) => Some(slot.address().len.into()),
        (true, true) => u64::from(slot.address().len).checked_sub(lengths.key_len() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A census of entries of these lengths.
    fn of(lengths: impl IntoIterator<Item = (u64, u64)>) -> Census {
        let mut census = Census::new("t", 56);
        lengths.into_iter().for_each(|(key, value)| census.add(key, value));
        census
    }

    #[test]
    fn entries_of_one_length_get_a_slot_of_that_length() {
        // Four groups of up to 120 bytes a slot fit a page, so nothing is lost
        // by room to spare.
        for (both, best) in [(24, 24), (40, 40), (56, 56), (96, 120)] {
            let census = of((0..10_000).map(|_| (16, both - 16)));
            assert_eq!(census.best_payload(), best);
            assert_eq!(census.spilled_at(both as usize), 0);
            assert_eq!(census.spilled_at(both as usize - 1), 10_000);
        }
    }

    #[test]
    fn long_entries_stay_in_the_log() {
        let census = of((0..10_000).map(|_| (16, 5_000)));
        assert_eq!(census.best_payload(), 24);
        // A record header, an operation header, key, value, padding.
        assert_eq!(log_bytes(5_016), 5_056);
        let table = census.bytes_at(24).unwrap() - 10_000 * 5_056;
        assert!((300_000..600_000).contains(&table), "{table} bytes of table");
    }

    #[test]
    fn an_empty_table_keeps_what_it_has() {
        assert_eq!(of([]).best_payload(), 56);
        assert_eq!(of([]).bytes_at(56), Some(6 * 4096));
        assert_eq!(of([]).to_string(), "Table t has no entries.");
    }

    #[test]
    fn only_payloads_of_the_format_have_a_size() {
        let census = of([(1, 1)]);
        for impossible in [0, 16, 30, 512, usize::MAX] {
            assert_eq!(census.bytes_at(impossible), None);
        }
        assert_eq!(census.spilled_at(usize::MAX), 0);
    }

    #[test]
    fn it_says_what_it_found() {
        let census = of((0..100).map(|i| (8, if i < 90 { 8 } else { 1_000 })));
        let text = census.to_string();
        for part in ["100 entries", "half of them have at most 16", "10.0 %", "56 bytes", "24"] {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
    }

    /// The default table of a store in memory.
    fn store() -> (Store, std::sync::Arc<Table>) {
        let memory = std::sync::Arc::new(crate::storage::memory::Memory::new());
        let store = crate::recovery::open(memory, &crate::Options::new()).unwrap();
        let table = store.find_table("default").unwrap();
        (store, table)
    }

    #[test]
    fn lengths_are_found_wherever_key_and_value_are() {
        let (store, table) = store();
        let mut expected = Census::new("default", 56);
        for (i, key_len) in [4, 20, 40, 80, 3_000].into_iter().enumerate() {
            for value_len in [0, 10, 30, 80, 100_000] {
                let mut key = vec![i as u8; key_len];
                key[0] = value_len as u8;
                store.insert(&table, &key, &vec![7; value_len]).unwrap();
                expected.add(key_len as u64, value_len as u64);
            }
        }
        assert_eq!(take(&store, &table, &mut |_| ()).unwrap(), expected);
    }

    #[test]
    fn a_table_in_use_is_counted_without_missing_what_stays() {
        let (store, table) = store();
        for i in 0..20_000u32 {
            store.insert(&table, &i.to_le_bytes(), &[1; 30]).unwrap();
        }
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for i in (20_000..).take_while(|_| !done.load(std::sync::atomic::Ordering::Relaxed))
                {
                    let key = (20_000 + i % 20_000u32).to_le_bytes();
                    store.insert(&table, &key, &[2; 40]).unwrap();
                }
            });
            for _ in 0..5 {
                let census = take(&store, &table, &mut |_| ()).unwrap();
                assert_eq!(census.short[34], 20_000, "what is there all the time");
                assert!(census.entries <= 40_000 && census.unreadable == 0);
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }

    #[test]
    fn a_table_that_is_cleared_is_counted_from_the_beginning() {
        let (store, table) = store();
        for i in 0..5_000u32 {
            store.insert(&table, &i.to_le_bytes(), b"v").unwrap();
        }
        let mut cleared = false;
        let census = take(&store, &table, &mut |_| {
            if !std::mem::replace(&mut cleared, true) {
                store.clear(&table).unwrap();
                store.insert(&table, b"only", b"this").unwrap();
            }
        });
        assert_eq!(census.unwrap().entries, 1);
    }
}
