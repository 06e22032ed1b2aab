//! Room for new keys, and those that go there at once.
//!
//! A segment that gets more new keys than it has room for is replaced once, by what
//! has room for all of them. Of a batch that is not logged yet nothing else may
//! happen then. But when the log is replayed, it has the entries already: they are
//! laid out in the new segments together with the old ones, which costs them
//! half of what finding a place and writing one by one would.

use crate::error::Result;

use super::super::layout::PageWord;
use super::super::segment::with_content;
use super::super::{Spilled, Workspace, Writer};
use super::steps::Deed;
use super::{Entries, Entry, Found, Run, Step, is_undone};

/// The new keys of a segment.
pub(super) struct Coming {
    /// Their steps, by number.
    steps: Vec<usize>,
    /// The first step behind those of the segment.
    pub(super) behind: usize,
}

impl Coming {
    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }
}

impl Writer {
    /// Whether a segment whose run begins may get more new keys than it has room for,
    /// and it pays to know that before one was looked up: where they are logged.
    #[inline]
    pub(super) fn may_be_short<E: Entries>(&self, run: &Run, steps: &[Step]) -> bool {
        let Some(step) = steps.get(run.first + run.left) else {
            return false;
        };
        E::LOGGED && step.hash <= self.table.descriptor(run.word.descriptor).info().last_hash()
    }

    /// All new keys that the segment of a run will get.
    #[cold]
    pub(super) fn coming(
        &self,
        run: &Run,
        steps: &[Step],
        entries: &impl Entries,
        log: &impl Spilled,
    ) -> Result<Coming> {
        let table = &*self.table;
        let descriptor = table.descriptor(run.word.descriptor);
        let info = descriptor.info();
        let last = info.last_hash();
        let behind = run.first + steps[run.first..].partition_point(|step| step.hash <= last);
        let pages = (0..usize::from(info.pages)).map(|page| descriptor.page(page));
        let unread = pages.filter(|page| page.is_unverified()).map(PageWord::number);
        table.ask_for_blocks(unread.collect());
        let nothing_promised = Run { word: run.word, ..Run::new() };
        let mut coming = Vec::with_capacity(behind - run.first);
        for i in run.first..behind {
            let Step { hash, change, deed, .. } = steps[i];
            if deed == Deed::Done || !entries.is_insert(change) || is_undone(steps, i, entries) {
                continue;
            }
            let key = entries.key(change);
            let found = self.find_beside(&nothing_promised, hash, key, log)?;
            if !matches!(found, Found::Match(..)) {
                coming.push(i);
            }
        }
        Ok(Coming { steps: coming, behind })
    }

    /// Makes room in the segment of a run for what is coming. Returns the number of
    /// the first step of which the place is to be found now.
    pub(super) fn make_room_for(
        &mut self,
        ws: &mut Workspace,
        run: &Run,
        steps: &mut [Step],
        coming: &Coming,
        entries: &impl Entries,
    ) -> Result<usize> {
        if !self.stage(steps, coming, entries) {
            let hashes: Vec<u64> = coming.steps.iter().map(|i| steps[*i].hash).collect();
            self.make_room(ws, run.word, &hashes)?;
            return Ok(run.first);
        }
        self.make_room(ws, run.word, &[])?;
        for i in &coming.steps {
            steps[*i].deed = Deed::Done;
            let address = entries.logged(steps[*i].change).and_then(|entry| entry.address);
            address.inspect(|address| self.add_live(*address));
        }
        let left = (run.first..coming.behind).find(|i| steps[*i].deed != Deed::Done);
        Ok(left.unwrap_or(coming.behind))
    }

    /// Lays out what is coming, if the log has it, and if it is not too much.
    fn stage(&mut self, steps: &[Step], coming: &Coming, entries: &impl Entries) -> bool {
        let slot_words = self.table.geometry.slot_words;
        let staged = self.staged();
        if !staged.has_room(coming.len(), slot_words) {
            return false;
        }
        for Step { hash, change, .. } in coming.steps.iter().map(|i| steps[*i]) {
            let Some(Entry { lengths, key, value, address }) = entries.logged(change) else {
                staged.clear();
                return false;
            };
            with_content(slot_words, lengths, key, value, address, |words| {
                staged.push(hash, lengths, &words[..slot_words]);
            });
        }
        true
    }
}
