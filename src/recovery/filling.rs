//! The thread that brings memory of frames in [ahead](crate::table::frames)
//! while a long log is replayed.
//!
//! The store's own thread for that, which also takes space in table files, begins
//! when the store is open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Builder, JoinHandle};

use crate::store::Store;
use crate::table::frames::{Ahead, Frames};

use super::LONG_LOG;

/// The thread, until this is dropped.
pub(super) struct Filling {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Filling {
    /// Begins, where so many bytes of log are going to be replayed.
    pub(super) fn begin(store: &Store, log_bytes: u64) -> Filling {
        let stop = Arc::new(AtomicBool::new(false));
        if log_bytes < LONG_LOG {
            return Filling { stop, thread: None };
        }
        let (frames, seen) = (store.frames.clone(), stop.clone());
        let ahead = Ahead::new(store.signals.limit());
        let thread = Builder::new().name("swissdb-filling".to_owned());
        // Without the thread each frame is touched when it is used.
        let thread = thread.spawn(move || fill(&frames, ahead, &seen)).ok();
        Filling { stop, thread }
    }
}

fn fill(frames: &Frames, mut ahead: Ahead, stop: &AtomicBool) {
    frames.tell_me();
    while !stop.load(Ordering::Relaxed) {
        if !ahead.step(frames) {
            thread::park();
        }
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It cannot panic, and if it did, nothing would be missing.
            let _ = thread.join();
        }
    }
}
