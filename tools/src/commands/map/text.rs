//! The picture in characters, for a terminal.
//!
//! The same three parts as in the SVG file, as wide as the terminal. Every
//! kind has a character of its own, so nothing is lost without colour.

use super::Subject;
use super::cells::{self, Bar, Cell, Column, Kind};
use super::words::{self, BLOCK};
use crate::colour::Colour;
use crate::outcome::Failure;
use crate::output::Output;
use crate::size::{count, show};

/// The width where there is no terminal, the narrowest and the widest one.
const WIDTH: usize = 80;
const NARROWEST: usize = 40;
const WIDEST: usize = 160;
/// Characters of a label, with the space behind it.
const GUTTER: usize = 12;
/// At most so many rows of columns, rows of cells, and bars.
const SKYLINES: usize = 4;
const ROWS: usize = 16;
const BARS: usize = 20;

/// From nearly empty to as full as it gets.
const LOADS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const BLUE: &str = "\x1b[34m";
const YELLOW: &str = "\x1b[33m";
const MAGENTA: &str = "\x1b[35m";
const RED: &str = "\x1b[1;31m";
const GREEN: &str = "\x1b[32m";
const CYAN: &str = "\x1b[36m";
const DIM: &str = "\x1b[2m";

/// Draws the picture.
pub fn draw(subject: &Subject, colour: Colour, output: &mut Output) -> Result<(), Failure> {
    let is_terminal = Output::is_terminal();
    let width = match terminal_size::terminal_size() {
        Some((width, _)) if is_terminal => usize::from(width.0).clamp(NARROWEST, WIDEST),
        _ => WIDTH,
    };
    let mut page = Page { output, colour, is_terminal, width: width - GUTTER };
    page.title(subject)?;
    page.segments(subject)?;
    page.blocks(subject)?;
    page.log(subject)
}

/// Where it is drawn.
struct Page<'a> {
    output: &'a mut Output,
    colour: Colour,
    is_terminal: bool,
    /// Characters of a row, right of its label.
    width: usize,
}

/// A character and its colour.
type Dot = (char, &'static str);

impl Page<'_> {
    fn title(&mut self, subject: &Subject) -> Result<(), Failure> {
        let (path, table) = words::title(subject);
        self.output.line(format_args!("{path}, {table}"))?;
        self.output.line(words::state(subject.map))?;
        let numbers: Vec<String> = words::numbers(subject.map)
            .into_iter()
            .map(|(number, what)| format!("{number} {what}"))
            .collect();
        for line in numbers.chunks(3) {
            self.output.line(line.join(" · "))?;
        }
        let word = self.colour.bad("damage", self.is_terminal);
        for piece in subject.map.damage.iter().take(5) {
            self.output.line(format_args!("{word} {} {}", piece.file, piece.damage))?;
        }
        if let Some(more @ 1..) = subject.map.damage.len().checked_sub(5) {
            let more = words::several(more as u64, "piece");
            self.output.line(format_args!("{word} and {more} more; `swissdb verify` tells all"))?;
        }
        Ok(())
    }

    fn segments(&mut self, subject: &Subject) -> Result<(), Failure> {
        let limit = (self.width * SKYLINES).next_power_of_two() / 2;
        let columns = cells::columns(subject.map, limit);
        let what = match columns.iter().map(|column| column.segments).max() {
            None | Some(0 | 1) => "a segment".to_owned(),
            Some(most) => format!("up to {} segments", count(most)),
        };
        self.output.line("")?;
        self.output.line(format_args!("Segments, in hash order: each character is {what}"))?;
        let scale: String = LOADS.iter().collect();
        let mut legend = vec![(BLUE, scale.clone(), "entries, 0 to 87.5 %".to_owned())];
        if columns.iter().any(|column| column.tombstones > 0) {
            legend.push((YELLOW, scale, "tombstones".to_owned()));
        }
        if columns.iter().any(|column| column.segments == 0 || column.damaged > 0) {
            legend.push((RED, "!".to_owned(), "damaged or not known".to_owned()));
        }
        self.legend(&legend)?;
        for row in columns.chunks(self.width) {
            let label = row.first().map_or(0, |column| column.prefix);
            let dots: Vec<Dot> = row.iter().map(column).collect();
            self.row(&format!("{label:08x}"), &dots)?;
            if row.iter().any(|column| column.tombstones > 0) {
                let dots: Vec<Dot> = row.iter().map(tombstones).collect();
                self.row("tombstones", &dots)?;
            }
        }
        Ok(())
    }

    fn blocks(&mut self, subject: &Subject) -> Result<(), Failure> {
        let map = subject.map;
        // Rows of as many cells as a power of two are easy to count in.
        let per_row = 1 << self.width.ilog2();
        let per_cell = cells::per_cell(map.blocks.len(), per_row * ROWS);
        self.output.line("")?;
        let what = match per_cell {
            1 => format!("each character is one of {}", show(BLOCK)),
            n => format!("each character is what most of {n} are, {}", show(n as u64 * BLOCK)),
        };
        self.output.line(format_args!("Blocks of the table file: {what}"))?;
        let totals = cells::totals(&map.blocks);
        let (rare, common) = Kind::ALL.split_at(Kind::Page as usize);
        let present = common.iter().chain(rare).filter(|kind| totals[**kind as usize] > 0);
        let legend: Vec<_> = present
            .map(|kind| {
                let (character, code) = dot(*kind);
                let characters = match kind {
                    Kind::Page => LOADS.iter().collect(),
                    _ => character.to_string(),
                };
                let number = count(totals[*kind as usize]);
                (code, characters, format!("{} {number}", kind.name()))
            })
            .collect();
        self.legend(&legend)?;
        let cells = cells::cells(&map.blocks, per_cell);
        for row in cells.chunks(per_row) {
            let offset = row.first().map_or(0, |cell| cell.first as u64 * BLOCK);
            let dots: Vec<Dot> = row.iter().map(|cell| block(cell, map.slots_per_page)).collect();
            self.row(&show(offset), &dots)?;
        }
        Ok(())
    }

    fn log(&mut self, subject: &Subject) -> Result<(), Failure> {
        let bars = cells::bars(&subject.map.log, BARS);
        self.output.line("")?;
        self.output.line("Log files, by number")?;
        let names = ["live", "not needed", "replayed by the next opening", "not written"];
        let items = LOG.iter().zip(names);
        let legend: Vec<_> =
            items.map(|(dot, name)| (dot.1, dot.0.to_string(), name.to_owned())).collect();
        self.legend(&legend)?;
        let longest = bars.iter().map(Bar::length).max().unwrap_or(0).max(1);
        for bar in &bars {
            let full = self.width.saturating_sub(32).max(10);
            let dots = log_bar(bar, full, longest);
            let drawn = self.paint(&dots);
            let (label, size) = (words::bar_name(bar), words::bar_size(bar));
            let state = words::bar_state(bar);
            let line = format!("{label:>10}  {drawn}  {size}  {state}");
            self.output.line(line.trim_end())?;
        }
        Ok(())
    }

    /// What the characters mean: their colour, themselves, their meaning. In as
    /// many lines as it takes.
    fn legend(&mut self, items: &[(&str, String, String)]) -> Result<(), Failure> {
        let (mut line, mut length) = (String::new(), 0);
        for (code, characters, name) in items {
            let width = characters.chars().count() + 1 + name.chars().count();
            if length > 0 && length + 3 + width > self.width + GUTTER {
                self.output.line(&line)?;
                (line, length) = (String::new(), 0);
            }
            let gap = if length == 0 { "  " } else { "   " };
            let characters = self.colour.paint(code, characters, self.is_terminal);
            line += &format!("{gap}{characters} {name}");
            length += gap.len() + width;
        }
        self.output.line(line)
    }

    fn row(&mut self, label: &str, dots: &[Dot]) -> Result<(), Failure> {
        let row = self.paint(dots);
        self.output.line(format_args!("{label:>10}  {}", row.trim_end()))
    }

    /// Characters in their colours, neighbours of the same colour together.
    fn paint(&self, dots: &[Dot]) -> String {
        let runs = dots.chunk_by(|a, b| a.1 == b.1);
        runs.map(|run| {
            let text: String = run.iter().map(|dot| dot.0).collect();
            self.colour.paint(run[0].1, &text, self.is_terminal)
        })
        .collect()
    }
}

