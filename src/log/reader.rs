//! Reading the records of one file, front to back.
//!
//! Records are read with system calls, not through the mapping: so a device
//! that cannot deliver a block is an error, not a signal. Memory is bounded by
//! the longest record, and a length is believed only if the commit number in
//! front of it is the one that is due and the file is long enough.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::record::{MAX_RECORD, RECORD_HEADER, RecordHeader, log_file_name};
use crate::storage::{Access, File, Storage};

/// How much is read at once, at least.
pub(super) const WINDOW: usize = 1 << 20;

/// A window that is moved over a file.
pub(super) struct Reader {
    pub(super) file: Arc<dyn File>,
    pub(super) path: PathBuf,
    pub(super) salt: u32,
    /// The length of the file in bytes.
    pub(super) size: u64,
    buffer: Vec<u8>,
    /// Where in the file the buffer begins.
    start: u64,
}

impl Reader {
    /// Opens a file that was found before.
    ///
    /// # Errors
    ///
    /// `Io`.
    pub(super) fn open(storage: &dyn Storage, number: u32, salt: u32, size: u64) -> Result<Reader> {
        let name = log_file_name(number);
        let path = storage.path(&name);
        let file = storage.open(&name, Access::Read);
        let file = file.map_err(|error| Error::io("open", &path, error))?;
        Ok(Reader { file, path, salt, size, buffer: Vec::new(), start: 0 })
    }

    /// The bytes of a range, or as many of them as the file has.
    pub(super) fn bytes(&mut self, offset: u64, length: usize) -> Result<&[u8]> {
        let left = self.size.saturating_sub(offset);
        let length = (length as u64).min(left) as usize;
        let inside = offset.checked_sub(self.start).unwrap_or(u64::MAX);
        let buffered = self.buffer.len() as u64;
        if inside > buffered || (length as u64) > buffered - inside {
            let load = (length.max(WINDOW) as u64).min(left) as usize;
            self.start = offset;
            self.buffer.resize(load, 0);
            if let Err(error) = self.file.read_at(&mut self.buffer, offset) {
                self.buffer.clear();
                return Err(Error::io("read", &self.path, error));
            }
        }
        let from = (offset - self.start) as usize;
        Ok(&self.buffer[from..from + length])
    }

    /// The record at an offset, header included, if there is a valid one and
    /// its commit number is the one that is due.
    pub(super) fn record(
        &mut self,
        offset: u64,
        due: u64,
    ) -> Result<Option<(RecordHeader, &[u8])>> {
        let Some(bytes) = self.bytes(offset, RECORD_HEADER)?.first_chunk() else {
            return Ok(None);
        };
        let RecordHeader { length, commit, .. } = RecordHeader::decode(bytes);
        let possible = u64::from(length) <= MAX_RECORD.min(self.size - offset);
        if commit != due || !possible {
            return Ok(None);
        }
        let salt = self.salt;
        let bytes = self.bytes(offset, length as usize)?;
        let header = RecordHeader::checked(bytes, salt, offset as u32);
        Ok(header.map(|header| (header, bytes)))
    }
}
