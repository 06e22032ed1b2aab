//! Memory for the directory: lines that are never given back.
//!
//! Readers follow numbers, not pointers: root, directory arrays and
//! descriptors are runs of 64-byte *lines* in an arena, and a number names the
//! first line of a run. Memory of the arena is never unmapped while the store
//! is open, so a reader that comes late can at worst read another structure's
//! words, and finds out from the reuse epoch.
//!
//! ```text
//! chunk 0: 64 lines | chunk 1: 128 lines | chunk 2: 256 lines | ...
//! ```
//!
//! Chunks double, so a line's chunk follows from its number. Runs are powers
//! of two of lines; a run given back waits in `retired` until the reuse epoch
//! has advanced past it.
//!
//! [`Arena`] is the readers' half and may be used from any thread;
//! [`Allocator`] belongs to whoever holds the table's structure lock.

use std::collections::VecDeque;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::storage::Map;
use crate::storage::epoch::ReuseEpoch;
use crate::storage::map::fill;

/// Words in a line.
pub(crate) const LINE_WORDS: usize = 8;
/// Lines in the first chunk.
const FIRST: u64 = 64;
/// Places for chunks: more than line numbers of 32 bits can name, and a power
/// of two, so that the number of a chunk needs no check.
const CHUNKS: usize = 32;

/// The lines, for reading and for storing single words.
pub(crate) struct Arena {
    chunks: [OnceLock<Map>; CHUNKS],
    /// Two lines for each of the others, apart from them, for what only the
    /// writer needs. Memory is taken when they are first used.
    cold: [OnceLock<Map>; CHUNKS],
}

/// The chunk of a line, and the line's place in it.
#[inline]
fn locate(line: u32) -> (usize, usize) {
    let shifted = u64::from(line) + FIRST;
    let chunk = shifted.ilog2() - FIRST.ilog2();
    (chunk as usize, (shifted - (FIRST << chunk)) as usize)
}

impl Arena {
    fn new() -> Arena {
        let none = || [const { OnceLock::new() }; CHUNKS];
        Arena { chunks: none(), cold: none() }
    }

    /// The words of the chunk that a line lies in, if there is one, and the
    /// number of the line's first word in it.
    #[inline]
    pub(crate) fn chunk_of(&self, line: u32) -> Option<(&[AtomicU64], usize)> {
        let (chunk, place) = locate(line);
        Some((self.chunks[chunk % CHUNKS].get()?.words(), place * LINE_WORDS))
    }

    /// The words of `lines` lines, if the arena has them: a late reader may
    /// ask for a number that never was one.
    #[inline]
    pub(crate) fn words(&self, line: u32, lines: usize) -> Option<&[AtomicU64]> {
        let (chunk, place) = locate(line);
        let words = self.chunks.get(chunk)?.get()?.words();
        words.get(place * LINE_WORDS..(place + lines) * LINE_WORDS)
    }

    /// The cold lines that belong to a line.
    #[inline]
    pub(crate) fn cold(&self, line: u32) -> Option<&[AtomicU64]> {
        let (chunk, place) = locate(line);
        let words = self.cold.get(chunk)?.get()?.words();
        words.get(place * 2 * LINE_WORDS..(place + 1) * 2 * LINE_WORDS)
    }

    /// The words of lines that are known to be there.
    ///
    /// # Panics
    ///
    /// If they are not: only for numbers that this process allocated and
    /// whose owner asks, never for what a late reader finds.
    #[inline]
    pub(crate) fn owned(&self, line: u32, lines: usize) -> &[AtomicU64] {
        self.words(line, lines).expect("an allocated line lies in its chunk")
    }
}

/// The writers' half: which lines are in use.
pub(crate) struct Allocator {
    /// The next line never used so far.
    next: u32,
    /// Free runs by the logarithm of their length.
    free: [Vec<u32>; 32],
    /// Runs given back: epoch, first line, logarithm of the length.
    retired: VecDeque<(u64, u32, u8)>,
    /// How often lines can still be taken before memory runs out.
    #[cfg(test)]
    pub(super) left: usize,
}

/// A new arena and the right to allocate in it.
pub(crate) fn new() -> (Arena, Allocator) {
    let allocator = Allocator {
        next: 0,
        free: [const { Vec::new() }; 32],
        retired: VecDeque::new(),
        #[cfg(test)]
        left: usize::MAX,
    };
    (Arena::new(), allocator)
}

