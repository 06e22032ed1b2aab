//! The recipe of the golden store in tests/golden/v1, which tests read and
//! format.md shows byte by byte.
//!
//!     cargo run --example make_golden -- tests/golden/v1
//!
//! Hash key and salts are random, so no two runs make the same bytes: what was
//! made once is kept for as long as the format has its version. A new one is
//! made for a new version, in a directory of its own. Without a directory
//! the store is made in a temporary one, to see that the recipe still works.

use std::path::Path;

use swissdb::Db;

/// One entry for each of the first three ways to lie in a slot.
const ENTRIES: [(&str, &str); 3] = [
    ("apple", "red"),
    (
        "a value of",
        "more than fifty-six bytes is too long for its slot, and so it stays in the log",
    ),
    ("a key that is too long to stand in its slot stays in the log", "though its value does not"),
];

fn make(directory: &Path) -> swissdb::Result<()> {
    let db = Db::open(directory)?;
    for (key, value) in ENTRIES {
        db.insert(key, value)?;
    }
    db.close()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let directory = std::env::args_os().nth(1);
    let directory = directory.as_ref().map_or(temporary.path(), Path::new);
    make(directory)?;
    // It says which process had the store open, and is no part of it.
    std::fs::remove_file(directory.join("LOCK"))?;
    println!("{} was made and holds {} entries", directory.display(), ENTRIES.len());
    Ok(())
}
