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
//! and be loaded by readers without a pointer: [`Hasher::words`]. Who has many
//! keys of 16 bytes to hash may do eight at once: [`wide`].

mod wide;

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

use crate::options::HashKind;

pub(crate) use wide::{LANES, Lanes, Wide, eight_keys};

/// What is hashed for the self-test.
const SELF_TEST: &[u8] = b"swissdb";

/// What SipHash mixes in behind the last word.
const SIP_LAST: u64 = 0xff;

/// A keyed hash function.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hasher {
    /// The state that the key makes, and the half of the first round that does not
    /// depend on what is hashed.
    Sip([u64; 4]),
    Fast(RapidSecrets),
    /// Every key has this hash: for tests of collisions.
    #[cfg(test)]
    Constant(u64),
}

impl Hasher {
    pub(crate) fn new(kind: HashKind, key: [u64; 2]) -> Hasher {
        match kind {
            HashKind::Sip => {
                let mut state = [
                    key[0] ^ 0x736f_6d65_7073_6575,
                    key[1] ^ 0x646f_7261_6e64_6f6d,
                    key[0] ^ 0x6c79_6765_6e65_7261,
                    key[1] ^ 0x7465_6462_7974_6573,
                ];
                left_half(&mut state);
                Hasher::Sip(state)
            }
            HashKind::Fast => {
                let derived = RapidSecrets::seed(key[0]);
                Hasher::Fast(RapidSecrets { seed: key[1], secrets: derived.secrets })
            }
        }
    }

    /// The hash of a key.
    #[inline(always)]
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        match self {
            // What most keys are: without a loop, and without a call.
            Hasher::Sip(state) => match <&[u8; 16]>::try_from(key) {
                Ok(key) => sip13(*state, key),
                Err(_) => sip13_of_any(*state, key),
            },
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
            Hasher::Sip(state) => {
                words[..4].copy_from_slice(state);
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
            _ => Hasher::Sip(std::array::from_fn(word)),
        }
    }
}

#[inline(never)]
fn sip13_of_any(state: [u64; 4], bytes: &[u8]) -> u64 {
    sip13(state, bytes)
}

/// SipHash-1-3 of a whole slice: written out here because a hasher that can
/// be fed in pieces takes twice as long for a short key.
#[inline(always)]
fn sip13(mut v: [u64; 4], bytes: &[u8]) -> u64 {
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        absorb(&mut v, u64::from_le_bytes(*word));
    }
    // The length stands in the top byte, modulo 256.
    absorb(&mut v, last_word(bytes, tail) | (bytes.len() as u64) << 56);
    v[2] ^= SIP_LAST;
    right_half(&mut v);
    left_half(&mut v);
    right_half(&mut v);
    left_half(&mut v);
    right_half(&mut v);
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

/// The bytes behind the last whole word, as the low bytes of a word. Where there
/// are eight bytes before them, all are loaded at once.
#[inline]
fn last_word(bytes: &[u8], tail: &[u8]) -> u64 {
    match bytes.last_chunk::<8>() {
        _ if tail.is_empty() => 0,
        Some(last) => u64::from_le_bytes(*last) >> (64 - 8 * tail.len()),
        None => tail.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// A round with a word, from the middle of it to the middle of the next.
#[inline(always)]
fn absorb(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    right_half(v);
    v[0] ^= word;
    left_half(v);
}

/// What a round does to its first two words alone. It touches neither of the others,
/// so it may be done before a word goes into them.
#[inline(always)]
fn left_half(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
}

/// The rest of a round.
#[inline(always)]
fn right_half(v: &mut [u64; 4]) {
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
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
    fn the_values_that_format_md_gives_for_checking_are_right() {
        let text = include_str!("../format.md").replace('\n', " ");
        let sip = Hasher::new(HashKind::Sip, [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
        let value = sip.hash(&[]);
        assert!(text.contains(&format!("the hash of no bytes is 0x{value:016x}.")));
        let value = Hasher::new(HashKind::Fast, [3, 5]).hash(b"swissdb");
        assert!(
            text.contains(&format!(
                "With k0 = 3 and k1 = 5 the hash of `swissdb` is 0x{value:016x}."
            ))
        );
    }

    #[test]
    fn siphash_13_agrees_with_another_implementation_at_every_length() {
        let bytes: Vec<u8> = (0..300u32).map(|i| (i * 7) as u8).collect();
        for length in 0..bytes.len() {
            let key = [length as u64 * 3, !(length as u64)];
            let other = siphasher::sip::SipHasher13::new_with_keys(key[0], key[1]);
            let hasher = Hasher::new(HashKind::Sip, key);
            assert_eq!(hasher.hash(&bytes[..length]), other.hash(&bytes[..length]));
        }
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
