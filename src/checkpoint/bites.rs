//! How a checkpoint leaves the processor to others.
//!
//! Where there are fewer processors than threads that want one, a thread that
//! works on and on takes whole slices of the scheduler from writers and readers:
//! four milliseconds each, with a tick of 250 Hz, for an insert of a microsecond.
//! So a checkpoint works in *bites* of a tenth of a millisecond and asks after
//! each whether somebody else waits for its processor. If nobody does, it goes
//! on at once: unlike a sleep that costs nothing where there are enough of them.
//!
//! It keeps its priority. With a lower one it is starved by threads that only
//! read, and in the end writers wait for it: with a weight of a two-hundredth one
//! write took 3.9 seconds.

use std::time::{Duration, Instant};

/// How long a bite is at least.
const BITE: Duration = Duration::from_micros(100);

/// The bites of one thread.
pub(super) struct Bites {
    began: Instant,
}

impl Bites {
    /// A bite begins.
    pub(super) fn begin() -> Bites {
        Bites { began: Instant::now() }
    }

    /// The work could be interrupted here, where nothing is locked: lets others
    /// have the processor if the bite was long enough.
    pub(super) fn end_bite(&mut self) {
        if self.began.elapsed() >= BITE {
            std::thread::yield_now();
            self.began = Instant::now();
        }
    }
}
