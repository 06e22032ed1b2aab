//! The report as Markdown: what was measured on, every table, what was left
//! out, and the aims.

use serde_json::Value;
use std::collections::BTreeMap;

use super::aims::{Came, times, verdicts};
use super::input::{Input, Resources, Words};
use super::plots::Picture;
use super::reasons::reason;
use super::space;
use super::stores::{HASH_MAP, OURS, in_order};
use super::tables::{Cell, Row, Table, for_readme};
use super::text::{count, nanos, nanos_spread, spread, table, table_of_words};
use crate::summary::Spread;

/// What stands in the tables of times.
const LEGEND: &str = "\
Nanoseconds per operation where no other unit stands, median (smallest-largest) over the rounds; less
is better. *Of the fastest peer*: how many times as fast swissdb was as whichever peer was fastest in the
same round; the median of these ratios (smallest-largest), with the peer that is fastest by its median.
**loses** marks where the median is below 1. † the time was up before all operations were done; ‡ its
syncs do not reach the kernel, so it is no peer. HashMap and hashbrown keep nothing on a disk: they are
floors, not peers.
";

/// What marks behind a number mean.
const MARKS: [(&str, &str); 2] = [
    ("†", "The time was up before all operations were done."),
    ("‡", "Its syncs do not reach the kernel, so it is no peer."),
];

/// The whole report.
pub fn report(input: &Input, tables: &[Table], pictures: &[Picture]) -> String {
    let mut text = "# swissdb beside other stores\n".to_owned();
    machines(&mut text, input);
    aims(&mut text, input, tables);
    losses(&mut text, tables);
    if !tables.is_empty() {
        text.push_str(&format!("\n## Times\n\n{LEGEND}"));
    }
    for table in tables {
        times_of(&mut text, table);
    }
    sizes(&mut text, input);
    resources(&mut text, input);
    words(&mut text, "Not measured", "why", &input.skipped);
    words(&mut text, "Notes", "note", &input.notes);
    if !pictures.is_empty() {
        text.push_str("\n## Pictures\n\n");
    }
    for picture in pictures {
        text.push_str(&format!("![{}]({})\n", picture.title, picture.file));
    }
    if !input.left_out.is_empty() {
        let kinds = input.left_out.iter().map(|(kind, lines)| format!("{kind} ({lines})"));
        let kinds = kinds.collect::<Vec<_>>().join(", ");
        text.push_str(&format!("\nLines of the input that say nothing to this report: {kinds}.\n"));
    }
    text
}

/// Machines, versions and commands; each once.
fn machines(text: &mut String, input: &Input) {
    let mut told: Vec<String> = Vec::new();
    for machine in &input.machines {
        let mut lines = String::new();
        // In one order, however the parser was built.
        let fields: BTreeMap<_, _> = machine.iter().filter(|(name, _)| !is_frame(name)).collect();
        for (name, value) in fields {
            lines.push_str(&format!("- {}: {}\n", name.replace('_', " "), plain(value)));
        }
        if let Some(command) = machine.get("command") {
            lines.push_str(&format!("\n```sh\n{}\n```\n", command_line(command)));
        }
        if !told.contains(&lines) {
            text.push_str(&format!("\n## Run {}\n\n{lines}", told.len() + 1));
            told.push(lines);
        }
    }
    if told.is_empty() {
        text.push_str("\nThe input does not say on what machine it was measured.\n");
    }
}

/// Whether a field of a line about a machine is told elsewhere, or not at all.
fn is_frame(name: &str) -> bool {
    matches!(name, "bench" | "kind" | "command")
}

/// A value of JSON as people read it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_u64().map_or(number.to_string(), count),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| format!("{name} {}", plain(value));
            fields.iter().map(field).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// A command line, also where it is told as a list of words.
fn command_line(command: &Value) -> String {
    match command {
        Value::Array(words) => words.iter().map(plain).collect::<Vec<_>>().join(" "),
        other => plain(other),
    }
}

/// What the marks and words of the aims mean.
const AIMS: [(&str, &str); 3] = [
    (
        "†",
        "The time was up before all operations were done, for swissdb or for the store that it is held against, in a
round at least: such a ratio is one of beginnings. Where operations touch pages for the first time, it favours whoever
did more of them.",
    ),
    ("round", "Fewer than five rounds decide nothing."),
    ("level", "Level: in some rounds swissdb was the fastest, in some a peer."),
];

fn aims(text: &mut String, input: &Input, tables: &[Table]) {
    let rows: Vec<Vec<String>> = verdicts(input, tables)
        .into_iter()
        .map(|verdict| {
            let came = match verdict.came {
                Came::Met => "met".to_owned(),
                Came::Missed => "**missed**".to_owned(),
                Came::Level => "level".to_owned(),
                Came::Few(rounds) => rounds_text(rounds),
                Came::Unknown => "not measured".to_owned(),
            };
            vec![verdict.aim, verdict.wanted, verdict.measured, came]
        })
        .collect();
    let heads = ["aim", "wanted", "measured", ""];
    text.push_str(&format!("\n## Aims\n\n{}", table_of_words(&heads, &rows)));
    for (mark, meaning) in AIMS {
        if rows.iter().any(|row| row[2..].iter().any(|cell| cell.contains(mark))) {
            let mark = if mark == "†" { "† " } else { "" };
            text.push_str(&format!("\n{mark}{meaning}\n"));
        }
    }
}

