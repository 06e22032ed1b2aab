//! Coming to rest, step by step: a store without threads but the log's keepers,
//! so that nothing else happens than what is called here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::log::KEEPERS;
use crate::options::Options;
use crate::storage::memory::Memory;
use crate::table::Table;

/// A store with slots for pairs of 16 and 32 bytes, whose log files may grow to
/// 8 MiB.
fn store() -> (Store, Arc<Table>) {
    let options = Options::new().payload(48).max_log_file(8 << 20);
    let store = crate::recovery::open(Arc::new(Memory::new()), &options).unwrap();
    let table = store.find_table(crate::format::header::DEFAULT_TABLE).unwrap();
    (store, table)
}

/// Runs the log's keepers, which prepare files, until `body` has ended.
fn with_keepers(store: &Store, body: impl FnOnce()) {
    struct Stop<'a>(&'a Store);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.log.stop();
        }
    }
    std::thread::scope(|scope| {
        let _stop = Stop(store);
        for _ in 0..KEEPERS {
            scope.spawn(|| store.log.keep(Duration::from_secs(1)));
        }
        body();
    });
}

/// Tidies until something is so: pins of other tests come and go, and the
/// keepers come when they can.
fn until(store: &Store, is_so: impl Fn(u64) -> bool) {
    let start = Instant::now();
    while !is_so(store.log.usage().total()) {
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", store.log.usage());
        store.log.tidy_now();
        std::thread::yield_now();
    }
}

/// Writes all entries, the pages of which all change, and makes a checkpoint.
fn write(store: &Store, table: &Table, entries: u64, round: u8) {
    for i in 0..entries {
        let key = u128::from(i).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        store.insert(table, &key.to_le_bytes(), &[round; 32]).unwrap();
    }
    checkpoint(store, false).unwrap();
}

/// Blocks of the table file that are in use, and that take space.
fn blocks(store: &Store) -> (u32, u32) {
    let core = store.core().unwrap();
    let blocks = &core.writer(0).unwrap().blocks;
    (blocks.used(), blocks.allocated())
}

/// What a store may take at rest: what is in use and a ninth more, what is
/// kept and reserved; and what a small log has.
fn assert_small(store: &Store) {
    let (used, allocated) = blocks(store);
    assert!(allocated <= used + used / 9 + 3 * FEW, "{allocated} blocks for {used}");
    until(store, |log| log <= SMALL_LOG);
}

#[test]
fn a_store_that_comes_to_rest_is_small_and_stays_as_it_is_until_somebody_writes() {
    let (store, table) = store();
    with_keepers(&store, || {
        (0..2).for_each(|round| write(&store, &table, 40_000, round));
        let (used, allocated) = blocks(&store);
        assert!(allocated > used / 2 * 3, "{allocated} blocks for {used}: nothing to gain");
        // The active file, of 4 or 8 MiB, the next one, and two that are kept.
        until(&store, |log| log >= 12 * MIN_FILE);
        let mut rest = Rest::default();
        rest.come(&store).unwrap();
        assert_small(&store);
        let state = || (crate::checkpoint::count(&store), store.log.files());
        let before = state();
        rest.come(&store).unwrap();
        // Nor does another one that remembers nothing find anything to do.
        Rest::default().come(&store).unwrap();
        assert_eq!(state(), before, "at rest");
        // A single commit is no reason to end the log again, or to move pages.
        store.insert(&table, b"key", b"value").unwrap();
        rest.come(&store).unwrap();
        assert_eq!(state().0, before.0, "a checkpoint for a single commit");
        assert_eq!(state().1.len(), before.1.len());
    });
}

#[test]
fn a_table_of_which_little_would_be_gained_is_not_written_again() {
    let (store, table) = store();
    write(&store, &table, 40_000, 0);
    let mut rest = Rest::default();
    rest.come(&store).unwrap();
    // A twentieth of the pages, about.
    for i in 0..25u64 {
        let key = u128::from(i).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        store.insert(&table, &key.to_le_bytes(), &[9; 32]).unwrap();
    }
    checkpoint(&store, false).unwrap();
    let written = || store.signals.table_bytes.load(std::sync::atomic::Ordering::Relaxed);
    let before = written();
    rest.come(&store).unwrap();
    assert_eq!(written(), before, "bytes written to the table file");
    let (used, allocated) = blocks(&store);
    assert!(allocated <= used + used / 9 + 3 * FEW, "{allocated} blocks for {used}");
}
