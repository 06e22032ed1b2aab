//! Several changes that become one commit.
//!
//! A [`Batch`] has the bytes of the operations as the record will have them, and a
//! list of where each begins; so writing it copies them once. What can be known of
//! a change without a store, its lengths, is checked when it is added. It knows the
//! tables that it names, and nothing of locks or of the log: writing is in
//! `store::batch`. It belongs to one thread at a time, and may be sent to another.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::record::{OP_HEADER, Op, OpKind, RECORD_HEADER};
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
    /// The operations, one behind the other, as the record will have them.
    bytes: Vec<u8>,
    inserts: usize,
}

#[derive(Clone)]
struct Change {
    /// `None` is the default table of whatever store it is written to.
    table: Option<Arc<TableCore>>,
    /// Where its operation begins.
    start: usize,
    value: u32,
    key: u16,
    insert: bool,
}

/// The default table has this id in every store.
const DEFAULT_ID: u16 = 0;

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
        let id = table.as_ref().map_or(DEFAULT_ID, |table| table.id);
        let kind = if insert { OpKind::Insert } else { OpKind::Remove };
        let op = Op { kind, table: id, key, value };
        let start = self.bytes.len();
        self.bytes.reserve(op.encoded_len() as usize);
        self.bytes.extend_from_slice(&op.encode_header());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        let (key, value) = (key.len() as u16, value.len() as u32);
        self.changes.push(Change { table, start, value, key, insert });
        self.inserts += usize::from(insert);
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

    /// What the batch takes in the log, in bytes. At most 1 GiB can be written,
    /// and the pages that it changes have to fit twice the
    /// [write buffer](crate::Options::write_buffer): with keys in no order up to one
    /// page of 4 KiB for each change.
    pub fn bytes(&self) -> u64 {
        (RECORD_HEADER + self.bytes.len()) as u64
    }

    /// Removes all changes; the memory is kept for new ones.
    pub fn clear(&mut self) {
        self.changes.clear();
        self.bytes.clear();
        self.inserts = 0;
    }

    /// Whether it has no inserts.
    pub(crate) fn only_removes(&self) -> bool {
        self.inserts == 0
    }

    /// The operations as a record has them.
    pub(crate) fn operations(&self) -> &[u8] {
        &self.bytes
    }

    /// Where in the operations that of a change begins.
    #[inline]
    pub(crate) fn start(&self, change: usize) -> usize {
        self.changes[change].start
    }

    /// The table of a change, `None` for the default one.
    #[inline]
    pub(crate) fn table(&self, change: usize) -> Option<&Arc<TableCore>> {
        self.changes[change].table.as_ref()
    }

    /// Whether a change is an insert.
    #[inline]
    pub(crate) fn is_insert(&self, change: usize) -> bool {
        self.changes[change].insert
    }

    /// A change as an operation.
    #[inline]
    pub(crate) fn op(&self, change: usize) -> Op<'_> {
        let Change { table, start, value, key, insert } = &self.changes[change];
        let bytes = &self.bytes[start + OP_HEADER..];
        let (key, rest) = bytes.split_at(usize::from(*key));
        Op {
            kind: if *insert { OpKind::Insert } else { OpKind::Remove },
            table: table.as_ref().map_or(DEFAULT_ID, |table| table.id),
            key,
            value: &rest[..*value as usize],
        }
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (changes, bytes) = (self.changes.len(), self.bytes.len());
        write!(f, "Batch({changes} changes, {bytes} bytes)")
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
