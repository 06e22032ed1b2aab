//! Pins: reading memory that a writer wants to take back.
//!
//! A reader that copies words out of memory finds out afterwards whether they
//! were reused (see [`epoch`](super::epoch)). One that lends bytes in place
//! cannot: it has to keep them from being taken back. It holds a [`Pin`]
//! while it reads, and the writer waits with reusing or freeing what it has
//! retired until every pin that may know of it is gone. Readers write nothing
//! but a cache line of their own thread.
//!
//! This module does not know what is protected: files of the log, tables of
//! them, or anything else.
//!
//! ```text
//! EPOCH   7            SLOTS ──► slot ──► slot ──► slot ──► ·
//!                                 0        6        7
//!                               idle   pinned   pinned      6 is not quiescent: a pin
//!                                      in 6     in 7        holds it; 5 is
//! ```
//!
//! A thread takes a slot at its first pin and gives it back when it ends; the
//! list of slots only grows, and is as long as the most threads that read at
//! the same time. Slots and epoch are shared by all stores of the process.
//!
//! # What is unsafe here
//!
//! Following two kinds of pointers (to slots, which are never freed, and to
//! what is [`Protected`]), freeing the latter, and saying that threads may share
//! them. A counted pointer would need none of it and cost each reader a shared
//! write, which is what this module is there to avoid. Users of it write safe
//! code: a reference lives no longer than the pin under which it was loaded.
//!
//! # Why it is safe
//!
//! The reader: (r1) loads the epoch, (r2) stores it into its slot, (r3)
//! `fence(SeqCst)`, (r4) loads pointers. The writer: (w1) stores a new pointer
//! in place of the old one, (w2) advances the epoch, (w3) `fence(SeqCst)`,
//! (w4) loads all slots, and (w5) reuses if none holds the ended epoch or an
//! older one. Suppose that r4 loaded the *old* pointer and that the reader
//! still uses it:
//!
//! 1. One of the two fences comes first. If w3 did, w1 precedes r4, which would
//!    have loaded the new pointer. So r3 did, and w4 finds what r2 stored (or
//!    a new slot, for it was linked before r2) or something later.
//! 2. It finds what r2 stored, as the pin still lives. If that is the ended
//!    epoch or older, the writer waits. If it is newer, r1 (`Acquire`) loaded
//!    what w2 (`Release`) stored, so w1 happened before r4: a contradiction.
//! 3. If the pin is gone, w4 (`Acquire`) found a value stored, with `Release`,
//!    after the reader's last access, which therefore happened before w5.
//!    Every store into a slot is `Release` for that reason: the writer may
//!    find that of a later pin.

use std::cell::Cell;
use std::marker::PhantomData;
#[cfg(test)]
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, fence};
use std::sync::{Mutex, PoisonError};

/// The current epoch; 0 is never one, it marks idle slots.
static EPOCH: AtomicU64 = AtomicU64::new(1);

/// The newest slot of the list.
static SLOTS: AtomicPtr<Slot> = AtomicPtr::new(ptr::null_mut());

/// What was dropped while pins might still use it.
static LIMBO: Mutex<Vec<Limbo>> = Mutex::new(Vec::new());

/// One thread's line: two cache lines, as neighbours are fetched in pairs.
#[repr(align(128))]
struct Slot {
    /// The epoch in which the thread pinned; 0 while it has no pin.
    epoch: AtomicU64,
    /// How many pins the thread has; written by that thread only.
    depth: AtomicUsize,
    /// Whether the last pin gives the slot back, because the thread itself has
    /// run its destructors; written by that thread only.
    orphan: AtomicBool,
    /// Whether a thread owns the slot.
    taken: AtomicBool,
    /// The next older slot, or null.
    next: AtomicPtr<Slot>,
}

