//! The fields of what leads to the pages of a table file: header, root, free
//! map, directory page.

use crate::format::BLOCK;
use crate::format::directory::MAX_SEGMENT_PAGES;

use super::{Field, Fields, Row, Show, u32_at, u64_at, zero};

/// 3.1 of format.md, up to the name.
const HEADER: &[Row] = &[
    (8, "magic", Show::Text),
    (4, "format version", Show::Number),
    (2, "table id", Show::Number),
    (2, "slot payload", Show::Number),
    (1, "hash", Show::Word(hash)),
    (1, "state", Show::Word(state)),
    (1, "clean", Show::Word(clean)),
    (1, "root depth", Show::Number),
    (2, "name length", Show::Number),
    zero(2),
    (16, "hash key", Show::Pair),
    (8, "hash self-test", Show::Hex),
    (8, "capacity", Show::Number),
    (8, "used", Show::Number),
    (8, "growth left", Show::Number),
    (8, "segments", Show::Number),
    (8, "generation", Show::Number),
    (4, "L: log file", Show::Number),
    (4, "L: salt", Show::Hex),
    (4, "L: offset", Show::Number),
    zero(4),
    (8, "L: commit", Show::Number),
    (4, "root block", Show::Number),
    (4, "root blocks", Show::Number),
    (4, "root crc", Show::Hex),
    (4, "live count", Show::Number),
    (4, "free map block", Show::Number),
    (4, "free map blocks", Show::Number),
    (4, "free map crc", Show::Hex),
    (4, "file blocks", Show::Number),
    (4, "next table id", Show::Number),
    (4, "clears", Show::Number),
    zero(104),
];
/// Where the name lies, the reserved bytes behind it, and the checksum.
const NAME: usize = 256;
const NAME_END: usize = 320;
const CHECKSUM: usize = 4092;

/// 3.3 of format.md.
const DIRECTORY_PAGE: &[Row] = &[
    (4, "magic", Show::Text),
    (2, "table id", Show::Number),
    (1, "depth", Show::Number),
    zero(1),
    (4, "prefix", Show::Hex),
    (2, "segments", Show::Number),
    zero(2),
    (8, "generation", Show::Number),
    zero(8),
];
const SEGMENT: &[Row] = &[
    (1, "local depth", Show::Number),
    (1, "pages", Show::Number),
    (2, "used", Show::Number),
    (2, "tombstones", Show::Number),
    zero(2),
];
const PAGE: &[Row] = &[(4, "pages: block", Show::Number), (4, "pages: crc", Show::Hex)];

fn hash(id: u64) -> Option<&'static str> {
    match id {
        1 => Some("SipHash-1-3"),
        2 => Some("rapidhash v3"),
        _ => None,
    }
}

fn state(state: u64) -> Option<&'static str> {
    match state {
        1 => Some("pending"),
        2 => Some("live"),
        3 => Some("dropped"),
        _ => None,
    }
}

fn clean(clean: u64) -> Option<&'static str> {
    (clean == 1).then_some("closed")
}

/// A copy of the header.
pub(in crate::inspect) fn header(bytes: &[u8], base: u64) -> Vec<Field> {
    let mut fields = Fields::new(bytes, base, "header");
    fields.rows(HEADER);
    let length = bytes.get(20..22).map_or(0, super::number).min((NAME_END - NAME) as u64);
    fields.rows(&[(length as usize, "name", Show::Text)]);
    fields.reserved(NAME_END);
    fields.reserved(CHECKSUM);
    fields.rows(&[(4, "checksum", Show::Hex)]);
    fields.done()
}

/// A block of the root: the `part`th of its run.
pub(in crate::inspect) fn root(
    bytes: &[u8],
    base: u64,
    part: u32,
    depth: u8,
    live_count: u32,
) -> Vec<Field> {
    let first = u64::from(part) * (BLOCK / 8) as u64;
    let entries = 1 << depth.min(32);
    let live_end = entries + 2 * u64::from(live_count);
    let mut fields = Fields::new(bytes, base, "root");
    while fields.at < bytes.len() {
        let word = first + (fields.at / 8) as u64;
        if word < entries {
            fields.within = format!("root entry {word}");
            fields.rows(&[(4, "block", Show::Number), (4, "crc", Show::Hex)]);
        } else if word < live_end {
            let live = word - entries;
            fields.within = format!("root, live entry {}", live / 2);
            match live % 2 {
                0 => fields.rows(&[(4, "log file", Show::Number), zero(4)]),
                _ => fields.rows(&[(8, "live bytes", Show::Number)]),
            }
        } else {
            fields.within = "root".to_owned();
            fields.reserved(bytes.len());
        }
    }
    fields.done()
}

/// A block of the free map: the `part`th of its run. Each field is a word: 64
/// blocks, or fewer at the end.
pub(in crate::inspect) fn free_map(
    bytes: &[u8],
    base: u64,
    part: u32,
    file_blocks: u32,
) -> Vec<Field> {
    let mut fields = Fields::new(bytes, base, "free map");
    let first = u64::from(part) * (BLOCK * 8) as u64;
    let end = u64::from(file_blocks);
    while fields.at < bytes.len() {
        let from = first + (fields.at * 8) as u64;
        if from >= end {
            fields.reserved(bytes.len());
            break;
        }
        let bits = (end - from).min(64);
        let word = fields.peek(8);
        if word.len() < 8 {
            fields.take(8, "bits", "cut off");
            break;
        }
        let word = u64_at(word, 0);
        let covered = u64::MAX >> (64 - bits);
        let free = (word & covered).count_ones();
        let value = match u64::from(free) {
            0 => "all in use".to_owned(),
            free if free == bits => "all free".to_owned(),
            free => format!("{free} of {bits} free"),
        };
        fields.take(8, format!("blocks {from} to {}", from + bits - 1), value);
        if word & !covered != 0 {
            fields.wrong(format!("bits behind block {} are not zero", end - 1));
        }
    }
    fields.done()
}

/// A directory page.
pub(in crate::inspect) fn directory_page(bytes: &[u8], base: u64) -> Vec<Field> {
    let mut fields = Fields::new(bytes, base, "directory page");
    fields.rows(DIRECTORY_PAGE);
    let count = bytes.get(12..14).map_or(0, super::number);
    for number in 0..count {
        let head = fields.peek(8);
        if head.len() < 8 {
            break;
        }
        fields.within = format!("segment record {number}");
        fields.rows(SEGMENT);
        for _ in 0..usize::from(head[1]).min(MAX_SEGMENT_PAGES) {
            fields.rows(PAGE);
        }
    }
    fields.within = "directory page".to_owned();
    fields.reserved(bytes.len());
    fields.done()
}

/// Where the segment record of that number begins in a directory page, and how
/// long it is; `None` if it is not there.
pub(in crate::inspect) fn segment_record(bytes: &[u8], number: usize) -> Option<(usize, usize)> {
    let count = u32_at(bytes.get(12..16)?, 0) as usize & 0xffff;
    let mut at = 32;
    for i in 0..count {
        let length = 8 + 8 * usize::from(*bytes.get(at + 1)?);
        if i == number {
            return (at + length <= bytes.len()).then_some((at, length));
        }
        at += length;
    }
    None
}
