//! Colour in messages, for those who want it.
//!
//! Colour says nothing that the words do not say. It is used on terminals
//! only, unless it is asked for, and the variables NO_COLOR and TERM are
//! honoured.

use std::env;

use clap::ValueEnum;

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR is set or TERM is "dumb"
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Colour {
    /// Text that tells of something bad.
    pub fn bad(self, text: &str, is_terminal: bool) -> String {
        self.paint("\x1b[1;31m", text, is_terminal)
    }

    /// Text that tells of something good.
    pub fn good(self, text: &str, is_terminal: bool) -> String {
        self.paint("\x1b[32m", text, is_terminal)
    }

    /// Text in a colour that a control sequence of terminals chooses.
    pub fn paint(self, code: &str, text: &str, is_terminal: bool) -> String {
        let wanted = match self {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => {
                let forbidden = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                let dumb = env::var_os("TERM").is_some_and(|value| value == "dumb");
                is_terminal && !forbidden && !dumb
            }
        };
        if wanted { format!("{code}{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_can_be_demanded_and_forbidden() {
        assert_eq!(Colour::Always.bad("x", false), "\x1b[1;31mx\x1b[0m");
        assert_eq!(Colour::Never.bad("x", true), "x");
        assert_eq!(Colour::Auto.good("x", false), "x");
    }
}
