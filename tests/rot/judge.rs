//! What may come of a damaged store, and what must not.
//!
//! A store that opens must hold one of the states that it may have been in:
//! the last one, or where it was killed an earlier one that is not older than
//! the last durable commit. Of that state each entry is right or `Corrupt`, by
//! lookup in every form and by iteration; only entries that lie in or behind
//! the damaged bytes may be unreadable; and whoever finds damage finds it named
//! by `verify` as well. For writing the same holds, and what was written holds
//! on, over closing and opening.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use swissdb::inspect;
use swissdb::{Corruption, Db, Error};

use super::allocations::largest_request;
use super::directory::Directory;
use super::image::{BLOCK, Image, Kind, Part, parts, shrink_logs};
use super::looking::look_at_everything;
use super::recipe::{Made, State, options};
use crate::support::show;

/// More than anything asks for that these stores have a use for: a MiB of log
/// is read at once. Lengths that are out of bounds are mostly far above.
pub const MOST_MEMORY: usize = 8 << 20;

/// An entry: its table and its key.
pub type Key = (String, Vec<u8>);

/// A store that will be damaged.
pub struct Subject {
    pub made: Made,
    pub image: Image,
    pub parts: Vec<Part>,
    pub place: RefCell<Directory>,
    /// The entries of a segment, by file and block of each of its pages.
    segments: BTreeMap<(String, usize), BTreeSet<Key>>,
    /// Where spilled entries lie in the log.
    spilled: Vec<(String, Range<usize>, Key)>,
}

/// What came of a damage.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// It could not be opened.
    pub refused: bool,
    /// Entries that could not be read.
    pub unreadable: usize,
}

impl Subject {
    pub fn new(made: swissdb::Result<Made>) -> Subject {
        let mut made = made.expect("a store");
        let whole = Image::of(&made.memory).expect("its files");
        let mut image = whole.clone();
        shrink_logs(&mut image);
        made.memory = image.to_memory(&made.memory, &whole).expect("a copy");
        let parts = parts(&image);
        let place = RefCell::new(Directory::new().expect("a directory"));
        let mut subject =
            Subject { made, image, parts, place, segments: BTreeMap::new(), spilled: Vec::new() };
        subject.map_entries();
        subject
    }

    /// Finds out where each entry lies, or would.
    fn map_entries(&mut self) {
        let mut place = self.place.borrow_mut();
        let path = place.show(&self.image).expect("write the files");
        for (table, key) in self.everything() {
            let search = inspect::key(path, &table, &key).expect("a search");
            for page in search.segment.iter().flat_map(|segment| &segment.pages) {
                let block = (format!("{table}.swiss"), page.block as usize);
                self.segments.entry(block).or_default().insert((table.clone(), key.clone()));
            }
        }
        for table in self.image.tables() {
            let table = table.trim_end_matches(".swiss");
            let segments = (0..).map_while(|n| inspect::segment(path, table, n).ok());
            for entry in segments.collect::<Vec<_>>().iter().flat_map(|s| s.entries()) {
                let Some(at) = entry.address else { continue };
                let range = at.offset as usize..(at.offset + at.length) as usize;
                let key = (table.to_string(), entry.key.clone().expect("a key"));
                self.spilled.push((super::image::log_name(at.file), range, key));
            }
        }
    }

    /// The entries that may be unreadable once these bytes have changed.
    pub fn behind(&self, file: &str, bytes: Range<usize>) -> BTreeSet<Key> {
        let mut found = BTreeSet::new();
        let overlaps = |part: &Range<usize>| part.start < bytes.end && bytes.start < part.end;
        for part in self.parts.iter().filter(|p| p.file == file && overlaps(&(p.start..p.end))) {
            match part.kind {
                Kind::Page => {
                    let block = (file.to_string(), part.start / BLOCK);
                    found.extend(self.segments.get(&block).into_iter().flatten().cloned());
                }
                Kind::DirectoryPage => found.extend(self.table(file)),
                // These keep a store closed, or nothing.
                _ => {}
            }
        }
        let hit = self.spilled.iter().filter(|(log, range, _)| log == file && overlaps(range));
        found.extend(hit.map(|(_, _, key)| key.clone()));
        found
    }

    /// All entries of a table file.
    fn table(&self, file: &str) -> BTreeSet<Key> {
        let of = |key: &&Key| format!("{}.swiss", key.0) == file;
        self.everything().iter().filter(of).cloned().collect()
    }

    /// All entries of all states.
    pub fn everything(&self) -> BTreeSet<Key> {
        let tables = self.made.states.iter().flatten();
        tables.flat_map(|(t, map)| map.keys().map(|key| (t.clone(), key.clone()))).collect()
    }

