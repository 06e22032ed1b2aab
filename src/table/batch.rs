//! Many changes of a table at once.
//!
//! A batch is prepared as a whole, logged, and applied as a whole, in these
//! steps over all its changes, sorted by the hashes of their keys:
//!
//! 1. *Find*: each change finds its place, chunk by chunk, what the chunk needs
//!    being asked of memory before. The changes of a segment stand together.
//!    Where it has too little room for the new keys among them, it is replaced
//!    once, by what has room for all, and they find their places anew (when the log
//!    is replayed, they go there [at once](self::coming)). Of several
//!    changes of a key only the last one gets a place.
//! 2. *Make writable*: those pages that are not are counted; frames and blocks
//!    for all of them are there, or the batch is refused before one is copied.
//! 3. The record is logged.
//! 4. *Apply*, which cannot fail: each entry goes where its place is.
//!
//! # Why a place stays what it is
//!
//! Nobody else changes the table: the writer lock is held. A segment is replaced
//! only while its own changes find their places. A page that may be written in
//! place stays where it is until the next checkpoint begins. And no two new keys
//! are given the same slot: what was promised is remembered, segment by segment,
//! and counts as full.
//!
//! # Why every key is found afterwards
//!
//! A search for a key ends at the first group with an empty slot. A new key
//! passes over groups whose last empty slots were promised to others; once all
//! inserts are done, these groups are full, and the search goes on past them.
//! Until then such a key may be invisible, as if its turn had not come. Removes
//! come after the inserts, because they ask whether the group is full: an
//! empty slot that is left too early would hide what lies behind it for good.

mod apply;
mod coming;
mod steps;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Result;
use crate::format::group::{self, Probe, SLOTS};

use super::layout::DirectoryWord;
use super::mirror::UNKNOWN;
use super::read::many::CHUNK;
use super::read::near::Near;
use super::segment::{Place, key_is, lengths};
use super::{Spilled, Workspace, Writer};
use steps::Deed;
pub(crate) use steps::{Entries, Entry, Step, Steps};

/// Groups of a segment at most: of 16 pages with 16 groups each.
const MOST_GROUPS: usize = 256;
/// The segment whose changes are finding their places.
struct Run {
    /// Its first step.
    first: usize,
    word: DirectoryWord,
    /// Empty slots that may still be promised.
    left: usize,
    /// Pages that may be written in place, and those that are going to be: a
    /// bit per page.
    writable: u64,
    wanted: u64,
    /// The slots of each group that were promised, a bit per slot.
    promised: [u8; MOST_GROUPS],
    has_promised: bool,
}

impl Run {
    fn new() -> Run {
        let word = DirectoryWord { descriptor: u32::MAX, groups: 0, depth: 0 };
        let promised = [0; MOST_GROUPS];
        Run { first: 0, word, left: 0, writable: 0, wanted: 0, promised, has_promised: false }
    }

    /// Pages that have to be made writable.
    fn to_copy(&self) -> usize {
        (self.wanted & !self.writable).count_ones() as usize
    }

    /// Of these slots the one for a hash that is not promised.
    #[inline]
    fn free(&self, number: usize, slots: group::Slots, hash: u64) -> Option<usize> {
        let (promised, home) = (self.promised[number % MOST_GROUPS], group::home_slot(hash));
        if promised == 0 {
            return slots.nearest(home);
        }
        let free = slots.filter(|slot| promised >> slot & 1 == 0);
        free.min_by_key(|slot| slot.wrapping_sub(home) % SLOTS)
    }

    #[inline]
    fn promise(&mut self, number: usize, slot: usize) {
        self.promised[number % MOST_GROUPS] |= 1 << slot;
        self.has_promised = true;
    }
}

/// What a search among what is there, and what is promised, came to.
enum Found {
    Match(usize, usize),
    /// Absent; a slot that is free, and whether it was deleted.
    Free(usize, usize, bool),
    /// Absent, and no slot is free on its way.
    Full,
}

impl Writer {
    /// Steps 1 and 2 for the changes of this table, sorted. Nothing that anybody
    /// can see has changed afterwards, whether it fails or not.
    pub(crate) fn prepare_batch(
        &mut self,
        ws: &mut Workspace,
        steps: &mut [Step],
        entries: &impl Entries,
        log: &impl Spilled,
    ) -> Result<()> {
        // Those that were prepared before, and failed, may come with others now: a
        // remove whose key a later insert had put there already would take it away.
        steps.iter_mut().for_each(Step::forget);
        let to_copy = self.find_places(ws, steps, entries, log)?;
        if to_copy > 0 {
            self.make_places_writable(ws, steps, to_copy)?;
        }
        Ok(())
    }

