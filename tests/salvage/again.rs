//! Salvage from a device that delivers a block once, and then no more.
//!
//! Goal: what was right when it was first read is not believed when it is read
//! again: nothing is invented, nothing panics, and what is missing is counted.
//! Method: a storage one block of which fails from the second read on, for every
//! block of a log file, and for a page that no directory page names.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use swissdb::storage::files::Files;
use swissdb::storage::memory::Memory;
use swissdb::storage::{Access, File, LockOutcome, Map, Storage};
use swissdb::{Options, SalvageReport};

use super::{BLOCK, Story, go_on, last_in_log};
use crate::support::{Model, TestStore, assert_same, key, pairs, show, value};

/// A block that can be read once.
struct Fading {
    inner: Files,
    name: String,
    block: u64,
    reads: Arc<AtomicU64>,
}

/// The file in which it lies.
struct FadingFile {
    inner: Arc<dyn File>,
    block: u64,
    reads: Arc<AtomicU64>,
}

impl Storage for Fading {
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let inner = self.inner.open(name, access)?;
        if name != self.name {
            return Ok(inner);
        }
        Ok(Arc::new(FadingFile { inner, block: self.block, reads: self.reads.clone() }))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.inner.list(directory)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn create_directory(&self, directory: &str) -> io::Result<()> {
        self.inner.create_directory(directory)
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        self.inner.sync_directory(directory)
    }

    fn lock(&self, exclusive: bool) -> io::Result<LockOutcome> {
        self.inner.lock(exclusive)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.inner.path(name)
    }
}

impl File for FadingFile {
    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.inner.set_length(length)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.inner.allocate(offset, length)
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.inner.punch(offset, length)
    }

    fn map(&self, length: u64, writable: bool) -> io::Result<Map> {
        self.inner.map(length, writable)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let (from, to) = (self.block * BLOCK, (self.block + 1) * BLOCK);
        let touched = offset < to && offset + buffer.len() as u64 > from;
        if touched && self.reads.fetch_add(1, Relaxed) > 0 {
            return Err(io::Error::other("the block cannot be read"));
        }
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_at(bytes, offset)
    }

    fn write_mapped(&self, map: &Map, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_mapped(map, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }
}

/// Salvages a store whose file `name` delivers that block once. Returns what is
/// found in the default table, and how often the block was asked for.
fn salvaged(store: &Path, name: &str, block: u64) -> (SalvageReport, Model, u64) {
    let reads = Arc::new(AtomicU64::new(0));
    let inner = Files::new(store);
    let source = Fading { inner, name: name.to_owned(), block, reads: reads.clone() };
    let target = Memory::new();
    let saved = Options::new().salvage_on(Arc::new(source), Arc::new(target.clone()), go_on);
    let report = saved.expect("salvage");
    let db = Options::new().read_only(true).open_on(Arc::new(target)).expect("open");
    (report, pairs(db.iter()).collect(), reads.load(Relaxed))
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
        let (report, found, reads) = salvaged(killed.path(), name, block);
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
            let (report, found, reads) = salvaged(story.path(), "default.swiss", page.block.into());
            assert!(reads > 1, "it was read once");
            assert_eq!(report.pages_damaged, 1, "{report}");
            assert_same(found.into_iter(), &story.now["default"]);
        }
    }
}
