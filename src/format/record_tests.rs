//! Goal: the log's structures read back what was written, and answer any
//! other bytes with a fault. Method: round trips, each field set to what is
//! not allowed under a renewed checksum, and random damage from a seed.

use super::*;
use crate::format::mutate;

const HEADER: LogFileHeader = LogFileHeader { number: 7, salt: 0xdead_beef, size: 1 << 20 };
const ACTIVATION: Activation =
    Activation { previous: 6, previous_end: 70_000, last_commit: 123, salt: 0xdead_beef };

/// The header's first block with `change` made under a renewed checksum.
fn header_with(change: impl FnOnce(&mut [u8; BLOCK])) -> [u8; BLOCK] {
    let mut bytes = HEADER.encode();
    change(&mut bytes);
    let crc = crc32(&bytes[..HEADER_CRC], 0);
    put(&mut bytes, HEADER_CRC, &crc.to_le_bytes());
    bytes
}

/// A record as the log writes it.
fn record(ops: &[Op], salt: u32, offset: u32) -> Vec<u8> {
    let mut body = Vec::new();
    for op in ops {
        body.extend(op.encode_header());
        body.extend(op.key);
        body.extend(op.value);
    }
    let length = (RECORD_HEADER + body.len()) as u32;
    let mut header = RecordHeader { crc: 0, length, commit: 9, durable: 5 };
    header.crc = crc32(&header.encode()[4..], seed(salt, offset));
    header.crc = crc32(&body, header.crc);
    let mut bytes = header.encode().to_vec();
    bytes.extend(body);
    bytes
}

fn sample_ops() -> Vec<Op<'static>> {
    vec![
        Op { kind: OpKind::Insert, table: 0, key: b"key", value: b"value" },
        Op { kind: OpKind::Insert, table: 3, key: b"", value: b"" },
        Op { kind: OpKind::Remove, table: 3, key: b"gone", value: b"" },
        Op { kind: OpKind::Clear, table: 1, key: b"", value: &[7; 16] },
        Op { kind: OpKind::CreateTable, table: 4, key: b"users", value: b"" },
        Op { kind: OpKind::DropTable, table: 4, key: b"", value: b"" },
    ]
}

#[test]
fn file_header_and_activation_round_trip() {
    let mut bytes = HEADER.encode();
    assert_eq!(LogFileHeader::decode(&bytes), Ok(HEADER));
    assert_eq!(Activation::decode(&bytes, HEADER.salt), None);
    put(&mut bytes, ACTIVATION_OFFSET, &ACTIVATION.encode());
    assert_eq!(LogFileHeader::decode(&bytes), Ok(HEADER));
    assert_eq!(Activation::decode(&bytes, HEADER.salt), Some(ACTIVATION));
}

#[test]
fn activation_of_an_earlier_life_is_none() {
    let mut bytes = HEADER.encode();
    put(&mut bytes, ACTIVATION_OFFSET, &ACTIVATION.encode());
    assert_eq!(Activation::decode(&bytes, HEADER.salt + 1), None);
}

#[test]
fn every_byte_of_the_first_block_of_a_log_file_is_guarded() {
    let mut sound = HEADER.encode();
    put(&mut sound, ACTIVATION_OFFSET, &ACTIVATION.encode());
    for at in 0..BLOCK {
        let mut bytes = sound;
        bytes[at] ^= 0x40;
        let header = LogFileHeader::decode(&bytes);
        let activation = Activation::decode(&bytes, HEADER.salt);
        assert!(header.is_err() || activation.is_none(), "byte {at} may be anything");
    }
}

#[test]
fn file_header_bounds_are_checked_behind_a_sound_checksum() {
    let bad = [
        header_with(|b| put(b, 12, &0u32.to_le_bytes())),
        header_with(|b| put(b, 16, &0u32.to_le_bytes())),
        header_with(|b| b[20] = 1),
        header_with(|b| put(b, 24, &4096u64.to_le_bytes())),
        header_with(|b| put(b, 24, &8200u64.to_le_bytes())),
        header_with(|b| put(b, 24, &(MAX_LOG_FILE + 4096).to_le_bytes())),
        header_with(|b| b[36] = 1),
        header_with(|b| b[4095] = 1),
    ];
    for (case, bytes) in bad.iter().enumerate() {
        let fault = LogFileHeader::decode(bytes).expect_err(&format!("case {case}"));
        assert_eq!(fault.version, None, "case {case}");
    }
    let newer = header_with(|b| b[8] = 2);
    assert_eq!(LogFileHeader::decode(&newer).unwrap_err().version, Some((2, VERSION)));
    for size in [8192, MAX_LOG_FILE] {
        assert!(LogFileHeader::decode(&header_with(|b| put(b, 24, &size.to_le_bytes()))).is_ok());
    }
}

#[test]
fn record_and_operations_round_trip() {
    let ops = sample_ops();
    let mut bytes = record(&ops, 77, 4096);
    let length = bytes.len();
    bytes.extend([0xaa; 13]); // what lies behind does not count
    let header = RecordHeader::checked(&bytes, 77, 4096).unwrap();
    assert_eq!((header.length as usize, header.commit, header.durable), (length, 9, 5));
    let mut read = Vec::new();
    for item in Ops::new(&bytes[RECORD_HEADER..length]) {
        let (op, key_offset) = item.unwrap();
        assert_eq!(&bytes[key_offset as usize..][..op.key.len()], op.key);
        read.push(op);
    }
    assert_eq!(read, ops);
    let sum: u64 = ops.iter().map(Op::encoded_len).sum();
    assert_eq!(sum, (length - RECORD_HEADER) as u64);
}

