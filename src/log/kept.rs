//! Files that tables have values in, and whose activation is damaged.
//!
//! Such a file looks like one that was only prepared, and those hold nothing:
//! they are recycled or removed. But a table has live bytes only in files that
//! were activated, and these were synced before its header was. So live bytes
//! are the proof that the activation was there. The values lie in the file as
//! ever, each with a checksum of its own: the file belongs to the log again,
//! for those who read values and for those who move them.
//!
//! Its place in the chain was lost. No walk through the log leads there, and
//! one that has to finds damage ([`scan`](super::scan)). Nothing is repaired,
//! `verify` goes on telling it: every opening finds the file like this, until
//! nothing in it is alive.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::files::{LogFile, Spare};
use super::reader::Reader;
use super::{Log, lock};
use crate::error::Result;
use crate::format::record::{
    Activation, LOG_START, LogFileHeader, RECORD_HEADER, RecordHeader, log_file_name,
};
use crate::storage::{Access, pins};

impl Log {
    /// Keeps the files that tables have values in, also those that look as if
    /// they were never used. To be called before anything is written, with the
    /// number of the file that the log ends in.
    ///
    /// # Errors
    ///
    /// `Corrupt` if such a file lies behind the end of the log, `Io`. Nothing
    /// may be written then.
    pub(crate) fn keep_alive(&self, live: &BTreeSet<u32>, last: u32) -> Result<()> {
        let alive = |spare: &mut Spare| live.contains(&spare.number);
        let kept: Vec<Spare> = lock(&self.next).spares.extract_if(.., alive).collect();
        for spare in kept {
            if spare.number >= last {
                let expected = "valid, for a table has values in this file";
                return Err(self.corrupt(spare.number, 512, "activation", expected, "not valid"));
            }
            let file = Arc::new(self.without_activation(spare)?);
            self.files.load(&pins::pin()).state_end(&file);
            self.change_files(|set| set.with(file));
        }
        Ok(())
    }

    /// A file of the log of which nobody knows what it follows.
    fn without_activation(&self, spare: Spare) -> Result<LogFile> {
        let Spare { number, salt, size, .. } = spare;
        let name = log_file_name(number);
        let file = self.storage.open(&name, Access::Read);
        let file = file.map_err(|error| self.refused("open", &name, error))?;
        let map = file.map(size, false).map_err(|error| self.refused("map", &name, error))?;
        let last_commit = self.commit_before(spare)?;
        let activation = Activation { previous: 0, previous_end: 0, last_commit, salt };
        Ok(LogFile::new(LogFileHeader { number, salt, size }, activation, map, size))
    }

    /// The last commit before a file, as its first record has it; 0 if that is
    /// damaged too, and then a walk through the file ends there.
    fn commit_before(&self, spare: Spare) -> Result<u64> {
        let mut reader = Reader::open(&*self.storage, spare.number, spare.salt, spare.size)?;
        let Some(bytes) = reader.bytes(LOG_START, RECORD_HEADER)?.first_chunk() else {
            return Ok(0);
        };
        let first = RecordHeader::decode(bytes).commit;
        let is_valid = reader.record(LOG_START, first)?.is_some();
        Ok(if is_valid { first.saturating_sub(1) } else { 0 })
    }
}
