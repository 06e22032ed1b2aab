//! Goal: a header reads back as it was written, and any other bytes are
//! answered with a fault. Method: a round trip, every bound crossed by one
//! under a renewed checksum, every byte changed, random damage from a seed.

use super::*;
use crate::format::mutate;

pub(in crate::format) fn sample() -> Header {
    Header {
        table_id: 3,
        payload: 56,
        hash_id: 1,
        state: TableState::Live,
        clean: true,
        root_depth: 2,
        name: "users".into(),
        hash_key: [0x0123_4567_89ab_cdef, 42],
        self_test: 0xfeed,
        capacity: 64 * 10,
        used: 300,
        growth_left: 200,
        segments: 3,
        generation: 17,
        log: Position { file: 4, salt: 99, offset: 8192, commit: 12_345 },
        root: Run { block: 20, blocks: 1, crc: 0xaaaa_bbbb },
        live_count: 5,
        free_map: Run { block: 21, blocks: 1, crc: 0xcccc_dddd },
        file_blocks: 64,
        next_table_id: 0,
        clears: 2,
    }
}

/// The sample's bytes with `change` made under a renewed checksum.
fn with(at: usize, field: &[u8]) -> [u8; BLOCK] {
    let mut bytes = sample().encode();
    put(&mut bytes, at, field);
    reseal(&mut bytes);
    bytes
}

fn reseal(bytes: &mut [u8]) {
    let crc = crc32(&bytes[..CRC], 0);
    put(bytes, CRC, &crc.to_le_bytes());
}

#[test]
fn header_round_trips() {
    let header = sample();
    assert_eq!(Header::decode(&header.encode()), Ok(header.clone()));
    assert_eq!(header.tombstones(), Some(60));
    let default = Header {
        table_id: 0,
        name: DEFAULT_TABLE.into(),
        next_table_id: 65_536,
        state: TableState::Pending,
        clean: false,
        hash_id: 2,
        ..sample()
    };
    assert_eq!(Header::decode(&default.encode()), Ok(default));
    let long = Header { name: "n".repeat(64), state: TableState::Dropped, ..sample() };
    assert_eq!(Header::decode(&long.encode()), Ok(long));
}

#[test]
fn fields_lie_where_the_format_says() {
    let bytes = sample().encode();
    assert_eq!(&bytes[..8], b"swissdb\0");
    assert_eq!(bytes[12..24], [3, 0, 56, 0, 1, 2, 1, 2, 5, 0, 0, 0]);
    assert_eq!(u64_at(&bytes, 40), 0xfeed);
    assert_eq!(u64_at(&bytes, 80), 17);
    assert_eq!(u64_at(&bytes, 104), 12_345);
    assert_eq!(u32_at(&bytes, 124), 5);
    assert_eq!(u32_at(&bytes, 140), 64);
    assert_eq!(u32_at(&bytes, 148), 2);
    assert_eq!(&bytes[256..262], b"users\0");
}

#[test]
fn every_byte_is_guarded_by_magic_or_checksum() {
    let sound = sample().encode();
    for at in 0..BLOCK {
        let mut bytes = sound;
        bytes[at] ^= 0x10;
        assert!(Header::decode(&bytes).is_err(), "byte {at}");
    }
}

#[test]
fn bounds_are_checked_behind_a_sound_checksum() {
    let cases: &[(usize, &[u8])] = &[
        (12, &[0, 0]),                     // id of the default table
        (14, &[16, 0]),                    // payload
        (14, &[57, 0]),                    // payload
        (14, &[0, 2]),                     // payload
        (17, &[0]),                        // state
        (17, &[4]),                        // state
        (18, &[2]),                        // clean
        (19, &[24]),                       // root depth
        (20, &[0, 0]),                     // name length
        (20, &[65, 0]),                    // name length
        (20, &[4, 0]),                     // name length: something behind it
        (20, &[6, 0]),                     // name length: a zero in the name
        (22, &[1]),                        // reserved
        (48, &[0]),                        // capacity: less than a page a segment
        (48, &(64 * 49u64).to_le_bytes()), // capacity: more than 16 pages a segment
        (48, &641u64.to_le_bytes()),       // capacity: not a whole page
        (56, &361u64.to_le_bytes()),       // used and growth left
        (56, &u64::MAX.to_le_bytes()),     // used and growth left
        (72, &0u64.to_le_bytes()),         // segments
        (72, &((1u64 << 32) + 1).to_le_bytes()),
        (80, &(1u64 << 63).to_le_bytes()),  // generation
        (104, &(1u64 << 63).to_le_bytes()), // commit
        (88, &[0]),                         // log file
        (92, &[0]),                         // salt
        (96, &4088u32.to_le_bytes()),       // offset
        (96, &4100u32.to_le_bytes()),       // offset
        (96, &u32::MAX.to_le_bytes()),      // offset
        (100, &[1]),                        // reserved
        (112, &[1]),                        // root in a header copy
        (112, &[21]),                       // root in the free map
        (112, &[64]),                       // root behind the end
        (112, &u32::MAX.to_le_bytes()),     // root behind the end
        (116, &[2]),                        // root too long
        (124, &u32::MAX.to_le_bytes()),     // root too short
        (128, &[0]),                        // free map in a header copy
        (132, &[0]),                        // free map too short
        (140, &u32::MAX.to_le_bytes()),     // free map too short
        (140, &[21]),                       // blocks of the file
        (144, &[1]),                        // next table id
        (152, &[1]),                        // reserved
        (255, &[1]),                        // reserved
        (256, b"."),                        // name
        (319, b"x"),                        // behind the name
        (320, &[1]),                        // reserved
        (4091, &[1]),                       // reserved
    ];
    for (at, field) in cases {
        let bytes = match *at {
            48 if field.len() == 1 => with(48, &(64 * 2u64).to_le_bytes()),
            _ => with(*at, field),
        };
        let fault = Header::decode(&bytes).expect_err(&format!("offset {at}: {field:?}"));
        assert_eq!(fault.version, None, "offset {at}");
    }
}

#[test]
fn other_versions_and_hashes_are_told_from_damage() {
    assert_eq!(Header::decode(&with(8, &[2])).unwrap_err().version, Some((2, VERSION)));
    assert_eq!(Header::decode(&with(16, &[3])).unwrap_err().version, Some((3, 2)));
    let mut torn = sample().encode();
    torn[8] = 2;
    assert_eq!(Header::decode(&torn).unwrap_err().version, None);
}

#[test]
fn damaged_bytes_never_panic() {
    mutate::each(&sample().encode(), 30_000, |bytes| {
        assert!(
            Header::decode(bytes.first_chunk().unwrap()).is_err() || bytes[..] == sample().encode()
        );
        reseal(bytes);
        if let Ok(header) = Header::decode(bytes.first_chunk().unwrap()) {
            assert_eq!(&header.encode()[..], &bytes[..]);
            assert!(header.tombstones().is_some());
        }
    });
}
