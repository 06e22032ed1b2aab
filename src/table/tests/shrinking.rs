//! Passes of tidying: what they leave, and what a step costs.
//!
//! Goal: after a pass nothing is left to do, whatever the table was like; a
//! step keeps its bounds; a table that lost its entries loses its segments,
//! its directory pages and its root's bits. Method: tables are filled and
//! thinned out at random, and each segment is held against the rule of its
//! sizing, computed here once more.

use crate::error::Result;
use crate::format::mutate::Random;
use crate::table::Totals;
use crate::table::layout::RootWord;
use crate::table::scan::next_segment;
use crate::table::shrink::Sizing::{self, Dense, Roomy};

use super::entries::PAYLOADS;
use super::harness::{Model, Setup, Store, fill, key};

impl Store {
    /// A step at each segment, each held against its bounds, with something
    /// done after each. Returns how many pages became dirty.
    pub(super) fn tidy_with(
        &mut self,
        sizing: Sizing,
        below: Option<u32>,
        between: &mut dyn FnMut(&mut Store),
    ) -> Result<usize> {
        let (mut pages, mut steps, mut next) = (0, 0, Some(0));
        while let Some(from) = next {
            let before = self.writer.totals;
            let tidied = self.writer.tidy(&mut self.ws, from, sizing, below)?;
            let slots = self.writer.table.geometry.slots_per_page() as u64;
            let gone = (before.slots - self.writer.totals.slots) / slots;
            assert!(tidied.pages <= 17, "{} pages became dirty in one step", tidied.pages);
            if self.writer.totals != before {
                let read = gone + tidied.pages as u64;
                assert!(read <= 32, "{read} pages were read in one step");
            }
            assert!(tidied.next.is_none_or(|next| next > from || self.starts_at(next)));
            (pages, next) = (pages + tidied.pages, tidied.next);
            steps += 1;
            assert!(steps < 100_000, "the pass does not end");
            between(self);
        }
        Ok(pages)
    }

    pub(super) fn tidy(&mut self, sizing: Sizing) -> usize {
        self.tidy_with(sizing, None, &mut |_| ()).unwrap()
    }

    /// Whether a segment begins at a hash.
    fn starts_at(&self, hash: u64) -> bool {
        self.writer.segment_at(hash).is_ok_and(|segment| u64::from(segment.prefix) << 32 == hash)
    }

    /// Prefix, depth, entries and pages of each segment.
    pub(super) fn segments(&self) -> Vec<(u32, u8, usize, usize)> {
        let (mut segments, mut next) = (Vec::new(), Some(0));
        while let Some(hash) = next {
            let segment = self.writer.segment_at(hash).unwrap();
            segments.push((segment.prefix, segment.depth, segment.used.into(), segment.pages));
            next = next_segment(hash, segment.depth);
        }
        segments
    }

    /// Prefix, depth, segments and their bytes of each directory page.
    fn directory(&self) -> Vec<(u32, u8, usize, usize)> {
        let table = &self.writer.table;
        let (mut pages, mut next) = (Vec::new(), Some(0));
        while let Some(hash) = next {
            let word = table.loaded_root_word(hash).unwrap();
            let record = table.record_of(word.array);
            let leaves = table.leaves(record);
            // The array is as long as it has to be, and no longer.
            let deepest = leaves.iter().map(|leaf| leaf.depth).max().unwrap();
            assert_eq!(deepest - word.depth, word.bits);
            let bytes = leaves.iter().map(|leaf| 8 + 8 * usize::from(leaf.pages)).sum();
            pages.push((record.prefix(), word.depth, leaves.len(), bytes));
            next = next_segment(hash, word.depth);
        }
        pages
    }

    /// Fails if a pass of this sizing had something left to do.
    fn assert_tidy(&self, sizing: Sizing) {
        let slots = self.writer.table.geometry.slots_per_page();
        let needed = |used: usize| match sizing {
            Roomy => (used * 29).div_ceil(20 * slots).max(1),
            Dense => used.div_ceil(slots / 8 * 7).max(1),
        };
        let segments = self.segments();
        for (prefix, depth, used, pages) in &segments {
            let large = sizing == Dense || used * 2 < pages * slots;
            let name = format!("{prefix:08x}/{depth} of {used} entries in {pages} pages");
            assert!(!large || needed(*used) >= *pages, "{name} could be smaller");
            if sizing == Dense {
                assert_eq!(needed(*used), *pages, "{name}");
                assert!(used * 8 * pages > 7 * pages * slots * (pages - 1) || *pages == 1);
            }
        }
        for pair in segments.windows(2) {
            let ((a, depth, x, p), (b, other, y, q)) = (pair[0], pair[1]);
            let siblings = depth > 0 && depth == other && a ^ b == 1 << (32 - u32::from(depth));
            let most = if sizing == Dense { 16 } else { 8 };
            let fits = needed(x + y) <= most && needed(x + y) <= p + q;
            assert!(!siblings || !fits, "{a:08x}/{depth} and its sibling could be one");
        }
        let directory = self.directory();
        for pair in directory.windows(2) {
            let ((a, depth, _, x), (b, other, _, y)) = (pair[0], pair[1]);
            let siblings = depth > 0 && depth == other && a ^ b == 1 << (32 - u32::from(depth));
            let most = if sizing == Dense { 4064 / 10 * 9 } else { 4064 / 2 };
            assert!(!siblings || x + y > most, "page {a:08x}/{depth} and its sibling could be one");
        }
        let deepest = directory.iter().map(|page| page.1).max().unwrap();
        assert_eq!(deepest, self.writer.table.root().1, "the root could be halved");
    }
}

