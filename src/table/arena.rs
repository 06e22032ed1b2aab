//! Memory for the directory: lines that are never given back.
//!
//! Readers follow numbers, not pointers: root, directory arrays and
//! descriptors are runs of 64-byte *lines* in an arena, and a number names the
//! first line of a run. Memory of the arena is never unmapped while the store
//! is open, so a reader that comes late can at worst read another structure's
//! words, and finds out from the reuse epoch.
//!
//! ```text
//! lines   ├ 0 ┼ 1 ┼ 2 ┼ ··· ┼ next ┤  addresses without memory, so far  ┤
//! cold    ├  0   ┼  1   ┼  2   ┼ ···
//! ```
//!
//! The addresses of all lines that there may ever be are reserved at once, in
//! one range; memory is taken when a line is first used. So a line is found by
//! a mask, a shift and an addition, which a lookup does four times. (In chunks that double, as it was, it took fifteen instructions each, and the
//! instructions of a get decide how many gets overlap in the processor.)
//!
//! # How many lines
//!
//! The full [`Room`] is enough for a table file of its greatest length. Where a process
//! has [reserved much](crate::storage::map) already, or the system refuses, an arena has
//! room for fewer lines, and a table cannot grow beyond them: its writers get an error.
//! But there is always room for twice what the table has when it is opened, so
//! opening the store anew ends that. On x86-64 the least is a million lines, enough for
//! some 30 GB, and the 250 tables that are opened first have the full room. With
//! addresses of 39 bits the first tables have room for two million lines, and if there are
//! thousands of them each has for some thousand, or 100 MB. The lines of a table that
//! stands still are known when it is opened, and more are not reserved.
//!
//! Runs are powers of two of lines; a run given back waits in `retired` until
//! the reuse epoch has advanced past it.
//!
//! [`Arena`] is the readers' half and may be used from any thread;
//! [`Allocator`] belongs to whoever holds the table's structure lock.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::storage::Map;
use crate::storage::epoch::ReuseEpoch;
use crate::storage::map::fill;

/// Words in a line.
pub(crate) const LINE_WORDS: usize = 8;
/// Lines that addresses are reserved for: 16 GiB, and twice as many for the
/// cold ones. A table file of its greatest length needs fewer.
const RESERVED: usize = if cfg!(miri) { 1 << 14 } else { 1 << 28 };
/// The same at least.
const RESERVED_LEAST: usize = 1 << 12;
/// The bytes of a line.
const LINE: usize = LINE_WORDS * 8;
/// From this line on huge pages are asked for: after the first 2 MiB.
const HUGE_FROM: u64 = (2 << 20) / LINE as u64;
/// What is said when there is room for no more lines.
const FULL: &str = "the addresses that were reserved for it are used up; the next opening of the \
                    store reserves twice what the table then needs";

/// For how many lines an arena is to have room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Those that the directory takes now, at most.
    pub(super) lines: usize,
    /// Whether there will never be more.
    pub(super) still: bool,
    /// Powers of two.
    least: usize,
    most: usize,
}

impl Room {
    /// That of a table that may grow, and has so many lines now.
    pub(crate) fn to_grow(lines: usize) -> Room {
        let least = lines.saturating_mul(2).min(RESERVED).next_power_of_two();
        Room { lines, still: false, least: least.max(RESERVED_LEAST), most: RESERVED }
    }

    /// That of a table that stands still, and never has more lines.
    pub(crate) fn for_all(lines: usize) -> Room {
        let all = lines.min(RESERVED).next_power_of_two();
        Room { lines, still: true, least: all, most: all }
    }
}

/// The lines, for reading and for storing single words.
pub(crate) struct Arena {
    lines: Map,
    /// Two lines for each of the others, apart from them, for what only the
    /// writer needs.
    cold: Map,
    /// The number of the last line: one less than a power of two.
    last: u32,
}

impl Arena {
    fn new(room: Room) -> io::Result<Arena> {
        let cold = Map::reserved(2 * LINE * room.most, 2 * LINE * room.least)?;
        // No more than there are cold ones for.
        let most = cold.words().len() / (2 * LINE_WORDS);
        let lines = Map::reserved(LINE * most, LINE * room.least)?;
        let count = lines.words().len() / LINE_WORDS;
        assert!(count.is_power_of_two() && count <= most);
        Ok(Arena { lines, cold, last: count as u32 - 1 })
    }

    /// The words of all lines, and the number of the last line, which is one less
    /// than a power of two. Lines that are not in use are all zero.
    #[inline(always)]
    pub(crate) fn all(&self) -> (&[AtomicU64], u32) {
        (self.lines.words(), self.last)
    }

    /// The words of `lines` lines, if the arena has room for them.
    #[inline]
    pub(crate) fn words(&self, line: u32, lines: usize) -> Option<&[AtomicU64]> {
        let start = line as usize * LINE_WORDS;
        self.lines.words().get(start..start + lines * LINE_WORDS)
    }

    /// The cold lines that belong to a line.
    #[inline]
    pub(crate) fn cold(&self, line: u32) -> Option<&[AtomicU64]> {
        let start = line as usize * 2 * LINE_WORDS;
        self.cold.words().get(start..start + 2 * LINE_WORDS)
    }

