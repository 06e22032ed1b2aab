//! Many keys looked up at once.
//!
//! Goal: what comes is what single lookups say; it comes from the steps side by
//! side, not from the single lookups behind them; and the device is asked for
//! everything before anything is waited for. Method: both ways are compared on
//! tables of all kinds; keys that were left are counted; the file writes down
//! what it was asked.

use std::sync::atomic::Ordering;

use crate::error::Error;
use crate::format::group::{self, Probe};
use crate::format::mutate::Random;
use crate::table::layout::PageWord;

use super::batches::{Operation, prepare};
use super::harness::{Asked, Model, Setup, Store, change, get, get_many, key};

/// Compares both ways for these keys.
fn compare(store: &Store, keys: &[Vec<u8>]) -> usize {
    let (found, left) = get_many(&store.writer.table, &store.log, keys);
    for (key, found) in keys.iter().zip(found) {
        assert_eq!(found.unwrap(), store.get(key).unwrap(), "of {key:?}");
    }
    left
}

/// Short keys, all of which stand in slots, and as many that are absent.
fn plain(n: usize) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let number = |i: usize| (i as u64).to_le_bytes().to_vec();
    ((0..n).map(number).collect(), (n..2 * n).map(number).collect())
}

fn store_with(keys: &[Vec<u8>], setup: Setup) -> Store {
    let mut store = Store::new(setup);
    for key in keys {
        store.insert(key, &key[..4]).unwrap();
    }
    store
}

#[test]
fn many_lookups_agree_with_single_ones() {
    let setups = [24, 56, 128, 504].map(Setup::new);
    for setup in setups.into_iter().chain([Setup::constant(56, 0x1234_5678_9abc_def0)]) {
        let mut random = Random(setup.payload as u64);
        let (mut store, mut model) = (Store::new(setup), Model::new());
        let keys = if setup.hash_id == 255 { 90 } else { 600 };
        for round in 0..12 {
            for _ in 0..100 {
                change(&mut store, &mut model, &mut random, keys);
            }
            if round % 4 == 3 {
                store.checkpoint();
            }
            for count in [0, 1, 2, 31, 32, 33, 255, 256, 257, 700] {
                let asked: Vec<_> =
                    (0..count).map(|_| key(random.below(keys * 2), setup.payload)).collect();
                compare(&store, &asked);
            }
        }
    }
}

#[test]
fn plain_keys_need_no_single_lookup() {
    // Some 16 bits are compared before a slot is looked at, so that one key in
    // some thousands meets a slot that holds another.
    for payload in [24, 56] {
        let (there, absent) = plain(6_000);
        let store = store_with(&there, Setup::new(payload));
        assert!(compare(&store, &there) < 20);
        assert!(compare(&store, &absent) < 20);
        let mixed: Vec<_> =
            there.iter().zip(&absent).flat_map(|(a, b)| [a, b, a]).cloned().collect();
        assert!(compare(&store, &mixed) < 60);
    }
}

#[test]
fn a_key_that_stands_behind_full_groups_is_found() {
    // All of one hash: each search goes over all groups that are full.
    let setup = Setup::constant(56, 0);
    let (there, absent) = plain(100);
    let store = store_with(&there, setup);
    compare(&store, &there);
    compare(&store, &absent);
}

/// What a file was asked since the last call.
fn asked(store: &Store) -> Vec<Asked> {
    std::mem::take(&mut *store.file.asked.lock().unwrap())
}

