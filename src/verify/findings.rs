//! The violations found so far, and the counts.
//!
//! The list is bounded, for a store in which everything is wrong. What lies in
//! memory is checked after the files and often is the same bytes: a violation
//! that stands in the list already, at the same place, is not told twice.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::error::Corruption;
use crate::format::BLOCK;

use super::{Checked, Report, Violation};

/// Violations that are listed at most.
const LISTED: usize = 10_000;

/// A report in the making.
#[derive(Default)]
pub(super) struct Findings {
    report: Report,
    /// Where the listed violations are.
    places: HashSet<(&'static str, PathBuf, u64)>,
    /// The blocks of files in which they are.
    blocks: HashSet<(PathBuf, u64)>,
}

impl Findings {
    /// Adds a violation, unless there is one of the same invariant at the same
    /// place. Offset 0 is many places.
    pub(super) fn add(
        &mut self,
        invariant: &'static str,
        path: &Path,
        offset: u64,
        text: impl Into<String>,
    ) {
        if self.report.violations.len() >= LISTED {
            self.report.unlisted += 1;
            return;
        }
        let place = (invariant, path.to_path_buf(), offset);
        if offset != 0 && !self.places.insert(place) {
            return;
        }
        self.blocks.insert((path.to_path_buf(), offset / BLOCK as u64));
        let (path, text) = (path.to_path_buf(), text.into());
        self.report.violations.push(Violation { invariant, path, offset, text });
    }

    /// Adds damage as an error tells of it.
    pub(super) fn add_corruption(&mut self, invariant: &'static str, damage: Corruption) {
        let text = sentence(&damage);
        self.add(invariant, &damage.path, damage.offset, text);
    }

    /// Adds damage that reading came across, unless a violation in that block
    /// of the file tells of it.
    pub(super) fn add_if_new(&mut self, invariant: &'static str, damage: Corruption) {
        let place = (damage.path.clone(), damage.offset / BLOCK as u64);
        if !self.blocks.contains(&place) {
            self.add_corruption(invariant, damage);
        }
    }

    /// Adds that a file could not be read, unless a violation in it tells of the
    /// same error.
    pub(super) fn add_unread(
        &mut self,
        invariant: &'static str,
        path: &Path,
        error: &std::io::Error,
    ) {
        let error = error.to_string();
        let mut told = self.report.violations.iter();
        if !told.any(|violation| violation.path == path && violation.text.ends_with(&error)) {
            self.add(invariant, path, 0, format!("it cannot be read: {error}"));
        }
    }

    /// The counts, to be added to.
    pub(super) fn checked(&mut self) -> &mut Checked {
        &mut self.report.checked
    }

    /// From now on what lies in memory is checked, and its entries and
    /// segments are those of the store.
    pub(super) fn begin_memory(&mut self) {
        (self.report.checked.entries, self.report.checked.segments) = (0, 0);
    }

    pub(super) fn into_report(self) -> Report {
        self.report
    }
}

/// What is wrong, without the place.
fn sentence(damage: &Corruption) -> String {
    format!("{} should be {}, but is {}", damage.what, damage.expected, damage.found)
}