/// The character of a load: no segment is fuller than 7/8.
fn load(share: f64) -> char {
    LOADS[((share / 0.875 * 8.0) as usize).min(7)]
}

fn column(column: &Column) -> Dot {
    match column {
        Column { segments: 0, .. } | Column { damaged: 1.., .. } => ('!', RED),
        column => (load(column.share(column.used)), BLUE),
    }
}

fn tombstones(column: &Column) -> Dot {
    match column.tombstones {
        0 => (' ', YELLOW),
        some => (load(column.share(some)), YELLOW),
    }
}

fn block(cell: &Cell, slots_per_page: u32) -> Dot {
    match cell.kind {
        Kind::Page => (load(cell.load(slots_per_page)), BLUE),
        kind => dot(kind),
    }
}

fn dot(kind: Kind) -> Dot {
    match kind {
        Kind::Damaged => ('!', RED),
        Kind::Unreached => ('?', RED),
        Kind::Header => ('H', MAGENTA),
        Kind::Root => ('R', MAGENTA),
        Kind::FreeMap => ('F', MAGENTA),
        Kind::Directory => ('D', YELLOW),
        Kind::Page => (LOADS[7], BLUE),
        Kind::Free => ('·', DIM),
        Kind::Hole => ('_', DIM),
    }
}

/// Live, not needed, to be replayed, not written.
const LOG: [Dot; 4] = [('█', GREEN), ('░', DIM), ('▒', CYAN), ('·', DIM)];

fn log_bar(bar: &Bar, full: usize, longest: u64) -> Vec<Dot> {
    let scale = |bytes: u64| (bytes as f64 / longest as f64 * full as f64).round() as usize;
    let mut dots = Vec::new();
    let mut end = 0;
    for (dot, bytes) in LOG.into_iter().zip([bar.live, bar.dead, bar.replayed, bar.rest]) {
        end += bytes;
        dots.resize(scale(end).max(dots.len()), dot);
    }
    if dots.is_empty() {
        dots.push(LOG[3]);
    }
    dots.resize(full.max(dots.len()), (' ', DIM));
    dots
}
