//! What the operating system says about this process and about files.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

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

    /// Of the store in a directory, when the space that it takes has not changed
    /// for so long.
    pub fn at_rest(store: &Path, rest: Duration) -> crate::Outcome<Sizes> {
        let taken = |sizes: &Sizes| (sizes.tables_on_disk, sizes.log_on_disk);
        let (mut last, mut since) = (Sizes::of(store)?, Instant::now());
        while since.elapsed() < rest {
            std::thread::sleep(Duration::from_millis(100));
            // A log file that is removed just now is no reason to stop.
            let Ok(now) = Sizes::of(store) else { continue };
            if taken(&now) != taken(&last) {
                (last, since) = (now, Instant::now());
            }
        }
        Ok(last)
    }
}

/// What has to be known of the machine to read a measurement, by name.
pub fn facts(directory: &Path) -> Vec<(String, String)> {
    let first = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map(|rest| rest.trim_start_matches([':', ' ', '\t']).trim_matches('"').to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from).to_string();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seconds = now.ok().map(|time| time.as_secs().to_string());
    let facts = [
        ("cpu", first("/proc/cpuinfo", "model name")),
        ("cores", Some(cores)),
        ("memory", first("/proc/meminfo", "MemTotal")),
        ("kernel", first("/proc/sys/kernel/osrelease", "")),
        ("system", first("/etc/os-release", "PRETTY_NAME=")),
        ("file_system", file_system(directory)),
        ("load", first("/proc/loadavg", "")),
        ("seconds_since_1970", seconds),
    ];
    let known = facts.into_iter().filter_map(|(name, fact)| Some((name.to_owned(), fact?)));
    known.collect()
}

/// The kind, device and options of the file system that a directory is on.
fn file_system(directory: &Path) -> Option<String> {
    let directory = directory.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let holds = |mount: &Vec<&str>| mount.len() >= 4 && directory.starts_with(mount[1]);
    // The innermost one; of two on the same place, the later one.
    let mount = mounts.filter(holds).max_by_key(|mount| mount[1].len())?;
    Some(format!("{} on {} ({})", mount[2], mount[0], mount[3]))
}
