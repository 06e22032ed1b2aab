//! Every offset and length within a few words, against a plain byte array.

use super::*;
use std::io::{Read, Seek, SeekFrom, Write};

fn numbered(count: usize) -> Arc<[AtomicU64]> {
    let words = zeros(count);
    let bytes: Vec<u8> = (0..count * WORD).map(|i| i as u8 + 1).collect();
    store_bytes(&words, 0, &bytes);
    words
}

fn contents(words: &[AtomicU64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.load(Relaxed).to_ne_bytes()).collect()
}

#[test]
fn bytes_are_loaded_from_every_offset_and_length() {
    let words = numbered(5);
    let model = contents(&words);
    for offset in 0..=model.len() {
        for length in 0..=model.len() - offset {
            let mut out = vec![0; length];
            load_bytes(&words, offset, &mut out);
            assert_eq!(out, model[offset..offset + length], "offset {offset}, length {length}");
        }
    }
}

#[test]
fn bytes_are_stored_at_every_offset_and_length_and_nowhere_else() {
    for offset in 0..=40 {
        for length in 0..=40 - offset {
            let words = numbered(5);
            let mut model = contents(&words);
            let bytes: Vec<u8> = (0..length).map(|i| 200 + i as u8).collect();
            store_bytes(&words, offset, &bytes);
            model[offset..offset + length].copy_from_slice(&bytes);
            assert_eq!(contents(&words), model, "offset {offset}, length {length}");
        }
    }
}

#[test]
fn words_are_copied_and_filled() {
    let (from, to) = (numbered(4), zeros(4));
    copy_words(&from, &to);
    assert_eq!(contents(&from), contents(&to));
    fill(&to[1..3], u64::MAX);
    assert_eq!(contents(&to)[8..24], [0xFF; 16]);
    assert_eq!(contents(&to)[24..], contents(&from)[24..]);
}

#[test]
fn a_heap_map_is_the_words_it_was_made_of() {
    let words = numbered(4);
    let map = Map::heap(Arc::clone(&words));
    map.copy_in(3, b"swissdb").unwrap();
    assert_eq!(contents(&words)[3..10], *b"swissdb");
    let mut out = [0; 7];
    map.copy_out(3, &mut out).unwrap();
    assert_eq!(out, *b"swissdb");
    // SAFETY: no other thread knows these words.
    let lent = unsafe { map.bytes(3, 7) };
    assert_eq!(lent.unwrap(), b"swissdb");
    assert!(map.wipe_on_fork().is_err());
}

#[test]
fn nothing_beyond_the_end_of_a_map_is_touched() {
    let map = Map::heap(zeros(2));
    assert!(map.copy_in(9, &[1; 8]).is_err());
    assert!(map.copy_in(usize::MAX, &[1; 8]).is_err());
    assert!(map.copy_out(16, &mut [0; 1]).is_err());
    // SAFETY: no other thread knows these words.
    let (whole, beyond, wrapped) =
        unsafe { (map.bytes(0, 16), map.bytes(0, 17), map.bytes(usize::MAX, 2)) };
    assert!(whole.is_some_and(|bytes| bytes == [0; 16]));
    assert!(beyond.is_none() && wrapped.is_none());
    assert!(map.prefix(24).is_none() && map.prefix(9).is_none());
    assert_eq!(map.prefix(8).unwrap().len(), 8);
}

#[test]
fn anonymous_memory_is_zero_and_takes_what_is_written() {
    let map = Map::anonymous(HUGE_PAGE + 4096).unwrap();
    assert_eq!(map.len(), HUGE_PAGE + 4096);
    assert!(map.words().iter().step_by(64).all(|word| word.load(Relaxed) == 0));
    map.populate_write(HUGE_PAGE - 4096, 8192);
    map.populate_read(0, usize::MAX);
    map.copy_in(HUGE_PAGE - 1, b"across").unwrap();
    let mut out = [0; 6];
    map.copy_out(HUGE_PAGE - 1, &mut out).unwrap();
    assert_eq!(out, *b"across");
    if !cfg!(miri) {
        assert!(map.wipe_on_fork().is_ok());
        assert!(Map::anonymous(13).is_err());
    }
}

#[test]
#[cfg_attr(miri, ignore = "maps files")]
fn a_file_and_its_maps_are_the_same_bytes() {
    let mut file = tempfile::tempfile().unwrap();
    file.set_len(8192).unwrap();
    let writable = Map::file(&file, 8192, true).unwrap();
    let readable = Map::file(&file, 4096, false).unwrap();
    writable.copy_in(100, b"through the map").unwrap();
    file.seek(SeekFrom::Start(300)).unwrap();
    file.write_all(b"through the file").unwrap();

    let mut out = [0; 15];
    readable.copy_out(100, &mut out).unwrap();
    assert_eq!(out, *b"through the map");
    file.seek(SeekFrom::Start(100)).unwrap();
    file.read_exact(&mut out).unwrap();
    assert_eq!(out, *b"through the map");
    let mut out = [0; 16];
    writable.copy_out(300, &mut out).unwrap();
    assert_eq!(out, *b"through the file");

    let refused = readable.copy_in(0, &[1]).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    assert!(readable.wipe_on_fork().is_err(), "a map of a file is not wiped");
}

#[test]
#[cfg_attr(miri, ignore = "maps files")]
fn a_file_that_is_let_go_keeps_what_was_written_through_its_map() {
    let mut file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    let map = Map::file(&file, 1 << 20, true).unwrap();
    for page in 0..256 {
        map.copy_in(4096 * page + 8, &[page as u8; 4000]).unwrap();
    }
    // Not at a page's beginning, and beyond the end.
    map.let_go(4096 * 3 + 16, usize::MAX);
    map.let_go(usize::MAX, 1);
    map.copy_in(4096 * 200, b"written anew").unwrap();
    for page in 0..256 {
        let mut out = [0; 4000];
        map.copy_out(4096 * page + 8, &mut out).unwrap();
        assert_eq!(out[8..], [page as u8; 3992]);
        file.seek(SeekFrom::Start(4096 * page as u64 + 16)).unwrap();
        file.read_exact(&mut out[8..]).unwrap();
        assert_eq!(out[8..], [page as u8; 3992]);
    }
}

#[test]
fn anonymous_memory_cannot_be_let_go() {
    let map = Map::anonymous(HUGE_PAGE).unwrap();
    map.copy_in(4096, b"stays").unwrap();
    map.let_go(0, HUGE_PAGE);
    let mut out = [0; 5];
    map.copy_out(4096, &mut out).unwrap();
    assert_eq!(out, *b"stays");
}

#[test]
#[cfg_attr(miri, ignore = "maps files")]
fn impossible_maps_of_files_are_refused() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(100).unwrap();
    for length in [101, 99, u64::MAX] {
        let refused = Map::file(&file, length, false).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{length} bytes");
    }
    assert_eq!(Map::file(&file, 0, true).unwrap().len(), 0);
}
