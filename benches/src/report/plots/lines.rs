//! Lines over a few sizes, both axes logarithmic.
//!
//! The sizes that were measured are the ticks of the lower axis. Each store has
//! a colour and a mark; the legend at the right stands in the order in which the
//! lines end, so that it reads from above as the lines do.

use std::collections::BTreeMap;
use std::path::Path;

use super::canvas::{Anchor, Canvas, FAINT, GREY, INK, LABEL, Point, SMALL, Scale, TITLE, width};
use crate::Outcome;
use crate::report::stores::{OURS, colour, mark};
use crate::summary::Spread;

/// A picture of lines.
pub struct Lines {
    /// The name of the file.
    pub file: String,
    pub title: String,
    /// What heights mean.
    pub note: String,
    /// What the lower axis counts.
    pub below: String,
    /// How a value at the lower axis is written, and one at the left.
    pub x_text: fn(f64) -> String,
    pub y_text: fn(f64) -> String,
    /// By store.
    pub lines: BTreeMap<String, Vec<(f64, Spread)>>,
}

const WIDTH: i32 = 860;
const HEIGHT: i32 = 480;
const TOP: i32 = 70;
const BOTTOM: i32 = HEIGHT - 55;
const LEFT: i32 = 75;

/// Draws them.
pub fn draw(lines: &Lines, file: &Path) -> Outcome {
    let canvas = Canvas::new(file, WIDTH, HEIGHT)?;
    let names = lines.lines.keys().map(|store| width(store, LABEL)).max().unwrap_or(0);
    let right = WIDTH - names - 60;
    let points = || lines.lines.values().flatten();
    let across = Scale::of(points().map(|(x, _)| *x), LEFT + 10, right - 10);
    let heights = points().flat_map(|(_, spread)| [spread.min, spread.max]);
    let upward = Scale::of(heights, BOTTOM - 10, TOP + 10);
    canvas.text((15, 20), &lines.title, TITLE, Anchor::Left, INK)?;
    canvas.text((15, 43), &lines.note, LABEL, Anchor::Left, GREY)?;
    for tick in upward.ticks() {
        let y = upward.at(tick);
        canvas.line(vec![(LEFT, y), (right, y)], FAINT, 1)?;
        canvas.text((LEFT - 8, y), &(lines.y_text)(tick), SMALL, Anchor::Right, GREY)?;
    }
    lower_axis(&canvas, lines, &across, right)?;
    // Ours last, so that it lies above the others.
    let ours_last = |store: &&String| *store == OURS;
    let (ours, others): (Vec<_>, Vec<_>) = lines.lines.keys().partition(ours_last);
    for store in others.into_iter().chain(ours) {
        one(&canvas, store, &lines.lines[store], &across, &upward)?;
    }
    legend(&canvas, lines, right)?;
    canvas.finish()
}

/// The sizes that were measured; those that stand too close get no text.
fn lower_axis(canvas: &Canvas, lines: &Lines, across: &Scale, right: i32) -> Outcome {
    let mut sizes: Vec<f64> = lines.lines.values().flatten().map(|(x, _)| *x).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let mut free = 0;
    for size in sizes {
        let (x, text) = (across.at(size), (lines.x_text)(size));
        canvas.line(vec![(x, TOP), (x, BOTTOM)], FAINT, 1)?;
        let half = width(&text, SMALL) / 2;
        if x - half > free {
            canvas.text((x, BOTTOM + 13), &text, SMALL, Anchor::Middle, GREY)?;
            free = x + half + 4;
        }
    }
    canvas.line(vec![(LEFT, BOTTOM), (right, BOTTOM)], GREY, 1)?;
    canvas.text(((LEFT + right) / 2, BOTTOM + 36), &lines.below, LABEL, Anchor::Middle, GREY)
}

/// One line with its marks and, from the smallest to the largest, its whiskers.
fn one(
    canvas: &Canvas,
    store: &str,
    points: &[(f64, Spread)],
    across: &Scale,
    upward: &Scale,
) -> Outcome {
    let colour = colour(store);
    let at: Vec<Point> = points.iter().map(|(x, y)| (across.at(*x), upward.at(y.median))).collect();
    canvas.line(at.clone(), colour, if store == OURS { 3 } else { 2 })?;
    for ((x, spread), point) in points.iter().zip(at) {
        let x = across.at(*x);
        let whisker = vec![(x, upward.at(spread.min)), (x, upward.at(spread.max))];
        canvas.line(whisker, colour, 1)?;
        canvas.mark(point, mark(store), colour)?;
    }
    Ok(())
}

/// Names at the right, the line that ends highest first.
fn legend(canvas: &Canvas, lines: &Lines, right: i32) -> Outcome {
    let last = |store: &str| lines.lines[store].last().map_or(0.0, |(_, spread)| spread.median);
    let mut stores: Vec<&str> = lines.lines.keys().map(String::as_str).collect();
    stores.sort_by(|a, b| last(b).total_cmp(&last(a)));
    for (i, store) in stores.into_iter().enumerate() {
        let y = TOP + 12 + 22 * i as i32;
        canvas.line(vec![(right + 12, y), (right + 38, y)], colour(store), 2)?;
        canvas.mark((right + 25, y), mark(store), colour(store))?;
        canvas.text((right + 46, y), store, LABEL, Anchor::Left, INK)?;
    }
    Ok(())
}
