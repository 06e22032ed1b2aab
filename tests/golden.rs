//! A store that this version of the format will always have to read.
//!
//! Goal: format.md, the code and the bytes of a real store agree for as long
//! as the version stays the same. Method: `tests/golden/v1` was made once by
//! `examples/make_golden.rs` and is kept; the tables of the document are read
//! out of its text, and the worked example in section 13 must be what these
//! tables make of the store.

#[path = "golden/document.rs"]
mod document;
#[path = "golden/dump.rs"]
mod dump;

use std::path::{Path, PathBuf};

use swissdb::{Db, Options, verify};

use crate::support::{Model, assert_clean, assert_holds, copy_directory, files_below};

/// The sections that describe structures by offsets, with the length of each
/// structure where all of it is described.
const STRUCTURES: &[(&str, &[Option<usize>])] = &[
    ("3.1", &[Some(4096)]),
    ("3.2", &[Some(8), Some(16)]),
    ("3.3", &[None, None]),
    ("3.5", &[Some(64)]),
    ("3.6", &[Some(24)]),
    ("5.1", &[Some(4096)]),
    ("5.2", &[None, None]),
];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

/// What the recipe put in.
fn entries() -> Model {
    let long = "more than fifty-six bytes is too long for its slot, and so it stays in the log";
    let key = "a key that is too long to stand in its slot stays in the log";
    let entries = [("apple", "red"), ("a value of", long), (key, "though its value does not")];
    entries.map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).into()
}

fn copy() -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a temporary directory");
    copy_directory(&golden(), copy.path());
    copy
}

#[test]
fn the_golden_store_is_read_without_changing_it() {
    let copy = copy();
    let db = Options::new().read_only(true).open(copy.path()).expect("open");
    assert_holds(&db, &entries());
    assert_clean(&db);
    db.close().expect("close");
    assert!(verify(copy.path()).expect("verify").is_clean());
    assert_eq!(files_below(copy.path()), files_below(&golden()));
}

#[test]
fn the_golden_store_can_be_written_and_read_again() {
    let copy = copy();
    let mut model = entries();
    let db = Db::open(copy.path()).expect("open");
    db.insert("pear", "green").expect("insert");
    model.insert(b"pear".to_vec(), b"green".to_vec());
    db.close().expect("close");
    let db = Db::open(copy.path()).expect("open again");
    assert_holds(&db, &model);
    assert_clean(&db);
}

#[test]
fn offset_tables_have_no_gaps_and_no_overlaps() {
    for (section, lengths) in STRUCTURES {
        let tables = document::tables(section);
        assert_eq!(tables.len(), lengths.len(), "tables in section {section}");
        for (rows, length) in tables.iter().zip(*lengths) {
            let mut next = Some(rows[0].offset.expect("a first offset"));
            for row in rows {
                assert_eq!(row.offset, next, "section {section}: {row:?}");
                assert!(!row.is_reserved() || row.allowed == "0", "section {section}: {row:?}");
                next = row.offset.zip(row.size).map(|(offset, size)| offset + size);
            }
            assert!(length.is_none() || next == *length, "section {section} ends at {next:?}");
        }
    }
}

#[test]
fn the_worked_example_of_the_document_is_the_golden_store() {
    let expected = dump::dump(&golden());
    let body = document::body("13");
    let found = body.split("```").nth(1).unwrap_or_default();
    let found = found.split_once('\n').map_or("", |(_, text)| text);
    assert!(
        found == expected,
        "section 13 of format.md should contain this:\n```text\n{expected}```"
    );
}

#[test]
fn fields_of_the_golden_store_are_what_the_recipe_leads_to() {
    let table = std::fs::read(golden().join("default.swiss")).expect("read");
    let header = document::table("3.1");
    let value = |field: &str| document::row(&header, field).number(&table);
    for (field, expected) in [
        ("format version", 1),
        ("table id", 0),
        ("slot payload", 56),
        ("hash", 1),
        ("state", 2),
        ("clean", 1),
        ("name length", 7),
        ("capacity", 64),
        ("used", 3),
        ("growth left", 53),
        ("segments", 1),
        ("L: log file", 1),
        ("L: commit", 3),
        ("live count", 1),
        ("next table id", 1),
        ("clears", 0),
    ] {
        assert_eq!(value(field), expected, "{field}");
    }
}
