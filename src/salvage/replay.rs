//! The log, over what was found in the table files.
//!
//! # Which records count
//!
//! A table is equal to a position L of the log. What the log has behind L is
//! done again, as in every recovery, in the order of the commits. A gap is
//! passed over: what comes behind it is newer than what comes before.
//!
//! What the log has *before* L is in the table already, and doing it again
//! would be wrong in general: the last thing that is left of a key may be long
//! out of date, for files are recycled and records are damaged. But let S be
//! the beginning of the records that lead up to L without a gap. If anything
//! between S and L is about a key, then the last of it is what the table had at
//! L. So for keys that may have been in a hole of the table, records are
//! replayed from S on, and give back exactly what was lost. If the table was
//! cleared in between, from there on.
//!
//! # Without L
//!
//! If both header copies are destroyed, or the whole file, L is not known. The
//! same thought helps: if L lies anywhere behind S and everything from S on is
//! replayed over the table, then each key that occurs has its last state, and
//! each other key has what the table had at L. It remains to know an S. All
//! tables take part in a checkpoint, so L of another table will do: S is the
//! beginning of the records that lead up to it. If there is no other, S is
//! the beginning of the last records without a gap, for a file can be missing
//! because it was recycled, which happens before L only. A gap within a file,
//! though, is damage, and L may lie before it as well as behind. There, the
//! table is believed where it has a key, and the log where it has not; these
//! count as older.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::error::Result;
use crate::format::header::{DEFAULT_TABLE, TableState};
use crate::format::is_table_name;
use crate::format::record::{Op, OpKind};
use crate::options::TableOptions;
use crate::table::Table;

use super::table::TableFile;
use super::tree::Tree;
use super::{Salvage, fingerprint};

/// A table of the damaged store, for who replays.
pub(super) struct Replayed {
    name: String,
    /// Where it is in the new store; absent as long as nothing says that it
    /// existed, or if it exists no longer.
    pub(super) into: Option<Arc<Table>>,
    options: TableOptions,
    /// The last commit that it has.
    position: Option<u64>,
    /// From which commit on its holes are filled.
    fill_from: u64,
    holes: Option<(Tree, crate::hash::Hasher)>,
    dropped: bool,
}

impl Replayed {
    pub(super) fn new(file: &TableFile, into: Option<Arc<Table>>, tree: Option<Tree>) -> Replayed {
        let holes = tree.filter(|tree| !tree.holes.is_empty()).zip(file.hasher);
        Replayed {
            name: file.name.clone(),
            into,
            options: options_of(file),
            position: file.header.as_ref().map(|header| header.log.commit),
            fill_from: u64::MAX,
            holes,
            dropped: false,
        }
    }
}

/// What a table is created with in the new store.
pub(super) fn options_of(file: &TableFile) -> TableOptions {
    let mut options = TableOptions::new();
    if let Some(geometry) = file.geometry {
        options = options.payload(geometry.payload());
    }
    match file.hash {
        Some(hash) => options.hash(hash),
        None => options,
    }
}

/// Whether a table file is that of a table for certain, before the log is read.
pub(super) fn is_live(file: &TableFile) -> bool {
    file.header.as_ref().is_none_or(|header| header.state == TableState::Live)
}

/// Where replaying begins for tables whose L is not known.
struct Unknown {
    /// From here on everything is done.
    from: u64,
    /// From here on what is not there is added.
    doubtful: u64,
    /// Keys that were added so.
    added: HashSet<(u16, u64)>,
}

