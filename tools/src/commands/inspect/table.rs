//! Parts of a store as tables for people.
//!
//! Header, directory, segments and the log are here; a group, a block and a
//! search in `table/single.rs`.

mod single;

use swissdb::Corruption;
use swissdb::inspect::{
    Damage, Directory, DirectoryPage, Entry, HeaderCopy, LogFile, Operation, Page, Piece, Record,
    Segment, Slot, State,
};

use super::document::kind;
use crate::colour::Colour;
use crate::escape::Escaped;
use crate::outcome::Failure;
use crate::output::Output;
use crate::size::count;

/// Bytes of a key or value that are shown.
const SHOWN: usize = 48;

/// How much of a part is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What it is, and what is wrong with it: the bytes follow.
    Heading,
    /// All of it.
    All,
}

/// How tables are shown.
pub struct Tables {
    colour: Colour,
    on_terminal: bool,
}

impl Tables {
    /// Tables with their damage in colour, where that is wanted.
    pub fn new(colour: Colour) -> Tables {
        Tables { colour, on_terminal: Output::is_terminal() }
    }

    /// What is wrong with a part.
    pub fn damage(
        &self,
        output: &mut Output,
        indent: &str,
        damage: impl IntoIterator<Item = impl std::borrow::Borrow<Damage>>,
    ) -> Result<(), Failure> {
        let word = self.colour.bad("damage", self.on_terminal);
        for damage in damage {
            output.line(format_args!("{indent}{word} {}", damage.borrow()))?;
        }
        Ok(())
    }

    /// Damage that nothing can be shown in spite of.
    pub fn corruption(&self, output: &mut Output, damage: &Corruption) -> Result<(), Failure> {
        output.line(format_args!("{} {damage}", self.colour.bad("damage", self.on_terminal)))
    }

    /// A copy of a header.
    pub fn header(
        &self,
        output: &mut Output,
        copy: &HeaderCopy,
        detail: Detail,
    ) -> Result<(), Failure> {
        let counts = if copy.counts { " (this one counts)" } else { "" };
        output.line(format_args!("header, copy {}{counts}", copy.copy))?;
        self.damage(output, "  ", &copy.damage)?;
        let (Some(h), Detail::All) = (&copy.header, detail) else { return Ok(()) };
        let state = match (h.state, h.clean) {
            (State::Live, true) => "live, closed".to_owned(),
            (state, _) => format!("{state:?}").to_lowercase(),
        };
        let hash = match h.hash_id {
            1 => "1 (SipHash-1-3)".to_owned(),
            2 => "2 (rapidhash v3)".to_owned(),
            other => other.to_string(),
        };
        let run = |run: swissdb::inspect::Run| {
            let s = if run.blocks == 1 { "" } else { "s" };
            format!("block {}, {} block{s}, crc {:08x}", run.block, run.blocks, run.crc)
        };
        let log = format!(
            "file {} (salt {:08x}), offset {}, behind commit {}",
            h.log.file, h.log.salt, h.log.offset, h.log.commit
        );
        for (name, value) in [
            ("table", format!("{} (id {})", h.name, h.table_id)),
            ("state", state),
            ("slot payload", format!("{} bytes", h.payload)),
            ("hash", hash),
            ("hash key", format!("{:016x} {:016x}", h.hash_key[0], h.hash_key[1])),
            ("self-test", format!("{:016x}", h.self_test)),
            ("capacity", format!("{} slots", count(h.capacity))),
            ("used", count(h.used)),
            ("tombstones", count(h.tombstones)),
            ("growth left", count(h.growth_left)),
            ("segments", count(h.segments)),
            ("generation", h.generation.to_string()),
            ("equal to log", log),
            ("root", run(h.root)),
            ("root depth", h.root_depth.to_string()),
            ("live log files", h.live_count.to_string()),
            ("free map", run(h.free_map)),
            ("blocks", count(h.file_blocks.into())),
            ("next table id", h.next_table_id.to_string()),
            ("clears", h.clears.to_string()),
        ] {
            output.line(format_args!("  {name:<15} {value}"))?;
        }
        Ok(())
    }

