//! What is left of the log.
//!
//! Two things are asked of it: the bytes at an address, which carry their own
//! checksum and need nothing around them; and the records, in the order of
//! their commits.
//!
//! # Records
//!
//! Each file is searched from its first record on, at every multiple of 8 if
//! need be. A record is one if its checksum holds for the file's salt and its
//! place, and its number is higher than those before it. What was skipped
//! between two records is damage. What is skipped behind the last one is not,
//! unless the next file says that the log went on: unwritten bytes, a torn
//! record and what an earlier life of the file left all look alike there, and
//! recovery calls that the end, too.
//!
//! A record is void if a later file begins at or before its number: the log was
//! given up there after a crash, and went on in that file. The same goes for
//! what lies behind an end that a later file states.
//!
//! What was found is read again later, and its checksums are asked again then:
//! a device may deliver a block once and not another time.
//!
//! How they are found, and the salt of a file whose first block is destroyed, is
//! in [`search`](super::search).

use std::io;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::group::Address;
use crate::format::record::{
    ACTIVATION_BYTES, ACTIVATION_OFFSET, Activation, LOG_START, LogFileHeader, MAX_LOG_FILE, Op,
    Ops, RECORD_HEADER, RecordHeader, log_file_name, padded, parse_log_file_name,
};
use crate::format::{BLOCK, crc32};
use crate::storage::{Access, File, Storage};
use crate::{MAX_KEY_LENGTH, MAX_VALUE_LENGTH};

use super::search::Search;

/// A file of the log.
struct LogFile {
    number: u32,
    file: Arc<dyn File>,
    length: u64,
    /// Not known if the first block is destroyed.
    salt: Option<u32>,
    activation: Option<Activation>,
    /// Nothing says that it was ever activated. It holds no records then; but
    /// if something has its address there, that has a checksum of its own.
    values_only: bool,
}

/// Records one behind the other whose numbers have no gap.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    /// The index of its file.
    file: usize,
    from: usize,
    to: usize,
    /// The number of its first record.
    pub(super) first: u64,
    /// The number of its last record.
    pub(super) last: u64,
    /// Whether it is known that what is missing before it was damaged: it lies
    /// in the same file.
    pub(super) behind_damage: bool,
    /// Bytes in front of it that were skipped.
    pub(super) skipped: u64,
}

impl Stretch {
    /// Its length in blocks, for who tells how far it is.
    pub(super) fn blocks(&self) -> u64 {
        (self.to - self.from).div_ceil(BLOCK) as u64
    }
}

/// What could not be shown of a stretch.
#[derive(Default)]
pub(super) struct Unseen {
    /// How many records could not be decoded.
    pub(super) undecoded: u64,
    /// The numbers of the first and the last record that are no longer what they
    /// were when they were found.
    pub(super) lost: Option<(u64, u64)>,
}

impl Unseen {
    /// How many of the records are lost that have this number or a higher one.
    pub(super) fn lost_from(&self, number: u64) -> u64 {
        self.lost.map_or(0, |(first, last)| {
            let first = first.max(number);
            if first > last { 0 } else { (last - first).saturating_add(1) }
        })
    }
}

/// The log of a damaged store.
#[derive(Default)]
pub(super) struct Logs {
    files: Vec<LogFile>,
    /// Files whose first block is destroyed.
    pub(super) heads_damaged: u64,
    /// The records, in the order of their numbers.
    pub(super) stretches: Vec<Stretch>,
    /// Bytes at the ends of files of which it is known that records stood there:
    /// the commits that are missing, from the first to the last, and the bytes.
    pub(super) cut: Vec<(u64, u64, u64)>,
    /// Files that others name as the one before them, and that are not there:
    /// the number of the file, and the last commit in it.
    pub(super) missing: Vec<(u32, u64)>,
    loaded: Option<(usize, Vec<u8>)>,
}

impl Logs {
    /// Opens the files of the log and finds their records.
    ///
    /// # Errors
    ///
    /// `Version` if one was written by a newer program; `Io` if one may not be
    /// read: what it holds is not lost.
    pub(super) fn read(storage: &dyn Storage) -> Result<Logs> {
        let names = unless_refused(storage, "list", "log", storage.list("log"))?;
        let names = names.unwrap_or_default();
        let mut numbers: Vec<u32> = names.iter().filter_map(|n| parse_log_file_name(n)).collect();
        numbers.sort_unstable();
        let mut logs = Logs::default();
        for number in numbers {
            logs.open(storage, number)?;
        }
        logs.find_missing();
        let mut bound = u64::MAX;
        for index in (0..logs.files.len()).rev() {
            if !logs.files[index].values_only {
                logs.find_records(index, &mut bound);
            }
        }
        logs.stretches.reverse();
        let mut last = 0;
        logs.stretches.retain(|stretch| {
            let later = stretch.first > last;
            last = if later { stretch.last } else { last };
            later
        });
        Ok(logs)
    }

