//! The workloads, as they run in the process of one store.
//!
//! Workloads that build on the same store are a *scenario*: it runs in a
//! process of its own, so that memory and bytes written are those of this store,
//! and nothing of the store before it is left in the heap.

mod larger;
mod life;
mod opening;
mod redb_bench;
mod space;
mod threads;

use std::cell::Cell;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::entries::{Group, Key, Shape};
use super::lines::{More, Whose};
use super::measure::{Since, Timed, Used, each, wait_for_rest};
use super::store::{Config, Store};
use crate::Outcome;

/// Entries in one commit of `fill-batch`.
const BATCH: usize = 1_000;

/// Memory for caches where it is not limited: more than any data set here.
const CACHE: u64 = 4 << 30;

/// What a process for one store works with.
pub struct Child {
    /// Whose results they are.
    pub whose: Whose,
    /// An empty directory.
    pub path: PathBuf,
    /// The number of entries.
    pub entries: u64,
    /// The longest that a phase takes.
    pub cap: Duration,
    /// How long a workload takes that is measured by time.
    pub span: Duration,
    /// The workloads that are asked for; all, if none is.
    pub wanted: Vec<String>,
    /// Bytes of memory that the process of `larger` may use.
    pub memory: u64,
    /// Whether this process may use only so much, and the file of a cgroup that it
    /// has to write its number to for that.
    pub starved: bool,
    pub cgroup: Option<PathBuf>,
    /// Whether what is seen is still the same for all stores.
    pub checking: Cell<bool>,
}

/// A scenario: a name, its workloads with what they are, and what it asks for.
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// Its workloads.
    pub workloads: &'static [(&'static str, &'static str)],
    /// Whether only stores on a disk that threads can share take part.
    pub stores_only: bool,
    /// Whether it runs as a whole only: its workloads build on each other, or are
    /// measured at once.
    pub whole: bool,
}

/// All scenarios, in the order in which they run.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "life",
        workloads: &[
            ("fill", "insert all entries one by one, in random order"),
            ("get", "get every entry once, in random order"),
            ("miss", "get keys that are not there"),
            ("get-zipfian", "get entries, the popular ones often (zipfian, 0.99)"),
            ("get-batch", "get every entry once, 64 keys in a call where there is such a call"),
            ("iterate", "walk over all entries"),
            ("overwrite", "give every entry a new value, in random order"),
            ("ycsb-b", "95 gets and 5 overwrites of a hundred, zipfian"),
            ("ycsb-c", "gets only, zipfian"),
            ("ycsb-a", "as many gets as overwrites, zipfian"),
            ("ycsb-f", "as many gets as gets with an overwrite after them, zipfian"),
            ("remove", "remove every entry, in random order"),
            ("close", "come to rest after all that, and be closed"),
        ],
        stores_only: false,
        whole: false,
    },
    Scenario {
        name: "batch",
        workloads: &[("fill-batch", "insert all entries in random order, 1,000 in a commit")],
        stores_only: false,
        whole: false,
    },
    Scenario {
        name: "values",
        workloads: &[(
            "value-sizes",
            "fill, get, overwrite and close with values of 8, 100, 1,000, 10,000 and 100,000 bytes",
        )],
        stores_only: false,
        whole: false,
    },
    Scenario {
        name: "sync",
        workloads: &[(
            "durable-commit",
            "insert with 1 and 16 threads, each synced, from an empty store on",
        )],
        stores_only: true,
        whole: false,
    },
    Scenario {
        name: "beside",
        workloads: &[
            ("read-beside-writer", "gets of 1, 2 and 4 threads, one writer beside them"),
            ("write-beside-readers", "overwrites of one thread, readers beside it"),
        ],
        stores_only: true,
        whole: true,
    },
    Scenario {
        name: "open",
        workloads: &[
            ("open-clean", "open after a clean close and get one entry"),
            ("open-killed", "open after SIGKILL and get one entry"),
        ],
        stores_only: true,
        whole: false,
    },
    Scenario {
        name: "larger",
        workloads: &[
            ("larger-get", "get random entries of four times as much data as memory"),
            ("larger-overwrite", "overwrite random entries of as much"),
        ],
        stores_only: true,
        whole: true,
    },
    Scenario {
        name: "space",
        workloads: &[("space", "bytes on disk: filled, overwritten, thinned, compacted")],
        stores_only: true,
        whole: false,
    },
    Scenario {
        name: "redb-bench",
        workloads: &[
            ("redb-bulk-load", "all entries, in one transaction where the store takes it"),
            ("redb-individual-writes", "1,000 durable writes"),
            ("redb-batch-writes", "durable batches of 1,000"),
            ("redb-nosync-writes", "single writes without a sync"),
            ("redb-random-reads", "gets of 1, 4, 8, 16 and 32 threads"),
            ("redb-removals", "half of all entries, as the bulk load"),
            ("redb-compact", "compaction, and the size before and after"),
        ],
        stores_only: true,
        whole: true,
    },
];

