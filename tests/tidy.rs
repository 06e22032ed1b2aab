//! The rules of style that a machine can check, checked.
//!
//! Goal: the sources stay as small, layered and explained as they were meant.
//! Method: all Rust sources of the repository are taken apart by a small
//! lexer (`tidy/source.rs`), and each rule is a function from a source to a
//! list of complaints. Every rule is itself tested on a source that breaks
//! it. The rules for arrows between modules are in `tidy/arrows.rs`.

#[path = "tidy/arrows.rs"]
mod arrows;
#[path = "tidy/source.rs"]
mod source;

use source::{Source, sources, words};

const EVERYTHING: &[&str] = &["src", "tools", "tests", "benches", "models", "examples", "fuzz"];
const MAX_FILE: usize = 500;
const MAX_FUNCTION: usize = 70;

/// The only modules with `unsafe` in them (as files, or directories of them).
/// The essays of the last three in `src` say why they need it.
const UNSAFE: &[&str] = &[
    "src/storage/map",
    "src/table/read",
    "src/storage/pins",
    "src/log/values",
    "src/hash/wide",
    // LMDB can only be opened by unsafe calls.
    "benches/src/compare/engines/lmdb",
    // The tests' allocator, which notes how much is asked for.
    "tests/rot/allocations",
];

#[test]
fn no_file_is_longer_than_500_lines() {
    check(long_file);
}

#[test]
fn no_function_is_longer_than_70_lines() {
    check(long_functions);
}

#[test]
fn every_module_opens_with_an_essay() {
    check(missing_essay);
}

#[test]
fn nothing_is_left_for_later() {
    check(left_for_later);
}

#[test]
fn unsafe_stands_only_where_it_may_and_has_its_reason() {
    check(unsafe_code);
}

#[test]
fn no_module_may_hold_unsafe_code_that_it_does_not_hold() {
    let sources = sources(EVERYTHING);
    let holds = |module: &&&str| {
        sources.iter().any(|source| {
            source.path == format!("{module}.rs") && source.words("unsafe").next().is_some()
        })
    };
    let idle: Vec<_> = UNSAFE.iter().filter(|module| !holds(module)).collect();
    assert!(idle.is_empty(), "without need on the list of modules with unsafe code: {idle:?}");
}

#[test]
fn arrows_between_modules_lead_downward_only() {
    let sources = sources(&["src"]);
    let sources: Vec<_> = sources.iter().collect();
    let mut complaints = arrows::unplaced(&sources, "src");
    complaints.extend(arrows::upward(&arrows::arrows(&sources, "src")));
    report(&complaints);
}

#[test]
fn no_modules_know_each_other_in_a_circle() {
    for root in ["src", "tools/src"] {
        let sources = sources(&[root]);
        let sources: Vec<_> = sources.iter().collect();
        report(&arrows::cycles(&arrows::arrows(&sources, root)));
    }
}

fn check(rule: fn(&Source) -> Vec<String>) {
    let sources = sources(EVERYTHING);
    assert!(sources.len() > 10, "the sources were not found");
    let complaints: Vec<_> = sources.iter().flat_map(rule).collect();
    report(&complaints);
}

fn report(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

fn long_file(source: &Source) -> Vec<String> {
    match source.text.lines().count() {
        lines if lines > MAX_FILE => vec![format!("{} has {lines} lines", source.path)],
        _ => Vec::new(),
    }
}

fn long_functions(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for at in source.words("fn") {
        let name: String = source.code[at + 2..]
            .trim_start()
            .chars()
            .take_while(|c| source::is_word(*c))
            .collect();
        let Some(open) = body(&source.code, at) else {
            continue;
        };
        let first = source.line(at);
        let lines = source.line(source.closing(open)) - first + 1;
        if !name.is_empty() && lines > MAX_FUNCTION {
            complaints.push(format!("{}:{first}: {name} has {lines} lines", source.path));
        }
    }
    complaints
}

/// Where the body of the function at `at` begins, if it has one.
fn body(code: &str, at: usize) -> Option<usize> {
    let mut depth = 0;
    for (i, byte) in code.bytes().enumerate().skip(at) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(i),
            b';' if depth == 0 => return None,
            _ => {}
        }
        if depth < 0 {
            return None;
        }
    }
    None
}

fn missing_essay(source: &Source) -> Vec<String> {
    match source.text.starts_with("//! ") {
        true => Vec::new(),
        false => vec![format!("{} does not open with //!", source.path)],
    }
}

fn left_for_later(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut complain = |word: &str, at: usize| {
        complaints.push(format!("{}:{}: {word}", source.path, source.line(at)));
    };
    for word in ["TODO", "FIXME"] {
        words(&source.comments, word).for_each(|at| complain(word, at));
        words(&source.code, word).for_each(|at| complain(word, at));
    }
    for word in ["unimplemented", "todo", "dbg"] {
        for at in source.words(word) {
            if source.code[at + word.len()..].starts_with('!') {
                complain(word, at);
            }
        }
    }
    for at in source.words("ignore") {
        if source.code[..at].trim_end().ends_with("#[") {
            complain("an ignored test", at);
        }
    }
    complaints
}

fn unsafe_code(source: &Source) -> Vec<String> {
    let may = UNSAFE.iter().any(|module| {
        source.path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    });
    let mut complaints = Vec::new();
    for at in source.words("unsafe") {
        let place = format!("{}:{}", source.path, source.line(at));
        let next = source.code[at + 6..].trim_start();
        let reason = if next.starts_with("fn") || next.starts_with("trait") {
            "# Safety"
        } else {
            "SAFETY:"
        };
        if !may {
            complaints.push(format!("{place}: no unsafe is allowed here"));
        } else if next.starts_with("fn(") {
            // A type, not code.
        } else if !has_comment_above(source, source.line(at), reason) {
            complaints.push(format!("{place}: no comment with {reason} above"));
        }
    }
    complaints
}

