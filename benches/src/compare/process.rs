//! A process for each store and scenario, and what they say compared.
//!
//! What a process prints is kept until it has ended: a store that read other values
//! than the others, or a process that failed, has measured nothing, whatever times it
//! printed before. Then a line of the kind `skipped` with the reason is all there is.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use clap::Args;

use super::Settings;
use super::engines::{Deed, Known, with_store};
use super::lines::{self, Check, Whose};
use super::store::Store;
use super::workloads::{self, Child, Scenario};
use crate::Outcome;

/// What such a process is told.
#[derive(Args, Clone)]
pub struct ChildSettings {
    /// The scenario
    scenario: String,
    /// The store
    #[arg(long)]
    store: String,
    /// The round
    #[arg(long)]
    round: usize,
    /// The number of entries
    #[arg(long)]
    entries: u64,
    /// The longest that a phase takes, in seconds
    #[arg(long)]
    cap: f64,
    /// How long workloads take that are measured by time, in seconds
    #[arg(long)]
    span: f64,
    /// The workloads that are asked for
    #[arg(long, value_delimiter = ',')]
    wanted: Vec<String>,
    /// A directory: empty, or with the store
    #[arg(long)]
    path: PathBuf,
    /// Bytes of memory for the process of `larger`
    #[arg(long)]
    memory: u64,
    /// Whether this is that process
    #[arg(long)]
    starved: bool,
    /// The file of the cgroup that it has to join
    #[arg(long)]
    cgroup: Option<PathBuf>,
}

impl ChildSettings {
    fn child(&self) -> Child {
        Child {
            whose: Whose { store: self.store.clone(), round: self.round },
            path: self.path.clone(),
            entries: self.entries,
            cap: Duration::from_secs_f64(self.cap),
            span: Duration::from_secs_f64(self.span),
            wanted: self.wanted.clone(),
            memory: self.memory,
            starved: self.starved,
            cgroup: self.cgroup.clone(),
            checking: Cell::new(true),
        }
    }
}

/// One scenario with one store.
struct Run<'a> {
    scenario: &'a str,
    child: Child,
}

impl Deed for Run<'_> {
    fn with<S: Store>(self) -> Outcome {
        workloads::run::<S>(self.scenario, &self.child)
    }
}

/// Does what such a process was started for. Why it fails goes to the process that
/// started it, which tells it.
pub fn child(settings: &ChildSettings) -> Outcome {
    let run = Run { scenario: &settings.scenario, child: settings.child() };
    let outcome = with_store(&settings.store, run);
    if let Err(error) = &outcome {
        lines::print_failure(&error.to_string())?;
    }
    outcome
}

/// What the stores saw, by what they were asked.
type Seen = BTreeMap<String, (u64, String)>;

/// Runs a scenario with all stores in turn; says with how many it failed.
pub fn turn(
    settings: &Settings,
    scenario: &Scenario,
    stores: &[&Known],
    round: usize,
) -> Outcome<usize> {
    let mut seen = Seen::new();
    let mut failures = 0;
    for place in 0..stores.len() {
        let known = stores[whose_turn(place, round, stores.len())];
        let whose = Whose { store: known.name.to_owned(), round };
        if scenario.stores_only && !known.on_disk {
            let why = "a map in memory: it keeps nothing, and threads cannot share it";
            whose.skipped(scenario.name, why)?;
            continue;
        }
        let start = Instant::now();
        eprint!("round {}, {:<10} {:<15}", round + 1, scenario.name, known.name);
        let path = settings.place.fresh(&format!("{}-{}", scenario.name, known.name));
        std::fs::create_dir_all(&path)?;
        let outcome = one(settings, scenario, &whose, &path, &mut seen);
        std::fs::remove_dir_all(&path)?;
        wait_for_device(&path)?;
        eprintln!("{:8.1} s", start.elapsed().as_secs_f64());
        if let Err(error) = outcome {
            failures += 1;
            eprintln!("{} failed in {}: {error}", known.name, scenario.name);
            whose.skipped(scenario.name, &format!("failed: {error}"))?;
        }
    }
    Ok(failures)
}

/// Which store has this turn in a round. In as many rounds as there are stores each has
/// each turn once, and follows each other as often (if their number is even): what
/// one leaves behind for the next, in the caches or on the device, is shared evenly.
fn whose_turn(turn: usize, round: usize, stores: usize) -> usize {
    // 0, the last, 1, the last but one, 2...
    let first = if turn.is_multiple_of(2) { turn / 2 } else { stores - 1 - turn / 2 };
    (first + round) % stores
}

/// Waits until the device has done what the removal of files asks of it: giving
/// their space back takes it a while, and the store that comes next would wait for
/// that. A commit of the file system's journal waits for what follows from the
/// one before it, so there are two.
fn wait_for_device(removed: &Path) -> Outcome {
    for _ in 0..2 {
        let mut file = std::fs::File::create(removed)?;
        file.write_all(b"one")?;
        file.sync_all()?;
        std::fs::remove_file(removed)?;
    }
    Ok(())
}

