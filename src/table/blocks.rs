//! Blocks: 4 KiB places in the table file.
//!
//! Writing is always to free blocks (shadow paging): nothing that a durable
//! header reaches is overwritten. So a block goes through these states:
//!
//! ```text
//! free --take--> used --die--> dying --checkpoint durable--> retired --epoch--> free
//! ```
//!
//! *dying*: replaced in memory, still reached by the header on disk; it dies
//! when the checkpoint that covers the replacement is durable. *retired*: no
//! header reaches it, but a late reader may look at it through the mapping
//! until the reuse epoch has advanced. Which checkpoint that is says [`dying`].
//!
//! A block is *reserved* before a commit is logged, one for each page and
//! directory page that becomes dirty, so that a checkpoint never finds the
//! device full. To reserve is to know that enough blocks are free and have
//! their space on the device; blocks get numbers only when they are taken.
//!
//! When no free block is left the file is doubled (sparse), and a new, doubled
//! mapping is published before any page word that needs it. Older mappings
//! stay until the table is closed: a reader that loaded a page word early
//! finds its block in any of them.
//!
//! A few blocks are kept in *reserve*, reserved for nobody: removals may take
//! from them when the device is full, so that a full store can be emptied.
//!
//! A large file is given space [`ahead`] of need.
//!
//! When there are many free blocks at the end of the file, their space is given
//! back, see [`tail`]. What snapshots hold is not free, see [`holds`].
//!
//! [`BlockMaps`] is the readers' half; [`Blocks`] belongs to the holder of the
//! writer lock.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::storage::File;
use crate::storage::epoch::ReuseEpoch;

use super::maps::BlockMaps;

pub(crate) mod ahead;
mod dying;
mod holds;
mod tail;

pub(crate) use tail::Bite;

/// A page word has 30 bits for the number of a block.
const MAX_BLOCKS: u32 = 1 << 30;
/// Blocks of a mebibyte: what an advance of the epoch should be worth.
const ADVANCE_AT: usize = 256;
/// Space is taken on the device in steps of at most 16 MiB.
const MAX_STEP: u32 = 4096;
/// Blocks kept for removals.
const KEPT: usize = 64;
/// The length of a new file in blocks.
pub(crate) const FIRST_BLOCKS: u32 = 16;

/// The table file and which of its blocks are free.
pub(crate) struct Blocks {
    file: Arc<dyn File>,
    path: PathBuf,
    maps: Arc<BlockMaps>,
    /// A bit per block of the file: free, or not yet given space.
    free: Vec<u64>,
    /// Free blocks below `allocated`.
    free_count: usize,
    /// No free block lies below this one.
    lowest: u32,
    /// The length of the file in blocks.
    total: u32,
    /// Blocks below this one have their space on the device.
    allocated: u32,
    /// Blocks from there up to this one may have space from before the opening.
    unknown: u32,
    ahead: ahead::TakingAhead,
    punching: Arc<tail::Punching>,
    reserved: usize,
    /// Blocks, among those reserved, that only urgent work may have.
    kept: usize,
    /// How many of those what is reserved now has to leave.
    leave: usize,
    retired: VecDeque<(u64, u32)>,
    dying: Vec<u32>,
    /// Every used block is dying: the table was cleared.
    all_dying: bool,
    /// What dies with the states that are frozen, the first of which is the one
    /// being written.
    frozen: VecDeque<dying::Dying>,
    /// Root and free map of the last header, once their successors have blocks.
    runs_dying: Vec<u32>,
    /// Runs that the checkpoint under way has taken: first block and length.
    runs_taken: Vec<(u32, u32)>,
    /// The blocks that the free map of the last header covers.
    covered: u32,
    /// What snapshots hold.
    holds: Vec<holds::Hold>,
    /// Nothing is ever written: reserving costs nothing.
    read_only: bool,
}

/// What of the file is in use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) total: u32,
    pub(crate) free: u32,
    /// Blocks below this one have their space on the device.
    pub(crate) allocated: u32,
    /// Blocks of the file behind those, which take no space.
    pub(crate) holes: u32,
}

