//! Iteration that can be left, stored and resumed, as a whole or in parts.
//!
//! A [`Scan`] goes through the entries in the order of their hashes. So its
//! place is one number, the hash of the entry that comes next, and stays right
//! whatever happens to the table in between: entries keep their hashes when
//! segments grow, split and merge, and when the store is opened again. Only
//! clearing the table takes another hash key. A [`Cursor`] therefore carries
//! what the key makes of a constant, which also tells the tables of a store,
//! and stores, apart.
//!
//! ```text
//! cursor   flags u8 (1 mark, 2 place, 4 end) | 3 zero bytes | crc u32 of the rest
//!          | mark u64 | place u64 | end u64; what a flag denies is zero
//! ```

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::iter::Iter;
use crate::table::Table;
use crate::value::Value;

/// The bytes of a stored cursor.
const BYTES: usize = 32;

/// The parts of a table at most: more than any machine has threads for, and few
/// enough to have in memory.
const MAX_PARTS: usize = 1 << 16;

/// A place in a [`Scan`], to go on from later: a few bytes that a program may
/// store ([`Cursor::to_bytes`]).
///
/// It stays good while entries are inserted and removed, after the store was
/// closed and opened, killed or compacted. It belongs to one table, and loses
/// its meaning when that is cleared: [`Db::iter_from`](crate::Db::iter_from) then
/// refuses it. The default is the beginning of any table.
///
/// ```
/// use swissdb::Cursor;
///
/// let db = swissdb::Db::in_memory()?;
/// for i in 0..1000u32 {
///     db.insert(i.to_be_bytes(), "x")?;
/// }
/// // A page of entries at a time, each in a call of its own.
/// let mut stored = Cursor::start().to_bytes();
/// let mut seen = 0;
/// loop {
///     let mut scan = db.iter_from(Cursor::from_bytes(&stored)?)?;
///     let page: Vec<_> = scan.by_ref().take(100).collect::<Result<_, _>>()?;
///     if page.is_empty() {
///         break;
///     }
///     seen += page.len();
///     stored = scan.cursor().to_bytes();
/// }
/// assert_eq!(seen, 1000);
/// # Ok::<(), swissdb::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Cursor {
    /// Of the hash key that the place belongs to; none at the beginning.
    mark: Option<u64>,
    /// The hash where it goes on; none at the end.
    place: Option<u64>,
    /// The hash where it ends, if not at the end of all.
    end: Option<u64>,
}

impl Cursor {
    /// The beginning of any table.
    pub fn start() -> Cursor {
        Cursor::default()
    }

    /// Whether nothing comes any more.
    pub fn is_at_end(&self) -> bool {
        self.mark.is_some() && self.place.is_none()
    }

    /// The cursor as bytes to be stored.
    pub fn to_bytes(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let fields = [self.mark, self.place, self.end];
        for (i, field) in fields.into_iter().enumerate() {
            bytes[0] |= u8::from(field.is_some()) << i;
            bytes[8 * (i + 1)..][..8].copy_from_slice(&field.unwrap_or(0).to_le_bytes());
        }
        let crc = checksum(&bytes).to_le_bytes();
        bytes[4..8].copy_from_slice(&crc);
        bytes
    }

    /// The cursor that was stored as these bytes.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if they are not what [`Cursor::to_bytes`]
    /// gave.
    pub fn from_bytes(bytes: &[u8]) -> Result<Cursor> {
        let refused = || Error::invalid("these bytes are no cursor; begin with Cursor::start()");
        let bytes: &[u8; BYTES] = bytes.try_into().map_err(|_| refused())?;
        let (words, _) = bytes.as_chunks::<8>();
        let [mark, place, end] = std::array::from_fn(|i| {
            let value = u64::from_le_bytes(words[i + 1]);
            (bytes[0] >> i & 1 == 1).then_some(value)
        });
        let cursor = Cursor { mark, place, end };
        match cursor.to_bytes() == *bytes {
            true => Ok(cursor),
            false => Err(refused()),
        }
    }
}

