//! The clock of the comparison, and what a process has used.
//!
//! A phase of a workload is a number of operations. It is timed as a whole, and
//! stopped early where a store takes longer than the cap: then its rate is that of
//! what was done, and the line says so. How the system is used is read before and
//! after, from `/proc` and from the processor clock of the process, background
//! threads included.

use std::fs;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::Outcome;
use crate::machine::Memory;

/// Operations between two looks at the clock.
const STRIDE: u64 = 64;

/// How long something took.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    /// Operations that were done.
    pub ops: u64,
    /// The time they took.
    pub time: Duration,
    /// Whether there would have been more to do.
    pub capped: bool,
    /// What they saw; equal for all stores that did all of them.
    pub sum: u64,
}

/// Does operations, by so many at a time, until all are done or the time is
/// over. Each returns something of what it saw.
pub fn timed(
    ops: u64,
    by: u64,
    cap: Duration,
    mut some: impl FnMut(std::ops::Range<u64>) -> Outcome<u64>,
) -> Outcome<Timed> {
    let (mut done, mut sum) = (0, 0u64);
    let start = Instant::now();
    while done < ops {
        let end = (done + by).min(ops);
        sum = sum.wrapping_add(some(done..end)?);
        done = end;
        if start.elapsed() >= cap {
            break;
        }
    }
    Ok(Timed { ops: done, time: start.elapsed(), capped: done < ops, sum })
}

/// The same for single operations on something that is made ready before: for
/// some of them at once, so that what makes it does not stand between them.
pub fn each_of<T>(
    ops: u64,
    cap: Duration,
    ready: impl Fn(u64) -> T,
    mut one: impl FnMut(u64, &T) -> Outcome<u64>,
) -> Outcome<Timed> {
    let mut things = Vec::with_capacity(STRIDE as usize);
    timed(ops, STRIDE, cap, |range| {
        things.clear();
        things.extend(range.map(|i| (i, ready(i))));
        things.iter().try_fold(0u64, |sum, (i, thing)| Ok(sum.wrapping_add(one(*i, thing)?)))
    })
}

/// The same for single operations.
pub fn each(ops: u64, cap: Duration, mut one: impl FnMut(u64) -> Outcome<u64>) -> Outcome<Timed> {
    timed(ops, STRIDE, cap, |mut range| {
        range.try_fold(0u64, |sum, i| Ok(sum.wrapping_add(one(i)?)))
    })
}

/// A look at whether this process is at rest, and the longest that it is waited for.
const LOOK: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until the background threads of this process use less than a twentieth of a
/// processor: what a store has put off while it was written to is not to be paid for
/// by the reads that come next. Says how long they were at work, in whole looks:
/// nothing, if it was at rest already.
pub fn wait_for_rest() -> Duration {
    let start = Instant::now();
    let mut busy = Duration::ZERO;
    while busy < PATIENCE {
        let before = cpu_seconds();
        std::thread::sleep(LOOK);
        if cpu_seconds() - before < LOOK.as_secs_f64() / 20.0 {
            break;
        }
        busy = start.elapsed();
    }
    busy
}

/// What a process has used since a moment.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// The most memory that was resident at once since then.
    pub peak_memory: u64,
    /// Processor time of all threads.
    pub cpu_seconds: f64,
    /// Bytes it caused to be written to the device.
    pub written: u64,
    /// Bytes it caused to be read from the device.
    pub read: u64,
}

/// A moment.
pub struct Since {
    cpu: f64,
    io: (u64, u64),
}

impl Since {
    /// Now.
    pub fn now() -> Since {
        // Lets the kernel forget the peak; where it cannot, the peak of the whole
        // process is told.
        let _ = fs::write("/proc/self/clear_refs", "5");
        Since { cpu: cpu_seconds(), io: io() }
    }

    /// What was used since then.
    pub fn used(&self) -> Used {
        let (read, written) = io();
        Used {
            peak_memory: Memory::now().peak_kib << 10,
            cpu_seconds: cpu_seconds() - self.cpu,
            written: written - self.io.1,
            read: read - self.io.0,
        }
    }
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Bytes read from and written to devices, as the kernel charges them.
fn io() -> (u64, u64) {
    let text = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0)
    };
    (field("read_bytes:"), field("write_bytes:"))
}
