//! Group commit, the keepers, and what follows when a sync fails.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::faulty::Faulty;
use super::*;

/// Waits until something is so.
pub(super) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_sync_covers_everything_appended_before_it() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    open.fill(5, 100);
    assert_eq!((open.log.appended(), open.log.durable()), (5, 0));
    open.log.sync_to(3).unwrap();
    assert_eq!(open.log.durable(), 5);
    storage.set(|state| state.syncs.clear());
    open.log.sync_to(5).unwrap();
    open.log.sync_to(u64::MAX).unwrap();
    assert!(storage.get(|state| state.syncs.is_empty()), "nothing was left to sync");
}

#[test]
fn files_are_synced_oldest_first_and_finished_ones_once() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    open.rotate();
    open.rotate();
    storage.set(|state| state.syncs.clear());
    open.log.sync_to(u64::MAX).unwrap();
    let expected: Vec<String> = (1..=3).map(log_file_name).collect();
    assert_eq!(storage.get(|state| state.syncs.clone()), expected);
    open.fill(1, 10);
    open.log.sync_to(u64::MAX).unwrap();
    assert_eq!(storage.get(|state| state.syncs.len()), 4);
}

#[test]
fn a_sync_lets_go_of_what_was_written_and_of_each_page_once() {
    let mut open = Open::create(Faulty::new());
    let file = open.appender.current.log.clone();
    open.fill(10, 1_000);
    assert_eq!(file.let_go(), 0..0, "too little to be worth it");
    open.fill(200, 1_000);
    let whole = open.appender.position().offset as u64 / 4096 * 4096;
    assert_eq!(file.let_go(), 0..whole);
    assert_eq!(file.let_go(), 0..0);
    open.fill(100, 1_000);
    let more = open.appender.position().offset as u64 / 4096 * 4096;
    assert_eq!(file.let_go(), whole..more);
}

#[test]
#[cfg_attr(miri, ignore = "maps files")]
fn what_a_sync_has_let_go_is_read_and_appended_to() {
    let directory = tempfile::tempdir().unwrap();
    let mut open = Open::create(crate::storage::files::Files::new(directory.path()));
    let start = open.appender.position();
    let mut expected = Vec::new();
    for round in 0..5_u8 {
        for i in 0..200_u8 {
            let (key, value) = ([round, i].to_vec(), vec![i; 700]);
            open.put(&key, &value);
            expected.push((key, value));
        }
        open.log.sync_to(u64::MAX).unwrap();
    }
    let found = contents(&open.log, start, open.appender.position());
    assert_eq!(found, expected);
}

#[test]
fn one_leader_syncs_for_all_who_wait() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    open.fill(1, 10);
    storage.set(|state| (state.hold_sync, state.syncs) = (true, Vec::new()));
    let log = &open.log;
    std::thread::scope(|scope| {
        scope.spawn(|| log.sync_to(1).unwrap());
        until("the first leader syncs", || storage.get(|state| state.syncs.len() == 1));
        open.appender.append(&[insert(b"a", b"")]).unwrap();
        for _ in 0..20 {
            scope.spawn(|| {
                log.sync_to(2).unwrap();
                assert!(log.durable() >= 2);
            });
        }
        std::thread::sleep(Duration::from_millis(20));
        storage.set(|state| state.hold_sync = false);
    });
    // One for the first, one for the twenty (some may have come too late for
    // neither, as they found their commit covered).
    assert_eq!(storage.get(|state| state.syncs.len()), 2);
}

#[test]
fn writers_on_many_threads_get_their_commits_durable() {
    let storage = Faulty::new();
    let Open { log, appender } = Open::create(storage.clone());
    let from = appender.position();
    let appender = Mutex::new(appender);
    std::thread::scope(|scope| {
        for thread in 0..8u8 {
            let (log, appender) = (&log, &appender);
            scope.spawn(move || {
                for round in 0..50u8 {
                    let placed = lock(appender).append(&[insert(&[thread, round], b"")]).unwrap();
                    log.sync_to(placed.commit).unwrap();
                    assert!(log.durable() >= placed.commit);
                }
            });
        }
    });
    let all = contents(&log, from, lock(&appender).position());
    for thread in 0..8 {
        let rounds: Vec<u8> =
            all.iter().filter(|(key, _)| key[0] == thread).map(|(key, _)| key[1]).collect();
        assert_eq!(rounds, (0..50).collect::<Vec<u8>>());
    }
    assert!(storage.get(|state| state.syncs.len()) < 8 * 50 + 10);
}

