//! The fields of a log file: header, activation, records.
//!
//! Operations are followed by their lengths, as far as the record goes. Whether a
//! record is part of the log is not asked here.

use crate::format::record::{OP_HEADER, RECORD_HEADER};

use super::{Field, Fields, Row, Show, zero};

/// 5.1 of format.md.
const FIRST_BLOCK: &[Row] = &[
    (8, "magic", Show::Text),
    (4, "format version", Show::Number),
    (4, "number", Show::Number),
    (4, "salt", Show::Hex),
    zero(4),
    (8, "file size", Show::Number),
    (4, "checksum", Show::Hex),
    zero(476),
    (8, "activation: magic", Show::Text),
    (4, "activation: previous file", Show::Number),
    (4, "activation: previous end", Show::Number),
    (8, "activation: last commit", Show::Number),
    (4, "activation: salt", Show::Hex),
    (4, "activation: checksum", Show::Hex),
    zero(3552),
];

/// 5.2 of format.md.
const RECORD: &[Row] = &[
    (4, "checksum", Show::Hex),
    (4, "length", Show::Number),
    (8, "commit number", Show::Number),
    (8, "known durable", Show::Number),
];
const OPERATION: &[Row] = &[
    (1, "kind", Show::Word(kind)),
    zero(1),
    (2, "table id", Show::Number),
    (2, "key length", Show::Number),
    zero(2),
    (4, "value length", Show::Number),
];

fn kind(kind: u64) -> Option<&'static str> {
    match kind {
        1 => Some("insert"),
        2 => Some("remove"),
        3 => Some("clear"),
        4 => Some("create table"),
        5 => Some("drop table"),
        _ => None,
    }
}

/// The first block of a log file.
pub(in crate::inspect) fn first_block(bytes: &[u8]) -> Vec<Field> {
    let mut fields = Fields::new(bytes, 0, "log file");
    fields.rows(FIRST_BLOCK);
    fields.done()
}

/// What precedes the operations of a record.
pub(in crate::inspect) fn record(bytes: &[u8; RECORD_HEADER], base: u64) -> Vec<Field> {
    let mut fields = Fields::new(bytes, base, "record");
    fields.rows(RECORD);
    fields.done()
}

/// What precedes key and value of an operation.
pub(in crate::inspect) fn operation(
    bytes: &[u8; OP_HEADER],
    base: u64,
    number: usize,
) -> Vec<Field> {
    let mut fields = Fields::new(bytes, base, &format!("operation {number}"));
    fields.rows(OPERATION);
    fields.done()
}

/// Bytes of a log file that have no fields of their own, of which `bytes` are
/// the first: a key, a value, padding, or what is no record.
pub(in crate::inspect) fn run(
    bytes: &[u8],
    base: u64,
    length: u64,
    within: &str,
    name: &str,
) -> Field {
    let is_text = matches!(name, "key" | "value");
    Field {
        offset: base,
        length,
        bytes: bytes.to_vec(),
        within: within.to_owned(),
        name: name.to_owned(),
        value: if is_text { super::quoted(bytes) } else { String::new() },
        damage: None,
    }
}
