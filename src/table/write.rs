//! Changes to a table, in two steps.
//!
//! *Prepare* does everything that can fail and nothing that anybody can see:
//! it looks the key up, makes room, and brings the page into a frame that may
//! be changed in place, with a block reserved for it. Then the caller logs the
//! commit. *Apply* ([`Writer::put`], [`Writer::erase`]) cannot fail.
//!
//! What [`batch`](super::batch) does is the same for many changes at once.

use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::format::group::{Address, Shape};
use crate::hash::Hasher;
use crate::options::HashKind;
use crate::storage::map::copy_words;

use super::frames::{Owner, State};
use super::layout::{DirectoryWord, PageWord};
use super::mirror::Sought;
use super::segment::{Place, Spot, with_content};
use super::{Spilled, Workspace, Writer};

/// A place that is ready to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ready {
    /// The key is there and gets a new value.
    Overwrite(Place),
    /// The key is new and takes a deleted slot.
    Reuse(Place),
    /// The key is new and takes an empty slot.
    Fill(Place),
}

impl Writer {
    /// Finds, or makes, a place for a key. Changes nothing that can be seen.
    pub(crate) fn prepare_insert(
        &mut self,
        ws: &mut Workspace,
        hash: u64,
        key: &[u8],
        log: &impl Spilled,
    ) -> Result<Ready> {
        loop {
            let word = self.table.route(hash)?;
            self.fetch_home(ws, word, hash)?;
            let ready = match self.locate(word, hash, key, log)? {
                Spot::Match(place) => Ready::Overwrite(place),
                Spot::Deleted(place) => Ready::Reuse(place),
                Spot::Empty(place) if self.growth_left(word) > 0 => Ready::Fill(place),
                Spot::Empty(_) | Spot::Full => {
                    self.make_room(ws, word, &[hash])?;
                    continue;
                }
            };
            let (Ready::Overwrite(place) | Ready::Reuse(place) | Ready::Fill(place)) = ready;
            self.make_writable(ws, place)?;
            self.prefetch_slot(place);
            return Ok(ready);
        }
    }

    /// Finds a key that is to be removed; `None` if it is absent.
    pub(crate) fn prepare_remove(
        &mut self,
        ws: &mut Workspace,
        hash: u64,
        key: &[u8],
        log: &impl Spilled,
    ) -> Result<Option<Place>> {
        let word = self.table.route(hash)?;
        if !matches!(self.table.seek(word.encode(), hash), Sought::Absent) {
            self.fetch_home(ws, word, hash)?;
        }
        let Spot::Match(place) = self.locate(word, hash, key, log)? else {
            return Ok(None);
        };
        self.blocks.set_urgent(true);
        let writable = self.make_writable(ws, place);
        self.blocks.set_urgent(false);
        writable.map(|()| Some(place))
    }

    /// Slots of a segment that may still be filled.
    #[inline]
    pub(super) fn growth_left(&self, word: DirectoryWord) -> usize {
        let info = self.table.descriptor(word.descriptor).info();
        let taken = usize::from(info.used) + usize::from(info.tombstones);
        (usize::from(word.groups) * 7).saturating_sub(taken)
    }

    /// Brings a page into a frame that may be changed in place.
    #[inline]
    pub(super) fn make_writable(&mut self, ws: &mut Workspace, place: Place) -> Result<()> {
        let descriptor = self.table.descriptor(place.descriptor);
        if descriptor.is_writable(place.page, ws.generation) {
            return Ok(());
        }
        self.copy_on_write(ws, place)
    }

    #[cold]
    fn copy_on_write(&mut self, ws: &mut Workspace, place: Place) -> Result<()> {
        let table = self.table.clone();
        let descriptor = table.descriptor(place.descriptor);
        self.read_page(descriptor, place.page)?;
        self.touch(ws, descriptor.info().directory)?;
        let word = descriptor.page(place.page);
        let state = word.is_frame().then(|| *ws.pool.info(word.number()));
        if let Some(info) = state
            && info.state == State::Dirty
            && !ws.is_frozen(info.generation)
        {
            ws.pool.renew(word.number(), ws.generation);
        } else {
            self.blocks.reserve(&ws.epoch, 1)?;
            match state {
                Some(info) if info.state == State::Clean => {
                    self.blocks.die(info.block);
                    ws.pool.dirty_again(word.number(), ws.generation);
                }
                Some(info) if self.let_go(ws, info.block) => {
                    ws.pool.renew(word.number(), ws.generation);
                }
                _ => self.copy_page(ws, place, word)?,
            }
        }
        descriptor.set_writable(place.page, ws.generation);
        Ok(())
    }

    /// Copies a page from its block, or from a frame that a checkpoint holds. A
    /// block is reserved for the copy, and given back if that fails.
    fn copy_page(&mut self, ws: &mut Workspace, place: Place, word: PageWord) -> Result<()> {
        let page = place.page as u8;
        let owner = Owner { table: self.table.id, page, descriptor: place.descriptor };
        let Some(frame) = ws.take_frame(owner) else {
            self.blocks.release(1);
            let limit = (ws.pool.capacity() * 4096) as u64;
            return Err(Error::BatchTooLarge { needed: limit + 4096, limit });
        };
        let table = &self.table;
        let from = table.page_words(word).ok_or_else(|| table.lost_block(word))?;
        copy_words(from, ws.pool.words(frame));
        table.descriptor(place.descriptor).set_page(place.page, PageWord::frame(frame));
        if word.is_frame() {
            ws.pool.supersede(word.number(), ws.generation);
        } else {
            self.blocks.die(word.number());
        }
        Ok(())
    }

