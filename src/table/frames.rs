//! Frames: 4 KiB places in memory for pages that were changed.
//!
//! The first write to a page after a checkpoint copies it into a frame; later
//! writes change the frame in place. After a checkpoint a frame stays as a
//! clean copy of its block until its room is needed. All tables of a store
//! share one pool.
//!
//! ```text
//! Frames (readers)      one anonymous mapping of 4 KiB frames, never unmapped
//! Pool (writers)        per frame: state, generation, durable block, owner
//!
//! free --take--> dirty --checkpoint--> clean --evict--> retired --epoch--> free
//!                  |                     '--write again--> dirty
//!                  '--replaced before a checkpoint has written it--> superseded --> retired
//! ```
//!
//! Invariants: a dirty frame has one block reserved for it in its table; a
//! frame is stored into again only after the reuse epoch has advanced since it
//! was retired. The pool belongs to the holder of the writer lock.
//!
//! What frames take of memory: as much as were ever in use at once, and what is
//! made ready [`ahead`] of their first use.

mod ahead;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::thread::Thread;

use crate::format::group::PAGE_WORDS;
use crate::storage::Map;
use crate::storage::epoch::ReuseEpoch;

pub(crate) use ahead::Ahead;

/// Frames in a mebibyte: what an advance of the epoch should be worth.
const ADVANCE_AT: usize = 256;

/// The frames, for readers.
pub(crate) struct Frames {
    map: Map,
    /// How many there are.
    count: u32,
    /// Frames that were used once, now and then.
    used: AtomicUsize,
    /// Who makes ready what writers need next.
    worker: Mutex<Option<Thread>>,
}

impl Frames {
    /// Room for `frames` frames; memory is taken when they are first used.
    pub(crate) fn new(frames: usize) -> io::Result<Frames> {
        let map = Map::anonymous(frames * PAGE_WORDS * 8)?;
        let count = frames.min(u32::MAX as usize) as u32;
        Ok(Frames { map, count, used: AtomicUsize::new(0), worker: Mutex::new(None) })
    }

    /// The words of a frame, if there is one of that number.
    #[inline]
    pub(crate) fn words(&self, frame: u32) -> Option<&[AtomicU64]> {
        let (frames, _) = self.map.words().as_chunks::<PAGE_WORDS>();
        frames.get(frame as usize).map(|words| &words[..])
    }

    /// The words of all frames, which lie one behind the other, and how many frames
    /// there are.
    #[inline(always)]
    pub(crate) fn all(&self) -> (&[AtomicU64], u32) {
        (self.map.words(), self.count)
    }

    /// The words of a frame of the pool.
    #[inline]
    pub(crate) fn owned(&self, frame: u32) -> &[AtomicU64] {
        self.words(frame).expect("a frame of the pool lies in its mapping")
    }

    /// Brings those of these frames into memory that there are.
    pub(crate) fn touch(&self, frames: Range<usize>) {
        let bytes = PAGE_WORDS * 8;
        self.map.populate_write(frames.start * bytes, frames.len() * bytes);
    }

    fn capacity(&self) -> usize {
        self.map.words().len() / PAGE_WORDS
    }
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing, or nothing that anybody still needs.
    Free,
    /// A page that differs from what is durable.
    Dirty,
    /// A copy of a block.
    Clean,
    /// A page that a checkpoint writes, or will, and that is already replaced.
    Superseded,
}

/// The page of a segment that a frame stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) table: u16,
    pub(crate) page: u8,
    pub(crate) descriptor: u32,
}

/// What the pool knows of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Info {
    pub(crate) state: State,
    pub(crate) owner: Owner,
    /// The generation in which it became dirty, or was superseded.
    pub(crate) generation: u64,
    /// The block with the same content, if it is clean; the one that the
    /// checkpoint under way has written it to, if it is dirty; else 0.
    pub(crate) block: u32,
}

const NOBODY: Owner = Owner { table: 0, page: 0, descriptor: 0 };

/// Turns the page word of a clean frame back into its block, or refuses.
pub(crate) type Evict<'a> = &'a dyn Fn(Owner, u32, u32) -> bool;

/// The writers' half.
pub(crate) struct Pool {
    frames: std::sync::Arc<Frames>,
    infos: Vec<Info>,
    free: Vec<u32>,
    retired: VecDeque<(u64, u32)>,
    /// Frames to use before clean ones are evicted.
    limit: usize,
    dirty: usize,
    /// Those of them that are replaced already.
    superseded: usize,
    clean: usize,
    /// Where the search for a clean frame goes on.
    hand: usize,
    /// Frames that became dirty since somebody was told so.
    untold: usize,
}

