//! One entry, from one slot payload to another.
//!
//! Key and value of an entry lie one behind the other in the record that
//! brought it, also where its slot has a copy of one or both. So whatever part
//! of an entry is to be found in the log from now on has its place there
//! already, if any part of it was found there before:
//!
//! ```text
//! record    ... | op header | key | value | ...
//!                             ^ key_at
//! address   of the value      offset = key_at + key length
//!           of the key        offset = key_at
//!           of both           offset = key_at
//! ```
//!
//! | before | now | what is done |
//! |---|---|---|
//! | in the slot | in the slot | the slot is copied |
//! | a part in the log | the same part | the slot is copied; the log is not read |
//! | a part in the log | another part, or nothing | the log is read and checked; slot and address are made anew |
//! | in the slot | a part in the log | it is logged, as an insert |
//!
//! # Nothing rotten is made sound
//!
//! A checksum covers the part that an address points to, and nothing else. If
//! another part is in the log from now on, a new checksum is needed, and it is
//! always that of the bytes as they were *written*, never just of those that
//! are there now:
//!
//! * If what was read holds its checksum, key and value are both known. The
//!   new checksum is computed from them, and what lies at the new place must
//!   hold it. If it does not (the record's copy of a key that also stood in the
//!   slot may have rotted unseen), the entry is logged anew: nothing is lost.
//! * If it does not hold its checksum, the entry keeps the address it had, if
//!   the new slot has room for it. If not, it becomes an address of key and
//!   value together; their checksum follows from the one in the address and the
//!   bytes that stand in the slot, since checksums of two parts can be combined
//!   without the bytes. So the damage stays what it was: an error when the value
//!   is read, and none if the device should return the right bytes after all.
//!
//! An entry of the second kind may now be laid out in another way than its
//! lengths demand, in a slot that it would fit. Readers see no difference, and
//! writing it again mends it. `verify` says so (I9), as it said before that its
//! bytes are damaged (I15).

use crate::error::{Corruption, Error, Result};
use crate::format::group::{Address, Geometry, Lengths, MAX_SLOT_WORDS, Shape};
use crate::store::LogBytes;
use crate::table::Spilled;
use crate::table::segment::Content;
use crate::table::write::{spilled_crc, spilled_part};

use super::segment::{Old, address};

/// Lays entries out for another slot payload.
pub(super) struct Converter<'s> {
    pub(super) geometry: Geometry,
    pub(super) log: &'s LogBytes<'s>,
}

/// What becomes of an entry.
pub(super) enum Outcome<'s> {
    /// This stands in its new slot.
    Placed(NewSlot),
    /// So does this, but what it points to is damaged.
    Damaged(NewSlot, Box<Corruption>),
    /// It has to be logged, because no part of it can be found in the log.
    Logged { key: &'s [u8], value: &'s [u8] },
}

/// What stands in a new slot.
pub(super) struct NewSlot {
    pub(super) lengths: Lengths,
    /// As many bytes as the slot payload.
    pub(super) bytes: Vec<u8>,
}

