//! What each entry of a table was, in every version, and which versions a
//! reader may see.
//!
//! Entry `i` in version `v` is absent or has a value, and both follow from `i`
//! and `v` alone; version 0 is absent. Its writer says which version it is about
//! to commit, commits it, and says that it did. So a read that began after
//! version `lo` was committed and ended before version `hi + 1` was begun may
//! find `lo..=hi` and nothing else; and as versions only go up, no reader may
//! find an older one than it has found before.
//!
//! A value says whose it is, how long, and in which version; the rest of it is
//! filler that follows from these, and every byte is compared.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::support::{show, value};

/// The bytes that head a value: entry, length, version.
pub const HEAD: usize = 16;

/// How long the values of a table are.
#[derive(Clone, Copy)]
pub enum Lengths {
    /// Of every length, up to one that gets a log file of its own.
    Mixed,
    /// Such that nearly all stand in slots of 504 bytes.
    Inline,
}

/// The entries of a table, whether they are there or not.
pub struct Ledger {
    pub keys: Vec<Vec<u8>>,
    index: HashMap<Vec<u8>, usize>,
    /// Of each entry, the last version begun and the last one committed.
    versions: Vec<[AtomicU64; 2]>,
    lengths: Lengths,
}

impl Ledger {
    /// The entries of a new table.
    pub fn new(keys: Vec<Vec<u8>>, lengths: Lengths) -> Ledger {
        let index: HashMap<_, _> =
            keys.iter().enumerate().map(|(i, key)| (key.clone(), i)).collect();
        assert_eq!(index.len(), keys.len(), "keys are different");
        let versions = keys.iter().map(|_| [AtomicU64::new(0), AtomicU64::new(0)]).collect();
        Ledger { keys, index, versions, lengths }
    }

    /// How many entries there could be.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The entry of a key that a store returned.
    pub fn entry_of(&self, key: &[u8]) -> usize {
        *self.index.get(key).unwrap_or_else(|| panic!("{} is no key of this table", show(key)))
    }

    /// The last version that was begun.
    pub fn begun(&self, entry: usize) -> u64 {
        self.versions[entry][0].load(SeqCst)
    }

    /// The last version that was committed.
    pub fn committed(&self, entry: usize) -> u64 {
        self.versions[entry][1].load(SeqCst)
    }

    /// The writer is about to commit a version.
    pub fn begin(&self, entry: usize, version: u64) {
        assert!(self.versions[entry][0].swap(version, SeqCst) < version, "one writer per entry");
    }

    /// The writer has committed a version.
    pub fn commit(&self, entry: usize, version: u64) {
        self.versions[entry][1].store(version, SeqCst);
    }

    /// The length of the value in a version, if there is one.
    pub fn length(&self, entry: usize, version: u64) -> Option<usize> {
        let bits = mix(entry as u64, version);
        if version == 0 || bits.is_multiple_of(5) {
            return None;
        }
        let within = |from: u64, to: u64| (from + (bits >> 32) % (to - from)) as usize;
        Some(match (self.lengths, (bits >> 16) % 100) {
            (Lengths::Inline, 0) => within(600, 2_000),
            (Lengths::Inline, _) => within(HEAD as u64, 300),
            (Lengths::Mixed, 0..60) => within(HEAD as u64, 48),
            (Lengths::Mixed, 60..85) => within(48, 300),
            (Lengths::Mixed, 85..97) => within(300, 4_000),
            (Lengths::Mixed, 97..99) => within(4_000, 60_000),
            (Lengths::Mixed, _) if (bits >> 24).is_multiple_of(50) => (1 << 20) + within(0, 9_000),
            (Lengths::Mixed, _) => HEAD,
        })
    }

    /// The first version after one in which an entry is there, or is not.
    pub fn next_that(&self, entry: usize, after: u64, there: bool) -> u64 {
        let mut later = after + 1..;
        let found = later.find(|version| self.length(entry, *version).is_some() == there);
        found.expect("versions do not end")
    }

    /// Writes the value of a version into a buffer; whether there is one.
    pub fn value(&self, entry: usize, version: u64, out: &mut Vec<u8>) -> bool {
        let Some(length) = self.length(entry, version) else {
            return false;
        };
        out.clear();
        out.extend((entry as u32).to_le_bytes());
        out.extend((length as u32).to_le_bytes());
        out.extend(version.to_le_bytes());
        while out.len() < length {
            let word = filler(entry, version, out.len());
            out.extend(&word.to_le_bytes()[..(length - out.len()).min(8)]);
        }
        true
    }

