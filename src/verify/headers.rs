//! The headers of all table files: I1, I2 and I19.
//!
//! Of two valid copies the newer one counts, as everywhere. They may differ
//! only if their generations do: then a crash came between writing the first
//! and the second.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::header::{DEFAULT_TABLE, Header, TableState};
use crate::hash::Hasher;
use crate::options::HashKind;
use crate::storage::{Access, File, Storage};
use crate::store::create::table_file;

use super::findings::Findings;

/// A table file with a header that can be believed.
pub(super) struct TableFile {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn File>,
    /// Its length in bytes.
    pub(super) length: u64,
    pub(super) header: Header,
    /// Where the copy is that counts, in bytes.
    pub(super) header_at: u64,
    pub(super) hasher: Hasher,
}

/// Checks the headers of all table files, and returns those tables that can be
/// checked further: not the ones without a valid header or a known hash, and
/// not what dropping has left over.
///
/// # Errors
///
/// `Io` if the directory cannot be listed.
pub(super) fn check(storage: &dyn Storage, findings: &mut Findings) -> Result<Vec<TableFile>> {
    let names = storage.list("").map_err(|error| Error::io("list", storage.path(""), error))?;
    let mut names: Vec<_> = names.into_iter().filter(|name| name.ends_with(".swiss")).collect();
    names.sort_unstable();
    if !names.contains(&table_file(DEFAULT_TABLE)) {
        let path = storage.path(&table_file(DEFAULT_TABLE));
        findings.add("I1", &path, 0, "the file of the default table is absent");
    }
    let mut tables = Vec::new();
    for name in names {
        if let Some(table) = check_file(storage, &name, findings) {
            tables.push(table);
        }
    }
    check_ids(&tables, findings);
    tables.retain(|table| table.header.state != TableState::Dropped);
    Ok(tables)
}

fn check_file(storage: &dyn Storage, name: &str, findings: &mut Findings) -> Option<TableFile> {
    let path = storage.path(name);
    let opened = storage.open(name, Access::Read).and_then(|file| Ok((file.length()?, file)));
    let (length, file) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            findings.add("I1", &path, 0, format!("the file cannot be opened: {error}"));
            return None;
        }
    };
    findings.checked().tables += 1;
    let copies = [0, 1].map(|copy| read_copy(&*file, copy));
    for (copy, read) in copies.iter().enumerate() {
        if let Err((offset, text)) = read {
            let at = copy as u64 * BLOCK as u64 + offset;
            findings.add("I1", &path, at, format!("copy {copy} of the header: {text}"));
        }
    }
    let [a, b] = &copies;
    let newer = match (a, b) {
        (Ok(a), Ok(b)) => usize::from(b.generation > a.generation),
        (Ok(_), Err(_)) => 0,
        (Err(_), Ok(_)) => 1,
        (Err(_), Err(_)) => return None,
    };
    if let (Ok(a), Ok(b)) = (a, b) {
        compare(a, b, &path, findings);
    }
    let header = copies.into_iter().nth(newer)?.ok()?;
    let at = newer as u64 * BLOCK as u64;
    if table_file(&header.name) != name {
        let text = format!("the header is that of table {}", header.name);
        findings.add("I1", &path, at + 256, text);
    }
    let kind = HashKind::from_id(header.hash_id)?;
    let hasher = Hasher::new(kind, header.hash_key);
    let (expected, found) = (hasher.self_test(), header.self_test);
    if expected != found {
        let text =
            format!("the hash of `swissdb` is {expected:016x}, the header says {found:016x}");
        findings.add("I2", &path, at + 40, text);
    }
    Some(TableFile { path, file, length, header, header_at: at, hasher })
}

/// A copy of the header, or what is wrong with it and where in the copy.
fn read_copy(file: &dyn File, copy: u64) -> std::result::Result<Header, (u64, String)> {
    let mut bytes = [0; BLOCK];
    file.read_at(&mut bytes, copy * BLOCK as u64).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => (0, "the file ends before its end".to_string()),
        _ => (0, format!("it cannot be read: {error}")),
    })?;
    Header::decode(&bytes).map_err(|fault| {
        (
            fault.offset,
            format!("{} should be {}, but is {}", fault.what, fault.expected, fault.found),
        )
    })
}

/// Checks that two valid copies can stand in one file.
fn compare(a: &Header, b: &Header, path: &std::path::Path, findings: &mut Findings) {
    if a.generation == b.generation && a != b {
        let text =
            format!("both copies of the header have generation {}, but differ", a.generation);
        findings.add("I1", path, BLOCK as u64, text);
    }
    let fixed = |h: &Header| (h.table_id, h.payload, h.hash_id, h.name.clone());
    if fixed(a) != fixed(b) {
        findings.add("I1", path, BLOCK as u64, "the copies of the header are of different tables");
    }
}

/// I19. Tables whose creation no checkpoint has seen yet have ids that the
/// default table does not count yet.
fn check_ids(tables: &[TableFile], findings: &mut Findings) {
    let next =
        tables.iter().find(|table| table.header.table_id == 0).map(|t| t.header.next_table_id);
    for (i, table) in tables.iter().enumerate() {
        let id = table.header.table_id;
        let at = table.header_at + 12;
        if let Some(other) = tables[..i].iter().find(|other| other.header.table_id == id) {
            let text = format!("the table has id {id}, as {} has", other.path.display());
            findings.add("I19", &table.path, at, text);
        }
        let counted = table.header.state == TableState::Live;
        if let (Some(next), true) = (next, counted)
            && u32::from(id) >= next
        {
            let text =
                format!("the table has id {id}, but the default table says the next is {next}");
            findings.add("I19", &table.path, at, text);
        }
    }
}