    /// How many of these steps, about `count`, are all that there are of the segments
    /// that they belong to, so that none needs room twice.
    pub(crate) fn whole_segments(&self, steps: &[Step], count: usize) -> Result<usize> {
        let Some(step) = steps.get(count) else {
            return Ok(steps.len());
        };
        let word = self.table.route(step.hash)?;
        let last = self.table.descriptor(word.descriptor).info().last_hash();
        Ok(count + steps[count..].partition_point(|step| step.hash <= last))
    }

    /// Finds a place for each change. Returns how many pages of these have to be
    /// made writable.
    fn find_places<E: Entries>(
        &mut self,
        ws: &mut Workspace,
        steps: &mut [Step],
        entries: &E,
        log: &impl Spilled,
    ) -> Result<usize> {
        let table = self.table.clone();
        let (mut near, mut run) = (Near::new(), Run::new());
        let (mut next, mut to_copy, mut roomy) = (0, 0, 0);
        while next < steps.len() {
            let first = next;
            let mut hashes = [0; CHUNK];
            let chunk = steps[first..].iter().take(CHUNK);
            let count = hashes.iter_mut().zip(chunk).map(|(to, step)| *to = step.hash).count();
            table.bring_near(&hashes[..count], &mut near);
            next = first + count;
            for i in first..first + count {
                let hash = steps[i].hash;
                let (word, home) = near.of(i - first);
                let word = word.map_or_else(|| table.route(hash), Ok)?;
                if word.descriptor != run.word.descriptor {
                    to_copy += run.to_copy();
                    self.begin_run(ws, &mut run, word, i);
                    if i >= roomy && self.may_be_short::<E>(&run, steps) {
                        let coming = self.coming(&run, steps, entries, log)?;
                        roomy = coming.behind;
                        if coming.len() > run.left {
                            // What has no place without is told that when it is looked for.
                            let made = self.make_room_for(ws, &run, steps, &coming, entries);
                            next = made.unwrap_or(run.first);
                            run = Run::new();
                            break;
                        }
                    }
                }
                if !self.find_place(&mut run, steps, i, home, entries, log)? {
                    let coming = self.coming(&run, steps, entries, log)?;
                    next = self.make_room_for(ws, &run, steps, &coming, entries)?;
                    run = Run::new();
                    break;
                }
            }
        }
        Ok(to_copy + run.to_copy())
    }

    /// Goes over to the segment of another step.
    #[inline]
    fn begin_run(&self, ws: &Workspace, run: &mut Run, word: DirectoryWord, first: usize) {
        let descriptor = self.table.descriptor(word.descriptor);
        (run.first, run.word) = (first, word);
        run.left = self.growth_left(word);
        (run.writable, run.wanted) = (descriptor.writable(ws.generation), 0);
        if std::mem::take(&mut run.has_promised) {
            run.promised = [0; MOST_GROUPS];
        }
    }

    /// Finds the place of a change, whose search begins in the group `home`.
    /// `false`: its segment has too little room.
    #[inline]
    fn find_place(
        &self,
        run: &mut Run,
        steps: &mut [Step],
        i: usize,
        home: &[AtomicU64],
        entries: &impl Entries,
        log: &impl Spilled,
    ) -> Result<bool> {
        let step = steps[i];
        if step.deed == Deed::Done {
            return Ok(true);
        }
        steps[i].deed = Deed::Nothing;
        if is_undone(steps, i, entries) {
            return Ok(true);
        }
        let key = entries.key(step.change);
        let found = match self.look_at_home(run, step.hash, key, home) {
            Some(found) => found,
            None => self.find_beside(run, step.hash, key, log)?,
        };
        let insert = entries.is_insert(step.change);
        let (deed, (number, slot)) = match found {
            Found::Match(number, slot) if insert => (Deed::Overwrite, (number, slot)),
            Found::Match(number, slot) => (Deed::Remove, (number, slot)),
            _ if !insert => return Ok(true),
            Found::Free(number, slot, true) => (Deed::Reuse, (number, slot)),
            Found::Free(number, slot, false) if run.left > 0 => (Deed::Fill, (number, slot)),
            Found::Free(..) | Found::Full => return Ok(false),
        };
        if matches!(deed, Deed::Reuse | Deed::Fill) {
            run.left -= usize::from(deed == Deed::Fill);
            run.promise(number, slot);
        }
        let (page, group) = self.table.geometry.page_of(number);
        run.wanted |= 1 << page;
        steps[i].set(deed, Place { descriptor: run.word.descriptor, page, group, slot });
        Ok(true)
    }

