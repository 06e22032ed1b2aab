//! What the files take: filled, overwritten three times, three quarters
//! removed, compacted.
//!
//! After each phase the store is settled and left alone until its files have not
//! changed in size for a while: what background threads give back counts for the
//! store. The size is what the file system says that the files take (blocks, not
//! lengths).

use std::path::Path;
use std::time::{Duration, Instant};

use super::{BATCH, Child, fill_unmeasured};
use crate::Outcome;
use crate::compare::entries::{Key, Shape};
use crate::compare::store::Store;

/// The longest that a store may go on changing its files.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long its files have to stay as they are: longer than a store waits until it
/// takes itself for idle (5 s with swissdb), and than what it then does takes.
const REST: Duration = Duration::from_secs(12);

/// Who measures for less than this wants a quick look, and no rest as long.
const QUICK: Duration = Duration::from_secs(1);

/// The phases, and how many bytes are left on the disk after each.
pub fn run<S: Store>(child: &Child) -> Outcome {
    let shape = child.shape(16, 32);
    let mut store: S = child.open(shape, false)?;
    fill_unmeasured(&mut store, shape, 0)?;
    told(child, "filled", shape, shape.entries)?;
    for version in 1..=3 {
        fill_unmeasured(&mut store, shape, version)?;
    }
    told(child, "overwritten", shape, shape.entries)?;
    let left = thin(&mut store, shape)?;
    store.settle()?;
    told(child, "thinned", shape, left)?;
    match store.compact()? {
        true => told(child, "compacted", shape, left)?,
        false => child.whose.skipped("space", "compacted: it has no call for that")?,
    }
    let kept = super::sample(shape.entries).filter(|number| number.is_multiple_of(4));
    super::require(&mut store, shape, kept, 3)?;
    store.close()
}

/// Removes three of four entries; says how many are left.
fn thin<S: Store>(store: &mut S, shape: Shape) -> Outcome<u64> {
    let mut keys: Vec<Key> = Vec::new();
    let mut removed = 0;
    for number in (0..shape.entries).filter(|number| !number.is_multiple_of(4)) {
        keys.push(shape.key(number));
        removed += 1;
        if keys.len() == BATCH {
            store.remove_all(&keys)?;
            keys.clear();
        }
    }
    store.remove_all(&keys)?;
    Ok(shape.entries - removed)
}

/// Waits until the files do not change any more, and tells their size.
fn told(child: &Child, phase: &str, shape: Shape, entries: u64) -> Outcome {
    let rest = if child.span < QUICK { child.span * 2 } else { REST };
    let start = Instant::now();
    let mut last = (disk_bytes(&child.path)?, Instant::now());
    while last.1.elapsed() < rest && start.elapsed() < PATIENCE {
        std::thread::sleep(rest / 10);
        let now = disk_bytes(&child.path)?;
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
    child.whose.size("space", phase, shape, entries, last.0)
}

/// The bytes that the files of a directory take on the disk.
pub fn disk_bytes(directory: &Path) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        // A file that is removed just now takes nothing.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += match metadata.is_dir() {
            true => disk_bytes(&entry.path()).unwrap_or(0),
            false => metadata.blocks() * 512,
        };
    }
    Ok(bytes)
}