/// Removes each entry with a probability of so many in a hundred.
pub(super) fn thin_out(store: &mut Store, model: &mut Model, random: &mut Random, share: usize) {
    let mut keys: Vec<_> = model.keys().cloned().collect();
    keys.sort_unstable();
    for key in keys {
        if random.below(100) < share {
            assert!(store.remove(&key).unwrap());
            model.remove(&key);
        }
    }
}

#[test]
fn a_pass_leaves_nothing_to_do() {
    for payload in PAYLOADS {
        for sizing in [Roomy, Dense] {
            let mut random = Random(payload as u64 + 11);
            let mut store = Store::new(Setup::new(payload));
            let mut model = Model::new();
            fill(&mut store, &mut model, if payload == 504 { 6000 } else { 5000 });
            for share in [0, 30, 60, 80, 95, 100] {
                thin_out(&mut store, &mut model, &mut random, share);
                let before = store.writer.totals.slots;
                let pages = store.tidy(sizing);
                store.assert_tidy(sizing);
                store.check(&model);
                assert!(store.writer.totals.slots <= before);
                assert!(pages > 0 || share < 80 || before == store.writer.totals.slots);
                let totals = store.writer.totals;
                assert_eq!(store.tidy(sizing), 0, "a second pass finds something to do");
                assert_eq!(store.writer.totals, totals);
                if share == 60 {
                    store.checkpoint();
                    store = store.reopen();
                }
            }
        }
    }
}

#[test]
fn a_table_that_was_emptied_is_one_page_again() {
    for payload in PAYLOADS {
        for sizing in [Roomy, Dense] {
            let mut store = Store::new(Setup::new(payload));
            let mut model = Model::new();
            let entries = if payload == 504 { 12_000 } else { 4000 };
            fill(&mut store, &mut model, entries);
            assert!(payload != 504 || store.writer.table.root().1 > 2);
            thin_out(&mut store, &mut model, &mut Random(1), 100);
            store.tidy(sizing);
            let slots = store.writer.table.geometry.slots_per_page() as u64;
            assert_eq!(store.writer.totals, Totals { slots, segments: 1, ..Totals::default() });
            assert_eq!((store.directory().len(), store.writer.table.root().1), (1, 0));
            store.check(&model);
            store.checkpoint();
            store.check(&model);
            let reopened = store.reopen();
            reopened.check(&model);
            fill(&mut store, &mut model, entries);
            store.check(&model);
        }
    }
}

#[test]
fn what_has_room_to_grow_is_left_alone_until_it_is_sparse() {
    for payload in PAYLOADS {
        let mut store = Store::new(Setup::new(payload));
        let mut model = Model::new();
        for n in [500, 1500, 2500] {
            fill(&mut store, &mut model, n);
            assert_eq!(store.tidy(Roomy), 0, "payload {payload}, {n} entries");
            assert!(!store.writer.is_sparse());
        }
        // And what a dense pass has packed is not given room by a roomy one.
        store.tidy(Dense);
        assert_eq!(store.tidy(Roomy), 0, "payload {payload}");
    }
}

#[test]
fn a_table_says_when_it_is_sparse_and_not_again_before_it_changed() {
    let mut store = Store::new(Setup::new(56));
    let mut model = Model::new();
    fill(&mut store, &mut model, 4000);
    assert!(!store.writer.is_sparse());
    let mut keys: Vec<_> = model.keys().cloned().collect();
    while store.writer.totals.used * 8 >= store.writer.totals.slots * 3 {
        store.remove(&keys.pop().unwrap()).unwrap();
    }
    assert!(store.writer.is_sparse());
    // A pass over a table that has nothing to give, as far as it knows.
    store.writer.tidied(store.writer.totals.used);
    assert!(!store.writer.is_sparse());
    let before = store.writer.totals.used;
    while store.writer.totals.used >= before / 2 {
        assert!(!store.writer.is_sparse());
        store.remove(&keys.pop().unwrap()).unwrap();
    }
    assert!(store.writer.is_sparse());
    store.tidy(Roomy);
    store.writer.tidied(store.writer.totals.used);
    assert!(!store.writer.is_sparse());
    // Twice as many and more: then what was known before counts no longer.
    fill(&mut store, &mut Model::new(), 8000);
    let mut i = 8000;
    while store.writer.totals.used * 8 >= store.writer.totals.slots * 3 {
        i -= 1;
        store.remove(&key(i, 56)).unwrap();
    }
    assert!(store.writer.is_sparse());
}

