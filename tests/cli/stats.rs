//! `swissdb stats`, run as people run it.
//!
//! Goal: what is in a store is shown in sections that can be read and in a
//! document that programs understand; advice is given with the command that
//! follows it, and only where it is worth it. Method: the sample of package
//! records and stores made for one reason to advise. That the document and its
//! schema agree is tested beside the command's source.

use std::fs;

use super::tool::{Place, sample};
use crate::support::copy_directory;

/// Lines that hold so many entries, with numbers as keys.
fn lines(count: usize, value: &str) -> String {
    (0..count).map(|i| format!("{{\"key\": \"{i}\", \"value\": \"{value}\"}}\n")).collect()
}

/// The lines of a chart: those below the line that begins with a name, up to
/// the next name.
fn chart<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let name = format!("  {name:<14} ");
    let below = text.lines().skip_while(move |line| !line.starts_with(&name)).skip(1);
    below.take_while(|line| line.starts_with("      ")).map(str::trim).collect()
}

#[test]
fn sizes_searches_and_segments_are_drawn() {
    let place = Place::new();
    place.run_with(&["load", "db"], lines(10, "of ten bytes").as_bytes()).yes();
    let run = place.run(&["stats", "db"]).yes();
    assert_eq!(run.err, "");
    let bar = "##############################";
    assert_eq!(chart(run.text(), "keys"), [format!("1  10  100.0 %  {bar}")]);
    assert_eq!(chart(run.text(), "values"), [format!("12  10  100.0 %  {bar}")]);
    assert_eq!(chart(run.text(), "local depths"), [format!("0  1  100.0 %  {bar}")]);
    assert_eq!(chart(run.text(), "segment sizes"), [format!("1  1  100.0 %  {bar}")]);
    for name in ["found keys", "absent keys"] {
        let lines = chart(run.text(), name);
        assert!(lines[0].starts_with("1 "), "{lines:?}");
    }
    for part in [
        "  values         12 to 12 bytes, 12.0 on average; half up to 12, 99 % up to 12\n",
        "  stored         10 in their slots\n",
        "  tombstones     0\n",
        "  directory      1 page, root depth 0, 8.0 KiB\n",
        "log\n  files          1\n",
        "  commits        1, all durable\n",
    ] {
        assert!(run.text().contains(part), "{part:?} not in {}", run.text());
    }
    for absent in ["advice", "since the store was opened", "table default (number 1)"] {
        assert!(!run.text().contains(absent), "{absent:?} in {}", run.text());
    }
}

#[test]
fn charts_of_many_sizes_show_powers_of_two() {
    let place = Place::with_sample();
    let run = place.run(&["stats", "db"]).yes();
    let values = chart(run.text(), "values");
    assert!(values.iter().any(|line| line.starts_with("513-1,024 ")), "{values:?}");
    assert!(values.len() <= 12, "{values:?}");
    assert!(run.text().contains(" with the value in the log"), "{}", run.text());
}

#[test]
fn the_same_store_is_shown_the_same_way_twice() {
    let place = Place::with_sample();
    for arguments in [&["stats", "db"][..], &["stats", "--json", "db"]] {
        let first = place.run(arguments).yes();
        assert_eq!(first.text(), place.run(arguments).yes().text());
    }
}

#[test]
fn quick_shows_what_needs_no_look_at_the_entries() {
    let place = Place::with_sample();
    let run = place.run(&["stats", "--quick", "db"]).yes();
    assert!(run.text().contains("  entries        1,991\n"), "{}", run.text());
    assert!(!run.text().contains("  found keys "), "{}", run.text());
    let json = place.run(&["stats", "--quick", "--json", "db"]).yes();
    assert!(json.text().contains("\"survey\": null"), "{}", json.text());
}

#[test]
fn what_a_killed_writer_left_to_replay_is_shown() {
    let place = Place::new();
    place.run(&["put", "db", "key", "value"]).yes();
    let closed = place.run(&["stats", "--quick", "db"]).yes();
    assert!(!closed.text().contains("not in tables"), "{}", closed.text());
    let db = swissdb::Db::open(place.path("db")).expect("open");
    db.insert("key", "of a record of sixty-four bytes").expect("insert");
    copy_directory(&place.path("db"), &place.path("copy"));
    db.close().expect("close");
    let killed = place.run(&["stats", "--quick", "copy"]).yes();
    let expected = "  not in tables  72 B, to be replayed after a crash\n";
    assert!(killed.text().contains(expected), "{}", killed.text());
}

