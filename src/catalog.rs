//! Creating and dropping tables, and clearing them.
//!
//! Creating: the file is durable under its name, then its record is logged.
//! Until the next checkpoint its header says *pending*: a crash in between
//! leaves a file without a record, which opening removes.
//!
//! Dropping: the record is logged and durable, then the header says *dropped*,
//! durably, then the file is removed. A crash in between is finished by
//! opening. Ids are never used twice.
//!
//! All three keep checkpoints away while they run: nothing is frozen then.

use std::sync::Arc;

use crate::checkpoint::keep_away;
use crate::error::{Error, Result};
use crate::format::header::{DEFAULT_TABLE, TableState};
use crate::format::is_table_name;
use crate::format::record::{Op, OpKind, RECORD_HEADER};
use crate::options::{TableOptions, check_payload};
use crate::table::Table;

use crate::recovery::{open_table, remove_table_file};
use crate::store::commit::no_table;
use crate::store::create::{NewTable, create_table_file, random_key, remove_unlogged, table_file};
use crate::store::{Core, Store};

/// Ids have sixteen bits.
const MAX_TABLES: u32 = 1 << 16;

impl Store {
    /// Opens a table, or creates it.
    pub(crate) fn create_table(&self, name: &str, options: &TableOptions) -> Result<Arc<Table>> {
        self.check_open()?;
        if let Some(table) = self.find_table(name) {
            return Ok(table);
        }
        if !is_table_name(name.as_bytes()) {
            return Err(Error::invalid(format!(
                "{name:?} is no table's name: 1 to 64 letters, digits, - and _ are possible"
            )));
        }
        if self.options.read_only {
            return Err(Error::NotFound { what: format!("table {name}") });
        }
        let (table, commit) = self.try_create_table(name, options)?;
        self.make_durable(commit)?;
        Ok(table)
    }

    /// Creates a table; returns the number of the commit as well. If somebody else
    /// has created it meanwhile it is that one, or one behind it.
    fn try_create_table(&self, name: &str, options: &TableOptions) -> Result<(Arc<Table>, u64)> {
        let geometry = check_payload(options.payload.unwrap_or(self.options.payload))?;
        let _away = keep_away(self)?;
        self.with_log_room(name.as_bytes(), |core| {
            if let Some(there) = core.writers().find(|writer| writer.table.name == name) {
                return Ok((there.table.clone(), self.log.appended()));
            }
            if core.next_table_id >= MAX_TABLES {
                return Err(Error::invalid(
                    "a store can have 65,536 tables in its life, those that were dropped too; \
                     clear tables and use them again, or make a backup, which counts from 0",
                ));
            }
            let id = core.next_table_id as u16;
            create_table_file(
                &*self.storage,
                &self.poison,
                &NewTable {
                    id,
                    name,
                    geometry,
                    hash: options.hash.unwrap_or(self.options.hash),
                    state: TableState::Pending,
                    log: core.position(),
                    // Before that of the next checkpoint. The generation does
                    // not advance here: pages that are dirty are not frozen.
                    generation: core.ws.generation - 1,
                },
            )?;
            core.next_table_id += 1;
            let opened = open_table(self, &table_file(name))
                .inspect_err(|_| remove_unlogged(&*self.storage, &self.poison, name))?;
            let commit = self.append_one(core, OpKind::CreateTable, id, name.as_bytes(), &[])?;
            let table = opened.table.clone();
            core.add(opened);
            Ok((table, commit))
        })
    }

    /// Drops a table; says whether there was one.
    pub(crate) fn drop_table(&self, name: &str) -> Result<bool> {
        self.check_writable()?;
        if name == DEFAULT_TABLE {
            return Err(Error::invalid("the default table cannot be dropped; clear it instead"));
        }
        let _away = keep_away(self)?;
        let Some(table) = self.find_table(name) else {
            return Ok(false);
        };
        let commit = self.with_log_room(name.as_bytes(), |core| {
            // Before the record, because it can fail; see `clear`.
            core.remove(table.id)?;
            self.append_one(core, OpKind::DropTable, table.id, &[], &[])
        })?;
        self.log.sync_to(commit)?;
        remove_table_file(self, name)?;
        // Log files with the values of this table alone may go.
        self.space.ask();
        Ok(true)
    }

    /// Replaces a table's entries by none. On a full device it waits a while
    /// for room, as a removal does.
    pub(crate) fn clear(&self, table: &Table) -> Result<()> {
        let commit = self.waiting_for_room(|| self.try_clear(table))?;
        self.make_durable(commit)
    }

    fn try_clear(&self, table: &Table) -> Result<u64> {
        self.check_writable()?;
        let _away = keep_away(self)?;
        let key = random_key()?;
        let bytes: [u8; 16] = {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&key[0].to_le_bytes());
            bytes[8..].copy_from_slice(&key[1].to_le_bytes());
            bytes
        };
        self.with_log_room(&bytes, |core| {
            let (writer, ws) = core.writer_mut(table.id).ok_or_else(|| no_table(table))?;
            writer.blocks.set_urgent(true);
            // Before the record, because it can fail; there is room for the
            // record already. A reader may see it a moment early.
            let cleared = writer.clear(ws, key);
            writer.blocks.set_urgent(false);
            cleared.inspect_err(|error| self.refused(error))?;
            self.append_one(core, OpKind::Clear, table.id, &[], &bytes)
        })
    }

    /// Runs something under the writer lock when the log has room for a record
    /// with one operation of so many bytes.
    fn with_log_room<T>(
        &self,
        bytes: &[u8],
        run: impl FnOnce(&mut Core) -> Result<T>,
    ) -> Result<T> {
        let op = Op { kind: OpKind::Clear, table: 0, key: bytes, value: &[] };
        let needed = RECORD_HEADER as u64 + op.encoded_len();
        self.check_writable()?;
        let mut core = self.core_with_room(needed, true)?;
        self.poison.check()?;
        let outcome = run(&mut core)?;
        self.after_change(&mut core);
        Ok(outcome)
    }

    /// Logs a record with one operation that has been done; returns its commit
    /// number.
    fn append_one(
        &self,
        core: &mut Core,
        kind: OpKind,
        table: u16,
        key: &[u8],
        value: &[u8],
    ) -> Result<u64> {
        let appender = core.appender.as_mut().ok_or(Error::ReadOnly)?;
        let op = Op { kind, table, key, value };
        Ok(appender.append_surely(std::slice::from_ref(&op))?.commit)
    }
}
