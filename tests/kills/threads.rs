//! A process whose many threads write is killed, again and again.
//!
//! Goal: at whatever moment the process dies, every change that had returned is
//! there, of each thread at most the one change that had not, and that one
//! whole; the store is undamaged; and it does not grow from kill to kill.
//! Method: a child writes with several threads ([`work`]) and says of each
//! change that it has returned, while other threads of it run checkpoints and
//! compact the store; log files are tiny, so that files are ended, cleaned and
//! recycled all the time. The parent kills it with SIGKILL: while it opens the
//! store, after a random number of changes and some more moments, or while it
//! closes the store. Then it compares all that is there with what must be:
//! sometimes it only reads, and the next child recovers what the killed one
//! left. All rounds go on with the same store.
//!
//! `SWISSDB_LONG=1` is the long form: 400 rounds instead of 24.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use swissdb::{Db, Options};

use super::work::{self, Holdings, THREADS};
use crate::support::peer::{Peer, role, say};
use crate::support::{Model, Random, assert_clean, seed_of_the_run};

const STORE: &str = "SWISSDB_TEST_STORE";
/// The seed of the changes.
const SEED: &str = "SWISSDB_TEST_CHANGES";
/// The number of each thread's first change, with commas between.
const FIRST: &str = "SWISSDB_TEST_FIRST";

/// Not a test by itself: the child.
#[test]
fn child() {
    let (Some(role), Ok(store)) = (role(), std::env::var(STORE)) else {
        return;
    };
    let seed = std::env::var(SEED).expect("a seed").parse().expect("a number");
    let first = std::env::var(FIRST).expect("the first changes");
    let first: Vec<u64> = first.split(',').map(|i| i.parse().expect("a number")).collect();
    // Who is to close the store does so after so many changes of each thread.
    let limit: u64 = role.strip_prefix("close after ").map_or(u64::MAX, |n| n.parse().unwrap());
    say("begins");
    let db = work::options().open(store).expect("the child opens the store");
    work::open_tables(&db).expect("the tables");
    say("open");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (db, over) = (&db, &over);
        let writers: Vec<_> = (0..)
            .zip(first)
            .map(|(thread, first)| {
                scope.spawn(move || {
                    for i in first..first.saturating_add(limit) {
                        work::make(db, &work::change(seed, thread, i)).expect("a change");
                        say(&format!("{thread} {i}"));
                    }
                })
            })
            .collect();
        for work in [Db::checkpoint, |db: &Db| db.compact().map(drop)] {
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    work(db).expect("what goes on beside");
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        }
        writers.into_iter().for_each(|writer| writer.join().expect("a thread"));
        over.store(true, Relaxed);
    });
    say("closes");
    db.close().expect("close");
    say("closed");
}

/// When a child is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// So many microseconds after it began to open the store.
    Opening(u64),
    /// So many changes, and then microseconds, after it had opened it.
    Writing(u64, u64),
    /// So many microseconds after it began to close it, having made so many
    /// changes with each thread.
    Closing(u64, u64),
}

impl Moment {
    fn choose(random: &mut Random) -> Moment {
        match random.below(8) {
            0 => Moment::Opening(random.below(40_000)),
            1 => Moment::Closing(random.below(30), random.below(40_000)),
            _ => Moment::Writing(random.below(1_200), random.below(3_000)),
        }
    }

    fn role(self) -> String {
        match self {
            Moment::Closing(changes, _) => format!("close after {changes}"),
            _ => "write".into(),
        }
    }
}

/// Lets some time pass, so that a kill comes at another moment. A sleep would
/// take longer than that.
fn pass(microseconds: u64) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(microseconds) {
        std::thread::yield_now();
    }
}

/// What a life of the store is compared with.
struct Rounds {
    seed: u64,
    random: Random,
    /// What each thread has in the store.
    held: Vec<Holdings>,
    /// The number of each thread's next change.
    next: Vec<u64>,
    /// What was found in the store's common entries.
    common: Model,
    changes: u64,
}

impl Rounds {
    /// Starts a child and kills it. Returns how many changes of each thread had
    /// returned before.
    fn run_and_kill(&mut self, store: &Path) -> Vec<u64> {
        let moment = Moment::choose(&mut self.random);
        let first: Vec<String> = self.next.iter().map(u64::to_string).collect();
        let (seed, first) = (self.seed.to_string(), first.join(","));
        let variables =
            [(STORE, store.as_os_str()), (SEED, seed.as_ref()), (FIRST, first.as_ref())];
        let mut child = Peer::start("kills::threads::child", &moment.role(), &variables);
        child.expect("begins");
        let mut done = vec![0; THREADS as usize];
        let mut ended = false;
        if let Moment::Opening(microseconds) = moment {
            pass(microseconds);
            child.kill();
            ended = true;
        }
        while let Some(line) = child.next() {
            let returned = line.split_once(' ').map(|(thread, i)| {
                (thread.parse::<usize>().expect("a thread"), i.parse::<u64>().expect("a number"))
            });
            if let Some((thread, i)) = returned {
                assert_eq!(i, self.next[thread] + done[thread], "thread {thread} goes on");
                done[thread] += 1;
            }
            let made = done.iter().sum::<u64>();
            let wait = match moment {
                Moment::Writing(changes, wait) if line != "open" && made > changes => wait,
                Moment::Closing(_, wait) if line == "closes" => wait,
                _ => continue,
            };
            if !ended {
                pass(wait);
                child.kill();
                ended = true;
            }
        }
        assert!(ended, "the child ended by itself: {moment:?}");
        self.changes += done.iter().sum::<u64>();
        done
    }

