//! Keys and values of the comparison, from fixed seeds.
//!
//! Keys and values follow from a number, so that making one costs some ten
//! nanoseconds and no memory; that is part of every measurement alike.
//! Keys are random bytes: inserting the numbers in order inserts random keys.
//!
//! A value begins with a word that says whose it is and which version, ends
//! with a word made from that, and has the same random bytes between. So each
//! value that is read is checked against its key, whatever its version, and the
//! sum of their words over a phase has to be the same for all stores.
//! So every cache line is read, as by somebody who wants the value: a store that lends
//! a place in memory that nobody has looked at yet has not read it. No store
//! compresses, so that equal bytes in the middle are no gain.

use crate::data::mix;

/// The longest key of any workload.
const LONGEST_KEY: usize = 24;

/// The bytes of a cache line.
const LINE: usize = 64;

/// More versions than a workload writes.
const VERSIONS: u64 = 1 << 16;

/// A key of 16 or 24 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    bytes: [u8; LONGEST_KEY],
    length: u8,
}

impl std::ops::Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// How many entries there are, and how long they are.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The number of entries.
    pub entries: u64,
    /// The length of all keys.
    pub key_bytes: usize,
    /// The length of all values, at least 8.
    pub value_bytes: usize,
}

impl Shape {
    /// Bytes of keys and values of so many entries.
    pub fn bytes(&self, entries: u64) -> u64 {
        entries * (self.key_bytes + self.value_bytes) as u64
    }

    /// The key of an entry.
    pub fn key(&self, number: u64) -> Key {
        self.key_of(1, number)
    }

    /// A key that no entry has.
    pub fn absent(&self, number: u64) -> Key {
        self.key_of(4, number)
    }

    fn key_of(&self, family: u64, number: u64) -> Key {
        let mut bytes = [0; LONGEST_KEY];
        bytes[..16].copy_from_slice(&crate::data::key(family, number));
        bytes[16..].copy_from_slice(&mix(number ^ family << 32).to_le_bytes());
        Key { bytes, length: self.key_bytes as u8 }
    }

    /// Something that makes values of this length.
    pub fn values(&self) -> Values {
        let words = self.value_bytes.div_ceil(8) as u64;
        let bytes = (0..words).flat_map(|word| mix(word ^ 7 << 32).to_le_bytes());
        Values { bytes: bytes.take(self.value_bytes).collect() }
    }

    /// What a value that was read says of itself; `None` if it is not a value of
    /// this entry.
    pub fn taste(&self, number: u64, value: &[u8]) -> Option<u64> {
        let first = u64::from_le_bytes(*value.first_chunk()?);
        let last = u64::from_le_bytes(*value.last_chunk()?);
        let of_entry = (first ^ tag(number)) < VERSIONS && value.len() == self.value_bytes;
        let sound = of_entry && (value.len() < 16 || last == mix(first));
        // First and last word of a short value touch all lines of it.
        let between = if value.len() > LINE { sum_of_words(value) } else { 0 };
        sound.then(|| first.wrapping_add(last).wrapping_add(between))
    }

    /// So many numbers of entries in a random order; each comes once before
    /// any comes a second time.
    pub fn order(&self, seed: u64) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..self.entries as u32).collect();
        for i in (1..numbers.len()).rev() {
            numbers.swap(i, (mix(seed ^ (i as u64) << 8) % (i as u64 + 1)) as usize);
        }
        numbers
    }
}

/// The sum of all words of a value, which reads all of it.
#[inline(never)]
fn sum_of_words(value: &[u8]) -> u64 {
    let (words, _) = value.as_chunks();
    words.iter().fold(0, |sum: u64, word| sum.wrapping_add(u64::from_le_bytes(*word)))
}

/// A word that only this entry has.
fn tag(number: u64) -> u64 {
    mix(number ^ 11 << 40)
}

/// Makes values in a buffer of its own.
pub struct Values {
    bytes: Vec<u8>,
}

impl Values {
    /// The value of an entry in one of its versions.
    pub fn of(&mut self, number: u64, version: u64) -> &[u8] {
        let first = tag(number) ^ (version % VERSIONS);
        if self.bytes.len() >= 16
            && let Some(end) = self.bytes.last_chunk_mut()
        {
            *end = mix(first).to_le_bytes();
        }
        if let Some(start) = self.bytes.first_chunk_mut() {
            *start = first.to_le_bytes();
        }
        &self.bytes
    }
}

/// Entries for one commit, lying side by side.
#[derive(Clone, Copy)]
pub struct Entries<'a> {
    keys: &'a [Key],
    values: &'a [u8],
    value_bytes: usize,
}

