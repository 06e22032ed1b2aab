//! How well the slots are used while a store is filled.
//!
//! Segments grow by small steps, at different times, so the utilisation of the
//! whole stays in a band at any size, where doubling would swing between 44 %
//! and 79 %. `swissdb-bench fill` plots the same up to four million.

use swissdb::{Options, TableOptions};

use crate::support::{TestStore, table_stats};

/// The band that holds from a hundred thousand entries on.
const BAND: std::ops::RangeInclusive<f64> = 0.64..=0.80;

/// The largest size tried: a debug build checks every invariant of the segment
/// after every insert, and so takes a smaller step into the same pattern.
const LARGEST: u64 = if cfg!(debug_assertions) {
    400_000
} else {
    1_000_000
};

#[test]
fn utilisation_stays_in_its_band_while_filling() {
    let store = TestStore::in_memory(Options::new().payload(24));
    let (mut lowest, mut highest) = (1.0f64, 0.0f64);
    for i in 0..LARGEST {
        store.insert(i.to_le_bytes(), [1]).expect("insert");
        if i >= 100_000 && i % 5_000 == 0 {
            let utilisation = table_stats(&store).utilisation();
            lowest = lowest.min(utilisation);
            highest = highest.max(utilisation);
            assert!(
                BAND.contains(&utilisation),
                "{utilisation:.3} at {i} entries"
            );
        }
    }
    eprintln!("utilisation between {lowest:.3} and {highest:.3}");
    let stats = table_stats(&store);
    assert_eq!(stats.entries, LARGEST);
    assert_eq!(stats.tombstones, 0, "nothing was removed");
}

#[test]
fn the_counts_of_a_table_fit_together() {
    let store = TestStore::in_memory(Options::new());
    for payload in [24, 56, 504] {
        let options = TableOptions::new().payload(payload);
        let table = store
            .create_table(&format!("t{payload}"), &options)
            .expect("table");
        for i in 0..3_000u64 {
            table
                .insert(i.to_le_bytes(), i.to_le_bytes())
                .expect("insert");
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
