//! Whole lives of tables, at random.
//!
//! Goal: what no other test thought of. Method: from a seed, a long sequence of
//! everything that can happen to a table: changes, steps of tidying and of
//! counting live bytes anew, checkpoints that end well or do not, with all that
//! amid them, clears, a device that is full for a while, space given back,
//! crashes and closings. After an error nothing may have changed; everything
//! else is checked again and again. A failing seed can be run alone.

use crate::error::Error;
use crate::format::mutate::Random;

use crate::table::shrink::Sizing;

use super::harness::{Model, Setup, Store, key, value};

struct Life {
    store: Store,
    model: Model,
    /// What the last header says.
    durable: Model,
    random: Random,
    full: bool,
    keys: usize,
    refused: usize,
}

/// A step of tidying somewhere.
fn tidy(store: &mut Store, random: &mut Random) -> crate::error::Result<()> {
    let from = (random.below(1 << 32) as u64) << 32;
    let sizing = [Sizing::Roomy, Sizing::Dense][random.below(2)];
    let total = store.writer.blocks.total() as usize;
    let below = [None, Some(random.below(total) as u32)][random.below(2)];
    store.writer.tidy(&mut store.ws, from, sizing, below).map(drop)
}

/// A change that may fail for want of room, and then is none.
fn change(store: &mut Store, model: &mut Model, random: &mut Random, keys: usize) -> bool {
    let key = key(random.below(keys), store.setup.payload);
    let outcome = if random.below(20) == 0 {
        tidy(store, random)
    } else if random.below(20) == 0 {
        if random.below(20) == 0 {
            store.writer.begin_recount();
        }
        store.writer.recount_some(1 + random.below(4)).map(drop)
    } else if random.below(5) < 3 {
        let value = value(random, store.setup.payload);
        store.insert(&key, &value).map(|()| drop(model.insert(key, value)))
    } else {
        store.remove(&key).map(|was| assert_eq!(was, model.remove(&key).is_some()))
    };
    match outcome {
        Ok(()) => true,
        Err(Error::BatchTooLarge { .. }) => false,
        Err(error) if error.is_full() => false,
        Err(error) => panic!("{error}"),
    }
}

impl Life {
    fn new(seed: u64, setup: Setup) -> Life {
        let (store, random) = (Store::new(setup), Random(seed | 1 << 40));
        let keys = 2000;
        Life {
            store,
            random,
            keys,
            model: Model::new(),
            durable: Model::new(),
            full: false,
            refused: 0,
        }
    }

    fn changes(&mut self, n: usize) {
        for _ in 0..n {
            if !change(&mut self.store, &mut self.model, &mut self.random, self.keys) {
                self.refused += 1;
            }
        }
    }

    fn checkpoint(&mut self, n: usize) {
        let frozen = self.model.clone();
        let Life { store, model, random, keys, .. } = self;
        let outcome = store.try_checkpoint_with(&mut |store| {
            for _ in 0..n {
                change(store, model, random, *keys);
            }
        });
        match outcome {
            Ok(()) => self.durable = frozen,
            Err(error) => assert!(error.is_full() && self.full, "{error}"),
        }
    }

    fn failing_checkpoint(&mut self, steps: usize, n: usize) {
        let Life { store, model, random, keys, .. } = self;
        let mut work = |store: &mut Store| {
            for _ in 0..n {
                change(store, model, random, *keys);
            }
        };
        let mut at = store.begin();
        work(store);
        let mut more = true;
        for _ in 0..steps {
            more = more && store.step(&at, &mut work);
            work(store);
        }
        if !more && store.write_root(&mut at).is_ok() {
            work(store);
        }
        store.give_up(at);
    }

    fn clear(&mut self) {
        let key = [self.random.below(1 << 30) as u64, 7];
        match self.store.writer.clear(&mut self.store.ws, key) {
            Ok(()) => self.model.clear(),
            Err(Error::BatchTooLarge { .. }) => {}
            Err(error) => assert!(error.is_full() && self.full, "{error}"),
        }
    }

    /// A pass over the whole table, as far as there is room for it.
    fn tidy(&mut self, n: usize) {
        let Life { store, model, random, keys, .. } = self;
        let sizing = [Sizing::Roomy, Sizing::Dense][random.below(2)];
        let below = [None, Some(random.below(400) as u32)][random.below(2)];
        let outcome = store.tidy_with(sizing, below, &mut |store| {
            for _ in 0..n / 4 {
                change(store, model, random, *keys);
            }
        });
        match outcome {
            Ok(_) | Err(Error::BatchTooLarge { .. }) => {}
            Err(error) => assert!(error.is_full() && self.full, "{error}"),
        }
    }

    /// Most entries go.
    fn thin_out(&mut self) {
        let mut keys: Vec<_> = self.model.keys().cloned().collect();
        keys.sort_unstable();
        for key in keys {
            if self.random.below(10) > 0 && self.store.remove(&key).is_ok() {
                self.model.remove(&key);
            }
        }
    }

    fn give_back(&mut self) {
        let enough = [0, 1, 30][self.random.below(3)];
        let Store { writer, ws, .. } = &mut self.store;
        writer.blocks.give_back_tail(&ws.epoch, enough).unwrap();
    }

    fn close(&mut self) {
        self.store.set_full(false);
        self.full = false;
        self.store.close();
        self.durable = self.model.clone();
        self.crash();
    }

    fn crash(&mut self) {
        if self.store.header.is_some() {
            self.store = self.store.reopen();
            self.model = self.durable.clone();
            self.full = false;
        }
    }

    fn step(&mut self) {
        let n = [0, 1, 3, 20][self.random.below(4)];
        match self.random.below(50) {
            0..20 => {
                let burst = 1 + self.random.below(100);
                self.changes(burst);
            }
            20..28 => self.checkpoint(n),
            28..32 => {
                let steps = [0, 1, 2, 5, 1000][self.random.below(5)];
                self.failing_checkpoint(steps, n);
            }
            32 => self.clear(),
            33..35 => {
                self.full = !self.full;
                self.store.set_full(self.full);
            }
            35 => self.crash(),
            36 => self.keys = 100 + self.random.below(5000),
            37..41 => self.tidy(n),
            41 | 42 => self.thin_out(),
            43 | 44 => self.give_back(),
            45 => self.close(),
            _ => self.store.check(&self.model),
        }
    }
}

fn live(seed: u64, setup: Setup, steps: usize) {
    let payload = setup.payload;
    let told = Told(seed, payload);
    let mut life = Life::new(seed, setup);
    for _ in 0..steps {
        life.step();
    }
    life.store.set_full(false);
    life.store.check(&life.model);
    life.full = false;
    life.checkpoint(0);
    life.store.check(&life.model);
    life.store.reopen().check(&life.model);
    std::mem::forget(told);
}

/// Says which life it was that failed.
struct Told(u64, usize);

impl Drop for Told {
    fn drop(&mut self) {
        eprintln!("the life of seed {} with a payload of {} failed", self.0, self.1);
    }
}

#[test]
fn tables_live_through_anything() {
    for seed in 0..3 {
        for payload in [24, 56, 128, 504] {
            live(seed, Setup::new(payload), 50);
            let frames = 60 + payload / 2;
            live(seed, Setup::new(payload).pool(frames, frames / 3), 50);
        }
    }
}
