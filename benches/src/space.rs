//! The space a store takes, from filling it to compacting and refilling it:
//! JSON Lines on stdout, a table for people on stderr.
//!
//! Three stores are taken through the same life, one after the other: pairs of
//! 16 and 32 bytes in slots of 56 and of 48 bytes, and values of 1 KiB. After
//! each phase the store is left alone until the file system reports the same
//! size for `--rest` seconds (blocks × 512 of tables and log); that is the size
//! of an open store that nobody writes to. It has to be longer than a store
//! waits before it comes to rest, which it does in two steps of five seconds.
//! "used" are the blocks of the table file that are in use, which
//! do not depend on that. `tests/space` asserts bounds for the same at a smaller
//! size.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use swissdb::{Db, Options};

use crate::data::{key, mix, value};
use crate::machine::Sizes;
use crate::summary::print_json;
use crate::{Outcome, Place};

/// The settings of this measurement.
#[derive(Args)]
pub struct Settings {
    /// Number of entries
    #[arg(long, default_value_t = 1_000_000)]
    entries: u64,
    /// Largest log file of the stores in MiB
    #[arg(long, default_value_t = 64)]
    max_log_file: u64,
    /// Seconds without a change of size until a store counts as at rest
    #[arg(long, default_value_t = 15)]
    rest: u64,
    /// Only stores in whose name this occurs
    #[arg(long, default_value = "")]
    only: String,
    /// Only the first phase
    #[arg(long)]
    fill_only: bool,
    /// Instead of that: time bursts of so many writes, into a store at rest and
    /// into one that is not
    #[arg(long)]
    burst: Option<u64>,
    #[command(flatten)]
    place: Place,
}

/// A store whose space is measured.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    payload: usize,
    /// The length of a value.
    length: usize,
}

const KINDS: [Kind; 3] = [
    Kind { name: "48-byte pairs in 56", payload: 56, length: 32 },
    Kind { name: "48-byte pairs in 48", payload: 48, length: 32 },
    Kind { name: "values of 1 KiB", payload: 56, length: 1_024 },
];

/// The size of a store after one phase.
#[derive(Serialize)]
struct Line {
    bench: &'static str,
    store: &'static str,
    phase: &'static str,
    entries: u64,
    /// Bytes of keys and values.
    user_bytes: u64,
    sizes: Sizes,
    /// Bytes of the table file that are in use.
    used: u64,
    /// Bytes on disk for each of the user's.
    per_byte: f64,
    utilisation: f64,
    /// How long the phase took, without the wait for rest.
    seconds: f64,
}

/// Takes all stores through their lives.
pub fn run(settings: &Settings) -> Outcome {
    for kind in KINDS.into_iter().filter(|kind| kind.name.contains(&settings.only)) {
        eprintln!(
            "\n{}, {} entries\n{:<13}{:>10}{:>10}{:>11}{:>11}{:>10}{:>8}{:>9}",
            kind.name,
            settings.entries,
            "",
            "entries",
            "used MB",
            "table MB",
            "log MB",
            "per byte",
            "util.",
            "s"
        );
        let path = settings.place.fresh("space");
        let outcome = match settings.burst {
            Some(writes) => bursts(settings, kind, &path, writes),
            None => life(settings, kind, &path),
        };
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        outcome?;
    }
    Ok(())
}

