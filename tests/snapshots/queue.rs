//! Frozen states that wait behind a checkpoint, while power or a call fails.
//!
//! Goal: whenever power goes off while they are written one after the other,
//! recovery gives a prefix of the commits with all that was synced, and no hole;
//! and whichever call fails, each snapshot is whole or an error, the store goes
//! on or refuses writes as it should, and nothing is lost. Method: a simulated
//! disk holds up a checkpoint at a chosen call until as many snapshots were
//! taken as may wait; then an image is taken at every step, or one call is told
//! to fail, while the queue is worked off and a writer goes on.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use swissdb::{Error, Options, Snapshot};

use super::waiting::{STEPS, WAITING, is_page};
use super::{assert_default, assert_unchanged};
use crate::disk::{Call, Fault, Image, Kind};
use crate::power::long;
use crate::power::scenarios::Release;
use crate::power::scenarios::tale::Tale;
use crate::power::watchdog::Watchdog;
use crate::support::{Model, Random, assert_clean, assert_holds, key, value};

/// Everything small, and nothing durable that is not asked for.
fn options() -> Options {
    let never = std::time::Duration::from_secs(3600);
    Options::new().max_log_file(1 << 20).write_buffer(4 << 20).sync_interval(never)
}

/// Some inserts, overwrites and removals.
fn change(tale: &mut Tale, random: &mut Random, n: u64) {
    for _ in 0..n {
        let key = key(random.below(600));
        if random.one_in(5) && tale.db.contains_key(&key).expect("contains_key") {
            tale.remove(key);
        } else {
            let most = if random.one_in(8) { 5_000 } else { 40 };
            let length = random.below(most) as usize;
            tale.put(key, value(random.next(), length));
        }
    }
}

/// A store with some entries and a checkpoint, and changes since then.
fn start(random: &mut Random) -> Tale {
    let mut tale = Tale::new(random.next(), options());
    change(&mut tale, random, 300);
    tale.checkpoint();
    change(&mut tale, random, 60);
    tale
}

/// What was taken while the checkpoint was held up, and what that came to.
struct WorkedOff {
    taken: Vec<(Snapshot, Model)>,
    checkpoint: swissdb::Result<()>,
}

