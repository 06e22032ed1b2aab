//! Which blocks of a table file are free: one bit per block.
//!
//! ```text
//! byte 0            byte 1             ...  whole blocks, zero behind the last bit
//! 7 6 5 4 3 2 1 0   15 14 13 ... 9 8        1 = free, 0 = in use
//!             | |
//!             +-+-- the header copies: always in use
//! ```
//!
//! A free map is written anew with each checkpoint and covers as many blocks
//! as the header says; blocks past those are free. It saves a walk through all
//! directory pages at opening; `verify` holds it against what is reachable.
//! This module knows neither files nor what a block holds.

use super::{BLOCK, Fault, check_zero, u64_at};

/// The blocks that one block of the free map covers.
const FREE_MAP_BITS: u32 = BLOCK as u32 * 8;

/// The length in blocks of a free map that covers `blocks` blocks.
pub(crate) fn free_map_blocks(blocks: u32) -> u32 {
    blocks.div_ceil(FREE_MAP_BITS)
}

/// The free map of the first `blocks` blocks as whole blocks: bit `b % 64` of
/// `words[b / 64]` is 1 iff block `b` is free. What `words` says of later
/// blocks is left out, and missing words mean that nothing is free.
pub(crate) fn encode_free_map(words: &[u64], blocks: u32) -> Vec<u8> {
    let length = free_map_blocks(blocks) as usize * BLOCK;
    let mut bytes = Vec::with_capacity(length);
    for (index, word) in words.iter().take(blocks.div_ceil(64) as usize).enumerate() {
        bytes.extend_from_slice(&(word & covered_bits(index, blocks)).to_le_bytes());
    }
    bytes.resize(length, 0);
    bytes
}

/// Reads the free map of `blocks` blocks.
///
/// # Errors
///
/// A fault if the length is not that of such a map, if a bit past `blocks` is
/// set, or if a header copy is free.
pub(crate) fn decode_free_map(bytes: &[u8], blocks: u32) -> Result<Vec<u64>, Fault> {
    let length = free_map_blocks(blocks) as usize * BLOCK;
    if bytes.len() != length {
        return Err(Fault::new(0, "length of the free map in bytes", length, bytes.len()));
    }
    let used = blocks.div_ceil(64) as usize;
    let words: Vec<u64> = bytes.chunks_exact(8).take(used).map(|w| u64_at(w, 0)).collect();
    for (index, word) in words.iter().enumerate() {
        if word & !covered_bits(index, blocks) != 0 {
            let what = "bits of the free map past the last block";
            return Err(Fault::new(index * 8, what, 0, format_args!("{word:016x}")));
        }
    }
    check_zero(bytes, used * 8, length, "byte behind the free map")?;
    if words.first().is_some_and(|word| word & 3 != 0) {
        return Err(Fault::new(0, "bits of the header copies in the free map", 0, bytes[0] & 3));
    }
    Ok(words)
}

/// Which bits of a word of the free map stand for blocks below `blocks`.
fn covered_bits(word: usize, blocks: u32) -> u64 {
    match (blocks as usize).saturating_sub(word * 64) {
        bits @ 0..64 => (1 << bits) - 1,
        _ => u64::MAX,
    }
}

#[cfg(test)]
#[path = "free_map_tests.rs"]
mod tests;
