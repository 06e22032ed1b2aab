//! Opening, with each of its calls failing in turn.
//!
//! The stores to open are what kills and power losses have left of the script,
//! from its first moments on, and what a clean close has. An opening that
//! fails has lost nothing: what power loss leaves then, and what the next
//! opening finds, is what was allowed before.

use std::sync::Arc;

use swissdb::{Db, Options};

use super::assert_sentence;
use super::faults::{Flavour, Target, count, must_poison};
use super::script::script;
use super::trial::DURABILITIES;
use crate::disk::{Disk, Image};
use crate::power::check::{Allowed, check_image, try_print_of};
use crate::power::long;
use crate::power::story::{Point, Progress, Story, tell};
use crate::power::watchdog::Watchdog;
use crate::support::{Random, assert_clean};

/// How many openings of each store fail in the short form.
const SHORT: u64 = 12;

/// What crashes leave of the script, and what closing does.
fn points(story: &Arc<Story>, random: &mut Random) -> Vec<Point> {
    let stride = if long() { 20 } else { 60 };
    let (mut points, _) = tell(story, &Image::default(), random, stride, ("opening", false));
    let disk = Disk::new(random.next());
    story.run(&disk, &Progress::default()).expect("no call fails");
    // The story crashes the disk when it ends; the store is closed once more.
    let disk = Disk::boot(&disk.killed(), random.next());
    let options = story.settings.options();
    options.open_on(Arc::new(disk.clone())).expect("open").close().expect("close");
    let (least, prints) = (story.steps.len(), story.prints[story.steps.len()..].to_vec());
    let allowed = Allowed { least, most: least, later: prints.clone(), prints };
    let name = "closed cleanly".to_string();
    points.push(Point { image: disk.killed(), allowed, name, seed: random.next(), killed: false });
    points
}

/// How many calls opening a store makes.
fn calls(image: &Image, options: &Options) -> u64 {
    let disk = Disk::boot(image, 0);
    let counts = count(&disk);
    let db = options.open_on(Arc::new(disk.clone())).expect("open");
    let calls = counts.lock().expect("the counts").values().sum();
    drop(db);
    calls
}

/// Opens a store while one call fails, and then once more.
fn open_twice(point: &Point, options: &Options, (nth, flavour): (u64, Flavour), seed: u64) {
    let disk = Disk::boot(&point.image, seed);
    Target::Any(nth).arm(&disk, flavour, || ());
    let opened = options.open_on(Arc::new(disk.clone()));
    let failure = disk.failed();
    let at = format!("{}: call {nth}, {failure:?}", point.name);
    match opened {
        Ok(db) => {
            // It may do without: removing what is left over, for one.
            assert!(!failure.is_some_and(|failure| must_poison(&failure)), "{at}: opened");
            assert_allowed(&db, &point.allowed, &at);
        }
        Err(error) => {
            assert!(failure.is_some(), "{at}: {error}");
            assert_sentence(&error, &at);
        }
    }
    let mut random = Random::unprinted(seed);
    if random.one_in(3) {
        let allowed = &point.allowed;
        let mut later = Allowed { prints: allowed.later.clone(), ..allowed.clone() };
        check_image(&disk.wreck(), &mut later, options, &mut random);
    }
    let db = options.open_on(Arc::new(disk.clone()));
    let db = db.unwrap_or_else(|error| panic!("{at}: opening again: {error}"));
    assert_allowed(&db, &point.allowed, &at);
    assert_clean(&db);
    db.insert("one", "more").unwrap_or_else(|error| panic!("{at}: {error}"));
    db.close().unwrap_or_else(|error| panic!("{at}: {error}"));
}

fn assert_allowed(db: &Db, allowed: &Allowed, at: &str) {
    let print = try_print_of(db).unwrap_or_else(|error| panic!("{at}: {error}"));
    assert!(allowed.prints.contains(&print), "{at}: another state");
}

#[test]
fn whichever_call_of_an_opening_fails_the_next_one_finds_everything() {
    let watchdog = Watchdog::new("opening");
    let mut random = Random::new(44);
    let mut openings = 0;
    for (durability, interval) in DURABILITIES {
        let story = Arc::new(script(8, durability, interval));
        let options = story.settings.options();
        for point in points(&story, &mut random) {
            let calls = calls(&point.image, &options);
            let all = (1..=calls).flat_map(|nth| Flavour::ALL.map(|flavour| (nth, flavour)));
            let choices: Vec<_> = if long() {
                all.collect()
            } else {
                let all: Vec<_> = all.collect();
                (0..SHORT).map(|_| all[random.below(all.len() as u64) as usize]).collect()
            };
            for choice in choices {
                watchdog.beat(&format!("{}, {choice:?}", point.name));
                open_twice(&point, &options, choice, random.next());
                openings += 1;
            }
        }
    }
    eprintln!("{openings} openings in which a call failed");
}

#[test]
fn a_log_without_its_table_is_not_taken_for_a_new_store_because_it_cannot_be_read() {
    // A store that has lost its table file is damaged, and its log is all that
    // is left. A failed read must not make it look like the beginning of a new
    // store, of which the rest may be removed.
    use crate::disk::{Fault, Kind};
    use swissdb::storage::Storage;
    let options = script(9, DURABILITIES[0].0, DURABILITIES[0].1).settings.options();
    for kind in [Kind::List, Kind::Read, Kind::Open] {
        for nth in 1..=3 {
            let disk = Disk::new(1);
            let db = options.open_on(Arc::new(disk.clone())).expect("create");
            db.insert("k", "v").expect("insert");
            db.close().expect("close");
            disk.remove("default.swiss").expect("remove");
            let log = disk.list("log").expect("list");
            assert!(!log.is_empty());
            disk.fail(nth, Fault::Error(std::io::ErrorKind::Other), move |call| call.kind == kind);
            let opened = options.open_on(Arc::new(disk.clone()));
            assert!(opened.is_err(), "{kind:?} {nth}: opened as a new store");
            disk.failed();
            assert_eq!(disk.list("log").expect("list"), log, "{kind:?} {nth}: the log was kept");
        }
    }
}