/// Whether the comment in or above a line says something. Attributes and the
/// beginning of the same statement may stand between.
fn has_comment_above(source: &Source, line: usize, what: &str) -> bool {
    let code: Vec<_> = source.code.lines().take(line).map(str::trim).collect();
    let comments: Vec<_> = source.comments.lines().take(line).map(str::trim).collect();
    let mut statement = 0;
    for i in (0..line).rev() {
        if comments[i].contains(what) {
            return true;
        }
        let is_this_line = i + 1 == line;
        let is_comment = code[i].is_empty() && !comments[i].is_empty();
        let goes_on = !code[i].is_empty() && !code[i].ends_with([';', '{', '}']);
        if is_this_line || is_comment || code[i].starts_with("#[") {
            continue;
        }
        statement += 1;
        if !goes_on || statement > 8 {
            return false;
        }
    }
    false
}

/// The rules, broken on purpose.
mod broken {
    use super::*;

    fn complaints(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> usize {
        rule(&Source::parse(path, text)).len()
    }

    #[test]
    fn long_files_and_functions_are_found() {
        let long = format!("fn long(f: fn(u8)) -> u8 {{{}}}", "\n".repeat(70));
        assert_eq!(complaints(long_functions, "src/db.rs", &long), 1);
        let fits = format!("fn fits() {{ let s = \"{{\"; {} }}\nfn next() {{}}", "\n".repeat(68));
        assert_eq!(complaints(long_functions, "src/db.rs", &fits), 0);
        assert_eq!(complaints(long_file, "src/db.rs", &"\n".repeat(500)), 0);
        assert_eq!(complaints(long_file, "src/db.rs", &"\n".repeat(501)), 1);
    }

    #[test]
    fn missing_essays_and_things_left_for_later_are_found() {
        assert_eq!(complaints(missing_essay, "src/db.rs", "use std::io;"), 1);
        assert_eq!(complaints(left_for_later, "src/db.rs", "// TODO: more\nfn f() { todo!() }"), 2);
        assert_eq!(complaints(left_for_later, "src/db.rs", "#[ignore]\nfn f() { dbg!(1); }"), 2);
        assert_eq!(complaints(left_for_later, "src/db.rs", "let s = \"TODO\"; let todo = 1;"), 0);
    }

    #[test]
    fn unsafe_code_without_permission_or_reason_is_found() {
        let bare = "//! x\nfn f() {\n    let a = 1;\n    unsafe { g() }\n}";
        let reasoned = "fn f() {\n    // SAFETY: g is\n    // harmless.\n    let a =\n        unsafe { g() };\n}";
        assert_eq!(complaints(unsafe_code, "src/db.rs", reasoned), 1);
        assert_eq!(complaints(unsafe_code, "src/storage/map.rs", bare), 1);
        assert_eq!(complaints(unsafe_code, "src/storage/map.rs", reasoned), 0);
        let function = "/// # Safety\n/// None.\n#[inline]\npub unsafe fn f() {}";
        assert_eq!(complaints(unsafe_code, "src/table/read/slow.rs", function), 0);
        assert_eq!(complaints(unsafe_code, "src/table/readers.rs", function), 1);
        assert_eq!(
            complaints(unsafe_code, "src/storage/map.rs", "// unsafe\nlet s = r#\"unsafe\"#;"),
            0
        );
    }

    #[test]
    fn arrows_are_read_from_paths_of_every_form() {
        let files = [
            ("src/lib.rs", "pub use error::Error;\npub const MAX: u8 = 1;"),
            ("src/error.rs", "const A: u8 = crate::MAX;"),
            ("src/format/mod.rs", "use crate::error::{Result, Error};"),
            (
                "src/format/header.rs",
                "use super::{Fault, directory::{self, Page as P}}; use crate::Error;",
            ),
            ("src/format/directory.rs", "fn f() -> crate::table::read::X { super::BLOCK }"),
            (
                "src/table/read.rs",
                "#[cfg(test)]\nmod tests { use crate::db::Db; }\nuse crate::log;",
            ),
            ("src/log.rs", ""),
            ("src/db.rs", ""),
        ];
        let sources: Vec<_> = files.iter().map(|(path, text)| Source::parse(path, text)).collect();
        let sources: Vec<_> = sources.iter().collect();
        let arrows = arrows::arrows(&sources, "src");
        let list: Vec<_> = arrows
            .iter()
            .flat_map(|(from, to)| to.keys().map(move |to| format!("{from} > {to}")))
            .collect();
        let expected = [
            "format > error",
            "format::directory > format",
            "format::directory > table::read",
            "format::header > error",
            "format::header > format",
            "format::header > format::directory",
            "table::read > log",
        ];
        assert_eq!(list, expected);
        assert_eq!(arrows::upward(&arrows).len(), 2);
        assert!(arrows::cycles(&arrows).is_empty());
    }

    #[test]
    fn circles_are_found_once() {
        let a = Source::parse("src/db.rs", "use crate::iter::Iter;");
        let b = Source::parse("src/iter.rs", "use crate::batch::Batch;");
        let c = Source::parse("src/batch.rs", "use crate::db::Db;");
        let arrows = arrows::arrows(&[&a, &b, &c], "src");
        assert_eq!(arrows::cycles(&arrows).len(), 1);
    }
}
