//! What was measured, put into rows and columns.
//!
//! A *shape* is a size of keys, of values, and a number of entries; each shape
//! has one table with a row for each workload and number of threads. Rows stand
//! in the order in which the input names them first.
//!
//! # The ratio
//!
//! In every round our time is held against that of whichever peer was fastest
//! in this round, and the median of these ratios is what counts. A round counts
//! if the peer took part in it that is fastest by its median, so that a round
//! which only slow peers finished does not flatter us. A store whose syncs do
//! not reach the kernel is shown but is no peer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::input::{Input, Time};
use super::stores::{OURS, in_order, is_peer, known_peers};
use super::text::count;
use crate::summary::Spread;

/// How large and how many the entries are.
#[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy, Debug)]
pub struct Shape {
    pub key_bytes: u64,
    pub value_bytes: u64,
    pub entries: u64,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", count(self.entries), self.lengths())
    }
}

impl Shape {
    /// How large the entries are.
    fn lengths(&self) -> String {
        let [keys, values] = [self.key_bytes, self.value_bytes].map(count);
        format!("entries of {keys} + {values} bytes")
    }
}

/// All rows of a shape.
pub struct Table {
    pub shape: Shape,
    pub rows: Vec<Row>,
}

/// All stores at one workload.
#[derive(Clone)]
pub struct Row {
    pub workload: String,
    pub threads: u64,
    /// How the row is called: the workload, what it began with if that was nothing,
    /// and the threads if there are more.
    pub label: String,
    /// Whether it began with an empty store: the number of entries of its shape says
    /// nothing then.
    pub from_empty: bool,
    pub cells: BTreeMap<String, Cell>,
}

/// A run, and a round of it.
type Round = (usize, u64);

/// What was measured of one store at one workload.
#[derive(Clone, Default)]
pub struct Cell {
    /// Nanoseconds per operation.
    rounds: BTreeMap<Round, Vec<f64>>,
    per_second: Vec<f64>,
    reads: Vec<f64>,
    log_bytes: Vec<f64>,
    /// The rounds in which the time was up before all operations were done.
    capped: BTreeSet<Round>,
    /// Whether syncs do not reach the kernel.
    pub lax: bool,
}

/// How many times as fast as the fastest peer, or as one other store.
pub struct Ratio {
    /// The peer that is fastest by its median, or the other store.
    pub peer: String,
    pub spread: Spread,
    /// How many rounds there are to compare.
    pub rounds: usize,
    /// Whether in any of them the time was up for the store, or for the peer that
    /// decided it.
    pub capped: bool,
    /// The peers that took part, in order.
    pub peers: Vec<String>,
}

impl Ratio {
    /// Of the ratio of each round, and whether the time was up there; if there is one.
    fn of(peer: &str, peers: Vec<String>, ratios: &[(f64, bool)]) -> Option<Ratio> {
        let capped = ratios.iter().any(|(_, capped)| *capped);
        (!ratios.is_empty()).then(|| Ratio {
            peer: peer.to_owned(),
            spread: Spread::of(ratios.iter().map(|(ratio, _)| *ratio).collect()),
            rounds: ratios.len(),
            capped,
            peers,
        })
    }
}

impl Cell {
    fn add(&mut self, time: &Time) {
        self.rounds.entry((time.run, time.round)).or_default().push(time.nanos());
        self.per_second.push(time.per_second());
        self.reads.extend(time.reads_per_op());
        self.log_bytes.extend(time.log_bytes);
        if time.capped {
            self.capped.insert((time.run, time.round));
        }
        self.lax |= !time.syncs;
    }

    /// Nanoseconds per operation.
    pub fn nanos(&self) -> Spread {
        Spread::of(self.rounds.values().flatten().copied().collect())
    }

    /// Operations of all threads in a second.
    pub fn per_second(&self) -> Spread {
        Spread::of(self.per_second.clone())
    }

    /// Reads of the device for an operation, where they were counted.
    pub fn reads(&self) -> Option<Spread> {
        (!self.reads.is_empty()).then(|| Spread::of(self.reads.clone()))
    }

    /// Bytes of log that an opening went through, where they are known.
    pub fn log_bytes(&self) -> Option<Spread> {
        (!self.log_bytes.is_empty()).then(|| Spread::of(self.log_bytes.clone()))
    }

    /// How many rounds there were.
    pub fn rounds(&self) -> usize {
        self.rounds.len()
    }

    /// Whether the time was up in any round before all operations were done.
    pub fn is_capped(&self) -> bool {
        !self.capped.is_empty()
    }

    /// In one round, if there was one.
    fn of_round(&self, round: &Round) -> Option<f64> {
        self.rounds.get(round).map(|values| Spread::of(values.clone()).median)
    }

    /// In each round.
    fn medians(&self) -> impl Iterator<Item = (&Round, f64)> {
        self.rounds.iter().map(|(round, values)| (round, Spread::of(values.clone()).median))
    }
}

impl Row {
    /// What it was measured with, of the shape of its table.
    pub fn shape_text(&self, shape: &Shape) -> String {
        if self.from_empty { shape.lengths() } else { shape.to_string() }
    }

