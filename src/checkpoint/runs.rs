//! Runs of blocks on their way to a table file.
//!
//! Pages that go to neighbouring blocks are gathered and written with one call,
//! of 128 KiB at most: a longer run is no faster, for it goes to the page cache,
//! and a shorter [bite](Bites). It knows nothing of what is in them.
//!
//! What was written is mapped at once, so that whoever reads a page whose frame was
//! given up does not fault. Not so where the tables are larger than memory: there
//! a page that is mapped is more work to give up, and most are given up unread
//! (overwriting of four times as much data as memory: 66 to 60 us each).

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::storage::File;
use crate::table::maps::BlockMaps;

use super::bites::Bites;

/// Blocks that are written with one call at most.
const RUN: usize = 32;

/// Blocks in a row, gathered to be written with one call.
pub(super) struct RunBuffer<'a> {
    file: &'a dyn File,
    /// Where it is mapped, if it is.
    maps: Option<&'a BlockMaps>,
    path: &'a Path,
    /// Counts what was written.
    written: &'a AtomicU64,
    bytes: Vec<[u8; BLOCK]>,
    first: u32,
    bites: Bites,
}

impl<'a> RunBuffer<'a> {
    pub(super) fn new(
        file: &'a dyn File,
        maps: Option<&'a BlockMaps>,
        path: &'a Path,
        written: &'a AtomicU64,
    ) -> RunBuffer<'a> {
        let (bytes, bites) = (Vec::with_capacity(RUN), Bites::begin());
        RunBuffer { file, maps, path, written, bytes, first: 0, bites }
    }

    /// The place for the bytes of a block.
    pub(super) fn next(&mut self, block: u32) -> Result<&mut [u8; BLOCK]> {
        if self.bytes.len() == RUN || block != self.first + self.bytes.len() as u32 {
            self.flush()?;
            self.first = block;
        }
        self.bytes.push([0; BLOCK]);
        let last = self.bytes.len() - 1;
        Ok(&mut self.bytes[last])
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        if !self.bytes.is_empty() {
            let offset = u64::from(self.first) * BLOCK as u64;
            let bytes = self.bytes.as_flattened();
            let written = self.file.write_at(bytes, offset);
            written.map_err(|e| Error::io("write to", self.path, e))?;
            self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            if let Some(maps) = self.maps {
                maps.newest().populate_read(offset as usize, bytes.len());
            }
            self.bytes.clear();
            self.bites.end_bite();
        }
        Ok(())
    }
}
