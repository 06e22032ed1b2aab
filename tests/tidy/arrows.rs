//! Which module knows which: the arrows between them, and their layers.
//!
//! An arrow is a path that begins with `crate::` or `super::`, in a `use` or
//! anywhere else, outside of tests. It leads from the file it stands in to
//! the file of the longest module path that it begins with. What the root of
//! the crate re-exports counts as what it is; its constants may be used by
//! all.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Source, is_word, words};

/// The layers from the lowest to the highest. Modules may know those of lower
/// layers, and of their own unless the layer keeps them apart.
const LAYERS: &[Layer] = &[
    Layer {
        name: "words",
        modules: &["limits", "error", "options", "hash", "histogram", "format"],
        apart: false,
    },
    Layer { name: "machine", modules: &["storage"], apart: false },
    Layer { name: "parts", modules: &["table", "log"], apart: true },
    Layer {
        name: "deeds",
        modules: &[
            "value",
            "batch",
            "store",
            "catalog",
            "handle",
            "checkpoint",
            "recovery",
            "snapshot",
            "iter",
            "cursor",
            "clean",
            "compact",
            "pass",
            "upkeep",
            "verify",
            "target",
            "salvage",
            "backup",
            "inspect",
            "survey",
            "bulk",
            "census",
            "rewrite",
        ],
        apart: false,
    },
    Layer { name: "face", modules: &["stats", "table_handle", "db", "lib"], apart: false },
];

struct Layer {
    name: &'static str,
    modules: &'static [&'static str],
    apart: bool,
}

/// From a module to the modules that it knows, each with a line that says so.
pub type Arrows = BTreeMap<String, BTreeMap<String, String>>;

/// The arrows between the modules of a crate, given its sources.
pub fn arrows(sources: &[&Source], root: &str) -> Arrows {
    let modules: BTreeSet<String> =
        sources.iter().map(|source| module(&source.path, root)).collect();
    let exports = sources
        .iter()
        .find(|source| module(&source.path, root) == "lib")
        .map(|source| exports(source))
        .unwrap_or_default();
    let mut arrows = Arrows::new();
    for source in sources {
        let from = module(&source.path, root);
        if source.path.ends_with("tests.rs") || source.path.contains("/tests/") {
            continue;
        }
        for (line, path) in paths(source, &from) {
            if let Some(to) = target(&path, &modules, &exports)
                && to != from
            {
                let place = format!("{}:{line}: {}", source.path, path.join("::"));
                arrows.entry(from.clone()).or_default().entry(to).or_insert(place);
            }
        }
    }
    arrows
}

/// The module that a file is: `table::read`, or `lib` for the root.
fn module(path: &str, root: &str) -> String {
    let inside = path.strip_prefix(root).unwrap_or(path).trim_start_matches('/');
    let name = inside.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::");
    if name == "main" { "lib".to_owned() } else { name }
}

/// What the root re-exports, and from which module.
fn exports(root: &Source) -> BTreeMap<String, Vec<String>> {
    let mut exports = BTreeMap::new();
    for at in words(&root.code, "use") {
        let mut paths = Vec::new();
        tree(&root.code[at + 3..], &mut Vec::new(), &mut paths);
        for path in paths {
            if let Some(item) = path.last() {
                exports.insert(item.clone(), path.clone());
            }
        }
    }
    exports
}

/// The paths of a source that begin at the root of the crate or above the
/// module, from the root on, with the lines in which they stand.
fn paths(source: &Source, from: &str) -> Vec<(usize, Vec<String>)> {
    let code = source.code_without_tests();
    let mut found = Vec::new();
    for start in ["crate", "super"] {
        for at in words(&code, start) {
            let Some(rest) = code[at + 5..].trim_start().strip_prefix("::") else {
                continue;
            };
            if code[..at].trim_end().ends_with("::") {
                continue;
            }
            let mut prefix: Vec<String> = Vec::new();
            if start == "super" && from != "lib" {
                prefix = from.split("::").map(str::to_owned).collect();
                prefix.pop();
            }
            let mut paths = Vec::new();
            tree(rest, &mut prefix, &mut paths);
            found.extend(paths.into_iter().map(|path| (source.line(at), path)));
        }
    }
    found
}

