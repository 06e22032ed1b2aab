//! The fuzzer's bytes, taken from the front as numbers.
//!
//! When they are used up everything is zero; whoever loops asks [`Input::more`].

/// What is left of the input.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Whether anything is left.
    pub fn more(&self) -> bool {
        !self.0.is_empty()
    }

    /// The next bytes, at most `length`.
    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// The next number of so many bytes, at most eight.
    fn number(&mut self, length: usize) -> u64 {
        self.take(length).iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    /// A byte.
    pub fn u8(&mut self) -> u8 {
        self.number(1) as u8
    }

    /// Two bytes as a number.
    pub fn u16(&mut self) -> u16 {
        self.number(2) as u16
    }

    /// Four bytes as a number.
    pub fn u32(&mut self) -> u32 {
        self.number(4) as u32
    }
}
