//! A table file that is being opened: header, root, free map.
//!
//! Of the two header copies the newest valid one counts. Nothing below the
//! root is read here: directory pages and pages are checked when they are
//! first needed. This costs some reads, whatever the size of the table.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::format::directory::{decode_free_map, decode_root};
use crate::format::group::Geometry;
use crate::format::header::{Header, Run, TableState};
use crate::format::record::MAX_LOG_FILE;
use crate::hash::Hasher;
use crate::options::HashKind;
use crate::storage::epoch::ReuseEpoch;
use crate::storage::run::read_run;
use crate::storage::{Access, File, Storage};
use crate::store::Store;
use crate::store::create::{table_file, write_header};
use crate::store::snapshots::StillTable;
use crate::table::arena::Room;
use crate::table::blocks::Blocks;
use crate::table::frames::Frames;
use crate::table::layout::directory_lines;
use crate::table::{Opening, Table, Totals, Writer};

/// The header that counts.
pub(crate) struct FoundHeader {
    pub(crate) header: Header,
    /// The copy that was written last: see [`write_header`].
    pub(crate) last: u64,
}

/// Reads the newest valid header copy of a table file.
pub(crate) fn read_header(file: &dyn File, path: &Path) -> Result<FoundHeader> {
    let read = |copy: u64| -> Result<Header> {
        let mut bytes = [0; BLOCK];
        let offset = copy * BLOCK as u64;
        file.read_at(&mut bytes, offset).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                Error::corrupt(path, offset, "a header copy", "4096 bytes", "the end of the file")
            }
            _ => Error::io("read", path, error),
        })?;
        Header::decode(&bytes).map_err(|fault| fault.at(path, offset))
    };
    match (read(0), read(1)) {
        // A newer program was here: what the other copy says is out of date.
        (Err(error @ Error::Version { .. }), _) | (_, Err(error @ Error::Version { .. })) => {
            Err(error)
        }
        (Ok(a), Ok(b)) if b.generation > a.generation => Ok(FoundHeader { header: b, last: 1 }),
        (Ok(a), Ok(b)) => {
            let last = u64::from(a.generation == b.generation);
            Ok(FoundHeader { header: a, last })
        }
        (Ok(header), Err(_)) => Ok(FoundHeader { header, last: 1 }),
        (Err(_), Ok(header)) => Ok(FoundHeader { header, last: 0 }),
        // A copy that could not be read may be whole: that is no damage.
        (Err(_), Err(error @ Error::Io { .. })) | (Err(error), Err(_)) => Err(error),
    }
}

/// Opens a table file into an open store, without replaying anything.
pub(crate) fn open_table(store: &Store, file_name: &str) -> Result<Writer> {
    let table = TableFile::open(&*store.storage, file_name, store.options.read_only)?;
    table.into_writer(&store.frames, &store.epoch, store.options.read_only)
}

/// A table as a checkpoint has left it, for readers: what its header says,
/// whatever was written to the file since.
pub(crate) fn open_still(still: &StillTable, frames: &Arc<Frames>) -> Result<Arc<Table>> {
    let no_memory = |error| Error::io("take memory for", "a snapshot", error);
    let epoch = Arc::new(ReuseEpoch::new().map_err(no_memory)?);
    let found = FoundHeader { header: still.header.clone(), last: 0 };
    let (path, file) = (still.path.clone(), still.file.clone());
    let table = TableFile { path, file, found, still: true };
    Ok(table.into_writer(frames, &epoch, true)?.table)
}

/// A table file and its header.
pub(super) struct TableFile {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn File>,
    pub(super) found: FoundHeader,
    /// Whether the table stands still: it is one of a snapshot.
    still: bool,
}

impl TableFile {
    pub(super) fn open(storage: &dyn Storage, name: &str, read_only: bool) -> Result<TableFile> {
        let path = storage.path(name);
        let access = if read_only { Access::Read } else { Access::Write };
        let file = storage.open(name, access).map_err(|e| Error::io("open", &path, e))?;
        let found = read_header(&*file, &path)?;
        if table_file(&found.header.name) != name {
            let found = table_file(&found.header.name);
            return Err(Error::corrupt(path, 256, "the table's name", name, found));
        }
        Ok(TableFile { path, file, found, still: false })
    }

