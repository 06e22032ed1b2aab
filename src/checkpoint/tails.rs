//! Free ends of table files go back to the device, beside writers.
//!
//! It is done in bites of 2 MiB ([`tail`](crate::table::blocks)). The writer lock
//! is held to begin one, not while the hole is punched: that takes its time, longer
//! where the file system tells the device what is free. After each bite there is a
//! pause, in which whoever waits for the lock gets it: one who gives it back and
//! takes it again at once is always faster than one who has to be woken.
//!
//! Nobody else waits for it either. A checkpoint has ended before it is done, and
//! it ends where the next one is wanted; the upkeep thread looks at the log in
//! between. Otherwise whoever clears a large table would have writers wait for
//! seconds, for a checkpoint that is over, or for somebody to clean the log.

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
/// as are `worth` it, where so many have their space; not while the table grows
/// into it. `go_on` is asked before each bite: a large table that was cleared has
/// tens of thousands of them.
///
/// # Errors
///
/// `Io` from punching the hole, and what keeps from writing to the store.
pub(crate) fn give_back_tail(
    store: &Store,
    id: u16,
    worth: fn(u32) -> u32,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<()> {
    let (mut given, mut left) = (0, u32::MAX);
    while go_on() {
        let mut core = store.core()?;
        let Some((writer, ws)) = core.writer_mut(id) else {
            return Ok(());
        };
        let allocated = writer.blocks.allocated();
        let begun = given % AT_LEAST != 0;
        let enough = if begun { 1 } else { worth(allocated) };
        if allocated > left {
            // Somebody has taken space since.
            return Ok(());
        }
        let Some(bite) = writer.blocks.begin_giving_back(&ws.epoch, enough) else {
            return Ok(());
        };
        drop(core);
        let blocks = bite.punch()?;
        (given, left) = (given + blocks, allocated - blocks);
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Gives back what an earlier process had taken ahead of use. `go_on` is asked
/// before each bite; what is left then is given back after the next checkpoint.
///
/// # Errors
///
/// As [`give_back_tail`].
pub(super) fn give_back_unknown(
    store: &Store,
    id: u16,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<()> {
    while go_on() {
        let mut core = store.core()?;
        let Some((writer, _)) = core.writer_mut(id) else {
            return Ok(());
        };
        let Some(bite) = writer.blocks.begin_giving_back_unknown() else {
            return Ok(());
        };
        drop(core);
        if let Err(error) = bite.punch() {
            if let Some((writer, _)) = store.core()?.writer_mut(id) {
                writer.blocks.forget_unknown();
            }
            return Err(error);
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::checkpoint::{checkpoint, write_waiting};
    use crate::format::header::DEFAULT_TABLE;
    use crate::options::Options;
    use crate::storage::memory::Memory;
    use crate::store::signals::Request;

    /// A store whose only table is empty but for what was in it before, and how
    /// many of its blocks have their space.
    fn cleared() -> (Store, u32) {
        let storage = Arc::new(Memory::new());
        let store = crate::recovery::open(storage, &Options::new().payload(504)).unwrap();
        let table = store.find_table(DEFAULT_TABLE).unwrap();
        for i in 0..6_000_u64 {
            store.insert(&table, &i.to_le_bytes(), &[7; 400]).unwrap();
        }
        store.clear(&table).unwrap();
        let allocated = allocated(&store);
        assert!(allocated > 800, "{allocated} blocks");
        (store, allocated)
    }

    fn allocated(store: &Store) -> u32 {
        store.core().unwrap().writer(0).unwrap().blocks.allocated()
    }

    #[test]
    fn whoever_waits_for_a_checkpoint_does_not_wait_for_the_end_of_the_file() {
        let (store, before) = cleared();
        let ended = || store.signals.checkpoints.load(Ordering::Relaxed);
        let first = ended();
        _ = store.freeze(&mut store.core().unwrap(), false);
        // While it is written somebody asks for the next one.
        store.signals.request();
        write_waiting(&store);
        assert!(ended() == first + 1 && allocated(&store) >= before, "{}", allocated(&store));
        assert!(matches!(store.signals.next_request(), Some(Request::Checkpoint)));
        // That gives it back, if it writes the table.
        let table = store.find_table(DEFAULT_TABLE).unwrap();
        store.insert(&table, b"another", b"entry").unwrap();
        checkpoint(&store, false).unwrap();
        assert!(allocated(&store) < before / 2);
    }

    #[test]
    fn it_ends_when_somebody_says_so_or_the_table_grows_again() {
        let (store, _) = cleared();
        checkpoint(&store, false).unwrap();
        give_back_tail(&store, 0, |_| 1, &mut || true).unwrap();
        let take = |blocks| {
            let mut core = store.core().unwrap();
            let (writer, ws) = core.writer_mut(0).unwrap();
            writer.blocks.reserve(&ws.epoch, blocks).unwrap();
            writer.blocks.release(blocks);
        };
        take(2_000);
        let before = allocated(&store);
        let mut bites = 0;
        give_back_tail(&store, 0, |_| 1, &mut || std::mem::replace(&mut bites, 1) == 0).unwrap();
        assert_eq!(allocated(&store), before - 512);
        let mut asked = 0;
        let mut grows = || {
            asked += 1;
            if asked == 2 {
                take(2_000);
            }
            true
        };
        give_back_tail(&store, 0, |_| 1, &mut grows).unwrap();
        assert_eq!(asked, 2, "it went on while the table grew");
    }
}
