//! Real, small file systems: filled, emptied and filled again.
//!
//! What the simulated disk says of a full device, real ones have to confirm:
//! taking space ahead of use, so that no store into a mapping ends the process
//! with a signal, is up to the file system. Mounting needs rights that not
//! everybody has; without them these tests say so and do nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use swissdb::{Db, Options};
use tempfile::TempDir;

use super::{assert_sentence, is_full};
use crate::support::{assert_clean, key, value};

/// How large the file systems are, in MiB.
const SIZE: u64 = 24;

/// How long space may take to come back on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A mounted file system; unmounted when it is dropped.
pub struct Mount {
    place: TempDir,
    /// The file that an image lies in.
    _image: Option<TempDir>,
}

fn run(command: &mut Command) -> Result<(), String> {
    let ended = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&ended.stderr).trim().to_string();
    if ended.status.success() { Ok(()) } else { Err(format!("{command:?}: {said}")) }
}

impl Mount {
    /// A file system in memory; says why if that cannot be.
    pub fn tmpfs() -> Result<Mount, String> {
        let place = tempfile::tempdir().map_err(|error| error.to_string())?;
        let size = format!("size={SIZE}m");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(place.path()))?;
        Ok(Mount { place, _image: None })
    }

    fn ext4() -> Result<Mount, String> {
        let place = tempfile::tempdir().map_err(|error| error.to_string())?;
        let images = tempfile::tempdir().map_err(|error| error.to_string())?;
        let image: PathBuf = images.path().join("image");
        let file = fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(SIZE << 20).map_err(|error| error.to_string())?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(place.path()))?;
        Ok(Mount { place, _image: Some(images) })
    }

    /// Where a store may be made in it.
    pub fn path(&self) -> PathBuf {
        self.place.path().join("store")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(why) = run(Command::new("umount").arg("-l").arg(self.place.path())) {
            eprintln!("{why}");
        }
    }
}

/// A store beside what it should hold: by the number of a key, what its value
/// was made of.
struct Small {
    db: Db,
    entries: BTreeMap<u64, u64>,
    stamp: u64,
}

fn options() -> Options {
    Options::new().max_log_file(1 << 20).write_buffer(4 << 20)
}

const LENGTH: usize = 3_000;

impl Small {
    /// Inserts; says whether there was room.
    fn put(&mut self, i: u64) -> bool {
        self.stamp += 1;
        match self.db.insert(key(i), value(self.stamp, LENGTH)) {
            Ok(()) => {
                self.entries.insert(i, self.stamp);
                true
            }
            Err(error) => {
                assert!(is_full(&error), "{error}");
                assert_sentence(&error, "a small file system");
                false
            }
        }
    }

    /// Inserts as soon as there is room.
    fn put_patiently(&mut self, i: u64) {
        let start = Instant::now();
        while !self.put(i) {
            assert!(start.elapsed() < PATIENCE, "no room for key {i}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Removes; that may have to wait for a checkpoint or for the cleaner.
    fn remove_patiently(&mut self, i: u64) {
        let start = Instant::now();
        loop {
            match self.db.remove(key(i)) {
                Ok(removed) => {
                    assert!(removed, "key {i} was there");
                    self.entries.remove(&i);
                    return;
                }
                Err(error) => assert!(is_full(&error), "{error}"),
            }
            assert!(start.elapsed() < PATIENCE, "key {i} cannot be removed");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn fill(&mut self, from: u64) -> u64 {
        let end = (from..).find(|i| !self.put(*i));
        end.expect("some time it is full")
    }

    fn assert_whole(&self) {
        assert_eq!(self.db.len(), self.entries.len() as u64);
        for (&i, &stamp) in &self.entries {
            let found = self.db.get(key(i)).expect("get");
            assert!(found.as_deref() == Some(&value(stamp, LENGTH)[..]), "value of key {i}");
        }
        assert_clean(&self.db);
    }
}

/// Fills a file system, empties it by removing, and by others who make room.
fn fill_and_go_on(directory: &Path) {
    let db = options().open(directory).expect("create a store");
    let mut store = Small { db, entries: BTreeMap::new(), stamp: 0 };
    let end = store.fill(0);
    let bytes = end * LENGTH as u64;
    assert!(bytes > (SIZE << 20) / 4, "full after {bytes} bytes");
    store.assert_whole();

    // Removing works on a full device, and makes room, though half of every
    // file of the log is still alive.
    (0..end).step_by(2).for_each(|i| store.remove_patiently(i));
    store.assert_whole();
    (0..end / 8).for_each(|i| store.put_patiently(i));
    store.assert_whole();

    // Somebody else takes the rest, and gives it back.
    let ballast = directory.parent().expect("a parent").join("ballast");
    let mut file = fs::File::create(&ballast).expect("create the ballast");
    let taken = (0..).take_while(|_| file.write_all(&[7; 64 << 10]).is_ok()).count();
    drop(file);
    eprintln!("{end} entries fit; after removing half, others took {} KiB", taken * 64);
    let end = store.fill(100_000);
    store.assert_whole();
    fs::remove_file(&ballast).expect("remove the ballast");
    store.put_patiently(end);
    store.assert_whole();

    let Small { db, entries, stamp } = store;
    db.close().expect("close");
    let db = options().open(directory).expect("open again");
    Small { db, entries, stamp }.assert_whole();
}

#[test]
fn a_full_tmpfs_is_an_error_and_no_end() {
    match Mount::tmpfs() {
        Ok(mount) => fill_and_go_on(&mount.path()),
        Err(why) => eprintln!("skipped: no tmpfs can be mounted here: {why}"),
    }
}

#[test]
fn a_full_ext4_is_an_error_and_no_end() {
    match Mount::ext4() {
        Ok(mount) => fill_and_go_on(&mount.path()),
        Err(why) => eprintln!("skipped: no image of ext4 can be mounted here: {why}"),
    }
}
