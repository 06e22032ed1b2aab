//! Bytes that are not what was written.
//!
//! Goal: every changed byte of a page, a directory page or a spilled value is
//! an error that names its block, whoever comes across it; everything else
//! stays readable; and no page, however made, brings down a reader or writer.

use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::crc32;
use crate::format::directory::{DirectoryPage, MAX_SEGMENT_PAGES};
use crate::format::mutate::Random;
use crate::storage::File;

use crate::table::read::Stop;

use super::harness::{Model, Setup, Store, change, scan};

fn filled(payload: usize, changes: usize) -> (Store, Model) {
    let mut random = Random(payload as u64 * 7);
    let mut store = Store::new(Setup::new(payload));
    let mut model = Model::new();
    for _ in 0..changes {
        change(&mut store, &mut model, &mut random, changes);
    }
    store.checkpoint();
    (store, model)
}

/// The block that an error names, if it is one of damage.
fn block_of<T>(result: Result<T>) -> Option<u32> {
    match result {
        Err(Error::Corrupt(at)) => {
            assert_eq!(at.path.to_str(), Some(super::harness::FILE));
            Some((at.offset / BLOCK as u64) as u32)
        }
        Err(error) => panic!("{error}"),
        Ok(_) => None,
    }
}

/// The directory pages of a store, each with its block.
fn directory(store: &Store) -> Vec<(u32, DirectoryPage)> {
    let (entries, _) = store.read_root(store.header.as_ref().unwrap());
    let mut blocks: Vec<u32> = entries.iter().map(|entry| entry.block).collect();
    blocks.dedup();
    let decode = |block: u32| {
        let bytes: Box<[u8; BLOCK]> = store.read(block, 1).try_into().unwrap();
        (block, DirectoryPage::decode(&bytes).unwrap())
    };
    blocks.into_iter().map(decode).collect()
}

#[test]
fn a_flipped_page_is_reported_with_its_block_and_the_others_stay_readable() {
    let (store, model) = filled(504, 3000);
    let segments: Vec<_> = directory(&store).into_iter().flat_map(|(_, d)| d.segments).collect();
    for (i, segment) in segments.iter().enumerate().step_by(7) {
        let page = segment.pages[i % segment.pages.len()];
        let mut reopened = store.reopen();
        reopened.flip(page.block, i * 97 % BLOCK);
        let (mut good, mut bad) = (0, 0);
        for (key, value) in &model {
            let found = reopened.get(key);
            if let Ok(Some(found)) = &found {
                assert_eq!(found, value);
                good += 1;
            } else {
                assert_eq!(block_of(found), Some(page.block));
                bad += 1;
            }
        }
        assert!(bad > 0 && good > model.len() * 9 / 10, "{bad} of {}", model.len());
        let mut errors = 0;
        for key in model.keys() {
            if let Some(block) = block_of(reopened.insert(key, b"new").map(drop)) {
                assert_eq!(block, page.block);
                errors += 1;
                assert_eq!(block_of(reopened.remove(key)), Some(block));
            }
        }
        assert!(errors > 0);
        assert_eq!(block_of(scan(&reopened.writer.table, &reopened.log)), Some(page.block));
    }
}

#[test]
fn bytes_anywhere_in_a_page_are_guarded() {
    let (store, model) = filled(56, 60);
    let (_, page) = directory(&store).remove(0);
    let block = page.segments[0].pages[0].block;
    let key = model.keys().next().unwrap();
    for byte in (0..64).chain((64..BLOCK).step_by(9)) {
        let reopened = store.reopen_quickly();
        reopened.flip(block, byte);
        let first = block_of(reopened.get(key));
        if page.segments[0].pages.len() == 1 {
            assert_eq!(first, Some(block), "byte {byte}");
        }
    }
}

#[test]
fn a_flipped_directory_page_is_reported_and_the_others_stay_readable() {
    let (store, model) = filled(504, 9000);
    let pages = directory(&store);
    assert!(pages.len() > 1);
    for (block, page) in &pages {
        let reopened = store.reopen();
        reopened.flip(*block, 100);
        let mut bad = 0;
        for (key, value) in &model {
            let in_page = crate::table::layout::prefix_of(reopened.writer.hash(key), page.depth)
                == page.prefix;
            let found = reopened.get(key);
            if in_page {
                assert_eq!(block_of(found), Some(*block));
                bad += 1;
            } else {
                assert_eq!(found.unwrap().as_ref(), Some(value));
            }
        }
        assert!(bad > 0);
    }
}

#[test]
fn a_page_that_rots_while_its_frame_was_evicted_is_not_copied_on() {
    // A clean frame is given up to make room for the very segment that is
    // rebuilt from it: what is read instead has to be checked again.
    let mut store = Store::new(Setup::new(504).pool(40, 12));
    let mut model = Model::new();
    for i in 0..64u32 {
        if store.ws.pool.dirty() > 6 {
            store.checkpoint();
        }
        let (key, value) = (i.to_le_bytes().to_vec(), vec![i as u8; 300]);
        store.insert(&key, &value).unwrap();
        model.insert(key, value);
    }
    store.checkpoint();
    let pages: Vec<_> = directory(&store).into_iter().flat_map(|(_, d)| d.segments).collect();
    for page in pages.iter().flat_map(|segment| &segment.pages) {
        store.flip(page.block, 700);
    }
    for i in 64..400u32 {
        if store.ws.pool.dirty() > 6 {
            store.checkpoint();
        }
        let _ = store.insert(&i.to_le_bytes(), &[i as u8; 300]);
    }
    for (key, value) in &model {
        match store.get(key) {
            Ok(found) => assert_eq!(found.as_ref(), Some(value)),
            Err(error) => assert!(matches!(error, Error::Corrupt(_)), "{error}"),
        }
    }
}

