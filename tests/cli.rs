//! The command `swissdb`, run as people run it.
//!
//! Goal: every command does what its help says, with the exit statuses 0, 1
//! and 2, data on standard output and all else on standard error. Method: the
//! built binary is run in empty directories and its output, its exit status
//! and the files that it leaves are looked at. What follows kills, damage and
//! wrong arguments is in `cli/mistakes.rs`, what cannot be loaded or written in
//! `cli/refused.rs`.

#[path = "cli/inspect.rs"]
mod inspect;
#[cfg(unix)]
#[path = "cli/interrupt.rs"]
mod interrupt;
#[path = "cli/map.rs"]
mod map;
#[path = "cli/mistakes.rs"]
mod mistakes;
#[path = "cli/refused.rs"]
mod refused;
#[path = "cli/stats.rs"]
mod stats;
#[path = "cli/tool.rs"]
pub mod tool;

use std::collections::BTreeSet;
use std::fs;

use tool::{Place, sample};

/// The lines of a text in order.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn what_is_loaded_is_dumped() {
    let place = Place::with_sample();
    let dump = place.run(&["dump", "db"]).yes();
    let input = fs::read_to_string(sample()).unwrap();
    assert!(sorted(dump.text()) == sorted(&input), "the dump differs from what was loaded");
    assert_eq!(dump.err, "");
}

#[test]
fn loading_again_changes_nothing() {
    let place = Place::with_sample();
    let run = place.run(&["load", "--sync", "db", sample().to_str().unwrap()]).yes();
    assert_eq!(run.text(), "");
    assert!(run.err.contains("loaded 1,991 entries into db"), "{}", run.err);
    assert_eq!(place.run(&["dump", "db"]).yes().text().lines().count(), 1991);
}

#[test]
fn load_reads_standard_input_without_a_file_and_with_a_dash() {
    let place = Place::new();
    place.run_with(&["load", "db"], b"{\"key\": \"a\", \"value\": \"1\"}\n").yes();
    place.run_with(&["load", "db", "-"], b"{\"key\": \"b\", \"value\": \"2\"}").yes();
    assert_eq!(place.run(&["get", "db", "a"]).yes().text(), "1");
    assert_eq!(place.run(&["get", "db", "b"]).yes().text(), "2");
}

#[test]
fn load_skips_blank_lines_and_accepts_line_ends_of_both_kinds() {
    let place = Place::new();
    let lines =
        b"\n{\"key\": \"a\", \"value\": \"1\"}\r\n   \n{\"key\": \"b\", \"value\": \"2\"}\n\n";
    place.run_with(&["load", "db"], lines).yes();
    assert_eq!(place.run(&["scan", "--keys-only", "db"]).yes().text().lines().count(), 2);
}

#[test]
fn load_of_nothing_makes_an_empty_store() {
    let place = Place::new();
    place.run(&["load", "db"]).yes();
    assert_eq!(place.run(&["dump", "db"]).yes().text(), "");
    place.run(&["verify", "db"]).yes();
}

#[test]
fn bytes_that_are_not_text_survive_dump_and_load() {
    let place = Place::new();
    let line = "{\"key_b64\": \"AP+A\", \"value_b64\": \"/wA=\"}\n";
    place.run_with(&["load", "db"], line.as_bytes()).yes();
    assert_eq!(place.run(&["get", "--key-b64", "db", "AP+A"]).yes().out, b"\xff\x00");
    let dump = place.run(&["dump", "db"]).yes();
    assert_eq!(dump.text(), line);
    place.run_with(&["load", "copy"], &dump.out).yes();
    assert_eq!(place.run(&["dump", "copy"]).yes().text(), line);
    place.run(&["del", "--key-b64", "db", "AP+A"]).yes();
    assert_eq!(place.run(&["dump", "db"]).yes().text(), "");
}

#[test]
fn put_get_and_del_handle_one_entry() {
    let place = Place::new();
    let put = place.run(&["put", "db", "greeting", "hello"]).yes();
    assert_eq!((put.text(), put.err.as_str()), ("", ""));
    assert_eq!(place.run(&["get", "db", "greeting"]).yes().text(), "hello");
    place.run(&["put", "db", "greeting", "good morning"]).yes();
    assert_eq!(place.run(&["get", "db", "greeting"]).yes().text(), "good morning");
    place.run(&["del", "db", "greeting"]).yes();
    let absent = place.run(&["get", "db", "greeting"]).no();
    assert_eq!(
        (absent.text(), absent.err.as_str()),
        ("", "swissdb: there is no key \"greeting\"\n")
    );
    place.run(&["del", "db", "greeting"]).no();
}