    /// What the group where the search begins says, if it is plain and says all.
    #[inline]
    fn look_at_home(&self, run: &Run, hash: u64, key: &[u8], home: &[AtomicU64]) -> Option<Found> {
        let number = group::home(hash, run.word.groups.into());
        let control = self.table.mirror.control(run.word.descriptor, number);
        for slot in group::match_h2(control, group::h2(hash)) {
            let fps = home.get(group::FINGERPRINTS)?.load(Ordering::Relaxed);
            if group::byte(fps, slot) == group::fingerprint(hash) {
                let lengths = lengths(home, slot);
                let plain = !lengths.spilled() && lengths.fit(&self.table.geometry);
                let same = plain
                    && lengths.key_len() == key.len()
                    && key_is(self.table.slot(home, slot), key);
                return same.then_some(Found::Match(number, slot));
            }
        }
        let empty = run.free(number, group::match_empty(control), hash)?;
        let deleted = run.free(number, group::match_deleted(control), hash);
        Some(Found::Free(number, deleted.unwrap_or(empty), deleted.is_some()))
    }

    /// As [`locate`](Writer::locate), but promised slots count as full.
    #[cold]
    fn find_beside(&self, run: &Run, hash: u64, key: &[u8], log: &impl Spilled) -> Result<Found> {
        let table = &*self.table;
        let descriptor = table.descriptor(run.word.descriptor);
        let mut deleted = None;
        for number in Probe::new(hash, run.word.groups.into()) {
            let (page, group) = table.geometry.page_of(number);
            let words = || Ok(table.group(self.read_page(descriptor, page)?, group));
            let control = match table.mirror.control(run.word.descriptor, number) {
                UNKNOWN => words()?[group::CONTROL].load(Ordering::Relaxed),
                control => control,
            };
            for slot in group::match_h2(control, group::h2(hash)) {
                let place = Place { descriptor: run.word.descriptor, page, group, slot };
                if self.holds(words()?, place, hash, key, log)? {
                    return Ok(Found::Match(number, slot));
                }
            }
            deleted = deleted.or_else(|| {
                let slot = run.free(number, group::match_deleted(control), hash)?;
                Some(Found::Free(number, slot, true))
            });
            if let Some(slot) = run.free(number, group::match_empty(control), hash) {
                return Ok(deleted.unwrap_or(Found::Free(number, slot, false)));
            }
            // Nothing that is there lies behind a group with an empty slot, so a
            // new key may take a deleted one before it.
        }
        Ok(deleted.unwrap_or(Found::Full))
    }

    /// Brings the pages of all places into frames that may be changed in place.
    #[cold]
    fn make_places_writable(
        &mut self,
        ws: &mut Workspace,
        steps: &[Step],
        to_copy: usize,
    ) -> Result<()> {
        // All that is needed is there, or nothing is taken.
        let places = || steps.iter().filter(|step| step.has_place()).map(Step::place);
        for place in places() {
            let descriptor = self.table.descriptor(place.descriptor);
            if !descriptor.is_writable(place.page, ws.generation) {
                let directory = descriptor.info().directory;
                self.touch(ws, directory)?;
            }
        }
        self.blocks.reserve(&ws.epoch, to_copy)?;
        self.blocks.release(to_copy);
        ws.make_free(to_copy)?;
        for place in places() {
            self.make_writable(ws, place)?;
        }
        Ok(())
    }
}

/// Whether the change behind this one is of the same key, so that this one
/// leaves nothing.
#[inline]
fn is_undone(steps: &[Step], i: usize, entries: &impl Entries) -> bool {
    let (this, next) = (&steps[i], steps.get(i + 1));
    next.is_some_and(|next| {
        next.hash == this.hash && entries.key(next.change) == entries.key(this.change)
    })
}
