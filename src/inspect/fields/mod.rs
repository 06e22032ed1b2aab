//! Bytes, and what they are: the fields of a part, one behind the other.
//!
//! Every part of a store can be shown as a list of [`Field`]s. The fields of a
//! part cover its bytes from the first to the last without a gap, so nothing
//! in a file is passed over in silence; bytes that must be zero are a field
//! that is called `reserved`. Names are those of the tables in format.md.
//!
//! ```text
//! tables    header, root, free map, directory page
//! pages     pages of segments: groups, control lines, slots
//! records   log files: header, activation, records
//! ```
//!
//! What is here is a function of bytes. It reads no file and refuses nothing:
//! a length that leads out of its structure is cut off at the structure's end,
//! and what lies behind is named as it lies there.

pub(super) mod pages;
pub(super) mod records;
pub(super) mod tables;

use crate::format::{u32_at, u64_at};

use super::Damage;

/// The name of bytes that must be zero.
const RESERVED: &str = "reserved";

/// Bytes of a file, and what they are.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("store");
/// swissdb::Db::open(&path)?.close()?;
/// let copy = swissdb::inspect::header(&path, "default")?.remove(0);
/// let fields = copy.fields();
/// assert_eq!((&fields[0].name[..], &fields[0].bytes[..]), ("magic", &b"swissdb\0"[..]));
/// // They follow each other without a gap.
/// assert!(fields.windows(2).all(|pair| pair[1].offset == pair[0].end()));
/// assert_eq!(fields.last().map(|field| field.end()), Some(4096));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Field {
    /// Where it begins, in bytes from the beginning of the file.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Its bytes, or the first 4096 of them.
    pub bytes: Vec<u8>,
    /// The structure that it stands in, as in `group 3: control line`.
    pub within: String,
    /// What format.md calls it; `reserved` for bytes that must be zero.
    pub name: String,
    /// What it says; empty if there is nothing to say.
    pub value: String,
    /// What is wrong with these bytes for themselves: reserved ones that are
    /// not zero, or others that mean nothing.
    pub damage: Option<Damage>,
}

impl Field {
    /// Where it ends in the file, in bytes.
    pub fn end(&self) -> u64 {
        self.offset + self.length
    }

    /// Whether the bytes must be zero.
    pub fn is_reserved(&self) -> bool {
        self.name == RESERVED
    }
}

/// How the bytes of a field are put into words.
#[derive(Clone, Copy)]
enum Show {
    /// A decimal number.
    Number,
    /// A hexadecimal number.
    Hex,
    /// Text, up to the first zero.
    Text,
    /// A number with a meaning of its own.
    Word(fn(u64) -> Option<&'static str>),
    /// Two hexadecimal numbers of eight bytes.
    Pair,
    /// Bytes that must be zero.
    Zero,
}

/// A row of an offset table: length in bytes, name, meaning.
type Row = (usize, &'static str, Show);

/// Reserved bytes, as a row.
const fn zero(length: usize) -> Row {
    (length, RESERVED, Show::Zero)
}

/// Fields in the making: a walk over the bytes of a part, front to back.
struct Fields<'a> {
    bytes: &'a [u8],
    /// Where the bytes begin in the file.
    base: u64,
    at: usize,
    within: String,
    list: Vec<Field>,
}

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8], base: u64, within: &str) -> Fields<'a> {
        Fields { bytes, base, at: 0, within: within.to_owned(), list: Vec::new() }
    }

    /// The next `length` bytes, or as many as there are.
    fn peek(&self, length: usize) -> &'a [u8] {
        &self.bytes[self.at..self.at.saturating_add(length).min(self.bytes.len())]
    }

    /// Makes the next `length` bytes a field, or as many as there are.
    fn take(&mut self, length: usize, name: impl Into<String>, value: impl Into<String>) {
        let bytes = self.peek(length);
        if bytes.is_empty() {
            return;
        }
        self.list.push(Field {
            offset: self.base + self.at as u64,
            length: bytes.len() as u64,
            bytes: bytes.to_vec(),
            within: self.within.clone(),
            name: name.into(),
            value: value.into(),
            damage: None,
        });
        self.at += bytes.len();
    }

    /// The bytes up to `end` are reserved.
    fn reserved(&mut self, end: usize) {
        let (from, length) = (self.at, end.saturating_sub(self.at));
        let wrong = self.peek(length).iter().position(|byte| *byte != 0);
        self.take(length, RESERVED, "");
        if let (Some(at), Some(field)) = (wrong, self.list.last_mut()) {
            let (offset, found) = (field.offset + at as u64, self.bytes[from + at]);
            let text = format!("a reserved byte should be 0, but is {found:02x}");
            field.damage = Some(Damage::new(offset, text));
        }
    }

    /// Says of the last field what is wrong with it.
    fn wrong(&mut self, text: impl Into<String>) {
        if let Some(field) = self.list.last_mut() {
            field.damage = Some(Damage::new(field.offset, text));
        }
    }

    /// The fields of a structure, as its table says.
    fn rows(&mut self, rows: &[Row]) {
        for (length, name, show) in rows {
            let bytes = self.peek(*length);
            match show {
                Show::Zero => self.reserved(self.at + length),
                _ if bytes.len() < *length => self.take(*length, *name, "cut off"),
                _ => self.take(*length, *name, show.words(bytes)),
            }
        }
    }

    fn done(self) -> Vec<Field> {
        self.list
    }
}

impl Show {
    fn words(self, bytes: &[u8]) -> String {
        match self {
            Show::Number => number(bytes).to_string(),
            Show::Hex => format!("{:0width$x}", number(bytes), width = 2 * bytes.len()),
            Show::Text => {
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
                quoted(&bytes[..end])
            }
            Show::Word(word) => match (number(bytes), word(number(bytes))) {
                (number, Some(word)) => format!("{number} ({word})"),
                (number, None) => number.to_string(),
            },
            Show::Pair => format!("{:016x} {:016x}", u64_at(bytes, 0), u64_at(bytes, 8)),
            Show::Zero => String::new(),
        }
    }
}

/// At most eight bytes as an integer, the least significant one first.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Bytes as a text between quotes, cut off where they are long.
fn quoted(bytes: &[u8]) -> String {
    const SHOWN: usize = 80;
    match bytes.get(..SHOWN) {
        Some(start) if bytes.len() > SHOWN => format!("\"{}\"...", start.escape_ascii()),
        _ => format!("\"{}\"", bytes.escape_ascii()),
    }
}

/// The fields of a block that is no part of anything.
pub(super) fn unknown(bytes: &[u8], base: u64) -> Vec<Field> {
    let mut fields = Fields::new(bytes, base, "block");
    match bytes.iter().all(|byte| *byte == 0) {
        true => fields.take(bytes.len(), "zeros", ""),
        false => fields.take(bytes.len(), "no structure that is known", ""),
    }
    fields.done()
}