impl Pool {
    /// A pool that prefers to stay below `limit` frames.
    pub(crate) fn new(frames: std::sync::Arc<Frames>, limit: usize) -> Pool {
        Pool {
            frames,
            infos: Vec::new(),
            free: Vec::new(),
            retired: VecDeque::new(),
            limit,
            dirty: 0,
            superseded: 0,
            clean: 0,
            hand: 0,
            untold: 0,
        }
    }

    /// Dirty frames, those that a checkpoint is writing included.
    pub(crate) fn dirty(&self) -> usize {
        self.dirty
    }

    /// Dirty frames that only states which are frozen need.
    pub(crate) fn superseded(&self) -> usize {
        self.superseded
    }

    /// Frames that hold something.
    pub(crate) fn in_use(&self) -> usize {
        self.dirty + self.clean
    }

    /// Frames there could be at most.
    pub(crate) fn capacity(&self) -> usize {
        self.frames.capacity()
    }

    pub(crate) fn info(&self, frame: u32) -> &Info {
        &self.infos[frame as usize]
    }

    pub(crate) fn words(&self, frame: u32) -> &[AtomicU64] {
        self.frames.owned(frame)
    }

    /// Whether `n` frames can be taken.
    pub(crate) fn can_take(&self, n: usize) -> bool {
        let unused = self.capacity() - self.infos.len();
        n <= unused + self.free.len() + self.retired.len() + self.clean
    }

    /// Sees to it that `n` frames can be taken without evicting any, if so many
    /// can be taken at all.
    pub(crate) fn make_free(&mut self, epoch: &ReuseEpoch, evict: Evict<'_>, n: usize) -> bool {
        let below_limit = self.limit.min(self.capacity()).saturating_sub(self.infos.len());
        while self.free.len() + below_limit < n {
            let before = self.free.len();
            self.reclaim(epoch, ADVANCE_AT);
            if self.free.len() == before {
                self.evict_some(epoch, evict);
                self.reclaim(epoch, 1);
            }
            if self.free.len() == before {
                break;
            }
        }
        self.can_take(n)
    }

    /// Takes a frame for a dirty page. Its bytes are whatever they were: zero, if
    /// it was never used before.
    pub(crate) fn take(
        &mut self,
        epoch: &ReuseEpoch,
        evict: Evict<'_>,
        owner: Owner,
        generation: u64,
    ) -> Option<u32> {
        let frame = self.find(epoch, evict)?;
        self.infos[frame as usize] = Info { state: State::Dirty, owner, generation, block: 0 };
        self.dirty += 1;
        self.untold += 1;
        if self.untold >= ahead::TOLD_EVERY {
            self.untold = 0;
            self.frames.tell(self.infos.len());
        }
        // Orders the stores that follow behind the advance of the epoch.
        fence(Ordering::Release);
        Some(frame)
    }

    fn find(&mut self, epoch: &ReuseEpoch, evict: Evict<'_>) -> Option<u32> {
        if self.free.is_empty() {
            self.reclaim(epoch, ADVANCE_AT);
        }
        if let Some(frame) = self.free.pop() {
            return Some(frame);
        }
        if self.infos.len() < self.limit.min(self.capacity()) {
            return Some(self.grow());
        }
        if self.clean > 0 && self.retired.len() < ADVANCE_AT {
            self.evict_some(epoch, evict);
        }
        self.reclaim(epoch, 1);
        if let Some(frame) = self.free.pop() {
            return Some(frame);
        }
        (self.infos.len() < self.capacity()).then(|| self.grow())
    }

    fn grow(&mut self) -> u32 {
        self.infos.push(Info { state: State::Free, owner: NOBODY, generation: 0, block: 0 });
        self.infos.len() as u32 - 1
    }

    /// Makes retired frames free, advancing the epoch if `enough` wait for it.
    fn reclaim(&mut self, epoch: &ReuseEpoch, enough: usize) {
        let waits = self.retired.front().is_some_and(|first| first.0 == epoch.read());
        if waits && self.retired.len() >= enough {
            epoch.advance();
        }
        let now = epoch.read();
        while let Some(&(then, frame)) = self.retired.front()
            && then < now
        {
            self.free.push(frame);
            self.retired.pop_front();
        }
    }

