//! `swissdb map`: a picture of a store.
//!
//! The library says what every block, segment and log file holds. Here this is
//! gathered into as many cells as people can look at (`map/cells.rs`), and
//! drawn as a picture that stands alone (`map/svg.rs`) or with characters
//! (`map/text.rs`). Both show the same three parts with the same words; those
//! that need both are in `map/words.rs`.

mod canvas;
mod cells;
mod svg;
mod text;
mod words;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use swissdb::inspect::{self, StoreMap};

use crate::colour::Colour;
use crate::opening::{self, Store, TableName};
use crate::outcome::{Failure, Outcome, answer, note};
use crate::output::Output;
use crate::progress::Progress;

/// Draws a picture of a store
///
/// It shows how full each segment is, what each block of the table file holds,
/// and how much of each log file is still needed. Where there are too many of
/// them, a cell stands for several. All pages of the table are read, and no
/// byte is changed.
#[derive(Args)]
#[command(after_help = "Examples:
  swissdb map packages.swissdb                   in the terminal
  swissdb map packages.swissdb --svg map.svg     for a browser

Exit status: 0 undamaged, 1 damage was found, 2 an error.")]
pub struct Arguments {
    #[command(flatten)]
    store: Store,

    #[command(flatten)]
    table: TableName,

    /// Draw an SVG picture into a file; - is standard output
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    svg: Option<PathBuf>,

    /// Draw with characters; so it is done without --svg, too
    #[arg(long)]
    text: bool,
}

/// What is drawn, and of what.
struct Subject<'a> {
    path: &'a Path,
    table: &'a str,
    map: &'a StoreMap,
}

/// Runs the command.
pub fn run(arguments: &Arguments, colour: Colour) -> Outcome {
    let (path, table) = (&arguments.store.path, &arguments.table.table);
    if let Some(file) = &arguments.svg {
        keep_out_of_the_store(file, path)?;
    }
    opening::check_table_file(&arguments.store, &arguments.table)?;
    let progress = Progress::of_share("reading pages");
    let map = inspect::map_with(path, table, |share| progress.stand_at(share))?;
    drop(progress);
    let subject = Subject { path, table, map: &map };
    let shown = match &arguments.svg {
        None => {
            let mut output = Output::new();
            text::draw(&subject, colour, &mut output).and_then(|()| output.finish())
        }
        Some(file) => write(file, &svg::draw(&subject)).inspect(|()| tell_damage(&map)),
    };
    answer(map.damage.is_empty(), shown)
}

/// Tells of damage beside a picture.
fn tell_damage(map: &StoreMap) {
    if let Some(first) = map.damage.first() {
        let count = words::several(map.damage.len() as u64, "piece");
        note(format_args!(
            "{count} of damage, the first in {} {}; `swissdb verify` tells all",
            first.file, first.damage
        ));
    }
}

/// Refuses to write a picture over a file of the store.
fn keep_out_of_the_store(file: &Path, store: &Path) -> Result<(), Failure> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = fs::canonicalize(parent.unwrap_or(Path::new(".")));
    match (parent, fs::canonicalize(store)) {
        (Ok(parent), Ok(store)) if parent.starts_with(&store) => Err(Failure::Sentence(format!(
            "the picture {} would lie in the store itself; give it another place",
            file.display()
        ))),
        _ => Ok(()),
    }
}

fn write(file: &Path, picture: &str) -> Result<(), Failure> {
    if file.as_os_str() == "-" {
        let mut output = Output::new();
        output.bytes(picture.as_bytes())?;
        return output.finish();
    }
    fs::write(file, picture).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::NotFound => "; its directory has to be there first",
            _ => "",
        };
        Failure::Sentence(format!("could not write {}: {error}{advice}", file.display()))
    })
}
