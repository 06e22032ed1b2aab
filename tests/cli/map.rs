//! `swissdb map`, run as people run it.
//!
//! Goal: the picture shows what the store holds, stands alone, and never grows
//! beyond what people can look at; wrong places for it are refused. Method:
//! stores of known content, whose cells are counted in what is drawn, and one
//! with a flipped byte.

use std::fs;

use swissdb::inspect;

use super::tool::{Place, Run};

/// Expects that all of these stand in the output.
#[track_caller]
fn shows(run: &Run, texts: &[&str]) {
    for text in texts {
        assert!(run.text().contains(text), "{text:?} not in {}", run.text());
    }
}

/// How often a character stands in the rows of a part of the text. Rows have a
/// label, a hash or an offset; lines of the legend have none.
fn occurrences(text: &str, part: &str, character: char) -> usize {
    let part = text.split("\n\n").find(|found| found.starts_with(part)).expect("the part");
    let is_label = |label: &str| {
        let label = label.trim();
        label.ends_with(" B") || label.ends_with("iB") || u32::from_str_radix(label, 16).is_ok()
    };
    let rows = part.lines().filter(|line| is_label(&line.chars().take(10).collect::<String>()));
    rows.flat_map(|row| row.chars().skip(10)).filter(|found| *found == character).count()
}

#[test]
fn the_text_shows_title_segments_blocks_and_log() {
    let place = Place::with_sample();
    let run = place.run(&["map", "db"]).yes();
    assert_eq!(run.err, "");
    shows(
        &run,
        &[
            "db, table default\nThe store was closed; nothing has to be replayed.\n1,991 entries",
            "Segments, in hash order: each character is a segment",
            "00000000",
            "Blocks of the table file: each character is ",
            "0 B  H",
            "Log files, by number",
            "active",
        ],
    );
    assert!((1..=2).contains(&occurrences(run.text(), "Blocks", 'H')));
    assert_eq!(occurrences(run.text(), "Blocks", 'R'), 1);
    assert_eq!(occurrences(run.text(), "Blocks", '!'), 0);
    assert!(run.text().lines().all(|line| line.chars().count() <= 80), "{}", run.text());
    assert!(!run.text().contains('\x1b'));
    assert_eq!(run.text(), place.run(&["map", "--text", "db"]).yes().text());
    let coloured = place.run(&["map", "--color", "always", "db"]).yes();
    assert!(coloured.text().contains("\x1b["));
}

#[test]
fn the_picture_stands_alone_and_has_a_cell_for_every_block() {
    let place = Place::with_sample();
    let run = place.run(&["map", "db", "--svg", "map.svg"]).yes();
    assert_eq!((run.text(), run.err.as_str()), ("", ""));
    let picture = fs::read_to_string(place.path("map.svg")).expect("a picture");
    assert!(picture.starts_with("<?xml") && picture.ends_with("</svg>\n"));
    for foreign in ["<script", "href", "url(http", "<image", "@import"] {
        assert!(!picture.contains(foreign), "{foreign}");
    }
    let length = fs::metadata(place.path("db/default.swiss")).expect("a table").len();
    let cells = picture.matches("<title>block ").count() as u64;
    assert!(cells >= length / 4096, "{cells}");
    for part in [">1,991<", "<title>block 0: header</title>", "of segment 0, ", "table default"] {
        assert!(picture.contains(part), "{part:?}");
    }
    let piped = place.run(&["map", "db", "--svg", "-"]).yes();
    assert_eq!(piped.text(), picture);
}

#[test]
fn what_a_picture_is_made_of_is_closed_again() {
    let place = Place::new();
    place.run_with(&["load", "a<b>&\"c"], b"{\"key\": \"a\", \"value\": \"1\"}\n").yes();
    let run = place.run(&["map", "a<b>&\"c", "--svg=-"]).yes();
    shows(&run, &["a&lt;b&gt;&amp;&quot;c"]);
    let mut open = Vec::new();
    for tag in run.text().split('<').skip(2) {
        let name = tag.split([' ', '>', '/']).next().unwrap_or_default();
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), closed.split('>').next());
        } else if !tag.split('>').next().unwrap_or_default().ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_large_store_is_put_together_into_cells() {
    let place = Place::new();
    let lines: String =
        (0..30_000).map(|i| format!("{{\"key\": \"key {i}\", \"value\": \"\"}}\n")).collect();
    place.run_with(&["load", "--slot-payload=504", "db"], lines.as_bytes()).yes();
    let run = place.run(&["map", "db"]).yes();
    shows(&run, &["30,000 entries", "what most of 8 are"]);
    // How many segments share a character is a matter of chance: of the hash key.
    let (_, most) = run.text().split_once("each character is up to ").expect("several segments");
    let (most, _) = most.split_once(" segments").expect("a number of segments");
    assert!((2..=8).contains(&most.parse().unwrap_or(0)), "{most}");
    assert!(run.text().lines().count() < 60, "{}", run.text());
    let run = place.run(&["map", "db", "--svg", "-"]).yes();
    shows(&run, &["Each cell stands for 2 blocks, 8.0 KiB", "<title>blocks 0 to 1: 2 header"]);
    assert!(run.text().matches("<title>blocks ").count() < 3 * 4096);
}

#[test]
fn damage_is_drawn_in_its_place_and_makes_the_exit_status_1() {
    let place = Place::with_sample();
    let path = place.path("db/default.swiss");
    let mut bytes = fs::read(&path).expect("read");
    let map = inspect::map(place.path("db"), "default").expect("a map");
    let block = map.segments[0].pages[0].block;
    let page = block as usize * 4096;
    bytes[page + 200] ^= 1;
    fs::write(&path, bytes).expect("write");
    let run = place.run(&["map", "db"]).no();
    shows(&run, &[&format!("damage default.swiss at offset {page}"), "! damaged 1"]);
    assert_eq!(occurrences(run.text(), "Blocks", '!'), 1);
    assert_eq!(occurrences(run.text(), "Segments", '!'), 1);
    let run = place.run(&["map", "db", "--svg", "map.svg"]).no();
    assert!(run.err.contains("1 piece of damage, the first in default.swiss"), "{}", run.err);
    let picture = fs::read_to_string(place.path("map.svg")).expect("a picture");
    assert!(picture.contains(&format!("<title>block {block}: damaged, page 0 of segment 0<")));
}

#[test]
fn other_tables_have_maps_of_their_own() {
    let place = Place::with_sample();
    place.run(&["put", "--table", "side", "db", "key", "value"]).yes();
    shows(
        &place.run(&["map", "--table", "side", "db"]).yes(),
        &["db, table side", "1 entry · 1 segment"],
    );
    place.run(&["map", "--table", "absent", "db"]).error("there is no table absent");
}

#[test]
fn pictures_that_cannot_be_written_are_refused() {
    let place = Place::with_sample();
    let before = place.files();
    place.run(&["map", "db", "--svg", "absent/map.svg"]).error("its directory has to be there");
    place.run(&["map", "db", "--svg", "db/default.swiss"]).error("give it another place");
    place.run(&["map", "db", "--svg", "db/log/map.svg"]).error("give it another place");
    place.run(&["map", "db", "--svg", "map.svg", "--text"]).error("cannot be used with");
    place.run(&["map", "absent"]).error("there is no store at absent");
    assert_eq!(place.files(), before);
}
