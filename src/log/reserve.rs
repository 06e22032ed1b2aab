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
//! A keeper makes the reserve, after the file ahead, and larger ones when
//! files have grown, as long as nobody asks for the next file. A store that
//! comes to rest makes it small again ([`small`](super::small)). It is removed
//! when the store is closed or compacted, and recycled after a crash like
//! everything else that was prepared. Guarded by the lock of the next file.

use super::files::Spare;
use super::pace::GoOn;
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

    /// Fills up with spares.
    pub(super) fn refill(&mut self, spares: &mut Vec<Spare>, max_file: u64) {
        while !self.is_whole() {
            let suits =
                |spare: &&Spare| spare.trimmed == 0 && (MIN_FILE..=max_file).contains(&spare.size);
            let Some(largest) = spares.iter().filter(suits).max_by_key(|s| s.size).copied() else {
                return;
            };
            spares.retain(|spare| *spare != largest);
            self.add(largest);
        }
    }

    /// Takes the smallest file out if there is one too many.
    fn surplus(&mut self) -> Option<Spare> {
        if self.files.len() <= FILES {
            return None;
        }
        let smallest = self.files.iter().enumerate().min_by_key(|(_, spare)| spare.size)?;
        Some(self.files.swap_remove(smallest.0))
    }

    /// Whether files of that size are missing.
    fn lacks(&self, size: u64) -> bool {
        self.files.iter().filter(|spare| spare.size >= size).count() < FILES
    }

    /// Whether a file is larger than that.
    pub(super) fn has_larger(&self, size: u64) -> bool {
        self.files.iter().any(|spare| spare.size > size)
    }

    /// Puts a file in the place of the largest, which is handed out; the file
    /// itself if none is larger.
    pub(super) fn replace_larger(&mut self, small: Spare) -> Spare {
        let larger = self.files.iter_mut().filter(|spare| spare.size > small.size);
        match larger.max_by_key(|spare| spare.size) {
            Some(largest) => std::mem::replace(largest, small),
            None => small,
        }
    }

    /// Takes the smallest file in which a record has that much room.
    fn take(&mut self, least: u64) -> Option<Spare> {
        let files = self.files.iter().enumerate().filter(|(_, spare)| spare.size >= least);
        let (at, _) = files.min_by_key(|(_, spare)| spare.size)?;
        self.spent = true;
        Some(self.files.swap_remove(at))
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
    pub(super) fn fill_reserve(&self, go_on: &GoOn<'_>) -> Result<()> {
        let max_file = self.options.max_file;
        loop {
            let asked = self.is_asked_for_file();
            let size = {
                let mut next = lock(&self.next);
                next.refill_reserve(max_file);
                let size = (next.grown / 4).clamp(MIN_FILE.min(max_file), max_file);
                // Larger files than there are can wait.
                let enough = asked && next.reserve.is_whole();
                if enough || !next.reserve.lacks(size) {
                    return Ok(());
                }
                size
            };
            let fresh = self.prepare_filled(size, size, go_on)?;
            let mut next = lock(&self.next);
            next.reserve.add(fresh.spare());
            let surplus = next.reserve.surplus();
            next.spares.extend(surplus);
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
