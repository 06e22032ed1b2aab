//! Iteration: a segment that changes while it is copied out.
//!
//! Goal: a copy is the segment as it was at one moment: no torn value, and no
//! entry twice that was taken from one group and put into another. Method:
//! `table/scan.rs` as it is, over a segment of two pages with a group each.

use loom::sync::atomic::Ordering::Relaxed;

use crate::format::group::{ALL_EMPTY, CONTROL, h2, with_byte};
use crate::harness::check;
use crate::table::scan::{Scanned, SegmentCopy};
use crate::table::{Table, Writer};

/// The keys and values of a scan, if it was not disturbed.
fn scan(table: &Table) -> Option<Vec<(u64, u64, u64)>> {
    let mut copy = SegmentCopy::default();
    let scanned = table.scan_segment(0, 0, &mut copy).expect("no damage");
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let entry = |i| {
        let slot = copy.get(i).expect("an entry");
        let (key, value) = (slot.key().expect("a key"), slot.value().expect("a value"));
        (number(key), number(&value[..8]), number(&value[8..]))
    };
    match scanned {
        Scanned::Whole(_) => Some((0..copy.len()).map(entry).collect()),
        Scanned::Busy => None,
        Scanned::Cleared => panic!("nobody has cleared the table"),
    }
}

fn overwrite() {
    let writer = Writer::new(1);
    writer.put(0, 7, [1, 1]);
    let reader = {
        let table = writer.table.clone();
        loom::thread::spawn(move || match scan(&table).as_deref() {
            None | Some([(7, 1, 1)] | [(7, 2, 2)]) => {}
            other => panic!("nobody has written {other:?}"),
        })
    };
    writer.change(|group| (9..11).for_each(|word| group[word].store(2, Relaxed)));
    reader.join().expect("the reader ends");
}

fn one_group_to_the_other() {
    let mut writer = Writer::new(2);
    writer.add_page();
    writer.put(0, 7, [1, 1]);
    writer.change_page(1, |group| {
        writer.fill(group, 0, 7, [1, 1]);
        group[CONTROL].store(ALL_EMPTY, Relaxed);
    });
    let reader = {
        let table = writer.table.clone();
        loom::thread::spawn(move || match scan(&table).as_deref() {
            None | Some([] | [(7, 1, 1)]) => {}
            other => panic!("never at one moment: {other:?}"),
        })
    };
    // All but the control words is there already.
    writer.change_page(0, |group| group[CONTROL].store(ALL_EMPTY, Relaxed));
    writer.change_page(1, |group| {
        group[CONTROL].store(with_byte(ALL_EMPTY, 0, h2(7)), Relaxed);
    });
    reader.join().expect("the reader ends");
}

#[test]
fn a_scan_copies_a_group_as_it_was_at_one_moment() {
    check("scan", overwrite);
}

#[test]
fn a_scan_sees_no_entry_twice() {
    check("scan, two groups", one_group_to_the_other);
}