    /// The version that a value is of; fails if it is not one of this entry,
    /// whole.
    pub fn version_of(&self, entry: usize, bytes: &[u8]) -> u64 {
        assert!(bytes.len() >= HEAD, "{} is too short for entry {entry}", show(bytes));
        let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let version = u64::from_le_bytes(bytes[8..HEAD].try_into().expect("8 bytes"));
        assert_eq!(half(0) as usize, entry, "a value of the entry that was asked for");
        assert_eq!(half(4) as usize, bytes.len(), "entry {entry}, version {version}: its length");
        let length = self.length(entry, version);
        assert_eq!(length, Some(bytes.len()), "entry {entry}, version {version}: such a length");
        for (i, chunk) in bytes[HEAD..].chunks(8).enumerate() {
            let at = HEAD + i * 8;
            let same = filler(entry, version, at).to_le_bytes()[..chunk.len()] == *chunk;
            assert!(same, "entry {entry}, version {version}: torn at byte {at}");
        }
        version
    }
}

/// The word of filler at an offset.
fn filler(entry: usize, version: u64, at: usize) -> u64 {
    mix(entry as u64 ^ (at as u64) << 32, version)
}

/// Bits that follow from two numbers.
fn mix(a: u64, b: u64) -> u64 {
    let mut bits = (a ^ b.rotate_left(40)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_add(b).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// Keys of all kinds: the empty one, such that fit any slot, such that fit some,
/// and such that fit none.
pub fn keys_of_all_kinds(count: usize) -> Vec<Vec<u8>> {
    let length = |i: usize| match i % 50 {
        0..20 => 8,
        20..30 => 16,
        30..38 => 30,
        38..43 => 56,
        43..46 => 90,
        46..49 => 200,
        _ if i % 500 == 49 => swissdb::MAX_KEY_LENGTH,
        _ => 2_500,
    };
    let key = |i: usize| {
        let mut key = format!("{i:x}.").into_bytes();
        let filler = value(i as u64, length(i).saturating_sub(key.len()));
        key.extend(filler);
        key
    };
    std::iter::once(Vec::new()).chain((1..count).map(key)).collect()
}

/// What one reader knows of a table: of each entry, the oldest version that it
/// may still see.
pub struct Witness<'a> {
    pub ledger: &'a Ledger,
    oldest: Vec<u64>,
}

/// What a read found.
pub enum Found<'a> {
    Value(&'a [u8]),
    Something,
    Nothing,
}

impl<'a> Witness<'a> {
    /// A reader that has seen nothing yet.
    pub fn new(ledger: &'a Ledger) -> Witness<'a> {
        Witness { ledger, oldest: vec![0; ledger.len()] }
    }

    /// A read of an entry is over that began when version `committed` was
    /// committed: what it found was so in between. Later reads find no older one.
    pub fn judge(&mut self, entry: usize, committed: u64, found: &Found<'_>, how: &str) {
        self.oldest[entry] = self.weigh(entry, committed, found, how);
    }

    /// The same, for one of several reads at the same time. The oldest version
    /// that was so.
    pub fn weigh(&self, entry: usize, committed: u64, found: &Found<'_>, how: &str) -> u64 {
        let version = match found {
            Found::Value(bytes) => Some(self.ledger.version_of(entry, bytes)),
            _ => None,
        };
        let seen = self.oldest[entry];
        let (from, to) = (committed.max(seen), self.ledger.begun(entry));
        let at =
            || format!("{how} of entry {entry}, {committed} committed, {seen} seen, {to} begun");
        let there = |version: &u64| self.ledger.length(entry, *version).is_some();
        match (version, found) {
            (Some(version), _) => {
                assert!((from..=to).contains(&version), "{}: version {version}", at());
                version
            }
            (None, Found::Nothing) => {
                let absent = (from..=to).find(|version| !there(version));
                absent.unwrap_or_else(|| panic!("{}: nothing", at()))
            }
            _ => {
                let present = (from..=to).find(there);
                present.unwrap_or_else(|| panic!("{}: something", at()))
            }
        }
    }
}
