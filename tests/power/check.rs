//! Whether what a crash has left is what it may leave.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use swissdb::{Db, Options};

use super::story::{Point, Story, SumWrapping, reopen};
use super::watchdog::Watchdog;
use crate::disk::{Call, Disk, Image};
use crate::support::{Model, Random, State, assert_clean, key, show, state_of};

/// The states that an image may hold: those after so many steps.
#[derive(Clone)]
pub struct Allowed {
    pub least: usize,
    pub most: usize,
    pub prints: Vec<u128>,
    /// Those that power loss may leave before the store is open again: what a
    /// killed process has written is not durable yet.
    pub later: Vec<u128>,
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} to {} steps", self.least, self.most)
    }
}

/// A number that stands for some bytes: 128 bits, so that two of the states
/// of a run do not have the same one.
fn print(seed: u64, bytes: &[u8]) -> u128 {
    let (mut a, mut b) = (seed ^ 0x243F_6A88_85A3_08D3, bytes.len() as u64);
    let mut add = |word: u64| {
        a = (a ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        b = (b.rotate_left(23) ^ word).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    };
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().for_each(|word| add(u64::from_le_bytes(*word)));
    rest.iter().for_each(|byte| add(u64::from(*byte)));
    (0..2).for_each(|_| add(seed));
    u128::from(a) << 64 | u128::from(b)
}

/// The print of an entry of a table.
pub fn print_of_entry(table: &str, key: &[u8], value: &[u8]) -> u128 {
    let table = print(1, table.as_bytes()) as u64;
    let key = print(table, key);
    print((key >> 64) as u64 ^ key as u64, value)
}

/// The print of a table with its entries.
pub fn print_of_table(name: &str, entries: &Model) -> u128 {
    let entries = entries.iter().map(|(key, value)| print_of_entry(name, key, value));
    entries.sum_wrapping().wrapping_add(print(2, name.as_bytes()))
}

/// The print of all that a store holds, or why it cannot be read.
pub fn try_print_of(db: &Db) -> swissdb::Result<u128> {
    let mut sum = 0u128;
    for name in db.tables()? {
        sum = sum.wrapping_add(print(2, name.as_bytes()));
        for entry in db.table(&name)?.iter() {
            let (key, value) = entry?;
            sum = sum.wrapping_add(print_of_entry(&name, &key, &value));
        }
    }
    Ok(sum)
}

/// The print of all that a store holds.
pub fn print_of(db: &Db) -> u128 {
    try_print_of(db).unwrap_or_else(|error| panic!("the store cannot be read: {error}"))
}

/// Opens a store, or fails with what it says.
pub fn open(disk: &Disk, options: &Options) -> Db {
    let db = options.open_on(Arc::new(disk.clone()));
    db.unwrap_or_else(|error| panic!("the store does not open: {error}"))
}

/// Checks all these points. Returns how many
/// times a store was opened after a crash.
pub fn check_all(story: &Story, points: &[Point], watchdog: &Watchdog) -> usize {
    let (next, checked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failure = Mutex::new(None);
    let work = || {
        while let Some(point) = points.get(next.fetch_add(1, SeqCst)) {
            watchdog.beat(&point.name);
            match catch_unwind(AssertUnwindSafe(|| check_point(story, point))) {
                Ok(count) => checked.fetch_add(count, SeqCst),
                Err(panic) => {
                    next.store(points.len(), SeqCst);
                    report(story, point);
                    failure.lock().expect("the failure").get_or_insert(panic);
                    break;
                }
            };
        }
    };
    work();
    if let Some(panic) = failure.into_inner().expect("the failure") {
        resume_unwind(panic);
    }
    checked.into_inner()
}

thread_local! {
    /// How opening was cut off again and again, for messages.
    static CUTS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Says all about a point that failed, and keeps its files.
fn report(story: &Story, point: &Point) {
    eprintln!("FAILED: {}, choices {}", point.name, point.seed);
    let directory = tempfile::tempdir().expect("a temporary directory").keep();
    point.image.save(&directory);
    eprintln!("the files are in {}", directory.display());
    CUTS.with_borrow(|cuts| cuts.iter().for_each(|cut| eprintln!("then opening was {cut}")));
    let (least, most) = (point.allowed.least, point.allowed.most);
    for (at, step) in story.steps.iter().enumerate().take(most).skip(least.saturating_sub(1)) {
        eprintln!("step {}: {}", at + 1, show(format!("{step:?}").as_bytes()));
    }
    let db = story.settings.options().open_on(Arc::new(Disk::boot(&point.image, 0)));
    let Ok(found) = db.map(|db| state_of(&db)) else { return };
    let print: u128 = found.iter().map(|(name, table)| print_of_table(name, table)).sum_wrapping();
    let all: Vec<usize> = (0..story.prints.len()).filter(|n| story.prints[*n] == print).collect();
    eprintln!("it holds the state after these numbers of steps: {all:?}");
    let nearest = (least..=most).min_by_key(|n| differences(&story.state_after(*n), &found).len());
    let Some(nearest) = nearest else { return };
    eprintln!("the nearest state allowed is that after {nearest} steps:");
    for line in differences(&story.state_after(nearest), &found).iter().take(12) {
        eprintln!("  {line}");
    }
}

fn differences(expected: &State, found: &State) -> Vec<String> {
    let mut lines = Vec::new();
    for name in expected.keys().chain(found.keys().filter(|name| !expected.contains_key(*name))) {
        let (Some(a), Some(b)) = (expected.get(name), found.get(name)) else {
            lines.push(format!("table {name}: only in one of them"));
            continue;
        };
        for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
            if a.get(key) != b.get(key) {
                let length = |model: &Model| model.get(key).map(Vec::len);
                let (a, b) = (length(a), length(b));
                lines.push(format!("{name}, {}: {a:?} expected, {b:?} found", show(key)));
            }
        }
    }
    lines
}

fn check_point(story: &Story, point: &Point) -> usize {
    CUTS.with_borrow_mut(Vec::clear);
    let mut random = Random::unprinted(point.seed);
    let mut allowed = point.allowed.clone();
    check_image(&point.image, &mut allowed, &story.settings.options(), &mut random)
}

/// Opens an image, cuts that off, opens what is left, and so on; at last writes
/// to it. Returns how many crashes that makes.
pub fn check_image(
    image: &Image,
    allowed: &mut Allowed,
    options: &Options,
    random: &mut Random,
) -> usize {
    let mut image = image.clone();
    let again = if random.one_in(3) { 1 + random.below(4) } else { 0 };
    for _ in 0..again {
        image = cut_off_again(&image, allowed, options, random);
    }
    go_on(&image, allowed, options, random);
    1 + again as usize
}

/// Opens an image, checks it, and returns what a crash meanwhile leaves.
fn cut_off_again(
    image: &Image,
    allowed: &mut Allowed,
    options: &Options,
    random: &mut Random,
) -> Image {
    let disk = Disk::boot(image, random.next());
    let (opened, kept) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
    let mut choices = Random::unprinted(random.next());
    let (is_open, keep) = (opened.clone(), kept.clone());
    let mut seen = 0;
    disk.watch(move |moment| {
        seen += 1;
        // Each of them is kept with the same chance.
        if choices.one_in(seen) {
            let (seed, killed) = (choices.next(), choices.one_in(4));
            let image = if killed { moment.kill() } else { moment.power_loss(seed) };
            let cut = if killed { "killed" } else { "cut off by power loss" };
            let Call { kind, name, offset, .. } = moment.call;
            let cut = format!("{cut} in {kind:?} {name} at {offset}");
            *keep.lock().expect("the image kept") =
                Some((image, is_open.load(SeqCst), killed, cut));
        }
    });
    let db = open(&disk, options);
    opened.store(true, SeqCst);
    let print = print_of(&db);
    assert!(allowed.prints.contains(&print), "opened again: another state");
    if random.one_in(2) {
        // Changes nothing that is looked at, but files.
        db.checkpoint().expect("checkpoint");
    }
    let now = disk.crash();
    drop(db);
    let kept = kept.lock().expect("the image kept").take();
    let (image, was_open, killed, cut) = kept.unwrap_or((now, true, false, String::new()));
    CUTS.with_borrow_mut(|cuts| cuts.push(cut));
    if was_open {
        // What a reader has seen is durable.
        (allowed.prints, allowed.later) = (vec![print], vec![print]);
    } else if !killed {
        allowed.prints.clone_from(&allowed.later);
    }
    image
}

/// Opens an image for good.
fn go_on(image: &Image, allowed: &Allowed, options: &Options, random: &mut Random) {
    let disk = Disk::boot(image, random.next());
    let db = open(&disk, options);
    let mut print = print_of(&db);
    assert!(allowed.prints.contains(&print), "another state");
    assert_clean(&db);
    for i in 0..3 {
        let key = key(1_000_000 + i);
        let value = vec![i as u8; [10, 700, 30_000][i as usize]];
        db.insert(&key, &value).expect("insert");
        print = print.wrapping_add(print_of_entry("default", &key, &value));
    }
    if random.one_in(2) {
        db.checkpoint().expect("checkpoint");
    }
    if random.one_in(2) {
        db.close().expect("close");
    } else {
        db.sync().expect("sync");
        drop(db);
    }
    if random.one_in(4) {
        let db = open(&disk, options);
        assert_eq!(print_of(&db), print, "what was written after the crash");
        assert_clean(&db);
    }
}

/// The state that a point holds.
pub fn find_state(story: &Story, point: &Point) -> State {
    let db = reopen(&Disk::boot(&point.image, 0), &story.settings);
    let print = print_of(&db);
    let Allowed { least, most, .. } = point.allowed;
    let found = (least..=most).find(|count| story.prints[*count] == print);
    story.state_after(found.expect("one of the allowed states"))
}