#[test]
fn record_is_valid_only_at_its_place_in_its_file() {
    let bytes = record(&sample_ops(), 77, 4096);
    assert!(RecordHeader::checked(&bytes, 77, 4096).is_some());
    assert!(RecordHeader::checked(&bytes, 78, 4096).is_none());
    assert!(RecordHeader::checked(&bytes, 77, 4104).is_none());
    for cut in 0..bytes.len() {
        assert!(RecordHeader::checked(&bytes[..cut], 77, 4096).is_none());
    }
    assert!(RecordHeader::checked(&[0; 64], 77, 4096).is_none());
}

#[test]
fn record_without_operations_is_possible() {
    let bytes = record(&[], 1, 8);
    assert_eq!(bytes.len(), RECORD_HEADER);
    assert!(RecordHeader::checked(&bytes, 1, 8).is_some());
    assert_eq!(Ops::new(&bytes[RECORD_HEADER..]).count(), 0);
}

#[test]
fn operations_outside_the_format_are_faults() {
    let fault_of = |bytes: &[u8]| {
        let mut ops = Ops::new(bytes);
        let fault = ops.next().unwrap().expect_err("a fault");
        assert!(ops.next().is_none(), "nothing follows a fault");
        fault
    };
    let header = |kind: u8, key: u16, value: u32| {
        let mut bytes = vec![kind, 0, 0, 0];
        bytes.extend(key.to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend(value.to_le_bytes());
        bytes
    };
    assert_eq!(fault_of(&header(6, 0, 0)).version, Some((6, 5)));
    assert_eq!(fault_of(&header(0, 0, 0)).version, Some((0, 5)));
    let mut bad = vec![
        header(1, 0, 0)[..11].to_vec(),
        header(1, 32_768, 0),
        header(1, 0, MAX_VALUE_LENGTH as u32 + 1),
        header(1, 0, u32::MAX),
        header(1, 1, 0),
        header(2, 0, 1),
        header(3, 1, 16),
        header(3, 0, 15),
        header(4, 1, 1),
        header(4, 0, 0),
        header(5, 0, 1),
    ];
    for reserved in [1, 6, 7] {
        let mut bytes = header(1, 0, 0);
        bytes[reserved] = 1;
        bad.push(bytes);
    }
    for bytes in bad {
        let fault = fault_of(&bytes);
        assert_eq!(fault.version, None, "{bytes:?}");
        assert!(fault.offset >= RECORD_HEADER as u64);
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let mut block = HEADER.encode();
    put(&mut block, ACTIVATION_OFFSET, &ACTIVATION.encode());
    mutate::each(&block, 2_000, |bytes| {
        let crc = crc32(&bytes[..HEADER_CRC], 0);
        put(bytes, HEADER_CRC, &crc.to_le_bytes());
        let block = bytes.first_chunk().unwrap();
        let _ = LogFileHeader::decode(block);
        let _ = Activation::decode(block, HEADER.salt);
    });
    mutate::each(&record(&sample_ops(), 77, 4096), 20_000, |bytes| {
        assert!(RecordHeader::checked(bytes, 78, 4096).is_none());
        let _ = RecordHeader::checked(bytes, 77, 4096);
        for item in Ops::new(&bytes[RECORD_HEADER..]) {
            let Ok((op, offset)) = item else { break };
            assert!(offset as usize + op.key.len() + op.value.len() <= bytes.len());
        }
    });
}

#[test]
fn what_is_decoded_without_looking_for_faults_is_what_decoding_finds() {
    let mut random = mutate::Random(11);
    let mut plain = 0;
    for round in 0..20_000 {
        let mut bytes = record(&sample_ops(), 0, 0).split_off(RECORD_HEADER);
        // One of them sound, the others with some bytes changed.
        for _ in 0..round % 4 {
            let at = random.below(bytes.len());
            bytes[at] = random.below(256) as u8;
        }
        bytes.truncate(bytes.len() - random.below(3) * random.below(9));
        let mut ops = Ops::new(&bytes);
        while !ops.rest.is_empty() {
            let (mut short, mut long) = (ops.clone(), ops.clone());
            let decoded = long.decode_next();
            if let Some(op) = short.decode_plain() {
                assert_eq!(decoded, Ok(op));
                assert_eq!((short.rest, short.offset), (long.rest, long.offset));
                plain += 1;
            } else if let Ok((op, _)) = &decoded {
                assert!(!matches!(op.kind, OpKind::Insert | OpKind::Remove), "{op:?}");
            }
            if decoded.is_err() {
                break;
            }
            ops = long;
        }
    }
    assert!(plain > 30_000, "{plain} were plain");
}

#[test]
fn names_of_log_files_are_formed_and_read_in_one_way() {
    for (number, name) in [(1, "00000001.log"), (99_999_999, "99999999.log")] {
        assert_eq!(log_file_name(number), format!("log/{name}"));
        assert_eq!(parse_log_file_name(name), Some(number));
    }
    assert_eq!(parse_log_file_name("4294967295.log"), Some(u32::MAX));
    for bad in [
        "",
        "1.log",
        "00000000.log",
        "000000001.log",
        "+0000001.log",
        "next.tmp",
        "4294967296.log",
        "00000001.log2",
        "0000000a.log",
        ".log",
    ] {
        assert_eq!(parse_log_file_name(bad), None, "{bad}");
    }
}
