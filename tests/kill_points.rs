//! Killed between any two operations on files.
//!
//! A first pass runs a scenario on a watched storage in memory and takes a
//! copy of all files after every operation that changes one, together with the
//! number of steps that had returned. Then each copy is opened: it must hold the
//! state after those steps, or that with the step under way done as well, and
//! nothing else; it must verify, take a change, and close. Recovery itself is
//! killed at each of its operations in the same way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use swissdb::storage::memory::Memory;
use swissdb::{Batch, Db, Error, Options};

use crate::support::{Gate, Model, State, assert_clean, key, seed_of_the_run, state_of, value};

/// One step of a scenario: what it does to the store, and to what it holds.
type Step = Box<dyn Fn(&Db, &mut State) -> swissdb::Result<()>>;

/// The files after one operation.
struct Point {
    files: Memory,
    /// Steps that had returned.
    done: usize,
    /// Which operation it was, for the message.
    name: String,
}

fn options() -> Options {
    Options::new().payload(104).write_buffer(1 << 20).max_log_file(1 << 20)
}

/// Runs `body` on these files and returns what they were after each operation.
fn points(files: &Memory, done: &Arc<AtomicUsize>, body: impl FnOnce(Gate)) -> Vec<Point> {
    let points = Arc::new(Mutex::new(Vec::new()));
    let (watched, seen, steps) = (files.clone(), points.clone(), done.clone());
    let watcher = Arc::new(move |operation: &str| {
        let files = watched.copy().expect("copy the files");
        let done = steps.load(Ordering::SeqCst);
        let mut points = seen.lock().expect("the points so far");
        let name = format!("operation {} ({operation}) in step {done}", points.len());
        points.push(Point { files, done, name });
    });
    body(Gate::watched(Arc::new(files.clone()), watcher));
    std::mem::take(&mut *points.lock().expect("all points"))
}

/// Every `stride`-th of these points. Which ones depends on the seed of the run.
fn some(points: &[Point], stride: usize) -> impl Iterator<Item = &Point> {
    let first = seed_of_the_run() as usize % stride;
    points.iter().skip(first).step_by(stride)
}

/// What a store holds, in all its tables.
/// Fails unless this point is one of the allowed states, and a whole store.
fn check(point: &Point, allowed: &[State]) {
    // Reading alone, which changes nothing, comes to the same.
    match options().read_only(true).open_on(Arc::new(point.files.clone())) {
        Ok(db) => {
            assert!(allowed.contains(&state_of(&db)), "killed after {}: a reader", point.name);
            assert_clean(&db);
        }
        // It was about to be created.
        Err(Error::NotFound { .. }) => assert_eq!(point.done, 0, "{}", point.name),
        Err(error) => panic!("killed after {}: {error}", point.name),
    }
    let db = options().open_on(Arc::new(point.files.clone()));
    let db = db.unwrap_or_else(|error| panic!("killed after {}: {error}", point.name));
    let found = state_of(&db);
    assert!(allowed.contains(&found), "killed after {}: another state", point.name);
    assert_clean(&db);
    db.insert("after", "the kill").expect("insert");
    db.close().unwrap_or_else(|error| panic!("killed after {}: {error}", point.name));
    let db = options().open_on(Arc::new(point.files.clone())).expect("open again");
    assert_eq!(db.get("after").expect("get").as_deref(), Some(&b"the kill"[..]));
    db.close().expect("close");
}

/// The states after each number of steps. The first is that of a new store.
fn states(steps: &[Step]) -> Vec<State> {
    let db = Db::in_memory().expect("a store to try the steps on");
    let mut states = vec![State::from([("default".into(), Model::new())])];
    for step in steps {
        let mut next = states[states.len() - 1].clone();
        step(&db, &mut next).expect("a step");
        assert_eq!(state_of(&db), next, "what a step does and what it says");
        states.push(next);
    }
    states
}

