//! The progress bar on standard error.
//!
//! It is drawn only where people see it: when standard error is a terminal
//! and the data do not go to that terminal too. It vanishes when the work is
//! done or has failed, so that messages stand alone.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::size;

/// Counts entries and shows how many there were and how fast they come.
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
    entries: u64,
}

impl Progress {
    /// Starts to count bytes of input, of which there are `total` if known.
    pub fn of_bytes(total: Option<u64>) -> Progress {
        let template = match total {
            Some(_) => "[{bar:30}] {bytes} of {total_bytes}, {msg}, {eta} left",
            None => "{spinner} {bytes}, {msg}",
        };
        Progress::start(total, template, true)
    }

    /// Starts to count entries, of which there are `total`.
    pub fn of_entries(total: u64, visible: bool) -> Progress {
        Progress::start(Some(total), "[{bar:30}] {percent} %, {msg}, {eta} left", visible)
    }

    /// Starts something of which a share is done.
    pub fn of_share(what: &str) -> Progress {
        let progress = Progress::start(Some(1000), "[{bar:30}] {percent} %, {msg}", true);
        progress.bar.set_message(what.to_owned());
        progress
    }

    /// Shows which share is done, 0 to 1.
    pub fn stand_at(&self, share: f64) {
        self.bar.set_position((share * 1000.0) as u64);
    }

    fn start(total: Option<u64>, template: &str, visible: bool) -> Progress {
        // indicatif hides the bar by itself where standard error is no terminal.
        let target = match visible {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(total, target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message("0 entries");
        Progress { bar, started: Instant::now(), entries: 0 }
    }

    /// Notes more entries; the bar stands at `position` now.
    pub fn advance(&mut self, entries: u64, position: u64) {
        self.entries += entries;
        if !self.bar.is_hidden() {
            self.bar.set_message(format!(
                "{} entries, {} per second",
                size::count(self.entries),
                size::count(self.rate())
            ));
            self.bar.set_position(position);
        }
    }

    /// How many entries there were.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Entries per second since the start.
    fn rate(&self) -> u64 {
        let seconds = self.started.elapsed().max(Duration::from_micros(1)).as_secs_f64();
        (self.entries as f64 / seconds) as u64
    }

    /// The closing sentence: how many entries, in what time.
    pub fn summary(&self, verb: &str, place: &str) -> String {
        format!(
            "{verb} {} entries {place} in {:.2} s, {} per second",
            size::count(self.entries),
            self.started.elapsed().as_secs_f64(),
            size::count(self.rate())
        )
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A bar for each of several steps, one after the other.
#[derive(Default)]
pub struct Steps {
    what: String,
    bar: Option<Progress>,
}

impl Steps {
    /// Shows which share of a step is done, 0 to 1.
    pub fn stand_at(&mut self, what: &str, share: f64) {
        if self.what != what {
            // The old bar goes before the new one comes.
            self.bar = None;
            self.bar = Some(Progress::of_share(what));
            self.what = what.to_owned();
        }
        if let Some(bar) = &self.bar {
            bar.stand_at(share);
        }
    }
}