    /// The root of a table, and the heading of the segments that follow.
    pub fn root(&self, output: &mut Output, directory: &Directory) -> Result<(), Failure> {
        let (run, depth) = (directory.run, directory.depth);
        output
            .line(format_args!("root, depth {depth}: block {}, crc {:08x}", run.block, run.crc))?;
        for (file, bytes) in &directory.live {
            output.line(format_args!("  {} live bytes in log file {file}", count(*bytes)))?;
        }
        self.damage(output, "  ", &directory.damage)
    }

    /// A directory page with its segments.
    pub fn directory_page(
        &self,
        output: &mut Output,
        page: &DirectoryPage,
        detail: Detail,
    ) -> Result<(), Failure> {
        let (number, first) = (page.number, page.first_entry);
        let (name, entries) = match page.entries {
            // Nothing leads to it.
            0 => ("directory page".to_owned(), String::new()),
            1 => (format!("directory page {number}"), format!("root entry {first}, ")),
            n => {
                let last = first + n - 1;
                (format!("directory page {number}"), format!("root entries {first} to {last}, "))
            }
        };
        output.line(format_args!(
            "{name}: block {}, crc {:08x}, {entries}prefix {:08x}/{}, generation {}",
            page.block, page.crc, page.prefix, page.depth, page.generation
        ))?;
        self.damage(output, "  ", &page.damage)?;
        match detail {
            Detail::Heading => Ok(()),
            Detail::All => self.segment_records(output, page),
        }
    }

    fn segment_records(&self, output: &mut Output, page: &DirectoryPage) -> Result<(), Failure> {
        if !page.segments.is_empty() {
            output.line("    segment  prefix/depth   used  tombstones  slots  blocks")?;
        }
        for s in &page.segments {
            let blocks: Vec<_> = s.pages.iter().map(|page| page.block.to_string()).collect();
            output.line(format_args!(
                "  {:>9}  {:08x}/{:<2}  {:>6}  {:>10}  {:>5}  {}",
                s.number,
                s.prefix,
                s.depth,
                s.used,
                s.tombstones,
                s.slots,
                blocks.join(" ")
            ))?;
        }
        Ok(())
    }

    /// A segment with all its entries.
    pub fn segment(&self, output: &mut Output, segment: &Segment) -> Result<(), Failure> {
        self.segment_heading(output, segment)?;
        for (number, page) in segment.pages.iter().enumerate() {
            self.page(output, number, page, Detail::All)?;
        }
        Ok(())
    }

    /// What the directory says of a segment.
    pub fn segment_heading(&self, output: &mut Output, segment: &Segment) -> Result<(), Failure> {
        let r = &segment.record;
        output.line(format_args!(
            "segment {}, prefix {:08x}/{}: {} slots, {} used, {} tombstones",
            r.number, r.prefix, r.depth, r.slots, r.used, r.tombstones
        ))
    }

    /// A page of a segment with all its entries.
    pub fn page(
        &self,
        output: &mut Output,
        number: usize,
        page: &Page,
        detail: Detail,
    ) -> Result<(), Failure> {
        let (_, _, _, generation) = page.page_record;
        output.line(format_args!(
            "page {number}: block {}, crc {:08x}, generation {generation}",
            page.at.block, page.at.crc
        ))?;
        self.damage(output, "  ", &page.damage)?;
        let groups = if detail == Detail::All { &page.groups[..] } else { &[] };
        for group in groups {
            let control: Vec<_> = group.slots.iter().map(control).collect();
            output.line(format_args!(
                "  group {:>3} at {:>10}  {}",
                group.number,
                group.offset,
                control.join(" ")
            ))?;
            for slot in &group.slots {
                if let Slot::Full(entry) = slot {
                    self.entry(output, entry)?;
                }
            }
        }
        Ok(())
    }

    fn entry(&self, output: &mut Output, entry: &Entry) -> Result<(), Failure> {
        let number = |number: Option<usize>| number.map_or("?".to_owned(), |n| n.to_string());
        let hash = entry.hash.map_or("?".to_owned(), |hash| format!("{hash:016x}"));
        output.line(format_args!(
            "    slot {}  hash {hash}  home {:>3}, found in step {:>2}  {}",
            entry.slot,
            number(entry.home),
            number(entry.probes),
            content(entry),
        ))?;
        if let Some(a) = &entry.address {
            output.line(format_args!(
                "            {} bytes in log file {} at {}, crc {:08x}",
                a.length, a.file, a.offset, a.crc
            ))?;
        }
        self.damage(output, "            ", &entry.damage)
    }

