//! Generated steps, what they make of a store, and telling them to one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use swissdb::{Batch, Db, Durability, Options, Result};

use super::check::{Allowed, open, print_of_entry, print_of_table};
use crate::disk::{Call, Disk, Image, Kind, Moment};
use crate::support::{Model, Random, State, key, value};

/// The tables that come and go.
const TABLES: [&str; 3] = ["one", "two", "three"];

/// What a story is like.
#[derive(Debug, Clone)]
pub struct Settings {
    pub payload: usize,
    pub durability: Durability,
    pub interval: Duration,
    /// Different keys.
    pub keys: u64,
    /// How many values in a hundred are long.
    pub long: u64,
}

impl Settings {
    /// Settings at random.
    pub fn choose(random: &mut Random) -> Settings {
        Settings {
            payload: [24, 56, 104, 504][random.below(4) as usize],
            durability: if random.one_in(3) { Durability::Sync } else { Durability::Buffered },
            interval: Duration::from_millis([2, 30, 3_600_000][random.below(3) as usize]),
            keys: [30, 300, 2_000][random.below(3) as usize],
            long: [3, 12, 30][random.below(3) as usize],
        }
    }

    /// The options of the store: everything is as small as it gets.
    pub fn options(&self) -> Options {
        Options::new()
            .payload(self.payload)
            .durability(self.durability)
            .sync_interval(self.interval)
            .write_buffer(1 << 20)
            .max_log_file(1 << 20)
    }
}

/// A change of an entry: table, key, and its value's stamp and length or `None`
/// for a removal.
pub type Change = (String, u64, Option<(u64, usize)>);

/// Something that is done to a store.
#[derive(Debug, Clone)]
pub enum Step {
    Change(Change),
    Batch(Vec<Change>),
    Clear(String),
    Create(String),
    Drop(String),
    Checkpoint,
    Sync,
    Compact,
    Reopen,
}

/// A list of steps.
pub struct Story {
    pub settings: Settings,
    start: State,
    pub steps: Vec<Step>,
    /// The prints of the states after each number of steps.
    pub prints: Vec<u128>,
}

/// The state while a story is made up.
struct Draft<'a> {
    random: &'a mut Random,
    settings: &'a Settings,
    state: State,
    print: u128,
}

impl Story {
    /// Makes up a story that starts in a state.
    pub fn generate(random: &mut Random, start: State, count: usize, settings: &Settings) -> Story {
        let print = start.iter().map(|(name, table)| print_of_table(name, table)).sum_wrapping();
        let mut draft = Draft { random, settings, state: start.clone(), print };
        let (mut steps, mut prints) = (Vec::new(), vec![print]);
        for _ in 0..count {
            let step = draft.next_step();
            draft.apply(&step);
            steps.push(step);
            prints.push(draft.print);
        }
        Story { settings: settings.clone(), start, steps, prints }
    }

    /// The story of these steps, which starts in a new store.
    pub fn of(steps: Vec<Step>, settings: &Settings) -> Story {
        let start = State::from([("default".to_string(), Model::new())]);
        let print = print_of_table("default", &Model::new());
        let mut random = Random::unprinted(0);
        let mut draft = Draft { random: &mut random, settings, state: start.clone(), print };
        let mut prints = vec![print];
        for step in &steps {
            draft.apply(step);
            prints.push(draft.print);
        }
        Story { settings: settings.clone(), start, steps, prints }
    }

    /// The state after a number of steps.
    pub fn state_after(&self, count: usize) -> State {
        let mut random = Random::unprinted(0);
        let (settings, state) = (&self.settings, self.start.clone());
        let mut draft = Draft { random: &mut random, settings, state, print: 0 };
        self.steps[..count].iter().for_each(|step| draft.apply(step));
        draft.state
    }
}

/// Adding up prints.
pub trait SumWrapping {
    /// The sum, modulo 2^128.
    fn sum_wrapping(self) -> u128;
}

