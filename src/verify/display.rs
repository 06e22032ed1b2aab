//! How a report reads: a line for each violation, one with the counts.
//!
//! It judges nothing and leaves nothing out that the report has.

use std::fmt;

use super::{Checked, Report, Violation};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for violation in &self.violations {
            writeln!(f, "{violation}")?;
        }
        if self.unlisted > 0 {
            writeln!(f, "and {} more", self.unlisted)?;
        }
        let all = self.violations.len() as u64 + self.unlisted;
        match all {
            0 => write!(f, "undamaged: {}", self.checked),
            n => write!(f, "damaged in {}: {}", Counted(n, "place"), self.checked),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { invariant, path, offset, text } = self;
        write!(f, "{} at offset {offset}: {text} [{invariant}]", path.display())
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            Counted(self.tables, "table"),
            Counted(self.entries, "entry"),
            Counted(self.segments, "segment"),
            Counted(self.directory_pages, "directory page"),
            Counted(self.pages, "page"),
            Counted(self.frames, "changed page"),
            Counted(self.spilled, "spilled entry"),
            Counted(self.log_files, "log file"),
            Counted(self.log_records, "log record"),
        ];
        for (i, part) in parts.iter().enumerate() {
            let between = if i == 0 { "" } else { ", " };
            write!(f, "{between}{part}")?;
        }
        Ok(())
    }
}

/// A number of things.
struct Counted(u64, &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counted(number, one) = self;
        match (number, one.strip_suffix('y')) {
            (1, _) => write!(f, "1 {one}"),
            (_, Some(stem)) => write!(f, "{number} {stem}ies"),
            (_, None) => write!(f, "{number} {one}s"),
        }
    }
}
