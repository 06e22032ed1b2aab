//! The blocks of a table file, as far as they can be read.
//!
//! A block that the device does not deliver is as good as a damaged one: it is
//! absent, and the next one is tried. Nothing is mapped, so that no signal can
//! come of it.

use std::sync::Arc;

use crate::format::BLOCK;
use crate::format::header::{MAX_FILE_BLOCKS, Run};
use crate::storage::File;
use crate::storage::run::read_run;

/// The bytes of a block.
pub(super) type Bytes = [u8; BLOCK];

/// How many blocks are read at once.
const WINDOW: u32 = 256;

/// A table file, cut into blocks.
pub(super) struct Blocks {
    file: Arc<dyn File>,
    count: u32,
}

impl Blocks {
    /// A file of `length` bytes. What is left behind its last whole block is
    /// nobody's.
    pub(super) fn new(file: Arc<dyn File>, length: u64) -> Blocks {
        let count = (length / BLOCK as u64).min(MAX_FILE_BLOCKS.into()) as u32;
        Blocks { file, count }
    }

    /// How many whole blocks there are.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// A block, if it is there and can be read.
    pub(super) fn read(&self, block: u32) -> Option<Box<Bytes>> {
        let mut bytes = Box::new([0; BLOCK]);
        let there = block < self.count;
        let at = u64::from(block) * BLOCK as u64;
        (there && self.file.read_at(&mut bytes[..], at).is_ok()).then_some(bytes)
    }

    /// The bytes of a run, if they have its checksum.
    pub(super) fn run(&self, run: Run) -> Option<Vec<u8>> {
        let end = u64::from(run.block) + u64::from(run.blocks);
        if end > self.count.into() {
            return None;
        }
        let block = BLOCK as u64;
        let (at, length) = (u64::from(run.block) * block, u64::from(run.blocks) * block);
        read_run(&*self.file, at, length, run.crc).ok()?.ok()
    }

    /// Shows every block that can be read, front to back, until `visit` says
    /// that it is enough. Memory for some blocks.
    pub(super) fn scan(&self, visit: &mut dyn FnMut(u32, &Bytes) -> bool) {
        let mut window = vec![0; WINDOW as usize * BLOCK];
        let mut from = 0;
        while from < self.count {
            let blocks = (self.count - from).min(WINDOW);
            let bytes = &mut window[..blocks as usize * BLOCK];
            let whole = self.file.read_at(bytes, u64::from(from) * BLOCK as u64).is_ok();
            let (each, _) = bytes.as_chunks::<BLOCK>();
            for (block, bytes) in (from..).zip(each) {
                let go_on = match whole {
                    true => visit(block, bytes),
                    // One of them cannot be read: which one, each has to be asked.
                    false => self.read(block).is_none_or(|bytes| visit(block, &bytes)),
                };
                if !go_on {
                    return;
                }
            }
            from += blocks;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::format::crc32;
    use crate::storage::Map;

    /// A sparse file as long as anybody likes, that notes the longest read.
    #[derive(Default)]
    struct Sparse(AtomicUsize);

    impl File for Sparse {
        fn length(&self) -> io::Result<u64> {
            Ok(u64::MAX)
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

        fn map(&self, _: u64, _: bool) -> io::Result<Map> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn read_at(&self, buffer: &mut [u8], _: u64) -> io::Result<()> {
            self.0.fetch_max(buffer.len(), Relaxed);
            buffer.fill(0);
            Ok(())
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

    #[test]
    fn a_run_of_any_length_takes_no_memory_before_its_checksum_holds() {
        let file = Arc::new(Sparse::default());
        let blocks = Blocks::new(file.clone(), 1 << 40);
        assert_eq!(blocks.run(Run { block: 7, blocks: 1 << 16, crc: 1 }), None);
        let longest = file.0.swap(0, Relaxed);
        assert!(longest <= 1 << 20, "{longest} bytes were read at once");
        let crc = crc32(&vec![0; 9 * BLOCK], 0);
        let zeros = blocks.run(Run { block: 7, blocks: 9, crc });
        assert_eq!(zeros, Some(vec![0; 9 * BLOCK]));
    }
}
