//! Standard output.
//!
//! Output is collected in a buffer and written in large pieces. A command
//! calls [`Output::finish`] at its end; what a failed command had printed
//! before is written when the [`Output`] is dropped.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use crate::outcome::Failure;

/// Standard output in large pieces.
pub struct Output {
    buffer: BufWriter<StdoutLock<'static>>,
}

impl Output {
    /// Standard output, held for this command.
    pub fn new() -> Output {
        Output { buffer: BufWriter::with_capacity(1 << 16, io::stdout().lock()) }
    }

    /// Whether people read it.
    pub fn is_terminal() -> bool {
        io::stdout().is_terminal()
    }

    /// Writes bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.buffer.write_all(bytes).map_err(Failure::output)
    }

    /// Writes a line of text.
    pub fn line(&mut self, text: impl fmt::Display) -> Result<(), Failure> {
        writeln!(self.buffer, "{text}").map_err(Failure::output)
    }

    /// Writes a JSON document, indented, as a report of its own.
    pub fn json(&mut self, document: &serde_json::Value) -> Result<(), Failure> {
        self.line(format_args!("{document:#}"))
    }

    /// Writes out what is still in the buffer.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.buffer.flush().map_err(Failure::output)
    }
}
