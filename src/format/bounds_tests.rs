//! The bounds in format.md are those of the code.
//!
//! Goal: what the document allows, the decoders take, and what lies just
//! outside they refuse, naming that field. Method: the columns *Allowed*, the
//! cases of 3.6, the bits of 4.2 and the limits of section 10 are read out of
//! the text; bounds are crossed by one under a renewed checksum.

use super::directory::{DirectoryPage, MAX_DEPTH, MAX_SEGMENT_PAGES, PageRef, SegmentRecord};
use super::document_tests::document::{Row, body, table, tables};
use super::group::{self, Geometry, Lengths, SPILLED};
use super::header::tests::sample;
use super::header::{DEFAULT_TABLE, Header, MAX_FILE_BLOCKS};
use super::record::{
    LOG_START, LogFileHeader, MAX_LOG_FILE, MAX_RECORD, OP_HEADER, Op, OpKind, Ops,
};
use super::*;
use crate::{MAX_KEY_LENGTH, MAX_VALUE_LENGTH};

/// What an expression of the document comes to, as in `4096 + 2^30`; it ends
/// at the first thing that is no part of one.
fn value(text: &str) -> Option<u64> {
    let number = |word: &str| {
        let word = word.trim_end_matches([',', ';']).replace(',', "");
        match word.split_once('^') {
            Some((base, power)) => base.parse::<u64>().ok()?.checked_pow(power.parse().ok()?),
            None => word.parse().ok(),
        }
    };
    let mut words = text.split_whitespace();
    let mut sum = number(words.next()?)?;
    while let (Some(sign), Some(more)) = (words.next(), words.next().and_then(number)) {
        sum = match sign {
            "+" => sum + more,
            "-" => sum - more,
            _ => return Some(sum),
        };
    }
    Some(sum)
}

/// The least and the greatest value of a field, as far as the document gives
/// numbers for them.
fn bounds(allowed: &str) -> (Option<u64>, Option<u64>) {
    let behind = |words: &str| allowed.split_once(words).and_then(|(_, rest)| value(rest));
    let most = behind("below ").map(|limit| limit - 1).or_else(|| behind("at most "));
    match allowed.split_once(" to ") {
        Some((least, most)) if value(least).is_some() => (value(least), value(most)),
        _ if allowed.contains(" or more") => (value(allowed), most),
        _ if allowed.starts_with("not 0") => (Some(1), most),
        _ if allowed == "0" => (None, Some(0)),
        _ => (None, most),
    }
}

/// Crosses both bounds of each field, where there are any, and asks `fault`
/// for the offset that is complained about. Returns how many were crossed.
fn cross(rows: &[Row], fault: impl Fn(usize, &[u8]) -> Option<u64>) -> usize {
    let mut crossed = 0;
    for row in rows {
        let (Some(at), Some(size)) = (row.offset, row.size) else { continue };
        let (least, most) = bounds(&row.allowed);
        let below = least.and_then(|least| least.checked_sub(1));
        let above = most.filter(|most| size >= 8 || most >> (8 * size) == 0);
        let above =
            above.map(|most| most + 1).filter(|above| size >= 8 || above >> (8 * size) == 0);
        for wrong in [below, above].into_iter().flatten() {
            let bytes = wrong.to_le_bytes();
            let found = fault(at, &bytes[..size.min(8)]);
            assert_eq!(found, Some(at as u64), "{} = {wrong}, allowed {}", row.field, row.allowed);
            crossed += 1;
        }
    }
    crossed
}

/// The header of the default table: it alone has the id of the next table.
fn header() -> Header {
    Header { table_id: 0, name: DEFAULT_TABLE.into(), next_table_id: 1, ..sample() }
}

/// `sound` with `field` at an offset, under a renewed checksum over the first
/// `covered` bytes, which stands behind them.
fn resealed<const N: usize>(sound: [u8; N], at: usize, field: &[u8], covered: usize) -> [u8; N] {
    let mut bytes = sound;
    put(&mut bytes, at, field);
    let crc = crc32(&bytes[..covered], 0);
    put(&mut bytes, covered, &crc.to_le_bytes());
    bytes
}

