//! Arbitrary bytes, looked at.
//!
//! Goal: no bytes whatever make a panic, a hang, or a demand for memory, and
//! nothing that is looked at changes. Method: flipped bits and random bytes in
//! every kind of part, with checksums made right again in half of the cases, so
//! that what lies behind them is reached; then everything is looked at, and the
//! files are compared.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use swissdb::Options;
use swissdb::inspect::{self, Piece};

use super::{closed, segments};
use crate::rot::looking::look_at_everything;
use crate::support::{Random, TestStore, files_below, key};

/// A kind of part: its file, where it begins, and how much of it matters most.
type Place = (&'static str, u64, u64);

/// One place of every kind of part.
fn places(store: &Path) -> Vec<(&'static str, Place)> {
    let header = inspect::header(store, "default").expect("header").remove(0);
    let header = header.header.expect("valid");
    let mut directory = inspect::directory(store, "default").expect("directory");
    let page = directory.next().expect("a page");
    let table = "default.swiss";
    let block = |block: u32| u64::from(block) * 4096;
    let log = "log/00000001.log";
    vec![
        ("header", (table, 0, 320)),
        ("root", (table, block(header.root.block), 32)),
        ("free map", (table, block(header.free_map.block), 64)),
        ("directory page", (table, block(page.block), 300)),
        ("page", (table, block(page.segments[0].pages[0].block), 4096)),
        ("log file", (log, 0, 544)),
        ("record", (log, 4096, 200)),
    ]
}

/// Makes the checksums of headers, activation and first record right.
fn seal(file: &str, bytes: &mut [u8]) {
    let mut put = |at: usize, from: usize, to: usize, initial: u32| {
        let mut hasher = crc32fast::Hasher::new_with_initial(initial);
        hasher.update(&bytes[from..to]);
        bytes[at..at + 4].copy_from_slice(&hasher.finalize().to_le_bytes());
    };
    if file == "default.swiss" {
        put(4092, 0, 4092, 0);
        return put(4096 + 4092, 4096, 4096 + 4092, 0);
    }
    put(32, 0, 32, 0);
    put(540, 512, 540, 0);
    let field = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let (salt, length) = (field(16), field(4100) as usize);
    if (24..bytes.len() - 4096).contains(&length) {
        let mut hasher = crc32fast::Hasher::new_with_initial(salt ^ 4096);
        hasher.update(&bytes[4100..4096 + length]);
        bytes[4096..4100].copy_from_slice(&hasher.finalize().to_le_bytes());
    }
}

#[test]
fn arbitrary_bytes_in_any_part_are_shown_without_a_panic() {
    let (store, _) = closed();
    let mut random = Random::new(29);
    for (name, (file, start, length)) in places(store.path()) {
        eprintln!("damaged: {name}");
        let (path, start) = (store.path().join(file), start as usize);
        let whole = fs::read(&path).expect("read");
        for round in 0..16 {
            let mut bytes = whole.clone();
            match round % 4 {
                // A few bits, a few bytes, all of it, and the end of the file.
                0 => (0..1 + random.below(4)).for_each(|_| {
                    bytes[start + random.below(length) as usize] ^= 1 << random.below(8);
                }),
                1 => (0..1 + random.below(30)).for_each(|_| {
                    bytes[start + random.below(length) as usize] = random.next() as u8;
                }),
                2 => bytes[start..start + length as usize].fill_with(|| random.next() as u8),
                _ => {
                    let at = start + random.below(length) as usize;
                    bytes[at] = [0, 1, 0x7f, 0x80, 0xfe, 0xff][random.below(6) as usize];
                    let cut = random.below(5000) as usize * random.below(2) as usize;
                    bytes.truncate((bytes.len() - cut).max(8192));
                }
            }
            if file == "default.swiss" && start == 0 {
                bytes.copy_within(..4096, 4096);
            }
            if random.one_in(2) {
                seal(file, &mut bytes);
            }
            fs::write(&path, bytes).expect("write");
            let before = files_below(store.path());
            look_at_everything(store.path(), "default", &key(1));
            assert!(files_below(store.path()) == before, "looking changed a byte ({name})");
        }
        fs::write(&path, whole).expect("write");
    }
}

#[test]
fn a_header_that_speaks_of_more_than_there_is_takes_no_memory() {
    let (store, _) = closed();
    let table = store.path().join("default.swiss");
    let whole = fs::read(&table).expect("read");
    // A root of 2^23 entries and 2^32 - 1 log files, in a file of 4 TiB.
    let mut bytes = whole.clone();
    let put = |bytes: &mut Vec<u8>, at: usize, number: u32| {
        bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
    };
    bytes[19] = 23;
    put(&mut bytes, 124, u32::MAX);
    put(&mut bytes, 112, 2);
    let blocks = ((8_u64 << 23) + 16 * u64::from(u32::MAX)).div_ceil(4096);
    put(&mut bytes, 116, blocks as u32);
    put(&mut bytes, 128, (1 << 30) - 32_768);
    put(&mut bytes, 132, 32_768);
    put(&mut bytes, 140, 1 << 30);
    bytes.copy_within(..4096, 4096);
    seal("default.swiss", &mut bytes);
    fs::write(&table, &bytes).expect("write");
    let copies = inspect::header(store.path(), "default").expect("header");
    assert_eq!(copies[0].damage, None, "the header is one that the format allows");
    let file = fs::OpenOptions::new().write(true).open(&table).expect("open");
    file.set_len(1 << 42).expect("a file with a hole");
    let directory = inspect::directory(store.path(), "default").expect("directory");
    let damage = directory.damage.as_ref().expect("damage");
    assert!(damage.text.contains("longer than one can be"), "{damage}");
    assert_eq!(directory.count(), 0);
}

#[test]
fn a_search_for_records_over_foreign_bytes_ends_soon() {
    let mut store = TestStore::on_disk(Options::new());
    store.insert("key", "value").expect("insert");
    store.close();
    let path = store.path().join("log/00000001.log");
    let mut bytes = fs::read(&path).expect("read");
    let mut random = Random::new(31);
    // Each multiple of 8 might begin a record, as far as its length says.
    let size: u64 = 16 << 20;
    bytes.resize(size as usize, 0);
    for word in bytes[8192..].chunks_mut(8) {
        let length = 24 + random.below(4 << 20) as u32;
        word[..4].copy_from_slice(&(random.next() as u32).to_le_bytes());
        word[4..].copy_from_slice(&length.to_le_bytes());
    }
    bytes[24..32].copy_from_slice(&size.to_le_bytes());
    seal("log", &mut bytes);
    fs::write(&path, bytes).expect("write");
    let start = Instant::now();
    let log = inspect::log(store.path()).expect("log");
    let pieces: Vec<_> = log.files[0].pieces().expect("pieces").collect();
    assert!(matches!(pieces[..], [Piece::Record(_), Piece::Gap(_)]), "{pieces:?}");
    // Reading the window anew at each step takes minutes.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn a_record_of_very_many_operations_shows_the_first_of_them() {
    let mut store = TestStore::on_disk(Options::new());
    let mut batch = swissdb::Batch::new();
    for i in 0..100_050_u32 {
        batch.remove(i.to_le_bytes()).expect("add");
    }
    batch.insert("last", "1").expect("add");
    store.write(&batch).expect("write");
    let killed = store.copy_as_killed();
    store.close();
    let log = inspect::log(killed.path()).expect("log");
    let record = log.files.iter().flat_map(|file| file.pieces().expect("pieces"));
    let record = record.filter_map(|piece| match piece {
        Piece::Record(record) => Some(record),
        Piece::Gap(_) => None,
    });
    let record = record.into_iter().next().expect("a record");
    assert_eq!((record.operations.len(), record.more_operations), (100_000, 51));
    // A search looks at all of them.
    let news = inspect::key(killed.path(), "default", b"last").expect("a search").news;
    assert_eq!(news.is_there(), Some(true));
    assert_eq!(segments(killed.path()).len(), 1);
}

#[test]
fn records_behind_a_damaged_batch_are_found() {
    let store = TestStore::on_disk(Options::new());
    for round in 0..4_u64 {
        let mut batch = swissdb::Batch::new();
        for i in 0..1_000_u64 {
            // A key length of 12 within a word is, as a length of a record,
            // three quarters of the file: a header that is worth a look.
            let key = format!("package-{i:04}");
            batch.insert(key, vec![b'v'; (i % 23) as usize]).expect("add");
        }
        batch.insert("round", round.to_le_bytes()).expect("add");
        store.write(&batch).expect("write");
    }
    let killed = store.copy_as_killed();
    let log = inspect::log(killed.path()).expect("log");
    let before: Vec<_> = log.files[0].pieces().expect("pieces").collect();
    assert_eq!(before.len(), 4);
    let Piece::Record(hit) = &before[1] else { panic!("a record") };
    super::flip(&killed.path().join("log/00000001.log"), hit.offset + 100);
    let log = inspect::log(killed.path()).expect("log");
    let after: Vec<_> = log.files[0].pieces().expect("pieces").collect();
    assert_eq!(after.len(), 4);
    assert!(matches!(&after[1], Piece::Gap(gap) if gap.offset == hit.offset));
    let Piece::Record(next) = &after[2] else { panic!("{:?}", after[2]) };
    assert_eq!(next.commit, hit.commit + 1);
    assert_eq!(after[3], before[3]);
}
