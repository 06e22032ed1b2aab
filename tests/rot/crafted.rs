//! Fields changed with all checksums made right again.
//!
//! Checksums find rot. What a bug in the store has written, or somebody who
//! means ill, comes with checksums that hold; then the answer may be any, but
//! nothing may panic, run for ever, or take memory by a length that nobody has
//! checked; and what `verify` calls undamaged has to work ([`check`]).

use super::allocations::largest_request;
use super::check::check;
use super::fields::{chosen, fields};
use super::image::{BLOCK, Image, Kind, addresses, seal, u16_at, u32_at};
use super::judge::{MOST_MEMORY, Subject};
use super::recipe::{closed, killed};
use crate::power::watchdog::Watchdog;

/// Says what was being tried when something panicked.
struct Say<'a>(&'a str);

impl Drop for Say<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("while trying: {}", self.0);
        }
    }
}

/// Opens crafted files in every way.
fn examine(subject: &Subject, image: &Image, what: &str, deep: bool) {
    let memory = image.to_memory(&subject.made.memory, &subject.image).expect("a copy");
    let _say = Say(what);
    let (_, asked) = largest_request(|| check(&memory, false));
    assert!(asked <= MOST_MEMORY, "{what}: {asked} bytes of memory");
    if deep {
        check(&memory, true);
        subject.look(image, what);
    }
}

/// Changes fields one by one, with checksums that hold.
fn craft_fields(subject: &Subject, seed: u64, more: usize) {
    let watchdog = Watchdog::new("crafted fields");
    let mut image = subject.image.clone();
    for (number, (field, change)) in chosen(subject, seed, more).into_iter().enumerate() {
        let range = field.offset..field.offset + field.length;
        let bytes = &mut image.files.get_mut(&field.file).expect("a file")[range];
        if change.apply(bytes) {
            // The second copy of the header would be as good as before.
            if field.file.ends_with(".swiss") && field.offset < BLOCK && number % 2 == 0 {
                image.files.get_mut(&field.file).expect("a file").copy_within(..BLOCK, BLOCK);
            }
            seal(&mut image);
            let what = format!("{} of {} at {}, {change:?}", field.name, field.file, field.offset);
            watchdog.beat(&what);
            examine(subject, &image, &what, number % 3 == 0);
        }
        image.clone_from(&subject.image);
    }
}

#[test]
fn crafted_fields_of_a_closed_store_do_no_harm() {
    craft_fields(&Subject::new(closed()), 121, 150);
}

#[test]
fn crafted_fields_of_a_killed_store_do_no_harm() {
    craft_fields(&Subject::new(killed()), 122, 150);
}

#[test]
fn sealing_an_undamaged_store_changes_nothing() {
    for made in [closed(), killed()] {
        let subject = Subject::new(made);
        let mut image = subject.image.clone();
        seal(&mut image);
        assert!(image == subject.image, "checksums that held were changed");
        assert!(fields(&subject).len() > 2_000);
    }
}

/// The first address in a page of a table whose key length is this, with the
/// file and where it stands in that.
fn address_of(subject: &Subject, spilled_key: bool) -> (String, usize, usize) {
    for part in subject.parts.iter().filter(|part| part.kind == Kind::Page) {
        let bytes = &subject.image.files[&part.file];
        let payload = usize::from(u16_at(bytes, 14));
        let page = &bytes[part.start..part.end];
        for (at, _) in addresses(page, payload) {
            let group = at / (64 + 8 * payload) * (64 + 8 * payload);
            let slot = (at - group - 64) / payload;
            let key = u16_at(page, group + 16 + 2 * slot);
            let value = u16_at(page, group + 32 + 2 * slot);
            if (key & 0x8000 != 0) == spilled_key && value & 0x8000 != 0 {
                return (part.file.clone(), part.start + at, usize::from(key & 0x7fff));
            }
        }
    }
    panic!("there is no such entry");
}

