//! The search for records in the bytes of a log file.
//!
//! A record is looked for at every multiple of 8. Values may be full of what
//! looks like one, so whatever is cheap to ask is asked before the checksum, and
//! no checksum costs more than some blocks, however long the record says it is.
//!
//! # A file whose first block is destroyed
//!
//! Its salt is gone, with which the checksums of its records begin. But a
//! checksum is a linear function of what it begins with, so each record can be
//! asked with which salt its checksum would hold. One record has always an
//! answer; if two have the same one, it is the salt.

use std::collections::BTreeMap;

use crate::format::record::{
    LOG_START, OP_HEADER, RECORD_ALIGN, RECORD_HEADER, RecordHeader, padded, seed,
};
use crate::format::{BLOCK, crc32};

/// How many records are asked for their salt.
const WITNESSES: usize = 64;

/// So few bytes are summed up faster than their checksum is taken from those of
/// the blocks.
const SHORT: usize = 2 * BLOCK;

/// A search for records in the bytes of a file.
pub(super) struct Search<'a> {
    bytes: &'a [u8],
    /// The checksums of the first so many blocks: with them that of any range
    /// costs a block, however long it is, so that values full of forged headers
    /// cannot make the search take for ever.
    sums: std::cell::OnceCell<Vec<u32>>,
}

impl<'a> Search<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Search<'a> {
        Search { bytes, sums: std::cell::OnceCell::new() }
    }

    /// The first record at or behind a place, numbered above `last` and at most
    /// `bound`.
    pub(super) fn next(
        &self,
        at: usize,
        salt: u32,
        last: u64,
        bound: u64,
    ) -> Option<(usize, RecordHeader)> {
        let rest = self.bytes.get(at..)?;
        let header = RecordHeader::decode(rest.first_chunk()?);
        let possible = (RECORD_HEADER..=rest.len()).contains(&(header.length as usize));
        if possible && header.commit > last && self.holds(at, &header, salt) {
            return (header.commit <= bound).then_some((at, header));
        }
        (at..self.bytes.len()).step_by(RECORD_ALIGN).find_map(|at| {
            let header = self.candidate(at, last, bound)?;
            self.holds(at, &header, salt).then_some((at, header))
        })
    }

    /// Whether the checksum of a record holds that ends within the bytes.
    fn holds(&self, at: usize, header: &RecordHeader, salt: u32) -> bool {
        let (from, to) = (at + 4, at + header.length as usize);
        let seed = seed(salt, at as u32);
        let sum = match to - from {
            0..SHORT => crc32(&self.bytes[from..to], seed),
            _ => self.sum(from, to, seed),
        };
        sum == header.crc
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
    pub(super) fn salt(&self, last: u64, bound: u64) -> Option<u32> {
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
            let follows =
                next.is_some_and(|next| Some(next.commit) == header.commit.checked_add(1));
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
    use std::time::{Duration, Instant};

    use super::*;
    use crate::format::record::{Op, OpKind};

    const SALT: u32 = 0x1234_5678;

    /// Writes a record with a value of so many bytes. Returns where the next one
    /// begins.
    fn put_record(bytes: &mut [u8], at: usize, commit: u64, value: usize) -> usize {
        let op = Op { kind: OpKind::Insert, table: 0, key: &[1; 5], value: &vec![9; value] };
        let total = RECORD_HEADER + op.encoded_len() as usize;
        let header = RecordHeader { crc: 0, length: total as u32, commit, durable: 0 };
        let record = [&header.encode()[..], &op.encode_header(), op.key, op.value].concat();
        bytes[at..at + total].copy_from_slice(&record);
        let crc = crc32(&bytes[at + 4..at + total], seed(SALT, at as u32));
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        at + padded(total as u64) as usize
    }

    #[test]
    fn two_records_give_the_salt_away() {
        let mut bytes = vec![0u8; 8192];
        let at = put_record(&mut bytes, LOG_START as usize, 7, 100);
        put_record(&mut bytes, at, 8, 61);
        assert_eq!(Search::new(&bytes).salt(0, u64::MAX), Some(SALT));
        assert_eq!(Search::new(&bytes).salt(7, u64::MAX), None, "one record alone says nothing");
    }

    #[test]
    fn the_highest_of_all_numbers_is_no_trouble() {
        let mut bytes = vec![0u8; 8192];
        let start = LOG_START as usize;
        let at = put_record(&mut bytes, start, u64::MAX, 100);
        put_record(&mut bytes, at, u64::MAX, 61);
        let search = Search::new(&bytes);
        assert_eq!(search.salt(0, u64::MAX), None, "no record follows the last one");
        let found = search.next(start, SALT, 0, u64::MAX);
        assert_eq!(found.map(|(at, header)| (at, header.commit)), Some((start, u64::MAX)));
        assert_eq!(search.next(at, SALT, u64::MAX, u64::MAX), None);
    }

    #[test]
    fn long_records_are_found_like_short_ones() {
        let mut bytes = vec![0u8; 1 << 20];
        let mut at = LOG_START as usize;
        let mut begin = Vec::new();
        for (commit, value) in (1..).zip([1, 4_000, 8_100, 8_200, 300_000, 12, 70_000]) {
            begin.push((at, commit));
            at = put_record(&mut bytes, at, commit, value);
        }
        let (mut at, mut last) = (LOG_START as usize, 0);
        let mut found = Vec::new();
        let search = Search::new(&bytes);
        while let Some((from, header)) = search.next(at, SALT, last, u64::MAX) {
            found.push((from, header.commit));
            (at, last) = (from + padded(header.length.into()) as usize, header.commit);
        }
        assert_eq!(found, begin);
    }

    #[test]
    fn forged_headers_between_records_do_not_cost_the_whole_file_each() {
        let mut bytes = vec![0u8; 16 << 20];
        let (mut at, mut records) = (LOG_START as usize, 0);
        while at + 4096 < bytes.len() {
            records += 1;
            at = put_record(&mut bytes, at, records, 0);
            let length = (bytes.len() - at) as u32;
            let forged = RecordHeader { crc: 0, length, commit: records + 1, durable: 0 };
            bytes[at..at + RECORD_HEADER].copy_from_slice(&forged.encode());
            bytes[at + RECORD_HEADER] = OpKind::Insert as u8;
            at += RECORD_HEADER + OP_HEADER.next_multiple_of(RECORD_ALIGN);
        }
        let began = Instant::now();
        let (mut at, mut last) = (LOG_START as usize, 0);
        let search = Search::new(&bytes);
        while let Some((from, header)) = search.next(at, SALT, last, u64::MAX) {
            (at, last) = (from + padded(header.length.into()) as usize, header.commit);
            assert!(began.elapsed() < Duration::from_secs(60), "{last} of {records} are found");
        }
        assert_eq!(last, records);
    }
}
