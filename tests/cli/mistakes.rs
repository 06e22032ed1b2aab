//! The command after mistakes, kills and damage.
//!
//! Goal: a mistake gets a sentence and the exit status 2, and never costs an
//! entry; what only reads changes no byte; nobody who reads half of the output
//! is called wrong. Method: malformed input at every place of a batch, a kill
//! in the middle of a load, flipped bytes in the files of a store.

use std::fs;
use std::io::{Read, Write};

use super::tool::{Place, Run};

/// So many lines, each an entry with the number of the line as its key.
fn lines(count: usize) -> String {
    (1..=count).map(|i| format!("{{\"key\": \"{i}\", \"value\": \"of line {i}\"}}\n")).collect()
}

fn entries(place: &Place) -> usize {
    place.run(&["scan", "--keys-only", "db"]).yes().text().lines().count()
}

#[test]
fn a_malformed_line_is_told_with_its_number_and_nothing_of_its_batch_is_written() {
    for (good, kept) in [(0, 0), (1, 0), (999, 0), (1000, 1000), (1001, 1000), (2500, 2000)] {
        let place = Place::new();
        let input = format!("{}nonsense\n{}", lines(good), lines(10));
        let bad = place.run_with(&["load", "db"], input.as_bytes());
        let number = format!("line {} of standard input is no entry", good + 1);
        let bad = bad.error(&number);
        let told = match kept {
            0 => "nothing was loaded".to_owned(),
            kept => format!("the lines before line {} are loaded, none from there on", kept + 1),
        };
        assert!(bad.err.contains(&told), "{}", bad.err);
        if kept == 0 {
            assert!(!place.path("db").exists(), "an empty store was left behind");
            continue;
        }
        assert_eq!(entries(&place), kept);
        place.run(&["verify", "db"]).yes();
    }
}

#[test]
fn the_number_of_a_malformed_line_counts_blank_lines() {
    let place = Place::new();
    fs::write(place.path("in"), "\n\n{\"key\": \"a\"}\n").unwrap();
    place.run(&["load", "db", "in"]).error("line 3 of in is no entry: it has no value");
}

#[test]
fn input_that_cannot_be_read_makes_no_store() {
    let place = Place::new();
    place.run(&["load", "db", "absent"]).error("could not read absent");
    fs::create_dir(place.path("directory")).unwrap();
    place.run(&["load", "db", "directory"]).error("directory");
    place.run(&["put", "--key-b64", "db", "%", "value"]).error("\"%\" is not base64");
    assert!(!place.path("db").exists());
}

#[test]
fn a_file_of_another_kind_is_not_read_to_its_end() {
    let place = Place::new();
    fs::write(place.path("zeros"), vec![0; 1 << 20]).unwrap();
    place
        .run(&["load", "db", "zeros"])
        .error("line 1 of zeros is no entry: it does not begin with {");
}

#[test]
fn wrong_arguments_are_errors() {
    let place = Place::new();
    place.run(&["put", "db", "key", "value"]).yes();
    for (arguments, text) in [
        (&["frobnicate"][..], "frobnicate"),
        (&["get", "db"], "<KEY>"),
        (&["get"], "<DB>"),
        (&["get", "db", "key", "more"], "more"),
        (&["scan", "--limit", "-1", "db"], "--limit"),
        (&["scan", "--limit", "many", "db"], "--limit"),
        (&["scan", "--limit", "1e3", "db"], "\"1e3\" is no number of entries"),
        (&["inspect", "db", "block", "-1"], "\"-1\""),
        (&["put", "--write-buffer", "-1", "db", "key", "value"], "\"-1\" is no size"),
        (&["put", "--sync", "db", "key", "value"], "--sync"),
        (&["compact", "--table", "default", "db"], "--slot-payload"),
        (&["scan", "--table", "absent", "db"], "choose one with --table: default"),
        (&["scan", "--raw", "--json", "db"], "--raw"),
        (&["put", "--value-b64", "db", "key"], "VALUE"),
        (&["put", "--write-buffer", "lots", "db", "key", "value"], "\"lots\" is no size"),
        (&["put", "--slot-payload", "57", "new", "key", "value"], "57"),
        (&["put", "--slot-payload", "4M", "new", "key", "value"], "504"),
        (&["put", "--table", "a/b", "db", "key", "value"], "a/b"),
        (&["put", "--table", "", "db", "key", "value"], "name"),
        (&["put", "--hash", "md5", "db", "key", "value"], "md5"),
        (&["stats", "--table", "absent", "db"], "there is no table absent"),
        (&["inspect", "--table", "absent", "db", "log"], "--table absent makes no sense"),
        (&["inspect", "--table", "absent", "db", "log", "1"], "leave it out"),
        (&["get", "--table", "absent", "db", "key"], "absent"),
        (&["del", "--table", "absent", "db", "key"], "there is no table absent"),
    ] {
        place.run(arguments).error(text);
    }
    assert_eq!(place.run(&[]).status, Some(2));
    assert_eq!(place.run(&["get", "db", "key"]).yes().text(), "value");
}