    /// A log file without its records.
    pub fn log_file(&self, output: &mut Output, file: &LogFile) -> Result<(), Failure> {
        let end = file.stated_end.map_or(String::new(), |end| format!(", ends at {end}"));
        let follows = match file.activation {
            None => "not part of the log yet".to_owned(),
            Some(a) if a.previous == 0 => "the first".to_owned(),
            Some(a) => format!("follows commit {} of file {}", a.last_commit, a.previous),
        };
        output.line(format_args!(
            "log file {}: {} bytes, salt {:08x}, {follows}{end}",
            file.number,
            count(file.length),
            file.salt
        ))?;
        self.damage(output, "  ", &file.damage)
    }

    /// A record, or bytes that are none.
    pub fn piece(&self, output: &mut Output, piece: &Piece, detail: Detail) -> Result<(), Failure> {
        match piece {
            Piece::Record(record) => self.record(output, record, detail),
            Piece::Gap(gap) => {
                let (at, length) = (gap.offset, count(gap.length));
                let why = &gap.why;
                output.line(format_args!("{at:>10}  {length} bytes that are no record: {why}"))
            }
        }
    }

    fn record(&self, output: &mut Output, record: &Record, detail: Detail) -> Result<(), Failure> {
        let validity = match (&record.damage, record.in_log) {
            (Some(_), _) => "damaged",
            (None, true) => "valid",
            (None, false) => "valid, but behind the end of the log",
        };
        let operations = record.operations.len() as u64 + record.more_operations;
        let operations = match operations {
            1 => String::new(),
            n => format!(", {} operations", count(n)),
        };
        output.line(format_args!(
            "{:>10}  commit {}, {} bytes, known durable {}, {validity}{operations}",
            record.offset,
            record.commit,
            count(record.length.into()),
            record.durable
        ))?;
        if detail == Detail::All {
            for op in &record.operations {
                output.line(format_args!("            {}", operation(op)))?;
            }
            if record.more_operations > 0 {
                let more = count(record.more_operations);
                output.line(format_args!("            ... and {more} operations more"))?;
            }
        }
        self.damage(output, "            ", &record.damage)
    }
}

/// Key and value of an entry.
fn content(entry: &Entry) -> String {
    let key = match &entry.key {
        Some(key) => short(key),
        None => format!("({} bytes)", count(entry.key_length as u64)),
    };
    let value = match (&entry.value, entry.value_length) {
        (Some(value), _) => short(value),
        (None, Some(length)) => format!("({} bytes)", count(length)),
        (None, None) => "?".to_owned(),
    };
    format!("{key} = {value}")
}

fn control(slot: &Slot) -> String {
    match slot {
        Slot::Empty => "--".to_owned(),
        Slot::Deleted => "xx".to_owned(),
        Slot::Unknown(byte) => format!("{byte:02x}?"),
        Slot::Full(entry) => format!("{:02x}", entry.h2),
    }
}

/// What an operation does, to what, and how long key and value are.
fn operation(op: &Operation) -> String {
    let (kind, table) = (kind(op.kind), op.table);
    let (key, value) = (op.key.len() as u64, op.value_length);
    let shown = match (&op.key[..], value) {
        ([], 0) => kind.to_owned(),
        (key, 0) => format!("{kind} {}", short(key)),
        (key, _) => format!("{kind} {} = {}", short(key), cut(&op.value_start, value)),
    };
    match value {
        0 => format!("{shown} (table {table}, key {} bytes)", count(key)),
        _ => format!(
            "{shown} (table {table}, key {} bytes, value {} bytes)",
            count(key),
            count(value)
        ),
    }
}

/// The first bytes of something that has `length` of them.
fn cut(start: &[u8], length: u64) -> String {
    let shown = short(start);
    let is_cut = (start.len() as u64) < length && !shown.ends_with("...");
    if is_cut { format!("{shown}...") } else { shown }
}

/// Bytes, cut off where they are long.
fn short(bytes: &[u8]) -> String {
    match bytes.get(..SHOWN) {
        Some(start) if bytes.len() > SHOWN => {
            // Not within a character, if it is text.
            let end = (SHOWN - 3..=SHOWN)
                .rev()
                .find(|end| std::str::from_utf8(&start[..*end]).is_ok())
                .unwrap_or(SHOWN);
            format!("{}...", Escaped(&start[..end]))
        }
        _ => Escaped(bytes).to_string(),
    }
}