    /// Whether there are no files at all that are part of the log.
    pub(super) fn is_empty(&self) -> bool {
        self.files.iter().all(|file| file.values_only)
    }

    /// Whether a file is there and part of the log.
    pub(super) fn has(&self, number: u32) -> bool {
        self.files.iter().any(|file| file.number == number && !file.values_only)
    }

    fn open(&mut self, storage: &dyn Storage, number: u32) -> Result<()> {
        let name = log_file_name(number);
        let opened = storage.open(&name, Access::Read);
        let Some(file) = unless_refused(storage, "open", &name, opened)? else {
            return Ok(());
        };
        let length = file.length().unwrap_or(0);
        let mut block = [0; BLOCK];
        let read = file.read_at(&mut block, 0).is_ok();
        let header = LogFileHeader::decode(&block);
        if let Err(fault) = &header
            && fault.version.is_some()
        {
            return Err(fault.clone().at(storage.path(&name), 0));
        }
        let header = header.ok().filter(|header| read && header.number == number);
        let length = credible(length, header);
        let salt = header.map(|header| header.salt);
        let activation = salt.and_then(|salt| Activation::decode(&block, salt));
        // A file without an activation is prepared, and not part of the log yet; but
        // then there are zeros in its place. Anything else was one and rotted.
        let zeros = block[ACTIVATION_OFFSET..][..ACTIVATION_BYTES].iter().all(|byte| *byte == 0);
        let values_only = salt.is_some() && zeros;
        self.heads_damaged += u64::from(activation.is_none() && !values_only);
        self.files.push(LogFile { number, file, length, salt, activation, values_only });
        Ok(())
    }

    fn find_missing(&mut self) {
        let named = self.files.iter().filter_map(|file| file.activation);
        let named: Vec<_> = named.map(|a| (a.previous, a.last_commit)).collect();
        self.missing = named.into_iter().filter(|(n, _)| *n != 0 && !self.has(*n)).collect();
    }

    /// Where a file ends, if a later one says so.
    fn stated_end(&self, index: usize) -> Option<(u64, u64)> {
        let number = self.files[index].number;
        let later = self.files[index + 1..].iter().rev().filter_map(|file| file.activation);
        let next = later.into_iter().find(|activation| activation.previous == number)?;
        Some((next.previous_end.into(), next.last_commit))
    }

    /// The last commit that is known to lie before a file. What an earlier life
    /// of a file left is older than the file before it.
    fn last_commit_before(&self, index: usize) -> Option<u64> {
        let own = self.files[index].activation;
        let previous = || self.files[..index].iter().rev().find_map(|file| file.activation);
        own.or_else(previous).map(|activation| activation.last_commit)
    }

    /// Finds the records of a file whose numbers are at most `bound`, and
    /// lowers the bound for the files before it.
    fn find_records(&mut self, index: usize, bound: &mut u64) {
        let stated = self.stated_end(index);
        let end = stated.map_or(u64::MAX, |(end, _)| end);
        let bytes = self.load(index);
        let end = (bytes.len() as u64).min(end) as usize;
        let search = Search::new(&bytes[..end]);
        let before = self.last_commit_before(index);
        let told = self.files[index].salt.is_some();
        if !told {
            self.files[index].salt = search.salt(before.unwrap_or(0), *bound);
        }
        let mut found: Vec<Stretch> = Vec::new();
        let mut last = before.unwrap_or(0);
        let mut at = LOG_START as usize;
        let salt = self.files[index].salt;
        while let Some((from, header)) = salt.and_then(|salt| search.next(at, salt, last, *bound)) {
            let to = from + padded(header.length.into()) as usize;
            let behind_damage = !found.is_empty() || from > at;
            match found.last_mut() {
                Some(stretch) if from == at && header.commit == last + 1 => {
                    (stretch.to, stretch.last) = (to, header.commit);
                }
                _ => found.push(Stretch {
                    file: index,
                    from,
                    to,
                    first: header.commit,
                    last: header.commit,
                    behind_damage,
                    skipped: (from - at) as u64,
                }),
            }
            (at, last) = (to, header.commit);
        }
        if let Some((end, commit)) = stated.filter(|(_, commit)| last < *commit) {
            self.cut.push((last + 1, commit, end.saturating_sub(at as u64)));
        }
        // With a salt that was guessed, and nothing to hold them against, they may be
        // of an earlier life.
        let sure = told || before.is_some();
        let first = found.first().filter(|_| sure).map(|stretch| stretch.first - 1);
        let begin = self.files[index].activation.map(|activation| activation.last_commit);
        *bound = [begin, first].into_iter().flatten().fold(*bound, u64::min);
        self.stretches.extend(found.into_iter().rev());
        self.loaded = Some((index, bytes));
    }

