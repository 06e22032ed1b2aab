//! Why swissdb loses where it does: a sentence for each kind of workload.
//!
//! Each was looked into when the loss was first seen. A loss of another kind has no
//! sentence until somebody has looked.

use super::tables::Shape;

/// Values from this length on are long: their bytes take more time than their keys.
const LONG: u64 = 4 << 10;

/// Why a peer may be faster at this, if that is known.
pub fn reason(workload: &str, shape: &Shape) -> Option<&'static str> {
    let is_long = shape.value_bytes >= LONG;
    Some(match workload {
        _ if workload.ends_with("-settle") => SETTLE,
        "fill" | "fill-batch" | "overwrite" if is_long => LONG_WRITE,
        "get" if is_long => LONG_READ,
        "close" | "fill-batch-close" => CLOSE,
        "open-clean" => OPEN_CLEAN,
        "open-killed" => OPEN_KILLED,
        "redb-nosync-writes" => FIRST_WRITES,
        "redb-compact" => COMPACT,
        _ => return None,
    })
}

const SETTLE: &str = "\
Settling is one sync, of what was written since the last one: with swissdb of the log of half a second at most. In
that time it has written more than a slower store, and what stores that fill tables in the background have logged
before is synced already. These times are those of one call, and vary with the device.";

const CLOSE: &str = "\
With the last handle swissdb writes all that is only in its log to the tables, and syncs them: so it opens at once the next time.
LMDB without syncs leaves what it has written to the kernel.";

const LONG_WRITE: &str = "\
Long values go to the log with a checksum, from 48 KiB on by a call each: of 100,000 bytes two thirds of the time are the
kernel's, which takes pages of its cache one by one, and an eighth the checksum. redb keeps what is not durable yet in memory
of its own. LMDB makes no checksum, and with MDB_WRITEMAP copies a value once, to where it stays.";

const LONG_READ: &str =
    "A long value is checked against its checksum at each read, byte by byte, before it is lent.";

const OPEN_CLEAN: &str = "\
LMDB and redb map or read a few pages of one file. swissdb reads more headers, starts its threads and makes a file for its
log.";

const OPEN_KILLED: &str = "\
LMDB and redb have no log to read. (redb without syncs comes back to what was last synced, and has lost all of it here.) swissdb
reads what was logged since the last checkpoint and applies it, as RocksDB does.";

const FIRST_WRITES: &str = "\
These are the first writes after opening, nearly each of them to a page that was not written yet: it is read, checked and
copied to memory that the machine hands out for the first time. fjall and RocksDB only note the change.";

const COMPACT: &str = "\
LMDB writes its live pages once, into a new file, while nobody uses the store. swissdb compacts in place beside readers
and writers, in small steps, with a checkpoint after cleaning, after packing and after each round of moving.";