/// The points of a scenario, from creating the store to having closed it.
fn points_of(steps: &[Step], options: &Options) -> Vec<Point> {
    let done = Arc::new(AtomicUsize::new(0));
    points(&Memory::new(), &done, |gate| {
        let db = options.open_on(Arc::new(gate)).expect("create a store");
        for step in steps {
            step(&db, &mut State::from([("default".into(), Model::new())])).expect("a step");
            done.fetch_add(1, Ordering::SeqCst);
        }
        db.close().expect("close");
    })
}

/// Checks every `stride`-th point of a scenario; other seeds, other points.
fn check_scenario(steps: &[Step], stride: usize) {
    let states = states(steps);
    check_points(&points_of(steps, &options()), &states, stride);
}

fn check_points(points: &[Point], states: &[State], stride: usize) {
    eprintln!("{} operations in {} steps", points.len(), states.len() - 1);
    assert!(points.len() > 20, "the operations were watched");
    for point in some(points, stride) {
        check(point, &states[point.done..states.len().min(point.done + 2)]);
    }
}

fn insert(i: u64, length: usize) -> Step {
    Box::new(move |db, state| {
        let default = state.entry("default".into()).or_default();
        default.insert(key(i), value(i, length));
        db.insert(key(i), value(i, length))
    })
}

fn insert_into(table: &'static str, i: u64, length: usize) -> Step {
    Box::new(move |db, state| {
        state.entry(table.into()).or_default().insert(key(i), value(i, length));
        db.table(table)?.insert(key(i), value(i, length))
    })
}

fn remove(i: u64) -> Step {
    Box::new(move |db, state| {
        state.entry("default".into()).or_default().remove(&key(i));
        db.remove(key(i)).map(drop)
    })
}

/// Many entries in one commit: segments grow and split.
fn batch(entries: std::ops::Range<u64>, length: usize) -> Step {
    Box::new(move |db, state| {
        let mut batch = Batch::new();
        for i in entries.clone() {
            batch.insert(key(i), value(i, length))?;
            state.entry("default".into()).or_default().insert(key(i), value(i, length));
        }
        db.write(&batch)
    })
}

fn create(table: &'static str) -> Step {
    Box::new(move |db, state| {
        state.entry(table.into()).or_default();
        db.table(table).map(drop)
    })
}

fn drop_table(table: &'static str) -> Step {
    Box::new(move |db, state| {
        state.remove(table);
        db.drop_table(table).map(drop)
    })
}

fn clear() -> Step {
    Box::new(|db, state| {
        state.entry("default".into()).or_default().clear();
        db.clear()
    })
}

fn checkpoint() -> Step {
    Box::new(|db, _| db.checkpoint())
}

fn compact() -> Step {
    Box::new(|db, _| db.compact().map(drop))
}

#[test]
fn writes_and_checkpoints_may_be_killed_anywhere() {
    let steps = [
        insert(1, 20),
        insert(2, 500),
        checkpoint(),
        insert(1, 300),
        remove(2),
        batch(0..200, 60),
        checkpoint(),
        remove(7),
        batch(100..150, 400),
        checkpoint(),
        checkpoint(),
        insert(9, 0),
    ];
    check_scenario(&steps, 1);
}

#[test]
fn tables_and_clearing_may_be_killed_anywhere() {
    let steps = [
        insert(1, 20),
        create("one"),
        insert_into("one", 1, 200),
        create("two"),
        insert_into("two", 1, 20),
        checkpoint(),
        drop_table("one"),
        insert_into("two", 2, 20),
        clear(),
        insert(2, 20),
        checkpoint(),
        create("one"),
        drop_table("two"),
        checkpoint(),
    ];
    check_scenario(&steps, 2);
}

#[test]
fn changes_of_log_files_may_be_killed_anywhere() {
    // Each value fills a third of a log file; some have a file of their own.
    let large = |i: u64| insert(i % 3, 350_000 + i as usize);
    let mut steps: Vec<Step> = (0..8).map(large).collect();
    steps.push(insert(3, 2 << 20));
    steps.push(checkpoint());
    steps.push(insert(0, 10));
    steps.extend((1..5).map(large));
    steps.push(checkpoint());
    check_scenario(&steps, 9);
}

