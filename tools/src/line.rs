//! JSON Lines: one entry, one line.
//!
//! A line is an object with a key and a value:
//!
//! ```text
//! {"key": "bash", "value": "Package: bash\n..."}
//! {"key_b64": "AAH/", "value": "a key that is not UTF-8"}
//! ```
//!
//! Where the bytes are UTF-8 they stand as text under `key` and `value`, else
//! in base64 (the standard alphabet with padding) under `key_b64` and
//! `value_b64`. Texts over [`LONG`] bytes are written in base64 too, because
//! escapes can make a text six times as long and a line has at most
//! [`MAX_LINE`] bytes. So every line that is written can be read back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::error::Category;
use swissdb::{Error, MAX_KEY_LENGTH, MAX_VALUE_LENGTH};

use crate::outcome::Failure;
use crate::output::Output;

/// The longest line that is read, in bytes.
pub const MAX_LINE: u64 = 2 << 30;

/// Why a line of another kind is no entry.
pub const NO_OBJECT: &str =
    r#"it does not begin with {; a line is an object as in {"key": "..", "value": ".."}"#;

/// The longest text that is written as text, in bytes.
const LONG: usize = 256 << 20;

/// An entry read from a line.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key's bytes.
    pub key: Vec<u8>,
    /// The value's bytes.
    pub value: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    key: Option<String>,
    key_b64: Option<String>,
    value: Option<String>,
    value_b64: Option<String>,
}

/// Reads a line, with or without its line end. The error is the reason why it
/// is not an entry, as in "it has no value".
pub fn decode(line: &[u8]) -> Result<Entry, String> {
    let text = std::str::from_utf8(line)
        .map_err(|error| format!("it is not UTF-8 text (byte {})", error.valid_up_to() + 1))?;
    // Structures are read from arrays as well, which nobody means here.
    if !text.trim_start().starts_with('{') {
        return Err(NO_OBJECT.to_owned());
    }
    let fields: Fields = serde_json::from_str(text.trim_end()).map_err(reason)?;
    let key = bytes("key", fields.key, fields.key_b64)?;
    let value = bytes("value", fields.value, fields.value_b64)?;
    check_lengths(&key, &value).map_err(|error| error.to_string())?;
    Ok(Entry { key, value })
}

/// Refuses an entry that is too long for any store, before one is opened or created
/// for it.
pub fn check_lengths(key: &[u8], value: &[u8]) -> Result<(), Error> {
    if key.len() > MAX_KEY_LENGTH {
        return Err(Error::KeyTooLong { length: key.len() });
    }
    if value.len() > MAX_VALUE_LENGTH {
        return Err(Error::ValueTooLong { length: value.len() });
    }
    Ok(())
}

fn bytes(name: &str, text: Option<String>, base64: Option<String>) -> Result<Vec<u8>, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(base64)) => STANDARD
            .decode(&base64)
            .map_err(|error| format!("its {name}_b64 is not base64: {error}")),
        (None, None) => Err(format!("it has no {name}")),
        (Some(_), Some(_)) => Err(format!("it has both {name} and {name}_b64")),
    }
}

/// What the parser says, without the line number that it always takes for 1,
/// and what to do where that is known.
fn reason(error: serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let cause = text.strip_suffix(&place).unwrap_or(&text);
    let (cause, advice) = match error.classify() {
        Category::Eof => ("it ends too early", "; write the whole object in one line"),
        _ if cause.starts_with("invalid type") => (cause, "; keys and values are texts in quotes"),
        _ if cause == "trailing characters" => (cause, "; give each entry a line of its own"),
        _ => (cause, ""),
    };
    format!("{cause} (column {}){advice}", error.column())
}

/// Writes an entry as a line.
pub fn write(output: &mut Output, key: &[u8], value: Option<&[u8]>) -> Result<(), Failure> {
    output.bytes(&encode(key, value))
}

fn encode(key: &[u8], value: Option<&[u8]>) -> Vec<u8> {
    let mut line = Vec::with_capacity(key.len() + value.map_or(0, <[u8]>::len) + 64);
    line.push(b'{');
    field(&mut line, "key", key);
    if let Some(value) = value {
        line.extend_from_slice(b", ");
        field(&mut line, "value", value);
    }
    line.extend_from_slice(b"}\n");
    line
}

