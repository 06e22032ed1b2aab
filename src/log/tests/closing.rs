//! Closing the log while somebody is at one of its files.

use std::time::Duration;

use super::faulty::Faulty;
use super::*;

/// How long somebody has to come to where it waits.
const MOMENT: Duration = Duration::from_millis(50);

#[test]
fn closing_waits_for_whoever_makes_a_file_and_sends_away_who_waits_for_it() {
    for poisoned in [false, true] {
        let storage = Faulty::new();
        let open = Open::create(storage.clone());
        storage.set(|state| (state.held, state.syncs) = (vec![TEMPORARY.to_owned()], Vec::new()));
        std::thread::scope(|scope| {
            let makes = scope.spawn(|| open.log.wait_for_file(100, false));
            while storage.get(|state| state.syncs.is_empty()) {
                std::thread::yield_now();
            }
            let waits = scope.spawn(|| open.log.wait_for_file(100, false));
            std::thread::sleep(MOMENT);
            if poisoned {
                open.log.poison.set(&"a test");
            }
            let closes = scope.spawn(|| open.log.close());
            std::thread::sleep(MOMENT);
            let finished = [waits.is_finished(), closes.is_finished()];
            // Before anything may fail: else they would wait for ever.
            storage.set(|state| state.held.clear());
            // Closing may have removed the file before it was looked for.
            let _ = makes.join().unwrap();
            let waited = waits.join().unwrap();
            assert_eq!(closes.join().unwrap().is_err(), poisoned);
            assert_eq!(finished, [true, false]);
            match waited {
                Err(Error::Poisoned { .. }) => assert!(poisoned),
                Err(Error::Closed { .. }) => assert!(!poisoned),
                other => panic!("{other:?}"),
            }
        });
        let mut names = storage.list("log").unwrap();
        names.retain(|name| !poisoned || name != "00000002.log");
        assert_eq!(names, ["00000001.log"]);
        // Whoever comes later makes nothing.
        assert!(open.log.wait_for_file(100, false).is_err());
        assert!(open.log.prepare_small().is_err());
    }
}

#[test]
fn closing_waits_for_whoever_gives_the_end_of_a_file_back() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    open.fill(1, 100);
    open.end_file();
    storage.set(|state| state.hold_punch = true);
    std::thread::scope(|scope| {
        let trims = scope.spawn(|| open.log.trim(1));
        while !storage.get(|state| state.punching) {
            std::thread::yield_now();
        }
        let closes = scope.spawn(|| open.log.close());
        std::thread::sleep(MOMENT);
        let finished = closes.is_finished();
        storage.set(|state| state.hold_punch = false);
        trims.join().unwrap();
        closes.join().unwrap().unwrap();
        assert!(!finished);
    });
}
