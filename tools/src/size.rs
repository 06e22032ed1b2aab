//! Sizes and counts on the command line: `65536`, `64K`, `2M`, `1G`.
//!
//! The letters mean powers of 1024, in either case; `KB` and `KiB` are the
//! same as `K`. There are no fractions and no negative sizes.

/// Reads a size in bytes.
pub fn parse(text: &str) -> Result<usize, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start().to_ascii_uppercase();
    let shift = match unit.strip_suffix("IB").or(unit.strip_suffix('B')).unwrap_or(&unit) {
        "" if unit != "IB" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(reason(text)),
    };
    let number: usize = number.parse().map_err(|_| reason(text))?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("{text} bytes are more than a machine has"))
}

/// Reads how many of something there are to be.
pub fn parse_count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is no number of entries; write 0, 1, 2 and so on"))
}

fn reason(text: &str) -> String {
    format!("{text:?} is no size; write a whole number of bytes, or one followed by K, M, G or T")
}

/// Shows a size the way people read it: `812 B`, `1.5 MiB`.
pub fn show(bytes: u64) -> String {
    let mut unit = 0;
    let mut scaled = bytes as f64;
    while scaled >= 1024.0 && unit < UNITS.len() - 1 {
        scaled /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{scaled:.1} {}", UNITS[unit]),
    }
}

const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// Shows a count with a comma between thousands: `63,436`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, size) in [
            ("0", 0),
            ("65536", 65_536),
            ("512B", 512),
            ("64K", 65_536),
            ("64k", 65_536),
            ("2M", 2 << 20),
            ("2MB", 2 << 20),
            ("2 MiB", 2 << 20),
            ("3G", 3 << 30),
        ] {
            assert_eq!(parse(text), Ok(size), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in
            ["", "K", "iB", "-1", "1.5M", "64Q", "64KK", "64 K B", "0x10", "99999999999999999999"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("99999999999T").unwrap_err().contains("more than a machine has"));
    }

    #[test]
    fn sizes_and_counts_are_shown_for_people() {
        assert_eq!(show(0), "0 B");
        assert_eq!(show(1023), "1023 B");
        assert_eq!(show(1536), "1.5 KiB");
        assert_eq!(show(64 << 20), "64.0 MiB");
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(63_436), "63,436");
        assert_eq!(count(1_234_567), "1,234,567");
    }
}
