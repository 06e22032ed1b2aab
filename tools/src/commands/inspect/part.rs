//! Which part of a store is meant: the words behind `inspect DB`.

use clap::ValueEnum;

use crate::entry;
use crate::opening::DEFAULT_TABLE;
use crate::outcome::Failure;

/// What a part is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    Header,
    Directory,
    Segment,
    Group,
    Block,
    Key,
    Log,
}

/// A part of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Header,
    Directory,
    Segment(u64),
    /// The segment, and the group in it.
    Group(u64, usize),
    Block(u64),
    Key(Vec<u8>),
    /// All files, or one.
    Log(Option<u32>),
}

impl Part {
    /// The part of that name, and which one of them.
    pub fn parse(name: Name, which: Option<&str>, key_b64: bool) -> Result<Part, Failure> {
        if key_b64 && name != Name::Key {
            return sentence("--key-b64 makes sense for a key only: `inspect DB key KEY`");
        }
        match (name, which) {
            (Name::Header, None) => Ok(Part::Header),
            (Name::Directory, None) => Ok(Part::Directory),
            (Name::Header | Name::Directory, Some(which)) => sentence(format!(
                "a number ({which}) makes sense for a segment, a group, a block or the log only; \
                 leave it out"
            )),
            (Name::Segment, None) => sentence(
                "the number of the segment is missing, as in `inspect DB segment 0`; \
                 `inspect DB directory` shows them all",
            ),
            (Name::Segment, Some(which)) => Ok(Part::Segment(number("a segment", which)?)),
            (Name::Group, which) => group(which),
            (Name::Block, None) => sentence(
                "the number of the block is missing, as in `inspect DB block 2`; they are counted \
                 from 0",
            ),
            (Name::Block, Some(which)) => Ok(Part::Block(number("a block", which)?)),
            (Name::Key, None) => sentence("the key is missing, as in `inspect DB key KEY`"),
            (Name::Key, Some(key)) => Ok(Part::Key(entry::key_bytes(key, key_b64)?)),
            (Name::Log, None) => Ok(Part::Log(None)),
            // A name is as good as a number, also with its directory.
            (Name::Log, Some(which)) => {
                let base = which.strip_prefix("log/").unwrap_or(which);
                let digits = base.strip_suffix(".log").unwrap_or(base);
                match digits.parse() {
                    Ok(number) => Ok(Part::Log(Some(number))),
                    Err(_) => sentence(format!(
                        "{which:?} is no log file; write its number, as in `inspect DB log 1`"
                    )),
                }
            }
        }
    }
}

/// Refuses a table where the log is meant, which is that of all tables.
pub fn check_no_table(table: &str) -> Result<(), Failure> {
    if table != DEFAULT_TABLE {
        return sentence(format!(
            "--table {table} makes no sense for the log, which all tables share; leave it out"
        ));
    }
    Ok(())
}

fn group(which: Option<&str>) -> Result<Part, Failure> {
    let form = "write the segment and the group in it, as in `inspect DB group 3/0`";
    let Some(which) = which else {
        return sentence(format!("the number of the group is missing; {form}"));
    };
    match which.split_once('/').map(|(segment, group)| (segment.parse(), group.parse())) {
        Some((Ok(segment), Ok(group))) => Ok(Part::Group(segment, group)),
        _ => sentence(format!("{which:?} is no group; {form}")),
    }
}

fn number(what: &str, text: &str) -> Result<u64, Failure> {
    let wrong = |_| Failure::Sentence(format!("{text:?} is not the number of {what}"));
    text.parse().map_err(wrong)
}

fn sentence<T>(text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Sentence(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_named_as_its_help_says() {
        for (name, which, part) in [
            (Name::Header, None, Part::Header),
            (Name::Segment, Some("7"), Part::Segment(7)),
            (Name::Group, Some("7/31"), Part::Group(7, 31)),
            (Name::Block, Some("0"), Part::Block(0)),
            (Name::Key, Some(""), Part::Key(Vec::new())),
            (Name::Log, None, Part::Log(None)),
            (Name::Log, Some("1"), Part::Log(Some(1))),
            (Name::Log, Some("00000012.log"), Part::Log(Some(12))),
            (Name::Log, Some("log/00000012.log"), Part::Log(Some(12))),
        ] {
            assert_eq!(Part::parse(name, which, false).unwrap(), part);
        }
        assert_eq!(Part::parse(Name::Key, Some("AP8="), true).unwrap(), Part::Key(vec![0, 255]));
    }

    #[test]
    fn what_names_no_part_is_refused_with_what_to_write() {
        for (name, which, text) in [
            (Name::Header, Some("1"), "leave it out"),
            (Name::Segment, None, "as in `inspect DB segment 0`"),
            (Name::Segment, Some("-1"), "not the number of a segment"),
            (Name::Group, None, "as in `inspect DB group 3/0`"),
            (Name::Group, Some("3"), "as in `inspect DB group 3/0`"),
            (Name::Group, Some("3/"), "as in `inspect DB group 3/0`"),
            (Name::Block, None, "as in `inspect DB block 2`"),
            (Name::Block, Some("all"), "not the number of a block"),
            (Name::Key, None, "as in `inspect DB key KEY`"),
            (Name::Log, Some("first"), "as in `inspect DB log 1`"),
            (Name::Log, Some("4294967296"), "is no log file"),
        ] {
            let failure = Part::parse(name, which, false).unwrap_err().to_string();
            assert!(failure.contains(text), "{failure}");
        }
        assert!(Part::parse(Name::Block, Some("1"), true).is_err());
    }
}
