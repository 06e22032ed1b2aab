//! Space comes back: the log is cleaned, tables shrink, and what is asked for
//! by `compact` is delivered.
//!
//! Goal: no pattern of writes lets the files grow without bound, nothing is
//! lost while space is gained, and a store at rest does nothing. Method: log
//! files are as small as they can be, so that everything rolls over often; a
//! storage in memory ([`device`]) knows how much every file takes, at every
//! moment, and may be full; [`Watched`] stores are held against what they
//! should hold and against the bound while they are written to. What the file
//! system says of real files is in `space/usage.rs`.

#[path = "space/compact.rs"]
mod compact;
#[path = "space/crashes.rs"]
mod crashes;
#[path = "space/device.rs"]
pub mod device;
#[path = "space/full.rs"]
mod full;
#[path = "space/garbage.rs"]
mod garbage;
#[path = "space/punch.rs"]
mod punch;
#[path = "space/random.rs"]
mod random;
#[path = "space/readers.rs"]
mod readers;
#[path = "space/rest.rs"]
mod rest;
#[path = "space/shrink.rs"]
mod shrink;
#[path = "space/usage.rs"]
mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use swissdb::{Db, Options};

use crate::support::{Random, assert_clean, key, ticks, value};

use device::Device;

/// The size of an ordinary log file in these tests.
const FILE: u64 = 1 << 20;

/// The log between two checkpoints, of a store whose tables are smaller.
const BETWEEN: u64 = 4 * FILE;

/// What the log takes beyond its live entries and as much garbage, while the
/// store is at rest: the slack of the cleaner, what came since the last
/// checkpoint, the active file, the prepared one, one to be recycled, and two
/// that are kept for a full device.
const AT_REST: u64 = FILE + BETWEEN + 5 * FILE;

/// The same while it is written to: four files until somebody has to look, and
/// twice what comes between two checkpoints until one has to end.
const AT_WORK: u64 = AT_REST + 4 * FILE + 2 * BETWEEN;

/// How long things may take that happen unasked.
const SECONDS: Duration = Duration::from_secs(60);

/// Log files as small as may be.
fn options() -> Options {
    Options::new().max_log_file(FILE).write_buffer(16 << 20)
}

/// The bytes of the log that an entry needs if it is logged by itself: none if
/// it fits its slot.
fn footprint(payload: usize, key: usize, value: usize) -> u64 {
    let record = 24 + 12 + key + value;
    if key + value <= payload { 0 } else { record.next_multiple_of(8) as u64 }
}

