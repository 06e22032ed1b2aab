//! The lines that the comparison prints: JSON, one measurement each.
//!
//! A process for one store prints its lines itself; the program that started it
//! passes them on when it has ended well, but for lines of the kinds `check`, which it
//! compares between the stores, and `failure`, of which it tells in its own way. Fields that say more than every line has to (`syncs`,
//! `device_reads`, `log_bytes`, `entries_before`) are there where they mean something.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::entries::Shape;
use super::measure::{Timed, Used};
use crate::Outcome;
use crate::summary::print_json;

/// Whose lines they are.
#[derive(Clone, Debug)]
pub struct Whose {
    /// The store.
    pub store: String,
    /// The round.
    pub round: usize,
}

#[derive(Serialize)]
struct Time<'a> {
    bench: &'static str,
    kind: &'static str,
    workload: &'a str,
    store: &'a str,
    entries: u64,
    key_bytes: usize,
    value_bytes: usize,
    threads: usize,
    round: usize,
    ops: u64,
    seconds: f64,
    ns_per_op: f64,
    capped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    syncs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_reads: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries_before: Option<u64>,
}

/// What a line about time may say besides.
#[derive(Clone, Copy, Debug, Default)]
pub struct More {
    /// Whether commits that wait for the device really reach it.
    pub syncs: Option<bool>,
    /// How often the device was read.
    pub device_reads: Option<u64>,
    /// How much log an opening had to read.
    pub log_bytes: Option<u64>,
    /// How many entries the store held when the workload began, where it was not filled
    /// with as many as the line says that the comparison has.
    pub entries_before: Option<u64>,
}

#[derive(Serialize)]
struct Size<'a> {
    bench: &'static str,
    kind: &'static str,
    workload: &'a str,
    phase: &'a str,
    store: &'a str,
    entries: u64,
    user_bytes: u64,
    disk_bytes: u64,
    round: usize,
}

#[derive(Serialize)]
struct Resources<'a> {
    bench: &'static str,
    kind: &'static str,
    workload: &'a str,
    store: &'a str,
    entries: u64,
    value_bytes: usize,
    round: usize,
    peak_memory_bytes: u64,
    cpu_seconds: f64,
    written_bytes: u64,
    read_bytes: u64,
    user_bytes: u64,
    ops: u64,
}

/// A sum over what a workload saw, the same for all stores.
#[derive(Serialize, Deserialize, Debug)]
pub struct Check {
    bench: String,
    kind: String,
    /// What has to agree.
    pub what: String,
    /// The sum.
    pub sum: u64,
}

impl Check {
    /// The check in a line, if it is one.
    pub fn of(line: &str) -> Option<Check> {
        serde_json::from_str(line).ok().filter(|check: &Check| check.kind == "check")
    }
}

/// Why a process fails.
#[derive(Serialize, Deserialize)]
struct Failure {
    bench: String,
    kind: String,
    why: String,
}

/// Says why this process fails.
pub fn print_failure(why: &str) -> Outcome {
    let (bench, kind) = ("compare".to_owned(), "failure".to_owned());
    print_json(&Failure { bench, kind, why: why.to_owned() })
}

/// Why a process failed, if this line tells it.
pub fn failure(line: &str) -> Option<String> {
    let failure: Failure = serde_json::from_str(line).ok()?;
    (failure.kind == "failure").then_some(failure.why)
}

#[derive(Serialize)]
struct Words<'a> {
    bench: &'static str,
    kind: &'static str,
    workload: &'a str,
    store: &'a str,
    why: &'a str,
}

impl Whose {
    /// How long a workload took.
    pub fn time(
        &self,
        workload: &str,
        shape: Shape,
        threads: usize,
        timed: Timed,
        more: More,
    ) -> Outcome {
        let Timed { ops, time, capped, .. } = timed;
        print_json(&Time {
            bench: "compare",
            kind: "time",
            workload,
            store: &self.store,
            entries: shape.entries,
            key_bytes: shape.key_bytes,
            value_bytes: shape.value_bytes,
            threads,
            round: self.round,
            ops,
            seconds: time.as_secs_f64(),
            ns_per_op: time.max(Duration::from_nanos(1)).as_nanos() as f64 / ops.max(1) as f64,
            capped,
            syncs: more.syncs,
            device_reads: more.device_reads,
            log_bytes: more.log_bytes,
            entries_before: more.entries_before,
        })
    }

    /// What a workload saw.
    pub fn check(&self, workload: &str, shape: Shape, sum: u64) -> Outcome {
        let what = format!("{workload}, {} entries of {}", shape.entries, shape.value_bytes);
        print_json(&Check { bench: "compare".to_owned(), kind: "check".to_owned(), what, sum })
    }

    /// What the files take.
    pub fn size(
        &self,
        workload: &str,
        phase: &str,
        shape: Shape,
        entries: u64,
        disk_bytes: u64,
    ) -> Outcome {
        print_json(&Size {
            bench: "compare",
            kind: "size",
            workload,
            phase,
            store: &self.store,
            entries,
            user_bytes: shape.bytes(entries),
            disk_bytes,
            round: self.round,
        })
    }

    /// What a workload used for so many operations, of which some were writes.
    pub fn used(
        &self,
        workload: &str,
        shape: Shape,
        used: Used,
        (ops, writes): (u64, u64),
    ) -> Outcome {
        print_json(&Resources {
            bench: "compare",
            kind: "resources",
            workload,
            store: &self.store,
            entries: shape.entries,
            value_bytes: shape.value_bytes,
            round: self.round,
            peak_memory_bytes: used.peak_memory,
            cpu_seconds: used.cpu_seconds,
            written_bytes: used.written,
            read_bytes: used.read,
            user_bytes: shape.bytes(writes),
            ops,
        })
    }

    /// Why there is nothing about a workload.
    pub fn skipped(&self, workload: &str, why: &str) -> Outcome {
        self.words("skipped", workload, why)
    }

    /// What has to be known to read a measurement.
    pub fn note(&self, workload: &str, why: &str) -> Outcome {
        self.words("note", workload, why)
    }

    fn words(&self, kind: &'static str, workload: &str, why: &str) -> Outcome {
        print_json(&Words { bench: "compare", kind, workload, store: &self.store, why })
    }
}
