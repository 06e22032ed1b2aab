//! The report, held against small inputs.
//!
//! Goal: what is printed follows from the lines that were read, and from nothing
//! else. Method: inputs of a few lines, invented and marked as such, whose
//! medians and ratios can be worked out by hand; one whole report that lies
//! beside this file (`golden/`) and is compared letter by letter; and pictures
//! whose texts are looked for and measured, so that no two of them overlap.
//! `SWISSDB_GOLDEN=1` writes the golden report anew; look at what changed.

use std::fs;
use std::path::{Path, PathBuf};

use super::aims::Came;
use super::input::Input;
use super::tables::tables;
use super::{aims, markdown, plots, space};

const RESULTS: &str = include_str!("golden/results.jsonl");
const REPORT: &str = include_str!("golden/report.md");

fn read(text: &str) -> Input {
    let mut input = Input::default();
    input.add(Path::new("test.jsonl"), text).expect("the input is sound");
    input
}

/// A line about time of an invented measurement.
fn time(workload: &str, store: &str, round: u64, nanos: f64) -> String {
    format!(
        "{{\"bench\":\"compare\",\"kind\":\"time\",\"workload\":\"{workload}\",\"store\":\"{store}\",\
         \"entries\":10,\"key_bytes\":16,\"value_bytes\":32,\"round\":{round},\"ns_per_op\":{nanos}}}\n"
    )
}

/// A directory of its own for a test, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let name = format!("swissdb-report-{}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).expect("a directory for the test can be made");
        Directory(directory)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_whole_report_is_as_it_was_looked_at() {
    let directory = Directory::new("golden");
    let input = read(RESULTS);
    let tables = tables(&input);
    let pictures = plots::draw(&input, &tables, &directory.0).expect("pictures can be drawn");
    let report = markdown::report(&input, &tables, &pictures);
    if std::env::var_os("SWISSDB_GOLDEN").is_some() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/golden/report.md");
        fs::write(golden, &report).expect("the golden report can be written");
    } else {
        assert_eq!(report, REPORT);
    }
    assert_eq!(input.text, RESULTS, "the lines are kept as they were");
}

#[test]
fn the_ratio_is_the_median_of_the_ratios_of_each_round() {
    let mut text = String::new();
    for (round, ours, redb, lmdb) in
        [(0, 10.0, 50.0, 80.0), (1, 20.0, 60.0, 40.0), (2, 10.0, 90.0, 95.0)]
    {
        text += &time("get", "swissdb", round, ours);
        text += &time("get", "redb", round, redb);
        text += &time("get", "lmdb", round, lmdb);
        // Faster than all, but a floor.
        text += &time("get", "HashMap", round, 1.0);
    }
    let tables = tables(&read(&text));
    let row = &tables[0].rows[0];
    let ratio = row.against_peers("swissdb").expect("there are peers");
    // Fastest of each round: 50 / 10, 40 / 20, 90 / 10. Of medians: 60 / 10.
    let spread = ratio.spread;
    assert_eq!((spread.median, spread.min, spread.max), (5.0, 2.0, 9.0));
    assert_eq!((&*ratio.peer, ratio.rounds), ("redb", 3));
    assert_eq!(row.against("HashMap").expect("it was measured").spread.median, 0.1);
}

#[test]
fn a_round_without_the_fastest_peer_does_not_count() {
    let text = [
        time("get", "swissdb", 0, 10.0),
        time("get", "redb", 0, 20.0),
        time("get", "lmdb", 0, 500.0),
        time("get", "swissdb", 1, 10.0),
        time("get", "lmdb", 1, 500.0),
    ];
    let tables = tables(&read(&text.concat()));
    let ratio = tables[0].rows[0].against_peers("swissdb").expect("there are peers");
    assert_eq!((ratio.spread.max, ratio.rounds), (2.0, 1));
    let readme = markdown::readme(&tables).expect("there is a table");
    assert!(readme.contains("2.00× redb, 1 round |"), "{readme}");
}

#[test]
fn rounds_of_different_runs_are_not_compared() {
    let mut input = read(&time("get", "swissdb", 0, 10.0));
    input.add(Path::new("other"), &time("get", "redb", 0, 20.0)).expect("the input is sound");
    assert!(tables(&input)[0].rows[0].against_peers("swissdb").is_none());

    let machine = "{\"bench\":\"compare\",\"kind\":\"machine\"}\n";
    let text = [&time("get", "swissdb", 0, 10.0), machine, &time("get", "redb", 0, 20.0)].concat();
    assert!(tables(&read(&text))[0].rows[0].against_peers("swissdb").is_none());
}