impl Blocks {
    /// Opens the blocks of a file, of which `free` (a bit per block) is not in
    /// use; blocks beyond are free as well.
    pub(crate) fn open(
        file: Arc<dyn File>,
        path: PathBuf,
        mut free: Vec<u64>,
        covered: u32,
        read_only: bool,
    ) -> Result<Blocks> {
        let length = file.length().map_err(|e| Error::io("read the length of", &path, e))?;
        let whole = length / BLOCK as u64;
        if whole < u64::from(covered) {
            let expected = format!("{covered} blocks of {BLOCK} bytes");
            return Err(Error::corrupt(&path, length, "the end", expected, "truncated"));
        }
        let total = whole.min(u64::from(MAX_BLOCKS)) as u32;
        let map = file
            .map(u64::from(total) * BLOCK as u64, false)
            .map_err(|e| Error::io("map", &path, e))?;
        free.resize(total.div_ceil(64) as usize, 0);
        for block in covered..total {
            free[block as usize / 64] |= 1 << (block % 64);
        }
        let used = (0..total).rev().find(|b| free[*b as usize / 64] >> (b % 64) & 1 == 0);
        let allocated = used.map_or(0, |b| b + 1);
        let mut blocks = Blocks {
            file,
            path,
            maps: Arc::new(BlockMaps::new(map)),
            free,
            free_count: 0,
            lowest: 0,
            total,
            allocated,
            unknown: total,
            ahead: ahead::TakingAhead::default(),
            punching: Arc::default(),
            reserved: 0,
            kept: 0,
            leave: usize::MAX,
            retired: VecDeque::new(),
            dying: Vec::new(),
            all_dying: false,
            frozen: VecDeque::new(),
            runs_dying: Vec::new(),
            runs_taken: Vec::new(),
            covered,
            holds: Vec::new(),
            read_only,
        };
        blocks.free_count = (0..allocated).filter(|b| blocks.is_free(*b)).count();
        Ok(blocks)
    }

    pub(crate) fn maps(&self) -> &Arc<BlockMaps> {
        &self.maps
    }

    pub(crate) fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    fn is_free(&self, block: u32) -> bool {
        self.free[block as usize / 64] >> (block % 64) & 1 == 1
    }

    fn set_free(&mut self, block: u32) {
        // Only a file that contradicts itself, with checksums that hold, leads
        // here with a block that is free already, or behind all that is in use.
        let counted = block < self.allocated && !self.is_free(block);
        debug_assert!(counted || !cfg!(test));
        if !counted {
            return;
        }
        self.free[block as usize / 64] |= 1 << (block % 64);
        self.free_count += 1;
        self.lowest = self.lowest.min(block);
    }

    fn set_used(&mut self, block: u32) {
        debug_assert!(block < self.allocated && self.is_free(block));
        self.free[block as usize / 64] &= !(1 << (block % 64));
        self.free_count -= 1;
    }

    /// Sees to it that `n` more blocks can be taken without an error.
    pub(crate) fn reserve(&mut self, epoch: &ReuseEpoch, n: usize) -> Result<()> {
        let needed = self.reserved + n;
        if !self.read_only && self.free_count < needed {
            self.reclaim(epoch, self.worth_advancing());
            while self.free_count < needed {
                if let Err(error) = self.allocate(needed - self.free_count) {
                    self.reclaim(epoch, 1);
                    if self.free_count >= needed {
                        break;
                    }
                    return self.take_kept(n).ok_or(error);
                }
            }
        }
        self.reserved = needed;
        Ok(())
    }

    /// Turns kept blocks into reserved ones, for urgent work.
    fn take_kept(&mut self, n: usize) -> Option<()> {
        self.kept = self.kept.checked_sub(n).filter(|left| *left >= self.leave)?;
        Some(())
    }

    /// Keeps blocks for urgent work, as far as the device has them.
    pub(crate) fn keep(&mut self, epoch: &ReuseEpoch) {
        let missing = KEPT - self.kept;
        if self.reserve(epoch, missing).is_ok() {
            self.kept = KEPT;
        }
    }

    /// Says whether what follows is urgent: a removal, or a checkpoint.
    pub(crate) fn set_urgent(&mut self, urgent: bool) {
        self.leave = if urgent { 0 } else { usize::MAX };
    }

    /// Says whether what follows makes room: it may have half of the blocks
    /// that are kept for urgent work.
    pub(crate) fn set_tidying(&mut self, tidying: bool) {
        self.leave = if tidying { KEPT / 2 } else { usize::MAX };
    }

    /// Gives back what was reserved and is no longer needed.
    pub(crate) fn release(&mut self, n: usize) {
        debug_assert!(self.reserved >= n);
        self.reserved -= n;
    }

    /// How many blocks are reserved, beside those kept.
    #[cfg(test)]
    pub(crate) fn reserved(&self) -> usize {
        self.reserved - self.kept
    }

    /// Takes the lowest free block, in exchange for one reserved.
    pub(crate) fn take(&mut self) -> u32 {
        self.release(1);
        let mut word = self.lowest as usize / 64;
        while self.free[word] == 0 {
            word += 1;
        }
        let block = word as u32 * 64 + self.free[word].trailing_zeros();
        self.lowest = block;
        self.set_used(block);
        block
    }