#[test]
fn everything_unread_is_asked_for_before_it_is_waited_for() {
    let (there, _) = plain(20_000);
    let mut store = store_with(&there, Setup::new(56));
    store.checkpoint();
    let store = store.reopen();
    asked(&store);
    let wanted: Vec<_> = (0..200).map(|i| there[i * 97].clone()).collect();
    let (found, left) = get_many(&store.writer.table, &store.log, &wanted);
    assert!(found.into_iter().zip(&wanted).all(|(f, key)| f.unwrap().unwrap() == key[..4]));
    assert_eq!(left, 200, "no page had been read");
    let events = asked(&store);
    let calls = events.iter().filter(|event| matches!(event, Asked::WillNeed(_))).count();
    assert_eq!(calls, 2, "once for directory pages, once for pages");
    let mut known = Vec::new();
    let mut read = 0;
    for event in events {
        match event {
            Asked::WillNeed(blocks) => known.extend(blocks),
            Asked::Read(block) => {
                // A search that goes on behind a page comes to one not foreseen.
                read += usize::from(known.contains(&block));
            }
        }
    }
    assert!(read > 100, "only {read} blocks were asked for first");
    let all = known.len();
    known.sort_unstable();
    known.dedup();
    assert_eq!(known.len(), all, "each block is asked for once");
    // Now they were read, so that the same again costs nothing.
    assert!(get_many(&store.writer.table, &store.log, &wanted).1 < 5);
    assert_eq!(asked(&store), []);
}

#[test]
fn windows_ask_for_all_pages_while_the_device_is_waited_for_and_then_no_more() {
    let (there, _) = plain(3_000);
    let mut store = store_with(&there, Setup::new(56));
    store.checkpoint();
    let store = store.reopen();
    compare(&store, &there);
    asked(&store);
    let table = &store.writer.table;
    // As if a window had waited. Busy machines make memory look slow, too.
    table.asking.set(1);
    compare(&store, &there[..100]);
    let events = asked(&store);
    let blocks = match &events[..] {
        [Asked::WillNeed(blocks)] => blocks.clone(),
        other => panic!("{other:?}"),
    };
    for key in &there[..100] {
        let hash = store.writer.hash(key);
        let word = table.route(hash).unwrap();
        let home = crate::format::group::home(hash, word.groups.into());
        let page = table.descriptor(word.descriptor).page(table.geometry.page_of(home).0);
        assert!(!page.is_frame() && blocks.contains(&page.number().into()));
    }
    while table.asking.is_asking() {
        compare(&store, &there[..100]);
    }
    asked(&store);
    assert!(compare(&store, &there[..100]) < 5 || table.asking.is_asking());
}

#[test]
fn frames_are_never_asked_for() {
    let (there, _) = plain(3_000);
    let store = store_with(&there, Setup::new(56));
    store.writer.table.asking.set(1);
    assert!(compare(&store, &there[..200]) < 5);
    assert_eq!(asked(&store), []);
}

/// A glance once took a group whose page nobody had read for one without empty
/// slots, went on behind it, and said that the key is absent.
#[test]
fn a_search_does_not_pass_over_a_page_that_nobody_has_read() {
    let (there, _) = plain(30_000);
    let mut store = store_with(&there, Setup::new(56));
    // Keys whose home group is full, has an entry with the same seven bits, and
    // lies on another page than the group behind it.
    let goes_on = |key: &&Vec<u8>| {
        let (writer, table) = (&store.writer, &store.writer.table);
        let hash = writer.hash(key);
        let word = table.route(hash).unwrap();
        let mut way = Probe::new(hash, word.groups.into()).map(|at| table.geometry.page_of(at));
        let ((page, home), (next, _)) = (way.next().unwrap(), way.next().unwrap());
        let words = writer.read_page(table.descriptor(word.descriptor), page).unwrap();
        let control = table.group(words, home)[group::CONTROL].load(Ordering::Relaxed);
        let matching = group::match_h2(control, group::h2(hash));
        page != next && !group::match_empty(control).any() && matching.count() > 0
    };
    let candidates: Vec<_> = there.iter().filter(goes_on).collect();
    store.checkpoint();
    let reopened = store.reopen();
    let table = &reopened.writer.table;
    let mut went_on = 0;
    for key in candidates {
        let hash = reopened.writer.hash(key);
        let word = table.route(hash).unwrap();
        let descriptor = table.descriptor(word.descriptor);
        let mut pages = Probe::new(hash, word.groups.into()).map(|at| table.geometry.page_of(at).0);
        reopened.writer.read_page(descriptor, pages.next().unwrap()).unwrap();
        let next = pages.next().unwrap();
        let unread = descriptor.page(next).is_unverified();
        let found = get(table, &reopened.log, key).unwrap();
        assert_eq!(found.as_deref(), Some(&key[..4]));
        went_on += usize::from(unread && !descriptor.page(next).is_unverified());
    }
    assert!(went_on > 0, "no search went on behind a full group");
}

