//! Giving space back: files that hold nothing, and the unused ends of others.
//!
//! A file that holds nothing any more is *retired*: taken out of the set that
//! readers look into. If it was there when the log was opened it is removed then.
//! Otherwise, as readers may still hold it, it waits until no pin is
//! left that was there before. Then it is a *spare*. Where something was taken of
//! what is kept for a full device, spares fill that up first
//! ([`reserve`](super::reserve)). One more is kept for the
//! next file that is prepared, if it is exactly as large as that would be made;
//! all others are removed. In a log that was made small, all are
//! ([`small`](super::small)).
//!
//! ```text
//! finished ──retire──► retired ──no pin left──► spare ──► recycled (see prepare)
//!     │         │                                 └─────► removed
//!     │         └──was there when the log was opened────► removed
//!     └──trim──► the blocks behind its end take no space
//! ```
//!
//! What waits depends on nobody coming by: [`Log::tidy_now`] moves it one step
//! on, and is called in the background. When the log is closed nothing is
//! recycled any more: then what waits loses its name at once, and the rest of it
//! when the last reader is done.
//!
//! # Why files of earlier openings are removed
//!
//! A process that had the store open before may read such a file still: a handle
//! can close the store while a function of another one runs that a value was lent
//! to. The lock is given back then, and here nobody knows the pins of that process.
//! What is removed stays readable for whoever has it mapped; what is written again
//! would change under the function. The price is a new file, with its zeros, in
//! place of each that is found at the opening and dies later.
//!
//! # Why trimming is safe
//!
//! 1. Only a finished file is trimmed, whose end is known exactly, and a
//!    finished file is never appended to again: after a crash the log goes on
//!    in a new file, and only the active file is continued after a clean close.
//! 2. A file is looked up and trimmed under one pin. So it cannot become a
//!    spare meanwhile, and records of its next life are not what is punched.
//! 3. Nobody writes into the hole: preparing a recycled file takes space for
//!    all of it first. Reading a hole yields zeros, which are no record.
//!
//! A trimmed file is not kept as a spare: a hole that is filled again makes
//! later syncs write metadata, unless zeros are written as for a new file.
//! Where it was retired meanwhile, it is not known to be trimmed; hence the third
//! rule.

use std::sync::atomic::Ordering::Acquire;

use super::files::Spare;
use super::prepare::Next;
use super::{Log, lock};
use crate::format::BLOCK;
use crate::format::record::log_file_name;
use crate::storage::{Access, pins};

/// The most files that are kept to be recycled: what the next rotation needs.
const SPARES: usize = 1;

/// What the files of the log take, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LogUsage {
    /// The files that are part of the log, without what was given back of
    /// them since the log was opened.
    pub(crate) files: u64,
    /// The next files: prepared, or in the appender's hand.
    pub(crate) prepared: u64,
    /// Files that hold nothing and are kept to be recycled, or for urgent
    /// records.
    pub(crate) spares: u64,
    /// Files that hold nothing and wait for readers to let them go.
    pub(crate) retired: u64,
}

impl LogUsage {
    /// All of it.
    pub(crate) fn total(&self) -> u64 {
        self.files + self.prepared + self.spares + self.retired
    }
}

impl Next {
    /// Makes spares of the retired files that no reader holds any more, and
    /// takes out what is not worth keeping.
    fn superfluous(&mut self, max_file: u64) -> Vec<Spare> {
        let free = self.retired.extract_if(.., |(epoch, _)| pins::quiescent(*epoch));
        self.spares.extend(free.map(|(_, spare)| spare));
        if self.reserve.spent {
            self.refill_reserve(max_file);
        }
        let wanted = self.wanted(max_file);
        let small = self.small;
        let keep = |spare: &Spare| !small && spare.trimmed == 0 && spare.size == wanted;
        let mut drop: Vec<Spare> = self.spares.extract_if(.., |spare| !keep(spare)).collect();
        drop.extend(self.spares.drain(SPARES.min(self.spares.len())..));
        drop
    }
}

