//! The worked example of format.md: the golden store, field by field.
//!
//! What a line says of its bytes comes from the offset tables of the document,
//! so the example and the tables cannot contradict each other. Not shown are
//! reserved bytes, groups without entries, blocks that are free, and whatever
//! is unwritten; that these are zero, or empty, is checked on the way.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::document::{Row, number, row, table, tables};

const BLOCK: usize = 4096;
/// Bytes of an address.
const ADDRESS: usize = 24;

/// The text of the example.
pub fn dump(store: &Path) -> String {
    let table_file = fs::read(store.join("default.swiss")).expect("the golden table file");
    let log_file = fs::read(store.join("log/00000001.log")).expect("the golden log file");
    let mut text = Dump::default();
    text.table_file(&table_file);
    text.log_file(&log_file);
    text.0
}

/// A dump in the making.
#[derive(Default)]
struct Dump(String);

impl Dump {
    fn heading(&mut self, title: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        writeln!(self.0, "{gap}{title}").expect("a string takes everything");
    }

    /// Bytes with their place in the file, eight a line, and what they are.
    fn field(&mut self, at: usize, bytes: &[u8], meaning: &str) {
        for (i, line) in bytes.chunks(8).enumerate() {
            let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            let meaning = if i == 0 { meaning } else { "" };
            let line = format!("{:06x}  {:<23}  {meaning}", at + 8 * i, hex.join(" "));
            writeln!(self.0, "{}", line.trim_end()).expect("a string takes everything");
        }
    }

    /// The fields of a structure that begins at `at`, as its table says.
    fn structure(&mut self, rows: &[Row], file: &[u8], at: usize) {
        for row in rows.iter().filter(|row| row.offset.is_some() && row.size.is_some()) {
            let bytes = row.bytes(&file[at..]);
            if row.is_reserved() {
                assert!(bytes.iter().all(|byte| *byte == 0), "{row:?} at {at}");
                continue;
            }
            // A name is shown without the zeros behind it.
            let shown = match row.field.as_str() {
                "name" => &bytes[..bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len())],
                _ => bytes,
            };
            let offset = at + row.offset.unwrap_or(0);
            self.field(offset, shown, &format!("{}: {}", row.field, meaning(row, bytes)));
        }
    }

    fn table_file(&mut self, file: &[u8]) {
        let header = table("3.1");
        self.heading("default.swiss, block 0: header (block 1 holds the same)");
        self.structure(&header, file, 0);
        assert_eq!(file[..BLOCK], file[BLOCK..2 * BLOCK], "the copies of the header");
        let value = |field: &str| row(&header, field).number(file) as usize;
        let [entry, live] = &tables("3.2")[..] else { panic!("two tables in section 3.2") };
        let root = value("root block");
        self.heading(&format!("default.swiss, block {root}: root"));
        assert_eq!((value("root depth"), value("live count")), (0, 1), "a small store");
        self.structure(entry, file, root * BLOCK);
        self.structure(live, file, root * BLOCK + 8);
        let directory = row(entry, "block").number(&file[root * BLOCK..]) as usize;
        let page = self.directory_page(file, directory);
        self.page(file, page, value("slot payload"));
        let map = value("free map block");
        self.heading(&format!("default.swiss, block {map}: free map"));
        let bits = value("file blocks") / 8;
        let used: Vec<usize> = (0..8 * bits)
            .filter(|block| file[map * BLOCK + block / 8] >> (block % 8) & 1 == 0)
            .collect();
        self.field(map * BLOCK, &file[map * BLOCK..][..bits], &format!("in use: {used:?}"));
    }

    /// Shows a directory page with one segment of one page; returns that.
    fn directory_page(&mut self, file: &[u8], block: usize) -> usize {
        let [page, segment] = &tables("3.3")[..] else { panic!("two tables in section 3.3") };
        self.heading(&format!("default.swiss, block {block}: directory page"));
        let at = block * BLOCK;
        self.structure(page, file, at);
        self.structure(segment, file, at + 32);
        let value = |rows, field| row(rows, field).number(&file[at..]);
        assert_eq!(value(page, "segments"), 1, "a small store");
        let (block, crc) = (&file[at + 40..at + 44], &file[at + 44..at + 48]);
        self.field(at + 40, block, &format!("pages: block: {}", number(block)));
        self.field(at + 44, crc, &format!("pages: crc: {:08x}", number(crc)));
        number(block) as usize
    }

    /// Shows the groups of a page that hold something.
    fn page(&mut self, file: &[u8], block: usize, payload: usize) {
        let rows = table("3.5");
        let size = 64 + 8 * payload;
        for group in 0..BLOCK / size {
            let at = block * BLOCK + group * size;
            let full: Vec<usize> = (0..8).filter(|slot| file[at + slot] & 0x80 == 0).collect();
            if full.is_empty() && group > 0 {
                assert_eq!(file[at..at + 8], [0x80; 8], "an empty group");
                assert!(file[at + 8..at + size].iter().all(|byte| *byte == 0), "an empty group");
                continue;
            }
            self.heading(&format!("default.swiss, block {block}, group {group}: control line"));
            self.structure(&rows, file, at);
            for slot in full {
                self.heading(&format!("default.swiss, block {block}, group {group}: slot {slot}"));
                let key = number(&file[at + 16 + 2 * slot..at + 18 + 2 * slot]) as usize;
                let value = number(&file[at + 32 + 2 * slot..at + 34 + 2 * slot]) as usize;
                self.slot(file, at + 64 + slot * payload, key, value);
            }
        }
    }

    fn slot(&mut self, file: &[u8], at: usize, key: usize, value: usize) {
        let text = |what: &str, at: usize, length: usize| {
            format!("{what}: {}", quoted(&file[at..at + length]))
        };
        let (key_spilled, value_spilled) = (key & 0x8000 != 0, value & 0x8000 != 0);
        let key_length = key & 0x7fff;
        let mut next = at;
        if !key_spilled {
            self.field(at, &file[at..at + key_length], &text("key", at, key_length));
            next += key_length;
        }
        if key_spilled || value_spilled {
            next = at + (next - at).next_multiple_of(8);
            self.structure(&tables("3.6")[0], file, next);
            next += ADDRESS;
        }
        if !value_spilled {
            self.field(next, &file[next..next + value], &text("value", next, value));
        }
    }

    fn log_file(&mut self, file: &[u8]) {
        self.heading("log/00000001.log: header and activation");
        self.structure(&table("5.1"), file, 0);
        let [record, operation] = &tables("5.2")[..] else { panic!("two tables in section 5.2") };
        let mut at = BLOCK;
        while number(&file[at + 4..at + 8]) != 0 {
            self.heading(&format!("log/00000001.log, offset {at}: record"));
            self.structure(record, file, at);
            self.structure(operation, file, at + 24);
            let key = row(operation, "key length").number(&file[at + 24..]) as usize;
            let value = row(operation, "value length").number(&file[at + 24..]) as usize;
            let (from, to) = (at + 36, at + 36 + key);
            self.field(from, &file[from..to], &format!("key: {}", quoted(&file[from..to])));
            let value = &file[to..to + value];
            self.field(to, value, &format!("value: {}", quoted(value)));
            let length = row(record, "length").number(&file[at..]) as usize;
            assert_eq!(to + value.len(), at + length, "one operation a record");
            at += length.next_multiple_of(8);
        }
        assert!(file[at..].iter().all(|byte| *byte == 0), "nothing behind the records");
    }
}

