//! LMDB, by way of heed: a copy-on-write B+ tree in one mapped file.
//!
//! * Buffered: `MDB_NOSYNC`. Commits are written to the file with `pwrite`, so
//!   that a killed process loses nothing, and never synced unless settled.
//!   Sync: no flags, two syncs a commit.
//! * `lmdb-writemap` is the same with `MDB_WRITEMAP`, a store of its own here: commits
//!   are made in the mapped file, without a call. It is several times as fast for small
//!   writes, and its documentation warns that a stray pointer of the program then
//!   writes to the database, which has no checksums to notice that.
//! * Cache: the kernel's; the map is as large as the files can get. Where memory is
//!   limited, `MDB_NORDAHEAD`, which the documentation gives for random reads of
//!   data that is larger than memory.
//! * Single operations are one write transaction each, batches one for all; a
//!   bulk load is one transaction.
//! * Reads share one read transaction until this handle writes or is refreshed.
//!   The documentation says that a transaction costs more than a read and that old
//!   ones hinder the reuse of pages: so it is kept while nothing is written.
//!   `MDB_NOTLS`, since a handle may be moved to another thread with it.
//! * `compact` copies the environment with `MDB_CP_COMPACT` and puts the copy in
//!   the place of the file, LMDB's only way to make the file smaller.

use std::path::{Path, PathBuf};

use heed::types::Bytes;
use heed::{CompactionOption, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, WithoutTls};

use crate::Outcome;
use crate::compare::entries::{Entries, Key};
use crate::compare::store::{Config, Store};

/// The environment, its unnamed database, and what this handle reads with.
/// `MAPPED`: with `MDB_WRITEMAP`.
pub struct Lmdb<const MAPPED: bool> {
    // Before the environment: it is dropped first.
    reads: Option<RoTxn<'static, WithoutTls>>,
    env: Env<WithoutTls>,
    database: Database<Bytes, Bytes>,
    config: Config,
}

/// Room for some thirty times the data, which single commits without a sync
/// can need.
fn map_size(config: &Config) -> usize {
    let room = (config.data * 32).max(8 << 30);
    room.next_multiple_of(1 << 20) as usize
}

fn open_env<const MAPPED: bool>(path: &Path, config: &Config) -> Outcome<Env<WithoutTls>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(map_size(config)).max_readers(128);
    let mut flags = EnvFlags::empty();
    flags.set(EnvFlags::NO_SYNC, !config.sync);
    flags.set(EnvFlags::NO_READ_AHEAD, config.starved);
    flags.set(EnvFlags::WRITE_MAP, MAPPED);
    // SAFETY: NO_SYNC may leave a damaged file after power loss, and no
    // measurement survives that; with WRITE_MAP nobody writes to the map but LMDB, as
    // long as this program has no stray pointers; the other flag is advice to the kernel.
    unsafe { options.flags(flags) };
    // SAFETY: the file was made by LMDB in a directory of this process, and
    // nothing else writes to it or opens it a second time.
    Ok(unsafe { options.open(path) }?)
}

impl<const MAPPED: bool> Lmdb<MAPPED> {
    fn reads(&mut self) -> Outcome<&RoTxn<'static, WithoutTls>> {
        if self.reads.is_none() {
            self.reads = Some(self.env.clone().static_read_txn()?);
        }
        Ok(self.reads.as_ref().ok_or("the transaction was begun just now")?)
    }
}

impl<const MAPPED: bool> Store for Lmdb<MAPPED> {
    fn open(config: &Config) -> Outcome<Lmdb<MAPPED>> {
        let env = open_env::<MAPPED>(&config.path, config)?;
        let mut transaction = env.write_txn()?;
        let database = env.create_database(&mut transaction, None)?;
        transaction.commit()?;
        Ok(Lmdb { reads: None, env, database, config: config.clone() })
    }

    fn handle(&self) -> Option<Lmdb<MAPPED>> {
        let config = self.config.clone();
        Some(Lmdb { reads: None, env: self.env.clone(), database: self.database, config })
    }

    fn insert(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        self.reads = None;
        let mut transaction = self.env.write_txn()?;
        self.database.put(&mut transaction, key, value)?;
        Ok(transaction.commit()?)
    }

    fn insert_all(&mut self, entries: Entries) -> Outcome {
        self.reads = None;
        let mut transaction = self.env.write_txn()?;
        for (key, value) in entries.iter() {
            self.database.put(&mut transaction, key, value)?;
        }
        Ok(transaction.commit()?)
    }

    fn remove(&mut self, key: &[u8]) -> Outcome {
        self.reads = None;
        let mut transaction = self.env.write_txn()?;
        self.database.delete(&mut transaction, key)?;
        Ok(transaction.commit()?)
    }

    fn remove_all(&mut self, keys: &[Key]) -> Outcome {
        self.reads = None;
        let mut transaction = self.env.write_txn()?;
        for key in keys {
            self.database.delete(&mut transaction, key)?;
        }
        Ok(transaction.commit()?)
    }

    fn get(&mut self, key: &[u8], look: impl FnMut(&[u8])) -> Outcome<bool> {
        let database = self.database;
        let value = database.get(self.reads()?, key)?;
        Ok(value.map(look).is_some())
    }

    fn iterate(&mut self, mut look: impl FnMut(&[u8], &[u8])) -> Outcome {
        let database = self.database;
        for entry in database.iter(self.reads()?)? {
            let (key, value) = entry?;
            look(key, value);
        }
        Ok(())
    }

    fn refresh(&mut self) {
        self.reads = None;
    }

    fn settle(&mut self) -> Outcome {
        Ok(self.env.force_sync()?)
    }

    fn compact(&mut self) -> Outcome<bool> {
        self.reads = None;
        let of = |name: &str| -> PathBuf { self.config.path.join(name) };
        let (file, copy) = (of("data.mdb"), of("copy.mdb"));
        self.env.copy_to_path(&copy, CompactionOption::Enabled)?.sync_all()?;
        // The open environment keeps the old file until it is closed: another
        // takes its place for that time.
        let spare = of("spare");
        std::fs::create_dir(&spare)?;
        let old = std::mem::replace(&mut self.env, open_env::<MAPPED>(&spare, &self.config)?);
        old.prepare_for_closing().wait();
        std::fs::rename(copy, file)?;
        let spare_env =
            std::mem::replace(&mut self.env, open_env::<MAPPED>(&self.config.path, &self.config)?);
        spare_env.prepare_for_closing().wait();
        std::fs::remove_dir_all(spare)?;
        let mut transaction = self.env.write_txn()?;
        self.database = self.env.create_database(&mut transaction, None)?;
        transaction.commit()?;
        Ok(true)
    }

    fn close(mut self) -> Outcome {
        self.reads = None;
        self.env.force_sync()?;
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}
