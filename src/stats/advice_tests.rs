//! Advice is given where it is worth it, and nowhere else.
//!
//! Method: numbers of a healthy store, of which one is changed until the rule
//! that looks at it just speaks, and then until it just does not.

use std::time::Duration;

use super::*;
use crate::options::HashKind;
use crate::stats::{LogFileStats, LogSpace, SnapshotStats, Written};

const MIB: u64 = 1 << 20;

/// A table of a hundred thousand slots, 6.1 MiB of pages.
fn table(entries: u64, tombstones: u64) -> TableStats {
    TableStats {
        name: "t".into(),
        id: 0,
        payload: 56,
        hash: HashKind::Sip,
        entries,
        capacity: 100_032,
        growth_left: 87_528 - entries - tombstones,
        tombstones,
        segments: 100,
        root_depth: 1,
        directory_pages: 2,
        directory_bytes: 3 * BLOCK,
        file_bytes: 8 * MIB,
        blocks_used: 1_600,
        blocks_free: 448,
        blocks_holes: 0,
        clears: 0,
        live_log_bytes: 0,
    }
}

fn log_file(bytes: u64, live: u64) -> LogFileStats {
    LogFileStats {
        number: 1,
        bytes,
        live,
        end: bytes,
        first_commit: 1,
        last_commit: 2,
        active: false,
    }
}

/// A store with this table and nothing that could be better.
fn healthy(table: TableStats) -> Stats {
    Stats {
        tables: vec![table],
        log_files: vec![log_file(MIB, 0)],
        log_space: LogSpace::default(),
        commits: 2,
        durable_commit: 2,
        dirty_frames: 0,
        frames: 0,
        frame_limit: 4096,
        write_buffer: Some(16 * MIB),
        checkpoints: 1,
        last_checkpoint: None,
        log_since_checkpoint: 0,
        slowed: 0,
        waits: 0,
        wait_time: Duration::ZERO,
        sync_waits: 0,
        sync_wait_time: Duration::ZERO,
        log_waits: 0,
        log_wait_time: Duration::ZERO,
        cleaner_waits: 0,
        cleaner_wait_time: Duration::ZERO,
        snapshots: SnapshotStats::default(),
        written: Written::default(),
    }
}

/// The names of what is advised.
fn kinds(stats: &Stats) -> Vec<&'static str> {
    stats.advice(&[]).iter().map(Advice::kind).collect()
}

#[test]
fn nothing_is_said_of_a_healthy_store() {
    assert_eq!(kinds(&healthy(table(70_000, 100))), [""; 0]);
}

#[test]
fn a_table_with_few_entries_per_slot_could_be_compacted() {
    assert_eq!(kinds(&healthy(table(60_020, 0))), [""; 0]);
    let advice = healthy(table(60_000, 0)).advice(&[]);
    let expected = "table t: only 60 % of the slots are in use; \
                    a compaction would make it about 1.5 MiB smaller";
    assert_eq!(advice.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    assert_eq!(advice[0].table(), Some("t"));
}

#[test]
fn a_slot_payload_that_does_not_fit_could_be_another() {
    let census = |payload, entries: u64, value: u64| {
        let mut census = Census::new("t", payload);
        (0..entries).for_each(|_| census.add(16, value));
        census
    };
    let advice =
        |census: Census| healthy(table(60_000, 0)).advice(&[&self::census("other"), &census]);
    let kind = |census| advice(census).first().map(Advice::kind);
    // Values of 8 bytes in slots for 40 of them.
    let large = census(56, 100_000, 8);
    let gain = large.bytes_at(56).unwrap() - large.bytes_at(24).unwrap();
    assert!(gain > 3 * MIB, "{gain}");
    assert_eq!(kind(large), Some("slot_payload"));
    // And of 80, which are all in the log.
    assert_eq!(kind(census(56, 100_000, 80)), Some("slot_payload"));
    // What fits, what is small, and what gains too little of it: then the
    // pages are spoken of.
    assert_eq!(kind(census(56, 100_000, 40)), Some("low_utilisation"));
    assert_eq!(kind(census(56, 10_000, 8)), Some("low_utilisation"));
    let mostly_log = census(56, 20_000, 4_000);
    let gain = mostly_log.bytes_at(56).unwrap() - mostly_log.bytes_at(24).unwrap();
    assert!((MIB / 2..8 * MIB).contains(&gain), "{gain}");
    assert_eq!(kind(mostly_log), Some("low_utilisation"));
    let text = advice(census(56, 100_000, 8))[0].to_string();
    let expected = "table t: a slot payload of 24 bytes, not 56, would make it about ";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.ends_with("; a compaction can change it"), "{text}");
}

/// A census of a table without entries.
fn census(table: &str) -> Census {
    Census::new(table, 56)
}

#[test]
fn nothing_is_said_of_what_takes_less_than_a_mebibyte() {
    // 0.97 MiB of pages, and all of them could go.
    let small = TableStats { capacity: 15_936, ..table(0, 0) };
    assert_eq!(kinds(&healthy(small.clone())), [""; 0]);
    let full_of_tombstones = TableStats { entries: 11_000, tombstones: 2_900, ..small };
    assert_eq!(kinds(&healthy(full_of_tombstones)), [""; 0]);
    let larger = TableStats { capacity: 17_024, ..table(0, 0) };
    assert_eq!(kinds(&healthy(larger)), ["low_utilisation"]);
}

