//! Medians with their extremes, as JSON and as text.

use serde::Serialize;

/// The median of some measurements, with the smallest and the largest.
#[derive(Serialize, Clone, Copy)]
pub struct Spread {
    /// The middle one; of an even number the mean of the middle two.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of at least one measurement; zeros without any.
    pub fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else {
            return Spread { median: 0.0, min: 0.0, max: 0.0 };
        };
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => (values[middle - 1] + values[middle]) / 2.0,
        };
        Spread { median, min, max }
    }

    /// As "median (min-max)", with so many decimal places.
    pub fn text(&self, places: usize) -> String {
        format!("{:.places$} ({:.places$}-{:.places$})", self.median, self.min, self.max)
    }
}

/// Prints one line of JSON to stdout.
pub fn print_json(line: &impl Serialize) -> crate::Outcome {
    println!("{}", serde_json::to_string(line)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_median_is_the_middle_one_or_the_mean_of_two() {
        let spread = Spread::of(vec![5.0, 1.0, 3.0]);
        assert_eq!((spread.median, spread.min, spread.max), (3.0, 1.0, 5.0));
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Spread::of(vec![]).median, 0.0);
        assert_eq!(Spread::of(vec![2.0]).text(1), "2.0 (2.0-2.0)");
    }
}
