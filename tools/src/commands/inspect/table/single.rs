//! A group, a block, a search: parts that are asked for one by one.

use swissdb::inspect::{
    Block, Candidate, Content, Entry, FreeMapPart, Group, News, Page, Role, RootPart, Search,
    SearchResult, Slot, Step, Verdict,
};

use super::{Detail, Tables, content, operation, short};
use crate::outcome::Failure;
use crate::output::Output;
use crate::size::count;

impl Tables {
    /// A group by itself.
    pub fn lone_group(
        &self,
        output: &mut Output,
        segment: u64,
        page: &Page,
        group: &Group,
        detail: Detail,
    ) -> Result<(), Failure> {
        output.line(format_args!(
            "group {} of segment {segment}: block {}, offset {}",
            group.number, page.at.block, group.offset
        ))?;
        self.damage(output, "  ", &page.damage)?;
        if detail == Detail::Heading {
            return Ok(());
        }
        output.line("  slot  control  fp  hash              home  step     key   value  entry")?;
        for (number, slot) in group.slots.iter().enumerate() {
            match slot {
                Slot::Empty => output.line(format_args!("  {number:>4}  empty"))?,
                Slot::Deleted => output.line(format_args!("  {number:>4}  deleted"))?,
                Slot::Unknown(byte) => {
                    output.line(format_args!("  {number:>4}  {byte:02x}?     no control byte"))?;
                }
                Slot::Full(entry) => self.group_entry(output, entry)?,
            }
        }
        Ok(())
    }

    fn group_entry(&self, output: &mut Output, entry: &Entry) -> Result<(), Failure> {
        let number = |number: Option<usize>| number.map_or("?".to_owned(), |n| n.to_string());
        output.line(format_args!(
            "  {:>4}  H2 {:02x}    {:02x}  {:16}  {:>4}  {:>4}  {:>6}  {:>6}  {}",
            entry.slot,
            entry.h2,
            entry.fp,
            entry.hash.map_or("?".to_owned(), |hash| format!("{hash:016x}")),
            number(entry.home),
            number(entry.probes),
            count(entry.key_length as u64),
            entry.value_length.map_or("?".to_owned(), count),
            content(entry)
        ))?;
        self.address(output, "        ", entry)?;
        self.damage(output, "        ", &entry.damage)
    }

    fn address(&self, output: &mut Output, indent: &str, entry: &Entry) -> Result<(), Failure> {
        let Some(a) = &entry.address else { return Ok(()) };
        output.line(format_args!(
            "{indent}{} bytes in log file {} at {}, crc {:08x}",
            count(a.length.into()),
            a.file,
            a.offset,
            a.crc
        ))
    }

    /// A group whose page cannot be read.
    pub fn absent_group(
        &self,
        output: &mut Output,
        segment: u64,
        number: usize,
        page: &Page,
    ) -> Result<(), Failure> {
        output
            .line(format_args!("group {number} of segment {segment}: block {}", page.at.block))?;
        self.damage(output, "  ", &page.damage)
    }

    /// A block, what it is, and what it holds.
    pub fn block(&self, output: &mut Output, block: &Block, detail: Detail) -> Result<(), Failure> {
        let roles: Vec<_> = block.roles.iter().map(role).collect();
        output.line(format_args!(
            "block {} of {}, offset {}: {}",
            block.number,
            block.file_blocks,
            block.offset,
            roles.join("; also ")
        ))?;
        self.damage(output, "  ", &block.damage)?;
        let is_reached = !matches!(
            block.roles.first(),
            None | Some(Role::Free | Role::Unreachable | Role::Unknown)
        );
        match &block.content {
            Content::Header(copy) => self.header(output, copy, detail),
            Content::Root(root) => self.root_part(output, root, detail),
            Content::FreeMap(map) => self.free_map_part(output, map, detail),
            Content::DirectoryPage(page) => {
                if !is_reached {
                    output
                        .line("  it holds what was a directory page; segments are counted in it")?;
                }
                self.directory_page(output, page, detail)
            }
            Content::Page(page) => {
                let (table, depth, number, _) = page.page_record;
                if !is_reached {
                    let record = format!("table {table}, local depth {depth}");
                    output.line(format_args!("  it holds what was a page of {record}"))?;
                }
                self.page(output, number.into(), page, detail)
            }
            Content::Zeros => output.line("  it holds zeros"),
            _ => output.line("  it holds no structure that is known; --hex shows its bytes"),
        }
    }

