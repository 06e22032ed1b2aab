//! Iteration that is left, stored and resumed, and iteration in parts.
//!
//! Goal: the guarantees of iteration hold from a scan's beginning to its end,
//! however often it is resumed and whatever happens in between: an entry neither
//! inserted nor removed comes exactly once, none comes twice. Method: scans are
//! taken apart at every possible place, with a different change at each: growth,
//! splits, removals, merges, compaction, checkpoints, a reopening, a kill.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use swissdb::{Cursor, Db, Error, Options, Scan};

use crate::support::{Model, Random, TestStore, assert_same, key, pairs, show, value};

/// Stores of one segment and of many, of inline and of spilled entries.
fn stores() -> Vec<TestStore> {
    vec![
        TestStore::in_memory(Options::new()),
        TestStore::in_memory(Options::new().payload(24)),
        TestStore::on_disk(Options::new().payload(504).write_buffer(1 << 20)),
    ]
}

/// Fills a store with entries of all kinds; what it holds then.
fn filled(store: &TestStore, count: u64) -> Model {
    let entry = |i: u64| {
        let mut bytes = key(i);
        if i.is_multiple_of(7) {
            bytes.resize(600, 1);
        }
        (bytes, value(i, [8, 30, 600][(i % 3) as usize]))
    };
    let model: Model = (0..count).map(entry).collect();
    for (key, value) in &model {
        store.insert(key, value).expect("insert");
    }
    model
}

/// Takes at most so many entries; where the scan stands then, through bytes.
fn take(scan: &mut Scan, count: usize, seen: &mut Model) -> (usize, Cursor) {
    let mut taken = 0;
    for entry in scan.by_ref().take(count) {
        let (key, value) = entry.expect("an entry");
        let twice = seen.insert(key.to_vec(), value.into_vec());
        assert!(twice.is_none(), "{} came twice", show(&key));
        taken += 1;
    }
    (taken, Cursor::from_bytes(&scan.cursor().to_bytes()).expect("a cursor"))
}

/// Resumes a scan after every `step` entries, with something in between.
fn resume(
    store: &mut TestStore,
    step: usize,
    between: &mut dyn FnMut(&mut TestStore, &Model),
) -> Model {
    let (mut seen, mut cursor) = (Model::new(), Cursor::start());
    loop {
        let mut scan = store.iter_from(cursor).expect("iter_from");
        let (taken, next) = take(&mut scan, step, &mut seen);
        drop(scan);
        if taken < step {
            assert!(next.is_at_end());
            return seen;
        }
        between(store, &seen);
        cursor = next;
    }
}

#[test]
fn a_scan_resumed_after_every_entry_brings_each_once() {
    for mut store in stores() {
        for count in [0, 1, 30, 500] {
            let model = filled(&store, count);
            for step in [1, 3, 64, 1_000] {
                assert_eq!(resume(&mut store, step, &mut |_, _| {}), model);
            }
        }
    }
}

#[test]
fn a_scan_from_the_start_brings_what_an_iteration_brings() {
    for store in stores() {
        let model = filled(&store, 2_000);
        let scan = store.iter_from(Cursor::start()).expect("iter_from");
        assert_same(pairs(scan), &model);
        assert_same(pairs(store.iter()), &model);
    }
}

#[test]
fn growth_and_splits_between_two_pages_lose_and_repeat_nothing() {
    for mut store in stores() {
        let model = filled(&store, 400);
        // An end, or the scan would never come to its own.
        let mut coming = 10_000..13_000;
        let mut seen = resume(&mut store, 7, &mut |store, _| {
            for i in coming.by_ref().take(120) {
                store.insert(key(i), value(i, 8)).expect("insert");
            }
        });
        assert!(coming.is_empty());
        seen.retain(|key, _| model.contains_key(key));
        assert_eq!(seen, model);
    }
}

#[test]
fn removals_merges_and_compaction_between_two_pages_lose_and_repeat_nothing() {
    for mut store in stores() {
        let model = filled(&store, 3_000);
        let lasting = |i: u64| i.is_multiple_of(10);
        let expected: Model = model
            .iter()
            .zip(0..)
            .filter(|(_, i)| lasting(*i))
            .map(|((k, v), _)| (k.clone(), v.clone()))
            .collect();
        let victims: Vec<_> = model
            .keys()
            .zip(0..)
            .filter(|(_, i)| !lasting(*i))
            .map(|(key, _)| key.clone())
            .collect();
        let mut removed = Vec::new();
        let mut round = 0;
        let mut seen = resume(&mut store, 25, &mut |store, seen| {
            for key in victims.iter().skip(round * 300).take(300) {
                store.remove(key).expect("remove");
                if !seen.contains_key(key) {
                    removed.push(key.clone());
                }
            }
            match round % 4 {
                0 => store.checkpoint().expect("checkpoint"),
                1 => drop(store.compact().expect("compact")),
                _ => {}
            }
            round += 1;
        });
        assert!(removed.iter().all(|key| !seen.contains_key(key)), "a removed entry came");
        assert!(round >= 10, "only {round} rounds");
        seen.retain(|key, _| expected.contains_key(key));
        assert_eq!(seen, expected);
        assert_eq!(store.len(), expected.len() as u64);
    }
}

