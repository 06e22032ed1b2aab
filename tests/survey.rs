//! What `survey` and `stats` say of a store.
//!
//! Goal: every number is the one that counting by hand gives, before and after
//! deletes, checkpoints and reopening, and also where the table changes or is
//! damaged meanwhile. Method: a model of the entries is counted into histograms
//! of its own; searches are held against those that `inspect` finds in the
//! files; what must agree between `stats`, `survey` and `verify` is compared.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use swissdb::{Db, Error, Histogram, Options, Survey, Written};

use crate::support::{Model, Random, TestStore, key, table_stats, value};

/// Surveys the default table.
fn survey(db: &Db) -> Survey {
    db.survey(|_| ()).expect("survey")
}

/// Inserts a random entry of some shape for this payload into store and model.
fn insert(store: &Db, model: &mut Model, random: &mut Random, payload: u64) {
    let mut key = key(random.below(1_500));
    key.extend(vec![b'.'; [0, 0, payload][random.below(3) as usize] as usize]);
    let length = [0, payload / 4, payload - 16, 2 * payload][random.below(4) as usize];
    let value = value(random.next(), length as usize);
    store.insert(&key, &value).expect("insert");
    model.insert(key, value);
}

/// Holds a survey against what a model of the table's entries gives.
fn assert_is_of(survey: &Survey, model: &Model) {
    let payload = survey.census.payload;
    let (mut keys, mut values, mut both) = (Histogram::new(), Histogram::new(), Histogram::new());
    let (mut shapes, mut log_bytes) = ([0; 4], 0);
    for (key, value) in model {
        let (key, value) = (key.len(), value.len());
        keys.add(key as u64);
        values.add(value as u64);
        both.add((key + value) as u64);
        let (shape, in_log) = match () {
            () if key + value <= payload => (0, 0),
            () if key + 24 <= payload => (1, value),
            () if value + 24 <= payload => (2, key),
            () => (3, key + value),
        };
        shapes[shape] += 1;
        log_bytes += in_log as u64;
    }
    assert_eq!(survey.census.entries, model.len() as u64);
    assert_eq!((&survey.census.key_bytes, &survey.census.value_bytes), (&keys, &values));
    assert_eq!(survey.census.entry_bytes, both);
    let Survey { inline, value_spilled, key_spilled, both_spilled, .. } = *survey;
    assert_eq!([inline, value_spilled, key_spilled, both_spilled], shapes);
    assert_eq!((survey.log_bytes, survey.census.unreadable), (log_bytes, 0));
}

/// Holds a survey against what the store knows of itself.
fn assert_agrees_with_stats(survey: &Survey, db: &Db) {
    let stats = table_stats(db);
    assert_eq!((survey.census.entries, survey.slots), (stats.entries, stats.capacity));
    assert_eq!((survey.tombstones, survey.census.payload), (stats.tombstones, stats.payload));
    assert_eq!(survey.log_bytes, stats.live_log_bytes);
    assert_eq!(survey.segment_pages.count(), stats.segments);
    assert_eq!(survey.segment_depths.count(), stats.segments);
    assert_eq!(
        (survey.hit_probes.count(), survey.miss_probes.count()),
        (stats.entries, stats.capacity / 8)
    );
    assert!(survey.segment_pages.max() <= Some(16));
}

#[test]
fn a_survey_counts_what_is_there() {
    for payload in [24, 56, 504] {
        let mut random = Random::new(payload);
        let mut store = TestStore::on_disk(Options::new().payload(payload as usize));
        let mut model = Model::new();
        for _ in 0..4_000 {
            insert(&store, &mut model, &mut random, payload);
        }
        assert_is_of(&survey(&store), &model);
        let gone: Vec<_> = model.keys().filter(|_| random.one_in(3)).cloned().collect();
        for key in gone {
            store.remove(&key).expect("remove");
            model.remove(&key);
        }
        assert_is_of(&survey(&store), &model);
        assert_agrees_with_stats(&survey(&store), &store);
        store.checkpoint().expect("checkpoint");
        for _ in 0..100 {
            insert(&store, &mut model, &mut random, payload);
        }
        store.reopen();
        assert_is_of(&survey(&store), &model);
        assert_agrees_with_stats(&survey(&store), &store);
    }
}

#[test]
fn an_empty_table_has_one_segment_in_which_every_search_visits_one_group() {
    let store = TestStore::in_memory(Options::new());
    let survey = survey(&store);
    assert_is_of(&survey, &Model::new());
    assert_agrees_with_stats(&survey, &store);
    assert_eq!((survey.miss_probes.min(), survey.miss_probes.max()), (Some(1), Some(1)));
    assert_eq!(survey.segment_depths.max(), Some(0));
    assert_eq!(survey.hit_probes, Histogram::new());
}