#[test]
fn a_directory_page_that_names_impossible_blocks_is_damage() {
    let (store, model) = filled(56, 300);
    let key = model.keys().next().unwrap();
    let (block, page) = directory(&store).remove(0);
    let total = store.writer.blocks.total();
    // Beyond the file; and beyond what fits a page word, above a sound number.
    let wrong = |b| [total, total + 7, u32::MAX, b | 1 << 30, b | 1 << 31, b | 3 << 30];
    for i in 0..wrong(0).len() {
        let mut page = page.clone();
        let pages = page.segments.iter_mut().flat_map(|segment| &mut segment.pages);
        pages.for_each(|page| page.block = wrong(page.block)[i]);
        let bytes = page.encode();
        let mut reopened = store.reopen();
        reopened.file.write_at(&bytes[..], u64::from(block) * BLOCK as u64).unwrap();
        reopened.attach_again(block, crc32(&bytes[..], 0));
        assert!(block_of(reopened.get(key)).is_some());
        assert!(block_of(reopened.insert(key, b"x")).is_some());
        assert!(block_of(reopened.remove(key)).is_some());
        assert!(block_of(scan(&reopened.writer.table, &reopened.log)).is_some());
    }
}

#[test]
fn random_damage_behind_sound_checksums_never_panics_or_hangs() {
    let (store, model) = filled(56, 400);
    let keys: Vec<_> = model.keys().take(40).cloned().collect();
    let (block, page) = directory(&store).remove(0);
    let mut random = Random(41);
    let mut rounds = 0;
    crate::format::mutate::each(&page.encode()[..], 150, |bytes| {
        rounds += 1;
        let mut reopened = store.reopen();
        reopened.file.write_at(bytes, u64::from(block) * BLOCK as u64).unwrap();
        reopened.attach_again(block, crc32(bytes, 0));
        for key in &keys {
            let _ = reopened.get(key);
            let place = reopened.writer.hash(key);
            if random.below(2) == 0 {
                // What it says of counts may be wrong; it must end in an answer.
                let _ =
                    reopened.writer.prepare_insert(&mut reopened.ws, place, key, &*reopened.log);
            }
        }
        let _ = scan(&reopened.writer.table, &reopened.log);
    });
    assert_eq!(rounds, 150);
}

#[test]
fn rotten_spilled_bytes_are_damage_for_those_who_need_them() {
    let mut store = Store::new(Setup::constant(56, 77));
    let insert = |store: &mut Store, key: &[u8], value: &[u8], spilled: &[u8]| {
        let log = store.log.clone();
        let ready = store.writer.prepare_insert(&mut store.ws, 77, key, &*log).unwrap();
        let mut address = log.append(77, spilled);
        address.crc ^= 1;
        store.writer.put(ready, 77, key, value, Some(address));
    };
    let (value, key) = ([1; 100], [2; 70]);
    insert(&mut store, b"key", &value, &value);
    insert(&mut store, &key, b"value", &key);
    store.insert(b"another", b"value").unwrap();
    // The value of the first; the key of the second, when it may be another one.
    assert!(matches!(store.get(b"key"), Err(Error::Corrupt(at)) if at.path.ends_with("log")));
    assert!(matches!(store.get(&[3; 70]), Err(Error::Corrupt(_))));
    assert!(matches!(store.insert(&[3; 70], b"v"), Err(Error::Corrupt(_))));
    assert!(matches!(store.remove(&[3; 70]), Err(Error::Corrupt(_))));
    // Bytes that agree with the key that is asked for are that key.
    assert_eq!(store.get(&key).unwrap().as_deref(), Some(&b"value"[..]));
    assert_eq!(store.get(b"another").unwrap().as_deref(), Some(&b"value"[..]));
    assert_eq!(store.get(b"yek").unwrap(), None);
    assert_eq!(store.get(&[3; 71]).unwrap(), None);
    assert!(store.remove(b"key").unwrap() && store.remove(&key).unwrap());
    assert!(store.writer.live.is_empty());
}

impl Store {
    /// As `reopen`, with little memory: for tests that do it thousands of times.
    fn reopen_quickly(&self) -> Store {
        self.reopen_as(self.setup.pool(8, 8)).unwrap()
    }

    /// Gives an opened table a root of one directory page.
    fn attach_again(&mut self, block: u32, crc: u32) {
        let entry = crate::format::directory::RootEntry { block, crc };
        self.writer.attach_root(0, &[entry]).unwrap();
    }
}

/// A reader who comes late may take anything for a directory word, and it may lead to
/// a page that no segment has.
#[test]
fn a_page_that_no_segment_has_is_not_looked_at() {
    let (store, model) = filled(56, 600);
    let store = store.reopen();
    let table = &store.writer.table;
    for key in model.keys() {
        let line = table.route(store.writer.hash(key)).unwrap().descriptor;
        for page in MAX_SEGMENT_PAGES..256 {
            let seen = table.epoch.read();
            assert!(table.recover(Stop::Unverified(line, page as u8), seen).is_ok());
        }
    }
    store.check(&model);
}
