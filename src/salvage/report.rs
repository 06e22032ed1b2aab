//! What a salvage came to, in numbers and in sentences.
//!
//! Two kinds of damage are told apart: what was lost or is in doubt, and what was
//! made up for by other copies. It counts nothing itself.

use std::fmt;

/// What a salvage recovered and what it could not.
///
/// Printed, it is a sentence for each thing that there is something to say of.
#[must_use = "what was lost is no error: it stands in the report"]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SalvageReport {
    /// Whether it came to its end, and the new store is there. It does not if
    /// `progress` said to stop.
    pub finished: bool,
    /// Tables of the new store.
    pub tables: u64,
    /// Entries of the new store.
    pub entries: u64,
    /// Entries that were found in pages of the table files.
    pub from_pages: u64,
    /// Changes that were taken from the log.
    pub from_log: u64,
    /// Entries of which only an earlier state was found, in a page that had
    /// been replaced or may have been, because the page that replaced it is
    /// damaged: their values may be old, and some may have been removed since.
    pub from_older: u64,
    /// Copies of headers that are damaged. One is enough for each table.
    pub header_copies_damaged: u64,
    /// Roots that are damaged, of tables of which a header is left.
    pub roots_damaged: u64,
    /// Free maps that are damaged, of tables of which a header is left.
    pub free_maps_damaged: u64,
    /// Directory pages that are damaged, as far as something tells of them.
    pub directory_pages_damaged: u64,
    /// Pages that are damaged: what was in them is lost, unless it was found
    /// in the log or in an older page.
    pub pages_damaged: u64,
    /// Tables of which nobody knows how much is missing, because neither their
    /// directory nor their free map is whole.
    pub tables_in_doubt: u64,
    /// Values, or keys with their values, that are damaged in the log.
    pub values_lost: u64,
    /// The first 1,000 of them.
    pub lost: Vec<LostValue>,
    /// Log files whose first block is damaged.
    pub log_heads_damaged: u64,
    /// Commits that the tables had not taken over yet and whose records are
    /// damaged or absent.
    pub commits_lost: u64,
    /// Bytes of the log that were skipped because they are not the records that
    /// stood there.
    pub log_bytes_skipped: u64,
    /// Log files that are absent though something refers to them.
    pub log_files_missing: u64,
    /// Files that are copies of the files of other tables. Each is a table of its
    /// own in the new store, which is named after the file and has nothing of what
    /// only the log had. What is damaged in them is counted with the rest.
    pub copies: Vec<String>,
    /// Files that are called like those of tables and of which nothing was taken:
    /// no table can have the name, or another table has it.
    pub passed_over: Vec<String>,
}

/// An entry whose value is damaged in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostValue {
    /// The name of its table in the new store.
    pub table: String,
    /// Its key, if that was not lost with it.
    pub key: Option<Vec<u8>>,
}

impl SalvageReport {
    /// Whether anything was lost, or may have been. A damaged header copy, root
    /// or directory page alone loses nothing.
    pub fn lost_anything(&self) -> bool {
        let lost = [
            self.from_older,
            self.pages_damaged,
            self.tables_in_doubt,
            self.values_lost,
            self.commits_lost,
            self.log_files_missing,
        ];
        lost.iter().any(|count| *count > 0)
    }
}

impl fmt::Display for SalvageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "recovered {} in {}: {} found in pages, {} taken from the log",
            count(self.entries, "entry", "entries"),
            count(self.tables, "table", "tables"),
            self.from_pages,
            count(self.from_log, "change", "changes"),
        )?;
        let findings = [
            (self.header_copies_damaged, "header copy is damaged", "header copies are damaged"),
            (self.roots_damaged, "root is damaged", "roots are damaged"),
            (self.free_maps_damaged, "free map is damaged", "free maps are damaged"),
            (
                self.directory_pages_damaged,
                "directory page is damaged",
                "directory pages are damaged",
            ),
            (
                self.log_heads_damaged,
                "log file's header is damaged",
                "log files' headers are damaged",
            ),
            (self.pages_damaged, "page is damaged", "pages are damaged"),
            (
                self.tables_in_doubt,
                "table lacks a directory, and it is unknown how much is missing",
                "tables lack a directory, and it is unknown how much is missing",
            ),
            (self.values_lost, "value in the log is lost", "values in the log are lost"),
            (self.commits_lost, "commit is lost", "commits are lost"),
            (
                self.log_bytes_skipped,
                "byte of the log was skipped",
                "bytes of the log were skipped",
            ),
            (self.log_files_missing, "log file is missing", "log files are missing"),
            (
                self.from_older,
                "entry is from an older generation: its value may be old, or it was removed",
                "entries are from an older generation: their values may be old, or they were removed",
            ),
        ];
        for (number, one, many) in findings.into_iter().filter(|(number, ..)| *number > 0) {
            write!(f, "\n{}", count(number, one, many))?;
        }
        for file in &self.copies {
            let text = "is a copy of another table's file: it is a table of its own now, as it was";
            write!(f, "\n{} {text}", file.escape_debug())?;
        }
        for file in &self.passed_over {
            let text = "was passed over: it is the file of no table of the store";
            write!(f, "\n{} {text}", file.escape_debug())?;
        }
        f.write_str(if self.lost_anything() { "" } else { "\nnothing was lost" })
    }
}

fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
