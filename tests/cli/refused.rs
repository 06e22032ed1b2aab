//! What the command cannot read or write.
//!
//! Goal: input of another kind is told from what it is, with what to do; what
//! is refused leaves no empty store behind; a device or a stream that takes
//! nothing more gets a sentence and never a panic. Method: files as people
//! have them (packed, with a byte order mark, arrays, tables of commas), a
//! limit on the length of files, and `/dev/full` in the place of the streams.

use std::fs;

use super::tool::Place;

#[test]
fn what_is_refused_at_once_leaves_no_empty_store_behind() {
    let place = Place::new();
    fs::write(place.path("good"), "{\"key\": \"a\", \"value\": \"b\"}\n").unwrap();
    fs::write(place.path("bad"), "a,b\n").unwrap();
    for arguments in [
        &["load", "db", "bad"][..],
        &["load", "--table", "a b", "db", "good"],
        &["load", "--table", "t", "--slot-payload", "25", "db", "good"],
        &["load", "--slot-payload", "25", "db", "good"],
        &["put", "--table", "a b", "db", "key", "value"],
    ] {
        let run = place.run(arguments).error("");
        assert!(!place.path("db").exists(), "{arguments:?}: {}", run.err);
    }
    // Nothing at all is no mistake: the store was asked for.
    place.run(&["load", "db"]).yes();
    assert!(place.path("db").exists());
}

#[test]
fn packed_files_are_told_with_what_unpacks_them() {
    let place = Place::new();
    for (bytes, kind, unpack) in [
        (&b"\x1f\x8b\x08\x00\x00\x00\x00\x00"[..], "gzip", "`zcat FILE | swissdb load DB`"),
        (b"\x28\xb5\x2f\xfd\x04\x00", "zstd", "`zstdcat FILE |"),
        (b"\xfd7zXZ\0\0", "xz", "`xzcat FILE |"),
        (b"BZh91AY&SY", "bzip2", "`bzcat FILE |"),
    ] {
        // Longer than what is read before a look at its beginning, and shorter.
        for length in [0, 1 << 20] {
            fs::write(place.path("in"), [bytes, &vec![b'x'; length]].concat()).unwrap();
            let run = place.run(&["load", "db", "in"]).error(&format!("in is packed with {kind}"));
            assert!(run.err.contains(unpack), "{}", run.err);
        }
    }
}

