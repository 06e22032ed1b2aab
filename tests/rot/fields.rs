//! Each field by itself: every bit flipped, zero, all ones.

use std::collections::{BTreeMap, BTreeSet};

use swissdb::inspect;

use super::image::{BLOCK, Kind};
use super::judge::{Outcome, Subject};
use super::recipe::{closed, killed};
use super::{image::Image, long};
use crate::power::watchdog::Watchdog;
use crate::support::Random;

/// A field of a file.
#[derive(Debug, Clone)]
pub struct Field {
    pub file: String,
    pub offset: usize,
    pub length: usize,
    /// The kind of the part that it lies in, and its name.
    pub name: String,
}

/// How a field is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// This bit, counted from the first byte on.
    Flip(usize),
    Zero,
    Max,
}

impl Change {
    /// Changes the bytes of a field; says whether anything is different.
    pub fn apply(self, bytes: &mut [u8]) -> bool {
        let before = bytes.to_vec();
        match self {
            Change::Flip(bit) => bytes[bit / 8] ^= 1 << (bit % 8),
            Change::Zero => bytes.fill(0),
            Change::Max => bytes.fill(0xff),
        }
        bytes != before
    }
}

/// All fields of the parts of a store.
pub fn fields(subject: &Subject) -> Vec<Field> {
    let mut place = subject.place.borrow_mut();
    let path = place.show(&subject.image).expect("write the files");
    let mut found = Vec::new();
    let mut add = |file: &str, kind: &str, field: inspect::Field| {
        found.push(Field {
            file: file.to_string(),
            offset: field.offset as usize,
            length: field.length as usize,
            name: format!("{kind}: {}", field.name),
        });
    };
    let mut seen = BTreeSet::new();
    for part in subject.parts.iter().filter(|part| part.file.ends_with(".swiss")) {
        let table = part.file.trim_end_matches(".swiss");
        for block in part.start / BLOCK..part.end / BLOCK {
            if !seen.insert((part.file.clone(), block)) {
                continue;
            }
            let block = inspect::block(path, table, block as u64).expect("a block");
            for field in block.fields() {
                add(&part.file, &format!("{:?}", part.kind), field.clone());
            }
        }
    }
    for log in &inspect::log(path).expect("the log").files {
        let name = super::image::log_name(log.number);
        log.fields().into_iter().for_each(|field| add(&name, "log file", field));
        for piece in log.pieces().expect("pieces") {
            for field in log.piece_fields(&piece).expect("fields") {
                add(&name, "record", field);
            }
        }
    }
    found
}

/// All changes of a field. Of long ones, which are the content of entries or
/// reserved, one bit of each byte is flipped.
fn changes(field: &Field) -> Vec<Change> {
    let step = if field.length > 16 { 9 } else { 1 };
    let flips = (0..field.length * 8).step_by(step).map(Change::Flip);
    flips.chain([Change::Zero, Change::Max]).collect()
}

/// The damages that are tried: all of them, or each way of changing each kind
/// of field once and `more` others.
pub fn chosen(subject: &Subject, seed: u64, more: usize) -> Vec<(Field, Change)> {
    let fields = fields(subject);
    let all = fields.iter().flat_map(|field| changes(field).into_iter().map(move |c| (field, c)));
    if long() {
        return all.map(|(field, change)| (field.clone(), change)).collect();
    }
    let mut random = Random::new(seed);
    let mut kinds: BTreeMap<&str, Vec<&Field>> = BTreeMap::new();
    fields.iter().for_each(|field| kinds.entry(&field.name).or_default().push(field));
    let mut list = Vec::new();
    let mut pick = |from: &[&Field], change: Option<Change>| {
        let field = from[random.below(from.len() as u64) as usize].clone();
        let flip = Change::Flip(random.below(field.length as u64 * 8) as usize);
        list.push((field, change.unwrap_or(flip)));
    };
    for fields in kinds.values() {
        for change in [None, Some(Change::Zero), Some(Change::Max)] {
            pick(fields, change);
        }
    }
    let kinds: Vec<_> = kinds.into_values().collect();
    let mut other = Random::unprinted(seed);
    for _ in 0..more {
        // By kind first: most fields are bytes of slots.
        let kind = &kinds[other.below(kinds.len() as u64) as usize];
        let change = [None, None, None, Some(Change::Zero), Some(Change::Max)];
        pick(kind, change[other.below(5) as usize]);
    }
    list
}

