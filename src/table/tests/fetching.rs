//! Pages that a writer comes to before anybody has read them.
//!
//! Goal: such a page is read once, by a call, checked, and stands in a frame
//! afterwards, whose block is let go when it is changed, not before; what is only
//! looked at may be given up again. Method: a table is opened anew, and the page words,
//! the pool and what the file was asked are looked at after single changes;
//! checkpoints and the harness find blocks that are lost or owned twice.

use crate::table::fetch::Fetched;
use crate::table::frames::State;
use crate::table::layout::PageWord;

use super::harness::{Asked, Model, Setup, Store, change, fill};
use crate::format::mutate::Random;

fn opened(setup: Setup, entries: usize) -> (Store, Model) {
    let (mut store, mut model) = (Store::new(setup), Model::new());
    fill(&mut store, &mut model, entries);
    store.checkpoint();
    (store.reopen(), model)
}

/// The word of the page where the search for a key begins.
fn home(store: &Store, key: &[u8]) -> PageWord {
    let (table, hash) = (&store.writer.table, store.writer.hash(key));
    let word = table.route(hash).unwrap();
    let group = crate::format::group::home(hash, word.groups.into());
    table.descriptor(word.descriptor).page(table.geometry.page_of(group).0)
}

/// How often each block was read since the last call.
fn reads(store: &Store) -> Vec<u64> {
    let asked = std::mem::take(&mut *store.file.asked.lock().unwrap());
    asked
        .iter()
        .filter_map(|a| if let Asked::Read(block) = a { Some(*block) } else { None })
        .collect()
}

#[test]
fn a_page_that_a_writer_comes_to_first_is_read_once_and_stands_in_a_frame() {
    let (mut store, mut model) = opened(Setup::new(56), 3000);
    let keys: Vec<Vec<u8>> = model.keys().take(200).cloned().collect();
    let mut fetched = 0;
    for key in keys {
        let before = home(&store, &key);
        reads(&store);
        if before.is_unverified() {
            store.insert(&key, b"new").unwrap();
            let (read, block) = (reads(&store), u64::from(before.number()));
            assert_eq!(read.iter().filter(|read| **read == block).count(), 1);
            let word = home(&store, &key);
            assert!(word.is_frame());
            assert_ne!(store.ws.pool.info(word.number()).state, State::Free);
            fetched += 1;
        } else {
            store.insert(&key, b"new").unwrap();
        }
        assert_eq!(store.get(&key).unwrap().as_deref(), Some(&b"new"[..]));
        model.insert(key, b"new".to_vec());
    }
    assert!(fetched > 20, "{fetched}");
    store.check(&model);
    store.checkpoint();
    store.reopen().check(&model);
}

#[test]
fn what_was_only_looked_at_stands_in_a_clean_frame_with_the_block_it_came_from() {
    let (mut store, model) = opened(Setup::new(56), 1000);
    let absent = [0xab; 15];
    let before = home(&store, &absent);
    assert!(before.is_unverified());
    assert!(!store.remove(&absent).unwrap());
    let word = home(&store, &absent);
    let info = *store.ws.pool.info(word.number());
    assert!(word.is_frame() && info.state == State::Clean && info.block == before.number());
    assert_eq!((store.ws.pool.dirty(), store.writer.is_dirty()), (0, false));
    store.check(&model);
}

#[test]
fn frames_of_pages_that_were_looked_at_are_given_up_for_those_that_are_changed() {
    let (store, mut model) = opened(Setup::new(56), 4000);
    let mut store = store.reopen_as(Setup::new(56).pool(600, 24)).unwrap();
    let mut random = Random(11);
    for i in 0..2000u64 {
        assert!(!store.remove(&[&[0xcd][..], &i.to_le_bytes()].concat()).unwrap());
        assert!(store.ws.pool.in_use() <= 24, "what is only looked at stays below the limit");
    }
    for _ in 0..300 {
        change(&mut store, &mut model, &mut random, 4000);
    }
    store.check(&model);
    store.checkpoint();
    store.check(&model);
    store.reopen().check(&model);
}

#[test]
fn a_writer_who_cannot_read_a_page_gets_the_error_and_takes_no_frame() {
    let (mut store, model) = opened(Setup::new(56), 1000);
    let key = model.keys().next().unwrap().clone();
    // The directory page is loaded first.
    assert!(home(&store, &key).is_unverified());
    store.file.unreadable.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(store.insert(&key, b"new").is_err() && store.remove(&key).is_err());
    assert_eq!(store.ws.pool.in_use(), 0);
    store.file.unreadable.store(false, std::sync::atomic::Ordering::Relaxed);
    assert!(store.remove(&key).unwrap());
}

/// The page of a key, read as a writer does who does not hold the lock yet.
fn fetch_ahead(store: &Store, key: &[u8]) -> Option<Box<Fetched>> {
    store.writer.table.fetch_ahead(store.writer.hash(key), true)
}

#[test]
fn what_was_read_ahead_is_not_read_again() {
    let (mut store, mut model) = opened(Setup::new(56), 3000);
    let keys: Vec<Vec<u8>> = model.keys().take(100).cloned().collect();
    let mut used = 0;
    for key in keys {
        let fetched = fetch_ahead(&store, &key);
        let word = home(&store, &key);
        assert_eq!(fetched.is_some(), !word.is_frame());
        let block = u64::from(word.number());
        let was_fetched = fetched.is_some();
        used += usize::from(was_fetched);
        reads(&store);
        store.writer.offer(fetched);
        store.insert(&key, b"new").unwrap();
        assert!(home(&store, &key).is_frame());
        // What is read then are the pages behind it where the search may lead.
        assert!(!was_fetched || !reads(&store).contains(&block));
        model.insert(key, b"new".to_vec());
    }
    assert!(used > 20, "{used}");
    store.check(&model);
}

#[test]
fn what_was_read_ahead_and_is_another_page_by_now_is_read_again() {
    let (store, mut model) = opened(Setup::new(56), 600);
    let keys: Vec<Vec<u8>> = model.keys().cloned().collect();
    let (mut store, mut stale) = (store.reopen(), 0);
    for (i, key) in keys.iter().enumerate().step_by(23) {
        home(&store, key);
        let old = fetch_ahead(&store, key);
        let before = home(&store, key).number();
        // The block comes to be used for other pages, and for this one again.
        for round in 0..4u8 {
            for key in &keys {
                store.insert(key, &[round, i as u8]).unwrap();
                model.insert(key.clone(), vec![round, i as u8]);
            }
            store.checkpoint();
        }
        store = store.reopen();
        let word = home(&store, key);
        stale += usize::from(old.is_some() && word.is_unverified() && word.number() == before);
        store.writer.offer(old);
        store.insert(key, b"after all").unwrap();
        model.insert(key.clone(), b"after all".to_vec());
        store.check(&model);
        store.checkpoint();
        store = store.reopen();
    }
    assert!(stale > 3, "blocks are used again for the same pages: {stale}");
}

#[test]
fn nothing_is_read_ahead_to_remove_what_is_known_to_be_absent() {
    let (mut store, model) = opened(Setup::new(56), 1000);
    let absent = [0xab; 15];
    home(&store, &absent);
    assert!(store.get(&absent).unwrap().is_none());
    let hash = store.writer.hash(&absent);
    assert!(store.writer.table.fetch_ahead(hash, false).is_none());
    assert!(!store.remove(&absent).unwrap());
    assert!(!home(&store, &absent).is_frame());
    store.check(&model);
}
