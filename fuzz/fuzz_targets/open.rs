//! Stores whose bytes the input has changed, opened and used.
//!
//! First byte: the checksums are made right (1), for writing (2), header copy 0
//! over copy 1 (4), in a directory for `verify` and `inspect` (8), and from bit
//! 4 on the base. The rest are steps of `patch`.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use swissdb_fuzz::bases::base;
use swissdb_fuzz::check::check;
use swissdb_fuzz::directory::Directory;
use swissdb_fuzz::image::{BLOCK, Image, seal};
use swissdb_fuzz::input::Input;
use swissdb_fuzz::looking::look_at_everything;
use swissdb_fuzz::patch::patch;

thread_local! {
    static PLACE: RefCell<Directory> = RefCell::new(Directory::new().expect("a directory"));
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let how = input.u8();
    let base = base(how >> 4);
    let mut image = base.image.clone();
    patch(base, &mut image, &mut input);
    if how & 4 != 0 {
        for name in image.tables() {
            let bytes = image.files.get_mut(&name).expect("the name of a file");
            if bytes.len() >= 2 * BLOCK {
                bytes.copy_within(..BLOCK, BLOCK);
            }
        }
    }
    if how & 1 != 0 {
        seal(&mut image);
    }
    if how & 8 != 0 {
        PLACE.with_borrow_mut(|place| look_in_directory(place, &image));
        return;
    }
    let memory = image.to_memory(&base.memory, &base.image).expect("memory for a copy");
    check(&memory, how & 2 != 0);
});

fn look_in_directory(place: &mut Directory, image: &Image) {
    let path = place.show(image).expect("write the files").to_path_buf();
    match swissdb::verify(&path) {
        Ok(report) => drop(report.to_string()),
        Err(swissdb::Error::Version { .. } | swissdb::Error::NotFound { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    for name in image.tables() {
        look_at_everything(&path, name.trim_end_matches(".swiss"), b"key 04");
    }
}
