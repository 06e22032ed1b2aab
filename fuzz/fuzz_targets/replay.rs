//! Logs that the input has written, behind the checkpoint of a real store.
//!
//! First byte: commit numbers are made right (1), for writing (2), the log goes
//! on in one more file (4), records are built of operations (8) instead of taken
//! as they are, all records of the last file are replaced (16). Checksums are
//! always made right: without that hardly anything comes farther than the first
//! record.

#![no_main]

use libfuzzer_sys::fuzz_target;
use swissdb_fuzz::bases::base;
use swissdb_fuzz::check::check;
use swissdb_fuzz::image::{BLOCK, Image, log_name, records, seal_log};
use swissdb_fuzz::input::Input;

/// The base that was killed, and the log file in which it ends.
const KILLED: u8 = 1;
const LAST: u32 = 2;
/// Records that are built at most, and operations of one.
const RECORDS: usize = 64;
const OPERATIONS: u8 = 8;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let how = input.u8();
    let base = base(KILLED);
    let mut image = base.image.clone();
    let log = image.files.get_mut(&log_name(LAST)).expect("the last log file");
    let (mut start, mut commit) = (BLOCK, u64_at(log, 528));
    if how & 16 == 0 {
        for (at, length) in records(log) {
            (start, commit) = ((at + length).next_multiple_of(8), u64_at(log, at + 8));
        }
    }
    let first = match how & 4 {
        0 => input.0.len(),
        _ => input.0.len() / 2,
    };
    let mut first = Input(input.take(first));
    let (end, commit) = write(log, start, commit, how, &mut first);
    if how & 4 != 0 {
        go_on(&mut image, end, commit, how, &mut input);
    }
    let memory = image.to_memory(&base.memory, &base.image).expect("memory for a copy");
    check(&memory, how & 2 != 0);
});

/// Writes the input as records from an offset on. Returns where they end, and
/// the last commit.
fn write(
    log: &mut [u8],
    start: usize,
    before: u64,
    how: u8,
    input: &mut Input<'_>,
) -> (usize, u64) {
    log[start..].fill(0);
    match how & 8 {
        0 => {
            let raw = input.take(log.len() - start);
            log[start..start + raw.len()].copy_from_slice(raw);
        }
        _ => build(log, start, before, input),
    }
    let (mut end, mut commit) = (start, before);
    for (at, length) in records(log).into_iter().filter(|(at, _)| *at >= start) {
        if how & 1 != 0 {
            log[at + 8..at + 16].copy_from_slice(&(commit + 1).to_le_bytes());
        }
        commit = u64_at(log, at + 8);
        end = (at + length).next_multiple_of(8);
    }
    seal_log(log);
    (end, commit)
}

/// Builds records of operations.
fn build(log: &mut [u8], start: usize, before: u64, input: &mut Input<'_>) {
    let (mut at, mut commit) = (start, before);
    for _ in 0..RECORDS {
        if !input.more() {
            return;
        }
        let mut record = vec![0; 24];
        for _ in 0..input.u8() % OPERATIONS {
            operation(&mut record, input);
        }
        commit = commit.wrapping_add(1);
        let length = record.len() as u32;
        record[4..8].copy_from_slice(&length.to_le_bytes());
        record[8..16].copy_from_slice(&commit.to_le_bytes());
        record[16..24].copy_from_slice(&u64::from(input.u8()).to_le_bytes());
        let Some(place) = log.get_mut(at..at + record.len()) else { return };
        place.copy_from_slice(&record);
        at = (at + record.len()).next_multiple_of(8);
    }
}

/// Adds an operation: mostly one that makes sense.
fn operation(record: &mut Vec<u8>, input: &mut Input<'_>) {
    let kind = [1, 1, 1, 1, 2, 2, 3, 4, 5, 1, 2, input.u8()][usize::from(input.u8()) % 12];
    let table = match input.u8() {
        255 => input.u16(),
        number => u16::from(number % 6),
    };
    let key = match input.u8() {
        choice @ 0..100 => format!("key {choice:02}").into_bytes(),
        choice @ 100..200 => format!("wide {:03}", choice - 100).into_bytes(),
        200..210 => b"other".to_vec(),
        length => input.take(usize::from(length - 210)).to_vec(),
    };
    let length = match input.u8() {
        length @ 0..100 => usize::from(length),
        100..110 => usize::from(input.u16()),
        _ => 16,
    };
    let (key, length) = match kind {
        2 => (key, 0),
        3 => (Vec::new(), 16),
        _ => (key, length),
    };
    record.extend([kind, 0]);
    record.extend(table.to_le_bytes());
    record.extend((key.len() as u16).to_le_bytes());
    record.extend([0; 2]);
    record.extend((length as u32).to_le_bytes());
    record.extend(&key);
    record.resize(record.len() + length, input.u8());
}

/// Adds a log file that goes on where the last one ends.
fn go_on(image: &mut Image, end: usize, commit: u64, how: u8, input: &mut Input<'_>) {
    let next = LAST + 1;
    let mut log = image.files[&log_name(LAST)].clone();
    log[12..16].copy_from_slice(&next.to_le_bytes());
    log[16..20].copy_from_slice(b"salt");
    log[520..524].copy_from_slice(&LAST.to_le_bytes());
    log[524..528].copy_from_slice(&(end as u32).to_le_bytes());
    log[528..536].copy_from_slice(&commit.to_le_bytes());
    log[536..540].copy_from_slice(b"salt");
    write(&mut log, BLOCK, commit, how, input);
    image.files.insert(log_name(next), log);
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