impl<I: Iterator<Item = u128>> SumWrapping for I {
    fn sum_wrapping(self) -> u128 {
        self.fold(0, u128::wrapping_add)
    }
}

impl Draft<'_> {
    fn next_step(&mut self) -> Step {
        match self.random.below(100) {
            0..=1 => Step::Checkpoint,
            2..=5 => Step::Sync,
            6 if self.random.one_in(2) => Step::Reopen,
            7 if self.random.one_in(3) => Step::Compact,
            8 if self.random.one_in(2) => Step::Clear(self.table()),
            9..=10 => Step::Create(TABLES[self.random.below(3) as usize].into()),
            11 => {
                let names: Vec<&String> = self.state.keys().filter(|n| *n != "default").collect();
                match names.len() as u64 {
                    0 => Step::Sync,
                    n => Step::Drop(names[self.random.below(n) as usize].clone()),
                }
            }
            12 if self.random.one_in(2) => self.flood(),
            13..=22 => {
                let size = [3, 12, 150][self.random.below(3) as usize];
                let count = 1 + self.random.below(size);
                Step::Batch((0..count).map(|_| self.change(count > 12)).collect())
            }
            _ => Step::Change(self.change(false)),
        }
    }

    /// Many short entries come at once, so that a table grows; or, if there
    /// are many, most of them go, so that it is sparse and shrinks.
    fn flood(&mut self) -> Step {
        // More than a segment holds, and not more than a batch may change.
        let many = (60_000 / self.settings.payload as u64).min(1_100);
        let table = self.table();
        if (self.state[&table].len() as u64) < many / 2 {
            let numbers = (0..many).map(|i| 10_000 + i);
            let entry = |number| (table.clone(), number, Some((number, number as usize % 40)));
            return Step::Batch(numbers.map(entry).collect());
        }
        let number = |key: &Vec<u8>| String::from_utf8_lossy(&key[4..]).parse().expect("a number");
        let gone = self.state[&table].keys().map(number).filter(|number| number % 32 != 0);
        Step::Batch(gone.map(|number| (table.clone(), number, None)).collect())
    }

    fn table(&mut self) -> String {
        let extra = self.state.len() as u64 - 1;
        let at = if self.random.one_in(2) { 0 } else { self.random.below(extra + 1) };
        let mut names: Vec<&String> = self.state.keys().collect();
        names.sort_by_key(|name| *name != "default");
        names[at as usize].clone()
    }

    fn change(&mut self, short: bool) -> Change {
        let table = self.table();
        let key = self.random.below(self.settings.keys);
        if self.random.one_in(4) {
            return (table, key, None);
        }
        let long = self.random.below(100) < self.settings.long;
        let length = match self.random.below(if short { 2 } else { 30 }) {
            0 => self.random.below(50),
            _ if !long || short => self.random.below(600),
            1 => 400_000 + self.random.below(900_000),
            2..=10 => self.random.below(200_000),
            _ => self.random.below(20_000),
        };
        (table, key, Some((self.random.next(), length as usize)))
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Change(change) => self.apply_change(change),
            Step::Batch(changes) => changes.iter().for_each(|change| self.apply_change(change)),
            Step::Create(name) if self.state.contains_key(name) => {}
            Step::Create(name) => {
                self.print = self.print.wrapping_add(print_of_table(name, &Model::new()));
                self.state.insert(name.clone(), Model::new());
            }
            Step::Drop(name) => {
                let gone = self.state.remove(name).expect("a table that is there");
                self.print = self.print.wrapping_sub(print_of_table(name, &gone));
            }
            Step::Clear(name) => {
                let gone = self.state.insert(name.clone(), Model::new());
                let gone = print_of_table(name, &gone.expect("a table that is there"));
                let empty = print_of_table(name, &Model::new());
                self.print = self.print.wrapping_sub(gone).wrapping_add(empty);
            }
            Step::Checkpoint | Step::Sync | Step::Compact | Step::Reopen => {}
        }
    }

    fn apply_change(&mut self, (name, number, to): &Change) {
        let table = self.state.get_mut(name).expect("a table that is there");
        let key = key(*number);
        if let Some(old) = table.remove(&key) {
            self.print = self.print.wrapping_sub(print_of_entry(name, &key, &old));
        }
        if let Some((stamp, length)) = to {
            let value = value(*stamp, *length);
            self.print = self.print.wrapping_add(print_of_entry(name, &key, &value));
            table.insert(key, value);
        }
    }
}