#[test]
fn stored_cursors_survive_reopening_and_a_kill() {
    let mut store = TestStore::on_disk(Options::new().payload(56).write_buffer(1 << 20));
    let model = filled(&store, 1_500);
    let mut round = 0;
    let seen = resume(&mut store, 200, &mut |store, _| {
        round += 1;
        if round % 2 == 0 {
            store.reopen()
        } else {
            store.kill()
        }
        store.insert(key(100_000 + round), "new").expect("insert");
        store.remove(key(100_000 + round)).expect("remove");
    });
    assert!(round >= 6);
    assert_eq!(seen, model);
}

#[test]
fn random_changes_between_random_pages_keep_the_guarantees() {
    for (seed, mut store) in (0..).zip(stores()) {
        let mut random = Random::new(seed);
        for _ in 0..6 {
            store.clear().expect("clear");
            let mut present: BTreeMap<u64, bool> = BTreeMap::new();
            for i in 0..1_000 {
                store.insert(key(i), value(i, 20)).expect("insert");
                // Whether it was there all the time.
                present.insert(i, true);
            }
            let step = 1 + random.below(90) as usize;
            let seen = resume(&mut store, step, &mut |store, _| {
                for _ in 0..random.below(200) {
                    let i = random.below(3_000);
                    if random.below(2) == 0 {
                        store.insert(key(i), value(i, 20)).expect("insert");
                        present.entry(i).or_insert(false);
                    } else if store.remove(key(i)).expect("remove") {
                        present.insert(i, false);
                    }
                }
                match random.below(12) {
                    0 => store.checkpoint().expect("checkpoint"),
                    1 => drop(store.compact().expect("compact")),
                    _ => {}
                }
            });
            for (i, always) in present {
                assert!(!always || seen.contains_key(&key(i)), "entry {i} is missing");
            }
        }
    }
}

#[test]
fn a_cursor_from_before_a_clear_is_refused() {
    for store in stores() {
        filled(&store, 300);
        let mut scan = store.iter_from(Cursor::start()).expect("iter_from");
        let (_, cursor) = take(&mut scan, 100, &mut Model::new());
        store.clear().expect("clear");
        filled(&store, 300);
        let refused = store.iter_from(cursor);
        assert!(matches!(refused.err(), Some(Error::InvalidArgument { .. })));
        // What was under way ends, as every iteration does.
        assert!(scan.next().is_none_or(|entry| entry.is_ok()));
        assert!(scan.count() < 200);
        assert_eq!(store.iter_from(Cursor::start()).expect("iter_from").count(), 300);
    }
}

#[test]
fn a_cursor_of_another_table_is_refused() {
    let store = TestStore::in_memory(Options::new());
    let other = store.table("other").expect("table");
    store.insert("a", "1").expect("insert");
    other.insert("b", "2").expect("insert");
    let cursor = store.iter_from(Cursor::start()).expect("iter_from").cursor();
    assert!(matches!(other.iter_from(cursor).err(), Some(Error::InvalidArgument { .. })));
    let found: Vec<_> = pairs(other.iter_from(Cursor::start()).expect("iter_from")).collect();
    assert_eq!(found, [(b"b".to_vec(), b"2".to_vec())]);
    let parts = other.scan_partitions(3).into_iter().flat_map(pairs);
    assert_eq!(parts.collect::<Vec<_>>(), found);
    store.drop_table("other").expect("drop");
    assert!(matches!(other.iter_from(cursor).err(), Some(Error::NotFound { .. })));
    assert!(other.scan_partitions(3).into_iter().all(|part| part.count() == 0));
}

#[test]
fn a_scan_that_came_to_the_end_stays_there() {
    for store in stores() {
        let count = filled(&store, 100).len();
        let mut scan = store.iter_from(Cursor::start()).expect("iter_from");
        assert_eq!(scan.by_ref().count(), count);
        let cursor = scan.cursor();
        assert!(cursor.is_at_end());
        for i in 5_000..6_000 {
            store.insert(key(i), "late").expect("insert");
        }
        assert!(scan.next().is_none());
        assert_eq!(store.iter_from(cursor).expect("iter_from").count(), 0);
    }
}

