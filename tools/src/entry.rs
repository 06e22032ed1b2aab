//! How keys and values are given as arguments.
//!
//! A key is UTF-8 text, or, with `--key-b64`, base64: the one way to name a
//! key that is not text. A value is text too, base64 with `--value-b64`, or,
//! where it is left out, all of standard input as it is.

use std::io::{self, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;

use crate::outcome::Failure;

/// A key on the command line.
#[derive(Args)]
pub struct Key {
    /// The key, as text (write `--` before one that begins with a dash)
    #[arg(value_name = "KEY")]
    key: String,

    /// KEY is base64 of the key's bytes
    #[arg(long)]
    key_b64: bool,
}

impl Key {
    /// The bytes of the key.
    pub fn bytes(&self) -> Result<Vec<u8>, Failure> {
        key_bytes(&self.key, self.key_b64)
    }

    /// The key as it was given.
    pub fn text(&self) -> &str {
        &self.key
    }
}

/// A value on the command line.
#[derive(Args)]
pub struct Value {
    /// The value, as text; standard input, as it is, where it is left out
    #[arg(value_name = "VALUE")]
    value: Option<String>,

    /// VALUE is base64 of the value's bytes
    #[arg(long, requires = "value")]
    value_b64: bool,
}

impl Value {
    /// The bytes of the value.
    pub fn bytes(&self) -> Result<Vec<u8>, Failure> {
        match &self.value {
            Some(text) => decode("value", text, self.value_b64),
            None => standard_input(),
        }
    }
}

/// The bytes of a key that is one argument of several kinds.
pub fn key_bytes(text: &str, is_base64: bool) -> Result<Vec<u8>, Failure> {
    decode("key", text, is_base64)
}

fn decode(what: &str, text: &str, is_base64: bool) -> Result<Vec<u8>, Failure> {
    if !is_base64 {
        return Ok(text.as_bytes().to_vec());
    }
    STANDARD.decode(text).map_err(|error| {
        let error = error.to_string();
        let reason = error.trim_end_matches('.');
        Failure::Sentence(format!("the {what} {text:?} is not base64: {reason}"))
    })
}

/// Reads a value, but not much more of it than a store takes.
fn standard_input() -> Result<Vec<u8>, Failure> {
    let mut value = Vec::new();
    io::stdin()
        .lock()
        .take(swissdb::MAX_VALUE_LENGTH as u64 + 1)
        .read_to_end(&mut value)
        .map_err(|error| Failure::Sentence(format!("could not read standard input: {error}")))?;
    if value.len() > swissdb::MAX_VALUE_LENGTH {
        return Err(Failure::Sentence(format!(
            "standard input has more than {} bytes, the most that a value can have",
            swissdb::MAX_VALUE_LENGTH
        )));
    }
    Ok(value)
}
