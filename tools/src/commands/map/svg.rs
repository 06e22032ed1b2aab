//! The picture: an SVG file that stands alone, on its own light background.
//!
//! From top to bottom: whose picture it is; the numbers that matter most; the
//! segments as a skyline over all hashes, in rows; the blocks as a grid in the
//! order of the file; the log files as bars. The same ramp of blues says how
//! full a segment is and how full a page is. Every part has its legend above
//! it, and the legend of the blocks counts them.

use super::Subject;
use super::canvas::{Canvas, Font, Rect};
use super::cells::{self, Bar, Cell, Column, Kind};
use super::words::{self, BLOCK};
use crate::size::{count, show};

const WIDTH: f64 = 1200.0;
/// Where the text begins, and as far from the right edge it ends.
const MARGIN: f64 = 44.0;
/// Where rows begin, right of their labels.
const PLOT: f64 = 118.0;
const PLOT_WIDTH: f64 = WIDTH - MARGIN - PLOT;

/// At most so many columns, cells and bars.
const COLUMNS: usize = 2048;
const CELLS: usize = 4096;
const BARS: usize = 20;

const INK: &str = "#1d2733";
const GREY: &str = "#66717e";
const PALE: &str = "#e9edf2";
const LINE: &str = "#c9d0d9";
const TOMBSTONE: &str = "#f2902f";
const DAMAGE: &str = "#d92638";
const LIVE: &str = "#2f9e62";
const REPLAYED: &str = "#7b5cd6";
const DEAD: &str = "#c4b7a3";

/// The colours of load, at even distances from 0 to 7/8: more no segment holds.
const RAMP: [(u8, u8, u8); 5] =
    [(214, 230, 244), (158, 202, 225), (85, 158, 208), (28, 106, 175), (8, 52, 112)];

/// How wide a character of a legend is at most, on average.
const LEGEND_CHARACTER: f64 = 7.3;

const TEXT: Font = Font { size: 14.0, fill: GREY, bold: false, mono: false, anchor: "start" };
const LABEL: Font = Font { size: 11.5, fill: GREY, bold: false, mono: true, anchor: "end" };
const NAME: Font = Font { size: 14.0, fill: INK, bold: true, mono: false, anchor: "start" };
const HEADING: Font = Font { size: 20.0, fill: INK, bold: true, mono: false, anchor: "start" };

/// Draws the picture.
pub fn draw(subject: &Subject) -> String {
    let mut canvas = Canvas::new(WIDTH);
    let mut y = title(&mut canvas, subject);
    y = segments(&mut canvas, subject, y + 40.0);
    y = blocks(&mut canvas, subject, y + 40.0);
    y = log(&mut canvas, subject, y + 40.0);
    let (path, table) = words::title(subject);
    let ramp: Vec<String> = (0..=4)
        .map(|i| {
            format!(
                "<stop offset=\"{}\" stop-color=\"{}\"/>",
                f64::from(i) / 4.0,
                shade(f64::from(i) * 7.0 / 32.0)
            )
        })
        .collect();
    let definitions = format!(
        "<linearGradient id=\"load\">{}</linearGradient>\
         <pattern id=\"unknown\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\" \
         patternTransform=\"rotate(45)\"><rect width=\"8\" height=\"8\" fill=\"#f9d7db\"/>\
         <rect width=\"4\" height=\"8\" fill=\"{DAMAGE}\"/></pattern>",
        ramp.concat()
    );
    canvas.finish(y + MARGIN, &format!("{path}, {table}"), &definitions, "#fbfcfd")
}

