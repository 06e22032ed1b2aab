//! Salvage of log files whose first block says too little, or too much.
//!
//! Goal: a file of the log whose activation rotted is not taken for one that
//! holds nothing, and the length of a file decides nothing alone. Method: stores
//! with several log files, each of which is damaged in turn, with values that the
//! tables refer to, and with records that no table has yet.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use swissdb::Options;
use swissdb::storage::files::Files;
use tempfile::TempDir;

use super::{Story, salvaged};
use crate::support::{Model, TestStore, assert_same, files_below, key, value};

/// A killed store with log files of 1 MiB and values that lie there.
fn killed(values: u64, checkpoint: bool) -> (TempDir, Model) {
    let options = Options::new().max_log_file(1 << 20).sync_interval(Duration::from_secs(3600));
    let store = TestStore::on_disk(options);
    let mut model = Model::new();
    for i in 0..values {
        store.insert(key(i), value(i, 20_000)).expect("insert");
        model.insert(key(i), value(i, 20_000));
    }
    if checkpoint {
        store.checkpoint().expect("checkpoint");
    }
    (store.copy_as_killed(), model)
}

/// Calls somebody for each log file that was activated, with its name, to damage
/// its first block; then that is brought back.
fn for_each_activated(store: &Path, least: usize, mut damage: impl FnMut(&str, &File, &[u8])) {
    let files = files_below(&store.join("log")).into_iter();
    let files = files.filter(|(_, bytes)| bytes.get(512..520) == Some(&b"activate"[..]));
    let mut count = 0;
    for (name, bytes) in files {
        let path = store.join("log").join(&name);
        let file = OpenOptions::new().write(true).open(path).expect("open");
        damage(&name.display().to_string(), &file, &bytes[..4096]);
        file.write_all_at(&bytes[..4096], 0).expect("write");
        count += 1;
    }
    assert!(count > least, "{count} files");
}

#[test]
fn values_in_a_log_file_whose_activation_rotted_are_found() {
    let (store, model) = killed(300, true);
    for_each_activated(store.path(), 4, |name, file, block| {
        let (mut flipped, mut zeroed) = (block.to_vec(), block.to_vec());
        flipped[520] ^= 4;
        zeroed[512..1024].fill(0);
        for damaged in [flipped, zeroed] {
            file.write_all_at(&damaged, 0).expect("write");
            let (report, found) = salvaged(Files::new(store.path()));
            assert_same(found.into_iter(), &model);
            assert_eq!(report.values_lost, 0, "{name}: {report}");
        }
    });
}

#[test]
fn records_in_a_log_file_whose_activation_rotted_are_taken() {
    let (store, model) = killed(150, false);
    for_each_activated(store.path(), 2, |name, file, block| {
        file.write_all_at(&[block[520] ^ 4], 520).expect("write");
        let (report, found) = salvaged(Files::new(store.path()));
        assert_same(found.into_iter(), &model);
        assert!(!report.lost_anything(), "{name}: {report}");
        assert_eq!(report.log_heads_damaged, 1, "{name}: {report}");
    });
}

#[test]
fn a_log_file_of_a_length_that_none_has_takes_no_memory_for_it() {
    let story = Story::new(200, true);
    let files = files_below(&story.path().join("log"));
    for name in files.into_keys() {
        let path = story.path().join("log").join(name);
        let file = OpenOptions::new().write(true).open(path).expect("open");
        file.set_len(1 << 40).expect("a sparse file");
    }
    let (report, found) = salvaged(Files::new(story.path()));
    assert_same(found.into_iter(), &story.now["default"]);
    assert!(!report.lost_anything(), "{report}");
}
