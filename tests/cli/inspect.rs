//! `swissdb inspect`, run as people run it.
//!
//! Goal: every part of a store can be shown, to people and to programs, and
//! damage in it changes the exit status and nothing else; whoever asks for what
//! is not there is told what to write. Method: the golden store, whose parts are
//! known, and stores with flipped and random bytes.

use std::fs;
use std::path::Path;

use swissdb::inspect::Piece;

use super::tool::{Place, Run};
use crate::support::{Random, copy_directory};

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
    shows(
        &run,
        &["commit 1, 44 bytes", "insert apple = red (table 0, key 5 bytes, value 3 bytes)"],
    );
    shows(&run, &["known durable 0, valid\n", "commit 3"]);
    for name in ["00000001.log", "log/00000001.log"] {
        assert_eq!(place.run(&["inspect", "db", "log", name]).yes().text(), run.text());
    }
    let run = place.run(&["inspect", "db", "group", "0/4"]).yes();
    shows(
        &run,
        &["group 4 of segment 0: block 6, offset 26624", "H2 7c", "apple = red", "7  empty"],
    );
    for (block, what) in [
        (0, "block 0 of 128, offset 0: header, copy 0\n"),
        (1, "header, copy 1\n"),
        (2, ": free\n"),
        (6, "page 0 of segment 0\n"),
        (7, ": directory page 0\n"),
        (8, "root, block 0 of it\n"),
        (9, "in use  0-1, 6-9\n"),
    ] {
        shows(&place.run(&["inspect", "db", "block", &block.to_string()]).yes(), &[what]);
    }
}

#[test]
fn each_part_is_shown_as_json_an_object_a_line() {
    let place = golden();
    let parts: [(&[&str], &[&str]); 9] = [
        (&["header"], &["\"type\":\"header\"", "\"counts\":true", "\"growth_left\":53"]),
        (&["directory"], &["\"type\":\"root\"", "\"type\":\"directory_page\"", "\"used\":3"]),
        (&["segment", "0"], &["\"type\":\"segment\"", "\"key\":\"apple\"", "\"probes\":1"]),
        (&["log"], &["\"type\":\"log_file\"", "\"stated_end\":null"]),
        (&["group", "0/4"], &["\"type\":\"group\"", "\"key\":\"apple\"", "\"segment\":0"]),
        (&["block", "6"], &["\"type\":\"block\"", "\"role\":\"page\"", "\"holds\":\"page\""]),
        (&["key", "apple"], &["\"type\":\"key\"", "\"result\":\"found\"", "\"verdict\":\"same\""]),
        (&["header", "--hex"], &["\"type\":\"field\"", "\"name\":\"magic\"", "\"reserved\":true"]),
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
fn the_json_of_each_type_has_its_names_in_their_order() {
    let place = golden();
    let cases: [(&[&str], &str, &str); 11] = [
        (&["header"], "header", "type copy counts damage header"),
        (&["directory"], "root", "type depth run live damage"),
        (
            &["directory"],
            "directory_page",
            "type number first_entry entries block crc prefix depth generation segments damage",
        ),
        (&["segment", "0"], "segment", "type record pages"),
        (&["group", "0/4"], "group", "type segment page group damage"),
        (
            &["block", "5"],
            "block",
            "type number offset file_blocks roles free holds content damage",
        ),
        (
            &["key", "apple"],
            "key",
            "type key hash hash_id h2 fp root root_depth root_entry directory_page segment groups \
             home steps result entry news damage",
        ),
        (&["log"], "log_file", "type number length salt activation stated_end damage"),
        (
            &["log", "1"],
            "record",
            "type offset length commit durable in_log operations more_operations damage",
        ),
        (&["log", "1"], "gap", "type offset length why"),
        (&["header", "--hex"], "field", "type offset length hex within name value reserved damage"),
    ];
    // Bytes that are no record.
    let log = place.path("db").join("log/00000001.log");
    let mut bytes = fs::read(&log).unwrap();
    bytes[8000] = 1;
    fs::write(log, bytes).unwrap();
    for (part, kind, names) in cases {
        let run = place.run(&[&["inspect", "--json", "db"], part].concat()).yes();
        let start = format!("{{\"type\":\"{kind}\",");
        let line = run.text().lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("no {kind} in {}", run.text()));
        assert_eq!(names_of(line), names.split_whitespace().collect::<Vec<_>>());
    }
}

/// The names of an object's own fields.
fn names_of(object: &str) -> Vec<&str> {
    let mut depth = 0;
    let mut names = Vec::new();
    // Of the golden store no text has a quote in it but escaped ones.
    let mut rest = object;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            '"' => {
                let end = (0..rest.len())
                    .find(|i| rest[*i..].starts_with('"') && !rest[..*i].ends_with('\\'))
                    .expect("the text ends");
                if depth == 1 && rest[end + 1..].starts_with(':') {
                    names.push(&rest[..end]);
                }
                rest = &rest[end + 1..];
            }
            _ => {}
        }
    }
    names
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
fn a_key_is_followed_step_by_step() {
    let place = golden();
    let run = place.run(&["inspect", "db", "key", "apple"]).yes();
    shows(&run, &["key apple (5 bytes) in table default", "home group      4", "[7c]"]);
    shows(&run, &["slot 0: H2 matches, fp eb, 5 bytes, the key", "found in slot 0 of group 4"]);
    shows(&run, &["apple = red", "log behind L    no records"]);
    let run = place.run(&["inspect", "--key-b64", "db", "key", "YSB2YWx1ZSBvZg=="]).yes();
    shows(&run, &["key a value of (10 bytes)", "a value of = (78 bytes)"]);
    let run = place.run(&["inspect", "db", "key", "pear"]).yes();
    shows(&run, &["not in the table file", "an empty slot: the search ends"]);
    shows(&place.run(&["inspect", "db", "key", ""]).yes(), &["(0 bytes)"]);
    shows(&place.run(&["inspect", "db", "key", "--", "--x"]).yes(), &["key --x (3 bytes)"]);
    let long = "k".repeat(32_768);
    place.run(&["inspect", "db", "key", &long]).error("32768 bytes");
}