/// The checksum of a stored cursor, its own four bytes left out.
fn checksum(bytes: &[u8; BYTES]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..4]);
    hasher.update(&bytes[8..]);
    hasher.finalize()
}

/// An iterator that says where it stands, over all entries of a table or a part
/// of them; see [`Db::iter_from`](crate::Db::iter_from) and
/// [`Db::scan_partitions`](crate::Db::scan_partitions).
///
/// Items and guarantees are those of [`Iter`]; they hold from the beginning to
/// the end of a scan, however often it is resumed in between. An entry costs
/// some more than with [`Iter`], because those of a segment are put in the order
/// of their hashes. A scan keeps the store open, as [`Iter`] does; the [`Cursor`] that
/// it gives does not.
#[must_use = "iterators read nothing until they are asked"]
pub struct Scan {
    iter: Iter,
    mark: u64,
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scan({:?})", self.iter)
    }
}

impl Scan {
    /// Goes on from a cursor.
    pub(crate) fn resume(handle: Arc<Handle>, table: Arc<Table>, cursor: Cursor) -> Result<Scan> {
        let (clears, mark) = table.identity();
        let place = match cursor.mark {
            None => Some(0),
            Some(seen) if seen == mark => cursor.place,
            Some(_) => {
                return Err(Error::invalid(
                    "the cursor is of another table, or the table was cleared since; begin with \
                     Cursor::start()",
                ));
            }
        };
        Ok(Scan { iter: Iter::over(handle, table, clears, place, cursor.end, true), mark })
    }

    /// Parts of a table of about the same size, which together are all of it: as
    /// many as wanted, at least one and at most [`MAX_PARTS`].
    pub(crate) fn parts(handle: &Arc<Handle>, table: &Arc<Table>, parts: usize) -> Vec<Scan> {
        let (clears, mark) = table.identity();
        let parts = parts.clamp(1, MAX_PARTS) as u128;
        let bound = |i: u128| u64::try_from((i << 64) / parts).ok();
        let part = |i: u128| {
            let (handle, table) = (handle.clone(), table.clone());
            Scan { iter: Iter::over(handle, table, clears, bound(i), bound(i + 1), true), mark }
        };
        (0..parts).map(part).collect()
    }

    /// Where it stands: [`Db::iter_from`](crate::Db::iter_from) goes on with the
    /// entry that would come next here, to the same end. Costs nothing.
    pub fn cursor(&self) -> Cursor {
        Cursor { mark: Some(self.mark), place: self.iter.place(), end: self.iter.until() }
    }
}

impl Scan {
    /// The next entry, lent; see [`Iter::next_ref`].
    pub fn next_ref(&mut self) -> Option<Result<(&[u8], &[u8])>> {
        self.iter.next_ref()
    }
}

impl Iterator for Scan {
    type Item = Result<(Value, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.iter.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_survive_their_bytes_and_no_other_bytes_are_cursors() {
        for fields in 0..8u8 {
            let field = |i: u8, value: u64| (fields >> i & 1 == 1).then_some(value);
            let cursor = Cursor { mark: field(0, 7), place: field(1, 0), end: field(2, u64::MAX) };
            let bytes = cursor.to_bytes();
            assert_eq!(Cursor::from_bytes(&bytes).unwrap(), cursor);
            for bit in 0..BYTES * 8 {
                let mut other = bytes;
                other[bit / 8] ^= 1 << (bit % 8);
                let refused = Cursor::from_bytes(&other);
                assert!(matches!(refused, Err(Error::InvalidArgument { .. })), "bit {bit}");
            }
            assert!(Cursor::from_bytes(&bytes[1..]).is_err());
            assert!(Cursor::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        }
        assert!(Cursor::from_bytes(&[]).is_err());
    }
}
