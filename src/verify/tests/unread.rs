//! A device that does not deliver some blocks.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::parts::{LOG, TABLE, open, store};
use super::verify_on;
use crate::error::Error;
use crate::format::BLOCK;
use crate::format::header::Header;
use crate::storage::memory::Memory;
use crate::storage::{Access, File, LockOutcome, Map, Storage};

/// A storage that is only read, and cannot deliver a block of one file.
struct Failing {
    memory: Memory,
    name: &'static str,
    block: u64,
    kind: io::ErrorKind,
}

struct FailingFile {
    file: Arc<dyn File>,
    block: Option<u64>,
    kind: io::ErrorKind,
}

impl Storage for Failing {
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let file = self.memory.open(name, access)?;
        let block = (name == self.name).then_some(self.block);
        Ok(Arc::new(FailingFile { file, block, kind: self.kind }))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.memory.list(directory)
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn create_directory(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_directory(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn lock(&self, exclusive: bool) -> io::Result<LockOutcome> {
        self.memory.lock(exclusive)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.memory.path(name)
    }
}

impl File for FailingFile {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn set_length(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn punch(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn map(&self, length: u64, writable: bool) -> io::Result<Map> {
        self.file.map(length, writable)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let blocks = offset / BLOCK as u64..(offset + buffer.len() as u64).div_ceil(BLOCK as u64);
        match self.block {
            Some(block) if blocks.contains(&block) => {
                Err(io::Error::new(self.kind, "the device does not deliver"))
            }
            _ => self.file.read_at(buffer, offset),
        }
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write_mapped(&self, _: &Map, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The blocks of the root and of the free map.
fn root_and_map(memory: &Memory) -> [u64; 2] {
    let file = open(memory, TABLE);
    let headers = [0, 1].map(|copy| {
        let mut bytes = [0; BLOCK];
        file.read_at(&mut bytes, copy * BLOCK as u64).unwrap();
        Header::decode(&bytes).unwrap()
    });
    let newest = headers.iter().max_by_key(|header| header.generation).unwrap();
    [newest.root.block.into(), newest.free_map.block.into()]
}

#[test]
fn a_block_that_keeps_a_store_from_being_opened_is_in_the_report() {
    let memory = store();
    let [root, map] = root_and_map(&memory);
    for (name, block) in [(TABLE, root), (TABLE, map), (LOG, 0)] {
        let kind = io::ErrorKind::Other;
        let storage = Arc::new(Failing { memory: memory.clone(), name, block, kind });
        let path = storage.path(name);
        let report = verify_on(storage).unwrap_or_else(|error| panic!("{name} {block}: {error}"));
        let told = report.violations.iter().filter(|violation| {
            violation.path == path && violation.text.ends_with("the device does not deliver")
        });
        assert_eq!(told.count(), 1, "{name} {block}: {report}");
        assert!(report.checked.tables == 2, "the rest was checked: {report}");
    }
}

#[test]
fn what_may_not_be_read_is_an_error_and_no_damage() {
    let memory = store();
    let [block, _] = root_and_map(&memory);
    let kind = io::ErrorKind::PermissionDenied;
    let storage = Failing { memory, name: TABLE, block, kind };
    assert!(matches!(verify_on(Arc::new(storage)), Err(Error::Io { .. })));
}
