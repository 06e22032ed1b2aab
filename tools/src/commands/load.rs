//! `swissdb load`: entries from JSON Lines into a store.
//!
//! Lines are collected into batches of [`LINES`] lines or [`BYTES`] bytes,
//! whichever is reached first, and each batch is one commit: after a failure
//! or a kill the store holds a whole number of batches, from the first on. A
//! batch is written only after all of its lines have been read, so a
//! malformed line leaves nothing of its batch behind. Memory use is bounded
//! by one batch and the longest line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use swissdb::{Batch, Db, Durability, Table};

use crate::line::{self, Entry};
use crate::opening::{self, Creation, Store, TableName, Writing};
use crate::outcome::{Answer, Failure, Outcome, note};
use crate::progress::Progress;

/// The most lines of a batch.
const LINES: usize = 1000;

/// The bytes of keys and values after which a batch is full.
const BYTES: usize = 4 << 20;

/// What some editors write before the first line.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// So many bytes of a line are read before a look at its beginning.
const LOOK: u64 = 64 << 10;

/// Loads entries from JSON Lines into a store
///
/// Each line is an object {"key": "..", "value": ".."}; key_b64 and value_b64
/// hold base64 where the bytes are not UTF-8. An entry replaces an older one
/// with the same key. Blank lines are skipped. The store and the table are
/// created where they do not exist, unless the first batch is refused.
///
/// Lines are written in batches of about a thousand, each a commit of its
/// own. At a malformed line the command stops, tells its number, and writes
/// nothing of its batch; the lines of earlier batches stay loaded.
#[derive(Args)]
#[command(after_help = "Examples:
  swissdb load packages.swissdb packages.jsonl
  zcat dump.jsonl.gz | swissdb load --table copy my.swissdb

Exit status: 0 loaded, 2 an error.")]
pub struct Arguments {
    #[command(flatten)]
    store: Store,

    /// The file with the lines; standard input where it is left out or is -
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    table: TableName,

    /// Make each batch durable before the next begins
    ///
    /// Without it batches are made durable in the background, twice a second,
    /// and all of them when the command ends. The price is one wait for the
    /// disk for each batch.
    #[arg(long)]
    sync: bool,

    #[command(flatten)]
    writing: Writing,

    #[command(flatten)]
    creation: Creation,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Outcome {
    // The input first: a mistyped name, or a file of another kind, must not
    // leave an empty store behind.
    let mut input = Input::open(arguments.file.as_deref())?;
    let first = read_batch(&mut input, 0)?;
    let Arguments { store, table, writing, creation, .. } = arguments;
    let durability = if arguments.sync { Durability::Sync } else { Durability::Buffered };
    let options = writing.options().durability(durability);
    let (db, table) = opening::table_to_extend(store, table, options, creation)?;
    let mut progress = Progress::of_bytes(input.length);
    let outcome = transfer(first, &mut input, &db, &table, &mut progress);
    let summary = progress.summary("loaded", &format!("into {}", store.path.display()));
    drop(progress);
    drop(table);
    // Closing also makes durable what was loaded before a failure.
    let closed = db.close();
    outcome?;
    closed?;
    note(summary);
    Ok(Answer::Yes)
}

fn transfer(
    mut batch: Vec<Entry>,
    input: &mut Input,
    db: &Db,
    table: &Table,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let mut loaded = 0;
    while !batch.is_empty() {
        write(db, table, &batch).map_err(|failure| match loaded {
            0 => failure,
            n => {
                Failure::Sentence(format!("{failure}; the lines before line {} are loaded", n + 1))
            }
        })?;
        loaded = input.number;
        progress.advance(batch.len() as u64, input.position);
        batch = read_batch(input, loaded)?;
    }
    Ok(())
}

/// A failure, and how much of the input is in the store in spite of it.
fn kept(failure: &Failure, lines: u64) -> Failure {
    Failure::Sentence(match lines {
        0 => format!("{failure}; nothing was loaded"),
        _ => {
            format!("{failure}; the lines before line {} are loaded, none from there on", lines + 1)
        }
    })
}

/// Reads the entries of the next batch; none at the end of the input. So many
/// lines are loaded already.
fn read_batch(input: &mut Input, loaded: u64) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::with_capacity(LINES);
    let mut bytes = 0;
    while entries.len() < LINES && bytes < BYTES {
        match input.next_entry().map_err(|failure| kept(&failure, loaded))? {
            None => break,
            Some(entry) => {
                bytes += entry.key.len() + entry.value.len();
                entries.push(entry);
            }
        }
    }
    Ok(entries)
}