/// Lets so many threads make so many commits each durable, over a storage that
/// takes its time; returns how many syncs that took.
fn syncs_of(threads: u8, rounds: u8) -> usize {
    let storage = Faulty::new();
    let Open { log, appender } = Open::create(storage.clone());
    let appender = Mutex::new(appender);
    storage.set(|state| {
        (state.slow_sync, state.syncs) = (Duration::from_millis(20), Vec::new());
    });
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (log, appender) = (&log, &appender);
            scope.spawn(move || {
                for round in 0..rounds {
                    let placed = lock(appender).append(&[insert(&[thread, round], b"")]).unwrap();
                    log.make_durable(placed.commit).unwrap();
                }
            });
        }
    });
    let counters = log.counters();
    assert!(counters.sync_waits <= u64::from(threads) * u64::from(rounds));
    assert!(counters.sync_waits >= rounds.into(), "whoever leads has waited");
    assert!(counters.sync_wait_time >= counters.sync_time);
    storage.get(|state| state.syncs.len())
}

#[test]
fn those_whom_a_sync_has_covered_come_back_in_time_for_the_next_one() {
    // If the next one began at once they would be too late: of eight threads
    // each sync would cover four, 40 syncs. A machine that stands still may
    // spoil a try, not all of them.
    let tries: Vec<usize> = (0..5).map(|_| syncs_of(8, 20)).take_while(|n| *n > 27).collect();
    assert!(tries.len() < 5, "{tries:?} syncs for 160 commits of eight threads");
}

#[test]
fn a_writer_that_is_expected_and_does_not_come_keeps_nobody_from_syncing() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    open.fill(1, 10);
    storage.set(|state| (state.hold_sync, state.syncs) = (true, Vec::new()));
    let log = &open.log;
    std::thread::scope(|scope| {
        scope.spawn(|| log.make_durable(1).unwrap());
        until("the first leader syncs", || storage.get(|state| state.syncs.len() == 1));
        open.appender.append(&[insert(b"a", b"")]).unwrap();
        scope.spawn(|| log.make_durable(2).unwrap());
        until("the second one waits", || lock(&log.sync).crowd.waiting() == 1);
        storage.set(|state| state.hold_sync = false);
    });
    assert_eq!((log.durable(), log.counters().sync_waits), (2, 2));
    log.make_durable(2).unwrap();
    assert_eq!(log.counters().sync_waits, 2, "nothing was to be waited for");
}

#[test]
fn a_failing_sync_poisons_and_wakes_those_who_wait() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    open.fill(1, 10);
    storage.set(|state| {
        (state.hold_sync, state.fail_sync, state.syncs) = (true, true, Vec::new());
    });
    let log = &open.log;
    let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..5).map(|_| scope.spawn(|| log.sync_to(1))).collect();
        until("somebody leads", || storage.get(|state| state.syncs.len() == 1));
        storage.set(|state| state.hold_sync = false);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let failed = outcomes.iter().filter(|outcome| matches!(outcome, Err(Error::Io { .. })));
    assert_eq!(failed.count(), 1);
    let rest = outcomes.iter().filter(|outcome| matches!(outcome, Err(Error::Poisoned { .. })));
    assert_eq!(rest.count(), 4);
    storage.set(|state| (state.fail_sync, state.syncs) = (false, Vec::new()));
    // Nothing is written or synced any more, whatever the device says now.
    let poisoned = |result: Result<()>| matches!(result, Err(Error::Poisoned { .. }));
    assert!(poisoned(log.sync_to(1)));
    assert!(poisoned(log.wait_for_file(10, false)));
    assert!(poisoned(log.close()));
    assert!(poisoned(open.appender.append(&[insert(b"k", b"")]).map(drop)));
    assert!(poisoned(open.appender.reserve(10, true).map(drop)));
    assert!(storage.get(|state| state.syncs.is_empty()));
    assert!(log.read(&pins::pin(), 1, 4096, 24).is_some(), "reading goes on");
}

#[test]
fn a_leader_that_panics_poisons_and_wakes_those_who_wait() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    open.fill(1, 10);
    storage.set(|state| {
        (state.hold_sync, state.panic_at_sync, state.syncs) = (true, true, Vec::new());
    });
    let log = &open.log;
    std::thread::scope(|scope| {
        let leader = scope.spawn(|| log.sync_to(1));
        until("somebody leads", || storage.get(|state| state.syncs.len() == 1));
        let follower = scope.spawn(|| log.sync_to(1));
        storage.set(|state| state.hold_sync = false);
        assert!(leader.join().is_err());
        assert!(matches!(follower.join().unwrap(), Err(Error::Poisoned { .. })));
    });
}

