//! One run of the script with one call that fails, and what is checked then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use swissdb::storage::Storage;
use swissdb::{Batch, Db, Durability, Error};

use super::assert_sentence;
use super::faults::{Flavour, Target, must_go_on, must_poison};
use crate::disk::{Disk, Kind, Outcome};
use crate::power::check::{check_image, try_print_of};
use crate::power::story::{Progress, Step, Story};
use crate::support::{Random, assert_clean, key};

/// What was going on when the call failed.
const OPENING: usize = 0;
const OPEN: usize = 1;
const CLOSING: usize = 2;

/// Somebody who reads all the time, and fails for nothing.
struct Reader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

impl Reader {
    fn start(db: &Db) -> Reader {
        let stop = Arc::new(AtomicBool::new(false));
        let (db, stopped) = (db.clone(), stop.clone());
        let read = move || {
            let mut errors = Vec::new();
            for i in 0.. {
                if stopped.load(SeqCst) {
                    break;
                }
                errors.extend(db.get(key(i % 1_000)).err().map(|error| error.to_string()));
                if i % 10 == 0 {
                    std::thread::sleep(Duration::from_micros(100));
                }
            }
            errors
        };
        Reader { stop, thread: std::thread::spawn(read) }
    }

    /// Ends it. Only a failed read may have failed it.
    fn stop(self, failure: Option<&Outcome>, at: &str) {
        self.stop.store(true, SeqCst);
        let errors = self.thread.join().unwrap_or_else(|_| panic!("{at}: a reader panicked"));
        let read_failed = failure.is_some_and(|failure| failure.kind == Kind::Read);
        assert!(errors.is_empty() || read_failed, "{at}: a reader failed: {errors:?}");
    }
}

/// A run of a story in which one call fails.
pub struct Trial<'a> {
    story: &'a Story,
    disk: Disk,
    name: String,
    random: Random,
    progress: Progress,
    /// What is going on, and what was when the call failed.
    phase: Arc<AtomicUsize>,
    failed_in: Arc<AtomicUsize>,
    /// Whether the store was opened again since then.
    healed: bool,
    open: Option<(Db, Reader)>,
}

/// Tells a story while one call fails, and checks all that follows. Returns
/// the call that failed, if there was one.
pub fn trial(story: &Story, target: Target, flavour: Flavour, seed: u64) -> Option<Outcome> {
    let disk = Disk::new(seed);
    let phase = Arc::new(AtomicUsize::new(OPENING));
    let failed_in = Arc::new(AtomicUsize::new(OPENING));
    let (now, then) = (phase.clone(), failed_in.clone());
    target.arm(&disk, flavour, move || then.store(now.load(SeqCst), SeqCst));
    let mut trial = Trial {
        story,
        disk,
        name: format!("{target} fails, {flavour:?}, seed {seed}, {:?}", story.settings.durability),
        random: Random::unprinted(seed ^ 0xFA11),
        progress: Progress::default(),
        phase,
        failed_in,
        healed: false,
        open: None,
    };
    trial.run();
    trial.disk.failure()
}

