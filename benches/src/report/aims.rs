//! The aims of the comparison, each held against what was measured.
//!
//! An aim is met or missed by the median of at least five rounds; fewer say so and
//! decide nothing. Who wants to be the fastest is *level* with the others as long as
//! the rounds do not agree. One whose workload is not in the input is "not
//! measured", never met. Workloads are found by name, whatever stands between the
//! words of it; a few names are taken for the same.
//!
//! A ratio says against which peers it was measured, if some are missing, and is
//! marked where the time was up for one of those that decided it.

use super::input::Input;
use super::space;
use super::stores::{HASH_MAP, OURS};
use super::tables::{Cell, Ratio, Row, Table};
use super::text::{count, number, spread};
use crate::summary::Spread;

/// One aim, and what came of it.
pub struct Verdict {
    pub aim: String,
    pub wanted: String,
    pub measured: String,
    pub came: Came,
}

/// What came of an aim.
#[derive(PartialEq, Eq, Debug, Clone, Copy)]
pub enum Came {
    Met,
    Missed,
    /// In some rounds this one was the fastest, in some another.
    Level,
    /// There are too few rounds to tell; so many.
    Few(usize),
    /// The input does not tell.
    Unknown,
}

/// As few rounds decide something.
const ENOUGH: usize = 5;

impl Came {
    fn of(met: bool, rounds: usize) -> Came {
        match (rounds < ENOUGH, met) {
            (true, _) => Came::Few(rounds),
            (false, true) => Came::Met,
            (false, false) => Came::Missed,
        }
    }
}

/// How many times as fast as the fastest peer: with entries of 16 and 32 bytes.
const SMALL: [(&str, &[&str], f64); 8] = [
    ("get", GET, 10.0),
    ("miss", &["miss", "get miss", "read miss"], 15.0),
    ("batched get", BATCHED_GET, 20.0),
    ("single insert", INSERT, 10.0),
    ("batched insert", BATCHED_INSERT, 10.0),
    ("overwrite", &["overwrite", "update"], 10.0),
    ("remove", &["remove", "delete"], 8.0),
    ("YCSB A", &["ycsb a"], 10.0),
];
const GET: &[&str] = &["get", "get hit", "read", "hit", "read hit", "random get"];
const INSERT: &[&str] = &["fill", "insert", "fill single", "fill one by one", "single insert"];
const BATCHED_GET: &[&str] =
    &["batched get", "get batch", "get batched", "get 64", "get by 64", "multi get", "batch get"];
const BATCHED_INSERT: &[&str] = &[
    "batched insert",
    "fill batch",
    "fill batched",
    "fill 1000",
    "fill by 1000",
    "insert batch",
    "insert batched",
    "batched fill",
];

/// The numbers of entries that the aims are about.
const ENTRIES: [u64; 2] = [2_000_000, 10_000_000];

/// All aims, in the order in which they were set.
pub fn verdicts(input: &Input, tables: &[Table]) -> Vec<Verdict> {
    let mut all = Vec::new();
    for entries in ENTRIES {
        let is_meant = |table: &&Table| {
            let shape = table.shape;
            (shape.key_bytes, shape.value_bytes, shape.entries) == (16, 32, entries)
        };
        let table = tables.iter().find(is_meant);
        for (name, names, least) in SMALL {
            let aim = format!("{name}, {} entries", count(entries));
            all.push(of_ratio(aim, least, table.and_then(|table| row(table, names))));
        }
        all.push(of_map(entries, table));
    }
    for value_bytes in [100, 1_000] {
        for (name, names) in [("get", GET), ("insert", INSERT)] {
            let aim = format!("{name}, values of {} bytes", count(value_bytes));
            of_values(&mut all, &aim, value_bytes, names, tables);
        }
    }
    of_commits(&mut all, tables);
    of_cold(&mut all, tables);
    of_space(&mut all, input);
    of_opening(&mut all, tables);
    all
}

/// A name in small letters, with one blank between words.
fn plain(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").to_lowercase()
}

/// The row of one thread whose workload has one of these names; the first name
/// that there is.
fn row<'a>(table: &'a Table, names: &[&str]) -> Option<&'a Row> {
    names.iter().find_map(|name| {
        table.rows.iter().find(|row| row.threads <= 1 && plain(&row.workload) == *name)
    })
}

/// The rows whose workload has one of these words in its name.
fn rows<'a>(
    tables: &'a [Table],
    words: &'a [&str],
) -> impl Iterator<Item = (&'a Table, &'a Row)> + 'a {
    let has_word =
        |row: &&Row| words.iter().any(|word| plain(&row.workload).split(' ').any(|w| w == *word));
    tables
        .iter()
        .flat_map(move |table| table.rows.iter().filter(has_word).map(move |row| (table, row)))
}