    /// Takes `n` free blocks in a row, for a checkpoint: when the device is full
    /// it may have of those kept for urgent work.
    pub(crate) fn take_run(&mut self, epoch: &ReuseEpoch, n: u32) -> Result<u32> {
        loop {
            // The blocks of others stay reserved beside the run.
            let spare = self.free_count >= self.reserved + n as usize;
            if let Some(start) = self.find_run(n).filter(|_| spare) {
                return Ok(self.take_found(start, n));
            }
            self.reclaim(epoch, self.worth_advancing());
            if let Err(error) = self.allocate(n as usize) {
                self.reclaim(epoch, 1);
                let missing = (self.reserved + n as usize).saturating_sub(self.free_count);
                let found = self.find_run(n).filter(|_| missing <= self.kept);
                let start = found.ok_or(error)?;
                self.kept -= missing;
                self.reserved -= missing;
                return Ok(self.take_found(start, n));
            }
        }
    }

    /// The first of `n` free blocks in a row, if there are.
    fn find_run(&self, n: u32) -> Option<u32> {
        let mut start = self.lowest;
        let mut block = start;
        while block < self.allocated && block - start < n {
            block += 1;
            if !self.is_free(block - 1) {
                start = block;
            }
        }
        (block - start == n).then_some(start)
    }

    fn take_found(&mut self, start: u32, n: u32) -> u32 {
        (start..start + n).for_each(|block| self.set_used(block));
        self.runs_taken.push((start, n));
        start
    }

    /// Reserves a block that was just given back: there is one for it.
    pub(crate) fn reserve_again(&mut self) {
        self.reserved += 1;
    }

    /// A block that was taken but never reached by a header.
    pub(crate) fn give_back(&mut self, block: u32) {
        self.set_free(block);
    }

    /// Gives back the run that was taken last.
    pub(crate) fn give_back_run(&mut self) {
        if let Some((first, n)) = self.runs_taken.pop() {
            (first..first + n).for_each(|block| self.set_free(block));
        }
    }

    /// The blocks that the free map of the last header covers.
    pub(crate) fn covered(&self) -> u32 {
        self.covered
    }

    /// How many retired blocks are worth an advance of the epoch.
    fn worth_advancing(&self) -> usize {
        ADVANCE_AT.min(self.total as usize / 8)
    }

    /// Makes retired blocks free if that is worth it, so that the lowest ones
    /// are taken before others that have been free for longer.
    pub(crate) fn reclaim_worthwhile(&mut self, epoch: &ReuseEpoch) {
        self.reclaim(epoch, self.worth_advancing());
    }

    /// Makes retired blocks free, all of them if `enough` wait for the epoch to
    /// be advanced. Some may have been retired before the last advance, which
    /// does not help those behind them.
    pub(crate) fn reclaim(&mut self, epoch: &ReuseEpoch, enough: usize) {
        self.free_retired(epoch.read());
        if !self.retired.is_empty() && self.retired.len() >= enough {
            epoch.advance();
            self.free_retired(epoch.read());
        }
    }

    /// Makes free what was retired before an epoch.
    fn free_retired(&mut self, now: u64) {
        while let Some(&(then, block)) = self.retired.front()
            && then < now
        {
            self.set_free(block);
            self.retired.pop_front();
        }
    }

    /// Takes space on the device for at least `n` blocks, in bounded steps.
    fn allocate(&mut self, n: usize) -> Result<()> {
        let step = (self.allocated / 8).clamp(8, MAX_STEP).max(n.min(MAX_STEP as usize) as u32);
        while self.total - self.allocated < step {
            self.double()?;
        }
        let (offset, length) = (u64::from(self.allocated), u64::from(step));
        self.punching.wait();
        self.file
            .allocate(offset * BLOCK as u64, length * BLOCK as u64)
            .map_err(|e| Error::io("take space for", &self.path, e))?;
        self.count_allocated(step);
        Ok(())
    }

    /// So many more blocks have their space.
    fn count_allocated(&mut self, blocks: u32) {
        let until = self.allocated + blocks;
        self.free_count += (self.allocated..until).filter(|b| self.is_free(*b)).count();
        self.allocated = until;
    }

    /// Doubles the file and its mapping.
    fn double(&mut self) -> Result<()> {
        let total = (self.total * 2).min(MAX_BLOCKS);
        if total == self.total {
            let full = io::ErrorKind::FileTooLarge.into();
            return Err(Error::io("extend", &self.path, full));
        }
        let length = u64::from(total) * BLOCK as u64;
        self.file.set_length(length).map_err(|e| Error::io("extend", &self.path, e))?;
        let map = self.file.map(length, false).map_err(|e| Error::io("map", &self.path, e))?;
        self.maps.publish(map).map_err(|e| Error::io("map", &self.path, e))?;
        self.free.resize(total.div_ceil(64) as usize, 0);
        for block in self.total..total {
            self.free[block as usize / 64] |= 1 << (block % 64);
        }
        self.total = total;
        Ok(())
    }
}
