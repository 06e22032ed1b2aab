//! Which blocks of a table file were come to.
//!
//! A bit for each block that the free map covers, so that one that is come to
//! twice, or lies outside, is found out when it is marked, and one that is neither
//! reached nor free at the end. It does not know who comes to a block, or why.

/// The blocks that were come to: a bit for each.
pub(super) struct Reached {
    pub(super) blocks: u32,
    words: Vec<u64>,
}

/// What marking a block says.
pub(super) enum Mark {
    First,
    Again,
    Outside,
}

impl Reached {
    pub(super) fn new(blocks: u32) -> Reached {
        Reached { blocks, words: vec![0; blocks.div_ceil(64) as usize] }
    }

    pub(super) fn has(&self, block: u32) -> bool {
        self.words[block as usize / 64] >> (block % 64) & 1 == 1
    }

    pub(super) fn mark(&mut self, block: u32) -> Mark {
        if block >= self.blocks {
            return Mark::Outside;
        }
        if self.has(block) {
            return Mark::Again;
        }
        self.words[block as usize / 64] |= 1 << (block % 64);
        Mark::First
    }
}
