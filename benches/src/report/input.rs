//! The lines that `compare` prints, read back.
//!
//! Each line is one object with `"bench":"compare"` and a kind. Fields that are
//! not known here are passed over, and lines of other benches or kinds are
//! counted and left out, so that a report can still be made of files that a
//! later program wrote. A line that is no JSON, or lacks what its kind must
//! have, is an error that names file and line: a report of half a file would
//! look like a whole one.
//!
//! A *run* begins with each file and with each line about a machine. Rounds are
//! numbered within a run, and only what was measured in the same round of the
//! same run is compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::Outcome;

/// Everything that was read.
#[derive(Default)]
pub struct Input {
    /// What the runs say of their machine, versions and command.
    pub machines: Vec<Map<String, Value>>,
    pub times: Vec<Time>,
    pub sizes: Vec<Size>,
    pub resources: Vec<Resources>,
    pub skipped: Vec<Words>,
    /// What has to be known to read what was measured.
    pub notes: Vec<Words>,
    /// How many lines were left out, by bench and kind.
    pub left_out: BTreeMap<String, usize>,
    /// All lines, as they were.
    pub text: String,
    /// The number of the run that is being read.
    run: usize,
}

/// How long one store took for one workload in one round.
#[derive(Deserialize)]
pub struct Time {
    #[serde(skip)]
    pub run: usize,
    pub workload: String,
    pub store: String,
    pub entries: u64,
    pub key_bytes: u64,
    pub value_bytes: u64,
    #[serde(default = "one")]
    pub threads: u64,
    #[serde(default)]
    pub round: u64,
    ops: Option<f64>,
    seconds: Option<f64>,
    ns_per_op: Option<f64>,
    /// Whether the time was up before all operations were done.
    #[serde(default)]
    pub capped: bool,
    /// Whether the store's syncs reach the kernel; one whose do not is no peer.
    #[serde(default = "yes")]
    pub syncs: bool,
    /// Reads of the device, where they were counted.
    pub device_reads: Option<f64>,
    /// Bytes of log that an opening had to go through, where they are known.
    pub log_bytes: Option<f64>,
    /// How many entries the store held when the workload began, where that is not
    /// what `entries` says.
    entries_before: Option<u64>,
}

impl Time {
    /// Nanoseconds for one operation.
    pub fn nanos(&self) -> f64 {
        let of_total = || Some(self.seconds? * 1e9 / self.ops?);
        self.ns_per_op.or_else(of_total).unwrap_or(f64::NAN)
    }

    /// Operations of all threads in one second.
    pub fn per_second(&self) -> f64 {
        match (self.ops, self.seconds) {
            (Some(ops), Some(seconds)) if ops > 0.0 && seconds > 0.0 => ops / seconds,
            _ => 1e9 / self.nanos(),
        }
    }

    /// Whether the workload began with an empty store, though the line is filed under
    /// the entries of the comparison. Durable commits always did; earlier lines do not
    /// say so.
    pub fn is_from_empty(&self) -> bool {
        self.entries_before.map_or(self.workload == "durable-commit", |entries| entries == 0)
    }

    /// Device reads of one operation.
    pub fn reads_per_op(&self) -> Option<f64> {
        Some(self.device_reads? / self.ops.filter(|ops| *ops > 0.0)?)
    }
}

/// What the files of a store took after a phase.
#[derive(Deserialize)]
pub struct Size {
    #[serde(skip)]
    pub run: usize,
    pub workload: String,
    pub phase: String,
    pub store: String,
    pub entries: u64,
    pub user_bytes: u64,
    pub disk_bytes: u64,
    #[serde(default)]
    pub round: u64,
}

/// What a store used of the machine for a workload.
#[derive(Deserialize)]
pub struct Resources {
    pub workload: String,
    pub store: String,
    pub entries: u64,
    pub value_bytes: Option<u64>,
    pub peak_memory_bytes: Option<f64>,
    pub cpu_seconds: Option<f64>,
    pub written_bytes: Option<f64>,
    pub user_bytes: Option<f64>,
    pub ops: Option<f64>,
}

/// A word on a store at a workload: why it was skipped, or a note.
#[derive(Deserialize, Clone, PartialEq)]
pub struct Words {
    pub workload: String,
    pub store: String,
    pub why: String,
}

fn one() -> u64 {
    1
}

fn yes() -> bool {
    true
}

impl Input {
    /// Reads files, one run after the other.
    pub fn read(files: &[PathBuf]) -> Outcome<Input> {
        let mut input = Input::default();
        for file in files {
            let text = fs::read_to_string(file)
                .map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
            input.add(file, &text)?;
        }
        if input.times.is_empty() && input.sizes.is_empty() && input.resources.is_empty() {
            return Err("there is nothing measured in the input; `compare` makes such files".into());
        }
        Ok(input)
    }

    /// Adds the lines of one file.
    pub fn add(&mut self, file: &Path, text: &str) -> Outcome {
        self.run += 1;
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            self.line(line)
                .map_err(|error| format!("{}, line {}: {error}", file.display(), i + 1))?;
            self.text.push_str(line);
            self.text.push('\n');
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> Outcome {
        let value: Value = serde_json::from_str(line).map_err(|e| format!("not JSON: {e}"))?;
        let Value::Object(object) = &value else {
            return Err("not an object of JSON".into());
        };
        let name = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
        let run = self.run;
        match (name("bench"), name("kind")) {
            ("compare", "machine") => {
                self.run += 1;
                self.machines.push(object.clone());
            }
            ("compare", "time") => {
                let time = Time { run, ..parse(value)? };
                if !(time.nanos().is_finite() && time.nanos() > 0.0) {
                    return Err("a time needs ns_per_op, or ops and seconds, greater than 0".into());
                }
                self.times.push(time);
            }
            ("compare", "size") => self.sizes.push(Size { run, ..parse(value)? }),
            ("compare", "resources") => self.resources.push(parse(value)?),
            ("compare", "skipped") => self.skipped.push(parse(value)?),
            ("compare", "note") => self.notes.push(parse(value)?),
            (bench, kind) => {
                *self.left_out.entry(format!("{bench}/{kind}")).or_default() += 1;
            }
        }
        Ok(())
    }
}

fn parse<T: DeserializeOwned>(value: Value) -> Outcome<T> {
    let kind = value["kind"].as_str().unwrap_or_default().to_owned();
    Ok(serde_json::from_value(value).map_err(|error| format!("a line of kind {kind}: {error}"))?)
}
