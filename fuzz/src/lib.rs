//! What the fuzz targets share: bases, input, and the look at a damaged store.
//!
//! ```text
//! input   bytes of the fuzzer, taken as numbers
//! bases   small real stores, always the same, that the input changes
//! patch   how the input changes an image
//! check   opening and using a store that may be damaged
//! ```
//!
//! The modules `image`, `recipe`, `directory` and `looking` are those of the
//! tests of the library (tests/rot), compiled once more.

pub mod bases;

pub mod input;
pub mod patch;

#[path = "../../tests/rot/check.rs"]
pub mod check;
#[path = "../../tests/rot/directory.rs"]
pub mod directory;
#[path = "../../tests/support/gate.rs"]
pub mod gate;
#[path = "../../tests/rot/image.rs"]
pub mod image;
#[path = "../../tests/rot/looking.rs"]
pub mod looking;
#[path = "../../tests/rot/recipe.rs"]
pub mod recipe;
