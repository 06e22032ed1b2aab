//! What the tests share: stores that check themselves, reproducible random
//! numbers, and the comparison of a store with what it should hold.
//!
//! A [`TestStore`] lies in a temporary directory or in memory. When it goes out
//! of scope it verifies every invariant of the store, closes it, and verifies
//! the files once more; after a panic it leaves the files to speak for
//! themselves. Its storage passes through a [`Gate`], so that a test can take
//! the files as they are *between* two operations on them: exactly what a
//! process leaves behind that is killed at that moment.
//!
//! Random choices come from [`Random`], whose seed is printed with a failure.
//! `SWISSDB_TEST_SEED=n` runs the tests with other choices.

#[path = "support/gate.rs"]
mod gate;
#[path = "support/peer.rs"]
pub mod peer;
#[path = "support/ticks.rs"]
pub mod ticks;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use swissdb::storage::Storage;
use swissdb::storage::files::Files;
use swissdb::storage::memory::Memory;
use swissdb::{Db, Options, Table, TableStats, Value};
use tempfile::TempDir;

pub use gate::{Gate, Warden};

/// The entries a table should hold.
pub type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// All tables of a store with their entries.
pub type State = BTreeMap<String, Model>;

/// Above this many entries the files are not verified again after closing.
const VERIFY_TWICE: u64 = 20_000;

/// A store that verifies itself when it goes out of scope.
pub struct TestStore {
    /// None only while it is closed.
    db: Option<Db>,
    options: Options,
    place: Place,
}

/// Where a test store lies.
enum Place {
    Disk(TempDir),
    Memory(Memory),
}

impl Place {
    fn storage(&self) -> Arc<dyn Storage> {
        match self {
            Place::Disk(directory) => Arc::new(Files::new(directory.path())),
            Place::Memory(memory) => Arc::new(memory.clone()),
        }
    }
}

impl TestStore {
    /// A new store in a temporary directory.
    pub fn on_disk(options: Options) -> TestStore {
        let directory = tempfile::tempdir().expect("a temporary directory");
        TestStore::at(options, Place::Disk(directory))
    }

    /// A new store in memory.
    pub fn in_memory(options: Options) -> TestStore {
        TestStore::at(options, Place::Memory(Memory::new()))
    }

    fn at(options: Options, place: Place) -> TestStore {
        let mut store = TestStore { db: None, options, place };
        store.open();
        store
    }

    /// The directory of a store on disk.
    pub fn path(&self) -> &Path {
        match &self.place {
            Place::Disk(directory) => directory.path(),
            Place::Memory(_) => panic!("this store has no directory"),
        }
    }

    /// Opens the store again after [`TestStore::close`].
    pub fn open(&mut self) {
        let db = self.options.open_on(Arc::new(Gate::around(self.place.storage())));
        self.db = Some(db.unwrap_or_else(|error| panic!("the store does not open: {error}")));
    }

    /// Closes the store cleanly; what it holds stays where it is.
    pub fn close(&mut self) {
        if let Some(db) = self.db.take() {
            db.close().unwrap_or_else(|error| panic!("the store does not close: {error}"));
        }
    }

    /// Closes the store and opens it again.
    pub fn reopen(&mut self) {
        self.close();
        self.open();
    }

    /// Goes on with what a kill at this moment would leave.
    pub fn kill(&mut self) {
        self.place = self.what_a_kill_leaves();
        // The killed store ends in its old place, which nobody looks at again.
        self.db = None;
        self.open();
    }

    /// The files as they are between two operations on them. Whoever calls
    /// this has no write under way, but the store's own threads may.
    fn what_a_kill_leaves(&self) -> Place {
        gate::closed(|| match &self.place {
            Place::Memory(memory) => Place::Memory(memory.copy().expect("copy the files")),
            Place::Disk(directory) => {
                let copy = tempfile::tempdir().expect("a temporary directory");
                copy_directory(directory.path(), copy.path());
                Place::Disk(copy)
            }
        })
    }

    /// Copies the directory of a store on disk as a kill would leave it.
    pub fn copy_as_killed(&self) -> TempDir {
        match self.what_a_kill_leaves() {
            Place::Disk(directory) => directory,
            Place::Memory(_) => panic!("this store has no directory"),
        }
    }
}

impl Deref for TestStore {
    type Target = Db;

    fn deref(&self) -> &Db {
        self.db.as_ref().expect("the store is closed")
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        let Some(db) = self.db.take() else { return };
        if std::thread::panicking() {
            return;
        }
        assert_clean(&db);
        let entries = db.len();
        db.close().unwrap_or_else(|error| panic!("the store does not close: {error}"));
        if entries <= VERIFY_TWICE {
            self.open();
            assert_clean(self);
            assert_eq!(self.len(), entries, "entries after closing and opening");
            self.close();
        }
    }
}

