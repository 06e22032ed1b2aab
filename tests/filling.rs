//! How well the slots are used while a store is filled.
//!
//! Segments grow by small steps, at different times, so the utilisation of the
//! whole stays in a band at any size, where doubling would swing between 44 %
//! and 79 %. `swissdb-bench fill` plots the same up to four million.

use swissdb::{Batch, Options, TableOptions};

use crate::support::{TestStore, table_stats};

/// The band that holds from a hundred thousand entries on.
const BAND: std::ops::RangeInclusive<f64> = 0.64..=0.80;

/// Fills a store and looks at its utilisation every 5,000 entries.
fn fill(payload: usize, entries: u64) {
    let store = TestStore::in_memory(Options::new().payload(payload));
    let (mut lowest, mut highest) = (1.0f64, 0.0f64);
    let mut batch = Batch::new();
    for i in 1..=entries {
        batch.insert(i.to_le_bytes(), [1]).expect("add to the batch");
        if i % 250 == 0 {
            store.write(&batch).expect("write");
            batch.clear();
        }
        if i >= 100_000 && i % 5_000 == 0 {
            let utilisation = table_stats(&store).utilisation();
            lowest = lowest.min(utilisation);
            highest = highest.max(utilisation);
            assert!(BAND.contains(&utilisation), "{utilisation:.3} at {i} entries");
        }
    }
    eprintln!("payload {payload}: utilisation between {lowest:.3} and {highest:.3}");
    let stats = table_stats(&store);
    assert_eq!(stats.entries, entries);
    assert_eq!(stats.tombstones, 0, "nothing was removed");
}

#[test]
fn utilisation_stays_in_its_band_up_to_a_million_entries() {
    fill(56, 1_000_000);
}

#[test]
fn utilisation_stays_in_its_band_with_small_and_large_slots() {
    for payload in [24, 504] {
        fill(payload, 150_000);
    }
}

#[test]
fn the_counts_of_a_table_fit_together() {
    let store = TestStore::in_memory(Options::new());
    for payload in [24, 56, 504] {
        let options = TableOptions::new().payload(payload);
        let table = store.create_table(&format!("t{payload}"), &options).expect("table");
        for i in 0..3_000u64 {
            table.insert(i.to_le_bytes(), i.to_le_bytes()).expect("insert");
            if i % 5 == 4 {
                table.remove((i - 3).to_le_bytes()).expect("remove");
            }
            if i % 100 == 0 {
                let stats = table.stats();
                assert_eq!(stats.entries, table.len());
                let slots = stats.capacity * 7 / 8;
                assert_eq!(slots, stats.entries + stats.growth_left + stats.tombstones);
                let ratio = stats.entries as f64 / stats.capacity as f64;
                assert!((stats.utilisation() - ratio).abs() < 1e-9);
            }
        }
        assert_eq!(table.len(), 2_400);
    }
}
