//! Bytes that a read returns.
//!
//! A value that fits a default slot stays in the words that were copied out of it, in
//! place; a longer one is a piece of the heap. So most gets allocate nothing. It
//! does not know where the bytes come from, and keeps nothing of the store: it
//! may outlive it, and be sent to any thread.

use std::fmt;
use std::ops::Deref;

/// Words that are kept inside a [`Value`] itself: a default slot.
const INLINE_WORDS: usize = 7;
/// The same in bytes.
const INLINE: usize = INLINE_WORDS * 8;

/// The bytes of a value or a key, a copy that is the caller's own.
///
/// Up to 56 bytes are kept in place, without an allocation; a [`Value`] is one
/// cache line. It derefs to a byte slice.
///
/// ```
/// let db = swissdb::Db::in_memory()?;
/// db.insert("answer", "42")?;
/// let value = db.get("answer")?.unwrap();
/// assert_eq!(&*value, b"42");
/// assert_eq!(value, *b"42");
/// # Ok::<(), swissdb::Error>(())
/// ```
#[derive(Clone)]
pub struct Value(Repr);

#[derive(Clone)]
enum Repr {
    /// A stretch of these bytes: where a slot was copied whole, its value
    /// stays where it stood.
    Inline {
        words: [u64; INLINE_WORDS],
        start: u8,
        len: u8,
    },
    Heap(Box<[u8]>),
}

const _: () = assert!(size_of::<Value>() == 64);

impl Value {
    /// Copies bytes.
    #[inline]
    pub(crate) fn new(bytes: &[u8]) -> Value {
        if bytes.len() <= INLINE {
            let mut words = [0; INLINE_WORDS];
            bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
            Value(Repr::Inline { words, start: 0, len: bytes.len() as u8 })
        } else {
            Value(Repr::Heap(bytes.into()))
        }
    }

    /// Takes bytes out of words that were copied whole, as they are in memory.
    /// The range must lie in them.
    #[inline]
    pub(crate) fn from_words(words: [u64; INLINE_WORDS], start: usize, len: usize) -> Value {
        debug_assert!(start + len <= INLINE);
        Value(Repr::Inline { words, start: start as u8, len: len as u8 })
    }

    /// Copies the first `len` bytes of a longer run: without looking at the
    /// length, if there are enough bytes behind.
    #[inline]
    pub(crate) fn from_start(bytes: &[u8], len: usize) -> Value {
        match bytes.first_chunk::<INLINE>() {
            Some(inline) if len <= INLINE => {
                let mut words = [0; INLINE_WORDS];
                bytemuck::cast_slice_mut(&mut words).copy_from_slice(inline);
                Value(Repr::Inline { words, start: 0, len: len as u8 })
            }
            _ => Value::new(&bytes[..len]),
        }
    }

    /// The bytes as a vector; no copy if they are more than 56.
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Repr::Inline { .. } => self.to_vec(),
            Repr::Heap(bytes) => bytes.into_vec(),
        }
    }
}

impl Deref for Value {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { words, start, len } => {
                let bytes: &[u8] = bytemuck::cast_slice(words);
                &bytes[usize::from(*start)..][..usize::from(*len)]
            }
            Repr::Heap(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Value> for Vec<u8> {
    fn from(value: Value) -> Vec<u8> {
        value.into_vec()
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Value {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Value) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Value) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

impl std::hash::Hash for Value {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_bytes_come_back() {
        for len in [0, 1, INLINE - 1, INLINE, INLINE + 1, 5_000] {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let value = Value::new(&bytes);
            assert_eq!(value, bytes);
            assert_eq!(value.clone().into_vec(), bytes);
            let longer = [&bytes[..], &[7; 100]].concat();
            assert_eq!(Value::from_start(&longer, len), value);
            assert_eq!(Value::from_start(&bytes, len), value);
        }
    }
}
