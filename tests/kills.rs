//! Real processes that are really killed.
//!
//! The test starts itself as a child that changes a store and says after each
//! change that it has returned. The parent kills it with SIGKILL at a random
//! moment and opens the store: every change that had returned must be there,
//! the one under way wholly or not at all, and nothing else.

#[path = "kills/threads.rs"]
mod threads;
#[path = "kills/work.rs"]
mod work;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use swissdb::{Batch, Db, Options};

use crate::support::{Model, Random, assert_clean, key, pairs, value};

/// Tells a child which store it writes, and from which change on.
const STORE: &str = "SWISSDB_TEST_CHILD_STORE";
const FIRST: &str = "SWISSDB_TEST_CHILD_FIRST";

fn options() -> Options {
    Options::new().payload(104).write_buffer(1 << 20).max_log_file(1 << 20)
}

/// The entries that change number `i` inserts (with a value) or removes.
fn change(i: u64) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let one = |j: u64| {
        let bits = Random::unprinted(i * 1_000 + j).next();
        let bytes = value(bits, [20, 90, 500, 4_000][(bits % 4) as usize]);
        (key(bits % 700), (!bits.is_multiple_of(5)).then_some(bytes))
    };
    // Every tenth change is a batch, some of them large.
    match i % 10 {
        0 => (0..2 + i % 60).map(one).collect(),
        _ => vec![one(0)],
    }
}

/// Makes change number `i` in a store.
fn make_change(db: &Db, i: u64) -> swissdb::Result<()> {
    let change = change(i);
    match &change[..] {
        [(key, Some(value))] => db.insert(key, value),
        [(key, None)] => db.remove(key).map(drop),
        many => {
            let mut batch = Batch::new();
            for (key, value) in many {
                match value {
                    Some(value) => batch.insert(key, value)?,
                    None => batch.remove(key)?,
                }
            }
            db.write(&batch)
        }
    }
}

/// Not a test by itself: the child, which ends only by being killed.
#[test]
fn child() {
    let (Ok(store), Ok(first)) = (std::env::var(STORE), std::env::var(FIRST)) else {
        return;
    };
    let db = options().open(store).expect("the child opens the store");
    let first: u64 = first.parse().expect("a number");
    let mut out = std::io::stdout();
    for i in first.. {
        make_change(&db, i).expect("a change");
        if i % 700 == 0 {
            db.checkpoint().expect("checkpoint");
        }
        writeln!(out, "\ndone {i}").and_then(|()| out.flush()).expect("tell the parent");
    }
}

/// Starts a child, kills it after at least `wait` changes, and returns the
/// number of the last change that had returned.
fn run_and_kill(store: &Path, first: u64, wait: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "kills::child", "--nocapture", "--test-threads=1"])
        .env(STORE, store)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("start a child");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut last = first - 1;
    for line in lines.map_while(Result::ok) {
        let Some(number) = line.strip_prefix("done ") else {
            continue;
        };
        // The line that was being written may be cut off.
        let Ok(number) = number.parse() else { break };
        if number <= last || number > last + 1 {
            break;
        }
        last = number;
        if last == first + wait {
            child.kill().expect("kill");
        }
    }
    child.wait().expect("wait for the child");
    last
}

#[test]
fn a_killed_process_loses_no_change_that_had_returned() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut random = Random::new(31);
    let mut model = Model::new();
    let mut next = 1;
    for round in 0..6 {
        let last = run_and_kill(directory.path(), next, random.below(1_500));
        assert!(last >= next, "the child made changes in round {round}");
        let apply = |model: &mut Model, i| {
            for (key, value) in change(i) {
                match value {
                    Some(value) => model.insert(key, value),
                    None => model.remove(&key),
                };
            }
        };
        (next..=last).for_each(|i| apply(&mut model, i));
        let mut with_one_more = model.clone();
        apply(&mut with_one_more, last + 1);

        let db = options().open(directory.path()).expect("open after the kill");
        assert_clean(&db);
        let found: Model = pairs(db.iter()).collect();
        assert!(
            found == model || found == with_one_more,
            "round {round}: not the state after change {last} or {}",
            last + 1
        );
        next = if found == with_one_more { last + 2 } else { last + 1 };
        model = found;
        // Sometimes the next child finds a closed store, sometimes a dropped one.
        if round % 2 == 0 {
            db.close().expect("close");
        }
    }
    eprintln!("{next} changes, {} entries", model.len());
}
