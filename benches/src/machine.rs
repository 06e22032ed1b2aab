//! What the operating system says about this process and about files.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Memory of a process in KiB, from `/proc/self/status`.
#[derive(Serialize, Deserialize, Clone, Copy, Debug)]
pub struct Memory {
    /// The most that was resident at once.
    pub peak_kib: u64,
    /// Resident now, and of nobody else: heap and frames.
    pub private_kib: u64,
    /// Resident now as part of mapped files; the system can take it back.
    pub file_kib: u64,
}

impl Memory {
    /// Of this process now; zeros where `/proc` does not tell.
    pub fn now() -> Memory {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
        };
        Memory {
            peak_kib: field("VmHWM:"),
            private_kib: field("RssAnon:"),
            file_kib: field("RssFile:") + field("RssShmem:"),
        }
    }
}

/// The size of the files of a store in bytes.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default)]
pub struct Sizes {
    /// Table files, by their length.
    pub tables: u64,
    /// Table files, by the space they take.
    pub tables_on_disk: u64,
    /// Log files, by their length.
    pub log: u64,
    /// Log files, by the space they take.
    pub log_on_disk: u64,
}

impl Sizes {
    /// Of the store in a directory.
    pub fn of(store: &Path) -> crate::Outcome<Sizes> {
        let mut sizes = Sizes::default();
        for entry in fs::read_dir(store)? {
            let metadata = entry?.metadata()?;
            if metadata.is_file() {
                sizes.tables += metadata.len();
                sizes.tables_on_disk += metadata.blocks() * 512;
            }
        }
        for entry in fs::read_dir(store.join("log"))? {
            let metadata = entry?.metadata()?;
            sizes.log += metadata.len();
            sizes.log_on_disk += metadata.blocks() * 512;
        }
        Ok(sizes)
    }
}
