//! How a command ends, and what the process tells its caller.
//!
//! A command returns an [`Outcome`]: an [`Answer`] or a [`Failure`]. Only
//! [`status`] turns it into an exit status and prints the failure, so every
//! message has one form: `swissdb: what went wrong`, on standard error.

use std::fmt;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use crate::colour::Colour;
use crate::interrupt;

/// What running a command leads to.
pub type Outcome = Result<Answer, Failure>;

/// The answer of a command that could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Done, found, undamaged: exit status 0.
    Yes,
    /// Not there, or damage was found: exit status 1.
    No,
}

/// Why a command could not do its work.
#[derive(Debug)]
pub enum Failure {
    /// The library said so.
    Store(swissdb::Error),
    /// The tool says so: a whole sentence without its full stop.
    Sentence(String),
    /// Somebody pressed Ctrl-C; the sentence says how things are left.
    Interrupted(&'static str),
    /// Whoever read the output has seen enough: no error at all. It says nothing
    /// against what was found before, see [`answer`].
    ClosedPipe,
}

impl Failure {
    /// What a failed write to standard output means.
    pub fn output(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
            _ => Failure::Sentence(format!("could not write to standard output: {error}")),
        }
    }
}

impl From<swissdb::Error> for Failure {
    fn from(error: swissdb::Error) -> Failure {
        Failure::Store(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Store(error) => error.fmt(f),
            Failure::Sentence(text) => f.write_str(text),
            Failure::Interrupted(left) => write!(f, "interrupted; {left}"),
            Failure::ClosedPipe => f.write_str("the output was closed"),
        }
    }
}

/// The answer of a command that looks for damage, when what it found has been
/// shown, as far as somebody wanted to read it.
pub fn answer(is_undamaged: bool, shown: Result<(), Failure>) -> Outcome {
    match shown {
        Ok(()) | Err(Failure::ClosedPipe) if is_undamaged => Ok(Answer::Yes),
        Ok(()) | Err(Failure::ClosedPipe) => Ok(Answer::No),
        Err(failure) => Err(failure),
    }
}

/// Tells people something that is not data. A closed standard error is no
/// reason to stop.
pub fn note(text: impl fmt::Display) {
    use io::Write;
    let _ = writeln!(io::stderr(), "swissdb: {text}");
}

/// Passes an entry on, and tells of damage in its place.
pub fn undamaged<T>(entry: swissdb::Result<T>) -> Result<Option<T>, Failure> {
    match entry {
        Ok(entry) => Ok(Some(entry)),
        Err(error @ swissdb::Error::Corrupt(_)) => {
            note(error);
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Prints a failure and chooses the exit status.
pub fn status(outcome: Outcome, colour: Colour) -> ExitCode {
    match outcome {
        Ok(Answer::Yes) | Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Err(failure) => {
            use io::Write;
            let name = colour.bad("swissdb:", io::stderr().is_terminal());
            let _ = writeln!(io::stderr(), "{name} {failure}");
            ExitCode::from(match failure {
                Failure::Interrupted(_) => interrupt::STATUS,
                _ => 2,
            })
        }
    }
}
