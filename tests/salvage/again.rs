//! Salvage from a device that delivers a block once, and then no more.
//!
//! Goal: what was right when it was first read is not believed when it is read
//! again: nothing is invented, nothing panics, and what is missing is counted.
//! Method: a storage one block of which fails from the second read on, for every
//! block of a log file, and for a page that no directory page names.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use swissdb::storage::files::Files;
use swissdb::{Options, SalvageReport};

use super::{BLOCK, Story, last_in_log, salvaged};
use crate::support::{Gate, Model, TestStore, assert_same, key, show, value};

/// Salvages a store whose file `name` delivers that block once. Returns what is
/// found in the default table, and how often the block was asked for.
fn salvaged_once(store: &Path, name: &str, block: u64) -> (SalvageReport, Model, u64) {
    let reads = Arc::new(AtomicU64::new(0));
    let (fading, asked) = (name.to_owned(), reads.clone());
    let warden = move |name: &str, bytes: Range<u64>| {
        let touched = bytes.start < (block + 1) * BLOCK && bytes.end > block * BLOCK;
        match name == fading && touched && asked.fetch_add(1, Relaxed) > 0 {
            true => Err(io::Error::other("the block cannot be read")),
            false => Ok(()),
        }
    };
    let source = Gate::refusing(Arc::new(Files::new(store)), Arc::new(warden));
    let (report, found) = salvaged(source);
    (report, found, reads.load(Relaxed))
}

#[test]
fn records_that_cannot_be_read_again_are_lost_and_no_value_is_made_of_zeros() {
    let options = Options::new().sync_interval(Duration::from_secs(3600));
    let mut store = TestStore::on_disk(options);
    (0..30).for_each(|i| store.insert(key(i), value(i, 3_000)).expect("insert"));
    store.kill();
    // The log goes on in another file, so that both are read again and again.
    (30..60)
        .for_each(|i| store.insert(key(i), value(i, 3_000 + 200 * i as usize)).expect("insert"));
    let killed = store.copy_as_killed();
    let (file, at) = last_in_log(killed.path(), &key(59));
    assert_ne!(file, last_in_log(killed.path(), &key(29)).0);
    let name = file.strip_prefix(killed.path()).expect("below").to_str().expect("a name");
    let mut again = 0;
    for block in 1..=at / BLOCK + 2 {
        let (report, found, reads) = salvaged_once(killed.path(), name, block);
        for (found, its_value) in &found {
            let i = (0..60).find(|i| key(*i) == *found).expect("a key that was written");
            let length = if i < 30 { 3_000 } else { 3_000 + 200 * i as usize };
            assert!(*its_value == value(i, length), "block {block}: value of {}", show(found));
        }
        assert!((0..30).all(|i| found.contains_key(&key(i))), "block {block}: {report}");
        let missing = 60 - found.len() as u64;
        assert_eq!(report.commits_lost, missing, "block {block}: {report}");
        assert_eq!(report.lost_anything(), missing > 0, "block {block}: {report}");
        again += u64::from(reads > 1 && missing > 0);
    }
    assert!(again > 30, "only {again} blocks were read again and needed");
}

#[test]
fn a_page_that_cannot_be_read_again_is_counted_and_looked_for_in_the_log() {
    let story = Story::new(900, true);
    let directory = swissdb::inspect::directory(story.path(), "default").expect("inspect");
    let pages: Vec<_> = directory.collect();
    // Nothing leads to the pages below: they are found as they lie.
    pages.iter().for_each(|page| story.destroy(&story.table("default"), page.block.into()));
    for segment in pages.iter().flat_map(|page| &page.segments) {
        for page in &segment.pages {
            let (report, found, reads) =
                salvaged_once(story.path(), "default.swiss", page.block.into());
            assert!(reads > 1, "it was read once");
            assert_eq!(report.pages_damaged, 1, "{report}");
            assert_same(found.into_iter(), &story.now["default"]);
        }
    }
}
