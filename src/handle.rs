//! The store and its background threads, as one thing to own.
//!
//! Every public handle holds one of these; the last to go closes the store.
//! Six threads run while the store is open for writing: the log's three keepers,
//! the one that runs checkpoints, the one that gives space back, and the one
//! that takes it ahead of use. A reader has none.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::checkpoint;
use crate::compact;
use crate::error::{Error, Result};
use crate::log::KEEPERS;
use crate::store::{Store, ahead};
use crate::upkeep;

/// The store and its threads; dropped with the last handle.
pub(crate) struct Handle {
    pub(crate) store: Arc<Store>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Handle {
    /// Takes a store and starts its threads.
    pub(crate) fn start(store: Store) -> Result<Handle> {
        let read_only = store.options.read_only;
        let handle = Handle { store: Arc::new(store), threads: Mutex::default() };
        if !read_only {
            for _ in 0..KEEPERS {
                handle.spawn("swissdb-log", |store| store.log.keep(store.options.sync_interval))?;
            }
            handle.spawn("swissdb-checkpoint", checkpoint::keep)?;
            handle.spawn("swissdb-upkeep", upkeep::keep)?;
            handle.spawn("swissdb-ahead", ahead::keep)?;
        }
        Ok(handle)
    }

    fn spawn(&self, name: &str, body: impl FnOnce(&Store) + Send + 'static) -> Result<()> {
        let store = self.store.clone();
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || body(&store))
            .map_err(|error| Error::io("start", "a background thread", error))?;
        self.threads.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(thread);
        Ok(())
    }

    /// Closes the store; see [`Db::close`](crate::Db::close). `alone` says that
    /// there is no other handle, so that nobody reads any more.
    pub(crate) fn close(&self, alone: bool) -> Result<()> {
        let store = &*self.store;
        if !store.mark_closed() {
            return Err(crate::store::closed());
        }
        // In a forked child there are no threads, and nothing may be written.
        let outcome = if store.epoch.read() == 0 {
            Err(crate::table::read::forked())
        } else {
            self.stop_threads();
            let outcome = self.write_last(alone);
            checkpoint::wait_for_bites(store);
            outcome
        };
        store.unlock_when_unused();
        outcome
    }

    fn stop_threads(&self) {
        self.store.signals.stop();
        self.store.space.stop();
        self.store.log.stop();
        self.store.frames.wake();
        let threads = std::mem::take(
            &mut *self.threads.lock().unwrap_or_else(|poisoned| poisoned.into_inner()),
        );
        for thread in threads {
            // A thread that panicked has poisoned what it held.
            let _ = thread.join();
        }
    }

    fn write_last(&self, alone: bool) -> Result<()> {
        if !self.store.options.read_only {
            compact::leave_log_small(&self.store);
            checkpoint::checkpoint(&self.store, true)?;
            checkpoint::end_files(&self.store, alone);
        }
        self.store.log.close()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.store.is_closed() {
            // There is nobody to tell; every commit is in the log.
            let _ = self.close(true);
        }
    }
}
