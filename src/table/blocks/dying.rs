//! Blocks that die: replaced in memory, still reached by a header.
//!
//! What died before a checkpoint froze the table dies with it: when it is
//! durable no header reaches these blocks any more. What dies later waits for
//! the next one. There may be several states that are frozen, one behind the
//! other, of which the first is being written: each has its own dying blocks.
//!
//! ```text
//! die ──► dying ──freeze──► dying of the last frozen state ... of the first one ──settle──► retired
//!                                         '──────── thaw ────────'──► dying again
//! ```
//!
//! A block that the first one wrote may have died before its header was
//! durable. Then it dies with the first state that does not see it any more.

use crate::storage::epoch::ReuseEpoch;

use super::Blocks;

/// What dies with a state that is frozen.
pub(super) struct Dying {
    generation: u64,
    blocks: Vec<u32>,
    /// Whether it is every block of the last header.
    all: bool,
}

impl Blocks {
    /// A used block is no longer what memory says; the header still reaches it.
    pub(crate) fn die(&mut self, block: u32) {
        self.dying.push(block);
    }

    /// A block that the checkpoint under way has written was replaced already,
    /// in this generation: the first state that was frozen since then does not
    /// see it any more.
    pub(crate) fn die_as_of(&mut self, block: u32, generation: u64) {
        match self.frozen.iter_mut().skip(1).find(|frozen| generation <= frozen.generation) {
            Some(frozen) => frozen.blocks.push(block),
            None => self.dying.push(block),
        }
    }

    /// All used blocks are no longer what memory says. Nothing may be frozen.
    pub(crate) fn all_die(&mut self) {
        debug_assert!(self.frozen.is_empty());
        self.all_dying = true;
        self.dying.clear();
    }

    /// How many blocks wait for the next checkpoint because the table was cleared.
    pub(crate) fn left_by_clear(&self) -> u32 {
        match self.all_dying {
            true => self.used().saturating_sub(self.held_count() as u32),
            false => 0,
        }
    }

    /// A state is frozen: what is dying now dies with its checkpoint.
    pub(crate) fn freeze(&mut self, generation: u64) {
        let all = std::mem::take(&mut self.all_dying);
        let blocks = if all {
            debug_assert!(self.frozen.is_empty());
            let retired = self.retired.iter().map(|(_, block)| *block);
            let over: std::collections::HashSet<u32> = retired.chain(self.held()).collect();
            let used = (2..self.allocated).filter(|b| !self.is_free(*b) && !over.contains(b));
            let used = used.collect();
            self.dying.clear();
            used
        } else {
            std::mem::take(&mut self.dying)
        };
        self.frozen.push_back(Dying { generation, blocks, all });
    }

    /// A block of the last header that the checkpoint under way replaces
    /// whatever became dirty: of the root, or of the free map.
    pub(crate) fn die_with_checkpoint(&mut self, block: u32) {
        if !self.frozen.front().is_some_and(|frozen| frozen.all) {
            self.runs_dying.push(block);
        }
    }

    /// The checkpoint under way failed: what should have died with it, and with
    /// those that wait behind it, waits for the next.
    pub(crate) fn thaw(&mut self) {
        self.runs_dying.clear();
        while !self.runs_taken.is_empty() {
            self.give_back_run();
        }
        for mut frozen in std::mem::take(&mut self.frozen) {
            self.all_dying |= frozen.all;
            self.dying.append(&mut frozen.blocks);
        }
        if self.all_dying {
            self.dying.clear();
        }
    }

    /// The checkpoint is durable: what died with it may be reused.
    pub(crate) fn settle(&mut self, epoch: &ReuseEpoch, covered: u32) {
        let mut dead = self.frozen.pop_front().map_or(Vec::new(), |frozen| frozen.blocks);
        dead.append(&mut self.runs_dying);
        self.runs_taken.clear();
        self.covered = covered;
        self.retire(epoch, dead);
    }

    /// The free map as the checkpoint under way makes it true.
    pub(crate) fn free_map(&self) -> Vec<u64> {
        let mut words = self.free_on_disk();
        let frozen = self.frozen.front().map_or(&[][..], |frozen| &frozen.blocks);
        for block in frozen.iter().chain(&self.runs_dying) {
            words[*block as usize / 64] |= 1 << (block % 64);
        }
        words
    }

    /// The free map as the last header makes it true, but for what a checkpoint
    /// under way has taken since.
    pub(super) fn free_on_disk(&self) -> Vec<u64> {
        let mut words = self.free.clone();
        let retired = self.retired.iter().map(|(_, block)| *block);
        for block in retired.chain(self.held()) {
            words[block as usize / 64] |= 1 << (block % 64);
        }
        words
    }
}
