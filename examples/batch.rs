//! Several changes that belong together, as one commit.
//!
//! `cargo run --example batch` moves money between two accounts. A crash or a
//! power loss at any moment leaves both balances changed or neither. Only one
//! thread moves any: several would need a lock around `transfer`, which reads
//! both balances before it writes them.

use swissdb::{Batch, Db, Result};

fn main() -> Result<()> {
    let db = Db::in_memory()?;
    db.insert("account/ada", 100u64.to_le_bytes())?;
    db.insert("account/charles", 20u64.to_le_bytes())?;

    transfer(&db, "account/ada", "account/charles", 30)?;

    for entry in db.iter() {
        let (key, value) = entry?;
        println!("{}: {}", String::from_utf8_lossy(&key), number(&value));
    }
    Ok(())
}

fn transfer(db: &Db, from: &str, to: &str, amount: u64) -> Result<()> {
    let Some(rest) = balance(db, from)?.checked_sub(amount) else {
        println!("{from} has less than {amount}");
        return Ok(());
    };
    // Of two changes of one key the later one wins: it would make money.
    if from == to {
        return Ok(());
    }
    let Some(sum) = balance(db, to)?.checked_add(amount) else {
        println!("{to} would have more than can be counted");
        return Ok(());
    };
    let mut batch = Batch::new();
    batch.insert(from, rest.to_le_bytes())?;
    batch.insert(to, sum.to_le_bytes())?;
    db.write(&batch)?;
    // Wait until it survives power loss; a killed process loses nothing anyway.
    db.sync()
}

fn balance(db: &Db, account: &str) -> Result<u64> {
    Ok(db.get(account)?.map_or(0, |value| number(&value)))
}

fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}