impl<'s> Converter<'s> {
    /// Lays an entry out anew.
    ///
    /// # Errors
    ///
    /// Those of the log that are not damage.
    pub(super) fn convert(&self, old: &Old<'s>) -> Result<Outcome<'s>> {
        let (key_len, value_len) = (old.lengths.key_len(), old.value_len);
        let shape = self.geometry.shape(key_len, value_len);
        if Lengths::of(shape, key_len, value_len) == old.lengths {
            return Ok(Outcome::Placed(self.copy(old)));
        }
        if !old.lengths.spilled() {
            let (key, value) = old.slot[..key_len + value_len].split_at(key_len);
            return Ok(Outcome::Logged { key, value });
        }
        match self.log.checked(&address(old.lengths, old.slot)) {
            Ok(bytes) => Ok(self.move_part(old, bytes, shape)),
            Err(Error::Corrupt(damage)) => Ok(Outcome::Damaged(self.keep(old), damage)),
            Err(error) => Err(error),
        }
    }

    /// The slot of an entry that was logged at that place.
    pub(super) fn lay_out(
        &self,
        hash: u64,
        key: &[u8],
        value: &[u8],
        file: u32,
        key_at: u32,
    ) -> NewSlot {
        let shape = self.geometry.shape(key.len(), value.len());
        let lengths = Lengths::of(shape, key.len(), value.len());
        let part = spilled_part(shape, key.len(), value.len());
        let address = part.map(|(start, len)| Address {
            hash,
            len: len as u32,
            crc: spilled_crc(shape, key, value),
            file,
            offset: key_at.wrapping_add(start as u32),
        });
        let content = Content::<MAX_SLOT_WORDS>::new(lengths, key, value, address);
        let words = &content.words[..self.geometry.slot_words];
        let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        NewSlot { lengths: content.lengths, bytes }
    }

    /// What stands in the old slot, in one of another size that has room.
    fn copy(&self, old: &Old<'_>) -> NewSlot {
        let mut bytes = old.slot.to_vec();
        debug_assert!(bytes.iter().skip(self.geometry.payload()).all(|byte| *byte == 0));
        bytes.resize(self.geometry.payload(), 0);
        NewSlot { lengths: old.lengths, bytes }
    }

    /// Another part of the entry, or none, is to be found in the log. `bytes`
    /// is what is found there now, and sound.
    fn move_part(&self, old: &Old<'s>, bytes: &'s [u8], shape: Shape) -> Outcome<'s> {
        let key_len = old.lengths.key_len();
        let (key, value) = match (old.lengths.key_spilled(), old.lengths.value_spilled()) {
            (false, _) => (&old.slot[..key_len], bytes),
            (true, true) => bytes.split_at(key_len.min(bytes.len())),
            (true, false) => {
                let start = old.lengths.value_start();
                (bytes, &old.slot[start..start + old.value_len])
            }
        };
        let file = address(old.lengths, old.slot).file;
        let slot = self.lay_out(old.hash, key, value, file, key_at(old));
        let sound =
            shape == Shape::Inline || self.log.checked(&address(slot.lengths, &slot.bytes)).is_ok();
        if sound { Outcome::Placed(slot) } else { Outcome::Logged { key, value } }
    }

    /// What is left of an entry whose part in the log is damaged.
    fn keep(&self, old: &Old<'_>) -> NewSlot {
        if old.lengths.fit(&self.geometry) {
            return self.copy(old);
        }
        let (key_len, value_len) = (old.lengths.key_len(), old.value_len);
        let before = address(old.lengths, old.slot);
        // The old layout needs more than an address: one of the two stood in
        // the slot.
        let crc = if old.lengths.key_spilled() {
            let start = old.lengths.value_start();
            let value = crc32fast::hash(&old.slot[start..start + value_len]);
            combined_crc(before.crc, value, value_len)
        } else {
            combined_crc(crc32fast::hash(&old.slot[..key_len]), before.crc, value_len)
        };
        let len = (key_len + value_len) as u32;
        let both = Address { len, crc, offset: key_at(old), ..before };
        let mut bytes: Vec<u8> = both.to_words().iter().flat_map(|w| w.to_le_bytes()).collect();
        bytes.resize(self.geometry.payload(), 0);
        NewSlot { lengths: Lengths::of(Shape::BothSpilled, key_len, value_len), bytes }
    }
}

/// Where the key of a spilled entry begins in the log. For an address that
/// cannot be, a place where nothing is found.
fn key_at(old: &Old<'_>) -> u32 {
    let address = address(old.lengths, old.slot);
    let key_len = old.lengths.key_len() as u32;
    let before = if old.lengths.key_spilled() { 0 } else { key_len };
    address.offset.saturating_sub(before)
}

/// The checksum of two parts, one behind the other, from those of each.
fn combined_crc(first: u32, second: u32, second_len: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(first);
    hasher.combine(&crc32fast::Hasher::new_with_initial_len(second, second_len as u64));
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::combined_crc;

    #[test]
    fn checksums_of_parts_give_that_of_the_whole() {
        let bytes: Vec<u8> = (0..3000u32).map(|i| (i * 7) as u8).collect();
        for middle in [0, 1, 8, 100, 2999, 3000] {
            let [first, second] = [&bytes[..middle], &bytes[middle..]].map(crc32fast::hash);
            assert_eq!(combined_crc(first, second, 3000 - middle), crc32fast::hash(&bytes));
        }
    }
}
