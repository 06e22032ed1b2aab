//! What writers need next, made ready before they come to it.
//!
//! Taking memory from the kernel takes time that a writer would spend with the
//! lock held. A thread of its own does it ahead of use: memory for frames
//! ([`Ahead`]). It is told whenever a mebibyte of frames became dirty, and sleeps
//! otherwise. Nothing depends on it: what is not ready is taken when it is
//! needed.

use crate::table::frames::Ahead;

use super::Store;

/// The body of the thread.
pub(crate) fn keep(store: &Store) {
    store.frames.tell_me();
    let mut frames = Ahead::new(store.signals.limit());
    while !store.space.is_stopped() {
        if !frames.step(&store.frames) {
            std::thread::park();
        }
    }
}
