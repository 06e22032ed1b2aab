//! A checkpoint in single steps, and opening what it wrote.
//!
//! [`Checkpoint`] does what the store's checkpoint does, in the same order,
//! but stops wherever a test wants to change something or to give up. It
//! checks that frames do not change from the moment they are handed out until
//! they are written: nobody holds a lock then.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::format::directory::{
    DirectoryPage, PageRef, RootEntry, decode_free_map, decode_root, encode_free_map, encode_root,
    free_map_blocks,
};
use crate::format::group::{Geometry, PageRecord, seal};
use crate::format::header::Run;
use crate::format::{BLOCK, crc32};
use crate::storage::File;
use crate::storage::map::load_bytes;
use crate::table::arena::Room;
use crate::table::blocks::Blocks;
use crate::table::freeze::Captured;
use crate::table::{Opening, Totals};

use super::harness::{FILE, Setup, Store, TABLE};

/// What a header would say of the table.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) depth: u8,
    pub(super) root: Run,
    pub(super) map: Run,
    pub(super) file_blocks: u32,
    pub(super) live_count: u32,
    pub(super) totals: Totals,
    pub(super) clears: u32,
    pub(super) hash_key: [u64; 2],
    pub(super) generation: u64,
}

/// A checkpoint that has begun.
pub(super) struct Checkpoint {
    generation: u64,
    totals: Totals,
    live: BTreeMap<u32, u64>,
    clears: u32,
    hash_key: [u64; 2],
    /// Whether the store is closed afterwards.
    last: bool,
    /// Root and free map, once they are written.
    runs: Option<Header>,
}

type Page = [u8; BLOCK];

impl Store {
    /// Freezes the table.
    pub(super) fn begin(&mut self) -> Checkpoint {
        let generation = self.ws.generation;
        self.writer.freeze(generation);
        self.ws.frozen = Some(generation);
        self.ws.generation += 1;
        Checkpoint {
            generation,
            totals: self.writer.totals,
            live: self.writer.live.clone(),
            clears: self.writer.clears,
            hash_key: self.writer.hash_key,
            last: false,
            runs: None,
        }
    }

    fn frame(&self, frame: u32) -> Box<Page> {
        let mut bytes = Box::new([0; BLOCK]);
        load_bytes(self.ws.pool.words(frame), 0, &mut bytes[..]);
        bytes
    }

    fn write(&self, bytes: &[u8], block: u32) {
        self.file.write_at(bytes, u64::from(block) * BLOCK as u64).unwrap();
    }

    /// Writes one directory page and its dirty pages, letting others change
    /// the table meanwhile. Says whether there was one.
    pub(super) fn step(&mut self, at: &Checkpoint, between: &mut dyn FnMut(&mut Store)) -> bool {
        let Some(mut captured) = self.writer.hand_out(&self.ws) else {
            return false;
        };
        let before: Vec<_> = captured.dirty.iter().map(|page| self.frame(page.frame)).collect();
        between(self);
        let directory = self.write_pages(at, &mut captured, &before);
        self.writer.wrote(&mut self.ws, &captured, directory);
        true
    }

    fn write_pages(&self, at: &Checkpoint, captured: &mut Captured, before: &[Box<Page>]) -> u32 {
        let geometry: Geometry = self.writer.table.geometry;
        for (dirty, before) in captured.dirty.iter().zip(before) {
            let mut bytes = self.frame(dirty.frame);
            assert!(bytes == *before, "a frame changed while a checkpoint wrote it");
            let segment = &mut captured.page.segments[dirty.segment];
            let record = PageRecord {
                table: TABLE,
                depth: segment.depth,
                page: dirty.page as u8,
                generation: at.generation as u32,
            };
            let crc = seal(&mut bytes, &geometry, record);
            segment.pages[dirty.page] = PageRef { block: dirty.block, crc };
            self.write(&bytes[..], dirty.block);
        }
        let bytes = captured.page.encode();
        assert_eq!(DirectoryPage::decode(&bytes).as_ref(), Ok(&captured.page));
        self.write(&bytes[..], captured.block);
        crc32(&bytes[..], 0)
    }

    /// Writes root and free map, when all directory pages are written. Fails
    /// if the device is full.
    pub(super) fn write_root(&mut self, at: &mut Checkpoint) -> Result<()> {
        let entries = self.writer.frozen_root();
        let depth = self.writer.frozen_root_depth();
        let bytes = encode_root(&entries, &at.live);
        self.writer.release_standing();
        let root = self.take_run(bytes.len() / BLOCK, &bytes)?;
        self.write(&bytes, root.block);
        for run in [self.writer.root_run, self.writer.map_run] {
            let old = run.block..run.block + run.blocks;
            old.for_each(|block| self.writer.blocks.die_with_checkpoint(block));
        }
        let (block, file_blocks) = self.writer.blocks.take_map_run(&self.ws.epoch, at.last)?;
        let blocks = free_map_blocks(file_blocks);
        let bytes = encode_free_map(&self.writer.blocks.free_map(), file_blocks);
        self.write(&bytes, block);
        let map = Run { block, blocks, crc: crc32(&bytes, 0) };
        at.runs = Some(Header {
            depth,
            root,
            map,
            file_blocks,
            live_count: at.live.len() as u32,
            totals: at.totals,
            clears: at.clears,
            hash_key: at.hash_key,
            generation: at.generation,
        });
        Ok(())
    }

