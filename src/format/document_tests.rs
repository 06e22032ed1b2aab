//! format.md and this module say the same: field by field, a structure with a
//! different value in each is encoded, and the value must stand where the
//! offset tables of the document put it, under the name they give it.

#[path = "../../tests/golden/document.rs"]
pub(super) mod document;

use std::collections::BTreeMap;

use self::document::{Row, TEXT, table, tables};
use super::directory::{DirectoryPage, PageRef, RootEntry, SegmentRecord, encode_root};
use super::group::{self, Address, Geometry, PageRecord, seal};
use super::header::{Header, Run, TableState};
use super::record::{
    ACTIVATION_BYTES, ACTIVATION_OFFSET, Activation, LOG_START, LogFileHeader, OP_HEADER, Op,
    OpKind, Position, RECORD_HEADER, RecordHeader,
};
use super::*;

/// Checks that a table has these fields in this order, reserved ones aside,
/// and that a structure has these values there. A field without a value (a
/// checksum, a magic) is only checked for its name.
fn agree(rows: &[Row], structure: &[u8], fields: &[(&str, Option<u64>)]) {
    let rows: Vec<&Row> = rows.iter().filter(|row| !row.is_reserved()).collect();
    let names: Vec<&str> = rows.iter().map(|row| row.field.as_str()).collect();
    let expected: Vec<&str> = fields.iter().map(|field| field.0).collect();
    assert_eq!(names, expected);
    for (row, (name, value)) in rows.iter().zip(fields) {
        if let Some(value) = value {
            assert_eq!(row.number(structure), *value, "{name}");
        }
    }
}

fn header() -> Header {
    Header {
        table_id: 0x0102,
        payload: 56,
        hash_id: 2,
        state: TableState::Dropped,
        clean: true,
        root_depth: 7,
        name: "a-name".into(),
        hash_key: [11, 12],
        self_test: 13,
        capacity: 6400,
        used: 14,
        growth_left: 15,
        segments: 16,
        generation: 17,
        log: Position { file: 18, salt: 19, offset: 4104, commit: 20 },
        root: Run { block: 21, blocks: 22, crc: 23 },
        live_count: 24,
        free_map: Run { block: 25, blocks: 26, crc: 27 },
        file_blocks: 28,
        next_table_id: 29,
        clears: 30,
    }
}

#[test]
fn the_header_is_as_documented() {
    let bytes = header().encode();
    let rows = table("3.1");
    let fields = [
        ("magic", Some(u64::from_le_bytes(*b"swissdb\0"))),
        ("format version", Some(VERSION.into())),
        ("table id", Some(0x0102)),
        ("slot payload", Some(56)),
        ("hash", Some(2)),
        ("state", Some(3)),
        ("clean", Some(1)),
        ("root depth", Some(7)),
        ("name length", Some(6)),
        ("hash key", None),
        ("hash self-test", Some(13)),
        ("capacity", Some(6400)),
        ("used", Some(14)),
        ("growth left", Some(15)),
        ("segments", Some(16)),
        ("generation", Some(17)),
        ("L: log file", Some(18)),
        ("L: salt", Some(19)),
        ("L: offset", Some(4104)),
        ("L: commit", Some(20)),
        ("root block", Some(21)),
        ("root blocks", Some(22)),
        ("root crc", Some(23)),
        ("live count", Some(24)),
        ("free map block", Some(25)),
        ("free map blocks", Some(26)),
        ("free map crc", Some(27)),
        ("file blocks", Some(28)),
        ("next table id", Some(29)),
        ("clears", Some(30)),
        ("name", None),
        ("checksum", Some(crc32(&bytes[..4092], 0).into())),
    ];
    agree(&rows, &bytes, &fields);
    let field = |name| document::row(&rows, name).bytes(&bytes);
    assert_eq!(field("hash key"), [11u64.to_le_bytes(), 12u64.to_le_bytes()].concat());
    assert_eq!(field("name")[..7], *b"a-name\0");
}

#[test]
fn the_root_is_as_documented() {
    let live = BTreeMap::from([(3, 4)]);
    let bytes = encode_root(&[RootEntry { block: 5, crc: 6 }], &live);
    let [entry, live] = &tables("3.2")[..] else { panic!("two tables") };
    agree(entry, &bytes, &[("block", Some(5)), ("crc", Some(6))]);
    agree(live, &bytes[8..], &[("log file", Some(3)), ("live bytes", Some(4))]);
}

#[test]
fn a_directory_page_is_as_documented() {
    let segment = SegmentRecord {
        depth: 9,
        used: 10,
        tombstones: 11,
        pages: vec![PageRef { block: 12, crc: 13 }, PageRef { block: 14, crc: 15 }],
    };
    let page = DirectoryPage {
        table_id: 5,
        depth: 6,
        prefix: 7 << 26,
        generation: 8,
        segments: vec![segment],
    };
    let bytes = page.encode();
    let [page, segment] = &tables("3.3")[..] else { panic!("two tables") };
    let fields = [
        ("magic", Some(u32::from_le_bytes(*b"SDIR").into())),
        ("table id", Some(5)),
        ("depth", Some(6)),
        ("prefix", Some(7 << 26)),
        ("segments", Some(1)),
        ("generation", Some(8)),
    ];
    let (last, fixed) = page.split_last().expect("rows");
    assert_eq!((last.offset, last.field.as_str()), (Some(32), "segment records"));
    agree(fixed, &bytes[..], &fields);
    let record = &bytes[32..];
    let (last, fixed) = segment.split_last().expect("rows");
    assert_eq!((last.offset, last.field.as_str()), (Some(8), "pages"));
    let fields = [
        ("local depth", Some(9)),
        ("pages", Some(2)),
        ("used", Some(10)),
        ("tombstones", Some(11)),
    ];
    agree(fixed, record, &fields);
    let pages = [12u32, 13, 14, 15].map(u32::to_le_bytes).concat();
    assert_eq!(record[8..24], pages);
    assert_eq!(super::directory::segment_record_len(2), 8 + 8 * 2);
}

