//! Reading values where they lie in the log.
//!
//! A spilled key or value stays in the record that brought it, and its slot
//! keeps the address: file, offset, length. Reading it costs no lock, no copy
//! and no shared write: the bytes are lent out of the mapping of the file, for
//! as long as the reader holds its pin. Whether they are the bytes that were
//! written, their checksum tells, which the address carries; that is the
//! caller's part. An address may be nonsense (a reader of the table may have
//! raced with a writer), so that everything in it is bounded here.
//!
//! This is where the two halves of one argument meet, and so one of the few
//! places with an unsafe block: that bytes below the end of the records do not
//! change is a rule of the log, and that a file is not reused under a pin is
//! one of [`pins`](crate::storage::pins). Neither module could vouch for the
//! other's half; the mapping that lends the bytes knows neither.
//!
//! A pin is known in its own process only. That the bytes stay when the store is
//! closed under it, and another process opens it, is a rule of the log again:
//! files of an earlier opening are not written again ([`space`](super::space)).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Log;
use super::files::LogFile;
use crate::format::record::LOG_START;
use crate::storage::pins::{self, Pin};

impl Log {
    /// Lends `length` bytes of a file from an offset on. `None` if there is
    /// no such file, or if records have not been written that far.
    #[inline]
    pub(crate) fn read<'p>(
        &self,
        pin: &'p Pin,
        file: u32,
        offset: u32,
        length: u32,
    ) -> Option<&'p [u8]> {
        lend(self.files.load(pin).get(file)?, offset, length)
    }
}

/// Files of the log that are held: for a snapshot.
pub(crate) struct HeldFiles {
    /// By their numbers.
    files: Vec<Arc<LogFile>>,
}

impl Log {
    /// Holds files of the log, as many of these as there are. Whoever lets log
    /// files go must know of it: while they are held they must not be retired.
    pub(crate) fn hold(&self, numbers: &BTreeSet<u32>) -> HeldFiles {
        let pin = pins::pin();
        let files = self.files.load(&pin).iter().filter(|file| numbers.contains(&file.number));
        HeldFiles { files: files.cloned().collect() }
    }
}

impl HeldFiles {
    /// Lends `length` bytes of a file from an offset on. `None` if there is
    /// no such file, or if records have not been written that far.
    pub(crate) fn read(&self, file: u32, offset: u32, length: u32) -> Option<&[u8]> {
        let at = self.files.binary_search_by_key(&file, |held| held.number).ok()?;
        lend(&self.files[at], offset, length)
    }
}

/// Lends bytes of a file that was loaded from the set under a pin.
#[inline]
fn lend(file: &LogFile, offset: u32, length: u32) -> Option<&[u8]> {
    let (offset, length) = (u64::from(offset), u64::from(length));
    if offset < LOG_START || offset + length > file.end() {
        return None;
    }
    // SAFETY: the range lies below the end of the records (loaded with
    // `Acquire`). Below it nobody writes in this life of the file: appending
    // goes on behind it, and rewriting after a crash is over before there are
    // readers. The file's next life begins once it was taken out of the set
    // and no pin is left from before that, if it begins while this log is open.
    // Once it is closed, no later opening, in whatever process, begins one: it
    // goes on behind the end, or removes the file. The slice lives no longer than
    // the pin under which the file was found in the set, or than the file is held,
    // until when it stays in the set.
    unsafe { file.map.bytes(offset as usize, length as usize) }
}