/// The colour of a load between 0 and 7/8.
fn shade(load: f64) -> String {
    let place = (load / 0.875).clamp(0.0, 1.0) * (RAMP.len() - 1) as f64;
    let i = (place as usize).min(RAMP.len() - 2);
    let mix =
        |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * (place - i as f64)) as u8;
    let (a, b) = (RAMP[i], RAMP[i + 1]);
    format!("#{:02x}{:02x}{:02x}", mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

fn title(canvas: &mut Canvas, subject: &Subject) -> f64 {
    let (path, table) = words::title(subject);
    let mut y = MARGIN + 22.0;
    let size = (WIDTH * 1.45 / (path.chars().count() as f64 + 14.0)).clamp(12.0, 28.0);
    canvas.text(MARGIN, y, Font { size, ..HEADING }, &path);
    let right = Font { size: 18.0, anchor: "end", ..TEXT };
    canvas.text(WIDTH - MARGIN, y, right, &table);
    y += 26.0;
    canvas.text(MARGIN, y, TEXT, &words::state(subject.map));
    if !subject.map.damage.is_empty() {
        y = damage(canvas, subject, y + 18.0);
    }
    y += 24.0;
    let numbers = words::numbers(subject.map);
    let gap = 12.0;
    let width = (WIDTH - 2.0 * MARGIN + gap) / numbers.len() as f64 - gap;
    for (i, (number, what)) in numbers.iter().enumerate() {
        let x = MARGIN + i as f64 * (width + gap);
        let tile = Rect { x, y, width, height: 66.0 };
        canvas.shape(tile, &format!("rx=\"6\" fill=\"{PALE}\""), None);
        canvas.text(x + 14.0, y + 31.0, Font { size: 23.0, ..HEADING }, number);
        canvas.text(x + 14.0, y + 52.0, Font { size: 12.5, ..TEXT }, what);
    }
    y + 66.0
}

fn damage(canvas: &mut Canvas, subject: &Subject, y: f64) -> f64 {
    let damage = &subject.map.damage;
    let shown = &damage[..damage.len().min(3)];
    let height = 34.0 + 20.0 * shown.len() as f64;
    let banner = Rect { x: MARGIN, y, width: WIDTH - 2.0 * MARGIN, height };
    canvas.shape(banner, &format!("rx=\"6\" fill=\"#fdebed\" stroke=\"{DAMAGE}\""), None);
    let pieces = words::several(damage.len() as u64, "piece");
    let heading = format!("{pieces} of damage; `swissdb verify` tells all about it");
    canvas.text(MARGIN + 14.0, y + 22.0, Font { fill: DAMAGE, ..NAME }, &heading);
    for (i, piece) in shown.iter().enumerate() {
        let text = format!("{} {}", piece.file, piece.damage);
        canvas.text(MARGIN + 14.0, y + 42.0 + 20.0 * i as f64, TEXT, &text);
    }
    y + height
}

/// An item of a legend: its colour, its name, its number.
struct Item {
    fill: String,
    name: String,
    number: String,
}

/// Draws items of a legend in a row, and in more where it is too long. Returns
/// the baseline of the last one.
fn legend(canvas: &mut Canvas, mut x: f64, mut y: f64, items: &[Item]) -> f64 {
    for item in items {
        let characters = item.name.chars().count() + item.number.chars().count();
        let width = 28.0 + LEGEND_CHARACTER * characters as f64;
        if x + width > WIDTH - MARGIN && x > MARGIN {
            (x, y) = (MARGIN, y + 24.0);
        }
        let swatch = Rect { x, y: y - 11.5, width: 14.0, height: 14.0 };
        let outline = format!("fill=\"{}\" stroke=\"{LINE}\" stroke-width=\"0.7\"", item.fill);
        canvas.shape(swatch, &outline, None);
        let font = Font { size: 13.0, fill: INK, ..TEXT };
        canvas.two_texts(x + 21.0, y, font, &item.name, GREY, &item.number);
        x += width + 20.0;
    }
    y
}

/// The scale of load, behind its name. Returns where it ends.
fn scale(canvas: &mut Canvas, x: f64, y: f64, name: &str, number: &str) -> f64 {
    let font = Font { size: 13.0, fill: INK, ..TEXT };
    canvas.two_texts(x, y, font, name, GREY, number);
    let characters = name.chars().count() + number.chars().count();
    let from = x + LEGEND_CHARACTER * characters as f64 + 14.0;
    let bar = Rect { x: from, y: y - 11.5, width: 140.0, height: 14.0 };
    canvas.rect(bar, "url(#load)", None);
    for (at, text) in [(0.0, "0"), (80.0, "50 %"), (140.0, "87.5 % full")] {
        let font = Font { size: 11.0, anchor: "middle", ..TEXT };
        canvas.text(from + at, y + 15.0, font, text);
    }
    from + 140.0 + 50.0
}

fn segments(canvas: &mut Canvas, subject: &Subject, y: f64) -> f64 {
    let columns = cells::columns(subject.map, COLUMNS);
    canvas.text(MARGIN, y, HEADING, "Segments, in hash order");
    let about = match columns.iter().map(|column| column.segments).max() {
        None | Some(0 | 1) => "A segment is a small hash table of up to 16 pages; each column is \
             one. Width: its share of all hashes. Height: its pages. Filled: its entries."
            .to_owned(),
        Some(most) => format!(
            "A segment is a small hash table of up to 16 pages; each column stands for up to {}. \
             Width: share of all hashes. Height: pages. Filled: entries.",
            count(most)
        ),
    };
    canvas.text(MARGIN, y + 25.0, TEXT, &about);
    let at = y + 53.0;
    let x = scale(canvas, MARGIN, at, "entries", "");
    let item = |fill: &str, name: &str| Item {
        fill: fill.into(),
        name: name.into(),
        number: String::new(),
    };
    let mut items = vec![item(TOMBSTONE, "tombstones"), item(PALE, "empty slots")];
    if columns.iter().any(|column| column.segments == 0 || column.damaged > 0) {
        items.push(item("url(#unknown)", "damaged, or not known for damage"));
    }
    let at = legend(canvas, x, at, &items);
    skyline(canvas, &columns, at + 36.0)
}

/// Draws the columns in rows, each for the same share of all hashes.
fn skyline(canvas: &mut Canvas, columns: &[Column], mut y: f64) -> f64 {
    let tallest = columns.iter().map(|column| column.pages).fold(1.0, f64::max);
    let rows = (columns.len() as u64 * 5).div_ceil(PLOT_WIDTH as u64).next_power_of_two().min(8);
    let height = [110.0, 78.0, 60.0, 46.0][rows.ilog2() as usize];
    let row_hashes = (1u64 << 32) / rows;
    for row in 0..rows {
        let (from, to) = (row * row_hashes, (row + 1) * row_hashes);
        canvas.text(PLOT - 12.0, y + height - 2.0, LABEL, &format!("0x{from:08x}"));
        if row == 0 {
            canvas.text(PLOT - 12.0, y + 9.0, LABEL, &words::pages(tallest));
        }
        for column in columns {
            let first = u64::from(column.prefix).max(from);
            let end = (u64::from(column.prefix) + column.width).min(to);
            if first >= end {
                continue;
            }
            let scale = PLOT_WIDTH / row_hashes as f64;
            let (x, width) = ((first - from) as f64 * scale, (end - first) as f64 * scale);
            let gap = (width / 8.0).min(1.0);
            let place = Rect { x: PLOT + x, y, width: width - gap, height };
            draw_column(canvas, column, place, tallest);
        }
        let ground = Rect { x: PLOT, y: y + height, width: PLOT_WIDTH, height: 1.0 };
        canvas.rect(ground, GREY, None);
        y += height + 12.0;
    }
    y - 12.0
}

fn draw_column(canvas: &mut Canvas, column: &Column, place: Rect, tallest: f64) {
    let title = words::column(column);
    let bottom = place.y + place.height;
    let tall = |share: f64, above: f64| {
        let height = share * place.height;
        Rect { y: bottom - above * place.height - height, height, ..place }
    };
    if column.segments == 0 {
        return canvas.rect(place, "url(#unknown)", Some(&title));
    }
    let full = column.pages / tallest;
    canvas.rect(tall(full, 0.0), PALE, Some(&title));
    let load = column.share(column.used);
    canvas.rect(tall(full * load, 0.0), &shade(load), Some(&title));
    if column.tombstones > 0 {
        let dead = column.share(column.tombstones);
        canvas.rect(tall(full * dead, full * load), TOMBSTONE, Some(&title));
    }
    if column.damaged > 0 {
        let outside = tall(full, 0.0);
        let share = column.damaged as f64 / column.segments as f64;
        let width = (outside.width * share).max(3.0);
        canvas.rect(Rect { width, ..outside }, "url(#unknown)", Some(&title));
    }
}

/// The colour of a kind of block; that of a page is its load's.
fn fill(kind: Kind) -> &'static str {
    match kind {
        Kind::Damaged => DAMAGE,
        Kind::Unreached => "#e86fb0",
        Kind::Header => "#2b2f3a",
        Kind::Root => "#8a3fb4",
        Kind::FreeMap => "#12a594",
        Kind::Directory => "#e3b40c",
        Kind::Page => "url(#load)",
        Kind::Free => "#e3e0d9",
        Kind::Hole => "#ffffff",
    }
}

