//! Several states frozen at once, one behind the other.
//!
//! Goal: each of them is written exactly as it was when it was frozen, whatever
//! was changed, split, merged or frozen after it, and whether or not a state
//! before it was written by then; no block is lost, owned twice, or reused as
//! long as a header reaches it; and what fails, fails for all of them and
//! loses nothing. Method: lives of tables at random, in which states are frozen
//! at any step of a checkpoint. The file is opened anew after each of them, and
//! again before the next header. A failing seed can be run alone.

use std::collections::VecDeque;

use crate::error::Error;
use crate::format::mutate::Random;
use crate::table::shrink::Sizing;

use super::checkpoint::Checkpoint;
use super::harness::{Model, Setup, Store, key, value};

/// States that are frozen at most, the one that is written included.
const MOST: usize = 5;

/// A table, and what it was whenever it was frozen.
struct Queue {
    store: Store,
    live: Live,
    durable: Option<Model>,
}

/// What is known of the table, apart from it.
struct Live {
    model: Model,
    random: Random,
    keys: usize,
    /// The states that wait.
    frozen: VecDeque<(Checkpoint, Model)>,
    /// Whether one before them is being written.
    writing: bool,
    /// Nothing is frozen any more: those that wait are the last.
    over: bool,
    /// How often a state was frozen behind so many others.
    behind: [usize; MOST],
}