#[test]
fn a_table_with_many_tombstones_could_be_compacted() {
    assert_eq!(kinds(&healthy(table(70_000, 10_003))), [""; 0]);
    let advice = healthy(table(70_000, 10_004)).advice(&[]);
    let expected = "table t: 10 % of the slots are tombstones, \
                    which make searches for absent keys longer; a compaction removes them";
    assert_eq!(advice.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    // Few entries and many tombstones have one cure, which is named once.
    assert_eq!(kinds(&healthy(table(40_000, 20_000))), ["low_utilisation"]);
}

#[test]
fn garbage_that_is_a_third_of_the_store_could_be_cleaned() {
    // With the 8 MiB of the table: a third of 48 MiB.
    let with = |live: u64, since| Stats {
        log_files: vec![log_file(40 * MIB, live)],
        log_since_checkpoint: since,
        ..healthy(table(70_000, 0))
    };
    let least = 40 * MIB - BLOCK - 16 * MIB;
    assert_eq!(kinds(&with(least, 0)), ["dead_bytes"]);
    assert_eq!(kinds(&with(least + 1, 0)), [""; 0]);
    // What was logged since the last checkpoint is needed for its sake.
    assert_eq!(kinds(&with(least, 1)), [""; 0]);
    let text = with(0, 0).advice(&[])[0].to_string();
    assert_eq!(
        text,
        "of the 40.0 MiB of the log no entry needs 40.0 MiB; a compaction gives them back"
    );
    // Less than 16 MiB is nothing to speak of, whatever the share.
    let little = Stats { log_files: vec![log_file(16 * MIB, 0)], ..healthy(table(70_000, 0)) };
    assert_eq!(kinds(&little), [""; 0]);
}

#[test]
fn a_snapshot_that_keeps_much_for_long_could_be_given_up() {
    // With the 8 MiB of the table: a third of 48 MiB.
    let with = |block_bytes, log_bytes, minutes: u64| Stats {
        log_files: vec![log_file(40 * MIB, 40 * MIB)],
        snapshots: SnapshotStats {
            held: 2,
            oldest_age: Some(Duration::from_secs(60 * minutes)),
            block_bytes,
            log_bytes,
            ..SnapshotStats::default()
        },
        ..healthy(table(70_000, 0))
    };
    assert_eq!(kinds(&with(6 * MIB, 10 * MIB, 10)), ["snapshots"]);
    assert_eq!(kinds(&with(6 * MIB, 10 * MIB, 9)), [""; 0]);
    assert_eq!(kinds(&with(6 * MIB, 10 * MIB - 1, 10)), [""; 0]);
    let advice = with(6 * MIB, 12 * MIB, 90).advice(&[]);
    let expected = "2 snapshots are held, the oldest one for 90 minutes, and only for that \
                    18.0 MiB of the files are kept; they are given back when it is given up";
    assert_eq!(advice.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    assert_eq!(advice[0].table(), None);
}

#[test]
fn of_garbage_that_snapshots_keep_a_compaction_gives_nothing_back() {
    let with = |log_bytes| Stats {
        log_files: vec![log_file(40 * MIB, 0)],
        snapshots: SnapshotStats { held: 1, log_bytes, ..SnapshotStats::default() },
        ..healthy(table(70_000, 0))
    };
    assert_eq!(kinds(&with(0)), ["dead_bytes"]);
    assert_eq!(kinds(&with(40 * MIB)), [""; 0]);
}

#[test]
fn a_write_buffer_for_which_writers_waited_is_too_small() {
    let waited = |waits, wait_time| Stats { waits, wait_time, ..healthy(table(70_000, 0)) };
    assert_eq!(kinds(&waited(1, Duration::from_millis(999))), [""; 0]);
    // Slowed writes alone are as it is meant to be.
    assert_eq!(kinds(&waited(0, Duration::from_secs(5))), [""; 0]);
    let advice = waited(1, Duration::from_secs(1)).advice(&[]);
    let expected = "changed pages were written once for 0.0 MiB of log, \
                    and writers waited 1.0 s: \
                    a write buffer larger than 16.0 MiB would save time";
    assert_eq!(advice[0].to_string(), expected);
    assert_eq!(advice[0].table(), None);
}

#[test]
fn a_write_buffer_that_makes_checkpoints_frequent_is_too_small() {
    let busy = |checkpoints: u64, log: u64, pages: u64| {
        let written = Written {
            log_bytes: checkpoints * log,
            table_bytes: checkpoints * pages,
            ..Written::default()
        };
        Stats { checkpoints, written, ..healthy(table(70_000, 0)) }
    };
    assert_eq!(kinds(&busy(8, 16 * MIB - 1, 8 * MIB)), ["write_buffer"]);
    assert_eq!(kinds(&busy(7, 16 * MIB - 1, 8 * MIB)), [""; 0]);
    assert_eq!(kinds(&busy(8, 16 * MIB, 8 * MIB)), [""; 0]);
    // Somebody asked for these checkpoints before half of the buffer was full.
    assert_eq!(kinds(&busy(8, 16 * MIB - 1, 8 * MIB - 1)), [""; 0]);
    // Who only reads has no write buffer.
    let reader = Stats { write_buffer: None, ..busy(8, MIB, 8 * MIB) };
    assert_eq!(kinds(&reader), [""; 0]);
}