#[test]
fn searches_are_as_long_as_inspect_finds_them() {
    let mut store = TestStore::on_disk(Options::new());
    for i in 0..10_000 {
        store.insert(key(i), value(i, 20)).expect("insert");
    }
    for i in 0..3_000 {
        store.remove(key(i)).expect("remove");
    }
    let surveyed = survey(&store);
    let segments = table_stats(&store).segments;
    store.close();
    let mut found = Histogram::new();
    for number in 0..segments {
        let segment = swissdb::inspect::segment(store.path(), "default", number);
        let segment = segment.expect("a segment");
        segment.entries().for_each(|entry| found.add(entry.probes.expect("in place") as u64));
    }
    assert_eq!((surveyed.hit_probes, found.count()), (found.clone(), 7_000));
    assert!(surveyed.miss_probes.mean() > found.mean());
    store.open();
}

#[test]
fn what_does_not_change_is_counted_once_while_the_rest_comes_and_goes() {
    const STABLE: u64 = 6_000;
    let store = TestStore::in_memory(Options::new());
    for i in 0..STABLE {
        store.insert(key(i), [1; 20]).expect("insert");
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random::unprinted(7);
            while !done.load(Ordering::Relaxed) {
                let key = [&key(random.below(20_000))[..], b"-comes-and-goes"].concat();
                match random.one_in(2) {
                    true => store.insert(&key, [2; 10]).expect("insert"),
                    false => drop(store.remove(&key).expect("remove")),
                }
            }
        });
        for _ in 0..50 {
            let survey = survey(&store);
            let stable = survey.census.key_bytes.buckets().find(|bucket| bucket.low == 16);
            assert_eq!(stable.map(|bucket| bucket.count), Some(STABLE));
            assert_eq!(survey.hit_probes.count(), survey.census.entries);
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_table_that_is_cleared_meanwhile_is_counted_anew() {
    let store = TestStore::in_memory(Options::new());
    for i in 0..10_000 {
        store.insert(key(i), [1; 20]).expect("insert");
    }
    let mut steps = 0;
    let surveyed = store.survey(|entries| {
        steps += 1;
        if steps == 1 {
            assert!(entries > 0, "the first segment has been counted");
            store.clear().expect("clear");
            store.insert("the only one", [1; 30]).expect("insert");
        }
    });
    let surveyed = surveyed.expect("survey");
    assert_eq!((surveyed.census.entries, surveyed.census.value_bytes.max()), (1, Some(30)));
    assert_agrees_with_stats(&surveyed, &store);
}

#[test]
fn a_damaged_page_costs_its_segment_and_nothing_else() {
    let mut store = TestStore::on_disk(Options::new());
    for i in 0..5_000 {
        store.insert(key(i), value(i, 20)).expect("insert");
    }
    let segments = table_stats(&store).segments;
    assert!(segments > 2, "one of several");
    store.close();
    let path = store.path().join("default.swiss");
    let whole = fs::read(&path).expect("read");
    let record = swissdb::inspect::segment(store.path(), "default", 1).expect("a segment").record;
    let mut bytes = whole.clone();
    bytes[record.pages[0].block as usize * 4096 + 2_000] ^= 1;
    fs::write(&path, bytes).expect("write");
    let db = Options::new().read_only(true).open(store.path()).expect("open");
    let surveyed = survey(&db);
    assert_eq!(surveyed.census.unreadable, 1);
    assert_eq!(surveyed.census.entries, 5_000 - u64::from(record.used));
    assert_eq!(surveyed.segment_pages.count(), segments - 1);
    drop(db);
    fs::write(&path, whole).expect("write");
    store.open();
}

#[test]
fn a_damaged_directory_page_costs_its_segments_and_nothing_else() {
    let mut store = TestStore::on_disk(Options::new().payload(504));
    for i in 0..20_000 {
        store.insert(i.to_string(), [1; 8]).expect("insert");
    }
    store.close();
    let path = store.path().join("default.swiss");
    let whole = fs::read(&path).expect("read");
    let directory = swissdb::inspect::directory(store.path(), "default").expect("a directory");
    let pages: Vec<_> = directory.collect();
    assert!(pages.len() > 2, "one of several");
    let mut bytes = whole.clone();
    bytes[pages[1].block as usize * 4096 + 100] ^= 1;
    fs::write(&path, bytes).expect("write");
    let db = Options::new().read_only(true).open(store.path()).expect("open");
    let surveyed = survey(&db);
    let lost: u64 = pages[1].segments.iter().map(|segment| u64::from(segment.used)).sum();
    assert_eq!(surveyed.census.entries, 20_000 - lost);
    // As many as words of the root lead there: how many segments is not known.
    assert_eq!(surveyed.census.unreadable, pages[1].entries as u64);
    let segments: usize = pages.iter().map(|page| page.segments.len()).sum();
    let left = segments - pages[1].segments.len();
    assert_eq!(surveyed.segment_pages.count(), left as u64);
    drop(db);
    fs::write(&path, whole).expect("write");
    store.open();
}

#[test]
fn a_table_that_is_gone_and_a_store_that_is_closed_cannot_be_surveyed() {
    let store = TestStore::in_memory(Options::new());
    let table = store.table("other").expect("create a table");
    table.insert("key", "value").expect("insert");
    assert_eq!(table.survey(|_| ()).expect("survey").census.table, "other");
    store.drop_table("other").expect("drop");
    assert!(matches!(table.survey(|_| ()), Err(Error::NotFound { .. })));
    let db = Db::in_memory().expect("a store");
    let other = db.clone();
    db.close().expect("close");
    assert!(matches!(other.survey(|_| ()), Err(Error::Closed { .. })));
}

#[test]
fn the_directory_is_counted_whether_it_is_loaded_or_not() {
    let mut store = TestStore::on_disk(Options::new().payload(504));
    let mut last = 0;
    for i in 1..=20_000u32 {
        store.insert(i.to_string(), []).expect("insert");
        if [1_000, 5_000, 20_000].contains(&i) {
            let pages = table_stats(&store).directory_pages;
            assert!(pages > last, "it has grown");
            store.reopen();
            let stats = table_stats(&store);
            assert_eq!(stats.directory_pages, pages);
            // Half of it is loaded now.
            (0..5).for_each(|i: u32| drop(store.get(i.to_string()).expect("get")));
            assert_eq!(table_stats(&store).directory_pages, pages);
            store.checkpoint().expect("checkpoint");
            assert_eq!(store.verify().expect("verify").checked.directory_pages, pages);
            assert!(stats.directory_bytes >= (pages + 1) * 4096);
            last = pages;
        }
    }
}

#[test]
fn what_was_written_is_counted_since_the_opening() {
    let mut store = TestStore::on_disk(Options::new());
    for i in 0..1_000 {
        store.insert(key(i), value(i, 84)).expect("insert");
    }
    let before = store.stats();
    let written = before.written;
    assert_eq!(written.user_bytes, 100_000);
    // Each record has a header of 24 bytes and an operation one of 12.
    assert!((136_000..140_000).contains(&written.log_bytes), "{written:?}");
    assert_eq!(before.log_since_checkpoint, written.log_bytes);
    assert_eq!((before.checkpoints, before.last_checkpoint), (0, None));
    store.checkpoint().expect("checkpoint");
    let after = store.stats();
    assert_eq!((after.checkpoints, after.log_since_checkpoint), (1, 0));
    let last = after.last_checkpoint.expect("a checkpoint");
    assert!(last.duration.as_nanos() > 0 && last.age.as_secs() < 60, "{last:?}");
    // All pages of segments were written, a directory page, root, free map and
    // two headers.
    let blocks = survey(&store).segment_pages.sum() + 5;
    assert_eq!(after.written.table_bytes - written.table_bytes, blocks * 4096);
    assert!(after.written.syncs > 0, "{:?}", after.written);
    let Written { log_bytes, zeroed_bytes, table_bytes, .. } = after.written;
    let times = (log_bytes + zeroed_bytes + table_bytes) as f64 / 100_000.0;
    assert_eq!(after.written.amplification(), Some(times));
    store.reopen();
    assert_eq!(store.stats().written.amplification(), None);
}

#[test]
fn what_has_to_be_replayed_after_a_kill_is_log_since_the_checkpoint() {
    let mut store = TestStore::on_disk(Options::new());
    store.insert(key(0), value(0, 100)).expect("insert");
    store.checkpoint().expect("checkpoint");
    for i in 0..100 {
        store.insert(key(i), value(i, 84)).expect("insert");
    }
    let since = store.stats().log_since_checkpoint;
    assert!((13_600..14_000).contains(&since), "{since}");
    store.kill();
    assert_eq!(store.stats().log_since_checkpoint, since);
    store.checkpoint().expect("checkpoint");
    assert_eq!(store.stats().log_since_checkpoint, 0);
}

#[test]
fn a_reader_is_told_where_the_log_ends() {
    let mut store = TestStore::on_disk(Options::new());
    for i in 0..100 {
        store.insert(key(i), value(i, 84)).expect("insert");
    }
    let writer = store.stats().log_files;
    store.close();
    let db = Options::new().read_only(true).open(store.path()).expect("open");
    let reader = db.stats();
    let (last, found) = (writer.last().expect("a file"), reader.log_files.last().expect("a file"));
    assert_eq!((found.number, found.end, found.live), (last.number, last.end, last.live));
    assert_eq!((found.first_commit, found.last_commit), (1, 100));
    assert_eq!(reader.write_buffer, None);
    drop(db);
    store.open();
}

#[test]
fn free_blocks_without_space_are_holes() {
    let mut store = TestStore::on_disk(Options::new());
    for i in 0..20_000 {
        store.insert(key(i), value(i, 20)).expect("insert");
    }
    store.checkpoint().expect("checkpoint");
    let stats = table_stats(&store);
    assert_eq!((stats.blocks_used + stats.blocks_free) * 4096, stats.file_bytes);
    assert_eq!(stats.disk_bytes(), stats.file_bytes - stats.blocks_holes * 4096);
    assert!(stats.blocks_holes <= stats.blocks_free);
    assert!(stats.disk_bytes() >= stats.blocks_used * 4096);
    store.reopen();
    assert!(table_stats(&store).disk_bytes() >= stats.blocks_used * 4096);
}