#[test]
fn parts_together_are_everything_and_no_entry_is_in_two() {
    for store in stores() {
        for count in [0, 1, 3_000] {
            let model = filled(&store, count);
            for n in [0, 1, 2, 3, 7, 64, 5_000] {
                let parts = store.scan_partitions(n);
                assert_eq!(parts.len(), n.max(1));
                assert_same(parts.into_iter().flat_map(pairs), &model);
            }
        }
        let sizes: Vec<_> = store.scan_partitions(4).into_iter().map(Scan::count).collect();
        assert!(sizes.iter().all(|size| (600..900).contains(size)), "{sizes:?}");
    }
}

#[test]
fn however_many_parts_are_wanted_there_are_so_many_at_most() {
    let store = TestStore::in_memory(Options::new());
    let model = filled(&store, 200);
    for n in [65_537, usize::MAX] {
        let parts = store.scan_partitions(n);
        assert_eq!(parts.len(), 65_536);
        assert_same(parts.into_iter().flat_map(pairs), &model);
    }
}

#[test]
fn a_part_that_is_resumed_ends_where_it_did() {
    for store in stores() {
        let model = filled(&store, 1_000);
        let mut seen = Model::new();
        for mut part in store.scan_partitions(5) {
            loop {
                let (taken, cursor) = take(&mut part, 33, &mut seen);
                if taken < 33 {
                    break;
                }
                let i = 10_000 + seen.len() as u64;
                store.insert(key(i), "between").expect("insert");
                store.remove(key(i)).expect("remove");
                part = store.iter_from(cursor).expect("iter_from");
            }
        }
        assert_eq!(seen, model);
    }
}

/// Inserts and removes until told to stop.
fn disturb(stop: &AtomicBool, db: &Db) {
    let mut step = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let i = 10_000 + step * 7 % 5_000;
        if step % 3 == 2 {
            db.remove(key(i)).expect("remove");
        } else {
            db.insert(key(i), value(i, 40)).expect("insert");
        }
        step += 1;
        if step.is_multiple_of(4_000) {
            db.compact().expect("compact");
        }
    }
}

#[test]
fn parts_scanned_by_threads_beside_a_writer_bring_what_stays_once() {
    let store = TestStore::on_disk(Options::new().payload(104).write_buffer(1 << 20));
    let model = filled(&store, 1_000);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (stop_writing, db) = (&stop, (*store).clone());
        scope.spawn(move || disturb(stop_writing, &db));
        let scanning = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for n in [1, 2, 3, 4, 2, 3] {
                let parts = store.scan_partitions(n).into_iter();
                let threads: Vec<_> =
                    parts.map(|part| scope.spawn(|| pairs(part).collect::<Vec<_>>())).collect();
                let mut seen = Model::new();
                for (key, value) in threads.into_iter().flat_map(|t| t.join().expect("a scan")) {
                    let twice = seen.insert(key.clone(), value);
                    assert!(twice.is_none(), "{} came twice", show(&key));
                }
                seen.retain(|key, _| model.contains_key(key));
                assert_eq!(seen, model);
            }
        }));
        stop.store(true, Ordering::Relaxed);
        scanning.expect("the scans");
    });
}

#[test]
fn a_scan_tells_of_damage_and_goes_on_behind_it_also_when_resumed() {
    let mut store = TestStore::on_disk(Options::new().payload(504));
    for i in 0..1_000 {
        store.insert(key(i), value(i, 20)).expect("insert");
    }
    store.close();
    let file = store.path().join("default.swiss");
    let whole = std::fs::read(&file).expect("read");
    let mut hit = 0;
    for block in (2..whole.len() / 4096).step_by(9) {
        let mut damaged = whole.clone();
        damaged[block * 4096 + 77] ^= 1;
        std::fs::write(&file, damaged).expect("write");
        let Ok(db) = Options::new().read_only(true).open(store.path()) else { continue };
        let (mut good, mut bad, mut cursor) = (0, 0, Cursor::start());
        loop {
            let mut scan = db.iter_from(cursor).expect("iter_from");
            match scan.next() {
                None => break,
                Some(Ok(_)) => good += 1,
                Some(Err(Error::Corrupt(_))) => bad += 1,
                Some(Err(other)) => panic!("{other}"),
            }
            cursor = scan.cursor();
        }
        let single = db.iter().fold((0, 0), |(good, bad), entry| match entry {
            Ok(_) => (good + 1, bad),
            Err(_) => (good, bad + 1),
        });
        assert_eq!((good, bad), single, "block {block}");
        hit += usize::from(bad > 0);
    }
    std::fs::write(&file, whole).expect("write");
    assert!(hit >= 3, "only {hit} blocks held entries");
}