/// Runs the keepers around some work.
pub(super) fn with_keepers(log: &Log, interval: Duration, work: impl FnOnce()) {
    /// Also when an assertion fails: else the test would hang.
    struct Stop<'a>(&'a Log);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.stop();
        }
    }
    std::thread::scope(|scope| {
        let _stop = Stop(log);
        (0..KEEPERS).for_each(|_| drop(scope.spawn(|| log.keep(interval))));
        work();
    });
}

#[test]
fn the_keepers_sync_after_the_interval_and_sleep_when_all_is_durable() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    let log = open.log.clone();
    let interval = Duration::from_millis(50);
    with_keepers(&log, interval, || {
        for burst in 1..=3 {
            let start = Instant::now();
            open.fill(2, 10);
            until("the burst is durable", || log.durable() == 2 * burst);
            assert!(start.elapsed() >= interval / 2, "not before it is time");
            std::thread::sleep(interval * 3);
        }
        let count = storage.get(|state| state.syncs.len());
        std::thread::sleep(interval * 4);
        assert_eq!(storage.get(|state| state.syncs.len()), count, "no idle I/O");
    });
}

#[test]
fn the_keepers_miss_no_commit_however_bursts_fall() {
    let mut open = Open::create(Memory::new());
    let log = open.log.clone();
    with_keepers(&log, Duration::from_millis(1), || {
        for round in 0..60 {
            open.fill(1, 10);
            std::thread::sleep(Duration::from_micros(round * 53 % 2_700));
            if round % 10 == 9 {
                until("all is durable", || log.durable() == log.appended());
            }
        }
    });
}

#[test]
fn the_keepers_prepare_the_next_file_ahead() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    let log = open.log.clone();
    with_keepers(&log, Duration::from_secs(100), || {
        open.fill(2, 1_000);
        assert_eq!(storage.list("log").unwrap().len(), 1, "not before it is needed");
        open.fill(2, 100_000);
        until("a file is prepared", || {
            storage.list("log").unwrap().contains(&"00000002.log".to_owned())
        });
        // From now on nobody has to wait, if the keepers are given time.
        for _ in 0..40 {
            until("there is room", || {
                open.appender.reserve(100_100, false).unwrap() == Room::Ready
            });
            open.fill(1, 100_000);
        }
    });
}

#[test]
fn the_next_file_is_prepared_while_a_sync_takes_its_time() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    let log = open.log.clone();
    with_keepers(&log, Duration::from_millis(1), || {
        storage.set(|state| (state.hold_sync, state.syncs) = (true, Vec::new()));
        open.fill(2, 10);
        until("a keeper syncs", || storage.get(|state| !state.syncs.is_empty()));
        open.fill(2, 100_000);
        let start = Instant::now();
        while lock(&log.next).ready.is_none() && start.elapsed() < Duration::from_secs(20) {
            std::thread::yield_now();
        }
        // Before anything may fail: else the keeper would sleep for ever.
        let durable = log.durable();
        storage.set(|state| state.hold_sync = false);
        assert_eq!(durable, 0, "the sync was not over");
        assert!(lock(&log.next).ready.is_some());
    });
}

#[test]
fn records_are_synced_while_one_file_is_filled_and_another_prepared() {
    let storage = Faulty::new();
    storage.set(|state| state.holds = true);
    let mut open = Open::create(storage.clone());
    let (log, second) = (open.log.clone(), log_file_name(2));
    with_keepers(&log, Duration::from_millis(1), || {
        storage.set(|state| state.held = vec![second.clone()]);
        log.ask_for_file();
        until("the second file is filled", || storage.get(|state| state.syncs.contains(&second)));
        storage.set(|state| {
            state.held.push(TEMPORARY.to_owned());
            state.syncs.clear();
        });
        drop(lock(&log.next).ready.take());
        log.ask_for_file();
        let prepares = |state: &super::faulty::State| state.syncs.iter().any(|s| s == TEMPORARY);
        let start = Instant::now();
        while !storage.get(prepares) && start.elapsed() < Duration::from_secs(20) {
            std::thread::yield_now();
        }
        let prepared = storage.get(prepares);
        open.fill(3, 10);
        while log.durable() < 3 && start.elapsed() < Duration::from_secs(20) {
            std::thread::yield_now();
        }
        // Before anything may fail: else the keepers would sleep for ever.
        let durable = log.durable();
        storage.set(|state| state.held.clear());
        assert!(prepared);
        assert_eq!(durable, 3);
    });
}

#[test]
fn stopping_ends_the_keepers_at_once() {
    let open = Open::create(Memory::new());
    let barrier = Barrier::new(2);
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            barrier.wait();
            open.log.keep(Duration::from_secs(1_000));
        });
        scope.spawn(|| open.log.keep(Duration::from_secs(1_000)));
        barrier.wait();
        open.log.close().unwrap();
    });
    assert!(start.elapsed() < Duration::from_secs(100));
}