    /// The bytes of root or free map, checked.
    fn run(&self, run: Run, what: &str) -> Result<Vec<u8>> {
        let offset = u64::from(run.block) * BLOCK as u64;
        let length = self.file.length().map_err(|e| Error::io("read", &self.path, e))?;
        if offset + u64::from(run.blocks) * BLOCK as u64 > length {
            return Err(Error::corrupt(&self.path, offset, what, "in the file", "truncated"));
        }
        let bytes = u64::from(run.blocks) * BLOCK as u64;
        let read = read_run(&*self.file, offset, bytes, run.crc);
        read.map_err(|e| Error::io("read", &self.path, e))?.map_err(|found| {
            let (expected, found) = (format!("{:08x}", run.crc), format!("{found:08x}"));
            let what = format!("the checksum of {what}");
            Error::corrupt(&self.path, offset, what, expected, found)
        })
    }

    pub(super) fn into_writer(
        self,
        frames: &Arc<Frames>,
        epoch: &Arc<ReuseEpoch>,
        read_only: bool,
    ) -> Result<Writer> {
        let header = &self.found.header;
        let path = &self.path;
        let kind = HashKind::from_id(header.hash_id).unwrap_or_default();
        let self_test = Hasher::new(kind, header.hash_key).self_test();
        if self_test != header.self_test {
            let expected = format!("{:016x}, what this program computes", self_test);
            let found = format!("{:016x}", header.self_test);
            return Err(Error::corrupt(path, 40, "the hash's self-test", expected, found));
        }
        let root = self.run(header.root, "the root")?;
        let at = |block: u32| u64::from(block) * BLOCK as u64;
        let (entries, live) = decode_root(&root, header.root_depth, header.live_count)
            .map_err(|fault| fault.at(path, at(header.root.block)))?;
        // A wrong count keeps no store closed; but sums of counts must stay sums.
        let live = live.into_iter().map(|(file, bytes)| (file, bytes.min(MAX_LOG_FILE))).collect();
        let map = self.run(header.free_map, "the free map")?;
        let free = decode_free_map(&map, header.file_blocks)
            .map_err(|fault| fault.at(path, at(header.free_map.block)))?;
        let blocks =
            Blocks::open(self.file.clone(), path.clone(), free, header.file_blocks, read_only)?;
        let geometry = Geometry::new(header.payload.into()).ok_or_else(|| {
            Error::corrupt(path, 14, "the slot payload", "possible", header.payload)
        })?;
        let pages = entries.chunk_by(|a, b| a == b).count();
        let lines = directory_lines(header.root_depth, pages, header.file_blocks);
        let opening = Opening {
            id: header.table_id,
            name: header.name.clone(),
            path: path.clone(),
            geometry,
            hash_id: header.hash_id,
            hash_key: header.hash_key,
            clears: header.clears,
            totals: Totals {
                slots: header.capacity,
                used: header.used,
                tombstones: header.tombstones().unwrap_or(0),
                segments: header.segments,
            },
            live,
            root_run: header.root,
            map_run: header.free_map,
            room: if self.still { Room::for_all(lines) } else { Room::to_grow(lines) },
        };
        let depth = header.root_depth;
        let writer = Writer::new(opening, blocks, frames.clone(), epoch);
        let no_memory = |error| Error::io("take memory for", "the directory", error);
        let mut writer = writer.map_err(no_memory)?;
        writer.attach_root(depth, &entries)?;
        Ok(writer)
    }
}

/// Marks the file of a dropped table, durably, and removes it. A failure
/// poisons: were the file left as it is while the store goes on, the record of
/// the dropping would be let go some time, and the table be there again.
pub(crate) fn remove_table_file(store: &Store, name: &str) -> Result<()> {
    let file_name = table_file(name);
    let path = store.storage.path(&file_name);
    let failed = |doing| {
        let path = path.clone();
        move |error| {
            let error = Error::io(doing, path, error);
            store.poison.set(&error);
            error
        }
    };
    let file = store.storage.open(&file_name, Access::Write).map_err(failed("open"))?;
    let found = read_header(&*file, &path).inspect_err(|error| store.poison.set(error))?;
    let FoundHeader { mut header, last } = found;
    header.state = TableState::Dropped;
    header.generation = store.core_to_look().ws.generation.max(header.generation + 1);
    write_header(&file, &header, last).map_err(failed("write to"))?;
    store.storage.remove(&file_name).map_err(failed("remove"))?;
    store.storage.sync_directory("").map_err(failed("sync"))
}