#[test]
fn a_control_line_is_as_documented() {
    let rows = table("3.5");
    let geometry = Geometry::new(56).expect("a payload");
    let mut page = [0; BLOCK];
    page[..8].copy_from_slice(&group::ALL_EMPTY.to_le_bytes());
    let record = PageRecord { table: 5, depth: 6, page: 7, generation: 8 };
    let crc = seal(&mut page, &geometry, record);
    let fields = [
        ("control word", Some(group::ALL_EMPTY)),
        ("version", Some(0)),
        ("page crc", Some(crc.into())),
        ("key_len", None),
        ("val_len", None),
        ("fp", None),
        ("page record: table id", Some(5)),
        ("page record: local depth", Some(6)),
        ("page record: page number", Some(7)),
        ("page record: generation", Some(8)),
    ];
    agree(&rows, &page, &fields);
    let offset = |field| document::row(&rows, field).offset;
    assert_eq!(offset("key_len"), Some(8 * group::KEY_LENGTHS));
    assert_eq!(offset("val_len"), Some(8 * group::VALUE_LENGTHS));
    assert_eq!(offset("fp"), Some(8 * group::FINGERPRINTS));
    assert_eq!(offset("page record: table id"), Some(8 * group::PAGE_RECORD));
    for constant in [group::EMPTY, group::DELETED] {
        let bits = format!("{:04b}_{:04b}", constant >> 4, constant & 15);
        assert!(TEXT.contains(&bits), "{bits}");
    }
}

#[test]
fn an_address_is_as_documented() {
    let address = Address { hash: 1, len: 2, crc: 3, file: 4, offset: 5 };
    let bytes: Vec<u8> = address.to_words().iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(bytes.len(), ADDRESS_BYTES);
    let fields = [
        ("hash", Some(1)),
        ("length", Some(2)),
        ("crc", Some(3)),
        ("log file", Some(4)),
        ("offset", Some(5)),
    ];
    agree(&table("3.6"), &bytes, &fields);
}

#[test]
fn a_log_file_is_as_documented() {
    let mut bytes = LogFileHeader { number: 2, salt: 3, size: 8192 }.encode();
    let activation = Activation { previous: 1, previous_end: 4104, last_commit: 5, salt: 3 };
    bytes[ACTIVATION_OFFSET..][..ACTIVATION_BYTES].copy_from_slice(&activation.encode());
    let fields = [
        ("magic", Some(u64::from_le_bytes(*b"swisslog"))),
        ("format version", Some(VERSION.into())),
        ("number", Some(2)),
        ("salt", Some(3)),
        ("file size", Some(8192)),
        ("checksum", Some(crc32(&bytes[..32], 0).into())),
        ("activation: magic", Some(u64::from_le_bytes(*b"activate"))),
        ("activation: previous file", Some(1)),
        ("activation: previous end", Some(4104)),
        ("activation: last commit", Some(5)),
        ("activation: salt", Some(3)),
        ("activation: checksum", Some(crc32(&bytes[512..540], 0).into())),
    ];
    agree(&table("5.1"), &bytes, &fields);
    assert_eq!(LOG_START, 4096);
}

#[test]
fn a_record_is_as_documented() {
    let [record, operation] = &tables("5.2")[..] else { panic!("two tables") };
    let header = RecordHeader { crc: 1, length: 24, commit: 2, durable: 3 };
    let (last, fixed) = record.split_last().expect("rows");
    assert_eq!((last.offset, last.field.as_str()), (Some(RECORD_HEADER), "operations"));
    let fields = [
        ("checksum", Some(1)),
        ("length", Some(24)),
        ("commit number", Some(2)),
        ("known durable", Some(3)),
    ];
    agree(fixed, &header.encode(), &fields);
    let op = Op { kind: OpKind::Insert, table: 0x0203, key: b"key", value: b"value" };
    let (fixed, rest) = operation.split_at(operation.len() - 2);
    let fields = [
        ("kind", Some(1)),
        ("table id", Some(0x0203)),
        ("key length", Some(3)),
        ("value length", Some(5)),
    ];
    agree(fixed, &op.encode_header(), &fields);
    assert_eq!((rest[0].offset, rest[0].field.as_str()), (Some(OP_HEADER), "key"));
    assert_eq!(rest[1].field, "value");
    let kinds = [
        (OpKind::Insert, "insert"),
        (OpKind::Remove, "remove"),
        (OpKind::Clear, "clear"),
        (OpKind::CreateTable, "create table"),
        (OpKind::DropTable, "drop table"),
    ];
    for (kind, name) in kinds {
        let row = format!("| {} | {name} |", kind as u8);
        assert!(TEXT.contains(&row), "{row}");
    }
}
