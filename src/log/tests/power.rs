//! Power loss at random: what survives is a prefix, and all that was durable.
//!
//! The storage remembers what every file held at its last sync. A loss of power
//! leaves each sector of 512 bytes as it was then, or as it is now, at random;
//! names survive as they are. Then the log is recovered, its records are
//! compared with what was appended, and work goes on from there, several times
//! over. Values carry the history they belong to, so a record that came back
//! from a lost history would be noticed.

use super::faulty::Faulty;
use super::rotating::only_synced;
use super::*;
use crate::format::mutate::Random;

/// What power loss leaves: a new storage with sectors old or new.
fn lose_power(storage: &Faulty, random: &mut Random) -> Faulty {
    let after = Faulty::new();
    after.create_directory("log").unwrap();
    for name in storage.list("log").unwrap() {
        let name = format!("log/{name}");
        let file = storage.memory.open(&name, Access::Read).unwrap();
        let mut bytes = vec![0; file.length().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        let synced = storage.get(|state| state.synced.get(&name).cloned()).unwrap_or_default();
        // Sometimes hardly anything got written, sometimes nearly all.
        let odds = random.below(8);
        for (at, sector) in bytes.chunks_mut(512).enumerate() {
            if random.below(8) < odds {
                continue;
            }
            let old = synced.get(at * 512..at * 512 + sector.len());
            match old {
                Some(old) => sector.copy_from_slice(old),
                None => sector.fill(0),
            }
        }
        let new = after.open(&name, Access::Create).unwrap();
        new.write_at(&bytes, 0).unwrap();
        new.sync().unwrap();
    }
    after
}

/// Appends, syncs, rotates and trims at random; adds to `history` what it appended.
fn work(open: &mut Open, random: &mut Random, life: u8, history: &mut Vec<Vec<u8>>) {
    for _ in 0..random.below(40) {
        match random.below(16) {
            0 => open.log.sync_to(u64::MAX).unwrap(),
            1 => open.rotate_noting(history),
            2 => open.log.wait_for_file(100, false).unwrap(),
            12 => open.end_file(),
            14 => open.prepare_ahead(),
            15 => open.log.shrink_reserve().unwrap(),
            13 => open.log.files().iter().for_each(|file| open.log.trim(file.number)),
            kind => {
                let length = if kind == 3 { random.below(200_000) } else { random.below(900) };
                let mut value = vec![life; length + 2];
                value[1] = random.below(256) as u8;
                open.put(b"key", &value);
                history.push(value);
            }
        }
    }
}

impl Open {
    /// As `rotate`, with values that can be told from others.
    fn rotate_noting(&mut self, history: &mut Vec<Vec<u8>>) {
        let file = self.appender.position().file;
        while self.appender.position().file == file {
            let value = vec![history.len() as u8; 150_000];
            self.put(b"key", &value);
            history.push(value);
        }
    }
}

fn survive(seed: u64) {
    let mut random = Random(seed);
    let mut storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    let from = open.appender.position();
    let mut history: Vec<Vec<u8>> = Vec::new();
    for life in 0..6 {
        work(&mut open, &mut random, life, &mut history);
        if random.below(4) == 0 {
            // Closed cleanly: whatever was written since, nothing is lost.
            open.log.close().unwrap();
            let at = open.appender.position();
            drop(open);
            storage = lose_power(&storage, &mut random);
            open = Open::reopen(storage.clone(), at)
                .unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error}"));
            let found = contents(&open.log, from, at);
            assert!(found.iter().map(|entry| &entry.1).eq(&history), "seed {seed}, life {life}");
            continue;
        }
        let durable = open.log.durable() as usize;
        drop(open);
        let killed_only = random.below(3) == 0;
        if !killed_only {
            storage = lose_power(&storage, &mut random);
        }
        let (after, end) = Open::recover(storage.clone(), from)
            .unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error}"));
        open = after;
        let found = contents(&open.log, from, end.position);
        let least = if killed_only { history.len() } else { durable };
        assert!(found.len() >= least, "seed {seed}, life {life}: {} < {least}", found.len());
        history.truncate(found.len());
        for (at, (found, kept)) in found.iter().zip(&history).enumerate() {
            assert!(found.1 == *kept, "seed {seed}, life {life}: commit {} is another", at + 1);
        }
        assert_eq!(found.len(), history.len(), "seed {seed}, life {life}: nothing is made up");
        if random.below(2) == 0 {
            // A second loss of power right after recovery changes nothing.
            drop(open);
            storage = lose_power(&storage, &mut random);
            let (after, again) = Open::recover(storage.clone(), from).unwrap();
            assert_eq!(again.position.commit, end.position.commit, "seed {seed}, life {life}");
            open = after;
        }
    }
}

#[test]
fn power_loss_leaves_a_prefix_with_all_that_was_durable() {
    let seeds = if cfg!(miri) { 1 } else { 3 };
    for seed in 1..=seeds {
        survive(0x9e37_79b9_7f4a_7c15u64.wrapping_mul(seed));
    }
}

#[test]
fn a_record_that_was_synced_ahead_and_taken_back_does_not_come_with_the_next_process() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    let from = open.appender.position();
    open.put(b"before", b"");
    let at = open.appender.position();
    let record = open.appender.compose(&insert(b"refused", b"value")).unwrap();
    open.appender.put_ahead(&record).unwrap();
    open.log.sync_to(u64::MAX).unwrap();
    let lost =
        |storage: &Faulty| super::open(only_synced(storage)).unwrap().scan(from).unwrap().position;
    assert_eq!(lost(&storage).commit, at.commit + 1, "another thread's sync took it along");
    open.appender.take_back();
    open.log.sync_to(u64::MAX).unwrap();
    assert_eq!(lost(&storage), at);
}

#[test]
fn a_record_that_cannot_be_taken_back_durably_poisons() {
    let storage = Faulty::new();
    let mut open = Open::create(storage.clone());
    let record = open.appender.compose(&insert(b"refused", b"value")).unwrap();
    open.appender.put_ahead(&record).unwrap();
    storage.set(|state| state.fail_sync = true);
    open.appender.take_back();
    assert!(matches!(open.append(&[insert(b"k", b"v")]), Err(Error::Poisoned { .. })));
}
