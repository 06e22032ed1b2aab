//! The shortest useful program: open a store, write, read, close.
//!
//! Run it twice with `cargo run --example hello`: it counts its runs.

use swissdb::{Db, Result};

fn main() -> Result<()> {
    let db = Db::open(std::env::temp_dir().join("hello.swissdb"))?;

    let runs = match db.get("runs")? {
        Some(value) => String::from_utf8_lossy(&value).parse().unwrap_or(0),
        None => 0,
    };
    db.insert("runs", (runs + 1).to_string())?;
    println!("hello for the {}. time from {}", runs + 1, db.path().display());

    // Closing tells whether everything is safe on the disk.
    db.close()
}
