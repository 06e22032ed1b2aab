//! New table files.
//!
//! An empty table is six blocks: two header copies, root, one directory page,
//! one page, free map. It is written under a temporary name, synced, renamed,
//! and the directory synced, so that a table file is whole from the first
//! moment its name is there.
//!
//! The renaming of `default.swiss` is what makes a store: a directory with an
//! empty log and without that file is a creation that was interrupted, and is
//! begun anew. Once the log has a record, the file is missing, which is damage.
//! Files that a log does not have say nothing, whoever put them into `log/`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::directory::{
    DirectoryPage, PageRef, RootEntry, SegmentRecord, encode_free_map, encode_root,
};
use crate::format::group::{ALL_EMPTY, Geometry, PageRecord, seal};
use crate::format::header::{Header, Run, TableState};
use crate::format::record::{FILE_MAGIC, LOG_START, Position, RECORD_HEADER, parse_log_file_name};
use crate::format::{BLOCK, crc32};
use crate::hash::Hasher;
use crate::log::Poison;
use crate::options::HashKind;
use crate::storage::{Access, File, Storage};
use crate::table::blocks::FIRST_BLOCKS;

const ROOT: u32 = 2;
const DIRECTORY: u32 = 3;
const PAGE: u32 = 4;
const FREE_MAP: u32 = 5;
const USED: u32 = 6;

/// What a new table is to be like.
pub(crate) struct NewTable<'a> {
    pub(crate) id: u16,
    pub(crate) name: &'a str,
    pub(crate) geometry: Geometry,
    pub(crate) hash: HashKind,
    pub(crate) state: TableState,
    pub(crate) log: Position,
    pub(crate) generation: u64,
}

/// The name of a table's file.
pub(crate) fn table_file(name: &str) -> String {
    format!("{name}.swiss")
}

/// Sixteen random bytes.
pub(crate) fn random_key() -> Result<[u64; 2]> {
    let mut key = [0; 2];
    for half in &mut key {
        *half = getrandom::u64().map_err(|error| {
            Error::io(
                "read random numbers from",
                "the operating system",
                std::io::Error::other(error),
            )
        })?;
    }
    Ok(key)
}

/// Makes the file of an empty table, durable under its name. Poisons if a
/// write or a sync fails for another reason than a full device.
pub(crate) fn create_table_file(
    storage: &dyn Storage,
    poison: &Poison,
    new: &NewTable<'_>,
) -> Result<()> {
    let name = table_file(new.name);
    let temporary = format!("{name}.tmp");
    let refused = |doing, name: &str| {
        let path = storage.path(name);
        move |error| Error::io(doing, path, error)
    };
    let failed = |doing, name: &str| {
        let refused = refused(doing, name);
        move |error| {
            let error = refused(error);
            if !error.is_full() {
                poison.set(&error);
            }
            error
        }
    };
    // Left over from a creation that was interrupted; absent as a rule.
    let _ = storage.remove(&temporary);
    let bytes = blank_table(new)?;
    let write = || -> Result<()> {
        let file =
            storage.open(&temporary, Access::Create).map_err(refused("create", &temporary))?;
        let length = u64::from(FIRST_BLOCKS) * BLOCK as u64;
        let taken = file.allocate(0, u64::from(USED) * BLOCK as u64);
        let sized = taken.and_then(|()| file.set_length(length));
        sized.map_err(refused("take space for", &temporary))?;
        file.write_at(&bytes, 0).map_err(failed("write to", &temporary))?;
        file.sync().map_err(failed("sync", &temporary))?;
        storage.rename(&temporary, &name).map_err(refused("rename", &temporary))
    };
    if let Err(error) = write() {
        let _ = storage.remove(&temporary);
        return Err(error);
    }
    let synced = storage.sync_directory("").map_err(failed("sync", ""));
    synced.inspect_err(|_| remove_unlogged(storage, poison, new.name))
}

/// Removes the file of a table whose creation failed before its record was
/// logged. It must not stay while the store goes on: the place in the log that
/// it names is let go some time, and opening would look for it there.
pub(crate) fn remove_unlogged(storage: &dyn Storage, poison: &Poison, name: &str) {
    if poison.is_set() {
        return;
    }
    let name = table_file(name);
    let removed = storage.remove(&name).and_then(|()| storage.sync_directory(""));
    if let Err(error) = removed {
        poison.set(&Error::io("remove", storage.path(&name), error));
    }
}

/// The used blocks of an empty table.
fn blank_table(new: &NewTable<'_>) -> Result<Vec<u8>> {
    let (page, page_crc) = blank_page(new);
    let pages = vec![PageRef { block: PAGE, crc: page_crc }];
    let directory = DirectoryPage {
        table_id: new.id,
        depth: 0,
        prefix: 0,
        generation: new.generation,
        segments: vec![SegmentRecord { depth: 0, used: 0, tombstones: 0, pages }],
    }
    .encode();
    let entry = RootEntry { block: DIRECTORY, crc: crc32(&directory[..], 0) };
    let root = encode_root(&[entry], &BTreeMap::new());
    let free = [(!0u64 << USED) & ((1 << FIRST_BLOCKS) - 1)];
    let free_map = encode_free_map(&free, FIRST_BLOCKS);
    let root_run = Run { block: ROOT, blocks: 1, crc: crc32(&root, 0) };
    let map_run = Run { block: FREE_MAP, blocks: 1, crc: crc32(&free_map, 0) };
    let header = blank_header(new, root_run, map_run)?.encode();
    Ok([&header[..], &header, &root, &directory[..], &page, &free_map].concat())
}

