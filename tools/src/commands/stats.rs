//! `swissdb stats`: sizes and counts.
//!
//! The JSON document is meant for programs: names and meanings of its fields
//! stay, others may be added. Sizes are in bytes, times in seconds.

use clap::Args;
use serde_json::{Value, json};
use swissdb::{Stats, TableStats};

use crate::opening::{self, Store};
use crate::outcome::{Answer, Failure, Outcome};
use crate::output::Output;
use crate::size::{count, show};

/// Shows sizes and counts of a store
///
/// Names and meanings of the fields of the JSON document stay the same from
/// version to version; others may be added. Sizes are in bytes.
#[derive(Args)]
#[command(after_help = "Exit status: 0 shown, 2 an error.")]
pub struct Arguments {
    #[command(flatten)]
    store: Store,

    /// Show one table only
    #[arg(long, value_name = "NAME")]
    table: Option<String>,

    /// Show a JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Outcome {
    let db = opening::to_read(&arguments.store)?;
    let mut stats = db.stats();
    if let Some(name) = &arguments.table {
        stats.tables.retain(|table| table.name == *name);
        if stats.tables.is_empty() {
            return Err(swissdb::Error::NotFound { what: format!("table {name}") }.into());
        }
    }
    let mut output = Output::new();
    match arguments.json {
        true => output.json(&document(&stats))?,
        false => text(&mut output, &stats)?,
    }
    output.finish()?;
    Ok(Answer::Yes)
}

fn document(stats: &Stats) -> Value {
    let tables: Vec<_> = stats.tables.iter().map(table).collect();
    let log_files: Vec<_> = stats
        .log_files
        .iter()
        .map(|file| {
            json!({
                "number": file.number,
                "bytes": file.bytes,
                "end": file.end,
                "live_bytes": file.live,
                "first_commit": file.first_commit,
                "last_commit": file.last_commit,
                "active": file.active,
            })
        })
        .collect();
    json!({
        "tables": tables,
        "log_files": log_files,
        "commits": stats.commits,
        "durable_commit": stats.durable_commit,
    })
}

fn table(table: &TableStats) -> Value {
    json!({
        "name": table.name,
        "id": table.id,
        "slot_payload": table.payload,
        "hash": format!("{:?}", table.hash).to_lowercase(),
        "entries": table.entries,
        "capacity": table.capacity,
        "growth_left": table.growth_left,
        "tombstones": table.tombstones,
        "utilisation": table.utilisation(),
        "segments": table.segments,
        "root_depth": table.root_depth,
        "file_bytes": table.file_bytes,
        "blocks_used": table.blocks_used,
        "blocks_free": table.blocks_free,
        "live_log_bytes": table.live_log_bytes,
        "clears": table.clears,
    })
}

fn text(output: &mut Output, stats: &Stats) -> Result<(), Failure> {
    for t in &stats.tables {
        output.line(format_args!("table {} (number {})", t.name, t.id))?;
        let hash = format!("{:?}", t.hash).to_lowercase();
        let utilisation = format!("{:.1} %", t.utilisation() * 100.0);
        for (name, value) in [
            ("entries", count(t.entries)),
            ("capacity", format!("{} slots, {utilisation} used", count(t.capacity))),
            ("growth left", format!("{} slots", count(t.growth_left))),
            ("tombstones", count(t.tombstones)),
            ("slot payload", format!("{} bytes", t.payload)),
            ("hash", hash),
            ("segments", count(t.segments)),
            ("root depth", t.root_depth.to_string()),
            ("table file", show(t.file_bytes)),
            ("blocks", format!("{} used, {} free", count(t.blocks_used), count(t.blocks_free))),
            ("values in log", show(t.live_log_bytes)),
        ] {
            output.line(format_args!("  {name:<14} {value}"))?;
        }
    }
    let bytes: u64 = stats.log_files.iter().map(|file| file.bytes).sum();
    let live: u64 = stats.log_files.iter().map(|file| file.live).sum();
    output.line("log")?;
    output.line(format_args!("  {:<14} {}", "files", stats.log_files.len()))?;
    output.line(format_args!("  {:<14} {}, {} live", "size", show(bytes), show(live)))?;
    output.line(format_args!("  {:<14} {}", "commits", count(stats.commits)))
}
