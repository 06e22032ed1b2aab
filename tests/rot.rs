//! Every field of a store, damaged on purpose.
//!
//! Goal: whatever rots, the answer is right or `Error::Corrupt` with file and
//! offset; never a panic, a hang, an allocation by an unchecked length, or
//! wrong data; and what was not hit stays readable. Method: two small stores
//! hold everything that the format knows ([`recipe`]). `inspect` says which
//! fields their files consist of; each is changed, one after the other, and the
//! store is opened for reading, now and then for writing and in a directory,
//! and compared with what it held ([`judge`]). `crafted` does the same with
//! checksums made right again, where the answer may be anything but trouble.
//!
//! The short form takes every kind of field in every way once, and a random
//! part of the rest, by a printed seed. `SWISSDB_LONG=1` takes everything.

#[path = "rot/activation.rs"]
mod activation;
#[path = "rot/allocations.rs"]
pub mod allocations;
#[path = "rot/check.rs"]
mod check;
#[path = "rot/crafted.rs"]
mod crafted;
#[path = "rot/directory.rs"]
mod directory;
#[path = "rot/fields.rs"]
mod fields;
#[path = "rot/image.rs"]
mod image;
#[path = "rot/judge.rs"]
mod judge;
#[path = "rot/looking.rs"]
pub mod looking;
#[path = "rot/named.rs"]
mod named;
#[path = "rot/recipe.rs"]
mod recipe;
#[path = "rot/whole.rs"]
mod whole;

use crate::power::long;
