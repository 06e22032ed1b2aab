//! Makes the sources of the library ready for the models.
//!
//! Each source that a model runs is copied, whole or some of its functions,
//! with the atomics and locks of the checker in place of the standard ones.
//! Where the table of mutations names a piece of it, that piece becomes a
//! choice: as it is, or mutated. A piece that is no longer there, or there
//! twice, ends the build: whoever changes a protocol has to look at its model.

#[expect(dead_code, reason = "which model it is, the tests ask")]
#[path = "src/mutations.rs"]
mod mutations;
#[path = "src/sources.rs"]
mod sources;

use std::fs;
use std::path::{Path, PathBuf};

use mutations::{MUTATIONS, Mutation, Place};
use sources::{SOURCES, Source};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo names a directory"));
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src");
    for source in SOURCES {
        let path = root.join(source.file);
        println!("cargo::rerun-if-changed={}", path.display());
        let text = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()));
        let made = instrument(source, &text);
        let name = source.name.replace("::", "_");
        fs::write(out.join(format!("{name}.rs")), made).expect("the copy can be written");
    }
    for mutation in MUTATIONS {
        if let Place::Source { file, .. } = mutation.place {
            let used = SOURCES.iter().any(|source| source.file == file);
            assert!(used, "no model runs {file}, which {:?} mutates", mutation.name);
        }
    }
}

/// The source as the models run it.
fn instrument(source: &Source, text: &str) -> String {
    let mut text = match source.functions {
        [] => without_tests_and_essay(text),
        _ => text.to_owned(),
    };
    let as_it_is = text.clone();
    // Long pieces first: a shorter one may be part of one.
    let mut mutations: Vec<&Mutation> = MUTATIONS.iter().collect();
    mutations.sort_by_key(|mutation| match mutation.place {
        Place::Source { original, .. } => std::cmp::Reverse(original.len()),
        Place::Model => std::cmp::Reverse(0),
    });
    for mutation in mutations {
        if let Place::Source { file, function, .. } = mutation.place
            && file == source.file
            && (source.functions.is_empty() || source.functions.contains(&function))
        {
            mutate(&mut text, &as_it_is, mutation);
        }
    }
    for (from, to) in source.replace {
        let found = text.matches(from).count();
        assert!(found > 0, "{}: {from:?} is not there any more", source.file);
        text = text.replace(from, to);
    }
    if !source.functions.is_empty() {
        let picked: Vec<String> = source
            .functions
            .iter()
            .map(|name| {
                let (start, end) = function_of(&text, name)
                    .unwrap_or_else(|| panic!("{}: there is no function {name}", source.file));
                let from = start + text[start..].find("fn ").unwrap_or(0);
                format!("pub(crate) {}", &text[from..end])
            })
            .collect();
        text = format!("{}{}{}", source.before, picked.join("\n"), source.after);
    }
    text.replace("std::sync::", "crate::sync::")
}

/// Makes a piece of a function a choice.
fn mutate(text: &mut String, as_it_is: &str, mutation: &Mutation) {
    let Place::Source { function, original, mutant, .. } = mutation.place else {
        return;
    };
    let place = format!("{:?}, in {function}", mutation.name);
    let find = |text: &str| {
        function_of(text, function).unwrap_or_else(|| panic!("{place}: there is no such function"))
    };
    // "the piece<< and what follows it", where the piece stands there twice.
    let (piece, follows) = original.split_once("<<").unwrap_or((original, ""));
    let whole = format!("{piece}{follows}");
    let (start, end) = find(as_it_is);
    let times = as_it_is[start..end].matches(&whole).count();
    assert!(times == 1, "{place}: {whole:?} is there {times} times, not once");
    // Mutants stand before what they mutate, so it is the last one.
    let (start, end) = find(text);
    let at = start + text[start..end].rfind(&whole).expect("it is still there");
    let choice = format!("crate::mutant::is({:?})", mutation.name);
    let choice = if piece.ends_with(';') {
        format!("if {choice} {{ {mutant} }} else {{ {piece} }}")
    } else {
        format!("(if {choice} {{ {mutant} }} else {{ {piece} }})")
    };
    text.replace_range(at..at + piece.len(), &choice);
}

/// Where a function begins and ends, without its documentation. The name may
/// say behind what it stands: "behind this: name".
fn function_of(text: &str, name: &str) -> Option<(usize, usize)> {
    if let Some((behind, name)) = name.split_once(": ") {
        let from = text.find(behind)?;
        return function_of(&text[from..], name).map(|(start, end)| (start + from, end + from));
    }
    let fits = |at: usize| {
        let next = text[at..].chars().next();
        next.is_some_and(|c| c == '(' || c == '<')
    };
    let word = format!("fn {name}");
    let at = text.match_indices(&word).map(|(at, _)| at).find(|at| fits(at + word.len()))?;
    let start = text[..at].rfind('\n').map_or(0, |line| line + 1);
    let open = at + text[at..].find('{')?;
    let mut depth = 0;
    for (i, byte) in text.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return Some((start, i + 1));
        }
    }
    None
}

/// The code of a source: an essay cannot be included, tests are run elsewhere,
/// and modules below it are sources of their own.
fn without_tests_and_essay(text: &str) -> String {
    let end = text.find("\n#[cfg(test)]\nmod tests").unwrap_or(text.len());
    let end = end.min(text.find("\n#[cfg(test)]\n#[path").unwrap_or(text.len()));
    let declares = |line: &str| {
        let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
        line.starts_with("mod ") && line.ends_with(';')
    };
    let lines = text[..end].lines().filter(|line| !line.starts_with("//!") && !declares(line));
    lines.flat_map(|line| [line, "\n"]).collect()
}
