//! A commit that depends on what is there: compare, and then insert or remove.
//!
//! The comparison is an ordinary lookup, made with the writer lock held: nobody
//! else can write between it and the commit. Callers' functions do not run
//! here, where they could wait for the lock that they hold; [`Store::update`]
//! reads, asks and compares, and begins anew if somebody else was faster.
//!
//! An answer without a commit of its own still says something of the store: that a
//! value is there, or is not. It comes from commits of others, which can be seen
//! before they are durable. So with `Durability::Sync` it waits for those.

use crate::error::Result;
use crate::format::record::{Op, OpKind, RECORD_HEADER};
use crate::table::Table;

use super::Store;
use super::commit::{Purpose, no_table};

impl Store {
    /// Gives a key the value `new`, or removes it, if its value is `expected`;
    /// says whether it was.
    pub(crate) fn compare_and_swap(
        &self,
        table: &Table,
        key: &[u8],
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool> {
        let (was_expected, commit) = self.swap(table, key, expected, new)?;
        self.make_durable(commit).map(|()| was_expected)
    }

    /// The same; what the answer depends on is the commit that is returned, with
    /// all before it. It need not be durable yet.
    fn swap(
        &self,
        table: &Table,
        key: &[u8],
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<(bool, u64)> {
        let value = new.unwrap_or_default();
        crate::batch::check_lengths(key, value)?;
        let (kind, purpose) = match new {
            Some(_) => (OpKind::Insert, Purpose::Write),
            None => (OpKind::Remove, Purpose::Remove),
        };
        let op = Op { kind, table: table.id, key, value };
        let bytes = RECORD_HEADER as u64 + op.encoded_len();
        let aim = table.aim(key);
        self.commit(bytes, purpose, |core| {
            let Some((writer, _)) = core.writer_mut(op.table) else {
                return Err(no_table(table));
            };
            let hash = writer.hash_of_aim(aim, key);
            let found = self.look(table, key, |value| expected == Some(value))?;
            if !found.unwrap_or(expected.is_none()) {
                return Ok((false, self.log.appended()));
            }
            let commit = match kind {
                OpKind::Insert => Some(self.insert_slowly(core, hash, &op)?),
                _ => self.remove_slowly(core, hash, &op)?,
            };
            Ok((true, commit.unwrap_or_else(|| self.log.appended())))
        })
    }

    /// Gives a key the value that a function makes of its value, or removes it;
    /// returns what the function gave last.
    pub(crate) fn update<V: AsRef<[u8]>>(
        &self,
        table: &Table,
        key: &[u8],
        mut change: impl FnMut(Option<&[u8]>) -> Option<V>,
    ) -> Result<Option<V>> {
        loop {
            let old = self.get(table, key)?;
            let old = old.as_deref();
            let new = change(old);
            let value = new.as_ref().map(V::as_ref);
            // What would change nothing is not written, but waited for.
            if value == old {
                return self.make_seen_durable().map(|()| new);
            }
            let (swapped, commit) = self.swap(table, key, old, value)?;
            if swapped {
                return self.make_durable(commit).map(|()| new);
            }
        }
    }
}
