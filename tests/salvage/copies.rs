//! Salvage of a store in which copies of table files lie.
//!
//! Goal: who keeps a copy of a table file beside it, which opening refuses,
//! still gets every table in its last state; what became of the copy is told.
//! Method: a killed store, whose log has changes that no table has yet, with
//! copies under all kinds of names, with and without their headers.

use std::collections::BTreeMap;
use std::fs;

use swissdb::{Options, SalvageReport, salvage};

use super::{Story, TABLES, go_on};
use crate::support::{Model, assert_clean, assert_same, pairs};

/// Salvages a store; returns what was said and what is in the new one.
fn saved(story: &Story) -> (SalvageReport, BTreeMap<String, Model>) {
    let place = tempfile::tempdir().expect("a temporary directory");
    let path = place.path().join("saved");
    let report = salvage(story.path(), &path, &Options::new(), go_on).expect("salvage");
    let db = Options::new().read_only(true).open(&path).expect("open what was saved");
    assert_clean(&db);
    let mut found = BTreeMap::new();
    for name in db.tables().expect("tables") {
        let table = db.table(&name).expect("a table");
        found.insert(name, pairs(table.iter()).collect());
    }
    (report, found)
}

/// Fails unless both tables are in their last state.
fn assert_last(story: &Story, found: &BTreeMap<String, Model>) {
    for name in TABLES {
        assert_same(found[name].clone().into_iter(), &story.now[name]);
    }
}

#[test]
fn a_copy_of_a_table_file_becomes_a_table_and_takes_nothing_of_the_log() {
    for name in TABLES {
        for copy in ["a", "default-old", "users-old", "users_2"] {
            let story = Story::new(600, true);
            fs::copy(story.table(name), story.table(copy)).expect("copy");
            let (report, found) = saved(&story);
            assert_last(&story, &found);
            assert!(!report.lost_anything(), "{report}");
            let told = format!("{copy}.swiss is a copy of another table's file");
            assert!(report.to_string().contains(&told), "{report}");
            // The copy is what the table was at the last checkpoint.
            let untouched = |model: &Model| -> Model {
                let entries = model.iter();
                let kept = entries.filter(|(key, _)| !story.tail.contains(&(name, (*key).clone())));
                kept.map(|(key, value)| (key.clone(), value.clone())).collect()
            };
            assert_eq!(found.len(), 3);
            assert_same(untouched(&found[copy]).into_iter(), &untouched(&story.now[name]));
        }
    }
}

#[test]
fn a_table_file_with_a_name_that_no_table_has_is_passed_over_and_named() {
    for copy in ["default.bak", "default copy", "default.swiss", "", "\u{e4}"] {
        let story = Story::new(600, true);
        fs::copy(story.table("default"), story.table(copy)).expect("copy");
        fs::write(story.table("no.header"), vec![7; 40_000]).expect("write");
        let (report, found) = saved(&story);
        assert_last(&story, &found);
        assert_eq!(found.len(), 2);
        assert!(!report.lost_anything(), "{report}");
        for file in [copy, "no.header"] {
            let told = format!("{file}.swiss was passed over");
            assert!(report.to_string().contains(&told), "{report}");
        }
    }
}

#[test]
fn a_copy_without_its_headers_is_no_danger_to_the_table() {
    for damaged in [&["old"][..], &["old", "table"][..]] {
        for name in TABLES {
            let story = Story::new(600, true);
            let copy = format!("{name}-old");
            fs::copy(story.table(name), story.table(&copy)).expect("copy");
            for which in damaged {
                let file = if *which == "old" { &copy } else { name };
                (0..2).for_each(|block| story.destroy(&story.table(file), block));
            }
            let (report, found) = saved(&story);
            assert_last(&story, &found);
            assert!(!report.lost_anything(), "{report}");
        }
    }
}

#[test]
fn a_table_whose_file_was_replaced_by_that_of_another_is_not_said_to_be_whole() {
    for (from, to) in [("default", "users"), ("users", "default")] {
        let story = Story::new(600, true);
        fs::copy(story.table(from), story.table(to)).expect("copy");
        let (report, found) = saved(&story);
        assert_same(found[from].clone().into_iter(), &story.now[from]);
        assert!(report.lost_anything(), "{report}");
        let told = format!("{to}.swiss");
        assert!(report.to_string().contains(&told), "{report}");
    }
}