    /// The words of lines that are known to be there.
    ///
    /// # Panics
    ///
    /// If they are not: only for numbers that this process allocated and
    /// whose owner asks, never for what a late reader finds.
    #[inline]
    pub(crate) fn owned(&self, line: u32, lines: usize) -> &[AtomicU64] {
        self.words(line, lines).expect("an allocated line lies in the arena")
    }

    /// The bytes of addresses that are reserved.
    #[cfg(test)]
    pub(super) fn reserved(&self) -> usize {
        self.lines.len() + self.cold.len()
    }

    /// How many lines there may be.
    fn room(&self) -> u64 {
        (self.lines.words().len() / LINE_WORDS) as u64
    }
}

/// The writers' half: which lines are in use.
pub(crate) struct Allocator {
    /// The next line never used so far.
    next: u64,
    /// Up to which line huge pages have been asked for, or need not be.
    huge: u64,
    /// Free runs by the logarithm of their length.
    free: [Vec<u32>; 32],
    /// Runs given back: epoch, first line, logarithm of the length.
    retired: VecDeque<(u64, u32, u8)>,
    /// How often lines can still be taken before memory runs out.
    #[cfg(test)]
    pub(super) left: usize,
}

/// A new arena and the right to allocate in it.
///
/// # Errors
///
/// What the operating system says to the wish for addresses.
pub(crate) fn new(room: Room) -> io::Result<(Arena, Allocator)> {
    let allocator = Allocator {
        next: 0,
        huge: HUGE_FROM,
        free: [const { Vec::new() }; 32],
        retired: VecDeque::new(),
        #[cfg(test)]
        left: usize::MAX,
    };
    Ok((Arena::new(room)?, allocator))
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
        let (line, lines) = (self.next, 1 << class);
        if line + lines > arena.room() {
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, FULL));
        }
        self.next += lines;
        while self.next > self.huge {
            // As many again: a small table never has huge pages, a large one
            // hardly anything else.
            let (from, count) = (self.huge as usize * LINE, self.huge as usize * LINE);
            arena.lines.want_huge_pages(from, count);
            arena.cold.want_huge_pages(2 * from, 2 * count);
            self.huge *= 2;
        }
        Ok(line as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_do_not_overlap_and_come_zeroed() {
        let epoch = ReuseEpoch::new().unwrap();
        let (arena, mut allocator) = new(Room::to_grow(0)).unwrap();
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
        let (arena, mut allocator) = new(Room::to_grow(0)).unwrap();
        let line = allocator.take(&arena, &epoch, 4).unwrap();
        allocator.retire(&epoch, line, 4);
        assert_ne!(allocator.take(&arena, &epoch, 4).unwrap(), line);
        epoch.advance();
        assert_eq!(allocator.take(&arena, &epoch, 4).unwrap(), line);
    }

    #[test]
    fn a_number_beyond_the_arena_is_refused() {
        let (arena, _) = new(Room::to_grow(0)).unwrap();
        assert!(arena.words(u32::MAX, 1).is_none());
        assert!(arena.cold(u32::MAX).is_none());
        let (last, beyond) = (arena.last, arena.last + 1);
        assert!(arena.words(last, 1).is_some() && arena.words(last, 2).is_none());
        assert!(arena.words(beyond, 1).is_none());
    }

    #[test]
    fn a_full_arena_gives_no_more_lines() {
        let epoch = ReuseEpoch::new().unwrap();
        let (arena, mut allocator) = new(Room::to_grow(0)).unwrap();
        allocator.next = arena.room() - 2;
        let error = allocator.take(&arena, &epoch, 4).unwrap_err();
        assert!(error.to_string().contains("the next opening"), "{error}");
        assert_eq!(u64::from(allocator.take(&arena, &epoch, 2).unwrap()), arena.room() - 2);
        assert!(allocator.take(&arena, &epoch, 1).is_err());
    }

    #[test]
    fn a_table_that_stands_still_reserves_what_it_has() {
        let epoch = ReuseEpoch::new().unwrap();
        let (arena, mut allocator) = new(Room::for_all(1000)).unwrap();
        assert_eq!((arena.room(), arena.lines.len(), arena.cold.len()), (1024, 1 << 16, 1 << 17));
        assert_eq!(allocator.take(&arena, &epoch, 1024).unwrap(), 0);
        assert!(allocator.take(&arena, &epoch, 1).is_err());
        assert!(arena.cold(1023).is_some() && arena.cold(1024).is_none());
    }

    #[test]
    fn a_table_that_grows_has_room_for_twice_what_it_has() {
        for lines in [0, 1, 5_000, RESERVED / 2, RESERVED, usize::MAX] {
            let Room { least, most, .. } = Room::to_grow(lines);
            assert!(least >= lines.saturating_mul(2).min(RESERVED) && least >= RESERVED_LEAST);
            assert!(least.is_power_of_two() && most == RESERVED && least <= most);
        }
        let (arena, _) = new(Room::to_grow(5_000)).unwrap();
        assert!(arena.room() >= 10_000);
    }
}