/// Fails with every violation that a full verification finds.
pub fn assert_clean(db: &Db) {
    let report = db.verify().unwrap_or_else(|error| panic!("verify failed: {error}"));
    for violation in &report.violations {
        eprintln!("{violation:?}");
    }
    assert!(report.is_clean(), "{} violations", report.violations.len());
}

/// Fails unless the store's default table holds exactly the entries of the
/// model: by length, by lookup and by iteration.
pub fn assert_holds(db: &Db, model: &Model) {
    assert_eq!(db.len(), model.len() as u64, "entries");
    for (key, value) in model {
        let found = db.get(key).expect("get");
        assert_eq!(found.as_deref(), Some(&value[..]), "value of {}", show(key));
    }
    assert_same(pairs(db.iter()), model);
}

/// The same of another table.
pub fn assert_table_holds(table: &Table, model: &Model) {
    let name = table.name();
    assert_eq!(table.len(), model.len() as u64, "entries of {name}");
    for (key, value) in model {
        let found = table.get(key).expect("get");
        assert_eq!(found.as_deref(), Some(&value[..]), "value of {} in {name}", show(key));
    }
    assert_same(pairs(table.iter()), model);
}

/// The entries of an iteration, none of which may be damaged.
pub fn pairs(
    entries: impl Iterator<Item = swissdb::Result<(Value, Value)>>,
) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let entries = entries.map(|entry| entry.expect("an entry"));
    entries.map(|(key, value)| (key.into_vec(), value.into_vec()))
}

/// All that a store holds.
pub fn state_of(db: &Db) -> State {
    let table = |name: String| {
        let entries = pairs(db.table(&name).expect("a table").iter()).collect();
        (name, entries)
    };
    db.tables().expect("tables").into_iter().map(table).collect()
}

/// Fails unless an iteration yields exactly the entries of the model.
pub fn assert_same(entries: impl Iterator<Item = (Vec<u8>, Vec<u8>)>, model: &Model) {
    let mut seen = Model::new();
    for (key, value) in entries {
        assert_eq!(model.get(&key), Some(&value), "value of {} in the iteration", show(&key));
        assert!(seen.insert(key.clone(), value).is_none(), "{} came twice", show(&key));
    }
    for key in model.keys() {
        assert!(seen.contains_key(key), "{} is missing in the iteration", show(key));
    }
}

/// A key or value, short enough for a message.
pub fn show(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(32)];
    format!("\"{}\" ({} bytes)", start.escape_ascii(), bytes.len())
}

/// The statistics of the default table.
pub fn table_stats(db: &Db) -> TableStats {
    let stats = db.stats();
    let table = stats.tables.iter().find(|table| table.name == "default");
    table.expect("the default table").clone()
}

/// The `i`-th key of 16 bytes.
pub fn key(i: u64) -> Vec<u8> {
    format!("key-{i:012}").into_bytes()
}

/// A value of `length` bytes that only this `seed` gives, where there is room
/// for the difference.
pub fn value(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed ^ 0x5157_1553_7AB1_E000);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Random numbers from a printed seed (SplitMix64).
pub struct Random(u64);

impl Random {
    /// Numbers from this seed, combined with `SWISSDB_TEST_SEED` if it is set.
    pub fn new(seed: u64) -> Random {
        let seed = seed ^ seed_of_the_run();
        eprintln!("seed of the random choices: {seed}");
        Random(seed)
    }

    /// Numbers from this seed and no other.
    pub fn unprinted(seed: u64) -> Random {
        Random(seed)
    }

    /// The next 64 random bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Whether a chance of one in `n` came true.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What `SWISSDB_TEST_SEED` says, zero without it.
pub fn seed_of_the_run() -> u64 {
    match std::env::var("SWISSDB_TEST_SEED") {
        Ok(text) => text.parse().expect("SWISSDB_TEST_SEED is a number"),
        Err(_) => 0,
    }
}

/// Copies a directory and all below it.
pub fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create a directory");
    for entry in fs::read_dir(from).expect("read a directory") {
        let entry = entry.expect("an entry of a directory");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("the type of a file").is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copy a file");
        }
    }
}

/// Every file below a directory with its bytes, by its name from there.
pub fn files_below(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![directory.to_path_buf()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(&next).expect("read a directory") {
            let path = entry.expect("an entry of a directory").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let name = path.strip_prefix(directory).expect("a file below it").to_path_buf();
                files.insert(name, fs::read(&path).expect("read a file"));
            }
        }
    }
    files
}
