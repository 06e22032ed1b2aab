//! The file, written block by block from the first to the last.
//!
//! Blocks are gathered to long runs, each of which is one call. Blocks 0 and 1
//! are left out: the header copies are written at the end.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::directory::{FIRST_BLOCK, PageRef};
use crate::format::header::{MAX_FILE_BLOCKS, Run};
use crate::format::{BLOCK, crc32};
use crate::storage::File;

/// Bytes that are written with one call.
const RUN: usize = 1 << 20;

/// A file that grows at its end.
pub(super) struct Output {
    file: Arc<dyn File>,
    path: PathBuf,
    buffer: Vec<u8>,
    /// Where the buffer belongs: its first block.
    first: u32,
}

impl Output {
    pub(super) fn new(file: Arc<dyn File>, path: PathBuf) -> Output {
        Output { file, path, buffer: Vec::with_capacity(RUN), first: FIRST_BLOCK }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The length of the file in blocks, what is not written yet included.
    pub(super) fn blocks(&self) -> u32 {
        self.first + (self.buffer.len() / BLOCK) as u32
    }

    /// Adds a block. Says where it is.
    pub(super) fn put(&mut self, bytes: &[u8; BLOCK], crc: u32) -> Result<PageRef> {
        let block = self.blocks();
        self.add(bytes)?;
        Ok(PageRef { block, crc })
    }

    /// Adds some blocks in a row. Says where they are.
    pub(super) fn put_run(&mut self, bytes: &[u8]) -> Result<Run> {
        let block = self.blocks();
        for piece in bytes.chunks_exact(BLOCK) {
            self.add(piece)?;
        }
        Ok(Run { block, blocks: self.blocks() - block, crc: crc32(bytes, 0) })
    }

    fn add(&mut self, block: &[u8]) -> Result<()> {
        if self.blocks() >= MAX_FILE_BLOCKS {
            let error = std::io::ErrorKind::FileTooLarge.into();
            return Err(Error::io("write to", &self.path, error));
        }
        self.buffer.extend_from_slice(block);
        if self.buffer.len() >= RUN { self.flush() } else { Ok(()) }
    }

    /// Writes what was gathered.
    pub(super) fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let offset = u64::from(self.first) * BLOCK as u64;
        let written = self.file.write_at(&self.buffer, offset);
        written.map_err(|error| Error::io("write to", &self.path, error))?;
        self.first = self.blocks();
        self.buffer.clear();
        Ok(())
    }
}
