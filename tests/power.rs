//! Power that goes off at any moment: what survives is a prefix, and all that
//! was acknowledged as durable.
//!
//! A [`Story`](story::Story) is a list of generated steps, from a seed: inserts
//! that stay in their slots and such that spill, removals, batches, tables that
//! come and go, clearing, checkpoints, syncs, compaction, tables that get many
//! entries or lose most of them at once, closing. It is told
//! to a store on a simulated [`Disk`](crate::disk), with log files and a write
//! buffer so small that everything rolls over. At each step of the disk an
//! image is taken of what power loss, or a kill, would leave just then, with
//! what was acknowledged so far. Afterwards each image is opened: it must hold
//! the state after some number of steps between what was durable and what had
//! begun, and verify clean; opening it is cut off in turn, several times in a
//! row; and at last it is opened for good and written to. One of the images is
//! where the next life of the store begins.
//!
//! The store's own threads run as they like, so a run is not the same every
//! time; the rule does not depend on it. A failure prints the seed of the
//! story, the life, the step, and a directory with the image.
//!
//! `SWISSDB_TEST_SEED=n` tells the story `n` alone, cut off at every step.
//! `SWISSDB_LONG=1` is the long form: more than 100,000 images. It wants
//! `cargo test --release power`, and some minutes for each core.

pub mod check;
pub mod scenarios;
pub mod story;
pub mod watchdog;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::disk::Image;
use crate::support::{Model, Random, State};

use story::{Deeds, Settings, Story};
use watchdog::Watchdog;

/// Images that the long form checks at least.
const LONG: usize = 100_000;

/// Stories of the short form; how many are cut off at which part of their steps.
const SHORT: [(u64, usize); 6] = [(1, 24), (2, 24), (3, 24), (4, 24), (5, 24), (6, 24)];

/// Whether the long form was asked for.
pub fn long() -> bool {
    std::env::var_os("SWISSDB_LONG").is_some_and(|value| value != "0")
}

/// The one seed that was asked for.
fn asked_seed() -> Option<u64> {
    let text = std::env::var("SWISSDB_TEST_SEED").ok()?;
    Some(text.parse().expect("SWISSDB_TEST_SEED is a number"))
}

/// Steps of a story in each life.
const STEPS: usize = 300;

/// Tells a story of several lives, and checks one of `stride` images. Returns
/// how many crashes that were, and what the stores did by themselves.
fn tell(seed: u64, stride: usize, watchdog: &Watchdog) -> (usize, Deeds) {
    let mut random = Random::unprinted(seed);
    let settings = Settings::choose(&mut random);
    let mut image = Image::default();
    let mut state = State::from([("default".to_string(), Model::new())]);
    let (mut checked, mut killed, mut deeds) = (0, false, Deeds::default());
    for life in 0..3 {
        let story = std::sync::Arc::new(Story::generate(&mut random, state, STEPS, &settings));
        let at = format!("story {seed}, life {life}");
        let told = story::tell(&story, &image, &mut random, stride, (&at, killed));
        let mut points = told.0;
        deeds = deeds.and(told.1);
        assert!(!points.is_empty(), "{at}: the disk was watched");
        checked += check::check_all(&story, &points, watchdog);
        // The next life begins at one of them.
        let next = points.swap_remove(random.below(points.len() as u64) as usize);
        state = check::find_state(&story, &next);
        (image, killed) = (next.image, next.killed);
    }
    (checked, deeds)
}

/// Runs a test for each seed, on as many threads as there are cores.
fn for_each_seed(seeds: impl Iterator<Item = u64> + Send, run: impl Fn(u64) -> bool + Sync) {
    let seeds = Mutex::new(seeds);
    let next = || seeds.lock().expect("the seeds").next();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..if long() { cores } else { 1 } {
            scope.spawn(|| while next().is_some_and(&run) {});
        }
    });
}

#[test]
fn power_loss_leaves_a_prefix_with_everything_that_was_durable() {
    let watchdog = Watchdog::new("stories");
    if let Some(seed) = asked_seed() {
        let (checked, deeds) = tell(seed, 1, &watchdog);
        eprintln!("story {seed} was cut off at {checked} moments; {deeds:?}");
        return;
    }
    let strides = BTreeMap::from(SHORT);
    let short = strides.keys().copied();
    let seeds: Box<dyn Iterator<Item = u64> + Send> =
        if long() { Box::new(1000..) } else { Box::new(short) };
    let (checked, all) = (AtomicUsize::new(0), Mutex::new(Deeds::default()));
    for_each_seed(seeds, |seed| {
        let (now, deeds) = tell(seed, strides.get(&seed).copied().unwrap_or(1), &watchdog);
        let before = checked.fetch_add(now, Ordering::SeqCst);
        eprintln!("story {seed}: {now} moments, {} so far; {deeds:?}", before + now);
        let mut all = all.lock().expect("the deeds");
        *all = all.and(deeds);
        !long() || before + now < LONG
    });
    let (checked, deeds) = (checked.into_inner(), all.into_inner().expect("the deeds"));
    eprintln!("{checked} moments altogether; {deeds:?}");
    assert!(!long() || !deeds.lack_any(), "what the stories are about happened: {deeds:?}");
}
