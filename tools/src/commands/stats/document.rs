//! What is known of a store as a JSON document.
//!
//! `tools/stats.schema.json` describes every field. The tests hold the two
//! together: what is in one and not in the other fails.

use serde_json::{Value, json};
use swissdb::{Advice, Histogram, LogFileStats, Stats, Survey, TableStats};

use super::{Look, command};

/// The whole document.
pub fn document(look: &Look) -> Value {
    let stats = &look.stats;
    let tables: Vec<_> =
        stats.tables.iter().map(|of| table(of, look.survey_of(&of.name))).collect();
    let space = &stats.log_space;
    json!({
        "tables": tables,
        "log_files": stats.log_files.iter().map(log_file).collect::<Vec<_>>(),
        "log_space": {
            "prepared_bytes": space.prepared,
            "spare_bytes": space.spare,
            "retired_bytes": space.retired,
        },
        "commits": stats.commits,
        "durable_commit": stats.durable_commit,
        "memory": {
            "pages": stats.frames,
            "changed_pages": stats.dirty_frames,
            "write_buffer_bytes": stats.write_buffer,
        },
        "last_checkpoint": stats.last_checkpoint.as_ref().map(|last| json!({
            "age_seconds": last.age.as_secs_f64(),
            "seconds": last.duration.as_secs_f64(),
        })),
        "log_bytes_since_checkpoint": stats.log_since_checkpoint,
        "since_opening": since_opening(stats),
        "advice": look.advice.iter().map(|advice| advice_of(look, advice)).collect::<Vec<_>>(),
    })
}

fn log_file(file: &LogFileStats) -> Value {
    json!({
        "number": file.number,
        "bytes": file.bytes,
        "end": file.end,
        "live_bytes": file.live,
        "dead_bytes": file.dead(),
        "first_commit": file.first_commit,
        "last_commit": file.last_commit,
        "active": file.active,
    })
}

fn since_opening(stats: &Stats) -> Value {
    let written = &stats.written;
    json!({
        "checkpoints": stats.checkpoints,
        "slowed_writes": stats.slowed,
        "checkpoint_waits": stats.waits,
        "checkpoint_wait_seconds": stats.wait_time.as_secs_f64(),
        "sync_waits": stats.sync_waits,
        "sync_wait_seconds": stats.sync_wait_time.as_secs_f64(),
        "log_file_waits": stats.log_waits,
        "log_file_wait_seconds": stats.log_wait_time.as_secs_f64(),
        "cleaner_waits": stats.cleaner_waits,
        "cleaner_wait_seconds": stats.cleaner_wait_time.as_secs_f64(),
        "user_bytes": written.user_bytes,
        "log_bytes": written.log_bytes,
        "moved_bytes": written.moved_bytes,
        "zeroed_bytes": written.zeroed_bytes,
        "recycled_log_files": written.recycled_log_files,
        "table_bytes": written.table_bytes,
        "write_amplification": written.amplification(),
        "syncs": written.syncs,
        "sync_seconds": written.sync_time.as_secs_f64(),
    })
}

fn table(table: &TableStats, survey: Option<&Survey>) -> Value {
    json!({
        "name": table.name,
        "id": table.id,
        "slot_payload": table.payload,
        "hash": super::hash_name(table),
        "entries": table.entries,
        "capacity": table.capacity,
        "growth_left": table.growth_left,
        "tombstones": table.tombstones,
        "utilisation": table.utilisation(),
        "segments": table.segments,
        "root_depth": table.root_depth,
        "directory_pages": table.directory_pages,
        "directory_bytes": table.directory_bytes,
        "file_bytes": table.file_bytes,
        "disk_bytes": table.disk_bytes(),
        "blocks_used": table.blocks_used,
        "blocks_free": table.blocks_free,
        "blocks_holes": table.blocks_holes,
        "live_log_bytes": table.live_log_bytes,
        "clears": table.clears,
        "survey": survey.map(survey_of),
    })
}

fn survey_of(survey: &Survey) -> Value {
    json!({
        "entries": survey.census.entries,
        "inline": survey.inline,
        "value_spilled": survey.value_spilled,
        "key_spilled": survey.key_spilled,
        "both_spilled": survey.both_spilled,
        "log_bytes": survey.log_bytes,
        "best_slot_payload": survey.census.best_payload(),
        "unreadable_segments": survey.census.unreadable,
        "key_bytes": histogram(&survey.census.key_bytes),
        "value_bytes": histogram(&survey.census.value_bytes),
        "entry_bytes": histogram(&survey.census.entry_bytes),
        "hit_probes": histogram(&survey.hit_probes),
        "miss_probes": histogram(&survey.miss_probes),
        "segment_pages": histogram(&survey.segment_pages),
        "segment_depths": histogram(&survey.segment_depths),
    })
}

fn histogram(of: &Histogram) -> Value {
    let bucket = |b: swissdb::Bucket| json!({ "low": b.low, "high": b.high, "count": b.count });
    json!({
        "count": of.count(),
        "min": of.min(),
        "max": of.max(),
        "mean": of.mean(),
        "median": of.quantile(0.5),
        "p90": of.quantile(0.9),
        "p99": of.quantile(0.99),
        "buckets": of.buckets().map(bucket).collect::<Vec<_>>(),
    })
}

fn advice_of(look: &Look, advice: &Advice) -> Value {
    json!({
        "kind": advice.kind(),
        "table": advice.table(),
        "text": advice.to_string(),
        "command": command(look, advice),
    })
}