impl Salvage<'_> {
    /// Replays the log. Tables by their ids in the damaged store.
    pub(super) fn replay(&mut self, mut tables: BTreeMap<u16, Replayed>) -> Result<()> {
        let known = tables.values().filter_map(|table| table.position).min();
        let mut unknown = self.unknown(known);
        self.find_fills(&mut tables)?;
        let lacks = tables.values().any(|table| table.position.is_none());
        let needed = known.unwrap_or(u64::MAX);
        let needed = if lacks || known.is_none() { needed.min(unknown.from - 1) } else { needed };
        self.count_gaps(needed);
        let fills = tables.values().map(|table| table.fill_from).min().unwrap_or(u64::MAX);
        let needed = needed.saturating_add(1).min(fills);
        for stretch in self.logs.stretches.clone() {
            // Nothing that a record says leads to another place in the log.
            let mut logs = std::mem::take(&mut self.logs);
            let unseen = logs.visit(stretch, &mut |commit, op| {
                self.replay_op(&mut tables, &mut unknown, commit, op)
            });
            self.logs = logs;
            let unseen = unseen?;
            self.report.commits_lost += unseen.undecoded + unseen.lost_from(needed);
            if !self.tell(None, stretch.blocks()) {
                break;
            }
        }
        Ok(())
    }

    /// Where to begin for tables whose L is not known, given the lowest that is.
    fn unknown(&self, known: Option<u64>) -> Unknown {
        let stretches = &self.logs.stretches;
        let mut index = match known {
            Some(known) => stretches.iter().position(|s| s.last >= known),
            None => None,
        };
        index = index.or(stretches.len().checked_sub(1));
        let Some(mut index) = index else {
            return Unknown { from: 1, doubtful: 1, added: HashSet::new() };
        };
        let contiguous = |i: usize| stretches[i - 1].last + 1 == stretches[i].first;
        while index > 0 && contiguous(index) {
            index -= 1;
        }
        let from = stretches[index].first;
        while known.is_none() && index > 0 && (contiguous(index) || stretches[index].behind_damage)
        {
            index -= 1;
        }
        Unknown { from, doubtful: stretches[index].first, added: HashSet::new() }
    }

    /// For each table with holes, where the records begin that can fill them.
    fn find_fills(&mut self, tables: &mut BTreeMap<u16, Replayed>) -> Result<()> {
        let stretches = self.logs.stretches.clone();
        for table in tables.values_mut().filter(|table| table.holes.is_some()) {
            let Some(position) = table.position else { continue };
            // The stretch that holds L, or ends there.
            let holds = |s: &super::logs::Stretch| s.first <= position && position <= s.last;
            let Some(mut index) = stretches.iter().position(holds) else { continue };
            while index > 0 && stretches[index - 1].last + 1 == stretches[index].first {
                index -= 1;
            }
            table.fill_from = stretches[index].first;
        }
        let from = tables.values().map(|table| table.fill_from).min().unwrap_or(u64::MAX);
        for stretch in stretches.into_iter().filter(|stretch| stretch.last >= from) {
            let unseen = self.logs.visit(stretch, &mut |commit, op| {
                if let (OpKind::Clear, Some(table)) = (op.kind, tables.get_mut(&op.table))
                    && table.position.is_some_and(|position| commit <= position)
                {
                    table.fill_from = table.fill_from.max(commit);
                }
                Ok(())
            })?;
            let Some((first, last)) = unseen.lost else { continue };
            // What leads up to L without a gap begins behind these.
            for table in tables.values_mut() {
                if table.position.is_some_and(|position| first <= position) {
                    table.fill_from = table.fill_from.max(last.saturating_add(1));
                }
            }
        }
        Ok(())
    }

    /// Counts what is missing of the log behind a commit.
    fn count_gaps(&mut self, needed: u64) {
        let mut last = needed;
        for stretch in &self.logs.stretches {
            if stretch.first > needed {
                self.report.commits_lost += stretch.first.saturating_sub(last.saturating_add(1));
                self.report.log_bytes_skipped += stretch.skipped;
            }
            last = last.max(stretch.last);
        }
        for (first, commit, bytes) in &self.logs.cut {
            if *commit > needed {
                self.report.log_bytes_skipped += bytes;
                let behind = self.logs.stretches.iter().any(|stretch| stretch.first > *first);
                self.report.commits_lost += if behind { 0 } else { commit.saturating_sub(last) };
            }
        }
        let missing = self.logs.missing.iter().filter(|(_, commit)| *commit > needed);
        self.missing_files.extend(missing.map(|(number, _)| *number));
    }

    fn replay_op(
        &mut self,
        tables: &mut BTreeMap<u16, Replayed>,
        unknown: &mut Unknown,
        commit: u64,
        op: &Op<'_>,
    ) -> Result<()> {
        let position = tables.get(&op.table).and_then(|table| table.position);
        let from = position.map_or(unknown.from, |position| position.saturating_add(1));
        if commit < from {
            return match position {
                Some(_) => self.fill(tables, commit, op),
                None if commit >= unknown.doubtful => self.add_doubtful(tables, unknown, op),
                None => Ok(()),
            };
        }
        self.perform(tables, op)
    }

    /// Does what a record says.
    fn perform(&mut self, tables: &mut BTreeMap<u16, Replayed>, op: &Op<'_>) -> Result<()> {
        let Some(table) = self.place(tables, op)? else {
            return Ok(());
        };
        self.report.from_log += 1;
        match op.kind {
            OpKind::Insert => self.target.insert(&table, op.key, op.value)?,
            OpKind::Remove => self.target.remove(&table, op.key)?,
            OpKind::Clear => {
                self.target.clear(&table)?;
                self.lost.forget_table(&table);
            }
            OpKind::DropTable if table.name != DEFAULT_TABLE => {
                self.target.drop_table(&table)?;
                self.lost.forget_table(&table);
                if let Some(table) = tables.get_mut(&op.table) {
                    (table.into, table.dropped) = (None, true);
                }
            }
            OpKind::CreateTable | OpKind::DropTable => {}
        }
        if matches!(op.kind, OpKind::Insert | OpKind::Remove) {
            self.lost.forget(&table, op.key);
        }
        Ok(())
    }

    /// The table of an operation in the new store, which is created if need be.
    /// `None` for tables that exist no longer.
    fn place(
        &mut self,
        tables: &mut BTreeMap<u16, Replayed>,
        op: &Op<'_>,
    ) -> Result<Option<Arc<Table>>> {
        let table = tables.entry(op.table).or_insert_with(|| {
            let created = op.kind == OpKind::CreateTable && is_table_name(op.key);
            let name = match created {
                true => String::from_utf8_lossy(op.key).into_owned(),
                false if op.table == 0 => DEFAULT_TABLE.to_owned(),
                false => format!("table-{}", op.table),
            };
            // If another table has the name by now, this one was dropped.
            let dropped = op.table != 0 && self.target.has_table(&name);
            Replayed {
                name,
                into: None,
                options: TableOptions::new(),
                position: None,
                fill_from: u64::MAX,
                holes: None,
                dropped,
            }
        });
        if table.into.is_none() && !table.dropped {
            if op.kind == OpKind::DropTable {
                table.dropped = true;
                return Ok(None);
            }
            table.into = Some(self.target.table(&table.name, &table.options)?);
        }
        Ok(table.into.clone())
    }

    /// Takes over what a record says of a key that may have been in a hole.
    fn fill(
        &mut self,
        tables: &mut BTreeMap<u16, Replayed>,
        commit: u64,
        op: &Op<'_>,
    ) -> Result<()> {
        let Some(table) = tables.get(&op.table).filter(|table| commit >= table.fill_from) else {
            return Ok(());
        };
        let entry = matches!(op.kind, OpKind::Insert | OpKind::Remove);
        let wanted = |(tree, hasher): &(Tree, crate::hash::Hasher)| {
            entry && tree.may_have_held(hasher.hash(op.key))
        };
        match table.holes.as_ref().is_some_and(wanted) {
            true => self.perform(tables, op),
            false => Ok(()),
        }
    }

    /// Adds what is not there, of a table whose L may lie before or behind.
    fn add_doubtful(
        &mut self,
        tables: &mut BTreeMap<u16, Replayed>,
        unknown: &mut Unknown,
        op: &Op<'_>,
    ) -> Result<()> {
        if !matches!(op.kind, OpKind::Insert | OpKind::Remove) {
            return Ok(());
        }
        let key = (op.table, fingerprint(op.key));
        if unknown.added.contains(&key) {
            return self.perform(tables, op);
        }
        let Some(table) = self.place(tables, op)?.filter(|_| op.kind == OpKind::Insert) else {
            return Ok(());
        };
        if !self.lost.has(table.id, op.key)
            && self.target.insert_if_absent(&table, op.key, op.value)?
        {
            unknown.added.insert(key);
            self.report.from_older += 1;
        }
        Ok(())
    }
}
