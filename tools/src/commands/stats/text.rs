//! What is known of a store as text for people.
//!
//! A section for each table, one for the log, one for what was done since the
//! store was opened if anything was, and one with advice if there is any. A
//! line is a name and what there is of it; under it stands a chart where one
//! says more.

use std::fmt::Display;
use std::time::Duration;

use swissdb::{Histogram, LogFileStats, Stats, Survey, TableStats};

use super::{Look, command, hash_name};
use crate::chart::{Bars, draw};
use crate::outcome::Failure;
use crate::output::Output;
use crate::size::{count, show};

/// Shows all of it.
pub fn text(output: &mut Output, look: &Look) -> Result<(), Failure> {
    let bars = if Output::is_terminal() { Bars::Blocks } else { Bars::Plain };
    for of in &look.stats.tables {
        table(output, of)?;
        if let Some(survey) = look.survey_of(&of.name) {
            surveyed(output, survey, bars)?;
        }
    }
    log(output, &look.stats)?;
    if look.stats.written.log_bytes > 0 || look.stats.checkpoints > 0 {
        since_opening(output, &look.stats)?;
    }
    advice(output, look)
}

/// A line: a name, and what there is of it.
fn item(output: &mut Output, name: &str, value: impl Display) -> Result<(), Failure> {
    output.line(format_args!("  {name:<14} {value}"))
}

fn table(output: &mut Output, of: &TableStats) -> Result<(), Failure> {
    output.line(format_args!("table {} (number {})", of.name, of.id))?;
    let utilisation = of.utilisation() * 100.0;
    let directory = format!(
        "{}, root depth {}, {}",
        pages(of.directory_pages),
        of.root_depth,
        show(of.directory_bytes)
    );
    let blocks = format!(
        "{} used, {} free, {} of these without space on the device",
        count(of.blocks_used),
        count(of.blocks_free),
        count(of.blocks_holes)
    );
    let file = format!("{}, {} on the device", show(of.file_bytes), show(of.disk_bytes()));
    for (name, value) in [
        ("entries", count(of.entries)),
        ("capacity", format!("{} slots, {utilisation:.1} % used", count(of.capacity))),
        ("growth left", format!("{} slots", count(of.growth_left))),
        ("tombstones", count(of.tombstones)),
        ("slot payload", format!("{} bytes", of.payload)),
        ("hash", hash_name(of)),
        ("segments", count(of.segments)),
        ("directory", directory),
        ("table file", file),
        ("blocks", blocks),
        ("values in log", show(of.live_log_bytes)),
    ] {
        item(output, name, value)?;
    }
    Ok(())
}

fn pages(number: u64) -> String {
    match number {
        1 => "1 page".to_owned(),
        _ => format!("{} pages", count(number)),
    }
}

fn surveyed(output: &mut Output, survey: &Survey, bars: Bars) -> Result<(), Failure> {
    for (name, sizes) in
        [("keys", &survey.census.key_bytes), ("values", &survey.census.value_bytes)]
    {
        chart(output, name, spread(sizes), sizes, bars)?;
    }
    item(output, "stored", stored(survey))?;
    for (name, probes, what) in [
        ("found keys", &survey.hit_probes, "groups visited on average"),
        ("absent keys", &survey.miss_probes, "groups visited on average"),
        ("segment sizes", &survey.segment_pages, "pages on average"),
        ("local depths", &survey.segment_depths, "bits on average"),
    ] {
        chart(output, name, format!("{:.2} {what}", probes.mean()), probes, bars)?;
    }
    Ok(())
}

/// How sizes are spread, in a few numbers.
fn spread(sizes: &Histogram) -> String {
    let quantile = |share| sizes.quantile(share).map(count).unwrap_or_default();
    match (sizes.min(), sizes.max()) {
        (Some(min), Some(max)) => format!(
            "{} to {} bytes, {:.1} on average; half up to {}, 99 % up to {}",
            count(min),
            count(max),
            sizes.mean(),
            quantile(0.5),
            quantile(0.99)
        ),
        _ => "none".to_owned(),
    }
}

