//! A story that does everything, with all of it as small as it gets.

use std::time::Duration;

use swissdb::Durability;

use crate::power::story::{Change, Settings, Step, Story};
use crate::support::Random;

/// Steps being written down.
struct Script {
    random: Random,
    steps: Vec<Step>,
    stamp: u64,
}

/// The script: growth and splits, entries that spill and that do not, batches,
/// tables that come and go, clearing, checkpoints, compaction, two closings.
/// Slots are so large that the pages do not fit the write buffer: checkpoints
/// come by themselves, too, and the table file is extended.
pub fn script(seed: u64, durability: Durability, interval: Duration) -> Story {
    let settings = Settings { payload: 504, durability, interval, keys: 0, long: 0 };
    let mut script = Script { random: Random::unprinted(seed), steps: Vec::new(), stamp: 0 };
    script.first_life();
    script.steps.push(Step::Reopen);
    script.second_life();
    script.steps.push(Step::Reopen);
    script.puts("default", 0..10, 600);
    Story::of(script.steps, &settings)
}

impl Script {
    fn put(&mut self, table: &str, key: u64, most: u64) -> Change {
        self.stamp += 1;
        let length = most / 2 + self.random.below(most / 2);
        (table.into(), key, Some((self.stamp, length as usize)))
    }

    /// Single writes of values of up to `most` bytes.
    fn puts(&mut self, table: &str, keys: std::ops::Range<u64>, most: u64) {
        for key in keys {
            let change = self.put(table, key, most);
            self.steps.push(Step::Change(change));
        }
    }

    /// Batches of such writes.
    fn batches(&mut self, table: &str, keys: std::ops::Range<u64>, most: u64) {
        for first in keys.clone().step_by(100) {
            let keys = first..(first + 100).min(keys.end);
            let changes = keys.map(|key| self.put(table, key, most)).collect();
            self.steps.push(Step::Batch(changes));
        }
    }

    fn removals(&mut self, table: &str, keys: std::ops::Range<u64>) {
        for key in keys {
            self.steps.push(Step::Change((table.into(), key, None)));
        }
    }

    fn first_life(&mut self) {
        self.puts("default", 0..10, 100);
        self.batches("default", 0..900, 60);
        self.puts("default", 0..20, 4_000);
        self.steps.push(Step::Sync);
        self.puts("default", 0..3, 900_000);
        self.steps.push(Step::Create("one".into()));
        self.batches("one", 0..200, 300);
        self.steps.push(Step::Checkpoint);
        let mut changes = vec![self.put("one", 3, 5_000), self.put("default", 3, 5_000)];
        changes.push(("one".into(), 4, None));
        changes.push(("default".into(), 4, None));
        self.steps.push(Step::Batch(changes));
        self.removals("default", 10..30);
        let gone = (100..500).map(|key| ("default".to_string(), key, None)).collect();
        self.steps.push(Step::Batch(gone));
        self.steps.push(Step::Compact);
        self.puts("one", 0..5, 400);
        self.steps.push(Step::Clear("one".into()));
        self.puts("one", 0..5, 2_000);
    }

    fn second_life(&mut self) {
        self.puts("default", 0..4, 700_000);
        self.steps.push(Step::Checkpoint);
        self.puts("default", 0..4, 30);
        self.steps.push(Step::Drop("one".into()));
        self.steps.push(Step::Create("two".into()));
        self.batches("two", 0..150, 100);
        self.puts("default", 500..503, 900_000);
        self.steps.push(Step::Sync);
        self.steps.push(Step::Clear("default".into()));
        self.batches("default", 0..300, 400);
        self.steps.push(Step::Compact);
        self.removals("two", 0..10);
        self.steps.push(Step::Checkpoint);
        self.puts("default", 0..6, 200_000);
    }
}