/// What a store did by itself while a story was told to it.
#[derive(Debug, Default, Clone, Copy)]
pub struct Deeds {
    pub checkpoints: u64,
    /// Log files that got another life.
    pub recycled: u64,
    /// Bytes that were put again to clean the log.
    pub moved: u64,
    /// How often a table got more segments, and how often fewer.
    pub grown: u64,
    pub shrunk: u64,
}

impl Deeds {
    /// Those of both.
    pub fn and(self, other: Deeds) -> Deeds {
        Deeds {
            checkpoints: self.checkpoints + other.checkpoints,
            recycled: self.recycled + other.recycled,
            moved: self.moved + other.moved,
            grown: self.grown + other.grown,
            shrunk: self.shrunk + other.shrunk,
        }
    }

    /// Whether there is none of something.
    pub fn lack_any(self) -> bool {
        [self.checkpoints, self.recycled, self.moved, self.grown, self.shrunk].contains(&0)
    }

    /// Looks at a store after a step; `before` says how many segments its
    /// tables had. Clearing a table and dropping it is not shrinking.
    fn look(&mut self, db: &Db, step: &Step, before: &mut BTreeMap<u16, u64>) {
        let tables = db.stats().tables;
        for table in &tables {
            let Some(old) = before.get(&table.id) else { continue };
            self.grown += u64::from(table.segments > *old);
            let cleared = matches!(step, Step::Clear(_));
            self.shrunk += u64::from(table.segments < *old && !cleared);
        }
        *before = tables.iter().map(|table| (table.id, table.segments)).collect();
    }

    fn take_stats(&mut self, db: &Db) {
        let stats = db.stats();
        self.checkpoints += stats.checkpoints;
        self.moved += stats.written.moved_bytes;
    }
}

/// What has been acknowledged, in steps.
#[derive(Default)]
pub struct Progress {
    pub deeds: Mutex<Deeds>,
    pub begun: AtomicUsize,
    pub done: AtomicUsize,
    pub durable: AtomicUsize,
    /// Whether the store has been opened.
    pub open: AtomicBool,
}

/// What a crash has left, and what it may hold.
pub struct Point {
    pub image: Image,
    pub allowed: Allowed,
    /// Where it is from, for messages.
    pub name: String,
    /// For the choices when it is checked.
    pub seed: u64,
    /// Whether the process was killed, so that not all of it is durable.
    pub killed: bool,
}

impl Story {
    /// What an image may hold that is taken now.
    pub fn allowed(&self, progress: &Progress, killed: bool) -> Allowed {
        let durable = progress.durable.load(SeqCst);
        let least = if killed { progress.done.load(SeqCst) } else { durable };
        let most = progress.begun.load(SeqCst);
        let prints = |least: usize| self.prints[least..=most].to_vec();
        Allowed { least, most, prints: prints(least), later: prints(durable) }
    }

    /// Does all steps. Stops at the first error, which it returns.
    pub fn run(&self, disk: &Disk, progress: &Progress) -> Result<()> {
        let options = self.settings.options();
        let mut db = options.open_on(Arc::new(disk.clone()))?;
        progress.open.store(true, SeqCst);
        let (mut deeds, mut segments) = (Deeds::default(), BTreeMap::new());
        for (at, step) in self.steps.iter().enumerate() {
            progress.begun.store(at + 1, SeqCst);
            let durable = if matches!(step, Step::Reopen) {
                deeds.take_stats(&db);
                db.close()?;
                db = options.open_on(Arc::new(disk.clone()))?;
                true
            } else {
                step.run(&db, self.settings.durability)?
            };
            progress.done.store(at + 1, SeqCst);
            if durable {
                progress.durable.store(at + 1, SeqCst);
            }
            deeds.look(&db, step, &mut segments);
        }
        deeds.take_stats(&db);
        {
            let mut all = progress.deeds.lock().expect("the deeds");
            *all = all.and(deeds);
        }
        // Whoever tells the story does not close it.
        disk.crash();
        drop(db);
        Ok(())
    }
}

