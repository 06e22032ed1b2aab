//! Utilisation of the slots while a store is filled: CSV on stdout, and a
//! picture as SVG.
//!
//! Doubling a whole table would make this curve swing between 0.44 and 0.79;
//! segments that grow by small steps keep it in a band, which the picture shows
//! as two lines.
//!
//! With `--space` it is bytes on disk instead, of stores at rest ([`space`]).

mod space;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use plotters::prelude::*;
use swissdb::{Db, Options};

use crate::chart;
use crate::data::{key, value};
use crate::{Outcome, Place};

/// The band that is promised from a hundred thousand entries on.
const BAND: [f64; 2] = [0.64, 0.80];

/// The settings of this measurement.
#[derive(Args)]
pub struct Settings {
    /// Record bytes on disk for each of the user instead, of stores of many
    /// sizes that were filled and left alone
    #[arg(long)]
    space: bool,
    /// The first size that is recorded [default: 1000; with --space 1000000]
    #[arg(long)]
    from: Option<u64>,
    /// The last size
    #[arg(long, default_value_t = 4_000_000)]
    to: u64,
    /// Payload of a slot in bytes [default: 56; with --space 48, then 56]
    #[arg(long)]
    payload: Option<usize>,
    /// Where the picture goes [default: fill.svg; with --space fill-space.svg]
    #[arg(long)]
    svg: Option<PathBuf>,
    /// With --space: steps from the first size to the last
    #[arg(long, default_value_t = 24)]
    steps: u32,
    /// With --space: seconds without a change of size until a store counts as at
    /// rest; an idle store comes to rest in two steps of five seconds
    #[arg(long, default_value_t = 15)]
    rest: u64,
    #[command(flatten)]
    place: Place,
}

/// Fills stores and records what they take.
pub fn run(settings: &Settings) -> Outcome {
    let (from, svg) =
        if settings.space { (1_000_000, "fill-space.svg") } else { (1_000, "fill.svg") };
    let from = settings.from.unwrap_or(from);
    let svg = settings.svg.clone().unwrap_or_else(|| svg.into());
    if from == 0 || from >= settings.to {
        return Err("--from must be at least 1 and less than --to".into());
    }
    if settings.space {
        space::run(settings, from, &svg)?;
    } else {
        utilisation(settings, from, &svg)?;
    }
    eprintln!("the picture is in {}", svg.display());
    Ok(())
}

/// Utilisation while one store is filled.
fn utilisation(settings: &Settings, from: u64, svg: &Path) -> Outcome {
    let path = settings.place.fresh("fill");
    let db = Options::new().payload(settings.payload.unwrap_or(56)).open(&path)?;
    let outcome = fill(&db, from, settings.to);
    drop(db);
    std::fs::remove_dir_all(&path)?;
    let points = outcome?;
    plot(&points, from, settings.to, svg)?;
    let large = points.iter().filter(|point| point.0 >= 100_000);
    let of_band = large.map(|point| point.1);
    let (low, high) = of_band.fold((1.0f64, 0.0f64), |(low, high), u| (low.min(u), high.max(u)));
    if high > 0.0 {
        eprintln!("utilisation from 100,000 entries on: {low:.3} to {high:.3}");
    }
    Ok(())
}

/// Inserts entries and records sizes about one per cent apart.
fn fill(db: &Db, from: u64, to: u64) -> Outcome<Vec<(u64, f64)>> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "entries,utilisation,capacity,segments,root_depth,file_bytes")?;
    let mut points = Vec::new();
    let mut next = from;
    for i in 1..=to {
        db.insert(key(1, i), value(2, i))?;
        if i < next {
            continue;
        }
        next += (next / 100).max(1);
        let stats = db.stats();
        let table = stats.tables.first().ok_or("a store without a table")?;
        let utilisation = table.utilisation();
        writeln!(
            out,
            "{i},{utilisation:.4},{},{},{},{}",
            table.capacity, table.segments, table.root_depth, table.file_bytes
        )?;
        points.push((i, utilisation));
    }
    Ok(points)
}

/// Draws the curve and the band.
fn plot(points: &[(u64, f64)], from: u64, to: u64, path: &Path) -> Outcome {
    let sheet = chart::sheet(path, (1_000, 500))?;
    let sizes = (from as f64..to as f64).log_scale();
    let mut chart = chart::titled(&sheet, "swissdb: utilisation while filling", 50)
        .build_cartesian_2d(sizes, 0.4..0.9)?;
    chart
        .configure_mesh()
        .x_desc("entries")
        .y_desc("entries per slot")
        .x_label_formatter(&|entries| format!("{entries:.0}"))
        .y_label_formatter(&|share| format!("{share:.2}"))
        .draw()?;
    for edge in BAND {
        let ends = [(from as f64, edge), (to as f64, edge)];
        chart.draw_series(LineSeries::new(ends, RED))?;
    }
    let curve = points.iter().map(|&(entries, share)| (entries as f64, share));
    chart.draw_series(LineSeries::new(curve, BLUE))?;
    sheet.present()?;
    Ok(())
}