/// Runs a scenario with one store.
pub fn run<S: Store>(scenario: &str, child: &Child) -> Outcome {
    match scenario {
        "life" => life::run::<S>(child),
        "batch" => fill_batch::<S>(child),
        "values" => values::<S>(child),
        "sync" => threads::durable_commits::<S>(child),
        "beside" => threads::beside::<S>(child),
        "open" => opening::run::<S>(child),
        "open-fill" => opening::fill::<S>(child, true),
        "open-wait" => opening::fill::<S>(child, false),
        "larger" => larger::run(child),
        "larger-fill" => larger::fill::<S>(child),
        "larger-limited" => larger::limited::<S>(child),
        "space" => space::run::<S>(child),
        "redb-bench" => redb_bench::run::<S>(child),
        other => Err(format!("there is no scenario {other}").into()),
    }
}

impl Child {
    /// All entries, of these lengths.
    pub fn shape(&self, key_bytes: usize, value_bytes: usize) -> Shape {
        Shape { entries: self.entries, key_bytes, value_bytes }
    }

    /// What a store for such entries is opened with.
    pub fn config(&self, shape: Shape, sync: bool) -> Config {
        Config {
            path: self.path.clone(),
            sync,
            cache: if self.starved { self.memory / 4 } else { CACHE },
            starved: self.starved,
            data: shape.bytes(shape.entries),
            key_bytes: shape.key_bytes,
            value_bytes: shape.value_bytes,
        }
    }

    /// The same with another scenario, in a process that is not started yet.
    pub fn again(&self, scenario: &str) -> Outcome<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["compare-child", scenario, "--store", &self.whose.store]);
        command.args(["--round", &self.whose.round.to_string()]);
        command.args(["--entries", &self.entries.to_string()]);
        command.args(["--cap", &self.cap.as_secs_f64().to_string()]);
        command.args(["--span", &self.span.as_secs_f64().to_string()]);
        command.args(["--memory", &self.memory.to_string()]);
        if !self.wanted.is_empty() {
            command.args(["--wanted", &self.wanted.join(",")]);
        }
        command.arg("--path").arg(&self.path);
        Ok(command)
    }

    /// Opens a store for such entries.
    pub fn open<S: Store>(&self, shape: Shape, sync: bool) -> Outcome<S> {
        S::open(&self.config(shape, sync))
    }

    /// Removes everything from the directory.
    pub fn empty(&self) -> Outcome {
        for entry in std::fs::read_dir(&self.path)? {
            let path = entry?.path();
            match path.is_dir() {
                true => std::fs::remove_dir_all(path)?,
                false => std::fs::remove_file(path)?,
            }
        }
        Ok(())
    }

    /// A moment from which on what the process uses is counted.
    pub fn since(&self) -> Since {
        Since::now()
    }

    /// Whether a workload is asked for.
    pub fn wants(&self, workload: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| wanted == workload)
    }

    /// From now on, what is seen depends on how much was done.
    pub fn stop_checking(&self) {
        self.checking.set(false);
    }

    /// Prints a time, and what has to be the same for all stores.
    pub fn print(&self, workload: &str, shape: Shape, threads: usize, timed: Timed) -> Outcome {
        self.whose.time(workload, shape, threads, timed, More::default())?;
        match self.checking.get() && !timed.capped {
            true => self.whose.check(workload, shape, timed.sum),
            false => Ok(()),
        }
    }
}

/// Gets an entry that has to be there; something of its value.
pub fn get<S: Store>(store: &mut S, shape: Shape, number: u64) -> Outcome<u64> {
    get_ready(store, shape, number, &shape.key(number))
}

/// The same where the key is at hand.
pub fn get_ready<S: Store>(store: &mut S, shape: Shape, number: u64, key: &Key) -> Outcome<u64> {
    let mut taste = None;
    let found = store.get(key, |value| taste = shape.taste(number, value))?;
    match (found, taste) {
        (true, Some(taste)) => Ok(taste),
        (true, None) => Err(format!("entry {number} has a value that it was not given").into()),
        (false, _) => Err(format!("entry {number} is missing").into()),
    }
}

/// The most entries that are looked at after a phase.
const SAMPLE: u64 = 50_000;

/// Every how many of so many entries are looked at.
pub fn stride(of: u64) -> usize {
    of.div_ceil(SAMPLE).max(1) as usize
}

/// So many numbers from 0 on, or every n-th of them.
pub fn sample(of: u64) -> impl Iterator<Item = u64> {
    (0..of).step_by(stride(of))
}

/// Fails unless these entries have the value of this version, each byte of it.
pub fn require<S: Store>(
    store: &mut S,
    shape: Shape,
    numbers: impl Iterator<Item = u64>,
    version: u64,
) -> Outcome {
    let mut values = shape.values();
    for number in numbers {
        let expected = values.of(number, version);
        let mut is_same = false;
        if !store.get(&shape.key(number), |value| is_same = value == expected)? {
            return Err(format!("entry {number} was written and is missing").into());
        }
        if !is_same {
            let what = format!("version {version}, which was written last");
            return Err(format!("entry {number} has another value than {what}").into());
        }
    }
    Ok(())
}

