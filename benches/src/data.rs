//! Keys and values from fixed seeds.
//!
//! Keys are 16 random bytes, values 32. Both follow from a number, so that a
//! long measurement needs no memory for them; where the cost of making them
//! would be measured, they are made beforehand ([`Workload`]).

/// A key.
pub type Key = [u8; 16];
/// A value.
pub type Value = [u8; 32];

/// The `i`-th key of a family; families share no key.
pub fn key(family: u64, i: u64) -> Key {
    let mut key = [0; 16];
    // The second half is a bijection of the number: no two keys are equal.
    key[..8].copy_from_slice(&mix(family ^ mix(i)).to_le_bytes());
    key[8..].copy_from_slice(&mix(i.wrapping_add(family << 48)).to_le_bytes());
    key
}

/// The `i`-th value of a family.
pub fn value(family: u64, i: u64) -> Value {
    let mut value = [0; 32];
    for (word, chunk) in value.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&mix(family ^ i.wrapping_mul(4) ^ word as u64).to_le_bytes());
    }
    value
}

/// The finalizer of SplitMix64: a bijection that leaves no pattern.
pub fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// What one round does, in order. Each list is walked from front to back, so
/// that fetching the keys costs the same in every phase.
pub struct Workload {
    /// Inserted in this order.
    pub keys: Vec<Key>,
    /// The value of each key; overwriting gives it that of the next one.
    pub values: Vec<Value>,
    /// The same keys in another order, for reading.
    pub read: Vec<Key>,
    /// As many keys that are not there.
    pub absent: Vec<Key>,
    /// The same keys in a third order, for overwriting and removing.
    pub changed: Vec<Key>,
}

impl Workload {
    /// The workload of a number of entries.
    pub fn new(entries: u64) -> Workload {
        let keys: Vec<Key> = (0..entries).map(|i| key(1, i)).collect();
        Workload {
            values: (0..entries).map(|i| value(2, i)).collect(),
            read: shuffled(&keys, 3),
            absent: (0..entries).map(|i| key(4, i)).collect(),
            changed: shuffled(&keys, 5),
            keys,
        }
    }
}

/// The same keys in a random order.
fn shuffled(keys: &[Key], seed: u64) -> Vec<Key> {
    let mut keys = keys.to_vec();
    for i in (1..keys.len()).rev() {
        keys.swap(i, (mix(seed ^ (i as u64) << 8) % (i as u64 + 1)) as usize);
    }
    keys
}
