//! The log over a storage in memory: what is appended is read back, and what
//! is torn, lost, damaged or left over is told apart.
//!
//! Every test works on a store of its own. A crash is a copy of the memory
//! taken while the log is open; damage is written into the copy. The modules
//! below hold the tests by deed; this one holds what they share.

mod appending;
mod calling;
mod closing;
mod ends;
mod faulty;
mod gaps;
mod power;
mod preparing;
mod rotating;
mod small;
mod space;
mod syncing;
mod walking;
mod zeros;

use std::sync::Arc;

use super::scan::End;
use super::*;
use crate::format::record::{Op, OpKind, Position, log_file_name};
use crate::storage::memory::Memory;
use crate::storage::{Access, File, Storage};

pub(super) const OPTIONS: LogOptions =
    LogOptions { max_file: 4 << 20, read_only: false, append_by_call: false };

/// A log that is open for writing.
pub(super) struct Open {
    pub(super) log: Arc<Log>,
    pub(super) appender: Appender,
}

impl Open {
    /// A new log.
    pub(super) fn create(storage: impl Storage) -> Open {
        Open::create_with(storage, OPTIONS)
    }

    /// A new log with these options.
    pub(super) fn create_with(storage: impl Storage, options: LogOptions) -> Open {
        let poison = Arc::new(Poison::new());
        let (log, appender) = Log::create(Arc::new(storage), options, poison).unwrap();
        Open { log, appender }
    }

    /// Opens a log as after a crash: scan, rewrite, go on behind the end.
    pub(super) fn recover(storage: impl Storage, from: Position) -> Result<(Open, End)> {
        let log = open(storage)?;
        let end = log.scan(from)?;
        log.rewrite(from, end.position)?;
        let appender = log.appender(end.position, false)?;
        Ok((Open { log, appender }, end))
    }

    /// Opens a log as after a clean close.
    pub(super) fn reopen(storage: impl Storage, at: Position) -> Result<Open> {
        let log = open(storage)?;
        let appender = log.appender(at, true)?;
        Ok(Open { log, appender })
    }

    /// Appends operations, waiting for room as a store would.
    pub(super) fn append(&mut self, ops: &[Op<'_>]) -> Result<Placed> {
        let bytes = 24 + ops.iter().map(Op::encoded_len).sum::<u64>();
        while self.appender.reserve(bytes, false)? == Room::Wait {
            self.log.wait_for_file(bytes, false)?;
        }
        self.appender.append(ops)
    }

    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Placed {
        self.append(&[insert(key, value)]).unwrap()
    }

    /// Appends that many records with a value of that length.
    pub(super) fn fill(&mut self, records: usize, length: usize) {
        for _ in 0..records {
            let key = self.log.appended().to_string();
            self.put(key.as_bytes(), &vec![b'v'; length]);
        }
    }

    /// Does what the keepers do ahead of need.
    pub(super) fn prepare_ahead(&self) {
        self.log.prepare_ahead().unwrap();
        self.log.fill_ready().unwrap();
        self.log.fill_reserve_ahead().unwrap();
    }

    /// Ends the active file without a record; the next one is small.
    pub(super) fn end_file(&mut self) {
        self.log.prepare_small().unwrap();
        assert!(self.appender.rotate().unwrap());
    }

    /// Makes a next file active whatever room there is.
    pub(super) fn rotate(&mut self) {
        let file = self.appender.position().file;
        while self.appender.position().file == file {
            self.fill(1, 100_000);
        }
    }
}

pub(super) fn open(storage: impl Storage) -> Result<Arc<Log>> {
    Log::open(Arc::new(storage), OPTIONS, Arc::new(Poison::new()))
}

pub(super) fn insert<'a>(key: &'a [u8], value: &'a [u8]) -> Op<'a> {
    Op { kind: OpKind::Insert, table: 0, key, value }
}

/// The keys and values between two positions.
pub(super) fn contents(log: &Log, from: Position, to: Position) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    log.replay(from, to, &mut |record| {
        for op in record.ops.clone() {
            let (op, _) = op.unwrap();
            all.push((op.key.to_vec(), op.value.to_vec()));
        }
        Ok(())
    })
    .unwrap();
    all
}

/// A file of the log, to be looked at or damaged.
pub(super) struct Raw(Arc<dyn File>);

impl Raw {
    pub(super) fn of(storage: &impl Storage, number: u32) -> Raw {
        Raw(storage.open(&log_file_name(number), Access::Write).unwrap())
    }

    pub(super) fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_at(&mut bytes, offset).unwrap();
        bytes
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8]) {
        self.0.write_at(bytes, offset).unwrap();
    }

    pub(super) fn flip(&self, offset: u64) {
        let byte = self.read(offset, 1)[0];
        self.write(offset, &[byte ^ 1]);
    }
}

/// Asserts that a result is damage, and that its text names what is given.
#[track_caller]
pub(super) fn assert_corrupt<T>(result: Result<T>, words: &str) {
    match result {
        Err(error @ Error::Corrupt(_)) => {
            let text = error.to_string();
            assert!(text.contains(words), "{text:?} should contain {words:?}");
        }
        Err(error) => panic!("should be corrupt: {error}"),
        Ok(_) => panic!("should be corrupt, but is fine"),
    }
}
