//! Changes that the log has already, as they are when it is replayed.
//!
//! Goal: entries that are put into a segment while it is made anew leave what
//! inserting them one after the other would, in slots, counts and live bytes.
//! Method: random batches, logged before they are prepared, held against a model;
//! batches that are too much at once, which are then applied in pieces, as
//! replaying does; keys with one hash.

use crate::error::{Error, Result};
use crate::format::group::Address;
use crate::format::mutate::Random;
use crate::table::batch::{Entries, Entry, Step, Steps};
use crate::table::room::Margin;
use crate::table::write::spilled_part;

use super::batches::Operation;
use super::harness::{Model, Setup, Store, change, key, value};

/// Operations, and where the log has what is spilled of them.
struct Logged<'a> {
    geometry: crate::format::group::Geometry,
    operations: &'a [Operation],
    addresses: Vec<Option<Address>>,
}

impl<'a> Logged<'a> {
    fn new(store: &Store, operations: &'a [Operation]) -> Logged<'a> {
        let geometry = store.writer.table.geometry;
        let address = |(key, value): &Operation| {
            let value = value.as_ref()?;
            let shape = geometry.shape(key.len(), value.len());
            let (at, length) = spilled_part(shape, key.len(), value.len())?;
            let whole = [&key[..], value].concat();
            Some(store.log.append(store.writer.hash(key), &whole[at..at + length]))
        };
        let addresses = operations.iter().map(address).collect();
        Logged { geometry, operations, addresses }
    }

    fn entry(&self, change: u32) -> Entry<'_> {
        let (key, value) = &self.operations[change as usize];
        let value = value.as_deref().expect("an entry is asked for where one is inserted");
        let lengths = self.geometry.lengths(key.len(), value.len());
        Entry { lengths, key, value, address: self.addresses[change as usize] }
    }
}

impl Entries for Logged<'_> {
    fn key(&self, change: u32) -> &[u8] {
        &self.operations[change as usize].0
    }
    fn is_insert(&self, change: u32) -> bool {
        self.operations[change as usize].1.is_some()
    }
    const LOGGED: bool = true;

    fn logged(&self, change: u32) -> Option<Entry<'_>> {
        Some(self.entry(change))
    }
}

/// Applies steps of the only table.
fn apply(store: &mut Store, steps: &mut [Step], logged: &Logged<'_>) -> Result<()> {
    let log = store.log.clone();
    store.writer.prepare_batch(&mut store.ws, steps, logged, &*log)?;
    store.writer.apply_batch(steps, |step| logged.entry(step.change));
    store.writer.assert_applied(steps);
    Ok(())
}

/// Applies operations together, or, where that is too much, in pieces of so many.
/// Says whether it was too much.
fn replay(
    store: &mut Store,
    model: &mut Model,
    operations: &[Operation],
    piece: usize,
) -> Result<bool> {
    let logged = Logged::new(store, operations);
    let mut steps = Steps::default();
    for (i, (key, _)) in operations.iter().enumerate() {
        steps.push(store.writer.table.id, store.writer.hash(key), i as u32);
    }
    steps.sort(&logged);
    let mut too_much = false;
    for steps in steps.tables_mut() {
        match apply(store, steps, &logged) {
            Err(Error::BatchTooLarge { .. }) => too_much = true,
            applied => {
                applied?;
                continue;
            }
        }
        for steps in steps.chunks_mut(piece) {
            store.checkpoint();
            apply(store, steps, &logged)?;
        }
    }
    for (key, value) in operations.iter().cloned() {
        match value {
            Some(value) => drop(model.insert(key, value)),
            None => drop(model.remove(&key)),
        }
    }
    assert_eq!(store.writer.table.len(), model.len() as u64);
    Ok(too_much)
}

fn operations(random: &mut Random, payload: usize, count: usize, keys: usize) -> Vec<Operation> {
    let operation = |_| {
        let key = key(random.below(keys), payload);
        let insert = random.below(4) > 0;
        (key, insert.then(|| value(random, payload)))
    };
    (0..count).map(operation).collect()
}

#[test]
fn what_is_replayed_in_batches_is_what_was_logged() {
    for payload in [24, 56, 64, 504] {
        let mut random = Random(payload as u64 + 7);
        let mut store = Store::new(Setup::new(payload));
        let mut model = Model::new();
        for round in 0..25 {
            let count = 1 + random.below(800);
            let operations = operations(&mut random, payload, count, 3000);
            replay(&mut store, &mut model, &operations, 1).unwrap();
            if round % 7 == 0 {
                store.checkpoint();
            }
            if round % 5 == 0 {
                store.check(&model);
            }
        }
        store.check(&model);
        store.checkpoint();
        store.reopen().check(&model);
    }
}

