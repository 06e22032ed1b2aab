//! Opening a store: after a clean close, and after its process was killed.
//!
//! A second process fills the store in batches. It closes it and ends; or it
//! says that it is done and waits, and is killed. Then the store is opened here,
//! in a process that has not seen it before, and one value is read, since a
//! store may leave work for the first read. What was written is still in the
//! page cache in both cases.
//!
//! After the kill all entries are looked for. A store that keeps commits in its
//! process for a while may have lost some, which a line of the kind `note` tells:
//! it had less to recover.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use super::{Child, fill_unmeasured, get};
use crate::Outcome;
use crate::compare::entries::{Group, Shape};
use crate::compare::lines::More;
use crate::compare::measure::each;
use crate::compare::store::Store;

/// What the second process says when the store is full.
const FULL: &str = "full";

/// The second process: fills the store, and closes it or waits to be killed.
pub fn fill<S: Store>(child: &Child, closes: bool) -> Outcome {
    let shape = child.shape(16, 32);
    let mut store: S = child.open(shape, false)?;
    if closes {
        fill_unmeasured(&mut store, shape, 0)?;
        return store.close();
    }
    let mut group = Group::new(shape);
    for start in (0..shape.entries).step_by(super::BATCH) {
        let end = (start + super::BATCH as u64).min(shape.entries);
        store.insert_all(group.fill(start..end, 0))?;
    }
    println!("{FULL}");
    loop {
        std::thread::park();
    }
}

/// Starts the second process, and waits until the store is as it shall be.
fn make(child: &Child, scenario: &str, killed: bool) -> Outcome {
    let mut process = child.again(scenario)?.stdout(Stdio::piped()).spawn()?;
    let lines = process.stdout.take().ok_or("the process has no output")?;
    let mut line = String::new();
    BufReader::new(lines).read_line(&mut line)?;
    if killed {
        process.kill()?;
    }
    let status = process.wait()?;
    match if killed { line.trim() == FULL } else { status.success() } {
        true => Ok(()),
        false => Err(format!("the process that fills the store ended with {status}").into()),
    }
}

/// Both openings.
pub fn run<S: Store>(child: &Child) -> Outcome {
    let shape = child.shape(16, 32);
    for (workload, scenario, killed) in
        [("open-clean", "open-fill", false), ("open-killed", "open-wait", true)]
    {
        if !child.wants(workload) {
            continue;
        }
        make(child, scenario, killed)?;
        let mut store: Option<S> = None;
        let timed = each(1, Duration::MAX, |_| {
            let mut opened: S = child.open(shape, false)?;
            let found = opened.get(&shape.key(0), |_| ())?;
            store = Some(opened);
            Ok(u64::from(found))
        })?;
        let mut store = store.ok_or("the store was opened just now")?;
        let log_bytes = if killed { store.log_bytes() } else { None };
        let more = More { log_bytes, ..More::default() };
        child.whose.time(workload, shape, 1, timed, more)?;
        let lost = lost(&mut store, shape)?;
        store.close()?;
        match (lost, killed) {
            (0, _) => {}
            (lost, true) => {
                let why = format!("{lost} of {} entries were lost by the kill", shape.entries);
                child.whose.note(workload, &why)?;
            }
            (lost, false) => return Err(format!("{lost} entries are missing").into()),
        }
        child.empty()?;
    }
    Ok(())
}

/// How many entries are not there. Those that are have to be sound.
fn lost<S: Store>(store: &mut S, shape: Shape) -> Outcome<u64> {
    let mut lost = 0;
    for number in 0..shape.entries {
        match store.get(&shape.key(number), |_| ())? {
            true => get(store, shape, number).map(drop)?,
            false => lost += 1,
        }
    }
    Ok(lost)
}
