//! The bytes of a file, of which most are zero and most are shared.
//!
//! Blocks of zeros take no memory, and a copy shares all blocks until one of
//! the two changes: so thousands of versions of a disk fit into memory.

use std::sync::Arc;

use super::inode::SECTOR;

/// What is shared or copied as a whole, in bytes.
pub const BLOCK: usize = 4096;

/// The bytes of a file. Behind its length they are zero.
#[derive(Clone, Default)]
pub struct Sparse {
    length: u64,
    blocks: Vec<Option<Arc<[u8; BLOCK]>>>,
}

impl Sparse {
    /// The length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Truncates it, or extends it with zeros.
    pub fn set_length(&mut self, length: u64) {
        self.length = length;
        self.blocks.resize(length.div_ceil(BLOCK as u64) as usize, None);
        let rest = length as usize % BLOCK;
        if rest > 0
            && let Some(Some(last)) = self.blocks.last_mut()
        {
            Arc::make_mut(last)[rest..].fill(0);
        }
    }

    /// The bytes of a sector; zeros behind the end.
    pub fn sector(&self, sector: u64) -> [u8; SECTOR] {
        let at = sector as usize * SECTOR;
        match self.blocks.get(at / BLOCK) {
            Some(Some(block)) => {
                let inside = &block[at % BLOCK..at % BLOCK + SECTOR];
                inside.try_into().expect("a sector lies within a block")
            }
            _ => [0; SECTOR],
        }
    }

    /// Replaces a sector, as far as it lies before the end.
    pub fn set_sector(&mut self, sector: u64, bytes: &[u8; SECTOR]) {
        let at = sector as usize * SECTOR;
        let Some(inside) = self.length.checked_sub(at as u64) else { return };
        let inside = SECTOR.min(inside as usize);
        if inside == 0 {
            return;
        }
        let block = &mut self.blocks[at / BLOCK];
        if block.is_none() && bytes.iter().all(|byte| *byte == 0) {
            return;
        }
        let block = block.get_or_insert_with(|| Arc::new([0; BLOCK]));
        let at = at % BLOCK;
        Arc::make_mut(block)[at..at + inside].copy_from_slice(&bytes[..inside]);
    }

    /// The blocks that are not all zero, with their offsets; the last one may
    /// lead beyond the end.
    pub fn blocks(&self) -> impl Iterator<Item = (u64, &[u8; BLOCK])> {
        let numbered = (0..).step_by(BLOCK).zip(&self.blocks);
        numbered.filter_map(|(at, block)| Some((at, &**block.as_ref()?)))
    }
}