    /// The bytes of a file; a block that cannot be read is zero.
    fn load(&mut self, index: usize) -> Vec<u8> {
        if let Some((_, bytes)) = self.loaded.take_if(|(loaded, _)| *loaded == index) {
            return bytes;
        }
        let LogFile { file, length, .. } = &self.files[index];
        let mut bytes = vec![0; *length as usize];
        if file.read_at(&mut bytes, 0).is_err() {
            for (number, block) in bytes.chunks_mut(BLOCK).enumerate() {
                if file.read_at(block, (number * BLOCK) as u64).is_err() {
                    block.fill(0);
                }
            }
        }
        bytes
    }

    /// Shows the operations of a stretch, each with the number of its record, up
    /// to the first record that is no longer there. Returns what was not shown.
    ///
    /// # Errors
    ///
    /// Those of `visit`.
    pub(super) fn visit(
        &mut self,
        stretch: Stretch,
        visit: &mut dyn FnMut(u64, &Op<'_>) -> Result<()>,
    ) -> Result<Unseen> {
        let bytes = self.load(stretch.file);
        let salt = self.files[stretch.file].salt.unwrap_or_default();
        let (mut at, mut due) = (stretch.from, stretch.first);
        let mut unseen = Unseen::default();
        while at < stretch.to {
            let rest = bytes.get(at..).unwrap_or_default();
            let header = RecordHeader::checked(rest, salt, at as u32);
            let Some(header) = header.filter(|header| header.commit == due) else {
                // It is not kept in memory: the next time there may be more of it.
                unseen.lost = Some((due, stretch.last));
                return Ok(unseen);
            };
            for op in Ops::new(&rest[RECORD_HEADER..header.length as usize]) {
                match op {
                    Ok((op, _)) => visit(due, &op)?,
                    Err(_) => unseen.undecoded += 1,
                }
            }
            at += padded(header.length.into()) as usize;
            due = due.saturating_add(1);
        }
        self.loaded = Some((stretch.file, bytes));
        Ok(unseen)
    }

    /// The bytes at an address, if they have its checksum.
    pub(super) fn value(&self, address: &Address) -> Option<Vec<u8>> {
        let file = self.files.iter().find(|file| file.number == address.file)?;
        let (at, length) = (u64::from(address.offset), address.len as usize);
        let possible = at >= LOG_START
            && at + length as u64 <= file.length
            && length <= MAX_KEY_LENGTH + MAX_VALUE_LENGTH;
        if !possible {
            return None;
        }
        let mut bytes = vec![0; length];
        file.file.read_at(&mut bytes, at).ok()?;
        (crc32(&bytes, 0) == address.crc).then_some(bytes)
    }
}

/// How many bytes of a file may be of the log. A sparse file is as long as anybody
/// likes and takes no space; memory for it does.
fn credible(length: u64, header: Option<LogFileHeader>) -> u64 {
    length.min(header.map_or(MAX_LOG_FILE, |header| header.size))
}

/// What was asked for, if it is there. What somebody may not see is neither there
/// nor lost: they are told.
fn unless_refused<T>(
    storage: &dyn Storage,
    doing: &'static str,
    name: &str,
    outcome: io::Result<T>,
) -> Result<Option<T>> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(Error::io(doing, storage.path(name), error))
        }
        outcome => Ok(outcome.ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_of_a_file_is_believed_than_a_log_file_has() {
        let header = LogFileHeader { number: 7, salt: 1, size: 1 << 20 };
        for (length, with_header, without) in
            [(1 << 40, 1 << 20, MAX_LOG_FILE), (8_000, 8_000, 8_000), (0, 0, 0)]
        {
            assert_eq!(credible(length, Some(header)), with_header);
            assert_eq!(credible(length, None), without);
        }
    }

    #[test]
    fn what_is_lost_is_counted_from_the_number_that_is_asked_for() {
        let unseen = Unseen { undecoded: 0, lost: Some((5, 8)) };
        assert_eq!([0, 5, 7, 8, 9].map(|from| unseen.lost_from(from)), [4, 4, 2, 1, 0]);
        assert_eq!(Unseen::default().lost_from(0), 0);
        let all = Unseen { undecoded: 0, lost: Some((0, u64::MAX)) };
        assert_eq!(all.lost_from(0), u64::MAX, "one less than there are");
    }
}