/// So many rounds.
fn rounds_text(rounds: usize) -> String {
    match rounds {
        1 => "one round".to_owned(),
        rounds => format!("{rounds} rounds"),
    }
}

/// The rows in which a peer is faster, by the reason for it.
fn losses(text: &mut String, tables: &[Table]) {
    let mut lost: Vec<(Option<&str>, String)> = Vec::new();
    for table in tables {
        for row in &table.rows {
            let Some(ratio) = row.against_peers(OURS).filter(|r| r.spread.median < 1.0) else {
                continue;
            };
            let (label, times) = (&row.label, times(&ratio.spread));
            let shape = row.shape_text(&table.shape);
            let line = format!("- {label}, {shape}: {times} of {}\n", ratio.peer);
            let why = reason(&row.workload, &table.shape);
            match lost.iter_mut().find(|(reason, _)| *reason == why) {
                Some((_, lines)) => lines.push_str(&line),
                None => lost.push((why, line)),
            }
        }
    }
    if !lost.is_empty() {
        text.push_str("\n## Where swissdb loses\n");
    }
    for (why, lines) in lost {
        let why = why.unwrap_or("Why is not known yet:");
        text.push_str(&format!("\n{why}\n\n{lines}"));
    }
}

/// One table of times.
fn times_of(text: &mut String, of: &Table) {
    let stores = of.stores();
    let rounds = of.rows.iter().flat_map(|row| row.cells.values().map(Cell::rounds));
    let (least, most) = rounds.fold((usize::MAX, 0), |(a, b), n| (a.min(n), b.max(n)));
    let rounds = match (least, most) {
        (least, most) if least == most => rounds_text(most),
        (least, most) => format!("{least} to {most} rounds"),
    };
    let heads = [vec!["workload".to_owned()], stores.clone(), ratio_heads(&stores)].concat();
    let rows: Vec<_> = of
        .rows
        .iter()
        .map(|row| {
            let cells =
                stores.iter().map(|store| cell(row.cells.get(store), nanos_spread)).collect();
            [vec![row.label.clone()], cells, ratios(row, &stores)].concat()
        })
        .collect();
    text.push_str(&format!("\n### {}\n\n", capitalized(&of.shape.to_string())));
    text.push_str(&format!("{}\n{}", capitalized(&format!("{rounds}.\n")), table(&heads, &rows)));
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// What a store took, with its marks.
pub fn cell(cell: Option<&Cell>, text: impl Fn(&Spread) -> String) -> String {
    let Some(cell) = cell else { return "-".to_owned() };
    let capped = if cell.is_capped() { " †" } else { "" };
    let lax = if cell.lax { " ‡" } else { "" };
    format!("{}{capped}{lax}", text(&cell.nanos()))
}

/// The heads of the columns with ratios.
pub fn ratio_heads(stores: &[String]) -> Vec<String> {
    let mut heads = vec!["of the fastest peer".to_owned()];
    if stores.iter().any(|store| store == HASH_MAP) {
        heads.push(format!("of {HASH_MAP}"));
    }
    heads
}

/// The columns with ratios of a row.
pub fn ratios(row: &Row, stores: &[String]) -> Vec<String> {
    let against_peers = row.against_peers(OURS).map(|ratio| {
        let loses = if ratio.spread.median < 1.0 { "**loses** " } else { "" };
        let of_all = row.cells.get(OURS).is_some_and(|ours| ours.rounds() == ratio.rounds);
        let rounds = match ratio.rounds {
            _ if of_all => String::new(),
            1 => ", 1 round".to_owned(),
            rounds => format!(", {rounds} rounds"),
        };
        format!("{loses}{} {}{rounds}", times(&ratio.spread), ratio.peer)
    });
    let mut cells = vec![against_peers.unwrap_or_else(|| "-".to_owned())];
    if stores.iter().any(|store| store == HASH_MAP) {
        let ratio = row.against(HASH_MAP).map(|ratio| times(&ratio.spread));
        cells.push(ratio.unwrap_or_else(|| "-".to_owned()));
    }
    cells
}

fn sizes(text: &mut String, input: &Input) {
    for (i, lives) in space::lives(input).iter().enumerate() {
        if i == 0 {
            text.push_str("\n## Space\n\nBytes on disk for each byte of the user.\n");
        }
        let stores = lives.stores();
        let heads = [vec!["phase".to_owned()], stores.clone()].concat();
        let rows: Vec<_> = lives
            .phases
            .iter()
            .map(|phase| {
                let taken = |store| lives.per_byte(phase, store).map(|(taken, _)| spread(&taken));
                let cells = stores.iter().map(|s| taken(s).unwrap_or_else(|| "-".to_owned()));
                [phase.clone()].into_iter().chain(cells).collect()
            })
            .collect();
        let (entries, bytes) = (count(lives.entries), count(lives.entry_bytes));
        text.push_str(&format!("\n### {}: {entries} entries of {bytes} bytes\n\n", lives.workload));
        text.push_str(&table(&heads, &rows));
    }
}

/// What lines about the resources of one store at one workload tell.
type Measure = fn(&[&Resources]) -> Option<String>;

/// The spread of what lines tell, if any does.
fn told(lines: &[&Resources], of: impl Fn(&Resources) -> Option<f64>) -> Option<String> {
    let values: Vec<f64> = lines.iter().filter_map(|line| of(line)).collect();
    (!values.is_empty()).then(|| spread(&Spread::of(values)))
}

/// Bytes written for each of the user; MiB in all where the user wrote nothing, but
/// the store did.
fn written(lines: &[&Resources]) -> Option<String> {
    let by_user = |line: &Resources| line.user_bytes.filter(|bytes| *bytes > 0.0);
    let ratio = told(lines, |line| Some(line.written_bytes? / by_user(line)?));
    let wrote = lines.iter().any(|line| line.written_bytes.is_some_and(|bytes| bytes > 0.0));
    let mib = |line: &Resources| Some(line.written_bytes? / f64::from(1 << 20));
    ratio.or_else(|| Some(format!("{} MiB", told(lines, mib).filter(|_| wrote)?)))
}

fn resources(text: &mut String, input: &Input) {
    let measures: [(&str, Measure); 3] = [
        ("Peak memory in MB", |lines| told(lines, |r| Some(r.peak_memory_bytes? / 1e6))),
        ("CPU time in nanoseconds for each operation, background threads included", |lines| {
            told(lines, |r| Some(r.cpu_seconds? * 1e9 / r.ops.filter(|ops| *ops > 0.0)?))
        }),
        (
            "Bytes written to the device for each byte of the user; in MiB where the user wrote nothing",
            written,
        ),
    ];
    let label = |line: &Resources| {
        let values = line.value_bytes.map(|bytes| format!(", values of {} bytes", count(bytes)));
        format!("{}, {} entries{}", line.workload, count(line.entries), values.unwrap_or_default())
    };
    let mut labels: Vec<String> = Vec::new();
    for label in input.resources.iter().map(label) {
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    let stores = in_order(input.resources.iter().map(|line| &*line.store));
    let heads = [vec!["workload".to_owned()], stores.clone()].concat();
    for (name, measure) in measures {
        let value = |of: &str, store: &str| {
            let lines = input.resources.iter().filter(|r| r.store == store && label(r) == of);
            measure(&lines.collect::<Vec<_>>())
        };
        let row = |of: &String| {
            let cells = stores.iter().map(|s| value(of, s).unwrap_or_else(|| "-".to_owned()));
            [of.clone()].into_iter().chain(cells).collect::<Vec<_>>()
        };
        let rows: Vec<_> = labels.iter().map(row).collect();
        if rows.iter().all(|row| row[1..].iter().all(|cell| cell == "-")) {
            continue;
        }
        if !text.contains("\n## Resources\n") {
            text.push_str("\n## Resources\n");
        }
        text.push_str(&format!("\n### {name}\n\n{}", table(&heads, &rows)));
    }
}

/// What was said of stores and workloads, each once.
fn words(text: &mut String, head: &str, what: &str, words: &[Words]) {
    let mut told: Vec<&Words> = Vec::new();
    for word in words {
        if !told.contains(&word) {
            told.push(word);
        }
    }
    if told.is_empty() {
        return;
    }
    let cells =
        |word: &&Words| [&word.workload, &word.store, &word.why].map(String::clone).to_vec();
    let rows: Vec<_> = told.iter().map(cells).collect();
    let heads = ["workload", "store", what];
    text.push_str(&format!("\n## {head}\n\n{}", table_of_words(&heads, &rows)));
}

/// The table for the README, between comments that mark it: the shape of 16 and 32
/// bytes with the most stores, or any other where there is none; medians only.
pub fn readme(tables: &[Table]) -> Option<String> {
    let of = for_readme(tables)?;
    let stores = of.stores();
    let heads =
        [vec!["ns per operation".to_owned()], stores.clone(), ratio_heads(&stores)].concat();
    let median = |spread: &Spread| nanos(spread.median);
    let rows: Vec<_> = of
        .rows
        .iter()
        .map(|row| {
            let cells = stores.iter().map(|store| cell(row.cells.get(store), median)).collect();
            [vec![row.label.clone()], cells, ratios(row, &stores)].concat()
        })
        .collect();
    let mut text = format!("{}:\n\n{}", capitalized(&of.shape.to_string()), table(&heads, &rows));
    for (mark, meaning) in MARKS {
        if rows.iter().flatten().any(|cell| cell.contains(mark)) {
            text.push_str(&format!("\n{mark} {meaning}\n"));
        }
    }
    Some(format!("<!-- comparison: begin -->\n{text}<!-- comparison: end -->\n"))
}
