//! Ctrl-C in the middle of a long command.
//!
//! Goal: what makes a new store, or new slots, leaves nothing half made behind
//! and says how things are; the store itself stays whole. Method: the command
//! is started on a store of some size, gets the signal as soon as what it makes
//! is seen to be there, and is looked at afterwards. It may have been done just
//! before, so it is tried until one was interrupted.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::tool::{Place, Run};

const ENTRIES: usize = 60_000;
const TRIES: usize = 50;

fn with_entries() -> Place {
    let place = Place::new();
    let lines: String = (0..ENTRIES)
        .map(|i| format!("{{\"key\": \"{i}\", \"value\": \"of {i}, forty bytes long or so\"}}\n"))
        .collect();
    place.run_with(&["load", "db"], lines.as_bytes()).yes();
    place
}

/// Starts a command, interrupts it when `made` is there, and returns how it
/// ended: whether it was interrupted, and what it said.
fn interrupted(place: &Place, arguments: &[&str], made: &Path) -> (bool, Run) {
    let mut child = place.start(arguments);
    while !made.exists() && child.try_wait().unwrap().is_none() {
        thread::sleep(Duration::from_millis(1));
    }
    let signal = format!("kill -INT {}", child.id());
    let _ = Command::new("sh").args(["-c", &signal]).output().unwrap();
    let run = Run::new(arguments, child.wait_with_output().unwrap());
    match run.status {
        Some(130) => (true, run),
        _ => (false, run.yes()),
    }
}

#[test]
fn an_interrupted_copy_leaves_nothing_behind() {
    let place = with_entries();
    for (command, told) in [("backup", "no copy was made"), ("salvage", "no new store was made")] {
        let (copy, unfinished) = (place.path("copy"), place.path("copy.tmp"));
        let mut seen = false;
        for _ in 0..TRIES {
            let (was_interrupted, run) = interrupted(&place, &[command, "db", "copy"], &unfinished);
            assert!(!unfinished.exists(), "{command}: {}", run.err);
            assert_eq!(copy.exists(), !was_interrupted, "{command}: {}", run.err);
            if was_interrupted {
                assert_eq!(run.err, format!("swissdb: interrupted; {told}\n"));
                seen = true;
                break;
            }
            std::fs::remove_dir_all(&copy).unwrap();
        }
        assert!(seen, "{command} was never interrupted");
    }
    place.run(&["verify", "db"]).yes();
}

#[test]
fn an_interrupted_change_of_slots_leaves_the_store_as_it_was() {
    let place = with_entries();
    let unfinished = place.path("db/default.swiss.tmp");
    let mut seen = false;
    for payload in ["64", "72"].iter().cycle().take(TRIES) {
        let arguments = ["compact", "--slot-payload", payload, "db"];
        let (was_interrupted, run) = interrupted(&place, &arguments, &unfinished);
        assert!(!unfinished.exists(), "{}", run.err);
        if was_interrupted {
            let kept = "swissdb: interrupted; the store is as it was\n";
            let compacted = run.err.ends_with("interrupted; the store is partly compacted\n");
            assert!(run.err == kept || compacted, "{}", run.err);
            seen = true;
            break;
        }
    }
    assert!(seen, "it was never interrupted");
    place.run(&["verify", "db"]).yes();
    let keys = place.run(&["scan", "--keys-only", "db"]).yes();
    assert_eq!(keys.text().lines().count(), ENTRIES);
}