fn unmeasured(aim: String, wanted: String) -> Verdict {
    Verdict { aim, wanted, measured: "-".to_owned(), came: Came::Unknown }
}

/// At least so many times as fast as the fastest peer.
fn of_ratio(aim: String, least: f64, row: Option<&Row>) -> Verdict {
    let wanted = match least {
        1.0 => "the fastest".to_owned(),
        _ => format!("{least}× the fastest peer"),
    };
    let Some(ratio) = row.and_then(|row| row.against_peers(OURS)) else {
        return unmeasured(aim, wanted);
    };
    let absent = row.map(Row::absent_peers).unwrap_or_default();
    let peers = match absent.len() {
        0 => String::new(),
        1 | 2 => format!(" (without {})", absent.join(", ")),
        _ => format!(" (of {})", ratio.peers.join(", ")),
    };
    let mark = mark(ratio.capped);
    let measured = format!("{}{mark}, peer {}{peers}", times(&ratio.spread), ratio.peer);
    let Spread { median, min, max } = ratio.spread;
    let came = match Came::of(median >= least, ratio.rounds) {
        Came::Met | Came::Missed if least == 1.0 && min < 1.0 && max > 1.0 => Came::Level,
        came => came,
    };
    Verdict { aim, wanted, measured, came }
}

/// What stands behind a number that is one of beginnings.
fn mark(capped: bool) -> &'static str {
    if capped { " †" } else { "" }
}

/// Every one of the small ones faster than the map.
fn of_map(entries: u64, table: Option<&Table>) -> Verdict {
    let aim = format!("each of these, {} entries", count(entries));
    let wanted = format!("faster than {HASH_MAP}");
    let of_one = |(name, names, _): &(&'static str, &[&str], f64)| {
        Some((*name, row(table?, names)?.against(HASH_MAP)?))
    };
    let mut ratios: Vec<(&str, Ratio)> = SMALL.iter().filter_map(of_one).collect();
    ratios.sort_by(|a, b| a.1.spread.median.total_cmp(&b.1.spread.median));
    let Some((least, ratio)) = ratios.first() else {
        return unmeasured(aim, wanted);
    };
    let slower: Vec<_> =
        ratios.iter().filter(|r| r.1.spread.median <= 1.0).map(|(name, _)| *name).collect();
    let capped = mark(ratios.iter().any(|(_, ratio)| ratio.capped));
    let mut measured = format!("least: {least} {}{capped}", times(&ratio.spread));
    if !slower.is_empty() {
        measured = format!("{measured}; not faster: {}", slower.join(", "));
    }
    let all = ratios.len() == SMALL.len();
    if !all {
        measured = format!("{measured}; {} of {} measured", ratios.len(), SMALL.len());
    }
    let rounds = ratios.iter().map(|(_, ratio)| ratio.rounds).min().unwrap_or(0);
    let came = match slower.is_empty() && !all {
        true => Came::Unknown,
        false => Came::of(slower.is_empty(), rounds),
    };
    Verdict { aim, wanted, measured, came }
}

/// Larger values, for each number of entries that was measured.
fn of_values(
    all: &mut Vec<Verdict>,
    aim: &str,
    value_bytes: u64,
    names: &[&str],
    tables: &[Table],
) {
    let found = tables.iter().filter(|table| table.shape.value_bytes == value_bytes);
    let rows: Vec<_> = found.filter_map(|table| Some((table, row(table, names)?))).collect();
    for (table, row) in &rows {
        let aim = format!("{aim}, {} entries", count(table.shape.entries));
        all.push(of_ratio(aim, 4.0, Some(row)));
    }
    if rows.is_empty() {
        all.push(of_ratio(aim.to_owned(), 4.0, None));
    }
}

/// Durable commits: the fastest of all that really sync.
fn of_commits(all: &mut Vec<Verdict>, tables: &[Table]) {
    let before = all.len();
    for (table, row) in rows(tables, &["durable", "commit", "commits"]) {
        let aim = match row.from_empty {
            true => row.label.clone(),
            false => format!("{}, {} entries", row.label, count(table.shape.entries)),
        };
        all.push(of_ratio(aim, 1.0, Some(row)));
    }
    if all.len() == before {
        all.push(of_ratio("durable commits".to_owned(), 1.0, None));
    }
}