#[test]
fn the_decoders_refuse_what_lies_just_outside_the_documented_bounds() {
    let sound = header().encode();
    assert!(Header::decode(&sound).is_ok());
    let in_header = |at: usize, wrong: &[u8]| {
        Header::decode(&resealed(sound, at, wrong, 4092)).err().map(|fault| fault.offset)
    };
    let log = LogFileHeader { number: 1, salt: 2, size: 8192 }.encode();
    assert!(LogFileHeader::decode(&log).is_ok());
    let in_log = |at: usize, wrong: &[u8]| {
        LogFileHeader::decode(&resealed(log, at, wrong, 32)).err().map(|fault| fault.offset)
    };
    let pages = vec![PageRef { block: 2, crc: 3 }];
    let segment = SegmentRecord { depth: 0, used: 1, tombstones: 0, pages };
    let page =
        DirectoryPage { table_id: 0, depth: 0, prefix: 0, generation: 1, segments: vec![segment] };
    let page = *page.encode();
    assert!(DirectoryPage::decode(&page).is_ok());
    let in_page = |at: usize, wrong: &[u8]| {
        let mut bytes = page;
        put(&mut bytes, at, wrong);
        DirectoryPage::decode(&bytes).err().map(|fault| fault.offset)
    };
    let in_segment = |at: usize, wrong: &[u8]| Some(in_page(32 + at, wrong)? - 32);
    let [page_rows, segment_rows] = &tables("3.3")[..] else { panic!("two tables") };
    let crossed = [
        cross(&table("3.1"), in_header),
        cross(&table("5.1"), in_log),
        cross(page_rows, in_page),
        cross(segment_rows, in_segment),
    ];
    // As many bounds as the document has in numbers: none was overlooked.
    assert_eq!(crossed, [22, 7, 5, 4]);
}

#[test]
fn operations_may_be_as_long_as_documented_and_no_longer() {
    let [_, operation] = &tables("5.2")[..] else { panic!("two tables") };
    let most =
        |field: &str| bounds(&super::document_tests::document::row(operation, field).allowed);
    assert_eq!(most("key length"), (Some(0), Some(MAX_KEY_LENGTH as u64)));
    assert_eq!(most("value length"), (Some(0), Some(MAX_VALUE_LENGTH as u64)));
    let op = Op { kind: OpKind::Insert, table: 0, key: b"", value: b"" };
    for (at, wrong) in [(1, 1), (6, 1), (5, 0x80), (11, 0x40)] {
        let mut bytes = op.encode_header();
        bytes[at] = wrong;
        assert_eq!(bytes.len(), OP_HEADER);
        assert!(Ops::new(&bytes).next().is_some_and(|op| op.is_err()), "byte {at}");
    }
}

#[test]
fn entries_are_laid_out_in_the_documented_cases() {
    let rows: Vec<Vec<&str>> = body("3.6")
        .lines()
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>())
        .filter(|cells| cells.len() == 7 && cells[1].len() == 1)
        .collect();
    let conditions: Vec<&str> = rows.iter().map(|row| row[2]).collect();
    assert_eq!(conditions, ["k + v ≤ P", "k ≤ P - 24", "v ≤ P - 24", "always"]);
    assert_eq!((ADDRESS_BYTES, SPILLED), (24, 0x8000));
    for payload in (24..=504).step_by(8) {
        let geometry = Geometry::new(payload).expect("a payload");
        for key in 0..=payload + 1 {
            for value in [0, 1, payload - 24, payload - 23, payload.saturating_sub(key), payload] {
                for value in [value, value + 1] {
                    let holds =
                        [key + value <= payload, key + 24 <= payload, value + 24 <= payload];
                    let case = holds.iter().position(|holds| *holds).unwrap_or(3);
                    let shape = geometry.shape(key, value);
                    let lengths = Lengths::of(shape, key, value);
                    let length = |cell: &str| match cell {
                        "k" => key as u16,
                        "v" => value as u16,
                        "0x8000" => 0x8000,
                        "0x8000 + k" => 0x8000 + key as u16,
                        other => panic!("{other}"),
                    };
                    let documented = (length(rows[case][3]), length(rows[case][4]));
                    assert_eq!(
                        (lengths.key, lengths.value),
                        documented,
                        "{payload}: {key} {value}"
                    );
                    assert!(lengths.fit(&geometry));
                }
            }
        }
    }
}