#[test]
fn bytes_are_shown_with_their_names() {
    let place = golden();
    let cases: [(&[&str], &[&str]); 7] = [
        (&["header"], &["00000000  73 77 69 73 73 64 62 00  magic: \"swissdb\"", "reserved\n"]),
        (&["directory"], &["root entry 0\n", "segment record 0\n", "pages: block: 6"]),
        (&["segment", "0"], &["group 4: control line\n", "H2 7c", "key: \"apple\""]),
        (&["group", "0/4"], &["00006840  61 70 70 6c 65           key: \"apple\"\n"]),
        (&["block", "9"], &["blocks 0 to 63: 58 of 64 free", "blocks 64 to 127: all free"]),
        (&["key", "apple"], &["found in slot 0", "value: \"red\""]),
        (&["log", "1"], &["activation: magic", "kind: 1 (insert)", "commit number: 3"]),
    ];
    for (part, texts) in cases {
        shows(&place.run(&[&["inspect", "--hex", "db"], part].concat()).yes(), texts);
        let json = place.run(&[&["inspect", "--hex", "--json", "db"], part].concat()).yes();
        assert!(json.text().lines().all(|line| line.starts_with("{\"type\":")), "{}", json.text());
        shows(&json, &["{\"type\":\"field\",\"offset\":"]);
    }
    // What is shown for people has the bytes of the group, and no others.
    let run = place.run(&["inspect", "--hex", "db", "group", "0/4"]).yes();
    let offsets = run.text().lines().filter_map(|line| line.strip_prefix("    "));
    assert!(offsets.clone().count() > 14);
    for line in offsets {
        assert!(("00006800".."00006a00").contains(&&line[..8]), "{line}");
    }
}

#[test]
fn newer_operations_in_the_log_are_told() {
    let place = Place::new();
    place.run(&["put", "db", "k", "old"]).yes();
    let killed = place.path("killed");
    copy_directory(&place.path("db"), &killed);
    // A load that is killed leaves its records behind L.
    let mut child = place.start(&["load", "killed"]);
    let mut stdin = child.stdin.take().unwrap();
    let lines: String =
        (0..1_000).map(|i| format!("{{\"key\": \"k\", \"value\": \"{i}\"}}\n")).collect();
    std::io::Write::write_all(&mut stdin, lines.as_bytes()).unwrap();
    std::io::Write::flush(&mut stdin).unwrap();
    let mut waited = 0;
    while Log::of(&killed).commits < 2 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        waited += 1;
        assert!(waited < 2_000, "the batch is not written");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let run = place.run(&["inspect", "killed", "key", "k"]).yes();
    shows(&run, &["found in slot", "k = old", "1 record, 1,000 operations on this key"]);
    shows(&run, &["insert k = 999", "so it is there, with that value"]);
    let run = place.run(&["inspect", "--json", "killed", "key", "k"]).yes();
    shows(&run, &["\"is_there\":true", "\"records\":1"]);
}

/// What lies in the log of a store that another process has open.
struct Log {
    commits: usize,
}

impl Log {
    /// Reads a copy of it, which is not locked.
    fn of(store: &Path) -> Log {
        let copy = tempfile::tempdir().unwrap();
        copy_directory(store, copy.path());
        let log = swissdb::inspect::log(copy.path()).unwrap();
        let records = log.files.iter().flat_map(|file| file.pieces().unwrap());
        Log { commits: records.filter(|piece| matches!(piece, Piece::Record(_))).count() }
    }
}

