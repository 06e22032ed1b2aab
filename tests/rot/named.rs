//! Each invariant of format.md, broken so that `verify` names it.
//!
//! Method: the table of invariants is read from format.md, and each id in it
//! has a damage here, so that an id without one fails. All damages are made
//! from outside, in the bytes of files, with checksums that hold where the
//! checksum is not the point. Beside the code (src/verify/tests.rs) it is tested
//! that each damage breaks no other invariant than its own.

use std::collections::BTreeSet;

use super::image::{
    BLOCK, Image, Kind, Part, addresses, pages, records, seal, seal_log, u16_at, u32_at,
};
use super::judge::Subject;
use super::recipe::closed;

const FORMAT: &str = include_str!("../../format.md");
const TABLE: &str = "default.swiss";
const LOG: &str = "log/00000001.log";

/// A damage: which invariant it breaks, what it is, and whether the checksums
/// are made right afterwards.
type Damage = (&'static str, bool, fn(&Subject, &mut Image));

/// The ids in the table of section 9.
fn ids() -> BTreeSet<&'static str> {
    let section = &FORMAT[FORMAT.find("\n## 9.").expect("section 9")..];
    let section = &section[..section.find("\n## 10.").expect("section 10")];
    let first = section.lines().filter_map(|line| line.strip_prefix("| I"));
    let cells = first.filter_map(|rest| rest.split(' ').next());
    let all = section.match_indices("\n| I").map(|(at, _)| &section[at + 3..]);
    let ids = all.filter_map(|rest| rest.split(' ').next());
    let numbered = ids.filter(|id| id[1..].parse::<u32>().is_ok());
    let found: BTreeSet<_> = numbered.collect();
    assert!(cells.count() >= found.len());
    found
}

fn bytes<'a>(image: &'a mut Image, file: &str) -> &'a mut Vec<u8> {
    image.files.get_mut(file).expect("a file")
}

/// The parts of a kind of the default table.
fn all(subject: &Subject, kind: Kind) -> impl Iterator<Item = &Part> {
    subject.parts.iter().filter(move |part| part.file == TABLE && part.kind == kind)
}

/// Where the first part of a kind begins.
fn first(subject: &Subject, kind: Kind) -> usize {
    all(subject, kind).next().expect("a part of this kind").start
}

/// Adds to a number of eight bytes in both copies of the header.
fn add_to_header(image: &mut Image, at: usize, more: i64) {
    for copy in [0, BLOCK] {
        let field = &mut bytes(image, TABLE)[copy + at..copy + at + 8];
        let number = u64::from_le_bytes(field.try_into().expect("eight bytes"));
        field.copy_from_slice(&number.wrapping_add_signed(more).to_le_bytes());
    }
}

/// The first small entry of the `n`-th group that has one and room for another:
/// group and slot.
fn full(subject: &Subject, n: usize) -> (usize, usize) {
    let table = &subject.image.files[TABLE];
    let groups = all(subject, Kind::Page).flat_map(|page| (page.start..page.end).step_by(512));
    let mut found = groups.filter_map(|group| {
        let small = |i: &usize| table[group + i] & 0x80 == 0 && table[group + 16 + 2 * i] == 6;
        let inline = |i: &usize| u16_at(table, group + 32 + 2 * i) == 20;
        let has_room = table[group..group + 8].contains(&0x80);
        Some((group, (0..8).find(|i| small(i) && inline(i))?)).filter(|_| has_room)
    });
    found.nth(n).expect("such a group")
}

/// The first address in the default table: where it stands in the file.
fn address(subject: &Subject) -> usize {
    let table = &subject.image.files[TABLE];
    let mut found = all(subject, Kind::Page).flat_map(|page| {
        addresses(&table[page.start..page.end], 56).into_iter().map(move |a| (page, a))
    });
    let (page, (at, _)) = found.next().expect("an address");
    page.start + at
}