impl Step {
    /// Does a step; says whether it is durable now, and with it all before it.
    pub fn run(&self, db: &Db, durability: Durability) -> Result<bool> {
        let sync = durability == Durability::Sync;
        match self {
            Step::Change((name, number, None)) => Ok(db.table(name)?.remove(key(*number))? && sync),
            Step::Change((name, number, Some((stamp, length)))) => {
                db.table(name)?.insert(key(*number), value(*stamp, *length))?;
                Ok(sync)
            }
            Step::Batch(changes) => {
                let mut batch = Batch::new();
                for (name, number, to) in changes {
                    let table = db.table(name)?;
                    match to {
                        None => batch.remove_from(&table, key(*number))?,
                        Some((stamp, length)) => {
                            batch.insert_into(&table, key(*number), value(*stamp, *length))?;
                        }
                    }
                }
                db.write(&batch).map(|()| sync)
            }
            Step::Clear(name) => db.table(name)?.clear().map(|()| sync),
            Step::Create(name) => db.table(name).map(|_| sync),
            Step::Drop(name) => db.drop_table(name),
            Step::Checkpoint => db.checkpoint().map(|()| true),
            Step::Sync => db.sync().map(|()| true),
            Step::Compact => db.compact().map(|_| false),
            Step::Reopen => Ok(false),
        }
    }
}

/// Tells a story to a store, and takes one of `stride` images. Where the last
/// life was `killed`, none before the store is open: what it holds is not
/// durable yet.
pub fn tell(
    story: &Arc<Story>,
    image: &Image,
    random: &mut Random,
    stride: usize,
    (at, killed_before): (&str, bool),
) -> (Vec<Point>, Deeds) {
    let disk = Disk::boot(image, random.next());
    let progress = Arc::new(Progress::default());
    let points = Arc::new(Mutex::new(Vec::new()));
    let mut choices = Random::unprinted(random.next());
    let watcher = {
        let (story, progress, points) = (story.clone(), progress.clone(), points.clone());
        let at = at.to_string();
        move |moment: &Moment<'_>| {
            let Call { kind, name, .. } = moment.call;
            if kind == Kind::Rename && name.starts_with("log/0") {
                progress.deeds.lock().expect("the deeds").recycled += 1;
            }
            let too_early = killed_before && !progress.open.load(SeqCst);
            if too_early || !choices.one_in(stride as u64) {
                return;
            }
            let (seed, killed) = (choices.next(), choices.one_in(8));
            let image = if killed { moment.kill() } else { moment.power_loss(seed) };
            let allowed = story.allowed(&progress, killed);
            let name = format!(
                "{at}, step {} ({:?} {} at {}), {}, {allowed}, {:?}",
                moment.step,
                moment.call.kind,
                moment.call.name,
                moment.call.offset,
                if killed { "killed" } else { "power lost" },
                story.settings,
            );
            points.lock().expect("the points").push(Point { image, allowed, name, seed, killed });
        }
    };
    disk.watch(watcher);
    story.run(&disk, &progress).unwrap_or_else(|error| panic!("{at}: {error}"));
    let points = std::mem::take(&mut *points.lock().expect("the points"));
    (points, *progress.deeds.lock().expect("the deeds"))
}

/// Opens a store that a crash has left, or fails with what it says.
pub fn reopen(disk: &Disk, settings: &Settings) -> Db {
    open(disk, &settings.options())
}
