//! Checkpoints that fail, devices that are full, pools that are too small.
//!
//! Goal: whatever fails changes nothing that can be seen, loses no block and
//! no reservation, and leaves the next try able to succeed. Method: a failure
//! after each possible step, then everything is counted.

use crate::error::Error;
use crate::format::mutate::Random;
use crate::storage::File;

use super::harness::{Model, Setup, Store, change, fill, key};

#[test]
fn a_checkpoint_may_fail_after_any_step() {
    for payload in [56, 504] {
        let mut random = Random(payload as u64 + 3);
        let mut store = Store::new(Setup::new(payload));
        let mut model = Model::new();
        for _ in 0..1500 {
            change(&mut store, &mut model, &mut random, 1500);
        }
        for (round, n) in [0, 1, 2, 3, 9, 40].into_iter().enumerate() {
            for root in [false, true] {
                let frozen = store.header.is_some().then(|| store.reopen());
                let mut at = store.begin();
                let mut work = |store: &mut Store| {
                    for _ in 0..n * 4 {
                        change(store, &mut model, &mut random, 1700);
                    }
                };
                work(&mut store);
                for _ in 0..n {
                    store.step(&at, &mut work);
                }
                if root {
                    while store.step(&at, &mut work) {}
                    store.write_root(&mut at).unwrap();
                    work(&mut store);
                }
                store.give_up(at);
                store.check(&model);
                // The file is still what the last header says.
                if let Some(frozen) = frozen {
                    let before = super::harness::scan(&frozen.writer.table, &frozen.log).unwrap();
                    let after = store.reopen();
                    let after = super::harness::scan(&after.writer.table, &after.log).unwrap();
                    assert!(before == after);
                }
            }
            if round % 2 == 1 {
                store.checkpoint();
                store.check(&model);
                store.reopen().check(&model);
            }
        }
    }
}

#[test]
fn a_checkpoint_that_fails_while_a_directory_page_splits_loses_nothing() {
    let mut random = Random(23);
    let mut store = Store::new(Setup::new(504));
    let mut model = Model::new();
    fill(&mut store, &mut model, 2500);
    store.checkpoint();
    let depth = store.writer.table.root().1;
    for steps in [0, 2, 100] {
        let at = store.begin();
        let mut work = |store: &mut Store| {
            for _ in 0..700 {
                change(store, &mut model, &mut random, 12_000);
            }
        };
        work(&mut store);
        for _ in 0..steps {
            store.step(&at, &mut work);
        }
        store.give_up(at);
        store.check(&model);
    }
    assert!(store.writer.table.root().1 > depth);
    store.checkpoint();
    store.check(&model);
    store.reopen().check(&model);
}