impl Log {
    /// Takes a file out of the log that holds nothing anybody needs: no live
    /// value, and every durable log position of a table lies behind its end.
    /// It is recycled or removed once no reader looks into it; one that was there
    /// when the log was opened is removed at once. The active file is never taken
    /// out.
    pub(crate) fn retire(&self, number: u32) {
        if self.options.read_only || self.poison.is_set() || number == self.active.load(Acquire) {
            return;
        }
        let spare = {
            let pin = pins::pin();
            let Some(file) = self.files.load(&pin).get(number) else {
                return;
            };
            Spare { number, salt: file.salt, size: file.size, trimmed: file.trimmed() }
        };
        self.change_files(|set| set.without(number));
        // Readers need no name to read on, be they of this process or not.
        if number <= self.inherited {
            return self.remove(vec![spare]);
        }
        let epoch = pins::advance();
        lock(&self.next).retired.push((epoch, spare));
        self.tidy();
    }

    /// Gives the space of a finished file back that lies behind its end, in
    /// whole blocks. Does nothing for the active file, or if the end is not
    /// known exactly, or if the log is being closed. What cannot be given back
    /// stays, and is no error. Costs two system calls, the first time.
    pub(crate) fn trim(&self, number: u32) {
        if self.options.read_only || self.poison.is_set() || number == self.active.load(Acquire) {
            return;
        }
        let Some(_work) = self.begin_work() else {
            return;
        };
        // Until it is dropped the file is not recycled.
        let pin = pins::pin();
        let Some(file) = self.files.load(&pin).get(number) else {
            return;
        };
        let Some((end, _)) = file.stated_end() else {
            return;
        };
        let from = end.next_multiple_of(BLOCK as u64);
        let unused = file.size.saturating_sub(from);
        if unused == file.trimmed() {
            return;
        }
        let opened = self.storage.open(&log_file_name(number), Access::Write);
        if opened.and_then(|opened| opened.punch(from, unused)).is_ok() {
            file.set_trimmed(unused);
        }
    }

    /// Lets go of retired files that no reader holds any more, and removes
    /// what is not worth keeping. To be called now and then, from any thread.
    /// Costs a look at the line of every thread for each retired file, and a
    /// system call for each that is removed.
    pub(crate) fn tidy_now(&self) {
        if !self.options.read_only && !self.poison.is_set() {
            self.tidy();
        }
    }

    /// Removes all files that hold nothing and that no reader holds, unless the
    /// log is being closed, which does the same.
    pub(crate) fn drop_spares(&self) {
        if self.options.read_only || self.poison.is_set() {
            return;
        }
        if let Some(_work) = self.begin_work() {
            self.drop_all();
        }
    }

    fn drop_all(&self) {
        let mut next = lock(&self.next);
        let mut spares = next.superfluous(self.options.max_file);
        spares.append(&mut next.spares);
        spares.append(&mut next.reserve.files);
        drop(next);
        self.remove(spares);
    }

    /// Removes files that are neither needed nor worth keeping.
    pub(super) fn tidy(&self) {
        let superfluous = lock(&self.next).superfluous(self.options.max_file);
        self.remove(superfluous);
    }

    /// Removes all files that hold nothing, at the end; also the one that is
    /// prepared, which nobody is going to need, and those that readers hold, of
    /// this store or of another one of the process: they need no name to read on.
    pub(super) fn remove_spares(&self) {
        let mut next = lock(&self.next);
        if let Some(ready) = next.ready.take() {
            next.spares.push(ready.spare());
        }
        let retired = std::mem::take(&mut next.retired);
        next.spares.extend(retired.into_iter().map(|(_, spare)| spare));
        drop(next);
        self.drop_all();
    }

    fn remove(&self, spares: Vec<Spare>) {
        for spare in spares {
            // If it cannot be removed, the next opening finds it again.
            let _ = self.storage.remove(&log_file_name(spare.number));
        }
    }

    /// What the files of the log take. A file that is being prepared right now
    /// is not counted.
    pub(crate) fn usage(&self) -> LogUsage {
        let files = {
            let pin = pins::pin();
            self.files.load(&pin).iter().map(|file| file.size - file.trimmed()).sum()
        };
        let next = lock(&self.next);
        let size = |spare: &Spare| spare.size - spare.trimmed;
        LogUsage {
            files,
            prepared: next.ready.as_ref().map_or(0, |ready| ready.size) + next.in_hand,
            spares: next.spares.iter().chain(&next.reserve.files).map(size).sum(),
            retired: next.retired.iter().map(|(_, spare)| size(spare)).sum(),
        }
    }
}
