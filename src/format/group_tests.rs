//! Control words, probes, geometries and shapes: every one of them, where the
//! space is small enough to be walked through.

use super::*;

/// The plain definition, a byte at a time.
fn slots(control: u64, keep: impl Fn(u8) -> bool) -> Vec<usize> {
    (0..SLOTS).filter(|&i| keep(byte(control, i))).collect()
}

#[test]
fn matching_agrees_with_the_definition_on_all_control_patterns() {
    // Four kinds of bytes in eight places: 65,536 control words.
    let kinds = [EMPTY, DELETED, 0x00, 0x7f];
    for pattern in 0..1u64 << 16 {
        let mut control = 0;
        for i in 0..SLOTS {
            control = with_byte(control, i, kinds[(pattern >> (2 * i) & 3) as usize]);
        }
        assert_eq!(match_empty(control).collect::<Vec<_>>(), slots(control, |b| b == EMPTY));
        assert_eq!(match_deleted(control).collect::<Vec<_>>(), slots(control, |b| b == DELETED));
        assert_eq!(match_full(control).collect::<Vec<_>>(), slots(control, |b| b < 0x80));
        assert_eq!(match_h2(control, 0x7f).collect::<Vec<_>>(), slots(control, |b| b == 0x7f));
    }
}

#[test]
fn the_nearest_slot_is_the_first_one_from_there_on_around_the_group() {
    for full in 0..1u32 << SLOTS {
        let word = (0..SLOTS).fold(ALL_EMPTY, |word, i| {
            if full >> i & 1 == 1 { with_byte(word, i, 0x05) } else { word }
        });
        for slot in 0..SLOTS {
            let around = (0..SLOTS).map(|steps| (slot + steps) % SLOTS);
            let expected = around.into_iter().find(|i| full >> i & 1 == 0);
            assert_eq!(match_empty(word).nearest(slot), expected, "{full:b} from {slot}");
        }
    }
}

#[test]
fn a_false_match_is_full_and_stands_above_a_true_one() {
    // The known case: h in byte 0 and h ^ 1 in byte 1 are both named.
    let control = with_byte(with_byte(ALL_EMPTY, 0, 0x02), 1, 0x03);
    assert_eq!(match_h2(control, 0x02).collect::<Vec<_>>(), [0, 1]);
    for h in 0..0x80u8 {
        for other in 0..=0xffu8 {
            let control = with_byte(with_byte(ALL_EMPTY, 3, h), 4, other);
            let found: Vec<_> = match_h2(control, h).collect();
            assert!(found.contains(&3));
            assert!(found.iter().all(|&i| byte(control, i) < 0x80), "{h} {other}");
        }
    }
}

#[test]
fn a_probe_visits_every_group_once() {
    for groups in 1..=256 {
        for hash in [0, u64::MAX, 0x0123_4567_89ab_cdef, 1 << 31] {
            let mut seen = vec![false; groups];
            for group in Probe::new(hash, groups) {
                assert!(!std::mem::replace(&mut seen[group], true), "twice: {group}");
            }
            assert!(seen.iter().all(|&s| s), "{groups} groups, hash {hash:x}");
        }
    }
}

#[test]
fn every_payload_has_a_geometry_without_overlaps() {
    for payload in 0..=600 {
        let Some(g) = Geometry::new(payload) else {
            assert!(payload % 8 != 0 || !(24..=504).contains(&payload));
            continue;
        };
        assert!(g.groups_per_page * g.group_words <= PAGE_WORDS);
        assert_eq!(g.slot_start(SLOTS), g.group_words);
        for group in 0..g.groups_per_page * 16 {
            let expected = (group / g.groups_per_page, group % g.groups_per_page);
            assert_eq!(g.page_of(group), expected);
        }
    }
}

#[test]
fn every_shape_fits_its_slot() {
    for payload in (24..=504).step_by(8) {
        let g = Geometry::new(payload).unwrap();
        for key in [0, 1, 7, payload - 24, payload - 23, payload - 1, payload, 32_767] {
            for value in [0, 1, payload - 24, payload - 23, payload, payload + 1] {
                let lengths = Lengths::of(g.shape(key, value), key, value);
                assert!(lengths.fit(&g), "{payload} {key} {value}");
                assert_eq!(lengths.key_len(), key);
                assert_eq!(lengths.spilled(), key + value > payload);
            }
        }
    }
}

#[test]
fn a_sealed_page_carries_its_own_checksum() {
    let geometry = Geometry::new(56).unwrap();
    let mut page = [0xab; BLOCK];
    let record = PageRecord { table: 3, depth: 4, page: 5, generation: 6 };
    let crc = seal(&mut page, &geometry, record);
    assert_eq!((page_crc(&page), stored_page_crc(&page)), (crc, crc));
    let word = u64::from_le_bytes(page[56..64].try_into().unwrap());
    assert_eq!(PageRecord::from_word(word), record);
    page[100] ^= 1;
    assert_ne!(page_crc(&page), crc);
}
