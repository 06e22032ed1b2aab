//! Frames that are in memory before they are used.
//!
//! The first store into a frame makes the kernel find memory for it, and zero
//! that: 2 MiB at once where it gives huge pages. That was a fourth of the time
//! of replaying a long log. So a thread of its own touches the frames that come
//! next, a little ahead of those that are in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Builder, JoinHandle};

use crate::table::frames::Frames;

use super::LONG_LOG;

/// Frames that are touched at once: 2 MiB.
const PIECE: usize = 512;
/// How many are touched ahead: 16 MiB.
const AHEAD: usize = 8 * PIECE;

/// A thread that touches frames, until this is dropped.
pub(super) struct Filling {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// Frames that were used.
    used: AtomicUsize,
    stop: AtomicBool,
}

impl Filling {
    /// Begins, where so many bytes of log are going to be replayed.
    pub(super) fn begin(frames: &Arc<Frames>, log_bytes: u64) -> Filling {
        let (used, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let shared = Arc::new(Shared { used, stop });
        if log_bytes < LONG_LOG {
            return Filling { shared, thread: None };
        }
        let (frames, seen) = (frames.clone(), shared.clone());
        let thread = Builder::new().name("swissdb-filling".to_owned());
        // Without the thread each frame is touched when it is used.
        let thread = thread.spawn(move || seen.run(&frames)).ok();
        Filling { shared, thread }
    }

    /// So many frames were used by now.
    pub(super) fn note(&self, used: usize) {
        if let Some(thread) = &self.thread
            && used / PIECE != self.shared.used.swap(used, Ordering::Relaxed) / PIECE
        {
            thread.thread().unpark();
        }
    }
}

impl Shared {
    fn run(&self, frames: &Frames) {
        let mut next = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let used = self.used.load(Ordering::Relaxed);
            if next >= used + AHEAD {
                thread::park();
                continue;
            }
            next = next.max(used.next_multiple_of(PIECE));
            frames.touch(next..next + PIECE);
            next += PIECE;
        }
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It cannot panic, and if it did, nothing would be missing.
            let _ = thread.join();
        }
    }
}
