//! Segments that get room for what the rest of the log is expected to bring.
//!
//! Method: logs of which the first windows have new keys only and the others none, so
//! that each expectation is wrong, on a device with room and on one without.

use std::sync::Arc;
use std::time::{Duration, Instant};

use swissdb::{Db, Options};

use super::{Device, Model, assert_clean, assert_holds, key, killed, plenty, value};

const KEYS: u64 = 20_000;
/// Twice what the entries take, and a quarter of what as many keys as there are changes would.
const ROOMS: [u64; 2] = [9 << 19, 5 << 20];
/// What has more slots is less than three eighths full, and is tidied.
const SPARSE: u64 = KEYS * 8 / 3;

/// New keys, then many changes of these, and a few new ones at the end.
fn wrong_expectations(mut insert: impl FnMut(&[u8], &[u8])) -> Model {
    let mut model = Model::new();
    for i in 0..300_000 {
        let (key, value) = (key(if i < 299_000 { i % KEYS } else { i }), value(i, 30));
        insert(&key, &value);
        model.insert(key, value);
    }
    model
}

/// In the first window there are keys of several segments then.
fn options() -> Options {
    plenty().write_buffer(8 << 20)
}

fn capacity(db: &Db) -> u64 {
    db.stats().tables[0].capacity
}

#[test]
fn room_for_keys_that_did_not_come_is_given_back_behind_the_open_store() {
    let mut model = Model::new();
    let left = killed(&plenty(), |db| {
        model = wrong_expectations(|key, value| db.insert(key, value).expect("insert"));
    });
    let db = options().open_on(Arc::new(left)).expect("open");
    let opened = capacity(&db);
    assert!(opened > SPARSE, "{opened} slots were right");
    let begun = Instant::now();
    while capacity(&db) > SPARSE {
        assert!(begun.elapsed() < Duration::from_secs(60), "{opened}, now {}", capacity(&db));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_holds(&db, &model);
    assert_clean(&db);
}

#[test]
fn room_for_keys_that_did_not_come_is_given_back_at_once_on_a_full_device() {
    let device = Device::endless();
    let db = plenty().open_on(Arc::new(device.clone())).expect("create a store");
    let model = wrong_expectations(|key, value| db.insert(key, value).expect("insert"));
    let full = device.copy();
    db.close().expect("close the copied store");
    // All that the process took ahead of need in the table file is gone, and there is
    // room for what the entries need, but not for what is expected.
    full.give_back_unwritten("default.swiss");
    for room in ROOMS {
        let full = full.copy();
        full.resize(full.used() + room);
        let db = options().open_on(Arc::new(full)).expect("open without room");
        assert_holds(&db, &model);
        assert_clean(&db);
        db.close().expect("close");
    }
}