/// Damages the fields of a store one by one.
fn damage_fields(subject: &Subject, seed: u64, more: usize) -> BTreeMap<String, Outcome> {
    let mut outcomes: BTreeMap<String, Outcome> = BTreeMap::new();
    let mut image = subject.image.clone();
    let list = chosen(subject, seed, more);
    let total = list.len();
    let watchdog = Watchdog::new("fields");
    for (number, (field, change)) in list.into_iter().enumerate() {
        let range = field.offset..field.offset + field.length;
        let bytes = &mut image.files.get_mut(&field.file).expect("a file")[range.clone()];
        let before = bytes.to_vec();
        if change.apply(bytes) {
            let at = field.offset;
            let what = format!("{} of {} at {at}, {change:?}", field.name, field.file);
            watchdog.beat(&what);
            let may = subject.behind(&field.file, hit(&field, change));
            let outcome = subject.judge(&image, &may, &what);
            let worst = outcomes.entry(field.name.clone()).or_default();
            worst.refused |= outcome.refused;
            worst.unreadable = worst.unreadable.max(outcome.unreadable);
            if number % 8 == 0 {
                subject.judge_writing(&image, &may, &what);
            }
            if number % 8 == 4 {
                let found = subject.look(&image, &what);
                let noticed = outcome.refused || outcome.unreadable > 0;
                assert!(found || !noticed, "{what}: verify finds nothing");
            }
        }
        restore(&mut image, &field, &before);
    }
    eprintln!("{total} damages in {} kinds of fields", outcomes.len());
    outcomes
}

/// The bytes that a change changes.
fn hit(field: &Field, change: Change) -> std::ops::Range<usize> {
    match change {
        Change::Flip(bit) => field.offset + bit / 8..field.offset + bit / 8 + 1,
        _ => field.offset..field.offset + field.length,
    }
}

fn restore(image: &mut Image, field: &Field, before: &[u8]) {
    let bytes = image.files.get_mut(&field.file).expect("a file");
    bytes[field.offset..field.offset + field.length].copy_from_slice(before);
}

#[test]
fn no_field_of_a_closed_store_can_rot_unseen_or_take_others_with_it() {
    let subject = Subject::new(closed());
    let outcomes = damage_fields(&subject, 101, 400);
    // What is needed to open, and what is not.
    for (name, outcome) in &outcomes {
        let kind = name.split(':').next().expect("a kind");
        match kind {
            "Root" | "FreeMap" => assert!(!outcome.refused || outcome.unreadable == 0, "{name}"),
            "Header(0)" | "Header(1)" | "Page" | "DirectoryPage" | "record" => {
                assert!(!outcome.refused, "{name} keeps the store closed");
            }
            _ => {}
        }
    }
    assert!(outcomes["Page: control word"].unreadable > 0);
    assert!(outcomes["DirectoryPage: used"].unreadable > 100);
    assert!(outcomes["Root: block"].refused);
    assert!(outcomes["record: value"].unreadable > 0);
}

#[test]
fn no_field_of_a_killed_store_can_rot_into_a_state_that_was_not() {
    let subject = Subject::new(killed());
    let outcomes = damage_fields(&subject, 102, 200);
    // A record that was durable is missed, one that was not is the end.
    let records = outcomes.iter().filter(|(name, _)| name.starts_with("record: "));
    let refused: Vec<_> = records.map(|(_, outcome)| outcome.refused).collect();
    assert!(refused.contains(&true), "no damage of a durable record is told");
    assert!(!outcomes["Header(0): generation"].refused);
    let kinds = [Kind::LogHeader, Kind::Activation, Kind::Record];
    assert!(kinds.iter().all(|kind| subject.parts.iter().any(|part| part.kind == *kind)));
}