    fn take_run(&mut self, blocks: usize, bytes: &[u8]) -> Result<Run> {
        let block = self.writer.blocks.take_run(&self.ws.epoch, blocks as u32)?;
        Ok(Run { block, blocks: blocks as u32, crc: crc32(bytes, 0) })
    }

    /// The header is durable: the rest is taking apart what was.
    pub(super) fn finish(&mut self, at: Checkpoint, between: &mut dyn FnMut(&mut Store)) {
        let header = at.runs.expect("the root is written before the header");
        let (root, map, covered) = (header.root, header.map, header.file_blocks);
        self.header = Some(header);
        while self.writer.finish_some(&mut self.ws, 3) {
            between(self);
        }
        self.writer.finish(&mut self.ws, root, map, covered);
        // Others may wait behind it.
        if self.writer.frozen_states() == 0 {
            self.ws.frozen = None;
        }
        self.writer.reserve_standing(&self.ws);
    }

    /// The checkpoint fails, wherever it is, and those that wait with it.
    pub(super) fn give_up(&mut self, at: Checkpoint) {
        drop(at);
        self.ws.frozen = None;
        self.writer.thaw(&mut self.ws);
        self.writer.reserve_standing(&self.ws);
    }

    /// A whole checkpoint, with others at work after each of its steps.
    pub(super) fn checkpoint_with(&mut self, between: &mut dyn FnMut(&mut Store)) {
        self.try_checkpoint_with(between).unwrap();
    }

    /// The last checkpoint before the store is closed, and then cut off. What
    /// comes next is to open it.
    pub(super) fn close(&mut self) {
        self.writer.blocks.reclaim(&self.ws.epoch, 1);
        let mut at = self.begin();
        at.last = true;
        while self.step(&at, &mut |_| ()) {}
        self.write_root(&mut at).unwrap();
        self.finish(at, &mut |_| ());
        self.writer.blocks.cut(&self.ws.epoch).unwrap();
    }

    /// As `checkpoint_with`, on a device that may be full.
    pub(super) fn try_checkpoint_with(
        &mut self,
        between: &mut dyn FnMut(&mut Store),
    ) -> Result<()> {
        let mut at = self.begin();
        between(self);
        while self.step(&at, between) {
            between(self);
        }
        if let Err(error) = self.write_root(&mut at) {
            self.give_up(at);
            return Err(error);
        }
        between(self);
        self.finish(at, between);
        Ok(())
    }

    pub(super) fn checkpoint(&mut self) {
        self.checkpoint_with(&mut |_| ());
    }

    /// Bytes of the file.
    pub(super) fn read(&self, block: u32, blocks: u32) -> Vec<u8> {
        let mut bytes = vec![0; blocks as usize * BLOCK];
        self.file.read_at(&mut bytes, u64::from(block) * BLOCK as u64).unwrap();
        bytes
    }

    /// The root that a header leads to.
    pub(super) fn read_root(&self, header: &Header) -> (Vec<RootEntry>, BTreeMap<u32, u64>) {
        let bytes = self.read(header.root.block, header.root.blocks);
        assert_eq!(crc32(&bytes, 0), header.root.crc);
        decode_root(&bytes, header.depth, header.live_count).unwrap()
    }

    /// What the last checkpoint wrote, opened anew from a copy of the file.
    pub(super) fn reopen(&self) -> Store {
        self.reopen_as(self.setup).unwrap()
    }

    pub(super) fn reopen_as(&self, setup: Setup) -> Result<Store> {
        let header = self.header.clone().expect("there was a checkpoint");
        let (entries, live) = self.read_root(&header);
        let bytes = self.read(header.map.block, header.map.blocks);
        assert_eq!(crc32(&bytes, 0), header.map.crc);
        let free = decode_free_map(&bytes, header.file_blocks).unwrap();
        let (storage, file) = self.copy_file();
        let blocks =
            Blocks::open(file.clone(), FILE.into(), free, header.file_blocks, false).unwrap();
        let opening = Opening {
            id: TABLE,
            name: "t".into(),
            path: FILE.into(),
            geometry: Geometry::new(setup.payload).unwrap(),
            hash_id: setup.hash_id,
            hash_key: header.hash_key,
            clears: header.clears,
            totals: header.totals,
            live,
            root_run: header.root,
            map_run: header.map,
            room: Room::to_grow(0),
        };
        let mut store = Store::assemble(setup, storage, file, opening, blocks, self.log.clone());
        store.ws.generation = header.generation + 1;
        store.writer.attach_root(header.depth, &entries)?;
        store.writer.reserve_standing(&store.ws);
        store.header = Some(header);
        Ok(store)
    }

    /// Changes a byte of a block in the file, behind everybody's back.
    pub(super) fn flip(&self, block: u32, byte: usize) {
        let offset = u64::from(block) * BLOCK as u64 + byte as u64;
        let mut bytes = [0];
        self.file.read_at(&mut bytes, offset).unwrap();
        self.file.write_at(&[bytes[0] ^ 0x10], offset).unwrap();
    }

    /// The device has no more room, or has it again.
    pub(super) fn set_full(&self, full: bool) {
        let room = if full { self.file.length().unwrap().min(4096) } else { u64::MAX };
        self.file.room.store(room, Ordering::Relaxed);
    }
}
