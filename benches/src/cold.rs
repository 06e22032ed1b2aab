//! Reads of pages that are not in memory, one by one and many at once.
//!
//! A store is filled and closed. For each measurement its files are dropped from
//! the page cache (by `dd iflag=nocache`, for this store only), it is opened, and
//! random keys are read: with `get`, or with `multi_get` by so many. `again` reads
//! as many other keys in the same opening, when most of the pages were read once:
//! with a limit on memory (`systemd-run --scope -p MemoryMax=…`) below the size of
//! the table these are pages that the kernel has dropped since.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use swissdb::{Db, Options};

use crate::data::{key, mix, value};
use crate::engine::Swiss;
use crate::summary::print_json;
use crate::{Outcome, Place};

/// The settings of this measurement.
#[derive(Args)]
pub struct Settings {
    /// Number of entries
    #[arg(long, default_value_t = 2_000_000)]
    entries: u64,
    /// Keys read in each measurement
    #[arg(long, default_value_t = 20_000)]
    reads: u64,
    /// Keys in a call
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 1024])]
    by: Vec<usize>,
    /// Number of rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Write buffer of swissdb in MiB [default: its own]
    #[arg(long)]
    write_buffer: Option<usize>,
    #[command(flatten)]
    place: Place,
}

/// One measurement.
#[derive(Serialize)]
struct Line {
    bench: &'static str,
    round: usize,
    by: usize,
    entries: u64,
    reads: u64,
    first_us_per_key: f64,
    again_us_per_key: f64,
}

/// Drops what the page cache holds of the files of a directory.
pub fn drop_cache(directory: &Path) -> Outcome {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            drop_cache(&path)?;
        } else {
            let file = format!("if={}", path.display());
            let dd = Command::new("dd").args([&file, "iflag=nocache", "count=0"]).output()?;
            if !dd.status.success() {
                return Err(format!("dd could not drop {}", path.display()).into());
            }
        }
    }
    Ok(())
}

/// Reads the keys of these numbers; microseconds per key.
fn read(db: &Db, numbers: &[u64], by: usize) -> Outcome<f64> {
    let keys: Vec<_> = numbers.iter().map(|number| key(1, *number)).collect();
    let start = Instant::now();
    let mut found = 0;
    if by == 1 {
        for key in &keys {
            found += usize::from(db.get(key)?.is_some());
        }
    } else {
        for keys in keys.chunks(by) {
            found += db.multi_get(keys)?.iter().flatten().count();
        }
    }
    let time = start.elapsed();
    match found == keys.len() {
        true => Ok(time.as_secs_f64() * 1e6 / keys.len() as f64),
        false => Err(format!("{found} of {} keys were found", keys.len()).into()),
    }
}

/// Fills a store, and measures.
pub fn run(settings: &Settings) -> Outcome {
    let path = settings.place.fresh("cold");
    let options = match settings.write_buffer {
        Some(mib) => Options::new().write_buffer(mib << 20),
        None => Options::new(),
    };
    Swiss::create(&path, &options)?.close_and_keep()?;
    let db = options.open(&path)?;
    for i in 0..settings.entries {
        db.insert(key(1, i), value(2, i))?;
    }
    db.close()?;
    eprintln!("{:>8}{:>18}{:>18}", "by", "first, us/key", "again, us/key");
    for round in 0..settings.rounds {
        for (number, &by) in settings.by.iter().enumerate() {
            drop_cache(&path)?;
            let db = options.open(&path)?;
            let seed = mix((round * 100 + number) as u64);
            let numbers = |family: u64| -> Vec<u64> {
                let random = |i| mix(mix(seed ^ family) ^ i) % settings.entries;
                (0..settings.reads).map(random).collect()
            };
            let first_us_per_key = read(&db, &numbers(1), by)?;
            let again_us_per_key = read(&db, &numbers(2), by)?;
            eprintln!("{by:>8}{first_us_per_key:>18.2}{again_us_per_key:>18.2}");
            print_json(&Line {
                bench: "cold",
                round,
                by,
                entries: settings.entries,
                reads: settings.reads,
                first_us_per_key,
                again_us_per_key,
            })?;
            db.close()?;
        }
    }
    std::fs::remove_dir_all(&path)?;
    Ok(())
}
