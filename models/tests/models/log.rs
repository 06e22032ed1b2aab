//! The log, as far as syncing it knows it: files that are written and synced.

use loom::sync::atomic::Ordering::{Relaxed, Release};
use loom::sync::atomic::{AtomicU32, AtomicU64};
use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::sync::PoisonError;

#[allow(dead_code, unused, clippy::all)]
pub(crate) mod poison {
    //! The real one.
    include_source!("log_poison");
}

#[allow(dead_code, unused, clippy::all)]
pub(crate) mod crowd {
    //! The real one.
    include_source!("log_crowd");
}

#[allow(dead_code, unused, clippy::all)]
pub(crate) mod sync {
    //! The real one.
    include_source!("log_sync");
}

pub(crate) mod time {
    //! A clock that stands still until all the time there is has passed.
    use std::time::Duration;

    use loom::sync::atomic::AtomicBool;
    use loom::sync::atomic::Ordering::Relaxed;

    loom::lazy_static! {
        pub(super) static ref IS_OVER: AtomicBool = AtomicBool::new(false);
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Instant;

    impl Instant {
        pub(crate) fn now() -> Instant {
            Instant
        }

        pub(crate) fn elapsed(self) -> Duration {
            if IS_OVER.load(Relaxed) { Duration::from_secs(3600) } else { Duration::ZERO }
        }
    }
}

use poison::Poison;
use sync::SyncState;

/// The log, with what `log/sync.rs` uses of it.
pub(crate) struct Log {
    pub(crate) hot: Hot,
    pub(crate) poison: Poison,
    storage: Paths,
    durable: AtomicU64,
    pub(crate) rotated: AtomicU32,
    settled: AtomicU32,
    sync: Mutex<SyncState>,
    synced: [Condvar; 2],
    counters: Counters,
}

#[derive(Default)]
pub(crate) struct Hot {
    pub(crate) appended: AtomicU64,
}

/// Names of files.
struct Paths;

impl Paths {
    fn path(&self, name: &str) -> std::path::PathBuf {
        name.into()
    }
}

/// Counts nothing.
struct Counters;

impl Counters {
    fn synced(&self, _: time::Instant) {}
    fn waited_for_sync(&self, _: time::Instant) {}
}

pub(crate) mod files {
    //! Files of the log.
    use super::*;

    /// A file that may be written, or has to be synced.
    #[derive(Clone)]
    pub(crate) struct Writable {
        pub(crate) log: Arc<Number>,
        pub(crate) file: Arc<File>,
    }

    pub(crate) struct Number {
        pub(crate) number: u32,
    }

    /// What syncing a file does.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Sync {
        Works,
        Fails,
        Panics,
    }

    /// The last commit that was written into a file, and the last that
    /// survives power loss.
    pub(crate) struct File {
        pub(crate) written: AtomicU64,
        pub(crate) on_device: AtomicU64,
        pub(crate) behaviour: Sync,
    }

    impl File {
        pub(crate) fn sync(&self) -> std::io::Result<()> {
            match self.behaviour {
                Sync::Works => {}
                Sync::Fails => return Err(std::io::Error::other("the device is gone")),
                Sync::Panics => panic!("a bug in a storage"),
            }
            self.on_device.fetch_max(self.written.load(Relaxed), Relaxed);
            Ok(())
        }
    }
}

use files::{File, Number, Sync, Writable};

impl Log {
    /// A log with one file, which does this when it is synced.
    pub(crate) fn new(first: Sync) -> Log {
        let log = Log {
            hot: Hot::default(),
            poison: Poison::new(),
            storage: Paths,
            durable: AtomicU64::new(0),
            rotated: AtomicU32::new(0),
            settled: AtomicU32::new(0),
            sync: Mutex::new(SyncState::default()),
            synced: [Condvar::new(), Condvar::new()],
            counters: Counters,
        };
        log.start(1, first);
        log
    }

    /// Makes a file the end of the log: `writer::start`.
    pub(crate) fn start(&self, number: u32, behaviour: Sync) -> Writable {
        let (written, on_device) = (AtomicU64::new(0), AtomicU64::new(0));
        let file = Arc::new(File { written, on_device, behaviour });
        let writable = Writable { log: Arc::new(Number { number }), file };
        lock(&self.sync).unsynced.push_back(writable.clone());
        writable
    }

    /// The file that is appended to.
    pub(crate) fn active(&self) -> Writable {
        lock(&self.sync).unsynced.back().expect("there is a file").clone()
    }

    /// Appends a commit: `Appender::append`.
    pub(crate) fn append(&self, to: &Writable, commit: u64) {
        to.file.written.store(commit, Relaxed);
        self.hot.appended.store(commit, Release);
    }
}

impl Log {
    /// Lets so many writers be expected: as many as the last sync has covered.
    pub(crate) fn expect_writers(&self, writers: u64) {
        let mut state = lock(&self.sync);
        (1..=writers).for_each(|commit| state.crowd.came(commit));
        state.crowd.sync_begins(0);
        state.crowd.sync_ended(std::time::Duration::from_millis(1));
    }

    /// The time of all who wait for some time is over.
    pub(crate) fn time_passes(&self) {
        let state = lock(&self.sync);
        time::IS_OVER.store(true, Relaxed);
        drop(state);
        self.synced.iter().for_each(Condvar::notify_all);
    }
}

/// `log::lock`.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `log::wait`.
fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// `log::wait_for`; a checker knows no time: [`Log::time_passes`] ends it.
fn wait_for<'a, T>(
    condition: &Condvar,
    guard: MutexGuard<'a, T>,
    _: std::time::Duration,
) -> MutexGuard<'a, T> {
    wait(condition, guard)
}