#[test]
fn a_store_whose_syncs_do_not_reach_the_kernel_is_no_peer() {
    let lax = time("commits", "sled", 0, 1.0).replace("}\n", ",\"syncs\":false}\n");
    let text = [time("commits", "swissdb", 0, 10.0), time("commits", "redb", 0, 20.0), lax];
    let tables = tables(&read(&text.concat()));
    let ratio = tables[0].rows[0].against_peers("swissdb").expect("there is a peer");
    assert_eq!((&*ratio.peer, ratio.spread.median), ("redb", 2.0));
    let readme = markdown::readme(&tables).expect("there is a table");
    let end = "| commits | 10.0 | 20.0 | 1.00 ‡ | 2.00× redb |\n\n\
               ‡ Its syncs do not reach the kernel, so it is no peer.\n<!-- comparison: end -->\n";
    assert!(readme.ends_with(end), "{readme}");
}

#[test]
fn ours_with_other_settings_has_a_column_and_is_no_peer() {
    let text = [
        time("get", "swissdb", 0, 10.0),
        time("get", "redb", 0, 20.0),
        time("get", "swissdb-default", 0, 5.0),
    ];
    let tables = tables(&read(&text.concat()));
    let readme = markdown::readme(&tables).expect("there is a table");
    assert!(readme.contains("| swissdb | swissdb-default | redb | of the "), "{readme}");
    assert!(readme.contains("| get | 10.0 | 5.00 | 20.0 | 2.00× redb |"), "{readme}");
}

