//! Small stores with everything in them that the format knows.
//!
//! [`closed`] was closed; [`killed`] was killed with records of every kind
//! behind its last checkpoint, some of them durable, in a log of two files.
//! Each comes with what it held after each commit that a reader may come to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use swissdb::storage::memory::Memory;
use swissdb::{Batch, Db, Options, Result, TableOptions};

/// The entries of all tables.
pub use crate::support::State;

/// A store, and what it held.
pub struct Made {
    pub memory: Memory,
    /// What it held after the last durable commit, and after each one later.
    pub states: Vec<State>,
    /// What it holds without its last log file: that this one was there, nothing
    /// else says.
    pub shorter: Option<State>,
}

/// Options under which nothing happens unasked, and little memory is taken.
pub fn options() -> Options {
    Options::new()
        .sync_interval(Duration::from_secs(3600))
        .write_buffer(1 << 20)
        .max_log_file(1 << 20)
}

/// Bytes that this seed gives.
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A store in the making.
struct Making {
    db: Db,
    now: State,
    states: Vec<State>,
}

impl Making {
    fn on(memory: &Memory, now: State) -> Result<Making> {
        let db = options().open_on(Arc::new(memory.clone()))?;
        Ok(Making { db, states: vec![now.clone()], now })
    }

    fn insert(&mut self, table: &str, key: &[u8], value: &[u8]) -> Result<()> {
        self.db.table(table)?.insert(key, value)?;
        self.now.entry(table.into()).or_default().insert(key.into(), value.into());
        self.states.push(self.now.clone());
        Ok(())
    }

    fn remove(&mut self, table: &str, key: &[u8]) -> Result<()> {
        self.db.table(table)?.remove(key)?;
        self.now.entry(table.into()).or_default().remove(key);
        self.states.push(self.now.clone());
        Ok(())
    }

    /// Creating a table is a commit as well.
    fn create(&mut self, table: &str, payload: usize) -> Result<()> {
        self.db.create_table(table, &TableOptions::new().payload(payload))?;
        self.now.entry(table.into()).or_default();
        self.states.push(self.now.clone());
        Ok(())
    }

    fn batch(&mut self) -> Result<()> {
        let mut batch = Batch::new();
        let wide = self.db.table("wide")?;
        for i in 0..6_u8 {
            batch.insert([b'b', i], bytes(i.into(), 10 * usize::from(i)))?;
            batch.insert_into(&wide, [b'b', i], bytes(i.into(), 200 * usize::from(i)))?;
            self.now.entry("default".into()).or_default();
            let value = bytes(i.into(), 10 * usize::from(i));
            self.table("default").insert(vec![b'b', i], value);
            let value = bytes(i.into(), 200 * usize::from(i));
            self.table("wide").insert(vec![b'b', i], value);
        }
        batch.remove(b"key 03")?;
        self.table("default").remove(&b"key 03"[..]);
        self.db.write(&batch)?;
        self.states.push(self.now.clone());
        Ok(())
    }

    fn table(&mut self, name: &str) -> &mut BTreeMap<Vec<u8>, Vec<u8>> {
        self.now.entry(name.into()).or_default()
    }

    /// From here on commits may be lost.
    fn sync(&mut self) -> Result<()> {
        self.db.sync()?;
        self.states = vec![self.now.clone()];
        Ok(())
    }
}

/// Fills the tables of both stores: every kind of entry, tombstones, and one
/// table of several segments.
fn fill(making: &mut Making) -> Result<()> {
    making.create("default", 56)?;
    for i in 0..40 {
        let length = if i % 4 == 0 { 90 } else { 20 };
        making.insert("default", format!("key {i:02}").as_bytes(), &bytes(i, length))?;
    }
    making.insert("default", &bytes(100, 70), &bytes(101, 10))?;
    making.insert("default", &bytes(102, 70), &bytes(103, 80))?;
    making.insert("default", b"", b"")?;
    making.remove("default", b"key 07")?;
    making.create("wide", 504)?;
    for i in 0..130 {
        let length = if i % 8 == 0 { 600 } else { 30 };
        making.insert("wide", format!("wide {i:03}").as_bytes(), &bytes(200 + i, length))?;
    }
    making.insert("wide", &bytes(104, 900), &bytes(105, 5))?;
    making.insert("wide", &bytes(106, 900), &bytes(107, 900))?;
    for i in 40..60 {
        making.remove("wide", format!("wide {i:03}").as_bytes())?;
    }
    Ok(())
}

/// A store that was closed.
pub fn closed() -> Result<Made> {
    let memory = Memory::new();
    let mut making = Making::on(&memory, State::new())?;
    fill(&mut making)?;
    let states = vec![making.now.clone()];
    making.db.close()?;
    Ok(Made { memory, states, shorter: None })
}

/// A store that was killed twice. The log behind L goes on from one file to
/// the next; only the last commits of it may be lost.
pub fn killed() -> Result<Made> {
    let memory = Memory::new();
    let mut making = Making::on(&memory, State::new())?;
    fill(&mut making)?;
    making.db.checkpoint()?;
    making.insert("default", b"behind L", b"one")?;
    making.insert("wide", b"wide 003", &bytes(300, 700))?;
    making.db.sync()?;
    let now = making.now.clone();
    let copy = memory.copy().expect("memory for a copy");
    making.db.close()?;

    let memory = copy;
    let shorter = Some(now.clone());
    let mut making = Making::on(&memory, now)?;
    making.insert("default", b"behind L", &bytes(301, 30))?;
    making.create("doomed", 24)?;
    making.insert("doomed", b"short", b"life")?;
    making.create("new", 120)?;
    making.insert("new", b"k", &bytes(302, 130))?;
    making.batch()?;
    making.db.table("new")?.clear()?;
    making.table("new").clear();
    making.insert("new", b"after", b"clear")?;
    making.db.drop_table("doomed")?;
    making.now.remove("doomed");
    making.sync()?;
    making.remove("default", b"key 05")?;
    making.insert("default", b"key 06", &bytes(303, 400))?;
    making.batch()?;
    making.insert("wide", b"last", b"of all")?;
    let copy = memory.copy().expect("memory for a copy");
    let states = making.states.clone();
    making.db.close()?;
    Ok(Made { memory: copy, states, shorter })
}
