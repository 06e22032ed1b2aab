//! Rust sources as the rules see them: code apart from comments and strings.
//!
//! [`Source::parse`] is a small lexer. It knows comments (nested ones too),
//! strings of every kind, and the difference between a lifetime and a
//! character. It makes two texts of the same length and the same lines: `code`
//! with comments and the insides of strings blanked out, and `comments` with
//! everything else blanked out. So a rule can look for a word in the one
//! without finding it in the other.

use std::fs;
use std::path::Path;

/// A source file.
pub struct Source {
    /// Its path from the root of the repository, with `/`.
    pub path: String,
    /// All of it.
    pub text: String,
    /// Without comments and without what stands in strings.
    pub code: String,
    /// Comments only.
    pub comments: String,
}

impl Source {
    /// Takes a text apart.
    pub fn parse(path: &str, text: &str) -> Source {
        let bytes = text.as_bytes();
        let mut kinds = vec![Kind::Code; bytes.len()];
        let mut i = 0;
        while i < bytes.len() {
            let (kind, end) = next(bytes, i);
            // The quotes of a string count as code.
            let hem = usize::from(kind == Kind::String && end - i >= 2);
            kinds[i + hem..end - hem].fill(kind);
            i = end;
        }
        let only = |wanted: Kind| {
            let pick = |(byte, kind): (&u8, &Kind)| match (*byte, *kind == wanted) {
                (b'\n', _) => b'\n',
                (byte, true) => byte,
                _ => b' ',
            };
            let picked: Vec<u8> = bytes.iter().zip(&kinds).map(pick).collect();
            String::from_utf8_lossy(&picked).into_owned()
        };
        Source {
            path: path.to_owned(),
            text: text.to_owned(),
            code: only(Kind::Code),
            comments: only(Kind::Comment),
        }
    }

    /// The line, from 1 on, in which an offset of the code lies.
    pub fn line(&self, offset: usize) -> usize {
        1 + self.code.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count()
    }

    /// The offsets in the code at which a word stands.
    pub fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        words(&self.code, word)
    }

    /// The offset of the brace that closes the one at `open`.
    pub fn closing(&self, open: usize) -> usize {
        let mut depth = 0;
        for (i, byte) in self.code.bytes().enumerate().skip(open) {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => continue,
            }
            if depth == 0 {
                return i;
            }
        }
        self.code.len()
    }

    /// The code without modules that are compiled for tests only.
    pub fn code_without_tests(&self) -> String {
        let mut code = self.code.clone();
        let mut from = 0;
        while let Some(found) = code[from..].find("#[cfg(test)]") {
            let start = from + found;
            let rest = code[start + 12..].trim_start();
            from = start + 12;
            if rest.starts_with("mod ") || rest.starts_with("pub(crate) mod ") {
                let semicolon = code[start..].find(';').map_or(code.len(), |at| start + at);
                let brace = code[start..].find('{').map_or(code.len(), |at| start + at);
                let end = if semicolon < brace { semicolon } else { self.closing(brace) };
                let blank: String =
                    code[start..end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
                if blank.len() == end - start {
                    code.replace_range(start..end, &blank);
                }
                from = end;
            }
        }
        code
    }
}

/// The offsets at which a word stands in a text, not as a part of another.
pub fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Whether a character can be part of an identifier.
pub fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// All Rust sources under the named directories of the repository.
pub fn sources(directories: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for directory in directories {
        collect(root, &root.join(directory), &mut found);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(root: &Path, directory: &Path, found: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if entry.file_name() != "target" {
                collect(root, &path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source is readable text");
            let name = path.strip_prefix(root).expect("the path lies under the root");
            found.push(Source::parse(&name.to_string_lossy().replace('\\', "/"), &text));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    String,
}

/// What begins at `i`, and where it ends.
fn next(bytes: &[u8], i: usize) -> (Kind, usize) {
    let rest = &bytes[i..];
    if rest.starts_with(b"//") {
        let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        return (Kind::Comment, i + length);
    }
    if rest.starts_with(b"/*") {
        return (Kind::Comment, i + block_comment(rest));
    }
    match rest[0] {
        b'"' => (Kind::String, i + string(rest)),
        b'\'' => match character(rest) {
            Some(length) => (Kind::String, i + length),
            None => (Kind::Code, i + 1),
        },
        byte if byte.is_ascii_alphanumeric() || byte == b'_' => {
            let word = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
            match (&rest[..word], raw_string(&rest[word..])) {
                (b"r" | b"br" | b"cr", Some(length)) => (Kind::String, i + word + length),
                _ => (Kind::Code, i + word),
            }
        }
        _ => (Kind::Code, i + 1),
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut i) = (0, 0);
    while i < rest.len() {
        match &rest[i..rest.len().min(i + 2)] {
            b"/*" => (depth, i) = (depth + 1, i + 2),
            b"*/" => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    rest.len()
}

fn string(rest: &[u8]) -> usize {
    let mut i = 1;
    while i < rest.len() {
        match rest[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    rest.len()
}

/// The length of a character literal, or `None` for a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        return rest.iter().skip(3).position(|byte| *byte == b'\'').map(|at| at + 4);
    }
    // The closing quote follows one character, which has up to four bytes.
    let end = rest.iter().skip(2).take(4).position(|byte| *byte == b'\'')? + 2;
    let inside = std::str::from_utf8(&rest[1..end]).ok()?;
    (inside.chars().count() == 1).then_some(end + 1)
}

/// The length of `"…"`, `#"…"#` and so on, after the `r`.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let hashes = rest.iter().take_while(|byte| **byte == b'#').count();
    if rest.get(hashes) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(hashes + 1, b'#');
    let inside = &rest[hashes + 1..];
    let end = inside.windows(close.len()).position(|window| window == close)?;
    Some(hashes + 1 + end + close.len())
}