    /// Fails unless what comes of these files is right. `may` are the entries
    /// that may be unreadable.
    pub fn judge(&self, damaged: &Image, may: &BTreeSet<Key>, what: &str) -> Outcome {
        let memory = damaged.to_memory(&self.made.memory, &self.image).expect("a copy");
        let options = options().read_only(true);
        let (opened, asked) = largest_request(|| options.open_on(Arc::new(memory.clone())));
        assert!(asked <= MOST_MEMORY, "{what}: {asked} bytes of memory to open it");
        let db = match opened {
            Ok(db) => db,
            Err(error) => {
                self.assert_named(damaged, &error, what);
                return Outcome { refused: true, unreadable: 0 };
            }
        };
        let (unreadable, asked) = largest_request(|| self.judge_open(&db, damaged, may, what));
        assert!(asked <= MOST_MEMORY, "{what}: {asked} bytes of memory to read it");
        Outcome { refused: false, unreadable: unreadable.len() }
    }

    /// Fails unless an error is of damage, in a file and at a place that exist.
    fn assert_named(&self, damaged: &Image, error: &Error, what: &str) {
        let Error::Corrupt(damage) = error else { panic!("{what}: {error}") };
        let Corruption { path, offset, .. } = &**damage;
        assert!(!damage.what.is_empty() && damage.expected != damage.found, "{what}: {damage}");
        let name = path.strip_prefix("(memory)").unwrap_or(path);
        let name = name.to_string_lossy().into_owned();
        let before = self.image.files.get(&name).map_or(0, Vec::len);
        let length = damaged.files.get(&name).map_or(before, |bytes| bytes.len().max(before));
        let known = self.image.files.contains_key(&name) || damaged.files.contains_key(&name);
        let is_store = name.is_empty() || name == "log";
        assert!(known || is_store, "{what}: of a file {name:?}: {damage}");
        assert!(*offset <= length as u64, "{what}: {damage} in {length} bytes");
    }

    /// Fails unless all that an open store says is right. Returns the entries
    /// that cannot be read.
    fn judge_open(
        &self,
        db: &Db,
        damaged: &Image,
        may: &BTreeSet<Key>,
        what: &str,
    ) -> BTreeSet<Key> {
        let (found, unreadable) = self.read_all(db, damaged, what);
        let state = self.state_of(&found, &unreadable);
        let state = state.unwrap_or_else(|| panic!("{what}: entries that no commit has left"));
        let beyond: Vec<_> = unreadable.difference(may).map(|(t, k)| (t, show(k))).collect();
        assert!(beyond.is_empty(), "{what}: not hit and not readable: {beyond:?}");
        let mut damage = !unreadable.is_empty();
        for name in db.tables().expect("tables") {
            let table = db.table(&name).expect("a table that is there");
            let expected = &state[&name];
            let mut seen = BTreeSet::new();
            for entry in table.iter() {
                match entry {
                    Ok((key, value)) => {
                        let right = expected.get(&key[..]).map(Vec::as_slice) == Some(&value[..]);
                        assert!(right, "{what}: iteration invents {}", show(&key));
                        assert!(seen.insert(key.into_vec()), "{what}: a key came twice");
                    }
                    Err(error) => {
                        self.assert_named(damaged, &error, what);
                        damage = true;
                    }
                }
            }
            for key in expected.keys().filter(|key| !seen.contains(*key)) {
                let known = may.contains(&(name.clone(), key.clone()));
                assert!(known, "{what}: iteration passes over {}", show(key));
            }
            table.survey(|_| ()).unwrap_or_else(|error| panic!("{what}: survey: {error}"));
        }
        drop(db.stats());
        let report = db.verify().unwrap_or_else(|error| panic!("{what}: verify: {error}"));
        assert!(!(damage && report.is_clean()), "{what}: verify finds nothing");
        unreadable
    }

    /// Reads every key of every state in every way: the values, and the keys
    /// that cannot be read.
    fn read_all(&self, db: &Db, damaged: &Image, what: &str) -> (State, BTreeSet<Key>) {
        let (mut found, mut unreadable) = (State::new(), BTreeSet::new());
        for name in db.tables().expect("tables") {
            found.entry(name.clone()).or_default();
        }
        for (name, key) in self.everything() {
            if !found.contains_key(&name) {
                continue;
            }
            let table = db.table(&name).expect("a table that is there");
            let value = table.get(&key);
            let lent = table.get_with(&key, |value| value.to_vec());
            let there = table.contains_key(&key);
            if let (Err(error), _) | (_, Err(error)) = (&value, &lent) {
                self.assert_named(damaged, error, what);
                assert!(value.is_err() && lent.is_err(), "{what}: get and get_with disagree");
                unreadable.insert((name, key));
                continue;
            }
            let value = value.ok().flatten().map(|value| value.into_vec());
            assert!(lent.ok().flatten() == value, "{what}: another value is lent");
            let there = there.unwrap_or_else(|error| panic!("{what}: contains_key: {error}"));
            assert_eq!(there, value.is_some(), "{what}: whether {} is there", show(&key));
            if let Some(value) = value {
                found.entry(name).or_default().insert(key, value);
            }
        }
        (found, unreadable)
    }

