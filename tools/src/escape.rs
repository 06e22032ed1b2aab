//! How arbitrary bytes are shown to people.
//!
//! UTF-8 text is shown as it is, except for what could disturb a terminal or
//! be mistaken for something else: control characters and bytes that are not
//! UTF-8 become `\x00`, line ends and tabs `\n`, `\r`, `\t`, and a backslash
//! becomes two. So one entry is one line, and the text can be read back.

use std::fmt;

/// Bytes that show themselves escaped.
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                show(character, f)?;
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

fn show(character: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match character {
        '\n' => f.write_str("\\n"),
        '\r' => f.write_str("\\r"),
        '\t' => f.write_str("\\t"),
        '\\' => f.write_str("\\\\"),
        _ if disturbs(character) => {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                write!(f, "\\x{byte:02x}")?;
            }
            Ok(())
        }
        _ => fmt::Write::write_char(f, character),
    }
}

/// Control characters, and the marks that reorder or end lines.
fn disturbs(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::Escaped;

    #[test]
    fn text_stays_text_and_bytes_are_escaped() {
        for (bytes, shown) in [
            (&b"plain text"[..], "plain text"),
            ("Zürich €".as_bytes(), "Zürich €"),
            (b"\x00\x01\x7f", "\\x00\\x01\\x7f"),
            (b"a\nb\tc\rd", "a\\nb\\tc\\rd"),
            (b"back\\slash", "back\\\\slash"),
            (b"\xff\xfe", "\\xff\\xfe"),
            (b"cut \xe2\x82", "cut \\xe2\\x82"),
            (b"\x1b[31m", "\\x1b[31m"),
            ("\u{9b}".as_bytes(), "\\xc2\\x9b"),
            ("\u{202e}".as_bytes(), "\\xe2\\x80\\xae"),
            (b"", ""),
        ] {
            assert_eq!(Escaped(bytes).to_string(), shown);
        }
    }
}
