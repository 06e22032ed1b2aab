//! How many entries tables are going to have, as far as the log says.
//!
//! A table that grows makes each of its segments anew once for every doubling, or
//! more often. While a log is replayed its rest is known: if as many of its
//! operations bring new keys as did in the portion that was just applied, this is
//! how large the table is going to be. So a segment that is made anew
//! [has room](Margin::Foreseen) for all that it is going to get, and
//! what comes then goes into it in place. That takes three quarters of the time.
//!
//! It is a guess. Keys that were new in one portion may be overwritten in all others;
//! then segments are too large, together by no more than twice the log. A table that
//! came out sparse is tidied behind the open store, and where the device is full,
//! [at once](Growth::take_back).

use std::collections::BTreeMap;

use crate::error::Error;
use crate::store::Core;
use crate::table::room::Margin;
use crate::table::shrink::Sizing;

/// How many bytes slots are made ahead for each of the log, at most.
const MOST_TIMES: u64 = 2;

/// What was seen of the log so far.
pub(super) struct Growth {
    /// The bytes of all records, and of those that were applied.
    bytes: u64,
    applied: u64,
    /// The entries of tables when the last portion was applied.
    used: BTreeMap<u16, u64>,
}

impl Growth {
    /// For so many bytes of log, of which none was applied yet.
    pub(super) fn new(core: &Core, bytes: u64) -> Growth {
        let used = core.writers().map(|writer| (writer.table.id, writer.totals.used)).collect();
        Growth { bytes, applied: 0, used }
    }

    /// Tells each table what it may expect, now that so many bytes were applied.
    pub(super) fn foresee(&mut self, core: &mut Core, applied: u64) {
        let portion = applied.saturating_sub(self.applied);
        let rest = self.bytes.saturating_sub(applied);
        for writer in core.writers_mut() {
            let used = writer.totals.used;
            let before = self.used.insert(writer.table.id, used).unwrap_or(0);
            let expected = expected(used, used.saturating_sub(before), portion, rest);
            let slot_bytes = (writer.table.geometry.slot_words * 8) as u64;
            let most = used.saturating_add(MOST_TIMES * rest / slot_bytes);
            writer.set_margin(Margin::Foreseen(expected.min(most)));
        }
        self.applied = applied;
    }

    /// Segments get the usual room from now on.
    pub(super) fn end(core: &mut Core) {
        core.writers_mut().for_each(|writer| writer.set_margin(Margin::Usual));
    }

    /// Segments are made as small as their entries allow, as far as there is room
    /// for that. What cannot be read stays as it is: who needs it finds the damage,
    /// and what is replayed may not.
    pub(super) fn take_back(core: &mut Core) {
        let ids: Vec<u16> = core.writers().map(|writer| writer.table.id).collect();
        for id in ids {
            let Some((writer, ws)) = core.writer_mut(id) else { continue };
            let mut next = Some(0);
            while let Some(from) = next {
                next = match writer.tidy(ws, from, Sizing::Dense, None) {
                    Ok(tidied) => tidied.next,
                    Err(error) if may_be_too_much(&error) => None,
                    Err(_) => writer.table.next_segment_after(from),
                };
            }
        }
    }
}

/// The entries that a table of `used` ends up with that got `new` from a portion of the
/// log, if its rest brings as many for each byte.
fn expected(used: u64, new: u64, portion: u64, rest: u64) -> u64 {
    let more = u128::from(new) * u128::from(rest) / u128::from(portion.max(1));
    used.saturating_add(u64::try_from(more).unwrap_or(u64::MAX))
}

/// Whether less at once may succeed.
pub(super) fn may_be_too_much(error: &Error) -> bool {
    let is_too_much = matches!(error, Error::BatchTooLarge { .. } | Error::HashCollisions { .. });
    is_too_much || error.is_full()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Growth, expected};
    use crate::Options;
    use crate::storage::memory::Memory;
    use crate::storage::{Access, Storage};

    /// Where a file has these bytes.
    fn find(files: &Memory, name: &str, wanted: &[u8]) -> u64 {
        let file = files.open(name, Access::Read).unwrap();
        let mut bytes = vec![0; file.length().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        bytes.windows(wanted.len()).position(|bytes| bytes == wanted).unwrap() as u64
    }

    #[test]
    fn a_rotten_page_does_not_keep_other_segments_from_becoming_smaller() {
        let files = Memory::new();
        let key = |i: u32| i.to_be_bytes().repeat(5);
        let db = Options::new().open_on(Arc::new(files.clone())).unwrap();
        for table in [db.table("default").unwrap(), db.table("apart").unwrap()] {
            (0..800).for_each(|i| table.insert(key(i), b"value").unwrap());
            (9..800).for_each(|i| assert!(table.remove(key(i)).unwrap()));
        }
        db.close().unwrap();
        let rotten = find(&files, "default.swiss", &key(5));
        files.open("default.swiss", Access::Write).unwrap().write_at(b"rot", rotten).unwrap();

        let store = crate::recovery::open(Arc::new(files), &Options::new()).unwrap();
        let mut core = store.core_to_look();
        let slots = |core: &crate::store::Core| -> Vec<u64> {
            core.writers().map(|writer| writer.totals.slots).collect()
        };
        let before = slots(&core);
        Growth::take_back(&mut core);
        let after = slots(&core);
        assert_eq!(before[0], after[0], "its pages cannot all be read");
        assert!(before[1] > after[1], "{before:?} {after:?}");
    }

    #[test]
    fn the_rest_brings_as_many_new_keys_as_the_portion_did() {
        assert_eq!(expected(1000, 1000, 60_000, 540_000), 10_000);
        assert_eq!(expected(5000, 100, 10_000, 20_000), 5200);
    }

    #[test]
    fn nothing_is_expected_of_what_brings_no_new_keys_or_has_no_rest() {
        assert_eq!(expected(1000, 0, 60_000, 540_000), 1000);
        assert_eq!(expected(1000, 1000, 60_000, 0), 1000);
    }

    #[test]
    fn a_log_of_any_length_is_no_overflow() {
        assert_eq!(expected(u64::MAX, u64::MAX, 0, u64::MAX), u64::MAX);
        assert_eq!(expected(1, 1 << 40, 1, 1 << 40), u64::MAX);
    }
}
