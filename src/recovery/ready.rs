//! Making a store that is being opened ready to be written.
//!
//! Steps 4 and 5 of [opening](super) only have to be over before the first
//! write: before a checkpoint in the midst of replaying, or when all is
//! replayed. Rewriting a log and syncing it takes as long as the device does,
//! while replaying waits for memory. So a long log is rewritten by a thread of
//! its own meanwhile. It writes the bytes that are there, so those who read see
//! no difference.
//!
//! The thread never outlives what started it: a store that fails to open is
//! not written afterwards.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crate::error::{Error, Result};
use crate::log::Log;
use crate::storage::File;
use crate::store::Store;
use crate::store::create::write_header;

use super::table_file::{FoundHeader, TableFile};
use super::{LONG_LOG, LogEnd, Opened};

/// What is yet to be done.
pub(super) struct Ready {
    log: Arc<Log>,
    end: LogEnd,
    headers: Vec<(Arc<dyn File>, PathBuf, FoundHeader)>,
    /// The generation that the headers get.
    generation: u64,
    rewriting: Option<JoinHandle<Result<()>>>,
}

impl Ready {
    /// Begins; after a crash with the rewriting of the log.
    ///
    /// # Errors
    ///
    /// `Io`.
    pub(super) fn begin(opened: &Opened, end: &LogEnd, generation: u64) -> Result<Ready> {
        let header = |table: &TableFile| {
            let found = FoundHeader { header: table.found.header.clone(), last: table.found.last };
            (table.file.clone(), table.path.clone(), found)
        };
        let headers = opened.tables.iter().map(header).collect();
        let log = opened.log.clone();
        let mut ready = Ready { log, end: *end, headers, generation, rewriting: None };
        if !end.clean {
            // A killed process may have renamed a table file and not synced
            // the name: were it lost later, so would be what follows here.
            let synced = opened.storage.sync_directory("");
            synced.map_err(|error| Error::io("sync", opened.storage.path(""), error))?;
            ready.rewrite()?;
        }
        Ok(ready)
    }

    /// Step 4.
    fn rewrite(&mut self) -> Result<()> {
        let (from, to) = (self.end.from, self.end.to);
        if self.end.bytes >= LONG_LOG {
            let log = self.log.clone();
            let thread = Builder::new().name("swissdb-rewriting".to_owned());
            self.rewriting = thread.spawn(move || log.rewrite(from, to)).ok();
        }
        match self.rewriting {
            Some(_) => Ok(()),
            None => self.log.rewrite(from, to),
        }
    }

    /// Does the rest, and gives the store the end of its log to write to. To be
    /// called before the first write.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt` if the log cannot go on where it ends.
    pub(super) fn finish(&mut self, store: &Store) -> Result<()> {
        if store.core_to_look().appender.is_some() {
            return Ok(());
        }
        if let Some(rewriting) = self.rewriting.take() {
            rewriting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        let clean = self.end.clean;
        if !clean {
            // No header may say that the log was closed where it goes on.
            self.rewrite_headers()?;
        }
        let appender = self.log.appender(self.end.to, clean)?;
        if clean {
            self.rewrite_headers()?;
        }
        store.core_to_look().appender = Some(appender);
        Ok(())
    }

    /// Step 5.
    fn rewrite_headers(&mut self) -> Result<()> {
        for (file, path, found) in &mut self.headers {
            found.header.generation = self.generation;
            found.header.clean = false;
            write_header(file, &found.header, found.last)
                .map_err(|error| Error::io("write to", &*path, error))?;
        }
        Ok(())
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        if let Some(rewriting) = self.rewriting.take() {
            // Whoever did not wait for it has another error to tell.
            let _ = rewriting.join();
        }
    }
}
