//! Segments that are rebuilt, grown and split.
//!
//! Goal: moving entries loses none of them and changes none. Method: whatever
//! a segment becomes is held, word for word, against pages into which a plain
//! loop has inserted the same entries one after the other. That at full load,
//! with tombstones, with lengths of all kinds and with keys of a single hash.

use std::sync::atomic::Ordering;

use crate::format::directory::MAX_SEGMENT_PAGES;
use crate::format::group::{self, ALL_EMPTY, EMPTY, Geometry, Lengths, PAGE_WORDS, Probe, SLOTS};
use crate::format::mutate::Random;
use crate::table::layout::{DirectoryWord, prefix_of};
use crate::table::room::limit;

use super::harness::{Model, Setup, Store, change, key};

type Page = Vec<u64>;

/// An entry as it stands in a page.
struct Entry {
    hash: u64,
    lengths: Lengths,
    words: Vec<u64>,
}

/// What was met on the way, so that a test can tell whether it met it.
#[derive(Debug, Default)]
struct Seen {
    full: usize,
    tombstones: usize,
    spilled: usize,
    splits: usize,
}

/// The pages of a segment.
fn pages(store: &Store, word: DirectoryWord) -> Vec<Page> {
    let descriptor = store.writer.table.descriptor(word.descriptor);
    let page = |page| {
        let words = store.writer.read_page(descriptor, page).unwrap();
        words.iter().map(|word| word.load(Ordering::Relaxed)).collect()
    };
    (0..descriptor.info().pages.into()).map(page).collect()
}

/// The entries in pages, in the order in which they lie.
fn entries(store: &Store, pages: &[Page]) -> Vec<Entry> {
    let geometry = store.writer.table.geometry;
    let groups = pages
        .iter()
        .flat_map(|page| page.chunks_exact(geometry.group_words).take(geometry.groups_per_page));
    let slots = groups.flat_map(|group| (0..SLOTS).map(move |slot| (group, slot)));
    let full = slots.filter(|(group, slot)| group::byte(group[group::CONTROL], *slot) & 0x80 == 0);
    let entry = |(group, slot): (&[u64], usize)| {
        let lengths = Lengths {
            key: group::half(group[group::KEY_LENGTHS + slot / 4], slot % 4),
            value: group::half(group[group::VALUE_LENGTHS + slot / 4], slot % 4),
        };
        let start = geometry.slot_start(slot);
        let words = group[start..start + geometry.slot_words].to_vec();
        let hash = match lengths.spilled() {
            true => words[lengths.address_word()],
            false => {
                let bytes: &[u8] = bytemuck::cast_slice(&words);
                store.writer.hash(&bytes[..lengths.key_len()])
            }
        };
        Entry { hash, lengths, words }
    };
    full.map(entry).collect()
}

/// As many pages with nothing but these entries, inserted one by one.
fn inserted<'a>(
    geometry: &Geometry,
    entries: impl Iterator<Item = &'a Entry>,
    pages: usize,
) -> Vec<Page> {
    let mut made = vec![vec![0; PAGE_WORDS]; pages];
    let groups = pages * geometry.groups_per_page;
    for number in 0..groups {
        let (page, group) = geometry.page_of(number);
        made[page][group * geometry.group_words + group::CONTROL] = ALL_EMPTY;
    }
    for Entry { hash, lengths, words } in entries {
        let (page, start, slot) = Probe::new(*hash, groups)
            .find_map(|number| {
                let (page, group) = geometry.page_of(number);
                let start = group * geometry.group_words;
                let control = made[page][start + group::CONTROL];
                let mut around = (0..SLOTS).map(|i| (group::home_slot(*hash) + i) % SLOTS);
                let slot = around.find(|slot| group::byte(control, *slot) == EMPTY)?;
                Some((page, start, slot))
            })
            .expect("there is an empty slot");
        let group = &mut made[page][start..start + geometry.group_words];
        let mut set = |word: usize, change: &dyn Fn(u64) -> u64| group[word] = change(group[word]);
        set(group::CONTROL, &|w| group::with_byte(w, slot, group::h2(*hash)));
        set(group::FINGERPRINTS, &|w| group::with_byte(w, slot, group::fingerprint(*hash)));
        set(group::KEY_LENGTHS + slot / 4, &|w| group::with_half(w, slot % 4, lengths.key));
        set(group::VALUE_LENGTHS + slot / 4, &|w| group::with_half(w, slot % 4, lengths.value));
        let at = geometry.slot_start(slot);
        group[at..at + geometry.slot_words].copy_from_slice(words);
    }
    made
}

