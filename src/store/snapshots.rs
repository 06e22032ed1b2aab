//! How snapshots and checkpoints meet.
//!
//! What a snapshot sees is what a checkpoint makes durable. Whoever wants one
//! freezes the state for a checkpoint, or begins with the state that was frozen
//! last if nothing was committed since, and goes on: from then on the snapshot
//! has *begun*. It waits only if there is no room for one more state
//! ([`frozen`](super::frozen)). When the checkpoint has ended the snapshot is
//! *ready*, and its blocks and log files are held, until it lets go.
//!
//! ```text
//! wanted ──a state is frozen──► begun ──its checkpoint ends──► ready ──► gone
//!                                 └──it fails──► failed
//! ```
//!
//! A snapshot of a store that is open for reading only is ready at once.
//! May be used from any thread; the locks in here are held for moments.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::format::header::Header;
use crate::log::HeldFiles;
use crate::storage::File;

/// How often somebody who waits looks whether the store is still open.
const LOOK: Duration = Duration::from_millis(50);

/// A table as a checkpoint has made it durable.
#[derive(Clone)]
pub(crate) struct StillTable {
    pub(crate) header: Header,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
}

/// What is known of a snapshot as soon as its checkpoint has begun.
#[derive(Clone, Default)]
pub(crate) struct Begun {
    /// The last commit that it sees.
    pub(crate) commit: u64,
    /// Names and numbers of entries of its tables.
    pub(crate) tables: Vec<(String, u64)>,
}

/// What a snapshot reads from.
pub(crate) struct Ready {
    pub(crate) tables: Vec<StillTable>,
    pub(crate) log: HeldFiles,
}

enum State {
    Wanted,
    Begun,
    Ready(Option<Ready>),
    Failed(String, std::io::ErrorKind),
    Gone,
}

/// One snapshot, as the checkpoint knows it.
pub(crate) struct Moment {
    pub(crate) id: u64,
    state: Mutex<(State, Begun)>,
    changed: Condvar,
}