/// More data than memory: gets as fast as the best, with few reads.
fn of_cold(all: &mut Vec<Verdict>, tables: &[Table]) {
    let is_get = |row: &Row| plain(&row.workload).split(' ').any(|w| w == "get" || w == "read");
    let cold = rows(tables, &["larger", "beyond", "memory", "cold"]).find(|(_, row)| is_get(row));
    let cold = cold.map(|(_, row)| row);
    all.push(of_ratio("gets, larger than memory".to_owned(), 1.0, cold));
    let aim = "device reads per get, larger than memory".to_owned();
    let wanted = "at most 1.1".to_owned();
    let ours = cold.and_then(|row| row.cells.get(OURS));
    all.push(match ours.and_then(|cell| Some((cell, cell.reads()?))) {
        None => unmeasured(aim, wanted),
        Some((cell, reads)) => {
            let came = Came::of(reads.median <= 1.1, cell.rounds());
            Verdict { aim, wanted, measured: spread(&reads), came }
        }
    });
}

/// Bytes on disk for each of the user.
fn of_space(all: &mut Vec<Verdict>, input: &Input) {
    let lives = space::lives(input);
    for (phases, aim, most) in [
        (["filled", "fill"], "after a random fill", 2.0),
        (["compacted", "compact"], "compacted", 1.7),
    ] {
        let before = all.len();
        for lives in lives.iter().filter(|lives| plain(&lives.workload).contains("space")) {
            let phase = lives.phases.iter().find(|phase| phases.contains(&phase.as_str()));
            let taken = phase.and_then(|phase| lives.per_byte(phase, OURS));
            let Some((taken, rounds)) = taken else { continue };
            let (entries, bytes) = (count(lives.entries), count(lives.entry_bytes));
            all.push(Verdict {
                aim: format!("space {aim}, {entries} entries of {bytes} bytes"),
                wanted: format!("at most {most:.1} of the user's bytes"),
                measured: spread(&taken),
                came: Came::of(taken.median <= most, rounds),
            });
        }
        if all.len() == before {
            let wanted = format!("at most {most:.1} of the user's bytes");
            all.push(unmeasured(format!("space {aim}"), wanted));
        }
    }
}

/// Opening after a clean close and after a kill.
fn of_opening(all: &mut Vec<Verdict>, tables: &[Table]) {
    let is_killed = |row: &Row| plain(&row.workload).contains("kill");
    let clean = rows(tables, &["open", "reopen"])
        .find(|(table, row)| !is_killed(row) && table.shape.entries == 10_000_000);
    let aim = "open after a clean close, 10,000,000 entries".to_owned();
    let wanted = "under 10 ms".to_owned();
    all.push(match clean.and_then(|(_, row)| row.cells.get(OURS)) {
        None => unmeasured(aim, wanted),
        Some(cell) => {
            let took = scaled(cell.nanos(), 1e-6);
            let measured = format!("{} ms", spread(&took));
            let came = Came::of(took.median < 10.0, cell.rounds());
            Verdict { aim, wanted, measured, came }
        }
    });
    let wanted = "under 1 s per 256 MiB of log".to_owned();
    let killed = rows(tables, &["open", "reopen"]).filter(|(_, row)| is_killed(row));
    let killed: Vec<_> = killed
        .filter_map(|(table, row)| Some((table.shape.entries, row.cells.get(OURS)?)))
        .map(|(entries, cell)| after_kill(entries, cell, wanted.clone()))
        .collect();
    match killed.is_empty() {
        true => all.push(unmeasured("open after a kill".to_owned(), wanted)),
        false => all.extend(killed),
    }
}

/// Opening after a kill, for the log that there was to replay.
fn after_kill(entries: u64, cell: &Cell, wanted: String) -> Verdict {
    let aim = format!("open after a kill, {} entries", count(entries));
    let took = scaled(cell.nanos(), 1e-9);
    let per_share = |log: Spread| took.median / (log.median / (256 << 20) as f64);
    let share = cell.log_bytes().map(per_share);
    let measured = match share {
        Some(share) => format!("{} s, so {} s per 256 MiB", spread(&took), number(share)),
        None => format!("{} s, of how much log is not known", spread(&took)),
    };
    let came = share.map_or(Came::Unknown, |share| Came::of(share < 1.0, cell.rounds()));
    Verdict { aim, wanted, measured, came }
}

fn scaled(spread: Spread, by: f64) -> Spread {
    Spread { median: spread.median * by, min: spread.min * by, max: spread.max * by }
}

/// A ratio with its extremes.
pub fn times(ratio: &Spread) -> String {
    let Spread { median, min, max } = *ratio;
    match min == max {
        true => format!("{}×", number(median)),
        false => format!("{}× ({}-{})", number(median), number(min), number(max)),
    }
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn names_are_compared_by_their_words() {
        assert_eq!(plain("YCSB-A"), "ycsb a");
        assert_eq!(plain("fill_by 1000"), "fill by 1000");
    }
}