/// Where entries are.
fn stored(survey: &Survey) -> String {
    let places = [
        (survey.inline, "in their slots"),
        (survey.value_spilled, "with the value in the log"),
        (survey.key_spilled, "with the key in the log"),
        (survey.both_spilled, "with both in the log"),
    ];
    let there = places.into_iter().filter(|(entries, _)| *entries > 0);
    let parts: Vec<_> =
        there.map(|(entries, place)| format!("{} {place}", count(entries))).collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

fn chart(
    output: &mut Output,
    name: &str,
    summary: String,
    histogram: &Histogram,
    bars: Bars,
) -> Result<(), Failure> {
    item(output, name, summary)?;
    draw(histogram, bars).iter().try_for_each(|line| output.line(format_args!("      {line}")))
}

fn log(output: &mut Output, stats: &Stats) -> Result<(), Failure> {
    let files = &stats.log_files;
    let sum = |of: fn(&LogFileStats) -> u64| show(files.iter().map(of).sum());
    let (bytes, live, dead) = (sum(|f| f.bytes), sum(|f| f.live), sum(|f| f.dead()));
    output.line("log")?;
    item(output, "files", files.len())?;
    item(output, "size", format_args!("{bytes}, {live} live, {dead} dead"))?;
    for file in files {
        let active = if file.active { ", active" } else { "" };
        output.line(format_args!(
            "      {:>8}  {:>10}, {:>10} live, {:>10} dead{active}",
            file.number,
            show(file.bytes),
            show(file.live),
            show(file.dead())
        ))?;
    }
    let space = &stats.log_space;
    if space.prepared + space.spare + space.retired > 0 {
        let parts = format!(
            "{} prepared, {} to be recycled, {} still read",
            show(space.prepared),
            show(space.spare),
            show(space.retired)
        );
        item(output, "other files", parts)?;
    }
    if stats.log_since_checkpoint > 0 {
        let bytes = show(stats.log_since_checkpoint);
        item(output, "not in tables", format_args!("{bytes}, to be replayed after a crash"))?;
    }
    let durable = match stats.commits.saturating_sub(stats.durable_commit) {
        0 => "all durable".to_owned(),
        n => format!("{} not durable yet", count(n)),
    };
    item(output, "commits", format_args!("{}, {durable}", count(stats.commits)))
}

fn since_opening(output: &mut Output, stats: &Stats) -> Result<(), Failure> {
    output.line("since the store was opened")?;
    let last = match &stats.last_checkpoint {
        Some(last) => {
            format!(", the last one {} ago, it took {}", seconds(last.age), seconds(last.duration))
        }
        None => String::new(),
    };
    item(output, "checkpoints", format_args!("{}{last}", count(stats.checkpoints)))?;
    let waits = format!(
        "{} slowed and {} stopped for a checkpoint ({}), {} for a log file ({}), \
         {} for the cleaner ({}), {} for a sync ({})",
        count(stats.slowed),
        count(stats.waits),
        seconds(stats.wait_time),
        count(stats.log_waits),
        seconds(stats.log_wait_time),
        count(stats.cleaner_waits),
        seconds(stats.cleaner_wait_time),
        count(stats.sync_waits),
        seconds(stats.sync_wait_time)
    );
    item(output, "writes", waits)?;
    let written = &stats.written;
    let parts = format!(
        "{} of keys and values; {} to the log, {} of it by the cleaner, {} of zeros, {} to tables",
        show(written.user_bytes),
        show(written.log_bytes),
        show(written.moved_bytes),
        show(written.zeroed_bytes),
        show(written.table_bytes)
    );
    item(output, "written", parts)?;
    if let Some(times) = written.amplification() {
        item(output, "amplification", format_args!("{times:.2}"))?;
    }
    let syncs = format!("{}, {} altogether", count(written.syncs), seconds(written.sync_time));
    item(output, "log syncs", syncs)
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn advice(output: &mut Output, look: &Look) -> Result<(), Failure> {
    if !look.advice.is_empty() {
        output.line("advice")?;
    }
    for advice in &look.advice {
        output.line(format_args!("  {advice}."))?;
        if let Some(command) = command(look, advice) {
            output.line(format_args!("      {command}"))?;
        }
    }
    Ok(())
}
