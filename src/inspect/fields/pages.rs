//! The fields of a page of a segment: control lines and slots.
//!
//! What a slot holds is told by its lengths, as in section 3.6 of format.md; the
//! log is not read.

use crate::format::ADDRESS_BYTES;
use crate::format::group::{DELETED, EMPTY, Geometry, Lengths, SLOTS};
use crate::format::u16_at;

use super::{Field, Fields, Row, Show, number, quoted};

/// 3.5 of format.md, from the version to the page crc, and the page record.
const VERSION_AND_CRC: &[Row] = &[(4, "version", Show::Number), (4, "page crc", Show::Hex)];
const PAGE_RECORD: &[Row] = &[
    (2, "page record: table id", Show::Number),
    (1, "page record: local depth", Show::Number),
    (1, "page record: page number", Show::Number),
    (4, "page record: generation", Show::Number),
];
/// 3.6 of format.md.
const ADDRESS: &[Row] = &[
    (8, "hash", Show::Hex),
    (4, "length", Show::Number),
    (4, "crc", Show::Hex),
    (4, "log file", Show::Number),
    (4, "offset", Show::Number),
];

/// A whole page. `first` is the number of its first group in the segment.
pub(in crate::inspect) fn page(
    bytes: &[u8],
    base: u64,
    geometry: &Geometry,
    first: usize,
) -> Vec<Field> {
    let mut fields = Fields::new(bytes, base, "page");
    for number in 0..geometry.groups_per_page {
        group(&mut fields, geometry, first + number);
    }
    fields.within = "page".to_owned();
    fields.reserved(bytes.len());
    fields.done()
}

fn group(fields: &mut Fields<'_>, geometry: &Geometry, number: usize) {
    let length = geometry.group_words * 8;
    let bytes = fields.peek(length);
    if bytes.len() < length {
        // Only where the file ends within the page.
        return fields.take(length, "group", "cut off");
    }
    fields.within = format!("group {number}: control line");
    fields.take(8, "control word", control_word(&bytes[..8]));
    fields.rows(VERSION_AND_CRC);
    fields.take(16, "key_len", lengths(&bytes[16..32]));
    fields.take(16, "val_len", lengths(&bytes[32..48]));
    let fp: Vec<_> = bytes[48..56].iter().map(|fp| format!("{fp:02x}")).collect();
    fields.take(8, "fp", fp.join(" "));
    fields.rows(PAGE_RECORD);
    let mut slot = 0;
    while slot < SLOTS {
        let control = bytes[slot];
        if control & 0x80 == 0 {
            let lengths =
                Lengths { key: u16_at(bytes, 16 + 2 * slot), value: u16_at(bytes, 32 + 2 * slot) };
            fields.within = format!("group {number}: slot {slot}");
            entry(fields, geometry, lengths);
            slot += 1;
            continue;
        }
        // Slots without an entry are shown as one, if they are of one kind.
        let same = bytes[slot..SLOTS].iter().take_while(|byte| **byte == control).count();
        vacant(fields, geometry, number, slot, same, control);
        slot += same;
    }
}

/// Slots that hold nothing: their bytes are reserved.
fn vacant(
    fields: &mut Fields<'_>,
    geometry: &Geometry,
    group: usize,
    slot: usize,
    count: usize,
    control: u8,
) {
    fields.within = match count {
        1 => format!("group {group}: slot {slot}"),
        _ => format!("group {group}: slots {slot} to {}", slot + count - 1),
    };
    fields.reserved(fields.at + count * geometry.payload());
    if let Some(field) = fields.list.last_mut() {
        field.value = match control {
            EMPTY => "empty".to_owned(),
            DELETED => "deleted".to_owned(),
            other => format!("the control byte {other:02x} means nothing"),
        };
    }
}

/// A slot with an entry, in one of the cases of 3.6.
fn entry(fields: &mut Fields<'_>, geometry: &Geometry, lengths: Lengths) {
    let payload = geometry.payload();
    let end = fields.at + payload;
    if !lengths.fit(geometry) {
        fields.take(payload, "slot", "");
        let (key, value) = (lengths.key, lengths.value);
        return fields.wrong(format!("lengths {key:04x} and {value:04x} do not fit the slot"));
    }
    if !lengths.key_spilled() {
        let key = quoted(fields.peek(lengths.key_len()));
        fields.take(lengths.key_len(), "key", key);
    }
    if lengths.spilled() {
        let address = end - payload + lengths.address_word() * 8;
        fields.reserved(address);
        debug_assert!(fields.at + ADDRESS_BYTES <= end);
        fields.rows(ADDRESS);
    }
    if !lengths.value_spilled() {
        let value = quoted(fields.peek(lengths.value_len()));
        fields.take(lengths.value_len(), "value", value);
    }
    fields.reserved(end);
}

/// Control bytes in words.
fn control_word(control: &[u8]) -> String {
    let word = |byte: &u8| match *byte {
        EMPTY => "empty".to_owned(),
        DELETED => "deleted".to_owned(),
        h2 @ 0..0x80 => format!("H2 {h2:02x}"),
        other => format!("{other:02x}?"),
    };
    match control.iter().all(|byte| *byte == EMPTY) {
        true => "all empty".to_owned(),
        false => control.iter().map(word).collect::<Vec<_>>().join(", "),
    }
}

/// The lengths of a control line in words.
fn lengths(bytes: &[u8]) -> String {
    let length = |field: u64| match (field & 0x8000 != 0, field & 0x7fff) {
        (true, 0) => "spilled".to_owned(),
        (true, length) => format!("spilled+{length}"),
        (false, length) => length.to_string(),
    };
    let words: Vec<_> = bytes.chunks(2).map(|field| length(number(field))).collect();
    words.join(" ")
}