/// A name and a value for bytes in a JSON document: text where they are text,
/// else base64 under a name that says so.
pub fn text_or_base64(name: &str, bytes: &[u8]) -> (String, String) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (name.to_owned(), text.to_owned()),
        Err(_) => (format!("{name}_b64"), STANDARD.encode(bytes)),
    }
}

fn field(line: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.len() <= LONG => {
            line.extend_from_slice(format!("\"{name}\": ").as_bytes());
            serde_json::to_writer(line, text).expect("writing text into memory does not fail");
        }
        _ => {
            let text = STANDARD.encode(bytes);
            line.extend_from_slice(format!("\"{name}_b64\": \"{text}\"").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &[u8], value: &[u8]) -> Entry {
        Entry { key: key.to_vec(), value: value.to_vec() }
    }

    #[test]
    fn lines_are_read_as_entries() {
        for (line, expected) in [
            (r#"{"key": "a", "value": "b"}"#, entry(b"a", b"b")),
            (r#"{"value":"b","key":"a"}"#, entry(b"a", b"b")),
            (r#"  {"key": "", "value": ""}  "#, entry(b"", b"")),
            ("{\"key\": \"a\", \"value\": \"\\u00fc\\n\"}\r\n", entry(b"a", b"\xc3\xbc\n")),
            (r#"{"key_b64": "AP8=", "value_b64": ""}"#, entry(b"\x00\xff", b"")),
        ] {
            assert_eq!(decode(line.as_bytes()), Ok(expected), "{line}");
        }
    }

    #[test]
    fn a_line_that_is_no_entry_is_refused_with_the_reason() {
        for (line, reason) in [
            ("", "it does not begin with {"),
            ("nonsense", "it does not begin with {; a line is an object"),
            (r#"["a", null, "b", null]"#, "it does not begin with {"),
            (r#"[{"key": "a", "value": "b"}]"#, "it does not begin with {"),
            (
                "{\"key\": \"a\", \"value\": \"b\n",
                "it ends too early (column 24); write the whole object in one line",
            ),
            ("{\n", "it ends too early (column 1); write the whole"),
            (r#"{"key": "a"}"#, "it has no value"),
            (r#"{"value": "a"}"#, "it has no key"),
            (r#"{"key": "a", "key_b64": "", "value": ""}"#, "it has both key and key_b64"),
            (
                r#"{"key": "a", "value": 3}"#,
                "invalid type: integer `3`, expected a string (column 23); keys and values are texts",
            ),
            (r#"{"key": "a", "valeu": "b"}"#, "unknown field `valeu`"),
            (r#"{"key": "a", "key": "b", "value": ""}"#, "duplicate field `key`"),
            (r#"{"key_b64": "A", "value": "b"}"#, "its key_b64 is not base64"),
            (r#"{"key": "a", "value": "b"} x"#, "trailing characters (column 28); give each"),
            (r#"{"key": "\ud800", "value": "b"}"#, "hex escape"),
        ] {
            let found = decode(line.as_bytes()).unwrap_err();
            assert!(found.contains(reason), "{line}: {found}");
        }
        assert_eq!(decode(b"{\"key\": \"\xff\"}").unwrap_err(), "it is not UTF-8 text (byte 10)");
    }

    #[test]
    fn keys_that_are_too_long_are_refused_before_they_reach_the_store() {
        let line = format!(r#"{{"key": "{}", "value": ""}}"#, "k".repeat(32_768));
        assert!(decode(line.as_bytes()).unwrap_err().contains("32768 bytes"));
    }

    #[test]
    fn every_entry_survives_writing_and_reading() {
        for bytes in [&b""[..], b"text", b"\x00\n\"\\", b"\xff\x00", "ü\u{2028}".as_bytes()] {
            let line = encode(bytes, Some(bytes));
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(decode(&line), Ok(entry(bytes, bytes)));
        }
        assert_eq!(encode(b"a", Some(b"\xff")), b"{\"key\": \"a\", \"value_b64\": \"/w==\"}\n");
        assert_eq!(encode(b"a", None), b"{\"key\": \"a\"}\n");
    }
}
