//! Frames that are in memory before they are used.
//!
//! The first store into a frame makes the kernel find memory for it, and zero
//! that: 2 MiB at once where it gives huge pages, some hundred microseconds with
//! the writer lock held, a tenth of the time of filling a store, and a fourth of
//! that of replaying a long log. So the pool tells a thread how many frames were
//! used by now, and that brings those that come next into memory, a piece of
//! 2 MiB at a time.
//!
//! ```text
//! 0 ············ used ├──── ahead ────┤ no memory yet ··· limit
//! ```
//!
//! *Ahead* is half of what was used, but no less than [`LEAST`] and no more
//! than [`MOST`], and it ends where the pool prefers to stay (the write buffer).
//! So a store takes at most 64 MiB for frames that it has not used. Before the
//! first mebibyte became dirty nothing is taken. A writer who has overtaken the
//! thread will have the next piece brought in by its own store, before the thread
//! could: if both did, both would zero 2 MiB, and one of them for nothing. So the
//! thread leaves that piece to the writer, and they take turns. Where the kernel
//! does not bring memory in when it is asked, nothing happens, and frames fault in
//! when they are used, as they do for a writer who is faster than the thread.
//!
//! Half, because a busy writer wants half as many frames again within
//! milliseconds when a checkpoint begins: it copies nearly all pages that the
//! checkpoint has not written yet. And a virtual machine may get memory from its
//! host page by page, 4.5 ms for 2 MiB, when it has not used it for some
//! seconds; a fill in batches takes 2 MiB each 2 ms.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::thread::Thread;

use super::Frames;

/// Frames that become dirty until the thread is told: a mebibyte.
pub(super) const TOLD_EVERY: usize = 256;
/// Frames that are brought into memory with one call: 2 MiB.
const PIECE: usize = 512;
/// Frames that are ready ahead of use, at least: 4 MiB.
const LEAST: usize = 2 * PIECE;
/// The same, at most: 64 MiB.
const MOST: usize = 32 * PIECE;

impl Frames {
    /// The calling thread is told from now on when frames were taken, and no
    /// longer the one that called this before.
    pub(crate) fn tell_me(&self) {
        *self.worker() = Some(std::thread::current());
    }

    fn worker(&self) -> MutexGuard<'_, Option<Thread>> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Some frames became dirty, and so many were ever used. Wakes the thread.
    #[cold]
    pub(super) fn tell(&self, used: usize) {
        self.used.store(used, Ordering::Relaxed);
        self.wake();
    }

    /// Wakes the thread that [wants to be told](Frames::tell_me).
    pub(crate) fn wake(&self) {
        if let Some(worker) = &*self.worker() {
            worker.unpark();
        }
    }
}

/// How far the frames are in memory.
#[derive(Debug)]
pub(crate) struct Ahead {
    /// Frames below this one are used or were brought in.
    ready: usize,
    /// Where to end.
    limit: usize,
}

impl Ahead {
    /// Nothing yet; frames from `limit` on are never brought in.
    pub(crate) fn new(limit: usize) -> Ahead {
        Ahead { ready: 0, limit }
    }

    /// Brings the next piece into memory, if it is time. Says whether it was.
    pub(crate) fn step(&mut self, frames: &Frames) -> bool {
        let piece = self.next(frames.used.load(Ordering::Relaxed), frames.capacity());
        let wanted = piece.is_some();
        piece.inspect(|piece| frames.touch(piece.clone()));
        wanted
    }

    /// The next piece to bring in when so many frames were used.
    fn next(&mut self, used: usize, capacity: usize) -> Option<Range<usize>> {
        let until = used + (used / 2).clamp(LEAST, MOST);
        let end = self.limit.min(capacity);
        // What lies in one huge page with a frame in use is there already.
        let behind = used.next_multiple_of(PIECE);
        let overtaken = self.ready > 0 && behind >= self.ready;
        let from = if overtaken { behind + PIECE } else { self.ready.max(behind) };
        if used == 0 || (from + PIECE > until && !overtaken) || from >= end {
            return None;
        }
        self.ready = (from + PIECE).min(end);
        Some(from..self.ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that is brought in while frames are used one after the other.
    fn pieces(ahead: &mut Ahead, capacity: usize, used: Range<usize>) -> Vec<Range<usize>> {
        let of = |used| std::iter::repeat(used);
        used.flat_map(|used| {
            of(used).map_while(|used| ahead.next(used, capacity)).collect::<Vec<_>>()
        })
        .collect()
    }

    #[test]
    fn nothing_is_brought_in_for_a_store_that_does_not_write() {
        let mut ahead = Ahead::new(100_000);
        assert_eq!(ahead.next(0, 100_000), None);
    }

    #[test]
    fn pieces_follow_one_another_and_stay_within_their_bound() {
        const LIMIT: usize = 200_000;
        let mut ahead = Ahead::new(LIMIT);
        let mut end = 0;
        for used in 1..LIMIT {
            while let Some(piece) = ahead.next(used, usize::MAX) {
                assert!(piece.start >= end && piece.len() <= PIECE && !piece.is_empty());
                end = piece.end;
            }
            let ahead = end - used.min(end);
            assert!(ahead <= MOST && ahead <= (used / 2).max(LEAST), "{ahead} ahead of {used}");
            assert!(end == LIMIT || ahead + PIECE > (used / 2).clamp(LEAST, MOST));
        }
        assert_eq!(end, LIMIT);
    }

    #[test]
    fn neither_the_limit_nor_the_number_of_frames_is_passed() {
        for (limit, capacity) in [(700, 5000), (5000, 700), (0, 5000), (5000, 0)] {
            let mut ahead = Ahead::new(limit);
            let pieces = pieces(&mut ahead, capacity, 1..6000);
            let end = pieces.last().map_or(0, |piece| piece.end);
            assert_eq!(end, if limit.min(capacity) == 700 { 700 } else { 0 });
        }
    }

    #[test]
    fn a_writer_who_was_faster_is_not_followed_through_what_it_used() {
        let mut ahead = Ahead::new(100_000);
        assert_eq!(ahead.next(10_000, 100_000), Some(10_240..10_752));
        // The piece from 50,176 on is the writer's own.
        assert_eq!(ahead.next(50_001, 100_000), Some(50_688..51_200));
        assert_eq!(ahead.next(50_300, 100_000), Some(51_200..51_712));
    }

    #[test]
    fn where_memory_is_not_brought_in_frames_are_used_all_the_same() {
        // A map on the heap takes no advice, as a kernel that is too old.
        let words = crate::storage::map::zeros(8 * 512);
        let map = crate::storage::Map::heap(words);
        let frames = Frames { map, count: 8, used: 1.into(), worker: Default::default() };
        let mut ahead = Ahead::new(8);
        assert!(!ahead.step(&frames), "what is in one piece with a used frame is there");
        frames.touch(0..100);
        assert!(frames.owned(7).iter().all(|word| word.load(Ordering::Relaxed) == 0));
    }
}
