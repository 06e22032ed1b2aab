//! Several changes that become one commit.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::record::{Op, OpKind, RECORD_HEADER};
use crate::limits::{MAX_KEY_LENGTH, MAX_VALUE_LENGTH};
use crate::table::Table as TableCore;

/// Changes that are committed together: after a crash all of them are there,
/// or none. Later changes of the same key win.
///
/// A batch owns copies of its keys and values in one buffer; it may be cleared
/// and used again, and written more than once.
///
/// ```
/// let db = swissdb::Db::in_memory()?;
/// let mut batch = swissdb::Batch::new();
/// batch.insert("from", "9")?;
/// batch.insert("to", "1")?;
/// batch.remove("pending")?;
/// db.write(&batch)?;
/// assert_eq!(db.len(), 2);
/// # Ok::<(), swissdb::Error>(())
/// ```
#[derive(Default, Clone)]
pub struct Batch {
    changes: Vec<Change>,
    bytes: Vec<u8>,
}

#[derive(Clone)]
struct Change {
    /// `None` is the default table of whatever store it is written to.
    table: Option<Arc<TableCore>>,
    insert: bool,
    key: Range<usize>,
    value: Range<usize>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Adds an insert into the default table.
    ///
    /// # Errors
    ///
    /// [`Error::KeyTooLong`], [`Error::ValueTooLong`]; the batch is unchanged.
    pub fn insert(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.push(None, true, key.as_ref(), value.as_ref())
    }

    /// Adds a removal from the default table; an absent key is no error.
    ///
    /// # Errors
    ///
    /// [`Error::KeyTooLong`]; the batch is unchanged.
    pub fn remove(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.push(None, false, key.as_ref(), &[])
    }

    /// Adds a change of a table, or of the default one.
    pub(crate) fn push(
        &mut self,
        table: Option<Arc<TableCore>>,
        insert: bool,
        key: &[u8],
        value: &[u8],
    ) -> Result<()> {
        check_lengths(key, value)?;
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        let middle = start + key.len();
        let (key, value) = (start..middle, middle..self.bytes.len());
        self.changes.push(Change { table, insert, key, value });
        Ok(())
    }

    /// The number of changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there are no changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// What the batch takes in the log, in bytes. At most 1 GiB can be written.
    pub fn bytes(&self) -> u64 {
        let header = Op { kind: OpKind::Remove, table: 0, key: &[], value: &[] }.encoded_len();
        RECORD_HEADER as u64 + self.changes.len() as u64 * header + self.bytes.len() as u64
    }

    /// Removes all changes; the memory is kept for new ones.
    pub fn clear(&mut self) {
        self.changes.clear();
        self.bytes.clear();
    }

    /// The changes as operations, each with its table; `default` in the place
    /// of unnamed ones.
    pub(crate) fn ops<'a>(
        &'a self,
        default: &'a Arc<TableCore>,
    ) -> impl Iterator<Item = (&'a Arc<TableCore>, Op<'a>)> {
        self.changes.iter().map(move |change| {
            let table = change.table.as_ref().unwrap_or(default);
            let op = Op {
                kind: if change.insert { OpKind::Insert } else { OpKind::Remove },
                table: table.id,
                key: &self.bytes[change.key.clone()],
                value: &self.bytes[change.value.clone()],
            };
            (table, op)
        })
    }
}

/// Refuses what is too long for any entry.
pub(crate) fn check_lengths(key: &[u8], value: &[u8]) -> Result<()> {
    if key.len() > MAX_KEY_LENGTH {
        return Err(Error::KeyTooLong { length: key.len() });
    }
    if value.len() > MAX_VALUE_LENGTH {
        return Err(Error::ValueTooLong { length: value.len() });
    }
    Ok(())
}