/// A page without entries, and its checksum.
fn blank_page(new: &NewTable<'_>) -> ([u8; BLOCK], u32) {
    let mut page = [0; BLOCK];
    for group in 0..new.geometry.groups_per_page {
        let start = group * new.geometry.group_words * 8;
        page[start..start + 8].copy_from_slice(&ALL_EMPTY.to_le_bytes());
    }
    let generation = new.generation as u32;
    let record = PageRecord { table: new.id, depth: 0, page: 0, generation };
    let crc = seal(&mut page, &new.geometry, record);
    (page, crc)
}

fn blank_header(new: &NewTable<'_>, root: Run, free_map: Run) -> Result<Header> {
    let key = random_key()?;
    let slots = new.geometry.slots_per_page() as u64;
    Ok(Header {
        table_id: new.id,
        payload: new.geometry.payload() as u16,
        hash_id: new.hash.id(),
        state: new.state,
        clean: false,
        root_depth: 0,
        name: new.name.to_string(),
        hash_key: key,
        self_test: Hasher::new(new.hash, key).self_test(),
        capacity: slots,
        used: 0,
        growth_left: slots / 8 * 7,
        segments: 1,
        generation: new.generation,
        log: new.log,
        root,
        live_count: 0,
        free_map,
        file_blocks: FIRST_BLOCKS,
        next_table_id: u32::from(new.id == 0),
        clears: 0,
    })
}

/// Writes a header into both copies, each synced: into copy `first` (0 or 1)
/// first, which must be the one that was written last. Only of the other one
/// it is certain that the device has it whole: a process may have been killed,
/// or a sync may have failed, behind the last write. Copies of the same
/// generation were written in order, so if copy 0 becomes the last one, it
/// gets a generation of its own.
pub(crate) fn write_header(
    file: &Arc<dyn File>,
    header: &Header,
    first: u64,
) -> std::io::Result<()> {
    file.write_at(&header.encode(), first * BLOCK as u64)?;
    file.sync()?;
    let second = Header { generation: header.generation + first, ..header.clone() };
    file.write_at(&second.encode(), (1 - first) * BLOCK as u64)?;
    file.sync()
}

/// Whether what there is of a log holds no commit: a store whose creation was
/// interrupted, or not begun. What cannot be read is not taken for empty, and a
/// file of somebody else is an error: an unborn log is removed.
pub(crate) fn is_unborn(storage: &dyn Storage) -> Result<bool> {
    for name in log_names(storage)? {
        let path = format!("log/{name}");
        if name != "next.tmp" && name != "00000001.log" {
            return Ok(false);
        }
        let file = storage
            .open(&path, Access::Read)
            .map_err(|error| Error::io("open", storage.path(&path), error))?;
        if name != "next.tmp" {
            check_magic(&*file, storage.path(&path))?;
        }
        let mut header = [0; RECORD_HEADER];
        match file.read_at(&mut header, LOG_START) {
            Ok(()) if header != [0; RECORD_HEADER] => return Ok(false),
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(Error::io("read", storage.path(&path), error)),
        }
    }
    Ok(true)
}

/// Checks that a file with the name of a log file is one. However early a creation
/// was interrupted, it is: the first block is durable before it gets the name.
fn check_magic(file: &dyn File, path: PathBuf) -> Result<()> {
    let mut magic = [0; FILE_MAGIC.len()];
    let found = match file.read_at(&mut magic, 0) {
        Ok(()) if magic == *FILE_MAGIC => return Ok(()),
        Ok(()) => magic.escape_ascii().to_string(),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => "the end of the file".to_owned(),
        Err(error) => return Err(Error::io("read", path, error)),
    };
    let expected = FILE_MAGIC.escape_ascii();
    Err(Error::corrupt(path, 0, "magic of the log file", expected, found))
}

/// Removes what an interrupted creation left of a log.
pub(crate) fn remove_unborn_log(storage: &dyn Storage) -> Result<()> {
    for name in log_names(storage)? {
        let path = format!("log/{name}");
        let removed = storage.remove(&path);
        removed.map_err(|error| Error::io("remove", storage.path(&path), error))?;
    }
    Ok(())
}

/// The files that a log has. Others may be there: a program that keeps no store here
/// has its own `log/` perhaps, or a file of that name.
fn log_names(storage: &dyn Storage) -> Result<Vec<String>> {
    let mut names = match storage.list("log") {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        listed => listed.map_err(|error| Error::io("list", storage.path("log"), error))?,
    };
    names.retain(|name| name == "next.tmp" || parse_log_file_name(name).is_some());
    Ok(names)
}
