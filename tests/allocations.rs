//! Reads take no memory.
//!
//! Goal: what the documentation says of `get`, `get_with`, `contains_key` and
//! iteration: no allocation, but for a copy of a value of more than 56 bytes.
//! Method: the allocator of the test binary counts what each thread asks for
//! (`rot/allocations.rs`). Entries of all sizes are read where they lie after
//! each way they may have come there: in frames, in the table file, in the file
//! of a store opened anew. A thread's first read of a spilled value takes a line
//! for its pin, once; so every reader reads everything once before it counts.

use swissdb::{Db, Options};

use crate::rot::allocations::requests;
use crate::support::{TestStore, key, value};

/// Lengths of values: in slots of any size, in large slots only, in the log.
const LENGTHS: [usize; 6] = [0, 20, 56, 57, 300, 5_000];

/// Entries of a test.
const ENTRIES: u64 = 2_000;

fn length(i: u64) -> usize {
    LENGTHS[(i % LENGTHS.len() as u64) as usize]
}

/// A key that every slot holds, or one that none does.
fn key_of(i: u64) -> Vec<u8> {
    if i % 7 == 6 { value(i, 1_000) } else { key(i) }
}

/// Reads all that is there, and something that is not, in every way; fails if
/// one way takes more memory than it may.
fn read_all(db: &Db, counted: bool) {
    let absent = [value(ENTRIES + 1, 16), value(ENTRIES + 6, 1_000)];
    for i in 0..ENTRIES {
        let key = key_of(i);
        let (for_lending, lent) = requests(|| db.get_with(&key, <[u8]>::len).expect("get_with"));
        assert_eq!(lent, Some(length(i)));
        let (for_asking, there) = requests(|| db.contains_key(&key).expect("contains_key"));
        assert!(there);
        let (for_a_copy, copy) = requests(|| db.get(&key).expect("get"));
        assert_eq!(copy.expect("a value"), value(i, length(i)));
        if counted {
            let at = format!("a value of {} bytes, a key of {}", length(i), key.len());
            assert_eq!((for_lending, for_asking), (0, 0), "to lend and to ask for {at}");
            assert_eq!(for_a_copy, u64::from(length(i) > 56), "to copy {at}");
        }
    }
    for key in &absent {
        let (count, found) = requests(|| {
            let lent = db.get_with(key, <[u8]>::len).expect("get_with").is_some();
            lent || db.contains_key(key).expect("contains_key")
                || db.get(key).expect("get").is_some()
        });
        assert_eq!((count, found), (0, false), "for a key that is absent");
    }
}

#[test]
fn reads_take_no_memory_but_for_copies_of_long_values() {
    for payload in [56, 504] {
        let mut store = TestStore::on_disk(Options::new().payload(payload));
        for i in 0..ENTRIES {
            store.insert(key_of(i), value(i, length(i))).expect("insert");
        }
        read_all(&store, false);
        read_all(&store, true);
        store.checkpoint().expect("checkpoint");
        read_all(&store, true);
        store.reopen();
        read_all(&store, false);
        read_all(&store, true);
    }
}

#[test]
fn an_iteration_takes_memory_for_a_segment_and_none_for_an_entry() {
    const MANY: u64 = 30_000;
    let store = TestStore::in_memory(Options::new());
    for i in 0..MANY {
        store.insert(key(i), value(i, 40)).expect("insert");
    }
    let mut entries = store.iter();
    let (to_begin, first) = requests(|| entries.next());
    assert!(first.is_some());
    let (to_go_on, rest) = requests(|| entries.count() as u64);
    eprintln!("{to_begin} allocations to begin, {to_go_on} to go on");
    assert_eq!(rest, MANY - 1);
    // The copy of a segment grows with the largest one so far.
    assert!(to_begin + to_go_on < 100, "{to_begin} to begin and {to_go_on} to go on");
}

#[test]
fn what_is_counted_is_what_the_thread_asks_for() {
    let (count, bytes) = requests(|| vec![1u8; 100]);
    assert_eq!((count, bytes.len()), (1, 100));
    assert_eq!(requests(|| 1 + 1), (0, 2));
    let (count, ()) = requests(|| {
        let mut text = String::from("a");
        (0..1_000).for_each(|_| text.push('b'));
        assert_eq!(text.len(), 1_001);
    });
    assert!(count > 2, "growing counts");
}