/// Waits until a condition holds, which says why it does not.
fn eventually(mut condition: impl FnMut() -> Result<(), String>) {
    let start = ticks::now();
    loop {
        match condition() {
            Ok(()) => return,
            Err(why) if ticks::since(start) > SECONDS => {
                panic!("after {SECONDS:?} still: {why}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Fails unless a number is at most another, in MiB.
fn at_most(what: &str, found: u64, bound: u64) -> Result<(), String> {
    let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    match found <= bound {
        true => Ok(()),
        false => Err(format!("{what}: {:.2} MiB, more than {:.2}", mib(found), mib(bound))),
    }
}

/// A store on a device, beside what it should hold.
struct Watched {
    db: Db,
    device: Device,
    payload: usize,
    /// What it should hold: by the number of a key, the seed and length of its
    /// value.
    entries: BTreeMap<u64, (u64, usize)>,
    /// The length of keys: 16 if they should not be special.
    key_length: usize,
    /// What the entries need of the log.
    alive: u64,
    serial: u64,
    /// The slowest write so far, in the time that the machine gave.
    slowest: Duration,
    /// The most that the log had beyond twice what was alive, so far.
    worst: u64,
    /// When it was made, in the time of clocks and in that of the machine.
    began: (Instant, Duration),
}

impl Watched {
    fn new(device: Device, payload: usize) -> Watched {
        let db = options().payload(payload).open_on(Arc::new(device.clone()));
        Watched {
            db: db.expect("create a store"),
            device,
            payload,
            entries: BTreeMap::new(),
            key_length: 16,
            alive: 0,
            serial: 0,
            slowest: Duration::ZERO,
            worst: 0,
            began: (Instant::now(), ticks::now()),
        }
    }

    fn key(&self, i: u64) -> Vec<u8> {
        let mut key = key(i);
        key.resize(self.key_length, b'.');
        key
    }

    /// Inserts or overwrites; says whether the device had room for it.
    fn try_put(&mut self, i: u64, length: usize) -> bool {
        self.serial += 1;
        let (key, bytes) = (self.key(i), value(self.serial, length));
        let start = ticks::now();
        let outcome = self.db.insert(&key, &bytes);
        self.slowest = self.slowest.max(ticks::since(start));
        match outcome {
            Ok(()) => {
                self.forget(i);
                self.alive += footprint(self.payload, key.len(), length);
                self.entries.insert(i, (self.serial, length));
                true
            }
            Err(error) => {
                assert!(is_full(&error), "{error}");
                false
            }
        }
    }

    fn put(&mut self, i: u64, length: usize) {
        assert!(self.try_put(i, length), "the device is full");
    }

    /// Removes; says whether the device had room for saying so.
    fn try_remove(&mut self, i: u64) -> bool {
        match self.db.remove(self.key(i)) {
            Ok(removed) => {
                assert_eq!(removed, self.forget(i), "whether key {i} was there");
                true
            }
            Err(error) => {
                assert!(is_full(&error), "{error}");
                false
            }
        }
    }

    fn remove(&mut self, i: u64) {
        assert!(self.try_remove(i), "the device is full");
    }

    /// Takes an entry out of what should be there.
    fn forget(&mut self, i: u64) -> bool {
        let Some((_, length)) = self.entries.remove(&i) else {
            return false;
        };
        self.alive -= footprint(self.payload, self.key_length, length);
        true
    }

    /// Whether the log keeps its bound.
    fn within(&self, constant: u64) -> Result<(), String> {
        let (log, alive) = (self.device.log(), self.alive);
        at_most(&format!("log with {alive} bytes alive"), log, 2 * alive + constant)
    }

    /// Fails if the log does not keep its bound now. What readers hold is counted
    /// apart: those of all stores of the process do, of other tests' too, for as
    /// long as the machine keeps them from going on.
    fn check(&mut self, constant: u64) {
        self.worst = self.worst.max(self.device.log().saturating_sub(2 * self.alive));
        if self.within(constant).is_err() {
            let held = self.db.stats().log_space.retired;
            self.within(constant + held).unwrap_or_else(|why| panic!("{why}, {held} bytes held"));
        }
    }

    /// Tells how close it came.
    fn report(&self) {
        let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
        let stats = self.db.stats();
        eprintln!(
            "{:.1} MiB alive, {:.1} in the log, at worst {:.1} beyond twice what was alive; \
             slowest write {:?}; {} waits for the cleaner, {:?}",
            mib(self.alive),
            mib(self.device.log()),
            mib(self.worst),
            self.slowest,
            stats.cleaner_waits,
            stats.cleaner_wait_time,
        );
    }

    /// How much time the machine has given to others so far.
    fn lost(&self) -> Duration {
        let (by_clock, by_machine) = self.began;
        by_clock.elapsed().saturating_sub(ticks::since(by_machine))
    }

    /// Fails unless the store holds what it should, and is whole.
    fn assert_whole(&self) {
        self.assert_held_by(&self.db);
    }

    /// The same of another store, with a copy of its files.
    fn assert_held_by(&self, db: &Db) {
        assert_eq!(db.len(), self.entries.len() as u64, "entries");
        for (&i, &(seed, length)) in &self.entries {
            let found = db.get(self.key(i)).expect("get");
            assert!(found.as_deref() == Some(&value(seed, length)[..]), "value of key {i}");
        }
        assert_clean(db);
    }

    /// Waits until a store that nobody writes to has come to rest: no commit
    /// of its own and no checkpoint for a second. Fails if it never does.
    fn assert_rests(&self) {
        self.assert_quiet_for(Duration::from_millis(1_300));
    }

    /// The same for longer than the five seconds after which it becomes small:
    /// nothing wakes the background any more.
    fn assert_sleeps(&self) {
        self.assert_quiet_for(Duration::from_millis(6_500));
    }

    fn assert_quiet_for(&self, time: Duration) {
        let state = || {
            let stats = self.db.stats();
            (stats.commits, stats.checkpoints, self.device.used())
        };
        let mut last = (state(), ticks::now());
        eventually(|| {
            let now = state();
            if now != last.0 {
                last = (now, ticks::now());
            }
            let quiet = ticks::since(last.1) > time;
            quiet.then_some(()).ok_or(format!("commits, checkpoints and bytes: {now:?}"))
        });
    }

    /// Closes the store, opens it again, and fails unless it is the same.
    fn reopen(self) -> Watched {
        let db = self.db.clone();
        db.close().expect("close");
        let db = options().payload(self.payload).open_on(Arc::new(self.device.clone()));
        Watched { db: db.expect("open again"), ..self }
    }
}

/// Whether an error says that the device is full.
fn is_full(error: &swissdb::Error) -> bool {
    match error {
        swissdb::Error::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
        _ => false,
    }
}

/// A number below `n`: in nine of ten cases one of the first tenth.
fn mostly_hot(random: &mut Random, n: u64) -> u64 {
    if random.one_in(10) { random.below(n) } else { random.below(n.div_ceil(10)) }
}
