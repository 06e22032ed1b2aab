//! The pictures of the report, as SVG.
//!
//! - throughput beside the fastest peer, for each shape of entries;
//! - the same of few workloads, for the README (`overview.svg`);
//! - time over the length of values, for each workload that has several;
//! - bytes on disk for each of the user, by phase;
//! - throughput over threads, for each workload that has several.
//!
//! A picture that would hold a single store, or a single point, is not drawn.

mod bars;
mod canvas;
mod lines;

use std::collections::BTreeMap;
use std::path::Path;

use bars::{Bars, Group};
use lines::Lines;

use super::input::Input;
use super::space;
use super::stores::in_order;
use super::tables::{Row, Shape, Table, for_readme};
use super::text::count;
use crate::Outcome;

/// A picture that was drawn.
pub struct Picture {
    pub title: String,
    /// Its name in the directory of the report.
    pub file: String,
}

/// Draws all that the input has something for.
pub fn draw(input: &Input, tables: &[Table], out: &Path) -> Outcome<Vec<Picture>> {
    let mut pictures = Vec::new();
    for table in tables {
        let Shape { key_bytes, value_bytes, entries } = table.shape;
        let file = format!("throughput-{key_bytes}-{value_bytes}-{entries}.svg");
        throughput(table, |_| true, "Throughput", file, out, &mut pictures)?;
    }
    if let Some(table) = &for_readme(tables) {
        let file = "overview.svg".to_owned();
        throughput(table, is_basic, "Overview: throughput", file, out, &mut pictures)?;
    }
    for lines in values(tables) {
        save_lines(&lines, out, &mut pictures)?;
    }
    for lines in space::lives(input) {
        disk(&lines, out, &mut pictures)?;
    }
    for table in tables {
        for lines in threads(table) {
            save_lines(&lines, out, &mut pictures)?;
        }
    }
    Ok(pictures)
}

/// Whether a workload is one that everybody wants to know of.
fn is_basic(row: &Row) -> bool {
    let words = ["get", "miss", "fill", "insert", "overwrite", "remove", "ycsb"];
    let name = row.workload.to_lowercase();
    let first = name.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    row.threads <= 1 && words.contains(&first)
}