/// What the bytes of a field mean.
fn meaning(row: &Row, bytes: &[u8]) -> String {
    let field = row.field.as_str();
    if field.ends_with("magic") || field == "name" {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        return quoted(&bytes[..end]);
    }
    let halves = |radix: fn(u64) -> String| {
        let parts = bytes.chunks(bytes.len() / 8);
        parts.map(|part| radix(number(part))).collect::<Vec<_>>().join(" ")
    };
    match field {
        "control word" => return slots(bytes),
        "key_len" | "val_len" => return halves(length),
        "fp" => return halves(|fp| format!("{fp:02x}")),
        "hash key" => {
            return format!("{:016x} {:016x}", number(&bytes[..8]), number(&bytes[8..]));
        }
        _ => {}
    }
    let value = number(bytes);
    let hexadecimal = ["crc", "checksum", "salt", "self-test", "prefix"];
    match hexadecimal.iter().any(|word| field.ends_with(word))
        || bytes.len() == 8 && field == "hash"
    {
        true => format!("{value:0width$x}", width = 2 * bytes.len()),
        false => value.to_string(),
    }
}

/// Control bytes in words.
fn slots(control: &[u8]) -> String {
    let word = |byte: &u8| match byte {
        0x80 => "empty".to_owned(),
        0xfe => "deleted".to_owned(),
        h2 => format!("H2 {h2:02x}"),
    };
    match control.iter().all(|byte| *byte == 0x80) {
        true => "all empty".to_owned(),
        false => control.iter().map(word).collect::<Vec<_>>().join(", "),
    }
}

/// A length of the control line.
fn length(field: u64) -> String {
    match (field & 0x8000 != 0, field & 0x7fff) {
        (true, 0) => "spilled".to_owned(),
        (true, length) => format!("spilled+{length}"),
        (false, length) => length.to_string(),
    }
}

fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}
