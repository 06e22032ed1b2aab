//! What is drawn: columns for segments, cells for blocks, bars for log files.
//!
//! People can tell some thousand places in a picture apart. Where a store has
//! more, neighbours are put together: segments that share a hash prefix, blocks
//! in a row, log files in a row. What is put together is summed up; for its
//! kind, see [`Cell::kind`].

use swissdb::inspect::{BlockUse, LogSpace, LogState, SegmentRecord, StoreMap};

/// All hashes: prefixes have 32 bits.
const HASHES: u64 = 1 << 32;

/// A segment, some segments side by side, or hashes whose segment is not known.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The smallest prefix.
    pub prefix: u32,
    /// How many prefixes.
    pub width: u64,
    /// The number of the first segment.
    pub first: u64,
    /// How many segments; 0 if the directory does not say.
    pub segments: u64,
    /// Pages of a segment, on average.
    pub pages: f64,
    /// Entries.
    pub used: u64,
    /// Deleted slots.
    pub tombstones: u64,
    /// Slots.
    pub slots: u64,
    /// How many of the segments have a damaged page.
    pub damaged: u64,
}

impl Column {
    /// The share of a count in the slots.
    pub fn share(&self, count: u64) -> f64 {
        count as f64 / self.slots.max(1) as f64
    }

    fn unknown(prefix: u64, width: u64) -> Column {
        Column {
            prefix: prefix as u32,
            width,
            first: 0,
            segments: 0,
            pages: 0.0,
            used: 0,
            tombstones: 0,
            slots: 0,
            damaged: 0,
        }
    }

    fn add(&mut self, segment: &SegmentRecord, is_whole: bool) {
        if self.segments == 0 {
            self.first = segment.number;
        }
        let pages = self.pages * self.segments as f64 + segment.pages.len() as f64;
        self.segments += 1;
        self.pages = pages / self.segments as f64;
        self.used += u64::from(segment.used);
        self.tombstones += u64::from(segment.tombstones);
        self.slots += segment.slots;
        self.damaged += u64::from(!is_whole);
    }
}

/// The columns of all segments, at most about `limit`.
pub fn columns(map: &StoreMap, limit: usize) -> Vec<Column> {
    let deepest = map.segments.iter().map(|segment| segment.depth).max().unwrap_or(0);
    let mut columns = columns_at(map, deepest);
    for depth in (0..deepest).rev() {
        if columns.len() <= limit {
            break;
        }
        columns = columns_at(map, depth);
    }
    columns
}

/// The columns with all segments of a deeper depth put together.
fn columns_at(map: &StoreMap, depth: u8) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    let mut next = 0;
    for segment in &map.segments {
        let prefix = u64::from(segment.prefix);
        if prefix > next {
            columns.push(Column::unknown(next, prefix - next));
        }
        let width = HASHES >> segment.depth;
        let is_whole = map.is_whole(segment);
        let place = |prefix: u64| prefix >> (32 - depth);
        match columns.last_mut() {
            Some(last)
                if segment.depth > depth
                    && last.segments > 0
                    && place(last.prefix.into()) == place(prefix) =>
            {
                last.width = prefix + width - u64::from(last.prefix);
                last.add(segment, is_whole);
            }
            _ => {
                let mut column = Column::unknown(prefix, width);
                column.add(segment, is_whole);
                columns.push(column);
            }
        }
        next = prefix + width;
    }
    if next < HASHES {
        columns.push(Column::unknown(next, HASHES - next));
    }
    columns
}

/// What a cell shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Damaged,
    Unreached,
    Header,
    Root,
    FreeMap,
    Directory,
    Page,
    Free,
    Hole,
}

impl Kind {
    /// All of them, in the order of their declaration.
    pub const ALL: [Kind; 9] = [
        Kind::Damaged,
        Kind::Unreached,
        Kind::Header,
        Kind::Root,
        Kind::FreeMap,
        Kind::Directory,
        Kind::Page,
        Kind::Free,
        Kind::Hole,
    ];

    /// As it is called in the legend.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Damaged => "damaged",
            Kind::Unreached => "lost: nothing leads there",
            Kind::Header => "header",
            Kind::Root => "root",
            Kind::FreeMap => "free map",
            Kind::Directory => "directory",
            Kind::Page => "pages of segments",
            Kind::Free => "free",
            Kind::Hole => "hole: nothing written",
        }
    }

    fn of(block: BlockUse) -> Kind {
        match block {
            BlockUse::Header => Kind::Header,
            BlockUse::Root => Kind::Root,
            BlockUse::FreeMap => Kind::FreeMap,
            BlockUse::Directory => Kind::Directory,
            BlockUse::Page { .. } => Kind::Page,
            BlockUse::Free => Kind::Free,
            BlockUse::Hole => Kind::Hole,
            BlockUse::Unreached => Kind::Unreached,
            // The library may learn to tell more apart.
            _ => Kind::Damaged,
        }
    }
}

