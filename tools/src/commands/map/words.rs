//! The words and numbers that picture and text have in common.

use swissdb::inspect::{State, StoreMap};

use super::Subject;
use super::cells::{Bar, Cell, Column, Kind};
use crate::escape::Escaped;
use crate::size::{count, show};

/// The size of a block in bytes.
pub const BLOCK: u64 = 4096;

/// A share as people read it: `71 %`. Only nothing is 0, and only all is 100.
pub fn percent(part: u64, whole: u64) -> String {
    match part as f64 / whole.max(1) as f64 * 100.0 {
        share if part > 0 && share < 1.0 => "under 1 %".to_owned(),
        share if part < whole => format!("{:.0} %", share.min(99.0)),
        _ if part == 0 => "0 %".to_owned(),
        _ => "100 %".to_owned(),
    }
}

/// A count with its noun: `1 file`, `2 files`.
pub fn several(number: u64, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{} {stem}ies", count(number)),
        (_, None) => format!("{} {noun}s", count(number)),
    }
}

/// A count and its noun, apart.
fn counted(number: u64, noun: &str) -> (String, String) {
    let text = several(number, noun);
    let (number, noun) = text.split_once(' ').unwrap_or((&text, ""));
    (number.to_owned(), noun.to_owned())
}

/// A number of pages, which may be a mean.
pub fn pages(pages: f64) -> String {
    match pages.fract() {
        0.0 => several(pages as u64, "page"),
        _ => format!("{pages:.1} pages"),
    }
}

/// The title: which store, which table.
pub fn title(subject: &Subject) -> (String, String) {
    use std::os::unix::ffi::OsStrExt;
    let path = Escaped(subject.path.as_os_str().as_bytes()).to_string();
    (path, format!("table {}", subject.table))
}

/// What state the store is in.
pub fn state(map: &StoreMap) -> String {
    let Some(header) = &map.header else {
        return "No copy of the header is valid, so nobody knows what the blocks hold.".to_owned();
    };
    let replayed: u64 = map.log.iter().map(|file| file.replayed).sum();
    match header.state {
        State::Dropped => "The table was dropped; its file is left over.".to_owned(),
        _ if replayed > 0 => format!(
            "The table is shown as of its last checkpoint; the next opening replays {} of log.",
            show(replayed)
        ),
        _ if header.clean => "The store was closed; nothing has to be replayed.".to_owned(),
        _ => "The table file holds all that is in the log.".to_owned(),
    }
}

/// The numbers that matter most, each with what it counts.
pub fn numbers(map: &StoreMap) -> Vec<(String, String)> {
    let (mut used, mut tombstones, mut slots) = (0, 0, 0);
    for segment in &map.segments {
        used += u64::from(segment.used);
        tombstones += u64::from(segment.tombstones);
        slots += segment.slots;
    }
    let log: u64 = map.log.iter().map(|file| file.length).sum();
    let live: u64 = map.log.iter().map(|file| file.live).sum();
    vec![
        counted(used, "entry"),
        counted(map.segments.len() as u64, "segment"),
        (percent(used, slots), format!("of {} slots used", count(slots))),
        counted(tombstones, "tombstone"),
        (show(map.blocks.len() as u64 * BLOCK), "table file".to_owned()),
        (show(log), format!("log, {} of it live", show(live))),
    ]
}

/// What a column stands for.
pub fn column(column: &Column) -> String {
    let of = format!("hashes from {:08x}", column.prefix);
    if column.segments == 0 {
        return format!("{of}: the directory page cannot be read");
    }
    let load = percent(column.used, column.slots);
    let (used, slots) = (count(column.used), count(column.slots));
    let mut text = match column.segments {
        1 => format!("segment {}", column.first),
        n => format!("{} segments from {}", count(n), column.first),
    };
    text += &format!(" ({of}): {used} of {slots} slots used, {load}");
    let each = if column.segments > 1 { " each" } else { "" };
    let (tombstones, pages) = (several(column.tombstones, "tombstone"), pages(column.pages));
    text += &format!(", {tombstones}, {pages}{each}");
    if column.damaged > 0 {
        text += &format!(", {} damaged", count(column.damaged));
    }
    text
}

/// What a cell stands for.
pub fn cell(cell: &Cell, slots_per_page: u32, place: Option<(u64, usize)>) -> String {
    if cell.blocks == 1 {
        let what = match (cell.kind, place) {
            (Kind::Page, Some((segment, page))) => format!(
                "page {page} of segment {segment}, {} of {slots_per_page} slots used, {}",
                cell.used,
                several(cell.tombstones, "tombstone")
            ),
            (kind, Some((segment, page))) => {
                format!("{}, page {page} of segment {segment}", kind.name())
            }
            (kind, None) => kind.name().to_owned(),
        };
        return format!("block {}: {what}", count(cell.first as u64));
    }
    let last = cell.first + cell.blocks - 1;
    let mut text = format!("blocks {} to {}:", count(cell.first as u64), count(last as u64));
    let mut separator = " ";
    for (kind, number) in Kind::ALL.iter().zip(cell.counts).filter(|(_, number)| *number > 0) {
        text += &format!("{separator}{} {}", count(number.into()), kind.name());
        if *kind == Kind::Page {
            let slots = u64::from(number) * u64::from(slots_per_page);
            text += &format!(" ({} used)", percent(cell.used, slots));
        }
        separator = ", ";
    }
    text
}

/// Which files a bar stands for.
pub fn bar_name(bar: &Bar) -> String {
    match bar.files {
        1 => bar.first.to_string(),
        _ => format!("{}-{}", bar.first, bar.last),
    }
}

/// What becomes of the files of a bar.
pub fn bar_state(bar: &Bar) -> &'static str {
    match bar {
        Bar { damaged: true, .. } => "damaged",
        Bar { active: true, .. } => "active",
        Bar { prepared: true, .. } => "made ahead",
        _ => "",
    }
}

/// How large the files of a bar are, and how much in them is live.
pub fn bar_size(bar: &Bar) -> String {
    match bar.prepared {
        true => show(bar.length()),
        false => format!("{}, {} live", show(bar.length()), percent(bar.live, bar.written())),
    }
}

/// All numbers of a bar.
pub fn bar(bar: &Bar) -> String {
    let files = match bar.files {
        1 => format!("log file {}", bar.first),
        files => format!("{files} log files, {} to {}", bar.first, bar.last),
    };
    let state = match bar_state(bar) {
        "" => String::new(),
        state => format!(" ({state})"),
    };
    format!(
        "{files}{state}: {} live, {} to replay, {} not needed, {} not written",
        show(bar.live),
        show(bar.replayed),
        show(bar.dead),
        show(bar.rest)
    )
}
