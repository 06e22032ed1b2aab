//! Words that lead somewhere: root, root word, directory word, page word.
//!
//! Goal: whoever follows a word finds what it leads to as it was made. Method:
//! the real lookup beside a writer who makes something new and publishes it
//! with the library's own steps. A key that is always there must be found.

use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::Relaxed;

use crate::format::group::PAGE_WORDS;
use crate::harness::check;
use crate::mutant;
use crate::storage::Map;
use crate::table::layout::{Descriptor, PageWord};
use crate::table::maps::BlockMaps;
use crate::table::{Seen, Table, Writer};

/// A reader of a key that is there.
fn find(table: &Table) {
    match table.get(7) {
        Seen::Value(1, 1) | Seen::Changes => {}
        other => panic!("a key that is there: {other:?}"),
    }
}

/// The same by a glance, which goes by the flat directory.
fn glance(table: &Table) {
    match table.glance_at(7) {
        Seen::Value(1, 1) | Seen::Changes => {}
        other => panic!("a key that is there: {other:?}"),
    }
}

/// A reader beside a writer who makes the flat directory long again, where words
/// from before a clear still stand.
fn beside_deepening() {
    let mut writer = Writer::new(2);
    writer.deepen();
    let root = writer.plant(0);
    writer.change_root(root);
    writer.put(0, 7, [1, 1]);
    let reader = {
        let table = writer.table.clone();
        loom::thread::spawn(move || glance(&table))
    };
    writer.deepen();
    reader.join().expect("the reader ends");
}

/// A reader beside a writer who takes this step.
fn beside(frames: usize, step: fn(&mut Writer)) {
    reading_beside(frames, find, step);
}

fn reading_beside(frames: usize, read: fn(&Table), step: fn(&mut Writer)) {
    let mut writer = Writer::new(frames);
    writer.put(0, 7, [1, 1]);
    let reader = {
        let table = writer.table.clone();
        loom::thread::spawn(move || read(&table))
    };
    step(&mut writer);
    reader.join().expect("the reader ends");
}

/// Two page words share a word of memory: a reader says of one that it was
/// checked, while the writer replaces it, or the other one.
fn page_words() {
    let words = descriptor_words();
    let unverified = PageWord::unverified_block(3);
    {
        let descriptor = Descriptor::new(0, &words[0], &words[1]);
        descriptor.set_page(0, unverified);
        descriptor.set_page(1, unverified);
    }
    let reader = {
        let words = words.clone();
        loom::thread::spawn(move || {
            let descriptor = Descriptor::new(0, &words[0], &words[1]);
            for page in 0..2 {
                let seen = descriptor.page(page);
                if seen.is_unverified() {
                    // `Table::verify_page`, its last step.
                    if mutant::is("the flag is cleared by a store") {
                        descriptor.set_page(page, seen.verified());
                    } else {
                        descriptor.exchange_page(page, seen, seen.verified());
                    }
                }
            }
        })
    };
    let descriptor = Descriptor::new(0, &words[0], &words[1]);
    descriptor.set_page(0, PageWord::frame(5));
    reader.join().expect("the reader ends");
    assert_eq!(descriptor.page(0), PageWord::frame(5), "a copied page is lost");
    assert_eq!(descriptor.page(1), unverified.verified());
}

/// A block of a doubled mapping.
fn doubled() {
    let map = |blocks: usize| Map::anonymous(blocks * PAGE_WORDS * 8).expect("memory");
    let words = descriptor_words();
    let maps = Arc::new(BlockMaps::new(map(1)));
    let reader = {
        let (words, maps) = (words.clone(), maps.clone());
        loom::thread::spawn(move || {
            let early = maps.newest().words().len() / PAGE_WORDS;
            // `Table::page_words`: the page word first, the mapping after it.
            let block = Descriptor::new(0, &words[0], &words[1]).page(0).number();
            if mutant::is("the mapping is looked up before the page word") {
                assert!((block as usize) < early, "a block beyond the mapping");
            }
            let words = maps.words(block).expect("a mapping with the block");
            assert_eq!(words[0].load(Relaxed), u64::from(block), "another block");
        })
    };
    let descriptor = Descriptor::new(0, &words[0], &words[1]);
    let larger = map(2);
    larger.words()[PAGE_WORDS].store(1, Relaxed);
    if mutant::is("the page word is published before the mapping") {
        descriptor.set_page(0, PageWord(1));
    }
    maps.publish(larger).expect("there is room for it");
    descriptor.set_page(0, PageWord(1));
    reader.join().expect("the reader ends");
}

/// The words of a descriptor: hot and cold ones.
fn descriptor_words() -> Arc<[Vec<AtomicU64>; 2]> {
    Arc::new([8, 16].map(|n| (0..n).map(|_| AtomicU64::new(0)).collect()))
}

#[test]
fn a_page_word_leads_to_a_whole_copy() {
    check("page word", || beside(2, |writer| _ = writer.copy_page()));
}

#[test]
fn a_directory_word_leads_to_a_whole_segment() {
    check("directory word", || beside(2, Writer::replace_segment));
}

#[test]
fn a_word_of_the_flat_directory_leads_to_a_whole_segment() {
    check("flat, a word", || reading_beside(2, glance, Writer::replace_segment));
}

#[test]
fn a_longer_flat_directory_is_whole() {
    check("flat, a longer one", beside_deepening);
}

#[test]
fn a_root_word_leads_to_a_whole_array() {
    check("root word", || beside(1, Writer::replace_array));
}

#[test]
fn the_root_leads_to_a_whole_root() {
    check("root", || beside(1, Writer::double_root));
}

#[test]
fn a_flag_that_is_cleared_hides_no_other_change() {
    check("unverified", page_words);
}

#[test]
fn a_block_is_found_in_the_doubled_mapping() {
    check("doubled mapping", doubled);
}
