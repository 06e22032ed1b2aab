//! Bars in groups, from a line at one to the left and right.
//!
//! On a logarithmic scale the length of a bar says something only if it begins
//! where it means "equal". So bars begin at one, and each has its name and its
//! number at its end: nobody has to compare colours.

use std::path::Path;

use super::canvas::{
    Anchor, Canvas, FAINT, GREY, INK, LABEL, SMALL, Scale, TITLE, tick_text, width,
};
use crate::Outcome;
use crate::report::stores::{OURS, colour, in_order};
use crate::report::text::number;
use crate::summary::Spread;

/// A picture of bars.
pub struct Bars {
    pub title: String,
    /// What lengths mean.
    pub note: String,
    /// What stands at one.
    pub at_one: String,
    pub groups: Vec<Group>,
}

/// The bars that stand together.
pub struct Group {
    pub label: String,
    /// By store, with a mark behind the number.
    pub bars: Vec<(String, Spread, String)>,
}

const WIDTH: i32 = 1_000;
/// From bar to bar, and between groups.
const STEP: i32 = 15;
const GAP: i32 = 14;
/// Above the first group, and below the last.
const HEAD: i32 = 112;
const FOOT: i32 = 30;

/// Draws them.
pub fn draw(bars: &Bars, file: &Path) -> Outcome {
    let rows: usize = bars.groups.iter().map(|group| group.bars.len()).sum();
    let height = HEAD + rows as i32 * STEP + bars.groups.len() as i32 * GAP + FOOT;
    let canvas = Canvas::new(file, WIDTH, height)?;
    let labels = bars.groups.iter().map(|group| width(&group.label, LABEL)).max();
    let left = labels.unwrap_or(0).min(WIDTH / 3) + 20;
    let all = || bars.groups.iter().flat_map(|group| &group.bars);
    let texts = all().map(|(store, spread, mark)| width(&bar_text(store, spread, mark), SMALL));
    let room = texts.max().unwrap_or(0) + 10;
    let is_left = all().any(|(_, spread, _)| spread.median < 1.0);
    let left_end = left + if is_left { room } else { 10 };
    let values = all().flat_map(|(_, spread, _)| [spread.min, spread.max]);
    let scale = Scale::of(values.chain([1.0]), left_end, WIDTH - 15 - room);
    heads(&canvas, bars)?;
    grid(&canvas, bars, &scale, height)?;
    let mut y = HEAD + GAP / 2;
    for (i, group) in bars.groups.iter().enumerate() {
        let tall = group.bars.len() as i32 * STEP;
        if i > 0 {
            canvas.line(vec![(10, y - GAP / 2), (WIDTH - 15, y - GAP / 2)], FAINT, 1)?;
        }
        canvas.text((left - 10, y + tall / 2), &group.label, LABEL, Anchor::Right, INK)?;
        for bar in &group.bars {
            one(&canvas, &scale, y + STEP / 2, bar)?;
            y += STEP;
        }
        y += GAP;
    }
    canvas.finish()
}

/// The title, what lengths mean, and the legend.
fn heads(canvas: &Canvas, bars: &Bars) -> Outcome {
    canvas.text((15, 20), &bars.title, TITLE, Anchor::Left, INK)?;
    canvas.text((15, 43), &bars.note, LABEL, Anchor::Left, GREY)?;
    let mut x = 15;
    let all = bars.groups.iter().flat_map(|group| &group.bars);
    for store in in_order(all.map(|(store, _, _)| store.as_str())) {
        canvas.bar((x, 61), (x + 12, 73), colour(&store))?;
        canvas.text((x + 18, 67), &store, LABEL, Anchor::Left, INK)?;
        x += 18 + width(&store, LABEL) + 10;
    }
    Ok(())
}

/// Lines for round values, the one at one darker.
fn grid(canvas: &Canvas, bars: &Bars, scale: &Scale, height: i32) -> Outcome {
    let (top, bottom) = (HEAD, height - FOOT);
    let at_one = scale.at(1.0);
    for tick in scale.ticks() {
        let x = scale.at(tick);
        canvas.line(vec![(x, top), (x, bottom)], FAINT, 1)?;
        if (x - at_one).abs() > 25 {
            canvas.text((x, top - 7), &tick_text(tick), SMALL, Anchor::Middle, GREY)?;
        }
        canvas.text((x, bottom + 12), &tick_text(tick), SMALL, Anchor::Middle, GREY)?;
    }
    canvas.line(vec![(at_one, top), (at_one, bottom)], GREY, 1)?;
    canvas.text((at_one, top - 7), "1", SMALL, Anchor::Middle, INK)?;
    let anchor = if at_one > WIDTH / 2 { Anchor::Right } else { Anchor::Left };
    canvas.text((at_one, top - 21), &format!("1 = {}", bars.at_one), SMALL, anchor, INK)
}

/// What stands at the end of a bar.
fn bar_text(store: &str, spread: &Spread, mark: &str) -> String {
    format!("{store} {}{mark}", number(spread.median))
}

/// A bar with its whisker from the smallest to the largest, and its text.
fn one(
    canvas: &Canvas,
    scale: &Scale,
    y: i32,
    (store, spread, mark): &(String, Spread, String),
) -> Outcome {
    let (at_one, end) = (scale.at(1.0), scale.at(spread.median));
    let (from, to) = (at_one.min(end) - 1, at_one.max(end) + 1);
    canvas.bar((from, y - 5), (to, y + 5), colour(store))?;
    let (least, most) = (scale.at(spread.min), scale.at(spread.max));
    if most > least {
        canvas.line(vec![(least, y), (most, y)], INK, 1)?;
    }
    let text = bar_text(store, spread, mark);
    let ink = if store == OURS { INK } else { GREY };
    match spread.median < 1.0 {
        true => canvas.text((from.min(least) - 5, y), &text, SMALL, Anchor::Right, ink),
        false => canvas.text((to.max(most) + 5, y), &text, SMALL, Anchor::Left, ink),
    }
}
