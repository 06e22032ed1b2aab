//! A device that is full for a while.
//!
//! The script is told to a disk whose capacity is cut to what is taken just
//! then, at random moments. Steps fail until there is room again; then the
//! same step works, without the store having been opened in between. A full
//! device never stops readers, never takes back what was acknowledged, and
//! never poisons.

use std::sync::Arc;

use swissdb::{Batch, Db};

use super::script::script;
use super::trial::DURABILITIES;
use super::{assert_sentence, is_full};
use crate::disk::{Disk, Image};
use crate::power::check::{check_image, print_of};
use crate::power::long;
use crate::power::story::{Progress, Step, Story};
use crate::power::watchdog::Watchdog;
use crate::support::{Random, assert_clean};

/// What came of a story.
#[derive(Default)]
struct Tally {
    /// Steps that were refused.
    refused: u64,
    /// Steps that were done while nothing was left.
    done: u64,
}

/// Sometimes takes all room away, sometimes gives it back.
fn change_capacity(disk: &Disk, random: &mut Random, full: &mut bool) {
    if random.one_in(8) {
        *full = !*full;
        let slack = [0, 0, 40_960, 1_200_000][random.below(4) as usize];
        disk.set_capacity(full.then(|| disk.used() + slack));
    }
}

/// Does a step; when it is refused, gives room and does it again.
fn step(db: &Db, story: &Story, at: usize, disk: &Disk, full: &mut bool, tally: &mut Tally) {
    let durability = story.settings.durability;
    for attempt in 0.. {
        let error = match story.steps[at].run(db, durability) {
            Ok(_) => {
                tally.done += u64::from(*full);
                return;
            }
            Err(error) => error,
        };
        let here =
            format!("step {at}, {:.60}, attempt {attempt}", format!("{:?}", story.steps[at]));
        assert!(is_full(&error), "{here}: {error}");
        assert_sentence(&error, &here);
        assert!(error.to_string().contains("free some space"), "{here}: {error}");
        db.write(&Batch::new()).unwrap_or_else(|error| panic!("{here}: {error}"));
        assert_eq!(print_of(db), story.prints[at], "{here}: another state");
        tally.refused += 1;
        // What was under way in the background may be refused a little later.
        assert!(attempt < 10, "{here}: refused again and again, with room: {error}");
        *full = false;
        disk.set_capacity(None);
    }
}

fn tell(seed: u64, story: &Story, tally: &mut Tally) {
    let mut random = Random::unprinted(seed);
    let disk = Disk::boot(&Image::default(), seed);
    let options = story.settings.options();
    let mut db = options.open_on(Arc::new(disk.clone())).expect("create");
    let mut full = false;
    for at in 0..story.steps.len() {
        change_capacity(&disk, &mut random, &mut full);
        if matches!(story.steps[at], Step::Reopen) {
            if let Err(error) = db.close() {
                assert!(full && is_full(&error), "story {seed}: close: {error}");
            }
            db = options.open_on(Arc::new(disk.clone())).unwrap_or_else(|error| {
                assert!(full && is_full(&error), "story {seed}: open: {error}");
                full = false;
                disk.set_capacity(None);
                options.open_on(Arc::new(disk.clone())).expect("open with room")
            });
            assert_eq!(print_of(&db), story.prints[at], "story {seed}: opened on a full device");
        } else {
            step(&db, story, at, &disk, &mut full, tally);
        }
        if random.one_in(40) {
            let progress = Progress::default();
            progress.begun.store(at + 1, std::sync::atomic::Ordering::SeqCst);
            let mut allowed = story.allowed(&progress, false);
            check_image(&disk.wreck(), &mut allowed, &options, &mut random);
        }
    }
    assert_eq!(disk.bus_errors(), 0, "story {seed}: stores that found no space");
    assert_clean(&db);
    db.close().unwrap_or_else(|error| assert!(full && is_full(&error), "close: {error}"));
}

#[test]
fn a_full_device_stops_nobody_for_longer_than_it_is_full() {
    let watchdog = Watchdog::new("a full device");
    let mut tally = Tally::default();
    for seed in 0..if long() { 400 } else { 10 } {
        watchdog.beat(&format!("story {seed}"));
        let (durability, interval) = DURABILITIES[seed as usize % 2];
        tell(seed, &script(seed, durability, interval), &mut tally);
    }
    eprintln!("{} steps were refused, {} done on a full device", tally.refused, tally.done);
    assert!(tally.refused > 20 && tally.done > 20);
}
