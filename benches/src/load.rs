//! Every single insert from empty to ten million, and readers beside it.
//!
//! One thread inserts as fast as it can; each insert is timed, and whatever
//! goes on in the background goes on: growing, syncs, checkpoints, log files made
//! ahead. Readers get random entries of those inserted so far, time each get and
//! hold the value against what it must be. Making a key is not timed.
//!
//! The picture has two parts. The upper one has percentiles, from the median at
//! the left to the slowest at the right; a step to the right is ten times rarer.
//! The lower one has the slowest insert and get in each hundredth of the run, so
//! that a stall that grows with the data can be seen to grow.
//!
//! With `--watch` it is said, too, how long processors stood still, and what the
//! ten slowest inserts waited for ([`slow`](crate::slow)). That is measured by threads
//! which others meet: of the last two percentiles only those without it count.
//!
//! With fewer processors than threads the slowest times are those of the
//! scheduler, for any store: give `--readers 0` to see the writer alone.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use plotters::prelude::*;
use serde::Serialize;
use swissdb::{Db, Durability, Options, Stats};

use crate::chart::{self, Sheet};
use crate::data::{key, mix, value};
use crate::slow::{self, Pause, Slow, Watched};
use crate::summary::print_json;
use crate::{Outcome, Place};

/// The parts of the run of which the slowest operations are drawn.
const PARTS: usize = 100;

/// The settings of this measurement.
#[derive(Args)]
pub struct Settings {
    /// Number of entries
    #[arg(long, default_value_t = 10_000_000)]
    entries: u64,
    /// Number of threads that read beside the one that inserts
    #[arg(long, default_value_t = 1)]
    readers: u64,
    /// Make each insert durable before it returns
    #[arg(long)]
    sync: bool,
    /// Write buffer in MiB [default: the store's own]
    #[arg(long)]
    write_buffer: Option<usize>,
    /// Watch the processors, and say what the slowest inserts waited for: a thread on each
    /// that looks at the clock every half a millisecond, which one operation of a thousand meets
    #[arg(long)]
    watch: bool,
    /// Where the picture goes
    #[arg(long, default_value = "load.svg")]
    svg: PathBuf,
    #[command(flatten)]
    place: Place,
}

/// How long the operations of some threads took, in nanoseconds.
struct Times {
    all: Histogram<u64>,
    /// The slowest in each part of the run.
    slowest: Vec<u64>,
}

impl Times {
    fn new() -> Outcome<Times> {
        let all = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
        Ok(Times { all, slowest: vec![0; PARTS] })
    }

    /// An operation that began at that time, when so many of all entries were in.
    fn add(&mut self, since: Instant, entries: u64, all: u64) -> Duration {
        let took = since.elapsed();
        let nanos = took.as_nanos() as u64;
        self.all.saturating_record(nanos);
        let part = (entries * PARTS as u64 / all) as usize;
        let slowest = &mut self.slowest[part.min(PARTS - 1)];
        *slowest = nanos.max(*slowest);
        took
    }

    fn merge(&mut self, other: &Times) -> Outcome {
        self.all.add(&other.all)?;
        for (mine, other) in self.slowest.iter_mut().zip(&other.slowest) {
            *mine = (*other).max(*mine);
        }
        Ok(())
    }
}

/// What is printed of one kind of operation.
#[derive(Serialize)]
struct Line {
    bench: &'static str,
    what: &'static str,
    entries: u64,
    readers: u64,
    operations: u64,
    seconds: f64,
    mean: f64,
    p50: u64,
    p99: u64,
    p99_9: u64,
    p99_99: u64,
    max: u64,
}

/// What the store did meanwhile.
#[derive(Serialize)]
struct Background {
    bench: &'static str,
    what: &'static str,
    checkpoints: u64,
    syncs: u64,
    sync_seconds: f64,
    slowed_writes: u64,
    checkpoint_waits: u64,
    checkpoint_wait_seconds: f64,
    log_file_waits: u64,
    log_file_wait_seconds: f64,
    cleaner_waits: u64,
    cleaner_wait_seconds: f64,
}

/// What a run gave.
struct Measured {
    writes: Times,
    reads: Times,
    /// The slow inserts.
    slow: Vec<Slow>,
    /// When processors stood still.
    pauses: Vec<Pause>,
    seconds: f64,
    stats: Stats,
}