#[test]
fn a_table_is_rewritten_with_the_write_buffer_that_is_asked_for() {
    let place = Place::new();
    place.run(&["put", "db", "key", "value"]).yes();
    let before = place.run(&["stats", "--json", "db"]).yes();
    let compact = ["compact", "--slot-payload", "64", "--write-buffer", "1K", "db"];
    place.run(&compact).error("the write buffer must be 1 MiB to 1 TiB");
    // Refused before the table was rewritten, and not only behind it.
    assert_eq!(place.run(&["stats", "--json", "db"]).yes().text(), before.text());
    let compact = ["compact", "--slot-payload", "64", "--write-buffer", "1M", "db"];
    place.run(&compact).yes();
    let after = place.run(&["stats", "--json", "db"]).yes();
    assert!(after.text().contains("\"slot_payload\": 64"), "{}", after.text());
}

#[test]
fn commands_that_need_a_store_do_not_make_one() {
    let place = Place::new();
    for arguments in [
        &["dump", "db"][..],
        &["get", "db", "key"],
        &["del", "db", "key"],
        &["scan", "db"],
        &["stats", "db"],
        &["inspect", "db"],
        &["verify", "db"],
        &["checkpoint", "db"],
    ] {
        place.run(arguments).error("db");
    }
    assert!(place.files().is_empty());
    assert!(!place.path("db").exists());
}

#[test]
fn what_is_no_store_is_left_alone() {
    let place = Place::new();
    fs::write(place.path("file"), "text").unwrap();
    for command in [&["dump", "file"][..], &["verify", "file"], &["put", "file", "key", "value"]] {
        place.run(command).error("file");
    }
    assert_eq!(fs::read(place.path("file")).unwrap(), b"text");
    for command in [&["get", "file", "key"][..], &["checkpoint", "file"], &["load", "file"]] {
        place.run(command).error("there is no store at file, which is no directory");
    }
    fs::create_dir(place.path("photos")).unwrap();
    for command in [&["dump", "photos"][..], &["del", "photos", "key"], &["compact", "photos"]] {
        place.run(command).error("there is no store at photos");
    }
    place.run(&["map", "photos"]).error("photos has no table file at all");
    assert_eq!(fs::read_dir(place.path("photos")).unwrap().count(), 0);
    fs::create_dir_all(place.path("app/log")).unwrap();
    fs::write(place.path("app/log/app.log"), "started").unwrap();
    for command in [&["verify", "app"][..], &["del", "app", "key"], &["dump", "app"]] {
        place.run(command).error("there is no store at app");
    }
    assert_eq!(fs::read_dir(place.path("app")).unwrap().count(), 1);
}

#[test]
fn keys_that_are_too_long_are_refused() {
    let place = Place::new();
    let long = "k".repeat(32_768);
    place.run(&["put", "db", &long, "value"]).error("32768 bytes");
    assert!(!place.path("db").exists(), "an empty store was left behind");
    place.run(&["put", "db", &long[1..], "value"]).yes();
    assert_eq!(place.run(&["get", "db", &long[1..]]).yes().text(), "value");
    place.run(&["put", "--table", "new", "db", &long, "value"]).error("32768 bytes");
    assert!(!place.path("db/new.swiss").exists(), "an empty table was left behind");
    let line = format!("{{\"key\": \"{long}\", \"value\": \"\"}}\n");
    place.run_with(&["load", "db"], line.as_bytes()).error("line 1 of standard input");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let place = Place::with_sample();
    for arguments in [&["dump", "db"][..], &["scan", "db"], &["scan", "--raw", "db"]] {
        let mut child = place.start(arguments);
        let mut some = [0; 100];
        child.stdout.take().unwrap().read_exact(&mut some).unwrap();
        let run = Run::new(arguments, child.wait_with_output().unwrap()).yes();
        assert_eq!(run.err, "");
    }
}