#[test]
fn put_takes_its_value_from_standard_input_or_base64() {
    let place = Place::new();
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    place.run_with(&["put", "db", "picture"], &bytes).yes();
    assert_eq!(place.run(&["get", "db", "picture"]).yes().out, bytes);
    place.run(&["put", "--value-b64", "db", "small", "AP8="]).yes();
    assert_eq!(place.run(&["get", "db", "small"]).yes().out, b"\x00\xff");
    place.run(&["put", "--key-b64", "db", "", "of the empty key"]).yes();
    assert_eq!(place.run(&["get", "db", ""]).yes().text(), "of the empty key");
}

#[test]
fn keys_that_begin_with_a_dash_follow_two_dashes() {
    let place = Place::new();
    place.run(&["put", "db", "--", "--sync", "-v"]).yes();
    assert_eq!(place.run(&["get", "db", "--", "--sync"]).yes().text(), "-v");
}

#[test]
fn scan_shows_one_entry_a_line_with_escapes() {
    let place = Place::new();
    place.run(&["put", "--key-b64", "--value-b64", "db", "AGEK", "/2IJXA=="]).yes();
    assert_eq!(place.run(&["scan", "db"]).yes().text(), "\\x00a\\n\t\\xffb\\t\\\\\n");
    assert_eq!(place.run(&["scan", "--keys-only", "db"]).yes().text(), "\\x00a\\n\n");
    assert_eq!(place.run(&["scan", "--raw", "db"]).yes().out, b"\x00a\n\t\xffb\t\\\n");
    let json = "{\"key\": \"\\u0000a\\n\", \"value_b64\": \"/2IJXA==\"}\n";
    assert_eq!(place.run(&["scan", "--json", "db"]).yes().text(), json);
}

#[test]
fn scan_shows_as_many_entries_as_it_may() {
    let place = Place::with_sample();
    for (limit, expected) in [("0", 0), ("1", 1), ("10", 10), ("5000", 1991)] {
        let scan = place.run(&["scan", "--limit", limit, "--keys-only", "db"]).yes();
        let keys: BTreeSet<_> = scan.text().lines().collect();
        assert_eq!(keys.len(), expected, "--limit {limit}");
    }
}

#[test]
fn tables_are_apart_from_each_other() {
    let place = Place::new();
    place.run(&["put", "db", "key", "of the default table"]).yes();
    place.run(&["put", "--table", "other", "db", "key", "of the other"]).yes();
    assert_eq!(place.run(&["get", "db", "key"]).yes().text(), "of the default table");
    assert_eq!(place.run(&["get", "--table", "other", "db", "key"]).yes().text(), "of the other");
    assert_eq!(place.run(&["scan", "--table=other", "db"]).yes().text(), "key\tof the other\n");
    let line = "{\"key\": \"key\", \"value\": \"of the other\"}\n";
    assert_eq!(place.run(&["dump", "--table", "other", "db"]).yes().text(), line);
    place.run_with(&["load", "--table", "third", "db"], line.as_bytes()).yes();
    place.run(&["del", "--table", "other", "db", "key"]).yes();
    assert_eq!(place.run(&["dump", "--table", "other", "db"]).yes().text(), "");
    assert_eq!(place.run(&["get", "--table", "third", "db", "key"]).yes().text(), "of the other");
    let stats = place.run(&["stats", "--table", "third", "db"]).yes();
    assert!(stats.text().contains("table third"), "{}", stats.text());
    assert!(!stats.text().contains("table other"), "{}", stats.text());
}

#[test]
fn stats_are_shown_as_text_and_as_json() {
    let place = Place::with_sample();
    place.run(&["put", "--table", "small", "--slot-payload=24", "db", "key", "value"]).yes();
    let text = place.run(&["stats", "db"]).yes();
    for part in ["table default", "table small", "entries        1,991", "24 bytes"] {
        assert!(text.text().contains(part), "{part:?} not in {}", text.text());
    }
    let json = place.run(&["stats", "--json", "db"]).yes();
    for field in [
        "tables",
        "log_files",
        "commits",
        "durable_commit",
        "name",
        "id",
        "slot_payload",
        "hash",
        "entries",
        "capacity",
        "growth_left",
        "tombstones",
        "utilisation",
        "segments",
        "root_depth",
        "file_bytes",
        "blocks_used",
        "blocks_free",
        "live_log_bytes",
        "clears",
    ] {
        assert!(json.text().contains(&format!("\"{field}\":")), "{field} not in {}", json.text());
    }
    for part in ["\"entries\": 1991", "\"slot_payload\": 24", "\"hash\": \"sip\""] {
        assert!(json.text().contains(part), "{part} not in {}", json.text());
    }
}

