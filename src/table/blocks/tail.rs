//! The end of the table file: space that nothing uses goes back to the device.
//!
//! ```text
//! |  used and free blocks   |    free     |  never used, or given back  |
//! 0                      highest      allocated                       total
//!                                 '-- the tail
//! ```
//!
//! Blocks are taken from the lowest on, so after many removals the tail is
//! free. Giving it back lowers `allocated`, first, and then punches a hole;
//! taking blocks again takes their space again. The length of the file, and
//! its mappings, stay as they are: only closing the store truncates it, when
//! nobody reads any more. What a process that was killed had taken ahead of
//! use is given back after the first checkpoint of the next one.
//!
//! # Why readers may come across a hole
//!
//! A block is punched only when it is free, that is: after the reuse epoch has
//! advanced since it was retired, and that advance ends with a full fence. A
//! reader that still looks at it through the mapping, because it loaded the
//! page word before, finds zeros, which is a page as good as any other that it
//! does not want: it finds the epoch changed and starts over, exactly as if the
//! block had been written for another page. Zeros lead nowhere outside of the
//! page, and no damage is reported before the epoch has validated the read.
//! The writer never reads a free block.
//!
//! # Why it needs no writer lock
//!
//! Punching takes its time: on a device that is told what is free, 60 to 90 ms
//! were measured for 2 MiB, for which each writer waited. So the lock is held only
//! to lower `allocated`; then the hole is punched without it:
//!
//! ```text
//! begin_giving_back (lock): `allocated` falls ──► Bite::punch (no lock) ──► the bite is dropped
//! ```
//!
//! Meanwhile the blocks are free, but above `allocated`, so nobody takes one
//! without taking its space first; and whoever takes space for this file waits
//! until the bite is dropped. That is a writer that has just run out of blocks
//! where many were free a moment ago. Space is not taken ahead, and no other bite
//! is begun. A store is not closed before it is over: whoever opens it next would
//! not know of it.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::free_map::free_map_blocks;
use crate::format::header::Run;
use crate::storage::File;
use crate::storage::epoch::ReuseEpoch;

use super::{Blocks, FIRST_BLOCKS, Usage};

/// Blocks whose space is given back with one call, at most: 2 MiB. Whoever needs
/// space meanwhile waits for the end of the call.
const BITE: u32 = 512;

/// The highest bit below `end` that is zero.
fn highest_zero(words: &[u64], end: u32) -> Option<u32> {
    let last = end.checked_sub(1)?;
    let mut unwanted = !(u64::MAX >> (63 - last % 64));
    for number in (0..=last / 64).rev() {
        let zeros = !(words[number as usize] | unwanted);
        if zeros != 0 {
            return Some(number * 64 + zeros.ilog2());
        }
        unwanted = 0;
    }
    None
}

/// Blocks whose space goes back to the device. Until it is gone, or this is
/// dropped, nobody takes space for the file.
pub(crate) struct Bite {
    file: Arc<dyn File>,
    path: PathBuf,
    from: u32,
    blocks: u32,
    punching: Arc<Punching>,
}

impl Bite {
    /// How many blocks it has.
    pub(crate) fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Punches the hole. Takes a tenth of a millisecond, and up to a hundred where
    /// the file system tells the device what is free.
    ///
    /// # Errors
    ///
    /// `Io`. Nothing is lost then but perhaps space.
    pub(crate) fn punch(self) -> Result<()> {
        let (offset, length) = (u64::from(self.from), u64::from(self.blocks));
        let punched = self.file.punch(offset * BLOCK as u64, length * BLOCK as u64);
        punched.map_err(|e| Error::io("give back the space of", &self.path, e))
    }
}

impl Drop for Bite {
    fn drop(&mut self) {
        self.punching.set(false);
    }
}

/// Whether a hole is being punched into the file.
#[derive(Default)]
pub(crate) struct Punching {
    on: Mutex<bool>,
    over: Condvar,
}

impl Punching {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.on.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_on(&self) -> bool {
        *self.lock()
    }

    fn set(&self, on: bool) {
        *self.lock() = on;
        self.over.notify_all();
    }

