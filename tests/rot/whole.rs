//! Files cut off, extended, swapped, put back and removed.

use std::collections::BTreeSet;

use super::image::{BLOCK, Image, Kind};
use super::judge::{Key, Subject};
use super::long;
use super::recipe::{closed, killed, options};
use crate::support::Random;

/// Judges a damage of a whole file in every way.
fn judge(subject: &Subject, image: &Image, may: &BTreeSet<Key>, what: &str, deep: bool) -> bool {
    let outcome = subject.judge(image, may, what);
    if deep {
        subject.judge_writing(image, may, what);
        subject.look(image, what);
    }
    outcome.refused
}

/// Every offset where a block or a record begins or ends, and one byte beside.
fn boundaries(subject: &Subject, file: &str) -> Vec<usize> {
    let length = subject.image.files[file].len();
    let ends = subject.parts.iter().filter(|part| part.file == file);
    let mut found: BTreeSet<usize> = ends.flat_map(|part| [part.start, part.end]).collect();
    if file.ends_with(".swiss") {
        found.extend((0..length).step_by(BLOCK));
    }
    let beside = found.clone().into_iter().flat_map(|at| [at.saturating_sub(1), at, at + 1]);
    beside.filter(|at| *at < length).collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn a_file_that_ends_early_is_told_or_nothing_is_missing() {
    for made in [closed(), killed()] {
        let subject = Subject::new(made);
        let everything = subject.everything();
        let mut random = Random::new(111);
        for file in subject.image.files.keys() {
            for at in boundaries(&subject, file) {
                if !long() && !random.one_in(20) && at > 2 * BLOCK {
                    continue;
                }
                let cut = subject.damaged(|image| {
                    image.files.get_mut(file).expect("a file").truncate(at);
                });
                judge(&subject, &cut, &everything, &format!("{file} ends at {at}"), at % 5 == 0);
            }
        }
    }
}

#[test]
fn garbage_behind_a_file_means_nothing_or_is_told() {
    let mut random = Random::new(112);
    for made in [closed(), killed()] {
        let subject = Subject::new(made);
        for file in subject.image.files.keys() {
            for more in [1, 100, BLOCK, 3 * BLOCK + 7] {
                let longer = subject.damaged(|image| {
                    let bytes = image.files.get_mut(file).expect("a file");
                    bytes.extend((0..more).map(|_| random.next() as u8));
                });
                let what = format!("{more} bytes behind {file}");
                let refused = judge(&subject, &longer, &BTreeSet::new(), &what, true);
                assert_eq!(refused, file.ends_with(".log"), "{what}");
            }
        }
    }
}

#[test]
fn blocks_that_were_swapped_or_copied_over_others_are_found() {
    let mut random = Random::new(113);
    for made in [closed(), killed()] {
        let subject = Subject::new(made);
        for file in subject.image.tables() {
            let used: Vec<usize> = subject
                .parts
                .iter()
                .filter(|part| part.file == file)
                .flat_map(|part| (part.start..part.end).step_by(BLOCK))
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect();
            let pairs = used.iter().flat_map(|a| used.iter().map(move |b| (*a, *b)));
            for (a, b) in pairs.filter(|(a, b)| a != b) {
                if !long() && !random.one_in(15) {
                    continue;
                }
                let swap = random.one_in(2);
                let moved = subject.damaged(|image| {
                    let bytes = image.files.get_mut(&file).expect("a file");
                    let there = bytes[b..b + BLOCK].to_vec();
                    bytes.copy_within(a..a + BLOCK, b);
                    if swap {
                        bytes[a..a + BLOCK].copy_from_slice(&there);
                    }
                });
                let mut may = subject.behind(&file, b..b + BLOCK);
                may.extend(subject.behind(&file, a..a + BLOCK));
                let what = format!("block at {a} to {b} of {file}, swapped: {swap}");
                judge(&subject, &moved, &may, &what, random.one_in(10));
            }
        }
    }
}

#[test]
fn an_older_copy_of_a_block_is_found() {
    // The same store at two checkpoints: a block that both reach, with
    // different bytes, was free in between and is put back.
    let subject = Subject::new(closed());
    let memory = subject.made.memory.copy().expect("a copy");
    let mut older: Vec<(String, Image)> = vec![("first".into(), subject.image.clone())];
    let mut state = subject.made.states[0].clone();
    for round in 0..6_u8 {
        let storage = std::sync::Arc::new(memory.clone());
        let db = options().open_on(storage).expect("open");
        for i in 0..30_u8 {
            let key = vec![b'r', i, round % 2];
            db.insert(&key, [round; 20]).expect("insert");
            state.get_mut("default").expect("the table").insert(key, vec![round; 20]);
        }
        db.close().expect("close");
        older.push((format!("{round}"), Image::of(&memory).expect("its files")));
    }
    older.pop();
    let made = super::recipe::Made { memory, states: vec![state], shorter: None };
    let now = Subject::new(Ok(made));
    let (file, mut tried, mut told) = ("default.swiss", 0, 0);
    for (name, image) in &older {
        for part in now.parts.iter().filter(|part| part.file == file) {
            let range = part.start..part.end;
            let Some(old) = image.files[file].get(range.clone()) else { continue };
            if old == &now.image.files[file][range.clone()] || old.iter().all(|b| *b == 0) {
                continue;
            }
            let put_back = now.damaged(|image| {
                image.files.get_mut(file).expect("a file")[range.clone()].copy_from_slice(old);
            });
            let what = format!("{:?} at {} as after close {name}", part.kind, part.start);
            let outcome = now.judge(&put_back, &now.behind(file, range), &what);
            tried += 1;
            told += usize::from(outcome.refused || outcome.unreadable > 0);
            if matches!(part.kind, Kind::Header(_)) {
                assert!(!outcome.refused, "{what}: the other copy is newer");
            }
        }
    }
    assert!(tried >= 20 && told >= 10, "{tried} blocks were put back, {told} were noticed");
}

#[test]
fn files_that_are_gone_or_empty_are_told() {
    for made in [closed(), killed()] {
        let mut subject = Subject::new(made);
        // Of the last log file nothing tells but itself: without it, the store
        // is as it was before.
        let shorter = subject.made.shorter.take();
        subject.made.states.extend(shorter);
        for file in subject.image.files.keys() {
            for how in ["gone", "empty", "zeros", "noise"] {
                let damaged = subject.damaged(|image| {
                    let bytes = image.files.get_mut(file).expect("a file");
                    let mut random = Random::unprinted(114);
                    match how {
                        "gone" => drop(image.files.remove(file)),
                        "empty" => bytes.clear(),
                        "zeros" => bytes.fill(0),
                        _ => bytes.fill_with(|| random.next() as u8),
                    }
                });
                let what = format!("{file} is {how}");
                if how == "gone" && !file.ends_with("default.swiss") && file.ends_with(".swiss") {
                    // A table that nothing but its file speaks of is not missed.
                    continue;
                }
                let refused = judge(&subject, &damaged, &subject.everything(), &what, true);
                let is_last = *file == "log/00000002.log" && how == "gone";
                assert_eq!(refused, !is_last && file != "LOCK", "{what}");
            }
        }
    }
}
