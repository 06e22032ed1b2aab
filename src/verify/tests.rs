//! Every invariant, broken on purpose.
//!
//! Random damage hardly ever comes farther than a checksum. So here a table
//! file is taken apart, one thing in it is changed, and it is put together again
//! with checksums that hold: what a bug in the store would leave. The report
//! must name the invariant that was broken, and no other.

mod parts;
mod unread;

use std::collections::BTreeSet;
use std::sync::Arc;

use self::parts::{
    LOG, Parts, TABLE, has_spilled_value, is_inline, key_len, open, read, store, value_len, write,
};
use super::{Report, verify_on};
use crate::format::header::{Header, TableState};
use crate::format::record::{LOG_START, RECORD_HEADER, RecordHeader};
use crate::format::{BLOCK, crc32};
use crate::options::Options;
use crate::storage::Storage;
use crate::storage::memory::Memory;
use crate::store::create::write_header;

fn check(memory: &Memory) -> Report {
    verify_on(Arc::new(memory.clone())).unwrap()
}

/// The invariants that a report names.
fn named(report: &Report) -> BTreeSet<&'static str> {
    let all = report.violations.iter().map(|violation| violation.invariant);
    all.filter(|invariant| *invariant != "open").collect()
}

/// Changes a table file that is taken apart; the report must name exactly
/// these invariants.
fn breaks(expected: &[&'static str], change: impl FnOnce(&mut Parts)) {
    let memory = store();
    let file = open(&memory, TABLE);
    let mut parts = Parts::take(&file);
    change(&mut parts);
    parts.put(&file);
    let report = check(&memory);
    assert_eq!(named(&report), expected.iter().copied().collect(), "{report}");
}

#[test]
fn a_store_that_was_taken_apart_and_put_together_is_undamaged() {
    breaks(&[], |_| {});
}

#[test]
fn a_wrong_self_test_breaks_i2() {
    breaks(&["I2"], |parts| parts.header.self_test ^= 1);
}

#[test]
fn a_directory_page_of_another_place_breaks_i4() {
    breaks(&["I4"], |parts| parts.directory[0].1.table_id = 1);
}

#[test]
fn segments_with_a_gap_break_i5() {
    breaks(&["I5"], |parts| {
        parts.directory[0].1.segments.pop();
    });
}

#[test]
fn a_page_record_of_another_place_breaks_i7() {
    for offset in [56, 58, 59] {
        breaks(&["I7"], |parts| {
            let block = *parts.pages.keys().next().unwrap();
            parts.page(block)[offset] ^= 1;
        });
    }
}

#[test]
fn bytes_that_should_be_zero_break_i8() {
    breaks(&["I8"], |parts| {
        let block = *parts.pages.keys().next().unwrap();
        parts.page(block)[8] = 2;
    });
    breaks(&["I8"], |parts| {
        let block = *parts.pages.keys().next().unwrap();
        parts.page(block)[512 + 60] = 2;
    });
    for offset in [16, 48, 64] {
        breaks(&["I8"], |parts| {
            let (block, group, slot) = parts.slot(|control, _, _| control == 0x80);
            let width = [2, 1, 56][[16, 48, 64].iter().position(|o| *o == offset).unwrap()];
            parts.page(block)[group + offset + width * slot] = 1;
        });
    }
    breaks(&["I8"], |parts| {
        let (block, group, slot) = parts.full(is_inline);
        parts.page(block)[group + 64 + 56 * slot + 55] = 1;
    });
}

#[test]
fn a_control_byte_without_a_meaning_breaks_i8() {
    breaks(&["I8"], |parts| {
        let (block, group, slot) = parts.slot(|control, _, _| control == 0x80);
        parts.page(block)[group + slot] = 0xff;
    });
}

#[test]
fn lengths_of_another_case_break_i9() {
    breaks(&["I9"], |parts| {
        let (block, group, slot) = parts.full(is_inline);
        parts.page(block)[group + 32 + 2 * slot] = 57;
    });
    // A value of 20 bytes that is spilled where it would fit.
    breaks(&["I9"], |parts| {
        let (block, group, slot) = parts.full(has_spilled_value);
        let address = group + 64 + 56 * slot + 16;
        let length = &mut parts.page(block)[address + 8..address + 12];
        length.copy_from_slice(&20u32.to_le_bytes());
        *parts.live.get_mut(&1).unwrap() -= 200;
    });
}

#[test]
fn wrong_hash_bits_break_i10() {
    breaks(&["I10"], |parts| {
        let (block, group, slot) = parts.full(|_, _| true);
        parts.page(block)[group + slot] ^= 1;
    });
    breaks(&["I10"], |parts| {
        let (block, group, slot) = parts.full(|_, _| true);
        parts.page(block)[group + 48 + slot] ^= 1;
    });
    breaks(&["I10"], |parts| {
        let (block, group, slot) = parts.full(has_spilled_value);
        parts.page(block)[group + 64 + 56 * slot + 16] ^= 1;
    });
    // A key in its slot whose hash bits are those of another.
    breaks(&["I10"], |parts| {
        let (block, group, slot) = parts.full(is_inline);
        parts.page(block)[group + 64 + 56 * slot] ^= 1;
    });
}

/// An entry that stands in its slot, and an empty slot of the same page, in a
/// group at a distance that suits: a block, and for both the group and the
/// slot. Which pages have both depends on the hash key; and the segment must
/// have growth left, or one entry more would break its counts as well.
fn entry_with_room(parts: &Parts, suits: &dyn Fn(usize) -> bool) -> (u32, [usize; 2], [usize; 2]) {
    let segments = parts.directory.iter().flat_map(|(_, page)| &page.segments);
    let roomy = segments.filter(|segment| {
        let groups = 8 * segment.pages.len() as u16;
        segment.used + segment.tombstones < 7 * groups
    });
    for block in roomy.flat_map(|segment| &segment.pages).map(|page| page.block) {
        let page = &parts.pages[&block];
        let slots = || (0..BLOCK).step_by(512).flat_map(|group| (0..8).map(move |i| [group, i]));
        for [group, slot] in slots() {
            if page[group + slot] & 0x80 != 0 || !is_inline(&page[group..group + 512], slot) {
                continue;
            }
            let is_room =
                |[there, i]: &[usize; 2]| page[*there + *i] == 0x80 && suits(there.abs_diff(group));
            if let Some(room) = slots().find(is_room) {
                return (block, [group, slot], room);
            }
        }
    }
    panic!("no page has an entry and such a slot");
}

#[test]
fn an_entry_that_is_not_found_or_there_twice_breaks_i11() {
    let copy = |parts: &mut Parts, to: &dyn Fn(usize) -> bool| {
        let (block, [group, slot], [there, free]) = entry_with_room(parts, to);
        let from = *parts.page(block);
        let page = parts.page(block);
        page[there + free] = from[group + slot];
        for (offset, width) in [(16, 2), (32, 2), (48, 1), (64, 56)] {
            let source = group + offset + width * slot;
            let target = there + offset + width * free;
            page[target..target + width].copy_from_slice(&from[source..source + width]);
        }
        let segments = &mut parts.directory[0].1.segments;
        let segment = segments.iter_mut().find(|s| s.pages.iter().any(|p| p.block == block));
        segment.unwrap().used += 1;
        parts.header.used += 1;
        parts.header.growth_left -= 1;
    };
    // In the same group it is found, but twice; in another it is neither.
    breaks(&["I11"], |parts| copy(parts, &|distance| distance == 0));
    breaks(&["I11"], |parts| copy(parts, &|distance| distance != 0));
}

#[test]
fn wrong_counts_of_a_segment_break_i12() {
    breaks(&["I12"], |parts| parts.directory[0].1.segments[0].used += 1);
    breaks(&["I12"], |parts| parts.directory[0].1.segments[1].tombstones += 1);
}

#[test]
fn wrong_sums_of_the_header_break_i13() {
    breaks(&["I13"], |parts| {
        parts.header.used += 1;
        parts.header.growth_left -= 1;
    });
    breaks(&["I13"], |parts| parts.header.growth_left -= 1);
    breaks(&["I13"], |parts| parts.header.segments += 1);
    breaks(&["I13"], |parts| {
        let capacity = parts.header.capacity;
        parts.header.capacity = capacity + 64;
        parts.header.growth_left += 56;
    });
}

#[test]
fn a_block_that_is_reached_and_free_or_twice_breaks_i14() {
    for from_free in [false, true] {
        let memory = store();
        let file = open(&memory, TABLE);
        let mut parts = Parts::take(&file);
        let run = parts.header.free_map;
        let mut map = read(&file, run.block);
        let wanted = |b: &u32| (map[*b as usize / 8] >> (b % 8) & 1 == 1) == from_free;
        let block = (2..parts.header.file_blocks).find(wanted).unwrap();
        map[block as usize / 8] ^= 1 << (block % 8);
        write(&file, run.block, &map[..]);
        parts.header.free_map.crc = crc32(&map[..], 0);
        parts.put(&file);
        let report = check(&memory);
        assert_eq!(named(&report), BTreeSet::from(["I14"]), "{report}");
        assert!(report.to_string().contains(&format!("block {block} is")), "{report}");
    }
    let memory = store();
    let file = open(&memory, TABLE);
    let mut parts = Parts::take(&file);
    let block = parts.directory[0].1.segments[0].pages[0].block;
    parts.directory[0].1.segments[1].pages[0].block = block;
    parts.put(&file);
    assert!(named(&check(&memory)).contains("I14"));
}

#[test]
fn a_wrong_address_breaks_i15() {
    for (at, value) in [(16, 0xee), (20, 0xee), (12, 0xee)] {
        breaks(if at == 16 { &["I15", "I16"] } else { &["I15"] }, |parts| {
            let (block, group, slot) = parts.full(has_spilled_value);
            let address = group + 64 + 56 * slot + 16;
            parts.page(block)[address + at] ^= value;
        });
    }
}

#[test]
fn wrong_live_bytes_break_i16() {
    breaks(&["I16"], |parts| *parts.live.get_mut(&1).unwrap() += 1);
    breaks(&["I16"], |parts| parts.live.clear());
    breaks(&["I16"], |parts| parts.live.extend([(2, 5)]));
}

#[test]
fn a_wrong_position_in_the_log_breaks_i18() {
    breaks(&["I18"], |parts| parts.header.log.salt ^= 1);
    breaks(&["I18"], |parts| parts.header.log.file = 9);
    breaks(&["I18"], |parts| {
        parts.header.clean = false;
        parts.header.log.offset -= 8;
    });
    // The other table goes on to the end.
    breaks(&["I18"], |parts| {
        parts.header.log.offset = LOG_START as u32;
        parts.header.log.commit = 0;
    });
}

#[test]
fn a_log_that_ends_before_a_table_breaks_i17() {
    breaks(&["I17", "I18"], |parts| parts.header.log.commit += 7);
}

#[test]
fn ids_that_are_not_counted_or_not_different_break_i19() {
    breaks(&["I19"], |parts| parts.header.next_table_id = 1);
    let memory = store();
    let db = Options::new().open_on(Arc::new(memory.clone())).unwrap();
    db.table("third").unwrap();
    db.close().unwrap();
    let file = open(&memory, "third.swiss");
    let mut header = Header::decode(&read(&file, 0)).unwrap();
    assert_eq!((header.table_id, header.state), (2, TableState::Live));
    header.table_id = 1;
    write_header(&file, &header, 0).unwrap();
    let named = named(&check(&memory));
    assert!(named.contains("I19"), "{named:?}");
}

#[test]
fn copies_of_the_header_that_differ_break_i1() {
    let memory = store();
    let file = open(&memory, TABLE);
    let mut header = Header::decode(&read(&file, 1)).unwrap();
    header.clears += 1;
    write(&file, 1, &header.encode());
    assert_eq!(named(&check(&memory)), BTreeSet::from(["I1"]));
    // A crash between the two leaves that, if their generations differ.
    header.generation -= 1;
    write(&file, 1, &header.encode());
    assert_eq!(named(&check(&memory)), BTreeSet::new());
    header.name = "another".into();
    header.table_id = 7;
    header.next_table_id = 0;
    write(&file, 1, &header.encode());
    assert_eq!(named(&check(&memory)), BTreeSet::from(["I1"]));
    // Under another name it is another table's file.
    memory.rename("other.swiss", "renamed.swiss").unwrap();
    let named = named(&check(&memory));
    assert!(named.contains("I1"), "{named:?}");
}

#[test]
fn a_root_that_is_not_one_breaks_i3() {
    let memory = store();
    let file = open(&memory, TABLE);
    let mut header = Header::decode(&read(&file, 0)).unwrap();
    let mut root = read(&file, header.root.block);
    root[4095] = 1;
    write(&file, header.root.block, &root[..]);
    assert_eq!(named(&check(&memory)), BTreeSet::from(["I3"]));
    header.root.crc = crc32(&root[..], 0);
    write_header(&file, &header, 0).unwrap();
    assert_eq!(named(&check(&memory)), BTreeSet::from(["I3"]));
}

#[test]
fn a_page_where_another_should_be_breaks_i6() {
    let memory = store();
    let file = open(&memory, TABLE);
    let parts = Parts::take(&file);
    let blocks: Vec<_> = parts.pages.keys().take(2).copied().collect();
    write(&file, blocks[0], &parts.pages[&blocks[1]][..]);
    let report = check(&memory);
    assert_eq!(named(&report), BTreeSet::from(["I6"]), "{report}");
    assert!(report.to_string().contains("another page lies here"), "{report}");
}

#[test]
fn rot_in_a_spilled_key_or_value_breaks_i15() {
    for (what, number) in [("v", 200), ("k", 100), ("both spilled ", 20)] {
        let memory = store();
        let file = open(&memory, LOG);
        let mut bytes = vec![0; file.length().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        let wanted = what.repeat(number);
        let at = bytes.windows(wanted.len()).position(|w| w == wanted.as_bytes()).unwrap();
        file.write_at(b"?", at as u64 + 50).unwrap();
        // The record is rotten as well, and L comes behind it.
        assert_eq!(named(&check(&memory)), BTreeSet::from(["I15", "I18"]));
    }
}

/// A store that was not closed, with two durable commits in its log.
fn killed() -> Memory {
    let memory = Memory::new();
    let db = Options::new().open_on(Arc::new(memory.clone())).unwrap();
    for key in ["a", "b", "c"] {
        db.insert(key, "value").unwrap();
        db.sync().unwrap();
    }
    let copy = memory.copy().unwrap();
    db.close().unwrap();
    copy
}

#[test]
fn a_gap_in_the_log_breaks_i17() {
    let memory = killed();
    assert!(check(&memory).is_clean());
    let file = open(&memory, LOG);
    file.write_at(b"?", LOG_START + RECORD_HEADER as u64).unwrap();
    let report = check(&memory);
    assert_eq!(named(&report), BTreeSet::from(["I17"]), "{report}");
}

#[test]
fn an_operation_of_a_newer_version_is_not_the_end() {
    let memory = killed();
    let file = open(&memory, LOG);
    let mut block = [0; BLOCK];
    file.read_at(&mut block, 0).unwrap();
    let salt = u32::from_le_bytes(block[16..20].try_into().unwrap());
    let mut record = [0; RECORD_HEADER + 12 + 6];
    file.read_at(&mut record, LOG_START).unwrap();
    record[RECORD_HEADER] = 9;
    let header = RecordHeader::decode(record.first_chunk().unwrap());
    assert_eq!(header.length as usize, record.len());
    let crc = crc32(&record[4..], crate::format::record::seed(salt, LOG_START as u32));
    record[..4].copy_from_slice(&crc.to_le_bytes());
    file.write_at(&record, LOG_START).unwrap();
    assert!(matches!(
        verify_on(Arc::new(memory)),
        Err(crate::Error::Version { found: 9, supported: 5, .. })
    ));
}

#[test]
fn a_damaged_log_file_breaks_i17() {
    for offset in [0, 12, 16, 20, 24, 32, 100, 600] {
        let memory = killed();
        let file = open(&memory, LOG);
        file.write_at(&[0xee], offset).unwrap();
        let report = check(&memory);
        assert!(named(&report).contains("I17"), "offset {offset}: {report}");
    }
}

#[test]
fn keys_are_compared_only_where_hashes_are_equal() {
    use super::segment::{Entry, duplicates};
    use crate::format::group::Lengths;
    let entry = |hash| Entry {
        hash,
        page: 0,
        offset: hash as usize,
        lengths: Lengths { key: 1, value: 0 },
        address: None,
        belongs: true,
    };
    let entries: Vec<_> = [5, 3, 5, 9, 5, 3].map(entry).into();
    let mut asked = 0;
    let found = duplicates(&entries, &mut |entry| {
        asked += 1;
        (entry.hash == 5).then(|| vec![1])
    });
    assert_eq!((found, asked), (vec![2, 4], 5));
}

#[test]
fn what_is_spilled_is_what_the_lengths_say() {
    let memory = store();
    let parts = Parts::take(&open(&memory, TABLE));
    parts.full(|group, slot| value_len(group, slot) == 0x8000 && key_len(group, slot) == 13);
    parts.full(|group, slot| value_len(group, slot) == 11 && key_len(group, slot) == 0x8064);
    parts.full(|group, slot| value_len(group, slot) == 0x8000 && key_len(group, slot) == 0x8064);
}
