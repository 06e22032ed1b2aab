//! Bytes for people: where they are, what they are.
//!
//! ```text
//!   group 2: slot 0
//!     00006440  e5 13 6a 57 4c 4c 7c 91  hash: 917c4c4c576a13e5
//!     00006448  3c 00 00 00              length: 60
//!     00006471  00 (7 times)             reserved
//! ```
//!
//! Eight bytes stand in a line; a field that is longer has its name in its
//! first one. A row of zeros is one line, however long it is.

use swissdb::inspect::Field;

use super::table::Tables;
use crate::outcome::Failure;
use crate::output::Output;
use crate::size::count;

/// Bytes of a line.
const LINE: usize = 8;
/// Zeros from this many on are counted.
const ZEROS: u64 = 5;

/// Fields as lines, one after the other.
pub struct Hex {
    within: String,
}

impl Hex {
    /// At the beginning of a part.
    pub fn new() -> Hex {
        Hex { within: String::new() }
    }

    /// Shows a field, and before it the structure that it stands in, if that
    /// is another than before.
    pub fn field(
        &mut self,
        output: &mut Output,
        tables: &Tables,
        field: &Field,
    ) -> Result<(), Failure> {
        if field.within != self.within {
            self.within.clone_from(&field.within);
            output.line(format_args!("  {}", field.within))?;
        }
        for line in lines(field) {
            output.line(line)?;
        }
        tables.damage(output, "              ", &field.damage)
    }
}

fn lines(field: &Field) -> Vec<String> {
    let meaning = match field.value.is_empty() {
        true => field.name.clone(),
        false => format!("{}: {}", field.name, field.value),
    };
    let line = |offset: u64, bytes: &str, meaning: &str| {
        let line = format!("    {offset:08x}  {bytes:<23}  {meaning}");
        line.trim_end().to_owned()
    };
    let length = field.bytes.len() as u64;
    if length == field.length && length >= ZEROS && field.bytes.iter().all(|byte| *byte == 0) {
        let is_number = !field.is_reserved() && length <= LINE as u64;
        if !is_number {
            let zeros = format!("00 ({} times)", count(length));
            return vec![line(field.offset, &zeros, &meaning)];
        }
    }
    let mut lines: Vec<String> = Vec::new();
    for (i, bytes) in field.bytes.chunks(LINE).enumerate() {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let meaning = if i == 0 { &meaning[..] } else { "" };
        lines.push(line(field.offset + (i * LINE) as u64, &hex.join(" "), meaning));
    }
    if length < field.length {
        let more = format!("... {} bytes more", count(field.length - length));
        lines.push(line(field.offset + length, &more, if length == 0 { &meaning } else { "" }));
    }
    lines
}