fn blocks(canvas: &mut Canvas, subject: &Subject, y: f64) -> f64 {
    let map = subject.map;
    let per_cell = cells::per_cell(map.blocks.len(), CELLS);
    canvas.text(MARGIN, y, HEADING, "Blocks of the table file, in the order of the file");
    let about = match per_cell {
        1 => format!("Each cell is a block of {}.", show(BLOCK)),
        n => format!(
            "Each cell stands for {n} blocks, {}, and is divided as they are; but damage, header, \
             root and free map fill it wherever there are any.",
            show(n as u64 * BLOCK)
        ),
    };
    canvas.text(MARGIN, y + 25.0, TEXT, &about);
    let totals = cells::totals(&map.blocks);
    let number = |kind: Kind| {
        let number = totals[kind as usize];
        format!("{}, {}", count(number), show(number * BLOCK))
    };
    let items = |kinds: &[Kind]| -> Vec<Item> {
        let present = kinds.iter().filter(|kind| totals[**kind as usize] > 0);
        let name = |kind: Kind| kind.name().to_owned();
        let item = |kind: &Kind| Item {
            fill: fill(*kind).into(),
            name: name(*kind),
            number: number(*kind),
        };
        present.map(item).collect()
    };
    let (rare, common) = Kind::ALL.split_at(Kind::Page as usize);
    let mut beside = items(&common[1..]);
    if map.segments.iter().any(|segment| segment.tombstones > 0) {
        let (fill, name) = (TOMBSTONE.to_owned(), "tombstones".to_owned());
        beside.insert(0, Item { fill, name, number: String::new() });
    }
    let mut at = y + 53.0;
    let x = scale(canvas, MARGIN, at, common[0].name(), &number(common[0]));
    at = legend(canvas, x, at, &beside) + 38.0;
    at = legend(canvas, MARGIN, at, &items(rare));
    grid(canvas, subject, per_cell, at + 20.0)
}