/// Runs the command with a pipe for its output that nobody reads any more.
fn into_closed_pipe(place: &Place, arguments: &[&str]) -> Run {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = place.command(arguments).stdout(writer).spawn().unwrap();
    Run::new(arguments, child.wait_with_output().unwrap())
}

/// The output is so short that all has been looked at when it is written.
#[test]
fn a_closed_pipe_hides_no_damage() {
    let place = Place::new();
    let value = format!("Package: {}", "more than fits a slot ".repeat(9));
    let lines = format!(
        "{{\"key\": \"one\", \"value\": \"{value}\"}}\n{{\"key\": \"two\", \"value\": \"{value}\"}}"
    );
    place.run_with(&["load", "db"], lines.as_bytes()).yes();
    let looks = [
        &["verify", "db"][..],
        &["verify", "--json", "db"],
        &["dump", "db"],
        &["scan", "db"],
        &["scan", "--raw", "db"],
    ];
    for arguments in looks {
        into_closed_pipe(&place, arguments).yes();
    }
    into_closed_pipe(&place, &["salvage", "db", "whole"]).yes();
    damage_a_value(&place);
    for arguments in looks {
        into_closed_pipe(&place, arguments).no();
    }
    into_closed_pipe(&place, &["salvage", "db", "saved"]).no();
    into_closed_pipe(&place, &["salvage", "--json", "db", "again"]).no();
}

#[test]
fn a_closed_pipe_hides_no_damage_of_the_table_file() {
    let place = Place::new();
    place.run(&["put", "db", "key", "value"]).yes();
    let table = place.path("db/default.swiss");
    let whole = fs::read(&table).unwrap();
    let looks = [&["inspect", "db"][..], &["map", "db"], &["map", "--svg", "-", "db"]];
    for damaged in [false, true] {
        let mut bytes = whole.clone();
        bytes[100] ^= u8::from(damaged);
        fs::write(&table, bytes).unwrap();
        for arguments in looks {
            let run = into_closed_pipe(&place, arguments);
            if damaged {
                run.no()
            } else {
                run.yes()
            };
        }
    }
}

