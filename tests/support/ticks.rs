//! Time that passes only while the machine gives some to these tests.
//!
//! A process that is stopped, or that others keep from the processors, sees the
//! clock jump: what took a millisecond then looks like seconds, and a bound in
//! time fails though nothing of what it is about has happened. Here a thread
//! sleeps a few milliseconds and counts, again and again. It is not counted
//! while the machine is away; while somebody only waits, it is. So this time is
//! at most that of the clock, and a stall of the store is in it in full.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(2);

static TICKS: AtomicU32 = AtomicU32::new(0);

/// The time since the first call.
pub fn now() -> Duration {
    static CLOCK: OnceLock<()> = OnceLock::new();
    CLOCK.get_or_init(|| {
        // It ends with the process.
        drop(thread::spawn(|| {
            loop {
                thread::sleep(TICK);
                TICKS.fetch_add(1, Ordering::Relaxed);
            }
        }));
    });
    TICK * TICKS.load(Ordering::Relaxed)
}

/// The time since a moment that [`now`] gave.
pub fn since(moment: Duration) -> Duration {
    now() - moment
}

#[test]
fn it_passes_while_somebody_waits_and_never_faster_than_the_clock() {
    let (moment, clock) = (now(), std::time::Instant::now());
    while since(moment) < 20 * TICK {
        thread::sleep(TICK);
    }
    // One tick may have been under way.
    assert!(since(moment) <= clock.elapsed() + TICK);
}