/// Draws the cells in rows.
fn grid(canvas: &mut Canvas, subject: &Subject, per_cell: usize, y: f64) -> f64 {
    let map = subject.map;
    let cells = cells::cells(&map.blocks, per_cell);
    let per_row = match cells.len() {
        0..=256 => 32,
        257..=1024 => 64,
        _ => 128,
    };
    let side = PLOT_WIDTH / per_row as f64;
    let gap = if side > 10.0 { 2.0 } else { 1.0 };
    let places = places(subject, per_cell);
    for (i, cell) in cells.iter().enumerate() {
        let (row, column) = (i / per_row, i % per_row);
        let (x, y) = (PLOT + column as f64 * side, y + row as f64 * side);
        if column == 0 && (side > 12.0 || row % 4 == 0) {
            let offset = show((cell.first as u64) * BLOCK);
            canvas.text(PLOT - 12.0, y + side / 2.0 + 4.0, LABEL, &offset);
        }
        let rect = Rect { x, y, width: side - gap, height: side - gap };
        let place = places.get(cell.first).copied().flatten();
        let title = words::cell(cell, map.slots_per_page, place);
        draw_cell(canvas, cell, rect, map.slots_per_page, &title);
        if side > 14.0 && per_cell == 1 {
            letter(canvas, cell, rect);
        }
    }
    y + cells.len().div_ceil(per_row) as f64 * side
}

fn draw_cell(canvas: &mut Canvas, cell: &Cell, rect: Rect, slots_per_page: u32, title: &str) {
    let rare: Vec<Kind> = cell.rare().collect();
    if !rare.is_empty() {
        let width = rect.width / rare.len() as f64;
        for (i, kind) in rare.into_iter().enumerate() {
            let x = rect.x + i as f64 * width;
            canvas.rect(Rect { x, width, ..rect }, fill(kind), Some(title));
        }
        return;
    }
    let height = |count: f64| rect.height * count / cell.blocks as f64;
    let mut bottom = rect.y + rect.height;
    for kind in [Kind::Page, Kind::Directory, Kind::Free, Kind::Hole] {
        let blocks = f64::from(cell.counts[kind as usize]);
        if blocks == 0.0 {
            continue;
        }
        bottom -= height(blocks);
        let part = Rect { y: bottom, height: height(blocks), ..rect };
        match kind {
            Kind::Page => {
                canvas.rect(part, &shade(cell.load(slots_per_page)), Some(title));
                let dead = cell.tombstones as f64 / f64::from(slots_per_page.max(1));
                if dead >= cell.blocks as f64 / 16.0 {
                    canvas.rect(Rect { height: height(dead), ..part }, TOMBSTONE, Some(title));
                }
            }
            Kind::Hole => {
                let outline = format!("fill=\"#fff\" stroke=\"{LINE}\" stroke-width=\"0.7\"");
                canvas.shape(part, &outline, Some(title));
            }
            kind => canvas.rect(part, fill(kind), Some(title)),
        }
    }
}