    /// The state that this is, as far as it can be read.
    fn state_of(&self, found: &State, unreadable: &BTreeSet<Key>) -> Option<&State> {
        let same = |state: &&State| {
            state.keys().eq(found.keys())
                && state.iter().all(|(name, map)| {
                    let read = |key: &Vec<u8>| !unreadable.contains(&(name.clone(), key.clone()));
                    map.iter().filter(|(key, _)| read(key)).eq(&found[name])
                })
        };
        self.made.states.iter().rev().find(same)
    }

    /// Opens a copy for writing, writes, closes, and opens it again. Fails
    /// unless all of it is right.
    pub fn judge_writing(&self, damaged: &Image, may: &BTreeSet<Key>, what: &str) -> bool {
        let what = &format!("{what}, for writing");
        let memory = damaged.to_memory(&self.made.memory, &self.image).expect("a copy");
        let db = match options().open_on(Arc::new(memory.clone())) {
            Ok(db) => db,
            Err(error) => {
                self.assert_named(damaged, &error, what);
                return false;
            }
        };
        let unreadable = self.judge_open(&db, damaged, may, what);
        let (mut now, _) = self.read_all(&db, damaged, what);
        // What could not be read may be there or not; a change that succeeds
        // settles it.
        let mut unknown = unreadable;
        for (i, (name, key)) in self.everything().into_iter().enumerate() {
            if !now.contains_key(&name) {
                continue;
            }
            let table = db.table(&name).expect("a table that is there");
            let value = vec![i as u8; i % 80];
            let done = match i % 3 {
                0 => table.insert(&key, &value).map(|()| Some(value)),
                1 => table.remove(&key).map(|_| None),
                _ => continue,
            };
            match done {
                Err(error) => self.assert_damage_only(&error, what),
                Ok(value) => {
                    unknown.remove(&(name.clone(), key.clone()));
                    let map = now.entry(name).or_default();
                    match value {
                        Some(value) => drop(map.insert(key, value)),
                        None => drop(map.remove(&key)),
                    }
                }
            }
        }
        // Whether a key is absent may only be known behind the damage.
        let is_there = |(t, key): &&Key| now.get(t).is_some_and(|map| map.contains_key(key));
        unknown.extend(may.iter().filter(|key| !is_there(key)).cloned());
        self.assert_holds(&db, &now, &unknown, what);
        for result in [db.checkpoint(), db.close()] {
            if let Err(error) = result {
                self.assert_damage_only(&error, what);
            }
        }
        match options().open_on(Arc::new(memory)) {
            Ok(db) => self.assert_holds(&db, &now, &unknown, &format!("{what}, again")),
            Err(error) => self.assert_damage_only(&error, what),
        }
        true
    }

    fn assert_damage_only(&self, error: &Error, what: &str) {
        assert!(matches!(error, Error::Corrupt(_)), "{what}: {error}");
    }

    /// Fails unless a store holds this, but for what is unknown.
    fn assert_holds(&self, db: &Db, now: &State, unknown: &BTreeSet<Key>, what: &str) {
        for (name, key) in self.everything().iter().filter(|key| !unknown.contains(key)) {
            let Some(map) = now.get(name) else { continue };
            let found = db.table(name).expect("a table that is there").get(key);
            match found {
                Ok(found) => {
                    let right = found.as_deref() == map.get(key).map(Vec::as_slice);
                    assert!(right, "{what}: the value of {}", show(key));
                }
                Err(error) => panic!("{what}: {} was readable: {error}", show(key)),
            }
        }
    }

    /// Looks at the files with `verify` and `inspect`. Returns whether verify
    /// found damage.
    pub fn look(&self, damaged: &Image, what: &str) -> bool {
        let mut place = self.place.borrow_mut();
        let path = place.show(damaged).expect("write the files");
        let (report, asked) = largest_request(|| swissdb::verify(path));
        assert!(asked <= MOST_MEMORY, "{what}: {asked} bytes of memory to verify it");
        let report = match report {
            Ok(report) => report,
            // Only with a checksum that holds does a version mean anything.
            Err(Error::Version { .. } | Error::NotFound { .. }) => return true,
            Err(error) => panic!("{what}: verify: {error}"),
        };
        for table in damaged.tables() {
            look_at_everything(path, table.trim_end_matches(".swiss"), b"key 04");
        }
        !report.is_clean()
    }

    /// The store as it is, damaged by a function.
    pub fn damaged(&self, damage: impl FnOnce(&mut Image)) -> Image {
        let mut image = self.image.clone();
        damage(&mut image);
        image
    }
}