    /// Writes an entry to the place that was prepared for it. The address is
    /// that of its spilled part, which is in the log by now.
    #[inline]
    pub(crate) fn put(
        &mut self,
        ready: Ready,
        hash: u64,
        key: &[u8],
        value: &[u8],
        address: Option<Address>,
    ) {
        let lengths = self.table.geometry.lengths(key.len(), value.len());
        if let Some(address) = address {
            self.add_live(address);
        }
        let (Ready::Overwrite(place) | Ready::Reuse(place) | Ready::Fill(place)) = ready;
        if matches!(ready, Ready::Overwrite(_)) {
            self.forget_spilled(place);
        }
        with_content(self.table.geometry.slot_words, lengths, key, value, address, |words| {
            self.write_slot(place, hash, lengths, words);
        });
        match ready {
            Ready::Overwrite(_) => {}
            Ready::Reuse(_) => self.count(place, 1, -1),
            Ready::Fill(_) => self.count(place, 1, 0),
        }
        self.publish_counts();
    }

    /// Erases an entry whose place was prepared.
    pub(crate) fn erase(&mut self, place: Place) {
        self.forget_spilled(place);
        let tombstone = self.erase_slot(place);
        self.count(place, -1, tombstone.into());
        self.publish_counts();
    }

    /// Adds to the counts of a segment and of the table.
    #[inline]
    pub(super) fn count(&mut self, place: Place, used: i8, tombstones: i8) {
        self.count_many(place.descriptor, used.into(), tombstones.into());
    }

    /// The same for more than one entry.
    #[inline]
    pub(super) fn count_many(&mut self, descriptor: u32, used: i32, tombstones: i32) {
        let descriptor = self.table.descriptor(descriptor);
        let info = descriptor.info();
        descriptor.set_counts(
            info.used.saturating_add_signed(used as i16),
            info.tombstones.saturating_add_signed(tombstones as i16),
        );
        let totals = &mut self.totals;
        totals.used = totals.used.saturating_add_signed(used.into());
        totals.tombstones = totals.tombstones.saturating_add_signed(tombstones.into());
    }

    /// Replaces everything by nothing, under a new hash key. No checkpoint may
    /// be running. Fails before anything has changed.
    pub(crate) fn clear(&mut self, ws: &mut Workspace, hash_key: [u64; 2]) -> Result<()> {
        debug_assert!(ws.frozen.is_none());
        let before = (self.hash_key, self.clears, self.table.root().0);
        let dirty = std::mem::take(&mut self.dirty);
        (self.hash_key, self.clears) = (hash_key, self.clears.wrapping_add(1));
        if let Err(error) = self.plant(ws) {
            (self.hash_key, self.clears, _) = before;
            self.dirty = dirty;
            return Err(error);
        }
        let kept = self.table.route(0)?.descriptor;
        let mut dead = dirty.len();
        for frame in ws.pool.of_table(self.table.id) {
            let info = ws.pool.info(frame);
            if info.owner.descriptor != kept {
                dead += usize::from(info.state == State::Dirty);
                ws.pool.retire(&ws.epoch, frame);
            }
        }
        self.blocks.release(dead);
        self.blocks.all_die();
        self.live.clear();
        self.recount = None;
        self.fallen.push(before.2);
        self.publish_counts();
        Ok(())
    }

    /// Leaves readers nothing to find, in a tree without pages: the table is
    /// about to be dropped, and its frames will be other tables'.
    pub(crate) fn uproot(&mut self) -> Result<()> {
        let table = self.table.clone();
        let mut lines = table.structure();
        let root =
            table.new_root(&mut lines, 0, &self.make_hasher(), self.clears.wrapping_add(1))?;
        let record = table.new_record(&mut lines, 0, 0)?;
        let descriptor = table.new_descriptor(&mut lines)?;
        let word = table.make_array(&mut lines, record, &[table.leaf(descriptor)])?;
        table.root_words(root, 0, 0).0.store(word.encode(), Ordering::Relaxed);
        table.change_root(root, &[]);
        // Whoever iterates looks its next entry up again, and finds nothing.
        self.totals = super::Totals::default();
        self.publish_counts();
        Ok(())
    }

    /// The hash function of the current hash key.
    pub(super) fn make_hasher(&self) -> Hasher {
        self.hasher_of(self.hash_key)
    }

    /// The hash function that the table has with a hash key.
    pub(crate) fn hasher_of(&self, hash_key: [u64; 2]) -> Hasher {
        #[cfg(test)]
        if self.hash_id == 255 {
            return Hasher::Constant(hash_key[0]);
        }
        Hasher::new(HashKind::from_id(self.hash_id).unwrap_or_default(), hash_key)
    }
}

/// The spilled part of an entry: which bytes of the record it is.
pub(crate) fn spilled_part(shape: Shape, key: usize, value: usize) -> Option<(usize, usize)> {
    match shape {
        Shape::Inline => None,
        Shape::ValueSpilled => Some((key, value)),
        Shape::KeySpilled => Some((0, key)),
        Shape::BothSpilled => Some((0, key + value)),
    }
}

/// The checksum of the spilled part, computed without putting it together.
pub(crate) fn spilled_crc(shape: Shape, key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    if matches!(shape, Shape::KeySpilled | Shape::BothSpilled) {
        hasher.update(key);
    }
    if matches!(shape, Shape::ValueSpilled | Shape::BothSpilled) {
        hasher.update(value);
    }
    hasher.finalize()
}