/// Writes entries as one commit, or as several where the memory for changed
/// pages is too small for one.
fn write(db: &Db, table: &Table, entries: &[Entry]) -> Result<(), Failure> {
    let mut batch = Batch::new();
    for entry in entries {
        batch.insert_into(table, &entry.key, &entry.value)?;
    }
    match db.write(&batch) {
        Err(swissdb::Error::BatchTooLarge { .. }) if entries.len() > 1 => {
            drop(batch);
            let (first, second) = entries.split_at(entries.len() / 2);
            write(db, table, first)?;
            write(db, table, second)
        }
        outcome => Ok(outcome?),
    }
}

/// Lines with their numbers.
struct Input {
    reader: Box<dyn BufRead>,
    /// What to call it in messages.
    name: String,
    /// Its length in bytes, if it has one.
    length: Option<u64>,
    /// Bytes read so far.
    position: u64,
    /// Lines read so far.
    number: u64,
    line: Vec<u8>,
}

impl Input {
    fn open(path: Option<&Path>) -> Result<Input, Failure> {
        let path = path.filter(|path| *path != Path::new("-"));
        let (reader, name, length): (Box<dyn BufRead>, _, _) = match path {
            None => (Box::new(io::stdin().lock()), "standard input".to_owned(), None),
            Some(path) => {
                let name = path.display().to_string();
                let failed = |error: io::Error| unreadable(&name, &error);
                let file = File::open(path).map_err(failed)?;
                let about = file.metadata().map_err(failed)?;
                if about.is_dir() {
                    return Err(unreadable(&name, &"it is a directory"));
                }
                let length = about.is_file().then_some(about.len());
                (Box::new(BufReader::with_capacity(1 << 16, file)), name, length)
            }
        };
        Ok(Input { reader, name, length, position: 0, number: 0, line: Vec::new() })
    }

    /// The entry of the next line that is not blank, or `None` at the end.
    fn next_entry(&mut self) -> Result<Option<Entry>, Failure> {
        while let Some(line) = self.next_line()? {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let entry = line::decode(line);
            return entry.map(Some).map_err(|reason| self.no_entry(&reason));
        }
        Ok(None)
    }

    /// The next line with its line end, or `None` at the end.
    fn next_line(&mut self) -> Result<Option<&[u8]>, Failure> {
        self.line.clear();
        self.number += 1;
        self.read_until(LOOK)?;
        // A file of another kind may have no line ends at all: better to look
        // at the beginning of a long line before all of it is read.
        let first = self.text().trim_ascii_start().first();
        if self.is_cut_off(LOOK) && first.is_some_and(|byte| *byte != b'{') {
            return Err(self.no_entry(line::NO_OBJECT));
        }
        if self.is_cut_off(LOOK) {
            self.read_until(line::MAX_LINE)?;
        }
        if self.is_cut_off(line::MAX_LINE) {
            return Err(self.no_entry(&format!("it has more than {} bytes", line::MAX_LINE)));
        }
        self.position += self.line.len() as u64;
        Ok(if self.line.is_empty() { None } else { Some(self.text()) })
    }

    /// The line, without the mark with which some editors begin a file.
    fn text(&self) -> &[u8] {
        match self.number {
            1 => self.line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&self.line),
            _ => &self.line,
        }
    }

    /// Reads on to the end of the line, or until it has so many bytes.
    fn read_until(&mut self, length: u64) -> Result<(), Failure> {
        let rest = length - self.line.len() as u64;
        match (&mut self.reader).take(rest).read_until(b'\n', &mut self.line) {
            Ok(_) => Ok(()),
            Err(error) => Err(unreadable(&self.name, &error)),
        }
    }

    /// Whether the line was read to this length and goes on behind it.
    fn is_cut_off(&self, length: u64) -> bool {
        self.line.len() as u64 == length && self.line.last() != Some(&b'\n')
    }

    /// The failure that the line just read is not an entry.
    fn no_entry(&self, reason: &str) -> Failure {
        let Input { number, name, .. } = self;
        Failure::Sentence(match packed(&self.line).filter(|_| *number == 1) {
            Some((kind, unpack)) => format!(
                "{name} is packed with {kind}; unpack it into a pipe, as in `{unpack} FILE | \
                 swissdb load DB`"
            ),
            None => format!("line {number} of {name} is no entry: {reason}"),
        })
    }
}

/// What a file that begins so was packed with, and what unpacks it.
fn packed(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let kinds: [(&[u8], _, _); 4] = [
        (b"\x1f\x8b", "gzip", "zcat"),
        (b"\x28\xb5\x2f\xfd", "zstd", "zstdcat"),
        (b"\xfd7zXZ\0", "xz", "xzcat"),
        (b"BZh", "bzip2", "bzcat"),
    ];
    let kind = kinds.into_iter().find(|(mark, _, _)| bytes.starts_with(mark));
    kind.map(|(_, kind, unpack)| (kind, unpack))
}

fn unreadable(name: &str, cause: &dyn std::fmt::Display) -> Failure {
    Failure::Sentence(format!("could not read {name}: {cause}"))
}
