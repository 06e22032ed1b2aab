//! The files of the log, and how much of each is still needed.
//!
//! How many bytes of a file are live is what the roots of all tables say. That
//! is true as of the place in the log that each table file is equal to; what
//! comes behind the first of these places is replayed by an opening, so all of
//! it is needed. Where a file ends, a later file says; in the active one the
//! records are followed. Records that nobody replays are not read.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::format::header::{Header, TableState};
use crate::format::record::{LOG_START, Position, log_file_name, padded};

use super::super::directory::Directory;
use super::super::log::LogFile;
use super::super::records::Piece;
use super::super::{Damage, Store, header, log, tables_of};
use super::{LogSpace, LogState, StoreMap};

/// What the tables say of the log.
#[derive(Default)]
struct Said {
    /// Live bytes by file.
    live: BTreeMap<u32, u64>,
    /// The places that the table files are equal to.
    places: Vec<Position>,
    /// Where the log ends, if the newest of them says so.
    end: Option<Position>,
}

/// Fills in what is known of the log.
///
/// # Errors
///
/// `Io` if the files cannot be listed.
pub(super) fn read(store: &Store, table: &str, map: &mut StoreMap) -> Result<()> {
    let said = ask_tables(store, table, map)?;
    let files = match log::read(store.clone()) {
        Ok(log) => log.files,
        Err(Error::NotFound { .. }) => {
            map.add("log", Damage::new(0, "the log is absent"));
            Vec::new()
        }
        Err(error) => return Err(error),
    };
    let active = files.iter().filter(|file| file.activation.is_some()).map(|file| file.number);
    let active = active.max();
    for file in &files {
        let space = space_of(file, active, &said, map);
        map.log.push(space);
    }
    for (number, bytes) in &said.live {
        if *bytes > 0 && !files.iter().any(|file| file.number == *number) {
            let text = format!("the file is absent, but {bytes} bytes in it are in use");
            map.add(&log_file_name(*number), Damage::new(0, text));
        }
    }
    Ok(())
}

/// Adds up what the roots of all tables say. Damage in other tables than the
/// one that is shown is told of only where it hides live bytes.
fn ask_tables(store: &Store, shown: &str, map: &mut StoreMap) -> Result<Said> {
    let mut said = Said::default();
    for name in tables_of(store)? {
        let file = match store.table(&name) {
            Ok(file) => file,
            // Dropped meanwhile.
            Err(Error::NotFound { .. }) => continue,
            Err(error) => return Err(error),
        };
        let tell = |map: &mut StoreMap| {
            let text = "its live bytes in the log are not known";
            if name != shown {
                map.add(&format!("{name}.swiss"), Damage::new(0, text));
            }
        };
        let Ok(header) = header::newest(&file) else {
            tell(map);
            continue;
        };
        let Header { state, clean, log, .. } = header;
        if state == TableState::Dropped {
            continue;
        }
        if said.places.iter().all(|place| place.commit <= log.commit) {
            said.end = clean.then_some(log);
        }
        said.places.push(log);
        let directory = Directory::new(store.clone(), file, header);
        for (number, bytes) in &directory.live {
            let sum = said.live.entry(*number).or_insert(0);
            *sum = sum.saturating_add(*bytes);
        }
        if directory.damage.is_some() {
            tell(map);
        }
    }
    Ok(said)
}

fn space_of(file: &LogFile, active: Option<u32>, said: &Said, map: &mut StoreMap) -> LogSpace {
    let name = log_file_name(file.number);
    let mut damaged = file.damage.is_some();
    if let Some(damage) = &file.damage {
        map.add(&name, damage.clone());
    }
    let state = match file.activation {
        None => LogState::Prepared,
        Some(_) if Some(file.number) == active => LogState::Active,
        Some(_) => LogState::Sealed,
    };
    let closed = said.end.filter(|at| at.file == file.number);
    let mut end = match (state, file.stated_end, closed) {
        (LogState::Prepared, ..) => LOG_START,
        (_, Some(end), _) => end,
        (_, None, Some(at)) => at.offset.into(),
        (_, None, None) => {
            let (end, damage) = last_record(file);
            if let Some(damage) = damage {
                damaged = true;
                map.add(&name, damage);
            }
            end
        }
    };
    for place in said.places.iter().filter(|place| place.file == file.number) {
        let wrong = if u64::from(place.offset) > end {
            "the log ends before the place that a table file is equal to"
        } else if place.salt != file.salt {
            "a table file is equal to a place in another file of this number"
        } else {
            continue;
        };
        damaged = true;
        map.add(&name, Damage::new(end, wrong));
    }
    end = end.min(file.length);
    let oldest = said.places.iter().min_by_key(|at| at.commit);
    let replayed = match oldest {
        Some(at) if at.file < file.number => end.saturating_sub(LOG_START),
        Some(at) if at.file == file.number => end.saturating_sub(at.offset.into()),
        _ => 0,
    };
    let live = said.live.get(&file.number).copied().unwrap_or(0);
    LogSpace { number: file.number, length: file.length, end, live, replayed, state, damaged }
}

/// Where the last record of a file ends that no later file speaks of.
fn last_record(file: &LogFile) -> (u64, Option<Damage>) {
    let Ok(pieces) = file.pieces() else {
        return (LOG_START, None);
    };
    let mut end = LOG_START;
    let mut commit = file.activation.map_or(0, |activation| activation.last_commit);
    let mut gap = None;
    for piece in pieces {
        match (piece, gap) {
            (Piece::Gap(found), _) => gap = Some(found.offset),
            (Piece::Record(record), None) => {
                (commit, end) = (record.commit, padded(record.end()));
                if record.damage.is_some() {
                    return (end, record.damage);
                }
            }
            // A record that knows that lost ones were durable.
            (Piece::Record(record), Some(gap)) if record.durable > commit => {
                let text = "durable records should stand here, but do not";
                return (end, Some(Damage::new(gap, text)));
            }
            // What a crash left behind the end.
            (Piece::Record(_), Some(_)) => break,
        }
    }
    (end, None)
}