/// Follows a path, and the braces in it, and collects the paths that it
/// stands for. Returns the text behind it.
fn tree<'a>(text: &'a str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let depth = prefix.len();
    let mut rest = text.trim_start();
    loop {
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside.trim_start();
            while !rest.is_empty() && !rest.starts_with('}') {
                let behind = tree(rest, prefix, found).trim_start();
                let behind = behind.split_once([',', '}']).map_or("", |(renamed, _)| {
                    behind[renamed.len()..].trim_start_matches(',').trim_start()
                });
                rest = behind;
            }
            prefix.truncate(depth);
            return rest.strip_prefix('}').unwrap_or(rest);
        }
        let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if length == 0 {
            break;
        }
        match &rest[..length] {
            "self" => {}
            "super" => _ = prefix.pop(),
            segment => prefix.push(segment.to_owned()),
        }
        rest = &rest[length..];
        match rest.trim_start().strip_prefix("::") {
            Some(more) => rest = more.trim_start(),
            None => break,
        }
    }
    found.push(prefix.clone());
    prefix.truncate(depth);
    rest
}

/// The module a path leads to; `None` for constants and macros of the root.
fn target(
    path: &[String],
    modules: &BTreeSet<String>,
    exports: &BTreeMap<String, Vec<String>>,
) -> Option<String> {
    let longest = |path: &[String]| {
        (1..=path.len()).rev().map(|n| path[..n].join("::")).find(|name| modules.contains(name))
    };
    let first = path.first()?;
    longest(path).or_else(|| exports.get(first).and_then(|export| longest(export))).or_else(|| {
        let is_constant =
            first.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit());
        (!is_constant).then(|| "lib".to_owned())
    })
}

/// What is wrong with the directions of the arrows.
pub fn upward(arrows: &Arrows) -> Vec<String> {
    let mut wrong = Vec::new();
    for (from, targets) in arrows {
        for (to, place) in targets {
            let (top, other) = (first(from), first(to));
            let (Some(low), Some(high)) = (layer(other), layer(top)) else {
                continue;
            };
            let is_wrong = low > high || (low == high && top != other && LAYERS[low].apart);
            if is_wrong {
                wrong.push(format!(
                    "{place}: {from} ({}) must not know {to} ({})",
                    LAYERS[high].name, LAYERS[low].name
                ));
            }
        }
    }
    wrong
}

/// Files of the library that have no place in the layers.
pub fn unplaced(sources: &[&Source], root: &str) -> Vec<String> {
    let unplaced = |source: &&&Source| layer(first(&module(&source.path, root))).is_none();
    sources
        .iter()
        .filter(unplaced)
        .map(|source| format!("{} has no place in the table of layers", source.path))
        .collect()
}

fn first(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.modules.contains(&module))
}

/// The shortest cycle through each module that lies on one.
pub fn cycles(arrows: &Arrows) -> Vec<String> {
    let mut cycles = BTreeMap::new();
    for start in arrows.keys() {
        let mut reached: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue = vec![start.as_str()];
        let mut i = 0;
        while i < queue.len() && !reached.contains_key(start.as_str()) {
            let from = queue[i];
            for to in arrows.get(from).into_iter().flat_map(BTreeMap::keys) {
                if !reached.contains_key(to.as_str()) {
                    reached.insert(to, from);
                    queue.push(to);
                }
            }
            i += 1;
        }
        if reached.contains_key(start.as_str()) {
            let mut path = vec![start.as_str()];
            let mut at = reached[start.as_str()];
            while at != start {
                path.push(at);
                at = reached[at];
            }
            path.reverse();
            let mut members = path.clone();
            members.sort_unstable();
            cycles.entry(members.join(" ")).or_insert_with(|| {
                let steps: Vec<_> = (0..path.len())
                    .map(|i| &*arrows[path[i]][path[(i + 1) % path.len()]])
                    .collect();
                format!(
                    "{} know each other in a circle:\n    {}",
                    members.join(", "),
                    steps.join("\n    ")
                )
            });
        }
    }
    cycles.into_values().collect()
}
