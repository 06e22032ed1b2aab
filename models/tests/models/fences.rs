//! Every fence of the library is in the table of mutations.
//!
//! Goal: nobody adds a fence without a model that fails without it. Method: the
//! fences are looked up in the sources, by file and function.

use std::fs;
use std::path::Path;

use swissdb_models::mutations::{MUTATIONS, Place};

/// Fences that no model needs, and why.
const OTHERS: &[(&str, &str, &str)] = &[
    ("storage/epoch.rs", "end", "ends all reading; nothing is used again after it"),
    ("table/read/glance.rs", "is_absent", "the loads of read::search_group, which has a model"),
    ("table/read/many.rs", "match_group", "the loads of read::search_group, which has a model"),
    ("table/read/many.rs", "match_groups", "the loads of read::search_group, which has a model"),
];

#[test]
fn every_fence_of_the_library_has_a_model() {
    let mut found = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../src"), "", &mut found);
    assert!(found.len() > 10, "the sources were not found");
    for (file, function, times) in &found {
        let listed = MUTATIONS.iter().filter(|mutation| match mutation.place {
            Place::Source { file: f, function: name, original, .. } => {
                f == file && name == function && original.contains("fence(")
            }
            Place::Model => false,
        });
        let other = OTHERS.iter().any(|(f, name, _)| f == file && name == function);
        let listed = listed.count();
        assert!(other || listed == *times, "{file}: {times} fences in {function}, {listed} listed");
    }
}

/// The functions of the sources that have fences, and how many.
fn collect(directory: &Path, prefix: &str, found: &mut Vec<(String, String, usize)>) {
    for entry in fs::read_dir(directory).expect("the sources are there") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            collect(&path, &format!("{prefix}{name}/"), found);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            let text = fs::read_to_string(&path).expect("a source is text");
            fences(&format!("{prefix}{name}"), &text, found);
        }
    }
}

fn fences(file: &str, text: &str, found: &mut Vec<(String, String, usize)>) {
    let mut function = String::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        if let Some((_, rest)) = line.split_once("fn ") {
            let name: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            function = if name.is_empty() { function } else { name };
        }
        if line.contains("fence(") {
            match found.iter_mut().find(|(f, name, _)| f == file && *name == function) {
                Some((.., times)) => *times += 1,
                None => found.push((file.to_owned(), function.clone(), 1)),
            }
        }
    }
}
