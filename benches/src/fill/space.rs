//! Bytes on disk for each byte of the user, over the number of entries: CSV on
//! stdout, and a picture as SVG.
//!
//! For each number of entries a store of its own is filled in random order and
//! left open and alone until the file system has reported the same size for
//! some seconds. So a point is what somebody has who stops there, whatever
//! checkpoints the way to a larger store would have brought. Two sizes are
//! recorded: everything on disk (blocks × 512 of table and log), and the same
//! with only those blocks of the table file that are in use.
//!
//! Segments grow by small steps, so that the curve should have no teeth: the
//! aim is a line that it never crosses.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use plotters::prelude::*;
use swissdb::{Db, Options};

use super::Settings;
use crate::Outcome;
use crate::chart;
use crate::data::{key, value};
use crate::machine::Sizes;
use crate::report::text::count;

/// The aim after a fill.
const AIM: f64 = 2.0;
/// The slots that are measured unless one is asked for: one that just holds
/// the pairs, and the default.
const PAYLOADS: [usize; 2] = [48, 56];
/// Bytes of a key and its value.
const PAIR: u64 = 48;
const BLOCK: u64 = 4_096;

/// What a store takes at rest.
struct Point {
    entries: u64,
    sizes: Sizes,
    /// Bytes of the table file that are in use.
    used: u64,
}

impl Point {
    /// Bytes on disk for each of the user.
    fn per_byte(&self) -> f64 {
        let taken = self.sizes.tables_on_disk + self.sizes.log_on_disk;
        taken as f64 / (self.entries * PAIR) as f64
    }

    /// The same without what the table file has in reserve.
    fn used_per_byte(&self) -> f64 {
        (self.used + self.sizes.log_on_disk) as f64 / (self.entries * PAIR) as f64
    }
}

/// A curve: the payload of the slots, and its points.
type Curve = (usize, Vec<Point>);

/// Fills stores of all sizes, one after the other.
pub fn run(settings: &Settings, from: u64, svg: &Path) -> Outcome {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "payload,entries,user_bytes,table_bytes,table_used_bytes,log_bytes,per_byte,used_per_byte"
    )?;
    let payloads = settings.payload.map_or(PAYLOADS.to_vec(), |payload| vec![payload]);
    let mut curves: Vec<Curve> = Vec::new();
    for payload in payloads {
        let mut points = Vec::new();
        for entries in numbers(from, settings.to, settings.steps) {
            let point = measure(settings, payload, entries)?;
            let Point { sizes, used, .. } = &point;
            writeln!(
                out,
                "{payload},{entries},{},{},{used},{},{:.4},{:.4}",
                entries * PAIR,
                sizes.tables_on_disk,
                sizes.log_on_disk,
                point.per_byte(),
                point.used_per_byte()
            )?;
            points.push(point);
        }
        let all = points.iter().map(Point::per_byte);
        let (low, high) = all.fold((f64::MAX, 0.0f64), |(low, high), v| (low.min(v), high.max(v)));
        eprintln!("slots of {payload}: {low:.2} to {high:.2} bytes on disk for each of the user");
        curves.push((payload, points));
    }
    plot(&curves, from, settings.to, svg)
}

/// So many steps between two numbers, each larger by the same factor.
fn numbers(from: u64, to: u64, steps: u32) -> Vec<u64> {
    let step = |i: u32| {
        let share = f64::from(i) / f64::from(steps.max(1));
        (from as f64 * (to as f64 / from as f64).powf(share)).round() as u64
    };
    (0..=steps.max(1)).map(step).collect()
}

/// Fills one store and waits until it has come to rest.
fn measure(settings: &Settings, payload: usize, entries: u64) -> Outcome<Point> {
    let path = settings.place.fresh("fill-space");
    let db = Options::new().payload(payload).open(&path)?;
    let outcome = fill(&db, entries, &path, Duration::from_secs(settings.rest));
    drop(db);
    std::fs::remove_dir_all(&path)?;
    outcome
}

fn fill(db: &Db, entries: u64, path: &Path, rest: Duration) -> Outcome<Point> {
    for i in 0..entries {
        db.insert(key(1, i), value(2, i))?;
    }
    let sizes = Sizes::at_rest(path, rest)?;
    let stats = db.stats();
    let table = stats.tables.first().ok_or("a store without a table")?;
    Ok(Point { entries, sizes, used: table.blocks_used * BLOCK })
}

/// Draws the curves and the aim.
fn plot(curves: &[Curve], from: u64, to: u64, path: &Path) -> Outcome {
    let sheet = chart::sheet(path, (1_000, 500))?;
    let highest = curves.iter().flat_map(|(_, points)| points.iter().map(Point::per_byte));
    let top = highest.fold(AIM, f64::max) * 1.4;
    let title = "swissdb: bytes on disk for each byte of the user, at rest";
    let mut chart = chart::titled(&sheet, title, 50)
        .margin_right(45)
        .build_cartesian_2d((from as f64..to as f64).log_scale(), 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc("entries of 16 + 32 bytes, filled in random order")
        .y_desc("bytes for each of the user")
        .max_light_lines(0)
        .x_label_formatter(&|entries| count(*entries as u64))
        .y_label_formatter(&|bytes| format!("{bytes:.1}"))
        .draw()?;
    let aim = chart.draw_series(LineSeries::new([(from as f64, AIM), (to as f64, AIM)], RED))?;
    chart::name(aim, "aim", RED.stroke_width(2));
    let colours = [RGBColor(213, 94, 0), RGBColor(0, 114, 178)];
    for ((payload, points), colour) in curves.iter().zip(colours) {
        let wide = colour.stroke_width(2);
        let all = points.iter().map(|point| (point.entries as f64, point.per_byte()));
        let all = chart.draw_series(LineSeries::new(all, wide))?;
        chart::name(all, format!("slots of {payload}: all on disk"), wide);
        let pale = colour.mix(0.45).stroke_width(2);
        let used = points.iter().map(|point| (point.entries as f64, point.used_per_byte()));
        let used = chart.draw_series(LineSeries::new(used, pale))?;
        chart::name(used, format!("slots of {payload}: blocks in use and log"), pale);
    }
    chart::legend(&mut chart)?;
    sheet.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn numbers_of_entries_grow_by_the_same_factor() {
        assert_eq!(numbers(1_000, 4_000, 2), [1_000, 2_000, 4_000]);
        assert_eq!(numbers(1_000, 8_000, 3), [1_000, 2_000, 4_000, 8_000]);
    }
}
