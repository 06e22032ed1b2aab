//! Bytes, and what they are.
//!
//! Goal: every byte of a part is a field, none is passed over, and each is
//! called what format.md calls it. Method: the worked example of format.md,
//! line by line; and the fields of all parts of stores, laid end to end.

use std::path::Path;

use swissdb::inspect::{self, Content, Field, Piece};
use swissdb::{Db, Options};

use super::{closed, golden};
use crate::support::{TestStore, key, value};

const FORMAT: &str = include_str!("../../format.md");

/// All fields of the table file of a store: those of all its blocks.
fn table_fields(store: &Path) -> Vec<Field> {
    let blocks = inspect::block(store, "default", 0).expect("block 0").file_blocks;
    let blocks = (0..blocks).map(|i| inspect::block(store, "default", i).expect("a block"));
    blocks.flat_map(|block| block.fields().to_vec()).collect()
}

/// All fields of a log file, up to its last record.
fn log_fields(store: &Path, number: u32) -> Vec<Field> {
    let log = inspect::log(store).expect("log");
    let file = log.files.iter().find(|file| file.number == number).expect("the file");
    let mut fields = file.fields();
    for piece in file.pieces().expect("pieces") {
        fields.extend(file.piece_fields(&piece).expect("fields"));
    }
    fields
}

#[track_caller]
fn assert_no_gap(fields: &[Field], from: u64) {
    let mut at = from;
    for field in fields {
        assert_eq!(field.offset, at, "{field:?}");
        assert!(field.length > 0 && field.length >= field.bytes.len() as u64, "{field:?}");
        at = field.end();
    }
}

/// The lines of the worked example: file, offset, bytes and meaning. Lines
/// without a meaning continue the one before.
fn example() -> Vec<(&'static str, u64, Vec<u8>, String)> {
    let text = &FORMAT[FORMAT.find("\n## 13.").expect("section 13")..];
    let mut file = "";
    let mut lines: Vec<(&str, u64, Vec<u8>, String)> = Vec::new();
    for line in text.lines() {
        if let Some((name, _)) = line.split_once(", ").or(line.split_once(": ")) {
            file = if line.starts_with("default.swiss") || line.starts_with("log/") {
                name.split(':').next().expect("a name")
            } else {
                file
            };
        }
        let Some(offset) = line.get(..6).and_then(|hex| u64::from_str_radix(hex, 16).ok()) else {
            continue;
        };
        let hex = line.get(8..).unwrap_or_default();
        let (hex, meaning) = hex.split_at(hex.len().min(25));
        let bytes = hex.split_whitespace().map(|b| u8::from_str_radix(b, 16).expect("a byte"));
        match meaning {
            "" => lines.last_mut().expect("a line before").2.extend(bytes),
            _ => lines.push((file, offset, bytes.collect(), meaning.to_owned())),
        }
    }
    lines
}

#[test]
fn the_worked_example_of_the_document_is_shown_line_by_line() {
    let (table, log) = (table_fields(&golden()), log_fields(&golden(), 1));
    let example = example();
    assert!(example.len() > 140, "{} lines in the example", example.len());
    for (file, offset, bytes, meaning) in example {
        // Of the free map the library speaks word by word.
        if meaning.starts_with("in use: ") {
            continue;
        }
        let fields = if file == "default.swiss" { &table } else { &log };
        let field = fields.iter().find(|field| field.offset == offset);
        let field = field.unwrap_or_else(|| panic!("{file}: no field begins at {offset:06x}"));
        assert_eq!(field.bytes, bytes, "{file}, {offset:06x}: {field:?}");
        let shown = format!("{}: {}", field.name, field.value);
        // What a number stands for is said behind it.
        assert!(shown.starts_with(&meaning), "{file}, {offset:06x}: {shown:?} is not {meaning:?}");
    }
}

#[test]
fn every_byte_is_a_field_and_every_name_is_in_the_document() {
    let (mut store, _) = closed();
    store.open();
    let table = store.table("second").expect("table");
    let mut batch = swissdb::Batch::new();
    batch.insert(b"long", value(1, 2_000)).expect("add");
    batch.insert_into(&table, "k", "v").expect("add");
    store.write(&batch).expect("write");
    store.clear().expect("clear");
    store.insert(key(1), value(2, 30)).expect("insert");
    store.insert(value(3, 100), value(4, 100)).expect("insert");
    store.drop_table("second").expect("drop");
    store.close();
    let own = [
        "reserved",
        "zeros",
        "key",
        "value",
        "padding",
        "no record",
        "slot",
        "no structure that is known",
    ];
    let fields = table_fields(store.path());
    assert_no_gap(&fields, 0);
    let length = std::fs::metadata(store.path().join("default.swiss")).expect("metadata").len();
    assert_eq!(fields.last().map(Field::end), Some(length));
    let mut all = fields;
    for file in &inspect::log(store.path()).expect("log").files {
        let fields = log_fields(store.path(), file.number);
        assert_no_gap(&fields, 0);
        for field in &fields {
            assert!(field.bytes.len() <= 4096 && field.damage.is_none(), "{field:?}");
        }
        all.extend(fields);
    }
    for field in &all {
        let is_known = own.contains(&field.name.as_str())
            || field.name.starts_with("blocks ")
            || FORMAT.contains(&format!("| {} |", field.name))
            || field.name == "pages: block"
            || field.name == "pages: crc";
        assert!(is_known, "{:?} is not in format.md", field.name);
    }
    for name in ["reserved", "log file", "live bytes", "kind", "padding"] {
        assert!(all.iter().any(|field| field.name == name), "no field is called {name}");
    }
}