    /// Compares what is in the store with what must be there, and goes on from
    /// it.
    fn compare(&mut self, db: &Db, done: &[u64]) {
        let (found, common) = work::found(db);
        for (thread, found) in found.into_iter().enumerate() {
            let (seed, next, held) = (self.seed, &mut self.next[thread], &mut self.held[thread]);
            for _ in 0..done[thread] {
                held.apply(work::change(seed, thread as u64, *next));
                *next += 1;
            }
            let before = held.clone();
            let mut with_one_more = before.clone();
            with_one_more.apply(work::change(seed, thread as u64, *next));
            assert!(
                found.tables == before.tables || found.tables == with_one_more.tables,
                "thread {thread} after change {}: {}",
                *next - 1,
                differences(&found, &before, &with_one_more)
            );
            // A change that cannot be seen here, for one of a common entry, is
            // made once more.
            if found.tables != before.tables {
                *held = with_one_more;
                *next += 1;
            }
        }
        self.compare_common(&common);
        self.common = common;
    }

    /// A common entry holds the last change of some thread: never one that the
    /// same thread has overwritten, nor one that was never made, and its bytes
    /// are those that this change wrote.
    fn compare_common(&self, common: &Model) {
        let written = self.held.iter().flat_map(|held| held.common.keys());
        for key in written {
            assert!(common.contains_key(key), "{} is missing", key.escape_ascii());
        }
        for (key, value) in common {
            let number = work::number_of(value);
            let (thread, i) = (number % THREADS, number / THREADS);
            let (held, next) = (&self.held[thread as usize], self.next[thread as usize]);
            let last = held.common.get(key).copied();
            let name = key.escape_ascii();
            assert!(
                i <= next,
                "{name} was written by change {i} of thread {thread}: {next} is next"
            );
            assert!(last.is_none_or(|last| number >= last), "{name} is older than its last change");
            match work::change(self.seed, thread, i) {
                work::Change::Common(of, bytes) if of == *key => {
                    assert!(bytes == *value, "{name} holds other bytes than were written");
                }
                _ => panic!("{name} was not written by change {i} of thread {thread}"),
            }
        }
    }
}

/// Which entries differ from both of two states.
fn differences(found: &Holdings, before: &Holdings, after: &Holdings) -> String {
    let mut text = String::new();
    for table in work::tables() {
        let [found, before, after] =
            [found, before, after].map(|held| held.tables.get(&table).cloned().unwrap_or_default());
        let mut keys: Vec<_> = found.keys().chain(before.keys()).chain(after.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let [found, before, after] = [&found, &before, &after]
                .map(|model| model.get(key).map(|value| crate::support::show(value)));
            if found != before || found != after {
                let name = crate::support::show(key);
                text += &format!("\n{table} {name}: {found:?}; expected {before:?} or {after:?}");
            }
        }
    }
    text
}

/// What the files of a store take on the disk.
fn on_disk(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("a file"));
    entries
        .map(|entry| match entry.metadata().expect("its metadata") {
            of if of.is_dir() => on_disk(&entry.path()),
            of => of.blocks() * 512,
        })
        .sum()
}

/// The median and the largest of some sizes.
fn middle_and_most(sizes: &[u64]) -> (u64, u64) {
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable();
    (sizes[sizes.len() / 2], *sizes.last().expect("a round"))
}

#[test]
fn what_many_threads_wrote_survives_any_number_of_kills() {
    let long = std::env::var_os("SWISSDB_LONG").is_some_and(|value| value != "0");
    let count = if long { 400 } else { 24 };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = directory.path().join("store");
    let mut rounds = Rounds {
        seed: 77 ^ seed_of_the_run(),
        random: Random::new(32),
        held: vec![Holdings::default(); THREADS as usize],
        next: vec![1; THREADS as usize],
        common: Model::new(),
        changes: 0,
    };
    // So that a child that is killed while it opens finds something to open.
    let db = work::options().open(&store).expect("create");
    work::open_tables(&db).expect("tables");
    drop(db);
    let mut sizes = Vec::new();
    for round in 0..count {
        let done = rounds.run_and_kill(&store);
        sizes.push(on_disk(&store));
        let report = swissdb::verify(&store).expect("verify what the kill left");
        assert!(report.is_clean(), "round {round}: {:?}", report.violations);
        // The killed process left it as it is now: to be recovered by the next
        // child, or here.
        let options: Options = match round % 3 {
            0 => work::options(),
            _ => work::options().read_only(true),
        };
        let db = options.open(&store).expect("open after the kill");
        rounds.compare(&db, &done);
        if round % 3 == 0 {
            assert_clean(&db);
        }
        db.close().expect("close");
    }
    let (early, late) = sizes.split_at(count / 2);
    let [early, late] = [early, late].map(middle_and_most);
    let db = work::options().open(&store).expect("open");
    assert!(db.compact().expect("compact").finished);
    db.close().expect("close");
    let at_rest = on_disk(&store);
    eprintln!(
        "{count} kills, {} changes; bytes on disk after a kill, in the middle and at most: {early:?} \
         in the first half, {late:?} in the second; {at_rest} compacted and closed",
        rounds.changes
    );
    let grows = late.0 > 2 * early.0 + (4 << 20) || late.1 > 2 * early.1 + (16 << 20);
    assert!(!grows, "the store grows from kill to kill: {sizes:?}");
}