impl<'a> Entries<'a> {
    /// Keys with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let keys = self.keys.iter().map(|key| &key[..]);
        keys.zip(self.values.chunks_exact(self.value_bytes))
    }
}

/// Where entries for commits are put together.
pub struct Group {
    shape: Shape,
    value: Values,
    keys: Vec<Key>,
    values: Vec<u8>,
}

impl Group {
    /// An empty one.
    pub fn new(shape: Shape) -> Group {
        Group { shape, value: shape.values(), keys: Vec::new(), values: Vec::new() }
    }

    /// The entries of these numbers, in one version.
    pub fn fill(&mut self, numbers: impl Iterator<Item = u64>, version: u64) -> Entries<'_> {
        self.keys.clear();
        self.values.clear();
        for number in numbers {
            self.keys.push(self.shape.key(number));
            self.values.extend_from_slice(self.value.of(number, version));
        }
        self.all()
    }

    /// All entries that it was filled with.
    pub fn all(&self) -> Entries<'_> {
        Entries { keys: &self.keys, values: &self.values, value_bytes: self.shape.value_bytes }
    }

    /// The same in parts of at most so many entries.
    pub fn parts(&self, most: usize) -> impl Iterator<Item = Entries<'_>> {
        let (value_bytes, most) = (self.shape.value_bytes, most.min(self.keys.len().max(1)));
        let values = self.values.chunks(most * value_bytes);
        let parts = self.keys.chunks(most).zip(values);
        parts.map(move |(keys, values)| Entries { keys, values, value_bytes })
    }
}

/// Numbers that are the more frequent the more popular they are, as YCSB draws
/// them: zipfian with the constant 0.99, the popular ones scattered among all.
pub struct Zipfian {
    numbers: u64,
    zeta: f64,
    half: f64,
    eta: f64,
    state: u64,
}

/// YCSB's constant.
const THETA: f64 = 0.99;

impl Zipfian {
    /// Numbers below `numbers`.
    pub fn new(numbers: u64, seed: u64) -> Zipfian {
        let zeta = |n: u64| (1..=n).map(|i| (i as f64).powf(-THETA)).sum::<f64>();
        let all = zeta(numbers);
        let eta = (1.0 - (2.0 / numbers as f64).powf(1.0 - THETA)) / (1.0 - zeta(2) / all);
        Zipfian { numbers, zeta: all, half: 0.5f64.powf(THETA), eta, state: mix(seed) }
    }

    fn rank(&mut self) -> u64 {
        self.state = self.state.wrapping_add(1);
        let uniform = (mix(self.state) >> 11) as f64 / (1u64 << 53) as f64;
        let weight = uniform * self.zeta;
        if weight < 1.0 {
            0
        } else if weight < 1.0 + self.half {
            1
        } else {
            let share = (self.eta * uniform - self.eta + 1.0).powf(1.0 / (1.0 - THETA));
            (self.numbers as f64 * share) as u64
        }
    }
}

impl Iterator for Zipfian {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        Some((mix(self.rank() ^ 13 << 48) % self.numbers) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::{Shape, Zipfian};

    const SHAPE: Shape = Shape { entries: 1_000, key_bytes: 24, value_bytes: 100 };

    #[test]
    fn a_value_is_known_by_its_own_entry_only() {
        let mut values = SHAPE.values();
        for version in [0, 1, 300] {
            let value = values.of(7, version).to_vec();
            assert!(SHAPE.taste(7, &value).is_some());
            assert!(SHAPE.taste(8, &value).is_none());
            assert!(SHAPE.taste(7, &value[..99]).is_none());
        }
        assert_ne!(SHAPE.taste(7, values.of(7, 1)), SHAPE.taste(7, values.of(7, 2)));
    }

    #[test]
    fn every_entry_comes_once_in_an_order() {
        let mut order = SHAPE.order(3);
        assert_ne!(order, SHAPE.order(5));
        order.sort_unstable();
        assert!(order.into_iter().eq(0..1_000));
    }

    #[test]
    fn a_zipfian_number_is_drawn_as_often_as_its_rank_says() {
        let mut zipfian = Zipfian::new(1_000, 3);
        let draws = 100_000;
        let mut first = 0;
        let mut second = 0;
        for _ in 0..draws {
            let rank = zipfian.rank();
            assert!(rank < 1_000);
            first += u32::from(rank == 0);
            second += u32::from(rank == 1);
        }
        // One over the sum of the weights, 7.7, and half of that.
        assert!((11_500..14_500).contains(&first), "{first}");
        assert!((5_500..7_500).contains(&second), "{second}");
    }
}