impl Moment {
    fn state(&self) -> MutexGuard<'_, (State, Begun)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        let mut now = self.state();
        if !matches!(now.0, State::Gone) {
            now.0 = state;
        }
        drop(now);
        self.changed.notify_all();
    }

    fn is_gone(&self) -> bool {
        matches!(self.state().0, State::Gone)
    }

    /// Waits until the state is frozen. `go_on` is asked now and then.
    pub(crate) fn wait_begun(&self, go_on: &dyn Fn() -> Result<()>) -> Result<Begun> {
        let mut state = self.state();
        while matches!(state.0, State::Wanted) {
            let waited = self.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if matches!(state.0, State::Wanted) {
                go_on()?;
            }
        }
        Ok(state.1.clone())
    }

    /// Waits until there is something to read, and takes it: once.
    pub(crate) fn wait_ready(&self) -> Result<Ready> {
        let mut state = self.state();
        loop {
            match &mut state.0 {
                State::Ready(ready) => {
                    return ready.take().ok_or_else(crate::store::closed);
                }
                State::Failed(why, kind) => {
                    let message = format!("the checkpoint that was to keep the snapshot: {why}");
                    let source = std::io::Error::new(*kind, message);
                    return Err(Error::io("write to", "the store", source));
                }
                State::Gone => return Err(crate::store::closed()),
                State::Wanted | State::Begun => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl Moment {
    /// What was taken could not be opened: somebody may try again.
    pub(crate) fn put_back(&self, ready: Ready) {
        self.set(State::Ready(Some(ready)));
    }
}

/// All snapshots of a store.
#[derive(Default)]
pub(crate) struct Snapshots {
    serial: AtomicU64,
    wanted: Mutex<Vec<Arc<Moment>>>,
    begun: Mutex<BegunOnes>,
    held: Mutex<Held>,
    opening: Mutex<()>,
}

/// Snapshots whose state is frozen, and not durable yet.
#[derive(Default)]
struct BegunOnes {
    /// Each with the generation that ended with its state.
    moments: Vec<(u64, Arc<Moment>)>,
    /// The last state that was frozen: generation and last commit. None when it
    /// is too late to begin with it.
    newest: Option<(u64, u64)>,
}

/// What all snapshots that were taken and not given up have in common.
#[derive(Clone, Copy, Default)]
pub(crate) struct Taken {
    pub(crate) snapshots: u64,
    /// Those of them whose checkpoint has not ended.
    pub(crate) waiting: u64,
    /// The last commit that the oldest one sees, and when it began.
    pub(crate) oldest: Option<(u64, Instant)>,
}

#[derive(Default)]
struct Held {
    /// The last commit that each snapshot sees, and when it began.
    begun: BTreeMap<u64, (u64, Instant)>,
    /// The log files of each snapshot that is ready.
    files: BTreeMap<u64, BTreeSet<u32>>,
    /// Snapshots of a store that is open for reading only: they hold nothing
    /// but its lock.
    readers: usize,
    /// The store was closed, and stays locked until the last one is gone.
    locked: bool,
}

impl Held {
    fn are_none(&self) -> bool {
        self.files.is_empty() && self.readers == 0
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Snapshots {
    /// A snapshot that is to begin.
    pub(crate) fn want(&self) -> Arc<Moment> {
        let moment = Arc::new(Moment {
            id: self.serial.fetch_add(1, Ordering::Relaxed),
            state: Mutex::new((State::Wanted, Begun::default())),
            changed: Condvar::new(),
        });
        lock(&self.wanted).push(moment.clone());
        moment
    }

    /// A state was frozen, with the writer lock held: what is wanted begins
    /// with it.
    pub(crate) fn begin(&self, generation: u64, begun: impl Fn() -> Begun) {
        let mut now = lock(&self.begun);
        now.newest = Some((generation, begun().commit));
        self.begin_with(&mut now, generation, begun);
    }

    /// What is wanted begins with the last state that was frozen, if that is
    /// the state after this commit, the last one, still. Says whether it did.
    /// The writer lock is held.
    pub(crate) fn join(&self, commit: u64, begun: impl Fn() -> Begun) -> bool {
        let mut now = lock(&self.begun);
        let Some((generation, _)) = now.newest.filter(|newest| newest.1 == commit) else {
            return false;
        };
        self.begin_with(&mut now, generation, begun);
        true
    }

    fn begin_with(&self, now: &mut BegunOnes, generation: u64, begun: impl Fn() -> Begun) {
        let wanted = std::mem::take(&mut *lock(&self.wanted));
        for moment in &wanted {
            let begun = begun();
            lock(&self.held).begun.insert(moment.id, (begun.commit, Instant::now()));
            moment.state().1 = begun;
            moment.set(State::Begun);
            // Whoever wanted it may have given up before it was noted.
            if moment.is_gone() {
                lock(&self.held).begun.remove(&moment.id);
            }
        }
        now.moments.extend(wanted.into_iter().map(|moment| (generation, moment)));
    }

    /// Whether any snapshot waits to begin.
    pub(crate) fn are_wanted(&self) -> bool {
        !lock(&self.wanted).is_empty()
    }

    /// The checkpoint of a generation has headers that are durable: the
    /// snapshots that began with it and are still wanted. From now on none can
    /// begin with it. Those that are gone are forgotten, whatever they began
    /// with: where all are, nobody asks what of them is ready.
    pub(crate) fn beginning(&self, generation: u64) -> Vec<u64> {
        let mut begun = lock(&self.begun);
        begun.newest = begun.newest.filter(|newest| newest.0 != generation);
        begun.moments.retain(|(_, moment)| !moment.is_gone());
        let these = begun.moments.iter().filter(|(began, _)| *began == generation);
        these.map(|(_, moment)| moment.id).collect()
    }

    /// The checkpoint of a generation has ended well: these snapshots, of which
    /// blocks and these files are held, may read. Returns those that are gone
    /// meanwhile.
    pub(crate) fn ready(
        &self,
        generation: u64,
        held: &[u64],
        files: &BTreeSet<u32>,
        make: &dyn Fn() -> Ready,
    ) -> Vec<u64> {
        let mut ended = Vec::new();
        lock(&self.begun).moments.retain(|(began, moment)| {
            if *began == generation {
                ended.push(moment.clone());
            }
            *began != generation
        });
        let mut gone = Vec::new();
        for moment in ended.into_iter().filter(|moment| held.contains(&moment.id)) {
            lock(&self.held).files.insert(moment.id, files.clone());
            moment.set(State::Ready(Some(make())));
            if moment.is_gone() {
                lock(&self.held).files.remove(&moment.id);
                gone.push(moment.id);
            }
        }
        gone
    }

    /// A checkpoint failed, and with it all that wait behind it.
    pub(crate) fn fail(&self, error: &Error) {
        let kind = if error.is_full() {
            std::io::ErrorKind::StorageFull
        } else {
            std::io::ErrorKind::Other
        };
        for (_, moment) in std::mem::take(&mut *lock(&self.begun)).moments {
            lock(&self.held).begun.remove(&moment.id);
            moment.set(State::Failed(error.to_string(), kind));
        }
    }

    /// Held by whoever opens the tables of a snapshot.
    pub(crate) fn opening(&self) -> MutexGuard<'_, ()> {
        lock(&self.opening)
    }

    /// The log files that snapshots hold.
    pub(crate) fn files(&self) -> BTreeSet<u32> {
        lock(&self.held).files.values().flatten().copied().collect()
    }

    /// What there is of them now. One that failed holds nothing and is not
    /// counted.
    pub(crate) fn taken(&self) -> Taken {
        let held = lock(&self.held);
        let snapshots = held.begun.len() as u64;
        Taken {
            snapshots,
            waiting: snapshots.saturating_sub(held.files.len() as u64),
            oldest: held.begun.values().min().copied(),
        }
    }

    /// The store is being closed: says whether it stays locked, for as long as
    /// there are snapshots.
    pub(crate) fn keep_lock(&self) -> bool {
        let mut held = lock(&self.held);
        held.locked = !held.are_none();
        held.locked
    }

    /// There is one of a store that is open for reading only.
    pub(crate) fn add_reader(&self) {
        lock(&self.held).readers += 1;
    }

    /// It is gone. Says whether the store is to be unlocked now.
    pub(crate) fn remove_reader(&self) -> bool {
        let mut held = lock(&self.held);
        held.readers -= 1;
        held.locked && held.are_none()
    }

    /// A snapshot is gone. Says whether it was held, and whether the store is
    /// to be unlocked now.
    pub(crate) fn remove(&self, moment: &Moment) -> (bool, bool) {
        moment.state().0 = State::Gone;
        // It may have been refused, and nothing begins in a store that refuses.
        lock(&self.wanted).retain(|wanted| wanted.id != moment.id);
        let mut held = lock(&self.held);
        held.begun.remove(&moment.id);
        let was_held = held.files.remove(&moment.id).is_some();
        (was_held, was_held && held.locked && held.are_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::checkpoint;
    use crate::options::Options;
    use crate::storage::memory::Memory;
    use crate::store::Store;

    /// A store with nothing in its background.
    fn store() -> Store {
        crate::recovery::open(Arc::new(Memory::new()), &Options::new()).unwrap()
    }

    fn take(store: &Store) -> Result<Arc<Moment>> {
        let moment = store.snapshots.want();
        let begun = store.begin_snapshots().inspect_err(|_| store.drop_snapshot(&moment));
        begun.map(|()| moment)
    }

    fn begun(store: &Store) -> usize {
        lock(&store.snapshots.begun).moments.len()
    }

    #[test]
    fn snapshots_that_go_before_their_checkpoint_ends_leave_nothing() {
        let store = store();
        for i in 0..8 {
            let moment = take(&store).unwrap();
            store.drop_snapshot(&moment);
            checkpoint(&store, false).unwrap();
            assert_eq!(begun(&store), 0, "after {i} more");
        }
        // Who goes does not take along who stays.
        let (stays, goes) = (take(&store).unwrap(), take(&store).unwrap());
        store.drop_snapshot(&goes);
        checkpoint(&store, false).unwrap();
        assert!(stays.wait_ready().is_ok());
        assert_eq!((begun(&store), store.snapshots.taken().snapshots), (0, 1));
        store.drop_snapshot(&stays);
        assert_eq!(store.snapshots.taken().snapshots, 0);
    }

    #[test]
    fn snapshots_that_are_refused_leave_nothing() {
        let store = store();
        store.poison.set(&"a sync failed");
        for _ in 0..3 {
            assert!(matches!(take(&store), Err(Error::Poisoned { .. })));
        }
        assert!(!store.snapshots.are_wanted());
        assert_eq!(store.snapshots.taken().snapshots, 0);
    }
}
