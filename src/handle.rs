//! The store and its background threads, as one thing to own.
//!
//! Every public handle holds one of these; the last to go closes the store.
//! Six threads run while the store is open for writing: the log's three keepers,
//! the one that runs checkpoints, the one that gives space back, and the one
//! that takes it ahead of use. A reader has none.
//!
//! # Closing
//!
//! The threads of the store are joined. Those of its users are not: one may be in
//! the middle of a compaction or a checkpoint, or make a file of the log that it
//! needs. The headers that the last checkpoint writes say where the log ends, and
//! when the lock is given back the files belong to whoever opens the store next.
//! So nobody may be at a file then, or come to it later. Whoever changes one has
//! one of these in hand, and asks with it in hand whether the store is closed;
//! closing says so first, and then waits once for each:
//!
//! | in hand | for |
//! |---|---|
//! | the writer lock ([`Store::core`]) | commits, going over to another log file, taking blocks, freezing a state |
//! | the lock of checkpoints | what they write, creating and dropping tables |
//! | a place [at work](crate::log) on the log | making, trimming and removing its files |
//! | a bite of a table's free end | the hole that is punched there |
//!
//! A compaction as a whole is not waited for: it ends at the next of these, and the
//! function that it tells how far it is may close the store.

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
            // Also if that failed.
            store.log.end_work();
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

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use super::*;
    use crate::checkpoint::{checkpoint, keep_away};
    use crate::format::header::DEFAULT_TABLE;
    use crate::options::Options;
    use crate::snapshot::Snapshot;
    use crate::storage::memory::Memory;

    /// A store with something for a checkpoint to write.
    fn store() -> Store {
        let store = crate::recovery::open(Arc::new(Memory::new()), &Options::new()).unwrap();
        let table = store.find_table(DEFAULT_TABLE).unwrap();
        store.insert(&table, b"key", b"value").unwrap();
        store
    }

    /// Fails if a store is closed before something has ended that closing waits for.
    pub(crate) fn assert_closing_waits(handle: &Handle, poisoned: bool, end: impl FnOnce()) {
        if poisoned {
            handle.store.poison.set(&"a test");
        }
        std::thread::scope(|scope| {
            let closes = scope.spawn(|| handle.close(false));
            std::thread::sleep(Duration::from_millis(50));
            let finished = closes.is_finished();
            // Before anything may fail: else it would wait for ever.
            end();
            assert_eq!(closes.join().unwrap().is_err(), poisoned);
            assert!(!finished);
        });
    }

    fn is_closed<T>(outcome: Result<T>) -> bool {
        matches!(outcome, Err(Error::Closed { .. }))
    }

    #[test]
    fn a_checkpoint_whose_turn_comes_behind_the_last_one_writes_nothing() {
        let store = store();
        std::thread::scope(|scope| {
            let last = store.checkpointing.lock().unwrap();
            let late = scope.spawn(|| checkpoint(&store, false));
            let creates = scope.spawn(|| keep_away(&store).map(drop));
            std::thread::sleep(Duration::from_millis(20));
            assert!(store.mark_closed());
            drop(last);
            let outcomes = [late, creates].map(|thread| thread.join().unwrap());
            assert!(outcomes.into_iter().all(is_closed));
        });
        assert_eq!(store.signals.checkpoints.load(Ordering::Relaxed), 0);
        assert_eq!(store.away.load(Ordering::Relaxed), 0);
        checkpoint(&store, true).unwrap();
    }

    #[test]
    fn no_snapshot_begins_behind_the_last_checkpoint() {
        // Nobody would ever write what it sees, and who reads from it waited for that.
        let handle = Arc::new(Handle::start(store()).unwrap());
        assert!(handle.store.mark_closed());
        handle.stop_threads();
        checkpoint(&handle.store, true).unwrap();
        let refused = is_closed(Snapshot::take(&handle));
        assert!(refused);
        assert!(handle.store.core_to_look().waiting.is_empty());
    }

    #[test]
    fn a_store_is_not_closed_while_somebody_is_at_a_log_file_even_if_it_is_poisoned() {
        for poisoned in [false, true] {
            let handle = Handle::start(store()).unwrap();
            let work = handle.store.log.begin_work().expect("it is open");
            assert_closing_waits(&handle, poisoned, || drop(work));
            assert!(handle.store.log.begin_work().is_none());
        }
    }
}
