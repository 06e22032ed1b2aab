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
//! # A file whose first block is destroyed
//!
//! Its salt is gone, with which the checksums of its records begin. But a
//! checksum is a linear function of what it begins with, so each record can be
//! asked with which salt its checksum would hold. One record has always an
//! answer; if two have the same one, it is the salt.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::format::group::Address;
use crate::format::record::{
    Activation, LOG_START, LogFileHeader, OP_HEADER, Op, Ops, RECORD_ALIGN, RECORD_HEADER,
    RecordHeader, log_file_name, padded, parse_log_file_name, seed,
};
use crate::format::{BLOCK, crc32};
use crate::storage::{Access, File, Storage};
use crate::{MAX_KEY_LENGTH, MAX_VALUE_LENGTH};

use crate::error::{Error, Result};

/// How many records are asked for their salt.
const WITNESSES: usize = 64;

/// A file of the log.
struct LogFile {
    number: u32,
    file: Arc<dyn File>,
    length: u64,
    /// Not known if the first block is destroyed.
    salt: Option<u32>,
    activation: Option<Activation>,
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
            logs.find_records(index, &mut bound);
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

    /// Whether there are no files of the log at all.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether a file is there.
    pub(super) fn has(&self, number: u32) -> bool {
        self.files.iter().any(|file| file.number == number)
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
        let salt = header.map(|header| header.salt);
        let activation = salt.and_then(|salt| Activation::decode(&block, salt));
        if salt.is_some() && activation.is_none() {
            // Prepared, and not part of the log yet.
            return Ok(());
        }
        self.heads_damaged += u64::from(salt.is_none());
        self.files.push(LogFile { number, file, length, salt, activation });
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
        if self.files[index].salt.is_none() {
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
        // Without anything to hold them against, they may be of an earlier life.
        let sure = self.files[index].activation.is_some() || before.is_some();
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

    /// Shows the operations of a stretch, each with the number of its record.
    /// Returns how many records could not be decoded.
    ///
    /// # Errors
    ///
    /// Those of `visit`.
    pub(super) fn visit(
        &mut self,
        stretch: Stretch,
        visit: &mut dyn FnMut(u64, &Op<'_>) -> Result<()>,
    ) -> Result<u64> {
        let bytes = self.load(stretch.file);
        let (mut at, mut undecoded) = (stretch.from, 0);
        while let Some(head) = bytes[at..stretch.to.min(bytes.len())].first_chunk() {
            let header = RecordHeader::decode(head);
            let end = at + (header.length as usize).max(RECORD_HEADER);
            for op in Ops::new(bytes.get(at + RECORD_HEADER..end).unwrap_or_default()) {
                match op {
                    Ok((op, _)) => visit(header.commit, &op)?,
                    Err(_) => undecoded += 1,
                }
            }
            at += padded((end - at) as u64) as usize;
        }
        self.loaded = Some((stretch.file, bytes));
        Ok(undecoded)
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

/// A search for records in the bytes of a file.
struct Search<'a> {
    bytes: &'a [u8],
    /// The checksums of the first so many blocks: with them that of any range
    /// costs a block, however long it is, so that values full of forged headers
    /// cannot make the search take for ever.
    sums: std::cell::OnceCell<Vec<u32>>,
}

impl<'a> Search<'a> {
    fn new(bytes: &'a [u8]) -> Search<'a> {
        Search { bytes, sums: std::cell::OnceCell::new() }
    }

    /// The first record at or behind a place, numbered above `last` and at most
    /// `bound`.
    fn next(&self, at: usize, salt: u32, last: u64, bound: u64) -> Option<(usize, RecordHeader)> {
        let rest = self.bytes.get(at..)?;
        if let Some(header) = RecordHeader::checked(rest, salt, at as u32)
            && header.commit > last
        {
            return (header.commit <= bound).then_some((at, header));
        }
        (at..self.bytes.len()).step_by(RECORD_ALIGN).find_map(|at| {
            let header = self.candidate(at, last, bound)?;
            let sum = self.sum(at + 4, at + header.length as usize, seed(salt, at as u32));
            (sum == header.crc).then_some((at, header))
        })
    }

    /// What may be the header of a record.
    fn candidate(&self, at: usize, last: u64, bound: u64) -> Option<RecordHeader> {
        let rest = &self.bytes[at..];
        let header = RecordHeader::decode(rest.first_chunk()?);
        let length = header.length as usize;
        let possible = (RECORD_HEADER..=rest.len()).contains(&length)
            && header.commit > last
            && header.commit <= bound
            && header.durable < header.commit;
        if !possible || length == RECORD_HEADER {
            return possible.then_some(header);
        }
        let op = rest.get(RECORD_HEADER..RECORD_HEADER + OP_HEADER)?;
        ((1..=5).contains(&op[0]) && op[1] == 0 && op[6] == 0 && op[7] == 0).then_some(header)
    }

    /// The salt on which two records agree that follow each other.
    fn salt(&self, last: u64, bound: u64) -> Option<u32> {
        let mut votes: BTreeMap<u32, u64> = BTreeMap::new();
        let mut at = (LOG_START as usize).min(self.bytes.len());
        let mut asked = 0;
        while at < self.bytes.len() && asked < WITNESSES {
            let Some(header) = self.candidate(at, last, bound) else {
                at += RECORD_ALIGN;
                continue;
            };
            asked += 1;
            let salt = self.begun_with(at, &header) ^ at as u32;
            let before = votes.insert(salt, header.commit);
            if salt != 0 && before.is_some_and(|commit| commit < header.commit) {
                return Some(salt);
            }
            // Inside of it there may be anything; behind it is the next one, or
            // this is none and the search goes on where it was.
            let behind = at + padded(header.length.into()) as usize;
            let next = self.bytes.get(behind..).and_then(|_| self.candidate(behind, last, bound));
            let follows = next.is_some_and(|next| next.commit == header.commit + 1);
            at = if follows { behind } else { at + RECORD_ALIGN };
        }
        None
    }

    /// What the checksum of a record began with: zeros shift what it began
    /// with, linearly and reversibly, and the bytes add what they are.
    fn begun_with(&self, at: usize, header: &RecordHeader) -> u32 {
        let (from, to) = (at + 4, at + header.length as usize);
        let target = header.crc ^ self.sum(from, to, 0);
        let length = (to - from) as u64;
        let zero = shifted(0, length);
        // Gauss: which bits of the beginning make which bits of the end.
        let mut rows: Vec<(u32, u32)> =
            (0..32).map(|bit| (shifted(1 << bit, length) ^ zero, 1 << bit)).collect();
        let (mut left, mut begun) = (target, 0);
        for bit in (0..32).rev() {
            let Some(index) = rows.iter().position(|(image, _)| image >> bit == 1) else {
                continue;
            };
            let (image, source) = rows.swap_remove(index);
            for row in rows.iter_mut().filter(|(other, _)| other >> bit & 1 == 1) {
                *row = (row.0 ^ image, row.1 ^ source);
            }
            if left >> bit & 1 == 1 {
                (left, begun) = (left ^ image, begun ^ source);
            }
        }
        begun
    }

    /// The checksum of a range, begun with `initial`.
    fn sum(&self, from: usize, to: usize, initial: u32) -> u32 {
        shifted(self.beginning(from) ^ initial, (to - from) as u64) ^ self.beginning(to)
    }

    /// The checksum of the first `end` bytes.
    fn beginning(&self, end: usize) -> u32 {
        let sums = self.sums.get_or_init(|| {
            let mut sums = vec![0];
            for block in self.bytes.chunks(BLOCK) {
                sums.push(crc32(block, sums[sums.len() - 1]));
            }
            sums
        });
        crc32(&self.bytes[end / BLOCK * BLOCK..end], sums[end / BLOCK])
    }
}

/// What so many zeros, whose own part is left out, make of a checksum.
fn shifted(sum: u32, length: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(sum);
    hasher.combine(&crc32fast::Hasher::new_with_initial_len(0, length));
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record::OpKind;

    #[test]
    fn two_records_give_the_salt_away() {
        let salt = 0x1234_5678;
        let mut bytes = vec![0u8; 8192];
        let mut at = LOG_START as usize;
        for (commit, length) in [(7u64, 100usize), (8, 61)] {
            let op = Op { kind: OpKind::Insert, table: 0, key: &[1; 5], value: &vec![9; length] };
            let total = RECORD_HEADER + op.encoded_len() as usize;
            let header = RecordHeader { crc: 0, length: total as u32, commit, durable: 0 };
            let record = [&header.encode()[..], &op.encode_header(), op.key, op.value].concat();
            bytes[at..at + total].copy_from_slice(&record);
            let crc = crc32(&bytes[at + 4..at + total], seed(salt, at as u32));
            bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
            at += padded(total as u64) as usize;
        }
        assert_eq!(Search::new(&bytes).salt(0, u64::MAX), Some(salt));
        assert_eq!(Search::new(&bytes).salt(7, u64::MAX), None, "one record alone says nothing");
    }
}
