//! Free ends of table files go back to the device, beside writers.
//!
//! Punching a hole takes its time, longer where the file system tells the device
//! what is free, and the writer lock is held meanwhile: nobody may take the
//! space again before it is gone. So it is done in bites of 2 MiB
//! ([`tail`](crate::table::blocks)), and after each there is a pause, in which
//! whoever waits for the lock gets it: one who gives it back and takes it again
//! at once is always faster than one who has to be woken.

use std::time::Duration;

use crate::error::Result;
use crate::store::Store;

/// Free blocks at the end of a table file that are worth giving back.
const WORTH_PUNCHING: u32 = 256;
/// Blocks that are given back once it was found to be worth it: 16 MiB.
const AT_LEAST: u32 = 4096;
/// How long writers have between two bites.
const PAUSE: Duration = Duration::from_micros(100);

/// How many free blocks at the end of a table file are worth giving back, of
/// so many that have their space.
pub(crate) fn worth_giving_back(allocated: u32) -> u32 {
    (allocated / 4).max(WORTH_PUNCHING)
}

/// Gives the free end of a table file back, as long as there are as many blocks
/// as are `worth` it, where so many have their space.
///
/// # Errors
///
/// `Io` from punching the hole, and what keeps from writing to the store.
pub(crate) fn give_back_tail(store: &Store, id: u16, worth: fn(u32) -> u32) -> Result<()> {
    let mut given = 0;
    loop {
        let mut core = store.core()?;
        let Some((writer, ws)) = core.writer_mut(id) else {
            return Ok(());
        };
        let begun = given % AT_LEAST != 0;
        let enough = if begun { 1 } else { worth(writer.blocks.allocated()) };
        let bite = writer.blocks.give_back_tail(&ws.epoch, enough)?;
        drop(core);
        if bite == 0 {
            return Ok(());
        }
        given += bite;
        std::thread::sleep(PAUSE);
    }
}

/// Gives back what an earlier process had taken ahead of use.
///
/// # Errors
///
/// As [`give_back_tail`].
pub(super) fn give_back_unknown(store: &Store, id: u16) -> Result<()> {
    loop {
        let mut core = store.core()?;
        let Some((writer, _)) = core.writer_mut(id) else {
            return Ok(());
        };
        let bite = writer.blocks.give_back_unknown()?;
        drop(core);
        if bite == 0 {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
}