#[test]
fn entries_go_into_their_segments_while_these_are_made_anew() {
    let mut store = Store::new(Setup::new(56));
    let mut model = Model::new();
    let inserts: Vec<Operation> = (0..9000).map(|i| (key(i, 56), Some(vec![i as u8; 9]))).collect();
    let logged = Logged::new(&store, &inserts);
    let mut steps = Steps::default();
    for (i, (key, _)) in inserts.iter().enumerate() {
        steps.push(store.writer.table.id, store.writer.hash(key), i as u32);
    }
    steps.sort(&logged);
    let log = store.log.clone();
    for steps in steps.tables_mut() {
        store.writer.prepare_batch(&mut store.ws, steps, &logged, &*log).unwrap();
        assert!(steps.iter().all(|step| !step.has_place()), "all are there by now");
        store.writer.apply_batch(steps, |step| logged.entry(step.change));
    }
    model.extend(inserts.iter().cloned().map(|(key, value)| (key, value.unwrap())));
    store.check(&model);
    store.checkpoint();
    store.reopen().check(&model);
}

#[test]
fn a_segment_that_is_made_anew_has_room_for_what_is_foreseen() {
    let mut random = Random(31);
    for payload in [24, 56] {
        let mut store = Store::new(Setup::new(payload));
        let mut model = Model::new();
        let mut inserts = (0..40_000).map(|i| (key(i, payload), Some(value(&mut random, payload))));
        let mut made = Vec::new();
        for count in [4_000, 12_000, 12_000, 12_000] {
            let portion: Vec<Operation> = inserts.by_ref().take(count).collect();
            replay(&mut store, &mut model, &portion, 1).unwrap();
            made.push((store.writer.totals.segments, store.writer.totals.slots));
            store.writer.set_margin(Margin::Foreseen(40_000));
        }
        let (slots, used) = (made[3].1, store.writer.totals.used);
        assert!(made[0].1 < made[1].1 && made[3].1 - made[1].1 < slots / 50, "{made:?}");
        assert!(used * 4 > slots * 3, "{used} of {slots} slots are used");
        store.check(&model);
        store.checkpoint();
        store.reopen().check(&model);
    }
}

#[test]
fn what_is_too_much_at_once_is_whole_when_it_was_applied_in_pieces() {
    let mut random = Random(97);
    let mut store = Store::new(Setup::new(504).pool(90, 90));
    let mut model = Model::new();
    let mut refused = 0;
    for _ in 0..12 {
        let operations = operations(&mut random, 504, 700, 900);
        refused += usize::from(replay(&mut store, &mut model, &operations, 16).unwrap());
        store.check(&model);
        store.checkpoint();
    }
    assert!(refused >= 6, "{refused} of 12 were too much");
    store.reopen().check(&model);
}

#[test]
fn a_full_device_leaves_what_was_put_there_and_takes_the_rest_later() {
    let mut store = Store::new(Setup::new(504));
    let mut model = Model::new();
    let inserts: Vec<Operation> =
        (0..600).map(|i| (key(i, 504), Some(vec![i as u8; 90]))).collect();
    replay(&mut store, &mut model, &inserts[..100], 1).unwrap();
    store.checkpoint();
    store.set_full(true);
    let error = replay(&mut store, &mut model, &inserts, 1).unwrap_err();
    assert!(error.is_full(), "{error}");
    store.set_full(false);
    replay(&mut store, &mut model, &inserts, 1).unwrap();
    store.check(&model);
    store.checkpoint();
    store.reopen().check(&model);
}

#[test]
fn a_full_device_takes_of_what_is_logged_all_that_it_took_before() {
    for payload in [24, 56, 504] {
        let made = || {
            let mut random = Random(payload as u64 + 3);
            let (mut store, mut model) = (Store::new(Setup::new(payload)), Model::new());
            for _ in 0..9000 {
                change(&mut store, &mut model, &mut random, 1000);
            }
            store.set_full(true);
            (store, model)
        };
        let ((mut store, mut model), (mut again, mut twin)) = (made(), made());
        let (mut random, mut taken, mut refused) = (Random(8), 0, 0);
        for _ in 0..6000 {
            let (key, value) = (key(random.below(20_000), payload), value(&mut random, payload));
            let answer = store.insert(&key, &value);
            let replayed = replay(&mut again, &mut twin, &[(key.clone(), Some(value.clone()))], 1);
            assert_eq!(answer.is_ok(), replayed.is_ok(), "{answer:?}, {replayed:?}");
            refused += usize::from(answer.is_err());
            taken += usize::from(answer.is_ok() && refused > 0);
            if answer.is_ok() {
                model.insert(key, value);
            }
        }
        assert!(taken > 100 && refused > 100, "{taken} taken and {refused} refused when full");
        assert_eq!(model, twin);
        store.check(&model);
        again.check(&twin);
    }
}

#[test]
fn of_many_keys_with_one_hash_all_are_there() {
    for payload in [24, 56] {
        let mut random = Random(payload as u64);
        let mut store = Store::new(Setup::constant(payload, u64::MAX - 5));
        let mut model = Model::new();
        for _ in 0..8 {
            let operations = operations(&mut random, payload, 70, 60);
            replay(&mut store, &mut model, &operations, 1).unwrap();
            store.check(&model);
        }
    }
}
