//! swissdb in a program that uses tokio.
//!
//! `cargo run -p swissdb-example-tokio` takes orders from many clients at once.
//! It is a package of its own so that nobody who builds the library builds tokio.
//!
//! # What may wait, and what does not
//!
//! A thread of the runtime must not wait: the tasks that are its turn to run
//! would wait with it.
//!
//! * **Reads of hot data** go directly: `db.get` takes no lock, and makes no
//!   system call as long as what it reads is in memory. That takes less time than
//!   handing it to another thread.
//! * **Writes** go through [`spawn_blocking`]. Most take a microsecond, but one
//!   may wait for a checkpoint, for the next log file, and with
//!   `Durability::Sync` each waits for the disk. The threads of the blocking pool
//!   share syncs: the more of them write, the more commits each sync covers.
//! * **Reads of cold data**, and whatever reads much (iteration, `verify`,
//!   `survey`), wait for the disk as well: `spawn_blocking`.
//! * `sync`, `checkpoint`, `compact`, opening and closing: the same.
//!
//! Many small writes that need not be acknowledged one by one are better put
//! into one `Batch`, written by one `spawn_blocking`.

use std::error::Error;

use swissdb::{Db, Durability, Options};
use tokio::runtime::Builder;
use tokio::task::spawn_blocking;

/// An error that tasks can hand over.
type Failure = Box<dyn Error + Send + Sync>;

/// Clients that order at the same time.
const CLIENTS: u32 = 16;
/// What each of them orders.
const ORDERS: u32 = 20;

fn main() -> Result<(), Failure> {
    let path = std::env::temp_dir().join(format!("swissdb-tokio-{}", std::process::id()));
    // Before the runtime is there nobody is kept waiting.
    let db = Options::new().durability(Durability::Sync).open(&path)?;
    // Each write that waits for the disk takes a thread of the blocking pool:
    // as many commits as there are threads share a sync.
    let runtime = Builder::new_multi_thread().max_blocking_threads(64).build()?;
    let served = runtime.block_on(serve(&db));
    // Closing waits for the disk, and says if something went wrong.
    let closed = db.close();
    std::fs::remove_dir_all(&path)?;
    served?;
    Ok(closed?)
}

/// Serves all clients.
async fn serve(db: &Db) -> Result<(), Failure> {
    let clients: Vec<_> = (0..CLIENTS).map(|id| tokio::spawn(client(db.clone(), id))).collect();
    for client in clients {
        client.await??;
    }
    let stats = db.stats();
    println!(
        "{} commits, all durable, by {} syncs; writers waited {:.3} s for these",
        stats.commits,
        stats.written.syncs,
        stats.sync_wait_time.as_secs_f64()
    );
    Ok(())
}

/// One client: puts its orders down and looks them up.
async fn client(db: Db, id: u32) -> Result<(), Failure> {
    for order in 0..ORDERS {
        put(&db, format!("order/{id}/{order}"), format!("{} apples", order + 1)).await?;
    }
    // Just written, so it is in memory: no detour.
    let last = db.get(format!("order/{id}/{}", ORDERS - 1))?;
    if last.as_deref() != Some(format!("{ORDERS} apples").as_bytes()) {
        return Err(format!("the last order of client {id} is lost").into());
    }
    Ok(())
}

/// Writes an entry without keeping the runtime waiting. What it returns is
/// durable.
async fn put(db: &Db, key: String, value: String) -> Result<(), Failure> {
    let db = db.clone(); // the same store; costs a counter
    Ok(spawn_blocking(move || db.insert(key, value)).await??)
}