/// Starts the process for one store, compares what it saw with what the stores before
/// it saw, and passes on what it printed if all is well.
fn one(
    settings: &Settings,
    scenario: &Scenario,
    whose: &Whose,
    path: &Path,
    seen: &mut Seen,
) -> Outcome {
    let told = Child {
        whose: whose.clone(),
        path: path.to_path_buf(),
        entries: settings.entries,
        cap: Duration::from_secs_f64(settings.cap),
        span: Duration::from_secs_f64(settings.span),
        wanted: settings.wanted(scenario),
        memory: settings.larger_memory << 20,
        starved: false,
        cgroup: None,
        checking: Cell::new(true),
    };
    let mut child = told.again(scenario.name)?.stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().ok_or("the process has no output")?;
    let said = Said::read(BufReader::new(stdout));
    let status = child.wait()?;
    let lines = said?.agreed(status.success(), &status.to_string(), whose, seen)?;
    for line in lines {
        writeln!(std::io::stdout(), "{line}")?;
    }
    Ok(())
}

/// What a process printed.
#[derive(Default)]
struct Said {
    /// What is to be passed on.
    lines: Vec<String>,
    checks: Vec<Check>,
    /// Why it failed, if it could tell: of several processes, the innermost.
    failure: Option<String>,
}

impl Said {
    fn read(output: impl BufRead) -> Outcome<Said> {
        let mut said = Said::default();
        for line in output.lines() {
            let line = line?;
            if let Some(check) = Check::of(&line) {
                said.checks.push(check);
            } else if let Some(why) = lines::failure(&line) {
                said.failure.get_or_insert(why);
            } else {
                said.lines.push(line);
            }
        }
        Ok(said)
    }

    /// The lines, if the process ended well and saw what the others saw; only then is
    /// what it saw held against those that come next.
    fn agreed(
        self,
        ended_well: bool,
        status: &str,
        whose: &Whose,
        seen: &mut Seen,
    ) -> Outcome<Vec<String>> {
        if !ended_well || self.failure.is_some() {
            let ended = || format!("the process ended with {status}");
            return Err(self.failure.unwrap_or_else(ended).into());
        }
        for check in &self.checks {
            if let Some((sum, first)) = seen.get(&check.what)
                && *sum != check.sum
            {
                return Err(format!("{}: it read other values than {first}", check.what).into());
            }
        }
        for check in self.checks {
            seen.entry(check.what).or_insert_with(|| (check.sum, whose.store.clone()));
        }
        Ok(self.lines)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Said, Seen, Whose, whose_turn};

    /// What comes of a process that printed this.
    fn agreed(store: &str, printed: &str, well: bool, seen: &mut Seen) -> Result<String, String> {
        let said = Said::read(printed.as_bytes()).expect("it can be read");
        let whose = Whose { store: store.to_owned(), round: 0 };
        let lines = said.agreed(well, "exit status: 2", &whose, seen);
        lines.map(|lines| lines.join(",")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_store_that_differs_or_fails_leaves_no_times() {
        let check = |sum: u64| {
            format!("{{\"bench\":\"compare\",\"kind\":\"check\",\"what\":\"get\",\"sum\":{sum}}}\n")
        };
        let why = "{\"bench\":\"compare\",\"kind\":\"failure\",\"why\":\"entry 5 is missing\"}\n";
        let mut seen = Seen::new();
        let mut of =
            |store, printed: &[&str], well| agreed(store, &printed.concat(), well, &mut seen);
        // What a process saw that failed says nothing of the others.
        let failed = of("fjall", &["a time\n", &check(9), why], false);
        assert_eq!(failed, Err("entry 5 is missing".to_owned()));
        let killed = of("sled", &["a time\n", &check(9)], false);
        assert_eq!(killed, Err("the process ended with exit status: 2".to_owned()));
        assert_eq!(of("swissdb", &["a\n", &check(7), "b\n"], true), Ok("a,b".to_owned()));
        let differs = of("redb", &["a time\n", &check(8)], true);
        assert_eq!(differs, Err("get: it read other values than swissdb".to_owned()));
        assert_eq!(of("lmdb", &["a\n", &check(7)], true), Ok("a".to_owned()));
    }

    #[test]
    fn each_store_follows_each_other_as_often() {
        let stores = 6;
        let mut followed: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for round in 0..stores {
            let order: Vec<_> = (0..stores).map(|turn| whose_turn(turn, round, stores)).collect();
            for pair in order.windows(2) {
                *followed.entry((pair[0], pair[1])).or_default() += 1;
            }
        }
        assert_eq!(followed.len(), stores * (stores - 1), "every pair of two");
        assert!(followed.values().all(|times| *times == 1), "{followed:?}");
    }
}
