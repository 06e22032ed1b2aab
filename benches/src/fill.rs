//! Utilisation of the slots while a store is filled: CSV on stdout, and a
//! picture as SVG.
//!
//! Doubling a whole table would make this curve swing between 0.44 and 0.79;
//! segments that grow by small steps keep it in a band, which the picture shows
//! as two lines.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use plotters::prelude::*;
use swissdb::{Db, Options};

use crate::data::{key, value};
use crate::{Outcome, Place};

/// The band that is promised from a hundred thousand entries on.
const BAND: [f64; 2] = [0.64, 0.80];

/// The settings of this measurement.
#[derive(Args)]
pub struct Settings {
    /// The first size that is recorded
    #[arg(long, default_value_t = 1_000)]
    from: u64,
    /// The last size
    #[arg(long, default_value_t = 4_000_000)]
    to: u64,
    /// Payload of a slot in bytes
    #[arg(long, default_value_t = 56)]
    payload: usize,
    /// Where the picture goes
    #[arg(long, default_value = "fill.svg")]
    svg: PathBuf,
    #[command(flatten)]
    place: Place,
}

/// Fills a store and records it.
pub fn run(settings: &Settings) -> Outcome {
    if settings.from == 0 || settings.from >= settings.to {
        return Err("--from must be at least 1 and less than --to".into());
    }
    let path = settings.place.fresh("fill");
    let db = Options::new().payload(settings.payload).open(&path)?;
    let outcome = fill(&db, settings);
    drop(db);
    std::fs::remove_dir_all(&path)?;
    let points = outcome?;
    plot(&points, settings, &settings.svg)?;
    let from = points.iter().filter(|point| point.0 >= 100_000);
    let of_band = from.map(|point| point.1);
    let (low, high) = of_band.fold((1.0f64, 0.0f64), |(low, high), u| (low.min(u), high.max(u)));
    if high > 0.0 {
        eprintln!("utilisation from 100,000 entries on: {low:.3} to {high:.3}");
    }
    eprintln!("the picture is in {}", settings.svg.display());
    Ok(())
}

/// Inserts entries and records sizes about one per cent apart.
fn fill(db: &Db, settings: &Settings) -> Outcome<Vec<(u64, f64)>> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "entries,utilisation,capacity,segments,root_depth,file_bytes")?;
    let mut points = Vec::new();
    let mut next = settings.from;
    for i in 1..=settings.to {
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
fn plot(points: &[(u64, f64)], settings: &Settings, path: &Path) -> Outcome {
    let area = SVGBackend::new(path, (1_000, 500)).into_drawing_area();
    area.fill(&WHITE)?;
    let sizes = (settings.from as f64..settings.to as f64).log_scale();
    let mut chart = ChartBuilder::on(&area)
        .caption("swissdb: utilisation while filling", ("sans-serif", 20))
        .margin(15)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d(sizes, 0.4..0.9)?;
    chart
        .configure_mesh()
        .x_desc("entries")
        .y_desc("entries per slot")
        .x_label_formatter(&|entries| format!("{entries:.0}"))
        .y_label_formatter(&|share| format!("{share:.2}"))
        .draw()?;
    for edge in BAND {
        let ends = [(settings.from as f64, edge), (settings.to as f64, edge)];
        chart.draw_series(LineSeries::new(ends, RED))?;
    }
    let curve = points.iter().map(|&(entries, share)| (entries as f64, share));
    chart.draw_series(LineSeries::new(curve, BLUE))?;
    area.present()?;
    Ok(())
}
