//! A sheet to draw on in pixels, and logarithmic scales.
//!
//! Charts with a dozen labels of their own leave little to the ready-made axes of
//! a plotting crate: here every label has a place that is computed, so that no
//! two of them meet. SVG knows the width of a text only when it is shown; it is
//! estimated here, on the wide side.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Outcome;
use crate::chart::{self, Sheet};

/// A point in pixels, from the upper left corner.
pub type Point = (i32, i32);

/// Of titles and other texts.
pub const INK: RGBColor = RGBColor(30, 30, 30);
/// Of notes.
pub const GREY: RGBColor = RGBColor(90, 90, 90);
/// Of lines that help the eye.
pub const FAINT: RGBColor = RGBColor(225, 225, 225);

/// The sizes of texts, in pixels of the font.
pub const TITLE: i32 = 17;
pub const LABEL: i32 = 13;
pub const SMALL: i32 = 11;

/// Where a text stands to its point; its middle is always at the point's height.
#[derive(Clone, Copy)]
pub enum Anchor {
    Left,
    Middle,
    Right,
}

/// A picture that is being drawn.
pub struct Canvas<'a> {
    sheet: Sheet<'a>,
}

impl<'a> Canvas<'a> {
    /// A white sheet that becomes a file.
    pub fn new(file: &'a Path, width: i32, height: i32) -> Outcome<Canvas<'a>> {
        let size = (width.max(1) as u32, height.max(1) as u32);
        Ok(Canvas { sheet: chart::sheet(file, size)? })
    }

    /// Writes the file.
    pub fn finish(self) -> Outcome {
        Ok(self.sheet.present()?)
    }

    pub fn text(
        &self,
        at: Point,
        text: &str,
        size: i32,
        anchor: Anchor,
        colour: RGBColor,
    ) -> Outcome {
        let h_pos = match anchor {
            Anchor::Left => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::Right => HPos::Right,
        };
        // The crate writes sizes of fonts smaller by this factor.
        let font = ("sans-serif", f64::from(size) * 1.24).into_font();
        let style = font.color(&colour).pos(Pos::new(h_pos, VPos::Center));
        Ok(self.sheet.draw_text(text, &style, at)?)
    }

    pub fn line(&self, points: Vec<Point>, colour: RGBColor, width: u32) -> Outcome {
        Ok(self.sheet.draw(&PathElement::new(points, colour.stroke_width(width)))?)
    }

    pub fn bar(&self, from: Point, to: Point, colour: RGBColor) -> Outcome {
        Ok(self.sheet.draw(&Rectangle::new([from, to], colour.filled()))?)
    }

    /// A mark of a kind of its own for each number.
    pub fn mark(&self, (x, y): Point, number: usize, colour: RGBColor) -> Outcome {
        let polygon = |corners: &[Point]| {
            let corners: Vec<_> = corners.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
            self.sheet.draw(&Polygon::new(corners, colour.filled()))
        };
        match number % 11 {
            0 => self.sheet.draw(&Circle::new((x, y), 5, colour.filled()))?,
            1 => polygon(&[(-4, -4), (4, -4), (4, 4), (-4, 4)])?,
            2 => polygon(&[(0, -5), (5, 4), (-5, 4)])?,
            3 => polygon(&[(0, 5), (5, -4), (-5, -4)])?,
            4 => polygon(&[(0, -6), (5, 0), (0, 6), (-5, 0)])?,
            5 => polygon(&[(-6, -1), (6, -1), (6, 2), (-6, 2)])?,
            6 => polygon(&[(-1, -6), (2, -6), (2, 6), (-1, 6)])?,
            7 => self.sheet.draw(&Circle::new((x, y), 4, colour.stroke_width(2)))?,
            8 => self.line(
                vec![(x - 4, y - 4), (x + 4, y + 4), (x, y), (x - 4, y + 4), (x + 4, y - 4)],
                colour,
                2,
            )?,
            9 => self.line(
                vec![
                    (x - 4, y - 4),
                    (x + 4, y - 4),
                    (x + 4, y + 4),
                    (x - 4, y + 4),
                    (x - 4, y - 4),
                ],
                colour,
                2,
            )?,
            _ => {
                self.line(vec![(x, y - 5), (x + 5, y + 4), (x - 5, y + 4), (x, y - 5)], colour, 2)?
            }
        }
        Ok(())
    }
}

/// About how wide a text is, rather too wide.
pub fn width(text: &str, size: i32) -> i32 {
    text.chars().count() as i32 * size * 6 / 10 + 2
}

/// A logarithmic scale over pixels.
pub struct Scale {
    low: f64,
    high: f64,
    from: i32,
    to: i32,
}

impl Scale {
    /// From the smallest to the largest of some values, with a little room; both
    /// ends in pixels.
    pub fn of(values: impl Iterator<Item = f64>, from: i32, to: i32) -> Scale {
        let sound = values.filter(|value| value.is_finite() && *value > 0.0);
        let (low, high) =
            sound.fold((f64::MAX, 0.0f64), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if high > 0.0 { (low / 1.05, high * 1.05) } else { (0.5, 2.0) };
        Scale { low, high, from, to }
    }

    /// Where a value stands.
    pub fn at(&self, value: f64) -> i32 {
        let share = (value.max(self.low) / self.low).ln() / (self.high / self.low).ln();
        self.from + (f64::from(self.to - self.from) * share.min(1.0)).round() as i32
    }

    /// Round values that lie on the scale: powers of ten, and between them what
    /// fits where there are only few.
    pub fn ticks(&self) -> Vec<f64> {
        let between: &[f64] = match (self.high / self.low).log10() {
            decades if decades > 2.5 => &[1.0],
            decades if decades > 0.9 => &[1.0, 2.0, 5.0],
            _ => &[1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
        };
        let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let ticks = decades.flat_map(|d| between.iter().map(move |b| b * 10f64.powi(d)));
        ticks.filter(|tick| (self.low..=self.high).contains(tick)).collect()
    }
}

/// A value at a tick, without needless digits.
pub fn tick_text(value: f64) -> String {
    let (unit, scaled) = match value {
        v if v >= 0.999e9 => (" G", v / 1e9),
        v if v >= 0.999e6 => (" M", v / 1e6),
        v if v >= 0.999e3 => (" k", v / 1e3),
        v => ("", v),
    };
    let text = match scaled {
        s if s >= 100.0 => format!("{s:.0}"),
        s if s >= 1.0 => format!("{s:.1}"),
        s => format!("{s:.6}"),
    };
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{unit}")
}

/// Nanoseconds at a tick, in the unit that people would take.
pub fn nanos_text(nanos: f64) -> String {
    match nanos {
        n if n >= 0.999e9 => format!("{} s", tick_text(n / 1e9)),
        n if n >= 0.999e6 => format!("{} ms", tick_text(n / 1e6)),
        n if n >= 0.999e3 => format!("{} us", tick_text(n / 1e3)),
        n => format!("{} ns", tick_text(n)),
    }
}
