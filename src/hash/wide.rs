//! SipHash-1-3 of eight keys at once.
//!
//! Each step of SipHash waits for the one before, and it is some ninety
//! instructions for a key of 16 bytes. Where entries are moved, and where a batch
//! begins, many keys are hashed one after the other; a processor with registers
//! of eight words does eight of them with the instructions of one. The loops
//! below are written so that the compiler makes one instruction of each; it does
//! so for a processor that has them only if it is told that it may, and then
//! the function must not be called on any other.
//!
//! # Safety
//!
//! This is the one reason for `unsafe` here: a function that was compiled for
//! features of the processor is called only where they were found, which is what
//! a [`Wide`] says. It reads and writes nothing but its arguments.

use super::{Hasher, SIP_LAST};

/// Keys that are hashed at once.
pub(crate) const LANES: usize = 8;

/// A word of each of the keys.
pub(crate) type Lanes = [u64; LANES];

/// The words of the first eight of these keys, if there are so many, and all have
/// 16 bytes.
#[inline(always)]
pub(crate) fn eight_keys<'a>(keys: impl ExactSizeIterator<Item = &'a [u8]>) -> Option<[Lanes; 2]> {
    if keys.len() < LANES {
        return None;
    }
    let mut words = [[0; LANES]; 2];
    for (lane, key) in keys.take(LANES).enumerate() {
        let ([a, b], []) = key.as_chunks::<8>() else { return None };
        (words[0][lane], words[1][lane]) = (u64::from_le_bytes(*a), u64::from_le_bytes(*b));
    }
    Some(words)
}

/// That this machine hashes eight keys at once, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wide {
    state: [u64; 4],
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    registers: Registers,
}

/// What was found in the processor.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[derive(Debug, Clone, Copy)]
enum Registers {
    /// Of eight words (AVX-512 F).
    Eight,
    /// Of four words (AVX2).
    Four,
}

impl Hasher {
    /// How to hash eight keys at once, if that is faster here than one by one.
    #[inline]
    pub(crate) fn wide(&self) -> Option<Wide> {
        match self {
            Hasher::Sip(state) => Wide::new(*state),
            _ => None,
        }
    }
}

impl Wide {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    fn new(state: [u64; 4]) -> Option<Wide> {
        let registers = if std::is_x86_feature_detected!("avx512f") {
            Registers::Eight
        } else if std::is_x86_feature_detected!("avx2") {
            Registers::Four
        } else {
            return None;
        };
        Some(Wide { state, registers })
    }

    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    fn new(_: [u64; 4]) -> Option<Wide> {
        None
    }

    /// The hashes of eight keys of 16 bytes: the first words of all, and the
    /// second ones, as little-endian numbers.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[inline]
    pub(crate) fn hash(&self, keys: &[Lanes; 2]) -> Lanes {
        match self.registers {
            // SAFETY: the processor has AVX-512 F: `new` asked it.
            Registers::Eight => unsafe { by_eight(self.state, keys) },
            // SAFETY: the processor has AVX2: `new` asked it.
            Registers::Four => unsafe { by_four(self.state, keys) },
        }
    }

    /// The same where nothing is faster than one by one.
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    pub(crate) fn hash(&self, keys: &[Lanes; 2]) -> Lanes {
        sip13(self.state, keys)
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[target_feature(enable = "avx512f")]
fn by_eight(state: [u64; 4], keys: &[Lanes; 2]) -> Lanes {
    sip13(state, keys)
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[target_feature(enable = "avx2")]
fn by_four(state: [u64; 4], keys: &[Lanes; 2]) -> Lanes {
    sip13(state, keys)
}

/// As [`sip13`](super::sip13), of eight keys of two words.
#[inline(always)]
fn sip13(state: [u64; 4], keys: &[Lanes; 2]) -> Lanes {
    let mut v = state.map(|word| [word; LANES]);
    absorb(&mut v, &keys[0]);
    absorb(&mut v, &keys[1]);
    // The length stands in the top byte.
    absorb(&mut v, &[16 << 56; LANES]);
    v[2] = each(|i| v[2][i] ^ SIP_LAST);
    right_half(&mut v);
    left_half(&mut v);
    right_half(&mut v);
    left_half(&mut v);
    right_half(&mut v);
    each(|i| v[0][i] ^ v[1][i] ^ v[2][i] ^ v[3][i])
}

#[inline(always)]
fn each(word: impl Fn(usize) -> u64) -> Lanes {
    std::array::from_fn(word)
}

#[inline(always)]
fn absorb(v: &mut [Lanes; 4], words: &Lanes) {
    v[3] = each(|i| v[3][i] ^ words[i]);
    right_half(v);
    v[0] = each(|i| v[0][i] ^ words[i]);
    left_half(v);
}

#[inline(always)]
fn left_half(v: &mut [Lanes; 4]) {
    v[0] = each(|i| v[0][i].wrapping_add(v[1][i]));
    v[1] = each(|i| v[1][i].rotate_left(13) ^ v[0][i]);
    v[0] = each(|i| v[0][i].rotate_left(32));
}

#[inline(always)]
fn right_half(v: &mut [Lanes; 4]) {
    v[2] = each(|i| v[2][i].wrapping_add(v[3][i]));
    v[3] = each(|i| v[3][i].rotate_left(16) ^ v[2][i]);
    v[2] = each(|i| v[2][i].wrapping_add(v[1][i]));
    v[0] = each(|i| v[0][i].wrapping_add(v[3][i]));
    v[1] = each(|i| v[1][i].rotate_left(17) ^ v[2][i]);
    v[3] = each(|i| v[3][i].rotate_left(21) ^ v[0][i]);
    v[2] = each(|i| v[2][i].rotate_left(32));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::HashKind;

    fn keys() -> [Lanes; 2] {
        let word = |i: usize| (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        [each(word), each(|i| word(i + LANES))]
    }

    fn one_by_one(hasher: &Hasher, keys: &[Lanes; 2]) -> Lanes {
        each(|i| {
            let words = [keys[0][i].to_le_bytes(), keys[1][i].to_le_bytes()];
            hasher.hash(words.as_flattened())
        })
    }

    #[test]
    fn eight_keys_have_the_hashes_that_each_has_alone() {
        let hasher = Hasher::new(HashKind::Sip, [0x0123_4567_89ab_cdef, 42]);
        let Hasher::Sip(state) = hasher else { unreachable!("asked for SipHash") };
        let expected = one_by_one(&hasher, &keys());
        assert_eq!(sip13(state, &keys()), expected);
        if let Some(wide) = hasher.wide() {
            assert_eq!(wide.hash(&keys()), expected);
        }
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if std::is_x86_feature_detected!("avx2") {
            let narrow = Wide { state, registers: Registers::Four };
            assert_eq!(narrow.hash(&keys()), expected);
        }
    }

    #[test]
    fn another_function_than_siphash_is_not_taken_for_it() {
        assert!(Hasher::new(HashKind::Fast, [1, 2]).wide().is_none());
    }
}