/// Starts to load, and kills the load when 2,400 lines of 1,000 in a batch
/// have been taken. Lines are long, so that pipes hold few of them.
fn killed_load(place: &Place) {
    let mut child = place.start(&["load", "db"]);
    let value = "v".repeat(2000);
    let mut stdin = child.stdin.take().unwrap();
    for i in 0..2400 {
        writeln!(stdin, "{{\"key\": \"{i}\", \"value\": \"{value}\"}}").unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_killed_load_leaves_whole_batches() {
    let place = Place::new();
    killed_load(&place);
    place.run(&["verify", "db"]).yes();
    assert_eq!(entries(&place), 2000);
    place.run(&["put", "db", "more", "value"]).yes();
    place.run(&["verify", "db"]).yes();
    assert_eq!(entries(&place), 2001);
}

#[test]
fn commands_that_read_change_no_byte() {
    let clean = Place::with_sample();
    clean.run(&["put", "--table", "other", "db", "0ad", "value"]).yes();
    let killed = Place::new();
    killed_load(&killed);
    for place in [clean, killed] {
        let before = place.files();
        for arguments in [
            &["dump", "db"][..],
            &["get", "db", "0ad"],
            &["get", "db", "absent"],
            &["get", "--table", "absent", "db", "0ad"],
            &["scan", "db"],
            &["stats", "db"],
            &["stats", "--json", "db"],
            &["inspect", "db"],
            &["verify", "db"],
        ] {
            assert!(place.run(arguments).status.is_some(), "{arguments:?} was ended by a signal");
            let after = place.files();
            assert!(before.keys().eq(after.keys()), "{arguments:?} added or removed files");
            for (path, bytes) in &before {
                assert!(after[path] == *bytes, "{arguments:?} changed {}", path.display());
            }
        }
    }
}

#[test]
fn a_store_that_is_open_for_writing_is_told_to_be_so() {
    let place = Place::new();
    place.run(&["put", "db", "key", "value"]).yes();
    let mut loading = place.start(&["load", "db"]);
    let mut stdin = loading.stdin.take().unwrap();
    stdin.write_all(lines(30_000).as_bytes()).unwrap();
    let locked = place.run(&["get", "db", "key"]).error("the store db is open");
    assert!(locked.err.contains(&loading.id().to_string()), "{}", locked.err);
    place.run(&["put", "db", "key", "other"]).error("open");
    drop(stdin);
    assert!(loading.wait().unwrap().success());
    assert_eq!(place.run(&["get", "db", "key"]).yes().text(), "value");
}

/// Changes one bit of the first package record that a log file holds.
fn damage_a_value(place: &Place) {
    const START: &[u8] = b"Package: ";
    for (path, mut bytes) in place.files() {
        let found = bytes.windows(START.len()).position(|window| window == START);
        if let (Some(at), true) = (found, path.extension().is_some_and(|kind| kind == "log")) {
            bytes[at] ^= 1;
            return fs::write(path, bytes).unwrap();
        }
    }
    panic!("no log file holds a package record");
}

#[test]
fn damage_is_found_shown_and_an_answer_of_its_own() {
    let place = Place::with_sample();
    damage_a_value(&place);
    let run = place.run(&["verify", "db"]).no();
    assert!(run.text().contains("db is damaged in 1 place"), "{}", run.text());
    assert!(run.text().contains(" at offset "), "{}", run.text());
    assert!(run.text().contains("[I"), "{}", run.text());
    let json = place.run(&["verify", "--json", "db"]).no();
    assert!(json.text().contains("\"clean\": false"), "{}", json.text());
    assert!(json.text().contains("\"invariant\": "), "{}", json.text());
    for arguments in [&["dump", "db"][..], &["scan", "db"]] {
        let run = place.run(arguments).no();
        assert_eq!(run.text().lines().count(), 1990);
        assert_eq!(run.err.lines().count(), 1, "{}", run.err);
        assert!(run.err.contains("is damaged at offset"), "{}", run.err);
    }
}

#[test]
fn a_store_that_cannot_be_opened_is_damaged_too() {
    let place = Place::with_sample();
    let table = place.path("db/default.swiss");
    let mut bytes = fs::read(&table).unwrap();
    bytes[100] ^= 1;
    bytes[4096 + 100] ^= 1;
    fs::write(&table, bytes).unwrap();
    let run = place.run(&["verify", "db"]).no();
    assert!(run.text().contains("default.swiss at offset"), "{}", run.text());
    place.run(&["get", "db", "0ad"]).error("damaged");
}

#[test]
fn colour_is_shown_only_where_it_is_wanted() {
    let place = Place::new();
    let plain = place.run(&["dump", "absent"]).error("absent");
    assert!(!plain.err.contains('\x1b'), "{:?}", plain.err);
    let coloured = place.run(&["--color", "always", "dump", "absent"]);
    assert!(coloured.err.starts_with("\x1b[1;31mswissdb:\x1b[0m "), "{:?}", coloured.err);
    let arguments = ["dump", "absent", "--color=auto"];
    let output = place.command(&arguments).env("NO_COLOR", "1").output().unwrap();
    assert!(!Run::new(&arguments, output).err.contains('\x1b'));
}

#[test]
fn salvage_rebuilds_a_damaged_store_and_says_whether_anything_was_lost() {
    let place = Place::with_sample();
    let table = place.path("db").join("default.swiss");
    let mut bytes = fs::read(&table).unwrap();
    bytes[..8192].fill(0x5A);
    fs::write(&table, &bytes).unwrap();
    place.run(&["get", "db", "bash"]).error("swissdb salvage");
    let run = place.run(&["salvage", "db", "saved"]).yes();
    assert!(run.text().contains("recovered 1991 entries in 1 table"), "{}", run.text());
    assert!(run.text().contains("2 header copies are damaged\nnothing was lost"), "{}", run.text());
    assert_eq!(place.run(&["dump", "saved"]).yes().text().lines().count(), 1991);
    assert_eq!(fs::read(&table).unwrap(), bytes);
    place.run(&["salvage", "db", "saved"]).error("exists");
    place.run(&["salvage", "db", "db/saved"]).error("is inside the store");
    place.run(&["salvage", "nowhere", "new"]).error("there is no store");
    for file in fs::read_dir(place.path("db").join("log")).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    let run = place.run(&["salvage", "--json", "db", "rest"]).no();
    assert!(run.text().contains("\"lost_anything\": true"), "{}", run.text());
}