/// Bursts of writes: the first ones into an empty store; and into a full one,
/// three in turns that has come to rest before or is just being written to.
fn bursts(settings: &Settings, kind: Kind, path: &Path, writes: u64) -> Outcome {
    let options = Options::new().payload(kind.payload).max_log_file(settings.max_log_file << 20);
    let db = options.open(path)?;
    let put = |from: u64, to: u64, round: u64| -> Outcome {
        (from..to).try_for_each(|i| {
            let i = i % settings.entries;
            Ok(db.insert(key(1, i), value(round, i))?)
        })
    };
    let burst = |name: &str, from: u64, round: u64| -> Outcome {
        let start = Instant::now();
        put(from, from + writes, round)?;
        let seconds = start.elapsed().as_secs_f64();
        eprintln!("{name:<24}{writes:>10} writes{seconds:>9.3} s");
        print_json(&serde_json::json!({
            "bench": "space bursts", "store": kind.name, "burst": name,
            "writes": writes, "seconds": seconds,
        }))
    };
    burst("into an empty store", 0, 2)?;
    put(writes, settings.entries, 2)?;
    for round in 3..6 {
        Sizes::at_rest(path, Duration::from_secs(settings.rest))?;
        burst("into a store at rest", writes * 7 * round, round)?;
        burst("right after that", writes * 7 * round + writes, round)?;
    }
    Ok(db.close()?)
}

/// One store from its first entry on.
fn life(settings: &Settings, kind: Kind, path: &Path) -> Outcome {
    let options = Options::new().payload(kind.payload).max_log_file(settings.max_log_file << 20);
    let db = options.open(path)?;
    let (entries, rest) = (settings.entries, Duration::from_secs(settings.rest));
    let insert = |db: &Db, round: u64, stays: fn(u64) -> bool| -> Outcome {
        let mut bytes = vec![0; kind.length];
        for i in (0..entries).filter(|i| stays(*i)) {
            let start = value(round, i);
            bytes.chunks_mut(32).for_each(|chunk| chunk.copy_from_slice(&start[..chunk.len()]));
            db.insert(key(1, i), &bytes)?;
        }
        Ok(())
    };
    let phase = |db: &Db, name, work: &dyn Fn() -> Outcome| -> Outcome {
        let start = Instant::now();
        work()?;
        measure(db, kind, path, name, start.elapsed(), rest)
    };
    phase(&db, "filled", &|| insert(&db, 2, |_| true))?;
    if settings.fill_only {
        return Ok(db.close()?);
    }
    phase(&db, "overwritten", &|| (3..6).try_for_each(|round| insert(&db, round, |_| true)))?;
    phase(&db, "thinned", &|| {
        for i in (0..entries).filter(|i| !mix(*i).is_multiple_of(4)) {
            db.remove(key(1, i))?;
        }
        Ok(())
    })?;
    phase(&db, "compacted", &|| Ok(db.compact().map(drop)?))?;
    db.close()?;
    let start = Instant::now();
    let db = options.open(path)?;
    measure(&db, kind, path, "reopened", start.elapsed(), rest)?;
    phase(&db, "refilled", &|| insert(&db, 9, |i| !mix(i).is_multiple_of(4)))?;
    phase(&db, "recompacted", &|| Ok(db.compact().map(drop)?))?;
    Ok(db.close()?)
}

/// Prints what a store takes when it has come to rest.
fn measure(
    db: &Db,
    kind: Kind,
    path: &Path,
    phase: &'static str,
    took: Duration,
    rest: Duration,
) -> Outcome {
    let sizes = Sizes::at_rest(path, rest)?;
    let stats = db.stats();
    let table = stats.tables.first().ok_or("a store without a table")?;
    let user_bytes = table.entries * (16 + kind.length as u64);
    let taken = sizes.tables_on_disk + sizes.log_on_disk;
    let line = Line {
        bench: "space",
        store: kind.name,
        phase,
        entries: table.entries,
        user_bytes,
        sizes,
        used: table.blocks_used * 4096,
        per_byte: taken as f64 / user_bytes.max(1) as f64,
        utilisation: table.utilisation(),
        seconds: took.as_secs_f64(),
    };
    let mb = |bytes: u64| bytes as f64 / 1e6;
    eprintln!(
        "{phase:<13}{:>10}{:>10.1}{:>11.1}{:>11.1}{:>10.2}{:>8.3}{:>9.2}",
        line.entries,
        mb(line.used),
        mb(sizes.tables_on_disk),
        mb(sizes.log_on_disk),
        line.per_byte,
        line.utilisation,
        line.seconds
    );
    print_json(&line)
}
