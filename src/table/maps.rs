//! The mappings of a table file: how readers come to a block.
//!
//! Each mapping doubles the one before it, and all of them stay until the
//! table is closed: a reader that loaded a page word early finds its block in
//! any of them. The newest is published before any page word that needs it.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::format::group::PAGE_WORDS;
use crate::storage::Map;

/// Mappings of one table at most.
const MAPS: usize = 48;

/// The mappings of a table file, for readers.
pub(crate) struct BlockMaps {
    maps: [OnceLock<Map>; MAPS],
    current: AtomicUsize,
}

impl BlockMaps {
    /// Begins with one mapping.
    pub(super) fn new(first: Map) -> BlockMaps {
        let maps = BlockMaps { maps: [const { OnceLock::new() }; MAPS], current: 0.into() };
        let _ = maps.maps[0].set(first);
        maps
    }

    /// The words of a block, if the newest mapping has it. To be called after
    /// the page word that names the block was loaded.
    #[inline]
    pub(crate) fn words(&self, block: u32) -> Option<&[AtomicU64]> {
        let map = self.maps[self.current.load(Ordering::Acquire)].get()?;
        let start = block as usize * PAGE_WORDS;
        map.words().get(start..start + PAGE_WORDS)
    }

    /// The newest mapping.
    pub(crate) fn newest(&self) -> &Map {
        let current = self.current.load(Ordering::Acquire);
        self.maps[current].get().expect("the current mapping is set before its number")
    }

    /// Adds a larger mapping; to be called before any page word needs it.
    pub(super) fn publish(&self, map: Map) -> io::Result<()> {
        let next = self.current.load(Ordering::Relaxed) + 1;
        let slot = self.maps.get(next).ok_or(io::ErrorKind::FileTooLarge)?;
        let _ = slot.set(map);
        self.current.store(next, Ordering::Release);
        Ok(())
    }
}