#[test]
fn a_full_device_refuses_inserts_and_nothing_else_changes() {
    let mut random = Random(29);
    let mut store = Store::new(Setup::new(128));
    let mut model = Model::new();
    for _ in 0..500 {
        change(&mut store, &mut model, &mut random, 500);
    }
    store.checkpoint();
    store.set_full(true);
    let mut refused = 0;
    for i in 0..600 {
        let key = key(1000 + i, 128);
        match store.insert(&key, b"more") {
            Ok(()) => assert!(model.insert(key, b"more".to_vec()).is_none()),
            Err(error) => {
                assert!(error.is_full(), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 10);
    store.check(&model);
    store.set_full(false);
    for i in 0..600 {
        let key = key(1000 + i, 128);
        store.insert(&key, b"more").unwrap();
        model.insert(key, b"more".to_vec());
    }
    store.check(&model);
    store.checkpoint();
    store.check(&model);
}

#[test]
fn a_full_device_refuses_a_clear_and_nothing_changes() {
    let mut random = Random(31);
    let mut store = Store::new(Setup::new(56));
    let mut model = Model::new();
    for _ in 0..800 {
        change(&mut store, &mut model, &mut random, 800);
    }
    store.checkpoint();
    store.set_full(true);
    // Uses up what is free, so that clearing finds nothing.
    let taken = store.writer.blocks.reserved();
    while store.writer.blocks.reserve(&store.ws.epoch, 1).is_ok() {}
    let filler = store.writer.blocks.reserved() - taken;
    for spare in [0, 1] {
        store.writer.blocks.release(spare);
        let error = store.writer.clear(&mut store.ws, [1, 2]).unwrap_err();
        assert!(error.is_full(), "{error}");
        store.writer.blocks.reserve(&store.ws.epoch, spare).unwrap();
    }
    store.writer.blocks.release(filler);
    store.check(&model);
    store.set_full(false);
    store.writer.clear(&mut store.ws, [1, 2]).unwrap();
    store.check(&Model::new());
    store.checkpoint();
    store.check(&Model::new());
}

#[test]
fn a_full_device_can_be_emptied_by_removing() {
    for payload in [128, 504] {
        let mut random = Random(43);
        let mut store = Store::new(Setup::new(payload));
        let mut model = Model::new();
        fill(&mut store, &mut model, 6000 / (payload / 64));
        store.checkpoint();
        store.set_full(true);
        // Until not even a checkpoint makes room any more.
        let (mut next, mut before) = (6000, 0);
        while model.len() > before + 20 {
            before = model.len();
            for _ in 0..600 {
                let key = key(next, payload);
                next += 1;
                match store.insert(&key, b"more") {
                    Ok(()) => drop(model.insert(key, b"more".to_vec())),
                    Err(error) => assert!(error.is_full(), "{error}"),
                }
            }
            store.try_checkpoint_with(&mut |_| ()).unwrap();
            store.check(&model);
        }
        let mut keys: Vec<_> = model.keys().cloned().collect();
        let mut checkpoints = 0;
        while !keys.is_empty() {
            let key = keys.swap_remove(random.below(keys.len()));
            let outcome = store.remove(&key).or_else(|error| {
                assert!(error.is_full(), "{error}");
                checkpoints += 1;
                store.try_checkpoint_with(&mut |_| ())?;
                store.remove(&key)
            });
            assert!(outcome.expect("after a checkpoint there is room"));
            model.remove(&key);
        }
        assert!(checkpoints > 0);
        store.check(&model);
        // And a clear makes room for everything, on the full device.
        store.try_checkpoint_with(&mut |_| ()).unwrap();
        store.writer.clear(&mut store.ws, [1, 1]).unwrap();
        store.try_checkpoint_with(&mut |_| ()).unwrap();
        fill(&mut store, &mut model, 500);
        store.check(&model);
    }
}

#[test]
fn a_pool_without_a_frame_refuses_and_a_checkpoint_makes_room() {
    let mut store = Store::new(Setup::new(504).pool(48, 48));
    let mut model = Model::new();
    let mut refused = 0;
    for i in 0..1200u32 {
        let (key, value) = (i.to_le_bytes().to_vec(), vec![i as u8; 30]);
        loop {
            match store.insert(&key, &value) {
                Ok(()) => break,
                Err(error) => {
                    assert!(matches!(error, Error::BatchTooLarge { .. }), "{error}");
                    refused += 1;
                    store.check(&model);
                    store.checkpoint();
                }
            }
        }
        model.insert(key, value);
    }
    assert!(refused > 5);
    store.check(&model);
    store.checkpoint();
    store.reopen().check(&model);
}

#[test]
fn a_pool_that_fills_up_during_a_checkpoint_refuses_until_it_ends() {
    let mut store = Store::new(Setup::new(504).pool(64, 64));
    let mut model = Model::new();
    let mut refused = 0;
    for i in 0..1200u32 {
        let (key, value) = (i.to_le_bytes().to_vec(), vec![i as u8; 30]);
        let full = store.insert(&key, &value).is_err();
        if full {
            let frozen = model.clone();
            store.checkpoint_with(&mut |store| {
                for n in 0..5u32 {
                    let old = (i * 7 + n * 31) % i;
                    let (key, value) = (old.to_le_bytes().to_vec(), vec![n as u8; 31]);
                    match store.insert(&key, &value) {
                        Ok(()) => drop(model.insert(key, value)),
                        Err(Error::BatchTooLarge { .. }) => refused += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
            store.check(&model);
            store.reopen().check(&frozen);
            if store.insert(&key, &value).is_err() {
                continue;
            }
        }
        model.insert(key, value);
    }
    assert!(refused > 0);
    store.checkpoint();
    store.check(&model);
}

#[test]
fn a_device_that_does_not_read_is_an_error_until_it_does() {
    let mut random = Random(37);
    let mut store = Store::new(Setup::new(56));
    let mut model = Model::new();
    for _ in 0..1000 {
        change(&mut store, &mut model, &mut random, 1000);
    }
    store.checkpoint();
    let mut reopened = store.reopen();
    let some = model.keys().next().unwrap().clone();
    reopened.file.unreadable.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(matches!(reopened.get(&some), Err(Error::Io { .. })));
    assert!(matches!(reopened.insert(&some, b"x"), Err(Error::Io { .. })));
    assert!(matches!(reopened.remove(&some), Err(Error::Io { .. })));
    reopened.file.unreadable.store(false, std::sync::atomic::Ordering::Relaxed);
    reopened.check(&model);
    assert!(reopened.file.length().unwrap() > 0);
}
