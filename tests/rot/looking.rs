//! Looking at all parts of a store in a directory, whatever they hold.

use std::path::Path;

use swissdb::inspect;

/// Looks at everything that `inspect` can show of a table and of the log, bytes
/// included, as far as it can be shown.
pub fn look_at_everything(store: &Path, table: &str, key: &[u8]) {
    for copy in inspect::header(store, table).into_iter().flatten() {
        drop(copy.fields());
    }
    let mut numbers = Vec::new();
    if let Ok(directory) = inspect::directory(store, table) {
        directory.fields().for_each(drop);
        for page in directory {
            drop(page.fields());
            numbers.extend(page.segments.iter().map(|segment| segment.number));
        }
    }
    for number in numbers.into_iter().take(4) {
        let segment = inspect::segment(store, table, number).expect("it was there");
        segment.damage().for_each(drop);
        for page in &segment.pages {
            drop(page.fields());
        }
        for group in 0..segment.group_count() {
            if let Some((page, group)) = segment.group(group) {
                drop(page.group_fields(group));
            }
        }
    }
    let blocks = inspect::block(store, table, 0).map_or(0, |block| block.file_blocks);
    for number in (0..blocks.min(40)).chain([blocks, u64::MAX]) {
        if let Ok(block) = inspect::block(store, table, number) {
            assert!(block.fields().iter().all(|field| field.offset / 4096 == number));
        }
    }
    if let Ok(search) = inspect::key(store, table, key) {
        assert!(search.steps.len() <= search.groups);
    }
    for file in inspect::log(store).iter().flat_map(|log| &log.files) {
        drop(file.fields());
        for piece in file.pieces().into_iter().flatten() {
            file.piece_fields(&piece).expect("the file is there").for_each(drop);
        }
    }
    drop(inspect::map(store, table));
}