/// One damage, at least, for each invariant.
const DAMAGES: &[Damage] = &[
    ("I1", false, |_, image| bytes(image, TABLE)[40] ^= 1),
    ("I1", true, |_, image| bytes(image, TABLE)[148] ^= 1),
    ("I2", true, |_, image| add_to_header(image, 40, 1)),
    ("I3", false, |s, image| bytes(image, TABLE)[first(s, Kind::Root) + 4000] ^= 1),
    ("I3", true, |s, image| bytes(image, TABLE)[first(s, Kind::Root) + 4000] ^= 1),
    ("I4", false, |s, image| bytes(image, TABLE)[first(s, Kind::DirectoryPage) + 34] ^= 1),
    ("I4", true, |s, image| bytes(image, TABLE)[first(s, Kind::DirectoryPage) + 4] ^= 1),
    ("I5", true, |s, image| bytes(image, TABLE)[first(s, Kind::DirectoryPage) + 32] += 1),
    ("I6", false, |s, image| bytes(image, TABLE)[first(s, Kind::Page) + 3000] ^= 1),
    ("I7", true, |s, image| bytes(image, TABLE)[first(s, Kind::Page) + 59] ^= 1),
    ("I8", true, |s, image| bytes(image, TABLE)[first(s, Kind::Page) + 8] ^= 1),
    ("I9", true, |s, image| {
        let (group, slot) = full(s, 0);
        bytes(image, TABLE)[group + 32 + 2 * slot] = 57;
    }),
    ("I10", true, |s, image| {
        let (group, slot) = full(s, 1);
        bytes(image, TABLE)[group + 48 + slot] ^= 1;
    }),
    ("I11", true, |s, image| {
        // The key of an entry once more, in the next free slot of its group.
        let (group, from) = full(s, 2);
        let table = bytes(image, TABLE);
        let to = (0..8).find(|i| table[group + i] == 0x80).expect("an empty slot");
        for (at, width) in [(0, 1), (16, 2), (32, 2), (48, 1), (64, 56)] {
            let source = group + at + width * from;
            table.copy_within(source..source + width, group + at + width * to);
        }
    }),
    ("I12", true, |s, image| bytes(image, TABLE)[first(s, Kind::DirectoryPage) + 36] += 2),
    ("I13", true, |_, image| add_to_header(image, 64, -1)),
    ("I14", true, |s, image| {
        let map = first(s, Kind::FreeMap);
        let block = first(s, Kind::Page) / BLOCK;
        bytes(image, TABLE)[map + block / 8] ^= 1 << (block % 8);
    }),
    ("I14", true, |s, image| {
        // Two places of the directory lead to one page.
        let table = bytes(image, "wide.swiss");
        let directory =
            s.parts.iter().find(|p| p.file == "wide.swiss" && p.kind == Kind::DirectoryPage);
        let places = pages(table, directory.expect("a directory page").start);
        let (from, to) = (places[0].0, places[1].0);
        table.copy_within(from..from + 4, to);
    }),
    ("I15", true, |s, image| {
        let at = address(s);
        bytes(image, TABLE)[at + 16..at + 20].copy_from_slice(&77_u32.to_le_bytes());
    }),
    ("I15", false, |s, image| {
        let at = address(s);
        let offset = u32_at(&s.image.files[TABLE], at + 20);
        bytes(image, LOG)[offset] ^= 1;
    }),
    ("I16", true, |s, image| {
        let at = first(s, Kind::Root) + 8 + 8;
        bytes(image, TABLE)[at] ^= 1;
    }),
    ("I17", false, |_, image| bytes(image, LOG)[16] ^= 1),
    ("I18", true, |_, image| add_to_header(image, 92, 1)),
    ("I18", true, |_, image| {
        // One record more than the headers of a closed store know of.
        let log = bytes(image, LOG);
        let (at, length) = *records(log).last().expect("a record");
        let next = (at + length).next_multiple_of(8);
        log.copy_within(at..at + length, next);
        log[next + 8] += 1;
        seal_log(log);
    }),
    ("I19", true, |_, image| {
        for copy in [0, BLOCK] {
            bytes(image, TABLE)[copy + 144] = 1;
        }
    }),
];

#[test]
fn every_invariant_of_the_document_is_named_by_verify_when_it_is_broken() {
    let subject = Subject::new(closed());
    let ids = ids();
    assert_eq!(ids.len(), 19, "{ids:?}");
    let broken: BTreeSet<_> = DAMAGES.iter().map(|(id, _, _)| *id).collect();
    assert_eq!(broken, ids, "each invariant has a damage");
    for (number, (id, sealed, damage)) in DAMAGES.iter().enumerate() {
        let mut image = subject.damaged(|image| damage(&subject, image));
        if *sealed {
            seal(&mut image);
        }
        let mut place = subject.place.borrow_mut();
        let path = place.show(&image).expect("write the files");
        let report = swissdb::verify(path).expect("verify goes on after damage");
        let named = report.violations.iter().any(|violation| violation.invariant == *id);
        assert!(named, "damage {number} does not break {id}: {report}");
        let text = report.to_string();
        assert!(text.contains(&format!("[{id}]")), "{text}");
        // It ends with what was looked at, whatever was found before.
        let last = text.lines().last().expect("a line");
        assert!(last.starts_with("damaged in ") && last.contains(" table"), "{last}");
        assert!(report.checked.tables >= 1, "{last}");
    }
}

#[test]
fn damages_of_all_kinds_at_once_are_all_named() {
    // What hides others is left out: without root, directory or header nothing
    // behind them is found.
    let hiding = ["I1", "I2", "I3", "I4", "I5", "I6", "I13", "I17"];
    let subject = Subject::new(closed());
    let mut image = subject.image.clone();
    let mut done = BTreeSet::new();
    for (id, sealed, damage) in
        DAMAGES.iter().filter(|(id, sealed, _)| *sealed && !hiding.contains(id))
    {
        if done.insert(*id) && *sealed {
            damage(&subject, &mut image);
        }
    }
    seal(&mut image);
    let mut place = subject.place.borrow_mut();
    let report = swissdb::verify(place.show(&image).expect("write the files")).expect("verify");
    let named: BTreeSet<_> = report.violations.iter().map(|v| v.invariant).collect();
    let missing: Vec<_> = done.difference(&named).collect();
    assert!(missing.is_empty(), "{missing:?} are not in {report}");
    assert!(done.len() >= 10, "{done:?}");
}
