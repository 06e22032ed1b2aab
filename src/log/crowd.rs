//! How many writers are about to commit, so that one sync covers them all.
//!
//! When a sync ends, the writers that it covered go on and soon come back with
//! their next commits. Whoever waits for the next sync could begin it at once;
//! then the others come just too late for it, every time. Of N threads half
//! would be covered by each sync, whatever N is. So whoever could begin
//! looks back: as many writers as the last sync covered and left behind are
//! expected, and it sleeps until the last of them is there, who begins. That
//! takes as long as it takes them to wake up and write one record each, which is
//! short beside a sync.
//!
//! # When nobody comes
//!
//! Writers may have something else to do between their commits. So patience is
//! bounded by half of the time that the last sync took: waiting costs less than
//! coming too late. Where it was in vain, the next rounds do without: one, three,
//! seven, and so on up to 63. What was gathered, if most of those came after
//! all, halves the number. A single writer expects nobody and waits for nobody.
//!
//! This module knows neither threads nor time, only numbers that it is told.

use std::time::Duration;

/// The longest that anybody waits for others.
const PATIENCE: Duration = Duration::from_millis(10);
/// Below this there is no waiting: waking up takes longer.
const LEAST: Duration = Duration::from_micros(10);
/// The most rounds that do without waiting after it was in vain.
const MOST_ROUNDS: u32 = 63;

/// The writers who come to a log for syncs.
#[derive(Default)]
pub(super) struct Crowd {
    /// The last commit that a sync covers, or has covered.
    target: u64,
    /// Writers here whom no sync covers yet.
    waiting: usize,
    /// Writers whom the sync under way covers, or the last one covered.
    covered: usize,
    /// As many as there were when the last sync ended.
    expected: usize,
    /// How long the last sync took.
    took: Duration,
    /// Rounds that are to do without waiting, and how many the next vain one adds.
    without: u32,
    penalty: u32,
}

impl Crowd {
    /// A writer has come who needs that commit.
    pub(super) fn came(&mut self, commit: u64) {
        if commit > self.target {
            self.waiting += 1;
        } else {
            self.covered += 1;
        }
    }

    /// How many are here whom no sync covers yet.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether all who are expected are here.
    pub(super) fn is_complete(&self) -> bool {
        self.waiting >= self.expected
    }

    /// How many are still expected, and how long one may wait for them; `None`
    /// if one may not.
    pub(super) fn missing(&mut self) -> Option<(usize, Duration)> {
        let missing = self.expected.saturating_sub(self.waiting);
        let patience = (self.took / 2).min(PATIENCE);
        if missing == 0 || patience < LEAST {
            return None;
        }
        if self.without > 0 {
            self.without -= 1;
            return None;
        }
        Some((missing, patience))
    }

    /// Somebody has waited for so many. What came of it decides whether the next
    /// one waits.
    pub(super) fn waited_for(&mut self, missing: usize) {
        let still = self.expected.saturating_sub(self.waiting);
        if still * 2 > missing {
            self.penalty = (self.penalty * 2 + 1).min(MOST_ROUNDS);
            self.without = self.penalty;
        } else {
            self.penalty /= 2;
        }
    }

    /// A sync begins that covers all commits up to that one, and so everybody
    /// who is here.
    pub(super) fn sync_begins(&mut self, target: u64) {
        self.target = target;
        self.covered = std::mem::take(&mut self.waiting);
    }

    /// The sync has ended.
    pub(super) fn sync_ended(&mut self, took: Duration) {
        self.took = took;
        self.expected = self.covered + self.waiting;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC: Duration = Duration::from_millis(1);

    /// A crowd of that many, all of whom a sync has just covered.
    fn of(writers: u64) -> Crowd {
        let mut crowd = Crowd::default();
        (1..=writers).for_each(|commit| crowd.came(commit));
        crowd.sync_begins(writers);
        crowd.sync_ended(SYNC);
        crowd
    }

    #[test]
    fn a_single_writer_waits_for_nobody() {
        let mut crowd = Crowd::default();
        for commit in 1..10 {
            crowd.came(commit);
            assert!(crowd.is_complete());
            assert_eq!(crowd.missing(), None);
            crowd.sync_begins(commit);
            crowd.sync_ended(SYNC);
        }
    }

    #[test]
    fn those_whom_the_last_sync_covered_and_left_behind_are_expected() {
        let mut crowd = of(3);
        crowd.came(4);
        crowd.sync_begins(4);
        // One whose commit this sync covers, two whom it leaves behind.
        crowd.came(4);
        crowd.came(5);
        crowd.came(6);
        crowd.sync_ended(SYNC);
        assert_eq!(crowd.missing(), Some((2, SYNC / 2)));
        crowd.came(7);
        assert!(!crowd.is_complete());
        crowd.came(8);
        assert!(crowd.is_complete());
        assert_eq!(crowd.missing(), None);
    }

    #[test]
    fn patience_is_half_a_sync_within_bounds() {
        for (took, patience) in [
            (Duration::from_micros(19), None),
            (Duration::from_micros(20), Some(Duration::from_micros(10))),
            (Duration::from_secs(5), Some(PATIENCE)),
        ] {
            let mut crowd = of(2);
            crowd.sync_ended(took);
            assert_eq!(crowd.missing().map(|(_, patience)| patience), patience);
        }
    }

    #[test]
    fn waiting_in_vain_is_tried_ever_more_rarely_and_again_when_it_helps() {
        let mut crowd = of(4);
        for rounds in [1, 3, 7, 15, 31, 63, 63] {
            assert_eq!(crowd.missing(), Some((4, SYNC / 2)));
            crowd.came(5);
            crowd.waited_for(4);
            crowd.waiting = 0;
            for _ in 0..rounds {
                assert_eq!(crowd.missing(), None);
            }
        }
        // Half of them is enough to be worth it.
        (5..7).for_each(|commit| crowd.came(commit));
        crowd.waited_for(4);
        assert_eq!(crowd.missing(), Some((2, SYNC / 2)));
        assert_eq!(crowd.penalty, 31);
    }
}