/// Something of the bytes at both ends.
fn number_sum(bytes: &[u8]) -> u64 {
    let word = |word: Option<&[u8; 8]>| word.map_or(0, |word| u64::from_le_bytes(*word));
    word(bytes.first_chunk()).wrapping_mul(3) ^ word(bytes.last_chunk())
}

/// Inserts entries in commits of a thousand, to have them there.
pub fn fill_unmeasured<S: Store>(store: &mut S, shape: Shape, version: u64) -> Outcome {
    let mut group = Group::new(shape);
    for start in (0..shape.entries).step_by(BATCH) {
        let numbers = start..(start + BATCH as u64).min(shape.entries);
        store.insert_all(group.fill(numbers, version))?;
    }
    store.settle()
}

/// Values of other lengths, of as many bytes in all as 128 for each entry of the
/// comparison. Those of 32 bytes are those of the life.
fn values<S: Store>(child: &Child) -> Outcome {
    for value_bytes in [8, 100, 1_000, 10_000, 100_000] {
        let fits = child.entries * 128 / (16 + value_bytes as u64);
        life::values::<S>(child, value_bytes, fits.clamp(16, child.entries))?;
        child.empty()?;
    }
    Ok(())
}

/// Fills a store in batches.
fn fill_batch<S: Store>(child: &Child) -> Outcome {
    let shape = child.shape(16, 32);
    let mut store: S = child.open(shape, false)?;
    let mut group = Group::new(shape);
    let since = child.since();
    let timed = super::measure::timed(shape.entries, BATCH as u64, child.cap, |range| {
        store.insert_all(group.fill(range, 0))?;
        Ok(0)
    })?;
    let settled = each(1, child.cap, |_| store.settle().map(|()| 0))?;
    let used = since.used();
    child.print("fill-batch", shape, 1, timed)?;
    child.print("fill-batch-settle", shape, 1, settled)?;
    child.whose.used("fill-batch", shape, used, (timed.ops, timed.ops))?;
    let unseen = written_by(|| require(&mut store, shape, sample(timed.ops), 0))?;
    close(child, "fill-batch-close", shape, store, unseen)
}

/// Bytes that are written while something looks at a store: by the store, behind it.
fn written_by(look: impl FnOnce() -> Outcome) -> Outcome<u64> {
    let since = Since::now();
    look()?;
    Ok(since.used().written)
}

/// Measures how long a store takes to come to rest and to be closed, and what it
/// writes then; `unseen` of that was written since the last phase already.
fn close<S: Store>(child: &Child, name: &str, shape: Shape, store: S, unseen: u64) -> Outcome {
    let since = child.since();
    let busy = wait_for_rest();
    let start = Instant::now();
    store.close()?;
    let closed = Timed { ops: 1, time: busy + start.elapsed(), capped: false, sum: 0 };
    let used = since.used();
    if !child.wants(name) {
        return Ok(());
    }
    child.print(name, shape, 1, closed)?;
    child.whose.used(name, shape, Used { written: used.written + unseen, ..used }, (1, 0))
}

#[cfg(test)]
mod tests {
    use super::{SAMPLE, Shape, Store, fill_unmeasured, require, sample};
    use crate::Outcome;
    use crate::compare::engines::{Deed, with_store};
    use crate::compare::store::Config;

    #[test]
    fn a_sample_is_not_too_large_and_sees_both_ends() {
        assert_eq!(sample(0).count(), 0);
        assert_eq!(sample(100).count(), 100);
        for of in [SAMPLE, SAMPLE + 1, 1_234_567] {
            let (count, last) = (sample(of).count() as u64, sample(of).last());
            assert!((SAMPLE / 2..=SAMPLE).contains(&count), "{count} of {of}");
            assert!(of - last.expect("it is not empty") <= of.div_ceil(SAMPLE));
        }
    }

    /// Entries in version 3, of which some are asked for in others.
    struct Versions;

    impl Deed for Versions {
        fn with<S: Store>(self) -> Outcome {
            let shape = Shape { entries: 100, key_bytes: 16, value_bytes: 32 };
            let path = std::path::PathBuf::new();
            let config = Config {
                path,
                sync: false,
                cache: 0,
                starved: false,
                data: 0,
                key_bytes: 16,
                value_bytes: 32,
            };
            let mut store = S::open(&config)?;
            fill_unmeasured(&mut store, shape, 3)?;
            require(&mut store, shape, 0..100, 3)?;
            let stale = require(&mut store, shape, 0..100, 4).map_err(|error| error.to_string());
            let why = "entry 0 has another value than version 4, which was written last";
            assert_eq!(stale, Err(why.to_owned()));
            let missing = require(&mut store, shape, 99..101, 3).map_err(|error| error.to_string());
            assert_eq!(missing, Err("entry 100 was written and is missing".to_owned()));
            Ok(())
        }
    }

    #[test]
    fn an_entry_of_another_version_is_found_out() {
        with_store("HashMap", Versions).expect("a map keeps what it is given");
    }
}