impl Slot {
    /// Takes a slot that no thread owns, or makes one.
    #[cold]
    fn take() -> &'static Slot {
        for slot in slots() {
            if !slot.taken.load(Relaxed)
                && slot.taken.compare_exchange(false, true, Acquire, Relaxed).is_ok()
            {
                return slot;
            }
        }
        let slot: &'static Slot = Box::leak(Box::new(Slot {
            epoch: AtomicU64::new(0),
            depth: AtomicUsize::new(0),
            orphan: AtomicBool::new(false),
            taken: AtomicBool::new(true),
            next: AtomicPtr::new(SLOTS.load(Relaxed)),
        }));
        let new = ptr::from_ref(slot).cast_mut();
        while let Err(head) = SLOTS.compare_exchange(slot.next.load(Relaxed), new, AcqRel, Relaxed)
        {
            slot.next.store(head, Relaxed);
        }
        slot
    }

    /// Gives the slot back to be taken by another thread.
    #[cold]
    fn give_back(&self) {
        self.orphan.store(false, Relaxed);
        self.taken.store(false, Release);
    }
}

/// All slots, newest first.
fn slots() -> impl Iterator<Item = &'static Slot> {
    let mut next = SLOTS.load(Acquire);
    std::iter::from_fn(move || {
        // SAFETY: the list holds null and slots that were leaked; its head was
        // loaded with `Acquire`, so they are seen as they were linked.
        let slot = unsafe { next.as_ref() }?;
        next = slot.next.load(Acquire);
        Some(slot)
    })
}

/// A thread's hold on its slot.
struct Local(Cell<Option<&'static Slot>>);

impl Drop for Local {
    fn drop(&mut self) {
        if let Some(slot) = self.0.get() {
            if slot.depth.load(Relaxed) == 0 {
                slot.give_back();
            } else {
                slot.orphan.store(true, Relaxed);
            }
        }
    }
}

thread_local! {
    static LOCAL: Local = const { Local(Cell::new(None)) };
}

/// Holds what the thread reads in place: see [`pin`].
///
/// It belongs to the thread that made it. A pin that is never dropped costs
/// memory, never safety: nothing is taken back any more.
pub(crate) struct Pin {
    slot: &'static Slot,
    /// Neither `Send` nor `Sync`.
    thread: PhantomData<*const ()>,
}

/// Pins: what this thread loads from now on stays until the pin is dropped.
/// A pin inside another one keeps the outer one's epoch and costs next to
/// nothing; an outer one costs a full fence (10 to 20 ns).
#[inline]
pub(crate) fn pin() -> Pin {
    let slot = LOCAL.try_with(|local| local.0.get()).ok().flatten();
    let slot = slot.unwrap_or_else(first_pin);
    let depth = slot.depth.load(Relaxed);
    slot.depth.store(depth + 1, Relaxed);
    if depth == 0 {
        slot.epoch.store(EPOCH.load(Acquire), Release);
        fence(SeqCst);
    }
    Pin { slot, thread: PhantomData }
}

/// The slot of a thread that has none yet, or has run its destructors already.
#[cold]
fn first_pin() -> &'static Slot {
    let slot = Slot::take();
    if LOCAL.try_with(|local| local.0.set(Some(slot))).is_err() {
        slot.orphan.store(true, Relaxed);
    }
    slot
}

impl Drop for Pin {
    #[inline]
    fn drop(&mut self) {
        let depth = self.slot.depth.load(Relaxed) - 1;
        self.slot.depth.store(depth, Relaxed);
        if depth == 0 {
            self.slot.epoch.store(0, Release);
            if self.slot.orphan.load(Relaxed) {
                self.slot.give_back();
            }
        }
    }
}

/// Ends the current epoch and returns it. What was made unreachable before
/// this call may be reused once [`quiescent`] says so of the returned epoch.
pub(crate) fn advance() -> u64 {
    let ended = EPOCH.fetch_add(1, AcqRel);
    fence(SeqCst);
    ended
}

/// Whether no pin is left that was made in that epoch or before. Once true, it
/// holds for good: should it be false again, that is a pin which was being made
/// and cannot reach what was retired. Costs a look at the line of every thread.
pub(crate) fn quiescent(epoch: u64) -> bool {
    // For the case that another thread has advanced the epoch.
    fence(SeqCst);
    slots().all(|slot| match slot.epoch.load(Acquire) {
        0 => true,
        pinned => pinned > epoch,
    })
}

