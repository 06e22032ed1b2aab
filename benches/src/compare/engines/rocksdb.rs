//! RocksDB: a log-structured merge tree with a write-ahead log.
//!
//! * Buffered: the default, each commit is written to the log by a call, without a
//!   sync; a kill loses nothing. Sync: `WriteOptions::set_sync`.
//! * Block cache: larger than the data. Bloom filter of 10 bits and hash indexes in
//!   the data blocks, which its documentation advises for point lookups. Filters
//!   and indexes stay in memory, the default, unless memory is limited.
//! * Memtables: 64 MiB, the default, or an eighth of the cache if that is less, four at
//!   most. With 1 GiB each it was slower, measured with 2 million entries: fill 7.7 us
//!   instead of 7.1, get 6.7 instead of 4.8, overwrite 11.2 instead of 8.5. A Bloom
//!   filter over whole keys for them, a tenth of their size, so that reads pass over
//!   those without the key.
//! * As many background threads as there are cores, as `increase_parallelism` is for.
//! * Log files are not used again (`recycle_log_file_num`): that begins when a memtable
//!   is full, after more durable commits than are measured.
//! * Built without compression: all values are random bytes.
//! * Values of 4 KiB and more go to blob files, which are meant for large ones.
//! * Batches commit as `WriteBatch`, a bulk load in parts of 100,000, as in
//!   redb's benchmark.
//! * `get_pinned` and `batched_multi_get_cf` lend the value; a raw iterator lends
//!   the entries.

use std::path::Path;
use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DataBlockIndexType,
    Options, ReadOptions, WriteBatch, WriteOptions,
};

use crate::Outcome;
use crate::compare::entries::{Entries, Key};
use crate::compare::store::{Config, Store};

/// The database.
pub struct Rocks {
    db: Arc<DB>,
    sync: bool,
    write: WriteOptions,
    read: ReadOptions,
}

/// Values from this length on are kept apart.
const APART: usize = 4_096;

/// The one column family, by its name.
const DEFAULT: &str = "default";

/// Memtables at most, the one that is written and those that are waiting.
const MEMTABLES: i32 = 4;

/// The version of the library that is linked, as it writes it into its own log.
pub fn version(scratch: &Path) -> Option<String> {
    drop(DB::open_default(scratch).ok()?);
    let log = std::fs::read_to_string(scratch.join("LOG")).ok()?;
    let line = log.lines().next()?;
    Some(line.rsplit_once("RocksDB version: ")?.1.trim().to_owned())
}

fn options(config: &Config) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(config.cache as usize));
    blocks.set_bloom_filter(10.0, false);
    blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    blocks.set_cache_index_and_filter_blocks(config.starved);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::None);
    options.set_write_buffer_size((64 << 20).min(config.cache as usize / 8));
    options.set_max_write_buffer_number(MEMTABLES);
    options.set_memtable_prefix_bloom_ratio(0.1);
    options.set_memtable_whole_key_filtering(true);
    options
        .increase_parallelism(std::thread::available_parallelism().map_or(1, usize::from) as i32);
    options.set_enable_blob_files(config.value_bytes >= APART);
    options.set_min_blob_size(APART as u64);
    options
}

impl Rocks {
    fn new(db: Arc<DB>, sync: bool) -> Rocks {
        let mut write = WriteOptions::new();
        write.set_sync(sync);
        Rocks { db, sync, write, read: ReadOptions::default() }
    }
}

impl Store for Rocks {
    const BULK: usize = 100_000;

    fn open(config: &Config) -> Outcome<Rocks> {
        let options = options(config);
        let family = ColumnFamilyDescriptor::new(DEFAULT, options.clone());
        let path = config.path.join("rocksdb");
        let db = DB::open_cf_descriptors(&options, path, [family])?;
        Ok(Rocks::new(Arc::new(db), config.sync))
    }

    fn handle(&self) -> Option<Rocks> {
        Some(Rocks::new(Arc::clone(&self.db), self.sync))
    }

    fn insert(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        Ok(self.db.put_opt(key, value, &self.write)?)
    }

    fn insert_all(&mut self, entries: Entries) -> Outcome {
        let mut batch = WriteBatch::default();
        entries.iter().for_each(|(key, value)| batch.put(key, value));
        Ok(self.db.write_opt(batch, &self.write)?)
    }

    fn remove(&mut self, key: &[u8]) -> Outcome {
        Ok(self.db.delete_opt(key, &self.write)?)
    }

    fn remove_all(&mut self, keys: &[Key]) -> Outcome {
        let mut batch = WriteBatch::default();
        keys.iter().for_each(|key| batch.delete(key));
        Ok(self.db.write_opt(batch, &self.write)?)
    }

    fn get(&mut self, key: &[u8], mut look: impl FnMut(&[u8])) -> Outcome<bool> {
        Ok(self.db.get_pinned_opt(key, &self.read)?.map(|value| look(&value)).is_some())
    }

    fn get_all(&mut self, keys: &[Key], mut look: impl FnMut(usize, &[u8])) -> Outcome<u64> {
        let family = self.db.cf_handle(DEFAULT).ok_or("no default column family")?;
        let values = self.db.batched_multi_get_cf(&family, keys, false);
        let mut found = 0;
        for (place, value) in values.into_iter().enumerate() {
            if let Some(value) = value? {
                found += 1;
                look(place, &value);
            }
        }
        Ok(found)
    }

    fn iterate(&mut self, mut look: impl FnMut(&[u8], &[u8])) -> Outcome {
        let mut entries = self.db.raw_iterator();
        entries.seek_to_first();
        while let Some((key, value)) = entries.item() {
            look(key, value);
            entries.next();
        }
        Ok(entries.status()?)
    }

    fn settle(&mut self) -> Outcome {
        Ok(self.db.flush_wal(true)?)
    }

    fn compact(&mut self) -> Outcome<bool> {
        self.db.flush()?;
        self.db.compact_range(None::<&[u8]>, None::<&[u8]>);
        Ok(true)
    }

    fn close(self) -> Outcome {
        Ok(self.db.flush_wal(true)?)
    }
}