#[test]
fn a_long_value_is_a_field_of_its_whole_length_with_its_first_bytes() {
    let mut store = TestStore::on_disk(Options::new());
    let long = value(7, 100_000);
    store.insert("key", &long).expect("insert");
    store.close();
    let fields = log_fields(store.path(), 1);
    let field = fields.iter().find(|field| field.name == "value").expect("a value");
    assert_eq!(field.length, 100_000);
    assert_eq!(field.bytes, long[..512]);
}

#[test]
fn reserved_bytes_that_are_not_zero_are_told_where_they_stand() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("store");
    Db::open(&path).expect("open").close().expect("close");
    let table = path.join("default.swiss");
    for offset in [200, 330, 4096 + 22] {
        let before = std::fs::read(&table).expect("read");
        let mut bytes = before.clone();
        bytes[offset] = 7;
        std::fs::write(&table, bytes).expect("write");
        let copies = inspect::header(&path, "default").expect("header");
        let fields: Vec<_> = copies.iter().flat_map(|copy| copy.fields()).collect();
        assert_no_gap(&fields, 0);
        let damaged: Vec<_> = fields.iter().filter(|field| field.damage.is_some()).collect();
        assert_eq!(damaged.len(), 1);
        let damage = damaged[0].damage.as_ref().expect("damage");
        assert!(damaged[0].is_reserved() && damage.text.contains("07"), "{damage}");
        assert_eq!(damage.offset, offset as u64);
        std::fs::write(&table, before).expect("write");
    }
}

#[test]
fn a_group_has_the_fields_of_its_bytes_and_of_no_others() {
    let (store, _) = closed();
    let segment = inspect::segment(store.path(), "default", 0).expect("segment");
    let length = 64 + 8 * 40;
    for number in 0..segment.group_count() {
        let (page, group) = segment.group(number).expect("the group");
        let fields = page.group_fields(group);
        assert_no_gap(&fields, group.offset);
        assert_eq!(fields.last().map(Field::end), Some(group.offset + length));
    }
    assert!(segment.group(segment.group_count()).is_none());
    assert!(segment.page_of(segment.group_count()).is_none());
}

#[test]
fn the_fields_of_a_gap_are_its_bytes() {
    let mut store = TestStore::on_disk(Options::new());
    store.insert("key", value(1, 40)).expect("insert");
    store.insert("key", value(2, 40)).expect("insert");
    store.close();
    super::flip(&store.path().join("log/00000001.log"), 4096 + 30);
    let log = inspect::log(store.path()).expect("log");
    let pieces: Vec<_> = log.files[0].pieces().expect("pieces").collect();
    let Piece::Gap(gap) = &pieces[0] else { panic!("{:?}", pieces[0]) };
    assert!(gap.why.contains("checksum"), "{}", gap.why);
    let fields: Vec<_> = log.files[0].piece_fields(&pieces[0]).expect("fields").collect();
    assert_eq!((fields[0].offset, fields[0].length), (gap.offset, gap.length));
    assert_eq!(fields[0].name, "no record");
}

#[test]
fn a_block_that_nothing_leads_to_shows_all_its_bytes() {
    let (store, _) = closed();
    let table = store.path().join("default.swiss");
    let mut bytes = std::fs::read(&table).expect("read");
    let blocks = bytes.len() as u64 / 4096;
    bytes.resize(bytes.len() + 4096, 0);
    bytes.resize(bytes.len() + 4096, 0xaa);
    bytes.resize(bytes.len() + 100, 0xbb);
    std::fs::write(&table, bytes).expect("write");
    let contents = [(Content::Zeros, 4096), (Content::Other, 4096), (Content::Other, 100)];
    for (number, (content, length)) in (blocks..).zip(contents) {
        let block = inspect::block(store.path(), "default", number).expect("block");
        assert_eq!((&block.roles[..], &block.content), (&[inspect::Role::Free][..], &content));
        let fields = block.fields();
        assert_eq!(
            (fields.len(), fields[0].length, fields[0].bytes.len()),
            (1, length, length as usize)
        );
        let is_cut = block.damage.iter().any(|damage| damage.text.contains("the file ends here"));
        assert_eq!(is_cut, length < 4096);
    }
}
