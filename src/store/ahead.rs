//! What writers need next, made ready before they come to it.
//!
//! Taking memory from the kernel, and space from the file system, takes time that
//! a writer would spend with the lock held. A thread of its own does it ahead of
//! use: memory for frames ([`frames`](crate::table::frames)), and space in table
//! files ([`blocks`](crate::table::blocks)). It is told whenever a mebibyte of
//! frames became dirty, for each of which there is a block, and sleeps otherwise.
//! Nothing depends on it: what is not ready is taken when it is needed, and a
//! device that is full is an error for whoever needs the space.

use crate::table::frames::Ahead;

use super::{Core, Store};

/// The body of the thread.
pub(crate) fn keep(store: &Store) {
    store.frames.tell_me();
    let mut frames = Ahead::new(store.signals.limit());
    while !store.space.is_stopped() {
        // Not one after the other: both are needed at the same time.
        let taken = take_space(store);
        if !frames.step(&store.frames) && !taken {
            std::thread::park();
        }
    }
}

/// Takes a step of space for each table file that will soon want it. Says whether
/// there was any.
fn take_space(store: &Store) -> bool {
    if store.poison.is_set() || store.is_closed() {
        return false;
    }
    let ids: Vec<u16> = store.core_to_look().writers().map(|writer| writer.table.id).collect();
    let mut any = false;
    for id in ids {
        let begin = |core: &mut Core| core.writer_mut(id)?.0.blocks.begin_ahead();
        // A statement of its own: the lock is given back at its end.
        let ahead = begin(&mut store.core_to_look());
        let Some(ahead) = ahead else { continue };
        let taken = ahead.take();
        if let Some((writer, _)) = store.core_to_look().writer_mut(id) {
            writer.blocks.end_ahead(&ahead, taken);
        }
        any |= taken;
    }
    any
}
