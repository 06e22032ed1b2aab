//! Passes over a table: from segment to segment in the order of their hashes,
//! a bite at a time.
//!
//! What is done to a segment, the table knows ([`Writer::tidy`]). Here is how
//! it is done beside writers: a bite is some tens of pages under the writer
//! lock, then there is a pause, and where many pages are dirty a wait for the
//! checkpoint, as for every writer. Segments that are split, grown or merged
//! meanwhile are met or passed over, never twice.
//!
//! [`Writer::tidy`]: crate::table::Writer::tidy

use std::time::Duration;

use crate::error::Result;
use crate::store::Store;
use crate::table::shrink::Sizing;

/// Pages that become dirty with one holding of the writer lock, about.
const BITE_PAGES: usize = 32;
/// Segments that are looked at with one.
const BITE_SEGMENTS: usize = 256;
/// Segments whose live bytes are counted with one.
const COUNTED_SEGMENTS: usize = 16;
/// How long writers have between two bites at least.
const PAUSE: Duration = Duration::from_micros(50);

/// A walk over all segments of a table.
#[derive(Clone, Copy)]
pub(crate) struct Pass {
    pub(crate) table: u16,
    pub(crate) sizing: Sizing,
    /// Pages in this block or behind it are written again, root and free map
    /// too.
    pub(crate) below: Option<u32>,
}

/// Tidies a table from one end to the other, in bites. `go_on` is asked after
/// each, with the share that is done. Returns how many pages became dirty.
pub(crate) fn pass(store: &Store, pass: Pass, go_on: &mut dyn FnMut(f64) -> bool) -> Result<usize> {
    let mut pages = 0;
    let mut next = Some(0);
    while let Some(from) = next {
        store.check_writable()?;
        store.signals.throttle()?;
        let mut core = store.core()?;
        let mut at = from;
        let before = pages;
        for _ in 0..BITE_SEGMENTS {
            let Some((writer, ws)) = core.writer_mut(pass.table) else {
                return Ok(pages);
            };
            let tidied = writer.tidy(ws, at, pass.sizing, pass.below)?;
            pages += tidied.pages;
            next = tidied.next;
            match next {
                Some(hash) if pages - before < BITE_PAGES => at = hash,
                _ => break,
            }
        }
        store.after_change(&mut core);
        drop(core);
        if !go_on(next.map_or(1.0, |hash| hash as f64 / u64::MAX as f64)) {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    if let (None, Some(below)) = (next, pass.below)
        && let Some((writer, ws)) = store.core()?.writer_mut(pass.table)
        && writer.move_runs(ws, below)?
    {
        pages += 1;
    }
    Ok(pages)
}

/// Counts the live bytes of a table anew if one of its counts was found wrong.
pub(crate) fn recount(store: &Store) -> Result<()> {
    let ids: Vec<u16> = {
        let mut core = store.core()?;
        let wrong = core.tables.iter_mut().flatten().filter(|writer| writer.needs_recount());
        let begun = wrong.map(|writer| {
            writer.begin_recount();
            writer.table.id
        });
        begun.collect()
    };
    for id in ids {
        loop {
            let mut core = store.core()?;
            let Some((writer, _)) = core.writer_mut(id) else { break };
            if !writer.recount_some(COUNTED_SEGMENTS)? || store.space.is_stopped() {
                break;
            }
        }
    }
    Ok(())
}