#[test]
fn an_address_shorter_than_its_key_is_no_entry_and_no_panic() {
    // With a checksum that holds for the few bytes that it names: iteration
    // once took the value to begin behind the key, outside of these bytes.
    let subject = Subject::new(closed());
    let (file, at, key) = address_of(&subject, true);
    assert!(key > 60);
    for length in [0, 1, key - 1] {
        let mut image = subject.image.clone();
        let bytes = image.files.get_mut(&file).expect("a file");
        bytes[at + 8..at + 12].copy_from_slice(&(length as u32).to_le_bytes());
        seal(&mut image);
        assert!(subject.look(&image, "a short address"), "verify finds it");
        examine(&subject, &image, &format!("an address of {length} bytes"), true);
    }
}

#[test]
fn a_version_in_a_file_is_damage_and_no_search_waits_for_it_to_change() {
    // In memory an odd one says that a writer is at work on the group; a reader
    // once waited for it to finish.
    let subject = Subject::new(closed());
    for part in subject.parts.iter().filter(|part| part.kind == Kind::Page).take(3) {
        for version in [1_u32, 2, u32::MAX] {
            let mut image = subject.image.clone();
            let bytes = image.files.get_mut(&part.file).expect("a file");
            bytes[part.start + 8..part.start + 12].copy_from_slice(&version.to_le_bytes());
            seal(&mut image);
            let outcome = subject.judge(&image, &subject.everything(), "a version");
            assert!(outcome.unreadable > 0, "a version of {version} is not told");
            examine(&subject, &image, "a version", true);
        }
    }
}

#[test]
fn live_bytes_beyond_all_bounds_add_up_to_no_panic() {
    for made in [closed(), killed()] {
        let subject = Subject::new(made);
        let mut image = subject.image.clone();
        for root in subject.parts.iter().filter(|part| part.kind == Kind::Root) {
            let bytes = image.files.get_mut(&root.file).expect("a file");
            let depth = bytes[19];
            let live = root.start + (8 << depth) + 8;
            bytes[live..live + 8].fill(0xff);
        }
        seal(&mut image);
        examine(&subject, &image, "live bytes", true);
        assert!(subject.look(&image, "live bytes"), "verify finds nothing");
    }
}

#[test]
fn addresses_that_lead_out_of_the_log_are_no_entries() {
    let subject = Subject::new(closed());
    for spilled_key in [false, true] {
        let (file, at, _) = address_of(&subject, spilled_key);
        let length = subject.image.files["log/00000001.log"].len() as u32;
        for (field, value) in [
            (8, u32::MAX),
            (8, length),
            (16, 0),
            (16, 2),
            (16, u32::MAX),
            (20, 0),
            (20, 4095),
            (20, length - 1),
            (20, length),
            (20, u32::MAX),
        ] {
            let mut image = subject.image.clone();
            let bytes = image.files.get_mut(&file).expect("a file");
            bytes[at + field..at + field + 4].copy_from_slice(&value.to_le_bytes());
            seal(&mut image);
            let what = format!("{value} at offset {field} of an address");
            assert!(subject.look(&image, &what), "{what}: verify finds nothing");
            examine(&subject, &image, &what, true);
        }
    }
}

#[test]
fn a_directory_that_leads_in_a_circle_ends() {
    let subject = Subject::new(closed());
    for file in subject.image.tables() {
        let of = |kind| subject.parts.iter().find(|p| p.file == file && p.kind == kind);
        let directory = of(Kind::DirectoryPage).expect("a directory page").start;
        let places = super::image::pages(&subject.image.files[&file], directory);
        let root = of(Kind::Root).expect("a root").start;
        let targets = [0, 1, root / BLOCK, directory / BLOCK];
        for (place, target) in places.iter().take(3).flat_map(|p| targets.map(|t| (p.0, t))) {
            let mut image = subject.image.clone();
            let bytes = image.files.get_mut(&file).expect("a file");
            bytes[place..place + 4].copy_from_slice(&(target as u32).to_le_bytes());
            seal(&mut image);
            assert_ne!(u32_at(&image.files[&file], 4092), 0);
            examine(&subject, &image, &format!("block {target} as a page of {file}"), true);
        }
    }
}
