//! How long zeros are worth writing.
//!
//! A new file of the log is filled with zeros, so that later syncs of it change
//! no metadata: a sync that does takes longer, and the store into a page that
//! was never written as well. But zeros cost the device what the records cost
//! it that come after them. A writer that fills files faster than the device
//! takes zeros would wait for them at the end of every file: with values of
//! 100,000 bytes that was three quarters of its time.
//!
//! So the zeros end where the log comes after them: when half as many bytes were
//! appended since they were begun as there are zeros, so that the device has
//! better things to do; and before the first one where somebody prepares the
//! file because he needs it.
//!
//! ```text
//!  log    ├─ appended ─►|
//!  file   ├──────── zeros ────────►|  taken, never written: read as zeros        |
//! ```
//!
//! # Why a file may do without
//!
//! * What was never written is read as zeros, before and after a crash: no
//!   record is ever seen there. (Recycled files have old records there, which the
//!   salt makes invalid.)
//! * A store through the mapping must not find the device full: it would end the
//!   process. The space was taken before, for good; where a file system does not
//!   say so ([`File::holds_allocated`](crate::storage::File::holds_allocated)),
//!   all zeros are written.
//! * A sync makes records durable with whatever metadata they need. It only
//!   takes longer.
//!
//! # How its pages come into memory
//!
//! A page that was never written comes into memory when the first record is stored
//! there. One at a time that is 4 us each: short records hide it, and their writer
//! never waits for more. Long ones fill pages as fast as that: with values of 10,000
//! bytes it was two thirds of the time. So where records are long, the system may
//! bring in neighbours, up to 8 MiB at once, in 20 ms.

use std::sync::atomic::Ordering::Acquire;

use super::Log;
use crate::error::Result;
use crate::format::record::LOG_START;
use crate::storage::pins;

/// Asked before each piece of zeros, with how many there are: whether more are
/// worth it. An error ends it all.
pub(super) type GoOn<'a> = dyn Fn(u64) -> Result<bool> + 'a;

/// Nobody is in a hurry.
pub(super) const ALL: fn(u64) -> Result<bool> = |_| Ok(true);

/// Somebody waits for the file.
pub(super) const AWAITED: fn(u64) -> Result<bool> = |_| Ok(false);

/// How far the log may be ahead of the zeros: what is appended while the first
/// of them are written.
const AHEAD: u64 = 1 << 20;

/// Records of as many bytes are long.
const LONG: u64 = 512;

/// Compares the zeros with what is appended meanwhile.
pub(super) struct Pace<'a> {
    log: &'a Log,
    /// The file that was appended to in the beginning, and its end then.
    file: u32,
    end: u64,
}

impl Log {
    /// Begins to compare.
    pub(super) fn pace(&self) -> Pace<'_> {
        let file = self.active.load(Acquire);
        Pace { log: self, file, end: self.end_of(file) }
    }

    /// Whether most of what is appended now are long records, as far as the active
    /// file tells.
    pub(super) fn takes_long_records(&self) -> bool {
        let pin = pins::pin();
        let files = self.files.load(&pin);
        let Some(active) = files.get(self.active.load(Acquire)) else {
            return false;
        };
        let commits = self.appended().saturating_sub(active.activation.last_commit);
        active.end().saturating_sub(LOG_START) > commits * LONG
    }

    /// Where the records of a file end; 0 if there is no such file.
    fn end_of(&self, file: u32) -> u64 {
        self.files.load(&pins::pin()).get(file).map_or(0, |file| file.end())
    }
}

impl Pace<'_> {
    /// Says whether more zeros are worth it, after what cannot wait for them was done.
    ///
    /// # Errors
    ///
    /// `Closed` if the log is being closed; `Poisoned`.
    pub(super) fn go_on(&self, zeros: u64) -> Result<bool> {
        self.log.poison.check()?;
        self.log.breathe()?;
        let same = self.log.active.load(Acquire) == self.file;
        let appended = self.log.end_of(self.file).saturating_sub(self.end);
        Ok(same && appended <= zeros / 2 + AHEAD)
    }
}
