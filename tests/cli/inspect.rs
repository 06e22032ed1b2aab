//! `swissdb inspect`, run as people run it.
//!
//! Goal: every part of a store can be shown, to people and to programs, and
//! damage in it changes the exit status and nothing else. Method: the golden
//! store, whose parts are known, and a store with flipped bytes.

use std::fs;
use std::path::Path;

use super::tool::{Place, Run};
use crate::support::copy_directory;

/// A place with the golden store as `db`.
fn golden() -> Place {
    let place = Place::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    copy_directory(&golden, &place.path("db"));
    place
}

/// Expects that all of these stand in the output.
#[track_caller]
fn shows(run: &Run, texts: &[&str]) {
    for text in texts {
        assert!(run.text().contains(text), "{text:?} not in {}", run.text());
    }
}

#[test]
fn each_part_is_shown_to_people() {
    let place = golden();
    let run = place.run(&["inspect", "db"]).yes();
    shows(&run, &["copy 0 (this one counts)", "copy 1\n", "default (id 0)", "live, closed"]);
    assert_eq!(run.text(), place.run(&["inspect", "db", "header"]).yes().text());
    let run = place.run(&["inspect", "db", "directory"]).yes();
    shows(&run, &["root, depth 0", "138 live bytes in log file 1", "directory page 0: block 7"]);
    let run = place.run(&["inspect", "db", "segment", "0"]).yes();
    shows(&run, &["64 slots, 3 used", "apple = red", "a value of = (78 bytes)", "group   7"]);
    let run = place.run(&["inspect", "db", "log"]).yes();
    shows(&run, &["log file 1: 1,048,576 bytes"]);
    assert_eq!(run.text().lines().count(), 1);
    let run = place.run(&["inspect", "db", "log", "1"]).yes();
    shows(&run, &["commit 1, 44 bytes", "insert apple = red (table 0)", "commit 3"]);
}

#[test]
fn each_part_is_shown_as_json_an_object_a_line() {
    let place = golden();
    let parts: [(&[&str], &[&str]); 5] = [
        (&["header"], &["\"type\":\"header\"", "\"counts\":true", "\"growth_left\":53"]),
        (&["directory"], &["\"type\":\"root\"", "\"type\":\"directory_page\"", "\"used\":3"]),
        (&["segment", "0"], &["\"type\":\"segment\"", "\"key\":\"apple\"", "\"probes\":1"]),
        (&["log"], &["\"type\":\"log_file\"", "\"stated_end\":null"]),
        (&["log", "1"], &["\"type\":\"record\"", "\"kind\":\"insert\"", "\"commit\":3"]),
    ];
    for (part, texts) in parts {
        let run = place.run(&[&["inspect", "--json", "db"], part].concat()).yes();
        shows(&run, texts);
        for line in run.text().lines() {
            assert!(line.starts_with("{\"type\":") && line.ends_with('}'), "{line}");
        }
    }
}

#[test]
fn other_tables_are_shown_by_name() {
    let place = Place::new();
    place.run(&["put", "--table", "side", "db", "k", "v"]).yes();
    shows(&place.run(&["inspect", "--table", "side", "db"]).yes(), &["side (id 1)"]);
    shows(&place.run(&["inspect", "--table", "side", "db", "segment", "0"]).yes(), &["k = v"]);
    place.run(&["inspect", "--table", "absent", "db"]).error("there is no table absent");
}

#[test]
fn damage_is_shown_and_ends_with_1() {
    let place = golden();
    let path = place.path("db").join("default.swiss");
    let whole = fs::read(&path).unwrap();
    let cases: [(usize, &[&str], &[&str]); 3] = [
        (48, &["header"], &["damage at offset 4092: checksum", "capacity        80 slots"]),
        (0x7010, &["directory"], &["damage at offset 28672: checksum", "block 7"]),
        (0x6844, &["segment", "0"], &["damage at offset 24576", "appl"]),
    ];
    for (offset, part, texts) in cases {
        let mut bytes = whole.clone();
        bytes[offset] ^= 0x10;
        fs::write(&path, bytes).unwrap();
        shows(&place.run(&[&["inspect", "db"], part].concat()).no(), texts);
        let json = place.run(&[&["inspect", "--json", "db"], part].concat()).no();
        shows(&json, &["\"text\":"]);
    }
}

#[test]
fn what_makes_no_sense_is_an_error() {
    let place = golden();
    place.run(&["inspect", "db", "segment"]).error("the number of the segment is missing");
    place.run(&["inspect", "db", "header", "1"]).error("a number (1) makes sense for");
    place.run(&["inspect", "db", "segment", "9"]).error("there is no segment 9");
    place.run(&["inspect", "db", "log", "9"]).error("there is no log file 9");
    place.run(&["inspect", "absent"]).error("absent");
    place.run(&["inspect", "db", "slots"]).error("invalid value 'slots'");
}

#[test]
fn bytes_that_would_disturb_a_terminal_are_escaped() {
    let place = Place::new();
    let key = "\u{1b}[31m\n";
    place.run(&["put", "db", key, "\t"]).yes();
    for part in [&["segment", "0"], &["log", "1"]] {
        let run = place.run(&[&["inspect", "db"], &part[..]].concat()).yes();
        shows(&run, &["\\x1b[31m\\n = \\t"]);
        assert!(!run.text().contains('\u{1b}'));
    }
}