/// Makes room in the segment of a hash, and looks at what it has become.
fn make_room(store: &mut Store, hash: u64, seen: &mut Seen) {
    let table = store.writer.table.clone();
    let word = table.route(hash).unwrap();
    let old = table.descriptor(word.descriptor).info();
    let before = entries(store, &pages(store, word));
    assert_eq!(before.len(), usize::from(old.used));
    let slots = table.geometry.slots_per_page();
    let taken = usize::from(old.used + old.tombstones);
    seen.full += usize::from(taken == limit(old.pages.into(), slots));
    seen.tombstones += usize::from(old.tombstones);
    seen.spilled += before.iter().filter(|entry| entry.lengths.spilled()).count();
    store.writer.make_room(&mut store.ws, word, &[]).unwrap();
    let (mut from, mut moved, mut segments) = (u64::from(old.prefix), 0, 0);
    let end = from + (1 << (32 - old.depth));
    while from < end {
        let word = table.route(from << 32).unwrap();
        let new = table.descriptor(word.descriptor).info();
        let belongs = |entry: &&Entry| prefix_of(entry.hash, new.depth) == new.prefix;
        let expected = inserted(&table.geometry, before.iter().filter(belongs), new.pages.into());
        assert!(pages(store, word) == expected, "{old:?} became {new:?}");
        assert_eq!(new.tombstones, 0);
        moved += usize::from(new.used);
        segments += 1;
        from += 1 << (32 - new.depth);
    }
    assert_eq!(moved, before.len());
    seen.splits += usize::from(segments > 1);
}

#[test]
fn what_a_segment_becomes_is_what_inserting_its_entries_makes() {
    for payload in [24, 48, 56, 120, 504] {
        let mut store = Store::new(Setup::new(payload));
        let (mut model, mut random, mut seen) = (Model::new(), Random(17), Seen::default());
        let slots = store.writer.table.geometry.slots_per_page();
        // Enough for the largest segment and its halves, and more.
        let keys = slots * MAX_SEGMENT_PAGES * 3;
        for i in 0..keys {
            change(&mut store, &mut model, &mut random, keys);
            let hash = store.writer.hash(&key(random.below(keys), payload));
            let word = store.writer.table.route(hash).unwrap();
            let info = store.writer.table.descriptor(word.descriptor).info();
            let taken = usize::from(info.used + info.tombstones);
            if taken == limit(info.pages.into(), slots) || i % (slots * 4) == 0 {
                make_room(&mut store, hash, &mut seen);
            }
        }
        // Then only inserts, so that segments fill up and split.
        for i in 0..keys {
            let key = key(i, payload);
            store.insert(&key, &[i as u8; 3]).unwrap();
            model.insert(key.clone(), vec![i as u8; 3]);
            let hash = store.writer.hash(&key);
            let word = store.writer.table.route(hash).unwrap();
            let info = store.writer.table.descriptor(word.descriptor).info();
            if usize::from(info.used + info.tombstones) == limit(info.pages.into(), slots) {
                make_room(&mut store, hash, &mut seen);
            }
        }
        let met = [seen.full, seen.tombstones, seen.spilled, seen.splits];
        assert!(met.iter().all(|count| *count > 0), "payload {payload} met {seen:?}");
        store.check(&model);
    }
}

#[test]
fn entries_of_a_single_hash_are_moved_along_their_whole_way() {
    let mut store = Store::new(Setup::constant(504, 0x0123_4567_89ab_cdef));
    let (mut model, mut seen) = (Model::new(), Seen::default());
    for i in 0..limit(MAX_SEGMENT_PAGES, SLOTS) as u32 {
        let (key, value) = (i.to_le_bytes().to_vec(), vec![i as u8; 9]);
        store.insert(&key, &value).unwrap();
        model.insert(key, value);
        if i % 9 == 0 {
            make_room(&mut store, 0x0123_4567_89ab_cdef, &mut seen);
        }
    }
    make_room(&mut store, 0x0123_4567_89ab_cdef, &mut seen);
    assert!(seen.full > 0, "{seen:?}");
    store.check(&model);
}
