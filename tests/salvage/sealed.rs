//! Salvage of log files whose first block says too little, or too much.
//!
//! Goal: a file of the log whose activation rotted is not taken for one that
//! holds nothing, and the length of a file decides nothing alone. Method: stores
//! with several log files, each of which is damaged in turn, with values that the
//! tables refer to, and with records that no table has yet.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use swissdb::storage::files::Files;
use swissdb::storage::memory::Memory;
use swissdb::{Options, SalvageReport};
use tempfile::TempDir;

use super::{Story, go_on};
use crate::support::{Model, TestStore, assert_same, files_below, key, pairs, value};

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

/// What salvage says, and what it finds in the default table.
fn salvaged(store: &Path) -> (SalvageReport, Model) {
    let (source, target) = (Files::new(store), Memory::new());
    let saved = Options::new().salvage_on(Arc::new(source), Arc::new(target.clone()), go_on);
    let report = saved.expect("salvage");
    let db = Options::new().read_only(true).open_on(Arc::new(target)).expect("open");
    (report, pairs(db.iter()).collect())
}

/// The log files that were activated, each with its first block.
fn activated(store: &Path) -> Vec<(String, Vec<u8>)> {
    let files = files_below(&store.join("log")).into_iter();
    let files = files.filter(|(_, bytes)| bytes.get(512..520) == Some(&b"activate"[..]));
    files.map(|(name, bytes)| (name.display().to_string(), bytes[..4096].to_vec())).collect()
}

#[test]
fn values_in_a_log_file_whose_activation_rotted_are_found() {
    let (store, model) = killed(300, true);
    let files = activated(store.path());
    assert!(files.len() > 4, "{} files", files.len());
    for (name, block) in files {
        let path = store.path().join("log").join(&name);
        let file = fs::OpenOptions::new().write(true).open(path).expect("open");
        let (mut flipped, mut zeroed) = (block.clone(), block.clone());
        flipped[520] ^= 4;
        zeroed[512..1024].fill(0);
        for damaged in [flipped, zeroed] {
            file.write_all_at(&damaged, 0).expect("write");
            let (report, found) = salvaged(store.path());
            assert_same(found.into_iter(), &model);
            assert_eq!(report.values_lost, 0, "{name}: {report}");
        }
        file.write_all_at(&block, 0).expect("write");
    }
}

#[test]
fn records_in_a_log_file_whose_activation_rotted_are_taken() {
    let (store, model) = killed(150, false);
    let files = activated(store.path());
    assert!(files.len() > 2, "{} files", files.len());
    for (name, block) in files {
        let path = store.path().join("log").join(&name);
        let file = fs::OpenOptions::new().write(true).open(path).expect("open");
        file.write_all_at(&[block[520] ^ 4], 520).expect("write");
        let (report, found) = salvaged(store.path());
        assert_same(found.into_iter(), &model);
        assert!(!report.lost_anything(), "{name}: {report}");
        assert_eq!(report.log_heads_damaged, 1, "{name}: {report}");
        file.write_all_at(&block, 0).expect("write");
    }
}

#[test]
fn a_log_file_of_a_length_that_none_has_takes_no_memory_for_it() {
    let story = Story::new(200, true);
    let files = files_below(&story.path().join("log"));
    for name in files.into_keys() {
        let path = story.path().join("log").join(name);
        let file = fs::OpenOptions::new().write(true).open(path).expect("open");
        file.set_len(1 << 40).expect("a sparse file");
    }
    let (report, found) = salvaged(story.path());
    assert_same(found.into_iter(), &story.now["default"]);
    assert!(!report.lost_anything(), "{report}");
}