#[test]
fn damage_is_told_for_the_keys_of_the_page_and_no_others() {
    let (there, _) = plain(5_000);
    let mut store = store_with(&there, Setup::new(56));
    store.checkpoint();
    let pages = |store: &Store, key: &[u8]| {
        let table = &store.writer.table;
        let word = table.route(store.writer.hash(key)).unwrap();
        let descriptor = table.descriptor(word.descriptor);
        let home = crate::format::group::home(store.writer.hash(key), word.groups.into());
        descriptor.page(table.geometry.page_of(home).0)
    };
    let reopened = store.reopen();
    let block = PageWord::number(pages(&reopened, &there[7]));
    reopened.flip(block, 700);
    let (found, _) = get_many(&reopened.writer.table, &reopened.log, &there);
    let damaged = found.iter().filter(|found| matches!(found, Err(Error::Corrupt(_)))).count();
    let whole = found.iter().zip(&there).filter(|(found, key)| {
        found.as_ref().is_ok_and(|value| value.as_deref() == Some(&key[..4]))
    });
    assert!(matches!(found[7], Err(Error::Corrupt(_))));
    assert!((1..=70).contains(&damaged), "{damaged} keys of one page");
    assert_eq!(damaged + whole.count(), 5_000);
}

#[test]
fn a_batch_asks_for_what_it_touches_before_it_waits() {
    let (there, _) = plain(20_000);
    let mut store = store_with(&there, Setup::new(56));
    store.checkpoint();
    let mut store = store.reopen();
    asked(&store);
    let wanted: Vec<_> = (0..20).map(|i| &there[i * 997]).collect();
    let batch: Vec<Operation> = wanted.iter().map(|key| (key.to_vec(), Some(vec![1]))).collect();
    prepare(&mut store, &batch).unwrap();
    let mut known = Vec::new();
    for event in asked(&store) {
        match event {
            Asked::WillNeed(blocks) => known.extend(blocks),
            Asked::Read(block) => {
                assert!(known.contains(&block), "block {block} was waited for unasked");
            }
        }
    }
    assert!(!known.is_empty());
}

/// Found by crafted pages, whose numbers were counted on beyond the last one.
#[test]
fn blocks_that_no_file_can_have_are_asked_for_without_harm() {
    let store = store_with(&plain(10).0, Setup::new(56));
    asked(&store);
    store.writer.table.ask_for_blocks(vec![u32::MAX, 7, u32::MAX - 1, 8]);
    let last = u64::from(u32::MAX);
    assert_eq!(asked(&store), [Asked::WillNeed(vec![7, 8, last - 1, last])]);
}

/// An iteration in a forked child went on behind its first error, and waited for
/// a lock that a thread of the parent had held.
#[test]
fn the_child_of_a_fork_waits_for_no_lock() {
    let mut store = store_with(&plain(10).0, Setup::new(56));
    store.checkpoint();
    let store = store.reopen();
    let table = store.writer.table.clone();
    let held = table.structure();
    store.ws.epoch.end();
    assert!(matches!(table.try_route(0), Err(Error::Closed { .. })));
    assert_eq!(table.next_segment_after(0), None);
    drop(held);
}

#[test]
fn many_lookups_in_the_child_of_a_fork_are_refused() {
    let (there, _) = plain(10);
    let store = store_with(&there, Setup::new(56));
    store.ws.epoch.end();
    let outcome = store.writer.table.lookup_many::<7, _>(&there, |_, _| panic!("no answer"));
    assert!(matches!(outcome, Err(Error::Closed { .. })));
}