/// Runs the load, prints what came of it and draws it.
pub fn run(settings: &Settings) -> Outcome {
    if settings.entries == 0 {
        return Err("at least one entry is needed".into());
    }
    let path = settings.place.fresh("load");
    let outcome = measure(settings, &path);
    if path.exists() {
        std::fs::remove_dir_all(&path)?;
    }
    let Measured { writes, reads, slow, pauses, seconds, stats } = outcome?;
    report(settings, &writes, &reads, seconds, &stats)?;
    if settings.watch {
        slow::report("load", slow, &pauses)?;
    }
    plot(&[("inserts", BLUE, &writes), ("gets", RED, &reads)], settings.entries, &settings.svg)?;
    eprintln!("the picture is in {}", settings.svg.display());
    Ok(())
}

/// Inserts, with readers beside it.
fn measure(settings: &Settings, path: &Path) -> Outcome<Measured> {
    let mut options = Options::new();
    if settings.sync {
        options = options.durability(Durability::Sync);
    }
    if let Some(mib) = settings.write_buffer {
        options = options.write_buffer(mib << 20);
    }
    let db = options.open(path)?;
    let (inserted, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let (db_ref, inserted_ref, over_ref) = (&db, &inserted, &over);
    let start = Instant::now();
    let (writes, reads, pauses) = std::thread::scope(|scope| {
        let watch = settings.watch.then(|| scope.spawn(|| slow::watch(over_ref)));
        let readers: Vec<_> = (0..settings.readers)
            .map(|reader| {
                scope.spawn(move || {
                    let found = read(db_ref, settings.entries, reader, inserted_ref, over_ref);
                    found.map_err(|error| error.to_string())
                })
            })
            .collect();
        let writes = insert(&db, settings, &inserted);
        over.store(true, Ordering::Relaxed);
        let all = readers
            .into_iter()
            .map(|reader| reader.join().unwrap_or_else(|_| Err("a reader panicked".to_owned())));
        let reads = all.collect::<Result<Vec<_>, String>>();
        let pauses = watch.map(|watch| watch.join().unwrap_or_default());
        (writes, reads, pauses.unwrap_or_default())
    });
    let seconds = start.elapsed().as_secs_f64();
    let ((writes, slow), mut sum) = (writes?, Times::new()?);
    reads?.iter().try_for_each(|times| sum.merge(times))?;
    let stats = db.stats();
    db.close()?;
    Ok(Measured { writes, reads: sum, slow, pauses, seconds, stats })
}

/// Inserts all entries; says after each how many there are.
fn insert(db: &Db, settings: &Settings, inserted: &AtomicU64) -> Outcome<(Times, Vec<Slow>)> {
    let mut times = Times::new()?;
    let mut watched = settings.watch.then(|| Watched::begin(db));
    for i in 0..settings.entries {
        let (key, value) = (key(1, i), value(2, i));
        let since = Instant::now();
        db.insert(key, value)?;
        let took = times.add(since, i, settings.entries);
        if let Some(watched) = &mut watched {
            watched.note(since, took);
        }
        inserted.store(i + 1, Ordering::Release);
    }
    Ok((times, watched.map_or_else(Vec::new, Watched::end)))
}

/// Gets random entries of those inserted so far until it is over.
fn read(
    db: &Db,
    entries: u64,
    reader: u64,
    inserted: &AtomicU64,
    over: &AtomicBool,
) -> Outcome<Times> {
    let mut times = Times::new()?;
    let mut random = reader << 32;
    while !over.load(Ordering::Relaxed) {
        let there = inserted.load(Ordering::Acquire);
        if there == 0 {
            std::thread::yield_now();
            continue;
        }
        random = random.wrapping_add(1);
        let i = mix(random) % there;
        let key = key(1, i);
        let since = Instant::now();
        let found = db.get(key)?;
        times.add(since, there, entries);
        if found.as_deref() != Some(&value(2, i)[..]) {
            return Err(format!("entry {i} of {there} is not what was inserted").into());
        }
    }
    Ok(times)
}

/// Prints the lines and the table.
fn report(
    settings: &Settings,
    writes: &Times,
    reads: &Times,
    seconds: f64,
    stats: &Stats,
) -> Outcome {
    eprintln!("\n{} entries from empty, {} readers, ns", settings.entries, settings.readers);
    eprintln!(
        "{:<10}{:>12}{:>10}{:>8}{:>10}{:>10}{:>10}{:>14}",
        "", "number", "mean", "p50", "p99", "p99.9", "p99.99", "max"
    );
    for (what, Times { all, .. }) in [("inserts", writes), ("gets", reads)] {
        let at = |share| all.value_at_quantile(share);
        let (entries, readers) = (settings.entries, settings.readers);
        let (operations, mean, max) = (all.len(), all.mean(), all.max());
        let (p50, p99, p99_9, p99_99) = (at(0.5), at(0.99), at(0.999), at(0.9999));
        print_json(&Line {
            bench: "load",
            what,
            entries,
            readers,
            operations,
            seconds,
            mean,
            p50,
            p99,
            p99_9,
            p99_99,
            max,
        })?;
        eprintln!(
            "{what:<10}{operations:>12}{mean:>10.0}{p50:>8}{p99:>10}{p99_9:>10}{p99_99:>10}{max:>14}"
        );
    }
    let background = Background {
        bench: "load",
        what: "background",
        checkpoints: stats.checkpoints,
        syncs: stats.written.syncs,
        sync_seconds: stats.written.sync_time.as_secs_f64(),
        slowed_writes: stats.slowed,
        checkpoint_waits: stats.waits,
        checkpoint_wait_seconds: stats.wait_time.as_secs_f64(),
        log_file_waits: stats.log_waits,
        log_file_wait_seconds: stats.log_wait_time.as_secs_f64(),
        cleaner_waits: stats.cleaner_waits,
        cleaner_wait_seconds: stats.cleaner_wait_time.as_secs_f64(),
    };
    eprintln!(
        "meanwhile, in {seconds:.1} s: {} checkpoints, {} syncs of {:.2} s; {} inserts slowed and {} \
         stopped for a checkpoint ({:.2} s), {} for a log file ({:.2} s), {} for the cleaner ({:.2} s)",
        background.checkpoints,
        background.syncs,
        background.sync_seconds,
        background.slowed_writes,
        background.checkpoint_waits,
        background.checkpoint_wait_seconds,
        background.log_file_waits,
        background.log_file_wait_seconds,
        background.cleaner_waits,
        background.cleaner_wait_seconds
    );
    print_json(&background)
}

/// A curve: its name, its colour, what it is of.
type Curve<'a> = (&'a str, RGBColor, &'a Times);

/// Nanoseconds, as people read them.
fn nanos(nanos: f64) -> String {
    match nanos {
        n if n < 1e3 => format!("{n:.0} ns"),
        n if n < 1e6 => format!("{:.0} us", n / 1e3),
        n if n < 1e9 => format!("{:.0} ms", n / 1e6),
        n => format!("{:.0} s", n / 1e9),
    }
}

/// Draws both parts of the picture.
fn plot(curves: &[Curve], entries: u64, path: &Path) -> Outcome {
    let sheet = chart::sheet(path, (1_000, 900))?;
    let (upper, lower) = sheet.split_vertically(450);
    let slowest = curves.iter().map(|(_, _, times)| times.all.max()).max().unwrap_or(0);
    let top = (slowest as f64 * 2.0).max(1e4);
    percentiles(&upper, curves, top)?;
    worst(&lower, curves, entries, top)?;
    sheet.present()?;
    Ok(())
}

/// Percentiles: at `x` stands what one operation in `x` exceeds.
fn percentiles(sheet: &Sheet, curves: &[Curve], top: f64) -> Outcome {
    let most = curves.iter().map(|(_, _, times)| times.all.len()).max().unwrap_or(0);
    let title = "swissdb: every insert from empty, readers beside it";
    let mut chart = chart::titled(sheet, title, 60)
        .build_cartesian_2d((2.0..(most as f64).max(100.0)).log_scale(), (50.0..top).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("one operation in so many is slower")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| nanos(*y))
        .draw()?;
    for (name, colour, Times { all, .. }) in curves.iter().filter(|curve| !curve.2.all.is_empty()) {
        let steps = (0..).map(|step| 2.0 * 1.1f64.powi(step));
        let points = steps.take_while(|x| *x <= all.len() as f64);
        let points = points.map(|x| (x, all.value_at_quantile(1.0 - 1.0 / x).max(50) as f64));
        let last = (all.len() as f64, all.max() as f64);
        let curve = chart.draw_series(LineSeries::new(points.chain([last]), *colour))?;
        chart::name(curve, *name, *colour);
    }
    chart::legend(&mut chart)
}

/// The slowest operation of each part of the run.
fn worst(sheet: &Sheet, curves: &[Curve], entries: u64, top: f64) -> Outcome {
    let mut chart = chart::titled(sheet, "the slowest in each hundredth of the run", 60)
        .build_cartesian_2d(0.0..entries as f64, (50.0..top).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("entries")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| nanos(*y))
        .draw()?;
    for (_, colour, times) in curves.iter().filter(|curve| !curve.2.all.is_empty()) {
        let points = times.slowest.iter().enumerate().map(|(part, nanos)| {
            ((part as f64 + 0.5) * entries as f64 / PARTS as f64, (*nanos).max(50) as f64)
        });
        chart.draw_series(LineSeries::new(points, *colour))?;
    }
    Ok(())
}