    fn root_part(
        &self,
        output: &mut Output,
        root: &RootPart,
        detail: Detail,
    ) -> Result<(), Failure> {
        self.damage(output, "  ", &root.damage)?;
        if detail == Detail::Heading || root.runs.is_empty() {
            return Ok(());
        }
        output.line("  root entries           directory page in block  crc")?;
        for run in &root.runs {
            let last = run.first + run.entries - 1;
            let entries = match run.entries {
                1 => last.to_string(),
                _ => format!("{} to {last}", run.first),
            };
            output.line(format_args!("  {entries:<21}  {:>23}  {:08x}", run.block, run.crc))?;
        }
        Ok(())
    }

    fn free_map_part(
        &self,
        output: &mut Output,
        map: &FreeMapPart,
        detail: Detail,
    ) -> Result<(), Failure> {
        self.damage(output, "  ", &map.damage)?;
        let (last, in_use) = (map.first + map.blocks.max(1) - 1, map.blocks - map.free);
        output.line(format_args!(
            "  blocks {} to {last}: {} free, {} in use",
            map.first,
            count(map.free.into()),
            count(in_use.into())
        ))?;
        let rows = if detail == Detail::All { &map.in_use[..] } else { &[] };
        for (i, rows) in rows.chunks(8).enumerate() {
            let rows: Vec<_> = rows.iter().map(row_of_blocks).collect();
            let name = if i == 0 { "in use" } else { "" };
            output.line(format_args!("  {name:<7} {}", rows.join(", ")))?;
        }
        Ok(())
    }

    /// A search for a key, step by step.
    pub fn search(&self, output: &mut Output, table: &str, s: &Search) -> Result<(), Failure> {
        let (key, bytes) = (short(&s.key), s.key.len());
        output.line(format_args!("key {key} ({bytes} bytes) in table {table}"))?;
        self.damage(output, "  ", &s.damage)?;
        let hash = match s.hash_id {
            2 => "rapidhash v3",
            _ => "SipHash-1-3",
        };
        let bits = format!("the first {} bits of the hash", s.root_depth);
        let mut lines = vec![
            ("hash", format!("{:016x} ({hash})", s.hash)),
            ("directory bits", format!("{:08x} (63 to 32)", s.hash >> 32)),
            ("fp, H2", format!("{:02x}, {:02x}", s.fp(), s.h2())),
            ("root entry", format!("{}, {bits}; root in block {}", s.root_entry, s.root.block)),
        ];
        if let Some(page) = &s.page {
            let (prefix, depth) = (page.prefix, page.depth);
            let text =
                format!("{}, block {}, prefix {prefix:08x}/{depth}", page.number, page.block);
            lines.push(("directory page", text));
        }
        if let Some(r) = &s.segment {
            let blocks: Vec<_> = r.pages.iter().map(|page| page.block.to_string()).collect();
            let text = format!(
                "{}, prefix {:08x}/{}, {} groups, {} used, {} tombstones",
                r.number, r.prefix, r.depth, s.groups, r.used, r.tombstones
            );
            lines.push(("segment", text));
            lines.push(("its blocks", blocks.join(" ")));
            lines.push(("home group", s.home.to_string()));
        }
        for (name, text) in lines {
            output.line(format_args!("  {name:<15} {text}"))?;
        }
        self.steps(output, s)?;
        self.result(output, s)?;
        self.news(output, &s.news)
    }

    fn steps(&self, output: &mut Output, search: &Search) -> Result<(), Failure> {
        if search.steps.is_empty() {
            return Ok(());
        }
        output.line("  step  group   block      offset  control word")?;
        for (i, step) in search.steps.iter().enumerate() {
            let Step { group, block, offset, .. } = step;
            output.line(format_args!(
                "  {:>4}  {group:>5}  {block:>6}  {offset:>10}  {}",
                i + 1,
                control_word(step)
            ))?;
            for slot in &step.candidates {
                let fp = search.fp();
                output.line(format_args!("        {}", candidate(slot, fp, search.key.len())))?;
                self.damage(output, "          ", &slot.damage)?;
            }
            let is_same = |slot: &Candidate| slot.verdict == Verdict::Same;
            let is_found = step.candidates.iter().any(is_same);
            let end = match (is_found, step.control.is_some(), step.has_empty) {
                (true, _, _) => continue,
                (_, false, _) => "its page cannot be read; the key may be here",
                (_, _, true) => "an empty slot: the search ends",
                (_, _, false) => "no empty slot: the search goes on",
            };
            output.line(format_args!("        {end}"))?;
        }
        Ok(())
    }

