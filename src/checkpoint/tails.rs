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
//! seconds, for a checkpoint that is over, or for somebody to clean the log. But
//! somebody who has run out of blocks waits for the end of a bite, and so does
//! whoever closes the store.

use std::time::Duration;

use crate::error::Result;
use crate::store::Store;
use crate::table::blocks::Bite;
use crate::table::{Workspace, Writer};

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
    let mut begin = |writer: &mut Writer, ws: &mut Workspace| {
        let allocated = writer.blocks.allocated();
        let begun = given % AT_LEAST != 0;
        let enough = if begun { 1 } else { worth(allocated) };
        // Otherwise somebody has taken space since.
        let shrinks = allocated <= left;
        let bite = shrinks.then(|| writer.blocks.begin_giving_back(&ws.epoch, enough))??;
        (given, left) = (given + bite.blocks(), allocated - bite.blocks());
        Some(bite)
    };
    while let Some(bite) = next_bite(store, id, go_on, &mut begin)? {
        bite.punch()?;
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
    let mut begin =
        |writer: &mut Writer, _: &mut Workspace| writer.blocks.begin_giving_back_unknown();
    while let Some(bite) = next_bite(store, id, go_on, &mut begin)? {
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

/// Begins the next bite of a table file, when nobody else is at one. `None`:
/// there is none, or no time for it.
fn next_bite(
    store: &Store,
    id: u16,
    go_on: &mut dyn FnMut() -> bool,
    begin: &mut dyn FnMut(&mut Writer, &mut Workspace) -> Option<Bite>,
) -> Result<Option<Bite>> {
    while go_on() {
        // Refused when the store is being closed, which takes the lock once more, and
        // waits.
        let mut core = store.core()?;
        let Some((writer, ws)) = core.writer_mut(id) else {
            break;
        };
        let Some(other) = writer.blocks.punched() else {
            return Ok(begin(writer, ws));
        };
        drop(core);
        other.wait();
    }
    Ok(None)
}

/// Returns when no bite is being taken of any table file, and none will: for a
/// store that is closed.
pub(crate) fn wait_for_bites(store: &Store) {
    let core = store.core_to_look();
    let bites: Vec<_> = core.writers().filter_map(|writer| writer.blocks.punched()).collect();
    drop(core);
    bites.iter().for_each(|bite| bite.wait());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::checkpoint::{checkpoint, write_waiting};
    use crate::error::Error;
    use crate::format::header::DEFAULT_TABLE;
    use crate::handle::Handle;
    use crate::handle::tests::assert_closing_waits;
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
        store.core_to_look().writer(0).unwrap().blocks.allocated()
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

    /// Begins to punch a hole.
    fn bite(store: &Store) -> Bite {
        let mut core = store.core().unwrap();
        let (writer, ws) = core.writer_mut(0).unwrap();
        writer.blocks.begin_giving_back(&ws.epoch, 1).expect("a free end")
    }

    #[test]
    fn whoever_finds_somebody_else_at_it_goes_on_when_that_is_over() {
        let (store, before) = cleared();
        let bite = bite(&store);
        std::thread::scope(|scope| {
            let gives_back = scope.spawn(|| give_back_tail(&store, 0, |_| 1, &mut || true));
            std::thread::sleep(Duration::from_millis(20));
            assert!(!gives_back.is_finished());
            bite.punch().unwrap();
            gives_back.join().unwrap().unwrap();
        });
        assert!(allocated(&store) < before - 512, "{}", allocated(&store));
    }

    #[test]
    fn no_hole_is_begun_when_the_store_is_being_closed() {
        let (store, before) = cleared();
        assert!(store.mark_closed());
        let refused = give_back_tail(&store, 0, |_| 1, &mut || true);
        assert!(matches!(refused, Err(Error::Closed { .. })));
        assert_eq!(allocated(&store), before);
    }

    #[test]
    fn a_store_is_not_closed_while_a_hole_is_punched_even_if_it_is_poisoned() {
        for poisoned in [false, true] {
            let (store, _) = cleared();
            let bite = bite(&store);
            let handle = Handle::start(store).unwrap();
            assert_closing_waits(&handle, poisoned, || bite.punch().unwrap());
        }
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
