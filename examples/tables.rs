//! Several tables in one store, each laid out for its entries.
//!
//! `cargo run --example tables` keeps words in one table and an index of them
//! in another, and changes both in one atomic batch.

use swissdb::{Batch, Db, HashKind, Result, TableOptions};

fn main() -> Result<()> {
    let db = Db::in_memory()?;
    // Small numbers as keys that nobody chooses: small slots, the fast hash.
    let options = TableOptions::new().payload(24).hash(HashKind::Fast);
    let words = db.create_table("words", &options)?;
    let index = db.table("index")?;

    for (number, word) in (0u32..).zip(["to", "be", "or", "not"]) {
        let mut batch = Batch::new();
        batch.insert_into(&words, number.to_le_bytes(), word)?;
        batch.insert_into(&index, word, number.to_le_bytes())?;
        db.write(&batch)?;
    }

    let number = index.get("or")?.expect("it was just written");
    let word = words.get(&number)?.expect("its partner too");
    println!("{} is a word of {}", String::from_utf8_lossy(&word), words.len());
    println!("tables: {}", db.tables()?.join(", "));

    db.drop_table("index")?;
    Ok(())
}
