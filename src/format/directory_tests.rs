//! Goal: root and directory pages read back what was written, and answer any
//! other bytes with a fault. Method: round trips at the bounds,
//! fields set to what is not allowed, and random damage from a seed.

use super::*;
use crate::format::mutate;

fn entry(block: u32) -> RootEntry {
    RootEntry { block, crc: block * 31 }
}

fn segment(depth: u8, pages: usize) -> SegmentRecord {
    let page = |n| PageRef { block: 2 + n as u32, crc: 0x1000 + n as u32 };
    SegmentRecord { depth, used: 50, tombstones: 3, pages: (0..pages).map(page).collect() }
}

/// A page of depth 3 whose segments have the depths 4, 5, 6, 6.
fn sample() -> DirectoryPage {
    DirectoryPage {
        table_id: 9,
        depth: 3,
        prefix: 0xa000_0000,
        generation: 1 << 40,
        segments: vec![segment(4, 1), segment(5, 16), segment(6, 2), segment(6, 7)],
    }
}

#[test]
fn root_round_trips_at_every_depth() {
    for depth in 0..=12 {
        for files in [0, 1, 255, 256, 257] {
            let entries: Vec<_> = (0..1 << depth).map(|n| entry(n + 2)).collect();
            let live: BTreeMap<u32, u64> =
                (1..=files).map(|n| (n * 3, u64::from(n) << 33)).collect();
            let bytes = encode_root(&entries, &live);
            assert_eq!(bytes.len() as u64, root_blocks(depth, files) * BLOCK as u64);
            assert_eq!(decode_root(&bytes, depth, files), Ok((entries, live)));
        }
    }
    assert_eq!(root_blocks(0, 0), 1);
    assert_eq!(root_blocks(9, 0), 1);
    assert_eq!(root_blocks(9, 1), 2);
    assert_eq!(root_blocks(23, u32::MAX), (1 << 14) + (1 << 24));
}

#[test]
fn root_entries_of_shallow_pages_repeat_in_aligned_runs() {
    let decode = |blocks: &[u32]| {
        let entries: Vec<_> = blocks.iter().map(|&block| entry(block)).collect();
        decode_root(&encode_root(&entries, &BTreeMap::new()), 2, 0)
    };
    for good in [[2, 2, 2, 2], [2, 2, 3, 3], [2, 2, 3, 4], [5, 4, 3, 2]] {
        assert!(decode(&good).is_ok(), "{good:?}");
    }
    for bad in [[2, 2, 2, 3], [2, 3, 3, 4], [2, 3, 3, 3], [1, 2, 3, 4], [2, 3, 4, 0]] {
        assert!(decode(&bad).is_err(), "{bad:?}");
    }
    let mut entries = [entry(2), entry(2)];
    entries[1].crc += 1;
    let fault = decode_root(&encode_root(&entries, &BTreeMap::new()), 1, 0).unwrap_err();
    assert_eq!(fault.offset, 12);
}

#[test]
fn root_of_another_shape_is_a_fault() {
    let live = BTreeMap::from([(4, 100), (5, 200)]);
    let bytes = encode_root(&[entry(2)], &live);
    assert!(decode_root(&bytes, 0, 2).is_ok());
    assert!(decode_root(&bytes, 24, 2).is_err());
    assert!(decode_root(&bytes, 10, 2).is_err());
    assert!(decode_root(&bytes, 0, u32::MAX).is_err());
    assert!(decode_root(&bytes, 0, 1).is_err(), "the second file is not zero");
    assert!(decode_root(&bytes, 0, 3).is_err(), "file 0");
    assert!(decode_root(&bytes[..4095], 0, 2).is_err());
    assert!(decode_root(&[], 0, 0).is_err());
    for (at, byte) in [(24, 4), (12, 1), (28, 1), (40, 1), (4095, 1)] {
        let mut bad = bytes.clone();
        bad[at] = byte;
        assert!(decode_root(&bad, 0, 2).is_err(), "byte {at}");
    }
}

#[test]
fn directory_page_round_trips() {
    let page = sample();
    assert_eq!(DirectoryPage::decode(&page.encode()), Ok(page));
    let one = |depth, prefix| DirectoryPage {
        table_id: 0,
        depth,
        prefix,
        generation: 0,
        segments: vec![segment(depth, 1)],
    };
    for page in [one(0, 0), one(1, 1 << 31), one(23, u32::MAX << 9)] {
        assert_eq!(DirectoryPage::decode(&page.encode()), Ok(page));
    }
    let mut full = one(23, 0);
    full.segments = [1; 250].map(|pages| segment(31, pages)).to_vec();
    full.segments.extend([30, 30, 30].map(|depth| segment(depth, 1)));
    assert!(encoded_len(&full.segments) <= DIRECTORY_SPACE);
    assert!(DirectoryPage::decode(&full.encode()).is_ok());
}

#[test]
fn segments_must_tile_the_prefix_exactly() {
    for depths in [vec![], vec![4], vec![4, 5], vec![5, 4, 5], vec![4, 4, 4], vec![2], vec![13]] {
        let mut page = sample();
        page.segments = depths.iter().map(|&depth| segment(depth, 1)).collect();
        assert!(DirectoryPage::decode(&page.encode()).is_err(), "{depths:?}");
    }
    for depths in [vec![3], vec![4, 4], vec![5, 5, 4], vec![4, 5, 6, 7, 8, 9, 10, 11, 12, 12]] {
        let mut page = sample();
        page.segments = depths.iter().map(|&depth| segment(depth, 1)).collect();
        assert!(DirectoryPage::decode(&page.encode()).is_ok(), "{depths:?}");
    }
}

#[test]
fn directory_page_outside_the_format_is_a_fault() {
    let bytes = sample().encode();
    let changes: [(usize, &[u8]); 14] = [
        (0, b"SDIX"),
        (6, &[24]),
        (6, &[2]),
        (7, &[1]),
        (8, &[1]),
        (12, &[3]),
        (12, &[255]),
        (14, &[1]),
        (24, &[1]),
        (31, &[1]),
        (33, &[0]),
        (33, &[17]),
        (38, &[1]),
        (40, &[1, 0, 0, 0]),
    ];
    for (at, change) in changes {
        let mut bad = bytes.clone();
        put(&mut bad[..], at, change);
        assert!(DirectoryPage::decode(&bad).is_err(), "byte {at}");
    }
    let mut bad = bytes.clone();
    put(&mut bad[..], 34, &113u16.to_le_bytes());
    let fault = DirectoryPage::decode(&bad).unwrap_err();
    assert_eq!(fault.offset, 34);
    let mut bad = bytes;
    bad[4095] = 1;
    assert_eq!(DirectoryPage::decode(&bad).unwrap_err().offset, 4095);
}

#[test]
fn damaged_bytes_never_panic() {
    mutate::each(&sample().encode()[..], 20_000, |bytes| {
        if let Ok(page) = DirectoryPage::decode(bytes.first_chunk().unwrap()) {
            // What passes is a sound page: it encodes to the same bytes.
            assert_eq!(&page.encode()[..], &bytes[..]);
        }
    });
    let entries: Vec<_> = (0..4).map(|n| entry(n / 2 + 2)).collect();
    let live = BTreeMap::from([(4, 100), (5, 200)]);
    mutate::each(&encode_root(&entries, &live), 20_000, |bytes| {
        if let Ok((entries, live)) = decode_root(bytes, 2, 2) {
            assert_eq!(&encode_root(&entries, &live), bytes);
        }
    });
}
