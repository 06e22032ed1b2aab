//! Files that are kept for the time when the device is full.
//!
//! On a full device entries can be removed, and what is alive in a file of
//! mostly garbage can be put elsewhere: both give space back, and both need
//! log first. So two files that hold nothing are kept, each a fourth of an
//! ordinary one. Only an urgent record may have one of them: a removal, a
//! clearing, an entry that the cleaner moves.
//!
//! ```text
//!  ordinary records        ├── active ──┤ 64 KiB │   prepared
//!  urgent ones             ├── active ───────────┤   prepared   reserve   reserve
//! ```
//!
//! Two, because the log of many removals goes from one to the other: when the
//! second is in use, a checkpoint lets the first one go, and it is kept again.
//! What the cleaner can move on a full device is a file whose live entries fit
//! one of them.
//!
//! A file from the reserve that is in use is for urgent records alone, until
//! the reserve is whole again; and once something was taken from it, no other
//! file is prepared before that. Whatever becomes a spare fills it up then.
//!
//! The keeper makes the reserve, after the file ahead, and larger ones when
//! files have grown. It is removed when the store is closed or compacted, and
//! recycled after a crash like everything else that was prepared. Guarded by
//! the lock of [`Next`].

use super::files::Spare;
use super::prepare::Next;
use super::{Log, MIN_FILE, lock};
use crate::error::Result;

/// How many files are kept.
const FILES: usize = 2;

/// The files that are kept.
#[derive(Default)]
pub(super) struct Reserve {
    pub(super) files: Vec<Spare>,
    /// Whether one was taken since it was whole.
    pub(super) spent: bool,
}

impl Reserve {
    /// Whether nothing is missing.
    pub(super) fn is_whole(&self) -> bool {
        self.files.len() >= FILES
    }

    /// Whether ordinary files may be prepared, and records put into them.
    pub(super) fn allows_more(&self) -> bool {
        !self.spent || self.is_whole()
    }

    fn add(&mut self, spare: Spare) {
        self.files.push(spare);
        self.spent &= !self.is_whole();
    }

    /// Takes the smallest file in which a record has that much room.
    fn take(&mut self, least: u64) -> Option<Spare> {
        let files = self.files.iter().enumerate().filter(|(_, spare)| spare.size >= least);
        let (at, _) = files.min_by_key(|(_, spare)| spare.size)?;
        self.spent = true;
        Some(self.files.swap_remove(at))
    }
}

impl Next {
    /// How large the files of the reserve should be at least.
    fn reserve_size(&self, max_file: u64) -> u64 {
        (self.grown / 4).clamp(MIN_FILE.min(max_file), max_file)
    }

    /// Fills the reserve up with spares. Makes room for larger ones.
    pub(super) fn refill_reserve(&mut self, max_file: u64) {
        while !self.reserve.is_whole() {
            let whole =
                |spare: &&Spare| spare.trimmed == 0 && (MIN_FILE..=max_file).contains(&spare.size);
            let Some(largest) = self.spares.iter().filter(whole).max_by_key(|s| s.size).copied()
            else {
                return;
            };
            self.spares.retain(|spare| *spare != largest);
            self.reserve.add(largest);
        }
    }

    /// The size of a file that the reserve lacks.
    fn reserve_lacks(&self, max_file: u64) -> Option<u64> {
        let size = self.reserve_size(max_file);
        let large = self.reserve.files.iter().filter(|spare| spare.size >= size).count();
        (large < FILES).then_some(size)
    }
}

impl Log {
    /// Whether records that are not urgent may go into a file that was taken
    /// from the reserve.
    pub(super) fn reserve_is_whole(&self) -> bool {
        lock(&self.next).reserve.is_whole()
    }

    /// Whether ordinary files may be prepared; else the reserve has to be
    /// filled first.
    pub(super) fn reserve_allows_more(&self) -> bool {
        lock(&self.next).reserve.allows_more()
    }

    /// Makes the reserve whole, with files as large as they should be. Only
    /// for whoever prepares.
    pub(super) fn fill_reserve(&self, go_on: &dyn Fn() -> Result<()>) -> Result<()> {
        loop {
            let lacks = {
                let mut next = lock(&self.next);
                next.refill_reserve(self.options.max_file);
                next.reserve_lacks(self.options.max_file)
            };
            let Some(size) = lacks else {
                return Ok(());
            };
            let fresh = self.prepare(size, size, go_on)?;
            let mut next = lock(&self.next);
            next.reserve.add(fresh.spare());
            if next.reserve.files.len() > FILES {
                let smallest = next.reserve.files.iter().enumerate().min_by_key(|(_, s)| s.size);
                let at = smallest.map_or(0, |(at, _)| at);
                let small = next.reserve.files.swap_remove(at);
                next.spares.push(small);
            }
        }
    }

    /// Takes a file from the reserve in which a record has that much room.
    pub(super) fn take_reserve(&self, least: u64) -> Option<Spare> {
        lock(&self.next).reserve.take(least)
    }

    /// Says that the reserve may be missing: the log goes on after a crash.
    pub(super) fn doubt_reserve(&self) {
        lock(&self.next).reserve.spent = true;
    }

    /// The room for urgent records in one file of the reserve, in bytes: what
    /// the cleaner can move on a full device.
    pub(crate) fn reserve_room(&self) -> u64 {
        let next = lock(&self.next);
        next.reserve.files.iter().map(|spare| spare.size).min().unwrap_or(0)
    }
}
