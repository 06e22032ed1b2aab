//! The script, with each of its calls failing in turn.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::faults::{Counts, Flavour, Target, count};
use super::script::script;
use super::trial::{DURABILITIES, trial};
use crate::disk::Disk;
use crate::power::long;
use crate::power::story::{Progress, Story};
use crate::power::watchdog::Watchdog;
use crate::support::Random;

/// Trials of the short form, of each kind of choice.
const SHORT: usize = 60;

/// The scripts, with the calls they make when none fails.
fn scripts() -> Vec<(Story, Counts)> {
    let told = |(durability, interval)| {
        let story = script(7, durability, interval);
        let disk = Disk::new(7);
        let counts = count(&disk);
        story.run(&disk, &Progress::default()).expect("no call fails");
        disk.failed();
        let counts = counts.lock().expect("the counts").clone();
        (story, counts)
    };
    DURABILITIES.into_iter().map(told).collect()
}

/// Runs trials on as many threads as there are cores, in the long form.
fn run_all(what: &str, trials: &[(usize, Target, Flavour)], scripts: &[(Story, Counts)]) {
    let watchdog = Watchdog::new(what);
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        loop {
            let at = next.fetch_add(1, SeqCst);
            let Some(&(which, target, flavour)) = trials.get(at) else { return };
            watchdog.beat(&format!("{what}, script {which}: {target}, {flavour:?}"));
            let failure = trial(&scripts[which].0, target, flavour, at as u64);
            failed.fetch_add(usize::from(failure.is_some()), SeqCst);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        (0..if long() { cores } else { 1 }).for_each(|_| drop(scope.spawn(work)));
    });
    let failed = failed.into_inner();
    eprintln!("{what}: {} trials, in {failed} a call failed", trials.len());
    assert!(failed * 2 > trials.len(), "most of the calls were made again");
}

/// All of them in the long form, else some.
fn choose<T: Copy>(all: &[T], seed: u64) -> Vec<T> {
    if long() {
        return all.to_vec();
    }
    let mut random = Random::new(seed);
    (0..SHORT).map(|_| all[random.below(all.len() as u64) as usize]).collect()
}

#[test]
fn whichever_of_all_calls_fails_the_store_says_so_and_loses_nothing() {
    let scripts = scripts();
    let mut all = Vec::new();
    for (which, (_, counts)) in scripts.iter().enumerate() {
        let calls: u64 = counts.values().sum();
        eprintln!("script {which} makes {calls} calls");
        for nth in 1..=calls {
            all.extend(Flavour::ALL.map(|flavour| (which, Target::Any(nth), flavour)));
        }
    }
    run_all("calls by number", &choose(&all, 41), &scripts);
}

#[test]
fn whichever_call_of_its_class_fails_the_store_says_so_and_loses_nothing() {
    let scripts = scripts();
    let mut random = Random::new(42);
    let mut all = Vec::new();
    for (which, (_, counts)) in scripts.iter().enumerate() {
        for (&class, &calls) in counts {
            // Each class gets the same number of trials, however rare it is.
            let most = if long() { 40 } else { 4 };
            for flavour in Flavour::ALL.into_iter().filter(|f| f.fault(class.0).is_some()) {
                let mut nths: Vec<u64> = (1..=calls.min(most)).collect();
                if calls > most {
                    nths.iter_mut().for_each(|nth| *nth = 1 + random.below(calls));
                }
                all.extend(nths.into_iter().map(|nth| (which, Target::Of(class, nth), flavour)));
            }
        }
    }
    run_all("calls by class", &choose(&all, 43), &scripts);
}
