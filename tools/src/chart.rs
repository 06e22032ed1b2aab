//! Histograms drawn as text.
//!
//! One line per range: the range, how many values lie in it, what part of all
//! that is, and a bar. The longest bar belongs to the fullest range. A range
//! with a value in it has a mark, however few there are.
//!
//! ```text
//!      24        112    5.6 %  ##
//!   25-28      1,879   94.4 %  ##############################
//! ```
//!
//! People at a terminal get bars in eighths of a column; anybody else gets
//! plain signs that survive every pipe.

use swissdb::Histogram;

use crate::size::count;

/// Columns of the longest bar.
const WIDTH: usize = 30;
/// Lines of a chart that shows every bucket; one that would have more shows a
/// line for each power of two.
const MOST_LINES: usize = 12;

/// What bars are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bars {
    /// Unicode blocks, in steps of an eighth.
    Blocks,
    /// `#`, in whole steps.
    Plain,
}

/// The lines of a chart; none if nothing was counted.
pub fn draw(histogram: &Histogram, bars: Bars) -> Vec<String> {
    let rows = rows(histogram);
    let most = rows.iter().map(|row| row.count).max().unwrap_or(1);
    let labels: Vec<String> = rows.iter().map(Row::label).collect();
    let label_width = labels.iter().map(String::len).max().unwrap_or(0);
    let count_width = count(most).len();
    let line = |(row, label): (&Row, &String)| {
        let share = row.count as f64 / histogram.count() as f64 * 100.0;
        let (number, bar) = (count(row.count), bar(row.count, most, bars));
        let line = format!("{label:>label_width$}  {number:>count_width$}  {share:>5.1} %  {bar}");
        line.trim_end().to_owned()
    };
    rows.iter().zip(&labels).map(line).collect()
}

/// A range of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    low: u64,
    high: u64,
    count: u64,
}

impl Row {
    fn label(&self) -> String {
        match self.low == self.high {
            true => count(self.low),
            false => format!("{}-{}", count(self.low), count(self.high)),
        }
    }
}

/// The buckets in which something was counted, or the powers of two if there
/// are too many of these.
fn rows(histogram: &Histogram) -> Vec<Row> {
    let fine = histogram.buckets().map(|b| Row { low: b.low, high: b.high, count: b.count });
    let fine: Vec<Row> = fine.collect();
    if fine.len() <= MOST_LINES {
        return fine;
    }
    let mut coarse: Vec<Row> = Vec::new();
    for row in fine {
        // What lies between two values without a value of its own is shown too.
        while coarse.last().is_none_or(|last| last.high < row.low) {
            let next = coarse.last().map_or(row.low, |last| last.high + 1);
            let (low, high) = octave(next);
            coarse.push(Row { low, high, count: 0 });
        }
        if let Some(last) = coarse.last_mut() {
            last.count += row.count;
        }
    }
    coarse
}

/// The range from one power of two (exclusive) to the next that a value is in.
fn octave(value: u64) -> (u64, u64) {
    match value.checked_next_power_of_two() {
        _ if value == 0 => (0, 0),
        Some(high) => (high / 2 + 1, high),
        None => ((1 << 63) + 1, u64::MAX),
    }
}

fn bar(part: u64, of: u64, bars: Bars) -> String {
    let share = part as f64 / of as f64;
    match bars {
        _ if part == 0 => String::new(),
        Bars::Plain => "#".repeat(((share * WIDTH as f64).round() as usize).max(1)),
        Bars::Blocks => {
            let eighths = ((share * (8 * WIDTH) as f64).round() as usize).max(1);
            let mut bar = "█".repeat(eighths / 8);
            bar.extend(['▏', '▎', '▍', '▌', '▋', '▊', '▉'].get((eighths % 8).wrapping_sub(1)));
            bar
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = (u64, u64)>) -> Histogram {
        let mut histogram = Histogram::new();
        values.into_iter().for_each(|(value, times)| histogram.add_many(value, times));
        histogram
    }

    #[test]
    fn every_range_has_a_line_with_its_count_its_share_and_a_bar() {
        let lines = draw(&of([(1, 4000), (2, 1000), (3, 1), (26, 999)]), Bars::Plain);
        assert_eq!(
            lines,
            [
                "    1  4,000   66.7 %  ##############################",
                "    2  1,000   16.7 %  ########",
                "    3      1    0.0 %  #",
                "25-28    999   16.7 %  #######",
            ]
        );
    }

    #[test]
    fn blocks_show_eighths() {
        let lines = draw(&of([(1, 240), (2, 13), (3, 1), (4, 16)]), Bars::Blocks);
        let bars: Vec<_> = lines.iter().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(bars, [&"█".repeat(30)[..], "█▋", "▏", "██"]);
    }

    #[test]
    fn a_chart_of_many_ranges_shows_powers_of_two() {
        let lines = draw(&of((0..=40).chain([100, 65, 300]).map(|v| (v, 1))), Bars::Plain);
        let labels: Vec<_> =
            lines.iter().map(|line| line.split_whitespace().next().unwrap()).collect();
        let expected =
            ["0", "1", "2", "3-4", "5-8", "9-16", "17-32", "33-64", "65-128", "129-256", "257-512"];
        assert_eq!(labels, expected);
        let counts: Vec<_> =
            lines.iter().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
        assert_eq!(counts, ["1", "1", "1", "2", "4", "8", "16", "8", "2", "0", "1"]);
        assert_eq!(lines[9], "129-256   0    0.0 %");
    }

    #[test]
    fn powers_of_two_reach_the_largest_value() {
        assert_eq!(octave(0), (0, 0));
        assert_eq!(octave(1), (1, 1));
        assert_eq!(octave(2), (2, 2));
        assert_eq!(octave(17), (17, 32));
        assert_eq!(octave(u64::MAX), ((1 << 63) + 1, u64::MAX));
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert!(draw(&Histogram::new(), Bars::Plain).is_empty());
    }
}
