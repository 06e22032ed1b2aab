//! A hash function that is easy to follow: a key of eight bytes, and the hash
//! key added to it.

/// The hash function.
#[derive(Clone)]
pub(crate) struct Hasher(u64);

impl Hasher {
    /// The hash function of a hash key.
    pub(crate) fn new(key: u64) -> Hasher {
        Hasher(key)
    }

    pub(crate) fn words(&self) -> (u64, [u64; 8]) {
        (1, [self.0; 8])
    }

    pub(crate) fn from_words(_: u64, word: impl Fn(usize) -> u64) -> Hasher {
        Hasher(word(0))
    }

    pub(crate) fn self_test(&self) -> u64 {
        self.0
    }

    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        let mut bytes = [0; 8];
        bytes[..key.len()].copy_from_slice(key);
        u64::from_le_bytes(bytes).wrapping_add(self.0)
    }
}