    /// The workload, and what it began with if that was nothing.
    pub fn title(&self) -> String {
        let from = if self.from_empty { " from an empty store" } else { "" };
        format!("{}{from}", self.workload)
    }

    /// The stores that ours is held against.
    fn peers(&self) -> impl Iterator<Item = (&String, &Cell)> {
        self.cells.iter().filter(|(store, cell)| is_peer(store) && !cell.lax)
    }

    /// The peer that is fastest by its median.
    fn fastest_peer(&self) -> Option<&str> {
        let median = |cell: &Cell| cell.nanos().median;
        let fastest = self.peers().min_by(|a, b| median(a.1).total_cmp(&median(b.1)));
        fastest.map(|(store, _)| store.as_str())
    }

    /// How many times as fast as the fastest peer a store is.
    pub fn against_peers(&self, store: &str) -> Option<Ratio> {
        let peer = self.fastest_peer()?;
        let cell = self.cells.get(store)?;
        let mut ratios = Vec::new();
        for (round, ours) in cell.medians() {
            if self.cells[peer].of_round(round).is_none() {
                continue;
            }
            let times = self.peers().filter_map(|(_, peer)| Some((peer.of_round(round)?, peer)));
            if let Some((time, fastest)) = times.min_by(|a, b| a.0.total_cmp(&b.0)) {
                let capped = cell.capped.contains(round) || fastest.capped.contains(round);
                ratios.push((time / ours, capped));
            }
        }
        Ratio::of(peer, in_order(self.peers().map(|(store, _)| store.as_str())), &ratios)
    }

    /// Known peers that were not measured here; those whose syncs do not reach the
    /// kernel were, and are none.
    pub fn absent_peers(&self) -> Vec<&'static str> {
        known_peers().filter(|peer| !self.cells.contains_key(*peer)).collect()
    }

    /// How many times as fast as one other store ours is.
    pub fn against(&self, other: &str) -> Option<Ratio> {
        let (ours, cell) = (self.cells.get(OURS)?, self.cells.get(other)?);
        let mut ratios = Vec::new();
        for (round, time) in ours.medians() {
            let Some(time_of_other) = cell.of_round(round) else { continue };
            let capped = ours.capped.contains(round) || cell.capped.contains(round);
            ratios.push((time_of_other / time, capped));
        }
        Ratio::of(other, vec![other.to_owned()], &ratios)
    }
}

impl Table {
    /// The stores that have a column.
    pub fn stores(&self) -> Vec<String> {
        in_order(self.rows.iter().flat_map(|row| row.cells.keys().map(String::as_str)))
    }
}

/// One table for each shape, small entries and few of them first.
pub fn tables(input: &Input) -> Vec<Table> {
    let mut tables: BTreeMap<Shape, Vec<Row>> = BTreeMap::new();
    for time in &input.times {
        let Time { key_bytes, value_bytes, entries, threads, .. } = *time;
        let rows = tables.entry(Shape { key_bytes, value_bytes, entries }).or_default();
        let is_row = |row: &Row| row.workload == time.workload && row.threads == threads;
        let at = rows.iter().position(is_row).unwrap_or_else(|| {
            let (workload, from_empty) = (time.workload.clone(), time.is_from_empty());
            let (label, cells) = (String::new(), BTreeMap::new());
            rows.push(Row { workload, threads, label, from_empty, cells });
            rows.len() - 1
        });
        rows[at].cells.entry(time.store.clone()).or_default().add(time);
    }
    let tables = tables.into_iter();
    tables.map(|(shape, rows)| Table { shape, rows: named(rows) }).collect()
}

/// Gives rows their labels; rows of one workload come together, few threads
/// first.
fn named(mut rows: Vec<Row>) -> Vec<Row> {
    let mut workloads: Vec<String> = Vec::new();
    for row in &rows {
        if !workloads.contains(&row.workload) {
            workloads.push(row.workload.clone());
        }
    }
    rows.sort_by_key(|row| (workloads.iter().position(|w| *w == row.workload), row.threads));
    let threaded: Vec<_> =
        rows.iter().filter(|row| row.threads > 1).map(|row| row.workload.clone()).collect();
    for row in &mut rows {
        row.label = match row.threads {
            1 if threaded.contains(&row.workload) => format!("{}, 1 thread", row.title()),
            0 | 1 => row.title(),
            threads => format!("{}, {threads} threads", row.title()),
        };
    }
    rows
}

/// The table that is shown in the README: that with the most stores, without what
/// settling and closing take, which are single events of milliseconds and stand in
/// the report.
pub fn for_readme(tables: &[Table]) -> Option<Table> {
    let is_meant = |shape: Shape| (shape.key_bytes, shape.value_bytes) == (16, 32);
    let size = |table: &Table| (table.stores().len(), table.rows.len(), table.shape.entries);
    let of = tables.iter().max_by_key(|table| (is_meant(table.shape), size(table)))?;
    let is_event = |row: &Row| {
        ["-settle", "-close"].iter().any(|end| row.workload.ends_with(end))
            || row.workload == "close"
    };
    let rows = of.rows.iter().filter(|row| !is_event(row)).cloned().collect();
    Some(Table { shape: of.shape, rows })
}