#[test]
fn broken_lines_are_told_with_file_and_number() {
    let refused = |line: &str| {
        let text = format!("{}\n{line}\n", time("get", "swissdb", 0, 1.0));
        let error = Input::default().add(Path::new("r.jsonl"), &text).expect_err("a broken line");
        error.to_string()
    };
    for (line, expected) in [
        ("{\"bench\":\"comp", "r.jsonl, line 3: not JSON: "),
        ("[]", "r.jsonl, line 3: not an object of JSON"),
        (
            "{\"bench\":\"compare\",\"kind\":\"size\",\"workload\":\"space\"}",
            "r.jsonl, line 3: a line of kind size: missing field `phase`",
        ),
        (
            &time("get", "redb", 0, 0.0),
            "r.jsonl, line 3: a time needs ns_per_op, or ops and seconds",
        ),
        (&time("get", "redb", 0, 1.0).replace("\"ns_", "\"no_"), "r.jsonl, line 3: a time needs "),
    ] {
        let error = refused(line);
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn what_is_not_known_is_passed_over_and_counted() {
    let text = [
        "{\"bench\":\"compare\",\"kind\":\"weather\"}\n",
        "{\"bench\":\"map\",\"kind\":\"time\"}\n",
        "\n",
        &time("a new workload / of somebody", "a new store", 0, 5.0)
            .replace("}\n", ",\"new\":[]}\n"),
    ];
    let input = read(&text.concat());
    let left_out: Vec<_> = input.left_out.iter().map(|(kind, lines)| (&**kind, *lines)).collect();
    assert_eq!(left_out, [("compare/weather", 1), ("map/time", 1)]);
    let report = markdown::report(&input, &tables(&input), &[]);
    assert!(report.contains("| a new workload / of somebody | 5.00 | - |"), "{report}");
}

#[test]
fn a_life_keeps_its_shape_while_entries_are_removed() {
    let size = |phase: &str, entries: u64, disk: u64| {
        format!(
            "{{\"bench\":\"compare\",\"kind\":\"size\",\"workload\":\"space\",\"phase\":\"{phase}\",\
             \"store\":\"redb\",\"entries\":{entries},\"user_bytes\":{},\"disk_bytes\":{disk}}}\n",
            entries * 48
        )
    };
    let text = [size("filled", 100, 9_600), size("thinned", 25, 6_000), size("filled", 200, 9_600)];
    let input = read(&text.concat());
    let lives = space::lives(&input);
    let [few, many] = &lives[..] else { panic!("two lives, not {}", lives.len()) };
    assert_eq!((few.entries, few.entry_bytes, few.phases.len()), (100, 48, 2));
    assert_eq!(few.per_byte("thinned", "redb").expect("it was measured").0.median, 5.0);
    assert_eq!((many.entries, many.phases.len()), (200, 1));
    assert_eq!(many.per_byte("filled", "redb").expect("it was measured").0.median, 1.0);
}

#[test]
fn lives_that_began_nearly_alike_stand_together() {
    let size = |store: &str, entries: u64, disk: u64| {
        format!(
            "{{\"bench\":\"compare\",\"kind\":\"size\",\"workload\":\"redb-bench\",\"phase\":\"filled\",\
             \"store\":\"{store}\",\"entries\":{entries},\"user_bytes\":{},\"disk_bytes\":{disk}}}\n",
            entries * 10
        )
    };
    // The time of one was up earlier; that of the last far earlier.
    let text = [size("redb", 1000, 20_000), size("lmdb", 990, 9_900), size("fjall", 500, 5_000)];
    let lives = space::lives(&read(&text.concat()));
    let [few, many] = &lives[..] else { panic!("two of them, not {}", lives.len()) };
    assert_eq!((few.entries, few.stores()), (500, vec!["fjall".to_owned()]));
    assert_eq!((many.entries, many.stores().len()), (1000, 2));
    let of = |store| many.per_byte("filled", store).expect("it was measured").0.median;
    assert_eq!((of("redb"), of("lmdb")), (2.0, 1.0));
}

#[test]
fn what_began_with_an_empty_store_says_so() {
    let with = |more: &str| time("durable-commit", "swissdb", 0, 10.0).replace("}\n", more);
    // Earlier lines do not tell.
    for line in [with("}\n"), with(",\"entries_before\":0}\n")] {
        let report = markdown::readme(&tables(&read(&line))).expect("there is a table");
        assert!(report.contains("| durable-commit from an empty store | 10.0 |"), "{report}");
    }
    let line = with(",\"entries_before\":10}\n");
    let report = markdown::readme(&tables(&read(&line))).expect("there is a table");
    assert!(report.contains("| durable-commit | 10.0 |"), "{report}");
    let slower = with("}\n") + &time("durable-commit", "redb", 0, 5.0);
    let input = read(&slower);
    let report = markdown::report(&input, &tables(&input), &[]);
    let lost = "- durable-commit from an empty store, entries of 16 + 32 bytes: 0.50× of redb\n";
    assert!(report.contains(lost), "{report}");
}

#[test]
fn what_is_written_while_the_user_writes_nothing_is_told_in_mib() {
    let line = |workload: &str, written: u64, user: u64| {
        format!(
            "{{\"bench\":\"compare\",\"kind\":\"resources\",\"workload\":\"{workload}\",\
             \"store\":\"swissdb\",\"entries\":10,\"ops\":10,\"written_bytes\":{written},\
             \"user_bytes\":{user}}}\n"
        )
    };
    let text = [
        line("fill", 300, 100),
        line("get", 0, 0),
        line("close", 489 << 20, 0),
        line("close", 491 << 20, 0),
    ];
    let input = read(&text.concat());
    let report = markdown::report(&input, &tables(&input), &[]);
    for row in ["fill, 10 entries | 3.00 |", "get, 10 entries | - |"] {
        assert!(report.contains(row), "{report}");
    }
    assert!(report.contains("close, 10 entries | 490 (489-491) MiB |"), "{report}");
}

#[test]
fn the_aims_find_the_workloads_of_compare() {
    let line = |workload: &str, entries: u64, value_bytes: u64, ours: f64, more: &str| {
        let of_round = |store, round, nanos| {
            time(workload, store, round, nanos)
                .replace("\"entries\":10,", &format!("\"entries\":{entries},"))
                .replace("\"value_bytes\":32", &format!("\"value_bytes\":{value_bytes}"))
                .replace("}\n", &format!("{more}}}\n"))
        };
        let of =
            |store, nanos| (0..5).map(|round| of_round(store, round, nanos)).collect::<String>();
        [of("swissdb", ours), of("lmdb", ours * 9.0), of("HashMap", ours * 2.0)].concat()
    };
    let mut text = String::new();
    for entries in [2_000_000, 10_000_000] {
        for workload in ["fill", "fill-batch", "get", "miss", "get-batch", "overwrite", "remove"] {
            text += &line(workload, entries, 32, 100.0, "");
        }
        text += &line("ycsb-a", entries, 32, 100.0, "");
    }
    for (workload, bytes) in [("fill", 100), ("get", 100), ("fill", 1_000), ("get", 1_000)] {
        text += &line(workload, 1_000, bytes, 100.0, "");
    }
    text += &line("durable-commit", 1_000, 32, 1e5, ",\"threads\":16");
    text += &line("larger-get", 5_000, 32, 1e5, ",\"ops\":100,\"device_reads\":120");
    text += &line("open-clean", 10_000_000, 32, 9e6, "");
    // A quarter of a gibibyte in two seconds is one too many.
    text += &line("open-killed", 10_000_000, 32, 2e9, ",\"log_bytes\":268435456");
    for phase in ["filled", "compacted"].repeat(5) {
        text += &format!(
            "{{\"bench\":\"compare\",\"kind\":\"size\",\"workload\":\"space\",\"phase\":\"{phase}\",\
             \"store\":\"swissdb\",\"entries\":10,\"user_bytes\":480,\"disk_bytes\":864}}\n"
        );
    }
    let input = read(&text);
    let verdicts = aims::verdicts(&input, &tables(&input));
    let with = |came| {
        let found = verdicts.iter().filter(move |verdict| verdict.came == came);
        found.map(|verdict| verdict.aim.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(with(Came::Unknown), [""; 0], "all were measured");
    // Nine times as fast as the peer: enough for the map, for removing, for large values.
    let expected = [
        "remove, 2,000,000 entries",
        "each of these, 2,000,000 entries",
        "remove, 10,000,000 entries",
        "each of these, 10,000,000 entries",
        "get, values of 100 bytes, 1,000 entries",
        "insert, values of 100 bytes, 1,000 entries",
        "get, values of 1,000 bytes, 1,000 entries",
        "insert, values of 1,000 bytes, 1,000 entries",
        "durable-commit from an empty store, 16 threads",
        "gets, larger than memory",
        "space after a random fill, 10 entries of 48 bytes",
        "open after a clean close, 10,000,000 entries",
    ];
    assert_eq!(with(Came::Met), expected);
    let missed = with(Came::Missed);
    let last = [
        "device reads per get, larger than memory",
        "space compacted, 10 entries of 48 bytes",
        "open after a kill, 10,000,000 entries",
    ];
    assert_eq!((missed.len(), &missed[14..]), (17, &last[..]));
}

/// The aim for durable commits, of so many rounds: how long ours and the others took.
fn aim_of_commits(rounds: &[(f64, f64, f64)], change: impl Fn(String) -> String) -> (String, Came) {
    let mut text = String::new();
    for (round, (ours, redb, lmdb)) in (0..).zip(rounds) {
        text += &change(time("commits", "swissdb", round, *ours));
        text += &change(time("commits", "redb", round, *redb));
        text += &change(time("commits", "lmdb", round, *lmdb));
    }
    let input = read(&text);
    let verdicts = aims::verdicts(&input, &tables(&input));
    let verdict = verdicts.into_iter().find(|verdict| verdict.aim.starts_with("commits"));
    let verdict = verdict.expect("there is such an aim");
    (verdict.measured, verdict.came)
}

#[test]
fn few_rounds_decide_nothing_and_crossing_ones_are_level() {
    let same = |line| line;
    let faster = [(10.0, 20.0, 30.0); 5];
    assert_eq!(aim_of_commits(&faster[..1], same).1, Came::Few(1));
    assert_eq!(aim_of_commits(&faster[..4], same).1, Came::Few(4));
    assert_eq!(aim_of_commits(&faster, same).1, Came::Met);
    assert_eq!(aim_of_commits(&[(20.0, 10.0, 30.0); 5], same).1, Came::Missed);
    let mut crossing = faster;
    crossing[4] = (10.0, 9.0, 30.0);
    let (measured, came) = aim_of_commits(&crossing, same);
    assert_eq!(came, Came::Level);
    assert_eq!(measured, "2.00× (0.90-2.00), peer redb (of redb, lmdb)");
}

#[test]
fn a_verdict_on_beginnings_is_marked() {
    let capped = |whose: &'static str| {
        move |line: String| match line.contains(&format!("\"store\":\"{whose}\",")) {
            true => line.replace("}\n", ",\"capped\":true}\n"),
            false => line,
        }
    };
    let rounds = [(10.0, 20.0, 30.0); 5];
    for (whose, is_marked) in [("swissdb", true), ("redb", true), ("lmdb", false)] {
        let (measured, came) = aim_of_commits(&rounds, capped(whose));
        assert_eq!((measured.contains("2.00× †, peer redb"), came), (is_marked, Came::Met));
    }
    let text = time("get", "swissdb", 0, 1.0) + &time("get", "redb", 0, 2.0);
    let input = read(&text.replace("\"entries\":10,", "\"entries\":2000000,\"capped\":true,"));
    let report = markdown::report(&input, &tables(&input), &[]);
    assert!(
        report.contains("\n† The time was up before all operations were done, for "),
        "{report}"
    );
}

/// A text of a picture: what it says, and its left, right, upper and lower end.
type Label = (String, [f64; 4]);

/// The texts of an SVG, as wide as they are estimated.
fn labels(svg: &str) -> Vec<Label> {
    let attribute = |tag: &str, name: &str| -> Option<String> {
        Some(tag.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?.to_owned())
    };
    let label = |element: &str| {
        let (tag, rest) = element.split_once('>')?;
        let tag = format!(" {tag}");
        let number = |name| attribute(&tag, name)?.parse::<f64>().ok();
        let (x, y, size) = (number("x")?, number("y")?, number("font-size")?);
        let text = rest.split("</text>").next()?.trim().to_owned();
        let wide = text.chars().count() as f64 * size * 0.56;
        let left = match attribute(&tag, "text-anchor").as_deref() {
            Some("end") => x - wide,
            Some("middle") => x - wide / 2.0,
            _ => x,
        };
        // The height of letters; the line is higher.
        Some((text, [left, left + wide, y - size * 0.4, y + size * 0.4]))
    };
    svg.split("<text").skip(1).map(|element| label(element).expect("a text with a place")).collect()
}

#[test]
fn texts_of_pictures_do_not_overlap() {
    let stores = [
        "swissdb",
        "swissdb-default",
        "redb",
        "lmdb",
        "lmdb-writemap",
        "sled",
        "fjall",
        "rocksdb",
        "HashMap",
        "hashbrown",
        "new",
    ];
    let mut text = String::new();
    for (i, store) in stores.iter().enumerate() {
        for round in 0..3 {
            let nanos = (100 * (i + 1) + 7 * round) as f64;
            text += &time("get", store, round as u64, nanos);
            for (bytes, factor) in [(8, 0.9), (100, 1.3), (100_000, 90.0)] {
                let line = time("get", store, round as u64, nanos * factor);
                text += &line.replace("\"value_bytes\":32", &format!("\"value_bytes\":{bytes}"));
            }
            for threads in [2, 3, 4, 64] {
                let line = time("readers beside a writer", store, round as u64, nanos);
                text += &line.replace("}\n", &format!(",\"threads\":{threads}}}\n"));
            }
        }
        text += &format!(
            "{{\"bench\":\"compare\",\"kind\":\"size\",\"workload\":\"space\",\"phase\":\"filled\",\
             \"store\":\"{store}\",\"entries\":10,\"user_bytes\":480,\"disk_bytes\":{}}}\n",
            300 * (i + 1)
        );
    }
    let directory = Directory::new("labels");
    let input = read(&text);
    let pictures = plots::draw(&input, &tables(&input), &directory.0).expect("they can be drawn");
    let files: Vec<&str> = pictures.iter().map(|picture| &*picture.file).collect();
    let expected = [
        "throughput-16-8-10.svg",
        "throughput-16-32-10.svg",
        "throughput-16-100-10.svg",
        "throughput-16-100000-10.svg",
        "overview.svg",
        "values-get-16.svg",
        "space-48-10.svg",
        "threads-readers-beside-a-writer-16-32-10.svg",
    ];
    assert_eq!(files, expected);
    for file in files {
        let svg = fs::read_to_string(directory.0.join(file)).expect("the picture is there");
        let labels = labels(&svg);
        for store in stores {
            let is_named = labels.iter().any(|(text, _)| text.starts_with(store));
            assert!(is_named, "{file} does not name {store}");
        }
        for (i, (text, [left, right, top, bottom])) in labels.iter().enumerate() {
            assert!(*left >= 0.0 && *right <= 1_000.0, "{file}: {text:?} leaves the picture");
            for (other, [l, r, t, b]) in &labels[..i] {
                let apart = right <= l || r <= left || bottom <= t || b <= top;
                assert!(apart, "{file}: {text:?} and {other:?} overlap");
            }
        }
    }
}
