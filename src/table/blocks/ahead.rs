//! Space on the device that is taken ahead of need, in the background.
//!
//! Taking 16 MiB of space takes some milliseconds, and tens of them where the file
//! system is just committing its journal. A writer that runs out of blocks does it
//! with the writer lock held; after a checkpoint has frozen the table that is every
//! few thousand writes, for every page that is changed then wants a new block. So
//! for a large table file somebody in the background takes space before, without
//! the lock:
//!
//! ```text
//! begin_ahead (lock) ──► Ahead::take (no lock) ──► end_ahead (lock): `allocated` grows
//! ```
//!
//! Whatever happens in between is all right. If a writer has taken the same
//! space meanwhile, there is nothing to add. If the end of the file was given
//! back, what was taken lies behind what counts, and is given back with the
//! next checkpoint; but no hole is punched between begin and end, for it might
//! hit what is about to count as allocated.
//!
//! At most an eighth of what the file takes is taken ahead, and no more than 64
//! MiB. It goes back like any other free end: when the store comes to rest, and
//! when it is closed.

use std::sync::Arc;

use crate::format::BLOCK;
use crate::storage::File;

use super::{Blocks, MAX_STEP};

/// From this many blocks with their space on a file is large: 16 MiB.
const LARGE: u32 = MAX_STEP;
/// Free blocks that there should be in a large file at most: 64 MiB.
const MOST: u32 = 4 * MAX_STEP;

/// A step of space that is being taken.
pub(crate) struct Ahead {
    file: Arc<dyn File>,
    from: u32,
    blocks: u32,
}

impl Ahead {
    /// Takes the space; says whether the device had it.
    pub(crate) fn take(&self) -> bool {
        let (offset, length) = (u64::from(self.from), u64::from(self.blocks));
        self.file.allocate(offset * BLOCK as u64, length * BLOCK as u64).is_ok()
    }
}

/// What is known of taking space ahead.
#[derive(Default)]
pub(super) struct TakingAhead {
    /// Whether somebody is at it.
    pub(super) busy: bool,
    /// Where the device was full: it is not tried there again.
    refused_at: u32,
}

impl Blocks {
    /// Begins to take more space, if so few blocks of a large file are left that
    /// they may be needed before long.
    pub(crate) fn begin_ahead(&mut self) -> Option<Ahead> {
        let margin = (self.allocated / 8).min(MOST);
        let blocks = (margin / 2).min(MAX_STEP).min(self.total - self.allocated);
        let left = (self.free_count + self.retired.len()).saturating_sub(self.reserved);
        let wanted = self.allocated >= LARGE
            && left + blocks as usize <= margin as usize
            && blocks > 0
            && self.allocated != self.ahead.refused_at
            && !self.ahead.busy
            && !self.punching.is_on()
            && !self.read_only;
        self.ahead.busy |= wanted;
        wanted.then(|| Ahead { file: self.file.clone(), from: self.allocated, blocks })
    }

    /// It was taken, or could not be.
    pub(crate) fn end_ahead(&mut self, ahead: &Ahead, taken: bool) {
        if !Arc::ptr_eq(&self.file, &ahead.file) {
            // The table was dropped meanwhile, and another has its number.
            return;
        }
        self.ahead.busy = false;
        if !taken {
            self.ahead.refused_at = ahead.from;
        } else if self.allocated == ahead.from && !self.read_only {
            self.count_allocated(ahead.blocks);
        } else {
            self.unknown = self.unknown.max((ahead.from + ahead.blocks).min(self.total));
        }
    }
}