/// Writes what a block holds into a cell that is large enough.
fn letter(canvas: &mut Canvas, cell: &Cell, rect: Rect) {
    let text = match cell.kind {
        Kind::Damaged => "!",
        Kind::Unreached => "?",
        Kind::Header => "H",
        Kind::Root => "R",
        Kind::FreeMap => "F",
        Kind::Directory => "D",
        _ => return,
    };
    let (x, y) = (rect.x + rect.width / 2.0, rect.y + rect.height * 0.68);
    let font = Font { size: rect.height * 0.5, fill: "#fff", anchor: "middle", ..NAME };
    canvas.text(x, y, font, text);
}

/// Which page of which segment each block is, where every cell is a block.
fn places(subject: &Subject, per_cell: usize) -> Vec<Option<(u64, usize)>> {
    if per_cell > 1 {
        return Vec::new();
    }
    let mut places = vec![None; subject.map.blocks.len()];
    for segment in &subject.map.segments {
        for (i, page) in segment.pages.iter().enumerate() {
            if let Some(place) = places.get_mut(page.block as usize) {
                *place = Some((segment.number, i));
            }
        }
    }
    places
}

fn log(canvas: &mut Canvas, subject: &Subject, y: f64) -> f64 {
    let bars = cells::bars(&subject.map.log, BARS);
    canvas.text(MARGIN, y, HEADING, "Log files, by number");
    let what = match bars.iter().map(|bar| bar.files).max() {
        None | Some(0 | 1) => "Each bar is a file".to_owned(),
        Some(files) => format!("Each bar stands for {files} files or fewer"),
    };
    let about = format!(
        "{what}; its length is its size. Live are the keys and values that tables point to."
    );
    canvas.text(MARGIN, y + 25.0, TEXT, &about);
    let sum = |of: fn(&Bar) -> u64| show(bars.iter().map(of).sum());
    let item =
        |fill: &str, name: &str, number| Item { fill: fill.into(), name: name.into(), number };
    let items = [
        item(LIVE, "live", sum(|bar| bar.live)),
        item(DEAD, "not needed any more", sum(|bar| bar.dead)),
        item(REPLAYED, "replayed by the next opening", sum(|bar| bar.replayed)),
        item("#fff", "not written", sum(|bar| bar.rest)),
    ];
    let y = legend(canvas, MARGIN, y + 53.0, &items);
    let longest = bars.iter().map(Bar::length).max().unwrap_or(0).max(1);
    let mut y = y + 21.0;
    for bar in &bars {
        draw_bar(canvas, bar, y, longest);
        y += 26.0;
    }
    y
}

fn draw_bar(canvas: &mut Canvas, bar: &Bar, y: f64, longest: u64) {
    let full = PLOT_WIDTH - 260.0;
    let scale = full / longest as f64;
    let title = words::bar(bar);
    let name = Font { size: 13.0, ..LABEL };
    canvas.text(PLOT - 12.0, y + 14.0, name, &words::bar_name(bar));
    let width = (bar.length() as f64 * scale).max(3.0);
    let outline = format!("fill=\"#fff\" stroke=\"{LINE}\"");
    canvas.shape(Rect { x: PLOT, y, width, height: 18.0 }, &outline, Some(&title));
    let mut x = PLOT;
    for (bytes, fill) in [(bar.live, LIVE), (bar.dead, DEAD), (bar.replayed, REPLAYED)] {
        let width = bytes as f64 * scale;
        if bytes > 0 {
            canvas.rect(Rect { x, y, width, height: 18.0 }, fill, Some(&title));
        }
        x += width;
    }
    let beside = PLOT + width + 12.0;
    let size = words::bar_size(bar);
    canvas.text(beside, y + 14.0, Font { size: 13.0, ..TEXT }, &size);
    let fill = match bar.damaged {
        true => DAMAGE,
        false => INK,
    };
    let state = Font { size: 13.0, fill, ..NAME };
    let beside = beside + 6.9 * size.chars().count() as f64 + 14.0;
    canvas.text(beside, y + 14.0, state, words::bar_state(bar));
}