#[test]
fn giving_space_back_may_be_killed_anywhere() {
    // After the clear most of the table file is free: a hole is punched, and
    // closing cuts the file off.
    let mut steps: Vec<Step> = Vec::new();
    for i in 0..8 {
        steps.push(batch(1000 * i..1000 * (i + 1), 60));
        steps.push(checkpoint());
    }
    let full = steps.len();
    steps.extend([clear(), checkpoint(), insert(1, 20), checkpoint(), insert(2, 400)]);
    let states = states(&steps);
    let points: Vec<Point> =
        points_of(&steps, &options()).into_iter().filter(|p| p.done >= full).collect();
    let named = |name: &str| points.iter().any(|point| point.name.contains(name));
    assert!(named("punch") && named("set length"));
    check_points(&points, &states, 1);
}

#[test]
fn compaction_of_two_tables_may_be_killed_anywhere() {
    let steps = [
        insert(1, 20),
        create("one"),
        insert_into("one", 1, 200),
        checkpoint(),
        insert(2, 500),
        compact(),
        insert_into("one", 2, 300),
        compact(),
        compact(),
        drop_table("one"),
        insert(2, 20),
    ];
    check_scenario(&steps, 4);
}

#[test]
fn closing_with_a_large_log_file_may_be_killed_anywhere() {
    // The log goes on in a small file, so that the large one can be let go.
    let mut steps: Vec<Step> =
        vec![insert(1, 20), create("one"), insert_into("one", 1, 200), checkpoint()];
    steps.extend((0..10).map(|i| insert(i % 2, 900_000)));
    steps.push(remove(0));
    steps.push(remove(1));
    let states = states(&steps);
    let large = options().max_log_file(4 << 20);
    let points = points_of(&steps, &large);
    let closing = points.iter().position(|point| point.done == steps.len());
    check_points(&points[closing.expect("closing was watched")..], &states, 1);
}

#[test]
fn recovery_may_be_killed_anywhere() {
    let steps = [
        insert(1, 20),
        create("one"),
        insert_into("one", 1, 200),
        checkpoint(),
        batch(0..100, 60),
        drop_table("one"),
        insert(2, 400),
    ];
    let states = states(&steps);
    let mut checked = 0;
    for point in some(&points_of(&steps, &options()), 7) {
        let allowed = &states[point.done..states.len().min(point.done + 2)];
        let done = Arc::new(AtomicUsize::new(point.done));
        let within = points(&point.files, &done, |gate| {
            let db = options().open_on(Arc::new(gate)).expect("recover");
            assert!(allowed.contains(&state_of(&db)), "recovered after {}", point.name);
            // Not closed: the last handle goes as it does when a thread panics.
            std::mem::forget(db);
        });
        for second in some(&within, 3) {
            let name = format!("{}, then {}", point.name, second.name);
            let files = second.files.copy().expect("copy the files");
            check(&Point { files, done: point.done, name }, allowed);
            checked += 1;
        }
    }
    eprintln!("{checked} times killed twice");
}

#[test]
fn recovery_that_has_to_make_room_may_be_killed_anywhere() {
    // More pages are changed than the write buffer of the one who recovers
    // may hold, in an order that is not that of the log.
    let (files, mut state) = (Memory::new(), State::new());
    let roomy = options().write_buffer(64 << 20);
    let db = roomy.open_on(Arc::new(files.clone())).expect("create a store");
    batch(0..6_000, 60)(&db, &mut state).expect("fill it");
    db.checkpoint().expect("checkpoint");
    for i in 0..700 {
        let step = if i % 4 == 0 { remove(i * 7) } else { insert(i * 6_151 % 6_000, 500) };
        step(&db, &mut state).expect("a change");
    }
    let left = files.copy().expect("copy the files");
    db.close().expect("close the copied store");

    let done = Arc::new(AtomicUsize::new(0));
    let within = points(&left, &done, |gate| {
        let db = options().open_on(Arc::new(gate)).expect("recover");
        assert!(db.stats().checkpoints > 0, "room was made");
        assert!(state_of(&db) == state, "recovered");
        std::mem::forget(db);
    });
    eprintln!("{} operations", within.len());
    for point in some(&within, 4) {
        check(point, std::slice::from_ref(&state));
    }
}
