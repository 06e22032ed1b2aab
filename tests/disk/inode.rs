//! One file: what its readers see, and what of it is on the medium.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use swissdb::storage::File;

use super::sparse::{BLOCK, Sparse};
use crate::support::Random;

/// What the medium writes as a whole, in bytes.
pub const SECTOR: usize = 512;

/// A file.
pub struct Inode {
    /// What everybody reads.
    pub cache: Arc<dyn File>,
    /// What was there at the last sync, or got there by itself since then.
    pub medium: Sparse,
    /// The lengths it has had since the last sync. The last one counts.
    pub lengths: Vec<u64>,
    /// Sectors that the next sync writes.
    pub dirty: BTreeSet<u64>,
    /// Sectors that a failed sync has dropped: no sync writes them any more.
    pub lost: BTreeSet<u64>,
    /// Blocks that take space.
    pub taken: Arc<BTreeSet<u64>>,
    /// Shared with all who have it open.
    pub handles: Arc<()>,
}

/// The sectors that a range of bytes touches.
pub fn sectors(offset: u64, length: u64) -> Range<u64> {
    offset / SECTOR as u64..(offset + length).div_ceil(SECTOR as u64)
}

/// The blocks that a range of bytes touches.
fn blocks(offset: u64, length: u64) -> Range<u64> {
    offset / BLOCK as u64..(offset + length).div_ceil(BLOCK as u64)
}

impl Inode {
    /// A new, empty file.
    pub fn new(cache: Arc<dyn File>) -> Inode {
        Inode {
            cache,
            medium: Sparse::default(),
            lengths: vec![0],
            dirty: BTreeSet::new(),
            lost: BTreeSet::new(),
            taken: Arc::default(),
            handles: Arc::default(),
        }
    }

    /// The length that everybody sees, in bytes.
    pub fn length(&self) -> u64 {
        self.lengths.last().copied().unwrap_or(0)
    }

    /// A sector as everybody sees it; zeros behind the end.
    pub fn sector(&self, sector: u64) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        let at = sector * SECTOR as u64;
        let inside = self.length().saturating_sub(at).min(SECTOR as u64) as usize;
        if inside > 0 {
            self.cache.read_at(&mut bytes[..inside], at).expect("read from memory");
        }
        bytes
    }

    /// Notes that bytes were changed.
    pub fn changed(&mut self, offset: u64, length: u64) {
        for sector in sectors(offset, length) {
            self.dirty.insert(sector);
            self.lost.remove(&sector);
        }
    }

    /// Sets another length.
    pub fn set_length(&mut self, length: u64) -> io::Result<()> {
        self.cache.set_length(length)?;
        let before = self.length();
        if length < before {
            self.changed(length, before - length);
            Arc::make_mut(&mut self.taken).split_off(&length.div_ceil(BLOCK as u64));
        }
        if length != before {
            self.lengths.push(length);
        }
        Ok(())
    }

    /// Makes it at least that long.
    pub fn extend(&mut self, length: u64) -> io::Result<()> {
        if length > self.length() { self.set_length(length) } else { Ok(()) }
    }

    /// Writes bytes.
    pub fn write(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.extend(offset + bytes.len() as u64)?;
        self.cache.write_at(bytes, offset)?;
        self.changed(offset, bytes.len() as u64);
        Ok(())
    }

    /// Gives space back, and zeros for it.
    pub fn punch(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.cache.punch(offset, length)?;
        let length = length.min(self.length().saturating_sub(offset));
        self.changed(offset, length);
        let whole = offset.div_ceil(BLOCK as u64)..(offset + length) / BLOCK as u64;
        Arc::make_mut(&mut self.taken).retain(|block| !whole.contains(block));
        Ok(())
    }

    /// The blocks of a range that take no space yet.
    pub fn untaken(&self, offset: u64, length: u64) -> Vec<u64> {
        blocks(offset, length).filter(|block| !self.taken.contains(block)).collect()
    }

    /// Brings everything to the medium.
    pub fn sync(&mut self) -> io::Result<()> {
        self.write_back(|_| true);
        self.lengths = vec![self.length()];
        Ok(())
    }

    /// Brings some of the changed sectors to the medium, as they are now.
    pub fn write_back(&mut self, mut which: impl FnMut(u64) -> bool) {
        let written: Vec<u64> = self.dirty.iter().copied().filter(|at| which(*at)).collect();
        if self.medium.length() != self.length() {
            // Sectors lie within a length. The old one stays possible.
            if !self.lengths.contains(&self.medium.length()) {
                self.lengths.insert(0, self.medium.length());
            }
            self.medium.set_length(self.length());
        }
        for sector in written {
            let bytes = self.sector(sector);
            self.medium.set_sector(sector, &bytes);
            self.dirty.remove(&sector);
        }
    }

    /// A sync that fails: see [`super`].
    pub fn fail_sync(&mut self, random: &mut Random) {
        self.write_back(|_| random.one_in(2));
        self.lost.append(&mut self.dirty);
    }

    /// The cache forgets what a failed sync has dropped, here and there.
    pub fn forget_lost(&mut self, random: &mut Random) {
        let length = self.length();
        for sector in std::mem::take(&mut self.lost) {
            let at = sector * SECTOR as u64;
            if random.one_in(2) || at >= length {
                self.lost.insert(sector);
                continue;
            }
            let inside = SECTOR.min((length - at) as usize);
            let bytes = self.medium.sector(sector);
            self.cache.write_at(&bytes[..inside], at).expect("write to memory");
        }
    }

    /// What power loss leaves while the sectors `under_way` are being written.
    /// `torn`: garbage only replaces bytes that the write changes.
    pub fn power_loss(&self, random: &mut Random, under_way: &Range<u64>, torn: bool) -> Sparse {
        let mut left = self.medium.clone();
        let chosen = random.below(self.lengths.len() as u64 + 1) as usize;
        let length = self.lengths.get(chosen).copied().unwrap_or(self.length());
        left.set_length(length);
        // Sometimes hardly anything was written, sometimes nearly all.
        let odds = [0, 8, random.below(9)][random.below(3) as usize];
        for &sector in self.dirty.iter().take_while(|at| *at * (SECTOR as u64) < length) {
            if under_way.contains(&sector) && random.one_in(4) {
                let garbage = garbage(&left.sector(sector), &self.sector(sector), torn, random);
                left.set_sector(sector, &garbage);
            } else if random.below(8) < odds {
                left.set_sector(sector, &self.sector(sector));
            }
        }
        left
    }
}

/// A sector that was cut off while it was being written.
fn garbage(
    old: &[u8; SECTOR],
    new: &[u8; SECTOR],
    torn: bool,
    random: &mut Random,
) -> [u8; SECTOR] {
    let mut bytes = *new;
    for at in 0..SECTOR {
        if !torn || old[at] != new[at] {
            bytes[at] = random.next() as u8;
        }
    }
    bytes
}