/// Takes as many snapshots as may wait while a checkpoint is held up, each after
/// some changes, which may be `synced`. Calls `begin`, lets the checkpoint go on
/// and changes more meanwhile, as long as that works.
fn work_off(
    tale: &mut Tale,
    random: &mut Random,
    step: fn(&Call<'_>) -> bool,
    synced: bool,
    begin: impl FnOnce(&Tale),
) -> WorkedOff {
    let (db, disk) = (tale.db.clone(), tale.disk.clone());
    disk.hold(step);
    std::thread::scope(|scope| {
        let checkpoint = scope.spawn(|| db.checkpoint());
        disk.wait_until_held();
        let release = Release(&disk);
        let taken = (0..WAITING).map(|_| {
            let taken = (db.snapshot().expect("a snapshot"), tale.model());
            change(tale, random, 40);
            taken
        });
        let taken = taken.collect();
        if synced {
            tale.sync();
        }
        begin(tale);
        drop(release);
        // A call of a writer may be the one that fails.
        for i in 0..20 {
            let (key, value) = (key(i), value(random.next(), 300));
            if db.insert(&key, &value).is_err() {
                break;
            }
            tale.changed(key, value);
        }
        WorkedOff { taken, checkpoint: checkpoint.join().expect("no panic") }
    })
}

#[test]
fn power_that_goes_off_while_waiting_states_are_written_leaves_a_prefix() {
    let watchdog = Watchdog::new("power loss while states wait");
    let mut checked = 0;
    for (number, step) in STEPS.into_iter().enumerate() {
        let mut random = Random::new(3_001 + number as u64);
        let mut tale = start(&mut random);
        for round in 0..2 {
            let images = Arc::new(Mutex::new(Vec::<Image>::new()));
            let worked_off = work_off(&mut tale, &mut random, step, round == 0, |tale| {
                let seen = images.clone();
                tale.disk.watch(move |moment| {
                    let mut images = seen.lock().expect("the images");
                    images.push(moment.power_loss(moment.step));
                    if moment.step % 8 == 0 {
                        images.push(moment.kill());
                    }
                });
            });
            worked_off.checkpoint.expect("checkpoint");
            assert_unchanged(&worked_off.taken);
            tale.disk.watch(|_| {});
            let images = std::mem::take(&mut *images.lock().expect("the images"));
            let headers = 2 * (WAITING + 1);
            assert!(images.len() > 2 * headers, "only {} steps were seen", images.len());
            let stride = if long() { 1 } else { 3 };
            for (at, image) in images.iter().enumerate().skip(round).step_by(stride) {
                watchdog.beat(&format!("held up at {number}, round {round}, image {at}"));
                tale.check_image(image, at as u64);
                checked += 1;
            }
            drop(worked_off.taken);
            tale.checkpoint();
            change(&mut tale, &mut random, 200);
        }
    }
    eprintln!("power went off at {checked} moments");
}

/// Whether a call may fail like that: storing into a mapping, and giving
/// something back, takes no space.
fn may_fail(kind: Kind, fault: ErrorKind) -> bool {
    use Kind::*;
    let takes_space = matches!(kind, Create | Rename | SetLength | Allocate | Write | Sync);
    kind.is_step() && (takes_space || fault != ErrorKind::StorageFull)
}

/// Lets the `nth` call fail while the queue is worked off. Says whether one did.
fn let_fail(nth: u64, fault: ErrorKind, random: &mut Random) -> bool {
    let mut tale = start(random);
    let synced = random.one_in(2);
    let worked_off = work_off(&mut tale, random, is_page, synced, |tale| {
        tale.disk.fail(nth, Fault::Error(fault), move |call| may_fail(call.kind, fault));
    });
    let mut whole = 0;
    for (snapshot, model) in &worked_off.taken {
        match snapshot.get(key(1)) {
            Ok(_) => {
                assert_default(snapshot, model);
                whole += 1;
            }
            Err(error) => assert!(matches!(error, Error::Io { .. }), "{error}"),
        }
    }
    let Some(failure) = tale.disk.failed() else {
        worked_off.checkpoint.expect("nothing failed");
        assert_eq!(whole, WAITING, "nothing failed");
        return false;
    };
    let at = format!("call {nth}: {failure:?}");
    let header = failure.name == "default.swiss" && failure.offset < 8192;
    let full = fault == ErrorKind::StorageFull && failure.kind != Kind::Sync && !header;
    // What was written nowhere may be written later; a failed sync or write
    // ends writing as soon as the thread that met it has said so.
    let went_on = tale.db.checkpoint();
    assert!(!full || went_on.is_ok(), "{at}: {went_on:?}");
    if went_on.is_ok() {
        let model = tale.model();
        let snapshot = tale.db.snapshot();
        assert!(!full || snapshot.is_ok(), "{at}");
        snapshot.iter().for_each(|snapshot| assert_default(snapshot, &model));
        tale.durable = tale.changes.len();
    } else if !matches!(went_on, Err(Error::Poisoned { .. })) {
        panic!("{at}: {went_on:?}");
    }
    assert_holds(&tale.db, &tale.model());
    assert_clean(&tale.db);
    let images = [tale.disk.wreck(), tale.disk.wreck(), tale.disk.killed()];
    for (seed, image) in images.iter().enumerate() {
        tale.check_image(image, seed as u64);
    }
    true
}

#[test]
fn whichever_call_fails_while_waiting_states_are_written_nothing_is_lost() {
    let watchdog = Watchdog::new("failing calls while states wait");
    let mut random = Random::new(3_011);
    for fault in [ErrorKind::StorageFull, ErrorKind::Other] {
        let (mut failed, stride) = (0, if long() { 1 } else { 5 });
        for nth in (1..).step_by(stride) {
            watchdog.beat(&format!("call {nth}, {fault:?}"));
            if !let_fail(nth, fault, &mut random) {
                break;
            }
            failed += 1;
        }
        eprintln!("{failed} calls failed with {fault:?}");
        // Pages, root, free map, syncs and headers of each state.
        assert!(failed * stride > 4 * (WAITING + 1), "{failed} calls failed");
    }
}