#[test]
fn an_empty_store_is_shown() {
    let place = Place::new();
    place.run(&["load", "db"]).yes();
    let run = place.run(&["stats", "db"]).yes();
    for part in [
        "  keys           none\n",
        "  stored         nothing\n",
        "  commits        0, all durable\n",
    ] {
        assert!(run.text().contains(part), "{part:?} not in {}", run.text());
    }
    assert!(chart(run.text(), "keys").is_empty());
}

#[test]
fn a_table_that_is_not_there_is_an_error() {
    let place = Place::new();
    place.run(&["put", "db", "key", "value"]).yes();
    place.run(&["stats", "--table", "absent", "db"]).error("there is no table absent");
    place.run(&["stats", "absent"]).error("absent");
}

#[test]
fn advice_comes_with_the_command_that_follows_it() {
    let place = Place::new();
    let value = "v".repeat(40);
    place.run_with(&["load", "db"], lines(60_000, &value).as_bytes()).yes();
    let before = place.run(&["stats", "db"]).yes();
    assert!(!before.text().contains("advice"), "{}", before.text());
    // Tombstones and empty slots: one key in three goes.
    let db = swissdb::Db::open(place.path("db")).expect("open");
    for i in (0..60_000u32).filter(|i| i % 3 == 0) {
        db.remove(i.to_string()).expect("remove");
    }
    db.close().expect("close");
    let run = place.run(&["stats", "db"]).yes();
    let advice = run.text().split_once("\nadvice\n").expect("there is advice").1;
    let (sentence, command) = advice.trim_end().split_once('\n').expect("two lines");
    assert!(sentence.starts_with("  table default: only "), "{advice}");
    assert!(sentence.ends_with(" MiB smaller."), "{advice}");
    assert_eq!(command, "      swissdb compact db");
    let json = place.run(&["stats", "--json", "--quick", "db"]).yes();
    assert!(json.text().contains("\"command\": \"swissdb compact db\""), "{}", json.text());
}

#[test]
fn a_slot_payload_that_does_not_fit_is_told_with_a_better_one() {
    let place = Place::new();
    let input = lines(20_000, "of a few bytes");
    place.run_with(&["load", "--slot-payload", "104", "db"], input.as_bytes()).yes();
    place
        .run_with(&["load", "--slot-payload", "104", "--table", "t", "db"], input.as_bytes())
        .yes();
    let run = place.run(&["stats", "db"]).yes();
    let advice = run.text().split_once("\nadvice\n").expect("there is advice").1;
    let lines: Vec<_> = advice.lines().collect();
    let expected = "  table default: a slot payload of 24 bytes, not 104, would make it about ";
    assert!(lines[0].starts_with(expected), "{advice}");
    assert_eq!(lines[1], "      swissdb compact db --slot-payload 24");
    assert!(lines[2].starts_with("  table t: "), "{advice}");
    assert_eq!(lines[3], "      swissdb compact db --table t --slot-payload 24");
    let quick = place.run(&["stats", "--quick", "db"]).yes();
    assert!(!quick.text().contains("advice"), "{}", quick.text());
}

#[test]
fn damage_is_told_and_the_rest_is_shown() {
    let place = Place::new();
    let sample = sample();
    place.run(&["load", "db", sample.to_str().unwrap()]).yes();
    let record = swissdb::inspect::segment(place.path("db"), "default", 0).expect("read").record;
    let path = place.path("db/default.swiss");
    let mut bytes = fs::read(&path).unwrap();
    bytes[record.pages[0].block as usize * 4096 + 100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let run = place.run(&["stats", "db"]).yes();
    let told = "swissdb: 1 segment of table default is damaged and was left out; \
                `swissdb verify` tells more\n";
    assert_eq!(run.err, told);
    let left = 1991 - u64::from(record.used);
    assert!(run.text().contains("  entries        1,991\n"), "{}", run.text());
    let json = place.run(&["stats", "--json", "db"]).yes();
    assert!(json.text().contains("\"unreadable_segments\": 1"), "{}", json.text());
    assert!(json.text().contains(&format!("\"entries\": {left}")), "{}", json.text());
}

#[test]
fn the_help_names_the_schema() {
    let place = Place::new();
    for option in ["--help", "-h"] {
        let help = place.run(&["stats", option]).yes();
        assert!(help.text().contains("tools/stats.schema.json"), "{}", help.text());
    }
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/stats.schema.json");
    let schema = fs::read_to_string(schema).expect("the schema is there");
    assert!(schema.contains("\"https://json-schema.org/draft/2020-12/schema\""));
}
