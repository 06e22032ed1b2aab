//! Goal: a free map reads back what was written, and any other bytes are
//! answered with a fault. Method: round trips at every edge, bits set that
//! must not be, and random damage from a seed.

use super::*;
use crate::format::mutate;

#[test]
fn free_map_round_trips_at_every_edge() {
    for blocks in [2, 3, 63, 64, 65, 128, 32_767, 32_768, 32_769, 70_000] {
        let mut words = vec![u64::MAX; (blocks as usize).div_ceil(64) + 2];
        words[0] = !3;
        let bytes = encode_free_map(&words, blocks);
        assert_eq!(bytes.len(), free_map_blocks(blocks) as usize * BLOCK);
        let read = decode_free_map(&bytes, blocks).unwrap();
        assert_eq!(read.len(), (blocks as usize).div_ceil(64));
        let free: u32 = read.iter().map(|word| word.count_ones()).sum();
        assert_eq!(free, blocks - 2);
        for b in 0..blocks as usize {
            let bit = bytes[b / 8] >> (b % 8) & 1;
            assert_eq!(u64::from(bit), read[b / 64] >> (b % 64) & 1);
        }
    }
    assert_eq!(decode_free_map(&encode_free_map(&[], 100), 100), Ok(vec![0, 0]));
    assert_eq!(decode_free_map(&[], 0), Ok(vec![]));
}

#[test]
fn free_map_outside_the_format_is_a_fault() {
    let bytes = encode_free_map(&[0b1100], 70);
    for (at, byte) in [(0, 0b1101), (0, 0b1110), (8, 1 << 6), (15, 1), (16, 1), (4095, 1)] {
        let mut bad = bytes.clone();
        bad[at] = byte;
        assert!(decode_free_map(&bad, 70).is_err(), "byte {at}");
    }
    assert!(decode_free_map(&bytes, 32_769).is_err());
    assert!(decode_free_map(&bytes[..4088], 70).is_err());
    assert!(decode_free_map(&[], u32::MAX).is_err());
}

#[test]
fn damaged_bytes_never_panic() {
    mutate::each(&encode_free_map(&[!3; 8], 500), 5_000, |bytes| {
        if let Ok(words) = decode_free_map(bytes, 500) {
            assert_eq!(&encode_free_map(&words, 500), bytes);
        }
    });
}