#[test]
fn lines_that_are_no_objects_are_refused_with_an_example_of_one() {
    let place = Place::new();
    for text in ["key,value\n", "[\"a\", null, \"b\", null]\n", "[\n{\"key\": \"a\"}]\n", "a\tb\n"]
    {
        let run = place.run_with(&["load", "db"], text.as_bytes());
        run.error("line 1 of standard input is no entry: it does not begin with {; a line is an");
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_line() {
    let place = Place::new();
    let long = "v".repeat(1 << 17);
    for (key, value) in [("short", "1"), ("long", &long)] {
        let text = format!("\u{feff}{{\"key\": \"{key}\", \"value\": \"{value}\"}}\n");
        place.run_with(&["load", "db"], text.as_bytes()).yes();
        assert_eq!(place.run(&["get", "db", key]).yes().text(), value);
    }
    let inner = "{\"key\": \"a\", \"value\": \"\"}\n\u{feff}{\"key\": \"b\", \"value\": \"\"}\n";
    place.run_with(&["load", "db"], inner.as_bytes()).error("line 2 of standard input");
}

#[test]
fn slots_of_another_size_are_refused_with_the_command_that_makes_them() {
    let place = Place::new();
    place.run(&["put", "--slot-payload", "64", "db", "key", "value"]).yes();
    let run = place.run(&["put", "--slot-payload", "72", "db", "key", "value"]);
    run.error(
        "has slots of 64 bytes; leave --slot-payload out, or change them first with `swissdb",
    );
    place.run(&["put", "--hash", "fast", "db", "key", "value"]).error("leave --hash out");
}

#[test]
fn what_is_almost_an_entry_is_refused_with_what_to_do() {
    let place = Place::new();
    for (line, advice) in [
        ("{\n  \"key\": \"a\",\n", "it ends too early (column 1); write the whole object in one"),
        ("{\"key\": \"a\", \"value\": 3}\n", "keys and values are texts in quotes"),
        ("{\"key\": \"a\", \"value\": {}}\n", "keys and values are texts in quotes"),
        ("{\"key\":\"a\",\"value\":\"\"} {\"key\":\"b\"}\n", "give each entry a line of its own"),
        ("{\"Key\": \"a\"}\n", "unknown field `Key`, expected one of `key`, `key_b64`, `value`"),
    ] {
        let run = place.run_with(&["load", "db"], line.as_bytes());
        let run = run.error("line 1 of standard input is no entry: ");
        assert!(run.err.contains(advice), "{}", run.err);
        assert!(run.err.ends_with("; nothing was loaded\n"), "{}", run.err);
    }
}

#[test]
fn a_new_store_in_a_directory_that_is_not_there_is_refused_with_what_to_do() {
    let place = Place::new();
    place.run(&["put", "db", "key", "value"]).yes();
    for command in ["backup", "salvage"] {
        place.run(&[command, "db", "absent/new"]).error("its directory has to be there first");
    }
    assert!(!place.path("absent").exists());
}

#[test]
fn text_that_is_not_base64_is_told_in_one_sentence() {
    let place = Place::new();
    let run = place.run(&["put", "--key-b64", "db", "AAH!", "v"]).error("is not base64: Invalid");
    assert!(!run.err.trim_end().ends_with('.'), "{}", run.err);
}

/// What a Unix system can refuse.
#[cfg(unix)]
mod unix {
    use std::ffi::OsStr;
    use std::fs::OpenOptions;
    use std::os::unix::ffi::OsStrExt;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::cli::tool::{Run, binary};

    #[test]
    fn a_key_that_is_not_text_is_refused_with_the_way_to_give_it() {
        let place = Place::new();
        let mut command = place.command(&["put", "db"]);
        let output = command.arg(OsStr::from_bytes(b"\xff")).arg("value").output().unwrap();
        Run::new(&["put"], output)
            .error("that is no text in base64, with --key-b64 or --value-b64");
    }

    #[test]
    fn salvage_of_what_cannot_be_listed_says_so() {
        let place = Place::new();
        std::os::unix::fs::symlink("loop", place.path("loop")).unwrap();
        let run = place.run(&["salvage", "loop", "new"]).error("could not list loop");
        assert!(!run.err.contains("there is no store"), "{}", run.err);
    }

    /// Files that grow over the limit are refused as on a full device, where
    /// the signal for it is ignored.
    #[test]
    fn a_load_that_meets_a_full_device_tells_which_lines_are_in_the_store() {
        let place = Place::new();
        let value = "v".repeat(1000);
        let lines: String = (0..20_000)
            .map(|i| format!("{{\"key\": \"{i}\", \"value\": \"{value}\"}}\n"))
            .collect();
        fs::write(place.path("in"), lines).unwrap();
        let script = "trap '' XFSZ; ulimit -f 6144; exec \"$0\" load db in";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(binary()).current_dir(place.path(""));
        let run = Run::new(&["load"], command.output().unwrap()).error("; the lines before line ");
        let told: String = run.err.chars().rev().skip_while(|c| !c.is_ascii_digit()).collect();
        let told: String = told.chars().take_while(char::is_ascii_digit).collect();
        let told: usize = told.chars().rev().collect::<String>().parse().unwrap();
        assert!(told > 1000 && told % 1000 == 1, "{}", run.err);
        let loaded = place.run(&["scan", "--keys-only", "db"]).yes().text().lines().count();
        assert_eq!(loaded, told - 1);
        place.run(&["verify", "db"]).yes();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn help_that_cannot_be_written_is_an_error_like_all_output() {
        let place = Place::with_sample();
        for arguments in
            [&["--help"][..], &["-h"], &["help", "load"], &["--version"], &["dump", "db"]]
        {
            let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
            let output = place.command(arguments).stdout(full).output().unwrap();
            Run::new(arguments, output).error("could not write to standard output: No space left");
        }
    }

    #[test]
    fn help_that_nobody_reads_to_its_end_is_no_error() {
        let place = Place::new();
        let mut child = place.command(&["--help"]).spawn().unwrap();
        drop(child.stdout.take());
        let run = Run::new(&["--help"], child.wait_with_output().unwrap()).yes();
        assert_eq!(run.err, "");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn messages_that_nobody_takes_are_no_failure() {
        let place = Place::with_sample();
        for arguments in [
            &["load", "db"][..],
            &["compact", "db"],
            &["compact", "--slot-payload", "auto", "db"],
            &["backup", "db", "copy"],
        ] {
            let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
            let status = place
                .command(arguments)
                .stdin(Stdio::null())
                .stderr(full)
                .status()
                .expect("the command can be started");
            assert_eq!(status.code(), Some(0), "{arguments:?}");
        }
        place.run(&["verify", "copy"]).yes();
    }
}