#[test]
fn an_undamaged_store_verifies() {
    let place = Place::with_sample();
    let text = place.run(&["verify", "db"]).yes();
    let expected = "db is undamaged; checked: 1 table, 1991 entries";
    assert!(text.text().starts_with(expected), "{}", text.text());
    let json = place.run(&["verify", "--json", "db"]).yes();
    for part in ["\"clean\": true", "\"violations\": []", "\"entries\": 1991"] {
        assert!(json.text().contains(part), "{part} not in {}", json.text());
    }
}

#[test]
fn checkpoint_keeps_every_entry() {
    let place = Place::with_sample();
    let run = place.run(&["checkpoint", "db"]).yes();
    assert_eq!((run.text(), run.err.as_str()), ("", ""));
    place.run(&["verify", "db"]).yes();
    assert_eq!(place.run(&["dump", "db"]).yes().text().lines().count(), 1991);
}

#[test]
fn a_backup_holds_every_entry_and_changes_nothing() {
    let place = Place::with_sample();
    place.run(&["put", "--table", "other", "db", "key", "value"]).yes();
    let before = place.files();
    let run = place.run(&["backup", "db", "copy"]).yes();
    assert_eq!(run.text(), "");
    let told = "swissdb: backed up db to copy: 1,992 entries in 2 tables, ";
    assert!(run.err.starts_with(told), "{}", run.err);
    place.run(&["verify", "copy"]).yes();
    let (old, copy) = (place.run(&["dump", "db"]).yes(), place.run(&["dump", "copy"]).yes());
    assert_eq!(sorted(old.text()), sorted(copy.text()));
    assert_eq!(place.run(&["get", "--table", "other", "copy", "key"]).yes().text(), "value");
    let after = place.files();
    assert!(before.iter().all(|(path, bytes)| after.get(path) == Some(bytes)), "db was changed");
    place.run(&["backup", "db", "copy"]).error("copy exists; give the new store another name");
    place.run(&["backup", "absent", "new"]).error("there is no");
    let json = place.run(&["backup", "--json", "--write-buffer=4M", "db", "again"]).yes();
    assert_eq!(json.err, "");
    for part in ["\"entries\": 1992", "\"tables\": 2", "\"commit\": ", "\"bytes\": "] {
        assert!(json.text().contains(part), "{part} not in {}", json.text());
    }
    let open = swissdb::Db::open(place.path("db")).unwrap();
    place.run(&["backup", "db", "third"]).error("with Db::backup");
    drop(open);
    assert!(!place.path("third").exists() && !place.path("new").exists());
}

#[test]
fn options_at_creation_are_kept_and_sizes_have_units() {
    let place = Place::new();
    let options = ["--slot-payload", "504B", "--hash", "fast", "--write-buffer", "16M"];
    place.run(&[&["put", "db", "key", "value"], &options[..]].concat()).yes();
    let stats = place.run(&["stats", "--json", "db"]).yes();
    assert!(stats.text().contains("\"slot_payload\": 504"), "{}", stats.text());
    assert!(stats.text().contains("\"hash\": \"fast\""), "{}", stats.text());
    place.run(&["put", "--slot-payload", "504", "db", "key", "value"]).yes();
    place.run(&["put", "--slot-payload", "56", "db", "key", "x"]).error("leave --slot-payload out");
    place.run(&["put", "--hash", "sip", "db", "key", "x"]).error("leave --hash out");
    assert_eq!(place.run(&["get", "db", "key"]).yes().text(), "value");
}

#[test]
fn a_small_write_buffer_does_not_keep_a_large_batch_out() {
    let place = Place::new();
    let sample = sample();
    place.run(&["load", "--write-buffer", "1M", "db", sample.to_str().unwrap()]).yes();
    assert_eq!(place.run(&["scan", "--keys-only", "db"]).yes().text().lines().count(), 1991);
}

#[test]
fn every_help_tells_its_exit_statuses() {
    let place = Place::new();
    let help = place.run(&["--help"]).yes();
    assert_eq!(help.err, "");
    for part in ["Exit status:", "Examples:", "load", "checkpoint"] {
        assert!(help.text().contains(part), "{part:?} not in {}", help.text());
    }
    for command in [
        "load",
        "dump",
        "put",
        "get",
        "del",
        "scan",
        "stats",
        "inspect",
        "map",
        "verify",
        "checkpoint",
        "backup",
        "salvage",
    ] {
        for option in ["--help", "-h"] {
            let help = place.run(&[command, option]).yes();
            assert!(help.text().contains("Exit status: 0"), "{}", help.text());
            assert!(help.text().contains("<DB>"), "{}", help.text());
        }
    }
    assert!(place.run(&["--version"]).yes().text().starts_with("swissdb 0."));
}