impl Live {
    fn change(&mut self, store: &mut Store) {
        let Live { model, random, keys, .. } = self;
        let key = key(random.below(*keys), store.setup.payload);
        let outcome = match random.below(30) {
            0 => {
                let from = (random.below(1 << 32) as u64) << 32;
                let sizing = [Sizing::Roomy, Sizing::Dense][random.below(2)];
                store.writer.tidy(&mut store.ws, from, sizing, None).map(drop)
            }
            1..20 => {
                let value = value(random, store.setup.payload);
                store.insert(&key, &value).map(|()| drop(model.insert(key, value)))
            }
            _ => store.remove(&key).map(|was| assert_eq!(was, model.remove(&key).is_some())),
        };
        match outcome {
            // All frames are dirty: the change was refused.
            Ok(()) | Err(Error::BatchTooLarge { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn freeze(&mut self, store: &mut Store) {
        let before = self.frozen.len() + usize::from(self.writing);
        if before < MOST && !self.over {
            self.behind[before] += 1;
            let at = store.begin();
            self.frozen.push_back((at, self.model.clone()));
        }
    }

    /// What others do between two steps: perhaps a new state is frozen.
    fn between(&mut self, store: &mut Store) {
        let n = [0, 0, 0, 0, 1, 3, 20][self.random.below(7)];
        for _ in 0..n {
            self.change(store);
        }
        if self.random.below(12) == 0 {
            self.freeze(store);
        }
    }

    /// Many entries come, or most go.
    fn swing(&mut self, store: &mut Store) {
        let mut keys: Vec<_> = self.model.keys().cloned().collect();
        keys.sort_unstable();
        if keys.len() < self.keys / 2 {
            self.keys += 500;
            for i in 0..self.keys {
                let (key, value) = (key(i, store.setup.payload), b"many".to_vec());
                if store.insert(&key, &value).is_ok() {
                    self.model.insert(key, value);
                }
            }
            return;
        }
        for key in keys {
            if self.random.below(10) > 0 && store.remove(&key).is_ok() {
                self.model.remove(&key);
            }
        }
    }
}

impl Queue {
    fn new(seed: u64, setup: Setup) -> Queue {
        let live = Live {
            model: Model::new(),
            random: Random(seed | 1 << 41),
            keys: 1000,
            frozen: VecDeque::new(),
            writing: false,
            over: false,
            behind: [0; MOST],
        };
        Queue { store: Store::new(setup), live, durable: None }
    }

    /// The first of the states that are frozen is written, and is durable then.
    fn write_first(&mut self) {
        let Queue { store, live, durable } = self;
        let Some((mut at, model)) = live.frozen.pop_front() else {
            return;
        };
        live.writing = true;
        while store.step(&at, &mut |store| live.between(store)) {
            live.between(store);
        }
        store.write_root(&mut at).unwrap();
        live.between(store);
        if let Some(durable) = durable {
            // Nothing that the last header reaches was written over.
            store.reopen().check(durable);
        }
        store.finish(at, &mut |store| live.between(store));
        live.writing = false;
        store.reopen().check(&model);
        *durable = Some(model);
        live.between(store);
    }

    /// Some of the first state is written, and that fails. All of them fail.
    fn fail(&mut self) {
        let Queue { store, live, durable } = self;
        let Some((mut at, _)) = live.frozen.pop_front() else {
            return;
        };
        live.writing = true;
        let mut more = true;
        for _ in 0..[0, 1, 4, 1000][live.random.below(4)] {
            more = more && store.step(&at, &mut |store| live.between(store));
        }
        if !more {
            store.write_root(&mut at).unwrap();
            live.between(store);
        }
        store.give_up(at);
        live.frozen.clear();
        live.writing = false;
        store.check(&live.model);
        if let Some(durable) = durable {
            store.reopen().check(durable);
        }
    }

    fn step(&mut self) {
        match self.live.random.below(20) {
            0..6 => (0..30).for_each(|_| self.live.change(&mut self.store)),
            6..11 => self.live.freeze(&mut self.store),
            11..16 => self.write_first(),
            16 => self.fail(),
            17 => self.live.swing(&mut self.store),
            18 if self.live.frozen.is_empty() => {
                let key = [self.live.random.below(1 << 30) as u64, 9];
                if self.store.writer.clear(&mut self.store.ws, key).is_ok() {
                    self.live.model.clear();
                }
            }
            _ => self.store.check(&self.live.model),
        }
    }
}

fn live(seed: u64, setup: Setup, steps: usize, behind: &mut [usize; MOST]) {
    let payload = setup.payload;
    eprintln!("the life of seed {seed} with a payload of {payload}");
    let mut queue = Queue::new(seed, setup);
    for _ in 0..steps {
        queue.step();
    }
    queue.live.over = true;
    while !queue.live.frozen.is_empty() {
        queue.write_first();
    }
    // Blocks and what is reserved are counted now: nothing is frozen.
    queue.store.check(&queue.live.model);
    queue.store.checkpoint();
    queue.store.check(&queue.live.model);
    queue.store.reopen().check(&queue.live.model);
    for (sum, times) in behind.iter_mut().zip(queue.live.behind) {
        *sum += times;
    }
}

#[test]
fn states_that_wait_for_others_are_written_as_they_were() {
    let mut behind = [0; MOST];
    for seed in 0..3 {
        for payload in [24, 56, 504] {
            live(seed, Setup::new(payload), 30, &mut behind);
        }
        let frames = 400;
        live(seed, Setup::new(128).pool(frames, frames / 3), 30, &mut behind);
    }
    assert!(behind.iter().all(|times| *times > 0), "frozen behind so many others: {behind:?}");
}

#[test]
fn a_page_is_written_once_however_many_states_see_it() {
    let mut store = Store::new(Setup::new(56));
    let mut model = Model::new();
    super::harness::fill(&mut store, &mut model, 3000);
    let first = store.begin();
    let second = store.begin();
    // Everything is replaced, before anything was captured for either.
    super::harness::fill(&mut store, &mut model, 3000);
    let (mut pages, mut written) = ([0, 0], [first, second].into_iter());
    for pages in &mut pages {
        let mut at = written.next().unwrap();
        while store.step(&at, &mut |_| ()) {
            *pages += 1;
        }
        store.write_root(&mut at).unwrap();
        store.finish(at, &mut |_| ());
        assert_eq!(store.reopen().writer.table.len(), 3000);
    }
    assert!(pages[0] > 0 && pages[1] == 0, "{pages:?} directory pages were written");
    store.check(&model);
}