#[test]
fn the_root_is_halved_over_directory_pages_that_are_not_loaded() {
    let mut store = Store::new(Setup::new(504));
    let mut model = Model::new();
    fill(&mut store, &mut model, 12_000);
    let depth = store.writer.table.root().1;
    thin_out(&mut store, &mut model, &mut Random(7), 80);
    // A pass that is broken off before its end does not halve the root.
    let mut next = Some(0);
    while let Some(from) = next {
        let last = store.directory().iter().all(|page| page.1 < depth);
        next = if last {
            None
        } else {
            store.writer.tidy(&mut store.ws, from, Roomy, None).unwrap().next
        };
    }
    assert_eq!(store.writer.table.root().1, depth);
    store.checkpoint();
    let mut store = store.reopen();
    let end = u64::MAX;
    while store.writer.tidy(&mut store.ws, end, Roomy, None).unwrap().next.is_some() {}
    let (line, halved) = store.writer.table.root();
    assert!(halved < depth);
    let unloaded = (0..1 << halved).filter(|i| {
        let word = store.writer.table.root_words(line, halved, *i).0;
        RootWord::decode(word.load(std::sync::atomic::Ordering::Relaxed)).is_none()
    });
    assert!(unloaded.count() > 0, "all directory pages were loaded");
    store.check(&model);
    store.checkpoint();
    store.reopen().check(&model);
}

#[test]
fn the_root_is_not_halved_under_a_page_that_is_not_loaded_and_as_deep() {
    let mut store = Store::new(Setup::new(504));
    let mut model = Model::new();
    fill(&mut store, &mut model, 12_000);
    let depth = store.writer.table.root().1;
    // The upper half of the hashes loses its entries, the lower one nothing.
    let keys: Vec<_> =
        model.keys().filter(|key| store.writer.hash(key) >> 63 == 1).cloned().collect();
    for key in keys {
        store.remove(&key).unwrap();
        model.remove(&key);
    }
    let mut next = Some(1 << 63);
    while let Some(from) = next {
        next = store.writer.tidy(&mut store.ws, from, Roomy, None).unwrap().next;
    }
    assert_eq!(store.directory().last().unwrap().1, 1);
    assert_eq!(store.writer.table.root().1, depth);
    store.checkpoint();
    let mut store = store.reopen();
    assert!(!store.writer.table.halve_root().unwrap(), "nothing is loaded");
    while store.writer.tidy(&mut store.ws, u64::MAX, Roomy, None).unwrap().next.is_some() {}
    assert_eq!(store.writer.table.root().1, depth);
    store.check(&model);
}

#[test]
fn segments_of_equal_hashes_are_merged_from_every_depth() {
    for hash in [0, u64::MAX, 0xA5A5_A5A5_A5A5_A5A5] {
        let mut store = Store::new(Setup::constant(56, hash));
        for i in 0..890u32 {
            store.insert(&i.to_le_bytes(), b"v").unwrap();
        }
        assert!(store.writer.totals.segments > 20);
        for i in 10..890u32 {
            store.remove(&i.to_le_bytes()).unwrap();
        }
        store.tidy(Roomy);
        assert_eq!((store.writer.totals.segments, store.writer.table.root().1), (1, 0));
        let model = (0..10u32).map(|i| (i.to_le_bytes().to_vec(), b"v".to_vec())).collect();
        store.check(&model);
    }
}

#[test]
fn a_full_device_that_was_emptied_takes_inserts_again() {
    for payload in [56, 504] {
        let mut random = Random(payload as u64);
        let mut store = Store::new(Setup::new(payload));
        let mut model = Model::new();
        fill(&mut store, &mut model, 3000);
        store.checkpoint();
        store.set_full(true);
        let mut next = 3000;
        while store.insert(&key(next, payload), b"more").is_ok() {
            model.insert(key(next, payload), b"more".to_vec());
            next += 1;
        }
        let mut keys: Vec<_> = model.keys().cloned().collect();
        while let Some(key) = keys.pop() {
            while store.remove(&key).is_err() {
                store.try_checkpoint_with(&mut |_| ()).unwrap();
            }
        }
        // What one pass cannot do for want of blocks, the next one can.
        let mut passes = 0;
        while store.writer.totals.segments > 1 {
            if let Err(error) = store.tidy_with(Roomy, None, &mut |_| ()) {
                assert!(error.is_full(), "{error}");
            }
            store.try_checkpoint_with(&mut |_| ()).unwrap();
            passes += 1;
            assert!(passes < 20, "{:?}", store.writer.totals);
        }
        store.check(&Model::new());
        model.clear();
        for i in 0..2000 {
            let key = key(random.below(1 << 20), payload);
            store.insert(&key, b"again").unwrap_or_else(|error| panic!("entry {i}: {error}"));
            model.insert(key, b"again".to_vec());
        }
        store.check(&model);
    }
}
