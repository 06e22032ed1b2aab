//! What the charts of single measurements have in common: the sheet, the head,
//! and the names of the curves.
//!
//! What is different stays with them: axes, and what is drawn between these.

use std::path::Path;

use plotters::chart::SeriesAnno;
use plotters::coord::{CoordTranslate, Shift};
use plotters::prelude::*;

use crate::Outcome;

/// What is drawn on.
pub type Sheet<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A white sheet that becomes a file when it is presented; its size in pixels.
pub fn sheet(file: &Path, size: (u32, u32)) -> Outcome<Sheet<'_>> {
    let sheet = SVGBackend::new(file, size).into_drawing_area();
    sheet.fill(&WHITE)?;
    Ok(sheet)
}

/// A chart with a title and room for labels: 40 pixels below, so many at the left.
pub fn titled<'a, 'b>(
    sheet: &'a Sheet<'b>,
    title: &str,
    left: u32,
) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut chart = ChartBuilder::on(sheet);
    chart
        .caption(title, ("sans-serif", 20))
        .margin(15)
        .x_label_area_size(40)
        .y_label_area_size(left);
    chart
}

/// Gives a curve its name, which stands beside a line like it in the [`legend`].
pub fn name<'a>(
    curve: &mut SeriesAnno<'a, SVGBackend<'_>>,
    name: impl Into<String>,
    style: impl Into<ShapeStyle>,
) {
    let style = style.into();
    curve.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
}

/// Draws the names of the curves into the upper left corner.
pub fn legend<'a, 'b: 'a, C: CoordTranslate>(
    chart: &mut ChartContext<'a, SVGBackend<'b>, C>,
) -> Outcome {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    Ok(())
}