#[test]
fn every_bit_of_a_hash_is_used_for_what_is_documented() {
    let rows: Vec<(u64, u64, &str)> = body("4.2")
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let (high, low) = cells.get(1)?.split_once(" to ")?;
            Some((high.parse().ok()?, low.parse().ok()?, cells[2]))
        })
        .collect();
    let uses: [fn(u64) -> usize; 4] = [
        |hash| (hash >> (64 - MAX_DEPTH)) as usize,
        |hash| group::home(hash, 1 << 25),
        |hash| group::fingerprint(hash).into(),
        |hash| group::h2(hash).into(),
    ];
    let names = ["the directory", "the home group", "fp", "H2"];
    assert_eq!(rows.len(), uses.len());
    for (((high, low, text), name), of) in rows.iter().zip(names).zip(uses) {
        assert!(text.starts_with(name), "{text}");
        for bit in 0..64 {
            let is_used = of(0x0123_4567_89ab_cdef) != of(0x0123_4567_89ab_cdef ^ 1 << bit);
            assert_eq!(is_used, (*low..=*high).contains(&bit), "bit {bit} for {name}");
        }
    }
    assert!(body("4.4").contains("`h >> 15 & 7`") && group::home_slot(5 << 15 | 1 << 18) == 5);
}

#[test]
fn the_limits_are_the_documented_ones() {
    let rows: Vec<(&str, &str)> = body("10")
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            (cells.len() == 5).then(|| (cells[1], cells[2]))
        })
        .collect();
    let limit = |name: &str| {
        let (_, text) = rows.iter().find(|row| row.0 == name).expect(name);
        let most = text.split_once(" to ").map_or(*text, |(_, most)| most);
        value(most).unwrap_or_else(|| panic!("{name}: {text} is no number"))
    };
    assert_eq!(limit("key"), MAX_KEY_LENGTH as u64);
    assert_eq!(limit("value"), MAX_VALUE_LENGTH as u64);
    assert_eq!(limit("record (batch)"), MAX_RECORD);
    assert_eq!(limit("log file"), MAX_LOG_FILE);
    assert_eq!(limit("log file"), LOG_START + MAX_RECORD);
    assert_eq!(limit("table file"), MAX_FILE_BLOCKS.into());
    assert_eq!(limit("tables"), 1 << u16::BITS);
    assert_eq!(limit("table's name"), MAX_NAME_LENGTH as u64);
    let payloads: Vec<usize> = (0..1024).filter(|p| Geometry::new(*p).is_some()).collect();
    assert_eq!((payloads[0], payloads[payloads.len() - 1] as u64), (24, limit("slot payload")));
    assert_eq!(limit("segments of a table"), 1 << MAX_DEPTH);
    let (_, collisions) = rows.iter().find(|row| row.0.starts_with("entries with")).expect("a row");
    assert_eq!(*collisions, format!("7/8 of the slots of {MAX_SEGMENT_PAGES} pages"));
    let last = Header { generation: limit("commits, generations"), ..header() };
    assert!(Header::decode(&last.encode()).is_ok());
    let next = Header { generation: last.generation + 1, ..last };
    assert!(Header::decode(&next.encode()).is_err());
    assert_eq!(rows.len(), 13, "a limit that this test does not know: {rows:?}");
}