/// A block, or some blocks in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The first block.
    pub first: usize,
    /// How many.
    pub blocks: usize,
    /// What it shows: of the kinds that are rare and matter the first one, or
    /// else what most of the blocks are.
    pub kind: Kind,
    /// How many blocks there are of each kind.
    pub counts: [u32; 9],
    /// Entries in its pages.
    pub used: u64,
    /// Deleted slots in its pages.
    pub tombstones: u64,
}

impl Cell {
    fn of(first: usize, blocks: &[BlockUse]) -> Cell {
        let (mut counts, mut used, mut tombstones) = ([0; 9], 0, 0);
        for block in blocks {
            counts[Kind::of(*block) as usize] += 1;
            if let BlockUse::Page { used: more, tombstones: deleted } = block {
                used += u64::from(*more);
                tombstones += u64::from(*deleted);
            }
        }
        let mut cell =
            Cell { first, blocks: blocks.len(), kind: Kind::Free, counts, used, tombstones };
        let common = Kind::ALL[Kind::Directory as usize..].iter().rev();
        let most = common.max_by_key(|kind| counts[**kind as usize]);
        let first = cell.rare().next();
        cell.kind = first.or(most.copied()).unwrap_or(Kind::Free);
        cell
    }

    /// The kinds in it that are rare and matter.
    pub fn rare(&self) -> impl Iterator<Item = Kind> {
        let rare = Kind::ALL[..Kind::Directory as usize].iter().copied();
        rare.filter(|kind| self.counts[*kind as usize] > 0)
    }

    /// How full its pages are, 0 to 1.
    pub fn load(&self, slots_per_page: u32) -> f64 {
        let slots = u64::from(self.counts[Kind::Page as usize]) * u64::from(slots_per_page);
        self.used as f64 / slots.max(1) as f64
    }
}

/// How many blocks a cell stands for, where there may be `limit` cells: a power
/// of two.
pub fn per_cell(blocks: usize, limit: usize) -> usize {
    blocks.div_ceil(limit.max(1)).max(1).next_power_of_two()
}

/// The cells of all blocks.
pub fn cells(blocks: &[BlockUse], per_cell: usize) -> Vec<Cell> {
    let pieces = blocks.chunks(per_cell).enumerate();
    pieces.map(|(i, piece)| Cell::of(i * per_cell, piece)).collect()
}

/// How many blocks there are of each kind.
pub fn totals(blocks: &[BlockUse]) -> [u64; 9] {
    let mut totals = [0; 9];
    blocks.iter().for_each(|block| totals[Kind::of(*block) as usize] += 1);
    totals
}

/// A log file, or some of them in a row. Sizes are in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bar {
    /// The number of the first file.
    pub first: u32,
    /// The number of the last file.
    pub last: u32,
    /// How many.
    pub files: usize,
    /// What tables point to.
    pub live: u64,
    /// Records that an opening replays.
    pub replayed: u64,
    /// What is written and not needed any more.
    pub dead: u64,
    /// What is not written.
    pub rest: u64,
    /// Whether the log goes on in it.
    pub active: bool,
    /// Whether nothing is in any of them yet.
    pub prepared: bool,
    /// Whether something is wrong with any of them.
    pub damaged: bool,
}

impl Bar {
    fn of(files: &[LogSpace]) -> Bar {
        let is = |file: &LogSpace, state| file.state == state;
        let mut bar = Bar {
            first: files.first().map_or(0, |file| file.number),
            last: files.last().map_or(0, |file| file.number),
            files: files.len(),
            active: files.iter().any(|file| is(file, LogState::Active)),
            prepared: files.iter().all(|file| is(file, LogState::Prepared)),
            damaged: files.iter().any(|file| file.damaged),
            ..Bar::default()
        };
        for file in files {
            let end = if is(file, LogState::Prepared) { 0 } else { file.end };
            let replayed = file.replayed.min(end);
            let live = file.live.min(end - replayed);
            bar.live += live;
            bar.replayed += replayed;
            bar.dead += end - replayed - live;
            bar.rest += file.length.saturating_sub(end);
        }
        bar
    }

    /// All bytes.
    pub fn length(&self) -> u64 {
        self.written() + self.rest
    }

    /// The bytes up to where the records end.
    pub fn written(&self) -> u64 {
        self.live + self.replayed + self.dead
    }
}

/// The bars of all log files, at most `limit`.
pub fn bars(files: &[LogSpace], limit: usize) -> Vec<Bar> {
    let per_bar = files.len().div_ceil(limit.max(1)).max(1);
    files.chunks(per_bar).map(Bar::of).collect()
}