/// A pointer that readers follow while a writer replaces what it points to.
pub(crate) struct Protected<T: Send + Sync + 'static> {
    current: AtomicPtr<T>,
    owned: PhantomData<Box<T>>,
}

impl<T: Send + Sync + 'static> Protected<T> {
    /// Protects a value.
    pub(crate) fn new(value: Box<T>) -> Protected<T> {
        Protected { current: AtomicPtr::new(Box::into_raw(value)), owned: PhantomData }
    }

    /// The current value. It stays readable as long as the pin, even if it is
    /// replaced meanwhile, or this pointer dropped.
    #[inline]
    pub(crate) fn load<'p>(&self, _pin: &'p Pin) -> &'p T {
        // SAFETY: the pointer came from a box and was published by `Release`.
        // It is freed only by `Retired`, once no pin is left that was made
        // before it was replaced; this pin may be one of those.
        unsafe { &*self.current.load(Acquire) }
    }

    /// Puts a new value in place of the current one, and returns that.
    pub(crate) fn replace(&self, value: Box<T>) -> Retired<T> {
        Retired::new(self.current.swap(Box::into_raw(value), AcqRel))
    }
}

impl<T: Send + Sync + 'static> Drop for Protected<T> {
    fn drop(&mut self) {
        drop(Retired::new(*self.current.get_mut()));
    }
}

/// A value that was replaced. Dropping this frees it, if no pin may use it any
/// more; else some later drop of the kind does.
#[must_use = "dropping it at once frees it late"]
pub(crate) struct Retired<T: Send + Sync + 'static> {
    value: *mut T,
    epoch: u64,
}

// SAFETY: it owns a `T` that other threads may still read: hence both bounds.
unsafe impl<T: Send + Sync + 'static> Send for Retired<T> {}
// SAFETY: as above; a shared reference to it gives no access to the value.
unsafe impl<T: Send + Sync + 'static> Sync for Retired<T> {}

impl<T: Send + Sync + 'static> Retired<T> {
    /// Retires a value that nobody can load any more.
    fn new(value: *mut T) -> Retired<T> {
        Retired { value, epoch: advance() }
    }

    /// Frees the value if no pin can still use it; else gives itself back.
    #[cfg(test)]
    pub(crate) fn try_free(self) -> Result<(), Retired<T>> {
        if !quiescent(self.epoch) {
            return Err(self);
        }
        let this = ManuallyDrop::new(self);
        drop(Limbo { epoch: this.epoch, value: this.value });
        Ok(())
    }
}

impl<T: Send + Sync + 'static> Drop for Retired<T> {
    fn drop(&mut self) {
        Limbo { epoch: self.epoch, value: self.value }.wait();
    }
}

/// A value that waits to be freed, which dropping this does. It is kept as a
/// pointer: a box would claim to be alone with a value that readers still see.
struct Limbo {
    epoch: u64,
    value: *mut (dyn Send + Sync),
}

// SAFETY: it owns a value that is `Send` and `Sync`.
unsafe impl Send for Limbo {}

impl Limbo {
    /// Frees everything that waits and can be freed, this one included.
    fn wait(self) {
        let mut limbo = LIMBO.lock().unwrap_or_else(PoisonError::into_inner);
        limbo.push(self);
        let free: Vec<Limbo> = limbo.extract_if(.., |one| quiescent(one.epoch)).collect();
        // What is freed may retire something in turn: not under the lock.
        drop(limbo);
        drop(free);
    }
}

impl Drop for Limbo {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a box, `Retired` owned it alone, and
        // both places that drop a `Limbo` have found its epoch quiescent: no
        // pin is left whose thread loaded the pointer.
        drop(unsafe { Box::from_raw(self.value) });
    }
}

#[cfg(test)]
mod tests;
