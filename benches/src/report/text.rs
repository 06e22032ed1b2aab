//! Numbers as people read them, and tables of Markdown.

use crate::summary::Spread;

/// A count, with commas between thousands.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A measured number with three digits that count, or all before the point.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => count(value.round() as u64),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.0995 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// Nanoseconds; from a million on in milliseconds, and then with the unit.
pub fn nanos(nanos: f64) -> String {
    match nanos {
        long if long >= 1e6 => format!("{} ms", number(long / 1e6)),
        short => number(short),
    }
}

/// A median of nanoseconds with its extremes, all in the unit of the median.
pub fn nanos_spread(of: &Spread) -> String {
    let Spread { median, min, max } = *of;
    match median >= 1e6 {
        true => {
            let millis = Spread { median: median / 1e6, min: min / 1e6, max: max / 1e6 };
            format!("{} ms", spread(&millis))
        }
        false => spread(of),
    }
}

/// A median with its extremes; alone where they are the same.
pub fn spread(spread: &Spread) -> String {
    match spread.min == spread.max {
        true => number(spread.median),
        false => {
            let Spread { median, min, max } = *spread;
            format!("{} ({}-{})", number(median), number(min), number(max))
        }
    }
}

/// A table of Markdown: the heads of its columns, then its rows. All columns
/// but the first are aligned to the right.
pub fn table(heads: &[String], rows: &[Vec<String>]) -> String {
    aligned(heads, rows, "---:|")
}

/// A table of words: all columns are aligned to the left.
pub fn table_of_words(heads: &[&str], rows: &[Vec<String>]) -> String {
    let heads: Vec<_> = heads.iter().map(|head| (*head).to_owned()).collect();
    aligned(&heads, rows, "---|")
}

fn aligned(heads: &[String], rows: &[Vec<String>], edge: &str) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<_> = cells.iter().map(|cell| clean(cell)).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = line(heads);
    text.push_str("|---|");
    text.push_str(&edge.repeat(heads.len().saturating_sub(1)));
    text.push('\n');
    rows.iter().for_each(|row| text.push_str(&line(row)));
    text
}

/// A text that cannot break out of its cell.
fn clean(cell: &str) -> String {
    cell.replace('|', "\\|").replace(['\n', '\r'], " ")
}