    /// Gives up some clean copies, in the order of the clock.
    fn evict_some(&mut self, epoch: &ReuseEpoch, evict: Evict<'_>) {
        let mut wanted = ADVANCE_AT.min(self.clean);
        for _ in 0..self.infos.len() {
            if wanted == 0 {
                break;
            }
            self.hand = (self.hand + 1) % self.infos.len();
            let info = self.infos[self.hand];
            if info.state == State::Clean && evict(info.owner, self.hand as u32, info.block) {
                self.retire(epoch, self.hand as u32);
                wanted -= 1;
            }
        }
    }

    /// A clean frame is changed again, in place.
    pub(crate) fn dirty_again(&mut self, frame: u32, generation: u64) {
        let info = &mut self.infos[frame as usize];
        debug_assert_eq!(info.state, State::Clean);
        *info = Info { state: State::Dirty, generation, block: 0, ..*info };
        self.clean -= 1;
        self.dirty += 1;
    }

    /// A dirty frame that no checkpoint holds belongs to a new generation.
    pub(crate) fn renew(&mut self, frame: u32, generation: u64) {
        let info = &mut self.infos[frame as usize];
        *info = Info { generation, block: 0, ..*info };
    }

    /// The checkpoint under way has written a frame to that block; with 0, it
    /// has failed.
    pub(crate) fn written(&mut self, frame: u32, block: u32) {
        self.infos[frame as usize].block = block;
    }

    /// A dirty frame has been written to a block.
    pub(crate) fn cleaned(&mut self, frame: u32, block: u32) {
        let info = &mut self.infos[frame as usize];
        debug_assert_eq!(info.state, State::Dirty);
        info.state = State::Clean;
        info.block = block;
        self.dirty -= 1;
        self.clean += 1;
    }

    /// A frame that a checkpoint writes is no longer what its page is, since
    /// this generation.
    pub(crate) fn supersede(&mut self, frame: u32, generation: u64) {
        let info = &mut self.infos[frame as usize];
        debug_assert_eq!(info.state, State::Dirty);
        *info = Info { state: State::Superseded, generation, ..*info };
        self.superseded += 1;
    }

    /// Nobody but late readers needs a frame any more.
    pub(crate) fn retire(&mut self, epoch: &ReuseEpoch, frame: u32) {
        let info = &mut self.infos[frame as usize];
        match info.state {
            State::Dirty => self.dirty -= 1,
            State::Superseded => {
                self.dirty -= 1;
                self.superseded -= 1;
            }
            State::Clean => self.clean -= 1,
            State::Free => debug_assert!(false, "a free frame is not retired"),
        }
        (info.state, info.block) = (State::Free, 0);
        self.retired.push_back((epoch.read(), frame));
    }

    /// The frames of a table that hold something.
    pub(crate) fn of_table(&self, table: u16) -> Vec<u32> {
        let frames = self.infos.iter().enumerate();
        frames
            .filter(|(_, info)| info.state != State::Free && info.owner.table == table)
            .map(|(frame, _)| frame as u32)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const OWNER: Owner = Owner { table: 1, page: 2, descriptor: 3 };

    #[test]
    fn a_clean_frame_makes_room_and_a_dirty_one_does_not() {
        let epoch = ReuseEpoch::new().unwrap();
        let mut pool = Pool::new(Arc::new(Frames::new(4).unwrap()), 2);
        let evicted = std::cell::RefCell::new(Vec::new());
        let evict = |_: Owner, frame: u32, block: u32| {
            evicted.borrow_mut().push((frame, block));
            true
        };
        let a = pool.take(&epoch, &evict, OWNER, 1).unwrap();
        let b = pool.take(&epoch, &evict, OWNER, 1).unwrap();
        pool.cleaned(a, 77);
        let c = pool.take(&epoch, &evict, OWNER, 2).unwrap();
        assert_eq!((c, evicted.borrow().as_slice()), (a, &[(a, 77)][..]));
        // All dirty: beyond the limit, up to what there is, then no more.
        let d = pool.take(&epoch, &evict, OWNER, 2).unwrap();
        let e = pool.take(&epoch, &evict, OWNER, 2).unwrap();
        assert_eq!([a, b, d, e].len(), 4);
        assert!(!pool.can_take(1) && pool.take(&epoch, &evict, OWNER, 2).is_none());
        pool.retire(&epoch, b);
        assert_eq!(pool.take(&epoch, &evict, OWNER, 3), Some(b));
    }
}
