//! Frames and lines that are used again.
//!
//! Goal: a reader that comes late to a frame, or to lines of the directory,
//! finds out. Method: the real pool and the real arena. The epoch is advanced
//! by one thread and the memory taken by another, which learns of it through
//! the writer lock only.

use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::{Relaxed, Release};
use loom::sync::{Arc, Mutex};

use crate::harness::check;
use crate::storage::epoch::ReuseEpoch;
use crate::storage::map::fill;
use crate::table::arena::{self, Room};
use crate::table::frames::{Frames, Owner, Pool};
use crate::table::{Seen, Table, Writer};

const OWNER: Owner = Owner { table: 0, page: 0, descriptor: 0 };

fn frames() {
    let epoch = Arc::new(ReuseEpoch::new().expect("a page"));
    let frames = Arc::new(Frames::new(1).expect("memory"));
    let pointer = Arc::new(AtomicU64::new(1));
    let mut pool = Pool::new(frames.clone(), 1);
    assert_eq!(pool.take(&epoch, &|_, _, _| false, OWNER, 1), Some(0));
    let lock = Arc::new(Mutex::new(pool));
    let reader = {
        let (epoch, frames, pointer) = (epoch.clone(), frames.clone(), pointer.clone());
        loom::thread::spawn(move || {
            let seen = epoch.read();
            if pointer.load(Relaxed) == 1 {
                let found = frames.owned(0)[0].load(Relaxed);
                assert!(found == 0 || !epoch.unchanged(seen), "the frame was used again");
            }
        })
    };
    let other = {
        let (epoch, frames, lock) = (epoch.clone(), frames.clone(), lock.clone());
        loom::thread::spawn(move || {
            let taken = lock.lock().expect("no panic").take(&epoch, &|_, _, _| false, OWNER, 2);
            if taken.is_some() {
                frames.owned(0)[0].store(10, Relaxed);
            }
        })
    };
    {
        let mut pool = lock.lock().expect("no panic");
        pointer.store(0, Release);
        pool.retire(&epoch, 0);
        epoch.advance();
    }
    other.join().expect("the other writer ends");
    reader.join().expect("the reader ends");
}

fn lines() {
    let epoch = Arc::new(ReuseEpoch::new().expect("a page"));
    let (arena, mut allocator) = arena::new(Room::to_grow(0)).expect("memory");
    let line = allocator.take(&arena, &epoch, 1).expect("a line");
    arena.owned(line, 1)[0].store(5, Relaxed);
    allocator.retire(&epoch, line, 1);
    let arena = Arc::new(arena);
    let pointer = Arc::new(AtomicU64::new(1));
    let lock = Arc::new(Mutex::new(allocator));
    let reader = {
        let (epoch, arena, pointer) = (epoch.clone(), arena.clone(), pointer.clone());
        loom::thread::spawn(move || {
            let seen = epoch.read();
            if pointer.load(Relaxed) == 1 {
                let found = arena.owned(line, 1)[0].load(Relaxed);
                assert!(found == 5 || !epoch.unchanged(seen), "the line was used again");
            }
        })
    };
    let loader = {
        let (epoch, arena, lock) = (epoch.clone(), arena.clone(), lock.clone());
        loom::thread::spawn(move || {
            let _ = lock.lock().expect("no panic").take(&arena, &epoch, 1);
        })
    };
    pointer.store(0, Release);
    epoch.advance();
    loader.join().expect("the loader ends");
    reader.join().expect("the reader ends");
}

/// A page is copied, and its old frame becomes another page: the whole lookup.
fn lookup(look: fn(&Table, u64) -> Seen) {
    let mut writer = Writer::new(2);
    writer.put(0, 7, [1, 1]);
    let reader = {
        let table = writer.table.clone();
        loom::thread::spawn(move || match look(&table, 7) {
            Seen::Value(1, 1) | Seen::Changes => {}
            other => panic!("a key that is there: {other:?}"),
        })
    };
    let old = writer.copy_page();
    writer.pool.retire(&writer.table.epoch, old);
    let frame = writer.take();
    assert_eq!(frame, old);
    fill(&writer.pool.words(frame)[8..11], 9);
    reader.join().expect("the reader ends");
}

#[test]
fn a_reader_notices_that_a_frame_was_used_again() {
    check("frames", frames);
}

#[test]
fn a_reader_notices_that_lines_were_used_again() {
    check("lines", lines);
}

#[test]
fn a_lookup_notices_that_its_page_was_used_again() {
    check("lookup", || lookup(Table::get));
}

#[test]
fn a_glance_notices_that_its_page_was_used_again() {
    check("lookup, a glance", || lookup(Table::glance_at));
}
