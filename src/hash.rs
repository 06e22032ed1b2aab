//! From a key to its 64 hash bits.
//!
//! Two kinds, both keyed by 128 random bits that belong to the root of a table
//! (files outlive processes, and a flood of colliding keys would inflate the
//! directory for ever):
//!
//! | id | kind | the key (k0, k1) is used as |
//! |---|---|---|
//! | 1 | SipHash-1-3 | its two key words |
//! | 2 | rapidhash v3 | seed = k1, secrets = those derived from k0 |
//!
//! "Derived": s0 = premix(premix(k0, 0), 0), s(i) = premix(s(i-1), i), as the
//! `rapidhash` crate's `RapidSecrets::seed` does. The *self-test* value, the
//! hash of `swissdb`, stands in each header and catches an implementation that
//! hashes differently when a store is opened.
//!
//! A hasher is eight words, so it can stand in shared memory beside the root
//! and be loaded by readers without a pointer: [`Hasher::words`].

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
use siphasher::sip::SipHasher13;

use crate::options::HashKind;

/// What is hashed for the self-test.
const SELF_TEST: &[u8] = b"swissdb";

/// A keyed hash function.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hasher {
    Sip([u64; 2]),
    Fast(RapidSecrets),
    /// Every key has this hash: for tests of collisions.
    #[cfg(test)]
    Constant(u64),
}

impl Hasher {
    pub(crate) fn new(kind: HashKind, key: [u64; 2]) -> Hasher {
        match kind {
            HashKind::Sip => Hasher::Sip(key),
            HashKind::Fast => {
                let derived = RapidSecrets::seed(key[0]);
                Hasher::Fast(RapidSecrets { seed: key[1], secrets: derived.secrets })
            }
        }
    }

    /// The hash of a key.
    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        match self {
            Hasher::Sip([k0, k1]) => SipHasher13::new_with_keys(*k0, *k1).hash(key),
            Hasher::Fast(secrets) => rapidhash_v3_seeded(key, secrets),
            #[cfg(test)]
            Hasher::Constant(hash) => *hash,
        }
    }

    /// The value that stands in headers.
    pub(crate) fn self_test(&self) -> u64 {
        self.hash(SELF_TEST)
    }

    /// This hasher as an id and eight words.
    pub(crate) fn words(&self) -> (u64, [u64; 8]) {
        let mut words = [0; 8];
        match self {
            Hasher::Sip(key) => {
                words[..2].copy_from_slice(key);
                (1, words)
            }
            Hasher::Fast(secrets) => {
                words[0] = secrets.seed;
                words[1..].copy_from_slice(&secrets.secrets);
                (2, words)
            }
            #[cfg(test)]
            Hasher::Constant(hash) => {
                words[0] = *hash;
                (255, words)
            }
        }
    }

    /// The hasher of an id and its words, which are asked for one by one.
    /// Unknown ids (a reader's late look at reused memory) hash like id 1.
    #[inline]
    pub(crate) fn from_words(id: u64, word: impl Fn(usize) -> u64) -> Hasher {
        match id {
            2 => Hasher::Fast(RapidSecrets {
                seed: word(0),
                secrets: std::array::from_fn(|i| word(i + 1)),
            }),
            #[cfg(test)]
            255 => Hasher::Constant(word(0)),
            _ => Hasher::Sip([word(0), word(1)]),
        }
    }
}

impl HashKind {
    /// The id that stands in headers.
    pub(crate) fn id(self) -> u8 {
        match self {
            HashKind::Sip => 1,
            HashKind::Fast => 2,
        }
    }

    /// The kind of an id.
    pub(crate) fn from_id(id: u8) -> Option<HashKind> {
        match id {
            1 => Some(HashKind::Sip),
            2 => Some(HashKind::Fast),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siphash_13_gives_the_published_value() {
        // From the reference vectors of SipHash-1-3: key 00..0f, input 00.
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let hasher = Hasher::new(HashKind::Sip, key);
        assert_eq!(hasher.hash(&[]), 0xabac_0158_050f_c4dc);
    }

    #[test]
    fn a_hasher_survives_its_words() {
        for kind in [HashKind::Sip, HashKind::Fast] {
            let hasher = Hasher::new(kind, [3, 5]);
            let (id, words) = hasher.words();
            let copy = Hasher::from_words(id, |i| words[i]);
            assert_eq!(hasher.hash(b"a key"), copy.hash(b"a key"));
            assert_ne!(hasher.hash(b"a key"), Hasher::new(kind, [3, 6]).hash(b"a key"));
        }
    }
}