/// A name that can stand in the name of a file.
fn slug(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let letters: String = name.chars().map(letter).collect();
    letters.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// Throughput beside the fastest peer.
fn throughput(
    table: &Table,
    is_wanted: impl Fn(&Row) -> bool,
    title: &str,
    file: String,
    out: &Path,
    pictures: &mut Vec<Picture>,
) -> Outcome {
    let group = |row: &Row| {
        let stores = in_order(row.cells.keys().map(String::as_str));
        let bar = |store: String| {
            let cell = &row.cells[&store];
            let marks = [(cell.is_capped(), " †"), (cell.lax, " ‡")]
                .map(|(has, mark)| if has { mark } else { "" });
            Some((row.against_peers(&store)?.spread, marks.concat(), store))
        };
        let bars = stores.into_iter().filter_map(bar);
        let bars = bars.map(|(spread, mark, store)| (store, spread, mark)).collect();
        Group { label: row.label.clone(), bars }
    };
    let rows = table.rows.iter().filter(|row| is_wanted(row));
    let groups: Vec<_> = rows.map(group).filter(|group| group.bars.len() > 1).collect();
    let bars = Bars {
        title: format!("{title}, {}", table.shape),
        note: "median over the rounds, with the smallest and the largest; longer to the right is \
               faster; grey: in memory only"
            .to_owned(),
        at_one: "the fastest peer of the round".to_owned(),
        groups,
    };
    save_bars(bars, file, out, pictures)
}

fn save_bars(bars: Bars, file: String, out: &Path, pictures: &mut Vec<Picture>) -> Outcome {
    if !bars.groups.is_empty() {
        bars::draw(&bars, &out.join(&file))?;
        pictures.push(Picture { title: bars.title, file });
    }
    Ok(())
}

/// Bytes on disk for each of the user.
fn disk(lives: &space::Lives, out: &Path, pictures: &mut Vec<Picture>) -> Outcome {
    let stores = lives.stores();
    let group = |phase: &String| {
        let bar =
            |store: &String| Some((store.clone(), lives.per_byte(phase, store)?.0, String::new()));
        Group { label: phase.clone(), bars: stores.iter().filter_map(bar).collect() }
    };
    let (entries, bytes) = (lives.entries, lives.entry_bytes);
    let bars = Bars {
        title: format!("{}: {} entries of {} bytes", lives.workload, count(entries), count(bytes)),
        note: "bytes on disk for each byte of keys and values; less is better".to_owned(),
        at_one: "as much as the user's data".to_owned(),
        groups: lives.phases.iter().map(group).filter(|group| !group.bars.is_empty()).collect(),
    };
    let file = format!("{}-{bytes}-{entries}.svg", slug(&lives.workload));
    save_bars(bars, file, out, pictures)
}

/// Time over the length of values. Where a length was measured with several
/// numbers of entries, the smallest counts.
fn values(tables: &[Table]) -> Vec<Lines> {
    let mut by_name: BTreeMap<(String, u64), BTreeMap<u64, &Row>> = BTreeMap::new();
    for table in tables {
        for row in table.rows.iter().filter(|row| row.threads <= 1) {
            let rows = by_name.entry((row.workload.clone(), table.shape.key_bytes)).or_default();
            rows.entry(table.shape.value_bytes).or_insert(row);
        }
    }
    let several = by_name.into_iter().filter(|(_, rows)| rows.len() > 1);
    several
        .map(|((workload, key_bytes), rows)| {
            let mut lines: BTreeMap<String, Vec<_>> = BTreeMap::new();
            for (bytes, row) in rows {
                for (store, cell) in &row.cells {
                    // A value of no bytes has no place on the scale.
                    let point = (bytes.max(1) as f64, cell.nanos());
                    lines.entry(store.clone()).or_default().push(point);
                }
            }
            Lines {
                file: format!("values-{}-{key_bytes}.svg", slug(&workload)),
                title: format!("{workload}, by length of values (keys of {key_bytes} bytes)"),
                note: "time of one operation, median over the rounds; lower is better".to_owned(),
                below: "bytes of a value".to_owned(),
                x_text: |bytes| count(bytes as u64),
                y_text: canvas::nanos_text,
                lines,
            }
        })
        .collect()
}

/// Throughput over threads.
fn threads(table: &Table) -> Vec<Lines> {
    let Shape { key_bytes, value_bytes, entries } = table.shape;
    let mut by_name: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in table.rows.iter().filter(|row| row.threads > 0) {
        by_name.entry(&row.workload).or_default().push(row);
    }
    let several = by_name.into_iter().filter(|(_, rows)| rows.len() > 1);
    several
        .map(|(workload, rows)| {
            let first = rows[0];
            let mut lines: BTreeMap<String, Vec<_>> = BTreeMap::new();
            for row in rows {
                for (store, cell) in &row.cells {
                    let point = (row.threads as f64, cell.per_second());
                    lines.entry(store.clone()).or_default().push(point);
                }
            }
            Lines {
                file: format!(
                    "threads-{}-{key_bytes}-{value_bytes}-{entries}.svg",
                    slug(workload)
                ),
                title: format!(
                    "{} by threads, {}",
                    first.title(),
                    first.shape_text(&table.shape)
                ),
                note: "operations of all threads in a second, median over the rounds; higher is better"
                    .to_owned(),
                below: "threads".to_owned(),
                x_text: |threads| count(threads as u64),
                y_text: canvas::tick_text,
                lines,
            }
        })
        .collect()
}

/// Saves lines.
fn save_lines(lines: &Lines, out: &Path, pictures: &mut Vec<Picture>) -> Outcome {
    let file = lines.file.clone();
    lines::draw(lines, &out.join(&file))?;
    pictures.push(Picture { title: lines.title.clone(), file });
    Ok(())
}