    fn result(&self, output: &mut Output, search: &Search) -> Result<(), Failure> {
        let text = match &search.result {
            SearchResult::Found(entry) => {
                let group = search.steps.last().map_or(0, |step| step.group);
                format!("found in slot {} of group {group}: {}", entry.slot, content(entry))
            }
            SearchResult::Absent => "not in the table file".to_owned(),
            SearchResult::Unknown => "it cannot be said: see the damage".to_owned(),
        };
        output.line(format_args!("  {:<15} {text}", "result"))?;
        match &search.result {
            SearchResult::Found(entry) => self.address(output, &" ".repeat(18), entry),
            _ => Ok(()),
        }
    }

    fn news(&self, output: &mut Output, news: &News) -> Result<(), Failure> {
        let (from, newer) = (news.from, news.newer.len() as u64 + news.more);
        let s = |n: u64| if n == 1 { "" } else { "s" };
        let text = match (news.records, newer) {
            (0, _) => "no records".to_owned(),
            (n, 0) => format!("{} record{}, none on this key", count(n), s(n)),
            (n, m) => format!("{} record{}, {} on this key", count(n), s(n), operations(m)),
        };
        output.line(format_args!(
            "  {:<15} {text} (L is log file {}, offset {}, behind commit {})",
            "log behind L", from.file, from.offset, from.commit
        ))?;
        let indent = " ".repeat(18);
        if news.more > 0 {
            output.line(format_args!("{indent}{} more before these", operations(news.more)))?;
        }
        for newer in &news.newer {
            let (file, at) = (newer.file, newer.operation.offset());
            let operation = operation(&newer.operation);
            let commit = newer.commit;
            output.line(format_args!(
                "{indent}commit {commit}, log file {file} at {at}: {operation}"
            ))?;
        }
        match news.is_there() {
            Some(true) => output.line(format_args!("{indent}so it is there, with that value"))?,
            Some(false) => output.line(format_args!("{indent}so it is not there"))?,
            None => {}
        }
        self.damage(output, &indent, &news.damage)
    }
}

fn operations(n: u64) -> String {
    if n == 1 { "1 operation".to_owned() } else { format!("{} operations", count(n)) }
}

/// A row of blocks, as in `6-9`.
fn row_of_blocks((first, last): &(u32, u32)) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

fn role(role: &Role) -> String {
    match role {
        Role::Header { copy } => format!("header, copy {copy}"),
        Role::Root { part } => format!("root, block {part} of it"),
        Role::FreeMap { part } => format!("free map, block {part} of it"),
        Role::DirectoryPage { number } => format!("directory page {number}"),
        Role::Page { segment, page } => format!("page {page} of segment {segment}"),
        Role::Free => "free".to_owned(),
        Role::Unreachable => "unreachable".to_owned(),
        _ => "it cannot be said what it is".to_owned(),
    }
}

/// The control word of a step, the slots that match marked.
fn control_word(step: &Step) -> String {
    let Some(control) = step.control else { return "?".to_owned() };
    let words = control.iter().enumerate().map(|(slot, byte)| {
        let is_candidate = step.candidates.iter().any(|candidate| candidate.slot == slot);
        match byte {
            0x80 => " -- ".to_owned(),
            0xfe => " xx ".to_owned(),
            h2 if is_candidate => format!("[{h2:02x}]"),
            other => format!(" {other:02x} "),
        }
    });
    words.collect::<String>().trim_end().to_owned()
}

/// What was asked of a slot, up to the answer that decided.
fn candidate(slot: &Candidate, fp: u8, key_length: usize) -> String {
    let Candidate { slot: number, fp: found, key_length: length, .. } = slot;
    let key = slot.key.as_deref().map_or("?".to_owned(), short);
    let text = match slot.verdict {
        Verdict::OtherFp => format!("fp {found:02x}, not {fp:02x}"),
        Verdict::OtherLength => format!("fp {fp:02x}, key of {length} bytes, not {key_length}"),
        Verdict::OtherHash => format!("fp {fp:02x}, {length} bytes, another hash in its address"),
        Verdict::OtherKey => format!("fp {fp:02x}, {length} bytes, another key: {key}"),
        Verdict::Same => format!("fp {fp:02x}, {length} bytes, the key"),
        Verdict::Unknown => format!("fp {fp:02x}, {length} bytes, its key cannot be read"),
    };
    format!("slot {number}: H2 matches, {text}")
}