fn class_of(lines: usize) -> u8 {
    lines.next_power_of_two().ilog2() as u8
}

impl Allocator {
    /// A run of at least `lines` zeroed lines.
    pub(crate) fn take(
        &mut self,
        arena: &Arena,
        epoch: &ReuseEpoch,
        lines: usize,
    ) -> io::Result<u32> {
        let class = class_of(lines);
        #[cfg(test)]
        {
            self.left = self.left.checked_sub(1).ok_or(io::ErrorKind::OutOfMemory)?;
        }
        if self.free[class as usize].is_empty() {
            self.reclaim(epoch);
        }
        let line = match self.free[class as usize].pop() {
            Some(line) => line,
            None => self.bump(arena, class)?,
        };
        std::sync::atomic::fence(Ordering::Release);
        fill(arena.owned(line, 1 << class), 0);
        Ok(line)
    }

    /// Gives a run back; late readers may still look at it.
    pub(crate) fn retire(&mut self, epoch: &ReuseEpoch, line: u32, lines: usize) {
        self.retired.push_back((epoch.read(), line, class_of(lines)));
    }

    fn reclaim(&mut self, epoch: &ReuseEpoch) {
        // Never advances it: a reader that loads a directory page comes here
        // too, and only the holder of the writer lock may. Frames are retired
        // with every segment, so that it advances often enough.
        let now = epoch.read();
        while let Some(&(then, line, class)) = self.retired.front()
            && then < now
        {
            self.free[class as usize].push(line);
            self.retired.pop_front();
        }
    }

    /// A run from beyond everything used so far.
    fn bump(&mut self, arena: &Arena, class: u8) -> io::Result<u32> {
        let lines = 1u64 << class;
        loop {
            let (chunk, place) = locate(self.next);
            let size = FIRST << chunk;
            let slot = arena.chunks.get(chunk).ok_or(io::ErrorKind::OutOfMemory)?;
            if place as u64 + lines <= size {
                if slot.get().is_none() {
                    let bytes = size as usize * LINE_WORDS * 8;
                    let _ = arena.cold[chunk].set(Map::anonymous(2 * bytes)?);
                    let _ = slot.set(Map::anonymous(bytes)?);
                }
                let line = self.next;
                self.next += lines as u32;
                return Ok(line);
            }
            self.skip_to_next_chunk(size, place as u64);
        }
    }

    /// Leaves the rest of a chunk to smaller runs.
    fn skip_to_next_chunk(&mut self, size: u64, place: u64) {
        let mut rest = size - place;
        // An untouched chunk has no memory yet and is passed over.
        if place == 0 {
            rest = 0;
            self.next += size as u32;
        }
        while rest > 0 {
            let class = rest.ilog2();
            self.free[class as usize].push(self.next);
            self.next += 1 << class;
            rest -= 1 << class;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_do_not_overlap_and_come_zeroed() {
        let epoch = ReuseEpoch::new().unwrap();
        let (arena, mut allocator) = new();
        let mut seen = std::collections::BTreeMap::new();
        for i in 0..500usize {
            let lines = 1 << (i * 7 % 9);
            let line = allocator.take(&arena, &epoch, lines).unwrap();
            let words = arena.owned(line, lines);
            assert!(words.iter().all(|w| w.load(Ordering::Relaxed) == 0));
            fill(words, 1);
            let before = seen.range(..=line).next_back();
            assert!(before.is_none_or(|(l, n)| *l as usize + n <= line as usize));
            let after = seen.range(line..).next();
            assert!(after.is_none_or(|(l, _)| line as usize + lines <= *l as usize));
            seen.insert(line, lines);
        }
    }

    #[test]
    fn a_retired_run_is_reused_only_after_the_epoch_advanced() {
        let epoch = ReuseEpoch::new().unwrap();
        let (arena, mut allocator) = new();
        let line = allocator.take(&arena, &epoch, 4).unwrap();
        allocator.retire(&epoch, line, 4);
        assert_ne!(allocator.take(&arena, &epoch, 4).unwrap(), line);
        epoch.advance();
        assert_eq!(allocator.take(&arena, &epoch, 4).unwrap(), line);
    }

    #[test]
    fn a_number_beyond_the_arena_is_refused() {
        let (arena, _) = new();
        assert!(arena.words(0, 1).is_none());
        assert!(arena.words(u32::MAX, 1).is_none());
    }
}
