//! Which call fails, and how, and what has to follow from it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use crate::disk::{Call, Disk, Fault, Kind, Outcome};

/// What a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Directory,
    /// A file of the log under its name, and under the temporary one.
    Log,
    NextLog,
    /// A table file under its temporary name; its headers; the rest of it.
    NewTable,
    Header,
    Table,
}

impl Place {
    fn of(name: &str, kind: Kind, offset: u64) -> Place {
        match name {
            "log/next.tmp" => Place::NextLog,
            _ if name.starts_with("log/") => Place::Log,
            _ if name.ends_with(".tmp") => Place::NewTable,
            _ if !name.ends_with(".swiss") => Place::Directory,
            _ if matches!(kind, Kind::Write | Kind::Read) && offset < 8192 => Place::Header,
            _ => Place::Table,
        }
    }
}

/// Calls that are alike.
pub type Class = (Kind, Place);

/// The class of a call.
pub fn class(call: &Call<'_>) -> Class {
    (call.kind, Place::of(call.name, call.kind, call.offset))
}

/// How calls fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// The device fails.
    Broken,
    /// The device fails after half of the bytes.
    BrokenHalfway,
    /// The device is full.
    Full,
    /// The device is full after half of the bytes.
    FullHalfway,
}

impl Flavour {
    pub const ALL: [Flavour; 4] =
        [Flavour::Broken, Flavour::BrokenHalfway, Flavour::Full, Flavour::FullHalfway];

    /// What that means for a kind of call, if it can happen to it. Storing
    /// into a mapping needs no space that was not taken before.
    pub fn fault(self, kind: Kind) -> Option<Fault> {
        use Kind::*;
        let wants_space =
            matches!(kind, Create | CreateDirectory | Rename | SetLength | Allocate | Write | Sync);
        match self {
            Flavour::Broken => Some(Fault::Error(ErrorKind::Other)),
            Flavour::BrokenHalfway if matches!(kind, Write | WriteMapped) => {
                Some(Fault::Short(ErrorKind::Other))
            }
            Flavour::Full if wants_space => Some(Fault::Error(ErrorKind::StorageFull)),
            Flavour::FullHalfway if kind == Write => Some(Fault::Short(ErrorKind::StorageFull)),
            _ => None,
        }
    }
}

/// Whether a fault says that the device is full.
fn says_full(fault: Fault) -> bool {
    let (Fault::Error(kind) | Fault::Short(kind)) = fault;
    kind == ErrorKind::StorageFull
}

/// Whether nothing may be written after that failure.
pub fn must_poison(failure: &Outcome) -> bool {
    let trusted =
        matches!(failure.kind, Kind::Write | Kind::WriteMapped | Kind::Sync | Kind::SyncDirectory);
    trusted && !says_full(failure.fault)
}

/// Whether writing has to go on after that failure: the device was full before
/// anything was written that counts.
pub fn must_go_on(failure: &Outcome) -> bool {
    let header = Place::of(&failure.name, failure.kind, failure.offset) == Place::Header;
    says_full(failure.fault) && !header && failure.kind != Kind::Sync
}

/// The one call of a run that is to fail.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// The so-manieth of all calls.
    Any(u64),
    /// The so-manieth of a class.
    Of(Class, u64),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Any(nth) => write!(f, "call {nth}"),
            Target::Of((kind, place), nth) => write!(f, "{kind:?} {place:?} number {nth}"),
        }
    }
}

impl Target {
    /// Lets it fail. `seen` is told of each call that could have been it.
    pub fn arm(self, disk: &Disk, flavour: Flavour, seen: impl Fn() + Send + 'static) {
        let (nth, only) = match self {
            Target::Any(nth) => (nth, None),
            Target::Of(class, nth) => (nth, Some(class)),
        };
        disk.fail_as(nth, move |call| {
            if only.is_some_and(|only| only != class(call)) {
                return None;
            }
            seen();
            let fault = flavour.fault(call.kind);
            Some(fault.unwrap_or(Fault::Error(ErrorKind::Other)))
        });
    }
}

/// How many calls of each class were made.
pub type Counts = BTreeMap<Class, u64>;

/// Counts all calls from now on.
pub fn count(disk: &Disk) -> Arc<Mutex<Counts>> {
    let counts = Arc::new(Mutex::new(Counts::new()));
    let seen = counts.clone();
    disk.fail_as(1, move |call| {
        *seen.lock().expect("the counts").entry(class(call)).or_default() += 1;
        None
    });
    counts
}