#[test]
fn what_makes_no_sense_is_an_error_that_says_what_to_write() {
    let place = golden();
    for (arguments, text) in [
        (&["segment"][..], "the number of the segment is missing, as in `inspect DB segment 0`"),
        (&["header", "1"], "a number (1) makes sense for"),
        (&["segment", "9"], "there is no segment 9; `swissdb inspect db directory` shows them all"),
        (&["segment", "x"], "\"x\" is not the number of a segment"),
        (&["group"], "the number of the group is missing"),
        (&["group", "3"], "\"3\" is no group; write the segment and the group in it"),
        (&["group", "0/99"], "there is no group 99 in segment 0; its groups are 0 to 7"),
        (&["group", "3/0"], "there is no segment 3"),
        (&["block"], "the number of the block is missing"),
        (&["block", "128"], "there is no block 128: the last one of default.swiss is 127"),
        (&["block", "18446744073709551615"], "there is no block 18446744073709551615"),
        (&["key"], "the key is missing, as in `inspect DB key KEY`"),
        (&["key", "--key-b64", "%"], "\"%\" is not base64"),
        (&["block", "1", "--key-b64"], "--key-b64 makes sense for a key only"),
        (&["log", "9"], "there is no log file 9; `swissdb inspect db log` shows them all"),
        (&["log", "first"], "\"first\" is no log file; write its number"),
        (&["slots"], "invalid value 'slots'"),
        (&["--table", "side"], "there is no table side; choose one with --table: default"),
    ] {
        let run = place.run(&[&["inspect", "db"], arguments].concat()).error(text);
        assert_eq!(run.text(), "");
    }
    place.run(&["inspect", "absent"]).error("absent");
    fs::remove_file(place.path("db").join("default.swiss")).unwrap();
    place.run(&["inspect", "db"]).error("there is no table default; db has no table file at all");
    place.run(&["inspect", "db", "log"]).yes();
}

#[test]
fn a_table_without_a_valid_header_is_damage_and_its_blocks_are_shown() {
    let place = golden();
    let path = place.path("db").join("default.swiss");
    let mut bytes = fs::read(&path).unwrap();
    for offset in [80, 4096 + 80] {
        bytes[offset] ^= 1;
    }
    fs::write(&path, bytes).unwrap();
    let parts: [&[&str]; 4] = [&["directory"], &["segment", "0"], &["group", "0/4"], &["key", "a"]];
    for part in parts {
        let run = place.run(&[&["inspect", "db"], part].concat()).no();
        shows(
            &run,
            &["damage ", "default.swiss is damaged at offset 4092: checksum of the header"],
        );
        let run = place.run(&[&["inspect", "--json", "db"], part].concat()).no();
        shows(&run, &["{\"type\":\"damage\",\"file\":", "\"offset\":4092"]);
    }
    let run = place.run(&["inspect", "db", "block", "6"]).no();
    shows(&run, &["it cannot be said what it is", "no header is valid", "apple = red"]);
}

#[test]
fn no_bytes_end_the_command_otherwise_than_with_0_1_or_2() {
    let place = golden();
    let mut random = Random::new(37);
    let parts: [&[&str]; 10] = [
        &["header"],
        &["directory"],
        &["segment", "0"],
        &["group", "0/4"],
        &["block", "6"],
        &["block", "7"],
        &["block", "8"],
        &["key", "apple"],
        &["log"],
        &["log", "1"],
    ];
    let [table, log] = ["default.swiss", "log/00000001.log"];
    for (file, start, length) in [
        (table, 0, 320),
        (table, 0x6000, 0x200),
        (table, 0x6800, 0x200),
        (table, 0x7000, 64),
        (table, 0x8000, 32),
        (table, 0x9000, 16),
        (log, 0, 544),
        (log, 4096, 300),
    ] {
        let path = place.path("db").join(file);
        let whole = fs::read(&path).unwrap();
        for round in 0..3 {
            let mut bytes = whole.clone();
            let place_of = |random: &mut Random| start + random.below(length) as usize;
            match round {
                0 => bytes[place_of(&mut random)] ^= 1 << random.below(8),
                1 => bytes[start..start + length as usize].fill_with(|| random.next() as u8),
                _ => bytes.truncate(place_of(&mut random)),
            }
            fs::write(&path, bytes).unwrap();
            let before = place.files();
            for part in parts {
                let form = [&[][..], &["--hex"], &["--json"], &["--hex", "--json"]];
                let form = form[random.below(4) as usize];
                let run = place.run(&[&["inspect", "db"], part, form].concat());
                assert!(matches!(run.status, Some(0..=2)), "{:?}: {}", run.status, run.err);
                assert!(!run.err.contains("panicked"), "{}", run.err);
                assert!(run.status != Some(2) || run.err.starts_with("swissdb: "), "{}", run.err);
            }
            assert!(place.files() == before, "looking changed a byte");
        }
        fs::write(&path, whole).unwrap();
    }
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