    /// Waits until it is over: one bite at most.
    pub(crate) fn wait(&self) {
        let on = self.over.wait_while(self.lock(), |on| *on);
        drop(on.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Blocks {
    /// What of the file is in use: reached from memory or from a header, those
    /// of the headers included. What only late readers look at is not.
    pub(crate) fn usage(&self) -> Usage {
        let free: u32 = self.free.iter().map(|word| word.count_ones()).sum();
        let free = free + self.retired.len() as u32;
        let holes = self.total - self.allocated;
        Usage { total: self.total, free, allocated: self.allocated, holes }
    }

    /// Blocks in use.
    pub(crate) fn used(&self) -> u32 {
        self.allocated - self.free_count as u32 - self.retired.len() as u32
    }

    /// The highest block in use. Costs a look at a bit for each block of the
    /// file, at most.
    pub(crate) fn highest_used(&self) -> u32 {
        highest_zero(&self.free_soon(), self.allocated).unwrap_or(1)
    }

    /// A bit for each block: whether it is free, or waits for late readers.
    fn free_soon(&self) -> Cow<'_, [u64]> {
        let mut words = Cow::Borrowed(&self.free[..]);
        for (_, block) in &self.retired {
            words.to_mut()[*block as usize / 64] |= 1 << (block % 64);
        }
        words
    }

    /// Blocks of the file that have their space on the device.
    pub(crate) fn allocated(&self) -> u32 {
        self.allocated
    }

    /// Gives space at the end of the file back to the device, if that is at
    /// least that of `enough` blocks: at most 512 of them, a [bite](Bite).
    /// Returns how many. Reserved blocks keep their space. Waits if somebody else
    /// is at it.
    ///
    /// # Errors
    ///
    /// `Io` from punching the hole. Nothing is lost then but perhaps space.
    pub(crate) fn give_back_tail(&mut self, epoch: &ReuseEpoch, enough: u32) -> Result<u32> {
        self.punching.wait();
        let Some(bite) = self.begin_giving_back(epoch, enough) else {
            return Ok(0);
        };
        let blocks = bite.blocks();
        bite.punch().map(|()| blocks)
    }

    /// The same, but for the hole, which the caller may punch without the writer
    /// lock. `None`: nothing is to be given back now.
    pub(crate) fn begin_giving_back(&mut self, epoch: &ReuseEpoch, enough: u32) -> Option<Bite> {
        // Before the epoch is advanced: would it be enough?
        let tail = self.allocated - (self.highest_used() + 1).min(self.allocated);
        if self.may_not_punch() || tail < enough {
            return None;
        }
        self.reclaim(epoch, 1);
        debug_assert!(self.retired.is_empty(), "what late readers look at is not given back");
        let unreserved = self.free_count.saturating_sub(self.reserved);
        let tail = tail.min(unreserved as u32);
        if tail == 0 || tail < enough {
            return None;
        }
        let blocks = tail.min(BITE);
        self.allocated -= blocks;
        self.free_count -= blocks as usize;
        Some(self.bite(self.allocated, blocks))
    }

    /// Begins to give back what lies behind the allocated blocks and was taken
    /// before the store was opened: nobody knows how much that is. A bite of it,
    /// as [`begin_giving_back`](Self::begin_giving_back). To be called when no
    /// header reaches blocks there any more: after a checkpoint.
    pub(crate) fn begin_giving_back_unknown(&mut self) -> Option<Bite> {
        if self.may_not_punch() || self.unknown <= self.allocated {
            return None;
        }
        let blocks = (self.unknown - self.allocated).min(BITE);
        self.unknown -= blocks;
        Some(self.bite(self.unknown, blocks))
    }

    /// What was taken before the store was opened is not given back any more: the
    /// file system does not do it.
    pub(crate) fn forget_unknown(&mut self) {
        self.unknown = 0;
    }

    /// The hole that somebody punches into the file now, to wait for its end.
    pub(crate) fn punched(&self) -> Option<Arc<Punching>> {
        self.punching.is_on().then(|| self.punching.clone())
    }

    fn may_not_punch(&self) -> bool {
        self.read_only || self.ahead.busy || self.punching.is_on()
    }

    fn bite(&self, from: u32, blocks: u32) -> Bite {
        self.punching.set(true);
        let (file, path, punching) = (self.file.clone(), self.path.clone(), self.punching.clone());
        Bite { file, path, from, blocks, punching }
    }

    /// Takes the run for the free map of the checkpoint under way, for which
    /// everything else has been taken. Returns its first block, and how many
    /// blocks it is to cover: all that there are; or those up to the last one
    /// in use, if it is the `last` before the store is closed.
    ///
    /// How many it covers depends on where it lies: taking it may double the
    /// file, or move the last block in use. Both only ever ask for a longer one.
    ///
    /// # Errors
    ///
    /// `Io` if the device is full.
    pub(crate) fn take_map_run(&mut self, epoch: &ReuseEpoch, last: bool) -> Result<(u32, u32)> {
        let mut covered = if last { self.end_of_use() } else { self.total };
        loop {
            let length = free_map_blocks(covered);
            let first = self.take_run(epoch, length)?;
            covered = if last { self.end_of_use() } else { self.total };
            if free_map_blocks(covered) == length {
                return Ok((first, covered));
            }
            self.give_back_run();
        }
    }

    /// Where the file may end once the checkpoint under way is durable: behind
    /// the last block that its header reaches.
    fn end_of_use(&self) -> u32 {
        let last = highest_zero(&self.free_map(), self.total).unwrap_or(1);
        (last + 1).max(FIRST_BLOCKS.min(self.total))
    }

    /// Whether a table that did not change should be written all the same
    /// before it is closed, because its file would be much shorter then.
    pub(crate) fn is_worth_cutting(&self, runs: [Run; 2]) -> bool {
        let mut words = self.free_map();
        let dying = self.dying.iter().copied();
        let of_runs = runs.iter().flat_map(|run| run.block..run.block + run.blocks);
        for block in dying.chain(of_runs) {
            words[block as usize / 64] |= 1 << (block % 64);
        }
        // The runs have to go elsewhere, perhaps behind everything else.
        let runs: u32 = runs.iter().map(|run| 2 * run.blocks).sum();
        let end = highest_zero(&words, self.total).unwrap_or(1) + 1 + runs;
        let cut = self.covered.saturating_sub(end);
        cut >= 16 && cut >= self.covered / 8
    }

    /// Truncates the file behind what the last header covers. Nobody may read
    /// it any more, and it is not written to again.
    ///
    /// # Errors
    ///
    /// `Io`. The file is as long as it was then.
    pub(crate) fn cut(&mut self, epoch: &ReuseEpoch) -> Result<()> {
        let end = self.covered.max(FIRST_BLOCKS);
        if self.read_only || end >= self.total {
            return Ok(());
        }
        self.punching.wait();
        self.reclaim(epoch, 1);
        let length = u64::from(end) * BLOCK as u64;
        self.file.set_length(length).map_err(|e| Error::io("truncate", &self.path, e))?;
        self.free.truncate(end.div_ceil(64) as usize);
        if let Some(last) = self.free.last_mut().filter(|_| !end.is_multiple_of(64)) {
            *last &= !(u64::MAX << (end % 64));
        }
        self.total = end;
        self.allocated = self.allocated.min(end);
        self.free_count = (0..self.allocated).filter(|block| self.is_free(*block)).count();
        self.read_only = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::highest_zero;

    #[test]
    fn the_highest_zero_is_found_in_any_word() {
        assert_eq!(highest_zero(&[0, 0], 0), None);
        for end in 1..=192 {
            assert_eq!(highest_zero(&[0; 3], end), Some(end - 1));
            assert_eq!(highest_zero(&[u64::MAX; 3], end), None);
            for block in 0..end {
                let mut words = [u64::MAX; 3];
                words[block as usize / 64] &= !(1 << (block % 64));
                assert_eq!(highest_zero(&words, end), Some(block));
                assert_eq!(highest_zero(&words, block), None);
            }
        }
    }
}