impl Trial<'_> {
    /// The run, and what happened in it so far.
    fn at(&self) -> String {
        let done = self.progress.done.load(SeqCst);
        let step = self.story.steps.get(done);
        let step = step.map_or("the end".to_string(), |step| format!("{step:.60?}"));
        let failure = self.disk.failure();
        let phase = ["opening", "open", "closing"][self.failed_in.load(SeqCst)];
        format!("{}; {failure:?} while {phase}; after {done} steps, in {step:.80}", self.name)
    }

    fn db(&self) -> &Db {
        &self.open.as_ref().expect("the store is open").0
    }

    fn run(&mut self) {
        self.open();
        let story = self.story;
        for (at, step) in story.steps.iter().enumerate() {
            self.progress.begun.store(at + 1, SeqCst);
            let durable = if matches!(step, Step::Reopen) {
                self.close();
                self.open();
                self.assert_holds(at..=at);
                true
            } else {
                match self.step(at, step) {
                    Some(durable) => durable,
                    None => return self.after_poison(),
                }
            };
            self.progress.done.store(at + 1, SeqCst);
            if durable {
                self.progress.durable.store(at + 1, SeqCst);
            }
        }
        self.end();
    }

    /// Opens the store. If the call fails in that, opening fails, or does
    /// without it; the next time it works.
    fn open(&mut self) {
        let options = self.story.settings.options();
        self.phase.store(OPENING, SeqCst);
        let before = self.disk.failure();
        let mut opened = options.open_on(Arc::new(self.disk.clone()));
        let failure = self.disk.failure().filter(|_| before.is_none());
        let in_opening = self.failed_in.load(SeqCst) == OPENING;
        if let Some(failure) = failure.filter(|failure| in_opening && must_poison(failure)) {
            assert!(opened.is_err(), "{}: opened after {failure:?}", self.at());
        }
        if let Err(error) = &opened {
            assert_sentence(error, &self.at());
            assert!(before.is_none(), "{}: opening again: {error}", self.at());
            opened = options.open_on(Arc::new(self.disk.clone()));
        }
        let db = opened.unwrap_or_else(|error| panic!("{}: opening again: {error}", self.at()));
        self.phase.store(OPEN, SeqCst);
        self.healed |= before.is_some() || (self.disk.failure().is_some() && in_opening);
        let reader = Reader::start(&db);
        self.open = Some((db, reader));
    }

    /// Closes the store, which may fail if something has.
    fn close(&mut self) {
        let (db, reader) = self.open.take().expect("the store is open");
        reader.stop(self.disk.failure().as_ref(), &self.at());
        self.phase.store(CLOSING, SeqCst);
        let closed = db.close();
        let failure = self.disk.failure().filter(|_| !self.healed);
        let fatal = failure.as_ref().is_some_and(must_poison);
        match closed {
            Ok(()) => assert!(!fatal, "{}: closed without an error", self.at()),
            Err(error) => {
                assert_sentence(&error, &self.at());
                assert!(failure.is_some(), "{}: close: {error}", self.at());
            }
        }
    }

    /// Does a step; says whether all is durable now. It may fail as long as
    /// something has failed, with nothing changed, and then works. `None`: the
    /// store takes no writes any more.
    fn step(&mut self, at: usize, step: &Step) -> Option<bool> {
        for attempt in 0.. {
            let error = match step.run(self.db(), self.story.settings.durability) {
                Ok(durable) => return Some(durable),
                Err(error) => error,
            };
            assert_sentence(&error, &self.at());
            assert!(self.disk.failure().is_some(), "{}: {error}", self.at());
            if self.poison().is_some() {
                return None;
            }
            self.assert_holds(at..=at);
            assert!(attempt < 5, "{}: again and again: {error}", self.at());
        }
        unreachable!("it was tried often enough")
    }

    /// Why the store takes no writes, if it does not.
    fn poison(&self) -> Option<String> {
        match self.db().write(&Batch::new()) {
            Ok(()) => None,
            Err(Error::Poisoned { cause }) => {
                let failure = self.disk.failure();
                let failure = failure.unwrap_or_else(|| panic!("{}: {cause}", self.at()));
                assert!(!self.healed, "{}: poisoned again by {cause}", self.at());
                assert!(!must_go_on(&failure), "{}: poisoned by {cause}", self.at());
                assert!(cause.contains("told to fail"), "{}: {cause}", self.at());
                // Files of the log are opened under the temporary name.
                let name = failure.name.trim_end_matches("/next.tmp");
                let path = self.disk.path(name).display().to_string();
                let told = !must_poison(&failure) || cause.contains(&path);
                assert!(told, "{}: not the first cause: {cause}", self.at());
                Some(cause)
            }
            Err(error) => panic!("{}: {error}", self.at()),
        }
    }

    /// Fails unless the store is whole.
    fn assert_clean(&self) {
        let before = self.disk.failure();
        let verified = self.db().verify();
        if before.is_none() && self.disk.failure().is_some() {
            return assert_clean(self.db());
        }
        let report = verified.unwrap_or_else(|error| panic!("{}: {error}", self.at()));
        assert!(report.is_clean(), "{}: {:#?}", self.at(), report.violations);
    }

    /// Fails unless readers see the state after one of these numbers of steps.
    fn assert_holds(&self, steps: std::ops::RangeInclusive<usize>) {
        let before = self.disk.failure();
        let print = match try_print_of(self.db()) {
            // Of all calls it was one of these that failed.
            Err(error) if before.is_none() && self.disk.failure().is_some() => {
                assert_sentence(&error, &self.at());
                try_print_of(self.db())
            }
            outcome => outcome,
        };
        let print = print.unwrap_or_else(|error| panic!("{}: {error}", self.at()));
        assert!(self.story.prints[steps].contains(&print), "{}: another state", self.at());
    }

    /// The story was told to its end.
    fn end(&mut self) {
        let failure = self.disk.failure().filter(|_| !self.healed);
        let in_time = self.failed_in.load(SeqCst) == OPEN;
        if failure.as_ref().is_some_and(|failure| in_time && must_poison(failure)) {
            // The thread that met the failure is about to say so.
            while self.poison().is_none() {
                std::thread::yield_now();
            }
        }
        if self.poison().is_some() {
            return self.after_poison();
        }
        let all = self.story.steps.len();
        self.assert_holds(all..=all);
        self.assert_clean();
        if self.random.one_in(4) {
            let mut allowed = self.story.allowed(&self.progress, false);
            let options = self.story.settings.options();
            check_image(&self.disk.wreck(), &mut allowed, &options, &mut self.random);
        }
        self.close();
        self.open();
        self.assert_holds(all..=all);
        self.assert_clean();
        self.close();
        assert_eq!(self.disk.bus_errors(), 0, "{}", self.at());
    }

    /// Writes are refused, reads go on, closing writes nothing, and opening
    /// finds a prefix with all that was durable, whatever became of the
    /// machine.
    fn after_poison(&mut self) {
        let cause = self.poison().expect("it was poisoned");
        self.assert_writes_are_refused(&cause);
        let (done, begun) = (self.progress.done.load(SeqCst), self.progress.begun.load(SeqCst));
        self.assert_holds(done..=begun);
        let (wreck, killed) = (self.disk.wreck(), self.disk.killed());

        let (db, reader) = self.open.take().expect("the store is open");
        reader.stop(self.disk.failure().as_ref(), &self.at());
        let (steps, me) = (Arc::new(AtomicUsize::new(0)), std::thread::current().id());
        let seen = steps.clone();
        self.disk.watch(move |_| {
            seen.fetch_add(usize::from(std::thread::current().id() == me), SeqCst);
        });
        match db.close() {
            Err(Error::Poisoned { cause: why }) => assert_eq!(why, cause, "{}", self.at()),
            other => panic!("{}: close: {other:?}", self.at()),
        }
        assert_eq!(steps.load(SeqCst), 0, "{}: closing has written", self.at());
        self.disk.watch(|_| {});

        // The same process opens it again: what it wrote is still there.
        self.open();
        self.assert_holds(done..=begun);
        self.assert_clean();
        self.close();
        // The power had gone before, or another process comes, which may not
        // see what the failed sync was to write.
        let options = self.story.settings.options();
        let mut allowed = self.story.allowed(&self.progress, false);
        check_image(&wreck, &mut allowed, &options, &mut self.random);
        let next = Disk::boot(&killed, self.random.next()).kill();
        let mut allowed = self.story.allowed(&self.progress, false);
        check_image(&next.killed(), &mut allowed, &options, &mut self.random);
    }

    fn assert_writes_are_refused(&self, cause: &str) {
        let db = self.db();
        let mut batch = Batch::new();
        batch.insert("k", "v").expect("add to the batch");
        let attempts = [
            ("insert", db.insert("k", "v").err()),
            ("remove", db.remove(key(0)).err()),
            ("write", db.write(&batch).err()),
            ("clear", db.clear().err()),
            ("table", db.table("another").err()),
            ("drop_table", db.drop_table("one").err()),
            ("sync", db.sync().err()),
            ("checkpoint", db.checkpoint().err()),
            ("compact", db.compact().err()),
        ];
        for (name, error) in attempts {
            match error {
                Some(Error::Poisoned { cause: why }) => {
                    assert_eq!(why, cause, "{}: {name}", self.at());
                }
                other => panic!("{}: {name}: {other:?}", self.at()),
            }
        }
    }
}

/// The two ways to be durable, for scripts.
pub const DURABILITIES: [(Durability, Duration); 2] = [
    (Durability::Buffered, Duration::from_millis(2)),
    (Durability::Sync, Duration::from_secs(3600)),
];
