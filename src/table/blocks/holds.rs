//! Blocks that snapshots hold.
//!
//! A snapshot sees a table as a checkpoint made it durable. What that
//! checkpoint reaches it *holds*, a bit for each block. As long as the table
//! uses such a block too, that costs nothing. When the block has died, and
//! could be free, it is put aside instead, with the oldest snapshot that holds
//! it, until that lets go; then with the next one that holds it; then it is
//! free.
//!
//! ```text
//! dying ──checkpoint durable──► held by a snapshot ──let go──► retired ──► free
//! ```
//!
//! So one snapshot costs the blocks that were replaced since, once each, and
//! blocks that came later are reused as ever. The free map in the file says
//! that held blocks are free: a snapshot does not outlive its process.

use crate::storage::epoch::ReuseEpoch;

use super::Blocks;

/// What one snapshot holds.
pub(super) struct Hold {
    owner: u64,
    /// A bit for each block.
    used: Vec<u64>,
    /// Those of them that nobody else needs.
    blocks: Vec<u32>,
}

impl Hold {
    fn holds(&self, block: u32) -> bool {
        self.used.get(block as usize / 64).is_some_and(|word| word >> (block % 64) & 1 == 1)
    }
}

impl Blocks {
    /// Holds what the checkpoint under way reaches. Its pages, root and free
    /// map have been written, and nothing has been settled yet. If it has not
    /// `written` this table, which did not change, that is what the last header
    /// reaches: the first state that is frozen then is a later one.
    pub(crate) fn hold(&mut self, owner: u64, written: bool) {
        let free = if written { self.free_map() } else { self.free_on_disk() };
        let used = free.into_iter().map(|free| !free).collect();
        self.holds.push(Hold { owner, used, blocks: Vec::new() });
    }

    /// A snapshot is gone: what it alone held may be reused.
    pub(crate) fn let_go(&mut self, epoch: &ReuseEpoch, owner: u64) {
        let Some(at) = self.holds.iter().position(|hold| hold.owner == owner) else {
            return;
        };
        let hold = self.holds.remove(at);
        self.retire(epoch, hold.blocks);
    }

    /// Blocks that no header reaches: free soon, unless a snapshot holds them.
    pub(super) fn retire(&mut self, epoch: &ReuseEpoch, dead: Vec<u32>) {
        let now = epoch.read();
        for block in dead {
            match self.holds.iter_mut().find(|hold| hold.holds(block)) {
                Some(hold) => hold.blocks.push(block),
                None => self.retired.push_back((now, block)),
            }
        }
    }

    /// How many blocks only snapshots need.
    pub(crate) fn held_count(&self) -> usize {
        self.holds.iter().map(|hold| hold.blocks.len()).sum()
    }

    /// The blocks that only snapshots need.
    pub(super) fn held(&self) -> impl Iterator<Item = u32> {
        self.holds.iter().flat_map(|hold| &hold.blocks).copied()
    }
}
